"""The current Sesame against its played cloud: signing, calls on the wire, what counts."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

import doorpi
from doorpi import (
    AuthError,
    Command,
    LockError,
    LockState,
    LockStatus,
    NotForwarded,
    Outcome,
    Progress,
    RequestRefused,
    Result,
    Unreadable,
    sesame_sign,
)
from tests.fakes.locks import taps_at
from tests.fakes.sesame import API_KEY, DEVICE_ID, LOCK, SECRET, UNLOCK
from tests.helpers.stories import Story, play

STATUS = f"GET /api/sesame2/{DEVICE_ID}"
CMD = f"POST /api/sesame2/{DEVICE_ID}/cmd"


@pytest.fixture
def taps(clock):
    with taps_at("sesame", clock) as taps:
        yield taps


# -- signing

KEY_A = "a13d4b890111676ba8fb36ece7e94f7d"
KEY_B = "2ebc2c087c1501480834538ff72139bc"
KEY_RFC = "2b7e151628aed2a6abf7158809cf4f3c"


@pytest.mark.parametrize(
    ("key", "unix_s", "sign"),
    [
        (KEY_A, 1621854208, "e50d10ff6f3e21752be4c46f9cbb2b73"),
        (KEY_A, 1621854463, "e50d10ff6f3e21752be4c46f9cbb2b73"),
        (KEY_A, 1621854464, "eb0dd46439cd53a8e9587ec097c6ffc6"),
        (KEY_A, 1700000000, "a53566abe6f6b507fe360a46a9869840"),
        (KEY_A, 1234567890, "7590a10c51d5e7d94b0a64919897252b"),
        (KEY_B, 1621854456, "5dbfeb13623b8c604ead15a7336535ec"),
        (KEY_B, 1621854464, "2c44c7ae141b56d1e7c2720ceeb4ae32"),
        (KEY_B, 1700000000, "7bf16bfc296920a5e5e040ddbcdae6eb"),
        ("0123456789abcdef0123456789abcdef", 1234567890, "a0c0ba15298da91e3dfec4f39b59ab55"),
        (KEY_RFC, 1700000000, "b40bcb3c32f6d16f921c9be940843455"),
    ],
)  # fmt: skip
def test_sign_is_the_known_one_for_key_and_time(key, unix_s, sign):
    assert sesame_sign(bytes.fromhex(key), unix_s) == sign


def test_sign_covers_the_time_without_its_lowest_byte():
    """By the AES-CMAC of a library, which has the vectors of RFC 4493 in its tests."""
    code = CMAC(AES(bytes.fromhex(SECRET)))
    code.update(bytes.fromhex("88ab60"))

    assert sesame_sign(bytes.fromhex(SECRET), 1621854456) == code.finalize().hex()


# -- the wire


def test_status_is_a_get_with_the_key_in_its_header(taps):
    status = taps.status()

    assert taps.cloud.asked == [STATUS]
    assert taps.cloud.requests[0].headers["x-api-key"] == API_KEY
    assert taps.cloud.requests[0].body == b""
    assert status == LockStatus(
        state=LockState.LOCKED,
        reachable=True,
        battery_percent=94,
        as_of=taps.clock.now().timestamp() - 3600,
    )


@pytest.mark.parametrize(
    ("command", "cmd"), [(Command.LOCK, LOCK), (Command.UNLOCK, UNLOCK)]
)
def test_send_is_a_signed_post(taps, command, cmd):
    assert taps.send(command) is None

    [request] = taps.cloud.requests
    unix_s = int(taps.clock.now().timestamp())
    sign = sesame_sign(bytes.fromhex(SECRET), unix_s)
    assert taps.cloud.asked == [CMD]
    assert request.headers["x-api-key"] == API_KEY
    assert request.headers["content-type"] == "application/json"
    assert request.json == {"cmd": cmd, "history": "RG9vclBp", "sign": sign}
    assert base64.b64decode(request.json["history"]) == b"DoorPi"  # 21 bytes at most
    assert taps.cloud.bolt.moved == [command]


def test_send_signs_every_try_again(taps, clock):
    taps.cloud.script = [None, (429, b'{"message":"Too Many Requests"}')]
    clock.at += timedelta(seconds=255 - clock.at.timestamp() % 256)
    taps.lock.policy = doorpi.LockPolicy(confirm_at_s=(3.0,))

    outcome = taps.move(lambda state: Command.UNLOCK, window_s=30)

    first, second = (r.json["sign"] for r in taps.cloud.requests if r.method == "POST")
    assert first != second
    assert outcome.result is Result.UNLOCKED


# -- what a status says

WORDS = {
    "locked": ({}, LockState.LOCKED, "", True),
    "moved": (
        {"CHSesame2Status": "moved"},
        LockState.UNKNOWN,
        "the lock says 'moved'",
        True,
    ),
    "new-word": (
        {"CHSesame2Status": "half\n"},
        LockState.UNKNOWN,
        r"the lock says 'half\n'",
        True,
    ),
    "module-unknown": ({"wm2State": None}, LockState.LOCKED, "", None),
    "module-odd": ({"wm2State": "yes"}, LockState.LOCKED, "", None),
    "module-offline": (
        {"wm2State": False},
        LockState.UNKNOWN,
        "the lock's WiFi module is offline",
        False,
    ),
    "both": (
        {"wm2State": False, "CHSesame2Status": "moved"},
        LockState.UNKNOWN,
        "the lock's WiFi module is offline",
        False,
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_status_is_known_from_a_reachable_lock_only(taps, case):
    changes, state, why, reachable = WORDS[case]
    taps.cloud.script = [(200, encoded(changes))]

    status = taps.status()

    assert (status.state, status.why, status.reachable) == (state, why, reachable)


def encoded(changes) -> bytes:
    whole = {"CHSesame2Status": "locked", "timestamp": 1598523693, "wm2State": True}
    return json.dumps(whole | changes).encode()


def test_status_without_wm2state_has_unknown_reachability(taps):
    taps.cloud.module_is_online = None

    status = taps.status()

    assert (status.state, status.reachable) == (LockState.LOCKED, None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (1598523693, 1598523693.0),
        (1598523693.5, 1598523693.5),
        (1598523693905, 1598523693.905),
        (0, None),
        (-5, None),
        (True, None),
        ("1598523693", None),
        (None, None),
    ],
)
def test_status_time_stamp_is_read_in_seconds_and_milliseconds(taps, sent, read):
    taps.cloud.script = [(200, encoded({"timestamp": sent}))]

    assert taps.status().as_of == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [(94, 94), (0, 0), (37.9, 37), (101, None), (-1, None), (True, None), ("9", None)],
)
def test_status_battery_is_a_percentage_or_none(taps, sent, read):
    taps.cloud.script = [(200, encoded({"batteryPercentage": sent}))]

    assert taps.status().battery_percent == read


# fmt: off
BAD_ANSWERS = {
    "no-state":     (200, b"{}", Unreadable, "an answer without a readable `CHSesame2Status`"),
    "odd-state":    (200, b'{"CHSesame2Status":1}', Unreadable, "an answer without a readable `CHSesame2Status`"),
    "unauthorized": (401, b"", AuthError, "HTTP 401: the key is not accepted"),
    "forbidden":    (403, b'{"message":"Forbidden"}', AuthError, "HTTP 403 Forbidden: the key is not accepted"),
    "not-found":    (404, b"", RequestRefused, f"HTTP 404{doorpi.NOT_THERE}"),
}
# fmt: on
NO_MODULE = "HTTP 404: the module is offline, or the lock is in another account"


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_status_error_has_class_and_words(taps, case):
    status, body, error, words = BAD_ANSWERS[case]
    taps.cloud.script = [(status, body)]

    with pytest.raises(LockError) as caught:
        taps.status()

    assert (type(caught.value), str(caught.value)) == (error, words)


def test_send_404_means_not_forwarded(taps):
    """chanshige/sesame, SesameSDK_Android 23."""
    taps.cloud.script = [(404, b'{"message":"Not Found"}')]

    with pytest.raises(NotForwarded) as caught:
        taps.send()

    assert str(caught.value) == NO_MODULE


@pytest.mark.parametrize(
    "answer", [(200, b""), (200, b'{"statusCode":200}'), (202, b"ok"), (204, b"")]
)
def test_send_accepts_any_2xx(taps, answer):
    taps.cloud.accepted = answer

    assert taps.tap() == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 94)


# -- what counts as done

OLD = LockStatus(state=LockState.LOCKED, as_of=1000.0)


@pytest.mark.parametrize(
    ("before", "word", "stamp", "progress"),
    [
        (OLD, "unlocked", 1001, Progress.DONE),
        (OLD, "unlocked", 1000, Progress.PENDING),
        (OLD, "unlocked", 999, Progress.PENDING),
        (OLD, "unlocked", None, Progress.PENDING),
        (OLD, "locked", 1000, Progress.PENDING),
        (OLD, "locked", 1001, Progress.NO_EFFECT),
        (OLD, "moved", 1001, "the lock says 'moved'"),
        (None, "unlocked", 1001, Progress.PENDING),
        (None, "locked", 1001, Progress.PENDING),
        (LockStatus(state=LockState.UNLOCKED, as_of=1000.0), "unlocked", 1000, Progress.DONE),
        (LockStatus(state=LockState.UNLOCKED, as_of=1000.0), "locked", 1001, Progress.NO_EFFECT),
        (LockStatus(state=LockState.UNKNOWN, as_of=1000.0), "unlocked", 1001, Progress.DONE),
        (LockStatus(state=LockState.LOCKED), "unlocked", 1001, Progress.PENDING),
    ],
)  # fmt: skip
def test_confirm_needs_a_newer_status_or_the_state_before(
    taps, before, word, stamp, progress
):
    taps.cloud.script = [
        (200, encoded({"CHSesame2Status": word, "timestamp": stamp})),
    ]

    assert taps.learn(Command.UNLOCK, before) == progress


def test_confirm_ignores_a_newer_status_of_an_offline_module(taps):
    changes = {"CHSesame2Status": "unlocked", "timestamp": 2000, "wm2State": False}
    taps.cloud.script = [(200, encoded(changes))]

    assert taps.learn(Command.UNLOCK, OLD) == "the lock's WiFi module is offline"


# -- whole taps


def test_tap_is_three_calls_and_confirmed_after_three_seconds(taps):
    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 94)
    assert taps.cloud.asked == [STATUS, CMD, STATUS]
    assert taps.clock.monotonic() == 1003.0
    assert taps.cloud.bolt.moved == [Command.UNLOCK]


def test_tap_costs_three_calls_and_idling_none(taps):
    """3,000 calls a month, three a tap; idle time costs none."""
    taps.cloud.calls_left = 9

    outcomes = []
    for _ in range(4):
        taps.lock.keep_ready()
        outcomes.append(taps.tap().result)

    assert outcomes == [
        Result.UNLOCKED, Result.LOCKED, Result.UNLOCKED, Result.REFUSED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("motor_s", "confirmed_s", "calls"),
    [(0.0, 3, 3), (2.9, 3, 3), (3.1, 6, 4), (11.0, 12, 5), (19.0, 20, 6)],
)
def test_confirm_is_asked_at_3_6_12_and_20_seconds(taps, motor_s, confirmed_s, calls):
    taps.cloud.bolt.motor_s = motor_s

    outcome = taps.tap()

    assert outcome.result is Result.UNLOCKED
    assert taps.clock.monotonic() == 1000.0 + confirmed_s
    assert len(taps.cloud.asked) == calls


UNSURE = "not confirmed within 20 s"
# fmt: off
STORIES = {
    "slow-and-says-moved":      Story(Result.UNLOCKED, 6, 4, bolt="unlocked", switches={"motor_s": 4.0, "says_moved": True}),
    "stamps-in-ms":             Story(Result.UNLOCKED, 3, 3, bolt="unlocked", switches={"in_ms": True}),
    "silent-about-the-module":  Story(Result.UNLOCKED, 3, 3, bolt="unlocked", switches={"module_is_online": None}),
    "lost-and-a-phone-reports": Story(Result.UNLOCKED, 6, 5, bolt="unlocked", switches={"drops": 1, "pushes": [1002.0]}),
    "lost-twice-and-a-phone-reports": Story(Result.UNSURE, 23, 8, UNSURE, switches={"drops": 9, "pushes": [1002.0]}),
    "a-phone-reports-too-late-to-send-again": Story(Result.UNSURE, 20, 6, UNSURE, switches={"drops": 9, "pushes": [1011.0]}),
}
# fmt: on


@pytest.mark.parametrize("case", STORIES)
def test_tap_ends_as_the_status_proves(taps, case):
    play(taps, STORIES[case])


@pytest.mark.parametrize(
    ("is_404", "result", "detail"),
    [
        (True, Result.UNREACHABLE, NO_MODULE),
        (False, Result.UNSURE, f"{UNSURE}: the lock's WiFi module is offline"),
    ],
)
def test_move_with_an_offline_module_is_never_confirmed(taps, is_404, result, detail):
    taps.cloud.module_is_online = False
    taps.cloud.offline_cmd_is_404 = is_404

    outcome = taps.tap(on_unknown=Command.UNLOCK)

    assert outcome == Outcome(Command.UNLOCK, result, detail, 94)
    assert taps.cloud.bolt.moved == []


def test_tap_with_a_wrong_clock_ends_unsure(taps, clock):
    taps.cloud.ahead_s = timedelta(days=300).total_seconds()

    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNSURE, UNSURE, 94)
    assert taps.cloud.bolt.moved == []
