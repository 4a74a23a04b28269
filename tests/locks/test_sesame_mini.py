"""Sesame mini against its played cloud: calls on the wire, tasks, an unresponsive lock."""

from __future__ import annotations

import pytest

import doorpi
from doorpi import (
    AuthError,
    Busy,
    Command,
    LockState,
    LockStatus,
    Outcome,
    Progress,
    QuotaError,
    Rejected,
    RemoteBarred,
    RequestRefused,
    Result,
    Throttled,
    Unreadable,
)
from tests.fakes.locks import taps_at
from tests.fakes.sesame_mini import DEVICE_ID, KEY
from tests.helpers.stories import Story, play


@pytest.fixture
def taps(clock):
    with taps_at("sesame-mini", clock) as taps:
        yield taps


# -- the wire


def test_status_is_a_get_with_the_raw_key(taps):
    taps.cloud.script = [(200, b'{"locked":true,"battery":100,"responsive":true}')]

    status = taps.status()

    assert taps.cloud.asked == [f"GET /public/sesame/{DEVICE_ID}"]
    assert taps.cloud.requests[0].headers["authorization"] == KEY
    assert taps.cloud.requests[0].body == b""
    assert status == LockStatus(
        state=LockState.LOCKED, reachable=True, battery_percent=100
    )


@pytest.mark.parametrize("command", Command)
def test_send_is_a_post_that_returns_a_task_id(taps, command):
    taps.cloud.script = [(200, b'{"task_id":"462b7461"}')]

    task = taps.send(command)

    [request] = taps.cloud.requests
    assert taps.cloud.asked == [f"POST /public/sesame/{DEVICE_ID}"]
    assert request.headers["authorization"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.json == {"command": command.value}
    assert task == "462b7461"


def test_confirm_quotes_the_task_id(taps):
    taps.cloud.script = [
        (200, b'{"task_id":"a","status":"terminated","successful":true}')
    ]

    progress = taps.confirm(Command.LOCK, None, "a/b&c=d e+f")

    assert taps.cloud.asked == [
        "GET /public/action-result?task_id=a%2Fb%26c%3Dd%20e%2Bf"
    ]
    assert taps.cloud.requests[0].headers["authorization"] == KEY
    assert progress is Progress.DONE


# -- what the answers mean


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"locked":false}', LockStatus(state=LockState.UNLOCKED)),
        (
            b'{"locked":true,"battery":38,"responsive":true}',
            LockStatus(state=LockState.LOCKED, reachable=True, battery_percent=38),
        ),
        (
            b'{"locked":true,"battery":80,"responsive":false}',
            LockStatus(
                state=LockState.UNKNOWN,
                why="the lock does not answer its access point",
                reachable=False,
                battery_percent=80,
                is_old=True,
            ),
        ),
        (
            b'{"locked":false,"battery":"80","responsive":"no"}',
            LockStatus(state=LockState.UNLOCKED),
        ),
    ],
    ids=["bare", "whole", "unresponsive", "odd-extras"],
)
def test_status_is_known_unless_the_lock_is_unresponsive(taps, body, expected):
    taps.cloud.script = [(200, body)]

    assert taps.status() == expected


@pytest.mark.parametrize(
    "body", [b"{}", b'{"locked":"yes"}', b'{"locked":1}', b'{"locked":null}']
)
def test_status_with_locked_of_another_type_is_unreadable(taps, body):
    taps.cloud.script = [(200, body)]

    with pytest.raises(Unreadable, match=r"^an answer without a readable `locked`$"):
        taps.status()


# fmt: off
ERRORS = {
    "BAD_PARAMS":      (400, b'{"error":"BAD_PARAMS"}', RequestRefused, "HTTP 400 BAD_PARAMS", None),
    "LOW_BATTERY":     (400, b'{"error":"LOW_BATTERY"}', RemoteBarred, "HTTP 400 LOW_BATTERY", None),
    "NOT_ENABLED":     (400, b'{"error":"CLOUD_INTEGRATION_NOT_ENABLED"}', RemoteBarred, "HTTP 400 CLOUD_INTEGRATION_NOT_ENABLED", None),
    "BUSY":            (400, b'{"error":"DEVICE_IS_BUSY"}', Busy, "HTTP 400 DEVICE_IS_BUSY", 2.0),
    "BUSY-35":         (400, b'{"error":"DEVICE_IS_BUSY 35"}', Busy, "HTTP 400 DEVICE_IS_BUSY 35", 35.0),
    "BUSY-0":          (400, b'{"error":"DEVICE_IS_BUSY 0"}', Busy, "HTTP 400 DEVICE_IS_BUSY 0", 0.0),
    "BUSY-odd":        (400, b'{"error":"DEVICE_IS_BUSY x"}', RequestRefused, "HTTP 400 DEVICE_IS_BUSY x", None),
    "BUSY-in-200":     (200, b'{"error":"DEVICE_IS_BUSY 35"}', Unreadable, "an answer without a readable `locked`", None),
    "UNAUTHORIZED":    (401, b'{"error":"UNAUTHORIZED"}', AuthError, "HTTP 401 UNAUTHORIZED: the key is not accepted", None),
    "Forbidden":       (403, b'{"error":"Forbidden"}', QuotaError, "HTTP 403 Forbidden: blocked after too many calls", 1800.0),
    "not-found":       (404, b"", RequestRefused, f"HTTP 404{doorpi.NOT_THERE}", None),
    "THROTTLED":       (429, b'{"error":"THROTTLED"}', Throttled, "HTTP 429 THROTTLED", 10.0),
}
# fmt: on


@pytest.mark.parametrize("case", ERRORS)
def test_status_error_has_class_words_and_wait(taps, case):
    status, body, error, words, after_s = ERRORS[case]
    taps.cloud.script = [(status, body)]

    with pytest.raises(error) as caught:
        taps.status()

    assert (type(caught.value), str(caught.value)) == (error, words)
    assert caught.value.after_s == after_s


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"task_id":7}', b'{"task_id":""}', b"[]", b"<html>"]
)
def test_send_without_a_task_id_is_unreadable(taps, body):
    taps.cloud.script = [(200, body)]

    with pytest.raises(Unreadable):
        taps.send()


# fmt: off
TASKS = {
    "processing":     (200, b'{"task_id":"t","status":"processing"}', Progress.PENDING),
    "successful":     (200, b'{"status":"terminated","successful":true}', Progress.DONE),
    "400-is-not-yet": (400, b'{"error":"BAD_PARAMS"}', Progress.PENDING),
    "busy-is-not-yet": (400, b'{"error":"DEVICE_IS_BUSY 9"}', Progress.PENDING),
    "failed":         (200, b'{"status":"terminated","successful":false,"error":"JAM"}', Rejected("the lock failed: JAM")),
    "failed-mutely":  (200, b'{"status":"terminated","successful":false}', Rejected("the lock failed: no reason given")),
    "no-success":     (200, b'{"status":"terminated"}', Unreadable("an answer without a readable `successful`")),
    "odd-success":    (200, b'{"status":"terminated","successful":1}', Unreadable("an answer without a readable `successful`")),
    "odd-status":     (200, b'{"status":"done","successful":true}', Unreadable("a task that is neither processing nor terminated")),
    "blocked":        (403, b"", QuotaError("HTTP 403: blocked after too many calls")),
}
# fmt: on


@pytest.mark.parametrize("case", TASKS)
def test_confirm_needs_a_terminated_task(taps, case):
    status, body, expected = TASKS[case]
    taps.cloud.script = [(status, body)]

    if isinstance(expected, Progress):
        assert taps.confirm(Command.UNLOCK, None, "t") is expected
        return
    with pytest.raises(type(expected)) as caught:
        taps.confirm(Command.UNLOCK, None, "t")
    assert (type(caught.value), str(caught.value)) == (type(expected), str(expected))


@pytest.mark.parametrize(
    ("body", "progress"),
    [
        (b'{"locked":false,"responsive":true}', Progress.DONE),
        (b'{"locked":true,"responsive":true}', Progress.NO_EFFECT),
        (
            b'{"locked":false,"responsive":false}',
            "the lock does not answer its access point",
        ),
    ],
    ids=["there", "not-there", "unresponsive"],
)
def test_confirm_without_a_task_id_asks_the_lock(taps, body, progress):
    taps.cloud.script = [(200, body)]

    assert taps.learn(Command.UNLOCK, None) == progress
    assert taps.cloud.asked == [f"GET /public/sesame/{DEVICE_ID}"]


# -- whole taps

STATUS = f"GET /public/sesame/{DEVICE_ID}"
POST = f"POST /public/sesame/{DEVICE_ID}"
RESULT = "GET /public/action-result?task_id=462b7461-0000-4000-8000-000000000000"


def test_tap_without_a_motor_is_three_requests_and_no_wait(taps):
    taps.cloud.bolt.motor_s = 0.0

    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 80)
    assert taps.cloud.asked == [STATUS, POST, RESULT]
    assert taps.clock.monotonic() == 1000.0


def test_move_to_the_present_state_is_confirmed_at_once(taps):
    taps.cloud.bolt.is_found("unlocked")

    outcome = taps.move(lambda state: Command.UNLOCK)

    assert outcome.result is Result.UNLOCKED
    assert taps.clock.monotonic() == 1000.0


def test_confirm_is_asked_once_a_second(taps):
    taps.cloud.bolt.motor_s = 2.5

    taps.tap()

    assert taps.cloud.asked == [STATUS, POST, *[RESULT] * 4]
    assert taps.clock.monotonic() == 1003.0


SILENT = "state unknown: the lock does not answer its access point"

# fmt: off
STORIES = {
    "not-known-yet":       Story(Result.UNLOCKED, 5, 8, bolt="unlocked", switches={"not_yet_s": 5.0}),
    "stale-for-minutes":   Story(Result.UNLOCKED, 2, 5, bolt="unlocked", switches={"stays_stale": True}),
    "stale-answer-lost":   Story(Result.UNLOCKED, 3, 8, bolt="unlocked", fault="cut-after", switches={"stays_stale": True}),
    "wakes":               Story(Result.UNLOCKED, 5, 10, bolt="unlocked", switches={"is_responsive": False}),
    "wakes-slowly":        Story(Result.UNKNOWN_STATE, 9, 12, SILENT, command=None, switches={"is_responsive": False, "sync_s": 30.0}),
    "sleeps-on":           Story(Result.UNKNOWN_STATE, 3, 6, SILENT, command=None, switches={"is_responsive": False, "sync_helps": False}),
}
# fmt: on


@pytest.mark.parametrize("case", STORIES)
def test_tap_ends_as_the_lock_reports(taps, case):
    play(taps, STORIES[case])

    assert len(taps.cloud.synced_at) == ("is_responsive" in STORIES[case].switches)


def test_quota_block_is_respected_for_thirty_minutes(taps):
    """One that goes on asking would be blocked for longer."""
    for _ in range(20):
        taps.status()
    with pytest.raises(QuotaError):
        taps.status()
    taps.clock.advance(1799.0)
    with pytest.raises(QuotaError):
        taps.status()
    taps.clock.advance(1800.0)

    assert taps.status().state is LockState.LOCKED
