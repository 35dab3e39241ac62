"""Stage 6: copy everything to out/, load each part with the loader of its real counterpart, compare rewards of generated
images with clean renders of the same captions, write out/checks.json and the size table."""
import json, os, shutil, time
import numpy as np, torch
import torch.nn.functional as F
from concepts import CONCEPTS
from s2_clip import clip_x
from scenes import ROOT

W, O = f"{ROOT}/build", f"{ROOT}/out"


def half_file(path):
    from safetensors.torch import load_file, save_file
    save_file({k: (v.half() if v.is_floating_point() else v) for k, v in load_file(path).items()}, path, metadata={"format": "pt"})


def main():
    torch.set_num_threads(1); t0 = time.time()
    for d in ("pipeline", "rewards/clip", "rewards/pickscore", "rewards/hpsv2", "rewards/aesthetic", "rewards/owlvit"):
        src = f"{W}/{d.split('/')[-1]}"; shutil.rmtree(f"{O}/{d}", ignore_errors=True)
        if os.path.exists(src):
            shutil.copytree(src, f"{O}/{d}")
        else:
            print("MISSING", src)
    for f in os.listdir(f"{W}/tokenizer"):                       # HPS uses open_clip's tokenizer in reality; here the tiny one
        shutil.copy(f"{W}/tokenizer/{f}", f"{O}/rewards/hpsv2")
        shutil.copy(f"{W}/tokenizer/{f}", f"{O}/pipeline/tokenizer")   # transformers 5 saves only tokenizer.json
    half_file(f"{O}/pipeline/text_encoder/model.safetensors")    # config says float32: computes in fp32
    shutil.copy(f"{W}/preview.png", O)

    from diffusers import StableDiffusionPipeline
    from transformers import AutoProcessor, CLIPModel, OwlViTForObjectDetection
    chk = {}
    p = StableDiffusionPipeline.from_pretrained(f"{O}/pipeline"); p.set_progress_bar_config(disable=True)
    chk["pipeline_dtypes"] = [str(x.dtype) for x in (p.unet, p.vae, p.text_encoder)]
    t = time.time(); im = p("a red apple on a blue background", num_inference_steps=25, guidance_scale=5., generator=torch.Generator().manual_seed(0)).images[0]
    chk["one_image_25_steps_s"] = round(time.time() - t, 2); chk["image_size"] = im.size

    z = np.load(f"{W}/samples.npz"); caps, gen, ref = z["caps"][-128:].tolist(), z["img"][-128:], z["best"][-128:]
    tok = p.tokenizer; ids = tok(caps, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    x = {"generated": clip_x(gen), "clean": clip_x(ref)}; R = {}
    wrong = torch.roll(torch.arange(len(caps)), 1)
    with torch.no_grad():
        for n in ("clip", "pickscore"):
            m = CLIPModel.from_pretrained(f"{O}/rewards/{n}"); proc = AutoProcessor.from_pretrained(f"{O}/rewards/{n}")
            e = proc(text=[caps[0]], images=[im], return_tensors="pt", padding="max_length", truncation=True, max_length=32)
            chk[f"{n}_logits_per_image"] = m(**e).logits_per_image.item(); chk[f"{n}_dtype"] = str(m.dtype)
            tt = F.normalize(m.text_projection(m.text_model(input_ids=ids).pooler_output), dim=-1)
            vv = {k: F.normalize(m.visual_projection(m.vision_model(pixel_values=q).pooler_output), dim=-1) for k, q in x.items()}
            s = 1. if n == "clip" else m.logit_scale.exp().item()
            R[n] = {k: (v * tt).sum(-1) * s for k, v in vv.items()}; R[n]["clean, wrong caption"] = (vv["clean"] * tt[wrong]).sum(-1) * s
            if n == "clip":
                emb = vv
        import open_clip
        c = json.load(open(f"{O}/rewards/hpsv2/open_clip_config.json"))["model_cfg"]
        h = open_clip.model.CLIP(c["embed_dim"], c["vision_cfg"], c["text_cfg"], quick_gelu=c["quick_gelu"]).eval()
        chk["hps_load"] = str(h.load_state_dict(torch.load(f"{O}/rewards/hpsv2/HPS_tiny.pt", weights_only=True)["state_dict"]))
        tt = h.encode_text(ids, normalize=True); vv = {k: h.encode_image(q, normalize=True) for k, q in x.items()}
        R["hpsv2"] = {k: (v * tt).sum(-1) for k, v in vv.items()}; R["hpsv2"]["clean, wrong caption"] = (vv["clean"] * tt[wrong]).sum(-1)
        from s5_aesthetic import MLP
        a = MLP(emb["clean"].shape[1]).eval(); a.load_state_dict(torch.load(f"{O}/rewards/aesthetic/aesthetic_tiny.pth", weights_only=True))
        R["aesthetic"] = {k: a(v).squeeze(-1) for k, v in emb.items()}
        o = OwlViTForObjectDetection.from_pretrained(f"{O}/rewards/owlvit"); proc = AutoProcessor.from_pretrained(f"{O}/rewards/owlvit")
        from PIL import Image
        e = proc(text=[["book", "cat"]] * 4, images=[Image.fromarray(g) for g in ref[:4]], return_tensors="pt", padding="max_length", max_length=16, truncation=True)
        out = o(**e); chk["owl_shapes"] = [list(out.logits.shape), list(out.pred_boxes.shape)]
        q = proc.tokenizer(["book"], padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
        qe = o.owlvit.text_projection(o.owlvit.text_model(input_ids=q).pooler_output)
        hb = torch.tensor(["book" in c for c in caps])
        for k, v in x.items():
            f, _ = o.image_embedder(pixel_values=v); f = f.reshape(len(v), -1, f.shape[-1])
            pr = o.class_predictor(f, qe[None].expand(len(v), -1, -1))[0].sigmoid().amax((1, 2))
            R.setdefault("owl book prob, caption with book", {})[k] = pr[hb]; R.setdefault("owl book prob, caption without", {})[k] = pr[~hb]
    chk["rewards_mean"] = {n: {k: round(v.mean().item(), 4) for k, v in d.items()} for n, d in R.items()}
    chk["clean_beats_generated"] = {n: round((d["clean"] > d["generated"]).float().mean().item(), 3) for n, d in R.items()}
    size = {}
    for r, _, fs in os.walk(O):
        for f in fs:
            if f.endswith((".safetensors", ".pt", ".pth", ".bin")):
                size[os.path.relpath(f"{r}/{f}", O)] = os.path.getsize(f"{r}/{f}")
    chk["bytes"] = size; chk["total_MB"] = round(sum(size.values()) / 1e6, 2); chk["seconds"] = round(time.time() - t0)
    json.dump(chk, open(f"{O}/checks.json", "w"), indent=1); print(json.dumps(chk, indent=1))


if __name__ == "__main__":
    main()
