"""Exports small PyTorch networks as ONNX files, each with an input, its output and the gradient that autograd gives.

Needs bench/python/requirements.txt, and onnx==1.23.2 and onnxscript==0.7.2, which nothing else does.
Run here: python export_models.py
"""
import math
import os

import onnx
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn


class Cnn(nn.Module):
    """Batch normalization, pools of every kind, strides, groups, resizing, flattening with a size read at run time."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.group = nn.GroupNorm(2, 8)
        self.mix = nn.Conv2d(8, 6, 1)
        self.slope = nn.PReLU(6)
        self.head = nn.Linear(6 * 9 + 6, 4)

    def forward(self, x):
        x = F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False)
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = F.hardswish(self.group(self.depthwise(x)))
        x = self.slope(self.mix(x))
        x = F.interpolate(x, size=(7, 7), mode="nearest")
        pooled = F.avg_pool2d(x, 3, stride=2, padding=0)
        x = torch.cat([pooled.flatten(1), F.adaptive_avg_pool2d(x, 1).flatten(1)], dim=1)
        return F.log_softmax(self.head(F.dropout(x, training=self.training)), dim=-1)


class Block(nn.Module):
    def __init__(self, width, heads, scaled):
        super().__init__()
        self.heads, self.scaled = heads, scaled
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.scaled:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(c // self.heads), dim=-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(b, n, c))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Vit(nn.Module):
    """Class token, positions resized to the grid, attention, a normalized embedding: what image scorers are made of."""

    def __init__(self, scaled):
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 12, 3, 3))
        self.blocks = nn.ModuleList(Block(12, 3, scaled) for _ in range(2))
        self.norm = nn.LayerNorm(12)
        self.text = nn.Parameter(torch.randn(12))

    def forward(self, x):
        x = self.patch(x)
        x = x + F.interpolate(self.position, size=x.shape[-2:], mode="bicubic", align_corners=False)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.norm(x[:, 0]), dim=-1) @ self.text


def warm(model):
    """Statistics and weights that are not the initial ones."""
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


def strip(path):
    """Leaves out source paths and stack traces, which the exporter adds."""
    model = onnx.load(path, load_external_data=False)
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    for item in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
    onnx.save(model, path)


def export(name, model, shape, opset, dynamo, external=False):
    example = torch.rand(2, *shape)
    kwargs = {"opset_version": opset, "input_names": ["image"], "output_names": ["score"], "dynamo": dynamo}
    if dynamo:
        kwargs |= {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": external, "verbose": False}
    else:
        kwargs |= {"do_constant_folding": False, "dynamic_axes": {"image": {0: "batch", 2: "height", 3: "width"}, "score": {0: "batch"}}}
    torch.onnx.export(model, (example,), f"{name}.onnx", **kwargs)
    strip(f"{name}.onnx")
    # A batch that the export did not see, and where the file allows it another size.
    image = torch.rand(3, *(shape if dynamo else (3, shape[1] + 8, shape[2] + 4)), requires_grad=True)
    score = model(image)
    cotangent = torch.randn_like(score)
    (gradient,) = torch.autograd.grad((score * cotangent).sum(), image)
    save_file(
        {"image": image.detach(), "score": score, "cotangent": cotangent, "gradient": gradient},
        f"{name}.safetensors",
    )
    print(name, os.path.getsize(f"{name}.onnx"), tuple(score.shape))


torch.manual_seed(5)
cnn, vit, plain = warm(Cnn()), warm(Vit(True)), warm(Vit(False))
export("cnn_opset11", cnn, (3, 20, 20), 11, False)
export("cnn_opset20", cnn, (3, 20, 20), 20, True)
export("vit_opset14", vit, (3, 16, 16), 14, False)
export("vit_opset12", plain, (3, 16, 16), 12, False)
export("vit_opset18", vit, (3, 16, 16), 18, True, external=True)
