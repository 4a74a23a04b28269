"""Secure cards without radio: blocks of ISO-DEP, keys and the proof, on played frames.

Vectors: NXP AN12196 and AN10922, NXP's SE050 documentation, and public DESFire projects.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

import doorpi
from doorpi import (
    IsoDep,
    NoAnswer,
    NotProven,
    Prover,
    Reason,
    Secret,
    Session,
    Uid,
    authenticate,
    card_key,
)
from tests.helpers.world import card_of

H = bytes.fromhex
MASTER = H("00112233445566778899AABBCCDDEEFF")
UID = Uid("04782E21801D80")
ATS = "06777771028 0".replace(" ", "")
SELECT = "00A4040C07D276000085010100"


class Frames:
    """A card that is played: the frames that must come, and what it answers to each;
    None is silence."""

    def __init__(self, *played: tuple[str, str | None]) -> None:
        self.left = list(played)
        self.waits_s: list[float] = []

    def __call__(self, frame: bytes, timeout_s: float) -> bytes:
        self.waits_s.append(timeout_s)
        wanted, answer = self.left.pop(0)
        assert frame.hex().upper() == wanted.upper()
        if answer is None:
            raise NoAnswer("silence")
        return H(answer)


def activated(*played: tuple[str, str | None], ats: str = ATS) -> tuple[IsoDep, Frames]:
    frames = Frames(("E080", ats), *played)
    isodep = IsoDep(frames, lambda: 0.0)
    isodep.activate()
    return isodep, frames


def commands(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    """Each command and its answer as the blocks that carry them."""
    return [
        (f"{2 | number % 2:02X}{command}", f"{2 | number % 2:02X}{answer}")
        for number, (command, answer) in enumerate(pairs)
    ]


# -- keys


@pytest.mark.parametrize(
    ("proof", "generation", "number", "key"),
    [
        ("ntag424", 1, 1, "B738E0BA681A3B0CFA3B43418B57EB3C"),
        ("desfire", 1, 1, "8B8D2424911D9A93E95E2BEFFBAF1320"),
    ],
)
def test_card_key(proof, generation, number, key):
    assert card_key(MASTER, UID, proof, generation, number) == H(key)


def test_a_card_key_is_that_of_its_published_example(monkeypatch):
    """AN10922, 2.2.1: another application, and another text than "DoorPi"."""
    monkeypatch.setitem(doorpi.APPLICATIONS, "ntag424", H("3042F54E585020416275"))
    message = b"\x01" + H(UID) + doorpi.APPLICATIONS["ntag424"]

    assert doorpi.cmac(MASTER, message) == H("A8DD63A3B89D54B37CA802473FDA9175")


def test_every_part_counts_in_a_card_key():
    keys = {
        card_key(master, Uid(uid), proof, generation, number)
        for master in (MASTER, bytes(range(16)))
        for uid in (UID, "04782E21801D81")
        for proof in doorpi.APPLICATIONS
        for generation in (1, 2)
        for number in (1, 2)
    }
    assert len(keys) == 32


# -- authentication: (name, number, key, our random number, challenge, what we send, answer)

# fmt: off
EV2 = {
    "AN12196 T14, key 0": (
        0, "00" * 16, "13C5DB8A5930439FC3DEF9A4C675360F", "A04C124213C186F22399D33AC2A30215",
        "35C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D",
        "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663",
        "1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7"),
    "AN12196 T19, key 3": (
        3, "00" * 16, "B98F4C50CF1C2E084FD150E33992B048", "B875CEB0E66A6C5CD00898DC371F92D1",
        "FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B1",
        "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A",
        "7A93D6571E4B180FCA6AC90C9A7488D4", "FC4AF159B62E549B5812394CAB1918CC"),
    "AN12343 T16, DESFire Light": (
        0, "00" * 16, "B04D0787C93EE0CC8CACC8E86F16C6FE", "24677DDBD46349E623798FD729006E79",
        "3B50445F21D21D77D500794DEB245E5A754F5F901844259F4C9B31A5C7335ACD",
        "04C6DBD67417ED0D31DDDE4D2E3FFAC2B4B074F638EEF7FFF9254963B65C7759",
        "63DC07286289A7A6C0334CA31C314A04", "774F26743ECE6AF5033B6AE8522946F6"),
}
EV1 = {
    "DESFire EV1, key of zeros": (
        "00" * 16, "F44B26F5686F3A391CD38EBD10772281", "B969FDFE56FD91FC9DE6F6F213B8FD1E",
        "36AAD7DF6E436BA08D18613830A70D5AD43E3D3F4A8D47541EEE623A934E4774",
        "800DB680BC146BD121D6578F2D2E2059"),
    "DESFire EV1, another key": (
        "10182028303840485058606870788088", "40E7D27174CBA675E8EFBAB99C530E3D",
        "B351CB2465D4F33AC627FD6E87A168F2",
        "044B6CAC343A0865895149649CA8DDE1F5AC4EC67BD208900AF02F049E05F0B0",
        "A2EE144B1012FBEB7B2F11132D95A454"),
}
# fmt: on


@pytest.mark.parametrize("name", EV2)
def test_authentication_sends_what_the_vendor_prints(name, monkeypatch):
    number, key, ours, challenge, sent, answer, cipher_key, mac_key = EV2[name]
    monkeypatch.setattr("os.urandom", lambda size: H(ours))
    isodep, frames = activated(*commands(
        (f"9071000002{number:02X}0000", f"{challenge}91AF"),
        (f"90AF000020{sent}00", f"{answer}9100"),
    ))  # fmt: skip

    session = authenticate(isodep, number, H(key))

    assert (session.cipher_key, session.mac_key) == (H(cipher_key), H(mac_key))
    assert (frames.left, isodep.is_challenged) == ([], True)


@pytest.mark.parametrize("name", EV1)
def test_authentication_of_an_old_desfire(name, monkeypatch):
    key, ours, challenge, sent, answer = EV1[name]
    monkeypatch.setattr("os.urandom", lambda size: H(ours))
    isodep, frames = activated(*commands(
        ("90AA0000010000", f"{challenge}91AF"), (f"90AF000020{sent}00", f"{answer}9100"),
    ))  # fmt: skip

    authenticate(isodep, 0, H(key), is_ev1=True)

    assert frames.left == []


@pytest.mark.parametrize("bit", range(0, 128, 7))
def test_proof_is_every_bit_of_our_random_number(bit, monkeypatch):
    """Status 9100 proves nothing."""
    number, key, ours, challenge, sent, answer, *_ = EV2["AN12196 T14, key 0"]
    monkeypatch.setattr("os.urandom", lambda size: H(ours))
    clear = bytearray(doorpi.decrypt(H(key), H(answer)))
    clear[4 + bit // 8] ^= 1 << bit % 8
    forged = doorpi.encrypt(H(key), bytes(clear)).hex()
    isodep, _ = activated(*commands(
        (f"9071000002{number:02X}0000", f"{challenge}91AF"),
        (f"90AF000020{sent}00", f"{forged}9100"),
    ))  # fmt: skip

    with pytest.raises(NotProven) as refused:
        authenticate(isodep, number, H(key))

    assert refused.value.reason is Reason.WRONG_PROOF


# -- sessions


def test_session_enciphers_and_signs_as_the_vendor_prints():
    """AN12196, T18 (ChangeFileSettings), the second command of its session."""
    isodep, _ = activated(*commands(
        ("905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0400",
         "57BFF87B1241E93D9100"),
    ))  # fmt: skip
    session = session_of(isodep, "1309C877509E5A215007FF0ED19CA564",
                         "4C6626F5E72EA694202139295C7A7FC7", "9D00C4DF", 1)  # fmt: skip

    data = H("4000E0C1F121200000430000430000")

    assert session.command(0x5F, b"\x02", data, is_full=True) == b""
    assert session.counter == 2


#: AN12196, T28: the keys, the TI and the counter; the command and its answer.
GET_CARD_UID = (
    ("2B4D963C014DC36F24F69A50A394F875", "379D32130CE61705DD5FD8C36B95D764", "DF055522", 0),
    ("90510000088E2C155ADDA99BE300", "70756055688505B52A5E26E59E329CD6595F672298EA41B79100"),
)  # fmt: skip


def test_session_deciphers_what_it_is_answered():
    keys, played = GET_CARD_UID
    isodep, _ = activated(*commands(played))
    session = session_of(isodep, *keys)

    assert session.command(0x51, is_full=True) == H("04958CAA5C5E80")


def session_of(
    isodep: IsoDep, cipher_key: str, mac_key: str, name: str, counter: int
) -> Session:
    session = Session(isodep, bytes(16), bytes(16), bytes(16), H(name))
    session.cipher_key, session.mac_key = H(cipher_key), H(mac_key)
    session.counter = counter
    return session


@pytest.mark.parametrize("bit", [0, 77, 130, 191])
def test_session_ends_with_a_wrong_mac(bit):
    answer = bytearray(H(GET_CARD_UID[1][1]))
    answer[bit // 8] ^= 1 << bit % 8
    isodep, _ = activated(*commands((GET_CARD_UID[1][0], f"{answer.hex()}")))
    session = session_of(isodep, *GET_CARD_UID[0])

    with pytest.raises(NotProven):
        session.command(0x51, is_full=True)


def test_change_of_the_proven_key_has_no_mac():
    """AN12196, T25 and T26 (ChangeKey 2, then 0), in one session."""
    first = (
        "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E600",
        "203BB55D1089D5879100",
    )
    last = (
        "90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BDED643200",
        "9100",
    )
    isodep, frames = activated(*commands(first, last))
    keys = "4CF3CB41A22583A61E89B158D252FC53", "5529860B2FC5FB6154B7F28361D30BF9"
    session = session_of(isodep, *keys, "7614281A", 2)

    new = H("F3847D627727ED3BC9C4CC050489B966" + "01" + "789DFADC")
    assert session.command(0xC4, b"\x02", new, is_full=True) == b""
    new = H("5004BF991F408672B1EF00F08F9E8647" + "01")
    assert session.command(0xC4, b"\x00", new, is_full=True, ends=True) == b""
    assert frames.left == []


# -- blocks


def test_answer_in_parts_is_put_together():
    isodep, frames = activated(("0260", "12AABB"), ("A3", "13CC"), ("A2", "02DD"))

    assert isodep.send(b"\x60") == H("AABBCCDD")
    assert frames.left == []


def test_card_may_ask_for_more_time():
    isodep, frames = activated(("0260", "F203"), ("F203", "F23B"), ("F23B", "02AA"))

    assert isodep.send(b"\x60") == b"\xaa"
    fwt_s = pytest.approx(0.03866, abs=0.0001)
    assert frames.waits_s == [0.1, fwt_s, pytest.approx(0.116, abs=0.001), 0.3]


LOST = {
    "the answer": [("0260", None), ("B2", "02AA")],
    "the command": [("0260", None), ("B2", "A3"), ("0260", "02AA")],
    "a later part": [("0260", "12"), ("A3", None), ("A3", "03AA")],
    "a request for time": [("0260", None), ("B2", "F201"), ("F201", "02AA")],
}


@pytest.mark.parametrize("what", LOST)
def test_frame_without_an_answer_is_asked_for_once_more(what):
    isodep, frames = activated(*LOST[what])

    assert isodep.send(b"\x60") == b"\xaa"
    assert frames.left == []


# fmt: off
ROGUES = {
    "silence":                ([("0260", None), ("B2", None)],                Reason.CARD_MOVED),
    "silence in parts":       ([("0260", "12"), ("A3", None), ("A3", None)],  Reason.CARD_MOVED),
    "more time, for ever":    ([("0260", "F201"), *[("F201", "F201")] * 9],   Reason.CARD_MOVED),
    "time without a number":  ([("0260", "F2")],                              Reason.NO_PROOF),
    "no time":                ([("0260", "F200")],                            Reason.NO_PROOF),
    "too much time":          ([("0260", "F23C")],                            Reason.NO_PROOF),
    "another number":         ([("0260", "03AA")],                            Reason.NO_PROOF),
    "acknowledged":           ([("0260", "A2")],                              Reason.NO_PROOF),
    "unasked R(ACK)":         ([("0260", "A3")],                              Reason.NO_PROOF),
    "nothing in the frame":   ([("0260", "")],                                Reason.NO_PROOF),
    "a CID":                  ([("0260", "0A00AA")],                          Reason.NO_PROOF),
    "deselected":             ([("0260", "C2")],                              Reason.NO_PROOF),
}
# fmt: on


@pytest.mark.parametrize("case", ROGUES)
def test_card_that_breaks_the_rules_is_given_up(case):
    played, reason = ROGUES[case]
    isodep, _ = activated(*played)

    with pytest.raises(NotProven) as given_up:
        isodep.send(b"\x60")

    assert given_up.value.reason is reason


@pytest.mark.parametrize(
    "says",
    [lambda frame: b"\xf2\x01", lambda frame: bytes([0x12 | frame[0] & 1]) + bytes(9),
     lambda frame: bytes([0x12 | frame[0] & 1]) + bytes(250),
     lambda frame: bytes([0xA2 | frame[0] & 1 ^ 1])],
    ids=["time", "parts", "long parts", "acknowledgements"],
)  # fmt: skip
def test_endless_card_gets_twelve_frames_at_most(says):
    frames: list[bytes] = []

    def exchange(frame: bytes, timeout_s: float) -> bytes:
        frames.append(frame)
        return H(ATS) if frame == b"\xe0\x80" else says(frame)

    isodep = IsoDep(exchange, lambda: 0.0)
    isodep.activate()
    with pytest.raises(NotProven):
        isodep.send(b"\x60")

    assert len(frames) <= 12


def test_slow_card_gets_a_second_in_all():
    now = [0.0]

    def exchange(frame: bytes, timeout_s: float) -> bytes:
        now[0] += timeout_s
        return (
            H("06777F8102 80".replace(" ", "")) if frame == b"\xe0\x80" else b"\xf2\x3b"
        )

    isodep = IsoDep(exchange, lambda: now[0])
    isodep.activate()
    with pytest.raises(NotProven):
        isodep.send(b"\x60")

    assert now[0] <= 1.0


def test_answer_to_select_says_its_length_and_takes_frames_of_64_bytes():
    def no(ats: bytes) -> Reason | None:
        try:
            IsoDep(lambda frame, timeout_s: ats, lambda: 0.0).activate()
        except NotProven as error:
            return error.reason
        return None

    for size in range(300):
        for told in {0, 1, size & 0xFF, 255}:
            ats = (bytes([told, 0x75]) + bytes(300))[:size]
            is_right = size > 1 and told == size
            assert no(ats) is (None if is_right else Reason.NO_PROOF), ats
    sizes = [frame for frame in range(16) if no(bytes([2, frame])) is None]
    assert sizes == [*range(5, 16)]


# -- the whole proof


def proof_of(
    exchange: Callable[[bytes, float], bytes],
    proof: str = "ntag424",
    there: Sequence[bool] = (),
    prover: Prover | None = None,
) -> Reason | None:
    prover = prover or Prover(Secret(text=MASTER.hex()), lambda: 0.0)
    still = list(there)
    who = card_of(UID, "Ken Sato", proof=proof)
    return prover.prove(who, exchange, lambda: still.pop(0))


class Played:
    """A card that gives these ``answers``, in turn, and finally proves that it has its
    key.  None is silence; it knows nothing of block numbers but to give them back."""

    def __init__(self, *answers: bytes | None, is_ev1: bool = False) -> None:
        self.left, self.is_ev1 = list(answers), is_ev1
        self.frames: list[bytes] = []
        self.key = card_key(MASTER, UID, "desfire" if is_ev1 else "ntag424", 1)
        self.challenge = doorpi.encrypt(self.key, bytes(range(16)))

    def __call__(self, frame: bytes, timeout_s: float) -> bytes:
        self.frames.append(frame)
        if not self.left:
            return H(ATS) if frame[0] == 0xE0 else frame[:1] + self._says(frame)
        if (answer := self.left.pop(0)) is None:
            raise NoAnswer("silence")
        return answer

    def _says(self, frame: bytes) -> bytes:
        code = frame[2]
        if code in (0xA4, 0x5A):
            return b"\x90\x00" if code == 0xA4 else b"\x91\x00"
        if code != 0xAF:
            is_known = code == (0xAA if self.is_ev1 else 0x71)
            return self.challenge + b"\x91\xaf" if is_known else b"\x91\x1c"
        sent, iv = frame[6:38], self.challenge if self.is_ev1 else bytes(16)
        ours = doorpi.decrypt(self.key, sent, iv)[:16]
        turned = ours[1:] + ours[:1]
        clear = turned if self.is_ev1 else b"TI.." + turned + bytes(12)
        iv = sent[-16:] if self.is_ev1 else bytes(16)
        return doorpi.encrypt(self.key, clear, iv) + b"\x91\x00"


def test_proof_takes_four_frames():
    card = Played()

    assert proof_of(card) is None
    assert [frame.hex()[:4] for frame in card.frames] == [
        "e080",
        "0200",
        "0390",
        "0290",
    ]
    assert max(map(len, card.frames)) == 39


def test_old_desfire_takes_five_frames_once_and_then_four():
    prover, sizes = Prover(Secret(text=MASTER.hex()), lambda: 0.0), []
    for _ in range(2):
        card = Played(is_ev1=True)
        assert proof_of(card, "desfire", prover=prover) is None
        sizes.append(len(card.frames))

    assert sizes == [5, 4]


I2, I3 = b"\x02", b"\x03"
CHOSEN = [H(ATS), I2 + b"\x90\x00"]
CHALLENGED = [*CHOSEN, I3 + bytes(16) + b"\x91\xaf"]
# fmt: off
DENIED = {
    "no such application":     ([H(ATS), I2 + b"\x6a\x82"],             Reason.NO_PROOF),
    "no ISO-DEP in the ATS":   ([b"\x05\x78"],                         Reason.NO_PROOF),
    "no such key":             ([*CHOSEN, I3 + b"\x91\x40"],           Reason.NO_PROOF),
    "a delay":                 ([*CHOSEN, I3 + b"\x91\xad"],           Reason.CARD_LOCKED),
    "a dead key":              ([*CHOSEN, I3 + b"\x91\x9d"],           Reason.CARD_LOCKED),
    "a short challenge":       ([*CHOSEN, I3 + bytes(15) + b"\x91\xaf"], Reason.NO_PROOF),
    "an ISO status":           ([*CHOSEN, I3 + b"\x69\x82"],           Reason.NO_PROOF),
    "no status":               ([*CHOSEN, I3],                         Reason.NO_PROOF),
    "another key":             ([*CHALLENGED, I2 + b"\x91\xae"],       Reason.WRONG_PROOF),
    "nothing, and all is well": ([*CHALLENGED, I2 + b"\x91\x00"],      Reason.WRONG_PROOF),
    "anything, and all is well": ([*CHALLENGED, I2 + bytes(32) + b"\x91\x00"], Reason.WRONG_PROOF),
    "a longer answer":         ([*CHALLENGED, I2 + bytes(48) + b"\x91\x00"], Reason.WRONG_PROOF),
    "aborted":                 ([*CHALLENGED, I2 + b"\x91\xca"],       Reason.NO_PROOF),
    "old, in the second part": ([*CHALLENGED, I2 + b"\x91\x1c"],       Reason.NO_PROOF),
    "silence at the end":      ([*CHALLENGED, None, None],             Reason.CARD_MOVED),
}
# fmt: on


@pytest.mark.parametrize("proof", ["ntag424", "desfire"])
@pytest.mark.parametrize("case", DENIED)
def test_card_that_does_not_prove_itself(case, proof):
    answers, reason = DENIED[case]
    if proof == "desfire":
        answers = [a and a.replace(b"\x90\x00", b"\x91\x00") for a in answers]
    card = Played(*answers)

    assert proof_of(card, proof) is reason
    begun = [frame for frame in card.frames if frame[2:3] in (b"\x71", b"\xaa")]
    assert len(begun) <= 1


@pytest.mark.parametrize("lost_at", [0, 1, 2])
def test_card_that_was_lost_before_its_challenge_is_selected_once_again(lost_at):
    before = [*CHOSEN][:lost_at]
    silence = [None] if lost_at == 0 else [None, None]

    card = Played(*before, *silence)
    assert proof_of(card, there=[True]) is None
    assert [frame[0] for frame in card.frames].count(0xE0) == 2

    card = Played(*before, *silence)
    assert proof_of(card, there=[False]) is Reason.CARD_MOVED


def test_unknown_command_is_the_end_of_an_ntag():
    card = Played(*CHOSEN, I3 + b"\x91\x1c")

    assert proof_of(card) is Reason.NO_PROOF


def test_card_that_was_challenged_is_not_asked_again():
    card = Played(*CHALLENGED, None, None)

    assert proof_of(card, there=[]) is Reason.CARD_MOVED


def test_no_key_and_no_library_prove_nothing(monkeypatch, caplog):
    keyless = Prover(Secret(), lambda: 0.0)
    assert proof_of(Played(), prover=keyless) is Reason.PROOF_UNAVAILABLE

    card = Played()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    assert proof_of(card) is Reason.PROOF_UNAVAILABLE
    assert "cryptography" in caplog.messages[-1]


def test_ten_thousand_random_answers_prove_nothing():
    chance = doorpi.random.Random(424)
    statuses = [b"\x91\x00", b"\x91\xaf", b"\x90\x00", b""]
    for _ in range(10_000):

        def says(frame: bytes, timeout_s: float) -> bytes:
            if frame[0] == 0xE0 and chance.random() < 0.9:
                return H(ATS)
            head = bytes([frame[0] if chance.random() < 0.9 else chance.randrange(256)])
            size = chance.choice([0, 1, 16, 32, chance.randrange(260)])
            return (
                head * (chance.random() < 0.99)
                + chance.randbytes(size)
                + chance.choice(statuses)
            )

        proof = chance.choice(["ntag424", "desfire"])
        assert proof_of(says, proof, there=[True]) in (
            Reason.NO_PROOF, Reason.WRONG_PROOF, Reason.CARD_MOVED, Reason.CARD_LOCKED,
        )  # fmt: skip
