"""The fixtures that tests of several folders share, and what every test starts with."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

import doorpi
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.pn532 import Pn532
from tests.fakes.virtual import VirtualField
from tests.helpers.chip import in_own_time, new_chip
from tests.helpers.world import FakeClock, World

# What starts us in the background (`nohup sh tests/run.sh &`, cron) has some signals ignored,
# and so would be all that the tests start, though they are sent SIGINT and SIGHUP.  A
# handler, which does as little, ends at the start of another program.
for _number in signal.valid_signals():
    if signal.getsignal(_number) is signal.SIG_IGN and _number not in (
        signal.SIGPIPE,  # these two are Python's own
        signal.SIGXFSZ,
    ):
        signal.signal(_number, lambda number, frame: None)
signal.pthread_sigmask(signal.SIG_SETMASK, [])

# Nor may a narrow window or a company's proxy change what the tests see.
os.environ["COLUMNS"] = "80"
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]

# The same examples every time: a check must not fail on code that nobody touched.
hypothesis.settings.register_profile("doorpi", derandomize=True, deadline=None)
hypothesis.settings.load_profile("doorpi")
if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:  # pytest by hand, not run.sh
    set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "doorpi-hypothesis")


def pytest_itemcollected(item: pytest.Item) -> None:
    """An address differs between the processes that share the tests."""
    if " at 0x" in item.name:
        raise pytest.UsageError(f"{item.nodeid}: give its parameters ids")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, or at the end one of the processes that
    share the tests is busy and the others have nothing left."""
    slow = ("process", "sources", "online")
    items.sort(key=lambda item: item.path.parent.name not in slow)


@pytest.fixture(autouse=True)
def mask_stays():
    """`main` sets the mask of its process, which here is that of all tests."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> None:
    """A reader that opens collects garbage: not each time among thousands of tests, which
    would take ten times as long as all the rest of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def cloud() -> Iterator[LiveSesameMini]:
    cloud = LiveSesameMini()
    yield cloud
    cloud.close()


@pytest.fixture
def store(folder: Path) -> Iterator[doorpi.SqliteStore]:
    """What the verbs keep whose settings lie in ``folder``, a fixture of the file's."""
    path = folder / "state" / "doorpi.db"
    with contextlib.closing(doorpi.SqliteStore(path)) as store:
        yield store


@pytest.fixture
def radio() -> Iterator[VirtualField]:
    radio = VirtualField()
    yield radio
    radio.close()


@pytest.fixture
def chip(monkeypatch) -> Iterator[Pn532]:
    """A PN532 on a serial port."""
    transport = doorpi._nfcpy().clf.transport
    monkeypatch.setattr(transport.TTY, "read", in_own_time(transport.TTY.read))
    chip = new_chip()
    yield chip
    chip.close()


@pytest.fixture
def powerless() -> Iterator[Path]:
    """A folder of somebody whom file modes hold back, even when the tests are root's."""
    folder = Path(tempfile.mkdtemp(prefix="doorpi-powerless-"))
    is_root, nobody = os.geteuid() == 0, 65534
    if is_root:
        os.chown(folder, nobody, nobody)
        os.setegid(nobody)
        os.seteuid(nobody)
    yield folder
    if is_root:
        os.seteuid(0)
        os.setegid(0)
    for shut in (folder, *folder.glob("*/")):
        shut.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def kept_storage(monkeypatch) -> None:
    """The tests' own folder may be on a tmpfs, which a verb would tell."""
    monkeypatch.setattr(doorpi, "MOUNTS", Path("/dev/null"))


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """The door logs through its own logger; verbs that set logging up are undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
