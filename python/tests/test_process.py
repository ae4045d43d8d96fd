"""The package in a process: import time, signals, threads, forks, and the command line's bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

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
begun = time.process_time()
import lowland
took = time.process_time() - begun
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
    class Enough(Exception): ...

    begun, answered = threading.Event(), threading.Event()

    def answer():
        begun.wait()
        answered.set()

    def say(event):
        if event["stage"] == "layout":
            begun.set()
            if answered.is_set():
                raise Enough

    other = threading.Thread(target=answer)
    other.start()
    # The run is far longer than the test, and ends only because the other thread has answered.
    with pytest.raises(Enough):
        lowland.UMAP(n_epochs=1_000_000, n_jobs=1, callback=say).fit(clusters(1500))
    other.join()


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
    rest, _ = process.communicate(timeout=60)
    # The whole run would have ended without an exception.
    assert process.returncode == 130 and "interrupted" in rest
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
fitted = lowland.UMAP(n_epochs=20)
mine = fitted.fit_transform(rows)
child = os.fork()
if child == 0:
    same = lowland.UMAP(n_epochs=20).fit_transform(rows).tobytes() == mine.tobytes()
    # The parent's temporary model, which the child leaves alone.
    placed = fitted.transform(rows).tobytes() == mine.tobytes()
    del fitted
    os._exit(0 if same and placed else 1)
_, status = os.waitpid(child, 0)
assert fitted.transform(rows).tobytes() == mine.tobytes()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    told = python(script)
    assert told.returncode == 0, told.stderr


STREAM = """
import os, signal, threading, time
import numpy as np, pyarrow as pa
from lowland import _lowland

schema, inside = pa.schema([("v", pa.list_(pa.float32(), 4))]), threading.Event()

def batches():
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(400, "f4")), 4)
    yield pa.record_batch([column], schema=schema)
    inside.set()
    for _ in range(1000):
        time.sleep(0.001)  # takes the interpreter again each time, also while the process ends
    yield pa.record_batch([column], schema=schema)

def interrupt():
    inside.wait()
    os.kill(os.getpid(), signal.SIGINT)

stream = pa.RecordBatchReader.from_batches(schema, batches())
try:
    {spool}
except (KeyboardInterrupt, OSError) as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize(
    ("spool", "raised"),
    [
        ("threading.Thread(target=interrupt).start(); _lowland.Source.spool(stream)", "KeyboardInterrupt"),
        ("_lowland.Source.spool(stream, directory='/nonexistent')", "FileNotFoundError"),
    ],
)
def test_a_stream_that_is_given_up_does_not_abort_the_process(spool, raised):
    pytest.importorskip("pyarrow")
    told = python(STREAM.format(spool=spool))
    assert (told.returncode, told.stdout) == (0, raised + "\n"), told


FORKED = """
import gc, os, sys, warnings
import numpy as np
import lowland
from lowland import _lowland

warnings.simplefilter("ignore", DeprecationWarning)
rows = np.random.default_rng(0).normal(size=(60, 4)).astype("f4")
{made}
child = os.fork()
if child == 0:
    del held
    gc.collect()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
{used}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("made", "used"),
    [
        ("held = lowland.knn(rows, n_neighbors=4)", "assert held.indices.shape == (60, 4)"),
        ("held = _lowland.Source.spool(iter([rows]))", "assert lowland.UMAP(n_epochs=5).fit_transform(held).shape == (60, 2)"),
        (
            "import polars, lowland.polars\n"
            "held = polars.DataFrame({'v': rows}).lazy().lowland.embed('v', n_epochs=5)\nheld.head(1).collect()",
            "assert held.collect().shape == (60, 3)",
        ),
    ],
)
def test_a_forked_child_leaves_the_files_of_its_parent(made, used):
    if "polars" in made:
        pytest.importorskip("polars")
    told = python(FORKED.format(made=made, used=used))
    assert told.returncode == 0, told.stderr


def test_temporary_files_can_be_read_by_their_user_only():
    rows = clusters(60)
    graph = lowland.knn(rows, n_neighbors=4)
    assert os.stat(os.path.dirname(graph.path)).st_mode & 0o777 == 0o700
    path = graph.path
    del graph
    assert not path.parent.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_after_a_handler_was_set_reaches_a_thread_of_polars():
    # signal.signal replaces the handler of the operating system, so the second run must install its own again.
    script = """
import os, signal, threading
import numpy as np
from lowland import _lowland

rows = np.random.default_rng(0).normal(size=(3000, 8)).astype("f4")
ended, heard = [], []

def run(source):
    def tell(event):
        if event["stage"] == "layout" and event["kind"] == "start":
            os.kill(os.getpid(), signal.SIGINT)

    try:
        _lowland.embed(source, options={"n_epochs": 1000}, callback=tell, interrupt=True)
        ended.append("done")
    except KeyboardInterrupt:
        ended.append("interrupted")

for _ in range(3):
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    thread = threading.Thread(target=run, args=[_lowland.Source.array(rows)])
    thread.start()
    thread.join()

def between():
    source = _lowland.Source.spool(iter([rows]), interrupt=True)
    os.kill(os.getpid(), signal.SIGINT)
    try:
        _lowland.embed(source, options={"n_epochs": 100}, interrupt=True)
        ended.append("done")
    except KeyboardInterrupt:
        ended.append("interrupted")
    _lowland.embed(source, options={"n_epochs": 10}, interrupt=True)

thread = threading.Thread(target=between)
thread.start()
thread.join()
signal.signal(signal.SIGINT, signal.SIG_IGN)
thread = threading.Thread(target=run, args=[_lowland.Source.array(rows)])
thread.start()
thread.join()
print(ended, len(heard))
"""
    told = python(script)
    assert told.stdout.strip() == "['interrupted', 'interrupted', 'interrupted', 'interrupted', 'done'] 4", told


def test_batches_of_a_map_can_be_interrupted_and_tell_warnings():
    script = """
import os, signal
import numpy as np
import lowland

rows = np.random.default_rng(0).normal(size=(3000, 8)).astype("f4")
stages = []

def tell(event):
    stages.append(event["kind"])
    if event["stage"] == "layout" and event["kind"] == "start":
        os.kill(os.getpid(), signal.SIGINT)

try:
    list(lowland.embed_batches(rows, n_epochs=100_000, callback=tell, verbose=True))
except KeyboardInterrupt:
    print("interrupted")
"""
    told = python(script)
    assert told.stdout.strip() == "interrupted" and "neighbors" in told.stderr, told


@pytest.mark.parametrize(
    "work",
    [
        "lowland.UMAP(n_epochs=3000, n_jobs=1).fit(X)",
        "[None for _ in lowland.embed_batches(X, n_epochs=3000, n_jobs=1)]",
        "lowland.UMAP(n_epochs=3000, n_jobs=1).fit(slow(X))",
    ],
)
def test_python_ends_while_a_thread_fits(work, tmp_path):
    """The end of Python stops what other threads do, waits for them, and leaves no files."""
    program = f"""
import sys, threading, time, numpy as np, lowland
X = np.random.default_rng(0).normal(size=(20000, 20)).astype("f4")
begun = threading.Event()
def slow(X):
    for batch in np.array_split(X, 200):
        begun.set()
        time.sleep(.01)
        yield batch
def work():
    begun.set()
    {work}
threading.Thread(target=work, daemon=True).start()
begun.wait()
time.sleep(.3)
sys.exit(5)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, capture_output=True, text=True)
    assert ended.returncode == 5, (ended.returncode, ended.stderr)
    assert not list(tmp_path.iterdir())
