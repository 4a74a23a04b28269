"""ConfirmTime against simulated motors: how soon a lock is asked, and what it costs."""

from __future__ import annotations

import random
from math import inf
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorpi import ConfirmTime, LockPolicy, Sesame, SesameMini, confirm_time_from

WEEK, NEXT_WEEK = "2026-W47", "2026-W48"
SESAME, MINI = Sesame.policy, SesameMini.policy
_dice = random.Random(1)


def jittery(width_s: float, count: int) -> list[float]:
    return [1.5 + _dice.uniform(-width_s, width_s) for _ in range(count)]


def questions(learnt: ConfirmTime, policy: LockPolicy, motor_s: float, week=WEEK):
    """When one move is asked about, until the motor has ended."""
    asked: list[float] = []
    for at_s in learnt.times_s(policy, 60.0, week):
        spaced_s = asked[-1] + policy.confirm_every_s if asked else 0.0
        asked.append(max(at_s, spaced_s))
        if asked[-1] >= motor_s:
            break
    return asked


def drive(policy: LockPolicy, motors_s: list[float], learnt: ConfirmTime | None = None):
    """For each move: the questions beyond those at the vendor's times, and the seconds
    from the motor's end to the answer."""
    learnt = learnt or ConfirmTime()
    moves = []
    for motor_s in motors_s:
        asked = questions(learnt, policy, motor_s)
        usual = questions(ConfirmTime(), policy, motor_s)
        learnt.learn(asked, WEEK)
        moves.append((len(asked) - len(usual), asked[-1] - motor_s))
    return moves


#: The policy; how long the motor takes at each move of one direction; how many questions
#: it costs in total beyond the vendor's times, at most; and how long after the motor's end
#: the last ten moves are known to be done, at most, in the median.
MOTORS = {
    "sesame":                    (SESAME, [1.5] * 20, 1, 0.2),
    "sesame, a quick one":       (SESAME, [0.7] * 20, 1, 0.2),
    "sesame, no motor at all":   (SESAME, [0.0] * 20, 0, 0.8),
    "sesame, as the vendor says": (SESAME, [2.9] * 20, 1, 0.1),
    "sesame, slower than that":  (SESAME, [5.0] * 20, 0, 1.0),
    "sesame, a little jitter":   (SESAME, jittery(0.1, 100), 1, 0.2),
    "sesame, more jitter":       (SESAME, jittery(0.5, 100), 2, 0.7),
    "sesame, becomes slower":    (SESAME, [1.5] * 10 + [1.8] * 20, 1 + 1, 0.3),
    "sesame, much slower":       (SESAME, [1.5] * 10 + [2.5] * 20, 1 + 2, 0.5),
    "sesame, ever slower":       (SESAME, [1.5 + n / 100 for n in range(150)], 1 + 3, 0.2),
    "sesame, becomes quicker":   (SESAME, [1.5] * 10 + [0.9] * 20, 1, 0.8),
    "sesame, one exception":     (SESAME, [1.5] * 10 + [8.0] + [1.5] * 20, 1 + 1, 0.2),
    "sesame, the first is one":  (SESAME, [8.0] + [1.5] * 20, 1, 0.2),
    "sesame, the second is one": (SESAME, [1.5, 8.0] + [1.5] * 20, 1 + 1, 0.2),
    "mini":                      (MINI, [1.5] * 20, 0, 0.2),
    "mini, done at once":        (MINI, [0.0] * 20, 0, 0.0),
    "mini, a slow one":          (MINI, [3.5] * 20, 0, 0.6),
    "mini, too slow to learn":   (MINI, [9.0] * 20, 0, 0.0),
    "mini, a little jitter":     (MINI, jittery(0.1, 100), 0, 0.3),
    "mini, becomes slower":      (MINI, [1.5] * 10 + [2.5] * 20, 0, 0.3),
    "mini, one exception":       (MINI, [1.5] * 10 + [8.0] + [1.5] * 20, 0, 0.2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "motors_s", "most_more", "lag_s"), MOTORS.values(), ids=MOTORS
)
def test_a_motor_is_learnt(policy, motors_s, most_more, lag_s):
    moves = drive(policy, motors_s)

    more = [count for count, _ in moves]
    assert sum(count for count in more if count > 0) <= most_more
    assert max(more) <= 1  # of any one move
    assert median(lag for _, lag in moves[-10:]) <= lag_s + 1e-9


@pytest.mark.parametrize("policy", [SESAME, MINI], ids=["sesame", "sesame-mini"])
def test_ten_taps_teach_both_directions(policy):
    """Five moves of each direction, of which at most one costs a question more."""
    moves = drive(policy, [1.5] * 20)

    assert [count > 0 for count, _ in moves].count(True) <= 1
    assert all(lag <= 0.3 for _, lag in moves[5:])
    assert all(count <= 0 for count, _ in moves[5:])


def test_what_was_too_early_is_tried_again_in_another_week():
    learnt = ConfirmTime()
    drive(SESAME, [1.5] * 10, learnt)
    before = questions(learnt, SESAME, 1.0)

    sooner = questions(learnt, SESAME, 1.0, NEXT_WEEK)

    assert sooner[0] < learnt.early_s + 0.1 < before[0]


@pytest.mark.parametrize(
    ("policy", "learnt", "asked"),
    [
        (SESAME, ConfirmTime(), [3.0, 6.0, 12.0, 20.0]),
        (SESAME, ConfirmTime(1.5, 1.2, WEEK), [3.0, 6.0, 12.0, 20.0]),
        (SESAME, ConfirmTime(2.0), [3.0, 6.0, 12.0, 20.0]),  # no step of the search
        (SESAME, ConfirmTime(3.5), [3.6, 6.0, 12.0, 20.0]),
        (MINI, ConfirmTime(1.6), [1.7, 2.0, 3.0, 4.0]),
    ],
)
def test_a_single_question_waits_until_the_lock_is_surely_done(policy, learnt, asked):
    times_s = learnt.times_s(policy, 60.0, WEEK, only_one=True)

    assert list(times_s)[:4] == pytest.approx(asked)


def test_the_question_fits_into_the_time_for_confirmation():
    times_s = ConfirmTime(3.5, 3.4, WEEK).times_s(SESAME, 2.0, WEEK)

    assert list(times_s) == [2.0]


def test_a_driver_that_must_pause_is_not_asked_sooner():
    policy = LockPolicy(confirm_at_s=(2.0, 5.0), soonest_s=2.0)

    moves = drive(policy, [0.1] * 10)

    assert [lag for _, lag in moves] == [1.9] * 10


@given(
    motors_s=st.lists(st.floats(0, 30), max_size=40),
    policy=st.sampled_from([SESAME, MINI, LockPolicy(confirm_at_s=(2.0, 4.0, 7.0, 60.0))]),
)  # fmt: skip
def test_no_motor_costs_more_than_one_question_a_move(motors_s, policy):
    """Whatever it does, the lock is asked in order, at intervals, and not later than
    after the longest time that is learnt."""
    learnt = ConfirmTime()
    for motor_s in motors_s:
        asked, usual = (
            questions(each, policy, motor_s) for each in (learnt, ConfirmTime())
        )
        assert len(asked) <= len(usual) + 1
        assert asked == sorted(asked)
        assert asked[0] <= max(
            learnt.latest_s + learnt.margin_s, *policy.confirm_at_s[:1]
        )
        learnt.learn(asked, WEEK)


# -- on disk


@pytest.mark.parametrize(
    "learnt",
    [ConfirmTime(), ConfirmTime(1.54, 1.23, WEEK), ConfirmTime(inf, 1.2, WEEK)],
)
def test_what_is_learnt_is_read_again(learnt):
    again = confirm_time_from(learnt.text("a1b2"), "a1b2")

    assert vars(again) == vars(learnt)


@pytest.mark.parametrize(
    "text",
    [None, "", "rubbish", "c3d4 1.540 1.230 2026-W47", "a1b2 -1.5 1.2 ", "a1b2 nan 0 "],
)
def test_nothing_is_known_of_another_lock_or_from_rubbish(text):
    assert vars(confirm_time_from(text, "a1b2")) == vars(ConfirmTime())
