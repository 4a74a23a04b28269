"""What one tap on a locked door comes to, told as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from doorpi import Command, Result
from tests.helpers.world import Taps


@dataclass(frozen=True)
class Story:
    """Switches of the cloud, and what becomes of the tap."""

    result: Result
    seconds: float
    calls: int
    detail: str = ""
    bolt: str = "locked"  # at the end
    command: Command | None = Command.UNLOCK
    script: tuple[object, ...] = ()  # what is answered instead
    fault: str | None = None  # at the command
    switches: Mapping[str, object] = field(default_factory=dict)
    on_unknown: Command | None = None


def play(taps: Taps, story: Story) -> None:
    taps.cloud.script = list(story.script)
    taps.cloud.switch(**story.switches)
    if story.fault:
        taps.cloud.fail(story.fault, at="command")
    began_at = taps.clock.monotonic()

    outcome = taps.tap(story.on_unknown)

    ended = (
        (outcome.command, outcome.result, outcome.detail),
        taps.clock.monotonic() - began_at,
        len(taps.cloud.asked),
        taps.cloud.bolt.place,
    )
    told = (story.command, story.result, story.detail)
    assert ended == (told, story.seconds, story.calls, story.bolt), ended
