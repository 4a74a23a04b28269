"""A PN532 on a serial port that is a pty: what nfcpy's unmodified driver speaks to.

    chip = Pn532()
    reader = NfcReader(chip.device)        # tty:nfcpty-4711-0:pn532, for any process
    chip.put(card("ntag213"))
    chip.hang_up(after=2)                  # unplugged while the third command runs
    chip.plug_in()

It has the methods of `virtual.VirtualField` and faults besides.  The chip is one thread,
and all that is done to it is done there, between two reads of the line.

Source: NXP UM0701-02, PN532 user manual: 6.2.1 frames, 6.2.2 dialogue, 7.2 and 7.3
commands; what nfcpy does with them: nfc/clf/pn532.py and pn53x.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import queue
import random
import select
import termios
import threading
import time
import tty
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from tests.fakes.virtual import GARBLED, FelicaCard, VirtualCard

ACK = bytes.fromhex("0000ff00ff00")
ERROR_FRAME = bytes.fromhex("0000ff01ff7f8100")
BAUDS = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
SPEEDS = {getattr(termios, f"B{baud}", None): baud for baud in BAUDS}
FIFO_DATA, RX_MODE = 0x6339, 0x6303
AUTOMATIC_RATS = 0x10
NO_CARD, TIMED_OUT, CRC_ERROR = b"\x00", b"\x01", b"\x02"
BYTE_S = 10 / 115_200  # on the line: 8N1
AIR_BYTE_S = 9 / 106_000  # with its parity

_numbers = itertools.count()


def frame_of(data: bytes) -> bytes:
    """A normal information frame, or an extended one for more than 255 bytes."""
    size = bytes([len(data)]) if len(data) < 256 else len(data).to_bytes(2, "big")
    head = (b"" if len(size) == 1 else b"\xff\xff") + size + bytes([-sum(size) & 0xFF])
    return b"\x00\x00\xff" + head + data + bytes([-sum(data) & 0xFF, 0])


def crc_a(data: bytes) -> bytes:
    """Source: ISO/IEC 14443-3, annex B."""
    crc = 0x6363
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Cut the next whole frame out of ``buffer``: the length of what came before it,
    and its data; ``b""`` is an ACK, ``b"\\xff"`` a NACK.  Wrong frames are dropped."""
    while (at := buffer.find(b"\x00\xff")) >= 0:
        rest = bytes(buffer[at + 2 :])
        head, size = (5, rest[2:4]) if rest[:2] == b"\xff\xff" else (2, rest[:1])
        if len(rest) < head:
            return None
        if rest[:2] in (b"\x00\xff", b"\xff\x00"):
            del buffer[: at + 4]
            return at, rest[:1].strip(b"\x00")
        length = int.from_bytes(size, "big")
        if sum(rest[head - len(size) - 1 : head]) & 0xFF:
            del buffer[: at + 2]
            continue
        if len(rest) < head + length + 1:
            return None
        data = rest[head : head + length + 1]
        del buffer[: at + 2 + head + length + 1]
        if length and not sum(data) & 0xFF:
            return at, data[:-1]
    return None


class Pn532:
    """The chip, its line and the cards before it."""

    def __init__(self, *, baud: int = 115200) -> None:
        self.name = f"nfcpty-{os.getpid()}-{next(_numbers)}"
        self.device = f"tty:{self.name}:pn532"
        self.path = Path("/dev") / self.name
        #: Seconds between a command's ACK and its answer.
        self.latency_s = 0.0
        #: What the host hears when it speaks at another speed than the chip.
        self.noise_at_wrong_speed = False
        #: Some boards need a reset after a PowerDown (nfcpy #186).
        self.deaf_after_power_down = False
        #: Of several cards, show each in turn instead of the one that wins.
        self.in_turn = False
        #: Take the time of 115200 baud, of the air and of the cards (`took_s`).
        self.is_timed = False
        self.commands: Counter[str] = Counter()
        #: Each command and the bytes on the line that belong to it, both ways.
        self.traffic: deque[tuple[str, int]] = deque(maxlen=10_000)
        self.senses = 0
        self.resets = 0
        self._cards: list[VirtualCard | FelicaCard] = []
        self._was_read = threading.Event()
        self._chance = random.Random(532)
        self._fault, self._is_stubborn = "", False
        self._next_fault = ("", False)
        self._fault_in: int | None = None  # commands
        self._fault_in_bytes: int | None = None
        self._master = self._slave = -1
        self._plug_in()
        self.baud = baud
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]
        self._jobs = queue.SimpleQueue()
        self._wakes, self._wake = os.pipe()
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="pn532", daemon=True)
        self._thread.start()

    # -- what a test does

    def put(self, *cards: VirtualCard | FelicaCard) -> None:
        """Hold ``cards`` before the reader, in place of any that are there."""
        self._do(lambda: self._show(list(cards)))

    def take(self) -> None:
        self.put()

    def wait_until_read(self, timeout_s: float) -> bool:
        """True once the chip has selected a card since the last ``put``."""
        return self._was_read.wait(timeout_s)

    @property
    def polls(self) -> int:
        return self.senses

    def reset(self) -> None:
        """A pulse on RSTPD_N."""
        self.resets += 1
        self._do(self._power_on)

    def plug_in(self) -> None:
        """A new port of the same name, and a chip that has just got power."""
        self._do(self._plug_in)

    def close(self) -> None:
        self.hang_up()
        self._is_closing = True
        os.write(self._wake, b".")
        self._thread.join()
        os.close(self._wake)
        os.close(self._wakes)

    # -- faults: at once, or while the command after ``after`` more is running, or when
    #    ``after_bytes`` more bytes have reached the host.  A reset or a new plug ends
    #    them, unless ``stubborn``; ``cure`` ends all but ``hang_up``.

    def hang_up(self, **when: int) -> None:
        """The port is gone, as when a plug is pulled."""
        self._break("hang-up", **when)

    def mute(self, **when: int) -> None:
        self._break("mute", **when)

    def ack_only(self, **when: int) -> None:
        """Commands are acknowledged, and that is all."""
        self._break("ack-only", **when)

    def garbage(self, **when: int) -> None:
        self._break("garbage", **when)

    def short_answers(self, **when: int) -> None:
        self._break("short", **when)

    def error_frames(self, **when: int) -> None:
        self._break("error", **when)

    def cure(self) -> None:
        self._do(lambda: self._cure(True))

    unmute = cure

    # -- the thread

    def _do(self, job: Callable[[], Any]) -> Any:
        """Run ``job`` in the chip's thread: a port that is being waited for would stay
        open, and a change in the middle of a command would be half a change."""
        if threading.current_thread() is self._thread:
            return job()
        done: Future[Any] = Future()
        self._jobs.put((job, done))
        os.write(self._wake, b".")
        return done.result(5)

    def _serve(self) -> None:
        with contextlib.suppress(PermissionError):
            # A chip does not wait for the computer; nfcpy gives it 0.1 s.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
        while not self._is_closing:
            line = [self._master] if self._master >= 0 else []
            due_s = max(0.0, self._due_at - time.monotonic())
            ready, _, _ = select.select(
                [self._wakes, *line], [], [], None if due_s == inf else due_s
            )
            if self._wakes in ready:
                self._run_jobs()
            elif ready:
                self._hear(os.read(self._master, 4096))
            elif time.monotonic() >= self._due_at:
                self._due_at = inf
                self._send(self._answer)

    def _run_jobs(self) -> None:
        os.read(self._wakes, 4096)
        while not self._jobs.empty():
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except Exception as error:
                done.set_exception(error)

    # -- the line

    def _plug_in(self) -> None:
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._power_on()
        try:
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(os.ttyname(self._slave))
        except OSError:  # /dev is not ours to write
            os.close(self._master)
            os.close(self._slave)
            raise

    def _unplug(self) -> None:
        if self._master < 0:
            return
        self.path.unlink(missing_ok=True)  # first: the port's number may be used anew
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def _host_speed(self) -> int | None:
        """A pty's master sees the terminal settings of its slave."""
        return SPEEDS.get(termios.tcgetattr(self._master)[4])

    def _hear(self, data: bytes) -> None:
        speed = self._host_speed()
        if speed == self._next_baud:
            # The ACK that ends SetSerialBaudrate was on its way. On a wire it cannot be
            # called back; a pty's is flushed by a host that opens it at the new speed.
            self.baud, self._next_baud = self._next_baud, None
        elif speed != self.baud:
            self._heard.clear()
            if self.noise_at_wrong_speed:
                self._send(self._noise())
            return
        self._heard += data
        self._unread = len(self._heard)
        while self._master >= 0 and (frame := take_frame(self._heard)):
            self._react(*frame)

    def _send(self, data: bytes) -> None:
        """Bytes to the host, as far as the line lasts."""
        if self._fault_in_bytes is not None:
            data = data[: self._fault_in_bytes]
            self._fault_in_bytes -= len(data)
        if self._master >= 0 and data:
            with contextlib.suppress(BlockingIOError):  # nobody listens
                os.write(self._master, data)
        if self._fault_in_bytes == 0:
            self._until_heard()
            self._strike()

    def _until_heard(self) -> None:
        """What was sent before a port goes has reached the host: see that it is read,
        or for 5 ms nothing is there to be read (a hang-up would take it away)."""
        ends_at, quiet = time.monotonic() + 0.5, 0
        while self._master >= 0 and quiet < 5 and time.monotonic() < ends_at:
            time.sleep(0.001)
            unread = fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4))
            quiet = 0 if any(unread) else quiet + 1

    def _noise(self) -> bytes:
        return self._chance.randbytes(self._chance.randint(16, 40))

    # -- faults

    def _break(
        self,
        fault: str,
        *,
        after: int | None = None,
        after_bytes: int | None = None,
        stubborn: bool = False,
    ) -> None:
        def schedule() -> None:
            self._next_fault = (fault, stubborn)
            self._fault_in, self._fault_in_bytes = after, after_bytes
            if after is None and after_bytes is None:
                self._strike()

        self._do(schedule)

    def _strike(self) -> None:
        fault, is_stubborn = self._next_fault
        self._fault_in = self._fault_in_bytes = None
        self._due_at = inf
        if fault == "hang-up":
            self._unplug()
        else:
            self._fault, self._is_stubborn = fault, is_stubborn

    def _cure(self, also_stubborn: bool) -> None:
        if also_stubborn or not self._is_stubborn:
            self._fault = ""
            self._fault_in = self._fault_in_bytes = None

    # -- the chip

    def _power_on(self) -> None:
        self.baud = 115200
        self._next_baud: int | None = None
        self._parameters = 0x14  # automatic RATS and ATR_RES, until nfcpy says no
        self._timeout_s = 0.0512
        self._registers = {RX_MODE: 0x00}
        self._fifo = 0x00
        self._selected: VirtualCard | None = None
        self._is_asleep = self._is_deaf = False
        self._heard = bytearray()
        self._answer = b""
        self._due_at = inf
        self._cure(False)

    def _react(self, before: int, data: bytes) -> None:
        if self._is_asleep:
            self._is_asleep = False
            if before < 5:  # the first bytes wake it, and are lost
                return
        if self._fault == "mute" or self._is_deaf:
            return
        if data == b"":
            self._due_at = inf  # an ACK from the host ends the command
            self.baud, self._next_baud = self._next_baud or self.baud, None
        elif data == b"\xff":
            self._send(self._answer)
        elif data[0] == 0xD4 and len(data) > 1:
            self._command(data[1], data[2:])

    def _command(self, code: int, data: bytes) -> None:
        if self._fault_in == 0:
            self._strike()
        elif self._fault_in:
            self._fault_in -= 1
        if self._fault in ("garbage", "short"):
            self._send(self._noise() if self._fault == "garbage" else b"\x00\x00")
        if self._fault in ("garbage", "short", "mute"):
            return
        self._send(ACK)
        if self._fault == "ack-only":
            return
        self._busy_s = self.latency_s
        name, run = self.COMMANDS.get(code, ("unknown", None))
        self.commands[name] += 1
        asked, self._unread = self._unread - len(self._heard), len(self._heard)
        self._answer = ERROR_FRAME
        if run is not None and self._fault != "error":
            with contextlib.suppress(IndexError):  # parameters are missing
                self._answer = frame_of(bytes([0xD5, code + 1]) + run(self, data))
        self.traffic.append((name, size := asked + len(ACK) + len(self._answer)))
        if self.is_timed:
            self._busy_s += size * BYTE_S
        self._due_at = time.monotonic() + self._busy_s

    def _diagnose(self, data: bytes) -> bytes:
        return data if data[:1] == b"\x00" else b"\x00"

    def _read_registers(self, data: bytes) -> bytes:
        wanted = [
            int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)
        ]
        known = self._registers | {FIFO_DATA: self._fifo}
        return bytes(known.get(register, 0) for register in wanted)

    def _write_registers(self, data: bytes) -> bytes:
        for i in range(0, len(data), 3):
            self._registers[int.from_bytes(data[i : i + 2], "big")] = data[i + 2]
        return b""

    def _set_baud(self, data: bytes) -> bytes:
        self._next_baud = BAUDS[data[0]]  # once the host has acknowledged the answer
        return b""

    def _set_parameters(self, data: bytes) -> bytes:
        self._parameters = data[0]
        return b""

    def _power_down(self, data: bytes) -> bytes:
        self._is_asleep, self._is_deaf = True, self.deaf_after_power_down
        return b"\x00"

    def _configure_rf(self, data: bytes) -> bytes:
        item, values = data[0], data[1:]
        if item == 0x01 and not values[0] & 1:
            self._selected = None  # no field, no power
        if item == 0x02:
            self._timeout_s = 0.0001 * 2 ** (values[2] - 1) if values[2] else 0.0
        return b""

    def _release(self, data: bytes) -> bytes:
        self._selected = None
        return b"\x00"

    # -- cards

    def _show(self, cards: list[VirtualCard | FelicaCard]) -> None:
        self._was_read.clear()
        self._cards, self._selected = cards, None

    def _list_passive_target(self, data: bytes) -> bytes:
        if data[1] in (0x01, 0x02):  # 212 and 424 kbit/s, FeliCa
            felica = [card for card in self._cards if isinstance(card, FelicaCard)]
            if not felica:
                return NO_CARD
            self._was_read.set()
            answer = felica[0].poll(data[2:])
            return b"\x01\x01" + bytes([len(answer) + 1]) + answer
        if data[1] != 0x00:
            return NO_CARD  # Type B, Jewel: none of them here
        self.senses += 1
        found = self._anticollide(data[2:])
        if found is None:
            return NO_CARD
        atqa, sak, uid = found
        self._registers[RX_MODE] = 0x80  # check bytes are the chip's to check
        self._was_read.set()
        target = b"\x01" + atqa[::-1] + sak + bytes([len(uid)]) + uid
        if self._parameters & AUTOMATIC_RATS and sak[0] & 0x20 and self._selected:
            target += self._selected.answer(b"\xe0\x50") or b""
        return b"\x01" + target

    def _anticollide(self, wanted: bytes) -> tuple[bytes, bytes, bytes] | None:
        """Select one card, the one that is ``wanted`` if any.

        Source: ISO/IEC 14443-3, 6.5.3: where bits collide, the reader goes on with 1.
        """
        self._fifo, self._selected = 0x26, None
        cards = [card for card in self._cards if isinstance(card, VirtualCard)]
        if self.in_turn and cards:
            cards = [cards[self.senses % len(cards)]]
        awake = [(card, atqa) for card in cards if (atqa := card.wake())]
        uid = b""
        for i, level in enumerate((b"\x93", b"\x95", b"\x97")):
            if not awake:
                return None
            self._fifo = 0x20
            part = wanted[i * 4 :][:4] or self._winner([c for c, _ in awake], level)
            part += bytes([part[0] ^ part[1] ^ part[2] ^ part[3]]) if part else b""
            saks = [(c, a, c.answer(level + b"\x70" + part)) for c, a in awake]
            chosen = [(c, a, sak) for c, a, sak in saks if sak]
            if not chosen:
                return None
            card, atqa, sak = chosen[0]
            if not sak[0] & 0x04:
                self._selected = card
                return atqa, sak, uid + part[:4]
            awake, uid = [(card, atqa)], uid + part[1:4]
        return None

    def _winner(self, cards: list[VirtualCard], level: bytes) -> bytes:
        """The part of the UID that is left when every collision was settled."""
        parts = [card.answer(level + b"\x20") for card in cards]
        return max(
            (part[:4] for part in parts if part),
            key=lambda part: [byte >> bit & 1 for byte in part for bit in range(8)],
            default=b"",
        )

    def _exchange(self, data: bytes) -> bytes:
        """Status and answer of a card that has been selected."""
        card = self._selected
        answer = card.answer(data) if card else None
        took_s = getattr(card, "took_s", 0.0) if self.is_timed else 0.0
        if card is None or answer is None or took_s > self._timeout_s:
            self._busy_s += self._timeout_s
            return TIMED_OUT
        if self.is_timed:
            self._busy_s += took_s + (len(data) + len(answer) + 4) * AIR_BYTE_S
        if answer is GARBLED:
            return CRC_ERROR
        is_four_bits = len(answer) == 1 and not card.sak & 0x60
        if self._registers[RX_MODE] & 0x80:
            return CRC_ERROR if is_four_bits else b"\x00" + answer
        return b"\x00" + answer + (b"" if is_four_bits else crc_a(answer))

    COMMANDS: ClassVar[dict[int, tuple[str, Callable[[Pn532, bytes], bytes]]]] = {
        0x00: ("Diagnose", _diagnose),
        0x02: ("GetFirmwareVersion", lambda self, data: b"\x32\x01\x06\x07"),
        0x04: ("GetGeneralStatus", lambda self, data: b"\x00\x00\x00\x80"),
        0x06: ("ReadRegister", _read_registers),
        0x08: ("WriteRegister", _write_registers),
        0x10: ("SetSerialBaudrate", _set_baud),
        0x12: ("SetParameters", _set_parameters),
        0x14: ("SAMConfiguration", lambda self, data: b""),
        0x16: ("PowerDown", _power_down),
        0x32: ("RFConfiguration", _configure_rf),
        0x40: ("InDataExchange", lambda self, data: self._exchange(data[1:])),
        0x42: ("InCommunicateThru", _exchange),
        0x44: ("InDeselect", _release),
        0x4A: ("InListPassiveTarget", _list_passive_target),
        0x52: ("InRelease", _release),
    }
