#!/usr/bin/env python3
"""Random tiny rewards in the formats that reward_fixtures.py has, scored and differentiated in float64 by rewards_ref.py.
  python more_rewards.py OUT [--count 20] [--seed 0]
Each OUT/<n>/ has reward.json (the record to load it by), prompts.json, images.safetensors (`image`, N x 3 x H x W in
[0, 1]) and expected.safetensors (`score`, `gradient`).
"""
import argparse, json, os, random, shutil
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
import make_fixtures as M
import more_cases
import reward_fixtures as RF
import rewards_ref as W

DTYPES = [torch.float32, torch.float32, torch.float16, torch.bfloat16]
PROMPTS = [p for p in more_cases.PROMPTS if p.strip()]        # an empty prompt is refused


def sizes(g):
    kind = g.random()
    if kind < .15:
        return g.randint(1, 12), g.randint(1, 12)
    if kind < .3:
        return g.randint(200, 500), g.randint(200, 700)
    return g.randint(16, 130), g.randint(16, 130)


def images(g, batch):
    h, w = sizes(g)
    if g.random() < .1:
        return torch.full((batch, 3, h, w), g.random()).float() * torch.tensor([1, .5, .25])[None, :, None, None]
    return torch.cat([RF.image(h, w, g.randrange(2 ** 31)) for _ in range(batch)])


def towers(g, owl=False):
    head, width = g.choice([4, 8]), lambda: g.choice([1, 2, 3])
    act = g.choice(["gelu", "quick_gelu"])
    vision, text = head * 2 * width(), head * 2 * width()
    size, patch = g.choice([(32, 8), (28, 7), (48, 16), (32, 16), (60, 12)])
    v = dict(hidden_size=vision, intermediate_size=g.choice([24, 50, 96]), num_hidden_layers=g.randint(1, 3),
             num_attention_heads=vision // head, image_size=size, patch_size=patch, hidden_act=act, layer_norm_eps=g.choice([1e-5, 1e-6]))
    t = dict(hidden_size=text, intermediate_size=g.choice([24, 50]), num_hidden_layers=g.randint(1, 3), num_attention_heads=text // head,
             hidden_act=act, max_position_embeddings=16 if owl else g.choice([77, 20]), layer_norm_eps=g.choice([1e-5, 1e-6]))
    return v, t, g.choice([8, 24, 33])


def tokenizer(g, d, length, pads=("!", "<|endoftext|>")):
    nv = M.write_tokenizer(d, g.choice(pads))
    f = d + "/tokenizer_config.json"
    c = dict(json.load(open(f)), model_max_length=length)
    json.dump(c, open(f, "w"))
    return nv


def hf_clip(g, d):
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    v, t, p = towers(g)
    nv = tokenizer(g, d, t["max_position_embeddings"])
    t.update(vocab_size=nv, bos_token_id=nv - 2, eos_token_id=g.choice([2, nv - 1]), pad_token_id=1)
    m = CLIPModel(CLIPConfig(text_config=t, vision_config=v, projection_dim=p, logit_scale_init_value=g.choice([2.6592, 4.6, 0.0])))
    M.gain(m, 2.5)
    m.to(g.choice(DTYPES)).save_pretrained(d, **(dict(max_shard_size="20KB") if g.random() < .3 else {}))
    m = CLIPModel.from_pretrained(d, dtype=torch.float32).double().eval().requires_grad_(False)
    tk = CLIPTokenizer.from_pretrained(d)
    n = t["max_position_embeddings"]
    return m, lambda texts: torch.tensor(tk(texts, padding="max_length", max_length=n, truncation=True).input_ids)


def save_torch(g, path, state):
    whole = g.choice([{"state_dict": state}, {"epoch": 3, "name": "x", "state_dict": state}, state])
    torch.save(whole, path, _use_new_zipfile_serialization=g.random() < .6)


def hpsv2(g, d):
    import open_clip
    from transformers import CLIPTokenizer
    v, t, p = towers(g)
    # With "!" as padding transformers takes every "!" for it, open_clip none.
    nv = tokenizer(g, d + "/tokenizer", t["max_position_embeddings"], ["<|endoftext|>"])
    n = t["max_position_embeddings"]
    cfg = dict(embed_dim=p, quick_gelu=v["hidden_act"] == "quick_gelu",
               vision_cfg=dict(image_size=v["image_size"], layers=v["num_hidden_layers"], width=v["hidden_size"], mlp_ratio=g.choice([4.0, 2.0]),
                               head_width=v["hidden_size"] // v["num_attention_heads"], patch_size=v["patch_size"]),
               text_cfg=dict(context_length=n, vocab_size=nv, width=t["hidden_size"], heads=t["num_attention_heads"], layers=t["num_hidden_layers"]))
    m = open_clip.model.CLIP(**cfg)
    with torch.no_grad():
        for k, q in m.named_parameters():
            q.mul_(2.5) if q.ndim >= 2 and "embedding" not in k else q.add_(.1 * torch.randn(q.shape)) if q.ndim == 1 else None
    m.to(g.choice(DTYPES))
    save_torch(g, d + "/model.pt", m.state_dict())
    json.dump(cfg, open(d + "/config.json", "w"))
    m.double().eval().requires_grad_(False)
    tk = CLIPTokenizer.from_pretrained(d + "/tokenizer")

    def ids(texts):
        rows = [tk(x).input_ids for x in texts]
        rows = [r if len(r) <= n else r[: n - 1] + [nv - 1] for r in rows]
        return torch.tensor([r + [0] * (n - len(r)) for r in rows])
    return dict(kind="hpsv2", weights="model.pt", config="config.json", tokenizer="tokenizer"), \
        lambda x, texts: W.hps(m, x, ids(texts), v["image_size"])


def clip(g, d):
    m, ids = hf_clip(g, d)
    scale = g.choice(["logit", "cosine"])
    if g.random() < .5:
        return dict(kind="clip", weights="."), lambda x, texts: W.clip_cos(m, x, ids(texts))
    f = m.logit_scale.exp() if scale == "logit" else 1
    return dict(kind="pickscore", weights=".", scale=scale), lambda x, texts: f * W.clip_cos(m, x, ids(texts))


def aesthetic(g, d):
    m, _ = hf_clip(g, d)
    a = W.AestheticMLP(m.config.projection_dim, tuple(g.randint(2, 40) for _ in range(4)))
    with torch.no_grad():
        for q in a.parameters():
            q.mul_(2)
    a.to(g.choice(DTYPES))
    torch.save(a.state_dict(), d + "/head.pth", _use_new_zipfile_serialization=g.random() < .5)
    a.double().eval().requires_grad_(False)
    return dict(kind="aesthetic", weights=".", head="head.pth"), lambda x, _: W.aesthetic(m, a, x)


def owlvit(g, d):
    from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection
    v, t, p = towers(g, owl=True)
    nv = tokenizer(g, d, 16)
    # transformers' class head embeds queries at the text tower's width.
    p = t["hidden_size"]
    t.update(vocab_size=nv, bos_token_id=nv - 2, eos_token_id=nv - 1, pad_token_id=0)
    m = OwlViTForObjectDetection(OwlViTConfig(text_config=t, vision_config=v, projection_dim=p))
    M.gain(m, 2.5)
    with torch.no_grad():
        h = m.class_head
        h.dense0.weight.mul_(.4 / h.dense0.weight.std()); h.logit_shift.weight.mul_(.15 / h.logit_shift.weight.std())
        h.logit_scale.weight.mul_(.1 / h.logit_scale.weight.std()); h.logit_scale.bias.fill_(1.5); h.logit_shift.bias.fill_(-.3)
    m.to(g.choice(DTYPES)).save_pretrained(d)
    m = OwlViTForObjectDetection.from_pretrained(d, dtype=torch.float32).double().eval().requires_grad_(False)
    query = g.choice(["book", "a photo of a red cat", "the", "the house of the dog and the cat on the book in the snow and more words than there is room for"])
    ids = CLIPTokenizer.from_pretrained(d)([query], padding="max_length", max_length=16, truncation=True)
    q = CLIPTokenizer.from_pretrained(d)(query, max_length=16, truncation=True).input_ids
    qi, qm = torch.tensor([q + [0] * (16 - len(q))]), torch.tensor([[1] * len(q) + [0] * (16 - len(q))])
    return dict(kind="owlvit", weights=".", query=query), lambda x, _: W.owl(m, x, qi, qm)


def away_from_ties(x, quality, sub):
    """A coefficient on the edge between two integers is rounded either way in float32: no such image is kept."""
    info = []
    W.jpeg(x.detach(), quality, "ste", sub, info)
    if min(info) < 1e-4:
        raise ValueError("a rounding tie")
    return x


def jpeg(g, d):
    mode, quality = g.choice(["cubic", "ste", "constant-target"]), g.randint(1, 100)
    sub = g.random() < .5
    return dict(kind="jpeg", quality=quality, mode=mode, subsampling="4:2:0" if sub else "4:4:4"), \
        lambda x, _: W.jpeg_error(away_from_ties(x, quality, sub), quality, "cubic" if mode == "cubic" else "ste", sub, sg_target=mode == "constant-target")


def symmetry(g, d):
    if g.random() < .5:
        return dict(kind="symmetry", std="global"), lambda x, _: W.symmetry(x)
    return dict(kind="symmetry"), lambda x, _: (x - x.flip(-1)).abs().flatten(1).mean(1) / x.flatten(2).std(2, unbiased=False).mean(1)


def main():
    A = argparse.ArgumentParser()
    A.add_argument("out"); A.add_argument("--count", type=int, default=20); A.add_argument("--seed", type=int, default=0)
    a = A.parse_args()
    makers = [clip, hpsv2, aesthetic, owlvit, jpeg, clip, hpsv2, symmetry, jpeg]
    for n in range(a.count):
        g = random.Random(f"{a.seed}.{n}")
        d = f"{a.out}/{n}"
        shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
        torch.manual_seed(g.randrange(2 ** 31))
        record, score = makers[n % len(makers)](g, d)
        while True:
            batch = g.choice([1, 1, 2, 3])
            texts = [g.choice(PROMPTS) for _ in range(batch)]
            x32 = images(g, batch)
            x = x32.double().requires_grad_(True)
            try:
                s = score(x, texts)
            except (ValueError, RuntimeError):
                continue        # sizes that PyTorch's preprocessing refuses
            grad, = torch.autograd.grad(s.sum(), x)
            if record["kind"] == "jpeg":
                # An image all of whose error is rounding: float32 PyTorch loses it too.
                y = x32.clone().requires_grad_(True)
                g32, = torch.autograd.grad(score(y, texts).sum(), y)
                if (g32 - grad).abs().max() > 2e-5 * grad.abs().max() > 1e-15:
                    continue
            if torch.isfinite(grad).all() and torch.isfinite(s).all():
                break
        save_file({"image": x32}, d + "/images.safetensors")
        save_file({"score": s.detach().float().contiguous(), "gradient": grad.float().contiguous()}, d + "/expected.safetensors")
        json.dump(record, open(d + "/reward.json", "w")); json.dump(texts, open(d + "/prompts.json", "w"))
        print(n, record, tuple(x.shape), s.tolist(), grad.abs().max().item(), flush=True)


if __name__ == "__main__":
    more_cases.quiet()
    main()
