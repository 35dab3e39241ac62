#!/usr/bin/env python3
"""Images fitted by Pillow 13.0.0 (8 bits) and torchvision 0.26.0 (float64) -> fits.safetensors, for preprocess/fit_test.ts.
Each FIT.RESAMPLE.H.W.NxM: .image uint8 [3,H,W]; .pillow uint8 [3,N,M]; .exact float32 [3,N,M], the fit of image / 255.
For a square N alone stands for NxN."""
import os
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

RESAMPLES = {
    "bicubic": (Image.BICUBIC, InterpolationMode.BICUBIC),
    "bilinear": (Image.BILINEAR, InterpolationMode.BILINEAR),
}
SIZES = [(24, 24, 24), (40, 40, 16), (29, 17, 16), (17, 29, 16), (5, 3, 16), (16, 40, 16), (16, 41, 16), (60, 13, 9),
         (33, 31, 32), (1, 1, 4), (16, 23, 16), (64, 37, 16)]
RECTANGLES = [(29, 17, (16, 24)), (17, 40, (16, 24)), (40, 40, (9, 20)), (16, 24, (16, 24)), (60, 13, (24, 11)), (32, 48, (16, 24))]


def sides(h, w, target, fit):
    """Covering the target, within it, or its own."""
    n, m = target
    if fit == "stretch":
        return n, m
    if fit == "crop":
        return (n, max(m, int(n * w / h))) if n / h >= m / w else (max(n, int(m * h / w)), m)
    scale = min(n / float(h), m / float(w))
    return round(h * scale), round(w * scale)


def place(resized, target, fit):
    """The centre crop of torchvision, or zero padding as hpsv2's ResizeMaxSize, of [3, h, w]."""
    h, w = resized.shape[-2:]
    if fit == "pad":
        n, m = target
        top, left = (n - h) // 2, (m - w) // 2
        return F.pad(resized, [left, m - w - left, top, n - h - top])
    return TF.center_crop(resized, list(target))


def main():
    rng = np.random.default_rng(5)
    out = {}
    for (h, w, n), resample in [(size, r) for sizes in (SIZES, RECTANGLES) for r in RESAMPLES for size in sizes]:
        target = n if isinstance(n, tuple) else (n, n)
        pil, torchvision = RESAMPLES[resample]
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        planes = torch.from_numpy(image).permute(2, 0, 1)
        for fit in ("crop", "pad", "stretch"):
            nh, nw = sides(h, w, target, fit)
            if min(nh, nw) == 0:
                continue
            pillow = np.array(Image.fromarray(image).resize((nw, nh), pil))
            exact = TF.resize(planes[None].double() / 255, [nh, nw], torchvision, antialias=True)[0]
            key = f"{fit}.{resample}.{h}.{w}.{n[0]}x{n[1]}" if isinstance(n, tuple) else f"{fit}.{resample}.{h}.{w}.{n}"
            out[key + ".image"] = planes.clone().contiguous()
            out[key + ".pillow"] = place(torch.from_numpy(pillow).permute(2, 0, 1), target, fit).contiguous()
            out[key + ".exact"] = place(exact, target, fit).float().contiguous()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fits.safetensors")
    save_file(out, path)
    os.chmod(path, 0o644)


main()
