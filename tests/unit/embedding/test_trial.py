import numpy as np
import open_clip
import pytest

from product_consumer.embedding.forward_pass import ItemEmbeddings
from product_consumer.embedding.trial import TRIAL_NAMES, find_problem, trial_images

FIRST, SECOND = np.eye(2, 8, dtype=np.float32)
INVALID = np.full(8, np.nan, dtype=np.float32)
SHIFTED = (FIRST + 1e-5 * SECOND).astype(np.float32)


def test_the_trial_images_differ_and_hold_dark_and_bright_pixels() -> None:
    colours, product = trial_images()
    assert colours.shape == product.shape
    assert (colours != product).mean() > 0.9
    assert {colours.min(), colours.max(), product.min(), product.max()} == {0, 255}
    assert len(set(TRIAL_NAMES)) == 2


def test_different_embeddings_of_both_items_are_no_problem() -> None:
    assert find_problem([ItemEmbeddings(FIRST, SECOND), ItemEmbeddings(SECOND, FIRST)]) is None


@pytest.mark.parametrize("other", [FIRST, SHIFTED], ids=["equal", "almost equal"])
def test_the_same_embedding_for_both_items_is_a_problem(other: np.ndarray) -> None:
    images = [ItemEmbeddings(FIRST, FIRST), ItemEmbeddings(SECOND, other)]
    names = [ItemEmbeddings(FIRST, FIRST), ItemEmbeddings(other, SECOND)]
    assert find_problem(images) == "gives two different images the same embedding"
    assert find_problem(names) == "gives two different names the same embedding"


def test_an_invalid_embedding_of_either_item_is_a_problem() -> None:
    good, bad_image = ItemEmbeddings(FIRST, FIRST), ItemEmbeddings(SECOND, INVALID)
    bad_text = ItemEmbeddings(INVALID, SECOND)
    assert "for an ordinary image" in str(find_problem([good, bad_image]))
    assert "for an ordinary name" in str(find_problem([bad_text, good]))


def test_the_trial_names_have_equally_many_tokens() -> None:
    tokenise = open_clip.get_tokenizer("ViT-L-14-336")
    assert len({int((tokens != 0).sum()) for tokens in tokenise(list(TRIAL_NAMES))}) == 1
