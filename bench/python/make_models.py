#!/usr/bin/env python3
"""Writes what a benchmark case needs into a folder: a model with random weights in its usual format, and
`inputs.safetensors`, fed to both sides. Usage: make_models.py CASE_JSON FOLDER"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SCALE_OF_B = 0.02  # LoRA's B is zero at first; a gradient of A needs it not to be.


def clip(case, folder, randn):
    from transformers import CLIPConfig, CLIPModel

    vision = case["vision"]
    # The text tower is not measured: as small as the format allows.
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "vocab_size": 16, "bos_token_id": 14, "eos_token_id": 15, "pad_token_id": 15}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=case["projection"])
    CLIPModel(config).save_pretrained(folder / "model")
    size = vision["image_size"]
    return {"pixels": randn(case["batch"], 3, size, size), "cotangent": randn(case["batch"], case["projection"])}


def unet(case, folder, randn):
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_config(case["config"])
    model.save_pretrained(folder / "model")
    batch, size, rank = case["batch"], case["size"], case["rank"]
    latents = (batch, model.config.in_channels, size, size)
    inputs = {"sample": randn(*latents), "cotangent": randn(*latents),
              "timestep": torch.full((batch,), 500.0),
              "encoder_hidden_states": randn(batch, case["tokens"], model.config.cross_attention_dim)}
    for name, module in model.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            inputs[f"{name}.lora_A.weight"] = randn(rank, module.in_features) / module.in_features ** 0.5
            inputs[f"{name}.lora_B.weight"] = randn(module.out_features, rank) * SCALE_OF_B
    return inputs


def vae(case, folder, randn):
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_config(case["config"])
    model.save_pretrained(folder / "model")
    batch, size = case["batch"], case["size"]
    factor = 2 ** (len(case["config"]["block_out_channels"]) - 1)
    return {"latents": randn(batch, model.config.latent_channels, size, size),
            "cotangent": randn(batch, 3, size * factor, size * factor)}


def main(case, folder):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    make = {"clip": clip, "unet": unet, "vae": vae}[case["kind"]]
    inputs = make(case, folder, lambda *shape: torch.randn(*shape, generator=generator))
    save_file(inputs, folder / "inputs.safetensors")


main(json.loads(sys.argv[1]), Path(sys.argv[2]))
