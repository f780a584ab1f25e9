from itertools import islice

from product_consumer.streams.anomaly.planted import KINDS, Plan, Tally, planted_records


def test_a_plan_gives_the_same_records_again() -> None:
    plan = Plan(seed=5, records=200)
    assert list(planted_records(plan)) == list(planted_records(plan))


def test_another_seed_gives_other_records() -> None:
    first = next(planted_records(Plan(seed=5, records=200)))
    assert first != next(planted_records(Plan(seed=6, records=200)))


def test_every_kind_is_planted_in_about_the_share_of_records() -> None:
    records = list(planted_records(Plan(seed=1, records=2000, share=0.05)))
    kinds = [record.kind for record in records if record.kind]
    assert set(kinds) == set(KINDS)
    assert 60 <= len(kinds) <= 140
    assert all((record.feature in record.values) == bool(record.kind) for record in records)


def test_the_first_records_can_be_without_anomalies() -> None:
    records = planted_records(Plan(seed=1, records=900, share=0.5, quiet=300))
    assert all(record.kind is None for record in islice(records, 300))
    assert any(record.kind for record in records)


def test_a_tally_tells_precision_and_recall() -> None:
    tally = Tally()
    for kind, is_anomaly in (("spike", True), ("mild", False), (None, True), (None, False)):
        tally.add(kind, is_anomaly)
    assert (tally.precision, tally.recall) == (0.5, 0.5)
    assert (tally.recall_of("spike"), tally.recall_of("mild")) == (1.0, 0.0)


def test_a_tally_of_nothing_is_whole() -> None:
    assert (Tally().precision, Tally().recall, Tally().recall_of("spike")) == (1.0, 1.0, 1.0)
