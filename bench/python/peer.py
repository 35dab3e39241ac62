#!/usr/bin/env python3
"""The PyTorch side of the benchmarks: plain autograd with SDPA, frozen weights, LoRA by PEFT.

  python peer.py prepare FOLDER CASE_JSON              writes random weights in their usual format, and inputs (seeded)
  python peer.py serve FOLDER CASE_JSON MODE PLACE_JSON   answers each line on stdin with a line of JSON: `run` runs once and
      gives {"seconds": wall, "cpuSeconds": of all threads}, `save FILE` writes the outputs of the last run, `memory`
      gives {"peakMb": of resident memory}; an empty line ends it. The first answer gives the times of loading.
"""
import json, resource, sys, time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

PLACE = {"provider": "cpu", "torch": "float32", "compile": False}


def dtype():
    return getattr(torch, PLACE["torch"])


def placed(module):
    """A network where it is to run, in the type and layout that are fastest there."""
    module = module.to(PLACE["provider"], dtype())
    if PLACE["provider"] == "cuda":
        module = module.to(memory_format=torch.channels_last)
    if PLACE["compile"]:
        module.compile()
    return module


def moved(tensors):
    return {n: x.to(PLACE["provider"], dtype() if x.is_floating_point() else x.dtype) for n, x in tensors.items()}


TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
JOINT = TARGETS + ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
ZOO = Path(__file__).resolve().parents[2] / "zoo/pipeline"
VAE = dict(sample_size=512, latent_channels=4, layers_per_block=2, block_out_channels=[128, 256, 512, 512],
           down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)


def add_lora(unet, rank, targets=TARGETS):
    """A fresh adapter; its tensors under PEFT's names in files."""
    from peft import LoraConfig
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    return {n.replace(".default", ""): p for n, p in unet.named_parameters() if ".lora_" in n}


def random_lora(unet, rank, targets=TARGETS):
    """B not zero, as it is only in a new adapter, where no gradient reaches A."""
    return {n: torch.randn(p.shape) * 0.02 for n, p in add_lora(unet, rank, targets).items()}


class Clip:
    @staticmethod
    def prepare(case, folder):
        from transformers import CLIPConfig, CLIPModel
        # The text tower is not measured: as small as the format allows.
        text = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=16,
                    bos_token_id=14, eos_token_id=15, pad_token_id=15)
        config = CLIPConfig(vision_config=case["vision"], text_config=text, projection_dim=case["projection"])
        CLIPModel(config).save_pretrained(f"{folder}/model")
        side = case["vision"]["image_size"]
        return {"pixels": torch.randn(case["batch"], 3, side, side),
                "cotangent": torch.randn(case["batch"], case["projection"])}

    def __init__(self, case, folder, inputs):
        from transformers import CLIPVisionModelWithProjection
        self.model = CLIPVisionModelWithProjection.from_pretrained(f"{folder}/model", attn_implementation="sdpa")
        self.model = placed(self.model.eval().requires_grad_(False))
        self.inputs = moved(inputs)

    def forward(self):
        with torch.no_grad():
            return {"value": self.model(pixel_values=self.inputs["pixels"]).image_embeds}

    def gradient(self):
        x = self.inputs["pixels"].clone().requires_grad_(True)
        y = self.model(pixel_values=x).image_embeds
        return {"value": y, "grad.pixels": torch.autograd.grad(y, x, self.inputs["cotangent"])[0]}


class UNet:
    @staticmethod
    def prepare(case, folder):
        from diffusers import UNet2DConditionModel
        unet = UNet2DConditionModel(sample_size=case["size"], **case["config"])
        unet.save_pretrained(f"{folder}/model")
        batch, latents = case["batch"], (case["batch"], 4, case["size"], case["size"])
        return {"sample": torch.randn(latents), "timestep": torch.full((batch,), 500.0),
                "encoder_hidden_states": torch.randn(batch, 77, unet.config.cross_attention_dim),
                "cotangent": torch.randn(latents), **random_lora(unet, case["rank"])}

    def __init__(self, case, folder, inputs):
        from diffusers import UNet2DConditionModel
        self.unet, self.inputs = UNet2DConditionModel.from_pretrained(f"{folder}/model").eval(), moved(inputs)
        self.lora = add_lora(self.unet, case["rank"])
        with torch.no_grad():
            for name, p in self.lora.items():
                p.copy_(inputs[name])
        self.unet = placed(self.unet)
        if case.get("checkpointing") and PLACE["provider"] == "cpu":
            self.unet.train()  # without which diffusers does not checkpoint; there is no dropout
            self.unet.enable_gradient_checkpointing()

    def predict(self):
        return self.unet(*(self.inputs[n] for n in ("sample", "timestep", "encoder_hidden_states"))).sample

    def forward(self):
        with torch.no_grad():
            return {"prediction": self.predict()}

    def gradient(self):
        y = self.predict()
        grads = torch.autograd.grad(y, list(self.lora.values()), self.inputs["cotangent"])
        return {f"grad.{n}": g for n, g in zip(self.lora, grads)}


class Transformer:
    """A flow's transformer, its frozen weights in bfloat16 on disk."""
    @staticmethod
    def kind(case):
        import diffusers
        return getattr(diffusers, case["config"]["_class_name"])

    @staticmethod
    def targets(case):
        c, name = case["config"], case["config"]["_class_name"]
        if name == "ZImageTransformer2DModel":
            return TARGETS
        if name == "Flux2Transformer2DModel":
            single = [f"single_transformer_blocks.{i}.attn.to_out" for i in range(c["num_single_layers"])]
            return JOINT + ["to_qkv_mlp_proj"] + single
        return JOINT

    @staticmethod
    def prepare(case, folder):
        torch.set_default_dtype(torch.bfloat16)
        model = Transformer.kind(case)(**{k: v for k, v in case["config"].items() if not k.startswith("_")})
        torch.set_default_dtype(torch.float32)
        if hasattr(model, "cap_pad_token"):  # torch.empty until they are loaded
            for pad in (model.x_pad_token, model.cap_pad_token):
                torch.nn.init.normal_(pad, std=0.02)
        model.save_pretrained(f"{folder}/model")
        c, batch, lora = model.config, case["batch"], random_lora(model, case["rank"], Transformer.targets(case))
        latents, tokens = (batch, c.in_channels, case["size"], case["size"]), (batch, case["tokens"])
        own = {}
        if "pooled_projection_dim" in c:
            own["pooled_projections"] = torch.randn(batch, c.pooled_projection_dim)
        if "cap_feat_dim" in c:
            own["encoder_mask"] = torch.ones(*tokens, 1)
        width = c.cap_feat_dim if "cap_feat_dim" in c else c.joint_attention_dim
        return {"sample": torch.randn(latents), "encoder_hidden_states": torch.randn(*tokens, width),
                "cotangent": torch.randn(latents), **own, **lora}

    def __init__(self, case, folder, inputs):
        self.kind = case["config"]["_class_name"]
        self.model = Transformer.kind(case).from_pretrained(f"{folder}/model", torch_dtype=dtype()).eval()
        self.inputs = moved(inputs)
        self.lora = add_lora(self.model, case["rank"], Transformer.targets(case))
        with torch.no_grad():
            for name, p in self.lora.items():
                p.copy_(inputs[name])
        self.model = placed(self.model)
        if case.get("checkpointing") and PLACE["provider"] == "cpu":
            self.model.train()
            self.model.enable_gradient_checkpointing()

    def predict(self):
        x = self.inputs
        latents, half = x["sample"], torch.full_like(x["sample"][:, 0, 0, 0], 0.5)
        if self.kind == "ZImageTransformer2DModel":  # its clock runs the other way, and so does what it predicts
            texts = list(x["encoder_hidden_states"])
            found = self.model(list(latents.unsqueeze(2)), half, texts, return_dict=False)[0]
            return -torch.stack(found).squeeze(2)
        if self.kind == "Flux2Transformer2DModel":
            batch, channels, height, width = latents.shape
            ids = lambda *axes: torch.cartesian_prod(*(torch.arange(n) for n in axes)).expand(batch, -1, -1)
            found = self.model(hidden_states=latents.flatten(2).transpose(1, 2), timestep=half, guidance=None,
                               encoder_hidden_states=x["encoder_hidden_states"], img_ids=ids(1, height, width, 1),
                               txt_ids=ids(1, 1, 1, x["encoder_hidden_states"].shape[1]), return_dict=False)[0]
            return found.transpose(1, 2).reshape(latents.shape)
        return self.model(hidden_states=x["sample"], encoder_hidden_states=x["encoder_hidden_states"],
                          pooled_projections=x["pooled_projections"],
                          timestep=torch.full_like(x["sample"][:, 0, 0, 0], 500.0)).sample

    def forward(self):
        with torch.no_grad():
            return {"prediction": self.predict()}

    def gradient(self):
        grads = torch.autograd.grad(self.predict(), list(self.lora.values()), self.inputs["cotangent"], allow_unused=True)
        return {f"grad.{n}": g for n, g in zip(self.lora, grads) if g is not None}


class Vae:
    @staticmethod
    def prepare(case, folder):
        from diffusers import AutoencoderKL
        AutoencoderKL(**VAE).save_pretrained(f"{folder}/model")
        batch, size = case["batch"], case["size"]
        return {"latents": torch.randn(batch, 4, size, size), "cotangent": torch.randn(batch, 3, 8 * size, 8 * size)}

    def __init__(self, case, folder, inputs):
        from diffusers import AutoencoderKL
        self.vae = placed(AutoencoderKL.from_pretrained(f"{folder}/model").eval().requires_grad_(False))
        self.inputs = moved(inputs)
        if case.get("checkpointing") and PLACE["provider"] == "cpu":
            self.vae.train()
            self.vae.enable_gradient_checkpointing()

    def decode(self, latents):
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5

    def forward(self):
        with torch.no_grad():
            return {"image": self.decode(self.inputs["latents"])}

    def gradient(self):
        x = self.inputs["latents"].clone().requires_grad_(True)
        y = self.decode(x)
        return {"grad.latents": torch.autograd.grad(y, x, self.inputs["cotangent"])[0]}


def pipeline_of(case, folder):
    return Path(folder) / "model" if "model" in case else ZOO


class Iteration:
    """One DRTune iteration up to the LoRA gradients, in the strongest form in PyTorch: sampling without gradients, the
    decoder's product, then forward and backward for each trained step with its scalar (closed form, nothing stored)."""
    @staticmethod
    def prepare(case, folder):
        from diffusers import UNet2DConditionModel
        batch, size, root = case["batch"], case["size"], pipeline_of(case, folder)
        factor = 2 ** (len(json.loads((root / "vae/config.json").read_text())["block_out_channels"]) - 1)
        return {"sample": torch.randn(batch, 4, size, size), "noise": torch.randn(case["steps"], batch, 4, size, size),
                "cotangent": torch.randn(batch, 3, factor * size, factor * size) / 1000,
                **random_lora(UNet2DConditionModel.from_pretrained(root / "unet"), case["rank"])}

    def __init__(self, case, folder, inputs):
        sys.path.insert(0, str(ZOO.parents[1] / "tests/golden/reference"))
        import drtune_ref
        root = pipeline_of(case, folder)
        self.ref, self.case, self.inputs = drtune_ref, case, moved(inputs)
        self.model = drtune_ref.Model(str(root), dtype(), case["rank"], case["rank"], PLACE["provider"])
        drtune_ref.set_lora(self.model.lora, self.inputs)
        placed(self.model.unet)
        # SDXL's published decoder overflows in float16, so ours computes in float32 as well.
        self.model.vae.to(torch.float32)
        config = json.loads((root / "scheduler/scheduler_config.json").read_text())
        self.schedule = drtune_ref.build_schedule("ddpm", config, case["steps"])

    def gradient(self):
        case, model, s, inputs = self.case, self.model, self.schedule, self.inputs
        with torch.no_grad():
            e = model.encode(["a fox, and books"] * case["batch"], [case["size"]] * 2)
            o = self.ref.sample(model, s, inputs["sample"], inputs["noise"], e, case["guidance"], [], case["tMin"], True)
        x0 = o["x0"].detach().float().requires_grad_(True)
        g0, = torch.autograd.grad(model.decode(x0), x0, inputs["cotangent"].float())
        g0 = g0.to(dtype())
        kappa = self.ref.closed_form(s, o["stop"])
        names, params = list(model.lora), list(model.lora.values())
        total = [torch.zeros_like(p) for p in params]
        for t in case["trainSteps"]:
            i = case["steps"] - t
            if i <= o["stop"]:
                eps = model.eps(o["xs"][i], s["timesteps"][i], e, case["guidance"])
                for a, g in zip(total, torch.autograd.grad(eps, params, kappa[i] * g0)):
                    a += g
        return {f"grad.{n}": g for n, g in zip(names, total)}


class Reward:
    """A reward from its files to d score / d image, as the packages that users have compute it."""
    @staticmethod
    def prepare(case, folder):
        return {"image": torch.rand(case["batch"], 3, 512, 512)}

    @staticmethod
    def imports():
        import open_clip
        from transformers import CLIPModel, CLIPTokenizer, OwlViTForObjectDetection

    def __init__(self, case, folder, inputs):
        import open_clip
        from transformers import CLIPModel, CLIPTokenizer, OwlViTForObjectDetection
        self.case, self.inputs, folder = case, moved(inputs), f"{folder}/model"
        kind, self.scale, self.head, self.text = case["reward"], 1, None, None
        if kind == "hpsv2":
            model = open_clip.create_model("ViT-H-14")
            model.load_state_dict(torch.load(f"{folder}/HPS_v2.1_compressed.pt", weights_only=True)["state_dict"])
        elif kind == "owlvit":
            model = OwlViTForObjectDetection.from_pretrained(folder)
        else:
            model = CLIPModel.from_pretrained(folder, attn_implementation="sdpa")
        self.model, self.size = placed(model.eval().requires_grad_(False)), 768 if kind == "owlvit" else 224
        if kind == "aesthetic":
            widths = [768, 1024, 128, 64, 16, 1]
            layers = {f"layers.{i}": torch.nn.Linear(a, b) for i, a, b in zip([0, 2, 4, 6, 7], widths, widths[1:])}
            state = torch.load(f"{folder}/sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
            self.head = torch.nn.Sequential(*layers.values()).requires_grad_(False)
            for name, layer in layers.items():
                layer.load_state_dict({k: state[f"{name}.{k}"] for k in ("weight", "bias")})
            placed(self.head)
            return
        prompt = "book" if kind == "owlvit" else "a fox, and books"
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        ids = torch.tensor([tokenizer(prompt, truncation=True)["input_ids"]], device=PLACE["provider"])
        if kind == "hpsv2":
            self.text = self.model.encode_text(torch.nn.functional.pad(ids, (0, 77 - ids.shape[1])), normalize=True)
        elif kind == "pickscore":
            ids = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]), value=tokenizer.pad_token_id)
            text = self.model.text_projection(self.model.text_model(ids).pooler_output)
            self.text, self.scale = text / text.norm(dim=-1, keepdim=True), self.model.logit_scale.exp()
        else:
            self.text = torch.nn.functional.pad(ids, (0, 16 - ids.shape[1]), value=0)

    def score(self, image):
        kind, size = self.case["reward"], (self.size, self.size)
        x = torch.nn.functional.interpolate(image, size=size, mode="bicubic", antialias=True)
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        x = (x - x.new_tensor(mean).view(1, 3, 1, 1)) / x.new_tensor(std).view(1, 3, 1, 1)
        if kind == "owlvit":
            return self.model(input_ids=self.text, pixel_values=x).logits.max(dim=1).values.sigmoid().view(-1)
        if kind == "hpsv2":
            e = self.model.encode_image(x)
        else:
            e = self.model.visual_projection(self.model.vision_model(x).pooler_output)
        e = e / e.norm(dim=-1, keepdim=True)
        return self.head(e).view(-1) if kind == "aesthetic" else (e * self.text).sum(-1) * self.scale

    def forward(self):
        with torch.no_grad():
            return {"score": self.score(self.inputs["image"])}

    def gradient(self):
        x = self.inputs["image"].clone().requires_grad_(True)
        y = self.score(x)
        return {"score": y, "grad.image": torch.autograd.grad(y.sum(), x)[0]}


KINDS = {"clip": Clip, "unet": UNet, "transformer": Transformer, "vae": Vae, "iteration": Iteration, "reward": Reward}


def serve(folder, case, mode, place):
    # What libraries print must not end up among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    answer = lambda value: print(json.dumps(value), file=answers, flush=True)
    PLACE.update(place)
    torch.set_num_threads(place["threads"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def timed(action):
        start, cpu = time.perf_counter(), time.process_time()
        result = action()
        if PLACE["provider"] == "cuda":
            torch.cuda.synchronize()
        answer({"seconds": time.perf_counter() - start, "cpuSeconds": time.process_time() - cpu})
        return result

    kind = KINDS[case["kind"]]
    getattr(kind, "imports", lambda: None)()
    run = timed(lambda: getattr(kind(case, folder, load_file(f"{folder}/inputs.safetensors")), mode))
    for words in (line.split() for line in sys.stdin):
        if not words:
            break
        if words[0] == "run":
            last = timed(run)
        elif words[0] == "save":
            save_file({k: v.detach().float().cpu().contiguous() for k, v in last.items()}, words[1])
            answer({})
        elif words[0] == "memory":
            answer({"peakMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


if __name__ == "__main__":
    what, folder, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if what == "prepare":
        torch.manual_seed(0)
        save_file(KINDS[case["kind"]].prepare(case, folder), f"{folder}/inputs.safetensors")
    else:
        serve(folder, case, sys.argv[4], json.loads(sys.argv[5]))
