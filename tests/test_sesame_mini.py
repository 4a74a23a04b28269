"""Sesame mini against the simulated cloud: the wire, the timing, and every fault of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from conftest import RESULTS
from fake_sesame import HttpServer

from doorpi import (
    CLOUD_FAULTS,
    AuthError,
    Busy,
    Command,
    LockConfig,
    LockControl,
    LockState,
    LockStatus,
    MaybeSent,
    NotSent,
    Outcome,
    Progress,
    QuotaError,
    Rejected,
    Result,
    Secret,
    SesameMini,
    SimulatedCloud,
    SystemClock,
    TurnedAway,
    Unreadable,
)

DEVICE_ID = "126D3D66-9222-4E5A-BCDE-0C6629D48D43"
KEY = "0a1b2c-raw-key"


def mini_at(base_url: str, device_id=DEVICE_ID, key=KEY) -> SesameMini:
    config = LockConfig(
        kind="sesame-mini",
        device_id=device_id,
        api_key=Secret(key),
        base_url=base_url,
    )
    return SesameMini(config, SystemClock())


@pytest.fixture
def wire() -> Iterator[HttpServer]:
    """A server that keeps what it was asked and answers by script."""
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def mini(wire) -> Iterator[SesameMini]:
    lock = mini_at(f"http://127.0.0.1:{wire.port}/public")
    yield lock
    lock.close()


def soon() -> float:
    return time.monotonic() + 3.0


# -- the wire


def test_a_status_is_one_get_with_the_raw_key(wire, mini):
    wire.script = [(200, b'{"locked":true,"battery":100,"responsive":true}')]

    status = mini.status(soon())

    assert wire.asked == [f"GET /public/sesame/{DEVICE_ID}"]
    assert wire.requests[0].headers["authorization"] == KEY
    assert wire.requests[0].body == b""
    assert status == LockStatus(
        state=LockState.LOCKED, reachable=True, battery_percent=100
    )


@pytest.mark.parametrize("command", Command)
def test_a_command_is_one_post_and_is_answered_by_a_task(wire, mini, command):
    wire.script = [(200, b'{"task_id":"462b7461"}')]

    task = mini.send(command, soon(), soon())

    [request] = wire.requests
    assert wire.asked == [f"POST /public/sesame/{DEVICE_ID}"]
    assert request.headers["authorization"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.json == {"command": command.value}
    assert task == "462b7461"


def test_the_end_of_a_task_is_asked_for_with_its_id_quoted(wire, mini):
    wire.script = [(200, b'{"task_id":"a","status":"terminated","successful":true}')]

    progress = mini.confirm(Command.LOCK, "a/b&c=d e+f", None, soon())

    assert wire.asked == ["GET /public/action-result?task_id=a%2Fb%26c%3Dd%20e%2Bf"]
    assert wire.requests[0].headers["authorization"] == KEY
    assert progress is Progress.DONE


def test_a_device_id_cannot_reach_beyond_its_place_in_the_path(wire):
    lock = mini_at(f"http://127.0.0.1:{wire.port}", device_id="../x?y#z")

    with contextlib.closing(lock), pytest.raises(Unreadable):
        lock.status(soon())

    assert wire.asked == ["GET /sesame/..%2Fx%3Fy%23z"]


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
            ),
        ),
        (
            b'{"locked":false,"battery":"80","responsive":"no"}',
            LockStatus(state=LockState.UNLOCKED),
        ),
    ],
    ids=["bare", "whole", "unresponsive", "odd-extras"],
)
def test_locked_counts_unless_the_access_point_lost_the_lock(
    wire, mini, body, expected
):
    wire.script = [(200, body)]

    assert mini.status(soon()) == expected


@pytest.mark.parametrize(
    "body", [b"{}", b'{"locked":"yes"}', b'{"locked":1}', b'{"locked":null}']
)
def test_locked_that_is_no_boolean_is_unreadable(wire, mini, body):
    wire.script = [(200, body)]

    with pytest.raises(Unreadable, match=r"^a status without a readable `locked`$"):
        mini.status(soon())


# fmt: off
ERRORS = {
    "BAD_PARAMS":      (400, b'{"error":"BAD_PARAMS"}', TurnedAway, "HTTP 400 BAD_PARAMS", None),
    "LOW_BATTERY":     (400, b'{"error":"LOW_BATTERY"}', TurnedAway, "HTTP 400 LOW_BATTERY", None),
    "BUSY":            (400, b'{"error":"DEVICE_IS_BUSY"}', Busy, "HTTP 400 DEVICE_IS_BUSY", 2.0),
    "BUSY-35":         (400, b'{"error":"DEVICE_IS_BUSY 35"}', Busy, "HTTP 400 DEVICE_IS_BUSY 35", 35.0),
    "BUSY-0":          (400, b'{"error":"DEVICE_IS_BUSY 0"}', Busy, "HTTP 400 DEVICE_IS_BUSY 0", 0.0),
    "BUSY-odd":        (400, b'{"error":"DEVICE_IS_BUSY x"}', TurnedAway, "HTTP 400 DEVICE_IS_BUSY x", None),
    "BUSY-in-200":     (200, b'{"error":"DEVICE_IS_BUSY 35"}', Unreadable, "a status without a readable `locked`", None),
    "UNAUTHORIZED":    (401, b'{"error":"UNAUTHORIZED"}', AuthError, "HTTP 401 UNAUTHORIZED: the key is not accepted", None),
    "Forbidden":       (403, b'{"error":"Forbidden"}', QuotaError, "HTTP 403 Forbidden: too many calls, blocked for 30 minutes", None),
    "not-found":       (404, b"", TurnedAway, "HTTP 404", None),
    "THROTTLED":       (429, b'{"error":"THROTTLED"}', Busy, "HTTP 429 THROTTLED", 10.0),
    "INTERNAL_ERROR":  (500, b'{"error":"INTERNAL_ERROR"}', MaybeSent, "HTTP 500 INTERNAL_ERROR", None),
    "no-json":         (503, b"<html>", MaybeSent, "HTTP 503", None),
    "error-no-text":   (500, b'{"error":{"a":1}}', MaybeSent, "HTTP 500", None),
    "leaks-the-key":   (401, f'{{"error":"{KEY} bad"}}'.encode(), AuthError, "HTTP 401 *** bad: the key is not accepted", None),
    "writes-to-log":   (500, b'{"error":"a\\nb\\u001b[31m"}', MaybeSent, r"HTTP 500 a\nb\x1b[31m", None),
}
# fmt: on


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_the_cloud_has_a_class_words_and_a_wait(wire, mini, case):
    status, body, error, words, after_s = ERRORS[case]
    wire.script = [(status, body)]

    with pytest.raises(error) as caught:
        mini.status(soon())

    assert (type(caught.value), str(caught.value)) == (error, words)
    assert caught.value.after_s == after_s


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"task_id":7}', b'{"task_id":""}', b"[]", b"<html>"]
)
def test_acceptance_without_a_task_id_is_unreadable(wire, mini, body):
    wire.script = [(200, body)]

    with pytest.raises(Unreadable):
        mini.send(Command.UNLOCK, soon(), soon())


# fmt: off
TASKS = {
    "processing":     (200, b'{"task_id":"t","status":"processing"}', Progress.PENDING),
    "successful":     (200, b'{"status":"terminated","successful":true}', Progress.DONE),
    "400-is-not-yet": (400, b'{"error":"BAD_PARAMS"}', Progress.PENDING),
    "busy-is-not-yet": (400, b'{"error":"DEVICE_IS_BUSY 9"}', Progress.PENDING),
    "failed":         (200, b'{"status":"terminated","successful":false,"error":"JAM"}', Rejected("the lock failed: JAM")),
    "failed-mutely":  (200, b'{"status":"terminated","successful":false}', Rejected("the lock failed: no reason given")),
    "no-success":     (200, b'{"status":"terminated"}', Unreadable("a task that is neither processing nor terminated")),
    "odd-success":    (200, b'{"status":"terminated","successful":1}', Unreadable("a task that is neither processing nor terminated")),
    "odd-status":     (200, b'{"status":"done","successful":true}', Unreadable("a task that is neither processing nor terminated")),
    "list":           (200, b"[]", Unreadable("HTTP 200 with JSON that is not an object")),
    "redirect":       (302, b"", TurnedAway("HTTP 302: a redirect, not followed")),
    "blocked":        (403, b"", QuotaError("HTTP 403: too many calls, blocked for 30 minutes")),
    "internal":       (500, b"", MaybeSent("HTTP 500")),
}
# fmt: on


@pytest.mark.parametrize("case", TASKS)
def test_only_a_terminated_task_says_how_it_went(wire, mini, case):
    status, body, expected = TASKS[case]
    wire.script = [(status, body)]

    if isinstance(expected, Progress):
        assert mini.confirm(Command.UNLOCK, "t", None, soon()) is expected
        return
    with pytest.raises(type(expected)) as caught:
        mini.confirm(Command.UNLOCK, "t", None, soon())
    assert (type(caught.value), str(caught.value)) == (type(expected), str(expected))


@pytest.mark.parametrize(
    ("body", "progress"),
    [
        (b'{"locked":false,"responsive":true}', Progress.DONE),
        (b'{"locked":true,"responsive":true}', Progress.NO_EFFECT),
        (b'{"locked":false,"responsive":false}', Progress.PENDING),
    ],
    ids=["there", "not-there", "unresponsive"],
)
def test_without_a_task_the_lock_itself_is_asked(wire, mini, body, progress):
    wire.script = [(200, body)]

    assert mini.confirm(Command.UNLOCK, None, None, soon()) is progress
    assert wire.asked == [f"GET /public/sesame/{DEVICE_ID}"]


# -- whole taps on the simulated cloud


@dataclass(frozen=True)
class Told:
    """A tap as the door knows it, and what really happened meanwhile."""

    outcome: Outcome
    took_s: float
    sent: list[Command]
    requests: list[str]
    is_locked: bool  # when the result was told

    @property
    def summary(self) -> str:
        """The result and how many commands had an effect."""
        return f"{self.outcome.result} {len(self.sent)}"


def toggle(state: LockState) -> Command | None:
    if state is LockState.UNKNOWN:
        return None
    return Command.UNLOCK if state is LockState.LOCKED else Command.LOCK


def tap(
    cloud: SimulatedCloud,
    *,
    window_s=10.0,
    confirm_s=30.0,
    choose: Callable[[LockState], Command | None] = toggle,
    **policy,
) -> Told:
    clock = SystemClock()
    with contextlib.closing(
        mini_at(cloud.base_url, cloud.device_id, cloud.key)
    ) as lock:
        lock.policy = replace(lock.policy, **policy)
        control = LockControl(lock, clock, confirm_s=confirm_s, jitter=lambda: 0.0)
        began = clock.monotonic()
        outcome = control.move(
            choose, send_by=began + window_s, intend=lambda command: None
        )
        took_s, is_locked = clock.monotonic() - began, cloud.locked
    sent = [command for _, command in cloud.commands]
    return Told(outcome, took_s, sent, cloud.requests[:], is_locked)


@contextlib.contextmanager
def running_cloud(**settings) -> Iterator[SimulatedCloud]:
    cloud = SimulatedCloud(**settings)
    with contextlib.closing(cloud):
        yield cloud


def test_a_tap_on_a_lock_without_a_motor_is_three_requests_and_no_wait(cloud):
    told = tap(cloud)

    assert told.outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 80)
    assert told.requests == ["status", "command", "result"]
    assert told.sent == [Command.UNLOCK]
    assert told.took_s < 0.5


def test_a_command_that_moves_nothing_is_confirmed_at_once():
    with running_cloud(motor_s=1.5, locked=False) as cloud:
        told = tap(cloud, choose=lambda state: Command.UNLOCK)

    assert told.outcome.result is Result.UNLOCKED
    assert told.took_s < 0.5


@pytest.mark.parametrize(
    ("motor_s", "latency_s"),
    [(1.5, 0.0), (1.5, 0.1), (1.06, 0.1)],  # the last ends just after a question
)
def test_the_result_follows_the_motor_within_a_poll(motor_s, latency_s):
    with running_cloud(motor_s=motor_s, latency_s=latency_s) as cloud:
        told = tap(cloud)
        told_at = time.monotonic()

    [(began_at, command)] = cloud.commands
    after_motor_s = told_at - (began_at + motor_s)
    assert told.outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 80)
    assert command is Command.UNLOCK
    assert 0.0 <= after_motor_s < 1.2


def test_while_the_motor_runs_the_cloud_is_asked_once_a_second():
    with running_cloud(motor_s=2.5) as cloud:
        told = tap(cloud)

    assert told.requests == ["status", "command", *["result"] * 4]


def test_a_busy_lock_is_waited_for_as_long_as_it_says(cloud):
    cloud.fail("busy", at="command")  # DEVICE_IS_BUSY 1

    told = tap(cloud, send_waits_s=(9.0, 9.0))

    assert told.summary == "unlocked 1"
    assert told.requests == ["status", "command", "command", "result"]
    assert 1.0 <= told.took_s < 1.5


def test_a_lock_busy_for_longer_than_the_window_is_not_waited_for(cloud):
    cloud.fail("busy-long", at="command")

    told = tap(cloud)

    assert told.outcome == Outcome(
        Command.UNLOCK, Result.REFUSED, "HTTP 400 DEVICE_IS_BUSY 35", 80
    )
    assert told.took_s < 0.5


def test_an_unresponsive_lock_is_not_moved_on_its_last_known_state(cloud):
    cloud.fail_always("unresponsive", at="status")

    told = tap(cloud)

    assert told.outcome == Outcome(
        None,
        Result.UNKNOWN_STATE,
        "state unknown: the lock does not answer its access point",
        80,
    )
    assert told.requests == ["status"]


def test_a_cloud_that_is_gone_is_unreachable(cloud):
    cloud.go_offline()

    told = tap(cloud, read_waits_s=(0.05, 0.05))

    assert told.outcome == Outcome(
        None, Result.UNREACHABLE, "cannot reach 127.0.0.1: connection refused"
    )


def test_a_cloud_that_is_back_is_used_again(cloud):
    clock = SystemClock()
    lock = mini_at(cloud.base_url, cloud.device_id, cloud.key)
    with contextlib.closing(lock):
        lock.status(soon())
        cloud.go_offline()
        with pytest.raises(NotSent):
            lock.status(soon())
        cloud.go_online()

        assert lock.status(clock.monotonic() + 3).state is LockState.LOCKED


# -- every fault at every stage, once and for ever

WINDOW_S, CONFIRM_S, TRY_S, MOTOR_S = 1.6, 0.8, 0.3, 0.15
STAGES = ("status", "command", "result")

#: What one tap on the locked door comes to, and how many commands had an effect: with a
#: fault that happens once, and with one that stays.
MATRIX = """
                      status once      command once  result once  | status ever      command ever   result ever
html                  unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
list                  unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
null                  unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
empty                 unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
wrong-types           unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
endless               unlocked 1       unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
redirect              refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
bad-request           refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
busy                  unlocked 1       unlocked 1    unlocked 1   | refused 0        refused 0      unsure 1
busy-long             refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
low-battery           refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
unauthorized          refused 0        refused 0     unsure 1     | refused 0        refused 0      unsure 1
forbidden             refused 0        refused 0     unsure 1     | refused 0        refused 0      unsure 1
not-found             refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
throttled             refused 0        refused 0     unlocked 1   | refused 0        refused 0      unsure 1
internal-error        unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unsure 0       unsure 1
internal-error-after  unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unlocked 1     unsure 1
bad-gateway           unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unsure 0       unsure 1
unavailable           unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unsure 0       unsure 1
unresponsive          unknown-state 0  unlocked 1    unlocked 1   | unknown-state 0  unsure 0       unsure 1
motor-fails           unlocked 1       unlocked 1    refused 1    | unknown-state 0  unsure 0       refused 1
cut-before            unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unsure 0       unsure 1
cut-after             unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unlocked 1     unsure 1
hang                  unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unsure 0       unsure 1
hang-after            unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unlocked 1     unsure 1
drip                  unlocked 1       unlocked 1    unlocked 1   | unreachable 0    unlocked 1     unsure 1
"""  # fmt: skip


def cases() -> dict[str, str]:
    """fault-stage-howoften: the expected summary."""
    found = {}
    for line in MATRIX.replace("|", " ").strip().splitlines()[1:]:
        fault, *words = line.split()
        cells = [
            f"{result} {n}" for result, n in zip(words[::2], words[1::2], strict=True)
        ]
        often = [(stage, times) for times in ("once", "ever") for stage in STAGES]
        for (stage, times), cell in zip(often, cells, strict=True):
            found[f"{fault}/{stage}/{times}"] = cell
    return found


CASES = cases()


def play(case: str) -> Told:
    fault, stage, times = case.split("/")
    with running_cloud(motor_s=MOTOR_S) as cloud:
        if times == "once":
            cloud.fail(fault, at=stage)
        else:
            cloud.fail_always(fault, at=stage)
        return tap(
            cloud,
            window_s=WINDOW_S,
            confirm_s=CONFIRM_S,
            try_s=TRY_S,
            read_waits_s=(0.05, 0.1),
            send_waits_s=(0.05, 0.1),
            confirm_every_s=0.1,
            resend_after_s=0.3,
        )


@pytest.fixture(scope="module")
def played(request) -> Iterator[dict[str, Future[Told]]]:
    """All the selected cases, side by side: most of their time is waiting."""
    items = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {item.params["case"] for item in items if item and "case" in item.params}
    with ThreadPoolExecutor(12) as pool:
        yield {case: pool.submit(play, case) for case in CASES if case in wanted}


def test_the_matrix_knows_every_fault():
    assert {case.split("/")[0] for case in CASES} == set(CLOUD_FAULTS)
    assert {summary.split()[0] for summary in CASES.values()} <= set(RESULTS)


@pytest.mark.parametrize("case", CASES)
def test_a_fault_ends_in_time_with_what_is_known(played, case):
    told = played[case].result()

    assert told.summary == CASES[case]
    assert told.took_s < WINDOW_S + TRY_S + CONFIRM_S + 0.5


@pytest.mark.parametrize("case", CASES)
def test_no_fault_makes_the_door_claim_what_is_not_so(played, case):
    told = played[case].result()

    claims_open = told.outcome.result is Result.UNLOCKED
    assert not (claims_open and told.is_locked)
    assert told.outcome.result is not Result.LOCKED
    assert set(told.sent) <= {Command.UNLOCK}


@pytest.mark.parametrize("case", CASES)
def test_no_fault_makes_the_door_send_twice_what_may_have_left(played, case):
    """A second POST follows an error that says it had no effect, or a status that shows
    it; and it never moves the lock twice."""
    told = played[case].result()
    fault, stage, _ = case.split("/")

    posts = [at for at, kind in enumerate(told.requests) if kind == "command"]

    assert len(told.sent) <= 1
    if stage != "command":
        assert len(posts) <= 1
    for earlier, later in pairwise(posts):
        between = told.requests[earlier + 1 : later]
        assert between.count("status") >= 1 or fault == "busy"
