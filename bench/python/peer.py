#!/usr/bin/env python3
"""The PyTorch side of a benchmark case. Usage: peer.py CASE_JSON FOLDER THREADS

Answers each line on standard input with one line of JSON: `forward` and `gradient` run once and give the seconds,
`save FILE` writes the outputs of the last gradient, `peak` gives this process's peak of resident memory in bytes."""
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# Prints of libraries must not end up among the answers.
ANSWERS, sys.stdout = sys.stdout, sys.stderr


class Clip:
    def __init__(self, case, folder, inputs):
        from transformers import CLIPVisionModelWithProjection

        self.model = CLIPVisionModelWithProjection.from_pretrained(folder / "model", attn_implementation="sdpa")
        self.model.eval().requires_grad_(False)
        self.pixels, self.cotangent = inputs["pixels"], inputs["cotangent"]

    def forward(self):
        with torch.no_grad():
            self.model(pixel_values=self.pixels)

    def gradient(self):
        x = self.pixels.clone().requires_grad_(True)
        y = self.model(pixel_values=x).image_embeds
        return {"value": y.detach(), "grad.pixels": torch.autograd.grad(y, x, self.cotangent)[0]}


class UNet:
    def __init__(self, case, folder, inputs):
        from diffusers import UNet2DConditionModel
        from peft import LoraConfig

        self.model = UNet2DConditionModel.from_pretrained(folder / "model").requires_grad_(False)
        rank = case["rank"]
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        self.model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
        if case.get("checkpointing"):
            self.model.enable_gradient_checkpointing()
            self.model.train()  # no dropout in it
        self.lora = {}
        for name, p in self.model.named_parameters():
            if "lora_" in name:
                p.data.copy_(inputs[name.replace(".default", "")])
                self.lora[name.replace(".default", "")] = p.requires_grad_(True)
        self.inputs = inputs

    def predict(self):
        i = self.inputs
        return self.model(i["sample"], i["timestep"], i["encoder_hidden_states"], return_dict=False)[0]

    def forward(self):
        with torch.no_grad():
            self.predict()

    def gradient(self):
        y = self.predict()
        grads = torch.autograd.grad(y, list(self.lora.values()), self.inputs["cotangent"])
        return {"value": y.detach(), **{f"grad.{n}": g for n, g in zip(self.lora, grads)}}


class Vae:
    def __init__(self, case, folder, inputs):
        from diffusers import AutoencoderKL

        self.model = AutoencoderKL.from_pretrained(folder / "model").requires_grad_(False)
        if case.get("checkpointing"):
            self.model.enable_gradient_checkpointing()
            self.model.train()
        self.latents, self.cotangent = inputs["latents"], inputs["cotangent"]

    def decode(self, x):
        return self.model.decode(x / self.model.config.scaling_factor).sample / 2 + 0.5

    def forward(self):
        with torch.no_grad():
            self.decode(self.latents)

    def gradient(self):
        x = self.latents.clone().requires_grad_(True)
        y = self.decode(x)
        return {"value": y.detach(), "grad.latents": torch.autograd.grad(y, x, self.cotangent)[0]}


def peak_bytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("No VmHWM in /proc/self/status")


def main(case, folder, threads):
    torch.set_num_threads(threads)
    inputs = load_file(folder / "inputs.safetensors")
    side = {"clip": Clip, "unet": UNet, "vae": Vae}[case["kind"]](case, folder, inputs)
    outputs = {}
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "save":
            save_file({n: t.contiguous() for n, t in outputs.items()}, rest[0])
            answer = {}
        elif word == "peak":
            answer = {"bytes": peak_bytes()}
        else:
            start = time.perf_counter()
            result = getattr(side, word)()
            answer = {"seconds": time.perf_counter() - start}
            outputs = result or outputs
        print(json.dumps(answer), file=ANSWERS, flush=True)


main(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
