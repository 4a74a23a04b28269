"""A state folder in memory: what is stored there is lost at a reboot, and DoorPi says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

import doorpi
from doorpi import Health, forgets, main

# fmt: off
MOUNTED = {
    # the folder's file system: as mountinfo ends, and in which memory it is kept
    "a plain card":          ("/var/lib/doorpi rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw", ""),
    "the overlay of a Pi":   ("/ rw,relatime - overlay overlay rw,upperdir=/upper/data", "overlay"),
    "a tmpfs":               ("/run rw,nosuid master:2 - tmpfs tmpfs rw,size=4k", "tmpfs"),
    "a ramfs with a blank":  (r"/mnt/my\040disk rw - ramfs ramfs rw", "ramfs"),
}
# fmt: on
OTHER = "1 0 999:999 / /sys rw - tmpfs tmpfs rw\n"


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A mountinfo that says ``how`` the file system of ``folder`` is mounted."""

    def mount(folder: Path, how: str) -> None:
        device = folder.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"{OTHER}27 1 {number} / {how}\n{OTHER}")
        monkeypatch.setattr(doorpi, "MOUNTS", mounts)

    monkeypatch.setattr(doorpi, "CONTAINERS", ())
    return mount


@pytest.mark.parametrize(("how", "kind"), MOUNTED.values(), ids=MOUNTED)
def test_forgets_goes_by_the_file_system_of_the_folder(mounted, tmp_path, how, kind):
    mounted(tmp_path, how)
    folder = tmp_path / "not" / "there" / "yet"

    found = forgets(folder)

    words = f"{folder} is kept in memory only ({kind})"
    assert (found and found[0]) == (words if kind else None)


def test_forgets_nothing_where_mountinfo_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(doorpi, "MOUNTS", tmp_path / "none")

    assert forgets(tmp_path) is None


def test_the_overlay_of_a_container_lasts(mounted, monkeypatch, tmp_path):
    mounted(tmp_path, MOUNTED["the overlay of a Pi"][0])
    monkeypatch.setattr(doorpi, "CONTAINERS", (tmp_path,))

    assert forgets(tmp_path) is None


# -- a real one

CONFIG = """
[door]
state_dir = "{folder}"
[lock]
kind = "relay"
"""


@pytest.fixture
def in_memory(monkeypatch):
    """A folder on the tmpfs that each Linux has."""
    monkeypatch.setattr(doorpi, "MOUNTS", Path("/proc/self/mountinfo"))
    try:
        folder = Path(tempfile.mkdtemp(prefix="doorpi-", dir="/dev/shm"))
    except OSError as error:
        pytest.skip(f"no /dev/shm: {error}")
    (folder / "doorpi.toml").write_text(CONFIG.format(folder=folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def verb(in_memory, capsys):
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["--config", str(in_memory / "doorpi.toml"), *words])
        return code, *capsys.readouterr()

    return run


CHANGES = [
    ("allow", "Ken Sato", "--uid", "04:A9:3C:71:5E:D2:84"),
    ("revoke", "Ken Sato"),
    ("lockdown", "on"),
    ("lockdown", "off"),
]


def test_each_change_says_that_it_is_forgotten_and_what_to_do(verb, in_memory):
    said = [verb(*words) for words in CHANGES]

    assert [code for code, _, _ in said] == [0, 0, 0, 0]
    words = (
        "what is stored is lost at the next reboot:"
        f" {in_memory} is kept in memory only (tmpfs); mount a disk at {in_memory}, or"
        " set door.state_dir to a folder on one\n"
    )
    assert [err for _, _, err in said] == [words] * 4


def test_check_notes_it(verb):
    _, out, _ = verb("check")

    assert "what is stored is lost at the next reboot" in out


def test_doctor_fails(in_memory):
    *_, finding = doorpi.diagnose_disk(in_memory)

    assert finding.health is Health.FAIL
    assert finding.words == (
        f"{in_memory} is kept in memory only (tmpfs): the list, a lockdown and the log"
        " are lost at the next reboot"
    )
