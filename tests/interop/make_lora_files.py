#!/usr/bin/env python3
"""Writes LoRA files of every form that is read, and what PyTorch makes of them.

    make_lora_files.py OUT [--repository ROOT]

For each model of tests/golden a folder OUT/MODEL with files and folders, one a form, and values.safetensors: for each
form `FORM` the prediction of the U-Net [1, 4, 8, 8] (sample = linspace(-1, 1), t = 500) to the states of "a fox" from the
text encoders, both changed. Files that diffusers loads are loaded by it ("by": "diffusers"), PEFT's folders by PEFT
("peft"); what neither loads is added to the weights as LyCORIS defines it ("dense"). forms.json says which."""
import copy, json, os, re, sys
import torch
from diffusers import DiffusionPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(2)
OUT = sys.argv[1]
ROOT = sys.argv[3] if len(sys.argv) > 3 else "."
ONLY = os.environ.get("ONLY", "")  # make only forms whose names hold this, beside the others of an earlier run
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def normal(*shape, s=0.15):
    return torch.randn(*shape, generator=G) * s


def predict(pipe):
    xl = hasattr(pipe, "text_encoder_2")
    x = torch.linspace(-1, 1, 4 * 64).reshape(1, 4, 8, 8)
    more = {}
    if xl:
        states, _, pooled, _ = pipe.encode_prompt("a fox", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        side = 8 * pipe.vae_scale_factor
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]]).float()}}
    else:
        states, _ = pipe.encode_prompt("a fox", "cpu", 1, False)
    return pipe.unet(x, 500, states, **more).sample.contiguous()


def modules(net, pattern):
    return {n: m for n, m in net.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)) and re.search(pattern, n)}


def flat(name):
    return name.replace(".", "_")


def bare(text_name):
    """kohya's names have text_model, whatever the version of transformers."""
    return text_name if text_name.startswith("text_") else "text_model." + text_name


def pair(m, r):
    """down and up of a layer, as kohya has them."""
    w = m.weight
    if w.ndim == 4:
        return normal(r, *w.shape[1:]), normal(w.shape[0], r, 1, 1)
    return normal(r, w.shape[1]), normal(w.shape[0], r)


def merged(pipe, deltas):
    """A copy of a pipeline with deltas {component: {module: function of weight, bias}}."""
    new = copy.deepcopy(pipe)
    for component, changes in deltas.items():
        net = dict(getattr(new, component).named_modules())
        for name, change in changes.items():
            change(net[name])
    return new


def run(model):
    global G
    G = torch.Generator().manual_seed(7)
    folder = f"{OUT}/{os.path.basename(model)}"
    os.makedirs(folder, exist_ok=True)
    load = lambda: DiffusionPipeline.from_pretrained(f"{ROOT}/{model}", local_files_only=True, safety_checker=None)
    base = load()
    xl = hasattr(base, "text_encoder_2")
    encoders = ["text_encoder"] + (["text_encoder_2"] if xl else [])
    te = {"text_encoder": "lora_te1_" if xl else "lora_te_", "text_encoder_2": "lora_te2_"}
    values, forms = {"base": predict(base)}, {}
    if ONLY:
        values = load_file(f"{folder}/values.safetensors")
        forms = json.load(open(f"{folder}/forms.json"))
    skips = lambda name: ONLY not in name

    def write(name, tensors, metadata=None, ext="safetensors"):
        path = f"{folder}/{name}.{ext}"
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        if ext == "safetensors":
            save_file(tensors, path, metadata=metadata)
        else:
            torch.save(tensors, path)
        return path

    def by_diffusers(name, tensors, metadata=None, ext="safetensors", scale=1.0):
        if skips(name):
            return
        path = write(name, tensors, metadata, ext)
        pipe = load()
        pipe.load_lora_weights(folder, weight_name=os.path.basename(path), **({} if ext == "safetensors" else {"use_safetensors": False}))
        if scale != 1:
            pipe.set_adapters(pipe.get_active_adapters(), [scale] * len(pipe.get_active_adapters()))
        values[name], forms[name] = predict(pipe), {"by": "diffusers", "file": os.path.basename(path), "scale": scale}

    def by_hand(name, tensors, deltas, ext="safetensors"):
        if skips(name):
            return
        path = write(name, tensors, None, ext)
        values[name], forms[name] = predict(merged(base, deltas)), {"by": "dense", "file": os.path.basename(path), "scale": 1}

    def kohya(targets, r, alpha=None, prefix="lora_unet_", dtype=torch.float32, text=True, rename=lambda n: n):
        """r and alpha of a module's number."""
        found = {}
        nets = [(base.unet, prefix, targets, rename)] + [(getattr(base, e), te[e], "layers.*(q_proj|out_proj|fc1)$", bare) for e in encoders if text]
        for net, start, pattern, named in nets:
            for i, (n, m) in enumerate(modules(net, pattern).items()):
                down, up = pair(m, r(i))
                key = start + flat(named(n))
                found[f"{key}.lora_down.weight"], found[f"{key}.lora_up.weight"] = down.to(dtype), up.to(dtype)
                if alpha is not None:
                    found[f"{key}.alpha"] = torch.tensor(float(alpha(i)))
        return found

    some = r"(mid_block|down_blocks.1|up_blocks.0).*(to_q|to_v|ff.net.2)$"
    few = r"mid_block.*(to_q|to_out.0)$"
    convs = r"mid_block.*(conv1|time_emb_proj)$|down_blocks.0.*(conv2|downsamplers.0.conv|conv_shortcut)|up_blocks.*(upsamplers.0.conv|conv_shortcut)|^time_embedding.linear_1$|^conv_(in|out)$|proj_(in|out)$"
    # kohya's and diffusers' forms, loaded by diffusers
    by_diffusers("kohya_default", kohya(some, lambda i: 2, lambda i: 1))
    by_diffusers("kohya_no_alpha", kohya(few, lambda i: 2))
    by_diffusers("kohya_scaled", kohya(few, lambda i: 2, lambda i: 4), scale=0.6)
    # diffusers 0.42 ignores alphas that differ between attentions' layers ("alpha_pattern keys did not match").
    def in_dense(name, tensors):
        def change(key):
            def add(m):
                down, up = tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"]
                m.weight.add_(tensors[f"{key}.alpha"] / down.shape[0] * (up.flatten(1) @ down.flatten(1)).reshape(m.weight.shape))
            return add
        named = {"lora_unet_" + flat(n): n for n in modules(base.unet, ".")}
        keys = {k.split(".")[0] for k in tensors}
        by_hand(name, tensors, {"unet": {named[k]: change(k) for k in keys}})

    in_dense("kohya_resized", kohya(some, lambda i: 1 + i % 4, lambda i: 1 + i % 4, text=False))
    in_dense("kohya_mixed_alpha", kohya(few, lambda i: 1 + i % 3, lambda i: [1, 4, 0.5][i % 3], text=False))
    by_diffusers("kohya_half", kohya(few, lambda i: 2, lambda i: 1, dtype=torch.float16))
    by_diffusers("kohya_bf16", kohya(few, lambda i: 2, lambda i: 1, dtype=torch.bfloat16))
    by_diffusers("kohya_torch", kohya(few, lambda i: 2, lambda i: 1), ext="bin")
    locon = {k: v for k, v in kohya(r"resnets.*conv[12]$|resnets.*time_emb_proj$|samplers|proj_in", lambda i: 2, lambda i: 1, text=False).items()}
    by_diffusers("locon", locon)
    dif = {}
    for n, m in modules(base.unet, convs).items():
        down, up = pair(m, 2)
        dif[f"unet.{n}.lora_A.weight"], dif[f"unet.{n}.lora_B.weight"] = down, up
    for e in encoders:
        for n, m in modules(getattr(base, e), r"layers.*(v_proj|fc2)$").items():
            down, up = pair(m, 3)
            dif[f"{e}.{bare(n)}.lora_A.weight"], dif[f"{e}.{bare(n)}.lora_B.weight"] = down, up
    by_diffusers("diffusers_convs_text", dif)
    old = {}
    for n, m in modules(base.unet, few).items():
        down, up = pair(m, 2)
        attention, end = n.rsplit(".to_", 1)
        key = f"unet.{attention}.processor.to_{end.removesuffix('.0')}_lora"
        old[f"{key}.down.weight"], old[f"{key}.up.weight"] = down, up
    for n, m in modules(base.text_encoder, r"q_proj$|out_proj$").items():
        down, up = pair(m, 2)
        key = "text_encoder." + bare(n).replace("q_proj", "to_q").replace("out_proj", "to_out") + "_lora"
        old[f"{key}.down.weight"], old[f"{key}.up.weight"] = down, up
    by_diffusers("diffusers_processors", old)
    layer = {}
    for n, m in modules(base.unet, few).items():
        down, up = pair(m, 2)
        layer[f"unet.{n}.lora.down.weight"], layer[f"unet.{n}.lora.up.weight"] = down, up
    for n, m in modules(base.text_encoder, r"v_proj$|fc1$").items():
        down, up = pair(m, 2)
        layer[f"text_encoder.{bare(n)}.lora_linear_layer.down.weight"] = down
        layer[f"text_encoder.{bare(n)}.lora_linear_layer.up.weight"] = up
    by_diffusers("diffusers_linear_layer", layer)

    # PEFT's adapters: folders loaded by PEFT, and diffusers' files of the same with metadata
    def by_peft(name, config, target="unet"):
        if skips(name):
            return
        pipe = load()
        net = get_peft_model(getattr(pipe, target), config)
        for n, p in net.named_parameters():
            if "magnitude" in n:
                p.mul_(1 + normal(*p.shape, s=0.3))
            elif re.search("lora_|hada_|lokr_", n):
                p.copy_(normal(*p.shape, s=0.3 if "hada" in n or "lokr" in n else 0.15))
        net.save_pretrained(f"{folder}/{name}")
        os.path.exists(f"{folder}/{name}/README.md") and os.remove(f"{folder}/{name}/README.md")
        values[name], forms[name] = predict(pipe), {"by": "peft", "file": name, "scale": 1}

    by_peft("peft_rslora", LoraConfig(r=4, lora_alpha=6, target_modules=["to_q", "to_v"], use_rslora=True))
    by_peft("peft_dora", LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "to_v", "conv1", "proj_in"], use_dora=True))
    by_peft("peft_patterns", LoraConfig(r=2, lora_alpha=3, target_modules=ATTENTION, rank_pattern={"to_q": 4, "mid_block.*.attn2.to_k": 3},
                                        alpha_pattern={"attn1.to_v": 8, "^mid_block.attentions.0.transformer_blocks.0.attn1.to_k": 1}))
    by_peft("peft_bias", LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "ff.net.2", "conv2"], lora_bias=True))
    by_peft("peft_loha", LoHaConfig(r=2, alpha=3, target_modules=["to_q", "conv1"], use_effective_conv2d=True))
    by_peft("peft_lokr", LoKrConfig(r=2, alpha=3, target_modules=["to_q", "to_v", "conv1"], use_effective_conv2d=True, decompose_both=True))
    by_peft("peft_text", LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "fc2"]), target="text_encoder")

    def saved(name, config, text=None):
        if skips(name):
            return
        pipe = load()
        pipe.unet.add_adapter(config)
        metadata = {"unet_lora_adapter_metadata": config.to_dict()}
        layers = {}
        from peft.utils import get_peft_model_state_dict
        nets = [pipe.unet]
        if text is not None:
            pipe.text_encoder.add_adapter(text)
            nets.append(pipe.text_encoder)
            metadata["text_encoder_lora_adapter_metadata"] = text.to_dict()
        for net in nets:
            for n, p in net.named_parameters():
                if "magnitude" in n:
                    p.mul_(1 + normal(*p.shape, s=0.3))
                elif "lora_" in n:
                    p.copy_(normal(*p.shape))
        layers["unet_lora_layers"] = get_peft_model_state_dict(pipe.unet)
        if text is not None:
            layers["text_encoder_lora_layers"] = get_peft_model_state_dict(pipe.text_encoder)
        type(pipe).save_lora_weights(folder, weight_name=f"{name}.safetensors", **layers, **metadata)
        pipe = load()
        pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors")
        values[name], forms[name] = predict(pipe), {"by": "diffusers", "file": f"{name}.safetensors", "scale": 1}

    saved("saved_patterns", LoraConfig(r=2, lora_alpha=5, target_modules=ATTENTION, rank_pattern={"to_q": 3}, alpha_pattern={"to_out.0": 1}))
    saved("saved_rslora_text", LoraConfig(r=4, lora_alpha=5, target_modules=["to_q"], use_rslora=True),
          LoraConfig(r=2, lora_alpha=7, target_modules=["q_proj", "out_proj"]))
    saved("saved_dora", LoraConfig(r=2, lora_alpha=5, target_modules=["to_q", "ff.net.2"], use_dora=True))

    # LyCORIS' forms, which are added to the weights here
    def dense(name, pattern, make, prefix="lora_unet_", named=lambda n: n):
        tensors, changes = {}, {}
        for n, m in modules(base.unet, pattern).items():
            own, change = make(m)
            tensors |= {f"{prefix}{flat(named(n))}.{k}": v for k, v in own.items()}
            changes[n] = change
        by_hand(name, tensors, {"unet": changes})

    def added(delta):
        return lambda m: m.weight.add_(delta.reshape(m.weight.shape))

    def mid(m):
        o, i, *k = m.weight.shape
        down, core, up = normal(2, i, 1, 1), normal(2, 2, *k, s=.5), normal(o, 2, 1, 1)
        delta = torch.einsum("oa,abkl,bi->oikl", up[:, :, 0, 0], core, down[:, :, 0, 0])
        return {"lora_down.weight": down, "lora_mid.weight": core, "lora_up.weight": up, "alpha": torch.tensor(3.)}, added(1.5 * delta)

    def loha(m, tucker=False):
        o, i, *k = m.weight.shape
        def half():
            if tucker and k:
                t, a, b = normal(2, 2, *k, s=.5), normal(2, o, s=.4), normal(2, i, s=.4)
                return {"t": t, "a": a, "b": b}, torch.einsum("ijkl,jr,ip->prkl", t, b, a)
            a, b = normal(o, 2, s=.4), normal(2, m.weight[0].numel(), s=.4)
            return {"a": a, "b": b}, a @ b
        (p, x), (q, y) = half(), half()
        own = {f"hada_w{j}_{e}" if e != "t" else f"hada_t{j}": v for j, part in ((1, p), (2, q)) for e, v in part.items()}
        return own | {"alpha": torch.tensor(1.)}, added(0.5 * x * y)

    def split(n):
        return next(f for f in (4, 3, 2, 1) if n % f == 0)

    def lokr(m, kind):
        o, i, *k = m.weight.shape
        a, b = split(o), split(i)
        n = i // b * (k[0] * k[1] if k else 1)
        own = {"alpha": torch.tensor(1.)}
        if kind == "whole":
            w1, w2 = normal(a, b), normal(o // a, i // b, *k)
            own |= {"lokr_w1": w1, "lokr_w2": w2}
            scale = 1
        elif kind == "tucker" and k:
            w1, t, x, y = normal(a, b), normal(2, 2, *k, s=.5), normal(2, o // a, s=.4), normal(2, i // b, s=.4)
            own |= {"lokr_w1": w1, "lokr_t2": t, "lokr_w2_a": x, "lokr_w2_b": y}
            w2, scale = torch.einsum("ijkl,jr,ip->prkl", t, y, x), 0.5
        else:
            p, q, x, y = normal(a, 2), normal(2, b), normal(o // a, 2, s=.4), normal(2, n, s=.4)
            own |= {"lokr_w1_a": p, "lokr_w1_b": q, "lokr_w2_a": x, "lokr_w2_b": y}
            w1, w2, scale = p @ q, x @ y, 0.5
        if w2.ndim == 4:
            w1 = w1[:, :, None, None]
        return own, added(scale * torch.kron(w1.contiguous(), w2.contiguous()))

    def dora(m, on_output):
        o, i, *k = m.weight.shape
        down, up = pair(m, 2)
        w = m.weight + 0.5 * (up.flatten(1) @ down.flatten(1)).reshape(m.weight.shape)
        dims = [d for d in range(w.ndim) if d != (0 if on_output else 1)]
        norm = w.pow(2).sum(dims, keepdim=True).sqrt()
        scale = norm * (1 + normal(*norm.shape, s=.3))
        def change(layer):
            layer.weight.copy_(w * scale / norm)
        return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.), "dora_scale": scale}, change

    def plain(m):
        down, up = pair(m, 1)
        return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(2.)}, added(2 * up.flatten(1) @ down.flatten(1))

    def full(m):
        d, b = normal(*m.weight.shape, s=.02), m.bias is not None and normal(*m.bias.shape, s=.1)
        def change(layer):
            layer.weight.add_(d)
            if m.bias is not None:
                layer.bias.add_(b)
        return {"diff": d} | ({"diff_b": b} if m.bias is not None else {}), change

    small = r"mid_block.*(to_q|to_out.0|conv1|proj_in)$|upsamplers.0.conv$"
    dense("lycoris_locon_mid", r"mid_block.*conv1$|upsamplers.0.conv$", mid)
    dense("lycoris_loha", small, loha)
    dense("lycoris_loha_tucker", small, lambda m: loha(m, True))
    dense("lycoris_lokr", small, lambda m: lokr(m, "factors"))
    dense("lycoris_lokr_whole", small, lambda m: lokr(m, "whole"), prefix="lycoris_")
    dense("lycoris_lokr_tucker", small, lambda m: lokr(m, "tucker"))
    dense("lycoris_dora", small, lambda m: dora(m, True))
    dense("lycoris_dora_inputs", small, lambda m: dora(m, False))
    dense("lycoris_full", r"mid_block.*(to_q|to_out.0|proj_in|time_emb_proj)$", full)
    if xl:
        # Stability's names, as kohya's scripts write them for XL.
        from collections import OrderedDict
        def sgm(n):
            n = re.sub(r"^down_blocks\.(\d)\.(resnets|attentions)\.(\d)", lambda m: f"input_blocks.{1 + 2 * int(m[1]) + int(m[3])}.{0 if m[2] == 'resnets' else 1}", n)
            n = re.sub(r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{2 + 2 * int(m[1])}.0.op", n)
            n = re.sub(r"^up_blocks\.(\d)\.(resnets|attentions)\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[3])}.{0 if m[2] == 'resnets' else 1}", n)
            n = re.sub(r"^up_blocks\.(\d)\.upsamplers\.0\.conv", lambda m: f"output_blocks.{2 * int(m[1]) + 1}.2.conv", n)
            n = re.sub(r"^mid_block\.attentions\.0", "middle_block.1", n)
            n = re.sub(r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", n)
            if re.search(r"\.0\.|^middle_block\.[02]", n) and "transformer" not in n:
                for a, b in (("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"), ("conv1", "in_layers.2"), ("conv2", "out_layers.3")):
                    n = n.replace(a, b)
            return n
        by_diffusers("kohya_sgm", kohya(r"(down|mid|up)_block.*(attn1.to_q|attn2.to_out.0|ff.net.0.proj|proj_in)$", lambda i: 2, lambda i: 1, rename=sgm))
        dense("lycoris_sgm_convs", r"(down|mid|up)_block.*(conv1|time_emb_proj|conv_shortcut|samplers.0.conv)$", plain, named=sgm)
    save_file(values, f"{folder}/values.safetensors")
    json.dump(forms, open(f"{folder}/forms.json", "w"), indent=1, sort_keys=True)
    print(folder, {n: round(float((v - values["base"]).abs().mean() / values["base"].abs().mean()), 4) for n, v in values.items()})


for model in ("tests/golden/tiny-sd", "tests/golden/tiny-sdxl"):
    run(model)
