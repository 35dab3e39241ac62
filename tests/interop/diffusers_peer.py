#!/usr/bin/env python3
"""diffusers and PEFT as peers: loads LoRA files and draws with them; writes LoRA files of PEFT's own.

    diffusers_peer.py SPEC.json

The spec: {"model": folder, "out": folder, "loras": {name: file, or PEFT's folder}, "sampler": "ddim" or the model's own, "prompt", "steps",
"guidance", "scale", "latents"}.
Makes an adapter with PEFT and saves it as peft/, diffusers/ and kohya/ below `out`; draws every LoRA (ours from `loras`,
"bare" without one, "peft" with PEFT's own adapter) from the same noise; images.safetensors holds [1, 3, H, W] in 0..1."""
import json, os, sys
import torch
from diffusers import DiffusionPipeline, DDIMScheduler
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(2)
spec = json.load(open(sys.argv[1]))
out, images = spec["out"], {}
file, name = spec["latents"].rsplit("#", 1)
latents = load_file(file)[name]


def draw(pipe, **kw):
    size = [s * pipe.vae_scale_factor for s in latents.shape[2:]]
    return pipe(spec["prompt"], height=size[0], width=size[1], latents=latents.clone(), num_inference_steps=spec["steps"],
                guidance_scale=spec["guidance"], output_type="pt", **kw).images.float().contiguous()


pipe = DiffusionPipeline.from_pretrained(spec["model"], local_files_only=True)
if spec["sampler"] == "ddim":
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
pipe.set_progress_bar_config(disable=True)
images["bare"] = draw(pipe)
for name, path in spec["loras"].items():
    if os.path.isdir(path):
        model = PeftModel.from_pretrained(pipe.unet, path)
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                layer.scale_layer(spec["scale"])
        pipe.unet = model.base_model.model
        images[name] = draw(pipe)
        pipe.unet = model.unload()
        continue
    pipe.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
    pipe.set_adapters(pipe.get_active_adapters(), [spec["scale"]])
    images[name] = draw(pipe)
    pipe.unload_lora_weights()

# Feed-forward layers are targets too, and alpha is not the rank.
targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights="gaussian")
pipe.unet.add_adapter(config)
torch.manual_seed(3)
for name, p in pipe.unet.named_parameters():
    if "lora_" in name:
        p.normal_(0, 0.12)
images["peft"] = draw(pipe)
state = get_peft_model_state_dict(pipe.unet)
for folder in ("diffusers", "kohya"):
    os.makedirs(f"{out}/{folder}", exist_ok=True)
type(pipe).save_lora_weights(f"{out}/diffusers", unet_lora_layers=state,
                             unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict())
kohya = convert_state_dict_to_kohya({f"base_model.model.{k}": v for k, v in state.items()})
kohya = {k.replace("lora_unet_", "").replace("base_model_model_", ""): v for k, v in kohya.items() if not k.endswith(".alpha")}
renamed = {}
for k, v in kohya.items():
    # convert_state_dict_to_kohya leaves the dots of a module's name where kohya's scripts write underscores.
    module, end = k.split(".lora_")
    module = "lora_unet_" + module.replace(".", "_")
    renamed[f"{module}.lora_{end}"] = v.contiguous()
    renamed[f"{module}.alpha"] = torch.tensor(5.0)
save_file(renamed, f"{out}/kohya/lora.safetensors")
# As diffusers before 0.22 wrote attention processors; without a scale of their own, so alpha is the rank.
old = {}
for k, v in state.items():
    if ".attn" in k:
        module, end = k.split(".lora_")
        attention, projection = module.rsplit(".to_", 1)
        part = {"A.weight": "down", "B.weight": "up"}[end]
        old[f"unet.{attention}.processor.to_{projection.removesuffix('.0')}_lora.{part}.weight"] = v.contiguous()
os.makedirs(f"{out}/old", exist_ok=True)
save_file(old, f"{out}/old/lora.safetensors")
pipe.unet.delete_adapters("default")
pipe.load_lora_weights(f"{out}/old", weight_name="lora.safetensors")
images["old"] = draw(pipe)
pipe.unload_lora_weights()

model = get_peft_model(pipe.unet, config)
for name, p in model.named_parameters():
    if "lora_" in name:
        key = name.replace("base_model.model.", "").replace(".default", "")
        p.copy_(state[key])
model.save_pretrained(f"{out}/peft")
save_file(images, f"{out}/images.safetensors")
