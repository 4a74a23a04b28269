"""What owners are told: which events, in which words, how often, and at least once."""

from __future__ import annotations

import contextlib
import gc
import json
import random
import tracemalloc
from datetime import timedelta

import pytest

import doorpi
from doorpi import (
    NOTICES,
    Change,
    Command,
    Event,
    Notices,
    OnlineStore,
    Reason,
    Result,
    StoreError,
    Unavailable,
)
from tests.helpers.stores import DENIED, INTENT
from tests.helpers.values import replace
from tests.helpers.world import KEN

ALL = tuple(NOTICES)


class Receiver:
    """Someone who gets notices, through a service of ``context`` that can be killed."""

    def __init__(self, context, wanted=ALL, language="en") -> None:
        self.context, self.wanted, self.language = context, wanted, language
        self.messages: list = []
        self.failures: list[Exception] = []
        self.restart()

    def restart(self) -> None:
        """As after kill -9: only what is on disk is left."""
        self.service = Notices(
            "notify ops", self.wanted, self.language, self.context, self.send, list
        )

    def send(self, message) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.messages.append(message)

    def step(self, seconds: float = 0.0) -> float:
        self.context.clock.advance(seconds)
        return self.service.step()

    def steps(self, seconds: int) -> None:
        """For so long, as the service's thread would, or at least 30 times."""
        until = self.context.clock.t + seconds
        while self.context.clock.t < until:
            self.context.clock.advance(max(self.service.step(), seconds / 30))

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    @property
    def lines(self) -> list[str]:
        return [line for text in self.texts for line in text.splitlines()]


@pytest.fixture
def owner(context) -> Receiver:
    receiver = Receiver(context)
    receiver.step()  # the first start
    return receiver


def happens(context, event: Event = INTENT, **changes) -> Event:
    """It is in the log, from begin to end."""
    event = replace(event, at=context.clock.now(), **changes)
    context.events.record(event)
    return event


FAILED = {"result": Result.UNREACHABLE, "detail": "no answer"}
LOCKING = {"command": Command.LOCK}
TOLD = {
    # name: (the event, its notice, words of it in English, in Japanese)
    "refused": ({"result": Result.REFUSED}, "fault", "Ken Sato: refused", "錠"),
    "unreachable": (FAILED, "fault", "unreachable (no answer)", "接続でき"),
    "unknown": ({"result": Result.UNKNOWN_STATE}, "fault", "unknown-state", "錠の状態"),
    "cut-off": ({"result": Result.INTERRUPTED}, "fault", "interrupted", "中断"),
    "authority": (
        {"reason": Reason.AUTHORITY_UNREACHABLE, "command": None, "holder": ""},
        "fault", "unknown card: authority-unreachable", "照会先",
    ),
    "not-locked": ({**LOCKING, **FAILED}, "not-locked", "unreachable", "施錠できません"),
    "unsure": ({**LOCKING, "result": Result.UNSURE}, "not-locked", "unsure", "確認"),
    "battery": (
        {"result": Result.UNLOCKED, "detail": "the lock's battery is low: 9 %"},
        "low-battery", "Low battery: Ken Sato: unlocked (the lock's battery", "電池",
    ),
    "allow": (
        {"reason": Change.ALLOW, "command": None, "source": "command"},
        "changed", "List changed: Ken Sato: allow", "登録の変更: Ken Sato: 追加",
    ),
    "lockdown": (
        {"reason": Change.LOCKDOWN_ON, "command": None, "holder": "", "detail": "by pi"},
        "changed", "everybody: lockdown-on (by pi)", "全員: 入室停止",
    ),
    "wrong-proof": (
        {"reason": "wrong-proof", "command": None}, "wrong-proof", "Ken Sato", "確認",
    ),
    "forced": (
        {"reason": "forced-open", "command": None, "source": "door", "uid": None},
        "forced-open", "force", "こじ開け",
    ),
    "held": (
        {"reason": "held-open", "command": None, "source": "door", "uid": None},
        "held-open", "Held open", "開いたまま",
    ),
}  # fmt: skip
NOT_TOLD = {
    "opened": {"result": Result.UNLOCKED},
    "locked": {**LOCKING, "result": Result.LOCKED},
    "unsure": {"result": Result.UNSURE},
    "relock-failed": {**LOCKING, **FAILED, "source": "relock"},  # it is tried again
    "relock-gave-way": {"result": Result.INTERRUPTED, "source": "relock"},
    "denied-once": {"reason": Reason.NOT_FOUND, "command": None},
}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("case", TOLD)
def test_event_is_told(context, case, language):
    changes, notice, *words = TOLD[case]
    receiver = Receiver(context, language=language)
    receiver.step()

    event = happens(context, **changes)
    receiver.step()

    (message,) = receiver.messages
    assert words[language == "ja"] in message.text
    assert message.text.startswith(f"{event.at:%H:%M} ")
    assert KEN not in message.text
    assert message.door == "Front"
    (told,) = message.notices
    assert told["notice"] == notice
    assert told["event"]["reason"] == str(event.reason)
    assert told["event"]["uid"] == event.uid
    assert told["at"] == doorpi.utc_text(event.at)


def test_event_is_not_told_to_those_who_did_not_ask(context):
    for name in ALL:
        receiver = Receiver(context, [each for each in ALL if each != name])
        receiver.service.name = name
        receiver.step()
        for changes, notice, *_ in TOLD.values():
            if notice == name:
                happens(context, **changes)
        receiver.step()
        assert name not in [n["notice"] for m in receiver.messages for n in m.notices]


def test_event_that_is_nothing_to_tell_of(context, owner):
    for changes in NOT_TOLD.values():
        happens(context, **changes)

    owner.steps(90_000)

    assert owner.messages == []


def test_every_notice_has_a_row_here():
    special = {"denied-often"}
    assert {notice for _, notice, *_ in TOLD.values()} | special == set(NOTICES)


def test_japanese_has_every_word_of_the_log():
    words = {*Reason, *Result, *Change}
    assert [word for word in words if doorpi.translated(word, "ja") == word] == []


def test_first_start_tells_nothing_of_before(context):
    happens(context, **FAILED)

    receiver = Receiver(context)
    receiver.step()
    receiver.restart()
    receiver.step(5)

    assert receiver.messages == []


def test_first_start_is_remembered(context):
    Receiver(context).step()
    happens(context, **FAILED)
    receiver = Receiver(context)

    receiver.step()

    assert len(receiver.messages) == 1


def test_event_is_told_when_it_has_ended(context, owner):
    begun = context.events.begin(replace(INTENT, at=context.clock.now()))
    happens(context, holder="Mika", **FAILED)
    owner.step(1)
    assert owner.messages == []

    context.events.finish(replace(INTENT, id=begun, result=Result.REFUSED))
    owner.step(1)

    assert [line.split(": ")[1] for line in owner.lines] == ["Ken Sato", "Mika"]


@pytest.mark.parametrize("jump_s", [0, 86_400, -86_400], ids=["", "ahead", "behind"])
def test_event_without_an_end_holds_up_nothing(context, owner, jump_s):
    context.events.begin(replace(INTENT, at=context.clock.now()))
    happens(context, **FAILED)
    context.clock.at += timedelta(seconds=jump_s)

    owner.steps(int(doorpi.VERB_S) + 2)

    assert len(owner.lines) == 1


def test_names_are_dropped_when_somebody_is_forgotten(context, owner):
    """Also from what waits, and from what was reported: it could be said again."""
    happens(context, **FAILED)
    owner.step(1)
    happens(context, reason=Change.ALLOW, command=None, source="command")
    happens(context, reason=Change.LOCKDOWN_ON, command=None, holder="", uid=None)
    owner.service.step()
    happens(
        context, reason=Change.FORGET, command=None, holder=doorpi.FORGOTTEN, uid=None
    )

    owner.service.step()

    assert "Ken Sato" not in context.store.recall("notices notify ops")
    owner.step(60)
    assert "Ken Sato" not in owner.texts[-1]
    lines = owner.texts[-1].splitlines()
    assert len(lines) == 3  # the lockdown, the forgetting, and one more
    assert "1 more" in lines[-1]


# -- merged, and not too many


def test_several_at_once_are_one_message(context, owner):
    happens(context, **FAILED)
    for name in ("Ken Sato", "Mika Mori"):
        happens(context, reason=Change.ALLOW, command=None, holder=name)

    owner.step(1)

    assert len(owner.messages) == 1
    assert len(owner.lines) == 3


def test_next_message_waits_for_a_minute(context, owner):
    for _ in range(50):
        happens(context, reason=Change.ALLOW, command=None)
        owner.step(2)
    owner.step(60)

    assert [len(text.splitlines()) for text in owner.texts] == [1, 21, 19]
    assert owner.lines[21] == "and 10 more: doorpi log"


def test_same_fault_is_told_once_then_counted(context, owner):
    for _ in range(30):
        happens(context, **FAILED)
        owner.step(60)
    assert len(owner.lines) == 1

    owner.steps(1900)

    assert len(owner.lines) == 2
    assert "unreachable" in owner.lines[1]
    assert owner.lines[1].endswith(", 29 more times")
    happens(context, **FAILED)
    owner.steps(4000)
    assert len(owner.lines) == 3


def test_other_fault_is_told_at_once(context, owner):
    happens(context, **FAILED)
    owner.steps(61)
    happens(context, result=Result.REFUSED)
    owner.steps(2)

    assert len(owner.messages) == 2


def test_low_battery_is_told_once_a_day(context, owner):
    for _ in range(48):
        happens(context, **TOLD["battery"][0])
        owner.step(3600)

    assert [" more times" in line for line in owner.lines[:3]] == [False, True, False]


DENIALS = {
    # name: (seconds between denials, holders, how many lines)
    "twice": (10, ["Ken Sato"] * 2, 0),
    "three-times": (10, ["Ken Sato"] * 3, 1),
    "many-times": (10, ["Ken Sato"] * 40, 1),
    "slowly": (200, ["Ken Sato"] * 12, 0),
    "of-different-people": (10, ["Ken Sato", "Mika", "Yui", "Aoi"], 0),
    "two-people": (10, ["Ken Sato", "Mika"] * 3, 2),
    "unknown-cards": (10, [""] * 3, 1),
}


@pytest.mark.parametrize("case", DENIALS)
def test_denied_often_is_told_once_then_counted(context, owner, case):
    gap_s, holders, count = DENIALS[case]

    for number, holder in enumerate(holders):
        uid = f"04{number:06X}" if not holder else KEN
        happens(context, DENIED, holder=holder, uid=uid)
        owner.steps(gap_s)
    owner.steps(100)

    assert len(owner.lines) == count
    assert all("Denied several times: " in line for line in owner.lines)
    owner.steps(4000)
    more = max(holders.count(each) for each in holders) - 3
    assert len(owner.lines) == count + (more > 0 and count == 1)
    if owner.lines[count:]:
        assert owner.lines[-1].endswith(f", {more} more times")


# -- standing troubles of the door

LOST = {"reader-lost": "the reader does not answer: usb"}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_trouble_is_told_once_and_when_it_is_over(context, language):
    receiver = Receiver(context, language=language)
    context.troubles = lambda: LOST
    receiver.steps(50)
    assert receiver.messages == []

    receiver.steps(3 * 86_400)
    context.troubles = dict
    receiver.steps(100)

    words = {"en": next(iter(LOST.values())), "ja": "カードリーダーが応答しません"}
    told = [line.split(" ", 1)[1] for line in receiver.lines]
    titles = {"en": ["Trouble", "Solved"], "ja": ["障害", "復旧"]}
    assert told == [f"{title}: {words[language]}" for title in titles[language]]
    assert [m.notices[0]["notice"] for m in receiver.messages] == ["fault", "fault"]
    assert receiver.messages[0].notices[0]["event"] is None


def test_trouble_that_passes_is_not_told(context, owner):
    for _ in range(100):
        context.troubles = lambda: LOST
        owner.steps(40)
        context.troubles = dict
        owner.steps(10)

    assert owner.messages == []


def test_trouble_that_comes_and_goes_is_counted(context, owner):
    for _ in range(20):
        context.troubles = lambda: LOST
        owner.steps(70)
        context.troubles = dict
        owner.steps(70)
    owner.steps(4000)

    assert len(owner.lines) == 4
    assert all(line.endswith(", 19 more times") for line in owner.lines[2:])


def test_trouble_is_not_told_again_after_a_restart(context, owner):
    context.troubles = lambda: LOST
    owner.steps(70)
    owner.restart()
    owner.steps(200)
    assert len(owner.lines) == 1

    context.troubles = dict
    owner.restart()
    owner.steps(5)

    assert len(owner.lines) == 2


@pytest.mark.parametrize(
    ("subject", "notice"),
    [("not-locked", "not-locked"), ("locked-down", None), ("newer", None)]
    + [("forced-open", None), ("held-open", None)]  # an event tells of them
    + [(sign, "fault") for sign in doorpi.FAULTS[4:]],
)
def test_each_trouble_has_its_notice(context, owner, subject, notice):
    context.troubles = lambda: {subject: "words"}
    owner.steps(70)

    found = [each["notice"] for m in owner.messages for each in m.notices]
    assert found == [notice] * bool(notice)


def test_each_trouble_is_told_in_japanese(context):
    receiver = Receiver(context, language="ja")
    subjects = [s for notice in NOTICES.values() for s in notice.troubles]
    troubles = dict.fromkeys(subjects, "words")
    context.troubles = lambda: troubles
    receiver.step()
    receiver.step(400)

    assert len(receiver.lines) == len(subjects) > 9
    assert [line for line in receiver.lines if "words" in line] == []


def test_door_that_does_not_run_is_told_after_minutes(context, owner):
    context.troubles = lambda: LOST
    owner.steps(70)
    context.troubles = lambda: None
    owner.steps(290)
    assert len(owner.lines) == 1

    owner.steps(400)
    assert "not running" in owner.lines[1]

    context.troubles = lambda: LOST
    owner.steps(100)
    assert "Solved: the door's program is not running" in owner.lines[2]
    assert len(owner.lines) == 3


# -- at least once, and not again


@pytest.mark.parametrize(
    "failure",
    [Unavailable("no network", is_unsent=True), Unavailable("no answer in time")],
    ids=["unsent", "perhaps-sent"],
)
def test_message_is_kept_until_it_was_sent(context, owner, failure):
    happens(context, **FAILED)
    owner.failures = [failure] * 3

    for _ in range(3):
        with pytest.raises(Unavailable):
            owner.step(1)
        owner.restart()
    happens(context, result=Result.REFUSED)
    owner.step(1)
    owner.restart()
    owner.steps(200)

    assert [len(text.splitlines()) for text in owner.texts] == [2]


def test_week_of_outage_is_caught_up_in_order_and_summed_up(context, owner):
    begun_at = context.clock.now()
    events = [replace(INTENT, result=Result.UNLOCKED)] * 30 + [
        replace(INTENT, **FAILED),
        replace(INTENT, reason=Change.ALLOW, command=None),
    ]
    with context.events._transaction():  # one sync for all
        for number in range(7 * 8):
            for event in events:
                at = begun_at + timedelta(hours=3 * number)
                doorpi._append(
                    context.events._connection(), "events",
                    (doorpi.utc_text(at), event.uid, event.holder, event.reason,
                     event.command, "card", "", "", ""),
                )  # fmt: skip
                ended = context.events.last_id(), event.result or "", 5, event.detail
                doorpi._append(context.events._connection(), "outcomes", ended)
    context.clock.advance(7 * 86_400)
    waits = []
    while (wait_s := owner.step()) < 1:
        waits.append(wait_s)
        assert owner.messages == []
        context.clock.advance(wait_s)

    assert len(waits) == 56 * 32 // 500
    (message,) = owner.messages
    assert len(message.notices) == 20
    assert [n["at"] for n in message.notices] == sorted(
        n["at"] for n in message.notices
    )
    assert message.text.splitlines()[0].startswith(f"{begun_at:%Y-%m-%d %H:%M}")
    assert message.more == 56 * 2 - 20
    owner.steps(100)
    assert len(owner.messages) == 1


def test_message_fits_what_receivers_take(context):
    for language in ("en", "ja"):
        receiver = Receiver(context, language=language)
        receiver.service.name = language
        receiver.step()
        for _ in range(25):
            happens(context, reason=Change.IMPORT, command=None, detail="名" * 200)
        receiver.step()

        (message,) = receiver.messages
        assert len(message.text.encode()) < 4096
        assert message.more + len(message.text.splitlines()) - 1 == 25


def test_notices_survive_kills_at_any_moment(context, owner, monkeypatch):
    """A kill between any two statements of SQL or sends: nothing is lost, and only what
    was sent in that moment may come twice."""

    class Killed(BaseException):
        pass

    chance = random.Random(1)
    real_keep, real_send = OnlineStore.keep, owner.send
    doubtful, kills = 0, 0

    def keep(store, name, value):
        nonlocal kills
        before = chance.random() < 0.2
        if not before:
            real_keep(store, name, value)
        if before or chance.random() < 0.2:
            kills += 1
            raise Killed

    def send(message):
        nonlocal doubtful, kills
        if chance.random() < 0.2:
            kills += 1
            raise Killed
        real_send(message)

    monkeypatch.setattr(OnlineStore, "keep", keep)
    owner.send = send
    owner.restart()
    for number in range(150):
        happens(context, reason=Change.ALLOW, command=None, holder=f"Person {number}")
        try:
            owner.step(chance.choice([1, 30, 61]))
        except Killed:
            owner.restart()
    monkeypatch.setattr(OnlineStore, "keep", real_keep)
    owner.restart()
    owner.steps(200)

    told = [n["event"]["holder"] for m in owner.messages for n in m.notices]
    assert kills > 20
    assert set(told) == {f"Person {number}" for number in range(150)}
    assert list(dict.fromkeys(told)) == sorted(set(told), key=lambda n: int(n[7:]))


# -- trouble with the disk


def test_disk_that_is_full_stops_no_notice(context, owner, monkeypatch):
    def full(store, name, value):
        raise StoreError("online.db: disk is full")

    monkeypatch.setattr(OnlineStore, "keep", full)
    for result in (Result.REFUSED, Result.UNREACHABLE):
        happens(context, result=result)
        with pytest.raises(StoreError):
            owner.step(61)
        with pytest.raises(StoreError):
            owner.step(1)

    assert len(owner.lines) == 2


def test_log_that_cannot_be_read_stops_no_trouble(context, owner, monkeypatch):
    def broken(*_):
        raise StoreError("doorpi.db: broken")

    monkeypatch.setattr(context.events, "last_id", broken)
    context.troubles = lambda: {"storage-bad": "database: disk is full"}
    for _ in range(70):
        with pytest.raises(StoreError):
            owner.step(1)

    assert "database" in owner.lines[0]
    monkeypatch.undo()
    happens(context, **FAILED)
    owner.steps(61)
    assert len(owner.lines) == 2


def test_new_log_is_followed(context, owner, tmp_path):
    for _ in range(10):
        happens(context, result=Result.UNLOCKED)
    owner.step()
    context.events.close()
    for file in tmp_path.glob("doorpi.db*"):
        file.unlink()
    owner.step()

    happens(context, **FAILED)
    owner.step()

    assert len(owner.messages) == 1


def test_quiet_log_costs_no_writes(context, owner):
    before = (context.store.path.stat(), context.store.recall("notices notify ops"))

    for _ in range(50):
        happens(context, result=Result.UNLOCKED)
        owner.step(1)

    assert context.store.recall("notices notify ops") == before[1]


def many_denials(context, count: int) -> None:
    """Three of each of many people, with one sync for all."""
    at = doorpi.utc_text(context.clock.now())
    with context.events._transaction():
        for number in range(count):
            values = (
                at, KEN, f"Person {number // 3}" + "x" * 180,
                str(Reason.EXPIRED), None, "card", "", "", "",
            )  # fmt: skip
            doorpi._append(context.events._connection(), "events", values)


def test_memory_is_flat_over_many_events(context, owner):
    owner.send = lambda message: None
    owner.restart()
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(4):
            many_denials(context, 600)
            owner.steps(4000)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert json.loads(context.store.recall("notices notify ops"))["bookmark"] == 2400
    assert sizes[-1] - sizes[1] < 20_000


def test_state_stays_small(context, owner):
    owner.failures = [Unavailable("no network")] * 10_000
    many_denials(context, 3000)
    for _ in range(10):
        with contextlib.suppress(Unavailable):
            owner.step(1)

    state = json.loads(context.store.recall("notices notify ops"))
    assert state["bookmark"] == 3000
    assert state["more"] > 100
    assert len(json.dumps(state)) < 50_000


def test_state_of_a_newer_version_is_read(context, owner):
    state = {
        "bookmark": 0,
        "lines": [{"notice": "newer", "at": 1.0, "words": "x", "event": None}],
        "told": {"newer x": ["newer", 1.0, 2, 1.0, "x"]},
        "more_of_it": 7,
    }
    context.store.keep("notices notify ops", json.dumps(state))
    owner.restart()

    owner.steps(10)
    happens(context, **FAILED)
    owner.steps(10)

    assert len(owner.lines) == 1
    assert json.loads(context.store.recall("notices notify ops"))["more_of_it"] == 7


def test_bookmarks_of_other_receivers_are_forgotten(context, owner):
    context.store.keep("notices notify gone", "{}")
    context.store.keep("cursor", "7")

    context.store.forget_others("notices", ["notify ops"])

    assert context.store.recall("notices notify gone") is None
    assert context.store.recall("notices notify ops")
    assert context.store.recall("cursor") == "7"
