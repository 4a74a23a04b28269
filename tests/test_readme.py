"""The README is held to the program: lights, verbs, the transcript of `check`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import doorpi

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(
    encoding="utf-8"
)

MISTAKES = """
[lock]
device_id = "11200000-0000-4000-8000-000000000000"
api_ky = "a key that must not be shown"
secret_key = "0123456789abcdef0123456789abcdef"
[[card]]
uid = "04:A1:B2:C3:D4:E5:80"
holder = "Ken Sato"
valid_from = 2026-03-01
valid_until = 2026-02-01
"""


def block_after(mark: str) -> str:
    """The fenced block that follows ``mark``."""
    return README.split(mark, 1)[1].split("```\n", 2)[1]


def test_the_lights_are_the_patterns():
    drawn = "\n".join(doorpi.legend(doorpi.parse_patterns({}, []), colours=False))

    assert block_after("<!-- lights").rstrip("\n") == drawn


def test_the_transcript_of_check_is_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("doorpi.toml").write_text(MISTAKES, encoding="utf-8")

    code = doorpi.main(["--config", "doorpi.toml", "check"])

    told = block_after("who may enter, and when:").removeprefix("$ doorpi check\n")
    assert code == doorpi.EX_CONFIG
    assert capsys.readouterr().err == told


def command_lines() -> list[str]:
    """What the README tells people to type after ``doorpi``."""
    inline = re.findall(r"`(?:sudo )?doorpi ([a-z][^`]+)`", README)
    shell = re.findall(r"^\$ (?:sudo )?doorpi (.+)$", README, re.MULTILINE)
    demo = re.findall(r"^\$ sh tests/demo\.sh (.+)$", README, re.MULTILINE)
    return [*inline, *shell, *(f"demo {arguments}" for arguments in demo)]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line):
    args = doorpi.make_parser().parse_args(shlex.split(line))

    assert args.verb in doorpi.VERBS


def test_the_story_of_the_demo_is_the_one_it_tells():
    """Who, decision, reason and result; the milliseconds are the day's."""
    lines = block_after("no reader, no lock:").splitlines()

    rows = [line.split()[:4] for line in lines[1:]]
    assert rows == [
        ["ken", "granted", "granted", "unlocked"],
        ["guest", "denied", "expired", "-"],
        ["stranger", "denied", "not-found", "-"],
        ["ken", "granted", "granted", "locked"],
    ]


def test_the_pins_of_the_wiring_are_the_defaults():
    leds = doorpi.LedsConfig()

    assert f"green LED, long leg, through 330 ohm | GPIO {leds.green_gpio} |" in README
    assert f"red LED, long leg, through 330 ohm | GPIO {leds.red_gpio} |" in README


def test_every_verb_that_works_is_in_the_readme():
    told = {line.split()[0] for line in command_lines()}

    assert set(doorpi.VERBS) - told == set()


def test_reasons_and_signals_that_are_named_exist():
    reasons = re.findall(r"`([a-z-]+)` in the log", README)

    assert reasons
    assert set(reasons) <= {reason.value for reason in doorpi.Reason}
