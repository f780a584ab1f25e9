"""The stage as a worker on a real RabbitMQ, over a restart."""

import json
from pathlib import Path
from typing import Any

import pika
import pytest

from product_consumer.queues.rabbitmq.url import AmqpUrl, read_url
from product_consumer.settings import Settings
from product_consumer.streams.alerts.targets import Webhook
from product_consumer.streams.anomaly.planted import Plan, PlantedRecord, Tally, planted_records
from product_consumer.streams.stages.components import StageOptions, run_stage
from product_consumer.streams.stages.names import StageName
from tests.support.hostile_server import HostileServer, redirect, reply
from tests.support.rabbitmq import RabbitClient

RECORDS = list(planted_records(Plan(seed=31, records=1200, share=0.03)))


@pytest.fixture
def source(rabbitmq: RabbitClient) -> AmqpUrl:
    return read_url(rabbitmq.server.url(rabbitmq.new_queue("records")), "--rabbitmq_server")


def run(
    rabbitmq: RabbitClient,
    options: StageOptions,
    directory: Path,
    records: list[PlantedRecord],
    first: int = 0,
) -> int:
    queue = options.source.queue
    with rabbitmq.channel() as channel:
        for place, record in enumerate(records, first):
            properties = pika.BasicProperties(message_id=str(place), delivery_mode=2)
            channel.basic_publish("", queue, json.dumps(record.values).encode(), properties)
    rabbitmq.wait_for(queue, len(records))
    settings = Settings.model_validate(
        {"data_dir": directory, "alerts_allowed_networks": "127.0.0.0/8"}
    )
    return run_stage(options, settings, threads=2, until_empty=True)


def options_for(rabbitmq: RabbitClient, source: AmqpUrl, alerts: AmqpUrl | Webhook) -> StageOptions:
    return StageOptions(
        StageName.ANOMALY, source, source.with_queue(rabbitmq.name("out")), alerts=alerts
    )


def results_of(rabbitmq: RabbitClient, options: StageOptions) -> dict[str, dict[str, Any]]:
    """The results by correlation id; each is there once."""
    assert options.out is not None
    results = [json.loads(got.body) for got in rabbitmq.take_all(options.out.queue)]
    by_id = {result["correlation_id"]: result for result in results}
    assert len(by_id) == len(results)
    return by_id


def test_anomalies_are_found_over_a_restart_and_told_in_a_queue(
    rabbitmq: RabbitClient, source: AmqpUrl, tmp_path: Path
) -> None:
    alerts = source.with_queue(rabbitmq.name("alerts"))
    options = options_for(rabbitmq, source, alerts)
    assert run(rabbitmq, options, tmp_path, RECORDS[:600]) == 0
    assert run(rabbitmq, options, tmp_path, RECORDS[600:], first=600) == 0

    results = results_of(rabbitmq, options)
    assert results.keys() == set(map(str, range(1200)))
    assert sorted(result["seen"] for result in results.values()) == list(range(1, 1201))
    tally = Tally()
    for place, result in results.items():
        if not result["warming_up"]:
            tally.add(RECORDS[int(place)].kind, result["is_anomaly"])
    assert min(tally.precision, tally.recall) >= 0.9
    told = {json.loads(got.body)["correlation_id"] for got in rabbitmq.take_all(alerts.queue)}
    assert told == {place for place, result in results.items() if result["is_anomaly"]}


def test_a_webhook_gets_the_anomalies(
    rabbitmq: RabbitClient, source: AmqpUrl, tmp_path: Path
) -> None:
    with HostileServer({"/hook": reply(204)}) as server:
        options = options_for(rabbitmq, source, Webhook(server.url("/hook")))
        assert run(rabbitmq, options, tmp_path, RECORDS[:600]) == 0
    anomalies = {
        place: result
        for place, result in results_of(rabbitmq, options).items()
        if result["is_anomaly"]
    }
    told = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    assert anomalies
    assert {alert["correlation_id"]: alert for alert in told} == anomalies


def test_a_webhook_that_leads_to_a_private_address_affects_no_record(
    rabbitmq: RabbitClient, source: AmqpUrl, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with HostileServer({"/hook": redirect("http://169.254.169.254/", 307)}) as server:
        options = options_for(rabbitmq, source, Webhook(server.url("/hook")))
        assert run(rabbitmq, options, tmp_path, RECORDS[:600]) == 0
    assert len(results_of(rabbitmq, options)) == 600
    line = "Alerts do not reach the webhook at 127.0.0.1: redirect_url_blocked_address"
    assert caplog.messages.count(line) == 1


def test_a_private_webhook_that_is_not_allowed_stops_the_start(
    rabbitmq: RabbitClient, source: AmqpUrl, tmp_path: Path
) -> None:
    options = options_for(rabbitmq, source, Webhook("http://10.0.0.1/hook"))
    assert run(rabbitmq, options, tmp_path, RECORDS[:1]) == 78
    assert rabbitmq.count(source.queue) == 1
