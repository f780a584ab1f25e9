"""The three pages, asked for over HTTP."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.outcomes import Ignored
from product_consumer.pipeline.context import new_context
from product_consumer.runtime.health_server import serving
from product_consumer.runtime.signals import Shutdown
from product_consumer.settings import Settings


class Served:
    """A worker's metrics and stop, and the pages about them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = Shutdown()
        self.context = new_context(self.stop.stopping)
        self.metrics = self.context.metrics
        self.settings = Settings(metrics_port=port)

    def get(self, path: str, **headers: str) -> tuple[int, str, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read()

    def get_json(self, path: str) -> tuple[int, Any]:
        status, content_type, body = self.get(path)
        assert content_type == "application/json"
        return status, json.loads(body)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served() -> Iterator[Served]:
    worker = Served(free_port())
    with serving(worker.settings, worker.context, worker.stop):
        yield worker


def test_metrics_come_as_prometheus_text(served: Served) -> None:
    served.metrics.count_outcome(Ignored("s3_test_event"))
    status, content_type, body = served.get("/metrics")

    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b'settled_total{outcome="ignored",reason="s3_test_event"} 1.0' in body


def test_metrics_come_as_openmetrics_where_asked_for(served: Served) -> None:
    status, content_type, body = served.get("/metrics", Accept="application/openmetrics-text")

    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_worker_that_starts_is_alive_and_not_ready(served: Served) -> None:
    assert served.get_json("/healthz") == (200, {"status": "ok"})
    assert served.get_json("/readyz") == (503, {"status": "starting", "down": []})


def test_a_worker_that_consumes_is_ready(served: Served) -> None:
    served.stop.consuming = True

    assert served.get_json("/readyz") == (200, {"status": "consuming", "down": []})


def test_a_dependency_that_is_down_is_named_and_no_reason_to_restart(served: Served) -> None:
    served.stop.consuming = True
    served.metrics.watch_breakers(lambda: {"milvus": True, "ledger": False})

    assert served.get_json("/readyz") == (503, {"status": "waiting", "down": ["milvus"]})
    assert served.get_json("/healthz")[0] == 200


def test_a_worker_that_stops_is_not_ready(served: Served) -> None:
    served.stop.consuming = True
    served.stop.stopping.set()

    assert served.get_json("/readyz") == (503, {"status": "stopping", "down": []})


def test_a_hanging_thread_is_named(served: Served) -> None:
    served.context.stages.timeouts = {"embed": -1.0}
    served.context.stages.enter("embed")
    status, answer = served.get_json("/healthz")

    assert status == 503
    assert "MainThread has been at embed" in answer["threads"][0]


def test_a_query_is_ignored(served: Served) -> None:
    assert served.get("/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/%6detrics"])
def test_anything_else_is_404(served: Served, path: str) -> None:
    assert served.get(path)[0] == 404


def test_only_reading_is_allowed(served: Served) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/healthz", data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as error:
        assert error.code == 501


def test_a_head_has_no_body(served: Served) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/healthz", method="HEAD")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
        assert answer.read() == b""


def test_a_client_that_says_nothing_does_not_hold_up_others_or_the_end() -> None:
    worker = Served(free_port())
    with serving(worker.settings, worker.context, worker.stop):
        silent = socket.create_connection(("127.0.0.1", worker.port))
        status, _ = worker.get_json("/healthz")
    silent.close()

    assert status == 200


def test_nothing_listens_without_a_port() -> None:
    with serving(Settings(), new_context(), Shutdown()) as port:
        assert port is None


def test_a_port_that_is_taken_is_refused_by_name(served: Served) -> None:
    with (
        pytest.raises(ConfigurationError, match=f"METRICS_PORT: .*{served.port}"),
        serving(served.settings, new_context(), Shutdown()),
    ):
        pass
