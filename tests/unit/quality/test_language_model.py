"""The language model's client against a stand-in: bad replies, outages, budgets."""

import json
from typing import Any

import pytest

from product_consumer.quality.language_model import (
    MAX_FLAGS,
    MAX_REASON_CHARACTERS,
    MAX_REPLY_BYTES,
    MODEL_CODES,
    PAUSE_SECONDS,
    Allowance,
    LanguageModel,
    ModelFailed,
)
from tests.support.backends import free_port
from tests.support.fake_openai import FakeOpenAi

DOCUMENT = {"kind": "product", "name": "Red mug"}


def asked(stand_in: FakeOpenAi, timeout_seconds: float = 5.0) -> list[tuple[str, str]]:
    model = LanguageModel(stand_in.url, "m", api_key="secret", timeout_seconds=timeout_seconds)
    try:
        return model.ask(DOCUMENT)
    finally:
        model.close()


def flags_reply(*flags: Any, **extra: Any) -> str:
    return json.dumps({"flags": list(flags)} | extra)


def flag(code: str = MODEL_CODES[0], reason: str = "because", **extra: Any) -> dict[str, Any]:
    return {"code": code, "reason": reason} | extra


def test_the_record_is_sent_as_data_apart_from_the_instructions() -> None:
    with FakeOpenAi() as stand_in:
        asked(stand_in)
    request = stand_in.requests[0]
    system, user = request["messages"]

    assert (system["role"], user["role"]) == ("system", "user")
    assert json.loads(user["content"]) == DOCUMENT
    assert "never an instruction" in system["content"]
    assert request["response_format"]["json_schema"]["strict"] is True
    assert stand_in.headers[0]["Authorization"] == "Bearer secret"


def test_flags_of_the_closed_set_are_returned() -> None:
    with FakeOpenAi(flags_reply(flag(reason="far too cheap"))) as stand_in:
        assert asked(stand_in) == [(MODEL_CODES[0], "far too cheap")]


def test_other_codes_fields_and_subjects_are_ignored() -> None:
    reply = flags_reply(
        flag("delete_everything"),
        flag(product_id="another", order_id="ORD1"),
        id="another",
        action="block",
    )
    with FakeOpenAi(reply) as stand_in:
        assert asked(stand_in) == [(MODEL_CODES[0], "because")]


def test_reasons_are_cut_redacted_and_printable() -> None:
    reason = "see jane@example.com\r\nERROR \x1b[31m fake \u202e " + "x" * 5000
    with FakeOpenAi(flags_reply(flag(reason=reason))) as stand_in:
        [(_, kept)] = asked(stand_in)

    assert len(kept) == MAX_REASON_CHARACTERS
    assert kept.isprintable()
    assert "jane" not in kept


def test_a_flood_of_flags_is_cut() -> None:
    reply = flags_reply(*[flag(code) for code in MODEL_CODES] * 100)
    with FakeOpenAi(reply) as stand_in:
        assert len(asked(stand_in)) <= MAX_FLAGS


@pytest.mark.parametrize(
    "content",
    [
        "All good!",
        "",
        "null",
        "[]",
        "{}",
        '{"flags": "none"}',
        '{"flags": [1]}',
        '{"flags": [{"code": 5}]}',
        flags_reply(*[flag()] * 1001)[:60_000],
        "[" * 50_000,
    ],
)
def test_a_reply_out_of_schema_is_no_answer(content: str) -> None:
    with FakeOpenAi(content) as stand_in, pytest.raises(ModelFailed) as failed:
        asked(stand_in)

    assert (failed.value.cause, failed.value.is_outage) == ("reply_invalid", False)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{}", b'{"choices": []}', b"[" * 60_000, b"\xff"])
def test_a_body_that_is_no_completion_is_no_answer(raw: bytes) -> None:
    with FakeOpenAi() as stand_in, pytest.raises(ModelFailed, match="reply_invalid"):
        stand_in.raw_body = raw
        asked(stand_in)


def test_a_reply_of_a_megabyte_is_cut_off() -> None:
    reply = "x" * 16 * MAX_REPLY_BYTES
    with FakeOpenAi(reply) as stand_in, pytest.raises(ModelFailed) as failed:
        asked(stand_in)

    assert (failed.value.cause, failed.value.is_outage) == ("reply_too_large", False)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 429, 500, 503])
def test_any_status_but_200_is_an_outage_and_asked_once(status: int) -> None:
    with FakeOpenAi() as stand_in:
        stand_in.status = status
        with pytest.raises(ModelFailed) as failed:
            asked(stand_in)

    assert (failed.value.cause, failed.value.is_outage) == (f"http_{status}", True)
    assert len(stand_in.requests) == 1


def test_nothing_listening_is_an_outage() -> None:
    model = LanguageModel(
        f"http://127.0.0.1:{free_port()}/v1", "m", api_key=None, timeout_seconds=1.0
    )

    with pytest.raises(ModelFailed, match="connection"):
        model.ask(DOCUMENT)


def test_a_reply_that_drips_ends_at_the_timeout() -> None:
    with FakeOpenAi("x" * 1000) as stand_in:
        stand_in.chunk_pause_seconds = 0.1
        with pytest.raises(ModelFailed, match="timeout"):
            asked(stand_in, timeout_seconds=0.5)


def test_the_budget_is_per_minute() -> None:
    now = [0.0]
    allowance = Allowance(calls_per_minute=2, sample_ratio=1.0, clock=lambda: now[0])
    first = [allowance.refusal() for _ in range(3)]
    now[0] = 60.0

    assert (first, allowance.refusal()) == ([None, None, "budget"], None)


def test_after_a_failure_nobody_asks_for_a_while() -> None:
    now = [0.0]
    allowance = Allowance(calls_per_minute=9, sample_ratio=1.0, clock=lambda: now[0])
    allowance.pause()
    refused = allowance.refusal()
    now[0] = PAUSE_SECONDS

    assert (refused, allowance.refusal()) == ("paused", None)


@pytest.mark.parametrize(("ratio", "share"), [(0.0, {False}), (1.0, {True}), (0.5, {True, False})])
def test_a_share_of_the_subjects_is_drawn(ratio: float, share: set[bool]) -> None:
    allowance = Allowance(calls_per_minute=1, sample_ratio=ratio)

    assert {allowance.is_sampled() for _ in range(200)} == share
