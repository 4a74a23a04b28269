"""Time as it passes for us: without what the machine gave to others meanwhile.

A promise such as "ends within 2 s" is about our program.  On a busy machine the wall
clock also counts how long our threads were ready to run and no processor was free for
them.  The kernel counts exactly that, thread by thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Runs from its making; of this process and of all that it has started."""

    def __init__(self) -> None:
        self._before_ns = dict(_held_up_ns(os.getpid()))
        self._latest_ns = dict(self._before_ns)  # also of threads that have ended
        self._began_at = time.monotonic()

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._began_at

    @property
    def held_up_s(self) -> float:
        """How long our threads waited for a processor, all together."""
        for tid, ns in _held_up_ns(os.getpid()):
            self._latest_ns[tid] = max(ns, self._latest_ns.get(tid, 0))
        return (sum(self._latest_ns.values()) - sum(self._before_ns.values())) / 1e9

    @property
    def own_s(self) -> float:
        """What our promises are about: never more than the wall clock says."""
        wall_s = self.wall_s
        return max(0.0, wall_s - self.held_up_s)

    def is_past(self, seconds: float) -> bool:
        """The kernel is asked only where the wall clock says so."""
        return self.wall_s > seconds and self.own_s > seconds


def thread_held_up_s() -> float:
    """How long the thread that asks has waited for a processor, in all its life."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _held_up_ns(pid: int) -> Iterator[tuple[int, int]]:
    """The threads of a process and of those it started; a zombie has its first one.

    Source: Documentation/scheduler/sched-stats.rst on /proc/<pid>/schedstat: the second
    number is the time on a run queue.  A kernel that does not count is taken for idle.
    """
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield int(task.name), int((task / "schedstat").read_text().split()[1])
                for child in (task / "children").read_text().split():
                    yield from _held_up_ns(int(child))
