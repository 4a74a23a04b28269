"""A real door in real time before a chip on a pty, and the faults of that chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from doorpi import (
    Credential,
    LockConfig,
    NfcReader,
    ReaderConfig,
    SystemClock,
    Uid,
)
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import KEN, World, card_of, config_of

RECOVERED_WITHIN_S = 3.0


class RealClock(SystemClock):
    def advance(self, seconds: float) -> None:
        """The fakes take no time."""


class Bench(World):
    """A door on ``chip``, one step after the other."""

    rearm_s = 0.1

    def __init__(
        self,
        device: str,
        reset_gpio: int = -1,
        lock: LockConfig | None = None,
        cards: Sequence[Credential] = (card_of(Uid(KEN)),),
        **tables: object,
    ) -> None:
        super().__init__(clock=RealClock())
        self.reader = NfcReader(device, reset_gpio)
        self.config = replace(
            config_of(*cards),
            readers=(ReaderConfig(device=device, poll_s=0.02, rearm_s=self.rearm_s),),
            lock=lock or LockConfig(),
            **tables,
        )
        self.steps = self.door(self.config)

    def until(self, condition: Callable[[], object], what: str, within_s=10.0) -> float:
        """Let the door work until ``condition``; the seconds that took."""
        watch = Stopwatch()
        while not condition():
            self.steps.step()
            assert not watch.is_past(within_s), f"not within {within_s:g} s: {what}"
        return watch.own_s

    def pass_time(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self.steps.step()

    def has_forgotten_all_cards(self) -> bool:
        """Whether a card that is presented now counts as a new one."""
        (source,) = self.steps._equipment.sources
        return not source.debounce._seen

    @property
    def taps(self) -> int:
        return len(self.store.events)

    @property
    def is_lost(self) -> bool:
        told = [word for word in self.supervisor.said if word.startswith("status")]
        return told[-1:] != ["status: ready"] and bool(told)


# fmt: off
FAULTS = {
    "unplugged":             (lambda chip: chip.hang_up(),        lambda chip: chip.plug_in()),
    "unplugged in a read":   (lambda chip: chip.hang_up(after=1), lambda chip: chip.plug_in()),
    "unplugged in a byte":   (lambda chip: chip.hang_up(after_bytes=9), lambda chip: chip.plug_in()),
    "mute":                  (lambda chip: chip.mute(),           lambda chip: chip.cure()),
    "mute in a read":        (lambda chip: chip.mute(after=2),    lambda chip: chip.cure()),
    "ack only":              (lambda chip: chip.ack_only(),       lambda chip: chip.cure()),
    "noise":                 (lambda chip: chip.garbage(),        lambda chip: chip.cure()),
    "short frames":          (lambda chip: chip.short_answers(),  lambda chip: chip.cure()),
    "error frames":          (lambda chip: chip.error_frames(),   lambda chip: chip.cure()),
}
# fmt: on
