#!/usr/bin/env python3
"""Writes schedulers/steps.json: of DDIM under every spacing and prediction, each step's [timestep, factor of x, factor of the
output] as diffusers' step has them in float64, also where the timestep that it steps to is none of its list (linspace);
and LCM's timesteps for numbers of steps that do not divide its 50. Needs diffusers 0.42 and torch."""
import json, os
import torch
from diffusers import DDIMScheduler, LCMScheduler

BASE = dict(num_train_timesteps=1000, beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1)


def factors(scheduler, steps):
    scheduler.set_timesteps(steps)
    one, none = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (1, 0))
    step = lambda t, x, output: scheduler.step(output, t, x, eta=0.).prev_sample.item()
    return [[int(t), step(t, one, none), step(t, none, one)] for t in scheduler.timesteps]


found = {"ddim": [], "lcm": {}}
for spacing in ("linspace", "trailing", "leading"):
    for prediction in ("epsilon", "v_prediction", "sample"):
        config = dict(timestep_spacing=spacing, prediction_type=prediction)
        found["ddim"].append({"config": {**BASE, **config}, "steps": factors(DDIMScheduler(**BASE, **config), 7)})
for steps in (8, 26, 27, 40):
    scheduler = LCMScheduler(**BASE)
    scheduler.set_timesteps(steps)
    found["lcm"][steps] = [int(t) for t in scheduler.timesteps]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "schedulers", "steps.json"), "w") as f:
    json.dump(found, f)
    f.write("\n")
