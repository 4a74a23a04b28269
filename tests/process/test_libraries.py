"""A library is gone, as after an upgrade of the system: the door does without it, or
one line says what brings it back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import doorpi
from tests.helpers.processes import DoorProcess, doorpi_says, environment, write_config
from tests.helpers.world import KEN, MIKA


@pytest.fixture
def config(tmp_path, cloud, radio) -> Path:
    cloud.motor_s = 0.05
    return write_config(tmp_path, cloud, radio.device)


@pytest.fixture
def without(tmp_path):
    """The environment of a computer that lacks a library."""

    def path(library: str) -> str:
        gone = f"No module named {library!r}"
        text = f"raise ModuleNotFoundError({gone!r}, name={library!r})\n"
        (tmp_path / f"{library}.py").write_text(text, "utf-8")
        return os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])

    return path


def test_without_gpiozero_the_door_works_in_the_dark(config, radio, without):
    with DoorProcess(config, PYTHONPATH=without("gpiozero")) as door:
        event = door.until_ready().tap(radio, KEN)

        assert event.result == "unlocked"
        words = "no lights: No module named 'gpiozero'"
        door.until(lambda: words in door.journal, "the journal says it")
        assert "Traceback" not in door.journal


def test_without_its_readers_library_the_door_stays_and_says_what_brings_it_back(
    config, without
):
    words = "No module named 'nfc': sh tests/demo.sh"  # as this is a checkout

    with DoorProcess(config, PYTHONPATH=without("nfc")) as door:
        door.until(lambda: words in door.journal, "the journal says it")

        assert "Traceback" not in door.journal


def test_without_tomli_w_every_other_verb_works(config, without):
    env = {"PYTHONPATH": without("tomli_w")}
    verb = ("--config", str(config))
    assert doorpi_says(*verb, "allow", "Mika", "--uid", MIKA, **env).returncode == 0
    assert "Mika" in doorpi_says(*verb, "cards", **env).stdout

    done = doorpi_says(*verb, "cards", "--toml", **env)

    assert (done.returncode, done.stdout) == (doorpi.EX_FAILED, "")
    (told,) = done.stderr.splitlines()
    assert told.startswith("No module named 'tomli_w': ")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/opt/doorpi/3/doorpi.py", "sudo sh /opt/doorpi/current/systemd/install.sh"),
        (doorpi.__file__, "sh tests/demo.sh makes .venv"),
        ("/home/pi/doorpi.py", "install what the first lines of doorpi.py list"),
    ],
    ids=["installed", "checkout", "alone"],
)
def test_what_brings_it_back_fits_how_the_program_was_installed(
    monkeypatch, place, words
):
    monkeypatch.setattr(doorpi, "__file__", place)

    assert doorpi.bring_libraries().startswith(words)
