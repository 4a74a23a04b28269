#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nfcpy>=1.0.4",
#     "gpiozero>=1.6.2",
#     "tomli-w>=1.0.0",
#     "cryptography>=38.0.4",
#     "segno>=1.4.1",
#     "paho-mqtt>=2.1",
# ]
# ///
"""DoorPi opens a smart lock when somebody presents a card that is on the list.

The path of a tap, from the card to the lock and back:

    CardSource.poll -> Door._poll -> Doorkeeper.serve -> Passage._run
      (_judge, LocalList.look_up and decide judge it)
      -> Passage._move (the working light)
      -> LockControl.move -> _attempt (Lock.status, the intent on disk)
      -> _carry_out -> _call -> Lock.send; then Lock.confirm, light and event

The same LockControl locks the door again later, when nobody is at the reader.

Files.  doorpi.toml belongs to the owner; no program writes to it.  last-good.json holds
the last valid settings, to start with after a bad edit.  cards.db is the list of people
that verbs and master cards write, with the blocks of `revoke`.  synced.db has the
people of membership systems and lists elsewhere, and online.db what `doorpi online`
must not forget.  doorpi.db is the log; each tap writes to it.  lock.words holds texts
that a lock's driver must not lose, such as a token that the vendor replaces; "authority
NAME.words" is the same for an authority.  pass.key signs guest passes, and list.key the
lists that `publish` sends.  door.key and issuer.key, beside the settings, make the keys
of secure cards.  inbox.db, in memory where possible, is how other processes ask the
running door to move the lock, or to issue a card; look-ups, beside it, is how the door
asks `doorpi online` about a member, and troubles.json says what is wrong with the door.

Map:

     1 Vocabulary               14 Locks                    27 Cobot
     2 Rules                    15 Databases                28 Chat
     3 Signals                  16 The log                  29 MQTT
     4 Settings                 17 People                   30 The published list
     5 The settings file        18 Readers                  31 Home Assistant
     6 Edits                    19 Secure cards             32 Pictures
     7 Ports                    20 Other sources            33 Doctor
     8 Moving a lock            21 The Pi                   34 Wiring
     9 The doorway              22 Authorities              35 Verbs
    10 Open hours               23 Why                      36 Verbs of the list
    11 Judging                  24 The owner's tools        37 Command line
    12 The door                 25 Lists from elsewhere
    13 HTTP                     26 Online

A section uses only names of its own and of earlier sections.  The first ones, up to
Edits, use no clock, disk, network or environment.  A test checks both.

To add a rule       a Reason in Vocabulary, a row of RULES in Rules, of REASON_WORDS in
                    Why (and in PASSING and _turns, if time ends it) and of JAPANESE in
                    Online; rows in the tests of `decide` and `why`.  If a card gets a
                    key for it: Credential and validity in Vocabulary, its Setting in
                    Settings, Parser.credentials in The settings file, LIMITS in The
                    owner's tools.  If it depends on something new: Circumstances in
                    Rules, circumstances in Judging.  If that is in the log: a method of
                    SqliteEvents, and its row of READS in Moving a lock
To change a light   redraw its line of SIGNALS in Signals, or set it in [signals]
To add a setting    a line of its Table in Settings, and one in doorpi.toml
To add a lock       a class in Locks with the methods of Lock (Ports), a row of LOCKS
                    below it and of LOCK_KINDS in Settings; a fake of its cloud and a
                    row of DRIVERS in the tests; README and doorpi.toml.  For OAuth: a
                    second host (WebLock._reach), forms, and texts on disk
                    (DriverStateFile); tests/fakes/oauth.py shows such a driver, but
                    two processes must not renew its token at once
To change when a lock is asked   its LockPolicy in Locks; once its time is learnt, the
                    first question is that of ConfirmTime in Rules
To add a source     a class in Other sources with the methods of Source (Ports), a row
                    of inputs_of (Settings), and its maker in make_input (Wiring).  A
                    kind of scanner: a class and a row of SCANNERS in Other sources, its
                    name in ScannerConfig (Settings), and DeviceAllow in systemd/ for
                    another kind of device.  An exit needs no code: `direction`
To add an authority a class in Authorities and a row of AUTHORITIES below it; its keys
                    in AuthorityConfig (Settings) and authority_problems (The settings
                    file)
To add a verb       a cmd_* in Verbs, or in Verbs of the list, and a row of VERBS in
                    Command line; longer work in The owner's tools
To read a new list  a row of LIST_FORMATS in Lists from elsewhere, and a function for
                    its peculiarities
To add a service    a Table in Settings and its row of ONLINE, a class after Online with
                    the methods of Service, and a row of SERVICES in Wiring
To use MQTT         an MqttPart, after the section MQTT, and its name in MQTT_PARTS in
                    Wiring
To add a notice     a row of NOTICES in Rules

Time.  `at` is a datetime in the door's time zone: for the log and for schedules.  `now`
and names that end in `_by` are monotonic seconds: for waiting.

Threads.  The main thread is the door: it decides, writes the log, advances everything
under way (Runner) and feeds the watchdog; it waits only in Clock.wait.  Blocking calls
run on workers (ThreadWorker): one for each reader, for each lock and for each
remote authority.  A worker makes one call at a time and wakes the main thread when it
ends.  If a call lasts much longer than a second, the watchdog is not fed, so a call
that never ends leads to a restart.  A Dialer's thread opens one connection to a lock's
cloud (DNS, TCP, TLS), because no timeout ends a DNS query; connections are replaced
before the next tap if the server closed them or they were idle for a minute.  The first
such thread also imports the modules for HTTP and TLS, which takes a slow Pi seconds.
One thread plays each pair of lights, and the buzzer, and one reads each scanner.
gpiozero's own threads note that the exit button was pressed.  A relay's pulse ends on a
thread of its own: a strike must shut in time, whatever the door is waiting for.  All
threads but the main one are started by `start_thread` (Ports), so a signal always
interrupts the main thread.  `doorpi online` has a thread for each service, and one
for each message of the chat or order over MQTT while it is answered.

Stopping.  The first SIGTERM or SIGINT raises Stopped (a BaseException, like
KeyboardInterrupt) on the main thread, even in the middle of a wait.  What must not be
interrupted, such as a change of the lights, runs under `postponed` (Ports).

A UID is an identifier, not a secret: anybody who can read a card can copy it.  Only a
secure card proves that it is no copy.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import enum
import errno
import fcntl
import functools
import gc
import hashlib
import heapq
import hmac
import importlib
import io
import ipaddress
import json
import logging
import os
import random
import re
import select
import signal
import socket
import sqlite3
import stat
import struct
import sys
import threading
import time
import tomllib
import traceback
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from itertools import (
    chain,
    cycle,
    groupby,
    islice,
    pairwise,
    product,
    takewhile,
    zip_longest,
)
from math import ceil, inf, sqrt
from operator import attrgetter, itemgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType, SimpleNamespace
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    NewType,
    NoReturn,
    Protocol,
    Self,
    TypeVar,
    cast,
)
from urllib.parse import parse_qs, quote, urlencode, urlsplit

if TYPE_CHECKING:
    import ssl

__version__ = "0.1.0"

log = logging.getLogger("doorpi")


################################################################################
# 1. Vocabulary -- the nouns of access control
################################################################################


#: A card's UID (ISO/IEC 14443-3): 4, 7 or 10 bytes as upper-case hex, no separators;
#: of a FeliCa card its IDm (JIS X 6319-4), 8 bytes.
Uid = NewType("Uid", str)
TYPE_A_BYTES = (4, 7, 10)
UID_BYTES = (4, 7, 8, 10)

#: The cascade tag.  A 4-byte UID never begins with it: four bytes that do are the first
#: part of a longer UID, from a reader that stopped there.  Source: ISO/IEC 14443-3,
#: 6.5.4; raspberry-rc522.py of torehc/carontepass-v2 writes many such (as 136).
CASCADE_TAG = "88"

PRINTED_WORDS = "a number printed on a card is not its UID: tap the card here instead"
NUMBER_WORDS = (
    f"digits only; {PRINTED_WORDS}, and if `log` shows this UID, write it with colons"
)


def parse_uid(text: str) -> Uid:
    """Read a UID as people write it: hex in any case with ``:``, ``-`` or a space
    between bytes, or CarontePass's dotted decimal (``1.35.171.7``, 4 bytes).

    Raises: ValueError; its text says what is wrong.
    """
    text = text.strip()
    printed = f"; {PRINTED_WORDS}" if is_number(text) else ""
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text, re.ASCII):
        numbers = [int(number) for number in text.split(".")]
        if max(numbers) > 255:
            raise ValueError("a number of a dotted UID is more than 255")
        digits = bytes(numbers).hex()
    elif re.fullmatch(r"[0-9A-Fa-f]{2}([:\- ]?[0-9A-Fa-f]{2})*", text):
        digits = re.sub(r"[:\- ]", "", text)
    else:
        raise ValueError(
            f"not a UID: two hex digits per byte, such as 04:A1:B2:C3{printed}"
        )
    size = len(digits) // 2
    if size not in UID_BYTES:
        raise ValueError(f"a UID has 4, 7, 8 or 10 bytes, not {size}{printed}")
    if size == 4 and digits.startswith(CASCADE_TAG):
        raise ValueError(
            "only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or"
            " 136 in decimal): tap the card here instead"
        )
    return Uid(digits.upper())


def is_number(text: str) -> bool:
    """True for six digits or more, like the numbers printed on cards.  One 4-byte UID
    in 43 has no letters in its hex form and looks the same."""
    return bool(re.fullmatch(r"\d{6,}", text.strip(), re.ASCII))


def format_uid(uid: Uid) -> str:
    """The UID as readers and apps show it: ``04:A1:B2:C3``.  An identifier that is no
    UID, such as ``telegram:4711``, stays as it is."""
    size = len(uid) if ":" in uid else 2
    return ":".join(uid[i : i + size] for i in range(0, len(uid), size))


def is_random(uid: Uid) -> bool:
    """True for a UID that changes at each tap, like a phone's.  Source: ISO/IEC
    14443-3, 6.5.4: a single size UID (4 bytes) with uid0 = 08; NFC Forum Digital
    Protocol: an NFCID2 (8 bytes) that begins with 01 FE is of a peer."""
    return uid.startswith({8: "08", 16: "01FE"}.get(len(uid), "-"))


RANDOM_WORDS = (
    "a random UID (4 bytes beginning with 08, or 8 with 01:FE), as phones have: it"
    " changes at each tap and cannot be enrolled; use a card"
)


def chat_user(number: int) -> Uid:
    """The identifier of a Telegram user on the list."""
    return Uid(f"telegram:{number}")


#: The identifiers on the list: UIDs, and users of the chat.
LISTED = "[0-9A-F]{8}|[0-9A-F]{14}|[0-9A-F]{16}|[0-9A-F]{20}|telegram:[1-9][0-9]{0,15}"


def parse_listed(text: str) -> Uid:
    """Read a UID, or a user of the chat: ``telegram:4711``.  Raises: ValueError."""
    text = text.strip()
    is_user = ":" in text and re.fullmatch(LISTED, text)
    return Uid(text) if is_user else parse_uid(text)


class Card(NamedTuple):
    """A card in the field.  Of Type A: ``atqa`` is 2 bytes in air order, ``sak``
    one."""

    uid: Uid
    atqa: bytes = b""
    sak: int = 0


class Span(NamedTuple):
    """Hours on some days of the week (Monday is 0), in minutes from local midnight.  A
    span that ends before it starts crosses midnight and belongs to its first day."""

    days: frozenset[int]
    start_min: int
    end_min: int


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if first not in DAYS or last not in DAYS:
            raise ValueError('days are Mon Tue Wed Thu Fri Sat Sun, as in "Mon-Fri"')
        start, end = DAYS.index(first), DAYS.index(last)
        days.update((start + i) % 7 for i in range((end - start) % 7 + 1))
    return frozenset(days)


def parse_span(text: object) -> Span:
    """Read ``"Mon-Fri 08:00-20:00"`` or ``"Sat, Sun 22:00-02:00"``.  Raises:
    ValueError."""
    if not isinstance(text, str):
        raise ValueError("expected text in quotes")
    if re.search("[\u2010-\u2015\u2212]", text):
        raise ValueError("write a plain - (minus) between days and between hours")
    match = re.fullmatch(
        r"([A-Za-z,\-]+)\s+(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)",
        re.sub(r"\s*([,-])\s*(?=[A-Za-z])", r"\1", text.strip()),
        re.ASCII,
    )
    if match is None:
        raise ValueError('expected days and hours, as in "Mon-Fri 08:00-20:00"')
    days = _parse_days(match[1])
    hour, minute, end_hour, end_minute = map(int, match.groups()[1:])
    start_min, end_min = hour * 60 + minute, end_hour * 60 + end_minute
    if max(minute, end_minute) > 59 or start_min > 1439 or end_min > 1440:
        raise ValueError("a time of day is 00:00 to 23:59; an end may be 24:00")
    if start_min == end_min:
        raise ValueError("start and end are equal; a whole day is 00:00-24:00")
    return Span(days=days, start_min=start_min, end_min=end_min)


def parse_quiet(text: object) -> Span:
    """Read ``"22:00-07:00"``, every day, or a span with days.  Raises: ValueError."""
    if isinstance(text, str) and not re.search("[A-Za-z]", text):
        return parse_span(f"Mon-Sun {text}")
    return parse_span(text)


class Schedule(NamedTuple):
    """When a credential is valid, in local wall time.  No span starts on a ``closed``
    day."""

    name: str
    spans: tuple[Span, ...]
    closed: frozenset[date] = frozenset()
    #: The spans as the owner wrote them, for people to read.
    words: tuple[str, ...] = ()
    needs_first: bool = False  # of [[open]]: only after the first member has come


class Role(enum.StrEnum):
    """What a card is for: opening the door, or enrolling other cards."""

    HOLDER = "holder"
    MASTER = "master"


class Origin(enum.StrEnum):
    """Where a credential comes from: the owner's file, the database, a membership
    system or a list that is read regularly, a published list, a guest pass, or a remote
    authority."""

    TOML = "toml"
    DB = "db"
    COBOT = "cobot"
    LIST = "list"
    MQTT = "mqtt"
    GUEST_PASS = "pass"  # noqa: S105 -- no password
    AUTHORITY = "authority"


class Credential(NamedTuple):
    """One card on the list.  ``valid_from`` and ``valid_until`` are local: days, both
    inclusive, or times without a zone, as the clock on the wall shows them; None: no
    limit."""

    uid: Uid
    holder: str
    enabled: bool = True
    valid_from: date | None = None
    valid_until: date | None = None
    schedule: str | None = None
    role: Role = Role.HOLDER
    source: Origin = Origin.TOML
    #: Why this program cannot use the entry, in words; the card is then not enabled.
    refused: str = ""
    block: Block | None = None
    proof: str = ""  # how the card proves that it is no copy; "": its UID alone
    generation: int = 1  # of its keys
    #: From and until when it is valid, to the second, where that is not by days.
    starts: datetime | None = None
    ends: datetime | None = None
    guest_pass: GuestPass | None = None
    membership: Membership | None = None
    hours: Schedule | None = None  # what ``schedule`` means on its list

    def schedule_of(self, schedules: Mapping[str, Schedule]) -> Schedule | None:
        """Its schedule: that of its list, or else the one in doorpi.toml."""
        return self.hours or schedules.get(self.schedule or "")

    @property
    def refusal(self) -> str:
        """Why the card is refused whatever the time, in words."""
        return block_words(self.block) if self.block else self.refused

    @property
    def is_card(self) -> bool:
        """False for a user of a chat and for a guest pass."""
        return bool(self.uid) and ":" not in self.uid

    @property
    def needs_clock(self) -> bool:
        """True if the decision depends on the day or the hour."""
        dates = self.valid_from, self.valid_until, self.starts, self.ends
        return any(dates) or (self.schedule, self.membership) != (None, None)


def parse_limit(text: str) -> date:
    """Read a day or a local time, as ``str`` and ``isoformat`` write them.  Raises:
    ValueError."""
    with contextlib.suppress(ValueError):
        return date.fromisoformat(text)
    at = datetime.fromisoformat(text)
    if at.tzinfo:
        raise ValueError("expected a local time, without a zone")
    return at


def begins_at(limit: date) -> datetime:
    """From when on a ``valid_from`` lets in: local, without a zone."""
    day = datetime.fromordinal(limit.toordinal())
    return limit if isinstance(limit, datetime) else day


def ends_at(limit: date) -> datetime:
    """From when on a ``valid_until`` keeps out: local, without a zone."""
    if isinstance(limit, datetime):
        return limit
    return begins_at(min(limit, LAST_DAY) + timedelta(days=1))


LAST_DAY = date.max - timedelta(days=1)
FIRST_TIME = begins_at(date.min)


def limit_words(limit: date) -> str:
    """``2026-12-01`` or ``2026-12-01 18:00``."""
    return str(limit).removesuffix(":00")


class Membership(NamedTuple):
    """What a membership system knows of a person.  All times are aware."""

    id: str  # its own, "" where it has none
    plan: str  # its name, "" where it has none
    trusted_until: datetime  # its list is too old then
    refusal: Reason | None = None  # why the person is denied outside the ``spans``
    spans: tuple[tuple[datetime, datetime], ...] = ()  # the ends are exclusive

    def lasts(self, at: datetime) -> bool:
        """Whether the person is not denied then or later, as far as is known."""
        return not self.refusal or any(end > at for _, end in self.spans)

    def refusal_at(self, at: datetime) -> Reason | None:
        """Why the person is denied then, None if they are not."""
        if at >= self.trusted_until:
            return Reason.LIST_TOO_OLD
        is_covered = any(start <= at < end for start, end in self.spans)
        return None if is_covered else self.refusal


class PassCode(NamedTuple):
    """What the QR code of a guest pass says; ``ends`` is aware, to the second."""

    id: str  # 8 letters and digits (base32)
    ends: datetime
    is_once: bool = False  # it opens once


class GuestPass(NamedTuple):
    """A guest pass as the list has it.  All times are aware."""

    code: PassCode
    holder: str
    made_at: datetime
    made_by: str
    starts: datetime | None = None
    schedule: str | None = None
    used_at: datetime | None = None  # where it opens once
    revoked_at: datetime | None = None


def guest_of(code: PassCode, found: GuestPass | None) -> Credential:
    """The guest whose pass has this code; refused where the list does not have it."""
    refused = "" if found else "the list does not have this pass"
    if found and found.revoked_at:
        refused = f"revoked on {found.revoked_at:%Y-%m-%d %H:%M}"
    holder = found.holder if found else f"Guest pass {code.id}"
    return Credential(
        Uid(""), holder, enabled=not refused, refused=refused,
        starts=found and found.starts, ends=code.ends,
        schedule=found and found.schedule,
        source=Origin.GUEST_PASS, guest_pass=found,
    )  # fmt: skip


class Block(NamedTuple):
    """A block, made by `revoke`: on one card of ``holder``, or on all of them where
    ``uid`` is None.  ``since`` is local time."""

    holder: str
    since: datetime
    by: str
    uid: Uid | None = None


class Medium(enum.StrEnum):
    """How an access request arrived: the ``source`` of its event."""

    CARD = "card"
    SECURE_CARD = "secure-card"
    QR = "qr"
    BUTTON = "button"
    CHAT = "chat"
    MQTT = "mqtt"
    COMMAND = "command"
    RELOCK = "relock"
    DOOR = "door"


class Wants(enum.StrEnum):
    """What an access request asks for.  Only a tap may do either of lock and unlock,
    depending on the settings and the state of the lock."""

    TAP = "tap"
    UNLOCK = "unlock"
    LOCK = "lock"
    STATUS = "status"
    ISSUE = "issue"
    WIPE = "wipe"


class AccessRequest(NamedTuple):
    """A person or a program asks for the lock to be moved."""

    medium: Medium
    identifier: str  # what was presented: the UID of a card
    at: datetime
    arrived: float  # monotonic: it was presented then or a moment earlier
    good_until: float  # monotonic: no command is sent for it after that
    wants: Wants = Wants.TAP
    point: str = ""  # the name of the reader or scanner, where there are several
    #: Given by the sender, before a space; a second request with it is ignored.
    id: str = ""


class Reason(enum.StrEnum):
    """Why a card was granted or denied.

    Source: the deny reasons of ONVIF Access Control (``tns1:AccessControl/Denied``),
    and others that a door without a server needs.
    """

    GRANTED = "granted"
    LOCKED_DOWN = "locked-down"
    RANDOM_UID = "random-uid"
    NOT_FOUND = "not-found"
    NOT_ENABLED = "not-enabled"
    NOT_ACTIVE = "not-active"
    EXPIRED = "expired"
    CLOCK_NOT_SET = "clock-not-set"
    NOT_PERMITTED_AT_THIS_TIME = "not-permitted-at-this-time"
    PASSBACK = "passback"
    STALE = "stale"
    AUTHORITY_UNREACHABLE = "authority-unreachable"
    # A remote authority's reasons, and those of QR codes:
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 -- no password
    REVOKED = "revoked"
    CARD_EXPIRED = "card-expired"
    OTHER_ORGANISATION = "other-organisation"
    REPLAYED = "replayed"
    AMBIGUOUS = "ambiguous"
    UNREADABLE_CODE = "unreadable-code"
    USED_UP = "used-up"
    # Of a secure card:
    NO_PROOF = "no-proof"  # it did not prove itself, or cannot and has to
    WRONG_PROOF = "wrong-proof"  # it is a copy, or the door has the wrong key
    CARD_MOVED = "card-moved"
    CARD_LOCKED = "card-locked"
    PROOF_UNAVAILABLE = "proof-unavailable"
    # Those of a membership system:
    LIST_TOO_OLD = "list-too-old"
    PLAN_NOT_HERE = "plan-not-here"
    NO_PASS = "no-pass"  # noqa: S105 -- no password
    NO_BOOKING = "no-booking"


class Change(enum.StrEnum):
    """What has changed, of the list of people or of the door itself: the reason of such
    an event."""

    ALLOW = "allow"
    REVOKE = "revoke"
    IMPORT = "import"
    EDIT = "edit"
    SYNC = "sync"
    FORGET = "forget"  # a name was removed from old rows
    LOCKDOWN_ON = "lockdown-on"
    LOCKDOWN_OFF = "lockdown-off"
    # As the door contact says; the source of these events is "door":
    FORCED_OPEN = "forced-open"  # it opened, and nobody was granted
    HELD_OPEN = "held-open"
    CLOSED = "closed"  # after one of these two


ALARMS = (Change.FORCED_OPEN, Change.HELD_OPEN)


#: What stands in place of a name that was forgotten.
FORGOTTEN = "(forgotten)"


class Verdict(NamedTuple):
    """The decision about one access request, and its holder's name."""

    reason: Reason
    holder: str = ""

    @property
    def granted(self) -> bool:
        return self.reason is Reason.GRANTED


class LockState(enum.StrEnum):
    """The position of the bolt; UNKNOWN counts as neither locked nor unlocked."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"
    UNKNOWN = "unknown"


class Command(enum.StrEnum):
    """A command for a lock: always explicit, never a toggle."""

    LOCK = "lock"
    UNLOCK = "unlock"

    @property
    def target(self) -> LockState:
        return LockState.LOCKED if self is Command.LOCK else LockState.UNLOCKED


class LockStatus(NamedTuple):
    """One observation of the lock; None where the vendor does not report it."""

    state: LockState
    why: str = ""  # in words, where ``state`` is UNKNOWN
    reachable: bool | None = None
    battery_percent: int | None = None  # 0-100
    as_of: float | None = None  # Unix seconds by the vendor's clock
    battery_is_low: bool = False  # the lock's own warning
    is_moving: bool = False  # the state will be known when the bolt stops
    is_between: bool = False  # the bolt stands half way; a tap treats it as unlocked
    is_old: bool = False  # the lock has not reported for a while: ``wake`` may help

    @property
    def effective_state(self) -> LockState:
        """The state from which a command is chosen."""
        return LockState.UNLOCKED if self.is_between else self.state


class Progress(enum.StrEnum):
    """What the lock answers when it is asked about a command."""

    DONE = "done"
    PENDING = "pending"
    #: A status newer than the command shows that the bolt has not moved.
    NO_EFFECT = "no-effect"


class Result(enum.StrEnum):
    """How a granted request ended."""

    UNLOCKED = "unlocked"
    LOCKED = "locked"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNSURE = "unsure"
    UNKNOWN_STATE = "unknown-state"
    INTERRUPTED = "interrupted"


#: The results after which the bolt has moved or may have moved.
MOVED = (Result.UNLOCKED, Result.LOCKED, Result.UNSURE)


class Outcome(NamedTuple):
    """How a move of the lock ended; ``detail`` is in words, the battery is 0-100."""

    command: Command | None
    result: Result
    detail: str = ""
    battery_percent: int | None = None
    battery_is_low: bool = False
    lock: str = "lock"  # its table in the settings: "lock" or "fallback"


class Event(NamedTuple):
    """One line of the log: an access request and its outcome, or a Change.  Words that
    only a newer version knows stay text."""

    at: datetime
    uid: Uid | None  # None where no card was presented
    holder: str
    reason: Reason | Change | str
    command: Command | str | None = None
    result: Result | str | None = None  # None for a denial, and until the move ends
    latency_ms: int | None = None  # from presentation to result
    source: str = "card"  # the Medium, or what made a Change
    detail: str = ""
    id: int = 0
    point: str = ""  # of the access request
    request: str = ""  # the id of the access request
    note: str = ""  # about the request: of a guest pass, or what an authority said

    @property
    def details(self) -> str:
        """The note and the detail: what ``detail`` is to everybody outside."""
        return "; ".join(filter(None, [self.note, self.detail]))

    @property
    def decision(self) -> str:
        if isinstance(self.reason, Change):
            return "changed"
        return "granted" if self.reason is Reason.GRANTED else "denied"


def change_event(
    at: datetime,
    what: Change,
    source: str,
    detail: str,
    whose: Collection[Credential | Block] = (),
) -> Event:
    """A change of the list, with the card and the holder where it is about one only."""
    uids, holders = {each.uid for each in whose}, {each.holder for each in whose}
    uid = (uids.pop() or None) if len(uids) == 1 else None
    holder = holders.pop() if len(holders) == 1 else ""
    return Event(at, uid, holder, what, source=source, detail=detail)


class Notes(NamedTuple):
    """Values to store under names (NoteKey) beside the events: ``words`` replace the
    stored value, ``counts`` are added to it."""

    words: Mapping[str, str] = MappingProxyType({})
    counts: Mapping[str, int] = MappingProxyType({})


#: Why nobody was let in, where neither the lock nor its cloud gave a reason.
FAILURES: dict[str, str] = {
    Result.REFUSED: "the lock refused",
    Result.UNREACHABLE: "the lock could not be reached",
    Result.UNKNOWN_STATE: "the lock's state is not known",
}


NO_NOTES = Notes()


def verdict_word(event: Event) -> str:
    """The decision, or "failed" where a granted person was not let in; "" for what the
    door does by itself."""
    if event.source in ("relock", "door"):
        return ""
    return "failed" if event.result in FAILURES else event.decision


def outcome_words(event: Event) -> str:
    """How an event ended, as the journal, `log` and the demo print it."""
    detail = printable(event.details)
    more = f" ({detail})" if detail else ""
    if event.reason is not Reason.GRANTED:
        return f"{event.reason}{more}"
    if event.result is None and event.command is None:
        return detail or "under way"
    if event.result is None:
        return f"{event.command} -> under way{more}"
    ms = event.latency_ms
    took = "" if ms is None else f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
    if event.result in FAILURES:
        card = "card accepted, " * (event.uid is not None)
        done = "locked" if event.command == Command.LOCK else "opened"
        after = f" after {took}" if took else ""
        return f"{card}door not {done}{after}: {detail or FAILURES[event.result]}"
    sent = "" if event.source == "relock" else f"{event.command or 'nothing sent'} -> "
    return f"{sent}{event.result}{f' in {took}' if took else ''}{more}"


def describe(event: Event) -> str:
    """One event as a line of the journal."""
    card = f" ({format_uid(event.uid)})" if event.uid else ""
    word = f"{word}: " if (word := verdict_word(event)) else ""
    return f"{word}{holder_words(event)}{card}: {outcome_words(event)}"


def status_words(status: LockStatus, unix_s: float) -> str:
    """A lock's status, for `status` and `doctor`."""
    reachable = {True: "it answers", False: "it does not answer", None: ""}
    words = [
        f"not known ({status.why})" if status.why else status.state.value,
        reachable[status.reachable],
    ]
    if status.battery_percent is not None:
        words.append(f"battery {status.battery_percent} %")
    if status.battery_is_low:
        words.append("battery low")
    if status.as_of is not None:
        words.append(f"as of {max(0, unix_s - status.as_of):.0f} s ago")
    return ", ".join(filter(None, words))


def holder_words(event: Event) -> str:
    """The holder of an event, safe to show."""
    nobody = {
        "relock": "auto-relock", "qr": "unknown code", "chat": "unknown user",
        "button": "exit button", "door": "the door",
    }.get(event.source, "unknown card")  # fmt: skip
    if event.reason in (Change.LOCKDOWN_ON, Change.LOCKDOWN_OFF):
        nobody = "everybody"
    elif isinstance(event.reason, Change) and event.source != "door":
        nobody = "several people"
    return printable(event.holder) or nobody


class NoteKey(enum.StrEnum):
    """The names of Notes.  ``of`` makes the name of one note of several: ``quota
    sesame``."""

    RELOCK = "relock"  # the locks that are to be locked again (relocks_text)
    OPEN = "open"  # what was last done to the lock in the open hours, and when
    ISSUING = "issuing"  # of a card whose keys are being changed: since when
    UNKNOWN = "unknown"  # the unknown cards of the last minutes (unknown_text)
    RETENTION = "retention"  # events older than this are being removed
    SETTLED = "settled"  # an event's id: all events before it have ended
    LIST = "list"  # how often the list was changed, and why it is locked down
    SECURE = "secure"  # of a card: how it proves itself, and the generation of its keys
    BLOCK = "block"  # of a "uid" or a "holder": who made the block, and when
    PRESENT = "present"  # of a person: when they came in (presence_text)
    BACKUP = "backup"  # when the list was last written to a file
    CALLS = "calls"  # of a lock kind and a month: the number of API calls
    QUOTA = "quota"  # of a lock kind: it must not be called before this
    WAKE = "wake"  # of a lock kind: it must not be woken before this
    CONFIRM = "confirm"  # of a lock and a command: when it is done (ConfirmTime)

    def of(self, *more: str) -> str:
        return " ".join((self, *more))


class Health(enum.StrEnum):
    """How `doctor` found one thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line of `doctor`; ``do`` says what to do about it."""

    health: Health
    words: str
    do: str = ""


#: Japanese keyboards put it between family and given name.  Python counts every space
#: but the ASCII one as unprintable.
WIDE_SPACE = "\u3000"

#: ZWNJ and ZWJ are invisible, but Persian, Sinhala and many emoji are spelt with them.
#: Between other letters they would only make two names look alike.
JOINERS = "\u200c\u200d"
_JOINED = "[^\0-\u024f\u2000-\u206f\u3000]"
STRAY_JOINER = f"(?<!{_JOINED})[{JOINERS}]|[{JOINERS}](?!{_JOINED})"
UNJOINED = dict.fromkeys(map(ord, JOINERS))


def tidied(text: str) -> str:
    """Typed or pasted text without accidental characters: spaces of other widths become
    plain ones; zero width spaces, direction marks and the BOM go from both ends."""
    text = re.sub("[\u00a0\u1680\u2000-\u200a\u202f\u205f]", " ", text)
    return text.strip(f" {WIDE_SPACE}{JOINERS}\u200b\u200e\u200f\u061c\u2060\ufeff")


def is_visible(text: str) -> bool:
    """False for a text with control characters, line ends or marks that reorder it."""
    if text.isascii():  # most texts are, and logs are long
        return text.isprintable()
    plain = text.translate(UNJOINED).replace(WIDE_SPACE, " ")
    return plain.isprintable() and not re.search(STRAY_JOINER, text)


def escaped(text: str, escape: Callable[[str], str] = lambda c: ascii(c)[1:-1]) -> str:
    """``text`` with an escape in place of each invisible character."""
    shown = "".join(c if c in JOINERS or is_visible(c) else escape(c) for c in text)
    return re.sub(STRAY_JOINER, lambda joiner: escape(joiner[0]), shown)


def printable(text: str, limit: int = 200) -> str:
    """Text from outside, safe to show: control characters are escaped."""
    shown = text if is_visible(text) else escaped(text)
    if len(shown) <= limit:
        return shown
    return f"{shown[: limit - 3].rstrip(JOINERS)}..."


LIFTS_BLOCK = "doorpi allow NAME --uid {}"


def block_words(block: Block) -> str:
    """When and by whom the block was made."""
    return f"blocked since {block.since:%Y-%m-%d %H:%M} by {printable(block.by, 60)}"


def card_name(card: Credential, *others: Credential) -> str:
    """``Ken Sato (04:A1:B2:C3)``, or with the id of a guest pass; of several cards of
    one holder with all UIDs."""
    own = f"pass {card.guest_pass.code.id}" if card.guest_pass else "guest pass"
    uids = ", ".join(format_uid(each.uid) or own for each in (card, *others))
    return f"{printable(card.holder, 60)} ({uids})"


def _hours(schedule: Schedule, today: date = date.min) -> str:
    closed = sorted(str(day) for day in schedule.closed if day >= today)
    words = ", ".join(map(printable, schedule.words))
    words += f", not on {', '.join(closed)}" * bool(closed)
    return words + ", after the first member has come" * schedule.needs_first


def open_words(hours: Iterable[Schedule], today: date = date.min) -> str:
    """The open hours, as `check` and `status` tell them; "" if there are none."""
    return "; ".join(_hours(each, today) for each in hours)


def _membership_words(member: Membership, usual: str, now: datetime) -> str:
    """When a membership admits the person; ``usual``: when it sets no times."""
    spans = (f"{a:%m-%d %H:%M} to {b:%m-%d %H:%M}" for a, b in member.spans)
    words = ", ".join(spans) or f"never: {member.refusal}" if member.refusal else usual
    words += f", plan {member.plan}" * bool(member.plan)
    is_old = now.tzinfo is not None and member.trusted_until <= now
    return words + ", but its list is too old" * is_old


def validity(
    card: Credential, schedules: Mapping[str, Schedule], now: datetime = FIRST_TIME
) -> str:
    """When a card opens the door, in words; what ended before ``now`` is left out."""
    now, today, aware = now.replace(tzinfo=None), now.date(), now
    duty = "may ask who came" if ":" in card.uid else "enrols cards, does not open"
    master = f" [master: {duty}]" * (card.role is Role.MASTER)
    if card.block or not card.enabled:
        return printable(card.refusal or "switched off") + master
    schedule = card.schedule_of(schedules)
    words = f"never: no schedule {card.schedule!r}" if card.schedule else "always"
    if schedule:
        words = _hours(schedule, today)
    if card.membership:
        words = _membership_words(card.membership, words, aware)
    if card.valid_from and begins_at(card.valid_from) > now:
        words += f", from {limit_words(card.valid_from)}"
    if card.valid_until:
        expired = " (expired)" * (ends_at(card.valid_until) <= now)
        words += f", until {limit_words(card.valid_until)}{expired}"
    return printable(words, 2_000) + master


def counted(number: int, noun: str) -> str:
    """``1 tap``, ``1,234 taps``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def folded(name: str) -> str:
    """A name in the form in which two names are compared: regardless of spacing, case
    and Unicode form."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name.translate(UNJOINED))
    return " ".join(name.split()).casefold()


def without_accents(name: str) -> str:
    """``folded`` and without accents, for a keyboard that has none."""
    name = folded(name)
    if name.isascii():
        return name
    letters = unicodedata.normalize("NFKD", name)
    return "".join(c for c in letters if not unicodedata.combining(c))


def iso_time(value: object, zone: tzinfo | None = None) -> datetime | None:
    """A time in ISO 8601, in ``zone`` if it names none; None for what is not a time."""
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(str(value))
        at = at.replace(tzinfo=at.tzinfo or zone)
        if at.tzinfo and MINYEAR < at.year < MAXYEAR:  # any zone can show it
            return at
    return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not in ``known``."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {printable(close[0])!r}?" if close else ""


def width(text: str) -> int:
    """The columns that ``text`` takes on a terminal; a Japanese letter takes two."""
    if text.isascii():
        return len(text)
    letters = [c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf")]
    return len(letters) + sum(unicodedata.east_asian_width(c) in "WF" for c in letters)


def fitting(text: str, columns: int) -> str:
    """``text``, cut off if it is wider than ``columns``."""
    if width(text) <= columns:
        return text
    while width(text) > columns - 3:
        text = text[:-1]
    return f"{text.rstrip(JOINERS)}..."


################################################################################
# 2. Rules -- pure decisions: no clock, no disk, no network
################################################################################


class Circumstances(NamedTuple):
    """Everything a decision may depend on besides the credential."""

    at: datetime  # aware, in the door's time zone
    #: Converts UTC to the door's time zone, for `why`, which looks ahead past changes
    #: to daylight saving time; None: the offset of ``at`` stays.
    local: Callable[[datetime], datetime] | None = None
    clock_set: bool = True
    locked_down: bool = False
    schedules: Mapping[str, Schedule] = MappingProxyType({})
    #: When this card last moved the lock; ``is_inside``: when its holder came in, who
    #: has not gone out since.
    last_moved: datetime | None = None
    is_inside: bool = False
    passback_s: float = 0.0
    is_exit: bool = False  # at an exit: a lockdown keeps nobody in
    ignores_hours: bool = False  # nor do hours and memberships
    proofs: Collection[str] = ("",)  # those that can be asked for; "": the UID alone

    @property
    def wall(self) -> datetime:
        """What the clock on the wall shows."""
        return self.at.replace(tzinfo=None)


def spans_at(schedule: Schedule, at: datetime) -> Iterator[datetime]:
    """The spans of ``schedule`` that last at the local wall time of ``at``: when each
    began, without a zone.  No span starts on a closed day, so the part of it after
    midnight is closed as well."""
    today, minute = at.date(), at.hour * 60 + at.minute
    yesterday = today - timedelta(days=1)
    for day, at_min in ((today, minute), (yesterday, minute + 1440)):
        for span in schedule.spans if schedule.closed.isdisjoint((today, day)) else ():
            end_min = span.end_min + 1440 * (span.end_min < span.start_min)
            if day.weekday() in span.days and span.start_min <= at_min < end_min:
                yield begins_at(day) + timedelta(minutes=span.start_min)


def is_open(schedule: Schedule, at: datetime) -> bool:
    """True if ``schedule`` admits people at the local wall time of ``at``.

    An hour that daylight saving skips admits nobody; an hour that it repeats admits
    twice.
    """
    return next(spans_at(schedule, at), None) is not None


def hours_at(
    hours: Iterable[Schedule], at: datetime, last: str, moved: datetime
) -> tuple[bool, bool, bool]:
    """What the open hours ask for at ``at``: whether a span lasts, whether the door is
    to stay unlocked, and whether it has to unlock itself for that.

    ``last`` is the last thing that was done to the lock in the hours, and ``moved``
    when, in local time without a zone.  It counts for the spans that had begun by then:
    a member's "unlock" keeps the door open to their end, and that by the "door" itself
    if they do not need a member to come first; a "lock" keeps it shut.
    """
    spans = [
        (each.needs_first, start) for each in hours for start in spans_at(each, at)
    ]
    begins = any(start > moved and not needs_first for needs_first, start in spans)
    was_opened = any(
        start <= moved
        and (last == Command.UNLOCK or (last == Medium.DOOR and not needs_first))
        for needs_first, start in spans
    )
    return bool(spans), was_opened or begins, begins and not was_opened


def _outside_schedule(who: Credential, when: Circumstances) -> bool:
    """A schedule that does not exist admits nobody."""
    schedule = who.schedule_of(when.schedules)
    return who.schedule is not None and not (schedule and is_open(schedule, when.at))


def _not_yet(who: Credential, when: Circumstances) -> bool:
    by_wall = who.valid_from is not None and when.wall < begins_at(who.valid_from)
    return by_wall or (who.starts is not None and when.at < who.starts)


def _no_longer(who: Credential, when: Circumstances) -> bool:
    """A limit follows the wall: an hour that daylight saving repeats may admit twice,
    as that of a schedule does."""
    by_wall = who.valid_until is not None and when.wall >= ends_at(who.valid_until)
    return by_wall or (who.ends is not None and when.at >= who.ends)


def _passed_back(who: Credential, when: Circumstances) -> bool:
    """Timed anti-passback.  A move in the future does not count: the clock jumped."""
    if when.last_moved is None:
        return False
    return 0 <= (when.at - when.last_moved).total_seconds() < when.passback_s


#: What denies a card that is on the list; the first match decides.  `decide` checks for
#: a lockdown and for unknown cards before these, and for a membership after them.
RULES: tuple[tuple[Reason, Callable[[Credential, Circumstances], bool]], ...] = (
    (Reason.NOT_ENABLED, lambda who, when: bool(who.block) or not who.enabled),
    (
        Reason.PROOF_UNAVAILABLE,
        lambda who, when: bool(who.proof) and who.proof not in when.proofs,
    ),
    (Reason.NO_PROOF, lambda who, when: who.is_card and who.proof not in when.proofs),
    (Reason.CLOCK_NOT_SET, lambda who, when: who.needs_clock and not when.clock_set),
    (Reason.NOT_ACTIVE, _not_yet),
    (Reason.EXPIRED, _no_longer),
    (Reason.USED_UP, lambda who, when: bool(who.guest_pass and who.guest_pass.used_at)),
    (Reason.NOT_PERMITTED_AT_THIS_TIME, _outside_schedule),
    (Reason.PASSBACK, _passed_back),
)


def decide(uid: Uid, who: Credential | None, when: Circumstances) -> Verdict:
    """Decide about the card ``uid`` ("" for anything but a card); ``who`` is None if
    nobody is known to have it.  Every answer is a row of the table in test_rules.py."""
    holder = who.holder if who else ""
    is_master = who is not None and who.role is Role.MASTER
    if when.locked_down and not (is_master or when.is_exit):
        return Verdict(Reason.LOCKED_DOWN, holder)
    if who is None:
        return Verdict(Reason.RANDOM_UID if is_random(uid) else Reason.NOT_FOUND)
    if when.ignores_hours:
        who = who._replace(schedule=None, membership=None)
    denied = (reason for reason, denies in RULES if denies(who, when))
    no = next(denied, None) or (who.membership and who.membership.refusal_at(when.at))
    return Verdict(no or Reason.GRANTED, holder)


def stricter(first: Credential | None, other: Credential | None) -> Credential | None:
    """``first``, or else ``other``; with the proof of the other entry of the same card
    if it has none itself."""
    if first is None or first.proof or not (other and other.proof):
        return first or other
    return first._replace(proof=other.proof, generation=other.generation)


class Debounce:
    """Turns a stream of polls into presentations of cards.

    A card that lies on the reader is presented once.  It counts again after the field
    was seen empty for ``rearm_s``; time in which the reader failed does not count.  Two
    cards in one wallet may be seen in turn, so while the field is not empty a card is
    forgotten only after ``forget_s``.  A phone's UID is new at each poll: all random
    UIDs count as one card.

    A card that is seen after ``restart`` counts as one that was there before, until the
    field has been empty for ``rearm_s`` or was watched for ``settle_s``: a card left on
    the reader must neither open the door at each start nor keep others out.
    """

    forget_s = 60.0
    settle_s = 5.0
    away_share = 4  # time without polls counts as rearm_s / away_share at most

    def __init__(self, rearm_s: float) -> None:
        self.rearm_s = rearm_s
        #: When each card was last seen, oldest first, by ``_watched_s``.
        self._seen: dict[str, float] = {}
        self._empty_since: float | None = None
        self._polled_at: float | None = None
        self._watched_s = 0.0
        self._was_away = False  # since the last poll
        self._settled_at = 0.0

    def restart(self) -> None:
        """Start again at the next poll, as if nothing had been seen before."""
        self._seen.clear()
        self.reader_failed()
        self._settled_at = self._watched_s + self.settle_s

    @property
    def is_settling(self) -> bool:
        """True for a while after ``restart`` if nothing has been seen: a card that is
        presented now would count as one that was there before."""
        return not self._seen and self._watched_s < self._settled_at

    def is_new(self, uid: Uid | None, now: float) -> bool:
        """True at the first poll of a presentation.  ``uid`` is what the poll that
        began at ``now`` (monotonic seconds) found, None for an empty field."""
        key = "random" if uid and is_random(uid) else uid
        passed_s = 0.0 if self._polled_at is None else max(0.0, now - self._polled_at)
        if self._was_away:
            passed_s = min(passed_s, self.rearm_s / self.away_share)
        self._watched_s += passed_s
        self._polled_at, self._was_away = now, False
        self._forget()
        if key is None:
            if self._empty_since is None:
                self._empty_since = self._watched_s
            return False
        is_known = self._seen.pop(key, None) is not None
        self._seen[key], self._empty_since = self._watched_s, None
        # The reader is not polled while the door answers a new card.
        self._was_away = not is_known and self._watched_s >= self._settled_at
        return self._was_away

    def away(self) -> None:
        """The reader was not polled for a while, because the door was busy."""
        self._was_away = True

    def _forget(self) -> None:
        empty_since = self._empty_since
        if empty_since is not None and self._watched_s - empty_since >= self.rearm_s:
            self._seen.clear()
            self._settled_at = self._watched_s
        since = self._watched_s - self.forget_s
        self._seen = {key: at for key, at in self._seen.items() if at > since}

    def reader_failed(self) -> None:
        """Nothing can be seen for now: a card that was there may still be there."""
        self._empty_since, self._was_away = None, True


class Repeats:
    """A denial with ``lines`` in the log, the last of them ``event``, that was then
    repeated ``more`` times up to ``until``; ``others`` are unknown cards with no line
    in the log."""

    def __init__(self, event: Event, last: float, lines: int) -> None:
        self.event, self.until = event, event.at
        self.last, self.lines = last, lines
        self.more = self.others = 0

    @property
    def words(self) -> str:
        parts = [f"{self.more} more"] * (self.more > 0)
        parts += [f"{self.others} of other cards"] * (self.others > 0)
        return f"{' and '.join(parts)} until {self.until:%Y-%m-%d %H:%M:%S}"


class Denials:
    """Limits what a flood of denials writes to disk and shows on the lights.

    A card that is denied for the same reason within ``same_s`` gets ``same_lines``
    lines in the log; further denials are counted with the last of them.  Unknown cards
    get ``burst`` lines and one more every ``refill_s``; further ones are counted.
    After ``limit`` denials in ``within_s`` there is a pause of ``pause_s``: a denial in
    it gets no light and no line but is counted, and the reader is polled every
    ``slow_s``; at full speed, a device that tries UID after UID would find one on the
    list 50 times sooner.  A grant ends the pause.  Times are monotonic.
    """

    limit, within_s = 10, 60.0
    pause_s, slow_s = 15.0, 0.5
    same_s, same_lines = 60.0, 3
    burst, refill_s = 30, 120.0

    def __init__(self) -> None:
        self.paused_until = -inf
        self._recent: list[float] = []
        self._open: dict[tuple[str | None, ...], Repeats] = {}
        self._spent_until = -inf  # a line of an unknown card adds ``refill_s`` to it

    def pause_begins(self, now: float) -> bool:
        """Count a denial; True when a pause begins with it."""
        since = now - self.within_s
        self._recent = [at for at in self._recent if at > since] + [now]
        if len(self._recent) < self.limit:
            return False
        self._recent.clear()
        self.paused_until = now + self.pause_s
        return True

    def forgive(self) -> None:
        """Forget the recent denials: somebody was granted."""
        self._recent.clear()
        self.paused_until = -inf

    def is_only_counted(
        self, event: Event, now: float, *, is_pause: bool = False
    ) -> bool:
        """True if ``event`` was counted with another and gets no line of its own, as
        all events do in a pause (``is_pause``)."""
        same = self._open.get(self._key(event))
        is_flood = same and same.lines >= self.same_lines and self._goes_on(same, now)
        if not is_flood and not is_pause:
            if event.holder or event.source == "door" or self._has_line(now):
                return False
            same = None
        counted_with = same or next(reversed(self._open.values()), None)
        if counted_with is None:
            return False
        counted_with.more += same is not None
        counted_with.others += same is None
        counted_with.last, counted_with.until = now, event.at
        return True

    @staticmethod
    def _key(event: Event) -> tuple[str | None, ...]:
        """What makes two denials the same; of a scan, its request is the code."""
        code = event.request if event.source == Medium.QR else ""
        return event.uid or event.holder, event.point, code, event.reason

    def _has_line(self, now: float) -> bool:
        spent = max(self._spent_until, now - self.burst * self.refill_s) + self.refill_s
        if spent > now:
            return False
        self._spent_until = spent
        return True

    def stored(self, event: Event, now: float) -> None:
        """Note that ``event`` has a line, with which others may be counted."""
        key = self._key(event)
        before = self._open.get(key)
        lines = before.lines + 1 if before and self._goes_on(before, now) else 1
        self._open[key] = Repeats(event, now, lines)

    def _goes_on(self, repeats: Repeats, now: float) -> bool:
        return now - repeats.last < self.same_s

    def over(self, now: float = inf) -> list[Repeats]:
        """The repeats that have ended at ``now``; each is returned once."""
        ended = [each for each in self._open.items() if not self._goes_on(each[1], now)]
        for key, _ in ended:
            del self._open[key]
        return [repeats for _, repeats in ended if repeats.more or repeats.others]


def unknown_text(presented: Mapping[Uid, float], boot: str) -> str:
    """Unknown cards with the monotonic time of their taps, as stored on disk."""
    return "; ".join(f"{boot} {uid} {at:.3f}" for uid, at in presented.items())


def unknown_from(text: str | None, boot: str, now: float) -> dict[Uid, float]:
    """The cards in a text by ``unknown_text``, each with the seconds since its tap;
    taps from before the last boot are left out."""
    form = rf"{re.escape(boot)} ([0-9A-F]{{8,20}}) ({SECONDS_KEPT})"
    found = (re.fullmatch(form, part, re.ASCII) for part in (text or "").split("; "))
    return {Uid(match[1]): now - float(match[2]) for match in found if match}


class LockPolicy(NamedTuple):
    """The timing that suits a kind of lock, in seconds, as its vendor advises."""

    try_s: float = 5.0  # timeout of one request
    send_try_s: float = 0.0  # of a command (0: try_s); some answer after the move
    read_waits_s: tuple[float, ...] = (1.0, 2.0)  # before each retry of a question
    send_waits_s: tuple[float, ...] = (1.0, 2.0)  # of a command that surely never left
    confirm_at_s: tuple[float, ...] = ()  # when to ask, from the command on
    confirm_every_s: float = 0.0  # and after those (0: never); the shortest interval
    resend_after_s: float = 3.0  # a command that had no effect is not resent sooner
    moving_every_s: float = 2.0  # between questions while the bolt moves
    #: Before each retry of a failed auto-relock; after the last a person is needed,
    #: since retries cost battery and calls.
    relock_waits_s: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0)
    soonest_s: float = 0.5  # the first question is not asked sooner, however fast it is
    wake_every_s: float = 0.0  # shortest interval between wake-ups (0: never wake)
    wake_s: float = 20.0  # how long a wake-up may take
    calls_per_month: int = 0  # allowed by the vendor's free plan (0: no limit)
    locks_itself: bool = False  # an electric strike, which opens only for a moment

    def confirm_times_s(self, limit_s: float) -> Iterator[float]:
        """When to ask for confirmation, in seconds after the command, up to
        ``limit_s``; at least once, even if ``limit_s`` is before the first."""
        times, every_s = [*self.confirm_at_s], self.confirm_every_s
        last_s = times[-1] if times else 0.0
        while every_s and last_s + every_s <= limit_s:
            last_s += every_s
            times.append(last_s)
        yield from (min(at_s, limit_s) for at_s in times[:1])
        yield from (at_s for at_s in times[1:] if at_s <= limit_s)


class ConfirmTime:
    """When a lock is first asked whether it has moved, as its last moves have shown.

    While the first answer is "done", each next move is asked about a fifth sooner; once
    it comes too early, the lock is asked shortly after the shortest time that was
    enough.  If that is too early one day, the lock has become slower: the search starts
    again at the time when it was done, and ends above the one that was too early.  A
    move that is not done at the second question either is an exception, after which the
    next one is asked about at the vendor's times.
    """

    step = 0.8
    margin_s = 0.1  # for what differs from move to move
    latest_s = 4.0  # a longer time is not learnt: it may have been an exception

    def __init__(
        self, done_s: float = inf, early_s: float = 0.0, week: str = ""
    ) -> None:
        """A command was done after ``done_s`` (inf: not known), but not yet after
        ``early_s``.  The latter holds for a ``week``: a new battery makes it faster."""
        self.done_s, self.early_s, self.week = done_s, early_s, week

    def times_s(
        self, policy: LockPolicy, limit_s: float, week: str, *, only_one: bool = False
    ) -> Iterator[float]:
        """When to ask, in seconds after the command, up to ``limit_s``.  If there is
        ``only_one`` question, it is asked when the lock is surely done."""
        usual = policy.confirm_times_s(limit_s)
        if self.done_s == inf:
            return usual
        usual_s = next(iter(policy.confirm_at_s), 0.0)
        early_s = self.early_s if week == self.week else 0.0
        first_s, sooner_s = self.done_s + self.margin_s, self.done_s * self.step
        if only_one:
            first_s = max(first_s, usual_s)
        elif sooner_s > max(early_s + self.margin_s, policy.soonest_s):
            first_s = sooner_s
        elif abs(self.done_s - usual_s) < self.margin_s:  # the search found nothing
            first_s = usual_s
        return chain(
            [min(first_s, limit_s)], (at_s for at_s in usual if at_s > first_s)
        )

    def learn(self, asked_s: Sequence[float], week: str) -> None:
        """Note that a move, for which the bolt had to turn, was asked about at
        ``asked_s``, and was done at the last of these."""
        first_s, done_s = round(asked_s[0], 2), round(asked_s[-1], 2)
        if len(asked_s) == 1 or self.done_s == inf:
            self.done_s = min(self.done_s, done_s)
        elif len(asked_s) > 2:
            self.done_s = inf
        else:
            self.early_s, self.week = first_s, week
            if first_s > self.done_s - self.margin_s:  # it was no step of the search
                self.done_s = done_s
        if self.done_s > self.latest_s:
            self.done_s = inf

    def text(self, lock: str) -> str:
        """As stored on disk, with what identifies the ``lock``, such as a hash."""
        return f"{lock} {self.done_s:.3f} {self.early_s:.3f} {self.week}"


def confirm_time_from(text: str | None, lock: str) -> ConfirmTime:
    """What is in a text by ``ConfirmTime.text``; nothing is known of another lock."""
    form = rf"{re.escape(lock)} (inf|{SECONDS_KEPT}) ({SECONDS_KEPT}) ([\w-]*)"
    if match := re.fullmatch(form, text or "", re.ASCII):
        return ConfirmTime(float(match[1]), float(match[2]), match[3])
    return ConfirmTime()


#: Below this the lock's battery counts as low.  Vendors warn at 10 to 20 %; a Sesame
#: mini was seen to refuse an unlock at 38 % and to go on working at 10 %.
LOW_BATTERY_PERCENT = 15
LOW_BATTERY_WORDS = "the lock's battery is low"

#: (share of the month's calls that is used, how often a command may be asked about;
#: None: no limit).  The remaining calls are saved for commands.
RATIONS: tuple[tuple[float, int | None], ...] = ((0.97, 0), (0.90, 1), (0.0, None))
CALLS_LOW = 0.80  # from this share on the owner is warned


def calls_in_words(used: int, allowed: int) -> str:
    """``2,520 of this month's 3,000 calls are used (84 %)``."""
    percent = 100 * used // allowed
    return f"{used:,} of this month's {allowed:,} calls are used ({percent} %)"


#: Monotonic seconds as they are stored on disk.
SECONDS_KEPT = r"\d{1,9}\.\d{3}"


class Relock(NamedTuple):
    """A lock that is open and is to be locked again."""

    lock: str  # its table in the settings
    due: float  # monotonic seconds; inf: given up, a person is needed
    failures: int = 0


def relocks_text(pending: Iterable[Relock], boot: str) -> str:
    """``pending`` as stored on disk; ``boot`` names this run of the computer."""
    return "; ".join(f"{boot} {lock} {due:.3f} {fails}" for lock, due, fails in pending)


def relocks_from(text: str | None, boot: str, now: float) -> dict[str, Relock]:
    """The relocks in a text by ``relocks_text``, by lock; those from before the last
    boot are due at once."""
    found = {}
    for part in (text or "").split("; "):
        form = rf"(\S+) (\w+) (inf|{SECONDS_KEPT}) (\d{{1,3}})"
        if match := re.fullmatch(form, part, re.ASCII):
            written_in, lock, due, failures = match.groups()
            same_boot = Relock(lock, float(due), int(failures))
            found[lock] = same_boot if written_in == boot else Relock(lock, now)
    return found


#: The share of the processor that an idle door may use.  The reader is polled as often
#: as that allows, so that a quick tap is seen, and at least every poll_s.
IDLE_CPU_SHARE = 0.03
SHORTEST_PAUSE_S = 0.02


def pause_s(cpu_s: float, poll_s: float) -> float:
    """How long to wait after a poll that took ``cpu_s`` of processor time."""
    return min(poll_s, max(SHORTEST_PAUSE_S, cpu_s / IDLE_CPU_SHARE))


class Every:
    """Limits something to once in a number of seconds; it is due at once at first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = -inf

    def is_due(self, now: float) -> bool:
        """True if it is due; the next interval then starts at ``now``."""
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True


class Backoff:
    """How long to wait after each of several failures in a row: ``base_s``, doubled
    each time up to ``cap_s``, of which ``jitter`` (0 to 1) leaves at least half.

    Source: M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015), equal jitter.
    """

    def __init__(
        self, base_s: float, cap_s: float, jitter: Callable[[], float] = lambda: 1.0
    ) -> None:
        self._base_s, self._cap_s = base_s, cap_s
        self._jitter = jitter
        self._failures = 0

    def fail(self) -> float:
        """Count a failure; returns the seconds to wait."""
        full_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return full_s * (1 + self._jitter()) / 2

    def succeed(self) -> None:
        """The next failure counts as the first one."""
        self._failures = 0


class Notice(NamedTuple):
    """One kind of notice: about the events for which ``is_about`` is true, and about
    ``troubles`` of the door (Display) while they last.

    Events with the same ``by`` are one subject.  It is reported at its ``after``-th
    event within NOTICE_WITHIN_S, then for ``again_s`` only counted; 0: never counted.
    """

    title: str
    title_ja: str
    is_about: Callable[[Event], bool]
    troubles: Collection[str] = ()
    by: str = ""
    after: int = 1
    again_s: float = 3600.0
    priority: int = 3  # 1 to 5, as ntfy has it
    emoji: str = "door"  # its name at ntfy


NOTICE_WITHIN_S = 300.0


def _is_failed(event: Event) -> bool:
    is_cut_off = event.result == Result.INTERRUPTED
    has_failed = (event.result in FAILURES or is_cut_off) and event.source != "relock"
    return has_failed or event.reason is Reason.AUTHORITY_UNREACHABLE


#: The kinds of notices, by their names in the settings.  An event is reported as the
#: first of those that a receiver wants.
NOTICES: dict[str, Notice] = {
    "forced-open": Notice(
        "Opened by force", "こじ開けられました", lambda e: e.reason == "forced-open",
        again_s=0.0, priority=5, emoji="rotating_light",
    ),
    "held-open": Notice(
        "Held open", "開いたままです", lambda e: e.reason == "held-open",
        again_s=0.0, priority=4, emoji="warning",
    ),
    "wrong-proof": Notice(
        "Copied card or wrong key", "カードを確認できません",
        lambda e: e.reason is Reason.WRONG_PROOF,
        by="uid", priority=5, emoji="rotating_light",
    ),
    "not-locked": Notice(
        "Door not locked", "施錠できませんでした",
        lambda e: e.command == Command.LOCK and e.source != "relock"
        and (_is_failed(e) or e.result == Result.UNSURE),
        troubles=["not-locked"], by="result", priority=4, emoji="unlock",
    ),
    "fault": Notice(
        "Door not opened", "開けられませんでした", _is_failed, by="result",
        troubles=["reader-lost", "scanner-lost", "lock-unreachable", "config-bad",
                  "storage-bad", "lights", "calls", "clock", "door", "door-key"],
        priority=4, emoji="warning",
    ),
    "denied-often": Notice(
        "Denied several times", "何度も拒否されました",
        lambda e: e.decision == "denied", by="holder", after=3, emoji="no_entry",
    ),
    "low-battery": Notice(
        "Low battery", "電池残量低下", lambda e: LOW_BATTERY_WORDS in e.detail,
        again_s=86_400.0, emoji="battery",
    ),
    "changed": Notice(
        "List changed", "登録の変更",
        lambda e: isinstance(e.reason, Change) and e.source != "door",
        again_s=0.0, priority=2, emoji="memo",
    ),
}  # fmt: skip


################################################################################
# 3. Signals -- what the lights say
################################################################################


class Signal(enum.StrEnum):
    """Something the lights can show."""

    WORKING = "working"
    ASKING = "asking"
    UNLOCKED = "unlocked"
    LOCKED = "locked"
    FAULT = "fault"
    UNSURE = "unsure"
    DENIED = "denied"
    STOPPING = "stopping"
    READY = "ready"
    READER_LOST = "reader-lost"
    SCANNER_LOST = "scanner-lost"
    LOCK_UNREACHABLE = "lock-unreachable"
    CONFIG_BAD = "config-bad"
    STORAGE_BAD = "storage-bad"
    NOT_LOCKED = "not-locked"
    LOCKED_DOWN = "locked-down"
    ENROLLING = "enrolling"
    ENROLLED = "enrolled"
    ISSUING = "issuing"
    LOW_BATTERY = "low-battery"
    FORCED_OPEN = "forced-open"
    HELD_OPEN = "held-open"


CELL_S = 0.05  # one character of a picture

#: (green, red) for each character of a picture.
GLYPHS = {".": (0, 0), "G": (1, 0), "R": (0, 1), "A": (1, 1)}

#: What each signal looks like, and what it says to the person at the door.  One
#: character is 50 ms; "6x ..." plays six times, "* ..." until replaced.
SIGNALS: dict[Signal, tuple[str, str]] = {
    Signal.WORKING: (
        "* GGGGGGGGGG..........", "card accepted, talking to the lock",
    ),
    Signal.ASKING:      ("* GG........", "asking if this card may enter"),
    Signal.UNLOCKED:    ("60x G", "the lock confirmed: unlocked"),
    Signal.LOCKED:      ("6x GGGGG.....", "the lock confirmed: locked"),
    Signal.FAULT:       ("20x RR..", "the lock refused or could not be reached"),
    Signal.UNSURE:      ("4x RRRRRGGGGG", "sent but not confirmed: try the door"),
    Signal.DENIED:      ("2x RRRRRRRRRRRRRR......", "this card may not enter"),
    Signal.STOPPING:    ("10x RR..", "DoorPi is shutting down"),
    Signal.READY:       ("* G" + 99 * ".", "ready for a card"),
    Signal.READER_LOST: ("* RR" + 58 * ".", "the card reader does not answer"),
    Signal.SCANNER_LOST: ("* RR" + 58 * ".", "the QR scanner does not answer"),
    Signal.LOCK_UNREACHABLE: (
        "* RR....RR....RR....RR....RR" + 34 * ".",
        "the lock's cloud cannot be reached",
    ),
    Signal.CONFIG_BAD:  ("* RR....RR" + 52 * ".", "the edited settings are not valid"),
    Signal.STORAGE_BAD: ("* RR....RR....RR" + 46 * ".", "the log cannot be written"),
    Signal.NOT_LOCKED: (
        "* RR....RR....RR....RR" + 40 * ".", "the door could not be locked again",
    ),
    Signal.LOCKED_DOWN: (
        "* RRRRRRRRRR" + 50 * ".", "locked down: nobody may enter",
    ),
    Signal.ENROLLING:   ("* AA..", "a new card may be enrolled now"),
    Signal.ENROLLED:    ("30x A", "the new card is on the list"),
    Signal.ISSUING:     ("* AA..", "writing a new card: keep it there"),
    Signal.LOW_BATTERY: ("3x RR....", "after a result: the lock's battery is low"),
    Signal.FORCED_OPEN: ("* RRRRRR......", "the door was opened by force"),
    Signal.HELD_OPEN:   ("* RRRRRR......", "the door is still open: close it"),
}  # fmt: skip
PICTURES = {sign: picture for sign, (picture, _) in SIGNALS.items()}
MEANINGS = {sign: meaning for sign, (_, meaning) in SIGNALS.items()}

#: The meanings, as a sign in a Japanese office puts them.
MEANINGS_JA: dict[Signal, str] = {
    Signal.WORKING: "受け付けました。お待ちください",
    Signal.ASKING: "照会中です。お待ちください",
    Signal.UNLOCKED: "解錠しました",
    Signal.LOCKED: "施錠しました",
    Signal.FAULT: "錠を操作できませんでした",
    Signal.UNSURE: "確認できません。ドアをお確かめください",
    Signal.DENIED: "このカードでは入れません",
    Signal.STOPPING: "システムを停止しています",
    Signal.READY: "カードをかざしてください",
    Signal.READER_LOST: "カードリーダーが応答しません",
    Signal.SCANNER_LOST: "QRリーダーが応答しません",
    Signal.LOCK_UNREACHABLE: "錠のクラウドに接続できません",
    Signal.CONFIG_BAD: "変更した設定に誤りがあります",
    Signal.STORAGE_BAD: "記録を保存できません",
    Signal.NOT_LOCKED: "自動で施錠できませんでした",
    Signal.LOCKED_DOWN: "入室停止中です。どなたも入れません",
    Signal.ENROLLING: "新しいカードを登録できます",
    Signal.ENROLLED: "新しいカードを登録しました",
    Signal.ISSUING: "カードを動かさないでください",
    Signal.LOW_BATTERY: "結果のあとの点滅は錠の電池残量低下です",
    Signal.FORCED_OPEN: "ドアがこじ開けられました",
    Signal.HELD_OPEN: "ドアが開いたままです。閉めてください",
}

#: Shown until another signal replaces them; the others end by themselves.
STANDING = frozenset(s for s, (picture, _) in SIGNALS.items() if picture[0] == "*")

#: Shown as long as the fault lasts, the most urgent first.
FAULTS = (
    Signal.FORCED_OPEN, Signal.HELD_OPEN, Signal.NOT_LOCKED, Signal.LOCKED_DOWN,
    Signal.READER_LOST, Signal.SCANNER_LOST, Signal.LOCK_UNREACHABLE,
    Signal.CONFIG_BAD, Signal.STORAGE_BAD,
)  # fmt: skip

RESULT_SIGNALS: dict[Result, Signal] = {
    Result.UNLOCKED: Signal.UNLOCKED,
    Result.LOCKED: Signal.LOCKED,
    Result.REFUSED: Signal.FAULT,
    Result.UNREACHABLE: Signal.FAULT,
    Result.UNKNOWN_STATE: Signal.FAULT,
    Result.UNSURE: Signal.UNSURE,
    Result.INTERRUPTED: Signal.STOPPING,
}


class Pattern(NamedTuple):
    """A parsed picture: ``cells`` of 50 ms, played ``times`` (None: without end)."""

    cells: str
    times: int | None

    @property
    def duration_s(self) -> float:
        return inf if self.times is None else len(self.cells) * self.times * CELL_S

    def frames(self) -> Iterator[tuple[tuple[int, int], float]]:
        """Yield ``((green, red), seconds)`` for each stretch of constant light."""
        if self.times is not None:
            yield from _stretches(self.cells * self.times)
            return
        while True:
            yield from _stretches(self.cells)


def _stretches(cells: str) -> Iterator[tuple[tuple[int, int], float]]:
    for glyph, run in groupby(cells):
        yield GLYPHS[glyph], sum(1 for _ in run) * CELL_S


COLOUR_WORDS = {(0, 0): "dark", (1, 0): "green", (0, 1): "red", (1, 1): "both"}


def looks(pattern: Pattern) -> str:
    """A picture in words: ``6 times: green 0.25 s, dark 0.25 s``."""
    if len(set(pattern.cells)) == 1 and pattern.times:
        return f"{COLOUR_WORDS[GLYPHS[pattern.cells[0]]]} {pattern.duration_s:g} s"
    stretches = [
        f"{COLOUR_WORDS[light]} {round(seconds, 2):g} s"
        for light, seconds in _stretches(pattern.cells)
    ]
    often = "over and over" if pattern.times is None else f"{pattern.times} times"
    often = "once" if pattern.times == 1 else often
    return f"{often}: {', '.join(stretches)}"


def timeline(pattern: Pattern, tenths: int) -> str:
    """The first ``tenths`` of a second of a picture, a character each; a blip that is
    shorter than that still shows."""
    cells = pattern.cells * (pattern.times or 1 + 2 * tenths // len(pattern.cells))
    pairs = (cells[i : i + 2] for i in range(0, 2 * tenths, 2))
    line = "".join(pair.replace(".", "")[:1] or "." for pair in pairs)
    return line.ljust(tenths, ".")


def parse_pattern(picture: str) -> Pattern:
    """Read a picture.  Raises: ValueError; its text says what is wrong."""
    match = re.fullmatch(r"(?:(\d{1,4})x|(\*)) +([GRA.]{1,1200})", picture.strip())
    if match is None:
        raise ValueError('not a picture such as "6x GGGGG....." or "* G...."')
    times, _, cells = match.groups()
    pattern = Pattern(cells, int(times) if times else None)
    if pattern.times == 0 or CELL_S * len(cells) * (pattern.times or 1) > 60:
        raise ValueError("a picture plays at least once, and for 60 s at most")
    return pattern


def check_picture(sign: Signal, picture: str) -> None:
    """The check of a key of [signals]."""
    if (parse_pattern(picture).times is None) != (sign in STANDING):
        ends = "end (start with 6x)", "repeat (start with *)"
        raise ValueError(f"this signal must {ends[sign in STANDING]}")


################################################################################
# 4. Settings -- the tables of doorpi.toml and their keys
################################################################################


class ConfigError(ValueError):
    """The settings cannot be used; each problem has its place, value and reason.
    ``rest`` is the settings with defaults for what is wrong, if they have a lock."""

    def __init__(self, problems: Iterable[str], rest: Config | None = None) -> None:
        self.problems = tuple(problems)
        self.rest = rest
        super().__init__("\n".join(self.problems))


class FileTrouble(ValueError):
    """A file that the settings name cannot be used; the text says which, and why."""


class Secret:
    """A key or token: its text, or the name of its file.  It has no readable repr."""

    def __init__(self, text: str = "", file: str = "") -> None:
        self.text, self.file = text, file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and vars(self) == vars(other)

    def __bool__(self) -> bool:
        return bool(self.text or self.file)


EXPECTED = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    date: "a date such as 2026-12-01, without quotes and without a time",
    datetime: "2026-12-01 or 2026-12-01 18:00:00, without quotes",
    Secret: 'text in quotes, or { file = "NAME" }',
    dict: "a table: { KEY = VALUE }",
}


class Setting(NamedTuple):
    """One key: its default, its meaning in words, and what it may hold."""

    default: Any
    meaning: str = ""
    low: float = -inf  # inclusive, as ``high`` is; of a text, its length
    high: float = inf
    choices: Collection[str] = ()
    #: Raises ValueError for a wrong text, name in a table, or content of a secret.
    check: Callable[[Any], object] | None = None
    item: Setting | None = None  # of a list or a table: what each value in it may be
    is_needed: bool = False
    takes_time: bool = False  # a date that may have a time of day

    @property
    def kind(self) -> type[Any]:
        """The Python type of a valid TOML value."""
        kind, day = type(self.default), datetime if self.takes_time else date
        special = {type(None): day, tuple: list, MappingProxyType: dict}
        return special.get(kind, kind)

    def checked(self, value: Any) -> Any:
        """The value as the door uses it.  Raises: ValueError with the reason."""
        kind = self.kind
        if kind is Secret:
            return _secret(value)
        if kind is list and type(value) is not list:
            raise ValueError(f"put it in brackets: [{_shown(value)}]")
        is_whole = kind is float and type(value) is int  # 5 means 5.0
        is_day = kind is datetime and type(value) is date
        is_zoned = kind is datetime and getattr(value, "tzinfo", None)
        # isinstance(True, int) is true.
        if is_zoned or not (type(value) is kind or is_whole or is_day):
            raise ValueError(f"expected {EXPECTED[kind]}")
        value = tidied(value) if kind is str else value
        self._check(value)
        return float(value) if is_whole else value

    def _check(self, value: Any) -> None:
        is_text = isinstance(value, str)
        if is_text and not is_visible(value):
            raise ValueError("contains an invisible character")
        if self.choices and value not in self.choices:
            hint = did_you_mean(value.lower(), self.choices)
            raise ValueError(f"must be one of {', '.join(self.choices)}{hint}")
        size = len(value) if is_text else value
        if isinstance(size, int | float) and not self.low <= size <= self.high:
            unit = " characters" * is_text
            raise ValueError(f"must be {self.low:g} to {self.high:g}{unit}")
        if self.check is not None:
            for text in [value] if is_text else value:
                self.check(text)


def matching(pattern: str, words: str) -> Callable[[str], None]:
    """A check for a Setting: what it may hold as a regular expression, and in words."""

    def check(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)

    return check


def _shown(value: object) -> str:
    """A TOML value for a message, much as it stands in the file, without the content of
    a table or list: that may be a misplaced key."""
    if isinstance(value, dict | list):
        return "{...}" if isinstance(value, dict) else "[...]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:
        return "(a very long number)"  # Python refuses to print 4,300 digits
    return printable(repr(value) if isinstance(value, str) else str(value), 60)


def _secret(value: Any) -> Secret:
    if type(value) is str:
        if not value.strip():
            raise ValueError("empty")
        if not re.fullmatch("[!-~]([ -~]*[!-~])?", value):
            raise ValueError("may hold only visible ASCII, and no space at its ends")
        return Secret(text=value)
    file = value.get("file") if type(value) is dict and len(value) == 1 else None
    if type(file) is str and file and file.isprintable():
        return Secret(file=file)
    raise ValueError(f"expected {EXPECTED[Secret]}")


HEX = "[0-9A-Fa-f]"
NUMBER = "([0-9]{1,20})"
UUID_PARTS = "-?".join(f"({HEX}{{{size}}})" for size in (8, 4, 4, 4, 12))
EXAMPLE = "11200000-0000-4000-8000-000000000000"
#: What a vendor gives out: a pattern of its parts, what joins them, and the words.
UUID = UUID_PARTS, "-", f"the lock's UUID, such as {EXAMPLE}, not its name"
MAC = "[:-]?".join([f"({HEX}{HEX})"] * 6), "", "12 hex digits: the app's MAC address"
NUKI_ID = NUMBER, "", "digits only: the app's hex id as a decimal number"
NUKI_WEB_ID = NUMBER, "", "the Web API's: since Nuki 3.0, 17179869184 + the app's id"
TEDEE_ID = NUMBER, "", "digits only: the lock's id, not its serial number"
SESAME_SECRET = f"({HEX}{{32}})", "", "32 hex digits"


class LockKind(NamedTuple):
    """The settings of one kind of lock."""

    needs: tuple[str, ...] = ("device_id", "api_key")
    forms: Mapping[str, tuple[str, str, str]] = MappingProxyType({})
    is_near: bool = False  # plain http is allowed: it is in the local network


TWO_KEYS = ("device_id", "api_key", "secret_key")
BY_ADDRESS = ("device_id", "api_key", "base_url")
LOCK_KINDS: dict[str, LockKind] = {
    "sesame": LockKind(TWO_KEYS, {"device_id": UUID, "secret_key": SESAME_SECRET}),
    "sesame-mini": LockKind(forms={"device_id": UUID}),
    "switchbot": LockKind(TWO_KEYS, {"device_id": MAC}),
    # The bridge has no TLS, and its token is never sent.
    "nuki-bridge": LockKind(BY_ADDRESS, {"device_id": NUKI_ID}, is_near=True),
    "nuki-web": LockKind(forms={"device_id": NUKI_WEB_ID}),
    "tedee": LockKind(forms={"device_id": TEDEE_ID}),
    "relay": LockKind(()),
}


class Table(SimpleNamespace):
    """A table of doorpi.toml.  Its class declares the keys; a value never changes."""

    keys: ClassVar[dict[str, Setting]] = {}

    def __init_subclass__(cls) -> None:
        declared = [pair for pair in vars(cls).items() if isinstance(pair[1], Setting)]
        cls.keys = cls.keys | dict(declared)

    def __init__(self, **values: Any) -> None:
        defaults = {key: each.default for key, each in self.keys.items()}
        super().__init__(**{**defaults, **values})

    def items(self) -> Iterator[tuple[str, Any]]:
        """Each key with its value."""
        return ((key, value) for key, value in vars(self).items() if key != "trusted")

    def _replace(self, **values: Any) -> Self:
        """A copy in which ``values`` are replaced, as a NamedTuple makes it."""
        return type(self)(**{**vars(self), **values})


#: Declares a key of a Table; for a type checker it is the key's default.
setting: Any = Setting


def choice(meaning: str, *choices: str) -> Any:
    """A Setting with some choices, the default first."""
    return Setting(choices[0], meaning, choices=choices)


LONGEST_NAME = 200  # characters that a table of people can still show
LABEL = matching(r"[\w .-]*", "a name has letters, digits, spaces, dots, - and _")
ASCII = matching("[ -~]*", "write plain letters without accents (ASCII)")
PUBLIC_KEYS = matching(
    "([A-Za-z0-9+/]{43}= *)*", "expected a key in base64, as doorpi list-key prints it"
)
HOST = matching(r"[A-Za-z0-9._-]*|[0-9A-Fa-f:]+", "expected a name or an address")
TOPIC = matching("[a-z0-9-]*", "a part of a topic has letters a to z, digits and -")
CARD_KEY = matching(
    rf"(?!(..)\1{{15}}){HEX}{{32}}",
    "expected 32 hex digits; one byte 16 times is no key",
)
TEXT, ID, NOTICE = Setting(""), Setting(1, "", 1, 2**53), Setting("", choices=NOTICES)
SPAN, QUIET_SPAN = Setting("", check=parse_span), Setting("", check=parse_quiet)
CARD_TYPE = Setting("", choices=("A", "F"))

DEVICE = (
    r"usb(:[0-9a-fA-F]{4}(:[0-9a-fA-F]{4})?|:\d{3}:\d{3})?"
    r"|tty:[a-zA-Z0-9-]+:(pn532|arygon|pn531|pn533|rcs956|acr122)"
)


def udp_address(path: str) -> tuple[str, int] | None:
    """``("127.0.0.1", 54321)`` for ``udp:127.0.0.1:54321``; None for anything else."""
    match = re.fullmatch(r"udp:([^:/]+):(\d{1,5})", path)
    if match is None or not 0 < int(match[2]) < 65536:
        return None
    return match[1], int(match[2])


def reader_device(path: str) -> None:
    """The check of a reader's ``device``."""
    if udp_address(path) or re.fullmatch(DEVICE, path):
        return
    port = re.fullmatch(r"/dev/(?:tty)?([\w-]+)", path)
    hint = f"; for a PN532 there: tty:{port[1]}:pn532" if port else ""
    words = "expected usb, usb:054c:06c3, tty:S0:pn532 or udp:HOST:PORT"
    raise ValueError(words + hint)


class DoorConfig(Table):
    """``[door]`` -- what a tap does."""

    name: str = setting("Door", "what messages call the door")
    on_tap: str = choice("what a card does", "toggle", "unlock")
    on_unknown: str = choice("a tap in an unknown state", "nothing", "unlock", "lock")
    passback_s: float = setting(0.0, "seconds before a card works again", 0, 86_400)
    state_dir: str = setting("", "folder of the databases")
    require_synced_clock: bool = setting(True, "limited cards need a set clock")
    backup_days: int = setting(0, "days a backup is good; 0: until a change", 0, 3650)


class ReaderConfig(Table):
    """``[reader]`` -- the card reader, or one of several: ``[[reader]]``."""

    name: str = setting("", "its name, where there are several", 0, 40, check=LABEL)
    device: str = setting("usb", "nfcpy path of the reader", check=reader_device)
    poll_s: float = setting(0.1, "longest time between two polls", 0.01, 2)
    rearm_s: float = setting(0.5, "seconds away before a card is read again", 0, 60)
    virtual: bool = setting(False, "allow a udp: device, which anybody can control")
    reset_gpio: int = setting(-1, "BCM number of RSTPD_N's pin; -1: none", -1, 27)
    types: tuple[str, ...] = setting(
        ("A",), 'kinds of cards: "A", and "F" (FeliCa)', item=CARD_TYPE, is_needed=True
    )
    direction: str = choice("where it leads", "", "in", "out")
    on_tap: str = choice("what a card does here", "", "toggle", "unlock")
    exit_needs_schedule: bool = setting(False, "hours also limit the way out")
    leds: Any = setting(MappingProxyType({}), "pins of lights that it has alone")

    @property
    def is_exit(self) -> bool:
        return self.direction == "out"


class LockAccess(Table):
    """``[fallback]``, and most of ``[lock]`` -- which lock, and how to reach it."""

    kind: str = choice("which lock", *LOCK_KINDS)
    device_id: str = setting("", "the lock's id at its vendor")
    api_key: Secret = setting(Secret(), "the vendor's API key")
    secret_key: Secret = setting(Secret(), "sesame: 32 hex digits; switchbot: secret")
    base_url: str = setting("", "address of the API; not needed for a cloud")
    ca_file: str = setting("", "PEM file to trust instead of the system's bundle")
    confirm_s: float = setting(30.0, "seconds to wait for confirmation", 0.1, 300)
    calls_per_month: int = setting(0, "your plan's limit; 0: a free plan", 0, 10**9)
    relay_gpio: int = setting(17, "relay: BCM number of its pin", 0, 27)
    hold_s: float = setting(3.0, "relay: seconds to let a person in", 0.1, 60)
    active_high: bool = setting(True, "relay: false if it opens when the pin is low")
    trusted: str = ""  # the content of ca_file


class LockConfig(LockAccess):
    """``[lock]`` -- the lock, and what applies to every lock of this door."""

    unlock_window_s: float = setting(10.0, "longest time from card to unlock", 0.1, 60)
    relock_after_s: float = setting(0.0, "seconds until relock; 0: never", 0, 86_400)


class LedsConfig(Table):
    """``[leds]`` -- the pins of the two lights."""

    green_gpio: int = setting(23, "BCM number of the green LED's pin", 0, 27)
    red_gpio: int = setting(22, "BCM number of the red LED's pin", 0, 27)
    active_high: bool = setting(True, "false if the LEDs light when the pin is low")


class DoorwayConfig(Table):
    """``[doorway]`` -- the door contact, the exit button and the buzzer."""

    contact_gpio: int = setting(-1, "BCM number of the contact's pin; -1: none", -1, 27)
    exit_button_gpio: int = setting(-1, "BCM number of its pin; -1: none", -1, 27)
    buzzer_gpio: int = setting(-1, "BCM number of the buzzer's pin; -1: none", -1, 27)
    buzzer_hz: int = setting(0, "tone of a passive buzzer; 0: an active one", 0, 10_000)
    quiet: tuple[str, ...] = setting((), "hours without sound", item=QUIET_SPAN)
    held_open_s: float = setting(60.0, "seconds a door may stand open", 1, 86_400)


UID_FORMATS = ("dotted", "dotted-cascade", "hex", "hex-dotted")


class AuthorityConfig(Table):
    """``[[authority]]`` -- a remote system that is asked about unknown people."""

    name: str = setting("", "its name here", 0, 40, check=LABEL, is_needed=True)
    kind: str = choice("which system", "carontepass", "digital-id")
    base_url: str = setting("", "where it is", is_needed=True)
    plain_http: bool = setting(False, "true: http without TLS, on your own network")
    ca_file: str = setting("", "PEM file to trust instead of the system's bundle")
    schedule: str = setting("", "name of the [[schedule]] in which it is asked")
    answer_s: float = setting(4.0, "seconds to wait for an answer", 0.5, 30)
    user: str = setting(
        "", "carontepass: the door's user name", check=matching("[^:]*", "has a colon")
    )
    password: Secret = setting(Secret(), "carontepass: the door's password")
    uid_format: str = choice("carontepass: how it writes a UID", *UID_FORMATS)
    trust_for_s: int = setting(86_400, "seconds its last yes holds", 0, 31_536_000)
    api_key: Secret = setting(Secret(), "digital-id: the organisation's API key")
    organisations: tuple[int, ...] = setting((), "digital-id: ids of yours", item=ID)
    location: str = setting("", "digital-id: place, in its log", 0, 100, check=ASCII)
    device_id: str = setting("", "digital-id: door, in its log", 0, 100, check=ASCII)
    trusted: str = ""  # what is in ca_file


class ScannerConfig(Table):
    """``[[scanner]]`` -- a reader of QR codes."""

    name: str = setting("", "its name in the log", 0, 40, check=LABEL, is_needed=True)
    device: str = setting("", "its file, such as /dev/serial/by-id/...", is_needed=True)
    kind: str = choice("how it sends", "serial", "keyboard")
    baud: int = setting(9600, "serial: its speed", 1200, 115_200)
    authority: str = setting("", "name of the [[authority]] that knows its codes")


class ProofConfig(Table):
    """``[proof]`` -- the keys of secure cards, and cards without proof."""

    door_key: Secret = setting(Secret(), "file of the key to open", check=CARD_KEY)
    issuer_key: Secret = setting(Secret(), "file of the key to issue", check=CARD_KEY)
    uid_only: str = choice("cards that have only a UID", "accept", "refuse")


class LogConfig(Table):
    """``[log]`` -- how long events are kept."""

    keep_days: int = setting(365, "days to keep events", 1, 36_500)


LANGUAGES = ("en", "ja")


class TelegramConfig(Table):
    """``[telegram]`` -- the chat."""

    token: Secret = setting(Secret(), "the bot's token", is_needed=True)
    notify: Mapping[str, Any] = setting(
        MappingProxyType({}), 'who gets which notices: { 4711 = ["fault"] }',
        check=matching("-?[0-9]{1,16}", "each key is the number of a chat"),
        item=Setting((), item=NOTICE),
    )  # fmt: skip
    language: str = choice("of answers and notices", *LANGUAGES)
    base_url: str = setting("https://api.telegram.org", "address of the Bot API")


class NotifyConfig(Table):
    """``[[notify]]`` -- a web address that gets notices."""

    name: str = setting("", "its name in the log", 0, 40, check=LABEL)
    url: Secret = setting(Secret(), "a webhook, or an ntfy topic", is_needed=True)
    kind: str = choice("its protocol", "webhook", "ntfy")
    token: Secret = setting(Secret(), "sent as Authorization: Bearer")
    events: tuple[str, ...] = setting((), "which notices", item=NOTICE, is_needed=True)
    language: str = choice("of the words", *LANGUAGES)


class CobotConfig(Table):
    """``[cobot]`` -- the members of a co-working space."""

    subdomain: str = setting(
        "", "of the space: NAME.cobot.me", is_needed=True,
        check=matching("[a-z0-9-]*", "leave out .cobot.me: my-space"),
    )  # fmt: skip
    token: Secret = setting(Secret(), "an access token", is_needed=True)
    uid_format: str = choice(
        "how check-in tokens spell a UID",
        "hex", "HEX", "hex-colon", "decimal-le4", "decimal-be4", "dotted",
    )  # fmt: skip
    plans: tuple[str, ...] = setting(
        (), "names of plans or extras; empty: all", item=TEXT
    )
    time_passes: bool = setting(False, "members of pass plans need a pass")
    resource: str = setting("", "this door is a room: only with a booking of it")
    before_min: int = setting(10, "minutes before a booking", 0, 1_440)
    after_min: int = setting(0, "minutes after a booking", 0, 1_440)
    attendees: bool = setting(False, "a booking's attendees may enter, too")
    check_in: str = choice("check members in", "off", "after", "before")
    interval_s: int = setting(900, "seconds between two looks", 1, 86_400)
    trust_for_s: int = setting(259_200, "seconds its list is valid", 0, 31_536_000)
    schedule: str = setting("", "name of a [[schedule]] that limits members")
    base_url: str = setting("https://api.cobot.me", "address of API 2")
    site_url: str = setting("", "address of API 1; empty: https://NAME.cobot.me")


class ListConfig(Table):
    """``[[list]]`` -- a list of people at a web address."""

    name: str = setting("", "its name in the log", 0, 40, check=LABEL)
    url: Secret = setting(Secret(), "address of the list", is_needed=True)
    format: str = choice("of the list", "", "csv", "json")
    token: Secret = setting(Secret(), "sent as Authorization: Bearer")
    list_key: str = setting("", "Ed25519 key of its signature", check=PUBLIC_KEYS)
    interval_s: int = setting(900, "seconds between two looks", 1, 86_400)
    trust_for_s: int = setting(259_200, "seconds the list is valid", 0, 31_536_000)
    schedule: str = setting("", "name of a [[schedule]] that limits its people")


#: What [mqtt.may] can grant to a sender.
MQTT_ORDERS = ("unlock", "lock", "lockdown-on", "lockdown-off", "status", "events")


class MqttConfig(Table):
    """``[mqtt]`` -- a broker: home automation, and one list for many doors."""

    host: str = setting("", "of the broker", check=HOST, is_needed=True)
    port: int = setting(8883, "its port", 1, 65_535)
    tls: bool = setting(True, "false: unencrypted, in your own network")
    ca_file: str = setting("", "PEM file to trust instead of the system's bundle")
    user: str = setting("", "user name at the broker; empty: the door's name", 0, 200)
    password: Secret = setting(Secret(), "the user's password")
    cert_file: str = setting("", "PEM file of a client certificate")
    key_file: str = setting("", "PEM file of the certificate's key")
    site: str = setting("main", "SITE in doorpi/SITE/DOOR/...", 1, 40, check=TOPIC)
    door: str = setting("", "DOOR in topics; empty: as door.name", 0, 40, check=TOPIC)
    homeassistant: bool = setting(True, "announce the door to Home Assistant")
    events: bool = setting(True, "publish the whole event log")
    names: bool = setting(True, "false: events without names")
    uids: bool = setting(False, "true: events with the cards' UIDs")
    list_key: str = setting("", "Ed25519 key of published lists", check=PUBLIC_KEYS)
    trust_for_days: int = setting(0, "days a list is valid; 0: no limit", 0, 3_650)
    may: Mapping[str, Any] = setting(
        MappingProxyType({}), 'who may order what: { homeassistant = ["unlock"] }',
        check=matching(r"[^/+#\x00-\x1f]{1,100}", "a sender has no /, + or #"),
        item=Setting((), item=Setting("", choices=MQTT_ORDERS)),
    )  # fmt: skip
    trusted: str = ""  # the content of ca_file


class Config(NamedTuple):
    """All of doorpi.toml."""

    door: DoorConfig = DoorConfig()
    readers: tuple[ReaderConfig, ...] = (ReaderConfig(),)
    lock: LockConfig = LockConfig()
    fallback: LockAccess | None = None
    leds: LedsConfig = LedsConfig()
    doorway: DoorwayConfig = DoorwayConfig()
    log: LogConfig = LogConfig()
    proof: ProofConfig = ProofConfig()
    authorities: tuple[AuthorityConfig, ...] = ()
    scanners: tuple[ScannerConfig, ...] = ()
    #: The tables of `doorpi online` that are in the file, by their places.
    online: Mapping[str, Table] = MappingProxyType({})
    patterns: Mapping[Signal, Pattern] = MappingProxyType({})
    schedules: Mapping[str, Schedule] = MappingProxyType({})
    open_hours: tuple[Schedule, ...] = ()
    cards: Mapping[Uid, Credential] = MappingProxyType({})
    #: Places where the UID is still the placeholder, such as ``card 1 ("Ken Sato")``.
    examples: tuple[str, ...] = ()
    #: Places where the UID is digits only, and may be a number printed on the card.
    bare_numbers: tuple[str, ...] = ()


def locks_of(config: Config) -> dict[str, LockAccess]:
    """The lock and, if there is one, the fallback, by their tables' names."""
    locks = {"lock": config.lock, "fallback": config.fallback}
    return {where: lock for where, lock in locks.items() if lock}


def inputs_of(config: Config) -> list[tuple[str, Table]]:
    """What each reader, scanner and exit button is made from: its name where there are
    several, and its settings."""
    is_one = len(config.readers) == 1
    made: list[tuple[str, Table]] = [
        ("" if is_one else each.name, each) for each in config.readers
    ]
    made += [("", config.doorway)] * (config.doorway.exit_button_gpio >= 0)
    return [*made, *((each.name, each) for each in config.scanners)]


def lights_of(config: Config) -> dict[str, LedsConfig]:
    """The pins of each pair of lights, by the name of the reader that has it alone; ""
    is the door's, which is not there if every reader has its own."""
    if len(config.readers) == 1:
        return {"": config.readers[0].leds or config.leds}
    own = {each.name: each.leds for each in config.readers if each.leds}
    return own if len(own) == len(config.readers) else {"": config.leds, **own}


def tells_ways(config: Config) -> bool:
    """Whether entering and leaving are told apart: there are readers for both."""
    return {"in", "out"} <= {each.direction for each in config.readers}


def tables_of(config: Config) -> dict[str, Table]:
    """All tables but people's, schedules and pictures, by what messages call them."""
    tables: dict[str, Any] = {name: getattr(config, name) for name in SECTIONS}
    for each in config.readers:
        place = f"reader {each.name}".strip()
        tables |= {place: each, f"{place}.leds": each.leds}
    tables |= {f"authority {each.name}": each for each in config.authorities}
    tables |= {f"scanner {each.name}": each for each in config.scanners}
    tables |= config.online
    return {name: table for name, table in tables.items() if table}


def settings_of(config: Config) -> dict[str, Any]:
    """The keys of ``tables_of``, such as ``lock.kind``, and the pictures."""
    return {
        f"{name}.{key}": value
        for name, table in tables_of(config).items()
        for key, value in table.items()
        if key != "leds"
    } | {f"signals.{sign}": pattern for sign, pattern in config.patterns.items()}


#: Stands in doorpi.toml for what only the owner knows.
PLACEHOLDER = "replace-me"

Keys = Mapping[str, Setting]  # of a table
Schedules = Mapping[str, Schedule]  # by name

ACCESS_KEYS = {
    "enabled": Setting(True, "false: keep the entry, refuse the card"),
    "valid_from": Setting(None, "first day, such as 2026-12-01", takes_time=True),
    "valid_until": Setting(None, "last day, such as 2027-03-31", takes_time=True),
    "schedule": Setting("", "name of a [[schedule]]"),
    "role": choice("a master enrols cards", "holder", "master"),
}
CARD_KEYS = {
    "uid": Setting("", "the card's UID", is_needed=True),
    "proof": Setting("", "how the card proves that it is no copy", 0, 20),
    "generation": Setting(1, "of the keys of a secure card", 1, 255),
}
HOURS_KEYS = {
    "times": Setting(
        (), 'spans such as "Mon-Fri 08:00-20:00"', item=SPAN, is_needed=True
    ),
    "closed": Setting((), "dates without hours", item=Setting(None)),
}
PROOFS = ("ntag424", "desfire")  # that this program can ask for

SECTIONS: dict[str, type[Table]] = {
    name: type(table)
    for name, table in Config._field_defaults.items()
    if isinstance(table, Table)
} | {"fallback": LockAccess}
#: The tables that are written once for each entry.
LISTS = (
    "schedule", "card", "person", "authority", "scanner", "notify", "list",
    "telegram.user", "open",
)  # fmt: skip
#: The tables of `doorpi online`; the door needs none of them.
ONLINE: dict[str, type[Table]] = {
    "telegram": TelegramConfig, "notify": NotifyConfig, "cobot": CobotConfig,
    "list": ListConfig, "mqtt": MqttConfig,
}  # fmt: skip
#: The tables that there may be more than one of, or none.
OPTIONAL: dict[str, type[Table]] = {
    "reader": ReaderConfig, "authority": AuthorityConfig, "scanner": ScannerConfig,
    **ONLINE,
}  # fmt: skip
#: The keys of every table; those of [signals] are pictures.
TABLES: dict[str, Keys] = {n: c.keys for n, c in (SECTIONS | OPTIONAL).items()} | {
    "signals": {
        str(sign): Setting(*row, check=functools.partial(check_picture, sign))
        for sign, row in SIGNALS.items()
    },
    "schedule": {
        "name": Setting("", "what cards call it", 0, LONGEST_NAME, is_needed=True),
        **HOURS_KEYS,
    },
    "open": {
        **HOURS_KEYS,
        "needs_first": Setting(False, "only after the first member has come"),
    },
    "card": {
        **CARD_KEYS,
        "holder": Setting("", "who carries it", 0, LONGEST_NAME, is_needed=True),
        **ACCESS_KEYS,
    },
    "telegram.user": {
        "id": Setting(0, "the user's number at Telegram", 0, 2**52, is_needed=True),
        "holder": Setting("", "who it is", 0, LONGEST_NAME, is_needed=True),
        **{key: ACCESS_KEYS[key] for key in ACCESS_KEYS if key != "role"},
        "role": choice("a master may use /who", "holder", "master"),
    },
    "person": {
        "name": Setting("", "who it is", 0, LONGEST_NAME, is_needed=True),
        "cards": Setting((), 'UIDs such as "04:A1:B2:C3"', is_needed=True),
        **ACCESS_KEYS,
    },
}
#: A table's header as it must be written.
HEADERS = {name: f"[[{name}]]" if name in LISTS else f"[{name}]" for name in TABLES}

#: The tables whose files the door needs.
DOOR_TABLES = TABLES.keys() - ONLINE.keys()
#: For a table, a key and its value: what stands in the file that they name.  Raises:
#: FileTrouble.
FileReader = Callable[[str, str, Any], dict[str, Any]]


################################################################################
# 5. The settings file -- reads doorpi.toml, every problem at once
################################################################################


T = TypeVar("T")

# -- what can be read of a file that is not valid TOML

#: Stands in place of a value that cannot be read, which is reported.
UNREADABLE = "\ufffc unreadable"

#: Strings and comments, inside of which nothing is punctuation.
QUOTED = (
    r'"""[\s\S]*?"""|"(?:[^"\\\n]|\\.)*"'
    r"|'''[\s\S]*?'''|'[^'\n]*'|#[^\n]*"
)
STATEMENT = r"\s*(?:\[\[?\s*[A-Za-z_]|[\w.¤-]+\s*=)"
HEADER = r"\s*(\[\[?)[ \t]*[\"']?([\w.-]*)[\"']?[ \t]*\]*"
KEY = r"\s*[\"']?([\w-]+)"

CURLY = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb"
BARE = r"(?!true\b|false\b)[^\s\[\]{},\d.+¤-]|0\d{3}|\d+[^\d,\]\s.¤-]|\d+\.\d+\."
YES_NO = r"(?!true\b|false\b)(?i:yes|no|on|off|true|false)\b"
DAY_FIRST = r"(?!\d{4}-\d\d-\d\d\b)(\d+([./-])\d\d?\2\d+\b(?!\2))"
#: What owners type by mistake, and what to type instead.  ¤ is any part of a string.
#: The first row that fits counts; its group begins where the mistake is.
CURES = (
    (rf"(?:(?<=[=\[, ])|(?=.\s*(?:[,\]]|$)))([{CURLY}])", 'write straight quotes: "'),
    (r"(?:\A|\{)\s*[\w¤-]+\s*(:)", "write = in place of :"),
    (r"\A\s*[\w-]+\s*(=)\s*$", "the value after = is missing"),
    (r"\A\s*([\w-]++)[ \t]*+(?:$|[^=])", "= is missing after the key"),
    (rf"[=\[,]\s*({YES_NO})", "write true or false, in small letters"),
    (rf"[=\[,]\s*{DAY_FIRST}", "write dates as year-month-day: 2026-11-30"),
    (r"\d-\d\d[T ](\d?\d:\d\d)(?!:)", "write a time of day with seconds: 18:00:00"),
    (r"=\s*[+-]?\d+(,)\d+\s*$", "write a decimal point: 3.5"),
    (r"=\s*\d{1,5}(?:\.\d+)?\s*([a-z]+)\s*$", "write the number without a unit"),
    (r"([\"'])", "this quotation mark has no partner"),
    (r"=\s*([\[{])[^\]}]*\Z", "this bracket is never closed"),
    (r"[\[,]\s*(?:¤+|[\d-]+)(\s+)[¤\d]", "a comma is missing"),
    (r"(\d+-(?:02-29|02-3|0[469]-31|11-31|1[3-9]|..-3[2-9]))", "there is no such day"),
    (rf"[=\[,]\s*({BARE})", 'write text in quotes: "..."'),
)

#: The ends of keys whose values may hold a password, as in https://NAME:PASSWORD@HOST.
HIDDEN = ("url", "user")
#: Keys whose lines are shown, unless a line has one of these words.
SHOWN = {
    key
    for keys in TABLES.values()
    for key, each in keys.items()
    if each.kind is not Secret and not key.endswith(HIDDEN)
}
NOT_SHOWN = "(?i)key|secret|token|password|://"


def _statements(text: str) -> Iterator[tuple[int, str, str]]:
    """Cut a text where a statement begins, even after a broken one: the line, the
    statement, and the same with its strings and comments blanked out."""
    bare = re.sub(QUOTED, lambda it: " ¤"[it[0][0] != "#"] * len(it[0]), text)
    begins, depth, line = [0], 0, 1
    for row in re.finditer(r".*\n|.+", bare):
        if depth <= 0 or re.match(STATEMENT, row[0]):
            begins.append(row.start())
            depth = 0
        if not row[0].lstrip().startswith("["):  # a header ends with its line
            depth += sum(map(row[0].count, "[{")) - sum(map(row[0].count, "]}"))
    for begin, end in pairwise([*begins, len(text)]):
        if bare[begin:end].strip():
            yield line, text[begin:end], bare[begin:end]
        line += text.count("\n", begin, end)


def _mistake(statement: str, bare: str) -> tuple[int, str]:
    """The index of what is not TOML in a statement, and its cure; "" if it is TOML."""
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError as error:
        for pattern, cure in CURES:
            if found := re.search(pattern, bare, re.MULTILINE):
                return found.start(1), cure
        words, _, place = str(error).partition(" (at ")
        column = re.match(r"line 1, column (\d+)", place)
        at = int(column[1]) - 1 if column else 0
        return at, f"not valid TOML: {words[0].lower()}{words[1:]}"
    except (ValueError, RecursionError):  # Python's own limits
        return 0, "a number is too long, or brackets nest too deeply"
    return 0, ""


def _excerpt(statement: str, at: int) -> str:
    """The line with index ``at``, and a caret below it; "" where a secret may be."""
    start = statement.rfind("\n", 0, at) + 1
    line, column = statement[start:].split("\n")[0].replace("\t", " "), at - start
    key = re.match(KEY, statement)
    if header := re.match(HEADER, statement):
        line = header[0]
    elif not key or key[1] not in SHOWN or re.search(NOT_SHOWN, line):
        return ""
    indent = len(line) - len(line.lstrip())
    caret = " " * width(printable(line[indent:column])) + "^"
    return f"\n    {printable(line.strip(), 80)}\n    {caret}"


def _located(line: int, statement: str, at: int, words: str) -> str:
    """A mistake in a statement that begins at ``line``, as people read it."""
    number = line + statement.count("\n", 0, at)
    return f"line {number}: {words}{_excerpt(statement, at)}"


def toml_mistakes(text: str) -> Iterator[str]:
    """The statements that are not TOML, in a text whose tables are all lists: each with
    its line and its cure."""
    for line, statement, bare in _statements(text):
        at, words = _mistake(statement, bare)
        if words:
            if header := re.match(HEADER, statement):
                at, words = 0, f"write [[{header[2]}]], alone on its line"
            yield _located(line, statement, at, words)


def _repaired(text: str) -> tuple[str, list[str]]:
    """A text that is not valid TOML without its mistakes, and the mistakes.  A key with
    a value that cannot be read gets the value UNREADABLE, a header its proper brackets;
    two tables with one name become one."""
    problems: dict[object, str] = {}  # a mistake that is repeated is one problem
    lines: dict[str, int] = {}  # of tables and keys
    place, tables = "?", dict[str, list[str]]()
    readers = "[[reader]]" if re.search(r"(?m)^\s*\[\[\s*reader\b", text) else ""
    for line, statement, bare in _statements(text):
        at, words = _mistake(statement, bare)
        once = ""
        if header := re.match(HEADER, statement):
            brackets, name = header.groups()
            typed = f"{brackets}{name or 'NAME'}{']' * len(brackets)}"
            usual = HEADERS.get(name, typed)
            once = (readers or typed) if name == "reader" else usual
            is_list = once.startswith("[[")
            is_good = not words and is_list == (brackets == "[[")
            often = f"for each {name}, with two" if is_list else "once, with single"
            cure = f"write {once} {often} brackets, alone on its line"
            at, words = 0, cure * (not is_good or (name in lines and not is_list))
            place = f"{name} {line}" if is_list else name or "?"
            tables.setdefault(place, [once])
            lines.setdefault(name, line)
        elif key := re.match(KEY, statement):
            first = lines.setdefault(f"{place}.{key[1]}", line)
            if first < line:
                name, _, is_entry = place.partition(" ")
                once = place if is_entry else ""  # perhaps a header is missing
                at, words = 0, f"{key[1]} is set twice, first in line {first}"
                words += f" (each {name} begins with [[{name}]])" * bool(once)
            else:
                read = f'"{key[1]}" = "{UNREADABLE}"' if words else statement
                tables.setdefault(place, []).append(read)
        if words:
            problem = _located(line, statement, at, words)
            problems.setdefault(once or problem, problem)
    tables.pop("?", None)
    return "\n".join(chain(*tables.values())), [*problems.values()]


class Parser:
    """One reading of doorpi.toml: turns its tables into settings, and collects all
    that is wrong with them."""

    def __init__(
        self, document: Mapping[str, Any], read: FileReader = lambda *named: {}
    ) -> None:
        self.document, self._read = {**document}, read
        telegram = self.document.get("telegram")
        if isinstance(telegram, dict) and "user" in telegram:  # a table like any other
            self.document["telegram"] = telegram = {**telegram}
            self.document["telegram.user"] = telegram.pop("user")
        self.schedules: Schedules = {}  # those that a card may name
        self.problems: list[str] = []
        #: The places that are wrong, such as ``lock.kind``: they hold their defaults.
        self.reported: set[str] = set()
        self.examples, self.bare_numbers = list[str](), list[str]()
        #: The locks that can be used, though something else may be wrong.
        self.usable: set[str] = set()
        self.lacks_files = False
        self._first_place: dict[str, str] = {}  # of a UID, or of a name

    def report(self, place: str, words: str) -> None:
        self.reported.add(place)
        self.problems.append(f"{place}{words}")

    def table(self, where: str, table: object, keys: Keys) -> dict[str, Any]:
        """The values of one table, with defaults for what is wrong or missing."""
        values = {key: each.default for key, each in keys.items()}
        if not isinstance(table, dict):
            name = where.partition(" ")[0]
            self.report(where, f": expected a table, {HEADERS[name]}")
            return values
        for key, value in table.items():
            if value == UNREADABLE:
                self.reported.add(f"{where}.{key}")
            elif key not in keys:
                self.unknown(where, key, keys)
            else:
                values |= self._read_key(where, key, value, keys[key])
        for key, each in keys.items():
            place = f"{where}.{key}"
            if each.is_needed and not values[key] and place not in self.reported:
                words = "empty" if key in table else "missing"
                self.report(place, f": {words} ({each.meaning})")
        return values

    def _read_key(
        self, where: str, key: str, value: object, setting: Setting
    ) -> dict[str, Any]:
        """The key with its value and what stands in the file that this names."""
        place, shown = f"{where}.{key}", "(not shown)"
        checked = self._value(place, value, setting)
        try:
            found = {key: checked, **self._read(where.split(" ")[0], key, checked)}
            secret = found[key] if setting.kind is Secret else Secret()
            shown = secret.file or shown
            if secret.text and setting.check:
                setting.check(secret.text)
            return found
        except FileTrouble as error:
            self.report(place, f": {error}")
            self.lacks_files |= where != "proof"  # the door opens without its keys
        except ValueError as error:
            self.report(place, f" = {shown}: {error}")
        return {key: setting.default}

    def _value(self, place: str, value: object, setting: Setting) -> Any:
        """The value without the items that are wrong, or the default."""
        try:
            checked = setting.checked(value)
        except ValueError as error:
            is_hidden = setting.kind is Secret or place.endswith(HIDDEN)
            shown = "(not shown)" if is_hidden else _shown(value)
            meaning = f" ({setting.meaning})" * bool(setting.meaning)
            self.report(place, f" = {shown}: {error}{meaning}")
            return setting.default
        if setting.item is None:
            return checked
        found, is_table = dict[object, Any](), isinstance(checked, dict)
        for name, each in checked.items() if is_table else enumerate(checked, 1):
            item = self._value(f"{place} {name}", each, setting.item)
            if f"{place} {name}" in self.reported:
                self.reported.add(place)
            else:
                found[name] = item
        return found if is_table else tuple(found.values())

    def unknown(self, where: str, key: str, keys: Iterable[str]) -> None:
        """Report a key, without its value: that may be a secret.  The key that was
        probably meant is not reported as missing."""
        place, named = f"{where}.".lstrip("."), {"name", "holder"} & {*keys}
        homes = {name for name in HOMES if key in TABLES[name]}
        words = f"unknown key{did_you_mean(key.lower(), keys)}"
        if key in ("name", "holder") and named:  # such as the name of a card
            words = f"unknown key; did you mean {named.pop()!r}?"
        elif homes:
            words = f"belongs in {' or '.join(sorted(HEADERS[name] for name in homes))}"
            self.reported |= {f"{name}.{key}" for name in homes}
        if meant := re.search(r"did you mean '(\w+)'", words):
            self.reported.add(f"{place}{meant[1]}")
        self.problems.append(f"{place}{printable(key, 60)}: {words}")

    def entries(self, name: str) -> Iterator[tuple[str, object]]:
        """The tables of ``[[name]]``, each with its place: ``card 2 ("Ken")``; or the
        one of ``[name]``.  There may be one [reader], or several."""
        tables = self.document.get(name, [])
        is_list = name in LISTS or (name == "reader" and isinstance(tables, list))
        if not is_list:
            yield from [(name, tables)] if name in self.document else ()
            return
        if not isinstance(tables, list):
            self.report(name, f": expected {HEADERS[name]}, with two brackets")
            tables = [tables] if isinstance(tables, dict) else []
        for number, table in enumerate(tables, 1):
            known = table if isinstance(table, dict) else {}
            label = known.get("holder") or known.get("name")
            who = f' ("{printable(label, 40)}")' if isinstance(label, str) else ""
            yield f"{name} {number}{who}", table

    def listed(self, name: str, make: Callable[..., T]) -> dict[str, T]:
        """The tables of ``[[name]]`` by their places; each has a name of its own."""
        made = dict[str, T]()
        for where, table in self.entries(name):
            before = len(self.problems)
            values = self.table(where, table, TABLES[name])
            if own := values.get("name"):
                kind = "reader" if name == "scanner" else name  # the log has both
                self._check_first(where, "name", f"{kind} {own}", own)
            schedule = values.get("schedule", "")
            self._check_name(f"{where}.schedule", schedule, self.schedules)
            if pins := values.get("leds"):
                pins = self.table(f"{where}.leds", pins, TABLES["leds"])
                values["leds"] = LedsConfig(**pins)
            if "times" in values and len(self.problems) > before:
                values["times"] = ()  # half of a schedule admits nobody
            made[where] = make(**values)
        return made

    def read_schedules(self) -> Schedules:
        made = self.listed("schedule", _schedule)
        return {schedule.name: schedule for schedule in made.values()}

    def credentials(self, where: str, table: object, keys: Keys) -> list[Credential]:
        """The cards of one ``[[card]]`` or ``[[person]]`` that can be listed."""
        raw = self.table(where, table, keys)
        first, last = raw["valid_from"], raw["valid_until"]
        if first and last and begins_at(first) >= ends_at(last):
            words = f"before valid_from ({first}), so the card would never work"
            self.report(f"{where}.valid_until", f" = {last}: {words}")
        self._check_name(f"{where}.schedule", raw["schedule"], self.schedules)
        found = []
        for number, card in enumerate(raw.get("cards", [raw]), 1):
            place = where
            if card is not raw:
                place = f"{where}, cards {number}"
                card = card if isinstance(card, dict) else {"uid": card}
                card = self.table(place, card, CARD_KEYS)
            proof = card.get("proof", "")
            unknown = proof and proof not in PROOFS
            refused = CANNOT_ASK.format(_shown(proof)) if unknown else ""
            holder = raw["holder"] if card is raw else raw["name"]
            if uid := self._identifier(place, card):
                credential = Credential(
                    uid, holder, enabled=raw["enabled"] and not unknown,
                    valid_from=first, valid_until=last,
                    schedule=raw["schedule"] or None, role=Role(raw["role"]),
                    refused=refused, proof=proof,
                    generation=card.get("generation", 1),
                )  # fmt: skip
                found.append(credential)
        return found

    def _identifier(self, place: str, card: Mapping[str, Any]) -> Uid | None:
        """None if it cannot be listed: nobody may enter with it."""
        key = "id" if "id" in card else "uid"
        text = card[key]
        if text == PLACEHOLDER:
            self.examples.append(place)
        if text in (0, "", PLACEHOLDER):  # a missing one is reported already
            return None
        try:
            uid = chat_user(text) if key == "id" else parse_listed(text)
            if is_random(uid):
                raise ValueError(RANDOM_WORDS)
        except ValueError as error:
            self.report(f"{place}.{key}", f" = {_shown(text)}: {error}")
            return None
        if key == "uid" and is_number(text):
            self.bare_numbers.append(place)
        self._check_first(place, key, uid, format_uid(uid))
        return uid

    def _check_first(self, where: str, key: str, name: str, shown: str) -> None:
        """Report what another entry has already."""
        first = self._first_place.setdefault(name, where)
        if first != where:
            self.report(f"{where}.{key}", f" = {_shown(shown)}: {first} has it, too")

    def cards(self) -> dict[Uid, Credential]:
        """The cards of everybody in the file."""
        cards: dict[Uid, Credential] = {}
        names = ("card", "person", "telegram.user")
        for where, table in chain.from_iterable(map(self.entries, names)):
            known = len(self.problems)
            found = self.credentials(where, table, TABLES[where.partition(" ")[0]])
            if len(self.problems) > known:  # half an entry admits nobody
                found = [card._replace(enabled=False, refused=FLAWED) for card in found]
            cards |= {card.uid: card for card in found}
        return cards

    def patterns(self) -> dict[Signal, Pattern]:
        """The pictures of all signals, those of ``[signals]`` included."""
        table = self.document.get("signals", {})
        pictures = self.table("signals", table, TABLES["signals"])
        return {Signal(key): parse_pattern(text) for key, text in pictures.items()}

    def section(self, name: str) -> Any:
        """``[name]``; for a lock with its ids as its vendor writes them."""
        values = self.table(name, self.document.get(name, {}), TABLES[name])
        kind = LOCK_KINDS.get(values.get("kind", ""))
        if kind is None or f"{name}.kind" in self.reported:
            return SECTIONS[name](**values)
        for key, (pattern, joint, words) in kind.forms.items():
            value, is_secret = values[key], TABLES[name][key].kind is Secret
            text = value.text if is_secret else "".join(value.split())
            if found := re.fullmatch(pattern, text):
                written = joint.join(found.groups())
                written = written.upper() if pattern == MAC[0] else written
                values[key] = value if is_secret else written
            elif text and (is_secret or not text.startswith(PLACEHOLDER)):
                shown = "(not shown)" if is_secret else _shown(value)
                self.report(f"{name}.{key}", f" = {shown}: expected {words}")
        if all(map(values.get, kind.needs)):
            self.usable.add(name)
        return SECTIONS[name](**values)

    def _check_name(
        self, place: str, name: str, known: Collection[str], of: str = "[[schedule]]"
    ) -> None:
        """Report the name of a table that is not there.  A table without a valid name
        may be the one that is missing."""
        if name and name not in known and "" not in known:
            words = f"no {of} has this name{did_you_mean(name, known)}"
            self.report(place, f" = {_shown(name)}: {words}")

    def config(self) -> Config:
        """All of the settings, with defaults for what is wrong."""
        for key in (key for key in self.document if key not in TABLES):
            self.unknown("", key, TABLES)
        if "lock" not in self.document:
            self.report("lock", ": missing (which lock, and how to reach it)")
        names = [n for n in SECTIONS if n != "fallback" or n in self.document]
        sections = {name: self.section(name) for name in names}
        patterns, self.schedules = self.patterns(), self.read_schedules()
        made: dict[str, dict[str, Any]] = {
            name: self.listed(name, kind) for name, kind in OPTIONAL.items()
        }
        readers = made["reader"] or {"reader": ReaderConfig()}
        online = dict(chain.from_iterable(made[name].items() for name in ONLINE))
        if isinstance(mqtt := online.get("mqtt"), MqttConfig) and not mqtt.door:
            name = re.sub("[^a-z0-9]+", "-", sections["door"].name.lower()).strip("-")
            online["mqtt"] = mqtt._replace(door=name)
        config = Config(
            **sections,
            readers=tuple(readers.values()),
            authorities=tuple(made["authority"].values()),
            scanners=tuple(made["scanner"].values()),
            online=online,
            patterns=patterns,
            schedules=self.schedules,
            open_hours=tuple(self.listed("open", _schedule).values()),
            cards=self.cards(),
            examples=tuple(self.examples),
            bare_numbers=tuple(self.bare_numbers),
        )
        own_lights = {f"{at}.leds": t.leds for at, t in readers.items() if t.leds}
        tables = {**sections, **readers, **own_lights, **made["authority"]}
        self._check(config, {**tables, **made["scanner"], **online})
        return config

    def _check(self, config: Config, tables: Mapping[str, Table]) -> None:
        """Report what is wrong even where each value is valid by itself."""
        asked = {each.authority for each in config.scanners}
        known = [each.name for each in config.authorities if each.kind == "digital-id"]
        for where, table in tables.items():
            for key, words in contradictions(table):
                if not self.reported & {where, f"{where}.kind", f"{where}.{key}"}:
                    self.report(f"{where}.{key}", words)
            if isinstance(table, ScannerConfig):
                of = "[[authority]] of kind digital-id"
                self._check_name(f"{where}.authority", table.authority, known, of)
            elif isinstance(table, AuthorityConfig) and table.name in {*known} - asked:
                words = "no [[scanner]] names it as its authority, so it gets no codes"
                self.report(f"{where}.name", f": {words}")
        if config.open_hours and config.lock.kind == "relay":
            words = "a relay opens for a moment only, and cannot keep the door open"
            self.report("open", f": {words}")
        self._check_readers(tables)
        self._check_pins(config, tables)

    def _check_readers(self, tables: Mapping[str, Table]) -> None:
        """Report readers that cannot be told apart."""
        readers = {w: t for w, t in tables.items() if isinstance(t, ReaderConfig)}
        seen: list[str] = []
        for where, reader in readers.items():
            if len(readers) > 1 and not reader.name:
                words = ": missing (each of several readers needs a name)"
                self.report(f"{where}.name", words)
            # usb is any, usb:054c:06c3 any of a model; the port of tty:S0:pn532 is S0.
            port = re.sub("^(tty:.*):.*", r"\1", reader.device) + ":"
            if any(port.startswith(other) or other.startswith(port) for other in seen):
                words = "may be the device of another reader"
                self.report(f"{where}.device", f" = {_shown(reader.device)}: {words}")
            seen.append(port)

    def _check_pins(self, config: Config, tables: Mapping[str, Table]) -> None:
        """Report a pin that two things are to have."""
        owners: dict[int, str] = {}
        if any(re.match(PORT_ON_PINS, each.device) for each in config.readers):
            owners = dict.fromkeys((14, 15), "the reader's serial port")
        unused = {w for w, lock in locks_of(config).items() if lock.kind != "relay"}
        unused |= {"leds"} if all(each.leds for each in config.readers) else set()
        used = {at: table for at, table in tables.items() if at not in unused}
        # The locks last: the owner may have left out the pins of the lights.
        for at in sorted(used, key=lambda at: isinstance(used[at], LockAccess)):
            for key, pin in used[at].items():
                place = f"{at}.{key}"
                is_pin = key.endswith("_gpio") and place not in self.reported
                if is_pin and pin >= 0 and owners.setdefault(pin, place) != place:
                    self.report(place, f" = {pin}: {owners[pin]} has this pin")


def _schedule(times: Sequence[str], closed: Iterable[date], **more: Any) -> Schedule:
    spans, words = tuple(map(parse_span, times)), tuple(times)
    more = {"name": "", **more}
    return Schedule(spans=spans, words=words, closed=frozenset(closed), **more)


#: The tables in which a key may belong that was found elsewhere.
HOMES = (*SECTIONS.keys() - {"fallback"}, "reader", "signals", "schedule", "card")
#: The serial port on the Pi's pins, by nfcpy's name: TXD and RXD are on GPIO 14 and 15.
PORT_ON_PINS = "tty:(S0|AMA0|serial0):"
#: Why a card is refused; without its entry, a row of the database could admit it.
FLAWED = "its entry in doorpi.toml has a mistake: doorpi check"
#: Why a card with a proof is refused: this program would accept a copy of it.
CANNOT_ASK = "it must prove itself ({}), and this program cannot ask it to"

OWN_FILE = ': give it a file of its own: { file = "NAME" }'
#: What may be wrong though each value is valid by itself: the key, when, and why.
CONTRADICTIONS: tuple[tuple[type[Table], str, Callable[[Any], object], str], ...] = (
    (ReaderConfig, "virtual", lambda t: udp_address(t.device) and not t.virtual,
     " = false: with a udp: device, anybody on the network could present any card"),
    (ProofConfig, "door_key", lambda t: t.door_key.text and not t.door_key.file,
     OWN_FILE),
    (ProofConfig, "issuer_key", lambda t: t.issuer_key.text and not t.issuer_key.file,
     OWN_FILE),
    (ProofConfig, "issuer_key",
     lambda t: t.door_key.text and t.door_key.text.lower() == t.issuer_key.text.lower(),
     ": the same as door_key; make them different"),
    (CobotConfig, "resource", lambda t: t.resource and (t.plans or t.time_passes),
     ": bookings alone open a room; leave out plans, time_passes"),
    (MqttConfig, "tls", lambda t: not t.tls and is_public(t.host),
     " = false: unencrypted only to this computer or a private address"),
    (MqttConfig, "door", lambda t: not t.door,
     ": missing; door.name has no letters a to z"),
    (MqttConfig, "key_file", lambda t: t.cert_file and not t.key_file,
     ": missing; cert_file needs it"),
    (MqttConfig, "cert_file", lambda t: t.key_file and not t.cert_file,
     ": missing; key_file needs it"),
    (MqttConfig, "password",
     lambda t: not (re.fullmatch(THIS_COMPUTER, t.host) or t.password or t.cert_file)
     and t.host,
     ": missing; only a broker on this computer needs none"),
)  # fmt: skip
#: The keys that each kind of authority needs.
AUTHORITY_NEEDS = {
    "carontepass": ("user", "password"), "digital-id": ("organisations",),
}  # fmt: skip


def contradictions(table: Table) -> Iterator[tuple[str, str]]:
    """The keys that are missing or wrong because of others, and why."""
    values = vars(table)
    kind = values.get("kind", "")
    lock = LOCK_KINDS.get(kind, LockKind(AUTHORITY_NEEDS.get(kind, ())))
    for key in lock.needs:
        if not values[key]:
            yield key, f": missing; {kind!r} needs it ({table.keys[key].meaning})"
    is_near = lock.is_near or isinstance(table, NotifyConfig)
    for key in (key for key in values if key.endswith("url")):
        url, is_near = values[key], values.get("plain_http", is_near)
        if isinstance(url, Secret):  # its query may hold the secret
            url = url.text.partition("?")[0]
        if url and (problem := _url_problem(url, is_plain_allowed=is_near)):
            yield key, f": {problem}"
    for kinds, key, is_wrong, words in CONTRADICTIONS:
        if isinstance(table, kinds) and is_wrong(table):
            yield key, words


def _url_problem(url: str, *, is_plain_allowed: bool) -> str:
    """What is wrong with an address; plain http is only for a private one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search("[ @?#]", url):
        return "expected https://HOST/PATH, and nothing more"
    if parts.scheme == "https" or re.fullmatch(THIS_COMPUTER, host):
        return ""
    if not is_plain_allowed:
        return "http would send the key unencrypted; use https"
    return "http is only for your own network" if is_public(host) else ""


THIS_COMPUTER = r"localhost|127\.[\d.]+|::1"


def is_public(host: str) -> bool:
    """Whether a name or an address is of the internet, not of one's own network."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_global
    return "." in host and not re.search(PRIVATE_NAME, host.lower())


#: Names that no public DNS knows.  Source: RFC 6762, RFC 8375, and routers' habits.
PRIVATE_NAME = r"\.(local|lan|home|internal|localdomain|box|home\.arpa)\.?$"


def proofs_of(proof: ProofConfig) -> Sequence[str]:
    """How a card may show here that it is the one on the list."""
    return ("",) * (proof.uid_only == "accept") + PROOFS * bool(proof.door_key)


def fingerprint(key: Secret) -> str:
    """Tells two keys apart, and nothing more."""
    return hashlib.sha256(b"DoorPi " + bytes.fromhex(key.text)).hexdigest()[:16]


def parse_config(text: str, read: FileReader = lambda *named: {}) -> Config:
    """Read the text of doorpi.toml, and with ``read`` the files that it names.  Raises:
    ConfigError with every problem: its place, value and reason, or its line where that
    is not TOML."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")  # as Windows writes it
    mistakes: list[str] = []
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        text, mistakes = _repaired(text)
        mistakes = mistakes or [f"not valid TOML: {error}"]
        try:
            document = tomllib.loads(text)
        except ValueError:  # two statements contradict each other
            raise ConfigError(mistakes) from None
    parser = Parser(document, read)
    config = parser.config()
    if not parser.problems and not mistakes:
        return config
    rest = config if "fallback" in parser.usable else config._replace(fallback=None)
    is_usable = "lock" in parser.usable and not (mistakes or parser.lacks_files)
    raise ConfigError([*mistakes, *parser.problems], rest if is_usable else None)


def doubtful_settings(config: Config) -> Iterator[str]:
    """Settings that contradict each other or are risky, in words for ``check``."""
    door, lock, proof = config.door, config.lock, config.proof
    only_opens = door.on_tap == "unlock" and lock.kind != "relay"
    has_secure = any(card.proof for card in config.cards.values())
    has_exit = any(reader.is_exit for reader in config.readers)
    for is_doubtful, words in (
        (only_opens and not lock.relock_after_s,
         "door.on_tap = 'unlock' without relock_after_s: the door stays unlocked"),
        (config.open_hours and door.on_tap == "toggle",
         "door.on_tap = 'toggle' with [[open]]: a tap in these hours locks the door"),
        (only_opens and door.on_unknown == "lock",
         "door.on_unknown = 'lock': a tap may lock, in spite of on_tap = 'unlock'"),
        (door.passback_s and has_exit and not tells_ways(config),
         "door.passback_s: with an 'out' and no 'in', it keeps out whoever has left"),
        (not door.require_synced_clock,
         "door.require_synced_clock = false: a wrong clock lets in expired cards"),
        (not proof.door_key and (proof.uid_only == "refuse" or has_secure),
         "proof.door_key: missing, so no secure card opens the door"),
    ):  # fmt: skip
        if is_doubtful:
            yield words
    for where, each in locks_of(config).items():
        # Source: BCM2835 ARM Peripherals, table 6-31, column Pull; the HAT design guide
        # adds that 0 and 1 are probed at boot.
        is_up = each.relay_gpio <= 8
        pulled, others = ("up", "9 to 27") if is_up else ("down", "2 to 8")
        if each.kind == "relay" and each.active_high is is_up:
            yield (
                f"{where}.relay_gpio = {each.relay_gpio}: pulled {pulled} while the"
                f" program does not run, which opens the door; choose one of {others}"
            )
    yield from (f"{card}.uid: {NUMBER_WORDS}" for card in config.bare_numbers)


################################################################################
# 6. Edits -- what a change of the settings means, in words
################################################################################


MOST_CHANGES = 20  # lines
MOST_SOUGHT = 1_000  # cards looked up in the database; takes a Zero about a second


def access_changes(
    before: Config,
    after: Config,
    find: Callable[[Uid], Credential | None],
    block_on: Callable[[Uid, str], Block | None],
) -> list[str]:
    """What an edit means for people, in words, a line each.  The database decides about
    cards that are not in the file: ``find`` and ``block_on`` look into it."""
    removed = [uid for uid in before.cards if uid not in after.cards]
    added = [uid for uid in after.cards if uid not in before.cards]
    rows = {uid: row for uid in (removed + added)[:MOST_SOUGHT] if (row := find(uid))}
    revived = []
    for uid, row in rows.items():
        if uid in before.cards and row.enabled and not block_on(uid, row.holder):
            until = f" until {limit_words(row.valid_until)}" if row.valid_until else ""
            words = f"is still on the database's list and may enter{until}"
            end = f"to end that: doorpi revoke {format_uid(uid)}"
            revived.append(f"{card_name(row)} {words}; {end}")
    before = before._replace(cards={**rows, **before.cards})
    after = after._replace(cards={**rows, **after.cards})
    lines = [*revived, *_listed_changes(before, after)]
    if (more := len(lines) - MOST_CHANGES) > 0:
        lines[MOST_CHANGES:] = [f"and {more:,} more changes"]
    return lines


def _names(names: Iterable[str]) -> str:
    """``A, B, C and 9,995 more``: each name once, safe to show."""
    shown = [printable(name, 160) for name in dict.fromkeys(names)]
    if len(shown) > 4:
        return f"{', '.join(shown[:3])} and {len(shown) - 3:,} more"
    return ", ".join(shown)


def card_changes(
    was: Credential, now: Credential, before: Schedules, after: Schedules
) -> list[str]:
    """What changes for a card: when it is valid, and its holder."""
    # An edit of a schedule that the card keeps is reported with the schedule.
    old = after if was.schedule == now.schedule else before
    valid = validity(was, old), validity(now, after)
    news = [" -> ".join(valid)] if valid[0] != valid[1] else []
    proofs = " -> ".join(each.proof or "its UID alone" for each in (was, now))
    news += [f"proof: {printable(proofs)}"] * (was.proof != now.proof)
    return news + [f"now {printable(now.holder, 60)}"] * (was.holder != now.holder)


def _listed_changes(before: Config, after: Config) -> Iterator[str]:
    """What changes for cards, those with the same change in one line, and which
    schedules are new, removed or different."""
    every = {**after.cards, **before.cards}
    held = Counter(card.holder for card in every.values())
    changed: dict[str, list[str]] = {}
    for uid, card in every.items():
        was, now = before.cards.get(uid), after.cards.get(uid)
        news = ["removed" if was else "added"]
        if was and now:
            news = card_changes(was, now, before.schedules, after.schedules)
        for change in news:
            name = card_name(card) if held[card.holder] > 1 else card.holder
            changed.setdefault(change, []).append(name)
    yield from (f"{_names(names)}: {change}" for change, names in changed.items())
    for name in {**before.schedules, **after.schedules}:
        old, new = before.schedules.get(name), after.schedules.get(name)
        words = f"new ({_hours(new)})" if new else "removed"
        if old and new:
            who = _names(c.holder for c in after.cards.values() if c.schedule == name)
            words = f"{_hours(old)} -> {_hours(new)}" + (f" ({who})" if who else "")
            if (set(old.spans), old.closed) == (set(new.spans), new.closed):
                continue
        yield f"schedule {printable(name)}: {words}"


def setting_changes(before: Config, after: Config) -> Iterator[str]:
    """What an edit changes besides people's access, in words, a line each, without
    secrets."""
    old, new = tables_of(before), tables_of(after)
    for name in {**old, **new}:
        if name not in new:
            yield f"{name}: removed"
        elif name not in old:
            kind = vars(new[name]).get("kind")
            yield f"{name}: added{f' ({kind})' if kind else ''}"
    hours = [open_words(each.open_hours) or "none" for each in (before, after)]
    yield from [f"open hours: {' -> '.join(hours)}"] * (hours[0] != hours[1])
    settings = settings_of(before)
    for key, now in settings_of(after).items():
        was = settings.get(key, now)
        if was == now:
            continue
        words = f"{_shown(was)} -> {_shown(now)}"
        if isinstance(now, Pattern):
            words = "redrawn"
        elif isinstance(now, Secret):
            words = "changed" if was and now else "added" if now else "removed"
        yield f"{key}: {words}"


################################################################################
# 7. Ports -- what the door needs from the world
################################################################################


class Stopped(BaseException):
    """The program must stop; raised on the main thread, wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ProcessSignals:
    """SIGTERM and the like raise Stopped; SIGHUP asks for a reload.

    Every signal that would end the process is handled, except SIGKILL, so that the
    lights always go out.  A second one within 2 s is ignored, so that it cannot
    interrupt the cleaning up.
    """

    stops = (
        signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1,
        signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF,
        signal.SIGXCPU,
    )  # fmt: skip

    _is_postponing = False  # of the class: a process has one set of signals
    _postponed: int | None = None

    def __init__(self) -> None:
        self._stopped_at = -inf
        self._stopped_by: int | None = None
        self._reload_asked = False

    def install(self) -> None:
        for number in self.stops:
            signal.signal(number, self._take)
        signal.signal(signal.SIGHUP, self._take)

    def _take(self, number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload_asked = True
        elif time.monotonic() - self._stopped_at > 2.0:
            self._stopped_at = time.monotonic()
            self._stopped_by = number
            if not ProcessSignals._is_postponing:
                raise Stopped(number)
            ProcessSignals._postponed = number

    @classmethod
    @contextlib.contextmanager
    def postponed(cls) -> Iterator[None]:
        """Postpone a stop to the end of the (outermost) ``with``.  Only the main thread
        is ever stopped, so on any other this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        was_postponing, cls._is_postponing = cls._is_postponing, True
        try:
            yield
        finally:
            cls._is_postponing = was_postponing
            if not was_postponing and cls._postponed is not None:
                number, cls._postponed = cls._postponed, None
                raise Stopped(number)

    def reload_asked(self) -> bool:
        """True once after a SIGHUP, or several in a row.  Raises: Stopped again if the
        first was lost, as Python ignores exceptions in __del__ and in callbacks."""
        if self._stopped_by is not None:
            raise Stopped(self._stopped_by)
        asked, self._reload_asked = self._reload_asked, False
        return asked


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that gets no signals, nor do the threads that it starts: a signal
    always interrupts the main thread's wait."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


EPOCH = datetime.fromtimestamp(0, UTC)


def utc_text(at: datetime) -> str:
    """``2026-11-21T12:00:00.123Z``: sorts as text, reads the same everywhere."""
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


class Clock(Protocol):
    """The two kinds of time, and waiting."""

    def now(self) -> datetime: ...  # in the door's zone, aware; may be wrong and jump
    def local(self, at: datetime) -> datetime: ...  # in the door's zone
    def monotonic(self) -> float: ...  # seconds: only forward, also while suspended
    def sleep(self, seconds: float) -> None: ...
    # Like ``sleep``, but ``wake`` ends it; for the main thread.
    def wait(self, seconds: float) -> None: ...
    def wake(self) -> None: ...  # end the present ``wait`` or the next; on any thread
    def is_set(self) -> bool: ...  # the kernel says that the clock is synchronised
    def cpu(self) -> float: ...  # seconds of processor time that the door has used
    def boot(self) -> str: ...  # an id of this run of the computer


class ReaderLost(Exception):
    """The reader does not answer; the next ``sense`` opens it again."""


class LockError(Exception):
    """A question or a command to the lock failed.  The text is for people; the class
    says what may be done next.  ``after_s`` is how long a busy lock, or a cloud whose
    quota is used up, asks to be left alone; None: it did not say."""

    result = Result.UNREACHABLE  # of the move, if no retry helps
    ask_again = True  # the same question may succeed later
    send_again = False  # the command surely had no effect and may be sent again
    never_reached_lock = False  # the command surely did not reach the lock
    #: The lock or its owner says no, so no other lock may open instead.
    forbids_fallback = False

    def __init__(self, text: str, after_s: float | None = None) -> None:
        super().__init__(text)
        self.after_s = after_s


class NotSent(LockError):
    """Nothing of the request was sent: DNS, TCP or TLS failed, or the time was up."""

    send_again = never_reached_lock = True


class MaybeSent(LockError):
    """The request was sent but not properly answered: it may have had its effect."""


class Busy(LockError):
    """The lock is busy with something else."""

    result = Result.REFUSED
    send_again = forbids_fallback = True


class Throttled(Busy):
    """Too many requests at the moment: the cloud did not pass this one to the lock."""

    forbids_fallback = False
    never_reached_lock = True


class Unreadable(LockError):
    """The answer makes no sense, or lacks what was asked for."""

    result = Result.UNKNOWN_STATE


class Rejected(LockError):
    """The lock refused: it is jammed, for example."""

    result = Result.REFUSED
    ask_again = False
    forbids_fallback = True


class RequestRefused(LockError):
    """The cloud refused the request without asking the lock."""

    result = Result.REFUSED
    ask_again = False
    never_reached_lock = True


class RemoteBarred(RequestRefused):
    """The cloud refused because of the lock: its battery is empty, or its owner does
    not allow remote control."""

    forbids_fallback = True


class AuthError(RequestRefused):
    """The cloud does not accept the key."""


class QuotaError(RequestRefused):
    """The quota of API calls is used up."""


class Offline(LockError):
    """The cloud answers, but it cannot reach the lock or its hub."""

    ask_again = False


class NotForwarded(Offline):
    """As Offline, and the cloud surely did not pass the command on."""

    never_reached_lock = True


class AccessWithdrawn(LockError):
    """The command must no longer be sent: access was withdrawn, or the door is open."""

    result = Result.REFUSED
    ask_again = False
    forbids_fallback = True


class Sent(NamedTuple):
    """A command that was sent, what ``send`` returned, and the status before it."""

    command: Command
    handle: str | None
    before: LockStatus = LockStatus(LockState.UNKNOWN)


class Lock(Protocol):
    """One vendor's protocol and nothing else: no retries, no policy, and no waiting
    except for a pause that the vendor asks for between two requests.

    Each method returns before ``by`` (monotonic seconds).  Raises: LockError.  Its
    worker's thread makes the calls; the main thread may meanwhile use ``calls``,
    ``keep_ready``, ``trouble``, ``is_holding``, ``wait_released`` and ``close``.
    """

    policy: LockPolicy

    @property
    def calls(self) -> int:
        """How many requests were sent so far, as a vendor's plan counts them."""

    def status(self, by: float) -> LockStatus: ...

    def wake(self, by: float) -> str | None:
        """Make the cloud ask a lock whose state is old.  Returns a handle for
        ``is_awake``, None where the vendor has none."""
        return None

    def is_awake(self, handle: str, by: float) -> bool:
        """Ask once whether what ``wake`` began has finished."""
        return True

    def prepare(self, by: float) -> None:
        """Wait for what ``send`` needs, such as a connection: whether the command may
        still be sent is checked after that."""

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        """Send ``command``; nothing of it is sent after ``send_by``.  Returns a handle
        for ``confirm``, None where the vendor has none."""

    def confirm(self, sent: Sent, by: float) -> Progress:
        """Ask once how a command went.  Raises: Rejected if the lock says it failed."""

    def keep_ready(self) -> None:
        """In idle moments: prepare for the next tap without waiting."""

    def trouble(self) -> str:
        """Why the lock is probably unreachable, as far as is known without a call."""
        return ""

    @property
    def is_holding(self) -> bool:
        """Whether a strike is open, which will shut by itself."""
        return False

    def wait_released(self) -> None:
        """Wait until a strike, which is open only while the program runs, has shut."""

    def close(self) -> None:
        """Release everything for good: a strike shuts at once, and a call that is under
        way on another thread ends."""


class Job(Generic[T]):
    """A call that was submitted to a Worker; it has a result once it is ``done``."""

    done = False
    _value: T
    _error: BaseException | None = None

    def run(self, function: Callable[[], T]) -> Self:
        try:
            self._value = function()
        except BaseException as error:
            self._error = error
        self.done = True
        return self

    def result(self) -> T:
        """Raises what the function raised."""
        if self._error is not None:
            raise self._error
        return self._value


class Worker(Protocol):
    """Runs calls one after the other on a thread of its own."""

    @property
    def is_idle(self) -> bool: ...
    @property
    def busy_s(self) -> float: ...  # how long the present call has lasted; 0.0: none
    @property
    def is_awaited(self) -> bool: ...  # another call waits for the present one to end
    def submit(self, function: Callable[[], T]) -> Job[T]: ...
    def close(self) -> None: ...  # start no further call; does not wait


class StoreError(Exception):
    """The database cannot be read or written now; the text is for people."""


class Answer(NamedTuple):
    """The answer to the sender of an access request: whether it was ``done``, and in
    words."""

    done: bool
    lines: Sequence[str]


def answer_of(event: Event) -> Answer:
    """What an event tells the sender of its request."""
    detail = f": {event.details}" if event.details else ""
    is_granted = event.reason is Reason.GRANTED
    words = f"{event.result}{detail}" if is_granted else f"denied: {event.reason}"
    return Answer(event.result in (Result.UNLOCKED, Result.LOCKED), [words])


class Source(Protocol):
    """Where access requests come from: a reader, a scanner, a button, the inbox."""

    point: str = ""  # its name where there are several
    settings: ReaderConfig = ReaderConfig()  # which way it leads; what a tap does
    #: When to ``poll`` next (monotonic); inf: when a call of its ``worker`` ends.
    due: float
    worker: Worker  # makes the slow calls
    trouble: str = ""  # why it cannot be read; "" if it can
    lost: Signal | str = Signal.READER_LOST  # noted while there is ``trouble``

    def open(self) -> None:
        """Get ready before the door reports that it is, and find out what was there
        before the start: at once, or on ``worker``."""
        return

    def poll(self, now: float) -> AccessRequest | None:
        """The next request, if there is one; does not wait."""

    def prove(self, credential: Credential) -> Reason | None:
        """Why the card that was presented last is not proven to be ``credential``,
        which has a proof; None if it is.  Runs on ``worker``."""
        return Reason.PROOF_UNAVAILABLE

    def answer(self, request: AccessRequest, answer: Answer) -> None:
        """Send the answer to the sender, where there is one beside the lights."""
        return

    def report(self, request: AccessRequest, lines: Sequence[str]) -> bool:
        """Show the sender what was done so far; False if it waits no longer."""
        return True

    def rest(self, until: float) -> None:
        """Do not poll until then: there were many denials in a row, or a card is being
        written."""
        return

    def close(self) -> None: ...


class Found(NamedTuple):
    """What an authority knows about a request: a credential, or the reason why there is
    none, or neither if it does not know the person.  ``detail`` is for the event."""

    who: Credential | None = None
    reason: Reason | None = None  # AUTHORITY_UNREACHABLE: it gave no verdict
    detail: str = ""


class Authority(Protocol):
    """A system that is asked about people who are not on the device's own list.

    It never decides: ``decide`` judges the credential that it supplies like one of the
    list, so a block, a lockdown or the clock overrules it.
    """

    name: str
    schedule: str  # the name of one outside of which it is not asked; "": always
    worker: Worker  # makes the call, so that no other person waits for it
    answer_s: float  # how long an answer may take

    def takes(self, request: AccessRequest) -> bool:
        """Whether what was presented has a form that it can know."""

    def look_up(self, request: AccessRequest) -> Found:
        """Ask it.  Runs on ``worker``."""

    def question(
        self, request: AccessRequest, who: Credential | None, reason: Reason
    ) -> AccessRequest | None:
        """What to ask it once ``who`` was granted or denied for ``reason``, as its list
        may be out of date; None: nothing.  After the answer the list is asked again; a
        reason in the answer then denies a person who is granted."""
        return None

    def close(self) -> None: ...


class Switch:
    """A door contact or a button that is wired to the Pi; this one is not wired."""

    trouble: str = ""  # why it cannot be read; "" if it can
    #: Called with what ``is_closed`` says at each change, on another thread.
    on_change: Callable[[bool], None] = staticmethod(lambda is_closed: None)

    def is_closed(self) -> bool | None:
        """None if it cannot be read."""
        return None

    def close(self) -> None:
        """Give the pin back."""


class Indicator:
    """The lights beside a reader, or a buzzer; this one shows nothing.  No fault of
    theirs stops the door."""

    trouble: str = ""  # why the lights are dark, in words; "" if all is well

    def show(self, *signals: Signal) -> None:
        """Start to play ``signals``, one after the other, in the background."""

    def close(self) -> None:
        """Lights off."""


class Supervisor(Protocol):
    """The service manager that started the door and watches it: systemd."""

    def report(self, state: str) -> None: ...  # ready, reloading or stopping
    def alive(self) -> None: ...
    def status(self, text: str) -> None: ...


################################################################################
# 8. Moving a lock -- look, command, confirm: generators that never block
################################################################################


#: What the door reads from the list of people and from the event log, by method, with
#: the answer that counts while the database fails.
READS: dict[str, object] = {
    "find": None,  # the credential of a UID
    "block_on": None,  # the block that covers this card of a holder, "": of a stranger
    "blocks": (),
    "find_pass": None,
    "locked_down": None,  # as when it was never set
    "has_dated_cards": True,  # any card has dates or hours
    "has_secure_cards": False,
    "fingerprint_of": None,  # of the key, such as "door_key", that the cards have
    "last_moved": None,  # when this card last moved the lock or may have moved it
    "newest_at": None,  # the latest time in the log
    "oldest_at": None,
    "recall": None,  # a note, of any process
}
#: The same for what it writes.  Events and notes are synced to disk on return.
WRITES: dict[str, object] = {
    "begin": 0,  # an event whose outcome is not known yet; its id
    "finish": None,  # an event that has begun, with its outcome
    "record": None,  # an event that has ended
    "keep": None,  # notes without an event
    "close_interrupted": 0,  # mark what earlier processes left unfinished; how many
    "forget": 0,  # remove a few events that are too old; how many rows
    "add_card": None,  # in place of an earlier entry of its UID
    "use_pass": False,  # False: it was used before
    "keep_fingerprint": None,
}


class Forgiving:
    """A database whose trouble keeps nobody out: where a method would raise StoreError,
    it returns its argument ``default``, or what READS or WRITES says.

    ``report`` gets the trouble in words, and whether the call was a write; and "" after
    a write, which alone proves that all is well: a full disk can be read.
    """

    def __init__(self, store: Any, report: Callable[[str, bool], None]) -> None:
        self._store, self._report = store, report

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method
        is_write, usual = name in WRITES, {**READS, **WRITES}.get(name)

        def forgiving(*args: Any, default: Any = usual) -> Any:
            try:
                answer = method(*args)
            except StoreError as error:
                self._report(str(error), is_write)
                return default
            if is_write and answer != 0:  # 0: there was nothing to forget
                self._report("", is_write)
            return answer

        return forgiving


class CallBudget:
    """The API calls used this month, and the back-off periods that a cloud asked for,
    of one kind of lock.  They are on disk for verbs, which call as well, and for a
    restart; the periods are read every ``look_every_s``."""

    look_every_s = 1.0

    def __init__(self, clock: Clock, events: Any, kind: str, allowed: int) -> None:
        self._clock, self._events = clock, events
        self.kind = kind
        self.allowed = allowed  # calls a month; 0: no limit
        self._ends: dict[str, tuple[float, float]] = {}  # of each period; read when

    @property
    def month(self) -> str:
        """The name under which this month's calls are counted."""
        return NoteKey.CALLS.of(self.kind, f"{self._clock.now():%Y-%m}")

    @property
    def used(self) -> int:
        kept = self._events.recall(self.month) or ""
        return int(kept) if re.fullmatch(r"\d{1,9}", kept, re.ASCII) else 0

    def confirmations_left(self) -> int | None:
        """How many questions a command may be followed by; None: no limit."""
        if not self.allowed:
            return None
        share = self.used / self.allowed
        return next(count for since, count in RATIONS if share >= since)

    def shortage(self) -> str:
        """In words when most of the month's calls are used; "" before."""
        if not self.allowed or (used := self.used) < CALLS_LOW * self.allowed:
            return ""
        return calls_in_words(used, self.allowed)

    def backoff_s(self, what: NoteKey) -> float:
        """For how much longer ``what`` must not be done; 0.0 when it may."""
        now = self._clock.monotonic()
        ends_at, read_at = self._ends.get(what, (-inf, -inf))
        if now >= read_at + self.look_every_s:
            text = self._events.recall(what.of(self.kind)) or ""
            boot, _, kept = text.partition(" ")
            if boot == self._clock.boot() and re.fullmatch(SECONDS_KEPT, kept):
                ends_at = max(ends_at, float(kept))
            self._ends[what] = ends_at, now
        return max(0.0, ends_at - now)

    def back_off(self, what: NoteKey, seconds: float) -> None:
        """From now on ``what`` must not be done for so long."""
        now = self._clock.monotonic()
        self._ends[what] = now + seconds, now
        kept = f"{self._clock.boot()} {now + seconds:.3f}"
        self._events.keep(Notes({what.of(self.kind): kept}))


class Pause(NamedTuple):
    """Wait ``until`` then (monotonic), or until ``is_over`` returns True."""

    until: float
    is_over: Callable[[], bool] = lambda: False

    def has_ended(self, clock: Clock) -> bool:
        return clock.monotonic() >= self.until or self.is_over()


#: A procedure that yields what it waits for, and never blocks.
Steps = Generator[Pause, None, T]


def call(worker: Worker, function: Callable[[], T]) -> Steps[T]:
    """Have ``worker`` run ``function``, and wait for it.  Raises what that raises."""
    pending = worker.submit(function)
    yield Pause(inf, lambda: pending.done)
    return pending.result()


class InlineWorker:
    """Runs each call at once, on the thread that submits it."""

    is_idle, busy_s, is_awaited = True, 0.0, True

    def submit(self, function: Callable[[], T]) -> Job[T]:
        return Job[T]().run(function)

    def close(self) -> None:
        """Nothing is under way."""


class Runner:
    """Advances several procedures side by side; it never waits itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.pauses: dict[Steps[Any], Pause] = {}  # of those that are under way

    def start(self, steps: Steps[Any]) -> None:
        """Begin ``steps``, as far as they get without waiting."""
        self.pauses[steps] = Pause(-inf)
        self.advance()

    def advance(self) -> None:
        """Continue each procedure whose pause has ended."""
        for steps in [*self.pauses]:
            is_closed = cast(Any, steps).gi_frame is None
            try:
                while is_closed or self.pauses[steps].has_ended(self._clock):
                    self.pauses[steps] = next(steps)
            except StopIteration:
                del self.pauses[steps]

    def stop(self, error: BaseException) -> None:
        """Raise ``error`` in each of them, where it waits."""
        for steps in [*self.pauses]:
            del self.pauses[steps]
            with contextlib.suppress(type(error), StopIteration):
                steps.throw(error)


def drive(steps: Steps[T], clock: Clock) -> T:
    """Carry out ``steps`` and wait for what they wait for.  Raises what they raise;
    what is raised during a wait (Stopped as well) is raised in them."""
    pause = Pause(-inf)
    try:
        while True:
            try:
                while not pause.has_ended(clock):
                    clock.wait(min(1.0, pause.until - clock.monotonic()))
            except BaseException as error:
                pause = steps.throw(error)
            else:
                pause = next(steps)
    except StopIteration as end:
        return cast(T, end.value)


class Move(NamedTuple):
    """A move of a lock: ``choose`` gives the command for its state."""

    choose: Callable[[LockState], Command | None]
    send_by: float  # the command is sent before that or not at all
    #: Puts the command on disk before it is sent; called for each lock that may get it.
    intend: Callable[[Command], None]
    #: Raises AccessWithdrawn if the command must not be sent; called before ``intend``
    #: and again right before each time that it is sent.
    check: Callable[[Command], None] = lambda command: None
    may_fall_back: bool = True
    sparing: bool = False  # ask less when few of the month's calls are left
    lost_by: float = inf  # set by LockControl: when the fallback takes over
    questions: int | None = None  # likewise: how many may follow the command


class LockControl:
    """Moves a lock, or says what it could not do: the one policy over all drivers.

    A command is chosen from a status and never guessed.  It is sent again only if it
    surely had no effect, and it counts when the lock has confirmed it.  The fallback
    opens instead if surely nothing reached this lock and the lock itself did not
    refuse.  What each LockError leads to is a table in tests/door/test_lock_control.py.
    """

    def __init__(
        self,
        lock: Lock,
        access: LockAccess,
        events: Any,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        worker: Worker | None = None,
        name: str = "lock",
        fallback: LockControl | None = None,
    ) -> None:
        self.lock, self.policy, self.name = lock, lock.policy, name
        self._clock, self._jitter, self._events = clock, jitter, events
        self._confirm_s, self.hold_s = access.confirm_s, access.hold_s
        self.worker = worker or InlineWorker()  # makes each request
        allowed = access.calls_per_month or self.policy.calls_per_month
        self.budget = CallBudget(clock, events, access.kind, allowed)
        self.fallback = fallback
        self.mover = name  # which of the two is moved, or was last
        self._calls_counted = lock.calls
        # Another lock has other times:
        identity = f"{access.kind} {access.device_id}".encode()
        self._lock_hash = hashlib.sha256(identity).hexdigest()[:16]
        self._learnt: dict[str, ConfirmTime] = {}  # by the name of the note
        self._noted: dict[str, str] = {}  # the same as on disk
        self._faults_logged: set[str] = set()

    @property
    def all(self) -> list[LockControl]:
        """This lock and its fallback."""
        return [self, *(self.fallback.all if self.fallback else ())]

    def named(self, name: str) -> LockControl:
        """The one of that name; this one where there is none any more."""
        return next((control for control in self.all if control.name == name), self)

    def keep_ready(self) -> str:
        """For idle moments: prepare the locks for a tap.  Returns their troubles."""
        troubles = []
        for control in self.all:
            if control.worker.is_idle:  # one thread at a time may use a driver
                with contextlib.suppress(LockError):
                    control._guarded(control.lock.keep_ready)
            if trouble := control.lock.trouble():
                troubles.append(f"{control.name}: {trouble}")
        return "; ".join(troubles)

    def new_notes(self, notes: Notes = NO_NOTES) -> Notes:
        """``notes``, with what is new since the last time: the calls made, by the names
        they are counted under, and when moves are done."""
        counts, words = Counter[str](), dict(notes.words)
        for control in self.all:
            calls, counted = control.lock.calls, control._calls_counted
            control._calls_counted = calls
            if calls > counted:
                counts[control.budget.month] += calls - counted
            learnt, lock = control._learnt.items(), control._lock_hash
            texts = {name: each.text(lock) for name, each in learnt}
            words |= dict(texts.items() - control._noted.items())
            control._noted = texts
        return Notes(words, dict(counts))

    def status(self, by: float, lost_by: float = inf) -> Steps[LockStatus]:
        """Ask for the lock's state, again until ``by``, and until ``lost_by`` while it
        cannot be reached.  A moving bolt is looked at until it has arrived, a lock
        whose state is old is woken once.  Raises: LockError."""
        seen, was_woken = None, False
        ask = functools.partial(self._call, self.lock.status, by)
        while True:
            try:
                waits_s = self.policy.read_waits_s
                seen = yield from self._retried(ask, waits_s, by, lost_by)
            except LockError as error:
                if seen is None:
                    raise
                log.warning("looking at the lock again: %s", error)
                return seen
            look_at = self._clock.monotonic() + self.policy.moving_every_s
            if seen.is_moving and look_at < by:
                yield Pause(look_at)
            elif seen.is_old and not was_woken:
                was_woken = True
                if not (yield from self._wake(min(by, lost_by))):
                    return seen
            else:
                return seen

    def look(self) -> Steps[LockStatus]:
        """Ask for the lock's state once.  Raises: LockError."""
        return (yield from self._call(self.lock.status, inf))

    def _wake(self, by: float) -> Steps[bool]:
        """Make the hub contact a silent lock; True if that may have helped."""
        now = self._clock.monotonic()
        ends_at = min(by - 1.0, now + self.policy.wake_s)  # one second for the status
        may_wake = self.policy.wake_every_s and now < ends_at
        if not may_wake or self.budget.backoff_s(NoteKey.WAKE):
            return False
        self.budget.back_off(NoteKey.WAKE, self.policy.wake_every_s)
        log.warning("the lock's state is old; its hub is asked to contact it")
        try:
            handle = yield from self._call(self.lock.wake, by)
            while handle and (look_at := self._clock.monotonic() + 1.0) <= ends_at:
                yield Pause(look_at)
                is_awake = functools.partial(self.lock.is_awake, handle)
                if (yield from self._call(is_awake, by)):
                    break
        except LockError as error:
            log.warning("having the hub contact the lock: %s", error)
            return False
        return handle is not None

    def move(self, move: Move) -> Steps[Outcome]:
        """Look at the lock, send what follows from its state, and confirm it."""
        self.mover = self.name
        fallback = self.fallback if move.may_fall_back else None
        now = self._clock.monotonic()
        mine = move._replace(
            may_fall_back=bool(fallback),
            lost_by=now + (move.send_by - now) / (2 if fallback else 1),
            questions=self.budget.confirmations_left() if move.sparing else None,
        )
        first, is_lost = yield from self._attempt(mine)
        if fallback is None or not is_lost:
            return first
        log.warning("%s; using the fallback", first.detail)
        self.mover = fallback.name
        unsent = first.command
        choose = (lambda state: unsent) if unsent else move.choose
        second = yield from fallback.move(move._replace(choose=choose))
        title = f"the fallback ({fallback.budget.kind})"
        if second.result in MOVED:
            words = [f"moved by {title}", second.detail, f"the lock: {first.detail}"]
        else:
            words = [first.detail, f"{title}: {second.detail}"]
        return second._replace(detail="; ".join(filter(None, words)))

    def _attempt(self, move: Move) -> Steps[tuple[Outcome, bool]]:
        """How it ended, and whether another lock may be moved instead."""
        seen, failure, is_lost = LockStatus(LockState.UNKNOWN), None, False
        if move.questions != 0 or len({move.choose(each) for each in LockState}) > 1:
            try:
                seen = yield from self.status(move.send_by, move.lost_by)
                is_lost = seen.reachable is False
            except LockError as error:
                failure, is_lost = error, not error.forbids_fallback
        command = None
        is_refused = isinstance(failure, Rejected | RequestRefused)
        if not is_refused and not (is_lost and move.may_fall_back):
            command = move.choose(seen.effective_state)
        if command is None:
            result = failure.result if failure else Result.UNKNOWN_STATE
            why = str(failure or f"state unknown: {seen.why or 'the lock did not say'}")
        else:
            try:
                move.check(command)
                move.intend(command)
                result, why = yield from self._carry_out(command, seen, move)
                is_lost = False
            except LockError as error:
                result, why = error.result, str(error)
                is_shut = command is Command.UNLOCK and error.never_reached_lock
                is_lost = is_shut and not error.forbids_fallback
        battery = seen.battery_percent, seen.battery_is_low
        return Outcome(command, result, why, *battery, self.name), is_lost

    def _carry_out(
        self, command: Command, before: LockStatus, move: Move
    ) -> Steps[tuple[Result, str]]:
        """Send ``command``, a second time where it had no effect, and confirm it.
        Raises: LockError when it was refused before it had an effect."""

        def send() -> Steps[str | None]:
            yield from self._call(self.lock.prepare, send_by)
            move.check(command)  # nothing that takes time lies between it and the send
            request = functools.partial(self.lock.send, command, send_by)
            return (yield from self._call(request, inf, send_by))

        detail, send_by, waits_s = "", move.send_by, self.policy.send_waits_s
        for is_last in (False, True):
            try:
                handle = yield from self._retried(
                    send, waits_s, send_by, move.lost_by, is_command=True
                )
            except (MaybeSent, Unreadable) as error:
                handle, detail = None, f"{error}; "
                log.warning("%s: %s; asking the lock for its state", command, error)
            except LockError as error:
                if is_last and not isinstance(error, Rejected):  # the first was sent
                    return Result.UNSURE, f"sending it again: {error}"
                raise
            sent = Sent(command, handle, before)
            must_turn = before.state not in (command.target, LockState.UNKNOWN)
            is_usual = must_turn and not detail and not is_last
            learnt = self._confirm_time(command) if is_usual else ConfirmTime()
            result, why = yield from self._confirm(sent, move, is_last, learnt)
            if result is not None:
                return result, (detail + why if result is Result.UNSURE else why)
            log.warning("%s: a newer status shows no effect; sending it again", command)
        raise AssertionError("the last confirmation always has a result")

    def _confirm(
        self, sent: Sent, move: Move, is_last: bool, learnt: ConfirmTime
    ) -> Steps[tuple[Result | None, str]]:
        """Ask until the lock has answered; None: no effect, and time to send again."""
        policy, week = self.policy, f"{self._clock.now():%G-W%V}"
        sent_at, asked_at = self._clock.monotonic(), -inf
        ends_at, asked_s = sent_at + self._confirm_s, list[float]()
        confirm = functools.partial(self.lock.confirm, sent)
        trouble = "" if move.questions is None else f": {self.budget.shortage()}"
        known = policy, self._confirm_s, week
        times_s = learnt.times_s(*known, only_one=move.questions == 1)
        for at_s in islice(times_s, move.questions):
            # After a slow answer, don't catch up in a burst.
            due = max(sent_at + at_s, asked_at + policy.confirm_every_s)
            if due > ends_at:
                break
            yield Pause(due)
            asked_at = self._clock.monotonic()
            asked_s.append(asked_at - sent_at)
            # The last question is given a second to be answered in.
            by = max(ends_at, asked_at + 1.0)
            try:
                progress = yield from self._call(confirm, by)
            except LockError as error:
                if isinstance(error, Rejected):  # a refusal by the cloud proves nothing
                    return Result.REFUSED, str(error)
                trouble = f": {error}"
                if isinstance(error, AuthError | QuotaError):
                    break  # more questions would only make it worse
                # A call that failed says nothing about the bolt, but "moving" does.
                learnt = learnt if isinstance(error, Unreadable) else ConfirmTime()
                continue
            if progress is Progress.DONE:
                learnt.learn(asked_s, week)
                return Result(sent.command.target.value), ""
            in_time = sent_at + policy.resend_after_s <= asked_at < move.send_by
            if progress is Progress.NO_EFFECT and in_time and not is_last:
                return None, ""
        waited_s = self._clock.monotonic() - sent_at
        return Result.UNSURE, f"not confirmed within {waited_s:.0f} s{trouble}"

    def _confirm_time(self, command: Command) -> ConfirmTime:
        """When ``command`` is done, as it was learnt so far."""
        name = NoteKey.CONFIRM.of(self.name, command)
        if name not in self._learnt:
            found = confirm_time_from(self._events.recall(name), self._lock_hash)
            self._learnt[name], self._noted[name] = found, found.text(self._lock_hash)
        return self._learnt[name]

    def _call(
        self, request: Callable[[float], T], by: float, start_by: float = inf
    ) -> Steps[T]:
        """Make a request, unless the lock's cloud must be left alone; it ends ``by``,
        and within its timeout.  It is not made once it is given up, nor a command
        after ``start_by``."""
        if backoff_s := self.budget.backoff_s(NoteKey.QUOTA):
            minutes = ceil(backoff_s / 60)
            raise QuotaError(f"rate-limited: no calls for {minutes} min")

        def make() -> T:
            now = self._clock.monotonic()
            if is_given_up or now >= start_by:  # the worker was busy until now
                raise NotSent("too late to send")
            return self._guarded(lambda: request(min(by, now + try_s)))

        is_given_up, try_s = False, self.policy.try_s
        if start_by < inf:
            try_s = self.policy.send_try_s or try_s
        try:
            return (yield from call(self.worker, make))
        except QuotaError as error:
            if error.after_s:
                self.budget.back_off(NoteKey.QUOTA, error.after_s)
            raise
        finally:
            is_given_up = True

    def _guarded(self, request: Callable[[], T]) -> T:
        """Call the driver.  Raises: LockError, Unreadable for a bug in it."""
        try:
            return request()
        except LockError:
            raise
        except Exception as error:
            name = type(error).__name__  # its words may hold a secret
            where = "".join(traceback.format_tb(error.__traceback__))
        if where not in self._faults_logged:  # an idle door would log it all day
            self._faults_logged.add(where)
            log.error("a fault in the program, please report it: %s\n%s", name, where)
        raise Unreadable(f"a fault in the program ({name}); the journal shows where")

    def _retried(
        self,
        request: Callable[[], Steps[T]],
        waits_s: Iterable[float],
        by: float,
        lost_by: float,
        *,
        is_command: bool = False,
    ) -> Steps[T]:
        """Make a request, and after each of ``waits_s`` again if that is safe and may
        help: until ``by``, or ``lost_by`` if another lock may be moved instead.
        Raises: LockError."""
        waits = iter(waits_s)
        while True:
            try:
                return (yield from request())
            except LockError as error:
                may_help = error.send_again if is_command else error.ask_again
                # Doors should not retry in step.
                wait_s = next(waits, inf) * (1 + self._jitter() / 4)
                if error.after_s is not None and wait_s < inf:
                    wait_s = error.after_s
                try_at = self._clock.monotonic() + wait_s
                ends_at = by if error.forbids_fallback else min(by, lost_by)
                if not may_help or try_at >= ends_at:
                    raise
                log.warning("%s; trying again in %.1f s", error, wait_s)
            yield Pause(try_at)


################################################################################
# 9. The doorway -- what a door contact says, and what follows from it
################################################################################


DOOR_IS_OPEN = "the door is open: close it first"


class Doorway:
    """Follows the door contact: whether the door is open, and whether somebody was
    granted before it opened.  Times are monotonic.

    Contacts rattle, and a door that falls shut bounces: what the contact says counts
    after a while without a change, from the beginning of that while.
    """

    opens_s, closes_s = 0.1, 1.0
    granted_s = 10.0  # after a grant, and after a strike has shut
    turned_s = 3.0  # after which a lock has reported that a key has turned it
    #: For so long, or until it is locked, the lock's answer is believed: people may go
    #: in and out all day after a key was turned, and a question is a call.
    believed_s = 600.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_open: bool | None = None  # None: not known
        self.since = -inf  # when it opened or closed, or was first seen
        self._was_closed = False  # before
        self._says: bool | None = None  # the contact, and since when
        self._says_since = -inf
        self._granted_until = -inf
        self._unlocked = set[str]()  # the locks that were not locked again
        self._why, self._believed_until = "", -inf  # the lock's answer

    def follow(self, says: bool | None) -> bool:
        """Take what the contact ``says``: True if the door is open, None if it cannot
        tell.  Returns whether ``is_open`` has changed."""
        now = self._clock.monotonic()
        if says is not self._says:
            self._says, self._says_since = says, now
        waits_s = self.opens_s if says else self.closes_s
        if None in (says, self.is_open):
            waits_s = 0.0
        if says is self.is_open or now - self._says_since < waits_s:
            return False
        self._was_closed = self.is_open is False
        self.is_open, self.since = says, self._says_since
        return True

    @property
    def bars_bolt(self) -> bool:
        """Whether a bolt that is driven out now may hit the frame."""
        return bool(self.is_open) or self._says is not self.is_open

    @property
    def words(self) -> str:
        state = "open" if self.is_open else "closed"
        return "" if self.is_open is None else f"the door is {state}"

    def grant(self, seconds: float) -> None:
        """Somebody may open the door for so long, and a little longer."""
        until = self._clock.monotonic() + seconds + self.granted_s
        self._granted_until = max(self._granted_until, until)

    def moved(self, outcome: Outcome, control: LockControl) -> None:
        """Follow how a lock was moved."""
        if outcome.result is Result.LOCKED:
            self._unlocked.discard(outcome.lock)
            self._granted_until = self._believed_until = -inf
        elif outcome.command is Command.UNLOCK and outcome.result in MOVED:
            self.grant(control.hold_s)
            if not control.policy.locks_itself:
                self._unlocked.add(outcome.lock)

    def opening(
        self,
        control: LockControl,
        held_open_s: float,
        is_moving: Callable[[], bool],
        report: Callable[[Change, str], None],
    ) -> Steps[None]:
        """Watch one opening of the door until it is over, and ``report`` alarms and
        their end.  ``is_moving`` says whether somebody is being let in."""
        since, was_reported = self.since, False
        is_granted = self._unlocked or since < self._granted_until or is_moving()
        if self._was_closed and not is_granted:
            why = yield from self._why_forced(control, is_moving)
            was_reported = bool(why)
            if why:
                report(Change.FORCED_OPEN, why)
        yield Pause(since + held_open_s, lambda: self.since != since)
        if self.since == since:
            was_reported = True
            report(Change.HELD_OPEN, f"for {held_open_s:g} s")
        yield Pause(inf, lambda: self.since != since)
        if was_reported and self.is_open is not None:
            report(Change.CLOSED, f"after {self.since - since:.0f} s")

    def _why_forced(
        self, control: LockControl, is_moving: Callable[[], bool]
    ) -> Steps[str]:
        """Why this opening was by force, in words; "" if a key was turned."""
        nobody = "nobody was granted"
        able = (each for each in control.all if not each.policy.locks_itself)
        lock = next(able, None)
        if lock is None:
            return nobody
        if (now := self._clock.monotonic()) < self._believed_until:
            return self._why
        if lock.budget.confirmations_left() == 0:
            return f"{nobody}; the lock was not asked: {lock.budget.shortage()}"
        yield Pause(now + self.turned_s)
        yield Pause(inf, lambda: not is_moving())
        self._believed_until = self._clock.monotonic() + self.believed_s
        try:
            seen = yield from lock.look()
            is_locked = seen.effective_state is not LockState.UNLOCKED
            said = (seen.why or seen.state) if is_locked and not seen.is_moving else ""
        except LockError as error:
            said = str(error)
        self._why = said and f"{nobody}; the lock: {said}"
        return self._why


################################################################################
# 10. Open hours -- when the door stays unlocked
################################################################################


#: How far the time of a log row may be ahead of the clock.
CLOCK_SLACK = timedelta(minutes=1)


def trusts_clock(config: Config, events: Forgiving, clock: Clock) -> bool:
    """Whether dates and hours can be judged now.  A clock that need not be set is
    trusted unless it is behind the latest time in the log: a Pi that was without power
    starts in the past."""
    if clock.is_set() or config.door.require_synced_clock:
        return clock.is_set()
    newest: datetime | None = events.newest_at()
    return newest is None or clock.now() + CLOCK_SLACK >= newest


def last_in_hours(events: Forgiving) -> tuple[str, datetime]:
    """What was last done to the lock in the open hours (see ``hours_at``), and when."""
    last, _, at = (events.recall(NoteKey.OPEN) or "").partition(" ")
    return last, iso_time(at, UTC) or EPOCH


#: How members arrive who come to the door.
COMING = (Medium.CARD, Medium.SECURE_CARD, Medium.QR)


class OpenHours(Source):
    """The hours of [[open]]: whether the door is to stay unlocked now, and the source
    of the requests with which it unlocks itself.  Relocking locks it at their end.

    In a span, the last of these counts (``hours_at``).  A member came: a card, or a
    code of an authority, opened the door and the lock confirmed; guests, exits, the
    chat, programs and the owner's commands do not count.  The door unlocked itself.
    Somebody locked the door, or a lockdown began: it stays locked until a member
    comes, or the next span begins.  It is noted on disk, for a restart; the note is
    void once the door has locked itself.

    A request to unlock is made while all of its time lies in the hours, and it is
    decided again right before the command.  If the lock does not confirm, it is made
    again after each of ``waits_s``; after the last a card must open the door.
    """

    lost = "open-hours"
    look_every_s = 1.0
    clock_s = 120.0  # after a start: a door that stood open waits for a set clock

    def __init__(
        self,
        clock: Clock,
        events: Forgiving,
        barred_by: Callable[[], Reason | None],
        report: Callable[[], None],
    ) -> None:
        """``barred_by`` says why the door must not stay unlocked, whatever the hours;
        ``report`` is called when ``is_on`` changes."""
        self.due, self.worker, self.trouble = -inf, InlineWorker(), ""
        self._clock, self._events = clock, events
        self._barred_by, self._report = barred_by, report
        self.hours: Sequence[Schedule] = ()
        self._last: tuple[str, datetime] | None = None  # None: not read yet
        self._barred: Reason | None = None
        self.in_span = self.is_on = self._is_asked = False
        self._failures, self._retry_at = 0, -inf
        self._clock_by = clock.monotonic() + self.clock_s

    def use(self, config: Config, waits_s: Sequence[float]) -> None:
        """From now on go by ``config``."""
        self.hours, self._waits_s = config.open_hours, waits_s
        self._window_s = config.lock.unlock_window_s

    @property
    def words(self) -> str:
        return f"open hours now: {open_words(self.hours, self._clock.now().date())}"

    def look(self) -> None:
        """Find out what the hours ask for now."""
        was_on, at = self.is_on, self._clock.now()
        self._barred = self._barred_by() if self.hours else None
        self.in_span, is_to_stay, _ = self._state(at)
        if is_to_stay and self._barred is Reason.LOCKED_DOWN:
            self._events.keep(self._note(Command.LOCK, at))
        self.is_on = is_to_stay and not self._barred
        if self.is_on is not was_on:
            self._report()

    def _state(self, at: datetime) -> tuple[bool, bool, bool]:
        if not self.hours:
            return False, False, False
        last, moved = self._last = self._last or last_in_hours(self._events)
        if moved > at + CLOCK_SLACK:  # the clock was wrong then
            last, moved = "", EPOCH
        wall = self._clock.local(moved).replace(tzinfo=None)
        return hours_at(self.hours, at, last, wall)

    def _note(self, last: str, at: datetime) -> Notes:
        self._last = last, at
        return Notes({NoteKey.OPEN: f"{last} {utc_text(at)}" if last else ""})

    @property
    def _stood_open(self) -> bool:
        return self._last is not None and self._last[0] in (Command.UNLOCK, Medium.DOOR)

    def holds(self, after_s: float) -> bool:
        """Whether no lock is to be locked again now.  One that stays unlocked until
        somebody locks it (``after_s`` is 0) is locked at the end of a span."""
        if self._barred is Reason.CLOCK_NOT_SET:
            return self._stood_open and self._clock.monotonic() < self._clock_by
        is_over = after_s or self._barred or self._stood_open
        return self.is_on or (self.in_span and not is_over)

    def refusal(self) -> Reason | None:
        """Why the door must not unlock itself now; None if it is to."""
        self.look()
        no = None if self.is_on else Reason.NOT_PERMITTED_AT_THIS_TIME
        return self._barred or no

    def poll(self, now: float) -> AccessRequest | None:
        self.due, at = now + self.look_every_s, self._clock.now()
        self.look()
        times = at, at + timedelta(seconds=self._window_s)
        if not (self.is_on and all(self._state(each)[2] for each in times)):
            self._failures, self._retry_at, self.trouble = 0, -inf, ""
            return None
        if self._is_asked or now < self._retry_at:
            return None
        self._is_asked, by = True, now + self._window_s
        return AccessRequest(Medium.DOOR, "", at, now, by, Wants.UNLOCK)

    def answer(self, request: AccessRequest, answer: Answer) -> None:
        self._is_asked = False
        if not answer.done:
            wait_s = next(islice(self._waits_s, self._failures, None), inf)
            self._failures += 1
            self._retry_at = self._clock.monotonic() + wait_s
            if wait_s == inf:
                words = "the door could not be unlocked; a member's card opens it"
                self.trouble = f"open hours: {words}"

    def follow(
        self, request: AccessRequest, outcome: Outcome, who: Credential | None
    ) -> Notes:
        """Take note of a move of a lock that stays unlocked; ``who`` asked for it."""
        is_member = who and not who.guest_pass and request.medium in COMING
        is_own = request.medium is Medium.DOOR
        notes, in_span = NO_NOTES, self._state(request.at)[0]
        if request.medium is Medium.RELOCK:
            if self._stood_open and outcome.result is Result.LOCKED:
                notes = self._note("", EPOCH)
        elif in_span and outcome.command is Command.LOCK and outcome.result in MOVED:
            notes = self._note(Command.LOCK, request.at)
        elif in_span and outcome.result is Result.UNLOCKED and (is_own or is_member):
            notes = self._note(Medium.DOOR if is_own else Command.UNLOCK, request.at)
        self.look()
        return notes

    def close(self) -> None:
        """It has nothing that is open."""


################################################################################
# 11. Judging -- whose request it is, and what a decision depends on
################################################################################


CARDS = (Medium.CARD, Medium.SECURE_CARD)  # their identifier is a UID
NAMED = (Medium.COMMAND, Medium.MQTT)  # their identifier is a name


class LocalList:
    """The authority that is asked first, and answers at once: the people of doorpi.toml
    and of the database.  The file overrules the database, a block both; but a card that
    is a secure one anywhere must prove itself."""

    def __init__(
        self,
        cards: Mapping[Uid, Credential],
        people: Forgiving,
        read_pass: Callable[[str], PassCode | None] = lambda text: None,
        senders: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """``read_pass`` verifies the code of a guest pass of this door; ``senders`` of
        MQTT may give these orders."""
        self._cards, self._senders = cards, senders
        self._people = people
        self._read_pass = read_pass

    def look_up(
        self, request: AccessRequest, default: Credential | None = None
    ) -> Credential | None:
        """Whose card it is; ``default`` where the database fails."""
        uid, found = Uid(request.identifier), None
        if request.medium in (*CARDS, Medium.CHAT):
            found = self._cards.get(uid)
            if not ((found and found.proof) or is_random(uid)):
                found = stricter(found, self._people.find(uid, default=default))
            if found and request.medium is Medium.CHAT:  # a lockdown is for all
                found = found._replace(role=Role.HOLDER)
        elif request.medium is Medium.QR and (code := self._read_pass(uid)):
            # Refused, if the list does not have the pass or cannot be read:
            found = guest_of(code, self._people.find_pass(code.id))
        elif request.medium is Medium.MQTT and request.wants in self._senders.get(
            request.identifier, ()
        ):
            found = Credential(Uid(""), request.identifier)
        return self.with_block(request, found)

    def with_block(
        self, request: AccessRequest, found: Credential | None
    ) -> Credential | None:
        """``found``, with the block on what was presented or on its holder."""
        uid = Uid(request.identifier)
        block: Block | None = self._people.block_on(uid, found.holder if found else "")
        if block is None:
            return found
        found = found or Credential(uid=uid, holder=block.holder, source=Origin.DB)
        return found._replace(block=block)


def presence_note(holder: str) -> str:
    """The name of the note about whether ``holder`` is in, with whichever card."""
    name = hashlib.sha256(folded(holder).encode()).hexdigest()
    return NoteKey.PRESENT.of(name[:24])


def presence_text(event: Event) -> str:
    """The note about somebody who came in: JSON, and what `present --json` prints."""
    who = {"holder": event.holder, "uid": event.uid, "point": event.point}
    return json.dumps({"since": utc_text(event.at), **who})


def presence_from(text: str | None) -> dict[str, Any]:
    """What ``presence_text`` wrote; {} for any other text, such as the empty one of
    somebody who has left."""
    with contextlib.suppress(ValueError):
        found = json.loads(text or "")
        if isinstance(found, dict) and iso_time(found.get("since")):
            return {
                key: str(found.get(key)) for key in ("since", "holder", "uid", "point")
            }
    return {}


def circumstances(
    config: Config,
    events: Forgiving,
    clock: Clock,
    uid: str,
    at: datetime,
    who: Credential | None = None,
    reader: ReaderConfig = ReaderConfig(),  # noqa: B008 -- it never changes
) -> Circumstances:
    """What a decision about ``who`` at ``reader`` depends on, apart from a lockdown."""
    passback_s, moved, is_inside = config.door.passback_s, None, False
    if reader.is_exit or not passback_s:
        passback_s = 0.0
    elif not tells_ways(config):
        moved = events.last_moved(uid)
    elif who and reader.direction == "in":
        note = events.recall(presence_note(who.holder))
        moved = iso_time(presence_from(note).get("since"))
        is_inside = moved is not None
    return Circumstances(
        at, clock.local, trusts_clock(config, events, clock),
        schedules=config.schedules, last_moved=moved, is_inside=is_inside,
        passback_s=passback_s, proofs=proofs_of(config.proof), is_exit=reader.is_exit,
        ignores_hours=reader.is_exit and not reader.exit_needs_schedule,
    )  # fmt: skip


################################################################################
# 12. The door -- one request from what was presented to light and event
################################################################################


class Equipment(SimpleNamespace):
    """What the door works with: the locks by the names of their tables, "lock" and
    "fallback", the lights by those of ``lights_of``, and the authorities in the order
    in which they are asked."""

    sources: Sequence[Source]
    locks: Mapping[str, Lock]
    people: Any  # SqlitePeople, see READS and WRITES
    events: Any  # SqliteEvents
    lights: Mapping[str, Indicator]
    contact: Switch = Switch()
    buzzer: Indicator = Indicator()
    authorities: Sequence[Authority] = ()
    #: Gets ready for proofs, without waiting.
    load_library: Callable[[], object] = staticmethod(lambda: None)
    #: Verifies the code of a guest pass of this door.
    read_pass: Callable[[str], PassCode | None] = staticmethod(lambda text: None)
    #: Tells other processes what is wrong: in words, by a Signal or another subject.
    publish: Callable[[Mapping[str, str]], None] = staticmethod(lambda troubles: None)
    #: Makes an order of `issue` or `wipe` (class Order).
    new_order: Callable[[Doorkeeper, AccessRequest, Source], Any]

    def close(self, *, keeps_store: bool = False) -> None:
        """Close everything, whatever fails; locks first, as a strike may be open."""
        parts: list[Any] = [] if keeps_store else [self.events, self.people]
        parts += [*self.sources, *self.authorities, *self.lights.values()]
        with contextlib.ExitStack() as last_comes_first:
            for part in [*parts, self.buzzer, self.contact, *self.locks.values()]:
                last_comes_first.callback(part.close)


class Settings(Protocol):
    """The file with the settings, and the equipment that they ask for."""

    # The settings or their problems, once after each edit and request to reload.
    def changed(self) -> Config | ConfigError | None: ...
    # Equip the door for ``new``; False when nothing differs.
    def apply(self, new: Config, equipment: Equipment) -> bool: ...
    # The settings of the last run, if the file was edited since.
    def before(self) -> Config | None: ...
    def remember(self) -> None: ...  # save those in force; does not fail


#: After these the next authority is asked.
NO_VERDICT = (Reason.AUTHORITY_UNREACHABLE, Reason.NOT_FOUND)

OWN = (Medium.COMMAND, Medium.RELOCK, Medium.DOOR)  # of the owner and of the door
FREE = (*OWN, Medium.BUTTON)  # these need no permission

LOCKED_DOWN_WORDS = "locked down: nobody may enter"
NOT_LOCKED_AGAIN = "the door could not be locked again: please check it"
MOST_UNKNOWN = 4  # unknown cards that are noted for `allow`
ENROLMENT_S = 15.0
TOO_LONG = "the lock was busy with somebody else for too long; nothing was sent"

#: What may be ``lost`` of a source.
LOST = (
    Signal.READER_LOST, Signal.SCANNER_LOST, OpenHours.lost, "inbox", "exit-button",
)  # fmt: skip


class Retention:
    """Removes from the log what is older than ``keep_days``, a few rows at a time.

    A clock may be wrong, and what was removed is lost.  So it keeps a time of its own
    on disk, which follows the clock but runs at most ``fastest`` times as fast as real
    time: if the clock is a year ahead for an hour, that costs some hours of the log.
    """

    first_look_s, look_every_s, step_every_s = 60.0, 3600.0, 2.0
    fastest = 3
    rows = 8  # of each table in one step: a tap may have to wait for it

    def __init__(self, keep_days: int, clock: Clock) -> None:
        self._keep = timedelta(days=keep_days)
        self._clock = clock
        self._next_at = clock.monotonic() + self.first_look_s
        self._reached: datetime | None = None  # its own time
        self._reached_at = self._next_at
        self._noted = ""  # on disk

    def step(self, people: Forgiving, events: Forgiving) -> None:
        """For idle moments; writes to the disk at most once."""
        began_at = self._clock.monotonic()
        if people.needs_tidying:
            people.tidy()
        elif began_at < self._next_at:
            return
        elif not self._clock.is_set():  # it may show any year
            self._next_at = began_at + self.first_look_s
        else:
            now = self._clock.now()
            before = min(now, self._reach(began_at, now, events)) - self._keep
            self._next_at = began_at + self.step_every_s
            if not events.forget(before, now, self.rows):
                self._next_at = began_at + self.look_every_s
                events.tidy()
                people.tidy()

    def _reach(self, began_at: float, now: datetime, events: Forgiving) -> datetime:
        """Its own time.  It starts where the last run ended, or where nothing is too
        old yet."""
        known = self._reached
        if known is None:
            self._noted = events.recall(NoteKey.RETENTION) or ""
            noted, oldest_at = iso_time(self._noted), events.oldest_at() or now
            none_is_old = min(oldest_at, now - self._keep) + self._keep
            known = min(now, max(noted, EPOCH)) if noted else none_is_old
        passed = timedelta(seconds=self.fastest * (began_at - self._reached_at))
        self._reached = max(known, min(now, known + passed))
        self._reached_at = began_at
        text = utc_text(self._reached)
        if self._noted[:10] != text[:10]:  # once a day
            self._noted = text
            events.keep(Notes({NoteKey.RETENTION: text}))
        return self._reached


class Display:
    """The lights, and the status that systemd shows."""

    def __init__(self, keeper: Doorkeeper) -> None:
        self._keeper, self._clock = keeper, keeper.clock
        self.denials = Denials()
        #: What is wrong, in words; those of FAULTS have a light as well.
        self.troubles: dict[Signal | str, str] = {}
        self.enrolling_until = -inf
        self.under_way: dict[Any, Signal] = {}  # the requests without a result
        #: Of each pair of lights: until when it shows a result, and what stands then.
        self._shown: dict[str, tuple[float, Signal | None]] = {}
        self._published: dict[Signal | str, str] | None = None
        self._signs_of_life = Every(15.0)

    @property
    def shown_until(self) -> float:
        """When the last result has been shown."""
        return max((until for until, _ in self._shown.values()), default=-inf)

    def forget(self) -> None:
        """The lights may be others now: show anew what stands."""
        self._shown = {name: (until, None) for name, (until, _) in self._shown.items()}

    def standing(self, name: str) -> Signal:
        """What these lights show after a result: a move under way of somebody at their
        reader or at none, or the most urgent fault."""
        under_way = {
            sign
            for request, sign in self.under_way.items()
            if name in self._lights(request.point)
        }
        urgent = (Signal.WORKING, Signal.ASKING, Signal.ISSUING)
        signs = [sign for sign in urgent if sign in under_way]
        if self._clock.monotonic() < self.enrolling_until:
            signs.append(Signal.ENROLLING)
        signs += [fault for fault in FAULTS if fault in self.troubles]
        return [*signs, Signal.READY][0]

    def _lights(self, point: str | None) -> Mapping[str, Indicator]:
        """Those at the reader called ``point``; all of them for None."""
        lights = self._keeper.equipment.lights
        if point is None:
            return lights
        name = point if point in lights else ""
        return {name: lights[name]} if name in lights else lights

    def show(self, *signals: Signal, point: str | None = None) -> None:
        """Show ``signals``, DENIED until a pause ends, then the standing signal; where
        the reader ``point`` is, or with all lights."""
        now, patterns = self._clock.monotonic(), self._keeper.config.patterns
        ends_at = now + sum(patterns[sign].duration_s for sign in signals)
        denied_s = patterns[Signal.DENIED].duration_s
        more = ceil(max(0.0, self.denials.paused_until - ends_at) / denied_s)
        signals += (Signal.DENIED,) * more
        ends_at += more * denied_s
        for name, lights in self._lights(point).items():
            standing = self.standing(name)
            # One without an end is replaced once something else stands.
            self._shown[name] = now if ends_at == inf else ends_at, standing
            lights.show(*signals, standing)
        alarms = (Signal(each) for each in ALARMS if each in self.troubles)
        sounds = *signals, next(alarms, Signal.READY)
        self._keeper.equipment.buzzer.show(*sounds)

    def update(self) -> None:
        """For idle moments: show what has changed since the last result ended."""
        equipment, now = self._keeper.equipment, self._clock.monotonic()
        whys = dict.fromkeys(each.trouble for each in equipment.lights.values())
        self.note("lights", "; ".join(f"no lights: {why}" for why in whys if why))
        mute = equipment.buzzer.trouble
        self.note("buzzer", mute and f"no sound: {mute}")
        for name in equipment.lights:
            until, standing = self._shown.get(name, (-inf, None))
            if now >= until and standing is not self.standing(name):
                self.show(point=name)

    def note(self, subject: Signal | str, trouble: str) -> None:
        """Log and show ``trouble`` from now on; "" ends it."""
        before = self.troubles.get(subject, "")
        if trouble == before:
            return
        if trouble:
            self.troubles[subject] = trouble
            log.warning("%s", trouble)
        else:
            del self.troubles[subject]
            log.info("resolved: %s", before)
        self.report_status()

    def publish(self) -> None:
        """For idle moments: leave the troubles to other processes, if they changed, and
        a sign of life."""
        is_due = self._signs_of_life.is_due(self._clock.monotonic())
        if is_due or self.troubles != self._published:
            self._published = dict(self.troubles)
            self._keeper.equipment.publish(self._published)

    def report_status(self) -> None:
        keeper, is_ready = self._keeper, self.troubles.keys().isdisjoint(FAULTS)
        words = ["ready" * is_ready, *self.troubles.values(), keeper.doorway.words]
        words += [keeper.hours.words] * keeper.hours.is_on
        keeper.supervisor.status("; ".join(filter(None, words)))


class Relocking:
    """Pending relocks, in memory and on disk, where a verb may change them: they are
    read every ``look_every_s``.  While the disk fails, and if the row was lost, memory
    wins; an empty row means that none is pending.  With ``after_s`` 0 one is added in
    the open hours only, at whose end the door is locked."""

    look_every_s = 1.0

    def __init__(self, keeper: Doorkeeper) -> None:
        self._keeper, self._clock = keeper, keeper.clock
        self._found: str | None = None  # on disk, when it was last read
        self._look_at = -inf
        self.pending: dict[str, Relock] = {}  # by lock
        self.after_s = 0.0

    def look(self) -> None:
        """Follow what others have changed on disk; write what could not be written."""
        events, boot = self._keeper.equipment.events, self._clock.boot()
        now = self._clock.monotonic()
        is_unused = self._look_at > -inf and not self.after_s and not self.pending
        if now < self._look_at or is_unused:
            return
        self._look_at = now + self.look_every_s
        before, mine = self._found, relocks_text(self.pending.values(), boot)
        try:
            self._found = found = events.recall(NoteKey.RELOCK)
            if found is not None and found not in (before, mine):
                self.pending = relocks_from(found, boot, now)
            elif (found or "") != mine:
                events.keep(Notes({NoteKey.RELOCK: mine}))
        except StoreError:
            pass

    def intend(self, command: Command) -> Notes:
        """What must be on disk before ``command`` is sent, in case of a power cut."""
        unsure = Outcome(command, Result.UNSURE, lock=self._keeper.control.mover)
        return self._notes(self._after(unsure))

    def _after(self, outcome: Outcome) -> dict[str, Relock]:
        lock, pending = outcome.lock, dict(self.pending)
        stays_open = not self._keeper.control.named(lock).policy.locks_itself
        may_be_open = outcome.result in (Result.UNLOCKED, Result.UNSURE) and stays_open
        relocks = self.after_s or self._keeper.hours.in_span
        if outcome.result is Result.LOCKED:
            pending.pop(lock, None)
        elif may_be_open and outcome.command is Command.UNLOCK and relocks:
            due = self._clock.monotonic() + self.after_s
            pending[lock] = Relock(lock, round(due, 3))  # as it is on disk
        return pending

    def _notes(self, pending: Mapping[str, Relock]) -> Notes:
        text = relocks_text(pending.values(), self._clock.boot())
        is_used = text or self._found or self.after_s
        return Notes({NoteKey.RELOCK: text}) if is_used else NO_NOTES

    def count_from(self, closed_at: float) -> None:
        """The door was closed: only now the time until a relock begins."""
        due = round(closed_at + self.after_s, 3)
        pending = self.pending.values()
        moved = (each._replace(due=max(due, each.due), failures=0) for each in pending)
        self.pending = {each.lock: each for each in moved}
        self._look_at = -inf

    def settle(
        self, outcome: Outcome, relock: Relock | None = None
    ) -> tuple[Outcome, Notes]:
        """Follow the outcome of a move, or of ``relock``.  Returns it, with the full
        detail of a relock, and what is to be on disk."""
        if relock is None:
            self.pending = self._after(outcome)
            return outcome, self._notes(self.pending)
        control = self._keeper.control.named(relock.lock)
        self._look_at = -inf
        self.look()
        details, notes = [outcome.detail], NO_NOTES
        if control.name != "lock":
            details.insert(0, f"the {control.name} ({control.budget.kind})")
        if self.pending.get(relock.lock) == relock:  # no verb has moved it meanwhile
            del self.pending[relock.lock]
            if outcome.result is not Result.LOCKED:
                # While the cloud must be left alone, a retry could only fail.
                due = self._clock.monotonic() + control.budget.backoff_s(NoteKey.QUOTA)
                waits_s = control.policy.relock_waits_s
                due += next(islice(waits_s, relock.failures, None), inf)
                again = relock._replace(due=round(due, 3), failures=relock.failures + 1)
                self.pending[relock.lock] = again
                details += ["given up"] * (due == inf)
            notes = self._notes(self.pending)
        return outcome._replace(detail="; ".join(filter(None, details))), notes


class Doorkeeper:
    """What all requests share: the list, the locks and the queue for them, the lights
    and the log.  One passage after the other moves the lock."""

    def __init__(
        self,
        config: Config,
        equipment: Equipment,
        supervisor: Supervisor,
        clock: Clock,
        *,
        worker: Callable[[str], Worker] = lambda name: InlineWorker(),
        jitter: Callable[[], float] = random.random,
        report: Callable[[str, bool], None] | None = None,
    ) -> None:
        self.equipment, self.supervisor, self.clock = equipment, supervisor, clock
        self._jitter = jitter
        self._worker = functools.cache(worker)  # one a lock, also after a reload
        self.queue: list[Passage] = []  # the first one moves the lock
        self.unknown: dict[Uid, float] = {}  # the last unknown cards: when, monotonic
        self.display, self.relocking = Display(self), Relocking(self)
        self.doorway, self.openings = Doorway(clock), Runner(clock)
        self.order: Any = None  # the latest of `issue` or `wipe`, while it is good
        self.people = Forgiving(equipment.people, report or self._report_storage)
        self.events = Forgiving(equipment.events, report or self._report_storage)
        report_status = self.display.report_status
        self.hours = OpenHours(clock, self.events, self._bars_hours, report_status)
        self.use(config)

    def use(self, config: Config) -> None:
        """From now on go by ``config``."""
        self.config = config
        senders = getattr(config.online.get("mqtt"), "may", {})
        read_pass = self.equipment.read_pass
        self.list = LocalList(config.cards, self.people, read_pass, senders)
        self.display.forget()
        control: LockControl | None = None
        for name, access in reversed(locks_of(config).items()):
            control = LockControl(
                self.equipment.locks[name], access, self.events, self.clock,
                jitter=self._jitter, worker=self._worker(name), name=name,
                fallback=control,
            )  # fmt: skip
        assert control is not None
        self.control, self.relocking.after_s = control, config.lock.relock_after_s
        self.hours.use(config, control.policy.relock_waits_s)
        self._lockdown_looks, self._other_looks = Every(1.0), Every(10.0)
        self._trusts_clock: bool | None = None  # when it was last looked at
        self.wrong_key: str | None = None  # in words; None: not looked at

    def _report_storage(self, why: str, is_write: bool) -> None:
        self.display.note(Signal.STORAGE_BAD, why and f"database: {why}")

    def serve(self, request: AccessRequest, source: Source) -> Steps[None]:
        """A request of ``source``, or a question about the lock; it gets its answer."""
        if request.wants is Wants.STATUS:
            yield Pause(request.good_until, lambda: not self.queue)
            answer = yield from self.status()
        elif request.wants in (Wants.ISSUE, Wants.WIPE):
            self.order = order = self.equipment.new_order(self, request, source)
            answer = yield from order.steps()
        elif self.order and self.order.takes(request, source):
            return
        else:
            answer = answer_of((yield from Passage(self, request, source).steps))
        source.answer(request, answer)

    def status(self) -> Steps[Answer]:
        """The state of the locks, the calls used, pending relocks and a lockdown."""
        lines, is_known, window_s = [], False, self.config.lock.unlock_window_s
        for control in self.control.all:
            is_main = control is self.control
            title = "" if is_main else f"fallback ({control.budget.kind}): "
            try:
                status = yield from control.status(self.clock.monotonic() + window_s)
                is_known |= is_main and status.state is not LockState.UNKNOWN
                words = status_words(status, self.clock.now().timestamp())
            except LockError as error:
                words = f"not known: {error}"
            lines.append(title + words)
        if (notes := self.control.new_notes()) != NO_NOTES:
            self.events.keep(notes)
        for budget in [control.budget for control in self.control.all]:
            if budget.allowed:
                warning = "warning: " if budget.shortage() else ""
                lines.append(warning + calls_in_words(budget.used, budget.allowed))
        self.watch()
        now, text = self.clock.monotonic(), self.events.recall(NoteKey.RELOCK)
        self.hours.look()
        lines += [self.hours.words] * self.hours.is_on
        is_held = self.hours.holds(self.relocking.after_s)
        for relock in relocks_from(text, self.clock.boot(), now).values():
            title = "" if relock.lock == "lock" else f"{relock.lock}: "
            when = f"in {max(0.0, relock.due - now):.0f} s"
            when = "once the door is closed" if self.doorway.is_open else when
            due = f"to be locked again {when}"
            due = "to be locked when the open hours end" if is_held else due
            stuck = f"warning: {NOT_LOCKED_AGAIN}"
            lines.append(title + (stuck if relock.due == inf else due))
        if self.people.locked_down():
            lines.append(LOCKED_DOWN_WORDS)
        troubles = map(self.display.troubles.get, ("contact", "exit-button"))
        about_door = filter(None, (self.doorway.words, *troubles))
        return Answer(is_known, [*lines, *about_door])

    def watch(self) -> None:
        """Follow the door contact."""
        contact, doorway, display = self.equipment.contact, self.doorway, self.display
        is_closed = contact.is_closed()
        trouble = contact.trouble and f"no door contact: {contact.trouble}"
        display.note("contact", trouble)
        was_open = doorway.is_open
        if doorway.follow(None if is_closed is None else not is_closed):
            if doorway.is_open:
                held_open_s, report = self.config.doorway.held_open_s, self._report_door
                watched = self.control, held_open_s, lambda: bool(self.queue), report
                self.openings.start(doorway.opening(*watched))
            else:
                for alarm in ALARMS:
                    display.troubles.pop(alarm, None)
                if was_open and not (self.queue and self.queue[0].relock):
                    self.relocking.count_from(doorway.since)
            display.report_status()
        self.openings.advance()

    def _report_door(self, change: Change, words: str) -> None:
        """Log an alarm or its end, and show it while it lasts.  Those of a contact that
        rattles are counted like repeated denials."""
        display = self.display
        event = Event(self.clock.now(), None, "", change, source="door", note=words)
        if change is not Change.CLOSED and self.doorway.is_open:
            display.troubles[change] = describe(event)
            display.report_status()
        self.log_or_count(event, self.clock.monotonic(), is_alarm=change in ALARMS)

    def log_or_count(
        self, event: Event, now: float, *, is_alarm: bool, notes: Notes = NO_NOTES
    ) -> None:
        """Log an event that has ended at once, or count it with others like it."""
        denials, notes = self.display.denials, self.control.new_notes(notes)
        if denials.is_only_counted(event, now):
            self.events.keep(notes)
            return
        log.log(logging.WARNING if is_alarm else logging.INFO, "%s", describe(event))
        begun = self.events.begin(event, notes)
        denials.stored(event._replace(id=begun), now)

    def _bars_hours(self) -> Reason | None:
        """Why the door must not stay unlocked, whatever the hours."""
        if self.is_locked_down():
            return Reason.LOCKED_DOWN
        is_trusted = trusts_clock(self.config, self.events, self.clock)
        return None if is_trusted else Reason.CLOCK_NOT_SET

    def cancel_relock(self) -> bool:
        """End a relock that is under way: a person goes first.  True if its command was
        sent, in which case the lock may still report that it is unlocked."""
        if not self.queue or self.queue[0].relock is None:
            return False
        relock = self.queue[0]  # which leaves the queue
        relock.steps.close()
        return relock.event.command is not None

    def is_locked_down(self) -> bool:
        """If the list cannot be read, the last known answer holds."""
        found: bool | None = self.people.locked_down()
        if found is None:
            return Signal.LOCKED_DOWN in self.display.troubles
        self.display.note(Signal.LOCKED_DOWN, LOCKED_DOWN_WORDS * found)
        return found

    def check_conditions(self) -> None:
        """For idle moments: note a lockdown, an unset clock, API calls that run out."""
        now, was_trusted = self.clock.monotonic(), self._trusts_clock
        if self._lockdown_looks.is_due(now):
            self.is_locked_down()
        if not self._other_looks.is_due(now):
            return
        self.check_key()
        shortages = (control.budget.shortage() for control in self.control.all)
        self.display.note("calls", "; ".join(filter(None, shortages)))
        self._trusts_clock = trusts_clock(self.config, self.events, self.clock)
        if self._trusts_clock is was_trusted:
            return
        dated = any(card.needs_clock for card in self.config.cards.values())
        dated = dated or bool(self.hours.hours)
        is_bad = not self._trusts_clock and (dated or self.people.has_dated_cards())
        trouble = "the clock is not set: cards with dates or hours are refused"
        trouble += ", and the door keeps no open hours" * bool(self.hours.hours)
        self.display.note("clock", trouble * is_bad)

    def check_key(self) -> None:
        """Once there are secure cards, check that this is their key, and get ready for
        the first of them."""
        key, cards = self.config.proof.door_key, self.config.cards.values()
        if self.wrong_key is not None or not key.text:
            return
        if not (any(card.proof for card in cards) or self.people.has_secure_cards()):
            return
        self.equipment.load_library()
        mine, theirs = fingerprint(key), self.people.fingerprint_of("door_key")
        if theirs == "":
            self.people.keep_fingerprint("door_key", mine)
        if theirs is not None:  # else the database fails
            words = f"proof.door_key: {key.file} holds another key ({mine})"
            words += f" than the one of the cards ({theirs}): no secure card is asked"
            self.wrong_key = words * (theirs not in ("", mine))
            self.display.note("door-key", self.wrong_key)

    def log_repeats(self, now: float = inf) -> None:
        """Log how often each denial was repeated, once that has ended by ``now``."""
        for each in self.display.denials.over(now):
            event = each.event._replace(detail=each.words)
            log.info("%s", describe(event))
            if event.id:
                self.events.finish(event)


class Passage:
    """One request on its way, from what was presented to the light and the event."""

    def __init__(
        self, keeper: Doorkeeper, request: AccessRequest, source: Source | None = None
    ) -> None:
        self._keeper, self.request, self._source = keeper, request, source
        is_relock, pending = request.medium is Medium.RELOCK, keeper.relocking.pending
        self.relock = pending[request.identifier] if is_relock else None
        self._credential: Credential | None = None
        self._listed: Credential | None = None  # the same, unless an authority knew it
        self._reader = source.settings if source else ReaderConfig()
        #: The reader whose lights answer; None: all lights do.
        self.point = request.point if request.medium in CARDS else None
        self._decided_by: Circumstances | None = None  # None: needs no permission
        self._is_withdrawn = self._has_ended = False
        self._used_pass = ""  # the id of a pass for one visit
        self.event = Event(
            request.at,
            Uid(request.identifier) if request.medium in CARDS else None,
            request.identifier if request.medium in NAMED else "",
            Reason.GRANTED,
            source=request.medium.value, point=request.point,
            request=request.id.partition(" ")[0],
            note="open hours" * (request.medium is Medium.DOOR),
        )  # fmt: skip
        self.steps = self._run()

    def _run(self) -> Steps[Event]:
        """Judge the request, and move the lock if it is granted; returns its event."""
        keeper, request = self._keeper, self.request
        if keeper.clock.monotonic() >= request.good_until:
            self.event = self.event._replace(reason=Reason.STALE)
            self._deny()
            return self.event
        if request.medium not in FREE:
            verdict = yield from self._judge()
            self.event = self.event._replace(**verdict._asdict())
            if verdict.granted:
                keeper.display.denials.forgive()
            who, is_enrolling = self._credential, self._is_enrolling
            is_master = bool(verdict.granted and who and who.role is Role.MASTER)
            may_move = self._reader.is_exit or not is_enrolling
            if not verdict.granted or is_master or not may_move:
                keeper.display.under_way.pop(self, None)  # it was proven, or not
                with ProcessSignals.postponed():  # what is shown is logged
                    if is_master or is_enrolling:
                        self._enrol(is_master, is_enrolling)
                    else:
                        self._deny()
                return self.event
        yield from self._move()
        return self.event

    @property
    def _is_enrolling(self) -> bool:
        """Whether the card was presented while a new card may be enrolled."""
        return self.request.arrived < self._keeper.display.enrolling_until

    def _deny(self) -> None:
        """Show and log a denial; in the pause after many of them it is only counted."""
        keeper, event, now = self._keeper, self.event, self.request.arrived
        denials, notes = keeper.display.denials, NO_NOTES
        if now < denials.paused_until:
            denials.is_only_counted(event, now, is_pause=True)
            if self._source:
                self._source.rest(now + Denials.slow_s)
            return
        pause_begins = denials.pause_begins(now)
        is_a_no = event.reason is not Reason.AUTHORITY_UNREACHABLE
        where = None if pause_begins else self.point
        keeper.display.show(Signal.DENIED if is_a_no else Signal.FAULT, point=where)
        is_blocked = self._credential and self._credential.block
        if event.uid and (is_blocked or not event.holder):
            keeper.unknown.pop(event.uid, None)  # so that it comes last
            latest = [*keeper.unknown.items(), (event.uid, now)][-MOST_UNKNOWN:]
            keeper.unknown = dict(latest)
            text = unknown_text(keeper.unknown, keeper.clock.boot())
            notes = Notes({NoteKey.UNKNOWN: text})
        is_alarm = event.reason is Reason.WRONG_PROOF
        keeper.log_or_count(event, now, is_alarm=is_alarm, notes=notes)
        if pause_begins:
            words = "%d denials in a minute: further ones are not answered for %d s"
            log.warning(words, Denials.limit, Denials.pause_s)

    def _judge(self) -> Steps[Verdict]:
        """Who it is, by the list or else by an authority; whether they may enter; and
        only then whether they can prove it, for a proof takes time."""
        keeper, request = self._keeper, self.request
        self._credential = self._listed = keeper.list.look_up(request)
        guest_pass = self._credential and self._credential.guest_pass
        detail = f"pass {guest_pass.code.id}" if guest_pass else ""
        found = Found(self._credential, detail=detail)
        if self._credential is None:
            found = yield from self._ask_authorities()
            self._credential = found.who and keeper.list.with_block(request, found.who)
        self.event = self.event._replace(note=found.detail)
        self._decided_by = self._circumstances()
        verdict = decide(self.event.uid or Uid(""), self._credential, self._decided_by)
        if found.reason and verdict.reason is Reason.NOT_FOUND:
            verdict = verdict._replace(reason=found.reason)
        verdict, no = (yield from self._ask_again(verdict, self._decided_by)), None
        if verdict.granted and self._credential and self._credential.proof:
            no = yield from self._prove(self._credential)
        return verdict._replace(reason=no) if no else verdict

    def _ask_again(self, verdict: Verdict, by: Circumstances) -> Steps[Verdict]:
        """Have the membership system bring the list up to date about this person, and
        check them in, where it does that before the door opens; then decide again."""
        keeper, request = self._keeper, self.request
        if verdict.granted and self._reader.is_exit:
            return verdict  # nobody is checked in on the way out
        for each in keeper.equipment.authorities:
            question = each.question(request, self._credential, verdict.reason)
            if question is None or self._is_enrolling:
                continue
            no = (yield from self._ask(each, question)).reason
            who = keeper.list.look_up(request, self._credential)
            if who is None:
                break
            self._credential = self._listed = who
            self.event = self.event._replace(note=f"asked {each.name}")
            again = decide(self.event.uid or Uid(""), who, by)
            if again.granted and not verdict.granted:
                return (yield from self._ask_again(again, by))
            return again._replace(reason=no) if no and again.granted else again
        return verdict

    def _prove(self, who: Credential) -> Steps[Reason | None]:
        """Have the card prove that it is no copy, under the working light."""
        display, clock = self._keeper.display, self._keeper.clock
        no: Reason | None = Reason.PROOF_UNAVAILABLE
        display.under_way[self] = Signal.WORKING
        display.show(Signal.WORKING, point=self.point)
        began_at = clock.monotonic()
        if self._source:
            prove = functools.partial(self._source.prove, who)
            no = yield from call(self._source.worker, prove)
        if no is None:
            took = f"proven in {(clock.monotonic() - began_at) * 1000:.0f} ms"
            source = Medium.SECURE_CARD.value
            self.event = self.event._replace(source=source, note=took)
        return no

    def _circumstances(self) -> Circumstances:
        keeper, request = self._keeper, self.request
        by = circumstances(
            keeper.config, keeper.events, keeper.clock,
            request.identifier, request.at, self._credential, self._reader,
        )  # fmt: skip
        if keeper.wrong_key:
            by = by._replace(proofs=set(by.proofs) - set(PROOFS))
        return by._replace(locked_down=keeper.is_locked_down())

    def _ask_authorities(self) -> Steps[Found]:
        """What the first authority says that knows the person; where none does, why one
        of them could not be asked, or the last one's no."""
        keeper, request, found = self._keeper, self.request, Found()
        is_phone = request.medium in CARDS and is_random(Uid(request.identifier))
        able = [each for each in keeper.equipment.authorities if each.takes(request)]
        if request.medium is Medium.QR and not able:
            return Found(reason=Reason.UNREADABLE_CODE)
        for authority in able if not (is_phone or self._is_enrolling) else ():
            schedule, by = authority.schedule or None, self._circumstances()
            uid = self.event.uid or Uid("")  # it may be refused without a proof
            unknown = Credential(uid=uid, holder="", schedule=schedule)
            answer = Found(reason=decide(Uid(""), unknown, by).reason)
            if answer.reason is Reason.GRANTED:
                answer = yield from self._ask(authority, request)
                if answer.who or answer.reason not in (None, *NO_VERDICT):
                    return answer
            if answer.reason and found.reason is not Reason.AUTHORITY_UNREACHABLE:
                found = answer
        return found

    def _ask(self, authority: Authority, request: AccessRequest) -> Steps[Found]:
        """Its answer; AUTHORITY_UNREACHABLE if that did not come in time."""
        display, clock = self._keeper.display, self._keeper.clock
        by = self.request.arrived + self._keeper.config.lock.unlock_window_s
        answer_by = clock.monotonic() + authority.answer_s
        ends_at = min(answer_by, request.good_until, by)

        def ask() -> Found:
            words = "it was busy"
            try:
                if clock.monotonic() < ends_at:  # the worker may have been busy
                    return authority.look_up(request)
            except Exception as error:  # the door works without it
                words = f"a fault, please report it: {type(error).__name__}"
                log.error("%s: %s", authority.name, words)
            return Found(reason=Reason.AUTHORITY_UNREACHABLE, detail=words)

        display.under_way[self] = Signal.ASKING
        display.show(Signal.ASKING, point=self.point)
        answer = authority.worker.submit(ask)
        try:
            yield Pause(ends_at, lambda: answer.done)
        finally:
            del display.under_way[self]
        late = Found(reason=Reason.AUTHORITY_UNREACHABLE, detail="no answer in time")
        found = answer.result() if answer.done else late
        if found.reason is Reason.AUTHORITY_UNREACHABLE:
            return found._replace(detail=f"{authority.name}: {found.detail}")
        return found

    def _enrol(self, is_master: bool, is_open: bool) -> None:
        """A master card opens the enrolment window, or closes it.  The first unknown
        card in it goes on the list; any other is denied."""
        keeper, event, uid = self._keeper, self.event, self.event.uid
        signals, changes = [Signal.DENIED], dict[str, Any]()
        is_unknown = self._credential is None and uid and not is_random(uid)
        if is_master:
            until = -inf if is_open else self.request.arrived + ENROLMENT_S
            keeper.display.enrolling_until, signals = until, []
            word = "closed" if is_open else f"open for {ENROLMENT_S:g} s"
            changes = {"detail": f"enrolment {word}"}
        elif uid and is_unknown and keeper.config.proof.uid_only == "accept":
            keeper.display.enrolling_until = -inf
            name = f"Card of {event.at:%Y-%m-%d %H:%M:%S}"
            card = Credential(uid=uid, holder=name, source=Origin.DB)
            # The database may know it, and have failed a moment ago.
            is_known = keeper.people.find(uid, default=card) is not None
            if is_known or keeper.people.add_card(card, event.at, default=card):
                signals, changes = [Signal.FAULT], {"detail": "could not be enrolled"}
            else:
                signals, changes = [Signal.ENROLLED], {"detail": "enrolled"}
                changes |= {"holder": name, "reason": Reason.GRANTED}
        elif event.reason is Reason.GRANTED:
            detail = "nobody may enter while a card is enrolled"
            changes = {"detail": detail, "reason": Reason.NOT_PERMITTED_AT_THIS_TIME}
        keeper.display.show(*signals, point=None if is_master else self.point)
        self.event = event._replace(**changes)
        log.info("%s", describe(self.event))
        keeper.events.record(self.event)

    def _move(self) -> Steps[None]:
        """Move the lock when it is this passage's turn, and show the outcome."""
        keeper, request, control = self._keeper, self.request, self._keeper.control
        keeper.relocking.look()  # before its row is overwritten
        keeper.hours.look()
        if self.relock:
            control = control.named(self.relock.lock)
        elif self not in keeper.display.under_way:
            keeper.display.under_way[self] = Signal.WORKING
            keeper.display.show(Signal.WORKING, point=self.point)
        if request.wants is not Wants.LOCK:
            keeper.doorway.grant(0.0)
        is_being_locked, ahead = keeper.cancel_relock(), [*keeper.queue]
        send_by = request.arrived + keeper.config.lock.unlock_window_s
        strike = control.fallback and control.fallback.policy.locks_itself
        stays_open = strike and request.medium is Medium.DOOR  # as no strike does
        move = Move(
            functools.partial(self._choose, ahead, is_being_locked),
            min(request.good_until, send_by), self._intend, self._check,
            may_fall_back=request.wants is not Wants.LOCK and not stays_open,
            sparing=request.medium not in OWN,
        )  # fmt: skip
        keeper.queue.append(self)
        try:
            yield Pause(move.send_by, lambda: keeper.queue[0] is self)
            outcome = Outcome(None, Result.REFUSED, TOO_LONG)
            if keeper.queue[0] is self:
                outcome = yield from control.move(move)
            with ProcessSignals.postponed():
                self._end(outcome)
        except (Stopped, GeneratorExit) as end:
            if not self._has_ended:
                is_stopped = isinstance(end, Stopped)
                why = "the door was stopped" if is_stopped else "a card was presented"
                with ProcessSignals.postponed():
                    self._settle(Outcome(None, Result.INTERRUPTED, why), NO_NOTES)
            raise
        finally:
            keeper.queue.remove(self)
            keeper.display.under_way.pop(self, None)

    def _choose(
        self, ahead: Sequence[Passage], is_being_locked: bool, state: LockState
    ) -> Command | None:
        """The command for a lock in ``state``; None: none.  A lock that is being locked
        again counts as locked, and a person who taps while another is let in wants to
        enter as well: only a tap on its own may lock."""
        if self.request.medium is Medium.DOOR and state is LockState.UNKNOWN:
            return None
        if self.request.wants is not Wants.TAP:
            return Command(self.request.wants)
        door, reader = self._keeper.config.door, self._reader
        comes_along = any(each.event.command is Command.UNLOCK for each in ahead)
        if state is LockState.UNKNOWN and not reader.is_exit:
            wanted = ("unlock",) if comes_along else ("unlock", "lock")
            return Command(door.on_unknown) if door.on_unknown in wanted else None
        is_open = not is_being_locked and state is LockState.UNLOCKED
        on_tap = reader.on_tap or door.on_tap
        if is_open and on_tap == "toggle" and not comes_along:
            return Command.LOCK
        return Command.UNLOCK

    def _check(self, command: Command) -> None:
        """Decide again right before sending.  Raises: AccessWithdrawn."""
        keeper = self._keeper
        control = keeper.control.named(self.relock.lock if self.relock else "lock")
        is_bolt = command is Command.LOCK and not control.policy.locks_itself
        if is_bolt and keeper.doorway.bars_bolt:
            self.event = self.event._replace(command=command)
            raise AccessWithdrawn(DOOR_IS_OPEN)
        if self.request.medium is Medium.DOOR:
            no = self._keeper.hours.refusal()
            self._withdraw_unless(Verdict(no or Reason.GRANTED))
        if self._decided_by is None:
            return
        found = keeper.list.look_up(self.request, self._listed)
        if self._listed is None:
            found = found or keeper.list.with_block(self.request, self._credential)
        if found and self._used_pass:
            found = found._replace(guest_pass=None)
        by = self._decided_by._replace(locked_down=keeper.is_locked_down())
        self._withdraw_unless(decide(self.event.uid or Uid(""), found, by))
        both = filter(None, (self._credential, found))
        keys = {(each.proof, each.generation) for each in both}
        if found and found.proof and len(keys) > 1:  # an edit asks for it
            self._withdraw_unless(Verdict(Reason.NO_PROOF, found.holder))

    def _withdraw_unless(self, verdict: Verdict) -> None:
        """Raises: AccessWithdrawn where ``verdict`` is a denial."""
        if not verdict.granted:
            self._is_withdrawn = True
            if self.event.command is None:  # an intent that is on disk stays as it is
                self.event = self.event._replace(**verdict._asdict())
            raise AccessWithdrawn(verdict.reason)

    def _intend(self, command: Command) -> None:
        """Put the command on disk.  Raises: AccessWithdrawn if a pass for one visit was
        used before, or cannot be noted as used."""
        events, relocking = self._keeper.events, self._keeper.relocking
        guest_pass = self._credential and self._credential.guest_pass
        with ProcessSignals.postponed():
            if guest_pass and guest_pass.code.is_once and not self._used_pass:
                pass_id = guest_pass.code.id
                is_first = self._keeper.people.use_pass(pass_id, self.request.at)
                reason = Reason.GRANTED if is_first else Reason.USED_UP
                self._withdraw_unless(Verdict(reason, self.event.holder))
                self._used_pass = pass_id
            notes = NO_NOTES if self.relock else relocking.intend(command)
            if self.event.id:  # a second lock gets the same
                events.keep(notes)
                return
            self.event = self.event._replace(command=command)
            self.event = self.event._replace(id=events.begin(self.event, notes))

    def _end(self, outcome: Outcome) -> None:
        """Show how it ended, and put it on disk."""
        keeper, control = self._keeper, self._keeper.control.named(outcome.lock)
        keeper.display.under_way.pop(self, None)
        self._has_ended, hours = True, NO_NOTES
        if self._is_withdrawn and self.event.command is None:
            self._deny()
            return
        if not control.policy.locks_itself:
            who = None if self._reader.is_exit else self._credential
            hours = keeper.hours.follow(self.request, outcome, who)
        outcome, notes = keeper.relocking.settle(outcome, self.relock)
        keeper.doorway.moved(outcome, control)
        signs = [RESULT_SIGNALS[outcome.result]]
        if self._is_withdrawn and outcome.result is Result.REFUSED:
            signs = [Signal.DENIED]
        percent = outcome.battery_percent
        is_low = percent is not None and percent < LOW_BATTERY_PERCENT
        if is_low or outcome.battery_is_low:
            signs.append(Signal.LOW_BATTERY)
            words = LOW_BATTERY_WORDS + ("" if percent is None else f": {percent} %")
            log.warning("%s", words)
            details = filter(None, [outcome.detail, words])
            outcome = outcome._replace(detail="; ".join(details))
        keeper.display.show(*signs, point=self.point)
        self._settle(outcome, notes._replace(words={**notes.words, **hours.words}))

    def _settle(self, outcome: Outcome, notes: Notes) -> None:
        """Record how it ended, and who came in or left by that.  The journal gets it
        even if the disk fails."""
        keeper, event, result = self._keeper, self.event, outcome.result
        words, opened = dict(notes.words), (Result.UNLOCKED, Result.UNSURE)
        way = self._reader.direction if tells_ways(keeper.config) else ""
        if way and event.command is Command.UNLOCK and result in opened:
            text = presence_text(event) if way == "in" else ""
            words[presence_note(event.holder)] = text
        if self._used_pass and result not in (*MOVED, Result.INTERRUPTED):
            keeper.people.use_pass(self._used_pass, None)
        waited_s = keeper.clock.monotonic() - self.request.arrived
        self.event = event = event._replace(
            result=result, latency_ms=round(waited_s * 1000), detail=outcome.detail
        )
        log.info("%s", describe(event))
        notes = keeper.control.new_notes(notes._replace(words=words))
        # Without an id nothing was sent, or the disk failed then.
        (keeper.events.finish if event.id else keeper.events.record)(event, notes)


class Door:
    """The loop: polls the sources, advances what is under way, uses idle moments."""

    hangs_after_s = 1.0  # a call that lasts longer may never end
    opening_s = 5.0  # for the readers' libraries as well
    longest_wait_s = 0.2
    quiet_s = 10.0  # after a result, before the disk is used: somebody may tap again

    def __init__(self, keeper: Doorkeeper, settings: Settings) -> None:
        self._keeper, self._settings = keeper, settings
        self._clock, self._supervisor = keeper.clock, keeper.supervisor
        self._display, self._equipment = keeper.display, keeper.equipment
        self._runner = Runner(keeper.clock)
        self._new: Config | ConfigError | None = None  # an edit that is not in use yet
        self._retention = Retention(keeper.config.log.keep_days, keeper.clock)

    def run(self) -> None:
        """Serve until Stopped is raised, then close everything.  Raises: Stopped."""
        keeper = self._keeper
        try:
            self._open_sources()
            self._supervisor.report("ready")
            # Only after READY: it may migrate the database, and a bad update is undone.
            if left_open := keeper.events.close_interrupted():
                events = counted(left_open, "event")
                log.warning("%s cut off by a restart: logged as interrupted", events)
            keeper.events.tidy()
            keeper.check_conditions()
            self._display.report_status()
            log.info("%s is ready", printable(keeper.config.door.name))
            self._poll()
            if before := self._settings.before():
                self._log_edit(before, ())
            self._settings.remember()
            while True:
                self.step()
        except Stopped as stopped:
            self._supervisor.report("stopping")
            self._stop(stopped)
            raise
        finally:
            self._equipment.close()

    def _open_sources(self) -> None:
        """A source that hangs does not keep the others from being opened."""
        sources, ends_at = self._equipment.sources, self._clock.monotonic()
        ends_at += self.opening_s
        for source in sources:
            source.open()
        while not all(source.worker.is_idle for source in sources):
            if self._clock.monotonic() >= ends_at:
                break
            self._clock.sleep(SHORTEST_PAUSE_S)

    def _stop(self, stopped: Stopped) -> None:
        """On SIGTERM the lights go off at once; after Ctrl-C they show it for 1.5 s."""
        log.info("stopping")
        for control in self._keeper.control.all:
            control.worker.close()
            control.lock.close()  # a strike falls shut before anything is shown
        self._runner.stop(stopped)
        self._keeper.log_repeats()
        if stopped.number == signal.SIGINT:
            for lights in self._equipment.lights.values():
                lights.show(Signal.STOPPING)
            self._clock.sleep(1.5)

    @property
    def _sources(self) -> list[Source]:
        return [*self._equipment.sources, self._keeper.hours]

    @property
    def is_idle(self) -> bool:
        """True while nobody waits for an answer but an order, and no lock moves."""
        order = self._keeper.order
        return len(self._runner.pauses) <= bool(order and order.is_waiting)

    def step(self) -> None:
        """Handle what has happened, and wait for what happens next.  What can wait is
        done when a reader's worker has just ended a look, as it would delay that
        thread; with several readers it may delay the others, which look on."""
        readers = [source.worker for source in self._sources]
        locks = [control.worker for control in self._keeper.control.all]
        if max(each.busy_s for each in [*readers, *locks]) < self.hangs_after_s:
            self._supervisor.alive()
        self._poll()
        self._keeper.watch()
        self._runner.advance()
        threads = [each for each in readers if not isinstance(each, InlineWorker)]
        if not threads or any(worker.is_idle for worker in threads):
            self._new = self._settings.changed() or self._new
            holds = any(lock.is_holding for lock in self._equipment.locks.values())
            if (
                self._new and self.is_idle and not holds
            ):  # whoever tapped is at the door
                self._reload(self._new)
            self._lock_again()  # also when somebody shows card after card
            if self.is_idle:
                self._use_idle_moment()
        now = self._clock.monotonic()
        due = min((source.due for source in self._equipment.sources), default=inf)
        pauses = [pause.until for pause in self._runner.pauses.values()]
        due = min(max(due, now + SHORTEST_PAUSE_S), now + self.longest_wait_s, *pauses)
        self._clock.wait(max(0.0, due - now))

    def _poll(self) -> None:
        for source in self._sources:
            now = self._clock.monotonic()
            has_looked = source.due == inf and source.worker.is_idle
            if (has_looked or now >= source.due) and (request := source.poll(now)):
                self._runner.start(self._keeper.serve(request, source))
        for lost in LOST:
            troubles = (each.trouble for each in self._sources if each.lost == lost)
            self._display.note(lost, "; ".join(filter(None, troubles)))

    def _lock_again(self) -> None:
        """Start a relock that is due, and show when a person is needed."""
        relocking = self._keeper.relocking
        if not self._keeper.queue:  # else the disk has what this move intends
            relocking.look()
            now = self._clock.monotonic()
            due = (each for each in relocking.pending.values() if each.due <= now)
            relock = next(due, None)
            is_held = self._keeper.hours.holds(relocking.after_s)
            if relock and not (is_held or self._keeper.doorway.bars_bolt):
                at, wants = self._clock.now(), Wants.LOCK
                request = AccessRequest(Medium.RELOCK, relock.lock, at, now, inf, wants)
                self._runner.start(Passage(self._keeper, request).steps)
        is_stuck = any(relock.due == inf for relock in relocking.pending.values())
        self._display.note(Signal.NOT_LOCKED, NOT_LOCKED_AGAIN * is_stuck)

    def _use_idle_moment(self) -> None:
        keeper = self._keeper
        self._display.note(Signal.LOCK_UNREACHABLE, keeper.control.keep_ready())
        keeper.check_conditions()
        keeper.log_repeats(self._clock.monotonic())
        self._display.update()
        if self._clock.monotonic() > self._display.shown_until + self.quiet_s:
            self._display.publish()
            self._retention.step(keeper.people, keeper.events)

    def _reload(self, new: Config | ConfigError) -> None:
        self._new, keeper = None, self._keeper
        self._supervisor.report("reloading")
        trouble = ""
        if isinstance(new, ConfigError):
            for problem in new.problems:
                log.error("%s", problem)
            trouble = f"doorpi.toml has {counted(len(new.problems), 'problem')};"
            trouble += " the last good settings are in force"
        else:
            before = keeper.config
            if self._settings.apply(new, self._equipment):
                keeper.use(new)
                keeper.check_key()
                self._retention = Retention(new.log.keep_days, self._clock)
                log.info("settings reloaded")
                self._log_edit(before, setting_changes(before, new))
            else:
                log.info("settings read again: nothing changed")
            self._settings.remember()
        self._display.note(Signal.CONFIG_BAD, trouble)
        self._supervisor.report("ready")
        self._display.report_status()

    def _log_edit(self, before: Config, others: Iterable[str]) -> None:
        """Log whose access has changed since ``before``, and ``others``."""
        keeper, now, at = self._keeper, self._keeper.config, self._clock.now()
        find, block_on = keeper.people.find, keeper.people.block_on
        people = access_changes(before, now, find, block_on)
        if people:
            edited = {*before.cards.items()} ^ {*now.cards.items()}
            cards, words = {**before.cards, **now.cards}, "; ".join(people)
            whose = [cards[uid] for uid, _ in edited]
            keeper.events.record(change_event(at, Change.EDIT, "file", words, whose))
        for line in [*people, *others]:
            log.info("changed: %s", line)


################################################################################
# 13. HTTP -- every call ends in time, on a connection that is kept
################################################################################


INSTALLED = Path("/opt/doorpi/current")  # where install.sh puts a version


def bring_libraries() -> str:
    """How to install missing libraries for this copy of the program."""
    here = Path(__file__).resolve().parent
    if here.parent == INSTALLED.parent:
        return f"sudo sh {INSTALLED}/systemd/install.sh"
    if (here / "tests/venv.sh").exists():
        return "sh tests/demo.sh makes .venv: then .venv/bin/python doorpi.py"
    return "install what the first lines of doorpi.py list"


def library_trouble(error: ImportError) -> str:
    """Which library is missing or does not fit, and what to do about it."""
    return printable(f"{error}: {bring_libraries()}", 300)


class HttpError(Exception):
    """A call brought no usable answer; the text is for people."""


class HttpNotSent(HttpError):
    """Nothing was sent: no address, no connection, no TLS or no time."""


class HttpMaybeSent(HttpError):
    """The request was sent, but no complete answer came: it may have had its effect."""


class HttpUnreadable(HttpError):
    """The answer makes no sense, or is too long."""


class BoundedSocket(socket.socket):
    """A TCP socket whose reads and writes end at the request's deadline.

    A timeout alone bounds one read, not an answer that drips byte by byte.  And the
    kernel would retransmit a command for minutes, even if the program is killed, until
    the network is back: TCP_USER_TIMEOUT ends that at the deadline, and SO_LINGER 0
    makes close() a reset.  Source: tcp(7), socket(7).
    """

    clock: Clock
    by = send_by = -inf  # deadlines of the current request, monotonic
    room = 0  # how many more bytes its answer may have
    has_left = False  # a byte of the current request was sent
    idle_since = -inf
    has_served = False
    was_open = False  # or was being opened, before the current request began

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.room <= 0:
            raise OSError("the answer is too long")
        self.settimeout(self._left_s(self.by))
        count = super().recv_into(*args, **kwargs)
        self.room -= count
        return count

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        left_s = self._left_s(min(self.by, self.send_by))
        self.has_left = True
        self.settimeout(left_s)
        left_ms = max(1, int(left_s * 1000))
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, left_ms)
        super().sendall(*args, **kwargs)

    @property
    def idle_s(self) -> float:
        return self.clock.monotonic() - self.idle_since

    def _left_s(self, by: float) -> float:
        left_s = by - self.clock.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def is_alive(self) -> bool:
        """False when the peer closed the idle connection, or sent unrequested data."""
        self.settimeout(0)
        try:
            self.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            # TLS session tickets are read here, which is no data: still alive.
            return type(error).__name__ == "SSLWantReadError"
        return False


class DialAttempt:
    """One attempt to open a connection, on a thread of its own: name, TCP, TLS.

    Once it is ``done`` it has a ``socket`` or an ``error``.  `doctor` reads the rest:
    the ``steps`` so far, which addresses failed, the certificate.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self.done = threading.Event()
        self.socket: BoundedSocket | None = None
        self.error: Exception | None = None
        self.steps = {"trust": time.monotonic()}  # when each began
        self.unanswered: dict[str, OSError] = {}
        self.certificate: Mapping[str, Any] = {}

    @property
    def failure(self) -> str:
        """Why it has brought no connection that can be used."""
        why = "it hung up at once" if self.socket else "no answer yet"
        why = connection_trouble(self.error) if self.error else why
        return f"cannot reach {self._dialer.host}: {why}"

    def run(self) -> None:
        try:
            opened = self._dial()
            with self._dialer.guard:
                if self._dialer.closed:
                    opened.close()
                else:
                    self.socket = opened
        # ValueError: not a valid host name
        except (OSError, ValueError, ImportError) as error:
            self.error = error.with_traceback(None)
        finally:
            self.done.set()

    def _dial(self) -> BoundedSocket:
        dialer = self._dialer
        for name in dialer.modules:  # takes a slow Pi seconds, so not at a tap
            importlib.import_module(name)
        if dialer.is_tls and dialer.context is None:
            dialer.context = _tls_context(dialer.trusted)
        self.steps["name"] = time.monotonic()
        try:
            kind, port = socket.SOCK_STREAM, dialer.port
            dialer.addresses = socket.getaddrinfo(dialer.host, port, type=kind)
        except socket.gaierror:
            if not dialer.addresses:  # else the last known ones are worth a try
                raise
        self.steps["connect"] = time.monotonic()
        connected = self._connect()
        try:
            if dialer.context is not None:
                self.steps["TLS"] = time.monotonic()
                connected.settimeout(dialer.dial_s)
                secured = dialer.context.wrap_socket(
                    connected, server_hostname=dialer.host, session=dialer.tls_session
                )
                assert isinstance(secured, BoundedSocket)
                connected, self.certificate = secured, secured.getpeercert() or {}
        except (OSError, ValueError):
            connected.close()
            dialer.tls_session = None  # the server may not accept it
            raise
        self.steps["done"] = time.monotonic()
        connected.clock = dialer.clock
        connected.idle_since = dialer.clock.monotonic()
        return connected

    def _connect(self) -> BoundedSocket:
        """Connect to the first address that answers.  If there are several, each gets
        ``hasty_s``, as IPv6 may lead nowhere, and in a second round an equal share."""
        dialer, count = self._dialer, len(self._dialer.addresses)
        failure: OSError = OSError("no address")
        rounds_s = [dialer.hasty_s] * (count > 1) + [dialer.dial_s / max(count, 1)]
        for wait_s, found in product(rounds_s, dialer.addresses):
            connected = None
            try:  # without IPv6 in the kernel, already the socket fails
                connected = BoundedSocket(*found[:3])
                connected.settimeout(wait_s)
                connected.connect(found[4])
                return connected
            except OSError as error:
                failure = self.unanswered[found[4][0]] = error.with_traceback(None)
                if connected:
                    connected.close()
        raise failure


def _tls_context(trusted: str) -> ssl.SSLContext:
    """A context that trusts the authorities in ``trusted`` (PEM), or the system's,
    which a Zero takes a second to load."""
    import ssl

    class BoundedTls(BoundedSocket, ssl.SSLSocket):
        """BoundedSocket's recv_into and sendall, then those of TLS."""

    plain = trusted.encode("ascii", "ignore").decode()  # comments need not be ASCII
    context = ssl.create_default_context(cadata=plain or None)
    context.sslsocket_class = BoundedTls
    if trusted:  # Python 3.13 wants extensions that home-made authorities lack, and
        # earlier ones want a whole chain: accept what either accepts
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


#: Why OpenSSL does not trust a certificate (its X509_V_ERR_...).
NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_ISSUER = (2, 7, 18, 19, 20, 21)
OTHER_NAME = (62, 64)
MADE_WRONGLY = (25, 26, 30, 32, 34, 37, 41, 66, 67, 68, *range(76, 95))


def connection_trouble(error: Exception) -> str:
    """Why there is no connection, for the owner."""
    if isinstance(error, ImportError):
        return library_trouble(error)
    if isinstance(error, socket.gaierror):
        return "its name cannot be looked up (no network, or no DNS)"
    if isinstance(error, TimeoutError):
        return "no answer"
    reason = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    if reason and not isinstance(error, UnicodeError):
        by_date = getattr(error, "verify_code", 0) in (NOT_YET_VALID, EXPIRED)
        return f"TLS: {printable(str(reason))}{' (is the clock right?)' * by_date}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return printable(str(error))


class Dialer:
    """Opens connections to one host: name, TCP, TLS, one attempt at a time.

    ``keep_ready`` opens one ahead of a tap and replaces it in time, because an idle
    connection can die without a sign.  Failures are followed by growing pauses.

    The thread that makes the requests calls ``take``, ``give_back``,
    ``wait_for_command`` and ``hang_up``; other threads may call the rest meanwhile.
    """

    dial_s = 6.0  # for TCP, and again for TLS
    hasty_s = 1.0  # for each of several addresses, in the first round
    backoff_s = (1.0, 60.0)
    welcome_s = 10.0  # a server that closes later than this does so for idleness
    stale_s = 60.0  # a connection idle for longer is not trusted
    renew_share = 0.85  # at this share of stale_s a successor is opened
    command_s = 5.0  # stale_s of a command, which cannot be sent again
    modules: tuple[str, ...] = ("http.client",)  # imported by the first attempt
    #: Precedes its lines in the journal; None: its callers log the failures.
    label: str | None = ""

    def __init__(self, base_url: str, trusted: str, clock: Clock) -> None:
        parts = urlsplit(base_url)
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_tls else 80)
        self.trusted, self.clock = trusted, clock
        self.context: ssl.SSLContext | None = None
        self.tls_session: Any = None  # shortens the next handshake
        self.addresses: list[Any] = []
        self.guard = threading.RLock()  # what follows changes under ``_guarded``
        self._attempt: DialAttempt | None = None
        self._ready: BoundedSocket | None = None
        self._in_use: BoundedSocket | None = None
        self.closed = ""  # why nothing is sent any more
        self._closed_after_s = 0.0  # idle time after which the server closed the last
        self._backoff = Backoff(*self.backoff_s, random.random)
        self._retry_at = -inf
        self._unreachable = False
        self._missing_since: float | None = None  # dialling without success so far

    def keep_ready(self) -> None:
        """Have a fresh connection, or begin to open one.  Does not block."""
        with self._guarded():
            self._collect()
            ready, old_s = self._ready, self.renew_share * self.stale_s
            is_free = not (self._attempt or self._in_use or self.closed)
            is_due = is_free and self.clock.monotonic() >= self._retry_at
            if is_due and (ready is None or ready.idle_s >= old_s):
                self.dial()

    def dial(self) -> DialAttempt:
        """Begin to open a connection, unless that is under way.  Raises: HttpNotSent
        after ``close``."""
        with self._guarded():
            if self.closed:
                raise HttpNotSent(self.closed)
            if self._attempt is None:
                if self._missing_since is None:
                    self._missing_since = self.clock.monotonic()
                self._attempt = DialAttempt(self)
                try:
                    start_thread(self._attempt.run, "dial")
                except RuntimeError as error:  # the system has no thread to spare
                    self._attempt.error = error
                    self._attempt.done.set()
            return self._attempt

    def unreachable_for(self, seconds: float) -> str:
        """That no connection could be opened for ``seconds``, in words, or ""."""
        since = self._missing_since
        is_long = since is not None and self.clock.monotonic() - since >= seconds
        return f"no connection to {self.host} for {seconds:g} s" if is_long else ""

    def take(self, by: float, *, for_command: bool = False) -> BoundedSocket:
        """A connection, waited for until ``by``; a question is content with an old one
        if there is no new one after half of the time.  Raises: HttpNotSent."""
        fresh_s = self.command_s if for_command else self.stale_s
        attempt, is_own = None, False
        while True:
            with self._guarded():
                self._collect()
                ready = self._ready
                has_old = ready is not None and not for_command
                if ready and (ready.idle_s < fresh_s or (attempt and has_old)):
                    is_new = attempt is not None and attempt.socket is ready
                    ready.was_open = not (is_new and is_own)
                    self._ready, self._in_use, ready.has_left = None, ready, False
                    self._backoff.succeed()
                    return ready
                if attempt:
                    raise HttpNotSent(self.closed or attempt.failure)
                is_own, attempt = self._attempt is None, self.dial()
            left_s = by - self.clock.monotonic()
            attempt.done.wait(max(0.0, left_s / 2 if has_old else left_s))

    def wait_for_command(self, by: float) -> None:
        """Wait for a connection that a command may use.  Raises: HttpNotSent."""
        self.give_back(self.take(by, for_command=True), is_good=True)

    def give_back(self, connected: BoundedSocket, *, is_good: bool) -> None:
        """Keep a connection for the next request, or end it."""
        with self._guarded():
            self._in_use = None
            if self.closed or not is_good:
                connected.close()
                return
            if connected.has_left:
                connected.has_served = True
                connected.idle_since = self.clock.monotonic()
            self._missing_since = None
            self.hang_up()
            self._ready = connected

    def hang_up(self) -> None:
        """End the idle connection; the next request opens its own."""
        with self._guarded():
            if self._ready:
                self._ready.close()
            self._ready = None

    def close(self) -> None:
        """End everything, including a call or an attempt on another thread."""
        with self._guarded():
            self.closed = f"the connection to {self.host} is closed"
            attempt, self._attempt = self._attempt, None
            if attempt:
                attempt.done.set()  # if it still opens a socket, it closes that
                if attempt.socket:
                    attempt.socket.close()
            if self._in_use:  # its own thread closes it then
                self._in_use.send_by = -inf
                # SHUT_RDWR would end it without a reset, and the TLS socket's own
                # method would go on without TLS.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._in_use, socket.SHUT_RD)
            self.hang_up()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock.  A stop waits, or the lock would never be released."""
        with ProcessSignals.postponed(), self.guard:
            yield

    def _collect(self) -> None:
        """Take over the socket of a finished attempt; drop a connection that died.  If
        the server closes two after the same idle time, later ones are renewed before
        that, until the server was unreachable."""
        if self._attempt is not None and self._attempt.done.is_set():
            self._finish(self._attempt)
        ready = self._ready
        if ready is None:
            return
        is_alive = ready.is_alive()
        session = getattr(ready, "session", None)  # in TLS 1.3 it comes later
        if session is not None and session.has_ticket and not self._unreachable:
            self.tls_session = session
        if is_alive:
            return
        self.hang_up()
        idle_s = ready.idle_s
        is_steady = abs(idle_s - self._closed_after_s) < 0.1 * idle_s
        if is_steady and self.welcome_s <= idle_s < self.stale_s:
            self.stale_s = idle_s
        self._closed_after_s = idle_s
        if idle_s >= self.welcome_s:
            self._backoff.succeed()
        if not ready.has_served:  # don't dial at the pace at which the server closes
            self._retry_at = self.clock.monotonic() + self._backoff.fail()

    def _finish(self, attempt: DialAttempt) -> None:
        self._attempt = None
        was_unreachable, self._unreachable = self._unreachable, attempt.socket is None
        if attempt.socket is not None:
            self.hang_up()
            self._ready, self._missing_since = attempt.socket, None
            if was_unreachable and self.label is not None:
                log.info("%s%s can be reached again", self.label, self.host)
            return
        if not (was_unreachable or self.label is None):
            log.warning("%s%s", self.label, attempt.failure)
        self._retry_at = self.clock.monotonic() + self._backoff.fail()
        self.stale_s = type(self).stale_s


class AnswerFile(io.BufferedReader):
    """The file from which HTTPResponse reads.  It outlives a response, because interim
    answers precede the real one and surplus bytes may follow it."""

    def makefile(self, mode: str) -> Self:
        return self

    def close(self) -> None:
        """The Dialer closes the connection."""

    flush = close  # Python 3.13 reports a flush that fails in the garbage collector


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one with a key twice could be read in two ways."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key comes twice")
    return table


class Reply(NamedTuple):
    """An HTTP API's answer.  ``said`` is the explanation of an error, redacted;
    ``after_s`` its Retry-After in seconds, None without a number there."""

    status: int
    body: bytes
    after_s: float | None = None
    said: str = ""
    etag: str = ""

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        return f"HTTP {self.status} {self.said}".rstrip(" .")

    def json(self, kind: type[T]) -> T:
        """The JSON object (dict) or list in the body, unless only Python would accept
        it or it could be read in two ways.  Raises: HttpUnreadable."""
        trouble = f"an answer that is {'not JSON' if self.body.strip() else 'empty'}"
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(
                self.body,
                object_pairs_hook=_one_of_each,
                parse_constant=int,  # which refuses NaN and Infinity
            )
            if isinstance(value, kind):
                return value
            trouble = f"JSON that is not {'an object' if kind is dict else 'a list'}"
        raise HttpUnreadable(f"HTTP {self.status} with {trouble}")


#: The names under which vendors and gateways explain an error, the most telling first.
SAID_UNDER = (
    *("errormessages", "detailmessage", "message", "error"),
    *("detail", "error_description", "description", "title", "errors"),
)


def _words_in(value: object) -> str:
    """The explanation in an error's JSON: a string, a list, or an object with one of
    those names.  Raises: RecursionError."""
    if isinstance(value, list):
        return "; ".join(filter(None, map(_words_in, value[:5])))
    if isinstance(value, dict):
        table = {str(name).lower(): part for name, part in value.items()}
        found = (_words_in(table.get(name)) for name in SAID_UNDER)
        return next(filter(None, found), "")
    return value if isinstance(value, str) else ""


class WebApi:
    """An HTTP API whose every call ends in time, on a connection that is kept.

    It ignores proxies and .netrc, follows no redirect and keeps no cookie.  One thread
    makes the calls; others may use the ``dialer`` meanwhile, whose ``close`` ends a
    call that is under way.
    """

    max_head = 32 * 1024  # bytes of an answer's head, with all interim answers
    max_body = 64 * 1024
    max_pause_s = 3600.0  # the longest Retry-After that is honoured
    old_s = 1.0  # a connection idle for longer may be dead
    usual_s = 0.75  # what an answer takes, while that is not known
    least_s = 0.5  # the least time for an answer on an old connection

    def __init__(
        self,
        base_url: str,
        trusted: str,
        clock: Clock,
        headers: Mapping[str, str] = MappingProxyType({}),
        secrets: Sequence[str] = (),
    ) -> None:
        """``secrets`` are hidden from logs; the sequence may grow."""
        self.calls = 0  # requests that were sent, as a vendor counts them
        target = base_url.partition("://")[2].partition("/")[2].rstrip("/")
        self._path = quote(f"/{target}" if target else "", safe="/%:@!$&'()*+,;=~?")
        self._secrets = secrets
        self._request_secrets: Sequence[str] = ()
        self._headers = {
            "User-Agent": f"DoorPi/{__version__}",
            "Accept-Encoding": "identity",  # a small body may unpack to a huge one
            **headers,
        }
        self._clock = clock
        self.dialer = Dialer(base_url, trusted, clock)
        self._answers_took_s: deque[float] = deque(maxlen=9)

    def call(
        self,
        method: str,
        path: str,
        *,
        by: float,
        send_by: float = inf,
        body: Mapping[str, object] | bytes | None = None,
        is_form: bool = False,
        headers: Callable[[], Mapping[str, str]] = dict,
        secrets: Sequence[str] = (),
    ) -> Reply:
        """Make one request, answered by ``by`` (monotonic).  With ``send_by`` it is a
        command, which is sent once, by then; without, a question, which is repeated on
        a new connection if the old one is dead.  ``body`` is sent as JSON or as a form,
        bytes as they are.  ``headers`` makes more headers at each try; they and
        ``secrets`` are hidden.  Raises: HttpError."""
        common, content = self._headers, body if isinstance(body, bytes) else None
        if isinstance(body, Mapping):
            content = (urlencode if is_form else json.dumps)(body).encode()
            kind = f"application/{'x-www-form-urlencoded' if is_form else 'json'}"
            common = {"Content-Type": kind, **common}
        is_command, now, may_repeat = send_by < inf, self._clock.monotonic, True
        while True:
            own = headers()
            connected = self.dialer.take(min(by, send_by), for_command=is_command)
            may_repeat = may_repeat and connected.was_open and not is_command
            is_old = may_repeat and connected.idle_s >= self.old_s
            connected.by = min(by, now() + self._patience_s) if is_old else by
            connected.send_by, connected.room = send_by, self.max_head
            self._request_secrets = (*secrets, *own.values())
            request = method, self._path + path, content, {**common, **own}
            try:
                return self._exchange(connected, request)
            except HttpMaybeSent:
                if not may_repeat or now() >= by:
                    raise
            finally:
                self.calls += connected.has_left
            may_repeat = False

    @property
    def _patience_s(self) -> float:
        """How long an answer may take on a connection that may be dead: twice as long
        as usual."""
        took_s = sorted(self._answers_took_s) or [self.usual_s]
        return max(self.least_s, 2 * took_s[len(took_s) // 2])

    def _exchange(
        self,
        connected: BoundedSocket,
        request: tuple[str, str, bytes | None, Mapping[str, str]],
    ) -> Reply:
        """Send method, target, content and headers, and read the answer."""
        from http.client import HTTPConnection, HTTPException

        host, now = self.dialer.host, self._clock.monotonic
        line = HTTPConnection(host, self.dialer.port)
        # The port that the Host header leaves out:
        line.default_port = 443 if self.dialer.is_tls else 80
        line.sock = connected
        began_at, is_kept = now(), False
        try:
            line.request(*request)
            reply, is_kept = self._receive(connected, request[0])
            if connected.send_by == inf:  # a question
                self._answers_took_s.append(now() - began_at)
            return reply
        except (OSError, HTTPException, ValueError) as error:
            failure: HttpError = HttpMaybeSent(f"no complete answer from {host}")
            if not connected.has_left:
                failure = HttpNotSent(f"too late to send to {host}")
            elif isinstance(error, TimeoutError) or now() >= connected.by:
                failure = HttpMaybeSent(f"{host} did not answer in time")
        finally:
            self.dialer.give_back(connected, is_good=is_kept)
        raise failure  # out here, as the first error's text may hold a secret

    def _receive(self, connected: BoundedSocket, method: str) -> tuple[Reply, bool]:
        """The answer, and whether its connection can be kept."""
        from http.client import HTTPException, HTTPResponse

        file, status = AnswerFile(socket.SocketIO(connected, "r")), 0
        while status < 200:  # RFC 9110, 15.2: any number of interim answers
            response = HTTPResponse(file, method=method)  # type: ignore[arg-type]
            response.begin()
            status = response.status
        if "," in ",".join(response.headers.get_all("Content-Length", [])):
            raise HTTPException("two lengths")
        connected.room = self.max_body + self.max_head
        content = response.read(self.max_body + 1)
        if len(content) > self.max_body:
            size = f"{self.max_body // 1024} kB"
            raise HttpUnreadable(f"HTTP {status} with an answer of more than {size}")
        if response.length:
            raise HTTPException("part of the answer is missing")
        is_kept = response.isclosed() and not response.will_close
        connected.room, words = 0, ""  # no room: nothing more is read
        with contextlib.suppress(OSError):
            is_kept = is_kept and not file.peek(1)  # surplus bytes answer no question
        with contextlib.suppress(ValueError, RecursionError):
            words = _words_in(json.loads(content))
        after = response.headers.get("Retry-After", "")
        is_number = re.fullmatch("[0-9]{1,9}", after)
        after_s = min(self.max_pause_s, float(after)) if is_number else None
        etag = printable(response.headers.get("ETag", ""))
        reply = Reply(status, content, after_s, words and self.redact(words), etag)
        return reply, is_kept

    def redact(self, text: str) -> str:
        """Text from the server, fit for a log: printable, without our secrets."""
        return printable(redacted(text, (*self._secrets, *self._request_secrets)))


#: This many characters of a secret in a row give some of it away.
TELLING = 8
#: Maps letters to lower case, and base64url to base64.
ALIKE = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", "abcdefghijklmnopqrstuvwxyz+/")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` with *** for each part of a secret of TELLING or more characters, in
    upper or lower case, plain, percent-encoded, in hexadecimal or base64."""
    text = text[:1000]  # a log shows less
    alike = text.translate(ALIKE)
    for piece in chain.from_iterable(map(_pieces, secrets)):
        at = alike.find(piece)
        while at >= 0:
            text = text[:at] + "\0" * len(piece) + text[at + len(piece) :]
            at = alike.find(piece, at + 1)
    return re.sub("\0+", "***", text)


def _pieces(secret: str) -> Iterator[str]:
    """Each run of TELLING characters in what a server may make of ``secret``, as ALIKE
    maps them.  Base64 depends on where in three bytes the secret begins."""
    data = secret.encode(errors="replace")
    base64s = (base64.b64encode(data[at:]).decode().rstrip("=") for at in range(3))
    encoded = [data.hex(), quote(secret, safe=""), *base64s]
    for text in [secret, *(each for each in encoded if len(each) >= TELLING)]:
        alike = text.translate(ALIKE)
        for start in range(max(1, len(alike) - TELLING + 1)):
            if alike:
                yield alike[start : start + TELLING]


################################################################################
# 14. Locks -- one class for each vendor, which only speaks its protocol
################################################################################


def _only(kind: type[T], value: object) -> T | None:
    return value if isinstance(value, kind) else None


def _field(table: Any, name: str, *kinds: type) -> Any:
    """The value of ``name`` in an answer's ``table``.  Raises: Unreadable if that is
    missing, empty or not of ``kinds``."""
    value = table.get(name) if isinstance(table, dict) else None
    if type(value) not in kinds or value == "":
        raise Unreadable(f"an answer without a readable `{name}`")
    return value


def _progress(
    status: LockStatus, command: Command, *, proves: bool = True, refutes: bool = False
) -> Progress:
    """What ``status`` says about ``command``.  The target counts as success only if
    ``proves``, the other state as a failure only if ``refutes``.  Raises: Unreadable
    with the reason why nothing is known."""
    if status.state is command.target and proves:
        return Progress.DONE
    if refutes and status.state not in (command.target, LockState.UNKNOWN):
        return Progress.NO_EFFECT
    if status.why:
        raise Unreadable(status.why)
    return Progress.PENDING


def _secrets_in(access: LockAccess) -> list[str]:
    return [each.text for _, each in access.items() if isinstance(each, Secret)]


class Refusal(NamedTuple):
    """What an API's error means if its ``words``, such as "HTTP 429 Too Many Requests",
    match ``pattern``; a group in the pattern captures ``after_s``, the seconds to
    wait."""

    pattern: str
    error: type[LockError]
    more: str = ""  # is added to the words
    after_s: float | None = None


NOT_THERE = ": device_id is wrong, or this version of the API is no longer served"
#: For every vendor.  After a 5xx and a 408 (timeout) a command may have had its effect.
REFUSALS = (
    Refusal("^HTTP 3", RequestRefused, ": a redirect, not followed"),
    Refusal("^HTTP 40[13]", AuthError, ": the key is not accepted"),
    Refusal("^HTTP 4(?:00$|04|10)(?!.*version)", RequestRefused, NOT_THERE),
    Refusal("^HTTP 429.*limit exceeded", QuotaError, ": the plan's calls are used up"),
    Refusal("^HTTP 429", Throttled, "", 10.0),
    Refusal("^HTTP (?:408|5)", MaybeSent),
    Refusal("", RequestRefused),
)


class WebLock(Lock):
    """A lock that is reached over HTTP.  Only here an HttpError becomes a LockError."""

    base_url = ""  # the vendor's; the owner may set another one
    headers: tuple[tuple[str, str], ...] = ()  # of each request; {} is the api_key
    path = ""  # of the lock; {} is its id
    modules: tuple[str, ...] = ()  # imported ahead of a tap
    refusals: tuple[Refusal, ...] = ()  # of this vendor, tried before REFUSALS
    #: The vendor's words for the state of the bolt, or why that is unknown.
    states: Mapping[Any, LockState | str] = MappingProxyType({})
    unreachable_s = 60.0  # this long without a connection is a fault

    def __init__(self, access: LockAccess, clock: Clock, keep: DriverStateFile) -> None:
        self._access, self._clock, self._keep = access, clock, keep
        self._path = self.path.format(quote(access.device_id, safe=""))
        self._secrets = _secrets_in(access)
        self.apis: list[WebApi] = []
        url, key = access.base_url or self.base_url, access.api_key.text
        headers = {name: text.format(key) for name, text in self.headers}
        self._api = self._reach(url, headers=headers)
        self._api.dialer.modules += self.modules

    def _reach(self, base_url: str, **more: Any) -> WebApi:
        """The API at one of the vendor's hosts; some issue tokens at another one."""
        more |= {"secrets": self._secrets}
        self.apis.append(WebApi(base_url, self._access.trusted, self._clock, **more))
        return self.apis[-1]

    @property
    def calls(self) -> int:
        return sum(api.calls for api in self.apis)

    def prepare(self, by: float) -> None:
        with self._as_lock_errors():
            self._api.dialer.wait_for_command(by)

    def keep_ready(self) -> None:
        self._api.dialer.keep_ready()

    def trouble(self) -> str:
        return self._api.dialer.unreachable_for(self.unreachable_s)

    def close(self) -> None:
        for api in self.apis:
            api.dialer.close()

    def _ask(
        self,
        method: str,
        path: str,
        by: float,
        send_by: float = inf,
        *,
        takes: Sequence[int] = (),
        **more: Any,
    ) -> Reply:
        """Make one request, a command if it has a ``send_by``; ``more`` as in
        WebApi.call.  Raises: LockError, for a status other than 2xx and ``takes``."""
        with self._as_lock_errors():
            reply = self._api.call(method, path, by=by, send_by=send_by, **more)
        if reply.is_accepted or reply.status in takes:
            return reply
        raise self._refusal(reply.words, reply.after_s)

    def _refusal(self, words: str, asked_s: float | None = None) -> LockError:
        """The error of the first row that fits ``words``; ``asked_s`` is what the cloud
        asks a Throttled caller to wait."""
        for row in (*self.refusals, *REFUSALS):
            if match := re.search(row.pattern, words, re.IGNORECASE):
                break
        after_s = float(match[1]) if match and match.lastindex else row.after_s
        if row.error is Throttled and asked_s is not None:
            after_s = asked_s
        return row.error(words + row.more, after_s)

    def _json(self, reply: Reply, kind: type[T]) -> T:
        """The JSON object or list in ``reply``.  Raises: Unreadable."""
        with self._as_lock_errors():
            return reply.json(kind)

    @contextlib.contextmanager
    def _as_lock_errors(self) -> Iterator[None]:
        try:
            yield
        except HttpError as error:
            kinds = {HttpNotSent: NotSent, HttpUnreadable: Unreadable}
            raise kinds.get(type(error), MaybeSent)(str(error)) from None

    def _observed(
        self, word: object, why: str = "", battery: Any = None, **more: Any
    ) -> LockStatus:
        """The status with the vendor's ``word`` and ``battery``, of any type; ``why``
        makes the state unknown whatever the word."""
        state = self.states.get(word) or f"the lock says {self._api.redact(repr(word))}"
        if why or not isinstance(state, LockState):
            state, why = LockState.UNKNOWN, why or state
        is_level = type(battery) in (int, float) and 0 <= battery <= 100
        percent = int(battery) if is_level else None
        return LockStatus(state, why, battery_percent=percent, **more)


class SesameMini(WebLock):
    """Sesame and Sesame mini over the first public API, with the WiFi access point.

    The answer to a command is the id of a task, whose end is the lock's own report.  It
    is not compared with the status, where ``locked`` can lag by minutes even with
    ``responsive``.

    Source: docs.candyhouse.co (2019); homebridge-sesame issues 4 and 12 on the lag.
    """

    base_url = "https://api.candyhouse.co/public"
    #: One request a second "will not be restricted".  A lock that had nothing to move
    #: answers at once.  `sync` costs its battery.
    policy = LockPolicy(confirm_at_s=(0.0,), confirm_every_s=1.0, wake_every_s=300.0)
    headers = (("Authorization", "{}"),)
    path = "/sesame/{}"
    states = MappingProxyType({True: LockState.LOCKED, False: LockState.UNLOCKED})
    refusals = (
        Refusal("^HTTP 400 DEVICE_IS_BUSY(?: ([0-9]{1,4}))?$", Busy, "", 2.0),
        Refusal("^HTTP 400 (?:LOW_BATTERY|CLOUD_INTEGRATION)", RemoteBarred),
        Refusal("^HTTP 403", QuotaError, ": blocked after too many calls", 1800.0),
    )

    def status(self, by: float) -> LockStatus:
        body = self._json(self._ask("GET", self._path, by), dict)
        responsive = _only(bool, body.get("responsive"))
        is_old = responsive is False
        why = "the lock does not answer its access point" * is_old
        known = _field(body, "locked", bool), why, body.get("battery")
        return self._observed(*known, reachable=responsive, is_old=is_old)

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        return self._begin_task(command.value, send_by, by)

    def wake(self, by: float) -> str | None:
        return self._begin_task("sync", by, by)

    def _begin_task(self, word: str, send_by: float, by: float) -> str:
        reply = self._ask("POST", self._path, by, send_by, body={"command": word})
        return str(_field(self._json(reply, dict), "task_id", str))

    def confirm(self, sent: Sent, by: float) -> Progress:
        if sent.handle is None:  # the answer with the task id was lost
            return _progress(self.status(by), sent.command, refutes=True)
        return Progress.DONE if self.is_awake(sent.handle, by) else Progress.PENDING

    def is_awake(self, handle: str, by: float) -> bool:
        """True once a task has succeeded.  Raises: Rejected if it has failed."""
        path = f"/action-result?task_id={quote(handle, safe='')}"
        reply = self._ask("GET", path, by, takes=[400])
        if reply.status == 400:  # "not ready yet", according to pysesame2
            return False
        body = self._json(reply, dict)
        if body.get("status") == "processing":
            return False
        if body.get("status") != "terminated":
            raise Unreadable("a task that is neither processing nor terminated")
        if not _field(body, "successful", bool):
            raise Rejected(f"the lock failed: {reply.said or 'no reason given'}")
        return True


class Sesame(WebLock):
    """Sesame 3, 4, 5 and 5 Pro over the current Web API, with Hub 3 or WiFi Module 2.

    The API accepts a command even if the lock does not move, as with a wrong secret, so
    it counts when a status with a later time stamp shows the target.

    Source: CANDY-HOUSE/API_document, webapi.en.md (2026-03).
    """

    base_url = "https://app.candyhouse.co/api"
    #: The free plan has 3,000 calls a month, so it asks rarely, at growing intervals.
    policy = LockPolicy(
        confirm_at_s=(3.0, 6.0, 12.0, 20.0),
        relock_waits_s=(60.0, 300.0),
        calls_per_month=3000,
    )
    headers = (("x-api-key", "{}"),)
    path = "/sesame2/{}"
    modules = ("cryptography.hazmat.primitives.cmac",)
    commands: Mapping[Command, int] = {Command.LOCK: 82, Command.UNLOCK: 83}
    states: Mapping[Any, LockState | str] = {
        "locked": LockState.LOCKED,
        "unlocked": LockState.UNLOCKED,
    }

    def status(self, by: float) -> LockStatus:
        body = self._json(self._ask("GET", self._path, by), dict)
        stamp, as_of = body.get("timestamp") or 0, None
        if type(stamp) in (int, float) and 0 < stamp < 1e15:
            # The documentation says milliseconds, the values are seconds.
            as_of = float(stamp / 1000 if stamp > 1e11 else stamp)
        reachable = _only(bool, body.get("wm2State"))
        why = "the lock's WiFi module is offline" * (reachable is False)
        known = _field(body, "CHSesame2Status", str), why, body.get("batteryPercentage")
        return self._observed(*known, reachable=reachable, as_of=as_of)

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        if not self._clock.is_set():
            log.warning("the clock is not set: if it is wrong, the lock will not move")
        secret = bytes.fromhex(self._access.secret_key.text)
        # Made at each try, because it is valid for minutes only:
        sign = sesame_sign(secret, int(self._clock.now().timestamp()))
        # Shown in the lock's history, in at most 21 bytes:
        mover = base64.b64encode(b"DoorPi").decode()
        body = {"cmd": self.commands[command], "history": mover, "sign": sign}
        path, more = f"{self._path}/cmd", {"body": body, "secrets": [sign]}
        reply = self._ask("POST", path, by, send_by, takes=[404], **more)
        if reply.status == 404:  # while the status still answers 200
            raise NotForwarded(
                "HTTP 404: the module is offline, or the lock is in another account"
            )
        return None  # any 2xx, with any body

    def confirm(self, sent: Sent, by: float) -> Progress:
        status = self.status(by)
        was_there = sent.before.state is sent.command.target
        then_s, now_s = sent.before.as_of, status.as_of
        is_newer = then_s is not None and now_s is not None and then_s < now_s
        is_proof = is_newer or was_there
        return _progress(status, sent.command, proves=is_proof, refutes=is_newer)


def cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC.  Source: RFC 4493, NIST SP 800-38B."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    made = CMAC(AES(key))
    made.update(data)
    return made.finalize()


def sesame_sign(secret: bytes, unix_s: int) -> str:
    """Hex of the CMAC of the time (uint32, little-endian) without its lowest byte, so
    valid for 256 s.  Source: CANDY-HOUSE/API_document."""
    return cmac(secret, (unix_s & 0xFFFFFFFF).to_bytes(4, "little")[1:4]).hex()


MOVING = "the bolt is moving"
JAMMED = "the lock is jammed"
HALF_OUT = "the bolt is half out"
LATCHED = "only the latch holds the door"


class SwitchBot(WebLock):
    """SwitchBot Lock over the cloud API v1.1, with its hub.

    Its status has no time and lags behind the lock by 15 s and more, so an old state
    proves nothing.  The target proves that the command worked if another state was
    seen before it, else once the command is older than the lag.

    Source: OpenWonderLabs/SwitchBotAPI, README.md (2026-05); homebridge-switchbot
    issues 221 and 1330.
    """

    base_url = "https://api.switch-bot.com/v1.1"
    headers = (("Authorization", "{}"), ("Content-Type", "application/json"))
    path = "/devices/{}"
    lag_s = 15.0
    _sent_at = -inf
    policy = LockPolicy(confirm_at_s=(3.0, 6.0, 10.0, 15.0, 20.0, 30.0))
    #: The documentation, the cloud and its webhooks spell them differently.
    states: Mapping[Any, LockState | str] = {
        "lock": LockState.LOCKED,
        "locked": LockState.LOCKED,
        "unlock": LockState.UNLOCKED,
        "unlocked": LockState.UNLOCKED,
        "": "the cloud does not report the lock's state: is its cloud service off,"
        " or is device_id the hub's?",
        "jammed": JAMMED,
        "locking": MOVING,
        "unlocking": MOVING,
        "halflocked": HALF_OUT,
        "latchboltlocked": LATCHED,
    }
    #: Also by the ``statusCode`` in an HTTP 200.  190 has many meanings, but with some
    #: explanations the command was surely not passed on.
    refusals = (
        Refusal("^HTTP 401", AuthError, ": token or secret are wrong, or the clock is"),
        Refusal("^statusCode.*daily limit", QuotaError, ": no calls are left today"),
        Refusal("^statusCode 190.*too many", QuotaError, ": too many calls just now"),
        Refusal(
            "^statusCode (?:15[12]|160|190.*(?:not support|device owner|wrong device))",
            RequestRefused,
            ": device_id is not this lock's",
        ),
        Refusal("^statusCode 1[67]1", Offline, ": the lock or its hub is offline"),
        Refusal("^statusCode 190", MaybeSent),
        Refusal("^statusCode", Unreadable, ": not understood"),
    )

    def status(self, by: float) -> LockStatus:
        body = self._answer("GET", f"{self._path}/status", by)
        names = "lockState", "deviceType", "onlineStatus"
        word, device, online = (_only(str, body.get(name)) or "" for name in names)
        if device and not word and "lock" not in device.lower():
            shown = self._api.redact(device)
            raise RequestRefused(f"device_id is a {shown}, not a lock")
        reachable = {"online": True, "offline": False}.get(online.lower())
        why = "the lock is not calibrated" if body.get("calibrate") is False else ""
        why = "the lock is offline" if reachable is False else why
        status = self._observed(word.lower(), why, body.get("battery"))
        return status._replace(
            reachable=reachable,
            # A level is the upper end of a step: 20 stands for 10 to 20 %.
            battery_is_low=status.battery_percent in range(21),
            is_moving=status.why == MOVING,
            is_between=status.why in (HALF_OUT, LATCHED),
        )

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        self._sent_at = self._clock.monotonic()
        body = {"command": command.value, "parameter": "default"}
        body["commandType"] = "command"
        self._answer("POST", f"{self._path}/commands", by, send_by, body=body)
        return None

    def confirm(self, sent: Sent, by: float) -> Progress:
        asked_at = self._clock.monotonic()
        status, was = self.status(by), sent.before.effective_state
        if status.why == JAMMED and was is not LockState.UNKNOWN:
            raise Rejected(status.why)
        has_changed = was not in (sent.command.target, LockState.UNKNOWN)
        # Locks that pull the latch release it again: the bolt is in, as requested.
        if status.why == LATCHED and sent.command is Command.UNLOCK and has_changed:
            return Progress.DONE
        is_settled = asked_at - self._sent_at >= self.lag_s
        return _progress(status, sent.command, proves=has_changed or is_settled)

    def _answer(self, *request: Any, **more: Any) -> dict[str, Any]:
        """The body of an answer that accepts ``request``.  Raises: LockError."""
        reply = self._ask(*request, headers=self._signature, **more)
        answer = self._json(reply, dict)
        shown = str(answer.get("statusCode", "missing"))
        if shown == "100":
            return _only(dict, answer.get("body")) or {}
        words = f"statusCode {self._api.redact(shown)} {reply.said}"
        raise self._refusal(words.strip())

    def _signature(self) -> dict[str, str]:
        """The headers that sign one request, with the time and a new nonce."""
        stamp = str(int(self._clock.now().timestamp() * 1000))
        nonce = os.urandom(16).hex()
        token, secret = self._access.api_key.text, self._access.secret_key.text
        sign = switchbot_sign(token, secret, stamp, nonce)
        return {"t": stamp, "nonce": nonce, "sign": sign}


def switchbot_sign(token: str, secret: str, stamp: str, nonce: str) -> str:
    """Base64 of HMAC-SHA256 over token, time in milliseconds and nonce."""
    signed = hmac.digest(secret.encode(), f"{token}{stamp}{nonce}".encode(), "sha256")
    return base64.b64encode(signed).decode()


class Tedee(WebLock):
    """Tedee PRO and GO over the cloud API, with their bridge.

    The answer to a command is the id of an operation, whose end is the lock's own
    report; but a lock that is not calibrated reports success without moving.  Then the
    state decides; it may be read once in 20 s.

    Source: tedee-com/tedee-api-doc, release-notes.rst (2026-05).
    """

    base_url = "https://api.tedee.com/api/v37"
    headers = (("Authorization", "PersonalKey {}"),)
    path = "/my/lock/{}"
    #: Explained: it is not shared, or remote access is off.
    refusals = (Refusal("^HTTP 403 .", RemoteBarred),)
    sync_every_s = 20.0
    _synced_at = -inf
    #: From 21 s on the state may be read again, however soon the command was sent.
    policy = LockPolicy(confirm_at_s=(2.0, 4.0, 7.0, 11.0, 16.0, 21.0, 28.0))
    states: Mapping[Any, LockState | str] = {
        0: "the lock is not calibrated",
        1: "the lock is being calibrated",
        2: LockState.UNLOCKED,
        3: HALF_OUT,
        4: MOVING,
        5: MOVING,
        6: LockState.LOCKED,
        7: LockState.UNLOCKED,
        8: "the latch is being pulled",
        9: "the lock does not know its state",
        18: "the lock is being updated",
    }

    def status(self, by: float) -> LockStatus:
        self._synced_at = self._clock.monotonic()
        body = self._result(self._ask("GET", f"{self._path}/sync", by))
        is_connected = _only(bool, body.get("isConnected"))
        if is_connected is False:
            why = "the lock is not connected to its bridge"
            return self._observed(None, why, reachable=False)
        # Both names were seen.
        lock: Any = body.get("lockProperties") or body.get("deviceState")
        number = _field(lock, "state", int)
        is_jammed = number == 3 and lock.get("stateChangeResult") not in (None, 0)
        return self._observed(
            number,
            JAMMED if is_jammed else "",
            lock.get("batteryLevel"),
            reachable=is_connected,
            is_between=number == 3 and not is_jammed,
        )

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        path = f"{self._path}/operation/{command.value}"
        reply = self._ask("POST", path, by, send_by, takes=[400])
        if reply.status == 400:
            said = reply.said or "the lock is not connected to its bridge"
            raise NotForwarded(f"HTTP 400 {said}".rstrip("."))
        return str(_field(self._result(reply), "operationId", str, int))

    def confirm(self, sent: Sent, by: float) -> Progress:
        if sent.handle is not None:
            path = f"/my/device/operation/{quote(sent.handle, safe='')}"
            body = self._result(self._ask("GET", path, by))
            if body.get("status") == "PENDING":
                return Progress.PENDING
            if body.get("status") != "COMPLETED":
                raise Unreadable("an operation that is neither pending nor completed")
            if result := _field(body, "result", int):
                raise Rejected(f"the lock failed: result {result}")
            if sent.before.effective_state is not LockState.UNKNOWN:
                return Progress.DONE
        if self._clock.monotonic() - self._synced_at < self.sync_every_s:
            return Progress.PENDING
        return _progress(self.status(by), sent.command)

    def _result(self, reply: Reply) -> dict[str, Any]:
        return _only(dict, self._json(reply, dict).get("result")) or {}


NUKI_BLOCKED = "the lock's motor is blocked"
NUKI_ACTIONS: Mapping[Command, int] = {Command.UNLOCK: 1, Command.LOCK: 2}


class NukiLock(WebLock):
    """What both of Nuki's APIs have in common."""

    states: Mapping[Any, LockState | str] = {
        0: "the lock is not calibrated",
        1: LockState.LOCKED,
        2: "the lock is unlocking",
        3: LockState.UNLOCKED,
        4: "the lock is locking",
        5: LockState.UNLOCKED,  # and unlatched
        6: LockState.UNLOCKED,  # by lock'n'go
        7: "the lock is pulling the latch",
        254: NUKI_BLOCKED,
        255: "the lock does not know its state",
    }

    def _read(self, table: Any, why: str = "", **more: Any) -> LockStatus:
        """The status in ``table``, unless ``why`` says that it is unknown.  Raises:
        Unreadable."""
        number = _field(table, "state", int)
        return self._observed(
            number,
            why,
            table.get("batteryCharge", table.get("batteryChargeState")),
            battery_is_low=table.get("batteryCritical") is True,
            is_moving=number in (2, 4, 7),
            **{"reachable": True, **more},
        )


class NukiBridge(NukiLock):
    """Nuki over the HTTP API of its bridge on the local network.

    The bridge takes one request at a time and falls silent when they come too fast, so
    each has its own connection, ``gap_s`` after the one before.  Without TLS others on
    the network cannot learn the token, but could answer in the bridge's place.
    ``lockState`` and ``lockAction`` ask the lock by radio and wait for its answer;
    ``list`` is what the bridge remembers.

    Source: Nuki Bridge HTTP API v1.13.
    """

    headers = (("Connection", "close"),)
    path = "{}"
    refusals = (
        Refusal("^HTTP 401", AuthError, ": the key is not accepted, or a clock is"
                " wrong, this one's or the bridge's, which needs the internet"),
        Refusal("^HTTP 410", Offline, ": the bridge has lost the lock"),
        Refusal("^HTTP 503", Busy, ": the bridge is busy with another request", 3.0),
    )  # fmt: skip
    unreachable_s = inf  # not known, as it is connected only during a request
    gap_s = 2.0  # seen to be mute after two requests within 0.5 s
    #: Each try may begin with the gap.  A turn takes 3 s, or 20 at worst.
    policy = LockPolicy(
        soonest_s=2.0,
        try_s=8.0,
        send_try_s=22.0,
        confirm_at_s=(2.0, 5.0, 8.0, 11.0, 14.0, 17.0, 20.0),
        resend_after_s=2.0,  # or there would be no time left for it
    )
    #: Device types that lock: 1.0 and 2.0, Smart Door, 3.0 and later.
    types = (0, 3, 4)
    _type = types[0]
    _quiet_since = -inf
    _has_asked_lock = False  # directly, since the last command

    def status(self, by: float) -> LockStatus:
        return self._read(self._ask_lock("/lockState", "", by))

    def prepare(self, by: float) -> None:
        """Wait for the rest of the gap; a connection would keep others from the bridge.
        Raises: NotSent, at once, if the gap does not end before ``by``."""
        now = self._clock.monotonic()
        rested_at = self._quiet_since + self.gap_s
        if rested_at >= by:
            raise NotSent("too late to send: the bridge needs its pause")
        if rested_at > now:
            self._clock.sleep(rested_at - now)

    def keep_ready(self) -> None:
        import http.client  # noqa: F401 -- takes long, and needs no connection

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        query = f"&action={NUKI_ACTIONS[command]}&nowait=0"
        self._has_asked_lock = False
        self._ask_lock("/lockAction", query, by, send_by)
        return "success"

    def confirm(self, sent: Sent, by: float) -> Progress:
        """After a success the list is read, and the lock once, because the list can
        lack the state or be old; without a success only the lock knows."""
        target, was_success = sent.command.target, sent.handle is not None
        if was_success:
            table, known = self._listed(by).get("lastKnownState"), None
            if self._has_asked_lock:
                return _progress(self._read(table), sent.command)
            with contextlib.suppress(Unreadable):
                known = self._read(table)
            if known and (known.is_moving or known.state is target):
                return _progress(known, sent.command)
        self._has_asked_lock = True
        status = self.status(by)
        if status.why == NUKI_BLOCKED:
            raise Rejected(status.why)
        if was_success and status.state not in (target, LockState.UNKNOWN):
            raise Unreadable(f"the bridge said success, the lock says {status.state}")
        return _progress(status, sent.command, refutes=not was_success)

    def _listed(self, by: float) -> dict[str, Any]:
        """The lock's entry in the bridge's list, {} where it has none."""
        for row in self._json(self._ask("GET", "/list", by), list):
            if isinstance(row, dict) and str(row.get("nukiId")) == self._path:
                return row
        return {}

    def _ask_lock(
        self, path: str, query: str, by: float, send_by: float = inf
    ) -> dict[str, Any]:
        """Ask with the lock's device type: with another one the bridge answers 404."""
        path += f"?nukiId={self._path}&deviceType={self._type}{query}"
        reply = self._ask("GET", path, by, send_by, takes=[404])
        if reply.status == 404:
            listed = self._listed(by).get("deviceType")
            if listed == self._type or listed not in self.types:
                raise RequestRefused(f"{reply.words}: the bridge has no such lock")
            self._type = listed
            raise NotSent("HTTP 404: the lock is of another type")
        body = self._json(reply, dict)
        if body.get("success") is not True:  # the radio may have reached it
            raise MaybeSent("the bridge could not reach the lock")
        return body

    def _ask(
        self, method: str, path: str, by: float, send_by: float = inf, **more: Any
    ) -> Reply:
        """Make one signed request, after the gap, on its own connection."""
        self.prepare(min(by, send_by))
        utc, rnr = self._clock.now().astimezone(UTC), random.randrange(1 << 16)
        ts = f"{utc:%Y-%m-%dT%H:%M:%SZ}"
        proof = f"{ts},{rnr},{self._access.api_key.text}".encode()
        code = hashlib.sha256(proof).hexdigest()
        path += f"{'&' if '?' in path else '?'}ts={ts}&rnr={rnr}&hash={code}"
        try:
            return super()._ask(method, path, by, send_by, secrets=[code], **more)
        finally:
            self._api.dialer.hang_up()
            self._quiet_since = self._clock.monotonic()


class NukiWeb(NukiLock):
    """Nuki over its Web API, for locks with a bridge, Wi-Fi or Thread of their own.

    An action that is accepted "does not mean executed" (docs.nuki.io), so a command
    counts once a status shows the target and is news: it has a newer date, or another
    state than before and no older date.
    """

    base_url = "https://api.nuki.io"
    policy = LockPolicy(
        confirm_at_s=(2.0, 4.0, 7.0, 11.0, 16.0), wake_every_s=300.0, wake_s=5.0
    )
    #: A lock that seems unlocked for longer is asked directly, as the cloud was seen to
    #: miss that it was locked.  An old "locked" does no harm: a tap unlocks either way.
    old_s = 3600.0
    headers = (("Authorization", "Bearer {}"),)
    path = "/smartlock/{}"
    refusals = (
        Refusal("^HTTP 404", RequestRefused, f": device_id is {NUKI_WEB_ID[2]}"),
        Refusal("^HTTP 423", Busy, ": the lock is busy with another operation", 3.0),
    )
    _seen_s: float | None = None  # the date before ``wake``

    def status(self, by: float) -> LockStatus:
        body = self._json(self._ask("GET", self._path, by), dict)
        state, at = body.get("state"), iso_time(body.get("updateDate"), UTC)
        as_of = at.timestamp() if at else None
        is_online = body.get("serverState", 0) == 0
        why = "" if is_online else "the lock is offline"
        if body.get("type") == 2:  # its states have other meanings
            why = "an opener, not a lock"
        status = self._read(state, why, as_of=as_of, reachable=is_online)
        self._seen_s = as_of
        age_s = self._clock.now().timestamp() - (as_of or inf)
        is_old = status.state is LockState.UNLOCKED and age_s > self.old_s
        return status._replace(is_old=is_old and self._clock.is_set())

    def wake(self, by: float) -> str | None:
        self._ask("POST", f"{self._path}/sync", by, by)
        return "sync"

    def is_awake(self, handle: str, by: float) -> bool:
        """True once its entry has a new date."""
        before_s = self._seen_s
        return self.status(by).as_of != before_s

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        body = {"action": NUKI_ACTIONS[command]}
        self._ask("POST", f"{self._path}/action", by, send_by, body=body)
        return None  # 204, without a handle

    def confirm(self, sent: Sent, by: float) -> Progress:
        status, was = self.status(by), sent.before
        then_s, now_s = was.as_of or 0.0, status.as_of or 0.0
        is_newer, is_older = 0.0 < then_s < now_s, 0.0 < now_s < then_s
        has_changed = was.state not in (LockState.UNKNOWN, status.state)
        is_news = is_newer or (has_changed and not is_older)
        if is_news and status.why == NUKI_BLOCKED:
            raise Rejected(status.why)
        return _progress(status, sent.command, proves=is_news, refutes=is_newer)


class Relay(Lock):
    """A strike or maglock behind a relay: open for ``hold_s``, then locked by itself.
    tests/docs/locks.md has its wiring, and what the pin does without the program.

    Source: BCM2835 ARM Peripherals, table 6-31; raspberrypi/linux, pull request 6117.
    """

    #: A pin that is not available now will not be in a second.
    policy = LockPolicy(
        read_waits_s=(), send_waits_s=(), confirm_at_s=(0.0,), locks_itself=True
    )
    calls = 0

    def __init__(
        self, access: LockAccess, clock: Clock, keep: DriverStateFile | None = None
    ) -> None:
        self._access, self._clock = access, clock
        self._is_closed = False
        self._pin: Any = None
        self._ends_at = -inf
        self._pulse: threading.Thread | None = None
        # Guards the three above.  Taken under ``postponed``: if Stopped left it locked,
        # the pulse could not end.
        self._changed = threading.Condition()
        try:
            self._claim()
        except NotSent as error:  # tried again at a tap
            log.warning("%s", error)

    def status(self, by: float) -> LockStatus:
        """Always locked, so that a tap during a pulse prolongs it."""
        with ProcessSignals.postponed(), self._changed:
            self._claim()
        return LockStatus(state=LockState.LOCKED, reachable=True)

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        with ProcessSignals.postponed(), self._changed:
            self._claim()
            if self._clock.monotonic() >= send_by:
                raise NotSent("too late to send")
            if command is Command.LOCK:
                self._release()
                return None
            try:
                if self._pulse is None:  # first: what is switched on must have an end
                    self._pulse = start_thread(self._hold, "relay")
                self._pin.on()
                self._ends_at = time.monotonic() + self._access.hold_s
            except _gpio_errors() as error:
                self._release(give_back=True)
                raise NotSent(self._trouble("used", error)) from None
        return None

    def confirm(self, sent: Sent, by: float) -> Progress:
        return Progress.DONE

    @property
    def is_holding(self) -> bool:
        return self._pulse is not None

    def wait_released(self) -> None:
        while self.is_holding:
            time.sleep(max(0.01, self._ends_at - time.monotonic()))

    def close(self) -> None:
        with ProcessSignals.postponed():
            with self._changed:
                self._is_closed, pulse = True, self._pulse
                self._release(give_back=True)
            if pulse is not None:
                pulse.join(1.0)

    def _claim(self) -> None:
        """Open the pin, at rest from the first moment.  Raises: NotSent."""
        import warnings

        if self._is_closed:
            raise NotSent("the relay is closed")
        if self._pin is not None:
            return
        trouble, access = "", self._access
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # gpiozero names each library it lacks
                import gpiozero  # type: ignore[import-untyped]

                self._pin = gpiozero.OutputDevice(
                    access.relay_gpio, active_high=access.active_high
                )
        except _gpio_errors() as error:
            trouble = self._trouble("used", error)
        if trouble:  # raised here, because ``error`` holds the half-made device
            raise NotSent(trouble)

    def _trouble(self, what: str, error: Exception) -> str:
        why = printable(str(error) or type(error).__name__)
        if "busy" in why.lower():
            why += " (another program has it; while the door runs, that is the door)"
        return f"GPIO {self._access.relay_gpio} cannot be {what}: {why}"

    def _hold(self) -> None:
        """One pulse, on its own thread; it may be prolonged or cut short."""
        with self._changed:
            try:
                while (left_s := self._ends_at - time.monotonic()) > 0:
                    self._changed.wait(left_s)
            finally:
                try:
                    self._release()
                finally:
                    self._pulse = None  # not sooner: `wait_released` waits for it

    def _release(self, *, give_back: bool = False) -> None:
        """Switch the pin off; close it if that fails, or to ``give_back``."""
        self._ends_at = -inf
        self._changed.notify_all()
        try:
            if self._pin is not None:
                self._pin.off()
        except _gpio_errors() as error:
            trouble, give_back = self._trouble("switched off", error), True
            log.error("%s; the strike may still be released", trouble)
        if give_back and self._pin is not None:
            pin, self._pin = self._pin, None
            with contextlib.suppress(*_gpio_errors()):
                pin.close()


def _gpio_errors() -> tuple[type[Exception], ...]:
    """What gpiozero and the pin libraries raise: RPi.GPIO a RuntimeError, one too old
    for gpiozero an AttributeError, lgpio and pigpio their own ``error``.

    Source: gpiozero issues 1057 ('GPIO busy') and 1131 (SET_PULL_NONE).
    """
    names = {"gpiozero": "GPIOZeroError", "lgpio": "error", "pigpio": "error"}
    own = (getattr(sys.modules.get(name), error, None) for name, error in names.items())
    plain = OSError, ImportError, RuntimeError, AttributeError
    return *plain, *filter(None, own)


class DriverStateFile:
    """A few named texts that a lock's driver or an authority must not lose, such as a
    token that the vendor replaces at each use.  They are in a file of their own, as
    every backup has the database, and valid only with the settings they were made from;
    what cannot be written is kept in memory until the program ends.  Any thread may use
    them."""

    def __init__(self, path: Path, access: LockAccess | AuthorityConfig) -> None:
        self._path = path
        keys = [access.kind, access.base_url]
        if isinstance(access, LockAccess):
            keys = [access.kind, access.device_id, *_secrets_in(access)]
        self._made_from = hashlib.sha256(repr(keys).encode()).hexdigest()
        self._unsaved: dict[str, str] = {}

    def recall(self, name: str) -> str | None:
        return self._texts().get(name)

    def keep(self, name: str, text: str) -> None:
        self._unsaved[name] = text
        try:
            write_whole(self._path, json.dumps({self._made_from: self._texts()}))
        except OSError as error:
            why = f"{self._path}: {error.strerror}"
            log.warning("%s; it will be lost at the next start", why)
        else:
            self._unsaved.clear()

    def _texts(self) -> dict[str, str]:
        texts: Any = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            texts = json.loads(self._path.read_text("utf-8")).get(self._made_from)
        return {**(texts if isinstance(texts, dict) else {}), **self._unsaved}


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file by ``content``, completely or not at all, even if the power fails.
    Nobody but its owner may read it.  Raises: OSError."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # left by a program that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name as well
    finally:
        os.close(folder)


#: The driver of each kind of lock.
LOCKS: Mapping[str, Callable[[LockAccess, Clock, DriverStateFile], Lock]] = {
    "sesame": Sesame,
    "sesame-mini": SesameMini,
    "nuki-bridge": NukiBridge,
    "nuki-web": NukiWeb,
    "switchbot": SwitchBot,
    "tedee": Tedee,
    "relay": Relay,
}


################################################################################
# 15. Databases -- an SQLite file that survives what a Pi does to it
################################################################################


#: What SQLite and the disk raise; UnicodeError for text that is not UTF-8, in what we
#: store or in the names and messages of a broken file.
TROUBLES = (sqlite3.Error, OSError, UnicodeError)

#: What the names of the files of one database end in.
ENDINGS = ("", "-wal", "-shm", "-journal")


class Spoilt(sqlite3.DatabaseError):
    """A file that SQLite would open, although its last changes are lost."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def _wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def file_at(path: Path) -> tuple[int, int] | None:
    """Device and inode of ``path`` (of a link, not of its target); None where there is
    no file.  Raises: OSError where that cannot be found out."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: Path) -> bool:
    """Also true where there is no file."""
    return not (path.exists() and path.stat().st_size)


def _refuse_odd(path: Path) -> None:
    """Raises: OSError for a symbolic link, which may lead anywhere; Spoilt where only
    the -wal is left, which SQLite would delete with all that it holds."""
    for file in (Path(f"{path}{ending}") for ending in ENDINGS):
        if file.is_symlink():
            raise OSError(f"{file.name} is a symbolic link, which is not followed")
    if _is_empty(path) and not _is_empty(_wal(path)):
        raise Spoilt("the file is empty or missing, but its -wal is not")


def _has_no_room(path: Path, needed: int = 65_536) -> bool:
    """Whether the disk has less room than ``needed`` bytes, by default those of a -wal
    and a -shm."""
    disk = os.statvfs(path)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return free * disk.f_frsize < needed


def _is_broken(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):  # in a name: values are never refused
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open ``path`` without making a file beside it, even while the door writes it:
    without a -wal no process has it open, and SQLite need not make one."""
    _refuse_odd(path)
    how = "mode=ro" if _wal(path).exists() else "mode=ro&immutable=1"
    uri = f"file:{quote(os.fsencode(path))}?{how}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as db:
        yield db


class Redaction:
    """Removes a name from texts: whole words only, in any case and spacing, also as
    JSON has it, or cut off ("Ken Sa...").  ``names`` are its spellings; ``others`` are
    people whose names contain it, which stay; ``also`` are other texts to remove, such
    as numbers of cards."""

    def __init__(
        self, names: Collection[str], others: Collection[str], also: Collection[str]
    ) -> None:
        forms = {each for name in names for each in (name, folded(name))}
        for form in (printable, _in_json, _in_json):  # there is JSON within JSON
            forms |= set(map(form, forms))
        ways = sorted(forms, key=len, reverse=True)
        whole = [r"\s+".join(map(re.escape, each.split())) for each in ways]
        cut = [re.escape(each[:n]) for each in ways for n in range(len(each), 1, -1)]
        whole += [rf"(?:{'|'.join(cut)})\.\.\.", *map(re.escape, also)]
        kept = "|".join(map(re.escape, [*others, *map(_in_json, others)])) or r"(?!)"
        pattern = rf"(?<!\w)(?:({kept})|{'|'.join(whole)})(?!\w)"
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda found: found[1] or FORGOTTEN, text)


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


COLUMN_QUERY = """
SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
WHERE m.type = 'table'
"""


class SqliteFile:
    """One SQLite file (WAL, every commit synced to the disk), for all threads.

    The connection is opened when it is needed and closed after any error, so that a
    disk that recovers is used again.  With ``repair`` a broken file is set aside under
    a dated name, and a new one made.  A query makes no file.
    """

    schema: tuple[str, ...] = ()
    synchronous = "FULL"  # a power cut loses no committed event

    def __init__(
        self, path: Path, *, repair: bool = False, busy_s: float = 0.25
    ) -> None:
        self.path = path
        self._remains = [path, _wal(path)]  # any of them holds what was stored
        self._repair = repair
        self._busy_s = busy_s
        self._guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None  # ``file_at`` of the one that is open
        self._is_fixed = False

    def exists(self) -> bool:
        """False as long as nothing was ever stored."""
        with self._guarded():
            return any(map(file_at, self._remains))

    def close(self) -> None:
        with self._guard:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

    def _query(
        self, sql: str, *values: object, is_again: bool = False
    ) -> list[sqlite3.Row]:
        """The rows, none where nothing was ever stored.  If a broken file was set
        aside, those of the one that takes its place."""
        try:
            with self._guarded():
                if self._db is None and not self.exists():
                    return []
                return self._connection().execute(sql, values).fetchall()
        except StoreError:
            if is_again or os.path.lexists(self.path):
                raise
        return self._query(sql, *values, is_again=True)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, with no write of another process in between."""
        with self._guarded():
            db = self._connection()
            if db.in_transaction:  # Stopped was raised between the lines of the last
                db.rollback()
            if self._is_fixed and _has_no_room(self.path):
                raise sqlite3.OperationalError("database or disk is full")
            db.execute("BEGIN IMMEDIATE")
            with db:
                yield db

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time; any trouble becomes a StoreError."""
        with self._guard:
            try:
                yield
            except TROUBLES as error:
                # Set aside first: closing would remove the -wal.
                if self._repair and _is_broken(error):
                    self._set_aside()
                self.close()
                why = getattr(error, "strerror", None) or str(error)
                raise StoreError(f"{self.path}: {printable(why)}") from None
            except Stopped:  # a transaction may be half done
                self.close()
                raise

    def redact(self, redaction: Redaction, but: Collection[str] = ()) -> int:
        """Apply it to all texts, except in the tables ``but``, and leave none of them
        in the -wal.  Returns the number of changes."""
        if not self.exists():
            return 0
        found = list[str]()
        with self._guarded():
            db = self._connection()
            db.create_function("redacted", 1, redaction, deterministic=True)
            for table, column in [*db.execute(COLUMN_QUERY)]:
                named = f"typeof({column}) = 'text' AND redacted({column}) <> {column}"
                one = f"SELECT 1 FROM {table} WHERE {named} LIMIT 1"  # noqa: S608
                if table not in but and db.execute(one).fetchone():
                    remove = f"SET {column} = redacted({column}) WHERE {named}"
                    found.append(f"UPDATE OR REPLACE {table} {remove}")
        changed = 0
        if found:
            with self._redacting() as db:
                changed = sum(db.execute(each).rowcount for each in found)
        with self._guarded():
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return changed

    def _redacting(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self._transaction()

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and self.file != file_at(self.path):
            log.warning("%s was replaced or deleted; reopened", self.path)
            self.close()
        if self._is_fixed:  # it would never see what other processes change
            self.close()
        return self._db or self._open()

    def _open(self) -> sqlite3.Connection:
        _refuse_odd(self.path)
        if not self.path.parent.exists():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without this, SQLite fails to make a -shm on a disk that is full or became
        # read-only.  Source: sqlite.org/wal.html, "Read-Only Databases".
        self._is_fixed = not (_is_empty(self.path) or _wal(self.path).exists()) and (
            bool(os.statvfs(self.path).f_flag & os.ST_RDONLY) or _has_no_room(self.path)
        )
        uri = f"file:{quote(os.fsencode(self.path))}"
        self._db = db = sqlite3.connect(
            f"{uri}?immutable=1" if self._is_fixed else uri, uri=True,
            timeout=self._busy_s, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        self.file = file_at(self.path)
        # One damaged letter must not hide its row, or the rows beside it.
        db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
        db.row_factory = sqlite3.Row
        db.create_function("without_accents", 1, without_accents, deterministic=True)
        with contextlib.suppress(sqlite3.OperationalError):  # another process does so
            db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self.synchronous}")
        db.execute("PRAGMA secure_delete = ON")  # what is deleted leaves no traces
        self._bring_up_to_date(db)
        return db

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        newest = len(self.schema)
        if version >= newest or self._is_fixed:  # a full disk keeps nobody out
            return
        db.execute("BEGIN IMMEDIATE")
        with db:  # another process may have done it just now
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for script in self.schema[version:]:
                for statement in script.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {max(version, newest)}")
        if version:
            log.warning("%s: brought to schema %d", self.path, newest)

    def _set_aside(self) -> None:
        """Nothing is lost: each file keeps its content under a dated name."""
        ending = f".broken-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        try:
            if earlier := list(self.path.parent.glob(f"{self.path.name}*{ending}*")):
                ending += f"-{len(earlier) + 1}"  # of those in this second
            for part in (Path(f"{self.path}{end}") for end in ENDINGS):
                if part.exists():
                    part.rename(f"{part}{ending}")
        except OSError as error:
            log.error("%s is broken and cannot be set aside: %s", self.path, error)
        else:
            log.error("%s was broken: set aside as %s", self.path, ending)


################################################################################
# 16. The log -- the event log, in a database
################################################################################


# The schema of a file is a tuple of scripts: the first makes its tables, and each of
# the others the next version of them.  A script only adds: tables, and columns that are
# NULL, '' or 0 where nobody has set them.  So an older program, put back by an upgrade
# that failed, can use the file.

#: `chains` has the newest row of events and of outcomes, so that rows missing at the
#: end are noticed too; and, as events-start and outcomes-start, the last ones that
#: `forget` removed.
LOG_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, uid TEXT, holder TEXT NOT NULL,
    reason TEXT NOT NULL, command TEXT, source TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_uid ON events (uid, id);
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, event INTEGER NOT NULL UNIQUE, result TEXT NOT NULL,
    latency_ms INTEGER, detail TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE chains (name TEXT PRIMARY KEY, id INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE TABLE states (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO chains (name, id, hash) VALUES ('events', 0, ''), ('outcomes', 0, '');
"""
REQUEST_COLUMNS = """
ALTER TABLE events ADD COLUMN point TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN request TEXT NOT NULL DEFAULT ''
"""
NOTE_COLUMN = "ALTER TABLE events ADD COLUMN note TEXT NOT NULL DEFAULT ''"
#: ``event`` is a Change.FORGET whose note ends with the ``digest`` of ``rows``; these
#: are the digests of the rows as it left them, DIGEST_BYTES each.
FORGOTTEN_TABLE = """
CREATE TABLE forgotten (event INTEGER PRIMARY KEY, rows BLOB NOT NULL)
"""
CHAINED: dict[str, tuple[str, ...]] = {
    "events": ("id", "at", "uid", "holder", "reason", "command", "source"),
    "outcomes": ("id", "event", "result", "latency_ms", "detail"),
}
#: Columns of a later version.  The hash of a row covers them where one is set, else
#: not: so the rows of an older program verify as well.
CHAINED_LATER = {"events": ("point", "request", "note"), "outcomes": ()}
#: All columns, as they are digested.
CHAIN_COLUMNS = {t: (*CHAINED[t], *CHAINED_LATER[t], "hash") for t in CHAINED}
#: The columns that may hold a name or the number of a card.
PERSONAL = {"events": ("uid", "holder", "note"), "outcomes": ("detail",)}
DIGEST_BYTES = 16


def _upsert(table: str, key: str, *columns: str, kept: Collection[str] = ()) -> str:
    """Insert a row, or update ``columns`` of the one with its ``key``: columns that
    only a newer version knows keep their values, and NULL replaces none of ``kept``."""
    names = ", ".join((key, *columns))
    marks = ", ".join("?" * (1 + len(columns)))
    values = ", ".join(
        f"{name} = coalesce(excluded.{name}, {name})" if name in kept
        else f"{name} = excluded.{name}" for name in columns
    )  # fmt: skip
    new = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
    return f"{new} ON CONFLICT ({key}) DO UPDATE SET {values}"


def _count(value: object) -> int:
    """A stored number; 0 if an older program has not written it, or it is damaged."""
    is_number = re.fullmatch(r"\d{1,15}", str(value), re.ASCII)
    return int(str(value)) if is_number else 0


def _event(row: Mapping[str, Any]) -> Event:
    """The event in a row of EVENT_QUERY, however broken that is."""
    reason, command, result = row["reason"], row["command"], row["result"]
    return Event(
        id=row["id"],
        at=iso_time(row["at"]) or EPOCH,
        uid=Uid(str(row["uid"])) if row["uid"] else None,
        holder=str(row["holder"]),
        reason=Change(reason) if reason in list(Change) else _word(Reason, reason),
        command=_word(Command, command) if command else None,
        source=printable(str(row["source"]), 40),
        result=_word(Result, result) if result else None,
        latency_ms=row["latency_ms"] if isinstance(row["latency_ms"], int) else None,
        detail=str(row["detail"]),
        point=str(row["point"] or ""),
        request=str(row["request"] or ""),
        note=str(row["note"] or ""),
    )


def _word(kind: type[enum.StrEnum], value: object) -> Any:
    """One of ``kind``; a newer version's word stays as it is, though safe to show."""
    text = printable(str(value), 40)
    return kind(text) if text in list(kind) else text


EVENT_QUERY = """
SELECT e.id, e.at, e.uid, e.holder, e.reason, e.command, e.source,
       o.result, o.latency_ms, coalesce(o.detail, '') AS detail, e.point, e.request,
       e.note
FROM events e LEFT JOIN outcomes o ON o.event = e.id
"""
#: A verb moves a lock and its fallback in less, even with the longest confirm_s.
VERB_S = 900.0

CHAIN_QUERY = "SELECT id, hash FROM chains WHERE name = ?"
CHAIN_UPDATE = _upsert("chains", "name", "id", "hash")
LOOK_AHEAD = 500  # rows that a wrong clock may have put into the future


class Sought(NamedTuple):
    """A filter of events: one card, a part of the holder's name, denials only, and the
    location and the device that Digital ID was asked for."""

    uid: Uid | None = None
    holder: str = ""
    denied: bool = False
    location: str = ""
    device: str = ""


EVERYTHING = Sought()
IN_NOTE = "instr('; ' || e.note || ';', '; {}=' || ? || ';')"


class SqliteEvents(SqliteFile):
    """The event log.  It is a file of its own, beside the list: a power cut during a
    tap finds only this one open, and a long import delays no tap."""

    schema = (LOG_TABLES, REQUEST_COLUMNS, NOTE_COLUMN, FORGOTTEN_TABLE)
    page = 500
    batch = 200  # rows that are changed at once: the door waits for them

    def begin(self, event: Event, notes: Notes = NO_NOTES) -> int:
        with self._noting(notes) as db:
            return _begin(db, event)

    def finish(self, event: Event, notes: Notes = NO_NOTES) -> None:
        with self._noting(notes) as db:
            ended = db.execute("SELECT 1 FROM outcomes WHERE event = ?", (event.id,))
            if not ended.fetchone():  # else it was closed as interrupted meanwhile
                _finish(db, event)

    def record(self, event: Event, notes: Notes = NO_NOTES) -> None:
        """In one transaction: whoever reads the log sees no event without its end."""
        with self._noting(notes) as db:
            _finish(db, event._replace(id=_begin(db, event)))

    def keep(self, notes: Notes) -> None:
        with self._noting(notes):
            pass

    def recall(self, name: str) -> str | None:
        rows = self._query("SELECT value FROM states WHERE name = ?", name)
        return rows[0][0] if rows and isinstance(rows[0][0], str) else None

    def noted(self, kind: NoteKey) -> dict[str, str]:
        """The notes of several, by what follows ``kind``, that are not empty."""
        some = "SELECT name, value FROM states WHERE name LIKE ? AND value <> ''"
        rows = self._query(some, f"{kind} %")
        return {str(name).partition(" ")[2]: str(value) for name, value in rows}

    def last_moved(self, uid: Uid) -> datetime | None:
        moved = "uid = ? AND result IN ('unlocked', 'locked', 'unsure')"
        joined = f"JOIN outcomes o ON event = e.id WHERE {moved} ORDER BY e.id DESC"
        return self._first_at(joined, uid)

    def last_seen(self, uid: Uid, holder: str = "") -> datetime | None:
        """When this card was last presented, as far as the log goes back; or when
        ``holder``, a user of the chat, last asked for a move: the log has no number."""
        which, value = "source IN ('card', 'secure-card') AND uid = ?", str(uid)
        if ":" in uid:
            which, value = "source = 'chat' AND holder = ?", holder
        return self._first_at(f"WHERE {which} ORDER BY id DESC", value)

    def oldest_at(self) -> datetime | None:
        return self._first_at("ORDER BY id")

    def newest_at(self) -> datetime | None:
        return self._first_at("WHERE at < ':' ORDER BY at DESC")  # others are no times

    def _first_at(self, rest: str, *values: object) -> datetime | None:
        """The time in the first row; None without one that makes sense."""
        rows = self._query(f"SELECT at FROM events e {rest} LIMIT 1", *values)  # noqa: S608
        return iso_time(rows[0][0]) if rows else None

    def close_interrupted(self) -> int:
        """An event of a verb that moves the lock itself is left to the verb for
        VERB_S."""
        now, alive, dead = datetime.now(UTC), list[int](), list[int]()
        with self._transaction() as db:
            newest = self.last_id()
            # Earlier starts have settled all before: a long log must not slow this one.
            more = {"e.id > ?": _count(self.recall(NoteKey.SETTLED)),
                    "e.reason = ? AND o.id IS NULL": Reason.GRANTED}  # fmt: skip
            for event in self._rows(EVERYTHING, more, "e.id", -1):
                is_verbs = event.source == "command" and not event.request
                is_recent = now - timedelta(seconds=VERB_S) <= event.at <= now
                (alive if is_verbs and is_recent else dead).append(event.id)
            for event_id in dead:
                values = event_id, Result.INTERRUPTED, None, "found unfinished"
                _append(db, "outcomes", values)
        settled = str(min(alive, default=newest + 1) - 1)
        if settled != self.recall(NoteKey.SETTLED):  # idle time writes nothing
            self.keep(Notes({NoteKey.SETTLED: settled}))
        return len(dead)

    def forget(self, before: datetime, now: datetime, limit: int) -> int:
        """Rows are removed from the front only, or the chain would break.  So events
        that a wrong clock put into the future go together with the old ones after them.
        Outcomes are in the order in which events ended: each goes once all before it
        may go."""
        early, late = utc_text(before), utc_text(now)
        front = "SELECT id, hash, {} FROM {} ORDER BY id LIMIT ?".format
        with self._transaction() as db:
            rows = db.execute(front("at", "events"), (limit + LOOK_AHEAD,))
            events = list(takewhile(lambda r: not early <= str(r["at"]) <= late, rows))
            while events and str(events[-1]["at"]) > late:
                events.pop()
            events = events[:limit]
            start = db.execute(CHAIN_QUERY, ("events-start",)).fetchone()
            last = _count((events[-1] if events else start or [0])[0])
            # More of them: none may stay whose event, or proof of forgetting, is gone.
            rows = db.execute(front("event", "outcomes"), (2 * limit,))
            outcomes = list(takewhile(lambda r: _count(r["event"]) <= last, rows))
            for table, old in (("events", events), ("outcomes", outcomes)):
                if old:
                    last_id, linked, _ = old[-1]
                    db.execute(f"DELETE FROM {table} WHERE id <= ?", (last_id,))  # noqa: S608
                    db.execute(CHAIN_UPDATE, (f"{table}-start", last_id, linked))
            db.execute("DELETE FROM forgotten WHERE event <= ?", (last,))
            # Of people who have left, or came so long ago.
            gone = NoteKey.PRESENT.of("*"), f'{{"since": "{early}'
            db.execute("DELETE FROM states WHERE name GLOB ? AND value < ?", gone)
        return len(events) + len(outcomes)

    def tidy(self) -> None:
        self.close_interrupted()  # that of a verb that was alive at the start
        with self._guarded():
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def read(
        self,
        since: datetime | None = None,
        sought: Sought = EVERYTHING,
        after_id: int = 0,
    ) -> Iterator[Event]:
        """The events ``sought`` of ``since`` and later, with an id above ``after_id``,
        oldest first; a page at a time, or a slow consumer would make the -wal grow."""
        early = utc_text(since) if since else ""
        if early:
            # Ids are the order of the log, and a clock may jump.  (Without the + SQLite
            # takes the smallest id to be near the beginning.)
            first = "SELECT coalesce(min(+id) - 1, ?) FROM events WHERE at >= ?"
            rows = self._query(first, sys.maxsize, early)
            after_id = max([after_id, *(before for (before,) in rows)])
        while True:
            # The + keeps SQLite with the ids: by `at` it would have to sort them.
            more = {"e.id > ?": after_id, "+e.at >= ?": early}
            found = self._rows(sought, more, "e.id", self.page)
            yield from found
            if len(found) < self.page:
                return
            after_id = found[-1].id

    def latest(self, count: int, sought: Sought = EVERYTHING) -> list[Event]:
        """The last ``count`` events ``sought``, oldest first."""
        return self._rows(sought, {}, "e.id DESC", count)[::-1]

    def last_id(self, chain: str = "events") -> int:
        """The id of the newest event; in ``events-start``, of the last one that
        `forget` removed."""
        return self.head(chain)[0]

    def head(self, chain: str) -> tuple[int, str]:
        """The id and the hash of the newest row of events or outcomes."""
        rows = self._query(CHAIN_QUERY, chain)
        return (_count(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def verify(self) -> str | None:
        """The first row of the log that was changed, removed or put out of order,
        in words; None if there is none."""
        if not self.exists():
            return None
        with self._guarded():
            db = self._connection()
            db.execute("BEGIN")  # all is read as of one moment
            with db:
                proofs, problem = _proofs(db)
                problems = (_broken_link(db, table, proofs) for table in CHAINED)
                return problem or next(filter(None, problems), None)

    def named(
        self, redaction: Redaction, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """The rows up to these ids that it changes: table, row, and what that becomes.
        A card that is another person's in a row stays there."""
        for table, personal in PERSONAL.items():
            which = f"FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
            sql, after_id = f"SELECT {', '.join(CHAIN_COLUMNS[table])} {which}", 0
            while rows := self._query(sql, after_id, ends[table], self.page):
                for row in map(dict, rows):
                    after = row | {n: redaction(str(row[n] or "")) for n in personal}
                    if table == "events":
                        is_own = (after["holder"] or after["uid"]) == FORGOTTEN
                        after["uid"] = None if is_own else row["uid"]
                        after["holder"] = FORGOTTEN if is_own else after["holder"]
                    if after != row:
                        yield table, row, after
                after_id = rows[-1]["id"]

    def forget_person(
        self, redaction: Redaction, event: Event, pause: Callable[[], object]
    ) -> int:
        """Remove a person from all rows, and log ``event``.  Returns how many rows.

        Rows keep their hash, so the chain holds.  First the event is logged, with a
        digest of what will remain of the rows: until a row is changed it verifies by
        its hash, and then by that digest.  So a program that is killed leaves a log
        that verifies, and the next call finds the other rows.  They are changed a few
        at a time, with a ``pause``, as the door may have to write meanwhile.
        """
        ends = {table: self.last_id(table) for table in PERSONAL}
        named = self.named(redaction, ends)
        remains = [_remains(table, after.values()) for table, _, after in named]
        proof = b"".join(remains)
        words = f"{event.note}: {counted(len(remains), 'row')}; {_digest(proof).hex()}"
        with self._transaction() as db:
            number = _begin(db, event._replace(note=words))
            db.execute("INSERT INTO forgotten VALUES (?, ?)", (number, proof))
        known, changes = set(remains), self.named(redaction, ends)
        while some := list(islice(changes, self.batch)):
            with self._transaction() as db:
                for table, row, after in some:
                    if _remains(table, after.values()) in known:
                        _replace(db, table, row, after)
            pause()
        return len(remains)

    def forgotten(self) -> dict[int, int]:
        """The events that forgot somebody, and in how many rows each."""
        size = f"SELECT event, length(rows) / {DIGEST_BYTES} FROM forgotten"  # noqa: S608
        return dict(map(tuple, self._query(size)))

    def holders(self) -> dict[str, set[Uid]]:
        """Everybody whom the log names, with their cards."""
        found = defaultdict[str, set[Uid]](set)
        for holder, uid in self._query("SELECT DISTINCT holder, uid FROM events"):
            found[str(holder)] |= {Uid(str(uid))} if uid else set()
        return found

    @contextlib.contextmanager
    def _noting(self, notes: Notes) -> Iterator[sqlite3.Connection]:
        """A transaction that also keeps ``notes``."""
        counted = """
            INSERT INTO states (name, value) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
        """
        with self._transaction() as db:
            db.executemany(_upsert("states", "name", "value"), notes.words.items())
            db.executemany(counted, notes.counts.items())
            yield db

    def _rows(
        self, sought: Sought, more: dict[str, Any], order: str, count: int
    ) -> list[Event]:
        """``more`` are further conditions, each with the value of its question mark."""
        not_denied = tuple(word.value for word in (Reason.GRANTED, *Change))
        of_sought = {
            "e.uid = ?": sought.uid,
            "instr(without_accents(e.holder), ?)": without_accents(sought.holder),
            f"? AND e.reason NOT IN {not_denied}": sought.denied,
            IN_NOTE.format("location"): sought.location,
            IN_NOTE.format("device"): sought.device,
        }
        conditions = {"?": 1, **more, **{c: v for c, v in of_sought.items() if v}}
        sql = f"{EVENT_QUERY} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?"
        rows = self._query(sql, *conditions.values(), count)
        return [_event(dict(row)) for row in rows]


_as_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode


def chain_hash(previous: str, row: Sequence[Any], later: Sequence[Any] = ()) -> str:
    """Ties ``row`` to the one before: SHA-256 over both, in hex.  ``later`` are its
    values of CHAINED_LATER; an empty note is left out, as older versions had none."""
    *older, note = later or [""]
    row = [*row, *(later if note else older if any(older) else ())]
    return hashlib.sha256(_as_json([previous, *row]).encode()).hexdigest()


def _append(db: sqlite3.Connection, table: str, values: Sequence[object]) -> int:
    """Add a row to one of the chained tables; returns its id."""
    end = db.execute(CHAIN_QUERY, (table,)).fetchone()
    if end is None or not re.fullmatch(r"\d{1,15}", str(end["id"]), re.ASCII):
        raise sqlite3.DataError(f"not known: where the {table} end")
    number, first, names = int(end["id"]) + 1, len(CHAINED[table]), CHAIN_COLUMNS[table]
    row = (number, *values)
    linked = chain_hash(end["hash"], row[:first], row[first:])
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
    db.execute(insert, (*row, linked))
    db.execute(CHAIN_UPDATE, (table, number, linked))
    return number


def _begin(db: sqlite3.Connection, event: Event) -> int:
    values = (
        utc_text(event.at), event.uid, event.holder, event.reason, event.command,
        event.source, event.point, event.request, printable(event.note, 600),
    )  # fmt: skip
    return _append(db, "events", values)


def _finish(db: sqlite3.Connection, event: Event) -> None:
    result = event.result or ""  # none: nothing was to be moved
    values = event.id, result, event.latency_ms, printable(event.detail)
    _append(db, "outcomes", values)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _remains(table: str, row: Iterable[Any]) -> bytes:
    """The digest of a row, with its hash, from which a name was removed."""
    return _digest(_as_json([table, *row]).encode())


def _proofs(db: sqlite3.Connection) -> tuple[set[bytes], str | None]:
    """The digests of all rows from which a name was removed; and what is wrong with
    them, in words."""
    found, known = "events LEFT JOIN forgotten ON event = id", set[bytes]()
    query = f"SELECT id, note, rows FROM {found} WHERE reason = ?"  # noqa: S608
    for number, note, proof in db.execute(query, (Change.FORGET,)):
        is_whole = isinstance(proof, bytes) and _digest(proof).hex() == str(note)[-32:]
        if not is_whole:
            return known, f"forgotten: the digests of row {number} were changed"
        known |= {
            proof[n : n + DIGEST_BYTES] for n in range(0, len(proof), DIGEST_BYTES)
        }
    return known, None


def _replace(
    db: sqlite3.Connection, table: str, row: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Change the columns of PERSONAL, unless another process just did."""
    changes = ", ".join(f"{name} = ?" for name in PERSONAL[table])
    as_before = " AND ".join(f"{name} IS ?" for name in ("id", *PERSONAL[table]))
    new, old = ([each[name] for name in PERSONAL[table]] for each in (after, row))
    update = f"UPDATE {table} SET {changes} WHERE {as_before}"  # noqa: S608
    db.execute(update, (*new, row["id"], *old))


def _broken_link(
    db: sqlite3.Connection, table: str, proofs: Collection[bytes]
) -> str | None:
    start, previous = db.execute(CHAIN_QUERY, (f"{table}-start",)).fetchone() or (0, "")
    last_id = _count(start)
    first = len(CHAINED[table])
    names = ", ".join(CHAIN_COLUMNS[table])
    for *row, linked in db.execute(f"SELECT {names} FROM {table} ORDER BY id"):  # noqa: S608
        if row[0] <= last_id:
            return f"{table}: row {row[0]} was put in"
        if row[0] != last_id + 1:
            return f"{table}: row {last_id + 1} is missing"
        is_kept = chain_hash(previous, row[:first], row[first:]) == linked
        if not is_kept and FORGOTTEN in str(row):
            is_kept = _remains(table, [*row, linked]) in proofs
        if not is_kept:
            return f"{table}: row {row[0]} was changed"
        previous, last_id = linked, row[0]
    end = db.execute(CHAIN_QUERY, (table,)).fetchone()
    if end is None or tuple(end) != (last_id, previous):
        return f"{table}: rows after {last_id} are missing"
    return None


################################################################################
# 17. People -- the list of people, and the inbox
################################################################################


CARDS_TABLES = """
CREATE TABLE cards (
    uid TEXT PRIMARY KEY, holder TEXT NOT NULL, enabled INTEGER NOT NULL,
    valid_from TEXT, valid_until TEXT, schedule TEXT, role TEXT NOT NULL,
    added_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
#: ``kind`` is "uid" or "holder"; ``name`` a UID, or a holder's name ``folded``.
BLOCKS_TABLE = """
CREATE TABLE blocks (
    kind TEXT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL,
    since TEXT NOT NULL, who TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID
"""
PASSES_TABLE = """
CREATE TABLE passes (
    id TEXT PRIMARY KEY, once INTEGER NOT NULL, ends TEXT NOT NULL,
    holder TEXT NOT NULL, made_at TEXT NOT NULL, made_by TEXT NOT NULL,
    starts TEXT, schedule TEXT, used_at TEXT, revoked_at TEXT
) WITHOUT ROWID
"""
PROOF_COLUMNS = """
ALTER TABLE cards ADD COLUMN proof TEXT;
ALTER TABLE cards ADD COLUMN generation INTEGER;
CREATE INDEX cards_proof ON cards (proof) WHERE proof IS NOT NULL
"""
#: A card that is taken off the list has no limits when it is put there again.
SWITCH_OFF = """
UPDATE cards SET enabled = 0, valid_from = NULL, valid_until = NULL, schedule = NULL,
    role = 'holder' WHERE uid = ?
"""


def _limit_of(value: Any) -> date | None:
    """A limit of an entry.  For a program that knows only days, an entry with a time
    of day is broken: it refuses the card, and opens neither longer nor earlier."""
    return None if value in (None, "") else parse_limit(value)


#: How the columns of an entry of the list are read; what makes no sense raises
#: LookupError, TypeError or ValueError.
CARD_VALUES: dict[str, Callable[[Any], Any]] = {
    "holder": str.__str__,
    "enabled": {0: False, 1: True}.__getitem__,
    "valid_from": _limit_of,
    "valid_until": _limit_of,
    "schedule": lambda value: None if value is None else str.__str__(value),
    "role": lambda value: _word(Role, str.__str__(value)),
    "proof": lambda value: "" if value is None else str.__str__(value),
    "generation": lambda value: 1 if value is None else range(1, 256).index(value) + 1,
}
CARD_COLUMNS = ("uid", *CARD_VALUES, "added_at")


def _credential(uid: Uid, row: Mapping[str, Any]) -> Credential:
    """An entry of the list.  One that is broken is refused, and so is one with a value
    that only a newer version knows: that may be what protects it."""
    values: dict[str, Any] = {"holder": "unreadable"}
    # A column that was added is None, "" or 0 where nobody has set it.
    newer = [n for n in row if n not in CARD_COLUMNS and row[n] not in (None, "", 0)]
    why = ""
    for name, read in CARD_VALUES.items():
        try:
            values[name] = read(row.get(name))
        except (LookupError, TypeError, ValueError):
            value = printable(repr(row.get(name)), 40)
            why = f"its entry in the database is broken: {name} is {value}"
    if not isinstance(role := values.pop("role", Role.HOLDER), Role):
        newer.append(f"role {role}")
        role = Role.HOLDER
    if (proof := values.get("proof")) and proof not in PROOFS:
        newer.append(f"proof {proof}")
    if newer and not why:
        what = printable(", ".join(sorted(newer)))
        why = f"its entry needs a newer version of DoorPi ({what})"
    if why:
        values |= {"enabled": False, "refused": why}
    return Credential(uid=uid, role=role, source=Origin.DB, **values)


PASS_COLUMNS = (  # as the fields of PassCode and GuestPass
    "id", "once", "ends", "holder", "made_at", "made_by", "starts", "schedule",
    "used_at", "revoked_at",
)  # fmt: skip


def _guest_pass(row: Mapping[str, Any]) -> GuestPass:
    """The pass in a row of passes.  Raises: DataError if a limit of it is broken."""
    values = dict(row)
    for name in ("ends", "made_at", "starts", "used_at", "revoked_at"):
        at = values[name] = iso_time(row[name])
        if at is None and (row[name] is not None or name in ("ends", "made_at")):
            raise sqlite3.DataError(f"guest pass {row['id']}: {name} is broken")
    for name in ("id", "holder", "made_by"):
        values[name] = str(row[name])
    pass_id, is_once, ends, *rest = (values[name] for name in PASS_COLUMNS)
    return GuestPass(PassCode(pass_id, ends, bool(is_once)), *rest)


SYNCED_TABLES = """
CREATE TABLE members (
    source TEXT NOT NULL, uid TEXT NOT NULL, holder TEXT NOT NULL,
    enabled INTEGER NOT NULL, valid_from TEXT, valid_until TEXT, schedule TEXT,
    id TEXT NOT NULL, plan TEXT NOT NULL, refusal TEXT NOT NULL, spans TEXT NOT NULL,
    is_missing INTEGER NOT NULL, PRIMARY KEY (source, uid)
) WITHOUT ROWID;
CREATE INDEX members_uid ON members (uid);
CREATE TABLE sources (
    source TEXT PRIMARY KEY, read_at TEXT NOT NULL, trusted_until TEXT NOT NULL
) WITHOUT ROWID
"""
#: For published lists.  ``mark`` tells which list is in force, ``hours`` is what its
#: schedules mean (``schedules_from``).
PUBLISHED_COLUMNS = """
ALTER TABLE members ADD COLUMN proof TEXT;
ALTER TABLE members ADD COLUMN generation INTEGER;
ALTER TABLE members ADD COLUMN refused TEXT;
CREATE INDEX members_proof ON members (proof) WHERE proof IS NOT NULL;
ALTER TABLE sources ADD COLUMN mark TEXT;
ALTER TABLE sources ADD COLUMN hours TEXT
"""
MEMBER_QUERY = "SELECT * FROM members JOIN sources USING (source)"
MEMBER_COLUMNS = (
    "holder", "enabled", "valid_from", "valid_until", "schedule", "id", "plan",
    "refusal", "spans", "is_missing", "source", "uid", "proof", "generation", "refused",
)  # fmt: skip


MEMBER_INSERT = (
    f"INSERT OR REPLACE INTO members ({', '.join(MEMBER_COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join('?' * len(MEMBER_COLUMNS))})"
)


def _member_row(source: str, card: Credential) -> tuple[object, ...]:
    """The values of MEMBER_COLUMNS."""
    rule = card.membership or Membership("", "", EPOCH)
    spans = json.dumps(rule.spans, default=datetime.isoformat)
    return (
        card.holder, int(card.enabled), card.valid_from and str(card.valid_from),
        card.valid_until and str(card.valid_until), card.schedule, rule.id, rule.plan,
        rule.refusal or "", spans, 0, source, card.uid, card.proof or None,
        card.generation if card.proof else None, card.refused or None,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def schedules_from(text: str) -> Schedules:
    """The schedules of a list, by name, as JSON.  Raises: what CARD_VALUES raise."""
    return {
        name: Schedule(
            name,
            tuple(map(parse_span, each["times"])),
            frozenset(map(date.fromisoformat, each["closed"])),
            tuple(each["times"]),
        )
        for name, each in json.loads(text).items()
    }


def _member(row: Mapping[str, Any]) -> Credential:
    """A row of MEMBER_QUERY; a broken one admits nobody."""
    uid = Uid(str(row["uid"]))
    source = Origin(str(row["source"]).partition(" ")[0])
    entry = {name: row[name] for name in CARD_COLUMNS if name in row}
    card = _credential(uid, {**entry, "role": Role.HOLDER})
    if why := row.get("refused"):
        card = card._replace(enabled=False, refused=str(why))
    card = card._replace(source=source)
    try:
        hours = schedules_from(row.get("hours") or "{}").get(card.schedule or "")
        if not row["trusted_until"]:
            return card._replace(hours=hours)
        spans = (map(datetime.fromisoformat, span) for span in json.loads(row["spans"]))
        membership = Membership(
            id=row["id"],
            plan=row["plan"],
            trusted_until=datetime.fromisoformat(row["trusted_until"]),
            refusal=Reason(row["refusal"]) if row["refusal"] else None,
            spans=tuple((start, end) for start, end in spans),
        )
        return card._replace(membership=membership, hours=hours)
    except (LookupError, TypeError, ValueError):
        why = "its entry in the database is broken"
        return card._replace(enabled=False, refused=why)


class SyncedPeople(SqliteFile):
    """synced.db: the people of membership systems, of lists at web addresses and of the
    published list, which `doorpi online` keeps up to date.  A ``source`` is the place
    of its table in the settings: ``cobot``, ``list 1 ("members")``, ``mqtt``.

    It is a separate file so that no fault of a synced list can damage the owner's
    list.  Every method raises StoreError.
    """

    schema = (SYNCED_TABLES, PUBLISHED_COLUMNS)

    def find(self, uid: Uid) -> Credential | None:
        """If several sources know the card, the published list counts, or else the
        first that has it enabled.  ``01234567*`` is one known by only four bytes."""
        order = "ORDER BY source = 'mqtt' DESC, enabled DESC, source LIMIT 1"
        which = f"WHERE uid IN (?, ?) {order}"
        rows = self._query(f"{MEMBER_QUERY} {which}", uid, f"{uid[:8]}*")
        return _member(dict(rows[0]))._replace(uid=uid) if rows else None

    def cards(self, source: str = "") -> Iterator[Credential]:
        """The cards of ``source``, or all, by holder."""
        which = "WHERE source = ?" if source else "WHERE ? = ''"
        query = f"{MEMBER_QUERY} {which} ORDER BY holder, uid, source"
        yield from (_member(dict(row)) for row in self._query(query, source))

    def read_at(self, source: str) -> datetime | None:
        """When its list was last confirmed."""
        query = "SELECT read_at FROM sources WHERE source = ?"
        return next((iso_time(row[0]) for row in self._query(query, source)), None)

    def mark_of(self, source: str) -> str:
        """The ``mark`` with which its list was put in force; "" without a list."""
        query = "SELECT mark FROM sources WHERE source = ?"
        return next((str(row[0] or "") for row in self._query(query, source)), "")

    def count(self, source: str) -> int:
        query = "SELECT count(*) FROM members WHERE source = ?"
        return next((int(row[0]) for row in self._query(query, source)), 0)

    def has_secure_cards(self) -> bool:
        found = "SELECT 1 FROM members WHERE proof IS NOT NULL AND enabled LIMIT 1"
        return bool(self._query(found))

    def replace(
        self,
        source: str,
        cards: Iterable[Credential] | None,
        at: datetime,
        trusted_until: datetime | None,
        *,
        keeps_missing_once: bool = False,
        **more: str,
    ) -> None:
        """Replace the list of ``source``, completely or not at all; ``cards`` is None
        for one that was read and has not changed, ``trusted_until`` for one that never
        is too old.  With ``keeps_missing_once``, for a list that may shift while it is
        read, people are removed only if they are missing twice in a row.  ``more``: the
        ``mark`` and ``hours`` of a published list."""
        known = ("read_at", "trusted_until", *more)
        times = utc_text(at), utc_text(trusted_until) if trusted_until else ""
        missing = "UPDATE members SET is_missing = is_missing + 1 WHERE source = ?"
        dropped = "DELETE FROM members WHERE source = ? AND is_missing > ?"
        with self._transaction() as db:
            if cards is not None:
                db.execute(missing, (source,))
                db.executemany(MEMBER_INSERT, (_member_row(source, c) for c in cards))
                db.execute(dropped, (source, int(keeps_missing_once)))
            values = source, *times, *more.values()
            db.execute(_upsert("sources", "source", *known), values)

    def put(self, source: str, card: Credential) -> None:
        """Change one person of a list that was read before."""
        with self._transaction() as db:
            db.execute(MEMBER_INSERT, _member_row(source, card))

    def keep_only(self, sources: Collection[str]) -> None:
        """Delete the lists of tables that are no longer in the settings."""
        stored = {row[0] for row in self._query("SELECT source FROM sources")}
        if others := [(source,) for source in stored.difference(sources)]:
            with self._transaction() as db:
                db.executemany("DELETE FROM members WHERE source = ?", others)
                db.executemany("DELETE FROM sources WHERE source = ?", others)


MARK_UPDATE = _upsert("marks", "name", "value")


def _changes(db: sqlite3.Connection) -> int:
    """How often the list was changed."""
    found = db.execute("SELECT value FROM marks WHERE name = 'changes'").fetchone()
    return _count(found and found[0])


def _block_key(block: Block) -> tuple[str, str]:
    return ("uid", block.uid) if block.uid else ("holder", folded(block.holder))


def _block(kind: str, name: str, holder: object, since: object, who: object) -> Block:
    """However broken the rest of a row is, it is a block."""
    at = (iso_time(since) or EPOCH).astimezone()
    uid = Uid(str(name)) if kind == "uid" else None
    return Block(uid=uid, holder=str(holder), since=at, by=str(who))


class SqlitePeople(SqliteFile):
    """The list of people that the owner's verbs and the reader make.

    After each change the list is copied (up to ``copied_up_to`` bytes), and the copy
    takes its place when it is broken or lost: people on the list must still get in on
    the day after a power cut.

    After a bad byte in a -wal, SQLite silently drops what was written later, such as a
    revocation or a lockdown.  So no change stays there, and changes are counted: a list
    that has fewer than its copy counts as broken.  The count, lockdown and blocks are
    also noted in the ``events``: damage to one file neither ends a lockdown nor lifts a
    block.
    """

    schema = (CARDS_TABLES, BLOCKS_TABLE, PASSES_TABLE, PROOF_COLUMNS)
    copied_up_to = 16_000_000
    reserve_bytes = 524_288  # for both files' -wal and -shm, and a copy of the list

    def __init__(self, path: Path, events: SqliteEvents, **how: Any) -> None:
        super().__init__(path, **how)
        self._events = events
        self.needs_tidying = False  # ``tidy`` is needed soon
        self.synced = SyncedPeople(path.with_name("synced.db"), busy_s=self._busy_s)
        self.copy = path.with_name("cards.copy")
        self._remains.append(self.copy)
        self._proofs_noted = -1  # how often the list had been changed then
        self.reserve = path.with_name("reserve")  # room for a block and a lockdown

    def find(self, uid: Uid) -> Credential | None:
        """The card as the published list has it, else this one, else a synced one;
        those that cannot be read do not count.  A secure card stays one even if this
        list cannot be read."""
        try:
            found = self.listed(uid)
        except StoreError:
            kept: str | None = None
            with contextlib.suppress(StoreError):
                kept = self._events.recall(NoteKey.SECURE.of(uid))
            proof, _, number = (kept or "").partition(" ")
            if not proof:
                raise
            found = Credential(uid, "", enabled=False, proof=proof)
            found = found._replace(generation=_count(number))
        with contextlib.suppress(StoreError):
            synced = self.synced.find(uid)
            is_published = synced and synced.source is Origin.MQTT
            found = stricter(*((synced, found) if is_published else (found, synced)))
        return found

    def published(self, uid: Uid) -> Credential | None:
        """The card as the published list has it."""
        found = self.synced.find(uid)
        return found if found and found.source is Origin.MQTT else None

    def listed(self, uid: Uid) -> Credential | None:
        """The card as this list has it."""
        rows = self._query("SELECT * FROM cards WHERE uid = ?", uid)
        return _credential(uid, dict(rows[0])) if rows else None

    def close(self) -> None:
        self.synced.close()
        super().close()

    def cards(self) -> Iterator[Credential]:
        """By holder, without entries whose UID nobody can have; a row at a time, as
        there may be a million."""
        if not self.exists():
            return
        every = "SELECT * FROM cards ORDER BY holder, uid"
        with self._guarded():
            rows = self._connection().execute(every)
            # Where the disk is full or read-only, the next query ends this one.
            for row in rows.fetchall() if self._is_fixed else rows:
                uid = str(row["uid"])
                if re.fullmatch(LISTED, uid):
                    yield _credential(Uid(uid), dict(row))

    def everybody(self) -> Iterator[Credential]:
        """Each card once, as the list that decides has it (``find``), by holder."""
        published = {card.uid for card in self.synced.cards(Origin.MQTT)}
        own = (card for card in self.cards() if card.uid not in published)
        synced = (
            card
            for card in self.synced.cards()
            if card.source is Origin.MQTT
            or not (card.uid in published or self.listed(card.uid))
        )
        return heapq.merge(own, synced, key=attrgetter("holder", "uid"))

    def has_dated_cards(self) -> bool:
        """Looks at the first cards only: the door waits, and there may be a million."""
        dated = """
            SELECT 1 FROM (SELECT * FROM cards LIMIT 10000)
            WHERE coalesce(valid_from, valid_until, nullif(schedule, '')) IS NOT NULL
            UNION SELECT 1 FROM (SELECT 1 FROM cards LIMIT 1 OFFSET 10000) LIMIT 1
        """
        return self.synced.exists() or bool(self._query(dated))

    def has_secure_cards(self) -> bool:
        """By its index, as there may be a million cards; those that were revoked do not
        count."""
        with contextlib.suppress(StoreError):
            if self.synced.has_secure_cards():
                return True
        found = "SELECT 1 FROM cards WHERE proof IS NOT NULL AND enabled LIMIT 1"
        return bool(self._query(found))

    def count(self) -> int:
        """How many cards this list lets in."""
        rows = self._query("SELECT count(*) FROM cards WHERE enabled")
        return int(rows[0][0]) if rows else 0

    def fingerprint_of(self, key: str) -> str:
        return str(self._marks().get(key) or "")

    def keep_fingerprint(self, key: str, text: str) -> None:
        with self._changing(is_urgent=False) as db:
            db.execute(MARK_UPDATE, (key, text))

    def block_on(self, uid: Uid, holder: str) -> Block | None:
        keys = ("uid", uid), ("holder", folded(holder))
        found = self._blocks(*keys)
        return found.get(keys[0]) or found.get(keys[1])

    def blocks(self) -> list[Block]:
        return list(self._blocks().values())

    def _blocks(self, *keys: tuple[str, str]) -> dict[tuple[str, str], Block]:
        """The blocks with these two ``keys``, or all: those on the list, and those
        that only the log knows.  A note of one that was lifted is empty."""
        sql, found = "SELECT kind, name, holder, since, who FROM blocks", {}
        which = "IN (?, ?)" if keys else "BETWEEN 'block ' AND 'block!'"
        noted = f"SELECT name, value FROM states WHERE name {which}"  # noqa: S608
        with contextlib.suppress(StoreError):
            names = (NoteKey.BLOCK.of(*key) for key in keys)
            for note, value in self._events._query(noted, *names):
                _, kind, name = [*str(note).split(" ", 2), "", ""][:3]
                if value:
                    words = ["", "", *str(value).rsplit("\n", 2)][-3:]
                    found[kind, name] = _block(kind, name, *words)
        if keys:
            sql += " WHERE (kind, name) IN (VALUES (?, ?), (?, ?))"
        try:
            rows = self._query(sql, *chain(*keys))
        except StoreError:
            if not found:
                raise
            return found
        return found | {(row[0], row[1]): _block(*row) for row in rows}

    def locked_down(self) -> bool | None:
        noted, is_noted_down = self._noted()
        try:
            marks = self._marks()
        except StoreError:
            if is_noted_down:
                return True
            raise
        changes = _count(marks.get("changes"))
        if marks.get("lockdown") or (is_noted_down and noted >= changes):
            return True
        if changes < noted:
            raise StoreError(
                f"{self.path}: changes of the list are lost: it has {changes}, the log"
                f" knows of {noted}; check who is on it with doorpi people, and then:"
                " doorpi lockdown off"
            )
        return False if "lockdown" in marks else None

    def changed_at(self) -> datetime | None:
        """When the list was last changed; None if never."""
        return iso_time(self._marks().get("changed"))

    def lost(self) -> int:
        """How many events the log has lost, where it was started again since the list
        was last changed; 0 if none, or if that cannot be found out."""
        with contextlib.suppress(StoreError):
            events = _count(self._marks().get("events"))
            return events if events > self._events.last_id() else 0
        return 0

    def _marks(self) -> dict[str, Any]:
        """``changes``: how often the list was changed; ``changed``: when; ``events``:
        how many there were then; ``lockdown``: why everybody is refused, or ""."""
        return dict(map(tuple, self._query("SELECT name, value FROM marks")))

    def change_cards(
        self,
        put: Iterable[Credential],
        remove: Iterable[Uid],
        at: datetime,
        block: Sequence[Block] = (),
        lift: Sequence[Block] = (),
        *,
        copies: bool = True,
        wiped: Iterable[Uid] = (),
    ) -> None:
        """Take ``remove`` off the list, and put ``put`` on it in place of what was
        known of their UIDs; the same with blocks: all of it or nothing.  Of a secure
        card it stays known that it is one, until it was ``wiped``."""
        insert = "INSERT OR IGNORE INTO blocks (kind, name, holder, since, who)"
        with self._changing(is_urgent=bool(block), copies=copies) as db:
            ended = map(_block_key, lift)
            db.executemany("DELETE FROM blocks WHERE kind = ? AND name = ?", ended)
            rows = ((*_block_key(b), b.holder, utc_text(b.since), b.by) for b in block)
            db.executemany(f"{insert} VALUES (?, ?, ?, ?, ?)", rows)
            removed = [(uid,) for uid in remove]
            db.executemany(SWITCH_OFF, removed)
            db.executemany("DELETE FROM cards WHERE uid = ? AND proof IS NULL", removed)
            of_wiped = ((uid,) for uid in wiped)
            db.executemany("DELETE FROM cards WHERE uid = ?", of_wiped)
            cards = (
                (c.uid, c.holder, c.enabled, c.valid_from and str(c.valid_from),
                 c.valid_until and str(c.valid_until), c.schedule, c.role.value,
                 c.proof or None, c.generation if c.proof else None, utc_text(at))
                for c in put
            )  # fmt: skip
            # Whoever puts it: a card that must prove itself never becomes a plain one.
            kept = ("proof", "generation")
            db.executemany(_upsert("cards", *CARD_COLUMNS, kept=kept), cards)
            db.execute(MARK_UPDATE, ("changed", utc_text(at)))
        self._note(block, lift)

    def add_card(self, card: Credential, at: datetime) -> None:
        self.change_cards([card], [], at, copies=False)

    def content(self) -> bytes:
        """The whole list as an SQLite file."""
        with self._transaction() as db:
            return db.serialize()

    def passes(self) -> list[GuestPass]:
        """All guest passes, the latest first."""
        rows = self._query("SELECT * FROM passes ORDER BY made_at DESC")
        with self._guarded():
            return [_guest_pass(dict(row)) for row in rows]

    def find_pass(self, pass_id: str) -> GuestPass | None:
        rows = self._query("SELECT * FROM passes WHERE id = ?", pass_id)
        with self._guarded():
            return _guest_pass(dict(rows[0])) if rows else None

    def put_pass(self, guest_pass: GuestPass, forget_before: datetime) -> None:
        """Add a pass, or change it; forget those that ended before that time."""
        (pass_id, ends, is_once), *rest = guest_pass
        times = [each and utc_text(each) if isinstance(each, datetime) else each
                 for each in (ends, *rest)]  # fmt: skip
        with self._changing(is_urgent=bool(guest_pass.revoked_at)) as db:
            db.execute(_upsert("passes", *PASS_COLUMNS), (pass_id, is_once, *times))
            old = (utc_text(forget_before),)
            db.execute("DELETE FROM passes WHERE ends < ?", old)

    def use_pass(self, pass_id: str, at: datetime | None) -> bool:
        """Note that a pass was used; with None, that it was not used after all."""
        used = "UPDATE passes SET used_at = ? WHERE id = ? AND (used_at IS NULL) = ?"
        values = at and utc_text(at), pass_id, at is not None
        with self._changing(is_urgent=False, copies=False) as db:
            return db.execute(used, values).rowcount == 1

    def lock_down(self, why: str) -> None:
        """Refuse everybody from now on, until ``why`` is empty."""
        with self._changing(is_urgent=True) as db:
            db.execute(MARK_UPDATE, ("lockdown", why))
        self._note()

    def tidy(self) -> None:
        if self.exists():
            self._secure()
            if _count(self._marks().get("changes")) > self._noted()[0]:
                self._note(self.blocks())
            self._note_proofs()
        needed = 4 * self.reserve_bytes  # three times as much stays for all else
        try:
            if file_at(self.reserve) or _has_no_room(self.path.parent, needed):
                return
            with self.reserve.open("xb") as file:  # which follows no link
                os.posix_fallocate(file.fileno(), 0, self.reserve_bytes)
        except OSError as error:
            log.warning("%s: no room is kept back: %s", self.reserve, error.strerror)

    @contextlib.contextmanager
    def _changing(
        self, *, is_urgent: bool, copies: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """A transaction that changes the list; on a full disk, if ``is_urgent``, in
        the room that was kept back.  However it ends, no copy from before is left: it
        would let in people who are no longer on the list."""
        noted, newest = self._noted()[0], 0
        with contextlib.suppress(StoreError):
            newest = self._events.last_id()
        with self._guarded():
            room = self.path.parent, self.reserve_bytes
            if is_urgent and file_at(self.reserve) and _has_no_room(*room):
                self.reserve.unlink()
        with self._transaction() as db:
            yield db
            db.execute(MARK_UPDATE, ("changes", max(noted, _changes(db)) + 1))
            db.execute(MARK_UPDATE, ("events", newest))
            self.copy.unlink(missing_ok=True)
        self.needs_tidying = True
        if copies:
            self._secure()

    def _redacting(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self._changing(is_urgent=False)

    def redact(self, redaction: Redaction, but: Collection[str] = ()) -> int:
        if changed := super().redact(redaction, but):
            self._note()
        return changed

    def _open(self) -> sqlite3.Connection:
        """Raises: Spoilt, where the copy has later changes."""
        _refuse_odd(self.path)
        if _is_empty(self.path) and file_at(self.copy):
            _refuse_odd(self.copy)
            self.copy.rename(self.path)  # not copied: it may be broken too
            self.needs_tidying = True
            log.error("%s was lost: its last copy has taken its place", self.path)
        db, is_behind = super()._open(), False
        # No copy, or a broken one, proves nothing.
        with contextlib.suppress(*TROUBLES), _read_only(self.copy) as copy:
            copied, mine = _changes(copy), _changes(db)  # a copy is made after a change
            check = "PRAGMA quick_check(1)"
            is_behind = copied > mine and copy.execute(check).fetchone() == ("ok",)
        if is_behind:
            raise Spoilt(
                f"changes are lost: it has {mine}, its copy {copied} (to put back an"
                f" older list, remove {self.copy} first)"
            )
        return db

    def _secure(self) -> None:
        """Move changes out of the -wal, unless another process is reading it; and copy
        the list if there is no copy.  The copy gets its name only when it is complete
        and the list has not changed meanwhile.  Trouble sets nothing aside."""
        self.needs_tidying = False  # also after trouble: the next try is in an hour
        flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
        try:
            with self._guarded():
                if not _is_empty(_wal(self.path)):
                    self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if file_at(self.copy) or self.path.stat().st_size > self.copied_up_to:
                return
            with self._transaction() as db:
                count, content = _changes(db), db.serialize()
            with os.fdopen(os.open(self.copy.parent, flags, 0o640), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                with self._transaction() as db:  # the list cannot change here
                    if count == _changes(db):
                        unnamed = f"/proc/self/fd/{file.fileno()}"
                        os.link(unnamed, self.copy, src_dir_fd=file.fileno())
        except FileExistsError:
            pass  # another process has made it
        except (StoreError, *TROUBLES) as error:
            log.warning("the list was not copied to %s: %s", self.copy, error)

    def _noted(self) -> tuple[int, str]:
        """What the log knows of the list: how often it was changed, and why it was
        locked down."""
        text = ""
        with contextlib.suppress(StoreError):
            text = self._events.recall(NoteKey.LIST) or ""
        changes, _, lockdown = text.partition(" ")
        return _count(changes), lockdown

    def _note_proofs(self) -> None:
        """Note beside the log how each secure card proves itself, after a change."""
        changes = _count(self._marks().get("changes"))
        if changes == self._proofs_noted:
            return
        secure = "SELECT uid, proof, generation FROM cards WHERE proof IS NOT NULL"
        rows = self._query(f"{secure} LIMIT 10000")
        now = {row[0]: f"{row[1]} {row[2] or 1}" for row in rows}
        before = self._events.noted(NoteKey.SECURE)
        news = {
            u: now.get(u, "") for u in {*now, *before} if now.get(u) != before.get(u)
        }
        if news:
            self._events.keep(Notes({NoteKey.SECURE.of(u): t for u, t in news.items()}))
        self._proofs_noted = changes

    def _note(self, block: Iterable[Block] = (), lift: Iterable[Block] = ()) -> None:
        try:
            marks = self._marks()
            words = {NoteKey.BLOCK.of(*_block_key(each)): "" for each in lift}
            for each in block:
                text = f"{each.holder}\n{utc_text(each.since)}\n{each.by}"
                words[NoteKey.BLOCK.of(*_block_key(each))] = text
            lockdown = marks.get("lockdown") or ""
            words[NoteKey.LIST] = f"{_count(marks.get('changes'))} {lockdown}"
            self._events.keep(Notes(words))
        except StoreError as error:
            if any(_block_key(each) in self._blocks() for each in lift):
                raise  # it is noted still, and blocks
            log.warning("not noted that the list was changed: %s", error)


class SqliteStore:
    """The two databases of a state directory; ``path`` is the event log's.  ``how`` to
    open them are keywords of SqliteFile."""

    def __init__(self, path: Path, **how: Any) -> None:
        self.events = SqliteEvents(path, **how)
        self.people = SqlitePeople(path.with_name("cards.db"), self.events, **how)

    def close(self) -> None:
        self.people.close()
        self.events.close()


# The inbox: requests of other processes


#: One row a request.  ``answer`` is NULL while it waits, '' once the door has begun it.
INBOX_TABLE = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, boot TEXT NOT NULL, arrived REAL NOT NULL,
    expires REAL NOT NULL, medium TEXT NOT NULL, identifier TEXT NOT NULL,
    wants TEXT NOT NULL, point TEXT NOT NULL, answer TEXT
) WITHOUT ROWID
"""
STEPS_COLUMN = "ALTER TABLE requests ADD COLUMN steps TEXT NOT NULL DEFAULT '[]'"
INBOX_COLUMNS = "id, arrived, expires, medium, identifier, wants, point"

#: Nothing that comes through the inbox ever toggles.
INBOX_MEDIA = (Medium.COMMAND, Medium.CHAT, Medium.MQTT)
INBOX_WANTS = (Wants.UNLOCK, Wants.LOCK, Wants.STATUS)
ORDERS = (Wants.ISSUE, Wants.WIPE)  # only the owner's verbs give these

CUT_OFF = Answer(False, ["interrupted: the door was stopped meanwhile"])
NOT_UNDERSTOOD = Answer(False, ["refused: the door does not know such a request"])


class Inbox(SqliteFile):
    """Requests of other processes to the running door, in a database of its own, which
    the door makes.  Every method raises StoreError.

    A request is carried out at most once, whichever process is killed and when: the
    door marks it as begun before it acts, and its sender can take it back until then.
    An id counts once, until ``kept_s`` after its expiry.  Times are monotonic seconds:
    rows of an earlier boot are void, and nothing need be synced to the disk.
    """

    schema = (INBOX_TABLE, STEPS_COLUMN)
    synchronous = "OFF"
    kept_s = 3600.0

    def __init__(self, path: Path, clock: Clock, *, busy_s: float = 5.0) -> None:
        super().__init__(path, busy_s=busy_s)
        self.show: Callable[[str], object] = lambda line: None  # each step of an order
        self._shown = 0
        self._clock = clock
        #: The connection, and its PRAGMA data_version when nothing waited.
        self._seen: tuple[sqlite3.Connection, int] | None = None
        self._was_begun = False

    def put(self, request: AccessRequest) -> bool:
        """False where a request with this id was put before."""
        new = f"INSERT INTO requests ({INBOX_COLUMNS}, boot) VALUES "  # noqa: S608
        return self._change(
            f"{new} (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            request.id, request.arrived, request.good_until, request.medium,
            request.identifier, request.wants, request.point, self._clock.boot(),
        )  # fmt: skip

    def take_back(self, name: str, *, is_order: bool = False) -> bool:
        """True where the door has not begun it, and never will; or ends an order."""
        waiting = "DELETE FROM requests WHERE id = ? AND (answer IS NULL OR ?)"
        return self._change(waiting, name, is_order)

    def answer_to(self, name: str) -> Answer | None:
        query = "SELECT answer, steps FROM requests WHERE id = ?"
        with self._guarded():
            row = self._connection().execute(query, (name,)).fetchone()
        found, steps = row or ("", "[]")
        for line in json.loads(steps)[self._shown :]:
            self._shown += 1
            self.show(line)
        return Answer(**json.loads(found)) if found else None

    def is_gone(self) -> bool:
        """True where the file was removed or replaced: no door reads this one."""
        return self.file != file_at(self.path)

    def begin(self) -> None:
        """At the start of a door: make the file where there is none that can be used,
        and answer what an earlier door has begun.  Where a broken file was set aside,
        this fails, and the next call makes a new one."""
        self._repair = True
        with self._guarded():
            db = self._connection()
            db.execute("DELETE FROM requests WHERE boot <> ?", (self._clock.boot(),))
            if not self._was_begun:
                cut_off = "UPDATE requests SET answer = ? WHERE answer = ''"
                db.execute(cut_off, (json.dumps(CUT_OFF._asdict()),))
        self._was_begun = True

    def take(self) -> AccessRequest | None:
        """The oldest request that waits, which counts as begun from now on.  Most of
        the time this only asks whether anybody has written since."""
        waiting = f"SELECT {INBOX_COLUMNS} FROM requests WHERE answer IS NULL"  # noqa: S608
        oldest = f"{waiting} AND boot = ? ORDER BY arrived LIMIT 1"
        now = self._clock.monotonic()
        with self._guarded():
            db = self._connection()
            (version,) = db.execute("PRAGMA data_version").fetchone()
            if self._seen == (db, version):
                return None
            row = db.execute(oldest, (self._clock.boot(),)).fetchone()
        if row is None:
            self._seen = db, version
            return None
        name, arrived, expires, medium, identifier, wants, point = row
        taken = "UPDATE requests SET answer = '' WHERE id = ? AND answer IS NULL"
        if not self._change(taken, name):
            return None  # it was taken back just now
        with contextlib.suppress(ValueError):
            request = AccessRequest(
                Medium(medium), str(identifier), self._clock.now(),
                min(now, float(arrived)), float(expires),
                Wants(wants), str(point), str(name),
            )  # fmt: skip
            is_known = request.medium in INBOX_MEDIA and request.wants in INBOX_WANTS
            is_order = request.medium is Medium.COMMAND and request.wants in ORDERS
            if (is_known or is_order) and request.good_until < inf:
                return request
        self.answer(name, NOT_UNDERSTOOD)
        return None

    def report(self, name: str, lines: Sequence[str]) -> bool:
        """What was done so far; False where the sender has taken it back."""
        steps = "UPDATE requests SET steps = ? WHERE id = ?"
        return self._change(steps, json.dumps(lines), name)

    def answer(self, name: str, answer: Answer) -> None:
        text = json.dumps(answer._asdict())
        self._change("UPDATE requests SET answer = ? WHERE id = ?", text, name)
        forget = self._clock.monotonic() - self.kept_s
        self._change("DELETE FROM requests WHERE expires < ?", forget)

    def _change(self, sql: str, *values: object) -> bool:
        """True where a row was changed."""
        with self._guarded():
            return self._connection().execute(sql, values).rowcount > 0

    def _connection(self) -> sqlite3.Connection:
        """A sender's stays open: the file that a request was put into has its answer.
        Only a door makes a file."""
        if self._repair:
            return super()._connection()
        if self._db is None and not file_at(self.path):
            raise sqlite3.OperationalError("unable to open database file")
        return self._db or self._open()


################################################################################
# 18. Readers -- the NFC reader and its wiring
################################################################################


#: Sends a frame to the selected card, and returns what it answers within so many
#: seconds.  Raises: NoAnswer, ReaderLost.
Exchange = Callable[[bytes, float], bytes]


USUAL_WAIT_S = 0.1  # for a frame; NTAG 424 and DESFire need less


class NoAnswer(Exception):
    """The card does not answer, or its answer did not arrive whole."""


#: Whether the selected card proves to be the one on the list (Prover.prove); the last
#: argument selects it once more, and is False where it is gone.
Prove = Callable[[Credential, Exchange, Callable[[], bool]], "Reason | None"]


class CardSource(Source):
    """A card reader as a source of requests: one for each presentation of a card.

    ``worker`` looks for cards.  A lost reader is opened again after pauses that grow.
    With the previous reader's ``debounce``, a card that is lying there is not new.
    """

    backoff_s = (0.2, 1.5)  # first and longest wait before a lost reader is opened
    first_looks_s = 1.0
    watch_s = 0.2  # one watch of an empty field: the inbox wakes the door as often
    late_s, close_s = 1.5, 0.5

    def __init__(
        self,
        reader: NfcReader,
        config: ReaderConfig,
        clock: Clock,
        worker: Worker,
        *,
        debounce: Debounce | None = None,
        point: str = "",
        jitter: Callable[[], float] = random.random,
        prove: Prove,
    ) -> None:
        self.reader, self.worker, self._prove = reader, worker, prove
        self.presented: Card | None = None
        self.point, self.settings = point, config
        self.debounce = debounce or Debounce(config.rearm_s)
        self.debounce.rearm_s = config.rearm_s
        self.due = self._look_at = self._rests_until = -inf
        self._poll_s, self._clock = config.poll_s, clock
        self._backoff = Backoff(*self.backoff_s, jitter)
        self._used_cpu_s = clock.cpu()
        self._watch: Job[tuple[Card, float] | None] | None = None

    def open(self) -> None:
        """Find out what lies there, so that a tap counts once the door is ready."""
        self.debounce.restart()
        self._watch, self.due = self.worker.submit(self._watch_field), inf

    def poll(self, now: float) -> AccessRequest | None:
        if self._watch is None and now >= self.due:
            self._watch, self.due = self.worker.submit(self._watch_field), inf
        if self._watch is None or not self._watch.done:
            return None
        found, self._watch = self._watch.result(), None
        self.due = max(self._look_at, self._rests_until)
        if found is None:
            return None
        (card, arrived), at = found, self._clock.now()
        self.presented, point = card, self.point
        opens = self.settings.is_exit and self.settings.on_tap != "toggle"
        wants = Wants.UNLOCK if opens else Wants.TAP
        return AccessRequest(Medium.CARD, card.uid, at, arrived, inf, wants, point)

    def prove(self, credential: Credential) -> Reason | None:
        """At once after ``poll``: no other look may come between.  It is asked once in
        a presentation."""
        card, self.presented = self.presented, None
        if card is None or card.uid != credential.uid:
            return Reason.CARD_MOVED
        if not card.sak & 0x20:  # ISO/IEC 14443-3, 6.5.3.4
            return Reason.NO_PROOF

        def selects() -> bool:
            found = self.reader.sense()
            return found is not None and found.uid == credential.uid

        try:
            return self._prove(credential, self.reader.exchange, selects)
        except ReaderLost as error:
            self._lose(error)
            return Reason.PROOF_UNAVAILABLE

    def _watch_field(self) -> tuple[Card, float] | None:
        """Look for ``watch_s``, or until a card is presented, the reader is lost or the
        worker is needed; after ``open`` until the field is known to be empty.  Several
        looks in one call, because waking the door costs more."""
        began_at = self._clock.monotonic()
        while True:
            found, now = self._look(), self._clock.monotonic()
            if found or self.trouble:
                return found
            if self.debounce.is_settling and now < began_at + self.first_looks_s:
                self._clock.sleep(SHORTEST_PAUSE_S)
            elif self.worker.is_awaited or self._look_at >= began_at + self.watch_s:
                return None
            else:
                self._clock.sleep(max(0.0, self._look_at - now))

    def _look(self) -> tuple[Card, float] | None:
        """A card that is presented now, and when the look for it began."""
        due, began_at = self._look_at, self._clock.monotonic()
        try:
            card = self.reader.sense()
        except ReaderLost as error:
            self._lose(error)
            return None
        self.trouble = ""
        self._backoff.succeed()
        before_s, self._used_cpu_s = self._used_cpu_s, self._clock.cpu()
        pause = pause_s(self._used_cpu_s - before_s, self._poll_s)
        self._look_at = max(self._clock.monotonic() + pause, self._rests_until)
        if began_at - due > self.late_s:
            self.debounce.away()  # nobody watched meanwhile
        is_new = self.debounce.is_new(card.uid if card else None, began_at)
        return (card, began_at) if card and is_new else None

    def _lose(self, error: ReaderLost) -> None:
        name = f"reader {self.point}" if self.point else "card reader"
        self.trouble = f"{name}: {error}"
        self.debounce.reader_failed()
        self._look_at = self._clock.monotonic() + self._backoff.fail()

    def rest(self, until: float) -> None:
        self._rests_until = until
        if self._watch is None:  # else it is looking
            self.due = until

    def close(self) -> None:
        """A reader that no longer answers stays open until the process ends."""
        self.worker.close()
        ends_at = self._clock.monotonic() + self.close_s
        while not self.worker.is_idle and self._clock.monotonic() < ends_at:
            self._clock.sleep(SHORTEST_PAUSE_S)
        if self.worker.is_idle:
            self.reader.close()


class NfcReader:
    """A contactless reader that nfcpy drives, kept open between cards.

    PN532 on the Pi's UART: VCC to 3.3 V (pin 1), GND to pin 6, TXD to GPIO 15 (pin
    10), RXD to GPIO 14 (pin 8), the board's switches on HSU; ``tty:S0:pn532``.  A card
    is not activated: what it does after its UID does not matter.

    A PN532 that does not answer is set back to 115200 baud, from the third attempt on,
    and reset by a pulse on RSTPD_N (not RSTO), from the fourth on, where ``reset_gpio``
    is wired.  Every ``renew_s``, while no card is there, it is opened again: some
    become slow or mute within days.  One thread at a time may ``sense``, another
    ``close`` it.

    Source: PN532 user manual UM0701-02 (HSU), nfcpy issues 62, 63, 186 and 203.
    """

    renew_s = 86_400.0
    rescue_after, reset_after = 2, 3  # failures in a row

    def __init__(
        self, path: str, reset_gpio: int = -1, types: Collection[str] = ("A",)
    ) -> None:
        self._path, self._reset_gpio, self._types = path, reset_gpio, types
        self._is_pn532 = path.endswith(":pn532")
        self._failures = 0
        self._patience_s = 0.0  # with the selected card, as the chip was set up
        self._opened_at = -inf
        self.name = ""  # model and firmware, once it was opened
        self._frontend: Any = None
        #: What is looked for, in turn: FeliCa, at one of its two speeds, comes first,
        #: because a phone may show a random UID of Type A beside it.
        self._targets: Iterator[Sequence[Any]] = iter(())

    def sense(self) -> Card | None:
        """Look for a card once, and open the reader first if necessary: for 10 ms or
        so, up to 1.2 s with a reader that is failing.  Raises: ReaderLost."""
        try:
            if self._frontend is None:
                self._open()
            found = self._frontend.sense(*next(self._targets))
        except Exception as error:
            # nfcpy passes on what its drivers meet: termios.error, USBError,
            # Chipset.Error, IndexError and TypeError as well as OSError.
            self._lose(error)
        self._failures = 0  # that it could be opened proves little
        self._patience_s = 0.0
        is_old = time.monotonic() - self._opened_at > self.renew_s
        if found is None and is_old and self._is_pn532:
            self.close()
        if found is not None and found.sensf_res:
            idm = bytes(found.sensf_res[1:9]).hex().upper()
            return Card(Uid(idm)) if len(idm) == 16 else None
        if found is None or len(found.sdd_res or b"") not in TYPE_A_BYTES:
            return None
        uid = Uid(bytes(found.sdd_res).hex().upper())
        return Card(uid, atqa=bytes(found.sens_res), sak=found.sel_res[0])

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        """Send a frame to the card that ``sense`` has found, without any other call in
        between, and return its answer.  Raises: NoAnswer, ReaderLost.

        nfcpy sets up a PN532 for each frame, which takes three times as long as the
        frame; here only for the first one and for a longer wait.
        """
        errors, frontend = _nfcpy().clf.CommunicationError, self._frontend
        chip: Any = getattr(frontend and frontend.device, "chipset", None)
        chip_error = getattr(chip, "Error", errors)
        try:
            if self._is_pn532 and timeout_s <= self._patience_s:
                # The chip waits up to twice as long; what comes later would be lost.
                host_s = 2 * self._patience_s + 0.1
                return bytes(chip.in_communicate_thru(bytearray(frame), host_s))
            self._patience_s = timeout_s if timeout_s <= USUAL_WAIT_S else 0.0
            return bytes(frontend.exchange(frame, timeout_s))
        except (errors, chip_error, TimeoutError) as error:
            raise NoAnswer(f"no answer: {printable(str(error))}") from None
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> NoReturn:
        """Close the reader, which an ``error`` of its own proves to be lost."""
        why = f"{self._path}: {cause_of(error)}"
        self._failures += 1
        self.close(polite=False)
        raise ReaderLost(why) from None

    def _open(self) -> None:
        nfc = _nfcpy()
        gc.collect()  # a lost reader is claimed until its handle is collected
        if self._failures >= self.reset_after and self._reset_gpio >= 0:
            self._reset()
        if self._failures >= self.rescue_after and self._is_pn532:
            _set_to_115200(serial_port(self._path))
        frontend = nfc.ContactlessFrontend()
        if not frontend.open(usb_path(self._path)):
            raise OSError("no reader found")
        self._frontend, target = frontend, nfc.clf.RemoteTarget
        type_a = [target("106A")] * ("A" in self._types)
        rates = ("212F", "424F") if "F" in self._types else ()
        self._targets = cycle([[target(rate), *type_a] for rate in rates] or [type_a])
        self._opened_at = time.monotonic()
        if self.name != str(frontend.device):
            self.name = str(frontend.device)
            log.info("card reader: %s", self.name)

    def _reset(self) -> None:
        """Hold RSTPD_N low for 100 ms: the reader starts as after a power cut.

        Source: PN532 data sheet, table 24: 20 ns would do; 2 ms until it listens.
        """
        pin, words = self._reset_gpio, "was reset"
        try:
            import gpiozero

            with gpiozero.OutputDevice(pin, active_high=False) as line:
                line.on()
                time.sleep(0.1)
                line.off()
                time.sleep(0.05)
        except _gpio_errors() as error:
            why = printable(str(error) or type(error).__name__)
            words = f"cannot be reset through GPIO {pin}: {why}"
        if self._failures == self.reset_after:  # once, though it may fail for weeks
            log.warning("the card reader %s", words)

    def close(self, *, polite: bool = True) -> None:
        """Release the device, whatever state it is in.  nfcpy's own close() leaves file
        descriptors and the USB claim behind if the device does not answer, and its
        PowerDown makes some readers deaf until they are unplugged."""
        frontend, self._frontend = self._frontend, None
        if frontend is None:
            return
        device, frontend.device = frontend.device, None
        is_virtual = not hasattr(device, "chipset")
        steps: list[Callable[[], object]] = [
            lambda: device.chipset.transport.tty.close(),
            lambda: device.chipset.transport.close(),
        ]
        for step in [device.mute, *steps] if polite or is_virtual else steps:
            with contextlib.suppress(Exception):
                step()


USB_ANSWER_MS = 2000  # a look takes 10 to 50


@functools.cache
def _nfcpy() -> Any:
    """nfcpy, without what would slow down the import or leave the reader hung.

    It runs ldconfig, gcc and ld to find a libcrypto for its peer-to-peer part.  It
    raises a PN532 to 921600 baud (not without `stty`), where the chip stays if we are
    killed.  It makes a serial port our controlling terminal, whose loss sends SIGHUP,
    our reload; and it shares the port, so that another program gets half of the
    answers.  It waits for a USB reader without end.
    """
    import ctypes.util
    import types

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        import nfc.clf.pn532  # type: ignore[import-untyped]
    finally:
        ctypes.util.find_library = find_library
    logging.getLogger("nfc").setLevel(logging.CRITICAL)

    def open_alone(self: Any, port: str, baudrate: int = 115200) -> None:
        self.close()
        self.tty = _serial_line(port, baudrate)

    transport = nfc.clf.transport
    transport.TTY.open = open_alone
    transport.open = functools.partial(
        open, opener=lambda path, flags: os.open(path, flags | os.O_NOCTTY)
    )
    usb, ms = transport.USB, USB_ANSWER_MS
    read, write = usb.read, usb.write
    usb.read = lambda self, timeout=0: read(self, timeout or ms)
    usb.write = lambda self, frame, timeout=0: write(self, frame, timeout or ms)
    no_stty = types.SimpleNamespace(system=lambda command: 1, strerror=os.strerror)
    nfc.clf.pn532.os = no_stty
    return nfc


def serial_port(path: str) -> Path:
    """``/dev/ttyS0`` of ``tty:S0:pn532``, ``/dev/nfc0`` of ``tty:nfc0:pn532``."""
    name = path.split(":")[1]
    return DEV / (f"tty{name}" if re.match(r"(S|ACM|AMA|USB)\d", name) else name)


def _serial_line(port: str, baud: int) -> Any:
    """Open with an advisory lock, so that programs that honour it stay out."""
    import serial  # type: ignore[import-untyped]

    return serial.Serial(port, baud, timeout=0.05, write_timeout=1, exclusive=True)


def _set_to_115200(port: Path) -> None:
    """Set a PN532 back that an earlier program left at a higher baud rate.

    Source: PN532 user manual UM0701-02, 7.2.3 SetSerialBaudRate (10h, BR 4).
    """
    data = bytes([0xD4, 0x10, 0x04])
    command = b"\x00\x00\xff\x03\xfd" + data + bytes([-sum(data) & 0xFF, 0x00])
    ack = bytes.fromhex("0000ff00ff00")
    for baud in (921600, 460800, 230400):
        # Opening the reader will report what is wrong with the port.
        with contextlib.suppress(Exception), _serial_line(str(port), baud) as line:
            line.write(bytes(10) + ack + bytes(10) + command)
            if ack in line.read(6 + 9):
                line.write(ack)  # only then does it change its baud rate
                line.flush()
                time.sleep(0.01)
                log.info("%s: set back from %d to 115200 baud", port, baud)
                return


#: Readers on USB that nfcpy drives, by vendor and product.
USB_READERS: Mapping[str, str] = {
    "054c:06c1": "Sony RC-S380/S",
    "054c:06c3": "Sony RC-S380/P",
    "054c:02e1": "Sony RC-S330, RC-S360 or RC-S370",
    "054c:0193": "Sony PN531",
    "04cc:0531": "Philips PN531",
    "04cc:2533": "NXP PN533",
    "04e6:5591": "SCM SCL3711",
    "04e6:5593": "SCM SCL3712",
    "072f:2200": "ACS ACR122U",
}
USB_DEVICES = Path("/sys/bus/usb/devices")
DEV, PROC = Path("/dev"), Path("/proc")


def usb_devices() -> Iterator[tuple[str, Path, str]]:
    """For each device its vendor:product, its file, and the kernel module that holds
    its first interface ("": none).

    Source: the kernel's Documentation/ABI/stable/sysfs-bus-usb.
    """
    for folder in sorted(USB_DEVICES.glob("*")):
        try:
            vendor, product, bus, device = (
                (folder / name).read_text("ascii").strip()
                for name in ("idVendor", "idProduct", "busnum", "devnum")
            )
        except OSError:  # an interface, or unplugged meanwhile
            continue
        driver = folder / f"{folder.name}:1.0/driver"
        module = driver.resolve().name if driver.exists() else ""
        node = DEV / f"bus/usb/{int(bus):03d}/{int(device):03d}"
        yield f"{vendor}:{product}", node, module


def usb_path(path: str) -> str:
    """``usb`` or ``usb:054c`` with the product of the reader that is plugged in: only
    then does nfcpy say why it cannot be opened."""
    if not re.fullmatch(r"usb(:[0-9a-fA-F]{4})?", path):
        return path
    there = [name for name, _, _ in usb_devices() if name in USB_READERS]
    fitting = (f"usb:{name}" for name in there if name.startswith(path[4:].lower()))
    return next(fitting, path)


IN_USE = "in use by another program"


def cause_of(
    error: Exception,
    #: pyserial's answer for a port that is locked.
    meanings: Mapping[int, str] = MappingProxyType({errno.EAGAIN: IN_USE}),
) -> str:
    """What went wrong with a device or a file: what ``meanings`` says of the error's
    number, else the system's words, if there are any."""
    if isinstance(error, ImportError):
        return library_trouble(error)
    number, *words = error.args or (None,)  # of OSError and termios.error
    if number in meanings:
        return meanings[number]
    text = str(words[0] if words else error) or type(error).__name__
    is_plain = isinstance(number, int) and text == os.strerror(number)
    return printable(text.lower() if is_plain else text)


# -- a virtual card, for `tap`


def type_a_answers(uid: bytes) -> dict[str, str]:
    """What a card with this UID answers to each frame of anticollision, as hex.

    Source: ISO/IEC 14443-3, 6.5: the ATQA's upper bits are the UID's size; 93/95/97 is
    the cascade level, 20 asks for its bytes and a check byte, 70 selects; SAK 04: the
    UID goes on at the next level, after the cascade tag 88.
    """
    atqa = bytes([0x04 | TYPE_A_BYTES.index(len(uid)) << 6, 0x00]).hex()
    answers = {"26": atqa, "52": atqa}  # REQA, WUPA
    tagged = [b"\x88" + uid[i : i + 3] for i in range(0, len(uid) - 4, 3)]
    for level, part in zip(("93", "95", "97"), [*tagged, uid[-4:]], strict=False):
        checked = (part + bytes([part[0] ^ part[1] ^ part[2] ^ part[3]])).hex()
        answers[f"{level}20"] = checked
        answers[f"{level}70{checked}"] = "04"
    return answers | {f"{level}70{checked}": "00"}


def show_card(uid: bytes, address: tuple[str, int], within_s: float) -> bool:
    """Hold a card in the field of nfcpy's ``udp:`` driver: one datagram is one frame,
    ``106A 26``.  False if no reader selects it in time.

    Raises: OSError if the address is in use.
    """
    ends_at = time.monotonic() + within_s
    if len(uid) == 8:  # FeliCa: polling for any system, answered with IDm and PMm
        technology, answers = "212F", {"0600ffff0100": f"1201{uid.hex()}{16 * '0'}"}
    else:
        technology, answers = "106A", type_a_answers(uid)
    last = [*answers.values()][-1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as air:
        air.bind(address)
        while (left_s := ends_at - time.monotonic()) > 0:
            air.settimeout(left_s)
            try:
                datagram, reader = air.recvfrom(1024)
            except TimeoutError:
                break
            asked, _, frame = datagram.decode("latin-1").partition(" ")
            answer = answers.get(frame.lower()) if asked == technology else None
            if answer is not None:
                air.sendto(f"{technology} {answer}".encode(), reader)
                if answer == last:
                    return True
    return False


################################################################################
# 19. Secure cards -- ISO-DEP, proof, issuing
################################################################################

# Source, where no other is named: NXP's data sheet NT4H2421Gx (NTAG 424 DNA) and note
# AN12196; MF2DLHX0 and AN12343 for DESFire.  Numbers go least significant byte first.


class NotProven(Exception):
    """A card did not prove itself, or refused a command, for ``reason``; the text is
    for people.  ``status`` is the last byte of its answer."""

    def __init__(self, reason: Reason, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.reason, self.status = reason, status


#: Why a card is denied by the last byte of its status; else NO_PROOF.
STATUS_REASONS: Mapping[int, Reason] = {
    0xAE: Reason.WRONG_PROOF,  # authentication error
    0xAD: Reason.CARD_LOCKED,  # authentication delay
    0x9D: Reason.CARD_LOCKED,  # permission denied: the key is dead
}
DONE, MORE, UNKNOWN_COMMAND = 0x00, 0xAF, 0x1C
FWT_S = 4096 / 13_560_000  # for FWI 0


class IsoDep:
    """Commands for the selected card, as blocks of ISO-DEP.

    A card may ask for more time, or extend its answer, for ever: time, frames and bytes
    are limited.  A frame that gets no answer is requested once more.  ``is_challenged``
    is True once an authentication has begun; a presentation may have only one.

    Source: ISO/IEC 14443-4, 5 (activation) and 7 (blocks; 7.5.5 has the rules).
    """

    most_s, most_waits, most_bytes = 1.0, 3, 300
    longest_wait_s = 0.3

    def __init__(self, exchange: Exchange, monotonic: Callable[[], float]) -> None:
        self._exchange, self._monotonic = exchange, monotonic
        self.renew()
        self._number, self._wait_s = 0, 0.0
        self.is_challenged = False

    def renew(self, most_frames: int = 12) -> None:
        """Start the limits again, with so many frames."""
        self._ends_at = self._monotonic() + self.most_s
        self._frames, self._waits = most_frames, self.most_waits

    def activate(self) -> None:
        """Activate a card that was just selected: RATS, for frames of 256 bytes.
        Raises: NotProven."""
        self._number, self._wait_s = 0, 16 * FWT_S
        try:
            ats = self._frame(b"\xe0\x80", USUAL_WAIT_S)
        except NoAnswer as error:
            raise NotProven(Reason.CARD_MOVED, str(error)) from None
        if not ats or ats[0] != len(ats):
            raise NotProven(Reason.NO_PROOF, "its ATS is not valid")
        # A command is one frame of up to 64 bytes, FSCI 5.  A card that accepts less
        # would count an authentication that is cut off as failed.
        if len(ats) == 1 or ats[1] & 0x0F < 5:
            raise NotProven(Reason.NO_PROOF, "it accepts only short commands")
        if ats[1] & 0x20:  # it has TB(1), after a TA(1) or not
            waits = ats[2 + (ats[1] >> 4 & 1) :][:1] or b"\x40"
            self._wait_s = FWT_S * 2 ** (waits[0] >> 4)

    def _frame(self, block: bytes, wait_s: float) -> bytes:
        left_s = self._ends_at - self._monotonic()
        self._frames -= 1
        if left_s <= 0 or self._frames < 0:
            raise NotProven(Reason.CARD_MOVED, "its answer did not end in time")
        return self._exchange(block, min(wait_s, self.longest_wait_s, left_s))

    def send(self, command: bytes) -> bytes:
        """The answer to ``command``.  Raises: NotProven."""
        block, found = bytes([0x02 | self._number]) + command, bytearray()
        while True:
            answer = self._answer(block)
            found += answer[1:]
            self._number ^= 1
            if len(found) > self.most_bytes:
                raise NotProven(Reason.CARD_MOVED, "its answer did not end")
            if not answer[0] & 0x10:
                return bytes(found)
            block = bytes([0xA2 | self._number])  # R(ACK): go on

    def _answer(self, block: bytes) -> bytes:
        """The information block that answers ``block``."""
        sent, wait_s, is_repeated = block, self._wait_s, False
        while True:
            try:
                answer = self._frame(sent, wait_s)
            except NoAnswer as error:
                if is_repeated:
                    raise NotProven(Reason.CARD_MOVED, str(error)) from None
                is_repeated, wait_s = True, self._wait_s
                is_command = block[0] & 0xE2 == 0x02
                sent = bytes([0xB2 | self._number]) if is_command else block  # R(NAK)
                continue
            kind = answer[0] if answer else 0
            if kind & 0xEF == 0x02 | self._number:
                return answer
            if kind == 0xF2:  # S(WTX)
                factor = self._more_time(answer)
                sent, wait_s = bytes([0xF2, factor]), self._wait_s * factor
            elif kind == 0xA2 | (self._number ^ 1) and is_repeated:
                sent, wait_s = block, self._wait_s  # the card had not received it
            else:
                raise NotProven(Reason.NO_PROOF, "its answer is not the expected block")

    def _more_time(self, answer: bytes) -> int:
        """How many times as long the card asks to wait."""
        self._waits -= 1
        factor = answer[1] & 0x3F if len(answer) == 2 else 0
        if self._waits < 0:
            raise NotProven(Reason.CARD_MOVED, "it asked for more time too often")
        if not 1 <= factor <= 59:
            raise NotProven(Reason.NO_PROOF, "its answer is not the expected block")
        return factor

    def ask(self, code: int, data: bytes = b"", status: int = DONE) -> bytes:
        """The answer to a native DESFire command in ISO 7816 wrapping.  Raises:
        NotProven, also for any status but 91 and ``status``."""
        size = bytes([len(data)]) if data else b""
        answer = self.send(bytes([0x90, code, 0, 0]) + size + data + b"\x00")
        if answer[-2:] == bytes([0x91, status]):
            return answer[:-2]
        found, last = answer[-2:].hex().upper() or "nothing", 0
        if answer[-2:-1] == b"\x91":
            last = answer[-1]
        reason = STATUS_REASONS.get(last, Reason.NO_PROOF)
        raise NotProven(reason, f"it answered {found} to {code:02X}", last)

    def select(self, proof: str) -> None:
        """Select the application that has the keys.  Raises: NotProven."""
        name = APPLICATIONS[proof]
        if proof == "desfire":
            self.ask(0x5A, name)
        elif self.send(b"\x00\xa4\x04\x0c\x07" + name + b"\x00") != b"\x90\x00":
            raise NotProven(Reason.NO_PROOF, "it has no such application")


#: Where the keys are: NTAG 424's only application, and ours of a DESFire.
APPLICATIONS: Mapping[str, bytes] = {
    "ntag424": b"\xd2\x76\x00\x00\x85\x01\x01",
    "desfire": b"\xd0\x0d\x01",
}
DOOR_KEY = 1  # the number of the key that opens the door
ZERO = bytes(16)


def load_aes() -> None:
    """Import the library of the functions below, which takes seconds on a slow Pi.  If
    it is missing, the first proof reports that."""
    with contextlib.suppress(ImportError):
        import cryptography.hazmat.primitives.ciphers
        import cryptography.hazmat.primitives.cmac  # noqa: F401


def aes_cbc(key: bytes, data: bytes, iv: bytes = ZERO, *, decrypts: bool) -> bytes:
    """AES-128-CBC without padding."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key), modes.CBC(iv))
    step = cipher.decryptor() if decrypts else cipher.encryptor()
    return step.update(data) + step.finalize()


encrypt = functools.partial(aes_cbc, decrypts=False)
decrypt = functools.partial(aes_cbc, decrypts=True)


def card_key(
    master: bytes, uid: Uid, proof: str, generation: int, number: int = DOOR_KEY
) -> bytes:
    """A key of one card.  Source: NXP AN10922, 2.2 (AES-128); its input of at least 19
    bytes, with a UID of 7, makes that a plain CMAC."""
    numbers = bytes([number, generation])
    return cmac(
        master, b"\x01" + bytes.fromhex(uid) + APPLICATIONS[proof] + b"DoorPi" + numbers
    )


def authenticate(
    isodep: IsoDep, number: int, key: bytes, *, is_ev1: bool = False
) -> Session:
    """Have the card prove that it has ``key``: AuthenticateEV2First, or the
    AuthenticateAES of a DESFire EV1, whose CBC spans both directions.  The proof is our
    random number in the answer; the status proves nothing.  Raises: NotProven."""
    begin, more = (0xAA, b"") if is_ev1 else (0x71, b"\x00")
    challenge = isodep.ask(begin, bytes([number]) + more, MORE)
    isodep.is_challenged = True
    if len(challenge) != 16:
        raise NotProven(Reason.NO_PROOF, "its challenge has a wrong length")
    theirs, ours = decrypt(key, challenge), os.urandom(16)
    sent = encrypt(key, ours + theirs[1:] + theirs[:1], challenge if is_ev1 else ZERO)
    answer = isodep.ask(0xAF, sent)
    start, size = (0, 16) if is_ev1 else (4, 32)
    clear = answer
    if len(answer) == size:
        clear = decrypt(key, answer, sent[-16:] if is_ev1 else ZERO)
    if not hmac.compare_digest(clear[start : start + 16], ours[1:] + ours[:1]):
        raise NotProven(Reason.WRONG_PROOF, "it does not know the key")
    return Session(isodep, key, ours, theirs, clear[:4])


class Session:
    """The session after AuthenticateEV2First: commands have a MAC, data may be
    enciphered.

    Source: AN12196, 3.4 (session keys) and 3.5 (secure messaging).
    """

    def __init__(
        self, isodep: IsoDep, key: bytes, ours: bytes, theirs: bytes, ti: bytes
    ) -> None:
        """``ti`` is the card's transaction identifier."""
        self.isodep, self._ti, self.counter = isodep, ti, 0
        mixed = bytes(a ^ b for a, b in zip(ours[2:8], theirs[:6], strict=True))
        both = ours[:2] + mixed + theirs[6:] + ours[8:]
        self.cipher_key = cmac(key, b"\xa5\x5a\x00\x01\x00\x80" + both)
        self.ev1_key = ours[:4] + theirs[:4] + ours[12:] + theirs[12:]
        self.mac_key = cmac(key, b"\x5a\xa5\x00\x01\x00\x80" + both)

    def command(
        self,
        code: int,
        header: bytes = b"",
        data: bytes = b"",
        *,
        is_full: bool = False,
        ends: bool = False,
    ) -> bytes:
        """The data of the answer, in CommMode.MAC, or Full (``is_full``).  A command
        that ``ends`` the session, such as ChangeKey of the authenticated key, has an
        answer without a MAC.  Raises: NotProven, which ends the session too."""
        if is_full and data:  # padded as in ISO/IEC 9797-1, method 2
            data += b"\x80" + bytes(-(len(data) + 1) % 16)
            data = encrypt(self.cipher_key, data, self._iv(b"\xa5\x5a"))
        sign = self._mac(code, header + data)
        answer = self.isodep.ask(code, header + data + sign)
        self.counter += 1
        if ends:
            return answer
        found, sign = answer[:-8], answer[-8:]
        if not hmac.compare_digest(sign, self._mac(DONE, found)):
            raise NotProven(Reason.WRONG_PROOF, "its answer has a wrong MAC")
        if not (is_full and found):
            return found
        if len(found) % 16:
            raise NotProven(Reason.NO_PROOF, "its answer has a wrong length")
        clear = decrypt(self.cipher_key, found, self._iv(b"\x5a\xa5"))
        return clear.rstrip(b"\x00").removesuffix(b"\x80")

    def _iv(self, label: bytes) -> bytes:
        state = label + self._ti + self.counter.to_bytes(2, "little")
        return encrypt(self.cipher_key, state + bytes(8))

    def _mac(self, code: int, data: bytes) -> bytes:
        state = bytes([code]) + self.counter.to_bytes(2, "little") + self._ti
        return cmac(self.mac_key, state + data)[1::2]


class Prover:
    """Makes cards prove that they have the key derived from the door's key."""

    def __init__(self, door_key: Secret, monotonic: Callable[[], float]) -> None:
        self._key = bytes.fromhex(door_key.text)
        self._monotonic = monotonic
        self._ev1: set[Uid] = set()  # cards that know only AuthenticateAES

    def prove(
        self, who: Credential, exchange: Exchange, selects: Callable[[], bool]
    ) -> Reason | None:
        """Why the selected card is not proven to be ``who``; None if it is.  If it does
        not answer and was not yet challenged, ``selects`` selects it once more; False:
        it was removed.  Raises: ReaderLost."""
        isodep = IsoDep(exchange, self._monotonic)
        try:
            if not self._key:
                return Reason.PROOF_UNAVAILABLE
            key = card_key(self._key, who.uid, who.proof, who.generation)
            try:
                self._prove(who, isodep, key)
            except NotProven as error:
                is_lost = error.reason is Reason.CARD_MOVED
                if isodep.is_challenged or not (is_lost and selects()):
                    raise
                self._prove(who, isodep, key)
        except NotProven as error:
            return error.reason
        except ImportError as error:
            log.error("no card can be asked for a proof: %s", library_trouble(error))
            return Reason.PROOF_UNAVAILABLE
        return None

    def _prove(self, who: Credential, isodep: IsoDep, key: bytes) -> None:
        isodep.activate()
        isodep.select(who.proof)
        is_ev1 = who.uid in self._ev1
        try:
            authenticate(isodep, DOOR_KEY, key, is_ev1=is_ev1)
        except NotProven as error:
            is_old = error.status == UNKNOWN_COMMAND and not isodep.is_challenged
            if is_ev1 or not is_old or who.proof != "desfire":
                raise
            authenticate(isodep, DOOR_KEY, key, is_ev1=True)
            self._ev1.add(who.uid)


# -- issuing


GENERATION = 1  # of the keys that are written to cards
EV1 = "DESFire EV1"
#: The cards that can be issued, by type and major version of the hardware: the kind of
#: proof, the name and the number of keys.  Source: GetVersion in the data sheets.
MODELS: Mapping[bytes, tuple[str, str, int]] = {
    b"\x04\x30": ("ntag424", "NTAG 424 DNA", 5),
    b"\x01\x01": ("desfire", EV1, 2),
    b"\x01\x12": ("desfire", "DESFire EV2", 2),
    b"\x01\x33": ("desfire", "DESFire EV3", 2),
}
NO_APPLICATION = 0xA0  # a status
NOT_OURS = "its keys are neither those of a blank card nor those of this door"
CANNOT_ISSUE = "no NTAG 424 DNA or DESFire of a kind that can be issued ({})"
LOCKED_CARD = "it is locked after wrong keys, or in LRP mode, which nobody can undo"


def crc(data: bytes) -> bytes:
    """As in ChangeKey: CRC-32 without the inversion at its end."""
    return (binascii.crc32(data) ^ 0xFFFFFFFF).to_bytes(4, "little")


class CardWriter:
    """Writes the keys of this door to a secure card, or the factory's keys again.

    The version of a key says whose it is (0: the factory's), and a key is changed
    completely or not at all, so a card that was torn away is finished at its next tap.
    Key 0, which may change the others, is last.  No command is irreversible.
    """

    def __init__(self, proof: ProofConfig, uid: Uid, isodep: IsoDep) -> None:
        self._masters = proof.issuer_key.text, proof.door_key.text
        self._uid, self._contact = uid, isodep
        self._proof, self._name, self._count = "", "", 0
        self._versions: list[int] = []

    def steps(self, target: int) -> Iterator[tuple[str, str]]:
        """Bring all keys to the version ``target``.  Each step yields the card's kind
        of proof and what was done, in words, and takes much less than a second; the
        first changes nothing.  Raises: NotProven, ReaderLost, ImportError."""
        isodep = self._contact
        isodep.renew(most_frames=24)
        isodep.activate()
        self._identify()
        session = self._authenticate() if self._is_found(target) else None
        yield self._proof, f"{format_uid(self._uid)}: {self._name}"
        isodep.renew()  # the disk may have been slow
        if session is None:
            isodep.ask(0x5A, bytes(3))
            keys = bytes([0x0B, 0x80 | self._count])
            isodep.ask(0xCA, APPLICATIONS["desfire"] + keys)
            self._is_found(target)
        elif self._proof == "ntag424":  # file 2: only key 0 may write it, or anybody
            rights = b"\x00\x00\xe0" if target else b"\x00\xe0\xee"
            session.command(0x5F, b"\x02", rights, is_full=True)
        for number in (*range(1, self._count), 0):
            if self._versions[number] != target:
                isodep.renew()
                self._change(number, target)
                yield self._proof, f"key {number} changed"
        isodep.renew()
        if not self._is_found(target) or {*self._versions} != {target}:
            raise NotProven(Reason.CARD_MOVED, "not all of its keys were changed")
        if target:
            self._authenticate(DOOR_KEY)
        yield self._proof, "all keys are right"

    def _identify(self) -> None:
        """GetVersion: which card it is.  Raises: NotProven."""
        try:
            hardware = self._contact.ask(0x60, status=MORE)
        except NotProven as error:
            raise NotProven(error.reason, CANNOT_ISSUE.format(error)) from None
        self._contact.ask(0xAF, status=MORE)
        uid = self._contact.ask(0xAF)[:7]
        model = MODELS.get(hardware[1:2] + hardware[3:4])
        if model is None or hardware[:1] != b"\x04":  # not NXP's
            raise NotProven(Reason.NO_PROOF, CANNOT_ISSUE.format(hardware.hex()))
        if uid.hex().upper() != self._uid:
            raise NotProven(Reason.NO_PROOF, "its UID is random, or not its own")
        self._proof, self._name, self._count = model

    def _is_found(self, target: int) -> bool:
        """Select the application and read the versions of its keys; False if a DESFire
        does not have it yet.  Raises: NotProven."""
        try:
            self._contact.select(self._proof)
        except NotProven as error:
            if error.status != NO_APPLICATION or not target:
                raise
            return False
        answers = (self._contact.ask(0x64, bytes([n])) for n in range(self._count))
        self._versions = [int.from_bytes(each, "big") for each in answers]
        if {*self._versions} - {0, GENERATION}:
            raise NotProven(Reason.NO_PROOF, NOT_OURS)
        return True

    def _key(self, number: int, version: int) -> bytes:
        master = bytes.fromhex(self._masters[number == DOOR_KEY])
        key = card_key(master, self._uid, self._proof, version, number)
        return key if version else ZERO

    def _authenticate(self, number: int = 0) -> Session:
        key, is_ev1 = self._key(number, self._versions[number]), self._name == EV1
        return authenticate(self._contact, number, key, is_ev1=is_ev1)

    def _change(self, number: int, target: int) -> None:
        """ChangeKey, in a new session.  That of key 0 ends the session, and carries the
        new key alone, without the old one."""
        session, header = self._authenticate(), bytes([number])
        old, new = (self._key(number, v) for v in (self._versions[number], target))
        mixed = bytes(a ^ b for a, b in zip(old, new, strict=True)) if number else new
        data, check = mixed + bytes([target]), crc(new) * bool(number)
        if self._name == EV1:
            data += crc(b"\xc4" + header + data) + check
            sealed = encrypt(session.ev1_key, data.ljust(32, b"\x00"))
            self._contact.ask(0xC4, header + sealed)
        else:
            session.command(0xC4, header, data + check, is_full=True, ends=not number)
        self._versions[number] = target


ORDER_S = 60.0  # within which the card must be presented


class Order:
    """An order of `issue` or `wipe`: the next card presented is written, step by step
    on its reader's worker, while the door keeps running.  A later order replaces it.
    A card that is torn away is not listed; its next tap continues with the next key."""

    report_every_s = 0.5  # how soon it is seen that the verb has ended

    def __init__(
        self, keeper: Doorkeeper, request: AccessRequest, sender: Source
    ) -> None:
        self._keeper, self._request, self._sender = keeper, request, sender
        self._lines = ["hold the card to the reader, and keep it there"]
        self._card: tuple[Uid, Source] | None = None
        self.point: str | None = None  # all lights show that it is waiting

    @property
    def is_waiting(self) -> bool:
        return self._card is None

    def takes(self, request: AccessRequest, source: Source) -> bool:
        """True for a card that is presented to this order.  At an exit beside another
        reader it lets out."""
        lets_out = source.settings.is_exit and len(self._keeper.config.readers) > 1
        if request.medium not in CARDS or self._card or lets_out:
            return False
        source.rest(inf)  # polling would end the session with this card
        self._card = Uid(request.identifier), source
        return True

    def steps(self) -> Steps[Answer]:
        """Wait for a card and write it, until the order expires."""
        keeper, answer = self._keeper, None
        keeper.display.under_way[self] = Signal.ISSUING
        keeper.display.show()
        try:
            while not answer and (yield from self._await_card()):
                answer = yield from self._try_card()
        finally:
            del keeper.display.under_way[self]
            is_latest = keeper.order is self
            keeper.order = None if is_latest else keeper.order
        why = "the time is up" if is_latest else "a later order has replaced this one"
        signs = [Signal.DENIED] * bool(answer and not answer.done)
        if answer and answer.done and self._request.wants is Wants.ISSUE:
            signs = [Signal.ENROLLED]
        keeper.display.show(*signs)
        return answer or Answer(False, [f"no card was finished: {why}"])

    def _await_card(self) -> Steps[bool]:
        """True once a card is presented; False if the order has ended before."""
        keeper, until = self._keeper, self._request.good_until

        def is_awake() -> bool:
            return self._card is not None or keeper.order is not self

        while not is_awake():
            now, is_awaited = keeper.clock.monotonic(), self._report()
            if now >= until or not is_awaited:
                return False
            yield Pause(min(until, now + self.report_every_s), is_awake)
        return self._card is not None

    def _report(self, *lines: str) -> bool:
        self._lines += lines
        return self._sender.report(self._request, self._lines)

    def _try_card(self) -> Steps[Answer | None]:
        """The result; None if the card was torn away."""
        assert self._card is not None
        uid, source = self._card
        try:
            words = yield from self._write(uid, source)
            return Answer(True, [f"{format_uid(uid)} {words}"])
        except (NotProven, ReaderLost, StoreError, ImportError) as error:
            reason, words = getattr(error, "reason", Reason.GRANTED), str(error)
            if reason is Reason.CARD_MOVED or isinstance(error, ReaderLost):
                self._report("the card moved: take it away, and hold it there again")
                return None
            known = {Reason.WRONG_PROOF: NOT_OURS, Reason.CARD_LOCKED: LOCKED_CARD}
            words = known.get(reason, words)
            log.warning("%s: %s: %s", self._request.wants, format_uid(uid), words)
            return Answer(False, [f"{format_uid(uid)}: {words}"])
        finally:
            self._card = None
            source.rest(self._keeper.clock.monotonic())

    def _write(self, uid: Uid, source: Source) -> Steps[str]:
        """Write the card and then list it, or for `wipe` remove it from the list first.
        Returns the result in words."""
        keeper, order, proof = self._keeper, self._request, ""
        people, (by, wanted) = keeper.equipment.people, read_order(order)
        assert isinstance(source, CardSource)
        found = self._check(uid, wanted, source.presented)
        is_issue, note = order.wants is Wants.ISSUE, NoteKey.ISSUING.of(uid)
        isodep = IsoDep(source.reader.exchange, keeper.clock.monotonic)
        steps = CardWriter(keeper.config.proof, uid, isodep).steps(
            GENERATION if is_issue else 0
        )
        while done := (yield from call(source.worker, lambda: next(steps, None))):
            if not proof:
                keeper.equipment.events.keep(Notes({note: utc_text(order.at)}))
                if not is_issue:
                    people.change_cards([], [uid], order.at, copies=False)
            proof, line = done
            self._report(line)
        holder = wanted.holder or (found.holder if found else "")
        card = wanted._replace(
            uid=uid, holder=holder, proof=proof, generation=GENERATION
        )
        words = "is blank again"
        if not is_issue:
            people.change_cards([], [], order.at, copies=False, wiped=[uid])
        else:
            self._list(card, wanted.uid, by)
            keeper.check_key()
            limits = validity(card, keeper.config.schedules, order.at)
            words = f"is {printable(card.holder)}'s: {limits}"
        what = Change.ALLOW if is_issue else Change.REVOKE
        event = Event(order.at, uid, card.holder, what, source="command")
        event = event._replace(detail=f"by {by}: {proof} card {words}")
        keeper.events.record(event)
        keeper.events.keep(Notes({note: ""}))
        log.info("%s", describe(event))
        return words

    def _check(
        self, uid: Uid, wanted: Credential, card: Card | None
    ) -> Credential | None:
        """The card's entry on the list, if any.  Raises: NotProven if the order may not
        change this card."""
        config, why = self._keeper.config, self._keeper.wrong_key or ""
        in_file = config.cards.get(uid)
        found = in_file or self._keeper.equipment.people.find(uid)
        is_plain = not (in_file or (found and found.proof))
        if not (config.proof.door_key.text and config.proof.issuer_key.text):
            why = "the door has no door_key or no issuer_key; see [proof]"
        elif is_random(uid):
            why = RANDOM_WORDS
        elif not (card and card.sak & 0x20):
            why = "not a secure card (NTAG 424 DNA, DESFire)"
        elif found and self._request.wants is Wants.ISSUE:
            is_off = found.proof and not (in_file or found.enabled)
            if not (is_off or (is_plain and uid == wanted.uid)):
                why = f"already on the list, as {printable(found.holder)}"
        elif found and (in_file or is_plain):
            where = "in doorpi.toml" if in_file else "on the list by its UID alone"
            why = f"it is {where}, as {printable(found.holder)}"
        if why:
            raise NotProven(Reason.NO_PROOF, why)
        return found

    def _list(self, card: Credential, replaced: Uid, by: str) -> None:
        """Put ``card`` on the list and lift its blocks.  The card that it replaces is
        switched off, or blocked if it is in doorpi.toml."""
        people, in_file = self._keeper.equipment.people, self._keeper.config.cards
        blocks = people.block_on(card.uid, ""), people.block_on(Uid(""), card.holder)
        put, block, at = [card], list[Block](), self._request.at
        if replaced in in_file:
            block = [Block(in_file[replaced].holder, at, by, replaced)]
        elif replaced != card.uid and (old := people.find(replaced)):
            put.append(old._replace(enabled=False))
        lift = [each for each in blocks if each]
        people.change_cards(put, [], at, block, lift, copies=False)


def read_order(order: AccessRequest) -> tuple[str, Credential]:
    """The user who gave an order, and the new entry of the list, with the UID of the
    entry that it replaces.  Raises: NotProven."""
    try:
        by, holder, *days, schedule, uid = json.loads(order.identifier)
        first, last = (day and parse_limit(day) for day in days)
    except (TypeError, ValueError):  # from another version
        words = "the door does not understand this order"
        raise NotProven(Reason.NO_PROOF, words) from None
    return str(by), Credential(
        Uid(uid), str(holder), valid_from=first, valid_until=last,
        schedule=schedule, source=Origin.DB,
    )  # fmt: skip


################################################################################
# 20. Other sources -- what opens the door beside the reader
################################################################################


# The state directory


class AlreadyRunning(Exception):
    """Another door works with the same state directory."""


def is_running(folder: Path) -> bool:
    """Whether a door works with this state directory; False if we may not look."""
    try:
        looked = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(looked, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looked)
    return False


@contextlib.contextmanager
def only_door(folder: Path, unit: str = "doorpi") -> Iterator[None]:
    """Hold the state directory: two doors would both act on each card.  The kernel's
    lock on it needs no room on the disk and ends with the process.  (`doorpi online`
    holds a folder in it.)

    Raises: AlreadyRunning.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # the store will report it; it keeps nobody out
        yield
        return
    try:
        if is_running(folder):
            time.sleep(0.05)  # or another process is asking that, which also holds it
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = "another DoorPi works with this directory; stop it first"
            stop = f"sudo systemctl stop {unit}"
            raise AlreadyRunning(f"{folder}: {words}: {stop}") from None
        yield
    finally:
        os.close(held)


def become_owner(folder: Path) -> None:
    """If we are root, become the user that owns ``folder``, for good.

    Call this before the first access to it: its owner may have made a database a link
    to any file, which root would then write.  If it is root's or missing, the nearest
    folder above with another owner counts: that user could put a link in its place.
    """
    import pwd

    if os.geteuid() != 0:
        return
    for each in (folder.absolute(), *folder.absolute().parents):
        with contextlib.suppress(OSError):
            owner = each.stat()
            if owner.st_uid != 0:
                break
    else:
        return
    uid, gid = owner.st_uid, owner.st_gid
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        os.setgroups([gid])
    else:
        gid = user.pw_gid
        os.initgroups(user.pw_name, gid)  # with access to pins, serial ports and USB
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.environ.setdefault("LG_WD", str(folder))  # lgpio makes pipes where it works


# The door's inbox


class InboxSource(Source):
    """The inbox as a source of access requests.  If it cannot be used, it is opened
    again every ``retry_s``; that is logged and keeps nobody out."""

    lost = "inbox"
    look_every_s, retry_s = 0.2, 5.0

    def __init__(self, inbox: Inbox) -> None:
        self.due = -inf
        self.worker: Worker = InlineWorker()
        self._inbox = inbox
        self._is_open = False
        self._answers: dict[str, Answer] = {}  # to be written

    def poll(self, now: float) -> AccessRequest | None:
        try:
            if not self._is_open:
                self._inbox.begin()
            self._write_answers()
            request = self._inbox.take()
        except StoreError as error:
            self.trouble = f"cannot read requests from other programs: {error}"
            self._is_open, self.due = False, now + self.retry_s
            return None
        self._is_open, self.trouble = True, ""
        self.due = now + self.look_every_s if request is None else now
        return request

    def answer(self, request: AccessRequest, answer: Answer) -> None:
        """Write it now if possible, else at a later poll."""
        self._answers[request.id] = answer
        with contextlib.suppress(StoreError):
            self._write_answers()

    def report(self, request: AccessRequest, lines: Sequence[str]) -> bool:
        with contextlib.suppress(StoreError):  # the sender may wait all the same
            return self._inbox.report(request.id, lines)
        return True

    def _write_answers(self) -> None:
        for name, answer in list(self._answers.items()):
            self._inbox.answer(name, answer)
            del self._answers[name]

    def close(self) -> None:
        self._inbox.close()


def inbox_files(state_dir: Path) -> list[Path]:
    """Where the inbox of a door with this directory may be: in memory, if its service
    has a folder there by the name of its StateDirectory=, else beside its log."""
    folders = [state_dir]
    if state_dir.is_relative_to("/var/lib"):
        folders.insert(0, "/run" / state_dir.relative_to("/var/lib"))
    return [folder / "inbox.db" for folder in folders]


def inbox_to_make(state_dir: Path) -> Path:
    """Where a process of the door's user makes one."""
    files = inbox_files(state_dir)
    return next((file for file in files if os.access(file.parent, os.W_OK)), files[-1])


#: Without a sign of life for so long, a door that holds its directory hangs.
LIFELESS_S = 60.0


def publish_troubles(
    state_dir: Path, started: float, troubles: Mapping[str, str]
) -> None:
    """Write what is wrong with the door, and since when it runs (monotonic), into a
    file beside its inbox; a failure to write is ignored.  The file's time is the door's
    sign of life: in monotonic seconds, so that no change of the clock looks like one.
    """
    text = json.dumps({"started": started, "troubles": troubles})
    with contextlib.suppress(OSError):
        path = inbox_to_make(state_dir).with_name("troubles.json")
        if not path.exists() or path.read_bytes() != text.encode():
            write_whole(path, text)
        now = time.monotonic()
        os.utime(path, (now, now))


def _published(state_dir: Path) -> dict[str, Any] | None:
    """What the running door has written there; None if no door works."""
    if not is_running(state_dir):
        return None
    for inbox in inbox_files(state_dir):
        with contextlib.suppress(OSError, ValueError):
            path = inbox.with_name("troubles.json")
            found = json.loads(path.read_text("utf-8"))
            if isinstance(found, dict) and "started" in found:
                age_s = time.monotonic() - path.stat().st_mtime
                return found if 0.0 <= age_s < LIFELESS_S else None
    return {}


def published_troubles(state_dir: Path) -> Mapping[str, str] | None:
    """What is wrong with the door, in words; None if no door works there."""
    found = _published(state_dir)
    return None if found is None else dict(found.get("troubles", {}))


def door_started(state_dir: Path) -> float | None:
    """When the running door started (monotonic); None if that is not known."""
    return (_published(state_dir) or {}).get("started")


def look_up_folder(state_dir: Path) -> Path:
    """The folder of the inbox in which the door asks `doorpi online`; that process
    locks the folder while it answers."""
    return inbox_to_make(state_dir).with_name("look-ups")


NOT_TAKEN = Answer(False, ["unreachable: the running door did not take the request"])


def ask_door(
    state_dir: Path,
    clock: Clock,
    request: AccessRequest,
    show: Callable[[str], object] = lambda line: None,
) -> Answer | None:
    """Hand ``request`` to the door that works with ``state_dir``, and wait for its
    answer; None if no door has begun it, or ever will.  However this ends, a request
    that was not begun is taken back, and so is an order, whose steps are given to
    ``show``.  Raises: StoreError.
    """
    if state_dir.is_dir() and not os.access(state_dir, os.R_OK | os.X_OK):
        raise StoreError(f"{state_dir}: Permission denied")
    while is_running(state_dir):
        files = inbox_files(state_dir)
        inbox = Inbox(next(filter(file_at, files), files[-1]), clock)
        inbox.show = show
        try:
            inbox.put(request)
            answer = _awaited(inbox, state_dir, clock, request)
            if answer is not None:
                return answer
        except StoreError:  # a door that is just starting has none yet
            if clock.monotonic() >= request.good_until:
                raise
        finally:
            with contextlib.suppress(StoreError):
                inbox.take_back(request.id, is_order=request.wants in ORDERS)
            inbox.close()
        if clock.monotonic() >= request.good_until:
            return NOT_TAKEN
        clock.sleep(0.05)
    return None


def _awaited(
    inbox: Inbox, state_dir: Path, clock: Clock, request: AccessRequest
) -> Answer | None:
    """The answer; None if the request was taken back."""
    # VERB_S is longer than any move that a door has begun: after that it hangs.
    looks, ends_at = Every(1.0), request.good_until + VERB_S
    while (answer := inbox.answer_to(request.id)) is None:
        now = clock.monotonic()
        is_alone = looks.is_due(now) and (inbox.is_gone() or not is_running(state_dir))
        is_late = now >= request.good_until
        if (is_late or is_alone) and inbox.take_back(request.id):
            return None
        if is_alone or now >= ends_at:  # its last act may have been to answer
            return inbox.answer_to(request.id) or CUT_OFF
        clock.sleep(SHORTEST_PAUSE_S)
    return answer


# -- QR scanners


LONGEST_SCAN = 512  # characters; a longer scan is presented cut off, and is no code

#: Rows of a US keyboard: the code of the first key, and what each types without and
#: with Shift.  Source: Linux, include/uapi/linux/input-event-codes.h.
US_ROWS = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", " "),
    (71, "789-456+1230.", "789-456+1230."),
)
US_KEYS: Mapping[int, tuple[str, str]] = {
    first + i: pair
    for first, plain, shifted in US_ROWS
    for i, pair in enumerate(zip(plain, shifted, strict=True))
}
KEY_SHIFTS, KEY_CAPS, KEY_ENTERS = (42, 54), 58, (28, 96)
EV_SYN, EV_KEY, SYN_DROPPED = 0, 1, 3
EVIOCGRAB = 0x40044590
INPUT_EVENT = struct.Struct("llHHi")  # struct input_event of this computer


def _sent_by(device: int, wait_s: float, most: int = 4096) -> bytes:
    """What a device (its descriptor) sends within ``wait_s``; b"" if nothing.  Raises:
    OSError."""
    if not select.select([device], [], [], wait_s)[0]:
        return b""
    data = os.read(device, most)
    if not data:
        raise OSError(errno.ENODEV, "unplugged")
    return data


class SerialScanner:
    """A scanner on a serial line (GM65 and relatives: 9600 8N1).  A scan ends with CR,
    LF, both, or after 100 ms of silence."""

    silence_s = 0.1

    def __init__(self, config: ScannerConfig) -> None:
        self._config = config
        self._line: Any = None
        self._text = b""

    def open(self) -> None:
        """Raises: OSError; EAGAIN if another program has it."""
        self._line = _serial_line(self._config.device, self._config.baud)

    def read(self, wait_s: float) -> list[str]:
        """The scans that end within ``wait_s``.  Raises: OSError."""
        wait_s = min(wait_s, self.silence_s) if self._text else wait_s
        data, most = _sent_by(self._line.fileno(), wait_s), LONGEST_SCAN + 1
        parts = re.split(rb"[\r\n]+", self._text + data)
        *ended, rest = parts if data else [*parts, b""]  # silence ends it, too
        self._text = rest[:most]
        return [scan[:most].decode("ascii", "replace") for scan in ended if scan]

    def close(self) -> None:
        if self._line:
            self._line.close()
        self._line, self._text = None, b""


class KeyboardScanner:
    """A scanner that types what it reads, as a keyboard with the US layout.  It is
    grabbed, so that nothing is typed into a console; a scan ends with Enter.  A scan of
    which the kernel lost a part is thrown away."""

    def __init__(self, config: ScannerConfig) -> None:
        self._device, self._fd = config.device, -1

    def open(self) -> None:
        """Raises: OSError; EBUSY if another program has grabbed it."""
        self._text, self._is_torn, self._has_caps = "", False, False
        self._shifts: set[int] = set()
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(self._device, flags)
        fcntl.ioctl(self._fd, EVIOCGRAB, 1)

    def read(self, wait_s: float) -> list[str]:
        """The scans that end within ``wait_s``.  Raises: OSError."""
        data = _sent_by(self._fd, wait_s, 64 * INPUT_EVENT.size)
        whole = len(data) - len(data) % INPUT_EVENT.size
        events = INPUT_EVENT.iter_unpack(data[:whole])
        return [scan for event in events if (scan := self._take(*event[2:]))]

    def _take(self, kind: int, key: int, value: int) -> str:
        """The scan that this event ends, else ""."""
        if kind == EV_SYN and key == SYN_DROPPED:
            self._is_torn = True
            self._shifts.clear()
        if kind != EV_KEY or value == 2:  # 2: the key repeats
            return ""
        if key in KEY_SHIFTS:
            (self._shifts.add if value else self._shifts.discard)(key)
        elif value and key == KEY_CAPS:
            self._has_caps = not self._has_caps
        elif value and key in KEY_ENTERS:
            ended, self._text = "" if self._is_torn else self._text, ""
            self._is_torn = False
            return ended
        elif value and key in US_KEYS and len(self._text) <= LONGEST_SCAN:
            plain, shifted = US_KEYS[key]
            is_upper = bool(self._shifts) ^ (self._has_caps and plain.isalpha())
            self._text += shifted if is_upper else plain
        return ""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class ScannerSource(Source):
    """A QR scanner as a source of requests: one for each presentation of a code.

    A thread of its own reads the scanner, because the kernel keeps only about ten
    characters of a keyboard, and opens it again, with growing pauses, when it fails.
    """

    lost = Signal.SCANNER_LOST
    same_s = 3.0  # a code that is read again within this is the same presentation
    backoff_s = (0.2, 5.0)
    wait_s = 0.5

    def __init__(
        self,
        scanner: SerialScanner | KeyboardScanner,
        name: str,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.point, self.due, self.worker = name, inf, InlineWorker()
        self._scanner, self._clock = scanner, clock
        self._scans: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self._last, self._last_at = "", -inf
        self._backoff = Backoff(*self.backoff_s, jitter)
        self.trouble = ""
        self._ended = threading.Event()
        self._rests_until = -inf
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        if self._thread is None:
            self._thread = start_thread(self._run, f"scanner {self.point}")

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._scanner.open()
                self._backoff.succeed()
                self.trouble = ""
                self._clock.wake()
                # For guest passes; a slow Pi takes seconds for it.
                with contextlib.suppress(ImportError):
                    importlib.import_module(ED25519)
                while not self._ended.is_set():
                    for scan in self._scanner.read(self.wait_s):
                        self._scans.put((scan, self._clock.monotonic()))
                        self.due = -inf
                        self._clock.wake()
            except Exception as error:  # also termios.error, which is no OSError
                why = cause_of(error, SCANNER_TROUBLES)
                self.trouble = f"scanner {self.point}: {why}"
                self._clock.wake()
            finally:
                self._scanner.close()
            if self.trouble:
                self._ended.wait(self._backoff.fail())

    def poll(self, now: float) -> AccessRequest | None:
        self.open()  # after a reload, nobody else does
        if now < self._rests_until:
            return None
        self.due = inf
        while not self._scans.empty():
            scan, arrived = self._scans.get_nowait()
            is_same = scan == self._last and arrived - self._last_at < self.same_s
            self._last, self._last_at = scan, arrived
            if not is_same:
                self.due = -inf  # there may be more
                at, name = self._clock.now(), hashlib.sha256(scan.encode()).hexdigest()
                return AccessRequest(
                    Medium.QR, scan, at, arrived, inf, Wants.UNLOCK, self.point,
                    name[:12],
                )  # fmt: skip
        return None

    def rest(self, until: float) -> None:
        self._rests_until = self.due = until

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * self.wait_s)


class ExitButton(Source):
    """The exit button (request to exit) as a source: it asks to unlock, once a press.

    The pin's own thread only notes a press and wakes the door.  Contacts bounce, so a
    press counts after the button was released for ``settle_s``.  Presses within
    ``same_s`` are one, and so are those before the request of the last one has ended.
    """

    lost = "exit-button"
    settle_s, same_s, stuck_s = 0.05, 1.0, 60.0

    def __init__(self, switch: Switch, clock: Clock) -> None:
        self.due, self.worker = inf, InlineWorker()
        self._switch, self._clock = switch, clock
        switch.on_change = self._note
        self._changed_at = self._last = -inf
        self._presses = deque[float]()
        self._is_served = True  # the request of the last press
        self._released_at = clock.monotonic()

    def open(self) -> None:
        self._switch.is_closed()

    def _note(self, is_pressed: bool) -> None:
        """On the pin's thread."""
        now = self._clock.monotonic()
        if is_pressed and now - self._changed_at >= self.settle_s:
            self._presses.append(now)
            self.due = -inf
            self._clock.wake()
        self._changed_at = now

    def poll(self, now: float) -> AccessRequest | None:
        if not self._switch.is_closed():
            self._released_at = now
        stuck = "pressed for more than a minute: is it stuck?"
        is_stuck = now - self._released_at > self.stuck_s
        trouble = self._switch.trouble or stuck * is_stuck
        self.trouble = trouble and f"exit button: {trouble}"
        self.due = inf
        while self._presses:
            pressed_at = self._presses.popleft()
            if self._is_served and pressed_at >= self._last + self.same_s:
                self._last, self._is_served = pressed_at, False
                at, wants = self._clock.now(), Wants.UNLOCK
                return AccessRequest(Medium.BUTTON, "", at, pressed_at, inf, wants)
        return None

    def answer(self, request: AccessRequest, answer: Answer) -> None:
        self._is_served = True

    def close(self) -> None:
        self._switch.close()


SCANNERS: Mapping[str, Callable[[ScannerConfig], SerialScanner | KeyboardScanner]] = {
    "serial": SerialScanner,
    "keyboard": KeyboardScanner,
}


#: Why a scanner cannot be read, for the owner.
SCANNER_TROUBLES: Mapping[int, str] = {
    errno.ENOENT: "not plugged in",
    errno.ENODEV: "unplugged",
    errno.EIO: "unplugged",
    errno.EAGAIN: IN_USE,
    errno.EBUSY: IN_USE,
    errno.EACCES: "the service may not read it: its user needs the group dialout"
    " (serial) or input (keyboard)",
}


# -- guest passes


#: What some scanners put before a QR code.  Source: ISO/IEC 15424.
AIM_PREFIX = r"\A\]Q\d"
CODE_PREFIX = "DOORPI:"
ONCE_FLAG = 1  # the pass is valid for one entry
CODE_BODY = struct.Struct(">BB5sI")  # version, flags, id, until (Unix seconds)
LAST_YEAR = 2105  # the last one whose end fits into ``until``
SIGNED_AS = b"DoorPi guest pass\0"


ED25519 = "cryptography.hazmat.primitives.asymmetric.ed25519"
PASS_KEY, LIST_KEY = "pass.key", "list.key"  # files in the folder of the state


def signing_key(path: Path) -> Any:
    """The Ed25519PrivateKey in a file, new on the first use: 32 bytes in hexadecimal,
    which only its user may read.  Raises: OSError, ValueError, ImportError."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        write_whole(new, f"{os.urandom(32).hex()}\n")
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(new, path)
        new.unlink()
    text = path.read_text("ascii").strip()
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def pass_in(path: Path, text: str) -> PassCode | None:
    """What a code says if it is a guest pass signed with the key in the file ``path``,
    else None."""
    text = re.sub(AIM_PREFIX, "", text.strip())
    if not (text.startswith(CODE_PREFIX) and path.exists()):
        return None
    try:
        return verify_pass(text, signing_key(path).public_key())
    except (OSError, ValueError, ImportError) as error:
        log.warning("%s: no guest pass can be verified: %s", path, cause_of(error))
        return None


def sign_pass(code: PassCode, key: Any) -> str:
    """The text of the QR code, signed with ``key`` (an Ed25519PrivateKey): 127
    characters of the alphanumeric mode of QR codes."""
    flags, until = ONCE_FLAG * code.is_once, int(code.ends.timestamp())
    body = CODE_BODY.pack(1, flags, base64.b32decode(code.id), until)
    return CODE_PREFIX + base64.b32encode(body + key.sign(SIGNED_AS + body)).decode()


def verify_pass(text: str, key: Any) -> PassCode | None:
    """What ``sign_pass`` wrote with the private part of ``key``; None for any other
    text."""
    from cryptography.exceptions import InvalidSignature

    if not re.fullmatch(rf"{CODE_PREFIX}[A-Z2-7]{{120}}", text.strip()):
        return None
    signed = base64.b32decode(text.strip().removeprefix(CODE_PREFIX))
    body, signature = signed[: CODE_BODY.size], signed[CODE_BODY.size :]
    try:
        key.verify(signature, SIGNED_AS + body)
    except InvalidSignature:
        return None
    version, flags, number, until = CODE_BODY.unpack(body)
    if version != 1 or flags & ~ONCE_FLAG:
        return None
    ends = datetime.fromtimestamp(until, UTC)
    return PassCode(base64.b32encode(number).decode(), ends, bool(flags))


################################################################################
# 21. The Pi -- lights, systemd, signals, the clock, the settings file
################################################################################


#: Written by doorpi-clock.service, because the door's sandbox does not let it ask the
#: kernel: how far the clock was ahead of the seconds since boot when the kernel last
#: called it synchronised.  The file lasts as long as /run: until the next boot.
CLOCK_MARKER = Path("/run/doorpi-clock/set")

#: Where the C library finds the time zone: a file, or a link to one.
LOCALTIME = Path("/etc/localtime")


def _state(path: Path) -> tuple[int, ...]:
    """Size, identity and times of a file; 0 and the error's number if there is none."""
    try:
        seen = path.stat()
    except OSError as error:
        return 0, error.errno or errno.EIO
    return seen.st_size, seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns


class SystemClock:
    """The computer's clocks."""

    step_s = 60.0  # an NTP daemon that slews stays far below
    sleep = staticmethod(time.sleep)
    cpu = staticmethod(time.process_time)

    def __init__(self) -> None:
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._ahead_s = inf  # as in CLOCK_MARKER, seen by this process
        self._zone: tuple[int, ...] = ()

    def now(self) -> datetime:
        self.follow_zone()
        return datetime.now().astimezone()

    def local(self, at: datetime) -> datetime:
        """``at`` in the door's zone with the daylight saving of that time; with today's
        if the C library cannot tell (from 2038 on, on 32 bits)."""
        try:
            return at.astimezone()
        except (OverflowError, ValueError, OSError):
            return at.astimezone(datetime.now().astimezone().tzinfo)

    def follow_zone(self) -> None:
        """Read the time zone again if it was changed; the C library reads it once."""
        before, self._zone = self._zone, _state(LOCALTIME)
        if self._zone == before:
            return
        try:
            content = LOCALTIME.read_bytes()
            is_zone = content.startswith(b"TZif") and content.endswith(b"\n")
        except OSError as error:
            is_zone = error.errno == errno.ENOENT  # which means UTC
        # The C library would silently make UTC of a broken file as well, and let people
        # in at the wrong hours.  Source: tzfile(5).
        if is_zone:
            time.tzset()
        else:
            log.warning("%s is no time zone file: the zone stays as it was", LOCALTIME)

    def monotonic(self) -> float:
        """Unlike time.monotonic it goes on while the computer is suspended: a card that
        was presented before is an old one afterwards."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._wakes.get(timeout=max(0.0, seconds))
            while True:  # several end one wait
                self._wakes.get_nowait()

    def wake(self) -> None:
        self._wakes.put(None)

    def is_set(self) -> bool:
        """The kernel calls the clock synchronised, or did so and nobody has set it
        since: after 9 hours without NTP it no longer says so, however right the clock
        is."""
        ahead_s = time.time() - self.monotonic()  # before asking the kernel
        if kernel_says_synchronised():
            self._ahead_s = ahead_s
        known = [self._ahead_s]
        with contextlib.suppress(OSError, ValueError):
            known.append(float(CLOCK_MARKER.read_text(encoding="ascii")))
        return any(abs(ahead_s - each) < self.step_s for each in known)

    @staticmethod
    @functools.cache
    def boot() -> str:
        """Falls back to an id of this process: timers from disk are then due at once.
        Source: random(4)."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return f"process-{os.urandom(8).hex()}"


class ThreadWorker:
    """A thread that runs the functions it is given, and calls ``wake`` after each."""

    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        self._given: SimpleQueue[tuple[Job[Any], Callable[[], Any]]] = SimpleQueue()
        self._wake = wake
        self._last: Job[Any] | None = None
        self._begun_at = inf  # of the job under way
        self._is_closed = False
        start_thread(self._work, name)

    @property
    def is_idle(self) -> bool:
        return self._last is None or self._last.done

    @property
    def busy_s(self) -> float:
        return max(0.0, time.monotonic() - self._begun_at)

    @property
    def is_awaited(self) -> bool:
        return not self._given.empty()

    def submit(self, function: Callable[[], T]) -> Job[T]:
        self._last = job = Job[T]()
        self._given.put((job, function))
        return job

    def close(self) -> None:
        self._is_closed = True
        self._given.put((Job(), lambda: None))

    def _work(self) -> None:
        while True:
            job, function = self._given.get()
            if self._is_closed:
                return
            self._begun_at = time.monotonic()
            job.run(function)
            self._begun_at = inf
            del job, function  # or the answer is kept until the next one
            self._wake()


def kernel_says_synchronised() -> bool:
    """Whether the clock is synchronised, whatever time daemon runs.

    Source: adjtimex(2): TIME_ERROR (5) if not synchronised, -1 if the call fails.  A
    request of zeros changes nothing; struct timex has at most 208 bytes.
    """
    import ctypes

    return 0 <= int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))) < 5


def watch_clock(marker: str) -> None:
    """Keep CLOCK_MARKER, the file ``marker``, up to date."""
    written_s = inf = float("inf")
    while True:
        ahead_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if kernel_says_synchronised() and abs(ahead_s - written_s) > 1.0:
            with open(f"{marker}.part", "w") as file:  # noqa: PTH123
                file.write(f"{ahead_s:.3f}\n")
                os.fchmod(file.fileno(), 0o644)  # readable by every user
            os.replace(f"{marker}.part", marker)  # noqa: PTH105
            written_s = ahead_s
        time.sleep(2.0 if written_s == inf else 10.0)


def mark_clock_set() -> None:
    """What doorpi-clock.service does: ``watch_clock`` as a program of its own, of 3 MB;
    with all that this file imports it would take 35."""
    import inspect

    source = "from __future__ import annotations\nimport os, time\n"
    source += inspect.getsource(kernel_says_synchronised)
    source += inspect.getsource(watch_clock)
    source += f"watch_clock({str(CLOCK_MARKER)!r})"
    os.execv(sys.executable, ["python3", "-I", "-S", "-c", source])  # noqa: S606


# -- lights and systemd


class GpioPart:
    """A gpiozero device, which ``make`` makes.  While its pins cannot be had,
    ``trouble`` says why, and they are tried again from ``_retry_at`` on."""

    backoff_s = (5.0, 600.0)  # first and longest wait before the pins are tried again

    def __init__(self) -> None:
        self._device: Any = None
        self._backoff = Backoff(*self.backoff_s)
        self._retry_at = -inf
        self.trouble = ""

    def make(self, gpiozero: Any) -> Any:
        raise NotImplementedError

    def put(self, device: Any) -> None:
        """Bring a new device up to date."""

    def open(self) -> None:
        """Get the pins; if that fails, ``trouble`` says why."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about each library that gpiozero lacks
            try:
                import gpiozero

                self._device, self.trouble = self.make(gpiozero), ""
                self.put(self._device)
            except _gpio_errors() as error:
                self._release(error)

    def _use(self, do: Callable[[Any], T]) -> T | None:
        """``do`` something with the device, if there is one."""
        if self._device is not None:
            try:
                return do(self._device)
            except _gpio_errors() as error:
                self._release(error)
        return None

    def _release(self, error: Exception | None = None) -> None:
        """Give the pins back; after an ``error`` they are tried again later."""
        if error is not None:
            self.trouble = printable(str(error) or type(error).__name__)
            self._retry_at = time.monotonic() + self._backoff.fail()
        device, self._device = self._device, None
        for step in ("off", "close") if device is not None else ():
            with contextlib.suppress(*_gpio_errors()):  # an input has no ``off``
                getattr(device, step)()


class GpioSwitch(GpioPart, Switch):
    """A switch between a pin and ground.  The Pi pulls the pin up: a switch that is
    open, or whose wire is cut, reads high."""

    def __init__(self, gpio: int) -> None:
        super().__init__()
        self._gpio = gpio

    def make(self, gpiozero: Any) -> Any:
        device = gpiozero.DigitalInputDevice(self._gpio, pull_up=True)
        device.when_activated = lambda: self.on_change(True)
        device.when_deactivated = lambda: self.on_change(False)
        return device

    def is_closed(self) -> bool | None:
        if self._device is None and time.monotonic() >= self._retry_at:
            start_thread(self.open, "gpio").join()  # its threads get no signals
        return self._use(lambda device: bool(device.value))

    def close(self) -> None:
        self._release()


class GpioPlayer(GpioPart, Indicator):
    """Plays patterns on pins, on a thread of its own.  Without the pins it plays on,
    until the thread gets them."""

    def __init__(self, patterns: Mapping[Signal, Pattern]) -> None:
        super().__init__()
        self._patterns = patterns
        self._frames: Iterator[tuple[tuple[int, int], float]] = iter(())
        self._light = 0, 0  # (green, red) of the current frame
        self._due = inf  # when the next one begins
        self._player: threading.Thread | None = None
        self._is_closed = False
        #: Guards all of this.  The main thread takes it under ``postponed``.
        self._changed = threading.Condition()

    def frames(self, sign: Signal) -> Iterator[tuple[tuple[int, int], float]]:
        return self._patterns[sign].frames()

    def put(self, device: Any) -> None:
        """Set the device as the current frame says."""
        device.value = self._light

    def show(self, *signals: Signal) -> None:
        played = map(self.frames, signals)
        with ProcessSignals.postponed(), self._changed:
            self._frames = chain(*played, [((0, 0), inf)])
            self._due = time.monotonic()
            self._next_frame()  # here: the light does not wait for a thread
            if self._player is None:
                self._player = start_thread(self._play, "lights")
            self._changed.notify()

    def _play(self) -> None:
        with contextlib.suppress(*_gpio_errors()):  # ``open`` will report why
            import gpiozero  # noqa: F401 -- which takes a slow Pi seconds
        with self._changed:
            while not self._is_closed:
                if self._device is None and time.monotonic() >= self._retry_at:
                    self.open()
                retry_at = inf if self._device is not None else self._retry_at
                left_s = min(self._due, retry_at) - time.monotonic()
                if left_s > 0:
                    self._changed.wait(None if left_s == inf else left_s)
                elif self._due <= retry_at:
                    self._next_frame()

    def _next_frame(self) -> None:
        """Each is due by the start of the first: a pattern of 3 s takes 3 s, however
        long each step takes."""
        self._light, seconds = next(self._frames)
        self._due += seconds
        self._use(self.put)

    def close(self) -> None:
        with ProcessSignals.postponed():
            with self._changed:
                self._is_closed = True
                self._release()
                self._changed.notify()
            if self._player is not None:
                self._player.join(0.5)  # it may still be importing


class GpioLights(GpioPlayer):
    """Two LEDs on the Pi's pins.

    Each LED's long leg to its GPIO through 330 ohm, the short leg to ground (with
    ``active_high`` false: short leg to the GPIO, long leg through 330 ohm to 3.3 V).
    """

    def __init__(self, config: LedsConfig, patterns: Mapping[Signal, Pattern]) -> None:
        super().__init__(patterns)
        self._config = config

    def make(self, gpiozero: Any) -> Any:
        pins = self._config.green_gpio, self._config.red_gpio
        return gpiozero.LEDBoard(*pins, active_high=self._config.active_high)


#: What sounds in quiet hours too; those that repeat are the alarms.
LOUD = (Signal.DENIED, Signal.FORCED_OPEN, Signal.HELD_OPEN)


class GpioBuzzer(GpioPlayer):
    """A buzzer that sounds while a light would be lit: for answers to a tap, and for
    alarms while they last.  In quiet hours only denials and alarms sound.

    An active buzzer has a tone of its own; a passive one gets ``buzzer_hz``.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config.patterns)
        self._config, self._clock = config.doorway, clock
        self._needs_clock = config.door.require_synced_clock
        self._quiet = Schedule("", tuple(map(parse_quiet, config.doorway.quiet)))

    def make(self, gpiozero: Any) -> Any:
        gpio, hz = self._config.buzzer_gpio, self._config.buzzer_hz
        if hz:
            return gpiozero.PWMOutputDevice(gpio, frequency=hz)
        return gpiozero.DigitalOutputDevice(gpio)

    def is_quiet(self) -> bool:
        """Without a set clock no hours are quiet."""
        is_set = not self._needs_clock or self._clock.is_set()
        has_hours = bool(self._quiet.spans)
        return has_hours and is_set and is_open(self._quiet, self._clock.now())

    def frames(self, sign: Signal) -> Iterator[tuple[tuple[int, int], float]]:
        is_answer = sign not in (*STANDING, Signal.STOPPING)
        if sign in LOUD or (is_answer and not self.is_quiet()):
            return super().frames(sign)
        return iter([((0, 0), self._patterns[sign].duration_s)])

    def put(self, device: Any) -> None:
        """A square wave is loudest."""
        device.value = any(self._light) * (0.5 if self._config.buzzer_hz else 1)


def make_buzzer(config: Config, clock: Clock) -> Indicator:
    """The buzzer, if there is one."""
    has_one = config.doorway.buzzer_gpio >= 0
    return GpioBuzzer(config, clock) if has_one else Indicator()


def make_switch(gpio: int) -> Switch:
    """The switch on a pin; -1: there is none."""
    return GpioSwitch(gpio) if gpio >= 0 else Switch()


class Systemd:
    """The service manager's protocol: messages on a datagram socket, if there is one.

    WATCHDOG=1 is sent four times in the time that systemd allows.  Only a ``report``
    waits for a busy manager, ``once_s``; what is sent again and again does not.

    Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) on reloading.
    """

    once_s = 1.0

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._clock = clock
        self._address = re.sub("^@", "\0", environ.get("NOTIFY_SOCKET", ""))
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._beat_s = int(environ.get("WATCHDOG_USEC") or 0) / 4e6 if is_ours else 0.0
        self._next_beat_at = -inf
        self._last_status = ""

    def report(self, state: str) -> None:
        message = f"{state.upper()}=1"
        if state == "reloading":  # by systemd's own clock, which is not the door's
            message += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
        self._send(message, self.once_s)

    def alive(self) -> None:
        now = self._clock.monotonic()
        if self._beat_s and now >= self._next_beat_at:
            self._next_beat_at = now + self._beat_s
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        if text != self._last_status:
            self._last_status = text
            self._send("STATUS=" + printable(text))

    def _send(self, message: str, patience_s: float = 0.0) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),  # systemd is busy or missing: no harm
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ):
            manager.settimeout(patience_s)
            manager.sendto(message.encode(), self._address)


class JournalFormatter(logging.Formatter):
    """Lines for the journal: each with its priority, unless the format has the time.

    Source: sd-daemon(3): a line that starts with <4> is a warning.
    """

    priorities = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))

    def format(self, record: logging.LogRecord) -> str:
        text = for_this_door(super().format(record))
        if self.usesTime():
            return text
        number = next(n for level, n in self.priorities if record.levelno >= level)
        return "\n".join(f"<{number}>{line}" for line in text.splitlines())


# -- the owner's files


MOST_BYTES = 32 << 20  # a list of 200,000 cards; more would fill a Pi's memory


def bytes_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file.  Raises: OSError, also for what may have no end, such as
    a pipe or a device."""
    with open(
        path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    ) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.ESPIPE, "not a plain file")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return content


def text_of(path: Path, errors: str = "strict", most: int = MOST_BYTES) -> str:
    """The same as text, with line ends of one kind.  Raises: OSError, UnicodeError."""
    return io.TextIOWrapper(io.BytesIO(bytes_of(path, most)), "utf-8", errors).read()


def read_settings(path: Path) -> str:
    """The text of the settings.  Raises: ConfigError if there is none."""
    try:
        text = text_of(path)
        if "\0" in text:  # UTF-16
            raise UnicodeError
        if text.strip():
            return text
        trouble = "the file is empty"
    except FileNotFoundError:
        trouble = "no such file"
    except UnicodeError:
        trouble = "cannot be read: not UTF-8 text, save it as UTF-8"
    except OSError as error:
        trouble = f"cannot be read: {cause_of(error)}"
    raise ConfigError([f"{path}: {trouble}"])


def read_config(
    path: Path, environ: Mapping[str, str], tables: Collection[str] = DOOR_TABLES
) -> Config:
    """Read and check the settings, with the files that ``tables`` name.  Raises:
    ConfigError with every problem."""
    return NamedFiles(path, environ, tables).parse(read_settings(path))


IN_ETC, STATE_IN_VAR = Path("/etc/doorpi/doorpi.toml"), "/var/lib/doorpi"


def instance_of(path: Path) -> str:
    """Which of several doors on this computer has the settings ``path``: ``lab``, whose
    service is doorpi@lab; "" for the one of doorpi.service."""
    return path.stem if path.parent == IN_ETC.parent and path != IN_ETC else ""


def service_of(path: Path, name: str) -> str:
    """The service ``name`` of the door with these settings."""
    return f"{name}@{instance}" if (instance := instance_of(path)) else name


#: The settings that the commands in this process's texts are about; `main` sets it.
ADDRESSED = SimpleNamespace(path=IN_ETC)


def for_this_door(text: str) -> str:
    """``text`` with its commands and services as they are for this door, where it is
    one of several on the computer: a lockdown of another door must not be lifted."""
    path = ADDRESSED.path
    if "doorpi" not in text or not instance_of(path):
        return text
    unit = r"(systemctl \w+ |journalctl -u )(doorpi(?:-online)?)(?![\w@-])"
    text = re.sub(unit, lambda it: it[1] + service_of(path, it[2]), text)
    command = r"(?<![\w@/.-])doorpi (?=[a-z])(?!is |hangs)"
    return re.sub(command, f"doorpi --config {path} ", text)


def state_folders(named: str, path: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Where the state may be: first in ``named``, as the settings ``path`` say."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd may list several
    # The installed command gives the folder of doorpi.service.
    if given == STATE_IN_VAR and (instance := instance_of(path)):
        given += f"-{instance}"
    yield from (path.parent / each for each in (named, given, "state") if each)


#: The keys that name a PEM file, and what it has to hold.
PEM_KEYS = {"ca_file": "certificate", "cert_file": "certificate", "key_file": "key"}
PUBLIC_FILES = (".ca_file", ".cert_file")


class NamedFiles:
    """The files with secrets and certificates that the settings ``path`` name: beside
    it, or among the credentials that systemd hands over (LoadCredential=), which may be
    readable only for the service.  Those of ``tables`` are read, unless ``kept`` has
    their content; ``seen`` gets the path of each one before it is read."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        tables: Collection[str] = (),
        kept: Mapping[str, str] = MappingProxyType({}),
        seen: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._path, self._environ = path, environ
        self._handed = Path(environ.get("CREDENTIALS_DIRECTORY") or os.devnull)
        self._tables, self._kept, self._seen = tables, kept, seen
        self.texts: dict[str, str] = {}  # what was read, by name, but for systemd's

    def parse(self, text: str) -> Config:
        """The settings in ``text``, read as the file ``path``.  Raises: ConfigError."""
        config = parse_config(text, self.read)
        named = config.door.state_dir
        state_dir = str(next(state_folders(named, self._path, self._environ)))
        return config._replace(door=config.door._replace(state_dir=state_dir))

    @staticmethod
    def name(key: str, value: Any) -> str:
        """The name of the file with the value of a key; "" if there is none."""
        named = value if key in PEM_KEYS else getattr(value, "file", "")
        return str(named)

    def place(self, name: str) -> Path:
        theirs = self._handed / name
        return theirs if os.access(theirs, os.F_OK) else self._path.parent / name

    def read(self, table: str, key: str, value: Any) -> dict[str, Any]:
        """A FileReader."""
        name = self.name(key, value)
        if not name or table not in self._tables:
            return {}
        path = self.place(name)
        if key == "issuer_key" and not os.access(path, os.R_OK):
            self._seen(path)
            return {}
        text = self._kept.get(name) or self._text(name, is_key=table == "proof")
        if key in PEM_KEYS:
            if "-----BEGIN " not in text:
                raise FileTrouble(f"{path} holds no {PEM_KEYS[key]} in PEM")
            trusted = {"trusted": text} if key == "ca_file" else {}
            return {key: str(path.absolute()), **trusted}
        text = text.strip()
        if not (text and text.isascii() and text.isprintable()):
            raise FileTrouble(f"{path} does not hold one line of plain text")
        return {key: Secret(text=text, file=name)}

    def _text(self, name: str, *, is_key: bool) -> str:
        path = self.place(name)
        self._seen(path)
        try:
            text = text_of(path, errors="surrogateescape")
            is_public = path.stat().st_mode & 0o007
        except OSError as error:
            raise FileTrouble(f"{path} cannot be read: {cause_of(error)}") from None
        if is_key and is_public:
            raise FileTrouble(f"{path} can be read by others; chmod 600 {path}")
        if not is_key and path == self._path.parent / name:
            self.texts[name] = text
        return text


def named_files(
    config: Config, path: Path, environ: Mapping[str, str], *, online: bool = False
) -> Iterator[tuple[str, Path]]:
    """Each key of the door, or of `doorpi online`, that holds a secret or names
    certificates, such as ``lock.api_key``, and the file: perhaps ``path`` itself."""
    files = NamedFiles(path, environ)
    tables = config.online if online else tables_of(config._replace(online={}))
    for where, table in tables.items():
        for key, value in table.items():
            if value and (key in PEM_KEYS or isinstance(value, Secret)):
                name = files.name(key, value)
                file = files.place(name) if name else path
                if key != "issuer_key" or os.access(file, os.R_OK):
                    yield f"{where}.{key}", file


def online_tables(config: Config, files: NamedFiles) -> dict[str, Table | FileTrouble]:
    """The tables of `doorpi online` with their secrets, or why a secret cannot be read,
    which does not stop the other tables."""
    tables: dict[str, Table | FileTrouble] = {}
    for where, table in config.online.items():
        tables[where], name = table, where.partition(" ")[0]
        for key, value in table.items():
            try:
                tables[where] = table = table._replace(**files.read(name, key, value))
            except FileTrouble as error:
                tables[where] = error
                break
    return tables


ISSUER_KEY = "proof.issuer_key"  # the door opens without it

# -- the last good settings


LAST_GOOD = "last-good.json"


class LastGood(NamedTuple):
    """The settings that were last in force: used if the program starts with a broken or
    missing file, and compared with an edit."""

    settings: str
    #: The content of each file that they name, by its name; not systemd's credentials.
    files: Mapping[str, str]
    path: str  # of the settings' file
    folder: Path  # of the state
    date: str = ""  # since when they were in force

    def __repr__(self) -> str:
        return f"<the settings of {self.path}>"  # without the secrets

    def config(
        self,
        path: Path = Path(),
        environ: Mapping[str, str] = MappingProxyType({}),
        tables: Collection[str] = (),
    ) -> Config:
        """The settings, as the file ``path`` would mean them, with the files that
        ``tables`` name; only what this program understands: another version may have
        written them.  Raises: ConfigError."""
        files = NamedFiles(path, environ, tables, self.files)
        try:
            config = parse_config(self.settings, files.read)
        except ConfigError as error:
            if error.rest is None:
                raise
            config = error.rest
        return config._replace(door=config.door._replace(state_dir=str(self.folder)))

    def save(self) -> None:
        """Raises: OSError.  If it fails, the ones before are removed and it is tried
        again: they would let in people who were removed since, and a full disk needs
        the room."""
        known = {"settings": self.settings, "files": self.files, "path": self.path}
        path, text = self.folder / LAST_GOOD, json.dumps(known)
        try:
            write_whole(path, text)
        except OSError:
            path.unlink(missing_ok=True)
            write_whole(path, text)


def last_good(path: Path, environ: Mapping[str, str]) -> LastGood | None:
    """The last good settings of the door with the file ``path``, whatever is in it now;
    None if there are none of its own.  Root becomes the owner of the state folder."""
    text = ""
    with contextlib.suppress(OSError):
        text = text_of(path, errors="replace")
    line = r"""^\s*state_dir\s*=\s*["']([^"'\\\0]*)["']"""
    named = re.findall(line, text, re.MULTILINE)  # it need not be valid TOML
    for folder in state_folders(named[-1] if named else "", path, environ):
        become_owner(folder)
        good = read_last_good(folder)
        if good is not None:
            return good if good.path == str(path.absolute()) else None
    return None


def read_last_good(folder: Path) -> LastGood | None:
    """Those in this state folder; None if they cannot be used."""
    path = folder / LAST_GOOD
    try:
        at = datetime.fromtimestamp(path.lstat().st_mtime, UTC).astimezone()
        known = json.loads(text_of(path, most=2 * MOST_BYTES))
        settings, files, of = known["settings"], known["files"], known["path"]
        good = LastGood(settings, files, of, folder, f"{at:%Y-%m-%d %H:%M}")
        good.config()
        are_texts = all(type(text) is str for text in (of, *files, *files.values()))
        return good if are_texts else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # unreadable, or other JSON


# -- following the owner's edits


class FileWatch:
    """Notices when files were edited, once the edit is complete.

    Comparing their identity, size and times works with every editor, link and folder.
    An edit is complete when the file has been left alone for ``quiet_s``, or, if it is
    missing or empty, ``patience_s``.  One that is shorter than the last good one and
    lacks its end may be half of an upload: it gets ``cut_s``, no more, since taking the
    last person off the list looks the same.
    """

    look_s, quiet_s, cut_s, patience_s = 0.25, 0.9, 4.0, 5.0

    def __init__(self, clock: Clock, paths: Iterable[Path]) -> None:
        self._clock = clock
        self._looks = Every(self.look_s)
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._changed: dict[Path, float] = {}  # when a file was last seen to change
        self._good: dict[Path, tuple[int, bytes]] = {}  # size and end when last good
        for path in paths:
            self.follow(path)

    def follow(self, path: Path) -> None:
        """Watch this one, too, from now on."""
        self._seen[path] = self._seen.get(path) or _state(path)

    def is_due(self, *, urgent: bool = False) -> bool:
        """True from the end of an edit until ``mark_read``; with ``urgent``, also if
        there was none."""
        now = self._clock.monotonic()
        if not urgent and not self._looks.is_due(now):
            return False
        self._look(now)
        if any(now - at < self._wait_s(path) for path, at in self._changed.items()):
            return False
        return urgent or bool(self._changed)

    def mark_read(self, *, is_good: bool = False) -> bool:
        """Call this after reading: True if nobody has written since."""
        contents = {path: self._content(path) for path in self._seen if is_good}
        # The last person in the settings takes as much as this end.
        good = {path: (len(c), c.rstrip()[-64:]) for path, c in contents.items()}
        if self._look(self._clock.monotonic()):
            return False
        self._good = good or self._good
        self._changed.clear()
        return True

    def _content(self, path: Path) -> bytes:
        try:
            return bytes_of(path)
        except OSError:
            return b""

    def _look(self, now: float) -> bool:
        """Whether any file has changed since the last look."""
        states = {path: _state(path) for path in self._seen}
        changed = [path for path, state in states.items() if state != self._seen[path]]
        self._seen = states
        self._changed |= dict.fromkeys(changed, now)
        return bool(changed)

    def _wait_s(self, path: Path) -> float:
        """How long to wait after the last change of a file."""
        size, (good_size, end) = self._seen[path][0], self._good.get(path, (0, b""))
        if size == 0:
            return self.patience_s
        is_cut = size < good_size and end not in self._content(path)
        return self.cut_s if is_cut else self.quiet_s


#: Settings that the door reads when it needs them.  An edit of any other, also of a
#: table that is yet to come, makes all parts of the door again.
READ_IN_USE = (
    "door",
    "log",
    "schedules",
    "open_hours",
    "cards",
    "examples",
    "bare_numbers",
)


class FileSettings:
    """doorpi.toml and the files that it names: read again after each edit, and on
    SIGHUP."""

    remember_every_s = 60.0

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        signals: ProcessSignals,
        clock: Clock,
        *,
        new_parts: Callable[[Config, Clock, Sequence[Source]], Mapping[str, Any]],
    ) -> None:
        self._path, self._environ = path, environ
        self._signals, self._clock = signals, clock
        self._new_parts = new_parts
        self._watch = FileWatch(clock, [path])
        self._is_asked = False  # to read them again
        self._config: Config | None = None  # in force
        self._good: LastGood | None = None  # what it was read from
        self._remember_at = inf  # when to try again to save that

    def load(self) -> Config:
        """The settings for the start, or the last good ones, if they cannot be used:
        then ``changed`` reports why.  Raises: ConfigError if there are none."""
        try:
            self._config, good = self._read()
            if self._watch.mark_read(is_good=True):
                self._good = good  # else they are read again, and then kept
            return self._config
        except ConfigError as error:
            problems = error.problems
        self._is_asked = True
        last = last_good(self._path, self._environ)
        if last is None:
            raise ConfigError(problems)
        try:
            self._config = config = last.config(self._path, self._environ, DOOR_TABLES)
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
        log.error(
            "%s cannot be used: the last good settings, of %s, are in force"
            " (sudo doorpi check)", self._path, last.date,
        )  # fmt: skip
        return config

    def changed(self) -> Config | ConfigError | None:
        if self._clock.monotonic() >= self._remember_at:
            self.remember()
        if is_asked := self._signals.reload_asked():
            self._is_asked = True
        if not self._watch.is_due(urgent=self._is_asked):
            if is_asked:
                log.info("%s is being edited: it is read afterwards", self._path)
            return None
        found: Config | ConfigError
        good = None
        try:
            found, good = self._read()
        except ConfigError as error:
            found = ConfigError(
                each if str(self._path) in each else f"{self._path.name}: {each}"
                for each in error.problems
            )
        if not self._watch.mark_read(is_good=good is not None):  # it may be half of it
            return None
        self._is_asked = False
        self._good = good or self._good
        return found

    def _read(self) -> tuple[Config, LastGood]:
        """The settings, and what to keep of them.  Raises: ConfigError."""
        path, environ = self._path, self._environ
        files = NamedFiles(path, environ, DOOR_TABLES, seen=self._watch.follow)
        text = read_settings(path)
        config = files.parse(text)
        new_dir = config.door.state_dir
        old_dir = self._config.door.state_dir if self._config else new_dir
        if old_dir != new_dir:  # the list and a lockdown are there, and `only_door`
            why = "needs a restart (sudo systemctl restart doorpi); in use is"
            raise ConfigError([f"door.state_dir = {new_dir!r}: {why} {old_dir!r}"])
        good = LastGood(text, files.texts, str(path.absolute()), Path(new_dir))
        return config, good

    def apply(self, new: Config, equipment: Equipment) -> bool:
        old, self._config = self._config, new
        if old is None or new == old:
            return False
        fields = zip(new._fields, old, new, strict=True)
        edited = {name for name, was, now in fields if was != now}
        clocks = {each.door.require_synced_clock for each in (old, new)}
        if len(clocks) > 1 or edited - {*READ_IN_USE}:
            # All parts are closed before any is made: pins may be exchanged.
            with ProcessSignals.postponed():
                equipment.close(keeps_store=True)
                made = self._new_parts(new, self._clock, equipment.sources)
                vars(equipment).update(made)
        return True

    def before(self) -> Config | None:
        """None if the last good settings are in force, or if there were none."""
        good = self._good
        kept = read_last_good(good.folder) if good else None
        is_other = good and kept and kept.settings != good.settings
        return kept.config() if kept and is_other else None

    def remember(self) -> None:
        good = self._good
        if good is None:  # the last good ones are in force, or half of an edit
            return
        try:
            if good[:3] != (read_last_good(good.folder) or ())[:3]:
                good.save()
            self._remember_at = inf
        except OSError as error:
            if self._remember_at == inf:  # once
                log.warning(
                    "%s cannot be written (%s): a bad edit of the settings would not"
                    " survive a restart", good.folder / LAST_GOOD, cause_of(error),
                )  # fmt: skip
            self._remember_at = self._clock.monotonic() + self.remember_every_s


################################################################################
# 22. Authorities -- remote systems that know people who are not on the list
################################################################################


def spelled(uid: Uid, form: str) -> str:
    """The UID as an authority's database has it.  Source: the clients of CarontePass:
    the ESP8266 writes the first four bytes in decimal ("dotted"), the Raspberry Pi the
    cascade tag and three bytes ("dotted-cascade"), kreitek's Arduino "hex-dotted".  And
    the doors of Cobot spaces: MotionLab's has four bytes as one number, least
    significant first ("decimal-le4"), Chimera's most significant first."""
    data = bytes.fromhex(uid)
    if form.startswith("dotted"):
        is_cascade = form == "dotted-cascade" and len(data) > 4
        first = bytes.fromhex(CASCADE_TAG) + data[:3] if is_cascade else data[:4]
        return ".".join(map(str, first))
    if form.startswith("decimal"):
        return str(
            int.from_bytes(data[:4], "little" if form.endswith("le4") else "big")
        )
    separator = {"hex-colon": ":", "hex-dotted": "."}.get(form)
    text = data.hex(separator) if separator else data.hex()
    return text if form == "hex" else text.upper()


class RemoteAuthority(Authority):
    """What the kinds of authorities have in common: one request for each presentation,
    answered within ``answer_s``, and a fault where there is no clear verdict."""

    media: tuple[Medium, ...]
    may_ask_twice = False  # a question changes nothing there

    def __init__(
        self,
        config: AuthorityConfig,
        clock: Clock,
        worker: Worker,
        state: DriverStateFile,
        points: Collection[str] = (),
    ) -> None:
        """``points`` are the scanners of whose codes it is asked."""
        self.name, self.answer_s = config.name, config.answer_s
        self.schedule, self.worker = config.schedule, worker
        self._points = points
        self._config, self._clock, self._state = config, clock, state
        own = self._credentials()
        self.api = WebApi(
            config.base_url, config.trusted, clock,
            headers={"Accept": "application/json", **own},
            secrets=[config.password.text, *own.values()],
        )  # fmt: skip
        self.api.dialer.label = f"{self.name}: "

    def _credentials(self) -> Mapping[str, str]:
        """The headers by which the server knows this door."""
        raise NotImplementedError

    def takes(self, request: AccessRequest) -> bool:
        return request.medium in self.media

    def ask(self, request: AccessRequest) -> Found:
        """``look_up`` for `why`: nothing changes, there or here.  Only where
        ``may_ask_twice``."""
        raise NotImplementedError

    def probe(self) -> str:
        """What is wrong with address or credentials, "" if nothing; for `doctor`.  It
        changes nothing there.  Raises: HttpError."""
        raise NotImplementedError

    def _ask(self, method: str, path: str, **options: Any) -> Reply:
        """One request; where it ``may_ask_twice``, a second one if surely nothing was
        answered.  Raises: HttpError."""
        by = self._clock.monotonic() + self.answer_s
        call = functools.partial(self.api.call, method, path, by=by, send_by=by)
        try:
            return call(**options)
        except (HttpNotSent, HttpMaybeSent):
            if not self.may_ask_twice or self._clock.monotonic() >= by:
                raise
        return call(**options)

    def _known(self, holder: str, uid: str = "") -> Credential:
        """The person whom it has let in."""
        holder, schedule = printable(holder, LONGEST_NAME), self.schedule or None
        source = Origin.AUTHORITY
        return Credential(Uid(uid), tidied(holder), schedule=schedule, source=source)

    def close(self) -> None:
        self.api.dialer.close()
        self.worker.close()


class CarontePass(RemoteAuthority):
    """The access control of many makerspaces.  Source: torehc/carontepass-v2 and
    SilentResonance/carontepass-v3, both tried.

    Each answered request counts at the server as a person who comes or goes, even when
    the answer is lost: so there is one for each presentation and never a second.  While
    the server cannot be asked, its last yes for a card opens for ``trust_for_s``.
    """

    media = (Medium.CARD,)
    most_trusted = 10_000  # cards, the latest

    def _credentials(self) -> Mapping[str, str]:
        pair = f"{self._config.user}:{self._config.password.text}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def look_up(self, request: AccessRequest) -> Found:
        uid, at = request.identifier, request.at
        code = spelled(Uid(uid), self._config.uid_format)
        try:
            found = self._read(self._ask("GET", f"/api/1/device/{code}"), code, uid)
        except HttpError as trouble:
            return self._on_trust(uid, code, at, str(trouble))
        self._remember(code, found.who and found.who.holder, at)
        return found._replace(detail=f"asked {self.name}")

    def _read(self, reply: Reply, code: str, uid: str) -> Found:
        """The verdict in an answer.  Raises: HttpError."""
        if reply.status != 200:
            raise HttpUnreadable(reply.words)
        found = reply.json(list)
        if len(found) != 1:
            return Found(reason=Reason.AMBIGUOUS if found else Reason.NOT_FOUND)
        device = found[0] if isinstance(found[0], dict) else {}
        if device.get("code") != code or "result" not in device:
            raise HttpUnreadable("an answer about something else")
        if device["result"] is None or device["result"] is False:
            return Found(reason=Reason.NOT_FOUND)
        if device["result"] is not True:
            raise HttpUnreadable("a result that is neither true nor null")
        return Found(self._known(f"{self.name} user {device.get('user')}", uid))

    # -- its last yes

    def _trusted(self) -> dict[str, tuple[float, str]]:
        """By code, when it last said yes (Unix seconds) and for whom."""
        with contextlib.suppress(ValueError, TypeError):
            kept = json.loads(self._state.recall("trusted") or "{}")
            return {c: (float(at), str(holder)) for c, (at, holder) in kept.items()}
        return {}

    def _remember(self, code: str, holder: str | None, at: datetime) -> None:
        """A yes is remembered, and a no forgets it."""
        before, now = self._trusted(), at.timestamp()
        since = now - self._config.trust_for_s
        kept = {c: yes for c, yes in before.items() if c != code and yes[0] > since}
        if holder and self._config.trust_for_s:
            kept[code] = now, holder
        if kept != before:
            latest = list(kept.items())[-self.most_trusted :]
            self._state.keep("trusted", json.dumps(dict(latest)))

    def _on_trust(self, uid: str, code: str, at: datetime, trouble: str) -> Found:
        yes_at, holder = self._trusted().get(code, (inf, ""))
        if not 0 <= at.timestamp() - yes_at < self._config.trust_for_s:
            return Found(reason=Reason.AUTHORITY_UNREACHABLE, detail=trouble)
        said_at = datetime.fromtimestamp(yes_at, at.tzinfo)
        ends = said_at + timedelta(seconds=self._config.trust_for_s)
        words = f"on {self.name}'s answer of {said_at:%Y-%m-%d %H:%M}; {trouble}"
        return Found(self._known(holder, uid)._replace(ends=ends), detail=words)

    def probe(self) -> str:
        # With a slash at the end the server looks nowhere, so nobody comes or goes.
        reply = self._ask("GET", "/api/1/device/0/")
        with contextlib.suppress(HttpError):
            if reply.status == 404 and "detail" in reply.json(dict):
                return ""
        if reply.status == 401:
            return f"the user name or the password is wrong ({reply.words})"
        return f"no CarontePass server answers there ({reply.words})"


PORTS = {"http": 80, "https": 443}
#: Digital ID's codes for a denial.
REFUSALS_OF_DIGITAL_ID: Mapping[Any, Reason] = {
    "token_not_found": Reason.NOT_FOUND,
    "expired": Reason.TOKEN_EXPIRED,
    "revoked": Reason.REVOKED,
    "card_expired": Reason.CARD_EXPIRED,
    "employee_inactive": Reason.NOT_ENABLED,
}


class DigitalId(RemoteAuthority):
    """Digital ID's Building Access API: it verifies the token in a QR code, which lives
    for five minutes.  Source: wellis321/digital-id, api/verify-token.php, tried.

    A token may be used more than once there, so a photo of a screen would open: here a
    token that was verified is refused for ``replay_s``.
    """

    media, may_ask_twice = (Medium.QR,), True
    replay_s = 600.0
    bounce_s = 3.0  # within which the same token is the same presentation

    @functools.cached_property
    def _verified(self) -> dict[str, float]:
        """When each token was verified (monotonic), by its hash.  Those of an earlier
        start count as verified just now."""
        hashes = filter(None, (self._state.recall("verified") or "").split(" "))
        return dict.fromkeys(hashes, self._clock.monotonic() - self.bounce_s)

    def _credentials(self) -> Mapping[str, str]:
        key = self._config.api_key.text
        return {"X-API-Key": key} if key else {}

    def takes(self, request: AccessRequest) -> bool:
        is_its_scanner = super().takes(request) and request.point in self._points
        return is_its_scanner and self._token(request.identifier) is not None

    def _token(self, scanned: str) -> tuple[str, str] | None:
        """Token and type of a scanned verify URL, or of a token by itself."""
        text = re.sub(AIM_PREFIX, "", scanned.strip(" "))
        query = {"token": [text]}
        if not re.fullmatch("[!-~]{1,512}", text):
            return None
        if "/" in text:
            try:
                parts, ours = urlsplit(text), urlsplit(self._config.base_url)
                places = {
                    (each.scheme, each.hostname, each.port or PORTS.get(each.scheme))
                    for each in (parts, ours)
                }
            except ValueError:
                return None
            path = f"{ours.path.rstrip('/')}/verify.php"
            if len(places) > 1 or "@" in parts.netloc or parts.path != path:
                return None
            query = parse_qs(parts.query, keep_blank_values=True)
        tokens, kinds = query.get("token", []), query.get("type", [])
        if len(tokens) != 1 or not re.fullmatch("[0-9A-Fa-f]{64}", tokens[0]):
            return None
        return tokens[0].lower(), kinds[0] if kinds in (["nfc"], ["ble"]) else "qr"

    def look_up(self, request: AccessRequest) -> Found:
        token, _ = self._token(request.identifier) or ("", "")
        hashed = hashlib.sha256(token.encode()).hexdigest()
        now, verified = self._clock.monotonic(), self._verified
        if self.bounce_s <= now - verified.get(hashed, -inf) < self.replay_s:
            return Found(reason=Reason.REPLAYED, detail=self._audit({}))
        found = self.ask(request)
        if found.who:
            verified[hashed] = now
            for old in [h for h, at in verified.items() if now - at >= self.replay_s]:
                del verified[old]
            self._state.keep("verified", " ".join(verified))
        return found

    def ask(self, request: AccessRequest) -> Found:
        token, kind = self._token(request.identifier) or ("", "")
        try:
            return self._read(self._verify(token, kind), kind)
        except HttpError as trouble:
            words = "; ".join(filter(None, [str(trouble), self._audit({})]))
            return Found(reason=Reason.AUTHORITY_UNREACHABLE, detail=words)

    def _verify(self, token: str, kind: str) -> Reply:
        """Raises: HttpError."""
        body = {"token": token, "type": kind}
        own = {"location": self._config.location, "device_id": self._config.device_id}
        body |= {key: text for key, text in own.items() if text}
        return self._ask("POST", "/api/verify-token.php", body=body, secrets=[token])

    def _read(self, reply: Reply, kind: str) -> Found:
        """The verdict in an answer.  Raises: HttpError."""
        answer = reply.json(dict)
        verdict = answer.get("success"), answer.get("valid")
        if reply.status == 403 and verdict[0] is False and verdict[1] is False:
            reason = REFUSALS_OF_DIGITAL_ID.get(str(answer.get("error")))
            return Found(reason=reason or Reason.NOT_FOUND, detail=self._audit({}))
        if reply.status != 200 or verdict[0] is not True or verdict[1] is not True:
            raise HttpUnreadable(f"no verdict: {reply.words}")
        employee = answer.get("employee")
        if not isinstance(employee, dict) or answer.get("verification_type") != kind:
            raise HttpUnreadable("a verdict about something else")
        name, organisation = employee.get("full_name"), employee.get("organisation_id")
        has_name = isinstance(name, str) and name.strip()
        if not has_name or type(organisation) is not int:
            raise HttpUnreadable("a verdict without a name or an organisation")
        reason = None
        if organisation not in self._config.organisations:
            reason = Reason.OTHER_ORGANISATION
        elif employee.get("is_active") is not True:
            reason = Reason.NOT_ENABLED
        who = None if reason else self._known(str(name))
        return Found(who, reason, self._audit(employee))

    def _audit(self, employee: Mapping[str, object]) -> str:
        """What the organisation needs for its audit, for the event's detail."""
        known = employee.get
        parts = {
            "employee": known("employee_reference") or known("display_reference"),
            "display": known("full_name"),
            "location": self._config.location,
            "device": self._config.device_id,
        }
        return "; ".join(
            f"{key}={printable(str(part), 100).replace(';', ',')}"
            for key, part in parts.items()
            if part
        )

    def probe(self) -> str:
        # No token is all zeros, and the server logs nothing about an unknown one.
        reply = self._verify(64 * "0", "qr")
        with contextlib.suppress(HttpError):
            answer = reply.json(dict)
            if reply.status == 403 and answer.get("error") == "token_not_found":
                return ""
        if reply.status == 401:
            return f"the API key is wrong ({reply.words})"
        return f"no Digital ID server answers there ({reply.words})"


class MemberLookUp(Authority):
    """Makes `doorpi online` read a denied member again, or check a member in before the
    door opens; only while that process runs, as the lock on its folder shows."""

    schedule, answer_s = "", 6.0
    look_up_s = 3.0

    def __init__(
        self, config: CobotConfig, folder: Path, clock: Clock, worker: Worker
    ) -> None:
        self.name, self.worker = "cobot", worker
        self._config, self._folder, self._clock = config, folder, clock

    def takes(self, request: AccessRequest) -> bool:
        return False  # members are on the list, not known here

    def question(
        self, request: AccessRequest, who: Credential | None, reason: Reason
    ) -> AccessRequest | None:
        comes_first = self._config.check_in == "before" and reason is Reason.GRANTED
        wants, limit_s = Wants.STATUS, self.look_up_s
        if who is None:
            is_asked = reason in NO_VERDICT and not is_random(Uid(request.identifier))
        elif (
            comes_first and who.membership and who.membership.refusal is Reason.NO_PASS
        ):
            is_asked, wants, limit_s = True, Wants.UNLOCK, self.answer_s
        else:
            is_asked = who.source is Origin.COBOT and reason in OUT_OF_DATE
        if not is_asked or request.medium not in CARDS or not is_running(self._folder):
            return None
        good_until = self._clock.monotonic() + limit_s
        return request._replace(
            medium=Medium.COMMAND, wants=wants, good_until=good_until,
            id=os.urandom(16).hex(),
        )  # fmt: skip

    def look_up(self, request: AccessRequest) -> Found:
        answer = NOT_TAKEN
        with contextlib.suppress(StoreError):
            answer = ask_door(self._folder, self._clock, request) or NOT_TAKEN
        if answer.done or answer is NOT_TAKEN:  # then the list decides
            return Found()
        no = next((each for each in Reason if [each] == answer.lines), None)
        is_unclear = request.wants is Wants.UNLOCK and no is None
        return Found(reason=Reason.AUTHORITY_UNREACHABLE if is_unclear else no)

    def close(self) -> None:
        self.worker.close()


#: Reasons for a denial that a recent change at Cobot may have ended.
OUT_OF_DATE = (
    Reason.NO_PASS, Reason.NO_BOOKING, Reason.PLAN_NOT_HERE, Reason.LIST_TOO_OLD,
    Reason.NOT_ACTIVE, Reason.EXPIRED, Reason.AMBIGUOUS,
)  # fmt: skip


AUTHORITIES: Mapping[str, Callable[..., RemoteAuthority]] = {
    "carontepass": CarontePass,
    "digital-id": DigitalId,
}


################################################################################
# 23. Why -- what would happen at the door, and which rule decides
################################################################################


class Refused(Exception):
    """What the owner asked for cannot be done; the text says why."""


#: Why a card is denied, as `why` says it; ``_answer`` fills in the names.
REASON_WORDS: Mapping[Reason, str | Callable[[Credential, Circumstances], str]] = {
    Reason.GRANTED: "",
    Reason.LOCKED_DOWN: "nobody may enter; to lift that: doorpi lockdown off",
    Reason.RANDOM_UID: (
        "it shows a different, random UID at each tap, as phones do, so it cannot be"
        " put on a list"
    ),
    Reason.NOT_FOUND: (
        "this card is not on the list; to let it in: doorpi allow NAME --uid {uid}"
    ),
    Reason.NOT_ENABLED: lambda who, when: _switched_off(who),
    Reason.CLOCK_NOT_SET: (
        "its dates or hours need the right time, and the Pi's clock is not set yet;"
        " see doorpi doctor"
    ),
    Reason.NOT_ACTIVE: lambda who, when: _limit(
        "begins", "first day is", who.starts, who.valid_from, when
    ),
    Reason.EXPIRED: lambda who, when: (
        _limit("ended", "last day was", who.ends, who.valid_until, when)
        + "; until you change that" * (who.ends is None)
    ),
    Reason.USED_UP: (
        "it opened once, on {who.guest_pass.used_at:%Y-%m-%d at %H:%M}, and never again"
    ),
    Reason.NOT_PERMITTED_AT_THIS_TIME: lambda who, when: _about_hours(
        who, when, "outside the hours of {}"
    ),
    Reason.STALE: "the request came too late, and nothing was sent",
    Reason.AUTHORITY_UNREACHABLE: (
        "the system that may know this card could not be asked"
    ),
    Reason.PASSBACK: lambda who, when: _passed_back_words(who, when),
    Reason.TOKEN_EXPIRED: "its code is too old: refresh it",
    Reason.REVOKED: "its card was revoked where it was issued",
    Reason.CARD_EXPIRED: "its card has expired where it was issued",
    Reason.OTHER_ORGANISATION: "it belongs to another organisation",
    Reason.REPLAYED: "its code was used here before: refresh it",
    Reason.AMBIGUOUS: "the system that was asked has it more than once",
    Reason.NO_PROOF: "it only has a UID, and [proof] uid_only refuses such cards",
    Reason.WRONG_PROOF: "it does not know its key: a copy, or the wrong key file",
    Reason.CARD_MOVED: "it was taken away before it had proven itself",
    Reason.CARD_LOCKED: "wrong keys were tried too often, so it no longer answers",
    Reason.PROOF_UNAVAILABLE: (
        "it must prove itself, and the door lacks its door_key; see doorpi doctor"
    ),
    Reason.UNREADABLE_CODE: "no pass of this door, and no code that may be asked about",
    Reason.LIST_TOO_OLD: (
        "its entry, from {who.source}, was confirmed too long ago; see doorpi doctor"
    ),
    Reason.PLAN_NOT_HERE: "the plan {who.membership.plan!r} does not include this door",
    Reason.NO_PASS: "there is no time pass that covers this time",
    Reason.NO_BOOKING: "the room is not booked for them at this time",
}
#: The reasons that time ends; ``_turns`` knows when.
PASSING = (
    Reason.NOT_ACTIVE, Reason.NOT_PERMITTED_AT_THIS_TIME, Reason.PASSBACK,
    Reason.NO_PASS, Reason.NO_BOOKING,
)  # fmt: skip


def _passed_back_words(who: Credential, when: Circumstances) -> str:
    if when.last_moved is None:
        return ""
    moved = _local(when)(when.last_moved.astimezone(UTC))
    if not when.is_inside:
        return (
            f"it moved the lock at {moved:%H:%M:%S} and must wait {when.passback_s:g} s"
        )
    name, since = printable(who.holder, 60), _day_and_time(moved)
    return (
        f"{name} came in on {since} and has not gone out since, which is forgotten"
        f" after {when.passback_s:g} s"
    )


def _limit(
    verb: str, noun: str, at: datetime | None, day: date | None, when: Circumstances
) -> str:
    """``it ended on ...``, or ``its last day was ...``."""
    if at:
        day = _local(when)(at.astimezone(UTC))
    if isinstance(day, datetime):
        return f"it {verb} on {_day_and_time(day)}"
    return f"its {noun} {day}"


def _switched_off(who: Credential) -> str:
    uid = format_uid(who.uid)
    if who.block and who.guest_pass:
        return f"{block_words(who.block)}; a new pass lifts it: doorpi pass NAME"
    if who.block:
        return f"{block_words(who.block)}; to lift it: {LIFTS_BLOCK.format(uid)}"
    if who.refused:
        return who.refused
    if who.source is Origin.TOML:
        return "it is switched off in doorpi.toml (enabled = false)"
    if who.source is Origin.MQTT:
        return "it is switched off on the published list (enabled = false)"
    return f"it is switched off; to let it in: doorpi allow NAME --uid {uid}"


def _about_hours(who: Credential, when: Circumstances, words: str) -> str:
    schedule = who.schedule_of(when.schedules)
    name = printable(str(who.schedule))
    if schedule is None:
        return f"there is no schedule called {name}"
    if when.at.date() in schedule.closed:
        return f"{when.at:%a %Y-%m-%d} is a closed day of {name}"
    return words.format(name)


def next_turn(
    uid: Uid, who: Credential | None, when: Circumstances
) -> tuple[Circumstances, Reason] | None:
    """When ``decide`` will next answer differently, in local time, and its reason then;
    None where time alone changes nothing, or that cannot be seen.  ``decide`` is asked
    about each time at which that may happen, as if the clock were set."""
    local, reason = _local(when), decide(uid, who, when).reason
    if who is None or reason not in (Reason.GRANTED, *PASSING):
        return None
    granted = reason is Reason.GRANTED
    for point in sorted({at for at in _turns(who, when) if at > when.at}):
        then = when._replace(at=local(point), clock_set=True)
        verdict = decide(uid, who, then)
        if verdict.granted is not granted:
            return then, verdict.reason
    return None


#: How far `why` looks ahead in a schedule; it sees dates however far away they are.
HORIZON_DAYS = 400


def _turns(who: Credential, when: Circumstances) -> Iterator[datetime]:
    """The instants, in UTC and in any order, at which ``decide`` may answer
    differently.  On a day when the clock changes they are every quarter of an hour: it
    may skip the first or last minute of some hours."""
    today, minutes = when.at.toordinal(), {0.0}
    limits = begins_at(who.valid_from or date.min), ends_at(who.valid_until or date.max)
    starts, days = limits[0].toordinal(), {limit.toordinal() for limit in limits}
    for limit in limits:
        midnight = datetime.fromordinal(limit.toordinal())
        minutes.add((limit - midnight) / timedelta(minutes=1))
    moments = filter(None, (who.starts, who.ends))
    yield from (moment.astimezone(UTC) for moment in moments)
    if member := who.membership:
        ends = member.trusted_until, *chain.from_iterable(member.spans)
        yield from (limit.astimezone(UTC) for limit in ends)
    if schedule := who.schedule_of(when.schedules):
        first = max(today, starts)
        days.update(range(first, first + HORIZON_DAYS + 1))
        days |= {day.toordinal() + i for day in schedule.closed for i in (0, 1)}
        minutes |= {m % 1440 for s in schedule.spans for m in (s.start_min, s.end_min)}
    for day in days:
        if max(today, 3) <= day < date.max.toordinal() - 2:  # there are days around it
            midnight = datetime.fromordinal(day).replace(tzinfo=UTC)
            around = midnight - timedelta(days=1), midnight + timedelta(days=2)
            offsets = {_local(when)(at).utcoffset() or timedelta(0) for at in around}
            quarters = range(-1440, 2 * 1440, 15) if len(offsets) > 1 else ()
            for minute in minutes.union(quarters):
                yield from (midnight + timedelta(minutes=minute) - o for o in offsets)
    if when.last_moved and when.passback_s:
        moved = when.last_moved.astimezone(UTC)
        over = moved + timedelta(seconds=ceil(when.passback_s))
        yield moved
        yield over.replace(microsecond=0) + timedelta(seconds=bool(over.microsecond))


def _local(when: Circumstances) -> Callable[[datetime], datetime]:
    zone = when.at.tzinfo or UTC
    return when.local or (lambda at: zone.fromutc(at.replace(tzinfo=zone)))


def answer_in_words(
    uid: Uid, who: Credential | None, when: Circumstances, *, is_now: bool
) -> str:
    """What the door would do, by which rule, and until when or when next:
    ``would be let in now: granted, without limits.``"""
    then = "" if is_now else f" on {_day_and_time(when.at)}"
    action = f"be let {'out' if when.is_exit else 'in'}{then or ' now'}"
    if who and who.role is Role.MASTER:
        action = f"start enrolment{then or ' now'} (a master card never opens the door)"
    if who and who.proof:
        action += f" once it has proven itself ({printable(who.proof)})"
    if not decide(uid, who, when).granted:
        action = f"be denied{then}"
    return f"would {action}: {_answer(uid, who, when)}."


def _answer(uid: Uid, who: Credential | None, when: Circumstances) -> str:
    reason, turn = decide(uid, who, when).reason, next_turn(uid, who, when)
    if reason is Reason.GRANTED:
        if who and turn:
            return f"{reason}, until {_end_in_words(who, *turn)}"
        ever = "for as long as the settings stay as they are"
        return f"{reason}, {ever if who and who.needs_clock else 'without limits'}"
    why = REASON_WORDS[reason]
    if isinstance(why, str):
        why = why.format(uid=format_uid(uid), who=who)
    else:
        why = why(who, when) if who else ""
    words = f"{reason}, {why}"
    if reason is Reason.LOCKED_DOWN:
        return f"{words} (then: {_answer(uid, who, when._replace(locked_down=False))})"
    if turn:
        return f"{words}; next possible on {_day_and_time(turn[0].at)}"
    if reason in PASSING:
        words += f"; not in the next {HORIZON_DAYS} days unless something is changed"
    return words


def why_json(
    uid: Uid, who: Credential | None, when: Circumstances
) -> dict[str, str | None]:
    """The wire format of ``why --json``; ``until``: when the answer changes."""
    verdict, turn = decide(uid, who, when), next_turn(uid, who, when)
    return {
        "uid": uid or None,
        "holder": verdict.holder or None,
        "decision": "granted" if verdict.granted else "denied",
        "reason": verdict.reason,
        "until": turn and turn[0].at.isoformat(timespec="seconds"),
    }


def _end_in_words(who: Credential, then: Circumstances, reason: Reason) -> str:
    """Until when a grant lasts that ends ``then``, and why it ends."""
    until, why = _day_and_time(then.at), str(reason)
    if reason is Reason.EXPIRED:
        is_time = who.ends or isinstance(who.valid_until, datetime)
        why = "its end" if is_time else "its last day"
    elif reason is Reason.LIST_TOO_OLD:
        why = "unless its list is read again by then"
    elif reason is Reason.NOT_PERMITTED_AT_THIS_TIME:
        why = _about_hours(who, then, "the hours of {} end")
    before = then.at.astimezone(UTC) - timedelta(microseconds=1)
    day = _local(then)(before).date()
    if day < then.at.date():  # its midnight may be one that is skipped
        until = f"the end of {day:%a %Y-%m-%d}"
    return f"{until} ({why})"


def open_sentence(
    hours: Sequence[Schedule], events: Forgiving, when: Circumstances, *, is_now: bool
) -> str:
    """Whether the open hours keep the door unlocked, in words; "" outside of them."""
    last, moved = last_in_hours(events) if hours else ("", EPOCH)
    wall = _local(when)(moved).replace(tzinfo=None)
    in_span, is_on, _ = hours_at(hours, when.at, last, wall)
    words = open_words(hours, when.at.date())
    if not (in_span and is_now):
        return f"These are open hours: {words}." * in_span
    why = "no member has come, or somebody has locked it" * (not is_on)
    if not when.clock_set:
        why = "the clock is not set"
    if when.locked_down:
        why = "lockdown"
    if not why:
        return f"The door stays unlocked now, in its open hours: {words}."
    return f"These are open hours ({words}), but the door stays locked: {why}."


def _day_and_time(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d} at {at:%H:%M}{f':{at:%S}' if at.second else ''}"


def wall_time(text: str) -> datetime:
    """``today``, ``2026-11-21``, ``2026-11-21 08:00``; local unless it has a zone.
    Raises: ValueError."""
    today = datetime.now().date()  # noqa: DTZ005 -- a local day is meant
    for days, word in (-1, "yesterday"), (0, "today"), (1, "tomorrow"):
        if text == word:
            text = str(today + timedelta(days=days))
    return datetime.fromisoformat(text)


def time_since(text: str) -> datetime:
    """A day or a time, local, or so long ago: ``2h``, ``3 days``.  Raises: ValueError,
    OverflowError."""
    ago = re.fullmatch(r"(\d+) ?(min|hours?|h|days?|d|weeks?|w)", text, re.ASCII)
    if not ago:
        return wall_time(text).astimezone()
    minutes = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}[ago[2][0]]
    return datetime.now().astimezone() - timedelta(minutes=int(ago[1]) * minutes)


def time_at(text: str, now: datetime | None = None) -> datetime:
    """What ``wall_time`` takes, or the next ``22:10`` or ``Sat 22:10`` after ``now``.
    Raises: ValueError, OverflowError."""
    form = rf"(?:({'|'.join(DAYS)})[a-z]* +)?(\d\d?):([0-5]\d)"
    match = re.fullmatch(form, text.strip().lower(), re.ASCII)
    if not match:
        at = wall_time(text)
        for days in (-3, 3):  # there are days around it
            (at + timedelta(days=days)).astimezone()
        return at
    now = now or datetime.now()  # noqa: DTZ005 -- the wall clock is meant
    at = now.replace(hour=int(match[2]), minute=int(match[3]), second=0, microsecond=0)
    while at <= now or match[1] not in (None, DAYS[at.weekday()]):
        at += timedelta(days=1)
    return at


def limit_at(text: str) -> date:
    """A limit of access: a day, or a time as ``time_at`` takes it, without a zone.
    Raises: ValueError, OverflowError."""
    return time_at(text) if ":" in text else wall_time(text).date()


def instant_meant(at: datetime, clock: SystemClock) -> datetime:
    """When the clock on the wall shows ``at``, for the first time where it does twice.
    Raises: Refused, for an hour that is skipped."""
    try:
        local = clock.local(at)
    except (ValueError, OverflowError):  # the year 1, in another zone
        raise Refused(f"{at.date()}: there is no such time here") from None
    if at.tzinfo is None and local.replace(tzinfo=None) != at:
        raise Refused(
            f"{_day_and_time(at)}: there is no such time; the clock is put forward then"
        )
    return local


def with_blocks(
    cards: Iterable[Credential], blocks: Iterable[Block]
) -> Iterator[Credential]:
    """The cards, each with the block that keeps it out."""
    kept_out = {block.uid or folded(block.holder): block for block in blocks}
    for card in cards:
        block = kept_out.get(card.uid) or kept_out.get(folded(card.holder))
        yield card._replace(block=block) if block else card


def reader_named(config: Config, name: str | None) -> ReaderConfig:
    """The first reader for None.  Raises: Refused if none has this name."""
    readers = {each.name: each for each in config.readers}
    if name is not None and name not in readers:
        hint = f"there are: {', '.join(readers)}"
        raise Refused(f"no [[reader]] is called {printable(name)!r}; {hint}")
    return config.readers[0] if name is None else readers[name]


class Enquiry:
    """What doorpi.toml and the database know of cards, asked as the door asks.  What is
    wrong with the database is in ``troubles``, in words."""

    def __init__(self, config: Config, store: SqliteStore) -> None:
        self._config = config
        self._store = store
        self.troubles: dict[str, None] = {}
        self.people = Forgiving(store.people, self._report)
        self.events = Forgiving(store.events, self._report)

    def _report(self, why: str, _is_write: bool) -> None:
        self.troubles[why] = None

    def who(self, text: str, medium: Medium | None = None) -> Credential | None:
        """Whose card or user of the chat it is, or whose pass (Medium.QR), by the text
        in its code."""
        medium = medium or (Medium.CHAT if ":" in text else Medium.CARD)
        request = AccessRequest(medium, text, datetime.now(UTC), 0.0, inf)
        key = self._store.events.path.with_name(PASS_KEY)
        read = functools.partial(pass_in, key)
        return LocalList(self._config.cards, self.people, read).look_up(request)

    def passes(self, holder: str) -> list[Credential]:
        """The guest passes of that name that have not ended."""
        now, wanted = datetime.now(UTC), folded(holder)
        is_there = self._store.people.exists()
        every = self.people.passes(default=()) if is_there else ()
        guests = [
            guest_of(each.code, each)
            for each in every
            if folded(each.holder) == wanted and each.code.ends > now
        ]
        return list(with_blocks(guests, self.people.blocks()))

    def unlisted(self, text: str) -> tuple[Uid | None, str]:
        """The card or the person that ``text`` means, if only an authority or a guest
        pass knows them: the UID, or None, and the holder.  Raises: Refused if it means
        nobody, StoreError."""
        uid = as_uid(text)
        sought = Sought(uid=uid, holder="" if uid else text)
        is_there = self._store.events.exists()
        seen = self.events.latest(1000, sought, default=()) if is_there else ()
        for event in reversed(seen):
            if event.holder and (uid or folded(event.holder) == folded(text)):
                return uid, event.holder
        if uid and self._config.authorities:
            return uid, "unknown"
        for guest in self.passes(text):
            return None, guest.holder
        if self.troubles:
            raise StoreError(next(iter(self.troubles)))
        raise Refused(self.nobody(text)[0])

    def entries(self, uid: Uid) -> list[Credential]:
        """The card's entries in the file and the database, blocked or not."""
        found = [self._config.cards.get(uid), self.people.listed(uid)]
        with contextlib.suppress(StoreError):
            found.append(self._store.people.synced.find(uid))
        return [card for card in found if card]

    def when(
        self,
        uid: Uid,
        at: datetime,
        clock: Clock,
        who: Credential | None = None,
        name: str | None = None,
    ) -> Circumstances:
        """What else the door would decide by, about ``who`` at the reader ``name`` or
        the first that is no exit.  Raises: Refused."""
        readers = sorted(self._config.readers, key=lambda each: each.is_exit)
        reader = readers[0] if name is None else reader_named(self._config, name)
        around = circumstances(self._config, self.events, clock, uid, at, who, reader)
        folder = self._store.events.path.parent
        if "door-key" in (published_troubles(folder) or ()):  # of the running door
            around = around._replace(proofs=set(around.proofs) - set(PROOFS))
        return around._replace(locked_down=bool(self.people.locked_down()))

    def cards(self) -> Iterator[Credential]:
        """All of them, those of the file first."""
        file = self._config.cards
        yield from file.values()
        try:  # a row at a time: there may be a million
            everybody = self._store.people.everybody()
            yield from (card for card in everybody if card.uid not in file)
        except StoreError as error:
            self.troubles[str(error)] = None

    def meant(self, text: str) -> list[Uid]:
        """The cards that ``text`` means: by a UID, on the list or not, or by a holder.
        Some names read as a UID, such as Dada Bebe."""
        uid = as_uid(text)
        if uid and (re.search(r"\d", text) or self.entries(uid)):
            return [uid]
        wanted = folded(text)
        blocks = (block for block in self.people.blocks() if block.uid)
        every = chain(self.cards(), blocks)
        found = (each.uid for each in every if folded(each.holder) == wanted)
        return list(dict.fromkeys(found)) or ([uid] if uid else [])

    def nobody(self, text: str) -> tuple[str, bool]:
        """That ``text`` means nobody, in words, with up to 3 names that it is a part
        of or that are close; and whether it looks like a UID with a mistake in it."""
        name, wanted, card = printable(text, 80), without_accents(text), ""
        try:
            parse_uid(text)
            card = "no such card is on the list, and "
        except ValueError as error:
            # With O, I and L, which are typed for 0 and 1.
            if re.fullmatch(r"(0x)?(?=.*\d)[0-9A-FOIL:.\- ]{4,}", text.strip(), re.I):
                return f'"{name}": {error}; and nobody is called that', True
        some = islice(self.cards(), 10_000)
        names = {without_accents(card.holder): card.holder for card in some}
        like = list(islice((each for each in names if wanted in each), 3))
        like = like or get_close_matches(wanted, names, n=3)
        meant = " or ".join(f'"{printable(names[each], 80)}"' for each in like)
        hint = f"; did you mean {meant}?" if like else ""
        return f'{card}nobody is called "{name}"{hint}', False


def as_uid(text: str) -> Uid | None:
    """The UID or the user of the chat that a text is, if it is one."""
    with contextlib.suppress(ValueError):
        return parse_listed(text)
    return None


################################################################################
# 24. The owner's tools -- people, keys, backup, log
################################################################################


# -- people: allow, revoke, cards


def shell_word(text: str) -> str:
    """The text as one word of a command that can be pasted."""
    import shlex

    return shlex.quote(text)


def last_unknown_card(
    store: SqliteStore, config: Config, clock: SystemClock
) -> tuple[Uid, float]:
    """The unknown card that the door saw in the last five minutes, and how many seconds
    ago.  A phone counts only where there was no card: it may hold one in its case.
    Raises: StoreError; Refused, also where there were several: a stranger may have come
    after the person who is meant."""
    text = store.events.recall(NoteKey.UNKNOWN)
    kept = unknown_from(text, clock.boot(), clock.monotonic())
    recent = {uid: ago for uid, ago in kept.items() if ago <= 5 * 60}
    found = {uid: ago for uid, ago in recent.items() if not is_random(uid)} or recent
    again = "present the new card and try again, or give --uid"
    if not found:
        raise Refused(f"no unknown card was presented in the last 5 minutes: {again}")
    enquiry, last = Enquiry(config, store), next(reversed(found))
    if who := enquiry.who(last):
        why = _switched_off(who) if who.block else f"already on the list: {again}"
        raise Refused(f"the card that was presented last, {card_name(who)}, is {why}")
    unknown = {uid: ago for uid, ago in found.items() if not enquiry.who(uid)}
    if len(unknown) > 1:
        each = (f"{format_uid(u)} ({ago:.0f} s ago)" for u, ago in unknown.items())
        raise Refused(
            f"{len(unknown)} unknown cards were presented in the last 5 minutes,"
            f" {' and '.join(each)}: give --uid with the one you mean"
        )
    return last, found[last]


GIVEN = ("valid_from", "valid_until", "schedule")  # the limits that `allow` sets


def blocks_on(people: SqlitePeople, card: Credential) -> list[Block]:
    """The blocks on the card and on its holder."""
    mine = card.uid, folded(card.holder)
    return [b for b in people.blocks() if (b.uid or folded(b.holder)) in mine]


def allow_card(
    people: SqlitePeople, config: Config, card: Credential, at: datetime
) -> tuple[Credential, Credential | None, list[Block]]:
    """Put ``card`` on the list; if it is there already, what ``card`` leaves out stays
    as it was, and a further card of somebody gets the limits that their others have.
    Returns the entry, what it was, and the blocks that were lifted: those on the card
    and on its holder.  Raises: Refused, StoreError.
    """
    uid, name = format_uid(card.uid), folded(card.holder)
    if is_random(card.uid):
        raise Refused(f"{uid}: {RANDOM_WORDS}")
    lift = blocks_on(people, card)
    limits = {key: value for key in GIVEN if (value := getattr(card, key))}
    if above := config.cards.get(card.uid) or people.published(card.uid):
        is_same = name == folded(above.holder)
        if not (lift and is_same) or limits:
            holder = printable(above.holder)
            lifts = f"doorpi allow {shell_word(holder)} --uid {uid}"
            where = "in doorpi.toml", "the file decides, so edit it there"
            if above.source is Origin.MQTT:
                where = "on the published list", "that decides, so publish a new one"
            words = f"{uid} is {where[0]}, as {holder}: {where[1]}"
            raise Refused(words + f"; to lift its block: {lifts}" * bool(lift))
        people.change_cards([], [], at, lift=lift)
        return above, above, lift
    was = people.listed(card.uid)
    if was and was.refused:
        again = f"; to start again: doorpi revoke {uid}, and then allow"
        raise Refused(f"{uid}: {was.refused}{again * (not was.proof)}")
    if was:
        card = was._replace(holder=card.holder, enabled=True, **limits)
    else:
        others = chain(config.cards.values(), people.cards())
        card = card._replace(**(limits or _shared_limits(name, others)))
    if why := _never_works(card, config, at):
        raise Refused(why)
    people.change_cards([card], [], at, lift=lift)
    return card, was, lift


def _shared_limits(name: str, cards: Iterable[Credential]) -> dict[str, Any]:
    """The limits of the cards of the holder with this folded name, if these agree."""
    limits = attrgetter(*GIVEN)
    theirs = {limits(each) for each in cards if folded(each.holder) == name}
    return dict(zip(GIVEN, theirs.pop(), strict=True)) if len(theirs) == 1 else {}


def _never_works(card: Credential, config: Config, now: datetime) -> str:
    """Why a card that is switched on could never be used, in words; "" if it could."""
    if card.schedule and card.schedule not in config.schedules:
        hint = did_you_mean(card.schedule, config.schedules)
        return f"no [[schedule]] is called {printable(card.schedule)!r}{hint}"
    until, first = card.valid_until or date.max, card.valid_from
    words = limit_words(until)
    if ends_at(until) <= now.replace(tzinfo=None):
        return f"{words} has passed: the card would never work; give a later --until"
    if first and begins_at(first) >= ends_at(until):
        return f"the card is valid from {limit_words(first)}, which is after {words}"
    if card.is_card and not card.proof and config.proof.uid_only == "refuse":
        return f"{REASON_WORDS[Reason.NO_PROOF]}: doorpi issue gives out a secure card"
    return ""


ALSO_REVOKED = {
    Origin.DB: ", and removed from the database's list",
    Origin.TOML: "; you may also delete it from doorpi.toml",
    Origin.COBOT: ", although Cobot lists it",
    Origin.LIST: ", although a [[list]] has it",
    Origin.MQTT: ", although the published list has it",
}


def revoke_cards(
    text: str, enquiry: Enquiry, store: SqliteStore, at: datetime, by: str
) -> tuple[list[Block], list[str]]:
    """Block the card or the holder that ``text`` means, and take the cards off the
    database's list.  Returns the blocks, none if nothing was changed, and what to say.
    Raises: Refused if it means nobody, StoreError."""
    uids, before = enquiry.meant(text), enquiry.people.blocks()
    holders = {block.uid: block.holder for block in before if block.uid}
    is_there = set(map(_block_key, before))
    blocks, removed, lines = list[Block](), list[Uid](), list[str]()
    for uid in uids:
        entries = enquiry.entries(uid)
        holder = entries[0].holder if entries else holders.get(uid)
        if holder is None:
            continue
        block = Block(uid=uid, holder=holder, since=at, by=by)
        blocks.append(block)
        removed += [uid for card in entries if card.source is Origin.DB]
        done = "is blocked" + " (it was already)" * (_block_key(block) in is_there)
        lines += [f"{card_name(c)} {done}{ALSO_REVOKED[c.source]}" for c in entries]
        lines += [f"{card_name(Credential(uid, holder))} {done}"] * (not entries)
    own, holder = (None, blocks[0].holder) if blocks else enquiry.unlisted(text)
    if own:
        blocks = [Block(uid=own, holder=holder, since=at, by=by)]
        lines = [f"{card_name(Credential(own, holder))} is blocked"]
    if not blocks or uids != [as_uid(text)]:  # a name: the next card is kept out, too
        blocks.append(Block(holder=holder, since=at, by=by))
        lines.append(
            f"any other card or pass of {printable(holder)} is blocked, too; to lift"
            f" that: {LIFTS_BLOCK.format('UID')}"
        )
    new = [block for block in blocks if _block_key(block) not in is_there]
    if not (new or removed):
        return [], lines
    store.people.change_cards([], removed, at, block=new)
    return blocks, lines


def person_to_forget(
    name: str, enquiry: Enquiry, store: SqliteStore
) -> tuple[set[str], set[str], set[Uid]]:
    """The spellings of a name, the names of others that contain it, and the cards that
    were this person's.  Raises: Refused while they may enter, StoreError."""
    wanted, listed = folded(name), defaultdict[str, set[Uid]](set)
    for card in enquiry.cards():
        is_person = folded(card.holder) == wanted
        if is_person and (card.source is not Origin.DB or card.enabled):
            how = {
                Origin.DB: f"first: doorpi revoke {shell_word(name)}",
                Origin.TOML: "first delete it from doorpi.toml",
            }.get(card.source, "first have it removed there")
            words = f"{card_name(card)} is on the list ({card.source})"
            raise Refused(f"{words}: {how}")
        if wanted in folded(card.holder):
            listed[card.holder].add(card.uid)
    for guest in enquiry.passes(name):
        if guest.guest_pass and not guest.guest_pass.revoked_at:
            end = f"doorpi pass --revoke {guest.guest_pass.code.id}"
            raise Refused(f"{card_name(guest)} may still open: first {end}")
    if enquiry.troubles:
        raise StoreError(next(iter(enquiry.troubles)))
    logged = store.events.holders()
    for block in store.people.blocks():
        logged[block.holder] |= {block.uid} if block.uid else set()
    every = {each for each in (*logged, *listed) if wanted in folded(each)}
    names = {name, *(each for each in every if folded(each) == wanted)}
    uids = set[Uid]().union(*(logged[each] for each in names if each in logged))
    of_others = {u for u in uids if (who := enquiry.who(u)) and who.holder not in names}
    return names, every - names, uids - of_others


def redact_files(folder: Path, redaction: Redaction) -> int:
    """Take a name out of all files but the log, the list and the settings.  Returns the
    number of changes.  Raises: StoreError."""
    changed, own = 0, (folder / "doorpi.db", folder / "cards.db")
    folders = dict.fromkeys(file.parent for file in inbox_files(folder))
    for path in chain.from_iterable(each.glob("**/*.db") for each in folders):
        if path not in own:
            with contextlib.closing(SqliteFile(path, busy_s=5.0)) as file:
                changed += file.redact(redaction)
    for path in folder.glob("*.words"):
        with contextlib.suppress(OSError, UnicodeError):
            text = text_of(path)
            if (after := redaction(text)) != text:
                write_whole(path, after)
                changed += 1
    return changed


def pass_words(guest_pass: GuestPass, at: datetime) -> str:
    """When a pass opens, in words."""
    ends, starts = guest_pass.code.ends, guest_pass.starts
    words = [f"until {ends.astimezone(at.tzinfo):%Y-%m-%d %H:%M}"]
    if starts and starts > at:
        words = [f"from {starts.astimezone(at.tzinfo):%Y-%m-%d %H:%M}", *words]
    words += [f"schedule {guest_pass.schedule}"] * bool(guest_pass.schedule)
    words += ["once"] * guest_pass.code.is_once
    ends_with = {"used": guest_pass.used_at, "revoked": guest_pass.revoked_at}
    for word, when in ends_with.items():
        words += [f"{word} {when.astimezone(at.tzinfo):%Y-%m-%d %H:%M}"] if when else []
    words += ["ended"] * (ends < at)
    return printable(", ".join(words))


# -- the keys of secure cards


KEY_FILES = {"door_key": "door.key", "issuer_key": "issuer.key"}  # and usual files
ON_PAPER = "{} on paper"  # the mark with the fingerprint of a key that was written down


def on_paper(key: str) -> str:
    """A key (32 hex digits) in groups of four; the ninth is a checksum."""
    digits = key + hashlib.sha256(bytes.fromhex(key)).hexdigest()[:4]
    return " ".join(digits[i : i + 4] for i in range(0, 36, 4)).upper()


def from_paper(text: str) -> str:
    """The key that was written down.  Raises: Refused."""
    key = "".join(text.split())[:32]
    is_hex = re.fullmatch(f"{HEX}{{32}}", key)
    if not is_hex or on_paper(key).split() != text.upper().split():
        raise Refused("`keys backup` prints a key as nine groups of four digits")
    return key.lower()


def card_to_issue(
    args: argparse.Namespace, config: Config, store: SqliteStore, now: datetime
) -> Credential:
    """The new entry of the list, with the UID of the entry that it replaces.  Raises:
    Refused."""
    uid = args.replace or Uid("")
    old = (uid and Enquiry(config, store).who(uid)) or Credential(uid, "")
    if uid and (not old.holder or not old.enabled or old.block):
        raise Refused(f"{format_uid(uid)} lets nobody in: there is nothing to replace")
    if old.proof or old.role is Role.MASTER:
        raise Refused(f"{card_name(old)} cannot be replaced")
    card = old._replace(
        holder=args.holder or old.holder,
        valid_until=args.until or old.valid_until,
        schedule=args.schedule or old.schedule,
    )
    if not card.holder:
        raise Refused('whose card is it? doorpi issue "Ken Sato"')
    if why := _never_works(card._replace(uid=Uid("")), config, now):  # the new one
        raise Refused(why)
    return card


def store_keys(keys: Mapping[Path, str], folder: Path) -> None:
    """Put each key into a new file, which only the owner of ``folder``, the service's
    user, may read.  Raises: Refused."""
    for path in filter(os.path.lexists, keys):
        raise Refused(f"{path} exists, and cards may need its key: nothing was changed")
    for path, key in keys.items():
        try:
            write_whole(path, f"{key}\n")
            if os.geteuid() == 0 and folder.exists():
                owner = folder.stat()
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        except OSError as error:
            raise Refused(f"{path}: {(error.strerror or '').lower()}") from None


#: What all identifiers of a person share, in an entry of the list.
LIMITS = ("valid_from", "valid_until", "schedule", "role")
Person = Sequence[Credential]  # all cards of one holder that have the same limits


def people_of(cards: Iterable[Credential], *also: str) -> Iterator[Person]:
    """The people who carry ``cards``, which are by holder.  Somebody whose cards have
    different limits, or differ in what ``also`` names, is more than one entry."""
    limits = attrgetter(*LIMITS, *also)
    for _, of_holder in groupby(cards, key=attrgetter("holder")):
        entries = defaultdict[object, list[Credential]](list)
        for card in of_holder:
            entries[limits(card)].append(card)
        yield from entries.values()


def person_json(
    person: Person, last_seen: Callable[[Uid, str], datetime | None]
) -> dict[str, object]:
    """The wire format of one person (``people --json``)."""
    first, identifiers = person[0], list[dict[str, object]]()
    for card in person:
        seen = last_seen(card.uid, card.holder)
        plan = card.membership and card.membership.plan
        known: dict[str, object] = {
            "uid": card.uid,
            "proof": card.proof or None,
            "source": card.source,
            "enabled": card.enabled and not card.block,
            "last_seen": seen and utc_text(seen),
        }
        known |= {"generation": card.generation} if card.proof else {}
        known |= {"refused": card.refusal} if card.refusal else {}
        identifiers.append(known | ({"plan": plan} if plan else {}))
    return {
        "holder": first.holder,
        "identifiers": identifiers,
        "valid_from": first.valid_from and first.valid_from.isoformat(),
        "valid_until": first.valid_until and first.valid_until.isoformat(),
        "schedule": first.schedule,
        "role": first.role,
    }


def person_toml(person: Person) -> str:
    """One ``[[card]]`` or ``[[person]]`` for the owner's file, without its defaults;
    comments for what does not count.  All cards are switched on, or none is."""
    import tomli_w

    lines = [
        f"# {printable(card_name(card))}: {printable(card.refusal)}"
        for card in person if card.refusal
    ]  # fmt: skip
    if cards := [card for card in person if not card.refusal]:
        usual = {"enabled": True, "role": Role.HOLDER, "proof": "", "generation": 1}
        header, entry = "person", dict[str, Any](name=cards[0].holder, cards=[])
        for card in cards:
            own = {"uid": format_uid(card.uid)}
            own |= _unusual(card, ("proof", "generation"), usual)
            entry["cards"].append(own if len(own) > 1 else own["uid"])
        if len(cards) == 1:
            header, entry = "card", {**own, "holder": cards[0].holder}
        entry |= _unusual(cards[0], ("enabled", *LIMITS), usual)
        # A table each: tomli_w's own `card = [...]` could not be pasted after others.
        lines += f"[[{header}]]\n{tomli_w.dumps(entry)}".split("\n")
    # TOML escapes control characters; the others that a terminal obeys are escaped too.
    return "\n".join(escaped(line, lambda c: f"\\U{ord(c):08x}") for line in lines)


def _unusual(
    card: Credential, names: Iterable[str], usual: Mapping[str, object]
) -> dict[str, Any]:
    values = {name: getattr(card, name) for name in names}
    return {k: v for k, v in values.items() if v is not None and v != usual.get(k)}


def people_rows(
    cards: Sequence[Credential], config: Config, store: SqliteStore, now: datetime
) -> Iterator[Sequence[str]]:
    """The table of `people`, with its head; PROOF only where a card has one."""
    proofs = any(card.proof for card in cards)
    yield "HOLDER", "UID", *["PROOF"] * proofs, "VALID", "SCHEDULE", "FROM", "LAST SEEN"
    for person in people_of(cards, "enabled", "block", "refused", "membership"):
        first = person[0]
        seen = (store.events.last_seen(card.uid, card.holder) for card in person)
        last = max(filter(None, seen), default=None)
        origins = [str(card.source) for card in person]
        if Origin.TOML in origins and any(store.people.listed(c.uid) for c in person):
            origins.append(Origin.DB)
        yield (
            printable(first.holder),
            ", ".join(format_uid(card.uid) for card in person),
            *[", ".join(dict.fromkeys(c.proof or "-" for c in person))] * proofs,
            validity(first, config.schedules, now),
            printable(first.schedule or "-"),
            ", ".join(dict.fromkeys(origins)),
            f"{last.astimezone():%Y-%m-%d %H:%M}" if last else "-",
        )


# -- backup and restore


#: What stands in a backup for a key or an address that it must not hold.
LEFT_OUT = {"secret_key": "0" * 32, "url": f"https://{PLACEHOLDER}.invalid/"}


def without_secrets(text: str) -> str:
    """The text of doorpi.toml with placeholders for the keys that stand in it.  Raises:
    Refused where one cannot be found."""
    secret = {k for keys in TABLES.values() for k in keys if keys[k].kind is Secret}
    strings = QUOTED.rpartition("|")[0]  # without comments
    pattern = rf"\b({'|'.join(sorted(secret))})([\"']?\s*=\s*)({strings})"

    def left_out(found: re.Match[str]) -> str:
        return f'{found[1]}{found[2]}"{LEFT_OUT.get(found[1], PLACEHOLDER)}"'

    text = re.sub(pattern, left_out, text)
    allowed = {"", PLACEHOLDER, *LEFT_OUT.values()}
    for key, value in settings_of(parse_config(text)).items():
        if isinstance(value, Secret) and value.text not in allowed:
            raise Refused(f"{key} cannot be left out: give it a file of its own")
    return text


class Backup(NamedTuple):
    """Everything that makes up this door: one JSON file, for a new SD card."""

    doorpi: str  # the version that made it
    at: str
    settings: str  # the text of doorpi.toml
    people: str  # cards.db in base64; "" where there is none
    log: Mapping[str, Sequence[Any]]  # the last id and hash of events and outcomes
    files: Mapping[str, str]  # those that the settings name, with their content
    state: Mapping[str, str]  # the secrets in the folder of the state

    @classmethod
    def read(cls, text: str) -> Backup:
        """Raises: Refused for anything but a whole backup that can be used here."""
        try:
            found = cls(**json.loads(text))
            parse_config(found.settings)
            content = base64.b64decode(found.people, validate=True)
            names = [*found.files, *found.state]
            if any(Path(name).name != name for name in found.state):
                raise ValueError("a name of a file with a folder in it")
            if any(type(each) is not str for each in (*names, found.at)):
                raise ValueError("a part of it is no text")
        except ConfigError as error:
            raise Refused(f"its settings cannot be used: {error.problems[0]}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise Refused(f"not a backup, or cut off: {error}") from None
        if content:
            _check_people(content)
        return found


def _check_people(content: bytes) -> None:
    """Raises: Refused unless it is intact.  One of a newer program is used like a
    database of a newer program."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        try:
            # In memory there is no WAL.  Source: sqlite.org/fileformat2.html, 1.3.3.
            db.deserialize(content[:18] + b"\1\1" + content[20:])
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            answer = str(error)
    if answer != "ok":
        raise Refused(f"its list of people is broken: {printable(answer)}")


def texts_of(files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """The content of each file that can be read, by its name."""
    texts = dict[str, str]()
    for name, path in files:
        with contextlib.suppress(OSError, UnicodeError):
            texts[name] = text_of(path)
    return texts


def files_named(config: Config, path: Path) -> Iterator[tuple[str, str, Path]]:
    """Each key of the settings ``path`` that names a file, the name, and the file."""
    files = NamedFiles(path, os.environ)
    for key, value in settings_of(config).items():
        if name := files.name(key.rpartition(".")[2], value):
            yield key, name, files.place(name)


def state_secrets(folder: Path) -> dict[str, str]:
    """The content of the files with secrets in the folder of the state."""
    files = [*sorted(folder.glob("*.words")), folder / PASS_KEY, folder / LIST_KEY]
    return texts_of((file.name, file) for file in files)


def put_back(backup: Backup, path: Path) -> None:
    """The settings and the files that they name, with owner and mode of the settings
    that were there, which are kept under another name.  Raises: OSError."""
    owner = path.stat() if path.exists() else None
    if owner:
        write_whole(path.with_name(f"{path.name}.before-restore"), read_settings(path))
    for name, text in {**backup.files, path.name: backup.settings}.items():
        write_whole(path.parent / name, text)
        if owner:
            os.chown(path.parent / name, owner.st_uid, owner.st_gid)
            (path.parent / name).chmod(owner.st_mode & 0o640)


def state_in_use(folder: Path) -> list[str]:
    """The databases of a door that is in use.  One that has only been started, as on a
    new Pi, has an empty log."""
    found = [name for name in ("cards.db", "doorpi.db") if file_at(folder / name)]
    if found == ["doorpi.db"]:
        with contextlib.suppress(*TROUBLES), _read_only(folder / "doorpi.db") as db:
            if not db.execute("SELECT 1 FROM events").fetchone():
                return []
    return found


def put_state_back(backup: Backup, folder: Path) -> list[Credential]:
    """The list of people and the secrets of the state.  Returns the secure cards of the
    list that was there, if it could be read.  Raises: OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secure = list[Credential]()
    store = SqliteStore(folder / "doorpi.db")
    with contextlib.suppress(StoreError), contextlib.closing(store):
        secure = [card for card in store.people.cards() if card.proof]
    for name, text in backup.state.items():
        write_whole(folder / name, text)
    if backup.people:
        old = [f"cards.db{ending}" for ending in ENDINGS]
        for name in (*old, "cards.copy"):
            (folder / name).unlink(missing_ok=True)
        write_whole(folder / "cards.db", base64.b64decode(backup.people))
    return secure


# -- the log


class LogTail:
    """Yields each event ``sought`` when it has ended, and again when more is known
    about it.  A granted one that has not ended after ``open_s`` is shown as it is.

    When another file takes the log's place, the events of its last minute are new.
    Every method raises StoreError.
    """

    forget = timedelta(minutes=10)  # an event that is older is not looked at again

    def __init__(
        self, events: SqliteEvents, sought: Sought, clock: Clock, open_s: float
    ) -> None:
        self._events, self._sought, self._clock = events, sought, clock
        self._open = timedelta(seconds=open_s)
        self._file, self._after_id = events.file, 0
        #: Each event that may change: as it was last seen, and as it was shown.
        self._seen: dict[int, tuple[Event, Event | None]] = {}

    def begin(self, since: datetime | None, count: int) -> Iterator[Event]:
        """The events of ``since`` and later, or the last ``count``."""
        events, sought, newest = self._events, self._sought, self._events.last_id()
        self._file = events.file
        for event in (
            events.read(since, sought) if since else events.latest(count, sought)
        ):
            newest = max(newest, event.id)
            if self._clock.now() - event.at < self.forget:
                self._seen[event.id] = event, event
            yield event
        self._after_id = min(self._seen, default=newest + 1) - 1

    def news(self) -> list[Event]:
        """What has ended, or has changed, since the last call."""
        events, now, newest = self._events, self._clock.now(), self._events.last_id()
        if events.file != self._file:
            self._file, self._seen = events.file, {}
            recent = events.read(now - timedelta(minutes=1), self._sought)
            self._after_id = next((each.id for each in recent), newest + 1) - 1
        news, seen = [], {}
        for event in events.read(None, self._sought, self._after_id):
            newest = max(newest, event.id)
            before, shown = self._seen.get(event.id, (None, None))
            waits = event.reason is Reason.GRANTED and now - event.at < self._open
            # A denial is one row, or is followed by a second one at once.
            is_due = event.result or event.detail or (event == before and not waits)
            if is_due and event != shown:
                news.append(event)
                shown = event
            if shown is None or now - event.at < self.forget:
                seen[event.id] = event, shown
        self._seen, self._after_id = seen, min(seen, default=newest + 1) - 1
        return news


#: The signs that begin a formula in a spreadsheet; Excel takes the wide ones, too.
FORMULAS = "=+-@\uff1d\uff0b\uff0d\uff20"

DIM, RED, GREEN, YELLOW = 2, 91, 92, 93


def painted(text: str, code: int) -> str:
    """``text`` in a colour of the terminal."""
    return f"\x1b[{code}m{text}\x1b[0m"


def people_inside(events: SqliteEvents) -> list[dict[str, str]]:
    """Who is in, as far as the readers can tell, in the order in which they came."""
    found = map(presence_from, events.noted(NoteKey.PRESENT).values())
    known = (each for each in found if each and each["holder"] != FORGOTTEN)
    return sorted(known, key=itemgetter("since"))


def present_lines(people: Iterable[Mapping[str, str]], clock: Clock) -> Iterator[str]:
    """Who is in and since when, as `present` prints it."""
    rows = []
    for each in people:
        since = clock.local(iso_time(each["since"]) or EPOCH)
        is_today = since.date() == clock.now().date()
        words = f"since {since:%H:%M}" if is_today else f"since {_day_and_time(since)}"
        words += "; perhaps left without a tap" * (not is_today)
        rows.append((printable(each["holder"], 60), words))
    if not rows:
        yield "nobody is in, as far as the readers can tell"
        return
    yield from in_columns(rows)
    yield "(Only taps count: somebody who came or left without one is not seen.)"


def in_columns(
    rows: Sequence[Sequence[str]], least: Sequence[int] = ()
) -> Iterator[str]:
    """``rows`` as lines, each column as wide as its widest cell, or ``least``."""
    widest = [max(map(width, column)) for column in zip(*rows, strict=True)]
    widths = [max(pair) for pair in zip_longest(widest, least, fillvalue=0)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = (cell + " " * (wide - width(cell)) for cell, wide in cells)
        yield "  ".join(padded).rstrip()


LOG_FIELDS = (
    "id", "at", "uid", "holder", "decision", "reason", "command", "result",
    "latency_ms", "source", "detail", "point", "request",
)  # fmt: skip


def event_values(event: Event) -> dict[str, Any]:
    """What `log --json` prints of an event."""
    values = {name: getattr(event, name) for name in LOG_FIELDS}
    return values | {"at": utc_text(event.at), "detail": event.details}


def log_lines(
    events: Iterable[Event], *, as_json: bool, as_csv: bool, colours: bool
) -> Iterator[str]:
    """A line each: JSON, CSV, or when, who, card, decision and what came of it."""
    rest = iter(events)
    while some := list(islice(rest, SqliteEvents.page)):
        if not (as_json or as_csv):
            yield from _log_table(some, colours=colours)
            continue
        for event in some:
            values = event_values(event)
            if as_csv:  # a spreadsheet takes a UID of digits only for a number
                values["uid"] = event.uid and format_uid(event.uid)
            yield csv_line(values.values()) if as_csv else json.dumps(values)


def _log_table(events: Sequence[Event], *, colours: bool) -> Iterator[str]:
    """Lines that somebody should look at are coloured."""
    rows = []
    for event in events:
        at = f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}"
        place = printable(f"{event.point}: " * bool(event.point))
        nobody = "-" if event.source == "relock" else event.source
        uid = printable(format_uid(event.uid) if event.uid else nobody, 29)
        who, word = fitting(holder_words(event), 27), verdict_word(event) or "-"
        rows.append((at, who, uid, word, place + outcome_words(event)))
    for event, line in zip(events, in_columns(rows, (19, 27, 20, 7)), strict=True):
        is_well = event.result in MOVED[:2] or not (event.result or event.command)
        colour = YELLOW if event.reason is Reason.GRANTED else RED
        is_change = isinstance(event.reason, Change) and event.reason not in ALARMS
        is_plain = is_change or (is_well and colour == YELLOW)
        yield painted(line, colour) if colours and not is_plain else line


def csv_line(values: Iterable[object]) -> str:
    """A row as RFC 4180 has it; its line feed is left to ``say``.  A spreadsheet takes
    no text in it for a formula.

    Source: OWASP, "CSV Injection"; with the wide signs, which Excel takes as well.
    """

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        is_formula = re.match(rf"[\t\r\n]|\s*[{re.escape(FORMULAS)}]", value)
        return "'" * bool(is_formula) + printable(value, 10_000)

    import csv

    line = io.StringIO()
    csv.writer(line, lineterminator="\r").writerow(map(cell, values))
    return line.getvalue()


################################################################################
# 25. Lists from elsewhere -- what `import` reads, and what it would change
################################################################################

# Patterns are text here: they are compiled by `import`, not when the door starts.


class ListError(ValueError):
    """A list that cannot be imported at all; the text says why."""


class Row:
    """A record of a list, with its ``cells`` by the plain names of their columns.  Once
    it is read it has a ``card``, or is refused: ``why``.  It does not mention the
    ``silent`` keys: a card that is on the list already keeps their values."""

    def __init__(self, number: int, cells: dict[str, Any], why: str = "") -> None:
        self.number = number  # of the line or entry, from 1
        self.cells, self.why = cells, why
        self.silent: Sequence[str] = ()
        self.holder = self.spelling = ""  # of the UID
        self.uid: Uid | None = None  # if it can be read
        self.card: Credential | None = None


@functools.lru_cache(maxsize=1000)
def _plain(name: str) -> str:
    """A column's name without case, spaces and signs: ``validfrom``."""
    return re.sub(r"[\s_\-.#]+", "", name.lower()) or name


def _table(text: str) -> tuple[dict[str, str], list[Row]]:
    """The columns and rows of a CSV with any delimiter.  Above its header may be blank
    lines, comments and Excel's ``sep=;``.  Raises: ListError."""
    import csv

    comment = r"#(?!.*\b(uid|code|card ?number)\b).*\n"
    above = re.match(rf'(?i)("?sep=(.)"?\s*?\n|[\s;,]*?\n|{comment})*', text)
    start, given = (above.end(), above[2]) if above else (0, None)
    table = text[start:]
    delimiter = given or max("\t;,", key=table.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(table, ""), delimiter=delimiter, strict=True)
    guard = rf"\A\s*'(?=\s*[{re.escape(FORMULAS)}])"  # by `log --csv`
    at = head = text.count("\n", 0, start)
    found: list[tuple[int, list[str]]] = []
    try:
        for line in lines:
            cells = [tidied(re.sub(guard, "", cell).strip()) for cell in line]
            if any(cells):
                found.append((at + 1, cells))
            at = head + lines.line_num
    except csv.Error as error:
        raise ListError(f"line {at + 1}: {error}: broken, or cut off") from None
    if not found:
        raise ListError("empty")
    names = [cell or f"column {i}" for i, cell in enumerate(found[0][1], 1)]
    last, cells = found[-1]
    is_cut = not (text.endswith(("\n", "\r")) or cells[-1])  # it may lack a date
    if len(cells) < len(names) or is_cut:
        raise ListError(f"line {last}: the file was cut off before its last cell")
    by_plain = dict(zip(map(_plain, names), names, strict=True))
    if len(by_plain) < len(names):
        twice = Counter(map(_plain, names)).most_common(1)[0][0]
        raise ListError(f"two columns are called {_shown(by_plain[twice])}")
    rows = []
    for number, cells in found[1:]:
        why = f"{len(cells)} cells, but {len(names)} columns"
        named = dict(zip(by_plain, cells, strict=False))
        rows.append(Row(number, named, why * (len(cells) != len(names))))
    return by_plain, rows


def _values(text: str, *, is_toml: bool) -> Iterator[object]:
    """The tables of cards and people in TOML; in JSON the entries of a list, or of the
    ``list`` of an object, or objects that follow each other.  Raises: ValueError,
    RecursionError."""
    if is_toml:
        document = tomllib.loads(text)
        for tables in document.get("card", []), document.get("person", []):
            yield from tables if isinstance(tables, list | dict) else [tables]
        return
    decoder, next_value, at = json.JSONDecoder(), re.compile(r"\s*(?=\S)"), 0
    while match := next_value.match(text, at):
        value, at = decoder.raw_decode(text, match.end())
        if isinstance(value, dict) and isinstance(value.get("list"), list):
            value = value["list"]
        yield from value if isinstance(value, list) else [value]


def _of_person(entry: object) -> Iterator[object]:
    """An entry, or one for each card of a person, who has a list of them."""
    person = entry if isinstance(entry, dict) else {}
    cards = person.get("identifiers", person.get("cards"))
    if not isinstance(cards, list):
        yield entry
        return
    shared = {key: value for key, value in person.items() if value is not cards}
    for card in cards:
        yield {**shared, **(card if isinstance(card, dict) else {"uid": card})}


def _records(text: str) -> tuple[str, dict[str, str], list[Row]]:
    """Read a text in TOML, JSON or CSV: the noun for a row, the columns' names by their
    plain ones, and the rows.  Raises: ListError."""
    if re.search(r"(?m)^[ \t]*(\[\[?\s*[a-z]+\s*\]\]?\s*(#.*)?$|card\s*=\s*\[)", text):
        form, noun, expected = "TOML", "card", "a table, [[card]]"
    elif re.match(r"\s*(\{|\[\s*[{\]])", text):
        form, noun, expected = "JSON", "entry", "an object {...}"
    else:
        return "line", *_table(text)
    names, rows = dict[str, str](), list[Row]()
    try:
        values = [*_values(text, is_toml=form == "TOML")]
    except (ValueError, RecursionError) as error:
        raise ListError(f"not valid {form}, or cut off: {error}") from None
    for number, entry in enumerate(chain.from_iterable(map(_of_person, values)), 1):
        cells, why = dict[str, Any](), f"{_shown(entry)}: expected {expected}"
        if isinstance(entry, dict):
            names = {_plain(name): name for name in entry} | names
            cells = {_plain(name): _cell(value) for name, value in entry.items()}
            why = "two of its keys mean the same" * (len(cells) < len(entry))
        rows.append(Row(number, cells, why))
    return noun, names, rows


def _cell(value: object) -> str:
    """A value as text, without the content of a list or an object."""
    if value is None or value in ([], {}):
        return ""
    return tidied(value.strip()) if isinstance(value, str) else _shown(value)


TRUE_FALSE = dict.fromkeys(("true", "yes", "y", "on", "1"), True)
TRUE_FALSE |= dict.fromkeys(("false", "no", "n", "off", "0"), False)

#: A long number that Excel shortened: most of its digits are lost.
EXCELS_NUMBER = r"(?a)\d([.,]\d+)?E\+\d+"
#: A day as year-month-day, or with dots as day.month.year, and a time of day.
WRITTEN_DAY = (
    r"(?a)(?:(\d{4})[-/.\u5e74](\d\d?)[-/.\u6708](\d\d?)\u65e5?"
    r"|(\d\d?)\.(\d\d?)\.(\d{4}))"
    r"(?:[T ] *(\d\d?:\d\d)(:\d\d)?(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?)?"
)


def _typed(key: str, value: object) -> object:
    """A cell as TOML would have it.  Raises: ValueError with the expected form."""
    if not isinstance(value, str):
        return value
    if key == "enabled":
        if value.lower() not in TRUE_FALSE:
            raise ValueError("expected yes or no")
        return TRUE_FALSE[value.lower()]
    if key in ("valid_from", "valid_until") and value:
        return _limit_typed(value, is_end=key == "valid_until")
    if key == "generation" and value.isdecimal():
        return int(value)
    return value.lower() if key == "role" else value


def _limit_typed(text: str, *, is_end: bool) -> date:
    """A day, also one that is written as its midnight, or as an end with its last
    minute; or a local time.  Raises: ValueError."""
    found = re.fullmatch(WRITTEN_DAY, text)
    with contextlib.suppress(ValueError):
        if found:
            parts = found.group(1, 2, 3) if found[1] else found.group(6, 5, 4)
            day = date(*map(int, parts))
            if found[7] in (None, "0:00", "00:00", *["23:59"] * is_end):
                return day
            if not found[9]:
                return datetime.fromisoformat(f"{day} {found[7]:0>5}{found[8] or ''}")
    raise ValueError("expected 2026-12-31, or a local time: 2026-12-31 18:00")


# A fix makes a card of a row's cells (a missing one is ""), where a kind of list has
# its own way to say things, and yields the reasons why the row is refused.

Cells = Mapping[str, str]
Draft = dict[str, Any]
NO_PINS = "PINs are not imported: the card alone opens this door"


def _fix_own(cells: Cells, card: Draft, _notes: Counter[str]) -> Iterator[str]:
    if cells["proof"] and cells["proof"] not in PROOFS:
        yield CANNOT_ASK.format(_shown(cells["proof"]))  # a copy must not open here
    yield cells["refused"]
    uid = as_uid(cells["uid"])
    if uid and cells["source"] in tuple(Origin):  # it is surely no printed number
        card["uid"] = format_uid(uid)


def _fix_esp_rfid(cells: Cells, card: Draft, notes: Counter[str]) -> Iterator[str]:
    """A user: of a backup, or of MQTT answers that follow each other.  A limit is a
    moment in Unix seconds, or milliseconds; ``validuntil`` ends the day before it.
    Source: esprfid/esp-rfid, esprfid.js, wsResponses.esp (2.0), rfid.esp (0 means
    expired), README-MQTT (``user`` for ``username``); a real file: issue 381."""
    uid, access, pin = cells["uid"], cells["acctype"], cells["pincode"] or cells["pin"]
    notes.update([NO_PINS] * bool(pin))
    if access not in ("0", "1", "99"):  # 99 is its admin
        yield f"acctype = {_shown(access)}: expected 0, 1 or 99"
    if uid and not re.fullmatch(r"(?ai)[\da-f]{8}([\da-f]{6}){0,2}", uid):
        words = "a PIN, or a UID without some of its 0s; tap the card here instead"
        yield f".uid = {_shown(uid)}: {words}"
    card["enabled"] = access in ("1", "99")
    if card.get("holder") == "undefined":  # its page's name for nobody
        card["holder"] = ""
    for name, key in ("validsince", "valid_from"), ("validuntil", "valid_until"):
        is_end, text = key == "valid_until", cells[name]
        try:
            seconds = int(text or ("" if is_end else "0"))
            seconds //= 1000 if seconds >= 10**11 else 1
            day = date(1970, 1, 1) + timedelta(seconds=max(seconds - is_end, 0))
            card[key] = day if seconds > 0 or is_end else None
        except (ValueError, OverflowError):
            yield f"{name} = {_shown(text)}: expected a time in Unix seconds"


def _fix_caronte(cells: Cells, card: Draft, _notes: Counter[str]) -> Iterator[str]:
    """A device: its code is the first 4 bytes of the UID in decimal, with dots.  Its
    ``result``, if there is one, is the last answer about it: true, or null.
    Source: torehc/carontepass-v2, access/models.py, serializers.py (JSON),
    raspberry-pi/raspberry-rc522.py (the code).  A CSV is one that an owner made."""
    if cells["kind"].lower() in ("mac", "tag"):  # a computer, or a card of nobody
        yield f"kind = {_shown(cells['kind'])}: not a member's card"
    if not card.get("holder"):
        yield "no user: nobody's card"
    elif card["holder"] == cells["user"] and cells["user"].isdecimal():
        card["holder"] = ""
    if "enabled" in card:
        card["enabled"] = card["enabled"].lower() in ("true", "1")


def _fix_uhppoted(cells: Cells, card: Draft, notes: Counter[str]) -> Iterator[str]:
    """Its card numbers are what a Wiegand reader makes of a card: at most a part of the
    UID, in an order of the reader's own.  So the UID must have its own column.
    Source: uhppoted-lib, acl/parse.go, tsv_test.go; uhppote-core, issues 11 and 15."""
    access = card["enabled"].upper()  # Y, N, or the number of a time profile
    card["enabled"] = access != "N"
    card["schedule"] = access if access.isdecimal() else ""
    notes.update([NO_PINS] * (cells["pin"] not in ("", "0")))
    if not card.get("uid"):
        number = _shown(cells["cardnumber"])
        yield f"Card Number = {number}: a Wiegand number; add a column UID"
    if not (card.get("valid_from") and card.get("valid_until")):
        yield "no From or no To: uhppoted has no card without dates; fill them in"
    if access not in ("Y", "N") and not access.isdecimal():
        yield f".enabled = {_shown(access)}: expected Y, N or a profile"


class ListFormat(NamedTuple):
    """A kind of list: the noun for a ``row`` of it, the ``marks`` among its columns,
    the names that the column of a key may have, and other known columns.  ``fix``
    translates a row; a card without a name is called ``nameless``."""

    name: str
    row: str
    marks: set[str]
    columns: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...] = ()
    fix: Callable[[Cells, Draft, Counter[str]], Iterator[str]] = _fix_own
    nameless: str = ""


COLUMNS: dict[str, tuple[str, ...]] = {
    "uid": ("uid",), "holder": ("holder", "name"), "enabled": ("enabled",),
    "valid_from": ("valid_from", "from"), "valid_until": ("valid_until", "until"),
    "schedule": ("schedule",), "role": ("role",), "proof": ("proof",),
    "generation": ("generation",),
}  # fmt: skip
CARONTE = ListFormat(
    "CarontePass's devices (JSON)", "entry", {"code", "kind"},
    {"uid": ("code",), "holder": ("holder", "name", "username", "user"),
     "enabled": ("result",)}, ("id", "kind"), _fix_caronte, "CarontePass user {user}",
)  # fmt: skip
UHPPOTED = ListFormat(
    "uhppoted's access control list (TSV)", "line", {"cardnumber", "from", "to"},
    {"uid": ("UID",), "holder": ("name",), "enabled": (),  # the column of this door
     "valid_from": ("from",), "valid_until": ("to",)},
    ("Card Number", "PIN"), _fix_uhppoted, "Card {cardnumber}",
)  # fmt: skip
LIST_FORMATS = (
    ListFormat("DoorPi's [[card]] tables (TOML)", "card", set(), COLUMNS),
    ListFormat(
        "esp-rfid's user backup (JSON)", "entry", {"acctype"},
        {"uid": ("uid",), "holder": ("username", "user")},
        ("command", "acctype", "acctype2", "acctype3", "acctype4", "validsince",
         "validuntil", "pincode", "pin"), _fix_esp_rfid, "esp-rfid {uid}",
    ),
    CARONTE,
    ListFormat("DoorPi's people --json", "entry", {"uid", "holder"}, COLUMNS,
               ("source", "last_seen", "refused", "plan")),
    UHPPOTED,
    ListFormat("CSV with a header (uid, holder, ...)", "line", {"uid"}, COLUMNS),
    CARONTE._replace(name="CarontePass's codes (CSV)", row="line", marks={"code"}),
)  # fmt: skip


Titles = Mapping[str, str]  # of columns, by our keys or by their plain names


def _check_columns(
    kind: ListFormat, names: Titles, rows: list[Row], ignored: Titles
) -> Titles:
    """The list's names for our keys.  Raises: ListError for two columns of one meaning,
    and for an unknown one that is not ``ignored``: it may say who is kept out."""
    titles = dict[str, str]()
    keys = {_plain(name): key for key, some in kind.columns.items() for name in some}
    for name in filter(keys.get, names):
        key, title = keys[name], printable(names[name], 60)
        if key != "holder" and key in titles:
            raise ListError(f"two columns for {key}: {titles[key]!r}, {title!r}")
        titles.setdefault(key, title)
    unknown = names.keys() - keys - set(map(_plain, kind.others))
    for name in ignored.keys() - unknown:
        raise ListError(f"--ignore {_shown(ignored[name])}: no such unknown column")
    left = [name for name in names if name in unknown - ignored.keys()]
    left = [name for name in left if any(row.cells.get(name) for row in rows)]
    if left:
        known = ", ".join(some[0] for some in kind.columns.values())
        ignore = " ".join(f"--ignore {_shown(names[name])}" for name in left)
        words = f"rename them ({known}), or import without them: {ignore}"
        raise ListError(f"unknown columns could limit access: {words}")
    return titles


class CardList:
    """A list that was read: the rows with a card, one for each UID, and the others."""

    def __init__(
        self, kind: ListFormat, config: Config, titles: Titles, rows: list[Row]
    ) -> None:
        self.kind, self.config, self._titles = kind, config, titles
        #: What the owner should know, and of how many rows; 0: of the whole list.
        self.notes: Counter[str] = Counter()
        self.rows: dict[Uid, Row] = {}
        self.refused: list[Row] = []
        for row in rows:
            self._read(row)
        doubt = self._doubt_about_digits({row.spelling for row in rows} - {""})
        same = defaultdict[Uid | int, list[Row]](list)
        for row in rows:
            if doubt and row.card and is_number(row.spelling):
                row.card, row.why = None, f".uid = {_shown(row.spelling)}: {doubt}"
            same[row.uid or row.number].append(row)
        for each in same.values():
            self._take(each)
        self.refused.sort(key=lambda row: row.number)

    def _read(self, row: Row) -> None:
        """Give the row its card, or the reason why it has none."""
        cells = defaultdict(str, row.cells)
        card: Draft = {
            key: next(filter(None, found), "")
            for key, names in self.kind.columns.items()
            if (found := [cells[name] for name in map(_plain, names) if name in cells])
        }
        reasons = [row.why, *self.kind.fix(cells, card, self.notes)]
        if self.kind.row != "card":  # a missing key of a [[card]] means its default
            row.silent = [key for key in COLUMNS if key not in card]
        if self.kind.nameless and not card.get("holder"):
            card["holder"] = self.kind.nameless.format_map(cells)
            row.silent = [*row.silent, "holder"]
        for key, value in card.items():
            try:
                card[key] = _typed(key, value)
            except ValueError as error:
                reasons.append(f".{key} = {_shown(value)}: {error}")
        card = {key: cell for key, cell in card.items() if cell not in (None, "")}
        row.holder, row.spelling = str(card.get("holder", "")), str(card.get("uid", ""))
        row.uid, row.why = as_uid(row.spelling), next(filter(None, reasons), "")
        if not row.why:
            parser = Parser({})
            parser.schedules = self.config.schedules
            found = parser.credentials("", card, TABLES["card"])
            row.why = "; ".join(parser.problems)
            if not found:
                row.why = row.why or "still the example value"
            row.card = None if row.why else found[0]

    def _take(self, same: Sequence[Row]) -> None:
        """Put a card on the list, or refuse all of its rows if they differ: to choose
        one would be a guess about a person."""
        first, cards = same[0], {row.card for row in same}
        if first.card and len(cards) == 1:
            self.rows[first.card.uid] = first
            return
        for row in same:
            if row.card:
                other = next(each.number for each in same if each.card != row.card)
                words = f"{self.kind.row} {other} has the same card with other details"
                row.why = f".uid = {row.spelling!r}: {words}"
            # With the list's own names for our keys:
            key = r"(?:^|(?<=; ))\.(\w+)"
            row.why = re.sub(key, lambda it: self._titles.get(it[1], it[1]), row.why)
        self.refused += same

    def _doubt_about_digits(self, uids: set[str]) -> str:
        """Why UIDs of digits only are refused, if they are.  One UID in 43 is digits
        only; of the numbers that are printed on cards all are."""
        numbers = [uid for uid in uids if is_number(uid)]
        is_decimal = any(len(uid) not in (8, 14, 20) for uid in numbers)
        is_decimal |= any(re.fullmatch(EXCELS_NUMBER, uid) for uid in uids)
        if is_decimal or len(numbers) * 2 > len(uids):
            return f"digits only: {PRINTED_WORDS}, or write its UID with colons"
        if len(numbers) * 10 > len(uids):
            self.notes[NUMBER_WORDS] = len(numbers)
        return ""


def read_list(
    text: str,
    config: Config,
    ignored: Sequence[str] = (),
    *,
    may_be_empty: bool = False,
) -> CardList:
    """Read a list of any known kind, without the columns that are ``ignored``.  Raises:
    ListError if it is cut off, of no known kind, or has columns of unknown meaning."""
    noun, names, rows = _records(text.removeprefix("\ufeff"))  # as Excel begins
    kinds = [k for k in LIST_FORMATS if k.row == noun and k.marks <= names.keys()]
    if not kinds:
        known = "; ".join(kind.name for kind in LIST_FORMATS)
        raise ListError(f"unknown list format; known: {known}")
    kind = kinds[0]
    if kind is UHPPOTED:  # a column for each door, of which this one's counts
        door = config.door.name
        if _plain(door) not in names:
            raise ListError(f"no column {_shown(door)}, as this door is called")
        columns = {**kind.columns, "enabled": (door,)}
        doors = names.keys() - {"name", "uid"}
        kind = kind._replace(columns=columns, others=(*kind.others, *doors))
    by_plain = {_plain(name): name for name in ignored}
    listed = CardList(kind, config, _check_columns(kind, names, rows, by_plain), rows)
    if not (listed.rows or listed.refused or may_be_empty):
        raise ListError(f"{kind.name}, but not one card in it")
    return listed


#: A list of 200,000 cards; a longer one is something else, and could fill the memory.
LIST_BYTES = 20_000_000


def list_text(name: str) -> str:
    """The text of a file, or of standard input (``-``).  Raises: ListError."""
    try:
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
            content = file.read(LIST_BYTES + 1)
        if len(content) > LIST_BYTES:
            raise ListError(f"longer than {LIST_BYTES / 1e6:.0f} MB: not a list")
        return content.decode("utf-8")
    except OSError as error:
        raise ListError(f"cannot be read: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise ListError("not UTF-8 text (Excel: save as CSV UTF-8)") from None


class ListChanges(NamedTuple):
    """What a list would change among the database's cards.  ``kept`` cards are not on
    it, but a refused row may be about them."""

    unchanged: list[Credential]
    added: list[Credential]
    changed: list[Credential]
    removed: list[Credential]
    kept: list[Credential]
    refused: list[Row]

    @property
    def to_write(self) -> list[Credential]:
        """The cards to write to the database."""
        return [*self.added, *self.changed]


def list_changes(
    listed: CardList,
    stored: Mapping[Uid, Credential],
    in_file: Mapping[Uid, Credential],
    *,
    whole: bool,
) -> ListChanges:
    """Compare a list with the cards of the database (``stored``) and of doorpi.toml
    (``in_file``, which decides).  With ``whole`` the database keeps no others."""
    changes = ListChanges([], [], [], [], [], listed.refused)
    schedules = listed.config.schedules
    for uid, row in listed.rows.items():
        card, before = cast(Credential, row.card), in_file.get(uid) or stored.get(uid)
        if before is None:
            changes.added.append(card)
            continue
        card = card._replace(**{key: getattr(before, key) for key in row.silent})
        card = cast(Credential, stricter(card, before))
        row.why = ", ".join(card_changes(before, card, schedules, schedules))
        if not row.why and before._replace(source=card.source, block=None) != card:
            row.why = "other limits"  # which do not show, as of a card that is off
        if before.refused or (row.why and uid in in_file):
            words = f"doorpi.toml has this card, and decides: {row.why}"
            row.why = before.refused or words
            changes.refused.append(row)
        else:
            (changes.changed if row.why else changes.unchanged).append(card)
    if whole and (changes.unchanged or changes.to_write):
        doubts = {str(row.uid or row.holder) for row in changes.refused} - {""}
        names = {folded(row.holder) for row in listed.rows.values()}
        names |= {folded(card.holder) for card in in_file.values()}
        for uid, card in stored.items():
            # Other systems have no users of a chat; a secure card may be off already.
            is_of_chat = ":" in uid and folded(card.holder) in names
            is_off = card.proof and not card.enabled
            if not (uid in listed.rows or uid in in_file or is_of_chat or is_off):
                is_kept = not doubts.isdisjoint((uid, card.holder))
                (changes.kept if is_kept else changes.removed).append(card)
    return changes


def list_report(listed: CardList, changes: ListChanges, now: datetime) -> Iterator[str]:
    """What the list changes, for the owner: each kind of row, the notes, and finally
    the five numbers; at most 20 lines of each."""
    yield listed.kind.name
    parts, schedules = changes._asdict(), listed.config.schedules
    titles = {"kept": "kept, though not on the list: a refused row may be about them"}
    for title, some in parts.items():
        yield from [f"{titles.get(title, title)}:"] * bool(some)
        for one in some[:20]:
            if isinstance(one, Row):
                who = f' ("{printable(one.holder, 40)}")' if one.holder else ""
                words = (
                    f"{listed.kind.row} {one.number}{who}: {printable(one.why, 500)}"
                )
            else:
                words = f"{format_uid(one.uid)}  {printable(one.holder, 60)}"
                news, valid = listed.rows.get(one.uid), validity(one, schedules, now)
                words += f": {news.why}" if news and news.why else f"  {valid}"
            yield f"  {words}"
        if len(some) > 20:
            yield f"  and {len(some) - 20:,} more"
    for note, count in islice(listed.notes.items(), 20):
        rows = f" ({counted(count, 'row')})" * bool(count)
        yield f"note: {printable(note, 500)}{rows}"
    if changes.removed and any(row.uid is None for row in changes.refused):
        yield "note: a refused row without a UID may be about a card that is removed"
    del parts["kept"]
    yield ", ".join(f"{len(some):,} {title}" for title, some in parts.items())


# -- synced lists


#: A new list may lack this many people of the one in force, or this share of them.
MOST_LOST, MOST_LOST_SHARE = 5, 0.25


def list_refusal(before: Collection[Uid], now: Collection[Uid]) -> str:
    """Why a new list of people needs the owner's consent to replace the one in force,
    since a fault elsewhere must not lock everybody out; "" if it does not."""
    lost = len(set(before) - set(now))
    if not now and before:
        return f"it is empty, and the one in force has {counted(len(before), 'card')}"
    if lost > max(MOST_LOST, MOST_LOST_SHARE * len(before)):
        return f"{lost:,} of {counted(len(before), 'card')} are missing from it"
    return ""


################################################################################
# 26. Online -- what `doorpi online` does beside the door
################################################################################

# One process with a thread for each table of its settings.  It reaches the door through
# the inbox, the log and the list only, so nothing that it does or suffers delays a tap.


class Unavailable(Exception):
    """A service's server cannot be used now; the text is for people.  ``after_s``: how
    long it asks for no calls; ``is_unsent``: the request surely did not leave;
    ``reply``: its answer, if that was complete, and the ``status`` of that, or 0."""

    def __init__(
        self,
        text: str,
        after_s: float = 0.0,
        *,
        is_unsent: bool = False,
        reply: Reply | None = None,
    ) -> None:
        super().__init__(text)
        self.after_s, self.is_unsent, self.reply = after_s, is_unsent, reply
        self.status = reply.status if reply else 0


class TooManyCalls(Unavailable):
    """This call may not begin yet."""


class CallRate:
    """At most ``per_min`` calls in any 60 seconds."""

    def __init__(self, per_min: int) -> None:
        self._begun_at: deque[float] = deque(maxlen=per_min)

    def wait_s(self, now: float) -> float:
        """Seconds until a call may begin; 0: it begins now, and is counted."""
        is_full = len(self._begun_at) == self._begun_at.maxlen
        left_s = max(0.0, self._begun_at[0] + 60.0 - now) if is_full else 0.0
        if not left_s:
            self._begun_at.append(now)
        return left_s


class WebClient:
    """A service's web API.  Each call uses a new connection, is sent once, and ends in
    time.  One thread makes the calls; ``close``, on any thread, ends the current call
    and all later ones."""

    max_pause_s = inf  # the longest pause that is honoured
    refused_s = 600.0  # the same after one that was wrong itself
    refusals: Collection[int] = (400, 401, 403, 404)  # the statuses that say so
    is_patient = True  # a call waits until ``rate`` allows it

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        headers: Mapping[str, str] = MappingProxyType({}),
        secrets: Sequence[str] = (),
        rate: CallRate | None = None,
        token: str = "",
    ) -> None:
        """``token`` is sent as Authorization: Bearer; it and the ``secrets`` are hidden
        in the server's texts."""
        self._clock, self._rate, secrets = clock, rate, [token, *secrets]
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        headers = {**headers, **bearer, "Connection": "close"}
        self._api = WebApi(base_url, "", clock, headers, secrets)
        self.dialer = self._api.dialer
        self.dialer.label = None  # the ServiceThread logs its failures

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        *,
        within_s: float = 15.0,
        max_body: int = 64 * 1024,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Reply:
        """Make one request; the answer may have ``max_body`` bytes.  ``body`` is sent
        as JSON, or as it is.  Raises: Unavailable, also for any status but 2xx."""
        now = self._clock.monotonic
        while self._rate and not self.dialer.closed and (s := self._rate.wait_s(now())):
            if not self.is_patient:
                raise TooManyCalls("too many calls", s, is_unsent=True)
            self._clock.sleep(min(s, 1.0))
        by, self._api.max_body = now() + within_s, max_body
        call = functools.partial(self._api.call, method, path, by=by, send_by=by)
        try:
            reply = call(body=body, headers=lambda: headers)
        except HttpError as error:
            is_unsent = isinstance(error, HttpNotSent)
            raise Unavailable(str(error), is_unsent=is_unsent) from None
        finally:
            self.dialer.hang_up()
        if not reply.is_accepted:
            words = f"{self.dialer.host}: {reply.words}"
            after_s = reply.after_s or 0.0
            if reply.status in self.refusals:
                after_s = max(after_s, self.refused_s)
            raise Unavailable(words, min(self.max_pause_s, after_s), reply=reply)
        return reply

    def json(self, kind: type[T], method: str, path: str, *args: Any, **kw: Any) -> T:
        """``call`` for an answer that is a JSON object (dict) or list."""
        reply = self.call(method, path, *args, **kw)
        try:
            return reply.json(kind)
        except HttpUnreadable as error:
            raise Unavailable(f"{self.dialer.host}: {error}", reply=reply) from None

    def close(self) -> None:
        self.dialer.close()


ONLINE_TABLES = "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)"


class OnlineStore(SqliteFile):
    """online.db: the state of the services, such as their bookmarks in the log, as
    notes by name.  Every method raises StoreError."""

    schema = (ONLINE_TABLES,)

    def recall(self, name: str) -> str | None:
        rows = self._query("SELECT value FROM notes WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def under(self, prefix: str) -> dict[str, str]:
        """The notes whose names begin with ``prefix``."""
        ends = f"{prefix}\U0010ffff"
        sql = "SELECT name, value FROM notes WHERE name BETWEEN ? AND ? ORDER BY name"
        return dict(map(tuple, self._query(sql, prefix, ends)))

    def keep(self, name: str, value: str) -> None:
        """Store a note, unless it has not changed: SD cards wear out."""
        if self.recall(name) != value:
            self.change({name: value})

    def change(self, notes: Mapping[str, str | None]) -> None:
        """Store these notes, and delete those with None, in one transaction."""
        with self._transaction() as db:
            kept = [(name, value) for name, value in notes.items() if value is not None]
            db.executemany(_upsert("notes", "name", "value"), kept)
            ended = ((name,) for name, value in notes.items() if value is None)
            db.executemany("DELETE FROM notes WHERE name = ?", ended)

    def take(self, name: str) -> str | None:
        """Read and delete a note; only the first caller gets it."""
        with self._transaction() as db:
            taken = "DELETE FROM notes WHERE name = ? RETURNING value"
            rows = db.execute(taken, (name,)).fetchall()
        return str(rows[0][0]) if rows else None

    def states(self) -> dict[str, dict[str, str]]:
        """The ``trouble`` of each service, "" if there is none, and ``since`` when."""
        rows = self.under("state ").items()
        return {name.partition(" ")[2]: json.loads(text) for name, text in rows}

    def forget_others(self, kind: str, names: Collection[str]) -> None:
        """Delete the notes of a kind except these: a service that is configured again
        later must not catch up with the time in between."""
        kept = {f"{kind} {name}" for name in names}
        self.change(dict.fromkeys(self.under(f"{kind} ").keys() - kept))


class Context(SimpleNamespace):
    """The only access that a service has to the door and to its stores.  ``config``
    follows the owner's edits."""

    config: Config
    clock: Clock
    store: OnlineStore
    people: SqlitePeople
    synced: SyncedPeople
    events: SqliteEvents
    #: Sends a request to the running door and waits for its answer; None if no door
    #: has taken it, or ever will.  Raises: StoreError.
    ask: Callable[[AccessRequest], Answer | None]
    #: What is wrong with the door, as ``published_troubles`` says it.
    troubles: Callable[[], Mapping[str, str] | None]
    #: Since when it runs (monotonic); None if that is not known.
    started: Callable[[], float | None]

    def now(self) -> datetime:
        """Raises: Unavailable while the clock is not set: people would be trusted too
        long, or on the wrong day."""
        if self.config.door.require_synced_clock and not self.clock.is_set():
            raise Unavailable("the clock is not set")
        return self.clock.now()


class Service(Protocol):
    """One table of the settings as a task of `doorpi online`."""

    name: str  # its place in the settings, such as "telegram"
    # An optional ``trouble``: what is wrong although ``step`` succeeds.

    def step(self) -> float:
        """Do what is due, on the service's thread.  Returns the seconds until the next
        step.  Raises: Unavailable, StoreError."""

    def close(self) -> None:
        """End the current call on the service's thread, and all later ones."""


ENDED_PAGE = 500


def is_open_move(event: Event) -> bool:
    """Whether the log has the intent to move the lock, and no outcome yet."""
    is_open = event.reason is Reason.GRANTED and event.result is None
    return is_open and event.command is not None


def is_under_way(event: Event, at: datetime, outcome_s: float) -> bool:
    """Whether its outcome is still to be expected; not after ``outcome_s``."""
    return is_open_move(event) and abs(at - event.at) < timedelta(seconds=outcome_s)


def ended_events(
    events: SqliteEvents, after_id: int, at: datetime, outcome_s: float = VERB_S
) -> Iterator[Event]:
    """At most ENDED_PAGE events after a bookmark, oldest first, up to the first whose
    outcome is to be expected within ``outcome_s``."""
    for event in islice(events.read(after_id=after_id), ENDED_PAGE):
        if is_under_way(event, at, outcome_s):
            return
        yield event


class Unusable:
    """The service of a table with a file that cannot be used, such as its secret."""

    def __init__(self, name: str, why: FileTrouble, context: Context) -> None:
        self.name, self._why = name, str(why)

    def step(self) -> float:
        raise Unavailable(self._why)

    def close(self) -> None:
        """Nothing is under way."""


def fault_words(error: Exception) -> str:
    """An exception of a service in words; an unexpected one's own may hold a secret."""
    if isinstance(error, (Unavailable, StoreError)):
        return printable(str(error))
    line = traceback.extract_tb(error.__traceback__)[-1].lineno
    return f"a fault, please report it: {type(error).__name__} in line {line}"


class ServiceThread:
    """Runs a service until it is closed.  After failures it waits longer each time; the
    other services do not.  ``state`` is its trouble, "" if there is none."""

    backoff_s = (1.0, 60.0)  # first and longest wait after a failure

    def __init__(self, service: Service, store: OnlineStore, clock: Clock) -> None:
        self.service, self.state = service, "starting"
        self._store, self._clock = store, clock
        self._since = ""
        self._backoff = Backoff(*self.backoff_s, random.random)
        self._closing = threading.Event()
        self.thread = start_thread(self._run, service.name)

    def _run(self) -> None:
        while not self._closing.is_set():
            trouble, wait_s = "", 0.0
            try:
                wait_s = self.service.step()
                trouble = getattr(self.service, "trouble", "")
                self._backoff.succeed()
            except Exception as error:  # the other services continue
                trouble = fault_words(error)
                wait_s = max(self._backoff.fail(), getattr(error, "after_s", 0.0))
            if not self._closing.is_set():
                self._report(trouble)
            self._closing.wait(wait_s)

    def _report(self, trouble: str) -> None:
        """Log the state if it has changed, and store it for `doctor`."""
        if trouble == self.state:
            return
        if not (self._since and trouble and self.state):
            self._since = utc_text(self._clock.now())
        self.state = trouble
        level = logging.WARNING if trouble else logging.INFO
        log.log(level, "%s: %s", self.service.name, trouble or "it works")
        known = json.dumps({"trouble": trouble, "since": self._since})
        with contextlib.suppress(StoreError):
            self._store.keep(f"state {self.service.name}", known)

    def close(self) -> None:
        self._closing.set()
        self.service.close()


#: For each type of table a function that makes its service or services.
Makers = Mapping[
    type[Table | FileTrouble], Callable[[str, Any, Context], Service | list[Service]]
]


class Online:
    """The services of all tables, each on its thread."""

    stop_s = 1.0  # for all threads to end; they can be killed at any point

    def __init__(
        self, context: Context, supervisor: Supervisor, makers: Makers
    ) -> None:
        self._context, self._supervisor, self._makers = context, supervisor, makers
        self._running: dict[str, tuple[Table | FileTrouble, list[ServiceThread]]] = {}

    def use(self, tables: Mapping[str, Table | FileTrouble]) -> None:
        """From now on run the services of these tables.  Those of a table that has not
        changed keep running."""
        before, context = self._running, self._context
        self._running = {w: it for w, it in before.items() if tables.get(w) == it[0]}
        self._end(it for where, it in before.items() if where not in self._running)
        for where, table in tables.items():
            if where in self._running:
                continue
            made = self._makers[type(table)](where, table, context)
            made = made if isinstance(made, list) else [made]
            threads = [ServiceThread(s, context.store, context.clock) for s in made]
            self._running[where] = table, threads
        running = [t.service.name for _, ts in self._running.values() for t in ts]
        is_whole = not any(isinstance(each, FileTrouble) for each in tables.values())
        with contextlib.suppress(StoreError):
            context.synced.keep_only(tables.keys())
            for kind in ("state", "notices") * is_whole:
                context.store.forget_others(kind, running)

    def run(self, look: Callable[[], None]) -> None:
        """Call ``look`` every second, until no service is left.  Raises: Stopped."""
        try:
            self._supervisor.report("ready")
            while self._running:
                self._supervisor.alive()
                threads = (t for _, threads in self._running.values() for t in threads)
                states = (f"{t.service.name}: {t.state or 'ok'}" for t in threads)
                self._supervisor.status("; ".join(states))
                self._context.clock.wait(1.0)
                look()
        finally:
            self._supervisor.report("stopping")
            self._end(self._running.values())

    def _end(self, running: Iterable[tuple[object, list[ServiceThread]]]) -> None:
        threads = [thread for _, threads in running for thread in threads]
        for thread in threads:
            thread.close()
        until = self._context.clock.monotonic() + self.stop_s
        for thread in threads:
            thread.thread.join(max(0.0, until - self._context.clock.monotonic()))


# -- notices

#: The words of the log and of notices, for ``language = "ja"``.
JAPANESE: dict[str, str] = {
    "unlocked": "解錠しました", "locked": "施錠しました", "refused": "錠が拒否しました",
    "unreachable": "錠に接続できません", "unsure": "確認できません",
    "unknown-state": "錠の状態が不明です", "interrupted": "中断されました",
    "denied": "入れません", "granted": "許可", "not-found": "未登録",
    "not-enabled": "無効", "not-active": "有効期間前", "expired": "有効期限切れ",
    "passback": "連続使用",
    "forced-open": "こじ開け",
    "held-open": "開いたまま",
    "closed": "閉鎖",
    "not-permitted-at-this-time": "時間外", "clock-not-set": "時計が未設定です",
    "locked-down": "入室停止中", "random-uid": "登録できない番号", "stale": "時間切れ",
    "authority-unreachable": "照会先に接続できません", "revoked": "失効",
    "token-expired": "コードの期限切れ", "card-expired": "カードの期限切れ",
    "other-organisation": "他の組織", "replayed": "使用済みのコード",
    "used-up": "使用済み", "ambiguous": "登録が重複しています",
    "unreadable-code": "読めないコード", "no-proof": "カードの証明がありません",
    "wrong-proof": "カードの証明が不正です", "card-moved": "カードが離れました",
    "card-locked": "カードがロックされています", "proof-unavailable": "確認できません",
    "no-pass": "利用券がありません", "no-booking": "予約がありません",
    "plan-not-here": "対象外のプラン", "list-too-old": "名簿が古すぎます",
    "allow": "追加", "revoke": "取り消し", "import": "読み込み", "edit": "編集",
    "sync": "同期", "lockdown-on": "入室停止", "lockdown-off": "入室停止の解除",
    "forget": "記録からの削除",
    "unknown card": "未登録のカード", "unknown code": "不明なコード",
    "unknown user": "不明なユーザー", "everybody": "全員", "auto-relock": "自動施錠",
    "Trouble": "障害", "Solved": "復旧",
    "door": "ドアのプログラムが動いていません", "lights": "ランプが使えません",
    "clock": "時計が未設定です", "calls": "APIの残り回数が少なくなっています",
    "door-key": "カードの鍵が使えません",
}  # fmt: skip


def translated(words: str, language: str = "ja") -> str:
    """The words in this language, if JAPANESE has them."""
    return JAPANESE.get(words, words) if language == "ja" else words


def event_words(event: Event, language: str) -> str:
    """``Ken Sato: unreachable (no answer)``: an event with the log's word for its
    result or reason, without the card's number."""
    who, details = holder_words(event), printable(event.details, 120)
    word = translated(str(event.result or event.reason), language)
    return f"{translated(who, language)}: {word}{f' ({details})' if details else ''}"


class Digest:
    """The notices that one receiver has not got yet, and a record of earlier ones.

    ``state`` is JSON: the ``lines`` to send, and how many ``more`` were left out; the
    subjects that were ``told`` (reported), and how often they were repeated; the times
    of ``recent`` events that are reported only if there are several; the ``troubles``
    that were reported.  All times in it are Unix seconds.
    """

    most_lines, most_subjects = 20, 50
    lasts_s = 60.0  # a shorter trouble is not reported
    absent_s = 300.0  # the same for a door that is not running: an upgrade takes time
    most_bytes = 3800  # of a message: ntfy makes a file of more than 4096

    def __init__(self, wanted: Collection[str], language: str, state: Any) -> None:
        self._wanted = [name for name in NOTICES if name in wanted]
        self._language, self._is_ja, self.state = language, language == "ja", state
        for key in ("told", "recent", "troubles"):
            state.setdefault(key, {})
        # A newer version may have stored notices that this one does not know.
        told, lines = state["told"].items(), state.get("lines", [])
        state["told"] = {key: each for key, each in told if each[0] in NOTICES}
        state["lines"] = [line for line in lines if line["notice"] in NOTICES]
        self.is_changed = False  # there is something new to send
        self._since: dict[str, float] = {}  # of each trouble, monotonic

    def take(self, event: Event) -> None:
        """Add a notice about an event, if the receiver wants one."""
        at, state = event.at.timestamp(), self.state
        if event.reason is Change.FORGET:
            self._forget_names()
        self.sum_up(at)
        found = (name for name in self._wanted if NOTICES[name].is_about(event))
        if not (name := next(found, "")):
            return
        notice = NOTICES[name]
        subject = f"{name} {getattr(event, notice.by, '')}"
        recent = [*state["recent"].pop(subject, []), at][-notice.after :]
        is_close = at - recent[0] <= NOTICE_WITHIN_S
        is_enough = len(recent) == notice.after and is_close
        if is_enough or subject in state["told"]:
            title = notice.title_ja if self._is_ja else notice.title
            words = f"{title}: {event_words(event, self._language)}"
            line = log_lines([event], as_json=True, as_csv=False, colours=False)
            self._report(name, subject, at, words, json.loads(next(iter(line))))
        else:
            _put(state["recent"], subject, recent, self.most_subjects)

    def _forget_names(self) -> None:
        """Keep no text with a person's name: it may be the one."""
        lines = self.state["lines"]
        kept = [line for line in lines if not (line["event"] or {}).get("holder")]
        more = self.state.get("more", 0) + len(lines) - len(kept)
        self.state |= {"lines": kept, "more": more, "told": {}, "recent": {}}
        self.is_changed = True

    def take_troubles(
        self, troubles: Mapping[str, str] | None, at: float, now: float
    ) -> None:
        """Add notices about troubles of the door that have lasted, and that have ended.
        ``troubles`` are the present ones, None if the door is not running; ``at`` is
        Unix time, ``now`` monotonic."""
        told, news = self.state["troubles"], list[tuple[str, str, str, str]]()
        if troubles is None:
            absent = {"door": "the door's program is not running"}
            troubles = {**dict.fromkeys(told, ""), **absent}
        self._since = {each: self._since.get(each, now) for each in troubles}
        signs = {sign.value: ja for sign, ja in MEANINGS_JA.items()} | JAPANESE
        for subject, since in self._since.items():
            lasts_s = self.absent_s if subject == "door" else self.lasts_s
            about = (n for n in self._wanted if subject in NOTICES[n].troubles)
            name = next(about, "")
            if name and subject not in told and now - since >= lasts_s:
                words = troubles[subject]
                words = signs.get(subject, words) if self._is_ja else words
                told[subject] = name, words
                news.append(("Trouble", subject, name, words))
        for subject in told.keys() - troubles.keys():
            news.append(("Solved", subject, *told.pop(subject)))
        for title, subject, name, words in news:
            words = f"{translated(title, self._language)}: {words}"
            self._report(name, f"{title} {subject}", at, words)

    def sum_up(self, at: float) -> None:
        """Report the number of repetitions of subjects whose hour has ended."""
        for subject, told in [*self.state["told"].items()]:
            name, first_at, count, last_at, words = told
            if abs(at - first_at) >= NOTICES[name].again_s:
                del self.state["told"][subject]
                if count:
                    more = (
                        f"、ほか{count}件" if self._is_ja else f", {count} more times"
                    )
                    self._add(name, last_at, words + more, None)

    def _report(
        self, name: str, subject: str, at: float, words: str, event: object = None
    ) -> None:
        """Add a notice, or count it if its subject was reported recently."""
        told = self.state["told"]
        if subject in told:
            told[subject][2:4] = told[subject][2] + 1, at
            return
        self._add(name, at, words, event)
        if NOTICES[name].again_s:
            _put(told, subject, [name, at, 0, at, words], self.most_subjects)

    def _add(self, name: str, at: float, words: str, event: object) -> None:
        self.is_changed, lines, words = True, self.state["lines"], printable(words, 300)
        lengths = (len(each.encode()) for each in (words, *(n["words"] for n in lines)))
        size = sum(length + len("2026-11-29 08:00 \n") for length in lengths)
        if len(lines) < self.most_lines and size <= self.most_bytes:
            lines.append({"notice": name, "at": at, "words": words, "event": event})
        else:
            self.state["more"] = self.state.get("more", 0) + 1

    def message(self, door: str, now: datetime) -> SimpleNamespace:
        """The message to send: as ``text``, a line each, and as ``notices``."""
        texts, lines, more = list[str](), self.state["lines"], self.state.get("more", 0)
        for line in lines:
            at = datetime.fromtimestamp(line["at"], now.tzinfo)
            form = "%H:%M" if at.date() == now.date() else "%Y-%m-%d %H:%M"
            texts.append(f"{at:{form}} {line['words']}")
        if more:
            texts.append(
                f"ほか{more}件" if self._is_ja else f"and {more} more: doorpi log"
            )
        times = (utc_text(datetime.fromtimestamp(line["at"], UTC)) for line in lines)
        notices = [{**line, "at": at} for line, at in zip(lines, times, strict=True)]
        kinds = [NOTICES[line["notice"]] for line in lines]
        most = max(kinds, key=lambda kind: kind.priority)
        return SimpleNamespace(
            door=door, text="\n".join(texts), notices=notices, more=more,
            priority=most.priority, emoji=most.emoji,
        )  # fmt: skip


def _put(table: dict[Any, Any], key: object, value: object, most: int) -> None:
    """Add to a table that drops its oldest entry above ``most``."""
    table[key] = value
    if len(table) > most:
        del table[next(iter(table))]


class Notices:
    """The notices to one receiver, from the log after its bookmark.  Bookmark and
    unsent notices are one row, so a notice is sent at least once, whenever the process
    is killed, and not again once the receiver has confirmed it."""

    gap_s = 60.0  # from one message to the next
    look_s, page_s = 1.0, 0.2  # until the next look at the log, or at its next page
    most_unsaved = 1000  # events that a restart may have to read again

    def __init__(
        self,
        name: str,
        wanted: Collection[str],
        language: str,
        context: Context,
        send: Callable[[SimpleNamespace], object],
        close: Callable[[], None],
    ) -> None:
        """``send`` a Digest's message; it raises Unavailable."""
        self.name, self.close = name, close
        self._wanted, self._language = wanted, language
        self._context, self._send = context, send
        self._digest: Digest | None = None
        self._saved = 0  # the bookmark on disk

    def step(self) -> float:
        """Notices are sent even if they cannot be stored."""
        digest = self._digest = self._digest or self._load()
        state, is_behind = digest.state, False
        trouble: StoreError | None = None
        try:
            is_behind = self._read(digest)
            if digest.is_changed or state["bookmark"] > self._saved + self.most_unsaved:
                self._save(digest)
        except StoreError as error:
            trouble = error
        at = self._context.clock.now()
        is_due = abs(at.timestamp() - state.get("sent", 0.0)) >= self.gap_s
        if state["lines"] and is_due and not is_behind:
            self._send(digest.message(printable(self._context.config.door.name), at))
            state |= {"lines": [], "more": 0, "sent": at.timestamp()}
            self._save(digest)
        if trouble:
            raise trouble
        return self.page_s if is_behind else self.look_s

    def _load(self) -> Digest:
        """The stored state; at the very first start, one that begins now."""
        context, state = self._context, {}
        with contextlib.suppress(ValueError):
            state = json.loads(context.store.recall(f"notices {self.name}") or "")
        self._saved = state.setdefault("bookmark", -1)
        if self._saved < 0:
            state["bookmark"] = context.events.last_id()
            self._saved = -self.most_unsaved - 1  # save it now
        return Digest(self._wanted, self._language, state)

    def _save(self, digest: Digest) -> None:
        self._context.store.keep(f"notices {self.name}", json.dumps(digest.state))
        self._saved, digest.is_changed = digest.state["bookmark"], False

    def _read(self, digest: Digest) -> bool:
        """Read the next page of the log; True if there may be more."""
        context, state, at = self._context, digest.state, self._context.clock.now()
        troubles, now = context.troubles(), context.clock.monotonic()
        digest.take_troubles(troubles, at.timestamp(), now)
        newest = context.events.last_id()
        state["bookmark"] = min(state["bookmark"], newest)  # else it is another log
        page = list(ended_events(context.events, state["bookmark"], at))
        for event in page:
            state["bookmark"] = event.id
            digest.take(event)
        is_behind = len(page) == ENDED_PAGE
        if not is_behind:
            digest.sum_up(at.timestamp())
        return is_behind


def _post_to_webhook(client: WebClient, path: str, message: SimpleNamespace) -> None:
    notices = {"notices": message.notices, "more": message.more}
    client.call("POST", path, {"door": message.door, **notices})


def _post_to_ntfy(client: WebClient, path: str, message: SimpleNamespace) -> None:
    """Source: docs.ntfy.sh/publish; a header that is not ASCII as in RFC 2047."""
    title = message.door
    if not title.isascii():
        title = f"=?UTF-8?B?{base64.b64encode(title.encode()).decode()}?="
    kind = {"Priority": str(message.priority), "Tags": message.emoji}
    headers = {"Title": title, **kind}
    client.call("POST", path, message.text.encode(), headers=headers)


def base_and_path(url: str) -> tuple[str, str]:
    """``https://host:port``, and the path with its query."""
    ends = len("://".join(urlsplit(url)[:2]))
    return url[:ends], f"/{url[ends:].partition('#')[0].removeprefix('/')}"


def notify_service(where: str, table: NotifyConfig, context: Context) -> Service:
    """The service of a [[notify]]."""
    posts = {"webhook": _post_to_webhook, "ntfy": _post_to_ntfy}
    base, path = base_and_path(table.url.text)
    token = table.token.text
    client = WebClient(base, context.clock, secrets=[path], token=token)
    send, name = functools.partial(posts[table.kind], client, path), table.name
    name = f"notify {name}" if name else where
    wanted = table.events, table.language
    return Notices(name, *wanted, context, send, client.close)


class TelegramBot:
    """A bot at Telegram, shared by threads, which make one call at a time.

    Source: core.telegram.org/bots/api, and tdlib/telegram-bot-api 10.0 for its errors.
    """

    message_every_s = 1.0  # to one chat.  Source: Bots FAQ
    call_s, longest_wait_s = 15.0, 10.0

    def __init__(self, table: TelegramConfig, clock: Clock) -> None:
        token, self._clock = table.token.text, clock
        self._client = WebClient(table.base_url, clock, secrets=[token])
        self._path, self.close = f"/bot{quote(token, safe=':')}/", self._client.close
        self._calling, self._guard = threading.Lock(), threading.Lock()
        self._next_at: dict[int, float] = {}  # when a chat may get a message again

    def call(
        self,
        method: str,
        kind: type[T],
        values: Mapping[str, object] = MappingProxyType({}),
        wait_s: float = 0.0,
    ) -> T:
        """The ``result`` of a method, of this ``kind``; the server may hold its answer
        back for ``wait_s``.  Raises: Unavailable."""
        limits: dict[str, Any] = {"within_s": wait_s + self.call_s, "max_body": 1 << 20}
        ask = functools.partial(self._client.json, dict, "POST", self._path + method)
        try:
            with self._calling:
                answer = ask(dict(values), **limits)
        except Unavailable as error:
            if error.status in (401, 404):
                words = f"{error}: is telegram.token right?"
                raise Unavailable(words, error.after_s, reply=error.reply) from None
            raise
        if answer.get("ok") is not True or not isinstance(answer.get("result"), kind):
            host = self._client.dialer.host
            raise Unavailable(f"{host}: an answer without a result")
        return cast(T, answer["result"])

    def send(self, chat: int, text: str, **more: object) -> None:
        """Send plain text (names are data), once the chat may get a message.  Raises:
        Unavailable, also where that is not soon."""
        now = self._clock.monotonic()
        with self._guard:
            wait_s = max(0.0, self._next_at.get(chat, now) - now)
            if wait_s > self.longest_wait_s:
                words = "Telegram allows no message to this chat yet"
                raise Unavailable(words, wait_s, is_unsent=True)
            _put(self._next_at, chat, now + wait_s + self.message_every_s, 1000)
        self._clock.sleep(wait_s)
        values = {"chat_id": chat, "text": text[:4000], "protect_content": True, **more}
        try:
            self.call("sendMessage", dict, values)
        except Unavailable as error:
            if error.status == 429:
                self._next_at[chat] = self._clock.monotonic() + error.after_s
            raise


# -- lists of people that are kept elsewhere


class ListRefused(Unavailable):
    """A new list of people was refused; the one in force stays."""


class Roster:
    """The synced people of one table of the settings, ``place``.  A list that lost many
    people is refused until the owner accepts it (`doorpi online --accept`).  One that
    is valid for ever, ``trust_for_s`` None, can be taken before the clock is set."""

    look_s = 5.0

    def __init__(
        self,
        place: str,
        context: Context,
        trust_for_s: float | None,
        interval_s: float = 0.0,
    ) -> None:
        self._place, self._context, self._trust_for_s = place, context, trust_for_s
        self._interval_s, self._due, self._refused = interval_s, -inf, ""
        self.is_readable = False  # the last reading brought a complete list

    def refresh(self, read: Callable[[], object], *, is_due: bool = False) -> float:
        """Call ``read``, which takes the new list, if that is due, or if the owner has
        accepted the last one.  Returns the seconds until the next look.  Raises:
        Unavailable, also until the next reading after a list was refused."""
        now = self._context.clock.monotonic
        if now() >= self._due or is_due or self.is_accepted():
            self._refused = ""
            try:
                read()
            except ListRefused as refused:
                self._refused = str(refused)
            except Unavailable:
                self.is_readable = False
                raise
            self.is_readable = True
            self._due = now() + self._interval_s * random.uniform(0.9, 1.1)
        if self._refused:
            raise Unavailable(self._refused)
        return min(self.look_s, self._due - now())

    def _times(self) -> tuple[datetime, datetime | None]:
        """Now, and until when the list is valid.  Raises: Unavailable."""
        if self._trust_for_s is None:
            return self._context.clock.now(), None
        at = self._context.now()
        return at, at + timedelta(seconds=self._trust_for_s)

    def take(
        self,
        cards: Sequence[Credential],
        *,
        keeps_missing_once: bool = False,
        is_forced: bool = False,
        about: str = "",
        **more: str,
    ) -> None:
        """Replace the list in force, and log what changes.  The owner has accepted one
        that ``is_forced``; one with words ``about`` it is logged in any case; ``more``
        is stored with it.  Raises: ListRefused, Unavailable, StoreError."""
        synced, notes = self._context.synced, self._context.store
        at, until = self._times()
        before = {card.uid: card for card in synced.cards(self._place)}
        now = {card.uid: card for card in cards}
        known = "\n".join(sorted(now)).encode()
        mark = f"{len(now)} {hashlib.sha256(known).hexdigest()}"
        plans = [
            {uid for uid, c in each.items() if c.membership and c.membership.plan}
            for each in (before, now)
        ]
        why = list_refusal(before.keys(), now.keys()) or list_refusal(*plans)
        is_forced = is_forced or notes.recall(f"accepted {self._place}") == mark
        if why and not is_forced:
            notes.keep(f"refused {self._place}", mark)
            how = "to take it: doorpi online --accept"
            raise ListRefused(f"the new list was refused: {why}; {how}")
        synced.replace(
            self._place, cards, at, until, keeps_missing_once=keeps_missing_once, **more
        )
        used = f"refused {self._place}", f"accepted {self._place}"
        notes.change(dict.fromkeys(used))
        after = {card.uid: card for card in synced.cards(self._place)}
        self._log(before, after, at, about)

    def confirm(self) -> None:
        """The list in force was read again, unchanged."""
        self._context.synced.replace(self._place, None, *self._times())

    def is_accepted(self) -> bool:
        """Whether the owner has accepted the list that was refused last."""
        refused = self._context.store.recall(f"refused {self._place}")
        accepted = self._context.store.recall(f"accepted {self._place}")
        return bool(refused) and refused == accepted

    def _log(
        self,
        before: Mapping[Uid, Credential],
        after: Mapping[Uid, Credential],
        at: datetime,
        about: str,
    ) -> None:
        """One event about everybody who was added, changed or removed."""
        changes = {
            "added": [after[uid] for uid in after.keys() - before.keys()],
            "changed": [
                after[uid] for uid in after.keys() & before.keys()
                if _entry(after[uid]) != _entry(before[uid])
            ],
            "removed": [before[uid] for uid in before.keys() - after.keys()],
        }  # fmt: skip
        people = [*chain(*changes.values())]
        if people or about:
            counts = (f"{len(each):,} {what}" for what, each in changes.items())
            words = f"{about}: " * bool(about) + ", ".join(counts)
            words += f": {_names(p.holder for p in people)}" * bool(people)
            source = self._place.partition(" ")[0]
            event = change_event(at, Change.SYNC, source, words, people)
            self._context.events.record(event)
            log.info("%s: %s", self._place, words)


def _entry(card: Credential) -> object:
    """The part of an entry whose changes are logged: not each new booking or pass."""
    member = card.membership
    return card._replace(membership=None), member and (member.plan, member.refusal)


def signer(content: bytes, signature: bytes, keys: str) -> str:
    """The one of the Ed25519 ``keys`` (base64, with spaces in between) that has signed
    ``content``; "" if none has."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519

    for key in keys.split():
        with contextlib.suppress(InvalidSignature, ValueError):
            public = base64.b64decode(key, validate=True)
            made = ed25519.Ed25519PublicKey.from_public_bytes(public)
            made.verify(signature, content)
            return key
    return ""


class ListReader:
    """A list of people at a web address, in the formats of `import`: from another
    membership system, a file in git, a spreadsheet's export."""

    within_s = 60.0

    def __init__(self, place: str, table: ListConfig, context: Context) -> None:
        self.name, self._table, self._context = place, table, context
        base, self._path = base_and_path(table.url.text)
        client = WebClient(
            base, context.clock, {}, [self._path], CallRate(20), table.token.text
        )
        self.close = client.close
        limits: dict[str, Any] = {"within_s": self.within_s, "max_body": LIST_BYTES}
        self._get: Callable[..., Reply] = functools.partial(
            client.call, "GET", **limits
        )
        trust_for_s, interval_s = table.trust_for_s, table.interval_s
        self._roster = Roster(place, context, trust_for_s, interval_s)
        self._etag = ""

    def step(self) -> float:
        return self._roster.refresh(self._read)

    def _read(self) -> None:
        """Raises: Unavailable."""
        known = {"If-None-Match": self._etag} if self._etag else {}
        try:
            reply = self._get(self._path, headers=known)
        except Unavailable as error:
            if not (known and error.status == 304):
                raise
            self._roster.confirm()
            return
        self._etag = ""
        if self._table.list_key:
            self._verify(reply.body)
        try:
            text, config = self._text(reply.body), self._context.config
            listed = read_list(text, config, may_be_empty=True)
        except ListError as error:
            raise Unavailable(f"the list cannot be read: {error}") from None
        self._roster.take([*self._cards(listed)])
        self._etag = reply.etag
        if listed.refused:
            rows = counted(len(listed.refused), "row")
            first = f"{listed.kind.row} {listed.refused[0].number}"
            why = printable(listed.refused[0].why)
            log.warning("%s: %s left out, %s: %s", self.name, rows, first, why)

    def _text(self, body: bytes) -> str:
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ListError("not UTF-8 text") from None
        is_json = text.lstrip().startswith(("{", "["))
        if self._table.format and (self._table.format == "json") is not is_json:
            raise ListError(f"not {self._table.format.upper()}")
        return text

    def _verify(self, content: bytes) -> None:
        """Raises: Unavailable unless URL.sig has the list's Ed25519 signature: 64
        bytes, as they are or in base64."""
        path, *query = self._path.partition("?")
        signature = self._get("".join((f"{path}.sig", *query))).body
        with contextlib.suppress(ValueError):
            if len(signature) != 64:
                lines = signature.split()
                signature = base64.b64decode(b"".join(lines), validate=True)
        if not signer(content, signature, self._table.list_key):
            raise Unavailable("the list is not signed with its list_key")

    def _cards(self, listed: CardList) -> Iterator[Credential]:
        """The people on it.  A list elsewhere cannot make master cards."""
        trusted_until = self._context.clock.now()
        for row in listed.rows.values():
            card = cast(Credential, row.card)
            if card.role is Role.HOLDER:
                yield card._replace(
                    schedule=card.schedule or self._table.schedule or None,
                    source=Origin.LIST,
                    membership=Membership("", "", trusted_until),
                )


################################################################################
# 27. Cobot -- the members of a co-working space
################################################################################

# Source: the description of Cobot's API 2 (api.cobot.me), and dev.cobot.me for API 1,
# which alone has check-in tokens (the cards), time passes and the plans on offer.


def uid_of(token: str, form: str) -> Uid | None:
    """The UID in a check-in token, None if it has none.  The forms with four bytes
    hold only the beginning of a UID, which is given an asterisk at its end."""
    text = re.sub(r"\s", "", token)
    text = text.upper() if form == "hex-colon" else text
    is_part = form.startswith(("decimal", "dotted"))
    try:
        if form.startswith("decimal"):
            data = int(text).to_bytes(4, "little" if form.endswith("le4") else "big")
        elif form == "dotted":
            data = bytes(map(int, text.split(".")))
        else:
            data = bytes.fromhex(text.replace(":", ""))
    except (ValueError, OverflowError):
        return None
    is_uid = len(data) == 4 if is_part else len(data) in UID_BYTES
    uid = Uid(data.hex().upper())
    return Uid(uid + "*" * is_part) if is_uid and spelled(uid, form) == text else None


Times = tuple[datetime, datetime]  # from and until; the end is exclusive


class WallClock:
    """The days of a space, in its time zone, or else in this computer's.  A Cobot day,
    for which one check-in counts, begins at 04:00."""

    day_begins_min = 240

    def __init__(self, zone: str = "") -> None:
        self._zone: tzinfo | None = None
        if zone:
            from zoneinfo import ZoneInfo

            with contextlib.suppress(LookupError, ValueError, OSError):
                self._zone = ZoneInfo(zone)

    def at(self, day: date, minute: int = 0) -> datetime:
        """``minute`` minutes after midnight, in wall-clock time."""
        wall = datetime.fromordinal(day.toordinal()) + timedelta(minutes=minute)
        return wall.replace(tzinfo=self._zone) if self._zone else wall.astimezone()

    def day_of(self, at: datetime) -> date:
        """The Cobot day of a time."""
        wall = at.astimezone(self._zone).replace(tzinfo=None)
        return (wall - timedelta(minutes=self.day_begins_min)).date()

    def bounds(self, day: date) -> Times:
        """The beginning and the end of a Cobot day."""
        begins_min = self.day_begins_min
        return self.at(day, begins_min), self.at(day, 1440 + begins_min)


def _cobot_time(text: str) -> datetime:
    """A time of API 2 (ISO 8601) or API 1 (``2010/01/31 12:00:00 +0000``)."""
    at = datetime.fromisoformat(text.replace("/", "-"))
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def _pass_span(said: Mapping[str, Any]) -> Span:
    """The hours of a time pass; one with a duration may be used at any time of the day.
    Days are numbered from Monday = 1; without any it is valid every day."""
    days = frozenset(int(day) - 1 for day in said["weekdays"]) or frozenset(range(7))
    if "duration_hours" in said:
        return Span(days, WallClock.day_begins_min, WallClock.day_begins_min)
    start_min = 60 * int(said["from_hour"]) + int(said["from_minute"])
    end_min = 60 * int(said["to_hour"]) + int(said["to_minute"])
    return Span(days, start_min, end_min + (end_min % 60 == 59))  # 3:59: until 4:00


def _day(value: Any) -> date | None:
    return None if value in (None, "") else date.fromisoformat(value)


class Space:
    """Cobot's data about a space and its members, joined by membership id, as names and
    e-mail addresses change.  The ``add`` methods take one item of an answer, and raise
    one of ODD_SHAPE if it does not have the documented shape."""

    def __init__(self, config: CobotConfig, wall: WallClock) -> None:
        self._config, self.wall = config, wall
        self.tokens: dict[Uid, set[str]] = {}  # the memberships of each
        self.unreadable: list[str] = []  # tokens that spell no UID
        self.members: dict[str, Credential] = {}  # those confirmed; without a UID
        self.emails: dict[str, set[str]] = defaultdict(set)
        self.plans: dict[str, list[tuple[list[str], Times]]] = defaultdict(list)
        self.plans_without_passes: set[str] = set()
        self.passes: dict[str, list[tuple[datetime | None, Span]]] = defaultdict(list)
        self.bookings: dict[str, list[Times]] = defaultdict(list)

    def add_token(self, said: Mapping[str, Any]) -> None:
        token, member = str.__str__(said["token"]), said["membership"]["id"]
        if uid := uid_of(token, self._config.uid_format):
            self.tokens.setdefault(uid, set()).add(str.__str__(member))
        else:
            self.unreadable.append(token)

    def add_member(self, said: Mapping[str, Any]) -> None:
        member, about = str.__str__(said["id"]), said["attributes"]
        first, last = _day(about["confirmedAt"]), _day(about.get("canceledAt"))
        name = tidied(printable(about["name"] or "", LONGEST_NAME))
        self.emails[(about.get("email") or "").strip().lower()].add(member)
        self.members.pop(member, None)
        if first:
            self.members[member] = Credential(
                uid=Uid(""),
                holder=name or f"Cobot member {printable(member, 8)}",
                valid_from=first,
                valid_until=last,
                schedule=self._config.schedule or None,
                source=Origin.COBOT,
            )

    def add_plan(self, said: Mapping[str, Any]) -> None:
        about, last = said["attributes"], _day(said["attributes"].get("canceledAt"))
        starts = self.wall.at(date.fromisoformat(about["startsAt"]))
        ends = self.wall.at((last or FAR_DAY) + timedelta(days=1))
        names = [str.__str__(each["name"]) for each in (about, *about["extras"])]
        member = str.__str__(said["relationships"]["membership"]["data"]["id"])
        self.plans[member].append((names, (starts, ends)))

    def add_offer(self, said: Mapping[str, Any]) -> None:
        """A plan that members can choose."""
        if not len(said["time_passes"]):
            self.plans_without_passes.add(str.__str__(said["name"]))

    def add_pass(self, said: Mapping[str, Any]) -> None:
        """A time pass; used ones are ignored."""
        member = str.__str__(said["membership"]["id"])
        expires = said["expires_at"] and _cobot_time(said["expires_at"])
        for span in map(_pass_span, said["parsed_timespans"]):
            if not said["used_at"]:
                self.passes[member].append((expires, span))

    def add_booking(self, resource: str, said: Mapping[str, Any]) -> None:
        """A booking; those of other rooms than ``resource``, an id, are ignored."""
        about, links = said["attributes"], said["relationships"]
        booker = links["membership"]["data"]  # none: an administrator's, or a guest's
        members = {str.__str__(booker["id"])} if booker else set()
        for each in about["attendees"] if self._config.attendees else ():
            known = self.emails.get(each["email"].strip().lower(), set())
            members |= known if len(known) == 1 else set()
        before = timedelta(minutes=self._config.before_min)
        after = timedelta(minutes=self._config.after_min)
        times = _cobot_time(about["from"]) - before, _cobot_time(about["to"]) + after
        for member in members if links["resource"]["data"]["id"] == resource else ():
            self.bookings[member].append(times)

    def findings(self) -> list[str]:
        """Doubtful settings and tokens, in words for the owner."""
        names = {name for plans in self.plans.values() for p, _ in plans for name in p}
        shared = [uid for uid, members in self.tokens.items() if len(members) > 1]
        found = [
            f"nobody has the plan or extra {name!r}"
            for name in self._config.plans if name not in names
        ]  # fmt: skip
        if shared:
            cards = counted(len(shared), "card")
            found.append(f"{cards} of two memberships, such as {format_uid(shared[0])}")
        if self.unreadable:
            tokens = counted(len(self.unreadable), "check-in token")
            form, first = self._config.uid_format, self.unreadable[0]
            found.append(f"{tokens} not in the form {form}, such as {first}")
        return found

    def cards(
        self, at: datetime, check_ins: Mapping[str, datetime], only: str = ""
    ) -> Iterator[Credential]:
        """Everybody who has a card, or only one member, and when they may enter, as of
        ``at``.  ``check_ins`` are today's, by membership: until when each holds."""
        until = at + timedelta(seconds=self._config.trust_for_s)
        for uid, (member, *others) in self.tokens.items():
            if only in ("", member) and (who := self.members.get(member)):
                rule = Membership(member, "", until, Reason.AMBIGUOUS)
                if not others:
                    rule = self._rule(rule, at, check_ins)
                yield who._replace(uid=uid, membership=rule)

    def _rule(
        self, rule: Membership, at: datetime, check_ins: Mapping[str, datetime]
    ) -> Membership:
        config, member, until = self._config, rule.id, rule.trusted_until
        plans = self.plans.get(member, [])
        now = [names[0] for names, (start, end) in plans if start <= at < end]
        rule = rule._replace(plan=now[0] if now else "", refusal=None)
        if config.resource:
            booked = tuple(sorted(self.bookings.get(member, ())))
            return rule._replace(refusal=Reason.NO_BOOKING, spans=booked)
        here = [
            (start, min(end, until)) for names, (start, end) in plans
            if not config.plans or {*names} & {*config.plans}
        ]  # fmt: skip
        is_here = not config.plans or any(start <= at < end for start, end in here)
        if config.time_passes and is_here and not {*now} & self.plans_without_passes:
            covered = tuple(self._covered(member, at, check_ins))
            return rule._replace(refusal=Reason.NO_PASS, spans=covered)
        stays = is_here and any(start <= at and end == until for start, end in here)
        if stays or not config.plans:
            return rule
        return rule._replace(refusal=Reason.PLAN_NOT_HERE, spans=tuple(sorted(here)))

    def _covered(
        self, member: str, at: datetime, check_ins: Mapping[str, datetime]
    ) -> Iterator[Times]:
        """The times of this Cobot day that a check-in or a time pass covers."""
        today = self.wall.day_of(at)
        begins, ends = self.wall.bounds(today)
        if until := check_ins.get(member):
            yield begins, until
        around = [today + timedelta(days=n) for n in (-1, 0, 1)]
        for (expires, span), day in product(self.passes.get(member, ()), around):
            next_day = 1440 * (span.end_min <= span.start_min)
            start = max(begins, self.wall.at(day, span.start_min))
            end = min(ends, self.wall.at(day, span.end_min + next_day), expires or ends)
            if day.weekday() in span.days and start < end:
                yield start, end


ODD_SHAPE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
FAR_DAY = date(9000, 1, 1)


class CheckIns:
    """The check-ins of members: at most one for each membership and Cobot day, even if
    the program is killed, as Cobot counts a second one as a guest.

    ``due`` -> ``sent``, on disk before the request -> ``done``, ``refused``, or, if
    Cobot knows of none after two requests, ``gave-up``; ``missed`` when the day ends.
    """

    settles_s = 60.0  # from a request without an answer until Cobot is asked about it
    most_sent = 2
    kept = timedelta(days=7)

    def __init__(self, store: OnlineStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._tried_at: dict[str, float] = {}  # monotonic
        self._began_at = clock.monotonic()

    def of(self, day: date, member: str, uid: str) -> dict[str, Any]:
        """The check-in of a membership on a day, ``due`` if there was none."""
        name = f"check-in {day} {member}"
        new = {"name": name, "day": str(day), "member": member, "uid": uid}
        known = json.loads(self._store.recall(name) or "{}")
        return {**new, "state": "due", "sent": 0, **known}

    def on(self, day: date | str = "") -> list[dict[str, Any]]:
        """The check-ins of a day, or all."""
        return [*map(json.loads, self._store.under(f"check-in {day}").values())]

    def ends(self, day: date) -> dict[str, datetime]:
        """Until when each membership is checked in that day."""
        ends = {row["member"]: iso_time(row.get("until")) for row in self.on(day)}
        return {member: end for member, end in ends.items() if end}

    def keep(self, row: dict[str, Any], **changes: object) -> None:
        row |= changes
        self._tried_at[row["name"]] = self._clock.monotonic()
        self._store.keep(row["name"], json.dumps(row))

    def is_ready(self, row: Mapping[str, Any]) -> bool:
        """Whether its next request is due."""
        tried_at = self._tried_at.get(row["name"], self._began_at)
        is_settled = self._clock.monotonic() - tried_at >= self.settles_s
        return row["state"] == "due" or (row["state"] == "sent" and is_settled)

    def end_days(self, today: date) -> None:
        """Mark the open check-ins of earlier days as missed: Cobot accepts none for the
        past."""
        for row in self.on():
            if row["state"] in ("due", "sent") and row["day"] < str(today):
                log.warning("cobot: a check-in of %s was missed", row["day"])
                self.keep(row, state="missed")
            if row["day"] < str(today - self.kept):
                self._store.change({row["name"]: None})


JSON_API = "application/vnd.api+json"


@contextlib.contextmanager
def _reading_cobot() -> Iterator[None]:
    """Turns ODD_SHAPE into Unavailable."""
    try:
        yield
    except ODD_SHAPE:
        raise Unavailable("Cobot's answer has an unknown form") from None


def _read_each(items: Any, read: Callable[[Any], None]) -> None:
    """Raises: Unavailable if an item does not have the documented shape."""
    with _reading_cobot():
        for item in list.__iter__(items):
            read(item)


class CobotApi:
    """The calls to Cobot, about the one space of the settings.  The ``read`` methods
    replace a part of what is known of the space.  All raise Unavailable."""

    within_s, max_body, most_pages = 10.0, 1024 * 1024, 200
    calls_per_min = 20
    longest_pause_s = 900.0  # also after a token that is not valid
    bookings_ahead = timedelta(hours=48)

    def __init__(
        self,
        config: CobotConfig,
        clock: Clock,
        store: OnlineStore | None = None,
        *,
        is_patient: bool = True,
    ) -> None:
        """One that is not patient raises TooManyCalls instead of waiting."""
        self._config, self._store, self._clock = config, store, clock
        token, site = config.token.text, f"https://{config.subdomain}.cobot.me"
        rate = CallRate(self.calls_per_min)
        self._api_1 = WebClient(config.site_url or site, clock, rate=rate, token=token)
        accept = {"Accept": JSON_API}
        self._api_2 = WebClient(config.base_url, clock, accept, rate=rate, token=token)
        for client in (self._api_1, self._api_2):
            client.is_patient = is_patient
            client.max_pause_s = client.refused_s = self.longest_pause_s
            client.refusals = (401,)
        self.by = inf  # monotonic: when the next answers must be there

    def close(self) -> None:
        self._api_1.close()
        self._api_2.close()

    def _site(self) -> dict[str, str]:
        """The ``id`` and the time ``zone`` of the space, "" if they are not known."""
        known = self._store and self._store.recall("cobot space")
        return {"id": "", "zone": "", **json.loads(known or "{}")}

    @property
    def wall(self) -> WallClock:
        return WallClock(self._site()["zone"])

    def _within_s(self) -> float:
        return max(0.1, min(self.within_s, self.by - self._clock.monotonic()))

    def get(self, path: str, kind: type[T], *, may_lack: bool = False) -> T:
        """The answer of API 1 (paths with /api/) or API 2; an empty one if it
        ``may_lack`` and does not exist or is not allowed."""
        client = self._api_1 if path.startswith("/api/") else self._api_2
        try:
            return client.json(
                kind, "GET", path, within_s=self._within_s(), max_body=self.max_body
            )
        except Unavailable as error:
            if may_lack and error.status in (204, 403, 404):
                return kind()
            raise

    def _pages(self, name: str, *, may_lack: bool = False) -> list[Any]:
        """A whole list of the space.  Raises: Unavailable if it changes while read."""
        items, totals = list[Any](), list[int]()
        path = f"/spaces/{self._site()['id']}/{name}"
        while path:
            page = self.get(path, dict, may_lack=may_lack)
            if not page:
                return []
            with _reading_cobot():
                items += page["data"]
                totals.append(page.get("meta", {}).get("totalPages", len(totals) + 1))
                link = urlsplit(page.get("links", {}).get("next") or "")
            path = f"{link.path}?{link.query}" if link.path else ""
            if len(totals) > self.most_pages:
                raise Unavailable("Cobot's list does not end")
        if totals[0] not in (1, *totals[1:]) or totals[-1] != len(totals):
            raise Unavailable("Cobot's list changed while it was read")
        return items

    def identify(self) -> None:
        """Read the id and the time zone of the space.  A token of a space has no user:
        the known ones stay then."""
        known_id, subdomain = self._site()["id"], self._config.subdomain
        said = self.get("/user?include=adminOf", dict, may_lack=bool(known_id))
        with _reading_cobot():
            found = [
                {"id": str.__str__(each["id"]), "zone": about.get("timeZone") or ""}
                for each in said.get("included", [])
                if (about := each.get("attributes", {})).get("subdomain") == subdomain
            ]
        if not found and (said or not known_id):
            words = f"the token's user is not an administrator of {subdomain}"
            raise Unavailable(words)
        if found and self._store:
            self._store.keep("cobot space", json.dumps(found[0]))

    def read_space(self, at: datetime) -> Space:
        self.identify()
        space = Space(self._config, self.wall)
        _read_each(self.get("/api/check_in_tokens", list), space.add_token)
        _read_each(self._pages(f"memberships?{self._dates(at)}"), space.add_member)
        self.read_plans(space, at)
        if self._config.time_passes and not self._config.resource:
            self.read_passes(space, at)
        if self._config.resource:
            self.read_bookings(space, at)
        return space

    def _dates(self, at: datetime) -> str:
        """The filter of a list: from yesterday, as zones differ, until it expires."""
        last = at + timedelta(days=1, seconds=self._config.trust_for_s)
        days = f"filter[from]={at.date() - timedelta(days=1)}&filter[to]={last.date()}"
        return f"{days}&page[size]=25"

    def read_plans(self, space: Space, at: datetime) -> None:
        fresh = Space(self._config, space.wall)
        _read_each(self._pages(f"membership_plans?{self._dates(at)}"), fresh.add_plan)
        space.plans = fresh.plans

    def read_passes(self, space: Space, at: datetime) -> None:
        fresh = Space(self._config, space.wall)
        _read_each(self.get("/api/time_passes/unused", list), fresh.add_pass)
        _read_each(self.get("/api/plans", list, may_lack=True), fresh.add_offer)
        space.passes = fresh.passes
        space.plans_without_passes = fresh.plans_without_passes

    def read_bookings(self, space: Space, at: datetime) -> None:
        fresh = Space(self._config, space.wall)
        fresh.emails = space.emails
        rooms = self._pages("resources?page[size]=50", may_lack=True)
        with _reading_cobot():
            named = {each["attributes"]["name"]: each["id"] for each in rooms}
        room = named.get(self._config.resource, self._config.resource)
        first, last = at - timedelta(hours=1), at + self.bookings_ahead
        times = f"filter[from]={utc_text(first)}&filter[to]={utc_text(last)}"
        found = self._pages(f"bookings?{times}&page[size]=50")
        _read_each(found, functools.partial(fresh.add_booking, room))
        space.bookings = fresh.bookings

    def read_member(self, space: Space, token: str) -> str:
        """Read the membership of a card; returns its id, "" if Cobot has none."""
        path = f"/api/check_in_tokens/{quote(token, safe='')}"
        if not (said := self.get(path, dict, may_lack=True)):
            return ""
        _read_each([{**said, "token": token}], space.add_token)
        member = str(said["membership"]["id"])
        said = self.get(f"/memberships/{quote(member, safe='')}", dict)
        _read_each([said.get("data")], space.add_member)
        return member

    def checked_in_until(self, token: str) -> datetime | None:
        """The end of a member's current check-in, None if there is none."""
        path = f"/spaces/{self._site()['id']}/check_ins/current"
        path += f"?filter[checkInToken]={quote(token, safe='')}"
        said, now = self.get(path, dict), self._clock.now()
        with _reading_cobot():
            ends = [_cobot_time(c["attributes"]["validUntil"]) for c in said["data"]]
        return max((end for end in ends if end > now), default=None)

    def check_in(self, token: str) -> None:
        space = {"data": {"id": self._site()["id"], "type": "spaces"}}
        said = {
            "type": "checkIns",
            "attributes": {"checkInToken": token},
            "relationships": {"space": space},
        }
        post = functools.partial(self._api_2.call, "POST", "/check_ins")
        kind, limit_s = {"Content-Type": JSON_API}, self._within_s()
        reply = post({"data": said}, within_s=limit_s, headers=kind)
        if reply.status != 201:
            raise Unavailable(f"unexpected answer to a check-in: {reply.words}")


class CobotList:
    """Keeps the list of members up to date."""

    room_interval_s = 300.0  # at the longest: bookings are made at short notice

    def __init__(self, place: str, table: CobotConfig, context: Context) -> None:
        self.name, self._context, self._store = place, context, context.store
        self._api = CobotApi(table, context.clock, context.store)
        self.close = self._api.close
        longest_s = self.room_interval_s if table.resource else inf
        interval_s = min(table.interval_s, longest_s)
        self.roster = Roster(place, context, table.trust_for_s, interval_s)
        self._rules = f"{table.plans} {table.time_passes} {table.resource}"
        self.check_ins = CheckIns(context.store, context.clock)
        self.space: Space | None = None  # as it was read last
        self.guard = threading.Lock()  # of the list in force and its space
        self._day = date.min

    def step(self) -> float:
        day = self._api.wall.day_of(self._context.now())  # passes end with the day
        return self.roster.refresh(self._read, is_due=day != self._day)

    def _read(self) -> None:
        at = self._context.now()
        space = self._api.read_space(at)
        self._day = space.wall.day_of(at)
        with self.guard:
            self.roster.take(self._steady(space, at), keeps_missing_once=True)
            self.space = space
        self._store.keep(f"findings {self.name}", json.dumps(space.findings()))

    def _steady(self, space: Space, at: datetime) -> list[Credential]:
        """The cards.  If many people lose what lets them in, such as a plan or a pass,
        that counts only once two readings agree, or after a change of the settings."""

        def able(cards: Mapping[Uid, Credential]) -> set[Uid]:
            rules = {uid: card.membership for uid, card in cards.items()}
            return {uid for uid, rule in rules.items() if rule and rule.lasts(at)}

        ends = self.check_ins.ends(space.wall.day_of(at))
        cards = {card.uid: card for card in space.cards(at, ends)}
        before = {card.uid: card for card in self._context.synced.cards(self.name)}
        lost = sorted(able(before) - able(cards))
        note, mark = f"doubt {self.name}", f"{self._rules}\n{' '.join(lost)}"
        noted = self._store.recall(note) or ""
        is_new = noted.startswith(f"{self._rules}\n") and mark != noted
        if is_new and list_refusal(able(before), able(cards)):
            for uid in cards.keys() & lost:
                cards[uid] = cards[uid]._replace(membership=before[uid].membership)
        self._store.keep(note, mark)
        return [*cards.values()]


class CobotDesk:
    """Checks members in, and answers the door's questions about members.  It has its
    own thread, since reading the list may take minutes."""

    look_every_s, log_every_s = 0.2, 1.0
    look_up_every_s, same_card_s = 10.0, 300.0

    def __init__(
        self, table: CobotConfig, context: Context, members: CobotList
    ) -> None:
        self.name, self._table = f"{members.name} check-ins", table
        self._context, self._clock, self._members = context, context.clock, members
        self._api = CobotApi(table, context.clock, context.store, is_patient=False)
        self._check_ins = members.check_ins
        self._log_due, self._look_ups = -inf, Every(self.look_up_every_s)
        self._day = date.min
        self._unknown: dict[Uid, float] = {}  # when Cobot did not know a card
        self._inbox = contextlib.ExitStack()  # while the door may ask
        self._requests: InboxSource | None = None
        self._folder = look_up_folder(Path(context.config.door.state_dir))
        self._is_closed, self.trouble = False, ""

    def step(self) -> float:
        at, now = self._clock.now(), self._clock.monotonic()
        try:
            self._context.now()
            with contextlib.suppress(TooManyCalls):
                if now >= self._log_due:
                    self._read_log(at)
                    self._make_check_ins(at)
                    self._log_due = now + self.log_every_s
                self._serve_door(at)
        except Unavailable:
            self._close_inbox()
            raise
        finally:
            if self._is_closed:  # while the inbox was opened
                self._close_inbox()
        return self.look_every_s

    def close(self) -> None:
        self._is_closed = True
        self._api.close()
        self._close_inbox()

    # -- check-ins

    def _read_log(self, at: datetime) -> None:
        """Add a check-in for everybody who was let in since the last reading."""
        if self._table.check_in == "off":
            return
        events, store = self._context.events, self._context.store
        note, newest = store.recall("cobot bookmark"), events.last_id()
        mark = min(_count(note), newest) if note else newest  # else it is another log
        exits = [each.name for each in self._context.config.readers if each.is_exit]
        for event in ended_events(events, mark, at):
            mark, uid = event.id, event.uid
            has_come = event.source in CARDS and event.point not in exits
            if uid and has_come and event.result is Result.UNLOCKED:
                row = self._check_in_of(uid, event.at)
                if row and row["state"] == "due":
                    self._check_ins.keep(row)
        store.keep("cobot bookmark", str(mark))

    def _check_in_of(self, uid: Uid, at: datetime) -> dict[str, Any] | None:
        """The check-in of a member's card on that day, None for other cards."""
        who = self._context.config.cards.get(uid) or self._context.people.find(uid)
        if not (who and who.membership and who.source is Origin.COBOT):
            return None
        member, space = who.membership.id, self._members.space
        row = self._check_ins.of(self._api.wall.day_of(at), member, uid)
        if row["state"] == "refused" and space and space.passes.get(member):
            row |= {"state": "due", "sent": 0}  # a pass was bought since
        return row

    def _make_check_ins(self, at: datetime) -> None:
        """Make the next one that is ready."""
        today = self._api.wall.day_of(at)
        if today != self._day:
            self._check_ins.end_days(today)
            self._day = today
        ready = filter(self._check_ins.is_ready, self._check_ins.on(today))
        if self._members.roster.is_readable and (row := next(ready, None)):
            self._check_in(row, at)

    def _check_in(self, row: dict[str, Any], at: datetime) -> None:
        """Take the next step of a check-in.  Raises: Unavailable."""
        check_ins, api = self._check_ins, self._api
        token = spelled(Uid(row["uid"]), self._table.uid_format)
        if row["state"] == "done":
            return
        if until := api.checked_in_until(token):
            check_ins.keep(row, state="done", until=until.isoformat())
        elif not check_ins.is_ready(row):
            return
        elif row["sent"] >= check_ins.most_sent:
            check_ins.keep(row, state="gave-up")
            log.warning("cobot: a check-in was sent twice, and Cobot knows of none")
        else:
            self._send(row, token)
        self._relist(row["member"], at)

    def _send(self, row: dict[str, Any], token: str) -> None:
        """Raises: Unavailable, unless Cobot has answered yes or no."""
        check_ins = self._check_ins
        check_ins.keep(row, state="sent", sent=row["sent"] + 1)
        try:
            self._api.check_in(token)
        except Unavailable as error:
            if error.is_unsent or error.status in (401, 403):  # it had no effect
                check_ins.keep(row, state="due", sent=row["sent"] - 1)
            if error.status not in (400, 402, 404, 409, 422):
                raise
            check_ins.keep(row, state="refused")
            if self._members.space:
                self._members.space.passes.pop(row["member"], None)
            who = self._context.people.find(Uid(row["uid"]))
            who = who or Credential(Uid(row["uid"]), "")
            at, words = self._clock.now(), f"check-in refused: {error}"
            event = change_event(at, Change.SYNC, "cobot", words, [who])
            self._context.events.record(event)
            log.warning("cobot: %s: %s", printable(who.holder), words)
        else:
            _, until = self._api.wall.bounds(date.fromisoformat(row["day"]))
            check_ins.keep(row, state="done", until=until.isoformat())

    def _relist(self, member: str, at: datetime) -> Membership | None:
        """Put what is known of a member on the list; returns their membership."""
        rule = None
        with self._members.guard:
            ends = self._check_ins.ends(self._api.wall.day_of(at))
            space = self._members.space
            for card in space.cards(at, ends, member) if space else ():
                self._context.synced.put(self._members.name, card)
                rule = card.membership
        return rule

    # -- the door's questions

    def _open_inbox(self) -> InboxSource | None:
        """The door asks only while this process holds the folder's lock."""
        is_able = self._members.space and self._members.roster.is_readable
        if not is_able or self._is_closed:
            self._close_inbox()
        elif self._requests is None or not is_running(self._folder):
            self._close_inbox()
            with contextlib.suppress(AlreadyRunning):  # the door looks just now
                self._inbox.enter_context(only_door(self._folder))
                inbox = InboxSource(Inbox(self._folder / "inbox.db", self._clock))
                self._requests = self._inbox.enter_context(contextlib.closing(inbox))
        return self._requests

    def _close_inbox(self) -> None:
        self._requests = None
        self._inbox.close()

    def _serve_door(self, at: datetime) -> None:
        if (requests := self._open_inbox()) is None:
            return
        request = requests.poll(self._clock.monotonic())
        self.trouble = requests.trouble
        if request is None:
            return
        uid, row, answer = Uid(request.identifier), None, Answer(False, [])
        self._api.by = request.good_until - 0.2  # for the way back
        try:
            if request.wants is Wants.STATUS:
                answer = Answer(self._look_up(uid, at), [])
            elif row := self._check_in_of(uid, at):
                self._check_in(row, at)
        finally:
            self._api.by = inf
            if row:
                no = CHECK_IN_DENIES.get(row["state"])
                answer = Answer(not no, [no] if no else [])
            requests.answer(request, answer)

    def _look_up(self, uid: Uid, at: datetime) -> bool:
        """Read again the data that denies a card; True if the door should read the list
        again."""
        now, space, api = self._clock.monotonic(), self._members.space, self._api
        recent = {u: t for u, t in self._unknown.items() if now - t < self.same_card_s}
        self._unknown = recent
        if space is None or uid in recent or not self._look_ups.is_due(now):
            return False
        token = spelled(uid, self._table.uid_format)
        if not (member := api.read_member(space, token)):
            recent[uid] = now
            return False
        for reason, read in (
            (Reason.PLAN_NOT_HERE, api.read_plans),
            (Reason.NO_PASS, api.read_passes),
            (Reason.NO_PASS, functools.partial(self._read_check_in, member, uid)),
            (Reason.NO_BOOKING, api.read_bookings),
        ):
            rule = self._relist(member, at)
            no = rule and rule.refusal_at(at)
            needs_plan = bool(no) and rule and not rule.plan
            if no is reason or (needs_plan and reason is Reason.PLAN_NOT_HERE):
                read(space, at)
        self._relist(member, at)
        return True

    def _read_check_in(self, member: str, uid: Uid, space: Space, at: datetime) -> None:
        """Add a check-in that a member has made elsewhere."""
        if until := self._api.checked_in_until(spelled(uid, self._table.uid_format)):
            row = self._check_ins.of(space.wall.day_of(at), member, uid)
            self._check_ins.keep(row, state="done", until=until.isoformat())


#: Why a member is denied who must be checked in first, by the check-in's state; after
#: one that surely was not sent the list decides.
CHECK_IN_DENIES = {
    "refused": Reason.NO_PASS,
    **dict.fromkeys(("sent", "gave-up", "missed"), Reason.AUTHORITY_UNREACHABLE),
}


def cobot_services(where: str, table: CobotConfig, context: Context) -> list[Service]:
    """The services of [cobot]: the list, and what depends on the moment."""
    members = CobotList(where, table, context)
    return [members, CobotDesk(table, context, members)]


################################################################################
# 28. Chat -- people on the list talk to the door through a bot
################################################################################


def make_code(store: OnlineStore, clock: Clock, value: object, good_s: float) -> str:
    """A one-time code, which ``redeem_code`` exchanges for ``value`` within ``good_s``;
    the store has only its hash.  Raises: StoreError."""
    code = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    now, boot, known = clock.monotonic(), clock.boot(), store.under("code ").items()
    codes = {name: json.loads(text) for name, text in known}
    ended = [name for name, (of, by, _) in codes.items() if of != boot or by < now]
    made = {_code_note(code): json.dumps([boot, now + good_s, value])}
    store.change({**dict.fromkeys(ended), **made})
    return code


def redeem_code(store: OnlineStore, clock: Clock, code: str) -> Any:
    """The value of a code; None: unknown or expired.  Raises: StoreError."""
    boot, ends_by, value = json.loads(store.take(_code_note(code)) or '["", 0, null]')
    is_good = boot == clock.boot() and clock.monotonic() < ends_by
    return value if is_good else None


def _code_note(code: str) -> str:
    return f"code {hashlib.sha256(code.encode()).hexdigest()}"


BOT_NAME = "telegram name"  # of a note
INVITATION_S = 600.0


class ChatMessage(NamedTuple):
    """What a person wrote to the bot in a private chat, or the button they pressed."""

    user: int
    number: int  # of the message
    text: str  # of the message, or the data of the button
    sent_at: float  # Unix seconds; inf: not known, of a button
    press: str = ""  # the id of the press
    is_own: bool = True  # neither forwarded nor sent by a program

    @property
    def command(self) -> tuple[str, str]:
        """The two words of ``/start CODE``, or of ``/start@name_of_the_bot CODE``."""
        form = r"/(\w{1,20})(?:@\w*)?(?:\s+(\S*).*)?"
        found = re.fullmatch(form, self.text.strip(), re.ASCII | re.DOTALL)
        return (found[1].lower(), found[2] or "") if found else ("", "")


#: Prefixes of keys in messages that their sender has not just written.
NOT_OWN = ("forward", "via_bot", "edit_date", "is_from_offline", "sender_business_bot")


def read_update(update: Mapping[str, Any]) -> ChatMessage | None:
    """None unless a person wrote in a private chat, which has the person's own id."""
    is_press = "callback_query" in update
    try:
        said = _field(update, "callback_query" if is_press else "message", dict)
        message = _field(said, "message", dict) if is_press else said
        sender, chat = _field(said, "from", dict), _field(message, "chat", dict)
        user, text = _field(sender, "id", int), said.get("data" if is_press else "text")
        is_private = chat.get("type") == "private" and chat.get("id") == user
        if not is_private or sender.get("is_bot") is not False:
            return None
        return ChatMessage(
            user=user,
            number=_field(message, "message_id", int),
            text=text if isinstance(text, str) else "",
            sent_at=inf if is_press else _field(message, "date", int),
            press=_field(said, "id", str) if is_press else "",
            is_own=is_press or not any(key.startswith(NOT_OWN) for key in message),
        )
    except Unreadable:
        return None


#: The commands and what they do, in English and Japanese.
CHAT_COMMANDS: Mapping[str, tuple[str, str]] = {
    "open": ("unlock the door", "解錠する"),
    "lock": ("lock the door", "施錠する"),
    "status": ("is it locked?", "錠の状態を見る"),
    "why": ("may I enter now?", "今入れるかどうかを見る"),
    "who": ("who came today? (masters only)", "今日の入室者を見る（管理者のみ）"),
    "help": ("show this list", "この一覧を見る"),
}
#: What `why` tells the owner to do about a denial.
OWNERS_ADVICE = r"; (?:to [a-z ]+: |see )doorpi [\w :-]+\b"
BUTTONS: Mapping[str, tuple[str, str]] = {
    "open": ("Unlock", "解錠"), "lock": ("Lock", "施錠"), "status": ("Status", "状態"),
}  # fmt: skip
#: The other answers.
CHAT_WORDS: Mapping[str, tuple[str, str]] = {
    "check": ("; please try the door", "。ドアをお確かめください"),
    "not-running": ("the door is not running, so nothing was done",
                    "ドアの装置が動いていないため、何もしませんでした"),
    "not-known": ("it is not known whether your /{} was carried out: see /status",
                  "/{} が実行されたかどうか不明です。/status でお確かめください"),
    "clock-not-set": ("denied: clock-not-set, so nobody knows how old your message is",
                      "装置の時計が合っていないため、受け付けられません"),
    "stale": ("denied: stale, your message came too late: please send it again",
              "届くのが遅れたため、何もしませんでした。もう一度お送りください"),
    "not-own": ("forwarded and automatic messages do not count: please write it",
                "転送や自動送信は受け付けません。ご自分でお書きください"),
    "button-over": ("this button has expired: see /help",
                    "このボタンは期限切れです。/help で新しく表示できます"),
    "stranger": ("You are not on the list. Please tell the owner your number: {}",
                 "登録されていません。番号 {} を管理者にお知らせください"),
    "joined": ("welcome, {}", "{}さんを登録しました"),
    "link-over": ("this link has expired or was used before: please ask for a new one",
                  "このリンクは期限切れか使用済みです。管理者にお問い合わせください"),
    "masters": ("/who is for masters only", "/who は管理者だけが使えます"),
    "not-stored": ("nothing was done: the disk of the door is full, or failing",
                   "装置のディスクに書き込めないため、何もしませんでした"),
    "nobody": ("nobody came today", "今日はまだどなたも入室していません"),
}  # fmt: skip
STATES_JA = {"locked": "施錠されています", "unlocked": "解錠されています"}


class ChatTask(NamedTuple):
    """A message that is to be answered.  ``word`` is a command, or the refusal's key in
    CHAT_WORDS."""

    id: int  # of the update
    user: int
    number: int  # of the message
    press: str  # of a button
    word: str
    #: What a link grants: holder, limits, schedule, its maker and when it was made.
    grant: tuple[str, str | None, str | None, str | None, str, str] | None = None
    answer: str = ""  # that could not be sent yet
    arrived: float | None = None  # monotonic; None: an earlier process may have begun

    @property
    def uid(self) -> Uid:
        return chat_user(self.user)


class Telegram:
    """``[telegram]``: people on the list operate the door from a private chat.

    Messages are stored together with the offset that confirms them, and then answered,
    each on a new thread.  So each is carried out at most once, whichever process is
    killed: a task that a later process finds on disk is only answered.
    """

    poll_s = 50  # the server's limit
    most_age_s = 30.0  # of a message
    button_s = 60.0
    most_at_once = 3  # messages of one person
    stranger_every_s = 3600.0  # between two answers to a person who is not on the list
    conflict_wait_s, conflict_s = 10.0, 120.0
    #: People who are denied for another reason get no answers about the door.
    may_ask = (Reason.GRANTED, Reason.NOT_PERMITTED_AT_THIS_TIME, Reason.PASSBACK)

    def __init__(
        self, name: str, table: TelegramConfig, context: Context, bot: TelegramBot
    ) -> None:
        """``bot`` sends the answers."""
        self.name, self._context, self._clock = name, context, context.clock
        self._store, self._is_ja = context.store, table.language == "ja"
        self._polls, self._bot = TelegramBot(table, context.clock), bot
        self._people = Forgiving(context.people, self._report)
        self._events = Forgiving(context.events, self._report)
        number = table.token.text.partition(":")[0]
        self._offset = f"telegram {number} offset"  # another bot has its own
        self._is_introduced = self._is_well = False
        self._passed, self.trouble = 0, ""  # the least offset: those before are refused
        self._conflict_by = inf  # when another poll is trouble
        self._at_once: dict[int, ChatTask] = {}
        self._silent_until: dict[int, float] = {}  # towards each stranger
        self._strangers = CallRate(10)
        self._answers: Mapping[str, Callable[[ChatTask], str]] = {
            "open": self._move, "lock": self._move, "status": self._status,
            "why": self._why, "who": self._who, "help": self._help, "join": self._join,
        }  # fmt: skip

    def _report(self, why: str, is_write: bool = False) -> None:
        if why:
            log.warning("%s: %s", self.name, why)

    def close(self) -> None:
        self._polls.close()
        self._bot.close()

    # -- messages

    def step(self) -> float:
        """Wait for messages; the first poll, and one after trouble, does not wait."""
        if not self._is_introduced:
            self._introduce()
        asked_at, wait_s = self._clock.monotonic(), self.poll_s * self._is_well
        values = {
            "offset": max(self._passed, _count(self._store.recall(self._offset))),
            "timeout": wait_s,
            "limit": 10, "allowed_updates": ["message", "callback_query"],
        }  # fmt: skip
        try:
            updates = self._polls.call("getUpdates", list, values, wait_s)
        except Unavailable as error:
            self._is_well = False
            return self._in_conflict(error)
        self._is_well, self._conflict_by, self.trouble = True, inf, ""
        arrived = self._clock.monotonic()
        self._start_tasks(self._store_updates(updates), arrived)
        did_not_wait = wait_s and not updates and arrived - asked_at < 3.0
        return 1.0 if did_not_wait else 0.0

    def _introduce(self) -> None:
        """Read the bot's name, for links, and publish its commands to the apps."""
        name = self._polls.call("getMe", dict).get("username")
        self._store.keep(BOT_NAME, str(name or ""))
        commands = [
            {"command": command, "description": words[self._is_ja]}
            for command, words in CHAT_COMMANDS.items()
        ]
        with contextlib.suppress(Unavailable):
            self._polls.call("setMyCommands", bool, {"commands": commands})
        self._is_introduced = True

    def _in_conflict(self, error: Unavailable) -> float:
        """How long to wait while another poll is open: it may be our own, from before a
        network failure.  Raises: Unavailable, for other trouble or if it lasts."""
        if error.status != 409:
            raise error
        if "webhook" in str(error):
            words = "a webhook gets the bot's messages: remove that, or use another bot"
            raise Unavailable(words, 60.0, reply=error.reply)
        now = self._clock.monotonic()
        self._conflict_by = min(self._conflict_by, now + self.conflict_s)
        if now >= self._conflict_by:
            words = "another program gets the bot's messages: each door needs its own"
            raise Unavailable(f"{words} bot", self.conflict_wait_s, reply=error.reply)
        return self.conflict_wait_s

    def _store_updates(self, updates: Sequence[Any]) -> list[ChatTask]:
        """Store the updates; returns the tasks that come from them.  A message that
        cannot be stored is never carried out: another process might do it again."""
        new, notes, number = list[ChatTask](), dict[str, str | None](), 0
        for update in updates:
            try:
                number = _field(update, "update_id", int)
            except Unreadable as error:
                raise Unavailable(str(error)) from None
            message = read_update(update)
            if task := message and self._task(number, message, new):
                new.append(task)
                notes[f"task {number}"] = json.dumps(task)
            notes[self._offset] = str(number + 1)
        try:
            if notes:
                self._store.change(notes)
        except StoreError as error:
            self._passed, self.trouble = number + 1, str(error)
            known = (task for task in new if task.word in self._answers)
            return [task._replace(word="not-stored") for task in known]
        return new

    def _task(
        self, number: int, message: ChatMessage, new: Sequence[ChatTask]
    ) -> ChatTask | None:
        """The task for a message; None if it is ignored."""
        user, grant, (word, code) = message.user, None, message.command
        who, at_once = self._known(chat_user(user)), [*self._at_once.values(), *new]
        if [task.user for task in at_once].count(user) >= self.most_at_once:
            return None
        if refusal := self._refusal(message, who):
            word = refusal
        elif message.press:
            bound_to = redeem_code(self._store, self._clock, code)
            word = word if bound_to == user and word in BUTTONS else "button-over"
        elif word == "start" and code:
            grant = redeem_code(self._store, self._clock, code)
            word = "join" if grant else "link-over" if who else "stranger"
        elif word not in CHAT_COMMANDS:
            word = "help"
        if word not in self._answers and not self._is_answered(user, word):
            return None
        return ChatTask(number, user, message.number, message.press, word, grant)

    def _refusal(self, message: ChatMessage, who: Credential | None) -> str:
        """Why a message is refused, whatever it asks for; "" if it is not."""
        age_s = self._clock.now().timestamp() - message.sent_at
        is_trusted = trusts_clock(self._context.config, self._events, self._clock)
        word, code = message.command
        refusals = {
            "stranger": not (who or (word == "start" and code)),
            "not-own": not message.is_own,
            "clock-not-set": not is_trusted,
            "stale": not message.press and abs(age_s) > self.most_age_s,
        }
        return next((word for word, applies in refusals.items() if applies), "")

    def _is_answered(self, user: int, word: str) -> bool:
        """Whether a refusal is sent; strangers get few."""
        if word == "stranger":
            now = self._clock.monotonic()
            if now < self._silent_until.get(user, -inf) or self._strangers.wait_s(now):
                return False
            _put(self._silent_until, user, now + self.stranger_every_s, 1_000)
        refused = "%s: a message from telegram:%d was refused: %s"
        log.info(refused, self.name, user, word)
        return True

    def _start_tasks(self, new: Collection[ChatTask], arrived: float) -> None:
        """Start a thread for each task, also for those on disk that have none."""
        begun = {f"task {number}" for number in [*self._at_once]}  # before looking
        tasks = {f"task {task.id}": task._replace(arrived=arrived) for task in new}
        for name, text in self._store.under("task ").items():
            known = json.loads(text)[: len(ChatTask._fields)]  # a newer version's
            tasks.setdefault(name, ChatTask(*known))
        for task in [task for name, task in tasks.items() if name not in begun]:
            self._at_once[task.id] = task
            start_thread(functools.partial(self._run_task, task), f"chat {task.id}")

    def _run_task(self, task: ChatTask) -> None:
        left: str | None = None  # for the next poll that succeeds
        try:
            if not task.answer:
                answer = self._answers.get(task.word, self._refuse)(task)
                task = task._replace(answer=answer, arrived=None)
            self._send(task)
        except StoreError as error:
            left = json.dumps(task._replace(arrived=None))
            self._report(str(error))
        except Unavailable as error:
            if error.is_unsent or error.status in (401, 404, 421, 429):
                left = json.dumps(task)
            self._report(f"an answer was not sent, or may be lost: {error}")
        except Exception as error:  # the other tasks continue
            self._report(fault_words(error))
        finally:
            with contextlib.suppress(StoreError):
                self._store.change({f"task {task.id}": left})
            del self._at_once[task.id]

    def _send(self, task: ChatTask) -> None:
        user, number, press = task.user, task.number, {"callback_query_id": task.press}
        old = {"chat_id": user, "message_id": number}
        ends = ("answerCallbackQuery", press), ("editMessageReplyMarkup", old)
        for method, values in ends if task.press else ():
            with contextlib.suppress(Unavailable):
                self._bot.call(method, object, values)
        reply = {"message_id": number, "allow_sending_without_reply": True}
        more: dict[str, object] = {"reply_parameters": reply}
        if task.word in ("help", "join", "status"):
            code = make_code(self._store, self._clock, user, self.button_s)
            row = [
                {"text": each[self._is_ja], "callback_data": f"/{word} {code}"}
                for word, each in BUTTONS.items()
            ]
            more["reply_markup"] = {"inline_keyboard": [row]}
        self._bot.send(user, task.answer, **more)

    # -- answers

    def _from_door(self, text: str) -> str:
        colon = "：" if self._is_ja else ":" if text[0] == "\n" else ": "
        return f"{printable(self._context.config.door.name)}{colon}{text}"

    def _reply(self, word: str, *values: object) -> str:
        return self._from_door(CHAT_WORDS[word][self._is_ja].format(*values))

    def _refuse(self, task: ChatTask) -> str:
        if task.word == "stranger":  # to whom the door's name is not given
            return CHAT_WORDS[task.word][self._is_ja].format(task.user)
        return self._reply(task.word)

    def _outcome(self, line: str) -> str:
        """The door's answer in the chat's language."""
        word, _, detail = line.partition(": ")
        if self._is_ja:
            line = translated(word) + f"（{translated(detail)}）" * bool(detail)
        is_doubtful = word in (Result.UNSURE, Result.INTERRUPTED)
        return self._from_door(line + CHAT_WORDS["check"][self._is_ja] * is_doubtful)

    def _known(self, uid: Uid) -> Credential | None:
        request = AccessRequest(Medium.CHAT, uid, self._clock.now(), 0.0, inf)
        return LocalList(self._context.config.cards, self._people).look_up(request)

    def _circumstances(self, uid: Uid) -> Circumstances:
        known = self._context.config, self._events, self._clock
        return circumstances(*known, uid, self._clock.now())

    def _is_master(self, uid: Uid) -> bool:
        listed = self._context.config.cards.get(uid) or self._people.find(uid)
        return bool(listed) and listed.role is Role.MASTER

    def _denial(self, uid: Uid) -> str:
        """The denial of a user who may not ask about the door; "" if they may."""
        reason = decide(uid, self._known(uid), self._circumstances(uid)).reason
        return "" if reason in self.may_ask else self._outcome(f"denied: {reason}")

    def _ask(self, task: ChatTask, wants: Wants) -> Answer | None:
        """The door's answer.  A request that may have been sent before has expired: it
        is not carried out, but its answer may be there."""
        since, good_s = self._clock.monotonic(), 0.0
        if task.arrived is not None:
            since, good_s = task.arrived, self._context.config.lock.unlock_window_s
        by, at, name = since + good_s, self._clock.now(), f"telegram-{task.id}"
        request = AccessRequest(Medium.CHAT, task.uid, at, since, by, wants, id=name)
        return self._context.ask(request)

    def _move(self, task: ChatTask) -> str:
        wants = Wants.UNLOCK if task.word == "open" else Wants.LOCK
        answer = self._ask(task, wants)
        if task.arrived is None and answer in (None, NOT_TAKEN):
            return self._reply("not-known", task.word)
        return self._outcome(answer.lines[0]) if answer else self._reply("not-running")

    def _status(self, task: ChatTask) -> str:
        if no := self._denial(task.uid):
            return no
        now = self._clock.monotonic()  # a question may be asked again
        answer = self._ask(task._replace(arrived=now), Wants.STATUS)
        if answer is None:
            return self._reply("not-running")
        first, *others = answer.lines
        if self._is_ja:
            state, percent = first.partition(",")[0], re.search(r"(\d+) %", first)
            first = STATES_JA.get(state, translated(Result.UNKNOWN_STATE))
            first += f"。電池残量 {percent[1]} %" if percent else ""
            is_down = LOCKED_DOWN_WORDS in others
            others = [translated(Reason.LOCKED_DOWN)] * is_down
        elif not self._is_master(task.uid):  # the calls of the month are the owner's
            known = (LOCKED_DOWN_WORDS, "to be locked again")
            others = [line for line in others if line.startswith(known)]
        return self._from_door("\n".join([first, *others]))

    def _why(self, task: ChatTask) -> str:
        uid, who, when = task.uid, self._known(task.uid), self._circumstances(task.uid)
        when = when._replace(locked_down=bool(self._people.locked_down()))
        reason, turn = decide(uid, who, when).reason, next_turn(uid, who, when)
        if reason is Reason.NOT_ENABLED:  # not the name of who blocked them
            return self._outcome(f"denied: {reason}")
        if not self._is_ja:
            words = f"you {answer_in_words(uid, who, when, is_now=True)}"
            if not self._is_master(uid):
                words = re.sub(OWNERS_ADVICE, "", words)
            return self._from_door(words)
        words, form = f"今は入れません（{translated(reason)}）", "次は{}から入れます"
        if reason is Reason.GRANTED:
            words, form = "今入れます", "{}までです"
        if turn:
            at = turn[0].at
            words += "。" + form.format(f"{at.month}月{at.day}日 {at:%H:%M} ")
        return self._from_door(words)

    def _who(self, task: ChatTask) -> str:
        today = self._clock.now().date()
        if no := self._denial(task.uid):
            return no
        if not self._is_master(task.uid):
            return self._reply("masters")
        came, since = list[str](), self._clock.now() - timedelta(days=1, hours=1)
        for event in self._context.events.read(since=since):
            at = self._clock.local(event.at)
            if event.result is Result.UNLOCKED and at.date() == today:
                came.append(f"\n{at:%H:%M} {holder_words(event)}, {event.source}")
        return self._from_door("".join(came[-60:])) if came else self._reply("nobody")

    def _help(self, task: ChatTask) -> str:
        known = CHAT_COMMANDS.items()
        lines = [f"\n/{command} - {words[self._is_ja]}" for command, words in known]
        return self._from_door("".join(lines))

    def _join(self, task: ChatTask) -> str:
        """Put the sender on the list with what the owner's link grants."""
        people, config = self._context.people, self._context.config
        at = self._clock.now()
        holder, begin, until, schedule, by, made_at = cast(tuple[Any, ...], task.grant)
        card = Credential(
            task.uid, holder, schedule=schedule,
            valid_from=_limit_of(begin), valid_until=_limit_of(until),
        )  # fmt: skip
        revoked = {
            each.uid or folded(each.holder)
            for each in people.blocks()
            if utc_text(each.since) > made_at
        }
        try:
            if not revoked.isdisjoint((card.uid, folded(holder))):
                raise Refused(f"{holder} was revoked meanwhile")
            allow_card(people, config, card._replace(source=Origin.DB), at)
        except Refused as error:
            self._report(f"a link was not taken: {error}")
            return self._reply("link-over")
        words = f"by {by}: {card.uid}: {validity(card, config.schedules, at)}"
        self._events.record(change_event(at, Change.ALLOW, "command", words, [card]))
        return f"{self._reply('joined', holder)}\n{self._help(task)}"


def telegram_services(
    where: str, table: TelegramConfig, context: Context
) -> list[Service]:
    """The services of [telegram]: the chat, and notices to each chat of `notify`."""
    bot = TelegramBot(table, context.clock)

    def post(chat: int, message: SimpleNamespace) -> None:
        is_quiet, no_preview = message.priority < 3, {"is_disabled": True}
        more = {"disable_notification": is_quiet, "link_preview_options": no_preview}
        bot.send(chat, f"{message.door}\n{message.text}", **more)

    made: list[Service] = [Telegram(where, table, context, bot)]
    for chat, named in table.notify.items():
        wanted = [named] if isinstance(named, str) else named
        send, name = functools.partial(post, int(chat)), f"{where} {chat}"
        made.append(Notices(name, wanted, table.language, context, send, bot.close))
    return made


################################################################################
# 29. MQTT -- the connection to a broker, and what every use of it shares
################################################################################

# Source: docs.oasis-open.org/mqtt/mqtt/v5.0, and paho-mqtt 2.1 for its ways to fail.

#: Reason codes of MQTT 5.  From MQTT_REFUSED on they are failures.
MQTT_NO_READERS = 0x10  # delivered, but nobody has subscribed to it
MQTT_REFUSED = 0x80
MQTT_BAD_LOGIN, MQTT_NOT_AUTHORIZED = 0x86, 0x87
MQTT_TAKEN_OVER = 0x8E  # by another client with our id
MQTT_TOO_LARGE = 0x95


class MqttPart:
    """One use of the link.  All methods run on the link's thread and must not block.
    After an exception the other parts continue."""

    #: The topic filters it reads, which must not overlap with another's, each with
    #: whether it wants what was retained before.
    filters: Mapping[str, bool] = MappingProxyType({})
    trouble = failure = ""  # why it does not do its work; how its last call failed
    due = -inf  # when to ``step`` it next (monotonic)

    def up(self) -> None:
        """The link is up (again).  What was not acknowledged before counts as not sent:
        its ``done`` is never called."""
        return

    def hear(self, message: Any) -> None:
        """A message of one of the filters, a paho.mqtt.client.MQTTMessage."""
        return

    def step(self) -> float:
        """Do what is due, while the link is up.  Returns the seconds until the next
        step.  Raises: StoreError, Unavailable."""
        return inf

    def resend(self, after_id: int) -> bool:
        """An order asks for the events after this id again; False if the part does not
        publish events."""
        return False

    def saw(self, state: str) -> None:
        """An order has asked the lock for its state."""
        return


class MqttLink:
    """``[mqtt]`` as a service: the connection that its ``parts`` share.

    Each connection is a new client without a session at the broker: nothing that waits
    on either side is sent later, and no number or queue of paho's outlives it.  Paho
    runs on the service's thread only: its callbacks make notes, and ``step`` acts on
    them.

    A topic that the broker refuses is left alone for ``refused_s``, and the health says
    so.  The connection stays: a right that is missing for one topic must not keep the
    orders from the door.
    """

    keepalive_s = 20  # a connection that died is noticed within twice that
    most_in_flight = 16  # messages that the broker has not acknowledged
    most_bytes = 1_000_000  # of a message to us
    answer_s, connect_s = 10.0, 5.0  # for CONNACK; for TCP, and again for TLS
    refused_s = 60.0  # until the next try of what the broker refused
    backoff_s = (1.0, 60.0)  # after connections that did not last
    #: So many takeovers within the first lead to a pause of the second.
    takeovers, takeover_s = 3, (60.0, 300.0)
    steady_s = 30.0  # a shorter connection counts as a failure to connect
    turn_s = 0.5  # the longest wait for the broker: ``close`` is noticed within it
    failed_s = 5.0  # until the next step of a part that failed

    def __init__(
        self,
        name: str,
        table: MqttConfig,
        context: Context,
        parts: Sequence[Callable[[MqttLink], MqttPart]] = (),
        *,
        is_door: bool = True,
    ) -> None:
        """Without ``is_door`` it has no will, and an id of its own."""
        self.name, self.table, self.context = name, table, context
        self.root = f"doorpi/{table.site}/{table.door}"  # of the door's topics
        who = f"{table.site}-{table.door}" if is_door else os.urandom(4).hex()
        self._is_door, self._client_id = is_door, f"doorpi-{who}"
        self._now, self._closed = context.clock.monotonic, False
        self._client: Any = None
        self._backoff = Backoff(*self.backoff_s, random.random)
        self._lost_at = deque([-inf] * self.takeovers, self.takeovers)  # or taken over
        #: Topics that the broker refused: when to try again, and why in words.
        self.refused: dict[str, tuple[float, str]] = {}
        self.parts = [make(self) for make in parts]
        self._filters = dict(chain(*(part.filters.items() for part in self.parts)))
        self.drop()

    @property
    def trouble(self) -> str:
        """Why something does not work although the link is up."""
        refused = [words for _, words in self.refused.values()]
        troubles = (part.failure or part.trouble for part in self.parts)
        return "; ".join(filter(None, [*troubles, *refused[:1]]))

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        return self._room - len(self._unanswered) if self._client else 0

    def publish(
        self,
        topic: str,
        payload: str | bytes,
        *,
        is_retained: bool = False,
        correlation: bytes | None = None,
        done: Callable[[int], None] = lambda reason: None,
    ) -> bool:
        """Send a message with QoS 1.  False: not now, because there is no connection or
        no ``room``, or the broker refused this topic less than ``refused_s`` ago.

        ``done`` gets the reason code of the broker's acknowledgment: from MQTT_REFUSED
        on it is not delivered.  It must only note that.
        """
        if self.room <= 0 or self._now() < self.refused.get(topic, (-inf, ""))[0]:
            return False
        payload = payload.encode() if isinstance(payload, str) else payload
        if len(topic) + len(payload) + len(correlation or b"") + 40 > self.max_packet:
            self._take_answer(topic, MQTT_TOO_LARGE, "Packet too large")
            done(MQTT_TOO_LARGE)
            return True
        more = correlation and _mqtt_property("PUBLISH", "CorrelationData", correlation)
        sent = self._client.publish(topic, payload, 1, is_retained, more or None)
        self._unanswered[sent.mid] = topic, done
        return True

    def _take_answer(self, topic: str, reason: int, words: str) -> None:
        """Note what the broker answered about a topic."""
        if reason < MQTT_REFUSED:
            self.refused.pop(topic, None)
            return
        words = f"{self.table.host} refused {topic}: {words}"
        if reason == MQTT_NOT_AUTHORIZED:
            words += "; its access list does not allow that"
        self.refused[topic] = self._now() + self.refused_s, words

    def close(self) -> None:
        """On any thread; the broker publishes the will."""
        self._closed, client = True, self._client
        if found := client and client.socket():
            with contextlib.suppress(OSError):  # not TLS's own method: it may block
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    def step(self) -> float:
        """Connect, or do what is due and wait for the broker.  Raises: Unavailable when
        there is no connection any more."""
        try:
            if self._client is None:
                self.connect()
            self._turn(self._step_parts())
        except BaseException:
            self.drop()
            raise
        return 0.0

    # -- one connection

    def connect(self) -> None:
        """Raises: Unavailable."""
        try:
            client = self._client = self._new_client()
            # Without a Session Expiry Interval the session ends with the connection.
            limit = _mqtt_property("CONNECT", "MaximumPacketSize", self.most_bytes)
            client.connect(
                self.table.host, self.table.port, self.keepalive_s,
                clean_start=True, properties=limit,
            )  # fmt: skip
        except ImportError as error:
            raise Unavailable(library_trouble(error), self.refused_s) from None
        except (OSError, ValueError) as error:
            words = f"cannot reach {self.table.host}: {connection_trouble(error)}"
            is_lasting = type(error).__module__ == "ssl"
            raise Unavailable(words, self.refused_s * is_lasting) from None
        by = self._now() + self.answer_s
        while self._up_at == -inf:
            if self._now() >= by:
                raise Unavailable(f"{self.table.host} does not speak MQTT")
            self._turn(self.turn_s)

    def _new_client(self) -> Any:
        """A client whose callbacks note what is to be done.  Raises: ImportError,
        OSError."""
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion  # paho-mqtt 1.6 has none

        table, api = self.table, CallbackAPIVersion.VERSION2
        client: Any = Client(api, self._client_id, protocol=MQTTv5)
        client.connect_timeout = self.connect_s
        if table.user or table.password:
            client.username_pw_set(table.user or table.door, table.password.text)
        if table.tls:
            client.tls_set_context(self._tls)
        if self._is_door:
            client.will_set(f"{self.root}/online", "offline", 1, retain=True)

        def noting(act: Callable[..., None]) -> Callable[..., None]:
            return lambda *said: self._notes.append(functools.partial(act, *said[2:]))

        client.on_socket_open = self._opened
        client.on_connect, client.on_disconnect = (
            noting(self._begin),
            noting(self._lose),
        )
        client.on_publish = client.on_subscribe = noting(self._answer)
        client.on_message = noting(self._hear)
        return client

    def _opened(self, client: object, data: object, opened: socket.socket) -> None:
        """Before CONNECT is sent, which would end the connection of a successor."""
        if self._closed:
            raise ConnectionAbortedError
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        import ssl

        context = _tls_context(self.table.trusted)
        context.sslsocket_class = ssl.SSLSocket  # its calls do not block
        if self.table.cert_file:
            context.load_cert_chain(self.table.cert_file, self.table.key_file)
        return context

    def _begin(self, flags: object, reason: Any, properties: object) -> None:
        """The broker has answered.  Raises: Unavailable if it refused."""
        if reason.is_failure:
            words = f"{self.table.host} refused the connection: {reason}"
            if reason.value in (MQTT_BAD_LOGIN, MQTT_NOT_AUTHORIZED):
                words += ": are mqtt.user and its password right?"
            raise Unavailable(words, self.refused_s)
        self._up_at = self._now()
        room = getattr(properties, "ReceiveMaximum", self.most_in_flight)
        self._room = min(self.most_in_flight, room)
        self.max_packet = getattr(properties, "MaximumPacketSize", 268_435_455)
        self._subscribe([*self._filters])
        for part in self.parts:
            part.due = -inf
            self._guarded(part, part.up)

    def _subscribe(self, topics: Sequence[str]) -> None:
        """Read these filters: without what was retained, unless a part wants it.  The
        flag of a message that its sender has just sent as retained stays."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        for topic in topics:
            if refused := self.refused.get(topic):
                self.refused[topic] = self._now() + self.refused_s, refused[1]
            old = 0 if self._filters[topic] else 2
            how = SubscribeOptions(1, retainAsPublished=True, retainHandling=old)
            _, number = self._client.subscribe(topic, options=how)
            self._unanswered[number] = topic, lambda reason: None

    def _turn(self, wait_s: float) -> None:
        """Wait for the broker, at most so long, exchange what there is with it, and act
        on that.  Raises: Unavailable."""
        try:
            self._client.loop(min(max(0.0, wait_s), self.turn_s))
        except Exception as error:  # paho's own, of an answer that is not MQTT
            words = f"{self.table.host} does not speak MQTT: {type(error).__name__}"
            raise Unavailable(words, self.refused_s) from None
        while self._notes:
            self._notes.popleft()()

    def _answer(self, number: int, answer: Any, properties: object) -> None:
        """To a message, or to a subscription, whose answer is a list."""
        topic, done = self._unanswered.pop(number, ("", None))
        for reason in answer if isinstance(answer, list) else [answer]:
            if done:  # else it was never sent
                self._take_answer(topic, reason.value, str(reason))
                done(reason.value)

    def _hear(self, message: Any) -> None:
        from paho.mqtt.client import topic_matches_sub

        for part in self.parts:
            if any(topic_matches_sub(each, message.topic) for each in part.filters):
                self._guarded(part, functools.partial(part.hear, message))

    def _step_parts(self) -> float:
        """Returns the seconds until the next step of one."""
        again = (topic for topic in self.refused if topic in self._filters)
        self._subscribe([t for t in again if self.refused[t][0] <= self._now()])
        for part in self.parts:
            if self._now() >= part.due:
                part.due = inf
                wait_s = self._guarded(part, part.step)
                part.due = self._now() + (self.failed_s if wait_s is None else wait_s)
        return min((part.due for part in self.parts), default=inf) - self._now()

    def _guarded(self, part: MqttPart, call: Callable[[], T]) -> T | None:
        """None if it failed."""
        try:
            result = call()
        except Exception as error:  # the other parts continue
            part.failure = fault_words(error)
            return None
        if call == part.step:
            part.failure = ""
        return result

    def _lose(self, flags: object, loss: Any, properties: object) -> None:
        """The connection was lost.  Raises: Unavailable."""
        host, now = self.table.host, self._now()
        is_taken_over = loss.value == MQTT_TAKEN_OVER
        is_soon = now - self._up_at < self.steady_s
        if is_taken_over or is_soon:
            self._lost_at.append(now)
        is_often = now - self._lost_at[0] <= self.takeover_s[0]
        words = f"the connection to {host} was lost"
        if is_taken_over:
            words = f"another program connects to {host} as {self._client_id}"
            words += ": each door needs its own mqtt.door"
        elif loss.value > MQTT_REFUSED:
            words += f": {loss}"
        elif is_soon and is_often:  # mosquitto 2.0 does not say why
            words += f" again; does another program connect as {self._client_id}?"
        if not is_soon:
            self._backoff.succeed()
        pause_s = self.takeover_s[1] * (is_taken_over and is_often)
        raise Unavailable(words, max(pause_s, self._backoff.fail()))

    def drop(self) -> None:
        """End the connection, without a goodbye: the broker publishes the will."""
        client, self._client = self._client, None
        found = client and client.socket()
        if found:
            found.close()
        self._up_at, self._room, self.max_packet = -inf, 0, 0
        self._notes = deque[Callable[[], None]]()
        #: By its id, the topic of what was sent, and who gets the answer.
        self._unanswered: dict[int, tuple[str, Callable[[int], None]]] = {}


def _mqtt_property(kind: str, name: str, value: object) -> Any:
    """The properties of a packet of this kind: this one."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties: Any = cast(Any, Properties)(getattr(PacketTypes, kind))
    setattr(properties, name, value)
    return properties


def compact_json(value: object) -> str:
    """JSON for a payload; dates are text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


class MqttOrder(SimpleNamespace):
    """What a message at ``do/<sender>`` orders, and how it went."""

    sender: str
    arrived: float  # monotonic
    good_until: float  # the same
    correlation: bytes | None  # MQTT 5's Correlation Data: the answer has the same
    do, id = "", ""  # the sender's own id
    at: float | None = None  # Unix seconds at which it was pressed
    since: int | None = None  # the event after which ``events`` are wanted
    result, detail, ms = "", "", 0


#: The keys of an order: what each is, and whether a value is that.
ORDER_KEYS: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "do": (f"one of {', '.join(MQTT_ORDERS)}", MQTT_ORDERS.__contains__),
    "id": (
        "at most 64 ASCII characters without spaces",
        lambda text: isinstance(text, str) and re.fullmatch("[!-~]{0,64}", text),
    ),
    "at": (
        "seconds since 1970", lambda at: type(at) in (int, float) and 0 <= at < 2**53,
    ),
    "since": ("an event's id", lambda n: type(n) is int and 0 <= n < 2**53),
}  # fmt: skip


def parse_order(payload: bytes) -> dict[str, Any]:
    """The keys of an order.  Raises: ValueError with what is wrong."""
    if len(payload) > 512:
        raise ValueError("more than 512 bytes")
    if payload.decode() in MQTT_ORDERS:
        return {"do": payload.decode()}  # all else is missing
    keys = json.loads(payload)
    if not isinstance(keys, dict):
        raise ValueError("not a JSON object")
    for key, value in {"do": None, **keys}.items():
        if key not in ORDER_KEYS:
            raise ValueError(f"unknown key: {key}")
        expected, fits = ORDER_KEYS[key]
        if not fits(value):
            raise ValueError(f"{key}: expected {expected}")
    if (keys["do"] == "events") is not ("since" in keys):
        raise ValueError("since belongs to events")
    return keys


class Orders(MqttPart):
    """``do/<sender>``: other programs move the door, each as [mqtt.may] allows, and get
    an answer at ``done``.

    The broker's access list ties the sender to the topic.  An order must say when it
    was pressed, because what was pressed earlier may wait in a program, a broker or the
    network without a sign.  One is carried out at a time; the door judges it again.
    """

    good_s, ahead_s = 10.0, 5.0  # an order's greatest age, and what clocks may differ
    known_s = 60.0  # for so long an id counts as used
    per_min = 10  # orders of one sender
    look_s = 0.02  # while an order is under way
    #: These let nobody in, so they are taken while the clock is not set.
    harmless = ("lock", "lockdown-on")

    def __init__(self, link: MqttLink) -> None:
        self._link, self._context = link, link.context
        self._now = link.context.clock.monotonic
        self.filters = {f"{link.root}/do/+": False}
        #: Those without a result wait, or are under way; the others have no answer yet.
        self._orders: deque[MqttOrder] = deque(maxlen=100)
        self._under_way: MqttOrder | None = None
        self._ids: dict[tuple[str, str], float] = {}  # when each arrived
        self._rates: dict[str, CallRate] = {}
        self._logs: dict[str, Every] = {}  # of refusals, by their results
        self._events = Forgiving(link.context.events, self._report)

    def _report(self, why: str, is_write: bool) -> None:
        if why:
            log.warning("%s: %s", self._link.name, why)

    def hear(self, message: Any) -> None:
        self.due = -inf
        order = MqttOrder(
            sender=message.topic.rpartition("/")[2], arrived=self._now(),
            correlation=getattr(message.properties, "CorrelationData", None),
        )  # fmt: skip
        try:
            vars(order).update(parse_order(message.payload))
            order.result = self._refusal(order, is_retained=message.retain)
        except ValueError as error:
            order.result, order.detail = "not-understood", printable(str(error), 200)
        self._orders.append(order)
        if not order.result:
            self._ids[order.sender, order.id] = order.arrived
        elif self._logs.setdefault(order.result, Every(60.0)).is_due(order.arrived):
            words = "%s: an order from %s was refused: %s"
            sender = printable(order.sender, 60)
            log.info(words, self._link.name, sender, order.result)

    def _refusal(self, order: MqttOrder, *, is_retained: bool) -> str:
        """Why it is not carried out; "" if it is, until ``good_until``."""
        context, oldest = self._context, order.arrived - self.known_s
        self._ids = {of: at for of, at in self._ids.items() if at >= oldest}
        is_set = trusts_clock(context.config, self._events, context.clock)
        age_s = 0.0 if order.at is None else context.clock.now().timestamp() - order.at
        needs_time = is_set or order.do not in self.harmless
        refusals = {
            "retained": is_retained,
            "not-allowed": order.do not in self._link.table.may.get(order.sender, ()),
            "no-time": needs_time and order.at is None,
            "no-id": not order.id,
            "clock-not-set": needs_time and not is_set,
            "stale": needs_time and not -self.ahead_s <= age_s <= self.good_s,
            "duplicate": (order.sender, order.id) in self._ids,
        }
        if word := next((word for word, applies in refusals.items() if applies), ""):
            return word
        age_s = max(0.0, age_s) if needs_time else 0.0
        order.good_until = order.arrived + self.good_s - age_s
        rate = self._rates.setdefault(order.sender, CallRate(self.per_min))
        return "too-many" if rate.wait_s(order.arrived) else ""

    def step(self) -> float:
        now = self._now()
        if (order := self._under_way) and order.result:
            for part in self._link.parts if order.do == "status" else ():
                part.saw(order.result)
            self._under_way = None
        for order in self._orders:
            if not order.result and order is not self._under_way:
                self._try(order, now)
        for order in [order for order in self._orders if order.result]:
            if not self._has_answered(order, now):
                break
            self._orders.remove(order)
        return self.look_s if self._orders else inf

    def _try(self, order: MqttOrder, now: float) -> None:
        """Begin an order, unless another is under way."""
        if order.good_until <= now:
            order.result = "busy"
        elif not self._under_way:
            self._under_way = order
            run = functools.partial(self._carry_out, order)
            run() if order.do == "events" else start_thread(run, "order")

    def _has_answered(self, order: MqttOrder, now: float) -> bool:
        """False if the answer has to be published later."""
        order.ms = order.ms or round((now - order.arrived) * 1000)
        answer = {
            "id": order.id, "do": order.do, "by": order.sender, "result": order.result,
            "detail": order.detail, "ms": order.ms,
        }  # fmt: skip
        topic, text = f"{self._link.root}/done", compact_json(answer)
        return self._link.publish(topic, text, correlation=order.correlation)

    def _carry_out(self, order: MqttOrder) -> None:
        """On a thread of its own, but for ``events``."""
        act = self._lock_down if "lockdown" in order.do else self._ask
        act = self._resend if order.do == "events" else act
        try:
            result, order.detail = act(order)
        except Exception as error:  # the other orders continue
            result, order.detail = "failed", fault_words(error)
        order.result = result

    def _ask(self, order: MqttOrder) -> tuple[str, str]:
        """The door's result, and its detail."""
        name, wants = f"{order.id} {order.sender} {order.at}", Wants(order.do)
        at, until = self._context.clock.now(), order.good_until
        answer = self._context.ask(
            AccessRequest(
                Medium.MQTT, order.sender, at, order.arrived, until, wants, id=name
            )
        )
        if answer is None:
            return "door-not-running", ""
        word, _, detail = answer.lines[0].partition(": ")
        if wants is Wants.STATUS:
            state = word.partition(",")[0]
            known = state if answer.done else Result.UNKNOWN_STATE
            return known, "; ".join(answer.lines)
        if word == "denied":
            word, detail = detail, ""
        was_busy = answer == NOT_TAKEN or word == Reason.STALE or detail == TOO_LONG
        return "busy" if was_busy else word, detail

    def _lock_down(self, order: MqttOrder) -> tuple[str, str]:
        """As the verb does it.  A lockdown-off that comes again, even after a restart,
        does not end another lockdown."""
        people, at = self._context.people, self._context.clock.now()
        if not (is_on := order.do == "lockdown-on"):
            store, note = self._context.store, f"mqtt lockdown-off {order.sender}"
            last, pressed = float(store.recall(note) or -inf), order.at or 0.0
            if last - self.known_s < pressed <= last:
                return "duplicate", ""
            store.keep(note, str(pressed))
        if people.locked_down() is is_on:
            return order.do, "it was already"
        people.lock_down(f"{utc_text(at)} {order.sender}" if is_on else "")
        words = f"by {order.sender}"
        self._events.record(change_event(at, Change(order.do), "mqtt", words))
        return order.do, ""

    def _resend(self, order: MqttOrder) -> tuple[str, str]:
        is_offered = any(part.resend(order.since or 0) for part in self._link.parts)
        return ("events", "") if is_offered else ("refused", "mqtt.events is false")


################################################################################
# 30. The published list -- one list for many doors, signed for each of them
################################################################################

# `doorpi publish` signs for each door the people who may enter there, and the broker
# keeps these lists.  A door takes its list once it is whole, and then needs no broker.
#
# A list is JSON, {"cards": [...], "schedules": {...}}, packed by zlib and cut into
# parts.  A message of the topic list/PART is PART_MAGIC; an Ed25519 signature of the
# magic, the head and the chunk's SHA-256; the head, a line of JSON; and the chunk.
# Every part has the head, so parts may come in any order.

PART_MAGIC, SIGNATURE_BYTES = b"DPL1", 64
#: A message has 1 kB more.  mosquitto 2.1 takes 2 MB, EMQX 1 MB, AWS IoT 128 kB.
CHUNK_BYTES = 95 * 1024
MOST_PARTS = 200  # more would not be a list of LIST_BYTES
AHEAD_S = 86_400.0  # a list from further ahead of the clock is refused


class ListHead(SimpleNamespace):
    """What every part says of its list."""

    site: str
    door: str
    version: int  # Unix seconds of its publishing, or more: it only grows
    issued: int  # Unix seconds
    shrink: bool  # its owner knows that it lacks many people
    parts: int
    part: int  # from 1
    sha256: str  # of all chunks, in hex

    @property
    def day(self) -> str:
        return f"{datetime.fromtimestamp(self.version).astimezone():%Y-%m-%d %H:%M:%S}"


def packed(people: Config) -> bytes:
    """The cards and the schedules as they are cut into chunks."""
    import zlib

    usual = {"enabled": True, "proof": "", "generation": 1}
    names = "enabled", "valid_from", "valid_until", "schedule", "proof", "generation"
    cards = [
        {"uid": card.uid, "holder": card.holder, **_unusual(card, names, usual)}
        for card in sorted(people.cards.values(), key=attrgetter("holder", "uid"))
    ]
    entries = {"cards": cards, "schedules": schedule_entries(people.schedules)}
    return zlib.compress(compact_json(entries).encode(), 9)


def schedule_entries(schedules: Schedules) -> dict[str, object]:
    """For JSON, as ``schedules_from`` reads it."""
    return {
        name: {"times": [*each.words], "closed": sorted(map(str, each.closed))}
        for name, each in schedules.items()
    }


def unpacked(whole: bytes) -> Config:
    """The cards and the schedules that were ``packed``.  Raises: ListError if they
    cannot be used; an entry that only a newer version understands admits nobody."""
    import zlib

    inflater, cards = zlib.decompressobj(), dict[Uid, Credential]()
    try:
        text = inflater.decompress(whole, LIST_BYTES + 1)  # it may be a zip bomb
        if len(text) > LIST_BYTES:
            raise ListError(f"it is longer than {LIST_BYTES / 1e6:.0f} MB")
        found = json.loads(text)
        schedules = schedules_from(json.dumps(found["schedules"]))
        for entry in found["cards"]:
            uid = Uid(re.fullmatch(LISTED, entry["uid"])[0])  # type: ignore[index]
            row = {"enabled": True, "role": Role.HOLDER, **entry}
            cards[uid] = card = _credential(uid, row)
            if card.schedule and card.schedule not in schedules:
                words = f"{card_name(card)} has a schedule that is not on it"
                raise ListError(f"{words}: {printable(card.schedule)}")
            if card.role is not Role.HOLDER:
                raise ListError(f"{card_name(card)} is a master card on it")
    except ListError:
        raise
    except (
        zlib.error, LookupError, TypeError, ValueError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise ListError(f"it cannot be read: {error!r}") from None
    return Config(cards=cards, schedules=schedules)


def signed_parts(whole: bytes, key: Any, **head: Any) -> Iterator[bytes]:
    """The messages of a list, signed with ``key`` (an Ed25519PrivateKey)."""
    head |= {"sha256": hashlib.sha256(whole).hexdigest()}
    starts = range(0, len(whole), CHUNK_BYTES)
    for number, start in enumerate(starts, 1):
        chunk = whole[start : start + CHUNK_BYTES]
        said = {**head, "parts": len(starts), "part": number}
        line = json.dumps(said).encode() + b"\n"
        yield PART_MAGIC + key.sign(_signed_of(line, chunk)) + line + chunk


def _signed_of(line: bytes, chunk: bytes) -> bytes:
    return PART_MAGIC + line + hashlib.sha256(chunk).digest()


def read_part(message: bytes, keys: str) -> tuple[ListHead, str, bytes]:
    """The head, the key of ``keys`` with which it is signed, and the chunk.  Raises:
    ListError."""
    begins = len(PART_MAGIC) + SIGNATURE_BYTES
    signature = message[len(PART_MAGIC) : begins]
    line, end, chunk = message[begins:].partition(b"\n")
    key = signer(_signed_of(line + end, chunk), signature, keys)
    if not (message.startswith(PART_MAGIC) and key):
        raise ListError("it is not signed with the list_key of this door")
    head = ListHead(**json.loads(line))
    types = {name: type(value).__name__ for name, value in vars(head).items()}
    if types != ListHead.__annotations__:
        raise ListError("it needs a newer version of DoorPi")
    is_number = 1 <= head.part <= head.parts <= MOST_PARTS
    if not (is_number and 0 < head.version < 2**35 and 0 < head.issued < 2**35):
        raise ListError(f"part {head.part} of {head.parts} makes no sense")
    return head, key, chunk


class PublishedList(MqttPart):
    """Takes the list that is published for this door.  A complete one is put in force
    on a thread of its own, as a long one takes a slow Pi longer than the broker waits
    for a sign of life."""

    confirm_s = 3600.0  # the list in force is confirmed so often while the link is up
    patience_s = 30.0  # until missing parts are reported
    retry_s = 60.0  # after trouble with the disk or the clock
    count_s = 60.0  # between two counts of cards: there may be a million
    busy_s, idle_s = 0.2, 1.0

    def __init__(self, link: MqttLink) -> None:
        self._link, self._context, table = link, link.context, link.table
        self._now = link.context.clock.monotonic
        self.filters = {f"{link.root}/list/+": True} if table.list_key else {}
        trust_s = table.trust_for_days * 86_400.0 or None
        self._roster = Roster(link.name, link.context, trust_s)
        #: The newest list that is not in force: its head, mark and chunks, since when
        #: it arrives, and when to try it.
        self._new: SimpleNamespace | None = None
        self._taking: tuple[Job[None], SimpleNamespace] | None = None
        self._confirm_at, self._counted_at = inf, -inf
        self._counts = dict[str, object]()

    def up(self) -> None:
        self._confirm_at = inf  # until the broker shows the list in force again

    def hear(self, message: Any) -> None:
        if not message.payload:  # it was removed from the broker
            return
        try:
            head, key, chunk = read_part(message.payload, self._link.table.list_key)
            self._check(head)
            mark = f"{head.version} {head.sha256} {key}"
            if self._is_news(head, mark):
                if not self._new or self._new.mark != mark:
                    self._new = SimpleNamespace(
                        head=head, mark=mark, chunks={}, since=self._now(), due=-inf
                    )
                self._new.chunks[head.part] = chunk
        except (ListError, StoreError) as error:
            self._refuse(error)
        self.due = -inf

    def health(self) -> dict[str, object]:
        """The list in force, how many cards it and the door's own list let in, and why
        a newer one was refused."""
        synced, place = self._context.synced, self._link.name
        if self._now() >= self._counted_at + self.count_s:
            self._counted_at, mark = self._now(), synced.mark_of(place)
            self._counts = {
                "version": int(mark.split()[0]) if mark else None,
                "cards": synced.count(place),
                "local": self._context.people.count(),
            }
        return {**self._counts, "error": self.trouble}

    def _refuse(self, why: object) -> None:
        self.trouble = printable(f"a published list was refused: {why}")

    def _check(self, head: ListHead) -> None:
        """Raises: ListError unless it is a list for this door, now."""
        table, clock = self._link.table, self._context.clock
        if (head.site, head.door) != (table.site, table.door):
            raise ListError(f"it is for {head.site}/{head.door}")
        if clock.is_set() and head.issued > clock.now().timestamp() + AHEAD_S:
            words = f"it is of {head.day}, and here it is {clock.now():%Y-%m-%d %H:%M}"
            raise ListError(f"{words}: which clock is wrong?")

    def _is_news(self, head: ListHead, mark: str) -> bool:
        """False for the list in force.  Raises: ListError, StoreError."""
        place, keys = self._link.name, self._link.table.list_key.split()
        in_force = self._context.synced.mark_of(place)
        if mark == in_force:
            if not self._new:
                self.trouble = ""
            if self._confirm_at == inf:
                self._confirm_at = self._now()
            return False
        # If synced.db was lost, an older list must not take its place.
        marks = [in_force, self._context.store.recall(f"published {place}") or ""]
        marks += [self._new.mark] if self._new else []
        # Whoever had a key that is trusted no more could choose any version.
        marks = [each for each in marks if each and each.split()[2] in keys]
        newest = max((int(each.split()[0]) for each in marks), default=0)
        if head.version < newest and head.part == 1:  # others may be left over
            words = f"it is of {head.day}, and there is a newer one"
            raise ListError(f"{words}: was a clock behind when it was published?")
        if head.version == newest and mark not in marks:
            words = f"there are two different ones of {head.day}"
            raise ListError(f"{words}: is its key on two computers?")
        return head.version >= newest

    def step(self) -> float:
        if not self.filters:
            if self._context.synced.mark_of(self._link.name):
                why = "list_key was removed"
                self._roster.take([], is_forced=True, about=why, mark="", hours="{}")
            return inf
        if self._now() >= self._confirm_at:
            self._roster.confirm()
            self._confirm_at = self._now() + self.confirm_s
        if self._taking and self._taking[0].done:
            (job, taken), self._taking = self._taking, None
            self._finish(job, taken)
        if self._new and not self._taking:
            self._begin(self._new)
        return self.busy_s if self._taking else self.idle_s

    def _begin(self, new: SimpleNamespace) -> None:
        """Put the new list in force, if it is whole and due or was accepted."""
        now, count, parts = self._now(), len(new.chunks), new.head.parts
        if count < parts:
            if now >= new.since + self.patience_s and not self.trouble:
                words = f"{count} of {parts} parts have arrived"
                self.trouble = f"of the published list of {new.head.day}, {words}"
        elif now >= new.due or self._roster.is_accepted():
            self._taking = job, _ = Job[None](), new
            take = functools.partial(self._put_in_force, new)
            start_thread(lambda: cast(None, job.run(take)), "list")

    def _finish(self, job: Job[None], taken: SimpleNamespace) -> None:
        now, self._counted_at = self._now(), -inf
        try:
            job.result()
        except ListRefused as error:  # unless the owner accepts it
            taken.due, self.trouble = inf, printable(str(error))
            return
        except (Unavailable, StoreError) as error:
            taken.due = now + self.retry_s
            self._refuse(error)
            return
        except ListError as error:
            self._refuse(error)
        else:
            self.trouble, self._confirm_at = "", now + self.confirm_s
        if self._new is taken:
            self._new = None

    def _put_in_force(self, new: SimpleNamespace) -> None:
        """Raises: ListError, Unavailable, StoreError."""
        head, whole = new.head, b"".join(new.chunks[n] for n in sorted(new.chunks))
        if hashlib.sha256(whole).hexdigest() != head.sha256:
            raise ListError("its parts do not belong together")
        people = unpacked(whole)
        if not people.cards and not head.shrink:
            raise ListError("it is empty")
        self._roster.take(
            [*people.cards.values()], is_forced=head.shrink, mark=new.mark,
            about=f"list of {head.day}",
            hours=compact_json(schedule_entries(people.schedules)),
        )  # fmt: skip
        self._context.store.keep(f"published {self._link.name}", new.mark)


# -- the publisher


class FleetParser(Parser):
    """One reading of FLEET.toml."""

    door_keys: ClassVar[Keys] = {
        "id": Setting("", "mqtt.door of that door", check=TOPIC, is_needed=True),
        "name": Setting("", "for whoever reads the file"),
    }
    doors_key = Setting((), "ids of the doors that it opens", is_needed=True)

    def people(self) -> dict[str, Config]:
        """The people of each door, and the schedules."""
        names = "schedule", "card", "person"
        for key in self.document.keys() - {"door", *names}:
            self.unknown("", key, ["door", *names])
        self.schedules, doors = self.read_schedules(), self._doors()
        entries = chain.from_iterable(map(self.entries, names[1:]))
        for where, table in entries:
            self._first_place = {}  # a card may have other limits at another door
            keys = {**TABLES[where.partition(" ")[0]], "doors": self.doors_key}
            cards = self.credentials(where, table, keys)
            if any(card.role is Role.MASTER for card in cards):
                words = "a published list has no master cards; use doorpi.toml"
                self.report(f"{where}.role", f": {words}")
            wanted = table.get("doors") if isinstance(table, dict) else None
            for door in wanted if isinstance(wanted, list) else ():
                self._check_name(f"{where}.doors", str(door), doors, "[[door]]")
                people = doors.get(str(door), {})
                for uid in (card.uid for card in cards if card.uid in people):
                    words = f"another entry has it at the door {door}"
                    self.report(f"{where}.uid", f" = {format_uid(uid)}: {words}")
                people |= {card.uid: card for card in cards}
        for place in self.examples:
            self.report(f"{place}.uid", ": still the example value")
        made = {}
        for door, people in doors.items():
            used = {card.schedule for card in people.values()}
            needed = {name: it for name, it in self.schedules.items() if name in used}
            made[door] = Config(cards=people, schedules=needed)
        return made

    def _doors(self) -> dict[str, dict[Uid, Credential]]:
        """The doors by their ids, without people so far."""
        doors: dict[str, dict[Uid, Credential]] = {}
        tables = self.document.get("door")
        if not (tables and isinstance(tables, list)):
            self.report("door", ': expected [[door]] with id = "..." for each door')
            tables = []
        for number, table in enumerate(tables, 1):
            place = f"door {number}"
            name = self.table(place, table, self.door_keys)["id"]
            if name:
                self._check_first(place, "id", f"door {name}", name)
            doors[name] = {}
        return doors


def read_fleet(text: str) -> dict[str, Config]:
    """The people of each door in FLEET.toml.  Raises: ConfigError with every
    problem."""
    try:
        parser = FleetParser(tomllib.loads(text.removeprefix("\ufeff")))
    except (ValueError, RecursionError) as error:
        problems = [*toml_mistakes(text)] or [f"not valid TOML: {error}"]
        raise ConfigError(problems) from None
    people = parser.people()
    if parser.problems:
        raise ConfigError(parser.problems)
    return people


class Edition:
    """The list of one door that is to be published, and what becomes of it.  ``path``
    is the record of the one before: its head as a line of JSON, and its content."""

    doubt_s = 3.0  # a door may still be putting the list in force

    def __init__(self, door: str, people: Config, path: Path) -> None:
        self.door, self.people, self._path = door, people, path
        self.content = packed(people)
        self.before, self._last, self._head = Config(), b"", dict[str, Any]()
        if path.exists():
            line, _, self._last = path.read_bytes().partition(b"\n")
            self._head = json.loads(line)
            self.before = unpacked(self._last)
        self.version: int = self._head.get("version", 0)
        #: Messages that the broker has not taken; -1: they are not made yet.
        self.unsent, self.sent_at, self.failure = -1, inf, ""  # sent_at: monotonic
        #: What the door says of its list, and when.
        self.said, self.said_at, self.is_away = dict[str, Any](), -inf, False

    def messages(self, site: str, at: float, key: Any, *, shrink: bool) -> list[bytes]:
        """The payloads of list/1, list/2, ...; none if the door has this list in force.
        Empty ones remove what is left of a longer list."""
        is_same = (self._last, self._head.get("key")) == (
            self.content,
            public_text(key),
        )
        if is_same and self.said.get("version") == self.version:
            self.unsent = 0
            return []
        self.version = max(int(at), self.version + 1)
        head = {"site": site, "door": self.door, "version": self.version}
        head |= {"issued": int(at), "shrink": shrink}
        messages = [*signed_parts(self.content, key, **head)]
        before, count = self._head.get("parts", 0), len(messages)
        self._head = {"version": self.version, "parts": count, "key": public_text(key)}
        messages += [b""] * (before - count)
        self.unsent = len(messages)
        return messages

    def answered(self, failure: str, now: float) -> None:
        """The broker has taken a message, or has not: ``failure``.  Raises: OSError."""
        self.unsent, self.failure = self.unsent - 1, self.failure or failure
        if not (self.unsent or self.failure):
            self.sent_at = now
            self._path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps(self._head).encode()
            write_whole(self._path, line + b"\n" + self.content)

    def state(self, now: float) -> tuple[bool | None, str]:
        """Whether it is in force or will be, None while that may change; in words."""
        is_sure = now > max(self.sent_at, self.said_at) + self.doubt_s
        if self.failure or self.unsent:
            words = self.failure or "the broker has not taken it"
            return False if self.failure else None, words
        if self.said.get("version") == self.version:
            return True, "applied" if self.sent_at < inf else "unchanged"
        if self.said_at > self.sent_at and self.said.get("error"):
            return False if is_sure else None, str(self.said["error"])
        if self.is_away:  # or its door is, and it takes the list all the same
            return is_sure or None, "away: it takes the list when it is back"
        if before := self.said.get("error"):
            return None, f"no new answer; it said before: {before}"
        return None, "no answer: is it running, with this list_key?"

    def row(self, now: float) -> tuple[str, str, str, str]:
        """Of a table: door, cards, list, state."""
        at = f"{datetime.fromtimestamp(self.version).astimezone():%Y-%m-%d %H:%M:%S}"
        words = printable(self.state(now)[1])
        return self.door, f"{len(self.people.cards):,}", at, words


class Publisher(MqttPart):
    """Sends lists to doors, over a link of its own, and hears what they say."""

    listen_s = 2.0  # for what the doors have in force

    def __init__(
        self,
        editions: Iterable[Edition],
        table: MqttConfig,
        clock: Clock,
        key: Any,
        *,
        shrink: bool,
    ) -> None:
        self._clock, self._now = clock, clock.monotonic
        self._table, self._key, self._shrink = table, key, shrink
        self._editions = {edition.door: edition for edition in editions}
        root = f"doorpi/{table.site}/+"
        self.filters = {f"{root}/health": True, f"{root}/online": True}
        self._begin_at, self._moved_at = inf, self._now()
        self._queue = deque[tuple[Edition, int, bytes]]()
        context = Context(clock=clock)
        me = [lambda link: self]
        self._link = MqttLink("publish", table, context, me, is_door=False)

    def run(self, wait_s: float) -> None:
        """Publish the lists; each door then has ``wait_s`` to put its list in force or
        to refuse it.  Raises: OSError, Unavailable."""
        try:
            while not self._is_done(wait_s):
                self._link.step()
        finally:
            self._link.drop()

    def up(self) -> None:
        self._begin_at = self._now() + self.listen_s

    def hear(self, message: Any) -> None:
        door, what = message.topic.split("/")[2:4]
        if edition := self._editions.get(door):
            if what == "online":
                edition.is_away = message.payload == b"offline"
                return
            with contextlib.suppress(ValueError, TypeError, LookupError):
                edition.said = dict(json.loads(message.payload)["list"])
                edition.said_at = self._now()

    def step(self) -> float:
        if self._now() >= self._begin_at:
            self._begin_at = inf
            how = self._table.site, self._clock.now().timestamp(), self._key
            for each in self._editions.values():
                messages = each.messages(*how, shrink=self._shrink)
                self._queue += ((each, n, m) for n, m in enumerate(messages, 1))
        while self._queue and self._publish(*self._queue[0]):
            self._queue.popleft()
        return 0.05

    def _publish(self, edition: Edition, number: int, payload: bytes) -> bool:
        topic = f"doorpi/{self._table.site}/{edition.door}/list/{number}"
        done = functools.partial(self._answered, edition)
        return self._link.publish(topic, payload, is_retained=True, done=done)

    def _answered(self, edition: Edition, reason: int) -> None:
        self._moved_at = self._now()
        is_failure = reason >= MQTT_REFUSED
        why = f"not published: {self._link.trouble}" if is_failure else ""
        edition.answered(why, self._moved_at)

    def _is_done(self, wait_s: float) -> bool:
        now = self._now()
        states = (edition.state(now)[0] for edition in self._editions.values())
        return None not in states or now > self._moved_at + wait_s + self.listen_s


def public_text(key: Any) -> str:
    """The public part of an Ed25519PrivateKey in base64, as list_key has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


################################################################################
# 31. Home Assistant -- the door's state and its events, for whoever listens
################################################################################

# Source: home-assistant.io/integrations/mqtt, and its code of 2025.4 and 2026.11.

HOME_ASSISTANT = "homeassistant"  # its user at the broker, and its topics' first part

#: In the topic ``event``: how an access request ends, and what a door contact notices.
EVENT_TYPES = (
    "unlocked", "locked", "denied", "failed", "unsure", *ALARMS, Change.CLOSED,
)  # fmt: skip

#: Home Assistant renders this when somebody presses: the door refuses an order without
#: a time, and one that is late.  (range() of more than 100,000 is an error there.)
ORDER_TEMPLATE = (
    '{"do":"{{ value }}","id":"{{ range(100000)|random }}-{{ range(100000)|random }}",'
    '"at":{{ utcnow().timestamp()|round(3) }}}'
)


_ORDER = {
    "command_topic": f"do/{HOME_ASSISTANT}", "command_template": ORDER_TEMPLATE,
    "retain": False,
}  # fmt: skip
_HEALTH = {"state_topic": "health", "entity_category": "diagnostic"}
#: The entities that a door can have in Home Assistant.  Topics are below the door's.
ENTITIES: Mapping[str, Mapping[str, object]] = {
    "lock": {"platform": "lock", "name": None, "optimistic": False, **_ORDER,
             "payload_lock": "lock", "payload_unlock": "unlock",
             "state_topic": "lock", "value_template": "{{ value_json.state }}",
             "state_locked": "locked", "state_unlocked": "unlocked",
             "state_locking": "locking", "state_unlocking": "unlocking",
             "json_attributes_topic": "lock", "json_attributes_template":
                "{{ {'at': value_json.at, 'by': value_json.by,"
                " 'result': value_json.result}|tojson }}"},
    "lockdown": {"platform": "switch", "name": "Lockdown", "optimistic": False,
                 **_ORDER, "payload_on": "lockdown-on", "payload_off": "lockdown-off",
                 "state_topic": "health", "state_on": "on", "state_off": "off",
                 "value_template": "{{ value_json.lockdown }}"},
    "lockdown-state": {"platform": "binary_sensor", "name": "Lockdown", **_HEALTH,
                       "value_template": "{{ value_json.lockdown|upper }}"},
    "ask": {"platform": "button", "name": "Ask the lock", **_ORDER,
            "payload_press": "status", "entity_category": "diagnostic"},
    "event": {"platform": "event", "name": "Access", "state_topic": "event",
              "event_types": EVENT_TYPES},
    "last": {"platform": "sensor", "name": "Last person", "state_topic": "last",
             "value_template": "{{ value_json.holder }}",
             "json_attributes_topic": "last"},
    "problem": {"platform": "binary_sensor", "name": "Problem", **_HEALTH,
                "device_class": "problem",
                "value_template": "{{ 'ON' if value_json.faults else 'OFF' }}",
                "json_attributes_topic": "health", "json_attributes_template":
                    "{{ {'faults': value_json.faults}|tojson }}"},
    "battery": {"platform": "binary_sensor", "name": "Lock battery", **_HEALTH,
                "device_class": "battery",
                "value_template": "{{ 'ON' if value_json.battery_low else 'OFF' }}"},
    "since": {"platform": "sensor", "name": "Running since", **_HEALTH,
              "device_class": "timestamp", "value_template": "{{ value_json.since }}"},
    "list": {"platform": "sensor", "name": "List version", **_HEALTH,
             "value_template": "{{ value_json.list.version }}"},
}  # fmt: skip


def discovery(table: MqttConfig, door_name: str) -> dict[str, Any]:
    """The message that describes the door to Home Assistant.  An entity that these
    settings exclude has its platform alone, which removes it there."""
    root, unique = (mark.join(("doorpi", table.site, table.door)) for mark in "/-")
    rights = {*table.may.get(HOME_ASSISTANT, ())}
    excluded = {
        "lockdown-state" if rights & {"lockdown-on", "lockdown-off"} else "lockdown",
        *["ask"] * ("status" not in rights), *["list"] * (not table.list_key),
        *["last"] * (not table.names),
    }  # fmt: skip
    components: dict[str, dict[str, object]] = {}
    for key, entity in ENTITIES.items():
        components[key] = {"platform": entity["platform"]}
        for name, value in () if key in excluded else entity.items():
            is_topic = name.endswith("_topic")
            components[key][name] = f"{root}/{value}" if is_topic else value
            components[key]["unique_id"] = f"{unique}-{key}"
    entity_id = f"lock.{table.door.replace('-', '_')}"
    components["lock"]["default_entity_id"] = entity_id
    version = {"name": "DoorPi", "sw_version": __version__}
    return {
        "device": {"manufacturer": "DoorPi", **version, "identifiers": [unique],
                   "name": door_name},
        "origin": version,
        "availability": [{"topic": f"{root}/online"}],
        "qos": 0,  # with 1, Home Assistant would send an order later, once it can
        "components": components,
    }  # fmt: skip


class Announcement(MqttPart):
    """The discovery message: sent when the link is up, and again when Home Assistant
    has started.  ``homeassistant = false`` removes the door there, once."""

    filters = MappingProxyType({f"{HOME_ASSISTANT}/status": False})
    look_s = 5.0
    spread_s = 10.0  # so that not all doors answer at the same moment
    note = "mqtt announced"  # the topic under which the door was announced

    def __init__(self, link: MqttLink) -> None:
        self._link, self._sent, self._again_at = link, "", inf

    def up(self) -> None:
        self._sent = ""

    def hear(self, message: Any) -> None:
        if message.payload == b"online":
            now = self._link.context.clock.monotonic()
            self._again_at = now + random.uniform(0, self.spread_s)
            self.due = min(self.due, self._again_at)

    def step(self) -> float:
        link, table, context = self._link, self._link.table, self._link.context
        now, text = context.clock.monotonic(), ""
        topic = f"{HOME_ASSISTANT}/device/{table.door}/doorpi/config"
        if table.homeassistant:
            text = compact_json(discovery(table, context.config.door.name))
        before = context.store.recall(self.note) or ""
        if before and (before != topic or not text):
            if link.publish(before, "", is_retained=True):
                context.store.keep(self.note, "")
        elif text and (text != self._sent or now >= self._again_at):
            if before != topic:
                context.store.keep(self.note, topic)
            if link.publish(topic, text, is_retained=True):
                self._sent, self._again_at = text, inf
        return min(self.look_s, self._again_at - now)


UID_IN_TEXT = r"\b([0-9A-Fa-f]{2}:?){3,9}[0-9A-Fa-f]{2}\b"


def disclosed(event: Event, table: MqttConfig) -> Event:
    """The event without what [mqtt] keeps from the broker."""
    if not table.uids:
        note, detail = (
            re.sub(UID_IN_TEXT, "(a card)", text) for text in (event.note, event.detail)
        )
        event = event._replace(uid=None, note=note, detail=detail)
    if not table.names:
        event = event._replace(holder="")
        if isinstance(event.reason, Change):  # it names people
            event = event._replace(detail="")
    return event


def event_type(event: Event) -> str:
    """What Home Assistant calls it; "" for a change of the list and an open move."""
    failed = "failed" if event.result and event.decision == "granted" else ""
    words = map(str, (event.reason, event.decision, event.result))
    return next((word for word in words if word in EVENT_TYPES), failed)


#: The bolt's state after a move with this result; after any other it is as before.
MOVED_TO: Mapping[str, str] = {
    Result.UNLOCKED: "unlocked", Result.LOCKED: "locked", Result.UNSURE: "None",
    Result.UNKNOWN_STATE: "None", Result.INTERRUPTED: "None",
}  # fmt: skip


class DoorState(MqttPart):
    """``online``, ``lock``, ``last`` and ``health``, which are retained, and ``event``:
    each access request, within ``fresh_s``, for automations.

    ``lock``, ``last`` and ``event`` come from the log, which has a move before the
    command leaves.  The broker publishes ``offline``, the will, when the link is lost.
    """

    look_s, health_s = 0.25, 2.0
    absent_s = 90.0  # a door that does not run is offline then: upgrades are shorter
    fresh_s = 60.0
    move_s = 120.0  # a move without an outcome is not believed for longer
    known = 200  # events that are read at the start

    def __init__(self, link: MqttLink) -> None:
        self._link, self._context, self._table = link, link.context, link.table
        self._heads: tuple[int, int] | None = None  # the newest event, and outcome
        self._open: set[int] = set()  # ids of moves that are under way
        self._move: Event | None = None  # the newest of them
        #: Events that are not acknowledged: until when they are fresh, and their texts.
        self._fresh: dict[int, tuple[float, str]] = {}
        self._is_battery_low, self._seen_at = False, -inf
        self._since: tuple[object, str | None] = None, None
        self._last = ""
        self._lock: dict[str, object] = {
            "state": "None", "at": None, "by": "", "result": None,
        }  # fmt: skip
        self.up()

    def up(self) -> None:
        self._sent: dict[str, str] = {}
        self._in_flight: set[int] = set()
        self._health_due = -inf

    def saw(self, state: str) -> None:
        at = utc_text(self._context.clock.now())
        if state in (Result.LOCKED, Result.UNLOCKED) and state != self._lock["state"]:
            self._lock = {"state": state, "at": at, "by": "", "result": None}

    def step(self) -> float:
        at, now = self._context.clock.now(), self._context.clock.monotonic()
        if is_due := now >= self._health_due:
            self._health_due = now + self.health_s
            if self._context.troubles() is not None:
                self._seen_at = now
            is_online = now - self._seen_at < self.absent_s
            self._show("online", "online" if is_online else "offline")
        self._read(at, now)
        self._show("lock", compact_json(self._lock_state(at)))
        if self._last:
            self._show("last", self._last)
        self._publish_fresh(now)
        if is_due:
            self._show("health", compact_json(self._health()))
        return self.look_s

    def _show(self, name: str, text: str) -> None:
        """Publish a state, unless the broker has it."""
        topic = f"{self._link.root}/{name}"
        is_new = self._sent.get(name) != text
        if is_new and self._link.publish(topic, text, is_retained=True):
            self._sent[name] = text

    # -- the log

    def _read(self, at: datetime, now: float) -> None:
        """Take what is new in the log, and the outcomes of moves under way."""
        events, before = self._context.events, self._heads
        heads = events.last_id(), events.last_id("outcomes")
        if heads == before:
            return
        found, new = list[Event](), list[Event]()
        if before and heads[0] >= before[0]:  # else it is another log
            first = min(self._open | {before[0] + 1})
            found = [*events.read(after_id=first - 1)]
            new = [e for e in found if e.id > before[0] or e.id in self._open]
        # The broker keeps what it got: it must not keep a name that is forgotten.
        if not found or any(event.reason is Change.FORGET for event in new):
            found = events.latest(self.known)
        for event in found:
            self._take(event)
        for event in filter(event_type, new):
            left_s = self.fresh_s - abs(at - event.at).total_seconds()
            known = disclosed(event, self._table)
            text = compact_json({
                "event_type": event_type(event), "holder": known.holder,
                "reason": event.reason, "source": event.source,
                "id": event.id, "at": utc_text(event.at),
            })  # fmt: skip
            self._fresh[event.id] = now + left_s, text
        self._open = {e.id for e in found if is_under_way(e, at, self.move_s)}
        self._heads = heads

    def _take(self, event: Event) -> None:
        known, result = disclosed(event, self._table), event.result
        if is_open_move(event):
            self._move = known
        if not result:
            return
        self._move = None
        when = {"at": utc_text(event.at), "by": known.holder}
        moved = {"state": MOVED_TO[result], **when} if result in MOVED_TO else {}
        self._lock = {**self._lock, **moved, "result": result}
        if result in MOVED:
            self._is_battery_low = LOW_BATTERY_WORDS in event.detail
        if result is Result.UNLOCKED and event.holder:
            last = {"holder": known.holder, "at": when["at"], "id": event.id}
            self._last = compact_json(last)

    def _lock_state(self, at: datetime) -> dict[str, object]:
        """The last state that the lock has confirmed, or where it is going."""
        if not (move := self._move):
            return self._lock
        state = f"{move.command}ing" if is_under_way(move, at, self.move_s) else "None"
        when = {"at": utc_text(move.at), "by": move.holder}
        return {"state": state, **when, "result": None}

    def _publish_fresh(self, now: float) -> None:
        for number, (ends, text) in [*self._fresh.items()]:
            if now >= ends:
                del self._fresh[number]
            elif number not in self._in_flight:
                done = functools.partial(self._published, number)
                if self._link.publish(f"{self._link.root}/event", text, done=done):
                    self._in_flight.add(number)

    def _published(self, number: int, reason: int) -> None:
        """Acknowledged, or refused for longer than it is fresh."""
        self._fresh.pop(number, None)

    # -- the health

    def _health(self) -> dict[str, object]:
        context, config = self._context, self._context.config
        troubles = context.troubles()
        is_set = context.clock.is_set() or not config.door.require_synced_clock
        faults = {"door"} if troubles is None else {*troubles} - {Signal.LOCKED_DOWN}
        faults |= {"mqtt-refused"} if self._link.refused else set()
        budget = CallBudget(context.clock, context.events, config.lock.kind, 0)
        lists = (part for part in self._link.parts if isinstance(part, PublishedList))
        return {
            "faults": sorted(faults),
            "lockdown": "on" if context.people.locked_down() else "off",
            "battery_low": self._is_battery_low,
            "since": self._running_since(),
            "version": __version__,
            "clock": "set" if is_set else "not-set",
            "list": next((part.health() for part in lists), {}),
            "calls": budget.used,
        }

    def _running_since(self) -> str | None:
        """By the clock as it is now: when the door started it may not have been set."""
        started, clock = self._context.started(), self._context.clock
        if (known := (started, clock.is_set())) != self._since[0]:
            ago = timedelta(seconds=clock.monotonic() - started) if started else None
            self._since = known, utc_text(clock.now() - ago) if ago else None
        return self._since[1]


class EventFeed(MqttPart):
    """``events``: the whole log in the order of its ids, for whoever keeps records.

    The log is the outbox.  Events go out in batches.  When the broker has acknowledged
    a whole one, its last id is noted in online.db, and else it is sent again: whatever
    is killed, no event is lost and some are sent twice."""

    look_s = 0.5
    most = 100  # events in a batch
    outcome_s = 120.0  # an event without one is sent as it is, and once more later
    unread_s = 600.0  # until the next try, while nobody has subscribed
    reserve = 2  # of the link's room is left to what is urgent
    note = "mqtt sent"

    def __init__(self, link: MqttLink) -> None:
        self._link, self._table, self._events = link, link.table, link.context.events
        self._now, self._rests_until = link.context.clock.monotonic, -inf
        self._mark, self._saved = 0, ""  # the last id that was sent; the note
        self._open: set[int] = set()  # ids of events that were sent without an outcome
        self.up()

    def up(self) -> None:
        #: Its messages that were not sent, how many are not acknowledged, and the mark
        #: and the open ones after it.
        self._batch: SimpleNamespace | None = None

    def resend(self, after_id: int) -> bool:
        if self._table.events:
            self._load()
            self._mark, self._rests_until = min(self._mark, after_id), -inf
            self.up()
            self.due = -inf
        return self._table.events

    def step(self) -> float:
        if not self._table.events:
            return inf
        self._load()
        if not self._batch and self._now() >= self._rests_until:
            self._batch = self._next_batch()
        self._send()
        state = compact_json({"id": self._mark, "open": sorted(self._open)})
        if state != self._saved:
            self._link.context.store.keep(self.note, state)
            self._saved = state
        return self.look_s

    def _load(self) -> None:
        if not self._saved:
            store = self._link.context.store
            self._saved = store.recall(self.note) or '{"id":0,"open":[]}'
            state = json.loads(self._saved)
            self._mark, self._open = state["id"], set(state["open"])

    def _next_batch(self) -> SimpleNamespace | None:
        """Events that have got their outcome since they were sent, and those after the
        mark; None if there are none."""
        log, newest = self._events, self._events.last_id()
        if newest < self._mark:  # it is another log
            self._mark, self._open = 0, set()
        if newest == self._mark and not self._open:
            return None
        sent = ((n, next(log.read(after_id=n - 1), None)) for n in sorted(self._open))
        late = [event for number, event in sent if event and event.id == number]
        first, at = log.last_id("events-start"), self._link.context.clock.now()
        begin = max(self._mark, first)  # those up to ``first`` were removed unsent
        new = [*islice(ended_events(log, begin, at, self.outcome_s), self.most)]
        messages = [self._words(event) for event in late if not is_open_move(event)]
        messages += [{"gap": [self._mark + 1, first]}] * (begin > self._mark)
        messages += map(self._words, new)
        is_open = {event.id for event in [*late, *new] if is_open_move(event)}
        if not messages:
            self._open = is_open  # others were removed
            return None
        return SimpleNamespace(
            messages=deque(messages), unanswered=len(messages), open=is_open,
            mark=new[-1].id if new else begin,
        )  # fmt: skip

    def _words(self, event: Event) -> dict[str, object]:
        words = event_values(disclosed(event, self._table))
        if not self._table.uids:
            del words["uid"]
        return {**words, "door": self._table.door}

    def _send(self) -> None:
        """Publish as much of the batch as the link has room for."""
        topic = f"{self._link.root}/events"
        while (batch := self._batch) and batch.messages:
            is_first = batch.unanswered == len(batch.messages)
            text = compact_json(batch.messages[0])
            done = functools.partial(self._done, batch)
            if not (
                (is_first or self._link.room > self.reserve)
                and self._link.publish(topic, text, done=done)
            ):
                break
            batch.messages.popleft()

    def _done(self, batch: SimpleNamespace, reason: int) -> None:
        if batch is not self._batch:  # it is being sent again
            return
        batch.unanswered -= 1
        self.due = -inf
        if reason == MQTT_NO_READERS:
            self._rests_until = self._now() + self.unread_s
        if reason == MQTT_NO_READERS or reason >= MQTT_REFUSED:
            self.up()
        elif not batch.unanswered:
            self._mark, self._open = batch.mark, batch.open
            self.up()


################################################################################
# 32. Pictures -- the legend and the chart as SVG
################################################################################


INK, FAINT_INK, LINE = "#1b1f24", "#5b6470", "#c9ced6"
SHADE, PAPER = "#eceef2", "#ffffff"
NARROW, BOLD_EM = frozenset(" .,:;'|!()[]Iijl·-"), 1.15
#: Text is shrunk to this share of its size at most; what is still too long is cut.
SMALLEST = 0.75
NAME_LENGTH = 60


def tag(name: str, text: str, /, *inside: str, **attributes: object) -> str:
    """An SVG element; ``_`` in an attribute's name stands for a hyphen.  No text breaks
    the XML: `printable` escapes what XML forbids."""
    from html import escape

    written = ""
    for key, value in attributes.items():
        shown = f"{round(value, 2):g}" if isinstance(value, float) else value
        written += f' {key.rstrip("_").replace("_", "-")}="{shown}"'
    parts = escape(printable(text, 1000)) + "".join(inside)
    return f"<{name}{written}>{parts}</{name}>\n"


def caption(
    x: float, y: float, text: str, size: float, room: float = inf, /, **more: object
) -> str:
    """A line of text with its middle at the height ``y``, shrunk or cut to ``room``."""
    if "font_weight" in more:
        room /= BOLD_EM
    while ems(text) * size * SMALLEST > room:
        text = text[:-2] + "…"
    size = min(size, room / max(ems(text), 1.0))
    return tag("text", text, x=x, y=y + 0.36 * size, font_size=size, **more)


def ems(text: str) -> float:
    """The approximate width of ``text``, in multiples of its font size."""
    return sum(
        1.0 if unicodedata.east_asian_width(letter) in "WF"
        else 0.3 if letter in NARROW
        else 0.68 if letter.isupper()
        else 0.56
        for letter in text
    )  # fmt: skip


def box(left: float, top: float, right: float, bottom: float, **more: object) -> str:
    """A rectangle."""
    wide, high = right - left, bottom - top
    return tag("rect", "", x=left, y=top, width=wide, height=high, **more)


def svg(width: float, height: float, unit: str, title: str, *inside: str) -> str:
    """A picture on white paper, in ASCII, which every terminal passes on unchanged."""
    picture = tag(
        "svg", "", tag("title", title), box(0.0, 0.0, width, height, fill=PAPER),
        *inside, xmlns="http://www.w3.org/2000/svg", width=f"{width:g}{unit}",
        height=f"{height:g}{unit}", viewBox=f"0 0 {width:g} {height:g}",
        font_family="Arial, sans-serif", fill=INK,
    )  # fmt: skip
    return picture.encode("ascii", "xmlcharrefreplace").decode().rstrip()


# -- the legend: a card to print, A5 landscape, in millimetres

#: A symbol for each answer to a tap: strokes on a grid of 24 x 24.
SYMBOLS: Mapping[Signal, str] = {
    Signal.WORKING: "M6 3h12M6 21h12M8 3v3c0 3 8 9 8 12v3M16 3v3c0 3-8 9-8 12v3",
    Signal.UNLOCKED: "M4 11h16v10H4zM12 15v2M8 11V7a4 4 0 0 1 7.6-1.8",
    Signal.LOCKED: "M4 11h16v10H4zM12 15v2M8 11V7a4 4 0 0 1 8 0v4",
    Signal.DENIED: "M12 3a9 9 0 1 0 .01 0zM5.7 5.7l12.6 12.6",
    Signal.FAULT: "M12 3.5L22 20.5H2zM12 10v4.5M12 17.5v.01",
    Signal.UNSURE: "M8 7.5a4 4 0 1 1 6 3.4c-1.4.9-2 1.6-2 3.1M12 18.5v.01",
    Signal.LOW_BATTERY: "M2 7.5h17v9H2zM22 11v2M5.5 10.5v3",
}
#: Red is darker than green, and hatched on the large rows: they differ in grey too.
LIT = {"green 緑": "#23a455", "red 赤": "#b3162b"}

CARD_HEAD = f"""
<rect x="2" y="2" width="206" height="144" rx="4" fill="none" stroke="{LINE}"
 stroke-width="0.15"/>
<pattern id="hatch" width="1.1" height="1.1" patternUnits="userSpaceOnUse"
 patternTransform="rotate(45)"><rect width="1.1" height="1.1" fill="{LIT["red 赤"]}"/>
 <rect width="0.32" height="1.1" fill="{PAPER}"/></pattern>
<text x="9" y="14.5" font-size="6"><tspan font-weight="bold">What the lights say</tspan>
 <tspan dx="1.5" xml:lang="ja">ランプの見方</tspan></text>
<text x="201" y="22" font-size="2.4" text-anchor="end" fill="{FAINT_INK}">continues
 続きます →</text>
"""
HEADING = f"""
<text x="%g" y="%g" font-size="2.9" fill="{FAINT_INK}"><tspan
 font-weight="bold">%s</tspan> <tspan dx="0.7" xml:lang="ja">%s</tspan></text>
"""


class Panel(NamedTuple):
    """Rows of lights under a heading.  ``row`` is a row's height, ``size`` that of its
    text; the timeline of ``seconds`` begins at ``zero`` and is ``lights`` wide."""

    english: str
    japanese: str
    signs: tuple[Signal, ...]
    left: float
    right: float
    top: float
    row: float
    size: float
    zero: float
    lights: float
    seconds: int

    def x(self, seconds: float) -> float:
        """The place of a second on the timeline."""
        return self.zero + self.lights * seconds / self.seconds


TAP_PANEL = Panel(
    "When you tap your card", "カードをかざしたとき", tuple(SYMBOLS),
    left=9.0, right=201.0, top=22.0, row=9.5, size=3.25, zero=104.7, lights=90.0,
    seconds=4,
)  # fmt: skip
OTHER_PANEL = Panel(
    "At other times", "そのほかのとき",
    (Signal.READY, Signal.ASKING, Signal.LOCKED_DOWN, Signal.ENROLLING,
     Signal.ENROLLED, Signal.ISSUING, Signal.STOPPING),
    left=9.0, right=102.5, top=99.1, row=4.9, size=2.15, zero=60.2, lights=36.0,
    seconds=6,
)  # fmt: skip
FAULT_PANEL = OTHER_PANEL._replace(
    english="Please tell the owner", japanese="管理者にお知らせください",
    signs=tuple(sign for sign in FAULTS if sign is not Signal.LOCKED_DOWN),
    left=107.5, right=201.0, zero=158.7,
)  # fmt: skip


def legend_svg(patterns: Mapping[Signal, Pattern], name: str = "") -> str:
    """The meaning of the lights, as a card to print and to put up beside the reader."""
    name = printable(name, NAME_LENGTH)
    door = caption(201.0, 12.8, name, 4.6, 84.0, text_anchor="end")
    panels = (TAP_PANEL, OTHER_PANEL, FAULT_PANEL)
    rows = chain.from_iterable(_panel(panel, patterns) for panel in panels)
    title = f"What the lights say {name}".strip()
    return svg(210.0, 148.0, "mm", title, CARD_HEAD, door, *rows)


def _panel(panel: Panel, patterns: Mapping[Signal, Pattern]) -> Iterator[str]:
    """A heading, the seconds, and a row for each signal."""
    yield HEADING % (panel.left, panel.top, panel.english, panel.japanese)
    rule = panel.top + 1.5
    yield box(panel.left, rule, panel.right, rule + 0.3, fill=INK)
    top = rule + 0.17 * panel.row
    bottom = top + panel.row * len(panel.signs)
    axis = []
    for second in range(panel.seconds + 1):
        x, unit = panel.x(second), " s" * (second == panel.seconds)
        axis.append(box(x, top, x + 0.15, bottom + 0.6, fill=LINE))
        axis.append(caption(x, bottom + 2.2, f"{second}{unit}", 2.2))
    yield tag("g", "", *axis, class_="seconds", fill=FAINT_INK, text_anchor="middle")
    for place, sign in enumerate(panel.signs):
        middle = top + panel.row * (place + 0.5)
        row = _row(panel, middle, sign, patterns[sign])
        yield tag("g", "", *row, id=sign.value)


def _row(panel: Panel, middle: float, sign: Signal, pattern: Pattern) -> Iterator[str]:
    """A signal's symbol, where it has one, its meaning in two languages, and a track
    for each light with the times when it is on.  The track is as long as the pattern;
    one that outlasts the timeline runs to the margin."""
    left, size, row = panel.left, panel.size, panel.row
    if sign in SYMBOLS:
        yield tag(
            "path", "", d=SYMBOLS[sign], fill="none", stroke=INK, stroke_width=2.0,
            stroke_linecap="round", stroke_linejoin="round",
            transform=f"translate({left:g} {middle - 4.2:.2f}) scale(0.35)",
        )  # fmt: skip
        left += 12.0
    room = panel.zero - 3.3 * size - left  # to the names of the lights
    english = MEANINGS[sign][:1].upper() + MEANINGS[sign][1:]
    yield caption(left, middle - 0.6 * size, english, size, room, font_weight="bold")
    japanese = {"xml:lang": "ja"}
    yield caption(left, middle + 0.6 * size, MEANINGS_JA[sign], size, room, **japanese)
    is_whole = pattern.duration_s <= panel.seconds
    end = panel.x(pattern.duration_s) if is_whole else panel.right
    for led, (name, colour) in enumerate(LIT.items()):
        top = middle + row * (0.035 if led else -0.365)
        bottom, at = top + 0.33 * row, (panel.zero - 1, top + 0.165 * row)
        yield caption(*at, name, 0.7 * size, text_anchor="end", fill=FAINT_INK)
        yield box(panel.zero, top, end, bottom, fill=SHADE, class_="track")
        fill = "url(#hatch)" if panel is TAP_PANEL and led else colour
        second = 0.0
        for lights, lasts_s in pattern.frames():
            left, second = panel.x(second), min(second + lasts_s, panel.seconds)
            if lights[led]:
                right = panel.x(second)
                yield box(left, top, right, bottom, fill=fill, class_=name.split()[0])
            if second > panel.seconds - CELL_S / 2:
                break


GLYPH_COLOURS = {".": DIM, "G": GREEN, "R": RED, "A": YELLOW}


def legend(patterns: Mapping[Signal, Pattern], *, colours: bool) -> Iterator[str]:
    """The meaning of the lights, drawn from the patterns themselves."""
    yield "4 seconds of each signal: G green, R red, A both, . dark"
    names = max(map(len, patterns))
    for sign, pattern in patterns.items():
        line = timeline(pattern, 40)
        if colours:
            line = "".join(painted(glyph, GLYPH_COLOURS[glyph]) for glyph in line)
        yield ""
        yield f"{sign.value:<{names}}  {line}  {MEANINGS[sign]}"
        yield f"{'':<{names + 2 + 40}}  {MEANINGS_JA[sign]}"
        yield f"{'':<{names}}  {looks(pattern)}"


# -- the chart of the log

#: The days that a chart covers by default, today included.
CHART_DAYS = 28
LEFT, RIGHT, HEAT_RIGHT = 66.0, 970.0, 918.0
HEADLINE, BODY, SMALL = 16.0, 13.0, 11.0
HEAT_TOP, HEAT_ROW = 132.0, 28.0
#: Dark: the faster half of the taps, or an hour with many.
DARK, PALE = "#08306b", "#9dbfe0"
CENTRED = {"text_anchor": "middle", "fill": FAINT_INK}
#: Under the chart: the number of timed, denied and other taps goes in.
FOOT = (
    "The time is that of the {} that ended unlocked or locked, from the card to the"
    " lock's confirmation. Not in the times: {}, {:,} that ended differently."
    "\nDark bar, p50: half of the taps took no longer; pale bar, p95: 95 of 100 took"
    " no longer. Automatic relocks and the owner's commands do not count. Times are"
    " local."
)


class Chart:
    """The counts that `log --chart` draws, which take no more memory for a million
    events than for ten thousand."""

    def __init__(self, since: date, until: date) -> None:
        self.since, self.until = since, until
        self.took_ms = [Counter[int]() for _ in range((until - since).days + 1)]
        self.hours = [[0] * 24 for _ in DAYS]
        self.denied = self.wrong = self.others = 0

    def add(self, event: Event) -> None:
        """Count ``event`` if it is a tap.  A wrong clock may have put it outside of the
        time that is drawn."""
        at = event.at.astimezone()
        if event.source not in CARDS or not self.since <= at.date() <= self.until:
            return
        self.hours[at.weekday()][at.hour] += 1
        if event.reason is not Reason.GRANTED:
            self.denied += 1
            self.wrong += event.reason is Reason.WRONG_PROOF
        elif event.result in MOVED[:2] and event.latency_ms is not None:
            self.took_ms[(at.date() - self.since).days][event.latency_ms] += 1
        else:
            self.others += 1


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest number that is not exceeded by ``share`` of all."""
    return sorted(counts.elements())[ceil(share * counts.total()) - 1]


def speeds(took_ms: Counter[int]) -> str:
    """``p50 0.412 s, p95 1.2 s, max 40 s``"""
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    times = {name: quantile(took_ms, share) for name, share in shares.items()}
    return ", ".join(f"{name} {ms / 1000:.3g} s" for name, ms in times.items())


def log_chart(
    events: Iterable[Event], name: str, since: datetime, until: datetime
) -> str:
    """An SVG of the taps among ``events``: when they were, and how long they took."""
    last_day = until.astimezone().date()
    chart = Chart(min(since.astimezone().date(), last_day), last_day)
    for event in events:
        chart.add(event)
    name = printable(name, NAME_LENGTH)
    parts = (_chart_text(chart, name), _heat_map(chart), _columns(chart))
    title = f"Taps {name}".strip()
    return svg(1000.0, 754.0, "", title, *chain.from_iterable(parts))


def _chart_text(chart: Chart, name: str) -> Iterator[str]:
    """The head, the titles of the parts, and the foot."""
    room, faint = RIGHT - LEFT, {"fill": FAINT_INK}
    yield caption(LEFT, 35.0, name, 26.0, room, font_weight="bold")
    period = f"{chart.until:%-d %b %Y}"
    if chart.since < chart.until:
        days = counted(len(chart.took_ms), "day")
        period = f"{chart.since:%-d %b %Y} \N{EN DASH} {period} ({days})"
    taps = sum(map(sum, chart.hours))
    period += f"  ·  {counted(taps, 'tap')}"
    yield caption(LEFT, 64.0, period, 15.0, **faint)
    titles = {98.0: "Taps by weekday and hour", 360.0: "From tap to result, each day"}
    for y, title in titles.items():
        yield caption(LEFT, y, title, HEADLINE, font_weight="bold")
    took_ms = sum(chart.took_ms, Counter[int]())
    if took_ms:
        yield caption(LEFT, 383.0, f"all together: {speeds(took_ms)}", BODY, **faint)
    denied = f"{chart.denied:,} denied"
    denied += f" ({chart.wrong:,} of them with a wrong proof)" * bool(chart.wrong)
    foot = FOOT.format(counted(took_ms.total(), "tap"), denied, chart.others)
    for line, text in enumerate(foot.split("\n") if taps else ()):
        yield caption(LEFT, 716 + 17.0 * line, text, SMALL, room, **faint)


def _heat_map(chart: Chart) -> Iterator[str]:
    """A row for each weekday: the more taps in an hour, the darker."""
    width, most = (HEAT_RIGHT - LEFT) / 24, max(map(max, chart.hours))
    for hour in range(0, 25, 3):
        at = LEFT + hour * width, HEAT_TOP - 12
        yield caption(*at, f"{hour}:00", SMALL, **CENTRED)
    for day, counts in enumerate(chart.hours):
        top, name, total = HEAT_TOP + day * HEAT_ROW, DAYS[day].title(), sum(counts)
        middle = top + HEAT_ROW / 2
        yield caption(LEFT - 8, middle, name, BODY, text_anchor="end")
        if total:
            yield caption(RIGHT, middle, f"{total:,}", BODY, text_anchor="end")
        for hour, count in enumerate(counts):
            left = LEFT + hour * width
            edges = left + 0.75, top + 0.75, left + width - 0.75, top + HEAT_ROW - 0.75
            hint = f"{name} {hour}:00 to {hour + 1}:00: {counted(count, 'tap')}"
            cell = [tag("title", hint), box(*edges, rx=2, fill=SHADE)]
            if count:
                share = sqrt(count / most)  # so that a few are seen beside many
                more = CENTRED | {"fill": PAPER if share > 0.5 else INK}
                opacity, at = 0.1 + 0.9 * share, (left + width / 2, middle)
                cell.append(box(*edges, rx=2, fill=DARK, fill_opacity=opacity))
                cell.append(caption(*at, f"{count:,}", SMALL, width - 4, **more))
            yield tag("g", "", *cell, class_="hour")
    if not most:
        at = (LEFT + HEAT_RIGHT) / 2, HEAT_TOP + HEAT_ROW * 3.5
        yield caption(*at, "no taps in this time", HEADLINE, **CENTRED)


def _columns(chart: Chart) -> Iterator[str]:
    """A bar for each day, as high as p95; the dark part of it is p50."""
    top, bottom, width = 402.0, 672.0, (RIGHT - LEFT) / len(chart.took_ms)
    highest = max((quantile(ms, 0.95) for ms in chart.took_ms if ms), default=0)
    scale = (bottom - top) / max(highest, 1)
    yield box(LEFT, top, RIGHT, bottom, fill=SHADE, fill_opacity=0.5)
    for ms in sorted({0, highest // 2, highest}):
        at, label = (LEFT - 8, bottom - scale * ms), f"{ms / 1000:.3g} s"
        yield box(LEFT, at[1], RIGHT, at[1] + 0.7, fill=LINE)
        yield caption(*at, label, SMALL, text_anchor="end", fill=FAINT_INK)
    half = min(0.3 * width, 13.0)
    for place, took_ms in enumerate(chart.took_ms):
        x = LEFT + (place + 0.5) * width
        day = f"{chart.since + timedelta(days=place):%-d %b %Y}"
        if place % ceil(70 / width) == 0:
            yield caption(x, 688.0, day, SMALL, **CENTRED)
        if took_ms:
            p95, p50 = (bottom - scale * quantile(took_ms, p) for p in (0.95, 0.5))
            title = tag("title", f"{day}: {speeds(took_ms)}")
            pale = box(x - half, p95, x + half, bottom, fill=PALE)
            dark = box(x - half, p50, x + half, bottom, fill=DARK)
            yield tag("g", "", title, pale, dark, class_="took")


################################################################################
# 33. Doctor -- tries everything that the settings name
################################################################################


OK, WARN, FAIL = Health


def finding(words: str, do: str = "", health: Health = WARN) -> Finding:
    """``health`` if there is something to do, otherwise ok."""
    return Finding(health if do else OK, words, do)


def first_of(*rows: tuple[bool, Health, str, str]) -> Finding:
    """The first row that applies: (whether it applies, health, words, what to do)."""
    return next(Finding(*row[1:]) for row in rows if row[0])


def has_access(path: Path, mode: int = os.R_OK | os.W_OK) -> bool:
    """Whether our user has access to ``path``; ``mode`` as in os.access.  `doctor` and
    `check` ask as the service's user (become_owner), for root may do everything."""
    return os.access(path, mode, effective_ids=True)


def our_name() -> str:
    """The name of our user, or the number of one without a name."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def in_use(what: str, by: str = "the running door") -> Finding:
    """``what`` is left alone."""
    words = f"{what}: in use by {by}, so not tested"
    do = "to test it, stop the door first: sudo systemctl stop doorpi"
    return Finding(WARN, words, do)


def diagnose_door(folder: Path) -> Iterator[Finding]:
    """Whether the program that opens the door runs, and answers."""
    start = "sudo systemctl {}start doorpi; then journalctl -u doorpi"
    hangs = "doorpi hangs; systemd restarts it within a minute"
    yield first_of(
        (not is_running(folder), WARN, "doorpi is not running: no card opens",
         start.format("")),
        (published_troubles(folder) is None, FAIL, hangs, start.format("re")),
        (True, OK, "doorpi is running", ""),
    )  # fmt: skip


# -- the reader

JOIN = "sudo usermod -aG {} {}; sudo systemctl restart doorpi"
#: nfcpy cannot drive these, though they look as if it could.
OTHER_USB_READERS: Mapping[str, str] = {
    "054c:0dc8": "Sony RC-S300",
    "054c:0dc9": "Sony RC-S300",
    "072f:223b": "ACS ACR1252U",
    "072f:2308": "ACS ACR1552U",
}
DEAF_READER = "072f:2200"
UDEV_RULES = "/etc/udev/rules.d/60-doorpi.rules"
BLACKLIST = "/etc/modprobe.d/doorpi.conf"
RASPI_SERIAL = (
    "sudo raspi-config, Interface Options, Serial Port: answer No to the login shell,"
    " Yes to the serial hardware; then reboot"
)
SLOW_LOOK_S = 0.3


def diagnose_readers(config: Config, runs: bool) -> Iterator[Finding]:
    """About each reader, with its name where there are several: how it is connected,
    and our rights to that; then a test of it, unless the door ``runs``."""
    ways = {"usb": _usb_findings, "tty": _port_findings}
    for reader in config.readers:
        name = f"{reader.name}: " if len(config.readers) > 1 else ""
        way = ways.get(reader.device[:3])
        found = [*way(reader.device)] if way else []
        if FAIL not in map(itemgetter(0), found):
            found += [in_use(reader.device)] if runs else _reader_test(reader)
        yield from (each._replace(words=f"{name}{each.words}") for each in found)


def _port_findings(device: str) -> Iterator[Finding]:
    port, consoles = serial_port(device), ""
    names = ("serial[0-9]", "ttyAMA*", "ttyUSB*", "ttyACM*", "ttyS0")
    others = sorted(str(path) for name in names for path in DEV.glob(name))
    others += [
        f"{USB_READERS[i]} on USB" for i, *_ in usb_devices() if i in USB_READERS
    ]
    ports = f"there are: {', '.join(others) or 'none'}; on the pins: {RASPI_SERIAL}"
    barred = f"{our_name()} has no right to use {port}"
    with contextlib.suppress(OSError):  # Source: proc(5), /proc/consoles
        consoles = (PROC / "consoles").read_text("ascii")
    is_console = port.resolve().name in consoles.split()
    yield first_of(
        (not port.exists(), FAIL, f"{port} does not exist", ports),
        (not has_access(port), FAIL, barred, JOIN.format("dialout", our_name())),
        (is_console, FAIL, f"Linux has its console on {port}", RASPI_SERIAL),
        (True, OK, f"{port} may be used", ""),
    )


def _usb_findings(device: str) -> Iterator[Finding]:
    supported = f"supported: {', '.join(sorted(set(USB_READERS.values())))}"
    for product_id, node, module in usb_devices():
        name = USB_READERS.get(product_id) or OTHER_USB_READERS.get(product_id)
        if name is None or not f"usb:{product_id}:".startswith(f"{device.lower()}:"):
            continue
        what = f"{name} ({product_id})"
        release = (
            f"sudo modprobe -r {module}; and for good: echo blacklist {module}"
            f" | sudo tee -a {BLACKLIST}"
        )
        vendor, product = product_id.split(":")
        admit = (
            f"{JOIN.format('plugdev', our_name())}; then plug it in again, with this in"
            f' {UDEV_RULES}: SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor}",'
            f' ATTRS{{idProduct}}=="{product}", GROUP="plugdev", MODE="0660"'
        )
        barred = f"{what}: {our_name()} has no right to use {node}"
        deaf = f"{what}: known to stop responding until it is unplugged"
        yield first_of(
            (product_id in OTHER_USB_READERS, WARN, f"{what} is not supported",
             supported),
            (module not in ("", "usbfs"), FAIL,
             f"{what} is held by the kernel module {module}", release),
            (not has_access(node), FAIL, barred, admit),
            (product_id == DEAF_READER, WARN, deaf, "use another one where you can"),
            (True, OK, f"{what} at {node}", ""),
        )  # fmt: skip
    if usb_path(device) == device and device.count(":") < 2 and USB_DEVICES.exists():
        yield Finding(FAIL, "no reader is plugged in", supported)


def _reader_test(config: ReaderConfig) -> Iterator[Finding]:
    """The name that the reader gives, and ten looks for a card."""
    reader = NfcReader(config.device, config.reset_gpio, config.types)
    seen: Card | None = None
    took_s: list[float] = []
    tries = NfcReader.reset_after  # the door resets a mute one as well
    with contextlib.closing(reader):
        while len(took_s) <= 10:
            began_at = time.monotonic()
            try:
                seen = reader.sense() or seen
                took_s.append(time.monotonic() - began_at)
            except ReaderLost as error:
                tries -= 1
                if took_s or not tries:
                    yield _lost_finding(config.device, str(error))
                    return
        yield Finding(OK, reader.name)
    median_s, longest_s = sorted(took_s[1:])[5::4]  # the first look opened it
    there = f"and {format_uid(seen.uid)} is there" if seen else "no card is there"
    words = (
        f"read test: 10 attempts, {median_s * 1000:.0f} ms each, the longest"
        f" {longest_s * 1000:.0f} ms, {there}"
    )
    yield finding(words, "reset or unplug it" * (median_s > SLOW_LOOK_S))


def _lost_finding(device: str, why: str) -> Finding:
    wiring = "check the wiring; a PN532: 3.3 V, GND, TXD to GPIO 15, RXD to 14, HSU"
    is_held = why.endswith((IN_USE, os.strerror(errno.EBUSY).lower()))
    return first_of(
        (is_held, *in_use(device, "another program")),
        (bring_libraries() in why, FAIL, why, bring_libraries()),
        ("libusb" in why, FAIL, why, "sudo apt-get install libusb-1.0-0"),
        (True, FAIL, why, wiring),
    )


# -- the other parts at the door

#: Green, red, both: half a second each.
LAMP_TEST = f"1x {'G' * 10}{'R' * 10}{'A' * 10}"


def part_tests(
    config: Config, clock: Clock
) -> Iterator[tuple[str, str, Iterator[Finding]]]:
    """The lights, the contact, the button, the buzzer and the scanners: the subject,
    what a running door holds, and a test of it."""
    for name, leds in lights_of(config).items():
        where = f"{name}: " * bool(name)
        where += f"green on GPIO {leds.green_gpio}, red on GPIO {leds.red_gpio}"
        lights = GpioLights(leds, {Signal.DENIED: parse_pattern(LAMP_TEST)})
        ask = f"{where}: do you see green, red, both?"
        do = "if not: long leg to the pin, 330 ohm to ground; [leds] active_high"
        yield "lights", where, _played(where, lights, ask, do)
    doorway = config.doorway
    contact = "a loose wire, or the magnet is too far away; a contact to ground"
    button = "a stuck button, or a wire that touches ground"
    for subject, gpio, usual, odd, cause in (
        ("contact", doorway.contact_gpio, "the door is closed", "it is open", contact),
        ("button", doorway.exit_button_gpio, "it is released", "it is pressed", button),
    ):
        if gpio >= 0:
            what = f"GPIO {gpio} (sudo doorpi status shows it)"
            yield subject, what, _switched(subject, gpio, usual, odd, cause)
    if doorway.buzzer_gpio >= 0:
        where = f"GPIO {doorway.buzzer_gpio}"
        tones = {Signal.DENIED: parse_pattern("2x RRRR....")}
        loud = config._replace(patterns=tones, doorway=doorway._replace(quiet=()))
        ask = f"{where}: do you hear two tones?"
        do, buzzer = "if not: a passive one needs buzzer_hz", GpioBuzzer(loud, clock)
        yield "buzzer", where, _played(where, buzzer, ask, do)
    for each in config.scanners:
        scanner, where = SCANNERS[each.kind](each), f"{each.name} at {each.device}"
        yield "scanner", where, diagnose_scanner(where, scanner)


def _played(where: str, player: GpioPlayer, ask: str, do: str) -> Iterator[Finding]:
    """Only the owner notices whether the lights or the buzzer play."""
    with contextlib.closing(player):
        player.open()
        if player.trouble:
            do = _pin_advice(player.trouble)
            yield Finding(WARN, f"{where}: {player.trouble}", do)
            return
        yield Finding(OK, ask, do)
        player.show(Signal.DENIED)
        time.sleep(sum(s for _, s in player.frames(Signal.DENIED)) + 0.1)


def _switched(
    subject: str, gpio: int, usual: str, odd: str, cause: str
) -> Iterator[Finding]:
    with contextlib.closing(GpioSwitch(gpio)) as switch:
        is_closed, trouble = switch.is_closed(), switch.trouble
    is_odd = is_closed is (subject == "button")
    yield first_of(
        (bool(trouble), WARN, f"GPIO {gpio}: {trouble}", _pin_advice(trouble)),
        (is_odd, WARN, f"GPIO {gpio}: {odd}", f"if not so: {cause}"),
        (True, OK, f"GPIO {gpio}: {usual}", ""),
    )


def _pin_advice(trouble: str) -> str:
    if "gpiozero" not in sys.modules:
        return bring_libraries()
    if "busy" in trouble.lower():
        return "sudo apt-get install gpiod; gpioinfo shows which program has the pin"
    return "on a Pi: sudo apt-get install python3-lgpio"


#: A scan that was typed with the keys of another layout: "https>--" in place of
#: "https://", say.
WRONG_LAYOUT = r"(?i)https?(?!://)\W|doorpi(?!:)\W"


def diagnose_scanner(
    where: str, scanner: SerialScanner | KeyboardScanner, wait_s: float = 5.0
) -> Iterator[Finding]:
    """Open it, and read what it is shown within ``wait_s``."""
    scans, ends_at = list[str](), time.monotonic() + wait_s
    try:
        scanner.open()
        while not scans and time.monotonic() < ends_at:
            scans = scanner.read(0.2)
    except OSError as error:
        do = "plug it in; ls -l /dev/serial/by-id /dev/input/by-id"
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            do = "stop the other program; a running DoorPi holds it as well"
        yield Finding(FAIL, f"{where}: {cause_of(error, SCANNER_TROUBLES)}", do)
        return
    finally:
        scanner.close()
    scan = "".join(scans[:1])
    layout = f"{where}: it typed {printable(scan, 40)!r}"
    yield first_of(
        (not scans, WARN, f"{where}: opened; no code came in {wait_s:g} s",
         "show it a code while doctor runs; if none comes: kind, baud, its manual"),
        (bool(re.match(WRONG_LAYOUT, scan)), FAIL, layout,
         "set the scanner to the US keyboard layout, with a code from its manual"),
        (True, OK, f"{where}: read a code of {len(scan)} characters", ""),
    )  # fmt: skip


# -- the lock, and everything else at the other end of a connection

DIAL_S = 20.0  # a name may take 5 s, and the dialer ends the rest
SLOW_S = 2.0

NETWORK = "is there a network? ping -c 3 1.1.1.1; if that answers, DNS does not work"
BUNDLE = "sudo apt-get install --reinstall ca-certificates"
OTHER_END = "does something else answer at that address? a WiFi that wants a sign-in"
#: What to do about a certificate that OpenSSL does not trust, by its verify_code.
CERTIFICATE_ADVICE: Mapping[tuple[int, ...], str] = {
    (NOT_YET_VALID, EXPIRED): "is the clock set? else the server's owner must renew it",
    OTHER_NAME: "is the address right? a WiFi that wants a sign-in answers for others",
    UNKNOWN_ISSUER: (
        "a bridge of your own: put its authority's PEM into ca_file; a cloud: a"
        f" firewall, or a WiFi that wants a sign-in, answers in its place; {BUNDLE}"
    ),
    MADE_WRONGLY: "the server's owner must have a new one made, without that",
}


def diagnose_connection(dialer: Dialer, clock: Clock) -> Generator[Finding, None, bool]:
    """Connect to a server as the door does, step by step: name, TCP, TLS; then the
    certificate.  No request is sent.  Returns whether there is a connection."""
    attempt = dialer.dial()
    attempt.done.wait(DIAL_S)
    steps = [*attempt.steps.items()][1:]
    took_s = {step: ended - at for (step, at), (_, ended) in pairwise(steps)}
    parts = [f"{step} {s * 1000:.0f} ms" for step, s in took_s.items()]
    if attempt.socket is None:
        why, do = _why_no_connection(attempt, dialer.trusted)
        yield Finding(FAIL, f"{dialer.host}: {', '.join([*parts, why])}", do)
        return False
    words = f"{dialer.host}: {', '.join(parts)}{', no TLS' * (not dialer.is_tls)}"
    slow = "each tap after a pause takes so long: is the WiFi weak?"
    yield finding(words, slow * (max(took_s.values()) > SLOW_S))
    if certificate := attempt.certificate:
        names = dict(pair for part in certificate["issuer"] for pair in part)
        issuer = names.get("organizationName") or names.get("commonName") or "nobody"
        form = "%b %d %H:%M:%S %Y GMT"
        until = datetime.strptime(certificate["notAfter"], form).replace(tzinfo=UTC)
        words = f"certificate by {printable(issuer, 60)}, valid until {until:%Y-%m-%d}"
        do = "the server's owner must renew it before then; a cloud does so by itself"
        yield finding(words, do * (until - clock.now() < timedelta(days=21)))
    return True


def _why_no_connection(attempt: DialAttempt, trusted: str) -> tuple[str, str]:
    """The step that failed, why, and what to do."""
    if isinstance(attempt.error, ImportError):
        return connection_trouble(attempt.error), bring_libraries()
    step, code = [*attempt.steps][-1], getattr(attempt.error, "verify_code", None)
    why, do = connection_trouble(attempt.error or TimeoutError()), NETWORK
    if step == "trust":
        do = "is ca_file a PEM file?" if trusted else BUNDLE
    elif step == "TLS":
        fit = (do for codes, do in CERTIFICATE_ADVICE.items() if code in codes)
        do = next(fit, OTHER_END)
    elif attempt.unanswered:
        errors = attempt.unanswered.items()
        why = "; ".join(f"{end}: {connection_trouble(error)}" for end, error in errors)
        if "refused" in why:
            do = "is the port in the address right, and is the server or bridge on?"
    return f"{step}: {why.removeprefix('TLS: ')}", do


NEAR_THE_LOCK = "the lock's WiFi module or hub: is it powered, and near the lock?"
LOOK_AT_LOCK = "look at the door, and turn the lock once by hand"
#: What to do about each failure of a lock; the first that fits.
LOCK_ADVICE: tuple[tuple[type[LockError], Health, str], ...] = (
    (AuthError, FAIL, "compare api_key, secret_key and device_id with the app"),
    (QuotaError, FAIL, "wait that long; a larger plan allows more calls"),
    (RemoteBarred, FAIL, "see its app: good batteries, shared, remote access on?"),
    (RequestRefused, FAIL, "are device_id and base_url right?"),
    (Rejected, FAIL, LOOK_AT_LOCK),
    (Offline, FAIL, NEAR_THE_LOCK),
    (Busy, WARN, "ask again in a minute: sudo doorpi status"),
    (Unreadable, FAIL, OTHER_END),
    (LockError, FAIL, "try again: sudo doorpi status; is its cloud down?"),
)


def diagnose_lock(
    access: LockAccess, control: LockControl, clock: Clock
) -> Iterator[Finding]:
    """Connect to the lock and ask for its status: it is never moved."""
    apis = control.lock.apis if isinstance(control.lock, WebLock) else ()
    for api in apis:  # the question uses the connections made here
        if not (yield from diagnose_connection(api.dialer, clock)):
            return
    budget = control.budget
    if budget.allowed and budget.confirmations_left() == 0:
        words = f"status not asked: {calls_in_words(budget.used, budget.allowed)}"
        do = "wait for the next month; a larger plan: calls_per_month"
        yield Finding(WARN, words, do)
    else:
        yield _status_finding(access, control, clock)


def _status_finding(access: LockAccess, control: LockControl, clock: Clock) -> Finding:
    began_at, is_relay = clock.monotonic(), access.kind == "relay"
    try:
        status = drive(control.status(began_at + 10.0), clock)
    except LockError as error:
        health, do = next(row[1:] for row in LOCK_ADVICE if isinstance(error, row[0]))
        if isinstance(error, AuthError) and not clock.is_set():
            do = "set the clock first: some keys only work at the right time"
        return Finding(health, str(error), _pin_advice(str(error)) if is_relay else do)
    if is_relay:
        at_rest = f"relay on GPIO {access.relay_gpio}: at rest, which is locked"
        return Finding(OK, at_rest)
    took_ms = (clock.monotonic() - began_at) * 1000
    words = status_words(status, clock.now().timestamp())
    words += f"; it took {took_ms:.0f} ms"
    battery = 100 if status.battery_percent is None else status.battery_percent
    is_low = bool(status.battery_is_low) or battery < LOW_BATTERY_PERCENT
    return first_of(
        (status.reachable is False, FAIL, words, NEAR_THE_LOCK),
        (status.state is LockState.UNKNOWN, FAIL, words, LOOK_AT_LOCK),
        (is_low, WARN, words, "new batteries"),
        (True, OK, words, ""),
    )


def diagnose_authority(authority: RemoteAuthority, clock: Clock) -> Iterator[Finding]:
    """Connect, and ask about nobody: nothing changes at the server."""
    with contextlib.closing(authority):
        if not (yield from diagnose_connection(authority.api.dialer, clock)):
            return
        try:
            trouble = authority.probe()
        except HttpError as error:
            yield Finding(FAIL, str(error), "look at that server's log")
            return
    do = "correct its base_url, user, password or api_key in the settings"
    words = trouble or "its address and the credentials are right"
    yield finding(words, do * bool(trouble), FAIL)


# -- what takes part beside the door


#: What to do about a service's trouble; the first whose words are in it.
ONLINE_ADVICE: Mapping[str, str] = {
    "telegram.token": "compare it with the token that @BotFather shows",
    "HTTP 401": "is its token right?",
    "HTTP 403": "is its token right, and may it do that?",
    "HTTP 404": "is its address right?",
    "refused the connection": "compare user and password with the broker's",
    "does not speak MQTT": "is mqtt.port right? mostly 8883 with TLS, 1883 without",
    "": "journalctl -u doorpi-online",
}


def _advice(trouble: str) -> str:
    return next(do for part, do in ONLINE_ADVICE.items() if part in trouble)


def diagnose_online(config: Config, folder: Path) -> Iterator[Finding]:
    """Whether `doorpi online` runs, and the state of its services."""
    if not is_running(folder / "online"):
        words = f"it is not running, so these do not work: {', '.join(config.online)}"
        do = "sudo systemctl start doorpi-online; then journalctl -u doorpi-online"
        yield Finding(FAIL, words, do)
        return
    with contextlib.closing(OnlineStore(folder / "online.db")) as own:
        for name, state in own.states().items():
            at = datetime.fromisoformat(state["since"]).astimezone()
            trouble = state["trouble"]
            words = f"{name}: {trouble or 'it works'}, since {at:%Y-%m-%d %H:%M}"
            yield finding(words, trouble and _advice(trouble))


def diagnose_table(
    where: str, table: Table | FileTrouble, folder: Path, clock: Clock
) -> Iterator[Finding]:
    """Whether a service's server can be reached and accepts us, and how old its list
    is.  No notice is sent."""
    if isinstance(table, FileTrouble):
        yield Finding(FAIL, str(table), "correct that file, or the settings")
        return
    keys, trusted = dict(table.items()), ""
    url = keys["url"].text if "url" in keys else keys.get("base_url", "")
    if isinstance(table, MqttConfig):
        url = f"http{'s' * table.tls}://{table.host}:{table.port}"
        trusted = table.trusted
    with contextlib.closing(Dialer(url, trusted, clock)) as dialer:
        is_reached = yield from diagnose_connection(dialer, clock)
    with contextlib.closing(OnlineStore(folder / "online.db")) as own:
        try:
            yield from _greeting(table, own, clock) if is_reached else ()
        except Unavailable as error:
            yield finding(str(error), _advice(str(error)), FAIL)
        yield from _list_findings(where, table, folder, own, clock)


def _greeting(table: Table, own: OnlineStore, clock: Clock) -> Iterator[Finding]:
    """Whether its server accepts us.  Raises: Unavailable."""
    if isinstance(table, MqttConfig):
        link = MqttLink("doctor", table, Context(clock=clock), is_door=False)
        try:
            link.connect()
            kb = link.max_packet / 1000
        finally:
            link.drop()
        yield Finding(OK, f"the broker accepts us, and messages of up to {kb:,.0f} kB")
    elif isinstance(table, TelegramConfig):
        with contextlib.closing(TelegramBot(table, clock)) as bot:
            name = printable(str(bot.call("getMe", dict).get("username")))
        yield Finding(OK, f"the token is that of @{name}")
    elif isinstance(table, CobotConfig):
        yield from _cobot_greeting(table, own, clock)


def _cobot_greeting(
    table: CobotConfig, own: OnlineStore, clock: Clock
) -> Iterator[Finding]:
    """Whether the token has the scopes that the settings need."""
    needed = ["checkin_tokens", "read_memberships", "read_user", "read_spaces"]
    needed += ["read_time_passes"] * table.time_passes
    needed += ["read_bookings"] * bool(table.resource)
    needed += ["read_check_ins", "write_check_ins"] * (table.check_in != "off")
    token, www = table.token.text, table.site_url or "https://www.cobot.me"
    with contextlib.closing(
        CobotApi(table, clock, own if own.exists() else None)
    ) as api:
        api.get("/health", dict, may_lack=True)
        api.identify()
    yield Finding(OK, f"the token is of {table.subdomain}")
    with contextlib.closing(WebClient(www, clock, {}, [token])) as site:
        path = f"/api/access_tokens/{quote(token, safe='')}"
        said = site.json(dict, "GET", path).get("scope", [])
    scopes = said.split() if isinstance(said, str) else said
    missing = ", ".join(sorted({*needed} - {*scopes}))
    words = f"the token {f'lacks {missing}' if missing else 'has its scopes'}"
    do = f"make one at https://{table.subdomain}.cobot.me/oauth2_clients"
    yield finding(words, do * bool(missing), FAIL)


def _list_findings(
    where: str, table: Table, folder: Path, own: OnlineStore, clock: Clock
) -> Iterator[Finding]:
    """If people come with it: the age of the list, doubts about it, and check-ins that
    were not made."""
    keys = dict(table.items())
    if not ("interval_s" in keys or keys.get("list_key")):
        return
    with contextlib.closing(SyncedPeople(folder / "synced.db")) as synced:
        count, read_at = synced.count(where), synced.read_at(where)
    age_s = (clock.now() - read_at).total_seconds() if read_at else inf
    do, oldest_s = "the reason is above", 3 * keys.get("interval_s", inf)
    what = counted(count, "card")
    if isinstance(table, MqttConfig):
        what = f"the published list: {what}"
        do = f"doorpi publish; may {table.user or table.door} read list/+ there?"
    ago = f"confirmed {age_s / 60:.0f} min ago" if read_at else "no list so far"
    yield finding(f"{what}, {ago}", do * (not read_at or age_s > oldest_s))
    if not isinstance(table, CobotConfig):
        return
    for found in json.loads(own.recall(f"findings {where}") or "[]"):
        yield Finding(WARN, found, "correct that in the settings, or at Cobot")
    rows = map(json.loads, own.under("check-in ").values())
    states = Counter(row["state"] for row in rows)
    for state in states.keys() & {"refused", "missed", "gave-up"}:
        words = f"{counted(states[state], 'check-in')} of this week: {state}"
        yield Finding(WARN, words, "check those members in at Cobot")


# -- the clock and the disk


def diagnose_clock(
    clock: Clock, config: Config, store: SqliteStore
) -> Iterator[Finding]:
    """Whether it is set, what does not work if not, and its time zone."""
    at, is_set = clock.now(), clock.is_set()
    has_dates = any(card.needs_clock for card in config.cards.values())
    has_dates |= bool(config.open_hours)
    events = Forgiving(store.events, lambda why, is_write: None)  # has its own line
    trusted = trusts_clock(config, events, clock)
    with contextlib.suppress(StoreError):
        has_dates |= store.people.has_dated_cards()
    shows = f"{at:%Y-%m-%d %H:%M:%S} {at.tzname()} (UTC{at:%z}), "
    shows += "synchronised" if is_set else "not synchronised"
    refused = f"{shows}: cards with dates or hours are refused"
    refused += ", and the door keeps no open hours" * bool(config.open_hours)
    do = (
        "is there a network? timedatectl; systemctl status systemd-timesyncd"
        " doorpi-clock; by hand: sudo timedatectl set-ntp true"
    )
    in_utc = not at.utcoffset() and at.tzname() in ("UTC", "GMT")
    utc = f"{shows}; schedules are in local time, and this Pi is set to UTC"
    elsewhere = "if you are elsewhere: sudo timedatectl set-timezone Asia/Tokyo"
    yield first_of(
        (has_dates and not trusted, FAIL, refused, do),
        (not is_set, WARN, shows, do),
        (in_utc and bool(config.schedules), WARN, utc, elsewhere),
        (True, OK, shows, ""),
    )


MOUNTS = Path("/proc/self/mountinfo")
#: What Docker and Podman put into a container, whose overlay is on a disk.
CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def forgets(folder: Path) -> tuple[str, str] | None:
    """Words and advice if ``folder`` is kept in memory only; else None.

    Source: proc_pid_mountinfo(5).
    """
    kind, above = "", (folder, *folder.absolute().parents)
    with contextlib.suppress(OSError):
        device = next(each for each in above if each.exists()).stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            if line.split(" ")[2] == number:
                kind = line.partition(" - ")[2].split(" ")[0]
    do = f"mount a disk at {folder}, or set door.state_dir to a folder on one"
    if kind == "overlay" and not any(mark.exists() for mark in CONTAINERS):
        do = f"sudo raspi-config, Performance Options, Overlay File System: no; or {do}"
    elif kind not in ("tmpfs", "ramfs"):
        return None
    return f"{folder} is kept in memory only ({kind})", do


MAKE_ROOM = "sudo journalctl --vacuum-size=50M; sudo apt-get clean; df -h"


def diagnose_disk(folder: Path) -> Iterator[Finding]:
    """Room for the log, the right to write it, and a disk that keeps it."""
    if not folder.exists():
        words = f"{folder} does not exist yet: the door creates it when it starts"
        yield Finding(WARN, words, "sudo systemctl start doorpi")
        return
    disk = os.statvfs(folder)
    free, size = (count * disk.f_frsize for count in (disk.f_bavail, disk.f_blocks))
    read_only = f"{folder} is on a disk that is read-only"
    copy = "dmesg says why; a worn-out SD card does this: copy it to a new one"
    barred = f"{our_name()} may not write into {folder}"
    admit = f"sudo chmod u+rwx {folder}; the folders above it: namei -l {folder}"
    words = f"{folder}: {free / 1e6:,.0f} MB free of {size / 1e6:,.0f} MB"
    yield first_of(
        (bool(disk.f_flag & os.ST_RDONLY), FAIL, read_only, copy),
        (not has_access(folder, os.R_OK | os.W_OK | os.X_OK), FAIL, barred, admit),
        (free < 20e6, FAIL, words, MAKE_ROOM),
        (free < 200e6, WARN, words, MAKE_ROOM),
        (True, OK, words, ""),
    )
    if forgetful := forgets(folder):
        words = ": the list, a lockdown and the log are lost at the next reboot"
        yield Finding(FAIL, forgetful[0] + words, forgetful[1])


# -- the databases, the files and the copies


def diagnose_database(path: Path, version: int) -> Iterator[Finding]:
    """Whether SQLite finds it intact; no file is created or changed.  ``version`` is
    that of the schema that this program knows."""
    broken = path.parent.glob(f"{path.name}*.broken-*")
    if dates := sorted({file.name.rpartition(".broken-")[2] for file in broken}):
        words = f"{path} was broken and set aside: {', '.join(dates[-3:])}"
        do = (
            f"is somebody missing in doorpi people? then copy it elsewhere; sudo rm"
            f" {path}*.broken-*; more than once: a new SD card"
        )
        yield Finding(WARN, words, do)
    if not file_at(path) and not _wal(path).exists():
        yield Finding(OK, f"{path}: nothing is stored yet")
        return
    try:
        with _checked(path) as db:
            (found,) = db.execute("PRAGMA user_version").fetchone()
    except TROUBLES as error:
        how = "is broken" if _is_broken(error) else "cannot be read"
        do = f"the disk: dmesg; its owner, and where a link leads: ls -l {path.parent}"
        if _is_broken(error):
            do = (
                f"copy {path.parent} elsewhere; sudo systemctl restart doorpi: the door"
                " sets it aside and makes a new one; a worn SD card does this"
            )
        yield Finding(FAIL, f"{path} {how}: {printable(str(error))}", do)
    else:
        words, is_newer = f"{path}: intact, schema {found}", found > version
        words += ", of a newer version of DoorPi" * is_newer
        yield finding(words, "install that version again" * is_newer)


@contextlib.contextmanager
def _checked(path: Path) -> Iterator[sqlite3.Connection]:
    """The database at ``path``, read-only.  Raises: TROUBLES, also if it is broken."""
    with _read_only(path) as db:
        (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise Spoilt(answer)
        yield db


def unreadable(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Those of the ``files`` that the service cannot read, in words, and the cure; to
    be called as the service's user, like `unwritable`."""
    name = our_name()
    for path in dict.fromkeys(files):
        is_shut = not has_access(path.absolute().parent, os.X_OK)
        if has_access(path, os.R_OK) or not (is_shut or os.path.lexists(path)):
            continue
        quoted = shell_word(str(path))
        do = f"sudo chgrp {name} {quoted}; sudo chmod g+r {quoted}"
        if is_shut:
            do = f"put it into a folder that {name} may enter: namei -l {quoted}"
        yield f"the service (user {name}) cannot read {path}", do


def unwritable(folder: Path) -> Iterator[tuple[str, str]]:
    """The databases that the service cannot write, in words, and the cure."""
    name = our_name()
    do = f"sudo chown -hR {name}: {folder}; sudo -u {name} chmod -R u+rwX {folder}"
    for path in (folder, *sorted(folder.glob("*"))):
        # Not copies, nor what was set aside.
        is_used = path == folder or path.name.endswith((".db", "-wal", "-shm"))
        if is_used and file_at(path) and not has_access(path):
            yield f"the service (user {name}) cannot write {path}", do


def diagnose_files(
    secret: Sequence[Path], needed: Sequence[Path], folder: Path
) -> Iterator[Finding]:
    """Whether the service has its files, and others cannot read secrets and names."""
    name, shut = our_name(), [*unreadable(needed), *unwritable(folder)]
    found = [Finding(FAIL, *each) for each in shut]
    # A link may lead to a file that everybody may read, and root would close that.
    stored = [path for path in sorted(folder.glob("*")) if not path.is_symlink()]
    for path in (*secret, folder, *stored):
        try:
            mode = path.stat().st_mode
            is_shut = any(not f.stat().st_mode & 0o001 for f in path.resolve().parents)
        except OSError:  # -wal and -shm come and go
            continue
        if mode & 0o006 and not is_shut:
            health, can = (FAIL, "changed") if mode & 0o002 else (WARN, "read")
            chmod = f"sudo -u {name} chmod" if path in stored else "sudo chmod"
            do = f"{chmod} o-rwx {shell_word(str(path))}"
            found.append(Finding(health, f"{path} can be {can} by everybody", do))
    paths = f"{', '.join(map(str, secret))} and {folder}"
    words = f"{paths}: not readable by other users; {name} has access"
    yield from found or [Finding(OK, words)]


def diagnose_passes(store: SqliteStore, path: Path, at: datetime) -> Iterator[Finding]:
    """Whether the guest passes that have not ended can be verified."""
    if not any(each.code.ends > at for each in store.people.passes()):
        return
    words, do = f"{path}: guest passes can be verified", ""
    try:
        path.stat()  # a missing one would be made
        signing_key(path)
    except (OSError, ValueError) as error:
        words = f"{path} is {'damaged' if path.exists() else 'missing'}"
        words += f", so no guest pass made before now opens the door: {error}"
        do = "copy the file back; or delete it and make the passes again"
    yield finding(words, do, FAIL)


BACK_UP = "sudo doorpi backup door.json, and keep that file off this Pi"


def diagnose_copy(cards: SqlitePeople) -> Iterator[Finding]:
    """Whether the copy beside the list could take its place."""
    make = f"sudo rm -f {cards.copy}; sudo systemctl restart doorpi: it makes a new one"
    words, do, changes = f"{cards.copy} matches the list", "", list[int]()
    try:
        for path in (cards.path, cards.copy):
            with _checked(path) as db:
                changes.append(_changes(db))
        if len(set(changes)) > 1:
            words, do = f"{cards.copy} is not a copy of this list", make
    except TROUBLES as error:
        if not changes:
            return  # there is no list, or its own line says why
        why = printable(str(error)) if file_at(cards.copy) else "there is none"
        words, do = f"no copy could replace a lost list: {why}", make
    if cards.path.stat().st_size > cards.copied_up_to:
        words, do = f"{cards.path} is too large for a copy beside it", BACK_UP
    yield finding(words, do)


def diagnose_list(store: SqliteStore, backup_days: int = 0) -> Iterator[Finding]:
    """When the list in the database was last exported."""
    changed_at, kept = store.people.changed_at(), store.events.recall(NoteKey.BACKUP)
    if changed_at and not kept:
        words = f"the list was changed on {changed_at.astimezone():%Y-%m-%d}"
        yield Finding(WARN, f"{words}, and was never backed up", BACK_UP)
    elif changed_at and kept:
        backup_at = datetime.fromisoformat(kept)
        is_newer = backup_at < changed_at
        is_old = 0 < backup_days <= (datetime.now(UTC) - backup_at).days
        words = f"the list was changed on {changed_at.astimezone():%Y-%m-%d}"
        words += ", after its last backup" if is_newer else ", and backed up"
        words += f" on {backup_at.astimezone():%Y-%m-%d}"
        yield finding(words, BACK_UP * (is_newer or is_old))
    elif broken := sorted(store.people.path.parent.glob("cards.db.broken-*")):
        words = f"the database's list was lost; what was left of it: {broken[-1]}"
        yield Finding(FAIL, words, "import your own copy: sudo doorpi import list.toml")
    else:
        words = "everybody is in doorpi.toml: keep a copy of it elsewhere"
        yield Finding(OK, words)


def diagnose_lockdown(people: SqlitePeople) -> Iterator[Finding]:
    """Once it is forgotten, it looks like a broken door."""
    if people.locked_down():
        yield Finding(WARN, LOCKED_DOWN_WORDS, "sudo doorpi lockdown off")


def diagnose_keys(proof: ProofConfig, store: SqliteStore) -> Iterator[Finding]:
    """Whether the keys of secure cards are those of this list and are on paper, and
    which cards are not finished."""
    for name in KEY_FILES:
        key, known = getattr(proof, name), store.people.fingerprint_of(name)
        mine = fingerprint(key) if key.text else ""
        paper = store.people.fingerprint_of(ON_PAPER.format(name))
        none = f"{name}: not here; it is needed only to issue and wipe cards"
        other = f"{name}: not the key of this list: it is {mine}, not {known}"
        words = f"{name}: the key of this list ({mine})"
        yield first_of(
            (not mine, OK, none, ""),
            (known not in ("", mine), FAIL, other,
             "put the right file back, or sudo doorpi keys restore"),
            (paper == mine, OK, f"{words}, and is on paper", ""),
            (True, WARN, f"{words}, not written down yet", "sudo doorpi keys backup"),
        )  # fmt: skip
    for uid, since in store.events.noted(NoteKey.ISSUING).items():
        words = f"{format_uid(Uid(uid))} was taken away, half written, on {since[:10]}"
        yield Finding(WARN, words, "issue or wipe it again")


def checked_keys(
    config: Config, store: SqliteStore, *, are_new: bool = False
) -> list[Finding]:
    """Compare the keys with the fingerprints in the list, and store missing ones.  With
    ``are_new`` all are replaced, unless a secure card is listed."""
    listed = any(card.proof for card in config.cards.values())
    is_free = are_new and not (listed or store.people.has_secure_cards())
    for name in KEY_FILES:
        key = getattr(config.proof, name)
        if is_free or (key.text and not store.people.fingerprint_of(name)):
            mine = fingerprint(key) if key.text else ""
            store.people.keep_fingerprint(name, mine)
    return [*diagnose_keys(config.proof, store)]


PROVEN = r"proven in (\d+) ms"  # as Passage notes it


def diagnose_proofs(config: Config, store: SqliteStore) -> Iterator[Finding]:
    """If there are secure cards: whether they can be asked for proofs, the times of the
    last proofs, wrong ones, and the cards that can still be copied."""
    secure, plain = _secure_and_plain(config, store.people)
    if not secure:
        return
    number, lacks = counted(secure, "secure card"), ""
    try:
        importlib.import_module("cryptography.hazmat.primitives.cmac")
    except ImportError as error:
        lacks = library_trouble(error)
    if not config.proof.door_key:
        lacks = "there is no [proof] door_key"
    words = f"cannot be asked: {lacks}" if lacks else "can be asked for proofs"
    do = "sudo doorpi keys restore, or keys new, and [proof] door_key" * bool(lacks)
    yield finding(f"{number} {words}", do, FAIL)
    events = store.events.latest(2000)
    took = [int(m[1]) for e in events if (m := re.search(PROVEN, e.note))][-20:]
    if took:
        words = f"the last {counted(len(took), 'proof')}: {min(took)} to {max(took)} ms"
        yield Finding(OK, words)
    if wrong := [each for each in events if each.reason is Reason.WRONG_PROOF]:
        last = f"{holder_words(wrong[-1])}, {wrong[-1].at.astimezone():%Y-%m-%d %H:%M}"
        words = f"{counted(len(wrong), 'wrong proof')} in the log, the last one: {last}"
        do = "a copy of the card, or a card with other keys: ask its holder"
        yield Finding(WARN, words, do)
    if plain:
        words = f"{counted(len(plain), 'card')} can be copied: {_names(plain)}"
        is_open = config.proof.uid_only == "accept"
        yield finding(words, "sudo doorpi issue NAME --replace UID" * is_open)


def _secure_and_plain(config: Config, people: SqlitePeople) -> tuple[int, list[str]]:
    """The number of secure cards, and the holders of those with a UID only."""
    file, secure, plain = config.cards, 0, list[str]()
    listed = (stricter(card, people.find(uid)) or card for uid, card in file.items())
    others = (card for card in people.cards() if card.uid not in file)
    cards = chain(listed, others)
    for card in (each for each in cards if each.is_card and each.enabled):
        secure += bool(card.proof)
        plain += [card.holder] * (not card.proof)
    return secure, plain


def survived(findings: Iterator[Finding]) -> Iterator[Finding]:
    """The ``findings``, and one more if an error ends them: others are to follow."""
    try:
        yield from findings
    except StoreError as error:
        yield Finding(WARN, f"not known: {error}", "see database")
    except Exception as error:
        words = f"doctor itself failed: {type(error).__name__}: {printable(str(error))}"
        yield Finding(FAIL, words, "please report this line")


################################################################################
# 34. Wiring -- the door and its parts, made as the settings say
################################################################################


def build(
    config: Config, settings: FileSettings, environ: Mapping[str, str], clock: Clock
) -> Door:
    """The door that `run` runs, and everything that it works with."""
    store, folder = make_store(config, repair=True), Path(config.door.state_dir)
    equipment = Equipment(
        **make_parts(config, clock),
        people=store.people,
        events=store.events,
        read_pass=functools.partial(pass_in, folder / PASS_KEY),
        load_library=functools.partial(start_thread, load_aes, "aes"),
        publish=functools.partial(publish_troubles, folder, clock.monotonic()),
        new_order=Order,
    )
    keeper = Doorkeeper(
        config,
        equipment,
        Systemd(environ, clock),
        clock,
        worker=lambda name: ThreadWorker(name, clock.wake),
    )
    return Door(keeper, settings)


def make_parts(
    config: Config, clock: Clock, before: Sequence[Source] = ()
) -> dict[str, Any]:
    """The Equipment that the settings ask for, but for the databases."""
    return {
        "sources": make_sources(config, clock, before),
        "locks": make_locks(config, clock),
        "lights": {
            name: GpioLights(leds, config.patterns)
            for name, leds in lights_of(config).items()
        },
        "contact": make_switch(config.doorway.contact_gpio),
        "buzzer": make_buzzer(config, clock),
        "authorities": all_authorities(config, clock),
    }


def make_sources(
    config: Config, clock: Clock, before: Sequence[Source] = ()
) -> list[Source]:
    """The sources of requests.  The inbox is the same as ``before`` an edit, and a card
    that lies on a reader is no new one."""
    made = [make_input(*row, config, clock, before) for row in inputs_of(config)]
    inbox = next((each for each in before if isinstance(each, InboxSource)), None)
    path = inbox_to_make(Path(config.door.state_dir))
    return [*made, inbox or InboxSource(Inbox(path, clock, busy_s=0.05))]


def make_input(
    name: str, each: Table, config: Config, clock: Clock, before: Sequence[Source]
) -> Source:
    """A reader, a scanner or the exit button.  What a reader ``before`` has seen, the
    one that has its device or its place now knows."""
    if isinstance(each, ScannerConfig):
        return ScannerSource(SCANNERS[each.kind](each), name, clock)
    if isinstance(each, DoorwayConfig):
        return ExitButton(GpioSwitch(each.exit_button_gpio), clock)
    assert isinstance(each, ReaderConfig)
    used = {reader.device for reader in config.readers}
    olds = [old for old in before if isinstance(old, CardSource)]
    same = [old for old in olds if old.settings.device == each.device]
    same += [o for o in olds if o.point == name and o.settings.device not in used]
    debounce = same[0].debounce if same else Debounce(each.rearm_s)
    if not same:
        debounce.restart()
    return CardSource(
        NfcReader(each.device, each.reset_gpio, each.types), each, clock,
        ThreadWorker(f"reader {name}".strip(), clock.wake),
        debounce=debounce, point=name,
        prove=Prover(config.proof.door_key, clock.monotonic).prove,
    )  # fmt: skip


def make_authorities(config: Config, clock: Clock) -> list[RemoteAuthority]:
    """The remote systems that are asked, in this order."""
    made, folder = [], Path(config.door.state_dir)
    for each in config.authorities:
        state = DriverStateFile(folder / f"authority {each.name}.words", each)
        worker = ThreadWorker(f"authority {each.name}", clock.wake)
        points = [s.name for s in config.scanners if s.authority == each.name]
        made.append(AUTHORITIES[each.kind](each, clock, worker, state, points))
    return made


def all_authorities(config: Config, clock: Clock) -> list[Authority]:
    """Those, and `doorpi online`, where it has a list of members."""
    made: list[Authority] = [*make_authorities(config, clock)]
    for table in config.online.values():
        if isinstance(table, CobotConfig):
            folder = look_up_folder(Path(config.door.state_dir))
            worker = ThreadWorker("cobot", clock.wake)
            made.append(MemberLookUp(table, folder, clock, worker))
    return made


def make_locks(config: Config, clock: Clock) -> dict[str, Lock]:
    """The drivers of [lock] and, where there is one, [fallback]."""
    return {
        where: make_lock(where, access, config, clock)
        for where, access in locks_of(config).items()
    }


def make_lock(where: str, access: LockAccess, config: Config, clock: Clock) -> Lock:
    """The driver of [lock] or [fallback], with a file for what it must not forget."""
    path = Path(config.door.state_dir) / f"{where}.words"
    return LOCKS[access.kind](access, clock, DriverStateFile(path, access))


def make_store(config: Config, *, repair: bool = False) -> SqliteStore:
    """The database in ``state_dir``; the door's own (``repair``) hardly waits for
    another process."""
    path, busy_s = Path(config.door.state_dir) / "doorpi.db", 0.25 if repair else 5.0
    return SqliteStore(path, repair=repair, busy_s=busy_s)


#: The owner's file, with the maker of what is replaced when it changes.
make_settings = functools.partial(FileSettings, new_parts=make_parts)


#: What uses the link to a broker.
MQTT_PARTS: Sequence[Callable[[MqttLink], MqttPart]] = (
    DoorState, Orders, PublishedList, Announcement, EventFeed,
)  # fmt: skip

#: What makes the services of a table of `doorpi online`, by the table's type.
SERVICES: Makers = {
    TelegramConfig: telegram_services,
    NotifyConfig: notify_service,
    ListConfig: ListReader,
    CobotConfig: cobot_services,
    FileTrouble: Unusable,
    MqttConfig: functools.partial(MqttLink, parts=MQTT_PARTS),
}


################################################################################
# 35. Verbs -- one cmd_* each
################################################################################


EX_OK, EX_FAILED, EX_USAGE, EX_CONFIG = 0, 1, 2, 78


def find_config(given: str | None, environ: Mapping[str, str]) -> Path:
    """The settings' file: ``--config``, $DOORPI_CONFIG, in /etc, or beside the
    program."""
    chosen = given or environ.get("DOORPI_CONFIG")
    if chosen:
        return Path(chosen)
    try:
        IN_ETC.stat()  # `exists` of Python 3.14 says no where it may not look
    except PermissionError:  # it may be there: reading it says who may not
        return IN_ETC
    except OSError:
        return Path(__file__).resolve().with_name("doorpi.toml")
    return IN_ETC


def load(args: argparse.Namespace, tables: Collection[str] = ()) -> Config:
    """The settings, with the keys of ``tables``: perhaps root alone can read those.
    From here on a verb that root runs acts as the service's user.

    With a file that cannot be used the last good settings are in force, for verbs as
    for the door.  Raises: ConfigError if there are none.
    """
    path = find_config(args.config, os.environ)
    try:
        config = read_config(path, os.environ, tables)
        become_owner(Path(config.door.state_dir))
        return config
    except ConfigError as error:
        good = last_good(path, os.environ)
        if good is None:
            raise
        complain(
            f"{path}: {counted(len(error.problems), 'problem')}; using the last good"
            f" settings, of {good.date}; see: doorpi check"
        )
        return good.config(path, os.environ, tables)


@contextlib.contextmanager
def load_with_store(
    args: argparse.Namespace, tables: Collection[str] = ()
) -> Iterator[tuple[Config, SqliteStore, SystemClock]]:
    """What ``load`` returns, with the databases and the clock."""
    config = load(args, tables)
    with contextlib.closing(make_store(config)) as store:
        yield config, store, SystemClock()


def say(lines: str | Iterable[str]) -> bool:
    """Print the answer of a verb (the door itself logs); False if there is none."""
    line = None
    for line in [lines] if isinstance(lines, str) else lines:
        print(for_this_door(line))  # noqa: T201
    return line is not None


def complain(*lines: str) -> None:
    for line in lines:
        print(for_this_door(printable(line, 4000)), file=sys.stderr)  # noqa: T201


def set_up_logging(handler: logging.Handler, level: int = logging.INFO) -> None:
    with_time = None if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(message)s"
    handler.setFormatter(JournalFormatter(with_time, "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(level)


def cmd_run(args: argparse.Namespace) -> None:
    set_up_logging(logging.StreamHandler())
    signals, clock = ProcessSignals(), SystemClock()
    signals.install()
    path = find_config(args.config, os.environ)
    settings = make_settings(path, os.environ, signals, clock)
    config = settings.load()
    become_owner(Path(config.door.state_dir))
    with only_door(Path(config.door.state_dir), service_of(path, "doorpi")):
        build(config, settings, os.environ, clock).run()  # until it is stopped


def _accept_lists(config: Config) -> int:
    """Accept the lists that `doorpi online` has refused."""
    path, count = Path(config.door.state_dir) / "online.db", 0
    with contextlib.closing(OnlineStore(path)) as store:
        for place in config.online:
            if refused := store.recall(f"refused {place}"):
                store.keep(f"accepted {place}", refused)
                cards = counted(int(refused.split()[0]), "card")
                say(f"{place}: accepted, {cards}; in force within a minute")
                count += 1
    if not count:
        raise Refused("no list is refused now")
    return EX_OK


NOTHING_ONLINE = (
    "nothing to do: the settings have none of [telegram], [[notify]], [cobot], [[list]]"
)


def cmd_online(args: argparse.Namespace) -> int:
    if args.accept:
        return _accept_lists(load(args))
    set_up_logging(logging.StreamHandler())
    signals, clock = ProcessSignals(), SystemClock()
    signals.install()
    path, config = find_config(args.config, os.environ), load(args)
    if not config.online:
        say(NOTHING_ONLINE)
        return EX_OK
    folder = Path(config.door.state_dir)
    unit = service_of(path, "doorpi-online")
    with only_door(folder / "online", unit), contextlib.ExitStack() as stack:
        store, own = make_store(config), OnlineStore(folder / "online.db", repair=True)
        synced = SyncedPeople(folder / "synced.db", repair=True)
        for each in (store, own, synced):
            stack.enter_context(contextlib.closing(each))
        context = Context(
            config=config, clock=clock, store=own, people=store.people, synced=synced,
            events=store.events, ask=functools.partial(ask_door, folder, clock),
            troubles=functools.partial(published_troubles, folder),
            started=functools.partial(door_started, folder),
        )  # fmt: skip
        online = Online(context, Systemd(os.environ, clock), SERVICES)
        watch = FileWatch(clock, [path])
        files = NamedFiles(path, os.environ, ONLINE, seen=watch.follow)
        online.use(online_tables(config, files))
        follow = functools.partial(_follow_edits, online, context, watch, path, files)
        online.run(follow)
    say(NOTHING_ONLINE)
    return EX_OK


def _follow_edits(
    online: Online, context: Context, watch: FileWatch, path: Path, files: NamedFiles
) -> None:
    """After an edit, go by the new settings if they are valid."""
    if not watch.is_due():
        return
    found: Config | int
    try:
        found = read_config(path, os.environ, ())
    except ConfigError as error:
        found = len(error.problems)
    if not watch.mark_read():  # it may be half of it
        return
    if isinstance(found, int):
        words = "%s has %s (sudo doorpi check); the settings before stay in force"
        log.error(words, path, counted(found, "problem"))
    else:
        context.config = found
        online.use(online_tables(found, files))
        log.info("settings reloaded")


# -- the settings


NOT_CONSIDERED = "its contents are not considered here"


def cmd_check(args: argparse.Namespace) -> int:
    path = find_config(args.config, os.environ)
    config = _as_the_service(path)
    folder = Path(config.door.state_dir)
    say([f"{path}: no problems", *_what_opens(config)])
    with contextlib.closing(make_store(config)) as store:
        enquiry = Enquiry(config, store)
        say(["", *_who_may(config, enquiry), *_what_changes(path, config, enquiry)])
        notes = [f"{each}; {NOT_CONSIDERED}" for each in enquiry.troubles]
    if notes := [*_notes(path, config), *notes]:
        say(["", "Please note:", *(f"  {note}" for note in notes)])
    shut = [f"{words}; {do}" for words, do in unwritable(folder)]
    complain(*shut)
    return EX_FAILED if shut else EX_OK


def _what_opens(config: Config) -> Iterator[str]:
    """What a card does, and which other systems take part, a sentence each."""
    taps = "toggles the lock" if config.door.on_tap == "toggle" else "unlocks"
    if config.lock.kind == "relay":
        taps = f"opens for {config.lock.hold_s:g} s"
    door, kind = printable(config.door.name), config.lock.kind
    yield f'Door "{door}": a card on the list {taps} ({kind}).'
    if config.fallback:
        kind = config.fallback.kind
        yield f"If that lock cannot be reached, the fallback opens the door ({kind})."
    for each in config.authorities:
        what = "card" if each.kind == "carontepass" else "QR code"
        yield f"About a {what} that is not on the list, {each.name} is asked."
    if config.open_hours:
        yield f"The door stays unlocked {open_words(config.open_hours)}."
    if config.online:
        yield f"`doorpi online` handles {', '.join(config.online)}."


def _as_the_service(path: Path) -> Config:
    """The settings as the service sees them: root is its user from here on.

    Raises: ConfigError with everything that would keep it from starting.
    """
    written = read_config(path, os.environ, ())
    config, problems = written, list[str]()
    try:
        config = read_config(path, os.environ)
    except ConfigError as error:
        problems += error.problems
    is_root = os.geteuid() == 0  # else it was just read
    named = named_files(written, path, os.environ) if is_root else ()
    needed = [file for key, file in named if key != ISSUER_KEY]
    needed += [path] * is_root
    become_owner(Path(written.door.state_dir))
    problems += [f"{words}; {do}" for words, do in unreadable(needed)]
    if problems:
        raise ConfigError(problems)
    return config


def _who_may(config: Config, enquiry: Enquiry) -> Iterator[str]:
    """The people in the file, those who may enter first."""
    cards = with_blocks(config.cards.values(), enquiry.people.blocks())
    people = list(people_of(cards, "enabled", "refusal", "proof"))
    now, may, may_not = SystemClock().now(), list[str](), list[str]()
    rows = [
        (
            printable(cards[0].holder),
            ", ".join(format_uid(card.uid) for card in cards),
            validity(cards[0], config.schedules, now),
        )
        for cards in people
    ]
    for (card, *_), line in zip(people, in_columns(rows), strict=True):
        until = card.valid_until and ends_at(card.valid_until)
        is_over = until is not None and until <= now.replace(tzinfo=None)
        is_good = card.enabled and not card.block and not is_over  # at some hour
        (may if is_good else may_not).append(f"  {line}")
    yield "This file lets in:" if may else "This file lets nobody in."
    yield from may
    yield from ["Who may not:"] * bool(may_not) + may_not


def _what_changes(path: Path, config: Config, enquiry: Enquiry) -> Iterator[str]:
    """What the file changes, compared with the door that runs, or that ran last."""
    good = last_good(path, os.environ)
    if good is None:
        return
    try:
        before = good.config(path, os.environ, DOOR_TABLES)
    except ConfigError:  # a key that only the service may read
        before = good.config()
        config = read_config(path, os.environ, ())
    known = enquiry.people.find, enquiry.people.block_on
    changes = access_changes(before, config, *known)
    changes += setting_changes(before, config)
    door = "the running door"
    if not is_running(good.folder):
        door = "the last run of the door (it does not run now)"
    yield ""
    what = "What changes" if changes else "Nothing changes"
    yield f"{what}, compared with {door}{':' if changes else '.'}"
    yield from (f"  {change}" for change in changes)


def _notes(path: Path, config: Config) -> Iterator[str]:
    """What the owner should know about settings without a problem."""
    yield from doubtful_settings(config)
    online = [*named_files(config, path, os.environ, online=True)]
    yield from (f"{words}; {do}" for words, do in unreadable(f for _, f in online))
    for place, file in online:
        if has_access(file.parent, os.X_OK) and not os.path.lexists(file):
            yield f"{place}: there is no file {file}"
    for place, file in (*named_files(config, path, os.environ), *online):
        is_secret = not place.endswith(PUBLIC_FILES) and os.path.lexists(file)
        if is_secret and file.stat().st_mode & 0o004:
            yield f"{place}: {file} can be read by everybody; chmod o-r {file}"
    for key in (*(f"{card}.uid" for card in config.examples), *_examples(config)):
        yield f"{key}: still the example value; put in your own"
    yield from _not_kept(Path(config.door.state_dir))


def _examples(config: Config) -> Iterator[str]:
    """The keys of the locks that still have the example's value."""
    for where, lock in locks_of(config).items():
        values = dict(lock.items())
        for key in LOCK_KINDS[lock.kind].needs:
            value = values[key]
            text = value.text if isinstance(value, Secret) else value
            if (text and not text.strip("0-")) or text.startswith(PLACEHOLDER):
                yield f"{where}.{key}"


def _not_kept(folder: Path) -> Iterator[str]:
    """A warning where a change of the list does not last."""
    if forgetful := forgets(folder):
        words, do = forgetful
        yield f"what is stored is lost at the next reboot: {words}; {do}"


# -- people


def _warn_of_store(why: str, is_write: bool) -> None:
    if why:
        log.warning("not logged: %s" if is_write else "%s", why)


def cmd_log(args: argparse.Namespace) -> int:
    ways = [way for way in ("json", "csv", "chart", "verify") if getattr(args, way)]
    ways += ["follow"] * bool(args.follow and (args.chart or args.verify))
    if len(ways) > 1:
        complain(f"--{' and --'.join(ways)} do not go together")
        return EX_USAGE
    with load_with_store(args) as (config, store, clock):
        if args.verify and (store.events.exists() or store.people.lost()):
            return _verify(store)
        lines = functools.partial(
            log_lines,
            as_json=args.json,
            as_csv=args.csv,
            colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        )
        sought = Sought(args.uid, args.holder, args.denied, args.location, args.device)
        if args.csv:
            say(f"\ufeff{csv_line(LOG_FIELDS)}")
        if args.follow:
            tail = LogTail(store.events, sought, clock, config.lock.confirm_s)
            _follow(tail, lines, args.since)
            return EX_OK
        until, since = datetime.now().astimezone(), args.since
        if args.chart and not since:  # from a midnight on
            since = time_since(f"{until - timedelta(days=CHART_DAYS - 1):%Y-%m-%d}")
        found = store.events.read(since, sought)
        if args.chart:
            say(log_chart(found, config.door.name, since, until))
        elif not say(lines(found)) and not (args.json or args.csv):
            say("no events found")
    return EX_OK


def cmd_present(args: argparse.Namespace) -> int:
    with load_with_store(args) as (config, store, clock):
        if not tells_ways(config):
            raise Refused(
                "this door does not know who is in: that takes a [[reader]] with"
                ' direction = "in" and one with direction = "out"'
            )
        people = people_inside(store.events) if store.events.exists() else []
    if args.json:
        say(map(json.dumps, people))
    else:
        say(present_lines(people, clock))
    return EX_OK


def _verify(store: SqliteStore) -> int:
    events, lost = store.events, store.people.lost()
    problem = events.verify()
    count, at = events.last_id("events-start"), events.oldest_at()
    when = f"{at.astimezone():%Y-%m-%d %H:%M:%S}" if at else ""
    how_far = f"; the first is of {when}" if when else "; there is none yet"
    if count:
        till = f", from before {when}," if when else ""
        how_far = f"\nrows 1 to {count}{till} were removed by log.keep_days"
    for event, rows in events.forgotten().items():
        how_far += (
            f"\na name was removed from {counted(rows, 'row')}, as row {event} says"
        )
    say(problem or f"every row is as it was written{how_far}")
    if lost:
        say(f"rows 1 to {lost} of an earlier log are missing: a new one was begun")
    for file in sorted(events.path.parent.glob(f"{events.path.name}.broken-*")):
        say(f"not verified, as it was broken and set aside: {file}")
    return EX_FAILED if problem or lost else EX_OK


def _follow(
    tail: LogTail,
    lines: Callable[[Iterable[Event]], Iterator[str]],
    since: datetime | None,
) -> None:
    """Print events until Ctrl-C, or until nobody reads our output."""
    clock, output = SystemClock(), select.poll()
    with contextlib.suppress(OSError, ValueError):  # it is no file
        output.register(sys.stdout.fileno(), 0)
    look: Callable[[], Iterable[Event]] = functools.partial(tail.begin, since, 10)
    with contextlib.suppress(KeyboardInterrupt):
        while not output.poll(150):  # `log --follow | head` ends before the next event
            clock.follow_zone()
            say(lines(look()))
            sys.stdout.flush()
            look = tail.news


def cmd_why(args: argparse.Namespace) -> int:
    text, code, asked = " ".join(args.who), EX_OK, list[str]()
    with load_with_store(args) as (config, store, clock):
        enquiry = Enquiry(config, store)
        at = instant_meant(args.at, clock) if args.at else clock.now()
        subjects = [(uid, enquiry.who(uid)) for uid in enquiry.meant(text)]
        guests = [] if subjects else [enquiry.who(text, Medium.QR)]
        guests += enquiry.passes(text)
        subjects += [(Uid(""), guest) for guest in guests if guest]
        say(_answers(subjects, config, enquiry, clock, at, args))
        if not any(who for _, who in subjects):
            medium = Medium.CARD if subjects else Medium.QR
            asked = _would_be_asked(config, clock, medium, text, args.ask)
        complain(*asked) if args.json else say(asked)
        if not subjects and not asked:
            words, is_uid = enquiry.nobody(text)
            complain(words)
            code = EX_USAGE if is_uid else EX_FAILED
    for trouble in enquiry.troubles:
        complain(f"database: {trouble}; {NOT_CONSIDERED}")
    return code


def _answers(
    subjects: Iterable[tuple[Uid, Credential | None]],
    config: Config,
    enquiry: Enquiry,
    clock: Clock,
    at: datetime,
    args: argparse.Namespace,
) -> Iterator[str]:
    """JSON for each card; or sentences, one for all cards of a holder that agree."""
    agreed, is_now = defaultdict[Any, list[Credential]](list), args.at is None
    for uid, card in subjects:
        when = enquiry.when(uid, at, clock, card, args.reader)
        then = when._replace(clock_set=when.clock_set or not is_now)
        if args.json:
            yield json.dumps(why_json(uid, card, then))
            continue
        hours = open_sentence(config.open_hours, enquiry.events, then, is_now=is_now)
        words = f"{answer_in_words(uid, card, then, is_now=is_now)} {hours}".rstrip()
        if card and card.needs_clock and then != when:
            words += " This assumes that the clock is set by then; it is not now."
        card = card or Credential(uid, "")
        agreed[card.holder, words].append(card)
    for (holder, words), cards in agreed.items():
        name = card_name(*cards) if holder else format_uid(cards[0].uid)
        yield f"{name} {words}"


def _would_be_asked(
    config: Config, clock: Clock, medium: Medium, text: str, is_asked: bool
) -> list[str]:
    """Which authorities the door would ask about an unknown card or code, and with
    ``is_asked`` their answers, where asking changes nothing."""
    lines, now = [], clock.monotonic()
    scanners = config.scanners if medium is Medium.QR else ()
    points = [scanner.name for scanner in scanners] or [""]
    for authority, point in product(make_authorities(config, clock), points):
        uid = as_uid(text) if medium is Medium.CARD else None
        request = AccessRequest(medium, uid or text, clock.now(), now, inf, point=point)
        with contextlib.closing(authority):
            if not authority.takes(request) or (uid and is_random(uid)):
                continue
            words = f"{authority.name} would be asked"
            if is_asked and authority.may_ask_twice:
                found = authority.ask(request)
                name = found.who and printable(found.who.holder)
                words = f"{authority.name} answers: {name or found.reason}"
                words += f" ({found.detail})" * bool(found.detail)
            elif is_asked:
                words += "; not now: it would count as coming or going there"
            lines.append(words)
    return lines


# -- the lock


def _asking_user() -> str:
    """The user who runs the verb, as sudo names them."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "somebody"
    return printable(user)


def cmd_ask(args: argparse.Namespace) -> int:
    """Ask the running door, or the lock itself where no door runs.  A move is logged
    like a tap, with the user who asked."""
    config, clock = load(args, DOOR_TABLES), SystemClock()
    ProcessSignals().install()  # a strike is released, however this ends
    at, now = clock.now(), clock.monotonic()
    until, wants = now + config.lock.unlock_window_s, Wants(args.verb)
    own = AccessRequest(Medium.COMMAND, _asking_user(), at, now, until, wants)
    request = own._replace(id=os.urandom(8).hex())
    answer = ask_door(Path(config.door.state_dir), clock, request)
    if answer is not None:
        say(answer.lines)
        return EX_OK if answer.done else EX_FAILED
    store = make_store(config)
    equipment = Equipment(
        sources=(), locks=make_locks(config, clock), people=store.people,
        events=store.events, lights={"": Indicator()},
        contact=make_switch(config.doorway.contact_gpio),
    )  # fmt: skip
    keeper = Doorkeeper(
        config, equipment, Systemd({}, clock), clock, report=_warn_of_store
    )
    with contextlib.closing(equipment):
        if wants is Wants.STATUS:
            answer = drive(keeper.status(), clock)
        else:
            keeper.watch()  # the door may be open
            answer = answer_of(drive(Passage(keeper, own).steps, clock))
        say(answer.lines)
        sys.stdout.flush()
        keeper.control.named(keeper.control.mover).lock.wait_released()
    return EX_OK if answer.done else EX_FAILED


# -- doctor


def cmd_doctor(args: argparse.Namespace) -> int:
    worst, path = EX_OK, find_config(args.config, os.environ)
    log.disabled = True  # the findings say it
    try:
        for subject, (health, words, do) in _findings(path):
            if args.json:
                keys = {"health": health, "subject": subject, "words": words, "do": do}
                say(json.dumps(keys))
            else:
                say(f"{health:<4}  {subject:<8}  {printable(words, 1000)}")
                if do:
                    say(f"{'':14}  -> {printable(do, 1000)}")
            sys.stdout.flush()
            worst = EX_FAILED if health is FAIL else worst
    finally:
        log.disabled = False
    return worst


def _other_doors(path: Path) -> Iterator[Finding]:
    """The other doors of this computer: those whose settings are in the same folder."""
    for other in sorted(path.parent.glob("*.toml")) if path == IN_ETC else ():
        is_door = re.search(r"(?m)^\s*\[lock\]", other.read_text("utf-8", "replace"))
        if is_door and (name := instance_of(other)):
            runs = is_running(Path(f"{STATE_IN_VAR}-{name}"))
            do = f"sudo systemctl enable --now doorpi@{name}" * (not runs)
            words = f"doorpi@{name} {'is running' if runs else 'is not running'}"
            yield finding(words, do)


def _findings(path: Path) -> Iterator[tuple[str, Finding]]:
    """The subject and the finding: about the file; and then about all that its settings
    name, or the last good settings where it cannot be used."""
    config: Config | None = None
    try:
        config = read_config(path, os.environ)
        yield "settings", Finding(OK, f"{path}: no problems")
    except ConfigError as error:
        problems, good = error.problems, last_good(path, os.environ)
        for problem in problems:
            words = problem.partition("\n")[0]
            yield "settings", Finding(FAIL, words, "doorpi check")
        if good:
            words = f"the door uses its last good settings, of {good.date}"
            yield "settings", Finding(WARN, words, f"correct {path}")
            with contextlib.suppress(ConfigError):
                config = good.config(path, os.environ, DOOR_TABLES)
    if config is not None:
        become_owner(Path(config.door.state_dir))
        with contextlib.closing(make_store(config)) as store:
            rows = _subjects(path, config, store), _far_subjects(path, config, store)
            for subject, findings in chain(*rows):
                yield from ((subject, each) for each in survived(findings))


def _subjects(
    path: Path, config: Config, store: SqliteStore
) -> Iterator[tuple[str, Iterator[Finding]]]:
    """Everything that is examined, a row each, when its turn comes."""
    clock, folder = SystemClock(), Path(config.door.state_dir)
    runs = is_running(folder)
    named = [*named_files(config, path, os.environ)]
    named += named_files(config, path, os.environ, online=True)
    needed = [path, *(file for key, file in named if key != ISSUER_KEY)]
    held = (file for place, file in named if not place.endswith(PUBLIC_FILES))
    if cards := ", ".join(config.examples):
        words = f"{cards}: still the example value, and opens nothing"
        do = "give it the UID of a card of yours, or remove it"
        yield "settings", iter([Finding(WARN, words, do)])
    yield "reader", diagnose_readers(config, runs)
    for subject, where, findings in part_tests(config, clock):
        yield subject, iter([in_use(where)]) if runs else findings
    yield "clock", diagnose_clock(clock, config, store)
    yield "disk", diagnose_disk(folder)
    for file in (store.events, store.people):
        yield "database", diagnose_database(file.path, len(file.schema))
    yield "files", diagnose_files([*dict.fromkeys([path, *held])], needed, folder)
    yield "backup", diagnose_copy(store.people)
    yield "backup", diagnose_list(store, config.door.backup_days)
    yield "lockdown", diagnose_lockdown(store.people)
    yield "proof", diagnose_proofs(config, store)
    yield "passes", diagnose_passes(store, folder / PASS_KEY, clock.now())
    if config.proof.door_key:
        yield "keys", diagnose_keys(config.proof, store)
    yield "door", diagnose_door(folder)
    yield "doors", _other_doors(path)


def _far_subjects(
    path: Path, config: Config, store: SqliteStore
) -> Iterator[tuple[str, Iterator[Finding]]]:
    """The rest: what answers through a connection, and a relay."""
    clock, folder = SystemClock(), Path(config.door.state_dir)
    runs = is_running(folder)
    for where, access in locks_of(config).items():
        if access.kind == "relay" and runs:
            yield where, iter([in_use(f"relay on GPIO {access.relay_gpio}")])
        else:
            yield where, _lock_findings(where, access, config, clock, store)
    for authority in make_authorities(config, clock):
        yield authority.name, diagnose_authority(authority, clock)
    if config.online:
        yield "online", diagnose_online(config, folder)
    files = NamedFiles(path, os.environ, ONLINE)
    for where, table in online_tables(config, files).items():
        yield where, diagnose_table(where, table, folder, clock)


def _lock_findings(
    where: str, access: LockAccess, config: Config, clock: Clock, store: SqliteStore
) -> Iterator[Finding]:
    if examples := [key for key in _examples(config) if key.startswith(f"{where}.")]:
        words = f"{', '.join(examples)}: still the example value"
        do = "enter your lock's own in the settings; then sudo doorpi check"
        yield Finding(FAIL, words, do)
        return
    lock = make_lock(where, access, config, clock)
    events = Forgiving(store.events, _warn_of_store)
    control = LockControl(lock, access, events, clock, name=where)
    with contextlib.closing(lock):
        try:
            yield from diagnose_lock(access, control, clock)
        finally:
            if (notes := control.new_notes()) != NO_NOTES:
                events.keep(notes)


# -- the lights, and a card without hardware


def cmd_legend(args: argparse.Namespace) -> None:
    patterns, name = Parser({}).patterns(), ""
    try:
        config = load(args)
        patterns, name = dict(config.patterns), config.door.name
    except ConfigError:  # the lights as delivered will do
        if args.config or "DOORPI_CONFIG" in os.environ:
            raise
    if args.svg:
        say(legend_svg(patterns, name))
    else:
        say(legend(patterns, colours=sys.stdout.isatty()))


def cmd_tap(args: argparse.Namespace) -> None:
    device = reader_named(load(args), args.reader).device
    address = udp_address(device)
    if address is None:
        found = f"reader.device = {device!r}"
        raise Refused(f"{found}: only a udp: reader can be tapped this way")
    try:
        was_read = show_card(bytes.fromhex(args.uid), address, 5.0)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise Refused(f"cannot present a card at {device}: {why}") from None
    if not was_read:
        raise Refused(f"no reader looked at {device} within 5 s; is `run` running?")
    say(f"{format_uid(args.uid)} was read")


################################################################################
# 36. Verbs of the list -- people, keys, guest passes, backups
################################################################################


def cmd_people(args: argparse.Namespace) -> None:
    order = attrgetter("holder", "uid")
    with load_with_store(args) as (config, store, clock):
        file = (stricter(c, store.people.find(c.uid)) for c in config.cards.values())
        in_file = sorted(filter(None, file), key=order)
        everybody = store.people.everybody()
        others = (card for card in everybody if card.uid not in config.cards)
        known = heapq.merge(in_file, others, key=order)
        cards = with_blocks(known, store.people.blocks())
        if args.json:
            last_seen = store.events.last_seen
            say(json.dumps(person_json(p, last_seen)) for p in people_of(cards))
        elif args.toml:  # those that are not in the owner's file yet
            own = (c for c in cards if c.refusal or c.source is Origin.DB)
            say(map(person_toml, people_of(own, "enabled")))
        else:
            shown = list(cards)
            say(in_columns(list(people_rows(shown, config, store, clock.now()))))
            if any(card.block for card in shown):
                say(f"to lift a block: {LIFTS_BLOCK.format('UID')}")
        sys.stdout.flush()  # a copy that did not fit on the disk is no backup
        if args.toml and not sys.stdout.isatty() and store.people.exists():
            with contextlib.suppress(StoreError):  # doctor reports old ones
                store.events.keep(Notes({NoteKey.BACKUP: utc_text(clock.now())}))


def cmd_allow(args: argparse.Namespace) -> int:
    if args.chat and args.uid:
        complain("--chat makes a link for somebody; it takes no --uid")
        return EX_USAGE
    notes, presented = list[str](), ""
    with load_with_store(args) as (config, store, clock):
        at = clock.now()
        if args.chat:
            _invite(args, config, clock)
            return EX_OK
        if args.uid:
            uid = parse_listed(args.uid)
            notes += [f"{args.uid}: {NUMBER_WORDS}"] * is_number(args.uid)
        else:
            uid, ago_s = last_unknown_card(store, config, clock)
            presented = f" (presented {ago_s:.0f} s ago)"
        wanted = _allowed(args, uid)
        card, was, lifted = allow_card(store.people, config, wanted, at)
        notes += [LOCKED_DOWN_WORDS] * bool(store.people.locked_down())
        words = validity(card, config.schedules, at)
        if was and was.holder != card.holder:
            words += f" (until now: {printable(was.holder)})"
        more = "; no longer blocked" * bool(lifted)
        _log_change(store, at, Change.ALLOW, words + more, [card])
    may = "enrols cards" if card.role is Role.MASTER else "may enter"
    name = printable(card.holder)
    say(f"{name} {may} with {format_uid(uid)}{presented}: {words}")
    say(f"no longer {words}" for words in dict.fromkeys(map(block_words, lifted)))
    complain(*notes)
    return EX_OK


def _allowed(args: argparse.Namespace, uid: Uid = Uid("")) -> Credential:
    """The entry of the list that `allow` asks for."""
    return Credential(
        uid, args.holder, valid_from=args.begin, valid_until=args.until,
        schedule=args.schedule, source=Origin.DB,
    )  # fmt: skip


def _invite(args: argparse.Namespace, config: Config, clock: Clock) -> None:
    """Print a link that lets one person join the chat, with these limits."""
    at, path = clock.now(), Path(config.door.state_dir) / "online.db"
    card = _allowed(args)
    limits = [limit and str(limit) for limit in (args.begin, args.until)]
    with contextlib.closing(OnlineStore(path, busy_s=5.0)) as store:
        why, name = _never_works(card, config, at), store.recall(BOT_NAME)
        if "telegram" not in config.online:
            why = "there is no chat: [telegram] is not in the settings"
        elif not name:
            why = "the bot is not known yet: sudo systemctl start doorpi-online"
        if why:
            raise Refused(why)
        grant = [args.holder, *limits, args.schedule, _asking_user(), utc_text(at)]
        code = make_code(store, clock, grant, INVITATION_S)
    link = f"https://t.me/{name}?start={code}"
    say(link)
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            say(drawn(link).rstrip("\n"))
    minutes, words = INVITATION_S / 60, validity(card, config.schedules, at)
    complain(
        f"whoever opens this link first, in the next {minutes:.0f} minutes, may enter"
        f" by chat as {printable(args.holder)}: {words}"
    )
    if not is_running(path.with_name("online")):
        start = "sudo systemctl start doorpi-online"
        complain(
            f"the link works only while doorpi-online runs, and it does not: {start}"
        )


def cmd_revoke(args: argparse.Namespace) -> None:
    with load_with_store(args) as (config, store, clock):
        at = clock.now()
        try:
            enquiry = Enquiry(config, store)
            blocks, lines = revoke_cards(args.whom, enquiry, store, at, _asking_user())
        except StoreError as error:
            raise StoreError(f"{error}; nobody was blocked") from None
        if blocks:
            cards = ", ".join(format_uid(block.uid) for block in blocks if block.uid)
            _log_change(store, at, Change.REVOKE, f"blocked {cards}", blocks)
    say(lines)


def cmd_forget(args: argparse.Namespace) -> int:
    with load_with_store(args) as (config, store, clock):
        path, folder = find_config(args.config, os.environ), store.events.path.parent
        enquiry = Enquiry(config, store)
        names, others, uids = person_to_forget(args.holder, enquiry, store)
        numbers = [form for uid in uids for form in (uid, format_uid(uid))]
        person = Redaction(names, others, ())
        everything = Redaction(names, others, numbers)
        changed = store.people.redact(person) + store.events.redact(person, CHAINED)
        changed += redact_files(folder, person)
        ends = {table: store.events.last_id(table) for table in PERSONAL}
        if not changed and not any(store.events.named(everything, ends)):
            raise Refused(f"{enquiry.nobody(args.holder)[0]}: nothing to forget")
        by = everything(f"by {_asking_user()}")
        event = Event(clock.now(), None, FORGOTTEN, Change.FORGET, source="command")
        pause = functools.partial(clock.sleep, 0.02)  # for what the door writes
        event = event._replace(note=by)
        rows = store.events.forget_person(everything, event, pause)
        if is_running(folder / "online"):  # until it has seen that, it keeps notices
            clock.sleep(2 * Notices.look_s)
        redact_files(folder, person)
        store.events.redact(person, CHAINED)  # nothing stays in its -wal
        kept = [b for b in store.people.blocks() if b.uid in uids]
    _say_forgotten(args.holder, rows, others, kept, folder)
    named = [file for file in (path, folder / LAST_GOOD) if _names_one(file, person)]
    if named:
        complain(
            f"the name still stands in {' and '.join(map(str, named))}: take it out of"
            " the settings, and let the door start with them"
        )
    return EX_FAILED if named else EX_OK


def _names_one(file: Path, person: Redaction) -> bool:
    with contextlib.suppress(OSError):
        text = text_of(file, most=4 * MOST_BYTES, errors="replace")
        return person(text) != text
    return False


def _say_forgotten(
    name: str, rows: int, others: Iterable[str], kept: Iterable[Block], folder: Path
) -> None:
    say(
        f"{printable(name)} was removed from {counted(rows, 'row')} of the log, with"
        " the numbers of the cards; times and results stay"
    )
    for uid in (format_uid(block.uid or Uid("")) for block in kept):
        lifts = LIFTS_BLOCK.format(uid)
        say(f"{uid} stays blocked, without a name; {lifts} lifts that")
    if also := ", ".join(sorted(map(printable, others))):
        say(f"not forgotten, as these are other names: {also}")
    if aside := sorted(each.name for each in folder.glob("*.broken-*")):
        say(f"not touched, as they were set aside as broken: {', '.join(aside)}")
    say("not touched: backups, what was exported or sent, and the journal (journalctl)")


def cmd_lockdown(args: argparse.Namespace) -> None:
    with load_with_store(args) as (_, store, clock):
        at = clock.now()
        was = Forgiving(store.people, _warn_of_store).locked_down()
        wanted = args.state == "on"
        if was is not wanted:  # None: a running door may know of one that was lost
            store.people.lock_down(f"{utc_text(at)} {_asking_user()}" if wanted else "")
            _log_change(store, at, Change(f"lockdown-{args.state}"))
    already = " (it was already)" if was is wanted else ""
    if wanted:
        say(f"{LOCKED_DOWN_WORDS}{already}; to end this: doorpi lockdown off")
    else:
        say(f"not locked down{already}: everybody on the list may enter")


def cmd_import(args: argparse.Namespace) -> None:
    try:
        text = list_text(args.file)  # first: perhaps only root can read it
        config, clock = load(args), SystemClock()
        listed = read_list(text, config, args.ignore)
    except ListError as error:
        raise Refused(f"{args.file}: {error}; nothing was changed") from None
    with contextlib.closing(make_store(config)) as store:
        stored = {card.uid: card for card in store.people.cards()}
        changes = list_changes(listed, stored, config.cards, whole=args.replace)
        for card in with_blocks(changes.to_write, store.people.blocks()):
            if card.block:
                listed.notes[f"{card_name(card)} stays {block_words(card.block)}"] = 0
        try:
            say(list_report(listed, changes, clock.now()))
            sys.stdout.flush()
        except BrokenPipeError:  # `import FILE | head`: nobody has seen the whole list
            raise Refused(
                "the output was closed before the report was read; nothing was changed"
            ) from None
        if not (changes.unchanged or changes.to_write):
            raise Refused("every row was refused; nothing was changed")
        if args.dry_run:
            say("dry run: nothing was written")
        else:
            _import(changes, store, clock.now())
    if changes.refused:
        raise Refused(f"{counted(len(changes.refused), 'row')} refused: not imported")


def _import(changes: ListChanges, store: SqliteStore, at: datetime) -> None:
    cards = [*changes.to_write, *changes.removed]
    if not cards:
        say("nothing to change")
        return
    store.people.change_cards(changes.to_write, [c.uid for c in changes.removed], at)
    say("imported; valid from the next tap")
    words = (
        f"{len(changes.added):,} added, {len(changes.changed):,} changed,"
        f" {len(changes.removed):,} removed: {_names(card.holder for card in cards)}"
    )
    _log_change(store, at, Change.IMPORT, words, cards)


# -- one list for many doors


def _load_for_fleet(args: argparse.Namespace) -> Config:
    """The settings, which need no [lock] here: the computer may have no door."""
    path = find_config(args.config, os.environ)
    text = read_settings(path)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        if "lock" not in tomllib.loads(text):
            text = f'{text}\n[lock]\nkind = "relay"\n'
            config = NamedFiles(path, os.environ, ["mqtt"]).parse(text)
            become_owner(Path(config.door.state_dir))
            return config
    return load(args, ["mqtt"])


def cmd_list_key(args: argparse.Namespace) -> None:
    path = Path(_load_for_fleet(args).door.state_dir) / LIST_KEY
    try:
        key = public_text(signing_key(path))
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from None
    say(f"{path} signs lists: whoever has it decides who may enter.  Keep a copy.")
    say(["Put this into [mqtt] of every door as list_key:", key])


def cmd_publish(args: argparse.Namespace) -> int:
    try:
        people = read_fleet(list_text(args.file))  # perhaps only root can read it
    except (ConfigError, ListError) as error:
        lines = (f"  {line}" for line in str(error).split("\n"))
        complain(f"{args.file}: nothing was published", *lines)
        return EX_FAILED
    config = _load_for_fleet(args)
    folder, table = Path(config.door.state_dir), config.online.get("mqtt")
    site = table.site if isinstance(table, MqttConfig) else "main"
    records = folder / "published" / site
    editions = [Edition(door, each, records / door) for door, each in people.items()]
    say(chain.from_iterable(map(_edition_lines, editions)))
    known = {path.name for path in records.glob("[!.]*")} if records.exists() else set()
    if gone := sorted(known - people.keys()):
        say(f"not in {args.file}, so they keep their lists: {', '.join(gone)}")
    if args.dry_run:
        say("dry run: nothing was published")
        return EX_OK
    if not isinstance(table, MqttConfig):
        raise Refused("the settings have no [mqtt], which names the broker")
    lost = {e.door: list_refusal(e.before.cards, e.people.cards) for e in editions}
    why = [f"the new list of {door}: {words}" for door, words in lost.items() if words]
    if why and not args.yes_shrink:
        why = ["nothing was published", *why, "if you mean it: --yes-shrink"]
        raise Refused("; ".join(why))
    return _publish(editions, table, folder / LIST_KEY, args)


def _edition_lines(edition: Edition) -> Iterator[str]:
    yield f"{edition.door}, {counted(len(edition.people.cards), 'card')}:"
    lists, nothing = (edition.before, edition.people), lambda *_: None
    changes = access_changes(*lists, nothing, nothing) or ["no change"]
    yield from (f"  {printable(line, 500)}" for line in changes)


def _publish(
    editions: Sequence[Edition],
    table: MqttConfig,
    path: Path,
    args: argparse.Namespace,
) -> int:
    if not path.exists():
        raise Refused(f"{path} is missing: doorpi list-key makes it")
    clock = SystemClock()
    try:
        how = table, clock, signing_key(path)
        Publisher(editions, *how, shrink=args.yes_shrink).run(args.wait)
    except (OSError, ValueError, Unavailable) as error:
        raise Refused(f"{error}; not everything was published") from None
    rows, now = [("DOOR", "CARDS", "LIST", "STATE")], clock.monotonic()
    say(["", *in_columns([*rows, *(each.row(now) for each in editions)])])
    return EX_OK if all(each.state(now)[0] for each in editions) else EX_FAILED


_say_now = functools.partial(print, flush=True)


def cmd_keys(args: argparse.Namespace) -> int:
    path = find_config(args.config, os.environ)
    proof = (written := read_config(path, os.environ, ())).proof
    place, keys = NamedFiles(path, os.environ).place, dict[Path, str]()
    for name, usual in KEY_FILES.items() if args.action in ("new", "restore") else ():
        key = os.urandom(16).hex()
        if args.action == "restore":
            _say_now(f"{name}, nine groups of four digits (only Enter: leave it out):")
            key = (text := sys.stdin.readline().strip()) and from_paper(text)
        if key:
            keys[place(getattr(proof, name).file or usual)] = key
    store_keys(keys, Path(written.door.state_dir))
    say(f"{file} is made" for file in keys)
    if not proof.door_key:
        say(["put this into doorpi.toml, and then: doorpi keys check", "[proof]"])
        say(f'{name} = {{ file = "{file}" }}' for name, file in KEY_FILES.items())
        return EX_OK
    proof = (config := load(args, ("proof",))).proof
    with contextlib.closing(make_store(config)) as store:
        if args.action == "backup":
            _back_up_keys(proof, store)
        findings = checked_keys(config, store, are_new=args.action == "new")
    say(f"{each.words}{'; ' * bool(each.do)}{each.do}" for each in findings)
    return EX_FAILED if any(each.health is FAIL for each in findings) else EX_OK


def _back_up_keys(proof: ProofConfig, store: SqliteStore) -> None:
    """Print the keys for paper.  Raises: Refused if that is not confirmed."""
    keys = {name: getattr(proof, name) for name in KEY_FILES}
    if not all(key.text for key in keys.values()):
        raise Refused("put the issuer_key back first; nothing was printed")
    say(f"{name:10}  {on_paper(key.text)}" for name, key in keys.items())
    say("Write both down, and keep the paper where no thief of this computer finds it.")
    _say_now("To confirm that, type the last four characters of the second line:")
    if sys.stdin.readline().strip().upper() != on_paper(proof.issuer_key.text)[-4:]:
        raise Refused("that is not what was printed: not confirmed")
    for name, key in keys.items():
        store.people.keep_fingerprint(ON_PAPER.format(name), fingerprint(key))


def cmd_write(args: argparse.Namespace) -> int:
    """Make the running door issue or wipe the next card that is presented."""
    wants = Wants(args.verb)
    with load_with_store(args, ("proof",)) as (config, store, clock):
        if not (config.proof.door_key.text and config.proof.issuer_key.text):
            words = "this needs the door_key and the issuer_key of [proof]"
            raise Refused(f"{words}; see: doorpi keys check")
        for finding in checked_keys(config, store):
            if finding.health is FAIL:
                raise Refused(f"{finding.words}; {finding.do}")
        card = Credential(Uid(""), "")
        if wants is Wants.ISSUE:
            card = card_to_issue(args, config, store, clock.now())
    ProcessSignals().install()  # the order is withdrawn, however this ends
    about = [_asking_user(), card.holder, card.valid_from, card.valid_until]
    text = json.dumps([*about, card.schedule, card.uid], default=str)
    now, name = clock.monotonic(), os.urandom(8).hex()
    order = AccessRequest(
        Medium.COMMAND, text, clock.now(), now, now + ORDER_S, wants, id=name
    )
    answer = ask_door(Path(config.door.state_dir), clock, order, _say_now)
    if answer is None:
        raise Refused("the door is not running: sudo systemctl start doorpi")
    say(answer.lines)
    return EX_OK if answer.done else EX_FAILED


# -- backup and restore


def cmd_backup(args: argparse.Namespace) -> None:
    path, whole = find_config(args.config, os.environ), args.with_secrets
    at = utc_text(SystemClock().now())
    try:
        # Read as root, and opened, before root becomes the service's user.
        config = read_config(path, os.environ, DOOR_TABLES if whole else ())
        text = read_settings(path)
        settings = text if whole else without_secrets(text)
        files = texts_of(
            (name, file)
            for key, name, file in files_named(config, path)
            if whole or key.endswith(PUBLIC_FILES)
        )
        output = open_output(args.file)
        if args.file != "-":
            Path(args.file).chmod(0o600)
    except OSError as error:
        raise Refused(f"{args.file}: {error.strerror}") from None
    folder = Path(config.door.state_dir)
    become_owner(folder)
    with output as file, contextlib.closing(make_store(config)) as store:
        people = store.people.content() if store.people.exists() else b""
        backup = Backup(
            __version__, at, settings, base64.b64encode(people).decode(),
            {name: store.events.head(name) for name in CHAINED}, files,
            state_secrets(folder) if whole else {},
        )  # fmt: skip
        text = json.dumps(backup._asdict(), indent=1, ensure_ascii=False)
        write_output(file, f"{text}\n".encode())
        if store.events.exists():
            store.events.keep(Notes({NoteKey.BACKUP: at}))
    secrets = "with" if whole else "without"
    complain(f"{args.file}: settings and people, {secrets} keys; keep it off this Pi")


def cmd_restore(args: argparse.Namespace) -> None:
    path = find_config(args.config, os.environ)
    try:
        backup = Backup.read(text_of(Path(args.file), most=4 * MOST_BYTES))
        config = NamedFiles(path, os.environ).parse(backup.settings)
        folder = Path(config.door.state_dir)
        if is_running(folder):
            raise Refused("the door is running: sudo systemctl stop doorpi")
        if (found := state_in_use(folder)) and not args.replace:
            words = f"{folder} has {' and '.join(found)}: not a new Pi"
            raise Refused(f"{words}; to replace its settings and people: --replace")
        put_back(backup, path)
        become_owner(folder)
        secure = put_state_back(backup, folder)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"{args.file}: {why}") from None
    at = SystemClock().now()
    with contextlib.closing(make_store(config)) as store:
        # The log and the list agree again, and no secure card has become a plain one.
        cards = {card.uid: card for card in store.people.cards()}
        store.people.change_cards([
            cards.get(old.uid, old._replace(enabled=False))._replace(
                proof=old.proof, generation=old.generation
            ) for old in secure
        ], [], at)  # fmt: skip
        store.events.keep(Notes({NoteKey.BACKUP: utc_text(at)}))
        row, mark = backup.log["events"]
        words = f"restored from a backup of {backup.at}, whose log ended with row {row}"
        _log_change(store, at, Change.IMPORT, f"{words} ({mark[:16] or 'none'})")
    say(f"{path} and {counted(len(cards), 'card')} of the list: {words}")
    named = files_named(config, path)
    missing = (f"{key}: {file}" for key, _, file in named if not file.exists())
    say(f"still missing: {each}" for each in (*_examples(config), *missing))
    if config.proof.door_key:
        say("a card that became a secure one later opens by its number: issue it again")
    say("then: sudo doorpi check; sudo systemctl restart doorpi")


def cmd_pass(args: argparse.Namespace) -> int:
    wanted = [bool(each) for each in (args.holder, args.list, args.revoke)]
    forms = [bool(each) for each in (args.png, args.svg, args.text)]
    if sum(wanted) != 1 or sum(forms) > 1 or (any(forms) and not args.holder):
        complain("one of: a name, --list, --revoke; and one of --png, --svg, --text")
        return EX_USAGE
    if args.holder and not args.until:
        complain('a pass needs an end: doorpi pass "Jo Guest" --until 18:00')
        return EX_USAGE
    try:
        # Opened first: the service's user, whom root becomes, may not write there.
        output = open_output(args.png or args.svg or "-")
    except OSError as error:
        raise Refused(f"{args.png or args.svg}: {error.strerror}") from None
    with output as file, load_with_store(args) as (config, store, clock):
        if args.list:
            passes = store.people.passes() if store.people.exists() else []
            rows = [
                (
                    each.code.id,
                    printable(each.holder, 60),
                    pass_words(each, clock.now()),
                )
                for each in passes
            ]
            say(in_columns(rows) if rows else "no passes")
        elif args.revoke:
            _revoke_pass(store, args.revoke, clock.now())
        else:
            _make_pass(args, _wanted_pass(args, config, clock), store, file)
    return EX_OK


def _wanted_pass(
    args: argparse.Namespace, config: Config, clock: SystemClock
) -> GuestPass:
    """A new pass as the owner wants it.  Raises: Refused."""
    at, last_s = clock.now(), 0 if isinstance(args.until, datetime) else 1  # of the day
    ends = instant_meant(ends_at(args.until) - timedelta(seconds=last_s), clock)
    starts = instant_meant(begins_at(args.begin), clock) if args.begin else None
    until = f"--until {ends:%Y-%m-%d %H:%M}"
    if ends <= (starts or at):
        words = f"before --from {starts:%Y-%m-%d %H:%M}" if starts else "in the past"
        raise Refused(f"{until} is {words}")
    if ends.year > LAST_YEAR:
        raise Refused(f"{until}: a pass may end in {LAST_YEAR} or before")
    code = PassCode(base64.b32encode(os.urandom(5)).decode(), ends, args.once)
    made = GuestPass(code, args.holder, at, _asking_user(), starts, args.schedule)
    if why := _never_works(guest_of(code, made), config, at):
        raise Refused(why)
    return made


def _make_pass(
    args: argparse.Namespace, made: GuestPass, store: SqliteStore, output: IO[bytes]
) -> None:
    at, code, guest = made.made_at, made.code, guest_of(made.code, made)
    path = store.events.path.with_name(PASS_KEY)
    try:
        picture = pass_picture(sign_pass(code, signing_key(path)), args)
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}; no pass was made") from None
    except ImportError as error:
        raise Refused(
            f"{error}; no pass was made: use --text, or sudo apt install python3-segno"
        ) from None
    store.people.put_pass(made, forget_before=at - timedelta(days=30))
    if lift := blocks_on(store.people, guest):
        store.people.change_cards([], [], at, lift=lift)
    words = pass_words(made, at)
    _log_change(store, at, Change.ALLOW, f"guest pass {code.id}: {words}", [guest])
    write_output(output, picture)
    complain(
        f"{printable(made.holder)} may enter with this code: {words}; to end it: doorpi"
        f" pass --revoke {code.id}",
        *(f"no longer {block_words(block)}" for block in lift),
    )


def _revoke_pass(store: SqliteStore, text: str, at: datetime) -> None:
    found = store.people.find_pass(text.strip().upper())
    if found is None:
        raise Refused(f"there is no pass {text!r}; see: doorpi pass --list")
    words = f"pass {found.code.id} of {printable(found.holder)}"
    if found.revoked_at:
        say(f"{words} was revoked before")
        return
    store.people.put_pass(found._replace(revoked_at=at), at - timedelta(days=30))
    whose = [guest_of(found.code, found)]
    _log_change(store, at, Change.REVOKE, f"guest pass {found.code.id}", whose)
    say(f"{words} is revoked; it no longer opens the door")


def open_output(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """A file for ``write_output``, which belongs to the user who runs sudo; standard
    output for "-".  What it held stays until something is written."""
    if path == "-":
        return contextlib.nullcontext(sys.stdout.buffer)
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb")
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        uid, gid = (int(os.environ[name]) for name in ("SUDO_UID", "SUDO_GID"))
        os.fchown(file.fileno(), uid, gid)
    return file


def write_output(file: IO[bytes], content: bytes) -> None:
    """Replace the content of a file, or write to standard output or a pipe."""
    file.write(content)
    file.flush()
    is_own = file is not sys.stdout.buffer
    if is_own and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.truncate()
        os.fsync(file.fileno())


def pass_picture(text: str, args: argparse.Namespace) -> bytes:
    """The code of a pass as text, or drawn for a terminal, as PNG or SVG."""
    if args.text:
        return f"{text}\n".encode()
    if not (args.png or args.svg):
        return drawn(text).encode()
    made = io.BytesIO()
    qr_code(text).save(made, kind="png" if args.png else "svg", scale=8, border=4)
    return made.getvalue()


def qr_code(text: str) -> Any:
    """Raises: ImportError."""
    import segno

    return segno.make(text, error="m", micro=False)


def drawn(text: str) -> str:
    """``text`` as a QR code for a terminal.  Raises: ImportError."""
    blocks = io.StringIO()
    qr_code(text).terminal(blocks, border=2, compact=True)
    return blocks.getvalue()


def _log_change(
    store: SqliteStore,
    at: datetime,
    what: Change,
    words: str = "",
    whose: Sequence[Credential | Block] = (),
) -> None:
    """Log a change of the list, and whose cards it is about."""
    detail = ": ".join(filter(None, (f"by {_asking_user()}", words)))
    event = change_event(at, what, "command", detail, whose)
    Forgiving(store.events, _warn_of_store).record(event)
    complain(*_not_kept(store.events.path.parent))


################################################################################
# 37. Command line -- the verbs and their arguments
################################################################################


def reads(parse: Callable[[str], T], wrong: str) -> Callable[[str], T]:
    """A type of argument that is read by ``parse``; ``wrong`` words its errors."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except (ValueError, OverflowError) as error:  # the year 1, in another zone
            words = wrong.format(text=text, error=error)
            raise argparse.ArgumentTypeError(words) from None

    return read


def _name(text: str) -> str:
    text = tidied(text)
    if not text or not is_visible(text) or len(text) > LONGEST_NAME:
        raise ValueError
    return text


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) <= 86_400:
        raise ValueError
    return seconds


NAME = reads(_name, f"a name needs visible characters, at most {LONGEST_NAME}")
UID = reads(parse_uid, "{text!r}: {error}")
#: A good UID as it was typed.
WRITTEN_UID = reads(lambda text: parse_listed(text) and text, "{text!r}: {error}")
SINCE = reads(
    time_since,
    "{text!r} is not a date: today, yesterday, 2h, 3 days, 2026-11-21 or"
    " '2026-11-21 08:00'",
)
AT = reads(
    time_at,
    "{text!r} is not a time: 22:10, 'Sat 22:10', 2026-12-24 or '2026-12-24 22:10'",
)
LIMIT = reads(
    limit_at, "{text!r} is not a date such as 2026-12-31, or a time: '2026-12-31 18:00'"
)
SECONDS = reads(_seconds, "{text!r} is not a number of seconds, at most 86400")

Option = tuple[str, dict[str, Any]]
#: What a verb runs (None is success), what it does in words, and its arguments.
Verb = tuple[Callable[[argparse.Namespace], int | None], str, Sequence[Option]]


def option(name: str, help: str, metavar: str = "", **details: Any) -> Option:
    """An argument of a verb for argparse; one without ``metavar`` is a flag."""
    details |= {"metavar": metavar} if metavar else {"action": "store_true"}
    return name, {"help": help, **details}


JSON = option("--json", "print one JSON object per line")
BEGIN_OPTION = option(
    "--from", "first day, or '2026-12-01 08:00'", "WHEN", type=LIMIT, dest="begin"
)
UNTIL_OPTION = option("--until", "last day, or '2026-12-01 18:00'", "WHEN", type=LIMIT)
SCHEDULE_OPTION = option("--schedule", "name of a schedule in doorpi.toml", "NAME")

VERBS: Mapping[str, Verb] = {
    "run": (cmd_run, "run the door in the foreground, as the service does", []),
    "online": (cmd_online, "run chat, notices, membership, MQTT; beside `run`", [
        option("--accept", "accept the lists that were refused"),
    ]),
    "check": (cmd_check,
              "show mistakes in doorpi.toml, whom it lets in, an edit's effect", []),
    "people": (cmd_people, "list everybody, and where each entry is kept", [
        JSON,
        option("--toml", "print the people in the database as TOML, as a backup"),
    ]),
    "allow": (cmd_allow, "let in the unknown card tapped last, or that of --uid", [
        option("holder", "name of the person", "HOLDER", type=NAME),
        option("--uid", "such as 04:A1:B2:C3", "UID", type=WRITTEN_UID),
        BEGIN_OPTION, UNTIL_OPTION, SCHEDULE_OPTION,
        option("--chat", "make a link that lets them join the chat, once"),
    ]),
    "revoke": (cmd_revoke, "block a card, or all cards of a person", [
        option("whom", "a card or a person", "UID-or-HOLDER"),
    ]),
    "forget": (cmd_forget, "remove the name of somebody who has left from the log", [
        option("holder", "the name as the log has it", "HOLDER", type=NAME),
    ]),
    "pass": (cmd_pass, "make a guest's QR code, which this door verifies itself", [
        option("holder", "the guest's name", "HOLDER", type=NAME, nargs="?"),
        BEGIN_OPTION, UNTIL_OPTION, SCHEDULE_OPTION,
        option("--once", "it opens once"),
        option("--png", "draw it into a file; - is standard output", "FILE"),
        option("--svg", "the same as SVG", "FILE", nargs="?", const="-"),
        option("--text", "the text in the code, alone"),
        option("--list", "the passes that were made"),
        option("--revoke", "end a pass", "ID"),
    ]),
    "issue": (cmd_write, "make the next blank card at the reader a secure card", [
        option("holder", "name of the person", "HOLDER", type=NAME, nargs="?"),
        option("--replace", "in place of this card, whose limits it takes over", "UID",
               type=UID),
        UNTIL_OPTION, SCHEDULE_OPTION,
    ]),
    "wipe": (cmd_write,
             "give the next secure card at the reader its factory keys back", []),
    "keys": (cmd_keys, "make, check, back up or restore the keys of secure cards", [
        option("action", "backup prints them, for paper", "new|check|backup|restore",
               choices=("new", "check", "backup", "restore")),
    ]),
    "import": (cmd_import, "import a list of cards from a file", [
        option("file", "the list; - for standard input", "FILE"),
        option("--dry-run", "show what would change, and change nothing"),
        option("--replace", "also remove cards that are not in the file"),
        option("--ignore", "leave out this column; may be repeated", "COLUMN",
               action="append", default=[]),
    ]),
    "list-key": (cmd_list_key, "make or show the key that signs the doors' lists", []),
    "publish": (cmd_publish, "send each door the list of who may enter there", [
        option("file", "FLEET.toml; - for standard input", "FILE"),
        option("--dry-run", "show what each door would gain and lose"),
        option("--yes-shrink", "also publish lists that lack many people, or all"),
        option("--wait", "seconds for the doors to answer", "SECONDS", type=SECONDS,
               default=30.0),
    ]),
    "backup": (cmd_backup, "write settings and people to one file", [
        option("file", "for a new SD card; - for standard output", "FILE"),
        option("--with-secrets", "with the lock's keys and all others"),
    ]),
    "restore": (cmd_restore, "set up this Pi from a backup", [
        option("file", "what backup wrote", "FILE"),
        option("--replace", "also where this Pi has settings and people"),
    ]),
    "why": (cmd_why, "explain whether a card is let in, and which rule decides", [
        option("who", "a card or a person", "UID-or-HOLDER", nargs="+"),
        option("--at", "ask about this time: 'Sat 22:10', or a date", "WHEN", type=AT),
        option("--reader", "at this [[reader]]; else at the entrance", "NAME"),
        option("--ask", "ask an [[authority]] too, where that changes nothing there"),
        JSON,
    ]),
    "present": (cmd_present, "show who is in, where there is a reader on each side", [
        JSON,
    ]),
    "log": (cmd_log, "show who came, and what the door did", [
        JSON,
        option("--since", "start there: today, 2h (hours ago), or a date", "WHEN",
               type=SINCE),
        option("--uid", "only this card", "UID", type=UID),
        option("--holder", "only people whose name contains it", "NAME", default=""),
        option("--location", "only this location of Digital ID", "NAME", default=""),
        option("--device", "only this device_id of Digital ID", "NAME", default=""),
        option("--denied", "only cards that were refused"),
        option("--follow", "keep printing new events"),
        option("--csv", "print CSV, for a spreadsheet"),
        option("--verify", "check that no row was changed or removed"),
        option("--chart", "draw busy hours and response times, as SVG"),
    ]),
    "status": (cmd_ask, "show the lock's state and battery", []),
    "lock": (cmd_ask, "lock the door and wait until the lock confirms", []),
    "unlock": (cmd_ask, "unlock the door and wait until the lock confirms", []),
    "lockdown": (cmd_lockdown, "turn lockdown on or off; while on, nobody may enter", [
        option("state", "on: let nobody in, also after a restart, until off",
               "on|off", choices=("on", "off")),
    ]),
    "doctor": (cmd_doctor, "test everything; say what to do about problems", [JSON]),
    "legend": (cmd_legend, "show what the lights mean", [
        option("--svg", "draw a card to print, as SVG"),
    ]),
    "tap": (cmd_tap, "present a virtual card to a udp: reader, as a test", [
        option("uid", "such as 04:A1:B2:C3", "UID", type=UID),
        option("--reader", "its name; else the first", "NAME"),
    ]),
}  # fmt: skip


ALIASES = {"cards": "people"}  # the name of earlier versions


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="doorpi.py",
        description="Opens a smart lock for the cards on your list.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="default: $DOORPI_CONFIG, /etc/doorpi/doorpi.toml, or beside the program",
    )
    parser.add_argument("--version", action="version", version=f"DoorPi {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (_, words, options) in VERBS.items():
        aliases = [other for other, verb in ALIASES.items() if verb == name]
        sub = verbs.add_parser(name, aliases=aliases, help=words, description=words)
        sub.set_defaults(verb=name)
        for option, details in options:
            sub.add_argument(option, **details)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.  Returns its exit code: 0 done, 1 failed, 2 usage, 78 settings.

    Raises: SystemExit with 2 on wrong usage, as argparse does.
    """
    os.umask(0o077)  # what we write, the log above all, is for nobody else
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 -- >&-
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name in letters it does not have
        sys.stdout.reconfigure(errors="backslashreplace")
    args = make_parser().parse_args(argv)
    ADDRESSED.path = find_config(args.config, os.environ)
    if sys.platform != "linux":  # its clocks, its /proc
        complain("DoorPi runs on Linux only")
        return EX_FAILED
    code = EX_OK
    try:
        code = _run(args)
        sys.stdout.flush()  # at exit nobody could catch that the reader has left
        return code
    except OSError as error:
        is_full = error.errno == errno.ENOSPC
        is_output = is_full or isinstance(error, BrokenPipeError)
        if args.verb == "run" or not is_output:
            raise
        # A closed pipe is success; a full disk is reported.  The rest goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not is_full:
            return code
        complain("no space left: the output is not complete")
        return EX_FAILED


def _run(args: argparse.Namespace) -> int:
    """Run one verb, and put into words what went wrong."""
    code = EX_FAILED
    try:
        return VERBS[args.verb][0](args) or EX_OK
    except Stopped as stopped:
        is_usual = stopped.number in (signal.SIGTERM, signal.SIGINT)
        is_service = args.verb in ("run", "online")
        return EX_OK if is_usual and is_service else 128 + stopped.number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except ConfigError as error:
        path = find_config(args.config, os.environ)
        complain(f"{path}: {counted(len(error.problems), 'problem')}")
        code = EX_CONFIG
        lines = [f"  {each}" for each in "\n".join(error.problems).split("\n")]
    except StoreError as error:
        lines = [f"database: {error}"]
    except ImportError as error:  # systemd starts the door again every 5 s
        lines = [library_trouble(error)]
    except (Refused, AlreadyRunning) as error:
        lines = [str(error)]
    for line in lines:
        is_shut = line.lower().endswith("permission denied")
        is_owner_s = is_shut and args.verb != "run" and os.geteuid()
        complain(line + "; use sudo" * bool(is_owner_s))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
