"""DuckDB with its extension for HTTP, from a package: what it would fetch by itself otherwise."""

import os
import subprocess
from pathlib import Path

from availability_pipeline_tests.support.requirements import need

INSTALL = """
import pathlib, duckdb, duckdb_extension_httpfs
[file] = pathlib.Path(duckdb_extension_httpfs.__path__[0]).rglob("httpfs.duckdb_extension")
duckdb.connect().install_extension(str(file))
"""


def python_with_httpfs(home: Path) -> str:
    """A Python whose DuckDB finds the extension when HOME is this folder; skips without one."""
    python = need("duckdb15-httpfs")
    subprocess.run([python, "-c", INSTALL], env=os.environ | {"HOME": str(home)}, check=True)
    return python
