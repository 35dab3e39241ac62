#!/usr/bin/env python3
"""Writes single_files/lightning.ckpt: a state dict beside what PyTorch Lightning remembers in Stable Diffusion's own .ckpt
files: a class as a key, numbers of numpy. Needs torch and numpy, and stands in for pytorch_lightning."""
import os, sys, types
import numpy as np, torch

for name in ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
    sys.modules[name] = types.ModuleType(name)
ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
sys.modules["pytorch_lightning.callbacks.model_checkpoint"].ModelCheckpoint = ModelCheckpoint
out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "single_files", "lightning.ckpt")
torch.save({"epoch": 1, "global_step": 875000, "pytorch-lightning_version": "1.4.2",
            "callbacks": {ModelCheckpoint: {"monitor": "val/loss", "best_model_score": np.float64(.5), "current_score": np.float32(2)}},
            "optimizer_states": [], "hyper_parameters": {"linear_start": .00085},
            "state_dict": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3),
                           "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}}, out)
