"""The Cobot service of `doorpi online` on a played Cobot, and the door's side of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from doorpi import (
    Circumstances,
    Cobot,
    Command,
    Context,
    Credential,
    Event,
    OnlineStore,
    Reason,
    Result,
    SqliteStore,
    SyncedPeople,
    Uid,
    Unavailable,
    decide,
    parse_config,
)
from tests.fakes.cobot import SUBDOMAIN, TOKEN, FakeCobot

BASE = '[lock]\nkind = "relay"\n[[schedule]]\nname = "day"\ntimes = ["Mon-Fri 08:00-20:00"]\n'


class CobotBench:
    """``server`` is Cobot, ``service`` what `doorpi online` runs for it."""

    def __init__(self, folder: Path, clock: Any, **table: object) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.clock = folder, clock
        self.server = FakeCobot(clock)
        self.store = SqliteStore(folder / "doorpi.db")
        self.synced = SyncedPeople(folder / "synced.db", repair=True)
        self.notes = OnlineStore(folder / "online.db")
        self.table = table
        self.start()

    def start(self, **table: object) -> None:
        """As at a start of `doorpi online`."""
        if hasattr(self, "service"):
            self.service.close()
        self.table |= table
        url = self.server.base_url
        lines = {"subdomain": SUBDOMAIN, "token": TOKEN, "base_url": url}
        lines |= {"site_url": url, "uid_format": "HEX", **self.table}
        text = f'{BASE}[door]\nstate_dir = "{self.folder}"\n[cobot]\n'
        text += "".join(f"{key} = {toml(value)}\n" for key, value in lines.items())
        self.config = parse_config(text)
        context = Context(
            config=self.config,
            clock=self.clock,
            store=self.notes,
            people=self.store.people,
            synced=self.synced,
            events=self.store.events,
        )
        self.service = Cobot("cobot", self.config.online["cobot"], context)

    def run(self, seconds: float = 5.0, pace_s: float = 0.0) -> str:
        """Let that much time pass, in a few hundred steps; returns the last trouble."""
        trouble, until = "", self.clock.monotonic() + seconds
        pace_s = pace_s or seconds / 200
        while self.clock.monotonic() < until:
            wait_s, trouble = 1.0, ""
            try:
                wait_s = max(pace_s, self.service.step())
                trouble = self.service.trouble
            except Unavailable as error:
                trouble, wait_s = str(error), max(wait_s, error.after_s)
            self.clock.advance(min(wait_s, max(0.001, until - self.clock.monotonic())))
        return trouble

    def reason(self, uid: str) -> Reason:
        """How the door decides about a card now."""
        now = self.clock.now()
        when = Circumstances(now, schedules=self.config.schedules)
        return Reason(decide(Uid(uid), self.store.people.find(Uid(uid)), when).reason)

    def find(self, uid: str) -> Credential | None:
        return self.store.people.find(Uid(uid))

    def enter(self, uid: str, **changes: Any) -> None:
        """The door has let this card in."""
        who = self.find(uid)
        event = Event(
            self.clock.now(), Uid(uid), who.holder if who else "", Reason.GRANTED,
            command=Command.UNLOCK, result=Result.UNLOCKED,
        )  # fmt: skip
        self.store.events.record(event._replace(**changes))

    @property
    def check_ins(self) -> dict[str, str]:
        """The state of each check-in, by day and membership."""
        noted = self.notes.under("check-in ")
        return {name[9:]: json.loads(text)["state"] for name, text in noted.items()}

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for each in (
                self.service,
                self.store,
                self.synced,
                self.notes,
                self.server,
            ):
                stack.callback(each.close)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
