"""An S3 endpoint that holds back its answers until told, and whose clock may be wrong."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.servers import Server

PATIENT = {"AVAILABILITY_S3_TIMEOUT_SECONDS": str(PATIENCE)}
"""Settings of whoever asks at a gate: else the request would be given up after 30 s, while a busy
machine still starts what the test needs before it opens."""


class Gate:
    """In front of another endpoint.

    `open` lets requests through, `waiting` says that one was held back, `seconds_ahead` is how
    far its clock is ahead of ours.
    """

    def __init__(self, behind: str) -> None:
        self.open, self.waiting = threading.Event(), threading.Event()
        self.seconds_ahead = 0.0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gate.waiting.set()
                gate.open.wait()
                try:
                    with urllib.request.urlopen(behind + self.path, timeout=PATIENCE) as answer:
                        body, status = answer.read(), answer.status
                except urllib.error.HTTPError as error:
                    body, status = error.read(), error.code
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever asked was killed meanwhile

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((timestamp or time.time()) + gate.seconds_ahead)

            def log_message(self, *args: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Hold back requests again."""
        self.open.clear()
        self.waiting.clear()


@contextmanager
def gate(behind: str) -> Iterator[Gate]:
    """A gate, closed at first."""
    made = Gate(behind)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.open.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join()
