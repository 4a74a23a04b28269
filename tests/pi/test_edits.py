"""The owner's file is edited while the door runs: when an edit counts as over, what is
read of it, and what of the door is changed by it.

The files, the editors' ways of writing and the kernel's notices are real.  The clock of
the first parts is not: what is waited for takes no time, and notices need none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest
from gpiozero import Device, OutputDevice
from gpiozero.pins.mock import MockFactory

import doorpi
from doorpi import (
    Command,
    FileWatch,
    GpioLights,
    ProcessSignals,
    Result,
    Stopped,
)
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.virtual import VirtualField
from tests.helpers.desk import LOOK_S, Desk
from tests.helpers.processes import KEN_CARD, MIKA_CARD, DoorProcess, write_config
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN, MIKA, FakeClock

OLD, NEW = "[door]\nname = 'before'\n", "[door]\nname = 'after'\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "etc" / "doorpi.toml"
    path.parent.mkdir()
    path.write_text(OLD)
    return path


def over_after(watch: FileWatch, clock: FakeClock, within_s: float = 10.0) -> float:
    """The seconds until the edit counts as complete."""
    began_at = clock.t
    while clock.t - began_at < within_s:
        if watch.is_due():
            return clock.t - began_at
        clock.advance(LOOK_S)
    return inf


# -- the ways to write a file


def in_place(path: Path) -> None:
    path.write_text(NEW)


def truncated_first(path: Path) -> None:
    os.truncate(path, 0)
    path.write_text(NEW)


def through_a_temporary_file(path: Path) -> None:
    beside = path.with_name(".doorpi.toml.swp")
    beside.write_text(NEW)
    beside.replace(path)


def through_another_folder(path: Path) -> None:
    outside = path.parent.with_name("doorpi.toml.upload")
    outside.write_text(NEW)
    outside.replace(path)


def as_vim_does(path: Path) -> None:
    backup = path.with_name("doorpi.toml~")
    path.rename(backup)
    path.write_text(NEW)
    backup.unlink()


def reopened_for_each_line(path: Path) -> None:
    path.write_text("")
    for line in NEW.splitlines(keepends=True):
        with path.open("a") as file:
            file.write(line)


def deleted_and_made_again(path: Path) -> None:
    path.unlink()
    path.write_text(NEW)


def with_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text(NEW)


def as_another_folder(path: Path) -> None:
    other = path.parent.with_name("checkout")
    other.mkdir()
    (other / path.name).write_text(NEW)
    path.parent.rename(path.parent.with_name("etc.old"))
    other.rename(path.parent)


def by_a_link(path: Path) -> None:
    there = path.parent.with_name("there.toml")
    there.write_text(NEW)
    link = path.with_name("link")
    link.symlink_to(there)
    link.replace(path)


def by_a_hard_link(path: Path) -> None:
    beside = path.with_name("beside")
    beside.write_text(NEW)
    path.unlink()
    path.hardlink_to(beside)


def by_a_second_name(path: Path) -> None:
    other = path.parent.with_name("other-name")
    other.hardlink_to(path)
    other.write_text(NEW)


def by(*command: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        (path.parent.parent / "new").write_text(NEW)
        subprocess.run(command, cwd=path.parent, check=True, stdin=subprocess.DEVNULL)

    return run


WAYS = {
    "in place": in_place,
    "truncated first": truncated_first,
    "a temporary file": through_a_temporary_file,
    "a temporary file elsewhere": through_another_folder,
    "as vim does": as_vim_does,
    "line by line": reopened_for_each_line,
    "deleted and made again": deleted_and_made_again,
    "with its folder": with_its_folder,
    "another folder": as_another_folder,
    "by a link": by_a_link,
    "by a hard link": by_a_hard_link,
    "by a second name": by_a_second_name,
    "sed -i": by("sed", "-i", "s/before/after/", "doorpi.toml"),
    "cp": by("cp", "../new", "doorpi.toml"),
    "mv": by("mv", "../new", "doorpi.toml"),
    "ln -sf": by("ln", "-sf", "../new", "doorpi.toml"),
    "tee": by("sh", "-c", "cat ../new | tee doorpi.toml > ../copy"),
    "install": by("install", "-m", "640", "../new", "doorpi.toml"),
}


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_watch_reports_an_edit_once_a_second_after_its_end(path, clock, write):
    watch = FileWatch(clock, [path])
    assert over_after(watch, clock) == inf

    write(path)

    assert 0.9 <= over_after(watch, clock) < 1.4
    assert path.read_text() == NEW
    assert watch.mark_read()
    assert over_after(watch, clock) == inf


# -- a file that may be on its way is waited for

WHOLE = f"{OLD}[lock]\nkind = 'relay'\n" + "".join(
    f"[[card]]\nuid = '01020304{i:06}'\nholder = 'Person {i}'\n" for i in range(20)
)
EDITED = WHOLE.replace("before", "after")
SEVENTH = EDITED.index("[[card]]\nuid = '01020304000007'")


@contextlib.contextmanager
def rewriting(path: Path, beginning: str = EDITED[:SEVENTH]) -> Iterator[None]:
    with path.open("w") as file:
        file.write(beginning)
        file.flush()
        yield
        file.write(EDITED[len(beginning) :])


@contextlib.contextmanager
def only_truncated(path: Path) -> Iterator[None]:
    with rewriting(path, ""):
        yield


@contextlib.contextmanager
def all_but_the_last_line(path: Path) -> Iterator[None]:
    with rewriting(path, EDITED[: EDITED.rindex("holder")]):
        yield


@contextlib.contextmanager
def a_new_file(path: Path) -> Iterator[None]:
    path.unlink()
    with rewriting(path):
        yield


@contextlib.contextmanager
def a_new_empty_file(path: Path) -> Iterator[None]:
    path.unlink()
    with only_truncated(path):
        yield


@contextlib.contextmanager
def a_new_file_as_vim(path: Path) -> Iterator[None]:
    path.rename(path.with_name("doorpi.toml~"))
    with rewriting(path):
        yield


@contextlib.contextmanager
def renamed_too_early(path: Path) -> Iterator[None]:
    beside = path.with_name("beside")
    with rewriting(beside):
        beside.replace(path)
        yield


SLOW = {
    "rewriting": rewriting,
    "only truncated": only_truncated,
    "all but the last line": all_but_the_last_line,
    "a new file": a_new_file,
    "a new empty file": a_new_empty_file,
    "a new file as vim": a_new_file_as_vim,
    "renamed too early": renamed_too_early,
}


@pytest.fixture
def whole(path, clock) -> FileWatch:
    """A watch of a file that was good when it was last read."""
    path.write_text(WHOLE)
    watch = FileWatch(clock, [path])
    assert watch.mark_read(is_good=True)
    return watch


@pytest.mark.parametrize("writing", SLOW.values(), ids=SLOW)
def test_watch_waits_while_half_of_a_file_may_be_missing(path, clock, whole, writing):
    with writing(path):
        assert not whole.is_due(urgent=True)
        assert over_after(whole, clock, within_s=3.9) == inf

    assert 0.9 <= over_after(whole, clock) < 1.4
    assert path.read_text() == EDITED


def test_watch_waits_for_an_upload_that_stalls_repeatedly(path, clock, whole):
    with path.open("w") as file:
        for line in EDITED.splitlines(keepends=True):
            file.write(line)
            file.flush()
            if file.tell() < len(EDITED):
                assert over_after(whole, clock, within_s=3.9) == inf

    assert 0.9 <= over_after(whole, clock) < 1.4


SHORTER = {
    "one person less": WHOLE.replace(WHOLE[SEVENTH : SEVENTH + 51], ""),
    "half of the people less": WHOLE[:200] + WHOLE[WHOLE.index("uid", 700) - 9 :],
    "the last person has another name": WHOLE.replace("Person 19", "P. 19 of 20"),
    "one person more": WHOLE + "[[card]]\nuid = '01020309'\nholder = 'Jo'\n",
}


@pytest.mark.parametrize("text", SHORTER.values(), ids=SHORTER)
def test_watch_reads_a_shorter_file_with_its_end_after_a_second(
    path, clock, whole, text
):
    path.write_text(text)

    assert 0.9 <= over_after(whole, clock) < 1.4


def test_watch_reads_a_file_without_its_last_person_after_four_seconds(
    path, clock, whole
):
    """It might be an upload that is cut short."""
    path.write_text(WHOLE[: WHOLE.rindex("[[card]]")])

    assert 4.0 <= over_after(whole, clock) < 4.4


def test_watch_reads_an_undone_mistake_at_the_end_after_a_second(path, clock, whole):
    path.write_text(WHOLE + "[[crad]]\n")
    assert over_after(whole, clock) < 1.4
    assert whole.mark_read(is_good=False)

    path.write_text(WHOLE)

    assert 0.9 <= over_after(whole, clock) < 1.4


FOLDERS = {
    "a folder made again": with_its_folder,
    "another folder in its place": as_another_folder,
    "the file is a link now": by_a_link,
}


@pytest.mark.parametrize("change", FOLDERS.values(), ids=FOLDERS)
def test_watch_follows_a_file_that_was_moved_or_replaced(path, clock, change):
    watch = FileWatch(clock, [path])
    change(path)
    over_after(watch, clock)
    watch.mark_read()

    path.write_text(OLD)

    assert 0.9 <= over_after(watch, clock) < 1.4


def test_watch_follows_a_link_to_a_link_of_a_folder(tmp_path, clock):
    """As kubernetes mounts a ConfigMap."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "doorpi.toml").write_text(version)
    data, path = tmp_path / "..data", tmp_path / "doorpi.toml"
    data.symlink_to("v1")
    path.symlink_to("..data/doorpi.toml")
    watch = FileWatch(clock, [path])

    data.with_name("tmp").symlink_to("v2")
    data.with_name("tmp").replace(data)

    assert 0.9 <= over_after(watch, clock) < 1.4
    assert watch.mark_read()


def test_watch_waits_for_an_editor_that_keeps_writing(path, clock):
    watch = FileWatch(clock, [path])

    for _ in range(5):
        in_place(path)
        assert over_after(watch, clock, within_s=0.85) == inf

    assert over_after(watch, clock) < 1.4


def test_watch_notices_an_edit_that_begins_during_reading(path, clock, whole):
    path.write_text(EDITED)
    assert over_after(whole, clock) < 1.4

    with rewriting(path):
        assert not whole.mark_read()
        assert over_after(whole, clock, within_s=3.9) == inf

    assert over_after(whole, clock) < 1.4
    assert whole.mark_read()


def test_watch_waits_five_seconds_for_a_missing_file(path, clock):
    watch = FileWatch(clock, [path])

    path.unlink()

    assert 5.0 <= over_after(watch, clock) < 5.4


def test_watch_treats_a_file_that_returns_in_time_as_edited(path, clock):
    watch = FileWatch(clock, [path])
    path.unlink()
    assert over_after(watch, clock, within_s=4.5) == inf

    path.write_text(NEW)

    assert 0.9 <= over_after(watch, clock) < 1.4


def test_watch_ignores_other_files_in_the_folder(path, clock):
    watch = FileWatch(clock, [path])

    path.with_name("notes").write_text("x")
    path.with_name("notes").unlink()

    assert over_after(watch, clock) == inf


def test_watch_makes_four_looks_a_second(path, clock, monkeypatch):
    looks = []
    watch = FileWatch(clock, [path])
    state = doorpi._state
    monkeypatch.setattr(doorpi, "_state", lambda at: looks.append(at) or state(at))

    over_after(watch, clock, within_s=10)

    assert len(looks) == 40


def test_watch_works_in_a_folder_that_cannot_be_listed(powerless, clock):
    folder = powerless / "etc"
    folder.mkdir()
    path = folder / "doorpi.toml"
    path.write_text(OLD)
    folder.chmod(0o300)
    watch = FileWatch(clock, [path])

    in_place(path)

    assert 0.9 <= over_after(watch, clock) < 1.4
    folder.chmod(0o700)


# -- what is read of it


@pytest.fixture
def desk(path, clock) -> Desk:
    return Desk(path, clock).start()


def test_settings_read_an_edit(desk):
    desk.write("after")

    assert [desk.read(), desk.read()] == ["after", "nothing"]


def test_settings_are_unchanged_by_a_touched_file(desk):
    os.utime(desk.path)
    shutil.copy(desk.path, desk.path.with_name("copy")).replace(desk.path)

    assert [desk.read(), desk.read()] == ["no change", "nothing"]


def test_settings_are_unchanged_by_a_comment(desk):
    desk.write(more="# as Ken wished")

    assert [desk.read(), desk.read()] == ["no change", "nothing"]


def test_sighup_reads_the_settings_at_once_and_always(desk):
    desk.settings.changed()
    desk.signals.asked = True

    assert desk.read(LOOK_S) == "no change"
    assert desk.read() == "nothing"


def test_sighup_waits_until_an_edit_is_complete(desk, caplog):
    caplog.set_level(logging.INFO)
    desk.write("after")
    desk.signals.asked = True

    assert desk.read(within_s=0.85) == "nothing"
    assert desk.read(within_s=0.2) == "after"
    assert desk.read() == "nothing"
    assert caplog.messages == [f"{desk.path} is being edited: it is read afterwards"]


def test_bad_edit_is_reported_once_with_all_problems(desk):
    desk.write("after", more="on = 1\noff = 2\n")

    reported = [desk.read(), desk.read()]

    each = "doorpi.toml: lock.{}: unknown key"
    assert reported == [f"{each.format('on')}\n{each.format('off')}", "nothing"]
    assert desk.config.door.name == "before"


def test_bad_edit_that_is_not_toml_is_reported_with_line_and_caret(desk):
    desk.write("after", more="confirm_s = 3,0\non = 1\n")

    first, shown, caret, second = desk.read().split("\n")

    assert re.fullmatch(r"doorpi.toml: line \d+: write a decimal point: 3.5", first)
    assert (shown, caret) == ("    confirm_s = 3,0", "                 ^")
    assert second == "doorpi.toml: lock.on: unknown key"


def test_bad_edit_after_another_is_reported_and_undoing_it_heals(desk):
    desk.write("after", more="on = 1\n")
    reported = [desk.read()]
    desk.write("later", more="on = 1\n")
    reported.append(desk.read())
    desk.write()
    reported.append(desk.read())

    assert reported == ["doorpi.toml: lock.on: unknown key"] * 2 + ["no change"]


def test_missing_file_is_a_problem_until_it_returns(desk):
    text = desk.path.read_text()
    desk.path.unlink()
    gone = desk.read()
    desk.path.write_text(text)

    assert [gone, desk.read()] == [f"{desk.path}: no such file", "no change"]


def test_unreadable_file_is_a_problem_until_it_can_be_read(powerless, clock):
    desk = Desk(powerless / "doorpi.toml", clock).start()
    desk.path.chmod(0)
    shut = desk.read()
    desk.path.chmod(0o600)

    reported = [shut, desk.read()]

    assert reported == [
        f"{desk.path}: cannot be read: permission denied",
        "no change",
    ]


def test_settings_that_change_during_reading_are_read_again(desk, monkeypatch):
    read = doorpi.read_settings

    def interrupted(path: Path) -> str:
        found = read(path)
        monkeypatch.setattr(doorpi, "read_settings", read)
        desk.write("later")
        return found

    monkeypatch.setattr(doorpi, "read_settings", interrupted)
    desk.write("after")

    assert [desk.read(), desk.read()] == ["later", "nothing"]


def test_an_edit_during_the_start_is_not_missed(path, clock, monkeypatch):
    desk = Desk(path, clock)
    read = doorpi.read_settings

    def interrupted(path: Path) -> str:
        found = read(path)
        desk.write("after")
        return found

    monkeypatch.setattr(doorpi, "read_settings", interrupted)
    desk.start()
    monkeypatch.setattr(doorpi, "read_settings", read)

    assert desk.config.door.name == "before"
    assert desk.read() == "after"


# -- the files that it names


def test_key_file_with_a_new_key_takes_effect(path, clock):
    key = path.with_name("sesame.key")
    key.write_text("old\n")
    desk = Desk(path, clock, key="{ file = 'sesame.key' }").start()
    old = desk.equipment.locks["lock"]
    assert desk.read() == "nothing"

    key.write_text("new\n")

    assert desk.read() == "before"
    assert desk.config.lock.api_key.text == "new"
    assert desk.equipment.locks["lock"] is not old


def test_key_file_that_an_edit_names_is_awaited(desk):
    desk.write("after", key="{ file = 'sesame.key' }")
    missing = desk.read()

    desk.path.with_name("sesame.key").write_text("new\n")

    assert missing == (
        "doorpi.toml: lock.api_key:"
        f" {desk.path.with_name('sesame.key')} cannot be read: no such file or directory"
    )
    assert desk.read() == "after"


def test_key_file_that_is_missing_does_not_delay_an_edit_without_it(desk):
    desk.write("after", key="{ file = 'sesame.key' }")
    desk.read()

    desk.write("after")

    assert desk.read(within_s=1.5) == "after"


def test_key_file_that_is_deleted_while_it_is_read_is_a_problem(desk, monkeypatch):
    key, read = desk.path.with_name("door.key"), doorpi.text_of

    def late(path, *args, **more):
        text = read(path, *args, **more)
        if path == key:
            key.unlink()
        return text

    key.write_text(32 * "0a")
    key.chmod(0o600)
    monkeypatch.setattr(doorpi, "text_of", late)
    desk.write("after", more="[proof]\ndoor_key = { file = 'door.key' }\n")

    assert f"{key} cannot be read" in desk.read()


def test_certificates_that_change_make_a_new_driver(path, clock, caplog):
    caplog.set_level(logging.INFO)
    trusted = path.with_name("ca.pem")
    trusted.write_text("-----BEGIN one")
    desk = Desk(path, clock, more="ca_file = 'ca.pem'").start()
    old = desk.equipment.locks["lock"]

    trusted.write_text("-----BEGIN two")

    assert desk.read() == "before"
    assert desk.config.lock.trusted == "-----BEGIN two"
    assert desk.equipment.locks["lock"] is not old
    assert desk.read() == "nothing"


# -- what of the door is changed by it

PLAIN = {
    "door": "",
    "reader": 'device = "tty:S9:pn532"',
    "lock": 'kind = "relay"',
    "leds": "",
    "log": "",
    "signals": "",
    "fallback": None,
}
RELAY, SECOND = 'kind = "relay"\n', 'kind = "relay"\nrelay_gpio = 5\n'
MINI = 'kind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\n'

# fmt: off
CHANGES = {
    "door.name":         ({},                       {"door": 'name = "B"'},              False),
    "log.keep_days":     ({},                       {"log": "keep_days = 30"},           False),
    "reader.device":     ({},                       {"reader": 'device = "usb"'},        True),
    "reader.poll_s":     ({},            {"reader": PLAIN["reader"] + "\npoll_s = 0.5"}, True),
    "leds.active_high":  ({},                       {"leds": "active_high = false"},     True),
    "signals":           ({},                       {"signals": 'ready = "* R"'},        True),
    "lock.kind":         ({},                       {"lock": MINI + 'api_key = "k"'},    True),
    "lock.api_key":      ({"lock": MINI + 'api_key = "k"'}, {"lock": MINI + 'api_key = "l"'}, True),
    "fallback added":    ({},                       {"fallback": SECOND},                True),
    "fallback removed":  ({"fallback": SECOND},     {"fallback": None},                  True),
    "lock and fallback swap pins": ({"fallback": SECOND},
        {"lock": SECOND, "fallback": RELAY},                                             True),
    "a light and the relay swap pins": ({},
        {"lock": RELAY + "relay_gpio = 23", "leds": "green_gpio = 17"},                  True),
    "the lights swap pins": ({},                    {"leds": "green_gpio = 22\nred_gpio = 23"}, True),
    "the relay takes a light's pin": ({},
        {"lock": RELAY + "relay_gpio = 22", "leds": "red_gpio = 6"},                     True),
    "a light takes the pin of a fallback that is gone": ({"fallback": SECOND},
        {"fallback": None, "leds": "red_gpio = 5"},                                      True),
}
# fmt: on


def parts(equipment: doorpi.Equipment) -> dict[str, object]:
    return {
        "reader": equipment.sources[0].reader,
        "lights": equipment.lights[""],
        **equipment.locks,
    }


@pytest.fixture
def pins() -> Iterator[MockFactory]:
    Device.pin_factory = MockFactory()
    yield Device.pin_factory
    Device.pin_factory = None


class Workshop:
    """A door's equipment on pins in memory, and the file that it follows."""

    def __init__(self, path: Path, **tables: str | None) -> None:
        self.path, self.tables = path, PLAIN | tables
        self.signals = ProcessSignals()
        self.write()
        clock = doorpi.SystemClock()
        self.settings = doorpi.make_settings(path, {}, self.signals, clock)
        self.config = self.settings.load()
        door = doorpi.build(self.config, self.settings, {}, clock)
        self.equipment = door._keeper.equipment

    def write(self, **tables: str | None) -> None:
        self.tables |= tables
        self.path.write_text(
            "".join(
                f"[{name}]\n{lines}\n"
                for name, lines in self.tables.items()
                if lines is not None
            )
        )

    def renew(self, **tables: str | None) -> None:
        self.write(**tables)
        self.config = doorpi.read_config(self.path, {})
        assert self.settings.apply(self.config, self.equipment)

    def unlock(self, name: str = "lock") -> None:
        now = time.monotonic()
        assert self.equipment.locks[name].send(Command.UNLOCK, now + 5, now + 5) is None


@pytest.fixture
def workshop(path, pins) -> Iterator[Callable[..., Workshop]]:
    with contextlib.ExitStack() as end:

        def make(**tables: str | None) -> Workshop:
            made = Workshop(path, **tables)
            end.callback(lambda: made.equipment.close())
            return made

        yield make


@pytest.mark.parametrize(("before", "edit", "is_new"), CHANGES.values(), ids=CHANGES)
def test_reload_makes_the_parts_again_when_an_edit_is_about_any_of_them(
    workshop, caplog, before, edit, is_new
):
    shop = workshop(**before)
    old, people = parts(shop.equipment), shop.equipment.people

    shop.renew(**edit)

    new = parts(shop.equipment)
    assert shop.config == doorpi.read_config(shop.path, {})
    assert shop.equipment.people is people
    assert all((old.get(name) is not part) is is_new for name, part in new.items())
    assert list(shop.equipment.locks) == list(doorpi.locks_of(shop.config))
    assert isinstance(shop.equipment.lights[""], GpioLights)
    assert shop.equipment.lights[""].trouble == ""
    for lock in shop.equipment.locks.values():
        if isinstance(lock, doorpi.Relay):
            lock.status(time.monotonic() + 1)  # it has its pin
    shop.equipment.lights[""].show(doorpi.Signal.READY)
    assert caplog.messages == []


def test_reload_releases_pins_that_are_no_longer_used(workshop):
    shop = workshop(fallback=SECOND)

    shop.renew(
        fallback=None,
        lock=RELAY + "relay_gpio = 27",
        leds="green_gpio = 6\nred_gpio = 9",
    )

    for number in (5, 17, 22, 23):
        OutputDevice(number).close()


def test_reload_of_people_leaves_an_open_strike_alone(workshop, pins):
    shop = workshop(lock=RELAY + "hold_s = 30")
    shop.unlock()

    shop.renew(door='name = "B"')

    assert pins.pin(17).state


def test_reload_of_the_reader_keeps_requests_in_the_inbox(workshop):
    shop, clock = workshop(), doorpi.SystemClock()
    _, inbox = shop.equipment.sources
    assert inbox.poll(clock.monotonic()) is None
    path = shop.path.with_name("state") / "inbox.db"
    with contextlib.closing(doorpi.Inbox(path, clock)) as sender:
        now = clock.monotonic()
        asked = doorpi.AccessRequest(
            doorpi.Medium.COMMAND, "Ken Sato", at=clock.now(), arrived=now,
            good_until=now + 60, wants=doorpi.Wants.UNLOCK, id="one",
        )  # fmt: skip
        sender.put(asked)

        shop.renew(reader='device = "usb"')

        reader, inbox = shop.equipment.sources
        assert reader.worker.is_idle
        assert inbox.poll(clock.monotonic()).id == "one"
        inbox.answer(asked, doorpi.Answer(True, ["unlocked"]))
        assert sender.answer_to("one") == doorpi.Answer(True, ["unlocked"])


def test_reload_of_readers_keeps_what_each_has_seen(path, pins):
    text = 'device = "tty:S9:pn532"\n[[reader]]\nname = "b"\ndevice = "usb"\n'
    lights = "leds = { green_gpio = 5, red_gpio = 6 }\n"
    end = '[lock]\nkind = "relay"\n'
    path.write_text(f'[[reader]]\nname = "a"\n{text}{lights}{end}')
    clock = doorpi.SystemClock()
    settings = doorpi.make_settings(path, {}, ProcessSignals(), clock)
    door = doorpi.build(settings.load(), settings, {}, clock)
    equipment = door._keeper.equipment

    with contextlib.closing(equipment):
        a, b, inbox = equipment.sources
        more = '[[reader]]\nname = "c"\ndevice = "tty:S8:pn532"\n'
        path.write_text(f'[[reader]]\nname = "a"\npoll_s = 0.5\n{text}{more}{end}')
        settings.apply(doorpi.read_config(path, {}), equipment)
        assert [source.point for source in equipment.sources] == ["a", "b", "c", ""]
        assert [each.debounce for each in equipment.sources[:2]] == [
            a.debounce,
            b.debounce,
        ]
        assert equipment.sources[3] is inbox
        assert list(equipment.lights) == [""]


def test_reload_refuses_another_state_dir_until_a_restart(desk):
    here, there = desk.path.with_name("state"), desk.path.with_name("else")
    desk.path.write_text(f"[door]\nstate_dir = 'else'\n{desk.path.read_text()[7:]}")

    assert desk.read() == (
        f"doorpi.toml: door.state_dir = {str(there)!r}: needs a restart (sudo systemctl"
        f" restart doorpi); in use is {str(here)!r}"
    )
    assert not there.exists()


@pytest.fixture
def signals() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (*ProcessSignals.stops, signal.SIGHUP)}
    ProcessSignals().install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_stop_during_a_reload_leaves_nothing_half_made(workshop, monkeypatch, signals):
    """What is put away at the end is what there is by then."""
    shop = workshop()
    old = shop.equipment.lights[""]

    def stopped(*args):
        signal.raise_signal(signal.SIGTERM)
        return doorpi.make_parts(*args)

    monkeypatch.setattr(shop.settings, "_new_parts", stopped)

    with pytest.raises(Stopped):
        shop.renew(lock=RELAY + "relay_gpio = 23", leds="green_gpio = 17")

    assert shop.equipment.lights[""] is not old
    shop.equipment.lights[""].show(doorpi.Signal.STOPPING)


def test_a_stop_waits_for_the_outermost_of_what_must_not_be_disturbed(signals):
    steps = []

    def outer() -> None:
        with ProcessSignals.postponed():
            with ProcessSignals.postponed():
                signal.raise_signal(signal.SIGTERM)
            steps.append("still here")

    with pytest.raises(Stopped):
        outer()

    assert steps == ["still here"]


# -- the whole program


def effect_after(door: DoorProcess, words: str) -> float:
    """The seconds until ``words`` are in the journal."""
    watch = Stopwatch()
    door.until(lambda: words in door.journal, words)
    return watch.own_s


def replace_config(folder: Path, *args, **tables) -> Path:
    """As an editor does that writes a temporary file."""
    beside = folder / "beside"
    beside.mkdir(exist_ok=True)
    return write_config(beside, *args, **tables).replace(folder / "doorpi.toml")


def test_a_good_edit_works_within_two_seconds_and_a_bad_one_changes_nothing(
    tmp_path, cloud, radio
):
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()

        replace_config(tmp_path, cloud, radio.device, cards=KEN_CARD + MIKA_CARD)
        took_s = [effect_after(door, "settings reloaded")]
        added = door.tap(radio, MIKA)
        config.write_text(config.read_text().replace("poll_s", "pol_s"))
        took_s.append(effect_after(door, "has 1 problem"))
        known = door.tap(radio, KEN)

        assert max(took_s) < 2
        assert [added.reason, known.reason] == ["granted", "granted"]
        assert known.result is Result.LOCKED
        assert door.status == (
            "doorpi.toml has 1 problem; the last good settings are in force"
        )
        assert door.journal.count("reader.pol_s: unknown key") == 1

        with (
            contextlib.closing(LiveSesameMini()) as other_cloud,
            contextlib.closing(VirtualField()) as other_radio,
        ):
            replace_config(tmp_path, other_cloud, other_radio.device)
            door.until(lambda: door.journal.count("settings reloaded") == 2, "a reload")
            event = door.tap(other_radio, KEN)

        assert event.result is Result.UNLOCKED
        assert other_cloud.locked is False
