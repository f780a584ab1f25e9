"""Two images and two names that every working model embeds, and what is wrong where one does not.

A model can be broken for everything: weights that hold a NaN, a projection of zeros, float16 that
overflows. Then each message would be rejected for a fault that is not its own. The trial items tell
such a model from a message that no model can embed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from product_consumer.embedding.forward_pass import ItemEmbeddings
from product_consumer.embedding.preprocessing import PreparedItem, Preparer
from product_consumer.vectors import Embedding

TRIAL_NAMES = ("Áo thun nam cổ tròn", "a large ceramic coffee mug with a lid, 350 ml")
"""Of the same length in tokens for CLIP: a model that sees only the length is no good either."""

IMAGE_SIDE_PIXELS = 256
SAME_DISTANCE = 1e-3
"""Two embeddings that are no further apart are taken for the same. Even the embeddings of a model
that was never trained are hundreds of times further apart."""


def trial_items(preparer: Preparer) -> list[PreparedItem]:
    """Return the trial items as a model's input."""
    return [
        PreparedItem(preparer.resize(image), preparer.tokenise(name), is_trial=True)
        for image, name in zip(trial_images(), TRIAL_NAMES, strict=True)
    ]


def trial_images() -> list[NDArray[np.uint8]]:
    """Draw two images: one has every colour and fine detail, one a thing before a white ground.

    RGB, uint8, shape (height, width, 3).
    """
    ramp = np.linspace(0, 255, IMAGE_SIDE_PIXELS)
    across, down = np.meshgrid(ramp, ramp)
    noise = np.random.default_rng(0).uniform(-40, 40, across.shape)
    colours = np.stack([across + noise, down - noise, 255 - across + noise], axis=-1)
    product = np.full((*across.shape, 3), 255.0)
    from_centre = np.hypot(across - 127.5, down - 127.5)
    product[from_centre < 80] = (190, 20, 30)
    product[from_centre < 25] = 0
    return [np.clip(image, 0, 255).astype(np.uint8) for image in (colours, product)]


def find_problem(embeddings: Sequence[ItemEmbeddings]) -> str | None:
    """Return what is wrong with embeddings of both trial items, as the end of a sentence."""
    return _problem_of_side("image", [item.image for item in embeddings]) or _problem_of_side(
        "name", [item.text for item in embeddings]
    )


def _problem_of_side(kind: str, sides: Sequence[Embedding | None]) -> str | None:
    rows = np.stack([side for side in sides if side is not None])
    if not np.isfinite(rows).all():
        return f"gives an embedding that is not finite or has no length for an ordinary {kind}"
    if float(np.linalg.norm(rows[0] - rows[1])) <= SAME_DISTANCE:
        return f"gives two different {kind}s the same embedding"
    return None
