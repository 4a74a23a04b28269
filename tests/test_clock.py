"""A clock that jumps: nothing that is waited for, and no order of events, depends on it."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from conftest import JST, KEN, NOON, FakeClock, World, card_of, config_of

import doorpi
from doorpi import (
    Command,
    LockConfig,
    NotSent,
    Progress,
    Reason,
    Result,
    SqliteStore,
    SystemClock,
)


class JumpingClock(FakeClock):
    """Each look at the time of day finds another century's; the seconds go on."""

    def __init__(self) -> None:
        super().__init__()
        self._chance = random.Random(11)

    def now(self) -> datetime:
        return self.at + timedelta(days=self._chance.uniform(-20_000, 20_000))


def config(**lock):
    return replace(config_of(card_of()), lock=LockConfig(**lock))


def test_nothing_is_waited_for_by_the_time_of_day():
    """A tap with retries, a confirmation that takes long, locking again after a minute:
    the same seconds as with a clock that goes right."""
    stories = []
    for clock in (FakeClock(), JumpingClock()):
        world = World(clock=clock)
        world.lock.statuses = [NotSent("no network")]
        world.lock.progress = [Progress.PENDING] * 7
        door = world.door(config(relock_after_s=60.0))
        world.reader.shows = [KEN]
        while clock.t < 1200.0:
            door.step()
        stories.append((world.lock.sent, [light[1][0] for light in world.lights.shown]))

    assert [command for _, command in stories[0][0]] == [Command.UNLOCK, Command.LOCK]
    assert stories[1] == stories[0]


def test_events_keep_their_order_and_their_chain_when_the_clock_goes_back(
    world, tmp_path
):
    world.door()
    world.equipment.store = store = SqliteStore(tmp_path / "doorpi.db")
    door = doorpi.Door(
        config(), world.equipment, world.settings,
        clock=world.clock, supervisor=world.supervisor, jitter=lambda: 0.0,
    )  # fmt: skip
    years = (2026, 1970, 2099, 2026)
    for year in years:
        world.clock.at = NOON.replace(year=year)
        world.reader.shows = [KEN, *[None] * 9]
        while world.reader.shows:
            door.step()

    events = list(store.events())
    assert [event.at.year for event in events] == list(years)
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert {event.result for event in events} <= {Result.UNLOCKED, Result.LOCKED}
    assert store.verify() is None
    store.close()


def test_a_card_that_is_valid_until_2040_is_so_on_a_computer_of_32_bits(world):
    """Dates are compared as dates: no time stamp that ends in 2038."""
    card = card_of(valid_from=date(2039, 1, 1), valid_until=date(2040, 12, 31))
    reasons = []
    for year in (2038, 2039, 2040, 2041):
        world.clock.at = datetime(year, 6, 1, 12, 0, tzinfo=JST)
        reasons.append(world.tap(KEN, config=config_of(card)).reason)

    assert reasons == [
        Reason.NOT_ACTIVE,
        Reason.GRANTED,
        Reason.GRANTED,
        Reason.EXPIRED,
    ]


def test_a_clock_that_is_not_set_refuses_dates_and_when_it_is_set_takes_them(world):
    card = card_of(valid_until=date(2027, 1, 1))
    world.clock.set = False
    before = world.tap(KEN, config=config_of(card)).reason
    world.clock.set = True

    after = world.tap(KEN, config=config_of(card)).reason

    assert (before, after) == (Reason.CLOCK_NOT_SET, Reason.GRANTED)


def test_the_seconds_of_one_boot_go_on_from_process_to_process():
    """What a relock's time on disk relies on."""
    clock = SystemClock()

    assert clock.boot() == clock.boot() != "unknown"
    assert abs(clock.monotonic() - time.clock_gettime(time.CLOCK_MONOTONIC)) < 1.0


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo", "America/New_York"])
def test_a_month_of_calls_is_a_month_of_the_doors_own_time(clock, zone):
    clock.at = datetime(2026, 12, 1, 0, 30, tzinfo=ZoneInfo(zone))

    assert doorpi.Ledger(clock, "sesame").month == "calls sesame 2026-12"


# -- is it set?


class Kernel:
    """What the kernel says of the clock, and what the clock shows."""

    def __init__(self) -> None:
        self.synchronised = False
        self.ahead_s = 0.0  # how far somebody has set the clock

    def time(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) + self.ahead_s


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(doorpi, "kernel_says_synchronised", lambda: kernel.synchronised)
    monkeypatch.setattr(doorpi, "CLOCK_MARKER", tmp_path / "set")
    monkeypatch.setattr(doorpi.time, "time", kernel.time)
    return kernel


def test_a_clock_is_set_when_the_kernel_says_so(kernel):
    clock = SystemClock()

    before = clock.is_set()
    kernel.synchronised = True

    assert (before, clock.is_set()) == (False, True)


def test_an_outage_of_the_internet_does_not_unset_a_clock_that_goes_on(kernel):
    """After some 9 hours without NTP the kernel says unsynchronised."""
    clock = SystemClock()
    kernel.synchronised = True
    clock.is_set()

    kernel.synchronised = False

    assert clock.is_set()


@pytest.mark.parametrize("ahead_s", [-3600.0, -61.0, 61.0, 1e9])
def test_a_clock_that_somebody_set_meanwhile_is_not_trusted(kernel, ahead_s):
    clock = SystemClock()
    kernel.synchronised = True
    clock.is_set()

    kernel.synchronised, kernel.ahead_s = False, ahead_s

    assert not clock.is_set()


def test_the_marker_of_doorpi_clock_service_is_the_kernels_word(kernel):
    clock = SystemClock()

    before = clock.is_set()
    doorpi.CLOCK_MARKER.touch()

    assert (before, clock.is_set()) == (False, True)


def test_the_marker_is_written_once_the_kernel_says_so(kernel, monkeypatch):
    waits_s = []

    def wait(seconds):
        waits_s.append(seconds)
        kernel.synchronised = len(waits_s) == 3

    monkeypatch.setattr(doorpi.time, "sleep", wait)

    doorpi.mark_clock_set()

    assert waits_s == [2.0] * 3
    assert doorpi.CLOCK_MARKER.exists()
