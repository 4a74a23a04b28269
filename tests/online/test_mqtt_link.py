"""The link to a broker, a real one: how it comes up, and how it ends.  Each known
trouble of paho-mqtt has its test."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import doorpi
from doorpi import (
    MQTT_NO_READERS,
    MQTT_NOT_AUTHORIZED,
    MQTT_TOO_LARGE,
    MqttLink,
    MqttPart,
    Secret,
)
from tests.helpers.broker import (
    PASSWORD,
    Broker,
    Linked,
    Peer,
    Proxy,
    QuickLink,
    free_port,
    running,
    with_access,
)
from tests.helpers.processes import open_files, wait_for

DOOR = "doorpi/main/front"
ONLINE = f"{DOOR}/online"


class Online(MqttPart):
    """Says that it is up."""

    def __init__(self, link: MqttLink) -> None:
        self.link = link

    def up(self) -> None:
        self.link.publish(ONLINE, "online", is_retained=True)


class Echo(Online):
    """Repeats what it hears, too, and publishes what the test puts into ``out``."""

    def __init__(self, link: MqttLink) -> None:
        super().__init__(link)
        self.filters = {f"{DOOR}/do/+": False}
        self.heard, self.ups = list[Any](), 0
        self.out, self.answers = list[tuple[str, str]](), list[int]()

    def up(self) -> None:
        self.ups += 1
        super().up()

    def hear(self, message: Any) -> None:
        self.heard.append(message)
        self.link.publish("echo", message.payload, correlation=b"7")

    def step(self) -> float:
        while self.out and self.link.publish(*self.out[0], done=self.answers.append):
            del self.out[0]
        return 0.01


def echo_of(linked: Linked) -> Echo:
    (part,) = (part for part in linked.link.parts if isinstance(part, Echo))
    return part


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    proxy = Proxy(broker.port)
    yield proxy
    proxy.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# -- up


def test_the_door_is_online_until_its_link_ends(
    broker: Broker, links: Callable[..., Linked], peers: Callable[..., Peer]
):
    peer, linked = peers(broker.port, ONLINE), links(broker.port, Echo)

    assert peer.wait(ONLINE, "online").text == "online"
    linked.until("")
    linked.stop()

    assert peer.wait(ONLINE, "offline")
    assert peers(broker.port, ONLINE).wait(ONLINE).is_retained


def test_a_part_hears_and_publishes(broker, links, peers):
    peer, linked = peers(broker.port, "echo"), links(broker.port, Echo)
    linked.until("")

    peer.say(f"{DOOR}/do/ken", b"hello")

    assert peer.wait("echo").text == "hello"
    assert peer.heard[0].properties.CorrelationData == b"7"


def test_who_publishes_learns_what_the_broker_answered(broker, links, peers):
    peers(broker.port, "somebody")
    linked = links(broker.port, Echo)
    echo_of(linked).out += [("somebody", "1"), ("nobody", "2")]

    wait_for(lambda: len(echo_of(linked).answers) == 2)
    assert echo_of(linked).answers == [0, MQTT_NO_READERS]


def test_a_client_has_no_session_and_a_will(broker, links):
    links(broker.port, Echo).until("")

    assert "as doorpi-main-front (p5, c1, k20)" in broker.log
    assert "Will message specified (7 bytes) (r1, q1)." in broker.log


# -- what a broker refuses


@pytest.fixture
def guarded(tmp_path) -> Iterator[Broker]:
    """A broker with users, where the door may not publish everything."""
    rules = (
        f"user front\ntopic write {DOOR}/+\ntopic write echo\ntopic read {DOOR}/do/+\n"
    )
    rules += "user ha\ntopic readwrite #\n"
    with running(tmp_path, with_access(tmp_path, rules, "front", "ha")) as broker:
        yield broker


def test_a_wrong_password_is_said_once_and_tried_again_after_a_minute(
    guarded, links, caplog
):
    caplog.set_level(logging.INFO, "doorpi")
    with_proxy = Proxy(guarded.port)

    class Hasty(QuickLink):
        refused_s = 0.1

    patient = links(with_proxy.port, Echo, password=Secret("wrong"))
    patient.until("mqtt.user")
    hasty = links(guarded.port, Echo, password=Secret("wrong"), kind=Hasty)
    wait_for(lambda: guarded.log.count("not authorised") >= 4)

    assert "mqtt.user" in hasty.state
    assert with_proxy.count == 1
    assert len([each for each in lines(caplog) if "refused" in each]) == 2
    assert "wrong" not in caplog.text
    with_proxy.close()


def test_a_refused_topic_is_said_once_and_stops_nothing_else(
    guarded, links, peers, caplog
):
    caplog.set_level(logging.INFO, "doorpi")
    login = {"user": "ha", "password": PASSWORD}

    class Hasty(QuickLink):
        refused_s = 0.2

    linked = links(guarded.port, Echo, password=Secret(PASSWORD), kind=Hasty)
    peer, part = peers(guarded.port, ONLINE, "elsewhere", **login), echo_of(linked)
    part.out += [("elsewhere", "1")]
    linked.until("refused elsewhere")
    part.out += [("elsewhere", "2"), ("elsewhere", "3")]
    wait_for(lambda: part.answers == [MQTT_NOT_AUTHORIZED] * 3)
    peer.say(f"{DOOR}/do/ha", "x")

    wait_for(lambda: part.heard)
    assert peer.texts(ONLINE) == ["online"]
    assert len([each for each in lines(caplog) if "elsewhere" in each]) == 1
    part.trouble = "a list was refused"
    linked.until("a list was refused; 127.0.0.1 refused elsewhere")
    part.trouble = ""
    access = guarded.folder / "access"
    access.write_text(access.read_text().replace("user ha", "topic write #\nuser ha"))
    guarded.send(signal.SIGHUP)
    wait_for(lambda: "Reloading config" in guarded.log)
    peer.say(f"{DOOR}/do/ha", "x")  # answered when the list is in force
    part.out += [("elsewhere", "4")]
    linked.until("")
    peer.wait("elsewhere", "4")
    assert part.ups == 1


def test_what_is_too_large_for_the_broker_does_not_end_the_link(tmp_path, links):
    limits = "allow_anonymous true\nmax_packet_size 1000\n"
    with running(tmp_path, limits) as broker:
        linked = links(broker.port, Echo)
        part = echo_of(linked)
        part.out += [("large", "x" * 990), ("small", "x" * 900)]

        wait_for(lambda: len(part.answers) == 2)
        assert part.answers == [MQTT_TOO_LARGE, MQTT_NO_READERS]
        assert part.ups == 1
        assert "large" in linked.state


def examined(linked: Linked, folder: Path, **changes: Any) -> list[doorpi.Finding]:
    table = linked.table._replace(**changes)
    return [*doorpi.diagnose_table("mqtt", table, folder, linked.clock)]


def test_doctor_tries_the_broker_beside_the_service(guarded, links, tmp_path):
    linked = links(guarded.port, Echo, password=Secret(PASSWORD))
    linked.until("")
    other = Pretender(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    *_, right = examined(linked, tmp_path)
    *_, wrong = examined(linked, tmp_path, password=Secret("wrong"))
    *_, strange = examined(linked, tmp_path, port=other.port)
    (away,) = examined(linked, tmp_path, port=free_port())

    assert [right.health, wrong.health, strange.health, away.health] == [
        "ok", "fail", "fail", "fail",
    ]  # fmt: skip
    assert "mqtt.user" in wrong.words
    assert "8883" in strange.do
    assert linked.state == ""
    assert guarded.log.count("as doorpi-main-front ") == 1  # of the service alone
    other.close()


# -- TLS


@pytest.fixture
def secure(tmp_path) -> Iterator[tuple[Broker, trustme.CA]]:
    """A broker with TLS that takes only clients with a certificate."""
    ca = trustme.CA(organization_name="Our own CA")
    mine, front = ca.issue_cert("127.0.0.1"), ca.issue_cert(common_name="front")
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    for name, cert in (("broker", mine), ("front", front)):
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
    text = "cafile {0}/ca.crt\ncertfile {0}/broker.crt\nkeyfile {0}/broker.key\n"
    more = "require_certificate true\nuse_identity_as_username true\n"
    with running(tmp_path, text.format(tmp_path) + more) as broker:
        yield broker, ca


def certified(folder: Path, ca: trustme.CA, name: str = "front") -> dict[str, Any]:
    return {
        "tls": True, "trusted": ca.cert_pem.bytes().decode(),
        "cert_file": str(folder / f"{name}.crt"), "key_file": str(folder / f"{name}.key"),
    }  # fmt: skip


def test_tls_with_a_clients_certificate(secure, links, tmp_path):
    broker, ca = secure
    linked = links(broker.port, Echo, **certified(tmp_path, ca))
    linked.until("")

    echo_of(linked).out += [(f"{DOOR}/event", "x" * 40_000)]
    wait_for(lambda: echo_of(linked).answers == [MQTT_NO_READERS])
    assert "u'front'" in broker.log
    reached, certificate, accepted = examined(linked, tmp_path)
    assert {reached.health, certificate.health, accepted.health} == {"ok"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho
def test_a_broker_with_another_certificate_is_not_trusted(secure, links, tmp_path):
    broker, _ = secure
    proxy = Proxy(broker.port)
    other = trustme.CA(organization_name="Somebody else's")
    linked = links(proxy.port, Echo, **certified(tmp_path, other))

    assert "TLS" in linked.until("cannot reach")
    time.sleep(0.2)
    assert proxy.count == 1  # the next one comes in a minute
    proxy.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho
def test_a_broker_of_another_name_is_not_trusted(secure, links, tmp_path):
    broker, ca = secure
    linked = links(broker.port, Echo, **certified(tmp_path, ca), host="localhost")

    assert "mismatch" in linked.until("cannot reach")


def test_a_key_that_does_not_fit_is_said(secure, links, tmp_path):
    broker, ca = secure
    wrong = certified(tmp_path, ca) | {"key_file": str(tmp_path / "broker.key")}

    assert "KEY_VALUES_MISMATCH" in links(broker.port, **wrong).until("cannot reach")


# -- links that fail


def test_at_most_16_messages_are_under_way_and_none_outlives_its_connection(
    broker, proxy, links, peers
):
    peer, linked = peers(broker.port, "news"), links(proxy.port, Echo)
    part = echo_of(linked)
    linked.until("")
    wait_for(lambda: linked.link.room == 16)
    proxy.is_frozen = True
    part.out += [("news", str(number)) for number in range(20)]
    wait_for(lambda: len(part.out) == 4)
    time.sleep(0.05)
    assert (len(part.out), linked.link.room) == (4, 0)
    proxy.cut()
    proxy.is_frozen = False

    wait_for(lambda: len(part.answers) == 4)
    assert peer.texts("news") == ["16", "17", "18", "19"]
    assert part.ups == 2


@pytest.mark.realtime
def test_a_frozen_link_is_noticed_within_twice_the_keepalive(proxy, links):
    class Watchful(QuickLink):
        keepalive_s, answer_s = 1, 0.5

    linked = links(proxy.port, Echo, kind=Watchful)
    linked.until("")
    proxy.is_frozen = True
    began_at = time.monotonic()

    linked.until("127.0.0.1")
    assert time.monotonic() - began_at < 3.0
    proxy.cut()
    proxy.is_frozen = False
    linked.until("")


def test_a_link_comes_back_after_its_broker(broker, links, peers):
    linked = links(broker.port, Echo)
    linked.until("")
    broker.stop()
    linked.until("127.0.0.1")
    broker.start()

    assert peers(broker.port, ONLINE).wait(ONLINE, "online")
    linked.until("")
    assert echo_of(linked).ups == 2


def test_a_link_that_is_lost_again_and_again_hints_at_another_program(proxy, links):
    linked = links(proxy.port, Echo)

    for number in range(1, 4):
        wait_for(lambda number=number: echo_of(linked).ups == number, within_s=20)
        linked.until("")
        proxy.cut()
        said = linked.until("was lost")
        assert ("another program" in said) == (number == 3)


def test_reconnects_leave_nothing_behind(proxy, links):
    from paho.mqtt.client import Client

    class Steady(QuickLink):
        steady_s = 0.0

    linked = links(proxy.port, Echo, kind=Steady)

    def clients() -> int:
        gc.collect()
        return len([each for each in gc.get_objects() if type(each) is Client])

    for number in range(1, 12):
        wait_for(lambda number=number: echo_of(linked).ups == number)
        linked.until("")
        if number == 2:  # online.db is open as well
            files, threads, before = open_files(), threading.active_count(), clients()
        proxy.cut()
    wait_for(lambda: echo_of(linked).ups == 12)
    linked.until("")

    wait_for(lambda: open_files() <= files + 1)
    assert threading.active_count() <= threads + 2  # the proxy's
    assert clients() <= before


# -- servers that are no brokers

CONNACK = bytes.fromhex("20 03 00 00 00")


class Pretender:
    """Answers each connection with some bytes, and leaves it open."""

    def __init__(self, answer: bytes) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port, self._answer = self._server.getsockname()[1], answer
        self.count, self._open = 0, list[socket.socket]()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                found, _ = self._server.accept()
                self.count += 1
                self._open.append(found)
                found.sendall(self._answer)
        except OSError:
            return

    def close(self) -> None:
        for each in (self._server, *self._open):
            each.close()


def test_a_client_that_is_taken_over_three_times_in_a_minute_waits(links):
    server = Pretender(CONNACK + bytes.fromhex("e0 02 8e 00"))
    linked = links(server.port, Echo)

    wait_for(lambda: server.count == 3)
    assert "doorpi-main-front" in linked.until("mqtt.door")
    time.sleep(0.5)
    assert server.count == 3  # the next one comes in five minutes
    server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"\xff" * 64,
        b"\x15\x03\x01\x00\x02\x02\x50", bytes.fromhex("20 02 00 00"),
        bytes.fromhex("20 03 00 87 00"), CONNACK + b"\xff" * 64,
        CONNACK + bytes.fromhex("30 03 00 01 ff"), CONNACK + b"\x30\x02\xff\xff",
        CONNACK + bytes.fromhex("40 02 00 07"), CONNACK + bytes.fromhex("90 00"),
        CONNACK + bytes.fromhex("e0 00"), bytes.fromhex("20 06 00 00 03 99 00 00"),
        CONNACK + bytes.fromhex("30 09 00 01 61 03 09 ff ff 61 62"),
    ],
    ids=lambda answer: answer[:12].hex(),
)  # fmt: skip
def test_what_is_not_mqtt_is_said_and_neither_ends_the_service_nor_is_a_fault(
    answer, links
):
    class Hasty(QuickLink):
        refused_s, answer_s, keepalive_s = 0.1, 0.2, 1

    server = Pretender(answer)
    linked = links(server.port, Echo, kind=Hasty)

    wait_for(lambda: server.count >= 2 or (server.count and not linked.state))
    assert "fault" not in linked.state
    assert linked.thread.thread.is_alive()
    server.close()


def test_a_service_that_waits_for_an_answer_ends_at_once(links):
    server = Pretender(b"")
    linked = links(server.port, Echo)
    wait_for(lambda: server.count)
    began_at = time.monotonic()

    linked.stop()

    assert time.monotonic() - began_at < 1.0
    server.close()


# -- parts that fail


def test_a_part_that_fails_is_a_trouble_and_stops_no_other(broker, links, peers):
    class Broken(Echo):
        def up(self) -> None:
            raise doorpi.StoreError("disk I/O error")

        def hear(self, message: Any) -> None:
            raise KeyError(message)

        def step(self) -> float:
            raise ZeroDivisionError

    peer, linked = peers(broker.port, ONLINE), links(broker.port, Broken, Online)
    peer.wait(ONLINE, "online")
    linked.until("ZeroDivisionError")
    peer.say(f"{DOOR}/do/ken", b"hello")

    linked.until("KeyError")
    assert echo_of(linked).ups == 0
    assert linked.link.room > 0
