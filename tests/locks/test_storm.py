"""A short storm in every run, and that its checks can fail; tests/tools/storm.py is the long one."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from doorpi import (
    Command,
    LockState,
    LockStatus,
    NotSent,
    Progress,
    Rejected,
    Sesame,
    SqliteEvents,
    SqliteStore,
)
from tests.fakes.locks import DRIVERS, driver_of
from tests.helpers.values import replace
from tests.tools.storm import (
    MISLEADING,
    REDATED,
    CloudStorm,
    Dice,
    RelayStorm,
    SeedStorm,
    Weather,
    storm_of,
)

TAPS = 40
FAULTY, TRANSIENT = Weather(7, False, 0.5), Weather(7, True, 1.0)
FAIR = Weather(5, False, 0.0)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL")


# -- the storm


@pytest.mark.parametrize("kind", [*DRIVERS, "relay"])
def test_in_all_faults_nothing_that_must_hold_is_violated(kind, tmp_path):
    figures = storm_of(kind, FAULTY, tmp_path).run(TAPS)

    assert figures.violations == []
    assert figures.faults > 15


@pytest.mark.parametrize("kind", DRIVERS)
def test_what_must_heal_heals_and_misleads_nobody(kind, tmp_path):
    """One fault in every tap."""
    figures = storm_of(kind, TRANSIENT, tmp_path).run(TAPS)

    assert figures.violations == figures.misled == figures.unwanted == []
    assert figures.faults > 0.9 * TAPS


def test_the_same_seed_plays_the_same_storm(tmp_path):
    weather = replace(FAULTY, share=1.0)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()

    one = storm_of("sesame-mini", weather, tmp_path / "one").run(20)
    other = storm_of("sesame-mini", weather, tmp_path / "other").run(20)

    assert one == other


def test_under_the_same_storm_the_seeds_light_lies():
    figures = SeedStorm(FAULTY).run(TAPS)

    assert figures.lied["success"] > 0


def test_the_seed_does_not_heal_what_must_heal():
    figures = SeedStorm(TRANSIENT).run(TAPS)

    assert figures.taps - figures.as_wanted > 10


# -- what no driver can know


@pytest.mark.parametrize("kind", DRIVERS)
def test_what_may_mislead_is_never_called_transient(kind):
    faults = DRIVERS[kind].faults

    for name in (*MISLEADING.get(kind, ()), *REDATED.get(kind, ())):
        assert faults[name].transient_at == ()


class AlwaysStale(Dice):
    """The first question after each command is answered with what was an hour ago."""

    def faults(self, known):
        return [("stale", "confirm", 1)]


@pytest.mark.parametrize("kind", ["sesame", "nuki-web"])
def test_an_old_date_confirms_nothing(kind, tmp_path):
    undated_anew = replace(FAIR, only_transient=True)

    figures = CloudStorm(kind, undated_anew, tmp_path, make_dice=AlwaysStale).run(30)

    assert figures.violations == figures.misled == figures.unwanted == []


# -- that the checks can fail


class SentTwice(Sesame):
    def send(self, command, send_by, by):
        super().send(command, send_by, by)
        return super().send(command, send_by, by)


class SentLate(Sesame):
    def send(self, command, send_by, by):
        self._clock.sleep(11.0)
        return super().send(command, send_by + 60.0, by + 60.0)


class NotAsked(Sesame):
    def confirm(self, sent, by):
        return Progress.DONE


class Guessed(Sesame):
    def status(self, by):
        return LockStatus(state=LockState.LOCKED, as_of=1.0)


class Toggled(Sesame):
    commands = dict.fromkeys(Command, 88)


class BothSent(Sesame):
    def send(self, command, send_by, by):
        for each in Command:
            super().send(each, send_by, by)


class ToldWrongly(Sesame):
    def send(self, command, send_by, by):
        super().send(command, send_by, by)
        raise Rejected("it said no")


class SentAgainBlindly(Sesame):
    """Takes what may have been sent for what surely was not."""

    def send(self, command, send_by, by):
        super().send(command, send_by, by)
        raise NotSent("the answer is lost")


class Endless(Sesame):
    def confirm(self, sent, by):
        self._clock.sleep(60.0)
        return Progress.PENDING


class Leaking(Sesame):
    left: list[int] = []  # noqa: RUF012

    def close(self):
        self.left += os.pipe()
        super().close()


# fmt: off
BROKEN_DRIVERS = {
    SentTwice:        "sent twice, and nothing showed that the first had no effect",
    SentAgainBlindly: "sent twice, and nothing showed that the first had no effect",
    SentLate:         "an unlock left 11.0 s after the card",
    NotAsked:         "the light said locked, the bolt was locking",
    Guessed:          "a command without a status before it",
    Toggled:          "neither question nor command: ",
    BothSent:         "two different commands",
    ToldWrongly:      "refused, and a command took effect",
    Endless:          "the tap took 123.0 s, and may take 46.1",
    Leaking:          "threads and descriptors: ",
}
# fmt: on


class Polite(Sesame):
    """Ends a connection that it gives up as everybody does."""

    def send(self, command, send_by, by):
        take = self._api.dialer.take

        def politely(*args, **kwargs):
            taken = take(*args, **kwargs)
            linger = struct.pack("ii", 0, 0)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return taken

        self._api.dialer.take = politely
        return super().send(command, send_by, by)


class Swallowed(Dice):
    def faults(self, known):
        return [("silent", "command", 1)]


def test_a_command_that_the_network_delivers_late_is_found_out(tmp_path):
    storm = CloudStorm(
        "sesame", FAIR, tmp_path, make_dice=Swallowed,
        driver=lambda cloud: driver_of(cloud, Polite),
    )  # fmt: skip

    figures = storm.run(4)  # what is closed with bytes unread is reset all the same

    told = "delivered 25.0 s after the card"
    assert [each for each in figures.violations if told in each] != []


@pytest.mark.parametrize(("driver", "words"), BROKEN_DRIVERS.items())
def test_a_driver_that_breaks_its_word_is_found_out(driver, words, tmp_path):
    def make(cloud):
        return driver_of(cloud, driver)

    storm = CloudStorm("sesame", FAIR, tmp_path, driver=make)
    storm.tidied_up_s = 0.5
    figures = storm.run(3)

    told = [each for each in figures.violations if words in each]
    assert told, figures.violations
    assert told[0].startswith("--seed 5 --share 0 --kinds sesame, all faults, ")
    for fd in Leaking.left:
        os.close(fd)
    Leaking.left.clear()


class Unfinished(SqliteEvents):
    def finish(self, event, notes=None):
        """Nothing."""


class Doubled(SqliteEvents):
    def begin(self, event, notes=None):
        super().begin(event)
        return super().begin(event)


class Tampered(SqliteEvents):
    def close(self):
        self._connection().execute("UPDATE events SET holder = 'Nobody' WHERE id = 2")
        super().close()


# fmt: off
BROKEN_STORES = {
    Unfinished: ["tap 1: an event without outcome: locked -> no result", "at the end: events without outcome"],
    Doubled:    ["tap 1: 2 events: ", "at the end: 6 events of 3 taps"],
    Tampered:   ["at the end: the log is not whole: "],
}
# fmt: on


@pytest.mark.parametrize(("events", "words"), BROKEN_STORES.items())
def test_events_without_their_outcome_are_found_out(events, words, tmp_path):
    def make_store(path):
        store = SqliteStore(path)
        store.events.__class__ = events
        return store

    figures = CloudStorm("sesame", FAIR, tmp_path, make_store=make_store).run(3)

    for expected in words:
        assert any(expected in told for told in figures.violations), figures.violations


def test_a_strike_that_does_not_open_is_found_out(tmp_path):
    storm = RelayStorm("relay", FAIR, tmp_path)
    storm.lock.send = lambda command, send_by, by: None

    figures = storm.run(2)

    assert figures.violations == [
        f"--seed 5 --share 0 --kinds relay, all faults, tap {number}: the light said"
        " unlocked, the bolt was locked: locked -> unlocked []"
        for number in (1, 2)
    ]


def test_fair_weather_is_without_a_fault(tmp_path):
    figures = CloudStorm("tedee", FAIR, tmp_path).run(20)

    assert figures.violations == figures.misled == figures.unwanted == []
    assert (figures.taps, figures.faults, figures.sent) == (20, 0, 20)
