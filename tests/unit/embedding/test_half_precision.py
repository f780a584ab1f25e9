import copy
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from product_consumer.embedding.half_precision import fuse_quick_gelu, tune
from tests.support.tiny_clip import draw_weights, model_config

LARGER = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 6, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 6},
}


def build(config: dict[str, Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_clip.CLIP(**config).eval().requires_grad_(False)


def both_sides(model: Any, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Return embeddings of three images, patches of colour under noise, and of three names."""
    drawn = torch.Generator().manual_seed(0)
    side = model.visual.image_size[0]
    patches = torch.rand(3, 3, 8, 8, generator=drawn) * 4 - 2
    images = nn.functional.interpolate(patches, size=(side, side))
    images += 0.3 * torch.randn(3, 3, side, side, generator=drawn)
    tokens = open_clip.get_tokenizer("ViT-L-14-336")(["red mug", "áo thun nam cổ tròn", "x" * 50])
    with torch.inference_mode():
        return [model.encode_image(images.to(dtype)).float(), model.encode_text(tokens).float()]


def lowest_cosine(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return min(
        float(nn.functional.cosine_similarity(rows.double(), others.double()).min())
        for rows, others in zip(first, second, strict=True)
    )


def test_quick_gelu_fused_into_its_neighbours_gives_the_same_embeddings() -> None:
    config = model_config(quick_gelu=True)
    model = build(config)
    model.load_state_dict(draw_weights(config, seed=0))
    fused = copy.deepcopy(model)
    fuse_quick_gelu(fused)
    assert not any(isinstance(layer, QuickGELU) for layer in fused.modules())
    assert lowest_cosine(both_sides(fused), both_sides(model)) > 0.9999999


def test_another_activation_is_left_as_it_is() -> None:
    model = build(model_config(quick_gelu=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fuse_quick_gelu(model)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_a_float32_model_is_left_as_it_is() -> None:
    model = build(model_config(quick_gelu=True))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tune(model, torch.float32)
    assert any(isinstance(layer, QuickGELU) for layer in model.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_direction_of_embeddings(
    dtype: torch.dtype, quick_gelu: bool
) -> None:
    model = build(LARGER | {"quick_gelu": quick_gelu})
    exact = both_sides(model)
    tune(model, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert lowest_cosine(both_sides(model, dtype), exact) > 0.9995


def test_batch_norms_stay_in_float32() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    tune(model, torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert {value.dtype for value in model[1].state_dict().values()} == {torch.float32, torch.int64}
