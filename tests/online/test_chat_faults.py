"""Every fault at every call of the chat: no command twice, none lost, no answer twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doorpi import StoreError, Wants
from tests.fakes.telegram import FAULTS, UNSENT
from tests.helpers.chat import KEN, ChatRoom, nothing_telling
from tests.helpers.processes import wait_for

METHODS = (
    "getMe", "setMyCommands", "getUpdates", "sendMessage", "answerCallbackQuery",
    "editMessageReplyMarkup",
)  # fmt: skip
ANSWER = "Office 4F: unlocked"
LONG = "429-long"  # has its own test
SLOW = ("hang-before", "hang-after", "drip")  # each takes as long as a call may


@pytest.fixture
def room(tmp_path, caplog) -> Iterator[ChatRoom]:
    room = ChatRoom(tmp_path)
    with nothing_telling(caplog):
        yield room
        room.close()


def limit_calls(room: ChatRoom, seconds: float) -> None:
    for bot in (room.service._polls, room.service._bot):
        bot.call_s = seconds


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_costs_at_most_an_answer(room, method):
    """It happens once while somebody presses a button; what comes after is well again."""
    slow = SLOW if method in ("getUpdates", "sendMessage") else ()
    for fault in [name for name in FAULTS if name not in (*SLOW, LONG)] + [*slow]:
        limit_calls(room, 10.0)
        room.hear(KEN, "/help")
        limit_calls(room, 0.4 if fault in SLOW else 10.0)
        before, room.service._is_introduced = len(room.bot.texts(KEN)), False
        room.asked.clear()
        room.bot.faults[method] = [fault]
        number = room.bot.press(KEN, "Unlock")

        room.settle()

        assert room.bot.faults[method] == [], fault  # it has happened
        is_lost = method == "sendMessage" and not (
            FAULTS[fault].acts or fault in UNSENT
        )
        expected = [(Wants.UNLOCK, f"telegram-{number}")], [ANSWER] * (not is_lost)
        asked = [(request.wants, request.id) for request in room.asked]
        assert (asked, room.bot.texts(KEN)[before:]) == expected, fault


@pytest.mark.parametrize("fault", ["cut-before", "hang-before", "500", "401", "html"])
def test_a_server_that_has_only_faults_gets_no_command_lost_or_repeated(room, fault):
    room.step()
    limit_calls(room, 0.3 if fault in SLOW else 10.0)
    room.bot.standing |= dict.fromkeys(METHODS, fault)
    room.bot.say(KEN, "/open")
    assert all(room.step() for _ in range(3))

    room.bot.standing.clear()
    limit_calls(room, 10.0)
    room.settle()

    assert len(room.asked) == 1
    assert room.bot.texts(KEN) == [ANSWER]


def test_full_disk_is_answered_and_nothing_is_carried_out(room, monkeypatch):
    room.step()

    def full(notes):
        raise StoreError("database or disk is full")

    monkeypatch.setattr(room.store, "change", full)
    room.bot.say(KEN, "/open")
    room.bot.say(99, "/open")  # a stranger
    room.step()
    wait_for(lambda: room.bot.texts(KEN), "the answer")
    assert [text.partition(": ")[2] for text in room.bot.texts(KEN)] == [
        "nothing was done: the disk of the door is full, or failing"
    ]
    assert room.service.trouble
    room.step()  # which tells the server that it has them

    monkeypatch.undo()
    room.start()  # another process, which finds nothing
    room.settle()
    assert room.asked == []
    assert room.hear(KEN, "/open") == [ANSWER]
    assert (len(room.bot.texts(KEN)), room.bot.texts(99)) == (2, [])
