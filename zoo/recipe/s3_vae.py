"""Stage 3: diffusers AutoencoderKL, 64x64x3 -> 16x16x4 (f=4).  L1 + edge L1 + tiny KL; bf16 autocast, channels_last.
usage: s3_vae.py [budget_seconds] [threads] [new|resume|decoder]
  resume : continue from build/vae at half the learning rate
  decoder: encoder and scaling factor frozen (the cached latents of stage 4 stay valid), post_quant_conv + decoder train on
           those latents (+ noise .03, as a sampler is never exact) with errors inside the object boxes weighted 2.5x"""
import json, math, os, sys, time
import numpy as np, torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
import fastgn
from scenes import ROOT, load_cache

fastgn.patch()

BUDGET = float(sys.argv[1]) if len(sys.argv) > 1 else 700
torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
MODE = sys.argv[3] if len(sys.argv) > 3 else "new"
STEPS, B, LR, KL = 20000, 8, {"new": 1e-3, "resume": 7e-4, "decoder": 7e-4}[MODE], 1e-6
OUT = f"{ROOT}/build/vae"


def to_x(img):
    return torch.from_numpy(img).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def edges(a):
    return a[..., 1:] - a[..., :-1], a[..., 1:, :] - a[..., :-1, :]


def vae_loss(vae, x):
    with torch.autocast("cpu", torch.bfloat16):
        q = vae.encode(x).latent_dist
        y = vae.decode(q.mean + torch.exp(.5 * q.logvar.float().clamp(-30, 5)) * torch.randn_like(q.mean, dtype=torch.float32)).sample
    y = y.float()
    kl = .5 * (q.mean.float() ** 2 + q.logvar.float().exp() - 1 - q.logvar.float()).sum((1, 2, 3)).mean()
    eg = sum(F.l1_loss(a, b) for a, b in zip(edges(y), edges(x)))
    return F.l1_loss(y, x) + .5 * eg + .2 * F.mse_loss(y, x) + KL * kl, kl


def main():
    seed = {"new": 0, "resume": 1, "decoder": 2}[MODE]; torch.manual_seed(seed); rng = np.random.default_rng(seed)
    tr, meta = load_cache("train"); he, _ = load_cache("held")
    vae = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3,
                        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(32, 64, 64), layers_per_block=1,
                        latent_channels=4, norm_num_groups=16, sample_size=64).to(memory_format=torch.channels_last)
    if MODE != "new":
        vae = AutoencoderKL.from_pretrained(OUT).to(memory_format=torch.channels_last).train()
    if MODE == "decoder":
        vae.encoder.requires_grad_(False); vae.quant_conv.requires_grad_(False)
    ema = {k: v.clone() for k, v in vae.state_dict().items()}
    if MODE == "decoder":
        lat = torch.load(f"{ROOT}/build/latents.pt", mmap=True)["lat"]; tr = tr[:len(lat)]; sf = vae.config.scaling_factor
    opt = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], LR, weight_decay=1e-4, betas=(.9, .99), fused=True)
    t0 = time.time(); step = 0; hist = []
    while True:
        p = max(step / STEPS, (time.time() - t0) / BUDGET)
        if p >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = LR * min(1, (step + 1) / 100) * (.02 + .98 * .5 * (1 + math.cos(math.pi * p)))
        b = rng.integers(0, len(tr), B); x = to_x(tr[b])
        if MODE == "decoder":
            z = lat[b].float(); z = (z + .03 * torch.randn_like(z)) / sf
            wt = torch.ones(B, 1, 64, 64)
            for j, i in enumerate(b):
                for o in meta[i]["objs"]:
                    wt[j, :, o["box"][1]:o["box"][3], o["box"][0]:o["box"][2]] = 2.5
            with torch.autocast("cpu", torch.bfloat16):
                y = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
            y = y.float(); kl = torch.zeros(()); wt = wt / wt.mean()
            eg = sum(((a - c) * w_).abs().mean() for a, c, w_ in zip(edges(y), edges(x), (wt[..., 1:], wt[..., 1:, :])))
            loss = ((y - x).abs() * wt).mean() + .5 * eg + .3 * ((y - x).pow(2) * wt).mean()
        else:
            loss, kl = vae_loss(vae, x)
        opt.zero_grad(); loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.); opt.step(); step += 1
        d = min(.995, step / (step + 50))
        with torch.no_grad():
            for k, v in vae.state_dict().items():
                ema[k].lerp_(v, 1 - d) if v.is_floating_point() else ema[k].copy_(v)
        hist.append(loss.item())
        if step % 100 == 0:
            print(step, round(time.time() - t0), "s loss", round(np.mean(hist[-100:]), 4), "kl", round(kl.item(), 1), flush=True)
        if step % 500 == 0:
            torch.save(ema, f"{ROOT}/build/vae_ema.pt")
    secs = time.time() - t0
    vae.load_state_dict(ema); vae.eval()
    with torch.no_grad():
        x = to_x(he[:512]); lat = []; ys = []
        for i in range(0, 512, 64):
            z = vae.encode(x[i:i + 64]).latent_dist.mean; lat.append(z); ys.append(vae.decode(z).sample.clamp(-1, 1))
        z, y = torch.cat(lat), torch.cat(ys)
        psnr = (-10 * torch.log10(((x - y) / 2).pow(2).mean((1, 2, 3)))).mean().item()
    if MODE != "decoder":
        vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
    vae.to(memory_format=torch.contiguous_format).save_pretrained(OUT)
    facts = dict(stage="vae", mode=MODE, params=sum(p.numel() for p in vae.parameters()), decoder_params=sum(p.numel() for p in vae.decoder.parameters()),
                 seconds=round(secs), steps=step, batch=B, psnr_db_held_out=round(psnr, 2), l1=round((x - y).abs().mean().item(), 4),
                 scaling_factor=vae.config.scaling_factor, latent_mean=round(z.mean().item(), 3))
    json.dump(facts, open(f"{ROOT}/build/facts_vae_{MODE}.json", "w"), indent=1); print(facts)
    from PIL import Image
    g = ((torch.cat([x[:8], y[:8]], 0) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    Image.fromarray(np.concatenate([np.concatenate(list(g[:8]), 1), np.concatenate(list(g[8:]), 1)], 0)).resize((1024, 256), 0).save(f"{ROOT}/build/vae_recon.png")


if __name__ == "__main__":
    main()
