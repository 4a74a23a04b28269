"""The README is held to the program: lights, verbs, the transcript of `check`."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import Command, Event, Notes, Reason, Result, SqliteStore, Uid
from tests import demo
from tests.helpers.processes import DoorProcess, doorpi_says
from tests.helpers.values import replace
from tests.helpers.world import card_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

MISTAKES = """
[lock]
device_id = "11200000-0000-4000-8000-000000000000"
api_ky = "a key that must not be shown"
secret_key = "0123456789abcdef0123456789abcdef"
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
valid_until = 30.11.2026
"""


def blocks(text: str) -> list[str]:
    """What stands between fences, whatever language they name."""
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block_after(mark: str) -> str:
    """The fenced block that follows ``mark``."""
    return blocks(README.split(mark, 1)[1])[0]


def test_the_lights_are_the_patterns():
    drawn = "\n".join(doorpi.legend(doorpi.Parser({}).patterns(), colours=False))

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
    inline = re.findall(r"`(?:sudo )?doorpi ([a-z-][^`>]+)[`>]", README)
    shell = re.findall(r"^\$ (?:sudo )?doorpi ([^>\n]+)", README, re.MULTILINE)
    return [*inline, *shell]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line):
    args = doorpi.make_parser().parse_args(shlex.split(line))

    assert args.verb in doorpi.VERBS


def test_a_door_without_hardware_works_as_written(tmp_path):
    said = re.findall(r"`([^`]+)`", README.split("#### Try a door without")[1])
    name, *settings, run, tap = said[:6]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = tmp_path / name
    path.write_text("\n".join(settings).replace("54321", port), encoding="utf-8")
    variable, command = run.split(" ", 1)

    with DoorProcess(path, **dict([variable.split("=")])) as door:
        door.until_ready()
        tapped = doorpi_says(*tap.replace(name, str(path)).split()[1:])
        event = door.until_event(1)

    assert command == f"doorpi --config {name} run"
    assert tapped.stdout == "04:A9:3C:71:5E:D2:84 was read\n"
    assert (event.holder, event.result) == ("Ken", doorpi.Result.UNLOCKED)


def test_the_story_of_the_demo_is_the_one_it_tells():
    """Who, decision, reason and result; the milliseconds are the day's."""
    command, *lines = block_after("no reader, no lock:").splitlines()

    rows = [line.split()[:4] for line in lines]
    script, *args = shlex.split(command.removeprefix("$ sh "))
    assert rows == [
        ["ken", "granted", "granted", "unlocked"],
        ["guest", "denied", "expired", "-"],
        ["stranger", "denied", "not-found", "-"],
        ["ken", "granted", "granted", "locked"],
    ]
    assert (ROOT / script).exists()
    assert args[0] == "--taps"
    assert [person.name for person in demo.story(args[1])] == [row[0] for row in rows]


def test_the_pins_of_the_wiring_are_the_defaults():
    leds = doorpi.LedsConfig()

    assert f"green LED, long leg, through 330 ohm | GPIO {leds.green_gpio} |" in README
    assert f"red LED, long leg, through 330 ohm | GPIO {leds.red_gpio} |" in README


def test_every_verb_that_works_is_in_the_readme():
    parser = doorpi.make_parser()
    told = {parser.parse_args(shlex.split(line)).verb for line in command_lines()}

    assert set(doorpi.VERBS) - told == set()


def test_reasons_and_signals_that_are_named_exist():
    reasons = re.findall(r"`([a-z-]+)` in the log", README)

    assert reasons
    assert set(reasons) <= {reason.value for reason in doorpi.Reason}


# -- the owner's day: its transcripts, played from top to bottom on one door

OFFICE = """
[door]
name = "Office 4F"
[lock]
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "a key that must not be shown"
secret_key = "0123456789abcdef0123456789abcdef"
[[schedule]]
name = "office-hours"
times = ["Mon-Sun 08:00-20:00"]
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
[[card]]
uid = "04:62:B7:1D:8A:4F:90"
holder = "Anna Abe"
schedule = "office-hours"
[[card]]
uid = "0A:0B:0C:0D"
holder = "Nobi"
role = "master"
"""
EDITED = (
    OFFICE.replace("Mon-Sun", "Mon-Fri").replace(
        "[[schedule]]",
        """\
relock_after_s = 60
[[schedule]]""",
    )
    + """
[[card]]
uid = "04:5E:11:D2:8A:3C:80"
holder = "Emi Ueda"
"""
)
MEMBERS = """uid,name,until
04:77:21:0B:8A:3C:80,Rei Kato,2029-03-31
08:5E:11:D2,Taro's phone,
01:23:AB:07,Jo Guest,2029-06-30
"""
KEN, JO, MIKA = Uid("04A93C715ED284"), Uid("0123AB07"), Uid("040F2C82DC7280")
YUI = Uid("D3C2B1A0")
WRITTEN_ON = "2026-11-18"


class Office:
    """A door of which the README tells; the day of the test is WRITTEN_ON there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "doorpi.toml"
        self.settings.write_text(OFFICE, encoding="utf-8")
        (folder / "new.toml").write_text(EDITED, encoding="utf-8")
        for file in folder.glob("*.toml"):
            file.chmod(0o640)
        (folder / "members.csv").write_text(MEMBERS, encoding="utf-8")
        self.store = SqliteStore(folder / "state" / "doorpi.db")
        self.today = datetime.now().astimezone().replace(hour=7, minute=58, second=3)

    def before(self, command: str) -> None:
        """What happens at the door before the owner types ``command``."""
        now = datetime.now().astimezone()
        if command.startswith('allow "Mika'):
            clock = doorpi.SystemClock()
            text = doorpi.unknown_text({MIKA: clock.monotonic() - 12}, clock.boot())
            self.store.events.keep(Notes({"unknown": text}))
        elif command.startswith('allow "Yui'):
            card = card_of(YUI, f"Card of {WRITTEN_ON} 09:30:12")
            self.store.people.add_card(card, now)
        elif command == "cards":
            self._tap(0, KEN, "Ken Sato", Command.UNLOCK, Result.UNLOCKED, 1532)
            self._tap(65, YUI, "Yui Tanaka")
            self._tap(118, JO, "Jo Guest", reason=Reason.NOT_PERMITTED_AT_THIS_TIME)
            self._tap(1800, KEN, "Ken Sato", Command.LOCK, Result.LOCKED, 1871)

    def _tap(
        self, after_s, uid, holder, command=Command.UNLOCK, result=Result.UNLOCKED,
        latency_ms=1640, reason=Reason.GRANTED,
    ) -> None:  # fmt: skip
        at = self.today + timedelta(seconds=after_s)
        event = Event(at=at, uid=uid, holder=holder, reason=reason)
        if reason is not Reason.GRANTED:
            self.store.events.begin(event)
            return
        begun = self.store.events.begin(replace(event, command=command))
        end = replace(event, id=begun, result=result, latency_ms=latency_ms)
        self.store.events.finish(end)

    def says(self, command: str, capsys) -> str:
        """What the README shows of ``command``."""
        line, _, into = command.partition(" > ")
        args = shlex.split(line)
        given = self.settings
        if args[0] == "--config":
            given = self.folder / Path(args[1]).name
            del args[:2]
        with contextlib.ExitStack() as running:
            if args == ["check"]:
                running.enter_context(doorpi.only_door(self.store.events.path.parent))
                text, state = self.settings.read_text("utf-8"), self.store.events.path
                doorpi.LastGood(text, {}, folder=state.parent).keep()
            doorpi.main(["--config", str(given), *args])
        out, err = capsys.readouterr()
        said = (out + err).replace(str(self.folder), "/etc/doorpi")
        said = said.replace(f"{self.today:%Y-%m-%d}", WRITTEN_ON)
        if args[0] == "log":  # what the owner did is of the time of the test
            lines = said.splitlines(keepends=True)
            said = "".join(line for line in lines if "  changed  " not in line)
            said = re.sub(r"(first is of \S+) .+", r"\1 07:58:03", said)
        return "" if into else said


EVERY_DAY = README.split("### Every day", 1)[1].split("\n### ", 1)[0]


def transcripts() -> Iterator[tuple[str, str]]:
    """Each ``$`` line of the chapter, and what follows it."""
    for block in blocks(EVERY_DAY):
        for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, told = typed.partition("\n")
            yield command, told


def test_no_transcript_is_passed_over():
    typed = re.findall(r"^ *\$ (.+)", EVERY_DAY, re.MULTILINE)

    assert len(typed) > 15
    assert [command for command, _ in transcripts()] == typed


def test_the_owners_day_is_as_the_readme_tells_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    doorpi.time.tzset()
    monkeypatch.setenv("SUDO_USER", "nobi")
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "clock-is-set"
    marker.write_text(f"{doorpi.seconds_ahead()}")
    monkeypatch.setattr(doorpi, "CLOCK_MARKER", marker)
    office = Office(tmp_path)
    seen = []

    with contextlib.closing(office.store):
        for command, told in transcripts():
            doorpi_line = command.removeprefix("sudo doorpi ")
            if doorpi_line == command:  # cat, nano, cp, mv
                assert told == (MEMBERS if command == "cat members.csv" else "")
            elif doorpi_line != "doctor":  # it tells of the computer that it is on
                office.before(doorpi_line)
                seen.append((command, office.says(doorpi_line, capsys)))

    monkeypatch.undo()
    doorpi.time.tzset()
    assert seen == [pair for pair in transcripts() if pair[0] in dict(seen)]
