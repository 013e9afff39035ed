"""The program, started as a user would."""

import datetime as dt
import os
import subprocess
import sys

from availability_pipeline_tests.support.helpers import PATIENCE

YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)


class Shell:
    def __init__(self, home, endpoint):
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AVAILABILITY", "LC_"))},
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": endpoint,
            "DAGSTER_HOME": str(home),
            "LANG": "C",
        }
        self.home = home

    def __call__(self, *args, **env):
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "availability_pipeline.cli",
                *map(str, args),
            ],
            env=self.env | env,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=PATIENCE,
        )

    def ok(self, *args):
        done = self(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout
