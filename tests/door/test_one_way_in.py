"""One way in: sources and authorities that the door has never heard of, side by side."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Block,
    Busy,
    Command,
    Credential,
    Found,
    LockPolicy,
    LockState,
    LockStatus,
    MaybeSent,
    Medium,
    NotSent,
    Progress,
    Reason,
    Result,
    Role,
    Signal,
    Stopped,
    Uid,
    Wants,
)
from tests.helpers.values import replace
from tests.helpers.world import (
    KEN,
    NOON,
    STRANGER,
    FakeClock,
    FakeReader,
    World,
    card_of,
    config_of,
)

ANNA = Uid("D3C2B1A0")
PHONE = Uid("08C0FFEE")
LOCKED, UNLOCKED = LockState.LOCKED, LockState.UNLOCKED
PENDING = Progress.PENDING


class LaterWorker:
    """Each call takes ``takes_s`` of the clock, while everything else goes on."""

    is_idle, busy_s, is_awaited = True, 0.0, True

    def __init__(self, clock: FakeClock, takes_s: float) -> None:
        self.clock, self.takes_s = clock, takes_s
        self.free_at = 0.0

    def submit(self, function: Callable[[], object]):
        clock, begun_at = self.clock, max(self.clock.t, self.free_at)
        self.free_at = begun_at + self.takes_s

        class Pending:
            ends_at = self.free_at
            done = property(lambda pending: clock.t >= pending.ends_at)

            def result(self):
                return function()

        return Pending()

    def close(self) -> None:
        """There is no thread."""


class Elsewhere(doorpi.Authority):
    """An authority that is far away."""

    name, schedule = "members", ""

    def __init__(self, world: World, takes_s: float = 3.0, answer_s: float = 4.0):
        self.worker = LaterWorker(world.clock, takes_s)
        self.answer_s = answer_s
        self.knows: dict[str, Credential | Reason] = {}
        self.asked: list[str] = []

    def takes(self, request: AccessRequest) -> bool:
        return True

    def look_up(self, request: AccessRequest) -> Found:
        self.asked.append(request.identifier)
        known = self.knows.get(request.identifier)
        return Found(reason=known) if isinstance(known, Reason) else Found(known)

    def close(self) -> None: ...


def secure(*others: Credential, enabled: bool = True, **door) -> doorpi.Config:
    """Ken's card is a secure one, and the door has its key."""
    config = config_of(card_of(enabled=enabled, proof="ntag424"), *others, **door)
    return config._replace(
        proof=doorpi.ProofConfig(door_key=doorpi.Secret("07" * 15 + "08", "door.key"))
    )


SECURE = secure()


class Smart(doorpi.Source):
    """A source whose cards prove who they are; ``shows`` is what comes next."""

    point, due, trouble = "gate", -float("inf"), ""
    medium = Medium.CARD

    def __init__(self, world: World, takes_s: float = 0.25) -> None:
        self.worker = LaterWorker(world.clock, takes_s)
        self.world = world
        self.shows: list[str | None] = []
        self.no: Reason | None = None
        self.proven: list[str] = []

    def open(self) -> None: ...

    def poll(self, now: float) -> AccessRequest | None:
        uid = self.shows.pop(0) if self.shows else None
        at, until = self.world.clock.now(), float("inf")
        return uid and AccessRequest(self.medium, uid, at, now, until, point="gate")

    def prove(self, credential: Credential) -> Reason | None:
        self.proven.append(credential.holder)
        return self.no

    def answer(self, request, answer) -> None: ...

    def rest(self, until: float) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def elsewhere(world: World) -> Elsewhere:
    elsewhere = Elsewhere(world)
    elsewhere.knows = {ANNA: card_of(ANNA, "Anna of the members")}
    return elsewhere


def door_of(world: World, elsewhere: Elsewhere | None = None, *sources, **door):
    config = door.pop("config", None) or config_of(card_of(), **door)
    made = world.door(config)
    if elsewhere or sources:
        equipment = world.equipment
        equipment.authorities = [elsewhere] if elsewhere else []
        equipment.sources = [*sources, *equipment.sources]
        made = world.door_on_equipment(config)
    return made


def serve(world: World, door, seconds: float = 0.0) -> None:
    """Until all that is shown was seen and answered, or for so long."""
    ends_at = world.clock.t + seconds
    while world.reader.shows or not door.is_idle or world.clock.t < ends_at:
        door.step()


def told(world: World) -> list[tuple[str, str, object]]:
    return [(e.holder, e.reason, e.result) for e in world.store.events.values()]


def commands(world: World) -> list[Command]:
    return [command for _, command in world.lock.sent]


# -- an authority that takes 3 s


def test_authority_is_asked_with_its_light_and_its_answer_opens(world, elsewhere):
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA]

    serve(world, door)

    assert world.lights.signals == [Signal.ASKING, Signal.WORKING, Signal.UNLOCKED]
    asking_at, working_at = (at for at, _ in world.lights.shown[:2])
    assert asking_at - 1000.0 < 0.05
    assert working_at - 1000.0 == pytest.approx(3.0, abs=0.2)
    assert told(world) == [("Anna of the members", "granted", Result.UNLOCKED)]
    assert elsewhere.asked == [ANNA]


def test_authority_delays_no_member_of_the_list(world, elsewhere):
    door = door_of(world, elsewhere, on_tap="unlock")
    world.reader.shows = [ANNA, KEN]

    serve(world, door)

    sent_at = [at - 1000.0 for at, _ in world.lock.sent]
    assert sent_at[0] < 0.5
    assert sent_at[1] == pytest.approx(3.0, abs=0.2)
    assert {holder for holder, _, _ in told(world)} == {
        "Ken Sato",
        "Anna of the members",
    }
    # Ken's answer is over, and Anna is still asked about.
    assert world.lights.shown[2][1] == (Signal.UNLOCKED, Signal.ASKING)


def test_asking_light_ends_when_the_denial_gets_no_answer(world, elsewhere):
    """In the pause after many denials, whoever is denied is only counted."""
    door = door_of(world, elsewhere)
    door._display.denials.paused_until = world.clock.t + 15.0
    world.reader.shows = [STRANGER]

    serve(world, door, seconds=5.0)

    assert world.lights.signals == [Signal.ASKING, Signal.DENIED]
    assert world.lights.standing is Signal.READY


BLOCK = doorpi.Block("Anna", NOON, "the owner")


def expired(world: World, elsewhere: Elsewhere) -> None:
    elsewhere.knows[ANNA] = card_of(
        ANNA, "Anna", valid_until=NOON.date() - timedelta(1)
    )


def switched_off(world: World, elsewhere: Elsewhere) -> None:
    elsewhere.knows[ANNA] = card_of(ANNA, "Anna", enabled=False)


def no_such_schedule(world: World, elsewhere: Elsewhere) -> None:
    elsewhere.knows[ANNA] = card_of(ANNA, "Anna", schedule="nights")


def clock_not_set(world: World, elsewhere: Elsewhere) -> None:
    world.clock.set = False
    elsewhere.knows[ANNA] = card_of(ANNA, "Anna", valid_until=NOON.date())


def says_no(world: World, elsewhere: Elsewhere) -> None:
    elsewhere.knows[ANNA] = Reason.EXPIRED


def holder_blocked(world: World, elsewhere: Elsewhere) -> None:
    world.store.blocks["Anna of the members"] = BLOCK


def does_not_know(world: World, elsewhere: Elsewhere) -> None:
    elsewhere.knows.clear()


NOES = {
    expired: Reason.EXPIRED,
    switched_off: Reason.NOT_ENABLED,
    no_such_schedule: Reason.NOT_PERMITTED_AT_THIS_TIME,
    clock_not_set: Reason.CLOCK_NOT_SET,
    says_no: Reason.EXPIRED,
    holder_blocked: Reason.NOT_ENABLED,
    does_not_know: Reason.NOT_FOUND,
}


@pytest.mark.parametrize(
    ("change", "reason"), NOES.items(), ids=[no.__name__ for no in NOES]
)
def test_authority_credential_is_judged_like_a_listed_one(
    world, elsewhere, change, reason
):
    change(world, elsewhere)
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA]

    serve(world, door)

    assert [(r, result) for _, r, result in told(world)] == [(reason, None)]
    assert world.lights.signals == [Signal.ASKING, Signal.DENIED]
    assert world.lock.calls == 0


#: Begins as the UIDs of phones do.
CODE = "08ab12cd"


def test_authority_is_asked_about_a_code(world, elsewhere):
    gate = Smart(world)
    gate.medium, gate.shows = Medium.QR, [CODE]
    elsewhere.knows = {CODE: card_of(ANNA, "Anna")}
    door = door_of(world, elsewhere, gate, on_tap="unlock")
    door.step()

    serve(world, door)

    assert told(world) == [("Anna", Reason.GRANTED, Result.UNLOCKED)]


def test_authority_is_not_asked_about_a_blocked_code(world, elsewhere):
    gate = Smart(world)
    gate.medium, gate.shows = Medium.QR, [CODE]
    elsewhere.knows = {CODE: card_of(ANNA, "Anna")}
    world.store.blocks[CODE] = BLOCK
    door = door_of(world, elsewhere, gate)
    door.step()

    serve(world, door)

    assert [reason for _, reason, _ in told(world)] == [Reason.NOT_ENABLED]
    assert elsewhere.asked == []


def test_block_of_a_holder_during_the_look_denies(world, elsewhere):
    door = door_of(world, elsewhere)
    world.lock.statuses = [NotSent("no network")]
    world.reader.shows = [ANNA]
    while not world.lock.calls:
        door.step()
    holder_blocked(world, elsewhere)

    serve(world, door)

    assert commands(world) == []
    assert [reason for _, reason, _ in told(world)] == [Reason.NOT_ENABLED]


def test_lockdown_during_the_question_overrules_the_authority(world, elsewhere):
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA]
    door.step()
    world.store.lockdown = True

    serve(world, door)

    assert [reason for _, reason, _ in told(world)] == [Reason.LOCKED_DOWN]
    assert world.lock.calls == 0


def test_block_during_the_look_overrules_the_authority(world, elsewhere):
    door = door_of(world, elsewhere)
    status = world.lock.status

    def blocked_meanwhile(by):
        world.store.blocks[ANNA] = Block("Anna", NOON, "the owner", uid=ANNA)
        return status(by)

    world.lock.status = blocked_meanwhile
    world.reader.shows = [ANNA]

    serve(world, door)

    assert [reason for _, reason, _ in told(world)] == [Reason.NOT_ENABLED]
    assert world.lock.sent == []


UNASKED = {
    "a member of the list": (KEN, lambda world: None, Reason.GRANTED),
    "a stranger in a lockdown": (
        ANNA, lambda world: setattr(world.store, "lockdown", True), Reason.LOCKED_DOWN,
    ),
    "who is blocked": (
        ANNA,
        lambda world: world.store.blocks.update({ANNA: Block("Anna", NOON, "owner")}),
        Reason.NOT_ENABLED,
    ),
    "a phone": (PHONE, lambda world: None, Reason.RANDOM_UID),
}  # fmt: skip


@pytest.mark.parametrize(("uid", "change", "reason"), UNASKED.values(), ids=UNASKED)
def test_authority_is_not_asked_where_the_door_decides_alone(
    world, elsewhere, uid, change, reason
):
    change(world)
    door = door_of(world, elsewhere)
    world.reader.shows = [uid]

    serve(world, door)

    assert elsewhere.asked == []
    assert [r for _, r, _ in told(world)] == [reason]
    assert Signal.ASKING not in world.lights.signals


def test_authority_without_an_answer_in_time_is_a_fault(world):
    elsewhere = Elsewhere(world, takes_s=60.0)
    elsewhere.knows = {ANNA: card_of(ANNA, "Anna")}
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA]

    serve(world, door)

    (event,) = world.store.events.values()
    assert (event.reason, event.decision, event.result) == (
        Reason.AUTHORITY_UNREACHABLE, "denied", None,
    )  # fmt: skip
    assert world.lights.signals == [Signal.ASKING, Signal.FAULT]
    assert world.lights.shown[-1][0] - 1000.0 == pytest.approx(4.0, abs=0.2)
    assert world.lock.calls == 0


def test_authority_with_a_bug_does_not_stop_the_door(world, elsewhere, caplog):
    def fail(request):
        raise KeyError("secret")

    elsewhere.look_up = fail
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA, KEN]

    serve(world, door)

    assert [reason for _, reason, _ in told(world)] == [
        "granted",
        Reason.AUTHORITY_UNREACHABLE,
    ]
    assert "members: a fault, please report it: KeyError" in caplog.messages


def test_authority_gets_no_question_that_is_too_old(world):
    elsewhere = Elsewhere(world, takes_s=60.0)
    door = door_of(world, elsewhere)
    world.reader.shows = [ANNA, *[None] * 9, STRANGER]
    serve(world, door)

    first, second = (elsewhere.worker.submit(lambda: None) for _ in range(2))

    assert not first.done
    assert not second.done
    assert elsewhere.asked == []


# -- a source that proves after the list has named the card


def test_proof_is_asked_after_the_list_has_named_the_card(world):
    smart = Smart(world)
    door = door_of(world, None, smart, config=SECURE)
    smart.shows = [KEN]
    door.step()

    serve(world, door)

    (event,) = world.store.events.values()
    assert smart.proven == ["Ken Sato"]
    assert (event.result, event.source, event.point, event.uid) == (
        Result.UNLOCKED, "secure-card", "gate", KEN,
    )  # fmt: skip


def test_proof_that_fails_denies_with_its_reason(world):
    smart = Smart(world)
    smart.no = Reason.WRONG_PROOF
    door = door_of(world, None, smart, config=SECURE)
    smart.shows = [KEN]
    door.step()

    serve(world, door)

    assert told(world) == [("Ken Sato", Reason.WRONG_PROOF, None)]
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]
    assert world.lock.calls == 0


@pytest.mark.parametrize(
    ("uid", "reason"), [(STRANGER, Reason.NOT_FOUND), (KEN, Reason.NOT_ENABLED)]
)
def test_proof_is_not_asked_of_a_denied_card(world, uid, reason):
    smart = Smart(world)
    door = door_of(world, None, smart, config=secure(enabled=False))
    smart.shows = [uid]
    door.step()

    serve(world, door)

    assert smart.proven == []
    assert [denied for _, denied, _ in told(world)] == [reason]


def test_proof_that_is_slow_delays_nobody(world):
    smart = Smart(world, takes_s=3.0)
    door = door_of(world, None, smart, on_tap="unlock",
                   config=secure(card_of(ANNA, "Anna"), on_tap="unlock"))  # fmt: skip
    smart.shows, world.reader.shows = [KEN], [None, ANNA]

    serve(world, door)

    sent_at = [at - 1000.0 for at, _ in world.lock.sent]
    assert sent_at[0] < 0.5
    assert sent_at[1] == pytest.approx(3.0, abs=0.2)
    assert [holder for holder, _, _ in told(world)] == ["Anna", "Ken Sato"]


def test_sources_are_named_in_the_log_and_an_exit_never_locks(world):
    config = config_of(card_of())  # a tap toggles
    entrance = FakeReader()
    sources = [
        doorpi.CardSource(
            reader, doorpi.ReaderConfig(direction=direction), world.clock,
            doorpi.InlineWorker(), point=point, prove=lambda *_: None,
        )
        for reader, point, direction in (
            (entrance, "entrance", ""), (world.reader, "exit", "out"),
        )
    ]  # fmt: skip
    door = door_of(world, None, *sources, config=config)
    world.equipment.sources = sources
    entrance.shows = [KEN, *[None] * 20, KEN]
    world.reader.shows = [*[None] * 9, KEN]

    serve(world, door, 10.0)

    assert [(e.point, e.command) for e in world.store.events.values()] == [
        ("entrance", Command.UNLOCK),
        ("exit", Command.UNLOCK),
        ("entrance", Command.LOCK),
    ]


# -- two members at once


TWO = config_of(card_of(), card_of(ANNA, "Anna"))


def slowly(world: World, seconds: int) -> None:
    """The lock takes so long until it confirms."""
    world.lock.progress = [PENDING] * seconds


def test_second_member_is_served_in_turn_and_never_locks(world):
    door = door_of(world, config=TWO)
    slowly(world, 3)
    world.reader.shows = [KEN, *[None] * 5, ANNA]

    serve(world, door)

    assert commands(world) == [Command.UNLOCK, Command.UNLOCK]
    assert told(world) == [
        ("Ken Sato", "granted", Result.UNLOCKED),
        ("Anna", "granted", Result.UNLOCKED),
    ]
    (ken_at, _), (anna_at, _) = world.lights.shown[:2]
    assert world.lights.signals == [Signal.WORKING] * 2 + [Signal.UNLOCKED] * 2
    assert anna_at - ken_at < 1.5  # long before Ken's answer
    assert world.lights.shown[2][1] == (Signal.UNLOCKED, Signal.WORKING)


@pytest.mark.parametrize("on_unknown", ["nothing", "unlock", "lock"])
def test_second_member_never_locks_on_an_unknown_state(world, on_unknown):
    door = door_of(world, config=config_of(*TWO.cards.values(), on_unknown=on_unknown))
    slowly(world, 3)
    world.lock.statuses = [
        LockStatus(state=LOCKED), LockStatus(state=LockState.UNKNOWN),
    ]  # fmt: skip
    world.reader.shows = [KEN, *[None] * 5, ANNA]

    serve(world, door)

    assert Command.LOCK not in commands(world)


def test_second_member_unlocks_after_a_tap_that_locked(world):
    world.lock.state = UNLOCKED
    door = door_of(world, config=TWO)
    slowly(world, 3)
    world.reader.shows = [KEN, *[None] * 5, ANNA]

    serve(world, door)

    assert commands(world) == [Command.LOCK, Command.UNLOCK]


def test_second_member_whose_window_ends_is_answered(world):
    door = door_of(world, config=TWO)
    slowly(world, 15)
    world.reader.shows = [KEN, *[None] * 5, ANNA]

    serve(world, door)

    assert commands(world) == [Command.UNLOCK]
    anna = next(e for e in world.store.events.values() if e.holder == "Anna")
    assert (anna.command, anna.result, anna.detail) == (
        None, Result.REFUSED, doorpi.TOO_LONG,
    )  # fmt: skip
    assert anna.latency_ms == pytest.approx(10_000, abs=200)
    assert world.lights.signals == [
        Signal.WORKING, Signal.WORKING, Signal.FAULT, Signal.UNLOCKED,
    ]  # fmt: skip


def test_second_member_has_a_window_from_her_own_card(world):
    door = door_of(world, config=TWO)
    slowly(world, 3)
    world.reader.shows = [KEN, *[None] * 5, ANNA]

    serve(world, door)

    ken, anna = world.lock.send_bys
    assert ken == 1010.0
    assert anna == pytest.approx(1010.0 + 6 * 0.15, abs=0.3)


def test_second_member_who_is_revoked_meanwhile_is_denied(world):
    world.store.cards = {ANNA: card_of(ANNA, "Anna")}
    door = door_of(world)
    slowly(world, 3)
    world.reader.shows = [KEN, *[None] * 5, ANNA]
    while world.reader.shows:
        door.step()
    world.store.cards.clear()

    serve(world, door)

    assert commands(world) == [Command.UNLOCK]
    assert sorted((reason, result) for _, reason, result in told(world)) == sorted(
        [("granted", Result.UNLOCKED), ("not-found", None)], key=str
    )


def test_stranger_is_denied_at_once_during_a_move(world):
    door = door_of(world)
    slowly(world, 5)
    world.reader.shows = [KEN, *[None] * 5, STRANGER]

    serve(world, door)

    denied_at = next(at for at, s in world.lights.shown if s[0] is Signal.DENIED)
    assert denied_at - 1000.0 < 1.5
    # After the no, the light of who is let in.
    assert world.lights.shown[1][1] == (Signal.DENIED, Signal.WORKING)
    assert world.lights.signals[-1] is Signal.UNLOCKED


def test_master_card_is_answered_at_once_during_a_move(world):
    boss = card_of(ANNA, "Boss", role=Role.MASTER)
    door = door_of(world, config=config_of(card_of(), boss))
    slowly(world, 5)
    world.reader.shows = [KEN, *[None] * 5, ANNA, *[None] * 5, STRANGER]
    while world.reader.shows:
        door.step()

    assert world.store.cards[STRANGER].holder.startswith("Card of ")
    serve(world, door)
    assert commands(world) == [Command.UNLOCK]


def test_card_that_stays_during_a_move_is_one_presentation(world):
    door = door_of(world)
    slowly(world, 5)
    world.reader.shows = [KEN] * 60

    serve(world, door)

    assert len(world.store.events) == 1


# -- a relock


def relocking(**changes):
    config = config_of(card_of(), card_of(ANNA, "Anna"), **changes)
    return replace(config, lock=replace(config.lock, relock_after_s=10.0))


def test_relock_gives_way_and_its_lock_counts_as_locked(world):
    door = door_of(world, config=relocking())
    world.reader.shows = [KEN]
    serve(world, door, 9.0)
    slowly(world, 5)
    while commands(world)[-1] is not Command.LOCK:
        door.step()
    world.lock.statuses = [LockStatus(state=UNLOCKED)]  # the cloud's, still
    world.reader.shows = [ANNA]

    serve(world, door)

    assert commands(world) == [Command.UNLOCK, Command.LOCK, Command.UNLOCK]
    assert [(e.source, e.result) for e in world.store.events.values()] == [
        ("card", Result.UNLOCKED),
        ("relock", Result.INTERRUPTED),
        ("card", Result.UNLOCKED),
    ]


def test_relock_waits_until_the_queue_is_empty(world):
    door = door_of(world, config=relocking(on_tap="unlock"))
    world.reader.shows = [KEN]
    serve(world, door, 9.0)
    slowly(world, 8)
    world.reader.shows = [ANNA]

    serve(world, door, 30.0)

    assert commands(world) == [Command.UNLOCK, Command.UNLOCK, Command.LOCK]
    anna_done_at, relock_at = world.lights.shown[3][0], world.lock.sent[-1][0]
    assert relock_at - anna_done_at == pytest.approx(10.0, abs=0.3)


# -- the end


def test_stop_ends_everything_that_is_under_way(world, elsewhere):
    door = door_of(world, elsewhere, config=TWO)
    slowly(world, 9)
    world.reader.shows = [*[None] * 30, KEN, *[None] * 5, ANNA, STRANGER]
    world.clock.stop_at = world.clock.t + 3.5

    with pytest.raises(Stopped):
        door.run()

    assert [e.result for e in world.store.events.values()] == [Result.INTERRUPTED] * 2


def test_passage_of_a_verb_needs_no_door(world):
    """Without a door: no reader, no light, one request."""
    door = world.door()
    keeper, clock = door._keeper, world.clock
    request = AccessRequest(
        Medium.COMMAND, "root", clock.now(), clock.t, float("inf"), Wants.LOCK
    )

    outcome = doorpi.drive(doorpi.Passage(keeper, request).steps, clock)

    assert outcome.result is Result.LOCKED
    (event,) = world.store.events.values()
    assert (event.source, event.holder, event.command) == ("command", "root", "lock")


# -- a watch: looks for a card that the door does not hear of one by one


class Watching(doorpi.InlineWorker):
    """Nobody waits for it until ``wanted_at``."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.wanted_at = clock, float("inf")

    @property
    def is_awaited(self) -> bool:
        return self.clock.t >= self.wanted_at


@pytest.fixture
def watch(world):
    """A source whose pauses are 50 ms, and what `poll` finds in one watch."""
    config = config_of(card_of())
    config = replace(config, readers=(doorpi.ReaderConfig(poll_s=0.05, rearm_s=0.5),))
    source = world.source(config)
    source.worker, source.watch_s = Watching(world.clock), 0.18
    return source


def polled(world: World, source: doorpi.CardSource) -> AccessRequest | None:
    world.clock.t = max(world.clock.t, source.due)
    return source.poll(world.clock.t)


def test_watch_of_an_empty_field_ends_with_a_card(world, watch):
    world.reader.shows = [*[None] * 7, KEN, None]

    assert polled(world, watch) is None
    assert world.reader.senses == 4
    request = polled(world, watch)

    assert (request.identifier, world.reader.senses) == (KEN, 8)
    assert request.arrived == world.clock.t


def test_watch_that_saw_an_empty_field_makes_a_card_count_again(world, watch):
    """The debounce hears of each look; a card that lies there does not end a watch."""
    watch.watch_s = 0.8
    world.reader.shows = [None, KEN, KEN, *[None] * 12, KEN]

    found = [polled(world, watch) for _ in range(3)]

    assert [bool(request) for request in found] == [True, True, False]


def test_watch_ends_when_its_worker_is_awaited(world, watch):
    """A proof, or the end of the program."""
    watch.worker.wanted_at = world.clock.t + 0.05

    polled(world, watch)

    assert world.reader.senses == 2


def test_watch_does_not_count_time_that_the_computer_stood_still(world, watch):
    """The card may have lain there all the time."""
    watch.watch_s, sleep, shows = 60.0, world.clock.sleep, world.reader.shows
    shows += [KEN, None, KEN]
    assert polled(world, watch)
    world.clock.sleep = lambda seconds: sleep(seconds + 30.0 * (len(shows) == 1))

    assert polled(world, watch) is None


# -- signs of life


class StuckWorker(doorpi.InlineWorker):
    """Something that it was given does not end."""

    busy_s = 2.0


@pytest.mark.parametrize("which", ["reader", "lock", "authority"])
def test_watchdog_is_not_fed_during_a_call_that_does_not_end(world, elsewhere, which):
    """But for an authority's: without it the door is still a door."""
    workers = {which: StuckWorker()}
    config = config_of(card_of())
    world.door(config)
    equipment = world.equipment
    equipment.sources[0].worker = workers.get("reader", doorpi.InlineWorker())
    elsewhere.worker = workers.get("authority", elsewhere.worker)
    equipment.authorities = [elsewhere]
    door = world.door_on_equipment(
        config, worker=lambda name: workers.get(name) or doorpi.InlineWorker()
    )

    for _ in range(9):
        door.step()

    assert (world.supervisor.beats > 0) is (which == "authority")


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("statuses", NotSent("no network")),
        ("statuses", Busy("moving", 9.0)),
        ("sends", NotSent("no network")),
        ("sends", Busy("moving", 9.0)),
        ("progress", MaybeSent("cut")),
        ("progress", Progress.NO_EFFECT),
        ("progress", Progress.PENDING),
    ],
    ids=str,
)
def test_the_watchdog_is_fed_every_second_whatever_is_waited_for(world, stage, error):
    fed_at = [world.clock.t]
    world.supervisor.alive = lambda: fed_at.append(world.clock.t)
    world.lock.policy = LockPolicy(confirm_at_s=(0.0, 20.0), confirm_every_s=4.0)
    setattr(world.lock, stage, [error] * 99)

    world.tap(KEN)

    fed_at.append(world.clock.t)
    assert fed_at[-1] - fed_at[0] > 2.0
    assert max(later - earlier for earlier, later in pairwise(fed_at)) <= 1.0


def test_look_up_is_not_delayed_by_a_lock_out_of_reach(world):
    """Its retries are waits of its own."""
    door = door_of(world, config=TWO)
    world.lock.statuses = [NotSent("no network")] * 2
    world.reader.shows = [KEN, *[None] * 3, STRANGER]

    serve(world, door)

    denied_at = next(at for at, s in world.lights.shown if s[0] is Signal.DENIED)
    assert denied_at - 1000.0 < 1.0
    assert commands(world) == [Command.UNLOCK]
