"""[[list]]: a list of people at a web address, read again and again."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

import doorpi
from doorpi import (
    Change,
    Context,
    ListReader,
    OnlineStore,
    Origin,
    SqliteStore,
    SyncedPeople,
    Uid,
    Unavailable,
    main,
    parse_config,
)
from tests.fakes.cloud import FAULTS
from tests.fakes.lists import TOKEN, FakeListServer
from tests.helpers.world import KEN, MIKA, STRANGER

PLACE = "list 1"
HEAD = "uid,holder\n"


def rows(*uids: str) -> str:
    return HEAD + "".join(f"{uid},Member {uid}\n" for uid in uids)


def many(count: int) -> list[str]:
    return [f"0A{number:012X}" for number in range(count)]


class Space:
    """The list's server, the service that reads it, and the door's side of it."""

    def __init__(self, folder, clock, **table: object) -> None:
        self.folder, self.clock = folder, clock
        self.server = FakeListServer(clock)
        self.synced = SyncedPeople(folder / "synced.db")
        self.store = SqliteStore(folder / "doorpi.db")
        self.notes = OnlineStore(folder / "online.db")
        self.make(**table)

    def make(self, **table: object) -> None:
        """As at a start of `doorpi online`."""
        url = f"{self.server.base_url}/doors.csv?v=1"
        text = '[lock]\nkind = "relay"\n[[schedule]]\nname = "day"\ntimes = ["Mon-Fri 08:00-20:00"]\n'
        text += f'[[list]]\nurl = "{url}"\ntoken = "{TOKEN}"\n'
        text += "".join(f"{key} = {value!r}\n" for key, value in table.items())
        config = parse_config(text)
        context = Context(
            config=config,
            clock=self.clock,
            store=self.notes,
            synced=self.synced,
            events=self.store.events,
        )
        self.service = ListReader(PLACE, config.online[PLACE], context)

    def look(self) -> str:
        """What the next look at the server leads to; "" if all is well."""
        self.clock.advance(1_000)
        try:
            self.service.step()
        except Unavailable as error:
            return str(error)
        return ""

    @property
    def uids(self) -> set[str]:
        return {card.uid for card in self.synced.cards()}

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stores = self.store, self.notes, self.synced
            for each in (self.service, *stores, self.server):
                stack.callback(each.close)


@pytest.fixture
def space(tmp_path, clock):
    space = Space(tmp_path, clock)
    space.server.text = rows(KEN, MIKA)
    yield space
    space.close()


def test_people_on_the_list_are_known_to_the_door(space):
    space.server.text = (
        f"{HEAD[:-1]},schedule,valid_until\n{KEN},Ken Sato,day,2027-01-31\n"
    )

    assert space.look() == ""

    card = space.store.people.find(KEN)
    assert (card.holder, card.source, card.schedule) == ("Ken Sato", Origin.LIST, "day")
    trust = timedelta(seconds=259_200)
    assert card.membership.trusted_until == space.clock.at + trust
    assert [each.holder for each in space.store.people.everybody()] == ["Ken Sato"]


def test_an_unchanged_list_is_not_sent_again_and_stays_trusted(space):
    space.look()
    before = space.store.people.find(KEN).membership.trusted_until

    assert space.look() == ""

    assert [
        reply.headers.get("if-none-match") is None for reply in space.server.requests
    ] == [True, False]
    assert space.store.people.find(KEN).membership.trusted_until > before


def test_the_list_is_read_once_in_an_interval(space):
    space.look()
    space.service.step()
    space.clock.advance(900 * 0.9 - 1)
    space.service.step()

    assert len(space.server.requests) == 1


def test_each_change_is_one_event(space):
    space.look()
    space.server.text = rows(KEN, STRANGER)
    space.look()
    space.look()

    events = list(space.store.events.read())
    assert [(e.reason, e.source, e.uid) for e in events] == [
        (Change.SYNC, "list", None)
    ] * 2
    assert events[1].detail.startswith("1 added, 0 changed, 1 removed: ")


SHRUNK = {
    "empty": HEAD,
    "no header either": "",
    "half of it": rows(*many(50)),
    "other people": rows(*(f"0B{number:012X}" for number in range(100))),
    "an error page": "<html>Sign in</html>",
    "cut off": rows(*many(100))[:-30],
    "json": '[{"foo": 1}]',
}  # fmt: skip


@pytest.mark.parametrize("text", SHRUNK.values(), ids=SHRUNK)
def test_a_broken_list_changes_nobody(space, text):
    space.server.text = rows(*many(100))
    space.look()
    before = space.uids

    space.server.text = text

    assert space.look()
    assert space.uids == before
    trusted_until = space.store.people.find(Uid(many(1)[0])).membership.trusted_until
    assert trusted_until < space.clock.at + timedelta(seconds=259_200)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_of_the_server_changes_nobody_and_is_over_afterwards(space, fault):
    space.look()
    space.server.text = rows(KEN)
    space.server.script = [fault]

    assert space.look()
    assert space.uids == {KEN, MIKA}

    assert space.look() == ""
    assert space.uids == {KEN}


def test_a_refused_list_is_taken_once_the_owner_accepts_it(space, tmp_path, capsys):
    settings = tmp_path / "doorpi.toml"
    settings.write_text(
        f'[door]\nstate_dir = "{space.folder}"\n[lock]\nkind = "relay"\n'
        f'[[list]]\nurl = "{space.server.base_url}/doors.csv"\n'
    )
    accept = ["--config", str(settings), "online", "--accept"]
    space.server.text = rows(*many(100))
    space.look()
    assert main(accept) == doorpi.EX_FAILED

    space.server.text = rows(*many(10))
    assert "--accept" in space.look()
    assert main(accept) == doorpi.EX_OK
    assert "10 cards" in capsys.readouterr().out

    assert space.service.step() >= 0  # at once, not at the next look
    assert len(space.uids) == 10
    space.server.text = rows(*many(2))
    assert "--accept" in space.look()  # the next one needs a word of its own

    space.server.text = HEAD
    assert "it is empty" in space.look()
    assert main(accept) == doorpi.EX_OK
    assert space.service.step() >= 0
    assert space.uids == set()


def test_a_list_that_lost_even_more_since_it_was_refused_is_not_accepted(space):
    space.server.text = rows(*many(100))
    space.look()
    space.server.text = rows(*many(10))
    space.look()
    space.notes.keep(f"accepted {PLACE}", space.notes.recall(f"refused {PLACE}"))

    space.server.text = rows(*many(1))

    assert "--accept" in space.look()
    assert len(space.uids) == 100


def test_a_row_that_cannot_be_read_is_left_out(space, caplog):
    space.server.text = f"{rows(KEN)}nonsense,Mika Mori\n"

    assert space.look() == ""
    assert space.uids == {KEN}
    assert "1 row left out, line 3" in caplog.text


def test_a_list_elsewhere_makes_no_master_card(space):
    space.server.text = f"uid,holder,role\n{KEN},Ken Sato,master\n{MIKA},Mika Mori,\n"

    space.look()

    assert space.uids == {MIKA}


def test_the_tables_schedule_holds_for_people_without_one(tmp_path, clock):
    space = Space(tmp_path, clock, schedule="day")
    space.server.text = rows(KEN)
    with contextlib.closing(space):
        space.look()
        assert space.store.people.find(KEN).schedule == "day"


FORMATS = {
    "csv": ("csv", rows(KEN), True), "json": ("json", rows(KEN), False),
    "json list": ("json", f'[{{"uid": "{KEN}", "holder": "Ken"}}]', True),
    "found out": ("", f'[{{"uid": "{KEN}", "holder": "Ken"}}]', True),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "is_taken"), FORMATS.values(), ids=FORMATS)
def test_the_format_may_be_demanded(tmp_path, clock, name, text, is_taken):
    space = Space(tmp_path, clock, format=name)
    space.server.text = text
    with contextlib.closing(space):
        assert (space.look() == "") is is_taken


def test_nothing_is_read_while_the_clock_is_not_set(space):
    space.clock.set = False

    assert space.look() == "the clock is not set"
    assert not space.uids


# -- signed lists

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def signed(tmp_path, clock):
    space = Space(tmp_path, clock)
    space.server.key, space.server.text = KEY, rows(KEN, MIKA)
    space.make(list_key=space.server.list_key)
    yield space
    space.close()


@pytest.mark.parametrize("in_base64", [True, False])
def test_a_signed_list_is_taken(signed, in_base64):
    signed.server.signature_in_base64 = in_base64

    assert signed.look() == ""
    assert signed.uids == {KEN, MIKA}


FORGERIES = {
    "another key": lambda server: setattr(server, "key", OTHER),
    "no signature": lambda server: setattr(server, "key", None),
    "a signature cut off": lambda server: server.script.extend([None, (200, b"abc")]),
    "an empty signature": lambda server: server.script.extend([None, (200, b"")]),
}  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_list_without_its_signature_changes_nobody(signed, forge):
    signed.look()
    signed.server.text = rows(KEN, STRANGER)
    forge(signed.server)

    assert signed.look()
    assert signed.uids == {KEN, MIKA}


def test_neither_token_nor_address_is_shown(space, caplog):
    for fault in ("401", "hang-before", "html"):
        space.server.script = [fault]
        words = space.look()
        assert TOKEN not in words + caplog.text
        assert "doors.csv" not in words + caplog.text
