"""A fake OpenAI-compatible endpoint: real HTTP on loopback, made-up replies.

It is no language model. It records the requests and returns the replies that the test sets, so that
tests see what leaves the process and what a bad reply does.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class FakeOpenAi:
    """A server of ``POST /v1/chat/completions``; a context manager.

    ``content``: the text of the model's message, or a function of the request's body.
    """

    def __init__(self, content: str | Callable[[dict[str, Any]], str] = '{"flags": []}') -> None:
        self.content = content
        self.status = 200
        self.raw_body: bytes | None = None
        """Sent in place of a completion."""
        self.chunk_pause_seconds = 0.0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def everything_sent(self) -> str:
        """All that ever arrived: bodies and headers."""
        return json.dumps([self.requests, self.headers], ensure_ascii=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, request: dict[str, Any]) -> bytes:
        if self.raw_body is not None:
            return self.raw_body
        content = self.content(request) if callable(self.content) else self.content
        choice = {"index": 0, "message": {"role": "assistant", "content": content}}
        return json.dumps({"id": "made-up", "choices": [choice]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                fake.requests.append(request)
                fake.headers.append(dict(self.headers))
                reply = fake._reply(request)
                self.send_response(fake.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                if fake.status in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self._write_slowly(reply)

            def _write_slowly(self, reply: bytes) -> None:
                size = 1 if fake.chunk_pause_seconds else len(reply) or 1
                try:
                    for start in range(0, len(reply), size):
                        self.wfile.write(reply[start : start + size])
                        self.wfile.flush()
                        if fake.released.wait(fake.chunk_pause_seconds):
                            return
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler
