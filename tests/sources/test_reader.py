"""Cards through nfcpy itself, over its udp driver: from radio frames to a Card."""

from __future__ import annotations

import contextlib
import ctypes.util
import logging
import random
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest

import doorpi
from doorpi import Card, NfcReader, ReaderLost, Uid
from tests.fakes.virtual import VirtualCard, VirtualField
from tests.helpers.processes import ROOT, environment, open_files
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN

SHORT = "D3C2B1A0"


@pytest.fixture
def reader(radio):
    reader = NfcReader(radio.device)
    yield reader
    reader.close()


def show(radio, *uids: str, **details) -> None:
    radio.put(*(VirtualCard(bytes.fromhex(uid), **details) for uid in uids))


# -- what a card is


CARDS = {
    "4 bytes, MIFARE Classic": (SHORT, 0x08, b"\x04\x00"),
    "7 bytes, NTAG": (KEN, 0x00, b"\x44\x00"),
    "7 bytes, DESFire": ("04112233445566", 0x20, b"\x44\x00"),
    "10 bytes": ("04112233445566778899", 0x18, b"\x84\x00"),
    "with 88 in the middle": ("04118833445566", 0x00, b"\x44\x00"),
}


@pytest.mark.parametrize(("uid", "sak", "atqa"), CARDS.values(), ids=CARDS)
def test_a_card_is_read_with_uid_atqa_and_sak(radio, reader, uid, sak, atqa):
    show(radio, uid, sak=sak)

    assert reader.sense() == Card(Uid(uid), atqa=atqa, sak=sak)


def test_card_is_read_at_every_look(radio, reader):
    show(radio, KEN)

    assert [reader.sense().uid for _ in range(20)] == [KEN] * 20


def test_a_reader_that_a_thread_used_is_closed_by_another_and_used_again(radio, reader):
    """As the door closes it when it stops or the settings change."""
    show(radio, KEN)
    before = open_files()
    found = []
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for thread in (first, second):
            found.append(thread.submit(reader.sense).result().uid)
            reader.close()

    assert found == [KEN, KEN]
    assert open_files() == before


def test_an_empty_field_is_seen_at_once(reader):
    reader.sense()  # opens it
    watch = Stopwatch()

    found = [reader.sense() for _ in range(20)]
    assert watch.own_s < 1.0  # nfcpy would wait 1 s for each
    assert found == [None] * 20


def test_card_that_comes_and_goes_is_noticed(radio, reader):
    assert reader.sense() is None
    show(radio, KEN)
    assert reader.sense().uid == KEN
    radio.take()
    assert reader.sense() is None


def test_two_cards_in_the_field_are_seen_in_turn(radio, reader):
    show(radio, KEN, SHORT)

    seen = [reader.sense().uid for _ in range(6)]

    assert sorted(seen[:2]) == [KEN, SHORT]
    assert seen[2:] == seen[:2] * 2


def test_a_phone_shows_a_new_random_uid_at_each_look(radio, reader):
    show(radio, "08000000", random=True)

    seen = {reader.sense().uid for _ in range(6)}

    assert len(seen) == 6
    assert all(doorpi.is_random(uid) for uid in seen)


def test_card_counts_as_read_only_after_a_reader_looked(radio, reader):
    show(radio, KEN)
    assert not radio.wait_until_read(0)

    reader.sense()

    assert radio.wait_until_read(1)


# -- partners that misbehave


class Partner:
    """A thing in the field that answers a reader's frames from a script.

    ``script`` gives for each frame of the reader (hex) the datagrams to answer with.
    """

    def __init__(self, script: dict[str, list[bytes]]) -> None:
        self.script = script
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.device = f"udp:127.0.0.1:{self.socket.getsockname()[1]}"
        self.heard: list[str] = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            datagram, sender = self.socket.recvfrom(4096)
            if datagram == b"END":
                return
            self.heard.append(datagram.decode().removeprefix("106A "))
            for answer in self.script.get(self.heard[-1], []):
                self.socket.sendto(answer, sender)

    def close(self) -> None:
        self.socket.sendto(b"END", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


@contextlib.contextmanager
def partner_and_reader(script):
    partner = Partner(script)
    reader = NfcReader(partner.device)
    try:
        yield partner, reader
    finally:
        reader.close()
        partner.close()


ATQA7 = {"26": [b"106A 4400"]}
SDD7 = {**ATQA7, "9320": [b"106A 8804a93c19"]}
SEL7 = {**SDD7, "93708804a93c19": [b"106A 04"]}
SECOND = {**SEL7, "9520": [b"106A 715ed28479"]}
WHOLE = {**SECOND, "9570715ed28479": [b"106A 00"]}

LEAVES = {
    "after the ATQA": (ATQA7, "9320"),
    "after the first SDD": (SDD7, "93708804a93c19"),
    "after the first SEL": (SEL7, "9520"),
    "after the second SDD": (SECOND, "9570715ed28479"),
}


@pytest.mark.parametrize(("script", "last_heard"), LEAVES.values(), ids=LEAVES)
def test_a_card_that_leaves_in_the_middle_is_no_card(script, last_heard):
    """nfcpy waits 0.5 s for each missing answer."""
    with partner_and_reader(script) as (partner, reader):
        seen = reader.sense()

        assert seen is None
        assert last_heard in partner.heard
        partner.script = WHOLE
        assert reader.sense() == Card(Uid(KEN), atqa=b"\x44\x00", sak=0)


#: What comes back at the point where a card should say its ATQA, UID part or SAK.
NOISE = {
    "nothing": b"",
    "a space": b" ",
    "no frame": b"106A",
    "an empty frame": b"106A ",
    "not hex": b"106A zz",
    "odd hex": b"106A 123",
    "not ASCII": b"\xff\xfe\x00\x80 00",
    "not ASCII in the frame": b"106A \xff\xfe",
    "two frames": b"106A 44 00",
    "the field goes off": b"RFOFF",
    "a huge frame": b"106A " + b"44" * 20_000,
    "huge noise": random.Random(1).randbytes(60_000),
}
STAGES = {
    "as ATQA": (ATQA7, "26"),
    "as UID": (ATQA7, "9320"),
    "as SAK": (SEL7, "93708804a93c19"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_is_no_card_and_the_next_card_is_read(stage, noise):
    """Nothing worse than a lost reader, which the next look opens again."""
    script, frame = STAGES[stage]
    with partner_and_reader({**script, frame: [noise]}) as (partner, reader):
        with contextlib.suppress(ReaderLost):
            assert reader.sense() is None

        partner.script = WHOLE
        assert reader.sense() == Card(Uid(KEN), atqa=b"\x44\x00", sak=0)


WRONG = {
    "an ATQA of one byte": {**WHOLE, "26": [b"106A 44"]},
    "an ATQA of three bytes": {**WHOLE, "26": [b"106A 440000"]},
    "an ATQA of a Type 1 tag": {**WHOLE, "26": [b"106A 0000"]},
    "a Type 1 tag without a RID": {"26": [b"106A 000c"], "78000000000000": [b""]},
    "a Type 1 tag": {"26": [b"106A 000c"], "78000000000000": [b"106A 110001020304"]},
    "a UID part of one byte": {**ATQA7, "9320": [b"106A 04"], "937004": [b"106A 00"]},
    "a UID part of three bytes": {**ATQA7, "9320": [b"106A 04a1b2"], "937004a1b2": [b"106A 00"]},
    "three levels that all say more": {
        **SEL7,
        "9520": [b"106A 88d4e58039"], "957088d4e58039": [b"106A 04"],
        "9720": [b"106A 715ed28479"], "9770715ed28479": [b"106A 04"],
    },
}  # fmt: skip


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG)
def test_wrong_frames_are_no_card(script):
    with partner_and_reader(script) as (partner, reader):
        assert reader.sense() is None

        partner.script = WHOLE
        assert reader.sense().uid == KEN


UNHEARD = {
    "a wrong check byte": {**ATQA7, "9320": [b"106A 8804a93c00"]},
    "another technology": {"26": [b"106B 4400"]},
}


@pytest.mark.parametrize("script", UNHEARD.values(), ids=UNHEARD)
def test_answers_that_no_card_gives_are_waited_out(script):
    """A real card is silent at a select with a wrong check byte; 0.5 s or 1 s."""
    with partner_and_reader(script) as (_, reader):
        assert reader.sense() is None


def test_a_storm_of_noise_before_the_answer_loses_no_more_than_that_look():
    script = {**WHOLE, "26": [b"106B 4400", b"212F 00", b"106A 4400"]}
    with partner_and_reader(script) as (_, reader):
        assert reader.sense().uid == KEN


def test_random_frames_raise_nothing_but_readerlost():
    """A fuzz with a fixed seed: 300 looks, each with answers of chance."""
    chance = random.Random(20261118)

    def frame() -> bytes:
        data = chance.randbytes(chance.choice((1, 1, 2, 2, 4, 5, 5, 6, 17)))
        return chance.choice((b"106A ", b"106A ", b"106A", b"")) + data.hex().encode()

    class Anything(dict):
        def get(self, heard, default=None):
            return [] if heard == "RFOFF" else [frame(), b"RFOFF"]

    with partner_and_reader(Anything()) as (_, reader):
        for _ in range(300):
            with contextlib.suppress(ReaderLost):
                reader.sense()


# -- readers that come and go


def test_a_field_that_appears_later_is_found():
    placeholder = VirtualField()
    placeholder.close()
    reader = NfcReader(placeholder.device)
    assert reader.sense() is None  # nobody there: nfcpy's 1 s

    radio = VirtualField(port=placeholder.port)
    show(radio, KEN)

    with contextlib.closing(radio), contextlib.closing(reader):
        assert reader.sense().uid == KEN


def lose(reader: NfcReader) -> None:
    """Its device dies under nfcpy."""
    device = reader._frontend.device
    device._create_socket()
    device.socket.close()


def test_failing_reader_is_reported_lost_and_found_again(radio, reader):
    show(radio, KEN)
    assert reader.sense().uid == KEN
    lose(reader)

    with pytest.raises(ReaderLost) as lost:
        reader.sense()

    assert str(lost.value) == f"{radio.device}: bad file descriptor"
    assert lost.value.__cause__ is None
    assert reader.sense().uid == KEN


def test_a_reader_lost_15_times_leaves_no_file_open(radio, reader):
    show(radio, KEN)
    reader.sense()
    before = open_files()

    for _ in range(15):
        lose(reader)
        with pytest.raises(ReaderLost):
            reader.sense()
        assert reader.sense().uid == KEN

    assert open_files() == before


#: What nfcpy's drivers were seen to raise, of which many are no OSError.
TROUBLE = {
    "OSError with a number": (OSError(5, "Input/output error"), "input/output error"),
    "OSError with words of its own": (OSError(2, "no libusb-1.0"), "no libusb-1.0"),
    "OSError without": (OSError("odd"), "odd"),
    "TimeoutError": (TimeoutError(110, "Connection timed out"), "connection timed out"),
    "IndexError": (IndexError("bytearray index out of range"), "bytearray index out of range"),
    "TypeError": (TypeError("'NoneType' object"), "'NoneType' object"),
    "AttributeError": (AttributeError("mute"), "mute"),
    "without words": (RuntimeError(), "RuntimeError"),
    "with control characters": (RuntimeError("a\x1b[31m\nb"), None),
}  # fmt: skip


@pytest.mark.parametrize(("error", "words"), TROUBLE.values(), ids=TROUBLE)
def test_whatever_a_driver_raises_is_a_lost_reader(radio, error, words):
    reader = NfcReader(radio.device)
    reader.sense()

    def fail(target):
        raise error

    reader._frontend.device.sense_tta = fail
    with pytest.raises(ReaderLost) as lost:
        reader.sense()

    assert str(lost.value).isprintable()
    assert words is None or str(lost.value) == f"{radio.device}: {words}"
    assert reader.sense() is None  # a new device
    reader.close()


def test_the_exceptions_of_termios_and_pn53x_are_lost_readers_too(radio):
    import termios

    import nfc.clf.pn53x

    for error in (
        termios.error(5, "Input/output error"),
        nfc.clf.pn53x.Chipset.Error(0x7F, "ERROR"),
    ):
        reader = NfcReader(radio.device)
        reader.sense()

        def fail(target, error=error):
            raise error

        reader._frontend.device.sense_tta = fail
        with pytest.raises(ReaderLost):
            reader.sense()
        reader.close()


def test_stop_is_not_treated_as_a_lost_reader(radio, reader):
    reader.sense()

    def stopped(target):
        raise doorpi.Stopped(15)

    reader._frontend.device.sense_tta = stopped

    with pytest.raises(doorpi.Stopped):
        reader.sense()


HAS_LIBUSB = ctypes.util.find_library("usb-1.0")
NO_USB = None if HAS_LIBUSB else "usb:ffff:ffff: cannot find a suitable libusb-1.0"
NO_READER = {
    "no such port": ("tty:nosuch:pn532", "tty:nosuch:pn532: no reader found"),
    "nothing on USB": ("usb:ffff:ffff", NO_USB),
    "a name that is none": ("udp:no.such.host.invalid:54321", None),
}


@pytest.mark.parametrize(("path", "words"), NO_READER.values(), ids=NO_READER)
def test_path_without_a_reader_is_reported_in_words(path, words):
    reader = NfcReader(path)

    for _ in range(2):
        with pytest.raises(ReaderLost) as lost:
            reader.sense()
        assert str(lost.value).startswith(f"{path}: ")
        assert "unknown error" not in str(lost.value)
        assert words is None or str(lost.value) == words
    reader.close()


def test_closing_is_possible_at_any_time(radio):
    reader = NfcReader(radio.device)
    reader.close()  # never opened
    reader.close()
    reader.sense()
    reader.close()  # open
    reader.close()  # closed
    reader.sense()
    lose(reader)
    reader.close()  # dead
    show(radio, KEN)
    assert reader.sense().uid == KEN  # and it opens again
    reader.close()


def test_a_closed_reader_holds_no_file(radio):
    NfcReader(radio.device).sense()  # what Python itself opens once
    before = open_files()
    reader = NfcReader(radio.device)
    show(radio, KEN)
    reader.sense()

    reader.close()

    assert open_files() == before


def test_close_releases_a_serial_device_that_does_not_answer():
    """The transport is closed even when the device can no longer be spoken to."""
    closed = []

    class Handle:
        def close(self):
            closed.append("tty")
            raise OSError(5, "Input/output error")

    class Transport:
        tty = Handle()

        def close(self):
            closed.append("transport")

    class Device:
        class chipset:  # noqa: N801
            transport = Transport()

        def mute(self):
            raise AssertionError("a lost device is not spoken to")

    class Frontend:
        device = Device()

        def sense(self, target):
            raise OSError(5, "Input/output error")

    reader = NfcReader("tty:S0:pn532")
    reader._frontend = frontend = Frontend()
    reader._targets = repeat([None])

    with pytest.raises(ReaderLost, match=r"^tty:S0:pn532: input/output error$"):
        reader.sense()

    assert closed == ["tty", "transport"]
    assert frontend.device is None


# -- the import


def test_nfcpy_is_quiet(radio, reader, caplog):
    caplog.set_level(logging.INFO)
    show(radio, KEN)

    reader.sense()
    lose(reader)
    with pytest.raises(ReaderLost):
        reader.sense()

    names = {record.name for record in caplog.records}
    assert names <= {"doorpi"}
    assert logging.getLogger("nfc").level == logging.CRITICAL


def test_reader_is_logged_with_its_name(radio, reader, caplog):
    caplog.set_level(logging.INFO, "doorpi")

    reader.sense()

    expected = f"card reader: Linux IP-Stack UDP at {radio.device}"
    assert caplog.messages == [expected]


def test_importing_nfcpy_starts_no_program(tmp_path):
    """By itself it runs ldconfig, and gcc and ld where they are."""
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(trace)]
    try:
        subprocess.run([*strace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("strace is missing or may not trace here")
    senses = (
        "import doorpi, ctypes.util; find = ctypes.util.find_library;"
        "doorpi.NfcReader('udp:127.0.0.1:9').close(); doorpi._nfcpy();"
        "assert ctypes.util.find_library is find"
    )

    subprocess.run(
        [*strace, sys.executable, "-c", senses], check=True, cwd=ROOT, env=environment()
    )

    started = trace.read_text().splitlines()
    assert [line for line in started if "execve" in line and "-c" not in line] == []


def test_the_import_of_doorpi_alone_loads_no_nfcpy():
    loaded = "import sys, doorpi; print('nfc' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", loaded],
        capture_output=True, text=True, cwd=Path(ROOT), env=environment(), check=True,
    )  # fmt: skip

    assert done.stdout == "False\n"
