"""Relay on gpiozero's own pins in memory: when a strike opens, and that it always shuts.

Run as a program, this file is `doorpi.py` on such pins, which appends every change of a
level to a file: ``test_relay.py LEVELS [--break] ARGS...``.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory

import doorpi
from doorpi import (
    Command,
    Config,
    LockAccess,
    LockState,
    LockStatus,
    Move,
    NotSent,
    Outcome,
    ProcessSignals,
    Progress,
    Relay,
    Result,
    SqliteStore,
    Stopped,
    SystemClock,
    doubtful_settings,
    drive,
    parse_config,
)
from tests.fakes.board import GPIO, OPEN, SHUT, Board, BrokenBoard
from tests.fakes.broken_pins import (
    SilentFactory,
    busy_pin,
    misspelt_library,
    no_library,
    silent_failure,
)
from tests.fakes.virtual import VirtualCard
from tests.helpers.processes import DoorProcess, doorpi_says, environment, wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN, FakeClock, Taps, control_of

TOLERANCE_S = 0.05


def send(relay: Relay, command: Command = Command.UNLOCK) -> None:
    now = time.monotonic()
    assert relay.send(command, now + 5, now + 5) is None


def pulses() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "relay"]


@pytest.fixture(autouse=True)
def own_pins():
    yield
    Device.pin_factory = None
    assert pulses() == []


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def relay(board):
    with contextlib.closing(board.relay(hold_s=30.0)) as relay:
        yield relay


@pytest.fixture
def brief(board):
    with contextlib.closing(board.relay(hold_s=0.1)) as relay:
        yield relay


# -- at rest

# fmt: off
WIRINGS = {
    "opens when high":           ({"relay_gpio": 17, "active_high": True},  True),
    "opens when low":            ({"relay_gpio": 4, "active_high": False}, False),
}
# fmt: on


@pytest.mark.parametrize(("wiring", "opening"), WIRINGS.values(), ids=WIRINGS)
def test_pin_is_at_rest_from_the_start_without_a_blip(board, wiring, opening):
    """Its level at boot is that of rest already, and stays."""
    with contextlib.closing(board.relay(**wiring)):
        pin = board.pin(wiring["relay_gpio"])

        assert (pin.function, pin.state) == ("output", not opening)
    assert board.changes == {}


def test_pin_left_on_is_put_at_rest_by_the_next_start(board):
    """As after SIGKILL during a pulse: Raspberry Pi OS leaves the level as it is."""
    board.pin(GPIO).drive_high()

    with contextlib.closing(board.relay()):
        assert board.levels() == [OPEN, SHUT]


def test_status_is_always_locked_and_costs_no_calls(relay, board):
    at_rest = relay.status(0)
    send(relay)
    while_open = relay.status(0)

    assert at_rest == while_open == LockStatus(state=LockState.LOCKED, reachable=True)
    assert board.levels() == [OPEN]
    assert relay.calls == 0
    assert relay.policy.locks_itself
    assert (relay.wake(0), relay.is_awake("", 0)) == (None, True)


# -- a pulse


@pytest.mark.realtime
@pytest.mark.parametrize(("wiring", "opening"), WIRINGS.values(), ids=WIRINGS)
def test_pulse_lasts_hold_s_whatever_the_door_does(board, wiring, opening):
    gpio, watch = wiring["relay_gpio"], Stopwatch()
    with contextlib.closing(board.relay(hold_s=0.15, **wiring)) as relay:
        send(relay)
        assert board.levels(gpio)[:1] == [opening]  # at once
        time.sleep(0.3)  # the door's thread waits for somebody else
        wait_for(lambda: not pulses(), "the end of the pulse")

    (opened_at, _), (shut_at, _) = board.changes[gpio]
    assert board.levels(gpio) == [opening, not opening]
    assert shut_at - opened_at >= 0.149
    assert shut_at - opened_at - watch.held_up_s <= 0.15 + TOLERANCE_S


@pytest.mark.realtime
def test_pulse_is_prolonged_by_a_second_tap(board):
    with contextlib.closing(board.relay(hold_s=0.2)) as relay:
        send(relay)
        time.sleep(0.02)  # the first would end before the second
        again_at, watch = time.monotonic(), Stopwatch()
        send(relay)
        assert len(pulses()) == 1
        relay.wait_released()

    assert board.levels() == [OPEN, SHUT]
    lasted_s = board.changes[GPIO][-1][0] - again_at
    assert lasted_s >= 0.2
    assert lasted_s - watch.held_up_s <= 0.2 + TOLERANCE_S


def test_pulse_is_whole_after_a_tap_at_the_end_of_another(board):
    """Wherever the first pulse is in its ending, the second is not cut by it."""
    with contextlib.closing(board.relay(hold_s=0.02)) as relay:
        for phase in range(20):
            send(relay)
            time.sleep(0.019 + phase * 0.0002)
            again_at = time.monotonic()
            send(relay)
            relay.wait_released()

            shut_at, level = board.changes[GPIO][-1]
            assert level is SHUT
            assert shut_at - again_at >= 0.0199


def test_lock_ends_the_pulse_at_once(relay, board):
    send(relay)

    send(relay, Command.LOCK)

    assert board.levels() == [OPEN, SHUT]
    relay.wait_released()
    assert board.levels() == [OPEN, SHUT]


def test_pulse_is_whole_right_after_lock(board):
    """Also when the first pulse's thread has not woken up yet to end."""
    with contextlib.closing(board.relay(hold_s=0.1)) as relay:
        for _ in range(10):
            send(relay)
            send(relay, Command.LOCK)
            again_at = time.monotonic()
            send(relay)
            relay.wait_released()

            assert board.changes[GPIO][-1][0] - again_at >= 0.1
            assert board.levels()[-4:] == [OPEN, SHUT, OPEN, SHUT]


@pytest.mark.parametrize("command", Command, ids=str)
def test_send_does_nothing_after_send_by(board, command):
    clock = FakeClock()
    with contextlib.closing(board.relay(clock)) as relay:
        with pytest.raises(NotSent, match=r"^too late to send$"):
            relay.send(command, clock.monotonic(), clock.monotonic() + 5)

        assert board.changes == {}
        assert pulses() == []


def test_tap_during_a_pulse_is_answered_as_usual(board):
    """The whole policy: looked, commanded, confirmed, without a wait."""
    clock, intended = FakeClock(), []
    with contextlib.closing(board.relay(clock, hold_s=30.0)) as relay:
        control = control_of(relay, clock)

        steps = control.move(
            Move(
                lambda state: Command.UNLOCK if state is LockState.LOCKED else None,
                send_by=clock.monotonic() + 10,
                intend=intended.append,
            )
        )
        outcome = drive(steps, clock)

        assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED)
        assert board.levels() == [OPEN]
        assert intended == [Command.UNLOCK]
        assert clock.slept == []


def test_confirm_is_always_done(relay):
    assert relay.confirm(doorpi.Sent(Command.UNLOCK, None), 0) is Progress.DONE


def test_pulses_leave_no_thread(board):
    before = threading.active_count()
    with contextlib.closing(board.relay(hold_s=0.002)) as relay:
        for _ in range(50):
            send(relay)
            relay.wait_released()

        wait_for(lambda: threading.active_count() == before, "the last thread's end")
    assert board.levels() == 50 * [OPEN, SHUT]


# -- wait_released


def test_wait_released_waits_until_the_strike_is_shut(brief, board):
    send(brief)

    brief.wait_released()

    assert board.levels() == [OPEN, SHUT]


class SlowBoard(Board):
    """It takes a while until a pin is off."""

    def note(self, gpio: int, level: bool) -> None:
        if level is SHUT:
            time.sleep(0.1)
        super().note(gpio, level)


def test_wait_released_waits_for_the_pin_and_not_for_the_time():
    board = SlowBoard()
    with contextlib.closing(board.relay(hold_s=0.02)) as relay:
        send(relay)

        relay.wait_released()

        assert board.levels() == [OPEN, SHUT]


@pytest.mark.realtime
def test_wait_released_returns_at_once_without_a_pulse(relay):
    watch = Stopwatch()
    relay.wait_released()

    assert watch.own_s < 0.02


# -- always shut


def test_close_shuts_the_strike_and_releases_the_pin(board):
    relay = board.relay(hold_s=30.0)
    send(relay)

    relay.close()

    assert pulses() == []
    assert board.levels() == [OPEN, SHUT]
    assert board.pin(GPIO).function == "input"
    with contextlib.closing(board.relay()):  # anybody may have it now
        assert board.pin(GPIO).function == "output"
    assert board.levels() == [OPEN, SHUT]


def test_close_may_be_called_at_any_time(board):
    relay = board.relay(hold_s=0.02)

    send(relay)
    relay.wait_released()
    relay.close()
    relay.close()

    assert board.levels() == [OPEN, SHUT]


def test_close_makes_a_command_on_another_thread_fail(board):
    relay, told = board.relay(hold_s=30.0), []

    def command() -> None:
        try:
            send(relay)
        except NotSent as error:
            told.append(str(error))

    relay.close()
    worker = threading.Thread(target=command)
    worker.start()
    worker.join(5)

    assert told == ["the relay is closed"]
    assert board.levels() == []


def test_close_shuts_what_another_thread_opened(board):
    relay = board.relay(hold_s=30.0)
    worker = threading.Thread(target=send, args=[relay])
    worker.start()
    worker.join(5)

    relay.close()

    assert pulses() == []
    assert board.levels() == [OPEN, SHUT]


def test_stop_is_not_postponed_by_a_worker(signals):
    """What it does under ``postponed`` is no business of the main thread's."""
    is_within, goes_on = threading.Event(), threading.Event()

    def work() -> None:
        with ProcessSignals.postponed():
            is_within.set()
            goes_on.wait(5)

    worker = threading.Thread(target=work)
    worker.start()
    assert is_within.wait(5)

    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    goes_on.set()
    worker.join(5)


@pytest.fixture
def signals():
    """The door's handlers, in this process, for the length of a test."""
    before = {n: signal.getsignal(n) for n in (*ProcessSignals.stops, signal.SIGHUP)}
    signals = ProcessSignals()
    signals.install()
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_stop_ends_wait_released_and_close_shuts_the_strike(signals, relay, board):
    send(relay)
    watch = Stopwatch()
    signal.setitimer(signal.ITIMER_REAL, 0.05)

    with pytest.raises(Stopped), contextlib.closing(relay):
        relay.wait_released()

    assert watch.own_s < 1
    assert board.levels() == [OPEN, SHUT]


class StopAtLine:
    """SIGTERM to this process at line number ``line`` of what the ``with`` runs."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __enter__(self) -> StopAtLine:
        ProcessSignals().install()
        sys.settrace(self._enter)
        return self

    def _enter(self, frame, event, arg):
        ours = ("doorpi.py", "threading.py", "contextlib.py")
        return self._step if frame.f_code.co_filename.endswith(ours) else None

    def _step(self, frame, event, arg):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)
        return self._step

    def __exit__(self, kind, error, trace) -> bool:
        sys.settrace(None)
        return kind is Stopped


def stopped_at_each_line(act):
    """Run ``act(line, stop)`` for each line that ``stop`` can meet; how many."""
    for line in range(1, 2000):
        stop = StopAtLine(line)
        act(stop)
        if stop.left > 0:
            return line
    raise AssertionError("it never came to its end")


def test_stop_at_any_step_of_send_leaves_nothing_open(signals):
    def unlock(stop):
        board = Board()
        relay = board.relay(hold_s=30.0)
        with stop:
            relay.send(Command.UNLOCK, time.monotonic() + 5, 0)
        relay.close()

        assert pulses() == []
        assert board.levels() in ([], [OPEN, SHUT])

    assert stopped_at_each_line(unlock) > 30


def test_stop_at_any_step_of_status_lets_the_pulse_end(signals):
    board = Board()

    def ask(stop):
        send(relay)
        with stop:
            relay.status(0)
        relay.wait_released()

    with contextlib.closing(board.relay(hold_s=0.002)) as relay:
        count = stopped_at_each_line(ask)

    assert board.levels() == count * [OPEN, SHUT]


def test_stop_at_any_step_of_close_leaves_nothing_open(signals):
    """Closed at once, or not begun: then the pulse ends by itself."""

    def close(stop):
        board = Board()
        relay = board.relay(hold_s=0.1)
        send(relay)
        with stop:
            relay.close()
        wait_for(lambda: not pulses(), "the end of the pulse", 1.0)

        assert board.levels() == [OPEN, SHUT]

    assert stopped_at_each_line(close) > 20


# -- a pin that cannot be had


HELD = "(another program has it; while the door runs, that is the door)"

# fmt: off
FAILURES = [
    (no_library,       "Unable to load any default pin factory!"),
    (misspelt_library, "Unable to find pin factory 'lgpioo'"),
    (busy_pin,         r"'GPIO busy'\n " + HELD),
    (silent_failure,   "NotImplementedError"),
]
# fmt: on
CASES = [failure.__name__ for failure, _ in FAILURES]


@pytest.mark.parametrize(("failure", "why"), FAILURES, ids=CASES)
def test_pin_that_is_unavailable_is_the_reason_at_every_tap(
    monkeypatch, caplog, failure, why
):
    failure(monkeypatch)
    words = f"GPIO 17 cannot be used: {why}"

    with contextlib.closing(Relay(LockAccess(kind="relay"), SystemClock())) as relay:
        for _ in range(2):
            with pytest.raises(NotSent) as at_status:
                relay.status(0)
            with pytest.raises(NotSent) as at_send:
                send(relay)

            assert (str(at_status.value), str(at_send.value)) == (words, words)
    assert caplog.record_tuples == [("doorpi", logging.WARNING, words)]


def test_pin_that_failed_is_tried_again_at_every_tap(board):
    other = MockFactory()
    board.reserve_pins(other, f"GPIO{GPIO}")
    with contextlib.closing(board.relay(hold_s=30.0)) as relay:
        with pytest.raises(NotSent, match=r"^GPIO 17 cannot be used: pin GPIO17 is "):
            send(relay)
        board.release_pins(other, f"GPIO{GPIO}")

        send(relay)

        assert board.levels() == [OPEN]


def test_policy_does_not_wait_for_a_pin(caplog):
    """The person outside waits, so a fallback is tried at once."""
    Device.pin_factory = SilentFactory()
    clock = FakeClock()
    with contextlib.closing(Relay(LockAccess(kind="relay"), clock)) as relay:
        outcome = Taps(clock, None, relay).move(lambda state: Command.UNLOCK)

    why = "GPIO 17 cannot be used: NotImplementedError"
    assert outcome == Outcome(Command.UNLOCK, Result.UNREACHABLE, why)
    assert clock.slept == []


def test_pin_that_cannot_be_switched_on_is_opened_again(caplog):
    board = BrokenBoard()
    with contextlib.closing(board.relay(hold_s=30.0)) as relay:
        board.fails_at = (OPEN,)
        words = r"^GPIO 17 cannot be used: \[Errno 5\] Input/output error$"
        with pytest.raises(NotSent, match=words):
            send(relay)
        wait_for(lambda: not pulses(), "the end of a pulse that never was", 1.0)
        assert board.levels() == []
        assert board.pin(GPIO).function == "input"

        board.fails_at = ()
        send(relay)

        assert board.levels() == [OPEN]


def test_pin_that_cannot_be_switched_off_is_released_and_logged(caplog):
    """As an input it drives no relay; nobody looks at it before the next tap."""
    board = BrokenBoard()
    with contextlib.closing(board.relay(hold_s=0.05)) as relay:
        send(relay)
        board.fails_at = (SHUT,)
        relay.wait_released()

        assert board.pin(GPIO).function == "input"
        why = "[Errno 5] Input/output error"
        words = (
            f"GPIO 17 cannot be switched off: {why}; the strike may still be released"
        )
        assert caplog.record_tuples == [("doorpi", logging.ERROR, words)]
        board.fails_at = ()
        assert relay.status(0).state is LockState.LOCKED
        assert board.levels() == [OPEN, SHUT]


class NoThread(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")


def test_pin_that_could_not_be_switched_off_is_not_switched_on(
    relay, board, monkeypatch
):
    monkeypatch.setattr(doorpi.threading, "Thread", NoThread)

    with pytest.raises(NotSent, match=r"^GPIO 17 cannot be used: can't start new thr"):
        send(relay)

    assert board.levels() == []


# -- as a process

RELAY_CONFIG = """
[reader]
device = "{device}"
virtual = true
poll_s = 0.01
rearm_s = 0.1
[lock]
kind = "relay"
hold_s = {hold_s}
{lock}
[[card]]
uid = "{uid}"
holder = "Ken Sato"
"""


@pytest.fixture
def write(tmp_path, radio):
    def write(hold_s: float, lock: str = "") -> Path:
        path = tmp_path / "doorpi.toml"
        text = RELAY_CONFIG.format(
            device=radio.device, hold_s=hold_s, lock=lock, uid=KEN
        )
        path.write_text(text, encoding="utf-8")
        return path

    return write


class Levels:
    """What a child's pins did so far."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "levels.txt"
        self.path.touch()

    def program(self, *options: str) -> tuple[str, ...]:
        return (__file__, str(self.path), *options)

    def all(self, gpio: int = GPIO) -> list[tuple[float, bool]]:
        """``[(monotonic seconds, level)]`` of each change of one pin."""
        rows = (line.split() for line in self.path.read_text().splitlines())
        return [(float(at), level == "1") for n, level, at in rows if int(n) == gpio]

    def of(self, gpio: int) -> list[bool]:
        return [level for _, level in self.all(gpio)]

    @property
    def levels(self) -> list[bool]:
        return self.of(GPIO)


@pytest.fixture
def levels(tmp_path) -> Levels:
    return Levels(tmp_path)


def tap(door: DoorProcess, radio, levels: Levels) -> None:
    radio.put(VirtualCard(bytes.fromhex(KEN)))
    door.until(lambda: levels.levels == [OPEN], "the strike opens")


def test_run_shuts_the_strike_when_it_is_stopped(write, radio, levels):
    """test_run.py has the 2 s, and the other signals."""
    with DoorProcess(write(hold_s=30.0), program=levels.program()) as door:
        door.until_ready()
        tap(door, radio, levels)

        code, seconds = door.stop(signal.SIGTERM)

    assert code == 0
    assert seconds < 5  # of 30
    assert levels.levels == [OPEN, SHUT]
    assert "Traceback" not in door.journal


def test_run_shuts_the_strike_when_it_crashes(write, radio, levels):
    program = levels.program("--break")
    with DoorProcess(write(hold_s=30.0), program=program) as door:
        door.until_ready()
        radio.put(VirtualCard(bytes.fromhex(KEN)))

        assert door.process.wait(10) == 1

    assert "RuntimeError: a bug nobody thought of" in door.journal
    assert levels.levels == [OPEN, SHUT]


def test_reload_with_another_pin_waits_until_the_strike_has_shut(write, radio, levels):
    with DoorProcess(write(hold_s=1.0), program=levels.program()) as door:
        door.until_ready()
        tap(door, radio, levels)
        radio.take()
        door.until_idle(radio, polls=15)  # of 10 ms: longer than rearm_s
        write(hold_s=1.0, lock="relay_gpio = 27")

        door.reload()

        assert levels.levels == [OPEN, SHUT]
        (opened_at, _), (shut_at, _) = levels.all()
        assert shut_at - opened_at >= 0.99
        radio.put(VirtualCard(bytes.fromhex(KEN)))
        door.until(lambda: levels.of(27) == [OPEN], "the strike opens")
        assert levels.levels == [OPEN, SHUT]


def test_running_door_opens_for_taps_and_for_verbs(write, radio, levels):
    config = str(write(hold_s=0.3))
    with DoorProcess(Path(config), program=levels.program()) as door:
        door.until_ready()
        watch = Stopwatch()
        radio.put(VirtualCard(bytes.fromhex(KEN)))
        event = door.until_event(1)
        held_up_ms = watch.held_up_s * 1000
        door.until(lambda: levels.levels == [OPEN, SHUT], "the strike shuts")

        status = doorpi_says("--config", config, "status")
        unlock = doorpi_says("--config", config, "unlock")
        door.until(lambda: levels.levels == 2 * [OPEN, SHUT], "it shuts again")

    assert (event.command, event.result) == (Command.UNLOCK, Result.UNLOCKED)
    assert event.latency_ms - held_up_ms < 300
    (opened_at, _), (shut_at, _), *_ = levels.all()
    assert shut_at - opened_at >= 0.3
    assert status.stdout == "locked, it answers\n"
    assert (unlock.returncode, unlock.stdout, unlock.stderr) == (0, "unlocked\n", "")


@pytest.fixture
def verb(levels):
    """Start a verb on watched pins; it ends with the test."""
    started = []

    def start(config: Path, name: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *levels.program(), "--config", str(config), name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
            text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_verb_unlock_ends_with_the_pulse(write, levels, verb):
    process = verb(write(hold_s=0.3), "unlock")

    out, err = process.communicate(timeout=10)

    assert (process.returncode, out, err) == (0, "unlocked\n", "")
    (opened_at, _), (shut_at, level) = levels.all()
    assert level is SHUT
    assert shut_at - opened_at >= 0.3


def test_verb_unlock_shuts_the_strike_when_it_is_stopped(write, levels, verb):
    config = write(hold_s=30.0)
    process = verb(config, "unlock")
    log = contextlib.closing(SqliteStore(config.parent / "state" / "doorpi.db"))

    with log as store:
        wait_for(lambda: levels.levels, "the strike opens")
        wait_for(
            lambda: [e.result for e in store.events.read()] == ["unlocked"], "the log"
        )
        watch = Stopwatch()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)

    assert watch.own_s < 2
    assert levels.levels == [OPEN, SHUT]
    assert "Traceback" not in err


# -- what `check` says of the pin

WHICH = "while the program does not run, which opens the door"  # fmt: skip

# fmt: off
PINS = {
    "opens when high, pulled down": ({"relay_gpio": 17},                    None),
    "the first that is pulled down": ({"relay_gpio": 9},                    None),
    "opens when low, pulled up":    ({"relay_gpio": 8, "active_high": False},  None),
    "opens when low, pulled down":  ({"relay_gpio": 9, "active_high": False},  f"9: pulled down {WHICH}; choose one of 2 to 8"),
    "opens when high, pulled up":   ({"relay_gpio": 8},                     f"8: pulled up {WHICH}; choose one of 9 to 27"),
    "no relay":                     ({"kind": "tedee", "relay_gpio": 8},       None),
}
# fmt: on


@pytest.mark.parametrize("table", ["lock", "fallback"])
@pytest.mark.parametrize(("changes", "note"), PINS.values(), ids=PINS)
def test_verb_check_warns_of_a_pin_that_opens_at_boot(table, changes, note):
    access = {"kind": "relay"} | changes
    config = Config(lock=doorpi.LockConfig(**access))
    if table == "fallback":
        config = Config(fallback=LockAccess(**access))

    notes = list(doubtful_settings(config))

    expected = [f"{table}.relay_gpio = {note}"] if note else []
    assert notes == expected


def test_settings_defaults_keep_the_strike_shut_at_boot():
    assert list(doubtful_settings(parse_config('[lock]\nkind = "relay"\n'))) == []


# -- as a program: the door with its pins watched


def run_watched(levels: str, args: list[str]) -> int:
    """`doorpi.py` on pins in memory; ``levels`` gets a line of each change at once."""

    class ToldBoard(Board):
        def note(self, gpio: int, level: bool) -> None:
            super().note(gpio, level)
            with Path(levels).open("a") as file:
                file.write(f"{gpio} {level:d} {time.monotonic()}\n")

    board = ToldBoard()
    Device.pin_factory = board
    if args[0] == "--break":
        del args[0]
        sense = doorpi.NfcReader.sense

        @functools.wraps(sense)
        def broken(reader):
            if OPEN in board.levels():
                raise RuntimeError("a bug nobody thought of")
            return sense(reader)

        doorpi.NfcReader.sense = broken
    return doorpi.main(args)


if __name__ == "__main__":
    raise SystemExit(run_watched(sys.argv[1], sys.argv[2:]))
