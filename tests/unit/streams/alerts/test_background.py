import threading
from collections import Counter
from typing import Any

import pytest

from product_consumer.streams.alerts.alert import Alert
from product_consumer.streams.alerts.background import ATTEMPTS, BackgroundAlerts
from product_consumer.streams.alerts.webhook import AlertFailed

WAIT_SECONDS = 10.0


class Place:
    """Takes alerts, or fails as told; ``go`` holds every request back while it is clear."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.bodies: list[str] = []
        self.go, self.has_begun, self.is_done = (threading.Event() for _ in range(3))
        self.go.set()
        self.expected = 0

    def post(self, body: str) -> None:
        self.has_begun.set()
        assert self.go.wait(WAIT_SECONDS)
        self.bodies.append(body)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


class Subject:
    def __init__(self, place: Place, **options: Any) -> None:
        self.counted: Counter[str] = Counter()
        self.changed = threading.Condition()
        settings = {"first_pause_seconds": 0.001} | options
        self.alerts = BackgroundAlerts(place.post, "the place", self._count, **settings)
        self.alerts.start()

    def _count(self, result: str, number: int) -> None:
        with self.changed:
            self.counted[result] += number
            self.changed.notify_all()

    def put(self, *bodies: str) -> None:
        for body in bodies:
            self.alerts.put(Alert("id", 9.0, 4.0, {}, body))

    def wait_for(self, **numbers: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.counted == numbers, WAIT_SECONDS)


def passing(reason: str = "http_500") -> AlertFailed:
    return AlertFailed(reason, is_passing=True)


def test_alerts_are_sent_in_order() -> None:
    place = Place()
    subject = Subject(place)
    subject.put("1", "2", "3")
    subject.wait_for(sent=3)
    assert place.bodies == ["1", "2", "3"]
    subject.alerts.close()


def test_a_passing_failure_is_tried_again() -> None:
    place = Place(passing(), passing())
    subject = Subject(place)
    subject.put("1")
    subject.wait_for(sent=1)
    assert place.bodies == ["1"] * 3
    subject.alerts.close()


def test_a_lasting_failure_is_not_tried_again() -> None:
    place = Place(AlertFailed("http_404", is_passing=False))
    subject = Subject(place)
    subject.put("1")
    subject.wait_for(failed=1)
    assert place.bodies == ["1"]
    subject.alerts.close()


def test_an_error_of_ours_loses_one_alert_only(caplog: pytest.LogCaptureFixture) -> None:
    subject = Subject(Place(ValueError("a bug")))
    subject.put("1", "2")
    subject.wait_for(failed=1, sent=1)
    subject.alerts.close()
    assert "An alert could not be sent to the place" in caplog.text


def test_while_a_place_is_down_each_alert_has_one_attempt_and_one_line_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    place = Place(*[passing() for _ in range(ATTEMPTS + 3)])
    subject = Subject(place)
    subject.put("1", "2", "3", "4", "5")
    subject.wait_for(failed=4, sent=1)
    assert [place.bodies.count(body) for body in "12345"] == [ATTEMPTS, 1, 1, 1, 1]
    assert caplog.messages == [
        "Alerts do not reach the place: http_500",
        "Alerts reach the place again",
    ]
    subject.alerts.close()


def test_a_place_that_hangs_holds_nobody_up_and_what_does_not_fit_is_counted() -> None:
    place = Place()
    place.go.clear()
    subject = Subject(place, capacity=2)
    subject.put("1")
    assert place.has_begun.wait(WAIT_SECONDS)
    subject.put("2", "3", "4", "5")
    assert subject.counted == {"dropped": 2}
    place.go.set()
    subject.wait_for(sent=3, dropped=2)
    subject.alerts.close()


def test_a_stop_sends_what_waits() -> None:
    place = Place()
    place.go.clear()
    subject = Subject(place)
    subject.put("1", "2", "3")
    threading.Timer(0.05, place.go.set).start()
    subject.alerts.close()
    assert subject.counted == {"sent": 3}


def test_a_stop_ends_the_pauses_and_drops_what_is_left_after_its_time() -> None:
    place = Place(passing())
    subject = Subject(place, first_pause_seconds=600.0)
    subject.put("1")
    assert place.has_begun.wait(WAIT_SECONDS)
    subject.alerts.close()
    assert subject.counted == {"failed": 1}


def test_alerts_that_were_never_sent_are_counted_at_the_stop() -> None:
    place = Place()
    place.go.clear()
    subject = Subject(place, stop_seconds=0.0)
    subject.put("1")
    assert place.has_begun.wait(WAIT_SECONDS)
    subject.put("2", "3")
    threading.Timer(0.05, place.go.set).start()
    subject.alerts.close()
    assert subject.counted == {"sent": 1, "dropped": 2}
