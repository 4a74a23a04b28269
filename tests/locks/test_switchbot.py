"""SwitchBot against its played cloud: signing, calls on the wire, what counts as done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    Throttled,
    Unreadable,
    switchbot_sign,
)
from tests.fakes.locks import driver_of
from tests.fakes.switchbot import (
    DAILY_LIMIT,
    DEVICE_ID,
    SECRET,
    TOKEN,
    UNAUTHORIZED,
    FakeSwitchBot,
    envelope,
)
from tests.helpers.values import replace
from tests.helpers.world import Taps

STATUS = f"GET /v1.1/devices/{DEVICE_ID}/status"
COMMAND = f"POST /v1.1/devices/{DEVICE_ID}/commands"
LOCKED, UNLOCKED, UNKNOWN = LockState.LOCKED, LockState.UNLOCKED, LockState.UNKNOWN


@pytest.fixture
def taps(clock) -> Iterator[Taps]:
    cloud = FakeSwitchBot(clock)
    lock = driver_of(cloud)
    yield Taps(clock, cloud, lock)
    lock.close()
    cloud.close()


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


def test_a_device_id_cannot_reach_beyond_its_place_in_the_path(taps, clock):
    lock = driver_of(taps.cloud, device_id="../x?y#z")

    with pytest.raises(RequestRefused) as caught:
        lock.status(clock.monotonic() + 5)

    assert str(caught.value) == (
        "statusCode 152 device not found: no device has this id"
    )
    assert taps.cloud.asked == ["GET /v1.1/devices/..%2Fx%3Fy%23z/status"]
    lock.close()


# -- what a status says

NOT_TOLD = "the cloud does not tell the lock's state: is its cloud service off, or is device_id its hub's?"
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
    "Ajar\n": (UNKNOWN, r"the lock says 'Ajar\\n'"),
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


# fmt: off
BAD_ANSWERS = {
    "empty":         ((200, b""), Unreadable, "HTTP 200 with an answer that is empty"),
    "html":          ((200, b"<html>"), Unreadable, "HTTP 200 with an answer that is not JSON"),
    "list":          ((200, b"[]"), Unreadable, "HTTP 200 with JSON that is not an object"),
    "deep":          ((200, b"[" * 60_000), Unreadable, "HTTP 200 with an answer that is not JSON"),
    "no-code":       ((200, b"{}"), Unreadable, "statusCode missing: not understood"),
    "odd-code":      (envelope([1]), Unreadable, "statusCode missing success: not understood"),
    "true-code":     (envelope(True), Unreadable, "statusCode missing success: not understood"),
    "new-code":      (envelope(999, message="?"), Unreadable, "statusCode 999 ?: not understood"),
    "device-type":   (envelope(151, message="type"), RequestRefused, "statusCode 151 type: the device is of another kind"),
    "not-found":     (envelope(152, message=""), RequestRefused, "statusCode 152: no device has this id"),
    "unsupported":   (envelope("160", message="no"), RequestRefused, "statusCode 160 no: the device does not know this command"),
    "offline":       (envelope(161, message="device offline"), Offline, "statusCode 161 device offline: the lock is offline"),
    "hub-offline":   (envelope(171, message="hub offline"), Offline, "statusCode 171 hub offline: the lock or its hub is offline"),
    "internal":      (envelope(190, message="Device internal error"), MaybeSent, "statusCode 190 Device internal error"),
    "too-many":      (envelope(190, message="Too Many Requests"), QuotaError, "statusCode 190 Too Many Requests: too many calls just now"),
    "too-many-2023": (envelope(190, message="Too many Request"), QuotaError, "statusCode 190 Too many Request: too many calls just now"),
    "no-support":    (envelope(190, message="not support device type"), RequestRefused, "statusCode 190 not support device type: this device cannot do it"),
    "not-the-owner": (envelope(190, message="Not the device owner"), RequestRefused, "statusCode 190 Not the device owner: the lock is in another account"),
    "wrong-id":      (envelope(190, message="wrong deviceId"), RequestRefused, "statusCode 190 wrong deviceId: no device has this id"),
    "timed-out":     ((200, b'{"appData":null,"errorCode":"","hasError":1,"message":"Task timed out after 10.01 seconds"}'), Unreadable, "statusCode missing Task timed out after 10.01 seconds: not understood"),
    "daily-limit":   (envelope(190, message=DAILY_LIMIT), QuotaError, f"HTTP 200 {DAILY_LIMIT}: the day's calls are used up"),
    "unauthorized":  (UNAUTHORIZED, AuthError, "HTTP 401 Unauthorized: token or secret are wrong, or the clock is"),
    "forbidden":     ((403, b'{"message":"Forbidden"}'), AuthError, "HTTP 403 Forbidden: the key is not accepted"),
    "no-such-path":  ((404, b""), RequestRefused, "HTTP 404: device_id is wrong, or v1.1 of the API is no longer served"),
    "unprocessable": ((422, b""), RequestRefused, "HTTP 422"),
    "redirect":      ((302, b""), RequestRefused, "HTTP 302: a redirect, not followed"),
    "burst":         ((429, b'{"message":"Too Many Requests"}'), Throttled, "HTTP 429 Too Many Requests"),
    "http-limit":    ((429, b'{"message":"Daily limit"}'), QuotaError, "HTTP 429 Daily limit: the day's calls are used up"),
    "server-error":  ((500, b'{"message":"oops"}'), MaybeSent, "HTTP 500 oops"),
    "bad-gateway":   ((502, b"<html>"), MaybeSent, "HTTP 502"),
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


@pytest.mark.parametrize(
    "answer",
    [
        envelope(190, message=f"{TOKEN} {SECRET}"),
        envelope(f"{TOKEN} {SECRET}", message=""),
        (403, json.dumps({"message": f"{TOKEN} {SECRET}"}).encode()),
        (401, json.dumps({"message": f"{TOKEN} {SECRET}"}).encode()),
        envelope(190, message=f"daily limit {TOKEN} {SECRET}"),
    ],
    ids=["message", "code", "http-403", "http-401", "quota"],
)
def test_token_and_secret_are_never_in_an_error(taps, answer):
    taps.cloud.script = [answer]

    with pytest.raises(doorpi.LockError) as caught:
        taps.status()

    assert "*** ***" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


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


def test_the_next_tap_locks_again(taps):
    taps.tap()

    assert taps.tap() == Outcome(Command.LOCK, Result.LOCKED, "", 95)
    assert taps.cloud.bolt.moved == ["unlock", "lock"]
    assert taps.cloud.bolt.place == "locked"


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


UNSURE = "not confirmed within 30 s"
REFUSED_KEY = "HTTP 401 Unauthorized: token or secret are wrong, or the clock is"
NO_ANSWER = "127.0.0.1 did not answer in time"


@dataclass(frozen=True)
class Story:
    """What one tap comes to: the outcome, how many calls it took, what moved."""

    result: Result
    calls: int
    detail: str = ""
    seconds: float = 0
    moved: tuple[str, ...] = ()
    command: Command | None = Command.UNLOCK
    script: tuple[object, ...] = ()  # what is answered instead
    switches: dict[str, object] = field(default_factory=dict)


def at_status(result: Result, detail: str, *script, calls=1, seconds=0.0) -> Story:
    return Story(result, calls, detail, seconds, command=None, script=script)


OPEN = {"moved": ("unlock",)}
INTERNAL = envelope(190, message="internal error")
GONE = envelope(161, message="offline")
HUB_GONE = envelope(171, message="offline")
LIMIT = envelope(190, message=DAILY_LIMIT)
TOO_MANY = envelope(190, message="Too Many Requests")
TOLD_TOO_MANY = "statusCode 190 Too Many Requests: too many calls just now"
NO_SUPPORT = envelope(190, message="not support device type")
BURST = 429, b'{"message":"Too Many Requests"}'

# fmt: off
STORIES = {
    # the first status
    "status-offline": at_status(Result.UNREACHABLE, "statusCode 161 offline: the lock is offline", GONE),
    "status-hub-offline": at_status(Result.UNREACHABLE, "statusCode 171 offline: the lock or its hub is offline", HUB_GONE),
    "status-401": at_status(Result.REFUSED, REFUSED_KEY, UNAUTHORIZED),
    "status-no-device": at_status(Result.REFUSED, "statusCode 152 gone: no device has this id", envelope(152, message="gone")),
    "status-daily-limit": at_status(Result.REFUSED, f"HTTP 200 {DAILY_LIMIT}: the day's calls are used up", LIMIT),
    "status-190-once": Story(Result.UNLOCKED, 5, seconds=7, script=(INTERNAL,), **OPEN),
    "status-190": at_status(Result.UNREACHABLE, "statusCode 190 internal error", *[INTERNAL] * 3, calls=3, seconds=3),
    "status-too-many": at_status(Result.REFUSED, TOLD_TOO_MANY, TOO_MANY),
    "status-500": at_status(Result.UNREACHABLE, "HTTP 500", *[(500, b"")] * 3, calls=3, seconds=3),
    "status-html": at_status(Result.UNKNOWN_STATE, "HTTP 200 with an answer that is not JSON", *[(200, b"<html>")] * 3, calls=3, seconds=3),
    "status-burst": at_status(Result.REFUSED, "HTTP 429 Too Many Requests", BURST),
    "status-cut-once": Story(Result.UNLOCKED, 5, seconds=7, script=("cut-before",), **OPEN),
    "status-hang-once": Story(Result.UNLOCKED, 5, seconds=12, script=("hang-before",), **OPEN),
    "status-hang": at_status(Result.UNREACHABLE, NO_ANSWER, *["hang-before"] * 3, calls=2, seconds=11),
    "jammed": at_status(Result.UNKNOWN_STATE, "state unknown: the lock is jammed", status_with(lockState="jammed")),
    "not-calibrated": at_status(Result.UNKNOWN_STATE, "state unknown: the lock is not calibrated", status_with(calibrate=False)),
    "no-cloud-service": at_status(Result.UNKNOWN_STATE, f"state unknown: {NOT_TOLD}", envelope()),
    # the command
    "command-offline": Story(Result.UNREACHABLE, 2, "statusCode 161 offline: the lock is offline", script=(None, GONE)),
    "command-hub-offline": Story(Result.UNREACHABLE, 2, "statusCode 171 offline: the lock or its hub is offline", script=(None, HUB_GONE)),
    "command-unsupported": Story(Result.REFUSED, 2, "statusCode 160: the device does not know this command", script=(None, envelope(160, message=""))),
    "command-401": Story(Result.REFUSED, 2, REFUSED_KEY, script=(None, UNAUTHORIZED)),
    "command-daily-limit": Story(Result.REFUSED, 2, f"HTTP 200 {DAILY_LIMIT}: the day's calls are used up", switches={"calls_left": 1}),
    "command-burst": Story(Result.REFUSED, 2, "HTTP 429 Too Many Requests", script=(None, BURST)),
    "command-190": Story(Result.UNSURE, 8, f"statusCode 190 internal error; {UNSURE}", 30, script=(None, INTERNAL)),
    "command-too-many": Story(Result.REFUSED, 2, TOLD_TOO_MANY, script=(None, TOO_MANY)),
    "command-no-support": Story(Result.REFUSED, 2, "statusCode 190 not support device type: this device cannot do it", script=(None, NO_SUPPORT)),
    "command-300": Story(Result.UNSURE, 8, f"statusCode 300 ?: not understood; {UNSURE}", 30, script=(None, envelope(300, message="?"))),
    "command-500": Story(Result.UNSURE, 8, f"HTTP 500; {UNSURE}", 30, script=(None, (500, b""))),
    "command-empty": Story(Result.UNSURE, 8, f"HTTP 200 with an answer that is empty; {UNSURE}", 30, script=(None, (200, b""))),
    "command-cut-before": Story(Result.UNSURE, 8, f"no complete answer from 127.0.0.1; {UNSURE}", 30, script=(None, "cut-before")),
    "command-cut-after": Story(Result.UNLOCKED, 4, seconds=6, script=(None, "cut-after"), **OPEN),
    "command-hang-before": Story(Result.UNSURE, 8, f"{NO_ANSWER}; {UNSURE}", 35, script=(None, "hang-before")),
    "command-hang-after": Story(Result.UNLOCKED, 3, seconds=8, script=(None, "hang-after"), **OPEN),
    "lost-on-the-way": Story(Result.UNSURE, 8, UNSURE, 30, switches={"drops": 9}),
    # the confirmation
    "confirm-offline-once": Story(Result.UNLOCKED, 4, seconds=6, script=(None, None, GONE), **OPEN),
    "confirm-offline": Story(Result.UNSURE, 8, f"{UNSURE}: statusCode 161 offline: the lock is offline", 30, script=(None, None, *[GONE] * 6), **OPEN),
    "confirm-500-once": Story(Result.UNLOCKED, 4, seconds=6, script=(None, None, (500, b"")), **OPEN),
    "confirm-no-device": Story(Result.UNSURE, 8, f"{UNSURE}: statusCode 152 gone: no device has this id", 30, script=(None, None, *[envelope(152, message="gone")] * 6), **OPEN),
    "confirm-daily-limit": Story(Result.UNSURE, 3, f"not confirmed within 3 s: HTTP 200 {DAILY_LIMIT}: the day's calls are used up", 3, switches={"calls_left": 2}, **OPEN),
    "confirm-too-many": Story(Result.UNSURE, 3, f"not confirmed within 3 s: {TOLD_TOO_MANY}", 3, script=(None, None, TOO_MANY), **OPEN),
    "confirm-401": Story(Result.UNSURE, 3, f"not confirmed within 3 s: {REFUSED_KEY}", 3, script=(None, None, UNAUTHORIZED), **OPEN),
    "confirm-empty": Story(Result.UNLOCKED, 4, seconds=6, script=(None, None, envelope()), **OPEN),
    "confirm-hang-once": Story(Result.UNLOCKED, 4, seconds=8, script=(None, None, "hang-before"), **OPEN),
    "slow-status": Story(Result.UNSURE, 8, UNSURE, 30, switches={"lag_s": 40.0}, **OPEN),
}
# fmt: on


@pytest.mark.parametrize("case", STORIES)
def test_a_tap_ends_as_the_lock_proved_and_not_as_the_cloud_said(taps, case):
    story = STORIES[case]
    taps.cloud.script = list(story.script)
    taps.cloud.switch(**story.switches)

    outcome = taps.tap()

    assert replace(outcome, battery_percent=None) == Outcome(
        story.command, story.result, story.detail
    )
    assert len(taps.cloud.asked) == story.calls
    assert taps.clock.monotonic() == 1000.0 + story.seconds
    assert tuple(taps.cloud.bolt.moved) == story.moved
    assert outcome.result is not Result.LOCKED
    if outcome.result is Result.UNLOCKED:
        assert taps.cloud.bolt.place == "unlocked"


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


def test_a_chosen_command_to_an_offline_lock_goes_out_once(taps):
    taps.cloud.script = [GONE, GONE]

    outcome = taps.tap(on_unknown=Command.UNLOCK)

    assert outcome == Outcome(
        Command.UNLOCK,
        Result.UNREACHABLE,
        "statusCode 161 offline: the lock is offline",
    )
    assert taps.cloud.asked == [STATUS, COMMAND]
