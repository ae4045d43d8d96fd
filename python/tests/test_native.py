"""The native module by itself: arrays that it reads in place or refuses, errors, events, batches, graphs, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from conftest import clusters
from lowland import _lowland

OPTIONS = {"n_neighbors": 5, "n_epochs": 30, "seed": 1, "memory": "1GiB"}


@pytest.fixture
def source(X):
    return _lowland.Source.array(X)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_types_of_numbers(dtype):
    values = np.arange(24).reshape(6, 4).astype(dtype)
    source = _lowland.Source.array(values)
    assert (source.rows, source.dim) == (6, 4)
    assert source.dtype == (
        "bool" if dtype == "?" else values.dtype.str[1].replace("b", "i") + str(8 * values.itemsize)
    )
    assert np.array_equal(source.read(2, 5), values[2:5].astype("f4"))
    assert np.array_equal(source.read(0, 6, "f8"), values.astype("f8"))


def test_arrays_that_are_refused(X):
    swapped, parts = X.astype(">f4"), X[:, ::2]
    unaligned = np.frombuffer(b"0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    for values, why in [
        (swapped, "byte-swapped"),
        (parts, "not contiguous"),
        (np.asfortranarray(X), "not contiguous"),
        (unaligned, "not aligned"),
        (X[0], "2 dimensions"),
        (X[:0], "no numbers"),
        (X.astype(object), "type object"),
        (X.astype(complex), "complex"),
    ]:
        with pytest.raises(ValueError, match=why):
            _lowland.Source.array(values, "rows")
    with pytest.raises(TypeError, match="NumPy array"):
        _lowland.Source.array(X.tolist())


def test_an_array_is_shared_and_lives_as_long_as_its_source(X):
    values = X.copy()
    held = sys.getrefcount(values)
    source = _lowland.Source.array(values)
    assert sys.getrefcount(values) == held + 1
    values[3, 0] = 7.0
    assert source.read(3, 4)[0, 0] == 7.0
    del source
    assert sys.getrefcount(values) == held


def test_forms_of_a_map_have_the_same_numbers(source, tmp_path):
    pa = pytest.importorskip("pyarrow")
    array = _lowland.embed(source, options=OPTIONS).coordinates
    assert array.shape == (300, 2) and array.dtype == np.float32 and array.flags.c_contiguous
    table = pa.table(_lowland.embed(source, options=OPTIONS, form="table").table)
    assert table.column_names == ["id", "x", "y"]
    assert np.array_equal(np.column_stack([table["x"], table["y"]]), array)
    path = tmp_path / "map.npy"
    result = _lowland.embed(source, options=OPTIONS, form="file", output=path)
    assert result.coordinates is None and result.table is None and "total" in result.report.text
    assert np.array_equal(np.load(path), array)
    batches = _lowland.embed_batches(source, options=OPTIONS)
    assert batches.schema.column_names == ["id", "x", "y"] and batches.report is None
    together = pa.Table.from_batches([pa.record_batch(batch) for batch in batches])
    assert together.equals(table.combine_chunks()) or together.to_pydict() == table.to_pydict()
    assert json.loads(batches.report.to_json())["plan"]["config"]["n_epochs"] == 30


def test_batches_that_nobody_wants_stop_the_run(source):
    batches = _lowland.embed_batches(source, options={**OPTIONS, "n_epochs": 100_000})
    stopped = threading.Timer(0.5, batches.close)
    stopped.start()
    with pytest.raises(_lowland.LowlandError, match="stopped"):
        next(batches)
    assert next(batches, None) is None


def test_errors_are_of_their_kinds_and_name_pythons_arguments(source, tmp_path):
    with pytest.raises(_lowland.BudgetError, match="memory_limit") as small:
        _lowland.embed(source, options={"memory": "1MiB"})
    assert small.value.needed > small.value.budget == 1 << 20
    assert isinstance(small.value, MemoryError) and isinstance(small.value, _lowland.LowlandError)
    for options, why in [
        ({"n_neighbors": 0}, "n_neighbors: "),
        ({"n_neighbors": "five"}, "n_neighbors: a whole number"),
        ({"n_neighbors": True}, "n_neighbors: a whole number"),
        ({"perplexity": 5.0}, "perplexity"),
        ({"min_dist": "near"}, "min_dist: a number"),
        ({"memory": "much"}, "memory_limit: "),
        ({"seed": -1}, "random_state: "),
        ({"threads": 0}, "n_jobs"),
        ({"metric": "far"}, "metric: the metrics are"),
        ({"method": "nmap"}, "method: "),
        ({"no_such": 1}, "no_such: there is no such option"),
    ]:
        with pytest.raises(ValueError, match=why):
            _lowland.embed(source, options=options)
    with pytest.raises(FileNotFoundError):
        _lowland.Source.paths([str(tmp_path / "none.npy")])
    (tmp_path / "map.npy").touch()
    with pytest.raises(FileExistsError, match="force"):
        _lowland.embed(source, options=OPTIONS, form="file", output=tmp_path / "map.npy")
    with pytest.raises(ValueError, match="row 7"):
        _lowland.embed(_lowland.Source.array(np.where(np.arange(300)[:, None] == 7, np.nan, clusters())))
    with pytest.raises(TypeError, match="neither"):
        _lowland.embed()


def test_numbers_of_numpy_are_options(source):
    numbers = {"n_neighbors": np.int64(5), "n_epochs": np.uint8(30), "seed": np.int32(1), "memory": np.int64(1 << 30)}
    assert np.array_equal(
        _lowland.embed(source, options=numbers).coordinates, _lowland.embed(source, options=OPTIONS).coordinates
    )


def test_events_come_on_the_calling_thread(source):
    told = []
    _lowland.embed(source, options=OPTIONS, callback=lambda event: told.append((threading.get_ident(), event)))
    assert {thread for thread, _ in told} == {threading.get_ident()}
    events = [event for _, event in told]
    assert [event["stage"] for event in events if event["kind"] == "end"][-2:] == ["output", "quality"]
    assert {"start", "end"} <= {event["kind"] for event in events}
    assert all(event.keys() == {"kind", "stage", "done", "total", "unit", "text"} for event in events)


def test_nulls_of_slices_are_seen(X):
    pa = pytest.importorskip("pyarrow")
    rows = X.tolist()
    rows[40] = None
    rows[50][2] = None
    values = pa.array(rows, pa.list_(pa.float32(), 8))
    table = pa.table({"v": values})
    clean = _lowland.Source.arrow(table.slice(51))
    assert np.array_equal(clean.read(0, clean.rows), X[51:])
    for part in [table.slice(35), table.slice(45)]:
        with pytest.raises(ValueError, match="row 5"):
            _lowland.embed(_lowland.Source.arrow(part), options=OPTIONS)
    dropped = _lowland.embed(_lowland.Source.arrow(table.slice(35, 200)), options=OPTIONS, invalid="drop", form="table")
    assert len(dropped.table) == 198


def test_arrow_data_are_not_copied(X):
    pa = pytest.importorskip("pyarrow")
    address = X.ctypes.data
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 8)
    assert column.flatten().buffers()[1].address == address
    source = _lowland.Source.arrow(pa.table({"v": column}))
    X[5, 0] = 7.0
    assert np.array_equal(source.read(0, 300), X)


def test_spooled_batches_are_resumed_whatever_their_file(X, tmp_path):
    def spool():
        return _lowland.Source.spool(iter(np.array_split(X, 7)), directory=str(tmp_path))

    class Stop(Exception):
        pass

    def stop(event):
        if event["stage"] == "neighbors" and event["kind"] == "end":
            raise Stop

    first = spool()
    assert first.rows == 300 and first.spooled_bytes > X.nbytes
    with pytest.raises(Stop):
        _lowland.embed(first, options={**OPTIONS, "n_epochs": 2000}, run_dir=tmp_path / "run", callback=stop)
    del first
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    events = []
    again = _lowland.embed(
        spool(), options={**OPTIONS, "n_epochs": 2000}, run_dir=tmp_path / "run", callback=events.append
    )
    assert any("found done" in event["text"] for event in events)
    whole = _lowland.embed(_lowland.Source.array(X), options={**OPTIONS, "n_epochs": 2000})
    assert np.array_equal(again.coordinates, whole.coordinates)


def test_an_iterator_that_fails_leaves_nothing(X, tmp_path):
    def batches():
        yield X
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        _lowland.Source.spool(batches(), directory=str(tmp_path))
    with pytest.raises(ValueError, match="no rows"):
        _lowland.Source.spool(iter([]), directory=str(tmp_path))
    with pytest.raises(ValueError):
        _lowland.Source.spool(iter([X, X[:, :3].copy()]), directory=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_graph_takes_the_place_of_the_search(source, X):
    graph = _lowland.knn(source, options={"n_neighbors": 5})
    indices, distances = graph.to_numpy()
    assert indices.shape == distances.shape == (300, 5) and (graph.rows, graph.k) == (300, 5)
    exact = np.argsort(((X[:, None] - X[None]) ** 2).sum(2) + np.diag(np.full(300, np.inf)), axis=1)[:, :5]
    assert (np.sort(indices) == np.sort(exact)).mean() > 0.99
    ours = _lowland.embed(source, options=OPTIONS).coordinates
    again = _lowland.Graph.arrays(indices, distances, "euclidean")
    assert np.array_equal(_lowland.embed(source, graph=again, options=OPTIONS).coordinates, ours)
    with pytest.raises(ValueError, match="no row"):
        _lowland.Graph.arrays(indices + 1, distances)
    with pytest.raises(ValueError, match="metric"):
        _lowland.embed(source, graph=again, options={**OPTIONS, "metric": "cosine"})
    path = graph.path
    del graph
    assert not path.exists()


def test_plans_sources_and_runs(source, tmp_path):
    plan = _lowland.plan(source, options=OPTIONS)
    assert "layout" in plan.text and plan.peak > 0 and json.loads(plan.to_json())["peak"] == plan.peak
    found = _lowland.inspect(source)
    assert (found["rows"], found["components"], found["dtype"]) == (300, 8, "f32")
    _lowland.embed(source, options=OPTIONS, run_dir=tmp_path / "run")
    (run,) = _lowland.runs([tmp_path])
    assert run["state"] == "finished" and "layout" in run["finished"]


def test_scores_and_pictures(source, tmp_path):
    path = tmp_path / "map.parquet"
    _lowland.embed(source, options=OPTIONS, form="file", output=path)
    scores = _lowland.evaluate(path, source)
    assert scores["text"] and scores["scores"]
    points = _lowland.embed(source, options=OPTIONS).coordinates
    assert _lowland.evaluate(_lowland.Source.array(points, "map"), source)["scores"] == scores["scores"]
    png = _lowland.plot(path, width=200, height=100, output=tmp_path / "map.png")
    assert png.startswith(b"\x89PNG") and (tmp_path / "map.png").read_bytes() == png
    for color in [None, np.arange(300), np.linspace(0.0, 1.0, 300), [str(i % 3) for i in range(300)]]:
        assert _lowland.plot_array(points, color=color, width=200, height=100).startswith(b"\x89PNG")


def test_the_command_line_is_inside(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "lowland", *arguments], capture_output=True, text=True, timeout=60)

    assert run("--version").stdout.startswith(f"lowland {_lowland.__version__}")
    failed = run("embed", str(tmp_path / "none.npy"), "-o", str(tmp_path / "map.npy"))
    assert failed.returncode == 2 and "no such file" in failed.stderr and "Traceback" not in failed.stderr


def test_an_interrupt_reaches_other_threads_where_that_is_asked():
    script = """
import os, signal, threading, time
import numpy as np
from lowland import _lowland

source = _lowland.Source.array(np.random.default_rng(0).normal(size=(3000, 8)).astype("f4"))
ended = []

def run(**interrupt):
    def tell(event):
        if event["stage"] == "layout" and event["kind"] == "start":
            os.kill(os.getpid(), signal.SIGINT)

    try:
        _lowland.embed(source, options={"n_epochs": 1000}, callback=tell, **interrupt)
        ended.append("done")
    except KeyboardInterrupt:
        ended.append("interrupted")
    finished.set()

for interrupt in [{"interrupt": True}, {}]:
    finished = threading.Event()
    threading.Thread(target=run, kwargs=interrupt).start()
    # Python's own handler raises on the main thread. An interrupted `join` would take the thread for ended.
    while not finished.is_set():
        try:
            finished.wait()
        except KeyboardInterrupt:
            pass
print(ended)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "['interrupted', 'done']", ran.stdout + ran.stderr
