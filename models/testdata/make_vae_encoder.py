#!/usr/bin/env python3
"""Writes vae_encoder.safetensors: what diffusers' encoders make of a random image, in float64, with the weights of zoo/."""
import os
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

torch.manual_seed(0)
here = os.path.dirname(os.path.abspath(__file__))
out = {}
for name in ("pipeline", "flow_pipeline"):
    vae = AutoencoderKL.from_pretrained(os.path.join(here, "../../zoo", name, "vae")).double()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    image = torch.rand(2, 3, 6 * factor, 4 * factor, dtype=torch.float64)
    with torch.no_grad():
        moments = vae.encode(2 * image - 1).latent_dist.parameters
    out |= {f"{name}.image": image.float(), f"{name}.moments": moments.float()}
save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(here, "vae_encoder.safetensors"))
