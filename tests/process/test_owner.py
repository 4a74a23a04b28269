"""The owner's day at a door that runs: each verb and each edit counts at the next tap."""

from __future__ import annotations

import contextlib

import pytest

import doorpi
from tests.helpers.processes import KEN_CARD, MIKA_CARD, DoorProcess, write_config
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN, MIKA, STRANGER

QUICK = 'on_tap = "unlock"'


@pytest.fixture
def config(tmp_path, cloud, radio):
    cloud.motor_s = 0.05
    return write_config(tmp_path, cloud, radio.device, door=QUICK)


@pytest.fixture
def door(config):
    with DoorProcess(config) as door:
        yield door.until_ready()


@pytest.fixture
def verb(config, capsys):
    """A verb in this process, while the door runs in its own."""

    def run(*args: str) -> str:
        assert doorpi.main(["--config", str(config), *args]) == 0
        return capsys.readouterr().out

    return run


def seen(event: doorpi.Event) -> tuple[str, str]:
    return event.holder, event.reason.value


def test_allow_and_revoke_while_the_door_runs(door, radio, verb):
    assert seen(door.tap(radio, STRANGER)) == ("", "not-found")

    assert "Jo Guest may enter with 04:FF:EE:DD:CC:BB:AA (presented" in verb(
        "allow", "Jo Guest"
    )
    assert seen(door.tap(radio, STRANGER)) == ("Jo Guest", "granted")
    assert "Jo Guest  04:FF:EE:DD:CC:BB:AA  always" in verb("cards")

    verb("revoke", "Jo Guest")
    assert seen(door.tap(radio, STRANGER)) == ("Jo Guest", "not-enabled")

    verb("allow", "Mika Mori", "--uid", STRANGER)
    assert seen(door.tap(radio, STRANGER)) == ("Mika Mori", "granted")


def test_revoke_of_a_card_in_the_file_outlives_the_door(door, radio, verb, config):
    assert seen(door.tap(radio, KEN)) == ("Ken Sato", "granted")
    verb("revoke", "Ken Sato")
    assert seen(door.tap(radio, KEN)) == ("Ken Sato", "not-enabled")
    door.stop()

    with DoorProcess(config) as again:
        again.until_ready()
        assert seen(again.tap(radio, KEN)) == ("Ken Sato", "not-enabled")
        verb("allow", "Ken Sato", "--uid", KEN)
        assert seen(again.tap(radio, KEN)) == ("Ken Sato", "granted")


def test_edit_is_in_force_within_two_seconds(door, radio, verb, config):
    verb("allow", "Mika of the database", "--uid", MIKA)
    assert seen(door.tap(radio, MIKA)) == ("Mika of the database", "granted")

    text = config.read_text(encoding="utf-8")
    watch = Stopwatch()
    # In front: a file whose end is missing is waited for, as it may still be on its way.
    edited = f"{MIKA_CARD}enabled = false\n{text}"
    config.write_text(edited, encoding="utf-8")
    logged = "Mika of the database: always -> switched off"
    door.until(lambda: logged in door.journal, "the change is logged", 5)
    assert watch.own_s < 2.5  # and this process has looked at it every 10 ms
    assert seen(door.tap(radio, MIKA)) == ("Mika Mori", "not-enabled")

    config.write_text(text, encoding="utf-8")
    door.until(
        lambda: "Mika Mori: now Mika of the database" in door.journal,
        "the change is logged again",
        5,
    )
    assert seen(door.tap(radio, MIKA)) == ("Mika of the database", "granted")
    assert KEN_CARD in text


def test_lockdown_outlives_the_door(door, radio, verb, config):
    verb("lockdown", "on")
    assert seen(door.tap(radio, KEN)) == ("Ken Sato", "locked-down")
    door.until(lambda: "locked down" in door.status, "STATUS= says so")
    door.stop()

    with DoorProcess(config) as again:
        again.until_ready()
        again.until(lambda: "locked down" in again.status, "STATUS= says so again")
        assert seen(again.tap(radio, KEN)) == ("Ken Sato", "locked-down")
        verb("lockdown", "off")
        assert seen(again.tap(radio, KEN)) == ("Ken Sato", "granted")
        logged = [(event.source, event.reason.value) for event in again.events]
    assert logged == [
        ("command", "lockdown-on"),
        ("card", "locked-down"),
        ("card", "locked-down"),
        ("command", "lockdown-off"),
        ("card", "granted"),
    ]


def test_master_card_enrols_a_card(tmp_path, cloud, radio, verb):
    master = f'{MIKA_CARD}role = "master"\n'
    config = write_config(tmp_path, cloud, radio.device, cards=master, door=QUICK)
    with DoorProcess(config) as door:
        door.until_ready()

        opened = door.tap(radio, MIKA)
        new = door.tap(radio, STRANGER)

        assert (opened.detail, new.detail) == ("enrolment open for 15 s", "enrolled")
        assert cloud.commands == []
        assert seen(door.tap(radio, STRANGER)) == (new.holder, "granted")
        assert new.holder.startswith("Card of 20")
        assert verb("allow", "Jo Guest", "--uid", STRANGER).endswith(
            f"(until now: {new.holder})\n"
        )
        assert seen(door.tap(radio, STRANGER)) == ("Jo Guest", "granted")
    with contextlib.closing(doorpi.SqliteStore(tmp_path / "state/doorpi.db")) as store:
        assert store.events.verify() is None
