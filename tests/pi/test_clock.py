"""A clock that jumps: nothing that is waited for, and no order of events, depends on it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import doorpi
from doorpi import (
    Command,
    Event,
    LockConfig,
    NotSent,
    Progress,
    Reason,
    Result,
    SqliteStore,
    SystemClock,
)
from tests.helpers.processes import KEN_CARD, DoorProcess, environment, write_config
from tests.helpers.values import replace
from tests.helpers.world import (
    JST,
    KEN,
    MIKA,
    NOON,
    STRANGER,
    FakeClock,
    FakeStore,
    World,
    card_of,
    config_of,
)


class JumpingClock(FakeClock):
    """Each look at the time of day finds another century's; the seconds go on."""

    def __init__(self) -> None:
        super().__init__()
        self._chance = random.Random(11)

    def now(self) -> datetime:
        return self.at + timedelta(days=self._chance.uniform(-20_000, 20_000))


def config(**lock):
    return replace(config_of(card_of()), lock=LockConfig(**lock))


def test_waiting_never_depends_on_the_time_of_day():
    """A tap with retries, a confirmation that takes long, locking again after a minute:
    the same seconds as with a clock that goes right."""
    stories = []
    for clock in (FakeClock(), JumpingClock()):
        world = World(clock=clock)
        world.lock.statuses = [NotSent("no network")]
        world.lock.progress = [Progress.PENDING] * 7
        door = world.door(config(relock_after_s=60.0))
        world.reader.shows = [KEN]
        while clock.t < 1200.0:
            door.step()
        stories.append((world.lock.sent, [light[1][0] for light in world.lights.shown]))

    assert [command for _, command in stories[0][0]] == [Command.UNLOCK, Command.LOCK]
    assert stories[1] == stories[0]


def test_events_keep_their_order_and_their_chain_when_the_clock_goes_back(
    world, tmp_path
):
    world.door()
    store = SqliteStore(tmp_path / "doorpi.db")
    world.equipment.people, world.equipment.events = store.people, store.events
    door = world.door_on_equipment(config())
    years = (2026, 1970, 2099, 2026)
    for year in years:
        world.clock.at = NOON.replace(year=year)
        world.reader.shows = [KEN, *[None] * 9]
        while world.reader.shows:
            door.step()

    events = list(store.events.read())
    assert [event.at.year for event in events] == list(years)
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert {event.result for event in events} <= {Result.UNLOCKED, Result.LOCKED}
    assert store.events.verify() is None
    store.close()


def test_a_card_that_is_valid_until_2040_is_so_on_a_computer_of_32_bits(world):
    """Dates are compared as dates: no time stamp that ends in 2038."""
    card = card_of(valid_from=date(2039, 1, 1), valid_until=date(2040, 12, 31))
    reasons = []
    for year in (2038, 2039, 2040, 2041):
        world.clock.at = datetime(year, 6, 1, 12, 0, tzinfo=JST)
        reasons.append(world.tap(KEN, config=config_of(card)).reason)

    assert reasons == [
        Reason.NOT_ACTIVE,
        Reason.GRANTED,
        Reason.GRANTED,
        Reason.EXPIRED,
    ]


def test_a_clock_that_is_not_set_refuses_dates_and_when_it_is_set_takes_them(world):
    card = card_of(valid_until=date(2027, 1, 1))
    world.clock.set = False
    before = world.tap(KEN, config=config_of(card)).reason
    world.clock.set = True

    after = world.tap(KEN, config=config_of(card)).reason

    assert (before, after) == (Reason.CLOCK_NOT_SET, Reason.GRANTED)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


IN_1970 = datetime(1970, 1, 1, 0, 5, tzinfo=JST)
LAX = {"require_synced_clock": False}


def test_a_clock_older_than_the_log_is_not_believed_though_it_need_not_be_set(world):
    """A Pi that was without power wakes up in 1970, or where it was switched off; a
    guest whose last day is over must not get in by that, not by tapping again, not
    after a restart."""
    guest = card_of(valid_until=NOON.date() - timedelta(days=17))
    config = config_of(guest, card_of(MIKA, "Mika Mori"), **LAX)
    world.clock.set = False
    assert world.tap(MIKA, config=config).reason is Reason.GRANTED  # a row of today
    world.clock.at = IN_1970

    reasons = [world.tap(KEN, config=config).reason for _ in range(3)]  # a start each

    assert reasons == 3 * [Reason.CLOCK_NOT_SET]
    assert world.tap(MIKA, config=config).reason is Reason.GRANTED  # has no dates


def test_a_clock_that_is_set_is_believed_whatever_the_log_says(world):
    config = config_of(card_of(valid_until=NOON.date()), **LAX)
    world.clock.at = NOON + timedelta(days=4000)  # somebody set it wrong
    assert world.tap(KEN, config=config).reason is Reason.EXPIRED
    world.clock.at = NOON

    assert world.tap(KEN, config=config).reason is Reason.GRANTED
    world.clock.set = False
    assert world.tap(KEN, config=config).reason is Reason.CLOCK_NOT_SET


def test_a_trusted_clock_that_was_set_back_a_little_is_believed(world):
    config = config_of(card_of(valid_until=NOON.date()), **LAX)
    world.clock.set = False
    world.tap(KEN, config=config)
    world.clock.at -= timedelta(seconds=50)

    assert world.tap(KEN, config=config).reason is Reason.GRANTED


def test_the_newest_time_is_found_whatever_came_after_it(store):
    assert store.events.newest_at() is None
    for at in (NOON, IN_1970, NOON - timedelta(days=1)):
        store.events.record(Event(at=at, uid=KEN, holder="Ken", reason=Reason.EXPIRED))

    assert store.events.newest_at() == NOON


def test_unset_clock_is_logged_at_the_start_and_again_when_set(world, caplog):
    caplog.set_level("INFO")
    dated, plain = card_of(valid_until=NOON.date()), card_of(MIKA, "Mika Mori")
    world.store.cards[STRANGER] = card_of(STRANGER, "Yui", schedule="office")
    world.clock.set = False
    world.clock.stop_at = world.clock.t + 60.0
    door = world.door(config_of(dated, plain))

    def set_after_half_a_minute() -> None:
        world.clock.set = world.clock.stop_at - world.clock.t < 30.0

    world.supervisor.alive = set_after_half_a_minute
    with pytest.raises(doorpi.Stopped):
        door.run()

    words = "the clock is not set: cards with dates or hours are refused"
    reported = [r.getMessage() for r in caplog.records if "clock" in r.getMessage()]
    assert reported == [words, f"resolved: {words}"]
    status = [said for said in world.supervisor.said if said.startswith("status")]
    assert status[0] == f"status: ready; {words}"
    assert status[-1] == "status: ready"


def test_unset_clock_that_refuses_nobody_is_not_logged(world, caplog):
    world.clock.set = False
    world.clock.stop_at = world.clock.t + 60.0

    with pytest.raises(doorpi.Stopped):
        world.door(config_of(card_of())).run()

    assert "clock" not in caplog.text


@pytest.mark.parametrize("changes", [{"valid_from": NOON.date()}, {"schedule": "x"}])
def test_a_list_knows_whether_anybody_on_it_waits_for_the_clock(store, changes):
    assert not store.people.has_dated_cards()
    store.people.add_card(card_of(), NOON)
    assert not store.people.has_dated_cards()
    store.people.add_card(card_of(MIKA, "Mika Mori", **changes), NOON)
    assert store.people.has_dated_cards()


def test_a_list_too_long_to_look_through_counts_as_dated(store):
    """The door waits for the answer, at each start without a set clock."""
    cards = [card_of(doorpi.Uid(f"04{number:012X}")) for number in range(10_001)]
    store.people.change_cards(cards[:-1], [], NOON)
    assert not store.people.has_dated_cards()

    store.people.change_cards(cards[-1:], [], NOON)

    assert store.people.has_dated_cards()


def test_the_seconds_of_one_boot_go_on_from_process_to_process():
    """What a relock's time on disk relies on."""
    clock = SystemClock()

    assert clock.boot() == clock.boot() != "unknown"
    assert abs(clock.monotonic() - time.clock_gettime(time.CLOCK_MONOTONIC)) < 1.0


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo", "America/New_York"])
def test_a_month_of_calls_is_a_month_of_the_doors_own_time(clock, zone):
    clock.at = datetime(2026, 12, 1, 0, 30, tzinfo=ZoneInfo(zone))

    assert (
        doorpi.CallBudget(clock, FakeStore(), "sesame", 0).month
        == "calls sesame 2026-12"
    )


# -- is it set?


class Kernel:
    """What the kernel says of the clock, and what the clock shows."""

    def __init__(self) -> None:
        self.sandboxed = False  # who asks then gets no answer
        self.synchronised = False
        self.ahead_s = 0.0  # how far somebody has set the clock

        self.story: Iterator[object] = iter(())
        self.waits_s: list[float] = []

    def time(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) + self.ahead_s

    def answer(self) -> bool:
        return self.synchronised and not self.sandboxed

    def set(self, ahead_s: float) -> None:
        """By hand or by a time server: until that says so it is not synchronised."""
        self.synchronised, self.ahead_s = False, ahead_s

    def watched(self, story: Iterator[object]) -> None:
        """Let doorpi-clock.service look at each step of ``story``."""
        self.story = story
        with pytest.raises(StopIteration):
            doorpi.watch_clock(str(doorpi.CLOCK_MARKER))

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        next(self.story)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(doorpi, "kernel_says_synchronised", kernel.answer)
    monkeypatch.setattr(doorpi, "CLOCK_MARKER", tmp_path / "set")
    monkeypatch.setattr(doorpi.time, "time", kernel.time)
    monkeypatch.setattr(doorpi.time, "sleep", kernel.sleep)
    return kernel


def test_a_clock_is_set_when_the_kernel_says_so(kernel):
    clock = SystemClock()

    before = clock.is_set()
    kernel.synchronised = True

    assert (before, clock.is_set()) == (False, True)


def test_an_outage_of_the_internet_does_not_unset_a_clock_that_goes_on(kernel):
    """After some 9 hours without NTP the kernel says unsynchronised."""
    clock = SystemClock()
    kernel.synchronised = True
    clock.is_set()

    kernel.synchronised = False

    assert clock.is_set()


@pytest.mark.parametrize("ahead_s", [-3600.0, -61.0, 61.0, 1e9])
def test_a_clock_that_somebody_set_meanwhile_is_not_trusted(kernel, ahead_s):
    clock = SystemClock()
    kernel.synchronised = True
    clock.is_set()

    kernel.synchronised, kernel.ahead_s = False, ahead_s

    assert not clock.is_set()


def test_marker_of_doorpi_clock_service_counts_as_the_kernels_answer(kernel):
    clock = SystemClock()

    before = clock.is_set()
    doorpi.CLOCK_MARKER.write_text(
        f"{time.time() - time.clock_gettime(time.CLOCK_BOOTTIME):.3f}\n"
    )

    assert (before, clock.is_set()) == (False, True)


@pytest.mark.parametrize("text", ["", "nan", "inf", "yes", "1e3 s", "\u2014"])
def test_marker_that_cannot_be_read_is_ignored(kernel, text):
    doorpi.CLOCK_MARKER.write_text(text)

    assert not SystemClock().is_set()


DAY_S = 86_400


def test_clock_set_by_hand_is_not_trusted_until_the_kernel_is_synchronised(kernel):
    reported = []

    def story():
        door = SystemClock()  # its sandbox lets it ask nobody but the marker
        for synchronised, ahead_s in (
            (True, 0), (False, 0), (False, -40 * DAY_S), (False, -40 * DAY_S),
            (True, 59), (True, 120), (True, 120),
        ):  # fmt: skip
            kernel.synchronised, kernel.ahead_s = synchronised, ahead_s
            yield
            kernel.sandboxed = True
            reported.append(door.is_set())
            kernel.sandboxed = False

    kernel.watched(story())

    assert reported == [True, True, False, False, True, True, True]


def test_an_expired_guest_stays_out_when_the_clock_is_set_back_by_hand(kernel, world):
    """The door asks a real clock; cards without dates go on as always."""
    today = datetime.now(JST).date()
    guest = card_of(holder="Jo Guest", valid_until=today - timedelta(days=30))
    plain = card_of(MIKA, "Mika Mori")
    kernel.synchronised = True
    clock = SystemClock()
    clock.is_set()
    kernel.set(-40 * DAY_S)

    world.clock.at = datetime.now(JST) - timedelta(days=40)
    world.clock.set = clock.is_set()
    reasons = [
        world.tap(card.uid, config=config_of(card)).reason for card in (guest, plain)
    ]

    assert reasons == [Reason.CLOCK_NOT_SET, Reason.GRANTED]


def test_the_marker_is_written_when_the_kernel_says_so_and_when_that_changes(kernel):
    def story():
        yield  # not synchronised yet
        kernel.synchronised = True
        yield
        first = doorpi.CLOCK_MARKER.stat().st_ino
        yield
        assert doorpi.CLOCK_MARKER.stat().st_ino == first
        kernel.ahead_s = 30.0
        yield
        assert doorpi.CLOCK_MARKER.stat().st_ino != first

    kernel.watched(story())

    assert kernel.waits_s == [2.0, 2.0, 10.0, 10.0, 10.0]


# -- the time zone


@pytest.fixture
def zone(tmp_path, monkeypatch):
    """Sets the zone as `timedatectl` does: a new link, and nobody is reported."""
    localtime = tmp_path / "localtime"
    monkeypatch.setattr(doorpi, "LOCALTIME", localtime)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def set_zone(name: str, *, as_file: bool = False) -> None:
        beside = tmp_path / "beside"
        if as_file:
            shutil.copy(f"/usr/share/zoneinfo/{name}", beside)
        else:
            beside.symlink_to(f"/usr/share/zoneinfo/{name}")
        beside.replace(localtime)
        monkeypatch.setenv("TZ", name)

    set_zone("UTC")
    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("as_file", [False, True])
def test_zone_change_takes_effect_at_once(zone, as_file):
    clock = SystemClock()
    offsets = [clock.now().utcoffset()]

    zone("Asia/Tokyo", as_file=as_file)
    offsets.append(clock.now().utcoffset())

    assert offsets == [timedelta(0), timedelta(hours=9)]


TOKYO = Path("/usr/share/zoneinfo/Asia/Tokyo")


@pytest.mark.parametrize(
    "content", [b"", b"garbage", TOKYO.read_bytes()[:60], b"TZif"], ids=len
)
def test_zone_file_that_is_broken_changes_nothing(zone, monkeypatch, caplog, content):
    zone("Asia/Tokyo", as_file=True)
    clock = SystemClock()
    clock.now()

    doorpi.LOCALTIME.write_bytes(content)
    monkeypatch.setenv("TZ", "UTC")  # what the C library makes of it
    offsets = [clock.now().utcoffset() for _ in range(2)]

    assert offsets == [timedelta(hours=9)] * 2
    assert len(caplog.messages) == 1
    doorpi.LOCALTIME.write_bytes(TOKYO.read_bytes())
    assert clock.now().utcoffset() == timedelta(0)  # it is followed again


def test_zone_file_that_is_missing_means_utc(zone, monkeypatch, tmp_path):
    monkeypatch.setattr(doorpi, "LOCALTIME", tmp_path / "gone" / "localtime")

    assert SystemClock().now().utcoffset() == timedelta(0)


def test_zone_file_that_cannot_be_read_changes_nothing(zone, monkeypatch, caplog):
    zone("Asia/Tokyo", as_file=True)
    clock = SystemClock()
    clock.now()

    doorpi.LOCALTIME.unlink()
    doorpi.LOCALTIME.mkdir()
    monkeypatch.setenv("TZ", "UTC")

    assert clock.now().utcoffset() == timedelta(hours=9)
    assert len(caplog.messages) == 1


#: A program in a mount namespace of its own, where /etc is a folder of the test's.
IN_ANOTHER_ETC = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def checked(code):
    if code:
        raise SystemExit(f"not allowed: {os.strerror(ctypes.get_errno())}")
checked(libc.unshare(0x20000))  # CLONE_NEWNS
checked(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
checked(libc.mount(os.environb[b"ANOTHER_ETC"], b"/etc", None, 0x1000, None))  # MS_BIND
sys.argv[0] = "doorpi"
import doorpi
raise SystemExit(doorpi.main() if sys.argv[1:] else 0)
"""


@pytest.fixture
def another_etc(tmp_path) -> Path:
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group", "hosts", "nsswitch.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc)
    command = [sys.executable, "-c", IN_ANOTHER_ETC]
    env = environment(ANOTHER_ETC=str(etc))
    tried = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no mount namespace of our own: {tried.stderr.strip()}")
    return etc


def test_zone_change_reaches_the_running_door_and_why(
    tmp_path, another_etc, cloud, radio
):
    """As on a fresh Pi: it is in UTC until somebody says where it is."""
    tokyo, utc = Path("/usr/share/zoneinfo/Asia/Tokyo"), Path("/usr/share/zoneinfo/UTC")
    localtime = another_etc / "localtime"
    localtime.symlink_to(utc)
    hour = datetime.now(UTC).hour
    around = f"{(hour - 1) % 24:02}:00-{(hour + 2) % 24:02}:00"
    config = write_config(
        tmp_path, cloud, radio.device, door="require_synced_clock = false",
        cards=KEN_CARD + 'schedule = "h"\n',
        more=f'[[schedule]]\nname = "h"\ntimes = ["Mon-Sun {around}"]\n',
    )  # fmt: skip
    env = {"ANOTHER_ETC": str(another_etc), "TZ": None}
    program = ("-c", IN_ANOTHER_ETC)

    def asked() -> str:
        command = [sys.executable, *program, "--config", str(config), "why", KEN]
        said = subprocess.run(
            command, env=environment(**env), capture_output=True, text=True, check=True
        )
        return said.stdout

    with DoorProcess(config, program=program, **env) as door:
        door.until_ready()
        reported = [(door.tap(radio, KEN).reason, asked())]
        for zone in (tokyo, utc):
            (another_etc / "new").symlink_to(zone)
            (another_etc / "new").replace(localtime)
            reported.append((door.tap(radio, KEN).reason, asked()))

    granted, denied = Reason.GRANTED, Reason.NOT_PERMITTED_AT_THIS_TIME
    assert [reason for reason, _ in reported] == [granted, denied, granted]
    for reason, said in reported:
        assert f": {reason}," in said


def test_monotonic_goes_on_while_the_computer_is_suspended():
    """So that a card from before is an old one afterwards; time.monotonic stands still."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().monotonic()

    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
