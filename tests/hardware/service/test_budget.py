"""Durations, and the ceiling on QPU access time."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qattn.backends import BackendStopped
from qattn.hardware.service.budget import (
    SAFETY_MARGIN,
    BudgetExceeded,
    QPUBudget,
    format_duration,
    parse_duration,
)

ROUNDING = 1e-9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("2min", 120.0),
        ("1.5 h", 5400.0),
        ("500ms", 0.5),
        ("2d", 172800.0),
        ("250 us", 250e-6),
        ("250µs", 250e-6),
        ("250μs", 250e-6),
        (" 1h 30min ", 5400.0),
        ("1h30min15s", 5415.0),
        (".5s", 0.5),
        ("30", 30.0),
        ("0s", 0.0),
        (30.0, 30.0),
        (30, 30.0),
    ],
)
def test_duration(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "s", "-1s", "1e3s", "30 parsecs", "30S", "1 2s", "1s 2", "nan", "1,5s", "١s"),
        *("30 sec", "30 seconds", "2 minutes", "1 hour", "1 day"),
        *("9" * 400 + "s", -1.0, math.nan, math.inf),
    ],
)
def test_not_a_duration(text):
    with pytest.raises(ValueError, match="A duration must be"):
        parse_duration(text)


def test_the_error_names_the_units():
    with pytest.raises(ValueError, match=r"\(units: us, ms, s, min, h, d\), but is '2 minutes'"):
        parse_duration("2 minutes")


def test_true_is_no_duration(as_users_call):
    with pytest.raises(ValueError, match="but is True"):
        parse_duration(True)


@given(st.floats(1e-6, 1e7))
def test_formatted_duration_can_be_parsed(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.0, "0 s"), (0.35, "350 ms"), (29.2, "29.2 s"), (90.0, "90 s")),
        *((750.0, "12.5 min"), (11520.0, "3.2 h"), (8.64e8, "10000 d")),
    ],
)
def test_formatted_duration(seconds, text):
    assert format_duration(seconds) == text


def test_account():
    budget = QPUBudget(10.0, spent=1.0)
    first, second = budget.reserve(2.0), budget.reserve(3.0)
    assert budget.reserved == pytest.approx(5.0 * SAFETY_MARGIN)
    first.settle(2.05)  # within the margin
    assert budget.spent == pytest.approx(3.05)
    assert budget.margin == SAFETY_MARGIN
    second.cancel()
    assert budget.reserved == 0
    assert budget.left == pytest.approx(6.95)
    for reservation in (first, second):
        with pytest.raises(RuntimeError, match="settled or cancelled before"):
            reservation.settle(1.0)
        with pytest.raises(RuntimeError, match="settled or cancelled before"):
            reservation.cancel()
    assert budget.spent == pytest.approx(3.05)


def test_what_is_left_open_counts_in_full():
    budget = QPUBudget(10.0)
    budget.reserve(5.0)
    with pytest.raises(BudgetExceeded):
        budget.reserve(5.0)
    assert budget.reserved == pytest.approx(5.0 * SAFETY_MARGIN)


def test_refusal_says_what_was_spent():
    budget = QPUBudget(30.0, spent=27.0)
    flying = budget.reserve(2.0)
    with pytest.raises(BackendStopped) as caught:
        budget.reserve(1.0)
    assert str(caught.value) == (
        "The QPU budget of 30 s does not allow another job: 27 s spent, 2.1 s reserved for jobs "
        "in flight, and the next job needs 1.05 s. Raise --qpu-budget to go on."
    )
    assert caught.value.needed == pytest.approx(1.05)
    assert caught.value.left == pytest.approx(0.9)
    assert caught.value.reserved == pytest.approx(2.1)
    flying.settle(1.9)  # less than it reserved: there is room again
    budget.reserve(1.0)


def test_margin_grows_with_the_worst_estimate():
    budget = QPUBudget(100.0)
    still_open = budget.reserve(10.0)
    budget.reserve(10.0).settle(12.0)
    assert budget.margin == pytest.approx(1.2 * SAFETY_MARGIN)
    assert budget.reserved == pytest.approx(12.0 * SAFETY_MARGIN)
    still_open.settle(10.0)  # a better one does not shrink it
    assert budget.margin == pytest.approx(1.2 * SAFETY_MARGIN)


def test_no_ceiling():
    budget = QPUBudget(None)
    budget.reserve(1e9).settle(1e9)
    assert budget.left == math.inf
    assert budget.spent == 1e9


def test_nothing_fits_a_budget_of_nothing():
    budget = QPUBudget(0.0)
    budget.reserve(0.0).settle(0.0)
    with pytest.raises(BudgetExceeded, match=r"0 s spent, and the next job needs 1\.05 ms"):
        budget.reserve(1e-3)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_wrong_seconds(wrong):
    for make in (
        lambda: QPUBudget(wrong),
        lambda: QPUBudget(1.0, spent=wrong),
        lambda: QPUBudget(1.0).reserve(wrong),
        lambda: QPUBudget(1.0).reserve(0.1).settle(wrong),
    ):
        with pytest.raises(ValueError, match="must be a number of seconds"):
            make()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "cancel"]),
        st.floats(1e-3, 3.0),  # the estimate of a new job
        st.floats(0.0, 1.0),  # where between 0 and the margin its true time lies
        st.integers(0, 10),  # which of the open jobs ends
    ),
    max_size=60,
)


@given(ACTIONS, st.floats(0.0, 20.0), st.floats(1.0, 1.3))
def test_never_exceeded_while_estimates_hold_within_the_margin(actions, limit, first_ratio):
    budget = QPUBudget(limit)
    if limit > 2:
        budget.reserve(1.0).settle(first_ratio)  # the margin may have grown before
    margin = budget.margin
    jobs, paid = [], budget.spent
    for action, estimate, share, which in actions:
        if action == "reserve":
            try:
                jobs.append((budget.reserve(estimate), share * margin * estimate))
            except BudgetExceeded:
                assert estimate * margin > budget.left
        elif jobs:
            reservation, actual = jobs.pop(which % len(jobs))
            if action == "settle":
                reservation.settle(actual)
                paid += actual
            else:
                reservation.cancel()
        assert budget.spent == pytest.approx(paid)
        assert budget.spent + budget.reserved <= limit + ROUNDING
    paid += sum(actual for _, actual in jobs)  # all that fly may come down at once
    assert paid <= limit + ROUNDING


def test_estimates_worse_than_the_margin_do_exceed_it():
    """The control of the test above: the bound is not empty."""
    budget = QPUBudget(1.0)
    budget.reserve(0.95).settle(0.95 * SAFETY_MARGIN * 1.01)
    assert budget.spent > 1.0


def test_threads_do_not_overbook():
    budget = QPUBudget(50 * SAFETY_MARGIN)

    def attempt(_: int) -> bool:
        try:
            budget.reserve(1.0).settle(SAFETY_MARGIN)
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        allowed = sum(pool.map(attempt, range(400)))
    assert 49 <= allowed <= 50  # the last may fail by rounding
    assert budget.spent <= 50 * SAFETY_MARGIN + ROUNDING
