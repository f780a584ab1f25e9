"""The catalogue of bad input: the result of each kind of hostile or broken message, a row each."""

import base64
import gzip
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from product_consumer.errors import IgnoreMessage, InvalidMessage
from product_consumer.models import Product
from product_consumer.products.parser import ProductParser
from tests.support.factories import OBSERVED_AT, SENT_AT, body_text, message, product_body

GOOD = body_text()
ORDER = {"order_id": "ORD1234", "user_id": "U5678", "order_value": 99.99, "items": []}
S3_EVENT = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]}
S3_POINTER = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    {"s3BucketName": "bodies", "s3Key": "0b5d"},
]


@dataclass(frozen=True)
class Row:
    """One line of the catalogue: a body, and its reason or the fields of its product."""

    name: str
    body: str | bytes
    reason: str | None = None
    fields: dict[str, Any] | None = None
    default_currency: str = "VND"


def rejected(name: str, body: str | bytes, reason: str, **more: Any) -> Row:
    return Row(name, body, reason=reason, **more)


def accepted(title: str, body: str | bytes, /, **fields: Any) -> Row:
    return Row(title, body, fields=fields)


def raw_body(field: str, json_text: str) -> str:
    """A good body in which one field is exactly this JSON text."""
    return body_text(without=(field,))[:-1] + f', "{field}": {json_text}}}'


def sns(inner: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "m", "Message": inner})


def eventbridge(detail: object) -> str:
    return json.dumps({"id": "e", "source": "crawler", "detail-type": "p", "detail": detail})


ENVELOPE_ROWS = [
    rejected("empty body", "", "json_invalid"),
    rejected("truncated", GOOD[:-20], "json_invalid"),
    rejected("trailing garbage", GOOD + "x", "json_invalid"),
    rejected("single quotes", GOOD.replace('"', "'"), "json_invalid"),
    rejected("plain text", "hello", "json_invalid"),
    accepted("byte order mark in text", "\ufeff" + GOOD, id="abc123"),
    accepted("byte order mark in bytes", b"\xef\xbb\xbf" + GOOD.encode(), id="abc123"),
    rejected("UTF-16 with mark", GOOD.encode("utf-16"), "encoding"),
    rejected("UTF-16 without mark", b'{\x00"\x00i\x00d\x00"\x00}\x00', "encoding"),
    rejected("invalid UTF-8", GOOD.encode() + b"\xff", "encoding"),
    rejected("list of products", f"[{GOOD}]", "json_not_object"),
    rejected("text at the top", '"abc"', "json_not_object"),
    accepted("written twice", json.dumps(GOOD), id="abc123"),
    accepted("written twice through SNS", sns(json.dumps(GOOD)), id="abc123"),
    rejected("written three times", json.dumps(json.dumps(GOOD)), "json_not_object"),
    rejected("number at the top", "1.5", "json_not_object"),
    rejected("null at the top", "null", "json_not_object"),
    rejected("duplicate key", '{"id": "a", "id": "b"}', "json_duplicate_key"),
    rejected("duplicate key inside", raw_body("x", '[{"a": 1, "a": 1}]'), "json_duplicate_key"),
    rejected("NaN", raw_body("price", "NaN"), "json_nonfinite"),
    rejected("minus infinity, unused", raw_body("x", "-Infinity"), "json_nonfinite"),
    rejected("1e999", raw_body("price", "1e999"), "number_range"),
    rejected("integer of 5,000 digits", raw_body("price", "9" * 5000), "number_range"),
    rejected("1e400000", raw_body("price", "1e400000"), "number_range"),
    rejected("1e-400000", raw_body("price", "1e-400000"), "number_range"),
    rejected("exponent of 40 digits", raw_body("x", "1e" + "9" * 40), "number_range"),
    rejected("fraction of 5,000 digits", raw_body("x", "0." + "3" * 5000), "number_range"),
    rejected("100,000 open brackets", "[" * 100_000, "json_too_deep"),
    rejected("100,000 nested brackets", "[" * 100_000 + "]" * 100_000, "json_too_deep"),
    rejected("65 levels", raw_body("x", "[" * 65 + "]" * 65), "json_too_deep"),
    accepted("many shallow lists", raw_body("x", f"[{','.join(['[]'] * 500)}]"), id="abc123"),
    rejected("lone surrogate", raw_body("name", r'"a\ud800b"'), "text_invalid"),
    rejected("lone surrogate in id", raw_body("id", r'"\udfff"'), "text_invalid"),
    accepted(
        "description cut amid an emoji",
        raw_body("description", r'"a gift \ud83c"'),
        description="a gift",
        flags=("description_mended",),
    ),
    rejected("NUL", raw_body("description", r'"a\u0000b"'), "text_invalid"),
    rejected("NUL in price", raw_body("price", r'"12\u0000"'), "text_invalid"),
    rejected("over 1 MiB", GOOD + " " * 1024 * 1024, "too_large"),
    rejected("10 MB in an unused field", body_text(x="a" * 10_000_000), "too_large"),
    accepted("SNS", sns(GOOD), id="abc123"),
    accepted("EventBridge", eventbridge(product_body()), id="abc123"),
    accepted("bare detail", json.dumps({"detail": product_body()}), id="abc123"),
    accepted("EventBridge through SNS", sns(eventbridge(product_body())), id="abc123"),
    accepted("a product's own detail", body_text(detail={"id": "other"}), id="abc123"),
    rejected("SNS message is no JSON", sns("hello"), "json_invalid"),
    rejected("SNS message is null", sns("null"), "json_not_object"),
    rejected("NaN inside SNS", sns('{"a": NaN}'), "json_nonfinite"),
    rejected("three envelopes", sns(sns(sns(GOOD))), "envelope_too_deep"),
    rejected("S3 event", json.dumps(S3_EVENT), "unsupported_envelope"),
    rejected("S3 event through SNS", sns(json.dumps(S3_EVENT)), "unsupported_envelope"),
    rejected(
        "S3 event of EventBridge",
        json.dumps({"id": "e", "source": "aws.s3", "detail-type": "Object Created", "detail": {}}),
        "unsupported_envelope",
    ),
    rejected(
        "SNS subscription", json.dumps({"Type": "SubscriptionConfirmation"}), "unsupported_envelope"
    ),
    rejected("extended-client pointer", json.dumps(S3_POINTER), "unsupported_envelope"),
    rejected("pointer without its class", json.dumps(S3_POINTER[1]), "unsupported_envelope"),
    rejected("base64", base64.b64encode(GOOD.encode()), "json_invalid"),
    rejected("gzip in base64", base64.b64encode(gzip.compress(GOOD.encode())), "json_invalid"),
    accepted("unknown fields", body_text(colour="red", sizes=[1, {"a": None}]), id="abc123"),
    *(
        rejected(f"no {field}", body_text(without=(field,)), f"missing:{field}")
        for field in ("id", "name", "price", "image_url")
    ),
    rejected("empty object", "{}", "missing:id"),
    rejected("order on the product queue", json.dumps(ORDER), "wrong_kind"),
    rejected("schema of the future", body_text(schema_version=2), "unsupported_schema"),
    rejected("schema text of the future", body_text(schema_version="1.1"), "unsupported_schema"),
    rejected("schema without a number", body_text(schema_version="beta"), "unsupported_schema"),
    accepted("schema 1.0", body_text(schema_version="1.0"), id="abc123"),
    accepted("schema 1", body_text(schema_version=1), id="abc123"),
]

TEXT_ROWS = [
    rejected("empty id", body_text(id=""), "id_invalid"),
    rejected("blank id", body_text(id=" \u00a0 "), "id_invalid"),
    rejected("null id", body_text(id=None), "missing:id"),
    rejected("id of 513 bytes", body_text(id="x" * 513), "id_too_long"),
    rejected("id of 200 dong signs", body_text(id="₫" * 200), "id_too_long"),
    accepted("id of 512 bytes", body_text(id="x" * 512), id="x" * 512),
    *(
        accepted(f"id {text}", body_text(id=text), id=text)
        for text in (
            "x'] or id not in ['zzz",
            '" or id != "',
            "'; DROP TABLE products;--",
            "../../etc/passwd",
            "a/b",
            "_search",
        )
    ),
    accepted("numeric id", body_text(id=123), id="123"),
    rejected("boolean id", body_text(id=True), "id_type"),
    rejected("fractional id", body_text(id=1.5), "id_type"),
    accepted("id that pandas wrote", raw_body("id", "4711.0"), id="4711"),
    rejected("id that a double rounds", raw_body("id", "9007199254740993.0"), "id_type"),
    rejected("list as id", body_text(id=["a"]), "id_type"),
    accepted("spaces around the id", body_text(id="  a b\n"), id="a b"),
    rejected("newline inside the id", raw_body("id", r'"a\nb"'), "id_invalid"),
    rejected("escape inside the id", raw_body("id", r'"a\u001b[2Jb"'), "id_invalid"),
    accepted("decomposed id", body_text(id="e\u0301"), id="\u00e9"),
    accepted("right-to-left override", body_text(name="a\u202egpj"), name="a\u202egpj"),
    accepted("forged log line", raw_body("name", r'"a\r\nERROR fake"'), name="a\r\nERROR fake"),
    accepted("ANSI escape", raw_body("name", r'"a\u001b[31m"'), name="a\x1b[31m"),
    accepted(
        "description over 64 KB",
        body_text(description="đ" * 40_000),
        description="đ" * 32_768,
        flags=("description_cut",),
    ),
    accepted("10,000 words", body_text(name="word " * 1000), name=("word " * 1000).strip()),
    accepted("name over 8 KB", body_text(name="₫" * 4000), name="₫" * 2730, flags=("name_cut",)),
    rejected("empty name", body_text(name=""), "missing:name"),
    rejected("blank name", body_text(name=" \t "), "missing:name"),
    rejected("null name", body_text(name=None), "missing:name"),
    rejected("number as name", body_text(name=5), "name_type"),
    accepted("HTML", body_text(name="<script>alert(1)</script>"), name="<script>alert(1)</script>"),
    accepted("emoji", body_text(name="Áo thun 👕"), name="Áo thun 👕"),
    accepted("format strings", body_text(name="%s{0}${jndi:x}"), name="%s{0}${jndi:x}"),
    rejected("blank image address", body_text(image_url=" "), "missing:image_url"),
    rejected("null image address", body_text(image_url=None), "missing:image_url"),
    rejected("list of image addresses", body_text(image_url=["a"]), "image_url_invalid"),
    accepted("null store address", body_text(store_url=None), store_url=None, flags=()),
    accepted(
        "store address over 2 KB",
        body_text(store_url="https://shop.example/" + "a" * 2048),
        store_url=None,
        flags=("store_url_ignored",),
    ),
    accepted("list of brands", body_text(brand=["a"]), brand=None, flags=("brand_ignored",)),
]

NUMBER_ROWS = [
    accepted("crawled dong", body_text(price="1.299.000₫"), price_minor=1299000, currency="VND"),
    accepted("point and cents", body_text(price="1,299.00"), price_minor=1299, currency="VND"),
    accepted("comma and cents", body_text(price="1.299,00 €"), price_minor=129900, currency="EUR"),
    accepted("1.299 without decimals", body_text(price="1.299"), price_minor=1299, currency="VND"),
    rejected("1.299 €", body_text(price="1.299 €"), "price_ambiguous"),
    rejected("dollars called dong", body_text(price="$12", currency="VND"), "currency_mismatch"),
    rejected("negative text", body_text(price="-5 $"), "price_range"),
    rejected("negative number", body_text(price=-5), "price_range"),
    accepted("zero", body_text(price=0), price_minor=0, currency="VND", flags=("price_zero",)),
    rejected("boolean price", body_text(price=True), "price_type"),
    rejected("price in a list", body_text(price=[12]), "price_type"),
    rejected("price in an object", body_text(price={"amount": 12}), "price_type"),
    *(
        accepted(f"unknown price {text!r}", body_text(price=text), price_minor=None, currency=None)
        for text in ("free", "Free", "N/A", " n/a ", "", None)
    ),
    rejected("call us", body_text(price="call us"), "price_invalid"),
    rejected("free shipping", body_text(price="free shipping"), "price_invalid"),
    rejected("1e15", raw_body("price", "1e15"), "price_range"),
    rejected("1e15 in digits", body_text(price="1.000.000.000.000.000 ₫"), "price_range"),
    rejected("19.999 USD", body_text(price="19.999 USD"), "price_ambiguous"),
    rejected("19.9999 USD", body_text(price="19.9999 USD"), "price_precision"),
    rejected("19.999 of USD", raw_body("price", '19.999, "currency": "USD"'), "price_precision"),
    accepted("minus zero", raw_body("price", "-0.0"), price_minor=0, flags=("price_zero",)),
    accepted("minus zero in text", body_text(price="-0.0"), price_minor=0),
    accepted("Arabic-Indic digits", body_text(price="١٢٩٩"), price_minor=1299),
    accepted("full-width digits", body_text(price="１２９９"), price_minor=1299),  # noqa: RUF001
    rejected("range", body_text(price="12 \u2013 15"), "price_ambiguous"),
    rejected("exponent in text", body_text(price="1e5"), "price_invalid"),
    accepted("exponent in a number", raw_body("price", "1e5"), price_minor=100_000),
    accepted("19.99 stays exact", raw_body("price", '19.99, "currency": "USD"'), price_minor=1999),
    rejected("unknown currency", body_text(price=5, currency="ZZZ"), "currency_unknown"),
    rejected("currency is a number", body_text(price=5, currency=7), "currency_unknown"),
    rejected("no currency", body_text(price=5), "currency_unknown", default_currency=""),
    accepted("blank currency", body_text(price=5, currency=" "), currency="VND"),
    rejected("rating 6", body_text(rating=6), "review_range"),
    rejected("rating below zero", body_text(rating="-1"), "review_range"),
    accepted("rating of stars", body_text(rating="*****"), rating=None, flags=("rating_ignored",)),
    accepted("rating true", body_text(rating=True), rating=None, flags=("rating_ignored",)),
    accepted("rating with a comma", body_text(rating="4,8"), rating=4.8),
    accepted("blank rating and count", body_text(rating="", reviews_count=" "), rating=None),
    rejected("negative count", body_text(reviews_count=-1), "review_range"),
    rejected("count beyond 2^53", body_text(reviews_count=2**53 + 1), "review_range"),
    accepted("fractional count", body_text(reviews_count="1.5"), reviews_count=None),
    accepted("spaces before junk", body_text(reviews_count=" " * 99 + "x"), reviews_count=None),
    accepted("grouped count", body_text(reviews_count="1.520"), reviews_count=1520),
    rejected("30 February", body_text(timestamp="2026-02-30"), "time_invalid"),
    rejected("1970", body_text(timestamp=0), "time_invalid"),
    rejected("year 9999", body_text(timestamp="9999-12-31T23:59:59Z"), "version_in_future"),
    rejected("in two days", body_text(timestamp="2026-11-23T14:31:00Z"), "version_in_future"),
    rejected("list as time", body_text(updated_at=[]), "time_invalid"),
    accepted(
        "no time zone", body_text(timestamp="2026-11-21T14:30:05"), flags=("timezone_assumed",)
    ),
    rejected("version true", body_text(version=True), "version_invalid"),
    accepted("version that pandas wrote", raw_body("version", "17.0"), observed_at=OBSERVED_AT),
    rejected("version 1.5", body_text(version=1.5), "version_invalid"),
    rejected("version text", body_text(version="v2"), "version_invalid"),
    rejected("version below zero", body_text(version=-1), "number_range"),
    rejected("version 2^63", body_text(version=2**63), "number_range"),
    rejected("version of 5,000 digits in text", body_text(version="9" * 5000), "number_range"),
    rejected("deleted in text", body_text(deleted="true"), "deleted_type"),
    rejected("deleted 1", body_text(deleted=1), "deleted_type"),
    accepted("deleted false", body_text(deleted=False), deleted=False),
    rejected("tombstone without order", '{"id": "a", "deleted": true}', "missing:version"),
    rejected("tombstone without id", '{"version": 1, "deleted": true}', "missing:id"),
]

CATALOGUE = [*ENVELOPE_ROWS, *TEXT_ROWS, *NUMBER_ROWS]


def parse(row: Row) -> Product:
    parser = ProductParser(default_currency=row.default_currency, source_timezone="UTC")
    return parser.parse(message(row.body), now=SENT_AT)


def test_no_two_rows_share_a_name():
    names = [row.name for row in CATALOGUE]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", [r for r in CATALOGUE if r.reason], ids=lambda row: row.name)
def test_a_bad_message_is_rejected_with_its_reason(row: Row):
    with pytest.raises(InvalidMessage) as caught:
        parse(row)
    assert caught.value.reason == row.reason


@pytest.mark.parametrize("row", [r for r in CATALOGUE if r.reason], ids=lambda row: row.name)
def test_the_detail_of_a_rejection_is_short_and_harmless(row: Row):
    with pytest.raises(InvalidMessage) as caught:
        parse(row)
    assert 0 < len(caught.value.detail) <= 300
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize(
    "row", [r for r in CATALOGUE if r.fields is not None], ids=lambda row: row.name
)
def test_an_odd_message_is_accepted_as_documented(row: Row):
    parsed = parse(row)
    assert row.fields == {name: getattr(parsed, name) for name in row.fields or ()}


@pytest.mark.parametrize("wrap", [str, sns], ids=["direct", "through SNS"])
def test_the_test_event_of_s3_is_ignored(wrap):
    body = wrap(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))
    with pytest.raises(IgnoreMessage) as caught:
        parse(Row("test event", body))
    assert caught.value.reason == "s3_test_event"


def test_the_future_begins_24_hours_after_now():
    row = Row("tomorrow", body_text(timestamp=(SENT_AT + timedelta(hours=24)).isoformat()))
    assert parse(row).observed_at == SENT_AT + timedelta(hours=24)
