"""The helpers of the benchmarks that every figure depends on, and the start of each benchmark."""

import hashlib
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from benchmarks.support import gil_worker, program
from benchmarks.support.measuring import Window, cpu_seconds, difference, markdown, middle
from benchmarks.support.photographs import Photographs, draw
from benchmarks.support.servers import product
from product_consumer.images.decoder import ImageDecoder
from product_consumer.products.parser import ProductParser
from tests.support import factories
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    return Photographs(2, pixels=320)


def test_no_two_photographs_have_the_same_bytes(photographs: Photographs) -> None:
    digests = {hashlib.sha256(photographs.get(number)).digest() for number in range(20)}
    assert len(digests) == 20


def test_the_same_drawing_in_other_bytes_has_the_same_pixels(photographs: Photographs) -> None:
    first, again = (Image.open(io.BytesIO(photographs.get(number))) for number in (0, 2))
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_a_photograph_is_one_that_the_worker_accepts(photographs: Photographs) -> None:
    decoded = ImageDecoder(max_pixels=50_000_000).decode(photographs.get(7))
    assert np.asarray(decoded).shape == (320, 320, 3)


def test_a_photograph_of_800_pixels_is_as_large_as_one_of_a_shop() -> None:
    assert 110_000 < len(draw(800, seed=1)) < 175_000


def test_the_messages_are_valid_products() -> None:
    body = product(7, "http://127.0.0.1:8080/7.jpg", version=3, price="12.50")
    parser = ProductParser(default_currency="USD", source_timezone="UTC")
    parsed = parser.parse(factories.message(factories.body_text(**body)))
    assert (parsed.id, parsed.price_minor, parsed.version.value) == ("product-7", 1250, 3)


@pytest.fixture
def busy_family() -> Iterator[int]:
    """The id of a process that waits for its child, which never stops computing."""
    spin = "while True: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()


def test_the_cpu_time_of_a_process_includes_that_of_its_children(busy_family: int) -> None:
    while cpu_seconds({"family": busy_family})["family"] < 0.5:
        assert cpu_seconds({"nobody": 2**30}) == {"nobody": 0}


def test_a_window_is_counted_per_message() -> None:
    window = Window(2.0, 100, 0.5, {"queue": 0.1, "images": 0.2})
    figures = (window.rate, window.worker_cpu_ms, window.servers_cpu_ms, window.cpu_ms)
    assert figures == pytest.approx((50.0, 5.0, 3.0, 8.0))


def test_a_difference_counts_new_entries_in_full() -> None:
    assert difference({"a": 3.0, "b": 1.0}, {"a": 1.0}) == {"a": 2.0, "b": 1.0}


def test_the_middle_of_nothing_is_nothing() -> None:
    assert (middle([3, 1, 2]), middle([])) == (2, 0)


def test_a_table_has_its_figures_to_the_right() -> None:
    table = markdown(["worker", "rate"], [("ours", 120.5), ("naive", 9)])
    assert table.splitlines() == [
        "| worker |  rate |",
        "| ------ | ----: |",
        "| ours   | 120.5 |",
        "| naive  |     9 |",
    ]


PROGRAMS = sorted(path.stem for path in (REPOSITORY / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_is_a_module_that_explains_how_it_is_started(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.main)
    assert f"    python -m benchmarks.{name}" in (module.__doc__ or "")


@pytest.mark.parametrize("package", ["benchmarks", "benchmarks.support"])
def test_a_package_of_benchmarks_lists_its_modules(package: str) -> None:
    directory = REPOSITORY / package.replace(".", "/")
    listing = importlib.import_module(package).__doc__ or ""
    listed = re.findall(r"^ {4}(?:python -m benchmarks\.)?(\w+) {2,}\S", listing, re.MULTILINE)
    assert listed == sorted(path.stem for path in directory.glob("[!_]*.py"))


def test_a_benchmark_is_started_from_the_repository_and_needs_no_path() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.batching", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_report_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/steps.py", "--rounds", "1 2"])
    assert program.command() == "`python -m benchmarks.steps --rounds '1 2'`"


def test_an_interrupted_benchmark_ends_with_one_line() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match=r"^stopped$"):
        program.run(interrupted)


@pytest.mark.parametrize(
    ("owner", "name"), [entry[:2] for entry in (*gil_worker.REPLACED, *gil_worker.WATCHED)]
)
def test_what_the_gil_benchmark_replaces_and_watches_is_there(owner: object, name: str) -> None:
    assert hasattr(owner, name)
