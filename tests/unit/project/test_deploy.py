"""The files in deploy/ are accepted by the programs that read them."""

import re
import subprocess
import sys
from pathlib import Path

from product_consumer.metrics import Metrics
from product_consumer.outcomes import Released
from product_consumer.runtime.exit_codes import (
    EXIT_CONFIGURATION,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_SECOND_SIGNAL,
    EXIT_USAGE,
)
from tests.support.paths import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
UNIT = DEPLOY / "product-consumer@.service"


def run(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)


def verify(directory: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Verify a unit as on a machine where it is installed, so that its program exists."""
    path = directory / UNIT.name
    path.write_text(text.replace("/opt/product-consumer/.venv/bin/python", sys.executable))
    return run("systemd-analyze", "verify", str(path), cwd=directory)


def settings_of_the_unit() -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), flags=re.MULTILINE):
        values.setdefault(name, []).append(value)
    return values


def test_systemd_accepts_the_unit_without_a_warning(tmp_path: Path) -> None:
    verified = verify(tmp_path, UNIT.read_text())

    assert verified.stderr == ""
    assert verified.returncode == 0


def test_the_check_of_the_unit_would_notice_a_wrong_value(tmp_path: Path) -> None:
    wrong = UNIT.read_text().replace("KillMode=mixed", "KillMode=mixt")

    assert "mixt" in verify(tmp_path, wrong).stderr


def test_an_instance_of_the_unit_sees_its_own_gpu_only() -> None:
    assert "CUDA_VISIBLE_DEVICES=%i" in settings_of_the_unit()["Environment"]


def test_a_worker_that_a_restart_cannot_fix_is_not_started_again() -> None:
    [codes] = settings_of_the_unit()["RestartPreventExitStatus"]

    assert codes.split() == [str(EXIT_USAGE), str(EXIT_CONFIGURATION)]


def test_the_unit_writes_only_where_systemd_gives_it_a_directory() -> None:
    unit = settings_of_the_unit()
    environment = dict(line.split("=", 1) for line in unit["Environment"])

    assert environment["DATA_DIR"] == f"/var/lib/{unit['StateDirectory'][0]}"
    for name in ("HOME", "HF_HOME"):
        assert environment[name].startswith(f"/var/cache/{unit['CacheDirectory'][0]}")


def test_prometheus_accepts_the_alert_rules() -> None:
    checked = run("promtool", "check", "rules", "alerts.yml", cwd=DEPLOY)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alert_rules_fire_when_they_should_and_only_then() -> None:
    tested = run("promtool", "test", "rules", "alerts_test.yml", cwd=DEPLOY)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def exposed_metrics() -> set[str]:
    """Names of a worker's metrics, without the suffixes of a histogram's samples."""
    metrics = Metrics()
    metrics.count_outcome(Released("x"))
    metrics.count_dead_letter("x")
    metrics.count_flags(("x",))
    metrics.count_quality("x")
    metrics.count_alert("x")
    metrics.watch_breakers(lambda: {"milvus": True})
    metrics.watch_pending_checks(lambda: 1)
    metrics.observe_stage("x", 1.0)
    text = metrics.exposition("text/plain")[0].decode()
    exposed = set(re.findall(r"^(product_\w+)", text, flags=re.MULTILINE))
    return exposed | {name.removesuffix("_count") for name in exposed if name.endswith("_count")}


def test_the_alert_rules_name_only_metrics_that_exist() -> None:
    named = set(re.findall(r"product_\w+", (DEPLOY / "alerts.yml").read_text()))

    assert named
    assert named <= exposed_metrics()


def test_every_metric_is_documented_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"^\| `(product_\w+)", text, flags=re.MULTILINE))
    sample = re.compile(r"_(bucket|count|sum|created)$")

    assert documented == {name for name in exposed_metrics() if not sample.search(name)}


def test_the_exit_codes_are_documented() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}

    assert documented == {
        EXIT_OK,
        EXIT_SECOND_SIGNAL,
        EXIT_USAGE,
        EXIT_FATAL,
        EXIT_CONFIGURATION,
    }
