"""What a worker may be told on its command line, and what is refused with 2."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.queue_addresses import StreamName
from product_consumer.runtime.options import Options, read_options
from product_consumer.settings import MAX_PROCESSES, MAX_THREADS


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read_options(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_without_options_products_are_consumed_as_the_settings_say() -> None:
    assert read_options([]) == Options(arguments=())


@pytest.mark.parametrize(
    ("named", "streams"),
    [
        (["products"], (StreamName.PRODUCTS,)),
        (["orders", "products"], (StreamName.ORDERS, StreamName.PRODUCTS)),
        (["orders", "orders"], (StreamName.ORDERS,)),
    ],
)
def test_each_stream_that_is_named_is_consumed_once(
    named: list[str], streams: tuple[StreamName, ...]
) -> None:
    assert read_options([f"--stream={name}" for name in named]).streams == streams


def test_the_arguments_are_kept_for_the_processes_that_are_started() -> None:
    assert read_options(["--threads", "4", "--serve"]).arguments == ("--threads", "4", "--serve")


@pytest.mark.parametrize(
    ("arguments", "serves"),
    [
        ([], False),
        (["--serve"], True),
        (["--serve", "--process-number=1"], True),
        (["--serve", "--process-number=2"], False),
    ],
)
def test_of_several_processes_the_first_serves(arguments: list[str], serves: bool) -> None:
    assert read_options(arguments).serves is serves


def test_the_worker_inside_the_demo_consumes_both_streams_until_they_are_empty() -> None:
    options = read_options(["--demo", "--threads", "2"]).for_demo()

    assert (options.streams, options.until_empty) == (tuple(StreamName), True)
    assert options.threads == 2


@given(st.integers(1, MAX_THREADS), st.integers(1, MAX_PROCESSES))
def test_numbers_within_their_bounds_are_taken(threads: int, processes: int) -> None:
    options = read_options([f"--threads={threads}", f"--processes={processes}"])

    assert (options.threads, options.processes) == (threads, processes)


@pytest.mark.parametrize(
    ("option", "most"), [("--threads", MAX_THREADS), ("--processes", MAX_PROCESSES)]
)
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "", " 3", "٣", "{more}"])
def test_a_number_out_of_bounds_names_them(
    option: str, most: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, f"{option}={text.format(more=most + 1)}")

    assert f"argument {option}: takes a whole number from 1 to {most}" in said


@pytest.mark.parametrize(
    "arguments",
    [["--stream", "orders"], ["--serve"], ["--processes", "1"], ["--processes", "2", "--serve"]],
)
def test_the_demo_takes_no_option_of_a_service(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--demo shows both streams" in refusal(capsys, "--demo", *arguments)


def test_a_catalogue_goes_with_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_options(["--demo", "--catalog", "shop"]).catalog == Path("shop")
    assert "--catalog goes with --demo" in refusal(capsys, "--catalog", "shop")


@pytest.mark.parametrize("arguments", [["--stream", "reviews"], ["--unheard-of"], ["products"]])
def test_an_unknown_option_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "usage: thread_runner.py" in refusal(capsys, *arguments)


def test_what_only_a_parent_process_says_is_not_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])

    assert "--process-number" not in capsys.readouterr().out
    assert read_options(["--process-number", "2"]).process_number == 2
