"""The door and its reader through every fault that can be played: it comes back by itself.

A real door in real time on nfcpy's own PN532 driver; the chip is emulated on a pty.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gpiozero
import pytest
from cards import card
from conftest import World, card_of, config_of
from gpiozero.pins.mock import MockFactory, MockPin

from doorpi import NfcReader, ReaderConfig, Signal, SystemClock, Uid

RECOVERED_WITHIN_S = 3.0
KEN = "04A1B2C3D4E580"
RESET_GPIO = 4

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


class RealClock(SystemClock):
    def advance(self, seconds: float) -> None:
        """The fakes take no time."""


class Bench(World):
    """A door on ``chip``, one step after the other."""

    def __init__(self, device: str, reset_gpio: int = -1) -> None:
        super().__init__(clock=RealClock())
        self.reader = NfcReader(device, reset_gpio)
        config = replace(
            config_of(card_of(Uid(KEN))),
            reader=ReaderConfig(device=device, poll_s=0.02, rearm_s=0.1),
        )
        self.steps = self.door(config)

    def until(self, condition: Callable[[], object], what: str, within_s=10.0) -> float:
        """Let the door work until ``condition``; the seconds that took."""
        began_at = time.monotonic()
        while not condition():
            self.steps.step()
            took_s = time.monotonic() - began_at
            assert took_s < within_s, f"not within {within_s:g} s: {what}"
        return time.monotonic() - began_at

    def pass_time(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self.steps.step()

    @property
    def taps(self) -> int:
        return len(self.store.events)

    @property
    def is_lost(self) -> bool:
        told = [word for word in self.supervisor.said if word.startswith("status")]
        return told[-1:] != ["status: ready"] and bool(told)


@pytest.fixture
def bench(chip):
    bench = Bench(chip.device)
    yield bench
    bench.reader.close()


def open_files() -> list[str]:
    links = Path("/proc/self/fd")
    return sorted(str(link.readlink()) for link in links.iterdir() if link.exists())


# fmt: off
FAULTS = {
    "unplugged":             (lambda chip: chip.hang_up(),        lambda chip: chip.plug_in()),
    "unplugged in a read":   (lambda chip: chip.hang_up(after=1), lambda chip: chip.plug_in()),
    "unplugged in a byte":   (lambda chip: chip.hang_up(after_bytes=9), lambda chip: chip.plug_in()),
    "mute":                  (lambda chip: chip.mute(),           lambda chip: chip.cure()),
    "mute in a read":        (lambda chip: chip.mute(after=2),    lambda chip: chip.cure()),
    "ack only":              (lambda chip: chip.ack_only(),       lambda chip: chip.cure()),
    "noise":                 (lambda chip: chip.garbage(),        lambda chip: chip.cure()),
    "short frames":          (lambda chip: chip.short_answers(),  lambda chip: chip.cure()),
    "error frames":          (lambda chip: chip.error_frames(),   lambda chip: chip.cure()),
}
# fmt: on


@pytest.mark.parametrize("fault", FAULTS)
def test_the_door_comes_back_by_itself_and_a_card_that_lay_there_acts_once(
    chip, bench, fault
):
    break_it, cure = FAULTS[fault]
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")

    break_it(chip)
    bench.until(lambda: bench.is_lost, "a lost reader")
    bench.pass_time(0.5)  # a few tries more
    cure(chip)
    bench.until(lambda: not bench.is_lost, "recovery", RECOVERED_WITHIN_S)
    bench.pass_time(0.3)

    assert bench.taps == 1  # it lay there all the time
    chip.take()
    bench.pass_time(0.3)
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps == 2, "the next tap")


def test_a_chip_left_at_a_high_speed_is_called_back(chip, bench, caplog):
    """A program before ours was killed; the chip answers nobody at 115200."""
    caplog.set_level("INFO")
    chip.baud = 921600
    chip.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps, "the tap", RECOVERED_WITHIN_S)

    assert chip.baud == 115200
    assert f"{chip.path}: called back from 921600 to 115200 baud" in caplog.messages


@pytest.mark.parametrize("baud", [460800, 230400])
def test_it_is_called_back_from_every_speed_with_noise_on_the_line(chip, bench, baud):
    chip.noise_at_wrong_speed = True
    chip.baud = baud

    bench.until(lambda: chip.senses, "a look for a card", RECOVERED_WITHIN_S)

    assert chip.baud == 115200


def test_we_never_leave_115200_and_never_power_the_chip_down(chip, bench):
    bench.until(lambda: chip.senses > 3, "looks for a card")

    bench.reader.close()

    assert chip.baud == 115200
    assert chip.commands["SetSerialBaudrate"] == 0
    assert chip.commands["PowerDown"] == 0


def test_a_device_that_appears_later_than_the_program_is_found(chip, bench):
    chip.hang_up()
    bench.until(lambda: bench.is_lost, "a lost reader")
    bench.pass_time(1.0)

    chip.plug_in()
    chip.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps, "the tap", RECOVERED_WITHIN_S)


def test_meanwhile_the_light_of_a_lost_reader_blinks(chip, bench):
    bench.until(lambda: chip.senses, "a look for a card")
    chip.hang_up()
    bench.until(lambda: bench.is_lost, "a lost reader")
    lit = bench.lights.standing

    chip.plug_in()
    bench.until(lambda: not bench.is_lost, "recovery")
    bench.pass_time(0.1)

    assert (lit, bench.lights.standing) == (Signal.READER_LOST, Signal.READY)


# -- the reset pin


@pytest.fixture
def reset_line(chip):
    """GPIO 4 at the chip's RSTPD_N."""
    states: list[bool] = []

    class Line(MockPin):
        def _change_state(self, value):
            changed = super()._change_state(value)
            if self.info.name == f"GPIO{RESET_GPIO}" and changed:
                states.append(bool(value))
                if not value:
                    chip.reset()
            return changed

    gpiozero.Device.pin_factory = MockFactory(pin_class=Line)
    yield states
    gpiozero.Device.pin_factory.close()
    gpiozero.Device.pin_factory = None


def test_a_chip_that_only_a_reset_wakes_is_reset(chip, reset_line):
    """Not even a new power-up helps: only what RSTPD_N does."""
    chip.deaf_after_power_down = True
    bench = Bench(chip.device, RESET_GPIO)
    bench.until(lambda: chip.senses, "a look for a card")
    chip.mute()
    bench.until(lambda: bench.is_lost, "a lost reader")
    chip.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps, "the tap", 3 * RECOVERED_WITHIN_S)

    assert chip.resets == 1
    assert reset_line == [True, False, True]
    bench.reader.close()


def test_without_need_the_reset_pin_is_left_alone(chip, reset_line):
    bench = Bench(chip.device, RESET_GPIO)
    bench.until(lambda: chip.senses > 5, "looks for a card")
    chip.hang_up()
    bench.until(lambda: bench.is_lost, "a lost reader")
    chip.plug_in()

    bench.until(lambda: not bench.is_lost, "recovery")

    assert reset_line == []
    bench.reader.close()


def test_a_reset_pin_that_cannot_be_had_is_told_and_the_tries_go_on(
    chip, caplog, monkeypatch
):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "none-such")
    gpiozero.Device.pin_factory = None
    bench = Bench(chip.device, RESET_GPIO)
    chip.mute()
    bench.until(lambda: "cannot be reset by GPIO 4" in caplog.text, "words")

    chip.cure()

    bench.until(lambda: chip.senses, "a look for a card", RECOVERED_WITHIN_S)
    bench.reader.close()


# -- for ever


def test_many_faults_leave_no_file_no_thread_and_no_memory(chip, bench):
    bench.until(lambda: chip.senses, "a look for a card")
    gc.collect()
    files, threads = open_files(), threading.active_count()

    for number in range(36):
        break_it, cure = list(FAULTS.values())[number % len(FAULTS)]
        bench.until(lambda: not bench.is_lost, "recovery")
        break_it(chip)
        bench.until(lambda: bench.is_lost, "a lost reader")
        cure(chip)
        bench.steps._reader_opens_at = 0.0  # no pause: the next step tries
    bench.until(lambda: not bench.is_lost, "recovery")

    gc.collect()
    assert len(open_files()) == len(files)
    assert threading.active_count() == threads


def test_once_a_day_at_a_quiet_moment_it_is_opened_anew(chip, bench):
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")
    opened = chip.commands["SAMConfiguration"]
    bench.reader.renew_s = 0.0

    bench.pass_time(0.2)
    while_there = chip.commands["SAMConfiguration"]
    chip.take()
    bench.until(lambda: chip.commands["SAMConfiguration"] > opened, "opened anew")

    assert while_there == opened
    assert bench.taps == 1
    assert not bench.is_lost
