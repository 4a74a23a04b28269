"""Relock, fallback and budget in real processes: `run`, the verbs, and what is on disk."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

import doorpi
from doorpi import (
    Command,
    Notes,
    Reason,
    Result,
    SqliteStore,
)
from tests.fakes.live_cloud import LiveSesame, LiveSesameMini
from tests.fakes.virtual import VirtualCard
from tests.helpers.processes import (
    DoorProcess,
    doorpi_says,
    environment,
    wait_for,
    write_config,
)
from tests.helpers.world import KEN, STRANGER, QuickClock


def moves(cloud) -> list[Command]:
    return [command for _, command in cloud.commands]


def put(radio) -> None:
    radio.put(VirtualCard(bytes.fromhex(KEN)))


def fallback_to(cloud: LiveSesameMini) -> str:
    return cloud.table("fallback")


@pytest.fixture
def second():
    cloud = LiveSesameMini()
    yield cloud
    cloud.close()


@pytest.fixture
def says(monkeypatch, capsys):
    """Exit code and output of a verb; its pauses take no time."""
    monkeypatch.setattr(doorpi, "SystemClock", QuickClock)

    def says(config, verb: str) -> tuple[int, str]:
        code = doorpi.main(["--config", str(config), verb])
        return code, capsys.readouterr().out

    return says


def sources(door) -> list[tuple[str, Command | None, Result | None]]:
    return [(event.source, event.command, event.result) for event in door.events]


# -- relock


@pytest.mark.parametrize(
    "fault", [None, "hang-after"], ids=["unlocked", "not confirmed"]
)
def test_door_relocks_after_kill_and_restart(tmp_path, cloud, radio, fault):
    config = write_config(tmp_path, cloud, radio.device, lock="relock_after_s = 2")
    with DoorProcess(config) as door:
        door.until_ready()
        if fault:
            cloud.fail(fault, "command")
        put(radio)
        wait_for(lambda: cloud.commands, "the unlock")
        door.send(signal.SIGKILL)
        door.process.wait()
        radio.take()

    with DoorProcess(config) as door:
        door.until(lambda: len(cloud.commands) == 2, "the lock")
        door.until_event(2)

        assert moves(cloud) == [Command.UNLOCK, Command.LOCK]
        assert cloud.commands[1][0] - cloud.commands[0][0] >= 1.9
        assert sources(door)[1:] == [("relock", "lock", "locked")]


def test_door_relocks_after_the_verb_unlock(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, lock="relock_after_s = 1")
    with DoorProcess(config) as door:
        door.until_ready()

        said = doorpi_says("--config", str(config), "unlock")
        door.until_event(2)

        assert sources(door)[1:] == [("relock", "lock", "locked")]
        assert "auto-relock: locked in " in door.journal
    assert (said.returncode, said.stdout) == (0, "unlocked\n")
    assert moves(cloud) == [Command.UNLOCK, Command.LOCK]


def test_status_shows_a_relock_and_lock_cancels_it(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, lock="relock_after_s = 590")
    with DoorProcess(config) as door:
        door.until_ready()
        door.tap(radio, KEN)

        before = doorpi_says("--config", str(config), "status")
        said = doorpi_says("--config", str(config), "lock")
        after = doorpi_says("--config", str(config), "status")

    state, relock = before.stdout.splitlines()
    assert state == "unlocked, it answers, battery 80 %"
    assert re.fullmatch(r"to be locked again in 5\d\d s", relock)
    assert said.stdout == "locked\n"
    assert after.stdout == "locked, it answers, battery 80 %\n"


def test_status_shows_which_lock_relocks(tmp_path, cloud, radio, second, says):
    config = write_config(
        tmp_path, cloud, radio.device, lock="relock_after_s = 590",
        more=fallback_to(second),
    )  # fmt: skip
    cloud.go_offline()
    says(config, "unlock")
    cloud.go_online()

    _, told = says(config, "status")

    assert re.search(r"\nfallback: to be locked again in 5\d\d s$", told)


# -- fallback


def test_fallback_opens_without_the_cloud(tmp_path, cloud, radio, second):
    config = write_config(tmp_path, cloud, radio.device, more=fallback_to(second))
    with DoorProcess(config) as door:
        door.until_ready()
        cloud.go_offline()

        event = door.tap(radio, KEN)

    assert moves(second) == [Command.UNLOCK]
    assert (event.command, event.result) == ("unlock", "unlocked")
    assert event.detail == (
        "moved by the fallback (sesame-mini);"
        " the lock: cannot reach 127.0.0.1: connection refused"
    )


def test_verbs_use_the_fallback(tmp_path, cloud, radio, second, says):
    config = write_config(tmp_path, cloud, radio.device, more=fallback_to(second))
    cloud.go_offline()
    unreachable = "cannot reach 127.0.0.1: connection refused"

    assert says(config, "unlock") == (
        0,
        f"unlocked: moved by the fallback (sesame-mini); the lock: {unreachable}\n",
    )
    assert says(config, "status") == (
        1,
        (
            f"not known: {unreachable}\n"
            "fallback (sesame-mini): unlocked, it answers, battery 80 %\n"
        ),
    )
    assert says(config, "lock") == (1, f"unreachable: {unreachable}\n")
    assert moves(second) == [Command.UNLOCK]


# -- a lock that does not answer


def test_tap_wakes_a_sleeping_lock(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()
        cloud.is_responsive = False

        event = door.tap(radio, KEN)

    assert event.result == "unlocked"
    assert moves(cloud) == [Command.UNLOCK]
    assert "its hub is asked to contact it" in door.journal


def test_verbs_leave_a_blocked_account_alone(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()
        cloud.fail("blocked")
        door.tap(radio, KEN)
        asked = len(cloud.requests)

        again = door.tap(radio, KEN)
        status = doorpi_says("--config", str(config), "status")

    assert again.detail == "rate-limited: no calls for 30 min"
    assert status.stdout == "not known: rate-limited: no calls for 30 min\n"
    assert len(cloud.requests) == asked


# -- calls are a budget


@pytest.fixture
def sesame(tmp_path):
    """A current Sesame, and a file of settings that names it."""
    cloud = LiveSesame(motor_s=0.1)
    path = tmp_path / "doorpi.toml"
    path.write_text(f"{cloud.table()}confirm_s = 0.5\n")
    path.chmod(0o600)
    yield path
    cloud.close()


def used(config, calls: int) -> None:
    store = SqliteStore(config.parent / "state" / "doorpi.db")
    month = time.strftime("calls sesame %Y-%m")
    store.events.keep(
        Notes(counts={month: calls - int(store.events.recall(month) or 0)})
    )
    store.close()


def test_status_counts_itself_and_warns_from_80_percent_on(sesame):
    def calls_told() -> str:
        said = doorpi_says("--config", str(sesame), "status")
        assert said.returncode == 0
        first, second = said.stdout.splitlines()
        assert first.startswith("locked, it answers, battery 94 %, as of ")
        return second

    assert calls_told() == "1 of this month's 3,000 calls are used (0 %)"
    used(sesame, 2398)
    assert calls_told() == "2,399 of this month's 3,000 calls are used (79 %)"
    assert calls_told() == "warning: 2,400 of this month's 3,000 calls are used (80 %)"


def test_unlock_confirms_however_few_calls_are_left(sesame):
    used(sesame, 2999)

    said = doorpi_says("--config", str(sesame), "unlock")

    assert (said.returncode, said.stdout) == (0, "unlocked\n")


# -- verbs that are stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_unlock_closes_its_event_when_stopped(tmp_path, cloud, radio, number):
    config = write_config(tmp_path, cloud, radio.device)
    cloud.fail_always("hang-before", "confirm")
    verb = subprocess.Popen(
        [sys.executable, "-m", "doorpi", "--config", str(config), "unlock"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: "confirm" in cloud.stages, "the question what came of it")

    verb.send_signal(number)
    said, complaints = verb.communicate(timeout=10)

    store = SqliteStore(tmp_path / "state" / "doorpi.db")
    (event,) = store.events.read()
    store.close()
    assert verb.returncode == 128 + number
    assert (said, complaints) == ("", "")
    assert (event.command, event.result) == ("unlock", "interrupted")


# -- a cloud that hangs


def test_door_denies_and_stops_while_the_cloud_hangs(tmp_path, cloud, radio):
    cloud.fail_always("hang-before", at="status")
    with DoorProcess(write_config(tmp_path, cloud, radio.device)) as door:
        door.until_ready()
        put(radio)
        door.until(lambda: cloud.stages.count("status"), "the question to the lock")
        radio.put(VirtualCard(bytes.fromhex(STRANGER)))

        door.until(lambda: door.events, "a denial", 4)

        assert [event.reason for event in door.events] == [Reason.NOT_FOUND]
        code, took_s = door.stop()
        ken = door.events[-1]

    assert (code, took_s < 2.0) == (0, True)
    assert (ken.uid, ken.command, ken.result) == (KEN, None, Result.INTERRUPTED)
