"""The real program, watched by Prometheus and systemd."""

import re
import signal
import socket
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.world import World, wait_until

pytestmark = pytest.mark.timeout(170)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[str, float]:
    """Every sample of a scrape by its whole name, labels included."""
    return {
        name: float(value)
        for name, value in re.findall(r"^(product_.+) (\S+)$", text, flags=re.MULTILINE)
    }


def test_a_worker_reports_its_state_while_it_works(world: World, tmp_path: Path) -> None:
    address, port = tmp_path / "notify", free_port()
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(manager):
        manager.bind(str(address))
        manager.settimeout(60)
        world.send(world.product(1), world.product(2), '{"id": "half')
        worker = world.start_worker(METRICS_PORT=str(port), NOTIFY_SOCKET=str(address))

        assert "READY=1" in manager.recv(4096).decode().splitlines()
        wait_until(lambda: "product_dead_letters_total{" in get(port, "/metrics"), 60)
        worker.wait_for_log("processed ID", count=2)
        scraped = samples(get(port, "/metrics"))
        assert scraped['product_messages_settled_total{outcome="stored",reason=""}'] == 2
        assert scraped['product_dead_letters_total{reason="json_invalid"}'] == 1
        assert scraped["product_forward_pass_items_sum"] == 2
        assert scraped["product_message_age_seconds_count"] == 2
        assert scraped["product_receive_batch_messages_sum"] == 3
        assert {name for name in scraped if name.startswith("product_breaker_open")} == {
            'product_breaker_open{part="SQS"}',
            'product_breaker_open{part="SQS dead-letter queue"}',
            'product_breaker_open{part="ledger"}',
            'product_breaker_open{part="milvus"}',
            'product_breaker_open{part="sqlite_search"}',
        }
        assert "product_marks_waiting" in scraped
        assert '"consuming"' in get(port, "/readyz")
        assert '"ok"' in get(port, "/healthz")

        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, worker.log
        assert "STOPPING=1" in manager.recv(4096).decode().splitlines()
