"""The marker beside a copy of a published record, which `follow` makes and alone replaces.

Whatever would write into such a copy is refused here before it opens anything: what it wrote would
be gone with the next publication.
"""

from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from availability_pipeline import PROGRAM
from availability_pipeline.errors import ProtectedFileError
from availability_pipeline.masking import mask, printable

SUFFIX = ".followed"

_MOST_BYTES = 2**28  # a record of 900 GB


class Marker(BaseModel):
    """What a copy is of.

    Attributes:
        url: the published record's address, or folder.
        publication, published_at, last_probe: as it says.
        followed_at: when the copy was made, or last found to be of the newest publication.
        bytes, sha256, mtime_ns: of the copy. With another size or time it is not what was made.
        header_bytes, piece_bytes, pieces: how it was cut.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    publication: str
    published_at: AwareDatetime
    last_probe: AwareDatetime | None
    followed_at: AwareDatetime
    bytes: int = Field(ge=1)
    sha256: str
    mtime_ns: int
    header_bytes: int = Field(ge=1)
    piece_bytes: int = Field(ge=1)
    pieces: tuple[str, ...]


def beside(database: Path) -> Path:
    """Where the marker of a copy is."""
    return database.with_name(database.name + SUFFIX)


def read(database: Path) -> Marker | None:
    """The marker of a copy; None where there is none, or it cannot be read."""
    for path in (database, _resolved(database)):
        try:
            with beside(path).open("rb") as file:
                return Marker.model_validate_json(file.read(_MOST_BYTES))
        except (OSError, ValidationError):
            continue
    return None


def is_copy(database: Path) -> bool:
    """Whether there is a marker, whatever it says."""
    return any(beside(path).exists() for path in (database, _resolved(database)))


def refuse_writing(database: Path) -> None:
    """See that a database is not such a copy.

    Raises:
        ProtectedFileError: it is.
    """
    if not is_copy(database):
        return
    marker = read(database)
    of = printable(mask(marker.url)) if marker else "a published record"
    raise ProtectedFileError(
        f"{database} is a copy of {of}, which `{PROGRAM} follow` replaces; nothing was written: "
        "choose another AVAILABILITY_DB"
    )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return path
