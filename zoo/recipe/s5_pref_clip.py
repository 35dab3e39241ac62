"""Stage 5b/5c: preference fine-tuning of the tiny CLIP.
  s5_pref_clip.py samples [n]                 samples of the tiny pipeline, to be losers against clean renders
  s5_pref_clip.py pick [budget_s] [threads]   -> build/pickscore (transformers CLIPModel folder)
  s5_pref_clip.py hps  [budget_s] [threads]   -> build/hpsv2/HPS_tiny.pt (open_clip names under 'state_dict') + open_clip_config.json
Loss of both: softmax cross-entropy over the pair of logit_scale*cos(text, image)."""
import json, math, os, sys, time
import numpy as np, torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPTokenizer
from prefs import hps_pair, pick_pair
from s2_clip import MEAN, STD, clip_x, encode, retrieval, save, tokens
from scenes import ROOT, load_cache, scene

W = f"{ROOT}/build"


def samples(n=384):
    from diffusers import StableDiffusionPipeline
    torch.set_num_threads(1); t0 = time.time()
    p = StableDiffusionPipeline.from_pretrained(f"{W}/pipeline"); p.set_progress_bar_config(disable=True)
    caps, best, out = [], [], []
    for i in range(n):
        d = scene(50_000_000 + i); caps.append(d["caption"]); best.append(d["img"])
    for i in range(0, n, 32):
        out.append(p(caps[i:i + 32], num_inference_steps=16, guidance_scale=4.0, output_type="np",
                     generator=torch.Generator().manual_seed(i)).images)
        print(i, round(time.time() - t0), "s", flush=True)
    np.savez(f"{W}/samples.npz", caps=np.array(caps), best=np.array(best), img=(np.concatenate(out) * 255).round().astype(np.uint8))


def to_open_clip(m):
    """transformers CLIPModel -> open_clip CLIP state_dict"""
    s = m.state_dict(); o = {}
    s = {k.replace(".embeddings.", ".emb."): v for k, v in s.items()}
    o["visual.class_embedding"] = s["vision_model.emb.class_embedding"]
    o["visual.positional_embedding"] = s["vision_model.emb.position_embedding.weight"]
    o["visual.conv1.weight"] = s["vision_model.emb.patch_embedding.weight"]
    o["visual.proj"] = s["visual_projection.weight"].T
    o["text_projection"] = s["text_projection.weight"].T
    o["token_embedding.weight"] = s["text_model.emb.token_embedding.weight"]
    o["positional_embedding"] = s["text_model.emb.position_embedding.weight"]
    o["logit_scale"] = s["logit_scale"]
    for a, b in (("visual.ln_pre", "vision_model.pre_layrnorm"), ("visual.ln_post", "vision_model.post_layernorm"), ("ln_final", "text_model.final_layer_norm")):
        for x in ("weight", "bias"):
            o[f"{a}.{x}"] = s[f"{b}.{x}"]
    for pre, hf, n in (("visual.", "vision_model", m.config.vision_config.num_hidden_layers), ("", "text_model", m.config.text_config.num_hidden_layers)):
        for i in range(n):
            d, e = f"{pre}transformer.resblocks.{i}", f"{hf}.encoder.layers.{i}"
            for x in ("weight", "bias"):
                o[f"{d}.attn.in_proj_{x}"] = torch.cat([s[f"{e}.self_attn.{q}_proj.{x}"] for q in "qkv"])
                o[f"{d}.attn.out_proj.{x}"] = s[f"{e}.self_attn.out_proj.{x}"]
                o[f"{d}.ln_1.{x}"] = s[f"{e}.layer_norm1.{x}"]; o[f"{d}.ln_2.{x}"] = s[f"{e}.layer_norm2.{x}"]
                o[f"{d}.mlp.c_fc.{x}"] = s[f"{e}.mlp.fc1.{x}"]; o[f"{d}.mlp.c_proj.{x}"] = s[f"{e}.mlp.fc2.{x}"]
    return {k: v.contiguous() for k, v in o.items()}


def open_clip_config(c):
    return {"model_cfg": {"embed_dim": c.projection_dim, "quick_gelu": True,
                          "vision_cfg": {"image_size": 64, "layers": c.vision_config.num_hidden_layers, "width": c.vision_config.hidden_size, "head_width": 32,
                                         "mlp_ratio": c.vision_config.intermediate_size / c.vision_config.hidden_size, "patch_size": 8},
                          "text_cfg": {"context_length": 32, "vocab_size": c.text_config.vocab_size, "width": c.text_config.hidden_size,
                                       "heads": c.text_config.num_attention_heads, "layers": c.text_config.num_hidden_layers,
                                       "mlp_ratio": c.text_config.intermediate_size / c.text_config.hidden_size}},
            "preprocess_cfg": {"mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist(), "size": 64, "mode": "RGB",
                               "interpolation": "bicubic", "resize_mode": "shortest"}}


def check_open_clip(m, sd, x, ids):
    from open_clip.model import CLIP
    c = open_clip_config(m.config)["model_cfg"]
    o = CLIP(c["embed_dim"], c["vision_cfg"], c["text_cfg"], quick_gelu=True).eval(); r = o.load_state_dict(sd, strict=True)
    with torch.no_grad():
        v, t = encode(m, x, ids); v2, t2 = o.encode_image(x, normalize=True), o.encode_text(ids, normalize=True)
    return str(r), (v - v2).abs().max().item(), (t - t2).abs().max().item()


def main(which, budget, threads):
    torch.set_num_threads(threads); torch.manual_seed(0); rng = np.random.default_rng(0)
    tok = CLIPTokenizer.from_pretrained(f"{W}/tokenizer")
    m = CLIPModel.from_pretrained(f"{W}/clip", dtype=torch.float32); m.set_attn_implementation("eager"); m.train()
    smp = None
    if which == "pick" and os.path.exists(f"{W}/samples.npz"):
        z = np.load(f"{W}/samples.npz"); smp = list(zip(z["caps"].tolist(), z["img"], z["best"]))
    tr_s, te_s = (smp[:-64], smp[-64:]) if smp else (None, None)
    n = 12000; t0 = time.time()
    make = (lambda i, s: pick_pair(i, s)[:3]) if which == "pick" else (lambda i, s: hps_pair(i)[:3])
    data = [make(i, tr_s) for i in range(n)]
    test = [make(i, te_s) for i in range(1_000_000, 1_001_000)]
    pack = lambda d: (tokens(tok, [a[0] for a in d])[:, :20], np.array([a[1] for a in d]), np.array([a[2] for a in d]))
    ids, win, lose = pack(data); tids, twin, tlose = pack(test); del data, test
    print("pairs", n, round(time.time() - t0), "s", flush=True)

    def accuracy():
        m.eval(); ok = 0
        with torch.no_grad():
            for i in range(0, len(tids), 100):
                v, t = encode(m, clip_x(np.concatenate([twin[i:i + 100], tlose[i:i + 100]])), tids[i:i + 100])
                k = len(t); ok += ((v[:k] * t).sum(-1) > (v[k:] * t).sum(-1)).sum().item()
        m.train(); return ok / len(tids)

    acc0 = accuracy(); print("pair accuracy of the plain tiny CLIP", acc0, flush=True)
    STEPS, B, LR = 1500, 40, 2e-4
    opt = torch.optim.AdamW(m.parameters(), LR, weight_decay=.01, betas=(.9, .98), fused=True)
    t0 = time.time(); step = 0; hist = []
    while True:
        p = max(step / STEPS, (time.time() - t0) / budget)
        if p >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = LR * min(1, (step + 1) / 50) * (.02 + .98 * .5 * (1 + math.cos(math.pi * p)))
        b = rng.integers(0, n, B)
        with torch.autocast("cpu", torch.bfloat16):
            v, t = encode(m, clip_x(np.concatenate([win[b], lose[b]])), ids[b])
        d = m.logit_scale.exp().clamp(max=100) * ((v[:B] - v[B:]) * t).sum(-1)
        loss = F.softplus(-d).mean()
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(), 1.); opt.step(); step += 1
        hist.append(loss.item())
        if step % 50 == 0:
            print(step, round(time.time() - t0), "s loss", round(np.mean(hist[-50:]), 4), flush=True)
    secs = time.time() - t0; acc = accuracy(); m.eval()
    hi, hm = load_cache("held")
    facts = dict(stage=which, seconds=round(secs), steps=step, batch_pairs=B, pairs=n, loss_last100=round(float(np.mean(hist[-100:])), 4),
                 pair_accuracy_before=round(acc0, 4), pair_accuracy=round(acc, 4), retrieval64=retrieval(m, tok, hi, hm, rounds=4),
                 params=sum(p.numel() for p in m.parameters()), used_pipeline_samples=bool(smp))
    if which == "pick":
        save(m, f"{W}/pickscore", f"{W}/tokenizer")
    else:
        os.makedirs(f"{W}/hpsv2", exist_ok=True)
        sd = {k: v.half() for k, v in to_open_clip(m).items()}
        facts["open_clip_check"] = check_open_clip(m, {k: v.float() for k, v in sd.items()}, clip_x(hi[:32]), tokens(tok, [a["caption"] for a in hm[:32]]))
        torch.save({"epoch": 0, "name": "HPS_tiny", "state_dict": sd}, f"{W}/hpsv2/HPS_tiny.pt")
        json.dump(open_clip_config(m.config), open(f"{W}/hpsv2/open_clip_config.json", "w"), indent=1)
    json.dump(facts, open(f"{W}/facts_{which}.json", "w"), indent=1); print(facts)


if __name__ == "__main__":
    a = sys.argv
    if a[1] == "samples":
        samples(*map(int, a[2:]))
    else:
        main(a[1], float(a[2]) if len(a) > 2 else 180, int(a[3]) if len(a) > 3 else 2)
