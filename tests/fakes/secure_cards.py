"""NTAG 424 DNA and DESFire byte by byte: what they keep, what they answer, how they leave.

    field.put(ntag424())                              # blank: five factory keys
    field.put(ntag424(keys={1: (key, 1)}))            # key 1 is ours, of generation 1
    field.put(desfire("EV2", aid="D00D01", keys={0: (key, 1)}))
    card.tear(after=7, answer="lost")                 # then card.comes_back()

A card keeps its keys and counters over power losses; its session ends with each.  Both
fields show it (`virtual.VirtualField`, `pn532.Pn532`), and `Air` speaks to it directly, in
no time.  The AES is the tests' own, so that the program's has something to be compared
with.  Cards that misbehave: `rogue_cards.py`.

Source: NT4H2421Gx data sheet 3.0 (commands, statuses, counters, files), AN12196 (its
transcripts), MF2DLHX0 (the public twin of DESFire EV2), ISO/IEC 14443-4 (blocks).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from tests.fakes.cards import ByteCard, Talk
from tests.fakes.virtual import GARBLED

ZERO = bytes(16)
OK, MORE = 0x9100, 0x91AF
UNKNOWN, INTEGRITY, NO_KEY, LENGTH = 0x911C, 0x911E, 0x9140, 0x917E
NOT_PERMITTED, PARAMETER, NO_APPLICATION, WAIT = 0x919D, 0x919E, 0x91A0, 0x91AD
NOT_AUTHENTICATED, BOUNDARY, ABORTED, DUPLICATE = 0x91AE, 0x91BE, 0x91CA, 0x91DE
NO_FILE, NO_MEMORY = 0x91F0, 0x910E
ISO_OK, ISO_NOT_FOUND, ISO_UNKNOWN, ISO_CLASS = 0x9000, 0x6A82, 0x6D00, 0x6E00
ISO_LENGTH, ISO_SECURITY, ISO_CONDITIONS, ISO_P1P2 = 0x6700, 0x6982, 0x6985, 0x6A86

PLAIN, MAC, FULL = 0, 1, 3  # communication modes, as FileOption has them
FREE, NEVER = 0xE, 0xF  # access rights


# -- AES


def _cbc(key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(iv))


def encrypted(key: bytes, data: bytes, iv: bytes = ZERO) -> bytes:
    return _cbc(key, iv).encryptor().update(data)


def decrypted(key: bytes, data: bytes, iv: bytes = ZERO) -> bytes:
    return _cbc(key, iv).decryptor().update(data)


def cmac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def short_mac(key: bytes, data: bytes) -> bytes:
    """Every second byte of the CMAC (AN12196, 5.2: MACt)."""
    return cmac(key, data)[1::2]


def rotated(data: bytes) -> bytes:
    return data[1:] + data[:1]


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def crc(data: bytes) -> bytes:
    return (zlib.crc32(data) ^ 0xFFFFFFFF).to_bytes(4, "little")


def padded(data: bytes) -> bytes:
    return data + b"\x80" + bytes(-(len(data) + 1) % 16)


def chained_cmac(key: bytes, iv: bytes, data: bytes) -> bytes:
    """CMAC that begins with an IV (DESFire EV1)."""
    zero = int.from_bytes(encrypted(key, ZERO), "big")

    def doubled(number: int) -> int:
        return (number << 1 ^ (0x87 if number >> 127 else 0)) & (1 << 128) - 1

    subkey = doubled(zero)
    if not data or len(data) % 16:
        data, subkey = padded(data), doubled(subkey)
    data = data[:-16] + xor(data[-16:], subkey.to_bytes(16, "big"))
    return encrypted(key, data, iv)[-16:]


def session_keys(key: bytes, rnd_a: bytes, rnd_b: bytes) -> tuple[bytes, bytes]:
    """Of encryption and of MACs, after AuthenticateEV2."""
    tail = rnd_a[:2] + xor(rnd_a[2:8], rnd_b[:6]) + rnd_b[6:] + rnd_a[8:]
    enc, mac = (
        cmac(key, bytes.fromhex(label) + tail)
        for label in ("A55A00010080", "5AA500010080")
    )
    return enc, mac


def fixed(*values: str) -> Callable[[int], bytes]:
    """A source of "random" numbers: these, in hex, in turn (RndB, and then TI)."""
    left = [bytes.fromhex(value) for value in values]
    return lambda size: left.pop(0)


# -- what a card keeps


@dataclass
class Ring:
    """The AES keys of an application, and how often each was tried in vain."""

    keys: list[bytes]
    versions: list[int]
    settings: int = 0x0B  # DESFire: KeySettings 1
    failed: list[int] = field(init=False)  # TotFailCtr
    in_a_row: list[int] = field(init=False)  # SeqFailCtr
    owed: list[int] = field(init=False)  # answers 91AD before the next try

    def __post_init__(self) -> None:
        for name in ("failed", "in_a_row", "owed"):
            setattr(self, name, [0] * len(self.keys))

    @classmethod
    def of(cls, count: int, changed: dict[int, tuple[bytes, int]] | None) -> Ring:
        ring = cls([ZERO] * count, [0] * count)
        for number, (key, version) in (changed or {}).items():
            ring.keys[number], ring.versions[number] = key, version
        return ring

    def may_try(self, number: int) -> None:
        if self.failed[number] >= 1000:
            raise Refused(NOT_PERMITTED)
        if self.owed[number]:
            self.owed[number] -= 1
            raise Refused(WAIT)

    def count(self, number: int, *, is_right: bool) -> None:
        if is_right:
            self.failed[number] = max(0, self.failed[number] - 10)
            self.in_a_row[number] = 0
            return
        self.failed[number] += 1
        self.in_a_row[number] += 1
        self.owed[number] = max(0, self.in_a_row[number] - 49)

    def change(self, number: int, key: bytes, version: int) -> None:
        self.keys[number], self.versions[number] = key, version
        self.failed[number] = self.in_a_row[number] = self.owed[number] = 0


@dataclass
class File:
    """A standard data file; ``rights`` are those of Read, Write, ReadWrite, Change."""

    iso: bytes
    data: bytearray
    rights: tuple[int, int, int, int]
    mode: int = PLAIN
    sdm: bytes = b""  # what ChangeFileSettings said of mirrors


@dataclass
class Session:
    """After a mutual authentication; ``is_ev1``: by AA, with one key and a running IV."""

    number: int
    enc: bytes
    mac: bytes = b""
    ti: bytes = b""
    counter: int = 0
    is_ev1: bool = False
    iv: bytes = ZERO


class Refused(Exception):
    """A status that ends the session."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


def _need(condition: object, status: int) -> None:
    if not condition:
        raise Refused(status)


#: What a command answers, or a conversation in parts, each but the last with 91AF.
Answer = bytes | Generator[bytes, bytes, bytes]


class Chip:
    """What NTAG 424 DNA and DESFire have in common: authentication, keys, messages."""

    COMMANDS: ClassVar[dict[int, str]] = {
        0x71: "_first", 0x77: "_non_first", 0x60: "_get_version",
        0x64: "_get_key_version", 0xC4: "_change_key", 0x51: "_get_card_uid",
    }  # fmt: skip
    ISO: ClassVar[dict[int, str]] = {}
    hardware = software = ""

    def __init__(self, uid: bytes, chance: Callable[[int], bytes] = os.urandom) -> None:
        self.uid, self.chance = uid, chance
        self.has_random_uid = self.is_lrp = False
        #: Every command, whole, in the order they came.
        self.heard: list[bytes] = []
        self.tries: list[int] = []  # key numbers of the authentications
        self._talk: Generator[bytes, bytes, bytes] | None = None
        self.power_on()

    @property
    def ring(self) -> Ring | None:
        """The keys of what is selected."""
        raise NotImplementedError

    def power_on(self) -> None:
        self._end_talk()
        self.session: Session | None = None

    def command(self, apdu: bytes) -> bytes:
        self.heard.append(apdu)
        try:
            data, status = self._command(apdu)
        except Refused as refused:
            self._end_talk()
            self.session = None
            data, status = b"", refused.status
        return data + status.to_bytes(2, "big")

    def _command(self, apdu: bytes) -> tuple[bytes, int]:
        is_iso = apdu[:1] == b"\x00"
        _need(is_iso or apdu[:1] == b"\x90", ISO_CLASS)
        _need(len(apdu) >= 5, ISO_LENGTH)
        data = apdu[5:-1] if len(apdu) > 5 else b""
        if is_iso:
            _need(self._talk is None, ISO_CONDITIONS)
            name = self.ISO.get(apdu[1])
            _need(name, ISO_UNKNOWN)
            return getattr(self, str(name))(apdu), ISO_OK
        is_whole = len(apdu) == 5 or len(apdu) == apdu[4] + 6
        _need(is_whole and apdu[-1] == 0, LENGTH)
        _need(apdu[2:4] == b"\x00\x00", PARAMETER)
        return self._wrapped(apdu[1], data)

    def _wrapped(self, code: int, data: bytes) -> tuple[bytes, int]:
        if code == 0xAF:
            _need(self._talk, ABORTED)
            return self._go_on(data)
        _need(self._talk is None, ABORTED)
        name = self.COMMANDS.get(code)
        _need(name, UNKNOWN)
        answer: Answer = getattr(self, str(name))(data)
        if isinstance(answer, bytes):
            return answer, OK
        self._talk = answer
        return self._go_on(None)

    def _go_on(self, data: bytes | None) -> tuple[bytes, int]:
        assert self._talk is not None
        try:
            return (next(self._talk) if data is None else self._talk.send(data)), MORE
        except StopIteration as end:
            self._talk = None
            return end.value, OK

    def _end_talk(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.close()

    def _number(self, number: int) -> int:
        _need(self.ring and number < len(self.ring.keys), NO_KEY)
        return number

    # -- authentication

    def _first(self, data: bytes) -> Answer:
        _need(len(data) >= 2 and len(data) == 2 + data[1] <= 8, LENGTH)
        number = self._number(data[0])
        if self.is_lrp:
            _need(data[1] and data[2] & 0x02, NOT_PERMITTED)
        self.session = None
        return self._authenticate(number, data[2:])

    def _non_first(self, data: bytes) -> Answer:
        _need(len(data) == 1, LENGTH)
        session = self.session
        _need(session and not session.is_ev1 and not self.is_lrp, NOT_PERMITTED)
        return self._authenticate(self._number(data[0]), None)

    def _authenticate(
        self, number: int, capabilities: bytes | None
    ) -> Generator[bytes, bytes, bytes]:
        """EV2First; NonFirst without ``capabilities``."""
        ring = self.ring
        assert ring is not None
        key = ring.keys[number]
        self.tries.append(number)
        ring.may_try(number)
        rnd_b = self.chance(16)
        said = yield from self._challenged(
            ring, number, (b"\x01" if self.is_lrp else b"") + encrypted(key, rnd_b)
        )
        clear = decrypted(key, said)
        rnd_a = clear[:16]
        self._judge(ring, number, clear[16:] == rotated(rnd_b) and not self.is_lrp)
        enc, mac = session_keys(key, rnd_a, rnd_b)
        if capabilities is None:
            assert self.session is not None
            ti, counter = self.session.ti, self.session.counter
            answer = rotated(rnd_a)
        else:
            ti, counter = self.chance(4), 0
            answer = ti + rotated(rnd_a) + bytes(6) + capabilities.ljust(6, b"\x00")
        self.session = Session(number, enc, mac, ti, counter)
        return encrypted(key, answer)

    def _challenged(
        self, ring: Ring, number: int, challenge: bytes
    ) -> Generator[bytes, bytes, bytes]:
        """Part 2, of 32 bytes.  Who leaves before it has failed (the data sheet does not
        say; the harder way)."""
        try:
            said = yield challenge
        except GeneratorExit:
            ring.count(number, is_right=False)
            raise
        if len(said) != 32:
            ring.count(number, is_right=False)
            raise Refused(LENGTH)
        return said

    def _judge(self, ring: Ring, number: int, is_right: bool) -> None:
        ring.count(number, is_right=is_right)
        _need(is_right, NOT_AUTHENTICATED)

    # -- messages

    def _open(
        self, code: int, data: bytes, *, header: int, mode: int
    ) -> tuple[bytes, bytes]:
        """Header and plain body of a command, after its MAC and its cipher."""
        session = self.session
        if session is None:
            _need(mode != FULL, NOT_AUTHENTICATED)
            _need(len(data) >= header, LENGTH)
            return data[:header], data[header:]
        if session.is_ev1:
            return self._open_ev1(session, code, data, header, mode)
        counter = session.counter.to_bytes(2, "little")
        if mode == PLAIN:
            _need(len(data) >= header, LENGTH)
            return data[:header], data[header:]
        _need(len(data) >= header + 8, LENGTH)
        data, mac = data[:-8], data[-8:]
        text = bytes([code]) + counter + session.ti + data
        _need(mac == short_mac(session.mac, text), INTEGRITY)
        body = data[header:]
        if mode == FULL and body:
            _need(len(body) % 16 == 0, LENGTH)
            body = decrypted(session.enc, body, self._iv(session, "A55A"))
            body = body.rstrip(b"\x00")
            _need(body[-1:] == b"\x80", INTEGRITY)
            body = body[:-1]
        return data[:header], body

    def _open_ev1(
        self, session: Session, code: int, data: bytes, header: int, mode: int
    ) -> tuple[bytes, bytes]:
        _need(len(data) >= header, LENGTH)
        body = data[header:]
        if mode == FULL and body:
            _need(len(body) % 16 == 0, LENGTH)
            plain = decrypted(session.enc, body, session.iv)
            session.iv = body[-16:]
            return data[:header], plain
        session.iv = chained_cmac(session.enc, session.iv, bytes([code]) + data)
        return data[:header], body

    def _iv(self, session: Session, label: str) -> bytes:
        text = bytes.fromhex(label) + session.ti + session.counter.to_bytes(2, "little")
        return encrypted(session.enc, text + bytes(8))

    def _seal(self, answer: bytes, mode: int, *, whole: bytes = b"") -> bytes:
        """``answer`` as it goes on the air; ``whole``: what its MAC is over."""
        session = self.session
        if session is None:
            return answer
        if session.is_ev1:
            return self._seal_ev1(session, answer, mode, whole)
        session.counter += 1
        if mode == FULL and answer:
            iv = self._iv(session, "5AA5")
            answer = encrypted(session.enc, padded(answer), iv)
        if mode == PLAIN:
            return answer
        counter = session.counter.to_bytes(2, "little")
        text = b"\x00" + counter + session.ti + (whole or answer)
        return answer + short_mac(session.mac, text)

    def _seal_ev1(
        self, session: Session, answer: bytes, mode: int, whole: bytes
    ) -> bytes:
        if mode == FULL and answer:
            plain = answer + crc(answer + b"\x00")
            plain += bytes(-len(plain) % 16)
            answer = encrypted(session.enc, plain, session.iv)
            session.iv = answer[-16:]
            return answer
        text = (whole or answer) + b"\x00"
        session.iv = chained_cmac(session.enc, session.iv, text)
        return answer + session.iv[:8]

    # -- commands

    def _get_version(self, data: bytes) -> Generator[bytes, bytes, bytes]:
        _, body = self._open(0x60, data, header=0, mode=MAC)
        _need(not body, LENGTH)
        uid = bytes(7) if self.has_random_uid else self.uid
        parts = [bytes.fromhex(self.hardware), bytes.fromhex(self.software)]
        parts.append(uid + bytes.fromhex("CF0F6F48301020"))
        for part in parts[:2]:
            said = yield part
            _need(not said, LENGTH)
        return self._seal(parts[2], MAC, whole=b"".join(parts))

    def _get_key_version(self, data: bytes) -> bytes:
        header, body = self._open(0x64, data, header=1, mode=MAC)
        _need(not body, LENGTH)
        number = self._number(header[0])
        assert self.ring is not None
        return self._seal(bytes([self.ring.versions[number]]), MAC)

    def _get_card_uid(self, data: bytes) -> bytes:
        _need(self.session, NOT_AUTHENTICATED)
        _, body = self._open(0x51, data, header=0, mode=MAC)
        _need(not body, LENGTH)
        return self._seal(self.uid, FULL)

    def _change_key(self, data: bytes) -> bytes:
        session, ring = self.session, self.ring
        _need(len(data) > 1, LENGTH)
        number = self._number(data[0])
        _need(session, NOT_AUTHENTICATED)
        assert session is not None
        assert ring is not None
        self._may_change(ring, session, number)
        _, body = self._open(0xC4, data, header=1, mode=FULL)
        is_own = number == session.number
        old = ZERO if is_own else ring.keys[number]
        _need(len(body) >= 17, LENGTH)
        key, version = xor(body[:16], old), body[16]
        self._check_new_key(session, number, body, key, is_own)
        ring.change(number, key, version)
        if is_own:
            self.session = None
            return b""
        return self._seal(b"", MAC)

    def _check_new_key(
        self, session: Session, number: int, body: bytes, key: bytes, is_own: bool
    ) -> None:
        check = b"" if is_own else crc(key)
        if session.is_ev1:
            check = crc(bytes([0xC4, number]) + body[:17]) + check
            check += bytes(len(body) - 17 - len(check))
        _need(body[17:] == check, INTEGRITY)

    def _may_change(self, ring: Ring, session: Session, number: int) -> None:
        _need(session.number == 0, NOT_AUTHENTICATED)


class Ntag424(Chip):
    """NTAG 424 DNA: five keys in the one application, three files."""

    hardware, software = "04040230001105", "04040201021105"
    COMMANDS: ClassVar[dict[int, str]] = Chip.COMMANDS | {
        0xF5: "_get_file_settings", 0x5F: "_change_file_settings",
        0xAD: "_read_data", 0x8D: "_write_data", 0x5C: "_set_configuration",
    }  # fmt: skip
    ISO: ClassVar[dict[int, str]] = {
        0xA4: "_iso_select", 0xB0: "_iso_read", 0xD6: "_iso_update",
    }  # fmt: skip
    DF_NAME = bytes.fromhex("D2760000850101")
    CAPABILITIES = bytes.fromhex(
        "001720010000FF0406E104010000000506E10500808283000000000000000000"
    )

    def __init__(
        self,
        uid: bytes,
        chance: Callable[[int], bytes] = os.urandom,
        keys: dict[int, tuple[bytes, int]] | None = None,
    ) -> None:
        self._ring = Ring.of(5, keys)
        self.files = {
            1: File(b"\xe1\x03", bytearray(self.CAPABILITIES), (FREE, 0, 0, 0)),
            2: File(b"\xe1\x04", bytearray(256), (FREE, FREE, FREE, 0)),
            3: File(b"\xe1\x05", bytearray(128), (2, 3, 3, 0), FULL),
        }
        super().__init__(uid, chance)

    @property
    def ring(self) -> Ring | None:
        return self._ring if self._is_selected else None

    def power_on(self) -> None:
        super().power_on()
        self._is_selected, self._iso_file = False, 0

    # -- files

    def _file(self, number: int) -> File:
        _need(self._is_selected and number in self.files, NO_FILE)
        return self.files[number]

    def _mode(self, file: File, rights: tuple[int, ...], mode: int) -> int:
        """How a command must come that needs one of ``rights``: plainly if it has only
        the free one (data sheet, 8.2.3)."""
        if self.session is not None and self.session.number in rights:
            return mode
        if FREE in rights:
            return PLAIN
        raise Refused(NOT_PERMITTED if set(rights) == {NEVER} else NOT_AUTHENTICATED)

    def _get_file_settings(self, data: bytes) -> bytes:
        header, body = self._open(0xF5, data, header=1, mode=MAC)
        _need(not body, LENGTH)
        file = self._file(header[0])
        read, write, both, change = file.rights
        option = file.mode | (0x40 if file.sdm else 0)
        rights = bytes([both << 4 | change, read << 4 | write])
        size = len(file.data).to_bytes(3, "little")
        return self._seal(bytes([0, option]) + rights + size + file.sdm, MAC)

    def _change_file_settings(self, data: bytes) -> bytes:
        _need(data, LENGTH)
        file = self._file(data[0])
        mode = self._mode(file, file.rights[3:], FULL)
        _, body = self._open(0x5F, data, header=1, mode=mode)
        _need(len(body) >= 3, LENGTH)
        option, rights = body[0], body[1:3]
        _need(option & 0x03 in (PLAIN, MAC, FULL) and not option & 0xBC, PARAMETER)
        _need(bool(option & 0x40) == (len(body) > 3), PARAMETER)
        file.mode, file.sdm = option & 0x03, body[3:]
        file.rights = (rights[1] >> 4, rights[1] & 15, rights[0] >> 4, rights[0] & 15)
        return self._seal(b"", mode)

    def _read_data(self, data: bytes) -> bytes:
        _need(len(data) >= 7, LENGTH)
        file = self._file(data[0])
        mode = self._mode(file, file.rights[0:1] + file.rights[2:3], file.mode)
        header, body = self._open(0xAD, data, header=7, mode=min(mode, MAC))
        _need(not body, LENGTH)
        begin, size = _span(header)
        end = begin + size if size else len(file.data)
        _need(begin < end <= len(file.data), BOUNDARY)
        return self._seal(bytes(file.data[begin:end]), mode)

    def _write_data(self, data: bytes) -> bytes:
        _need(len(data) >= 7, LENGTH)
        file = self._file(data[0])
        mode = self._mode(file, file.rights[1:3], file.mode)
        header, body = self._open(0x8D, data, header=7, mode=mode)
        begin, size = _span(header)
        _need(size and size == len(body), LENGTH)
        _need(begin + size <= len(file.data), BOUNDARY)
        file.data[begin : begin + size] = body
        return self._seal(b"", mode)

    def _set_configuration(self, data: bytes) -> bytes:
        """Random UID and LRP, for ever: the card does as it is told."""
        _need(self.session and self.session.number == 0, NOT_AUTHENTICATED)
        header, body = self._open(0x5C, data, header=1, mode=FULL)
        _need(body, LENGTH)
        self.has_random_uid |= header == b"\x00" and bool(body[0] & 0x02)
        self.is_lrp |= header == b"\x05"
        return self._seal(b"", MAC)

    # -- ISO 7816-4

    def _iso_select(self, apdu: bytes) -> bytes:
        _need(len(apdu) > 5 and len(apdu) in (apdu[4] + 5, apdu[4] + 6), ISO_LENGTH)
        name = apdu[5 : 5 + apdu[4]]
        self.session = None  # a reader must not rely on one that survives
        if apdu[2:4] == b"\x04\x0c" or apdu[2:4] == b"\x04\x00":
            _need(name == self.DF_NAME, ISO_NOT_FOUND)
            self._is_selected, self._iso_file = True, 0
            return b""
        _need(apdu[2] == 0 and apdu[3] in (0x00, 0x0C), ISO_P1P2)
        found = [n for n, file in self.files.items() if file.iso == name]
        _need(self._is_selected and found, ISO_NOT_FOUND)
        self._iso_file = found[0]
        return b""

    def _iso_read(self, apdu: bytes) -> bytes:
        _need(len(apdu) == 5, ISO_LENGTH)
        file = self._iso_open(rights=(0, 2))
        begin = int.from_bytes(apdu[2:4], "big")
        _need(begin < len(file.data), ISO_P1P2)
        return bytes(file.data[begin : begin + (apdu[4] or 256)])

    def _iso_update(self, apdu: bytes) -> bytes:
        _need(len(apdu) > 5 and len(apdu) == apdu[4] + 5, ISO_LENGTH)
        file = self._iso_open(rights=(1, 2))
        begin = int.from_bytes(apdu[2:4], "big")
        _need(begin + apdu[4] <= len(file.data), ISO_P1P2)
        file.data[begin : begin + apdu[4]] = apdu[5:]
        return b""

    def _iso_open(self, rights: tuple[int, int]) -> File:
        file = self.files.get(self._iso_file)
        _need(file, ISO_CONDITIONS)
        assert file is not None
        is_free = any(file.rights[right] == FREE for right in rights)
        _need(is_free and self.session is None, ISO_SECURITY)
        return file


def _span(header: bytes) -> tuple[int, int]:
    """Offset and length, of a header file || offset3 || length3."""
    return int.from_bytes(header[1:4], "little"), int.from_bytes(header[4:7], "little")


class Desfire(Chip):
    """DESFire: applications with AES keys.  The card's own key is the factory's, of DES,
    and its settings leave applications free to make."""

    HARDWARE: ClassVar[dict[str, str]] = {
        "EV1": "04010101001805", "EV2": "04010112001805", "EV3": "04010133001605",
    }  # fmt: skip
    COMMANDS: ClassVar[dict[int, str]] = Chip.COMMANDS | {
        0x5A: "_select", 0xCA: "_create_application", 0xDA: "_delete_application",
        0x6A: "_get_application_ids", 0x45: "_get_key_settings", 0xAA: "_aes",
    }  # fmt: skip
    PICC = bytes(3)
    software = "04010104001805"
    MOST_APPLICATIONS = 28

    def __init__(
        self,
        uid: bytes,
        chance: Callable[[int], bytes] = os.urandom,
        model: str = "EV2",
    ) -> None:
        self.model, self.hardware = model, self.HARDWARE[model]
        self.applications: dict[bytes, Ring] = {}
        self.picc_settings = 0x0F
        super().__init__(uid, chance)

    @property
    def ring(self) -> Ring | None:
        return self.applications.get(self._selected)

    def power_on(self) -> None:
        super().power_on()
        self._selected = self.PICC

    def _wrapped(self, code: int, data: bytes) -> tuple[bytes, int]:
        is_first = code in (0x71, 0x77)
        _need(not (is_first and self.model == "EV1"), UNKNOWN)
        is_of_des = self._selected == self.PICC and (is_first or code == 0xAA)
        _need(not is_of_des or self._talk, NOT_AUTHENTICATED)
        return super()._wrapped(code, data)

    def _select(self, data: bytes) -> bytes:
        _need(len(data) == 3, LENGTH)
        _need(data in self.applications or data == self.PICC, NO_APPLICATION)
        self._selected, self.session = data, None
        return b""

    def _create_application(self, data: bytes) -> bytes:
        _need(len(data) == 5, LENGTH)
        _need(self._selected == self.PICC, NOT_PERMITTED)
        _need(self.picc_settings & 0x04, NOT_AUTHENTICATED)
        aid, settings, count = data[:3], data[3], data[4] & 0x0F
        _need(data[4] & 0xF0 == 0x80 and 1 <= count <= 14, PARAMETER)
        _need(aid not in self.applications and aid != self.PICC, DUPLICATE)
        _need(len(self.applications) < self.MOST_APPLICATIONS, NO_MEMORY)
        self.applications[aid] = Ring([ZERO] * count, [0] * count, settings)
        return b""

    def _delete_application(self, data: bytes) -> bytes:
        """By the application's key 0, from within."""
        _need(self.session and self.session.number == 0, NOT_AUTHENTICATED)
        aid, body = self._open(0xDA, data, header=3, mode=MAC)
        _need(not body, LENGTH)
        _need(aid == self._selected, NOT_AUTHENTICATED)
        del self.applications[aid]
        self._selected, self.session = self.PICC, None
        return b""

    def _get_application_ids(self, data: bytes) -> bytes:
        _need(self._selected == self.PICC, NOT_PERMITTED)
        _need(not data, LENGTH)
        return b"".join(self.applications)[: 19 * 3]

    def _get_key_settings(self, data: bytes) -> bytes:
        _, body = self._open(0x45, data, header=0, mode=MAC)
        _need(not body, LENGTH)
        if self.ring is None:
            return bytes([self.picc_settings, 0x01])
        count = len(self.ring.keys)
        return self._seal(bytes([self.ring.settings, 0x80 | count]), MAC)

    def _get_key_version(self, data: bytes) -> bytes:
        if self.ring is None and data == b"\x00":
            return b"\x00"  # the card's own
        return super()._get_key_version(data)

    def _aes(self, data: bytes) -> Answer:
        _need(len(data) == 1, LENGTH)
        number = self._number(data[0])
        self.session = None
        return self._authenticate_ev1(number)

    def _authenticate_ev1(self, number: int) -> Generator[bytes, bytes, bytes]:
        ring = self.ring
        assert ring is not None
        key = ring.keys[number]
        self.tries.append(number)
        ring.may_try(number)
        rnd_b = self.chance(16)
        challenge = encrypted(key, rnd_b)
        said = yield from self._challenged(ring, number, challenge)
        clear = decrypted(key, said, challenge)
        rnd_a = clear[:16]
        self._judge(ring, number, clear[16:] == rotated(rnd_b))
        session_key = rnd_a[:4] + rnd_b[:4] + rnd_a[12:] + rnd_b[12:]
        self.session = Session(number, session_key, is_ev1=True)
        return encrypted(key, rotated(rnd_a), said[-16:])

    def _may_change(self, ring: Ring, session: Session, number: int) -> None:
        changer = ring.settings >> 4
        _need(changer != NEVER, NOT_PERMITTED)
        _need(number or ring.settings & 0x01, NOT_PERMITTED)
        wanted = number if changer == FREE else changer
        _need(session.number == (wanted if number else 0), NOT_AUTHENTICATED)


# -- on the air

FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)  # ISO/IEC 14443-4, table 1
NTAG_ATS, DESFIRE_ATS = bytes.fromhex("067777710280"), bytes.fromhex("067577810280")
#: Seconds a card works at a command: AES a few milliseconds, its memory some more.
WORKS_S = {0x71: 0.004, 0x77: 0.004, 0xAA: 0.004, 0xAF: 0.006, 0xC4: 0.02, 0x5F: 0.015}
USUALLY_WORKS_S = 0.001


@dataclass
class SecureCard(ByteCard):
    """A chip with an antenna.  It may be torn away, and the air may swallow frames."""

    chip: Chip = field(default=None)  # type: ignore[assignment]
    ats: bytes = NTAG_ATS
    #: By command code: how often it asks for more time first, S(WTX).
    waits: dict[int, int] = field(default_factory=dict)
    wait_multiplier: int = 1
    #: What a rogue makes of a frame's number since it was selected (RATS is 0), the
    #: frame and the honest answer.
    rogue: Callable[[int, bytes, bytes | None], bytes | None] | None = None
    slow_s: float = 0.0  # more for each answer
    #: Numbers of frames since the card was made (the first RATS is 0).
    deaf_at: set[int] = field(default_factory=set)
    unheard_at: set[int] = field(default_factory=set)
    garbled_at: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.speaks = self._speak
        self.frames_heard = 0
        self.took_s = 0.0  # the last answer
        self._left: int | None = None  # commands until it is torn away
        self._is_lost = self._is_torn = False

    def tear(self, *, after: int, answer: str = "delivered") -> None:
        """Leave when ``after`` more commands were done: with the last one's answer
        "delivered" or "lost".  After 0: when the next one comes, which is not done."""
        self._left, self._is_lost = after, answer == "lost"

    def comes_back(self) -> None:
        self._left, self._is_torn = None, False

    @property
    def is_gone(self) -> bool:
        return self._is_torn or super().is_gone

    @property
    def is_torn(self) -> bool:
        return self._is_torn

    def wake(self) -> bytes:
        self.chip.power_on()
        return super().wake()

    def work(self, command: bytes) -> bytes | None:
        """Do a command; None if nobody hears of it."""
        if self._left == 0:
            self._is_torn = True
            return None
        self.took_s = WORKS_S.get(command[1] if command[1:] else 0, USUALLY_WORKS_S)
        answer = self.chip.command(command)
        if self._left:
            self._left -= 1
            self._is_torn = self._left == 0
        return None if self._is_torn and self._is_lost else answer

    def _speak(self, uid: bytes) -> Talk:
        blocks, number, answer = Blocks(self), 0, None
        while True:
            frame = yield answer
            answer = self._through_the_air(blocks, number, frame)
            number += 1

    def _through_the_air(
        self, blocks: Blocks, number: int, frame: bytes
    ) -> bytes | None:
        age, self.took_s = self.frames_heard, USUALLY_WORKS_S
        self.frames_heard += 1
        if age in self.deaf_at:
            return None
        answer = blocks.hear(frame)
        if self.rogue is not None:
            answer = self.rogue(number, frame, answer)
        self.took_s += self.slow_s
        if age in self.unheard_at:
            return None
        return GARBLED if age in self.garbled_at and answer is not None else answer


class Blocks:
    """The card's side of ISO/IEC 14443-4, from RATS to DESELECT; its rules are those of
    7.5.4."""

    def __init__(self, card: SecureCard) -> None:
        self._card = card
        self._is_active = self._is_waiting = False
        self._number = 1  # rule C
        self._said = b""
        self._command = b""
        self._answer = b""  # what is left of it
        self._waits = 0
        self._room = self._frame_size = 0

    def hear(self, frame: bytes) -> bytes | None:
        answer = self._react(frame) if self._is_active else self._rats(frame)
        if answer is not None:
            self._said = answer
        return answer

    def _rats(self, frame: bytes) -> bytes | None:
        if len(frame) != 2 or frame[0] != 0xE0 or self._said:
            return None
        self._is_active = True
        self._room = FRAME_SIZES[min(frame[1] >> 4, 8)] - 3
        sizes = self._card.ats[1:2] or b"\x02"
        self._frame_size = FRAME_SIZES[min(sizes[0] & 0x0F, 8)]
        return self._card.ats

    def _react(self, frame: bytes) -> bytes | None:
        if not frame or len(frame) + 2 > self._frame_size:
            return None
        pcb = frame[0]
        if pcb & 0xEE == 0x02:
            return self._information(pcb, frame[1:])
        if pcb & 0xEE == 0xA2 and len(frame) == 1:
            return self._receipt(pcb)
        if pcb == 0xF2 and self._is_waiting and frame == self._said:
            return self._work()
        if frame == b"\xc2":
            self._is_active = False
            return frame
        return None

    def _information(self, pcb: int, data: bytes) -> bytes | None:
        self._number ^= 1  # rule D
        self._command += data
        if pcb & 0x10:
            return bytes([0xA2 | self._number])  # rule 2
        code = self._command[1] if self._command[1:] else 0
        self._waits = self._card.waits.get(code, 0)
        return self._work()

    def _work(self) -> bytes | None:
        self._is_waiting = self._waits > 0
        if self._is_waiting:
            self._waits -= 1
            return bytes([0xF2, self._card.wait_multiplier])  # rule 9
        command, self._command = self._command, b""
        answer = self._card.work(command)
        self._answer = answer or b""
        return None if answer is None else self._next_part()

    def _receipt(self, pcb: int) -> bytes | None:
        if pcb & 1 == self._number:
            return self._said  # rule 11
        if pcb & 0x10:
            return bytes([0xA2 | self._number])  # rule 12
        self._number ^= 1  # rule E
        return self._next_part() if self._answer else None  # rule 13

    def _next_part(self) -> bytes:
        part, self._answer = self._answer[: self._room], self._answer[self._room :]
        return bytes([0x02 | (0x10 if self._answer else 0) | self._number]) + part


# -- cards as they are bought

Keys = dict[int, tuple[bytes, int]]


def _card(chip: Chip, **changes) -> SecureCard:
    usual = {"uid": chip.uid, "sak": 0x20, "atqa": b"\x44\x03", "chip": chip}
    if chip.has_random_uid:
        usual |= {"uid": b"\x08\0\0\0", "random": True, "atqa": b"\x04\x03"}
    return SecureCard(**(usual | changes))


def ntag424(
    uid: str = "04958CAA5C5E80",
    keys: Keys | None = None,
    *,
    chance: Callable[[int], bytes] = os.urandom,
    random_uid: bool = False,
    lrp: bool = False,
    **changes,
) -> SecureCard:
    """Blank, but for ``keys``: by number, the key and its version."""
    chip = Ntag424(bytes.fromhex(uid), chance, keys)
    chip.has_random_uid, chip.is_lrp = random_uid, lrp
    return _card(chip, **changes)


def foreign_ntag424(uid: str = "04D1E2F3A4B580", version: int = 0) -> SecureCard:
    """Bought with somebody else's keys on it, as Seritag's."""
    keys = {number: (os.urandom(16), version) for number in range(5)}
    return ntag424(uid, keys)


def desfire(
    model: str = "EV2",
    uid: str = "04112233445566",
    *,
    aid: str = "",
    keys: Keys | None = None,
    count: int = 1,
    settings: int = 0x0B,
    chance: Callable[[int], bytes] = os.urandom,
    random_uid: bool = False,
    **changes,
) -> SecureCard:
    """Without an application, or with ``aid``, its ``count`` keys and KeySettings."""
    chip = Desfire(bytes.fromhex(uid), chance, model)
    chip.has_random_uid = random_uid
    if aid:
        ring = chip.applications[bytes.fromhex(aid)] = Ring.of(count, keys)
        ring.settings = settings
    return _card(chip, **({"ats": DESFIRE_ATS} | changes))


# -- without a reader


def woken(card: ByteCard) -> bool:
    """Wake a card and select it, as a reader does before RATS."""
    if not card.wake():
        return False
    sak = b""
    for level, part in zip((0x93, 0x95, 0x97), card._parts(), strict=False):
        check = bytes([part[0] ^ part[1] ^ part[2] ^ part[3]])
        sak = card.answer(bytes([level, 0x70]) + part + check) or b""
    return bool(sak)


class Air:
    """Frames to a card that has been selected, and its answers; ``clock`` advances by
    what they take."""

    def __init__(self, card: ByteCard, clock=None) -> None:
        self.card, self.clock = card, clock
        #: Each frame and its answer; None is silence.
        self.frames: list[tuple[bytes, bytes | None]] = []
        self.is_there = woken(card)

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        """Raises: TimeoutError if nothing comes in time; ValueError if it is garbled."""
        answer = self.card.answer(bytes(frame))
        took_s = getattr(self.card, "took_s", 0.0)
        if took_s > timeout_s:
            answer = None
        if self.clock is not None:
            self.clock.advance(timeout_s if answer is None else took_s)
        self.frames.append((bytes(frame), answer))
        if answer is None:
            raise TimeoutError("the card is silent")
        if answer is GARBLED:
            raise ValueError("the answer is garbled")
        return answer

    def command(self, apdu: str) -> str:
        """An APDU in one block and its answer, in hex, without its PCB; RATS first."""
        if not self.frames:
            self.exchange(b"\xe0\x80", 1)
        number = sum(frame[0] & 0xEE == 0x02 for frame, _ in self.frames) & 1
        return self.exchange(bytes([2 | number]) + bytes.fromhex(apdu), 1)[1:].hex()
