"""The whole log at the broker: complete, in order, and at least once."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

import doorpi
from doorpi import Change, Command, Event, EventFeed, MqttConfig, Reason, Result
from tests.fakes.link import FakeLink
from tests.helpers.stores import run_sql
from tests.helpers.world import KEN, NOON, STRANGER

NAME = "Ken \"K\" 'Sato' 健 {{ 1 }}"
UNLOCKED = Result.UNLOCKED
NOBODY = 0x10  # has subscribed


def table(**more) -> MqttConfig:
    return MqttConfig(host="broker", door="front", **more)


class Feed(FakeLink):
    def __init__(self, context, **more) -> None:
        super().__init__(context, EventFeed, table(**more))
        self.log = context.events

    def begin(self, **more) -> Event:
        event = Event(
            self.clock.now(), KEN, NAME, Reason.GRANTED, Command.UNLOCK, point="in"
        )._replace(**more)
        return event._replace(id=self.log.begin(event))

    def end(self, event: Event, result: Result = UNLOCKED) -> Event:
        ended = event._replace(result=result, latency_ms=400)
        self.log.finish(ended)
        return ended

    def deny(self, count: int = 1) -> None:
        event = Event(self.clock.now(), STRANGER, "", Reason.NOT_FOUND)
        for _ in range(count):
            self.log.begin(event)

    @property
    def got(self) -> list:
        """The ids, in order; of a gap both ends."""
        return [each.get("gap") or each["id"] for each in self.all_json("events")]

    @property
    def note(self) -> int:
        return json.loads(self.context.store.recall("mqtt sent") or '{"id":-1}')["id"]


@pytest.fixture
def feed(context) -> Feed:
    return Feed(context)


def test_an_event_is_sent_as_the_log_has_it_and_with_the_door(feed):
    event = feed.end(feed.begin(note="pass ABC"))
    feed.steps(1)

    (sent,) = feed.sent
    assert (sent.topic, sent.is_retained) == ("doorpi/main/front/events", False)
    (line,) = doorpi.log_lines([event], as_json=True, as_csv=False, colours=False)
    of_the_log = json.loads(line)
    del of_the_log["uid"]
    assert json.loads(sent.text) == {**of_the_log, "door": "front"}


def test_all_that_the_log_has_is_sent_in_order_of_its_ids(feed):
    feed.deny(250)
    feed.steps(1)
    feed.log.record(Event(NOON, KEN, NAME, Change.REVOKE, source="command"))
    feed.until(lambda: len(feed.sent) > 250)

    assert feed.got == [*range(1, 252)]


def test_an_event_waits_for_its_outcome_and_those_after_it_with_it(feed):
    event = feed.begin()
    feed.deny()
    feed.steps(100)
    assert not feed.sent

    feed.end(event)
    feed.steps(1)

    assert feed.got == [1, 2]
    assert feed.all_json("events")[0]["result"] == "unlocked"


def test_an_outcome_that_does_not_come_holds_nothing_up_for_long_and_is_sent_later(
    feed,
):
    event = feed.begin()
    feed.deny()
    feed.steps(125)
    assert feed.got == [1, 2]
    assert feed.all_json("events")[0]["result"] is None

    feed.restart()
    feed.deny()
    feed.steps(600)
    feed.end(event, Result.INTERRUPTED)
    feed.steps(600)

    assert feed.got == [1, 2, 3, 1]
    assert feed.json("events")["result"] == "interrupted"


def test_an_outcome_that_is_not_acknowledged_is_sent_again(feed):
    event = feed.begin()
    feed.steps(125)
    feed.reason = None
    feed.end(event, Result.INTERRUPTED)
    feed.steps(5)
    feed.reconnect()
    feed.reason = 0
    feed.steps(5)
    feed.restart()
    feed.steps(50)

    assert feed.got == [1, 1, 1]


def test_what_was_removed_before_it_was_sent_is_a_gap(feed):
    feed.deny(10)
    feed.until(lambda: feed.note == 10)
    feed.deny(10)
    feed.clock.advance(86_400)
    feed.deny(2)
    now = feed.clock.now()
    feed.log.forget(now - timedelta(days=0.5), now, 500)
    feed.steps(2)

    assert feed.got[10:] == [[11, 20], 21, 22]
    feed.until(lambda: feed.note == 22)


def test_a_gap_is_told_at_least_once_too(feed):
    feed.deny(3)
    feed.clock.advance(86_400)
    feed.deny()
    now = feed.clock.now()
    feed.log.forget(now - timedelta(days=0.5), now, 500)
    feed.reason = None
    feed.steps(2)
    feed.restart()
    feed.reason = 0
    feed.steps(2)

    assert feed.got == [[1, 3], 4, [1, 3], 4]


def test_few_are_in_flight_and_room_is_left_for_what_is_urgent(feed):
    feed.reason = None
    feed.deny(100)
    feed.steps(5)

    assert len(feed.sent) == 16 - EventFeed.reserve


def test_a_broker_that_takes_one_at_a_time_gets_all(feed):
    feed.most = 1
    feed.deny(30)
    feed.until(lambda: len(feed.sent) == 30)

    assert feed.got == [*range(1, 31)]


@pytest.mark.parametrize("order", [[0, 0, None], [None, 0, 0], [0, None, 0]])
def test_a_batch_without_every_acknowledgment_is_sent_again(feed, order):
    feed.reason = None
    feed.deny(3)
    feed.steps(1)
    for message, reason in zip([*feed.sent], order, strict=True):
        if reason is not None:
            message.done(reason)
    feed.steps(3)
    assert feed.note < 1

    feed.restart()
    feed.reason = 0
    feed.until(lambda: feed.note == 3)

    assert feed.got == [1, 2, 3, 1, 2, 3]


def test_what_the_broker_refuses_is_not_delivered(feed):
    feed.deny(2)
    feed.reason = 0x87
    feed.steps(5)
    assert feed.note < 1

    feed.reason = 0
    feed.until(lambda: feed.note == 2)

    assert feed.got[-2:] == [1, 2]


def test_what_nobody_has_subscribed_to_is_kept_and_tried_again_later(feed):
    feed.deny(5)
    feed.reason = NOBODY
    feed.steps(1)
    tried = len(feed.sent)
    feed.steps(EventFeed.unread_s - 20)
    assert (len(feed.sent), feed.note) == (tried, -1)

    feed.reason = 0
    feed.steps(30)

    assert feed.got[tried:] == [1, 2, 3, 4, 5]


def test_an_old_answer_counts_for_nothing_after_a_rewind(feed):
    """Sent again since, it may be acknowledged only by the answer to that."""
    feed.reason = None
    feed.deny(2)
    feed.steps(1)
    first, second = feed.sent
    first.done(NOBODY)
    second.done(0)
    feed.steps(2)

    assert feed.note == -1


def test_the_owner_of_the_records_can_have_them_again(feed):
    feed.deny(20)
    feed.until(lambda: feed.note == 20)

    assert feed.part.resend(15)
    feed.until(lambda: feed.note == 20)
    feed.steps(2)

    assert feed.got[20:] == [16, 17, 18, 19, 20]


@pytest.mark.parametrize(("since", "count"), [(0, 5), (3, 2), (5, 0), (99, 0)])
def test_records_are_asked_for_from_any_id(feed, since, count):
    feed.deny(5)
    feed.until(lambda: feed.note == 5)

    assert feed.part.resend(since)
    feed.steps(5)

    assert len(feed.got) == 5 + count


def test_records_that_are_asked_for_do_not_wait_for_the_next_try(feed):
    feed.reason = NOBODY
    feed.deny()
    feed.steps(5)
    feed.reason = 0
    feed.part.resend(0)
    feed.steps(1)

    assert feed.note == 1 or feed.got[-1] == 1


def test_another_log_is_sent_from_its_beginning(feed, tmp_path):
    feed.deny(9)
    feed.until(lambda: feed.note == 9)
    feed.log.close()
    for file in tmp_path.glob("doorpi.db*"):
        file.unlink()
    feed.deny(2)
    feed.until(lambda: feed.note == 2)

    assert feed.got[9:] == [1, 2]


def test_names_that_are_removed_from_old_rows_are_not_sent_again(feed):
    feed.end(feed.begin())
    feed.until(lambda: feed.note == 1)
    run_sql(feed.log.path, "UPDATE events SET holder = ''")
    feed.steps(700)
    feed.restart()
    feed.steps(700)

    assert feed.got == [1]


def test_nothing_is_written_while_nothing_happens(feed):
    feed.deny()
    feed.until(lambda: feed.note == 1)
    before = feed.context.store.path.stat().st_mtime_ns
    wal = feed.context.store.path.with_name("online.db-wal").stat().st_size
    feed.steps(3600)

    assert feed.context.store.path.stat().st_mtime_ns == before
    assert feed.context.store.path.with_name("online.db-wal").stat().st_size == wal


def test_events_can_be_left_out(context):
    feed = Feed(context, events=False)
    feed.deny()
    feed.steps(5)

    assert not feed.part.resend(0)
    assert not feed.sent


# -- what stays here


@pytest.mark.parametrize("uid", ["04A93C715ED284", "04:A9:3C:71:5E:D2:84", "04a93c71"])
def test_a_uid_leaves_only_where_the_settings_say_so(context, uid):
    words = f"by root: {uid} -> Ken"
    event = Event(NOON, doorpi.Uid(uid), NAME, Change.ALLOW, detail=words, note=uid)
    context.events.record(event)
    feed = Feed(context)
    feed.steps(1)
    assert uid not in feed.texts("events")[0]
    assert "uid" not in feed.json("events")
    assert "by root: " in feed.json("events")["detail"]

    feed.restart(table(uids=True))
    feed.part.resend(0)
    feed.steps(1)

    assert feed.json("events")["uid"] == uid
    assert feed.json("events")["detail"] == f"{uid}; {words}"


def test_without_names_no_event_has_one(context):
    feed = Feed(context, names=False)
    context.events.record(Event(NOON, KEN, NAME, Change.ALLOW, detail=f"by x: {NAME}"))
    feed.end(feed.begin())
    feed.steps(1)

    assert [each["holder"] for each in feed.all_json("events")] == ["", ""]
    assert "Sato" not in json.dumps(feed.all_json("events"), ensure_ascii=False)
