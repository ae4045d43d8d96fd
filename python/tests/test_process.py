"""The package in a process: import time, signals, threads, forks, and the command line's bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import lowland

from conftest import clusters


def python(script, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, **more
    )


def test_the_import_is_quick_and_brings_nothing_heavy():
    script = """
import sys, time
import numpy
begun = time.perf_counter()
import lowland
took = time.perf_counter() - begun
heavy = {"sklearn", "scipy", "polars", "pandas", "pyarrow", "torch", "tqdm", "duckdb", "IPython"} & set(sys.modules)
lowland.UMAP, lowland.PCA, lowland.LowlandWarning, lowland.BudgetError
late = {"sklearn", "scipy", "polars", "pandas", "pyarrow", "torch"} & set(sys.modules)
print(took, sorted(heavy | late))
"""
    took = []
    for _ in range(3):
        told = python(script)
        assert told.returncode == 0, told.stderr
        seconds, heavy = told.stdout.split(maxsplit=1)
        assert heavy.strip() == "[]"
        took.append(float(seconds))
    assert min(took) < 0.15, took


def test_the_namespace_of_polars_is_registered_where_polars_is_in_use():
    pytest.importorskip("polars")
    for imports, there in (("polars, lowland", True), ("lowland, polars", False), ("lowland.polars, polars", True)):
        told = python(
            f"import {imports}; print(hasattr(polars.LazyFrame(), 'lowland'), hasattr(polars.DataFrame(), 'lowland'))"
        )
        assert told.stdout.split() == [str(there)] * 2, (imports, told.stderr)


def test_a_fit_brings_nothing_heavy():
    script = """
import sys, numpy, lowland
lowland.UMAP(n_epochs=5).fit(numpy.random.default_rng(0).normal(size=(50, 4)))
lowland.PCA().fit(numpy.random.default_rng(0).normal(size=(50, 4)))
print(sorted({"sklearn", "scipy", "polars", "pandas", "pyarrow", "torch", "tqdm"} & set(sys.modules)))
"""
    told = python(script)
    assert told.stdout.strip() == "[]", told.stderr


def test_the_bytes_of_the_command_line(command_line, tmp_path, same):
    rows = clusters(500, 12)
    np.save(tmp_path / "rows.npy", rows)
    command_line("embed", "rows.npy", "-o", "umap.npy", "--n-epochs", "30", "--seed", "7")
    assert same(lowland.UMAP(n_epochs=30, random_state=7).fit_transform(rows), np.load(tmp_path / "umap.npy"))
    command_line("embed", "rows.npy", "-o", "tsne.npy", "--method", "tsne", "--perplexity", "10", "--n-epochs", "30")
    assert same(lowland.TSNE(perplexity=10, n_epochs=30).fit_transform(rows), np.load(tmp_path / "tsne.npy"))
    command_line("embed", "rows.npy", "-o", "sne.npy", "--method", "sne", "--n-epochs", "30")
    assert same(lowland.SNE(n_epochs=30).fit_transform(rows), np.load(tmp_path / "sne.npy"))
    command_line("pca", "rows.npy", "-o", "pca.npy", "--n-components", "3")
    assert same(lowland.PCA(3).fit_transform(rows), np.load(tmp_path / "pca.npy"))


def test_two_threads(same):
    rows, found = [clusters(400, seed=seed) for seed in (1, 2)], [None, None]

    def fit(i):
        found[i] = lowland.UMAP(n_epochs=100).fit_transform(rows[i])

    threads = [threading.Thread(target=fit, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in (0, 1):
        assert same(found[i], lowland.UMAP(n_epochs=100).fit_transform(rows[i]))


def test_other_threads_go_on_during_a_fit():
    ticks, over = [], threading.Event()

    def tick():
        while not over.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begun = time.perf_counter()
    lowland.UMAP(n_epochs=1000, n_jobs=1).fit(clusters(1500))
    ended = time.perf_counter()
    over.set()
    ticker.join()
    during = [t for t in ticks if begun < t < ended]
    # A fit that kept the interpreter would leave no tick between its beginning and its end.
    assert len(during) >= 3, (len(during), ended - begun)


INTERRUPTED = """
import sys, time
import numpy as np
import lowland

rows = np.load(sys.argv[1])

def say(event):
    if event["kind"] == "progress" and event["stage"] == "layout":
        print("layout", flush=True)

try:
    found = lowland.UMAP(n_epochs=int(sys.argv[3]), run_dir=sys.argv[2], callback=say, n_jobs=1).fit_transform(rows)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
np.save(sys.argv[4], found)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupted_fit_stops_and_is_resumed_to_the_same_bytes(tmp_path, same):
    np.save(tmp_path / "rows.npy", clusters(3000))
    epochs = "2500"
    arguments = [str(tmp_path / "rows.npy"), str(tmp_path / "work"), epochs, str(tmp_path / "map.npy")]
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "layout"
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    rest, _ = process.communicate(timeout=30)
    took = time.monotonic() - begun
    assert process.returncode == 130 and "interrupted" in rest
    assert took < 2, took  # a second, and a loaded machine
    assert (tmp_path / "work" / "manifest.json").exists() and not (tmp_path / "map.npy").exists()
    resumed = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True, timeout=120
    )
    assert resumed.returncode == 0, resumed.stderr
    whole = lowland.UMAP(n_epochs=int(epochs)).fit_transform(np.load(tmp_path / "rows.npy"))
    assert same(np.load(tmp_path / "map.npy"), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_after_a_fit_works():
    script = """
import os, sys, warnings
import numpy as np
import lowland
warnings.simplefilter("ignore", DeprecationWarning)
rows = np.random.default_rng(0).normal(size=(60, 4))
mine = lowland.UMAP(n_epochs=20).fit_transform(rows)
child = os.fork()
if child == 0:
    same = lowland.UMAP(n_epochs=20).fit_transform(rows).tobytes() == mine.tobytes()
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    told = python(script)
    assert told.returncode == 0, told.stderr
