"""The demo, as a stranger runs it."""

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.world import REPOSITORY
from tests.support import factories

pytestmark = pytest.mark.timeout(170)


def run_demo(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "thread_runner.py"), "--demo", *arguments],
        env={"PATH": "/usr/bin:/bin", "DATA_DIR": str(directory / "data"), "HF_HUB_OFFLINE": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Run:
    """What a demo showed, and where it left its files."""

    directory: Path
    shown: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("first_run")
    return Run(directory, run_demo(directory))


def test_the_demo_shows_the_whole_job(first_run: Run) -> None:
    shown = first_run.shown

    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert "knows drawn product pictures only" in lines[0]
    assert "ViT-L-14-336" in lines[0]
    assert "Received 75, stored 72, rejected 3" in shown.stdout
    for reason in ("json_invalid", "missing:price", "image_url_blocked_address"):
        assert f"rejected 1: {reason}" in shown.stdout
    assert "messages/s" in shown.stdout
    assert "Orders: received 40, accepted" in shown.stdout
    assert "USD in all" in shown.stdout
    first_hit = lines[lines.index('By words: "red mug"') + 1]
    assert "red" in first_hit.lower()
    assert "mug" in first_hit.lower()
    assert "By picture" in shown.stdout
    assert "By both" in shown.stdout
    assert "Traceback" not in shown.stderr


def test_the_demo_takes_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    images = tmp_path / "shop" / "images"
    images.mkdir(parents=True)
    products = []
    for number in range(6):
        (images / f"a picture {number}.jpg").write_bytes(
            factories.jpeg_bytes((300, 200), seed=number)
        )
        product = {"id": f"id {number}", "name": f"Thing {number}", "price": "18.99"}
        products.append(product | {"image": f"a picture {number}.jpg"})
    turned = Image.new("RGB", (50, 80), (10, 200, 30))
    turned.save(images / "turned.png")
    products.append({"id": "turned", "name": "Turned", "price": "$5", "image": "turned.png"})
    (tmp_path / "shop" / "products.json").write_text(json.dumps(products))
    shown = run_demo(tmp_path, "--catalog", str(tmp_path / "shop"))

    assert shown.returncode == 0, shown.stderr
    assert "Received 7, stored 7, rejected 0" in shown.stdout
    with sqlite3.connect(tmp_path / "data" / "products.db") as connection:
        found = connection.execute("SELECT price_minor, currency FROM products ORDER BY id")
        assert found.fetchall() == [(1899, "USD")] * 6 + [(500, "USD")]
    connection.close()


def test_the_demo_never_touches_a_real_workers_products(first_run: Run, tmp_path: Path) -> None:
    shutil.copytree(first_run.directory / "data", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "products.db") as connection:
        connection.execute("UPDATE ledger_meta SET value = 'worker' WHERE key = 'created_by'")
    connection.close()

    refused = run_demo(tmp_path)
    assert refused.returncode == 78
    assert "DATA_DIR" in refused.stderr


def test_a_catalogue_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    refused = run_demo(tmp_path, "--catalog", str(tmp_path / "nowhere"))

    assert refused.returncode == 78
    assert "products.json" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
