#!/usr/bin/env python3
"""Golden values of networks of many shapes, computed by diffusers and transformers in float64.

  python tests/models/make_model_goldens.py        -> tests/golden/models/NAME/

Each folder holds a tiny network with random weights in its library's own format (half precision on disk) or, for
the zoo's, only values; `values.safetensors` holds inputs, `expected.*`, and gradients by plain autograd.
Versions: torch 2.11, diffusers 0.42, transformers 5.17.
"""
import json, os, shutil
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(REPO, "tests", "golden", "models")
torch.set_num_threads(1)


def sharpened(model, gain, dtype):
    """Weights strong enough that every input matters, rounded to what is stored."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2 and "embed" not in name.split(".")[-2]:
                p.mul_(gain)
            elif p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape))
    return model.to(dtype).eval().requires_grad_(False)


class Adapted(nn.Module):
    """W x + bias + (alpha / r) B A x"""

    def __init__(self, base, a, b, scale):
        super().__init__()
        self.base, self.a, self.b, self.scale = base, a, b, scale

    def forward(self, x, *args, **kwargs):
        return self.base(x) + self.scale * (x @ self.a.T) @ self.b.T


def adapt(unet, rank, alpha, ends):
    """-> {name: tensor that requires a gradient}"""
    tensors = {}
    for name, module in list(unet.named_modules()):
        if "transformer_blocks" not in name or not any(name.endswith("." + e) for e in ends):
            continue
        n_out, n_in = module.weight.shape
        a = (torch.randn(rank, n_in) / n_in ** 0.5).double().requires_grad_()
        b = (0.25 * torch.randn(n_out, rank) / rank ** 0.5).double().requires_grad_()
        tensors[name + ".lora_A.weight"], tensors[name + ".lora_B.weight"] = a, b
        parent, leaf = name.rsplit(".", 1)
        setattr(unet.get_submodule(parent), leaf, Adapted(module, a, b, alpha / rank))
    return tensors


def stored(tensors):
    """Inputs as they are stored, in float32, so that both sides compute with the same numbers."""
    return {k: v.float().double() for k, v in tensors.items()}


def write(name, values, **facts):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    flat = {k: v.detach().float().contiguous() if v.is_floating_point() else v for k, v in values.items()}
    save_file(flat, os.path.join(folder, "values.safetensors"))
    if facts:
        with open(os.path.join(folder, "facts.json"), "w") as f:
            json.dump(facts, f, indent=2)


def save(model, name):
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def unet_values(unet, name, *, batch, size, tokens, timesteps, rank, alpha, ends):
    unet = unet.double()
    inputs = stored({
        "sample": torch.randn(batch, unet.config.in_channels, *size),
        "timestep": torch.tensor(timesteps),
        "encoder_hidden_states": torch.randn(batch, tokens, unet.config.cross_attention_dim),
    })
    cotangent = stored({"cotangent": torch.randn(batch, unet.config.out_channels, *size)})["cotangent"]
    run = lambda x: unet(x, inputs["timestep"], inputs["encoder_hidden_states"], return_dict=False)[0]
    plain = run(inputs["sample"])
    lora = adapt(unet, rank, alpha, ends)
    with torch.no_grad():
        for p in lora.values():
            p.copy_(p.float())
    x = inputs["sample"].clone().requires_grad_()
    adapted = run(x)
    grads = torch.autograd.grad(adapted, [x, *lora.values()], cotangent)
    write(name, {
        **inputs, "cotangent": cotangent, **{"lora." + k: v for k, v in lora.items()},
        "expected.plain": plain, "expected.prediction": adapted, "expected.grad.sample": grads[0],
        **{"expected.grad." + k: g for k, g in zip(lora, grads[1:])},
    }, rank=rank, alpha=alpha, targets=list(ends))


def unets():
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    # Like Stable Diffusion 2: heads for each level, linear projections. Sizes that halve to odd ones.
    torch.manual_seed(1)
    u = UNet2DConditionModel(
        block_out_channels=(8, 12, 16), layers_per_block=(1, 2, 1), norm_num_groups=4, cross_attention_dim=10,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 3, 4), use_linear_projection=True, upcast_attention=True, sample_size=(10, 7))
    u = sharpened(u, 1.5, torch.float16)
    save(u, "unet_sd2")
    unet_values(u, "unet_sd2", batch=2, size=(10, 7), tokens=5, timesteps=[981.0, 20.5], rank=3, alpha=1.5, ends=attention)
    # Without attention in the middle, other sinusoids, an odd number of channels at the first level, bfloat16 on disk.
    torch.manual_seed(2)
    u = UNet2DConditionModel(
        block_out_channels=(9, 15), layers_per_block=2, norm_num_groups=3, cross_attention_dim=7,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D", attention_head_dim=3, transformer_layers_per_block=(1, 2),
        flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20, in_channels=5, out_channels=3, norm_eps=1e-3)
    u = sharpened(u, 1.4, torch.bfloat16)
    save(u, "unet_plain_middle")
    unet_values(u, "unet_plain_middle", batch=1, size=(6, 4), tokens=3, timesteps=[333.0], rank=2, alpha=4.0,
                ends=(*attention, "ff.net.0.proj", "ff.net.2"))
    # Like the distilled U-Nets that have no middle at all.
    torch.manual_seed(3)
    u = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=6,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), mid_block_type=None, attention_head_dim=(1, 4))
    u = sharpened(u, 1.5, torch.float16)
    save(u, "unet_no_middle")
    unet_values(u, "unet_no_middle", batch=3, size=(4, 6), tokens=4, timesteps=[1.0, 500.0, 999.0], rank=16, alpha=16.0,
                ends=attention)
    torch.manual_seed(4)
    u = UNet2DConditionModel.from_pretrained(os.path.join(REPO, "zoo", "pipeline", "unet")).eval().requires_grad_(False)
    unet_values(u, "unet_zoo", batch=2, size=(16, 16), tokens=32, timesteps=[751.0, 51.0], rank=1, alpha=1.0, ends=attention)


def lora_files():
    """An adapter as PEFT trains it and as diffusers saves it, in both naming schemes, with what it predicts."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_kohya
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    folder = os.path.join(OUT, "lora_files")
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(31)
    u = UNet2DConditionModel.from_pretrained(os.path.join(OUT, "unet_no_middle"), torch_dtype=torch.float32).eval()
    u.requires_grad_(False)
    u.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    for name, p in u.named_parameters():
        if "lora_" in name:
            p.data = 0.5 * torch.randn(p.shape)
    tensors = get_peft_model_state_dict(u)
    config = u.peft_config["default"].to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=tensors, weight_name="diffusers.safetensors",
                                              unet_lora_adapter_metadata=config)
    kohya = convert_state_dict_to_kohya({"unet." + k: v for k, v in tensors.items()})
    for k in kohya:
        if k.endswith(".alpha"):
            kohya[k] = torch.tensor(2.0)
    save_file({k: v.contiguous() for k, v in kohya.items()}, os.path.join(folder, "kohya.safetensors"))
    v = load_file(os.path.join(OUT, "unet_no_middle", "values.safetensors"))
    u = u.double()
    write("lora_files", {"expected.prediction": u(v["sample"].double(), v["timestep"], v["encoder_hidden_states"].double(),
                                                  return_dict=False)[0]})


def vae_values(vae, name, batch, size):
    vae = vae.double()
    z = stored({"z": torch.randn(batch, vae.config.latent_channels, *size)})["z"].requires_grad_()
    image = vae.decode(z / vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5
    cotangent = stored({"c": torch.randn(image.shape)})["c"]
    grad, = torch.autograd.grad(image, z, cotangent)
    write(name, {"latents": z, "cotangent": cotangent, "expected.image": image, "expected.grad.latents": grad})


def decoder_only(folder, rename=lambda k: k):
    path = os.path.join(folder, "diffusion_pytorch_model.safetensors")
    tensors = load_file(path)
    save_file({rename(k): v for k, v in tensors.items() if k.startswith(("decoder.", "post_quant_conv."))}, path)


def vaes():
    kind = dict(down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
    torch.manual_seed(11)
    v = AutoencoderKL(block_out_channels=(8, 8, 16), layers_per_block=1, norm_num_groups=4, scaling_factor=0.3, **kind)
    v = sharpened(v, 1.4, torch.float16)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(k):
        for new, name in old.items():
            k = k.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        return k
    decoder_only(save(v, "vae_old_names"), rename)
    vae_values(v, "vae_old_names", 2, (3, 5))
    torch.manual_seed(12)
    v = AutoencoderKL(block_out_channels=(8, 12, 16), layers_per_block=2, norm_num_groups=4, latent_channels=3,
                      mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False, **kind)
    v = sharpened(v, 1.4, torch.float16)
    decoder_only(save(v, "vae_no_attention"))
    vae_values(v, "vae_no_attention", 1, (4, 3))
    torch.manual_seed(13)
    v = AutoencoderKL.from_pretrained(os.path.join(REPO, "zoo", "pipeline", "vae")).eval().requires_grad_(False)
    vae_values(v, "vae_zoo", 1, (16, 16))


def texts():
    def one(name, cls, seed, ids, **over):
        torch.manual_seed(seed)
        c = CLIPTextConfig(**{**dict(vocab_size=40, hidden_size=12, intermediate_size=20, num_hidden_layers=3,
                                     num_attention_heads=3, max_position_embeddings=9, projection_dim=7,
                                     bos_token_id=0, eos_token_id=39, pad_token_id=1), **over})
        m = sharpened(cls(c), 3.0, torch.float16)
        save(m, name)
        o = m.double()(torch.tensor(ids), output_hidden_states=True)
        values = {"input_ids": torch.tensor(ids), "expected.last": o.last_hidden_state,
                  **{f"expected.hidden.{i}": h for i, h in enumerate(o.hidden_states)}}
        values["expected.pooled" if cls is CLIPTextModel else "expected.projected"] = \
            o.pooler_output if cls is CLIPTextModel else o.text_embeds
        write(name, values)

    # The end of text is token 30, not the largest id, and also pads.
    one("text_gelu", CLIPTextModelWithProjection, 21, [[0, 38, 5, 30, 30, 30, 30], [0, 7, 30, 39, 3, 30, 30]],
        hidden_act="gelu", eos_token_id=30)
    # Old configurations say 2: the largest id is the end.
    one("text_legacy_end", CLIPTextModel, 22, [[0, 4, 39, 1, 1, 1, 1, 1, 1], [0, 2, 5, 6, 39, 2, 1, 1, 1]],
        eos_token_id=2, layer_norm_eps=1e-3)


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    unets()
    lora_files()
    vaes()
    texts()
