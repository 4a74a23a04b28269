"""A door on fake ports and a clock that jumps, and each of the fakes.

Fakes stand only where DoorPi has a port of its own.  At the edges the tests use the real
thing: nfcpy over its udp driver, gpiozero on mock pins, HTTP over loopback, SQLite files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import doorpi
from doorpi import (
    NO_NOTES,
    Card,
    Command,
    Config,
    Credential,
    Equipment,
    Event,
    LockControl,
    LockPolicy,
    LockState,
    LockStatus,
    Move,
    Notes,
    Outcome,
    Progress,
    Result,
    Signal,
    Stopped,
    StoreError,
    SystemClock,
    Uid,
    Unreadable,
    drive,
)
from tests.helpers.values import replace

JST = timezone(timedelta(hours=9), "JST")
NOON = datetime(2026, 11, 18, 12, 0, tzinfo=JST)  # a Wednesday
KEN = Uid("04A93C715ED284")
MIKA = Uid("D3C2B1A0")
STRANGER = Uid("04FFEEDDCCBBAA")


def card_of(uid: Uid = KEN, holder: str = "Ken Sato", **changes) -> Credential:
    return Credential(uid=uid, holder=holder, **changes)


class FakeClock:
    """Time that passes only when somebody sleeps; ``stop_at`` ends the program."""

    def __init__(self) -> None:
        self.at = NOON
        self.t = 1000.0
        self.set = True
        self.boot_id = "boot-1"
        self.cpu_s = 0.0
        self.stop_at = float("inf")
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    def local(self, at: datetime) -> datetime:
        return at.astimezone(self.at.tzinfo)

    def monotonic(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        if self.t >= self.stop_at:
            self.stop_at = float("inf")
            raise Stopped(15)

    wait = sleep  # nothing ends beside it: its workers are inline

    def wake(self) -> None:
        """Nobody waits beside it."""

    def advance(self, seconds: float) -> None:
        self.t += seconds
        self.at += timedelta(seconds=seconds)

    def is_set(self) -> bool:
        return self.set

    def cpu(self) -> float:
        """So busy that the door looks for cards no more often than it must."""
        self.cpu_s += 1.0
        return self.cpu_s

    def boot(self) -> str:
        return self.boot_id


class QuickClock(SystemClock):
    """The computer's time, and what was slept, which takes none."""

    skipped_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.skipped_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped_s

    def sleep(self, seconds: float) -> None:
        self.skipped_s += seconds

    advance = wait = sleep


class FakeReader:
    """Shows what it is told: each ``sense`` takes the next of ``shows``, then nothing.

    An entry is a UID, None for an empty field, or an exception to raise.
    """

    def __init__(self) -> None:
        self.shows: list[Uid | Exception | None] = []
        self.senses = 0
        self.closed = 0

    def sense(self) -> Card | None:
        self.senses += 1
        shown = self.shows.pop(0) if self.shows else None
        if isinstance(shown, Exception):
            raise shown
        return Card(shown) if shown else None

    def close(self) -> None:
        self.closed += 1


class FakeLock:
    """A lock that follows a script: each list holds what the next calls give or raise.

    Unscripted, it is an honest lock: it answers its state, moves at once and confirms.
    Every call takes ``takes_s`` of the clock.
    """

    def __init__(self, clock: FakeClock, state: LockState = LockState.LOCKED) -> None:
        self.clock = clock
        self.state = state
        self.policy = LockPolicy(confirm_at_s=(0.0,), confirm_every_s=1.0)
        self.is_holding = False
        self.takes_s = 0.0
        self.statuses: list[LockStatus | Exception] = []
        self.sends: list[str | Exception | None] = []
        self.progress: list[Progress | Exception] = []
        self.sent: list[tuple[float, Command]] = []
        self.send_bys: list[float] = []
        self.asked: list[float] = []
        self.answer_within_s: list[float] = []  # for each of asked
        self.wakes: list[str | Exception | None] = []
        self.awake: list[bool | Exception] = []
        self.calls = 0
        self.kept_ready = 0
        self.unreachable = ""
        self.let_gone = 0
        self.closed = 0

    def _next(self, script, otherwise):
        self.clock.advance(self.takes_s)
        self.calls += 1
        answer = script.pop(0) if script else otherwise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def status(self, by: float) -> LockStatus:
        return self._next(self.statuses, LockStatus(state=self.state, reachable=True))

    def prepare(self, by: float) -> None:
        """It needs nothing."""

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        self.sent.append((self.clock.monotonic(), command))
        self.send_bys.append(send_by)
        handle = self._next(self.sends, "task-1")
        self.state = command.target
        return handle

    def confirm(self, sent: doorpi.Sent, by: float) -> Progress:
        self.asked.append(self.clock.monotonic())
        self.answer_within_s.append(by - self.clock.monotonic())
        return self._next(self.progress, Progress.DONE)

    def wake(self, by: float) -> str | None:
        return self._next(self.wakes, "sync-1")

    def is_awake(self, handle: str, by: float) -> bool:
        return self._next(self.awake, True)

    def keep_ready(self) -> None:
        self.kept_ready += 1

    def trouble(self) -> str:
        return self.unreachable

    def wait_released(self) -> None:
        self.let_gone += 1

    def close(self) -> None:
        self.closed += 1


class HeldJob:
    """A call that somebody waits for; it is done when the test has called ``run``."""

    done = False

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.answer, self.error = None, None

    def run(self) -> None:
        try:
            self.answer = self.function()
        except Exception as error:
            self.error = error
        self.done = True

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


class HeldWorker(doorpi.InlineWorker):
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.jobs: list[HeldJob] = []

    def submit(self, function: Callable[[], Any]) -> HeldJob:
        self.jobs.append(HeldJob(function))
        return self.jobs[-1]


class FakeStore:
    """The list and the log in memory; ``broken`` makes every call fail."""

    def __init__(self) -> None:
        self.cards: dict[Uid, Credential] = {}
        self.events: dict[int, Event] = {}
        self.blocks: dict[Uid | str, doorpi.Block] = {}
        self.moved_at: dict[Uid, datetime] = {}
        self.kept: dict[str, str] = {}
        self.lockdown: bool | None = None
        self.broken: str = ""
        self.left_open = 0
        self.closed = 0

    def _check(self) -> None:
        if self.broken:
            raise StoreError(self.broken)

    def find(self, uid: Uid) -> Credential | None:
        self._check()
        return self.cards.get(uid)

    def block_on(self, uid: Uid, holder: str) -> doorpi.Block | None:
        self._check()
        return self.blocks.get(uid) or self.blocks.get(holder)

    def last_moved(self, uid: Uid) -> datetime | None:
        self._check()
        return self.moved_at.get(uid)

    def oldest_at(self) -> datetime | None:
        self._check()
        return min((event.at for event in self.events.values()), default=None)

    def newest_at(self) -> datetime | None:
        self._check()
        return max((event.at for event in self.events.values()), default=None)

    def has_dated_cards(self) -> bool:
        self._check()
        return any(card.needs_clock for card in self.cards.values())

    def has_secure_cards(self) -> bool:
        self._check()
        return any(card.proof for card in self.cards.values())

    def fingerprint_of(self, key: str) -> str:
        self._check()
        return self.kept.get(key, "")

    def keep_fingerprint(self, key: str, text: str) -> None:
        self.keep(Notes({key: text}))

    def add_card(self, card: Credential, at: datetime) -> None:
        self._check()
        self.cards[card.uid] = replace(card, source=doorpi.Origin.DB)

    def locked_down(self) -> bool | None:
        self._check()
        return self.lockdown

    def begin(self, event: Event, notes: Notes = NO_NOTES) -> int:
        self.keep(notes)
        event_id = max(self.events, default=0) + 1
        self.events[event_id] = replace(event, id=event_id)
        return event_id

    def finish(self, event: Event, notes: Notes = NO_NOTES) -> None:
        self.keep(notes)
        self.events[event.id] = event

    def record(self, event: Event, notes: Notes = NO_NOTES) -> None:
        self.finish(replace(event, id=self.begin(event)), notes)

    def keep(self, notes: Notes) -> None:
        self._check()
        self.kept.update(notes.words)
        for name, count in notes.counts.items():
            self.kept[name] = str(int(self.kept.get(name, "0")) + count)

    def recall(self, name: str) -> str | None:
        self._check()
        return self.kept.get(name)

    def close_interrupted(self) -> int:
        self._check()
        return self.left_open

    def forget(self, before: datetime, now: datetime, limit: int) -> int:
        self._check()
        old = [key for key, event in self.events.items() if event.at < before][:limit]
        for key in old:
            del self.events[key]
        return len(old)

    needs_tidying = False

    def tidy(self) -> None:
        self._check()

    def close(self) -> None:
        self.closed += 1


class FakeLights:
    """Remembers what was shown, with the time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.shown: list[tuple[float, tuple[Signal, ...]]] = []
        self.trouble = ""
        self.closed = 0

    def show(self, *signals: Signal) -> None:
        self.shown.append((self.clock.monotonic(), signals))

    @property
    def signals(self) -> list[Signal]:
        """The first signal of each show: what the person saw begin."""
        return [signals[0] for _, signals in self.shown]

    @property
    def standing(self) -> Signal:
        """What goes on after the last result."""
        return self.shown[-1][1][-1]

    def close(self) -> None:
        self.closed += 1


class FakeSwitch(doorpi.Switch):
    """A door contact or a button; ``change`` is what happens on the pin's thread."""

    def __init__(self, *, is_closed: bool | None) -> None:
        self.is_closed_now = is_closed

    def is_closed(self) -> bool | None:
        return self.is_closed_now

    def change(self, is_closed: bool) -> None:
        self.is_closed_now = is_closed
        self.on_change(is_closed)

    def press(self) -> None:
        self.change(True)
        self.change(False)


class FakeSupervisor:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.beats = 0

    def report(self, state: str) -> None:
        self.said.append(state)

    def alive(self) -> None:
        self.beats += 1

    def status(self, text: str) -> None:
        self.said.append(f"status: {text}")


class FakeSettings:
    """``asks`` says at which of the door's questions somebody wants a reload."""

    def __init__(self) -> None:
        self.reload = False
        #: What comes of a reload: problems, or settings; None: those there are.
        self.renewed: object = None
        self.locks: Mapping[str, object] | None = None  # that a reload makes
        self.remembered = 0
        self.earlier: Config | None = None  # what the door had before its start

    def changed(self) -> object:
        asked, self.reload = self.reload, False
        return (self.renewed or Config()) if asked else None

    def apply(self, new: Config, equipment: Any) -> bool:
        equipment.locks = self.locks or equipment.locks
        return self.renewed is new

    def before(self) -> Config | None:
        return self.earlier

    def remember(self) -> None:
        self.remembered += 1


def control_of(lock: Any, clock: Any, confirm_s: float = 30.0, **more) -> LockControl:
    """What moves ``lock``, without a door."""
    more = {"jitter": lambda: 0.0, **more}
    access = doorpi.LockConfig(confirm_s=confirm_s)
    return LockControl(lock, access, FakeStore(), clock, **more)


def config_of(*cards: Credential, **door) -> Config:
    """A configuration with ``cards``, the default lights, and ``door`` settings."""
    return Config(
        door=doorpi.DoorConfig(**door),
        patterns=doorpi.Parser({}).patterns(),
        cards={card.uid: card for card in cards},
    )


@dataclass
class Taps:
    """A lock's driver, the fake cloud that answers it and the one clock of both.

    The whole policy runs: requests are real, and what is waited for takes no time.
    """

    clock: FakeClock
    cloud: Any
    lock: Any

    def tap(self, on_unknown: Command | None = None) -> Outcome:
        """What a card does: the other state; ``on_unknown`` where there is none."""
        turned = {LockState.LOCKED: Command.UNLOCK, LockState.UNLOCKED: Command.LOCK}
        return self.move(lambda state: turned.get(state, on_unknown))

    def move(
        self, choose: Callable[[LockState], Command | None], window_s: float = 10.0
    ) -> Outcome:
        control = control_of(self.lock, self.clock)
        send_by = self.clock.monotonic() + window_s
        steps = control.move(Move(choose, send_by=send_by, intend=lambda command: None))
        return drive(steps, self.clock)

    def status(self) -> LockStatus:
        return self.lock.status(self.clock.monotonic() + 5)

    def send(self, command: Command = Command.UNLOCK) -> str | None:
        now = self.clock.monotonic()
        return self.lock.send(command, now + 5, now + 5)

    def confirm(
        self, command: Command, before: LockStatus | None, handle: str | None = None
    ) -> Progress:
        sent = doorpi.Sent(command, handle, before or LockStatus(LockState.UNKNOWN))
        return self.lock.confirm(sent, self.clock.monotonic() + 5)

    def learn(
        self, command: Command, before: LockStatus | None, handle: str | None = None
    ) -> Progress | str:
        """What ``confirm`` learns, or in words why it is nothing."""
        try:
            return self.confirm(command, before, handle)
        except Unreadable as error:
            return str(error)


@dataclass
class World:
    """A door on fake ports, and each of them."""

    clock: FakeClock = field(default_factory=FakeClock)
    reader: FakeReader = field(default_factory=FakeReader)
    store: FakeStore = field(default_factory=FakeStore)
    supervisor: FakeSupervisor = field(default_factory=FakeSupervisor)
    settings: FakeSettings = field(default_factory=FakeSettings)

    def __post_init__(self) -> None:
        self.lock = FakeLock(self.clock)
        self.fallback: FakeLock | None = None
        self.lights = FakeLights(self.clock)
        self.readers = [self.reader]

    def door(self, config: Config | None = None) -> doorpi.Door:
        store = self.store
        is_fake = isinstance(store, FakeStore)
        config = config or config_of(card_of())
        self.equipment = Equipment(
            sources=self.sources(config),
            locks={"lock": self.lock}
            | ({"fallback": self.fallback} if self.fallback else {}),
            people=store if is_fake else store.people,
            events=store if is_fake else store.events,
            lights={
                name: FakeLights(self.clock) if name else self.lights
                for name in doorpi.lights_of(config)
            },
        )
        return self.door_on_equipment(config)

    def door_on_equipment(self, config: Config, **more) -> doorpi.Door:
        """A door on ``equipment`` as it is now."""
        keeper = doorpi.Doorkeeper(
            config,
            self.equipment,
            self.supervisor,
            self.clock,
            jitter=lambda: 0.0,
            **more,
        )
        return doorpi.Door(keeper, self.settings)

    def sources(self, config: Config) -> list[doorpi.CardSource]:
        """A source for each reader of ``config``; the first shows what ``reader`` does."""
        self.readers = [self.reader, *(FakeReader() for _ in config.readers[1:])]
        return [self.source(config, number) for number in range(len(config.readers))]

    def source(self, config: Config, number: int = 0) -> doorpi.CardSource:
        name, reader = doorpi.inputs_of(config)[number]
        return doorpi.CardSource(
            self.readers[number],
            reader,
            self.clock,
            doorpi.InlineWorker(),
            point=name,
            jitter=lambda: 0.0,
            prove=doorpi.Prover(config.proof.door_key, self.clock.monotonic).prove,
        )

    def tap(self, *shows, config: Config | None = None) -> Event | None:
        """Let the door see ``shows``, a look each, and wait for what comes of it; the
        last event."""
        self.reader.shows = list(shows or [KEN])
        door = self.door(config)
        try:
            while self.reader.shows or not door.is_idle:
                door.step()
        except Stopped as stopped:
            door._stop(stopped)
            raise
        return list(self.store.events.values())[-1] if self.store.events else None


def idle(world: World, door: doorpi.Door, seconds: float) -> None:
    """Let the door look for cards for ``seconds``; whoever comes is in world.reader."""
    ends_at = world.clock.t + seconds
    while world.clock.t < ends_at:
        door.step()


def tap(world: World, door: doorpi.Door) -> None:
    """Ken's card, what comes of it, and then an empty field for a second."""
    world.reader.shows = [KEN]
    door.step()
    while not door.is_idle:
        door.step()
    idle(world, door, 1.0)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


RESULTS = {result.value: result for result in Result}
