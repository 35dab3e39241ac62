#!/usr/bin/env python3
"""Writes lcm/cond_proj.safetensors, a projection of the scale of guidance as latent consistency models have one, and
lcm/picture.npy, the picture [H, W, 3] of diffusers with tests/golden/tiny-sd's U-Net under it: "a fox", DDIM, 4 steps,
guidance 3, from steps_offset/latents.safetensors. Needs diffusers 0.42 and torch."""
import os
import numpy as np, torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "golden", "tiny-sd")
WIDTH = 6
torch.manual_seed(0)
projection = torch.randn(32, WIDTH)
config = dict(UNet2DConditionModel.load_config(os.path.join(TINY, "unet")), time_cond_proj_dim=WIDTH)
unet = UNet2DConditionModel.from_config(config)
weights = load_file(os.path.join(TINY, "unet", "diffusion_pytorch_model.safetensors"))
unet.load_state_dict({**weights, "time_embedding.cond_proj.weight": projection})
pipe = StableDiffusionPipeline.from_pretrained(TINY, unet=unet, safety_checker=None)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
latents = load_file(os.path.join(HERE, "steps_offset", "latents.safetensors"))["x"]
picture = pipe("a fox", num_inference_steps=4, guidance_scale=3, latents=latents, output_type="np").images[0]
save_file({"weight": projection}, os.path.join(HERE, "lcm", "cond_proj.safetensors"))
np.save(os.path.join(HERE, "lcm", "picture.npy"), picture.astype(np.float32))
