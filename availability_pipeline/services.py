"""The UI and the daemon on one home, for as long as both live.

Belongs here: which processes there are and how they are started. Does not belong here: one of it
for each home (`background`), the process group and its end (`demo_ui`), what the UI answers to
(`webserver`).

Not `dagster dev`: it starts Dagster's own webserver, which any web page can use (see `webserver`),
and imports from the current directory. The processes below do neither.
"""

import argparse
import subprocess
import sys
import time

from availability_pipeline import files, settings

# From warnings on. What runs did is in log/availability.log and in the UI; at Dagster's default,
# INFO, sensors that find nothing to do write 2.8 MB a day.
QUIET_WEBSERVER = ("--dagster-log-level", "warning", "--code-server-log-level", "warning")
QUIET_DAEMON = ("--log-level", "warning", "--code-server-log-level", "warning")

EVERY = 0.5
"""Seconds between two looks whether both live."""


def python(module: str, *words: str) -> list[str]:
    """The command that runs a module without the current directory among its imports."""
    return [sys.executable, "-P", "-m", module, *words]


def commands(port: int) -> dict[str, list[str]]:
    """The command of each process, by its name."""
    where = ["-m", "availability_pipeline.definitions", "-d", str(settings.CHECKOUT)]
    web = python("availability_pipeline.webserver", "-h", "127.0.0.1", "-p", str(port))
    # The module of the program `dagster-daemon`, which need not lie beside our interpreter.
    daemon = python("dagster._daemon", "run")
    return {
        "webserver": [*web, *QUIET_WEBSERVER, *where],
        "daemon": [*daemon, *QUIET_DAEMON, *where],
    }


def main() -> int:
    """`python -P -m availability_pipeline.services --port N`; ends, with 1, when one of them has.

    Whoever starts it ends the whole process group.
    """
    parser = argparse.ArgumentParser(prog="python -P -m availability_pipeline.services")
    parser.add_argument("--port", type=int, required=True, help="loopback port of the UI")
    port = parser.parse_args().port
    settings.never_import_from_current_directory()
    files.keep_private()
    running = {
        name: subprocess.Popen(command)  # noqa: S603 - our own interpreter and arguments
        for name, command in commands(port).items()
    }
    while True:
        for name, process in running.items():
            if (code := process.poll()) is not None:
                sys.stderr.write(f"the {name} ended with exit code {code}\n")
                return 1
        time.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(main())
