"""A PostgreSQL server of its own, for Dagster's storage."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.requirements import need


def unprivileged():
    """How to become another user: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):  # an installation that is not a package makes no user
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("this is root, and there is no user `nobody`")


@contextmanager
def postgres():
    """A server on a socket; yields its URL."""
    programs = Path(need("postgresql"))
    who = unprivileged()
    # Not in pytest's folder: that is root's alone, and a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    run = {"check": True, "capture_output": True, "text": True, "cwd": "/", **who}
    data = folder / "data"
    initdb, pg_ctl = programs / "initdb", programs / "pg_ctl"
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "availability", "-E", "UTF8", "--locale", "C",
         "--no-sync"], **run,
    )  # fmt: skip
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    patience = ["-w", "-t", str(PATIENCE)]
    start = [pg_ctl, "-D", data, *patience, "-o", options, "-l", folder / "log", "start"]
    # Not captured: the server would keep the pipe open.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **who}
    assert subprocess.run(start, check=False, **quiet).returncode == 0, (folder / "log").read_text()
    try:
        yield f"postgresql+psycopg2://availability@/postgres?host={quote(str(folder))}"
    finally:
        stop = [pg_ctl, "-D", data, "-m", "immediate", *patience, "stop"]
        done = subprocess.run(stop, **{**run, "check": False})
        assert done.returncode == 0, (done.stderr, (folder / "log").read_text()[-3000:])
        shutil.rmtree(folder)
