"""SIGTERM at each line of the door's own code: what the light says is what the log says."""

from __future__ import annotations

import signal
from itertools import count

import pytest

from doorpi import (
    RESULT_SIGNALS,
    Door,
    LockState,
    NotSent,
    ProcessSignals,
    ReaderConfig,
    Relock,
    Result,
    Role,
    Signal,
    Uid,
    Verdict,
    relocks_text,
)
from tests.helpers.interrupted import is_stopped_at
from tests.helpers.values import replace
from tests.helpers.world import KEN, STRANGER, World, card_of, config_of

ANSWERS = {*RESULT_SIGNALS.values(), Signal.DENIED, Signal.ENROLLED}
BOSS = Uid("AABBCCDD")
#: From one step of the door that waits to the next: few, as each is stopped at each line.
STEP_S = 0.5


@pytest.fixture(autouse=True)
def own_signals():
    before = {n: signal.getsignal(n) for n in (*ProcessSignals.stops, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(Door, "longest_wait_s", STEP_S)


def tap(world: World, *uids: Uid) -> None:
    config = config_of(card_of(), card_of(BOSS, "Boss", role=Role.MASTER))
    lock, reader = replace(config.lock, relock_after_s=1.0), ReaderConfig(poll_s=STEP_S)
    config = replace(config, lock=lock, readers=(reader,))
    world.tap(*uids, config=config)


def tap_while_the_cloud_is_away(world: World) -> None:
    world.lock.policy = world.lock.policy._replace(send_waits_s=(1.0,))
    world.lock.sends = [NotSent("no TLS")] * 2
    tap(world, KEN)


def lock_again(world: World) -> None:
    world.lock.state = LockState.UNLOCKED  # by the run before
    world.store.kept["relock"] = relocks_text([Relock("lock", 0.0)], "boot-1")
    tap(world, *[None] * 4)


STORIES = {
    "a member": lambda world: tap(world, KEN),
    "a stranger": lambda world: tap(world, STRANGER),
    "an enrolment": lambda world: tap(world, BOSS, STRANGER),
    "the cloud is away": tap_while_the_cloud_is_away,
    "locking again": lock_again,
}


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_stop_at_any_line_leaves_light_and_log_of_one_mind(story):
    ended = set()
    for line in count(1):
        world = World()
        if not is_stopped_at(line, lambda world=world: story(world)):
            break
        events = list(world.store.events.values())
        logged = [RESULT_SIGNALS[each.result] for each in events if each.result]
        logged += [Signal.DENIED] * sum(
            not Verdict(each.reason).granted for each in events
        )
        logged += [Signal.ENROLLED] * sum(each.detail == "enrolled" for each in events)

        for shown in ANSWERS.intersection(world.lights.signals):
            assert shown in logged, f"at line {line}"
        ended |= {each.result for each in events if each.result}
        cards = [each for each in events if each.source == "card"]
        assert len({each.uid for each in cards}) == len(cards)
        assert all(each.result or each.detail for each in events if each.command)

    assert line > 20
    if ended:
        assert Result.INTERRUPTED in ended  # it was met in the middle, too
        assert len(ended) > 1
