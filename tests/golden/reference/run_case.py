#!/usr/bin/env python3
"""Re-runs saved cases from their files alone and compares.  python run_case.py [../cases/<name> ...] [--dtype float32] [--schedule diffusers] [--out F]"""
import argparse, glob, json, os
import torch
from safetensors.torch import load_file, save_file
import drtune_ref as R, make_fixtures as M
A = argparse.ArgumentParser(); A.add_argument("cases", nargs="*"); A.add_argument("--dtype", default="float32")
A.add_argument("--schedule", default="float64"); A.add_argument("--out"); a = A.parse_args()
torch.set_num_threads(1)
if a.schedule == "diffusers":      # float32 alphas_cumprod as diffusers computes it
    b = R.build_schedule
    R.build_schedule = lambda kind, c, T, eta=0.0, dtype=None: b(kind, c, T, eta, "diffusers")
w = [0., ""], [0., ""], [0., ""]
for d in a.cases or sorted(glob.glob(M.HERE + "/cases/*/")):
    c = json.load(open(d + "/case.json")); t = load_file(d + "/inputs.safetensors"); e = load_file(d + "/expected.safetensors")
    m, tt = M.prep(c, t, getattr(torch, a.dtype))
    f = M.flat(R.train_step(m, c, tt), c["T"])
    assert set(f) == set(e), set(f) ^ set(e)
    r = lambda p: max((f[k] - e[k]).abs().max().item() for k in e if k.startswith(p)) / max(e[k].abs().max().item() for k in e if k.startswith(p))
    v = r("x0"), r("image"), r("grad.")
    for q, x in zip(w, v):
        q[:] = max(q, [x, c["name"]])
    if a.cases:
        print(f"{c['name']:34s} x0 {v[0]:.1e} image {v[1]:.1e} grad {v[2]:.1e}")
    if a.out:
        save_file(f, a.out)
print(a.dtype, a.schedule, "worst x0/image/grad:", w)
