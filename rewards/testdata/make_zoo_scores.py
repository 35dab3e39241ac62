#!/usr/bin/env python3
"""Scores and image gradients of the embedded models (zoo/rewards) by PyTorch in float64 -> zoo_scores.safetensors, for
zoo_test.ts. KIND.I.score [1], KIND.I.grad [1,3,H,W] of image I (image.I); prompts and queries are in zoo_test.ts too."""
import json
import os
import sys

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden", "reference"))
import open_clip  # noqa: E402
import rewards_ref as R  # noqa: E402
from reward_fixtures import image  # noqa: E402
from transformers import CLIPModel, CLIPTokenizer, OwlViTForObjectDetection  # noqa: E402

ZOO = os.path.join(ROOT, "zoo", "rewards")
# Larger and smaller than the models' 64 pixels, odd, and of their size; the last prompt is longer than their context.
IMAGES = [(37, 51), (64, 64), (90, 71)]
PROMPTS = ["a fox, and books", "Three RED cats!", "a dog and " + "very " * 40 + "big cat"]
QUERY = "book"


def frozen(model):
    return model.double().eval().requires_grad_(False)


def ids(folder, text, length):
    tokens = CLIPTokenizer.from_pretrained(folder)(text, truncation=True, max_length=length).input_ids
    padding = length - len(tokens)
    return torch.tensor([tokens + tokens[-1:] * padding]), torch.tensor([[1] * len(tokens) + [0] * padding])


def main():
    torch.set_num_threads(1)
    clip = frozen(CLIPModel.from_pretrained(f"{ZOO}/clip"))
    pick = frozen(CLIPModel.from_pretrained(f"{ZOO}/pickscore"))
    owl = frozen(OwlViTForObjectDetection.from_pretrained(f"{ZOO}/owlvit"))
    config = json.load(open(f"{ZOO}/hpsv2/open_clip_config.json"))["model_cfg"]
    hps = open_clip.model.CLIP(**config)
    hps.load_state_dict(torch.load(f"{ZOO}/hpsv2/HPS_tiny.pt")["state_dict"])
    frozen(hps)
    head = R.AestheticMLP(96)
    head.load_state_dict(torch.load(f"{ZOO}/aesthetic/aesthetic_tiny.pth"))
    frozen(head)
    query, mask = ids(f"{ZOO}/owlvit", QUERY, 16)
    out = {}
    for i, ((h, w), prompt) in enumerate(zip(IMAGES, PROMPTS)):
        tokens, _ = ids(f"{ZOO}/clip", prompt, 32)
        rewards = {
            "clip": lambda x: R.clip_cos(clip, x, tokens),
            "pickscore": lambda x: R.clip_cos(pick, x, tokens) * pick.logit_scale.exp(),
            "hpsv2": lambda x: R.hps(hps, x, tokens, 64),
            "aesthetic": lambda x: R.aesthetic(clip, head, x),
            "owlvit": lambda x: R.owl(owl, x, query, mask),
        }
        pixels = image(h, w, 300 + i)
        out[f"image.{i}"] = pixels.clone()
        for kind, reward in rewards.items():
            x = pixels.double().requires_grad_(True)
            score = reward(x)
            (gradient,) = torch.autograd.grad(score.sum(), x)
            out[f"{kind}.{i}.score"] = score.detach().float().clone()
            out[f"{kind}.{i}.grad"] = gradient.float().contiguous()
    path = os.path.join(HERE, "zoo_scores.safetensors")
    save_file(out, path)
    os.chmod(path, 0o644)


main()
