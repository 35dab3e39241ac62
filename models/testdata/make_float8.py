"""Writes float8.safetensors and float8.pt, every value of both formats of eight bits, and weights with scales as ComfyUI's
and diffusers' quantizers leave them, which float8_scaled.pt has alone; float8_wide.safetensors is what they stand for, computed by torch. Needs torch and
safetensors. Seeded.

    python make_float8.py [folder]
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
torch.manual_seed(0)
every = torch.arange(256, dtype=torch.int32).to(torch.uint8)
plain = {
    "e4m3fn": every.view(torch.float8_e4m3fn).reshape(16, 16),
    "e5m2": every.clone().view(torch.float8_e5m2).reshape(4, 64),
    "beside": torch.randn(3),
}
one, rows = torch.randn(4, 6).to(torch.float8_e4m3fn), torch.randn(5, 3).to(torch.float8_e4m3fn)
scaled = {
    "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
    "one.weight": one,
    "one.scale_weight": torch.tensor([0.0123]),
    "one.scale_input": torch.tensor([2.0]),
    "rows.weight": rows,
    "rows.weight_scale": torch.rand(5, 1) + 0.5,
    "rows.comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8),
    "half.weight": torch.randn(2).half(),
}
save_file({**plain, **scaled}, FOLDER / "float8.safetensors")
torch.save(plain, FOLDER / "float8.pt")
torch.save(scaled, FOLDER / "float8_scaled.pt")
wide = {name: v.half() if v.dtype != torch.float32 else v for name, v in plain.items()}
save_file({
    **wide,
    "one.weight": one.float() * scaled["one.scale_weight"],
    "rows.weight": rows.float() * scaled["rows.weight_scale"],
    "half.weight": scaled["half.weight"],
}, FOLDER / "float8_wide.safetensors")
