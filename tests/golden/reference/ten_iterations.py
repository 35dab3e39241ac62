#!/usr/bin/env python3
"""Ten iterations of a run in float64 by plain autograd and torch.optim.AdamW: sampling, decoder, reward, accumulation, clipping,
warm-up, weight decay.  Reads ../ten_iterations/{run.json,inputs.safetensors} (what the run draws from its seed), writes
expected.json (loss, reward and gradient norm of each iteration) and expected.safetensors (the last LoRA) beside them."""
import json, os
import torch
from safetensors.torch import load_file, save_file
import drtune_ref as R

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
D = os.path.join(HERE, "..", "ten_iterations")
TARGET = 0.2
run = json.load(open(D + "/run.json"))
c, t = run["config"], {k: v.double() for k, v in load_file(D + "/inputs.safetensors").items()}
pipe = os.path.join(HERE, "..", c["model"])
model = R.Model(pipe, torch.float64, c["lora"]["rank"], float(c["lora"]["alpha"]))
R.set_lora(model.lora, {k[5:]: v for k, v in t.items() if k.startswith("lora.")})
ps = list(model.lora.values())
T, o, n = c["sampler"]["steps"], c["optimizer"], c["batch"]["accumulation"]
s = R.build_schedule(c["sampler"]["kind"], json.load(open(pipe + "/scheduler/scheduler_config.json")), T)
opt = torch.optim.AdamW(ps, lr=o["learningRate"], betas=(.9, .999), eps=1e-8, weight_decay=o["weightDecay"])
out = []
for k, it in enumerate(run["iterations"], 1):
    for g in opt.param_groups:
        g["lr"] = o["learningRate"] * min(1, k / o["warmup"])
    opt.zero_grad()
    loss, scores = 0., []
    for i, (prompt, plan) in enumerate(zip(it["prompts"], it["plans"])):
        x, nz = t[f"{k}.{i}.x_T"], [t[f"{k}.{i}.noise.{j}"] for j in range(T)]
        e = model.encode([prompt], x.shape[-2:], "empty")
        q = R.sample(model, s, x, nz, e, c["guidance"]["scale"], plan["trainSteps"], plan["tMin"], plan["inputStopGradient"])
        r = ((model.decode(q["x0"]) - TARGET) ** 2).mean()
        L = c["rewards"][0]["weight"] * r / n
        if L.requires_grad:          # a draw may reach no trained step
            L.backward()
        loss += L.item(); scores.append(r.item())
    for p in ps:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    norm = torch.nn.utils.clip_grad_norm_(ps, o["maxGradNorm"]).item()
    opt.step()
    out.append({"loss": loss, "scores": scores, "gradNorm": norm})
    print(k, out[-1], flush=True)
json.dump(out, open(D + "/expected.json", "w"), indent=1)
open(D + "/expected.json", "a").write("\n")
save_file({k: v.detach().float().contiguous() for k, v in model.lora.items()}, D + "/expected.safetensors")
