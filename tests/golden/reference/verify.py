#!/usr/bin/env python3
"""Checks of the reference itself -> ../verify.json (see docs/formulas.md)."""
import json, math, os
import numpy as np, torch
import drtune_ref as R, make_fixtures as M
torch.set_num_threads(1)
H = M.HERE
out = {}

# 1. coefficients against diffusers' schedulers, by probing step() with unit vectors in float64
from diffusers import DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler


def probe_single(kind, cfg, T, eta):
    c = dict(cfg)
    sc = (DDPMScheduler if kind == "ddpm" else DDIMScheduler)(**{k: v for k, v in c.items()})
    sc.set_timesteps(T)
    A, B, C = [], [], []
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64); z = one * 0
    for t in sc.timesteps:
        g = lambda: torch.Generator().manual_seed(3)
        n = torch.randn(1, 1, 1, 1, generator=g(), dtype=torch.float64)
        kw = dict(eta=eta) if kind == "ddim" else {}
        f = lambda x, e: sc.step(e, t, x, generator=g(), **kw).prev_sample.item()
        c0 = f(z, z)
        A.append(f(one, z) - c0); B.append(f(z, one) - c0); C.append(c0 / n.item())
    return sc.timesteps.tolist(), A, B, C


for name, cfg in {c["name"]: c for c in M.cases() if c["method"] == "drtune"}.items():
    s = cfg["scheduler"]
    if s["kind"] == "dpmpp2m":
        continue
    ts, a, b, c = probe_single(s["kind"], s["config"], cfg["T"], s["eta"])
    for dt, lab in ((np.float64, "float64_schedule"), ("diffusers", "float32_schedule")):
        q = R.build_schedule(s["kind"], s["config"], cfg["T"], s["eta"], dt)
        assert q["timesteps"] == ts, (q["timesteps"], ts)
        d = max(max(abs(x - y) / max(abs(y), 1e-3) for x, y in zip(q[k], v)) for k, v in (("a", a), ("b", b), ("c", c)))
        out.setdefault("coef_vs_diffusers", {}).setdefault(lab, {})[name] = d


def probe_dpm(cfg, T):
    """x_{i+1} as a linear function of x_0 and eps_0..eps_i: run with unit vectors (diffusers' step is float32)."""
    res = []
    sc = DPMSolverMultistepScheduler(**cfg)
    torch.manual_seed(0)
    x0 = torch.randn(1, 1, 8, 8, dtype=torch.float64); es = torch.randn(T, 1, 1, 8, 8, dtype=torch.float64)
    sc.set_timesteps(T)
    x, ref = x0, []
    for t, e in zip(sc.timesteps, es):
        x = sc.step(e, t, x).prev_sample; ref.append(x.double())
    q = R.build_schedule("dpmpp2m", cfg, T)
    assert q["timesteps"] == sc.timesteps.tolist(), (q["timesteps"], sc.timesteps.tolist())
    x, mp, d = x0, None, 0
    for i in range(T):
        m = (x - q["sg"][i] * es[i]) / q["al"][i]
        x = q["A"][i] * x + q["P"][i] * m + (q["Q"][i] * mp if q["Q"][i] else 0)
        mp = m
        d = max(d, ((x - ref[i]).abs().max() / ref[i].abs().max()).item())
    return d, q["order"]


for c in M.cases():
    if c["scheduler"]["kind"] == "dpmpp2m" and c["method"] == "drtune":
        out["coef_vs_diffusers"].setdefault("dpmpp2m_trajectory", {})[c["name"]] = probe_dpm(c["scheduler"]["config"], c["T"])[0]
for T in (5, 10, 14, 15, 25, 50):
    for sp in ("leading", "linspace", "trailing"):
        cf = dict(M.SCHED, timestep_spacing=sp); cf.pop("clip_sample")
        out["coef_vs_diffusers"].setdefault("dpmpp2m_trajectory", {})[f"T{T}_{sp}"] = probe_dpm(cf, T)[0]

# 2. kappa: recurrence adjoint against autograd on the scalar chain, and the telescoped forms
mx = mxe = 0.0
for kind in ("ddpm", "ddim", "dpmpp2m"):
    for eta in ((0.0, 0.3, 1.0) if kind == "ddim" else (0.0,)):
        for T in (4, 6, 10, 25, 50):
            cf = dict(M.SCHED, set_alpha_to_one=False)
            q = R.build_schedule(kind, cf, T, eta)
            for stop in [None] + list(range(T)):
                e = torch.zeros(T, dtype=torch.float64, requires_grad=True)
                x, mp, x0 = torch.tensor(.7, dtype=torch.float64), None, None
                for i in range(T):
                    m = (x - q["sg"][i] * e[i]) / q["al"][i]
                    if i == stop:
                        x0 = m; break
                    if kind == "dpmpp2m":
                        x = q["A"][i] * x + q["P"][i] * m + (q["Q"][i] * mp if q["Q"][i] else 0)
                        mp = m
                    else:
                        x = q["a"][i] * x + q["b"][i] * e[i]
                x0 = x if x0 is None else x0
                g, = torch.autograd.grad(x0, e)
                k = torch.tensor(R.closed_form(q, stop), dtype=torch.float64)
                mx = max(mx, ((g - k).abs().max() / g.abs().max()).item())
                if kind != "dpmpp2m":
                    k2 = torch.tensor(R.closed_form_explicit(q, stop), dtype=torch.float64)
                    mxe = max(mxe, ((k2 - k).abs().max() / g.abs().max()).item())
out["kappa_vs_scalar_autograd_max_rel"], out["kappa_telescoped_vs_adjoint_max_rel"] = mx, mxe
q1, q2 = R.build_schedule("ddpm", M.SCHED, 50), R.build_schedule("ddim", dict(M.SCHED, set_alpha_to_one=True), 50, 1.0)
out["ddpm_vs_ddim_eta1_max_abs_coef_diff"] = max(max(abs(x - y) for x, y in zip(q1[k], q2[k])) for k in "abc")
out["kappa_T50_examples"] = {"ddpm": R.closed_form(q1)[::10], "ddim0": R.closed_form(R.build_schedule("ddim", M.SCHED, 50))[::10],
                             "dpmpp2m_T25": R.closed_form(R.build_schedule("dpmpp2m", M.SCHED, 25))[::5]}

# 3. forward of the whole loop against diffusers pipelines with the LoRA loaded through peft (float64)
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
fw = {}
for name in ("drtune_ddpm_full", "drtune_ddim0_full", "drtune_ddim1_full", "drtune_dpmpp2m_full", "drtune_ddpm_batch2", "xl_drtune_dpmpp2m_full",
             "xl_drtune_dpmpp2m_emptyuncond"):
    c = dict({x["name"]: x for x in M.cases()}[name])
    c["t_min"] = 0
    s = c["scheduler"]
    m = M.model_for(c, torch.float64)
    t = M.tensors(c, {k: tuple(v.shape) for k, v in m.lora.items()})
    # noises as the pipeline draws them
    g = torch.Generator().manual_seed(77)
    t["noise"] = torch.stack([torch.randn(t["x_T"].shape, generator=g, dtype=torch.float64) for _ in range(c["T"])])
    m, tt = M.prep(c, t)
    with torch.no_grad():
        e = m.encode(c["prompts"], c["latent_hw"], c["uncond"])
        sch = R.build_schedule(s["kind"], s["config"], c["T"], s["eta"], "diffusers" if s["kind"] != "dpmpp2m" else np.float64)
        o = R.sample(m, sch, t["x_T"].double(), t["noise"], e, c["guidance_scale"], [], 0, True)
    p = DiffusionPipeline.from_pretrained(f"{H}/{c['pipeline']}", dtype=torch.float32)
    p.set_progress_bar_config(disable=True)
    for k in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(p, k, None) is not None:
            getattr(p, k).double()
    p.unet.add_adapter(LoraConfig(r=c["lora"]["r"], lora_alpha=c["lora"]["alpha"], target_modules=c["lora"]["targets"], init_lora_weights=False))
    sd = get_peft_model_state_dict(p.unet, adapter_name="default")
    assert set(sd) == set(m.lora), list(sd)[:3]
    pr = dict(p.unet.named_parameters())
    with torch.no_grad():
        for k, v in M.lora_tensors(t).items():
            pr[k.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")].data = v.double()
    cl = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpmpp2m": DPMSolverMultistepScheduler}[s["kind"]]
    p.scheduler = cl(**s["config"])
    kw = {}
    if c["uncond"] == "empty" and m.xl:
        kw["negative_prompt"] = [""] * len(c["prompts"])
    H_, W_ = (2 * v for v in c["latent_hw"])
    if m.xl:
        kw.update(height=H_, width=W_)
        im = p(c["prompts"], num_inference_steps=c["T"], guidance_scale=c["guidance_scale"], latents=t["x_T"].double(), eta=s["eta"],
               generator=torch.Generator().manual_seed(77), output_type="latent", **kw).images
    else:
        # StableDiffusionPipeline insists on sides divisible by 8: 32x32 and 32x16 are
        im = p(c["prompts"], num_inference_steps=c["T"], guidance_scale=c["guidance_scale"], latents=t["x_T"].double(), eta=s["eta"],
               generator=torch.Generator().manual_seed(77), output_type="latent", height=H_, width=W_).images
    fw[name] = ((im - o["x0"]).abs().max() / im.abs().max()).item()
out["forward_vs_diffusers_pipeline_with_peft_max_rel"] = fw

# 4. central finite differences of the true gradient (draft-t: nothing detached) along random LoRA directions
fd = {}
for name in ("draftt_ddpm", "draftt_ddim0", "draftt_dpmpp2m"):
    c = {x["name"]: x for x in M.cases()}[name]
    m = M.model_for(c, torch.float64)
    t = M.tensors(c, {k: tuple(v.shape) for k, v in m.lora.items()})
    m, tt = M.prep(c, t)
    r = R.train_step(m, c, tt)
    g = torch.Generator().manual_seed(5)
    dirn = {k: torch.randn(v.shape, generator=g, dtype=torch.float64) for k, v in m.lora.items()}
    an = sum((r["grads"][k] * dirn[k]).sum() for k in dirn).item()
    L = []
    for h in (1e-5, -1e-5):
        with torch.no_grad():
            for k, p in m.lora.items():
                p.copy_(t["lora." + k].double() + h * dirn[k])
        L.append(R.train_step(m, c, tt)["loss"].item())
    fd[name] = abs((L[0] - L[1]) / 2e-5 - an) / abs(an)
out["finite_difference_rel_draft_t"] = fd

# 5. closed form summary over all cases
cf, f32 = {}, {}
for n in sorted(os.listdir(H + "/cases")):
    f = f"{H}/cases/{n}/case.json"
    if os.path.exists(f):
        k = json.load(open(f))["checks"]
        f32[n] = k["float32_rel_max"]
        if "closed_form_rel_max_splitcfg" in k:
            cf[n] = max(k["closed_form_rel_max_splitcfg"], k["closed_form_rel_max_joint"])
out["closed_form_vs_autograd"] = {"cases": len(cf), "max_rel": max(cf.values()), "worst": max(cf, key=cf.get)}
out["float32_vs_float64_grad"] = {"cases": len(f32), "max_rel": max(f32.values()), "worst": max(f32, key=f32.get), "median": sorted(f32.values())[len(f32) // 2]}
# 6. how far off some plausible mistakes are (L2 relative error of the whole LoRA gradient): what the fixtures must catch
def grads_with(name, kap=None, cond_only=False, **over):
    c = dict({x["name"]: x for x in M.cases()}[name])
    m = M.model_for(c, torch.float64)
    t = M.tensors(c, {k: tuple(v.shape) for k, v in m.lora.items()})
    m, tt = M.prep(c, t)
    ref = R.train_step(m, c, tt)
    if over.pop("clamp", False):
        old = m.decode
        m.decode = lambda z: old(z, True)
        g = R.train_step(m, c, tt)["grads"]
        m.decode = old
        return R.rel(g, ref["grads"])[1]
    if "sgin" in over:
        old = R.plan
        R.plan = lambda q: (*old(q)[:2], over["sgin"])
        g = R.train_step(m, c, tt)["grads"]; R.plan = old
        return R.rel(g, ref["grads"])[1]
    if "train" in over:
        old = R.plan
        R.plan = lambda q: (over["train"](c, old(q)[0]), *old(q)[1:])
        g = R.train_step(m, c, tt)["grads"]; R.plan = old
        return R.rel(g, ref["grads"])[1]
    old, olde = R.closed_form, m.eps
    if kap:
        R.closed_form = kap
    if cond_only:
        def ep(x, t_, e, w, parts=False):
            u, cn = olde(x, t_, e, w, True)
            return (u.detach() * 1, cn) if parts else u.detach() + w * (cn - u.detach())
        m.eps = ep
    g = R.closed_form_grads(m, c, tt, split_cfg=False)[0]
    R.closed_form, m.eps = old, olde
    return R.rel(g, ref["grads"])[1]


def k_inverse(s, stop=None):
    T, k, u, hi = s["T"], [0.] * s["T"], 1.0, s["T"]
    if stop is not None:
        k[stop], u, hi = -s["sg"][stop] / s["al"][stop], 1 / s["al"][stop], stop
    for i in range(hi - 1, -1, -1):
        k[i] = s["b"][i] * u
        u /= s["a"][i]
    return k


def k_nomulti(s, stop=None):
    q = dict(s, Q=[0.0] * s["T"])
    return R_closed(q, stop)


def k_firstorder(s, stop=None):
    q = dict(s, Q=[0.0] * s["T"], P=[p + x for p, x in zip(s["P"], s["Q"])])
    return R_closed(q, stop)


R_closed = R.closed_form
out["mistakes_rel_l2"] = {
    "eq5_with_inverse_a": grads_with("drtune_ddpm_full", k_inverse),
    "eq5_with_inverse_a_T50": grads_with("drtune_ddpm_T50_K5", k_inverse),
    "dpmpp2m_without_cross_step_term": grads_with("drtune_dpmpp2m_full", k_nomulti),
    "dpmpp2m_first_order_adjoint": grads_with("drtune_dpmpp2m_full", k_firstorder),
    "dpmpp2m_first_order_adjoint_T25_xl": grads_with("xl_drtune_dpmpp2m_T25_K3", k_firstorder),
    "cfg_gradient_through_cond_only": grads_with("drtune_ddpm_full", None, True),
    "no_input_stopgrad": grads_with("drtune_ddpm_full", sgin=False),
    "no_input_stopgrad_T50": grads_with("drtune_ddpm_T50_K5", sgin=False),
    "draft_t_with_stopgrad": grads_with("draftt_ddpm", sgin=True),
    "image_clamped_0_1": grads_with("drtune_ddpm_full", clamp=True),
    "t_counted_from_noisy_end": grads_with("drtune_ddpm_early", train=lambda c, tr: [c["T"] + 1 - x for x in tr]),
    "t_min_trained_though_not_in_t_train": grads_with("drtune_ddpm_early_untrained", train=lambda c, tr: tr + [c["t_min"]]),
    "prod_a_T50_ddpm": float(np.prod(R.build_schedule("ddpm", M.SCHED, 50)["a"])),
}
json.dump(out, open(H + "/verify.json", "w"), indent=1)
print(json.dumps(out, indent=1))
