"""Doors that run as real processes, and what the tests ask of them.

Run as a program, this file is `doorpi.py` on gpiozero's pins in memory, which writes down
every change of the lights: ``processes.py HISTORY [--break|--hang] ARGS...``.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import doorpi
from tests.fakes.live_cloud import Live
from tests.fakes.virtual import VirtualCard, VirtualField
from tests.helpers.stopwatch import Stopwatch

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(ROOT / "doorpi.py")
GREEN, RED = 23, 22

T = TypeVar("T")


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(
    condition: Callable[[], T], what: str = "what was to come", within_s: float = 10.0
) -> T:
    """The first true answer of ``condition``; fails in words after ``within_s``."""
    watch = Stopwatch()
    while not (answer := condition()):
        assert not watch.is_past(within_s), f"not within {within_s:g} s: {what}"
        time.sleep(0.002 if watch.wall_s < 0.5 else 0.01)
    return answer


def environment(**changes: str | None) -> dict[str, str]:
    """Ours without what would reach into the door; None takes a variable away.

    With `python -m doorpi` the door is found compiled where we have found it: it starts
    in half the time of a script, which is compiled each time.
    """
    ours = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GPIOZERO", "DOORPI", "NOTIFY", "WATCHDOG", "JOURNAL"))
    }
    ours |= {"GPIOZERO_PIN_FACTORY": "mock", "PYTHONSAFEPATH": "1"}
    ours |= {"PYTHONPATH": str(ROOT)}
    return {k: v for k, v in (ours | changes).items() if v is not None}


def doorpi_says(*args: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    """One verb, in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "doorpi", *args],
        env=environment(**env), cwd="/", capture_output=True, text=True, timeout=40,
        check=False,
    )  # fmt: skip


KEN_CARD = '[[card]]\nuid = "04A93C715ED284"\nholder = "Ken Sato"\n'
MIKA_CARD = '[[card]]\nuid = "D3C2B1A0"\nholder = "Mika Mori"\n'


def write_config(
    folder: Path,
    cloud: Live,
    device: str,
    *,
    cards: str = KEN_CARD,
    door: str = "",
    reader: str = "poll_s = 0.01\nrearm_s = 0.1",
    lock: str = "",
    more: str = "",
) -> Path:
    """A doorpi.toml for ``cloud`` and ``device``, with lines added to its tables."""
    path = folder / "doorpi.toml"
    path.write_text(
        f"""
[door]
name = "Office 4F"
{door}
[reader]
device = "{device}"
virtual = true
{reader}
{cloud.table()}{lock}
{more}
{cards}
""",
        encoding="utf-8",
    )
    return path


class Notifications:
    """A service manager's end of NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # the kernel picks a name that is free
        self._socket.setblocking(False)
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._said: list[str] = []

    @property
    def said(self) -> list[str]:
        """All datagrams so far, in order."""
        while True:
            try:
                self._said.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._said

    @property
    def story(self) -> list[str]:
        """``said`` without the watchdog's beats and with the clock's time cut off."""
        words = (datagram.partition("\nMONOTONIC_USEC=")[0] for datagram in self.said)
        return [word for word in words if word != "WATCHDOG=1"]

    def close(self) -> None:
        self._socket.close()


class DoorProcess:
    """`doorpi.py run` as its service manager sees it.  Ends with the ``with``."""

    verb = "run"

    def __init__(
        self,
        config: Path,
        *,
        program: tuple[str, ...] = ("-m", "doorpi"),
        own_session: bool = False,
        **env: str | None,
    ) -> None:
        self.folder = config.parent
        self.manager = Notifications()
        self._stderr = self.folder / f"{self.verb}.txt"
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *program, "--config", str(config), self.verb],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd="/",
                env=environment(NOTIFY_SOCKET=self.manager.address, **env),
                start_new_session=own_session,
            )  # fmt: skip
        self.pid = self.process.pid
        self._log = doorpi.SqliteStore(self.folder / "state" / "doorpi.db", busy_s=5)

    def __enter__(self) -> DoorProcess:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        self.manager.close()
        if problem[0]:
            print(f"--- journal of {self.pid}\n{self.journal}", file=sys.stderr)

    @property
    def journal(self) -> str:
        return self._stderr.read_text()

    @property
    def events(self) -> list[doorpi.Event]:
        """What the log has, oldest first; the log is the door's own to create."""
        return list(self._log.events.read()) if self._log.events.path.exists() else []

    @property
    def status(self) -> str:
        """The last STATUS= it gave."""
        words = [word for word in self.manager.said if word.startswith("STATUS=")]
        return words[-1].removeprefix("STATUS=") if words else ""

    def until(self, condition: Callable[[], T], what: str, within_s: float = 10) -> T:
        """Wait for ``condition``; a door that ends meanwhile is a failure."""

        def holds() -> T:
            assert self.process.poll() is None, f"the door ended:\n{self.journal}"
            return condition()

        return wait_for(holds, what, within_s)

    def until_ready(self) -> DoorProcess:
        self.until(lambda: "READY=1" in self.manager.said and self.status, "READY=1")
        return self

    @property
    def taps(self) -> list[doorpi.Event]:
        """Those of ``events`` that a card began."""
        return [event for event in self.events if event.source == "card"]

    def until_event(self, number: int, *, of_a_card: bool = False) -> doorpi.Event:
        """Event ``number`` (from 1), once it has its end."""

        def found() -> list[doorpi.Event]:
            return self.taps if of_a_card else self.events

        def ended() -> bool:
            events = found()
            return len(events) >= number and (
                events[number - 1].result is not None
                or events[number - 1].decision == "denied"
                or events[number - 1].detail != ""
            )

        self.until(ended, f"the end of event {number}", 20)
        return found()[number - 1]

    def until_idle(self, radio: VirtualField, polls: int = 25) -> None:
        """The door has begun another watch for cards, of 20 looks at most: whatever it
        did before is done."""
        seen = radio.polls
        self.until(lambda: radio.polls > seen + polls, "looks for a card")

    def tap(self, radio: VirtualField, *uids: str) -> doorpi.Event:
        """Present ``uids`` until the next event has ended, then take them away."""
        before = len(self.taps)
        radio.put(*(VirtualCard(bytes.fromhex(uid)) for uid in uids))
        event = self.until_event(before + len(uids), of_a_card=True)
        radio.take()
        self.until_idle(radio, polls=15)  # of 10 ms: longer than rearm_s
        return event

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, *numbers: signal.Signals) -> tuple[int, float]:
        """Send signals, one if none is named; the exit code and the seconds it took."""
        watch = Stopwatch()
        for number in numbers or (signal.SIGTERM,):
            os.kill(self.pid, number)  # nothing has reaped it yet
        # Left for `wait`: with a process go the kernel's numbers of it.
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT

        def has_ended() -> bool:
            assert watch.held_up_s >= 0  # asked often: with a thread go its numbers
            return os.waitid(os.P_PID, self.pid, how) is not None

        wait_for(has_ended, "the end")
        took_s = watch.own_s
        return self.process.wait(), took_s

    def reload(self) -> None:
        """SIGHUP, and wait for the READY=1 that ends it."""
        readies = self.manager.said.count("READY=1")
        self.send(signal.SIGHUP)
        self.until(lambda: self.manager.said.count("READY=1") > readies, "reloaded")


class OnlineProcess(DoorProcess):
    """The same of `doorpi.py online`."""

    verb = "online"


def catches(pid: int, number: signal.Signals) -> bool:
    """Source: proc(5): SigCgt of status is a mask whose lowest bit is signal 1."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def sockets_of(pid: int) -> dict[str, list[tuple[str, str]]]:
    """The open internet sockets of a process: ``{"tcp": [(local, state)], ...}``.

    Source: proc(5): column 1 is the local address, 3 the state (0A: listening), 9 the
    inode.
    """
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(fd.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    found: dict[str, list[tuple[str, str]]] = {}
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        table = Path(f"/proc/{pid}/net/{kind}")
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        cells = (row.split() for row in rows)
        found[kind] = [(c[1], c[3]) for c in cells if f"socket:[{c[9]}]" in inodes]
    return found


# -- as a program: the door with its lights watched


def run_watched(history: str, args: list[str]) -> int:
    """`doorpi.py` on pins in memory; at exit ``history`` has, for each pin of the two
    LEDs, ``[monotonic seconds, state]`` of every change, as the door left them."""
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory, MockPin

    changes: dict[int, list[tuple[float, bool]]] = {GREEN: [], RED: []}
    lit = Path(f"{history}.lit")  # there from the first light on

    class WatchedPin(MockPin):
        def _change_state(self, value):
            changed = super()._change_state(value)
            number = int(self.info.name.removeprefix("GPIO"))
            changes.setdefault(number, []).append((time.monotonic(), bool(value)))
            if value and not lit.exists():
                lit.touch()
            return changed

    Device.pin_factory = MockFactory(pin_class=WatchedPin)
    # Registered after gpiozero's own, this runs before it: what is seen here is what
    # the door itself has done.
    atexit.register(lambda: Path(history).write_text(json.dumps(changes)))
    if args[0] == "--break":
        del args[0]

        def broken(*_: object) -> None:
            raise RuntimeError("a bug nobody thought of")

        doorpi.LocalList.look_up = broken
    if args[0] == "--hang":
        del args[0]
        sense = doorpi.NfcReader.sense

        def hanging(self: doorpi.NfcReader) -> doorpi.Card | None:
            """A read that never returns, from the first card on."""
            card = sense(self)
            if card:
                time.sleep(3600)
            return card

        doorpi.NfcReader.sense = hanging
    return doorpi.main(args)


if __name__ == "__main__":
    raise SystemExit(run_watched(sys.argv[1], sys.argv[2:]))
