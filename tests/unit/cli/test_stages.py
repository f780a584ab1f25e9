"""The commands ``stage`` and ``request``: options, defaults, exit codes."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from product_consumer.cli import configuration, stages, streams
from product_consumer.cli.app import app
from product_consumer.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_USAGE
from product_consumer.streams import request as asking
from product_consumer.streams.alerts.targets import Log, Webhook
from product_consumer.streams.anomaly.options import DetectorName, DetectorOptions
from product_consumer.streams.labels.prompts import Templates
from product_consumer.streams.stages import components
from product_consumer.streams.stages.names import StageName
from tests.support.stages import stream_message

QUEUES = ("--in", "a", "--out", "b")
URL = "amqp://user:secret@host:5673/vhost"


class Left(SystemExit):
    """Raised in place of the end of the process."""


@pytest.fixture
def run_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stage was run with."""
    call: dict[str, Any] = {}

    def run(options: object, _settings: object, **more: Any) -> int:
        call.update({"options": options, **more})
        return 0

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(components, "run_stage", run)
    monkeypatch.setattr(stages, "leave", leave)
    return call


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("mug\nchair\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def unchanged_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams of a command end with it, and later tests log, too."""
    for module in (streams, configuration):
        monkeypatch.setattr(module, "configure_logging", lambda *_: None)


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_stage_has_defaults_for_all_but_its_queues(run_with: dict[str, Any]) -> None:
    assert invoke("stage", "preprocess", "--in", "raw", "--out", "pixels").exit_code == 0

    options = run_with["options"]
    assert options.name is StageName.PREPROCESS
    assert (options.source.queue, options.out.queue, options.results) == ("raw", "pixels", None)
    [node] = options.source.nodes
    assert (node.host, node.port, node.user) == ("localhost", 5672, "guest")
    assert run_with["threads"] == 10
    assert run_with["until_empty"] is False


def test_every_option_of_classify_is_read(run_with: dict[str, Any], labels: Path) -> None:
    result = invoke(
        *("stage", "classify", "--in", "a", "--out", "b", "--results", "c"),
        *("--labels", str(labels), "--min-score", "0.5", "--templates", "openai"),
        *("--rabbitmq_server", URL, "--threads", "3", "--until-empty"),
    )

    assert result.exit_code == 0, result.output
    options = run_with["options"]
    assert options.labels.labels == ["mug", "chair"]
    assert (options.min_score, options.templates) == (0.5, Templates.OPENAI)
    assert options.results.queue == "c"
    assert {url.nodes[0].vhost for url in (options.source, options.out, options.results)} == {
        "vhost"
    }
    assert (run_with["threads"], run_with["until_empty"]) == (3, True)


@pytest.mark.parametrize("arguments", [("--results", "--in", "a"), ("--in", "a", "--results")])
def test_results_go_to_a_queue_of_that_name_where_none_is_named(
    run_with: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    assert invoke("stage", "features", *arguments).exit_code == 0

    assert run_with["options"].results.queue == "results"


def test_a_queue_that_is_named_twice_gets_each_result_once(run_with: dict[str, Any]) -> None:
    assert invoke("stage", "features", "--in", "a", "--out", "b", "--results", "b").exit_code == 0

    assert run_with["options"].out is None
    assert run_with["options"].results.queue == "b"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("preprocess", "--in", "a"), "Nowhere to send results"),
        (("preprocess", "--in", "a", "--out", "a"), "different queues"),
        (("features", "--in", "a", "--out", "b", "--results", "a"), "different queues"),
        (("classify", "--in", "a", "--out", "b"), "--labels"),
        (("features", "--in", "a", "--out", "b", "--labels", "x"), "--labels"),
        (("classify", "--in", "a", "--out", "b", "--min-score", "nan"), "--min-score"),
        (("features", "--out", "b"), "--in"),
        (("unknown", "--in", "a", "--out", "b"), "unknown"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    run_with: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    result = invoke("stage", *arguments)

    assert result.exit_code == EXIT_USAGE
    assert told in result.output + capfd.readouterr().err
    assert not run_with


@pytest.mark.parametrize("content", [b"", b"a\na", b"\xff"])
def test_wrong_labels_stop_the_start(
    run_with: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes,
) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)

    result = invoke("stage", "classify", "--in", "a", "--out", "b", "--labels", str(path))

    assert result.exit_code == EXIT_CONFIGURATION
    assert "--labels" in result.output + capfd.readouterr().err
    assert not run_with


@pytest.mark.parametrize("server", ["host:x", "http://host", f"{URL}?x=1", "amqp://a:b@h/v/w"])
def test_a_wrong_server_is_told_without_its_password(
    run_with: dict[str, Any], capfd: pytest.CaptureFixture[str], server: str
) -> None:
    result = invoke("stage", "features", "--in", "a", "--out", "b", "--rabbitmq_server", server)

    told = result.output + capfd.readouterr().err
    assert result.exit_code == EXIT_CONFIGURATION
    assert "--rabbitmq_server" in told
    assert "secret" not in told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("a red mug", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "code"), [("classification", 0), ("rejected", 1)], ids=["answer", "rejection"]
)
def test_a_request_prints_its_answer(
    monkeypatch: pytest.MonkeyPatch, file: Path, kind: str, code: int
) -> None:
    def ask(*_: object, wait_seconds: float, **__: object) -> object:
        assert wait_seconds == 10
        return stream_message('{"label": "mug"}', headers={"kind": kind})

    monkeypatch.setattr(asking, "ask", ask)

    result = invoke("request", "--in", "raw", str(file))

    assert (result.exit_code, result.stdout) == (code, '{"label": "mug"}\n')


def test_a_request_without_an_answer_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(asking, "ask", lambda *_, **__: None)

    result = invoke("request", "--in", "raw", "--wait", "0.5", str(file))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "No answer within 0.5 s" in result.output


def test_a_request_needs_a_file_and_a_time(tmp_path: Path, file: Path) -> None:
    assert invoke("request", "--in", "raw", str(tmp_path / "missing")).exit_code == EXIT_USAGE
    assert invoke("request", "--in", "raw", "--wait", "nan", str(file)).exit_code == EXIT_USAGE


def test_the_stage_anomaly_takes_a_detector_features_and_a_place_for_alerts(
    run_with: dict[str, Any],
) -> None:
    more = ["--detector", "distribution", "--features", "a, b,,c d", "--relearn", "500"]
    place = ["--factor", "4.5", "--alerts", "told"]
    assert invoke("stage", "anomaly", *QUEUES, *more, *place).exit_code == 0
    options = run_with["options"]
    assert options.detector == DetectorOptions(
        DetectorName.DISTRIBUTION, ("a", "b", "c d"), relearn=500, factor=4.5
    )
    assert options.alerts.queue == "told"
    assert options.alerts.nodes == options.source.nodes


@pytest.mark.parametrize(
    ("text", "target"), [("log", Log()), ("https://host/hook", Webhook("https://host/hook"))]
)
def test_alerts_are_told_where_the_setting_says_unless_the_option_does(
    run_with: dict[str, Any], monkeypatch: pytest.MonkeyPatch, text: str, target: object
) -> None:
    monkeypatch.setenv("ALERTS", text)
    assert invoke("stage", "anomaly", *QUEUES).exit_code == 0
    assert run_with["options"].alerts == target
    assert invoke("stage", "anomaly", *QUEUES, "--alerts", "told").exit_code == 0
    assert run_with["options"].alerts.queue == "told"


@pytest.mark.parametrize(
    "arguments",
    [
        ["anomaly", *QUEUES, "--alerts", QUEUES[1]],
        ["anomaly", *QUEUES, "--relearn", "49"],
        ["anomaly", *QUEUES, "--factor", "nan"],
        ["anomaly", *QUEUES, "--factor", "0"],
        ["anomaly", *QUEUES, "--detector", "forest"],
        ["preprocess", *QUEUES, "--alerts", "log"],
    ],
)
def test_options_of_the_stage_anomaly_that_cannot_work_are_refused(
    run_with: dict[str, Any], arguments: list[str]
) -> None:
    assert invoke("stage", *arguments).exit_code == EXIT_USAGE
    assert run_with == {}


def test_a_url_for_alerts_that_cannot_be_one_is_refused_without_quoting_it(
    run_with: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    result = invoke("stage", "anomaly", *QUEUES, "--alerts", "ftp://host/secret")
    assert result.exit_code == EXIT_CONFIGURATION
    told = result.output + "".join(capfd.readouterr())
    assert "--alerts" in told
    assert "secret" not in told
