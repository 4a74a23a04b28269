"""Several readers of one door: each with its name, its direction and its lights."""

from __future__ import annotations

import pytest

import doorpi
from doorpi import (
    LedsConfig,
    LockState,
    ReaderConfig,
    ReaderLost,
    Result,
    Signal,
    Uid,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, MIKA, STRANGER, card_of, config_of

OWN_LEDS = LedsConfig(green_gpio=5, red_gpio=6)
IN = ReaderConfig(name="entrance", direction="in", device="tty:S0:pn532")
OUT = ReaderConfig(name="exit", direction="out")
CARDS = card_of(), card_of(MIKA, "Mika Mori")


class Entry:
    """A door with an entrance and an exit, on fake ports."""

    def __init__(self, world) -> None:
        self.world = world

    def open(self, *readers: ReaderConfig, cards=CARDS, **door) -> Entry:
        config = config_of(*cards, **door)
        config = replace(config, readers=readers or (IN, OUT), **self.more)
        self.door = self.world.door(config)
        self.door._open_sources()
        return self

    more: dict = {}  # noqa: RUF012 -- replaced, never changed

    def tap(self, at: int, uid: Uid = KEN) -> doorpi.Event | None:
        """Present ``uid`` at a reader, until it is answered, and take it away."""
        known = set(self.world.store.events)
        self.world.readers[at].shows = [uid]
        for _ in range(2):
            self.door.step()
        while not self.door.is_idle:
            self.door.step()
        self.idle(2.0)
        new = [e for n, e in self.world.store.events.items() if n not in known]
        return new[-1] if new else None

    def idle(self, seconds: float) -> None:
        ends_at = self.world.clock.t + seconds
        while self.world.clock.t < ends_at:
            self.door.step()

    def lights(self, name: str = "") -> list[Signal]:
        return self.world.equipment.lights[name].signals


@pytest.fixture
def entry(world) -> Entry:
    return Entry(world)


# -- names and lights


def test_each_event_says_at_which_reader_it_was(entry):
    entry.open()

    assert [entry.tap(at).point for at in (0, 1)] == ["entrance", "exit"]


def test_one_reader_has_no_point_whatever_its_name(entry):
    assert entry.open(IN).tap(0).point == ""


def test_an_answer_is_shown_where_the_card_was_presented(entry):
    entry.open(IN, replace(OUT, leds=OWN_LEDS))
    entry.idle(1.0)

    entry.tap(1)
    entry.tap(1, STRANGER)
    entry.idle(5.0)

    assert entry.lights() == [Signal.READY]
    assert entry.lights("exit") == [
        Signal.READY, Signal.WORKING, Signal.UNLOCKED, Signal.DENIED,
    ]  # fmt: skip


def test_a_shared_light_shows_the_answer_of_either(entry):
    entry.open()

    entry.tap(0)
    entry.tap(1, STRANGER)

    assert entry.lights()[-3:] == [Signal.WORKING, Signal.UNLOCKED, Signal.DENIED]


def test_a_fault_is_shown_by_all_lights(entry):
    entry.open(IN, replace(OUT, leds=OWN_LEDS))
    entry.world.store.lockdown = True

    entry.idle(3.0)

    assert entry.lights()[-1] is entry.lights("exit")[-1] is Signal.LOCKED_DOWN


def test_a_move_under_way_at_one_reader_leaves_the_others_light_alone(entry):
    entry.open(IN, replace(OUT, leds=OWN_LEDS))
    entry.world.lock.takes_s = 2.0

    entry.tap(0)

    assert Signal.WORKING not in entry.lights("exit")
    assert [signals[-1] for _, signals in entry.world.lights.shown[-2:]] == [
        Signal.WORKING, Signal.READY,
    ]  # fmt: skip


def test_the_pause_after_many_denials_is_shown_by_all_lights(entry):
    entry.open(IN, replace(OUT, leds=OWN_LEDS))
    entry.idle(1.0)

    for _ in range(10):
        entry.tap(0, STRANGER)

    assert entry.lights("exit") == [Signal.READY, Signal.DENIED]


# -- one fails, the other does not


def test_a_lost_reader_does_not_disturb_the_other(entry):
    entry.open()
    works, lost = entry.world.readers
    lost.shows, works.senses, lost.senses = [ReaderLost("unplugged")] * 999, 0, 0

    event = entry.tap(0)
    entry.idle(10.0)

    assert event.result is Result.UNLOCKED
    assert event.latency_ms == 0
    assert entry.world.supervisor.said[-1] == "status: reader exit: unplugged"
    assert lost.senses < 20  # it has pauses of its own
    assert works.senses > 80


def test_idle_work_is_done_though_the_readers_are_never_idle_together(entry):
    """Each has a thread, which looks most of the time."""
    entry.open()
    sources, at_work = entry.world.equipment.sources, [True, False]

    class Thread:
        busy_s, is_awaited = 0.0, False

        def __init__(self, number: int) -> None:
            self.number = number

        @property
        def is_idle(self) -> bool:
            return not at_work[self.number]

    for number, source in enumerate(sources):
        source.due, source.worker = float("inf"), Thread(number)
        source.poll = lambda now: None
    entry.world.store.lockdown = True

    entry.door.step()

    assert Signal.LOCKED_DOWN in entry.door._keeper.display.troubles


# -- tapping


@pytest.mark.parametrize(
    ("reader", "door", "state", "sent"),
    [
        (IN, "toggle", LockState.UNLOCKED, "lock"),
        (replace(IN, on_tap="unlock"), "toggle", LockState.UNLOCKED, "unlock"),
        (replace(IN, on_tap="toggle"), "unlock", LockState.UNLOCKED, "lock"),
        (OUT, "toggle", LockState.UNLOCKED, "unlock"),
        (replace(OUT, on_tap="toggle"), "unlock", LockState.UNLOCKED, "lock"),
        (IN, "unlock", LockState.UNKNOWN, None),
        (replace(IN, on_tap="unlock"), "toggle", LockState.UNKNOWN, None),
        (OUT, "toggle", LockState.UNKNOWN, "unlock"),
        (replace(OUT, on_tap="toggle"), "toggle", LockState.UNKNOWN, "unlock"),
    ],
)
def test_what_a_tap_does_at_a_reader(entry, reader, door, state, sent):
    entry.world.lock.state = state
    entry.open(reader, replace(OUT, name="other", device="usb:1"), on_tap=door)

    assert entry.tap(0).command == sent
