"""Nuki's bridge and Nuki's Web API: what goes over the wire, and what counts as done."""

from __future__ import annotations

import hashlib
import json
import random
import socket
from datetime import UTC, datetime

import pytest

import doorpi
from doorpi import (
    AuthError,
    Busy,
    Command,
    LockState,
    LockStatus,
    MaybeSent,
    NotSent,
    NukiBridge,
    NukiWeb,
    Offline,
    Outcome,
    Progress,
    RequestRefused,
    Result,
    Sent,
    Signal,
    Unreadable,
)
from tests.fakes.cloud import FakeCloud
from tests.fakes.locks import driver_of, taps_at
from tests.fakes.nuki import NUKI_ID, TOKEN, FakeBridge, FakeNukiWeb
from tests.helpers.processes import wait_for
from tests.helpers.stories import Story, play
from tests.helpers.world import FakeLock, Taps, World, card_of, config_of


class NukiTaps(Taps):
    """The same for either of Nuki's servers."""

    @property
    def server(self) -> FakeCloud:
        return self.cloud

    @property
    def paths(self) -> list[str]:
        """What was asked, without the proof."""
        return [path.split("?")[0] for path in self.server.asked]


@pytest.fixture
def bridge(clock):
    with taps_at("nuki-bridge", clock) as taps:
        yield NukiTaps(clock, taps.cloud, taps.lock)


@pytest.fixture
def web(clock):
    with taps_at("nuki-web", clock) as taps:
        yield NukiTaps(clock, taps.cloud, taps.lock)


@pytest.fixture(params=["bridge", "web"])
def either(request) -> NukiTaps:
    return request.getfixturevalue(request.param)


# -- the proof


def test_bridge_hash_is_that_of_the_vendors_example(clock, monkeypatch):
    clock.at = datetime(2019, 3, 5, 1, 6, 53, tzinfo=UTC)
    monkeypatch.setattr(random, "randrange", lambda count: 4711)
    key = doorpi.Secret("123456")
    with taps_at("nuki-bridge", clock, api_key=key) as taps:
        with pytest.raises(AuthError):
            taps.status()

        _, proof = taps.cloud.asked[0].split("&ts=")
    assert proof == (
        "2019-03-05T01:06:53Z&rnr=4711"
        "&hash=f52eb5ce382e356c4239f8fb4d0a87402bb95b7b3124f0762b806ad7d0d01cb6"
    )


REQUESTS = {
    "status": (
        lambda taps: taps.status(),
        f"/lockState?nukiId={NUKI_ID}&deviceType=0",
    ),
    "unlock": (
        lambda taps: taps.send(Command.UNLOCK),
        f"/lockAction?nukiId={NUKI_ID}&deviceType=0&action=1&nowait=0",
    ),
    "lock": (
        lambda taps: taps.send(Command.LOCK),
        f"/lockAction?nukiId={NUKI_ID}&deviceType=0&action=2&nowait=0",
    ),
    "confirm": (
        lambda taps: taps.lock.confirm(Sent(Command.LOCK, "success"), 1005.0),
        "/list?",
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_bridge_request_is_a_get_with_a_hash_of_the_token(clock, monkeypatch, case):
    ask, path = REQUESTS[case]
    server = FakeBridge(clock)
    monkeypatch.setattr(random, "randrange", lambda count: 4711)
    lock = driver_of(server)

    ask(NukiTaps(clock, server, lock))

    code = hashlib.sha256(f"2026-11-18T03:00:00Z,4711,{TOKEN}".encode()).hexdigest()
    proof = f"ts=2026-11-18T03:00:00Z&rnr=4711&hash={code}"
    joint = "" if path.endswith("?") else "&"
    assert server.asked == [f"GET {path}{joint}{proof}"]
    assert server.requests[0].body == b""
    lock.close()
    server.close()


def test_bridge_request_never_contains_the_token_nor_a_used_hash(bridge):
    bridge.tap()
    bridge.tap()

    requests = bridge.server.requests
    codes = {request.path.split("hash=")[1] for request in requests}
    assert TOKEN not in repr(requests)
    assert len(codes) == len(requests) == 6


def test_web_request_has_the_token_in_its_header(web):
    web.server.bolt.motor_s = 1.0

    web.tap()

    path = f"/smartlock/{NUKI_ID}"
    assert web.server.asked == [f"GET {path}", f"POST {path}/action", f"GET {path}"]
    assert {r.headers["authorization"] for r in web.server.requests} == {
        f"Bearer {TOKEN}"
    }
    assert web.server.requests[1].json == {"action": 1}


# -- what a status says

STATES = {
    0: (LockState.UNKNOWN, "the lock is not calibrated"),
    1: (LockState.LOCKED, ""),
    2: (LockState.UNKNOWN, "the lock is unlocking"),
    3: (LockState.UNLOCKED, ""),
    4: (LockState.UNKNOWN, "the lock is locking"),
    5: (LockState.UNLOCKED, ""),
    6: (LockState.UNLOCKED, ""),
    7: (LockState.UNKNOWN, "the lock is pulling the latch"),
    8: (LockState.UNKNOWN, "the lock says 8"),
    254: (LockState.UNKNOWN, "the lock's motor is blocked"),
    255: (LockState.UNKNOWN, "the lock does not know its state"),
    -1: (LockState.UNKNOWN, "the lock says -1"),
}


@pytest.mark.parametrize("number", STATES)
def test_status_is_known_in_four_states_only(either, number):
    table = {"state": number, "success": True}
    either.server.script = [answer(table | {"state": answer_state(either, table)})]

    status = either.status()

    assert (status.state, status.why, status.reachable) == (*STATES[number], True)


def answer(table) -> tuple[int, bytes]:
    return 200, json.dumps(table).encode()


def answer_state(taps: NukiTaps, table):
    """The Web API has a table under `state` where the bridge has a number."""
    return table if isinstance(taps.server, FakeNukiWeb) else table["state"]


@pytest.mark.parametrize("state", ["1", None, True, 1.0, [], {}])
def test_status_without_a_number_is_unreadable(either, state):
    table = {"state": state, "success": True}
    either.server.script = [answer(table | {"state": answer_state(either, table)})]

    with pytest.raises(Unreadable, match=r"^an answer without a readable `state`$"):
        either.status()


@pytest.mark.parametrize("table", [3, [3], "3", None])
def test_web_status_without_a_state_object_is_unreadable(web, table):
    web.server.script = [answer({"state": table})]

    with pytest.raises(Unreadable, match=r"^an answer without a readable `state`$"):
        web.status()


def test_bridge_status_is_read_from_the_lock(bridge):
    bridge.server.battery_is_critical = True

    assert bridge.status() == LockStatus(
        state=LockState.LOCKED,
        reachable=True,
        battery_percent=68,
        battery_is_low=True,
    )


def test_web_status_has_a_date(web):
    assert web.status() == LockStatus(
        state=LockState.LOCKED,
        reachable=True,
        battery_percent=68,
        as_of=web.clock.now().timestamp() - 3600,
    )


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("2026-11-18T03:00:00.500Z", datetime(2026, 11, 18, 3, 0, 0, 500_000, UTC)),
        ("2026-11-18T12:00:00+09:00", datetime(2026, 11, 18, 3, tzinfo=UTC)),
        ("2026-11-18T03:00:00", datetime(2026, 11, 18, 3, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (1700000000, None),
        (None, None),
    ],
)
def test_web_status_date_is_read_or_none(web, sent, read):
    web.server.script = [answer({"state": {"state": 1}, "updateDate": sent})]

    assert web.status().as_of == (read and read.timestamp())


@pytest.mark.parametrize("server_state", [4, 1, None])
def test_web_status_of_an_offline_lock_is_unknown(web, server_state):
    web.server.server_state = server_state

    status = web.status()

    assert (status.state, status.reachable) == (LockState.UNKNOWN, False)
    assert status.why == "the lock is offline"


def test_web_status_of_an_opener_is_unknown(web):
    web.server.type = 2

    status = web.status()

    assert (status.state, status.why) == (LockState.UNKNOWN, "an opener, not a lock")


# -- bad answers

# fmt: off
NO_TOKEN = "HTTP 401: the key is not accepted, or a clock is wrong, this one's or the bridge's, which needs the internet"
BRIDGE_ANSWERS = {
    "token":       (401, b"HTTP 401 Unauthorized", AuthError, NO_TOKEN),
    "no-lock":     (404, b"", RequestRefused, "HTTP 404: the bridge has no such lock"),
    "lost":        (410, b"", Offline, "HTTP 410: the bridge has lost the lock"),
    "busy":        (503, b"", Busy, "HTTP 503: the bridge is busy with another request"),
    "no-radio":    (200, b'{"success":false}', MaybeSent, "the bridge could not reach the lock"),
    "no-word":     (200, b"{}", MaybeSent, "the bridge could not reach the lock"),
}
WEB_ANSWERS = {
    "token":       (401, b"", AuthError, "HTTP 401: the key is not accepted"),
    "no-lock":     (404, b"", RequestRefused, "HTTP 404: device_id is the Web API's: since Nuki 3.0, 17179869184 + the app's id"),
    "busy":        (423, b"", Busy, "HTTP 423: the lock is busy with another operation"),
    "unavailable": (503, b"", MaybeSent, "HTTP 503"),
}
# fmt: on


@pytest.mark.parametrize("asked", ["status", "send"])
@pytest.mark.parametrize("case", BRIDGE_ANSWERS)
def test_bridge_error_has_class_and_words(bridge, case, asked):
    status, body, error, words = BRIDGE_ANSWERS[case]
    bridge.server.script = [(status, body)]

    with pytest.raises(error) as caught:
        getattr(bridge, asked)()

    assert type(caught.value) is error
    assert str(caught.value) == words


@pytest.mark.parametrize("asked", ["status", "send"])
@pytest.mark.parametrize("case", WEB_ANSWERS)
def test_web_error_has_class_and_words(web, case, asked):
    status, body, error, words = WEB_ANSWERS[case]
    web.server.script = [(status, body)]

    with pytest.raises(error) as caught:
        getattr(web, asked)()
    assert type(caught.value) is error
    assert str(caught.value) == words


@pytest.mark.parametrize("fixture", ["bridge", "web"])
def test_busy_lock_is_asked_again_after_three_seconds(request, fixture):
    taps = request.getfixturevalue(fixture)
    taps.server.script = [(503 if fixture == "bridge" else 423, b"")]

    with pytest.raises(Busy) as caught:
        taps.status()

    assert caught.value.after_s == 3.0


@pytest.mark.parametrize("body", [b"{}", b"null", b"1"])
def test_bridge_list_of_another_type_is_unreadable(bridge, body):
    bridge.server.script = [(200, body)]

    with pytest.raises(Unreadable, match=r"^HTTP 200 with JSON that is not a list$"):
        bridge.lock.confirm(Sent(Command.UNLOCK, "success"), 1005.0)


@pytest.mark.parametrize(
    "rows", [[], [None, 1, "x"], [{"nukiId": NUKI_ID}], [{"nukiId": NUKI_ID, "lastKnownState": [3]}], [{"nukiId": 1, "lastKnownState": {"state": 3}}]]
)  # fmt: skip
def test_bridge_list_without_a_state_makes_confirm_ask_the_lock_once(bridge, rows):
    bridge.send(Command.UNLOCK)
    bridge.server.script = [answer(rows), None, answer(rows)]
    by = bridge.clock.monotonic() + 60

    progress = bridge.lock.confirm(Sent(Command.UNLOCK, "success"), by)

    assert progress is Progress.DONE
    with pytest.raises(Unreadable, match=r"^an answer without a readable `state`$"):
        bridge.lock.confirm(Sent(Command.UNLOCK, "success"), by)
    assert [path.split("/")[1] for path in bridge.paths] == [
        "lockAction", "list", "lockState", "list",
    ]  # fmt: skip


# -- the bridge's pace


def test_bridge_gap_is_not_waited_for_after_idling(bridge):
    bridge.status()

    assert bridge.clock.slept == []


def test_bridge_gap_is_two_seconds_between_any_requests(bridge):
    for fault in (None, "cut-after", None, "hang-before"):
        bridge.server.script = [None, fault]
        bridge.tap()

    assert len(bridge.server.gaps_s) > 12
    assert min(bridge.server.gaps_s) == 2.0


def test_bridge_gap_is_waited_for_in_part(bridge):
    bridge.status()
    bridge.clock.advance(1.5)

    bridge.status()

    assert bridge.clock.slept == [0.5]


def test_bridge_prepare_waits_for_the_gap_before_a_command(bridge):
    bridge.status()

    bridge.lock.prepare(bridge.clock.monotonic() + 10.0)
    now = bridge.clock.monotonic()
    bridge.lock.send(Command.UNLOCK, now + 10.0, now + 20.0)

    assert bridge.clock.slept == [2.0]
    assert bridge.server.bolt.moved != []


def test_bridge_gap_that_ends_too_late_is_not_waited_for(bridge):
    bridge.status()
    now = bridge.clock.monotonic()

    with pytest.raises(NotSent) as caught:
        bridge.lock.send(Command.UNLOCK, now + 2.0, now + 20.0)

    assert str(caught.value) == "too late to send: the bridge needs its pause"
    assert bridge.clock.monotonic() == now
    assert bridge.server.bolt.moved == []


def test_bridge_send_sends_nothing_after_a_slow_connection(bridge, monkeypatch):
    look_up = socket.getaddrinfo

    def slow_look_up(*args, **kwargs):
        bridge.clock.advance(11.0)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
    now = bridge.clock.monotonic()

    with pytest.raises(NotSent):
        bridge.lock.send(Command.UNLOCK, now + 10.0, now + 22.0)

    assert bridge.server.asked == []


def test_bridge_policy_has_patience_for_a_turn_of_twenty_seconds(clock):
    class PatientLock(FakeLock):
        def send(self, command: Command, send_by: float, by: float) -> str | None:
            self.patience_s = by - self.clock.monotonic()
            return super().send(command, send_by, by)

    lock = PatientLock(clock)
    lock.policy = NukiBridge.policy

    NukiTaps(clock, None, lock).tap()

    assert lock.patience_s == NukiBridge.gap_s + 20.0


@pytest.mark.parametrize("radio_s", [6.9, 7.5, 7.99, 8.1, 9.0])
def test_bridge_send_sends_nothing_after_the_unlock_window(bridge, radio_s):
    """A slow status and the pause eat the window up."""
    bridge.server.radio_s = radio_s

    outcome = bridge.tap()

    sent_at = [
        begun - 1000.0
        for (begun, _), path in zip(bridge.server.times, bridge.paths, strict=True)
        if "lockAction" in path
    ]
    assert all(at < 10.0 for at in sent_at)
    assert (outcome.result is Result.UNLOCKED) == (len(sent_at) == 1)


def test_bridge_that_falls_silent_leaves_the_tap_unsure(bridge):
    bridge.lock.gap_s = 0.0  # as a client without manners

    outcome = bridge.tap()

    assert outcome.result is Result.UNSURE
    assert outcome.detail.startswith("127.0.0.1 did not answer in time; not confirmed")


def test_bridge_connection_is_closed_after_each_request(bridge):
    for _ in range(3):
        bridge.tap()
        bridge.clock.advance(60.0)
        bridge.lock.keep_ready()

    wait_for(lambda: bridge.server.open == 0)
    assert bridge.server.connections == len(bridge.server.requests) == 9


@pytest.mark.parametrize("kind", [3, 4])
def test_bridge_device_type_is_read_from_the_list_once(bridge, kind):
    """homebridge-nb issue 44: a 3.0 Pro asked as type 0 is not found."""
    bridge.server.device_type = kind

    outcomes = [bridge.tap().result, bridge.tap().result]

    assert outcomes == [Result.UNLOCKED, Result.LOCKED]
    assert bridge.paths == [
        "GET /lockState", "GET /list",
        "GET /lockState", "GET /lockAction", "GET /list",
        "GET /lockState", "GET /lockAction", "GET /list",
    ]  # fmt: skip
    assert min(bridge.server.gaps_s) == 2.0


def test_bridge_opener_with_the_id_is_not_moved(bridge):
    bridge.server.device_type = 2

    outcome = bridge.tap()

    words = "HTTP 404: the bridge has no such lock"
    assert outcome == Outcome(None, Result.REFUSED, words)


# -- whole taps


UNSURE = "not confirmed within 20 s: the bridge said success, the lock says locked"
BLOCKED = "the lock's motor is blocked"
BRIDGE_STORIES = {
    "plain": Story(Result.UNLOCKED, 8, 3, bolt="unlocked"),
    "a-long-turn": Story(Result.UNLOCKED, 24, 3, bolt="unlocked", switches={"motor_s": 19.0}),
    "the-list-lags": Story(Result.UNLOCKED, 11, 4, bolt="unlocked", switches={"lag_s": 3.0}),
    "the-list-never-knows": Story(Result.UNLOCKED, 11, 4, bolt="unlocked", switches={"lag_s": 900.0}),
    "the-list-has-no-state": Story(Result.UNLOCKED, 11, 4, bolt="unlocked", switches={"lists_state": False}),
    "success-and-nothing-moves": Story(Result.UNSURE, 23, 10, UNSURE, switches={"drops": 9}),
}  # fmt: skip


@pytest.mark.parametrize("case", BRIDGE_STORIES)
def test_bridge_tap_ends_as_the_lock_reports(bridge, case):
    play(bridge, BRIDGE_STORIES[case])

    assert min([*bridge.server.gaps_s, 2.0]) == 2.0


LATE = "not confirmed within 16 s"
WEB_STORIES = {
    "plain": Story(Result.UNLOCKED, 4, 4, bolt="unlocked"),
    "a-quick-turn": Story(Result.UNLOCKED, 2, 3, bolt="unlocked", switches={"motor_s": 1.9}),
    "the-cloud-lags": Story(Result.UNLOCKED, 11, 6, bolt="unlocked", switches={"lag_s": 5.0}),
    "the-cloud-never-knows": Story(Result.UNSURE, 16, 7, LATE, "unlocked", switches={"lag_s": 900.0}),
    "200-with-a-body": Story(Result.UNLOCKED, 4, 4, bolt="unlocked", switches={"accepted": (200, b'{"x":1}')}),
    "lost-once-and-a-newer-date": Story(
        Result.UNLOCKED, 8, 7, bolt="unlocked", switches={"drops": 1, "reports": [1003.5]},
    ),
    "lost-and-a-newer-date-too-late": Story(
        Result.UNSURE, 16, 7, LATE, switches={"drops": 9, "reports": [1010.5]},
    ),
    "offline-and-chosen": Story(
        Result.UNSURE, 16, 7, f"{LATE}: the lock is offline", switches={"server_state": 4}, on_unknown=Command.UNLOCK
    ),
    "busy-once": Story(Result.UNLOCKED, 7, 5, bolt="unlocked", switches={"busy_until": 1002.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", WEB_STORIES)
def test_web_tap_ends_as_a_status_proves(web, case):
    play(web, WEB_STORIES[case])


def old_and_open(web) -> None:
    """The cloud missed that the door was locked, hours ago (hass_nuki_ng 215)."""
    web.server.bolt.is_found("unlocked")
    web.clock.advance(7200.0)
    web.server.bolt.is_found("locked")
    web.server.lag_s = 3600.0
    web.clock.advance(1.0)


def test_web_wake_asks_a_lock_that_was_unlocked_for_hours(web):
    old_and_open(web)

    outcome = web.tap()

    assert (outcome.command, outcome.result) == (Command.UNLOCK, Result.UNLOCKED)
    assert [path.split("/")[-1] for path in web.paths[:5]] == [
        str(NUKI_ID), "sync", str(NUKI_ID), str(NUKI_ID), "action",
    ]  # fmt: skip


def test_web_wake_without_effect_leaves_the_clouds_state(web):
    old_and_open(web)
    web.server.hears_sync = False
    began_at = web.clock.monotonic()

    outcome = web.tap()

    assert outcome.command is Command.LOCK
    [(sent_at, _)] = web.server.received
    assert sent_at - began_at <= NukiWeb.policy.wake_s


@pytest.mark.parametrize("case", ["locked", "open for minutes", "no clock"])
def test_web_wake_is_not_used_for_a_recent_state(web, case):
    web.server.bolt.is_found("locked" if case == "locked" else "unlocked")
    web.clock.advance(1800.0 if case == "open for minutes" else 7200.0)
    web.clock.set = case != "no clock"

    web.tap()

    assert not [path for path in web.paths if path.endswith("/sync")]


#: How long the motor turns, and how much later the API knows.
TURNS_S = ((0.0, 0.0), (5.0, 0.0), (25.0, 0.0), (1.0, 4.0), (5.0, 900.0))
TROUBLES = (None, "cut-before", "cut-after", "hang-before", "hang-after")


@pytest.mark.parametrize("drops", [0, 1])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_tap_never_ends_in_a_state_that_the_bolt_is_not_in(either, drops, trouble):
    """Two taps after each other: the second begins in whatever the first left."""
    for motor_s, lag_s in TURNS_S:
        either.server.switch(motor_s=motor_s, lag_s=lag_s, drops=drops)
        if trouble:
            either.server.fail(trouble, at="command")
        for on_unknown in (None, Command.UNLOCK):
            outcome = either.tap(on_unknown)

            if outcome.result in (Result.UNLOCKED, Result.LOCKED):
                assert either.server.bolt.place == outcome.result.value
        either.clock.advance(3600.0)
        either.server.new_tap()

    # It can say so: once nothing is wrong, the light is that of a move.
    either.server.switch(motor_s=1.0, lag_s=0.0, drops=0)
    healed = either.tap(Command.UNLOCK)
    assert healed.result in (Result.UNLOCKED, Result.LOCKED)
    assert either.server.bolt.place == healed.result.value


# -- what proves anything over the web

WAS = LockStatus(state=LockState.LOCKED, as_of=1000.0)
THERE = LockStatus(state=LockState.UNLOCKED, as_of=1000.0)
LOST = LockStatus(state=LockState.UNKNOWN, as_of=1000.0)


@pytest.mark.parametrize(
    ("before", "state", "stamp", "progress"),
    [
        (WAS, 3, 1000, Progress.DONE),
        (WAS, 3, 1001, Progress.DONE),
        (WAS, 3, None, Progress.DONE),
        (WAS, 1, 1000, Progress.PENDING),
        (WAS, 1, 1001, Progress.NO_EFFECT),
        (WAS, 2, 1001, "the lock is unlocking"),
        (THERE, 3, 1000, Progress.PENDING),
        (THERE, 3, 1001, Progress.DONE),
        (THERE, 1, 1001, Progress.NO_EFFECT),
        (LOST, 3, 1000, Progress.PENDING),
        (LOST, 3, 1001, Progress.DONE),
        (LOST, 254, 1000, "the lock's motor is blocked"),
        (None, 3, 1001, Progress.PENDING),
        (None, 1, 1001, Progress.PENDING),
    ],
)
def test_web_confirm_needs_a_change_or_a_newer_date(
    web, before, state, stamp, progress
):
    date = stamp and datetime.fromtimestamp(stamp, UTC).isoformat()
    web.server.script = [answer({"state": {"state": state}, "updateDate": date})]

    assert web.learn(Command.UNLOCK, before) == progress


def test_bridge_move_to_the_present_state_is_confirmed(bridge):
    outcome = bridge.move(lambda state: Command.LOCK)

    assert outcome.result is Result.LOCKED


# -- at the door


@pytest.mark.parametrize("percent", [68, None])
def test_battery_that_the_lock_calls_low_is_shown(either, percent, caplog):
    world = World(clock=either.clock)
    world.lock = either.lock
    either.server.battery = percent
    either.server.battery_is_critical = True

    world.tap(config=config_of(card_of()))

    assert world.lights.shown[1][1] == (
        Signal.UNLOCKED,
        Signal.LOW_BATTERY,
        Signal.READY,
    )
    told = ": 68 %" if percent else ""
    assert f"the lock's battery is low{told}" in caplog.messages


def test_battery_that_is_low_is_in_the_status_words():
    status = LockStatus(state=LockState.LOCKED, reachable=True, battery_is_low=True)

    assert doorpi.status_words(status, 0.0) == "locked, it answers, battery low"
