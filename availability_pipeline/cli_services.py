"""The UI and the daemon from the command line: `up`, `start`, `stop`, `running`.

Belongs here: arguments and printing. Does not belong here: the processes (`background`).
"""

import sys
from collections.abc import Callable
from typing import Any

import click

from availability_pipeline import background, demo_ui, settings

_port = click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Loopback port of the UI.",
)


def _one_line(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (background.BackgroundError, demo_ui.UIError, settings.SettingsError) as error:
        raise click.ClickException(str(error)) from None


@click.command("up")
@_port
def up(port: int) -> None:
    """Run the Dagster UI and its daemon, at http://127.0.0.1:3000, until Ctrl-C.

    Example: binance-futures-availability up --port 3001
    """

    def run() -> None:
        # A bad setting would make every run fail; it is better found here.
        settings.load()
        background.up(background.home(), port, say=click.echo)

    _one_line(run)


@click.command("start")
@_port
def start(port: int) -> None:
    """Run the Dagster UI and its daemon in the background, once for each DAGSTER_HOME.

    Example: binance-futures-availability start
    """

    def run() -> str:
        settings.load()
        return background.start(background.home(), port)

    click.echo(_one_line(run))


@click.command("stop")
def stop() -> None:
    """End what `start` or `up` started, and all that it started.

    Example: binance-futures-availability stop
    """
    click.echo(_one_line(lambda: background.stop(background.home())))


@click.command("running")
def running() -> None:
    """Say whether UI and daemon run, and where; exit 1 if not.

    Example: binance-futures-availability running
    """
    found = _one_line(lambda: background.find(background.home()))
    click.echo(f"running: {found.address}" if found else "not running")
    sys.exit(0 if found else 1)


COMMANDS = (up, start, stop, running)
