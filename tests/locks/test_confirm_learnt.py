"""When a lock is asked how a move went, learnt from its moves: with the drivers, their
played clouds and a clock that jumps."""

from __future__ import annotations

import contextlib

import pytest

from doorpi import (
    NO_NOTES,
    Command,
    LockControl,
    LockState,
    Move,
    Notes,
    Outcome,
    Result,
    drive,
)
from tests.fakes.locks import access_to, driver_of, taps_at
from tests.helpers.world import FakeStore

KINDS = ["sesame", "sesame-mini"]
OTHER = {"locked": Command.UNLOCK, "unlocked": Command.LOCK}
NOTE = "confirm lock unlock"


class Bench:
    """A lock that is tapped again and again, by a program that keeps its notes."""

    def __init__(self, taps) -> None:
        self.taps, self.clock, self.cloud = taps, taps.clock, taps.cloud
        self.store = FakeStore()
        self.restart()

    def restart(self, driver=None, **changes) -> None:
        access = access_to(self.cloud, **changes)
        lock = driver or self.taps.lock
        self.control = LockControl(lock, access, self.store, self.clock, jitter=float)

    def tap(
        self, command: Command | None = None, *, sparing=False, fault="", at="confirm"
    ) -> tuple[Outcome, list[float]]:
        """The outcome, and when it was asked for, in seconds after the command; with a
        ``fault`` of the cloud ``at`` a stage."""
        asked: list[float] = []
        confirm = self.control.lock.confirm

        def watched(sent, by):
            asked.append(self.clock.monotonic() - self.cloud.received[-1][0])
            return confirm(sent, by)

        self.clock.advance(60)
        self.cloud.new_tap()
        if fault:
            self.cloud.fail(fault, at)
        now = self.clock.monotonic()

        def choose(state: LockState) -> Command | None:
            return command or OTHER.get(state)

        move = Move(choose, now + 10, lambda command: None, sparing=sparing)
        self.control.lock.confirm = watched
        try:
            outcome = drive(self.control.move(move), self.clock)
        finally:
            del self.control.lock.confirm
        self.store.keep(self.control.new_notes())
        return outcome, asked

    def learn(self, taps: int = 10) -> None:
        for _ in range(taps):
            self.tap()


@pytest.fixture(params=KINDS)
def bench(request, clock):
    with taps_at(request.param, clock) as taps:
        yield Bench(taps)


@pytest.fixture
def sesame(clock):
    with taps_at("sesame", clock) as taps:
        yield Bench(taps)


def test_the_answer_comes_soon_after_the_motor(bench):
    bench.learn()

    for _ in range(10):
        outcome, asked = bench.tap()
        assert outcome.result in (Result.UNLOCKED, Result.LOCKED)
        assert len(asked) == 1
        assert 1.5 <= asked[0] <= 1.8


def test_each_direction_has_a_time_of_its_own(sesame):
    for _ in range(10):
        for sesame.cloud.bolt.motor_s in (0.8, 2.2):  # unlocking, locking
            sesame.tap()

    _, unlocking = sesame.tap(Command.UNLOCK)
    sesame.cloud.bolt.motor_s = 2.2
    _, locking = sesame.tap(Command.LOCK)
    assert unlocking[0] < 1.2
    assert 2.2 <= locking[0] < 2.6


def test_a_restart_forgets_nothing(bench):
    bench.learn()
    bench.restart()

    assert len(bench.tap()[1]) == 1
    assert bench.tap()[1][0] <= 1.8


def test_another_lock_is_learnt_anew(sesame):
    sesame.learn()
    with contextlib.closing(driver_of(sesame.cloud)) as driver:
        sesame.restart(driver, device_id="11200000-0000-4000-8000-000000000000")

        assert sesame.tap()[1] == [3.0]


def test_notes_change_only_while_something_is_learnt(sesame):
    """So that a tap writes no more than it always did."""
    sesame.learn()
    noted = sesame.store.kept[NOTE]

    sesame.tap(), sesame.tap()

    assert sesame.store.kept[NOTE] == noted
    sesame.tap(), sesame.tap()
    assert sesame.control.new_notes() == NO_NOTES
    assert sesame.control.new_notes(Notes({"a": "b"})) == Notes({"a": "b"})


def test_nothing_is_learnt_from_a_bolt_that_had_nowhere_to_go(sesame):
    """It is "done" at any time: the next real move would be asked about too early."""
    sesame.learn()
    noted = dict(sesame.store.kept)
    sesame.tap(Command.UNLOCK)

    for _ in range(5):
        assert sesame.tap(Command.UNLOCK)[1] == [3.0]

    unlocking = {name: text for name, text in noted.items() if "lock" in name}
    assert unlocking.items() <= sesame.store.kept.items()


def test_nothing_is_learnt_from_a_command_whose_answer_was_lost(sesame):
    """The time of the command is not known then."""
    sesame.learn(2)
    noted = sesame.store.kept[NOTE]

    outcome, asked = sesame.tap(fault="hang-after", at="command")

    assert outcome.result is Result.UNLOCKED
    assert asked == [5.0 + 3.0]
    assert sesame.store.kept[NOTE] == noted


@pytest.mark.parametrize("fault", ["502", "503", "429"])
def test_nothing_is_learnt_from_a_question_that_failed(sesame, fault):
    """It says nothing about the bolt; "moving" does."""
    sesame.learn()
    noted = sesame.store.kept[NOTE]

    _, asked = sesame.tap(fault=fault)

    assert asked == pytest.approx([1.636, 3.0], abs=0.02)
    assert sesame.store.kept[NOTE] == noted


def test_a_lock_that_says_that_it_moves_was_asked_too_early(sesame):
    sesame.cloud.says_moved = True
    sesame.learn(20)

    counts = [len(sesame.tap()[1]) for _ in range(10)]

    assert counts == [1] * 10


def test_a_question_too_early_is_not_read_as_no_effect(sesame):
    """A phone has the cloud note the old state again while the motor runs: a newer time
    stamp, and not where the bolt is to be.  The command is not sent twice."""
    sesame.learn()
    sesame.cloud.bolt.motor_s = 2.5
    now = sesame.clock.monotonic() + 60
    sesame.cloud.pushes = [now + 1.0]

    outcome, asked = sesame.tap()

    assert outcome.result in (Result.UNLOCKED, Result.LOCKED)
    assert asked == pytest.approx([1.636, 3.0], abs=0.02)
    assert len(sesame.cloud.received) == 11


def test_a_command_without_effect_is_resent_as_before(sesame):
    sesame.learn()
    sesame.cloud.switch(drops=1)
    sesame.cloud.pushes = [sesame.clock.monotonic() + 61]

    outcome, asked = sesame.tap()

    assert outcome.result is Result.UNLOCKED
    assert len(sesame.cloud.received) == 12
    assert sesame.cloud.received[-1][0] - sesame.cloud.received[-2][0] == 3.0
    assert asked[-1] == 3.0  # the second one is asked about at the vendor's times


@pytest.mark.parametrize(("used", "asked"), [(2690, 1.636), (2701, 3.0)])
def test_the_last_calls_of_a_month_ask_once_and_late_enough(sesame, used, asked):
    sesame.learn()
    sesame.store.kept[sesame.control.budget.month] = str(used)

    assert sesame.tap(sparing=True)[1] == pytest.approx([asked], abs=0.02)


def test_without_calls_nothing_is_asked(sesame):
    sesame.learn()
    sesame.store.kept[sesame.control.budget.month] = "2990"

    outcome, asked = sesame.tap(Command.UNLOCK, sparing=True)

    assert (outcome.result, asked) == (Result.UNSURE, [])


def test_a_broken_disk_changes_nothing_at_the_door(sesame):
    sesame.learn()
    sesame.store.recall = lambda name: None
    sesame.restart()

    assert sesame.tap()[1] == [3.0]
