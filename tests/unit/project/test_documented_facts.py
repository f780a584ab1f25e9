"""The messages and tables of the documentation agree with the code."""

import ast
import json
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from product_consumer.api.app import create_app
from product_consumer.api.schemas import DayResponse, GlobalResponse, UserResponse
from product_consumer.errors import InvalidMessage
from product_consumer.images.decoder import FORMATS
from product_consumer.images.download import MAX_REDIRECTS
from product_consumer.ledger.tables import metadata as ledger_tables
from product_consumer.messages.prices import Price, parse_price
from product_consumer.messages.times import parse_event_time
from product_consumer.orders.parser import OrderParser
from product_consumer.orders.tables import metadata as order_tables
from product_consumer.pipeline.stages import OTHER_STAGE_SECONDS, stage_timeouts
from product_consumer.products.parser import ProductParser, product_schema
from product_consumer.products.reviews import parse_rating, parse_reviews_count
from product_consumer.settings import Settings
from product_consumer.stores.elasticsearch.index import FIELDS as ELASTICSEARCH_FIELDS
from product_consumer.stores.milvus.rows import SCALARS
from tests.support import factories
from tests.support.documentation import DOCS, blocks, codes, table, tables
from tests.support.paths import REPOSITORY

PACKAGE = REPOSITORY / "product_consumer"
MESSAGES, ORDERS, SEARCH = (DOCS / f"{name}.md" for name in ("messages", "orders", "search"))
STREAMS = DOCS / "streams.md"
QUICKSTART, TROUBLESHOOTING = DOCS / "quickstart.md", DOCS / "troubleshooting.md"
OPERATIONS, GUARANTEES = DOCS / "operations.md", DOCS / "guarantees.md"
ARCHITECTURE, DEPLOYMENT = DOCS / "architecture.md", DOCS / "deployment.md"

NOW = datetime(2026, 11, 27, tzinfo=UTC)
RESPONSES: TypeAdapter[Any] = TypeAdapter(UserResponse | GlobalResponse | DayResponse)
# Raised with a first argument that names the reason.
REASONED = {"InvalidMessage", "RejectMessage", "ImageRejected", "EmbeddingRejected"}


@cache
def nodes_of_the_code() -> list[ast.AST]:
    """Every node of the package and of the top-level files."""
    paths = [*PACKAGE.rglob("*.py"), *REPOSITORY.glob("*.py")]
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))]


@cache
def texts_of_the_code() -> set[str]:
    """Every text in the code; a value that is filled in is ``%s``."""
    texts = set()
    for node in nodes_of_the_code():
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "%s" for part in node.values]
            texts.add("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return texts


def reasons_of_the_code() -> set[str]:
    """Reasons that are named where an error is raised."""
    return {
        node.args[0].value
        for node in nodes_of_the_code()
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in REASONED
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def documented_reasons() -> set[str]:
    rows = [row for page in (MESSAGES, ORDERS, STREAMS) for row in table(page, "reason")]
    return {code for row in rows for code in codes(row[0])}


def products(text: str) -> list[dict[str, Any]]:
    """The products of a block of JSON: one, or a list of the demo's catalogue."""
    parsed = json.loads(text)
    if isinstance(parsed, list):
        return [{**entry, "image_url": "http://x/"} for entry in parsed]
    return [parsed]


@pytest.mark.parametrize(
    ("page", "currency"), [(MESSAGES, "VND"), (QUICKSTART, "USD")], ids=["messages", "quickstart"]
)
def test_every_documented_product_message_is_accepted(page: Path, currency: str) -> None:
    # The quickstart's products are the demo's, whose default currency is USD.
    parser = ProductParser(default_currency=currency, source_timezone="UTC")
    bodies = [body for text in blocks(page, "json") for body in products(text)]

    assert bodies
    for body in bodies:
        assert parser.parse(factories.message(json.dumps(body)), NOW).id == body["id"]


def test_the_documented_order_and_responses_are_valid() -> None:
    order, *responses = blocks(ORDERS, "json")
    parsed = OrderParser(default_currency="VND", source_timezone="UTC").parse(
        factories.message(order), NOW
    )

    assert (parsed.value_minor, parsed.flags) == (9999, ())
    assert responses
    for response in responses:
        valid = RESPONSES.validate_json(response)
        assert json.loads(RESPONSES.dump_json(valid, exclude_none=True))


def test_the_fields_of_a_product_message_are_those_of_its_schema() -> None:
    documented = {codes(row[0])[0]: row[1] == "yes" for row in table(MESSAGES, "field")}
    schema = product_schema()["$defs"]["ProductMessage"]

    assert documented == {name: name in schema["required"] for name in schema["properties"]}


def test_the_fields_of_an_order_are_those_of_its_parser() -> None:
    from product_consumer.orders.parser import _KNOWN, _REQUIRED

    documented = {codes(row[0])[0]: row[1] == "yes" for row in table(ORDERS, "field")}

    assert documented == {name: name in _REQUIRED for name in _KNOWN}


@pytest.mark.parametrize(("raw", "documented"), table(MESSAGES, "price"))
def test_a_price_is_parsed_as_documented(raw: str, documented: str) -> None:
    value = json.loads(codes(raw)[0])
    if codes(documented):
        with pytest.raises(InvalidMessage) as rejected:
            parse_price(value, None, "VND")
        assert rejected.value.reason == codes(documented)[0]
    elif documented == "unknown":
        assert parse_price(value, None, "VND") is None
    else:
        amount, currency = documented.split()
        assert parse_price(value, None, "VND") == Price(int(re.sub(r"\D", "", amount)), currency)


@pytest.mark.parametrize("row", table(MESSAGES, "shown"), ids=lambda row: row[0])
@pytest.mark.parametrize(("column", "parse"), [(0, parse_rating), (2, parse_reviews_count)])
def test_a_review_is_parsed_as_documented(
    row: list[str], column: int, parse: Callable[[object, str, list[str]], float | None]
) -> None:
    for code in codes(row[column]):
        flags: list[str] = []
        if codes(row[column + 1]):
            with pytest.raises(InvalidMessage, match=codes(row[column + 1])[0]):
                parse(json.loads(code), "field", flags)
            continue
        number = parse(json.loads(code), "field", flags)
        documented = {"unknown": (None, []), "left out": (None, ["field_ignored"])}
        assert (number, flags) == documented.get(row[column + 1]) or (
            number == float(row[column + 1]) and not flags
        )


@pytest.mark.parametrize("row", table(MESSAGES, "form"), ids=lambda row: row[0])
def test_a_time_is_parsed_in_every_documented_form(row: list[str]) -> None:
    read = parse_event_time(json.loads(codes(row[1])[0]), UTC, NOW)

    assert read is not None
    assert read.at.date().isoformat() == "2026-11-21"


def test_every_reason_is_documented_and_no_other() -> None:
    documented = documented_reasons()
    literal = {reason for reason in documented if not re.search("[A-Z]", reason)}

    assert reasons_of_the_code() - {"missing:version"} <= literal
    assert literal - texts_of_the_code() == set()


def test_documented_flags_exist() -> None:
    rows = [*table(MESSAGES, "flag"), *table(ORDERS, "flag")]
    flags = {code for row in rows for code in codes(row[0])}
    # Some flags are composed: a field's name and one of these endings.
    endings = ("_ignored", "_cut", "_mended")
    documented = {flag for flag in flags if not flag.endswith(endings)}

    assert documented - texts_of_the_code() == set()


def test_the_image_formats_are_those_that_are_decoded() -> None:
    [formats] = [row[1] for row in table(MESSAGES, "rule", "limit") if row[0] == "formats"]

    assert tuple(formats.split(", ")) == FORMATS


def test_the_number_of_redirects_is_that_which_is_followed() -> None:
    [redirects] = [row[1] for row in table(MESSAGES, "rule", "limit") if row[0] == "redirects"]

    assert int(redirects.partition(",")[0]) == MAX_REDIRECTS


def test_every_guarantee_names_tests_that_exist() -> None:
    text = GUARANTEES.read_text(encoding="utf-8")
    parts = re.split(r"^## (G\d+) ", text, flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))

    assert list(named) == [f"G{number}" for number in range(1, 11)]
    for guarantee, part in named.items():
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", part)
        assert tests, guarantee
        for path, function in tests:
            assert f"def {function}(" in (REPOSITORY / path).read_text(encoding="utf-8"), path


def test_every_line_under_troubleshooting_is_one_the_program_prints() -> None:
    lines = [
        code
        for rows in tables(TROUBLESHOOTING)
        if rows[0][0] == "line"
        for row in rows[1:]
        for code in codes(row[0])
    ]
    known = re.sub(r"%[.\d]*[sdfg]", "…", "\n".join(texts_of_the_code()))

    assert lines
    assert [line for line in lines if not all(part in known for part in _parts(line))] == []


def _parts(line: str) -> list[str]:
    return [part for piece in line.split("…") if (part := piece.strip(" :"))]


def test_the_limits_of_the_stages_are_those_of_the_default_settings() -> None:
    settings = Settings()
    documented = {}
    for stages, limit, _ in table(OPERATIONS, "stage"):
        for name in codes(stages) or ["other"]:
            place = f"{name} {stages.rpartition(' ')[2]}" if " on a " in stages else name
            documented[place] = float(limit)

    def limits(answer_seconds: float) -> dict[str, float]:
        return stage_timeouts(
            wait_seconds=settings.sqs_wait_seconds,
            store_timeout_seconds=settings.store_timeout_seconds,
            image_timeout_seconds=settings.image_timeout_seconds,
            answer_seconds=answer_seconds,
        )

    on_a_gpu, on_a_cpu = limits(60.0), limits(600.0)
    expected = {name: seconds for name, seconds in on_a_gpu.items() if " " not in name}
    for stage in ("embed", "reuse"):
        expected |= {f"{stage} GPU": expected.pop(stage), f"{stage} CPU": on_a_cpu[stage]}

    assert documented == expected | {"other": OTHER_STAGE_SECONDS}


def test_every_folder_of_the_package_is_on_the_map() -> None:
    documented = [codes(row[0])[0] for row in table(ARCHITECTURE, "folder of `product_consumer/`")]

    assert documented == sorted(f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py"))


def test_the_layers_are_those_of_the_contract() -> None:
    [documented] = [text for text in blocks(ARCHITECTURE, "text") if text.startswith("__main__")]
    linter = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]
    [layers] = [
        contract["layers"]
        for contract in linter["contracts"]
        if contract.get("containers") == [PACKAGE.name]
    ]

    assert documented.splitlines() == layers


def test_every_alert_is_listed_and_no_other() -> None:
    rules = (REPOSITORY / "deploy" / "alerts.yml").read_text(encoding="utf-8")

    documented = [codes(row[0])[0] for row in table(DEPLOYMENT, "alert")]
    assert documented == re.findall(r"- alert: (\w+)", rules)


def test_the_documented_values_are_those_of_the_unit() -> None:
    unit = (REPOSITORY / "deploy" / "product-consumer@.service").read_text(encoding="utf-8")

    assert {codes(row[0])[0] for row in table(DEPLOYMENT, "value")} <= set(unit.splitlines())


def test_the_documented_paths_are_those_of_the_order_service() -> None:
    documented = {codes(row[0])[0].partition("?")[0] for row in table(ORDERS, "path (GET)")}
    nothing: Any = None
    app = create_app(nothing, default_currency="USD", quality=nothing, results=nothing)
    schema = app.openapi()

    assert documented == set(schema["paths"])


def test_the_documented_tables_and_columns_exist() -> None:
    columns = {codes(row[0])[0]: set(codes(row[1])) for row in table(SEARCH, "table", "columns")}
    order_rows = table(ORDERS, "table")

    for name, documented in columns.items():
        assert documented <= {column.name for column in ledger_tables.tables[name].columns}
    assert {codes(row[0])[0] for row in order_rows} == set(order_tables.tables)


def test_the_documented_fields_are_those_of_the_stores() -> None:
    in_milvus = {
        code for row in table(SEARCH, "field", "type", "content") for code in codes(row[0])
    }
    in_elasticsearch = {
        code: row[1].split()[0].rstrip(",")
        for row in _elasticsearch_rows()
        for code in codes(row[0])
    }

    assert in_milvus == {
        "id",
        *SCALARS,
        *(f"{name}_embedding" for name in ("text", "image", "combined")),
    }
    assert in_elasticsearch == {name: field["type"] for name, field in ELASTICSEARCH_FIELDS.items()}


def _elasticsearch_rows() -> list[list[str]]:
    [rows] = [rows for rows in tables(SEARCH) if rows[0] == ["field", "type"]]
    return rows[1:]
