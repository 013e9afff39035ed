"""The root of a published record: files by their paths, from a web server or a folder, bounded.

Python's own HTTP client in threads, a connection each that is kept open: whoever only reads the
record has neither urllib3 nor boto3 installed. A request ends within TIMEOUTS read timeouts and a
second for each SLOWEST bytes, whatever the server drips (`archive.deadlines`). Certificates are
verified. A redirect is followed to http and https only, and never from https to http.
"""

import http.client
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from availability_pipeline import PROGRAM, settings
from availability_pipeline.archive import deadlines
from availability_pipeline.copies.publication import LATEST
from availability_pipeline.errors import FollowError
from availability_pipeline.masking import mask, printable
from availability_pipeline.settings import is_address

TIMEOUTS = 10
"""A request ends within so many read timeouts, and the time that its bytes take at SLOWEST."""

SLOWEST = 50_000
"""Bytes a second; less counts as stalled."""

REDIRECTS = 5

_CHUNK = 2**16
_PLAIN = {"http": 80, "https": 443}


class UnreachableError(FollowError):
    """A file was not had, and may be another time: refused, cut off, too slow, or not there.

    Attributes:
        again: whether another try at once may help.
    """

    def __init__(self, text: str, *, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


def is_site(text: str) -> bool:
    """Whether a text is an address that can be followed, and not the path of a file."""
    return text.lower().startswith(("http://", "https://", "file://"))


def site(address: str | Path, timeout_seconds: float) -> "Web | Folder":
    """The root that an http or https address, a `file://` one, or the path of a folder names.

    The address of one of the root's own files (`index.html`, `latest.json`) is that of the root.

    Raises:
        FollowError: it names none.
    """
    text = str(address).strip()
    if not is_address(text):
        return Folder(Path(text).expanduser().absolute())
    shown = printable(mask(text))[:200]
    try:
        url = urlsplit(text)
        known = url.scheme in ("http", "https", "file") and url.port != 0
    except ValueError:  # brackets that are not those of an IPv6 address, a port that is none
        known = False
    if not known:
        raise FollowError(
            f"{shown} is not a published record's address; give https://host/path, or a folder"
        )
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path:
        return Folder(Path(unquote(url.path)))
    if url.scheme == "file" or not url.hostname:
        raise FollowError(f"{shown} has no host; give https://host/path, or a folder")
    if "@" in url.netloc or url.query or url.fragment:
        raise FollowError(
            f"{shown}: nothing is asked with credentials; give an address without user, password "
            "and query"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise FollowError(f"{shown} is not an address; write what is not ASCII as %XX")
    path = url.path.rstrip("/")
    for name in (LATEST, "index.html"):
        path = path.removesuffix(f"/{name}")
    return Web(f"{url.scheme}://{url.netloc.lower()}{path.rstrip('/')}", timeout_seconds)


class Folder:
    """A folder with a published record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    def read(self, path: str, most: int) -> bytes:
        """The content of a file below the root, of no more than so many bytes.

        Raises:
            UnreachableError: it is not there, or cannot be read.
            FollowError: it is longer.
        """
        try:
            with (self.path / path).open("rb") as file:
                content = file.read(most + 1)
        except FileNotFoundError:
            raise _lacking(self.address, path, "") from None
        except OSError as error:
            raise UnreachableError(
                f"cannot read {printable(str(self.path / path))}: {error.strerror}"
            ) from None
        if len(content) > most:
            raise _longer(self.address, path, most)
        return content

    def stop(self) -> None:
        """Nothing is under way here."""

    def close(self) -> None:
        """Nothing is kept open here."""


class Web:
    """A web server.

    Args:
        address: of the root, without a slash at its end.
        timeout_seconds: to wait for a connection, or for more of an answer.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self.address = self._base = address
        self._timeout = timeout_seconds
        self._context: ssl.SSLContext | None = None
        self._own = threading.local()  # each thread's connections
        self._lines: list[_Line] = []
        self._requests: set[deadlines.Request] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def read(self, path: str, most: int) -> bytes:
        """The content of a file below the root, of no more than so many bytes.

        Raises:
            UnreachableError: refused, unreachable, cut off, too slow, or not there.
            FollowError: it is longer, or elsewhere than at http or https.
        """
        asked = url = f"{self._base}/{quote(path)}"
        for _ in range(REDIRECTS + 1):
            with self._within(most) as request:
                moved, content = self._ask(url, path, most, request)
            if moved is None:
                # So that the others need not be redirected, too.
                if url != asked and url.endswith(f"/{path}"):
                    self._base = url.removesuffix(f"/{path}")
                return content
            url = self._redirected(url, moved)
        raise UnreachableError(f"{self.address} redirects more than {REDIRECTS} times")

    def stop(self) -> None:
        """End what is under way in other threads, and begin nothing more."""
        with self._lock:
            self._stopped = True
            under_way = list(self._requests)
        for request in under_way:
            request.end()

    def close(self) -> None:
        """Let go of the connections."""
        for line in self._lines:
            line.close()

    @contextmanager
    def _within(self, most: int) -> Iterator[deadlines.Request]:
        with deadlines.within(TIMEOUTS * self._timeout + most / SLOWEST) as request:
            with self._lock:
                if self._stopped:
                    raise UnreachableError("stopped")
                self._requests.add(request)
            try:
                yield request
            finally:
                with self._lock:
                    self._requests.discard(request)

    def _ask(
        self, url: str, path: str, most: int, request: deadlines.Request
    ) -> tuple[str | None, bytes]:
        """Where it has moved to, or its content."""
        try:
            line = self._line(urlsplit(url))
            used = line.sock is not None
            try:
                answer = line.ask(url, request)
            except (ConnectionError, http.client.BadStatusLine):
                # The server may let go of a connection that was not used for a while.
                if not used or request.late:
                    raise
                line.close()
                answer = line.ask(url, request)
            moved = answer.headers.get("Location") if 300 <= answer.status < 400 else None
            content = self._body(answer, path, most if answer.status == 200 else 0)
            if answer.will_close or not answer.isclosed():
                line.close()
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            self._hang_up()
            raise self._unreachable(error, request) from None
        except BaseException:
            self._hang_up()
            raise
        if moved is not None:
            return moved, b""
        if answer.status != 200:
            raise self._refused(answer.status, path)
        return None, content

    def _body(self, answer: http.client.HTTPResponse, path: str, most: int) -> bytes:
        if not most:  # a redirect's or an error's
            answer.read(_CHUNK)
            return b""
        if (encoding := answer.headers.get("Content-Encoding", "identity")) != "identity":
            raise UnreachableError(
                f"{self.address} sends {path} as {printable(encoding)[:40]}, which was not asked "
                "for; have the server send files as they are"
            )
        promised = answer.length
        if promised is not None and promised > most:
            raise _longer(self.address, path, most)
        chunks, size = [], 0
        while chunk := answer.read(min(_CHUNK, most + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise _longer(self.address, path, most)
        content = b"".join(chunks)
        if promised is not None and size < promised:
            raise http.client.IncompleteRead(content, promised - size)
        return content

    def _line(self, url: SplitResult) -> "_Line":
        if not hasattr(self._own, "lines"):
            self._own.lines = {}
        lines: dict[tuple[str, str | None, int | None], _Line] = self._own.lines
        origin = (url.scheme, url.hostname, url.port)
        if origin not in lines:
            if url.scheme == "https" and self._context is None:
                self._context = ssl.create_default_context()
            lines[origin] = _Line(url, self._timeout, self._context)
            self._lines.append(lines[origin])
        return lines[origin]

    def _hang_up(self) -> None:
        """No answer half read stays on a connection."""
        for line in getattr(self._own, "lines", {}).values():
            line.close()

    def _redirected(self, url: str, to: str) -> str:
        shown = printable(mask(to))[:120]
        try:
            target = urljoin(url, to)
            parts = urlsplit(target)
            good = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            good = False
        good = good and target.isascii() and target.isprintable() and " " not in target
        if not good or parts.scheme not in _PLAIN:
            raise FollowError(f"{self.address} redirects to {shown}, which is not followed")
        if (urlsplit(url).scheme, parts.scheme) == ("https", "http"):
            raise FollowError(
                f"{self.address} redirects from https to {shown}, which is not followed"
            )
        return target

    def _refused(self, status: int, path: str) -> UnreachableError:
        if status in (404, 410):
            return _lacking(self.address, path, f" (HTTP {status})")
        again = status == 429 or status >= 500
        return UnreachableError(f"{self.address} answers HTTP {status} for {path}", again=again)

    def _unreachable(self, error: Exception, request: deadlines.Request) -> UnreachableError:
        if request.late or isinstance(error, TimeoutError):
            return UnreachableError(f"{self.address} is too slow: no whole answer in time")
        if isinstance(error, ssl.SSLCertVerificationError):
            return UnreachableError(
                f"{self.address} has a certificate that is not good: {error.verify_message}"
            )
        if isinstance(error, http.client.IncompleteRead):
            return UnreachableError(f"{self.address} cut an answer off", again=True)
        if isinstance(error, OSError) and error.strerror:
            why = error.strerror
        else:
            why = type(error).__name__
        again = isinstance(error, ConnectionError | http.client.HTTPException)
        return UnreachableError(f"cannot reach {self.address}: {printable(why)[:100]}", again=again)


class _Line(http.client.HTTPConnection):
    """A connection to one origin, through the proxy that the environment names, if it names one.

    `HTTPSConnection` begins TLS before anything could watch its socket.
    """

    def __init__(self, url: SplitResult, timeout: float, context: ssl.SSLContext | None) -> None:
        self._name = url.hostname or ""
        self._secure = context if url.scheme == "https" else None
        self._deadline: deadlines.Request | None = None
        self._headers = {"User-Agent": PROGRAM, "Accept-Encoding": "identity"}
        port = url.port or _PLAIN[url.scheme]
        proxy = settings.proxy_for(f"{url.scheme}://{url.netloc}")
        self._through = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        if self._through is None:
            super().__init__(self._name, port, timeout=timeout)
        else:
            super().__init__(self._through.hostname or "", self._through.port, timeout=timeout)
            login = {}
            if self._through.username:
                pair = f"{self._through.username}:{self._through.password or ''}"
                login["Proxy-Authorization"] = f"Basic {b64encode(unquote(pair).encode()).decode()}"
            if self._secure:
                self.set_tunnel(self._name, port, login)
            else:
                self._headers |= login
        if self._secure:
            self.default_port = _PLAIN["https"]

    def connect(self) -> None:
        super().connect()
        if self._deadline:
            self._deadline.watch(self.sock)
        if self._secure:
            self.sock = self._secure.wrap_socket(self.sock, server_hostname=self._name)

    def ask(self, url: str, request: deadlines.Request) -> http.client.HTTPResponse:
        """Ask for an address of this origin."""
        self._deadline = request
        if self.sock is not None:
            request.watch(self.sock)
        whole = self._through is not None and self._secure is None
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.request("GET", url.partition("#")[0] if whole else path, headers=self._headers)
        return self.getresponse()

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _lacking(address: str, path: str, how: str) -> UnreachableError:
    if path == LATEST:
        return UnreachableError(
            f"{address} has no {LATEST}{how}; give the address of a published record's root"
        )
    return UnreachableError(
        f"{address} has no {path}{how}, which its newest publication names; try again later"
    )


def _longer(address: str, path: str, most: int) -> FollowError:
    return FollowError(f"{address} sends more for {path} than {most:,} bytes; it was not read")
