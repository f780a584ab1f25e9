"""A message that a process died on is recognised, and rejected only when it died on it alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_consumer.database.connection import Database
from product_consumer.errors import RejectMessage
from product_consumer.ledger.in_progress import MAX_CRASHES_ALONE, CrashSuspect, InProgress
from product_consumer.ledger.tables import suspects as suspects_table


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgres_url"))
    else:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    opened = Database(url, timeout_seconds=10, connections=2)
    with opened.setting_up() as connection:
        suspects_table.create(connection)
    yield opened
    opened.close()


@pytest.fixture
def in_progress(database: Database) -> InProgress:
    return InProgress(database)


def test_a_message_that_is_started_for_the_first_time_is_no_suspect(
    in_progress: InProgress,
) -> None:
    assert in_progress.start(["m1", "m2"]) == {}


def test_nothing_to_start_or_finish_is_nothing_to_do(in_progress: InProgress) -> None:
    assert in_progress.start([]) == {}
    in_progress.finish([])


def test_what_was_never_forgotten_is_a_suspect_and_its_neighbours_are_not(
    in_progress: InProgress,
) -> None:
    in_progress.start(["m1", "m2"])
    in_progress.finish(["m2"])

    assert in_progress.start(["m1", "m2", "m3"]) == {"m1": CrashSuspect("m1", crashes_alone=0)}


def test_a_message_that_occurs_twice_in_a_batch_is_started_once(in_progress: InProgress) -> None:
    assert in_progress.start(["m1", "m1"]) == {}
    assert list(in_progress.start(["m1", "m1"])) == ["m1"]


def test_only_a_crash_alone_counts(in_progress: InProgress) -> None:
    in_progress.start(["m1", "m2"])
    for _ in range(3):
        crashes = {
            key: found.crashes_alone for key, found in in_progress.start(["m1", "m2"]).items()
        }
        assert crashes == {"m1": 0, "m2": 0}

    in_progress.start_alone(CrashSuspect("m1", crashes_alone=0))
    crashes = {key: found.crashes_alone for key, found in in_progress.start(["m1", "m2"]).items()}
    assert crashes == {"m1": 1, "m2": 0}


def test_a_message_that_two_processes_crashed_on_alone_has_proved_itself(
    in_progress: InProgress,
) -> None:
    in_progress.start(["m1"])
    for _ in range(MAX_CRASHES_ALONE):
        [suspect] = in_progress.start(["m1"]).values()
        suspect.check()
        in_progress.start_alone(suspect)

    [suspect] = in_progress.start(["m1"]).values()
    with pytest.raises(RejectMessage, match="crash_suspect: 2 processes died"):
        suspect.check()


def test_a_message_that_is_finished_has_a_clean_slate(in_progress: InProgress) -> None:
    in_progress.start(["m1"])
    in_progress.start_alone(CrashSuspect("m1", crashes_alone=1))
    in_progress.finish(["m1"])

    assert in_progress.start(["m1"]) == {}
    assert in_progress.start(["m1"])["m1"].crashes_alone == 0


def test_what_one_process_started_another_finds(database: Database) -> None:
    InProgress(database).start(["m1"])

    assert list(InProgress(database).start(["m1"])) == ["m1"]


@pytest.mark.parametrize("message_id", ["it's", '"; DROP TABLE suspects; --', "{a,b}", "₫" * 200])
def test_a_hostile_id_is_data(in_progress: InProgress, message_id: str) -> None:
    in_progress.start([message_id])

    assert list(in_progress.start([message_id, "other"])) == [message_id]
    in_progress.finish([message_id])
    assert in_progress.start([message_id]) == {}


NOTED = st.sets(st.integers(0, 30).map(str))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.tuples(NOTED, NOTED), max_size=6))
def test_suspects_are_exactly_those_started_and_not_finished_since(
    in_progress: InProgress, batches: list[tuple[set[str], set[str]]]
) -> None:
    in_progress.finish(map(str, range(31)))
    left_behind: set[str] = set()
    for started, finished in batches:
        assert in_progress.start(started).keys() == started & left_behind
        in_progress.finish(finished)
        left_behind = (left_behind | started) - finished
