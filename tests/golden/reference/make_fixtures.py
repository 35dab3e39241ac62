#!/usr/bin/env python3
"""Tiny random-initialised pipelines and golden fixtures for every method x sampler.
  python make_fixtures.py            -> ../tiny-sd/ ../tiny-sdxl/ ../cases/<name>/{case.json,inputs,expected}
"""
import json, os, shutil, sys, time
import torch
from safetensors.torch import save_file, load_file
import drtune_ref as R

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))      # tests/golden
torch.set_num_threads(1)
SCHED = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
             timestep_spacing="leading", steps_offset=1, prediction_type="epsilon", clip_sample=False)


# ----------------------------------------------------------------------------- tiny pipelines
def bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b); cs.append(256 + n); n += 1
    return [chr(c) for c in cs]


MERGES = ["t h", "th e</w>", "a n", "i n", "o n</w>", "o f</w>", "a</w> b", "c a", "ca t</w>", "d o", "do g</w>", "b o", "bo o",
          "boo k", "book s</w>", "book </w>", "an d</w>", "p h", "ph o", "pho t", "phot o</w>", "r e", "re d</w>", "h o",
          "ho u", "hou s", "hous e</w>", "e r</w>", "in g</w>", "s t", "o u", "a r", "i t"]
MERGES = [m for m in MERGES if m not in ("a</w> b", "book </w>")]


def write_tokenizer(d, pad):
    os.makedirs(d, exist_ok=True)
    ch = bytes_to_unicode()
    v = ch + [c + "</w>" for c in ch] + [m.replace(" ", "") for m in MERGES] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(v) == len(set(v))
    json.dump({t: i for i, t in enumerate(v)}, open(d + "/vocab.json", "w"), ensure_ascii=False)
    open(d + "/merges.txt", "w").write("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    sp = lambda c: {"content": c, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    json.dump({"bos_token": sp("<|startoftext|>"), "eos_token": sp("<|endoftext|>"), "pad_token": pad,
               "unk_token": sp("<|endoftext|>")}, open(d + "/special_tokens_map.json", "w"), indent=1)
    json.dump({"add_prefix_space": False, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad,
               "unk_token": "<|endoftext|>", "do_lower_case": True, "errors": "replace", "model_max_length": 77,
               "tokenizer_class": "CLIPTokenizer"}, open(d + "/tokenizer_config.json", "w"), indent=1)
    return len(v)


def gain(m, g):
    """sharper random nets than the default init, so that prompt, time and input all matter"""
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim >= 2 and "embed" not in n.split(".")[-2]:
                p.mul_(g)
            elif p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape))      # biases and norm weights away from 0 and 1


def text_cfg(nv, proj, act="quick_gelu", layers=2):
    from transformers import CLIPTextConfig
    return CLIPTextConfig(vocab_size=nv, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
                          num_attention_heads=4, max_position_embeddings=77, projection_dim=proj, hidden_act=act,
                          bos_token_id=nv - 2, eos_token_id=nv - 1, pad_token_id=nv - 1)


def vae(scale):
    from diffusers import AutoencoderKL
    v = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2,
                      up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(16, 32), layers_per_block=1,
                      latent_channels=4, norm_num_groups=8, sample_size=32, scaling_factor=scale)
    gain(v, 1.3)
    return v


def build_sd(d):
    from diffusers import UNet2DConditionModel, StableDiffusionPipeline, DDPMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer
    shutil.rmtree(d, ignore_errors=True)
    nv = write_tokenizer(d + "/tokenizer", "<|endoftext|>")
    torch.manual_seed(11)
    te = CLIPTextModel(text_cfg(nv, 32)); gain(te, 4.0)
    un = UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
                              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=32,
                              attention_head_dim=4, norm_num_groups=8)
    gain(un, 1.6)
    p = StableDiffusionPipeline(vae=vae(0.18215), text_encoder=te, tokenizer=CLIPTokenizer.from_pretrained(d + "/tokenizer"),
                                unet=un, scheduler=DDPMScheduler(**SCHED), safety_checker=None, feature_extractor=None,
                                requires_safety_checker=False)
    finish(p, d, {"tokenizer": "<|endoftext|>"})


def build_sdxl(d):
    from diffusers import UNet2DConditionModel, StableDiffusionXLPipeline, DPMSolverMultistepScheduler
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
    shutil.rmtree(d, ignore_errors=True)
    nv = write_tokenizer(d + "/tokenizer", "<|endoftext|>")
    write_tokenizer(d + "/tokenizer_2", "!")
    torch.manual_seed(12)
    te = CLIPTextModel(text_cfg(nv, 32)); gain(te, 2.0)
    te2 = CLIPTextModelWithProjection(text_cfg(nv, 32, "gelu", 3)); gain(te2, 2.0)
    un = UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
                              down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                              up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=64,
                              transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4), use_linear_projection=True,
                              addition_embed_type="text_time", addition_time_embed_dim=8,
                              projection_class_embeddings_input_dim=32 + 6 * 8, norm_num_groups=8)
    gain(un, 1.4)
    sc = {k: v for k, v in SCHED.items() if k != "clip_sample"}
    p = StableDiffusionXLPipeline(vae=vae(0.13025), text_encoder=te, text_encoder_2=te2, unet=un,
                                  tokenizer=CLIPTokenizer.from_pretrained(d + "/tokenizer"),
                                  tokenizer_2=CLIPTokenizer.from_pretrained(d + "/tokenizer_2"),
                                  scheduler=DPMSolverMultistepScheduler(**sc), force_zeros_for_empty_prompt=True)
    finish(p, d, {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"})


def finish(p, d, toks):
    p.save_pretrained(d, safe_serialization=True)
    for t, pad in toks.items():
        write_tokenizer(d + "/" + t, pad)           # keep vocab.json + merges.txt beside tokenizer.json


# ----------------------------------------------------------------------------- cases
P1, P2, P3 = "a red cat, and books.", "a photo of the house on a hill", "Dog in the snow: 4k, bokeh!"


def cases():
    L = []

    def add(name, **k):
        d = dict(name=name, pipeline="tiny-sd", T=6, guidance_scale=7.5, prompts=[P1], latent_hw=[16, 16], uncond="empty",
                 lora=dict(r=4, alpha=4.0, targets=list(R.TARGETS)), seed=1000 + len(L), upstream="image_grad")
        d.update(k)
        L.append(d)

    def sch(kind, eta=0.0, **over):
        c = dict(SCHED, **over)
        if kind == "ddim":
            c["set_alpha_to_one"] = False
        if kind == "ddpm":
            c["variance_type"] = "fixed_small"
        if kind == "dpmpp2m":
            c.pop("clip_sample")
            c.update(solver_order=2, algorithm_type="dpmsolver++", solver_type="midpoint", lower_order_final=True,
                     euler_at_final=False, final_sigmas_type="zero")
        return dict(kind=kind, eta=eta, config=c)

    S = {"ddpm": sch("ddpm"), "ddim0": sch("ddim"), "ddim1": sch("ddim", 1.0), "dpmpp2m": sch("dpmpp2m")}
    for n, s in S.items():
        p = P2 if n in ("ddim0", "dpmpp2m") else P1
        add(f"drtune_{n}_full", method="drtune", scheduler=s, K=3, s=1, train_steps=R.drtune_steps(6, 3, 1), t_min=0, prompts=[p])
        add(f"drtune_{n}_early", method="drtune", scheduler=s, T=10, K=5, s=2, train_steps=R.drtune_steps(10, 5, 2), t_min=4,
            prompts=[p], note="t_min is itself a trained step; trained step t=2 is never reached")
        add(f"drtune_{n}_early_untrained", method="drtune", scheduler=s, T=10, K=3, s=2, train_steps=R.drtune_steps(10, 3, 2),
            t_min=3, prompts=[p], note="eps at t_min is stop-gradient (t_min not in t_train); t=2 never reached")
        add(f"refl_{n}", method="refl", scheduler=s, K=1, t_min=3, prompts=[p])
        add(f"draftk_{n}", method="draft-k", scheduler=s, K=3, prompts=[p])
        add(f"draftlv_{n}", method="draft-lv", scheduler=s, K=1, redraws=2, prompts=[p])
        add(f"draftt_{n}", method="draft-t", scheduler=s, T=5, K=5, prompts=[p])
        add(f"alignprop_{n}", method="alignprop", scheduler=s, K=4, prompts=[p], note="K drawn from randint(1,T); t<=K trained")
    for n in ("ddpm", "ddim0", "dpmpp2m"):
        s = S[n]
        add(f"draftk_sg_{n}", method="draft-k", scheduler=s, K=3, input_stopgrad=True)
        add(f"draftt_sg_{n}", method="draft-t", scheduler=s, T=5, K=5, input_stopgrad=True)
        add(f"alignprop_sg_{n}", method="alignprop", scheduler=s, K=4, input_stopgrad=True)
    add("drtune_ddpm_nocfg", method="drtune", scheduler=S["ddpm"], K=3, s=2, train_steps=R.drtune_steps(6, 3, 2), t_min=0,
        guidance_scale=1.0, note="guidance 1: conditional branch alone")
    add("drtune_ddpm_batch2", method="drtune", scheduler=S["ddpm"], K=2, s=3, train_steps=R.drtune_steps(6, 2, 3), t_min=2,
        prompts=[P3, P2], latent_hw=[16, 8], lora=dict(r=8, alpha=4.0, targets=list(R.TARGETS)), note="batch 2, 16x8 latents, alpha/r = 0.5")
    add("drtune_ddpm_symmetry", method="drtune", scheduler=S["ddpm"], K=3, s=2, train_steps=R.drtune_steps(6, 3, 2), t_min=2,
        upstream="reward:symmetry", note="L = symmetry score (to be minimised), not a fixed upstream gradient")
    add("drtune_dpmpp2m_linspace", method="drtune", scheduler=sch("dpmpp2m", timestep_spacing="linspace", steps_offset=0), K=3, s=2,
        train_steps=R.drtune_steps(6, 3, 2), t_min=1, note="DPMSolverMultistepScheduler's own default spacing")
    add("drtune_ddpm_T50_K5", method="drtune", scheduler=S["ddpm"], T=50, K=5, s=7, train_steps=R.drtune_steps(50, 5, 7), t_min=13,
        note="paper's SD 1.5 setting (m=20): t=7 unreached; t_min=13 untrained")
    X = dict(pipeline="tiny-sdxl", guidance_scale=5.0, T=5)
    add("xl_drtune_dpmpp2m_full", method="drtune", scheduler=S["dpmpp2m"], K=2, s=1, train_steps=R.drtune_steps(5, 2, 1), t_min=0,
        uncond="zeros", **X)
    add("xl_drtune_dpmpp2m_early", method="drtune", scheduler=S["dpmpp2m"], K=3, s=2, train_steps=R.drtune_steps(5, 3, 2), t_min=2,
        uncond="zeros", **X)
    add("xl_drtune_dpmpp2m_emptyuncond", method="drtune", scheduler=S["dpmpp2m"], K=3, s=3, train_steps=R.drtune_steps(5, 3, 3),
        t_min=1, uncond="empty", prompts=[P2], **X)
    add("xl_draftk_dpmpp2m", method="draft-k", scheduler=S["dpmpp2m"], K=2, uncond="zeros", **X)
    X["T"] = 25
    add("xl_drtune_dpmpp2m_T25_K3", method="drtune", scheduler=S["dpmpp2m"], K=3, s=6, train_steps=R.drtune_steps(25, 3, 6), t_min=4,
        uncond="zeros", note="paper's SDXL setting; T>=15: second order until the last step", **X)
    return L


def tensors(c, lora_shapes):
    g = torch.Generator().manual_seed(c["seed"])
    h, w = c["latent_hw"]
    B, T = len(c["prompts"]), c["T"]
    rn = lambda *s: torch.randn(*s, generator=g)
    t = {"x_T": rn(B, 4, h, w), "noise": rn(T, B, 4, h, w), "image_grad": rn(B, 3, 2 * h, 2 * w) / (3 * 4 * h * w)}
    if c["method"] == "draft-lv":
        t["redraw_noise"] = rn(c["redraws"], B, 4, h, w)
    for n, s in lora_shapes.items():
        t["lora." + n] = rn(*s) * (1 / s[1] ** .5 if ".lora_A." in n else 0.25 / c["lora"]["r"] ** .5)
    return t


def lora_tensors(t):
    return {k[5:]: v for k, v in t.items() if k.startswith("lora.")}


_models = {}


def model_for(c, dtype):
    k = (c["pipeline"], dtype, c["lora"]["r"], c["lora"]["alpha"])
    if k not in _models:
        _models[k] = R.Model(os.path.join(HERE, c["pipeline"]), dtype, c["lora"]["r"], c["lora"]["alpha"])
    return _models[k]


def prep(c, t, dtype=torch.float64):
    m = model_for(c, dtype)
    R.set_lora(m.lora, lora_tensors(t))
    tt = dict(t)
    if c["upstream"] == "reward:symmetry":
        from rewards_ref import symmetry
        tt["image_grad"], tt["reward"] = None, lambda im: symmetry(im).sum()
    return m, tt


def flat(r, T):
    o = {"x0": r["x0"], "latents_last": r["latents_last"], "image": r["image"], "prompt_embeds": r["enc"]["cond"],
         "uncond_embeds": r["enc"]["unc"]}
    if "pooled" in r["enc"]:
        o.update(pooled=r["enc"]["pooled"], uncond_pooled=r["enc"]["unc_pooled"], time_ids=r["enc"]["time_ids"])
    n = len(r["xs"])
    for i in (range(n) if T <= 12 else sorted({0, min(1, n - 1), n // 2, n - 1})):
        o[f"x.{i}"], o[f"eps.{i}"] = r["xs"][i], r["eps"][i]
    for k, v in r["grads"].items():
        o["grad." + k] = v
    if "redraw" in r:
        for k, v in r["grad_main"].items():
            o["grad_main." + k] = v
        for j, q in enumerate(r["redraw"]):
            o.update({f"redraw.{j}.x1": q["x1"], f"redraw.{j}.x0": q["x0"], f"redraw.{j}.image": q["image"]})
            for k, v in q["grads"].items():
                o[f"grad_redraw.{j}." + k] = v
    return {k: v.detach().float().contiguous().clone() for k, v in o.items()}


def main(only=None):
    if not only or not os.path.exists(HERE + "/tiny-sdxl"):
        build_sd(HERE + "/tiny-sd"); build_sdxl(HERE + "/tiny-sdxl")
        shutil.rmtree(HERE + "/cases", ignore_errors=True)
    rows = []
    for c in cases():
        if only and only not in c["name"]:
            continue
        t0 = time.time()
        m = model_for(c, torch.float64)
        t = tensors(c, {k: tuple(v.shape) for k, v in m.lora.items()})
        m, tt = prep(c, t)
        r = R.train_step(m, c, tt)
        f = flat(r, c["T"])
        d = f"{HERE}/cases/{c['name']}"
        os.makedirs(d, exist_ok=True)
        save_file(t, d + "/inputs.safetensors"); save_file(f, d + "/expected.safetensors")
        # closed form and float32 rerun, as guidance for tolerances
        ex = {}
        if r["sgin"] or c["method"] == "refl":
            for sp in (True, False):
                cg, kap, _ = R.closed_form_grads(m, c, tt, split_cfg=sp)
                ex["closed_form_rel_max_" + ("splitcfg" if sp else "joint")] = R.rel(cg, r["grads"])[0]
            ex["kappa"] = kap
        m32, t32 = prep(c, t, torch.float32)
        r32 = R.train_step(m32, c, t32)
        ex["float32_rel_max"], ex["float32_rel_l2"] = R.rel({k: v.double() for k, v in r32["grads"].items()}, r["grads"])
        ex["float32_image_absmax"] = (r32["image"].double() - r["image"]).abs().max().item()
        s = r["sched"]
        meta = dict(c, dtype="float64 run, stored float32", t_min=r["t_min"], train_steps=r["train"],
                    train_indices=[c["T"] - x for x in r["train"]], input_stopgrad=r["sgin"], early_stop_index=r["stop"],
                    timesteps=s["timesteps"], coefficients={k: s[k] for k in s if k not in ("kind", "T", "timesteps")},
                    image_clamp=False, vae_scaling_factor=m.vae.config.scaling_factor, loss=r["loss"].item(),
                    input_ids=[x.tolist() for x in r["enc"]["ids"]], uncond_ids=[x.tolist() for x in r["enc"]["unc_ids"]],
                    files=dict(inputs="inputs.safetensors", expected="expected.safetensors"),
                    lora_names=list(m.lora), checks=ex,
                    image_range=[r["image"].min().item(), r["image"].max().item()],
                    grad_norm=sum(v.pow(2).sum().item() for v in r["grads"].values()) ** .5,
                    grad_zero_tensors=sum(1 for v in r["grads"].values() if v.abs().max() == 0))
        json.dump(meta, open(d + "/case.json", "w"), indent=1, default=str)
        rows.append((c["name"], meta))
        print(f"{c['name']:34s} |g|={meta['grad_norm']:.3e} zero={meta['grad_zero_tensors']} img[{meta['image_range'][0]:.2f},{meta['image_range'][1]:.2f}] "
              f"cf={ex.get('closed_form_rel_max_splitcfg', float('nan')):.1e} f32={ex['float32_rel_max']:.1e}/{ex['float32_rel_l2']:.1e} {time.time()-t0:.1f}s", flush=True)
    if not only:
        json.dump([dict(name=n, **{k: m[k] for k in ("method", "pipeline", "T", "K", "train_steps", "t_min", "grad_norm", "checks")})
                   for n, m in rows], open(HERE + "/cases/index.json", "w"), indent=1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
