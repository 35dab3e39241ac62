"""Stage 8: SD3Transformer2DModel on the zoo's own 16x16x4 latents, velocity prediction, logit-normal times, EMA.
The two text encoders are the towers of rewards/clip and rewards/pickscore, the third is absent as in an SD3 without T5.
usage: s8_flow.py cache | train budget_seconds | pipe [tag] | check   (see run_flow.sh)"""
import json, math, os, sys, time
import numpy as np, torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from scenes import ROOT, load_cache

W = f"{ROOT}/build"
DIM, HEADS, LAYERS = 192, 6, 5
ZEROS = 256                                # diffusers appends that many zero tokens where the T5 encoder is absent
PROMPTS = ["a red apple on a blue background", "a fox, and books", "a cat and a book", "a panda on a pink background",
           "a rocket on a black background", "a lion, and books on a green background", "a purple heart", "a strawberry and a clock on a white background"]


def make_transformer():
    return SD3Transformer2DModel(sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=LAYERS, attention_head_dim=DIM // HEADS,
                                 num_attention_heads=HEADS, joint_attention_dim=256, caption_projection_dim=DIM, pooled_projection_dim=192,
                                 pos_embed_max_size=16, dual_attention_layers=(), qk_norm="rms_norm")


def encoders():
    r = os.environ.get("REWARDS", f"{ROOT}/rewards")
    return [CLIPTextModelWithProjection.from_pretrained(f"{r}/{n}", dtype=torch.float32).eval() for n in ("clip", "pickscore")]


def cache(n=40000):
    """latents (distribution means, fp16) and, of every distinct caption, the tokens and the pooled vector of both encoders"""
    torch.set_num_threads(1); t0 = time.time()
    vae = AutoencoderKL.from_pretrained(f"{W}/vae").eval().to(memory_format=torch.channels_last)
    imgs, meta = load_cache("train"); imgs, meta = imgs[:n], meta[:n]
    lat = torch.empty(n, 4, 16, 16, dtype=torch.float16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for i in range(0, n, 50):
            x = torch.from_numpy(imgs[i:i + 50]).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
            lat[i:i + 50] = vae.encode(x).latent_dist.mean.float()
    tok = CLIPTokenizer.from_pretrained(f"{W}/tokenizer"); te = encoders()
    caps, cid = np.unique([""] + [m["caption"] for m in meta], return_inverse=True)       # index 0 is ""
    emb = torch.empty(len(caps), 32, 256, dtype=torch.float16); pool = torch.empty(len(caps), 192, dtype=torch.float16)
    with torch.inference_mode():
        for i in range(0, len(caps), 500):
            ids = tok(list(caps[i:i + 500]), padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
            out = [m(ids, output_hidden_states=True) for m in te]
            emb[i:i + 500] = torch.cat([o.hidden_states[-2] for o in out], -1); pool[i:i + 500] = torch.cat([o.text_embeds for o in out], -1)
    mean, std = lat.float().mean().item(), lat.float().std().item()
    torch.save({"lat": lat, "emb": emb, "pool": pool, "cid": torch.from_numpy(cid[1:].astype(np.int64)), "mean": mean, "std": std}, f"{W}/flow_latents.pt")
    print("cached", n, "captions", len(caps), "mean", mean, "std", std, "per channel", lat.float().mean((0, 2, 3)).tolist(), round(time.time() - t0), "s", flush=True)


class Joint:
    """Training only: joint attention where one zero token stands for all ZEROS of them.  Text has no positions, so equal
    tokens stay equal in every block; one with log(ZEROS) on its logit is the same sum (check() compares)."""

    def __init__(self, zeros=ZEROS):
        self.log = math.log(zeros)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **kw):
        B, N, _ = hidden_states.shape; h = attn.heads
        f = lambda t, norm=None: (norm or (lambda y: y))(t.view(B, -1, h, t.shape[-1] // h)).transpose(1, 2)
        q = torch.cat([f(attn.to_q(hidden_states), attn.norm_q), f(attn.add_q_proj(encoder_hidden_states), attn.norm_added_q)], 2)
        k = torch.cat([f(attn.to_k(hidden_states), attn.norm_k), f(attn.add_k_proj(encoder_hidden_states), attn.norm_added_k)], 2)
        v = torch.cat([f(attn.to_v(hidden_states)), f(attn.add_v_proj(encoder_hidden_states))], 2)
        s = q @ k.transpose(-1, -2) * q.shape[-1] ** -.5
        s = s + F.pad(s.new_full((1,), self.log), (s.shape[-1] - 1, 0))
        o = (s.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(B, -1, DIM)
        img, txt = o[:, :N], o[:, N:]
        return attn.to_out[0](img), (txt if attn.context_pre_only else attn.to_add_out(txt))


def train(budget):
    torch.set_num_threads(1); torch.manual_seed(0)
    STEPS, B, LR, MUON = int(os.environ.get("STEPS", 40000)), 64, 1e-3, 4e-3
    d = torch.load(f"{W}/flow_latents.pt", mmap=True); cid = d["cid"]
    lat = ((d["lat"].float() - d["mean"]) / d["std"]).half(); emb = F.pad(d["emb"], (0, 0, 0, 1)); pool = d["pool"]
    m = make_transformer(); m.set_attn_processor(Joint()); m.train()
    names, params = zip(*[(n, p) for n, p in m.named_parameters()]); ema = [p.detach().clone() for p in params]
    inner = [p for n, p in zip(names, params) if p.ndim == 2 and "transformer_blocks" in n]
    ids = {id(p) for p in inner}; outer = [p for p in params if id(p) not in ids]
    opts = [(torch.optim.Muon(inner, MUON, weight_decay=.01, momentum=.95, adjust_lr_fn="match_rms_adamw"), MUON),
            (torch.optim.AdamW(outer, LR, weight_decay=.01, betas=(.9, .99), fused=True), LR)]
    step, secs, hist, ck = 0, 0., [], f"{W}/flow_ck.pt"
    if os.path.exists(ck):                                   # goes on where an interrupted run left off
        s = torch.load(ck); m.load_state_dict(s["raw"]); ema = [s["ema"][n] for n in names]; step, secs = s["step"], s["secs"]
        [o.load_state_dict(t) for (o, _), t in zip(opts, s["opt"])]

    def dump():
        torch.save({"ema": dict(zip(names, ema)), "raw": m.state_dict(), "opt": [o.state_dict() for o, _ in opts], "step": step,
                    "secs": secs + time.time() - t0}, f"{ck}.tmp")
        os.replace(f"{ck}.tmp", ck)

    fwd = m if os.environ.get("EAGER") else torch.compile(m)
    t0 = last = time.time(); c0 = time.process_time(); s0 = step; p = 0.; gen = torch.Generator().manual_seed(1000 + step)
    while p < 1:
        left = float(open(f"{W}/BUDGET").read()) if os.path.exists(f"{W}/BUDGET") else budget     # can be changed while it runs
        p = max(step / STEPS, (secs + time.time() - t0) / left)
        down = min(1, (step + 1) / 200) * min(1., .02 + max(0., 1 - p) / .4)                      # constant, then linear to 2 %
        for o, r in opts:
            for g in o.param_groups:
                g["lr"] = r * down
        i = torch.randint(0, len(lat), (B,), generator=gen); c = cid[i].clone(); c[torch.rand(B, generator=gen) < .1] = 0
        x0, e, y = lat[i].float(), emb[c].float(), pool[c].float()
        n = torch.randn(x0.shape, generator=gen); s = torch.randn(B, generator=gen).sigmoid()     # logit-normal (0, 1)
        x = torch.lerp(x0, n, s.view(-1, 1, 1, 1))
        with torch.autocast("cpu", torch.bfloat16):
            v = fwd(x, e, y, s * 1000, return_dict=False)[0]
        loss = (v.float() - (n - x0)).pow(2).mean()
        for o, _ in opts:
            o.zero_grad()
        loss.backward(); torch.nn.utils.clip_grad_norm_(params, 1.)
        for o, _ in opts:
            o.step()
        step += 1; hist.append(loss.item())
        with torch.no_grad():
            torch._foreach_lerp_(ema, [q.detach() for q in params], 1 - min(.9990, step / (step + 100)))
        if step % 50 == 0:
            print(step, round(secs + time.time() - t0), "s loss", round(np.mean(hist[-200:]), 4), "samples/s", round((step - s0) * B / (time.time() - t0), 1),
                  "per core second", round((step - s0) * B / (time.process_time() - c0), 1), "p", round(p, 3), flush=True)
        if time.time() - last > 120:
            dump(); last = time.time()
    dump()
    json.dump(dict(stage="flow", params=sum(q.numel() for q in params), seconds=round(secs + time.time() - t0), steps=step, batch=B, samples=step * B,
                   loss_last500=round(float(np.mean(hist[-500:])), 4)), open(f"{W}/facts_flow.json", "w"), indent=1)


def pipe(tag="flow_preview", steps=30, guidance=5., shift=None):
    torch.set_num_threads(1)
    ck = torch.load(f"{W}/flow_ck.pt"); m = make_transformer(); m.load_state_dict(ck["ema"], strict=False); m.eval()
    d = torch.load(f"{W}/flow_latents.pt", mmap=True); te = encoders(); tok = CLIPTokenizer.from_pretrained(f"{W}/tokenizer")
    vae = AutoencoderKL.from_pretrained(f"{W}/vae"); vae.register_to_config(scaling_factor=round(1 / d["std"], 5), shift_factor=round(d["mean"], 5))
    sch = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=float(shift or os.environ.get("SHIFT", 1.)))
    p = StableDiffusion3Pipeline(transformer=m, scheduler=sch, vae=vae, text_encoder=te[0], tokenizer=tok, text_encoder_2=te[1], tokenizer_2=tok,
                                 text_encoder_3=None, tokenizer_3=None)
    p.save_pretrained(f"{W}/flow_pipeline", safe_serialization=True)
    p.set_progress_bar_config(disable=True); t0 = time.time(); rows = []
    for q in PROMPTS:
        g = [torch.Generator().manual_seed(s) for s in range(4)]
        out = p([q] * 4, num_inference_steps=int(steps), guidance_scale=float(guidance), generator=g, output_type="np").images
        rows.append(np.concatenate(list(out), 1))
    from PIL import Image, ImageDraw
    g = (np.concatenate(rows, 0) * 255).round().astype(np.uint8)
    im = Image.fromarray(g).resize((g.shape[1] * 2, g.shape[0] * 2), 0)
    full = Image.new("RGB", (im.width + 330, im.height), "white"); full.paste(im, (330, 0)); dr = ImageDraw.Draw(full)
    for i, q in enumerate(PROMPTS):
        dr.text((6, i * 128 + 58), q, fill=0)
    full.save(f"{W}/{tag}.png")
    print("step", ck["step"], "train s", round(ck["secs"]), "32 images", round(time.time() - t0, 1), "s")


def check():
    """the training-only attention with one weighted zero token against diffusers' own with all of them: greatest difference"""
    torch.manual_seed(0); torch.set_num_threads(1); m = make_transformer().eval()
    for q in m.parameters():
        if q.std() == 0 or q.ndim == 1:
            torch.nn.init.normal_(q, std=.1)
    x, e, y, t = torch.randn(2, 4, 16, 16), torch.randn(2, 32, 256), torch.randn(2, 192), torch.tensor([900., 30.])
    with torch.no_grad():
        a = m(x, F.pad(e, (0, 0, 0, ZEROS)), y, t)[0]; m.set_attn_processor(Joint()); b = m(x, F.pad(e, (0, 0, 0, 1)), y, t)[0]
    print("greatest difference", (a - b).abs().max().item(), "of", a.abs().max().item())


if __name__ == "__main__":
    a = sys.argv
    {"cache": cache, "train": lambda: train(float(a[2])), "pipe": lambda: pipe(*a[2:]), "check": check}[a[1]]()
