"""LockControl on a scripted lock and a clock that jumps: what is sent, when, what is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorpi import (
    AuthError,
    Busy,
    Command,
    LockError,
    LockPolicy,
    LockState,
    LockStatus,
    MaybeSent,
    Move,
    NotSent,
    Offline,
    Outcome,
    Pause,
    Progress,
    QuotaError,
    Rejected,
    RequestRefused,
    Result,
    Stopped,
    Unreadable,
    drive,
)
from tests.helpers.world import FakeClock, FakeLock, HeldWorker, control_of

WINDOW_S = 10.0
CONFIRM_S = 30.0  # as of `control_of`
MANY = 100  # more often than anybody asks
UNKNOWN = LockStatus(state=LockState.UNKNOWN, why="jammed")
UNLOCKED = Outcome(Command.UNLOCK, Result.UNLOCKED)


def toggle(state: LockState) -> Command | None:
    """What a tap does by default: nothing on a guess."""
    return {LockState.LOCKED: Command.UNLOCK, LockState.UNLOCKED: Command.LOCK}.get(
        state
    )


def tap(lock: FakeLock, choose=toggle, *, jitter=0.0, intend=None):
    """Move ``lock`` as a tap does: the outcome, and the seconds it took."""
    clock = lock.clock
    began = clock.monotonic()
    control = control_of(lock, clock, jitter=lambda: jitter)
    steps = control.move(
        Move(choose, send_by=began + WINDOW_S, intend=intend or (lambda command: None))
    )
    outcome = drive(steps, clock)
    return outcome, clock.monotonic() - began


@pytest.fixture
def lock(clock) -> FakeLock:
    return FakeLock(clock)


def times_sent(lock: FakeLock) -> list[float]:
    """When commands left, in seconds after the tap."""
    return [at - 1000.0 for at, _ in lock.sent]


# -- a lock that does as it is told


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (LockState.LOCKED, Outcome(Command.UNLOCK, Result.UNLOCKED)),
        (LockState.UNLOCKED, Outcome(Command.LOCK, Result.LOCKED)),
    ],
)
def test_move_sends_the_explicit_command_once_without_a_wait(clock, state, expected):
    lock = FakeLock(clock, state)

    outcome, took_s = tap(lock)

    assert outcome == expected
    assert lock.sent == [(1000.0, expected.command)]
    assert took_s == 0.0


def test_move_outcome_has_the_battery_of_the_status(lock):
    lock.statuses = [LockStatus(state=LockState.LOCKED, battery_percent=7)]

    outcome, _ = tap(lock)

    assert outcome == Outcome(Command.UNLOCK, Result.UNLOCKED, "", 7)


def test_intend_is_called_once_before_the_command_is_sent(lock):
    told = []
    lock.progress = [Progress.NO_EFFECT] * 4  # it will be sent twice

    tap(lock, intend=lambda command: told.append((command, len(lock.sent))))

    assert told == [(Command.UNLOCK, 0)]
    assert len(lock.sent) == 2


def test_send_gets_the_end_of_the_window(lock):
    lock.sends = [NotSent("no network")]

    tap(lock)

    assert lock.send_bys == [1010.0, 1010.0]


# -- a lock whose state cannot be learnt


@pytest.mark.parametrize(
    ("choose", "expected", "sent"),
    [
        (toggle, Outcome(None, Result.UNKNOWN_STATE, "state unknown: jammed"), []),
        (lambda _: Command.UNLOCK, UNLOCKED, [Command.UNLOCK]),
        (
            lambda _: Command.LOCK,
            Outcome(Command.LOCK, Result.LOCKED),
            [Command.LOCK],
        ),
    ],
    ids=["nothing", "unlock", "lock"],
)
def test_unknown_state_moves_the_lock_only_if_chosen(lock, choose, expected, sent):
    lock.statuses = [UNKNOWN]

    outcome, _ = tap(lock, choose)

    assert outcome == expected
    assert [command for _, command in lock.sent] == sent


def test_unknown_state_without_a_reason_is_reported(lock):
    lock.statuses = [LockStatus(state=LockState.UNKNOWN)]

    outcome, _ = tap(lock)

    assert outcome.detail == "state unknown: the lock did not say"


MOVING = LockStatus(state=LockState.UNKNOWN, why="locking", is_moving=True)


def test_status_waits_for_a_moving_bolt(lock):
    lock.statuses = [MOVING, MOVING]

    outcome, _ = tap(lock)

    assert outcome == UNLOCKED
    assert times_sent(lock) == [4.0]


def test_status_waits_for_a_moving_bolt_until_the_window_ends(lock):
    lock.statuses = [MOVING] * MANY

    outcome, took_s = tap(lock)

    assert outcome == Outcome(None, Result.UNKNOWN_STATE, "state unknown: locking")
    assert took_s == 8.0


def test_status_stops_waiting_for_a_moving_bolt_after_a_failure(lock):
    lock.statuses = [MOVING, Offline("the hub is offline")]

    outcome, took_s = tap(lock)

    assert outcome == Outcome(None, Result.UNKNOWN_STATE, "state unknown: locking")
    assert took_s == 2.0


AT_STATUS = {
    # error: (result, questions asked, seconds it took)
    NotSent("no network"): (Result.UNREACHABLE, 3, 3.0),
    MaybeSent("cut"): (Result.UNREACHABLE, 3, 3.0),
    Busy("moving"): (Result.REFUSED, 3, 3.0),
    Busy("moving 4", 4.0): (Result.REFUSED, 3, 8.0),
    Busy("moving 9", 9.0): (Result.REFUSED, 2, 9.0),
    Busy("moving 35", 35.0): (Result.REFUSED, 1, 0.0),
    Offline("the hub is offline"): (Result.UNREACHABLE, 1, 0.0),
    Unreadable("not JSON"): (Result.UNKNOWN_STATE, 3, 3.0),
    Rejected("no such lock"): (Result.REFUSED, 1, 0.0),
    RequestRefused("HTTP 404"): (Result.REFUSED, 1, 0.0),
    AuthError("HTTP 401"): (Result.REFUSED, 1, 0.0),
    QuotaError("HTTP 429"): (Result.REFUSED, 1, 0.0),
}


@pytest.mark.parametrize("error", AT_STATUS, ids=repr)
def test_status_that_keeps_failing_sends_nothing_and_has_a_reason(lock, error):
    lock.statuses = [error] * MANY
    result, asked, seconds = AT_STATUS[error]

    outcome, took_s = tap(lock)

    assert outcome == Outcome(None, result, str(error))
    assert MANY - len(lock.statuses) == asked
    assert took_s == seconds
    assert lock.sent == []


@pytest.mark.parametrize("error", AT_STATUS, ids=repr)
def test_status_that_failed_once_is_retried_where_that_may_help(lock, error):
    lock.statuses = [error]

    outcome, _ = tap(lock)

    result, asked, _ = AT_STATUS[error]
    assert outcome == (UNLOCKED if asked > 1 else Outcome(None, result, str(error)))


@pytest.mark.parametrize("error", AT_STATUS, ids=repr)
def test_chosen_command_is_sent_without_a_status_unless_refused(lock, error):
    lock.statuses = [error] * MANY

    outcome, _ = tap(lock, lambda _: Command.UNLOCK)

    said_no = isinstance(error, (Rejected, RequestRefused))
    assert outcome == (
        Outcome(None, Result.REFUSED, str(error)) if said_no else UNLOCKED
    )


# -- a command that does not get through

AT_SEND = {
    # error: (outcome, commands tried, seconds it took)
    NotSent("no network"): (Result.UNREACHABLE, "no network", 3, 3.0),
    Busy("moving"): (Result.REFUSED, "moving", 3, 3.0),
    Busy("moving 4", 4.0): (Result.REFUSED, "moving 4", 3, 8.0),
    Busy("moving 9", 9.0): (Result.REFUSED, "moving 9", 2, 9.0),
    Busy("moving 35", 35.0): (Result.REFUSED, "moving 35", 1, 0.0),
    Offline("the hub is offline"): (Result.UNREACHABLE, "the hub is offline", 1, 0.0),
    Rejected("LOW_BATTERY"): (Result.REFUSED, "LOW_BATTERY", 1, 0.0),
    RequestRefused("HTTP 404"): (Result.REFUSED, "HTTP 404", 1, 0.0),
    AuthError("HTTP 401"): (Result.REFUSED, "HTTP 401", 1, 0.0),
    QuotaError("HTTP 429"): (Result.REFUSED, "HTTP 429", 1, 0.0),
    MaybeSent("cut"): (Result.UNSURE, "cut; not confirmed within 30 s", 1, 30.0),
    Unreadable("HTML"): (Result.UNSURE, "HTML; not confirmed within 30 s", 1, 30.0),
}


@pytest.mark.parametrize("error", AT_SEND, ids=repr)
def test_send_is_retried_only_if_it_surely_had_no_effect(lock, error):
    lock.sends = [error] * MANY
    lock.progress = [Progress.PENDING] * MANY
    result, detail, tried, seconds = AT_SEND[error]

    outcome, took_s = tap(lock)

    assert outcome == Outcome(Command.UNLOCK, result, detail)
    assert len(lock.sent) == tried
    assert took_s == seconds


@pytest.mark.parametrize("error", [MaybeSent("cut"), Unreadable("HTML")], ids=repr)
def test_send_that_may_have_worked_counts_when_confirmed(lock, error):
    lock.sends = [error]
    lock.progress = [Progress.PENDING, Progress.DONE]

    outcome, took_s = tap(lock)

    assert outcome == UNLOCKED
    assert times_sent(lock) == [0.0]
    assert took_s == 1.0


# -- a command that went out

AT_CONFIRM = {
    NotSent("no network"): Result.UNSURE,
    MaybeSent("cut"): Result.UNSURE,
    Busy("moving", 35.0): Result.UNSURE,
    Offline("the hub is offline"): Result.UNSURE,
    Unreadable("not JSON"): Result.UNSURE,
    RequestRefused("HTTP 302"): Result.UNSURE,
}


@pytest.mark.parametrize("error", AT_CONFIRM, ids=repr)
def test_send_without_confirmation_is_unsure_and_not_retried(lock, error):
    lock.progress = [error] * MANY

    outcome, took_s = tap(lock)

    assert outcome == Outcome(
        Command.UNLOCK, Result.UNSURE, f"not confirmed within 30 s: {error}"
    )
    assert times_sent(lock) == [0.0]
    assert took_s == 30.0


@pytest.mark.parametrize(
    "error", [AuthError("HTTP 401"), QuotaError("HTTP 403")], ids=repr
)
def test_confirm_stops_when_the_cloud_refuses_questions(lock, error):
    lock.progress = [Progress.PENDING, error, Progress.DONE]

    outcome, took_s = tap(lock)

    assert outcome == Outcome(
        Command.UNLOCK, Result.UNSURE, f"not confirmed within 1 s: {error}"
    )
    assert len(lock.asked) == 2
    assert took_s == 1.0


@pytest.mark.parametrize("error", AT_CONFIRM, ids=repr)
def test_confirm_is_retried_after_a_failure(lock, error):
    lock.progress = [error, Progress.DONE]

    outcome, took_s = tap(lock)

    assert outcome == UNLOCKED
    assert took_s == 1.0


def test_confirm_of_a_failure_is_refused(lock):
    lock.progress = [Progress.PENDING, Rejected("jammed")]

    outcome, took_s = tap(lock)

    assert outcome == Outcome(Command.UNLOCK, Result.REFUSED, "jammed")
    assert times_sent(lock) == [0.0]
    assert took_s == 1.0


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (LockPolicy(confirm_at_s=(0.0,), confirm_every_s=10.0), [0, 10, 20, 30]),
        (LockPolicy(confirm_at_s=(3.0, 6.0, 12.0, 20.0)), [3, 6, 12, 20]),
        (LockPolicy(confirm_at_s=(3.0, 40.0)), [3]),
        (LockPolicy(confirm_at_s=(40.0,)), [30]),
    ],
    ids=["every", "few", "partly-too-late", "too-late"],
)
def test_confirm_asks_at_the_times_of_the_policy(lock, policy, asked):
    lock.policy = policy
    lock.progress = [Progress.PENDING] * MANY

    outcome, _ = tap(lock)

    assert [at - 1000.0 for at in lock.asked] == asked
    assert outcome.result is Result.UNSURE


def test_confirm_makes_no_burst_after_a_slow_answer(clock):
    lock = ErraticLock(clock, delays_s=[0.0, 0.0, 4.5])  # the first question's
    lock.progress = [Progress.PENDING] * MANY

    tap(lock)

    assert [at - 1000.0 for at in lock.asked[:4]] == [0.0, 4.5, 5.5, 6.5]


# -- sending again


def test_command_without_effect_is_resent_but_not_too_soon(lock):
    lock.progress = [Progress.NO_EFFECT] * 4

    outcome, took_s = tap(lock)

    assert outcome == UNLOCKED
    assert times_sent(lock) == [0.0, 3.0]
    assert took_s == 3.0


def test_confirm_gives_the_last_question_time(lock):
    lock.progress = [Progress.PENDING] * MANY

    tap(lock)

    assert lock.asked[-1] - 1000.0 == CONFIRM_S
    assert min(lock.answer_within_s) == lock.answer_within_s[-1] == 1.0


def test_command_without_effect_is_resent_once_at_most(lock):
    lock.progress = [Progress.NO_EFFECT] * MANY

    outcome, took_s = tap(lock)

    assert outcome == Outcome(
        Command.UNLOCK, Result.UNSURE, "not confirmed within 30 s"
    )
    assert times_sent(lock) == [0.0, 3.0]
    assert took_s == 33.0


@pytest.mark.parametrize(("at_s", "sent"), [(9, [0.0, 9.0]), (10, [0.0]), (11, [0.0])])
def test_command_without_effect_is_resent_only_inside_the_window(lock, at_s, sent):
    lock.progress = [Progress.PENDING] * at_s + [Progress.NO_EFFECT] * MANY

    outcome, took_s = tap(lock)

    assert times_sent(lock) == sent
    assert outcome == Outcome(
        Command.UNLOCK, Result.UNSURE, "not confirmed within 30 s"
    )
    assert took_s == sent[-1] + CONFIRM_S  # and it was asked to the end


def test_command_is_not_resent_when_the_proof_comes_after_the_window(lock):
    lock.takes_s = 2.5  # status to 2.5, command to 5.0, question from 8.0 to 10.5
    lock.policy = LockPolicy(confirm_at_s=(3.0,))
    lock.progress = [Progress.NO_EFFECT]

    outcome, _ = tap(lock)

    assert times_sent(lock) == [2.5]
    assert outcome == Outcome(
        Command.UNLOCK, Result.UNSURE, "sending it again: too late to send"
    )


IN_VAIN = {
    NotSent("no network"): (Result.UNSURE, "sending it again: no network"),
    Busy("moving", 35.0): (Result.UNSURE, "sending it again: moving"),
    AuthError("HTTP 401"): (Result.UNSURE, "sending it again: HTTP 401"),
    QuotaError("HTTP 429"): (Result.UNSURE, "sending it again: HTTP 429"),
    RequestRefused("HTTP 404"): (Result.UNSURE, "sending it again: HTTP 404"),
    Rejected("jammed"): (Result.REFUSED, "jammed"),
}


@pytest.mark.parametrize("error", IN_VAIN, ids=repr)
def test_command_resent_in_vain_is_unsure(lock, error):
    lock.sends = ["task-1"] + [error] * MANY
    lock.progress = [Progress.NO_EFFECT] * 4

    outcome, _ = tap(lock)

    assert outcome == Outcome(Command.UNLOCK, *IN_VAIN[error])


# -- the window


def test_window_used_up_by_the_status_sends_nothing(lock):
    lock.takes_s = WINDOW_S

    outcome, _ = tap(lock)

    assert lock.sent == []
    assert outcome == Outcome(Command.UNLOCK, Result.UNREACHABLE, "too late to send")


def test_window_used_up_by_the_disk_sends_nothing(lock, clock):
    outcome, _ = tap(lock, intend=lambda command: clock.advance(WINDOW_S))

    assert lock.sent == []
    assert outcome == Outcome(Command.UNLOCK, Result.UNREACHABLE, "too late to send")


def test_retry_is_not_begun_if_it_would_come_after_the_window(lock):
    lock.takes_s = 3.5  # one, wait 1, another: 8 s, and a wait of 2 would end at 10 s
    lock.statuses = [MaybeSent("cut")] * MANY

    outcome, took_s = tap(lock)

    assert outcome == Outcome(None, Result.UNREACHABLE, "cut")
    assert took_s == 8.0


# -- waiting


@pytest.mark.parametrize(
    ("jitter", "seconds"), [(0.0, 1.0 + 2.0), (0.8, 1.2 + 2.4), (0.4, 1.1 + 2.2)]
)
@pytest.mark.parametrize("stage", ["statuses", "sends"])
def test_retry_waits_are_stretched_by_up_to_a_quarter(lock, stage, jitter, seconds):
    setattr(lock, stage, [NotSent("no network")] * MANY)

    _, took_s = tap(lock, jitter=jitter)

    assert took_s == pytest.approx(seconds)


@pytest.mark.parametrize("stage", ["statuses", "sends"])
def test_retry_waits_as_long_as_the_lock_asked(lock, stage):
    setattr(lock, stage, [Busy("moving 4", 4.0)])

    outcome, took_s = tap(lock, jitter=0.9)

    assert outcome == UNLOCKED
    assert took_s == 4.0


# -- a fault of the driver's own


def fault() -> ValueError:
    return ValueError("s3cret-key")


def test_bug_in_a_driver_at_the_status_moves_nothing(lock):
    lock.statuses = [fault() for _ in range(MANY)]

    outcome, _ = tap(lock)

    assert outcome.result is Result.UNKNOWN_STATE
    assert lock.sent == []


@pytest.mark.parametrize("stage", ["statuses", "sends", "progress"])
def test_bug_in_a_driver_counts_as_an_unreadable_answer(lock, stage):
    setattr(lock, stage, [fault()])

    outcome, _ = tap(lock)

    assert outcome == UNLOCKED
    assert len(lock.sent) == 1


def test_bug_in_a_driver_after_the_command_is_unsure(lock):
    lock.sends, lock.progress = [fault()], [fault() for _ in range(MANY)]

    outcome, _ = tap(lock)

    assert outcome.result is Result.UNSURE
    assert len(lock.sent) == 1


def test_bug_in_a_driver_is_logged_once_without_a_secret(lock, caplog):
    lock.statuses = [fault() for _ in range(MANY)]

    outcome, _ = tap(lock)

    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "ValueError" in record.getMessage()
    assert "in _next" in record.getMessage()
    assert "s3cret" not in caplog.text + outcome.detail


def test_bug_in_a_driver_while_idle_stops_nothing(lock, caplog):
    def fail():
        raise fault()

    lock.keep_ready = fail
    second = FakeLock(lock.clock)
    fallback = control_of(second, lock.clock, name="fallback")
    control = control_of(lock, lock.clock, fallback=fallback)

    for _ in range(3):
        control.keep_ready()

    assert second.kept_ready == 3
    assert len(caplog.records) == 1


# -- steps: what a move waits for, and who makes its requests


class ElsewhereLock(FakeLock):
    """One that nobody may use but the driver of the steps."""

    may_be_used = False

    def _next(self, script, otherwise):
        assert self.may_be_used
        return super()._next(script, otherwise)

    def prepare(self, by):
        assert self.may_be_used


@pytest.mark.parametrize("stage", ["statuses", "sends", "progress"])
def test_move_never_blocks_nor_calls_the_driver_itself(clock, stage):
    lock = ElsewhereLock(clock)
    setattr(lock, stage, [NotSent("no network")])
    lock.statuses.append(MOVING)
    worker = HeldWorker()
    control = control_of(lock, lock.clock, worker=worker)
    steps = control.move(order(lock))
    waits = set()

    while True:
        at, slept = clock.monotonic(), len(clock.slept)
        try:
            pause = next(steps)
        except StopIteration as end:
            outcome = end.value
            break
        finally:
            assert (clock.monotonic(), len(clock.slept)) == (at, slept)
        waits.add("call" if worker.jobs else "time")
        if worker.jobs:
            lock.may_be_used = True
            worker.jobs.pop().run()
            lock.may_be_used = False
        else:
            clock.advance(max(0.0, pause.until - at))

    assert outcome == UNLOCKED
    assert waits == {"call", "time"}


def order(lock: FakeLock, **more) -> Move:
    send_by = lock.clock.monotonic() + WINDOW_S
    return Move(toggle, send_by, lambda command: None, **more)


def advanced_to_its_send(lock: FakeLock, **more):
    """A move that waits for its command to be sent: its steps, and that job."""
    worker = HeldWorker()
    steps = control_of(lock, lock.clock, worker=worker).move(order(lock, **more))
    for _ in range(2):  # the status; the preparation
        next(steps)
        worker.jobs.pop().run()
    next(steps)
    return steps, worker.jobs.pop()


def test_move_that_is_closed_sends_nothing_later(lock):
    steps, send = advanced_to_its_send(lock)

    steps.close()

    send.run()

    with pytest.raises(NotSent):
        send.result()
    assert lock.sent == []


def test_send_that_starts_too_late_sends_nothing(lock):
    _, send = advanced_to_its_send(lock)
    lock.clock.advance(WINDOW_S)

    send.run()

    with pytest.raises(NotSent, match="too late to send"):
        send.result()
    assert lock.sent == []


def test_check_is_called_right_before_sending(lock):
    order = []
    lock.prepare = lambda by: order.append("prepare")

    _, send = advanced_to_its_send(lock, check=lambda command: order.append("check"))

    assert order == ["check", "prepare", "check"]
    send.run()
    assert lock.sent


def test_drive_raises_in_the_steps_what_ends_a_wait(clock):
    met = []

    def steps():
        try:
            yield Pause(clock.monotonic() + 60.0)
        except Stopped:
            met.append(clock.monotonic())
            raise

    clock.stop_at = clock.monotonic() + 3.0

    with pytest.raises(Stopped):
        drive(steps(), clock)
    assert met == [1003.0]


def test_status_alone_has_the_same_retries(lock, clock):
    lock.statuses = [Unreadable("not JSON")] * MANY
    control = control_of(lock, clock)

    with pytest.raises(Unreadable, match=r"^not JSON$"):
        drive(control.status(clock.monotonic() + 2.5), clock)

    assert clock.slept == [1.0]  # the next wait would end after the 2.5 s


# -- whatever the lock does


class ErraticLock(FakeLock):
    """Keeps Lock's one promise, to return before ``by``, and no other.

    Each call takes the next of ``delays_s``; when they are used up, no time.
    """

    def __init__(self, clock: FakeClock, delays_s: list[float]) -> None:
        super().__init__(clock)
        self.delays_s = delays_s

    def _take_time(self, by: float) -> None:
        delay_s = self.delays_s.pop(0) if self.delays_s else 0.0
        self.clock.advance(max(0.0, min(delay_s, by - self.clock.monotonic())))

    def status(self, by):
        self._take_time(by)
        return super().status(by)

    def send(self, command, send_by, by):
        self.sent.append((self.clock.monotonic(), command))
        self._take_time(by)
        return self._next(self.sends, "task-1")

    def confirm(self, sent, by):
        asked_at = self.clock.monotonic()
        self._take_time(by)
        self.clock.t, now = asked_at, self.clock.t  # super notes when it was asked
        try:
            return super().confirm(sent, by)
        finally:
            self.clock.t = now


errors = st.one_of(
    st.sampled_from([NotSent, MaybeSent, Unreadable, Rejected, AuthError, QuotaError])
    .map(lambda kind: kind("drawn")),
    st.floats(0, 40).map(lambda after_s: Busy("drawn", after_s)),
    st.just(Busy("drawn")),
)  # fmt: skip
states = st.sampled_from(LockState).map(lambda state: LockStatus(state=state))
policies = st.builds(
    LockPolicy,
    try_s=st.floats(0.1, 8),
    read_waits_s=st.lists(st.floats(0, 6), max_size=4).map(tuple),
    send_waits_s=st.lists(st.floats(0, 6), max_size=4).map(tuple),
    confirm_at_s=st.lists(st.floats(0, 40), min_size=1, max_size=4).map(
        lambda times: tuple(sorted(times))
    ),
    confirm_every_s=st.sampled_from([0.0, 1.0, 3.0]),
    resend_after_s=st.floats(0, 8),
)


@st.composite
def erratic_locks(draw) -> ErraticLock:
    lock = ErraticLock(FakeClock(), draw(st.lists(st.floats(0, 12), max_size=20)))
    lock.policy = draw(policies)
    lock.statuses = draw(st.lists(st.one_of(states, errors), max_size=6))
    lock.sends = draw(st.lists(st.one_of(st.just("task-1"), errors), max_size=6))
    progress = st.sampled_from([Progress.PENDING, Progress.NO_EFFECT] * 3 + [Progress.DONE])  # fmt: skip
    lock.progress = draw(st.lists(st.one_of(progress, errors), max_size=12))
    return lock


@given(
    lock=erratic_locks(),
    on_unknown=st.sampled_from([None, Command.UNLOCK, Command.LOCK]),
    jitter=st.floats(0, 1, exclude_max=True),
    disk_s=st.sampled_from([0.0, 0.0, 4.0, 12.0]),
)
def test_any_lock_gets_no_command_late_or_twice(lock, on_unknown, jitter, disk_s):
    began = lock.clock.monotonic()
    told: list[Command] = []
    sends, progress = lock.sends[:], lock.progress[:]

    def intend(command):
        assert lock.sent == []
        told.append(command)
        lock.clock.advance(disk_s)

    outcome, took_s = tap(
        lock, lambda state: toggle(state) or on_unknown, jitter=jitter, intend=intend
    )

    # Nothing leaves late, and it is one command, told before.
    assert all(at < began + WINDOW_S for at, _ in lock.sent)
    assert {command for _, command in lock.sent} <= set(told)
    assert told == ([outcome.command] if outcome.command else [])
    # Each further sending had leave: an error that says so, or a proof of no effect.
    answers = [*sends, *["task-1"] * MANY][: len(lock.sent)]
    went_out = [not getattr(answer, "send_again", False) for answer in answers]
    learnt = [*progress, *[Progress.DONE] * MANY][: len(lock.asked)]
    repeats = went_out[:-1].count(True)
    assert repeats <= min(1, learnt.count(Progress.NO_EFFECT))
    # What is claimed was confirmed, and what went out is never called unreachable.
    if outcome.result in (Result.UNLOCKED, Result.LOCKED):
        assert learnt[-1] is Progress.DONE
        assert outcome.result.value == outcome.command.target.value
    first_left = any(
        not isinstance(answer, LockError) or isinstance(answer, (MaybeSent, Unreadable))
        for answer in answers
    )
    if first_left:
        assert outcome.result not in (Result.UNREACHABLE, Result.UNKNOWN_STATE)
    # And it ends.
    assert took_s <= WINDOW_S + disk_s + lock.policy.try_s + CONFIRM_S + 0.01
