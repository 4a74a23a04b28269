"""The settings' file on the owner's desk, and the door that reads it."""

from __future__ import annotations

from pathlib import Path

import doorpi
from doorpi import (
    Config,
    ConfigError,
)
from tests.helpers.world import FakeClock, FakeLights

LOOK_S = 1 / 16  # of the door; the clock has it exactly


class Asks:
    """SIGHUP, as ProcessSignals tells of it."""

    asked = False

    def reload_asked(self) -> bool:
        asked, self.asked = self.asked, False
        return asked


class Desk:
    """The owner's files, and the door's settings that are read from them."""

    def __init__(self, path: Path, clock: FakeClock, **text: str) -> None:
        self.path, self.clock, self.signals = path, clock, Asks()
        self.write(**text)
        self.settings = doorpi.make_settings(path, {}, self.signals, clock)

    def write(self, name: str = "before", more: str = "", key: str = '"k"') -> None:
        self.path.write_text(
            f"[door]\nname = '{name}'\n[lock]\nkind = 'sesame-mini'\ndevice_id = '11200000-0000-4000-8000-000000000000'\n"
            f"api_key = {key}\n{more}"
        )

    def start(self) -> Desk:
        self.config = self.settings.load()
        store = doorpi.make_store(self.config)
        self.equipment = doorpi.Equipment(
            sources=doorpi.make_sources(self.config, self.clock),
            locks=doorpi.make_locks(self.config, self.clock),
            people=store.people,
            events=store.events,
            lights={"": FakeLights(self.clock)},
        )
        return self

    def changed(self, within_s: float = 12.0) -> Config | ConfigError | None:
        """What the door finds within so long, by the clock."""
        ends_at = self.clock.t + within_s
        while self.clock.t < ends_at:
            if found := self.settings.changed():
                return found
            self.clock.advance(LOOK_S)
        return None

    def read(self, within_s: float = 12.0) -> str:
        """What comes of the next edit, or of SIGHUP."""
        found = self.changed(within_s)
        if found is None:
            return "nothing"
        if isinstance(found, ConfigError):
            return str(found)
        self.config = found
        differs = self.settings.apply(found, self.equipment)
        return found.door.name if differs else "no change"
