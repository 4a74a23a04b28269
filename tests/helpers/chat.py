"""The chat's service on a bot that is played, with a door that the test plays."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import doorpi
from doorpi import AccessRequest, Answer, Unavailable, parse_config
from tests.fakes.telegram import TOKEN, FakeTelegram
from tests.helpers.processes import wait_for

KEN, AYA, MIKA, NIGHT = 4711, 4712, 4713, 4714
STRANGER = 99
SETTINGS = """
[door]
name = "Office 4F"
state_dir = "{folder}"
{door}
[lock]
kind = "relay"
relay_gpio = 17
[[schedule]]
name = "never"
times = ["Mon 03:00-03:01"]
[telegram]
token = "{token}"
base_url = "{url}"
language = "{language}"
[[telegram.user]]
id = 4711
holder = "Ken Sato"
[[telegram.user]]
id = 4712
holder = "Aya Abe"
role = "master"
[[telegram.user]]
id = 4713
holder = "Mika Mori"
[[telegram.user]]
id = 4714
holder = "Nora Night"
schedule = "never"
"""


class RealClock(doorpi.SystemClock):
    """The computer's, which may be put forward; a wait for a chat's turn is noted."""

    set = True
    ahead_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def is_set(self) -> bool:
        return self.set

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    def sleep(self, seconds: float) -> None:
        self.slept += [seconds] if seconds else []
        time.sleep(min(seconds, 0.01))


class ChatRoom:
    """``asked`` are the requests that have reached the door, which answers with
    ``door``."""

    def __init__(self, folder: Path, language: str = "en", door: str = "") -> None:
        self.bot, self.clock, self.folder = FakeTelegram(), RealClock(), folder
        text = SETTINGS.format(
            folder=folder, url=self.bot.url, token=TOKEN, language=language, door=door
        )
        (folder / "doorpi.toml").write_text(text)
        self.config = parse_config(text)
        self.stores = doorpi.make_store(self.config)
        self.store = doorpi.OnlineStore(folder / "online.db")
        self.asked: list[AccessRequest] = []
        self.door: Callable[[AccessRequest], Answer | None] = lambda request: Answer(
            True, ["unlocked"]
        )
        self.service: Any = None
        self.start()

    def start(self) -> None:
        """Another process in place of the one before, if there was one."""
        if self.service:
            self.service.close()
        context = doorpi.Context(
            config=self.config, clock=self.clock, store=self.store,
            people=self.stores.people, synced=self.stores.people.synced,
            events=self.stores.events, ask=self._ask, troubles=dict,
        )  # fmt: skip
        table = self.config.online["telegram"]
        self.service, *_ = doorpi.telegram_services("telegram", table, context)
        self.service.poll_s = 0  # the tests do not wait for nothing
        for bot in (self.service._polls, self.service._bot):
            bot.call_s, bot.message_every_s = 2.0, 0.0

    def _ask(self, request: AccessRequest) -> Answer | None:
        self.asked.append(request)
        return self.door(request)

    @property
    def tasks(self) -> list[doorpi.ChatTask]:
        known = len(doorpi.ChatTask._fields)
        texts = self.store.under("task ").values()
        return [doorpi.ChatTask(*json.loads(text)[:known]) for text in texts]

    def step(self) -> str:
        """One step; in words what was in its way."""
        try:
            self.service.step()
        except Unavailable as error:
            return str(error)
        return ""

    def settle(self) -> None:
        """Until everything that was said is answered."""

        def is_done() -> bool:
            self.step()
            return not (self.bot._updates or self.tasks or self.service._at_once)

        wait_for(is_done, "every answer")

    def hear(self, user: int, text: str, **changes: object) -> list[str]:
        """Somebody writes; what they are told by then."""
        before = len(self.bot.texts(user))
        self.bot.say(user, text, **changes)
        self.settle()
        return self.bot.texts(user)[before:]

    def hear_only(self, user: int, text: str) -> list[str]:
        """``hear`` while somebody else's answer is still to come."""
        self.bot.say(user, text)
        wait_for(lambda: self.step() == "" and self.bot.texts(user), "the answer")
        return self.bot.texts(user)

    def close(self) -> None:
        self.service.close()
        wait_for(lambda: not self.service._at_once, "the ends of the threads")
        self.bot.close()
        self.store.close()
        self.stores.close()


@contextlib.contextmanager
def nothing_telling(caplog) -> Any:
    """No line of the log has a part of the token, or a path of the API."""
    caplog.set_level(logging.DEBUG)
    yield
    for piece in (TOKEN[:9], TOKEN[12:24], TOKEN[-12:], "/bot"):
        assert piece not in caplog.text
