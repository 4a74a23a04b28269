"""`why` where the clock is put forward or back: as who stands there the whole night.

The zones are the C library's, as on the Pi.  Run as a program it tries far more cases:
``test_daylight.py 3676``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache

import pytest

import doorpi
from doorpi import (
    Circumstances,
    Credential,
    Schedule,
    SystemClock,
    Uid,
    decide,
    next_turn,
)
from tests.helpers.values import replace

KEN = Uid("04A93C715ED284")
DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)

#: A day on which the clock is put, by zone: at 1, 2 or 3 o'clock, at midnight, over
#: midnight into the day before, by half an hour, over a whole day; and never.
CHANGES = {
    "Europe/Berlin": [date(2027, 3, 28), date(2026, 10, 25)],
    "Europe/London": [date(2027, 3, 28), date(2026, 10, 25)],
    "America/New_York": [date(2027, 3, 14), date(2026, 11, 1)],
    "America/Havana": [date(2027, 3, 14), date(2026, 11, 1)],
    "America/Santiago": [date(2026, 9, 6), date(2027, 4, 3)],
    "Asia/Beirut": [date(2027, 3, 28), date(2026, 10, 24)],
    "Australia/Lord_Howe": [date(2026, 10, 4), date(2027, 4, 4)],
    "Pacific/Apia": [date(2011, 12, 30), date(2011, 9, 24)],
    "Asia/Tokyo": [date(2026, 11, 18)],
}
BEFORE, WATCHED = 2 * DAY, 3 * DAY  # around the day


@dataclass
class Night:
    """What the clock on the wall shows at each minute around a change, really."""

    begins: datetime
    shows: list[datetime]


@cache
def night(zone: str, day: date) -> Night:
    """The zone must be in force."""
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC) - BEFORE
    minutes = (BEFORE + WATCHED + 3 * DAY) // MINUTE
    return Night(begins, [(begins + i * MINUTE).astimezone() for i in range(minutes)])


def in_zone(name: str) -> None:
    os.environ["TZ"] = name
    time.tzset()


@pytest.fixture(params=CHANGES)
def zone(request, monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def some_card(chance: random.Random, day: date) -> tuple[Credential, dict]:
    """Hours, closed days, dates and passback, most of them near the change."""

    def near() -> date:
        return day + DAY * chance.randint(-2, 2)

    spans = []
    for _ in range(chance.randint(1, 3)):
        start = chance.choice([0, 30, 60, 90, 120, 135, 150, 180, 1380, 1410, 600])
        length = chance.choice([15, 30, 45, 60, 120, 480, 1425])
        days = frozenset(chance.sample(range(7), chance.randint(1, 7)))
        end = (start + length) % 1440 or 1440
        spans.append(doorpi.Span(days=days, start_min=start, end_min=end))
    closed = frozenset(near() for _ in range(chance.choice([0, 0, 1])))
    schedule = Schedule(name="h", spans=tuple(spans), closed=closed)
    dates = sorted(near() for _ in range(2))
    if chance.random() < 0.4:  # with a time of day
        minute = chance.choice([30, 60, 119, 120, 137, 150, 180, 1435])
        dates[1] = doorpi.begins_at(dates[1]) + minute * MINUTE
    card = Credential(
        uid=KEN,
        holder="Ken Sato",
        schedule=chance.choice(["h", "h", None]),
        valid_from=chance.choice([None, None, dates[0]]),
        valid_until=chance.choice([None, None, dates[1]]),
    )
    return card, {"schedules": {"h": schedule}}


def differs(chance: random.Random, zone: str, day: date) -> str:
    """One case: a card, a time, and what the watcher says against what `why` says."""
    card, around = some_card(chance, day)
    seen = night(zone, day)
    start = chance.randrange((BEFORE + DAY) // MINUTE)
    at = seen.shows[start]
    if chance.random() < 0.4:
        moved = seen.begins + (start - chance.randint(0, 200)) * MINUTE
        around |= {
            "last_moved": moved,
            "passback_s": chance.choice([60.0, 3600.0, 9e3]),
        }
    when = Circumstances(at=at, local=SystemClock().local, **around)
    granted = decide(KEN, card, when).granted
    turn = next_turn(KEN, card, when)
    found = turn and turn[0].at

    first = None
    for shown in seen.shows[start + 1 :]:
        if decide(KEN, card, replace(when, at=shown)).granted is not granted:
            first = shown
            break
    last = seen.shows[-1]
    if first is None and (found is None or found > last):
        return ""
    if found == first and found.utcoffset() == first.utcoffset():
        return ""
    return f"{zone} {at}: watched {first}, told {found}; {card} {around}"


@pytest.mark.parametrize("nth", [0, 1])
def test_next_turn_is_what_a_person_waiting_for_it_sees(zone, nth):
    days = CHANGES[zone]
    chance = random.Random(f"{zone} {nth}")

    found = [differs(chance, zone, days[nth % len(days)]) for _ in range(3)]

    assert [words for words in found if words] == []


if __name__ == "__main__":
    count, failures = int(sys.argv[1]), []
    cases = [(zone, day) for zone, days in CHANGES.items() for day in days]
    for i, (zone, day) in enumerate(cases):
        in_zone(zone)
        chance = random.Random(f"{zone} {day} by hand")
        share = count // len(cases) + (i < count % len(cases))
        failures += filter(None, (differs(chance, zone, day) for _ in range(share)))
    print("\n".join(failures[:20]))
    print(f"{count} cases, {len(failures)} differ")
