#!/usr/bin/env python3
"""Two small scorers exported as ONNX, with PyTorch's scores and image gradients, for kinds/onnx_test.ts. Needs
bench/python/requirements.txt, and onnx==1.23.2 and onnxscript==0.7.2, which nothing else does.
layout.onnx: NHWC, BGR, pixels in -1..1, 24x24 of the image resized bilinearly and cropped; a fixed batch of one.
prompt.onnx: reads ids and mask of a CLIP tokenizer; NCHW, mean and std, 16x16 of the image stretched; any batch."""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF
from transformers import CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZER = os.path.join(HERE, "../../tests/golden/rewards/clip_gelu")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PROMPTS = ["a fox, and books", "two red cats"]


class Layout(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=3)
        self.head = nn.Linear(4 * 49, 1)

    def forward(self, x):
        return torch.sigmoid(self.head(torch.tanh(self.conv(x.permute(0, 3, 1, 2))).flatten(1)))


class Prompt(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.words = nn.Embedding(words, 32)
        self.patch = nn.Conv2d(3, 32, 4, stride=4)

    def forward(self, pixel_values, input_ids, attention_mask):
        m = attention_mask.to(pixel_values.dtype)[..., None]
        text = (self.words(input_ids) * m).sum(1) / m.sum(1)
        image = F.gelu(self.patch(pixel_values)).mean((2, 3))
        return F.cosine_similarity(image, text, dim=-1), image


def save(name, model, args, **kwargs):
    torch.onnx.export(model, args, os.path.join(HERE, "scorers", f"{name}.onnx"), opset_version=17, dynamo=False, **kwargs)


torch.manual_seed(3)
tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
layout, prompt = Layout(), Prompt(len(tokenizer))
save("layout", layout, (torch.rand(1, 24, 24, 3),), input_names=["picture"], output_names=["beauty"])
tokens = tokenizer(PROMPTS, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
names = ["pixel_values", "input_ids", "attention_mask"]
axes = {name: {0: "batch"} for name in [*names, "similarity", "features"]}
save("prompt", prompt, (torch.rand(2, 3, 16, 16), tokens.input_ids, tokens.attention_mask), input_names=names,
     output_names=["similarity", "features"], dynamic_axes=axes)

layout, prompt = layout.double(), prompt.double()
image = torch.rand(2, 3, 37, 29)
out = {"image": image}
x = image.double().requires_grad_(True)
seen = TF.center_crop(TF.resize(x, 24, InterpolationMode.BILINEAR, antialias=True), [24, 24])
score = layout((2 * seen - 1).flip(1).permute(0, 2, 3, 1))[:, 0]
out["layout.score"], out["layout.gradient"] = score, torch.autograd.grad(score.sum(), x)[0]
seen = TF.resize(x, [16, 16], InterpolationMode.BICUBIC, antialias=True)
score, _ = prompt(TF.normalize(seen, MEAN, STD), tokens.input_ids, tokens.attention_mask)
out["prompt.score"], out["prompt.gradient"] = score, torch.autograd.grad(score.sum(), x)[0]
save_file({k: v.detach().float().contiguous() for k, v in out.items()}, os.path.join(HERE, "scorers", "expected.safetensors"))
os.chmod(os.path.join(HERE, "scorers", "expected.safetensors"), 0o644)
