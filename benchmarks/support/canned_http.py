"""Canned responses of SQS, an image host and Elasticsearch, at almost no cost; nothing is kept.

    python -m benchmarks.support.canned_http sqs --image-url http://127.0.0.1:PORT
    python -m benchmarks.support.canned_http images [--image-bytes N]
    python -m benchmarks.support.canned_http elasticsearch

Prints the port it listens on (loopback) and serves until it is killed. Every receive is answered
with ten new products, every deletion confirmed, every document accepted. No two images are equal.
"""

import argparse
import asyncio
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

MESSAGES_PER_RECEIVE = 10
# The average of 800 x 800 pixel photographs saved with the usual quality.
IMAGE_BYTES = 142_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response; ``Content-Length`` is added when it is sent."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: str = ""
    """More header lines, each ended by CRLF."""


Respond = Callable[[Request], Response]


class Connection(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive and bodies of known length, as our clients need."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (request := self._take()) is not None:
            self._send(self._respond(request))

    def _take(self) -> Request | None:
        head, separator, _ = self._received.partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        start = len(head) + 4
        end = start + int(headers.get("content-length", 0))
        if len(self._received) < end:
            return None
        body = bytes(self._received[start:end])
        del self._received[:end]
        return Request(method, path, headers, body)

    def _send(self, response: Response) -> None:
        head = (
            f"HTTP/1.1 {response.status} OK\r\nContent-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n{response.headers}\r\n"
        )
        if self._transport is not None:
            self._transport.write(head.encode("latin-1") + response.body)


class Sqs:
    """The part of SQS's JSON protocol that a consumer uses."""

    def __init__(self, image_url: str) -> None:
        self._image_url = image_url
        self._numbers = count(1)
        self._run = uuid.uuid4().hex[:8]

    def respond(self, request: Request) -> Response:
        action = request.headers["x-amz-target"].rpartition(".")[2]
        arguments = json.loads(request.body)
        body = json.dumps(getattr(self, f"_{action}", self._nothing)(arguments)).encode()
        return Response(body, "application/x-amz-json-1.0")

    def _ReceiveMessage(self, arguments: dict[str, Any]) -> Any:
        messages = min(arguments.get("MaxNumberOfMessages", 1), MESSAGES_PER_RECEIVE)
        return {"Messages": [self._message(next(self._numbers)) for _ in range(messages)]}

    def _DeleteMessageBatch(self, arguments: dict[str, Any]) -> Any:
        return {"Successful": [{"Id": entry["Id"]} for entry in arguments["Entries"]], "Failed": []}

    _ChangeMessageVisibilityBatch = _DeleteMessageBatch

    def _GetQueueAttributes(self, arguments: dict[str, Any]) -> Any:
        return {"Attributes": {"ApproximateNumberOfMessages": "1000000"}}

    def _nothing(self, arguments: dict[str, Any]) -> Any:
        return {}

    def _message(self, number: int) -> Any:
        body = self._body(number)
        milliseconds = str(int(datetime.now(UTC).timestamp() * 1000))
        return {
            "MessageId": str(uuid.uuid4()),
            # As long as AWS's own.
            "ReceiptHandle": f"AQEB{number:0>196}",
            "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "Body": body,
            "Attributes": {"SentTimestamp": milliseconds, "ApproximateReceiveCount": "1"},
        }

    def _body(self, number: int) -> str:
        product = {
            "id": f"{self._run}-{number}",
            "name": f"Áo thun nam cổ tròn vải cotton co giãn số {number}",
            "price": f"{1000 + number % 900}.000₫",
            "image_url": f"{self._image_url}/{self._run}-{number}.jpg",
            "store_url": f"https://shop.example/p/{number}",
            "rating": "4.8",
            "reviews_count": str(number % 5000),
            "timestamp": f"{datetime.now(UTC):%d%m%Y_%H%M%S}",
        }
        return json.dumps(product, ensure_ascii=False)


class Images:
    """An image host with as many bytes as a photograph for every path, no two the same."""

    def __init__(self, image_bytes: int) -> None:
        self._common = os.urandom(image_bytes)

    def respond(self, request: Request) -> Response:
        headers = f'ETag: "{hash(request.path):x}"\r\nLast-Modified: {LAST_MODIFIED}\r\n'
        return Response(self._common + request.path.encode(), "image/jpeg", headers=headers)


LAST_MODIFIED = "Sat, 21 Nov 2026 14:30:05 GMT"


class Elasticsearch:
    """An Elasticsearch that remembers created indices and accepts every document."""

    def __init__(self) -> None:
        self._indices: dict[str, Any] = {}

    def respond(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path.endswith("/_bulk"):
            return self._json(self._bulk(path.split("/")[1], request.body))
        if path.startswith("/_"):
            return self._json({"status": "green"})
        if request.method == "PUT":
            self._indices[path[1:]] = json.loads(request.body)
        alias = path[1:].partition("_v1")[0]
        indices = {name: body for name, body in self._indices.items() if name == f"{alias}_v1"}
        return self._json(indices, 200 if indices else 404)

    @staticmethod
    def _bulk(alias: str, body: bytes) -> Any:
        lines = body.count(b'{"index":')
        item = {
            "_index": f"{alias}_v1",
            "_id": "0123456789-12345",
            "_version": 1,
            "result": "created",
            "_shards": {"total": 2, "successful": 1, "failed": 0},
            "_seq_no": 123_456,
            "_primary_term": 1,
            "status": 201,
        }
        return {"took": 3, "errors": False, "items": [{"index": item}] * lines}

    @staticmethod
    def _json(content: Any, status: int = 200) -> Response:
        kind = "application/vnd.elasticsearch+json;compatible-with=9"
        product = "X-Elastic-Product: Elasticsearch\r\n"
        return Response(json.dumps(content).encode(), kind, status, product)


async def serve(respond: Respond) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(respond), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve canned responses.")
    parser.add_argument("kind", choices=("sqs", "images", "elasticsearch"))
    parser.add_argument("--image-url", default="http://127.0.0.1")
    parser.add_argument("--image-bytes", type=int, default=IMAGE_BYTES)
    options = parser.parse_args()
    kinds: dict[str, Callable[[], Respond]] = {
        "sqs": lambda: Sqs(options.image_url).respond,
        "images": lambda: Images(options.image_bytes).respond,
        "elasticsearch": lambda: Elasticsearch().respond,
    }
    asyncio.run(serve(kinds[options.kind]()))


if __name__ == "__main__":
    main()
