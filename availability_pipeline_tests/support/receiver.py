"""A local receiver of alerts: what Apprise's `json://` sends, and every way to misbehave."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from availability_pipeline_tests.support.servers import Server

SECRET = "hunter2-s3cret"


class Receiver:
    """`log` is what was taken; `mode` is one of take, slow, refuse, hang and drip.

    `slow` takes a message and answers after `seconds`. `at` is when each of `log` came (monotonic).
    """

    def __init__(self, port: int) -> None:
        self.url = f"json://{SECRET}:{SECRET}@127.0.0.1:{port}/{SECRET}"
        self.mode = "take"
        self.seconds = 0.0
        self.asked = 0
        self.log: list[dict[str, str]] = []
        self.at: list[float] = []
        self.ended = threading.Event()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.log]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.asked += 1
            came = time.monotonic()
            # What began to drip must not end well because the mode changes: it is not in the log.
            mode = receiver.mode
            if mode == "hang":
                receiver.ended.wait(60)
                return
            if mode == "slow":
                receiver.ended.wait(receiver.seconds)
            if mode in ("take", "slow"):
                receiver.at.append(came)
                receiver.log.append(json.loads(body))
            self.send_response(500 if mode == "refuse" else 200)
            self.end_headers()
            until = came + 60
            while mode == "drip" and time.monotonic() < until:
                try:
                    self.wfile.write(b".")
                except OSError:
                    return
                if receiver.ended.wait(0.2):
                    return

        def log_message(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
