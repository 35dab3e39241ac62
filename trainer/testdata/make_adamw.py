#!/usr/bin/env python3
"""Writes adamw.json: PyTorch's AdamW with clip_grad_norm_, several updates of two small parameters, in float32."""
import json, os
import torch

torch.manual_seed(0)
torch.set_num_threads(1)


def run(lr, betas, eps, weight_decay, max_norm, scale):
    ps = [torch.nn.Parameter(torch.randn(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    opt = torch.optim.AdamW(ps, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=False)
    flat = lambda: [v for p in ps for v in p.detach().flatten().tolist()]
    out = dict(learningRate=lr, beta1=betas[0], beta2=betas[1], epsilon=eps, weightDecay=weight_decay, maxNorm=max_norm,
               initial=flat(), updates=[])
    for n in range(6):
        for p in ps:
            p.grad = torch.randn_like(p) * scale * (0.1 if n == 3 else 1)
        grads = [v for p in ps for v in p.grad.flatten().tolist()]
        norm = torch.nn.utils.clip_grad_norm_(ps, max_norm) if max_norm else torch.cat([p.grad.flatten() for p in ps]).norm()
        opt.step()
        out["updates"].append(dict(gradients=grads, norm=norm.item(), parameters=flat()))
    return out


cases = [run(2e-5, (0.9, 0.999), 1e-8, 0.0, 0.1, 1.0), run(1e-2, (0.9, 0.999), 1e-8, 0.01, 0.5, 0.05),
         run(0.3, (0.5, 0.9), 1e-3, 0.1, 0, 1e-3)]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adamw.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
