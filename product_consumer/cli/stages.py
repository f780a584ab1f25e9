"""Commands of the model pipeline: ``stage`` runs one step of it, ``request`` is its client."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from product_consumer.cli.configuration import command_settings
from product_consumer.cli.output import EXIT_UNAVAILABLE
from product_consumer.cli.streams import Password, Server, User, prepare, queue_url
from product_consumer.queues.rabbitmq.url import AmqpUrl
from product_consumer.runtime.exit_codes import EXIT_USAGE, UsageError, exit_code_of_errors
from product_consumer.runtime.signals import Shutdown, leave
from product_consumer.settings import MAX_THREADS, Settings
from product_consumer.streams.alerts.targets import AlertQueue, Target, read_target
from product_consumer.streams.anomaly.options import (
    DEFAULT_RELEARN,
    LEAST_RELEARN,
    MOST_RELEARN,
    DetectorName,
    DetectorOptions,
)
from product_consumer.streams.labels.prompts import Templates
from product_consumer.streams.labels.reading import read_labels
from product_consumer.streams.stages.names import StageName
from product_consumer.text import printable

DEFAULT_RESULTS = "results"
_LOGIN = "guest"

In = Annotated[str, typer.Option("--in", metavar="QUEUE", help="The queue to read.")]


class _StageCommand(TyperCommand):
    """A command whose option ``--results`` may stand without the name of a queue."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_default_results(args))


def with_default_results(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the name of a queue after each ``--results``."""
    completed: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        completed.append(argument)
        if argument == "--results" and following.startswith("-"):
            completed.append(DEFAULT_RESULTS)
    return completed


def stage(
    name: Annotated[StageName, typer.Argument(help="Which step.")],
    source: In,
    out: Annotated[
        str | None, typer.Option("--out", metavar="QUEUE", help="The queue of the next stage.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(
            metavar="[QUEUE]",
            help="Also send results here (default: results), keep them in the table, and answer"
            " clients.",
        ),
    ] = None,
    server: Server = None,
    user: User = _LOGIN,
    password: Password = _LOGIN,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Threads (default: THREADS).")
    ] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End once the queue is empty.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="classify: labels, one per line, or JSON of labels with prompts."),
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="classify: below it there is no label.")
    ] = 0.0,
    templates: Annotated[
        Templates, typer.Option(help="classify: 7 prompts (simple) or 80 (openai) for a label.")
    ] = Templates.SIMPLE,
    detector: Annotated[
        DetectorName,
        typer.Option(help="anomaly: by relations of features, or by distribution of values."),
    ] = DetectorName.RELATION,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="anomaly: the columns to look at, text and truth values too (default: numbers).",
        ),
    ] = None,
    relearn: Annotated[
        int,
        typer.Option(
            min=LEAST_RELEARN,
            max=MOST_RELEARN,
            help="anomaly: after so many anomalies in a row they are what is usual.",
        ),
    ] = DEFAULT_RELEARN,
    factor: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=100.0,
            help="anomaly: a higher one finds less (default: 3 by relation, 10 by distribution).",
        ),
    ] = None,
    alerts: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE|URL|log",
            help="anomaly: where anomalies are told at once (default: ALERTS).",
        ),
    ] = None,
) -> None:
    """Run one step of a model pipeline: read a queue, send what was made of it to the next."""
    _check_number(min_score, "--min-score")
    _check_number(factor or 0.0, "--factor")
    with exit_code_of_errors() as ending:
        queues = {"--in": source, "--out": out, "--results": results}
        named = {option: queue for option, queue in queues.items() if queue is not None}
        if out == results:
            # One copy is enough.
            named.pop("--out", None)
        _check(name, named, labels)
        settings, url = prepare(server, source, user, password)
        target = _target(name, alerts, settings)
        if isinstance(target, AlertQueue):
            named["--alerts"] = target.name
            _check_distinct(named)
        urls = {option: url.with_queue(queue) for option, queue in named.items()}
        given = {
            "templates": templates,
            "min_score": min_score,
            "detector": DetectorOptions(detector, _columns(features), relearn, factor),
            "alerts": urls["--alerts"] if isinstance(target, AlertQueue) else target,
        }
        ending.code = _run(name, urls, labels, given, settings, threads, until_empty)
    leave(ending.code)


def _check(name: StageName, queues: dict[str, str], labels: Path | None) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    if queues.keys() == {"--in"}:
        raise UsageError("Nowhere to send results: give --out, --results or both.")
    _check_distinct(queues)
    if (labels is not None) != (name is StageName.CLASSIFY):
        raise UsageError("The stage classify needs --labels, and no other stage takes it.")


def _check_number(number: float, option: str) -> None:
    # Click compares, and every comparison with NaN fails.
    if math.isnan(number):
        raise typer.BadParameter("needs a number", param_hint=option)


def _check_distinct(queues: dict[str, str]) -> None:
    if len(set(queues.values())) < len(queues):
        raise UsageError("--in, --out, --results and --alerts need to be different queues.")


def _target(name: StageName, alerts: str | None, settings: Settings) -> Target | None:
    """Return where alerts go; raises ``UsageError`` and ``ConfigurationError``."""
    if name is not StageName.ANOMALY:
        if alerts is not None:
            raise UsageError("Only the stage anomaly takes --alerts.")
        return None
    if alerts is not None:
        return read_target(alerts)
    return None if settings.alerts is None else read_target(settings.alerts, "ALERTS")


def _columns(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


def _run(
    name: StageName,
    urls: dict[str, AmqpUrl],
    label_file: Path | None,
    given: dict[str, Any],
    settings: Settings,
    threads: int | None,
    until_empty: bool,
) -> int:
    # Before the slow imports: a wrong file of labels is told at once.
    labels = None if label_file is None else read_labels(label_file)
    from product_consumer.streams.stages.components import StageOptions, run_stage

    options = StageOptions(
        name,
        urls["--in"],
        urls.get("--out"),
        urls.get("--results"),
        labels,
        **given,
    )
    return run_stage(
        options, settings, threads=threads or settings.threads, until_empty=until_empty
    )


def request(
    file: Annotated[Path, typer.Argument(help="A picture, a text or a record.", dir_okay=False)],
    source: In,
    wait: Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds to wait.")] = 10.0,
    server: Server = None,
    user: User = _LOGIN,
    password: Password = _LOGIN,
) -> None:
    """Send a file to the first stage of a pipeline and print its answer; exit 1 when none comes."""
    from product_consumer.streams.request import ask, is_refusal, new_request, shown

    _check_number(wait, "--wait")
    settings = command_settings()
    url = queue_url(settings, server, source, user, password)
    try:
        asked = new_request(file)
    except OSError as error:
        print(f"{printable(str(file))}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None
    with Shutdown(settings.drain_seconds) as shutdown:
        answer = ask(url, settings, asked, wait_seconds=wait, is_stopping=shutdown.stopping.is_set)
    if answer is None:
        print(
            f"No answer within {wait:g} s. GET /results/{asked.correlation_id} of the service"
            " may tell more.",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_UNAVAILABLE)
    print(shown(answer))
    if is_refusal(answer):
        raise typer.Exit(EXIT_UNAVAILABLE)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("stage", cls=_StageCommand)(stage)
    app.command("request")(request)
