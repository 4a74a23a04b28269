"""run.sh and venv.sh in a copy of the checkout: what fails the checks, and that a .venv that
works is there until a new one is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT

FILES = ("doorpi.py", "tests/run.sh", "tests/venv.sh", "tests/requirements.txt", "tests/skips.txt")  # fmt: skip
STAMPS = """
. "$(dirname -- "$0")/venv.sh"
wanted
printf '%s\\n' "$runtime" >"$venv/runtime.stamp"
printf '%s\\n' "$tools" >"$venv/tools.stamp"
"""
#: Instead of Python: it tells its version as Python does, notes how pytest is called, and
#: writes the report that `SKIPPED` asks for.
PLAYED_PYTHON = """#!/bin/sh
case " $* " in
*" -ISc "*) exec {python} "$@" ;;
*" --junitxml="*)
    echo "$*" >>{folder}/calls
    for argument; do
        case $argument in --junitxml=*) report=${{argument#*=}} ;; esac
    done
    printf '<testcase>%s</testcase>' "$SKIPPED" >"$report" ;;
esac
"""


class Checkout:
    """What run.sh needs of the checkout; no index of packages can be reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP", "PYTHON", "DOORPI"))}  # fmt: skip
        self.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def sh(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["sh", self.folder / "tests" / script, *args],
            env=self.env | env, capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip

    def stamp(self) -> None:
        """As if .venv had been built from what there is now."""
        (self.folder / "tests/stamp.sh").write_text(STAMPS)
        done = self.sh("stamp.sh")
        assert done.returncode == 0, done.stderr

    def plays_python(self) -> None:
        """A .venv in which nothing is installed and every check passes."""
        python = self.venv / "bin/python"
        python.parent.mkdir(parents=True)
        (self.venv / "cache").mkdir()
        python.write_text(
            PLAYED_PYTHON.format(python=sys.executable, folder=self.folder)
        )
        python.chmod(0o755)
        self.env["PYTHON"] = str(python)
        self.stamp()

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def built(checkout) -> Checkout:
    """It has a .venv that works."""
    base = getattr(sys, "_base_executable", sys.executable)
    checkout.env["PYTHON"] = base
    subprocess.run([base, "-m", "venv", "--without-pip", checkout.venv], check=True)
    (checkout.venv / "packages").write_text("installed")
    checkout.stamp()
    return checkout


NEEDS_THE_NETWORK = {
    "requirements": ("tests/requirements.txt", "ruff==", "ruff==0"),
    "PEP 723": ("doorpi.py", '#     "nfcpy', '#     "more",\n#     "nfcpy'),
}


@pytest.mark.parametrize("change", NEEDS_THE_NETWORK)
def test_a_build_without_the_network_leaves_the_venv_as_it_was(built, change):
    name, old, new = NEEDS_THE_NETWORK[change]
    file = built.folder / name
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))

    done = built.sh("run.sh")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "doorpi: pip failed, see above; the new .venv is not ready",
        "doorpi: the .venv from before is back",
    ]
    assert (built.venv / "packages").read_text() == "installed"
    assert not (built.folder / ".venv.old").exists()
    file.write_text(before)
    assert "building" not in built.sh("run.sh").stderr  # it fits, and is used


def test_a_build_that_was_killed_is_undone_by_the_next(built):
    built.venv.rename(built.folder / ".venv.old")
    (built.venv / "bin").mkdir(parents=True)

    done = built.sh("run.sh")

    assert "doorpi: the .venv from before is back" in done.stderr.splitlines()
    assert (built.venv / "packages").read_text() == "installed"


def summary(done: subprocess.CompletedProcess) -> str:
    return done.stdout.splitlines()[-1]


def skipped(reason: str) -> str:
    return f'<skipped type="pytest.skip" message="{reason}">x.py:1: {reason}</skipped>'


KNOWN = skipped("this udevadm cannot verify (systemd 254 can)")
FREE = skipped("not today")


@pytest.mark.parametrize(
    ("reported", "most", "code", "words"),
    [
        ("", "0", 0, "skipped   0"),
        (KNOWN, "1", 0, "skipped   1"),
        (KNOWN, "0", 1, "skipped   FAILED (1, and at most 0 may be)"),
        (FREE, "1", 1, "skipped   FAILED (not in tests/skips.txt: not today)"),
        (KNOWN + FREE, "9", 1, "skipped   FAILED (not in tests/skips.txt: not today)"),
    ],
    ids=["none", "known", "too many", "new", "new among known"],
)
def test_a_skip_that_is_not_known_fails_the_checks(
    checkout, reported, most, code, words
):
    checkout.plays_python()

    done = checkout.sh("run.sh", "--quick", SKIPPED=reported, DOORPI_MAX_SKIPPED=most)

    assert (done.returncode, summary(done)) == (code, words)


def test_the_tests_that_are_realtime_come_last_and_alone(checkout):
    checkout.plays_python()

    checkout.sh("run.sh", "-k", "relock")

    _, beside, alone = (call.split(" ", 3) for call in ["", *checkout.calls()])
    assert re.fullmatch(r"-n \d .*-k relock -m not realtime", beside[3])
    assert alone[3] == "-k relock -n 0 -m realtime"


def test_the_quick_ones_are_of_two_folders(checkout):
    checkout.plays_python()

    checkout.sh("run.sh", "--quick", "-x")

    (call,) = checkout.calls()
    assert call.endswith(" tests/core tests/door -x -m not realtime and not slow")
