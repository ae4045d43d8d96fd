"""The stage of a Polars query: laziness, schema, pushdowns, sinks, one run for many uses."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pl = pytest.importorskip("polars")

import lowland  # noqa: E402
import lowland.polars  # noqa: E402
from lowland import _lowland  # noqa: E402
from lowland._input import is_recent  # noqa: E402

from conftest import clusters  # noqa: E402

OPTIONS = {"n_epochs": 15, "random_state": 3}


@pytest.fixture(scope="module")
def rows():
    return clusters()


@pytest.fixture(scope="module")
def frame(rows):
    return pl.DataFrame({"name": [f"row {i}" for i in range(300)], "embedding": rows, "label": np.arange(300) % 5})


@pytest.fixture(scope="module")
def map_(rows):
    return lowland.UMAP(**OPTIONS).fit_transform(rows)


@pytest.fixture
def runs(monkeypatch):
    """Counts the runs of the engine."""
    counted = []

    def counting(*args, **kwargs):
        counted.append(kwargs)
        return whole(*args, **kwargs)

    whole = _lowland.embed
    monkeypatch.setattr(_lowland, "embed", counting)
    return counted


def points(frame):
    return frame.select("x", "y").to_numpy()


def test_a_lazy_map(frame, map_, runs, same):
    lazy = frame.lazy().lowland.embed("embedding", id="name", keep="label", **OPTIONS)
    assert isinstance(lazy, pl.LazyFrame)
    assert dict(lazy.collect_schema()) == {"name": pl.String, "x": pl.Float32, "y": pl.Float32, "label": pl.Int64}
    assert not runs
    found = lazy.collect()
    assert len(runs) == 1
    assert dict(found.schema) == dict(lazy.collect_schema())
    assert same(np.ascontiguousarray(points(found)), map_)
    assert found["name"].equals(frame["name"]) and found["label"].equals(frame["label"])


def test_a_frame_is_mapped_at_once(frame, map_, same):
    found = frame.lowland.embed(**OPTIONS)
    assert isinstance(found, pl.DataFrame) and found.columns == ["id", "x", "y"]
    assert found["id"].dtype == pl.UInt64 and found["id"].to_list() == list(range(300))
    assert same(np.ascontiguousarray(points(found)), map_)
    assert found.equals(lowland.polars.embed(frame, **OPTIONS))


def test_columns_of_numbers(rows, map_, same):
    wide = pl.DataFrame({f"f{i}": rows[:, i] for i in range(8)})
    import polars.selectors as cs

    for column in (None, list(wide.columns), "f*", ",".join(wide.columns), cs.float()):
        assert same(np.ascontiguousarray(points(wide.lowland.embed(column, **OPTIONS))), map_)
    named = wide.rename({"f3": "a,b", "f4": "c*"})
    assert same(np.ascontiguousarray(points(named.lazy().lowland.embed(named.columns, **OPTIONS).collect())), map_)
    labelled = wide.with_columns(label=pl.lit("x"))
    assert same(np.ascontiguousarray(points(labelled.lowland.embed(keep="label", **OPTIONS))), map_)


def test_lists_and_structs(frame, map_, same):
    lists = frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float32)))
    assert same(np.ascontiguousarray(points(lists.lazy().lowland.embed("embedding", **OPTIONS).collect())), map_)
    nested = frame.select("name", pl.struct(values="embedding").alias("emb"))
    assert same(np.ascontiguousarray(points(nested.lowland.embed("emb.values", **OPTIONS))), map_)
    computed = frame.lazy().lowland.embed(pl.col("embedding").alias("copy"), **OPTIONS).collect()
    assert same(np.ascontiguousarray(points(computed)), map_)


@pytest.mark.parametrize("lazy", [True, False])
def test_what_is_wrong_is_told_at_once(lazy, frame, runs):
    given = frame.lazy() if lazy else frame
    for column, options in (("absent", {}), ("embedding", {"id": "absent"}), ("embedding", {"keep": ["absent"]})):
        with pytest.raises(pl.exceptions.ColumnNotFoundError, match="'name', 'embedding', 'label'"):
            given.lowland.embed(column, **options)
    for column, told in (("name", "String"), (["label", "name"], "'name' is String"), ([], "empty")):
        with pytest.raises(ValueError, match=told):
            given.lowland.embed(column)
    with pytest.raises(ValueError, match="no method"):
        given.lowland.embed("embedding", method="uamp")
    with pytest.raises(ValueError, match="tsne does not have it"):
        given.lowland.embed("embedding", method="tsne", min_dist=0.1)
    with pytest.raises(ValueError, match="n_neighbors"):
        given.lowland.embed("embedding", n_neighbours=3)
    with pytest.raises(ValueError, match="coordinates"):
        given.lowland.embed("embedding", coordinates=["x"])
    with pytest.raises(ValueError, match="coordinates"):
        given.rename({"label": "x"}).lowland.embed("embedding", keep="x")
    with pytest.raises(ValueError, match="invalid"):
        given.lowland.embed("embedding", invalid="skip")
    with pytest.raises(ValueError, match="several columns"):
        given.with_columns(other=pl.col("embedding")).lowland.embed()
    with pytest.raises(ValueError, match="no column holds lists"):
        given.select("name", "label").lowland.embed()
    assert not runs


def test_the_upstream_query_is_checked_at_once(frame):
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        frame.lazy().select("absent").lowland.embed("embedding")


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_pushdowns(engine, frame, runs):
    lazy = frame.lazy().lowland.embed("embedding", id="name", keep="label", **OPTIONS)
    whole = lazy.collect(engine=engine)
    for query in (
        lambda q: q.head(7),
        lambda q: q.filter(pl.col("x") > 0),
        lambda q: q.filter(pl.col("label") == 2).select("name"),
        lambda q: q.head(50).filter(pl.col("x") > 0).select("y"),
        lambda q: q.filter(pl.col("x") > 0).head(5),
        lambda q: q.select("label", "x"),
        lambda q: q.select(pl.len()),
        lambda q: q.tail(3),
        lambda q: q.slice(100, 20).filter(pl.col("y") < 0),
        lambda q: q.group_by("label").agg(pl.col("x").max()).sort("label"),
        lambda q: q.with_row_index().filter(pl.col("index") % 7 == 0),
    ):
        assert query(lazy).collect(engine=engine).equals(query(whole.lazy()).collect(), null_equal=True)
    assert len(runs) == 1


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_two_uses_in_one_query_are_one_run(engine, frame, runs):
    lazy = frame.lazy().lowland.embed("embedding", id="name", **OPTIONS)
    both = lazy.join(lazy.filter(pl.col("x") > 0), on="name").collect(engine=engine)
    assert 0 < len(both) < 300 and len(runs) == 1
    parts = pl.collect_all([lazy.head(3), lazy.tail(3)])
    assert [len(part) for part in parts] == [3, 3]
    assert len(runs) == 1


def test_two_threads_are_one_run(frame, runs):
    lazy = frame.lazy().lowland.embed("embedding", **OPTIONS)
    found = []
    threads = [threading.Thread(target=lambda: found.append(lazy.collect())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3 and found[0].equals(found[1]) and found[0].equals(found[2]) and len(runs) == 1


def test_from_a_file_to_a_file(frame, map_, tmp_path, same, command_line):
    frame.write_parquet(tmp_path / "vectors.parquet", row_group_size=64)
    lazy = pl.scan_parquet(tmp_path / "vectors.parquet").filter(pl.col("label") < 4)
    lazy.lowland.embed("embedding", id="name", keep=["label"], memory_limit="400MiB", **OPTIONS).sink_parquet(
        tmp_path / "map.parquet"
    )
    found = pl.read_parquet(tmp_path / "map.parquet")
    lazy.collect().write_parquet(tmp_path / "filtered.parquet")
    command_line(
        "embed",
        "filtered.parquet",
        "-o",
        "theirs.parquet",
        "--id",
        "name",
        "--keep",
        "label",
        "--column",
        "embedding",
        "--n-epochs",
        "15",
        "--seed",
        "3",
    )
    theirs = pl.read_parquet(tmp_path / "theirs.parquet")
    assert found.equals(theirs)


def test_files_are_deleted_with_the_last_use(frame, tmp_path):
    import gc

    lazy = frame.lazy().lowland.embed("embedding", directory=tmp_path, **OPTIONS)
    assert not list(tmp_path.iterdir())
    first = lazy.collect()
    assert len(list(tmp_path.iterdir())) == 1
    assert first.equals(lazy.collect())
    del lazy
    gc.collect()
    assert not list(tmp_path.iterdir())


def with_gaps(frame):
    """Returns the frame with null in place of every fifth vector, from the fourth on."""
    rows = [
        None if label == 3 else row for label, row in zip(frame["label"], frame["embedding"].to_list(), strict=True)
    ]
    return frame.with_columns(pl.Series("embedding", rows, dtype=frame.schema["embedding"]))


def test_a_failed_run_leaves_no_files_and_can_be_repeated(frame, tmp_path):
    bad = with_gaps(frame)
    lazy = bad.lazy().lowland.embed("embedding", directory=tmp_path, **OPTIONS)
    for _ in range(2):
        with pytest.raises(Exception, match="row 3"):
            lazy.collect()
    assert not list(tmp_path.iterdir())


def test_rows_without_a_vector(frame, same):
    bad = with_gaps(frame)
    sound = frame.filter(pl.col("label") != 3).lowland.embed("embedding", id="name", **OPTIONS)
    dropped = bad.lowland.embed("embedding", id="name", invalid="drop", **OPTIONS)
    assert dropped.equals(sound)
    kept = bad.lazy().lowland.embed("embedding", id="name", invalid="null", **OPTIONS).collect()
    assert len(kept) == 300 and kept["x"].null_count() == 60
    assert kept.drop_nulls().equals(sound)


def test_no_rows(frame):
    with pytest.raises(Exception, match="(?i)no rows|0 rows"):
        frame.lazy().head(0).lowland.embed("embedding").collect()


def test_kept_types_come_back(rows):
    import datetime as dt

    frame = pl.DataFrame(
        {
            "embedding": rows,
            "category": pl.Series(["a", "b", None] * 100, dtype=pl.Categorical),
            "enum": pl.Series(["u", "v"] * 150, dtype=pl.Enum(["u", "v"])),
            "day": [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(300)],
            "time": pl.Series([dt.datetime(2024, 1, 1)] * 300, dtype=pl.Datetime("us", "UTC")),
            "lists": [[i, i + 1] for i in range(300)],
            "struct": [{"a": i, "b": str(i)} for i in range(300)],
            "flag": [True, None, False] * 100,
            "small": pl.Series(range(300), dtype=pl.Int16),
            "text": [str(i) for i in range(300)],
        }
    )
    keep = [name for name in frame.columns if name != "embedding"]
    for found in (
        frame.lowland.embed("embedding", keep=keep, **OPTIONS),
        frame.lazy().lowland.embed("embedding", keep=keep, **OPTIONS).collect(),
    ):
        assert found.select(keep).schema == frame.select(keep).schema
        assert found.select(keep).equals(frame.select(keep))


def test_principal_components(frame, rows, same):
    scores = lowland.PCA(3).fit_transform(rows)
    lazy = frame.lazy().lowland.pca("embedding", n_components=3, id="name")
    assert lazy.collect_schema().names() == ["name", "x", "y", "z"]
    assert same(np.ascontiguousarray(lazy.select("x", "y", "z").collect().to_numpy()), scores)
    four = frame.lowland.pca("embedding", n_components=4, coordinates=["a", "b", "c", "d"], keep="label")
    assert four.columns == ["id", "a", "b", "c", "d", "label"]
    # A map of components, in one query.
    both = frame.lazy().lowland.pca("embedding", n_components=4, id="name").lowland.embed("c*", id="name", **OPTIONS)
    assert both.collect().shape == (300, 3)


def test_neighbours(frame, rows):
    lazy = frame.lazy().lowland.knn("embedding", n_neighbors=5)
    assert dict(lazy.collect_schema()) == {
        "id": pl.UInt32,
        "neighbors": pl.List(pl.UInt32),
        "distances": pl.List(pl.Float32),
    }
    found = lazy.collect()
    far = np.linalg.norm(rows[:, None].astype(float) - rows[None], axis=2) + np.diag(np.full(300, np.inf))
    assert found["id"].to_list() == list(range(300))
    assert np.allclose(np.array(found["distances"].to_list()), np.sort(far, axis=1)[:, :5], rtol=1e-4)
    assert lazy.filter(pl.col("id") == 9).collect().equals(found.filter(pl.col("id") == 9))
    with pytest.raises(ValueError, match="drop"):
        frame.lowland.knn("embedding", invalid="drop")


def test_the_plan_names_the_stage(frame):
    import inspect

    if "explain_name" not in inspect.signature(pl.io.plugins.register_io_source).parameters:
        pytest.skip("this Polars has no names of sources")
    assert "lowland.embed" in frame.lazy().lowland.embed("embedding").explain()


def test_other_objects():
    with pytest.raises(TypeError, match="LazyFrame"):
        lowland.polars.embed([1, 2])


INTERRUPTED = """
import sys, time
import polars as pl
import lowland.polars

def say(event):
    if event["kind"] == "progress" and event["stage"] == "layout":
        print("layout", flush=True)

options = {"n_epochs": 1_000_000, "callback": say, "n_jobs": 1, "directory": sys.argv[3]}
try:
    if sys.argv[2] == "frame":
        try:
            pl.read_parquet(sys.argv[1]).lowland.embed("embedding", **options)
        except KeyboardInterrupt:
            time.sleep(1)  # a second one would come here
            print("interrupted once", flush=True)
            sys.exit()
    query = pl.scan_parquet(sys.argv[1]).lowland.embed("embedding", **options)
    if sys.argv[2] == "sink":
        query.sink_parquet(sys.argv[1] + ".map")
    else:
        query.collect(engine=sys.argv[2])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", ["in-memory", "streaming", "sink", "frame"])
def test_an_interrupt_stops_the_query(how, tmp_path):
    import signal
    import subprocess
    import sys

    pl.DataFrame({"embedding": clusters(3000)}).write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "work").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "rows.parquet"), how, str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline().strip() == "layout"
    process.send_signal(signal.SIGINT)
    # The whole run would take hours.
    told, _ = process.communicate(timeout=120)
    assert how != "frame" or "interrupted once" in told
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("version", "recent"), [("1.36.1", False), ("1.40.0", True), ("1.40.0b1", True), ("2.1.0", True), ("0.99", False)]
)
def test_old_versions_that_lose_errors_of_a_query_are_refused(version, recent, monkeypatch):
    assert is_recent(version) == recent
    monkeypatch.setattr(pl, "__version__", version)
    if not recent:
        with pytest.raises(ValueError, match="1.40 or newer"):
            lowland.PCA().fit(pl.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0]}).lazy())


@pytest.mark.parametrize("lazy", [False, True])
def test_columns_that_cannot_be_exported_are_in_the_way_only_if_they_are_used(frame, map_, rows, lazy):
    numbers = {f"c{i}": rows[:, i] for i in range(rows.shape[1])}
    more = frame.with_columns(pl.lit(None).alias("null"), pl.lit(1).cast(pl.Int128).alias("wide"), **{
        name: pl.Series(values) for name, values in numbers.items()
    })  # fmt: skip
    more = more.lazy() if lazy else more
    for column in ("embedding", ["embedding"], list(numbers), "c*"):
        assert lowland.UMAP(column=column, **OPTIONS).fit_transform(more).tobytes() == map_.tobytes()
    table = pl.DataFrame(lowland.embed(more, column="embedding", id="name", keep=["label"], **OPTIONS))
    assert table.columns == ["name", "x", "y", "label"] and points(table).tobytes() == map_.tobytes()
    with pytest.raises(Exception, match="nope"):
        lowland.UMAP(column="nope", **OPTIONS).fit(more.select("name", "embedding"))


def test_empty_paths_and_an_empty_id(frame, map_):
    for name in ("run_dir", "directory"):
        for call in (frame.lowland.embed, frame.lowland.knn):
            with pytest.raises(ValueError, match=f"{name}: the path is empty"):
                call("embedding", **{name: ""})
    found = frame.rename({"name": ""}).lazy().lowland.embed("embedding", id="", **OPTIONS)
    assert found.collect_schema().names() == ["", "x", "y"]
    assert found.collect()[""].to_list() == frame["name"].to_list()


@pytest.mark.parametrize(
    ("call", "wrong", "match"),
    [
        ("embed", {"metric": "foo"}, "metric: the metrics are"),
        ("embed", {"memory_limit": "lots"}, "memory_limit: .* is not a size"),
        ("embed", {"device": "gpu"}, "device: .* is not a device"),
        ("embed", {"n_epochs": -1}, "n_epochs: "),
        ("embed", {"init": "nope"}, "init: "),
        ("embed", {"init": np.zeros((300, 2))}, "init: give a name or a file, not ndarray"),
        ("embed", {"n_neighbors": 1001}, "n_neighbors: 1001 is more than 1000"),
        ("embed", {"n_neighbors": 5000}, "n_neighbors: 5000 is more than 1000"),
        ("embed", {"method": "tsne", "perplexity": 350.0}, "perplexity: 350 is not between"),
        ("embed", {"method": "tsne", "perplexity": 5000}, "perplexity: 5000 is not between"),
        ("embed", {"disk_limit": "lots"}, "disk_limit: .* is not a size"),
        ("embed", {"callback": 5}, "callback: int cannot be called"),
        ("knn", {"n_neighbors": 1001}, "n_neighbors: 1001 is more than 1000"),
        ("knn", {"callback": "print"}, "callback: str cannot be called"),
        ("pca", {"callback": 5}, "callback: int cannot be called"),
        ("pca", {"n_components": 9}, "n_components: 9 is not between 1 and 8"),
        ("knn", {"n_neighbors": 1}, "n_neighbors: 1 is too small"),
        ("knn", {"metric": "foo"}, "metric: the metrics are"),
        ("pca", {"memory_limit": "lots"}, "memory_limit: .* is not a size"),
        ("pca", {"metric": "foo"}, "metric: the metrics are"),
    ],
)
def test_values_of_options_are_checked_before_the_input_is_read(frame, call, wrong, match):
    with pytest.raises(ValueError, match=match):
        getattr(frame.lazy().lowland, call)("embedding", **wrong)


def test_a_missing_file_and_too_many_components_are_refused_before_the_input_is_read(frame, rows):
    with pytest.raises(FileNotFoundError, match=r"init: .*absent\.npy"):
        frame.lazy().lowland.embed("embedding", init="absent.npy")
    columns = pl.DataFrame(rows, schema=[f"c{i}" for i in range(8)]).lazy()
    for column in ("c*", ["c0", "c1"], None):
        with pytest.raises(ValueError, match="n_components: 9 is not between 1 and [28]"):
            columns.lowland.pca(column, n_components=9)
    # The width of lists is not known before they are read.
    frame.select(pl.col("embedding").arr.to_list()).lazy().lowland.pca("embedding", n_components=9)


def test_rows_that_are_made_up_for_the_check_of_options_refuse_nothing(frame, tmp_path):
    lazy = frame.lazy()
    np.save(tmp_path / "map.npy", np.zeros((300, 2), dtype=np.float32))
    inits = [{"init": init} for init in (str(tmp_path / "map.npy"), str(tmp_path / "m*.npy"), "https://localhost/map.npy")]
    for wide in ({"n_neighbors": 1000}, {"method": "sne", "perplexity": 4000.0}, *inits):
        lazy.lowland.embed("embedding", **wide, memory_limit="1KiB", disk_limit="1KiB")
    lazy.lowland.pca("embedding", n_components=6, memory_limit="1KiB", metric="correlation")
    for method in lowland.methods():
        lazy.lowland.embed("embedding", method=method)


def test_expressions_and_none_as_names(frame, map_):
    lazy, column = frame.lazy(), [pl.col("embedding")]
    found = lazy.lowland.embed(
        column, id=pl.col("name").str.to_uppercase(), keep=[pl.col("label") + 1], **OPTIONS
    ).collect()
    assert found.columns == ["name", "x", "y", "label"] and points(found).tobytes() == map_.tobytes()
    assert found["name"].to_list() == [f"ROW {i}" for i in range(300)]
    assert found["label"].to_list() == [i % 5 + 1 for i in range(300)]
    assert lazy.lowland.pca("embedding", n_components=None, keep=None).collect_schema().names() == ["id", "x", "y"]
    assert points(frame.lowland.embed("embedding", method=None, **OPTIONS)).tobytes() == map_.tobytes()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"method": "nope"}, "there is no method 'nope'"),
        ({"keep": 3}, "keep: give a name, a list of names or an expression, not int"),
        ({"keep": [3]}, "keep: give names or expressions, not int"),
        ({"column": 3}, "column: give a name, .* not int"),
        ({"id": 3}, "id: give the name of a column or an expression, not int"),
        ({"id": pl.col("name", "label")}, "id: the expression gives 2 columns"),
    ],
)
def test_what_is_no_name_is_refused(frame, wrong, match):
    for call in (frame.lowland.embed, frame.lazy().lowland.embed):
        with pytest.raises((TypeError, ValueError), match=match):
            call(**wrong)


def test_columns_that_cannot_be_exported_are_named(frame, map_):
    null, wide = pl.lit(None).alias("null"), pl.struct(a=pl.lit(1).cast(pl.Int128)).alias("wide")
    more = frame.with_columns(null, wide)
    assert lowland.UMAP(**OPTIONS).fit_transform(more.drop("wide")).tobytes() == map_.tobytes()
    for call in (more.lowland.embed, more.lazy().lowland.embed):
        with pytest.raises(ValueError, match="the column 'null' is Null, which the engine cannot read; leave it out, or cast"):
            call("embedding", keep="null", **OPTIONS)
    with pytest.raises(ValueError, match="the column 'wide' is Struct"):
        lowland.embed(more, column="embedding", keep="wide", **OPTIONS)
    with pytest.raises(ValueError, match="the column 'f' is Int128"):
        lowland.UMAP().fit(pl.DataFrame({"f": pl.Series([1, 2, 3], dtype=pl.Int128), "g": [1.0, 2.0, 3.0]}))


@pytest.mark.parametrize("lazy", [False, True])
def test_an_expression_must_not_replace_a_column_that_is_read(frame, lazy):
    given = frame.lazy() if lazy else frame
    vectors, length = pl.col("embedding"), pl.col("embedding").arr.len()
    for wrong, match in (
        ({"column": "embedding", "keep": length}, "keep: the expression gives a column 'embedding', and column reads"),
        ({"column": vectors, "keep": [length]}, r"and column reads .*\.alias\('embedding_keep'\)"),
        ({"column": "emb*", "id": length}, "id: the expression gives a column 'embedding', and column reads"),
        ({"id": pl.col("name").str.to_uppercase(), "keep": "name"}, "id: .* 'name', and keep reads another"),
        ({"id": "name", "keep": [pl.col("name").str.len_bytes()]}, "keep: .* 'name', and id reads another"),
        ({"keep": ["label", pl.col("label") + 1]}, "keep: .* 'label', and keep reads another"),
        ({"id": pl.col("label") + 2, "keep": pl.col("label") + 1}, "id: .* 'label', and keep reads another"),
        ({"column": pl.col("embedding").cast(pl.List(pl.Float64)), "keep": "embedding"}, "column: .* and keep reads"),
    ):
        with pytest.raises(ValueError, match=match):
            given.lowland.embed(**wrong, **OPTIONS)


def test_expressions_read_the_columns_of_the_frame(frame):
    upper = pl.col("name").str.to_uppercase()
    found = frame.lowland.embed(
        "embedding", id=upper, keep=[(pl.col("name") + "!").alias("loud"), upper, pl.col("label").alias("kind")], **OPTIONS
    )
    assert found.columns == ["name", "x", "y", "loud", "kind"]
    assert found["name"][7] == "ROW 7" and found["loud"][7] == "row 7!"
    named = frame.lowland.embed("embedding", id=upper.alias("big"), keep="big", **OPTIONS)
    assert named.columns == ["big", "x", "y"]


def test_files_of_a_directory_whose_name_is_a_pattern(frame, map_, tmp_path):
    directory = tmp_path / "a[b]*"
    directory.mkdir()
    found = frame.lazy().lowland.embed("embedding", directory=directory, **OPTIONS).collect()
    assert points(found).tobytes() == map_.tobytes()
