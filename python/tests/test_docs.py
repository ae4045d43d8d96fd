"""The pages' examples in Python run, page by page, and the example notebook runs as a script."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import HOME, clusters

pl = pytest.importorskip("polars")

PAGES = ["README.md", "docs/start.md", "docs/python.md", "docs/polars.md"]


def inputs(place):
    """Writes the files that `docs/README.md` lists, as far as these pages use them."""
    rows = clusters(600, 16)
    table = pl.DataFrame({"id": range(600), "label": [str(i % 7) for i in range(600)], "embedding": rows})
    table.write_parquet(place / "vectors.parquet")
    np.save(place / "vectors.npy", rows)
    (place / "parts").mkdir()
    table[:300].write_parquet(place / "parts" / "part-0.parquet")
    table[300:].write_parquet(place / "parts" / "part-1.parquet")


def blocks(page):
    text = (HOME / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        yield text[: match.start()].count("\n") + 2, match.group(1)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, tmp_path, monkeypatch):
    inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    ran, names = 0, {}
    for line, block in blocks(page):
        (tmp_path / "map.parquet").unlink(
            missing_ok=True
        ) if "map.parquet" in block and "evaluate" not in block else None
        # Empty lines in front, so that an error names the page's line.
        exec(compile("\n" * (line - 1) + block, str(HOME / page), "exec"), names)
        ran += 1
    assert ran >= 2


def test_the_example_notebook_runs(tmp_path):
    rows = clusters(400, 16)
    data = {
        "name": [f"package {i}" for i in range(400)],
        "section": [f"section {i % 7}" for i in range(400)],
        "embedding": rows,
    }
    pl.DataFrame(data).write_parquet(tmp_path / "packages.parquet")
    told = subprocess.run(
        [sys.executable, str(HOME / "python" / "examples" / "packages.py")],
        cwd=tmp_path,
        env={**os.environ, "LOWLAND_EXAMPLE_DATA": "packages.parquet"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    assert "400 rows" in told.stdout and "(400, 2)" in told.stdout
    assert (tmp_path / "packages-map" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_docstring_examples(monkeypatch):
    import doctest

    from lowland import _maps, _pca

    for module in (_maps, _pca):
        failed, tried = doctest.testmod(module)
        assert failed == 0 and tried >= 9
