"""kill -9 of `doorpi online` at any moment, while cards are tapped at a running door and
people write to it: no command is given twice or late, none is left without an answer, and
no notice is lost, nor sent twice but in the moment of a kill."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter

import doorpi
from doorpi import Change, Event, Reason, Result
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.telegram import TOKEN, Call, FakeTelegram
from tests.fakes.virtual import VirtualCard, VirtualField
from tests.helpers.nursery import Nursery
from tests.helpers.processes import DoorProcess, wait_for, write_config
from tests.helpers.wire import RawServer, Wire

KILLS = int(os.environ.get("DOORPI_KILLS", "50"))
WINDOW_S = 5.0
USERS = range(5001, 5001 + KILLS)  # each writes twice: of three at once one is left out

FASTER = """
doorpi.Notices.gap_s, doorpi.Notices.look_s = 0.05, 0.02
doorpi.Digest.most_lines, doorpi.Digest.most_bytes = 1_000, 100_000  # each is counted
doorpi.TelegramBot.message_every_s = 0.0
doorpi.ServiceThread.backoff_s = (0.02, 0.1)
"""


class Receiver:
    """A webhook: ``got`` are the words of the notices, a list for each message."""

    def __init__(self) -> None:
        self.got: list[list[str]] = []
        self.server = RawServer(self._serve)

    def _serve(self, wire: Wire) -> None:
        if request := wire.request():
            notices = json.loads(request.partition(b"\r\n\r\n")[2])["notices"]
            self.got.append([each["words"] for each in notices])
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def settings(bot: FakeTelegram, receiver: Receiver) -> str:
    users = (f'[[telegram.user]]\nid = {u}\nholder = "User {u}"' for u in USERS)
    return "\n".join(
        [
            f'[telegram]\ntoken = "{TOKEN}"\nbase_url = "{bot.url}"', *users,
            f'[[notify]]\nurl = "{receiver.server.url}/hook"\nevents = ["changed"]',
        ]
    )  # fmt: skip


def test_kills_give_no_command_twice_or_late_and_lose_no_notice(tmp_path):
    chance, cloud, radio = random.Random(16), LiveSesameMini(), VirtualField()
    bot, receiver = FakeTelegram(), Receiver()
    config = write_config(
        tmp_path, cloud, radio.device, more=settings(bot, receiver),
        door="require_synced_clock = false", lock=f"unlock_window_s = {WINDOW_S}",
    )  # fmt: skip
    written: dict[int, int] = {}  # the message of each update
    kept: list[int] = []  # how many messages the receiver had got at each kill
    log = doorpi.SqliteEvents(tmp_path / "state" / "doorpi.db", busy_s=5)
    nursery, online = (
        Nursery(config, FASTER),
        doorpi.OnlineStore(log.path.with_name("online.db")),
    )
    with DoorProcess(config) as door:
        door.until_ready()
        first = _ready(nursery, bot)
        wait_for(lambda: online.under("notices "), "the first bookmark")
        nursery.kill(first)
        for turn in range(KILLS):
            polls, pid = bot.polls, nursery.start()
            at = doorpi.SystemClock().now()
            change = Event(at, None, f"Person {turn}", Change.ALLOW, source="command")
            log.record(change)
            for user in (USERS[turn], USERS[-turn]):
                text, number = chance.choice(["/open", "/lock"]), len(written) + 1000
                written[bot.say(user, text, message_id=number)] = number
            if turn % 10 == 0:
                radio.put(VirtualCard(bytes.fromhex("04A93C715ED284")))
            if turn % 2:  # else often while it starts
                wait_for(lambda polls=polls: bot.polls > polls, "a poll")
            signal.sigtimedwait([], chance.uniform(0.0, 0.1))
            nursery.kill(pid)
            kept.append(len(receiver.got))
            radio.take()
        last = _ready(nursery, bot)
        wait_for(lambda: _answered(bot) >= {*written.values()}, "every answer", 30)
        wait_for(lambda: len(_told(receiver)) >= KILLS, "every notice", 30)
        nursery.kill(last, signal.SIGTERM)
        events = list(log.read())
        door.stop()
    nursery.close()

    _check_commands(events, [command for _, command in cloud.commands], bot)
    _check_answers(bot, {n: f"telegram-{u}" for u, n in written.items()}, events)
    _check_notices(receiver, kept)
    for each in (log, online, radio, cloud, bot, receiver.server):
        each.close()


def _ready(nursery: Nursery, bot: FakeTelegram) -> int:
    """A process that has answered whatever it found."""
    polls, pid = bot.polls, nursery.start()
    wait_for(lambda: bot.polls > polls + 1, "a long poll")
    return pid


def _answered(bot: FakeTelegram) -> set[int]:
    return {_message(call) for call in bot.sent}


def _message(call: Call) -> int:
    return call.values["reply_parameters"]["message_id"]


def _told(receiver: Receiver) -> Counter[str]:
    return Counter(words for message in receiver.got for words in message)


def _check_commands(events, commands, bot) -> None:
    moves = [event for event in events if event.command]
    # Each command is logged, in order; a move that failed may have sent none.
    expected = "".join(
        event.command[0] + "?" * (event.result not in (Result.UNLOCKED, Result.LOCKED))
        for event in moves
    )
    assert re.fullmatch(expected, "".join(command[0] for command in commands))
    of_chat = [event for event in events if event.source == "chat"]
    assert len({event.request for event in of_chat}) == len(of_chat)  # none twice
    assert {event.source for event in moves} == {"card", "chat"}
    to_monotonic = time.monotonic() - time.time()
    for event in (event for event in of_chat if event.command):
        begun = event.at.timestamp() + to_monotonic
        times = bot.delivered[int(event.request.removeprefix("telegram-"))]
        assert any(0 <= begun - at + 0.05 <= WINDOW_S for at in times)  # none late


def _check_answers(bot, requests, events) -> None:
    """What was answered is what the log has."""
    known = {event.request: event.result or event.reason for event in events}
    texts = [(requests[_message(call)], call.values["text"]) for call in bot.sent]
    for request, text in texts:
        word = text.removeprefix("Office 4F: ").removeprefix("denied: ")
        if word in (Result.UNLOCKED, Result.LOCKED):
            assert known[request] == word
        elif word == Reason.STALE:  # the door got it only when its time was up
            assert known.get(request, word) == word
        elif "not known" not in word:  # a busy computer: the move failed
            assert word.partition(":")[0] == known[request]
    assert [text for _, text in texts if "not known" in text]


def _check_notices(receiver: Receiver, kept: list[int]) -> None:
    """Each was sent; twice only what was sent last before a kill."""
    times = _told(receiver)
    assert len(times) == KILLS
    in_doubt = {w for count in kept if count for w in receiver.got[count - 1]}
    assert {words for words, count in times.items() if count > 1} <= in_doubt
