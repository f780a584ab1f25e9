"""Makes a model cheaper to run on an accelerator, and keeps its vectors.

In float32 nothing is changed. In half precision more than a third of the time of a large vision
transformer goes into moving activations through memory between the matrix products, so what
OpenCLIP does there in several passes is done in one.
"""

from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import nn

QUICK_GELU_SLOPE = 1.702
"""QuickGELU(x) = x * sigmoid(1.702 x); https://arxiv.org/abs/1606.08415, section 2."""


def tune(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn a float32 model with its weights in place into one of ``dtype``, for inference.

    All of it but batch norms, whose running variances would suffer: OpenCLIP keeps its layer norms
    in float32 as well and converts every activation there and back, although the kernel for half
    precision computes in float32 too.
    """
    if dtype == torch.float32:
        return
    fuse_quick_gelu(model)
    model.to(dtype)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.float()


def fuse_quick_gelu(model: nn.Module) -> None:
    """Replace QuickGELU, three kernels, by SiLU, one: x s(ax) = silu(ax) / a for a sigmoid s, with
    a and 1/a multiplied into the layers before and behind it."""
    for name, part in list(model.named_modules()):
        if name.endswith(".mlp") and _is_plain_quick_gelu(part):
            _scale(part.c_fc, QUICK_GELU_SLOPE, with_bias=True)
            _scale(part.c_proj, 1 / QUICK_GELU_SLOPE, with_bias=False)
            part.gelu = nn.SiLU(inplace=True)


def _is_plain_quick_gelu(mlp: Any) -> bool:
    kinds = {name: type(part) for name, part in mlp.named_children()}
    return kinds == {"c_fc": nn.Linear, "gelu": QuickGELU, "c_proj": nn.Linear}


def _scale(layer: nn.Linear, factor: float, *, with_bias: bool) -> None:
    with torch.no_grad():
        layer.weight.mul_(factor)
        if with_bias and layer.bias is not None:
            layer.bias.mul_(factor)
