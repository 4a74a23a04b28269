"""Systemd's protocol on real datagram sockets, to the byte."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from doorpi import JournalFormatter, Systemd
from tests.helpers.processes import open_files
from tests.helpers.stopwatch import Stopwatch


class Manager:
    """A service manager that listens at a path or, without one, at an abstract name."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path) if path else "")
        self._socket.setblocking(False)
        name = self._socket.getsockname()
        self.address = name if path else "@" + name[1:].decode()

    def heard(self) -> list[bytes]:
        """All datagrams since the last look."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()
        if self._path:
            self._path.unlink()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    manager = Manager(tmp_path / "notify" if request.param == "path" else None)
    yield manager
    if manager._socket.fileno() >= 0:
        manager.close()


@pytest.fixture
def systemd_with(manager, clock):
    def make(**environ: str) -> Systemd:
        return Systemd({"NOTIFY_SOCKET": manager.address} | environ, clock)

    return make


def say_everything(systemd: Systemd) -> None:
    systemd.report("ready")
    systemd.alive()
    systemd.report("reloading")
    systemd.status("words")
    systemd.report("stopping")


# fmt: off
WORDS = [
    (lambda s: s.report("ready"),              b"READY=1"),
    (lambda s: s.report("stopping"),           b"STOPPING=1"),
    (lambda s: s.alive(),              b"WATCHDOG=1"),
    (lambda s: s.status("ready"),      b"STATUS=ready"),
    (lambda s: s.status("caf\u00e9"),  b"STATUS=caf\xc3\xa9"),
    (lambda s: s.status("a\nREADY=1\r\x00\x1b[2J"), rb"STATUS=a\nREADY=1\r\x00\x1b[2J"),
    (lambda s: s.status("\udcff"),     rb"STATUS=\udcff"),
    (lambda s: s.status("x" * 300),    b"STATUS=" + b"x" * 197 + b"..."),
]
# fmt: on
CASES = [repr(words)[2:30] for _, words in WORDS]


@pytest.mark.parametrize(("say", "words"), WORDS, ids=CASES)
def test_each_message_is_sent_to_the_byte(systemd_with, manager, clock, say, words):
    clock.t = 12.25

    say(systemd_with(WATCHDOG_USEC="1000000"))

    assert manager.heard() == [words]


def test_the_time_of_a_reload_is_the_kernel_s_monotonic_clock(manager, clock):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Systemd({"NOTIFY_SOCKET": manager.address}, clock).report("reloading")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    (words,) = manager.heard()
    assert words.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert before <= int(words.rpartition(b"=")[2]) <= after


# -- the watchdog


def beats(systemd: Systemd, manager: Manager, clock, seconds: int) -> list[float]:
    """Call alive every 0.25 s; when, from the first call on, a beat went out."""
    began, found = clock.t, []
    for _ in range(seconds * 4):
        systemd.alive()
        found += [clock.t - began] * len(manager.heard())
        clock.advance(0.25)
    return found


def test_watchdog_beats_at_a_quarter_of_the_limit(systemd_with, manager, clock):
    systemd = systemd_with(WATCHDOG_USEC="20000000")

    assert beats(systemd, manager, clock, 16) == [0, 5, 10, 15]


def test_watchdog_beats_once_after_a_long_silence(systemd_with, manager, clock):
    systemd = systemd_with(WATCHDOG_USEC="20000000")
    systemd.alive()
    clock.advance(18)
    manager.heard()

    assert beats(systemd, manager, clock, 6) == [0, 5]


# fmt: off
WATCHDOGS = [
    # environment                                             beats in 10 s
    ({},                                                      []),
    ({"WATCHDOG_USEC": "20000000"},                           [0, 5]),
    ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "ours"}, [0, 5]),
    ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"},      []),
    ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": ""},       []),
    ({"WATCHDOG_USEC": ""},                                   []),
    ({"WATCHDOG_USEC": "0"},                                  []),
]
# fmt: on


@pytest.mark.parametrize(
    ("environ", "expected"), WATCHDOGS, ids=[str(env)[:50] for env, _ in WATCHDOGS]
)
def test_watchdog_beats_only_for_our_process_and_with_a_limit(
    systemd_with, manager, clock, environ, expected
):
    ours = {k: v.replace("ours", str(os.getpid())) for k, v in environ.items()}

    assert beats(systemd_with(**ours), manager, clock, 10) == expected


# -- STATUS=


def test_status_is_sent_when_it_changes(systemd_with, manager):
    systemd = systemd_with()

    for words in ("ready", "ready", "no reader", "no reader", "ready"):
        systemd.status(words)

    assert manager.heard() == [b"STATUS=ready", b"STATUS=no reader", b"STATUS=ready"]


# -- nobody listens


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}], ids=str)
def test_without_a_service_manager_nothing_is_sent(clock, environ):
    before = open_files()

    say_everything(Systemd({"WATCHDOG_USEC": "1000000"} | environ, clock))

    assert open_files() == before


BAD_ADDRESSES = ["/nowhere/notify", "@nobody", "@", "/" + "x" * 200, "/\udcff", "/tmp"]


@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=ascii)
def test_bad_address_does_no_harm(clock, address):
    say_everything(Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4"}, clock))


def test_missing_service_manager_does_no_harm(systemd_with, manager):
    systemd = systemd_with()
    systemd.report("ready")

    manager.close()

    say_everything(systemd)


def test_restarted_service_manager_gets_messages_again(tmp_path, clock):
    path = tmp_path / "notify"
    first = Manager(path)
    systemd = Systemd({"NOTIFY_SOCKET": first.address}, clock)
    systemd.report("ready")
    first.close()
    systemd.report("ready")

    second = Manager(path)
    systemd.report("ready")

    assert second.heard() == [b"READY=1"]
    second.close()


def fill(manager: Manager) -> None:
    """Say so much that there is no room for more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                mouth.sendto(b"EXTEND", manager.address.replace("@", "\0", 1))


def test_a_full_socket_is_not_waited_for(systemd_with, manager):
    """systemd is busy: better to lose a word than to hang with the door."""
    systemd = systemd_with(WATCHDOG_USEC="4")
    systemd.once_s = 0.01
    fill(manager)

    watch = Stopwatch()
    say_everything(systemd)

    assert watch.own_s < 0.1
    assert set(manager.heard()) == {b"EXTEND"}
    systemd.report("stopping")
    assert manager.heard() == [b"STOPPING=1"]


@pytest.mark.parametrize("word", ["ready", "stopping"])
def test_report_waits_a_moment_for_a_busy_manager(systemd_with, manager, word):
    systemd = systemd_with()
    systemd.once_s = 20.0
    fill(manager)

    saying = threading.Thread(target=systemd.report, args=(word,))
    saying.start()
    saying.join(0.1)
    waits, heard = saying.is_alive(), manager.heard()
    saying.join()

    assert waits
    assert set(heard + manager.heard()) == {b"EXTEND", f"{word.upper()}=1".encode()}


def test_a_thousand_messages_leave_no_file_open(systemd_with, manager):
    systemd = systemd_with()
    systemd.report("ready")
    before = open_files()

    for number in range(1000):
        systemd.status(f"{number}")
        manager.heard()

    assert open_files() == before


# -- the journal


# fmt: off
LINES = [
    (logging.DEBUG,    "detail",       "<7>detail"),
    (logging.INFO,     "ready",        "<6>ready"),
    (logging.WARNING,  "one\ntwo",     "<4>one\n<4>two"),
    (logging.ERROR,    "broken",       "<3>broken"),
    (logging.CRITICAL, "on fire",      "<3>on fire"),
]
# fmt: on


@pytest.mark.parametrize(
    ("level", "text", "line"), LINES, ids=[logging.getLevelName(n) for n, _, _ in LINES]
)
def test_under_systemd_each_line_has_its_priority(level, text, line):
    record = logging.LogRecord("doorpi", level, "", 0, text, None, None)

    assert JournalFormatter().format(record) == line


def test_without_systemd_each_line_has_the_time():
    record = logging.LogRecord("doorpi", logging.INFO, "", 0, "ready", None, None)
    at = time.strftime("%H:%M:%S", time.localtime(record.created))

    assert (
        JournalFormatter("%(asctime)s %(message)s", "%H:%M:%S").format(record)
        == f"{at} ready"
    )
