"""Addresses as they may be shown: without what gives access.

Pure functions from text to text. Whatever prints, logs, stores or raises an address that a user
configured passes it through one of these.
"""

import re
import unicodedata

HIDDEN = "****"

# Greedy up to the last `@`: an S3 secret key may hold slashes. One slash, because pathlib makes one
# of two. Hiding too much does no harm.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)([^\s'\"<>]*)")


def mask(text: str) -> str:
    """The text, with user, password and query hidden in every address that stands in it.

    `s3://key:secret@bucket/path?token=x` becomes `s3://****@bucket/path?****`.
    """
    return _ADDRESS.sub(_hide, text)


def mask_target(url: str) -> str:
    """An alert target: only its scheme is shown.

    In `slack://` and its kind the secret stands where other addresses have a host, and in a
    webhook it is the path.
    """
    scheme, separator, _ = url.partition("://")
    return f"{scheme.lower()}://{HIDDEN}" if separator and scheme.isalnum() else HIDDEN


def printable(text: str) -> str:
    r"""What others wrote, as one line that shows what it is and does nothing to a terminal.

    Line breaks and tabs become spaces. Control codes, letters without a width (the Hangul filler),
    marks, and letters written from right to left, which turn what stands around them about, become
    escapes such as `\u3164`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c in "\t\n\r\v\f" else c if _shows(c) else _escape(c) for c in text)


# Of Unicode's Default_Ignorable_Code_Point those that Python calls printable, and the blank Braille
# pattern. Marks and format characters are recognised by their category.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def _shows(c: str) -> bool:
    return (
        c.isprintable()
        and c not in _INVISIBLE
        and unicodedata.category(c)[0] != "M"
        and unicodedata.bidirectional(c) not in ("R", "AL", "AN")
    )


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


def _hide(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    if "@" in rest:
        rest = f"{HIDDEN}@{rest.rpartition('@')[2]}"
    address, question, _ = rest.partition("?")
    return f"{scheme}{address}{question}{HIDDEN if question else ''}"
