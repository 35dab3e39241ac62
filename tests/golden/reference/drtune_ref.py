#!/usr/bin/env python3
"""Plain-autograd PyTorch reference of the DRTune training step (arXiv 2405.00760), an oracle for
parity tests of another implementation.  No trick: each method is the sampling loop with detach()
where the paper's Algorithm 1 says sg(.), then torch.autograd.grad.  docs/formulas.md has the derivations.

Conventions
  i  = 0..T-1  step index in sampling order, i=0 the noisiest;  N = T.
  t  = T-i     the paper's step number (t=T noisiest, t=1 last).  case files give the paper's t.
  ab_i         alphas_cumprod at the timestep of step i;  al_i = sqrt(ab_i), sg_i = sqrt(1-ab_i)
"""
import json, math
import numpy as np
import torch
from torch import nn

# ----------------------------------------------------------------------------- LoRA
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


class LoRALinear(nn.Module):
    """y = W x + bias + (alpha/r) B A x   (no dropout)"""

    def __init__(self, base, r, alpha):
        super().__init__()
        self.base, self.scale = base, alpha / r
        kw = dict(bias=False, dtype=base.weight.dtype, device=base.weight.device)
        self.lora_A = nn.Linear(base.in_features, r, **kw)
        self.lora_B = nn.Linear(r, base.out_features, **kw)

    def forward(self, x, *a, **k):
        return self.base(x) + self.scale * self.lora_B(self.lora_A(x))


def inject_lora(unet, r, alpha):
    """-> ordered {name: parameter}; names like
    down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"""
    unet.requires_grad_(False)
    hits = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear) and ".attn" in n
            and any(n.endswith("." + t) for t in TARGETS)]
    out = {}
    for n in hits:
        parent, leaf = n.rsplit(".", 1)
        p = unet.get_submodule(parent)
        new = LoRALinear(p[int(leaf)] if leaf.isdigit() else getattr(p, leaf), r, alpha)
        if leaf.isdigit():
            p[int(leaf)] = new
        else:
            setattr(p, leaf, new)
        out[n + ".lora_A.weight"] = new.lora_A.weight
        out[n + ".lora_B.weight"] = new.lora_B.weight
    return out


def set_lora(params, tensors):
    with torch.no_grad():
        for k, p in params.items():
            p.copy_(tensors[k].to(p.dtype))
            p.requires_grad_(True)


# ----------------------------------------------------------------------------- schedules
def alphas_cumprod(c, dtype=np.float64):
    """dtype=float64: the schedule of the formulas (what the fixtures use).
    'diffusers': float32 linspace/cumprod exactly as diffusers does."""
    n = c["num_train_timesteps"]
    if dtype == "diffusers":
        if c["beta_schedule"] == "scaled_linear":
            b = torch.linspace(c["beta_start"] ** .5, c["beta_end"] ** .5, n, dtype=torch.float32) ** 2
        else:
            b = torch.linspace(c["beta_start"], c["beta_end"], n, dtype=torch.float32)
        return torch.cumprod(1 - b, 0).double().numpy()
    if c["beta_schedule"] == "scaled_linear":
        b = np.linspace(c["beta_start"] ** .5, c["beta_end"] ** .5, n) ** 2
    elif c["beta_schedule"] == "linear":
        b = np.linspace(c["beta_start"], c["beta_end"], n)
    else:
        raise ValueError(c["beta_schedule"])
    return np.cumprod(1 - b)


def timesteps(kind, c, T):
    n, sp, off = c["num_train_timesteps"], c["timestep_spacing"], c.get("steps_offset", 0)
    if kind == "dpmpp2m":
        if sp == "linspace":
            return np.linspace(0, n - 1, T + 1).round()[::-1][:-1].astype(int).tolist()
        if sp == "leading":
            return ((np.arange(0, T + 1) * (n // (T + 1)))[::-1][:-1] + off).astype(int).tolist()
    else:
        if sp == "linspace":
            return np.linspace(0, n - 1, T).round()[::-1].astype(int).tolist()
        if sp == "leading":
            return ((np.arange(0, T) * (n // T))[::-1] + off).astype(int).tolist()
    if sp == "trailing":
        return (np.round(np.arange(n, 0, -n / T)) - 1).astype(int).tolist()
    raise ValueError(sp)


def build_schedule(kind, c, T, eta=0.0, dtype=np.float64):
    """kind: ddpm | ddim | dpmpp2m.  Everything is a python float (float64).
    ddpm, ddim:  x_{i+1} = a_i x_i + b_i eps_i + c_i n_i
    dpmpp2m:     m_i = (x_i - sg_i eps_i)/al_i ;  x_{i+1} = A_i x_i + P_i m_i + Q_i m_{i-1}
    """
    ac = alphas_cumprod(c, dtype)
    ts = timesteps(kind, c, T)
    s = {"kind": kind, "T": T, "timesteps": ts, "ab": [float(ac[t]) for t in ts]}
    if kind in ("ddpm", "ddim"):
        a, b, cc, abp = [], [], [], []
        for i, t in enumerate(ts):
            A = float(ac[t])
            if kind == "ddpm":        # diffusers DDPMScheduler: next timestep of the list; 1.0 after the last
                p = float(ac[ts[i + 1]]) if i + 1 < T else 1.0
                at, bt = A / p, 1 - A / p
                a.append(1 / math.sqrt(at))
                b.append(-bt / (math.sqrt(at) * math.sqrt(1 - A)))
                var = max((1 - p) / (1 - A) * bt, 1e-20)      # fixed_small, clamped as diffusers
                cc.append(math.sqrt(var) if t > 0 else 0.0)
            else:                     # diffusers DDIMScheduler: t - n//T; final_alpha_cumprod below 0
                pt = t - c["num_train_timesteps"] // T
                p = float(ac[pt]) if pt >= 0 else (1.0 if c.get("set_alpha_to_one", True) else float(ac[0]))
                sg2 = eta ** 2 * (1 - p) / (1 - A) * (1 - A / p)
                a.append(math.sqrt(p / A))
                b.append(math.sqrt(max(1 - p - sg2, 0.0)) - math.sqrt(p * (1 - A) / A))
                cc.append(math.sqrt(sg2))
            abp.append(p)
        s.update(a=a, b=b, c=cc, ab_next=abp, eta=eta)
    else:
        sig = [math.sqrt((1 - x) / x) for x in s["ab"]]        # sigma in the "EDM" sense s = sg/al
        last = 0.0 if c.get("final_sigmas_type", "zero") == "zero" else math.sqrt((1 - ac[0]) / ac[0])
        sig.append(last)
        al = [1 / math.sqrt(x * x + 1) for x in sig]
        sg = [x * y for x, y in zip(sig, al)]
        lam = [math.log(al[k] / sg[k]) if sg[k] > 0 else math.inf for k in range(T + 1)]
        A_, P_, Q_, order = [], [], [], []
        for i in range(T):
            h = lam[i + 1] - lam[i]
            A = sg[i + 1] / sg[i]
            G = al[i + 1] * (1 - math.exp(-h))                 # -alpha_t (exp(-h) - 1)
            lof = i == T - 1 and (c.get("euler_at_final", False) or (c.get("lower_order_final", True) and T < 15)
                                  or c.get("final_sigmas_type", "zero") == "zero")
            if i == 0 or lof or c.get("solver_order", 2) == 1:
                P, Q, o = G, 0.0, 1
            else:
                r = (lam[i] - lam[i - 1]) / h
                P, Q, o = G * (1 + 1 / (2 * r)), -G / (2 * r), 2     # midpoint: D0 + 0.5 D1
            A_.append(A); P_.append(P); Q_.append(Q); order.append(o)
        s.update(A=A_, P=P_, Q=Q_, order=order, al_final=al[T], sg_final=sg[T])
    s["al"] = [math.sqrt(x) for x in s["ab"]]
    s["sg"] = [math.sqrt(1 - x) for x in s["ab"]]
    return s


def closed_form(s, stop=None):
    """kappa_i = d x0 / d eps_i with every denoiser input detached (stop = index of the early-stop
    step, or None).  x0 is the latent given to the VAE.  Length T (zeros after the stop)."""
    T, al, sg = s["T"], s["al"], s["sg"]
    k = [0.0] * T
    if s["kind"] != "dpmpp2m":
        if stop is None:
            u, hi = 1.0, T                              # u = d x0 / d x_{i+1}
        else:
            k[stop], u, hi = -sg[stop] / al[stop], 1 / al[stop], stop
        for i in range(hi - 1, -1, -1):
            k[i] = s["b"][i] * u
            u *= s["a"][i]
        return k
    # adjoint of (x, m_prev); v_i = d x0/d m_i ; u_i = d x0/d x_i (through x and through m_i)
    A, P, Q = s["A"], s["P"], s["Q"]
    if stop is None:
        u1, u2, hi = 1.0, 0.0, T                        # u_{i+1}, u_{i+2}
    else:
        k[stop], u1, u2, hi = -sg[stop] / al[stop], 1 / al[stop], 0.0, stop
    for i in range(hi - 1, -1, -1):
        # m_i enters x_{i+1} with P_i and x_{i+2} with Q_{i+1} (that one only if step i+1 was taken)
        v = P[i] * u1 + (Q[i + 1] * u2 if i + 1 < hi else 0.0)
        k[i] = -(sg[i] / al[i]) * v
        u1, u2 = A[i] * u1 + v / al[i], u1
    return k


def closed_form_explicit(s, stop=None):
    """telescoped forms for ddpm/ddim (no loop over products)."""
    T, k = s["T"], [0.0] * s["T"]
    hi = T if stop is None else stop
    scale = math.sqrt(s["ab_next"][-1]) if stop is None else 1.0
    for i in range(hi):
        k[i] = s["b"][i] * scale / math.sqrt(s["ab_next"][i])
    if stop is not None:
        k[stop] = -s["sg"][stop] / s["al"][stop]
    return k


# ----------------------------------------------------------------------------- method -> (train set, t_min, sg input)
def drtune_steps(T, K, s):
    """t_train = {s + i floor(T/K), i=0..K-1}; needs 1 <= s <= T-(K-1) floor(T/K)."""
    d = T // K
    assert 1 <= s <= T - (K - 1) * d, (s, T, K)
    return [s + i * d for i in range(K)]


def plan(case):
    m, T = case["method"], case["T"]
    if m == "drtune":
        tr, tmin, sgin = case["train_steps"], case["t_min"], True
    elif m == "refl":
        tr, tmin, sgin = [case["t_min"]], case["t_min"], False
    elif m in ("draft-k", "draft-lv"):
        tr, tmin, sgin = list(range(1, case["K"] + 1)), 0, False
    elif m == "draft-t":
        tr, tmin, sgin = list(range(1, T + 1)), 0, False
    elif m == "alignprop":       # K is the truncation drawn, train {t <= K}
        tr, tmin, sgin = list(range(1, case["K"] + 1)), 0, False
    else:
        raise ValueError(m)
    return sorted(tr), tmin, sgin or case.get("input_stopgrad", False)


# ----------------------------------------------------------------------------- pipeline
class Model:
    def __init__(self, path, dtype=torch.float64, r=4, alpha=4.0, device="cpu"):
        from diffusers import DiffusionPipeline
        self.pipe = DiffusionPipeline.from_pretrained(path, dtype=torch.float32)
        p = self.pipe
        self.dtype, self.device = dtype, device
        self.xl = hasattr(p, "text_encoder_2") and p.text_encoder_2 is not None
        for m in [p.unet, p.vae, p.text_encoder] + ([p.text_encoder_2] if self.xl else []):
            m.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.unet, self.vae = p.unet, p.vae
        self.lora = inject_lora(p.unet, r, alpha)
        self.f = 2 ** (len(p.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, prompts, hw=None, uncond="empty"):
        """-> dict(cond, unc [, pooled, unc_pooled, time_ids]); hw = latent (h, w)."""
        p = self.pipe

        def ids(tok, x):
            return tok(x, padding="max_length", max_length=tok.model_max_length, truncation=True,
                       return_tensors="pt").input_ids.to(self.device)

        def one(x):
            if not self.xl:
                i = ids(p.tokenizer, x)
                return p.text_encoder(i)[0], None, [i]
            i1, i2 = ids(p.tokenizer, x), ids(p.tokenizer_2, x)
            o1 = p.text_encoder(i1, output_hidden_states=True)
            o2 = p.text_encoder_2(i2, output_hidden_states=True)
            return torch.cat([o1.hidden_states[-2], o2.hidden_states[-2]], -1), o2[0], [i1, i2]

        c, cp, tid = one(prompts)
        u, up, uid = one([""] * len(prompts))
        if uncond == "zeros":        # SDXL pipelines with force_zeros_for_empty_prompt
            u, up = torch.zeros_like(u), (torch.zeros_like(up) if up is not None else None)
        e = {"cond": c, "unc": u, "ids": tid, "unc_ids": uid}
        if self.xl:
            H, W = hw[0] * self.f, hw[1] * self.f
            e.update(pooled=cp, unc_pooled=up,
                     time_ids=torch.tensor([[H, W, 0, 0, H, W]] * len(prompts), dtype=self.dtype, device=self.device))
        return e

    def eps(self, x, t, e, w, parts=False):
        """guided noise; CFG with uncond first in the batch, gradient through both branches.
        w == 1 -> the conditional branch alone."""
        xi = x if w == 1 else torch.cat([x, x])
        h = e["cond"] if w == 1 else torch.cat([e["unc"], e["cond"]])
        kw = {}
        if self.xl:
            kw["added_cond_kwargs"] = {
                "text_embeds": e["pooled"] if w == 1 else torch.cat([e["unc_pooled"], e["pooled"]]),
                "time_ids": e["time_ids"] if w == 1 else torch.cat([e["time_ids"]] * 2)}
        o = self.unet(xi, torch.tensor(t, device=self.device), encoder_hidden_states=h, return_dict=False, **kw)[0]
        if w == 1:
            return o
        u, c = o.chunk(2)
        return (u, c) if parts else u + w * (c - u)

    def decode(self, x0, clamp=False):
        """image in [0,1] nominally, NCHW; clamp off: a clamp kills the gradient of every pixel out of
        range, so the reference leaves it out of the training path."""
        im = self.vae.decode(x0 / self.vae.config.scaling_factor, return_dict=False)[0] / 2 + .5
        return im.clamp(0, 1) if clamp else im


def sample(model, s, x, noises, e, w, train, t_min, sgin, keep=True, clock=None):
    """Algorithm 1 lines 12-23.  -> dict(x0, latents_last, xs, eps, stop)."""
    T, m_prev, xs, es = s["T"], None, [], []
    train = set(train)
    for i in range(T):
        t = T - i
        xs.append(x.detach())
        with torch.set_grad_enabled(t in train):         # sg(eps) at untrained steps
            ep = model.eps(x.detach() if sgin else x, s["timesteps"][i], e, w)
        if t not in train:
            ep = ep.detach()
        es.append(ep.detach())
        if t == t_min:
            x0 = (x - s["sg"][i] * ep) / s["al"][i]
            return {"x0": x0, "latents_last": x.detach(), "xs": xs, "eps": es, "stop": i}
        if s["kind"] == "dpmpp2m":
            m = (x - s["sg"][i] * ep) / s["al"][i]
            x = s["A"][i] * x + s["P"][i] * m + (s["Q"][i] * m_prev if s["Q"][i] else 0.0)
            m_prev = m
        else:
            x = s["a"][i] * x + s["b"][i] * ep
            if s["c"][i]:
                x = x + s["c"][i] * noises[i]
    return {"x0": x, "latents_last": x.detach(), "xs": xs, "eps": es, "stop": None}


def loss_of(image, G=None, reward=None):
    """upstream gradient G: L = sum(G*image); or L = reward(image) (a score: no sign, no weight)."""
    return (G * image).sum() if reward is None else reward(image)


def train_step(model, case, t):
    """t: tensors x_T, noise (T,B,C,h,w), image_grad (or a 'reward' callable), redraw_noise for draft-lv.
    -> results dict; grads keyed by LoRA names."""
    dt = model.dtype
    c = case["scheduler"]
    s = build_schedule(c["kind"], c["config"], case["T"], c.get("eta", 0.0))
    x, nz = t["x_T"].to(dt), t["noise"].to(dt)
    G = t["image_grad"].to(dt) if t.get("image_grad") is not None else None
    e = model.encode(case["prompts"], x.shape[-2:], case.get("uncond", "empty"))
    train, tmin, sgin = plan(case)
    w = case["guidance_scale"]
    o = sample(model, s, x, nz, e, w, train, tmin, sgin)
    img = model.decode(o["x0"])
    names, ps = list(model.lora), list(model.lora.values())
    L = loss_of(img, G, t.get("reward"))
    g = torch.autograd.grad(L, ps, allow_unused=True)
    g = {n: (torch.zeros_like(p) if v is None else v) for n, p, v in zip(names, ps, g)}
    r = {"sched": s, "enc": e, "x0": o["x0"].detach(), "latents_last": o["latents_last"], "image": img.detach(),
         "loss": L.detach(), "xs": o["xs"], "eps": o["eps"], "stop": o["stop"], "train": train, "t_min": tmin,
         "sgin": sgin, "grads": g}
    if case["method"] == "draft-lv":
        r["grad_main"], r["redraw"] = {k: v.clone() for k, v in g.items()}, []
        i = s["T"] - 1
        for n in t["redraw_noise"].to(dt):
            x1 = s["al"][i] * o["x0"].detach() + s["sg"][i] * n
            ep = model.eps(x1, s["timesteps"][i], e, w)
            x0 = (x1 - s["sg"][i] * ep) / s["al"][i]
            im = model.decode(x0)
            L = loss_of(im, G, t.get("reward"))
            gj = dict(zip(names, torch.autograd.grad(L, ps)))
            r["redraw"].append({"x1": x1, "x0": x0.detach(), "image": im.detach(), "loss": L.detach(), "grads": gj})
            for k in g:
                g[k] += gj[k]
    return r


def closed_form_grads(model, case, t, split_cfg=True, r=None):
    """K independent VJPs, each with the scalar kappa_i times d L/d x0 (input-stop-grad methods)."""
    dt = model.dtype
    c = case["scheduler"]
    s = build_schedule(c["kind"], c["config"], case["T"], c.get("eta", 0.0))
    train, tmin, sgin = plan(case)
    assert sgin or len(train) == 1
    w = case["guidance_scale"]
    x, nz = t["x_T"].to(dt), t["noise"].to(dt)
    e = model.encode(case["prompts"], x.shape[-2:], case.get("uncond", "empty"))
    with torch.no_grad():
        o = sample(model, s, x, nz, e, w, [], tmin, True)
    x0 = o["x0"].detach().requires_grad_(True)
    img = model.decode(x0)
    L = loss_of(img, t["image_grad"].to(dt) if t.get("image_grad") is not None else None, t.get("reward"))
    g0, = torch.autograd.grad(L, x0)
    kap = closed_form(s, o["stop"])
    names, ps = list(model.lora), list(model.lora.values())
    tot = {n: torch.zeros_like(p) for n, p in model.lora.items()}
    for tt in train:
        i = s["T"] - tt
        if o["stop"] is not None and i > o["stop"]:
            continue                                     # never reached
        if w != 1 and split_cfg:
            u, cnd = model.eps(o["xs"][i], s["timesteps"][i], e, w, parts=True)
            gs = torch.autograd.grad([u, cnd], ps, [(1 - w) * kap[i] * g0, w * kap[i] * g0])
        else:
            gs = torch.autograd.grad(model.eps(o["xs"][i], s["timesteps"][i], e, w), ps, kap[i] * g0)
        for n, v in zip(names, gs):
            tot[n] += v
    return tot, kap, g0


def rel(a, b):
    """max over tensors of max|a-b| / max|b| over the whole set, and the L2 relative error."""
    ma = max((a[k] - b[k]).abs().max().item() for k in b)
    mb = max(b[k].abs().max().item() for k in b)
    l2 = math.sqrt(sum((a[k].double() - b[k].double()).pow(2).sum().item() for k in b) /
                   max(sum(b[k].double().pow(2).sum().item() for k in b), 1e-300))
    return ma / max(mb, 1e-300), l2
