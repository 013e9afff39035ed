"""A redis server and Celery workers of Dagster, each in a process group of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
import yaml

from availability_pipeline_tests.support.helpers import PATIENCE, wait_for
from availability_pipeline_tests.support.requirements import need


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """One that keeps nothing; yields its port."""
    port = free_port()
    program = [need("redis"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([*program, "--dir", str(folder)], stdout=log, stderr=log)
    client = redis.Redis(port=port)

    def answers() -> bool:
        with suppress(redis.ConnectionError):
            return bool(client.ping())
        return False

    try:
        wait_for(answers)
        yield port
    finally:
        client.close()
        process.kill()
        process.wait()


def with_visibility(source: Path, to: Path, seconds: int) -> Path:
    """A worker's file as it is shipped, with another time after which a task is given again."""
    found = yaml.safe_load(source.read_text(encoding="utf-8"))
    options = found["execution"]["config"]["config_source"]
    options["broker_transport_options"]["visibility_timeout"] = seconds
    to.write_text(yaml.safe_dump(found), encoding="utf-8")
    return to


class Worker:
    """A worker with one process for tasks."""

    def __init__(
        self, name: str, file: Path, folder: Path, env: Mapping[str, str], *queues: str
    ) -> None:
        self.log = folder / f"{name}.log"
        programs = Path(sys.executable).parent
        command = [programs / "dagster-celery", "worker", "start", "-A", "dagster_celery.app"]
        # Given twice, the second -q would be the only one.
        command += ["-y", file, "-n", name, "-q", ",".join(queues), "--", "--concurrency=1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True,
                env={**env, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"},
            )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def busy(self) -> bool:
        """It has a task."""
        said = self.said()
        return said.count("] received") > said.count("] succeeded")

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.said()
            return " ready." in self.said()

        wait_for(ready)

    def kill(self) -> None:
        """As `kill -9` of the worker and its processes, as a machine that is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
