"""`mirrored_files`: the mirror as Dagster's own dynamic graph, so that its executor says where.

`plan_files` reads the record and writes the chunks into the mirror, `fetch_chunk` is there once for
each of them, `collect_chunks` merges and reports. All that passes between them is a chunk's name;
what they do is `mirror.chunks`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from availability_pipeline.mirror import chunks
from availability_pipeline.mirror.download import Failure, Options, Report
from availability_pipeline.mirror.selection import mirrored
from availability_pipeline.mirror.store import BucketStore, FolderStore, place
from availability_pipeline.orchestration.executors import ON_RECORD
from availability_pipeline.orchestration.outcomes import no_longer_set, one_line_failures
from availability_pipeline.orchestration.partitions import ONE_RUN
from availability_pipeline.orchestration.probes import LOG_SECONDS, Context
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock
from availability_pipeline.queries.answers import QueryError
from availability_pipeline.settings import Settings, SettingsError

KEY = dg.AssetKey("mirrored_files")

JOB = "mirror"

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

NAMED = 5
"""So many files that could not be had are named in a run's failure."""

TRIES_MORE = 2
"""So often a chunk is tried again, where the mirror or the archive as a whole was not well."""

NAMES = "chunk_names"


class ChunkNames(dg.IOManager):
    """Hands a chunk's name from the step that planned it to the one that fetches it.

    Nothing is stored: the name is the run that planned and the chunk's number, which Dagster knows
    in every process and on every machine, in a run that executes another one again, too.
    """

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Nothing to store."""

    def load_input(self, context: dg.InputContext) -> str:
        """The name."""
        planned = context.upstream_output
        if planned is None or not planned.mapping_key:
            raise dg.Failure(description="a chunk is fetched in the run that planned it only")
        return f"{planned.run_id}/{planned.mapping_key}"


def names() -> dg.IOManagerDefinition:
    """The IO manager as a resource that a run's configuration sets nothing of."""
    return dg.IOManagerDefinition(
        lambda _: ChunkNames(),
        config_schema={},
        description="Hands the names of chunks on; nothing is stored.",
    )


@contextmanager
def _mirror(limits: Settings) -> Iterator[BucketStore | FolderStore]:
    if limits.mirror_url is None:
        raise no_longer_set("AVAILABILITY_MIRROR_URL")
    with one_line_failures(QueryError, SettingsError):
        yield place(limits.mirror_url)


def under_way(instance: dg.DagsterInstance) -> bool:
    """Whether a mirror run is queued, or has begun and not ended."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1))


@dg.op(
    ins={"daily_summary": dg.In(dg.Nothing)},
    out=dg.DynamicOut(str, io_manager_key=NAMES),
    tags=ON_RECORD,
)
def plan_files(
    context: dg.OpExecutionContext,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> Iterator[dg.DynamicOutput[str]]:
    """What AVAILABILITY_MIRROR selects, without what the mirror has whole, in chunks."""
    with _mirror(limits) as store:
        found = chunks.begin(
            store,
            mirrored(limits),
            context.run.run_id,
            source=limits.download_base,
            record=duckdb.get_reader,
            now=clock.now,
            ended=lambda run: _ended(context.instance, run),
        )
    context.log.info(
        f"{found.files} files, {found.bytes} bytes are selected; {found.already} are whole, "
        f"{found.vanished} vanished from the archive, {len(found.chunks)} chunks are to be fetched"
    )
    for name in found.chunks:
        number = name.rpartition("/")[2]
        yield dg.DynamicOutput(name, mapping_key=number)


def _ended(instance: dg.DagsterInstance, run_id: str) -> bool | None:
    """Whether a run, and each that executes it again, is over; None where it is not known here."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return None
    family = {"dagster/root_run_id": run.root_run_id or run_id}
    return run.is_finished and all(
        one.is_finished for one in instance.get_runs(dg.RunsFilter(tags=family))
    )


# What a worker could not do may go well in a moment; each try fetches only what is not whole.
@dg.op(
    ins={"name": dg.In(str, input_manager_key=NAMES)},
    out=dg.Out(dg.Nothing),
    retry_policy=dg.RetryPolicy(max_retries=TRIES_MORE, delay=10),
)
def fetch_chunk(
    context: dg.OpExecutionContext,
    name: str,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> None:
    """The files of one chunk, verified; needs the mirror and the archive, and no record."""
    begun = time.monotonic()
    try:
        with _mirror(limits) as store:
            done = chunks.fetch(
                store,
                name,
                Options.from_settings(limits),
                now=clock.now,
                progress=log_progress(context),
            )
    except dg.Failure as failure:
        # The last one as what it is: Dagster's own would say "Exceeded max_retries".
        failure.allow_retries = bool(limits.mirror_url) and context.retry_number < TRIES_MORE
        raise
    context.log.info(
        f"{done.fetched} fetched ({done.fetched_bytes} bytes), {done.already} whole already, "
        f"{done.adopted} found whole, {len(done.failed)} could not be had; "
        f"{time.monotonic() - begun:.1f} s"
    )


def log_progress(context: Context) -> Callable[[int, int], None]:
    """Log files and bytes done, now and then."""
    logged = time.monotonic()

    def report(done: int, size: int) -> None:
        nonlocal logged
        if time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            context.log.info(f"{done} files, {size} bytes done")

    return report


@dg.op(ins={"chunks_done": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def collect_chunks(
    context: dg.OpExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> None:
    """Merge the manifest, and report; fails with one line if a file is not there."""
    run = context.run
    runs = {run.run_id, run.parent_run_id, run.root_run_id} - {None}
    with _mirror(limits) as store:
        done = chunks.collect(store, frozenset(map(str, runs)), clock.now)
    found = {"mirror": str(store), **_numbers(done)}
    if done.failed:
        raise dg.Failure(description=_said(done), metadata=found, allow_retries=False)
    context.add_output_metadata(found)


def _numbers(done: Report) -> dict[str, Any]:
    return {
        "files": done.already + done.adopted + done.fetched,
        "fetched": done.fetched,
        "bytes_fetched": done.fetched_bytes,
        "already": done.already,
        "adopted": done.adopted,
        "replaced": done.replaced,
        "vanished": done.vanished,
        "without_checksum": done.without_checksum,
        "damaged": len(done.damaged),
        "failed": len(done.failed),
    }


def _said(done: Report) -> str:
    return (
        f"{len(done.failed)} files could not be had ({named(done.failed)}); the others are there, "
        "and the next run tries these again"
    )


def named(files: Sequence[Failure]) -> str:
    """Files and what is wrong with them, the first few."""
    some = sorted(files, key=lambda one: one.key)[:NAMED]
    more = f"; and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return "; ".join(f"{one.key}: {one.reason}" for one in some) + more


@dg.graph_asset(
    name=KEY.path[-1],
    ins={"daily_summary": dg.AssetIn("daily_summary", dagster_type=dg.Nothing)},
    group_name="mirror",
    kinds={"s3"},
    owners=["team:availability"],
    backfill_policy=ONE_RUN,
    description="The files themselves, verified, where AVAILABILITY_MIRROR_URL says; which ones "
    "AVAILABILITY_MIRROR says. What is whole there is not fetched again.",
)
def mirrored_files(daily_summary: Any) -> Any:
    """Plan, fetch each chunk, collect."""
    return collect_chunks(plan_files(daily_summary).map(fetch_chunk).collect())
