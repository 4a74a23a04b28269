"""The chat: who is heard, what reaches the door, and what is answered."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest

import doorpi
from doorpi import (
    CHAT_COMMANDS,
    CHAT_WORDS,
    Answer,
    ChatMessage,
    Event,
    Medium,
    Reason,
    Result,
    Wants,
    read_update,
)
from tests.fakes.telegram import FAULTS, NAME, person
from tests.helpers.chat import (
    AYA,
    KEN,
    MIKA,
    NIGHT,
    STRANGER,
    ChatRoom,
    nothing_telling,
)
from tests.helpers.processes import wait_for

JA = {"language": "ja"}


@pytest.fixture
def rooms(tmp_path, caplog) -> Iterator[Callable[..., ChatRoom]]:
    made: list[ChatRoom] = []

    def room(**settings: str) -> ChatRoom:
        made.append(ChatRoom(tmp_path, **settings))
        return made[-1]

    with nothing_telling(caplog):
        yield room
        for each in made:
            each.close()


@pytest.fixture
def room(rooms) -> ChatRoom:
    return rooms()


# -- what an update says

MESSAGE = {
    "message_id": 7,
    "from": person(KEN),
    "chat": {"id": KEN, "type": "private"},
    "date": 1_800_000_000,
    "text": "/open",
}
PRESS = {
    "id": "press",
    "from": person(KEN),
    "message": {"message_id": 8, "chat": {"id": KEN, "type": "private"}, "date": 0},
    "data": "/open CODE",
}


def without(table: dict, key: str) -> dict:
    return {name: value for name, value in table.items() if name != key}


def test_a_message_of_a_person_is_read():
    assert read_update({"message": MESSAGE}) == ChatMessage(
        user=KEN, number=7, text="/open", sent_at=1_800_000_000
    )


def test_a_press_of_a_button_is_read():
    heard = read_update({"callback_query": PRESS})

    assert (heard.user, heard.number, heard.press) == (KEN, 8, "press")
    assert heard.command == ("open", "CODE")


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"message": None},
        {"message": []},
        {"edited_message": MESSAGE},
        {"channel_post": MESSAGE},
        {"message": MESSAGE | {"chat": {"id": -100, "type": "group"}}},
        {"message": MESSAGE | {"chat": {"id": KEN, "type": "supergroup"}}},
        {"message": MESSAGE | {"chat": {"id": MIKA, "type": "private"}}},
        {"message": MESSAGE | {"chat": {"id": str(KEN), "type": "private"}}},
        {"message": MESSAGE | {"from": person(KEN, is_bot=True)}},
        {"message": MESSAGE | {"from": {"id": KEN}}},
        {"message": MESSAGE | {"from": {"id": True, "is_bot": False}}},
        {"message": MESSAGE | {"date": "now"}},
        {"message": without(MESSAGE, "from")},
        {"message": without(MESSAGE, "chat")},
        {"message": without(MESSAGE, "date")},
        {"message": without(MESSAGE, "message_id")},
        {"callback_query": PRESS | {"from": person(MIKA)}},
        {"callback_query": PRESS | {"from": person(KEN, is_bot=True)}},
        {"callback_query": without(PRESS, "message")},
        {"callback_query": PRESS | {"inline_message_id": "x", "message": None}},
        {"callback_query": without(PRESS, "id")},
    ],
    ids=repr,
)
def test_what_no_person_says_in_private_is_not_heard(update):
    assert read_update(update) is None


@pytest.mark.parametrize(
    "key",
    ["forward_origin", "forward_date", "via_bot", "edit_date", "is_from_offline"],
)
def test_what_its_sender_has_not_just_written_is_known(key):
    assert not read_update({"message": MESSAGE | {key: {"type": "user"}}}).is_own


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/open", ("open", "")),
        ("/Open", ("open", "")),
        (" /open ", ("open", "")),
        (f"/open@{NAME}", ("open", "")),
        ("/open now, please", ("open", "now,")),
        ("/start a-CODE_1", ("start", "a-CODE_1")),
        (f"/start@{NAME} a-CODE_1", ("start", "a-CODE_1")),
        ("/open\nthe door", ("open", "the")),
        ("open", ("", "")),
        ("//open", ("", "")),
        ("/open/lock", ("", "")),
        ("/", ("", "")),
        ("", ("", "")),
    ],
)
def test_command(text, command):
    assert ChatMessage(KEN, 1, text, 0).command == command


# -- the words


def test_the_words_of_both_languages_are_about_the_same():
    for english, japanese in [*CHAT_WORDS.values(), *CHAT_COMMANDS.values()]:
        assert re.findall(r"\{.*?\}|/\w+", english) == re.findall(
            r"\{.*?\}|/\w+", japanese, re.ASCII
        )
        assert re.search("[\u3040-\u30ff]", japanese)
        assert english.isascii()


ANSWERS = [
    ("unlocked", "unlocked", "解錠しました"),
    ("locked", "locked", "施錠しました"),
    (
        "unsure: no answer",
        "unsure: no answer; please try the door",
        "確認できません（no answer）。ドアをお確かめください",
    ),
    (
        "interrupted",
        "interrupted; please try the door",
        "中断されました。ドアをお確かめください",
    ),
    ("unreachable: DNS", "unreachable: DNS", "錠に接続できません（DNS）"),
    ("refused", "refused", "錠が拒否しました"),
    ("unknown-state", "unknown-state", "錠の状態が不明です"),
    (
        "denied: not-permitted-at-this-time",
        "denied: not-permitted-at-this-time",
        "入れません（時間外）",
    ),
    ("denied: locked-down", "denied: locked-down", "入れません（入室停止中）"),
    ("denied: not-enabled", "denied: not-enabled", "入れません（無効）"),
    ("denied: a-newer-word", "denied: a-newer-word", "入れません（a-newer-word）"),
    ("a-newer-word: detail", "a-newer-word: detail", "a-newer-word（detail）"),
]


@pytest.mark.parametrize("language", [0, 1], ids=["en", "ja"])
def test_an_answer_is_in_the_words_of_the_chat_and_by_name_of_the_door(rooms, language):
    room = rooms(language=doorpi.LANGUAGES[language])
    for line, *expected in ANSWERS:
        room.door = lambda request, line=line: Answer(False, [line])

        (answer,) = room.hear(KEN, "/open")

        assert answer == ("Office 4F: ", "Office 4F：")[language] + expected[language]


# -- what reaches the door


@pytest.mark.parametrize(
    ("text", "wants"),
    [("/open", Wants.UNLOCK), ("/lock", Wants.LOCK), ("/status", Wants.STATUS)],
)
def test_a_command_is_a_request_to_the_door(room, text, wants):
    before = room.clock.monotonic()
    number = room.bot.say(KEN, text)

    room.settle()

    (request,) = room.asked
    assert (request.medium, request.identifier) == (Medium.CHAT, "telegram:4711")
    assert (request.wants, request.id) == (wants, f"telegram-{number}")
    assert before <= request.arrived <= room.clock.monotonic()
    window_s = room.config.lock.unlock_window_s
    assert request.good_until == pytest.approx(request.arrived + window_s)


@pytest.mark.parametrize("word", ["hello", "/toggle", "/start", "", "/help"])
def test_anything_else_is_answered_with_the_commands_and_buttons(room, word):
    (answer,) = room.hear(KEN, word)

    assert "/open - unlock the door" in answer
    (row,) = room.bot.sent[-1].values["reply_markup"]["inline_keyboard"]
    assert [button["text"] for button in row] == ["Unlock", "Lock", "Status"]
    assert room.asked == []


@pytest.mark.parametrize(
    ("sent_s_ago", "is_taken"), [(0, True), (28, True), (32, False), (-32, False)]
)
def test_a_message_of_another_time_is_not_taken(room, sent_s_ago, is_taken):
    date = int(room.clock.now().timestamp()) - sent_s_ago

    (answer,) = room.hear(KEN, "/open", date=date)

    assert bool(room.asked) is is_taken
    assert ("stale" in answer) is not is_taken


def test_nothing_is_taken_while_the_clock_is_not_set(room):
    room.clock.set = False

    (answer,) = room.hear(KEN, "/open")

    assert room.asked == []
    assert "clock-not-set" in answer


def test_a_clock_that_need_not_be_set_counts_as_set(rooms):
    room = rooms(door="require_synced_clock = false")
    room.clock.set = False

    assert room.hear(KEN, "/open") == ["Office 4F: unlocked"]


def test_a_forwarded_message_is_not_taken(room):
    (answer,) = room.hear(KEN, "/open", forward_origin={"type": "user"})

    assert room.asked == []
    assert "forwarded" in answer


def test_a_group_is_not_even_answered(room):
    assert room.hear(KEN, "/open", chat={"id": -100, "type": "group"}) == []
    assert room.asked == []
    assert room.bot.sent == []


def test_a_stranger_is_told_their_number_once_an_hour(room, caplog):
    first = room.hear(STRANGER, "/open")
    again = room.hear(STRANGER, "/open")
    room.clock.ahead_s = 3601
    later = room.hear(STRANGER, "/open", date=int(room.clock.now().timestamp()))

    assert "99" in first[0]
    assert "Office" not in first[0]
    assert (len(first), len(again), len(later)) == (1, 0, 1)
    assert room.asked == []
    assert "telegram:99" in caplog.text  # for the owner


def test_who_was_a_stranger_just_now_is_told_why_a_message_is_refused(room):
    room.hear(STRANGER, "/open")
    card = doorpi.Credential(doorpi.chat_user(STRANGER), "Jo Guest")
    room.stores.people.change_cards([card], [], room.clock.now())

    answers = room.hear(STRANGER, "/open", date=int(room.clock.now().timestamp()) - 60)

    assert ["stale" in answer for answer in answers] == [True]


@pytest.mark.parametrize("text", ["/start", "/help", "hello", "/who", "/why", ""])
def test_a_stranger_learns_nothing_whatever_they_write(room, text):
    (answer,) = room.hear(STRANGER, text)

    assert "not on the list" in answer
    assert "reply_markup" not in room.bot.sent[0].values


def test_an_edit_of_the_users_holds_at_once(room):
    text = (room.folder / "doorpi.toml").read_text()
    assert "not on the list" in room.hear(STRANGER, "/open")[0]

    edited = text.replace("id = 4711", f"id = {STRANGER}")
    room.service._context.config = doorpi.parse_config(edited)

    assert room.hear(STRANGER, "/open") == ["Office 4F: unlocked"]
    assert "not on the list" in room.hear(KEN, "/open")[0]


def test_a_crowd_of_strangers_gets_ten_answers_a_minute(room):
    for user in range(100, 115):
        room.bot.say(user, "/open")

    room.settle()

    assert len(room.bot.sent) == 10


def test_nobody_else_waits_for_somebody_who_waits_for_the_door(room):
    goes_on, answer = threading.Event(), Answer(True, ["unlocked"])
    room.door = lambda request: (
        goes_on.wait(10) and answer if request.identifier == "telegram:4711" else answer
    )
    room.bot.say(KEN, "/open")
    wait_for(lambda: room.step() == "" and room.asked, "the request")

    room.bot.say(MIKA, "/open")
    wait_for(lambda: room.step() == "" and room.bot.texts(MIKA), "the other's answer")

    assert room.bot.texts(KEN) == []
    goes_on.set()
    room.settle()
    assert room.bot.texts(KEN) == ["Office 4F: unlocked"]


def test_three_messages_of_one_person_are_answered_at_once_and_more_are_not(room):
    goes_on = threading.Event()
    room.door = lambda request: goes_on.wait(10) and Answer(True, ["unlocked"])
    for _ in range(5):
        room.bot.say(KEN, "/open")
    wait_for(lambda: room.step() == "" and len(room.asked) == 3, "three requests")

    goes_on.set()
    room.settle()

    assert room.bot.texts(KEN) == 3 * ["Office 4F: unlocked"]


def test_no_door_is_told_as_it_is(room):
    room.door = lambda request: None

    assert "not running" in room.hear(KEN, "/open")[0]
    assert "not running" in room.hear(KEN, "/status")[0]


# -- at most once


def test_a_command_is_on_disk_with_the_offset_before_the_door_is_asked(room):
    seen = []

    def door(request):
        seen.append((room.tasks, room.store.recall(room.service._offset)))
        return Answer(True, ["unlocked"])

    room.door = door
    number = room.bot.say(KEN, "/open")
    room.settle()

    (((task,), offset),) = seen
    assert (task.id, task.word, offset) == (number, "open", str(number + 1))
    assert room.tasks == []


def begun_before(room: ChatRoom, word: str) -> int:
    """What a process leaves that was killed when it had noted a command."""
    room.service._start_tasks = lambda new, arrived: None
    number = room.bot.say(KEN, word)
    room.step()
    room.start()
    assert len(room.tasks) == 1
    return number


@pytest.mark.parametrize("answer", [None, doorpi.NOT_TAKEN])
def test_a_command_that_was_perhaps_begun_is_not_begun_again(room, answer):
    number = begun_before(room, "/open")
    room.door = lambda request: answer

    room.settle()

    (request,) = room.asked
    assert (request.id, request.good_until) == (f"telegram-{number}", request.arrived)
    assert room.bot.texts(KEN) == [
        "Office 4F: it is not known whether your /open was carried out: see /status"
    ]


def test_a_command_that_was_begun_is_answered_with_what_became_of_it(room):
    begun_before(room, "/open")
    room.door = lambda request: Answer(False, ["unreachable: DNS"])

    room.settle()

    assert room.bot.texts(KEN) == ["Office 4F: unreachable: DNS"]


def test_a_question_is_simply_asked_again(room):
    """Also one that a newer version has stored, with more in it."""
    number = begun_before(room, "/status")
    note = f"task {number}"
    newer = [*json.loads(room.store.recall(note)), "more"]
    room.store.keep(note, json.dumps(newer))
    room.door = lambda request: Answer(True, ["locked, it answers"])

    room.settle()

    assert room.bot.texts(KEN) == ["Office 4F: locked, it answers"]


# -- buttons


def test_a_button_acts_once_and_is_taken_away(room):
    room.hear(KEN, "/help")
    (message,) = room.bot.sent
    (button, *_), *_ = message.values["reply_markup"]["inline_keyboard"]
    room.bot.press(KEN, "Unlock")
    room.settle()

    room.bot.put({"callback_query": PRESS | {"data": button["callback_data"]}})
    room.settle()

    assert [request.wants for request in room.asked] == [Wants.UNLOCK]
    assert room.bot.texts(KEN)[1:] == [
        "Office 4F: unlocked",
        "Office 4F: this button has expired: see /help",
    ]
    assert len(room.bot.made("answerCallbackQuery")) == 2
    assert "reply_markup" not in message.values


@pytest.mark.parametrize(("after_s", "acts"), [(58, True), (61, False)])
def test_a_button_expires_after_a_minute(room, after_s, acts):
    room.hear(KEN, "/help")
    room.clock.ahead_s = after_s

    room.bot.press(KEN, "Unlock")
    room.settle()

    assert bool(room.asked) is acts


def test_a_button_is_for_whom_it_was_made(room):
    room.hear(KEN, "/help")
    (button, *_), *_ = room.bot.sent[0].values["reply_markup"]["inline_keyboard"]
    message = PRESS["message"] | {"chat": {"id": MIKA, "type": "private"}}
    stolen = {"data": button["callback_data"], "from": person(MIKA), "message": message}

    room.bot.put({"callback_query": PRESS | stolen})
    room.settle()

    assert room.asked == []
    assert "expired" in room.bot.texts(MIKA)[0]


# -- questions


def test_why_says_whether_somebody_may_enter(room):
    assert "you would be let in now: granted" in room.hear(KEN, "/why")[0]
    answer = room.hear(NIGHT, "/why")[0]
    assert "not-permitted-at-this-time" in answer
    assert re.search(r"next possible on Mon \d{4}-\d\d-\d\d at 03:00", answer)
    assert room.asked == []


def test_why_in_japanese(rooms):
    room = rooms(**JA)

    assert room.hear(KEN, "/why") == ["Office 4F：今入れます"]
    assert re.fullmatch(
        r"Office 4F：今は入れません（時間外）。次は\d+月\d+日 03:00 から入れます",
        room.hear(NIGHT, "/why")[0],
    )


def test_why_in_a_lockdown(room):
    room.stores.people.lock_down("by the test")

    assert "locked-down" in room.hear(KEN, "/why")[0]


def test_status_in_japanese_has_state_battery_and_lockdown(rooms):
    room = rooms(**JA)
    lines = ["unlocked, it answers, battery 80 %", doorpi.LOCKED_DOWN_WORDS]
    room.door = lambda request: Answer(True, lines)

    assert room.hear(KEN, "/status") == [
        "Office 4F：解錠されています。電池残量 80 %\n入室停止中"
    ]

    room.door = lambda request: Answer(False, ["not known: no answer"])
    assert room.hear(KEN, "/status") == ["Office 4F：錠の状態が不明です"]


def test_only_a_master_learns_what_the_owner_could_do(room):
    lines = [
        "locked",
        "9 of this month's 10 calls are used (90 %)",
        "to be locked again in 3 s",
    ]
    room.door = lambda request: Answer(True, lines)
    room.stores.people.lock_down("by the test")

    assert room.hear(KEN, "/status") == ["Office 4F: locked\nto be locked again in 3 s"]
    assert "calls" in room.hear(AYA, "/status")[0]
    assert "doorpi" not in room.hear(KEN, "/why")[0]
    assert "doorpi lockdown off" in room.hear(AYA, "/why")[0]


REASONS = [
    why
    for why in doorpi.REASON_WORDS.values()
    if isinstance(why, str) and "doorpi " in why
]


@pytest.mark.parametrize("words", REASONS, ids=[why[:30] for why in REASONS])
def test_no_reason_keeps_the_owners_advice(words):
    words = words.format(uid="telegram:4711", who=SimpleNamespace(source="cobot"))

    left = re.sub(doorpi.OWNERS_ADVICE, "", f"{words} (then: granted).")

    assert "doorpi" not in left
    assert left.endswith(" (then: granted).")


@pytest.mark.parametrize("text", ["/status", "/who", "/why"])
def test_whoever_was_revoked_learns_nothing_more(room, text):
    at = room.clock.now()
    block = doorpi.Block("Ken Sato", at, "the-owner", doorpi.chat_user(KEN))
    room.stores.people.change_cards([], [], at, block=[block])

    assert room.hear(KEN, text) == ["Office 4F: denied: not-enabled"]
    assert room.asked == []


def came(room: ChatRoom, holder: str, result: Result | None, hours_ago: float) -> None:
    at = room.clock.now() - timedelta(hours=hours_ago)
    reason = Reason.GRANTED if result else Reason.EXPIRED
    room.stores.events.record(Event(at, None, holder, reason, result=result))


def test_who_came_today_is_for_masters(room):
    came(room, "Yesterday", Result.UNLOCKED, 24)
    came(room, "Ken Sato", Result.UNLOCKED, 0)
    came(room, "Denied", None, 0)
    came(room, "Locked", Result.LOCKED, 0)

    (answer,) = room.hear(AYA, "/who")

    assert re.fullmatch(r"Office 4F:\n\d\d:\d\d Ken Sato, card", answer)
    assert room.hear(KEN, "/who") == ["Office 4F: /who is for masters only"]


def test_nobody_came_today(room):
    assert room.hear(AYA, "/who") == ["Office 4F: nobody came today"]


def test_a_long_day_fits_into_a_message(room):
    for _ in range(70):
        came(room, "Somebody with a rather long name " + "x" * 60, Result.UNLOCKED, 0)

    (answer,) = room.hear(AYA, "/who")

    assert len(answer) <= 4096


# -- towards Telegram


def test_polls_ask_for_little_and_wait_once_all_is_well(room):
    room.service.poll_s = 1
    room.bot.longest_poll_s = 0.05
    waits = [room.service.step() for _ in range(3)]

    first, second, _ = room.bot.made("getUpdates")

    assert first == {
        "offset": 0, "timeout": 0, "limit": 10,
        "allowed_updates": ["message", "callback_query"],
    }  # fmt: skip
    assert second["timeout"] == 1
    assert waits == [0.0, 1.0, 1.0]  # a server that does not wait is not asked at once


def test_the_bot_introduces_itself_once(room):
    for _ in range(3):
        room.step()

    assert room.store.recall(doorpi.BOT_NAME) == NAME
    assert len(room.bot.made("getMe")) == 1
    (made,) = room.bot.made("setMyCommands")
    assert [each["command"] for each in made["commands"]] == [*CHAT_COMMANDS]


def test_an_answer_is_a_reply_that_cannot_be_forwarded(room):
    room.bot.say(KEN, "/open", message_id=4242)

    room.settle()

    (sent,) = (call.values for call in room.bot.sent)
    assert sent["protect_content"] is True
    assert sent["reply_parameters"]["message_id"] == 4242
    assert "parse_mode" not in sent


def test_a_chat_gets_a_message_a_second(room):
    bot = room.service._bot
    bot.message_every_s = 1.0
    for text in ("one", "two"):
        bot.send(KEN, text)
    bot.send(MIKA, "other")

    (slept,) = room.clock.slept
    assert 0.8 < slept <= 1.0


@pytest.mark.parametrize(
    ("fault", "at_least_s", "word"),
    [
        ("401", 600, "token"),
        ("404", 600, "token"),
        ("421", 0, "421"),
        ("429", 1, "429"),
        ("500", 0, "500"),
        ("html", 0, "JSON"),
        ("not-ok", 0, "result"),
        ("wrong-types", 0, "result"),
    ],
)
def test_trouble_with_polls_is_told_with_its_pause(room, fault, at_least_s, word):
    room.step()
    room.bot.faults["getUpdates"] = [fault]

    with pytest.raises(doorpi.Unavailable, match=word) as caught:
        room.service.step()

    assert at_least_s <= caught.value.after_s <= max(at_least_s, 1)


def test_another_poll_is_trouble_only_after_two_minutes(room):
    room.step()
    room.bot.standing["getUpdates"] = "409"

    waits = [room.service.step() for _ in range(4)]
    room.clock.ahead_s = 121
    trouble = room.step()
    del room.bot.standing["getUpdates"]

    assert waits == [10, 10, 10, 10]
    assert "another program" in trouble
    assert room.step() == ""
    room.bot.faults["getUpdates"] = ["409"]
    assert room.service.step() == 10  # from the beginning


def test_a_webhook_is_trouble_at_once(room):
    room.bot.webhook = True

    assert "webhook" in room.step()
    assert not room.bot.made("deleteWebhook")


@pytest.mark.parametrize("fault", ["429", "401"])
def test_an_answer_that_was_surely_not_sent_is_sent_later(room, fault):
    room.bot.faults["sendMessage"] = [fault]

    room.bot.say(KEN, "/open")
    wait_for(lambda: room.step() == "" and room.bot.texts(KEN), "the answer")
    room.settle()

    assert room.bot.texts(KEN) == ["Office 4F: unlocked"]
    assert len(room.asked) == 1


def test_a_chat_that_must_be_left_alone_is_left_alone_and_nobody_waits(room):
    room.bot.faults["sendMessage"] = ["429-long"]
    room.bot.say(KEN, "/open")
    wait_for(lambda: room.step() == "" and len(room.bot.calls) > 9, "some polls")

    assert room.hear_only(MIKA, "/open") == ["Office 4F: unlocked"]
    assert len(room.bot.made("sendMessage")) == 2  # the refused one is not repeated yet

    room.clock.ahead_s = 41
    room.settle()
    assert room.bot.texts(KEN) == ["Office 4F: unlocked"]
    assert len(room.asked) == 2


def test_somebody_who_blocked_the_bot_holds_nobody_up(room):
    room.bot.faults["sendMessage"] = ["403"]

    assert room.hear(KEN, "/open") == []
    assert room.tasks == []
    assert room.hear(KEN, "/open") == ["Office 4F: unlocked"]


def test_faults_have_names_for_every_status_that_telegram_is_known_for():
    assert {"400", "401", "403", "404", "409", "421", "429", "500"} <= FAULTS.keys()
