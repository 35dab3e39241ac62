"""Exports of architectures that people score images with, random weights at small sizes, and what PyTorch makes of them.

python tests/autodiff/zoo_exports.py OUT < lines of NAME EXPORTER (torchscript or dynamo), or NAME neighbours
python tests/autodiff/zoo_exports.py --list [--only REGEX]

Answers each line with "> made", or "> " and why it cannot. "neighbours" leaves OUT/NAME.neighbours.safetensors. Writes OUT/NAME.EXPORTER.onnx and OUT/NAME.safetensors: `image` and further inputs, `cotangent`, and in float64 rounded to
float32 `y` and `gradient` (of the sum of y times the cotangent, by the image), with `float32_error`, the error of
PyTorch's own gradient in float32; `difference` is the central difference along `direction`, for where PyTorch's gradient is
wrong. See tools/zoo_exports/main.ts.
"""
import argparse
import os
import re
import sys
import warnings

import torch
from safetensors.torch import load_file, save_file
from torch import nn
import torch.nn.functional as F

warnings.filterwarnings("ignore")
ZOO = {}


def entry(name, size=64, channels=3, others=()):
    def register(make):
        ZOO[name] = (make, size, channels, others)
        return make

    return register


def timm_entry(model, size=64, name=None, **options):
    def make():
        import timm

        try:
            return timm.create_model(model, pretrained=False, num_classes=8, img_size=size, **options)
        except TypeError:
            return timm.create_model(model, pretrained=False, num_classes=8, **options)

    entry(f"timm.{name or model}", size)(make)


for model in [
    "test_vit", "test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_mambaout", "test_byobnet",
    "mobilenetv4_conv_small", "fastvit_t8", "levit_128s", "xcit_nano_12_p16_224", "efficientformer_l1",
    "poolformerv2_s12", "mixer_s32_224", "gmlp_ti16_224", "coat_lite_tiny", "crossvit_tiny_240", "edgenext_xx_small",
    "ghostnet_050", "mobilevit_xxs", "mobilevitv2_050", "nest_tiny", "pit_ti_224", "twins_svt_small", "volo_d1_224",
    "visformer_tiny", "hrnet_w18_small", "dla34", "repvgg_a0", "nf_regnet_b0", "tinynet_e", "lcnet_035", "rexnet_100",
    "swinv2_cr_tiny_ns_224", "maxvit_rmlp_pico_rw_256", "coatnet_pico_rw_224", "focalnet_tiny_srf", "davit_tiny",
    "sequencer2d_s", "caformer_s18", "inception_next_atto", "starnet_s1", "repvit_m0_9", "tiny_vit_5m_224",
    "efficientvit_b0", "efficientvit_m0", "mambaout_femto", "convit_tiny", "cait_xxs24_224", "deit3_small_patch16_224",
    "gcvit_xxtiny", "pvt_v2_b0", "selecsls42", "semnasnet_050", "skresnet18", "resnest14d", "eca_botnext26ts_256",
    "halonet26t", "lambda_resnet26t", "bat_resnext26ts", "hardcorenas_a", "ese_vovnet19b_dw", "cspdarknet53",
    "eva02_tiny_patch14_224", "beit_base_patch16_224", "shvit_s1", "tresnet_m", "vit_tiny_r_s16_p8_224",
    "hgnet_tiny", "vit_small_patch16_rope_224", "nextvit_small", "swiftformer_xs", "ghostnetv3_050", "csatv2",
    "resnetv2_50x1_bit", "resnetv2_50d_gn", "vit_small_patch16_dinov3",
]:
    timm_entry(model, 240 if "crossvit" in model else 256 if model in ("halonet26t", "maxvit_rmlp_pico_rw_256",
               "eca_botnext26ts_256", "bat_resnext26ts", "lambda_resnet26t") else
               224 if model in ("levit_128s", "convit_tiny", "volo_d1_224", "coatnet_pico_rw_224", "gcvit_xxtiny",
               "swinv2_cr_tiny_ns_224", "nest_tiny", "pit_ti_224", "mixer_s32_224", "gmlp_ti16_224", "efficientformer_l1",
               "tiny_vit_5m_224", "davit_tiny", "xcit_nano_12_p16_224") else 64)


def vision(name, size, make):
    entry(f"tv.{name}", size)(make)


def torchvision_model(name, **options):
    def make():
        import torchvision

        return torchvision.models.get_model(name, weights=None, num_classes=8, **options)

    return make


for model, size in [("alexnet", 224), ("squeezenet1_1", 64), ("mnasnet0_5", 64), ("shufflenet_v2_x0_5", 64),
                    ("googlenet", 64), ("mobilenet_v3_small", 64), ("efficientnet_v2_s", 64), ("swin_v2_t", 64),
                    ("maxvit_t", 224), ("regnet_y_400mf", 64), ("convnext_tiny", 64), ("densenet121", 64)]:
    options = {"aux_logits": False} if model == "googlenet" else {}
    vision(model, size, torchvision_model(model, **options))


class Only(nn.Module):
    """The part of a model's answer that is a tensor."""

    def __init__(self, model, pick, **fixed):
        super().__init__()
        self.model, self.pick, self.fixed = model, pick, fixed

    def forward(self, x):
        return self.pick(self.model(x, **self.fixed))


def transformers_entry(name, size=64, pick=lambda y: y.last_hidden_state.mean(1), **fields):
    def make():
        import transformers

        config = getattr(transformers, f"{name}Config")(**fields)
        config._attn_implementation = "sdpa"
        try:
            model = getattr(transformers, f"{name}Model")._from_config(config, attn_implementation="sdpa")
        except ValueError:
            model = getattr(transformers, f"{name}Model")._from_config(config, attn_implementation="eager")
        return Only(model, pick)

    entry(f"hf.{name.lower()}", size)(make)


SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
for name in ["CLIPVision", "SiglipVision", "ViT", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "Data2VecVision", "Aimv2Vision",
             "ViTMSN", "IJepa", "DeiT", "Beit", "Yolos", "BlipVision", "AltCLIPVision", "PixtralVision", "InternVLVision"]:
    extra = {"image_size": [64, 64]} if name in ("Yolos", "InternVLVision") else {"image_size": 64}
    transformers_entry(name, patch_size=[16, 16] if name == "InternVLVision" else 16, **SMALL, **extra)
POOLED = dict(pick=lambda y: y.last_hidden_state.flatten(2).mean(2) if y.last_hidden_state.dim() == 4
              else y.last_hidden_state.mean(1))
for name, fields in {
    "ConvNext": dict(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]),
    "ConvNextV2": dict(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]),
    "Swin": dict(embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=64),
    "Swinv2": dict(embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=64),
    "Swin2SR": dict(embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=64),
    "Segformer": dict(hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1]),
    "Pvt": dict(hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], image_size=64),
    "PvtV2": dict(hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], image_size=64),
    "PoolFormer": dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
    "ResNet": dict(hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], embedding_size=8),
    "RegNet": dict(hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], embedding_size=8, groups_width=8),
    "MobileNetV1": dict(depth_multiplier=0.25), "MobileNetV2": dict(depth_multiplier=0.35),
    "MobileViT": dict(hidden_sizes=[16, 16, 24], neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 24], image_size=64),
    "MobileViTV2": dict(image_size=64), "EfficientNet": dict(width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320),
    "FocalNet": dict(embed_dim=16, hidden_sizes=[16, 32], depths=[1, 1], focal_levels=[2, 2], image_size=64),
    "Bit": dict(hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], embedding_size=8, num_groups=4),
    "Hiera": dict(embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], image_size=[64, 64]),
    "SwiftFormer": dict(embed_dims=[16, 16, 16, 16], depths=[1, 1, 1, 1]),
    "DPT": dict(image_size=64, patch_size=16, **SMALL), "Levit": dict(image_size=64),
    "TextNet": dict(), "DINOv3ConvNext": dict(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]),
}.items():
    transformers_entry(name, **fields, **POOLED)


def diffusers_entry(name, size, make, channels=3):
    entry(f"df.{name}", size, channels)(make)


def make_vae():
    import diffusers

    return Only(diffusers.AutoencoderKL(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
                lambda y: y.sample)


def make_unet():
    import diffusers

    model = diffusers.UNet2DConditionModel(sample_size=16, block_out_channels=(16, 32), layers_per_block=1,
                norm_num_groups=8, cross_attention_dim=16, attention_head_dim=8,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    return Only(model, lambda y: y.sample, timestep=torch.tensor([7]), encoder_hidden_states=torch.ones(1, 4, 16) / 3)


def make_unet2d():
    import diffusers

    model = diffusers.UNet2DModel(sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                attention_head_dim=8)
    return Only(model, lambda y: y.sample, timestep=torch.tensor([7]))


def make_pixart():
    import diffusers

    model = diffusers.PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
                num_layers=1, cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=16, norm_num_groups=4)
    return Only(model, lambda y: y.sample, timestep=torch.tensor([7]), encoder_hidden_states=torch.ones(1, 4, 16) / 3,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None})


def make_tiny_vae():
    import diffusers

    class Both(nn.Module):
        """Without the rounding to 256 steps between both."""

        def __init__(self, vae):
            super().__init__()
            self.vae = vae

        def forward(self, x):
            return self.vae.decoder(self.vae.encoder(x))

    return Both(diffusers.AutoencoderTiny(encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
                num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)))


def make_vq():
    import diffusers

    return Only(diffusers.VQModel(block_out_channels=(16, 32), norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2).encoder, lambda y: y)


def make_dit():
    import diffusers

    return Only(diffusers.DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
                num_layers=1, sample_size=8, num_embeds_ada_norm=10), lambda y: y.sample, timestep=torch.tensor([7]),
                class_labels=torch.tensor([1]))


def make_sd3():
    import diffusers

    return Only(diffusers.SD3Transformer2DModel(sample_size=8, patch_size=2, in_channels=4, num_layers=1,
                attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
                pooled_projection_dim=16, out_channels=4, pos_embed_max_size=8), lambda y: y.sample,
                encoder_hidden_states=torch.ones(1, 4, 16) / 3, pooled_projections=torch.ones(1, 16) / 3,
                timestep=torch.tensor([7]))


diffusers_entry("vae", 32, make_vae)
diffusers_entry("unet", 16, make_unet, 4)
diffusers_entry("unet2d", 16, make_unet2d)
diffusers_entry("pixart", 8, make_pixart, 4)
diffusers_entry("tiny_vae", 32, make_tiny_vae)
diffusers_entry("vq", 32, make_vq)
diffusers_entry("dit", 8, make_dit, 4)
diffusers_entry("sd3", 8, make_sd3, 4)


@entry("own.dists", 64)
class Dists(nn.Module):
    """DISTS against a fixed picture: VGG16's first stages with squared Hann pooling, means and covariances."""

    def __init__(self, width=16):
        super().__init__()
        self.stages = nn.ModuleList()
        last = 3
        for i, (count, out) in enumerate([(2, width), (2, 2 * width), (3, 4 * width)]):
            layers = nn.ModuleList()
            for _ in range(count):
                layers.append(nn.Conv2d(last, out, 3, padding=1))
                last = out
            self.stages.append(layers)
        hann = torch.hann_window(5, periodic=False)[1:-1]
        kernel = hann[:, None] * hann[None]
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None])
        self.register_buffer("other", torch.rand(1, 3, 64, 64))
        total = 3 + width * 7
        self.alpha, self.beta = nn.Parameter(torch.rand(1, total, 1, 1)), nn.Parameter(torch.rand(1, total, 1, 1))

    def features(self, x):
        found = [x]
        for i, layers in enumerate(self.stages):
            if i > 0:
                kernel = self.kernel.expand(x.shape[1], -1, -1, -1)
                x = torch.sqrt(F.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12)
            for layer in layers:
                x = F.relu(layer(x))
            found.append(x)
        return found

    def forward(self, image):
        weights = self.alpha.sum() + self.beta.sum()
        alphas = torch.split(self.alpha / weights, [f.shape[1] for f in self.features(image)], dim=1)
        betas = torch.split(self.beta / weights, [f.shape[1] for f in self.features(image)], dim=1)
        one = two = 0
        for x, y, a, b in zip(self.features(image), self.features(self.other), alphas, betas):
            xm, ym = x.mean([2, 3], keepdim=True), y.mean([2, 3], keepdim=True)
            one = one + (a * (2 * xm * ym + 1e-6) / (xm**2 + ym**2 + 1e-6)).sum(1)
            xv, yv = ((x - xm) ** 2).mean([2, 3], keepdim=True), ((y - ym) ** 2).mean([2, 3], keepdim=True)
            cov = (x * y).mean([2, 3], keepdim=True) - xm * ym
            two = two + (b * (2 * cov + 1e-6) / (xv + yv + 1e-6)).sum(1)
        return (1 - (one + two)).flatten(1)


@entry("own.nima", 64)
class Nima(nn.Module):
    """A distribution of ten marks, and its mean."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 32, 3, 2),
                                  nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(32, 10))

    def forward(self, x):
        return (F.softmax(self.body(x), 1) * torch.arange(1, 11, device=x.device)).sum(1, keepdim=True)


@entry("own.lpips", 64)
class Lpips(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 5, 2, 2), nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 2, 1)])
        self.heads = nn.ModuleList([nn.Conv2d(c, 1, 1, bias=False) for c in (16, 32, 32)])
        self.register_buffer("other", torch.rand(1, 3, 64, 64))

    def forward(self, x):
        y, total = self.other, 0
        for conv, head in zip(self.convs, self.heads):
            x, y = F.relu(conv(x)), F.relu(conv(y))
            unit = lambda v: v / (v.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
            total = total + head((unit(x) - unit(y)) ** 2).mean([2, 3])
        return total


@entry("own.ssim", 64)
class Ssim(nn.Module):
    def __init__(self):
        super().__init__()
        at = torch.arange(11) - 5.0
        g = torch.exp(-at**2 / 4.5)
        self.register_buffer("kernel", (g[:, None] * g[None] / g.sum() ** 2)[None, None].repeat(3, 1, 1, 1))
        self.register_buffer("other", torch.rand(1, 3, 64, 64))

    def forward(self, x):
        blur = lambda v: F.conv2d(v, self.kernel, groups=3)
        y, total = self.other, []
        for _ in range(2):
            a, b = blur(x), blur(y)
            s = (2 * blur(x * y) - 2 * a * b + 9e-4) / (blur(x * x) - a * a + blur(y * y) - b * b + 9e-4)
            total.append((s * (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)).mean([1, 2, 3]))
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return torch.stack(total, 1)


@entry("own.sampling", 32)
class Sampling(nn.Module):
    """Rotations, crops, resizes of every mode, reflections, unfolds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("theta", torch.tensor([[[0.9, -0.3, 0.1], [0.2, 1.1, -0.2]]]))

    def forward(self, x):
        grid = F.affine_grid(self.theta, (1, 3, 20, 24), align_corners=False)
        parts = [F.grid_sample(x, grid, mode, padding, align_corners=aligned).mean([2, 3])
                 for mode in ("bilinear", "bicubic") for padding in ("zeros", "border", "reflection")
                 for aligned in (False, True)]
        for mode in ("bilinear", "bicubic"):
            parts.append(F.interpolate(x, (45, 19), mode=mode, align_corners=True).std([2, 3]))
            parts.append(F.interpolate(x, scale_factor=1.7, mode=mode).std([2, 3]))
        parts.append(F.interpolate(x, (11, 13), mode="bilinear", antialias=True).std([2, 3]))
        parts.append(F.pad(x, (3, 2, 1, 4), mode="reflect").amax([2, 3]))
        parts.append(F.unfold(x, 5, stride=3).pow(3).mean(2)[:, :7])
        parts.append(F.fold(F.unfold(x, 4, stride=2), (32, 32), 4, stride=2).std([2, 3]))
        parts.append(F.lp_pool2d(x, 3, 4).mean([2, 3]))
        parts.append(F.local_response_norm(x, 3).mean([2, 3]))
        parts.append(F.adaptive_avg_pool2d(x, (3, 5)).flatten(1))
        parts.append(torch.roll(x, (3, -2), (2, 3)).cumsum(2).mean([2, 3]))
        parts.append(F.pixel_unshuffle(x, 2).std([2, 3]))
        return torch.cat(parts, 1)


@entry("own.recurrent", 16)
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(48, 8, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 8, batch_first=True)

    def forward(self, x):
        rows, _ = self.lstm(x.permute(0, 2, 1, 3).flatten(2))
        _, last = self.gru(rows)
        return last[0]


@entry("own.mathematics", 16)
class Mathematics(nn.Module):
    def forward(self, x):
        y = x.flatten(2)
        parts = [torch.atan2(y, 1.5 - y), torch.logsumexp(y, 2, True).expand_as(y), torch.log1p(y), torch.exp(y) - 1,
                 torch.erf(y), torch.acos(0.9 * y), torch.tan(y),
                 F.hardswish(8 * y - 4), F.softshrink(y, 0.3), F.hardshrink(y, 0.3), F.mish(y), F.celu(y - 0.5),
                 torch.sort(y, 2).values, torch.var(y, 2, keepdim=True).expand_as(y),
                 F.normalize(y, dim=1), torch.cdist(y, y).mean(2, keepdim=True).expand_as(y), torch.clamp(y, 0.2, 0.8),
                 torch.where(y > 0.5, y.sqrt(), y**1.5), torch.rsqrt(y + 0.1), F.glu(torch.cat([y, y], 1), 1),
                 torch.einsum("bcn,bdn->bcd", y, y).mean(2, keepdim=True).expand_as(y), torch.tril(x).flatten(2),
                 torch.flip(y, (2,)),
                 torch.fmod(y, 0.3), F.softsign(y), torch.logit(y, 0.05), y.prod(1, True).expand_as(y)]
        return torch.stack([p.mean(2) for p in parts], 1).flatten(1)


def build(name, wide=False):
    """The model; where by its own initialization nothing would be left of a gradient, its convolutions are drawn wide and
    its normalizations take their statistics from pictures."""
    make, size, channels, _ = ZOO[name]
    torch.manual_seed(len(name))
    model = make().eval().requires_grad_(False)
    with torch.no_grad():
        for module in model.modules():
            if wide and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            # Scales that begin at nought would hide what they scale.
        for key, p in model.named_parameters():
            if p.numel() and p.is_floating_point() and p.abs().max() == 0 and "bias" not in key:
                p.uniform_(0.2, 0.8)
    image = torch.rand(1, channels, size, size) * 0.9 + 0.05
    if wide:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for m in norms:
            m.momentum = None
            m.reset_running_stats()
        model.train()
        with torch.no_grad():
            model(torch.rand(4, channels, size, size) * 0.9 + 0.05)
        model.eval()
    return model, image


def facts(model, image):
    def run(m, x):
        x = x.clone().requires_grad_()
        y = m(x)
        torch.manual_seed(3)
        cotangent = torch.rand(y.shape).to(y.dtype) - 0.3
        (gradient,) = torch.autograd.grad((y * cotangent).sum(), x)
        return y.detach(), cotangent, gradient

    single = run(model, image)
    if hasattr(model, "fixed"):
        for key, v in model.fixed.items():
            if torch.is_tensor(v) and v.is_floating_point():
                model.fixed[key] = v.double()
    y, cotangent, gradient = run(model.double(), image.double())
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(5)).double()
    with torch.no_grad():
        ends = [((model(image.double() + step * direction)) * cotangent).sum() for step in (1e-6, -1e-6)]
    difference = (ends[0] - ends[1]) / 2e-6
    if hasattr(model, "fixed"):
        for key, v in model.fixed.items():
            if torch.is_tensor(v) and v.is_floating_point():
                model.fixed[key] = v.float()
    model.float()
    error = (single[2] - gradient).abs().max() / gradient.abs().max()
    tensors = dict(image=image, cotangent=cotangent, y=y, gradient=gradient, float32_error=error.reshape(1),
                   direction=direction, difference=difference.reshape(1))
    return {k: v.float().contiguous() for k, v in tensors.items()}


def neighbours(out, name):
    """Gradients in float64 at images that are 1e-5 away."""
    model, image = build(name, load_file(os.path.join(out, f"{name}.safetensors"))["wide"].item() == 1)
    model, image, found = model.double(), image.double(), {}
    for key, v in getattr(model, "fixed", {}).items():
        if torch.is_tensor(v) and v.is_floating_point():
            model.fixed[key] = v.double()
    for i in range(8):
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(i)).double()
        x = (image * (1 + 1e-5 * noise)).requires_grad_()
        y = model(x)
        torch.manual_seed(3)
        (found[str(i)],) = torch.autograd.grad((y * (torch.rand(y.shape).to(y.dtype) - 0.3)).sum(), x)
    save_file({k: v.float() for k, v in found.items()}, os.path.join(out, f"{name}.neighbours.safetensors"))


def make(out, name, exporter):
    """Exports one; the facts of a model are computed once, for both exporters."""
    path = os.path.join(out, f"{name}.{exporter}.onnx")
    known = os.path.join(out, f"{name}.safetensors")
    if os.path.exists(path) and os.path.exists(known):
        return
    wide = os.path.exists(known) and load_file(known).get("wide", torch.zeros(1)).item() == 1
    model, image = build(name, wide)
    if not os.path.exists(known):
        found = facts(model, image)
        if found["gradient"].abs().max() < 1e-9:
            wide = True
            model, image = build(name, wide)
            found = facts(model, image)
        save_file({**found, "wide": torch.tensor([float(wide)])}, known)
    names = dict(input_names=["image"], output_names=["y"])
    half = f"{path}.part"
    if exporter == "dynamo":
        # Its optimizer takes + 1e-12 for + 0 and leaves it out, which makes another function of DISTS.
        torch.onnx.export(model, (image,), half, dynamo=True, external_data=False, verbose=False,
                          optimize=name != "own.dists", **names)
    else:
        torch.onnx.export(model, (image,), half, dynamo=False, opset_version=20 if name == "own.sampling" else 18, **names)
    os.rename(half, path)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("out", nargs="?")
    options.add_argument("--list", action="store_true")
    options.add_argument("--only", default="")
    args = options.parse_args()
    if args.list:
        print("\n".join(name for name in ZOO if re.search(args.only, name)))
        return
    torch.set_num_threads(1)
    for line in sys.stdin:
        name, exporter = line.split()
        try:
            neighbours(args.out, name) if exporter == "neighbours" else make(args.out, name, exporter)
            print("> made", flush=True)
        except Exception as error:
            first = str(error).strip().splitlines()
            print(f"> {type(error).__name__}: {first[0][:150] if first else ''}", flush=True)


if __name__ == "__main__":
    main()
