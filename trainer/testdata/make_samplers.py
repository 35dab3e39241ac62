#!/usr/bin/env python3
"""Writes samplers.json: trajectories of diffusers' own schedulers, run in float64, and their timesteps as published, in
float32: for Karras' levels of squaredcos_cap_v2 they are truncated, and the precision decides the first one.

Needs diffusers 0.42 and torch. The denoiser's outputs and the noise are sines that the test computes too."""
import json, math, os
import numpy as np, torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_lcm


class In64:
    """A module whose float32 is float64: the schedulers ask for float32 by name."""

    def __init__(self, module, double):
        self._module, self.float32 = module, double

    def __getattr__(self, name):
        return getattr(self._module, name)


def use(torch_module, np_module):
    for m in (scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_lcm):
        m.torch, m.np = torch_module, np_module


CLASSES = {"ddpm": scheduling_ddpm.DDPMScheduler, "ddim": scheduling_ddim.DDIMScheduler,
           "dpmsolver++": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
           "lcm": scheduling_lcm.LCMScheduler}
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)


def wave(a, i):
    return torch.tensor([math.sin(a + 2 * i + 3 * j) for j in range(2)], dtype=torch.float64).reshape(1, 2, 1, 1)


def scheduler(kind, config):
    extra = {} if kind == "dpmsolver++" else {"clip_sample": False}
    return CLASSES[kind](**config, **extra)


def published_timesteps(kind, steps, config):
    use(torch, np)
    s = scheduler(kind, config)
    s.set_timesteps(steps)
    use(In64(torch, torch.float64), In64(np, np.float64))
    return s.timesteps.tolist()


def trajectory(kind, steps, config, eta):
    timesteps = published_timesteps(kind, steps, config)
    s, x, xs = scheduler(kind, config), wave(0.5, 0), []
    s.set_timesteps(steps)
    for i, t in enumerate(s.timesteps):
        o, n = wave(1, i), wave(2, i)
        scheduling_ddpm.randn_tensor = scheduling_lcm.randn_tensor = lambda *a, **k: n
        kw = {"eta": eta, "variance_noise": n} if kind == "ddim" and eta else {}
        x = s.step(o, int(t) if kind == "lcm" else t, x, **kw).prev_sample  # LCM multiplies it, in float32 where it is a tensor.
        assert x.dtype == torch.float64
        xs += x.flatten().tolist()
    return {"kind": kind, "steps": steps, "eta": eta, "config": config, "timesteps": timesteps, "x": xs}


def cases():
    v = dict(prediction_type="v_prediction")
    zero = dict(v, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for kind in CLASSES:
        for steps in (5, 20):
            yield kind, steps, SD, 0.0
        yield kind, 7, dict(SD, **v), 0.0
        yield kind, 7, dict(SD, prediction_type="sample"), 0.0
        yield kind, 6, dict(beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace"), 0.0
        yield kind, 6, dict(SD, timestep_spacing="trailing", num_train_timesteps=777), 0.0
        yield kind, 6, dict(SD, **zero), 0.0
        yield kind, 1, SD, 0.0
        yield kind, 4, {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"} if kind == "lcm" else {}, 0.0
        few = {"original_inference_steps": 10} if kind == "lcm" else {}
        yield kind, 3, dict(few, trained_betas=[0.01 * (i + 1) for i in range(20)], num_train_timesteps=20), 0.0
    yield "ddim", 6, SD, 0.7
    yield "ddim", 6, dict(SD, set_alpha_to_one=False), 1.0
    for k in (dict(use_karras_sigmas=True), dict(final_sigmas_type="sigma_min"), dict(solver_order=1),
              dict(final_sigmas_type="sigma_min", lower_order_final=False), dict(final_sigmas_type="sigma_min", euler_at_final=True),
              dict(use_karras_sigmas=True, beta_schedule="squaredcos_cap_v2"), dict(use_karras_sigmas=True, **v)):
        yield "dpmsolver++", 6, dict(SD, **k), 0.0
        yield "dpmsolver++", 16, dict(SD, **k), 0.0
    yield "lcm", 8, dict(SD, original_inference_steps=40, timestep_scaling=0.001), 0.0
    # A level at position 747.5, which float32 rounds up.
    yield "dpmsolver++", 50, dict(beta_schedule="scaled_linear", beta_end=.012, use_karras_sigmas=True), 0.0


grid = []
for kind in CLASSES:
    if kind == "lcm":
        grid += [[kind, "leading", steps, published_timesteps(kind, steps, {})] for steps in (1, 2, 3, 4, 6, 7, 8, 16, 25, 50)]
        continue
    for spacing in ("linspace", "leading", "trailing"):
        for steps in (2, 3, 7, 12, 16, 25, 30, 48, 50, 96):
            grid.append([kind, spacing, steps, published_timesteps(kind, steps, {"timestep_spacing": spacing})])
out = {"trajectories": [trajectory(*c) for c in cases()], "timesteps": grid}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "samplers.json"), "w") as f:
    f.write("{\n" + ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(r) for r in v) + "\n]" for k, v in out.items()) + "\n}\n")
