"""Secure cards that misbehave: whatever they say, they are denied in time, and the reader
goes on.  Most are spoken to directly, on a clock that jumps."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc

import pytest

from doorpi import (
    CardSource,
    InlineWorker,
    NoAnswer,
    ProofConfig,
    Prover,
    Reason,
    Secret,
    Uid,
    card_key,
)
from tests.fakes.rogue_cards import (
    ATS,
    ROGUES,
    ats_rogue,
    copy_of,
    random_rogue,
    replaying,
    rogue,
)
from tests.fakes.secure_cards import Air, desfire, foreign_ntag424, ntag424, woken
from tests.helpers.bench import Bench
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.world import FakeClock, card_of

LIMIT_S = 1.2
MASTER = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
UID = "04782E21801D80"
KEY = card_key(MASTER, Uid(UID), "ntag424", 1)
OURS = {"uid": UID, "keys": {1: (KEY, 1)}}
WHO = card_of(Uid(UID), proof="ntag424", generation=1)


class Tap:
    """One presentation of a card, without a reader."""

    def __init__(self, card, who=WHO, master=MASTER, prover=None) -> None:
        self.clock = FakeClock()
        air = self.air = Air(card, self.clock)

        def exchange(frame: bytes, timeout_s: float) -> bytes:
            try:
                return air.exchange(frame, timeout_s)
            except (TimeoutError, ValueError) as error:
                raise NoAnswer(str(error)) from None

        prover = prover or Prover(Secret(master.hex()), self.clock.monotonic)
        began = self.clock.monotonic()
        self.no = prover.prove(who, exchange, lambda: woken(card))
        self.took_s = self.clock.monotonic() - began


def test_an_honest_card_is_proven_by_four_frames():
    tap = Tap(card := ntag424(**OURS))

    assert tap.no is None
    assert len(tap.air.frames) == 4
    assert card.chip.tries == [1]


@pytest.mark.parametrize("model", ["EV1", "EV2", "EV3"])
def test_a_desfire_is_proven_by_four_frames_too(model):
    """An EV1 says once that it knows only the older command."""
    who = card_of(Uid(UID), proof="desfire", generation=7)
    key = card_key(MASTER, Uid(UID), "desfire", 7)
    card = desfire(model, UID, aid="D00D01", keys={1: (key, 7)}, count=2)
    prover = Prover(Secret(MASTER.hex()), lambda: 0.0)

    taps = [Tap(card, who, prover=prover) for _ in range(2)]

    assert [tap.no for tap in taps] == [None, None]
    assert [len(tap.air.frames) for tap in taps] == [5 if model == "EV1" else 4, 4]
    assert card.chip.tries == [1, 1]


def judged(taps: dict[object, Tap]) -> list[object]:
    """Those that were let in, that took too long, or were asked too much."""
    return [
        name
        for name, tap in taps.items()
        if tap.no is None or tap.took_s > LIMIT_S or len(tap.air.frames) > 12
    ]


def challenges(tap: Tap) -> tuple[int, int]:
    """How often the card was asked for one, and how many of its challenges were met."""
    heard = [apdu[1] for apdu in tap.air.card.chip.heard]
    return heard.count(0x71), heard.count(0xAF)


def test_no_rogue_is_proven_and_none_takes_long():
    taps = {name: Tap(rogue(name, **OURS)) for name in ROGUES}

    assert judged(taps) == []
    asked = {name: challenges(tap) for name, tap in taps.items()}
    # One that does not even answer is selected once more.
    assert asked.pop("silent-from-frame-2") == (2, 0)
    assert max(asked.values()) == (1, 1)


def test_behind_any_answer_to_rats_only_an_honest_card_is_proven():
    honest = {name: Tap(ats_rogue(name, **OURS)) for name in ATS}
    silent = {name: Tap(ats_rogue(name, then_silent=True, **OURS)) for name in ATS}

    assert judged(silent) == []
    assert all(tap.took_s <= LIMIT_S for tap in honest.values())
    assert {(tap.no is None, challenges(tap)) for tap in honest.values()} == {
        (True, (1, 1)),
        (False, (0, 0)),  # an authentication that was begun is ended
    }


def test_random_cards_are_denied_and_leave_nothing_behind():
    wrong, sizes = [], []
    for seed in range(1_600):
        if seed == 400:
            tracemalloc.start()  # it makes all of this slow
        if seed in (800, 1_599):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        wrong += judged({seed: Tap(random_rogue(seed, **OURS))})
    tracemalloc.stop()

    assert wrong == []
    assert sizes[1] - sizes[0] < 10_000


# -- copies, and answers that mean something


def test_a_replayed_proof_is_a_wrong_one():
    card = replaying(**OURS)

    assert [Tap(card).no, Tap(card).no] == [None, Reason.WRONG_PROOF]


def of_state(**state) -> object:
    card = ntag424(**OURS)
    for name, value in state.items():
        getattr(card.chip._ring, name)[1] = value
    return card


CARDS = {
    "a blank one with its number": (lambda: copy_of(UID, "ntag424"), Reason.WRONG_PROOF),
    "another's keys": (lambda: foreign_ntag424(UID), Reason.WRONG_PROOF),
    "a number alone": (lambda: copy_of(UID), Reason.NO_PROOF),
    "a number with SAK 20": (lambda: copy_of(UID, "desfire"), Reason.NO_PROOF),
    "a DESFire in its place": (lambda: desfire("EV2", UID), Reason.NO_PROOF),
    "delayed after 50 failures": (lambda: of_state(owed=1), Reason.CARD_LOCKED),
    "dead after 1000": (lambda: of_state(failed=1000), Reason.CARD_LOCKED),
    "switched to LRP": (lambda: ntag424(**OURS, lrp=True), Reason.CARD_LOCKED),
    "silent": (lambda: rogue("silent-from-frame-1", **OURS), Reason.CARD_MOVED),
    "an endless wait": (lambda: rogue("endless-wait", **OURS), Reason.CARD_MOVED),
    "an endless chain": (lambda: rogue("endless-chain", **OURS), Reason.CARD_MOVED),
    "9100 alone": (lambda: rogue("9100-alone", **OURS), Reason.NO_PROOF),
}  # fmt: skip


@pytest.mark.parametrize(("card", "reason"), CARDS.values(), ids=CARDS)
def test_a_card_is_denied_for_what_it_did(card, reason):
    assert Tap(card()).no is reason


def test_a_key_of_another_site_proves_nothing():
    assert Tap(ntag424(**OURS), master=bytes(range(16))).no is Reason.WRONG_PROOF


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("fault", ["deaf_at", "unheard_at", "garbled_at"])
def test_a_frame_that_is_lost_on_the_air_costs_nobody_the_door(fault, number):
    tap = Tap(card := ntag424(**OURS, **{fault: {number}}))

    assert tap.no is None
    assert card.chip.tries == [1]


def test_a_slow_card_that_asks_for_time_is_proven():
    tap = Tap(ntag424(**OURS, waits={0x71: 1, 0xAF: 2}, slow_s=0.02))

    assert tap.no is None


# -- before a real reader; more in test_secure_reader.py


class SecureBench(Bench):
    """A door that has `WHO` on its list, and the key."""

    def __init__(self, device: str) -> None:
        key = ProofConfig(door_key=Secret(MASTER.hex()))
        super().__init__(device, cards=[WHO], proof=key)

    def source(self, config, number=0):
        prover = Prover(config.proof.door_key, self.clock.monotonic)
        return CardSource(
            self.reader,
            config.readers[0],
            self.clock,
            InlineWorker(),
            prove=prover.prove,
        )

    def denies(self, field, card) -> tuple[Reason, float]:
        """The reason for which a card is denied, and the seconds that took once the
        reader had it; by a door that has not denied anybody yet."""
        self.store.events.clear()
        self.steps = self.door(self.config)
        field.put(card)
        watch = Stopwatch()
        self.until(lambda: self.taps, "a denial")
        took_s = watch.own_s
        field.take()
        self.until(self.has_forgotten_all_cards, "the field is known to be empty")
        (event,) = self.store.events.values()
        return event.reason, took_s


ON_THE_AIR = {
    "endless-wait": Reason.CARD_MOVED,
    "endless-chain-of-253": Reason.CARD_MOVED,
    "endless-ack": Reason.NO_PROOF,
    "silent-from-frame-0": Reason.CARD_MOVED,
    "silent-from-frame-3": Reason.CARD_MOVED,
    "empty": Reason.NO_PROOF,
    "garbled": Reason.CARD_MOVED,
    "one-bit-wrong": Reason.WRONG_PROOF,
}


@pytest.mark.realtime
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_reader_goes_on_1200_ms_after_any_rogue(chip):
    bench = SecureBench(chip.device)
    with contextlib.closing(bench.reader):
        denied = {name: bench.denies(chip, rogue(name, **OURS)) for name in ON_THE_AIR}
        chip.put(ntag424(**OURS))
        bench.until(lambda: bench.lock.sent, "the honest card opens")

    assert {name: reason for name, (reason, _) in denied.items()} == ON_THE_AIR
    assert max(took_s for _, took_s in denied.values()) < LIMIT_S
    assert not bench.is_lost
    assert len(bench.lock.sent) == 1


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_of_two_cards_the_other_one_does_not_prove_for_the_first(chip):
    """The copy is lost when it is asked, and the next look finds the genuine card."""
    bench, chip.in_turn = SecureBench(chip.device), True
    lent = ntag424("04000000000001", keys={1: (KEY, 1)})
    with contextlib.closing(bench.reader):
        bench.steps = bench.door(bench.config)
        chip.put(rogue("silent-from-frame-1", **OURS), lent)
        bench.until(lambda: bench.taps == 2, "both are denied")

    assert {event.reason for event in bench.store.events.values()} == {
        Reason.CARD_MOVED,
        Reason.NOT_FOUND,
    }
    assert bench.lock.sent == []
