"""Hostile image servers against a whole worker: time, memory and addresses stay bounded."""

import io
import itertools
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.harness.forked_workers import ForkServer
from tests.faults.harness.workload import Sent, product
from tests.faults.harness.world import FaultWorld
from tests.support import factories
from tests.support.hostile_server import (
    Behaviour,
    HostileServer,
    redirect,
    repeat,
    reply,
    reset,
    send,
    silence,
)

pytestmark = pytest.mark.timeout(170, func_only=True)

MAX_RESIDENT_KB = 600_000
MAX_BYTES = 1_000_000
SETTINGS = {
    "IMAGE_TIMEOUT_SECONDS": "1",
    "IMAGE_MAX_BYTES": str(MAX_BYTES),
    "IMAGE_ALLOWED_NETWORKS": "127.0.0.1/32",
    "MAX_ATTEMPTS": "2",
    "BATCH_SIZE": "10",
}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
NOISE = np.random.default_rng(17).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(NOISE).convert(mode)


def bomb(side: int) -> bytes:
    """A PNG whose header claims side x side pixels of one bit."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side // 8 + 1)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def bad_responses() -> list[tuple[Behaviour, str]]:
    """Bad responses, and the reason that each message must be rejected with in the end."""
    jpeg = encoded(noise(), "JPEG")
    return [
        (repeat(CHUNKED, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"), "image_too_large"),
        (send(OK + b"Content-Length: 99000000000\r\n\r\n"), "image_too_large"),
        (repeat(CHUNKED, b"1\r\nx\r\n", 0.05), "retries_exhausted:image_timeout"),
        (repeat(OK, b"X-A: b\r\n", 0.05), "retries_exhausted:image_timeout"),
        (silence(), "retries_exhausted:image_timeout"),
        (send(OK + b"Content-Length: 30\r\n\r\nabc"), "retries_exhausted:image_incomplete"),
        (reset(), "retries_exhausted:image_connection_lost"),
        (send(b"SSH-2.0-OpenSSH_9.9\r\n"), "retries_exhausted:image_not_http"),
        (reply(200, b"x" * 100, content_encoding="gzip"), "content_encoding"),
        (reply(500), "retries_exhausted:http_500"),
        (reply(503, retry_after="1"), "retries_exhausted:http_503"),
        (reply(429), "retries_exhausted:http_429"),
        (reply(404), "http_404"),
        (reply(410), "http_410"),
        (reply(403), "http_403"),
        (reply(200, b"<!doctype html><h1>Not found"), "not_an_image"),
        (reply(204), "image_empty"),
        (reply(200), "image_empty"),
        (
            send(OK + (b"X-A: " + b"b" * 65_000 + b"\r\n") * 256),
            "retries_exhausted:image_headers",
        ),
        (reply(200, jpeg[: len(jpeg) // 2]), "image_truncated"),
        (reply(200, flipped(encoded(noise(), "PNG"))), "image_corrupt"),
        (reply(200, encoded(Image.new("RGB", (1, 1)), "PNG")), "image_too_small"),
        (reply(200, encoded(Image.new("RGB", (8, 5000)), "PNG")), "image_aspect"),
        (reply(200, bomb(12_000)), "image_pixels"),
        (reply(200, bomb(30_000)), "image_pixels"),
        (reply(200, b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not_an_image"),
        (reply(200, b"%PDF-1.7\n" + bytes(100)), "not_an_image"),
        (reply(200, b"PK\3\4" + bytes(100)), "not_an_image"),
        (reply(200, encoded(noise(), "EPS")), "image_format"),
        (reply(200, encoded(noise(), "TIFF")), "image_format"),
        (reply(200, encoded(noise(), "ICO")), "image_format"),
        (redirect("file:///etc/passwd"), "image_url_scheme"),
        (redirect("http://169.254.169.254/latest/"), "image_url_blocked_address"),
        (redirect("http://127.0.0.1:6379/"), "image_url_port"),
    ]


def good_responses() -> list[bytes]:
    """Images that are unusual, and harmless."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    grey = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
    return [
        encoded(noise("CMYK"), "JPEG"),
        encoded(grey, "PNG"),
        encoded(noise("RGBA"), "PNG"),
        encoded(noise("LA"), "PNG"),
        encoded(noise("P"), "PNG", transparency=3),
        encoded(noise("1"), "PNG"),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encoded(noise(), "JPEG", exif=b"Exif\0\0garbage"),
        encoded(noise(), "JPEG", icc_profile=bytes(1000)),
        encoded(noise(), "AVIF"),
        encoded(noise(), "JPEG") + b"PK\3\4" + bytes(99),
        encoded(Image.new("RGB", (20, 20)), "PNG"),
        encoded(Image.new("RGB", (4000, 3000), "teal"), "JPEG"),
        factories.png_bytes((64, 48)),
    ]


def forbidden_urls(port: int) -> dict[str, str]:
    """URLs of a forbidden server at 127.0.0.2, and the reason that each must be rejected with."""
    blocked = "image_url_blocked_address"
    return {
        f"http://127.0.0.2:{port}/": blocked,
        f"http://2130706434:{port}/": blocked,
        f"http://0x7f000002:{port}/": blocked,
        f"http://127.2:{port}/": blocked,
        f"http://[::ffff:127.0.0.2]:{port}/": blocked,
        f"http://①②⑦.⓪.⓪.②:{port}/": blocked,
        f"http://good@127.0.0.2:{port}/": "image_url_credentials",
        f"http://127.0.0.1:{port}\\@127.0.0.2:{port}/": "image_url_invalid",
    }


class HostileMessages:
    """Messages for every bad response, every unusual image and every forbidden address."""

    def __init__(self, server: HostileServer, forbidden: HostileServer) -> None:
        self._server = server
        self._ids = (f"p{number}" for number in itertools.count())
        self._image_numbers = itertools.count(100)
        forbidden_redirect = (redirect(forbidden.url("/")), "image_url_blocked_address")
        self.bad = [*bad_responses(), forbidden_redirect]
        self.urls = forbidden_urls(forbidden.port)
        self.good = good_responses()

    def messages(self) -> list[Sent]:
        sent = [replace(self._message(response), poison=reason) for response, reason in self.bad]
        sent += [self._message(reply(200, data, content_type="text/plain")) for data in self.good]
        for url, reason in self.urls.items():
            body = json.loads(product(next(self._ids), 1, "").body) | {"image_url": url}
            sent.append(Sent(json.dumps(body), poison=reason))
        return sent

    def _message(self, response: Behaviour) -> Sent:
        number = next(self._image_numbers)
        self._server.routes[f"/{number}.png"] = response
        return product(next(self._ids), 1, self._server.url(""), image_number=number)


def check_hostile_servers(
    world: FaultWorld, fork_server: ForkServer, times: int, threads: int
) -> None:
    with HostileServer() as server, HostileServer(host="127.0.0.2", port=server.port) as forbidden:
        hostile = HostileMessages(server, forbidden)
        for _ in range(times):
            world.send_all(hostile.messages())
        settings = SETTINGS | {"IMAGE_ALLOWED_PORTS": f"80,443,{server.port}"}
        worker = fork_server.start(world, "retry_after:0.5", threads=threads, settings=settings)
        world.wait_until_drained(120)
        peak = peak_resident_kb(worker.process.pid)
        world.stop(worker)
        contacts = forbidden.connections

    assert contacts == 0
    assert peak < MAX_RESIDENT_KB
    assert world.verdict() == []


def test_hostile_image_servers_cost_their_own_messages_only(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    check_hostile_servers(world, fork_server, times=1, threads=8)


@pytest.mark.soak
def test_five_hundred_hostile_downloads_stay_within_bounds(
    world: FaultWorld, fork_server: ForkServer
) -> None:
    check_hostile_servers(world, fork_server, times=9, threads=16)


def peak_resident_kb(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
