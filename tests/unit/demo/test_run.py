"""The demo around a worker that does nothing: servers, queues, and what is said at the end."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from product_consumer.demo.run import Demo
from product_consumer.settings import Settings
from product_consumer.stores.milvus.embedded import EmbeddedMilvus
from tests.support import factories

CATALOGUE = '[{"id": "a", "name": "A thing", "price": "5", "image": "a.jpg"}]'


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "products.json").write_text(CATALOGUE)
    (shop / "a.jpg").write_bytes(factories.jpeg_bytes((60, 60)))
    with Demo(Settings(data_dir=tmp_path / "data"), shop) as demo:
        yield demo


def test_the_worker_finds_every_message_in_the_queues_that_its_settings_name(demo: Demo) -> None:
    waiting: list[int] = []

    def work(settings: Settings) -> int:
        assert demo.published.wait(20)
        client = boto3.client(
            "sqs",
            endpoint_url=settings.aws_endpoint_url,
            region_name=settings.aws_region,
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
        )
        for url in (settings.queue_url, settings.orders_queue_url):
            reply = client.get_queue_attributes(QueueUrl=str(url), AttributeNames=["All"])
            waiting.append(int(reply["Attributes"]["ApproximateNumberOfMessages"]))
        client.close()
        return 70

    assert demo.run(work) == 70
    assert waiting == [3, 40]


def test_a_worker_that_was_stopped_early_leaves_one_line_and_no_searches(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(lambda _settings: 0) == 0

    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Stopped early, with 0 of 3 product messages and 0 of 40 orders handled"


def test_a_worker_that_failed_has_no_summary(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(lambda _settings: 70) == 70

    assert capsys.readouterr().out == ""


def test_the_embedded_database_stays_open_when_the_worker_has_closed_it(demo: Demo) -> None:
    def work(settings: Settings) -> int:
        milvus = EmbeddedMilvus(Path(settings.milvus_address))
        address = milvus.start()
        milvus.close()
        assert milvus.address() == address
        return 70

    assert demo.run(work) == 70


def test_what_is_sent_ends_with_the_worker(demo: Demo) -> None:
    with pytest.raises(RuntimeError, match="the worker"):
        demo.run(lambda _settings: _fail())

    assert demo.published.is_set()


def _fail() -> int:
    raise RuntimeError("the worker cannot start")
