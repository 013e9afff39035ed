"""A mirror of the archive's files: what to fetch of a plan, fetched, verified and kept.

`download` fetches the files of a plan into a folder or bucket, `manifest` says what was verified
of them, by what and when, `verify` compares them with the record. `fetch` asks the archive, and
`store` is the folder or bucket, `sums` what content is verified by. `chunks` is a download in
parts that may run on several machines, `running` the mark that keeps others out meanwhile,
`selection` what AVAILABILITY_MIRROR says, and `standing` judges the whole. `volume` reads daily
volume from 1d klines, the files that `sources` names and `klines` parses, and `volume_checks`
judges it. Nothing unverified is ever under its final name.
"""

__all__ = [
    "chunks",
    "download",
    "fetch",
    "klines",
    "manifest",
    "running",
    "selection",
    "sources",
    "standing",
    "store",
    "sums",
    "verify",
    "volume",
    "volume_checks",
]
