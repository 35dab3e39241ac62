"""Stage 7: out/README.md from the measured facts."""
import glob, json, os, shutil
from scenes import ROOT
W, O = f"{ROOT}/build", f"{ROOT}/out"
F = {os.path.basename(f)[6:-5]: json.load(open(f)) for f in glob.glob(f"{W}/facts_*.json")}
os.makedirs(f"{O}/facts", exist_ok=True)
for f in glob.glob(f"{W}/facts_*.json"):
    shutil.copy(f, f"{O}/facts")
os.makedirs(f"{O}/licenses", exist_ok=True)
shutil.copy(f"{ROOT}/data/package/LICENSE", f"{O}/licenses/emoji-datasource-google.MIT.txt")
rd = open(f"{ROOT}/data/package/README.md").read()
i = rd.find("Android/Google/Noto images"); s = rd.rfind("\n#", 0, i)
open(f"{O}/licenses/emoji-datasource-google.README-excerpt.txt", "w").write(rd[s:rd.find("\n## ", i)].strip() + "\n")
C = json.load(open(f"{O}/checks.json")); B = C["bytes"]
row = lambda k, *a: "| " + " | ".join([k, *map(str, a)]) + " |\n"
g = F["check_grad"]
c, v, u, p, h, a, w = (F[k] for k in ("clip", "vae_decoder", "unet", "pick", "hps", "aesthetic", "owlvit"))
kb = lambda s: f"{sum(n for f, n in B.items() if f.startswith(s)) / 1e6:.2f} MB"
t = f"""# zoo: a tiny, really trained Stable-Diffusion pipeline and five reward models

All folders have the file formats and key names of their big counterparts; total weights {C['total_MB']} MB.
Trained on procedural 64x64 emoji scenes (recipe/scenes.py, recipe/concepts.py: 42 concepts, 10 backgrounds) on a shared
2-core CPU.  Weights of the rewards and of the text encoder are fp16 on disk with `dtype: float32` in config.json, so
`from_pretrained` computes in fp32; U-Net, VAE and aesthetic head are fp32 on disk.

| part | format | parameters | size | seconds | measured |
|---|---|---|---|---|---|
"""
t += row("tokenizer", "CLIPTokenizer vocab.json+merges.txt", "1024 entries, 510 merges", "-", 4, "model_max_length 32; longest caption 16 tokens")
t += row("pipeline/text_encoder", "CLIPTextModel (tower of clip/)", c["text_tower_params"], kb("pipeline/text_encoder"), "-", "hidden 128, 4 layers")
t += row("pipeline/vae", "AutoencoderKL [32,64,64], f=4, 4 ch", f"{v['params']} (decoder {v['decoder_params']})", kb("pipeline/vae"),
         " + ".join(str(F["vae_" + k]["seconds"]) for k in ("new", "resume", "decoder")), "PSNR held out " + " -> ".join(str(F["vae_" + k]["psnr_db_held_out"]) for k in ("new", "resume", "decoder")) + f" dB; scaling_factor {v['scaling_factor']}")
t += row("pipeline/unet", "UNet2DConditionModel [64,128], 16x16x4, eps", u["params"], kb("pipeline/unet"), u["seconds"],
         f"{u['steps']} steps x {u['batch']} = {u['samples']} samples; min-SNR-5 loss {u['loss_last500']}")
t += row("rewards/clip", "transformers CLIPModel", c["params"], kb("rewards/clip"), c["seconds"],
         f"retrieval of 1 in 64: image->text {c['retrieval64_image_to_text']}, text->image {c['retrieval64_text_to_image']}; {c['steps']} steps x {c['batch']}")
t += row("rewards/pickscore", "transformers CLIPModel", p["params"], kb("rewards/pickscore"), p["seconds"],
         f"held-out pair accuracy {p['pair_accuracy_before']} -> {p['pair_accuracy']}; retrieval64 {p['retrieval64']}; {p['steps']} steps x {p['batch_pairs']} pairs")
t += row("rewards/hpsv2", "open_clip CLIP, HPS_tiny.pt {'state_dict'}", h["params"], kb("rewards/hpsv2"), h["seconds"],
         f"held-out pair accuracy {h['pair_accuracy_before']} -> {h['pair_accuracy']}; retrieval64 {h['retrieval64']}; max |open_clip - transformers| {h['open_clip_check'][1]:.1e}")
t += row("rewards/aesthetic", "aesthetic_tiny.pth layers.{0,2,4,6,7}", a["params"], kb("rewards/aesthetic"), a["seconds"],
         f"held-out Pearson {a['pearson_held_out']}, MAE {a['mae_held_out']} (target std {a['target_std']})")
t += row("rewards/owlvit", "OwlViTForObjectDetection 64x64/8", w["params"], kb("rewards/owlvit"), w["seconds"],
         f"mAP50 {w['ap50']} (book {w['book_ap50']}); max book probability {w['book_prob_with']} with / {w['book_prob_without']} without books, AUC {w['book_auc']}")
t += f"""
One image, 25 DDIM steps, CFG 5: {C['one_image_25_steps_s']} s on the loaded machine.  preview.png: 8 prompts x 4 seeds, DDIM 30, CFG 5.

## Room for a reward: pipeline samples (DDIM 16, CFG 4) against clean renders of the same 128 captions

| reward | generated | clean | clean, wrong caption | clean beats generated |
|---|---|---|---|---|
"""
for n, d in C["rewards_mean"].items():
    t += row(n, d["generated"], d["clean"], d.get("clean, wrong caption", "-"), C["clean_beats_generated"][n])
t += """
## Use

    pipe  = StableDiffusionPipeline.from_pretrained("pipeline")               # 64x64 by default; safety_checker null
    clip  = CLIPModel.from_pretrained("rewards/clip")                         # pickscore likewise: logit_scale.exp()*cos
    cfg   = json.load(open("rewards/hpsv2/open_clip_config.json"))["model_cfg"]
    hps   = open_clip.model.CLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"], quick_gelu=True)
    hps.load_state_dict(torch.load("rewards/hpsv2/HPS_tiny.pt")["state_dict"])  # tokens: the tiny CLIPTokenizer, 32 long
    owl   = OwlViTForObjectDetection.from_pretrained("rewards/owlvit")        # queries padded to 16 tokens

"""
t += f"""check_grad.py (not a stage): DRTune-shaped loop, pickscore reward, 4 prompts, batch 8, 20 DDIM steps of which 2 carry gradient,
CFG 4: mean reward on fixed seeds {g["reward_before"]} -> {g["reward_after"]} in {g["updates"]} updates of {g["seconds_per_update"]} s (one thread, fp32; one run; pictures not inspected for reward hacking).

"""
t += """Tokens are padded with EOS (id 1023, the largest id, so argmax pooling works too).  The aesthetic head eats the
L2-normalised image embedding of rewards/clip (96 numbers).

## Recipe order (recipe/run_all.sh; every stage is seeded, budgets are seconds, so step counts depend on the machine)

scenes -> s1_tokenizer -> s3_vae new & s2_clip (one core each) -> s3_vae resume -> s4_unet cache, train (run_unet.sh)
-> s3_vae decoder (encoder frozen) & s5_pref_clip hps, s5_owl -> s4_unet pipe, s5_pref_clip samples -> pick, s5_aesthetic
-> s6_assemble -> s7_readme.

## What mattered, what did not work

* Page faults: glibc returns big tensors to the kernel each step; `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=...` (env.sh) made
  the VAE 5.5 -> 36.9 images/s (a noisy machine: part of it may be other jobs).
* bf16 autocast + channels_last uses AMX: a 3x3 96-channel conv 71 -> 1135 GFLOP/s (measured before the malloc settings, so partly page faults).
* native_group_norm_backward in channels_last was 47 % of the VAE step: fastgn.py halves the step (checked against nn.GroupNorm).
* CPU flash attention's backward was 48 % of the CLIP step: `attn_implementation="eager"` halves the step.
* torch.compile of the U-Net: 1.35x (72 against 54 samples per core-second, both on a loaded machine); 48-96 s to compile.
* Two OpenMP threads collapse (16x slower: 212 s against 13 s for 100 VAE steps) when another job shares a core; two single-threaded gloo ranks do not
  (132 samples/s average over the U-Net run, compilation and a loaded start included).
* transformers 5 draws the OWL-ViT heads with std 1.0: the boxes saturate and never learn; re-initialised (s5_owl.py).
* OWL-ViT compares with the text embedding, so its projection_dim must equal the text hidden size (128, not the 96 of clip/).
* The VAE stayed soft (small faces, stripes); training its decoder further on the frozen latents gave the last 1.7 dB.
* Aesthetic and HPS do not prefer clean renders to samples (table): the pipeline's samples are already centred and saturated, and the
  tiny CLIP embedding hardly sees sharpness.  Pickscore does (it was trained on samples as losers), so use it for quality.
* Preference tuning costs retrieval (see retrieval64): pickscore/hpsv2 are rewards, not retrieval models.

## Licence of the images

npm emoji-datasource-google 16.0.0 (package MIT, Cal Henderson); its README: "Android/Google/Noto images, are available
under the Apache License 2.0".  Copies in licenses/.  No emoji image is stored here except as drawn by the models (preview.png).
"""
open(f"{O}/README.md", "w").write(t); print(t)
