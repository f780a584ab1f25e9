"""Makes a model cheaper to run on an accelerator without changing its embeddings.

A float32 model stays as it is. In half precision a large vision transformer spends more than a
third of its time moving activations through memory between the matrix products. Steps that
OpenCLIP does in several passes are done here in one.
"""

from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import nn

QUICK_GELU_SLOPE = 1.702
"""QuickGELU(x) = x * sigmoid(1.702 x); https://arxiv.org/abs/1606.08415, section 2."""


def tune(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert a float32 model with its weights in place to ``dtype``, for inference.

    Batch norms stay in float32, because their running variances would suffer. OpenCLIP keeps layer
    norms in float32 too and converts every activation there and back. That is not needed: the
    kernel for half precision computes in float32 inside.
    """
    if dtype == torch.float32:
        return
    fuse_quick_gelu(model)
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.float()


def fuse_quick_gelu(model: nn.Module) -> None:
    """Replace each QuickGELU, three kernels, by SiLU, one kernel.

    x s(ax) = silu(ax) / a for a sigmoid s. The layer before is multiplied by a, the layer behind by
    1/a.
    """
    for name, module in list(model.named_modules()):
        if name.endswith(".mlp") and _is_plain_quick_gelu(module):
            _scale(module.c_fc, QUICK_GELU_SLOPE, with_bias=True)
            _scale(module.c_proj, 1 / QUICK_GELU_SLOPE, with_bias=False)
            module.gelu = nn.SiLU(inplace=True)


def _is_plain_quick_gelu(mlp: Any) -> bool:
    kinds = {name: type(layer) for name, layer in mlp.named_children()}
    return kinds == {"c_fc": nn.Linear, "gelu": QuickGELU, "c_proj": nn.Linear}


def _scale(layer: nn.Linear, factor: float, *, with_bias: bool) -> None:
    with torch.no_grad():
        layer.weight.mul_(factor)
        if with_bias and layer.bias is not None:
            layer.bias.mul_(factor)
