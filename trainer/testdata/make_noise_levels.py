#!/usr/bin/env python3
"""Writes noise_levels.json: what diffusers' training schedulers add to a clean sample, and what a model should answer."""
import json, os
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

torch.manual_seed(0)
out = []
clean, noise = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
for prediction_type in ("epsilon", "v_prediction", "sample"):
    s = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type)
    for t in (0, 1, 250, 999):
        at = torch.tensor([t])
        target = {"epsilon": noise, "sample": clean, "v_prediction": s.get_velocity(clean[None], noise[None], at)[0]}
        out.append(dict(prediction_type=prediction_type, timestep=t, noised=s.add_noise(clean[None], noise[None], at)[0].tolist(),
                        target=target[prediction_type].tolist()))
s = FlowMatchEulerDiscreteScheduler()
for i in (0, 400, 998):
    at = s.timesteps[i : i + 1]
    # train_dreambooth_flux.py: model_input is what scale_noise makes, the target noise - clean.
    out.append(dict(prediction_type="flow", timestep=at.item(),
                    noised=s.scale_noise(clean[None].float(), at, noise[None].float())[0].tolist(), target=(noise - clean).tolist()))
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "noise_levels.json"), "w") as f:
    json.dump(dict(clean=clean.tolist(), noise=noise.tolist(), levels=out), f)
