#!/usr/bin/env python3
"""The PyTorch side of the benchmarks: plain autograd with SDPA, frozen weights, LoRA by PEFT.

  python peer.py prepare FOLDER      writes random weights in real formats, and inputs (seeded)
  python peer.py serve FOLDER CASE THREADS
      reads lines from stdin: "run" answers {"seconds": s}; "save FILE" writes the gradients of the last run;
      "memory" answers {"peakMb": m}; an empty line ends it.
"""
import json, os, resource, sys, time

import torch
from safetensors.torch import load_file, save_file

RANK = 32
UNET = dict(
    sample_size=32, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(160, 320, 640, 640),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=768, attention_head_dim=8)
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def prepare(folder):
    from diffusers import UNet2DConditionModel
    from transformers import CLIPConfig, CLIPModel
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(f"{folder}/clip")  # ViT-B/32, transformers' default
    unet = UNet2DConditionModel(**UNET)
    unet.save_pretrained(f"{folder}/unet")
    inputs = {"pixels": torch.randn(4, 3, 224, 224), "direction": torch.randn(4, 512),
              "sample": torch.randn(1, 4, 32, 32), "states": torch.randn(1, 77, 768), "cotangent": torch.randn(1, 4, 32, 32)}
    for name, p in lora(unet).items():
        inputs[f"lora.{name}"] = torch.randn_like(p) * 0.02
    b = ITERATION["batch"]
    inputs.update(zoo_x=torch.randn(b, 4, 16, 16), zoo_noise=torch.randn(ITERATION["T"], b, 4, 16, 16),
                  zoo_image_grad=torch.randn(b, 3, 64, 64) / 1000)
    zoo = UNet2DConditionModel.from_pretrained(f"{os.path.dirname(os.path.abspath(__file__))}/../../zoo/pipeline/unet")
    for name, p in lora(zoo, ITERATION["rank"]).items():
        inputs[f"zoo.{name}"] = torch.randn_like(p) * 0.02
    save_file(inputs, f"{folder}/inputs.safetensors")
    print(json.dumps({"unetParameters": sum(p.numel() for n, p in unet.named_parameters() if "lora" not in n)}))


def lora(unet, rank=RANK):
    from peft import LoraConfig
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights=False))
    return {n.replace(".default", ""): p for n, p in unet.named_parameters() if "lora_" in n}


def clip_case(folder, inputs):
    from transformers import CLIPModel
    model = CLIPModel.from_pretrained(f"{folder}/clip", attn_implementation="sdpa").eval().requires_grad_(False)

    def run():
        x = inputs["pixels"].clone().requires_grad_(True)
        y = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)
        return {"pixels": torch.autograd.grad((y * inputs["direction"]).sum(), x)[0]}
    return run


def unet_case(folder, inputs):
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet").eval()
    params = lora(unet)
    with torch.no_grad():
        for name, p in params.items():
            p.copy_(inputs[f"lora.{name}"])

    def run():
        y = unet(inputs["sample"], torch.tensor([500.0]), encoder_hidden_states=inputs["states"]).sample
        grads = torch.autograd.grad((y * inputs["cotangent"]).sum(), list(params.values()))
        return dict(zip(params, grads))
    return run


ITERATION = dict(T=10, train=[3, 8], t_min=2, guidance=5.0, batch=8, rank=16)


def iteration_case(folder, inputs):
    """One DRTune iteration of the embedded pipeline up to the LoRA gradients: sampling without gradients, the decoder's
    product, then one forward and backward for each trained step (the strongest form in PyTorch: closed form, no stored
    trajectory)."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, f"{here}/../../tests/golden/reference")
    import drtune_ref as R
    c = ITERATION
    zoo = f"{here}/../../zoo/pipeline"
    m = R.Model(zoo, torch.float32, c["rank"], c["rank"])
    R.set_lora(m.lora, {n: inputs[f"zoo.{n}"] for n in m.lora})
    config = json.load(open(f"{zoo}/scheduler/scheduler_config.json"))
    s = R.build_schedule("ddpm", config, c["T"])
    names, params = list(m.lora), list(m.lora.values())

    def run():
        with torch.no_grad():
            e = m.encode(["a fox, and books"] * c["batch"])
            o = R.sample(m, s, inputs["zoo_x"], inputs["zoo_noise"], e, c["guidance"], [], c["t_min"], True)
        x0 = o["x0"].detach().requires_grad_(True)
        g0, = torch.autograd.grad((m.decode(x0) * inputs["zoo_image_grad"]).sum(), x0)
        kappa = R.closed_form(s, o["stop"])
        total = [torch.zeros_like(p) for p in params]
        for t in c["train"]:
            i = c["T"] - t
            if i <= o["stop"]:
                eps = m.eps(o["xs"][i], s["timesteps"][i], e, c["guidance"])
                for a, g in zip(total, torch.autograd.grad(eps, params, kappa[i] * g0)):
                    a += g
        return dict(zip(names, total))
    return run


def serve(folder, case, threads):
    torch.set_num_threads(threads)
    inputs = load_file(f"{folder}/inputs.safetensors")
    run = {"clip": clip_case, "unet": unet_case, "iteration": iteration_case}[case](folder, inputs)
    last = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if not words:
            break
        if words[0] == "run":
            start = time.perf_counter()
            last = run()
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
        elif words[0] == "save":
            save_file({k: v.contiguous() for k, v in last.items()}, words[1])
            print(json.dumps({"saved": len(last)}), flush=True)
        elif words[0] == "memory":
            print(json.dumps({"peakMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2])
    else:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
