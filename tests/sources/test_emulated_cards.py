"""The emulated secure cards: published transcripts, statuses, counters, blocks, and how they
leave.  What the door makes of them is tested elsewhere."""

from __future__ import annotations

import contextlib
import os
import random
import time

import pytest

from doorpi import Card, NfcReader, Uid
from tests.fakes.rogue_cards import (
    ATS,
    ROGUES,
    ats_rogue,
    random_rogue,
    replaying,
    rogue,
)
from tests.fakes.secure_cards import (
    FULL,
    NTAG_ATS,
    ZERO,
    Air,
    cmac,
    crc,
    decrypted,
    desfire,
    encrypted,
    fixed,
    foreign_ntag424,
    ntag424,
    rotated,
    session_keys,
    woken,
    xor,
)

SELECT = "00A4040C07D276000085010100"
KEY = bytes.fromhex("000102030405060708090A0B0C0D0E0F")

# -- transcripts, in the card's direction: its random numbers are those of the time

T17 = (
    "421C73A27D827658AF481FDFF20A5025B559D0E3AA21E58D347F343CFFC768BFE596C706BC00F2176781D4B0242642A0"
    "FF5A42C461AAF894D9A1284B8C76BCFA658ACD40555D362E08DB15CF421B51283F9064BCBE20E96CAE545B407C9D651A"
    "3315B27373772E5DA2367D2064AE054AF996C6F1F669170FA88CE8C4E3A4A7BBBEF0FD971FF532C3A802AF745660F2B4"
)
AN12196_TO_18 = f"""
{SELECT} -> 9000
9071000002000000 -> A04C124213C186F22399D33AC2A3021591AF
90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00 -> 3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F081206639100
908D00009F02000000800000{T17}D1D9A8499661EBF300 -> FC222E5F7A5424529100
905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0400 -> 57BFF87B1241E93D9100
"""
AN12196_19_TO_26 = f"""
{SELECT} -> 9000
9071000002030000 -> B875CEB0E66A6C5CD00898DC371F92D191AF
90AF000020FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B100 -> 0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A9100
908D00001F030000000A00006B5E6804909962FC4E3FF5522CF0F8436C0C53315B9C73AA00 -> C26D236E4A7C046D9100
90770000010000 -> A6A2B3C572D06C097BB8DB70463E22DC91AF
90AF000020BE7D45753F2CAB85F34BC60CE58B940763FE969658A532DF6D95EA2773F6E99100 -> B888349C24B315EAB5B589E279C8263E9100
908D000019010E0000120000FF0506E1050080828300000000000000000000 -> 9100
90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E600 -> 203BB55D1089D5879100
90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BDED643200 -> 9100
"""
REAL_DESFIRE_EV2 = """
905A00000311223300 -> 9100
9071000008000600000000000000 -> 3558483C6254DE34F57803241453137C91AF
90AF0000201B45779164D257B5204095FD40B8D8D474C4515D5FA4072C0D6F8F6BEF154F6200 -> 784A85D04A30F5B448B6EC981FF84362BE6EB9032C24EF195DA4952BD8B7C68A9100
90770000010000 -> 505C0C05507DBC3A8E6B6C88B1E2A5B091AF
90AF00002011F3C6A444EFA1852F37AF648F6F51126EBDE7B55BE6B1389A4F7DA78F65402000 -> 19D9C9E84E52DE9EC54102C7806876A19100
9051000008D849E75EF09B7A0F00 -> B01F31B19154B6144272B7CDBA24136663CFD9A4F01BB4009100
"""
DESFIRE_EV1 = """
905A00000311223300 -> 9100
90AA0000010000 -> B969FDFE56FD91FC9DE6F6F213B8FD1E91AF
90AF00002036AAD7DF6E436BA08D18613830A70D5AD43E3D3F4A8D47541EEE623A934E477400 -> 800DB680BC146BD121D6578F2D2E20599100
90C400002100E9F85E219496C2B58C1090DC3935FAE9E840CF61B383D9531946256B1F110C1000 -> 9100
"""


def spoken(hexadecimal: str) -> bytes:
    return decrypted(ZERO, bytes.fromhex(hexadecimal))


def ntag_of_table_17():
    """The note writes a file in Full that a factory card takes plainly."""
    card = ntag424(chance=fixed("B9E2FC789B64BF237CCCAA20EC7E6E48", "9D00C4DF"))
    file = card.chip.files[2]
    file.mode, file.rights = FULL, (0xE, 0x0, 0x0, 0x0)
    return card


def ntag_of_table_19():
    numbers = (
        "91517975190DCEA6104948EFA3085C1B",
        "7614281A",
        "6924E8D09722659A2E7DEC68E66312B8",
    )
    return ntag424(chance=fixed(*numbers))


def ev2_of_2022():
    challenges = (
        "3558483C6254DE34F57803241453137C",
        "505C0C05507DBC3A8E6B6C88B1E2A5B0",
    )
    first, second = (spoken(challenge).hex() for challenge in challenges)
    chance = fixed(first, "95E5185D", second)
    return desfire(
        "EV2", "044040424D4D80", aid="112233", chance=chance, random_uid=True
    )


def ev1():
    chance = fixed("C05DDD714FD788A6B7B754F3C4D066E8")
    return desfire("EV1", aid="112233", chance=chance)


TRANSCRIPTS = {
    "A": (ntag_of_table_17, AN12196_TO_18),
    "B": (ntag_of_table_19, AN12196_19_TO_26),
    "C": (ev2_of_2022, REAL_DESFIRE_EV2),
    "D": (ev1, DESFIRE_EV1),
}


@pytest.mark.parametrize(("card", "text"), TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_a_published_transcript_is_answered_byte_for_byte(card, text):
    chip = card().chip
    lines = [line.split(" -> ") for line in text.strip().splitlines()]

    answers = [chip.command(bytes.fromhex(said)).hex().upper() for said, _ in lines]

    assert answers == [heard for _, heard in lines]


def test_what_the_transcripts_wrote_is_on_the_cards():
    kept = []
    for card, text in TRANSCRIPTS.values():
        chip = card().chip
        for line in text.strip().splitlines():
            chip.command(bytes.fromhex(line.split()[0]))
        kept.append(chip)
    a, b, _, d = kept

    assert a.files[2].data[:14].hex() == "0051d1014d550463686f6f73652e"
    assert a.files[2].rights == (0xE, 0, 0, 0)
    assert a.files[2].sdm.hex() == "c1f121200000430000430000"
    assert b.files[3].data[:10] == bytes(range(1, 11))
    assert b._ring.keys[2].hex().upper() == "F3847D627727ED3BC9C4CC050489B966"
    assert b._ring.keys[0].hex().upper() == "5004BF991F408672B1EF00F08F9E8647"
    assert b._ring.versions == [1, 0, 1, 0, 0]
    ring = d.applications[bytes.fromhex("112233")]
    assert ring.keys[0].hex().upper() == "00102030405060708090A0B0B0A09080"
    assert ring.versions == [0x10]


# -- by a reader of the test's own


class Client:
    """Speaks to a chip as AN12196 has it."""

    def __init__(self, chip) -> None:
        self.chip = chip

    def say(self, code: int, data: bytes = b"") -> tuple[bytes, str]:
        size = bytes([len(data)]) if data else b""
        answer = self.chip.command(bytes([0x90, code, 0, 0]) + size + data + b"\0")
        return answer[:-2], answer[-2:].hex()

    def authenticate(self, number: int, key: bytes, *, rnd_b_is=rotated) -> str:
        challenge, status = self.say(0x71, bytes([number, 0]))
        if status != "91af":
            return status
        rnd_a, rnd_b = bytes(range(16)), decrypted(key, challenge)
        proof, status = self.say(0xAF, encrypted(key, rnd_a + rnd_b_is(rnd_b)))
        if status == "9100":
            clear = decrypted(key, proof)
            assert clear[4:20] == rotated(rnd_a)
            self.ti, self.counter = clear[:4], 0
            self.enc, self.mac = session_keys(key, rnd_a, rnd_b)
        return status

    def sealed(self, code: int, header=b"", body=b"") -> tuple[bytes, str]:
        """In a session; a body is enciphered.  The answer's MAC is checked."""
        if body:
            body += b"\x80" + bytes(-(len(body) + 1) % 16)
            body = encrypted(self.enc, body, self._iv("A55A"))
        begin = bytes([code]) + self.counter.to_bytes(2, "little") + self.ti
        mac = cmac(self.mac, begin + header + body)[1::2]
        answer, status = self.say(code, header + body + mac)
        self.counter += 1
        if status == "9100" and answer:
            end = b"\0" + self.counter.to_bytes(2, "little") + self.ti
            assert answer[-8:] == cmac(self.mac, end + answer[:-8])[1::2]
            answer = answer[:-8]
        return answer, status

    def _iv(self, label: str) -> bytes:
        counter = self.counter.to_bytes(2, "little")
        return encrypted(self.enc, bytes.fromhex(label) + self.ti + counter + bytes(8))

    def change_key(self, number: int, old: bytes, new: bytes, version: int) -> str:
        body = xor(new, old) + bytes([version]) + (crc(new) if number else b"")
        return self.sealed(0xC4, bytes([number]), body)[1]


@pytest.fixture
def blank():
    """A blank NTAG 424 whose application is selected."""
    return selected(ntag424())


def selected(card):
    card.chip.power_on()
    assert card.chip.command(bytes.fromhex(SELECT)) == b"\x90\x00"
    return card.chip


def test_a_key_is_changed_over_one_that_is_not_zero(blank):
    client, second = Client(blank), bytes(range(16, 32))
    assert client.authenticate(0, ZERO) == "9100"

    assert client.change_key(1, ZERO, KEY, 1) == "9100"
    assert client.change_key(1, KEY, second, 2) == "9100"
    assert client.sealed(0x64, b"\x01") == (b"\x02", "9100")
    assert client.change_key(0, ZERO, KEY, 2) == "9100"

    assert client.say(0x51)[1] == "91ae"  # its own key has changed: no session
    assert client.authenticate(1, second) == "9100"
    assert client.authenticate(0, KEY) == "9100"


def test_a_wrong_old_key_or_mac_changes_nothing_and_ends_the_session(blank):
    for spoil in ("key", "mac"):
        client = Client(blank)
        client.authenticate(0, ZERO)
        if spoil == "mac":
            client.mac = KEY

        said = client.change_key(2, KEY if spoil == "key" else ZERO, KEY, 1)

        assert (said, client.say(0x51)[1]) == ("911e", "91ae")
    assert blank._ring.keys == [ZERO] * 5


def test_the_ndef_file_is_closed_and_then_needs_key_0(blank):
    client = Client(blank)
    assert client.say(0x8D, bytes.fromhex("02000000010000") + b"x") == (b"", "9100")
    client.authenticate(0, ZERO)

    assert client.sealed(0x5F, b"\x02", bytes.fromhex("0000E0"))[1] == "9100"

    assert blank.files[2].rights == (0xE, 0, 0, 0)
    assert client.sealed(0xF5, b"\x02")[0].hex() == "000000e0000100"
    blank.power_on()
    selected_again = blank.command(bytes.fromhex(SELECT))
    written = client.say(0x8D, bytes.fromhex("02000000010000") + b"y")
    assert (selected_again, written[1]) == (b"\x90\x00", "91ae")


STATUSES = {
    "before the select": (["90710000020000 00"], "9140"),
    "another application": (["00A4040C07D276000085010200"], "6a82"),
    "no such key": ([SELECT, "9071000002050000"], "9140"),
    "a key's version, free": ([SELECT, "90640000010100"], "009100"),
    "GetCardUID without a session": ([SELECT, "9051000000"], "91ae"),
    "NonFirst without a session": ([SELECT, "90770000010000"], "919d"),
    "a command between the parts": ([SELECT, "9071000002000000", "90640000010000"], "91ca"),
    "71 between the parts": ([SELECT, "9071000002000000", "9071000002000000"], "91ca"),
    "a select between the parts": ([SELECT, "9071000002000000", SELECT], "6985"),
    "part 2 without part 1": ([SELECT, "90AF00002020" + "00" * 31 + "00"], "91ca"),
    "a wrong part 2": ([SELECT, "9071000002000000", "90AF000020" + "00" * 32 + "00"], "91ae"),
    "a short part 2": ([SELECT, "9071000002000000", "90AF000010" + "00" * 16 + "00"], "917e"),
    "AA": ([SELECT, "90AA0000010000"], "911c"),
    "an unknown command": ([SELECT, "9099000000"], "911c"),
    "Lc that lies": ([SELECT, "9071000003000000"], "917e"),
    "parameters": ([SELECT, "9071010002000000"], "919e"),
    "another class": (["80CA000000"], "6e00"),
    "a read of NDEF": ([SELECT, "00A4000C02E104", "00B0000002"], "00009000"),
    "a read without a file": ([SELECT, "00B0000002"], "6985"),
    "a read of the protected file": ([SELECT, "00A4000C02E105", "00B0000002"], "6982"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "heard"), STATUSES.values(), ids=STATUSES)
def test_a_status_is_what_the_data_sheet_says(said, heard):
    chip = ntag424().chip

    answers = [chip.command(bytes.fromhex(apdu)).hex() for apdu in said]

    assert answers[-1] == heard


def test_versions_tell_the_families_apart():
    seen = {}
    for card in (
        ntag424(),
        ntag424(random_uid=True),
        *map(desfire, ("EV1", "EV2", "EV3")),
    ):
        client = Client(card.chip)
        parts = [client.say(0x60), client.say(0xAF), client.say(0xAF)]
        assert [status for _, status in parts] == ["91af", "91af", "9100"]
        seen[parts[0][0].hex()[:8], parts[2][0].hex()[:14]] = len(parts[2][0])

    assert list(seen) == [
        ("04040230", "04958caa5c5e80"),
        ("04040230", "00000000000000"),
        ("04010101", "04112233445566"),
        ("04010112", "04112233445566"),
        ("04010133", "04112233445566"),
    ]


def test_failures_are_counted_for_each_key_and_end_in_delays_and_death(blank):
    client, ring = Client(blank), blank._ring
    wrong = [client.authenticate(1, KEY) for _ in range(50)]
    delayed = client.authenticate(1, ZERO)
    other = client.authenticate(2, ZERO)
    right = client.authenticate(1, ZERO)

    assert (set(wrong), delayed, other, right) == ({"91ae"}, "91ad", "9100", "9100")
    assert (ring.failed[1], ring.in_a_row[1]) == (40, 0)
    ring.failed[1] = ring.failed[0] = 1000
    assert client.authenticate(1, ZERO) == "919d"
    assert client.authenticate(0, ZERO) == "919d"


def test_an_authentication_left_in_the_middle_has_failed(blank):
    Client(blank).say(0x71, b"\x01\x00")
    blank.power_on()

    assert blank._ring.failed == [0, 1, 0, 0, 0]


def test_lrp_and_foreign_keys_refuse_the_factory_key():
    lrp, foreign = (
        Client(selected(card)) for card in (ntag424(lrp=True), foreign_ntag424())
    )

    assert lrp.authenticate(0, ZERO) == "919d"
    assert foreign.authenticate(0, ZERO) == "91ae"


def test_a_desfire_application_is_made_changed_and_deleted():
    chip = desfire("EV3").chip
    client, aid = Client(chip), bytes.fromhex("D00D01")
    assert client.say(0x5A, aid)[1] == "91a0"
    assert client.authenticate(0, ZERO) == "91ae"  # the card's own key is not of AES
    assert client.say(0xCA, aid + b"\x0b\x81")[1] == "9100"
    assert client.say(0xCA, aid + b"\x0b\x81")[1] == "91de"
    assert client.say(0x6A) == (aid, "9100")
    assert client.say(0x5A, aid)[1] == "9100"
    assert client.authenticate(0, ZERO) == "9100"
    assert client.change_key(0, ZERO, KEY, 1) == "9100"
    assert client.say(0xDA, aid)[1] == "91ae"
    assert client.authenticate(0, KEY) == "9100"

    assert client.sealed(0xDA, aid)[1] == "9100"

    assert chip.applications == {}


def test_an_ev1_answers_the_younger_command_with_unknown():
    client = Client(desfire("EV1", aid="D00D01").chip)
    assert client.say(0x5A, bytes.fromhex("D00D01"))[1] == "9100"

    assert client.say(0x71, b"\0\0")[1] == "911c"


def test_no_command_is_too_odd_for_a_card():
    """Half of them spoilt in one byte or cut, beside real ones; sessions among them."""
    said = [
        bytes.fromhex(line.split()[0])
        for _, text in TRANSCRIPTS.values()
        for line in text.strip().splitlines()
    ]
    chance = random.Random(424)
    for card in (ntag424(), desfire("EV1", aid="112233"), desfire("EV3", aid="112233")):
        client = Client(selected(card) if card.ats == NTAG_ATS else card.chip)
        for _ in range(1000):
            apdu = bytearray(chance.choice(said))
            if chance.random() < 0.6:
                apdu[chance.randrange(len(apdu))] = chance.randrange(256)
            if chance.random() < 0.2:
                del apdu[chance.randrange(len(apdu)) :]
            if chance.random() < 0.1:
                client.authenticate(0, ZERO)
            assert len(card.chip.command(bytes(apdu))) >= 2


# -- blocks


def test_a_long_command_and_a_long_answer_are_chained():
    air = Air(ntag424(ats=bytes.fromhex("067077710280")))  # frames of 16 bytes
    air.exchange(b"\xe0\x00", 1)  # and of 16 to us
    command = bytes.fromhex(SELECT)

    assert air.exchange(b"\x12" + command[:8], 1) == b"\xa2"
    assert air.exchange(b"\x03" + command[8:], 1) == b"\x03\x90\x00"
    first = air.exchange(b"\x02\x90\x71\0\0\2\1\0\0", 1)
    second = air.exchange(b"\xa3", 1)

    assert (first[0], len(first), second[0], second[-2:]) == (
        0x12,
        14,
        0x03,
        b"\x91\xaf",
    )
    with pytest.raises(TimeoutError):
        air.exchange(b"\x02" + bytes(14), 1)  # more than fits its frame


def test_an_answer_that_was_lost_is_said_again_and_a_command_is_done_once():
    card = ntag424(unheard_at={1}, deaf_at={3}, garbled_at={6})
    air = Air(card)
    select = b"\x02" + bytes.fromhex(SELECT)
    air.exchange(b"\xe0\x80", 1)

    with pytest.raises(TimeoutError):
        air.exchange(select, 1)
    assert air.exchange(b"\xb2", 1) == b"\x02\x90\x00"
    ask = b"\x03" + bytes.fromhex("90640000010100")
    with pytest.raises(TimeoutError):
        air.exchange(ask, 1)
    assert air.exchange(b"\xb3", 1) == b"\xa2"  # not heard: R(ACK) with the old number
    assert air.exchange(ask, 1) == b"\x03\x00\x91\x00"
    with pytest.raises(ValueError, match="garbled"):
        air.exchange(b"\x02" + bytes.fromhex("90640000010200"), 1)
    assert air.exchange(b"\xb2", 1) == b"\x02\x00\x91\x00"
    assert [apdu[1] for apdu in card.chip.heard] == [0xA4, 0x64, 0x64]


def test_a_card_asks_for_time_and_works_when_it_is_granted():
    card = ntag424(waits={0xA4: 2}, wait_multiplier=3)
    air = Air(card)
    air.exchange(b"\xe0\x80", 1)

    asked = [
        air.exchange(b"\x02" + bytes.fromhex(SELECT), 1),
        air.exchange(b"\xf2\x03", 1),
    ]

    assert asked == [b"\xf2\x03"] * 2
    assert card.chip.heard == []
    assert air.exchange(b"\xf2\x03", 1) == b"\x02\x90\x00"


# -- torn away


@pytest.mark.parametrize("answer", ["delivered", "lost"])
@pytest.mark.parametrize("after", range(4))
def test_a_torn_card_has_done_what_it_heard_and_wakes_no_more(after, answer):
    card = ntag424()
    card.tear(after=after, answer=answer)
    air = Air(card)

    with contextlib.suppress(TimeoutError):
        for apdu in (SELECT, *["90640000010100"] * 9):
            air.command(apdu)

    heard = [answer for _, answer in air.frames[1:] if answer is not None]
    assert len(card.chip.heard) == after
    assert len(heard) == max(0, after - (answer == "lost"))
    assert card.is_torn
    assert not woken(card)
    card.comes_back()
    assert Air(card).command(SELECT) == "9000"


# -- rogues, and both fields


def test_every_rogue_spoils_what_an_honest_card_says():
    proof = encrypted(KEY, bytes(range(16)) + bytes(16))  # RndB is zeros
    frames = (
        "E080",
        "02" + SELECT,
        "039071000002010000",
        f"0290AF000020{proof.hex()}00",
    )

    def answers(card) -> list[object]:
        air = Air(card)
        for frame in frames:
            with contextlib.suppress(TimeoutError, ValueError):
                air.exchange(bytes.fromhex(frame), 1)
        return [answer for _, answer in air.frames]

    def of():
        return {"keys": {1: (KEY, 1)}, "chance": fixed("00" * 16, "00" * 4)}

    honest = answers(ntag424(**of()))

    assert honest[3][-2:] == b"\x91\x00"
    assert [name for name in ROGUES if answers(rogue(name, **of())) == honest] == []
    assert [
        seed for seed in range(200) if answers(random_rogue(seed, **of())) == honest
    ] == []
    assert {
        name: answers(ats_rogue(name, **of()))[1:] for name in ATS
    } == dict.fromkeys(ATS, honest[1:])
    replayed = replaying(**of() | {"chance": os.urandom})
    assert answers(replayed) == answers(replayed)


@pytest.fixture(params=["pn532", "udp"])
def field(request):
    return request.getfixturevalue({"pn532": "chip", "udp": "radio"}[request.param])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_nfcpy_speaks_to_a_card_on_both_fields(field):
    field.put(ntag424())
    with contextlib.closing(NfcReader(field.device)) as reader:
        card = reader.sense()
        frames = ("E080", "02" + SELECT, "0390640000010000")
        said = [
            reader._frontend.exchange(bytes.fromhex(frame), 0.5).hex()
            for frame in frames
        ]

    assert card == Card(Uid("04958CAA5C5E80"), atqa=b"\x44\x03", sak=0x20)
    assert said == ["067777710280", "029000", "03009100"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_chip_counts_the_bytes_of_its_line_and_takes_their_time(chip):
    """Set-up 94 bytes and four frames of 25 + n + m, as reckoned from nfcpy's source."""
    frames = ("E080", "02" + SELECT, "039071000002010000", f"0290AF000020{'00' * 32}00")
    chip.put(ntag424())
    chip.is_timed = True
    with contextlib.closing(NfcReader(chip.device)) as reader:
        assert reader.sense()
        chip.traffic.clear()
        began_at = time.monotonic()
        answers = [
            reader._frontend.exchange(bytes.fromhex(frame), 0.5) for frame in frames
        ]
        took_s, traffic = time.monotonic() - began_at, list(chip.traffic)

    size = {"ReadRegister": 33, "WriteRegister": 33, "RFConfiguration": 28}
    expected = []
    for frame, answer in zip(frames, answers, strict=True):
        expected += [
            *size.items(),
            ("InCommunicateThru", 25 + len(frame) // 2 + len(answer)),
        ]
    assert traffic == expected
    line_s = sum(count for _, count in expected) * 10 / 115_200
    air_s = (
        sum(
            len(frame) // 2 + len(answer) + 4
            for frame, answer in zip(frames, answers, strict=True)
        )
        * 9
        / 106_000
    )
    least_s = line_s + air_s + 0.001 + 0.001 + 0.004 + 0.006  # what the card works
    assert least_s <= took_s
