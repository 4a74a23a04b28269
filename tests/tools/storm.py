"""A seeded random storm against every driver: run by hand, prints a table.

    .venv/bin/python tests/tools/storm.py [--taps 1000] [--seed 1] [--kinds sesame tedee ...]

Each tap is the real Door with the real driver, on the fake cloud that plays its vendor
(real HTTP, the tests' clock, so that waits take no time), with a real database.  The
motor takes 0.5 to 6 s; 0.6 s to 6 h lie between two taps, in which at times a person
turns the key by hand, and always does where the bolt stuck half way.  After each tap
CHECKS are made, and a violation names what it takes to play it again.

Two weathers.  "all faults": one tap of five meets up to three faults of all kinds that
this vendor has, at any stage, once or until the tap is over; in one of ten a phone or
another user makes the vendor date its state anew; SwitchBot's status lags by 15 s
instead of 2; and a 403 of the first Sesame API is followed by 30 minutes of them.
"transient only": one tap of five meets one fault at a stage at which it must heal
(Fault.transient_at).  A relay has pins to fail and nothing that heals, so it has one
weather; its pulses take real time.

As wanted is a tap that ended on the other side of where the bolt really was, with the
light that says so.  Where the bolt was still on its way, either side will do.

What no driver can know is counted apart, as "misled": a light that lied, or a command
sent again, because the vendor itself told what was not so and nothing in it gave it
away.  MISLEADING lists those, with the reason.  None of them is transient.

The seed's flow under the same storm (same dice, motor and hand): blink 3 s, ask, wait
1 s, command the opposite; its light says success when nothing was raised, whatever was
answered.  It has no timeouts: assumed is that the server ends what hangs after 60 s.
Its light lied when it said success and the bolt was not there 30 s later, or error and
its command had turned it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import requests
from gpiozero import Device, GPIOPinInUse

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import doorpi
from doorpi import Command, LockConfig, Result, Signal, SqliteStore
from tests.fakes.board import GPIO, BrokenBoard
from tests.fakes.cloud import STAGES, FakeCloud, Fault, Reply, Request
from tests.fakes.locks import DRIVERS, access_to, driver_of
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeClock, World, card_of, config_of

WINDOW_S, CONFIRM_S = 10.0, 30.0
REARM_S = 0.6  # a card must have left the field for as long
KINDS = (*DRIVERS, "relay")

#: At which vendor which fault tells what is not so, and nothing gives it away.
MISLEADING: dict[str, dict[str, str]] = {
    "sesame-mini": {"stale": "its status has no date"},
    "switchbot": {"stale": "its status has no date, and lagged by more than 15 s"},
    "nuki-bridge": {"stale": "its list has a date of the bridge's own clock"},
    "tedee": {
        "stale": "its status has no date",
        "uncalibrated": "the operation is told to be done, and the state of this one"
        " request is not asked for",
    },
}
#: Where there is a date, it misleads when a phone or another user renewed it.
REDATED = {"sesame": ("stale",), "nuki-web": ("stale",)}

MINUTE_S, HOUR_S = 60.0, 3600.0
PAUSES_S = (REARM_S, 3.0), (3.0, MINUTE_S), (MINUTE_S, 600.0), (600.0, 6 * HOUR_S)
HAND_S = 20.0  # it turns so long before the next tap: longer than any status lags
FAULT_RESULTS = (Result.REFUSED, Result.UNREACHABLE, Result.UNKNOWN_STATE)
MANY = (1, 1, 1, 2, 2, 3)  # faults in a tap that meets any
TIMES = (1, 1, 1, inf)
SIDES = {"locked": "unlocked", "unlocked": "locked"}


@dataclass(frozen=True)
class Weather:
    """``share`` of the taps meet faults."""

    seed: int
    only_transient: bool
    share: float = 0.2

    def __str__(self) -> str:
        return "transient only" if self.only_transient else "all faults"


# -- what happens in a tap


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; ``told`` is where the answer puts the bolt, and at
    what time it was there, None when it tells nothing of that."""

    at: float
    request: Request
    command: Command | None
    fault: str
    reply: Reply
    told: tuple[float, str] | None

    @property
    def target(self) -> str:
        return self.command.target if self.command else ""

    @property
    def is_refused(self) -> bool:
        """Told that it had no effect; 404: a Nuki bridge, of a lock of another type."""
        is_busy = b"DEVICE_IS_BUSY" in self.reply.body
        is_whole = self.reply.delivery == "whole"
        return is_whole and (self.reply.status in (404, 423, 429, 503) or is_busy)

    def __str__(self) -> str:
        what = self.command or self.request.path.rpartition("/")[2].partition("?")[0]
        return f"{what} {self.fault or 'ok'}"


@dataclass
class Tap:
    """What one tap met and what came of it; times are the clock's."""

    number: int
    began_at: float
    was: str  # where the bolt was
    exchanges: list[Exchange] = field(default_factory=list)
    is_redated: bool = False
    event: doorpi.Event | None = None
    events: int = 0
    lights: list[tuple[float, Signal]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # the bolt, at each of lights
    moved: int = 0  # commands that took effect

    @property
    def commands(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.command]

    @property
    def faults(self) -> list[str]:
        return [exchange.fault for exchange in self.exchanges if exchange.fault]

    @property
    def result(self) -> str:
        return (self.event and self.event.result) or "no result"

    @property
    def is_as_wanted(self) -> bool:
        wanted = [SIDES[self.was]] if self.was in SIDES else list(SIDES)
        return self.result in wanted and self.places[-1:] == [self.result]

    def __str__(self) -> str:
        played = ", ".join(
            f"{exchange.at - self.began_at:.1f} s {exchange}"
            for exchange in self.exchanges
        )
        return f"{self.was} -> {self.result} [{played}]"


class Dice:
    """The plan of one tap, the same for whoever takes it."""

    def __init__(self, weather: Weather, kind: str, number: int) -> None:
        self._roll = roll = random.Random(f"{weather.seed} {weather} {kind} {number}")
        self.pause_s = roll.uniform(*roll.choice(PAUSES_S))
        self.has_hand = self.pause_s > 2 * HAND_S and roll.random() < 0.2
        self.motor_s = roll.uniform(0.5, 6.0)
        self.redated_s = roll.uniform(0.0, 15.0)
        self.is_redated = not weather.only_transient and roll.random() < 0.1
        self.has_faults = roll.random() < weather.share
        self._only_transient = weather.only_transient

    def faults(self, known: Mapping[str, Fault]) -> list[tuple[str, str, float]]:
        """What happens, at which stage, to how many of its requests."""
        roll = self._roll
        if not self.has_faults:
            return []
        if self._only_transient:
            heals = [
                (name, at) for name in sorted(known) for at in known[name].transient_at
            ]
            return [(*roll.choice(heals), 1)]
        return [
            (
                roll.choice(sorted(known)),
                roll.choice((*STAGES, "any")),
                roll.choice(TIMES),
            )
            for _ in range(roll.choice(MANY))
        ]


class Witness:
    """Stands before a cloud: makes the weather, keeps what was asked and answered."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._cloud = cloud
        self._next_fault, self._respond = cloud.next_fault, cloud.respond
        cloud.next_fault = self.next_fault  # type: ignore[method-assign]
        cloud.respond = self.respond  # type: ignore[method-assign]
        self._fault = ""
        self.exchanges: list[Exchange] = []

    def begin(self, dice: Dice) -> None:
        self.exchanges = []
        self._cloud.new_tap()
        for name, at, times in dice.faults(self._cloud.faults):
            self._cloud.fail(name, at, times)

    def next_fault(self, stage: str) -> Fault:
        fault = self._next_fault(stage)
        faults = self._cloud.faults.items()
        self._fault = next((name for name, known in faults if known is fault), "")
        if self._fault in ("blocked", "403") and hasattr(self._cloud, "_blocked_until"):
            # As documented: who was told so once is told so for 30 minutes.
            self._cloud._blocked_until = self._cloud.clock.monotonic() + 1800.0
        return fault

    def respond(self, request: Request) -> Reply:
        at, self._fault = self._cloud.clock.monotonic(), ""
        reply = self._respond(request)
        command = self._cloud.command_of(request)
        told = None if command else self._told(request, reply)
        self.exchanges.append(Exchange(at, request, command, self._fault, reply, told))
        return reply

    def _told(self, request: Request, reply: Reply) -> tuple[float, str] | None:
        fault = self._cloud.faults.get(self._fault, Fault(acts=True))
        is_right = fault.acts and fault.reply is None and reply.status < 300
        of_a_task = "action-result" in request.path or "/operation/" in request.path
        if not is_right or reply.delivery != "whole" or of_a_task:
            return None
        now = self._cloud.clock.monotonic()
        lag_s = fault.during.get("lag_s", self._cloud.lag_s)
        seen_at = now if "/lockState" in request.path else now - float(str(lag_s))
        return seen_at, str(fault.during.get("shown") or self._cloud.bolt.at(seen_at))


# -- what must hold after each tap, and what a driver cannot know

Check = Callable[["Tap", Any], Iterator[str]]


def no_late_unlock(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    for exchange in tap.commands:
        after_s = exchange.at - tap.began_at
        if exchange.command is Command.UNLOCK and after_s > WINDOW_S + 0.001:
            yield f"an unlock left {after_s:.1f} s after the card"


def nothing_delivered_when_the_network_is_back(
    tap: Tap, storm: CloudStorm
) -> Iterator[str]:
    for at, command in storm.cloud.late_ones():
        yield f"{command} was delivered {at - tap.began_at:.1f} s after the card"


def nothing_but_one_explicit_command(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    if len({exchange.command for exchange in tap.commands}) > 1:
        yield "two different commands"
    for exchange in tap.exchanges:
        request = exchange.request
        is_question = (
            request.method == "GET"
            or b'"sync"' in request.body
            or request.path.endswith("/sync")
        )
        if exchange.command is None and not is_question:
            yield f"neither question nor command: {exchange.request.body!r}"


def no_command_on_a_guess(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    for exchange in tap.exchanges:
        if exchange.told:
            return
        if exchange.command:
            yield "a command without a status before it"
            return


def not_twice_unless_shown_to_have_no_effect(
    tap: Tap, storm: CloudStorm
) -> Iterator[str]:
    sent = [at for at, exchange in enumerate(tap.exchanges) if exchange.command]
    for first_at, second_at in pairwise(sent):
        first, *between = tap.exchanges[first_at:second_at]
        is_shown = any(
            each.told and each.told[0] >= first.at and each.told[1] != first.target
            for each in between
        )
        if not (first.is_refused or is_shown):
            yield "sent twice, and nothing showed that the first had no effect"


def no_light_that_lies(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    for (_, light), place in zip(tap.lights, tap.places, strict=True):
        if light in (Signal.UNLOCKED, Signal.LOCKED) and place != light:
            yield f"the light said {light}, the bolt was {place}"
    is_jammed = "jammed" in tap.faults or "jammed" in tap.places
    said_no = is_jammed and tap.result is Result.REFUSED
    if tap.result in FAULT_RESULTS and tap.moved and not said_no:
        yield f"{tap.result}, and a command took effect"


def one_event_with_its_outcome(tap: Tap, storm: Storm) -> Iterator[str]:
    event = tap.event
    if tap.events != 1 or event is None:
        yield f"{tap.events} events"
        return
    if event.result is None or event.latency_ms is None:
        yield "an event without outcome"
        return
    lights = [light for _, light in tap.lights]
    if lights != [Signal.WORKING, doorpi.RESULT_SIGNALS[event.result]]:
        yield f"lights {', '.join(lights)} for {event.result}"


def the_event_names_the_command(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    sent = {exchange.command for exchange in tap.commands}
    if tap.event and sent - {tap.event.command}:
        yield f"the event tells of {tap.event.command}"


def an_end_in_time(tap: Tap, storm: CloudStorm) -> Iterator[str]:
    took_s = tap.lights[-1][0] - tap.began_at if tap.lights else inf
    if took_s > storm.longest_s:
        yield f"the tap took {took_s:.1f} s, and may take {storm.longest_s:.1f}"


#: Those that a vendor can mislead the driver in.
MISLED: tuple[Check, ...] = (
    not_twice_unless_shown_to_have_no_effect,
    no_light_that_lies,
)
CHECKS: tuple[Check, ...] = (
    no_late_unlock,
    nothing_delivered_when_the_network_is_back,
    nothing_but_one_explicit_command,
    no_command_on_a_guess,
    the_event_names_the_command,
    an_end_in_time,
    one_event_with_its_outcome,
    *MISLED,
)


# -- the storm


@dataclass
class Figures:
    """What is told of one driver in one weather."""

    kind: str
    weather: Weather
    taps: int = 0
    faults: int = 0
    as_wanted: int = 0
    results: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    sent_again: int = 0
    last_unlock_s: float | None = None
    misled: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    def count(self, tap: Tap) -> None:
        self.taps += 1
        self.faults += len(tap.faults)
        self.as_wanted += tap.is_as_wanted
        self.results[tap.result] += 1
        self.sent += len(tap.commands)
        self.sent_again += max(0, len(tap.commands) - 1)
        for exchange in tap.commands:
            if exchange.command is Command.UNLOCK:
                after_s = exchange.at - tap.began_at
                self.last_unlock_s = max(self.last_unlock_s or 0.0, after_s)


def held() -> tuple[int, int]:
    """How many threads and file descriptors this process has."""
    gc.collect()
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


class Storm:
    """Taps on one door; a class of its own has what is behind the lock.  The arguments
    that make something are for tests that break it."""

    tidied_up_s = 5.0  # servers' threads end in their own time

    def __init__(
        self,
        kind: str,
        weather: Weather,
        folder: Path,
        make_store: Callable[[Path], SqliteStore] = SqliteStore,
        make_dice: Callable[[Weather, str, int], Dice] = Dice,
    ) -> None:
        self._make_dice = make_dice
        self.kind = kind
        self.weather = weather
        self.figures = Figures(kind, weather)
        self._held, self._threads = held(), threading.enumerate()
        self.clock = FakeClock()
        self.store = make_store(folder / "doorpi.db")
        self._last_id = 0

    def hang(self, lock: Any, access: LockConfig) -> None:
        """Put the door before ``lock``."""
        self.lock = lock
        world = World(clock=self.clock, store=self.store)
        world.lock = lock
        self.reader, self.lights = world.reader, world.lights
        self.door = world.door(replace(config_of(card_of()), lock=access))
        self._equipment = world.equipment

    def run(self, taps: int) -> Figures:
        random.seed(self.weather.seed)  # the pauses in which a connection is reopened
        try:
            for number in range(1, taps + 1):
                dice = self._make_dice(self.weather, self.kind, number)
                for _ in range(8):
                    self.door.step()  # the card has left
                self.clock.advance(dice.pause_s)
                self.prepare(dice)
                self.door.step()
                self.tap(number, dice)
        finally:
            self._equipment.close()
            self.close()
        self.figures.violations += map(self._told, self._found_afterwards(taps))
        return self.figures

    def prepare(self, dice: Dice) -> None:
        """What happens behind the lock before the next tap."""

    def tap(self, number: int, dice: Dice) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Put away what is behind the lock."""

    def present(self, tap: Tap) -> None:
        """The card on the reader, and what came of it."""
        self.lights.shown.clear()
        self.clock.slept.clear()
        self.reader.shows = [KEN]
        while self.reader.shows or not self.door.is_idle:
            self.door.step()
        tap.lights = [(at, signals[0]) for at, signals in self.lights.shown]
        events = list(self.store.events.read(after_id=self._last_id))
        tap.events, tap.event = len(events), events[-1] if events else None
        self._last_id = events[-1].id if events else self._last_id

    def judge(self, tap: Tap, checks: Sequence[Check]) -> None:
        figures = self.figures
        figures.count(tap)
        for check in checks:
            is_misled = check in MISLED and self.is_misled(tap)
            told = figures.misled if is_misled else figures.violations
            told += [self._told(what, tap) for what in check(tap, self)]
        if not tap.is_as_wanted:
            figures.unwanted.append(self._told("not as wanted", tap))

    def is_misled(self, tap: Tap) -> bool:
        """The vendor told it what was not so, and nothing gave it away."""
        names = [*MISLEADING.get(self.kind, ())]
        names += REDATED.get(self.kind, ()) if tap.is_redated else ()
        return bool({*tap.faults} & {*names})

    def _told(self, what: str, tap: Tap | None = None) -> str:
        weather = self.weather
        where = f"--seed {weather.seed} --share {weather.share:g} --kinds {self.kind}"
        when = f"tap {tap.number}: " if tap else "at the end: "
        return f"{where}, {weather}, {when}{what}" + (f": {tap}" if tap else "")

    def _found_afterwards(self, taps: int) -> Iterator[str]:
        with contextlib.closing(SqliteStore(self.store.events.path)) as store:
            events = list(store.events.read())
            problem = store.events.verify()
        if problem:
            yield f"the log is not whole: {problem}"
        if len(events) != taps:
            yield f"{len(events)} events of {taps} taps"
        if [event for event in events if event.result is None]:
            yield "events without outcome"
        for thread in threading.enumerate():
            if not thread.daemon and thread not in self._threads:
                yield f"a thread is left: {thread.name}"
        until = time.monotonic() + self.tidied_up_s
        while (more := self._more_than_before()) and time.monotonic() < until:
            time.sleep(0.01)
        if more:
            yield more

    def _more_than_before(self) -> str:
        before, now = self._held, held()
        is_more = now[0] > before[0] or now[1] > before[1]
        return f"threads and descriptors: {before} before, {now} after" * is_more


class CloudStorm(Storm):
    """Taps on a lock behind a cloud; ``driver`` makes it."""

    def __init__(
        self,
        kind: str,
        weather: Weather,
        folder: Path,
        make_store: Callable[[Path], SqliteStore] = SqliteStore,
        make_dice: Callable[[Weather, str, int], Dice] = Dice,
        driver: Callable[[FakeCloud], Any] = driver_of,
    ) -> None:
        super().__init__(kind, weather, folder, make_store, make_dice)
        self.cloud = DRIVERS[kind](self.clock)
        if kind == "switchbot" and not weather.only_transient:
            self.cloud.lag_s = 15.0  # as was reported
        self.witness = Witness(self.cloud)
        # The storm is about calls that fail, not about how many a plan allows.
        access = access_to(self.cloud, confirm_s=CONFIRM_S, calls_per_month=10**6)
        self.hang(driver(self.cloud), access)
        dialer = self.lock._api.dialer
        # What hangs, hangs for as long as this caller is patient.
        self.cloud.patience_s = lambda request: max(  # type: ignore[method-assign]
            0.001, dialer._in_use.by - self.clock.monotonic() + 0.001
        )

    @property
    def longest_s(self) -> float:
        """The window, the last command's own time, what it is followed for, and the
        second that the last question has at least."""
        policy = self.lock.policy
        return WINDOW_S + (policy.send_try_s or policy.try_s) + CONFIRM_S + 1.1

    def prepare(self, dice: Dice) -> None:
        prepare(self.cloud, dice)

    def tap(self, number: int, dice: Dice) -> None:
        cloud, bolt = self.cloud, self.cloud.bolt
        self.witness.begin(dice)
        moved = len(bolt.moved)
        tap = Tap(number, self.clock.monotonic(), bolt.place)
        tap.is_redated = dice.is_redated
        self.present(tap)
        tap.places = [bolt.at(at) for at, _ in tap.lights]
        tap.exchanges, tap.moved = self.witness.exchanges, len(bolt.moved) - moved
        cloud.requests.clear()
        cloud.received.clear()
        self.judge(tap, CHECKS)
        cloud.late.clear()

    def close(self) -> None:
        self.cloud.close()


def prepare(cloud: FakeCloud, dice: Dice) -> None:
    """What happens behind the door between two taps."""
    bolt = cloud.bolt
    is_stuck = bolt.place == "jammed"
    if is_stuck:
        bolt.is_found("locked")
    elif dice.has_hand and bolt.place in SIDES:
        bolt.is_found(SIDES[bolt.place])
    if is_stuck or dice.has_hand:
        cloud.clock.advance(HAND_S)
    bolt.motor_s = dice.motor_s
    redated = [cloud.clock.monotonic() + dice.redated_s] * dice.is_redated
    for name in {"pushes", "reports"} & vars(cloud).keys():
        setattr(cloud, name, redated)


class RelayStorm(Storm):
    """Taps on a strike.  In half of the cases the last pulse is over before the next
    tap; in the others it is prolonged."""

    #: A pin that cannot be switched on or off, and one that another program has taken
    #: after such a failure.
    faults: Mapping[str, Fault] = {"on": Fault(), "off": Fault(), "busy": Fault()}

    def __init__(
        self,
        kind: str,
        weather: Weather,
        folder: Path,
        make_store: Callable[[Path], SqliteStore] = SqliteStore,
    ) -> None:
        super().__init__(kind, weather, folder, make_store)
        self.board = BusyBoard()
        self._pins_before, Device.pin_factory = Device.pin_factory, self.board
        access = LockConfig(kind="relay", relay_gpio=GPIO, hold_s=0.05)
        self.hang(doorpi.Relay(access, self.clock), access)

    def prepare(self, dice: Dice) -> None:
        if dice.motor_s > 3.25:
            self.lock.wait_released()

    def tap(self, number: int, dice: Dice) -> None:
        board = self.board
        names = [name for name, _, _ in dice.faults(self.faults)]
        is_held = self.lock._pin is not None
        was_open = is_held and board.levels()[-1:] == [True]
        board.fails_at = tuple(level for level in LEVELS if LEVELS[level] in names)
        board.is_busy = "busy" in names and not is_held
        tap = Tap(number, self.clock.monotonic(), "locked")
        began_at = time.monotonic()
        self.present(tap)
        if "off" in names:
            self.lock.wait_released()  # its end must come while it cannot
        board.fails_at, board.is_busy = (), False
        changes = board.changes.get(GPIO, [])
        tap.moved = sum(level for at, level in changes if at >= began_at)
        is_open = was_open or tap.moved
        tap.places = ["unlocked" if is_open else "locked"] * len(tap.lights)
        self.judge(tap, (one_event_with_its_outcome, no_light_that_lies))
        self.figures.faults += len(names) - ("busy" in names and is_held)

    def close(self) -> None:
        Device.pin_factory = self._pins_before


LEVELS = {True: "on", False: "off"}


class BusyBoard(BrokenBoard):
    """Pins of which another program takes hold when nobody else does."""

    is_busy = False

    def pin(self, name: Any, **details: Any) -> Any:
        if self.is_busy:
            raise GPIOPinInUse("GPIO busy")
        return super().pin(name, **details)


# -- the seed


@dataclass
class SeedFigures:
    weather: Weather
    taps: int = 0
    faults: int = 0
    as_wanted: int = 0
    lied: Counter[str] = field(default_factory=Counter)
    late_unlocks: int = 0


class SeedStorm:
    """The same taps for the seed's own flow, on its Sesame mini."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.figures = SeedFigures(weather)
        self.clock = FakeClock()
        self.cloud = DRIVERS["sesame-mini"](self.clock)
        self.cloud.hang_s = 60.0
        self.witness = Witness(self.cloud)
        access = access_to(self.cloud)
        self._url = f"{access.base_url}/sesame/{access.device_id}"
        self._headers = {
            "Authorization": access.api_key.text,
            "Content-type": "application/json",
        }

    def run(self, taps: int) -> SeedFigures:
        for number in range(1, taps + 1):
            dice = Dice(self.weather, "sesame-mini", number)
            self.clock.advance(dice.pause_s)
            prepare(self.cloud, dice)
            self.witness.begin(dice)
            self.tap()
        self.cloud.close()
        return self.figures

    def tap(self) -> None:
        figures, cloud, bolt = self.figures, self.cloud, self.cloud.bolt
        was, moved, began_at = bolt.place, len(bolt.moved), self.clock.monotonic()
        light = self._flow()
        later = bolt.at(self.clock.monotonic() + 30.0)
        figures.taps += 1
        figures.faults += sum(1 for e in self.witness.exchanges if e.fault)
        figures.as_wanted += light == later != was
        figures.lied["success"] += light not in ("error", later)
        has_turned = len(bolt.moved) > moved and later != was
        figures.lied["error"] += light == "error" and has_turned
        figures.late_unlocks += any(
            command is Command.UNLOCK and at - began_at > WINDOW_S
            for at, command in cloud.received
        )
        self.clock.advance(6.0)  # its light, and three seconds more
        cloud.requests.clear()
        cloud.received.clear()

    def _flow(self) -> str:
        """The seed's lines between the card and its light; returns the light."""
        self.clock.advance(3.0)  # blinks
        try:
            status = requests.get(self._url, headers=self._headers)
            self.clock.advance(1.0)
            is_locked = json.loads(status.content)["locked"] == True  # noqa: E712
            command = Command.UNLOCK if is_locked else Command.LOCK
            body = json.dumps({"command": command})
            requests.post(self._url, headers=self._headers, data=body)
        except Exception:
            return "error"
        return str(command.target)


# -- the table


def storm_of(kind: str, weather: Weather, folder: Path) -> Storm:
    storm = RelayStorm if kind == "relay" else CloudStorm
    return storm(kind, weather, folder)


def weathers_of(kind: str, seed: int, share: float) -> list[Weather]:
    is_transient = [False] if kind == "relay" else [False, True]
    return [Weather(seed, only_transient, share) for only_transient in is_transient]


HEAD = (
    f"{'driver':<13}{'weather':<15}{'taps':>6}{'faults':>8}{'as wanted':>11}{'sent':>7}"
    f"{'again':>7}{'last unlock':>13}{'misled':>8}{'violations':>12}  results"
)


def first_cells(name: str, figures: Figures | SeedFigures) -> str:
    percent = 100 * figures.as_wanted / max(1, figures.taps)
    counts = f"{figures.taps:>6}{figures.faults:>8}{percent:>9.1f} %"
    return f"{name:<13}{figures.weather!s:<15}{counts}"


def row(figures: Figures) -> str:
    results = ", ".join(f"{n} {result}" for result, n in figures.results.most_common())
    last_s = figures.last_unlock_s
    last = "-" if last_s is None else f"{last_s:.1f} s"
    return (
        f"{first_cells(figures.kind, figures)}{figures.sent:>7}{figures.sent_again:>7}"
        f"{last:>13}{len(figures.misled):>8}{len(figures.violations):>12}  {results}"
    )


def seed_row(figures: SeedFigures) -> str:
    lied = figures.lied
    return (
        f"{first_cells('the seed', figures)}   its light lied: success"
        f" {lied['success']}, error {lied['error']};"
        f" unlocks after {WINDOW_S:.0f} s: {figures.late_unlocks}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A seeded storm against every driver.")
    parser.add_argument("--taps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.2, help="taps with faults")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--all", action="store_true", help="tell of each tap not as wanted"
    )
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    told: list[str] = []
    say(HEAD)
    for kind in args.kinds:
        for weather in weathers_of(kind, args.seed, args.share):
            with tempfile.TemporaryDirectory() as folder:
                figures = storm_of(kind, weather, Path(folder)).run(args.taps)
            say(row(figures))
            told += figures.violations
            told += figures.misled + figures.unwanted if args.all else []
    if "sesame-mini" in args.kinds:
        for weather in weathers_of("sesame-mini", args.seed, args.share):
            say(seed_row(SeedStorm(weather).run(args.taps)))
    say(*told)
    return int(bool(told))


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
