"""The README's two pictures, drawn by the program.

    .venv/bin/python tests/tools/shown.py      writes both into tests/shown

card.svg is what `doorpi legend --svg` prints.  demo.svg is the screen of `demo.sh`: a day
at a door on fake ports, drawn by demo.py, whose lines with ANSI styles become SVG here.
tests/repo/test_readme.py fails when a picture is not what the program draws.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import doorpi
from doorpi import LockPolicy, Signal, Uid
from tests import demo
from tests.helpers.world import NOON, World

FOLDER = Path(__file__).resolve().parents[1] / "shown"
DOOR = "Office 4F"
ROWS, COLUMNS = 26, 80

# -- what is on the screen


def a_day() -> list[str]:
    """The demo's screen at a moment of a fixed day, as lines with ANSI styles."""
    world = World()
    world.clock.at = NOON.replace(hour=8, minute=2, second=11)
    world.lock.policy = LockPolicy(confirm_at_s=(1.4,), confirm_every_s=1.0)
    world.lock.takes_s = 0.1
    journal = demo.JournalTail()
    doorpi.log.addHandler(journal)
    level, propagate = doorpi.log.level, doorpi.log.propagate
    doorpi.log.setLevel(logging.INFO)
    doorpi.log.propagate = False
    try:
        for minutes, name in (
            (0, "ken"), (34, "ken"), (51, "guest"), (0.2, "stranger"), (7, "mika"),
        ):  # fmt: skip
            world.clock.advance(60 * minutes)
            (person,) = (p for p in demo.PEOPLE if p.name == name)
            world.tap(Uid(person.uid), None, config=_config())
            world.clock.advance(5)
    finally:
        doorpi.log.removeHandler(journal)
        doorpi.log.setLevel(level)
        doorpi.log.propagate = propagate
    shown = SimpleNamespace(
        lights=SimpleNamespace(playing=Signal.UNLOCKED, value=(1, 0)),
        cloud=SimpleNamespace(bolt=SimpleNamespace(is_moving=False), locked=False),
        reader=SimpleNamespace(plugged=True), journal=journal, online=True, serves=True,
        step=demo.ORDER, is_shut=True,
    )  # fmt: skip
    events = list(world.store.events.values())
    assert world.lights.shown[-1][1][0] is Signal.UNLOCKED
    return demo.drawing(shown, events, "", ROWS)  # type: ignore[arg-type]


def _config() -> doorpi.Config:
    """The demo's settings, with a lock that nobody asks."""
    lock = '[lock]\nkind = "relay"'
    people = {person.name: person for person in demo.PEOPLE}
    yesterday = NOON.date() - timedelta(days=1)
    text = demo.CONFIG.format(
        folder="",
        device="udp:127.0.0.1:1",
        lock=lock,
        yesterday=yesterday,
        more="",
        **people,
    )
    return doorpi.parse_config(text)


# -- the screen as SVG

CELL, LINE, SIZE = 8.4, 19.0, 14.0
LEFT, TOP, BAR = 20.0, 62.0, 38.0
#: As on a dark terminal, on white pages as well.
INK, DIM, PAPER, EDGE, HEAD = "#d7dde5", "#8b949e", "#161b22", "#3d444d", "#21262d"
COLOURS = {91: "#ff7b72", 92: "#4ade80", 93: "#e3b341", 96: "#67d4f1"}
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
#: Strokes, from the middle of a cell to its sides.
BOXES = {
    "─": "M0 {y}H{w}", "│": "M{x} -.5V{h}.5",
    "╭": "M{w} {y}H{x1}Q{x} {y} {x} {y1}V{h}", "╮": "M0 {y}H{x0}Q{x} {y} {x} {y1}V{h}",
    "╰": "M{w} {y}H{x1}Q{x} {y} {x} {y0}V0", "╯": "M0 {y}H{x0}Q{x} {y} {x} {y0}V0",
}  # fmt: skip
#: The halves of the lamps: the upper one is drawn as a round lamp, the lower not at all.
LAMPS = {
    half: (on, half == lamp[0]) for on, lamp in enumerate(demo.LAMPS) for half in lamp
}


def runs(line: str) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Column, text and SGR codes of what is printed, split where it is spaced out."""
    column, codes = 0, ()
    for part in re.split(r"(\x1b\[[\d;]*m)", line):
        if part.startswith("\x1b"):
            codes = tuple(int(code or 0) for code in part[2:-1].split(";"))
            continue
        pieces = [part]
        if part not in LAMPS and demo.REVERSE not in codes:
            pieces = re.split(r"(  +|[─│╭╮╰╯])", part)
        for piece in pieces:
            if piece.strip():
                yield column, piece, codes
            column += len(piece)


def cells(x: float, y: float, text: str, codes: Sequence[int]) -> str:
    """One run of text, whose cells begin at ``x`` and whose line begins at ``y``."""
    colour = next((COLOURS[code] for code in codes if code in COLOURS), INK)
    if demo.DIM in codes:
        colour = DIM
    if text in BOXES:
        w, h, x_, y_ = CELL, LINE, CELL / 2, LINE / 2
        path = BOXES[text].format(
            w=w, h=h, x=x_, y=y_, x0=0, x1=w, y0=y_ - x_, y1=y_ + x_
        )
        place = f"translate({x:g} {y:g})"
        return doorpi.tag(
            "path", "", d=path, transform=place, fill="none", stroke=colour
        )
    if text in LAMPS:
        on, is_upper = LAMPS[text]
        return lamp(x + CELL * len(text) / 2, y + LINE, colour, on=on) * is_upper
    wide = len(text) * CELL
    more = {"font_weight": "bold"} if demo.BOLD in codes else {}
    key = ""
    if demo.REVERSE in codes:
        key = doorpi.box(x, y + 0.5, x + wide, y + LINE - 0.5, rx=3, fill=colour)
        text, x, wide, colour = text.strip(), x + CELL, wide - 2 * CELL, PAPER
    return key + doorpi.tag(
        "text", text, x=x, y=y + 14.0, textLength=wide,
        lengthAdjust="spacingAndGlyphs", fill=colour, **more,
    )  # fmt: skip


def lamp(x: float, y: float, colour: str, *, on: int) -> str:
    """A lamp around a point: lit with a glow, or a ring."""
    if not on:
        return doorpi.tag("circle", "", cx=x, cy=y, r=12.0, fill="none", stroke=colour)
    glow = doorpi.tag("circle", "", cx=x, cy=y, r=17.5, fill=colour, opacity=0.25)
    return glow + doorpi.tag("circle", "", cx=x, cy=y, r=12.5, fill=colour)


def demo_svg() -> str:
    """The screen in a terminal's window."""
    wide, high = 2 * LEFT + COLUMNS * CELL, TOP + ROWS * LINE + 12
    window = doorpi.tag(
        "rect", "", x=0.5, y=0.5, width=wide - 1, height=high - 1, rx=9, fill=PAPER,
        stroke=EDGE,
    )  # fmt: skip
    head = f"M1 {BAR:g}V9.5a8.5 8.5 0 0 1 8.5-8.5H{wide - 9.5:g}a8.5 8.5 0 0 1 8.5 8.5V{BAR:g}z"
    buttons = [
        doorpi.tag("circle", "", cx=20.0 * n, cy=BAR / 2 + 0.5, r=6.0, fill=colour)
        for n, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"), 1)
    ]
    title = doorpi.tag(
        "text", "sh tests/demo.sh", x=wide / 2, y=BAR / 2 + 5.0, text_anchor="middle",
        fill=DIM,
    )  # fmt: skip
    text = [
        cells(LEFT + CELL * column, TOP + LINE * row - 10, piece, codes)
        for row, line in enumerate(a_day())
        for column, piece, codes in runs(line)
    ]
    picture = doorpi.tag(
        "svg", "", doorpi.tag("title", "The demo: a door in a terminal"), window,
        doorpi.tag("path", "", d=head, fill=HEAD), *buttons, title, *text,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {wide:g} {high:g}",
        width=f"{wide:g}", height=f"{high:g}", font_family=FONT, font_size=f"{SIZE:g}",
    )  # fmt: skip
    return picture.encode("ascii", "xmlcharrefreplace").decode()


# -- both


def pictures() -> dict[str, str]:
    """File name and content of each."""
    patterns = doorpi.Parser({}).patterns()
    with in_tokyo():
        screen = demo_svg()
    return {"card.svg": doorpi.legend_svg(patterns, DOOR) + "\n", "demo.svg": screen}


@contextlib.contextmanager
def in_tokyo() -> Iterator[None]:
    """The screen shows local time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


if __name__ == "__main__":
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
        print(f"written: {FOLDER / name}")
