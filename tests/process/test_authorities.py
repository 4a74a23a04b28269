"""A real door with a CarontePass server, Digital ID, a scanner on a pty and guest passes."""

from __future__ import annotations

import contextlib
import os
import pty
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from doorpi import Command, Reason, Result
from tests.fakes.authorities import (
    API_KEY,
    PASSWORD,
    USER,
    Employee,
    FakeCarontePass,
    FakeDigitalId,
    Token,
)
from tests.fakes.cloud import Fault, Reply
from tests.fakes.live_cloud import RealTime
from tests.fakes.virtual import VirtualCard
from tests.helpers.processes import DoorProcess, doorpi_says, wait_for, write_config

KEN, ANNA, STRANGER = "04A93C715ED284", "0123AB07", "04FFEEDDCCBBAA"
TOKEN = "a1b2" * 16


class Scanner:
    """A serial scanner: its end of a pty, which a link in ``folder`` names."""

    def __init__(self, folder) -> None:
        self.link = folder / "scanner"
        self.plug()

    def plug(self) -> None:
        self._ours, self._theirs = pty.openpty()
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._theirs))

    def unplug(self) -> None:
        self.link.unlink(missing_ok=True)
        for fd in (self._ours, self._theirs):
            with contextlib.suppress(OSError):
                os.close(fd)

    def scan(self, text: str) -> None:
        os.write(self._ours, text.encode() + b"\r")


@pytest.fixture
def scanner(tmp_path):
    scanner = Scanner(tmp_path)
    yield scanner
    scanner.unplug()


@pytest.fixture
def space():
    space = FakeCarontePass(RealTime())
    space.members["1.35.171.7"] = 12, True
    yield space
    space.clock.is_over.set()
    space.close()


@pytest.fixture
def care():
    care = FakeDigitalId(RealTime())
    care.tokens[TOKEN] = Token(Employee(name="John Smith"))
    yield care
    care.clock.is_over.set()
    care.close()


def tables(space, care, scanner) -> str:
    return f"""
[[authority]]
name = "space"
base_url = "{space.base_url}"
plain_http = true
user = "{USER}"
password = "{PASSWORD}"
answer_s = 3.0

[[authority]]
name = "care"
kind = "digital-id"
base_url = "{care.base_url}"
plain_http = true
api_key = "{API_KEY}"
organisations = [1]
location = "Main_Entrance"
device_id = "TURNSTILE_01"

[[scanner]]
name = "lobby"
device = "{scanner.link}"
authority = "care"
"""


@pytest.fixture
def config(tmp_path, cloud, radio, space, care, scanner):
    return write_config(
        tmp_path,
        cloud,
        radio.device,
        door="require_synced_clock = false",
        more=tables(space, care, scanner),
    )


def put(radio, uid: str) -> None:
    radio.put(VirtualCard(bytes.fromhex(uid)))


def until(door, source: str, number: int = 1):
    """The end of event ``number`` of that source."""

    def ended():
        found = [event for event in door.events if event.source == source]
        is_there = len(found) >= number and (
            found[number - 1].result or found[number - 1].decision == "denied"
        )
        return found[number - 1] if is_there else None

    return door.until(ended, f"{source} {number}", 20)


def test_a_member_of_the_server_is_let_in_and_counted_once(config, radio, space):
    with DoorProcess(config).until_ready() as door:
        event = door.tap(radio, ANNA)
        stranger = door.tap(radio, STRANGER)

    assert (event.holder, event.result) == ("space user 12", Result.UNLOCKED)
    assert event.details == "asked space"
    assert space.inside == {"1.35.171.7": True}
    assert (stranger.reason, stranger.details) == (Reason.NOT_FOUND, "asked space")
    assert len(space.requests) == 2


def test_our_own_members_do_not_wait_for_a_server_that_hangs(config, radio, space):
    space.faults = {**space.faults, "silent": Fault(delivery="drip")}
    space.script = [Reply(200, b"[", delivery="drip")]
    space.hang_s = 60.0
    with DoorProcess(config).until_ready() as door:
        put(radio, STRANGER)
        door.until(lambda: space.requests, "the question")
        radio.take()

        event = door.tap(radio, KEN)
        asked = [e for e in door.events if e.reason == Reason.AUTHORITY_UNREACHABLE]
        denied = until(door, "card", 2)
        reasons = {e.reason for e in door.events}

    assert event.result is Result.UNLOCKED or denied.result is Result.UNLOCKED
    assert asked == [] or asked[0].at <= event.at
    assert Reason.AUTHORITY_UNREACHABLE in reasons
    assert len(space.requests) == 1


def test_a_code_of_digital_id_opens_and_its_audit_is_in_the_log(
    config, care, scanner, cloud
):
    with DoorProcess(config).until_ready() as door:
        scanner.scan(f"{care.base_url}/verify.php?token={TOKEN}")
        event = until(door, "qr")

    assert (event.holder, event.result) == ("John Smith", Result.UNLOCKED)
    assert event.point == "lobby"
    assert event.details == (
        "employee=EMP001; display=John Smith; location=Main_Entrance; device=TURNSTILE_01"
    )
    assert [command for _, command in cloud.commands] == [Command.UNLOCK]
    said = doorpi_says(
        "--config", str(config), "log", "--csv", "--location", "Main_Entrance",
        "--device", "TURNSTILE_01",
    )  # fmt: skip
    assert "John Smith" in said.stdout
    other = doorpi_says("--config", str(config), "log", "--csv", "--location", "Main")
    assert "John Smith" not in other.stdout
    for text in (door.journal, said.stdout):
        assert TOKEN not in text
        assert API_KEY not in text


def test_a_guest_pass_opens_without_any_network(config, cloud, scanner, space, care):
    space.go_offline()
    care.go_offline()
    made = doorpi_says(
        "--config", str(config), "pass", "Jo Guest", "--until", "2099-12-01 18:00",
        "--text",
    )  # fmt: skip
    code = made.stdout.strip()
    with DoorProcess(config).until_ready() as door:
        scanner.scan(code)
        event = until(door, "qr")
        scanner.scan("https://example.org/")
        foreign = until(door, "qr", 2)
        listed = doorpi_says("--config", str(config), "pass", "--list").stdout
        revoked = doorpi_says("--config", str(config), "pass", "--revoke", listed[:8])
        scanner.scan(code[:-1] + "A")
        scanner.scan(code)
        after = wait_for(
            lambda: [e for e in door.events if e.reason == Reason.NOT_ENABLED],
            "revoked",
        )

    assert len(code) <= 140
    assert (event.holder, event.result) == ("Jo Guest", Result.UNLOCKED)
    assert foreign.reason is Reason.UNREADABLE_CODE
    assert "is revoked" in revoked.stdout
    assert after[0].holder == "Jo Guest"
    assert code not in door.journal


def test_a_scanner_may_be_unplugged_and_plugged_in_again(config, care, scanner):
    with DoorProcess(config).until_ready() as door:
        scanner.unplug()
        door.until(lambda: "scanner lobby" in door.status, "trouble")
        scanner.plug()
        door.until(lambda: "scanner lobby" not in door.status, "no trouble")

        scanner.scan(TOKEN)

        assert until(door, "qr").result is Result.UNLOCKED


def test_an_edit_brings_another_authority_and_scanner(config, care, scanner, radio):
    text = config.read_text()
    config.write_text(text.replace('name = "lobby"', 'name = "yard"'))
    with DoorProcess(config).until_ready() as door:
        config.write_text(text)
        door.reload()
        door.until_idle(radio)

        scanner.scan(TOKEN)

        assert until(door, "qr").point == "lobby"
        assert door.stop()[0] == 0


def test_doctor_asks_both_servers_about_nobody(config, space, care, scanner):
    with ThreadPoolExecutor() as hands:
        verb = hands.submit(doorpi_says, "--config", str(config), "doctor")
        while not wait([verb], 0.2).done:
            scanner.scan("4711")
    said = verb.result()

    lines = {line[6:14].strip(): line for line in said.stdout.splitlines()}
    assert "credentials are right" in said.stdout
    assert space.inside == {}
    assert care.requests[-1].json["token"] == 64 * "0"
    assert "lobby" in lines["scanner"]
    assert lines["scanner"].endswith(": read a code of 4 characters")


def test_why_names_the_server_and_does_not_ask_it(config, space, care):
    card = doorpi_says("--config", str(config), "why", ANNA, "--ask")
    code = doorpi_says("--config", str(config), "why", TOKEN)
    asked = doorpi_says("--config", str(config), "why", TOKEN, "--ask")

    assert "space would be asked" in card.stdout
    assert space.requests == []
    assert code.stdout == "care would be asked\n"
    assert "care answers: John Smith" in asked.stdout
