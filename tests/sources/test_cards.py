"""All sorts of cards before a real door, on both fields: nfcpy's PN532 driver on a pty, and
its udp driver.  Also how often the door looks for them, and what that costs.
"""

from __future__ import annotations

import statistics
import time

import pytest

from doorpi import LockState, Reason, Signal, pause_s
from tests.fakes.cards import MODELS, card
from tests.helpers.bench import Bench
from tests.helpers.processes import DoorProcess, write_config
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import KEN, STRANGER

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(params=["pn532", "udp"])
def field(request):
    """Where cards are shown: the chip on the pty, or the radio field."""
    return request.getfixturevalue({"pn532": "chip", "udp": "radio"}[request.param])


@pytest.fixture
def bench(field):
    bench = Bench(field.device)
    yield bench
    bench.reader.close()


def events(bench) -> list[tuple[str, Reason]]:
    return [(event.uid, event.reason) for event in bench.store.events.values()]


RANDOM = [model for model, details in MODELS.items() if details.get("random")]


@pytest.mark.parametrize("model", sorted(set(MODELS) - set(RANDOM)))
def test_every_card_is_one_presentation_of_its_uid(field, bench, model):
    """Also those that wait, or chain, for ever: the door asks a card for no more."""
    shown = card(model)
    field.put(shown)

    bench.until(lambda: bench.taps, "the tap")
    bench.pass_time(1.5 * bench.rearm_s)

    assert [uid for uid, _ in events(bench)] == [shown.uid.hex().upper()]
    assert not bench.is_lost


@pytest.mark.parametrize("model", RANDOM)
def test_a_phone_is_denied_once_with_its_own_reason_and_one_red_light(
    field, bench, model
):
    field.put(card(model))

    bench.until(lambda: bench.taps, "the tap")
    bench.pass_time(0.6)

    ((uid, reason),) = events(bench)
    assert (uid[:2], reason) == ("08", Reason.RANDOM_UID)
    assert bench.lights.signals.count(Signal.DENIED) == 1


@pytest.mark.parametrize("model", ["ntag213", "classic"])
def test_a_hasty_hand_of_30_ms_is_enough(field, bench, model):
    field.put(card(model, uid="D3C2B1A0" if model == "classic" else KEN, stays_s=0.03))

    bench.until(lambda: bench.taps, "the tap")

    assert bench.taps == 1


@pytest.mark.parametrize("frames", range(1, 5))
def test_a_card_that_leaves_in_the_middle_is_no_card_and_no_fault(field, bench, frames):
    field.put(card("ntag213", uid=KEN, frames=frames))
    bench.pass_time(0.3)
    nothing = (bench.taps, bench.is_lost)

    field.put(card("ntag213", uid=KEN))
    bench.until(lambda: bench.taps, "the tap")

    assert nothing == (0, False)


def test_two_cards_in_one_wallet_are_two_presentations(field, bench):
    field.in_turn = True  # the chip shows the one that wins the collision, else
    field.put(card("ntag213", uid=KEN), card("ntag213", uid=STRANGER))

    bench.until(lambda: bench.taps == 2, "both")
    bench.pass_time(5 * bench.rearm_s)

    assert sorted(events(bench)) == [(KEN, "granted"), (STRANGER, "not-found")]


class SlowLock:
    """What happens while the lock takes its time."""

    def __init__(self, lock, seconds: float, meanwhile) -> None:
        self._send, self._seconds, self._meanwhile = lock.send, seconds, meanwhile
        lock.send = self.send

    def send(self, *args):
        self._meanwhile()
        time.sleep(self._seconds)
        return self._send(*args)


def test_a_card_that_comes_while_the_door_is_busy_and_stays_is_served_after(
    field, bench
):
    other = card("ntag213", uid=STRANGER)
    SlowLock(bench.lock, 0.3, lambda: field.put(other))
    field.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.taps == 2, "both")

    assert events(bench) == [(KEN, "granted"), (STRANGER, "not-found")]
    assert bench.lights.signals[:3] == [Signal.WORKING, Signal.UNLOCKED, Signal.DENIED]


def test_a_card_that_comes_and_goes_while_the_door_is_busy_changes_no_light(
    field, bench
):
    def come_and_go():
        field.put(card("ntag213", uid=STRANGER))
        time.sleep(0.1)
        field.take()

    SlowLock(bench.lock, 0.1, come_and_go)
    field.put(card("ntag213", uid=KEN))

    bench.until(lambda: bench.lock.state is LockState.UNLOCKED, "the tap")
    bench.pass_time(0.5)

    assert events(bench) == [(KEN, "granted")]
    assert bench.lights.signals[:2] == [Signal.WORKING, Signal.UNLOCKED]


# -- how often, and what it costs


@pytest.mark.parametrize(
    ("cpu_s", "poll_s", "expected_s"),
    [
        (0.0, 0.1, 0.02),  # never back to back
        (0.0005, 0.1, 0.02),
        (0.0015, 0.1, 0.05),  # 3 % of the time
        (0.03, 0.1, 0.1),  # a slow Pi: no later than the owner said
        (0.0, 0.01, 0.01),
    ],
)
def test_the_door_looks_as_often_as_the_processor_allows(cpu_s, poll_s, expected_s):
    assert pause_s(cpu_s, poll_s) == pytest.approx(expected_s)


def cpu_s(pid: int) -> float:
    """Of all its threads, in nanoseconds where /proc counts ticks of 10 ms.  Source:
    clock_getcpuclockid(3); the bits of such a clock: linux/posix-timers.h."""
    return time.clock_gettime(~pid << 3 | 2)


@pytest.mark.realtime
def test_an_idle_door_takes_less_than_5_percent_of_a_core(tmp_path, cloud, chip):
    config = write_config(tmp_path, cloud, chip.device, reader="poll_s = 0.1")
    with DoorProcess(config) as door:
        door.until_ready()
        door.until_idle(chip, polls=20)
        watch, began_cpu_s, began_looks = Stopwatch(), cpu_s(door.pid), chip.polls

        time.sleep(2.0)  # what is measured

        took_s, own_s = watch.wall_s, watch.own_s
        used_s = cpu_s(door.pid) - began_cpu_s
        looks = chip.polls - began_looks
    assert used_s / took_s < 0.05
    # No look is later than this processor lets it be, which is sooner than poll_s.
    assert own_s / looks < pause_s(used_s / looks, 0.1) + used_s / looks + 0.01


@pytest.mark.realtime
def test_a_tap_is_read_within_poll_s_and_one_look(field, bench):
    poll_s, waits_s = 0.1, []
    for number in range(1, 10):  # of ten the reader would rest
        field.put(card("uid-only", uid=f"04000000{number:06X}"))
        waits_s.append(bench.until(lambda n=number: bench.taps == n, "the tap"))

    watch = Stopwatch()
    bench.reader.sense()
    look_s = watch.own_s
    assert statistics.median(waits_s) < poll_s + look_s
