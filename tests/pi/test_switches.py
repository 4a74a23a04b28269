"""Door contact, exit button and buzzer on gpiozero's own pins in memory."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPWMPin

import doorpi
from doorpi import (
    ExitButton,
    GpioBuzzer,
    GpioSwitch,
    InlineWorker,
    LockConfig,
    Medium,
    Parser,
    Relay,
    Result,
    Signal,
    SystemClock,
    parse_pattern,
)
from tests.fakes.broken_pins import busy_pin, no_library
from tests.helpers.processes import wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import NOON, FakeClock, World, config_of

CONTACT, BUTTON, BUZZER, RELAY = 5, 6, 12, 17


@pytest.fixture(autouse=True)
def pins():
    Device.pin_factory = MockFactory(pin_class=MockPWMPin)
    yield Device.pin_factory
    Device.pin_factory = None


@pytest.mark.parametrize("gpio", [2, CONTACT])  # GPIO 2 is pulled up by the board
def test_a_switch_to_ground_reads_closed_and_a_cut_wire_open(pins, gpio):
    with contextlib.closing(GpioSwitch(gpio)) as switch:
        assert switch.is_closed() is False

        pins.pin(gpio).drive_low()
        assert switch.is_closed() is True


@pytest.mark.parametrize("failure", [no_library, busy_pin])
def test_a_pin_that_cannot_be_had_says_why_and_is_tried_again(
    pins, monkeypatch, failure
):
    monkeypatch.setattr(GpioSwitch, "backoff_s", (0.0, 0.0))
    Device.pin_factory = None
    failure(monkeypatch)
    switch = GpioSwitch(CONTACT)
    assert switch.is_closed() is None
    assert switch.trouble

    Device.pin_factory = pins
    assert switch.is_closed() is False
    assert switch.trouble == ""
    switch.close()


class Bench:
    """A door with a relay and an exit button, in real time; it runs on the main thread
    for as long as ``run`` says."""

    def __init__(self, pins) -> None:
        self.clock, self.world = SystemClock(), World()
        lock = LockConfig(kind="relay", relay_gpio=RELAY, hold_s=0.4)
        config = replace(config_of(), lock=lock)
        self.world.clock = self.clock
        self.relay = self.world.lock = Relay(lock, self.clock)
        self.button = ExitButton(GpioSwitch(BUTTON), self.clock)
        self.door = self.world.door(config)
        self.world.equipment.sources[:] = [self.button]
        self.button.open()
        self.pin = pins.pin(BUTTON)
        self.opened: list[float] = []
        relay_pin, change = pins.pin(RELAY), type(pins.pin(RELAY))._change_state

        def noting(value):
            if value and not relay_pin.state:
                self.opened.append(time.monotonic())
            return change(relay_pin, value)

        relay_pin._change_state = noting

    def run(self, seconds: float, *presses: float) -> None:
        """Press for 10 ms at each of ``presses`` seconds, on another thread."""

        def press() -> None:
            for at in presses:
                time.sleep(max(0.0, began_at + at - time.monotonic()))
                self.pressed = time.monotonic()
                self.pin.drive_low()
                time.sleep(0.01)
                self.pin.drive_high()

        began_at = time.monotonic()
        finger = threading.Thread(target=press)
        finger.start()
        while time.monotonic() < began_at + seconds or finger.is_alive():
            self.door.step()
        self.world.equipment.close()


@pytest.mark.realtime
def test_the_relay_opens_within_100_ms_of_the_press(pins):
    bench = Bench(pins)

    watch = Stopwatch()
    bench.run(0.3, 0.1)

    assert len(bench.opened) == 1
    held_up_s = 0.3 - min(0.3, watch.own_s)
    assert bench.opened[0] - bench.pressed < 0.1 + held_up_s
    (event,) = bench.world.store.events.values()
    assert (event.source, event.result) == (Medium.BUTTON, Result.UNLOCKED)


@pytest.mark.realtime
def test_fifty_presses_a_second_open_once(pins):
    bench = Bench(pins)

    bench.run(0.9, *(number / 50 for number in range(1, 40)))

    assert len(bench.opened) == 1
    assert len(bench.world.store.events) == 1


def test_the_worker_of_a_button_is_always_idle(pins):
    assert isinstance(ExitButton(GpioSwitch(BUTTON), FakeClock()).worker, InlineWorker)


# -- the buzzer

QUIET = {Signal.DENIED, Signal.FORCED_OPEN, Signal.HELD_OPEN}
ANSWERS = {
    Signal.UNLOCKED, Signal.LOCKED, Signal.FAULT, Signal.UNSURE, Signal.DENIED,
    Signal.ENROLLED, Signal.LOW_BATTERY,
}  # fmt: skip


def buzzer_of(**doorway) -> GpioBuzzer:
    config = doorpi.DoorwayConfig(buzzer_gpio=BUZZER, **doorway)
    patterns = Parser({}).patterns()
    config = replace(config_of(), doorway=config, patterns=patterns)
    clock = FakeClock()
    clock.at = NOON.replace(hour=23)
    return doorpi.make_buzzer(config, clock)


@pytest.mark.parametrize("sign", Signal, ids=str)
@pytest.mark.parametrize(
    ("quiet", "loud"),
    [((), ANSWERS | QUIET), (("22:00-07:00",), QUIET), (("01:00-02:00",), ANSWERS | QUIET)],
    ids=["always", "at night", "at another time"],
)  # fmt: skip
def test_what_sounds(pins, sign, quiet, loud):
    with contextlib.closing(buzzer_of(quiet=quiet)) as buzzer:
        buzzer.open()
        buzzer.show(sign, Signal.READY)  # each begins with light

        assert bool(pins.pin(BUZZER).state) == (sign in loud)
    assert not pins.pin(BUZZER).state


def test_without_a_set_clock_no_hours_are_quiet():
    doorway = doorpi.DoorwayConfig(buzzer_gpio=BUZZER, quiet=("00:00-24:00",))
    config, clock = replace(config_of(), doorway=doorway), FakeClock()
    buzzer = doorpi.make_buzzer(config, clock)
    assert buzzer.is_quiet()

    clock.set = False
    assert not buzzer.is_quiet()
    trusting = doorpi.DoorConfig(require_synced_clock=False)
    assert doorpi.make_buzzer(replace(config, door=trusting), clock).is_quiet()


def test_a_passive_buzzer_gets_a_tone(pins):
    with contextlib.closing(buzzer_of(buzzer_hz=2000)) as buzzer:
        buzzer.open()
        buzzer.show(Signal.UNLOCKED, Signal.READY)

        assert (pins.pin(BUZZER).frequency, pins.pin(BUZZER).state) == (2000, 0.5)


def test_a_buzzer_that_fails_leaves_the_lights_alone(pins):
    other = buzzer_of()
    pins.reserve_pins(other, f"GPIO{BUZZER}")
    config = replace(config_of(), doorway=doorpi.DoorwayConfig(buzzer_gpio=BUZZER))
    world = World()
    door = world.door(config)
    world.equipment.buzzer = doorpi.make_buzzer(config, world.clock)

    door._keeper.display.show(Signal.DENIED)
    world.equipment.buzzer.open()
    door._keeper.display.update()

    assert Signal.DENIED in world.lights.signals
    assert "no sound" in door._keeper.display.troubles["buzzer"]
    world.equipment.buzzer.close()


def test_the_buzzer_follows_the_rhythm_of_the_light(pins):
    """On the thread of the lights' kind: the same player."""
    patterns = Parser({}).patterns() | {Signal.DENIED: parse_pattern("2x R.")}
    doorway = doorpi.DoorwayConfig(buzzer_gpio=BUZZER)
    config = replace(config_of(), doorway=doorway, patterns=patterns)
    with contextlib.closing(GpioBuzzer(config, FakeClock())) as buzzer:
        buzzer.open()
        buzzer.show(Signal.DENIED, Signal.READY)
        wait_for(lambda: len(pins.pin(BUZZER).states) >= 5, "two tones")

        states = [bool(each.state) for each in pins.pin(BUZZER).states]
    assert states[-4:] == [True, False, True, False] or states[1:5] == [
        True, False, True, False,
    ]  # fmt: skip


# -- doctor

FOUND = {
    "shut, and nobody presses": ((True, False), [("ok", "closed"), ("ok", "released")]),
    "a cut wire, a stuck button": ((False, True), [("warn", "open"), ("warn", "pressed")]),
}  # fmt: skip


@pytest.mark.parametrize(("closed", "found"), FOUND.values(), ids=FOUND)
def test_doctor_says_what_the_pins_say(monkeypatch, closed, found):
    says = dict(zip((CONTACT, BUTTON), closed, strict=True))
    monkeypatch.setattr(GpioSwitch, "is_closed", lambda self: says[self._gpio])
    doorway = doorpi.DoorwayConfig(contact_gpio=CONTACT, exit_button_gpio=BUTTON)

    config = replace(config_of(), doorway=doorway)
    _, *tests = doorpi.part_tests(config, FakeClock())

    assert [subject for subject, _, _ in tests] == ["contact", "button"]
    findings = [finding for _, _, found in tests for finding in found]
    assert [(f.health, f.words.split()[-1]) for f in findings] == found


def test_doctor_plays_two_tones(pins):
    doorway = doorpi.DoorwayConfig(buzzer_gpio=BUZZER)
    config = replace(config_of(), doorway=doorway)

    _, (_, _, findings) = doorpi.part_tests(config, FakeClock())

    (finding,) = findings
    assert finding.health == "ok"
    assert not pins.pin(BUZZER).state
