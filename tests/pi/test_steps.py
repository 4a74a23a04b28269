"""Workers: what runs beside the main thread, and how that thread hears of its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from doorpi import (
    Command,
    InlineWorker,
    Move,
    NotSent,
    Outcome,
    ProcessSignals,
    Result,
    Stopped,
    SystemClock,
    ThreadWorker,
    call,
    drive,
)
from tests.helpers.world import FakeClock, FakeLock, control_of


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


@pytest.fixture
def worker(clock):
    with contextlib.closing(ThreadWorker("test", clock.wake)) as worker:
        yield worker


@pytest.fixture
def own_signals():
    before = {n: signal.getsignal(n) for n in (*ProcessSignals.stops, signal.SIGHUP)}
    ProcessSignals().install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def called(worker, *functions):
    answers = []
    for function in functions:
        answer = yield from call(worker, function)
        answers.append(answer)
    return answers


def test_worker_runs_calls_on_one_thread_of_its_own(worker, clock):
    one, other = drive(called(worker, *[threading.current_thread] * 2), clock)

    assert one is other is not threading.main_thread()
    assert one.name == "test"
    assert one.daemon


@pytest.mark.parametrize("inline", [True, False])
def test_call_raises_where_the_steps_wait(worker, clock, inline):
    def fail():
        raise NotSent("no network")

    def steps():
        try:
            yield from call(InlineWorker() if inline else worker, fail)
        except NotSent as error:
            return str(error)

    assert drive(steps(), clock) == "no network"


@pytest.mark.realtime
def test_call_that_ends_ends_the_wait(worker, clock):
    go_on = threading.Event()
    threading.Timer(0.1, go_on.set).start()
    began = time.monotonic()

    drive(called(worker, go_on.wait), clock)

    assert time.monotonic() - began < 5.0


@pytest.mark.realtime
def test_wake_before_a_wait_ends_it_once(clock):
    began = time.monotonic()

    clock.wake()
    clock.wake()
    clock.wait(30.0)
    heard = time.monotonic()
    clock.wait(0.05)

    assert heard - began < 5.0
    assert time.monotonic() - heard >= 0.05


def test_worker_is_idle_after_its_last_job(worker, clock):
    go_on = threading.Event()
    assert worker.is_idle

    pending = [worker.submit(go_on.wait), worker.submit(lambda: 7)]

    assert not worker.is_idle
    assert not pending[1].done
    go_on.set()
    while not worker.is_idle:
        clock.wait(1.0)
    assert pending[1].result() == 7


def test_worker_that_is_closed_begins_nothing_more(worker, clock):
    go_on, begun, ran = threading.Event(), threading.Event(), []
    first = worker.submit(lambda: (begun.set(), go_on.wait()))
    worker.submit(lambda: ran.append("second"))
    assert begun.wait(10)

    worker.close()
    go_on.set()

    while not first.done:
        clock.wait(1.0)
    for thread in threading.enumerate():
        if thread.name == "test":
            thread.join(10)
    assert ran == []


def test_signal_ends_the_wait_for_a_call(worker, clock, own_signals):
    def steps():
        try:
            yield from call(worker, lambda: go_on.wait(60))
        except Stopped:
            met.append("stopped")
            raise

    go_on, met = threading.Event(), []
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with pytest.raises(Stopped):
        drive(steps(), clock)

    go_on.set()
    assert met == ["stopped"]


def test_move_on_a_worker_thread_ends_as_an_inline_one(worker, clock):
    lock = FakeLock(FakeClock())
    control = control_of(lock, clock, worker=worker)
    send_by = clock.monotonic() + 10.0

    steps = control.move(
        Move(lambda state: Command.UNLOCK, send_by=send_by, intend=lambda command: None)
    )

    assert drive(steps, clock) == Outcome(Command.UNLOCK, Result.UNLOCKED)


def test_command_that_waits_for_the_worker_is_not_sent_after_a_stop(worker, clock):
    lock, go_on = FakeLock(FakeClock()), threading.Event()
    control = control_of(lock, clock, worker=worker)
    steps = control.move(
        Move(
            lambda state: Command.UNLOCK,
            send_by=clock.monotonic() + 60.0,
            intend=lambda command: None,
        )
    )
    for _ in range(2):  # the status; the preparation
        pause = next(steps)
        while not pause.has_ended(clock):
            clock.wait(1.0)
    worker.submit(go_on.wait)
    next(steps)  # the command

    with pytest.raises(Stopped):
        steps.throw(Stopped(signal.SIGTERM))
    go_on.set()
    last = worker.submit(lambda: None)
    while not last.done:
        clock.wait(1.0)

    assert lock.sent == []
