#!/usr/bin/env python3
"""Writes single_files/KIND.json, names and shapes of a tiny single-file checkpoint of Stable Diffusion 1, 2 and XL, and
KIND.npy, the picture [H, W, 3] that diffusers draws with its weights; of 2 also v2_lora.json and v2_lora.npy, with a LoRA.

Weights are a hash of place and index, which the test computes too, so that none is stored. They are put under
latent-diffusion's names here and read with diffusers' own conversion. Needs diffusers 0.42, transformers and torch."""
import json, os, re, sys
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "single_files")
TINY = os.path.join(HERE, "..", "golden", "tiny-sd")


def noise(t, count):
    """Numbers from -1 to 1, by an integer hash."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(t * 40503 + 12345)
    for _ in range(2):
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x45D9F3B)
    x ^= x >> np.uint32(16)
    return x.astype(np.float64) / 2**31 - 1


def fill(shapes):
    weights = {}
    for t, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        v = noise(t, int(np.prod(shape)))
        if len(shape) == 1:
            v = .1 * v + (1 if name.endswith("weight") else 0)
        else:
            v = v * (1.7 / np.prod(shape[1:])) ** .5
        weights[name] = torch.from_numpy(v.astype(np.float32)).reshape(shape)
    return weights


def renamed(key, table):
    for ours, theirs in table:
        if key.startswith(ours + "."):
            return theirs + key[len(ours):]
    raise KeyError(key)


def unet_names(net):
    c = net.config
    L, n = c.layers_per_block, len(c.block_out_channels)
    table = [("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"), ("add_embedding.linear_1", "label_emb.0.0"),
             ("add_embedding.linear_2", "label_emb.0.2"), ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2")]
    i = 1
    for b in range(n):
        for j in range(L):
            table += [(f"down_blocks.{b}.resnets.{j}", f"input_blocks.{i}.0"), (f"down_blocks.{b}.attentions.{j}", f"input_blocks.{i}.1")]
            i += 1
        table.append((f"down_blocks.{b}.downsamplers.0.conv", f"input_blocks.{i}.0.op"))
        i += 1
    table += [("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"), ("mid_block.resnets.1", "middle_block.2")]
    o = 0
    for b in range(n):
        for j in range(L + 1):
            table += [(f"up_blocks.{b}.resnets.{j}", f"output_blocks.{o}.0"), (f"up_blocks.{b}.attentions.{j}", f"output_blocks.{o}.1")]
            o += 1
        attends = c.up_block_types[b].startswith("Cross")
        table.append((f"up_blocks.{b}.upsamplers.0.conv", f"output_blocks.{o - 1}.{2 if attends else 1}.conv"))
    names = {}
    for key, v in net.state_dict().items():
        new = renamed(key, table)
        if ".resnets." in key:
            for a, z in (("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
                         ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")):
                new = new.replace(f".{a}.", f".{z}.")
        names["model.diffusion_model." + new] = list(v.shape)
    return names


def vae_names(net):
    n = len(net.config.block_out_channels)
    names = {}
    for key, v in net.state_dict().items():
        if key.startswith(("encoder", "quant_conv")):
            continue
        new, shape = key, list(v.shape)
        for i in range(n):
            new = new.replace(f"up_blocks.{i}.resnets", f"up.{n - 1 - i}.block").replace(f"up_blocks.{i}.upsamplers.0", f"up.{n - 1 - i}.upsample")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "attentions" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm").replace("to_out.0", "proj_out")
            for q in "qkv":
                new = new.replace(f"to_{q}", q)
            if len(shape) == 2:
                shape += [1, 1]
        names["first_stage_model." + new] = shape
    return names


def clip_names(net, prefix):
    return {prefix + "text_model." + k.removeprefix("text_model."): list(v.shape) for k, v in net.state_dict().items() if "position_ids" not in k}


def open_clip_names(net, prefix, layers):
    c = net.config
    w = c.hidden_size
    names = {"token_embedding.weight": [c.vocab_size, w], "positional_embedding": [77, w], "ln_final.weight": [w], "ln_final.bias": [w],
             "text_projection": [w, c.projection_dim], "logit_scale": []}
    for i in range(layers):
        p = f"transformer.resblocks.{i}."
        names |= {p + "attn.in_proj_weight": [3 * w, w], p + "attn.in_proj_bias": [3 * w], p + "attn.out_proj.weight": [w, w], p + "attn.out_proj.bias": [w],
                  p + "mlp.c_fc.weight": [c.intermediate_size, w], p + "mlp.c_fc.bias": [c.intermediate_size],
                  p + "mlp.c_proj.weight": [w, c.intermediate_size], p + "mlp.c_proj.bias": [w]}
        names |= {p + f"ln_{k}.{e}": [w] for k in (1, 2) for e in ("weight", "bias")}
    return {prefix + k: v for k, v in names.items()}


def load(net, weights):
    bare = net if hasattr(net, "text_model") else None
    if isinstance(net, CLIPTextModel) and bare is None:
        weights = {k.removeprefix("text_model."): v for k, v in weights.items()}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    wrong = [k for k in unexpected if "text_projection" not in k and ".layers.2." not in k]
    assert not [k for k in missing if not k.startswith(("encoder", "quant_conv")) and "position_ids" not in k] and not wrong, (missing, unexpected)


def text(cls, tokenizer, layers, **more):
    return cls(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=1,
                              projection_dim=48, max_position_embeddings=77, eos_token_id=2, **more)).eval()


def make(kind):
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(TINY, "tokenizer"))
    base = dict(sample_size=8, block_out_channels=(32, 64), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    if kind == "v1":
        unet = UNet2DConditionModel(**base, cross_attention_dim=64, attention_head_dim=8)
    elif kind == "v2":
        unet = UNet2DConditionModel(**base, cross_attention_dim=64, attention_head_dim=[1, 1], use_linear_projection=True)
    else:
        base.update(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
        unet = UNet2DConditionModel(**base, cross_attention_dim=128, attention_head_dim=[1, 1], use_linear_projection=True, transformer_layers_per_block=[1, 2],
                                    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=6 * 256 + 48)
    vae = AutoencoderKL(block_out_channels=(32, 64), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                        scaling_factor=.13025 if kind == "xl" else .18215)
    names = unet_names(unet) | vae_names(vae)
    quick, exact = dict(hidden_act="quick_gelu"), dict(hidden_act="gelu")
    texts = {"v1": [text(CLIPTextModel, tokenizer, 2, **quick)], "v2": [text(CLIPTextModel, tokenizer, 2, **exact)],
             "xl": [text(CLIPTextModel, tokenizer, 2, **quick), text(CLIPTextModelWithProjection, tokenizer, 3, **exact)]}[kind]
    prefixes = {"v1": ["cond_stage_model.transformer."], "v2": ["cond_stage_model.model."],
                "xl": ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."]}[kind]
    for net, prefix in zip(texts, prefixes):
        # Stable Diffusion 2's file has a block more than is read.
        names |= clip_names(net, prefix) if "transformer" in prefix else open_clip_names(net, prefix, 3)
    weights = fill(names)
    load(unet, single.convert_ldm_unet_checkpoint(dict(weights), unet.config))
    load(vae, single.convert_ldm_vae_checkpoint(dict(weights), vae.config))
    for net, prefix in zip(texts, prefixes):
        if "transformer" in prefix:
            load(net, {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        else:
            converted = single.convert_open_clip_checkpoint(net, dict(weights), prefix=prefix)
            load(net, {k if k.startswith("text_") else "text_model." + k: v for k, v in converted.items()})
    scheduler = DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False, clip_sample=False,
                              prediction_type="v_prediction" if kind == "v2" else "epsilon")
    latents = torch.from_numpy((1.7 * noise(10**4, 256)).astype(np.float32)).reshape(1, 4, 8, 8)
    if kind == "xl":
        pipe = StableDiffusionXLPipeline(vae=vae, unet=unet, text_encoder=texts[0], text_encoder_2=texts[1], tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler)
    else:
        pipe = StableDiffusionPipeline(vae=vae, unet=unet, text_encoder=texts[0], tokenizer=tokenizer, scheduler=scheduler, safety_checker=None,
                                       feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a fox", num_inference_steps=4, guidance_scale=3, latents=latents, height=16, width=16, output_type="np").images[0]
    print(kind, image.shape, image.min(), image.mean(), image.max(), image.std(), sum(v.numel() for v in weights.values()))
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, kind + ".json"), "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(names[k])}" for k in sorted(names)) + "\n}\n")
    np.save(os.path.join(OUT, kind + ".npy"), image.astype(np.float32))
    if kind == "v2":
        draw_lora(pipe, latents)


def draw_lora(pipe, latents):
    """A LoRA in kohya's names, rank 2 and alpha 1, on layers of every sort: its names and shapes, and the picture with it."""
    shapes = {}
    nets = [("lora_unet_", pipe.unet, r"proj_in|proj_out|to_q|to_out\.0|ff\.net\.0\.proj|mid_block.*conv1|time_emb_proj"),
            ("lora_te_text_model_", pipe.text_encoder, r"q_proj|out_proj|fc1")]
    for prefix, net, wanted in nets:
        for name, layer in net.named_modules():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) and re.search(f"({wanted})$", name):
                out, inner, *kernel = layer.weight.shape
                key = prefix + name.removeprefix("text_model.").replace(".", "_")
                shapes[f"{key}.lora_down.weight"] = [2, inner, *kernel]
                shapes[f"{key}.lora_up.weight"] = [out, 2, *(1 for _ in kernel)]
    weights = fill(shapes)
    weights |= {k.replace(".lora_up.weight", ".alpha"): torch.tensor(1.) for k in shapes if k.endswith("up.weight")}
    pipe.load_lora_weights(weights)
    image = pipe("a fox", num_inference_steps=4, guidance_scale=3, latents=latents, height=16, width=16, output_type="np").images[0]
    with open(os.path.join(OUT, "v2_lora.json"), "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(shapes[k])}" for k in sorted(shapes)) + "\n}\n")
    np.save(os.path.join(OUT, "v2_lora.npy"), image.astype(np.float32))


for kind in sys.argv[1:] or ("v1", "v2", "xl"):
    make(kind)
