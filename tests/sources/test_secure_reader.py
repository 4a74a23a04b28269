"""Secure cards before a real reader: nfcpy's PN532 driver on a pty, and its udp driver."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

import doorpi
from doorpi import Reason, Result
from tests.fakes.rogue_cards import copy_of, phone, random_rogue, rogue
from tests.fakes.virtual import VirtualField
from tests.helpers.air import PROOF, kens_card, kens_desfire
from tests.helpers.bench import Bench
from tests.helpers.world import KEN, STRANGER, card_of

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(params=["pn532", "udp"])
def field(request):
    return request.getfixturevalue({"pn532": "chip", "udp": "radio"}[request.param])


@pytest.fixture
def bench_of(request, monkeypatch):
    """A door at a field.  Unless its test is about time, a card is given ten times as
    long: by the clock, for nfcpy's udp driver counts no other time."""
    made = []
    is_patient = not request.node.get_closest_marker("realtime")

    def bench(field, proof: str = "ntag424") -> Bench:
        if is_patient:
            monkeypatch.setattr(doorpi.IsoDep, "most_s", 10.0)
        if is_patient and isinstance(field, VirtualField):
            monkeypatch.setattr(doorpi, "FWT_S", 10 * doorpi.FWT_S)
        doorpi.load_aes()
        cards = card_of(proof=proof), card_of(STRANGER, "Anna")
        made.append(Bench(field.device, cards=cards, proof=PROOF))
        return made[-1]

    yield bench
    for each in made:
        each.reader.close()


def tap(field, bench: Bench, card) -> doorpi.Event:
    before = bench.taps
    field.put(card)
    bench.until(lambda: bench.taps > before and bench.steps.is_idle, "the tap")
    field.take()
    bench.until(bench.has_forgotten_all_cards, "the field is known to be empty")
    return list(bench.store.events.values())[-1]


@pytest.mark.parametrize(
    ("shown", "proof"),
    [(kens_card, "ntag424"), (kens_desfire, "desfire"), (lambda: kens_desfire("EV1"), "desfire")],
    ids=["NTAG 424", "DESFire EV2", "DESFire EV1"],
)  # fmt: skip
def test_card_proves_itself_through_each_reader(field, bench_of, shown, proof):
    bench = bench_of(field, proof)

    for _ in range(2):
        event = tap(field, bench, shown())
        assert (event.reason, event.source) == (Reason.GRANTED, "secure-card")
    assert [command.value for _, command in bench.lock.sent] == ["unlock", "lock"]


COPIES = {
    "an NTAG 213": lambda: copy_of(KEN),
    "a Classic": lambda: copy_of(KEN, "classic"),
    "a blank NTAG 424": lambda: copy_of(KEN, "ntag424"),
    **{
        name: functools.partial(rogue, name, uid=KEN)
        for name in (
            "endless-wait", "endless-chain", "garbled", "silent-from-frame-0",
            "silent-from-frame-3", "empty",
        )
    },
}  # fmt: skip


def test_copies_are_denied_and_the_reader_goes_on(chip, bench_of, monkeypatch):
    monkeypatch.setattr(doorpi.Denials, "same_lines", 99)
    bench = bench_of(chip)
    denied = Reason.NO_PROOF, Reason.WRONG_PROOF, Reason.CARD_MOVED

    for name, copy in COPIES.items():
        assert tap(chip, bench, copy()).reason in denied, name
        assert (bench.lock.sent, bench.is_lost) == ([], False), name

    assert tap(chip, bench, kens_card()).result is Result.UNLOCKED


def test_phone_is_not_activated(chip, bench_of):
    bench = bench_of(chip)
    shown = phone()
    heard: list[bytes] = []
    answer = shown.answer
    shown.answer = lambda frame: heard.append(frame) or answer(frame)

    assert tap(chip, bench, shown).reason is Reason.RANDOM_UID
    assert b"\xe0" not in {frame[:1] for frame in heard}


def test_frame_that_is_lost_on_the_air_is_asked_for_once_more(chip, bench_of):
    bench = bench_of(chip)
    for number in range(4):
        for lost in ("deaf_at", "unheard_at", "garbled_at"):
            shown = kens_card(**{lost: {number}})
            assert tap(chip, bench, shown).reason is Reason.GRANTED, (lost, number)


def test_card_torn_away_at_any_frame_is_denied(chip, bench_of):
    bench = bench_of(chip)
    for frames in range(1, 4):
        shown = kens_card()
        shown.tear(after=frames - 1)
        assert tap(chip, bench, shown).reason is Reason.CARD_MOVED
    assert not bench.is_lost


def test_random_answers_lose_no_reader(chip, bench_of, monkeypatch):
    monkeypatch.setattr(doorpi.Denials, "same_lines", 99)
    bench = bench_of(chip)
    for seed in range(8):
        assert (
            tap(chip, bench, random_rogue(seed, uid=KEN)).reason is not Reason.GRANTED
        )
    assert (bench.lock.sent, bench.is_lost) == ([], False)


@pytest.mark.parametrize(
    ("shown", "proof", "most"),
    [(kens_card, "ntag424", 321), (kens_desfire, "desfire", 317)],
    ids=["NTAG 424", "DESFire EV2"],
)
def test_tap_takes_few_bytes_of_the_serial_line(chip, bench_of, shown, proof, most):
    """The first frame sets the chip up, the others are bare; see `exchange`."""
    bench = bench_of(chip, proof)
    tap(chip, bench, copy_of(STRANGER))
    before = len(chip.traffic)

    assert tap(chip, bench, shown()).reason is Reason.GRANTED

    traffic = list(chip.traffic)[before:]
    names = [name for name, _ in traffic]
    first = names.index("InCommunicateThru") - 3
    last = len(names) - names[::-1].index("InCommunicateThru")
    proof_bytes = sum(size for _, size in traffic[first:last])
    assert names[first:last].count("InCommunicateThru") == 4
    assert proof_bytes <= most


@pytest.mark.realtime
def test_proof_is_decided_within_250_ms_of_a_real_line(chip, bench_of):
    """At 115200 baud, with the time that card and air take."""
    chip.is_timed = True
    bench = bench_of(chip)
    tap(chip, bench, kens_card())

    took = [int(tap(chip, bench, kens_card()).details.split()[2]) for _ in range(5)]

    assert sorted(took)[2] <= 250


LOADED = """
import sys, doorpi
from pathlib import Path
config = doorpi.read_config(Path(sys.argv[1]), {})
print(sum(name.startswith("cryptography") for name in sys.modules))
clock = doorpi.SystemClock()
settings = doorpi.make_settings(Path(sys.argv[1]), {}, doorpi.ProcessSignals(), clock)
door = doorpi.build(settings.load(), settings, {}, clock)
door._keeper.check_conditions()
doorpi.time.sleep(float(sys.argv[2]))
for thread in doorpi.threading.enumerate():
    if thread.name == "aes": thread.join(60)
print(sum(name.startswith("cryptography") for name in sys.modules))
"""


@pytest.mark.parametrize(
    ("proof", "loads"),
    [("", False), ('proof = "ntag424"', True)],
    ids=["UID", "secure"],
)
def test_library_is_loaded_beside_the_door_where_a_secure_card_is_listed(
    tmp_path, proof, loads
):
    path = tmp_path / "doorpi.toml"
    (tmp_path / "door.key").write_text("00112233445566778899aabbccddeeff")
    (tmp_path / "door.key").chmod(0o600)
    path.write_text(
        '[lock]\nkind = "relay"\n[proof]\ndoor_key = { file = "door.key" }\n'
        f'[[card]]\nuid = "{KEN}"\nholder = "Ken"\n{proof}\n'
    )

    root = Path(doorpi.__file__).parent
    said = subprocess.run(
        [sys.executable, "-c", LOADED, str(path), "0"], cwd=root, check=True,
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip

    assert said[0] == "0"
    assert (said[1] != "0") == loads
