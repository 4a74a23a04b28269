"""Digital ID: which codes are its own, its decision table to the letter, and replays."""

from __future__ import annotations

import logging

import pytest

from doorpi import Medium, Origin, Reason
from tests.fakes.authorities import API_KEY, Employee, FakeDigitalId, Token, json_reply
from tests.fakes.cloud import Reply
from tests.helpers.asking import Asking, secret

TOKEN = "a1b2" * 16


@pytest.fixture
def server(clock):
    server = FakeDigitalId(clock)
    server.tokens[TOKEN] = Token()
    yield server
    server.close()


@pytest.fixture
def care(server, clock):
    care = Asking(
        "digital-id",
        server,
        clock,
        api_key=secret(API_KEY),
        organisations=(1, 5),
        location="Main_Entrance",
        device_id="TURNSTILE_01",
    )
    yield care
    care.close()


def url(care, **query: str) -> str:
    query = {"token": TOKEN, **query}
    words = "&".join(f"{key}={value}" for key, value in query.items())
    return f"{care.fake.base_url}/verify.php?{words}"


def test_digital_id_grants_an_employee_with_one_post(care, server):
    found = care.ask(url(care), Medium.QR)

    assert found.who is not None
    assert (found.who.holder, found.who.source) == ("John Smith", Origin.AUTHORITY)
    assert found.detail == (
        "employee=EMP001; display=John Smith; location=Main_Entrance; device=TURNSTILE_01"
    )
    assert server.asked == ["POST /api/verify-token.php"]
    request = server.requests[0]
    assert request.json == {
        "token": TOKEN,
        "type": "qr",
        "location": "Main_Entrance",
        "device_id": "TURNSTILE_01",
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-api-key"] == API_KEY
    assert request.headers["accept-encoding"] == "identity"


OURS = {
    "verify URL": "{base}/verify.php?token={token}",
    "another order": "{base}/verify.php?x=1&token={token}",
    "capitals": "{base}/verify.php?token={TOKEN}",
    "AIM prefix": "]Q1{base}/verify.php?token={token}",
    "blanks around it": "  {base}/verify.php?token={token} ",
    "the token alone": "{token}",
    "the token in capitals": "{TOKEN}",
}
FOREIGN = {
    "nothing": "",
    "another host": "http://evil.example/verify.php?token={token}",
    "another scheme": "https://{host}/verify.php?token={token}",
    "another port": "http://127.0.0.1:1/verify.php?token={token}",
    "another path": "{base}/other.php?token={token}",
    "a path beyond": "{base}/verify.php/x?token={token}",
    "a user in front": "http://user@{host}/verify.php?token={token}",
    "a tab inside": "{base}/verify.php?tok\ten={token}",
    "no token": "{base}/verify.php",
    "two tokens": "{base}/verify.php?token={token}&token={token}",
    "an empty token": "{base}/verify.php?token=",
    "a short token": "{base}/verify.php?token=abc",
    "not hex": "{base}/verify.php?token=" + 64 * "g",
    "a trailing blank": "{base}/verify.php?token={token}%20",
    "63 digits": 63 * "a",
    "too long": "{base}/verify.php?token={token}&x=" + 512 * "y",
    "a bad port": "http://127.0.0.1:99999999/verify.php?token={token}",
    "a bad host": "http://[::1/verify.php?token={token}",
    "control characters": "{base}/verify.php?token={token}\x00",
}


def filled(pattern: str, care: Asking) -> str:
    base = care.fake.base_url
    return pattern.format(
        base=base, token=TOKEN, TOKEN=TOKEN.upper(), host=base.removeprefix("http://")
    )


@pytest.mark.parametrize("code", OURS)
def test_digital_id_takes_its_own_codes(care, code):
    assert care.ask(filled(OURS[code], care), Medium.QR).who


@pytest.mark.parametrize("code", FOREIGN)
def test_digital_id_does_not_take_another_code(care, server, code):
    request = care.request(filled(FOREIGN[code], care), Medium.QR)

    assert not care.authority.takes(request)
    assert server.requests == []


def test_digital_id_takes_no_cards(care):
    assert not care.authority.takes(care.request(TOKEN, Medium.CARD))


@pytest.mark.parametrize("kind", ["nfc", "ble"])
def test_digital_id_is_asked_with_the_type_of_the_url(care, server, kind):
    server.tokens[TOKEN] = Token(kind=kind)

    assert care.ask(url(care, type=kind), Medium.QR).who
    assert server.requests[0].json["type"] == kind


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("token_not_found", Reason.NOT_FOUND),
        ("expired", Reason.TOKEN_EXPIRED),
        ("revoked", Reason.REVOKED),
        ("card_expired", Reason.CARD_EXPIRED),
        ("employee_inactive", Reason.NOT_ENABLED),
        ("verification_failed", Reason.NOT_FOUND),
        ("a_new_word", Reason.NOT_FOUND),
    ],
)
def test_digital_id_denies_with_its_reason(care, server, word, reason):
    server.tokens[TOKEN] = Token(refusal=word)

    found = care.ask(url(care), Medium.QR)

    assert (found.who, found.reason) == (None, reason)
    assert "location=Main_Entrance" in found.detail


def test_digital_id_denies_another_organisation(care, server):
    server.tokens[TOKEN] = Token(Employee(organisation=2))

    assert care.ask(url(care), Medium.QR).reason is Reason.OTHER_ORGANISATION


def test_digital_id_denies_an_employee_who_is_not_active(care, server):
    server.tokens[TOKEN] = Token(Employee(is_active=False))

    assert care.ask(url(care), Medium.QR).reason is Reason.NOT_ENABLED


def verdict(**changes: object) -> dict[str, object]:
    table = {
        "success": True,
        "valid": True,
        "employee": Employee().table,
        "verification_type": "qr",
    }
    return {**table, **changes}


FAULTS = {
    "database down": Reply(
        200, b"Database connection failed. Please check your configuration."
    ),
    "HTML before the JSON": Reply(200, b"<br />Warning{}"),
    "success without valid": json_reply(200, {"success": True}),
    "success is text": json_reply(200, verdict(success="true")),
    "valid is 1": json_reply(200, verdict(valid=1)),
    "they disagree": json_reply(200, verdict(valid=False)),
    "a no with 200": json_reply(200, {"success": False, "valid": False}),
    "another type": json_reply(200, verdict(verification_type="nfc")),
    "no type": json_reply(200, verdict(verification_type=None)),
    "no employee": json_reply(200, verdict(employee=None)),
    "an employee as text": json_reply(200, verdict(employee="John")),
    "no organisation": json_reply(200, verdict(employee={"full_name": "J"})),
    "organisation as text": json_reply(
        200, verdict(employee={**Employee().table, "organisation_id": "1"})
    ),
    "organisation is true": json_reply(
        200, verdict(employee={**Employee().table, "organisation_id": True})
    ),
    "no name": json_reply(
        200, verdict(employee={**Employee().table, "full_name": " "})
    ),
    "a list": json_reply(200, [verdict()]),
    "null": json_reply(200, None),
    "NaN": Reply(200, b'{"success":true,"valid":true,"x":NaN}'),
    "duplicate keys": Reply(
        200, b'{"success":false,"success":true,"valid":true,"employee":{}}'
    ),
    "deep nesting": Reply(200, b'{"a":' * 50_000),
    "an endless answer": Reply(200, b"[" * 1_000_000),
    "missing_token": json_reply(400, {"success": False, "error": "missing_token"}),
    "unauthorized": json_reply(401, {"success": False, "error": "unauthorized"}),
    "a proxy's 403": Reply(403, b"<html>Forbidden</html>"),
    "403 with a yes": json_reply(403, verdict()),
    "404": Reply(404, b"<html>File not found.</html>"),
    "server_error": json_reply(500, {"success": False, "error": "server_error"}),
    "500, empty": Reply(500),
    "redirect": Reply(302, b"", ("Location: http://127.0.0.1:1/",)),
    "429": Reply(429),
    "503": Reply(503),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_digital_id_gives_no_verdict(care, server, fault):
    server.script = [FAULTS[fault]]

    found = care.ask(url(care), Medium.QR)

    assert (found.who, found.reason) == (None, Reason.AUTHORITY_UNREACHABLE)
    assert len(server.requests) == 1


def test_digital_id_is_asked_once_more_if_nothing_was_answered(care, server):
    server.script = [Reply(200, delivery="cut")]

    assert care.ask(url(care), Medium.QR).who
    assert len(server.requests) == 2


def test_digital_id_is_not_asked_a_third_time(care, server):
    server.script = [Reply(200, delivery="cut")] * 3

    assert care.ask(url(care), Medium.QR).reason is Reason.AUTHORITY_UNREACHABLE
    assert len(server.requests) == 2


# -- replays


def test_a_token_that_was_verified_is_refused_for_ten_minutes(care, server, clock):
    assert care.ask(url(care), Medium.QR).who

    clock.advance(4)
    assert care.ask(url(care), Medium.QR).reason is Reason.REPLAYED
    clock.advance(580)
    assert care.ask(TOKEN.upper(), Medium.QR).reason is Reason.REPLAYED
    clock.advance(20)
    assert care.ask(url(care), Medium.QR).who
    assert len(server.requests) == 2


def test_the_bounce_of_one_scan_is_no_replay(care, clock):
    assert care.ask(url(care), Medium.QR).who

    clock.advance(1)

    assert care.ask(url(care), Medium.QR).who


def test_a_replay_is_refused_after_a_restart(care):
    assert care.ask(url(care), Medium.QR).who

    care.restart()

    assert care.ask(url(care), Medium.QR).reason is Reason.REPLAYED


def test_a_token_that_was_refused_may_be_shown_again(care, server, clock):
    server.tokens[TOKEN] = Token(refusal="employee_inactive")
    assert care.ask(url(care), Medium.QR).reason is Reason.NOT_ENABLED
    server.tokens[TOKEN] = Token()
    clock.advance(5)

    assert care.ask(url(care), Medium.QR).who


def test_what_is_remembered_of_tokens_is_a_hash_and_bounded(care, server, clock):
    tokens = [f"{i:064x}" for i in range(20)]
    for token in tokens:
        server.tokens[token] = Token()
        assert care.ask(token, Medium.QR).who
        clock.advance(60)

    kept = care.memory.texts["verified"]
    assert len(kept.split()) <= 11
    assert not any(token in kept for token in tokens)


# -- around it


def test_the_probe_of_digital_id(care, server):
    assert care.authority.probe() == ""
    assert server.requests[0].json["token"] == 64 * "0"

    server.key = "another"
    assert "key is wrong" in care.authority.probe()

    server.script = [Reply(404, b"<html>")]
    assert "no Digital ID server" in care.authority.probe()


def test_neither_token_nor_key_is_in_a_detail_or_a_log(care, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [json_reply(500, {"message": f"{TOKEN} {API_KEY}"})]

    found = care.ask(url(care), Medium.QR)

    assert found.detail
    for hidden in (TOKEN, API_KEY):
        assert hidden not in found.detail + caplog.text
