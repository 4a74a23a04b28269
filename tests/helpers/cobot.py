"""The Cobot service of `doorpi online` on a played Cobot, and the door's side of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from doorpi import (
    Circumstances,
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
    cobot_services,
    decide,
    parse_config,
)
from tests.fakes.cobot import SUBDOMAIN, TOKEN, FakeCobot

BASE = '[lock]\nkind = "relay"\n[[schedule]]\nname = "day"\ntimes = ["Mon-Fri 08:00-20:00"]\n'


class CobotBench:
    """``server`` is Cobot, ``services`` what `doorpi online` runs for it."""

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
        if hasattr(self, "services"):
            self.stop()
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
        table = self.config.online["cobot"]
        self.services = cobot_services("cobot", table, context)
        _, self.desk = self.services

    def stop(self) -> None:
        for each in self.services:
            each.close()

    def run(self, seconds: float = 5.0, pace_s: float = 0.0) -> str:
        """Let that much time pass, in about a hundred steps; returns the last troubles."""
        now, until = self.clock.monotonic, self.clock.monotonic() + seconds
        pace_s, due = pace_s or seconds / 100, dict.fromkeys(self.services, now())
        troubles: dict[object, str] = {}
        while now() < until:
            for service in [each for each in self.services if due[each] <= now()]:
                wait_s, trouble = 7.0, ""  # until the next try
                try:
                    wait_s = max(pace_s, service.step())
                    trouble = getattr(service, "trouble", "")
                except Unavailable as error:
                    trouble, wait_s = str(error), max(wait_s, error.after_s)
                troubles[service], due[service] = trouble, now() + wait_s
            self.clock.advance(max(0.001, min(*due.values(), until) - now()))
        return "; ".join(filter(None, troubles.values()))

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
            for each in (self.store, self.synced, self.notes, self.server):
                stack.callback(each.close)
            stack.callback(self.stop)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
