"""The documentation's examples, run: on the stores of one demo and on a queue in this process."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from product_consumer.cli.app import app
from product_consumer.demo.servers import SqsServer
from product_consumer.outcomes import Rejected
from product_consumer.queues.reject_log import RejectLog
from product_consumer.queues.rejections import rejection_attributes
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
from tests.acceptance.demo_run import DemoRun
from tests.support import factories
from tests.support.documentation import PAGES, Example, blocks, examples, name_of, sessions
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(170)

CONSOLE = ["python", "-m", "product_consumer"]
README, QUICKSTART = REPOSITORY / "README.md", REPOSITORY / "docs" / "quickstart.md"
# They load the real model, serve until stopped, need Redis, ask a person, or name a message or a
# product that is not there. The unit tests still check their options. Those of data streams have
# tests of their own, with a RabbitMQ.
NOT_RUN = (
    *("check", "serve", "rebuild-stats", "verify-stats", "dlq show", "dlq redrive", "history"),
    *("produce", "collect", "stage", "request"),
)
# What differs from run to run: times, ids, scores and rates.
VARYING = re.compile(
    r"\d{4}-\d\d-\d\d([T ][\d:.]+)?(Z|\+00:00)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\b\d+\.\d{3}\b|\d+(?= messages/s)|\d+\.\d(?= s\b)"
)


@pytest.fixture(scope="module")
def directory(first_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where ``data/demo`` has what a demo left; its Milvus is kept open meanwhile."""
    assert first_run.result.returncode == 0, first_run.result.stderr
    directory = tmp_path_factory.mktemp("examples")
    (directory / "data").mkdir()
    shutil.copytree(first_run.data_dir, directory / "data" / "demo")
    with closing(EmbeddedMilvus(directory / "data" / "demo" / "milvus.db")) as user:
        user.start()
        yield directory


@pytest.fixture
def in_the_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)


def run(words: Sequence[str]) -> Result:
    return CliRunner().invoke(app, list(words[len(CONSOLE) :]))


def same(text: str) -> str:
    return VARYING.sub("~", text.rstrip())


def shown_sessions() -> list[Example]:
    found = [each for page in PAGES for each in sessions(page)]
    return [each for each in found if each.words[: len(CONSOLE)] == CONSOLE]


def test_the_readme_shows_lines_that_the_demo_prints(first_run: DemoRun) -> None:
    [shown] = [text for text in blocks(README, "text") if text.startswith("Products")]
    printed = iter([same(line) for line in first_run.result.stdout.splitlines()])

    # Each line is looked for behind the one before it.
    assert [line for line in shown.splitlines() if line and same(line) not in printed] == []


@pytest.mark.parametrize("example", shown_sessions(), ids=lambda each: f"{each.page}: {each.line}")
def test_a_command_prints_what_is_shown(
    example: Example, in_the_directory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(with_rejected_messages(Path("rejected"))))
    for name, value in example.variables.items():
        monkeypatch.setenv(name, value)
    result = run(example.words)

    assert result.exit_code == 0, (result.output, result.exception)
    assert same(result.output).splitlines() == [same(line) for line in example.output]


def with_rejected_messages(data_dir: Path) -> Path:
    """Rejected messages as a worker without a dead-letter queue leaves them."""
    if data_dir.exists():
        return data_dir
    log = RejectLog(data_dir / "rejected.jsonl")
    rejections = (
        ("validate", "json_invalid", '{"id": "abc123", "name": "Half a mess'),
        ("validate", "missing:price", factories.body_text(without=("price",), id="abc124")),
        ("fetch_image", "http_404", factories.body_text(id="abc125")),
        ("fetch_image", "http_404", factories.body_text(id="abc126")),
    )
    for number, (stage, reason, body) in enumerate(rejections):
        message_id = f"{0x29F7A4A1 + number * 0x1A2B3C4D:08x}-8f4b-4b0e-b4b7-6f9e3a6f8f1b"
        receive_count = 3 if reason == "http_404" else 1
        message = factories.message(body, message_id=message_id, receive_count=receive_count)
        log.append(rejection_attributes(message, Rejected(stage, reason, ""), "products"), body)
    return data_dir


@pytest.fixture(scope="module")
def queue_settings() -> Iterator[dict[str, str]]:
    """Settings as docs/quickstart.md has them, and what ``setup-queues`` adds to them."""
    server = SqsServer()
    settings = _settings(blocks(QUICKSTART, "ini")[0]) | {"AWS_ENDPOINT_URL": server.start()}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        made = run([*CONSOLE, "setup-queues"])
    assert made.exit_code == 0, (made.output, made.exception)
    yield settings | _settings(made.output)
    server.stop()


def _settings(lines: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines.splitlines())


@pytest.fixture
def with_queues(
    in_the_directory: None,
    queue_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Queues, the demo's stores, and the files that the examples name."""
    for name, value in {**queue_settings, "DATA_DIR": "data/demo"}.items():
        monkeypatch.setenv(name, value)
    messages = [text for text in blocks(QUICKSTART, "json") if text.startswith('{"id"')]
    Path("products.jsonl").write_text("".join(messages), encoding="utf-8")
    image = next(Path("data/demo/catalogue/images").iterdir())
    shutil.copy(image, "photo.jpg")


def runnable_examples() -> list[Example]:
    found = {}
    for page in PAGES:
        for each in examples(page):
            if "product_consumer" in each.line and each.words[: len(CONSOLE)] == CONSOLE:
                command = " ".join(each.words[len(CONSOLE) :])
                if not command.startswith(NOT_RUN) and "COMMAND" not in command:
                    found[command] = each
    shown = {each.line for page in PAGES for each in sessions(page)}
    return [each for each in found.values() if each.line not in shown]


@pytest.mark.parametrize(
    "example", runnable_examples(), ids=lambda each: f"{each.page}: {each.line}"
)
def test_an_example_runs(example: Example, with_queues: None) -> None:
    result = run(example.words)

    assert result.exit_code == 0, (result.output, result.exception)


def test_the_check_of_the_configuration_page_finds_nothing_wrong(with_queues: None) -> None:
    [example] = [
        each
        for page in PAGES
        for each in examples(page)
        if name_of(page) == "docs/configuration.md" and "check" in each.line
    ]
    result = run(example.words)

    assert result.exit_code == 0, (result.output, result.exception)
    assert "FAIL" not in result.output
