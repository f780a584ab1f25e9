"""The shape of a message: what each field accepts, what it becomes, and the published schema."""

from decimal import Decimal
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from product_consumer.errors import InvalidMessage
from product_consumer.models import MAX_ID_BYTES
from product_consumer.products.parser import ProductParser, product_schema
from product_consumer.products.schema import (
    MAX_DESCRIPTION_BYTES,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    MAX_STORE_URL_BYTES,
    ProductMessage,
    TombstoneMessage,
    rejection,
)
from tests.support.factories import body_text, message, product_body

# The fields in the order of the model, each with a value that it refuses.
BAD_VALUES: dict[str, tuple[Any, str]] = {
    "id": ([1], "id_type"),
    "deleted": ("yes", "deleted_type"),
    "name": (5, "name_type"),
    "image_url": (5, "image_url_invalid"),
    "rating": (6, "review_range"),
    "reviews_count": (-1, "review_range"),
}
REQUIRED = ["id", "name", "price", "image_url"]
PARSER = ProductParser(default_currency="VND", source_timezone="UTC")


def shaped(**fields: Any) -> tuple[ProductMessage, list[str]]:
    """Validate a good body with these fields; return the message and its flags."""
    flags: list[str] = []
    return ProductMessage.model_validate(product_body(**fields), context=flags), flags


def refusal(body: dict[str, Any]) -> InvalidMessage:
    with pytest.raises(ValidationError) as caught:
        ProductMessage.model_validate(body, context=[])
    return rejection(caught.value)


@pytest.mark.parametrize(
    ("body", "is_valid"),
    [
        (product_body(), True),
        (product_body(price=None, version=3, deleted=False), True),
        ({"id": 1, "deleted": True, "version": 3}, True),
        ({"id": 1}, False),
        (product_body(price=True), False),
        (product_body(rating=6), False),
        (product_body(deleted="true"), False),
    ],
)
def test_the_published_schema_tells_good_from_bad(body, is_valid):
    assert jsonschema.Draft202012Validator(product_schema()).is_valid(body) is is_valid


def test_every_field_of_the_published_schema_is_described():
    definitions = product_schema()["$defs"].values()
    fields = [field for kind in definitions for field in kind["properties"].values()]
    assert fields
    assert all(field["description"] for field in fields)


def examples() -> list[tuple[str, Any]]:
    fields = product_schema()["$defs"]["ProductMessage"]["properties"]
    return [(name, value) for name, field in fields.items() for value in field.get("examples", ())]


@pytest.mark.parametrize(("field", "example"), examples())
def test_every_example_of_the_published_schema_is_accepted(field, example):
    assert PARSER.parse(message(body_text(**{field: example}))).name


@pytest.mark.parametrize("field", BAD_VALUES)
def test_a_value_of_the_wrong_kind_has_a_reason_and_is_quoted(field: str) -> None:
    value, reason = BAD_VALUES[field]
    error = refusal(product_body(**{field: value}))

    assert error.reason == reason
    assert error.detail


@pytest.mark.parametrize("field", REQUIRED)
def test_a_field_that_must_be_there_is_named_when_it_is_not(field: str) -> None:
    body = {key: value for key, value in product_body().items() if key != field}

    assert refusal(body).reason == f"missing:{field}"


@given(st.sets(st.sampled_from(sorted(BAD_VALUES)), min_size=1))
def test_of_several_bad_fields_the_first_of_the_model_is_reported(fields: set[str]) -> None:
    first = next(field for field in BAD_VALUES if field in fields)
    bad = {field: BAD_VALUES[field][0] for field in fields}

    assert refusal(product_body(**bad)).reason == BAD_VALUES[first][1]


@given(
    st.sets(st.sampled_from(REQUIRED), min_size=1),
    st.sets(st.sampled_from(sorted(BAD_VALUES.keys() - set(REQUIRED)))),
)
def test_missing_fields_are_reported_before_bad_ones(missing: set[str], bad: set[str]) -> None:
    first = next(field for field in REQUIRED if field in missing)
    body = product_body(**{field: BAD_VALUES[field][0] for field in bad})

    error = refusal({key: value for key, value in body.items() if key not in missing})
    assert error.reason == f"missing:{first}"


def test_braces_of_a_value_are_no_placeholders() -> None:
    detail = refusal(product_body(deleted="{detail}")).detail
    assert detail == 'deleted is "{detail}"; true or false is needed'


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        (123, "123"),
        (-5, "-5"),
        (Decimal("4711.0"), "4711"),
        ("4711.0", "4711.0"),
        ("  abc ", "abc"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
        ("a\N{NO-BREAK SPACE}b", "a\N{NO-BREAK SPACE}b"),
        ("x" * MAX_ID_BYTES, "x" * MAX_ID_BYTES),
    ],
)
def test_an_id_is_text_in_nfc_without_outer_spaces(given_id: object, kept: str) -> None:
    assert shaped(id=given_id)[0].id == kept


@pytest.mark.parametrize(
    ("given_id", "reason"),
    [
        (None, "missing:id"),
        (True, "id_type"),
        (1.5, "id_type"),
        ({"id": 1}, "id_type"),
        ("", "id_invalid"),
        (" \t", "id_invalid"),
        ("a\nb", "id_invalid"),
        ("a\N{LINE SEPARATOR}b", "id_invalid"),
        ("x" * (MAX_ID_BYTES + 1), "id_too_long"),
        ("\N{COMBINING ACUTE ACCENT}" * 100_000, "id_too_long"),
        ("a\x00b", "text_invalid"),
    ],
)
def test_an_id_that_no_store_could_keep_is_refused(given_id: object, reason: str) -> None:
    assert refusal(product_body(id=given_id)).reason == reason


@pytest.mark.parametrize(
    ("field", "max_bytes"),
    [
        ("name", MAX_NAME_BYTES),
        ("description", MAX_DESCRIPTION_BYTES),
        ("category", MAX_LABEL_BYTES),
        ("brand", MAX_LABEL_BYTES),
    ],
)
def test_a_text_over_its_limit_is_cut_between_characters_and_flagged(
    field: str, max_bytes: int
) -> None:
    fits = "₫" * (max_bytes // 3)
    taken, flags = shaped(**{field: fits})
    assert (getattr(taken, field), flags) == (fits, [])

    taken, flags = shaped(**{field: fits + "₫"})
    assert (getattr(taken, field), flags) == (fits, [f"{field}_cut"])


@pytest.mark.parametrize("field", ["description", "category", "brand"])
@pytest.mark.parametrize(("value", "flag"), [(5, True), ([], True), (None, False), (" ", False)])
def test_a_text_that_a_product_can_do_without_is_left_out(
    field: str, value: object, flag: bool
) -> None:
    taken, flags = shaped(**{field: value})

    assert getattr(taken, field) is None
    assert flags == ([f"{field}_ignored"] if flag else [])


@pytest.mark.parametrize("field", ["rating", "reviews_count"])
@pytest.mark.parametrize("value", ["many", True, [1], {"value": 4}])
def test_a_review_that_cannot_be_read_is_left_out(field: str, value: object) -> None:
    taken, flags = shaped(**{field: value})

    assert getattr(taken, field) is None
    assert flags == [f"{field}_ignored"]


@pytest.mark.parametrize("field", ["description", "category", "brand"])
@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ("a gift for you \ud83c", "a gift for you"),
        ("Acme \udf81", "Acme"),
        ("\udf81 Acme", "Acme"),
        ("A\ud83c\ud83cB", "AB"),
        ("family \N{MAN}\N{ZERO WIDTH JOINER}\ud83d", "family \N{MAN}"),
        ("\ud83c", None),
    ],
)
def test_half_a_character_in_a_text_that_a_product_can_do_without_is_dropped(
    field: str, cut: str, kept: str | None
) -> None:
    taken, flags = shaped(**{field: cut})

    assert getattr(taken, field) == kept
    assert flags == [f"{field}_mended"]


@pytest.mark.parametrize(
    "cut",
    ["Mug \ud83c", "Mug \ud83c ", "Mug \ud83c...", "Mug \ud83c…", "Mug \ud83d", "Mug\ud840"],
)
def test_a_name_that_was_cut_amid_a_character_is_mended(cut: str) -> None:
    taken, flags = shaped(name=cut)

    assert taken.name.rstrip(" .…") == "Mug"
    assert flags == ["name_mended"]


@pytest.mark.parametrize("name", ["Mu\ud83cg", "\ud83c Mug", "Mug \ud83c\ud83c", "Mug\ud800"])
def test_a_name_that_is_damaged_otherwise_is_refused(name: str) -> None:
    assert refusal(product_body(name=name)).reason == "text_invalid"


@pytest.mark.parametrize("field", ["id", "image_url"])
def test_a_field_that_must_be_exact_is_never_mended(field: str) -> None:
    assert refusal(product_body(**{field: "https://x.example/\ud83c"})).reason == "text_invalid"


def test_a_link_with_half_a_character_is_left_out() -> None:
    taken, flags = shaped(store_url="https://shop.example/\ud83c")

    assert (taken.store_url, flags) == (None, ["store_url_ignored"])


@pytest.mark.parametrize("field", ["name", "category", "brand"])
@pytest.mark.parametrize(
    ("crawled", "shown"),
    [
        ("Cr&egrave;me br&ucirc;l&eacute;e", "Crème brûlée"),
        ("Salt &amp;amp; pepper", "Salt & pepper"),
        ("Geschirr\u00adspüler", "Geschirrspüler"),
        ("Geschirr&shy;spüler", "Geschirrspüler"),
    ],
)
def test_names_and_labels_are_kept_as_a_page_shows_them(
    field: str, crawled: str, shown: str
) -> None:
    taken, flags = shaped(**{field: crawled})

    assert (getattr(taken, field), flags) == (shown, [])


@pytest.mark.parametrize("name", ["&shy;", "\u00ad \ufeff", "&nbsp;"])
def test_a_name_that_shows_nothing_is_missing(name: str) -> None:
    assert refusal(product_body(name=name)).reason == "missing:name"


def test_a_link_is_never_cut() -> None:
    fits = "https://shop.example/".ljust(MAX_STORE_URL_BYTES, "x")
    taken, flags = shaped(store_url=fits)
    assert (taken.store_url, flags) == (fits, [])

    taken, flags = shaped(store_url=fits + "x")
    assert (taken.store_url, flags) == (None, ["store_url_ignored"])


@given(st.dictionaries(st.text(max_size=5), st.integers()))
def test_a_field_that_nobody_knows_changes_nothing(unknown: dict[str, int]) -> None:
    fields = {
        key: value for key, value in unknown.items() if key not in ProductMessage.model_fields
    }

    assert shaped(**fields) == shaped()


def test_a_tombstone_needs_nothing_but_its_id() -> None:
    taken = TombstoneMessage.model_validate({"id": 7, "deleted": True, "name": 5, "price": []})

    assert (taken.id, taken.deleted) == ("7", True)


@pytest.mark.parametrize("deleted", [False, None, "true", 2])
def test_a_tombstone_says_so_in_json_s_own_word(deleted: object) -> None:
    with pytest.raises(ValidationError):
        TombstoneMessage.model_validate({"id": "a", "deleted": deleted})
