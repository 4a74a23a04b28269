"""Calls are a budget: counted on disk, warned of, saved; and a cloud that is left alone.

Also waking a lock that does not answer its hub, which costs the lock's battery.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime

import pytest

import doorpi
from doorpi import (
    CallBudget,
    Command,
    LockAccess,
    LockConfig,
    LockState,
    LockStatus,
    MaybeSent,
    NoteKey,
    Notes,
    Progress,
    QuotaError,
    Result,
    SqliteStore,
    calls_in_words,
)
from tests.helpers.values import replace
from tests.helpers.world import JST, KEN, FakeLock, FakeStore, card_of, config_of

MONTH = "calls sesame 2026-11"
PLAN = 3000
UNLOCKED = LockStatus(state=LockState.UNLOCKED)


@pytest.fixture
def world(world):
    """A lock with a plan, which is asked at 3, 6, 12 and 20 s."""
    world.lock.policy = doorpi.Sesame.policy
    return world


def used(world, calls: int) -> None:
    world.store.kept[MONTH] = str(calls)


def calls_kept(world) -> dict[str, str]:
    """The notes about calls."""
    kept = world.store.kept.items()
    return {name: count for name, count in kept if name.startswith("calls")}


def tap(world, **door):
    event = world.tap(KEN, config=config_of(card_of(), **door))
    return event.result, event.detail


def budget_of(clock, kept: str | None) -> CallBudget:
    """One that finds ``kept`` under every name, and whose disk keeps nothing."""
    store = FakeStore()
    store.recall = lambda name: kept
    store.keep = lambda notes: None
    return CallBudget(clock, store, "sesame", PLAN)


# -- counting


def test_calls_of_a_tap_are_stored_with_its_outcome(world):
    tap(world)

    assert world.lock.calls == 3
    assert calls_kept(world) == {MONTH: "3"}


def test_calls_of_each_tap_are_counted_once(world):
    door = world.door()

    for _ in range(2):
        world.reader.shows = [KEN, *[None] * 9]
        while world.reader.shows or not door.is_idle:
            door.step()

    assert calls_kept(world) == {MONTH: "6"}


@pytest.fixture
def with_second(world):
    """A first lock out of reach, and a second of its kind."""
    world.fallback = FakeLock(world.clock)
    world.fallback.policy = world.lock.policy
    world.lock.statuses = [ASLEEP]
    return replace(config_of(card_of()), fallback=LockAccess(kind="sesame"))


def test_calls_of_two_locks_of_a_kind_are_counted_together(world, with_second):
    world.tap(KEN, config=with_second)

    assert (world.lock.calls, world.fallback.calls) == (1, 3)
    assert calls_kept(world) == {MONTH: "4"}


def test_saving_applies_to_the_fallback_as_well(world, with_second):
    used(world, 2910)

    event = world.tap(KEN, config=with_second)

    assert event.result is Result.UNSURE
    assert world.fallback.calls == 2


def test_calls_are_not_made_in_idle_time(world):
    door = world.door()

    for _ in range(1000):
        door.step()

    assert world.lock.calls == 0
    assert not [name for name in world.store.kept if name.startswith("calls")]


def test_calls_that_failed_are_counted(world):
    world.lock.statuses = [MaybeSent("no answer"), MaybeSent("no answer")]

    tap(world)

    assert calls_kept(world) == {MONTH: "5"}


def test_calls_start_at_zero_each_month(world):
    used(world, 2990)
    world.clock.at = datetime(2026, 12, 1, 0, 0, 1, tzinfo=JST)

    tap(world)

    assert calls_kept(world) == {MONTH: "2990", "calls sesame 2026-12": "3"}


@pytest.mark.parametrize("kept", ["junk", "-5", "2.5", "9" * 5000], ids=len)
def test_calls_on_disk_that_make_no_sense_are_none(clock, kept):
    assert budget_of(clock, kept).used == 0


def test_notes_on_disk_that_are_no_text_are_ignored(tmp_path):
    """Somebody had a try at the file by hand."""
    with contextlib.closing(SqliteStore(tmp_path / "doorpi.db")) as store:
        store.events.keep(Notes({"relock": "", "calls": "7"}))
        with contextlib.closing(sqlite3.connect(store.events.path)) as db, db:
            db.execute("UPDATE states SET value = x'00FF'")

        assert (store.events.recall("relock"), store.events.recall("calls")) == (
            None,
            None,
        )
        store.events.keep(Notes({"relock": "again"}, {"calls": 2}))
        assert (store.events.recall("relock"), store.events.recall("calls")) == (
            "again",
            "2",
        )


def test_calls_of_two_processes_are_counted_together(tmp_path):
    one, other = (SqliteStore(tmp_path / "doorpi.db") for _ in range(2))

    for store, calls in ((one, 3), (other, 2), (one, 1)):
        store.events.keep(Notes(counts={MONTH: calls}))

    assert other.events.recall(MONTH) == "6"
    one.close()
    other.close()


def test_calls_are_counted_when_a_stop_interrupts(world):
    world.lock.progress = [doorpi.Stopped(15)]

    with pytest.raises(doorpi.Stopped):
        tap(world)

    assert calls_kept(world) == {MONTH: "3"}


# -- what is left decides


@pytest.mark.parametrize(
    ("calls", "questions"),
    [(0, None), (2699, None), (2700, 1), (2909, 1), (2910, 0), (3000, 0), (9999, 0)],
)
def test_confirmations_left_by_calls_used(clock, calls, questions):
    budget = budget_of(clock, str(calls))

    assert budget.confirmations_left() == questions


def test_saving_asks_once_from_90_percent(world):
    used(world, 2700)
    world.lock.progress = [Progress.PENDING] * 9

    assert tap(world) == (
        Result.UNSURE,
        "not confirmed within 3 s: 2,700 of this month's 3,000 calls are used (90 %)",
    )
    assert world.lock.calls == 3


def test_saving_is_not_seen_when_the_lock_confirms(world):
    used(world, 2700)

    assert tap(world) == (Result.UNLOCKED, "")


def test_saving_asks_nothing_from_97_percent(world):
    used(world, 2910)

    assert tap(world) == (
        Result.UNSURE,
        "not confirmed within 0 s: 2,910 of this month's 3,000 calls are used (97 %)",
    )
    assert world.lock.calls == 2  # a toggle must look before


def test_saving_skips_a_look_that_decides_nothing(world):
    used(world, 2910)

    tap(world, on_tap="unlock", on_unknown="unlock")

    assert world.lock.calls == 1
    assert [command for _, command in world.lock.sent] == [Command.UNLOCK]


def test_saving_does_not_apply_to_a_relock(world):
    used(world, 2910)
    settings = replace(config_of(card_of()), lock=LockConfig(relock_after_s=5.0))
    door = world.door(settings)
    world.reader.shows = [KEN]

    for _ in range(200):
        door.step()

    assert [event.result for event in world.store.events.values()] == [
        "unsure",
        "locked",
    ]


def test_calls_per_month_of_the_settings_replaces_the_vendors(world):
    used(world, 2910)
    lock = LockConfig(calls_per_month=30_000)

    event = world.tap(KEN, config=replace(config_of(card_of()), lock=lock))

    assert event.result is Result.UNLOCKED


def test_calls_without_a_limit_are_not_read(world):
    world.store.recall = None  # would raise

    budget = CallBudget(world.clock, world.store, "sesame", 0)

    assert budget.confirmations_left() is None
    assert budget.shortage() == ""


# -- who is told


@pytest.mark.parametrize(("calls", "is_told"), [(2396, False), (2397, True)])
def test_warning_from_80_percent_in_journal_and_status(world, caplog, calls, is_told):
    used(world, calls)

    tap(world)

    words = "2,400 of this month's 3,000 calls are used (80 %)"
    assert (words in caplog.messages) is is_told
    assert (f"status: ready; {words}" in world.supervisor.said) is is_told


def test_warning_is_given_at_the_start(world, caplog):
    used(world, 2400)
    world.clock.stop_at = world.clock.t + 2.0

    with pytest.raises(doorpi.Stopped):
        world.door().run()

    assert calls_in_words(2400, PLAN) in caplog.messages


def test_warning_ends_with_the_month(world):
    used(world, 2990)
    door = world.door()
    world.reader.shows = [KEN, *[None] * 9]
    while world.reader.shows or not door.is_idle:
        door.step()
    world.clock.at = datetime(2026, 12, 1, 0, 0, 1, tzinfo=JST)
    world.clock.advance(10.0)

    door.step()

    assert "3,000 calls" in world.supervisor.said[-2]
    assert world.supervisor.said[-1] == "status: ready"


# -- a cloud that wants to be left alone

BLOCKED = "HTTP 403 Forbidden: too many calls"


def test_backoff_is_kept_and_shown(world):
    world.lock.policy = doorpi.SesameMini.policy
    world.lock.statuses = [QuotaError(BLOCKED, 1800.0)]
    door = world.door()

    outcomes = []
    for pause_s in (0.0, 60.0, 1738.0, 60.0):
        world.clock.advance(pause_s)
        world.reader.shows = [KEN, *[None] * 9]
        while world.reader.shows:
            door.step()
        event = list(world.store.events.values())[-1]
        outcomes.append((event.result, event.detail, world.lock.calls))

    assert outcomes == [
        ("refused", BLOCKED, 1),
        ("refused", "rate-limited: no calls for 29 min", 1),
        ("refused", "rate-limited: no calls for 1 min", 1),
        ("unlocked", "", 4),
    ]


def test_backoff_survives_a_restart(world):
    world.lock.statuses = [QuotaError(BLOCKED, 1800.0)]
    tap(world)
    world.clock.advance(600)

    result, detail = tap(world)  # a new door on the same disk

    assert (result, detail) == ("refused", "rate-limited: no calls for 20 min")
    assert world.lock.calls == 1


def test_backoff_holds_without_the_disk(clock):
    budget = budget_of(clock, None)

    budget.back_off(NoteKey.QUOTA, 60.0)
    clock.advance(59.0)

    assert budget.backoff_s(NoteKey.QUOTA) == 1.0


def test_backoff_of_a_verb_reaches_the_door(clock):
    store = FakeStore()
    door, verb = [CallBudget(clock, store, "sesame", PLAN) for _ in range(2)]
    assert door.backoff_s(NoteKey.QUOTA) == 0.0

    verb.back_off(NoteKey.QUOTA, 60.0)
    clock.advance(CallBudget.look_every_s)

    assert door.backoff_s(NoteKey.QUOTA) == 60.0 - CallBudget.look_every_s


def test_backoff_is_read_once_a_second(clock):
    reads: list[str] = []
    budget = budget_of(clock, None)
    budget._events.recall = reads.append

    for _ in range(20):
        budget.backoff_s(NoteKey.QUOTA)
        clock.advance(CallBudget.look_every_s / 10)

    assert len(reads) == 2


def test_quota_error_during_a_tap_ends_all_questions(world):
    world.lock.progress = [QuotaError(BLOCKED, 1800.0), Progress.DONE]

    result, detail = tap(world)

    assert (result, world.lock.calls) == ("unsure", 3)
    assert detail == f"not confirmed within 3 s: {BLOCKED}"


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "boot-1",
        "boot-1 x",
        "other 9999.000",
        "boot-1 nan",
        f"boot-1 {'9' * 400}.000",
    ],
)
def test_backoff_on_disk_that_makes_no_sense_is_none(clock, kept):
    budget = budget_of(clock, kept)

    assert budget.backoff_s(NoteKey.QUOTA) == 0.0


# -- waking a lock

ASLEEP = LockStatus(
    state=LockState.UNKNOWN,
    why="it does not answer its hub",
    reachable=False,
    is_old=True,
)


@pytest.fixture
def sleeper(world):
    world.lock.policy = doorpi.SesameMini.policy
    world.lock.statuses = [ASLEEP]
    return world


def test_wake_comes_before_moving_a_silent_lock(sleeper):
    sleeper.lock.awake = [False, False, True]

    assert tap(sleeper) == (Result.UNLOCKED, "")
    assert [at - 1000 for at, _ in sleeper.lock.sent] == [3.0]


def test_wake_ends_with_the_window(sleeper):
    sleeper.lock.awake = [False] * 99
    sleeper.lock.statuses = [ASLEEP] * 9

    assert tap(sleeper) == (
        "unknown-state",
        "state unknown: it does not answer its hub",
    )
    assert sleeper.clock.t - 1000 < 10.0
    assert sleeper.lock.sent == []


def test_wake_is_limited_to_once_in_five_minutes(sleeper):
    door = sleeper.door()
    wakes = []
    for _ in range(6):
        sleeper.lock.statuses = [ASLEEP] * 9
        sleeper.lock.wakes = [None]
        sleeper.reader.shows = [KEN, *[None] * 9]
        while sleeper.reader.shows:
            door.step()
        wakes.append(1 - len(sleeper.lock.wakes))
        sleeper.clock.advance(100)

    assert wakes == [1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "answers",
    [{"wakes": [MaybeSent("cut")]}, {"awake": [MaybeSent("cut")]}, {"wakes": [None]}],
    ids=str,
)
def test_wake_that_fails_changes_nothing(sleeper, answers):
    vars(sleeper.lock).update(answers)

    assert tap(sleeper) == (
        "unknown-state",
        "state unknown: it does not answer its hub",
    )


def test_wake_ends_with_the_time_of_its_policy(sleeper):
    sleeper.lock.awake = [False] * 99
    sleeper.lock.statuses = [ASLEEP] * 9
    lock = LockConfig(unlock_window_s=60.0)

    sleeper.tap(KEN, config=replace(config_of(card_of()), lock=lock))

    assert sleeper.clock.t - 1000 == pytest.approx(20.0, abs=1.0)


def test_wake_is_not_sent_to_a_lock_with_a_new_state(sleeper):
    sleeper.lock.statuses = [replace(ASLEEP, is_old=False)]

    tap(sleeper)

    assert sleeper.lock.calls == 1


def test_wake_is_not_sent_where_the_vendor_has_none(world):
    world.lock.statuses = [ASLEEP]

    tap(world)

    assert world.lock.calls == 1
