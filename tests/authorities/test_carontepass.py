"""CarontePass: each row of its table of answers, one request a presentation, and trust."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest

from doorpi import Medium, Origin, Reason, Uid, spelled
from tests.fakes.authorities import PASSWORD, USER, FakeCarontePass, json_reply
from tests.fakes.cloud import Reply
from tests.helpers.asking import Asking, secret
from tests.helpers.wire import RawServer
from tests.helpers.world import KEN

CODE = "4.169.60.113"  # of KEN, as the ESP8266 writes it


@pytest.fixture
def server(clock):
    server = FakeCarontePass(clock)
    server.members[CODE] = 12, True
    yield server
    server.close()


@pytest.fixture
def space(server, clock):
    space = Asking(
        "carontepass",
        server,
        clock,
        user=USER,
        password=secret(PASSWORD),
        trust_for_s=3600,
    )
    yield space
    space.close()


@pytest.mark.parametrize(
    ("uid", "form", "code"),
    [
        ("040F2C82C45E80", "dotted", "4.15.44.130"),
        ("040F2C82C45E80", "dotted-cascade", "136.4.15.44"),
        ("0123AB07", "dotted", "1.35.171.7"),
        ("0123AB07", "dotted-cascade", "1.35.171.7"),
        ("040F2C82C45E80", "hex", "040f2c82c45e80"),
        ("040F2C82C45E80", "hex-dotted", "04.0F.2C.82.C4.5E.80"),
    ],
)
def test_spelled_writes_a_uid_as_the_clients_of_carontepass_do(uid, form, code):
    assert spelled(Uid(uid), form) == code


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("http", ["HTTP/1.0", "HTTP/1.1"])
def test_carontepass_grants_a_member_who_has_paid_with_one_request(
    space, server, version, http
):
    server.version, server.http = version, http

    found = space.ask()

    assert found.who is not None
    assert (found.who.holder, found.who.uid) == ("space user 12", KEN)
    assert found.who.source is Origin.AUTHORITY
    assert found.detail == "asked space"
    assert server.asked == [f"GET /api/1/device/{CODE}"]
    assert server.inside == {CODE: True}


@pytest.mark.parametrize("version", [2, 3])
def test_carontepass_does_not_know_a_stranger(space, server, version):
    server.version, server.members = version, {}

    found = space.ask()

    assert (found.who, found.reason) == (None, Reason.NOT_FOUND)
    assert found.detail == "asked space"


def test_carontepass_denies_a_member_who_has_not_paid(space, server):
    server.members[CODE] = 12, False

    assert space.ask().reason is Reason.NOT_FOUND


DEVICE = {"id": 7, "user": 12, "kind": "card", "code": CODE, "result": True}
#: What is an answer but no verdict, and what is none at all.
FAULTS = {
    "an element without result": json_reply(200, [{"id": 7, "code": CODE}]),
    "the echo of another code": json_reply(200, [{**DEVICE, "code": "1.2.3.4"}]),
    "true as text": json_reply(200, [{**DEVICE, "result": "true"}]),
    "1 for true": json_reply(200, [{**DEVICE, "result": 1}]),
    "an object": json_reply(200, DEVICE),
    "a list in a list": json_reply(200, [[DEVICE]]),
    "null": json_reply(200, None),
    "HTML": Reply(200, b"<html>result: true</html>"),
    "nothing": Reply(200),
    "deep nesting": Reply(200, b"[" * 50_000),
    "an endless answer": Reply(200, b"[" * 1_000_000),
    "NaN": Reply(200, b'[{"code":"4.169.60.113","result":true,"user":NaN}]'),
    "duplicate keys": Reply(
        200, b'[{"code":"4.169.60.113","result":null,"result":true}]'
    ),
    "not UTF-8": Reply(200, b'[{"code":"4.169.60.113","result":true,"user":"\xff"}]'),
    "password wrong": json_reply(401, {"detail": "Invalid username/password."}),
    "forbidden": json_reply(403, {"detail": "no"}),
    "code with one dot": Reply(404, b"<h1>Not Found</h1>"),
    "wrong method": Reply(405),
    "not acceptable": Reply(406),
    "too many": Reply(429, b"", ("Retry-After: 5",)),
    "a redirect": Reply(301, b"", ("Location: http://127.0.0.1:1/device",)),
    "500 after the flip": Reply(500, b"<h1>Server Error</h1>"),
    "bad gateway": Reply(502),
    "cut off": Reply(200, b"[", delivery="cut"),
    "dripping": Reply(200, json.dumps([DEVICE]).encode(), delivery="drip"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_carontepass_gives_no_verdict_and_is_not_asked_again(space, server, fault):
    server.script = [FAULTS[fault]]

    found = space.ask()

    assert (found.who, found.reason) == (None, Reason.AUTHORITY_UNREACHABLE)
    assert found.detail
    assert len(server.requests) == 1


def test_carontepass_with_a_code_twice_is_ambiguous(space, server):
    server.script = [json_reply(200, [DEVICE, DEVICE])]

    assert space.ask().reason is Reason.AMBIGUOUS


def test_carontepass_that_is_off_cannot_be_asked(space, server):
    server.go_offline()

    found = space.ask()

    assert found.reason is Reason.AUTHORITY_UNREACHABLE
    assert "127.0.0.1" in found.detail


def test_a_dead_kept_connection_does_not_flip_presence_twice(space, server):
    """HTTP that asks again on a dead connection would count as going out."""
    answers = iter([True, False])

    def serve(wire):
        wire.request()
        if next(answers):
            body = json.dumps([DEVICE]).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            wire.send(head + body)
            wire.request()

    with contextlib.closing(RawServer(serve)) as raw:
        space.settings["base_url"] = raw.url
        space.restart()
        assert space.ask().who

        found = space.ask()

        assert found.who  # on trust
        assert found.detail.startswith("on space's answer")
        assert len(raw.requests) == 2
        space.close()


# -- trust


def test_the_last_yes_opens_while_the_server_cannot_be_asked(space, server, clock):
    assert space.ask().who
    server.go_offline()
    clock.advance(1800)

    found = space.ask()

    assert found.who is not None
    assert found.who.holder == "space user 12"
    assert found.detail.startswith("on space's answer of 2026-11-18 12:00; ")
    assert found.who.needs_clock  # `decide` refuses it while the clock is not set


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "cut off"])
def test_the_last_yes_opens_while_there_is_no_verdict(space, server, fault):
    assert space.ask().who
    server.script = [FAULTS[fault]]

    assert space.ask().who


def test_trust_survives_a_restart(space, server):
    assert space.ask().who
    server.go_offline()

    space.restart()

    assert space.ask().who


def test_trust_ends(space, server, clock):
    assert space.ask().who
    server.go_offline()

    clock.advance(3600)

    assert space.ask().reason is Reason.AUTHORITY_UNREACHABLE


def test_trust_is_not_in_a_yes_of_the_future(space, server, clock):
    """The clock was wrong, then or now."""
    assert space.ask().who
    server.go_offline()

    clock.advance(-7200)

    assert space.ask().reason is Reason.AUTHORITY_UNREACHABLE


@pytest.mark.parametrize("no", [[], [{**DEVICE, "result": None}]])
def test_a_no_ends_trust_at_once(space, server, no):
    assert space.ask().who
    server.script = [json_reply(200, no)]
    assert space.ask().reason is Reason.NOT_FOUND
    server.go_offline()

    assert space.ask().reason is Reason.AUTHORITY_UNREACHABLE


def test_trust_for_0_s_is_none(space, server):
    space.settings["trust_for_s"] = 0
    space.restart()
    assert space.ask().who
    server.go_offline()

    assert space.ask().reason is Reason.AUTHORITY_UNREACHABLE


def test_a_member_is_not_trusted_for_another(space, server):
    assert space.ask().who
    server.go_offline()

    assert space.ask("0123AB07").reason is Reason.AUTHORITY_UNREACHABLE


def test_what_is_trusted_stays_bounded(space, server):
    space.authority.most_trusted = 3
    server.script = [
        json_reply(200, [{**DEVICE, "code": spelled(Uid(f"0123AB{i:02X}"), "dotted")}])
        for i in range(5)
    ]
    for i in range(5):
        assert space.ask(f"0123AB{i:02X}").who

    assert len(json.loads(space.memory.texts["trusted"])) == 3


# -- around it


def test_carontepass_is_asked_about_cards_alone(space):
    authority = space.authority
    taken = [each for each in Medium if authority.takes(space.request(KEN, each))]

    assert taken == [Medium.CARD]


def test_the_probe_finds_address_and_password_right_without_a_flip(space, server):
    assert space.authority.probe() == ""
    assert server.asked == ["GET /api/1/device/0/"]
    assert server.inside == {}


def test_the_probe_finds_a_wrong_password(space, server):
    space.settings["password"] = secret("wrong-password")
    space.restart()

    assert "the password is wrong" in space.authority.probe()


def test_the_probe_finds_another_server(space, server):
    server.script = [Reply(404, b"<html>nothing here</html>")]

    assert "no CarontePass server" in space.authority.probe()


def test_the_password_is_in_no_detail_and_no_log(space, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [json_reply(500, {"detail": f"{USER}:{PASSWORD}"})]

    found = space.ask()

    assert PASSWORD not in found.detail + caplog.text
