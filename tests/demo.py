"""The whole program without hardware: the real door on a virtual card reader, lights in
memory and a Sesame in a cloud of this computer's own.

    sh tests/demo.sh                          on a terminal: the door live, a key a card
    sh tests/demo.sh --taps "ken guest ken"   a story, one line a tap; exit code 1 where
                                              it did not end as it must
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import pty
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from math import inf
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import doorpi
from doorpi import Card, Event, Reason, Result, Signal

try:
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory

    from tests.fakes.authorities import PASSWORD, USER, FakeCarontePass
    from tests.fakes.live_cloud import LiveSesame, RealTime
    from tests.fakes.secure_cards import SecureCard, ntag424
    from tests.fakes.virtual import VirtualCard, VirtualField
except ImportError as error:
    raise SystemExit(f"{error}: start the demo with sh tests/demo.sh") from None


@dataclass(frozen=True)
class Person:
    """Somebody who can be tapped in the demo, and how that must end."""

    name: str
    holder: str
    uid: str  # "": shows the QR code of a guest pass
    who: str
    reason: Callable[[datetime], Reason]

    @property
    def key(self) -> str:
        return self.name[0]

    @property
    def card(self) -> VirtualCard:
        return VirtualCard(bytes.fromhex(self.uid))


PEOPLE = (
    Person(
        "ken", "Ken Sato", "04A93C715ED284", "a member",
        lambda at: Reason.GRANTED,
    ),
    Person(
        "mika", "Mika Mori", "D3C2B1A0", "office hours, 8 to 20",
        lambda at: Reason.GRANTED if 8 <= at.hour < 20
        else Reason.NOT_PERMITTED_AT_THIS_TIME,
    ),
    Person(
        "guest", "Jo Guest", "04112233445566", "pass ended yesterday",
        lambda at: Reason.EXPIRED,
    ),
    Person(
        "stranger", "", "04FFEEDDCCBBAA", "not on the list", lambda at: Reason.NOT_FOUND
    ),
    Person(
        "anna", "space user 12", "0123AB07", "only the server knows her",
        lambda at: Reason.GRANTED,
    ),
    Person(
        "visitor", "Vera Visitor", "", "a QR code, until tonight",
        lambda at: Reason.GRANTED,
    ),
)  # fmt: skip

CONFIG = """
[door]
name = "Office 4F"
state_dir = "{folder}"
[reader]
device = "{device}"
virtual = true
poll_s = 0.05
[doorway]
contact_gpio = 5
exit_button_gpio = 6
{lock}
[[schedule]]
name = "office-hours"
times = ["Mon-Sun 08:00-20:00"]
[[card]]
uid = "{ken.uid}"
holder = "{ken.holder}"
[[card]]
uid = "{mika.uid}"
holder = "{mika.holder}"
schedule = "office-hours"
[[card]]
uid = "{guest.uid}"
holder = "{guest.holder}"
valid_until = {yesterday}
{more}
"""

#: A makerspace's server, which is asked about cards that are not on the list, and a
#: scanner for QR codes.
MORE = """
[proof]
door_key = {{ file = "door.key" }}
issuer_key = {{ file = "issuer.key" }}
[[authority]]
name = "space"
kind = "carontepass"
base_url = "{server.base_url}"
plain_http = true
user = "{user}"
password = "{password}"
[[scanner]]
name = "lobby"
device = "{scanner.device}"
"""


# -- what stands around the door


class Clock(doorpi.SystemClock):
    """The computer's; nobody waits for a time server before a demo."""

    def is_set(self) -> bool:
        return True


class PluggedReader:
    """A reader with a plug that can be pulled."""

    def __init__(self, reader: doorpi.NfcReader) -> None:
        self._reader = reader
        self.plugged = True

    def sense(self) -> Card | None:
        if not self.plugged:
            self._reader.close()
            raise doorpi.ReaderLost("unplugged")
        return self._reader.sense()

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        return self._reader.exchange(frame, timeout_s)

    def close(self) -> None:
        self._reader.close()


class PretendScanner:
    """A serial scanner, whose line is a pty."""

    def __init__(self) -> None:
        self._ours, self._theirs = pty.openpty()
        self.device = os.ttyname(self._theirs)

    def scan(self, text: str) -> None:
        os.write(self._ours, f"{text}\r".encode())

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)


class JournalTail(logging.Handler):
    """Keeps the journal's last lines for the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines = [*self.lines[-20:], *record.getMessage().splitlines()]


#: What key c does next.
ORDER, HOLD, TAP = "issue a secure card", "hold it to the reader", "tap the secure card"


@dataclass(kw_only=True)
class World:
    """What stands around the door, for the screen to show and the keys to break."""

    field: VirtualField
    cloud: LiveSesame
    reader: PluggedReader
    lights: doorpi.GpioLights
    store: doorpi.SqliteStore
    journal: JournalTail
    server: FakeCarontePass
    scanner: PretendScanner
    code: str  # of the visitor's pass
    blank: SecureCard
    inbox: doorpi.Inbox
    online: bool = True
    serves: bool = True
    seen_id: int = 0
    step: str = ORDER
    is_shut: bool = True  # the door

    def toggle_internet(self) -> None:
        self.online = not self.online
        (self.cloud.go_online if self.online else self.cloud.go_offline)()

    def present(self, person: Person) -> None:
        if person.uid:
            self.field.put(person.card)
        else:
            self.scanner.scan(self.code)

    def use_secure_card(self) -> None:
        """Order one, as `doorpi issue` does; hold it to the reader; then tap it."""
        if self.step == HOLD and self.lights.playing is not Signal.ISSUING:
            self.step = ORDER  # the order's time was up
        if self.step != ORDER:
            self.field.put(self.blank)
            self.step = TAP
            return
        now, wish = time.monotonic(), ["demo", "Nobi Ono", None, None, None, ""]
        order = doorpi.AccessRequest(
            doorpi.Medium.COMMAND, json.dumps(wish), doorpi.EPOCH, now, now + 60,
            doorpi.Wants.ISSUE, id=os.urandom(4).hex(),
        )  # fmt: skip
        self.inbox.put(order)
        self.step = HOLD

    def toggle_server(self) -> None:
        self.serves = not self.serves
        (self.server.go_online if self.serves else self.server.go_offline)()

    def toggle_reader(self) -> None:
        self.reader.plugged = not self.reader.plugged

    def swing(self) -> None:
        """Open the door, or shut it."""
        self.is_shut, contact = not self.is_shut, Device.pin_factory.pin(5)
        (contact.drive_low if self.is_shut else contact.drive_high)()

    def press_button(self) -> None:
        Device.pin_factory.pin(6).drive_low()
        Device.pin_factory.pin(6).drive_high()

    def turn_key(self) -> None:
        self.cloud.locked = not self.cloud.locked

    def wait_until_gone(self, over: threading.Event) -> None:
        """Until the reader has seen the field empty for long enough to re-arm."""
        polls = self.field.polls
        while self.field.polls < polls + 2 and not over.wait(0.01):
            pass
        over.wait(0.6)

    def close(self) -> None:
        self.store.close()
        self.inbox.close()
        self.field.close()
        self.cloud.close()
        self.server.close()
        self.scanner.close()


class ShownLights(doorpi.GpioLights):
    """Lights that know what they show, for the screen."""

    def __init__(self, config: doorpi.LedsConfig, patterns) -> None:
        super().__init__(
            config, {sign: self._noting(sign, patterns) for sign in Signal}
        )
        self.playing = Signal.READY

    def _noting(self, sign: Signal, patterns) -> SimpleNamespace:
        def frames():
            self.playing = sign
            yield from patterns[sign].frames()

        return SimpleNamespace(frames=frames)

    @property
    def value(self) -> tuple[int, int]:
        """(green, red) as they are now."""
        with self._changed:
            return (0, 0) if self._device is None else self._device.value


def build(folder: Path, signals: doorpi.ProcessSignals) -> tuple[doorpi.Door, World]:
    """The door as `run` builds it, on equipment of the demo's."""
    Device.pin_factory = MockFactory()
    clock = Clock()
    field = VirtualField()
    cloud = LiveSesame(latency_s=0.1, motor_s=1.5)
    server, scanner = FakeCarontePass(RealTime()), PretendScanner()
    server.members[doorpi.spelled(doorpi.Uid("0123AB07"), "dotted")] = 12, True
    more = MORE.format(server=server, user=USER, password=PASSWORD, scanner=scanner)
    path = folder / "doorpi.toml"
    names = ("door.key", "issuer.key")
    doorpi.store_keys({folder / name: os.urandom(16).hex() for name in names}, folder)
    path.write_text(
        CONFIG.format(
            folder=folder,
            device=field.device,
            lock=cloud.table(),
            yesterday=clock.now().date() - timedelta(days=1),
            more=more,
            **{person.name: person for person in PEOPLE},
        ),
        encoding="utf-8",
    )
    settings = doorpi.make_settings(path, {}, signals, clock)
    config = settings.load()
    door = doorpi.build(config, settings, {}, clock)
    equipment = door._keeper.equipment
    equipment.lights = {"": ShownLights(config.leds, config.patterns)}
    door._keeper.use(config)  # as after an edit
    equipment.locks["lock"].unreachable_s = 5.0  # nobody watches a demo for a minute
    source = next(s for s in equipment.sources if isinstance(s, doorpi.CardSource))
    reader = source.reader = PluggedReader(source.reader)
    source._backoff = doorpi.Backoff(0.2, 1.0)  # who plugs the reader in is watching
    equipment.contact.is_closed()  # takes the pin, and pulls it up
    Device.pin_factory.pin(5).drive_low()
    store = doorpi.make_store(config)
    return door, World(
        server=server,
        scanner=scanner,
        code=visitors_code(store, folder, clock),
        blank=ntag424(),
        inbox=doorpi.Inbox(folder / "inbox.db", clock),
        field=field,
        cloud=cloud,
        reader=reader,
        lights=equipment.lights[""],
        store=store,
        journal=JournalTail(),
    )


def visitors_code(store: doorpi.SqliteStore, folder: Path, clock: Clock) -> str:
    """What `doorpi pass "Vera Visitor"` prints with --text."""
    now = clock.now()
    code = doorpi.PassCode("VISITOR2", now + timedelta(hours=12))
    store.people.put_pass(doorpi.GuestPass(code, "Vera Visitor", now, "demo"), now)
    return doorpi.sign_pass(code, doorpi.signing_key(folder / doorpi.PASS_KEY))


# -- a story, one line a tap


class Script:
    """Taps the people of a story one after the other and checks how each ended."""

    def __init__(self, world: World, taps: Sequence[Person]) -> None:
        self._world = world
        self._taps = taps
        self._as_told = 0
        self._over = threading.Event()

    def play(self) -> None:
        """On a thread of its own; stops the door when the story is over."""
        try:
            self._wait_for_connection()
            self._world.wait_until_gone(self._over)  # or the first lay there before
            for person in self._taps:
                as_told = self._tap(person)
                self._as_told += as_told
                if self._over.is_set() and not as_told:
                    break
        finally:
            if not self._over.is_set():  # else the door has failed, and says how
                os.kill(os.getpid(), signal.SIGTERM)

    def finish(self) -> int:
        self._over.set()
        return 0 if self._as_told == len(self._taps) else 1

    def _tap(self, person: Person) -> bool:
        """Present a card, print what came of it; True when it was as the story says."""
        world, cloud = self._world, self._world.cloud
        reason = person.reason(datetime.now().astimezone())
        wanted: str | None = None
        if reason is Reason.GRANTED:  # a QR code never locks
            unlocks = cloud.locked or not person.uid
            wanted = Result.UNLOCKED if unlocks else Result.LOCKED
        sent_before, tapped_at = len(cloud.commands), time.monotonic()
        world.present(person)
        event = self._wait_for_event()
        world.field.take()
        world.wait_until_gone(self._over)
        sent = cloud.commands[sent_before:]
        if event is None:
            why = "stopped" if self._over.is_set() else "nothing happened within 20 s"
            print(f"{person.name:<10}{why}", flush=True)
            return False
        took = f"{(sent[0][0] - tapped_at) * 1000:6.0f} ms" if sent else "     -"
        as_told = (event.reason, event.result, len(sent)) == (
            reason,
            wanted,
            int(wanted is not None),
        )
        line = (
            f"{person.name:<10}{event.decision:<9}{event.reason:<28}"
            f"{event.result or '-':<15}tap to command{took}"
        )
        print(line + ("" if as_told else "   NOT AS TOLD"), flush=True)
        return as_told

    def _wait_for_connection(self) -> None:
        """As a door finds it that has stood for a while."""
        ends_at = time.monotonic() + 5
        while not self._world.cloud.connections and time.monotonic() < ends_at:
            if self._over.wait(0.01):
                break

    def _wait_for_event(self) -> Event | None:
        """The event of this tap, once it has ended and is on disk."""
        seen = self._world.seen_id
        ends_at = time.monotonic() + 20
        while time.monotonic() < ends_at and not self._over.wait(0.01):
            for event in self._world.store.events.read(after_id=seen):
                if event.decision == "denied" or event.result:
                    self._world.seen_id = event.id
                    return event
        return None


# -- the screen


BOLD, DIM, REVERSE, RED, GREEN, YELLOW, CYAN = 1, 2, 7, 91, 92, 93, 96

#: A lamp that is off and one that is on; told apart without colours, too.
LAMPS = (("╭───╮", "╰───╯"), ("▄███▄", "▀███▀"))
#: The same screen on a terminal that knows ASCII only.
TO_ASCII = str.maketrans("╭╮╰╯─│█▄▀", "++++-|###")


def paint(text: str, *codes: int) -> str:
    """``text`` in an ANSI style (SGR codes)."""
    return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m"


def drawing(
    world: World, events: Sequence[Event], held: str, rows: int = 24
) -> list[str]:
    """The screen, 80 by ``rows``, as lines with ANSI colours; ``held`` is the person
    who taps just now."""
    spare = max(0, rows - 24)
    told, said = 3 + spare - spare // 2, 1 + spare // 2
    happened = [event_line(event) for event in events[-told:]]
    nobody = [] if happened else [paint("  nobody came yet: press k", DIM)]
    journal = (
        line if len(line) <= 77 else line[:74] + "..."
        for line in world.journal.lines[-said:]
    )
    lines = [
        *screen_head(world, held),
        "",
        *screen_keys(world, held),
        "",
        paint("  What happened", BOLD),
        *[*happened, *nobody, *[""] * told][:told],
        "",
        paint("  What the journal says", BOLD),
        *(paint(f"  {line}", DIM) for line in journal),
    ]
    return lines[:rows]


def screen_head(world: World, held: str) -> list[str]:
    sign, cloud, reader = world.lights.playing, world.cloud, world.reader
    is_lit = world.lights.value
    green, red = (
        [paint(half, colour, *(() if on else (DIM,))) for half in LAMPS[on]]
        for on, colour in zip(is_lit, (GREEN, RED), strict=True)
    )
    is_turning = cloud.bolt.is_moving
    bolt = "turning ..." if is_turning else ("unlocked", "locked")[cloud.locked]
    shown = {"locked": (BOLD,), "unlocked": (BOLD, GREEN)}.get(bolt, (BOLD, YELLOW))
    internet = paint("100 ms away") if world.online else paint("cut off", RED, BOLD)
    plug = paint("ready") if sign is not Signal.READER_LOST else "being looked for"
    if not reader.plugged:
        plug = paint("unplugged", RED, BOLD)
    here = next((p.holder or "a stranger" for p in PEOPLE if p.name == held), "")
    slot = f"[ {here} ]" if here else "((( hold a card here"
    slot = paint(f"{slot:<20}", *((BOLD, CYAN) if here else (DIM,)))
    is_shut, swing = world.is_shut, "open it" if world.is_shut else "shut it"
    stands = paint(
        f"{'shut' if is_shut else 'open':<7}", *(() if is_shut else (BOLD, YELLOW))
    )
    door = f"door    {stands}{keycap('d')} {swing}   {keycap('b')} exit button"
    about = paint("the real door; reader, lock and lights are simulated", DIM)
    return [
        f"  {paint('DoorPi', BOLD, CYAN)}  {paint('Office 4F', BOLD)}{'':8}{about}",
        "",
        f"  ╭{'─' * 24}╮  {door}",
        f"  │    green       red     │  light   {paint(sign.value, BOLD)}",
        f"  │    {green[0]}      {red[0]}    │          {doorpi.MEANINGS[sign]}",
        f"  │    {green[1]}      {red[1]}    │  lock    {paint(bolt, *shown)}",
        f"  │  {slot}  │  cloud   {internet}",
        f"  ╰{'─' * 24}╯  reader  {plug}",
    ]


def screen_keys(world: World, held: str) -> list[str]:
    heads = f"{'Tap a card':<46}Break it, and more"
    breaks = (
        ("i", "cut the internet", "bring the internet back", world.online),
        ("r", "unplug the reader", "plug the reader in", world.reader.plugged),
        ("o", "switch the server off", "switch the server on", world.serves),
        ("l", "turn the key by hand", "", True),
        ("c", world.step, world.step, world.step != HOLD),
        ("q", "quit", "", True),
    )
    lines = [paint(f"  {heads}", BOLD)]
    for person, broken in zip_longest(PEOPLE, breaks):
        who = f"  {person.holder or 'a stranger':<14}{person.who:<27}"
        left = paint(who, *((BOLD, CYAN) if person.name == held else ()))
        line = f"  {keycap(person.key)}{left}"
        if broken:
            key, harm, mend, is_well = broken
            right = f"  {harm}" if is_well else paint(f"  {mend}", BOLD, YELLOW)
            line += keycap(key) + right
        lines.append(line)
    return lines


def keycap(key: str) -> str:
    return paint(f" {key} ", REVERSE)


def event_line(event: Event) -> str:
    who, said = (
        doorpi.fitting(doorpi.holder_words(event), 16),
        doorpi.outcome_words(event),
    )
    is_open = event.result in (Result.UNLOCKED, Result.LOCKED)
    colour = GREEN if is_open else YELLOW if event.decision == "granted" else RED
    if event.decision != "granted" and event.source != "door":
        said = f"{event.decision}: {said}"
    at = f"{event.at.astimezone():%H:%M:%S}"
    return f"  {at}  {who:<18}{paint(doorpi.fitting(said, 48), colour)}"


class Keyboard:
    """The demo on a terminal: draws the screen, and each key is a person's tap."""

    frame_s = doorpi.CELL_S
    hold_s = 0.8  # how long a card is held against the reader
    #: A screen of its own without cursor, cut at the margin; and back.
    enter, leave = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = ""
        self._take_at = inf
        self._over = threading.Event()
        self._door_stops = False
        self._failed = False
        self._drawn: tuple[object, ...] = ()

    def play(self) -> None:
        """On a thread of its own; stops the door on ``q``, or when it fails."""
        import termios
        import tty

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            self._write(self.enter)
            self._world.wait_until_gone(self._over)  # or a card lay there before
            while not self._over.is_set():
                self._draw()
                self._listen(terminal)
        except OSError:  # the window was closed
            self._failed = True
        except BaseException:
            self._failed = True
            raise
        finally:
            with contextlib.suppress(OSError, termios.error):
                self._write(self.leave)
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)
            if not self._door_stops:
                os.kill(os.getpid(), signal.SIGTERM)

    def finish(self) -> int:
        """The door was stopped: leave the terminal as it was."""
        self._door_stops = True
        self._over.set()
        return 1 if self._failed else 0

    def _listen(self, terminal: int) -> None:
        """Wait for a key for as long as a frame of the screen lasts."""
        if self._world.field.polls < 2:  # a card shown before counts for nothing
            self._over.wait(self.frame_s)
            return
        if time.monotonic() >= self._take_at:
            self._world.field.take()
            self._held, self._take_at = "", inf
        readable, _, _ = select.select([terminal], [], [], self.frame_s)
        if not readable:
            return
        keys = os.read(terminal, 32).decode(errors="ignore")
        if not keys:
            raise OSError("the terminal was closed")
        if not keys.startswith("\x1b"):  # an arrow or function key is no letter
            for key in keys:
                self._press(key.lower())

    def _press(self, key: str) -> None:
        world = self._world
        actions: dict[str, Callable[[], None]] = {
            "i": world.toggle_internet,
            "r": world.toggle_reader,
            "o": world.toggle_server,
            "l": world.turn_key,
            "d": world.swing,
            "b": world.press_button,
            "c": functools.partial(self._tap, None),
            "q": self._over.set,
        }
        for person in PEOPLE:
            actions[person.key] = functools.partial(self._tap, person)
        actions.get(key, lambda: None)()
        self._drawn = ()  # also mends a screen that something else wrote on

    def _tap(self, person: Person | None) -> None:
        """Hold a person's card to the reader, or (None) what the secure card needs."""
        if person:
            self._world.present(person)
            self._held, self._take_at = person.name, time.monotonic() + self.hold_s
        else:
            self._world.use_secure_card()
            self._held, self._take_at = "", time.monotonic() + 2 * self.hold_s

    def _draw(self) -> None:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        lines = drawing(
            self._world, list(self._world.store.events.read()), self._held, rows or 24
        )
        drawn = (columns, rows, *lines)
        if drawn != self._drawn:
            self._drawn = drawn
            self._write("\x1b[H" + "\x1b[K\n".join(lines) + "\x1b[K\x1b[J")

    def _write(self, text: str) -> None:
        is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.write(text if is_utf8 else text.translate(TO_ASCII))
        sys.stdout.flush()


# -- the command


def play(door: doorpi.Door, world: World, taps: list[Person] | None) -> int:
    """The door on the main thread, as in `run`, and who plays with it on another."""
    actor: Script | Keyboard = Keyboard(world)
    if taps is not None:
        actor = Script(world, taps)
    else:
        doorpi.set_up_logging(world.journal)
    stage = doorpi.start_thread(actor.play, "demo")
    try:
        door.run()
    except doorpi.Stopped:
        pass  # as it ends
    finally:
        code = actor.finish()
        stage.join(5)
        world.close()
    return code


def story(text: str) -> list[Person]:
    """The people of ``ken guest stranger ken``, in order."""
    known = {person.name: person for person in PEOPLE}
    missing = [name for name in text.split() if name not in known]
    if missing or not text.split():
        raise argparse.ArgumentTypeError(
            f"nobody is called {missing[0] if missing else text!r}; there are"
            f" {', '.join(known)}"
        )
    return [known[name] for name in text.split()]


def main(argv: Sequence[str] | None = None) -> int:
    """Play; returns the exit code: 0 as told, 1 not so, or stopped.

    Raises: SystemExit with 2 on wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="demo.sh", description="DoorPi, the whole program, without hardware."
    )
    parser.add_argument(
        "--taps", type=story, metavar="NAMES", help='such as "ken guest"'
    )
    taps = parser.parse_args(argv).taps
    if taps is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        taps = story("ken guest stranger ken")
    doorpi.set_up_logging(logging.StreamHandler(), logging.ERROR)
    signals = doorpi.ProcessSignals()
    try:
        signals.install()
        with tempfile.TemporaryDirectory(prefix="doorpi-demo-") as folder:
            return play(*build(Path(folder), signals), taps)
    except doorpi.Stopped:  # before the door was open
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
