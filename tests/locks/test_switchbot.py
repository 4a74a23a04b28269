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
def test_a_sign_is_the_known_one_for_its_token_secret_time_and_nonce(nonce, sign):
    assert switchbot_sign("test-token", "test-secret", "1700000000000", nonce) == sign


def test_every_request_is_signed_anew(taps):
    for _ in range(3):
        taps.status()

    asked = [request.headers for request in taps.cloud.requests]
    assert len({headers["nonce"] for headers in asked}) == 3
    assert len({headers["sign"] for headers in asked}) == 3


def test_a_clock_that_is_wrong_is_named_beside_the_keys(taps):
    taps.cloud.ahead_s = 86_400.0

    assert taps.tap() == Outcome(
        None,
        Result.REFUSED,
        "HTTP 401 Unauthorized: token or secret are wrong, or the clock is",
    )


# -- the wire


def test_a_status_is_one_signed_get(taps):
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
def test_a_command_is_one_signed_post_of_an_explicit_command(taps, command):
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
def test_only_locked_and_unlocked_are_a_state_however_they_are_spelt(taps, word):
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
def test_a_status_is_no_more_than_was_told(taps, case):
    changes, status = REPORTS[case]
    taps.cloud.script = [status_with(**changes)]

    assert taps.status() == status


@pytest.mark.parametrize("body", [{}, [], None, "locked"])
def test_success_with_nothing_inside_is_an_unknown_state(taps, body):
    whole = {"statusCode": 100, "body": body, "message": "success"}
    taps.cloud.script = [(200, json.dumps(whole).encode())]

    assert taps.status() == LockStatus(state=UNKNOWN, why=NOT_TOLD)


@pytest.mark.parametrize("device", ["Keypad Touch", "Hub 2", "Meter"])
def test_the_id_of_something_else_is_named(taps, device):
    taps.cloud.script = [envelope(body={"deviceId": DEVICE_ID, "deviceType": device})]

    with pytest.raises(RequestRefused) as caught:
        taps.status()

    assert str(caught.value) == f"device_id is a {device}, not a lock"


def test_a_lock_that_tells_no_state_is_not_called_something_else(taps):
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
def test_a_bad_answer_has_a_class_and_words(taps, question, case):
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
def test_a_state_that_may_be_old_proves_nothing_and_is_never_no_effect(
    taps, clock, before, word, after_s, progress
):
    taps.send(Command.UNLOCK)
    clock.advance(after_s)
    taps.cloud.script = [status_with(lockState=word)]

    status = LockStatus(state=before) if before else None
    assert taps.learn(Command.UNLOCK, status) == progress


def test_a_latch_alone_is_never_locked(taps):
    taps.send(Command.LOCK)
    taps.clock.advance(30)
    taps.cloud.script = [status_with(lockState="latchBoltLocked")]

    learnt = taps.learn(Command.LOCK, LockStatus(state=UNLOCKED))

    assert learnt == "only the latch holds the door"


def test_a_lock_that_rests_on_its_latch_is_opened_and_locked_by_taps(taps):
    """switchbot-mqtt 96, SwitchBotAPI 347."""
    taps.cloud.spelling = {"unlocked": "latchBoltLocked"}

    outcomes = [taps.tap(), taps.tap(), taps.tap()]

    assert outcomes == [
        Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95),
        Outcome(Command.LOCK, Result.LOCKED, "", 95),
        Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95),
    ]
    assert taps.clock.monotonic() == 1018.0


def test_a_jam_that_is_news_is_the_locks_own_no(taps):
    taps.send(Command.UNLOCK)
    taps.cloud.script = [status_with(lockState="jammed")]

    with pytest.raises(Rejected, match=r"^the lock is jammed$"):
        taps.confirm(Command.UNLOCK, LockStatus(state=LOCKED))


def test_an_unlock_of_a_lock_that_is_said_to_be_open_is_not_believed_too_soon(taps):
    """The bolt went home a moment ago, the cloud has not heard, the command is lost."""
    taps.cloud.bolt.is_found("unlocked")
    taps.clock.advance(60)
    taps.cloud.lag_s = 10.0
    taps.cloud.bolt.is_found("locked")
    taps.cloud.drops = 1

    outcome = taps.move(lambda state: Command.UNLOCK)

    assert outcome.result is Result.UNSURE
    assert taps.cloud.bolt.place == "locked"


def test_an_unlock_of_an_open_lock_is_confirmed_when_the_lag_is_over(taps):
    taps.cloud.bolt.is_found("unlocked")
    taps.clock.advance(60)

    outcome = taps.move(lambda state: Command.UNLOCK)

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95)
    assert taps.clock.monotonic() == 1060.0 + 15


# -- whole taps


def test_a_tap_is_four_calls_when_the_status_lags_two_seconds(taps):
    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 95)
    assert taps.cloud.asked == [STATUS, COMMAND, STATUS, STATUS]
    assert taps.clock.monotonic() == 1006.0
    assert taps.cloud.bolt.moved == ["unlock"]


@pytest.mark.parametrize(
    ("late_s", "confirmed_s"),
    [(3, 3), (3.1, 6), (6, 6), (7, 10), (14, 15), (18, 20), (29, 30)],
)
def test_it_is_asked_at_3_6_10_15_20_and_30_seconds(taps, late_s, confirmed_s):
    taps.cloud.lag_s = late_s - taps.cloud.bolt.motor_s

    outcome = taps.tap()

    assert outcome.result is Result.UNLOCKED
    assert taps.clock.monotonic() == 1000.0 + confirmed_s


@pytest.mark.parametrize("spelling", ["short", "upper"])
def test_a_tap_works_in_every_spelling(taps, spelling):
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
def test_a_tap_ends_as_the_lock_proved_and_not_as_the_cloud_said(taps, case):
    play(taps, STORIES[case])


def test_a_bolt_that_jams_is_never_called_open(taps):
    taps.cloud.bolt.jams = True

    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.REFUSED, "the lock is jammed", 95)
    assert taps.clock.monotonic() == 1006.0
    assert taps.cloud.bolt.place == "jammed"


def test_a_chosen_command_to_an_unknown_lock_is_confirmed_when_the_lag_is_over(taps):
    taps.cloud.script = [status_with(lockState="jammed")]

    outcome = taps.tap(on_unknown=Command.UNLOCK)

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "")
    assert taps.clock.monotonic() == 1015.0
    assert taps.cloud.bolt.place == "unlocked"
