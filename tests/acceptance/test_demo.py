"""The demo, run as its users run it."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from product_consumer.cli.app import app
from tests.acceptance.demo_run import DemoRun, run_demo
from tests.faults.harness.forked_workers import ForkServer
from tests.support import factories
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(170)


def test_the_demo_shows_the_whole_job(first_run: DemoRun) -> None:
    result = first_run.result

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "knows drawn product pictures only" in lines[0]
    assert "ViT-L-14-336" in lines[0]
    assert "Products: received 99, stored 96, rejected 3" in result.stdout
    for reason in ("json_invalid", "missing:price", "image_url_blocked_address"):
        assert f"rejected 1: {reason}" in result.stdout
    assert "messages/s" in result.stdout
    assert "Orders: received 40, accepted" in result.stdout
    assert "USD in all" in result.stdout
    first_hit = lines[lines.index('By words: "red mug"') + 1]
    assert "red" in first_hit.lower()
    assert "mug" in first_hit.lower()
    assert "By image" in result.stdout
    assert "By both" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_hit_shows_its_price(first_run: DemoRun) -> None:
    lines = first_run.result.stdout.splitlines()
    hits = lines[lines.index('By words: "red mug"') :][1:4]

    assert all(re.fullmatch(r"  [01]\.\d{3}  demo-\d{4} +\d+\.\d\d EUR  .+", hit) for hit in hits)


def test_the_demo_shows_three_prices_of_one_product_newest_first(first_run: DemoRun) -> None:
    lines = first_run.result.stdout.splitlines()
    [title] = [line for line in lines if line.startswith("Prices of demo-")]
    history = lines[lines.index(title) + 1 :]
    history = history[: history.index("")]

    assert len(history) == 3
    assert history == sorted(history, reverse=True)
    assert len({line.split("UTC")[1] for line in history}) == 3
    assert all(line.endswith(" EUR") for line in history)


def test_prices_that_came_late_are_in_the_history_and_change_no_product(first_run: DemoRun) -> None:
    with sqlite3.connect(first_run.directory / "data" / "products.db") as connection:
        rows = connection.execute(
            "SELECT p.id, h.observed_at = p.last_update, h.price_minor = p.price_minor"
            " FROM products p JOIN price_history h ON h.product_id = p.id"
        ).fetchall()
    connection.close()

    counts = Counter(product_id for product_id, *_ in rows)
    assert Counter(counts.values()) == {1: 60, 3: 12}
    assert sum(is_newest for _, is_newest, _ in rows) == 72
    assert all(is_current for _, is_newest, is_current in rows if is_newest)


def test_the_commands_that_the_demo_ends_with_work(
    first_run: DemoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, history = first_run.result.stdout.splitlines()[-2:]
    product = subprocess.run(
        ["bash", "-c", history],
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
        cwd=first_run.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # It begins like the other; a process of its own would only load the model again.
    monkeypatch.chdir(first_run.directory)
    beginning, words = search.partition(" search ")[::2]
    variables = dict(word.split("=", 1) for word in shlex.split(beginning) if "=" in word)
    hits = CliRunner().invoke(app, ["search", *shlex.split(words)], env=variables)

    assert product.returncode == 0, product.stderr
    prices = product.stdout.partition("Prices:")[2].partition("Reviews:")[0]
    assert prices.count(" EUR") == 3
    assert beginning == history.partition(" history ")[0]
    assert hits.exit_code == 0, (hits.output, hits.exception)
    assert "mug" in hits.stdout.splitlines()[0]


def test_off_a_terminal_progress_is_a_few_lines_and_no_line_is_repeated(first_run: DemoRun) -> None:
    log = first_run.result.stderr

    assert "\r" not in log
    handled = [line for line in log.splitlines() if "Handled" in line]
    # One in five seconds, however long a busy machine takes.
    assert 1 <= len(handled) <= 40
    assert handled[-1].endswith("Handled 99 of 99 product messages and 40 of 40 orders")
    assert log.count("processed ID") == 96 + 38


def test_the_demo_takes_the_users_own_catalogue(tmp_path: Path, fork_server: ForkServer) -> None:
    images = tmp_path / "shop" / "images"
    images.mkdir(parents=True)
    products = []
    for number in range(6):
        (images / f"an image {number}.jpg").write_bytes(
            factories.jpeg_bytes((300, 200), seed=number)
        )
        product = {"id": f"id {number}", "name": f"Thing {number}", "price": "18.99"}
        products.append(product | {"image": f"an image {number}.jpg"})
    turned = Image.new("RGB", (50, 80), (10, 200, 30))
    turned.save(images / "turned.png")
    products.append({"id": "turned", "name": "Turned", "price": "$5", "image": "turned.png"})
    (tmp_path / "shop" / "products.json").write_text(json.dumps(products))
    environment = {"PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path / "data")}
    demo = fork_server.fork(environment, tmp_path, ["--demo", "--catalog", str(tmp_path / "shop")])

    assert demo.wait() == 0, demo.log
    assert "Products: received 11, stored 11, rejected 0" in demo.log
    with sqlite3.connect(tmp_path / "data" / "products.db") as connection:
        prices = connection.execute("SELECT price_minor, currency FROM products ORDER BY id")
        assert prices.fetchall() == [(1899, "USD")] * 6 + [(500, "USD")]
    connection.close()


def test_the_demo_never_touches_a_real_workers_products(first_run: DemoRun, tmp_path: Path) -> None:
    shutil.copytree(first_run.directory / "data", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "products.db") as connection:
        connection.execute("UPDATE ledger_meta SET value = 'worker' WHERE key = 'created_by'")
    connection.close()

    refused = run_demo(tmp_path)
    assert refused.returncode == 78
    assert "DATA_DIR" in refused.stderr


def test_a_missing_catalogue_is_reported_in_one_line(tmp_path: Path) -> None:
    refused = run_demo(tmp_path, "--catalog", str(tmp_path / "nowhere"))

    assert refused.returncode == 78
    assert "products.json" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
