#!/usr/bin/env python3
"""Writes pictures/NAME and NAME.npy, what Pillow's convert("RGB") makes of it: transparency in palettes, grey and colours,
orientation tags, animations. (The CMYK and 16-bit ones were given.) Needs Pillow 13 and numpy. Seeded."""
import os
import numpy as np
from PIL import Image

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
rng = np.random.default_rng(0)
colours = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
image, other = Image.fromarray(colours), Image.fromarray(255 - colours)
turned = Image.Exif()
turned[0x112] = 6


def save(name, picture, **options):
    path = os.path.join(OUT, name)
    picture.save(path, **options)
    np.save(path + ".npy", np.asarray(Image.open(path).convert("RGB")))


save("palette_trns.png", image.quantize(16), transparency=bytes([0, 128, 255, 10, 20, 30]))
save("colour_trns.png", image, transparency=tuple(int(v) for v in colours[2, 3]))
save("grey_trns.png", image.convert("L"), transparency=77)
save("rgba.webp", Image.fromarray(np.dstack([colours, colours[..., :1]])), lossless=True, exact=True)
save("turned.jpg", image, exif=turned, quality=95, subsampling=0)
save("turned.png", image, exif=turned)
save("animated.webp", image, save_all=True, append_images=[other], lossless=True)
save("animated.png", image, save_all=True, append_images=[other])
