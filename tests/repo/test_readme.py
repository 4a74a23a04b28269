"""README, tests/docs and doorpi.toml are held to the program.

Commands are parsed, transcripts are played, settings, reasons and figures compared, links
followed, and the pictures drawn again.  Where a text is searched for something, the test
also says how much it must find.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

import doorpi
from doorpi import Command, Event, Notes, Reason, Result, Signal, SqliteStore, Uid
from tests import demo
from tests.helpers.processes import DoorProcess, doorpi_says
from tests.helpers.values import replace
from tests.helpers.world import card_of
from tests.tools import shown

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "tests" / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        ROOT / "tests" / "README.md",
        *sorted(DOCS.glob("*.md")),
    ]
}
README = PAGES["README.md"]


def page(name: str) -> str:
    return PAGES[f"tests/docs/{name}.md"]


def chapter(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level."""
    level = heading.partition(" ")[0]
    return re.split(rf"^{level} ", text.split(f"{heading}\n", 1)[1], flags=re.M)[0]


def blocks(text: str) -> list[str]:
    """What stands between fences, whatever language they name."""
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in ``text``, without their heads."""
    lines = re.findall(r"^\|(?!-)(.+)\|$", re.sub(r".+\n\|-.+", "", text), re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


# -- form


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 270


def test_no_line_is_lost_in_a_page_that_nobody_links_to():
    linked = set(re.findall(r"\((tests/[\w/-]+\.md)[#)]", README))

    assert linked == PAGES.keys() - {"README.md"}


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    heads = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def links() -> list[tuple[str, str]]:
    found = []
    for name, text in PAGES.items():
        targets = re.findall(r"\]\((?!https?:)([^)]+)\)|<img src=\"([^\"]+)\"", text)
        found += [(name, one or other) for one, other in targets]
    return found


def test_links_are_many():
    assert len(links()) > 30


@pytest.mark.parametrize(("name", "target"), links())
def test_a_link_leads_somewhere(name, target):
    file, _, anchor = target.partition("#")
    path = (ROOT / name).parent / file if file else ROOT / name

    assert path.exists()
    assert not anchor or anchor in anchors(path.read_text(encoding="utf-8"))


# -- the pictures


@pytest.fixture(scope="module")
def drawn():
    return shown.pictures()


@pytest.mark.parametrize("name", ["card.svg", "demo.svg"])
def test_a_picture_is_what_the_program_draws(drawn, name):
    is_same = (shown.FOLDER / name).read_text(encoding="utf-8") == drawn[name]

    assert is_same, "write it again: .venv/bin/python tests/tools/shown.py"


def test_there_is_no_other_picture(drawn):
    assert {path.name for path in shown.FOLDER.iterdir()} == drawn.keys()


# -- commands


def spans(text: str) -> list[str]:
    """Inline code."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def command_lines() -> list[str]:
    """What the pages tell people to type, after ``doorpi``."""
    found = set()
    for text in PAGES.values():
        typed = re.findall(r"^\$ (?:\w+=\w+ )?(?:sudo )?doorpi ([^>\n]+)", text, re.M)
        found.update(line.strip() for line in typed)
        for span in spans(text):
            line = re.sub(r"^(sudo )?doorpi |\s*> \S+$", "", span)
            is_typed = " " in line or line != span
            if line.split()[0] in doorpi.VERBS and is_typed and " = " not in line:
                found.add(line)
    return sorted(found)


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_is_understood(line):
    args = doorpi.make_parser().parse_args(shlex.split(line))

    assert args.verb in doorpi.VERBS


def test_every_command_is_in_the_readme():
    named = {span.removeprefix("doorpi ").split()[0] for span in spans(README)}

    assert len(command_lines()) > 30
    assert set(doorpi.VERBS) - named == set()
    table = rows(chapter(README, "## For the owner: every day"))
    daily = {span.split()[0] for row in table for span in spans(row[0])}
    assert daily == set(doorpi.VERBS) - {"run", "online", "tap", "legend"}


def test_the_exit_codes():
    codes = {"done": doorpi.EX_OK, "failed": doorpi.EX_FAILED, "wrong usage": 2,
             "invalid settings": doorpi.EX_CONFIG}  # fmt: skip

    words = ", ".join(f"{code} {meaning}" for meaning, code in codes.items())
    assert f"Exit codes: {words}." in README


# -- settings

KEYS = {key for table in doorpi.TABLES.values() for key in table}


def named_settings() -> set[str]:
    return {
        span
        for text in PAGES.values()
        for span in spans(text)
        if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)
    }


def test_settings_that_are_named_exist():
    assert len(named_settings()) > 15
    assert named_settings() <= KEYS


def shown_settings() -> list[str]:
    """Each ``key = value`` in the pages."""
    texts = [span for text in PAGES.values() for span in spans(text)]
    texts += [
        line.partition(" #")[0].strip()
        for text in PAGES.values()
        for block in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    return sorted({text for text in texts if re.match(r"[a-z_]+ = ", text)})


def test_settings_are_shown():
    assert len(shown_settings()) > 12


@pytest.mark.parametrize("line", shown_settings())
def test_a_setting_that_is_shown_is_one(line):
    ((key, value),) = tomllib.loads(line.replace("[...]", '["x"]')).items()

    places = [table[key] for table in doorpi.TABLES.values() if key in table]
    if isinstance(value, dict | list) and key in doorpi.TABLES and not places:
        tables = value if isinstance(value, list) else [value]
        assert set().union(*tables) <= doorpi.TABLES[key].keys()
        return
    assert places or key == "cards"
    kinds = {type(setting.default) for setting in places}
    kinds |= {int} if float in kinds else set()
    kinds |= {list} if tuple in kinds else set()
    kinds |= {str, dict} if doorpi.Secret in kinds else set()
    kinds |= {dict} if MappingProxyType in kinds else set()
    kinds |= {date, datetime} if type(None) in kinds else set()
    assert type(value) in kinds or key == "cards"


DEFAULTS = [
    ("README.md", "sent within {lock.unlock_window_s:g} seconds of the tap or not at all"),
    ("tests/docs/readers.md", "away for `rearm_s`, half a second."),
    ("tests/docs/security.md", "within `unlock_window_s` ({lock.unlock_window_s:g} seconds)"),
    ("tests/docs/taps.md", "not delivered {lock.unlock_window_s:g} seconds after the tap"),
    ("tests/docs/log.md", "After ten refusals within a minute"),
    ("tests/docs/log.md", "stays on for {denials.pause_s:g} seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), DEFAULTS)
def test_a_default_that_is_said_is_so(name, words):
    said = words.format(lock=doorpi.LockConfig(), denials=doorpi.Denials)

    assert said in PAGES[name]
    assert doorpi.ReaderConfig().rearm_s == 0.5
    assert (doorpi.Denials.limit, doorpi.Denials.within_s) == (10, 60)
    assert doorpi.Denials.same_lines == 3


def test_the_pins_of_the_wiring_are_the_defaults():
    leds = doorpi.LedsConfig()

    assert f"green LED, long leg, through 330 ohm | GPIO {leds.green_gpio} |" in README
    assert f"red LED, long leg, through 330 ohm | GPIO {leds.red_gpio} |" in README


#: BCM number and header pin of each wire: raspberrypi.com, "GPIO and the 40-pin header".
HEADER = {"GPIO 23": 16, "GPIO 22": 15, "GPIO 15 (RXD)": 10, "GPIO 14 (TXD)": 8,
          "GPIO 4": 7, "GND": (6, 14), "3.3 V": 1}  # fmt: skip


def test_the_header_pins_of_the_wiring():
    wires = [row for row in rows(chapter(README, "## What you need")) if len(row) == 3]

    assert len(wires) == 8
    for _, to, pin in wires:
        pins = HEADER[to]
        assert int(pin) in (pins if isinstance(pins, tuple) else (pins,))


# -- locks

KINDS = set(doorpi.LOCK_KINDS)


def test_the_keys_of_every_lock_are_explained():
    table = rows(chapter(README, "## The keys to your lock"))

    explained = {re.findall(r": `([\w-]+)`$", row[0])[0]: row[1:] for row in table}
    assert explained.keys() == KINDS
    for kind, (_, api_key, secret_key) in explained.items():
        needs = doorpi.LOCK_KINDS[kind].needs
        assert bool(api_key) == ("api_key" in needs)
        assert bool(secret_key) == ("secret_key" in needs)
    assert "base_url" in doorpi.LOCK_KINDS["nuki-bridge"].needs


def times(seconds: tuple[float, ...]) -> str:
    *others, last = (f"{each:g}" for each in seconds)
    return f"after {', '.join(others)} and {last} s"


def test_when_each_lock_is_asked():
    table = {row[0].strip("`"): row[1] for row in rows(page("locks")) if len(row) == 3}

    assert table.keys() == KINDS
    for kind, said in table.items():
        policy = doorpi.LOCKS[kind].policy
        if policy.locks_itself:
            assert said.startswith("not at all")
        elif policy.confirm_every_s:
            assert (policy.confirm_at_s, policy.confirm_every_s) == ((0.0,), 1.0)
            assert said == "at once, then once a second"
        else:
            assert times(policy.confirm_at_s) in said


def test_the_figures_of_a_lock():
    text, sesame = page("locks"), doorpi.LOCKS["sesame"].policy
    usual = doorpi.LockPolicy().relock_waits_s
    again = ", ".join(f"{each:g}" for each in usual[:-1])
    (none_s, _), (once_s, _), _ = doorpi.RATIONS

    assert f"{sesame.calls_per_month:,} calls a month" in text
    assert f"again after {again} and {usual[-1]:g} s (`sesame`: 60 and 300 s)" in text
    assert sesame.relock_waits_s == (60.0, 300.0)
    assert f"From {once_s:.0%} on".replace("%", " %") in text
    assert f"from {none_s:.0%} on not at all".replace("%", " %") in text
    assert f"from {doorpi.CALLS_LOW:.0%} of the limit".replace("%", " %") in text


def test_the_command_that_reads_a_sesames_qr_code():
    """Its layout: byte 0 model, 1-16 the secret, and the id at the end."""
    secret, uuid = bytes(range(16)), bytes.fromhex("11200000000040008000000000000000")
    key = base64.b64encode(b"\x05" + secret + b"\xff" * 66 + uuid).decode()
    (command,) = (each for each in blocks(page("locks")) if "python3" in each)
    python, *options, code = shlex.split(command)

    done = subprocess.run(
        [sys.executable, *options, code], input=f"ssm://UI?t=sk&sk={key}&l=0&n=Front\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    said = dict(re.findall(r"(\w+_\w+) += (\w+)", done.stdout))
    assert bytes.fromhex(said["secret_key"]) == secret
    parts = re.fullmatch(doorpi.UUID[0], said["device_id"])
    assert "-".join(parts.groups()) == "11200000-0000-4000-8000-000000000000"
    assert (python, options) == ("python3", ["-c"])


# -- readers, lists, installer


def test_usb_readers_are_those_of_the_udev_rules():
    rules = (ROOT / "systemd" / "60-doorpi.rules").read_text(encoding="utf-8")
    ids = re.findall(r'idVendor}=="(\w+)", ATTR{idProduct}=="(\w+)"', rules)
    named = re.findall(r"`usb:(\w+):(\w+)`", page("readers"))

    assert len(named) == 3
    assert set(named) <= set(ids)


def test_every_format_of_a_list_is_named():
    table = chapter(page("people"), "## Import")
    words = {
        "TOML": "`doorpi.toml`", "esp-rfid": "esp-rfid", "CarontePass": "CarontePass",
        "people --json": "`people --json`", "uhppoted": "uhppoted",
        "CSV with a header": "CSV with a header",
    }  # fmt: skip

    for row in doorpi.LIST_FORMATS:
        (said,) = {said for known, said in words.items() if known in row.name}
        assert said in table
    columns = {*doorpi.COLUMNS}
    assert {"uid", "holder", "valid_from", "valid_until", "schedule"} <= columns


def test_what_the_installer_says_is_what_it_says():
    script = (ROOT / "systemd" / "install.sh").read_text(encoding="utf-8")
    unit = (ROOT / "systemd" / "doorpi.service").read_text(encoding="utf-8")
    table = rows(page("install"))

    assert len(table) == 7
    for said, _ in table:
        assert said.replace("python3-lgpio", "$package") in script
    (seconds,) = re.findall(r"^TimeoutStartSec=(\d+)$", unit, re.M)
    assert f"not ready within {seconds} seconds" in page("install")


# -- lights and reasons


def blips(sign: Signal) -> tuple[int, float, float]:
    """How often the red light is lit, for how long, and how long all of that takes; of a
    pattern that goes on for ever, in one period."""
    pattern = doorpi.parse_pattern(doorpi.PICTURES[sign])
    frames = list(doorpi.Pattern(pattern.cells, pattern.times or 1).frames())
    lit = [seconds for (green, red), seconds in frames if red and not green]
    return (
        len(lit),
        max(lit, default=0.0),
        round(sum(seconds for _, seconds in frames), 2),
    )


def test_the_lights_that_tell_of_trouble():
    said = {
        row[0]: row[1] for row in rows(chapter(README, "## When something is wrong"))
    }
    meant = {
        Signal.READER_LOST: "reader", Signal.SCANNER_LOST: "QR scanner",
        Signal.CONFIG_BAD: "mistake",
        Signal.STORAGE_BAD: "log", Signal.NOT_LOCKED: "locked again",
        Signal.LOCK_UNREACHABLE: "cloud", Signal.LOCKED_DOWN: "locked down",
        Signal.FORCED_OPEN: "opened by force", Signal.HELD_OPEN: "still open",
    }  # fmt: skip

    assert meant.keys() == set(doorpi.FAULTS)
    for sign, word in meant.items():
        count, lit_s, period_s = blips(sign)
        number = f"{count} blip{'s' * (count > 1)}" if lit_s < 0.3 else f"{lit_s:g} s"
        number = "half a second" if lit_s == 0.5 else number
        assert word in said[f"red, {number} every {period_s:g} s"]
    count, _, _ = blips(Signal.LOW_BATTERY)
    assert (
        said[f"{count} red blips right after a result"] == "the lock's battery is low"
    )
    _, _, period_s = blips(Signal.READY)
    assert any(f"the green light flashes every {period_s:g} s" in row for row in said)


def test_reasons_that_are_named_exist():
    named = {
        reason
        for text in PAGES.values()
        for pattern in (r"`([a-z-]+)` in the log", r"reason `([a-z-]+)`")
        for reason in re.findall(pattern, text)
    }

    assert len(named) >= 2
    assert named <= {word.value for word in (*Reason, *doorpi.Change)}


def test_signals_that_are_named_exist():
    named = re.findall(r"light (?:then says )?`([a-z-]+)`", "\n".join(PAGES.values()))

    assert len(named) >= 4
    assert set(named) <= {sign.value for sign in Signal}


def test_the_storm_is_of_every_lock():
    text = page("reliability")
    table = [row for row in rows(text) if len(row) == 4 and row[0].startswith("`")]
    runs = sum(bool(cell) for row in table for cell in row[1:3])

    assert {row[0].strip("`") for row in table} == KINDS
    assert f"of these {runs * 3_000:,} taps" in text
    assert f"simulation of {runs * 3_000:,} taps" in README


# -- transcripts

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


def block_of(text: str, command: str) -> str:
    """What follows a ``$`` line in the block that it begins."""
    (block,) = (each for each in blocks(text) if each.startswith(f"$ {command}"))
    return block.partition("\n")[2]


def test_the_transcript_of_check_is_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("doorpi.toml").write_text(MISTAKES, encoding="utf-8")

    code = doorpi.main(["--config", "doorpi.toml", "check"])

    assert code == doorpi.EX_CONFIG
    assert capsys.readouterr().err == block_of(README, "doorpi check")


def test_the_story_of_the_demo_is_the_one_it_tells():
    """Who, decision, reason and result; the milliseconds are the day's."""
    (command,) = re.findall(r"^\$ sh (tests/demo\.sh .+)$", README, re.M)
    lines = block_of(README, "sh tests/demo.sh").splitlines()

    told = [line.split()[:4] for line in lines]
    script, *args = shlex.split(command)
    assert told == [
        ["ken", "granted", "granted", "unlocked"],
        ["guest", "denied", "expired", "-"],
        ["stranger", "denied", "not-found", "-"],
        ["ken", "granted", "granted", "locked"],
    ]
    assert (ROOT / script).exists()
    assert args[0] == "--taps"
    assert [person.name for person in demo.story(args[1])] == [row[0] for row in told]


def test_a_door_without_hardware_works_as_written(tmp_path):
    settings, typed = blocks(
        chapter(page("settings"), "## Try a door without hardware")
    )
    run, tap = re.findall(r"^\$ (.+)$", typed, re.M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = tmp_path / "try.toml"
    path.write_text(settings.replace("54321", port), encoding="utf-8")
    variable, command = run.split(" ", 1)

    with DoorProcess(path, **dict([variable.split("=")])) as door:
        door.until_ready()
        tapped = doorpi_says(*tap.replace("try.toml", str(path)).split()[1:])
        event = door.until_event(1)

    assert command == "doorpi --config try.toml run"
    assert tapped.stdout == "04:A9:3C:71:5E:D2:84 was read\n"
    assert (event.holder, event.result) == ("Ken", Result.UNLOCKED)


# -- the owner's day: transcripts of several pages, played in order on one door

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
    """The door of the transcripts; the day of the test is WRITTEN_ON there."""

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
        elif command == "people":
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
        """What the pages show of ``command``."""
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
                doorpi.LastGood(text, {}, str(given), state.parent).save()
            doorpi.main(["--config", str(given), *args])
        out, err = capsys.readouterr()
        said = (out + err).replace(str(self.folder), "/etc/doorpi")
        said = said.replace(f"{self.today:%Y-%m-%d}", WRITTEN_ON)
        if args[0] == "log":  # what the owner did is of the time of the test
            lines = said.splitlines(keepends=True)
            said = "".join(line for line in lines if "  changed  " not in line)
            said = re.sub(r"(first is of \S+) .+", r"\1 07:58:03", said)
        return "" if into else said


OWNERS_DAY = {
    "README.md, Add people": chapter(README, "## Add people"),
    "people": page("people"),
    "log": page("log"),
    "settings": chapter(page("settings"), "## See what an edit would do"),
}


def transcripts() -> Iterator[tuple[str, str]]:
    """Each ``$`` line, and what follows it."""
    for text in OWNERS_DAY.values():
        for block in blocks(text):
            for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, told = typed.partition("\n")
                yield command, told


def test_no_transcript_is_passed_over():
    typed_of = [command.split() for command, _ in transcripts()]
    verbs = [words[2] for words in typed_of if words[1] == "doorpi"]

    typed = re.findall(r"^ *\$ (.+)", "\n".join(OWNERS_DAY.values()), re.MULTILINE)
    assert [command for command, _ in transcripts()] == typed
    assert verbs == [
        "allow", "allow", "allow", "revoke", "lockdown", "lockdown", "people", "why",
        "why", "import", "backup", "log", "log", "log", "forget", "log",
        "--config",
    ]  # fmt: skip


def test_the_owners_day_is_as_the_pages_tell_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    doorpi.time.tzset()
    monkeypatch.setenv("SUDO_USER", "nobi")
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "clock-is-set"
    marker.write_text(f"{time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)}")
    monkeypatch.setattr(doorpi, "CLOCK_MARKER", marker)
    office = Office(tmp_path)
    seen = []

    with contextlib.closing(office.store):
        for command, told in transcripts():
            doorpi_line = command.removeprefix("sudo doorpi ")
            if doorpi_line == command:  # cat, nano, cp
                assert told == (MEMBERS if command == "cat members.csv" else "")
            else:
                office.before(doorpi_line)
                seen.append((command, office.says(doorpi_line, capsys)))

    monkeypatch.undo()
    doorpi.time.tzset()
    told = [pair for pair in transcripts() if pair[0] in dict(seen)]
    assert as_text(seen) == as_text(told)


def as_text(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"$ {command}\n{told}" for command, told in pairs)
