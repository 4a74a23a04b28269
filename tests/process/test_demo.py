"""`sh tests/demo.sh`: the story it tells without a terminal, and the show on a real one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from doorpi import Command, Event, Reason, Result, Signal, Uid
from tests.demo import PEOPLE, TO_ASCII, JournalTail, PluggedReader, World, drawing
from tests.fakes.live_cloud import Live
from tests.helpers.processes import catches, environment, wait_for

# -- the story

#: What each process plays: code run before the demo, and the demo's arguments.
STORIES: dict[str, tuple[str, list[str]]] = {
    "as it is": ("", ["--taps", "ken guest stranger ken"]),
    "without a terminal": ("", []),
    "the server and a QR code": ("", ["--taps", "anna visitor"]),
    "the server is off": (
        """
build = demo.build

def without_server(*args):
    door, world = build(*args)
    world.toggle_server()
    return door, world

demo.build = without_server
""",
        ["--taps", "anna visitor"],
    ),
    "an expired card is let in": (
        """
demo.CONFIG = demo.CONFIG.replace("valid_until", "#")
""",
        ["--taps", "guest"],
    ),
    "a member is kept out": (
        """
ken = 'uid = "{ken.uid}"'
demo.CONFIG = demo.CONFIG.replace(ken, ken + "\\nenabled = false")
""",
        ["--taps", "ken"],
    ),
    "the cloud refuses": (
        """
class Refusing(demo.LiveSesame):
    def respond(self, request):
        self.fail("401")
        return super().respond(request)

demo.LiveSesame = Refusing
""",
        ["--taps", "ken"],
    ),
    "the door has a bug": (
        """
def bug(*args):
    raise RuntimeError("a bug")

doorpi.decide = bug
""",
        ["--taps", "ken ken"],
    ),
    "a card that is denied moves the lock": (
        """
class Mad(demo.LiveSesame):
    def __init__(self, **details):
        super().__init__(**details)
        decide = doorpi.decide

        def move_and_decide(*args, **more):
            self.turn(doorpi.Command.UNLOCK)
            return decide(*args, **more)

        doorpi.decide = move_and_decide

demo.LiveSesame = Mad
""",
        ["--taps", "stranger"],
    ),
}


def program(damage: str, *args: str) -> list[str]:
    """A command line for the demo after ``damage`` was done to it, where the developers'
    tools are not installed."""
    tools = "import sys\nsys.modules |= dict.fromkeys(('pytest', 'hypothesis'))"
    code = f"{tools}\nimport doorpi\nfrom tests import demo\n{damage}\nsys.exit(demo.main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *args]


@pytest.fixture(scope="module", autouse=True)
def stories():
    """All stories at once: the motor of the demo's lock takes its time."""
    playing = {
        name: subprocess.Popen(
            program(damage, *args), env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name, (damage, args) in STORIES.items()
    }  # fmt: skip
    yield playing
    for process in playing.values():
        process.terminate()  # killed, it could not remove its folder
        process.communicate(timeout=10)


def outcome(story: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Exit code, the lines without times and padding, and the errors."""
    stdout, stderr = story.communicate(timeout=40)
    lines = re.sub(r" [\d]+ ms", " N ms", stdout).splitlines()
    return story.returncode, [" ".join(line.split()) for line in lines], stderr


def test_demo_without_libraries_says_how_to_start_it():
    python = [sys.executable, "-S", "-c"]  # without the packages of .venv
    code = "from tests import demo"

    done = subprocess.run(
        [*python, code], env=environment(), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("No module named ")
    assert line.endswith(": start the demo with sh tests/demo.sh")


def test_a_name_that_nobody_has_is_wrong_usage_told_in_words():
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", "--taps", "ken bob"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "demo.sh: error: argument --taps: nobody is called 'bob'; there are ken,"
        " mika, guest, stranger, anna, visitor"
    )


def test_a_demo_stopped_in_the_middle_says_so_at_once_and_leaves_no_folder(tmp_path):
    env = environment(TMPDIR=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.demo", "--taps", "guest ken ken ken"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout.readline().split()[0] == "guest"

        demo.send_signal(signal.SIGTERM)
        wait_for(lambda: demo.poll() is not None, "the end", within_s=3)
        stdout, stderr = demo.communicate()

    assert (demo.returncode, stdout, stderr) == (1, "ken       stopped\n", "")
    assert list(tmp_path.iterdir()) == []


# -- the screen


class Lamps:
    value = (1, 0)
    playing = Signal.WORKING


class Unplugged:
    def close(self):
        pass


def world_of(cloud: Live) -> World:
    return World(
        field=None, cloud=cloud, reader=PluggedReader(Unplugged()), lights=Lamps(),
        store=None, journal=JournalTail(), server=None, scanner=None, code="",
        blank=None, inbox=None,
    )  # fmt: skip


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]


AT = datetime(2026, 11, 18, 3, 0, tzinfo=UTC)
LONG_EVENTS = [
    Event(id=n, at=AT, uid=Uid("04A93C715ED284"), holder="W" * 40, reason=reason,
          command=Command.UNLOCK, result=Result.UNKNOWN_STATE, latency_ms=123_456)
    for n, reason in enumerate(Reason)
]  # fmt: skip


@pytest.mark.parametrize("rows", [24, 30, 50])
@pytest.mark.parametrize("sign", Signal)
def test_the_screen_fits(cloud, rows, sign):
    world = world_of(cloud)
    world.lights.playing = sign
    world.journal.lines = ["W" * 300] * 20
    cloud.go_offline()
    world.online = world.reader.plugged = False

    lines = plain(drawing(world, LONG_EVENTS, "stranger", rows))

    assert len(lines) == rows
    assert max(map(len, lines)) <= 79
    assert {unicodedata.east_asian_width(c) for line in lines for c in line} <= {
        "Na", "N", "A",
    }  # fmt: skip


def test_a_small_window_gets_the_lamps_first(cloud):
    lines = plain(drawing(world_of(cloud), [], "", 7))

    assert len(lines) == 7
    assert "working" in lines[3]


def test_a_lamp_that_is_lit_is_told_without_colours(cloud):
    lines = plain(drawing(world_of(cloud), [], ""))

    assert lines[4].split("│")[1].split() == ["▄███▄", "╭───╮"]
    assert lines[5].split("│")[1].split() == ["▀███▀", "╰───╯"]


def test_a_terminal_without_unicode_gets_ascii(cloud):
    lines = drawing(world_of(cloud), LONG_EVENTS, "ken", 24)

    assert all(line.translate(TO_ASCII).isascii() for line in lines)


def test_each_person_and_each_mischief_has_a_key_of_its_own():
    keys = [person.key for person in PEOPLE] + ["i", "r", "o", "l", "c", "q", "d", "b"]

    assert len(set(keys)) == len(keys)


# -- on a terminal


class Terminal:
    """The demo on a pseudo terminal of 80 by 24, and what a person sees there.

    It knows the few escape sequences that the demo uses and fails at any other.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "tests.demo"),
        *,
        rows: int = 24,
        columns: int = 80,
        **env: str,
    ) -> None:
        try:
            self.master, self.slave = pty.openpty()
        except OSError as error:  # a bare chroot
            pytest.skip(f"no pseudo-terminals here: {error}")
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        os.set_blocking(self.master, False)
        self.mode_before = termios.tcgetattr(self.slave)
        self.bytes = b""
        self._drawn = (0, [])  # how many bytes, and the screens among them
        self._seen = 0  # drawings, up to the one that `until` found
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env=environment(PYTHONUTF8="1", **env), start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # killed, it could not remove its folder
            with contextlib.suppress(AssertionError):
                self.end()
        self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            if end >= 0:
                os.close(end)

    def read(self) -> bytes:
        """All that was written so far."""
        try:
            while part := os.read(self.master, 65536):
                self.bytes += part
        except (BlockingIOError, OSError):
            pass
        return self.bytes

    @property
    def screen(self) -> str:
        """The last whole drawing as text without colours."""
        return (self.screens or [""])[-1]

    @property
    def screens(self) -> list[str]:
        """All of them, in order."""
        if self._drawn[0] != len(self.read()):
            drawings = self.bytes.decode(errors="replace").split("\x1b[H")[1:]
            screens = [
                re.sub(r"\x1b\[[\d;]*[mKJ]", "", drawing).replace("\r\n", "\n")
                for drawing in drawings
                if drawing.endswith("\x1b[K\x1b[J")
            ]
            self._drawn = len(self.bytes), screens
        return self._drawn[1]

    def until(self, *words: str, within_s: float = 10) -> str:
        """Wait for a screen with all ``words``, from the last one that was found or
        that a key was pressed at; it may have passed by the time we look."""

        def shown() -> str:
            assert self.process.poll() is None, self.read()[-2000:].decode()
            for number, screen in enumerate(self.screens[self._seen :], self._seen):
                if all(word in screen for word in words):
                    self._seen = number
                    return screen
            return ""

        try:
            return wait_for(shown, f"{words} on the screen", within_s)
        except AssertionError:
            print(self.screen, file=sys.stderr)
            raise

    def press(self, keys: str) -> None:
        self._seen = max(0, len(self.screens) - 1)
        os.write(self.master, keys.encode())

    def end(self, within_s: float = 4) -> int:
        """Wait for the end, reading on as a terminal does."""
        wait_for(
            lambda: (self.read(), self.process.poll())[1] is not None, "end", within_s
        )
        self.read()
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        """Main screen, cursor, wrapping, and the line discipline as before."""
        tail = self.bytes.rpartition(b"\x1b[J")[2]
        return (
            tail == b"\x1b[?7h\x1b[?25h\x1b[?1049l"
            and termios.tcgetattr(self.slave) == self.mode_before
        )


def test_the_show_goes_as_a_friend_would_play_it():
    with Terminal() as terminal:
        screen = terminal.until("light   ready", "nobody came yet")
        assert len(screen.split("\n")) <= 24
        assert terminal.read().startswith(b"\x1b[?1049h\x1b[?25l\x1b[?7l")

        terminal.press("k")
        terminal.until("[ Ken Sato ]")
        terminal.until("light   working", "unlock -> under way")
        terminal.until("lock    turning ...")
        terminal.until("light   unlocked", "lock    unlocked", "unlock -> unlocked")

        time.sleep(0.8)  # longer than rearm_s: Ken's card has left for good
        terminal.press("s")
        terminal.until("[ a stranger ]")
        terminal.until("light   denied", "denied: not-found")

        terminal.press("i")
        terminal.until("cloud   cut off", "bring the internet back")
        terminal.press("k")
        terminal.until("light   fault", "card accepted, door not opened")
        terminal.until("light   lock-unreachable", "no connection to", within_s=15)

        terminal.press("r")
        terminal.until("reader  unplugged", "light   reader-lost", "plug the reader in")
        terminal.press("ri")
        terminal.until("reader  ready", "cloud   100 ms away", within_s=15)

        assert len(terminal.screen.split("\n")) == 24
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.is_restored


def test_the_door_is_opened_by_force_and_by_the_button():
    with Terminal() as terminal:
        terminal.until("light   ready", "door    shut")
        terminal.press("d")
        terminal.until("door    open", "light   forced-open", "nobody was granted")
        terminal.press("d")
        terminal.until("door    shut", "light   ready", "closed")

        terminal.press("b")
        terminal.until("light   unlocked", "exit button")
        terminal.press("d")
        terminal.until("door    open")
        terminal.press("k")
        terminal.until("light   fault", "door not locked")


def test_a_secure_card_is_issued():
    with Terminal() as terminal:
        terminal.until("light   ready", "issue a secure card")
        terminal.press("c")
        terminal.until("light   issuing", "hold it to the reader")
        terminal.press("c")
        terminal.until("light   enrolled", "Nobi Ono", "tap the secure card")


def test_a_stranger_who_comes_while_the_lock_moves_is_answered_at_once():
    with Terminal() as terminal:
        terminal.until("light   ready", "nobody came yet")

        terminal.press("k")
        terminal.until("unlock -> under way")
        terminal.press("s")

        terminal.until("light   denied", "denied: not-found", "unlock -> under way")
        terminal.until("light   unlocked", "unlock -> unlocked")


def test_the_key_turned_by_hand_is_what_the_next_tap_goes_by():
    with Terminal() as terminal:
        terminal.until("lock    locked")

        terminal.press("l")
        terminal.until("lock    unlocked")
        terminal.press("K")  # a capital will do
        terminal.until("light   locked", "lock -> locked")


def test_a_screen_that_stands_still_is_not_drawn_again():
    with Terminal() as terminal:
        terminal.until("light   ready", "is ready")
        before = terminal.read().count(b"\x1b[H")
        time.sleep(0.6)

        # `ready` blinks once in 5 s: on and off, if that fell into this time.
        assert terminal.read().count(b"\x1b[H") <= before + 2


def test_arrow_and_function_keys_are_no_letters():
    with Terminal() as terminal:
        terminal.until("light   ready")
        for key in ("\x1b[A", "\x1bOQ", "\x1bOR", "\x1bOS"):  # F2 has a Q, F3 an R
            terminal.press(key)
            time.sleep(0.12)

        assert "reader  ready" in terminal.until("nobody came yet")


def test_the_screen_follows_the_window():
    with Terminal(rows=30, columns=100) as terminal:
        assert len(terminal.until("light   ready").split("\n")) > 24

        fcntl.ioctl(
            terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0)
        )

        wait_for(lambda: len(terminal.screen.split("\n")) == 12, "a smaller screen")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(number):
    with Terminal() as terminal:
        terminal.until("light   ready")

        terminal.process.send_signal(number)

        assert terminal.end() == 0
        assert terminal.is_restored


def test_ctrl_c_is_answered_by_the_light_and_leaves_the_terminal_as_it_was():
    with Terminal() as terminal:
        terminal.until("light   ready", "is ready")

        terminal.press("\x03")

        terminal.until("light   stopping")
        assert terminal.end() == 0
        assert terminal.is_restored


def test_ctrl_c_while_it_starts_is_no_traceback():
    with Terminal() as terminal:
        pid = terminal.process.pid
        wait_for(lambda: catches(pid, signal.SIGTERM), "it catches signals")
        terminal.process.send_signal(signal.SIGTERM)

        terminal.end()

        assert b"Traceback" not in terminal.bytes
        assert termios.tcgetattr(terminal.slave) == terminal.mode_before


BUG = """
def bug(*args):
    raise RuntimeError("a bug")

doorpi.decide = bug
"""


def test_a_bug_in_the_door_leaves_the_terminal_as_it_was():
    """And its traceback is on the main screen, where it can be read."""
    with Terminal(program(BUG), PYTHON_COLORS="0") as terminal:  # 3.13 paints
        terminal.until("light   ready")

        terminal.press("k")

        assert terminal.end() == 1
        screen, _, after = terminal.bytes.rpartition(b"\x1b[?1049l")
        assert screen.endswith(b"\x1b[?7h\x1b[?25h")
        assert b"RuntimeError: a bug" in after
        assert termios.tcgetattr(terminal.slave) == terminal.mode_before


def test_a_window_that_is_closed_ends_the_demo(tmp_path):
    """Nobody is left to press q; it must not run on, nor leave its folder."""
    with Terminal(TMPDIR=str(tmp_path)) as terminal:
        terminal.until("light   ready")
        assert [p.name[:12] for p in tmp_path.iterdir()] == ["doorpi-demo-"]

        os.close(terminal.slave)
        os.close(terminal.master)
        terminal.master = terminal.slave = -1

        wait_for(lambda: terminal.process.poll() is not None, "end of the demo", 5)
        assert list(tmp_path.iterdir()) == []


# -- how the stories end: they are played while the others are tested


@pytest.mark.parametrize("name", ["as it is", "without a terminal"])
def test_the_story_is_told_and_ends_as_it_must(stories, name):
    """No escape sequence is among it, as `demo | cat` wants."""
    told = [
        "ken granted granted unlocked tap to command N ms",
        "guest denied expired - tap to command -",
        "stranger denied not-found - tap to command -",
        "ken granted granted locked tap to command N ms",
    ]
    assert outcome(stories[name]) == (0, told, "")


BROKEN = {
    "an expired card is let in": "guest granted granted unlocked tap to command N ms NOT AS TOLD",
    "a member is kept out": "ken denied not-enabled - tap to command - NOT AS TOLD",
    "the cloud refuses": "ken granted granted refused tap to command - NOT AS TOLD",
    "a card that is denied moves the lock": "stranger denied not-found - tap to command N ms NOT AS TOLD",
}  # fmt: skip


@pytest.mark.parametrize(("name", "line"), BROKEN.items(), ids=BROKEN)
def test_the_demo_fails_when(stories, name, line):
    assert outcome(stories[name]) == (1, [line], "")


def test_a_bug_in_the_door_is_seen_with_its_traceback(stories):
    code, told, errors = outcome(stories["the door has a bug"])

    assert (code, told) == (1, ["ken stopped"])
    assert "Traceback" in errors
    assert errors.splitlines()[-1] == "RuntimeError: a bug"


def test_the_server_knows_a_member_and_a_code_needs_no_server(stories):
    code, lines, _ = outcome(stories["the server and a QR code"])

    assert code == 0
    assert [line.split()[:4] for line in lines] == [
        ["anna", "granted", "granted", "unlocked"],
        ["visitor", "granted", "granted", "unlocked"],
    ]


def test_a_server_that_is_off_keeps_its_member_out_and_not_the_visitor(stories):
    code, lines, _ = outcome(stories["the server is off"])

    assert code == 1  # not as the story has it
    assert lines[0].split()[:3] == ["anna", "denied", "authority-unreachable"]
    assert lines[1].split()[:4] == ["visitor", "granted", "granted", "unlocked"]
