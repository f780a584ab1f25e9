"""A product's history as the console shows it."""

from product_consumer.cli.product_views import history_as_json, history_lines
from tests.support.factories import product_row


def test_a_history_says_what_was_left_out_of_the_product() -> None:
    lines = list(history_lines(product_row(), ("rating_ignored", "brand_mended"), [], []))

    assert lines[1] == "Flags: rating_ignored, brand_mended"
    assert history_as_json(product_row(), ("rating_ignored",), [], [])["flags"] == [
        "rating_ignored"
    ]


def test_a_history_without_flags_has_no_line_for_them() -> None:
    assert not any("Flags" in line for line in history_lines(product_row(), (), [], []))
    assert history_as_json(product_row(), (), [], [])["flags"] == []
