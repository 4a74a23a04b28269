"""Reads that never return: bounded where they can be, else ended by the watchdog."""

from __future__ import annotations

import os
import signal
import termios
import time

import nfc.clf.transport
import pytest

import doorpi
from doorpi import NfcReader, ReaderLost
from tests.fakes.cards import card
from tests.helpers.bench import RECOVERED_WITHIN_S
from tests.helpers.processes import ROOT, DoorProcess, wait_for, write_config
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN

HANGING = (str(ROOT / "tests" / "helpers" / "processes.py"), "/dev/null", "--hang")

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


# -- bounded


class Endpoint:
    def getAddress(self) -> int:  # noqa: N802 -- libusb1's name
        return 1

    def getMaxPacketSize(self) -> int:  # noqa: N802 -- libusb1's name
        return 64


class Handle:
    """A USB device that notes how long it is given."""

    def __init__(self) -> None:
        self.timeouts_ms: list[int] = []

    def bulkRead(self, address, size, timeout):  # noqa: N802 -- libusb1's name
        self.timeouts_ms.append(timeout)
        return b"\x00"

    def bulkWrite(self, address, data, timeout):  # noqa: N802 -- libusb1's name
        self.timeouts_ms.append(timeout)

    def close(self) -> None:
        pass


@pytest.fixture
def usb():
    doorpi._nfcpy()
    usb = object.__new__(nfc.clf.transport.USB)
    usb.context = None
    usb.usb_dev, usb.usb_inp, usb.usb_out = Handle(), Endpoint(), Endpoint()
    return usb


def test_usb_reader_is_never_waited_for_without_end(usb):
    """The RC-S380's driver reads and writes with 0, which libusb takes for for ever."""
    usb.read()
    usb.read(timeout=0)
    usb.write(b"\x00")

    assert usb.usb_dev.timeouts_ms == [doorpi.USB_ANSWER_MS] * 3


def test_shorter_timeouts_of_a_driver_are_kept(usb):
    usb.read(timeout=100)
    usb.read(250)
    usb.write(b"\x00", 300)

    assert usb.usb_dev.timeouts_ms == [100, 250, 300]


def test_a_serial_port_that_takes_no_bytes_is_a_lost_reader(chip):
    reader = NfcReader(chip.device)
    reader.sense()
    line = os.open(chip.path, os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(line, termios.TCOOFF)
    watch = Stopwatch()

    with pytest.raises(ReaderLost):
        reader.sense()

    assert watch.own_s < 2.0
    termios.tcflow(line, termios.TCOON)
    assert reader.sense() is None
    os.close(line)
    reader.close()


def test_a_door_whose_reader_is_mute_stops_at_once(tmp_path, chip, cloud):
    config = write_config(tmp_path, cloud, chip.device)
    with DoorProcess(config) as door:
        door.until_ready()
        wait_for(lambda: chip.senses, "looks for a card")
        chip.latency_s = 60.0
        chip.put(card("ntag213", uid=KEN))
        time.sleep(0.05)  # until it waits for what does not come

        code, took_s = door.stop(signal.SIGTERM)

    assert code == 0
    assert took_s < 2.0


# -- ended by the watchdog


def test_a_loop_that_is_stuck_feeds_no_watchdog_is_ended_and_started_again(
    tmp_path, cloud, radio
):
    """What systemd does with WatchdogSec=1 and Restart=always, step by step."""
    config = write_config(tmp_path, cloud, radio.device)
    watched = {"WATCHDOG_USEC": "1000000"}
    with DoorProcess(config, program=HANGING, **watched) as door:
        door.until_ready()
        radio.put(card("ntag213", uid=KEN))
        assert radio.wait_until_read(5)
        last_beats = -1
        while last_beats != (beats := door.manager.said.count("WATCHDOG=1")):
            last_beats = beats
            time.sleep(1.0)  # WatchdogSec

        code, _ = door.stop(signal.SIGABRT)

    assert code == 128 + signal.SIGABRT
    assert beats > 0
    watch = Stopwatch()
    with DoorProcess(config, **watched) as door:
        door.until_ready()
        assert watch.own_s < RECOVERED_WITHIN_S
        door.until_idle(radio)
        assert door.events == []  # the card still lies there
        radio.take()
        door.until_idle(radio, polls=15)
        assert door.tap(radio, KEN).result == "unlocked"


# -- a line that ends


def test_a_reader_that_is_unplugged_does_not_hang_up_on_the_door(tmp_path, cloud, chip):
    """A service leads its session: the port must not become its terminal, whose end is
    SIGHUP, which is our reload."""
    config = write_config(tmp_path, cloud, chip.device)
    with DoorProcess(config, own_session=True) as door:
        door.until_ready()
        wait_for(lambda: chip.senses, "looks for a card")

        chip.hang_up()
        door.until(lambda: "card reader" in door.status, "a lost reader")
        chip.plug_in()
        chip.put(card("ntag213", uid=KEN))
        door.until_event(1)

        assert not [word for word in door.manager.said if "RELOADING" in word]
        assert "settings re" not in door.journal
