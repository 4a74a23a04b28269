"""What holds for every driver that speaks to a vendor's cloud."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    Command,
    LockError,
    LockState,
    MaybeSent,
    NotSent,
    Outcome,
    QuotaError,
    RequestRefused,
    Result,
    Throttled,
    Unreadable,
)
from tests.fakes.cloud import Reply
from tests.fakes.locks import DRIVERS, driver_of, taps_at
from tests.helpers.world import FakeClock, Taps


@pytest.fixture(params=DRIVERS)
def taps(request, clock):
    with taps_at(request.param, clock) as taps:
        yield taps


# -- what WebLock makes of an answer, for all of them

LIMIT = b'{"message": "Limit Exceeded"}'
NO_JSON = "HTTP 200 with an answer that is not JSON"
TABLE_OF_ANSWERS = {
    "empty": (200, b"", Unreadable, "HTTP 200 with an answer that is empty"),
    "html": (200, b"<html>", Unreadable, NO_JSON),
    "not-text": (200, b"\xff\xfe\xfd", Unreadable, NO_JSON),
    "deep": (200, b"[" * 60_000, Unreadable, NO_JSON),
    "list": (200, b"[]", Unreadable, "HTTP 200 with JSON that is not an object"),
    "redirect": (302, b"", RequestRefused, "HTTP 302: a redirect, not followed"),
    "mute": (400, b"", RequestRefused, f"HTTP 400{doorpi.NOT_THERE}"),
    "explained": (400, b'{"title": "Why."}', RequestRefused, "HTTP 400 Why"),
    "version": (410, b'{"detail": "old Version"}', RequestRefused, "HTTP 410 old Version"),
    "timeout": (408, b"", MaybeSent, "HTTP 408"),
    "unprocessable": (422, b"", RequestRefused, "HTTP 422"),
    "burst": (429, b'{"message": "Slowly."}', Throttled, "HTTP 429 Slowly"),
    "quota": (429, LIMIT, QuotaError, "HTTP 429 Limit Exceeded: the plan's calls are used up"),
    "internal": (500, b'{"error": {"message": "Oops."}}', MaybeSent, "HTTP 500 Oops"),
    "bad-gateway": (502, b"<html>", MaybeSent, "HTTP 502"),
    "gateway-timeout": (504, b"", MaybeSent, "HTTP 504"),
}  # fmt: skip
#: Where a vendor gives an answer a meaning of its own, which its own tests have.
OTHERWISE = {("nuki-bridge", "version")}
IS_ENOUGH = {"sesame": "send", "nuki-web": "send"}  # a command's 200, whatever it says


@pytest.mark.parametrize("case", TABLE_OF_ANSWERS)
def test_status_refused_has_class_and_words(taps, case):
    status, body, error, words = TABLE_OF_ANSWERS[case]
    if (kind_of(taps), case) in OTHERWISE:
        return
    taps.cloud.script = [(status, body)]

    with pytest.raises(LockError) as caught:
        taps.status()

    assert (type(caught.value), str(caught.value)) == (error, words)


def kind_of(taps: Taps) -> str:
    return next(kind for kind, fake in DRIVERS.items() if type(taps.cloud) is fake)


@pytest.mark.parametrize(
    "case", ["html", "redirect", "unprocessable", "burst", "internal"]
)
def test_send_refused_has_class_and_words(taps, case):
    status, body, error, words = TABLE_OF_ANSWERS[case]
    taps.cloud.script = [(status, body)]
    if status == 200 and kind_of(taps) in IS_ENOUGH:
        assert taps.send() is None
        return

    with pytest.raises(LockError) as caught:
        taps.send()

    assert (type(caught.value), str(caught.value)) == (error, words)


@pytest.mark.parametrize(
    ("header", "after_s"),
    [((), 10.0), (("Retry-After: 3",), 3.0), (("Retry-After: 3599",), 3599.0),
     (("Retry-After: Sat, 28 Nov 2026 21:00:00 GMT",), 10.0)],
)  # fmt: skip
def test_throttled_says_how_long_to_wait(taps, header, after_s):
    taps.cloud.script = [Reply(429, b"", header)]

    with pytest.raises(Throttled) as caught:
        taps.status()

    assert caught.value.after_s == after_s


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
def test_error_never_contains_a_key(taps, status):
    keys = [text for key, text in taps.cloud.credentials.items() if key[-4:] == "_key"]
    body = json.dumps({"message": f"bad key {' '.join(keys)}"}).encode()
    taps.cloud.script = [(status, body), (200, b"[]")]

    with pytest.raises(LockError) as caught:
        taps.status()

    assert not [key for key in keys if key in str(caught.value)]


@pytest.mark.parametrize("kind", DRIVERS)
def test_device_id_is_quoted_in_the_url(clock, kind):
    with taps_at(kind, clock, device_id="../x?y#z") as taps:
        with pytest.raises(LockError):
            taps.status()

        assert "..%2Fx%3Fy%23z" in taps.cloud.asked[0]
        assert not [path for path in taps.cloud.asked if "../" in path or "#" in path]


def test_status_is_one_request_without_a_body(taps):
    status = taps.status()

    [request] = taps.cloud.requests
    assert request.body == b""
    assert status.state is LockState.LOCKED


@pytest.mark.parametrize("command", Command)
def test_send_is_one_request_with_an_explicit_command(taps, command):
    taps.send(command)

    assert len(taps.cloud.requests) == 1
    assert taps.cloud.bolt.moved == [command]


def test_tap_after_a_tap_locks_again(taps):
    results = [taps.tap().result, taps.tap().result]

    assert results == [Result.UNLOCKED, Result.LOCKED]
    assert taps.cloud.bolt.moved == [Command.UNLOCK, Command.LOCK]
    assert taps.cloud.bolt.place == "locked"


# -- the vendors' addresses

ADDRESSES = {
    "sesame": "https://app.candyhouse.co/api",
    "sesame-mini": "https://api.candyhouse.co/public",
    "switchbot": "https://api.switch-bot.com/v1.1",
    "nuki-web": "https://api.nuki.io",
    "tedee": "https://api.tedee.com/api/v37",
}


def test_base_url_has_a_default_for_every_cloud():
    assert set(ADDRESSES) == set(DRIVERS) - {
        "nuki-bridge"
    }  # its owner tells where it is


@pytest.mark.parametrize(("kind", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_base_url_defaults_to_the_vendors(clock, monkeypatch, kind, address):
    def refuse(host, port, **hints):
        raise socket.gaierror(f"{host}:{port}")

    cloud = DRIVERS[kind](clock)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)  # a test asks no real server
    lock = driver_of(cloud, base_url="")

    with pytest.raises(NotSent) as caught:
        lock.status(clock.monotonic() + 5)

    assert str(caught.value) == (
        f"cannot reach {address.split('/')[2]}:"
        " its name cannot be looked up (no network, or no DNS)"
    )
    lock.close()
    cloud.close()


#: What the drivers look for in answers, and what they know of it.
KEYS = [
    "locked", "responsive", "battery", "task_id", "status", "successful", "error",
    "CHSesame2Status", "wm2State", "batteryPercentage", "timestamp", "message",
    "statusCode", "body", "lockState", "onlineStatus", "calibrate",
    "result", "success", "isConnected", "lockProperties", "state", "batteryLevel",
    "operationId", "errorMessages", "nukiId", "deviceType", "lastKnownState",
    "batteryCritical", "batteryCharge", "serverState", "updateDate", "type",
]  # fmt: skip
WORDS = [
    "locked", "unlocked", "\ud800", "", "terminated", "processing", "COMPLETED",
    "PENDING", "100", "171", "190", "online", "2026-11-21T12:00:00Z", "9" * 400,
    "DEVICE_IS_BUSY 3", "limit exceeded", "\x1b[2J\n",
]  # fmt: skip
VALUES = st.recursive(
    st.sampled_from(WORDS)
    | st.sampled_from([None, True, False, -1, 0, 1, 2, 3, 6, 100, 254, 1e300, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)
STATUSES = st.sampled_from(
    [200] * 6 + [204, 302, 400, 401, 403, 404, 410, 423, 429, 503]
)
ANSWERS = st.lists(
    st.builds(
        lambda status, value: Reply(status, json.dumps(value).encode()),
        STATUSES,
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8) | VALUES,
    )
    | st.none(),  # the right answer
    max_size=8,
)


@pytest.mark.parametrize("kind", DRIVERS)
def test_move_has_an_outcome_whatever_the_cloud_answers(kind):
    clock = FakeClock()
    cloud = DRIVERS[kind](clock)
    taps = Taps(clock, cloud, driver_of(cloud))

    @settings(max_examples=30, database=None)
    @given(ANSWERS)
    def holds(answers):
        cloud.new_tap()
        cloud.script = answers
        outcome = taps.tap()
        assert isinstance(outcome, Outcome)
        assert outcome.detail.isprintable()
        clock.advance(1800.0)

    holds()
    taps.lock.close()
    cloud.close()


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("sesame-mini", {"task_id": "\ud800"}),
        ("tedee", {"result": {"operationId": "\ud800"}}),
    ],
)
def test_move_is_unsure_after_an_id_that_fits_no_url(kind, answer, caplog):
    clock = FakeClock()
    cloud = DRIVERS[kind](clock)
    cloud.script = [None, Reply(200, json.dumps(answer).encode())]
    taps = Taps(clock, cloud, driver_of(cloud))

    outcome = taps.tap()

    assert outcome.result is Result.UNSURE
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    taps.lock.close()
    cloud.close()
