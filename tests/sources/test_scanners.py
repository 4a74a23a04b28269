"""QR scanners: a serial one on a pty, a keyboard's events through a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import termios
import threading
import time
from typing import ClassVar

import pytest

import doorpi
from doorpi import (
    INPUT_EVENT,
    LONGEST_SCAN,
    US_KEYS,
    KeyboardScanner,
    Medium,
    ScannerConfig,
    ScannerSource,
    SerialScanner,
    Wants,
)
from tests.helpers.processes import wait_for as until
from tests.helpers.world import FakeClock

CODE = "https://id.example.org/verify.php?token=" + 32 * "a1"


# -- serial


@pytest.fixture
def line():
    """The scanner's end of a serial line, and DoorPi's."""
    ours, theirs = pty.openpty()
    scanner = SerialScanner(ScannerConfig(name="lobby", device=os.ttyname(theirs)))
    scanner.open()
    yield ours, scanner
    scanner.close()
    for fd in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(fd)


def scans(scanner, count: int) -> list[str]:
    found: list[str] = []
    for _ in range(50):
        found += scanner.read(0.1)
        if len(found) >= count:
            break
    return found


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b""])
def test_a_serial_scan_ends_with_cr_lf_both_or_silence(line, end):
    ours, scanner = line

    os.write(ours, CODE.encode() + end)

    assert scans(scanner, 1) == [CODE]


def test_serial_scans_that_come_together_are_several(line):
    ours, scanner = line

    os.write(ours, b"one\r\ntwo\r\r\nthree\n")

    assert scans(scanner, 3) == ["one", "two", "three"]


def test_a_serial_scan_that_comes_in_pieces_is_one(line):
    ours, scanner = line
    os.write(ours, b"first ")
    assert scanner.read(0.0) == []

    os.write(ours, b"second\r")

    assert scans(scanner, 1) == ["first second"]


def test_a_serial_scan_of_10_kb_is_cut_off(line):
    ours, scanner = line
    sender = threading.Thread(target=os.write, args=(ours, 10_000 * b"x" + b"\r"))
    sender.start()

    found = scans(scanner, 1)
    sender.join()

    assert [len(scan) for scan in found] == [LONGEST_SCAN + 1]


def test_a_serial_scan_may_have_any_bytes(line):
    ours, scanner = line

    os.write(ours, b"\x00\x03\xff\r")

    assert scans(scanner, 1) == ["\x00\x03\ufffd"]


def test_nothing_that_was_scanned_before_is_read():
    ours, theirs = pty.openpty()
    os.write(ours, b"before\r")
    scanner = SerialScanner(ScannerConfig(name="lobby", device=os.ttyname(theirs)))

    scanner.open()

    assert scanner.read(0.2) == []
    scanner.close()
    os.close(ours)
    os.close(theirs)


# -- keyboard


class Keyboard:
    """What the kernel gives of a keyboard, through a pipe."""

    codes: ClassVar = {
        char: (code, shift)
        for code, pair in reversed(US_KEYS.items())
        for shift, char in enumerate(pair)
    }

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        self.grabs: list[tuple[int, int]] = []
        self.scanner = KeyboardScanner(
            ScannerConfig(name="lobby", device=f"/dev/fd/{self.out}", kind="keyboard")
        )

    def event(self, kind: int, code: int, value: int) -> None:
        os.write(self.into, INPUT_EVENT.pack(0, 0, kind, code, value))

    def press(self, code: int) -> None:
        for value in (1, 0):
            self.event(4, 4, code)  # MSC_SCAN
            self.event(1, code, value)
            self.event(0, 0, 0)

    def type(self, text: str, enter: int = 28) -> None:
        for char in text:
            code, shift = self.codes[char]
            if shift:
                self.event(1, 42, 1)
            self.press(code)
            if shift:
                self.event(1, 42, 0)
        if enter:
            self.press(enter)

    def close(self) -> None:
        self.scanner.close()
        for fd in (self.out, self.into):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def keyboard(monkeypatch):
    keyboard = Keyboard()
    monkeypatch.setattr(
        doorpi.fcntl,
        "ioctl",
        lambda fd, request, value: keyboard.grabs.append((request, value)),
    )
    keyboard.scanner.open()
    yield keyboard
    keyboard.close()


def typed(keyboard) -> list[str]:
    found: list[str] = []
    while more := keyboard.scanner.read(0.05) or found[len(found) :]:
        found += more
    return found


def test_a_keyboard_is_grabbed(keyboard):
    assert keyboard.grabs == [(0x40044590, 1)]


@pytest.mark.parametrize(
    "text", [CODE, "DOORPI:ABC234", "".join(sorted(Keyboard.codes))[:60]]
)
@pytest.mark.parametrize("enter", [28, 96])
def test_a_keyboard_types_what_it_scans(keyboard, text, enter):
    found: list[str] = []
    for start in range(0, len(text), 20):  # a pipe, as the kernel, holds only so much
        keyboard.type(text[start : start + 20], enter=0)
        found += keyboard.scanner.read(0.1)
        found += keyboard.scanner.read(0.0)
    keyboard.press(enter)
    found += scans(keyboard.scanner, 1)

    assert found == [text]


def test_caps_lock_turns_letters_only(keyboard):
    keyboard.press(58)
    keyboard.type("a1")
    for _ in range(5):
        if found := keyboard.scanner.read(0.1):
            break

    assert found == ["A1"]


def test_a_key_that_repeats_counts_once(keyboard):
    keyboard.event(1, 30, 1)
    keyboard.event(1, 30, 2)
    keyboard.event(1, 30, 0)
    keyboard.press(28)

    assert keyboard.scanner.read(0.1) == ["a"]


def test_a_scan_of_which_a_part_was_lost_is_thrown_away(keyboard):
    keyboard.type("ab", enter=0)
    keyboard.event(0, 3, 0)  # SYN_DROPPED
    keyboard.type("cd")
    keyboard.type("ef")

    found = [scan for _ in range(10) for scan in keyboard.scanner.read(0.02)]

    assert found == ["ef"]


def test_a_keyboard_that_is_held_by_another_program_cannot_be_opened(monkeypatch):
    def busy(*args):
        raise OSError(errno.EBUSY, "busy")

    keyboard = Keyboard()
    monkeypatch.setattr(doorpi.fcntl, "ioctl", busy)

    with pytest.raises(OSError, match="busy"):
        keyboard.scanner.open()

    keyboard.close()


# -- as a source


class FakeScanner:
    """``scans`` are what the next reads return or raise."""

    def __init__(self) -> None:
        self.scans: list[list[str] | Exception] = []
        self.opened = self.closed = 0
        self.refuses: OSError | None = None

    def open(self) -> None:
        self.opened += 1
        if self.refuses:
            raise self.refuses

    def read(self, wait_s: float) -> list[str]:
        if not self.scans:
            time.sleep(0.002)
            return []
        found = self.scans.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def scanner():
    return FakeScanner()


@pytest.fixture
def source(scanner):
    clock = FakeClock()
    source = ScannerSource(scanner, "lobby", clock, jitter=lambda: 0.0)
    source.backoff_s = (0.002, 0.004)
    source._backoff = doorpi.Backoff(0.002, 0.004)
    source.clock = clock
    source.open()
    yield source
    source.close()


def next_of(source):
    until(lambda: source.due < 0, "a scan")
    return source.poll(source.clock.monotonic())


def test_a_scan_is_a_request_to_unlock(source, scanner):
    scanner.scans = [[CODE]]

    request = next_of(source)

    assert (request.medium, request.identifier) == (Medium.QR, CODE)
    assert (request.wants, request.point) == (Wants.UNLOCK, "lobby")
    assert request.arrived == source.clock.monotonic()


def test_the_same_code_within_3_s_is_one_presentation(source, scanner):
    scanner.scans = [[CODE], [CODE], [CODE, "other"]]

    assert next_of(source).identifier == CODE
    assert next_of(source).identifier == "other"
    for _ in range(2):  # it lies there all the time
        source.clock.advance(2.9)
        scanner.scans = [["other"]]
        until(lambda: not source._scans.empty())
        assert source.poll(0.0) is None
    source.clock.advance(3.0)
    scanner.scans = [["other"]]
    assert next_of(source).identifier == "other"


def test_a_scanner_that_is_unplugged_is_opened_again(source, scanner):
    scanner.refuses = OSError(errno.ENOENT, "")
    scanner.scans = [OSError(errno.ENODEV, "")]
    until(lambda: source.trouble == "scanner lobby: not plugged in")
    until(lambda: scanner.opened > 3)

    scanner.refuses = None

    until(lambda: source.trouble == "")
    scanner.scans = [[CODE]]
    assert next_of(source).identifier == CODE


def test_a_scanner_is_opened_again_after_any_error(source, scanner):
    """termios.error, as of a line that is unplugged while it is opened, is no OSError."""
    scanner.scans = [termios.error(errno.EIO, os.strerror(errno.EIO)), [CODE]]

    assert next_of(source).identifier == CODE
    assert scanner.opened == 2


def test_a_rest_postpones_scans_and_loses_none(source, scanner):
    source.rest(source.clock.monotonic() + 0.5)
    scanner.scans = [[CODE]]
    until(lambda: not scanner.scans)

    assert source.poll(source.clock.monotonic()) is None
    source.clock.advance(0.5)
    assert next_of(source).identifier == CODE


# -- doctor


def found_by_doctor(scanner) -> doorpi.Finding:
    (finding,) = doorpi.diagnose_scanner("lobby", scanner, wait_s=0.05)
    return finding


@pytest.mark.parametrize(
    ("scans", "refuses", "health", "words"),
    [
        ([[CODE]], None, "ok", "read a code of 104 characters"),
        ([], None, "warn", "no code came"),
        ([["https>--id.example.org-verify.php_token"]], None, "fail", "it typed"),
        ([["DOORPI;ABC"]], None, "fail", "it typed"),
        ([], OSError(errno.EBUSY, ""), "fail", "in use by another program"),
        ([], OSError(errno.ENOENT, ""), "fail", "not plugged in"),
        ([OSError(errno.ENODEV, "")], None, "fail", "unplugged"),
    ],
)
def test_diagnose_scanner(scanner, scans, refuses, health, words):
    scanner.scans, scanner.refuses = scans, refuses

    finding = found_by_doctor(scanner)

    assert finding.health == health
    assert words in finding.words
    assert bool(finding.do) is (health != "ok")
    assert scanner.closed
