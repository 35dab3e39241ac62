"""Not a stage: a DRTune-shaped smoke test (stop-gradient on the U-Net input, gradient through 2 of 20 DDIM steps and the
decoder) on the pickscore reward, full U-Net fine-tuning.  Shows that the zoo is differentiable, how fast, and that reward rises."""
import json, sys, time, torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from transformers import CLIPModel
from s2_clip import MEAN, STD
from scenes import ROOT
torch.set_num_threads(1); O = f"{ROOT}/out"
p = StableDiffusionPipeline.from_pretrained(f"{O}/pipeline"); m = CLIPModel.from_pretrained(f"{O}/rewards/pickscore").eval().requires_grad_(False)
p.vae.requires_grad_(False); p.text_encoder.requires_grad_(False); u, s = p.unet, p.scheduler
caps = ["a cat and a book", "a lion, and books on a green background", "a fox, and books", "a purple heart"]; B, T = 8, 20
opt = torch.optim.AdamW(u.parameters(), 2e-5); s.set_timesteps(T); ac = s.alphas_cumprod
tok = lambda c: p.tokenizer(c, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids


def rollout(prompts, gen, train):
    ids = tok(prompts); e = torch.cat([p.text_encoder(tok([""] * len(prompts)))[0], p.text_encoder(ids)[0]])
    x = torch.randn(len(prompts), 4, 16, 16, generator=gen); grad = set(torch.randperm(T, generator=gen)[:2].tolist()) if train else set()
    for i, t in enumerate(s.timesteps):
        with torch.set_grad_enabled(i in grad):
            a, b = u(torch.cat([x.detach()] * 2), t, e).sample.chunk(2); eps = a + 4 * (b - a)
        x = s.step(eps, t, x).prev_sample
    im = (p.vae.decode(x / p.vae.config.scaling_factor).sample / 2 + .5).clamp(0, 1)
    v = F.normalize(m.visual_projection(m.vision_model(pixel_values=(im - MEAN) / STD).pooler_output), dim=-1)
    tx = F.normalize(m.text_projection(m.text_model(input_ids=ids).pooler_output), dim=-1)
    return (v * tx).sum(-1) * m.logit_scale.exp()


def test():
    with torch.no_grad():
        return rollout(caps * 8, torch.Generator().manual_seed(99), False).mean().item()


N = int(sys.argv[1]) if len(sys.argv) > 1 else 25
r0 = test(); t0 = time.time(); tr = []
for k in range(N):
    r = rollout((caps * B)[:B], torch.Generator().manual_seed(k), True)
    loss = -r.mean(); opt.zero_grad(); loss.backward(); g = torch.nn.utils.clip_grad_norm_(u.parameters(), 1.); opt.step(); tr.append(round(r.mean().item(), 3))
sec = (time.time() - t0) / N
f = dict(stage="check_grad", reward_before=round(r0, 3), reward_after=round(test(), 3), updates=N, seconds_per_update=round(sec, 2), batch=B, last_grad_norm=round(g.item(), 3), train_rewards=tr)
json.dump(f, open(f"{ROOT}/build/facts_check_grad.json", "w"), indent=1); print(f)
