"""Tedee against its played cloud: calls on the wire, operations, what counts as done."""

from __future__ import annotations

import pytest

import doorpi
from doorpi import (
    AuthError,
    Command,
    LockState,
    LockStatus,
    NotForwarded,
    Outcome,
    Progress,
    Rejected,
    RemoteBarred,
    RequestRefused,
    Result,
    Unreadable,
)
from tests.fakes.locks import taps_at
from tests.fakes.tedee import DEVICE_ID, KEY, failure, success
from tests.helpers.world import Taps

SYNC = f"GET /api/v37/my/lock/{DEVICE_ID}/sync"
UNLOCK = f"POST /api/v37/my/lock/{DEVICE_ID}/operation/unlock"
LOCK = f"POST /api/v37/my/lock/{DEVICE_ID}/operation/lock"
OPERATION = "GET /api/v37/my/device/operation/1619078520230"
LOCKED, UNLOCKED, UNKNOWN = LockState.LOCKED, LockState.UNLOCKED, LockState.UNKNOWN


def confirmed(
    taps: Taps, handle: str | None, before: LockState | None = LOCKED
) -> Progress:
    """What the driver makes of ``handle`` after an unlock of a lock seen ``before``."""
    status = LockStatus(state=before) if before else None
    return taps.confirm(Command.UNLOCK, status, handle)


@pytest.fixture
def taps(clock):
    with taps_at("tedee", clock) as taps:
        yield taps


def sync_with(state: object = 6, **changes) -> tuple[int, bytes]:
    told = {"isConnected": True, "lockProperties": {"state": state}}
    return success(told | changes)


def operation_with(status: object, result: object) -> tuple[int, bytes]:
    return success({"status": status, "result": result})


# -- the wire


def test_status_is_a_sync_with_the_key_in_its_header(taps):
    status = taps.status()

    [request] = taps.cloud.requests
    assert taps.cloud.asked == [SYNC]
    assert request.headers["authorization"] == f"PersonalKey {KEY}"
    assert request.body == b""
    assert status == LockStatus(state=LOCKED, reachable=True, battery_percent=54)


@pytest.mark.parametrize(
    ("command", "call"), [(Command.UNLOCK, UNLOCK), (Command.LOCK, LOCK)]
)
def test_send_is_a_post_that_returns_an_operation_id(taps, command, call):
    assert taps.send(command) == "1619078520230"

    assert taps.cloud.asked == [call]
    assert taps.cloud.requests[0].headers["authorization"] == f"PersonalKey {KEY}"
    assert taps.cloud.bolt.moved == [command.value]


def test_send_accepts_a_number_as_operation_id(taps):
    taps.cloud.number_ids = True

    assert taps.send() == "1619078520230"


@pytest.mark.parametrize("told", [{}, {"operationId": ""}, {"operationId": None}, []])
def test_send_without_an_operation_id_is_unreadable(taps, told):
    taps.cloud.script = [success(told, 202)]

    with pytest.raises(Unreadable) as caught:
        taps.send()

    assert str(caught.value) == "an answer without a readable `operationId`"


def test_confirm_quotes_the_operation_id(taps):
    with pytest.raises(RequestRefused):
        confirmed(taps, "../1?2")

    assert taps.cloud.asked == ["GET /api/v37/my/device/operation/..%2F1%3F2"]


# -- what a status says

NUMBERS = {
    0: (UNKNOWN, "the lock is not calibrated"),
    1: (UNKNOWN, "the lock is being calibrated"),
    2: (UNLOCKED, ""),
    3: (UNKNOWN, "the bolt is half out"),
    4: (UNKNOWN, "the bolt is moving"),
    5: (UNKNOWN, "the bolt is moving"),
    6: (LOCKED, ""),
    7: (UNLOCKED, ""),
    8: (UNKNOWN, "the latch is being pulled"),
    9: (UNKNOWN, "the lock does not know its state"),
    18: (UNKNOWN, "the lock is being updated"),
    77: (UNKNOWN, "the lock says 77"),
    -1: (UNKNOWN, "the lock says -1"),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_status_is_known_when_locked_unlocked_or_pulled(taps, number):
    state, why = NUMBERS[number]
    taps.cloud.script = [sync_with(number)]

    assert taps.status() == LockStatus(
        state=state, why=why, reachable=True, is_between=number == 3
    )


@pytest.mark.parametrize("key", ["lockProperties", "deviceState"])
def test_status_is_read_under_both_of_its_names(taps, key):
    taps.cloud.properties_key = key

    assert taps.status().state is LOCKED


NOT_CONNECTED = "the lock is not connected to its bridge"


@pytest.mark.parametrize("key", ["lockProperties", "deviceState"])
def test_status_without_the_bridge_is_unknown_and_unreachable(taps, key):
    taps.cloud.properties_key = key
    taps.cloud.is_connected = False

    assert taps.status() == LockStatus(
        state=UNKNOWN, why=NOT_CONNECTED, reachable=False
    )


def test_status_of_a_disconnected_lock_is_unknown(taps):
    taps.cloud.script = [sync_with(6, isConnected=False)]

    assert taps.status().state is UNKNOWN


@pytest.mark.parametrize("value", [None, "yes", 1])
def test_status_without_isconnected_has_unknown_reachability(taps, value):
    taps.cloud.script = [sync_with(6, isConnected=value)]

    assert taps.status() == LockStatus(state=LOCKED, reachable=None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [(54, 54), (0, 0), (101, None), (-1, None), (True, None), ("9", None)],
)
def test_status_battery_is_a_percentage_or_none(taps, sent, read):
    properties = {"state": 6, "batteryLevel": sent}
    taps.cloud.script = [success({"isConnected": True, "lockProperties": properties})]

    assert taps.status().battery_percent == read


# fmt: off
NO_STATE = "an answer without a readable `state`"
BAD_STATUSES = {
    "nothing":    ((200, b"{}"), NO_STATE),
    "no-result":  (success(None), NO_STATE),
    "odd-result": (success([6]), NO_STATE),
    "no-lock":    (success({"isConnected": True}), NO_STATE),
    "null-lock":  (success({"isConnected": True, "lockProperties": None}), NO_STATE),
    "odd-lock":   (success({"isConnected": True, "lockProperties": [6]}), NO_STATE),
    "no-state":   (success({"isConnected": True, "lockProperties": {"batteryLevel": 5}}), NO_STATE),
    "text-state": (sync_with("6"), NO_STATE),
    "true-state": (sync_with(True), NO_STATE),
}
ERRORS = {
    "unauthorized": ((401, b""), AuthError, "HTTP 401: the key is not accepted"),
    "forbidden":    ((403, b""), AuthError, "HTTP 403: the key is not accepted"),
    "no-remote":    (failure(403, "Remote access is disabled for this lock."), RemoteBarred, "HTTP 403 Remote access is disabled for this lock"),
    "not-found":    (failure(404, "Not found.", "Really."), RequestRefused, f"HTTP 404 Not found.; Really{doorpi.NOT_THERE}"),
}
# fmt: on


@pytest.mark.parametrize("case", BAD_STATUSES)
def test_status_without_a_state_is_unreadable(taps, case):
    answer, words = BAD_STATUSES[case]
    taps.cloud.script = [answer]

    with pytest.raises(Unreadable) as caught:
        taps.status()

    assert str(caught.value) == words


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize(
    "question",
    [Taps.status, Taps.send, lambda taps: confirmed(taps, "1")],
    ids=["status", "send", "confirm"],
)
def test_error_has_class_and_words(taps, question, case):
    answer, error, words = ERRORS[case]
    taps.cloud.script = [answer]

    with pytest.raises(error) as caught:
        question(taps)

    assert type(caught.value) is error
    assert str(caught.value) == words


VERSION_ENDED = b"""{"error": {"code": "UnsupportedApiVersion",
    "message": "API version 1.32 is no longer served.", "innerError": null}}"""
NO_BRIDGE = failure(400, "The lock has no connection to its bridge.")
# fmt: off
REFUSALS = {
    # a 400: to the first question, and to a command
    "version":  ((400, VERSION_ENDED), "HTTP 400 API version 1.32 is no longer served"),
    "bridge":   (NO_BRIDGE, "HTTP 400 The lock has no connection to its bridge"),
    "silent":   ((400, b""), "HTTP 400"),
}
# fmt: on


@pytest.mark.parametrize("case", REFUSALS)
def test_status_400_has_the_vendors_words(taps, case):
    answer, words = REFUSALS[case]
    taps.cloud.script = [answer]

    with pytest.raises(RequestRefused) as caught:
        taps.status()

    assert str(caught.value) == words + doorpi.NOT_THERE * (case == "silent")


@pytest.mark.parametrize("case", REFUSALS)
def test_send_400_means_not_forwarded(taps, case):
    """Source: the documentation of the lock's operations."""
    answer, words = REFUSALS[case]
    taps.cloud.script = [answer]

    with pytest.raises(NotForwarded) as caught:
        taps.send()

    assert str(caught.value) == words + f" {NOT_CONNECTED}" * (case == "silent")
    assert caught.value.never_reached_lock
    assert not caught.value.forbids_fallback


# -- what counts as done


@pytest.mark.parametrize(
    ("stage", "result", "progress"),
    [("PENDING", 0, Progress.PENDING), ("PENDING", None, Progress.PENDING),
     ("COMPLETED", 0, Progress.DONE)],
)  # fmt: skip
def test_confirm_is_done_when_the_operation_has_succeeded(
    taps, stage, result, progress
):
    taps.cloud.script = [operation_with(stage, result)]

    assert confirmed(taps, "7") is progress
    assert taps.cloud.asked == ["GET /api/v37/my/device/operation/7"]


def test_confirm_rejects_when_the_operation_has_failed(taps):
    taps.cloud.script = [operation_with("COMPLETED", 3)]

    with pytest.raises(Rejected) as caught:
        confirmed(taps, "7")

    assert type(caught.value) is Rejected
    assert str(caught.value) == "the lock failed: result 3"


@pytest.mark.parametrize(
    ("stage", "result"),
    [("COMPLETED", None), ("COMPLETED", "0"), ("COMPLETED", False), ("DONE", 0),
     (None, 0), (1, 0)],
)  # fmt: skip
def test_confirm_of_an_operation_in_another_stage_is_unreadable(taps, stage, result):
    taps.cloud.script = [operation_with(stage, result)]

    with pytest.raises(Unreadable):
        confirmed(taps, "7")


@pytest.mark.parametrize("before", [UNKNOWN, None])
def test_confirm_reads_the_state_of_a_lock_that_may_be_uncalibrated(taps, before):
    taps.cloud.script = [
        operation_with("COMPLETED", 0), sync_with(0),
        operation_with("COMPLETED", 0),
    ]  # fmt: skip

    with pytest.raises(Unreadable, match=r"^the lock is not calibrated$"):
        confirmed(taps, "7", before)
    assert confirmed(taps, "7", before) is Progress.PENDING
    assert [call.split("/")[-1] for call in taps.cloud.asked] == ["7", "sync", "7"]


@pytest.mark.parametrize(
    ("number", "progress"),
    [(2, Progress.DONE), (7, Progress.DONE), (6, Progress.PENDING),
     (3, "the bolt is half out"), (0, "the lock is not calibrated"),
     (4, "the bolt is moving")],
)  # fmt: skip
def test_confirm_without_an_operation_reads_the_state(taps, number, progress):
    taps.cloud.script = [sync_with(number)]

    assert taps.learn(Command.UNLOCK, None) == progress
    assert taps.cloud.asked == [SYNC]


@pytest.mark.parametrize(
    ("later_s", "calls"), [(0.5, 1), (19.9, 1), (20, 2)], ids=["0.5", "19.9", "20"]
)
def test_confirm_reads_the_state_once_in_20_seconds(taps, clock, later_s, calls):
    taps.status()
    clock.advance(later_s)

    assert confirmed(taps, None) is Progress.PENDING
    assert taps.cloud.asked == [SYNC] * calls


# -- whole taps


def test_tap_is_three_calls_and_confirmed_after_two_seconds(taps):
    outcome = taps.tap()

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 54)
    assert taps.cloud.asked == [SYNC, UNLOCK, OPERATION]
    assert taps.clock.monotonic() == 1002.0
    assert taps.cloud.bolt.moved == ["unlock"]


def test_tap_locks_a_lock_whose_latch_is_pulled(taps):
    taps.cloud.bolt.is_found("unlocked")
    taps.cloud.numbers["unlocked"] = 7

    assert taps.tap() == Outcome(Command.LOCK, Result.LOCKED, "", 54)


@pytest.mark.parametrize(
    ("motor_s", "confirmed_s"),
    [(0.0, 2), (2.0, 2), (3.0, 4), (5.0, 7), (11.0, 11), (12.0, 16), (20.5, 21), (25, 28)],
)  # fmt: skip
def test_confirm_is_asked_at_2_4_7_11_16_21_and_28_seconds(taps, motor_s, confirmed_s):
    taps.cloud.bolt.motor_s = motor_s

    outcome = taps.tap()

    assert outcome.result is Result.UNLOCKED
    assert taps.clock.monotonic() == 1000.0 + confirmed_s


UNSURE = "not confirmed within 28 s"


def test_tap_without_an_operation_id_ends_unsure(taps):
    taps.cloud.script = [None, success({}, 202)]

    outcome = taps.tap()

    words = f"an answer without a readable `operationId`; {UNSURE}"
    assert outcome == Outcome(Command.UNLOCK, Result.UNSURE, words, 54)
    assert len(taps.cloud.asked) == 3


def test_tap_that_jams_is_refused(taps):
    taps.cloud.bolt.jams = True

    outcome = taps.tap()

    assert outcome == Outcome(
        Command.UNLOCK, Result.REFUSED, "the lock failed: result 1", 54
    )
    assert taps.clock.monotonic() == 1002.0


def test_move_of_an_uncalibrated_lock_ends_unsure(taps):
    taps.cloud.is_calibrated = False

    outcome = taps.tap(on_unknown=Command.UNLOCK)

    words = f"{UNSURE}: the lock is not calibrated"
    assert outcome == Outcome(Command.UNLOCK, Result.UNSURE, words, 54)
    assert taps.cloud.bolt.place == "locked"
    assert taps.cloud.synced_at == [1000.0, 1021.0]


@pytest.mark.parametrize("command", Command)
def test_move_works_from_a_bolt_that_is_half_out(taps, command):
    """tedee_hass 17 and 50: a key that was not turned to its end."""
    taps.cloud.bolt.is_found("half-out")
    taps.cloud.numbers["half-out"] = 3

    outcome = taps.move(lambda state: command)

    assert outcome == Outcome(command, Result(command.target), "", 54)
    assert taps.clock.monotonic() == 1002.0
    assert taps.cloud.bolt.place == command.target


def test_tap_locks_a_lock_whose_bolt_is_half_out(taps):
    taps.cloud.bolt.is_found("half-out")
    taps.cloud.numbers["half-out"] = 3

    assert taps.tap() == Outcome(Command.LOCK, Result.LOCKED, "", 54)


@pytest.mark.parametrize("command", Command)
def test_confirm_ignores_a_bolt_that_is_half_out(taps, command):
    taps.cloud.script = [sync_with(3)]

    assert taps.learn(command, None) == "the bolt is half out"
