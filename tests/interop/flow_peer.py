#!/usr/bin/env python3
"""diffusers and PEFT as peers of flow models: draws with LoRA files and writes some of PEFT's own.

    flow_peer.py SPEC.json

The spec: {"out": folder, "prompt", "steps", "guidance", "scale", "cases": [{"name", "model", "latents": "file#name",
"loras": {name: file}, "targets": [module, ...]}]}. For each case, below out/<name>: "bare" is drawn without a LoRA, every
file of `loras` with `scale`, "peft" with PEFT's own adapter, which is saved as diffusers/ and as peft/; images.safetensors
holds them as [1, 3, H, W] in 0..1."""
import json, os, sys
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(2)
spec = json.load(open(sys.argv[1]))


def draw(pipe, latents):
    family = type(pipe).__name__
    batch, channels, height, width = latents.shape
    # FLUX.2's latents are patches of 2x2 already; FLUX.1's pipeline takes them as tokens.
    factor = pipe.vae_scale_factor * (2 if family == "Flux2KleinPipeline" else 1)
    size = {"height": height * factor, "width": width * factor}
    if family == "FluxPipeline":
        latents = pipe._pack_latents(latents, batch, channels, height, width)
    images = pipe(prompt=spec["prompt"], latents=latents.clone(), num_inference_steps=spec["steps"],
                  guidance_scale=spec["guidance"], output_type="pt", **size).images
    return torch.as_tensor(images).float().contiguous()


for case in spec["cases"]:
    index = json.load(open(case["model"] + "/model_index.json"))
    absent = {k: None for k, v in index.items() if isinstance(v, list) and v[0] is None}
    pipe = DiffusionPipeline.from_pretrained(case["model"], local_files_only=True, **absent)
    pipe.set_progress_bar_config(disable=True)
    file, name = case["latents"].rsplit("#", 1)
    latents, out = load_file(file)[name], f"{spec['out']}/{case['name']}"
    images = {"bare": draw(pipe, latents)}
    for lora, path in case["loras"].items():
        pipe.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
        pipe.set_adapters(pipe.get_active_adapters(), [spec["scale"]])
        images[lora] = draw(pipe, latents)
        pipe.unload_lora_weights()

    config = LoraConfig(r=3, lora_alpha=5, target_modules=case["targets"], init_lora_weights="gaussian")
    pipe.transformer.add_adapter(config)
    torch.manual_seed(3)
    for parameter, p in pipe.transformer.named_parameters():
        if "lora_" in parameter:
            p.normal_(0, 0.3)
    images["peft"] = draw(pipe, latents)
    state = get_peft_model_state_dict(pipe.transformer)
    os.makedirs(f"{out}/diffusers", exist_ok=True)
    type(pipe).save_lora_weights(f"{out}/diffusers", transformer_lora_layers=state,
                                 transformer_lora_adapter_metadata=pipe.transformer.peft_config["default"].to_dict())
    pipe.transformer.delete_adapters("default")
    model = get_peft_model(pipe.transformer, config)
    for parameter, p in model.named_parameters():
        if "lora_" in parameter:
            p.copy_(state[parameter.replace("base_model.model.", "").replace(".default", "")])
    model.save_pretrained(f"{out}/peft")
    save_file(images, f"{out}/images.safetensors")
