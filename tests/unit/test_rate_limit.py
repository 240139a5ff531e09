"""The token bucket."""

from datetime import timedelta

from model_service.services.rate_limit import TokenBucket
from tests.support.builders import NOON


def test_burst_is_the_most_that_can_be_taken_at_once() -> None:
    bucket = TokenBucket(per_minute=60, burst=3)
    assert [bucket.take(NOON) for _ in range(5)] == [True, True, True, False, False]


def test_tokens_come_back_at_the_rate() -> None:
    bucket = TokenBucket(per_minute=30, burst=1)
    assert bucket.take(NOON)
    assert not bucket.take(NOON + timedelta(seconds=1.9))
    assert bucket.take(NOON + timedelta(seconds=2.0))


def test_over_an_hour_no_more_than_rate_and_burst_are_granted() -> None:
    bucket = TokenBucket(per_minute=10, burst=5)
    granted = sum(bucket.take(NOON + timedelta(seconds=second)) for second in range(3600))
    assert granted == 600 + 5 - 1 or granted == 600 + 5


def test_a_clock_that_steps_back_gains_nothing() -> None:
    bucket = TokenBucket(per_minute=60, burst=1)
    assert bucket.take(NOON)
    assert not bucket.take(NOON - timedelta(hours=1))
    assert not bucket.take(NOON - timedelta(hours=1) + timedelta(seconds=0.5))


def test_a_clock_that_trembles_gains_no_more_than_one_that_does_not() -> None:
    bucket = TokenBucket(per_minute=60, burst=5)
    steps = [back for second in range(10) for back in (second, second - 1.5)]
    granted = sum(bucket.take(NOON + timedelta(seconds=step)) for step in steps)
    assert granted == 5 + 9


def test_a_clock_that_was_set_back_gains_again_from_there() -> None:
    bucket = TokenBucket(per_minute=60, burst=1)
    assert bucket.take(NOON)
    assert not bucket.take(NOON - timedelta(hours=1))
    assert bucket.take(NOON - timedelta(hours=1) + timedelta(seconds=1))
