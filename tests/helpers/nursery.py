"""Processes of `doorpi online` that are killed and started again, many times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.helpers.processes import ROOT, environment

#: Forks a process whenever it is told to: nothing has to be imported each time.
SOURCE = """
import os, sys
sys.path.insert(0, {root!r})
import doorpi, http.client, ssl, email.parser
{faster}
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(doorpi.main(["--config", sys.argv[1], "online"]))
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


class Nursery:
    """Processes of `doorpi online`, one after the other; ``faster`` are lines that
    shorten its waits."""

    def __init__(self, config: Path, faster: str) -> None:
        source = SOURCE.format(root=str(ROOT), faster=faster)
        self.stderr = config.with_name("online.txt")
        with self.stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", source, str(config)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                env=environment(), bufsize=0,
            )  # fmt: skip

    def start(self) -> int:
        self._process.stdin.write(b"go\n")
        return int(self._process.stdout.readline())

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        os.kill(pid, number)
        assert self._process.stdout.readline() == b"dead\n"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
