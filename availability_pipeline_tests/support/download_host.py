"""A download host that serves the files it is given, and misbehaves as it is told."""

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock, Thread
from urllib.parse import unquote

from availability_pipeline_tests.support.servers import Server


@dataclass
class Fault:
    """What happens to a request of a key instead of an answer, so many times.

    Attributes:
        kind: `flip` a byte, `cut` the body, answer with the HTTP `status`, `reset` the connection,
            `stall` in the body until the host is closed, `drip` it byte by byte, `move` elsewhere,
            `longer` than promised, `gzip` it as the headers say; `hang up` after the answer.
        times: how often; then the host is well again.
        status: of `status`.
        where: of `move`.
    """

    kind: str
    times: int = 10**9
    status: int = 503
    where: str = "http://elsewhere.example/x"


@dataclass
class Host:
    """The host.

    Attributes:
        url: to put keys after.
        files: key -> content.
        checksums: key -> text of its CHECKSUM, where it is not the right one; None for none at all.
        faults: by key, or `*` for all.
        asked: how often each path was asked for.
        served: bytes of bodies by key.
        before: called with each key before it is answered.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    checksums: dict[str, str | None] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None
    closing: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def checksum(self, key: str) -> str | None:
        """What the CHECKSUM of a key says."""
        if key in self.checksums:
            return self.checksums[key]
        if key not in self.files:
            return None
        return f"{hashlib.sha256(self.files[key]).hexdigest()}  {key.rpartition('/')[2]}\n"

    def fault(self, key: str) -> Fault | None:
        """The fault of a request, which counts."""
        with self.lock:
            found = self.faults.get(key) or self.faults.get("*")
            if found is None or found.times <= 0:
                return None
            found.times -= 1
            return found


@contextmanager
def download_host() -> Iterator[Host]:
    """A running one, gone afterwards."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            key = unquote(self.path.lstrip("/"))
            with host.lock:
                host.asked[key] += 1
            host.before(key)
            if key.endswith(".CHECKSUM"):
                text = host.checksum(key.removesuffix(".CHECKSUM"))
                fault = host.fault(key)
                if fault or text is None:
                    self._refuse(fault.status if fault else 404)
                else:
                    self._send(text.encode(), len(text.encode()))
                return
            content, fault = host.files.get(key), host.fault(key)
            if fault and fault.kind == "hang up":
                self._body(key, content or b"", None)
                self.close_connection = True
            elif fault and fault.kind == "reset":
                self.close_connection = True
                self.connection.close()
            elif fault and fault.kind == "status":
                self._refuse(fault.status)
            elif fault and fault.kind == "move":
                self.send_response(302)
                self.send_header("Location", fault.where)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif content is None:
                self._refuse(404)
            else:
                self._body(key, content, fault)

        def do_HEAD(self) -> None:
            content = host.files.get(unquote(self.path.lstrip("/")))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def _body(self, key: str, content: bytes, fault: Fault | None) -> None:
            etag, status, more = hashlib.md5(content).hexdigest(), 200, {}
            asked, only_if = self.headers.get("Range"), self.headers.get("If-Range")
            if asked and only_if in (None, f'"{etag}"'):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start = int(first) if first else len(content) - int(last)
                end = min(int(last), len(content) - 1) if first and last else len(content) - 1
                host.ranges.append(asked)
                more = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
                content, status = content[start : end + 1], 206
            whole = len(content)
            if fault and fault.kind == "flip":
                content = bytes([content[0] ^ 1]) + content[1:]
            if fault and fault.kind == "longer":
                content, whole = content + b"x" * 10, whole + 10
            if fault and fault.kind in ("cut", "stall"):
                content = content[: whole * 3 // 4]
            if fault and fault.kind == "gzip":
                content, more = gzip.compress(content), {"Content-Encoding": "gzip"}
                whole = len(content)
            with host.lock:
                host.served[key] += len(content)
            if fault and fault.kind == "drip":
                self._send(content[:1], whole, status)
                for byte in content[1:]:
                    if host.closing.wait(0.05):
                        return
                    self.wfile.write(bytes([byte]))
                return
            self._send(content, whole, status, {"ETag": f'"{etag}"', **more})
            if fault and fault.kind == "stall":
                host.closing.wait()
            if len(content) < whole:
                self.close_connection = True

        def _send(
            self, body: bytes, length: int, status: int = 200, more: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (more or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def _refuse(self, status: int) -> None:
            self._send(b"<Error/>", 8, status)

        def log_message(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
