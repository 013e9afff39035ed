"""The hosted example, `deploy/github/`, as far as it goes without GitHub: its steps are run.

If this fails, a public register is not updated, or begins anew and forgets what it knew.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from availability_pipeline_tests.support.helpers import PATIENCE, days
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.servers import Server
from availability_pipeline_tests.support.shell import YESTERDAY

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "github"
TEXT = (FOLDER / "register.yml").read_text(encoding="utf-8")
FIRST = YESTERDAY.replace(day=1)


def test_each_step_is_one_of_the_script_and_in_order():
    workflow = yaml.safe_load(TEXT)
    [job] = workflow["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    steps = [run.split()[1] for run in runs if run.startswith("deploy/github/register ")]
    assert steps == ["restore", "update", "check", "publish"]
    script = (FOLDER / "register").read_text(encoding="utf-8")
    assert re.findall(r"^([a-z]+)\)$", script, re.MULTILINE) == steps
    assert os.access(FOLDER / "register", os.X_OK)
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", one) for one in uses)
    # The site is uploaded after it was published, and deployed last.
    assert [one.partition("@")[0] for one in uses[-2:]] == [
        "actions/upload-pages-artifact", "actions/deploy-pages",
    ]  # fmt: skip
    # Nothing but what Pages needs may be written, and no two runs publish at once.
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    assert workflow["concurrency"]["cancel-in-progress"] is False


def test_each_time_of_the_schedule_has_its_reason():
    lines = TEXT.splitlines()
    crons = [n for n, line in enumerate(lines) if "- cron:" in line]
    assert len(crons) == 2
    assert all(lines[n - 1].lstrip().startswith("#") for n in crons)


def test_every_variable_is_a_setting_of_the_package():
    from availability_pipeline.settings import Settings

    names = {name for name in yaml.safe_load(TEXT)["env"] if name.startswith("AVAILABILITY_")}
    assert names <= {f"AVAILABILITY_{name.upper()}" for name in Settings.model_fields}


class Site(SimpleHTTPRequestHandler):
    """What Pages serves; `fails` has it answer everything so."""

    fails = 0

    def log_message(self, *_):
        """Nothing."""

    def do_GET(self):
        if type(self).fails:
            self.send_error(type(self).fails)
        else:
            super().do_GET()


@contextlib.contextmanager
def pages(folder):
    handler = type("Handler", (Site,), {})
    server = Server(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Runner:
    """A machine of GitHub's: each job begins with an empty workspace."""

    def __init__(self, folder, address, archive):
        self.folder, self.address, self.archive, self.jobs = folder, address, archive, 0
        (folder / "bin").mkdir()
        program = folder / "bin" / "binance-availability"
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} -P -W ignore -m availability_pipeline.cli "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)

    def job(self, cached=None):
        self.jobs += 1
        self.workspace = self.folder / f"job-{self.jobs}"
        self.workspace.mkdir()
        shutil.copy(ROOT / "dagster.yaml", self.workspace)
        if cached:
            shutil.copytree(cached, self.workspace / "site")

    def step(self, name):
        ours = ("AVAILABILITY_", "DAGSTER_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        env |= {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{env['PATH']}",
            "HOME": str(self.workspace),
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.workspace),
            "AVAILABILITY_DATASETS": "um/daily/klines/1m",
            "AVAILABILITY_S3_ENDPOINT": self.archive.endpoint,
            "AVAILABILITY_SITE_ADDRESS": self.address,
        }
        return subprocess.run(
            [FOLDER / "register", name], cwd=self.workspace, env=env, capture_output=True,
            encoding="utf-8", check=False, timeout=PATIENCE,
        )  # fmt: skip

    def ok(self, *names):
        for name in names:
            done = self.step(name)
            assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done

    def deploy(self, to):
        """As Pages does: what was there is gone."""
        shutil.rmtree(to)
        shutil.copytree(self.workspace / "site", to)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt install curl")
def test_two_days_of_a_register(tmp_path):
    public = tmp_path / "public"
    public.mkdir()
    with local_archive() as archive, pages(public) as (server, address):
        archive.put("BTCUSDT", days(FIRST, YESTERDAY))
        archive.put("龙虾USDT", days(FIRST, YESTERDAY))
        runner = Runner(tmp_path, address, archive)
        runner.job()
        assert "nothing is published yet" in runner.ok("restore").stdout
        runner.ok("update", "check", "publish")
        runner.deploy(public)
        first = json.loads((public / "latest.json").read_bytes())
        # The next day one file has another content.
        archive.put("BTCUSDT", [FIRST], b"another zip")
        runner.job(cached=public)
        runner.ok("restore", "update")
        done = runner.ok("publish")
        assert "uploaded" in done.stdout
        runner.deploy(public)
        latest = json.loads((public / "latest.json").read_bytes())
        assert latest["publication"] != first["publication"]
        found = json.loads((public / "um/daily/klines/1m/revisions.json").read_bytes())
        assert [(r["change"], r["symbol"], r["period"]) for r in found["revisions"]] == [
            ("replaced", "BTCUSDT", FIRST.isoformat())
        ]
        # A third one without the cache: the record still knows it.
        runner.job()
        runner.ok("restore", "publish")
        runner.deploy(public)
        again = json.loads((public / "um/daily/klines/1m/revisions.json").read_bytes())
        assert again["revisions"] == found["revisions"]
        # A site that does not answer is not one that has nothing: the record must not begin anew.
        server.fails = 503
        runner.job()
        done = runner.step("restore")
        assert done.returncode != 0
        assert not (runner.workspace / "record.duckdb").exists()
        # Nor is one that answers 404, while the cache has what was published.
        server.fails = 404
        runner.job(cached=public)
        runner.ok("restore", "publish")
        found = json.loads((runner.workspace / "site" / "latest.json").read_bytes())
        assert (
            found["publication"] == json.loads((public / "latest.json").read_bytes())["publication"]
        )


def test_an_update_that_fails_publishes_nothing(tmp_path):
    with local_archive() as archive:
        runner = Runner(tmp_path, "http://127.0.0.1:9", archive)
        runner.job()
        done = runner.step("update")  # the archive has no symbol at all
        assert done.returncode != 0
        assert not (runner.workspace / "site").exists()
