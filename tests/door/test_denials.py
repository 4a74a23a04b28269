"""A crowd of the denied: bounded on the disk, and a pause at the reader."""

from __future__ import annotations

from datetime import timedelta

import pytest

from doorpi import (
    Denials,
    Door,
    Event,
    Reason,
    Role,
    Signal,
    StoreError,
    Uid,
    unknown_from,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, World, card_of, config_of

ANNA, PHONE = Uid("D3C2B1A0"), Uid("08112233")


def denial(uid: Uid = STRANGER, holder: str = "", at: float = 0.0, **changes) -> Event:
    event = {"reason": Reason.EXPIRED if holder else Reason.NOT_FOUND} | changes
    return Event(at=NOON + timedelta(seconds=at), uid=uid, holder=holder, **event)


def stored(denials: Denials, *events: tuple[float, Event]) -> list[Event]:
    """Those that get a line of their own."""
    lines = []
    for now, event in events:
        if not denials.is_only_counted(event, now):
            denials.stored(event, now)
            lines.append(event)
    return lines


def every(seconds: float, count: int, event: Event) -> list[tuple[float, Event]]:
    return [(1000 + i * seconds, event) for i in range(count)]


def test_repeats_get_three_lines_and_are_then_counted():
    denials = Denials()

    lines = stored(denials, *every(5, 10, denial()))

    assert len(lines) == 3
    assert [each.words for each in denials.over()] == [
        "7 more until 2026-11-18 12:00:00"
    ]
    assert denials.over() == []  # told once


def test_repeats_are_reported_after_a_minute_without_the_card():
    denials = Denials()
    stored(denials, *every(5, 10, denial()))

    assert denials.over(1000 + 45 + 59.9) == []
    (ended,) = denials.over(1000 + 45 + 60)
    assert (ended.lines, ended.more) == (3, 7)


def test_repeats_get_three_lines_again_after_a_minute():
    denials = Denials()
    stored(denials, *every(5, 10, denial()))

    assert len(stored(denials, *((1200.0, denial()) for _ in range(5)))) == 3


def test_repeats_are_reported_with_their_end():
    denials = Denials()
    stored(denials, *((1000 + at, denial(at=at)) for at in (0, 5, 10, 15, 50)))

    assert denials.over()[0].words == "2 more until 2026-11-18 12:00:50"


def test_repeats_of_two_users_of_the_chat_are_counted_apart():
    """Neither has a UID."""
    denials = Denials()
    ken, mika = (denial(None, name, source="chat") for name in ("Ken", "Mika"))

    lines = stored(denials, *every(5, 5, ken), (1020.0, mika))

    assert [event.holder for event in lines] == ["Ken", "Ken", "Ken", "Mika"]


def test_repeats_once_a_minute_get_a_line_each():
    assert len(stored(Denials(), *every(60, 20, denial(holder="Jo Guest")))) == 20


def test_repeats_are_counted_by_reason():
    denials = Denials()
    stored(denials, *every(1, 9, denial(holder="Jo")))

    lines = stored(denials, (1010, denial(holder="Jo", reason=Reason.NOT_ENABLED)))

    assert len(lines) == 1


def test_unknown_cards_get_30_lines_and_one_every_two_minutes():
    denials = Denials()
    crowd = [denial(Uid(f"{number:08X}")) for number in range(1, 201)]

    at_once = stored(denials, *((1000.0, event) for event in crowd[:100]))
    later = stored(denials, *((1000.0 + 240, event) for event in crowd[100:]))

    assert (len(at_once), len(later)) == (30, 2)
    told = [each.words for each in denials.over()]
    assert told == [
        "70 of other cards until 2026-11-18 12:00:00",
        "98 of other cards until 2026-11-18 12:00:00",
    ]


def test_unknown_cards_take_no_lines_from_listed_people():
    denials = Denials()
    stored(denials, *((1000.0, denial(Uid(f"{n:08X}"))) for n in range(1, 60)))

    assert len(stored(denials, (1000.0, denial(ANNA, "Anna")))) == 1


def test_flood_of_a_year_is_bounded():
    """One new card every two seconds; the clock is played."""
    denials, lines = Denials(), 0
    seconds = 86_400
    for now in range(0, seconds, 2):
        lines += len(stored(denials, (float(now), denial(Uid(f"{now + 1:08X}")))))
        denials.over(float(now))

    assert lines == 30 + seconds // 120 - 1
    assert len(denials._open) <= 1 + 60 / 2


def test_pause_begins_after_ten_denials_in_a_minute():
    denials = Denials()

    assert [denials.pause_begins(i * 6.0) for i in range(10)] == [False] * 9 + [True]
    assert not denials.pause_begins(60.0)


def test_pause_needs_ten_denials_within_a_minute():
    denials = Denials()

    assert not any(denials.pause_begins(i * 6.7) for i in range(100))


# -- at the door


def crowd_before(world: World, uids: list[Uid]) -> Door:
    """Each for one look, with a second or so before the next one."""
    door = world.door(config_of(card_of()))
    world.reader.shows = [shown for uid in uids for shown in (uid, *[None] * 12)]
    for _ in world.reader.shows[:]:
        door.step()
    return door


def test_pause_shows_the_denied_light(world, caplog):
    crowd_before(world, [Uid(f"{n:08X}") for n in range(1, 11)])

    assert world.lights.shown[-1][1] == (*[Signal.DENIED] * 8, Signal.READY)
    assert (
        "10 denials in a minute: further ones are not answered for 15 s"
        in caplog.messages
    )


def test_pause_shows_no_other_light(world):
    config = config_of(card_of())
    config = replace(config, lock=replace(config.lock, relock_after_s=20.0))
    door = world.door(config)
    crowd = [Uid(f"{number:08X}") for number in range(1, 11)]
    world.reader.shows = [
        shown for uid in (KEN, *crowd) for shown in (uid, *[None] * 12)
    ]
    while len(world.lock.sent) < 2:
        door.step()

    began_at = next(at for at, signs in world.lights.shown if len(signs) == 9)
    shown_at, (first, *then, last) = world.lights.shown[-1]
    assert (first, {*then}, last) == (Signal.LOCKED, {Signal.DENIED}, Signal.READY)
    seconds = sum(config.patterns[sign].duration_s for sign in (first, *then))
    assert 15 <= shown_at + seconds - began_at < 17


CROWD = [Uid(f"{number:08X}") for number in range(1, 11)]


def show(world: World, door: Door, *uids: Uid) -> None:
    world.reader.shows = [shown for uid in uids for shown in (uid, *[None] * 12)]
    while world.reader.shows:
        door.step()


def test_pause_ends_when_a_member_is_served(world):
    door = crowd_before(world, CROWD)

    show(world, door, KEN)

    assert len(world.lock.sent) == 1
    assert world.lights.shown[-2][1][0] is Signal.WORKING
    assert world.lights.shown[-1][1] == (Signal.UNLOCKED, Signal.READY)


def test_pause_slows_guessing_and_delays_a_member_half_a_second(world):
    door = crowd_before(world, CROWD)
    began_at, before = world.clock.monotonic(), world.reader.senses
    world.reader.shows = [Uid(f"{number:08X}") for number in range(11, 500)]
    while world.clock.monotonic() < began_at + 10:
        door.step()
    assert world.reader.senses - before <= 10 / Denials.slow_s + 1

    world.reader.shows, began_at = [Uid("00000500"), KEN], world.clock.monotonic()
    while not world.lock.sent:
        door.step()

    assert world.clock.monotonic() - began_at < 2 * Denials.slow_s + 0.5


def test_pause_needs_ten_denials_after_a_member(world):
    door = crowd_before(world, [*CROWD[:9], KEN])

    show(world, door, *(Uid(f"{number:08X}") for number in range(11, 20)))
    assert not [signs for _, signs in world.lights.shown if len(signs) > 2]

    show(world, door, Uid("00000020"))
    assert [signs for _, signs in world.lights.shown if len(signs) > 2]


@pytest.mark.parametrize("uid", [STRANGER, ANNA, CROWD[0], PHONE])
def test_pause_counts_denials_without_an_answer(world, uid):
    door = world.door(config_of(card_of(), card_of(ANNA, "Anna", enabled=False)))
    show(world, door, *CROWD)
    shown, lines, kept = (
        len(world.lights.shown),
        len(world.store.events),
        {**world.store.kept},
    )

    show(world, door, uid)

    assert (len(world.lights.shown), len(world.store.events)) == (shown, lines)
    assert world.store.kept == kept  # nor is it a card for `allow`
    world.clock.advance(100)
    door.step()
    assert sum("1 " in event.detail for event in world.store.events.values()) == 1


@pytest.mark.parametrize(("after_s", "is_answered"), [(14.0, False), (15.1, True)])
def test_pause_ends_and_denials_are_answered_again(world, after_s, is_answered):
    door = crowd_before(world, CROWD)
    began_at, _ = world.lights.shown[-1]
    world.reader.shows = [STRANGER]

    world.clock.advance(began_at + after_s - world.clock.monotonic())
    beats = world.supervisor.beats
    door.step()

    assert (len(world.store.events) == 11) is is_answered
    assert world.supervisor.beats > beats


def test_pause_ends_when_a_master_card_is_presented(world):
    door = world.door(config_of(card_of(ANNA, "Boss", role=Role.MASTER)))
    show(world, door, *CROWD)

    show(world, door, ANNA, STRANGER)

    assert list(world.store.cards) == [STRANGER]


def test_repeats_are_counted_on_disk_and_in_the_journal(world, caplog):
    caplog.set_level("INFO")
    door = world.door(config_of())
    for _ in range(6):
        world.reader.shows = [STRANGER, *[None] * 80]
        while world.reader.shows:
            door.step()

    assert len(world.store.events) == 3
    assert [event.detail for event in world.store.events.values()] == [""] * 3
    world.clock.advance(60)
    door.step()

    *first, last = world.store.events.values()
    assert [event.detail for event in first] == ["", ""]
    assert last.detail.startswith("3 more until 2026-11-18 12:00:")
    assert f"not-found ({last.detail})" in caplog.messages[-1]


def test_repeats_are_written_when_the_door_stops(world):
    door = world.door(config_of())
    world.reader.shows = [s for _ in range(5) for s in (STRANGER, *[None] * 80)]
    world.clock.stop_at = 1000 + 41.0

    with pytest.raises(BaseException, match="15"):
        door.run()

    assert [bool(event.detail) for event in world.store.events.values()] == [
        False, False, True,
    ]  # fmt: skip


def test_unknown_card_is_kept_for_allow(world):
    door = world.door(config_of(card_of(enabled=False)))
    for uid in (STRANGER, PHONE, KEN):
        world.reader.shows = [uid, *[None] * 12]
        while world.reader.shows:
            door.step()

    told = world.store.kept["unknown"]
    assert list(unknown_from(told, "boot-1", 1100)) == [STRANGER, PHONE]
    assert 95 < unknown_from(told, "boot-1", 1100)[PHONE] < 100
    assert unknown_from(told, "boot-2", 1100) == {}


def test_unknown_cards_are_kept_up_to_four(world):
    door = world.door(config_of())
    show(world, door, STRANGER, ANNA, STRANGER, *CROWD[:3])

    kept = unknown_from(world.store.kept["unknown"], "boot-1", 1100)
    assert list(kept) == [STRANGER, *CROWD[:3]]


def test_denials_go_on_with_a_broken_disk(world):
    world.store.broken = "disk I/O error"
    door = world.door(config_of())
    world.reader.shows = [s for _ in range(5) for s in (STRANGER, *[None] * 80)]
    while world.reader.shows:
        door.step()
    world.clock.advance(60)

    door.step()

    assert world.lights.signals.count(Signal.DENIED) == 5
    with pytest.raises(StoreError):
        world.store.find(KEN)
