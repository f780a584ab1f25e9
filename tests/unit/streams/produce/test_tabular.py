"""Rows of a CSV file as records: numbers, missing cells, times, and files that are no tables."""

import json
import math
import time
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.models import NO_ENVELOPE
from product_consumer.streams.produce.tabular import Row, read_table, records
from product_consumer.streams.records import read_record


def table(tmp_path: Path, text: str | bytes) -> list[Row]:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, "--file")


def test_columns_have_the_types_of_their_cells(tmp_path: Path) -> None:
    rows = table(tmp_path, "a,b,c,d\n1,2.5,x,True\n-7,1e3,3,False\n")

    assert rows == [
        {"a": 1, "b": 2.5, "c": "x", "d": True},
        {"a": -7, "b": 1000.0, "c": "3", "d": False},
    ]
    assert [type(value) for value in rows[0].values()] == [int, float, str, bool]


def test_a_missing_cell_is_nan_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    rows = table(tmp_path, "a,b,c\n1,,x\nNA,2.5,\n3\n")

    assert [row["a"] for row in rows] == [1, pytest.approx(math.nan, nan_ok=True), 3]
    assert all(math.isnan(rows[2][name]) for name in "bc")  # type: ignore[arg-type]
    body = str(next(records(rows[1:2], 1)).body)
    assert body.startswith('{"a": NaN, "b": 2.5, "c": NaN, "created": "')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no row that names the columns"),
        ("a,b\n", "has no row below the names"),
        ("a,a\n1,2\n", 'has two columns "a"'),
        ("a,b\n1,2,3\n", "row 2 has 3 cells, and 2 columns are named"),
        ('a,b\n1,"2\n', "unexpected end of data"),
        (b"a\ncaf\xe9\n", "is not text in UTF-8"),
        ("a\n" + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_what_is_no_table_names_its_option(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        table(tmp_path, text)

    assert raised.value.setting == "--file"
    assert problem in raised.value.problem


@pytest.mark.parametrize("name", ["missing.csv", ".", "a\0b"])
def test_what_is_no_file_names_its_option(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--file: "):
        read_table(tmp_path / name, "--file")


def test_rows_are_drawn_with_replacement_at_the_time_of_sending() -> None:
    rows: list[Row] = [{"a": number, "created": "long ago"} for number in range(3)]
    before = datetime.now().replace(microsecond=0)
    drawn = [json.loads(str(message.body)) for message in records(rows, 50, Random(1))]

    assert len(drawn) == 50
    assert {record["a"] for record in drawn} == {0, 1, 2}
    for record in drawn:
        assert record["created"] == record["datetime"]
        assert before <= datetime.strptime(record["created"], "%Y-%m-%d %H:%M:%S")


def test_every_record_is_another_message() -> None:
    messages = list(records([{"a": 1}], 20))

    assert len({message.envelope.message_id for message in messages}) == 20
    for message in messages:
        envelope = message.envelope
        assert envelope.correlation_id == envelope.message_id
        assert (envelope.content_type, envelope.app_id) == ("application/json", "product-consumer")
        assert envelope.timestamp is not None
        assert abs(envelope.timestamp.timestamp() - time.time()) < 60


def test_0_records_are_records_without_end() -> None:
    endless = records([{"a": 1}], 0)

    assert len([next(endless) for _ in range(100)]) == 100


def test_a_collector_reads_what_is_sent(tmp_path: Path) -> None:
    rows = table(tmp_path, "a,b\n1,\n")
    record = read_record(next(records(rows, 1)).body, NO_ENVELOPE)

    assert (record["a"], record["b"]) == (1, None)
