"""What can go wrong with the record: each is raised with one line that names the remedy.

StoreError
├── MissingDatabaseError      nothing has been recorded yet
├── LostRecordError           nothing is here, and it is known to be somewhere else
├── ForeignDatabaseError      not a DuckDB file, or not ours
├── DamagedDatabaseError      ours or not, its content cannot be read
├── NewerSchemaError          written by a newer version of this package
├── UnwritableDatabaseError   the path cannot be opened or created
├── FullDiskError             no room to write; this write was undone
├── StoreBusyError            another process kept it open longer than the wait
├── ProtectedFileError        a file to be written is the record's, a backup or Dagster's
├── BackupError               a backup cannot be made, trusted or put back
├── FollowError               a published record cannot be copied; the copy is as it was
├── ExportError               a destination of exported files refuses, or is not ours
├── MirrorError               a mirror cannot be written, or is another's
├── ReportError               the report cannot be written
└── RefusedProbeError         the listing contradicts the record; nothing was written
    ├── ClockWentBackError    the clock is behind what is recorded
    ├── ClockSkewError        the clock differs from the archive's
    └── ShrunkenArchiveError  far less is listed than is recorded
"""


class StoreError(Exception):
    """Something about the record's database; the text is one line with the remedy."""


class MissingDatabaseError(StoreError):
    """The database does not exist yet."""


class LostRecordError(StoreError):
    """Nothing is in the record's file, but Dagster has partitions of it, or it is elsewhere."""


class ForeignDatabaseError(StoreError):
    """The file is not a DuckDB database, or one that is not ours."""


class DamagedDatabaseError(StoreError):
    """The file is a DuckDB database, but cut off or changed on the disk."""


class NewerSchemaError(StoreError):
    """The database was written by a newer version of this package."""


class UnwritableDatabaseError(StoreError):
    """The path cannot be opened or created."""


class FullDiskError(StoreError):
    """The disk is full; this write was undone, earlier ones stay."""


class StoreBusyError(StoreError):
    """Another process kept the database open for longer than the wait."""


class ProtectedFileError(StoreError):
    """A file to be written is the record, a backup or Dagster's; nothing was written."""


class BackupError(StoreError):
    """A backup cannot be made, trusted or put back; what was there before is still there."""


class FollowError(StoreError):
    """A published record cannot be copied; the copy that was there before is still there."""


class ExportError(StoreError):
    """Exported files cannot be written; the record is as it was."""


class MirrorError(StoreError):
    """A mirror's place refuses, or is another's; what was whole in it still is."""


class ReportError(StoreError):
    """The report cannot be written; the record is as it was."""


class RefusedProbeError(StoreError):
    """A listing that must not become a fact; nothing was written."""


class ClockWentBackError(RefusedProbeError):
    """The clock is behind the last probe of these dates."""


class ClockSkewError(RefusedProbeError):
    """The clock differs from the archive's by more than allowed."""


class ShrunkenArchiveError(RefusedProbeError):
    """The archive lists far less than is recorded."""
