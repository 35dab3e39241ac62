"""Stage 2: tiny transformers CLIPModel (its text tower becomes the text encoder of the pipeline).
Contrastive on scenes/captions; half of each batch is groups of four scenes that share their first concept (hard
negatives: same concept, other colour/background/partner).  Equal captions are joint positives.
usage: s2_clip.py [budget_seconds] [threads]"""
import json, math, os, sys, time
from collections import defaultdict
import numpy as np, torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer
from scenes import ROOT, load_cache

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
OUT = f"{ROOT}/build/clip"


def make_config(tok):
    return CLIPConfig(
        text_config=dict(vocab_size=len(tok), hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
                         max_position_embeddings=32, hidden_act="quick_gelu", projection_dim=96, bos_token_id=tok.bos_token_id,
                         eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id),
        vision_config=dict(image_size=64, patch_size=8, hidden_size=160, intermediate_size=480, num_hidden_layers=4,
                           num_attention_heads=5, hidden_act="quick_gelu", projection_dim=96),
        projection_dim=96)


def clip_x(img):
    """uint8 NHWC -> normalised NCHW"""
    return (torch.from_numpy(img).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def tokens(tok, caps):
    return tok(caps, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids


def encode(m, x, ids):
    """unit image and text embeddings (pads are behind the EOS of a causal model: no mask needed)"""
    v = m.visual_projection(m.vision_model(pixel_values=x).pooler_output)
    t = m.text_projection(m.text_model(input_ids=ids).pooler_output)
    return F.normalize(v.float(), dim=-1), F.normalize(t.float(), dim=-1)


def augment(x, rng):
    """light: a quarter of the images gets noise or a small blur, so that generated images are not out of domain"""
    n = len(x); k = n // 8
    x[:k] += torch.randn(k, *x.shape[1:]) * .15
    x[k:2 * k] = F.avg_pool2d(F.pad(x[k:2 * k], (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x


def save(m, out, tok_dir):
    """fp16 weights on disk, config says float32, so that from_pretrained computes in fp32"""
    import shutil
    from safetensors.torch import load_file, save_file
    m.save_pretrained(out)
    sd = {k: (v.half() if v.is_floating_point() else v) for k, v in load_file(f"{out}/model.safetensors").items()}
    save_file(sd, f"{out}/model.safetensors", metadata={"format": "pt"})
    for f in os.listdir(tok_dir):
        shutil.copy(f"{tok_dir}/{f}", out)
    json.dump({"image_processor_type": "CLIPImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor", "do_resize": True,
               "size": {"shortest_edge": 64}, "resample": 3, "do_center_crop": True, "crop_size": {"height": 64, "width": 64},
               "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
               "image_mean": MEAN.flatten().tolist(), "image_std": STD.flatten().tolist()},
              open(f"{out}/preprocessor_config.json", "w"), indent=1)


def retrieval(m, tok, imgs, meta, n=64, rounds=8, seed=1):
    """distinct captions; accuracy of picking 1 of n, both ways"""
    rng = np.random.default_rng(seed); i2t = t2i = 0.
    for _ in range(rounds):
        seen = {}
        for j in rng.permutation(len(meta)):
            seen.setdefault(meta[j]["caption"], j)
            if len(seen) == n:
                break
        idx = list(seen.values())
        with torch.no_grad():
            v, t = encode(m, clip_x(imgs[idx]), tokens(tok, [meta[j]["caption"] for j in idx]))
        s = v @ t.T; y = torch.arange(n)
        i2t += (s.argmax(1) == y).float().mean().item() / rounds; t2i += (s.argmax(0) == y).float().mean().item() / rounds
    return round(i2t, 4), round(t2i, 4)


def main():
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 700
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    STEPS, B, LR = 6000, 96, 1e-3
    torch.manual_seed(0); rng = np.random.default_rng(0)
    tok = CLIPTokenizer.from_pretrained(f"{ROOT}/build/tokenizer")
    imgs, meta = load_cache("train"); hi, hm = load_cache("held")
    ids = tokens(tok, [m["caption"] for m in meta])[:, :20]      # captions have at most 16 tokens; the rest is padding behind EOS
    _, cap_id = np.unique([m["caption"] for m in meta], return_inverse=True); cap_id = torch.from_numpy(cap_id)
    by = defaultdict(list)
    for i, m in enumerate(meta):
        by[m["objs"][0]["concept"]].append(i)
    by = [np.array(v) for v in by.values()]
    m = CLIPModel(make_config(tok)); m.train()
    m.set_attn_implementation("eager")      # the CPU flash-attention backward is half of the step at this size
    dec = [p for n, p in m.named_parameters() if p.ndim > 1]; rest = [p for n, p in m.named_parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([{"params": dec, "weight_decay": .05}, {"params": rest, "weight_decay": 0.}], LR, betas=(.9, .98), fused=True)
    t0 = time.time(); step = 0; hist = []
    while True:
        p = max(step / STEPS, (time.time() - t0) / budget)
        if p >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = LR * min(1, (step + 1) / 150) * (.02 + .98 * .5 * (1 + math.cos(math.pi * p)))
        b = np.concatenate([rng.integers(0, len(meta), B // 2)] + [rng.choice(by[rng.integers(len(by))], 4) for _ in range(B // 8)])
        rng.shuffle(b)
        with torch.autocast("cpu", torch.bfloat16):
            v, t = encode(m, augment(clip_x(imgs[b]), rng), ids[b])
        s = m.logit_scale.exp().clamp(max=100) * v @ t.T
        pos = (cap_id[b][:, None] == cap_id[b][None]).float(); pos = pos / pos.sum(1, keepdim=True)
        loss = -(pos * s.log_softmax(1)).sum(1).mean() / 2 - (pos * s.T.log_softmax(1)).sum(1).mean() / 2
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(), 1.); opt.step(); step += 1
        hist.append(loss.item())
        if step % 50 == 0:
            r = ""
            if step % 250 == 0:
                m.eval(); r = retrieval(m, tok, hi, hm, rounds=2); m.train()
                save(m, OUT, f"{ROOT}/build/tokenizer")
            print(step, round(time.time() - t0), "s loss", round(np.mean(hist[-50:]), 3), "scale", round(m.logit_scale.exp().item(), 1), r, flush=True)
    secs = time.time() - t0; m.eval()
    acc = retrieval(m, tok, hi, hm)
    save(m, OUT, f"{ROOT}/build/tokenizer")
    te = CLIPTextModel(m.config.text_config); te.load_state_dict({k: v for k, v in m.state_dict().items() if k in te.state_dict()} or
                                                                {k.removeprefix("text_model."): v for k, v in m.state_dict().items() if k.startswith("text_model.")})
    te.save_pretrained(f"{ROOT}/build/text_encoder")
    facts = dict(stage="clip", params=sum(p.numel() for p in m.parameters()), text_tower_params=sum(p.numel() for p in te.parameters()),
                 seconds=round(secs), steps=step, batch=B, loss_last100=round(float(np.mean(hist[-100:])), 3),
                 retrieval64_image_to_text=acc[0], retrieval64_text_to_image=acc[1], logit_scale=round(m.logit_scale.exp().item(), 2))
    json.dump(facts, open(f"{ROOT}/build/facts_clip.json", "w"), indent=1); print(facts)


if __name__ == "__main__":
    main()
