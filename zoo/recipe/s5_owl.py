"""Stage 5e: tiny transformers OwlViTForObjectDetection (64x64 input, patch 8 -> 8x8 tokens), towers initialised from the
tiny CLIP.  Centre assignment: an object belongs to the token whose cell holds its centre; sigmoid focal loss on all
token x query logits, L1 + GIoU on the assigned boxes.  Queries are concept names ("book", "a photo of a book", "books").
usage: s5_owl.py [budget_s] [threads]"""
import json, math, os, random, shutil, sys, time
import numpy as np, torch
import torch.nn.functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss
from transformers import CLIPModel, CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection
from concepts import CONCEPTS
from prefs import corrupt
from s2_clip import MEAN, STD, clip_x
from scenes import ROOT, art, load_cache

W = f"{ROOT}/build"; NAMES = list(CONCEPTS); IDX = {c: i for i, c in enumerate(NAMES)}


def from_clip(clip, tok):
    t, v = clip.config.text_config, clip.config.vision_config
    cfg = OwlViTConfig(
        text_config=dict(vocab_size=t.vocab_size, hidden_size=128, intermediate_size=t.intermediate_size, num_hidden_layers=t.num_hidden_layers,
                         num_attention_heads=t.num_attention_heads, max_position_embeddings=16, hidden_act="quick_gelu", pad_token_id=tok.pad_token_id,
                         bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id),
        vision_config=dict(hidden_size=v.hidden_size, intermediate_size=v.intermediate_size, num_hidden_layers=v.num_hidden_layers,
                           num_attention_heads=v.num_attention_heads, image_size=64, patch_size=8, hidden_act="quick_gelu"),
        projection_dim=128)                      # the class head compares with the text embedding: projection_dim = text hidden size
    m = OwlViTForObjectDetection(cfg); sd = m.state_dict(); used = 0
    for k, x in clip.state_dict().items():
        k = "owlvit." + k.replace("vision_model.pre_layrnorm", "vision_model.pre_layernorm")
        if "text_model.embeddings.position_embedding" in k:
            x = x[:16]
        if k in sd and sd[k].shape == x.shape:
            sd[k] = x.clone(); used += 1
    m.load_state_dict(sd)
    with torch.no_grad():
        m.owlvit.text_projection.weight.copy_(torch.eye(128))
        for h in (m.class_head, m.box_head):          # transformers draws these with std 1.0: saturated boxes that never learn
            for l in h.modules():
                if isinstance(l, torch.nn.Linear):
                    torch.nn.init.xavier_uniform_(l.weight); torch.nn.init.zeros_(l.bias)
        for l in (m.box_head.dense2, m.class_head.logit_shift, m.class_head.logit_scale):
            l.weight.mul_(.1)
    print("tensors from CLIP", used, "of", len(sd))
    return m


def tok16(tok, names):
    return tok(names, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids


def forward(m, x, ids):
    f, _ = m.image_embedder(pixel_values=x)
    f = f.reshape(len(x), -1, f.shape[-1])
    q = m.owlvit.text_projection(m.owlvit.text_model(input_ids=ids).pooler_output).float()
    logits, _ = m.class_predictor(f.float(), q[None].expand(len(x), -1, -1))
    return logits, m.box_predictor(f.float(), f)


def xyxy(b):
    return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)


def evaluate(m, tok, imgs, meta, n=512):
    m.eval(); det = [[] for _ in NAMES]; ngt = np.zeros(len(NAMES)); gts = {}
    pb, has = [], []; ids = tok16(tok, NAMES)
    with torch.no_grad():
        for i in range(0, n, 64):
            lo, bx = forward(m, clip_x(imgs[i:i + 64]), ids); pr = lo.sigmoid(); bx = xyxy(bx) * 64
            for j in range(len(pr)):
                objs = meta[i + j]["objs"]
                for o in objs:
                    gts.setdefault((i + j, IDX[o["concept"]]), []).append(list(o["box"])); ngt[IDX[o["concept"]]] += 1
                s, c = pr[j].max(1)
                for t in torch.nonzero(s > .05).flatten().tolist():
                    det[c[t]].append((s[t].item(), i + j, bx[j, t]))
                pb.append(pr[j][:, IDX["book"]].max().item()); has.append(any(o["concept"] == "book" for o in objs))
    aps = []
    for c in range(len(NAMES)):
        if not ngt[c]:
            continue
        hit = set(); tp = []
        for s, im, b in sorted(det[c], key=lambda d: -d[0]):
            g = gts.get((im, c), [])
            iou = box_iou(b[None], torch.tensor(g, dtype=torch.float32)).flatten() if g else torch.zeros(0)
            k = int(iou.argmax()) if len(iou) else -1
            ok = k >= 0 and iou[k] >= .5 and (im, k) not in hit
            if ok:
                hit.add((im, k))
            tp.append(ok)
        tp = np.cumsum(tp) if tp else np.zeros(1); rec = tp / ngt[c]; pre = tp / np.arange(1, len(tp) + 1)
        pre = np.maximum.accumulate(pre[::-1])[::-1]; aps.append(float(np.sum(np.diff(np.concatenate([[0], rec])) * pre)))
    pb, has = np.array(pb), np.array(has); m.train()
    auc = (pb[has][:, None] > pb[~has][None]).mean()
    return dict(ap50=round(float(np.mean(aps)), 4), book_ap50=round(aps[[c for c in range(len(NAMES)) if ngt[c]].index(IDX["book"])], 4), book_prob_with=round(float(pb[has].mean()), 4),
                book_prob_without=round(float(pb[~has].mean()), 4), book_auc=round(float(auc), 4))


def main(budget, threads):
    torch.set_num_threads(threads); torch.manual_seed(0); random.seed(0); rng = np.random.default_rng(0)
    tok = CLIPTokenizer.from_pretrained(f"{W}/tokenizer"); imgs, meta = load_cache("train"); hi, hm = load_cache("held")
    m = from_clip(CLIPModel.from_pretrained(f"{W}/clip", dtype=torch.float32), tok); m.set_attn_implementation("eager"); m.train()
    with torch.no_grad():                        # start at a small probability, as a focal-loss head should
        m.class_head.logit_shift.bias.fill_(-.6); m.class_head.logit_scale.bias.fill_(8.)
    STEPS, B, LR = 2500, 32, 5e-4
    opt = torch.optim.AdamW(m.parameters(), LR, weight_decay=.02, betas=(.9, .98), fused=True)
    forms = [tok16(tok, NAMES), tok16(tok, [f"a photo of {art(c)}" for c in NAMES]), tok16(tok, [art(c) for c in NAMES]),
             tok16(tok, ["books" if c == "book" else c for c in NAMES])]
    t0 = time.time(); step = 0; hist = []
    while True:
        p = max(step / STEPS, (time.time() - t0) / budget)
        if p >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = LR * min(1, (step + 1) / 100) * (.02 + .98 * .5 * (1 + math.cos(math.pi * p)))
        b = rng.integers(0, len(imgs), B)
        x = np.stack([corrupt(imgs[i], random, random.choice(["blur", "wash", "noise", "jpeg", "dark"]), random.uniform(0, .6)) if random.random() < .25 else imgs[i] for i in b])
        ids = torch.where(torch.rand(len(NAMES), 1) < .6, forms[0], forms[random.randrange(1, 4)])
        with torch.autocast("cpu", torch.bfloat16):
            lo, bx = forward(m, clip_x(x), ids)
        lo, bx = lo.float(), bx.float()
        tgt = torch.zeros_like(lo); gi, gp, gb = [], [], []
        for j, i in enumerate(b):
            for o in meta[i]["objs"]:
                x0, y0, x1, y1 = o["box"]; cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
                tkn = min(7, int(cy // 8)) * 8 + min(7, int(cx // 8)); tgt[j, tkn, IDX[o["concept"]]] = 1
                gi.append(j); gp.append(tkn); gb.append([cx / 64, cy / 64, (x1 - x0) / 64, (y1 - y0) / 64])
        pr = lo.sigmoid(); ce = F.binary_cross_entropy_with_logits(lo, tgt, reduction="none"); pt = pr * tgt + (1 - pr) * (1 - tgt)
        cls = ((.5 * tgt + .5 * (1 - tgt)) * (1 - pt) ** 2 * ce).sum() / len(gi)
        pb, gb = bx[gi, gp], torch.tensor(gb)
        box = 5 * (pb - gb).abs().sum(-1).mean() + 2 * generalized_box_iou_loss(xyxy(pb), xyxy(gb)).mean()
        loss = 4 * cls + box
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(), 1.); opt.step(); step += 1
        hist.append((cls.item(), box.item()))
        if step % 50 == 0:
            print(step, round(time.time() - t0), "s cls/box", np.mean(hist[-50:], 0).round(3), evaluate(m, tok, hi, hm, 128) if step % 400 == 0 else "", flush=True)
    secs = time.time() - t0
    f = dict(stage="owlvit", params=sum(q.numel() for q in m.parameters()), seconds=round(secs), steps=step, batch=B, **evaluate(m, tok, hi, hm, 1024))
    m.eval(); out = f"{W}/owlvit"; m.save_pretrained(out)
    from safetensors.torch import load_file, save_file
    save_file({k: v.half() for k, v in load_file(f"{out}/model.safetensors").items()}, f"{out}/model.safetensors", metadata={"format": "pt"})
    for q in os.listdir(f"{W}/tokenizer"):
        shutil.copy(f"{W}/tokenizer/{q}", out)
    c = json.load(open(f"{out}/tokenizer_config.json")); c["model_max_length"] = 16; json.dump(c, open(f"{out}/tokenizer_config.json", "w"), indent=1)
    json.dump({"image_processor_type": "OwlViTImageProcessor", "do_resize": True, "size": {"height": 64, "width": 64}, "resample": 3, "do_center_crop": False,
               "crop_size": {"height": 64, "width": 64}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
               "image_mean": MEAN.flatten().tolist(), "image_std": STD.flatten().tolist(), "processor_class": "OwlViTProcessor"},
              open(f"{out}/preprocessor_config.json", "w"), indent=1)
    json.dump(f, open(f"{W}/facts_owlvit.json", "w"), indent=1); print(f)


if __name__ == "__main__":
    a = sys.argv; main(float(a[1]) if len(a) > 1 else 240, int(a[2]) if len(a) > 2 else 2)
