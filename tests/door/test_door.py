"""The door on fake ports: from a card in the field to light and event."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

import doorpi
from doorpi import (
    Busy,
    Command,
    ConfigError,
    Door,
    LockState,
    LockStatus,
    MaybeSent,
    NotSent,
    Progress,
    ReaderLost,
    Reason,
    Rejected,
    Result,
    Role,
    Signal,
    Stopped,
    Uid,
    Unreadable,
    describe,
)
from tests.helpers.world import JST, KEN, NOON, STRANGER, World, card_of, config_of

LOCKED, UNLOCKED, UNKNOWN = LockState.LOCKED, LockState.UNLOCKED, LockState.UNKNOWN
ANNA = Uid("D3C2B1A0")
PHONES = [Uid(f"08{number:06X}") for number in range(6)]


# -- what a tap does

TAPS = {
    # what                        on_tap    on_unknown  state      command         result
    "toggle a locked door":      ("toggle", "nothing", LOCKED,   Command.UNLOCK, Result.UNLOCKED),
    "toggle an unlocked door":   ("toggle", "nothing", UNLOCKED, Command.LOCK,   Result.LOCKED),
    "toggle, state unknown":     ("toggle", "nothing", UNKNOWN,  None,           Result.UNKNOWN_STATE),
    "unknown means unlock":      ("toggle", "unlock",  UNKNOWN,  Command.UNLOCK, Result.UNLOCKED),
    "unknown means lock":        ("toggle", "lock",    UNKNOWN,  Command.LOCK,   Result.LOCKED),
    "unlock a locked door":      ("unlock", "nothing", LOCKED,   Command.UNLOCK, Result.UNLOCKED),
    "unlock an unlocked door":   ("unlock", "nothing", UNLOCKED, Command.UNLOCK, Result.UNLOCKED),
    "unlock, state unknown":     ("unlock", "nothing", UNKNOWN,  None,           Result.UNKNOWN_STATE),
}  # fmt: skip


@pytest.mark.parametrize(
    ("on_tap", "on_unknown", "state", "command", "result"), TAPS.values(), ids=TAPS
)
def test_tap_sends_the_command_that_settings_and_lock_state_give(
    world, on_tap, on_unknown, state, command, result
):
    world.lock.state = state
    config = config_of(card_of(), on_tap=on_tap, on_unknown=on_unknown)

    event = world.tap(KEN, config=config)

    assert [sent for _, sent in world.lock.sent] == ([command] if command else [])
    assert (event.command, event.result) == (command, result)


OUTCOMES = {
    # what                         status raises          send raises         confirm raises        light           result
    "all is well":                (None,                  None,               None,                 Signal.UNLOCKED, Result.UNLOCKED),
    "the cloud is away":          (NotSent("no name"),    None,               None,                 Signal.FAULT,    Result.UNREACHABLE),
    "the status is nonsense":     (Unreadable("html"),    None,               None,                 Signal.FAULT,    Result.UNKNOWN_STATE),
    "the key is refused":         (Rejected("401"),       None,               None,                 Signal.FAULT,    Result.REFUSED),
    "the command never leaves":   (None,                  NotSent("no TLS"),  None,                 Signal.FAULT,    Result.UNREACHABLE),
    "the lock is busy for long":  (None,                  Busy("35", 35.0),   None,                 Signal.FAULT,    Result.REFUSED),
    "the lock says no":           (None,                  Rejected("low"),    None,                 Signal.FAULT,    Result.REFUSED),
    "answer lost, lock moved":    (None,                  MaybeSent("cut"),   None,                 Signal.UNLOCKED, Result.UNLOCKED),
    "the motor fails":            (None,                  None,               Rejected("jam"),      Signal.FAULT,    Result.REFUSED),
    "never confirmed":            (None,                  None,               MaybeSent("silence"), Signal.UNSURE,   Result.UNSURE),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "send", "confirm", "light", "result"), OUTCOMES.values(), ids=OUTCOMES
)
def test_tap_shows_and_logs_its_result(world, status, send, confirm, light, result):
    world.lock.statuses = [status] * 3 if status else []
    world.lock.sends = [send] * 3 if send else []
    world.lock.progress = [confirm] * 99 if confirm else []

    event = world.tap(KEN)

    assert world.lights.signals == [Signal.WORKING, light]
    assert (event.decision, event.result) == ("granted", result)


def test_denial_moves_nothing_and_is_logged_at_once(world):
    event = world.tap(STRANGER)

    assert world.lock.sent == []
    assert world.lights.shown[0][1] == (Signal.DENIED, Signal.READY)
    assert (event.uid, event.reason, event.result, event.latency_ms) == (
        STRANGER, Reason.NOT_FOUND, None, None,
    )  # fmt: skip


def test_lights_show_working_before_the_lock_is_asked(world):
    world.lock.takes_s = 1.0

    world.tap(KEN)

    (working_at, _), (done_at, _) = world.lights.shown[:2]
    assert working_at == 1000.0
    assert done_at == 1003.0  # status, send and confirm took a second each


def test_lights_show_ready_after_the_result(world):
    world.tap(KEN)

    assert world.lights.shown[-1][1] == (Signal.UNLOCKED, Signal.READY)


def test_lights_show_a_low_battery_after_the_result(world):
    world.lock.statuses = [LockStatus(state=LOCKED, battery_percent=14)]

    world.tap(KEN)

    assert world.lights.shown[-1][1] == (
        Signal.UNLOCKED,
        Signal.LOW_BATTERY,
        Signal.READY,
    )


@pytest.mark.parametrize(("percent", "words"), [(14, ": 14 %"), (None, "")])
def test_event_has_a_low_battery_in_its_detail(world, percent, words):
    world.lock.statuses = [
        LockStatus(LOCKED, battery_percent=percent, battery_is_low=True)
    ]

    event = world.tap(KEN)

    assert event.detail == f"the lock's battery is low{words}"


def test_troubles_are_published_when_they_change_and_nobody_waits(world):
    published = []
    world.reader.shows = [KEN]
    door = world.door()
    world.equipment.publish = lambda troubles: published.append(
        (world.clock.t, dict(troubles))
    )

    while not published:
        door.step()
    world.reader.shows = [ReaderLost("usb: gone")] * 100
    while len(published) < 2:
        door.step()
    for _ in range(100):
        door.step()

    result_at = world.lights.shown[1][0]
    quiet, lost, *_ = published
    assert quiet[1] == {}
    assert quiet[0] > result_at + Door.quiet_s
    assert list(lost[1]) == [Signal.READER_LOST]


def test_a_door_without_troubles_gives_a_sign_of_life_all_the_same(world):
    published, door = [], world.door()
    world.equipment.publish = lambda troubles: published.append(world.clock.t)

    while len(published) < 5:
        door.step()

    pauses = [late - early for early, late in pairwise(published)]
    assert all(10.0 < pause < doorpi.LIFELESS_S / 2 for pause in pauses)


def test_event_latency_runs_from_card_to_result(world):
    world.lock.takes_s = 0.25

    event = world.tap(KEN)

    assert event.latency_ms == 750


# -- the event is on disk before the command


def test_event_is_stored_before_the_command_is_sent(world):
    recorded_at_send = []
    send = world.lock.send
    world.lock.send = lambda *args: (
        recorded_at_send.append(
            [(e.command, e.result) for e in world.store.events.values()]
        ),
        send(*args),
    )[1]

    world.tap(KEN)

    assert recorded_at_send == [[(Command.UNLOCK, None)]]


def test_stop_during_a_tap_logs_it_as_interrupted(world):
    world.lock.progress = [Progress.PENDING] * 9
    world.reader.shows = [*[None] * 30, KEN]
    world.clock.stop_at = world.clock.t + 3.0

    with pytest.raises(Stopped):
        world.door().run()

    (event,) = world.store.events.values()
    assert (event.command, event.result) == (Command.UNLOCK, Result.INTERRUPTED)
    assert world.lights.closed == world.reader.closed == 1
    assert world.store.closed == 2  # the list and the log
    assert "stopping" in world.supervisor.said


def test_start_answers_a_tap_right_after_ready(world):
    """The field was looked at for long enough before."""

    def report(state: str) -> None:
        world.reader.shows = [KEN]

    world.supervisor.report = report
    world.clock.stop_at = world.clock.t + 10.0

    with pytest.raises(Stopped):
        world.door().run()

    assert [event.uid for event in world.store.events.values()] == [KEN]


@pytest.mark.parametrize("shows", [[KEN], [ReaderLost("away")] * 99])
def test_start_is_not_delayed_by_a_card_or_a_missing_reader(world, shows):
    world.reader.shows = [*shows]
    began_at = world.clock.t
    ready_at: list[float] = []
    world.supervisor.report = lambda state: ready_at.append(world.clock.t)
    world.clock.stop_at = world.clock.t + 3.0

    with pytest.raises(Stopped):
        world.door().run()

    assert ready_at[0] == began_at


def test_start_closes_events_that_the_last_run_left_open(world, caplog):
    world.store.left_open = 2
    world.clock.stop_at = world.clock.t + 1.0

    with pytest.raises(Stopped):
        world.door().run()

    assert "2 events cut off by a restart: logged as interrupted" in caplog.messages


# -- storage trouble keeps nobody out


def test_broken_database_keeps_no_card_of_the_file_out_and_shows_a_light(world, caplog):
    caplog.set_level(logging.INFO)
    world.store.broken = "disk full"
    world.reader.shows = [KEN]
    door = world.door()

    door.step()
    world.clock.advance(10)  # the result has been seen
    door.step()

    assert [command for _, command in world.lock.sent] == [Command.UNLOCK]
    assert world.lights.standing is Signal.STORAGE_BAD
    assert "database: disk full" in caplog.messages
    assert any("granted: Ken Sato" in line for line in caplog.messages)


def test_event_that_could_not_be_stored_is_stored_when_the_disk_works_again(world):
    send = world.lock.send
    world.store.broken = "disk full"
    world.lock.send = lambda *args: (setattr(world.store, "broken", ""), send(*args))[1]

    event = world.tap(KEN)

    assert (event.command, event.result) == (Command.UNLOCK, Result.UNLOCKED)


def test_storage_light_stays_while_only_reading_works(world):
    def refuse(event, *notes):
        raise doorpi_store_error("disk full")

    world.store.begin = refuse
    door = world.door()
    world.reader.shows = [KEN, None, KEN]

    for _ in range(3):
        door.step()
    world.clock.advance(10)
    door.step()

    assert world.lights.standing is Signal.STORAGE_BAD


def doorpi_store_error(text: str) -> Exception:
    from doorpi import StoreError

    return StoreError(text)


def test_storage_light_ends_when_an_event_can_be_written_again(world, caplog):
    caplog.set_level(logging.INFO)
    world.store.broken = "disk full"
    door = world.door()
    world.reader.shows = [KEN]
    door.step()
    world.store.broken = ""
    world.clock.advance(10)

    world.reader.shows = [None] * 8 + [STRANGER]
    for _ in range(9):
        door.step()
    world.clock.advance(10)
    door.step()

    assert world.lights.standing is Signal.READY
    assert "resolved: database: disk full" in caplog.messages


# -- who is asked about


def test_list_of_the_database_opens_and_the_file_overrules_it(world):
    world.store.cards = {
        ANNA: card_of(ANNA, "Anna", source="db"),
        KEN: card_of(KEN, "Ken in the database", enabled=False),
    }

    anna = world.tap(ANNA)
    ken = World(store=world.store).tap(KEN)

    assert (anna.holder, anna.decision) == ("Anna", "granted")
    assert (ken.holder, ken.decision) == ("Ken Sato", "granted")


def test_lockdown_denies_all_but_a_master(world):
    world.store.lockdown = True
    config = config_of(card_of(), card_of(ANNA, "Anna", role=Role.MASTER))

    ken = world.tap(KEN, config=config)
    anna = World(store=world.store).tap(ANNA, config=config)

    assert (ken.reason, anna.reason) == (Reason.LOCKED_DOWN, Reason.GRANTED)


def test_unset_clock_refuses_dated_cards_unless_the_settings_trust_it(
    world,
):
    dated = card_of(valid_until=NOON.date())
    world.clock.set = False

    strict = world.tap(KEN, config=config_of(dated))
    lax = World(clock=world.clock).tap(
        KEN, config=config_of(dated, require_synced_clock=False)
    )

    assert (strict.reason, lax.reason) == (Reason.CLOCK_NOT_SET, Reason.GRANTED)


def test_passback_counts_from_when_the_card_last_moved_the_lock(world):
    world.store.moved_at = {KEN: NOON.astimezone(JST)}

    event = world.tap(KEN, config=config_of(card_of(), passback_s=30.0))

    assert event.reason is Reason.PASSBACK


# -- one presentation, one action


PRESENTATIONS = {
    # what the polls find                                                events
    "held for long":           ([KEN] * 50,                              1),
    "a flicker is no new tap":  ([KEN, None, KEN, None, None, KEN],       1),
    "away for rearm_s":        ([KEN] + [None] * 8 + [KEN],              2),
    "two in one wallet":       ([KEN, ANNA] * 30,                        2),
    "a phone, a UID each poll": (PHONES,                                  1),
    "through a reader fault":  ([KEN, ReaderLost("gone")] + [KEN] * 20,  1),
}  # fmt: skip


@pytest.mark.parametrize(("shows", "events"), PRESENTATIONS.values(), ids=PRESENTATIONS)
def test_presentation_is_one_event(world, shows, events):
    world.tap(*shows, config=config_of(card_of(), card_of(ANNA, "Anna")))

    assert len(world.store.events) == events


def test_presentation_during_a_move_acts_once(world):
    world.lock.takes_s = 5.0

    world.tap(*[KEN] * 30)

    assert len(world.lock.sent) == 1


# -- the reader comes and goes


def test_lost_reader_is_reopened_with_growing_pauses_and_shown(world, caplog):
    caplog.set_level(logging.INFO)
    world.reader.shows = [ReaderLost("unplugged")] * 4
    door = world.door()

    tried_at, sense = [], world.reader.sense
    world.reader.sense = lambda: (tried_at.append(world.clock.t), sense())[1]

    while len(tried_at) < 5:
        door.step()

    # Half of 0.2 s doubling: the dice are 0 here.
    assert [round(b - a, 1) for a, b in pairwise(tried_at)] == [0.1, 0.2, 0.4, 0.8]
    assert Signal.READER_LOST in world.lights.signals
    assert world.lights.signals[-1] is Signal.READY
    assert "card reader: unplugged" in caplog.messages
    assert any(m.startswith("resolved: card reader: ") for m in caplog.messages)
    assert "status: ready" in world.supervisor.said


def test_start_reports_ready_without_a_reader(world):
    world.reader.shows = [ReaderLost("no reader found")] * 3
    world.clock.stop_at = world.clock.t

    with pytest.raises(Stopped):
        world.door().run()

    assert world.supervisor.said[0] == "ready"
    assert "status: card reader: no reader found" in world.supervisor.said


LYING_THERE = {
    "a member's card": (card_of(), [KEN] * 40),
    "a master's card": (card_of(role=Role.MASTER), [KEN] * 40),
    "a stranger's card": (card_of(), [STRANGER] * 40),
    "a wallet": (card_of(), [KEN, STRANGER] * 20),
    "on a reader that is found later": (card_of(), [ReaderLost("none")] * 9 + [KEN] * 40),
}  # fmt: skip


@pytest.mark.parametrize(("card", "shows"), LYING_THERE.values(), ids=LYING_THERE)
def test_card_on_the_reader_at_the_start_does_nothing(world, card, shows):
    world.reader.shows = shows
    world.clock.stop_at = world.clock.t + 4.0

    with pytest.raises(Stopped):
        world.door(config_of(card)).run()

    assert (world.store.events, world.lock.calls) == ({}, 0)
    assert {*world.lights.signals} <= {Signal.READY, Signal.READER_LOST}


def test_card_on_the_reader_at_the_start_counts_after_it_was_removed(world):
    world.reader.shows = [KEN, KEN, *[None] * 6, KEN]
    world.clock.stop_at = world.clock.t + 4.0

    with pytest.raises(Stopped):
        world.door().run()

    assert len(world.lock.sent) == 1


# -- how old a look may be


@pytest.mark.parametrize(
    ("stood_still_s", "sent"), [(0.0, 1), (9.9, 1), (10.1, 0), (3600.0, 0)]
)
def test_poll_longer_than_the_window_sends_nothing(world, stood_still_s, sent):
    sense = world.reader.sense

    def slow_sense():
        world.clock.advance(stood_still_s)
        return sense()

    world.reader.sense = slow_sense

    world.tap(KEN)

    assert len(world.lock.sent) == sent


def test_empty_field_after_a_slow_start_is_empty(world):
    """The first look loads libraries, which takes a slow Pi seconds."""
    sense, stalls_s = world.reader.sense, [8.0]

    def slow_sense():
        world.clock.advance(stalls_s.pop() if stalls_s else 0.0)
        return sense()

    world.reader.sense = slow_sense
    world.reader.shows = [*[None] * 12, KEN]
    world.clock.stop_at = world.clock.t + 10.0

    with pytest.raises(Stopped):
        world.door().run()

    assert len(world.lock.sent) == 1


def test_window_starts_before_the_reader_is_polled(world):
    sense = world.reader.sense

    def slow_sense():
        world.clock.advance(2.0)
        return sense()

    world.reader.sense = slow_sense

    world.tap(KEN)

    assert world.lock.send_bys == [1000.0 + 10.0]


def test_idle_door_keeps_the_lock_ready_and_feeds_the_watchdog(world):
    door = world.door()

    for _ in range(10):
        door.step()

    assert world.lock.kept_ready == 10
    assert world.supervisor.beats == 10
    assert world.lights.shown == [(1000.0, (Signal.READY,))]


# -- the lights come and go


def test_lights_that_fail_and_recover_are_reported(world, caplog):
    caplog.set_level(logging.INFO)
    door = world.door()
    world.lights.trouble = "'GPIO busy'"
    door.step()
    world.lights.trouble = ""
    door.step()

    assert caplog.messages == [
        "no lights: 'GPIO busy'",
        "resolved: no lights: 'GPIO busy'",
    ]
    assert world.supervisor.said == [
        "status: ready; no lights: 'GPIO busy'",
        "status: ready",
    ]


# -- reload


def test_bad_edit_keeps_the_last_good_settings_and_shows_a_light(world, caplog):
    door = world.door()
    world.settings.reload = True
    world.settings.renewed = ConfigError(["lock.kind: no such lock"])
    world.reader.shows = [None, KEN]

    door.step()
    door.step()
    world.clock.advance(10)
    door.step()

    assert "lock.kind: no such lock" in caplog.messages
    assert len(world.lock.sent) == 1
    assert world.lights.standing is Signal.CONFIG_BAD
    assert world.supervisor.said[:1] == ["reloading"]
    assert "ready" in world.supervisor.said


def test_good_edit_applies_from_the_next_card(world):
    door = world.door(config_of())
    other = World(clock=world.clock)
    world.settings.reload = True
    world.settings.renewed = config_of(card_of())
    world.settings.locks = {"lock": other.lock}
    world.reader.shows = [None, KEN]

    door.step()
    door.step()

    assert len(other.lock.sent) == 1
    assert world.lock.sent == []


def test_an_edit_waits_until_an_open_strike_has_shut(world):
    door = world.door()
    world.lock.is_holding, world.settings.reload = True, True

    door.step()
    assert "reloading" not in world.supervisor.said

    world.lock.is_holding = False
    door.step()
    assert "reloading" in world.supervisor.said


def test_corrected_edit_ends_the_light(world):
    door = world.door()
    world.settings.reload, world.settings.renewed = True, ConfigError(["x"])
    door.step()
    world.settings.reload, world.settings.renewed = True, None

    door.step()

    assert world.lights.standing is Signal.READY


# -- words


def test_journal_has_name_result_and_time(world):
    event = world.tap(KEN)

    assert describe(event) == (
        "granted: Ken Sato (04:A9:3C:71:5E:D2:84): unlock -> unlocked in 0 ms"
    )


def test_journal_escapes_control_characters(world):
    event = world.tap(KEN, config=config_of(card_of(holder="Ken\x1b[2J\nSato")))

    assert "\x1b" not in describe(event)
    assert "\n" not in describe(event)
    assert r"Ken\x1b[2J\nSato" in describe(event)
