"""Many images at once: order, connections, threads."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from product_consumer.errors import ImageUnavailable, ProductConsumerError
from tests.support.hostile_server import (
    HostileServer,
    redirect,
    reply,
    reset,
    send,
    silence,
)
from tests.support.image_fetching import (
    IMAGE_BYTES,
    MAX_BYTES,
    assert_rejected,
    assert_retried,
    bodies,
    fetch,
    make_fetcher,
)


def test_the_body_of_an_image_arrives_whole(server: HostileServer) -> None:
    body = os.urandom(MAX_BYTES)
    server.routes["/big"] = reply(200, body)

    assert fetch(server, "/big") == body


def test_results_come_in_the_order_of_the_urls(server: HostileServer) -> None:
    server.routes["/gone"] = reply(404)
    urls = [server.url("/gone"), server.url("/ok"), "file:///etc/passwd"]

    gone, ok, refused = bodies(make_fetcher(server), urls)

    assert_retried(gone, "http_404", attempts=3, final="http_404")
    assert ok == IMAGE_BYTES
    assert_rejected(refused, "image_url_scheme")


def test_no_urls_give_no_results(server: HostileServer) -> None:
    assert bodies(make_fetcher(server), []) == []


def test_a_url_that_occurs_twice_is_fetched_once(server: HostileServer) -> None:
    results = bodies(make_fetcher(server), [server.url("/ok")] * 3)

    assert results == [IMAGE_BYTES] * 3
    assert len(server.requests) == 1


def test_downloads_of_one_batch_overlap(server: HostileServer) -> None:
    barrier = threading.Barrier(4, timeout=5)

    def wait_for_the_others(connection: Any, stopped: threading.Event) -> bool:
        barrier.wait()
        return reply(200, IMAGE_BYTES)(connection, stopped)

    server.routes |= {f"/{number}": wait_for_the_others for number in range(4)}

    results = bodies(make_fetcher(server), [server.url(f"/{number}") for number in range(4)])

    assert results == [IMAGE_BYTES] * 4


def test_a_connection_is_kept_between_calls(server: HostileServer) -> None:
    fetcher = make_fetcher(server)

    for _ in range(5):
        assert bodies(fetcher, [server.url("/ok")]) == [IMAGE_BYTES]

    assert server.connections == 1
    fetcher.close()


def test_many_threads_share_one_fetcher(server: HostileServer) -> None:
    fetcher = make_fetcher(server)
    results: list[Sequence[object]] = []

    def work() -> None:
        for _ in range(3):
            results.append(bodies(fetcher, [server.url("/ok"), server.url("/missing")]))

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    fetcher.close()

    assert [first for first, _ in results] == [IMAGE_BYTES] * 30
    assert all(isinstance(second, ImageUnavailable) for _, second in results)


def test_file_descriptors_are_given_back(server: HostileServer) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    server.routes |= {"/reset": reset(), "/loop": redirect("/loop"), "/short": send(b"HTTP/1.1 ")}
    urls = [server.url(path) for path in ("/ok", "/reset", "/loop", "/short", "/missing")]
    fetcher = make_fetcher(server)
    bodies(fetcher, urls)
    before = open_descriptors()

    for _ in range(40):
        bodies(fetcher, [*urls, "http://127.0.0.9/"])

    # The server's side of up to 16 idle connections lives in this process too.
    assert open_descriptors() <= before + 2 * 16
    fetcher.close()


def test_close_ends_running_downloads(server: HostileServer) -> None:
    asked = threading.Event()

    def stall(connection: Any, stopped: threading.Event) -> bool:
        asked.set()
        return silence()(connection, stopped)

    server.routes["/slow"] = stall
    fetcher = make_fetcher(server, timeout_seconds=50.0)
    results: list[bytes | ProductConsumerError] = []
    thread = threading.Thread(target=lambda: results.extend(bodies(fetcher, [server.url("/slow")])))
    thread.start()
    assert asked.wait(10)

    fetcher.close()
    thread.join(timeout=10)

    assert_retried(results[0], "fetcher_closed")
    assert_retried(bodies(fetcher, [server.url("/ok")])[0], "fetcher_closed")
