"""Stage 4: UNet2DConditionModel on 16x16x4 latents, epsilon prediction, SD beta schedule, min-SNR-5 weighting, EMA.
usage: s4_unet.py cache part parts | train budget_seconds rank world | pipe [tag]   (see run_unet.sh)"""
import json, math, os, sys, time
import numpy as np, torch
import torch.distributed as dist
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer
from scenes import ROOT, load_cache

W = f"{ROOT}/build"
CH, LPB, HEADS = (64, 128), 1, (2, 4)     # diffusers' attention_head_dim is in fact the number of heads
PROMPTS = ["a red apple on a blue background", "a fox, and books", "a cat and a book", "a panda on a pink background",
           "a rocket on a black background", "a lion, and books on a green background", "a purple heart", "a strawberry and a clock on a white background"]


def make_unet():
    return UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, layers_per_block=LPB, block_out_channels=CH,
                                down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
                                cross_attention_dim=128, attention_head_dim=HEADS, norm_num_groups=16)


def cache(part, parts, n=40000):
    """latents (distribution means x scaling_factor, fp16) and the text states of the distinct captions"""
    torch.set_num_threads(1); t0 = time.time()
    vae = AutoencoderKL.from_pretrained(f"{W}/vae").eval().to(memory_format=torch.channels_last)
    imgs, meta = load_cache("train"); imgs, meta = imgs[:n], meta[:n]
    lo, hi = n * part // parts, n * (part + 1) // parts
    lat = torch.empty(hi - lo, 4, 16, 16, dtype=torch.float16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for i in range(lo, hi, 50):
            x = torch.from_numpy(imgs[i:i + 50]).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
            lat[i - lo:i - lo + 50] = vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor
    torch.save(lat, f"{W}/lat_{part}.pt"); print("latents", lo, hi, round(time.time() - t0), "s", flush=True)
    if part == 0:
        tok = CLIPTokenizer.from_pretrained(f"{W}/tokenizer"); te = CLIPTextModel.from_pretrained(f"{W}/text_encoder").eval()
        caps, cid = np.unique([""] + [m["caption"] for m in meta], return_inverse=True)       # index 0 is ""
        emb = torch.empty(len(caps), 32, 128, dtype=torch.float16)
        with torch.inference_mode():
            for i in range(0, len(caps), 500):
                ids = tok(list(caps[i:i + 500]), padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
                emb[i:i + 500] = te(ids)[0]
        while not all(os.path.exists(f"{W}/lat_{k}.pt") for k in range(parts)):
            time.sleep(1)
        time.sleep(2); lat = torch.cat([torch.load(f"{W}/lat_{k}.pt") for k in range(parts)])
        torch.save({"lat": lat, "emb": emb, "cid": torch.from_numpy(cid[1:].astype(np.int64))}, f"{W}/latents.pt")
        print("cached", n, "captions", len(caps), "std", lat.float().std().item(), "per channel", lat.float().std((0, 2, 3)).tolist(), round(time.time() - t0), "s", flush=True)


def ddpm():
    return DDPMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False)


def train(budget, rank, world):
    """one single-threaded process per core, gradients averaged with gloo: when other jobs share the cores this is several
    times faster than two OpenMP threads, which wait for one another at every operator instead of once a step"""
    torch.set_num_threads(1); torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{W}/ddp_store", rank=rank, world_size=world)
    STEPS, B, LR = 60000, 32, 1e-3
    d = torch.load(f"{W}/latents.pt", mmap=True); lat, emb, cid = d["lat"], d["emb"], d["cid"]
    u = make_unet().to(memory_format=torch.channels_last); u.train()
    params = list(u.parameters()); ema = [p.detach().clone() for p in params]
    names = [n for n, _ in u.named_parameters()]
    opt = torch.optim.AdamW(params, LR, weight_decay=.01, betas=(.9, .99), fused=True)
    ac = ddpm().alphas_cumprod; snr = ac / (1 - ac); wgt = snr.clamp(max=5) / snr
    torch.manual_seed(1000 + rank)
    flat = torch.zeros(sum(p.numel() for p in params) + 2)

    def dump():
        torch.save({"ema": dict(zip(names, ema)), "raw": u.state_dict(), "step": step, "secs": time.time() - t0}, f"{W}/unet_ck.tmp")
        os.replace(f"{W}/unet_ck.tmp", f"{W}/unet_ck.pt")

    # inductor: 1.35x over eager (fuses GroupNorm/SiLU/softmax); without it use fastgn.patch() + FastAttnProcessor
    u.set_attn_processor(AttnProcessor()); fwd = torch.compile(u); comp = time.time()
    t0 = time.time(); step = 0; hist = []; last = t0; p = 0.
    while p < 1:
        lr = LR * min(1, (step + 1) / 200) * (.03 + .97 * .5 * (1 + math.cos(math.pi * p)))
        for g in opt.param_groups:
            g["lr"] = lr
        i = torch.randint(0, len(lat), (B,)); c = cid[i].clone(); c[torch.rand(B) < .1] = 0
        x0, e = lat[i].float(), emb[c].float()
        t = torch.randint(0, 1000, (B,)); n = torch.randn_like(x0); a = ac[t].view(-1, 1, 1, 1)
        xt = (a.sqrt() * x0 + (1 - a).sqrt() * n).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            y = fwd(xt, t, e, return_dict=False)[0]
        loss = ((y.float() - n).pow(2).mean((1, 2, 3)) * wgt[t]).mean()
        opt.zero_grad(); loss.backward()
        with torch.no_grad():                                # mean of gradients, loss and progress over the ranks
            done = 1e6 if os.path.exists(f"{W}/STOP") else max(step / STEPS, (time.time() - t0) / budget)
            torch.cat([q.grad.reshape(-1) for q in params] + [torch.tensor([loss.item(), done])], out=flat)
            dist.all_reduce(flat); flat /= world
            k = 0
            for q in params:
                q.grad.copy_(flat[k:k + q.numel()].view_as(q)); k += q.numel()
            p = flat[-1].item(); hist.append(flat[-2].item())
        torch.nn.utils.clip_grad_norm_(params, 1.); opt.step(); step += 1
        if rank:
            continue
        if step == 2:
            print("compile", round(time.time() - comp), "s", flush=True)
        with torch.no_grad():
            torch._foreach_lerp_(ema, [q.detach() for q in params], 1 - min(.9995, step / (step + 100)))
        if step % 50 == 0:
            print(step, round(time.time() - t0), "s loss", round(np.mean(hist[-200:]), 4), "lr", round(lr, 6), "samples/s", round(step * B * world / (time.time() - t0), 1), flush=True)
        if time.time() - last > 150:
            dump(); last = time.time()
    if rank == 0:
        dump()
        json.dump(dict(stage="unet", params=sum(q.numel() for q in params), seconds=round(time.time() - t0), steps=step, batch=B * world,
                       samples=step * B * world, loss_last500=round(float(np.mean(hist[-500:])), 4)), open(f"{W}/facts_unet.json", "w"), indent=1)
        np.save(f"{W}/unet_loss.npy", np.array(hist, np.float32))


def pipe(tag="preview"):
    torch.set_num_threads(1)
    ck = torch.load(f"{W}/unet_ck.pt"); u = make_unet(); u.load_state_dict(ck["ema"]); u.eval()
    te = CLIPTextModel.from_pretrained(f"{W}/text_encoder"); vae = AutoencoderKL.from_pretrained(f"{W}/vae")
    # the scheduler folder has the fields of SD 1.x (PNDM is what those ship; DDIM here: same betas, any sampler can be built from it)
    sch = DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False,
                        set_alpha_to_one=False, steps_offset=1)
    p = StableDiffusionPipeline(vae=vae, text_encoder=te, tokenizer=CLIPTokenizer.from_pretrained(f"{W}/tokenizer"), unet=u, scheduler=sch,
                                safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    p.save_pretrained(f"{W}/pipeline", safe_serialization=True)
    p = StableDiffusionPipeline.from_pretrained(f"{W}/pipeline"); p.set_progress_bar_config(disable=True)
    t0 = time.time(); rows = []
    for q in PROMPTS:
        g = [torch.Generator().manual_seed(s) for s in range(4)]
        out = p([q] * 4, num_inference_steps=30, guidance_scale=5.0, generator=g, output_type="np").images
        rows.append(np.concatenate(list(out), 1))
    from PIL import Image, ImageDraw
    g = (np.concatenate(rows, 0) * 255).round().astype(np.uint8)
    im = Image.fromarray(g).resize((g.shape[1] * 2, g.shape[0] * 2), 0)
    full = Image.new("RGB", (im.width + 330, im.height), "white"); full.paste(im, (330, 0)); dr = ImageDraw.Draw(full)
    for i, q in enumerate(PROMPTS):
        dr.text((6, i * 128 + 58), q, fill=0)
    full.save(f"{W}/{tag}.png")
    print("step", ck["step"], "train s", round(ck["secs"]), "32 images", round(time.time() - t0, 1), "s")


if __name__ == "__main__":
    a = sys.argv
    {"cache": lambda: cache(int(a[2]), int(a[3])), "train": lambda: train(float(a[2]), int(a[3]), int(a[4])), "pipe": lambda: pipe(*a[2:])}[a[1]]()
