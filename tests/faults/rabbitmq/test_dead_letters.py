"""Dead letters that are looked at many times, and those that the server made itself."""

import pytest
from typer.testing import CliRunner, Result

from product_consumer.cli import configuration, dead_letters
from tests.faults.rabbitmq.bench import Bench, receive, reject
from tests.support.factories import body_text

pytestmark = pytest.mark.timeout(120, func_only=True)

# Version 4 drops a message of a queue without a limit of its own at its 21st look.
LOOKS = 25


@pytest.fixture(autouse=True)
def configured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_URL", bench.server.url(bench.name))
    monkeypatch.setenv("DATA_DIR", str(bench.data_dir))
    monkeypatch.setattr(configuration, "configure_logging", lambda *_: None)


def dlq(*arguments: str) -> Result:
    result = CliRunner().invoke(dead_letters.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def test_any_number_of_looks_takes_nothing_away(bench: Bench) -> None:
    queue = bench.open()
    bench.send(body_text(id="p1"), body_text(id="p2"))
    for message in receive(queue, 2):
        reject(queue, message)
    queue.close()
    for _ in range(LOOKS):
        assert "2 messages in" in dlq("list").stdout
    bench.client.wait_for(bench.dead, 2)

    dlq("redrive", "--all", "--yes")
    assert (bench.client.count(bench.dead), bench.client.count(bench.name)) == (0, 2)


def test_a_message_that_the_server_moved_has_its_reason(bench: Bench) -> None:
    bench.client.delete(bench.name)
    bench.set_up(max_receive_count=1)
    bench.send(body_text(id="p1"))
    for _ in range(2):
        dying = bench.open()
        receive(dying)
        dying.close()
    bench.client.wait_for(bench.dead, 1)

    assert "delivery_limit" in dlq("list").stdout
