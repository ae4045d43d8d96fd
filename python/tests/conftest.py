"""Data and helpers of the tests of the Python package.

    python -m pytest python/tests

runs against the `lowland` that is installed. Libraries that are absent skip their tests.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

#: The repository.
HOME = pathlib.Path(__file__).resolve().parents[2]


def clusters(rows: int = 300, features: int = 8, seed: int = 0) -> np.ndarray:
    """Returns rows of five clusters, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=4.0, size=(5, features))
    return (centres[rng.integers(0, 5, rows)] + rng.normal(size=(rows, features))).astype(np.float32)


@pytest.fixture
def X() -> np.ndarray:
    return clusters()


@pytest.fixture(scope="session")
def same():
    """A function that says whether two arrays have the same bytes."""

    def compare(a, b) -> bool:
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()

    return compare


@pytest.fixture
def command_line(tmp_path):
    """A function that runs the command line of the package in a directory of its own."""

    def run(*arguments: str) -> str:
        script = "import sys; from lowland import _lowland; sys.exit(_lowland.run_cli(['lowland', *sys.argv[1:]]))"
        told = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert told.returncode == 0, told.stderr
        return told.stdout

    return run
