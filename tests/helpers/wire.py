"""Servers over real sockets that do not do what they should."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@contextlib.contextmanager
def swallowing_address() -> Iterator[tuple[str, int]]:
    """Who connects to it gets no answer at all: its queue is full."""
    with socket.socket() as hole, socket.socket() as filler:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        filler.connect(hole.getsockname())
        yield hole.getsockname()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Wire:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, server: RawServer) -> None:
        self.sock = sock
        self.server = server

    def request(self) -> bytes:
        """Read one whole request; b"" when the caller has gone."""
        seen = b""
        while not (match := re.search(rb"\r\n\r\n", seen)):
            seen += (data := self._receive())
            if not data:
                return b""
        length = re.search(rb"(?i)content-length: (\d+)", seen)
        whole = match.end() + (int(length[1]) if length else 0)
        while len(seen) < whole:
            seen += (data := self._receive())
            if not data:
                return b""
        self.server.requests.append(seen)
        return seen

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        self.server.received += len(data)
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, every_s: float = 0.05) -> None:
        """A byte at a time, and then its last byte for ever."""
        for byte in itertools.chain(data, itertools.repeat(data[-1])):
            self.send(bytes([byte]))
            if self.server.closing.wait(every_s):
                return

    def flood(self, data: bytes) -> None:
        while not self.server.closing.is_set():
            self.send(data)

    def hang(self) -> None:
        """Until the caller goes away or the test ends."""
        self.sock.settimeout(0.02)
        while not self.server.closing.is_set():
            with contextlib.suppress(TimeoutError):
                if not self._receive():
                    return

    def reset(self) -> None:
        """End with RST, as a router that forgot the connection does."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.sock.close()


class RawServer:
    """Accepts on loopback and leaves each connection to ``serve``, on its own thread."""

    def __init__(
        self,
        serve: Callable[[Wire], object],
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.serve = serve
        self._host = host
        self.tls = tls
        self.connections = 0
        self.closed = 0
        self.received = 0
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        self._guard = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=50)
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def open(self) -> int:
        return self.connections - self.closed

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self._host}:{self.port}"

    def close(self) -> None:
        self.closing.set()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _start(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        with self._listener:
            while not self.closing.is_set():
                with contextlib.suppress(TimeoutError):
                    sock, _ = self._listener.accept()
                    self.connections += 1
                    self._start(self._attend, sock)

    def _attend(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.suppress(OSError):
                if self.tls:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                self.serve(Wire(sock, self))
        finally:
            sock.close()
            with self._guard:
                self.closed += 1


def answers(*parts: bytes) -> Callable[[Wire], None]:
    """A polite server: each request is answered by ``parts``."""

    def serve(wire: Wire) -> None:
        while wire.request():
            for part in parts or (OK,):
                wire.send(part)

    return serve


def served_by(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


class HomeMade:
    """An authority as ``openssl req -x509`` makes it with few options: neither it nor
    what it signs carries an authority key identifier."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "home")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.pem = self._signed(self._name, self._key, constraints)

    def issue_cert(
        self, address: str, years=1, use=ExtendedKeyUsageOID.SERVER_AUTH
    ) -> trustme.LeafCert:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        signed = self._signed(
            subject, key, names, x509.ExtendedKeyUsage([use]), years=years
        )
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return trustme.LeafCert(text, signed, [])

    def _signed(self, subject, key, *extensions, years=1) -> bytes:
        last = datetime.now(UTC) + timedelta(days=365 * years)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(last - timedelta(days=730))
            .not_valid_after(last)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)
