import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.streams.anomaly.features import LARGEST, MAX_FEATURES, Features


def test_numbers_are_features_and_text_and_truth_values_are_not() -> None:
    features = Features()
    rows = features.rows([{"a": 1, "text": "7", "b": 2.5, "flag": True, "none": None}])
    assert features.names == ["a", "b"]
    assert rows.tolist() == [[1.0, 2.5]]


def test_named_columns_are_features_also_as_text_and_truth_values() -> None:
    features = Features(["a", "text", "flag"])
    rows = features.rows([{"a": 1, "text": " 7.5 ", "b": 2, "flag": True}])
    assert features.names == ["a", "text", "flag"]
    assert rows.tolist() == [[1.0, 7.5, 1.0]]


@pytest.mark.parametrize("text", ["high", "", "1" * 1000, "nan", "inf"])
def test_a_named_text_without_a_number_is_a_missing_value(text: str) -> None:
    features = Features(["a"])
    assert features.rows([{"a": text}]).size == 0


def test_a_missing_value_is_nan_and_a_later_feature_gets_the_next_column() -> None:
    features = Features()
    features.rows([{"a": 1, "b": 2}])
    rows = features.rows([{"b": 3}, {"c": 4, "a": math.nan}])
    assert features.names == ["a", "b", "c"]
    assert np.array_equal(
        rows, [[math.nan, 3.0, math.nan], [math.nan, math.nan, 4.0]], equal_nan=True
    )


def test_the_columns_of_an_earlier_start_come_first() -> None:
    features = Features(names=["b", "a"])
    assert features.rows([{"a": 1, "b": 2}]).tolist() == [[2.0, 1.0]]


def test_there_are_at_most_two_hundred_features() -> None:
    features = Features()
    rows = features.rows([{f"column_{number}": number for number in range(10_000)}])
    assert rows.shape == (1, MAX_FEATURES)
    assert features.rows([{"column_9999": 1}]).shape == (1, MAX_FEATURES)


def test_a_name_of_a_thousand_letters_is_no_feature() -> None:
    features = Features()
    assert features.rows([{"x" * 1000: 1.0, "y": 2.0}]).tolist() == [[2.0]]


@pytest.mark.parametrize("number", [10**400, 1e300, float(10**200)])
def test_numbers_too_large_to_square_count_as_the_largest(number: float) -> None:
    assert Features().rows([{"a": number}]).tolist() == [[LARGEST]]
    assert Features().rows([{"a": -number}]).tolist() == [[-LARGEST]]


def test_infinity_is_a_missing_value() -> None:
    assert Features().rows([{"a": math.inf, "b": 1.0}]).tolist() == [[1.0]]


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())
)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=5), max_size=4))
def test_any_record_gives_finite_numbers_or_nan(records: list[dict[str, object]]) -> None:
    features = Features()
    rows = features.rows(records)
    assert rows.shape == (len(records), len(features.names))
    assert not np.isinf(rows).any()
