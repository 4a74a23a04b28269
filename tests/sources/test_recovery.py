"""The door and its reader through every fault that can be played: it comes back by itself.

A real door in real time on nfcpy's own PN532 driver; the chip is emulated on a pty.
"""

from __future__ import annotations

import errno
import gc
import os
import threading
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockPin

import doorpi
from doorpi import (
    Command,
    LockConfig,
    LockState,
    NfcReader,
    Progress,
    ReaderLost,
    Signal,
)
from tests.fakes.cards import card
from tests.helpers.bench import FAULTS, RECOVERED_WITHIN_S, Bench
from tests.helpers.processes import open_files
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import KEN

RESET_GPIO = 4

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture
def bench(chip):
    bench = Bench(chip.device)
    yield bench
    bench.reader.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_door_recovers_from_each_fault_and_a_card_left_there_acts_once(
    chip, bench, fault
):
    break_it, cure = FAULTS[fault]
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")

    break_it(chip)
    bench.until(lambda: bench.is_lost, "a lost reader")
    bench.pass_time(0.3)  # another try or two
    cure(chip)
    bench.until(lambda: not bench.is_lost, "recovery", RECOVERED_WITHIN_S)
    bench.pass_time(1.5 * bench.rearm_s)

    assert bench.taps == 1  # it lay there all the time
    chip.take()
    bench.until(bench.has_forgotten_all_cards, "the field is known to be empty")
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps == 2, "the next tap")


@pytest.mark.realtime
@pytest.mark.parametrize("fault", ["unplugged", "mute"])
def test_reader_recovers_in_time_after_a_week_of_faults(chip, reset_line, fault):
    """The longest wait, the worst of dice and a try that has just begun to fail."""
    bench = Bench(chip.device, RESET_GPIO)
    break_it, cure = FAULTS[fault]
    bench.until(lambda: chip.senses, "a look for a card")
    break_it(chip)
    bench.until(lambda: bench.is_lost, "a lost reader")
    source = next(
        s for s in bench.equipment.sources if isinstance(s, doorpi.CardSource)
    )
    source._backoff = doorpi.Backoff(*source.backoff_s, lambda: 1.0)
    source._backoff._failures = bench.reader._failures = 100_000
    source.due = 0.0
    watch = Stopwatch()
    bench.steps.step()
    tried_s = watch.own_s

    cure(chip)
    took_s = bench.until(lambda: not bench.is_lost, "recovery")

    assert tried_s + took_s < RECOVERED_WITHIN_S
    assert source._backoff._failures == 0  # the next wait is a short one
    bench.reader.close()


def test_reader_lost_during_a_tap_does_not_lose_or_repeat_it(chip, bench):
    send = bench.lock.send
    bench.lock.send = lambda *args: (chip.hang_up(), send(*args))[1]
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.is_lost, "a lost reader")
    served = bench.taps, bench.lock.state

    chip.plug_in()
    bench.until(lambda: not bench.is_lost, "recovery", RECOVERED_WITHIN_S)
    bench.pass_time(0.3)

    assert served == (1, LockState.UNLOCKED)
    assert bench.taps == 1


def test_reader_lost_during_a_relock_keeps_nothing_open(chip):
    """Cards are looked for meanwhile: the lost reader must not end it."""
    bench = Bench(chip.device, lock=LockConfig(relock_after_s=1))
    bench.lock.policy = replace(bench.lock.policy, confirm_at_s=(0.2,) * 5)
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.lock.state is LockState.UNLOCKED, "the tap")
    send = bench.lock.send
    bench.lock.send = lambda *args: (chip.hang_up(), send(*args))[1]
    bench.lock.progress = [Progress.PENDING] * 2

    bench.until(lambda: bench.taps == 2 and bench.steps.is_idle, "locking again")
    bench.pass_time(0.1)
    relock = list(bench.store.events.values())[-1]
    standing = bench.lights.standing
    chip.plug_in()
    bench.until(lambda: not bench.is_lost, "recovery", RECOVERED_WITHIN_S)

    assert (relock.command, relock.result) == (Command.LOCK, "locked")
    assert standing is Signal.READER_LOST
    assert bench.taps == 2
    bench.reader.close()


def test_chip_at_a_high_baud_rate_is_set_back(chip, bench, caplog):
    """A program before ours was killed; the chip answers nobody at 115200."""
    caplog.set_level("INFO")
    chip.baud = 921600
    chip.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps, "the tap", RECOVERED_WITHIN_S)

    assert chip.baud == 115200
    assert f"{chip.path}: set back from 921600 to 115200 baud" in caplog.messages


@pytest.mark.parametrize("baud", [460800, 230400])
def test_chip_is_set_back_from_every_baud_rate_despite_noise(chip, bench, baud):
    chip.noise_at_wrong_speed = True
    chip.baud = baud

    bench.until(lambda: chip.senses, "a look for a card", RECOVERED_WITHIN_S)

    assert chip.baud == 115200


def test_chip_is_set_back_from_the_third_attempt_on(chip, monkeypatch):
    """Each call costs a moment, and most readers that are lost need none."""
    called: list[Path] = []
    monkeypatch.setattr(doorpi, "_set_to_115200", called.append)
    chip.mute()
    reader = NfcReader(chip.device)
    calls = []

    for _ in range(4):
        with pytest.raises(ReaderLost):
            reader.sense()
        calls.append(len(called))

    assert calls == [0, 0, 1, 2]
    assert set(called) == {chip.path}


def test_device_that_is_no_pn532_is_not_set_back(chip):
    """Who knows what those bytes are to it."""
    chip.baud = 921600
    reader = NfcReader(chip.device.replace(":pn532", ":arygon"))

    for _ in range(4):
        with pytest.raises(ReaderLost):
            reader.sense()

    assert chip.baud == 921600


def test_port_is_not_shared_with_other_programs(chip, bench):
    """Both would hear half of what the chip says."""
    bench.until(lambda: chip.senses, "a look for a card")
    other = NfcReader(chip.device)

    for _ in range(4):  # also the rescue
        with pytest.raises(ReaderLost, match="in use by another program"):
            other.sense()

    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")
    assert not bench.is_lost


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


def test_lost_reader_shows_its_light(chip, bench):
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


def test_reset_pin_is_not_used_without_need(chip, reset_line):
    bench = Bench(chip.device, RESET_GPIO)
    bench.until(lambda: chip.senses > 5, "looks for a card")
    chip.hang_up()
    bench.until(lambda: bench.is_lost, "a lost reader")
    chip.plug_in()

    bench.until(lambda: not bench.is_lost, "recovery")

    assert reset_line == []
    bench.reader.close()


def test_fault_that_lasts_for_weeks_is_logged_once(chip, reset_line, caplog):
    caplog.set_level("INFO", "doorpi")
    reader = NfcReader(chip.device, RESET_GPIO)
    reader.sense()
    for _ in range(2):
        chip.hang_up()
        for _ in range(7):
            with pytest.raises(ReaderLost):
                reader.sense()
        chip.plug_in()
        reader.sense()

    reader.close()

    pulse = "the card reader was reset"
    assert caplog.messages == [f"card reader: {reader_name(chip)}", pulse, pulse]
    assert reset_line == [True] + [False, True] * 10


def reader_name(chip) -> str:
    return f"PN532v1.6 at {chip.path}"


def test_a_chip_that_can_be_opened_and_not_be_used_is_named_once(chip, caplog):
    caplog.set_level("INFO", "doorpi")
    reader = NfcReader(chip.device)
    reader.sense()
    reader.close()
    before = chip.commands.total()
    reader._open()
    opening = chip.commands.total() - before
    reader.close()

    errors = []
    for _ in range(5):
        chip.cure()
        chip.short_answers(after=opening)
        with pytest.raises(ReaderLost) as error:  # busy, nfcpy asks again: other words
            reader.sense()
        errors.append(str(error.value))

    assert any("index out of range" in words for words in errors)
    assert caplog.messages == [f"card reader: {reader_name(chip)}"]


def test_reset_pin_that_cannot_be_used_is_logged_and_attempts_go_on(
    chip, caplog, monkeypatch
):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "none-such")
    gpiozero.Device.pin_factory = None
    bench = Bench(chip.device, RESET_GPIO)
    chip.mute()
    bench.until(lambda: "cannot be reset through GPIO 4" in caplog.text, "words")

    chip.cure()

    bench.until(lambda: chip.senses, "a look for a card", RECOVERED_WITHIN_S)
    bench.reader.close()


def test_reload_with_a_reset_pin_makes_a_reader_that_uses_it(tmp_path, chip):
    path = tmp_path / "doorpi.toml"
    text = f'[reader]\ndevice = "{chip.device}"\nLINE[lock]\nkind = "relay"\n'
    path.write_text(text.replace("LINE", ""))
    bench = Bench(chip.device)
    settings = doorpi.make_settings(path, {}, doorpi.ProcessSignals(), bench.clock)
    settings.load()
    bench.reader.sense()
    path.write_text(text.replace("LINE", f"reset_gpio = {RESET_GPIO}\n"))
    equipment = bench.equipment

    settings.apply(doorpi.read_config(path, {}), equipment)

    source = next(s for s in equipment.sources if isinstance(s, doorpi.CardSource))
    assert source.reader._reset_gpio == RESET_GPIO
    source.reader.sense()  # the port is free for it
    source.close()


# -- USB


def test_a_lost_usb_readers_claim_is_released():
    """It has no tty to be closed, and is not spoken to."""
    done: list[str] = []
    transport = SimpleNamespace(close=lambda: done.append("released"))
    device = SimpleNamespace(
        chipset=SimpleNamespace(transport=transport),
        mute=lambda: done.append("spoken to"),
    )

    def gone(target):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    reader = NfcReader("usb:054c:06c3")
    reader._frontend = SimpleNamespace(device=device, sense=gone)
    reader._targets = repeat([None])

    with pytest.raises(ReaderLost, match="usb:054c:06c3: no such device"):
        reader.sense()

    assert done == ["released"]


def test_failed_attempt_releases_its_claim_before_the_next(monkeypatch):
    claims: list[str] = []

    class Claim:
        def __init__(self) -> None:
            self.itself = self  # only the collector finds it
            claims.append("a claim")

        def __del__(self) -> None:
            claims.pop()

    def opened(frontend, path):
        found.append(claims[:])
        Claim()
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    found: list[list[str]] = []
    monkeypatch.setattr(doorpi._nfcpy().ContactlessFrontend, "open", opened)
    reader = NfcReader("usb:054c:06c3")
    gc.disable()

    for _ in range(3):
        with pytest.raises(ReaderLost, match="device or resource busy"):
            reader.sense()

    gc.enable()
    assert found == [[], [], []]
    gc.collect()


def test_another_model_in_its_place_is_opened_by_its_own_name(monkeypatch):
    """`usb` is resolved at each try."""
    there, opened = ["054c:06c3"], []
    monkeypatch.setattr(
        doorpi, "usb_devices", lambda: [(i, Path("x"), "") for i in there]
    )
    nfc = doorpi._nfcpy()
    monkeypatch.setattr(
        nfc.ContactlessFrontend, "open", lambda self, path: opened.append(path)
    )
    reader = NfcReader("usb")

    for plugged_in in (["054c:06c3"], [], ["04e6:5591"]):
        there[:] = plugged_in
        with pytest.raises(ReaderLost, match="usb: no reader found"):
            reader.sense()

    assert opened == ["usb:054c:06c3", "usb", "usb:04e6:5591"]


# -- for ever


def test_many_faults_leave_no_file_no_thread_and_no_memory(chip, bench):
    bench.until(lambda: chip.senses, "a look for a card")
    gc.collect()
    files, threads = open_files(), threading.active_count()

    for number in range(18):
        break_it, cure = list(FAULTS.values())[number % len(FAULTS)]
        bench.until(lambda: not bench.is_lost, "recovery")
        break_it(chip)
        bench.until(lambda: bench.is_lost, "a lost reader")
        cure(chip)
    bench.until(lambda: not bench.is_lost, "recovery")

    gc.collect()
    assert open_files() == files
    assert threading.active_count() == threads


def test_reader_is_reopened_once_a_day_while_no_card_is_there(chip, bench):
    chip.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")
    opened = chip.commands["SAMConfiguration"]
    bench.reader.renew_s = 0.0

    bench.pass_time(0.2)
    while_there = chip.commands["SAMConfiguration"]
    chip.take()
    bench.until(lambda: chip.commands["SAMConfiguration"] > opened, "opened again")

    assert while_there == opened
    assert bench.taps == 1
    assert not bench.is_lost


def test_daily_reopening_that_fails_is_a_fault_like_any_other(chip, bench):
    bench.until(lambda: chip.senses, "a look for a card")
    chip.hang_up(after=4 + 1)  # in the next look but one: that opens it again
    bench.reader.renew_s = 0.0
    bench.until(lambda: bench.is_lost, "a lost reader")
    bench.reader.renew_s = NfcReader.renew_s
    bench.pass_time(0.5)

    chip.plug_in()
    chip.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps, "the tap", RECOVERED_WITHIN_S)
    assert not bench.is_lost


def test_only_a_pn532_is_reopened_daily(radio):
    reader = NfcReader(radio.device)
    reader.sense()
    first = reader._frontend
    reader.renew_s = 0.0

    reader.sense()

    assert reader._frontend is first
    reader.close()
