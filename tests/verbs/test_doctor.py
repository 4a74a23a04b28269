"""`doctor`: lights, relay, clock, disk, databases, files, backup, and the verb.

Each is a generator of findings; at its edges stand servers that really misbehave,
SQLite files that are really broken, and pins in memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPin

import doorpi
from doorpi import (
    Event,
    Finding,
    Health,
    LockAccess,
    Notes,
    Reason,
    SqliteStore,
    main,
)
from tests.fakes.broken_pins import busy_pin, misspelt_library, no_library
from tests.helpers.processes import write_config
from tests.helpers.world import (
    JST,
    KEN,
    NOON,
    FakeClock,
    FakeStore,
    card_of,
    config_of,
)

OK, WARN, FAIL = Health.OK, Health.WARN, Health.FAIL
ME = doorpi.our_name()


SCHEMA = len(doorpi.SqliteEvents.schema)


def judged(findings) -> list[tuple[Health, str]]:
    return [(finding.health, finding.words) for finding in findings]


# -- lights

ON_A_PI = "on a Pi: sudo apt-get install python3-lgpio"
SEE_PINS = "sudo apt-get install gpiod; gpioinfo shows which program has the pin"

PINS = "green on GPIO 23, red on GPIO 22"


class WatchedFactory(MockFactory):
    """Pins in memory that note what they showed."""

    def __init__(self) -> None:
        super().__init__(pin_class=WatchedPin)
        self.now = {"GPIO23": 0, "GPIO22": 0}
        self.history: list[tuple[int, int]] = []


class WatchedPin(MockPin):
    def _change_state(self, value):
        if changed := super()._change_state(value):
            self.factory.now[self.info.name] = int(value)
            self.factory.history.append(tuple(self.factory.now.values()))
        return changed


@pytest.fixture
def pins(monkeypatch, tmp_path):
    """A board of its own for gpiozero, and a /dev that lists none."""
    factory = WatchedFactory()
    monkeypatch.setattr(Device, "pin_factory", factory)
    monkeypatch.setattr(doorpi, "DEV", tmp_path)
    monkeypatch.setattr(doorpi, "LAMP_TEST", "1x GRA")  # 50 ms each
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    return factory


def lights() -> list[Finding]:
    ((_, _, findings),) = doorpi.part_tests(config_of(), FakeClock())
    return [*findings]


TRIED = Finding(
    OK,
    f"{PINS}: do you see green, red, both?",
    "if not: long leg to the pin, 330 ohm to ground; [leds] active_high",
)


def test_diagnose_lights_shows_green_red_and_both(pins):
    assert lights() == [TRIED]
    green, red, both, dark = (1, 0), (0, 1), (1, 1), (0, 0)
    settled = [now for now, then in pairwise([*pins.history, None]) if then != now]
    seen = iter(settled)  # the two are set one after the other
    assert all(look in seen for look in (green, red, both, dark))
    assert pins.history[-1] == dark


def test_diagnose_lights_leaves_them_dark_when_interrupted(pins, monkeypatch):
    def ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)

    with pytest.raises(KeyboardInterrupt):
        lights()

    assert pins.now == {"GPIO23": 0, "GPIO22": 0}
    assert pins.history


@pytest.mark.parametrize(
    ("trouble", "words", "do"),
    [
        (no_library, f"{PINS}: Unable to load any default pin factory!", ON_A_PI),
        (misspelt_library, f"{PINS}: Unable to find pin factory 'lgpioo'", ON_A_PI),
        (busy_pin, f"{PINS}: 'GPIO busy'\\n", SEE_PINS),
    ],
    ids=["no-library", "misspelt", "busy"],
)  # fmt: skip
def test_diagnose_lights_says_what_to_do_without_them(
    pins, monkeypatch, trouble, words, do
):
    Device.pin_factory = None
    trouble(monkeypatch)

    assert lights() == [Finding(WARN, words, do)]


def relay(clock) -> list[tuple[Health, str]]:
    access = LockAccess(kind="relay")
    lock = doorpi.Relay(access, clock)
    with contextlib.closing(lock):
        control = doorpi.LockControl(lock, access, FakeStore(), clock)
        return judged(doorpi.diagnose_lock(access, control, clock))


def test_diagnose_lock_never_switches_a_relay(pins, clock):
    assert relay(clock) == [(OK, "relay on GPIO 17: at rest, which is locked")]
    assert pins.history == []


def test_diagnose_lock_fails_without_the_pin_of_a_relay(pins, clock, monkeypatch):
    busy_pin(monkeypatch)

    ((health, words),) = relay(clock)

    assert health is FAIL
    assert words.startswith("GPIO 17 cannot be used: 'GPIO busy'")


# -- clock

SHOWS = "2026-11-18 12:00:00 JST (UTC+0900)"
TILL_JUNE = card_of(valid_until=datetime(2027, 6, 1, tzinfo=JST).date())
CLOCKS = {
    "set": (True, [TILL_JUNE], {}, OK, f"{SHOWS}, synchronised"),
    "not set, and nobody has dates": (False, [card_of()], {}, WARN, f"{SHOWS}, not synchronised"),
    "not set, and somebody has": (False, [TILL_JUNE], {}, FAIL, f"{SHOWS}, not synchronised: cards with dates or hours are refused"),
    "not set, and it is trusted": (False, [TILL_JUNE], {"require_synced_clock": False}, WARN, f"{SHOWS}, not synchronised"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("is_set", "cards", "door", "health", "words"), CLOCKS.values(), ids=CLOCKS
)
def test_diagnose_clock_fails_where_it_keeps_somebody_out(
    clock, state, is_set, cards, door, health, words
):
    clock.set = is_set

    found = doorpi.diagnose_clock(clock, config_of(*cards, **door), state)

    assert judged(found) == [(health, words)]


@pytest.mark.parametrize(
    ("changes", "health"),
    [({}, WARN), ({"schedule": "office"}, FAIL)],
    ids=["plain", "hours"],
)
def test_diagnose_clock_knows_the_cards_of_the_database(clock, state, changes, health):
    clock.set = False
    state.people.add_card(card_of(**changes), NOON)

    (finding,) = doorpi.diagnose_clock(clock, config_of(), state)

    assert finding.health is health


def test_diagnose_clock_trusts_none_that_is_older_than_the_log(clock, state):
    clock.set = False
    state.events.record(
        Event(at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.EXPIRED)
    )
    clock.at = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    config = config_of(TILL_JUNE, require_synced_clock=False)

    (finding,) = doorpi.diagnose_clock(clock, config, state)

    assert finding.health is FAIL
    assert finding.words.endswith(
        "not synchronised: cards with dates or hours are refused"
    )


def test_diagnose_clock_warns_of_schedules_in_utc(clock, state):
    clock.at = NOON.astimezone(UTC)
    hours = doorpi.parse_config(
        '[lock]\nkind = "relay"\n[[schedule]]\nname = "x"\ntimes = ["Mon 08:00-09:00"]'
    )

    (finding,) = doorpi.diagnose_clock(clock, hours, state)

    assert (finding.health, finding.do) == (
        WARN,
        "if you are elsewhere: sudo timedatectl set-timezone Asia/Tokyo",
    )


# -- disk

GB = 1e9


def disk(free: float, flag: int = 0):
    return SimpleNamespace(f_frsize=1, f_bavail=free, f_blocks=2 * GB, f_flag=flag)


DISKS = {
    "room": (disk(1.5 * GB), OK, "1,500 MB free of 2,000 MB"),
    "less than 200 MB": (disk(199e6), WARN, "199 MB free of 2,000 MB"),
    "less than 20 MB": (disk(19e6), FAIL, "19 MB free of 2,000 MB"),
}


@pytest.mark.parametrize(("found", "health", "words"), DISKS.values(), ids=DISKS)
def test_diagnose_disk_reports_the_free_space(
    tmp_path, monkeypatch, found, health, words
):
    monkeypatch.setattr(os, "statvfs", lambda path: found)

    (finding,) = doorpi.diagnose_disk(tmp_path)

    assert (finding.health, finding.words) == (health, f"{tmp_path}: {words}")
    assert finding.do == ("" if health is OK else doorpi.MAKE_ROOM)


def test_diagnose_disk_fails_on_a_read_only_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: disk(GB, flag=os.ST_RDONLY))

    (finding,) = doorpi.diagnose_disk(tmp_path)

    words = f"{tmp_path} is on a disk that is read-only"
    assert (finding.health, finding.words) == (FAIL, words)


def test_diagnose_disk_judges_by_the_rights_of_the_service(powerless):
    powerless.chmod(0o555)

    (finding,) = doorpi.diagnose_disk(powerless)

    words = f"{doorpi.our_name()} may not write into {powerless}"
    assert (finding.health, finding.words) == (FAIL, words)


def test_diagnose_disk_only_warns_of_a_missing_folder(tmp_path):
    (finding,) = doorpi.diagnose_disk(tmp_path / "state")

    assert finding.health is WARN
    assert finding.do == "sudo systemctl start doorpi"


# -- databases


@pytest.fixture
def state(tmp_path):
    """A store of its own, with an event, whose files nobody else has open."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqliteStore(folder / "doorpi.db", busy_s=5.0)
    store.events.begin(Event(at=NOON, uid=KEN, holder="Ken", reason=Reason.NOT_FOUND))
    yield store
    store.close()


def database(path: Path, version: int = SCHEMA) -> list[Finding]:
    return list(doorpi.diagnose_database(path, version))


def content(folder: Path) -> dict[str, bytes]:
    """Every file, but for SQLite's own notes about its readers."""
    files = [file for file in folder.iterdir() if not file.name.endswith("-shm")]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_diagnose_database_changes_no_file(state, is_open):
    state.people.add_card(card_of(), NOON)
    if not is_open:
        state.close()
    names = set(state.events.path.parent.iterdir())
    before = content(state.events.path.parent)

    log, cards = (
        database(state.events.path),
        database(state.people.path, version=len(state.people.schema)),
    )

    for (finding,), store in ((log, state.events), (cards, state.people)):
        words = f"{store.path}: intact, schema {len(store.schema)}"
        assert finding == Finding(OK, words)
    assert set(state.events.path.parent.iterdir()) == names
    assert content(state.events.path.parent) == before


def test_diagnose_database_reads_the_wal_that_a_killed_door_left(state, tmp_path):
    """kill -9, and a power cut: the -shm was in memory, and may be missing."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in state.events.path.parent.glob("doorpi.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy)
    assert (copy / "doorpi.db-wal").stat().st_size
    before = content(copy)

    ((health, words),) = judged(database(copy / "doorpi.db"))

    assert health is OK
    assert words.endswith(f": intact, schema {SCHEMA}")
    assert content(copy) == before


def test_diagnose_database_makes_no_file(tmp_path):
    path = tmp_path / "none" / "doorpi.db"

    words = f"{path}: nothing is stored yet"
    assert database(path) == [Finding(OK, words)]
    assert not path.parent.exists()


def with_a_page_of_noise(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)


def overwritten(path: Path) -> None:
    path.write_bytes(b"The sky above the port" * 500)


def emptied_beside_its_wal(path: Path) -> None:
    path.with_name("doorpi.db-wal").write_bytes(b"x" * 4096)
    path.unlink()


@pytest.mark.parametrize(
    "spoil", [with_a_page_of_noise, overwritten, emptied_beside_its_wal]
)
def test_diagnose_database_fails_on_a_broken_one(state, spoil):
    state.close()
    spoil(state.events.path)
    before = content(state.events.path.parent)

    (finding,) = database(state.events.path)

    assert finding.health is FAIL
    assert finding.words.startswith(f"{state.events.path} is broken: ")
    assert finding.do.startswith(f"copy {state.events.path.parent} elsewhere; ")
    assert content(state.events.path.parent) == before


def test_diagnose_database_follows_no_link(state, tmp_path):
    state.events.path.unlink()
    state.events.path.symlink_to(tmp_path / "nowhere")

    (finding,) = database(state.events.path)

    assert finding.health is FAIL
    assert "doorpi.db is a symbolic link, which is not followed" in finding.words
    assert finding.do.endswith(f"ls -l {state.events.path.parent}")


def test_diagnose_database_warns_of_a_newer_schema(state):
    with contextlib.closing(sqlite3.connect(state.events.path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")

    (finding,) = database(state.events.path)

    assert finding.health is WARN
    assert finding.words.endswith(
        f": intact, schema {SCHEMA + 1}, of a newer version of DoorPi"
    )
    assert finding.do == "install that version again"


def test_diagnose_database_fails_on_an_unreadable_one(powerless):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = powerless / "doorpi.db"
    path.touch(mode=0o000)

    (finding,) = database(path)

    assert finding.health is FAIL
    assert finding.words.startswith(f"{path} cannot be read: ")


def test_diagnose_database_lists_files_that_were_set_aside(state):
    for name in ("", "-wal"):
        Path(f"{state.events.path}{name}.broken-20261101T080000Z").touch()
    Path(f"{state.events.path}.broken-20261109T080000Z").touch()

    aside, whole = database(state.events.path)

    words = f"{state.events.path} was broken and set aside: 20261101T080000Z, 20261109T080000Z"
    assert (aside.health, aside.words) == (WARN, words)
    assert f"sudo rm {state.events.path}*.broken-*" in aside.do
    assert whole.health is OK


# -- files


@pytest.fixture
def own_files(tmp_path):
    """Settings and a state folder with a database, open to nobody else."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    settings, log = tmp_path / "doorpi.toml", folder / "doorpi.db"
    for file in (settings, log):
        file.touch()
        file.chmod(0o640)
    return settings, folder, log


@contextlib.contextmanager
def open_way_to(path: Path) -> Iterator[None]:
    """The folders of the tests are their owner's alone: let everybody through."""
    shut = [f for f in path.parents if not f.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in shut}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    yield
    for folder, mode in modes.items():
        folder.chmod(mode)


def files(settings: Path, folder: Path) -> list[Finding]:
    return list(doorpi.diagnose_files([settings], [settings], folder))


def test_diagnose_files_accepts_files_of_the_owner_alone(own_files):
    settings, folder, _ = own_files

    words = f"{settings} and {folder}: not readable by other users; {ME} has access"
    assert files(settings, folder) == [Finding(OK, words)]


@pytest.mark.parametrize(
    ("mode", "health", "can"),
    [(0o644, WARN, "read"), (0o666, FAIL, "changed")],
    ids=["read", "write"],
)
@pytest.mark.parametrize("which", [0, 2], ids=["settings", "log"])
def test_diagnose_files_names_files_open_to_everybody(
    own_files, mode, health, can, which
):
    settings, folder, log = own_files
    path = own_files[which]
    path.chmod(mode)

    with open_way_to(log):
        found = files(settings, folder)

    chmod = "sudo chmod" if path == settings else f"sudo -u {ME} chmod"
    words, do = f"{path} can be {can} by everybody", f"{chmod} o-rwx {path}"
    assert found == [Finding(health, words, do)]


def test_diagnose_files_gives_no_advice_that_is_a_trap(own_files):
    """Root would do as it says: with a file that a link leads to, or with a name."""
    settings, folder, log = own_files
    elsewhere = folder.parent / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o604)
    log.unlink()
    log.symlink_to(elsewhere)
    (folder / "; reboot; .db").touch()
    (folder / "; reboot; .db").chmod(0o604)

    with open_way_to(folder / "x"):
        ((words, do),) = ((f.words, f.do) for f in files(settings, folder))

    assert words.endswith("; reboot; .db can be read by everybody")
    assert shlex.split(do) == [
        "sudo", "-u", ME, "chmod", "o-rwx", f"{folder}/; reboot; .db",
    ]  # fmt: skip


def test_diagnose_files_accepts_a_file_in_a_closed_folder(own_files):
    settings, folder, log = own_files
    log.chmod(0o666)

    assert [finding.health for finding in files(settings, folder)] == [OK]


def test_diagnose_files_fails_where_the_service_has_no_access(powerless):
    """Files that root made: the door would not start, or not log."""
    settings, folder, log = (
        powerless / name for name in ("door", "state", "state/a.db")
    )
    folder.mkdir()
    for file in (settings, log):
        file.touch(mode=0o000)
    me = doorpi.our_name()

    found = files(settings, folder)

    assert found == [
        Finding(
            FAIL, f"the service (user {me}) cannot read {settings}",
            f"sudo chgrp {me} {settings}; sudo chmod g+r {settings}",
        ),
        Finding(
            FAIL, f"the service (user {me}) cannot write {log}",
            f"sudo chown -hR {me}: {folder}; sudo -u {me} chmod -R u+rwX {folder}",
        ),
    ]  # fmt: skip


def test_unreadable_does_not_open_a_closed_folder(powerless):
    settings = powerless / "private" / "doorpi.toml"
    settings.parent.mkdir(mode=0o600)

    ((_, do),) = doorpi.unreadable([settings])

    assert do == (
        f"put it into a folder that {doorpi.our_name()} may enter: namei -l {settings}"
    )


# -- backup

DAY = timedelta(days=1)
BACKUPS = {
    "nothing in the database": (None, None, OK, "everybody is in doorpi.toml: keep a copy of it elsewhere"),
    "never": (NOON - DAY, None, WARN, "the list was changed on {changed}, and was never backed up"),
    "before the last change": (NOON - 2 * DAY, NOON - 12 * DAY, WARN, "the list was changed on {changed}, after its last backup on {backup}"),
    "after it": (NOON - 12 * DAY, NOON - DAY / 2, OK, "the list was changed on {changed}, and backed up on {backup}"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "backup", "health", "words"), BACKUPS.values(), ids=BACKUPS
)
def test_diagnose_list_compares_change_and_backup(
    state, changed, backup, health, words
):
    if changed:
        state.people.add_card(card_of(), changed)
    if backup:
        state.events.keep(Notes({"backup": doorpi.utc_text(backup)}))

    (finding,) = doorpi.diagnose_list(state)

    do = "" if health is OK else doorpi.BACK_UP
    days = [at and f"{at.astimezone():%Y-%m-%d}" for at in (changed, backup)]
    words = words.format(changed=days[0], backup=days[1])
    assert finding == Finding(health, words, do)


def test_diagnose_list_fails_where_the_list_was_lost(state):
    broken = state.people.path.with_name("cards.db.broken-20261118T030000Z")
    broken.touch()

    (finding,) = doorpi.diagnose_list(state)

    words = f"the database's list was lost; what was left of it: {broken}"
    assert (finding.health, finding.words) == (FAIL, words)


def copy_is_gone(copy: Path) -> None:
    copy.unlink()


def copy_is_broken(copy: Path) -> None:
    overwritten(copy)


def copy_is_older(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("UPDATE marks SET value = '1' WHERE name = 'changes'")


COPIES = {
    copy_is_gone: "no copy could replace a lost list: there is none",
    copy_is_broken: "no copy could replace a lost list: file is not a database",
    copy_is_older: "{copy} is not a copy of this list",
}


@pytest.mark.parametrize(
    ("harm", "words"), COPIES.items(), ids=lambda c: getattr(c, "__name__", "")
)
def test_diagnose_copy_warns_of_a_useless_copy(state, harm, words):
    for day in range(3):
        state.people.change_cards([card_of(holder=f"Ken {day}")], [], NOON)
    state.close()
    copy = state.people.copy
    harm(copy)

    (finding,) = doorpi.diagnose_copy(state.people)

    do = f"sudo rm -f {copy}; sudo systemctl restart doorpi: it makes a new one"
    assert finding == Finding(WARN, words.format(copy=copy), do)


def test_diagnose_copy_accepts_a_good_one_and_no_list(state):
    assert judged(doorpi.diagnose_copy(state.people)) == []
    state.people.change_cards([card_of()], [], NOON)

    words = f"{state.people.copy} matches the list"
    assert judged(doorpi.diagnose_copy(state.people)) == [(OK, words)]


def test_diagnose_copy_warns_of_a_list_too_large(state, monkeypatch):
    state.people.add_card(card_of(), NOON)
    monkeypatch.setattr(doorpi.SqlitePeople, "copied_up_to", 1)

    (finding,) = doorpi.diagnose_copy(state.people)

    words = f"{state.people.path} is too large for a copy beside it"
    assert finding == Finding(WARN, words, doorpi.BACK_UP)


def test_diagnose_list_does_not_know_an_unreadable_one(state):
    overwritten(state.people.path)

    (finding,) = doorpi.survived(doorpi.diagnose_list(state))

    assert finding.health is WARN
    assert finding.words.startswith(f"not known: {state.people.path}: ")
    assert finding.do == "see database"


# -- the verb


@pytest.fixture
def says(tmp_path, radio, cloud, capsys, pins, monkeypatch):
    """Run `doctor` on a door that is well but for what ``settings`` add: the exit code
    and the lines."""
    monkeypatch.setattr(doorpi, "kernel_says_synchronised", lambda: True)

    def doctor(*options: str, **settings):
        path = write_config(tmp_path, cloud, radio.device, **settings)
        path.chmod(0o640)
        (tmp_path / "state").mkdir(exist_ok=True)
        code = main(["--config", str(path), "doctor", *options])
        out, err = capsys.readouterr()
        assert err == ""
        return code, out.splitlines()

    return doctor


def test_doctor_reports_each_subject_of_a_healthy_door(says, tmp_path, cloud):
    code, lines = says()

    state = tmp_path / "state"
    assert code == 0
    fits = [
        rf"ok    settings  {tmp_path}/doorpi\.toml: no problems",
        r"ok    reader    .*",
        r"ok    reader    read test: 10 attempts, .*",
        rf"ok    lights    {PINS}: do you see green, red, both\?",
        r" {16}-> if not: long leg to the pin, 330 ohm to ground; \[leds\] active_high",
        r"ok    clock     20\d\d-.* \(UTC.*\), synchronised",
        rf"(ok  |warn)  disk      {state}: [\d,]+ MB free of [\d,]+ MB",
        rf"ok    database  {state}/doorpi\.db: nothing is stored yet",
        rf"ok    database  {state}/cards\.db: nothing is stored yet",
        rf"ok    files     {tmp_path}/doorpi\.toml and {state}: not readable by other users; {ME} has access",
        r"ok    backup    everybody is in doorpi\.toml: keep a copy of it elsewhere",
        r"warn  door      doorpi is not running: no card opens",
        r" {16}-> sudo systemctl start doorpi; then journalctl -u doorpi",
        r"ok    lock      127\.0\.0\.1: name \d+ ms, connect \d+ ms, no TLS",
        r"ok    lock      locked, it answers, battery 80 %; it took \d+ ms",
    ]
    lines = [line for line in lines if doorpi.MAKE_ROOM not in line]
    pairs = zip(fits, lines, strict=True)
    assert [line for fit, line in pairs if not re.fullmatch(fit, line)] == []


def test_doctor_says_whether_the_door_runs_or_hangs(tmp_path):
    def health() -> str:
        (finding,) = doorpi.diagnose_door(tmp_path)
        return finding.health

    assert health() == "warn"
    with doorpi.only_door(tmp_path):
        doorpi.publish_troubles(tmp_path, 0.0, {})
        assert health() == "ok"
        os.utime(tmp_path / "troubles.json", (0, 0))
        is_old = doorpi.time.monotonic() > doorpi.LIFELESS_S
        assert health() == ("fail" if is_old else "ok")


def test_doctor_leaves_the_reader_to_the_running_door(says, tmp_path):
    """Each answer would go to the other: looks of a second each, and a lost card."""
    (tmp_path / "state").mkdir()
    with doorpi.only_door(tmp_path / "state"):
        _, lines = says()

    (line,) = [line for line in lines if "reader" in line[:16]]
    assert ": in use by the running door, so not tested" in line


def test_doctor_counts_its_calls_for_the_month(says, tmp_path):
    says(lock="calls_per_month = 1000")

    month = f"calls sesame-mini {datetime.now(UTC).astimezone():%Y-%m}"
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        assert store.events.recall(month) == "1"


def test_doctor_reports_lock_and_fallback(says, cloud):
    cloud.fail_always("401")

    code, lines = says(more='[fallback]\nkind = "relay"')

    assert code == 1
    assert "fail  lock      HTTP 401: the key is not accepted" in lines
    assert lines[-1] == "ok    fallback  relay on GPIO 17: at rest, which is locked"


def test_doctor_leaves_the_pins_to_the_running_door(says, tmp_path, pins):
    (tmp_path / "state").mkdir()
    with doorpi.only_door(tmp_path / "state"):
        code, lines = says(more='[fallback]\nkind = "relay"')

    assert code == 0
    words = f"{PINS}: in use by the running door, so not tested"
    assert f"warn  lights    {words}" in lines
    in_use = "relay on GPIO 17: in use by the running door, so not tested"
    assert f"warn  fallback  {in_use}" in lines
    assert pins.pins == {}


def test_doctor_does_not_use_the_examples_values(tmp_path, capsys, pins, monkeypatch):
    example = Path(doorpi.__file__).with_name("doorpi.toml")
    path = tmp_path / "doorpi.toml"
    shutil.copy(example, path)
    monkeypatch.setattr(doorpi, "diagnose_readers", lambda *_: iter(()))

    code = main(["--config", str(path), "doctor"])

    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    words = "lock.device_id, lock.api_key, lock.secret_key: still the example value"
    assert f"fail  lock      {words}" in lines
    assert lines[1].startswith('warn  settings  card 1 ("Ken Sato"), card 2')


def test_doctor_goes_on_after_an_error_of_its_own(says, monkeypatch):
    def broken(folder):
        yield Finding(OK, "so far")
        raise RuntimeError("a bug\x1b[31m nobody thought of")

    monkeypatch.setattr(doorpi, "diagnose_disk", broken)

    code, lines = says()

    failed = "doctor itself failed: RuntimeError: a bug\\x1b[31m nobody thought of"
    assert code == 1
    assert f"fail  disk      {failed}" in lines
    assert lines[-1].startswith("ok    lock ")


def test_doctor_escapes_text_from_outside(says, monkeypatch):
    def loud(folder):
        yield Finding(WARN, "\x1b[2Jgone", "\rdo")

    monkeypatch.setattr(doorpi, "diagnose_disk", loud)

    _, lines = says()

    assert "warn  disk      \\x1b[2Jgone" in lines
    assert "                -> \\rdo" in lines


def test_doctor_ends_quietly_on_ctrl_c(says, pins, monkeypatch):
    def ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)

    code, lines = says()

    assert code == 130
    assert f"ok    lights    {PINS}: do you see green, red, both?" in lines
    assert pins.now == {"GPIO23": 0, "GPIO22": 0}


def test_doctor_prints_json(says):
    code, lines = says("--json")

    findings = [json.loads(line) for line in lines]
    assert code == 0
    assert {tuple(finding) for finding in findings} == {
        ("health", "subject", "words", "do")
    }
    assert {finding["subject"] for finding in findings} == {
        "settings", "reader", "lights", "clock", "disk", "database", "files", "backup",
        "lock", "door",
    }  # fmt: skip


def test_doctor_reports_a_lockdown(says, tmp_path):
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        store.people.lock_down("owner")
        _, locked = says()
        store.people.lock_down("")
    _, lifted = says()

    at = locked.index("                -> sudo doorpi lockdown off")
    assert locked[at - 1].startswith("warn  lockdown  locked down")
    assert "                -> sudo doorpi lockdown off" not in lifted


# -- several doors on one computer


@pytest.fixture
def in_etc(tmp_path, monkeypatch) -> Path:
    """A computer with the door of doorpi.service, and doorpi@lab."""
    etc, var = tmp_path / "etc", tmp_path / "var" / "doorpi"
    for folder in (etc, var, var.with_name("doorpi-lab")):
        folder.mkdir(parents=True)
    monkeypatch.setattr(doorpi, "IN_ETC", etc / "doorpi.toml")
    monkeypatch.setattr(doorpi, "STATE_IN_VAR", str(var))
    for name in ("doorpi", "lab"):
        (etc / f"{name}.toml").write_text('[lock]\nkind = "relay"\n')
    (etc / "FLEET.toml").write_text('[[door]]\nid = "lab"\n')
    return etc


def test_doctor_knows_the_other_doors_of_the_computer(in_etc, tmp_path):
    (found,) = doorpi._other_doors(in_etc / "doorpi.toml")
    assert (found.health, found.words) == (WARN, "doorpi@lab is not running")
    assert "doorpi@lab" in found.do

    with doorpi.only_door(tmp_path / "var" / "doorpi-lab"):
        (found,) = doorpi._other_doors(in_etc / "doorpi.toml")
    assert found.health is OK
    assert list(doorpi._other_doors(in_etc / "lab.toml")) == []


ADVICE = {
    "sudo systemctl restart doorpi: it makes a new one": "restart doorpi@lab: it",
    "sudo systemctl start doorpi-online; then journalctl -u doorpi-online":
        "start doorpi-online@lab; then journalctl -u doorpi-online@lab",
    "(sudo doorpi check)": "(sudo doorpi --config /etc/lab.toml check)",
    "2 problems; see: doorpi check": "see: doorpi --config /etc/lab.toml check",
    "doorpi is not running: no card opens": "doorpi is not running: no card opens",
    "doorpi check": "doorpi --config /etc/lab.toml check",
    "correct that; then sudo doorpi check": "sudo doorpi --config /etc/lab.toml check",
    "sudo usermod -aG gpio doorpi; reboot": "-aG gpio doorpi; reboot",
}  # fmt: skip


def test_texts_name_the_door_of_this_process(monkeypatch):
    monkeypatch.setattr(doorpi, "IN_ETC", Path("/etc/doorpi.toml"))

    for advice, words in ADVICE.items():
        monkeypatch.setattr(doorpi.ADDRESSED, "path", Path("/etc/lab.toml"))
        assert words in doorpi.for_this_door(advice)
        monkeypatch.setattr(doorpi.ADDRESSED, "path", doorpi.IN_ETC)
        assert doorpi.for_this_door(advice) == advice


def test_a_verb_and_the_journal_advise_about_their_own_door(
    in_etc, monkeypatch, capsys
):
    monkeypatch.setattr(doorpi.ADDRESSED, "path", doorpi.IN_ETC)
    lab = f"doorpi --config {in_etc / 'lab.toml'}"

    doorpi.main(["--config", str(in_etc / "lab.toml"), "lockdown", "on"])
    record = logging.LogRecord("", logging.ERROR, "", 0, "see: doorpi check", (), None)

    assert f"to end this: {lab} lockdown off" in capsys.readouterr().out
    assert doorpi.JournalFormatter().format(record) == f"<3>see: {lab} check"
