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
    Reply,
    Result,
    StoreError,
    Unavailable,
)
from tests.helpers.stores import DENIED, INTENT
from tests.helpers.values import replace
from tests.helpers.world import KEN

ALL = tuple(NOTICES)


class Receiver:
    """Someone who gets notices, through a service of ``office`` that can be killed."""

    def __init__(self, office, wanted=ALL, language="en") -> None:
        self.office, self.wanted, self.language = office, wanted, language
        self.messages: list = []
        self.failures: list[Exception] = []
        self.restart()

    def restart(self) -> None:
        """As after kill -9: only what is on disk is left."""
        self.service = Notices(
            "notify ops", self.wanted, self.language, self.office, self.send, list
        )

    def send(self, message) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.messages.append(message)

    def step(self, seconds: float = 0.0) -> float:
        self.office.clock.advance(seconds)
        return self.service.step()

    def steps(self, seconds: int) -> None:
        """For so long, as the service's thread would, or at least 30 times."""
        until = self.office.clock.t + seconds
        while self.office.clock.t < until:
            self.office.clock.advance(max(self.service.step(), seconds / 30))

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    @property
    def lines(self) -> list[str]:
        return [line for text in self.texts for line in text.splitlines()]


@pytest.fixture
def owner(office) -> Receiver:
    receiver = Receiver(office)
    receiver.step()  # the first start
    return receiver


def happens(office, event: Event = INTENT, **changes) -> Event:
    """It is in the log, from begin to end."""
    event = replace(event, at=office.clock.now(), **changes)
    office.events.record(event)
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
def test_event_is_told(office, case, language):
    changes, notice, *words = TOLD[case]
    receiver = Receiver(office, language=language)
    receiver.step()

    event = happens(office, **changes)
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


def test_event_is_not_told_to_those_who_did_not_ask(office):
    for name in ALL:
        receiver = Receiver(office, [each for each in ALL if each != name])
        receiver.service.name = name
        receiver.step()
        for changes, notice, *_ in TOLD.values():
            if notice == name:
                happens(office, **changes)
        receiver.step()
        assert name not in [n["notice"] for m in receiver.messages for n in m.notices]


def test_event_that_is_nothing_to_tell_of(office, owner):
    for changes in NOT_TOLD.values():
        happens(office, **changes)

    owner.steps(90_000)

    assert owner.messages == []


def test_every_notice_has_a_row_here():
    special = {"denied-often"}
    assert {notice for _, notice, *_ in TOLD.values()} | special == set(NOTICES)


def test_japanese_has_every_word_of_the_log():
    words = {*Reason, *Result, *Change}
    assert [word for word in words if doorpi.spoken(word, "ja") == word] == []


def test_first_start_tells_nothing_of_before(office):
    happens(office, **FAILED)

    receiver = Receiver(office)
    receiver.step()
    receiver.restart()
    receiver.step(5)

    assert receiver.messages == []


def test_first_start_is_remembered(office):
    Receiver(office).step()
    happens(office, **FAILED)
    receiver = Receiver(office)

    receiver.step()

    assert len(receiver.messages) == 1


def test_event_is_told_when_it_has_ended(office, owner):
    begun = office.events.begin(replace(INTENT, at=office.clock.now()))
    happens(office, holder="Mika", **FAILED)
    owner.step(1)
    assert owner.messages == []

    office.events.finish(replace(INTENT, id=begun, result=Result.REFUSED))
    owner.step(1)

    assert [line.split(": ")[1] for line in owner.lines] == ["Ken Sato", "Mika"]


@pytest.mark.parametrize("jump_s", [0, 86_400, -86_400], ids=["", "ahead", "behind"])
def test_event_without_an_end_holds_up_nothing(office, owner, jump_s):
    office.events.begin(replace(INTENT, at=office.clock.now()))
    happens(office, **FAILED)
    office.clock.at += timedelta(seconds=jump_s)

    owner.steps(int(doorpi.VERB_S) + 2)

    assert len(owner.lines) == 1


# -- merged, and not too many


def test_several_at_once_are_one_message(office, owner):
    happens(office, **FAILED)
    for name in ("Ken Sato", "Mika Mori"):
        happens(office, reason=Change.ALLOW, command=None, holder=name)

    owner.step(1)

    assert len(owner.messages) == 1
    assert len(owner.lines) == 3


def test_next_message_waits_for_a_minute(office, owner):
    for _ in range(50):
        happens(office, reason=Change.ALLOW, command=None)
        owner.step(2)
    owner.step(60)

    assert [len(text.splitlines()) for text in owner.texts] == [1, 21, 19]
    assert owner.lines[21] == "and 10 more: doorpi log"


def test_same_fault_is_told_once_then_counted(office, owner):
    for _ in range(30):
        happens(office, **FAILED)
        owner.step(60)
    assert len(owner.lines) == 1

    owner.steps(1900)

    assert len(owner.lines) == 2
    assert "unreachable" in owner.lines[1]
    assert owner.lines[1].endswith(", 29 more times")
    happens(office, **FAILED)
    owner.steps(4000)
    assert len(owner.lines) == 3


def test_other_fault_is_told_at_once(office, owner):
    happens(office, **FAILED)
    owner.steps(61)
    happens(office, result=Result.REFUSED)
    owner.steps(2)

    assert len(owner.messages) == 2


def test_low_battery_is_told_once_a_day(office, owner):
    for _ in range(48):
        happens(office, **TOLD["battery"][0])
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
def test_denied_often_is_told_once_then_counted(office, owner, case):
    gap_s, holders, count = DENIALS[case]

    for number, holder in enumerate(holders):
        uid = f"04{number:06X}" if not holder else KEN
        happens(office, DENIED, holder=holder, uid=uid)
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
def test_trouble_is_told_once_and_when_it_is_over(office, language):
    receiver = Receiver(office, language=language)
    office.troubles = lambda: LOST
    receiver.steps(50)
    assert receiver.messages == []

    receiver.steps(3 * 86_400)
    office.troubles = dict
    receiver.steps(100)

    words = {"en": next(iter(LOST.values())), "ja": "カードリーダーが応答しません"}
    told = [line.split(" ", 1)[1] for line in receiver.lines]
    titles = {"en": ["Trouble", "Solved"], "ja": ["障害", "復旧"]}
    assert told == [f"{title}: {words[language]}" for title in titles[language]]
    assert [m.notices[0]["notice"] for m in receiver.messages] == ["fault", "fault"]
    assert receiver.messages[0].notices[0]["event"] is None


def test_trouble_that_passes_is_not_told(office, owner):
    for _ in range(100):
        office.troubles = lambda: LOST
        owner.steps(40)
        office.troubles = dict
        owner.steps(10)

    assert owner.messages == []


def test_trouble_that_comes_and_goes_is_counted(office, owner):
    for _ in range(20):
        office.troubles = lambda: LOST
        owner.steps(70)
        office.troubles = dict
        owner.steps(70)
    owner.steps(4000)

    assert len(owner.lines) == 4
    assert all(line.endswith(", 19 more times") for line in owner.lines[2:])


def test_trouble_is_not_told_again_after_a_restart(office, owner):
    office.troubles = lambda: LOST
    owner.steps(70)
    owner.restart()
    owner.steps(200)
    assert len(owner.lines) == 1

    office.troubles = dict
    owner.restart()
    owner.steps(5)

    assert len(owner.lines) == 2


@pytest.mark.parametrize(
    ("subject", "notice"),
    [("not-locked", "not-locked"), ("locked-down", None), ("newer", None)]
    + [(sign, "fault") for sign in doorpi.FAULTS[2:]],
)
def test_each_trouble_has_its_notice(office, owner, subject, notice):
    office.troubles = lambda: {subject: "words"}
    owner.steps(70)

    found = [each["notice"] for m in owner.messages for each in m.notices]
    assert found == [notice] * bool(notice)


def test_each_trouble_is_told_in_japanese(office):
    receiver = Receiver(office, language="ja")
    subjects = [s for notice in NOTICES.values() for s in notice.troubles]
    troubles = dict.fromkeys(subjects, "words")
    office.troubles = lambda: troubles
    receiver.step()
    receiver.step(400)

    assert len(receiver.lines) == len(subjects) > 9
    assert [line for line in receiver.lines if "words" in line] == []


def test_door_that_does_not_run_is_told_after_minutes(office, owner):
    office.troubles = lambda: LOST
    owner.steps(70)
    office.troubles = lambda: None
    owner.steps(290)
    assert len(owner.lines) == 1

    owner.steps(400)
    assert "not running" in owner.lines[1]

    office.troubles = lambda: LOST
    owner.steps(100)
    assert "Solved: the door's program is not running" in owner.lines[2]
    assert len(owner.lines) == 3


# -- at least once, and not again


@pytest.mark.parametrize(
    "failure",
    [Unavailable("no network", is_unsent=True), Unavailable("no answer in time")],
    ids=["unsent", "perhaps-sent"],
)
def test_message_is_kept_until_it_was_sent(office, owner, failure):
    happens(office, **FAILED)
    owner.failures = [failure] * 3

    for _ in range(3):
        with pytest.raises(Unavailable):
            owner.step(1)
        owner.restart()
    happens(office, result=Result.REFUSED)
    owner.step(1)
    owner.restart()
    owner.steps(200)

    assert [len(text.splitlines()) for text in owner.texts] == [2]


@pytest.mark.parametrize(
    ("status", "least_s"), [(400, 600), (401, 600), (404, 600), (429, 7), (503, 7)]
)
def test_receiver_that_refuses_is_left_alone(office, owner, status, least_s):
    happens(office, **FAILED)
    owner.failures = [Unavailable("no", 7.0, reply=Reply(status, b""))]

    with pytest.raises(Unavailable) as caught:
        owner.step(1)

    assert caught.value.after_s == least_s
    owner.step(1)
    assert len(owner.messages) == 1


def test_week_of_outage_is_caught_up_in_order_and_summed_up(office, owner):
    begun_at = office.clock.now()
    events = [replace(INTENT, result=Result.UNLOCKED)] * 30 + [
        replace(INTENT, **FAILED),
        replace(INTENT, reason=Change.ALLOW, command=None),
    ]
    with office.events._transaction():  # one sync for all
        for number in range(7 * 8):
            for event in events:
                at = begun_at + timedelta(hours=3 * number)
                doorpi._append(
                    office.events._connection(), "events",
                    (doorpi.utc_text(at), event.uid, event.holder, event.reason,
                     event.command, "card", "", "", ""),
                )  # fmt: skip
                ended = office.events.last_id(), event.result or "", 5, event.detail
                doorpi._append(office.events._connection(), "outcomes", ended)
    office.clock.advance(7 * 86_400)
    waits = []
    while (wait_s := owner.step()) < 1:
        waits.append(wait_s)
        assert owner.messages == []
        office.clock.advance(wait_s)

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


def test_message_fits_what_receivers_take(office):
    for language in ("en", "ja"):
        receiver = Receiver(office, language=language)
        receiver.service.name = language
        receiver.step()
        for _ in range(25):
            happens(office, reason=Change.IMPORT, command=None, detail="名" * 200)
        receiver.step()

        (message,) = receiver.messages
        assert len(message.text.encode()) < 4096
        assert message.more + len(message.text.splitlines()) - 1 == 25


def test_notices_survive_kills_at_any_moment(office, owner, monkeypatch):
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
        happens(office, reason=Change.ALLOW, command=None, holder=f"Person {number}")
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


def test_disk_that_is_full_stops_no_notice(office, owner, monkeypatch):
    def full(store, name, value):
        raise StoreError("online.db: disk is full")

    monkeypatch.setattr(OnlineStore, "keep", full)
    for result in (Result.REFUSED, Result.UNREACHABLE):
        happens(office, result=result)
        with pytest.raises(StoreError):
            owner.step(61)
        with pytest.raises(StoreError):
            owner.step(1)

    assert len(owner.lines) == 2


def test_log_that_cannot_be_read_stops_no_trouble(office, owner, monkeypatch):
    def broken(*_):
        raise StoreError("doorpi.db: broken")

    monkeypatch.setattr(office.events, "last_id", broken)
    office.troubles = lambda: {"storage-bad": "database: disk is full"}
    for _ in range(70):
        with pytest.raises(StoreError):
            owner.step(1)

    assert "database" in owner.lines[0]
    monkeypatch.undo()
    happens(office, **FAILED)
    owner.steps(61)
    assert len(owner.lines) == 2


def test_new_log_is_followed(office, owner, tmp_path):
    for _ in range(10):
        happens(office, result=Result.UNLOCKED)
    owner.step()
    office.events.close()
    for file in tmp_path.glob("doorpi.db*"):
        file.unlink()
    owner.step()

    happens(office, **FAILED)
    owner.step()

    assert len(owner.messages) == 1


def test_quiet_log_costs_no_writes(office, owner):
    before = (office.store.path.stat(), office.store.recall("notices notify ops"))

    for _ in range(50):
        happens(office, result=Result.UNLOCKED)
        owner.step(1)

    assert office.store.recall("notices notify ops") == before[1]


def many_denials(office, count: int) -> None:
    """Three of each of many people, with one sync for all."""
    at = doorpi.utc_text(office.clock.now())
    with office.events._transaction():
        for number in range(count):
            values = (
                at, KEN, f"Person {number // 3}" + "x" * 180,
                str(Reason.EXPIRED), None, "card", "", "", "",
            )  # fmt: skip
            doorpi._append(office.events._connection(), "events", values)


def test_memory_is_flat_over_many_events(office, owner):
    owner.send = lambda message: None
    owner.restart()
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(4):
            many_denials(office, 600)
            owner.steps(4000)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert json.loads(office.store.recall("notices notify ops"))["bookmark"] == 2400
    assert sizes[-1] - sizes[1] < 20_000


def test_state_stays_small(office, owner):
    owner.failures = [Unavailable("no network")] * 10_000
    many_denials(office, 3000)
    for _ in range(10):
        with contextlib.suppress(Unavailable):
            owner.step(1)

    state = json.loads(office.store.recall("notices notify ops"))
    assert state["bookmark"] == 3000
    assert state["more"] > 100
    assert len(json.dumps(state)) < 50_000


def test_state_of_a_newer_version_is_read(office, owner):
    state = {
        "bookmark": 0,
        "lines": [{"notice": "newer", "at": 1.0, "words": "x", "event": None}],
        "told": {"newer x": ["newer", 1.0, 2, 1.0, "x"]},
        "more_of_it": 7,
    }
    office.store.keep("notices notify ops", json.dumps(state))
    owner.restart()

    owner.steps(10)
    happens(office, **FAILED)
    owner.steps(10)

    assert len(owner.lines) == 1
    assert json.loads(office.store.recall("notices notify ops"))["more_of_it"] == 7


def test_bookmarks_of_other_receivers_are_forgotten(office, owner):
    office.store.keep("notices notify gone", "{}")
    office.store.keep("cursor", "7")

    office.store.forget_others("notices", ["notify ops"])

    assert office.store.recall("notices notify gone") is None
    assert office.store.recall("notices notify ops")
    assert office.store.recall("cursor") == "7"
