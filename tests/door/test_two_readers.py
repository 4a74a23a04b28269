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


# -- in, out, and in again


HOUR = {"passback_s": 3600.0}


def reasons(entry: Entry, *taps: tuple) -> list[str]:
    return [entry.tap(*each).reason for each in taps]


def test_in_twice_without_out_is_passback_until_it_is_forgotten(entry):
    entry.open(on_tap="unlock", **HOUR)

    assert reasons(entry, (0,), (0,), (1,), (0,), (0,)) == [
        "granted", "passback", "granted", "granted", "passback",
    ]  # fmt: skip
    entry.world.clock.advance(3600.0)
    assert reasons(entry, (0,)) == ["granted"]


def test_passback_is_of_a_person_and_not_of_a_card(entry):
    cards = card_of(), card_of(MIKA, "ken  sato"), card_of(STRANGER, "Mika Mori")
    entry.open(cards=cards, **HOUR)

    assert reasons(entry, (0,), (0, MIKA), (0, STRANGER), (1, MIKA), (0,)) == [
        "granted", "passback", "granted", "granted", "granted",
    ]  # fmt: skip


def test_out_twice_is_none(entry):
    assert reasons(entry.open(**HOUR), (1,), (1,)) == ["granted", "granted"]


def test_only_a_passage_that_opened_counts(entry):
    entry.open(**HOUR)
    lock = entry.world.lock

    lock.sends = [doorpi.Rejected("jammed")]
    assert entry.tap(0).result is Result.REFUSED
    lock.progress = [doorpi.Unreadable("what?")] * 99
    assert entry.tap(0).result is Result.UNSURE
    assert reasons(entry, (0,)) == ["passback"]


def test_a_tap_that_locks_is_no_passage(entry):
    entry.open(**HOUR)
    entry.world.lock.state = LockState.UNLOCKED

    assert entry.tap(0).command == "lock"
    assert reasons(entry, (0,), (0,)) == ["granted", "passback"]


def test_a_broken_disk_forgets_who_is_in(entry):
    entry.open(**HOUR)
    entry.world.store.broken = "full"

    assert entry.tap(0) is None  # no event
    entry.world.store.broken = ""
    assert reasons(entry, (0,)) == ["granted"]


@pytest.mark.parametrize("second", [OUT, replace(IN, name="side", device="usb:1")])
def test_with_one_direction_passback_is_of_a_card_as_before(entry, second):
    entry.open(replace(IN, direction=""), second, **HOUR)
    entry.world.store.moved_at[KEN] = entry.world.clock.at

    assert reasons(entry, (0,), (0, MIKA)) == ["passback", "granted"]
    assert [key for key in entry.world.store.kept if "present" in key] == []


def test_without_passback_s_it_is_only_noted_who_is_in(entry):
    entry.open()

    assert reasons(entry, (0,), (0,)) == ["granted", "granted"]
    (note,) = (text for key, text in entry.world.store.kept.items() if "present" in key)
    assert doorpi.presence_from(note)["holder"] == "Ken Sato"


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (OUT, "granted"),
        (replace(OUT, exit_needs_schedule=True), "not-permitted-at-this-time"),
        (IN, "not-permitted-at-this-time"),
    ],
)
def test_hours_do_not_limit_the_way_out_unless_it_says_so(entry, reader, reason):
    night = card_of(schedule="none")
    entry.open(reader, replace(IN, name="other", device="usb:1"), cards=[night])

    assert reasons(entry, (0,)) == [reason]


def test_an_exit_lets_out_in_a_lockdown_and_while_a_card_is_enrolled(entry):
    entry.open(cards=[*CARDS, card_of(STRANGER, "Master", role=doorpi.Role.MASTER)])
    entry.tap(0, STRANGER)

    assert reasons(entry, (0,), (1,)) == ["not-permitted-at-this-time", "granted"]
    entry.world.clock.advance(20.0)
    entry.world.store.lockdown = True
    assert reasons(entry, (0,), (1,)) == ["locked-down", "granted"]


def test_an_order_takes_no_card_that_wants_out(entry):
    entry.open()
    order = doorpi.Order.__new__(doorpi.Order)
    order._keeper, order._card = entry.door._keeper, None
    sources = entry.world.equipment.sources
    asked = doorpi.AccessRequest(
        doorpi.Medium.CARD, KEN, entry.world.clock.at, 0.0, 1.0
    )

    assert [order.takes(asked, source) for source in reversed(sources)] == [False, True]


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
