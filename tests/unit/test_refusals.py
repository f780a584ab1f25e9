"""The table of refusals: which row decides, and that the documentation shows the same rows.

Real errors of each library are tried beside its translation: ``database/test_errors.py``,
``stores/elasticsearch/test_reaching.py``, ``stores/milvus/test_client.py``,
``queues/sqs/test_opening.py``, ``orders/redis/test_errors.py`` and
``tests/contracts/test_redis_refusals.py``.
"""

import pytest

from product_consumer.refusals import POSTGRESQL, REFUSALS, SQS, Refusal, find_refusal
from tests.support.documentation import table
from tests.support.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "troubleshooting.md"


def test_an_error_that_no_row_knows_is_waited_for() -> None:
    assert find_refusal(POSTGRESQL, [], "connection refused") is None
    assert find_refusal(SQS, ["ServiceUnavailable"], "later") is None


def test_a_wrong_clock_is_told_from_a_wrong_key_by_its_words() -> None:
    clock = find_refusal(SQS, ["InvalidSignatureException"], "Signature expired: 20261126T220000Z")
    key = find_refusal(SQS, ["InvalidSignatureException"], "The request signature we calculated")

    assert clock is not None
    assert key is not None
    assert (clock.setting, key.setting) == (None, "SQS_SECRET_KEY")


def test_code_and_words_must_both_fit() -> None:
    row = Refusal("x", "SETTING", "", codes=("4",), words=("no … here",))

    assert row.fits(["42"], "NO such thing HERE")
    assert not row.fits(["42"], "something else")
    assert not row.fits(["52"], "no such thing here")


def test_a_row_of_one_dependency_is_for_no_other() -> None:
    assert find_refusal(SQS, ["28P01"], "password authentication failed") is None


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.dependency}-{row.why}")
def test_every_row_can_be_reached(row: Refusal) -> None:
    codes = row.codes[:1]
    words = row.words[0].replace("…", " x ") if row.words else ""

    assert find_refusal(row.dependency, codes, words) is row


def test_the_documented_rows_are_those_of_the_table() -> None:
    documented = [tuple(row) for row in table(PAGE, "dependency", "sign")]

    assert documented == [documented_row(row) for row in REFUSALS]


def documented_row(row: Refusal) -> tuple[str, str, str, str]:
    signs = ", ".join(f"`{sign}`" for sign in (*row.codes, *row.words))
    return row.dependency, signs, f"`{row.setting}`" if row.setting else "waits", row.why
