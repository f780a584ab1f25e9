"""``make demo-streams``: stages on a RabbitMQ of their own, as its users run it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("rabbitmqctl") is None, reason="rabbitmq-server is not installed")
@pytest.mark.timeout(200)
def test_the_demo_classifies_pictures_and_finds_anomalies(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "product_consumer.demo.streams"],
        env={**os.environ, "DATA_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "42 classified, 42 with the label that was drawn" in result.stdout
    precision, recall = (
        float(word.rstrip(","))
        for line in result.stdout.splitlines()
        if line.startswith("  precision")
        for word in line.split()[1::2]
    )
    assert min(precision, recall) >= 0.9
