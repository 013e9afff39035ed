"""The UI and the daemon: `up`, `start`, `stop`, `running`.

`orchestration.processes` is imported inside the commands: it needs psutil, which a reader lacks.
"""

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from availability_pipeline import settings
from availability_pipeline.alerts import delivery
from availability_pipeline.cli._output import one_line_errors
from availability_pipeline.cli.operate import has_history, keeps_history_elsewhere, opened_history
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.record import connection

if TYPE_CHECKING:
    from availability_pipeline.orchestration.processes import Running

port_option = click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Loopback port of the UI.",
)


@contextmanager
def _one_line() -> Iterator[None]:
    from availability_pipeline.orchestration import processes

    try:
        yield
    except (processes.BackgroundError, processes.UIError, settings.SettingsError) as error:
        raise click.ClickException(str(error)) from None


def _ready() -> Path:
    """The home, where a bad setting or a database that is down would make everything fail.

    So would a record that is left at its former place.
    """
    from availability_pipeline.orchestration import processes

    s = settings.load()
    delivery.addresses(s)
    with one_line_errors():
        connection.refuse_left_behind(s.db_path)
    folder = settings.require_home()
    if keeps_history_elsewhere(folder) and processes.find(folder) is None:
        without_beta_warnings()
        with opened_history():
            pass
    return folder


@click.command("up")
@port_option
def up(port: int) -> None:
    """Run the Dagster UI and its daemon until Ctrl-C.

    The UI is at http://127.0.0.1:3000.

    Example: binance-availability up --port 3001
    """
    from availability_pipeline.orchestration import processes

    with _one_line():
        processes.up(_ready(), port, say=click.echo)


@click.command("start")
@port_option
def start(port: int) -> None:
    """Run the Dagster UI and its daemon in the background.

    They run once for each DAGSTER_HOME.

    Example: binance-availability start
    """
    from availability_pipeline.orchestration import processes

    with _one_line():
        click.echo(processes.start(_ready(), port))


@click.command("stop")
def stop() -> None:
    """End what `start` or `up` started, and all that it started.

    Example: binance-availability stop
    """
    from availability_pipeline.orchestration import processes

    with _one_line():
        click.echo(processes.stop(settings.require_home()))


@click.command("running")
def running() -> None:
    """Say whether UI and daemon work, and where; exit 1 if not.

    They work if the UI answers, the daemon gave a sign of life within three minutes, and every
    schedule and sensor was evaluated when it was due. Also for service managers: where nothing was
    started by `start` or `up`, the daemon's records alone decide.

    Example: binance-availability running
    """
    from availability_pipeline.orchestration import processes

    with _one_line():
        folder = settings.require_home()
        found = processes.find(folder)
    if found is None and not has_history(folder):
        click.echo("not running")
        sys.exit(1)
    complaints = _complaints(found, folder)
    if found is None and not complaints:
        click.echo("running: as a service")
    elif found is None:
        click.echo("not running")
    else:
        click.echo(f"running: {found.address}" + "".join(f"; but {one}" for one in complaints))
    sys.exit(1 if complaints else 0)


def _complaints(found: "Running | None", folder: Path) -> list[str]:
    without_beta_warnings()
    from availability_pipeline.orchestration import processes, runs, schedules
    from availability_pipeline.orchestration.instance import ticks

    said = [processes.UNWATCHED] if found and processes.unwatched(found) else []
    if found and found.pid and not processes.answers(f"{found.address}/server_info"):
        said.append("the UI does not answer")
    now = dt.datetime.now(dt.UTC)
    with opened_history() as instance:
        configured = settings.load()
        if instance is None:
            return said
        # One that has just started has given no sign yet.
        daemon = runs.daemon(instance, now)
        beat = daemon.last_heartbeat
        # A sign from before `stop` is not one of a service.
        gone = processes.outlived(folder, beat)
        if gone or (not daemon.running and (found is None or beat)):
            said.append("the daemon gives no sign of life")
        said += ticks.overdue(
            instance, schedules.schedules(configured), schedules.sensors(configured), now
        )
    return said


COMMANDS = (up, start, stop, running)
