"""What a network costs: parameters and floating-point operations."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from components.backbones.backbone import Backbone
from components.backbones.parts.luma import LumaBackbone

OUTPUT_HEIGHT, OUTPUT_WIDTH = 720, 1280
"""The output size for which the field counts operations."""


def count_parameters(network: nn.Module) -> int:
    """Number of parameters; buffers do not count, nor what a backbone needs for its training alone."""
    if isinstance(network, Backbone):
        network = copy.deepcopy(network).fold()
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: Backbone) -> int:
    """Multiply-adds of convolutions and matrix products for one 1280x720 output, counted as one operation each.

    The papers of the field call this number FLOPs. It is counted on tensors without data, so it costs nothing. For
    networks of luma only the convolutions on luma count, as published: the bicubic enlargements, which are matrix
    products here, are left out.
    """
    counted = copy.deepcopy(network).fold().to("meta").eval()
    step = network.multiple
    height, width = (-(-side // network.scale // step) * step for side in (OUTPUT_HEIGHT, OUTPUT_WIDTH))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(counted, LumaBackbone):
            counted.restore_luma(torch.empty(1, 1, height, width, device="meta"))
        else:
            counted(torch.empty(1, 3, height, width, device="meta"))
    counts = counter.get_flop_counts()["Global"]
    if isinstance(counted, LumaBackbone):
        counts = {operation: count for operation, count in counts.items() if "convolution" in str(operation)}
    total: int = sum(counts.values())
    return total // 2
