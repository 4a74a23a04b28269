"""One list for many doors, over a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

import doorpi
from doorpi import DoorState, PublishedList, Publisher, Unavailable
from tests.helpers.broker import ANYBODY, running
from tests.helpers.chat import RealClock
from tests.helpers.fleet import KEY, OTHER_KEY, public
from tests.helpers.processes import wait_for

ME = public(KEY)


PARTS = DoorState, PublishedList


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(PublishedList, "busy_s", 0.02)
    monkeypatch.setattr(DoorState, "look_s", 0.05)
    monkeypatch.setattr(DoorState, "health_s", 0.05)
    monkeypatch.setattr(Publisher, "listen_s", 0.3)
    monkeypatch.setattr(doorpi.Edition, "doubt_s", 0.3)


class Master:
    """The computer that publishes."""

    def __init__(self, folder: Path, port: int, key=KEY, **table) -> None:
        self.folder, self.key = folder, key
        values = {"host": "127.0.0.1", "port": port, "tls": False, "door": "x"}
        self.table = doorpi.MqttConfig(**{**values, **table})

    def publish(
        self, doors: dict[str, int], wait_s: float = 20.0, *, shrink: bool = False
    ) -> dict[str, str]:
        """Publish lists of so many people; the state of each door in words."""
        editions = []
        for door, count in doors.items():
            uids = [doorpi.Uid(f"0A{number:06X}") for number in range(count)]
            people = {uid: doorpi.Credential(uid, f"Holder {uid}") for uid in uids}
            config = doorpi.Config(cards=people)
            editions.append(doorpi.Edition(door, config, self.folder / door))
        how = self.table, (clock := RealClock()), self.key
        Publisher(editions, *how, shrink=shrink).run(wait_s)
        return {each.door: each.row(clock.monotonic())[3] for each in editions}


@pytest.fixture
def master(tmp_path, broker):
    return Master(tmp_path / "master", broker.port)


def uids(linked) -> int:
    return linked.synced.count("mqtt")


def test_each_door_takes_its_list(broker, links, master):
    doors = [links(broker.port, *PARTS, door=d, list_key=ME) for d in ("front", "lab")]

    assert master.publish({"front": 3, "lab": 30}) == {
        "front": "applied",
        "lab": "applied",
    }
    assert [uids(each) for each in doors] == [3, 30]

    assert master.publish({"front": 3, "lab": 31}) == {
        "front": "unchanged",
        "lab": "applied",
    }


def test_a_door_that_was_away_takes_the_list_when_it_is_back(broker, links, master):
    front = links(broker.port, *PARTS, list_key=ME)
    master.publish({"front": 3})
    front.stop()

    assert "away" in master.publish({"front": 4})["front"]
    front.start()
    wait_for(lambda: uids(front) == 4, "the list")


def test_a_door_keeps_its_list_when_the_broker_has_lost_all(broker, links, master):
    front = links(broker.port, *PARTS, list_key=ME)
    master.publish({"front": 3})
    broker.stop()
    front.until("127.0.0.1")
    broker.start()
    front.until("")

    assert uids(front) == 3
    assert master.publish({"front": 3}) == {"front": "unchanged"}


def test_what_a_door_refuses_is_told(broker, links, master):
    links(broker.port, *PARTS, list_key=ME)
    master.publish({"front": 30})

    assert "missing" in master.publish({"front": 4})["front"]
    assert master.publish({"front": 4}, shrink=True) == {"front": "applied"}


def test_two_leaders_do_not_take_turns(broker, links, master, tmp_path):
    """The second has the key, too, and a clock that is behind."""
    front = links(broker.port, *PARTS, list_key=ME)
    master.publish({"front": 3})
    second = Master(tmp_path / "second", broker.port)
    second.folder.mkdir()
    (second.folder / "front").write_bytes(
        b'{"version": 5}\n' + doorpi.packed(doorpi.Config())
    )
    past = doorpi.Edition.messages

    def behind(self, site, at, key, *, shrink):
        return past(self, site, at - 86_400, key, shrink=shrink)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doorpi.Edition, "messages", behind)
        assert "clock" in second.publish({"front": 4})["front"]
    assert uids(front) == 3


def test_a_stranger_with_the_password_publishes_in_vain(broker, links, tmp_path):
    front = links(broker.port, *PARTS, list_key=ME)
    stranger = Master(tmp_path / "stranger", broker.port, OTHER_KEY)

    assert "signed" in stranger.publish({"front": 4})["front"]
    assert uids(front) == 0
    assert "signed" in front.until("signed")


def test_what_the_broker_refuses_is_told(tmp_path):
    (tmp_path / "acl").write_text("topic read #\n")
    lines = f"{ANYBODY}acl_file {tmp_path}/acl\n"
    with running(tmp_path, lines) as broker:
        states = Master(tmp_path / "master", broker.port).publish({"front": 4})

    assert "access list" in states["front"]
    assert not (tmp_path / "master").exists()


def test_a_door_that_never_answers(master):
    assert "no answer" in master.publish({"attic": 1}, wait_s=0.1)["attic"]


def test_publishing_without_a_broker_fails_in_words(tmp_path):
    with pytest.raises(Unavailable, match="cannot reach"):
        Master(tmp_path, 1).publish({"front": 1})
