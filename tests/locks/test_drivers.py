"""What holds for every driver that speaks to a vendor's cloud."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorpi import NotSent, Outcome, Result
from tests.fakes.cloud import Reply
from tests.fakes.locks import DRIVERS, driver_of
from tests.helpers.world import FakeClock, Taps

ADDRESSES = {
    "sesame": "https://app.candyhouse.co/api",
    "sesame-mini": "https://api.candyhouse.co/public",
    "switchbot": "https://api.switch-bot.com/v1.1",
    "nuki-web": "https://api.nuki.io",
    "tedee": "https://api.tedee.com/api/v37",
}


def test_every_driver_but_a_bridge_has_an_address():
    assert set(ADDRESSES) == set(DRIVERS) - {
        "nuki-bridge"
    }  # its owner tells where it is


@pytest.mark.parametrize(("kind", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_the_vendors_address_is_the_default(clock, monkeypatch, kind, address):
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
    assert lock.url == address
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
def test_whatever_a_cloud_answers_a_move_has_an_outcome(kind):
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
def test_an_id_that_no_url_can_carry_leaves_the_command_unsure(kind, answer, caplog):
    clock = FakeClock()
    cloud = DRIVERS[kind](clock)
    cloud.script = [None, Reply(200, json.dumps(answer).encode())]
    taps = Taps(clock, cloud, driver_of(cloud))

    outcome = taps.tap()

    assert outcome.result is Result.UNSURE
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    taps.lock.close()
    cloud.close()
