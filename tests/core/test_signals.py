"""What the lights say: the exact timing of each signal, and what tells them apart."""

from __future__ import annotations

from itertools import islice, pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorpi import (
    FAULTS,
    MEANINGS,
    PICTURES,
    RESULT_SIGNALS,
    STANDING,
    Pattern,
    Result,
    Signal,
    looks,
    parse_pattern,
    timeline,
)

PATTERNS = {sign: parse_pattern(picture) for sign, picture in PICTURES.items()}
DARK, GREEN, RED, BOTH = (0, 0), (1, 0), (0, 1), (1, 1)


def played(sign: Signal, frames: int) -> list[tuple[tuple[int, int], float]]:
    """The first ``frames`` of what the lights do, to the microsecond."""
    begun = islice(PATTERNS[sign].frames(), frames)
    return [(light, round(seconds, 6)) for light, seconds in begun]


def test_each_signal_has_a_picture_and_a_meaning():
    assert set(PICTURES) == set(Signal)


def test_meanings_are_not_shared():
    assert len(set(MEANINGS.values())) == len(Signal)


# The one table of what there is to see: all of it, or what repeats.

ONCE = {
    Signal.UNLOCKED: [(GREEN, 3.0)],
    Signal.LOCKED: [(GREEN, 0.25), (DARK, 0.25)] * 6,
    Signal.FAULT: [(RED, 0.1), (DARK, 0.1)] * 20,
    Signal.UNSURE: [(RED, 0.25), (GREEN, 0.25)] * 4,  # 8 x 0.25 s
    Signal.DENIED: [(RED, 0.7), (DARK, 0.3)] * 2,
    Signal.STOPPING: [(RED, 0.1), (DARK, 0.1)] * 10,
    Signal.ENROLLED: [(BOTH, 1.5)],
    Signal.LOW_BATTERY: [(RED, 0.1), (DARK, 0.2)] * 3,
}

OVER_AND_OVER = {
    Signal.WORKING: [(GREEN, 0.5), (DARK, 0.5)],
    Signal.ASKING: [(GREEN, 0.1), (DARK, 0.4)],
    Signal.READY: [(GREEN, 0.05), (DARK, 4.95)],
    Signal.READER_LOST: [(RED, 0.1), (DARK, 2.9)],
    Signal.SCANNER_LOST: [(RED, 0.1), (DARK, 2.9)],  # a reader, too
    Signal.LOCK_UNREACHABLE: [
        *[(RED, 0.1), (DARK, 0.2)] * 4, (RED, 0.1), (DARK, 1.7),
    ],
    Signal.CONFIG_BAD: [(RED, 0.1), (DARK, 0.2), (RED, 0.1), (DARK, 2.6)],
    Signal.STORAGE_BAD: [
        (RED, 0.1), (DARK, 0.2), (RED, 0.1), (DARK, 0.2), (RED, 0.1), (DARK, 2.3),
    ],
    Signal.NOT_LOCKED: [*[(RED, 0.1), (DARK, 0.2)] * 3, (RED, 0.1), (DARK, 2.0)],
    Signal.LOCKED_DOWN: [(RED, 0.5), (DARK, 2.5)],
    Signal.ENROLLING: [(BOTH, 0.1), (DARK, 0.1)],
    Signal.ISSUING: [(BOTH, 0.1), (DARK, 0.1)],  # as enrolling
    Signal.FORCED_OPEN: [(RED, 0.3), (DARK, 0.3)],
    Signal.HELD_OPEN: [(RED, 0.3), (DARK, 0.3)],  # an open door, too
}  # fmt: skip


@pytest.mark.parametrize(("sign", "frames"), ONCE.items(), ids=ONCE)
def test_a_signal_that_ends_has_the_timing_of_the_design(sign, frames):
    assert played(sign, 999) == frames


@pytest.mark.parametrize(("sign", "frames"), OVER_AND_OVER.items(), ids=OVER_AND_OVER)
def test_a_standing_signal_has_the_timing_of_the_design_for_ever(sign, frames):
    assert played(sign, 300) == (frames * 300)[:300]


def test_every_line_of_the_design_has_its_timing_above():
    assert ONCE.keys() | OVER_AND_OVER.keys() == set(Signal)


@pytest.mark.parametrize(("sign", "frames"), ONCE.items(), ids=ONCE)
def test_a_signal_that_ends_knows_how_long_it_lasts(sign, frames):
    lasts_s = sum(seconds for _, seconds in frames)

    assert PATTERNS[sign].duration_s == pytest.approx(lasts_s)


def test_exactly_the_standing_signals_repeat():
    repeating = {sign for sign, pattern in PATTERNS.items() if pattern.times is None}

    assert repeating == STANDING
    assert {PATTERNS[sign].duration_s for sign in STANDING} == {inf}


@pytest.mark.parametrize("sign", Signal)
def test_every_signal_begins_with_light(sign):
    """The person at the door sees at once that something happens."""
    [(light, _)] = played(sign, 1)

    assert light != DARK


# -- telling them apart


def rhythm(sign: Signal) -> str:
    """What somebody sees who cannot tell red from green: when it is light or changes.

    The first 12 s, cell by cell: dark, lit, or lit differently than before.
    """
    pattern = PATTERNS[sign]
    cells = (pattern.cells * (pattern.times or 240)).ljust(240, ".")[:240]
    return "".join(
        "." if cell == "." else "x" if before in (".", cell) else "/"
        for before, cell in zip("." + cells, cells, strict=False)
    )


def test_no_two_signals_have_the_same_rhythm_whatever_their_colour():
    # which are as reader-lost, enrolling and forced-open
    signals = set(Signal) - {Signal.SCANNER_LOST, Signal.ISSUING, Signal.HELD_OPEN}
    rhythms = {sign: rhythm(sign) for sign in signals}

    assert len(set(rhythms.values())) == len(signals)


#: Lights whose rhythm begins alike for so many seconds; colour, or patience, tells.
ALIKE_S = {
    (Signal.FAULT, Signal.ENROLLING): 4.0,    # red; both, until the window closes
    (Signal.STOPPING, Signal.ENROLLING): 2.0,
    (Signal.FAULT, Signal.STOPPING): 2.0,     # red both; stopping ends after 2 s
    (Signal.UNLOCKED, Signal.UNSURE): 0.25,
    (Signal.STORAGE_BAD, Signal.LOW_BATTERY): 3.0,
    (Signal.CONFIG_BAD, Signal.LOW_BATTERY): 0.6,
}  # fmt: skip


@pytest.mark.parametrize(("pair", "alike_s"), ALIKE_S.items(), ids=str)
def test_how_long_two_rhythms_are_alike_is_known(pair, alike_s):
    one, other = map(rhythm, pair)

    differing = next(
        i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
    )

    assert differing * 0.05 == pytest.approx(alike_s)


ANSWERS = (
    Signal.UNLOCKED, Signal.LOCKED, Signal.FAULT, Signal.UNSURE, Signal.DENIED,
)  # fmt: skip


def test_the_answers_to_a_tap_are_told_apart_within_a_second():
    """The tenant's question is which way it went; colour-blind or not."""
    begun = {sign: rhythm(sign)[:20] for sign in ANSWERS}

    assert len(set(begun.values())) == len(ANSWERS)


# -- which signal when

FOR_RESULTS = {
    Result.UNLOCKED: Signal.UNLOCKED,
    Result.LOCKED: Signal.LOCKED,
    Result.REFUSED: Signal.FAULT,
    Result.UNREACHABLE: Signal.FAULT,
    Result.UNKNOWN_STATE: Signal.FAULT,
    Result.UNSURE: Signal.UNSURE,
    Result.INTERRUPTED: Signal.STOPPING,
}


def test_a_granted_card_is_shown_how_it_ends():
    assert RESULT_SIGNALS == FOR_RESULTS
    assert set(RESULT_SIGNALS) == set(Result)


def test_only_a_confirmed_result_is_green_alone():
    """Never the light of an open door for anything but an open or a closed bolt."""
    all_green = {
        result for result, sign in RESULT_SIGNALS.items() if "R" not in PICTURES[sign]
    }

    assert all_green == {Result.UNLOCKED, Result.LOCKED}


def test_faults_are_standing_red_and_rank_an_open_door_first():
    ranked = [
        "forced-open", "held-open", "not-locked", "locked-down", "reader-lost", "scanner-lost", "lock-unreachable",
        "config-bad", "storage-bad",
    ]  # fmt: skip
    assert ranked == [*FAULTS]
    assert set(FAULTS) < STANDING
    assert {light for sign in FAULTS for light, _ in played(sign, 9)} == {RED, DARK}


# -- pictures

READ = {
    "so many times": ("6x GGGGG.....", Pattern("GGGGG.....", 6)),
    "once": ("1x A", Pattern("A", 1)),
    "until replaced": ("* G....", Pattern("G....", None)),
    "blanks around and between": ("  2x   RR..  ", Pattern("RR..", 2)),
    "a minute": ("1200x G", Pattern("G", 1200)),
    "a minute's period": ("* " + "G" * 1200, Pattern("G" * 1200, None)),
    "nothing but dark": ("* .", Pattern(".", None)),
}


@pytest.mark.parametrize(("picture", "pattern"), READ.values(), ids=READ)
def test_a_picture_is_read(picture, pattern):
    assert parse_pattern(picture) == pattern


NO_PICTURE = 'not a picture such as "6x GGGGG....." or "* G...."'
TOO_LONG = "a picture plays at least once, and for 60 s at most"

NOT_READ = {
    "nothing": ("", NO_PICTURE),
    "no cells": ("6x ", NO_PICTURE),
    "no repetition": ("GGGG....", NO_PICTURE),
    "no blank": ("6xGGG", NO_PICTURE),
    "no number": ("x GGG", NO_PICTURE),
    "less than nothing": ("-1x G", NO_PICTURE),
    "a fraction": ("1.5x G", NO_PICTURE),
    "both": ("*6x G", NO_PICTURE),
    "lower case": ("6x ggg", NO_PICTURE),
    "another colour": ("6x BBB", NO_PICTURE),
    "a blank inside": ("6x GG GG", NO_PICTURE),
    "two lines": ("6x GG\nRR", NO_PICTURE),
    "five digits": ("10000x G", NO_PICTURE),
    "too many cells": ("* " + "G" * 1201, NO_PICTURE),
    "never": ("0x G", TOO_LONG),
    "more than a minute": ("1201x G", TOO_LONG),
    "much more": ("9999x GGGGG.....", TOO_LONG),
}


@pytest.mark.parametrize(("picture", "words"), NOT_READ.values(), ids=NOT_READ)
def test_what_is_no_picture_is_refused_with_the_reason(picture, words):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 -- the words are below
        parse_pattern(picture)

    assert str(refused.value) == words


pictures = st.builds(
    "{} {}".format,
    st.one_of(st.just("*"), st.integers(1, 20).map("{}x".format)),
    st.text("GRA.", min_size=1, max_size=40),
)


@given(pictures)
def test_frames_are_the_cells_merged_and_nothing_is_lost(picture):
    pattern = parse_pattern(picture)
    total_s = len(pattern.cells) * (pattern.times or 1) * 0.05
    frames, left_s = [], total_s

    for light, seconds in pattern.frames():
        frames.append((light, seconds))
        left_s -= seconds
        if left_s < 0.001:
            break

    assert sum(seconds for _, seconds in frames) == pytest.approx(total_s)
    assert all(one[0] != other[0] for one, other in pairwise(frames))
    assert (frames[0][0] == GREEN) == (pattern.cells[0] == "G")


LOOKS = {
    "6x GGGGG.....": "6 times: green 0.25 s, dark 0.25 s",
    "60x G": "green 3 s",
    "4x RRRRRGGGGG": "4 times: red 0.25 s, green 0.25 s",
    "* AA..": "over and over: both 0.1 s, dark 0.1 s",
    "* R": "over and over: red 0.05 s",
    "2x RRRRRRRRRRRRRR......": "2 times: red 0.7 s, dark 0.3 s",
}


@pytest.mark.parametrize(("picture", "words"), LOOKS.items(), ids=LOOKS)
def test_a_picture_is_told_in_words(picture, words):
    assert looks(parse_pattern(picture)) == words


LINES = {
    "half seconds": (PICTURES[Signal.WORKING], 20, "GGGGG.....GGGGG....."),
    "a quarter shows as three tenths": ("1x GGGGG.....", 5, "GGG.."),
    "a blip of one cell shows": ("* G...", 6, "G.G.G."),
    "a blip in the second half of a tenth": ("* .G......", 4, "G..."),
    "an end is dark": ("2x RR", 6, "RR...."),
    "cut": ("60x G", 4, "GGGG"),
    "an odd period goes on": ("* GG.", 6, "GGGGGG"),
    "a long period": (PICTURES[Signal.READY], 5, "G...."),
}


@pytest.mark.parametrize(("picture", "tenths", "line"), LINES.values(), ids=LINES)
def test_a_picture_is_drawn_in_tenths_of_a_second(picture, tenths, line):
    assert timeline(parse_pattern(picture), tenths) == line


@given(pictures, st.integers(1, 80))
def test_a_drawing_is_as_long_as_asked_for(picture, tenths):
    line = timeline(parse_pattern(picture), tenths)

    assert len(line) == tenths
    assert set(line) <= set("GRA.")
