#!/usr/bin/env python3
"""Small picture files and what Pillow 13.0.0's convert("RGB") makes of them (uint8 [H,W,3]) -> pictures/, for
images/decode_image_test.ts."""
import os

import numpy as np
from PIL import Image, ImageCms
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")


def main():
    os.makedirs(HERE, exist_ok=True)
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:21, 0:30]
    base = np.stack([8 * x, 10 * y, 4 * (x + y)], -1) + rng.integers(0, 30, (21, 30, 3))
    rgb = Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (21, 30), dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    files = {
        "rgb.png": (rgb, {}),
        "rgba.png": (rgba, {}),
        "grey.png": (rgb.convert("L"), {}),
        "grey_alpha.png": (rgba.convert("LA"), {}),
        "palette.png": (rgb.quantize(16), {}),
        "bits.png": (rgb.convert("1"), {}),
        "colour_420.jpg": (rgb, dict(quality=75, subsampling=2)),
        "colour_444.jpg": (rgb, dict(quality=90, subsampling=0)),
        "grey.jpg": (rgb.convert("L"), dict(quality=85)),
        "turned.jpg": (rgb, dict(quality=85, exif=turned)),
        "profile.png": (rgb, dict(icc_profile=profile)),
        "lossless.webp": (rgba, dict(lossless=True, exact=True)),
    }
    decoded = {}
    for name, (picture, options) in files.items():
        path = os.path.join(HERE, name)
        picture.save(path, **options)
        os.chmod(path, 0o644)
        decoded[name] = np.ascontiguousarray(np.array(Image.open(path).convert("RGB")))
    path = os.path.join(HERE, "decoded.safetensors")
    save_file(decoded, path)
    os.chmod(path, 0o644)


main()
