"""The last good settings: what a door goes on with whose file is broken or gone."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import stat
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    LAST_GOOD,
    ConfigError,
    FileSettings,
    LastGood,
    Secret,
    last_good,
    main,
    read_last_good,
)
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.virtual import VirtualField
from tests.helpers.desk import Desk
from tests.helpers.disk import fill_up, tmpfs
from tests.helpers.processes import DoorProcess, doorpi_says, write_config
from tests.helpers.world import KEN

KEY_FILE = "{ file = 'sesame.key' }"
TRUSTED = "ca_file = 'ca.pem'\n"
PEM = b"# of M\xfcller\n-----BEGIN CERTIFICATE-----\n"
BROKEN = {
    "no TOML": "[door\n",
    "an unknown key": "[door]\nnam = 'x'\n",
    "empty": "",
    "not UTF-8": b"name = '\xff'",
    "gone": None,
}


@pytest.fixture
def path(tmp_path) -> Path:
    for folder in ("etc", "state"):
        (tmp_path / folder).mkdir()
    return tmp_path / "etc" / "doorpi.toml"


@pytest.fixture
def environ(path) -> dict[str, str]:
    return {"STATE_DIRECTORY": str(path.parent.with_name("state"))}


@pytest.fixture
def start(path, clock, environ):
    """A door's settings, as each of its starts finds them."""

    def begin(**text: str) -> Desk:
        desk = Desk(path, clock, **text)
        return again(desk)

    def again(desk: Desk) -> Desk:
        desk.settings = doorpi.make_settings(path, environ, desk.signals, clock)
        desk.start()
        desk.settings.remember()
        return desk

    begin.again = again
    return begin


def spoil(path: Path, text: str | bytes | None) -> None:
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_start_with_an_unusable_file_uses_the_last_good_settings(
    path, start, caplog, text
):
    desk = start()
    spoil(path, text)

    start.again(desk)

    assert desk.config.door.name == "before"
    (reported,) = caplog.messages
    assert reported.startswith(f"{path} cannot be used: the last good settings, of ")
    problem = desk.read()
    assert problem not in ("nothing", "no change", "before")
    assert desk.read() == "nothing"


def test_start_does_not_wait_for_a_pipe(path, start):
    desk = start()
    path.unlink()
    os.mkfifo(path)

    start.again(desk)

    assert desk.config.door.name == "before"
    path.unlink()


def test_good_edit_replaces_the_last_good_settings_without_a_restart(path, start):
    desk = start()
    path.unlink()
    start.again(desk)
    desk.read()

    desk.write("after")

    assert desk.read() == "after"
    desk.settings.remember()
    assert "after" in last_good(path, desk_environ(path)).settings


def desk_environ(path: Path) -> dict[str, str]:
    return {"STATE_DIRECTORY": str(path.parent.with_name("state"))}


def test_bad_edit_that_is_undone_after_the_start_heals(path, start):
    desk = start()
    good = path.read_text()
    path.write_text("[door\n")
    start.again(desk)
    desk.read()

    path.write_text(good)

    assert desk.read() == "no change"


def test_bad_edit_is_not_saved(path, environ, start):
    desk = start()
    desk.write("after", more="on = 1\n")
    desk.read()

    desk.settings.remember()

    assert "before" in last_good(path, environ).settings


@pytest.mark.parametrize("lost", ["sesame.key", "ca.pem"])
def test_start_without_a_named_file_uses_its_saved_content(path, start, caplog, lost):
    path.with_name("sesame.key").write_text("the key\n")
    path.with_name("ca.pem").write_bytes(PEM)
    desk = start(key=KEY_FILE, more=TRUSTED)
    path.with_name(lost).unlink()

    start.again(desk)

    assert desk.config.lock.api_key == Secret(text="the key", file="sesame.key")
    trusted = desk.config.lock.trusted
    assert trusted.encode(errors="surrogateescape") == PEM
    assert "cannot be read" in desk.read()
    assert "cannot be used" in caplog.text


def test_key_changed_together_with_a_mistake_takes_effect_once_that_is_corrected(
    path, start
):
    """The last good settings are one thing, not the old file with new keys."""
    path.with_name("sesame.key").write_text("old\n")
    desk = start(key=KEY_FILE)
    path.with_name("sesame.key").write_text("new\n")
    desk.write(key=KEY_FILE, more="on = 1\n")

    start.again(desk)

    assert desk.config.lock.api_key.text == "old"
    desk.read()
    desk.write(key=KEY_FILE)
    assert desk.read() == "before"
    assert desk.config.lock.api_key.text == "new"


def test_credentials_of_systemd_are_not_saved_on_disk(path, environ, start, tmp_path):
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    (tmp_path / "sesame.key").write_text("of the service alone\n")
    desk = start(key=KEY_FILE)
    path.unlink()

    start.again(desk)

    assert desk.config.lock.api_key.text == "of the service alone"
    (kept,) = (tmp_path / "state").iterdir()
    assert "of the service alone" not in kept.read_text()


def test_start_without_last_good_settings_reports_every_problem(path, start):
    with pytest.raises(ConfigError) as refused:
        start(more="on = 1\noff = 2\n")

    assert len(refused.value.problems) == 2


GOOD = {"settings": "[lock]\nkind = 'relay'\n", "files": {}, "path": "/doorpi.toml"}
WORTHLESS = {
    "nothing": b"",
    "cut short": json.dumps(GOOD).encode()[:-5],
    "other JSON": b"[7]",
    "no text": json.dumps(GOOD | {"settings": 7}).encode(),
    "no files": json.dumps(GOOD | {"files": {"a": 7}}).encode(),
    "nested": b"[" * 100_000,
    "of another version": json.dumps(GOOD | {"settings": "[tomorrow]\n"}).encode(),
    "rot": bytes(range(256)),
}


@pytest.mark.parametrize("content", WORTHLESS.values(), ids=WORTHLESS)
def test_broken_last_good_settings_are_not_used(tmp_path, content):
    (tmp_path / LAST_GOOD).write_bytes(content)

    assert read_last_good(tmp_path) is None


def test_last_good_settings_in_a_pipe_are_not_used(tmp_path):
    os.mkfifo(tmp_path / LAST_GOOD)

    assert read_last_good(tmp_path) is None


@pytest.mark.parametrize(
    ("named", "given", "found"),
    [("there", "state", "there"), ("", "state", "state"), ("", None, "etc/state"),
     ("gone", "state", "state")],
)  # fmt: skip
def test_last_good_settings_are_found_in_each_possible_folder(
    path, named, given, found
):
    root = path.parent.parent
    path.write_text(f"[door]\nstate_dir = '{root / named}'\nx = [\n" if named else "x")
    (root / found).mkdir(parents=True, exist_ok=True)
    LastGood(**GOOD | {"path": str(path)}, folder=root / found).save()
    environ = {"STATE_DIRECTORY": str(root / given)} if given else {}

    good = last_good(path, environ)

    assert good is not None
    assert good.folder == root / found
    assert good.config().door.state_dir == str(root / found)


def test_last_good_settings_are_readable_by_their_owner_alone(path):
    LastGood(**GOOD, folder=path.parent).save()

    assert stat.S_IMODE((path.parent / LAST_GOOD).stat().st_mode) == 0o600


def test_save_replaces_the_remains_of_a_killed_door(path):
    path.write_text("")
    (path.parent / f"{LAST_GOOD}.part").symlink_to(path)

    LastGood(**GOOD, folder=path.parent).save()

    assert read_last_good(path.parent)[:3] == tuple(GOOD.values())
    assert path.read_text() == ""


def test_save_writes_only_what_is_new(path, start):
    kept = path.parent.with_name("state") / LAST_GOOD
    desk = start()
    before = kept.stat().st_ino

    start.again(desk)
    assert kept.stat().st_ino == before
    desk.write("after")
    desk.read()
    desk.settings.remember()

    assert kept.stat().st_ino != before


def test_save_on_a_full_disk_replaces_the_old_settings(path, start):
    state = path.parent.with_name("state")
    state.rmdir()
    with tmpfs(state, "size=64k"):
        desk = start()
        fill_up(state)
        desk.write("after")
        desk.read()

        desk.settings.remember()

        assert "after" in read_last_good(state).settings


@pytest.mark.parametrize("is_there", [True, False])
def test_save_that_fails_removes_the_old_settings_and_is_repeated(
    path, start, is_there, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING)
    state = path.parent.with_name("state")
    desk = start()
    if not is_there:
        (state / LAST_GOOD).unlink()
    desk.write("after")
    desk.read()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_room)
        desk.settings.remember()
        assert read_last_good(state) is None
        assert "(no space left on device)" in caplog.text

    assert desk.read(within_s=FileSettings.remember_every_s + 1) == "nothing"

    assert "after" in read_last_good(state).settings


def no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_save_that_fails_is_logged_once_and_stops_no_door(path, start, caplog):
    caplog.set_level(logging.WARNING)
    path.parent.with_name("state").rmdir()

    desk = start()
    desk.settings.remember()

    (reported,) = caplog.messages
    assert "a bad edit of the settings would not survive a restart" in reported


# -- the verbs


@pytest.fixture
def says(path, environ, monkeypatch, capsys):
    """Exit code, stdout and stderr of a verb."""
    monkeypatch.setenv("STATE_DIRECTORY", environ["STATE_DIRECTORY"])
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def say(*args: str) -> tuple[int, str, str]:
        code = main(["--config", str(path), *args])
        return code, *capsys.readouterr()

    return say


def test_check_judges_the_file_alone(path, start, says):
    start()
    path.unlink()

    code, _, err = says("check")

    assert (code, err.splitlines()[1:]) == (78, [f"  {path}: no such file"])


def test_check_compares_with_them_and_shows_no_secret(path, start, says):
    start(key="'the-old-key'").write(key="'the-new-key'", name="after")

    code, out, err = says("check")

    assert (code, err) == (0, "")
    assert "  lock.api_key: changed\n" in out
    assert "  door.name: 'before' -> 'after'\n" in out
    assert "the-old-key" not in out


def test_doctor_names_the_problems_and_the_settings_in_force(
    path, start, says, monkeypatch
):
    start()
    path.write_text("[dor]\n")
    monkeypatch.setattr(doorpi, "_subjects", lambda *args: {})

    code, out, _ = says("doctor")

    assert code == 1
    assert "fail  settings  dor: unknown key" in out
    assert "warn  settings  the door uses its last good settings, of 20" in out


def test_status_asks_the_lock_of_the_last_good_settings(path, start, says):
    with contextlib.closing(LiveSesameMini()) as cloud:
        desk = start(key=f"'{cloud.key}'", more=f"base_url = '{cloud.base_url}'\n")
        desk.write(key="'k'", more="on = 1\n")

        _, out, err = says("status")

    assert cloud.requests
    assert "not known" in out  # device 'd' is none of that cloud's
    assert err.startswith(f"{path}: 1 problem; using the last good settings, of 20")


def test_last_good_settings_of_another_door_are_not_used(tmp_path, clock):
    """Two doors of one folder, and the second one's file does not say any more which
    state is its own."""
    back, front = tmp_path / "back.toml", tmp_path / "front.toml"
    back.write_text("[lock]\nkind = 'relay'\n")
    settings = doorpi.make_settings(back, {}, doorpi.ProcessSignals(), clock)
    (tmp_path / "state").mkdir()
    settings.load()
    settings.remember()
    front.write_text("")

    with pytest.raises(ConfigError, match="empty"):
        doorpi.make_settings(front, {}, doorpi.ProcessSignals(), clock).load()

    assert main(["--config", str(front), "cards"]) == 78
    assert main(["--config", str(back), "cards"]) == 0


# -- versions meet

OF_A_NEWER_VERSION = """
[door]
name = "before"
chime = true
[mqtt]
host = "broker.example.org"
[lock]
kind = "relay"
[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]
holidays = "JP"
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
[[card]]
uid = "04:62:B7:1D:8A:4F:90"
holder = "Anna Abe"
proof = "ntag999"
[[card]]
uid = "01:23:AB:07"
holder = "Jo Guest"
schedule = "office-hours"
"""


def keep(path: Path, settings: str) -> None:
    kept = {"settings": settings, "files": {}, "path": str(path.absolute())}
    folder = path.parent.with_name("state")
    (folder / LAST_GOOD).write_text(json.dumps(kept))


def test_last_good_settings_of_a_newer_version_count_as_far_as_understood(
    path, environ, clock
):
    """A card that must prove itself does not open by its number alone, not even if the
    database has it, and nobody has hours that are half read."""
    keep(path, OF_A_NEWER_VERSION)
    settings = doorpi.make_settings(path, environ, doorpi.ProcessSignals(), clock)

    config = settings.load()

    may_enter = {uid: card.enabled for uid, card in config.cards.items()}
    assert config.door.name == "before"
    assert may_enter == {KEN: True, "0462B71D8A4F90": False, "0123AB07": True}
    assert config.schedules["office-hours"].spans == ()


def test_an_id_that_a_stricter_version_refuses_is_still_tried(path, environ, clock):
    """It was good for the version before, which the lock's cloud has answered."""
    keep(
        path,
        "[lock]\nkind = 'switchbot'\napi_key = 'k'\nsecret_key = 's'\n"
        "device_id = 'B0'\n",
    )

    config = doorpi.make_settings(path, environ, doorpi.ProcessSignals(), clock).load()

    assert config.lock.device_id == "B0"


@pytest.mark.parametrize("line", ["kind = 'wonderlock'", "kind = 'tedee'"])
def test_last_good_settings_without_a_usable_lock_are_not_used(
    path, environ, clock, line
):
    keep(path, f"[lock]\n{line}\n")

    with pytest.raises(ConfigError, match="no such file"):
        doorpi.make_settings(path, environ, doorpi.ProcessSignals(), clock).load()


# -- the whole program


def test_door_opens_after_a_power_cut_with_a_broken_file(tmp_path):
    history: list[str] = []
    with (
        contextlib.closing(LiveSesameMini()) as cloud,
        contextlib.closing(VirtualField()) as radio,
    ):
        config = write_config(tmp_path, cloud, radio.device)
        good = config.read_text()
        with DoorProcess(config) as door:
            door.until_ready()
            door.until(lambda: read_last_good(tmp_path / "state"), "what is kept")
            door.stop(signal.SIGKILL)
        config.write_text(good.replace("poll_s", "pol_s"))

        with DoorProcess(config) as door:
            door.until_ready()
            door.until(lambda: "1 problem" in door.status, "the status")
            history.append(door.tap(radio, KEN).result)
            config.write_text(good.replace("Office 4F", "Office 5F"))
            door.until(lambda: door.status == "ready", "healed")
            history.append(door.tap(radio, KEN).result)
            door.stop(signal.SIGKILL)

    assert history == ["unlocked", "locked"]
    assert doorpi_says("--config", str(config), "check").returncode == 0
