"""A message that a process died on is recognised, and rejected only when it died on it alone."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from product_consumer.database.connection import Database
from product_consumer.errors import RejectMessage
from product_consumer.ledger.in_progress import (
    KEPT_FOR,
    MAX_CRASHES_ALONE,
    CrashSuspect,
    InProgress,
)
from product_consumer.ledger.process_names import name_of
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
    return next_process(database)


def next_process(database: Database) -> InProgress:
    """A process on a machine that cannot be seen: for all others it has ended."""
    return InProgress(database, uuid.uuid4().hex)


def test_a_message_that_is_started_for_the_first_time_is_no_suspect(
    in_progress: InProgress,
) -> None:
    assert in_progress.start(["m1", "m2"]) == {}


def test_nothing_to_start_or_finish_is_nothing_to_do(in_progress: InProgress) -> None:
    assert in_progress.start([]) == {}
    in_progress.finish([])


def test_what_an_ended_process_left_is_a_suspect_and_its_neighbours_are_not(
    in_progress: InProgress, database: Database
) -> None:
    in_progress.start(["m1", "m2"])
    in_progress.finish(["m2"])

    suspects = next_process(database).start(["m1", "m2", "m3"])
    assert suspects == {"m1": CrashSuspect("m1", crashes_alone=0)}


def test_what_a_process_has_in_work_itself_is_no_suspect(in_progress: InProgress) -> None:
    in_progress.start(["m1"])

    assert in_progress.start(["m1", "m1", "m2"]) == {}


def test_only_a_crash_alone_counts(database: Database) -> None:
    next_process(database).start(["m1", "m2"])
    for _ in range(3):
        assert crashes_alone(next_process(database), "m1", "m2") == {"m1": 0, "m2": 0}

    next_process(database).start_alone(CrashSuspect("m1", crashes_alone=0))
    assert crashes_alone(next_process(database), "m1", "m2") == {"m1": 1, "m2": 0}


def crashes_alone(process: InProgress, *ids: str) -> dict[str, int]:
    return {key: suspect.crashes_alone for key, suspect in process.start(ids).items()}


def test_a_suspect_that_is_in_work_stays_one_and_has_no_crash_more(
    in_progress: InProgress, database: Database
) -> None:
    in_progress.start_alone(CrashSuspect("m1", crashes_alone=1))

    assert crashes_alone(in_progress, "m1") == {"m1": 1}
    assert crashes_alone(next_process(database), "m1") == {"m1": 2}


def test_a_message_that_two_processes_crashed_on_alone_has_proved_itself(
    database: Database,
) -> None:
    next_process(database).start(["m1"])
    for _ in range(MAX_CRASHES_ALONE):
        process = next_process(database)
        [suspect] = process.start(["m1"]).values()
        suspect.check()
        process.start_alone(suspect)

    [suspect] = next_process(database).start(["m1"]).values()
    with pytest.raises(RejectMessage, match="crash_suspect: 2 processes died"):
        suspect.check()


def test_a_message_that_is_finished_has_a_clean_slate(
    in_progress: InProgress, database: Database
) -> None:
    in_progress.start(["m1"])
    in_progress.start_alone(CrashSuspect("m1", crashes_alone=1))
    in_progress.finish(["m1"])

    assert in_progress.start(["m1"]) == {}
    assert crashes_alone(next_process(database), "m1") == {"m1": 0}


def test_a_process_that_leaves_makes_nobody_a_suspect(
    in_progress: InProgress, database: Database
) -> None:
    next_process(database).start(["m1"])
    in_progress.start(["m2"])
    in_progress.leave()

    assert list(next_process(database).start(["m1", "m2"])) == ["m1"]


SLEEPER = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_a_process_that_is_killed_leaves_suspects_and_one_that_is_slow_leaves_none(
    database: Database,
) -> None:
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        name = name_of(child.pid)
        InProgress(database, name).start(["slow", "killed"])
        assert InProgress(database).start(["slow"]) == {}
        child.kill()

    assert list(InProgress(database).start(["killed"])) == ["killed"]
    # Meanwhile this process has it in work, too.
    assert InProgress(database).start(["slow"]) == {}


def test_records_of_messages_that_never_came_again_are_removed_in_the_end(
    in_progress: InProgress, database: Database
) -> None:
    in_progress.start(["old", "new"])
    with database.writing() as connection:
        noted_at = datetime.now(UTC) - KEPT_FOR - timedelta(minutes=1)
        is_old = suspects_table.c.message_id == "old"
        connection.execute(suspects_table.update().where(is_old).values(noted_at=noted_at))

    next_process(database).start(["another"])

    with database.reading() as connection:
        ids = connection.execute(suspects_table.select()).scalars()
        assert sorted(ids) == ["another", "new"]


@pytest.mark.parametrize("message_id", ["it's", '"; DROP TABLE suspects; --', "{a,b}", "₫" * 200])
def test_a_hostile_id_is_data(in_progress: InProgress, database: Database, message_id: str) -> None:
    in_progress.start([message_id])

    other = next_process(database)
    assert list(other.start([message_id, "other"])) == [message_id]
    other.finish([message_id])
    assert other.start([message_id]) == {}


NOTED = st.sets(st.integers(0, 30).map(str))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.tuples(NOTED, NOTED), max_size=6))
def test_suspects_are_exactly_those_started_and_not_finished_since(
    database: Database, batches: list[tuple[set[str], set[str]]]
) -> None:
    next_process(database).finish(map(str, range(31)))
    left_behind: set[str] = set()
    for started, finished in batches:
        process = next_process(database)
        assert process.start(started).keys() == started & left_behind
        process.finish(finished)
        left_behind = (left_behind | started) - finished
