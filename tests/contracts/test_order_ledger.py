"""The order ledger on both of its databases: every order once, in every total."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from product_consumer.database.connection import Database
from product_consumer.errors import ConfigurationError, LedgerUnavailable, RejectMessage
from product_consumer.orders.ledger import OrderLedger
from product_consumer.orders.models import GlobalStats, Order, OrderItem, RejectedOrder
from tests.support import backends
from tests.support.order_factories import ORDERED_AT, order


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'products.db'}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[OrderLedger]:
    opened = open_ledger(ledger_url)
    opened.setup()
    yield opened
    opened.close()


def open_ledger(url: str) -> OrderLedger:
    return OrderLedger(Database(url, timeout_seconds=10, connections=12))


def spend(ledger: OrderLedger, user_id: str) -> list[tuple[str, int, str]]:
    totals = ledger.user_stats(user_id)
    return [(total.currency, total.order_count, total.total_spend) for total in totals]


def test_an_order_counts_for_its_user_its_day_and_everyone(ledger: OrderLedger) -> None:
    ledger.record([order(value_minor=9999, user_id="U5678")])

    assert spend(ledger, "U5678") == [("USD", 1, "99.99")]
    [day] = ledger.daily()
    assert (day.day, day.order_count, day.total_spend) == (date(2024, 12, 13), 1, "99.99")
    [everyone] = ledger.global_stats()
    assert (everyone.total_orders, everyone.total_revenue) == (1, "99.99")


def test_a_description_says_where_the_ledger_is_and_how_many_orders_it_has(
    ledger: OrderLedger,
) -> None:
    ledger.record([order(), order(currency="EUR"), order()])

    assert ledger.describe() == f"{ledger.database.address}, 3 orders"


def test_a_ping_of_a_ledger_that_can_be_read_raises_nothing(ledger: OrderLedger) -> None:
    ledger.ping()
    ledger.record([order()])
    ledger.ping()


def test_a_ping_raises_once_the_totals_are_gone(ledger: OrderLedger) -> None:
    with ledger.database.writing() as connection:
        connection.execute(text("DROP TABLE order_totals"))

    for ask in (ledger.ping, ledger.describe):
        with pytest.raises((ConfigurationError, LedgerUnavailable)):
            ask()


def test_a_ping_of_a_server_that_is_not_there_is_an_outage() -> None:
    url = f"postgresql://postgres@127.0.0.1:{backends.free_port()}/test"
    with closing(open_ledger(url)) as ledger:
        for ask in (ledger.ping, ledger.describe):
            with pytest.raises(LedgerUnavailable):
                ask()


def test_an_order_that_comes_twice_counts_once(ledger: OrderLedger) -> None:
    copy = order()

    assert ledger.record([copy, copy]).inserted == {copy.order_id}
    again = ledger.record([copy])
    assert (again.inserted, again.failures) == (frozenset(), {})
    assert spend(ledger, "U1") == [("USD", 1, "10.00")]


def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(
    ledger: OrderLedger,
) -> None:
    first = order()
    other = order(order_id=first.order_id, value_minor=5)
    ledger.record([first])
    recorded = ledger.record([order(user_id="U2"), other])

    assert list(recorded.failures) == [1]
    failure = recorded.failures[1]
    assert isinstance(failure, RejectMessage)
    assert failure.reason == "order_conflict"
    assert spend(ledger, "U1") == [("USD", 1, "10.00")]
    assert spend(ledger, "U2") == [("USD", 1, "10.00")]


def test_of_two_contents_in_one_batch_the_first_stays(ledger: OrderLedger) -> None:
    first = order(payload_hash="f" * 64)
    other = order(order_id=first.order_id, value_minor=5, payload_hash="0" * 64)
    recorded = ledger.record([first, other])

    assert list(recorded.failures) == [1]
    assert spend(ledger, "U1") == [("USD", 1, "10.00")]


def test_currencies_are_never_added_up(ledger: OrderLedger) -> None:
    ledger.record([order(), order(currency="VND", value_minor=50_000)])

    assert spend(ledger, "U1") == [("USD", 1, "10.00"), ("VND", 1, "50000")]
    assert [total.currency for total in ledger.global_stats()] == ["USD", "VND"]
    assert [day.order_count for day in ledger.daily(currency="VND")] == [1]


def test_an_unknown_user_has_no_totals(ledger: OrderLedger) -> None:
    assert ledger.user_stats("nobody") == []


def test_a_range_of_days_includes_both_ends(ledger: OrderLedger) -> None:
    ledger.record([order(ordered_at=ORDERED_AT + timedelta(days=day)) for day in range(5)])
    first, last = date(2024, 12, 14), date(2024, 12, 16)

    assert [total.order_count for total in ledger.user_stats("U1", first, last)] == [3]
    assert ledger.global_stats(first, last) == [GlobalStats("USD", 3, 3000)]
    assert [row.day for row in ledger.daily(first, last)] == [
        date(2024, 12, day) for day in (14, 15, 16)
    ]
    assert ledger.user_stats("U1", day_to=date(2024, 12, 1)) == []


def test_rankings_are_by_spend_or_by_orders_and_ties_by_id(ledger: OrderLedger) -> None:
    ledger.record(
        [
            order(user_id="rich", value_minor=5000),
            order(user_id="busy", value_minor=100),
            order(user_id="busy", value_minor=100),
            order(user_id="also", value_minor=200),
            order(user_id="abroad", value_minor=9999, currency="EUR"),
        ]
    )

    assert [user.user_id for user in ledger.top("spend", 3, "USD")] == ["rich", "also", "busy"]
    assert [user.user_id for user in ledger.top("orders", 2, "USD")] == ["busy", "also"]
    assert ledger.top("spend", 0, "USD") == []


def test_a_ranking_of_some_days_counts_these_days_only(ledger: OrderLedger) -> None:
    later = ORDERED_AT + timedelta(days=3)
    ledger.record(
        [
            order(user_id="early", value_minor=5000),
            order(user_id="late", value_minor=10, ordered_at=later),
            order(user_id="early", value_minor=5, ordered_at=later),
        ]
    )
    users = ledger.top("spend", 5, "USD", day_from=later.date())

    assert [(user.user_id, user.spend_minor) for user in users] == [("late", 10), ("early", 5)]


def test_an_order_is_kept_with_its_items(ledger: OrderLedger) -> None:
    items = (OrderItem("₫'\"", 2, 300), OrderItem("P2", Decimal("0.3"), 400))
    sent = order(items=items, payment_method="Cash")
    ledger.record([sent])
    stored = ledger.order(sent.order_id)

    assert stored is not None
    assert (stored.items, stored.ordered_at, stored.payment_method) == (items, ORDERED_AT, "Cash")
    assert ledger.orders_of("U1") == [stored]
    assert ledger.order("unknown") is None


def test_rejected_messages_are_listed_latest_first_and_once(ledger: OrderLedger) -> None:
    entries = [
        RejectedOrder(f"m{n}", None, "json_invalid", "detail", ORDERED_AT + timedelta(seconds=n))
        for n in range(3)
    ]
    ledger.add_rejected(entries)
    ledger.add_rejected(entries[:1])

    assert ledger.rejected(2) == [entries[2], entries[1]]
    assert ledger.counts().rejected == 3


def test_hostile_ids_are_data(ledger: OrderLedger) -> None:
    ids = ["'; DROP TABLE orders;--", 'x\' or "1"="1', "a\\b", "%_", "₫" * 100]
    ledger.record([order(order_id=id_, user_id=id_) for id_ in ids])

    assert all(spend(ledger, id_) == [("USD", 1, "10.00")] for id_ in ids)


def test_a_total_beyond_the_databases_integers_is_refused_and_harms_nobody(
    ledger: OrderLedger,
) -> None:
    ledger.record([order(value_minor=2**62 - 10)])
    recorded = ledger.record([order(value_minor=11), order(value_minor=10)])

    assert [error.reason for error in recorded.failures.values()] == ["amount_range"]  # type: ignore[attr-defined]
    assert [total.spend_minor for total in ledger.user_stats("U1")] == [2**62]


def test_all_users_can_be_paged_through(ledger: OrderLedger) -> None:
    users = {f"U{n}" for n in range(25)}
    ledger.record([order(user_id=user) for user in sorted(users)])
    pages = [set(page) for page in ledger.user_pages(10)]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert set().union(*pages) == users


def test_the_revision_grows_with_every_batch_that_adds(ledger: OrderLedger) -> None:
    known = order()
    revisions = []
    for batch in ([known], [known], [order(), order()]):
        ledger.record(batch)
        revisions.append(ledger.user_stats("U1")[0].revision)

    assert revisions == [1, 1, 2]


def test_a_second_set_up_keeps_the_orders(ledger: OrderLedger) -> None:
    ledger.record([order()])
    ledger.setup()

    assert ledger.counts().orders == 1


def test_threads_with_overlapping_batches_neither_lose_nor_deadlock(ledger: OrderLedger) -> None:
    rng = random.Random(3)
    orders = [
        order(user_id=f"U{rng.randrange(4)}", value_minor=rng.randrange(10_000)) for _ in range(120)
    ]
    deliveries = orders * 3
    rng.shuffle(deliveries)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ledger.record, groups(deliveries, 8)))

    check_totals(ledger, orders)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_totals_are_the_sum_for_any_order_and_duplication(
    ledger: OrderLedger, data: st.DataObject
) -> None:
    prefix = f"c{next(_examples)}-"
    orders = [
        order(
            user_id=prefix + data.draw(st.sampled_from("abc")),
            value_minor=data.draw(st.integers(0, 2**53)),
            currency=data.draw(st.sampled_from(["USD", "VND"])),
            ordered_at=ORDERED_AT + timedelta(days=data.draw(st.integers(0, 2))),
        )
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    deliveries = data.draw(st.permutations(orders * 2))
    for group in groups(deliveries, data.draw(st.integers(1, 5))):
        ledger.record(group)

    for user_id in {sent.user_id for sent in orders}:
        mine = [sent for sent in orders if sent.user_id == user_id]
        assert user_sums(ledger, user_id) == sums_of(mine)


_examples = itertools.count()


def groups(items: Sequence[Order], size: int) -> list[Sequence[Order]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def sums_of(orders: Sequence[Order]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for sent in orders:
        count, spent = sums.get(sent.currency, (0, 0))
        sums[sent.currency] = (count + 1, spent + sent.value_minor)
    return sums


def user_sums(ledger: OrderLedger, user_id: str) -> dict[str, tuple[int, int]]:
    totals = ledger.user_stats(user_id)
    return {total.currency: (total.order_count, total.spend_minor) for total in totals}


def check_totals(ledger: OrderLedger, orders: Sequence[Order]) -> None:
    spent: Counter[str] = Counter()
    for sent in orders:
        spent[sent.user_id] += sent.value_minor
    assert {user: user_sums(ledger, user)["USD"][1] for user in spent} == spent
    [everyone] = ledger.global_stats()
    assert (everyone.total_orders, everyone.revenue_minor) == (len(orders), spent.total())
