"""`doorpi.py run` as a real process: nfcpy, sockets, signals, SQLite, a lock's cloud."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockPin

import doorpi
from doorpi import (
    Command,
    GpioLights,
    Pattern,
    ProcessSignals,
    Result,
    Signal,
    Stopped,
)
from tests.fakes.cloud import answers
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.virtual import VirtualCard, VirtualField
from tests.helpers.processes import (
    GREEN,
    KEN_CARD,
    MIKA_CARD,
    PROGRAM,
    RED,
    ROOT,
    DoorProcess,
    catches,
    doorpi_says,
    environment,
    sockets_of,
    wait_for,
    write_config,
)
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN, MIKA, STRANGER

WATCHED = str(ROOT / "tests" / "helpers" / "processes.py")


def moves(cloud) -> list[Command]:
    return [command for _, command in cloud.commands]


def put(radio, *uids: str) -> None:
    radio.put(*(VirtualCard(bytes.fromhex(uid)) for uid in uids))


@pytest.fixture
def config(tmp_path, cloud, radio):
    return write_config(tmp_path, cloud, radio.device)


@pytest.fixture(scope="module", autouse=True)
def tap_without_reader(tmp_path_factory):
    """`tap` waits 5 s for a reader: it does so while the other tests run."""
    cloud, radio = LiveSesameMini(), VirtualField()
    radio.close()  # its port is free again
    config = write_config(tmp_path_factory.mktemp("lonely"), cloud, radio.device)
    cloud.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "doorpi", "--config", str(config), "tap", KEN],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True,
    )  # fmt: skip
    yield process, radio.device
    process.kill()
    process.communicate()


# -- a tap


def test_a_tap_moves_the_lock_and_is_logged(config, cloud, radio):
    cloud.latency_s = 0.05
    with DoorProcess(config) as door:
        door.until_ready()
        began = datetime.now(UTC)
        put(radio, KEN)
        tapped_at = time.monotonic()
        event = door.until_event(1)
        took_ms = (time.monotonic() - tapped_at) * 1000
        radio.take()
        door.until_idle(radio, polls=15)
        door.tap(radio, STRANGER)
        door.tap(radio, KEN)

        said = doorpi_says("--config", str(config), "log", "--json")

    assert moves(cloud) == [Command.UNLOCK, Command.LOCK]
    assert 150 <= event.latency_ms <= took_ms  # three round trips
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    at = datetime.fromisoformat(rows[0].pop("at"))
    assert 0 <= (at - began).total_seconds() <= took_ms / 1000
    assert rows[0] == {
        "id": 1, "uid": KEN, "holder": "Ken Sato", "decision": "granted",
        "reason": "granted", "command": "unlock", "result": "unlocked",
        "latency_ms": event.latency_ms, "source": "card", "detail": "", "point": "", "request": "",
    }  # fmt: skip
    assert {key: rows[1][key] for key in rows[1] if key != "at"} == {
        "id": 2, "uid": STRANGER, "holder": "", "decision": "denied",
        "reason": "not-found", "command": None, "result": None,
        "latency_ms": None, "source": "card", "detail": "", "point": "", "request": "",
    }  # fmt: skip
    assert (rows[2]["command"], rows[2]["result"]) == ("lock", "locked")


def test_a_card_acts_once_and_a_wallet_of_two_acts_twice(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, cards=KEN_CARD + MIKA_CARD)
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        door.until_event(1)
        door.until_idle(radio, polls=40)  # lies there on, four times rearm_s and more
        held = moves(cloud)
        radio.take()
        door.until_idle(radio, polls=15)

        put(radio, KEN, MIKA)
        door.until_event(3)
        door.until_idle(radio, polls=80)

        assert held == [Command.UNLOCK]
        assert moves(cloud) == [Command.UNLOCK, Command.LOCK, Command.UNLOCK]
        assert sorted(event.uid for event in door.events[1:]) == [KEN, MIKA]


def test_a_tap_costs_no_new_connection(config, cloud, radio):
    with DoorProcess(config) as door:
        door.until_ready()
        door.until(lambda: cloud.connections, "a connection opened ahead")

        for _ in range(2):
            door.tap(radio, KEN)

    assert len(cloud.commands) == 2
    assert cloud.connections == 1


# -- the service manager's protocol


def test_systemd_gets_every_message_in_order(config, cloud, radio):
    with DoorProcess(config, WATCHDOG_USEC="400000") as door:
        door.until_ready()
        door.reload()
        door.until(lambda: door.manager.said.count("WATCHDOG=1") >= 5, "beats")
        door.stop()
        said, story = door.manager.said, door.manager.story

    assert story == [
        "READY=1", "STATUS=ready", "RELOADING=1", "READY=1", "STOPPING=1",
    ]  # fmt: skip
    reloading = next(word for word in said if word.startswith("RELOADING"))
    at = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading)
    assert at
    assert 0 < time.monotonic() - int(at[1]) / 1e6 < 20


def test_the_watchdog_is_fed_while_a_tap_is_retried(config, cloud, radio):
    cloud.fail_always("503")
    with DoorProcess(config, WATCHDOG_USEC="1000000") as door:
        door.until_ready()
        put(radio, KEN)
        door.until(lambda: "status" in cloud.stages, "the first try")
        beats = door.manager.said.count("WATCHDOG=1")

        door.until(lambda: len(cloud.requests) >= 2, "the second try")

        assert door.manager.said.count("WATCHDOG=1") > beats


def test_another_process_watchdog_is_not_fed(config, radio):
    env = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    with DoorProcess(config, **env) as door:
        door.until_ready()
        door.until_idle(radio, polls=20)

        assert "WATCHDOG=1" not in door.manager.said


# -- two at once


def test_second_door_refuses_and_leaves_the_first_alone(config, cloud, radio):
    cloud.bolt.motor_s = 1.0
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        wait_for(lambda: cloud.commands, "the unlock")

        second = doorpi_says("--config", str(config), "run")

        event = door.until_event(1)
    state = config.parent / "state"
    assert second.returncode == 1
    assert second.stderr == (
        f"{state}: another DoorPi works with this directory;"
        " stop it first: sudo systemctl stop doorpi\n"
    )
    assert event.result == "unlocked"  # its event was not closed by the second


def test_killed_door_does_not_block_the_next(config):
    with DoorProcess(config) as door:
        door.until_ready()
        door.stop(signal.SIGKILL)

    with DoorProcess(config) as door:
        door.until_ready()


def test_a_card_that_is_left_on_the_reader_opens_no_door_at_a_start(
    config, cloud, radio
):
    put(radio, KEN)
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        with DoorProcess(config) as door:
            door.until_ready()
            door.until_idle(radio, polls=10)
            door.stop(end)

    with DoorProcess(config) as door:
        door.until_ready()
        radio.take()
        door.until_idle(radio, polls=15)
        left_there = moves(cloud)
        door.tap(radio, KEN)

    assert (left_there, moves(cloud)) == ([], [Command.UNLOCK])


# -- being stopped

FAULTS = {
    "hangs at the status": ("hang-before", "status", 1, None),
    "hangs at the command": ("hang-after", "command", 1, Command.UNLOCK),
    "hangs at the result": ("hang-before", "confirm", 1, Command.UNLOCK),
    "is asked again and again": ("503", "status", 2, None),
}


@pytest.mark.parametrize(
    ("fault", "stage", "requests", "command"), FAULTS.values(), ids=FAULTS
)
def test_sigterm_ends_a_tap_at_once_while_the_cloud(
    config, cloud, radio, fault, stage, requests, command
):
    cloud.fail_always(fault, at=stage)
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        door.until(lambda: cloud.stages.count(stage) >= requests, stage)

        code, seconds = door.stop()

        (event,) = door.events
        assert code == 0
        assert seconds < 2
        assert (event.command, event.result, event.detail) == (
            command,
            Result.INTERRUPTED,
            "the door was stopped",
        )
        assert event.latency_ms >= 0
        assert "Traceback" not in door.journal
        assert door.manager.story[-1] == "STOPPING=1"


def test_door_with_a_lost_reader_ends_at_sigterm(tmp_path, cloud):
    """Nobody at the other end: nfcpy sits in its wait of 1 s."""
    radio = VirtualField()
    radio.close()
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()

        code, seconds = door.stop()

    assert code == 0
    assert seconds < 1


def test_a_door_whose_reader_does_not_exist_is_ready_says_so_and_ends(tmp_path, cloud):
    config = write_config(tmp_path, cloud, "tty:nosuch:pn532")
    with DoorProcess(config) as door:
        door.until_ready()
        lost = "card reader: tty:nosuch:pn532: no reader found"
        door.until(lambda: door.status == lost, "STATUS of the lost reader")

        code, seconds = door.stop()

        assert code == 0
        assert seconds < 1
        assert door.journal.count(lost) == 1  # however often it was tried


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.06, 0.1])
def test_sigterm_while_starting_ends_without_a_traceback(config, seconds):
    with DoorProcess(config) as door:
        # Before, the signal's default is to end the process, and none of it is ours.
        door.until(lambda: catches(door.pid, signal.SIGTERM), "it catches signals")
        time.sleep(seconds)  # the moment is what is at stake
        code, took = door.stop()

        assert code == 0
        assert took < 2
        assert "Traceback" not in door.journal


# -- the lights of a process that ends

LIT = '[signals]\nready = "* A"\n'  # both on, so that it is seen that they go off


def watched(history, *more: str) -> tuple[str, ...]:
    return (WATCHED, str(history), *more)


def history_of(history) -> dict[int, list[tuple[float, bool]]]:
    return {
        int(pin): [(at, on) for at, on in changes]
        for pin, changes in json.loads(history.read_text()).items()
    }


ENDINGS = {
    signal.SIGTERM: 0,
    signal.SIGINT: 0,
    signal.SIGQUIT: 128 + signal.SIGQUIT,
    signal.SIGABRT: 128 + signal.SIGABRT,
    signal.SIGUSR1: 128 + signal.SIGUSR1,
}


@pytest.mark.parametrize(("number", "code"), ENDINGS.items())
def test_the_lights_are_off_after(tmp_path, cloud, radio, number, code):
    history = tmp_path / "lights.json"
    config = write_config(tmp_path, cloud, radio.device, more=LIT)
    with DoorProcess(config, program=watched(history)) as door:
        door.until_ready()
        door.until_idle(radio)

        ended = door.stop(number)

        assert ended[0] == code
        assert ended[1] < 2
        assert door.journal.splitlines()[-1].endswith(" stopping")
        assert door.events == []
        assert door.manager.story[-1] == "STOPPING=1"
    lights = history_of(history)
    assert sorted(lights) == [RED, GREEN]
    for changes in lights.values():
        assert True in [on for _, on in changes]
        assert changes[-1][1] is False


class StoppingPin(MockPin):
    """SIGTERM comes when it is lit, with the thread that plays the lights half made."""

    def _change_state(self, value):
        if value:
            signal.raise_signal(signal.SIGTERM)
        return super()._change_state(value)


@pytest.fixture
def signals():
    """The door's handlers, in this process, for the length of a test."""
    before = {n: signal.getsignal(n) for n in (*ProcessSignals.stops, signal.SIGHUP)}
    signals = ProcessSignals()
    signals.install()
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_while_a_light_begins_waits_until_it_can_be_put_out(
    signals, monkeypatch
):
    """Else its thread could be neither ended nor left, and the lamp stays on."""
    factory = MockFactory(pin_class=StoppingPin)
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    lit = {**doorpi.Parser({}).patterns(), Signal.READY: Pattern("A", None)}
    lights = GpioLights(doorpi.LedsConfig(), lit)
    lights.open()

    with pytest.raises(Stopped):
        lights.show(Signal.READY)
    lights.close()

    assert [factory.pin(n).state for n in (GREEN, RED)] == [0, 0]


def test_a_stop_that_python_swallowed_is_raised_again_at_the_next_look(signals):
    with contextlib.suppress(Stopped):  # as after a __del__
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        signals.reload_asked()
    assert stopped.value.number == signal.SIGTERM


def test_a_second_signal_does_not_disturb_the_first(signals):
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)

    signal.raise_signal(signal.SIGTERM)


def test_reload_is_asked_for_once_however_many_signals(signals):
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)

    assert [signals.reload_asked(), signals.reload_asked()] == [True, False]


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC], ids=os.strerror)
def test_a_failed_write_somewhere_in_the_door_is_no_closed_output(config, number):
    """`log | head` ends without a word; a door that breaks says where, and is started
    again."""
    bug = f"def bug(*_): raise OSError({number}, 'of a pin library')"
    code = f"import sys, doorpi\n{bug}"
    code += "\ndoorpi.Door.step = bug; sys.exit(doorpi.main(sys.argv[1:]))"
    with DoorProcess(config, program=("-c", code)) as door:
        assert door.process.wait(10) == 1
        assert "Traceback" in door.journal
        assert "of a pin library" in door.journal


#: Source: proc(5): the signals that a thread blocks, as a mask.
def blocked_by_threads(pid: int) -> dict[str, bool]:
    """Whether each thread, by its id, blocks what would end or reload the door."""
    wanted = sum(1 << number - 1 for number in (*ProcessSignals.stops, signal.SIGHUP))
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            mask = re.search(r"SigBlk:\s*(\w+)", (thread / "status").read_text())[1]
            found[thread.name] = int(mask, 16) & wanted == wanted
    return found


def test_signals_reach_the_main_thread_only(config, cloud, radio):
    """Another's would not end what the main thread waits for."""
    cloud.fail_always("hang-before", at="status")
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        door.until(lambda: cloud.stages.count("status"), "the request")

        blocked = blocked_by_threads(door.pid)

        assert len(blocked) >= 2  # the lights have theirs
        assert [name for name, is_deaf in blocked.items() if not is_deaf] == [
            str(door.pid)
        ]


@pytest.mark.parametrize("burst", range(2))
def test_signals_in_any_mixture_end_the_door_while_a_request_hangs(
    config, cloud, radio, burst
):
    cloud.fail_always("hang-before", at="status")
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        door.until(lambda: cloud.stages.count("status"), "the request")
        kinds = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]

        code, took_s = door.stop(
            *random.Random(burst).choices(kinds, k=6), signal.SIGTERM
        )

        assert (code, took_s < 2) == (0, True)


def test_the_lights_are_off_after_a_bug(tmp_path, cloud, radio):
    history = tmp_path / "lights.json"
    config = write_config(tmp_path, cloud, radio.device, more=LIT)
    with DoorProcess(config, program=watched(history, "--break")) as door:
        door.until_ready()
        door.until(Path(f"{history}.lit").exists, "the lights, which come after READY")
        put(radio, KEN)

        assert door.process.wait(10) == 1
        assert "RuntimeError: a bug nobody thought of" in door.journal
    lights = history_of(history)
    assert sorted(lights) == [RED, GREEN]
    for changes in lights.values():
        assert True in [on for _, on in changes]
        assert changes[-1][1] is False


@pytest.mark.realtime
def test_the_working_light_is_on_within_50_ms_of_the_card_being_read(
    tmp_path, cloud, radio
):
    """The monotonic clock is the same for both processes."""
    history = tmp_path / "lights.json"
    dark = '[signals]\nready = "* ."\n'
    config = write_config(tmp_path, cloud, radio.device, more=dark)
    cloud.latency_s = 0.2  # the light must not wait for the lock
    with DoorProcess(config, program=watched(history)) as door:
        door.until_ready()
        put(radio, KEN)
        watch = Stopwatch()
        assert radio.wait_until_read(5)
        read_at = time.monotonic()
        door.until_event(1)
        held_up_s = watch.held_up_s
        door.stop()

    first_on = next(at for at, on in history_of(history)[GREEN] if on)
    assert first_on - read_at - held_up_s < 0.05


# -- reload


def test_bad_edit_changes_nothing_and_correcting_it_heals(
    tmp_path, config, cloud, radio
):
    with DoorProcess(config) as door:
        door.until_ready()
        good = config.read_text()

        config.write_text(good.replace("poll_s", "pol_s") + "[[card]]\nuid = '1'\n")
        door.reload()
        status = door.status
        known = door.tap(radio, KEN)
        config.write_text(good)
        door.reload()

        assert known.result is Result.UNLOCKED
        assert status == (
            "doorpi.toml has 3 problems; the last good settings are in force"
        )
        assert "reader.pol_s: unknown key" in door.journal
        assert door.status == "ready"
        assert door.manager.story[:8] == [
            "READY=1", "STATUS=ready",
            "RELOADING=1", "STATUS=" + status, "READY=1",
            "RELOADING=1", "STATUS=ready", "READY=1",
        ]  # fmt: skip


def test_missing_settings_file_changes_nothing(config, radio):
    with DoorProcess(config) as door:
        door.until_ready()
        config.unlink()

        door.reload()

        assert door.tap(radio, KEN).result is Result.UNLOCKED
        assert f"{config}: no such file" in door.journal


def test_the_lights_move_to_other_pins_at_a_reload(tmp_path, cloud, radio):
    history = tmp_path / "lights.json"
    config = write_config(tmp_path, cloud, radio.device, more=LIT)
    with DoorProcess(config, program=watched(history)) as door:
        door.until_ready()
        door.until_idle(radio)
        other = "[leds]\ngreen_gpio = 5\nred_gpio = 6\n"
        write_config(tmp_path, cloud, radio.device, more=LIT + other)
        door.reload()
        door.until_idle(radio)
        door.stop()

    lights = history_of(history)
    assert sorted(lights) == [5, 6, RED, GREEN]
    for changes in lights.values():
        assert True in [on for _, on in changes]
        assert changes[-1][1] is False
    assert lights[GREEN][-1][0] < max(at for at, on in lights[5] if on)


# -- being killed


def test_a_door_killed_in_the_middle_of_a_tap_closes_it_at_the_next_start(
    config, cloud, radio
):
    cloud.fail("hang-after", at="command")
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        door.until(lambda: cloud.commands, "the command at the lock")
        door.stop(signal.SIGKILL)
        radio.take()
        (begun,) = door.events
    assert (begun.command, begun.result) == (Command.UNLOCK, None)

    with DoorProcess(config) as door:
        door.until_ready()
        closed = door.events[0]
        event = door.tap(radio, KEN)
        verified = doorpi_says("--config", str(config), "log", "--verify")

        assert (closed.command, closed.result) == (Command.UNLOCK, Result.INTERRUPTED)
        assert "1 event cut off by a restart: logged as interrupted" in door.journal
        assert event.result is Result.LOCKED  # the first command had its effect
        assert moves(cloud) == [Command.UNLOCK, Command.LOCK]
        assert (verified.returncode, verified.stderr) == (0, "")


# -- trouble


def test_a_broken_configuration_is_exit_78_with_every_problem(tmp_path, cloud):
    config = write_config(
        tmp_path, cloud, "floppy", lock="confirm_s = 0", cards='[[card]]\nuid = "xyz"\n'
    )

    with DoorProcess(config) as door:
        code = door.process.wait(10)

        lines = door.journal.splitlines()
        assert code == 78
        assert lines[0] == f"{config}: 4 problems"
        keys = {re.split(" = |: ", line.strip())[0] for line in lines[1:]}
        assert keys == {
            "reader.device",
            "lock.confirm_s",
            "card 1.holder",
            "card 1.uid",
        }
        assert door.manager.said == []


def test_a_missing_configuration_is_exit_78(tmp_path):
    with DoorProcess(tmp_path / "doorpi.toml") as door:
        assert door.process.wait(10) == 78
        path = tmp_path / "doorpi.toml"
        assert door.journal == f"{path}: 1 problem\n  {path}: no such file\n"


def test_a_cloud_that_is_dead_at_the_start_is_used_when_it_is_there(
    tmp_path, cloud, radio
):
    config = write_config(tmp_path, cloud, radio.device, lock="unlock_window_s = 2.0")
    cloud.go_offline()
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)
        watch = Stopwatch()
        dead = door.until_event(1)
        took_s = watch.own_s
        radio.take()
        door.until_idle(radio, polls=15)
        cloud.go_online()

        alive = door.tap(radio, KEN)

        assert (dead.command, dead.result) == (None, Result.UNREACHABLE)
        assert took_s < 2.5
        assert "connection refused" in dead.detail
        assert (alive.command, alive.result) == (Command.UNLOCK, Result.UNLOCKED)
        assert door.manager.said.count("READY=1") == 1


def test_unusable_state_dir_keeps_nobody_out(tmp_path, cloud, radio):
    (tmp_path / "in-the-way").write_text("a file")
    config = write_config(
        tmp_path, cloud, radio.device, door='state_dir = "in-the-way/state"'
    )
    with DoorProcess(config) as door:
        door.until_ready()
        put(radio, KEN)

        door.until(lambda: cloud.commands, "the lock moves")
        done = "granted: Ken Sato (04:A9:3C:71:5E:D2:84): unlock -> unlocked"
        door.until(lambda: done in door.journal, "the journal's line")

        assert door.status.startswith("database: ")
        assert str(tmp_path / "in-the-way") in door.status
        assert door.stop()[0] == 0
        assert "Traceback" not in door.journal


def test_a_database_of_garbage_is_set_aside_and_keeps_nobody_out(config, radio):
    database = config.parent / "state" / "doorpi.db"
    database.parent.mkdir()
    database.write_bytes(b"this is no database" * 500)
    with DoorProcess(config) as door:
        door.until_ready()

        event = door.tap(radio, KEN)

        assert event.result is Result.UNLOCKED
        assert len(list(database.parent.glob("doorpi.db.broken-*"))) == 1


def test_noise_on_the_virtual_reader_does_not_disturb(config, radio):
    """Datagrams of garbage to the field; the reader's side is in test_reader.py."""
    with DoorProcess(config) as door:
        door.until_ready()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
            for garbage in (b"", b"106A", b"106A zz", b"\xff" * 5000, b"RFOFF"):
                noise.sendto(garbage, ("127.0.0.1", radio.port))

        assert door.tap(radio, KEN).result is Result.UNLOCKED
        assert door.status == "ready"


# -- what must not get out, or in


def test_nothing_listens(tmp_path, cloud):
    config = write_config(tmp_path, cloud, "tty:nosuch:pn532")
    with DoorProcess(config) as door:
        door.until_ready()
        door.until(lambda: cloud.connections, "a connection to the lock")

        sockets = sockets_of(door.pid)

    assert [state for _, state in sockets["tcp"]] == ["01"]  # established, outbound
    assert (sockets["tcp6"], sockets["udp"], sockets["udp6"]) == ([], [], [])


def test_the_virtual_readers_port_answers_nobody(tmp_path, cloud):
    """With no field there, nfcpy's socket stays open for 1 s at a time."""
    radio = VirtualField()
    radio.close()
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()
        (bound,) = door.until(lambda: sockets_of(door.pid)["udp"], "a poll")
        port = int(bound[0].partition(":")[2], 16)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as visitor:
            visitor.settimeout(0.3)
            for word in (b"hello", b"106A 26", b"106A", b"RFOFF", b"\0" * 100):
                visitor.sendto(word, ("127.0.0.1", port))

            with pytest.raises(TimeoutError):
                visitor.recv(100)


def test_the_key_is_in_no_place_where_others_look(tmp_path, cloud, radio):
    cloud.key = "Zebra-Quagga-secret"
    echo = answers(400, b'{"error": "bad key Zebra-Quagga-secret"}')
    cloud.faults = cloud.faults | {"echo": echo}
    config = write_config(tmp_path, cloud, radio.device, lock="unlock_window_s = 1")
    with DoorProcess(config) as door:
        door.until_ready()
        for fault in ("echo", "401", "html", "cut-before"):
            cloud.fail_always(fault)
            assert door.tap(radio, KEN).result is not Result.UNLOCKED
        config.write_text(config.read_text().replace("Zebra", "Zebra\\u0000"))
        door.reload()
        seen = "\n".join(
            [
                door.journal,
                *door.manager.said,
                Path(f"/proc/{door.pid}/cmdline").read_text(),
                *(event.detail for event in door.events),
            ]
        )
        state = list((config.parent / "state").iterdir())
        (kept,) = (part for part in state if part.name == "last-good.json")
        state.remove(kept)  # the settings themselves, as private as their file
        on_disk = b"".join(part.read_bytes() for part in state)

    assert "Quagga" not in seen
    assert b"Quagga" not in on_disk
    assert kept.stat().st_mode & 0o007 == 0


def test_a_proxy_in_the_environment_is_ignored(config, cloud, radio):
    """A door goes straight to its lock, whatever the shell that starts it has set."""
    nowhere = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), nowhere)
    with DoorProcess(config, **proxies, NO_PROXY=None, no_proxy=None) as door:
        door.until_ready()

        assert door.tap(radio, KEN).result is Result.UNLOCKED


# -- ways to start it


def test_without_gpio_the_door_works_in_the_dark_and_says_so(config, radio):
    with DoorProcess(config, GPIOZERO_PIN_FACTORY="nosuchfactory") as door:
        door.until_ready()

        event = door.tap(radio, KEN)

        assert event.result is Result.UNLOCKED
        door.until(lambda: "no lights: " in door.journal, "the words")
        door.until(lambda: door.status.startswith("ready; no lights: "), "the trouble")


def test_where_there_is_no_gpio_gpiozero_finds_none(config, radio):
    if list(Path("/dev").glob("gpiochip*")):
        pytest.skip("this machine has GPIO")
    with DoorProcess(config, GPIOZERO_PIN_FACTORY=None) as door:
        door.until_ready()

        door.until(lambda: door.status.startswith("ready; no lights: "), "the trouble")
        door.until(lambda: "no lights: " in door.journal, "the words")
        assert "Warning" not in door.journal


def test_the_script_itself_is_the_same_program(config, radio):
    """All other tests start it as `python -m doorpi`."""
    with DoorProcess(config, program=(PROGRAM,), PYTHONPATH=None) as door:
        door.until_ready()

        assert door.tap(radio, KEN).result is Result.UNLOCKED


# -- tap


def test_tap_presents_a_card_to_a_running_door(tmp_path, cloud):
    radio = VirtualField()
    radio.close()  # only its port is wanted
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()

        said = doorpi_says("--config", str(config), "tap", "04:a9:3c:71:5e:d2:84")
        event = door.until_event(1)

    assert (said.returncode, said.stdout, said.stderr) == (
        0,
        "04:A9:3C:71:5E:D2:84 was read\n",
        "",
    )
    assert event.result is Result.UNLOCKED


def test_tap_says_when_no_reader_looks(tap_without_reader):
    process, device = tap_without_reader

    wait_for(lambda: process.poll() is not None, "tap gives up", 15)

    words = f"no reader looked at {device} within 5 s; is `run` running?\n"
    assert process.communicate() == ("", words)
    assert process.returncode == 1
