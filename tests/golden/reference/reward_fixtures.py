#!/usr/bin/env python3
"""Tiny reward models and golden scores/gradients -> ../rewards/.  Preprocessing is in rewards_ref.py, written out in docs/formulas.md."""
import io, json, os, shutil
import numpy as np, torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional as TF, InterpolationMode as IM
import rewards_ref as W, make_fixtures as M

torch.set_num_threads(1)
D = M.HERE + "/rewards"
PROMPT, QUERY = "a red cat, and books.", "book"


def build():
    from transformers import (CLIPConfig, CLIPModel, CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection, CLIPImageProcessor,
                              OwlViTImageProcessor)
    import open_clip
    shutil.rmtree(D, ignore_errors=True); os.makedirs(D)
    vis = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    for name, act, seed in (("clip_quick_gelu", "quick_gelu", 21), ("clip_gelu", "gelu", 22)):
        nv = M.write_tokenizer(f"{D}/{name}", "<|endoftext|>")
        torch.manual_seed(seed)
        txt = dict(vocab_size=nv, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                   max_position_embeddings=77, hidden_act=act, bos_token_id=nv - 2, eos_token_id=nv - 1, pad_token_id=nv - 1)
        m = CLIPModel(CLIPConfig(text_config=txt, vision_config=dict(vis, hidden_act=act), projection_dim=24))
        M.gain(m, 3.0)
        m.save_pretrained(f"{D}/{name}")
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(f"{D}/{name}")
    nv = M.write_tokenizer(f"{D}/owlvit", "!")
    torch.manual_seed(23)
    txt = dict(vocab_size=nv, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=16,
               bos_token_id=nv - 2, eos_token_id=nv - 1, pad_token_id=0)
    m = OwlViTForObjectDetection(OwlViTConfig(text_config=txt, vision_config=dict(vis, image_size=48), projection_dim=32))
    M.gain(m, 3.0)
    with torch.no_grad():      # class logits of a useful size: (cos + shift) * (elu(scale) + 1)
        h = m.class_head
        h.dense0.weight.mul_(.4 / h.dense0.weight.std()); h.logit_shift.weight.mul_(.15 / h.logit_shift.weight.std())
        h.logit_scale.weight.mul_(.1 / h.logit_scale.weight.std()); h.logit_scale.bias.fill_(1.5); h.logit_shift.bias.fill_(-.3)
        for b in (m.box_head.dense0, m.box_head.dense1, m.box_head.dense2):
            b.weight.mul_(.3 / b.weight.std())
    m.save_pretrained(f"{D}/owlvit")
    OwlViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(f"{D}/owlvit")
    torch.manual_seed(24)
    cfg = dict(embed_dim=24, vision_cfg=dict(image_size=32, layers=2, width=48, head_width=12, patch_size=8),
               text_cfg=dict(context_length=77, vocab_size=nv, width=32, heads=4, layers=2))
    m = open_clip.model.CLIP(**cfg)
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim >= 2 and "embedding" not in n:
                p.mul_(3.0)
            elif p.ndim == 1:
                p.add_(.1 * torch.randn(p.shape))
    torch.save({"state_dict": m.state_dict()}, f"{D}/open_clip_tiny.pt")
    json.dump(cfg, open(f"{D}/open_clip_tiny.json", "w"), indent=1)
    torch.manual_seed(25)
    a = W.AestheticMLP(24, (32, 16, 12, 8))
    with torch.no_grad():
        for p in a.parameters():
            p.mul_(2.0)
    torch.save(a.state_dict(), f"{D}/aesthetic_tiny.pth")
    return cfg


def image(h, w, seed):
    """smooth + texture + edges, strictly inside (0,1), float32"""
    g = torch.Generator().manual_seed(seed)
    lo = F.interpolate(torch.rand(1, 3, 6, 6, generator=g), (h, w), mode="bicubic", align_corners=False)
    x = lo + .12 * torch.randn(1, 3, h, w, generator=g)
    x[:, :, h // 4:h // 2, w // 5:w // 2] += .3
    return (x * .8 + .1).clamp(0.004, .996).float()


def pil(x):
    return Image.fromarray((x[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def pil_prep(im, kind, n):
    """uint8 PIL path: PIL bicubic resize on uint8 (clamped and rounded), then /255, normalise."""
    if kind == "crop":
        w, h = im.size
        nw, nh = (n, int(n * h / w)) if w <= h else (int(n * w / h), n)
        im = im.resize((nw, nh), Image.BICUBIC)
        l, t = int(round((nw - n) / 2.)), int(round((nh - n) / 2.))
        im = im.crop((l, t, l + n, t + n))
    elif kind == "direct":
        im = im.resize((n, n), Image.BICUBIC)
    else:
        w, h = im.size
        s = n / float(max(h, w))
        nh, nw = round(h * s), round(w * s)
        im = im.resize((nw, nh), Image.BICUBIC)
        c = Image.new("RGB", (n, n)); c.paste(im, ((n - nw) // 2, (n - nh) // 2)); im = c
    return W.norm(torch.from_numpy(np.array(im)).permute(2, 0, 1)[None].double() / 255)


def main():
    cfg = build()
    import open_clip
    from transformers import CLIPModel, CLIPTokenizer, OwlViTForObjectDetection, CLIPImageProcessor, OwlViTImageProcessor
    dd = torch.float64
    ld = lambda c, p: c.from_pretrained(f"{D}/{p}").to(dd).eval().requires_grad_(False)
    cq, cg, ow = ld(CLIPModel, "clip_quick_gelu"), ld(CLIPModel, "clip_gelu"), ld(OwlViTForObjectDetection, "owlvit")
    oc = open_clip.model.CLIP(**cfg); oc.load_state_dict(torch.load(f"{D}/open_clip_tiny.pt")["state_dict"]); oc.to(dd).eval().requires_grad_(False)
    mlp = W.AestheticMLP(24, (32, 16, 12, 8)); mlp.load_state_dict(torch.load(f"{D}/aesthetic_tiny.pth")); mlp.to(dd).eval().requires_grad_(False)
    tk = CLIPTokenizer.from_pretrained(f"{D}/clip_gelu")
    ids = torch.tensor(tk([PROMPT], padding="max_length", max_length=77, truncation=True).input_ids)
    raw = tk(PROMPT).input_ids
    oct_ = torch.tensor([raw + [0] * (77 - len(raw))])
    q = CLIPTokenizer.from_pretrained(f"{D}/owlvit")(QUERY).input_ids
    qi, qm = torch.tensor([q + [0] * (16 - len(q))]), torch.tensor([[1] * len(q) + [0] * (16 - len(q))])
    px = {}   # models after preprocessing, for the forward comparison
    px["pickscore"] = ("crop", 32, lambda p: (F.normalize(W.clip_image_embed(cg, p), dim=-1) * F.normalize(W.clip_text_embed(cg, ids), dim=-1)).sum(-1))
    px["clipscore"] = ("crop", 32, lambda p: (F.normalize(W.clip_image_embed(cq, p), dim=-1) * F.normalize(W.clip_text_embed(cq, ids), dim=-1)).sum(-1))
    px["aesthetic"] = ("crop", 32, lambda p: mlp(F.normalize(W.clip_image_embed(cq, p), dim=-1)).squeeze(-1))
    px["hps"] = ("pad", 32, lambda p: (oc.encode_image(p, normalize=True) * oc.encode_text(oct_, normalize=True)).sum(-1))
    px["objectness"] = ("direct", 48, lambda p: W.owl_logits(ow, p, qi, qm).sigmoid().amax(1))
    fn = {"pickscore": lambda x: W.clip_cos(cg, x, ids), "clipscore": lambda x: W.clip_cos(cq, x, ids), "hps": lambda x: W.hps(oc, x, oct_, 32),
          "aesthetic": lambda x: W.aesthetic(cq, mlp, x), "objectness": lambda x: W.owl(ow, x, qi, qm), "symmetry": W.symmetry,
          "jpeg_cubic_420": lambda x: W.jpeg_error(x, 50, "cubic", True), "jpeg_cubic_444": lambda x: W.jpeg_error(x, 50, "cubic", False),
          "jpeg_ste_420": lambda x: W.jpeg_error(x, 50, "ste", True), "jpeg_ste_444": lambda x: W.jpeg_error(x, 50, "ste", False),
          "jpeg_sgtarget_420": lambda x: W.jpeg_error(x, 50, "ste", True, sg_target=True)}
    P = {"crop": W.prep_crop, "pad": W.prep_pad, "direct": W.prep_direct}

    # images: choose seeds that keep every JPEG coefficient away from a rounding tie (both subsamplings, all three)
    imgs, ties = {}, {}
    for k, (h, w) in enumerate(((96, 96), (80, 112), (64, 64))):
        best = None
        for seed in range(40):
            x = image(h, w, 100 * k + seed)
            inf = []
            for sub in (True, False):
                W.jpeg(x.double(), 50, "ste", sub, inf)
            if best is None or min(inf) > best[0]:
                best = (min(inf), seed, x)
        imgs[f"img{k}"], ties[f"img{k}"] = best[2], dict(min_distance_to_tie=best[0], seed=100 * k + best[1], size=[h, w])
    ex, rep = {}, {"prompt": PROMPT, "owl_query": QUERY, "images": ties, "input_ids_hf": ids.tolist(), "input_ids_open_clip": oct_.tolist(),
                   "owl_input_ids": qi.tolist(), "owl_attention_mask": qm.tolist(), "scores": {}, "fd_rel": {}, "float32": {}, "forward": {}}
    for n, f in fn.items():
        for k, x32 in imgs.items():
            x = x32.double().requires_grad_(True)
            s = f(x)
            g, = torch.autograd.grad(s.sum(), x)
            ex[f"{n}.{k}.score"], ex[f"{n}.{k}.grad"] = s.detach().float().contiguous(), g.float().contiguous()
            rep["scores"].setdefault(n, {})[k] = dict(score=s.item(), grad_norm=g.norm().item(), grad_absmax=g.abs().max().item())
            if n in px:
                ex[f"{n}.{k}.pixel_values"] = P[px[n][0]](x32.double(), px[n][1]).float().contiguous()
            if n.startswith("jpeg") and k == "img1":
                rep["scores"][n]["recon_range"] = [v(W.jpeg(x32.double(), 50, n.split("_")[1].replace("sgtarget", "ste"), "420" in n)).item() for v in (torch.min, torch.max)]
            # directional finite difference (ste/sgtarget are not derivatives of their forward)
            if "ste" not in n and "sgtarget" not in n:
                gd = torch.Generator().manual_seed(9)
                d = torch.randn(x.shape, generator=gd, dtype=dd); h = 1e-6
                with torch.no_grad():
                    num = (f(x + h * d) - f(x - h * d)).item() / (2 * h)
                an = (g * d).sum().item()
                rep["fd_rel"].setdefault(n, {})[k] = abs(num - an) / max(abs(an), 1e-12)
    with torch.no_grad():      # our owl against the model's own forward
        p = W.prep_direct(imgs["img1"].double(), 48)
        rep["owl_logits_vs_hf_forward_absmax"] = (ow(input_ids=qi, attention_mask=qm, pixel_values=p).logits[..., 0].double() - W.owl_logits(ow, p, qi, qm)).abs().max().item()
    for k, x32 in imgs.items():
        top = W.owl_logits(ow, W.prep_direct(x32.double(), 48), qi, qm).flatten().topk(2).values
        rep.setdefault("owl_top2_logits", {})[k] = top.tolist()
    # float32 rerun, as a tolerance guide
    for m in (cq, cg, ow, oc, mlp):
        m.float()
    for n, f in fn.items():
        w = 0.
        for k, x32 in imgs.items():
            x = x32.clone().requires_grad_(True)
            s = f(x); g, = torch.autograd.grad(s.sum(), x)
            e = ex[f"{n}.{k}.grad"]
            w = max(w, ((g - e).abs().max() / e.abs().max().clamp_min(1e-30)).item())
            rep["float32"].setdefault(n, {}).setdefault("score_abs", 0.)
            rep["float32"][n]["score_abs"] = max(rep["float32"][n]["score_abs"], (s - ex[f"{n}.{k}.score"]).abs().max().item())
        rep["float32"][n]["grad_rel_max"] = w
    for m in (cq, cg, ow, oc, mlp):
        m.to(dd)
    # forward: tensor path vs uint8 PIL path vs HF processor vs other resize conventions
    hf = {"crop": CLIPImageProcessor.from_pretrained(f"{D}/clip_gelu"), "direct": OwlViTImageProcessor.from_pretrained(f"{D}/owlvit")}
    rep["hf_processor_classes"] = {k: type(v).__name__ for k, v in hf.items()}
    try:
        from transformers import CLIPImageProcessorPil, OwlViTImageProcessorPil
        hfp = {"crop": CLIPImageProcessorPil.from_pretrained(f"{D}/clip_gelu"), "direct": OwlViTImageProcessorPil.from_pretrained(f"{D}/owlvit")}
    except Exception as e:
        hfp = {}; rep["hf_pil_error"] = repr(e)[:200]
    with torch.no_grad():
        for n, (kind, sz, mf) in px.items():
            for k, x32 in imgs.items():
                x = x32.double(); im = pil(x32)
                xq = torch.from_numpy(np.array(im)).permute(2, 0, 1)[None].double() / 255
                tp = P[kind](x, sz); s = mf(tp).item()
                o = dict(tensor=s, tensor_on_uint8_image=mf(P[kind](xq, sz)).item() - s)
                pp = pil_prep(im, kind, sz)
                o["pil_uint8"] = mf(pp).item() - s
                o["pil_uint8_pixel_absmax"] = (pp - tp).abs().max().item()
                for lab, pr in (("hf_processor", hf), ("hf_processor_pil", hfp)):
                    if kind in pr:
                        hp = torch.as_tensor(pr[kind](images=im, return_tensors="pt")["pixel_values"]).double()
                        o[lab] = mf(hp).item() - s
                        o[lab + "_vs_pil_pixel_absmax"] = (hp - pp).abs().max().item()
                # no antialias (older torchvision on tensors; a = -0.75)
                old = TF.resize
                TF.resize = lambda t, size, interp, antialias=True: old(t, size, interp, antialias=False)
                o["no_antialias_a_-0.75"] = mf(P[kind](x, sz)).item() - s
                TF.resize = lambda t, size, interp, antialias=True: old(t, size, IM.BILINEAR, antialias=True)
                o["bilinear_antialias"] = mf(P[kind](x, sz)).item() - s
                TF.resize = old
                rep["forward"].setdefault(n, {})[k] = o
        for k, x32 in imgs.items():
            im = pil(x32); xq = torch.from_numpy(np.array(im)).permute(2, 0, 1)[None].double() / 255
            for sub in (2, 0):
                b = io.BytesIO(); im.save(b, "JPEG", quality=50, subsampling=sub)
                r = torch.from_numpy(np.array(Image.open(io.BytesIO(b.getvalue())))).permute(2, 0, 1)[None].double() / 255
                rep["forward"].setdefault("jpeg_420" if sub == 2 else "jpeg_444", {})[k] = dict(
                    real_pil=(xq - r).pow(2).mean().item(), ours_round=W.jpeg_error(xq, 50, "ste", sub == 2).item(),
                    ours_cubic=W.jpeg_error(xq, 50, "cubic", sub == 2).item())
            u = W.symmetry(x32.double()).item(); v = x32.double()
            rep["forward"].setdefault("symmetry", {})[k] = dict(biased=u, unbiased=u * v.std(unbiased=False).item() / v.std().item())
    save_file({k: v.contiguous() for k, v in imgs.items()}, f"{D}/images.safetensors")
    save_file(ex, f"{D}/expected.safetensors")
    json.dump(rep, open(f"{D}/rewards.json", "w"), indent=1)
    print(json.dumps({k: rep[k] for k in rep if "ids" not in k and "mask" not in k}, indent=1))


if __name__ == "__main__":
    main()
