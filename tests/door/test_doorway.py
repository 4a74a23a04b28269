"""The door contact and the exit button, on fake ports and a clock that jumps.

tests/pi/test_switches.py has the pins, and what takes real time.
"""

from __future__ import annotations

import pytest

import doorpi
from doorpi import (
    Change,
    Command,
    Doorway,
    ExitButton,
    LockPolicy,
    LockState,
    LockStatus,
    Medium,
    NotSent,
    Outcome,
    Result,
    Signal,
    Wants,
)
from tests.helpers.values import replace
from tests.helpers.world import (
    KEN,
    STRANGER,
    FakeClock,
    FakeSwitch,
    card_of,
    config_of,
    idle,
    tap,
)

LOCKED, UNLOCKED = LockState.LOCKED, LockState.UNLOCKED
LOCK, UNLOCK = Command.LOCK, Command.UNLOCK
STRIKE = LockPolicy(confirm_at_s=(0.0,), locks_itself=True)
AFTER_S = 60.0


@pytest.fixture
def contact(world) -> FakeSwitch:
    """A contact; the door is shut."""
    return FakeSwitch(is_closed=True)


@pytest.fixture
def button(world) -> FakeSwitch:
    return FakeSwitch(is_closed=False)


def config(relock_after_s: float = 0.0, **doorway):
    lock = doorpi.LockConfig(relock_after_s=relock_after_s)
    more = {"lock": lock, "doorway": doorpi.DoorwayConfig(**doorway)}
    return replace(config_of(card_of()), **more)


def door_of(world, contact, button=None, **settings) -> doorpi.Door:
    """A door that has run for a second."""
    door = world.door(config(**settings))
    world.equipment.contact = contact
    if button:
        world.equipment.sources.append(ExitButton(button, world.clock))
    idle(world, door, 1.0)
    return door


def swing(world, door, contact, open_s: float) -> None:
    """The door opens, and shuts after so many seconds."""
    contact.is_closed_now = False
    idle(world, door, open_s)
    contact.is_closed_now = True


def told(world) -> list[tuple[str, str]]:
    return [
        (e.reason, e.note) for e in world.store.events.values() if e.source == "door"
    ]


def reasons(world) -> list[str]:
    return [reason for reason, _ in told(world)]


def commands(world) -> list[Command]:
    return [command for _, command in world.lock.sent]


# -- whether the door is open

#: What the contact says at each tenth of a second (O: open, C: closed, -: cannot be
#: read), and what counts (capitals where it has just changed).
FOLLOWED = {
    "shut":                      ("CCCC", "Cccc"),
    "open at the start":         ("OOOO", "Oooo"),
    "opened":                    ("CCOOO", "CccOo"),
    "a knock":                   ("CCOCCOCC", "Cccccccc"),
    "shut for a second":         ("CCOO" + 12 * "C", "CccO" + 10 * "o" + "Cc"),
    "a bounce as it falls shut": ("CCOOCCCCCOC" + 11 * "C", "CccO" + 16 * "o" + "Cc"),
    "not read":                  ("CC--CC", "Cc--Cc"),
    "not read, then open":       ("--OO", "--Oo"),
    "open, then not read":       ("COO--O", "CcO--O"),
}  # fmt: skip


@pytest.mark.parametrize(("says", "counts"), FOLLOWED.values(), ids=FOLLOWED)
def test_what_the_contact_says_counts_after_a_while(says, counts):
    clock, seen = FakeClock(), ""
    doorway = Doorway(clock)

    for level in says:
        changed = doorway.follow({"O": True, "C": False, "-": None}[level])
        is_now = {True: "o", False: "c", None: "-"}[doorway.is_open]
        seen += is_now.upper() if changed else is_now
        clock.advance(0.1001)

    assert seen == counts


def test_a_contact_that_rattles_bars_the_bolt_at_once_and_for_a_second():
    clock = FakeClock()
    doorway = Doorway(clock)
    barred = []
    for is_open in (False, True, False, False, *[False] * 10):
        doorway.follow(is_open)
        barred.append(doorway.bars_bolt)
        clock.advance(0.2)

    assert barred == [False, True, False] + [False] * 11  # it was a knock

    doorway.follow(True)
    clock.advance(0.2)
    assert doorway.follow(True)
    doorway.follow(False)
    assert doorway.bars_bolt
    clock.advance(1.0)
    assert doorway.follow(False)
    assert not doorway.bars_bolt


def test_without_a_contact_nothing_is_barred_or_said(world):
    door = world.door()

    tap(world, door)
    idle(world, door, 200)

    assert door._keeper.doorway.is_open is None
    assert not door._keeper.doorway.bars_bolt
    assert told(world) == []


# -- opened by force


def test_a_door_that_nobody_was_granted_was_opened_by_force(world, contact):
    door = door_of(world, contact)

    contact.is_closed_now = False
    idle(world, door, 5)
    world.lights.shown.clear()
    contact.is_closed_now = True
    idle(world, door, 5)

    why = "nobody was granted; the lock: locked"
    assert told(world) == [("forced-open", why), ("closed", "after 5 s")]
    assert [e.decision for e in world.store.events.values()] == ["changed"] * 2
    assert {e.result for e in world.store.events.values()} == {None}
    assert world.lights.standing is Signal.READY


def test_an_alarm_is_shown_as_long_as_the_door_is_open(world, contact, caplog):
    door = door_of(world, contact)

    contact.is_closed_now = False
    idle(world, door, 30)

    assert world.lights.standing is Signal.FORCED_OPEN
    assert "forced-open" in world.supervisor.said[-1]
    assert len([m for m in caplog.messages if "forced-open" in m]) == 1
    contact.is_closed_now = True
    idle(world, door, 2)
    assert world.lights.standing is Signal.READY
    assert world.supervisor.said[-1] == "status: ready; the door is closed"


def opened_after(world, door, contact, seconds: float) -> None:
    idle(world, door, seconds)
    contact.is_closed_now = False
    idle(world, door, 6)


@pytest.mark.parametrize(("after_s", "found"), [(5, []), (30, ["forced-open"])])
def test_a_strike_lets_in_for_a_moment(world, contact, after_s, found):
    world.lock.policy = STRIKE
    door = door_of(world, contact)

    tap(world, door)
    opened_after(world, door, contact, after_s)

    assert reasons(world) == found


def test_a_strike_is_not_asked(world, contact):
    world.lock.policy = STRIKE
    door = door_of(world, contact)

    opened_after(world, door, contact, 1)

    assert told(world) == [("forced-open", "nobody was granted")]
    assert world.lock.calls == 0


def test_a_lock_that_was_unlocked_lets_in_until_it_is_locked(world, contact):
    door = door_of(world, contact)
    tap(world, door)

    for _ in range(3):
        opened_after(world, door, contact, 500)
        contact.is_closed_now = True
        idle(world, door, 3)
    assert "forced-open" not in reasons(world)

    tap(world, door)  # locks
    assert commands(world) == [UNLOCK, LOCK]
    opened_after(world, door, contact, 1)

    assert reasons(world)[-1] == "forced-open"


def test_a_person_who_is_just_being_let_in_opens_before_the_lock_has_confirmed(
    world, contact
):
    world.lock.policy = LockPolicy(confirm_at_s=(25.0,))
    door = door_of(world, contact)
    world.reader.shows = [KEN]
    door.step()

    opened_after(world, door, contact, 20)

    assert commands(world) == [UNLOCK]
    assert told(world) == []


def test_a_key_that_was_turned_is_asked_about_once(world, contact):
    door = door_of(world, contact)
    world.lock.state = UNLOCKED

    for _ in range(4):
        opened_after(world, door, contact, 60)
        contact.is_closed_now = True
        idle(world, door, 3)

    assert told(world) == []
    assert world.lock.calls == 1  # of ten minutes

    world.lock.state = LOCKED
    opened_after(world, door, contact, 601)
    assert reasons(world) == ["forced-open"]
    assert world.lock.calls == 2


def test_a_key_of_before_the_door_was_locked_lets_nobody_in(world, contact):
    door = door_of(world, contact)
    world.lock.state = UNLOCKED  # by a key
    opened_after(world, door, contact, 60)
    contact.is_closed_now = True
    idle(world, door, 3)

    tap(world, door)
    opened_after(world, door, contact, 60)

    assert commands(world) == [LOCK]
    assert reasons(world)[-1] == "forced-open"


ANSWERS = {
    "turning": (LockStatus(LockState.UNKNOWN, is_moving=True), None),
    "half way": (LockStatus(LockState.UNKNOWN, is_between=True), None),
    "it does not know": (LockStatus(LockState.UNKNOWN, "jammed"), "jammed"),
    "no network": (NotSent("no network"), "no network"),
}


@pytest.mark.parametrize(("answer", "why"), ANSWERS.values(), ids=ANSWERS)
def test_without_an_answer_of_the_lock_it_is_an_alarm(world, contact, answer, why):
    door = door_of(world, contact)
    world.lock.statuses = [answer] * 9

    opened_after(world, door, contact, 1)

    assert [why in note for _, note in told(world)] == [True] * bool(why)
    assert world.lock.calls == 1


def test_a_lock_with_no_calls_left_is_not_asked(world, contact):
    world.lock.policy = LockPolicy(confirm_at_s=(0.0,), calls_per_month=100)
    world.store.kept[f"calls sesame {world.clock.now():%Y-%m}"] = "98"
    door = door_of(world, contact)

    opened_after(world, door, contact, 1)

    assert [("not asked" in note) for _, note in told(world)] == [True]
    assert world.lock.calls == 0


def test_a_question_is_counted(world, contact):
    world.lock.policy = LockPolicy(confirm_at_s=(0.0,), calls_per_month=100)
    door = door_of(world, contact)

    opened_after(world, door, contact, 1)

    assert world.store.kept[f"calls sesame {world.clock.now():%Y-%m}"] == "1"


def test_a_door_that_is_open_at_the_start_was_not_forced(world, contact):
    contact.is_closed_now = False
    door = door_of(world, contact)

    idle(world, door, 100)

    assert reasons(world) == ["held-open"]


def test_alarms_are_logged_on_a_disk_that_works_again(world, contact):
    door = door_of(world, contact)
    world.store.broken = "disk full"

    opened_after(world, door, contact, 1)
    assert world.lights.standing is Signal.FORCED_OPEN
    world.store.broken = ""
    contact.is_closed_now = True
    idle(world, door, 3)

    assert reasons(world) == ["closed"]


# -- held open


def test_a_door_that_stands_open_is_told_once(world, contact, caplog):
    door = door_of(world, contact, held_open_s=20.0)
    tap(world, door)

    contact.is_closed_now = False
    idle(world, door, 19)
    assert told(world) == []
    idle(world, door, 1000)
    assert world.lights.standing is Signal.HELD_OPEN
    contact.is_closed_now = True
    idle(world, door, 3)

    assert told(world) == [("held-open", "for 20 s"), ("closed", "after 1019 s")]
    assert len([m for m in caplog.messages if "held-open" in m]) == 1
    assert world.lights.standing is Signal.READY


def test_a_door_that_is_shut_in_time_is_nothing_to_tell(world, contact):
    door = door_of(world, contact)
    tap(world, door)

    for _ in range(10):
        swing(world, door, contact, 50)
        idle(world, door, 50)

    assert told(world) == []


def test_a_contact_that_cannot_be_read_is_as_none_and_is_reported(world, contact):
    door = door_of(world, contact, held_open_s=5.0)
    contact.is_closed_now = False
    idle(world, door, 10)
    assert world.lights.standing is Signal.FORCED_OPEN

    contact.is_closed_now, contact.trouble = None, "Broken pipe"
    idle(world, door, 10)

    assert "Broken pipe" in world.supervisor.said[-1]
    assert not door._keeper.doorway.bars_bolt
    assert world.lights.standing is Signal.READY
    assert "closed" not in reasons(world)


def test_a_contact_that_rattles_for_long_is_no_flood(world, contact, caplog):
    caplog.set_level("INFO")
    door = door_of(world, contact)

    for number in range(190):  # each time for three seconds
        contact.is_closed_now = number % 2 == 1
        idle(world, door, 3)
    idle(world, door, 200)

    assert reasons(world).count("forced-open") == 3
    assert reasons(world).count("closed") == 3
    assert "92 more until" in "".join(e.detail for e in world.store.events.values())
    assert len([m for m in caplog.messages if "forced-open" in m]) == 4
    assert world.lock.calls == 1  # in ten minutes


# -- a bolt is not driven out while the door is open


def test_relock_counts_from_the_closing(world, contact):
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)
    contact.is_closed_now = False
    idle(world, door, 300)
    assert commands(world) == [UNLOCK]

    shut_at = world.clock.t
    contact.is_closed_now = True
    idle(world, door, 300)

    assert commands(world) == [UNLOCK, LOCK]
    assert world.lock.sent[1][0] == pytest.approx(shut_at + AFTER_S, abs=0.5)


def test_relock_of_a_door_that_nobody_opens_counts_from_the_unlocking(world, contact):
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)

    idle(world, door, 300)

    assert [round(at - 1001) for at, _ in world.lock.sent] == [0, 60]


def test_relock_starts_again_at_each_closing(world, contact):
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)

    for _ in range(5):
        swing(world, door, contact, 5)
        idle(world, door, 50)
    assert commands(world) == [UNLOCK]
    idle(world, door, 20)

    assert commands(world) == [UNLOCK, LOCK]
    assert not world.store.kept["relock"]


def test_the_closing_is_on_disk_for_a_restart(world, contact):
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)
    swing(world, door, contact, 300)
    idle(world, door, 10)

    again = door_of(world, contact, relock_after_s=AFTER_S)
    idle(world, again, 40)
    assert commands(world) == [UNLOCK]
    idle(world, again, 20)

    assert commands(world) == [UNLOCK, LOCK]


def test_a_restart_with_an_open_door_waits_for_its_closing(world, contact):
    tap(world, door_of(world, contact, relock_after_s=AFTER_S))
    contact.is_closed_now = False

    again = door_of(world, contact, relock_after_s=AFTER_S)
    idle(world, again, 300)
    assert commands(world) == [UNLOCK]
    contact.is_closed_now = True
    idle(world, again, 100)

    assert commands(world) == [UNLOCK, LOCK]


def lock_order(world, wants=Wants.LOCK) -> doorpi.AccessRequest:
    now = world.clock.t
    return doorpi.AccessRequest(
        Medium.COMMAND, "owner", world.clock.now(), now, now + 10, wants
    )


@pytest.mark.parametrize("by", ["a tap", "an order"])
def test_nobody_locks_an_open_door(world, contact, by):
    door = door_of(world, contact)
    tap(world, door)
    contact.is_closed_now = False
    idle(world, door, 2)

    if by == "a tap":
        tap(world, door)
    else:
        steps = doorpi.Passage(door._keeper, lock_order(world)).steps
        doorpi.drive(steps, world.clock)

    assert commands(world) == [UNLOCK]
    last = world.store.events[max(world.store.events)]
    assert (last.command, last.result) == (LOCK, Result.REFUSED)
    assert "the door is open" in doorpi.answer_of(last).lines[0]
    assert Signal.FAULT in world.lights.signals


def test_an_open_door_can_be_unlocked(world, contact):
    contact.is_closed_now = False
    door = door_of(world, contact)

    tap(world, door)

    assert commands(world) == [UNLOCK]


def test_a_strike_may_be_shut_while_the_door_is_open(world, contact):
    world.lock.policy = STRIKE
    contact.is_closed_now = False
    door = door_of(world, contact)

    doorpi.drive(doorpi.Passage(door._keeper, lock_order(world)).steps, world.clock)

    assert commands(world) == [LOCK]


def test_a_door_that_opens_before_the_command_of_a_relock_is_sent(world, contact):
    """It waits, and begins anew with the closing."""
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)
    status = world.lock.status

    def opens(by):
        contact.is_closed_now = False
        door._keeper.watch()
        return status(by)

    world.lock.status = opens
    idle(world, door, 65)
    world.lock.status = status
    idle(world, door, 100)
    assert commands(world) == [UNLOCK]
    assert world.store.events[2].result is Result.REFUSED

    contact.is_closed_now = True
    idle(world, door, 59)
    assert commands(world) == [UNLOCK]
    idle(world, door, 5)
    assert commands(world) == [UNLOCK, LOCK]


def test_a_contact_that_changes_while_the_bolt_moves_moves_nothing_twice(
    world, contact
):
    world.lock.policy = LockPolicy(confirm_at_s=(8.0,))
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)
    idle(world, door, AFTER_S)
    assert commands(world) == [UNLOCK, LOCK]

    for is_closed in (False, True, False, True):  # before it is confirmed
        contact.is_closed_now = is_closed
        idle(world, door, 1.3)
    idle(world, door, 500)

    assert commands(world) == [UNLOCK, LOCK]
    assert not world.store.kept["relock"]


def test_status_says_whether_the_door_is_open(world, contact):
    door = door_of(world, contact, relock_after_s=AFTER_S)
    tap(world, door)
    assert doorpi.drive(door._keeper.status(), world.clock).lines[-1] == (
        "the door is closed"
    )

    contact.is_closed_now = False
    idle(world, door, 1)
    lines = doorpi.drive(door._keeper.status(), world.clock).lines
    assert lines[-2:] == [
        "to be locked again once the door is closed",
        "the door is open",
    ]


# -- the exit button


def test_the_button_unlocks_and_is_logged_as_such(world, contact, button):
    door = door_of(world, contact, button)

    button.press()
    idle(world, door, 1)

    (event,) = world.store.events.values()
    assert commands(world) == [UNLOCK]
    assert (event.source, event.reason, event.result) == (
        "button", "granted", Result.UNLOCKED,
    )  # fmt: skip
    assert doorpi.describe(event).startswith("granted: exit button: unlock")


@pytest.mark.parametrize("trouble", ["lockdown", "disk"])
def test_the_button_works_in_a_lockdown_and_with_a_broken_disk(
    world, contact, button, trouble
):
    world.store.lockdown = trouble == "lockdown"
    world.store.broken = "disk full" * (trouble == "disk")
    door = door_of(world, contact, button)

    button.press()
    idle(world, door, 1)

    assert commands(world) == [UNLOCK]


def test_who_leaves_by_the_button_opens_nothing_by_force(world, contact, button):
    """Not even when the lock cannot be reached, and the handle opens the door."""
    door = door_of(world, contact, button)
    world.lock.statuses = [NotSent("no network")] * 99
    world.lock.sends = [NotSent("no network")] * 99

    button.press()
    opened_after(world, door, contact, 5)

    assert told(world) == []


PRESSES = {
    # seconds between two changes of the switch, for how long, and how many requests
    "held": (600.0, 100.0, 1),
    "a bounce of ten milliseconds": (0.01, 0.1, 1),
    "50 presses a second": (0.01, 10.0, 1),
    "a nervous finger": (0.15, 10.0, 9),
}


@pytest.mark.parametrize(("every_s", "for_s", "count"), PRESSES.values(), ids=PRESSES)
def test_presses_count_once(world, contact, button, every_s, for_s, count):
    world.lock.policy = STRIKE
    source = ExitButton(button, world.clock)
    began_at, taken = world.clock.t, 0
    while world.clock.t < began_at + for_s:
        button.change(not button.is_closed_now)
        for _ in range(5):
            if request := source.poll(world.clock.t):
                taken += 1
                source.answer(request, doorpi.Answer(True, []))
            world.clock.advance(every_s / 5)

    assert taken == count


def test_a_press_while_the_last_one_is_served_is_the_same(world, button):
    source = ExitButton(button, world.clock)
    button.press()
    request = source.poll(world.clock.t)
    world.clock.advance(5)

    button.press()
    assert source.poll(world.clock.t) is None
    source.answer(request, doorpi.Answer(True, []))
    button.press()
    assert source.poll(world.clock.t) is None  # half a second has not passed
    world.clock.advance(5)
    button.press()

    assert source.poll(world.clock.t)


def test_a_button_that_is_pressed_at_the_start_opens_nothing(world, contact, button):
    button.is_closed_now = True
    door = door_of(world, contact, button)

    idle(world, door, 10)

    assert commands(world) == []


def test_a_stuck_button_is_reported_and_acts_once(world, contact, button, caplog):
    door = door_of(world, contact, button)

    button.change(True)
    idle(world, door, 59)
    assert "stuck" not in caplog.text
    idle(world, door, 100)

    assert commands(world) == [UNLOCK]
    assert len([m for m in caplog.messages if "stuck" in m]) == 1
    assert "stuck" in world.supervisor.said[-1]
    lines = doorpi.drive(door._keeper.status(), world.clock).lines
    assert "stuck" in lines[-1]
    button.change(False)
    idle(world, door, 1)
    assert "stuck" not in world.supervisor.said[-1]


def test_a_card_and_the_button_together_unlock(world, contact, button):
    """Whichever comes first: the second unlocks as well, and nothing locks."""
    world.lock.policy = LockPolicy(confirm_at_s=(2.0,))
    door = door_of(world, contact, button)

    world.reader.shows = [KEN]
    button.press()
    idle(world, door, 10)
    button.press()
    world.reader.shows = [STRANGER]
    idle(world, door, 10)

    assert set(commands(world)) == {UNLOCK}


def test_outcomes_that_surely_did_not_unlock_let_nobody_in(world):
    doorway, control = Doorway(world.clock), world.door()._keeper.control
    for result in (Result.REFUSED, Result.UNREACHABLE, Result.UNKNOWN_STATE):
        doorway.moved(Outcome(UNLOCK, result), control)
    assert not doorway._unlocked

    doorway.moved(Outcome(UNLOCK, Result.UNSURE), control)
    assert doorway._unlocked == {"lock"}
    doorway.moved(Outcome(LOCK, Result.LOCKED), control)
    assert not doorway._unlocked
    assert Change.CLOSED not in doorpi.ALARMS
