"""A local download host: a body for every key, and its CHECKSUM, made up from the key alone.

    python -m benchmarks.body_server --bytes 20000 --latency-ms 20     # prints its URL

Every key of the archive's grammar has a body: one of 64 of about the size that was asked for, by
the key's CRC. So a record of any number of files can be downloaded without one of them being
stored, and `etag` and `size` say beforehand what a record must have for it.
"""

import hashlib
import random
import zlib
from dataclasses import dataclass
from functools import cache

from benchmarks import archive_server

VARIANTS = 64


@dataclass(frozen=True)
class Body:
    """What a key has, with its sums in hex."""

    content: bytes
    md5: str
    sha256: str


@cache
def bodies(size: int) -> tuple[Body, ...]:
    """The bodies, of 50 to 150 % of `size` bytes; the same in every process."""
    made = []
    for n in range(VARIANTS):
        content = random.Random(n).randbytes(size // 2 + n * size // VARIANTS)
        md5 = hashlib.md5(content).hexdigest()
        made.append(Body(content, md5, hashlib.sha256(content).hexdigest()))
    return tuple(made)


def variant(key: str) -> int:
    """Which of them a key has."""
    return zlib.crc32(key.encode()) % VARIANTS


class _Bodies(archive_server.Connection):
    def __init__(self, size: int, latency: float) -> None:
        super().__init__(latency)
        self._bodies = bodies(size)

    def respond(self, head: bytes) -> bytes:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        key = target.lstrip("/")
        if not key.startswith("data/"):
            key = key.partition("/")[2]
        if key.endswith(".CHECKSUM"):
            name = key.rpartition("/")[2].removesuffix(".CHECKSUM")
            body = self._bodies[variant(key.removesuffix(".CHECKSUM"))]
            content = f"{body.sha256}  {name}\n".encode()
            return archive_server.answer(200, len(content), "text/plain") + content
        body = self._bodies[variant(key)]
        more = f'ETag: "{body.md5}"\r\nAccept-Ranges: bytes\r\n'
        answer = archive_server.answer(200, len(body.content), "application/zip", more)
        return answer if method == "HEAD" else answer + body.content


if __name__ == "__main__":
    parser = archive_server.options(__doc__ or "")
    parser.add_argument("--bytes", type=int, default=20_000, help="mean size of a body")
    given = parser.parse_args()
    archive_server.serve_with(lambda: _Bodies(given.bytes, given.latency_ms / 1000), given)
