"""Stored models: fits that keep one, rows on its map, its versions, and updates; the same results as the command line."""

from __future__ import annotations

import copy
import gc
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

import lowland
from lowland import _estimators

from conftest import clusters

KINDS = [lowland.UMAP, lowland.LargeVis, lowland.InfoTSNE, lowland.TSNE, lowland.PaCMAP]
EPOCHS = 30


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory, which is the current one and where temporary files are."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.setattr("tempfile.tempdir", None)


def table(rows, ids=None, **columns):
    """Returns a table of pyarrow: ids, vectors, and other columns."""
    pyarrow = pytest.importorskip("pyarrow")
    ids = np.arange(len(rows)) if ids is None else ids
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows.shape[1])
    return pyarrow.table({"id": ids, "embedding": vectors, **columns})


def columns(found):
    """Returns a table of lowland as a dict of lists."""
    import pyarrow

    return pyarrow.table(found).to_pydict()


def files(directory):
    """Returns the bytes of the files of a model, by name: without its lock, which names the last holder."""
    there = [path for path in pathlib.Path(directory).rglob("*") if path.is_file() and path.name != "LOCK"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in there}


@pytest.fixture
def model(place):
    """A model of 400 rows with ids, and the rows."""
    rows = clusters(400)
    lowland.embed(table(rows), id="id", model="map.lowland", n_epochs=EPOCHS)
    return lowland.Model("map.lowland"), rows


# Estimators


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_fit_with_a_model_places_rows(kind, place, same):
    rows, new = clusters(400), clusters(60, seed=1)
    # The clusters of another seed lie elsewhere.
    new = (rows[:60] + 0.1 * new).astype(np.float32)
    plain = kind(n_epochs=EPOCHS).fit_transform(rows)
    fitted = kind(n_epochs=EPOCHS, model="map.lowland")
    found = fitted.fit_transform(rows)
    assert same(found, plain), "the model does not change the map"
    placed = fitted.transform(new)
    assert placed.shape == (60, 2) and placed.dtype == np.float32 and np.isfinite(placed).all()
    # A copy of a row of the fit lands on it; each row by itself.
    assert same(fitted.transform(rows), found)
    assert same(fitted.transform(new[7:8]), placed[7:8])
    assert same(fitted.set_params(n_jobs=1, memory_limit="400MiB").transform(new), placed)
    # New rows lie near the rows that they resemble.
    near = np.linalg.norm(placed - found[:60], axis=1)
    far = np.linalg.norm(placed - found[60:120], axis=1)
    assert np.median(near) < 0.5 * np.median(far)
    # From the files alone.
    again = kind.from_model("map.lowland")
    assert same(again.transform(new), placed)
    assert again.n_features_in_ == 8 and again.n_epochs == EPOCHS and not hasattr(again, "embedding_")
    assert list(again.get_feature_names_out()) == list(fitted.get_feature_names_out())
    assert same(lowland.Model("map.lowland", 1).transform(new), placed)


def test_a_fit_without_a_model_keeps_a_temporary_one(place, same):
    rows = clusters(300)
    fitted = lowland.UMAP(n_epochs=EPOCHS).fit(rows)
    where = fitted.model_.path
    assert where.startswith(str(place / "temporary")) and os.path.isdir(where)
    assert same(fitted.transform(rows), fitted.embedding_)
    copied, pickled = copy.deepcopy(fitted), pickle.dumps(fitted)
    assert same(pickle.loads(pickled).transform(rows[:5]), fitted.embedding_[:5])
    del fitted
    gc.collect()
    assert same(copied.transform(rows[:5]), copied.embedding_[:5]), "a copy keeps the files"
    copied.fit(rows[:200])
    gc.collect()
    assert not os.path.exists(where), "the next fit has a model of its own"
    del copied
    gc.collect()
    assert os.listdir(place / "temporary") == []
    with pytest.raises(FileNotFoundError, match="temporary.*model='map.lowland'"):
        pickle.loads(pickled)


def test_fits_that_keep_no_model_say_why(place, monkeypatch):
    rows = clusters(300)
    graph = lowland.knn(rows, n_neighbors=15)
    cases = {
        "a graph": lowland.UMAP(n_epochs=EPOCHS, precomputed_knn=graph).fit(rows),
        "run_dir": lowland.UMAP(n_epochs=EPOCHS, run_dir="work").fit(rows),
    }
    monkeypatch.setattr(_estimators, "TEMPORARY_MODEL_BYTES", 300 * 8 * 4 - 1)
    cases["MiB"] = lowland.UMAP(n_epochs=EPOCHS).fit(rows)
    monkeypatch.setattr(_estimators, "TEMPORARY_MODEL_BYTES", 300 * 8 * 4)
    assert hasattr(lowland.UMAP(n_epochs=EPOCHS).fit(rows), "model_")
    for why, fitted in cases.items():
        assert not hasattr(fitted, "model_")
        with pytest.raises(ValueError, match=f"{why}.*model='map.lowland'"):
            fitted.transform(rows)
    with pytest.raises(ValueError, match="not fitted"):
        lowland.UMAP().transform(rows)
    assert not hasattr(lowland.SNE(), "transform")
    with pytest.raises(TypeError, match="lists of near rows"):
        lowland.SNE(model="map.lowland")


def test_a_pickle_of_a_fit_with_a_model_works_in_another_process(place, same):
    rows = clusters(300)
    fitted = lowland.UMAP(n_epochs=EPOCHS, model="map.lowland").fit(rows)
    pathlib.Path("fitted.pickle").write_bytes(pickle.dumps(fitted))
    np.save("rows.npy", rows)
    script = (
        "import pickle, numpy as np; fitted = pickle.load(open('fitted.pickle', 'rb'));"
        "np.save('placed.npy', fitted.transform(np.load('rows.npy')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert same(np.load("placed.npy"), fitted.embedding_)


def test_what_does_not_go_together_with_a_model(place):
    rows = clusters(300)
    graph = lowland.knn(rows, n_neighbors=15)
    for name, value in (("run_dir", "work"), ("restart", True), ("keep_graph", True), ("precomputed_knn", graph)):
        with pytest.raises(ValueError, match=f"^{name}: .*model"):
            lowland.UMAP(model="map.lowland", **{name: value}).fit(rows)
    assert not os.path.exists("map.lowland")
    lowland.UMAP(model="map.lowland", n_epochs=EPOCHS).fit(rows)
    before = files("map.lowland")
    with pytest.raises(ValueError, match="is a model with versions up to 1 already.*Model"):
        lowland.UMAP(model="map.lowland", n_epochs=EPOCHS).fit(rows[:200])
    assert files("map.lowland") == before
    with pytest.raises(ValueError, match="is a model of umap, not of tsne"):
        lowland.TSNE.from_model("map.lowland")
    with pytest.raises((ValueError, OSError), match="nowhere"):
        lowland.UMAP.from_model("nowhere")


def test_transform_checks_the_columns_of_frames(place, same):
    pandas = pytest.importorskip("pandas")
    rows = clusters(300)
    frame = pandas.DataFrame(rows, columns=[f"f{i}" for i in range(8)])
    fitted = lowland.UMAP(n_epochs=EPOCHS).fit(frame)
    assert same(fitted.transform(frame), fitted.embedding_)
    with pytest.raises(ValueError, match="should match"):
        fitted.transform(frame[frame.columns[::-1]])
    with pytest.warns(UserWarning, match="valid feature names"):
        fitted.transform(rows)
    with pytest.raises(ValueError, match="X has 7 features, but UMAP is expecting 8 features as input"):
        lowland.UMAP(n_epochs=EPOCHS).fit(rows).transform(rows[:, :7])


def test_rows_without_a_vector(place, same):
    rows = clusters(300)
    holes = rows[:20].copy()
    holes[3, 2] = np.nan
    fitted = lowland.UMAP(n_epochs=EPOCHS).fit(rows)
    with pytest.raises(ValueError, match="row 3"):
        fitted.transform(holes)
    found = fitted.set_params(invalid="null").transform(holes)
    assert np.isnan(found[3]).all() and same(np.delete(found, 3, 0), np.delete(fitted.embedding_[:20], 3, 0))
    assert same(fitted.set_params(invalid="drop").transform(holes), np.delete(found, 3, 0))
    # Rows that the fit has left out.
    fitted = lowland.UMAP(n_epochs=EPOCHS, invalid="null").fit(np.concatenate([holes, rows[20:]]))
    assert same(fitted.transform(rows[20:40]), fitted.embedding_[20:40])


# Models


def test_a_model_tells_what_it_is(model):
    found, _ = model
    assert (found.version, found.rows, found.n_features, found.n_components) == (1, 400, 8, 2)
    assert found.path == os.path.abspath("map.lowland")
    assert found.options["id"] == "id" and found.options["column"] == "embedding"
    assert found.options["settings"]["method"] == "umap"
    (version,) = found.versions()
    assert version["number"] == 1 and version["current"] and version["counts"]["rows"] == 400
    assert "version 1, 400 rows" in repr(found)
    assert found.verify() == []


def test_forms_of_a_map_that_is_kept_as_a_model(place, same):
    rows = table(clusters(300), label=[str(i) for i in range(300)])
    plain = lowland.embed(rows, form="array", n_epochs=EPOCHS)
    assert same(lowland.embed(rows, form="array", model="a.lowland", n_epochs=EPOCHS), plain)
    found = columns(lowland.embed(rows, form="table", id="id", keep="label", model="b.lowland", n_epochs=EPOCHS))
    assert list(found) == ["id", "x", "y", "label"] and found["label"] == [str(i) for i in range(300)]
    assert same(np.column_stack([found["x"], found["y"]]).astype(np.float32), plain)
    lowland.embed(rows, "map.npy", model="c.lowland", n_epochs=EPOCHS)
    assert same(np.load("map.npy"), plain)
    report = lowland.embed(rows, model="d.lowland", n_epochs=EPOCHS)
    assert isinstance(report, lowland.Report) and report.json["quality"]
    with pytest.raises(ValueError, match="run_dir: with `model`"):
        lowland.embed(rows, model="e.lowland", run_dir="work")
    with pytest.raises(ValueError, match="pairs"):
        lowland.embed(rows, model="e.lowland", method="sne")
    assert not os.path.exists("e.lowland")
    assert os.listdir(place / "temporary") == []


def test_forms_of_placed_rows(model, same, command_line):
    found, rows = model
    new = table((rows[:50] + 0.1).astype(np.float32), np.arange(1000, 1050), label=[str(i) for i in range(50)])
    placed = found.transform(new)
    assert placed.shape == (50, 2) and placed.dtype == np.float32
    as_table = found.transform(new, keep="label")
    read = columns(as_table)
    assert list(read) == ["id", "x", "y", "outlier", "label"], "the ids are in the model's column"
    assert read["id"] == list(range(1000, 1050)) and read["label"][7] == "7"
    assert same(np.column_stack([read["x"], read["y"]]).astype(np.float32), placed)
    report = found.transform(new, "placed.parquet", keep=["label"], coordinates=["u", "v"])
    assert report.json["rows"] == 50 and report.json["model_version"] == 1 and "placed" in report.text
    import pyarrow.parquet

    pyarrow.parquet.write_table(new, "new.parquet")
    assert pyarrow.parquet.read_table("placed.parquet").column_names == ["id", "u", "v", "outlier", "label"]
    command_line(
        "transform", "--model", "map.lowland", "new.parquet", "-o", "told.parquet", "--keep", "label", "--coordinates", "u,v"
    )
    assert pathlib.Path("told.parquet").read_bytes() == pathlib.Path("placed.parquet").read_bytes()
    found.transform("new.parquet", "placed.npy")
    assert same(np.load("placed.npy"), placed)
    with pytest.raises(FileExistsError, match="force=True"):
        found.transform(new, "placed.npy")
    # Arrays, batches and other frames hold the same rows.
    array = (rows[:50] + 0.1).astype(np.float32)
    for given in (array, [array[:20], array[20:]], iter([array]), "new.parquet", ["new.parquet"]):
        assert same(found.transform(given), placed)
    assert sorted(os.listdir()) == [
        "map.lowland", "new.parquet", "placed.npy", "placed.parquet", "temporary", "told.parquet",
    ]  # fmt: skip


def test_arrays_have_their_ids_beside_them(model, same):
    found, rows = model
    array = (rows[:50] + 0.1).astype(np.float32)
    new = table(array, np.arange(1050, 1000, -1).astype(np.int32), name=[f"row {i}" for i in range(50)])
    placed, ids = found.transform(new, return_ids=True)
    assert same(placed, found.transform(new)) and ids.dtype == np.int32 and ids.tolist() == list(range(1050, 1000, -1))
    # Another column, texts, and rows that have no ids.
    _, ids = found.transform(new, id="name", return_ids=True)
    assert ids.dtype == object and ids.shape == (50,) and ids[7] == "row 7"
    assert found.transform(array, return_ids=True)[1].tolist() == list(range(50))
    # Without the rows that are left out.
    array[3, 2] = np.nan
    holes = table(array, np.arange(100, 150))
    placed, ids = found.transform(holes, return_ids=True, invalid="drop")
    assert placed.shape == (49, 2) and ids.tolist() == [i for i in range(100, 150) if i != 103]
    assert found.transform(array, return_ids=True, invalid="drop")[1].tolist() == [i for i in range(50) if i != 3]
    placed, ids = found.transform(holes, return_ids=True, invalid="null")
    assert np.isnan(placed[3]).all() and ids.tolist() == list(range(100, 150))
    for wrong in ({"form": "table"}, {"output": "x.parquet"}, {"keep": "name"}):
        with pytest.raises(ValueError, match="return_ids"):
            found.transform(new, return_ids=True, **wrong)
    days = table(rows[:5], day=np.arange(5).astype("datetime64[D]"))
    with pytest.raises(ValueError, match="return_ids.*Date32.*table"):
        found.transform(days, id="day", return_ids=True)


def test_a_map_is_exported_as_arrays(model, same):
    found, rows = model
    found.update(table(rows[5:], np.arange(5, 400)), mode="transform")
    read = columns(found.export())
    placed, ids = found.export(form="array", return_ids=True)
    assert placed.shape == (395, 2) and placed.dtype == np.float32 and ids.dtype == np.int64
    assert ids.tolist() == read["id"] and same(placed, np.column_stack([read["x"], read["y"]]).astype(np.float32))
    assert same(found.export(form="array"), placed)
    assert lowland.Model("map.lowland", 1).export(form="array").shape == (400, 2)
    for wrong, what in [
        ({"return_ids": True}, "return_ids"),
        ({"form": "file"}, "output"),
        ({"form": "array", "output": "x.parquet"}, "output"),
        ({"form": "array", "coordinates": ["u", "v"]}, "coordinates"),
        ({"form": "frame"}, "form"),
    ]:
        with pytest.raises(ValueError, match=what):
            found.export(**wrong)
    # Ids that are texts.
    lowland.embed(table(rows, [f"row {i}" for i in range(400)]), id="id", model="texts.lowland", n_epochs=EPOCHS)
    placed, ids = lowland.Model("texts.lowland").export(form="array", return_ids=True)
    assert ids.dtype == object and sorted(ids) == sorted(f"row {i}" for i in range(400))


def test_rows_far_away_are_outliers(model):
    found, rows = model
    far = columns(found.transform((rows[:5] * 50).astype(np.float32), form="table"))
    near = columns(found.transform(rows, form="table"))
    assert min(far["outlier"]) > 1
    assert np.mean(np.array(near["outlier"]) > 1) <= 0.02
    assert far["id"] == [0, 1, 2, 3, 4]
    # Of a few rows, one that is outside tells nothing about the others.
    with pytest.warns(lowland.LowlandWarning, match="outside"):
        found.transform((rows[:20] * 50).astype(np.float32))


def test_rows_of_another_width_are_refused(model):
    found, rows = model
    with pytest.raises(ValueError, match="7 components.*8"):
        found.transform(rows[:, :7].copy())
    with pytest.raises(lowland.BudgetError):
        found.transform(rows, memory_limit="1MiB")
    with pytest.raises(ValueError, match="no column \"nothing\""):
        found.transform(table(rows), keep="nothing")


def test_updates_and_versions(model, same):
    found, rows = model
    before = columns(found.export())
    new = clusters(20, seed=0)[:20] + np.float32(0.05)
    changed = rows[10:].copy()
    changed[0] += 0.5
    # Ten rows are gone, one has another vector, twenty are new.
    today = table(np.concatenate([changed, new]), np.concatenate([np.arange(10, 400), np.arange(500, 520)]))
    report = found.update(today, mode="transform", run_id="tonight", gates="recall>=0.2")
    assert isinstance(report, lowland.UpdateReport) and not report.refused
    assert (report.outcome, report.version, report.parent, report.mode) == ("published", 2, 1, "transform")
    counts = {"rows": 410, "added": 20, "changed": 1, "deleted": 10, "unchanged": 389}
    assert report.counts == counts and report.json["counts"] == counts
    assert report.measures["recall"] > 0.2 and report.gates[0]["passed"] and "version 2" in report.text
    report.raise_for_refusal()
    assert (found.version, found.rows) == (2, 410), "the object follows its own update"
    assert lowland.Model("map.lowland", 1).rows == 400
    # Old rows are where they were.
    after = columns(found.export())
    old = dict(zip(before["id"], zip(before["x"], before["y"])))
    now = dict(zip(after["id"], zip(after["x"], after["y"])))
    assert all(now[i] == old[i] for i in range(11, 400)) and set(now) == {*range(10, 400), *range(500, 520)}
    assert {after["added_in"][after["id"].index(i)] for i in range(500, 520)} == {2}
    neighbors = after["neighbors"][after["id"].index(50)]
    assert len(neighbors["ids"]) == len(neighbors["distances"]) > 0 and 50 not in neighbors["ids"]
    # The same run again, and the same table.
    assert found.update(today, run_id="tonight").outcome == "already-published"
    assert found.update(today).outcome == "unchanged"
    # Differences, tags, rollback.
    difference = found.diff(1)
    assert (difference["added"], difference["changed"], difference["deleted"]) == (20, 1, 10)
    assert found.diff("@1", "@2") == difference
    assert found.tag("good", 1) == 1 and lowland.Model("map.lowland", "good").version == 1
    assert found.rollback("good") == 3 and (found.version, found.rows) == (3, 400)
    assert same(found.transform(rows[:30]), lowland.Model("map.lowland", "@1").transform(rows[:30]))
    # Removal of old versions.
    would = found.gc(1, dry_run=True)
    assert would["versions"] == [2] and would["dry_run"] and len(found.versions()) == 3
    assert found.gc(1)["versions"] == [2]
    assert [version["number"] for version in found.versions()] == [1, 3]
    found.untag("good")
    assert found.gc(1)["versions"] == [1] and found.verify() == []


def test_a_table_of_changes(model):
    pyarrow = pytest.importorskip("pyarrow")
    found, rows = model
    vectors = [(rows[0] + 0.3).tolist(), (rows[1] + 0.3).tolist(), None]
    today = pyarrow.table(
        {
            "id": [700, 1, 2],
            "change": ["added", "changed", "deleted"],
            "embedding": pyarrow.array(vectors, pyarrow.list_(pyarrow.float32(), 8)),
        }
    )
    report = found.update(today, changes=True)
    assert report.counts == {"rows": 400, "added": 1, "changed": 1, "deleted": 1, "unchanged": 398}
    ids = set(columns(found.export())["id"])
    assert 700 in ids and 1 in ids and 2 not in ids


def test_a_refused_version_is_told_and_not_current(model):
    found, rows = model
    today = table(np.concatenate([rows, rows[:5] + np.float32(0.3)]), np.arange(405))
    report = found.update(today, gates=["recall>=1.01", "moved_p95<=0.5"])
    assert report.refused and report.version == 2 and found.version == 1
    assert [gate["passed"] for gate in report.gates] == [False, True]
    with pytest.raises(lowland.LowlandError, match="recall>=1.01.*rollback"):
        report.raise_for_refusal()
    assert found.rollback(2) == 3 and found.rows == 405


def test_bad_updates_leave_the_model_as_it_was(model):
    found, rows = model
    before = files("map.lowland")
    cases = [
        (dict(source=table(rows[:100])), "max_shrink"),
        (dict(source=table(rows[:, :5].copy())), "components"),
        (dict(source=table(rows, np.zeros(400, np.int64))), "399 rows"),
        (dict(source=table(rows, [str(i) for i in range(400)])), "ids"),
        (dict(source=table(rows), id="name"), "name"),
        (dict(source=rows), "id"),
        (dict(source=table(rows), mode="dirty"), "mode: .*auto, transform, refit"),
        (dict(source=table(rows), move="all"), "move: .*none, dirty"),
        (dict(source=table(rows), mode="refit", move="dirty"), "refit"),
        (dict(source=table(rows), gates="recal>=0.9"), "gates: .*recall"),
        (dict(source=table(rows), gates="recall>0.9"), "gates: .*recall>=0.9"),
        (dict(source=table(rows), refit_when="added"), "refit_when"),
        (dict(source=table(rows), max_shrink=2.0), "max_shrink"),
        (dict(source=table(rows), run_id="../away"), "name"),
        (dict(source=table(rows), invalid="null"), "drop"),
    ]
    for arguments, why in cases:
        with pytest.raises(ValueError, match=why):
            found.update(**arguments)
    assert {name: data for name, data in files("map.lowland").items() if not name.startswith("runs/")} == before


def test_rows_whose_neighbours_change_may_move(model):
    found, rows = model
    before = columns(found.export())
    today = table(np.concatenate([rows, rows[:20] + np.float32(0.2)]), np.arange(420))
    report = found.update(today, mode="transform", move="dirty")
    moved, cap = report.measures["moved_rows"], report.measures["move_cap"]
    assert 0 < moved < 400 and 0 <= report.measures["capped_rows"] <= moved and "rows moved" in report.text
    after = columns(found.export())
    old = dict(zip(before["id"], zip(before["x"], before["y"])))
    now = dict(zip(after["id"], zip(after["x"], after["y"])))
    far = np.array([np.hypot(*np.subtract(now[i], old[i])) for i in range(400)])
    at = np.array([old[i] for i in range(400)])
    radius = np.sqrt(((at - at.mean(0)) ** 2).sum(1).mean())
    assert (far > 0).sum() == moved and far.max() <= cap * radius * 1.001


def test_kept_columns_are_stored_and_exported(place):
    rows = clusters(400)
    labels = [f"label {i % 5}" if i % 7 else None for i in range(420)]
    lowland.embed(table(rows, label=labels[:400]), id="id", keep="label", model="map.lowland", n_epochs=EPOCHS)
    found = lowland.Model("map.lowland")
    assert found.options["kept"] == ["label"]
    read = columns(found.export())
    assert list(read) == ["id", "x", "y", "label", "added_in", "moved", "neighbors"]
    assert dict(zip(read["id"], read["label"])) == dict(enumerate(labels[:400]))
    tonight = np.concatenate([rows, rows[:20] + np.float32(0.2)])
    with pytest.raises(ValueError, match='no column "label"'):
        found.update(table(tonight))
    with pytest.raises(ValueError, match='"label" has type Int64'):
        found.update(table(tonight, label=list(range(420))))
    found.update(table(tonight, label=labels), mode="transform")
    read = columns(found.export())
    assert dict(zip(read["id"], read["label"])) == dict(enumerate(labels))
    assert found.verify() == [] and len(found.transform(rows[:3])) == 3
    with pytest.raises(ValueError, match="moved.*cannot be kept"):
        lowland.embed(table(rows, moved=labels[:400]), id="id", keep="moved", model="other.lowland", n_epochs=EPOCHS)
    assert not os.path.exists("other.lowland")
    # A frame from Polars, and the map as a table.
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"id": range(400), "label": labels[:400], "embedding": rows})
    made = lowland.embed(frame, id="id", keep="label", model="frame.lowland", form="table", n_epochs=EPOCHS)
    assert polars.DataFrame(made)["label"].to_list() == labels[:400]
    exported = polars.DataFrame(lowland.Model("frame.lowland").export())
    assert exported.sort("id")["label"].to_list() == labels[:400]


def test_a_refit_keeps_the_map_in_place(model):
    found, rows = model
    before = columns(found.export())
    report = found.update(table(np.concatenate([rows, rows[:40] + np.float32(0.2)]), np.arange(440)), mode="refit")
    assert report.mode == "refit" and report.outcome == "published" and found.rows == 440
    assert 0 < report.measures["moved_p95"] < 1 and report.measures["kept_neighbors"] > 0.2
    after = columns(found.export())
    middle = [np.column_stack([t["x"], t["y"]])[np.argsort(t["id"])[:400]].mean(0) for t in (before, after)]
    assert np.linalg.norm(middle[0] - middle[1]) < 1


def test_versions_that_are_not_there(model):
    found, _ = model
    for ask in (
        lambda: lowland.Model("map.lowland", 7),
        lambda: lowland.Model("map.lowland", "nothing"),
        lambda: found.rollback(7),
        lambda: found.diff(7),
        lambda: found.tag("a", 7),
    ):
        with pytest.raises(ValueError, match="no version"):
            ask()
    with pytest.raises(TypeError, match="version"):
        lowland.Model("map.lowland", 1.5)
    with pytest.raises(ValueError, match="a/b"):
        found.tag("a/b")
    os.mkdir("empty")
    for where in ("empty", "nothing", "temporary"):
        with pytest.raises((ValueError, OSError), match=where):
            lowland.Model(where)


def test_a_damaged_file_is_named(model):
    found, _ = model
    damaged = max((pathlib.Path("map.lowland") / "data").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(data)
    (told,) = found.verify()
    assert damaged.name in told["file"] and told["what"]
    # Cut short: the version cannot be read, and the model can still be checked.
    damaged.write_bytes(data[:10])
    broken = lowland.Model("map.lowland")
    assert broken.verify() and broken.versions()
    with pytest.raises(lowland.LowlandError, match=damaged.name):
        broken.transform(np.zeros((2, 8), np.float32))


def test_a_model_without_ids_cannot_be_updated(place):
    rows = clusters(300)
    lowland.UMAP(model="map.lowland", n_epochs=EPOCHS).fit(rows)
    with pytest.raises(ValueError, match="column of ids"):
        lowland.Model("map.lowland").update(table(rows))


def test_a_fit_that_was_stopped_goes_on(place, same):
    rows = clusters(300)

    class Enough(Exception): ...

    def stop_at(stage):
        def stop(event):
            if event["kind"] == "start" and event["stage"] == stage:
                raise Enough

        return stop

    expected = lowland.UMAP(n_epochs=3000).fit_transform(rows)
    for stage in ("neighbors", "layout", "place"):
        with pytest.raises(Enough):
            lowland.UMAP(n_epochs=3000, model="map.lowland", callback=stop_at(stage)).fit(rows)
            raise Enough  # the fit was done before the event was delivered
        if os.path.exists("map.lowland/CURRENT"):
            return
    fitted = lowland.UMAP(n_epochs=3000, model="map.lowland").fit(rows)
    assert same(fitted.embedding_, expected) and same(fitted.transform(rows), expected)
    assert [name for name in os.listdir() if name.startswith(".")] == []


def test_models_are_copied_and_pickled(model, same):
    found, rows = model
    for other in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.version == 1 and same(other.transform(rows[:10]), found.transform(rows[:10]))


def test_a_transform_is_stopped_by_its_callback(model):
    found, rows = model

    class Enough(Exception): ...

    def stop(event):
        raise Enough

    with pytest.raises(Enough):
        found.transform(np.tile(rows, (50, 1)), callback=stop)
    with pytest.raises(Enough):
        found.update(table(rows[:390] + np.float32(0.1)), callback=stop)
    assert found.version == 1 and found.verify() == []


def test_the_metrics_of_an_update_are_written(model):
    found, rows = model
    found.update(table(rows[:390]), mode="transform", metrics_file="map.prom")
    assert 'lowland_update_deleted_rows{model="' in pathlib.Path("map.prom").read_text()


# Polars


@pytest.fixture
def frame():
    pl = pytest.importorskip("polars")
    rows = (clusters(400)[:50] + 0.1).astype(np.float32)
    return pl.DataFrame({"id": range(50), "label": [str(i % 3) for i in range(50)], "embedding": rows})


def test_frames_are_placed(model, frame, same):
    import polars as pl
    import lowland.polars

    found, _ = model
    expected = found.transform(frame)
    read = frame.lowland.transform(model="map.lowland", column="embedding", id="id", keep="label")
    assert read.schema == {
        "id": pl.Int64, "x": pl.Float32, "y": pl.Float32, "outlier": pl.Float32, "label": pl.String,
    }  # fmt: skip
    assert same(read.select("x", "y").to_numpy(), expected) and read["label"].equals(frame["label"])
    query = frame.lazy().lowland.transform(model=found, keep="label")
    assert query.collect_schema() == read.schema and query.collect().equals(read)
    assert query.filter(pl.col("label") == "1").select("x").collect().equals(read.filter(pl.col("label") == "1").select("x"))
    assert lowland.polars.transform(frame, model="map.lowland", version="@1", keep="label").equals(read)
    # Without ids rows are numbered; names of coordinates.
    numbered = frame.drop("id").lowland.transform(model="map.lowland", coordinates=["u", "v"])
    assert numbered.columns == ["id", "u", "v", "outlier"] and numbered["id"].to_list() == list(range(50))
    query.sink_parquet("placed.parquet")
    assert pl.read_parquet("placed.parquet").equals(read)


def test_wrong_frames_are_refused_at_once(model, frame):
    import polars as pl
    import lowland.polars  # noqa: F401

    lazy = frame.lazy()
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="vector"):
        lazy.lowland.transform("vector", model="map.lowland")
    with pytest.raises(ValueError, match="5 components"):
        narrow = lazy.with_columns(embedding=pl.col("embedding").arr.slice(0, 5, as_array=True))
        narrow.lowland.transform(model="map.lowland")
    with pytest.raises(ValueError, match="no version"):
        lazy.lowland.transform(model="map.lowland", version=5)
    with pytest.raises((ValueError, OSError), match="nowhere"):
        lazy.lowland.transform(model="nowhere")
    with pytest.raises(ValueError, match="outlier"):
        lazy.with_columns(outlier=0).lowland.transform(model="map.lowland", keep="outlier")
    with pytest.raises(TypeError, match="model"):
        lazy.lowland.transform()
