"""The pictures: the card with the lights (`legend --svg`), the log's (`log --chart`).

They are read as what they are, XML, and what is asserted are the numbers and words in
it: where a light is lit, how many taps an hour had, what they took.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    MEANINGS,
    MEANINGS_JA,
    PICTURES,
    Command,
    Event,
    Parser,
    Pattern,
    Reason,
    Result,
    Signal,
    SqliteStore,
    legend_svg,
    log_chart,
    main,
    parse_pattern,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON

PATTERNS = Parser({}).patterns()
SVG = "{http://www.w3.org/2000/svg}"
JAPANESE = {"{http://www.w3.org/XML/1998/namespace}lang": "ja"}

HOSTILE = {
    "markup": '</text><script>alert(1)</script> & "quotes"',
    "controls": "Büro\x1b[31m\x00\x0b\n4F",
    "beyond XML": "\ufffe\uffff\ud800",
    "reordered": "abc\u202edef",
    "cdata": "]]> <!-- &amp; %s {0}",
}


def drawn(svg: str) -> ElementTree.Element:
    """The picture, which is XML, ASCII, and complete in itself."""
    assert svg.isascii()
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "image", "use", "style")
        refers = [value for value in element.attrib.values() if "url(" in value]
        assert set(refers) <= {"url(#hatch)"}
        assert not {key for key in element.attrib if "href" in key or key[:2] == "on"}
    return root


def texts(root: ElementTree.Element) -> list[str]:
    wanted = (f"{SVG}text", f"{SVG}tspan")
    return [
        e.text for e in root.iter() if e.tag in wanted and e.text and e.text.strip()
    ]


def classed(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if element.get("class") == name]


def of(root: ElementTree.Element, sign: Signal) -> ElementTree.Element:
    (row,) = (e for e in root.iter() if e.get("id") == sign.value)
    return row


# -- the card: the lights


def seconds_at(root: ElementTree.Element, sign: Signal):
    """Reads a place on the timeline of ``sign``, by the axis that is drawn there."""
    parent = {child: group for group in root.iter() for child in group}
    siblings = list(parent[of(root, sign)])
    before = siblings[: siblings.index(of(root, sign))]
    axis = [group for group in before if group.get("class") == "seconds"][-1]
    places = {
        float(text.text.removesuffix(" s")): float(text.get("x"))
        for text in axis.iter(f"{SVG}text")
    }
    scale = (places[max(places)] - places[0]) / max(places)
    return lambda x: (x - places[0]) / scale


def lit(root: ElementTree.Element, sign: Signal, colour: str) -> list[tuple]:
    """From when to when the card shows a light on."""
    at = seconds_at(root, sign)
    boxes = [
        (float(box.get("x")), float(box.get("width")))
        for box in classed(of(root, sign), colour)
    ]
    stretches: list[tuple] = []
    for x, width in boxes:  # a light that stays on beside one that changes is one
        begin, end = at(x), at(x + width)
        if stretches and begin - stretches[-1][1] < 0.01:
            begin, _ = stretches.pop()
        stretches.append((begin, end))
    return stretches


def really_lit(pattern: Pattern, led: int, shown: float) -> list[tuple]:
    """From when to when the lights would have it on, by what they play."""
    stretches, at = [], 0.0
    for light, seconds in pattern.frames():
        until = min(at + seconds, shown)
        if light[led] and stretches and stretches[-1][1] == at:
            stretches[-1] = (stretches[-1][0], until)
        elif light[led]:
            stretches.append((at, until))
        at = until
        if at > shown - 1e-6:
            break
    return stretches


PANELS = doorpi.TAP_PANEL, doorpi.OTHER_PANEL, doorpi.FAULT_PANEL
SHOWN_S = {sign: panel.seconds for panel in PANELS for sign in panel.signs}


def same_times(left: list[tuple], right: list[tuple]) -> bool:
    """Equal to a hundredth of a second: drawn to a hundredth of a millimetre."""
    flat = [time for stretch in left for time in stretch]
    return flat == pytest.approx([t for s in right for t in s], abs=0.01)


@pytest.mark.parametrize("sign", Signal)
def test_legend_draws_each_light_when_it_is_on(sign):
    card = drawn(legend_svg(PATTERNS))

    for led, colour in enumerate(("green", "red")):
        played = really_lit(PATTERNS[sign], led, SHOWN_S[sign])
        assert same_times(lit(card, sign, colour), played)


def test_legend_of_locked_and_reader_lost():
    """Spelled out for two, so that not all rests on the pattern's own arithmetic."""
    card = drawn(legend_svg(PATTERNS))

    sixths = [(n * 0.5, n * 0.5 + 0.25) for n in range(6)]
    assert same_times(lit(card, Signal.LOCKED, "green"), sixths)
    assert lit(card, Signal.LOCKED, "red") == []
    assert same_times(lit(card, Signal.READER_LOST, "red"), [(0, 0.1), (3, 3.1)])
    assert lit(card, Signal.READER_LOST, "green") == []


def test_legend_draws_green_above_red():
    row = of(drawn(legend_svg(PATTERNS)), Signal.UNSURE)

    green, red = ({box.get("y") for box in classed(row, c)} for c in ("green", "red"))
    names = {t.text: float(t.get("y")) for t in row.iter(f"{SVG}text")}
    assert len(green) == len(red) == 1
    assert float(*green) < float(*red)
    assert names["green 緑"] < names["red 赤"]


REDRAWN = {
    "longer than shown": ("200x G", [(0, 4)], True),
    "a minute of 1,200 characters": ("1x " + 400 * "G..", None, True),
    "ends where the timeline ends": ("80x G", [(0, 4)], False),
    "as short as can be": ("1x G", [(0, 0.05)], False),
}


def goes_on(root: ElementTree.Element, sign: Signal) -> bool:
    """Whether the tracks of the lights run beyond the timeline."""
    at = seconds_at(root, sign)
    ends = {
        at(float(track.get("x")) + float(track.get("width")))
        for track in classed(of(root, sign), "track")
    }
    (end,) = {round(end, 2) for end in ends}
    return end > SHOWN_S[sign]


@pytest.mark.parametrize(
    ("picture", "stretches", "beyond"), REDRAWN.values(), ids=REDRAWN
)
def test_legend_draws_a_light_of_the_settings(picture, stretches, beyond):
    card = drawn(legend_svg(PATTERNS | {Signal.UNLOCKED: parse_pattern(picture)}))

    shown = lit(card, Signal.UNLOCKED, "green")
    assert max(until for _, until in shown) <= 4.01
    assert stretches is None or same_times(shown, stretches)
    assert goes_on(card, Signal.UNLOCKED) == beyond


def test_legend_shows_which_lights_repeat():
    card = drawn(legend_svg(PATTERNS))

    assert {sign for sign in Signal if goes_on(card, sign)} == doorpi.STANDING


@settings(max_examples=15)
@given(
    st.sampled_from(Signal),
    st.text("GRA.", min_size=1, max_size=1200),
    st.integers(0, 40),
)
def test_legend_keeps_any_pattern_on_its_timeline(sign, cells, times):
    """In its row, and in the card's timeline."""
    pattern = Pattern(cells, times or None)

    card = drawn(legend_svg(PATTERNS | {sign: pattern}))

    for colour in ("green", "red"):
        stretches = lit(card, sign, colour)
        assert all(-0.01 <= a < b <= SHOWN_S[sign] + 0.01 for a, b in stretches)
        assert all(a[1] < b[0] for a, b in zip(stretches, stretches[1:]))  # noqa: B905, RUF007


# -- the card: its words


@pytest.mark.parametrize("sign", Signal)
def test_legend_explains_each_signal_in_both_languages(sign):
    card = drawn(legend_svg(PATTERNS))

    english = MEANINGS[sign][0].upper() + MEANINGS[sign][1:]
    assert texts(of(card, sign))[:2] == [english, MEANINGS_JA[sign]]
    japanese = [
        e.text for e in of(card, sign).iter() if JAPANESE.items() <= e.attrib.items()
    ]
    assert japanese == [MEANINGS_JA[sign]]


def test_japanese_meanings_are_japanese_and_distinct():
    kana = re.compile("[\u3041-\u30ff]")

    assert MEANINGS_JA.keys() == set(Signal) == PICTURES.keys()
    assert len(set(MEANINGS_JA.values())) == len(Signal)
    assert [words for words in MEANINGS_JA.values() if not kana.search(words)] == []


def test_legend_has_every_signal_once():
    shown = [sign for panel in PANELS for sign in panel.signs]

    card = drawn(legend_svg(PATTERNS))

    assert sorted(shown) == sorted(Signal)
    assert [e.get("id") for e in card.iter() if e.get("id") in set(Signal)] == shown


def test_legend_is_a5():
    card = drawn(legend_svg(PATTERNS))

    size = {key: card.get(key) for key in ("width", "height", "viewBox")}
    assert size == {"width": "210mm", "height": "148mm", "viewBox": "0 0 210 148"}


def test_everything_stands_within_the_cards_edge():
    card = drawn(legend_svg(PATTERNS))

    edge = next(e for e in card if e.get("rx"))
    lower = float(edge.get("y")) + float(edge.get("height"))
    ends = [
        float(e.get("y")) + float(e.get("height", 0))
        for e in card.iter()
        if e is not edge and e.get("y") and e.get("height") != "148"
    ]
    assert len(ends) > 100
    assert max(ends) < lower - 2


def across(text: ElementTree.Element) -> tuple[float, float]:
    """From where to where a line of text goes, by the widths the program reckons with."""
    bold = doorpi.BOLD_EM if text.get("font-weight") else 1
    width = doorpi.ems(text.text) * float(text.get("font-size")) * bold
    x = float(text.get("x"))
    return (x - width, x) if text.get("text-anchor") == "end" else (x, x + width)


@pytest.mark.parametrize("sign", Signal)
def test_legend_keeps_text_clear_of_the_lights(sign, monkeypatch):
    """As they are, and if somebody finds longer ones."""
    monkeypatch.setitem(doorpi.MEANINGS_JA, sign, "確認できません。" * 9)

    row = of(drawn(legend_svg(PATTERNS)), sign)

    english, japanese, *labels = (across(text) for text in row.iter(f"{SVG}text"))
    begin = min(left for left, _ in labels)
    assert english[1] <= begin + 0.1  # sizes are rounded
    assert japanese[1] <= begin + 0.1  # sizes are rounded
    assert japanese[1] > begin - 5  # no more than needed is cut off


def test_legend_cuts_a_long_name():
    card = drawn(legend_svg(PATTERNS, "W" * 30 + "株式会社" * 20))

    (name,) = (
        text for text in card.iter(f"{SVG}text") if (text.text or "")[:2] == "WW"
    )
    left, right = across(name)
    assert name.text.endswith("…")
    assert (left, right) == (pytest.approx(117, abs=5), 201)


def test_legend_has_the_name_of_the_door():
    assert "Büro 4F" in texts(drawn(legend_svg(PATTERNS, "Büro 4F")))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_pictures_escape_a_hostile_name(name):
    shown = doorpi.printable(name, 60)

    card, chart = legend_svg(PATTERNS, name), log_chart([], name, NOON, NOON)

    assert shown in texts(drawn(card))
    assert shown in texts(drawn(chart))


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_pictures_are_xml_for_any_name(name):
    drawn(legend_svg(PATTERNS, name))
    drawn(log_chart([], name, NOON, NOON))


WIDTHS = {
    # text, and in a room of 10: what is left of it, and its size instead of 3
    "nothing": ("", "", 3.0),
    "fits": ("four", "four", 3.0),
    "shrunk": ("はい" * 2, "はい" * 2, 2.5),
    "cut": ("はい" * 4, "はいは…", 10 / 3.56),
}


@pytest.mark.parametrize(("text", "shown", "size"), WIDTHS.values(), ids=WIDTHS)
def test_caption_shrinks_text_to_its_room_and_then_cuts_it(text, shown, size):
    line = ElementTree.fromstring(doorpi.caption(0.0, 0.0, text, 3.0, 10.0))

    assert (line.text or "") == shown
    assert float(line.get("font-size")) == pytest.approx(size, abs=0.005)


# -- the chart: what is counted

MONDAY = datetime(2026, 11, 16).astimezone()
TAP = Event(
    at=MONDAY,
    uid=KEN,
    holder="Ken Sato",
    reason=Reason.GRANTED,
    command=Command.UNLOCK,
    result=Result.UNLOCKED,
    latency_ms=400,
)


def taps_at(hour: float, count: int, **changes) -> list[Event]:
    return [replace(TAP, at=MONDAY + timedelta(hours=hour), **changes)] * count


def charted(events: list[Event], days: int = 7) -> ElementTree.Element:
    """The week that begins on MONDAY, or more days after it."""
    until = MONDAY + timedelta(days=days, seconds=-1)
    return drawn(log_chart(events, "Office 4F", MONDAY, until))


def hints(root: ElementTree.Element, kind: str) -> list[str]:
    return [group.find(f"{SVG}title").text for group in classed(root, kind)]


def hours(root: ElementTree.Element) -> dict[str, str]:
    """The hours in which somebody tapped: the hint of each, and the number in it."""
    groups = classed(root, "hour")
    assert len(groups) == 7 * 24
    return {
        group.find(f"{SVG}title").text: group.find(f"{SVG}text").text
        for group in groups
        if group.find(f"{SVG}text") is not None
    }


def test_chart_counts_taps_by_local_weekday_and_hour():
    chart = charted(
        [
            *taps_at(0, 1),
            *taps_at(8.99, 12),
            *taps_at(9, 2),
            *taps_at(6 * 24 + 23.99, 1234),  # Sunday, to midnight
        ]
    )

    assert hours(chart) == {
        "Mon 0:00 to 1:00: 1 tap": "1",
        "Mon 8:00 to 9:00: 12 taps": "12",
        "Mon 9:00 to 10:00: 2 taps": "2",
        "Sun 23:00 to 24:00: 1,234 taps": "1,234",
    }
    assert "16 Nov 2026 \N{EN DASH} 22 Nov 2026 (7 days)  ·  1,249 taps" in texts(chart)
    assert {"Office 4F", "15", "1,234"} <= set(texts(chart))


def test_chart_is_in_local_time(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        chart = drawn(
            log_chart([replace(TAP, at=NOON.astimezone(UTC))], "", NOON, NOON)
        )
    finally:
        monkeypatch.undo()
        time.tzset()

    assert list(hours(chart)) == ["Wed 12:00 to 13:00: 1 tap"]


def test_chart_shades_the_hours():
    """One colour, the more of it the more taps: also in grey."""
    chart = charted([*taps_at(8, 100), *taps_at(9, 25), *taps_at(10, 1)])

    shades = [
        float(boxes[1].get("fill-opacity"))
        for group in classed(chart, "hour")
        if len(boxes := group.findall(f"{SVG}rect")) > 1
    ]
    assert shades == [1, 0.55, 0.19]


KINDS = {
    "unlocked": ({}, 1, 1),
    "locked": ({"result": Result.LOCKED, "command": Command.LOCK}, 1, 1),
    "refused": ({"result": Result.REFUSED}, 1, 0),
    "unsure": ({"result": Result.UNSURE}, 1, 0),
    "unreachable": ({"result": Result.UNREACHABLE}, 1, 0),
    "open": ({"result": None, "latency_ms": None}, 1, 0),
    "interrupted": ({"result": Result.INTERRUPTED, "latency_ms": None}, 1, 0),
    "denied": ({"reason": Reason.EXPIRED, "result": None, "latency_ms": None}, 1, 0),
    "relock": ({"source": "relock", "result": Result.LOCKED}, 0, 0),
    "command": ({"source": "command"}, 0, 0),
}


@pytest.mark.parametrize(("changes", "taps", "timed"), KINDS.values(), ids=KINDS)
def test_chart_counts_taps_only(changes, taps, timed):
    chart = charted(taps_at(9, 1, **changes))

    assert len(hours(chart)) == taps
    assert len(hints(chart, "took")) == timed


def test_chart_says_what_was_counted():
    chart = charted(
        [
            *taps_at(9, 3),
            *taps_at(9, 2, reason=Reason.NOT_FOUND, result=None, latency_ms=None),
            *taps_at(9, 1, result=Result.UNSURE),
        ]
    )

    assert (
        "The time is that of the 3 taps that ended unlocked or locked, from the card to"
        " the lock's confirmation. Not in the times: 2 denied, 1 that ended differently."
    ) in texts(chart)


def test_chart_shows_p50_p95_and_max():
    """1 to 100 ms, a tap each: 50, 95, 100; and a day with an outlier of 40 s."""
    monday = [e for ms in range(1, 101) for e in taps_at(9, 1, latency_ms=ms)]
    tuesday = taps_at(33, 99, latency_ms=412) + taps_at(34, 1, latency_ms=40_000)

    chart = charted(monday + tuesday)

    assert hints(chart, "took") == [
        "16 Nov 2026: p50 0.05 s, p95 0.095 s, max 0.1 s",
        "17 Nov 2026: p50 0.412 s, p95 0.412 s, max 40 s",
    ]
    assert "all together: p50 0.1 s, p95 0.412 s, max 40 s" in texts(chart)


def test_chart_bars_fit_their_axis():
    """p50 stands within p95, and half of the longest is marked."""
    monday = taps_at(9, 50, latency_ms=500) + taps_at(9, 50, latency_ms=2000)

    chart = charted(monday + taps_at(33, 1, latency_ms=1000))

    (p95, p50), (one, same) = (
        [float(bar.get("height")) for bar in group.findall(f"{SVG}rect")]
        for group in classed(chart, "took")
    )
    assert (p50 / p95, one / p95, same) == (0.25, 0.5, one)
    labels = {t.text: float(t.get("y")) for t in chart.iter(f"{SVG}text")}
    assert labels["0 s"] - labels["2 s"] == pytest.approx(p95)
    assert labels["0 s"] - labels["1 s"] == pytest.approx(p95 / 2)


QUANTILES = {
    "one": ([7], 7, 7),
    "two": ([1, 9], 1, 9),
    "twenty": (list(range(1, 21)), 10, 19),
    "mostly the same": ([5] * 95 + [900] * 5, 5, 5),
    "one more": ([5] * 94 + [900] * 6, 5, 900),
}


@pytest.mark.parametrize(("numbers", "p50", "p95"), QUANTILES.values(), ids=QUANTILES)
def test_quantile(numbers, p50, p95):
    counts = Counter(numbers)

    assert (doorpi.quantile(counts, 0.5), doorpi.quantile(counts, 0.95)) == (p50, p95)


# -- the chart: how much time


def test_chart_of_no_taps():
    chart = charted([])

    assert "no taps in this time" in texts(chart)
    assert hints(chart, "took") == []


@pytest.mark.parametrize("days", [1, 62, 365, 10_957])
def test_chart_has_a_column_a_day_however_long(days):
    chart = charted([*taps_at(9, 1), *taps_at(days * 24 - 3, days > 1)], days)

    assert hints(chart, "took")[0].startswith("16 Nov 2026: p50 0.4 s, ")
    assert len(hints(chart, "took")) == min(days, 2)


@pytest.mark.parametrize("days", [1, 7, 14, 28, 62, 90, 365, 1096, 10_957])
def test_chart_labels_do_not_overlap(days):
    labels = [
        (float(text.get("x")), doorpi.ems(text.text) * float(text.get("font-size")))
        for text in charted([], days).iter(f"{SVG}text")
        if re.search(r"\d [A-Z][a-z]{2}( \d{4})?$", text.text)
        and text.get("text-anchor") == "middle"
    ]

    assert labels
    for (left, wide), (right, wider) in itertools.pairwise(labels):
        assert left + wide / 2 < right - wider / 2


def test_chart_survives_a_wrong_clock():
    """An event of next year in a log of this one, and a period that has not begun."""
    wrong = replace(TAP, at=MONDAY + timedelta(days=400))

    assert len(hours(charted([*taps_at(9, 1), wrong]))) == 1
    later = MONDAY + timedelta(days=30)
    assert hours(drawn(log_chart([TAP], "", later, MONDAY))) != {}


def test_chart_keeps_nothing_of_a_single_event():
    chart = doorpi.Chart(MONDAY.date(), MONDAY.date())

    for ms in (400, 400, 500, 400):
        chart.add(replace(TAP, latency_ms=ms))

    assert chart.took_ms == [{400: 3, 500: 1}]


# -- the verbs


@pytest.fixture
def settings_file(tmp_path):
    text = '[door]\nname = "Büro <4>"\nstate_dir = "state"\n[lock]\nkind = "relay"\n'
    path = tmp_path / "doorpi.toml"
    path.write_text(
        text.replace('"state"', f'"{tmp_path / "state"}"')
        + 'relay_gpio = 17\n[signals]\ndenied = "1x RR..RR"\n',
        encoding="utf-8",
    )
    path.chmod(0o640)
    return path


def test_legend_svg_needs_no_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DOORPI_CONFIG", raising=False)
    monkeypatch.setattr(doorpi, "IN_ETC", tmp_path / "doorpi.toml")
    monkeypatch.setattr(doorpi, "__file__", str(tmp_path / "doorpi.py"))

    assert main(["legend", "--svg"]) == 0

    assert capsys.readouterr().out == legend_svg(PATTERNS) + "\n"


def test_legend_svg_draws_the_owner_s_lights_under_the_door_s_name(
    settings_file, capsys
):
    assert main(["--config", str(settings_file), "legend", "--svg"]) == 0

    card = drawn(capsys.readouterr().out)
    assert "Büro <4>" in texts(card)
    assert same_times(lit(card, Signal.DENIED, "red"), [(0, 0.1), (0.2, 0.3)])


def test_log_chart_draws_what_is_in_the_log(settings_file, capsys):
    path = settings_file.parent / "state" / "doorpi.db"
    now = datetime.now().astimezone()
    with contextlib.closing(SqliteStore(path)) as store:
        for days in (40, 3, 0):
            event = replace(TAP, at=now - timedelta(days=days))
            store.events.finish(replace(event, id=store.events.begin(event)))

    def chart(*arguments: str) -> ElementTree.Element:
        verb = ["--config", str(settings_file), "log", "--chart", *arguments]
        assert main(verb) == 0
        return drawn(capsys.readouterr().out)

    shown = chart()
    assert len(hints(shown, "took")) == 2
    assert any("(28 days)" in text for text in texts(shown))
    assert len(hints(chart("--since", "today"), "took")) == 1
    assert (
        len(hints(chart("--since", f"{now - timedelta(days=50):%Y-%m-%d}"), "took"))
        == 3
    )
    assert "Büro <4>" in texts(chart())


def test_log_chart_of_a_door_where_nobody_was(settings_file, capsys):
    assert main(["--config", str(settings_file), "log", "--chart"]) == 0

    assert "no taps in this time" in texts(drawn(capsys.readouterr().out))
    assert not (settings_file.parent / "state").exists()  # asking makes nothing


def test_legend_in_an_ascii_terminal(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    monkeypatch.delenv("DOORPI_CONFIG", raising=False)  # the caller's own

    assert main(["legend"]) == 0

    shown = ascii_only.buffer.getvalue()
    assert MEANINGS_JA[Signal.LOCKED].encode("ascii", "backslashreplace") in shown
