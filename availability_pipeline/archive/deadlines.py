"""A deadline for a whole HTTP request: connecting, TLS, headers and body, however it drips.

A timeout of a socket begins again with each byte, so a server that drips headers, or sends `100
Continue` for ever, would hold a request for ever: http.client reads on until they end. So one
thread shuts late connections down: those of urllib3's pools, botocore's among them, and whatever
else is given to `Request.watch`. Their requests then fail as if the server had closed, and
`Request.late` says why. Nothing here needs urllib3 but `watched`.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool


@dataclass(eq=False)
class Request:
    """A request under a deadline; `late` once its connections were shut."""

    until: float
    late: bool = False
    sockets: list[socket.socket] = field(default_factory=list)

    def watch(self, connected: socket.socket) -> None:
        """Shut this socket, too, when the time is up."""
        # A descriptor of our own: TLS takes the socket's away, and a pool closes what it likes.
        with _lock:
            self.sockets.append(socket.socket(fileno=os.dup(connected.fileno())))
            if self.late:
                self.shut()

    def end(self) -> None:
        """End the request now, from another thread."""
        with _lock:
            self.late = True
            self.shut()

    def shut(self) -> None:
        """End what is read or written there, in whichever thread."""
        for watched in self.sockets:
            with suppress(OSError):  # the other side was faster
                watched.shutdown(socket.SHUT_RDWR)


_lock = threading.Lock()
_begun = threading.Condition(_lock)
_requests: set[Request] = set()
_own = threading.local()  # the request of each thread
_watcher: threading.Thread | None = None
_wakes = 0.0  # when it checks again


@contextmanager
def within(seconds: float) -> Iterator[Request]:
    """This thread's requests through `watched` pools end within so many seconds, all together."""
    global _watcher
    request = Request(time.monotonic() + seconds)
    with _lock:
        _requests.add(request)
        if _watcher is None or not _watcher.is_alive():  # none yet, or of the process before a fork
            _watcher = threading.Thread(target=_watch, name="deadlines", daemon=True)
            _watcher.start()
        elif request.until < _wakes:
            _begun.notify()
    before, _own.request = getattr(_own, "request", None), request
    try:
        yield request
    finally:
        _own.request = before
        with _lock:
            _requests.discard(request)
            for watched in request.sockets:
                watched.close()


def _watch() -> None:
    global _wakes
    with _lock:
        while True:
            now = time.monotonic()
            for request in [r for r in _requests if r.until <= now]:
                request.late = True
                request.shut()
                _requests.discard(request)
            # A request that ends in time leaves the set without a notification: most wake-ups find
            # nothing to do, one a deadline at most.
            _wakes = min((r.until for r in _requests), default=now + 3600)
            _begun.wait(_wakes - now)


class _Watched:
    """A connection of urllib3 whose socket its thread's request watches."""

    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        _watch_for_this_thread(made)
        return made

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self.sock is not None:  # one of before, from the pool
            _watch_for_this_thread(self.sock)
        return super().request(*args, **kwargs)  # type: ignore[misc]


def _watch_for_this_thread(connected: socket.socket) -> None:
    request: Request | None = getattr(_own, "request", None)
    if request is not None:
        request.watch(connected)


def watched(pool: "type[HTTPConnectionPool]") -> "type[HTTPConnectionPool]":
    """The same kind of pool, whose connections end at the deadline of `within`."""
    connection = type(f"Watched{pool.ConnectionCls.__name__}", (_Watched, pool.ConnectionCls), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})
