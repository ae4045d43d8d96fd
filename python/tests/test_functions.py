"""The functions of the package on arrays, frames and files."""

from __future__ import annotations

import re

import numpy as np
import pytest

import lowland

OPTIONS = {"n_neighbors": 5, "n_epochs": 30, "random_state": 1, "memory_limit": "1GiB"}


@pytest.fixture
def vectors(X, tmp_path):
    """A Parquet file of 300 vectors with the columns name and kind."""
    pl = pytest.importorskip("polars")
    path = tmp_path / "vectors.parquet"
    frame = pl.DataFrame({"name": [f"row {i}" for i in range(300)], "kind": [i % 3 for i in range(300)], "v": X})
    frame.write_parquet(path)
    return path


def test_a_map_of_files_frames_and_arrays(vectors, X, tmp_path, same):
    pl = pytest.importorskip("polars")
    array = lowland.embed(X, **OPTIONS)
    assert same(lowland.embed(vectors, column="v", **OPTIONS), array)
    table = pl.DataFrame(lowland.embed(vectors, column="v", id="name", keep="kind", **OPTIONS))
    assert table.columns == ["name", "x", "y", "kind"] and same(table.select("x", "y").to_numpy(), array)
    report = lowland.embed(vectors, tmp_path / "map.parquet", id="name", coordinates=["a", "b"], **OPTIONS)
    assert isinstance(report, lowland.Report) and "trustworthiness" in report.summary
    assert pl.read_parquet(tmp_path / "map.parquet").columns == ["name", "a", "b"]
    batches = [pl.DataFrame(batch) for batch in lowland.embed_batches(vectors, id="name", keep=["kind"], **OPTIONS)]
    assert pl.concat(batches).equals(table)


def test_neighbours_and_components(vectors, X):
    graph = lowland.knn(vectors, n_neighbors=4)
    assert graph.indices.shape == (300, 4) and np.all(np.diff(graph.distances) >= 0)
    assert lowland.embed(X, graph=graph, n_epochs=30, random_state=1).shape == (300, 2)
    result = lowland.pca(vectors, n_components=3)
    centred = X.astype("f8") - X.mean(0, dtype="f8")
    values = np.linalg.eigvalsh(centred.T @ centred / 299)[::-1][:3]
    assert np.allclose(result.explained_variance, values, rtol=1e-5) and result.scores.shape == (300, 3)


def test_scores_pictures_and_plans(vectors, X, tmp_path):
    path = tmp_path / "map.parquet"
    lowland.embed(vectors, path, keep="kind", run_dir=tmp_path / "run", **OPTIONS)
    scores = lowland.evaluate(path, vectors, labels="kind")
    points = lowland.embed(X, **OPTIONS)
    of_array = lowland.evaluate(points, X)
    assert of_array["scores"] == [score for score in scores["scores"] if score.get("labels") is None]
    picture = lowland.plot(path, color="kind", width=200, height=100)
    assert picture.startswith(b"\x89PNG") and picture._repr_png_() == bytes(picture)
    drawn = lowland.plot(points, tmp_path / "map.png", color=np.arange(300) % 3, width=200, height=100)
    assert (tmp_path / "map.png").read_bytes() == drawn
    with pytest.raises(ValueError, match="color: of 300 rows"):
        lowland.plot(points, color=[1, 2])
    with pytest.raises(ValueError, match="pixels"):
        lowland.plot(points, width=3)
    plan = lowland.plan(vectors, keep=["kind"], **OPTIONS)
    assert "layout" in repr(plan) and plan._repr_html_().startswith("<pre>") and plan.json["peak"] == plan.peak
    with pytest.raises(ValueError, match="no column"):
        lowland.plan(vectors, keep=["none"])
    assert lowland.inspect(vectors)["columns"] == ["name", "kind"]
    assert [run["state"] for run in lowland.runs(tmp_path)] == ["finished"]


def test_names_that_are_refused(X):
    with pytest.raises(ValueError, match="no method"):
        lowland.embed(X, method="umpa")
    with pytest.raises(ValueError, match="no parameter"):
        lowland.embed(X, n_neighbours=3)
    with pytest.raises(ValueError, match="needs a name"):
        lowland.embed(X, form="file")
    with pytest.raises(ValueError, match="only form"):
        lowland.embed(X, "map.npy", form="array")
    with pytest.raises(AttributeError, match="no attribute"):
        _ = lowland.NoSuchThing
    for form in ("array", "table"):
        for names in (["a"], ["a", "b", "c"]):
            with pytest.raises(ValueError, match=f"coordinates: {len(names)} names for 2 components"):
                lowland.embed(X, coordinates=names, form=form)
        with pytest.raises(ValueError, match='two coordinates would be called "a"'):
            lowland.embed(X, coordinates=["a", "a"], form=form)
    with pytest.raises(ValueError, match="coordinates: 2 names for 3 components"):
        lowland.embed(X, coordinates=["a", "b"], n_components=3)
    with pytest.raises(ValueError, match="coordinates: 1 names for 2 components"):
        lowland.pca(X, coordinates=["a"])


def test_where_a_graph_is_given_is_told(X):
    for make in (lowland.PaCMAP, lowland.SNE, lowland.PHATE):
        with pytest.raises(TypeError, match="no parameter 'precomputed_knn': this method needs the vectors; UMAP.*have it"):
            make(precomputed_knn="graph.arrow")
        with pytest.raises(TypeError, match="no parameter 'keep_graph'.*lowland.knn"):
            make(keep_graph=True)
    with pytest.raises(ValueError, match="precomputed_knn.*by graph="):
        lowland.embed(X, precomputed_knn="graph.arrow")


def test_an_empty_path_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(30, 4)).astype("f4")
    for call in (lowland.embed, lowland.knn, lowland.embed_batches, lowland.plan):
        with pytest.raises(ValueError, match="run_dir: the path is empty; leave run_dir out"):
            call(X, run_dir="")
    for call in (lowland.embed, lowland.knn, lowland.pca, lowland.plot):
        with pytest.raises(ValueError, match="output: the path is empty"):
            call(X, output="")
    with pytest.raises(ValueError, match="run_dir: the path is empty"):
        lowland.UMAP(run_dir="").fit(X)
    with pytest.raises(TypeError, match="run_dir: give a path or None, not int"):
        lowland.embed(X, run_dir=3)
    for name, call in {
        "X": lambda: lowland.UMAP().fit(""),
        "precomputed_knn": lambda: lowland.UMAP(precomputed_knn="").fit(None),
        "graph": lambda: lowland.embed(X, graph=""),
        "map": lambda: lowland.evaluate("", X),
        "directories": lambda: lowland.runs(""),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: the path is empty"):
            call()
    assert not list(tmp_path.iterdir())


def test_what_is_no_source_and_no_name_is_refused(X):
    for call in (lowland.knn, lowland.pca, lowland.inspect):
        with pytest.raises(ValueError, match="source is None; give an array"):
            call(None)
    with pytest.raises(TypeError, match="keep: give a name or a list of names, not 3"):
        lowland.embed(X, keep=3)
    with pytest.raises(TypeError, match="id: give the name of a column, not int"):
        lowland.pca(X, id=3)
    for call in (lowland.embed, lowland.plan):
        with pytest.raises(ValueError, match="column: give a name or a list of names, not 3"):
            call(X, column=3)


def test_a_plan_tells_what_this_machine_refuses(tmp_path):
    # A sparse file: 2 GB that take no space.
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.uint8, shape=(10**9, 2))
    del rows
    told = str(lowland.plan(tmp_path / "rows.npy", memory_limit="200GiB"))
    # The memory, or before that the disk.
    assert re.search("^refused +(`memory_limit`: the plan takes|.* are free)", told, re.M), told


def test_run_directories_are_local():
    with pytest.raises(ValueError, match="an address, and run directories are local"):
        lowland.runs("s3://bucket/run")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_beside_the_vectors_are_no_features_of_an_evaluation(X, library):
    module = pytest.importorskip(library)
    points = lowland.embed(X, **OPTIONS)
    names = [f"f{i}" for i in range(8)]
    rows = module.DataFrame({name: X[:, i] for i, name in enumerate(names)})
    beside = {"number": np.arange(300) * 1000.0, "weight": np.linspace(1, 2, 300), "kind": np.arange(300) % 3}
    more = module.DataFrame({**{name: X[:, i] for i, name in enumerate(names)}, **beside})
    expected = lowland.evaluate(points, rows)["scores"]
    found = lowland.evaluate(points, more[[*names, "weight", "kind"]], labels="kind", weights="weight")["scores"]
    assert [score for score in found if score["labels"] is None] == expected
    map_ = module.DataFrame({"number": beside["number"], "x": points[:, 0], "y": points[:, 1]})
    named = lowland.evaluate(map_, more[[*names, "number"]], id="number")
    assert named["scores"] == expected


def test_components_prepare_rows_as_the_fit_and_take_any_numbers(X):
    far = X.astype("f8") + 1000
    for metric in (None, "cosine", "correlation"):
        result = lowland.pca(far, n_components=3, metric=metric)
        for rows in (far, far.tolist(), np.asfortranarray(far)):
            assert np.allclose(result.transform(rows), result.scores, atol=1e-4), metric
        back = result.inverse_transform(result.scores.astype("f8"))
        assert back.shape == far.shape and back.dtype == np.float32
    with pytest.raises(ValueError, match="row 2, component 1 is NaN"):
        result.transform(np.where((np.arange(300)[:, None] == 2) & (np.arange(8) == 1), np.nan, far))
    with pytest.raises(ValueError, match=r"rows: an array of 2 dimensions is expected, not of the shape \[8\]"):
        result.transform(far[0])
    assert lowland.pca(X[:, :1]).scores.shape == (300, 1)


def test_a_report_tells_that_batches_were_copied_beside_the_run(X, tmp_path):
    seen = []

    def look(event):
        seen.extend(path.name for path in tmp_path.glob("*.spool"))

    report = lowland.embed(
        iter([X[:100], X[100:]]), tmp_path / "map.npy", run_dir=tmp_path / "run", callback=look, **OPTIONS
    )
    assert any("copied to disk once" in note for note in report.notes)
    assert seen


def test_a_graph_without_dropped_rows(X, tmp_path):
    bad = X.copy()
    bad[[3, 7]] = np.nan
    kept = np.delete(np.arange(300), [3, 7])
    sound = lowland.knn(X[kept], n_neighbors=4)
    for output in (None, tmp_path / "graph.arrow", tmp_path / "graph.parquet"):
        graph = lowland.knn(bad, output, n_neighbors=4, invalid="drop")
        assert (graph.rows, graph.k, graph.metric, graph.is_temporary) == (298, 4, "euclidean", output is None)
        assert np.array_equal(graph.ids, kept)
        assert np.array_equal(graph.indices, kept[sound.indices])
        assert np.array_equal(graph.distances, sound.distances)
        with pytest.raises(ValueError, match="rows were dropped"):
            lowland.embed(bad, graph=graph, invalid="drop", **OPTIONS)
    assert np.array_equal(sound.ids, np.arange(298))


def test_batches_tell_warnings(X):
    wide = X.copy()
    wide[:, 0] *= 1e6
    with pytest.warns(lowland.LowlandWarning):
        list(lowland.embed_batches(wide, n_epochs=20))
    with pytest.raises(ValueError, match="callback: int cannot be called"):
        lowland.embed_batches(X, callback=3)


def test_names_of_files_that_are_not_text(tmp_path, X):
    import os

    path = os.fsencode(tmp_path) + b"/\xff.npy"
    with open(path, "wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match="is not UTF-8; rename"):
        lowland.UMAP().fit(os.fsdecode(path))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory of temporary files, which must be empty after each call."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


def _as(kind: str, table):
    """Returns a table of lowland as an object of another library."""
    if kind == "lowland":
        return table
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(table)
    if kind == "polars lazy":
        return frame.lazy()
    if kind in ("pandas", "pyarrow", "pyarrow reader"):
        pytest.importorskip("pyarrow")
    if kind == "pandas":
        pytest.importorskip("pandas")
        return frame.to_pandas()
    if kind.startswith("pyarrow"):
        return frame.to_arrow().to_reader() if kind.endswith("reader") else frame.to_arrow()
    return frame


KINDS = ["lowland", "polars", "polars lazy", "pandas", "pyarrow", "pyarrow reader"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_in_memory_is_evaluated_and_drawn_as_its_file(vectors, X, tmp_path, temporary, kind):
    pytest.importorskip("polars")
    file, keep = tmp_path / "map.parquet", ["name", "kind"]
    lowland.embed(vectors, file, keep=keep, **OPTIONS)
    table = lowland.embed(vectors, keep=keep, **OPTIONS)
    assert table.column_names == ["id", "x", "y", "name", "kind"]

    expected = lowland.evaluate(file, X, labels="kind")["scores"]
    for coordinates in (None, "x,y", ["x", "y"]):
        found = lowland.evaluate(_as(kind, table), X, labels="kind", coordinates=coordinates)
        assert found["scores"] == expected and found["coordinates"] == "x,y"
    assert lowland.evaluate(_as(kind, table), vectors, id="name")["scores"] == lowland.evaluate(file, vectors)["scores"]

    size = {"width": 200, "height": 100}
    assert lowland.plot(_as(kind, table), **size) == lowland.plot(file, **size)
    asked = {"color": "kind", "coordinates": ["y", "x"], **size}
    assert lowland.plot(_as(kind, table), **asked) == lowland.plot(file, **asked)
    points = lowland.embed(X, **OPTIONS)
    values = np.arange(300) % 3
    assert lowland.plot(_as(kind, table), color=values, **size) == lowland.plot(points, color=values, **size)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_of_a_map_in_memory_that_are_not_there(vectors, X, temporary, kind):
    pytest.importorskip("polars")
    table = lowland.embed(vectors, coordinates=["left_x", "left_y"], **OPTIONS, form="table")
    for call in (lambda map, **asked: lowland.evaluate(map, X, **asked), lowland.plot):
        with pytest.raises(ValueError, match='^map: no coordinates.* numeric columns "id", "left_x", "left_y".*most likely'):
            call(_as(kind, table))
        with pytest.raises(ValueError, match='^map: no column "x"; it has "id", "left_x", "left_y"$'):
            call(_as(kind, table), coordinates=["x", "y"])
        call(_as(kind, table), coordinates="left_x,left_y")
    with pytest.raises(ValueError, match="numeric columns .*most likely"):
        lowland.plot(_as(kind, table), color=range(300))
    with pytest.raises(ValueError, match='^map: no column "kind"'):
        lowland.plot(_as(kind, table), coordinates=["left_x", "left_y"], color="kind")
    with pytest.raises(ValueError, match='no column "none"; the map\'s are id, left_x, left_y'):
        lowland.evaluate(_as(kind, table), X, labels="none", coordinates=["left_x", "left_y"])
    assert not list(temporary.iterdir())


def test_maps_without_columns_with_names(X):
    points = lowland.embed(X, **OPTIONS)
    for call in (lambda map, **asked: lowland.evaluate(map, X, **asked), lowland.plot):
        with pytest.raises(ValueError, match="coordinates: the map has no columns with names, because it is of the type nd"):
            call(points, coordinates="x,y")
        with pytest.raises(ValueError, match="coordinates: the list of names is empty"):
            call(points, coordinates=[])
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(points)  # its columns are 0 and 1
    assert lowland.evaluate(frame, X)["scores"] == lowland.evaluate(points, X)["scores"]
    assert lowland.plot(frame, width=200, height=100) == lowland.plot(points, width=200, height=100)
    with pytest.raises(ValueError, match="^map: no columns of numbers; it has 'a' "):
        lowland.plot(pytest.importorskip("polars").DataFrame({"a": ["text"]}))


def test_coordinates_of_a_file_as_a_list(vectors, X, tmp_path):
    file = tmp_path / "map.parquet"
    lowland.embed(vectors, file, **OPTIONS)
    found = lowland.evaluate(file, X, coordinates=["y", "x"])
    assert found["coordinates"] == "y,x" and found["scores"] == lowland.evaluate(file, X, coordinates="y,x")["scores"]
    assert lowland.plot(file, coordinates=["y", "x"]) == lowland.plot(file, coordinates="y,x")


def test_an_output_that_is_there_is_replaced_with_force(X, tmp_path):
    map_, picture = tmp_path / "map.parquet", tmp_path / "map.png"
    points = lowland.embed(X, **OPTIONS)
    for _ in range(2):
        lowland.embed(X, map_, force=True, **OPTIONS)
        lowland.plot(points, picture, force=True)
    for call in (
        lambda: lowland.embed(X, map_, **OPTIONS),
        lambda: lowland.knn(X, map_),
        lambda: lowland.pca(X, map_),
        lambda: lowland.plot(points, picture),
        lambda: lowland.plot(map_, picture),
    ):
        with pytest.raises(FileExistsError, match="already exists; give force=True to replace it$"):
            call()


def test_errors_name_arguments_and_no_temporary_files(X, tmp_path):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"id": range(300), "v": X})
    for data in (frame.lazy(), frame):
        with pytest.raises(ValueError, match='^X: no column "w"; it has "id", "v"$'):
            lowland.embed(data, column="w")
        with pytest.raises(ValueError, match='^X: no column "name"'):
            lowland.embed(data, column="v", keep="name")
        with pytest.raises(ValueError, match='^X: no column "name"'):
            lowland.embed_batches(data, column="v", keep="name")
        with pytest.raises(ValueError, match='^X: no column "name"'):
            lowland.plan(data, column="v", keep="name")
        with pytest.raises(ValueError, match='^X: no column "w"'):
            lowland.UMAP(column="w").fit(data)
    for run_dir in (None, tmp_path / "run"):
        with pytest.raises(ValueError, match="^init: the array has 3 first positions for 300 rows; give one for each row"):
            lowland.UMAP(init=np.zeros((3, 2)), run_dir=run_dir).fit(X)
        with pytest.raises(ValueError, match="^init: the array has 300 × 3 first positions for a map of 300 × 2$"):
            lowland.UMAP(init=np.zeros((300, 3)), run_dir=run_dir).fit(X)


def test_errors_show_no_whole_arrays_and_lead_to_other_parameters(X):
    for call in (
        lambda: lowland.evaluate(X[:, :2], X, labels=np.arange(300)),
        lambda: lowland.embed(X, keep=np.arange(300)),
        lambda: lowland.embed(X, column=np.arange(300)),
    ):
        with pytest.raises((TypeError, ValueError), match=r"not ndarray of the shape \(300,\)$"):
            call()
    with pytest.raises(ValueError, match=r"init: give a name or a file, not ndarray of the shape \(300, 2\); an estimator"):
        lowland.embed(X, init=X[:, :2])
    for call in (lowland.embed, lowland.plan, lowland.embed_batches):
        with pytest.raises(ValueError, match="no parameter 'precomputed_knn' here: lowland.embed takes a graph by graph=…"):
            call(X, precomputed_knn=1)
        with pytest.raises(ValueError, match="no parameter 'keep_graph' here: lowland.knn returns the graph"):
            call(X, keep_graph=True)
