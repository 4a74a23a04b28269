"""GpioLights on gpiozero's own pins in memory: what the LEDs do, and when."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPin

import doorpi
from doorpi import (
    GpioLights,
    LedsConfig,
    Parser,
    Signal,
    parse_pattern,
)
from tests.fakes.broken_pins import (
    busy_pin,
    misspelt_library,
    no_library,
    silent_failure,
)
from tests.helpers.processes import wait_for
from tests.helpers.stopwatch import Stopwatch, thread_held_up_s

PATTERNS = Parser({}).patterns()
DARK, GREEN, RED, BOTH = (0, 0), (1, 0), (0, 1), (1, 1)
TOLERANCE_S = 0.03


class WatchedPin(MockPin):
    """A pin in memory that tells its factory what it is set to."""

    def _change_state(self, value):
        changed = super()._change_state(value)
        self.factory.note(self.info.name, value, changed)
        return changed


class Change(NamedTuple):
    at: float
    pin: str
    value: bool


class Seen(NamedTuple):
    """A change of the lights that an eye could see."""

    at_s: float
    light: tuple[int, int]  # green, red
    held_up_s: float  # its thread, since it made the change before


class Bench(MockFactory):
    """The pins of one board, and all that happened on them, in order."""

    def __init__(self) -> None:
        super().__init__(pin_class=WatchedPin)
        self.changes: list[Change] = []
        self.changed_by: set[threading.Thread] = set()
        self._state = {"GPIO23": 0, "GPIO22": 0}
        self._shown: list[tuple[float, tuple[int, int], int, float]] = []

    def note(self, pin: str, value: bool, changed: bool) -> None:
        at = time.monotonic()
        self._state[pin] = int(value)
        if pin == "GPIO22":  # each light is set as a whole, and this LED is the last
            green_red = self._state["GPIO23"], self._state["GPIO22"]
            thread = threading.get_ident()
            self._shown.append((at, green_red, thread, thread_held_up_s()))
        if changed:
            self.changes.append(Change(at, pin, value))
            self.changed_by.add(threading.current_thread())

    def lights(self, patterns=None, **leds) -> GpioLights:
        Device.pin_factory = self
        lights = GpioLights(LedsConfig(**leds), patterns or PATTERNS)
        lights.open()  # or its thread does, a moment later
        return lights

    def history(self, since: float) -> list[Seen]:
        """What was seen after ``since``."""
        seen, last, held_up_s = [], None, {}
        for at, light, thread, now_s in list(self._shown):
            if at >= since and light != last:
                more_s = now_s - held_up_s.get(thread, 0.0)
                seen.append(Seen(at - since, light, more_s))
                last, held_up_s[thread] = light, now_s
        return seen


def lit() -> tuple[int, int]:
    """(green, red) as the pins are now."""
    return tuple(int(Device.pin_factory.pin(number).state) for number in (23, 22))


def untimely(seen: list[Seen], due_s: list[float]) -> dict[float, float]:
    """Which changes were not on time, and by how much; late is only what was late
    though nothing held up its thread since the last that was on time."""
    found, excuse_s = {}, 0.0
    for change, due in zip(seen, due_s, strict=True):
        late_s = change.at_s - due
        excuse_s += change.held_up_s
        if not -TOLERANCE_S <= late_s <= TOLERANCE_S + excuse_s:
            found[round(due, 2)] = round(late_s, 3)
        if late_s <= TOLERANCE_S:
            excuse_s = 0.0
    return found


@pytest.fixture(autouse=True)
def own_pins():
    yield
    Device.pin_factory = None


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lights(bench):
    with contextlib.closing(bench.lights()) as lights:
        yield lights


# -- each signal, as PICTURES has it: tests/core/test_signals.py has the table

WATCHED_S, COMPARED_S = 5.2, 5.125  # between two cells


def edges(pattern: doorpi.Pattern) -> list[tuple[float, tuple[int, int]]]:
    """When the lights change, reckoned from the beginning; after the end it is dark."""
    at_s, found = 0.0, []
    for light, seconds in chain(pattern.frames(), [(DARK, COMPARED_S)]):
        if at_s >= COMPARED_S:
            break
        found.append((at_s, light))
        at_s += seconds
    return [
        now for before, now in pairwise([(0.0, None), *found]) if before[1] != now[1]
    ]


def until_seen(board: Bench, since: float, count: int) -> None:
    wait_for(lambda: len(board.history(since)) >= count, f"{count} changes")


@pytest.fixture(scope="module")
def played():
    """Every signal, played at the same time, each on a board of its own."""
    with contextlib.ExitStack() as stack:
        boards = {sign: Bench() for sign in Signal}
        lights = {
            sign: stack.enter_context(contextlib.closing(board.lights()))
            for sign, board in boards.items()
        }
        began = {}
        for sign in Signal:
            began[sign] = time.monotonic()
            lights[sign].show(sign)
        time.sleep(WATCHED_S)  # they are looked at in real time, once for all
        for sign in Signal:
            until_seen(boards[sign], began[sign], len(edges(PATTERNS[sign])))
        history = {sign: boards[sign].history(began[sign]) for sign in Signal}
    Device.pin_factory = None
    return history


@pytest.mark.realtime
@pytest.mark.parametrize("sign", Signal, ids=str)
def test_each_signal_is_played_as_it_is_drawn(played, sign):
    """Every edge counts from the beginning: 6 x 0.5 s must not end late."""
    expected = edges(PATTERNS[sign])

    seen, more = played[sign][: len(expected)], played[sign][len(expected) :]

    assert [change for change in more if change.at_s < COMPARED_S] == []
    assert [change.light for change in seen] == [light for _, light in expected]
    assert untimely(seen, [due_s for due_s, _ in expected]) == {}


def edges_until(count: int, patterns, *signals) -> list[Seen]:
    """The first ``count`` changes of ``signals``, one after the other."""
    bench = Bench()
    with contextlib.closing(bench.lights(patterns)) as lights:
        began = time.monotonic()
        lights.show(*signals)
        until_seen(bench, began, count)
    return bench.history(began)[:count]


@pytest.mark.realtime
def test_a_redrawn_picture_is_the_one_that_is_played():
    patterns = Parser({"signals": {"denied": "1x RRAAGG"}}).patterns()

    seen = edges_until(4, patterns, Signal.DENIED)

    assert [change.light for change in seen] == [RED, BOTH, GREEN, DARK]
    assert untimely(seen, [0, 0.1, 0.2, 0.3]) == {}


# -- one after the other

SHORT = PATTERNS | {
    Signal.LOCKED: parse_pattern("2x GG.."),
    Signal.LOW_BATTERY: parse_pattern("2x R."),
    Signal.READY: parse_pattern("* AA" + 50 * "."),
    Signal.WORKING: parse_pattern("* R."),
}


@pytest.mark.realtime
def test_signals_follow_each_other_and_the_standing_one_stays():
    seen = edges_until(10, SHORT, Signal.LOCKED, Signal.LOW_BATTERY, Signal.READY)

    # fmt: off
    assert [change.light for change in seen] == [
        GREEN, DARK, GREEN, DARK, RED, DARK, RED, DARK, BOTH, DARK,
    ]
    # fmt: on
    due_s = [0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7]
    assert untimely(seen, due_s) == {}


@pytest.mark.realtime
@pytest.mark.parametrize("sign", Signal, ids=str)
def test_show_returns_with_the_first_light_on(bench, lights, sign):
    """On within 50 ms of the card being read: no thread has to wake up for it."""
    first, _ = next(iter(PATTERNS[sign].frames()))

    watch = Stopwatch()
    lights.show(sign)

    assert watch.own_s < 0.05
    assert lit() == first
    assert bench.changed_by == {threading.main_thread()}


@pytest.mark.realtime
def test_the_next_signal_takes_over_at_once_and_nothing_of_the_old_one_follows(bench):
    with contextlib.closing(bench.lights(SHORT)) as lights:
        for phase in range(8):
            lights.show(Signal.WORKING)
            time.sleep(phase * 0.013)  # wherever the old one is
            watch = Stopwatch()
            lights.show(Signal.UNLOCKED)
            taken_over = time.monotonic()

            assert watch.own_s < 0.05
            assert lit() == GREEN
            time.sleep(0.12)  # two more steps of the old one
            since = [change for change in bench.changes if change.at > taken_over]
            assert since == []


def test_many_shows_leave_one_thread_and_the_last_light(lights):
    before = threading.active_count()

    for _ in range(100):
        for sign in (Signal.WORKING, Signal.DENIED, Signal.UNLOCKED):
            lights.show(sign, Signal.READY)

    assert threading.active_count() == before + 1
    assert lit() == GREEN
    lights.close()
    assert threading.active_count() == before


# -- dark at the end


@pytest.mark.parametrize("sign", Signal, ids=str)
def test_close_switches_both_off_in_the_middle_of_anything(bench, sign):
    threads = threading.active_count()
    lights = bench.lights()
    lights.show(sign, Signal.READY)

    lights.close()

    closed = time.monotonic()
    assert bench.history(0)[-1].light == DARK
    assert threading.active_count() == threads
    time.sleep(0.06)  # a cell more
    assert [change for change in bench.changes if change.at > closed] == []


def test_close_works_at_any_time(bench):
    lights = bench.lights()

    lights.close()  # nothing was shown
    lights.close()

    assert bench.changes == []


def test_pins_are_free_again_after_close(bench):
    for _ in range(3):
        lights = bench.lights()
        lights.show(Signal.UNLOCKED)
        assert lit() == GREEN
        lights.close()


def test_leds_between_pin_and_3_3_v_are_lit_by_a_low_pin(bench):
    lights = bench.lights(active_high=False)
    green, red = bench.pin(23), bench.pin(22)
    assert (green.state, red.state) == (True, True)

    lights.show(Signal.UNLOCKED)
    assert (green.state, red.state) == (False, True)
    lights.show(Signal.FAULT)
    assert (green.state, red.state) == (True, False)

    lights.close()
    assert (green.state, red.state) == (True, True)


def test_the_leds_are_on_the_pins_of_the_settings(bench):
    with contextlib.closing(bench.lights(green_gpio=5, red_gpio=6)) as lights:
        lights.show(Signal.DENIED)

        assert (bench.pin(5).state, bench.pin(6).state) == (False, True)
    assert {change.pin for change in bench.changes} == {"GPIO6"}


# -- no lights


def pin_in_use(monkeypatch):
    Device.pin_factory = MockFactory()
    Device.pin_factory.reserve_pins(monkeypatch, "GPIO22")


# fmt: off
FAILURES = [
    (no_library,       "Unable to load any default pin factory!"),
    (misspelt_library, "Unable to find pin factory 'lgpioo'"),
    (busy_pin,         r"'GPIO busy'\n"),
    (silent_failure,   "NotImplementedError"),
    (pin_in_use,       "pin GPIO22 is already in use by <_pytest.monkeypatch.MonkeyPatch"),
]
# fmt: on
CASES = [failure.__name__ for failure, _ in FAILURES]


@pytest.mark.parametrize(("failure", "why"), FAILURES, ids=CASES)
def test_without_gpio_the_lights_are_dark_and_report_why(monkeypatch, failure, why):
    failure(monkeypatch)

    lights = GpioLights(LedsConfig(), PATTERNS)
    lights.open()

    assert lights.trouble.startswith(why.replace("\n", "\\n"))
    lights.show(Signal.UNLOCKED, Signal.READY)
    lights.close()


@pytest.fixture
def soon(monkeypatch):
    """The next try for the pins comes in a moment."""
    monkeypatch.setattr(GpioLights, "backoff_s", (0.05, 0.05))


def until_back(lights: GpioLights) -> None:
    wait_for(lambda: not lights.trouble, "the pins")


def test_busy_pins_are_used_once_they_are_free(bench, soon):
    other_program = MockFactory()
    Device.pin_factory = bench
    bench.reserve_pins(other_program, "GPIO22")
    patterns = PATTERNS | {Signal.READY: parse_pattern("* A")}
    with contextlib.closing(GpioLights(LedsConfig(), patterns)) as lights:
        lights.show(Signal.READY)
        wait_for(lambda: lights.trouble, "the trouble")
        assert lights.trouble.startswith("pin GPIO22 is already in use by")

        bench.release_pins(other_program, "GPIO22")
        until_back(lights)

        wait_for(lambda: lit() == BOTH, "the standing light")


class DyingPin(MockPin):
    """A pin whose daemon may die, as pigpio's does."""

    def _set_state(self, value):
        if self.factory.is_dead:
            raise BrokenPipeError(32, "Broken pipe")
        super()._set_state(value)


@pytest.fixture
def mortal():
    factory = MockFactory(pin_class=DyingPin)
    factory.is_dead = False
    Device.pin_factory = factory
    return factory


def test_failing_pins_leave_the_lights_dark_until_they_work_again(mortal, soon):
    with contextlib.closing(GpioLights(LedsConfig(), PATTERNS)) as lights:
        lights.open()
        mortal.is_dead = True

        lights.show(Signal.UNLOCKED)
        assert "Broken pipe" in lights.trouble

        mortal.is_dead = False
        until_back(lights)
        lights.show(Signal.UNLOCKED)
        assert lit() == GREEN


def test_failing_pins_are_noticed_between_two_shows(mortal, soon):
    """By the thread that plays them, which goes on."""
    with contextlib.closing(GpioLights(LedsConfig(), PATTERNS)) as lights:
        lights.show(Signal.WORKING)
        mortal.is_dead = True
        wait_for(lambda: lights.trouble, "the trouble")

        mortal.is_dead = False
        until_back(lights)
        wait_for(lambda: lit() == GREEN, "the light")


def test_failing_pins_do_not_keep_the_lights_from_closing(mortal):
    lights = GpioLights(LedsConfig(), PATTERNS)
    lights.show(Signal.FAULT)
    mortal.is_dead = True

    lights.close()


def test_gpiozero_is_loaded_by_a_thread_and_the_current_signal_shows_then():
    """In a process of its own, where nobody has loaded it yet."""
    program = """
import sys, time, doorpi
patterns = doorpi.Parser({}).patterns()
lights = doorpi.GpioLights(doorpi.LedsConfig(), patterns)
assert "gpiozero" not in sys.modules
lights.show(doorpi.Signal.NOT_LOCKED)
assert not lights.trouble
ends_at = time.monotonic() + 20
while not (lights._device and any(lights._device.value)) and time.monotonic() < ends_at:
    time.sleep(0.01)
print(any(lights._device.value))
lights.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(doorpi.__file__).parent,
        env=os.environ | {"GPIOZERO_PIN_FACTORY": "mock"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "True\n"
