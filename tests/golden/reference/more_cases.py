#!/usr/bin/env python3
"""Random pipelines and cases of the kinds that make_fixtures.py has, over everything the readers and samplers accept.
  python more_cases.py OUT [--count 20] [--seed 0]     -> OUT/p<n>/ (diffusers folder), OUT/cases/<n>/
float64 autograd (drtune_ref.py); the float32 run's distance from it is in case.json under checks.
"""
import argparse, glob, json, math, os, random, shutil
import numpy as np
import torch
from safetensors.torch import save_file
import drtune_ref as R
import make_fixtures as M

PROMPTS = ["a red cat, and books.", "a photo of the house on a hill", "Dog in the snow: 4k, bokeh!", "", "  two   spaces\n",
           "Ein Bär über dem Café — ñandú", "日本の猫 🐈‍⬛", "it's the cat's 2nd book; 100% (red)", "the " * 90, "books & dogs <b>", "UPPER lower"]
CONFIG_KINDS = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "dpmpp2m": "DPMSolverMultistepScheduler"}


# ----------------------------------------------------------------------------- what drtune_ref.py leaves out
def betas(c):
    n, kind = c["num_train_timesteps"], c["beta_schedule"]
    if kind == "scaled_linear":
        return np.linspace(c["beta_start"] ** .5, c["beta_end"] ** .5, n) ** 2
    if kind == "linear":
        return np.linspace(c["beta_start"], c["beta_end"], n)
    bar = lambda t: math.cos((t + .008) / 1.008 * math.pi / 2) ** 2
    return np.array([min(1 - bar((i + 1) / n) / bar(i / n), .999) for i in range(n)])


def alphas_cumprod(c, dtype=np.float64):
    ac = np.cumprod(1 - betas(c))
    if c.get("rescale_betas_zero_snr"):
        s = np.sqrt(ac)
        ac = ((s - s[-1]) * s[0] / (s[0] - s[-1])) ** 2
    return ac


R.alphas_cumprod = alphas_cumprod
plain_schedule, plain_timesteps = R.build_schedule, R.timesteps


def build_schedule(kind, c, T, eta=0.0, dtype=np.float64):
    if not c.get("use_karras_sigmas"):
        return plain_schedule(kind, c, T, eta, dtype)
    # diffusers' timesteps, its noise levels in float64, and the coefficients that drtune_ref.py gives for such levels.
    from diffusers import DPMSolverMultistepScheduler
    d = DPMSolverMultistepScheduler(**{k: v for k, v in c.items() if not k.startswith("_")})
    d.set_timesteps(T)
    lo, hi = (((1 - x) / x) ** (.5 / 7) for x in alphas_cumprod(c)[[0, -1]])
    sigmas = [(hi + r * (lo - hi)) ** 7 for r in np.linspace(0, 1, T)]
    assert np.allclose(sigmas, d.sigmas[:T].numpy(), rtol=1e-3), (sigmas, d.sigmas)
    R.timesteps, R.alphas_cumprod = (lambda *_: range(T)), (lambda *_: [1 / (1 + x * x) for x in sigmas])
    try:
        s = plain_schedule(kind, c, T, eta, dtype)
    finally:
        R.timesteps, R.alphas_cumprod = plain_timesteps, alphas_cumprod
    s["timesteps"] = d.timesteps.tolist()
    return s


R.build_schedule = build_schedule


class Model(R.Model):
    """R.Model with any target modules and weight variants."""

    def __init__(self, path, dtype, lora, variant=None):
        from diffusers import DiffusionPipeline
        kw = {} if variant is None else {"variant": variant}
        self.pipe = p = DiffusionPipeline.from_pretrained(path, dtype=torch.float32, **kw)
        self.dtype, self.device = dtype, "cpu"
        self.xl = getattr(p, "text_encoder_2", None) is not None
        for m in [p.unet, p.vae, p.text_encoder] + ([p.text_encoder_2] if self.xl else []):
            m.to(dtype=dtype).eval().requires_grad_(False)
        self.unet, self.vae = p.unet, p.vae
        self.lora = inject(p.unet, lora)
        self.f = 2 ** (len(p.vae.config.block_out_channels) - 1)


def sample(model, s, x, noises, e, w, train, t_min, sgin, **_):
    """R.sample for a network that may predict v or the clean sample: it is the network that is detached, or whose input
    is, while the sampler's own x always carries gradient."""
    T, m_prev, xs, es = s["T"], None, [], []
    for i in range(T):
        t, al, sg = T - i, s["al"][i], s["sg"][i]
        xs.append(x.detach())
        with torch.set_grad_enabled(t in train):
            o = model.eps(x.detach() if sgin else x, s["timesteps"][i], e, w)
        kind = model.prediction
        ep = o if kind == "epsilon" else al * o + sg * x if kind == "v_prediction" else (x - al * o) / sg
        m = (x - sg * ep) / al if kind == "epsilon" else al * x - sg * o if kind == "v_prediction" else o
        es.append(ep.detach())
        if t == t_min:
            return {"x0": m, "latents_last": x.detach(), "xs": xs, "eps": es, "stop": i}
        if s["kind"] == "dpmpp2m":
            x = s["A"][i] * x + s["P"][i] * m + (s["Q"][i] * m_prev if s["Q"][i] else 0.0)
            m_prev = m
        else:
            x = s["a"][i] * x + s["b"][i] * ep + s["c"][i] * noises[i]
    return {"x0": x, "latents_last": x.detach(), "xs": xs, "eps": es, "stop": None}


R.sample = sample


def inject(unet, lora):
    out = {}
    hits = [n for n, m in unet.named_modules() if isinstance(m, torch.nn.Linear) and "transformer_blocks" in n
            and any(n.endswith("." + t) for t in lora["targets"])]
    for n in hits:
        parent, leaf = n.rsplit(".", 1)
        p = unet.get_submodule(parent)
        new = R.LoRALinear(p[int(leaf)] if leaf.isdigit() else getattr(p, leaf), lora["r"], lora["alpha"])
        if leaf.isdigit():
            p[int(leaf)] = new
        else:
            setattr(p, leaf, new)
        out[n + ".lora_A.weight"], out[n + ".lora_B.weight"] = new.lora_A.weight, new.lora_B.weight
    return out


# ----------------------------------------------------------------------------- pipelines
def text_encoder(g, nv, width, projection, xl2):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    heads = g.choice([h for h in (1, 2, 4) if width % h == 0])
    c = CLIPTextConfig(vocab_size=nv, hidden_size=width, intermediate_size=g.choice([16, 40, 64]), num_attention_heads=heads,
                       num_hidden_layers=g.randint(2, 4), max_position_embeddings=g.length, projection_dim=projection,
                       hidden_act=g.choice(["gelu", "quick_gelu"]), layer_norm_eps=g.choice([1e-5, 1e-6]),
                       bos_token_id=nv - 2, pad_token_id=1, eos_token_id=g.choice([2, nv - 1]))
    m = (CLIPTextModelWithProjection if xl2 else CLIPTextModel)(c)
    M.gain(m, 2.5)
    return m


def per_level(g, n, draw):
    return [draw(i) for i in range(n)]


def unet(g, xl, latent, context, pooled):
    from diffusers import UNet2DConditionModel
    groups, n = g.choice([2, 4, 8]), g.choice([1, 2, 2, 3, 4])
    channels = per_level(g, n, lambda i: groups * g.randint(1, 4) * 2)
    down = per_level(g, n, lambda i: g.choice(["CrossAttnDownBlock2D", "DownBlock2D"]))
    up = per_level(g, n, lambda i: g.choice(["CrossAttnUpBlock2D", "UpBlock2D"]))
    middle = g.choice(["UNetMidBlock2DCrossAttn"] * 4 + ["UNetMidBlock2D", None])
    if "UNetMidBlock2DCrossAttn" != middle and not any(x.startswith("Cross") for x in down + up):
        down[g.randrange(n)] = "CrossAttnDownBlock2D"
    heads = lambda c: g.choice([h for h in (1, 2, 4) if c % h == 0])
    one = g.random() < .4
    c = dict(sample_size=g.choice([8, 16, None]), in_channels=latent, out_channels=latent, block_out_channels=tuple(channels),
             layers_per_block=1 if g.random() < .5 else g.choice([2, tuple(per_level(g, n, lambda i: g.randint(1, 2)))]),
             down_block_types=tuple(down), up_block_types=tuple(up), mid_block_type=middle, cross_attention_dim=context,
             attention_head_dim=g.choice([1, 2]) if one else tuple(heads(x) for x in channels),
             use_linear_projection=g.random() < .5, flip_sin_to_cos=g.random() < .7, freq_shift=g.choice([0, 0, 1]),
             norm_num_groups=groups, norm_eps=g.choice([1e-5, 1e-6]), upcast_attention=g.random() < .2,
             time_embedding_dim=g.choice([None, None, 24]), act_fn=g.choice(["silu", "silu", "swish"]),
             transformer_layers_per_block=1 if g.random() < .6 else tuple(per_level(g, n, lambda i: g.randint(1, 2))))
    if xl:
        width = g.choice([4, 8])
        c.update(addition_embed_type="text_time", addition_time_embed_dim=width, projection_class_embeddings_input_dim=pooled + 6 * width)
    m = UNet2DConditionModel(**c)
    M.gain(m, 1.3)
    return m


def vae(g, latent):
    from diffusers import AutoencoderKL
    groups, n = g.choice([2, 4]), g.randint(1, 3)
    m = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * n,
                      up_block_types=("UpDecoderBlock2D",) * n, layers_per_block=g.randint(1, 2), latent_channels=latent,
                      block_out_channels=tuple(per_level(g, n, lambda i: groups * g.randint(1, 4))), norm_num_groups=groups,
                      scaling_factor=g.choice([.18215, .13025, 1.0, .37]), force_upcast=g.random() < .5,
                      use_quant_conv=g.random() < .5, use_post_quant_conv=g.random() < .7, mid_block_add_attention=g.random() < .7)
    M.gain(m, 1.3)
    return m


def tokenizer_files(g, folder, length):
    pad = g.choice(["!", "<|endoftext|>"])
    nv = M.write_tokenizer(folder, pad)
    f = folder + "/tokenizer_config.json"
    c = json.load(open(f))
    c["model_max_length"] = length
    json.dump(c, open(f, "w"), indent=1)
    return nv


def build_pipeline(g, d):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, DDPMScheduler
    from transformers import CLIPTokenizer
    torch.manual_seed(g.randrange(2 ** 31))
    xl, latent = g.random() < .35, g.choice([4, 4, 4, 3, 8])
    g.length = g.choice([77, 77, 16])
    kinds = ["tokenizer", "tokenizer_2"][: 1 + xl]
    nv = [tokenizer_files(g, f"{d}/{k}", g.length) for k in kinds][0]
    widths = [g.choice([8, 16, 24]) for _ in kinds]
    pooled = g.choice([16, 24])
    parts = dict(vae=vae(g, latent), unet=unet(g, xl, latent, sum(widths), pooled), text_encoder=text_encoder(g, nv, widths[0], pooled, False),
                 scheduler=DDPMScheduler(**M.SCHED), **{k: CLIPTokenizer.from_pretrained(f"{d}/{k}") for k in kinds})
    if xl:
        p = StableDiffusionXLPipeline(text_encoder_2=text_encoder(g, nv, widths[1], pooled, True), **parts)
    else:
        p = StableDiffusionPipeline(safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts)
    dtype = g.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    for k in ("vae", "unet", "text_encoder", "text_encoder_2"):
        if getattr(p, k, None) is not None:
            getattr(p, k).to(dtype)
    variant = "fp16" if g.random() < .25 else None
    shards = g.random() < .25
    p.save_pretrained(d, safe_serialization=True, **({"variant": variant} if variant else {}), **({"max_shard_size": "20KB"} if shards else {}))
    for k in kinds:
        kept = f"{d}/{k}/tokenizer.json"
        files = g.choice(["both", "json", "vocabulary"])
        if files == "json":
            assert os.path.exists(kept), os.listdir(f"{d}/{k}")
            for n in ("vocab.json", "merges.txt"):
                if os.path.exists(f"{d}/{k}/{n}"):
                    os.remove(f"{d}/{k}/{n}")
        else:
            pad = json.load(open(f"{d}/{k}/tokenizer_config.json"))["pad_token"]
            pad = pad if isinstance(pad, str) else pad["content"]
            M.write_tokenizer(f"{d}/{k}", pad)
            c = json.load(open(f"{d}/{k}/tokenizer_config.json"))
            c["model_max_length"] = g.length
            json.dump(c, open(f"{d}/{k}/tokenizer_config.json", "w"))
            if files == "vocabulary":
                os.remove(kept)
    return dict(xl=xl, latent=latent, variant=variant, dtype=str(dtype), shards=shards, levels=len(p.unet.config.block_out_channels))


# ----------------------------------------------------------------------------- cases
def scheduler(g, T):
    kind = g.choice(["ddpm", "ddim", "dpmpp2m"])
    schedule = g.choice(["scaled_linear"] * 3 + ["linear", "squaredcos_cap_v2"])
    n = g.choice([1000, 1000, 1000, 400])
    c = dict(_class_name=CONFIG_KINDS[kind], num_train_timesteps=n, beta_schedule=schedule, beta_start=g.choice([.00085, .0001]),
             beta_end=g.choice([.012, .02]), timestep_spacing=g.choice(["leading", "leading", "trailing", "linspace"]),
             steps_offset=g.choice([0, 1]), prediction_type=g.choice(["epsilon", "epsilon", "v_prediction", "sample"]))
    eta = 0.0
    if kind == "ddpm":
        c.update(variance_type="fixed_small", clip_sample=False)
    if kind == "ddim":
        c.update(set_alpha_to_one=g.random() < .5, clip_sample=False)
        eta = g.choice([0.0, 0.0, .3, 1.0])
    if kind == "dpmpp2m":
        karras = g.random() < .35
        c.update(solver_order=g.choice([2, 2, 2, 1]), algorithm_type="dpmsolver++", solver_type="midpoint", use_karras_sigmas=karras,
                 lower_order_final=g.random() < .8, euler_at_final=g.random() < .2,
                 final_sigmas_type="zero" if karras or g.random() < .7 else "sigma_min")
    if c["beta_schedule"] == "squaredcos_cap_v2":
        # An x0 read from noise of relative size 2e4 is nothing but rounding.
        c["prediction_type"] = "v_prediction"
    return dict(kind=kind, eta=eta, config=c)


def random_case(g, name, facts):
    method = g.choice(["drtune"] * 5 + ["refl", "draft-k", "draft-lv", "draft-t", "alignprop"])
    T = g.choice([1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 20, 25, 50, 60])
    if method == "draft-t":
        T = min(T, 8)
    s = scheduler(g, T)
    batch = g.choice([1, 1, 2, 3, 4])
    c = dict(name=name, pipeline="p" + name, T=T, method=method, scheduler=s, guidance_scale=g.choice([7.5, 5.0, 1.0, 0.0, 2.0, -.5]),
             prompts=[g.choice(PROMPTS) for _ in range(batch)], latent_hw=[g.randint(3, 12), g.randint(3, 12)],
             uncond=g.choice(["empty", "empty", "zeros"]), seed=g.randrange(2 ** 31), upstream=g.choice(["image_grad"] * 4 + ["reward:symmetry"]),
             lora=dict(r=g.choice([1, 2, 4, 7, 16]), alpha=g.choice([4.0, 1.0, 8.0, .5]),
                       targets=g.choice([list(R.TARGETS)] * 3 + [["to_q", "to_v"], ["to_out.0"], list(R.TARGETS) + ["ff.net.0.proj", "ff.net.2"], ["ff.net.2"]])))
    if method == "drtune":
        c["K"] = K = g.randint(1, min(T, 6))
        c["s"] = g.randint(1, T - (K - 1) * (T // K))
        c["train_steps"] = R.drtune_steps(T, K, c["s"])
        c["t_min"] = g.choice([0, g.randint(0, max(T - 1, 0))])
        if not any(t >= c["t_min"] for t in c["train_steps"]):
            c["t_min"] = 0
    elif method == "refl":
        c.update(K=1, t_min=g.randint(1, T))
    elif method == "draft-lv":
        c.update(K=1, redraws=g.randint(1, 3))
        s["config"].update(prediction_type="epsilon", beta_schedule="scaled_linear")    # all that drtune_ref.py redraws with
    elif method == "draft-t":
        c["K"] = T
    else:
        c["K"] = g.randint(1, min(T, 6))
    if method in ("draft-k", "draft-t", "alignprop") and g.random() < .3:
        c["input_stopgrad"] = True
    return c


def tensors(c, latent, factor, shapes):
    g = torch.Generator().manual_seed(c["seed"])
    (h, w), B, T = c["latent_hw"], len(c["prompts"]), c["T"]
    rn = lambda *s: torch.randn(*s, generator=g)
    t = {"x_T": rn(B, latent, h, w), "noise": rn(T, B, latent, h, w),
         "image_grad": rn(B, 3, factor * h, factor * w) / (3 * factor * factor * h * w)}
    if c["method"] == "draft-lv":
        t["redraw_noise"] = rn(c["redraws"], B, latent, h, w)
    for n, s in shapes.items():
        t["lora." + n] = rn(*s) * (1 / s[1] ** .5 if ".lora_A." in n else 0.25 / c["lora"]["r"] ** .5)
    return t


def run(folder, c, facts, dtype, t=None):
    m = Model(folder, dtype, c["lora"], facts["variant"])
    m.prediction = c["scheduler"]["config"]["prediction_type"]
    t = t or tensors(c, facts["latent"], m.f, {k: tuple(v.shape) for k, v in m.lora.items()})
    R.set_lora(m.lora, M.lora_tensors(t))
    tt = dict(t)
    if c["upstream"] == "reward:symmetry":
        from rewards_ref import symmetry
        tt["image_grad"], tt["reward"] = None, lambda im: symmetry(im).sum()
    r = R.train_step(m, c, tt)
    return r, t, M.flat(r, c["T"])


def distance(e, a):
    """per group: latents relative to their largest value; gradients, the worst tensor relative to its own largest"""
    out = {}
    for k, v in e.items():
        group = "grad" if "grad" in k else k.split(".")[0] if not k.startswith("redraw") else k.split(".")[2]
        d = (a[k].double() - v.double()).abs().max().item()
        largest = v.abs().max().item()
        out[group] = max(out.get(group, 0), d if largest < 1e-15 else d / largest)
    return out


def main():
    A = argparse.ArgumentParser()
    A.add_argument("out"); A.add_argument("--count", type=int, default=20); A.add_argument("--seed", type=int, default=0)
    a = A.parse_args()
    for n in range(a.count):
        g = random.Random(f"{a.seed}.{n}")
        name, folder = str(n), f"{a.out}/p{n}"
        shutil.rmtree(folder, ignore_errors=True)
        facts = build_pipeline(g, folder)
        while True:
            c = random_case(g, name, facts)
            try:
                r, t, expected = run(folder, c, facts, torch.float64)
            except RuntimeError as e:
                if "does not require grad" in str(e):
                    continue        # a prediction of the clean sample at an untrained stop forgets all before it
                raise
            close = distance(expected, run(folder, c, facts, torch.float32, t)[2])
            # A trajectory that float32 PyTorch itself loses says nothing about another implementation.
            if all(torch.isfinite(v).all() for v in expected.values()) and max(close.values()) < 5e-5 and close["image"] < 1e-5:
                break
        d = f"{a.out}/cases/{name}"
        os.makedirs(d, exist_ok=True)
        save_file(t, d + "/inputs.safetensors"); save_file(expected, d + "/expected.safetensors")
        case = dict(c, train_steps=r["train"], t_min=r["t_min"], input_stopgrad=r["sgin"], facts=facts, checks=dict(float32=close))
        json.dump(case, open(d + "/case.json", "w"), indent=1)
        sc = c["scheduler"]
        print(f"{n:4d} {c['method']:9s} {sc['kind']:8s} T={c['T']} {sc['config']['prediction_type']} float32 grad {close.get('grad', 0):.1e} image {close['image']:.1e}", flush=True)


def quiet():
    import diffusers, transformers
    for log in (diffusers.utils.logging, transformers.utils.logging):
        log.set_verbosity_error()
        log.disable_progress_bar()
    torch.set_num_threads(1)


if __name__ == "__main__":
    quiet()
    main()
