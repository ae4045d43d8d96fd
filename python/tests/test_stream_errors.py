"""Errors of a lazy query that is the input of another stage: raised, and the interpreter lives."""

import subprocess
import sys

import pytest

pytest.importorskip("polars")

BEGIN = "import polars as pl, lowland.polars, numpy as np\nlf = pl.DataFrame({'v': np.random.rand(500, 5).tolist()}).lazy()\n"


@pytest.mark.parametrize(
    "query, word",
    [
        ("lf.lowland.embed('v', memory_limit='1KiB').lowland.embed(['x', 'y']).collect()", "memory"),
        ("def boom(frame): raise RuntimeError('boom')\nlf.map_batches(boom).lowland.embed('v').collect()", "boom"),
    ],
)
def test_an_error_of_an_inner_stage_is_raised(query, word):
    done = subprocess.run([sys.executable, "-c", BEGIN + query], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and word in done.stderr.splitlines()[-1], (done.returncode, done.stderr)
