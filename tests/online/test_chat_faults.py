"""Every fault at every call of the chat: no command twice, none lost, no answer twice."""

from __future__ import annotations

import pytest

from doorpi import Wants
from tests.fakes.telegram import FAULTS, UNSENT
from tests.helpers.chat import KEN, ChatRoom, nothing_telling

METHODS = (
    "getMe", "setMyCommands", "getUpdates", "sendMessage", "answerCallbackQuery",
    "editMessageReplyMarkup",
)  # fmt: skip
ANSWER = "Office 4F: unlocked"
SLOW = ("hang-before", "hang-after", "drip")  # each takes as long as a call may
CASES = [
    (method, fault)
    for method in METHODS
    for fault in FAULTS
    if fault not in SLOW or method in ("getUpdates", "sendMessage")
]


@pytest.mark.parametrize(("method", "fault"), CASES)
def test_a_fault_costs_at_most_an_answer(tmp_path, caplog, method, fault):
    room = ChatRoom(tmp_path)
    with nothing_telling(caplog):
        room.hear(KEN, "/help")
        for bot in (room.service._polls, room.service._bot):
            bot.call_s = 0.5 if fault in SLOW else 10.0
        room.service._is_introduced = False
        room.bot.faults[method] = [fault]
        number = room.bot.press(KEN, "Unlock")

        room.settle()

        assert room.bot.faults[method] == []  # it has happened
        assert [(r.wants, r.id) for r in room.asked] == [
            (Wants.UNLOCK, f"telegram-{number}")
        ]
        is_lost = method == "sendMessage" and not (
            FAULTS[fault].acts or fault in UNSENT
        )
        assert room.bot.texts(KEN)[1:] == [ANSWER] * (not is_lost)
        assert room.hear(KEN, "/open") == [ANSWER]
        assert len({request.id for request in room.asked}) == len(room.asked) == 2
        assert room.tasks == []
        room.close()


@pytest.mark.parametrize("fault", ["cut-before", "hang-before", "500", "401", "html"])
def test_a_server_that_has_only_faults_gets_no_command_lost_or_repeated(
    tmp_path, caplog, fault
):
    room = ChatRoom(tmp_path)
    with nothing_telling(caplog):
        room.step()
        for bot in (room.service._polls, room.service._bot):
            bot.call_s = 0.3 if fault in SLOW else 10.0
        room.bot.standing |= dict.fromkeys(METHODS, fault)
        room.bot.say(KEN, "/open")
        assert all(room.step() for _ in range(3))

        room.bot.standing.clear()
        room.settle()

        assert len(room.asked) == 1
        assert room.bot.texts(KEN) == [ANSWER]
        room.close()
