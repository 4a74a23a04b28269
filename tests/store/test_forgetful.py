"""A state folder in memory: what is stored there is gone after a reboot, and told."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

import doorpi
from doorpi import Health, forgets, main

ROOT = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw"
OVERLAY = (
    "27 1 0:30 / / rw,relatime - overlay overlay"
    " rw,lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work"
)
RUN = "28 27 0:25 / /run rw,nosuid master:2 - tmpfs tmpfs rw,size=4k"
VAR = "29 27 179:7 / /var/lib/doorpi rw,relatime - ext4 /dev/sda1 rw"
OVER = "30 27 0:31 / /var/lib/doorpi rw,relatime - ramfs ramfs rw"
BLANK = r"31 27 0:32 / /mnt/my\040disk rw - tmpfs tmpfs rw"

# fmt: off
MOUNTED = {
    # what                    mountinfo             folder               kept in
    "a plain card":           ([ROOT, RUN],         "/var/lib/doorpi",   ""),
    "the overlay of a Pi":    ([OVERLAY, RUN],      "/var/lib/doorpi",   "overlay"),
    "a disk on an overlay":   ([OVERLAY, VAR],      "/var/lib/doorpi",   ""),
    "/run":                   ([ROOT, RUN],         "/run/doorpi/x",     "tmpfs"),
    "no part of a name":      ([ROOT, RUN],         "/runner/doorpi",    ""),
    "the later of two":       ([ROOT, VAR, OVER],   "/var/lib/doorpi/x", "ramfs"),
    "a name with a blank":    ([ROOT, BLANK],       "/mnt/my disk/x",    "tmpfs"),
    "nothing that is known":  ([],                  "/var/lib/doorpi",   ""),
}
# fmt: on


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    def mount(lines: list[str]) -> None:
        mounts = tmp_path / "mountinfo"
        mounts.write_text("".join(f"{line}\n" for line in lines))
        monkeypatch.setattr(doorpi, "MOUNTS", mounts)

    monkeypatch.setattr(doorpi, "CONTAINERS", ())
    return mount


@pytest.mark.parametrize(("lines", "folder", "kind"), MOUNTED.values(), ids=MOUNTED)
def test_what_is_mounted_where_the_folder_is_says_whether_it_lasts(
    mounted, lines, folder, kind
):
    mounted(lines)

    told = forgets(Path(folder))

    assert (told and told[0]) == (f"{folder} is kept in memory only ({kind})" if kind else None)  # fmt: skip


def test_the_overlay_of_a_container_lasts(mounted, monkeypatch, tmp_path):
    mounted([OVERLAY])
    monkeypatch.setattr(doorpi, "CONTAINERS", (tmp_path,))

    assert forgets(Path("/var/lib/doorpi")) is None


def test_a_link_to_memory_is_memory(mounted, tmp_path):
    mounted([ROOT, RUN])
    (tmp_path / "state").symlink_to("/run/doorpi")

    assert forgets(tmp_path / "state")


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
    told = [verb(*words) for words in CHANGES]

    assert [code for code, _, _ in told] == [0, 0, 0, 0]
    words = (
        "what is stored is lost at the next reboot:"
        f" {in_memory} is kept in memory only (tmpfs); mount a disk at {in_memory}, or"
        " set door.state_dir to a folder on one\n"
    )
    assert [err for _, _, err in told] == [words] * 4


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
