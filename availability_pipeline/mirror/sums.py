"""What a file's content is verified by: its size, MD5 and SHA-256."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

MD5 = re.compile(r"[0-9a-f]{32}")
"""An ETag that is the content's MD5; one with a hyphen is that of an upload in parts."""


@dataclass(slots=True)
class Sums:
    """A file's content in numbers, as it comes."""

    size: int = 0
    md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        """One more piece."""
        self.size += len(chunk)
        self.md5.update(chunk)
        self.sha256.update(chunk)
