#!/usr/bin/env python3
"""Writes unets/NAME: tiny U-Nets of the kinds that people share, at random weights, and diffusers' prediction for timestep
500 in float64. Weights are float16 to be small. Needs diffusers 0.42 and torch. (unets/nested was given.)"""
import os, sys
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unets")
C, D = "CrossAttnDownBlock2D", "DownBlock2D"
U, V = "CrossAttnUpBlock2D", "UpBlock2D"
BASE = dict(sample_size=8, cross_attention_dim=6, norm_num_groups=2, block_out_channels=(4, 8), layers_per_block=1, attention_head_dim=2)
KINDS = {
    # KOALA's: three levels, one layer each, no middle, depths by level.
    "koala": dict(BASE, block_out_channels=(4, 8, 8), down_block_types=(D, C, C), up_block_types=(U, U, V), mid_block_type=None,
                  transformer_layers_per_block=[1, 2, 3], attention_head_dim=[1, 2, 2], use_linear_projection=True),
    # Heads of every level read the text twice; lambdalabs' sd-image-variations and Karlo's.
    "cross_only": dict(BASE, down_block_types=(C, C), up_block_types=(U, U), only_cross_attention=True),
    "cross_only_by_level": dict(BASE, down_block_types=(C, C), up_block_types=(U, U), only_cross_attention=[True, False],
                                layers_per_block=[1, 2]),
    # A middle whose depth is in a list, attention on the way down alone.
    "lists": dict(BASE, down_block_types=(C, C), up_block_types=(U, V), transformer_layers_per_block=[[1, 2], [2, 1]],
                  reverse_transformer_layers_per_block=[[1, 1, 2], 1], layers_per_block=2),
    # BK-SDM-Tiny's: attention on every level, and nothing between the ways down and up.
    "no_middle": dict(BASE, block_out_channels=(4, 8, 8), down_block_types=(C, C, C), up_block_types=(V, V, V), mid_block_type=None),
}
for i, (name, config) in enumerate(KINDS.items()):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    torch.manual_seed(i)
    net = UNet2DConditionModel(**config).eval()
    folder = os.path.join(HERE, name)
    net.half().save_pretrained(folder)
    net = net.double()
    sample, context = torch.randn(1, 4, 8, 8).double(), torch.randn(2, 5, 6).double()
    with torch.no_grad():
        prediction = net(sample.repeat(2, 1, 1, 1), 500, context).sample
    save_file({k: v.float().contiguous() for k, v in dict(sample=sample, encoder_hidden_states=context, prediction=prediction).items()},
              os.path.join(folder, "values.safetensors"))
