"""SwitchBot against its played cloud: signing, calls on the wire, what counts as done."""

from __future__ import annotations

import json

import pytest

import doorpi
from doorpi import (
    AuthError,
    Command,
    LockState,
    LockStatus,
    MaybeSent,
    Offline,
    Outcome,
    Progress,
    QuotaError,
    Rejected,
    RequestRefused,
    Result,
    Unreadable,
    switchbot_sign,
)
from tests.fakes.locks import taps_at
from tests.fakes.switchbot import (
    DAILY_LIMIT,
    DEVICE_ID,
    SECRET,
    TOKEN,
    UNAUTHORIZED,
    envelope,
)
from tests.helpers.stories import Story, play
from tests.helpers.world import Taps

STATUS = f"GET /v1.1/devices/{DEVICE_ID}/status"
COMMAND = f"POST /v1.1/devices/{DEVICE_ID}/commands"
LOCKED, UNLOCKED, UNKNOWN = LockState.LOCKED, LockState.UNLOCKED, LockState.UNKNOWN


@pytest.fixture
def taps(clock):
    with taps_at("switchbot", clock) as taps:
        yield taps


def status_with(**changes) -> tuple[int, bytes]:
    return envelope(body={"lockState": "locked", "calibrate": True} | changes)


# -- signing


@pytest.mark.parametrize(
    ("nonce", "sign"),
    [
        ("00000000-0000-4000-8000-000000000001", "tp4b6nmjq/NbAHLhalkQ904gupIrBnJePT3wH+L+dIw="),
        ("", "scEiPhf6S2nxhis6amRevNsNaOKZU5bJ1Ho8LTVUrp8="),
    ],
    ids=["nonce", "empty-nonce"],
)  # fmt: skip
def test_sign_is_the_known_one(nonce, sign):
    assert switchbot_sign("test-token", "test-secret", "1700000000000", nonce) == sign


def test_sign_is_new_for_every_request(taps):
    for _ in range(3):
        taps.status()

    asked = [request.headers for request in taps.cloud.requests]
    assert len({headers["nonce"] for headers in asked}) == 3
    assert len({headers["sign"] for headers in asked}) == 3


def test_tap_with_a_wrong_clock_names_the_clock(taps):
    taps.cloud.ahead_s = 86_400.0

    assert taps.tap() == Outcome(
        None,
        Result.REFUSED,
        "HTTP 401 Unauthorized: token or secret are wrong, or the clock is",
    )


# -- the wire


def test_status_is_a_signed_get(taps):
    status = taps.status()

    [request] = taps.cloud.requests
    stamp = str(int(taps.clock.now().timestamp() * 1000))
    nonce = request.headers["nonce"]
    assert taps.cloud.asked == [STATUS]
    assert request.headers["authorization"] == TOKEN
    assert request.headers["t"] == stamp
    assert request.headers["sign"] == switchbot_sign(TOKEN, SECRET, stamp, nonce)
    assert request.body == b""
    assert status == LockStatus(state=LOCKED, battery_percent=95)


@pytest.mark.parametrize("command", Command)
def test_send_is_a_signed_post(taps, command):
    assert taps.send(command) is None

    [request] = taps.cloud.requests
    assert taps.cloud.asked == [COMMAND]
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "command": command.value,
        "parameter": "default",
        "commandType": "command",
    }
    assert taps.cloud.bolt.moved == [command.value]


# -- what a status says

NOT_TOLD = "the cloud does not report the lock's state: is its cloud service off, or is device_id the hub's?"
SPELLINGS = {
    "locked": (LOCKED, ""),
    "lock": (LOCKED, ""),
    "LOCKED": (LOCKED, ""),
    "Lock": (LOCKED, ""),
    "unlocked": (UNLOCKED, ""),
    "unlock": (UNLOCKED, ""),
    "UNLOCKED": (UNLOCKED, ""),
    "Unlock": (UNLOCKED, ""),
    "jammed": (UNKNOWN, "the lock is jammed"),
    "JAMMED": (UNKNOWN, "the lock is jammed"),
    "locking": (UNKNOWN, "the bolt is moving"),
    "unlocking": (UNKNOWN, "the bolt is moving"),
    "halfLocked": (UNKNOWN, "the bolt is half out"),
    "latchBoltLocked": (UNKNOWN, "only the latch holds the door"),
    "LatchBoltLocked": (UNKNOWN, "only the latch holds the door"),
    "": (UNKNOWN, NOT_TOLD),
    "Ajar\n": (UNKNOWN, r"the lock says 'ajar\n'"),
    f"x{SECRET}x": (UNKNOWN, "the lock says 'x***x'"),
}


@pytest.mark.parametrize("word", SPELLINGS)
def test_status_is_known_when_locked_or_unlocked_in_any_spelling(taps, word):
    state, why = SPELLINGS[word]
    taps.cloud.script = [status_with(lockState=word)]

    assert taps.status() == LockStatus(
        state=state,
        why=why,
        is_moving=word in ("locking", "unlocking"),
        is_between=word in ("halfLocked", "latchBoltLocked", "LatchBoltLocked"),
    )


# fmt: off
REPORTS = {
    "online":         ({"onlineStatus": "online"},  LockStatus(state=LOCKED, reachable=True)),
    "offline":        ({"onlineStatus": "Offline"}, LockStatus(state=UNKNOWN, why="the lock is offline", reachable=False)),
    "online-odd":     ({"onlineStatus": []},        LockStatus(state=LOCKED)),
    "not-calibrated": ({"calibrate": False},        LockStatus(state=UNKNOWN, why="the lock is not calibrated")),
    "calibrate-odd":  ({"calibrate": None},         LockStatus(state=LOCKED)),
    "state-odd":      ({"lockState": 1},            LockStatus(state=UNKNOWN, why=NOT_TOLD)),
    "state-null":     ({"lockState": None},         LockStatus(state=UNKNOWN, why=NOT_TOLD)),
    "battery":        ({"battery": 60},             LockStatus(state=LOCKED, battery_percent=60)),
    "battery-20":     ({"battery": 20},             LockStatus(state=LOCKED, battery_percent=20, battery_is_low=True)),
    "battery-10":     ({"battery": 10},             LockStatus(state=LOCKED, battery_percent=10, battery_is_low=True)),
    "new-model":      ({"deviceType": "Bolt 9"},    LockStatus(state=LOCKED)),
    "battery-odd":    ({"battery": "95"},           LockStatus(state=LOCKED)),
    "battery-beyond": ({"battery": 101},            LockStatus(state=LOCKED)),
}
# fmt: on


@pytest.mark.parametrize("case", REPORTS)
def test_status_has_only_what_the_cloud_sent(taps, case):
    changes, status = REPORTS[case]
    taps.cloud.script = [status_with(**changes)]

    assert taps.status() == status


@pytest.mark.parametrize("body", [{}, [], None, "locked"])
def test_status_with_an_empty_body_is_unknown(taps, body):
    whole = {"statusCode": 100, "body": body, "message": "success"}
    taps.cloud.script = [(200, json.dumps(whole).encode())]

    assert taps.status() == LockStatus(state=UNKNOWN, why=NOT_TOLD)


@pytest.mark.parametrize("device", ["Keypad Touch", "Hub 2", "Meter"])
def test_status_of_another_device_names_it(taps, device):
    taps.cloud.script = [envelope(body={"deviceId": DEVICE_ID, "deviceType": device})]

    with pytest.raises(RequestRefused) as caught:
        taps.status()

    assert str(caught.value) == f"device_id is a {device}, not a lock"


def test_status_of_a_lock_without_a_state_is_unknown(taps):
    taps.cloud.script = [envelope(body={"deviceType": "Smart Lock Ultra"})]

    assert taps.status() == LockStatus(state=UNKNOWN, why=NOT_TOLD)


TOLD_LIMIT = f"statusCode 190 {DAILY_LIMIT}: no calls are left today"

# fmt: off
NOT_THIS_LOCK = ": device_id is not this lock's"
BAD_ANSWERS = {
    "no-code":       ((200, b"{}"), Unreadable, "statusCode missing: not understood"),
    "odd-code":      (envelope([1]), Unreadable, "statusCode [1] success: not understood"),
    "true-code":     (envelope(True), Unreadable, "statusCode True success: not understood"),
    "new-code":      (envelope(999, message="?"), Unreadable, "statusCode 999 ?: not understood"),
    "300":           (envelope(300, message="?"), Unreadable, "statusCode 300 ?: not understood"),
    "device-type":   (envelope(151, message="type"), RequestRefused, f"statusCode 151 type{NOT_THIS_LOCK}"),
    "not-found":     (envelope(152, message=""), RequestRefused, f"statusCode 152{NOT_THIS_LOCK}"),
    "unsupported":   (envelope("160", message="no"), RequestRefused, f"statusCode 160 no{NOT_THIS_LOCK}"),
    "offline":       (envelope(161, message="device offline"), Offline, "statusCode 161 device offline: the lock or its hub is offline"),
    "hub-offline":   (envelope(171, message="hub offline"), Offline, "statusCode 171 hub offline: the lock or its hub is offline"),
    "internal":      (envelope(190, message="Device internal error"), MaybeSent, "statusCode 190 Device internal error"),
    "too-many":      (envelope(190, message="Too Many Requests"), QuotaError, "statusCode 190 Too Many Requests: too many calls just now"),
    "too-many-2023": (envelope(190, message="Too many Request"), QuotaError, "statusCode 190 Too many Request: too many calls just now"),
    "no-support":    (envelope(190, message="not support device type"), RequestRefused, f"statusCode 190 not support device type{NOT_THIS_LOCK}"),
    "not-the-owner": (envelope(190, message="Not the device owner"), RequestRefused, f"statusCode 190 Not the device owner{NOT_THIS_LOCK}"),
    "wrong-id":      (envelope(190, message="wrong deviceId"), RequestRefused, f"statusCode 190 wrong deviceId{NOT_THIS_LOCK}"),
    "timed-out":     ((200, b'{"appData":null,"errorCode":"","hasError":1,"message":"Task timed out after 10.01 seconds"}'), Unreadable, "statusCode missing Task timed out after 10.01 seconds: not understood"),
    "daily-limit":   (envelope(190, message=DAILY_LIMIT), QuotaError, TOLD_LIMIT),
    "leaks-the-key": (envelope(f"{TOKEN} {SECRET}", message=""), Unreadable, "statusCode *** ***: not understood"),
    "unauthorized":  (UNAUTHORIZED, AuthError, "HTTP 401 Unauthorized: token or secret are wrong, or the clock is"),
    "forbidden":     ((403, b'{"message":"Forbidden"}'), AuthError, "HTTP 403 Forbidden: the key is not accepted"),
    "no-such-path":  ((404, b""), RequestRefused, f"HTTP 404{doorpi.NOT_THERE}"),
}
# fmt: on


@pytest.mark.parametrize("case", BAD_ANSWERS)
@pytest.mark.parametrize("question", [Taps.status, Taps.send], ids=["status", "send"])
def test_error_has_class_and_words(taps, question, case):
    answer, error, words = BAD_ANSWERS[case]
    taps.cloud.script = [answer]

    with pytest.raises(error) as caught:
        question(taps)

    assert type(caught.value) is error
    assert str(caught.value) == words


# -- what counts as done


@pytest.mark.parametrize(
    ("before", "word", "after_s", "progress"),
    [
        (LOCKED, "unlocked", 3, Progress.DONE),
        (LOCKED, "locked", 30, Progress.PENDING),
        (UNKNOWN, "jammed", 30, "the lock is jammed"),
        (LOCKED, "unlocking", 30, "the bolt is moving"),
        (LOCKED, "latchBoltLocked", 3, Progress.DONE),
        (UNLOCKED, "latchBoltLocked", 30, "only the latch holds the door"),
        (UNKNOWN, "latchBoltLocked", 30, "only the latch holds the door"),
        (None, "latchBoltLocked", 30, "only the latch holds the door"),
        (LOCKED, "halfLocked", 30, "the bolt is half out"),
        (UNLOCKED, "unlocked", 14.9, Progress.PENDING),
        (UNLOCKED, "unlocked", 15, Progress.DONE),
        (UNLOCKED, "locked", 30, Progress.PENDING),
        (UNKNOWN, "unlocked", 14.9, Progress.PENDING),
        (UNKNOWN, "unlocked", 15, Progress.DONE),
        (None, "unlocked", 3, Progress.PENDING),
        (None, "unlocked", 15, Progress.DONE),
        (None, "locked", 30, Progress.PENDING),
    ],
)
def test_confirm_ignores_a_state_that_may_be_old(
    taps, clock, before, word, after_s, progress
):
    taps.send(Command.UNLOCK)
    clock.advance(after_s)
    taps.cloud.script = [status_with(lockState=word)]

    status = LockStatus(state=before) if before else None
    assert taps.learn(Command.UNLOCK, status) == progress


def test_confirm_of_lock_ignores_the_latch(taps):
    taps.send(Command.LOCK)
    taps.clock.advance(30)
    taps.cloud.script = [status_with(lockState="latchBoltLocked")]

    learnt = taps.learn(Command.LOCK, LockStatus(state=UNLOCKED))

    assert learnt == "only the latch holds the door"


def test_tap_works_on_a_lock_that_rests_on_its_latch(taps):
    """switchbot-mqtt 96, SwitchBotAPI 347."""
    taps.cloud.spelling = {"unlocked": "latchBoltLocked"}

    outcomes = [taps.tap(), taps.tap(), taps.tap()]

    assert outcomes == [
        Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95),
        Outcome(Command.LOCK, Result.LOCKED, "", 95),
        Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95),
    ]
    assert taps.clock.monotonic() == 1018.0


def test_confirm_rejects_when_the_lock_has_jammed(taps):
    taps.send(Command.UNLOCK)
    taps.cloud.script = [status_with(lockState="jammed")]

    with pytest.raises(Rejected, match=r"^the lock is jammed$"):
        taps.confirm(Command.UNLOCK, LockStatus(state=LOCKED))


def test_confirm_waits_for_the_lag_when_the_state_was_there_before(taps):
    """The bolt locked a moment ago, the cloud does not know yet, the command is lost."""
    taps.cloud.bolt.is_found("unlocked")
    taps.clock.advance(60)
    taps.cloud.lag_s = 10.0
    taps.cloud.bolt.is_found("locked")
    taps.cloud.drops = 1

    outcome = taps.move(lambda state: Command.UNLOCK)

    assert outcome.result is Result.UNSURE
    assert taps.cloud.bolt.place == "locked"


def test_confirm_accepts_an_unchanged_state_after_the_lag(taps):
    taps.cloud.bolt.is_found("unlocked")
    taps.clock.advance(60)

    outcome = taps.move(lambda state: Command.UNLOCK)

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95)
    assert taps.clock.monotonic() == 1060.0 + 15


# -- whole taps


def test_tap_is_four_calls_when_the_status_lags_two_seconds(taps):
    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95)
    assert taps.cloud.asked == [STATUS, COMMAND, STATUS, STATUS]
    assert taps.clock.monotonic() == 1006.0
    assert taps.cloud.bolt.moved == ["unlock"]


@pytest.mark.parametrize(
    ("late_s", "confirmed_s"),
    [(3, 3), (3.1, 6), (6, 6), (7, 10), (14, 15), (18, 20), (29, 30)],
)
def test_confirm_is_asked_at_3_6_10_15_20_and_30_seconds(taps, late_s, confirmed_s):
    taps.cloud.lag_s = late_s - taps.cloud.bolt.motor_s

    outcome = taps.tap()

    assert outcome.result is Result.UNLOCKED
    assert taps.clock.monotonic() == 1000.0 + confirmed_s


@pytest.mark.parametrize("spelling", ["short", "upper"])
def test_tap_works_in_every_spelling(taps, spelling):
    taps.cloud.spelling = {
        "short": {"locked": "lock", "unlocked": "unlock"},
        "upper": {"locked": "LOCKED", "unlocked": "UNLOCKED"},
    }[spelling]

    results = [taps.tap().result, taps.tap().result]

    assert results == [Result.UNLOCKED, Result.LOCKED]


# fmt: off
STORIES = {
    "daily-limit-at-the-command":      Story(Result.REFUSED, 0, 2, TOLD_LIMIT, switches={"calls_left": 1}),
    "daily-limit-at-the-confirmation": Story(Result.UNSURE, 3, 3, f"not confirmed within 3 s: {TOLD_LIMIT}", "unlocked", switches={"calls_left": 2}),
    "unknown-code-to-the-command":     Story(Result.UNSURE, 30, 8, "statusCode 300 ?: not understood; not confirmed within 30 s", script=(None, envelope(300, message="?"))),
    "status-lags-for-long":            Story(Result.UNSURE, 30, 8, "not confirmed within 30 s", "unlocked", switches={"lag_s": 40.0}),
}
# fmt: on


@pytest.mark.parametrize("case", STORIES)
def test_tap_ends_as_the_status_proves(taps, case):
    play(taps, STORIES[case])


def test_tap_that_jams_is_refused(taps):
    taps.cloud.bolt.jams = True

    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.REFUSED, "the lock is jammed", 95)
    assert taps.clock.monotonic() == 1006.0
    assert taps.cloud.bolt.place == "jammed"


def test_move_from_an_unknown_state_is_confirmed_after_the_lag(taps):
    taps.cloud.script = [status_with(lockState="jammed")]

    outcome = taps.tap(on_unknown=Command.UNLOCK)

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "")
    assert taps.clock.monotonic() == 1015.0
    assert taps.cloud.bolt.place == "unlocked"
