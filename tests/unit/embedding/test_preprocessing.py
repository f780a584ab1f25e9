"""Pixels and embeddings equal, or nearly equal, those of OpenCLIP's own transform."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from product_consumer.embedding.loading import LoadedModel
from product_consumer.embedding.preprocessing import FAST_RESIZE_PIXELS, Preparer
from product_consumer.images.decoder import ImageDecoder
from tests.support.photographs import draw_photograph, jpeg_of
from tests.support.tiny_clip import draw_weights, model_config

DECODER = ImageDecoder(20_000_000)
Pixels = NDArray[np.uint8]


def preparer(
    pixels: int = FAST_RESIZE_PIXELS, dtype: torch.dtype = torch.float32, **preprocess: Any
) -> Preparer:
    config = PreprocessCfg(size=pixels, **preprocess)
    loaded = SimpleNamespace(
        preprocess=config,
        transform=image_transform_v2(config, is_train=False),
        tokenizer=lambda _text: torch.zeros((1, 77), dtype=torch.int64),
        context_length=77,
        dtype=dtype,
    )
    return Preparer(cast(LoadedModel, loaded))


def prepared(data: bytes, by: Preparer) -> Pixels:
    """Decode and resize as the pipeline does."""
    return by.resize(DECODER.decode(data, by.shorter_side_pixels))


def prepared_by_open_clip(data: bytes, pixels: int, **preprocess: Any) -> Pixels:
    transform = image_transform_v2(PreprocessCfg(size=pixels, **preprocess), is_train=False)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    # All but ToTensor and Normalize.
    for step in transform.transforms[:-2]:
        image = step(image)
    return np.asarray(image)


def embed_with_two_layers(pixels: int, *, sharp: bool) -> Callable[[Pixels], NDArray[np.float64]]:
    """Return a function from prepared pixels to their embedding by a model of two layers.

    ``sharp``: weights so large that other images are 0.2 away, and that one more grey level in
    one of 500 pixels moves the cosine by 4e-6. Otherwise weights as drawn by OpenCLIP.
    """
    config = model_config()
    config["vision_cfg"] |= {"image_size": pixels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**config).eval()
    if sharp:
        model.load_state_dict(draw_weights(config, seed=0))
    to_floats = image_transform_v2(PreprocessCfg(size=pixels), is_train=False).transforms[-2:]

    def embed(image: Pixels) -> NDArray[np.float64]:
        values: Any = Image.fromarray(image)
        for step in to_floats:
            values = step(values)
        with torch.inference_mode():
            row = model.encode_image(values[None])[0].double().numpy()
        return np.asarray(row / np.linalg.norm(row))

    return embed


@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": "4:4:4"}], ids=str)
@pytest.mark.parametrize("size", [(800, 800), (1001, 750), (447, 2000), (1501, 1500)], ids=str)
def test_a_photograph_in_full_is_prepared_as_by_open_clip_within_one_grey_level(
    size: tuple[int, int], options: dict[str, Any]
) -> None:
    data = jpeg_of(draw_photograph(*size), **options)

    difference = prepared(data, preparer()).astype(int) - prepared_by_open_clip(data, 224)

    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.02


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [800, 1500])
def test_the_embedding_of_a_photograph_is_that_of_open_clip(side: int, seed: int) -> None:
    data = jpeg_of(draw_photograph(side, side, seed))
    embed = embed_with_two_layers(224, sharp=True)

    ours = embed(prepared(data, preparer()))
    theirs = embed(prepared_by_open_clip(data, 224))

    assert ours @ theirs >= 0.99999


@pytest.mark.parametrize(
    ("size", "factor"), [((1500, 1500), 2), ((1000, 1400), 2), ((2000, 1792), 4)], ids=str
)
def test_a_photograph_decoded_smaller_is_nearly_that_of_open_clip(
    size: tuple[int, int], factor: int
) -> None:
    data = jpeg_of(draw_photograph(*size))
    half_precision = preparer(dtype=torch.bfloat16)
    decoded = DECODER.decode(data, half_precision.shorter_side_pixels)
    assert decoded.shape == (size[1] // factor, size[0] // factor, 3)
    embed = embed_with_two_layers(224, sharp=False)

    ours, theirs = prepared(data, half_precision), prepared_by_open_clip(data, 224)

    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() < 0.4
    assert np.quantile(difference, 0.99) <= 3
    assert embed(ours) @ embed(theirs) >= 0.99999


@pytest.mark.parametrize(
    ("by", "shrunk_to"),
    [
        pytest.param(preparer(336, torch.bfloat16), 336, id="bfloat16"),
        pytest.param(preparer(224, torch.float16), 224, id="float16"),
        pytest.param(preparer(336, torch.float32), None, id="float32"),
        pytest.param(preparer(64, torch.bfloat16), None, id="small model"),
        pytest.param(
            preparer(336, torch.bfloat16, interpolation="bilinear"), None, id="another filter"
        ),
    ],
)
def test_only_models_that_do_not_see_the_difference_have_images_decoded_smaller(
    by: Preparer, shrunk_to: int | None
) -> None:
    assert by.shorter_side_pixels == shrunk_to


@pytest.mark.parametrize("preprocess", [{}, {"resize_mode": "squash"}, {"resize_mode": "longest"}])
def test_a_small_photograph_is_made_larger_exactly_as_by_open_clip(
    preprocess: dict[str, Any],
) -> None:
    data = jpeg_of(draw_photograph(150, 223))

    ours = prepared(data, preparer(224, **preprocess))

    assert np.array_equal(ours, prepared_by_open_clip(data, 224, **preprocess))


def test_preparing_leaves_the_image_as_it_was() -> None:
    image = np.asarray(draw_photograph(300, 400)).copy()
    before = image.copy()

    preparer().resize(image)

    assert np.array_equal(image, before)
