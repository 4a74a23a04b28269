"""Every driver in a whole door, under every fault of its cloud, at every stage of a tap.

The door is the real one on fake ports, and so is the driver; its cloud is played.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import pytest

from doorpi import Event, Signal
from tests.fakes.cloud import STAGES, FakeCloud
from tests.fakes.locks import DRIVERS, driver_of
from tests.helpers.world import KEN, World

WINDOW_S = 10.0

#: The tables' words for times, in seconds after the card:
#: look   when the first status is there     retry  how much later a second one is asked
#: tired  when the status is given up        sent   when the command leaves
#: asked  when first asked what came of it   next   when asked again after a bad answer
#: done   when all goes well                 end    when asking is given up
#: hung   the same, where each answer hangs
TIMES = """
             look  retry  tired  sent  asked  next  done  end  hung
sesame          0      1      3     0      3     6     3   20    25
sesame-mini     0      1      3     0      0     2     2   30    35
switchbot       0      1      3     0      3     6     6   30    35
nuki-bridge     1      2      4     3      8    11     8   26    36
nuki-web        0      1      3     0      2     4     4   16    27
tedee           0      1      3     0      2     4     2   28    37
"""

#: What a tap on the locked door comes to.  In the first three columns the fault happens
#: once, in the others every time at that stage.  A cell says: the result; how many
#: commands reached the cloud (@ when the last one did, if not when "sent"); when the
#: light showed the result; where the bolt comes to rest, if not where the result says.
GENERAL = """
                                      status                             command                    confirm              || status                  command                   confirm
cut-before                          | unlocked 1 done                  | unsure 1 end             | unlocked 1 done      || unreachable 0 tired   | unsure 1 end            | unsure 1 end open
cut-after                           | unlocked 1 done                  | unlocked 1 done          | unlocked 1 done      || unreachable 0 tired   | unlocked 1 done         | unsure 1 end open
hang-before silent                  | unlocked 1@sent+6 done+6         | unsure 1 end+5           | unlocked 1 asked+5   || unreachable 0 11      | unsure 1 end+5          | unsure 1 hung open
hang-after drip                     | unlocked 1@sent+6 done+6         | unlocked 1 asked+5       | unlocked 1 asked+5   || unreachable 0 11      | unlocked 1 asked+5      | unsure 1 hung open
html empty list                     | unlocked 1@sent+retry done+retry | unsure 1 end             | unlocked 1 next      || unknown-state 0 tired | unsure 1 end            | unsure 1 end open
null wrong-types endless            | unlocked 1@sent+retry done+retry | unsure 1 end             | unlocked 1 next      || unknown-state 0 tired | unsure 1 end            | unsure 1 end open
500-before 502 503 504 190          | unlocked 1@sent+retry done+retry | unsure 1 end             | unlocked 1 next      || unreachable 0 tired   | unsure 1 end            | unsure 1 end open
500-after                           | unlocked 1@sent+retry done+retry | unlocked 1 done          | unlocked 1 next      || unreachable 0 tired   | unlocked 1 done         | unsure 1 end open
redirect 400 404 429                | refused 0 0                      | refused 1 sent           | unlocked 1 next      || refused 0 0           | refused 1 sent          | unsure 1 end open
busy-35 throttled                   | refused 0 0                      | refused 1 sent           | unlocked 1 next      || refused 0 0           | refused 1 sent          | unsure 1 end open
not-yet 152 160 low-battery-refused | refused 0 0                      | refused 1 sent           | unlocked 1 next      || refused 0 0           | refused 1 sent          | unsure 1 end open
401 403 quota blocked               | refused 0 0                      | refused 1 sent           | unsure 1 asked open  || refused 0 0           | refused 1 sent          | unsure 1 asked open
429-retry-after                     | unlocked 1@sent+2 done+2         | unlocked 2@sent+2 done+2 | unlocked 1 next      || refused 0 4           | refused 3@sent+4 sent+4 | unsure 1 end open
busy                                | unlocked 1@sent+3 done+3         | unlocked 2@sent+3 done+3 | unlocked 1 next      || refused 0 6           | refused 3@sent+6 sent+6 | unsure 1 end open
offline offline-hub uncalibrated    | unknown-state 0 look             | unsure 1 end             | unlocked 1 next      || unknown-state 0 look  | unsure 1 end            | unsure 1 end open
offline-404                         | unknown-state 0 look             | unreachable 1 sent       | unlocked 1 next      || unknown-state 0 look  | unreachable 1 sent      | unsure 1 end open
cloud-service-off                   | unknown-state 0 look             | unlocked 1 done          | unlocked 1 next      || unknown-state 0 look  | unlocked 1 done         | unsure 1 end open
moving                              | unlocked 1@sent+2 done+2         | unlocked 1 done          | unlocked 1 next      || unknown-state 0 8     | unlocked 1 done         | unsure 1 end open
jammed                              | unknown-state 0 look             | refused 1 next jammed    | unlocked 1 next      || unknown-state 0 look  | refused 1 next jammed   | unsure 1 end open
dropped wrong-secret                | unlocked 1 done                  | unsure 1 end             | unlocked 1 done      || unlocked 1 done       | unsure 1 end            | unlocked 1 done
late                                | unlocked 1 done                  | unlocked 1 20            | unlocked 1 done      || unlocked 1 done       | unlocked 1 20           | unlocked 1 done
stale                               | unlocked 1 asked                 | unlocked 1 done          | unlocked 1 next      || unlocked 1 asked      | unlocked 1 done         | unsure 1 end open
low-battery                         | unlocked 1 done                  | unlocked 1 done          | unlocked 1 done      || unlocked 1 done       | unlocked 1 done         | unlocked 1 done
"""

#: Where a vendor differs; "=" is the general cell.
DIFFERENCES = {
    "sesame": """
                                      status                             command                    confirm              || status                  command                   confirm
jammed                              | =                                | unsure 1 end jammed      | =                    || =                     | unsure 1 end jammed     | =
404                                 | =                                | unreachable 1 sent       | =                    || =                     | unreachable 1 sent      | =
moving                              | unknown-state 0 look             | =                        | =                    || unknown-state 0 look  | =                       | =
""",
    # It proves that a command had no effect, so that is sent again.  Its task goes on
    # whatever becomes of `locked`.
    "sesame-mini": """
                                      status                             command                    confirm              || status                  command                   confirm
cut-before                          | =                                | unlocked 2@3 done+3      | =                    || =                     | unsure 2@3 end+3        | =
html empty list                     | =                                | unlocked 2@3 done+3      | =                    || =                     | unsure 2@3 end+3        | =
null wrong-types endless            | =                                | unlocked 2@3 done+3      | =                    || =                     | unsure 2@3 end+3        | =
500-before 502 503 504              | =                                | unlocked 2@3 done+3      | =                    || =                     | unsure 2@3 end+3        | =
hang-before silent                  | =                                | unlocked 2@8 done+8      | =                    || =                     | unsure 2@8 end+13       | =
busy                                | unlocked 1@2 done+2              | unlocked 2@2 done+2      | =                    || refused 0 4           | refused 3@4 4           | =
offline                             | unlocked 1@3 done+3              | refused 1 10             | =                    || unknown-state 0 3     | refused 1 10            | unlocked 1 done
jammed                              | unlocked 1 done                  | =                        | =                    || unlocked 1 done       | =                       | unlocked 1 done
late                                | =                                | unlocked 1 17            | =                    || =                     | unlocked 1 17           | =
stale                               | =                                | =                        | =                    || =                     | =                       | unlocked 1 done
""",
    "switchbot": """
                                      status                             command                    confirm              || status                  command                   confirm
offline offline-hub                 | unreachable 0 0                  | unreachable 1 0          | =                    || unreachable 0 0       | unreachable 1 0         | =
jammed                              | =                                | =                        | refused 1 asked open || =                     | =                       | refused 1 asked open
""",
    # It proves that a command had no effect, too.  No connection is kept, so a cut is no
    # better than a 500; and a pause before each request leaves no time for a hang.
    "nuki-bridge": """
                                      status                             command                    confirm              || status                  command                   confirm
cut-before                          | unlocked 1@5 done+2              | unlocked 2@8 done+5      | unlocked 1 next      || =                     | unsure 2@8 end+3        | =
cut-after                           | unlocked 1@5 done+2              | unlocked 1 done+1        | unlocked 1 next      || =                     | unlocked 1 done+1       | =
hang-before silent                  | unreachable 0 9                  | unsure 1 46              | unlocked 1 asked+10  || unreachable 0 9       | unsure 1 46             | =
hang-after drip                     | unreachable 0 9                  | unlocked 1 28            | unlocked 1 asked+10  || unreachable 0 9       | unlocked 1 28           | =
html empty list                     | =                                | unlocked 2@8 done+5      | =                    || =                     | unsure 2@8 end+3        | =
null endless                        | =                                | unlocked 2@8 done+5      | =                    || =                     | unsure 2@8 end+3        | =
wrong-types                         | =                                | unlocked 2@8 done+5      | =                    || unreachable 0 tired   | unsure 2@8 end+3        | =
500-before 502 504                  | =                                | unlocked 2@8 done+5      | =                    || =                     | unsure 2@8 end+3        | =
500-after                           | =                                | unlocked 1 done+1        | =                    || =                     | unlocked 1 done+1       | =
503                                 | unlocked 1@sent+3 done+3         | unlocked 2@sent+3 done+3 | =                    || refused 0 6           | refused 3@sent+6 sent+6 | =
404                                 | refused 0 2                      | refused 1 sent+2         | =                    || refused 0 2           | refused 1 sent+2        | =
offline                             | unreachable 0 0                  | unreachable 1 sent       | =                    || unreachable 0 0       | unreachable 1 sent      | =
out-of-radio                        | unlocked 1@6 done+3              | unlocked 2@9 done+6      | unlocked 1 done      || unreachable 0 7       | unsure 2@9 31           | unlocked 1 done
uncalibrated dropped                | =                                | unsure 1 23              | =                    || =                     | unsure 1 23             | =
jammed                              | =                                | refused 1 done+1 jammed  | =                    || =                     | refused 1 done+1 jammed | refused 1 next open
late                                | =                                | unlocked 1 23            | =                    || =                     | unlocked 1 23           | =
stale                               | locked 1 done                    | =                        | =                    || locked 1 done         | =                       | unlocked 1 next
moving                              | unlocked 1@sent+3 done+3         | =                        | =                    || unknown-state 0 10    | =                       | =
""",
    "nuki-web": """
                                      status                             command                    confirm              || status                  command                   confirm
jammed                              | =                                | =                        | refused 1 asked open || =                     | =                       | refused 1 asked open
late                                | =                                | unsure 1 end open        | =                    || =                     | unsure 1 end open       | =
""",
    # The end of an operation is the lock's word; without its id, the lock's state may
    # be asked for at 21 s.
    "tedee": """
                                      status                             command                    confirm              || status                  command                   confirm
cut-after 500-after                 | =                                | unlocked 1 21            | =                    || =                     | unlocked 1 21           | =
hang-after drip                     | =                                | unlocked 1 21            | =                    || =                     | unlocked 1 21           | =
late                                | =                                | unlocked 1 21            | =                    || =                     | unlocked 1 21           | =
quota                               | =                                | =                        | unlocked 1 next      || =                     | =                       | unsure 1 end open
400                                 | =                                | unreachable 1 sent       | =                    || =                     | unreachable 1 sent      | =
offline                             | =                                | =                        | unlocked 1 done      || =                     | =                       | unlocked 1 done
moving                              | unknown-state 0 look             | =                        | unlocked 1 done      || unknown-state 0 look  | =                       | unlocked 1 done
uncalibrated                        | =                                | unlocked 1 done locked   | unlocked 1 done      || =                     | unlocked 1 done locked  | unlocked 1 done
jammed                              | =                                | refused 1 done jammed    | unlocked 1 done      || =                     | refused 1 done jammed   | unlocked 1 done
stale                               | =                                | =                        | unlocked 1 done      || =                     | =                       | unlocked 1 done
""",
}  # fmt: skip

#: A light that lies, and why nothing can be done: a lock that forgot its calibration
#: between a status and the command says that all went well.
LIES = {("tedee", "uncalibrated", "command")}

#: What the person sees for a result.
LIGHTS = {
    "unlocked": Signal.UNLOCKED,
    "locked": Signal.LOCKED,
    "refused": Signal.FAULT,
    "unreachable": Signal.FAULT,
    "unknown-state": Signal.FAULT,
    "unsure": Signal.UNSURE,
}


# -- reading the tables


@dataclass(frozen=True)
class Ending:
    """What a tap came to; times are seconds after the card."""

    result: str
    received: int
    sent_s: float | None
    shown_s: float
    bolt: str  # where it comes to rest


def cells(table: str) -> Iterator[tuple[tuple[str, str, float], str]]:
    """((fault, stage, how often), cell), one by one."""
    columns = [(stage, times) for times in (1, inf) for stage in STAGES]
    for row in table.strip("\n").split("\n")[1:]:
        faults, *found = (part.strip() for part in row.replace("||", "|").split("|"))
        for fault in faults.split():
            for column, cell in zip(columns, found, strict=True):
                yield (fault, *column), cell


def times_of(kind: str) -> dict[str, float]:
    head, *rows = (row.split() for row in TIMES.strip().split("\n"))
    times = next((row[1:] for row in rows if row[0] == kind), None)
    return dict(zip(head, map(float, times), strict=True)) if times else {}


def test_tables_have_a_row_of_times_for_each_driver():
    named = {row.split()[0] for row in TIMES.strip().split("\n")[1:]}

    assert named == set(DRIVERS), "a row of TIMES for each driver"
    assert DIFFERENCES.keys() <= DRIVERS.keys()


def read(cell: str, times: dict[str, float]) -> Ending:
    def seconds(text: str) -> float:
        return sum(
            times[part] if part in times else float(part) for part in text.split("+")
        )

    result, commands, shown, *rest = cell.split()
    count, _, sent = commands.partition("@")
    implied = "open" if result == "unlocked" else "locked"
    return Ending(
        result,
        received=int(count),
        sent_s=seconds(sent or "sent") if int(count) else None,
        shown_s=seconds(shown),
        bolt=(rest or [implied])[0].replace("open", "unlocked"),
    )


def endings() -> dict[tuple[str, str, str, float], Ending]:
    """What is expected of (kind, fault, stage, how often)."""
    general, found = dict(cells(GENERAL)), {}
    for kind, cloud in DRIVERS.items():
        own = dict(cells(DIFFERENCES.get(kind, "")))
        if not (times := times_of(kind)):
            continue  # a test says so
        for fault in cloud.faults:
            for at in [(fault, stage, often) for stage in STAGES for often in (1, inf)]:
                cell = own.get(at, "=")
                found[kind, *at] = read(general[at] if cell == "=" else cell, times)
    return found


ENDINGS = endings()


def test_tables_have_no_row_that_is_never_used():
    general = dict(cells(GENERAL))
    played = {fault for cloud in DRIVERS.values() for fault in cloud.faults}

    assert {fault for fault, *_ in general} <= played
    for kind, table in DIFFERENCES.items():
        times = times_of(kind)
        for at, cell in cells(table):
            assert at[0] in DRIVERS[kind].faults
            if cell != "=" and at in general:
                assert read(cell, times) != read(general[at], times), (kind, at)


def test_transient_faults_end_unlocked():
    """The storm counts on it."""
    transient = [
        (kind, fault, stage, 1)
        for kind, cloud in DRIVERS.items()
        for fault, played in cloud.faults.items()
        for stage in played.transient_at
    ]

    assert len(transient) > 200
    assert {ENDINGS[case].result for case in transient} == {"unlocked"}


# -- playing them


@dataclass(frozen=True)
class Tap:
    """A card at a door that was idle before, and what came of it."""

    world: World
    cloud: FakeCloud
    card_at: float

    @property
    def event(self) -> Event:
        [event] = self.world.store.events.values()
        return event

    @property
    def shown_at(self) -> float:
        return self.world.lights.shown[-1][0]

    @property
    def ending(self) -> Ending:
        sent = [at for at, _ in self.cloud.received]
        return Ending(
            str(self.event.result),
            received=len(sent),
            sent_s=round(sent[-1] - self.card_at, 3) if sent else None,
            shown_s=round(self.shown_at - self.card_at, 3),
            bolt=self.cloud.bolt.at(self.shown_at + 60.0),
        )


def tap(kind: str, *faults: tuple[str, str, float]) -> Tap:
    world = World()
    cloud = DRIVERS[kind](world.clock)
    world.lock = driver_of(cloud)
    door = world.door()
    door.step()  # the connection is opened ahead
    for fault, stage, times in faults:
        cloud.fail(fault, at=stage, times=times)
        if (fault, stage) == ("stale", "status"):
            cloud.bolt.is_found("unlocked")
            world.clock.advance(60.0)
    tapped = Tap(world, cloud, world.clock.monotonic())
    world.reader.shows = [KEN]
    while world.reader.shows or not door.is_idle:
        door.step()
    world.lock.close()
    cloud.close()
    return tapped


FAULTS = [(kind, fault) for kind, cloud in DRIVERS.items() for fault in cloud.faults]


@pytest.mark.parametrize("kind_fault", FAULTS, ids="/".join)
def test_tap_ends_as_the_tables_say_and_the_light_is_true(kind_fault):
    kind, fault = kind_fault
    for stage, times in [(stage, times) for stage in STAGES for times in (1, inf)]:
        at = f"{fault} at {stage}, {times} times"
        expected = ENDINGS[kind, fault, stage, times]
        tapped = tap(kind, (fault, stage, times))
        event, ending = tapped.event, tapped.ending

        assert ending == expected, at
        assert tapped.cloud.late_ones() == [], at
        received = tapped.cloud.received
        assert all(when - tapped.card_at < WINDOW_S for when, _ in received), at
        assert {event.command} == ({command for _, command in received} or {None}), at
        is_low = (fault, stage) == ("low-battery", "status")
        is_well = event.result in ("unlocked", "locked")
        assert bool(event.detail) == (is_low or not is_well), at
        assert event.latency_ms == round(ending.shown_s * 1000), at
        low = [Signal.LOW_BATTERY] * is_low
        shown = [(when, signals[:-1]) for when, signals in tapped.world.lights.shown]
        assert shown[1:] == [
            (tapped.card_at, (Signal.WORKING,)),
            (tapped.shown_at, (LIGHTS[ending.result], *low)),
        ], at
        assert tapped.world.lights.standing is Signal.READY, at
        place = tapped.cloud.bolt.at(tapped.shown_at)
        is_true = not is_well or ending.result == place
        assert is_true == ((kind, fault, stage) not in LIES), at


@pytest.mark.parametrize(
    "fault",
    ["cut-before", "cut-after", "hang-before", "hang-after", "drip", "silent"],
)
@pytest.mark.parametrize("kind", DRIVERS)
def test_tap_is_unsure_when_the_line_dies_at_the_command(kind, fault):
    tapped = tap(kind, (fault, "command", inf), (fault, "confirm", inf))

    assert tapped.event.result == "unsure"
    assert len(tapped.cloud.received) == 1
    assert tapped.ending.shown_s < 60.0


# -- what the owner reads

UNSURE = "not confirmed within {} s: {}".format
UNKNOWN = "state unknown: {}".format
JAMMED, BLOCKED = "the lock is jammed", "the lock's motor is blocked"
UNCALIBRATED, OFFLINE = "the lock is not calibrated", "the lock is offline"
NO_MODULE = "the lock's WiFi module is offline"
NO_HUB = "statusCode 171 hub offline: the lock or its hub is offline"
NO_LOCK = "statusCode 161 device offline: the lock or its hub is offline"
LOST = "HTTP 410: the bridge has lost the lock"
NO_RADIO = "the bridge could not reach the lock"
NO_BRIDGE = "the lock is not connected to its bridge"

#: What stands in the event when it is so at the first status, and when it comes to be
#: so with the command; "": the tap ends well.
# fmt: off
DETAILS = {
    ("sesame", "jammed"):                   (UNKNOWN("the lock says 'moved'"), UNSURE(20, "the lock says 'moved'")),
    ("sesame", "offline"):                  (UNKNOWN(NO_MODULE), UNSURE(20, NO_MODULE)),
    ("sesame-mini", "jammed"):              ("", "the lock failed: MOTOR_JAMMED"),
    ("sesame-mini", "offline"):             (UNKNOWN("the lock does not answer its access point"), "the lock failed: NOT_RESPONSIVE"),
    ("sesame-mini", "low-battery-refused"): ("HTTP 400 LOW_BATTERY", "HTTP 400 LOW_BATTERY"),
    ("switchbot", "jammed"):                (UNKNOWN(JAMMED), JAMMED),
    ("switchbot", "offline"):               (NO_LOCK, NO_LOCK),
    ("switchbot", "offline-hub"):           (NO_HUB, NO_HUB),
    ("switchbot", "uncalibrated"):          (UNKNOWN(UNCALIBRATED), UNSURE(30, UNCALIBRATED)),
    ("nuki-bridge", "jammed"):              (UNKNOWN(BLOCKED), BLOCKED),
    ("nuki-bridge", "offline"):             (LOST, LOST),
    ("nuki-bridge", "out-of-radio"):        (NO_RADIO, f"{NO_RADIO}; {UNSURE(21, NO_RADIO)}"),
    ("nuki-bridge", "uncalibrated"):        (UNKNOWN(UNCALIBRATED), UNSURE(20, UNCALIBRATED)),
    ("nuki-web", "jammed"):                 (UNKNOWN(BLOCKED), BLOCKED),
    ("nuki-web", "offline"):                (UNKNOWN(OFFLINE), UNSURE(16, OFFLINE)),
    ("nuki-web", "uncalibrated"):           (UNKNOWN(UNCALIBRATED), UNSURE(16, UNCALIBRATED)),
    ("tedee", "jammed"):                    (UNKNOWN(JAMMED), "the lock failed: result 1"),
    ("tedee", "offline"):                   (UNKNOWN(NO_BRIDGE), "not confirmed within 28 s"),
    ("tedee", "uncalibrated"):              (UNKNOWN(UNCALIBRATED), ""),
}
# fmt: on


@pytest.mark.parametrize("case", DETAILS, ids="/".join)
def test_detail_of_a_lock_fault_is_in_event_and_journal(case, caplog):
    caplog.set_level("INFO")
    kind, fault = case

    before = tap(kind, (fault, "status", inf)).event
    after = tap(kind, (fault, "command", inf), (fault, "confirm", inf)).event

    assert (before.detail, after.detail) == DETAILS[case]
    assert all(detail in caplog.text for detail in DETAILS[case] if detail)
