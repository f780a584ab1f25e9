"""The real program on real servers: started, fed, stopped, killed and read back by strangers."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from elasticsearch import Elasticsearch
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient

from tests.acceptance.world import Worker, World, opened_world
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.timeout(170)

FIELDS = ("text_embedding", "image_embedding", "combined_embedding")
COUNT = 40
IDS = {f"p{number}" for number in range(COUNT)}


def ledger_rows(world: World, query: str) -> list[Any]:
    with sqlite3.connect(world.data_dir / "products.db") as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def milvus_rows(uri: str, alias: str = "products") -> dict[str, dict[str, Any]]:
    client = MilvusClient(uri, dedicated=True)
    try:
        client.load_collection(alias)
        rows = client.query(alias, filter="revision >= 0", output_fields=["*"], limit=1000)
        return {row["id"]: row for row in rows}
    finally:
        client.close()
        # An embedded database stays open in this process otherwise, and the next worker needs it.
        server_manager_instance.release_all()


def check_everything_is_stored(world: World, ids: set[str]) -> None:
    assert {row[0] for row in ledger_rows(world, "SELECT id FROM products")} == ids
    assert {row[0] for row in ledger_rows(world, "SELECT product_id FROM price_history")} == ids
    rows = milvus_rows(str(world.data_dir / "milvus.db"))
    assert set(rows) == ids
    for row in rows.values():
        for field in FIELDS:
            assert abs(np.linalg.norm(row[field]) - 1) < 1e-3
    assert set(world.search("--keywords", "product number")) == ids
    assert world.left_in_queue() == 0


@dataclass(frozen=True, slots=True)
class Run:
    """A worker that was given good and broken messages, and ended by itself."""

    world: World
    worker: Worker


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, elasticmq_url: str, model: Mapping[str, str]
) -> Iterator[Run]:
    with opened_world(tmp_path_factory.mktemp("ended"), elasticmq_url, model) as world:
        broken = broken_messages(world)
        world.send(*(world.product(number) for number in range(COUNT)), *broken)
        worker = world.start_worker("--until-empty")
        assert worker.wait() == 0, worker.log
        yield Run(world, worker)


def broken_messages(world: World) -> list[dict[str, Any] | str]:
    return [
        '{"id": "half',
        world.product(900, price="call us"),
        world.product(901, image_url="http://169.254.169.254/latest/"),
        world.product(902, image_url=f"http://127.0.0.1:{world.port}/missing.jpg"),
        {key: value for key, value in world.product(903).items() if key != "name"},
    ]


def test_every_product_arrives(ended: Run) -> None:
    check_everything_is_stored(ended.world, IDS)


def test_every_broken_message_is_dead_lettered(ended: Run) -> None:
    letters = {letter["reason"]: letter for letter in ended.world.dead_letters()}
    assert set(letters) == {
        "json_invalid",
        "price_invalid",
        "image_url_blocked_address",
        "http_404",
        "missing:name",
    }
    assert letters["json_invalid"]["body"] == '{"id": "half'
    names = {"reason", "stage", "detail", "message_id", "original_version", "first_sent"}
    names |= {"receive_count", "source_queue", "body"}
    for letter in letters.values():
        assert set(letter) == names
        assert all(letter.values())


def test_the_log_reads_as_the_readme_says(ended: Run, model: Mapping[str, str]) -> None:
    log = ended.worker.log

    assert "Using cpu" in log
    assert f"Loading OpenCLIP {model['OPENCLIP_MODEL']}" in log
    assert "Thread 10 started consuming from SQS..." in log
    assert "Thread 11" not in log
    assert re.search(r"Thread \d+ processed ID: p1\b", log)
    assert "Traceback" not in log


def test_the_log_can_be_json(world: World) -> None:
    orders = {"SQS_QUEUE_URL": "", "ORDERS_QUEUE_URL": world.queue_url}
    worker = world.start_worker(
        "--stream", "orders", "--until-empty", "--threads", "1", LOG_FORMAT="json", **orders
    )
    assert worker.wait() == 0, worker.log

    messages = [json.loads(line)["message"] for line in worker.log.splitlines()]
    assert "Thread 1 started consuming from SQS (orders)..." in messages


def test_a_stop_in_the_middle_loses_nothing(world: World) -> None:
    world.send(*(world.product(number) for number in range(COUNT)))
    worker = world.start_worker("--threads", "2", BATCH_SIZE="2")
    worker.wait_for_log("processed ID", count=3)
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(30) == 0, worker.log
    again = world.start_worker("--until-empty")
    assert again.wait() == 0, again.log
    check_everything_is_stored(world, IDS)
    assert world.dead_letters() == []


def test_a_kill_in_the_middle_loses_nothing(world: World) -> None:
    world.send(*(world.product(number) for number in range(COUNT)))
    worker = world.start_worker("--threads", "2", BATCH_SIZE="2")
    worker.wait_for_log("processed ID", count=3)
    worker.kill()

    again = world.start_worker("--until-empty")
    assert again.wait() == 0, again.log
    check_everything_is_stored(world, IDS)
    assert world.dead_letters() == []


def test_two_processes_share_the_work_on_stores_that_were_empty(world: World) -> None:
    world.send(*(world.product(number) for number in range(COUNT)))
    workers = [world.start_worker("--until-empty", "--threads", "3") for _ in range(2)]

    assert [worker.wait() for worker in workers] == [0, 0], workers[0].log + workers[1].log
    check_everything_is_stored(world, IDS)


def test_a_second_signal_ends_the_process_at_once(world: World) -> None:
    worker = world.start_worker("--threads", "1", SQS_WAIT_SECONDS="20")
    worker.wait_for_log("started consuming")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_log("Stopping")
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(3) == 1


def test_the_console_works_beside_a_running_worker(world: World) -> None:
    world.send(world.product(7, name="Áo thun nam"), world.product(8, name="Lamp"))
    worker = world.start_worker("--threads", "2")
    worker.wait_for_log("processed ID", count=2)

    by_keywords = world.search("--keywords", "ao thun")
    by_image = world.search("--image", str(world.images / "8.jpg"))
    history = world.run_console("history", "p7")
    worker.send_signal(signal.SIGTERM)

    assert "p7" in by_keywords
    assert by_image[0] == "p8"
    assert "1,007 VND" in history.stdout
    assert worker.wait(30) == 0


def test_servers_are_used_by_settings_alone(
    world: World, postgres_url: str, elasticsearch_url: str, milvus_server_url: str
) -> None:
    alias = f"products_{world.queue_url[-8:]}"
    servers = {
        "DATABASE_URL": postgres_url,
        "ELASTICSEARCH_URL": elasticsearch_url,
        "ELASTICSEARCH_INDEX": alias,
        "MILVUS_URI": milvus_server_url,
        "MILVUS_COLLECTION": alias,
    }
    world.send(*(world.product(number) for number in range(COUNT)))
    worker = world.start_worker("--until-empty", "--threads", "3", **servers)

    assert worker.wait() == 0, worker.log
    assert set(milvus_rows(milvus_server_url, alias)) == IDS
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT product_id FROM price_history"))
        assert {row[0] for row in rows} == IDS
    engine.dispose()
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=alias)
        hits = client.search(index=alias, size=100)["hits"]["hits"]
        assert {hit["_source"]["id"] for hit in hits} == IDS
        client.indices.delete(index=hits[0]["_index"])


def test_stores_of_another_ledger_are_refused(world: World) -> None:
    world.send(world.product(1))
    assert world.start_worker("--until-empty").wait() == 0
    (world.data_dir / "products.db").rename(world.data_dir / "old.db")
    worker = world.start_worker("--until-empty")

    assert worker.wait() == 78
    assert "DATABASE_URL" in worker.log.splitlines()[-1]


def run_alone(
    directory: Path, *arguments: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run the program with these settings alone."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "thread_runner.py"), *arguments],
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", **settings},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nothing_configured_is_one_line_and_exit_2(tmp_path: Path) -> None:
    ended = run_alone(tmp_path)

    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert "SQS_QUEUE_URL" in line
    assert "--demo" in line


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--catalog", "x"], ["--nonsense"]])
def test_wrong_usage_is_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    assert run_alone(tmp_path, *arguments).returncode == 2


def test_a_setting_that_cannot_work_is_exit_78(tmp_path: Path) -> None:
    ended = run_alone(tmp_path, SQS_QUEUE_URL="https://sqs.eu-west-1.amazonaws.com/1/a.fifo")

    assert ended.returncode == 78
    assert "SQS_QUEUE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_weights_are_exit_78_and_name_what_to_set(world: World) -> None:
    worker = world.start_worker(
        OPENCLIP_MODEL="", OPENCLIP_CONFIG="", OPENCLIP_PRETRAINED="", HF_HUB_OFFLINE="1"
    )

    assert worker.wait() == 78
    assert "OPENCLIP_PRETRAINED" in worker.log.splitlines()[-1]
    assert "Traceback" not in worker.log
