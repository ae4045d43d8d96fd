"""Every kind of input gives the map of the array, byte for byte; every kind of bad input is refused with the way out."""

from __future__ import annotations

import io
import logging
import types

import numpy as np
import pytest

import lowland
from lowland import _input, _lowland

from conftest import clusters


def make(data, **options):
    return lowland.UMAP(n_epochs=15, **options).fit_transform(data)


@pytest.fixture(scope="module")
def rows():
    return clusters()


@pytest.fixture(scope="module")
def expected(rows):
    return make(rows)


def batches_of(rows, size=70):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Loader:
    """What a DataLoader looks like."""

    def __init__(self, rows, sampler=None, *, drop_last=False, give=lambda batch: batch):
        self.dataset, self.batch_size, self.drop_last = rows, 70, drop_last
        self.sampler, self.batch_sampler, self.give = sampler, None, give

    def __iter__(self):
        for batch in batches_of(self.dataset, self.batch_size):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.give(batch)


class Reiterable:
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(batches_of(self.rows))


ARRAYS = {
    "fortran": np.asfortranarray,
    "strided": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "reversed": lambda rows: rows[::-1].copy()[::-1],
    "swapped": lambda rows: rows.astype(rows.dtype.newbyteorder()),
    "float64": lambda rows: rows.astype(np.float64),
    "longdouble": lambda rows: rows.astype(np.longdouble),
    "object": lambda rows: rows.astype(object),
    "list": lambda rows: rows.tolist(),
    "tuple of rows": lambda rows: tuple(rows.tolist()),
    "list of arrays": lambda rows: list(rows),
    "masked": lambda rows: np.ma.masked_array(rows, mask=np.zeros(rows.shape, bool)),
    "matrix": np.asmatrix,
    "unaligned": lambda rows: _unaligned(rows),
    "read only": lambda rows: _read_only(rows),
    "has __array__": lambda rows: types.SimpleNamespace() and _NotAnArray(rows),
}


def _unaligned(rows):
    place = np.empty(rows.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(rows.shape)
    place[:] = rows
    assert not place.flags.aligned
    return place


def _read_only(rows):
    rows = rows.copy()
    rows.setflags(write=False)
    return rows


class _NotAnArray:
    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return self.rows


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(kind, rows, expected, same):
    assert same(make(ARRAYS[kind](rows)), expected)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "uint16", "bool"])
def test_number_types(dtype, rows, same):
    numbers = np.clip(np.round(rows * 5), 0, 100) if dtype != "bool" else rows > 0
    numbers = numbers.astype(dtype)
    assert same(make(numbers), make(numbers.astype(np.float64)))


def test_arrays_are_not_copied(rows):
    source = _lowland.Source.array(rows)
    assert (source.rows, source.dim, source.spooled_bytes) == (300, 8, 0)


def test_large_arrays_are_written_by_blocks(rows, expected, same, monkeypatch, caplog):
    monkeypatch.setattr(_input, "LARGE_BYTES", 1000)
    monkeypatch.setattr(_input, "BLOCK_BYTES", 1000)
    model = lowland.UMAP(n_epochs=15)
    with caplog.at_level(logging.INFO, "lowland"):
        assert same(model.fit_transform(np.asfortranarray(rows)), expected)
    assert any("copied to disk once" in note for note in model.report_.notes)
    assert any("copied to disk once" in record.getMessage() for record in caplog.records)


def test_memory_maps(rows, expected, same, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert same(make(mapped), expected)
    assert same(make(np.load(tmp_path / "rows.npy", mmap_mode="c")), expected)


def test_files(rows, expected, same, tmp_path):
    np.save(tmp_path / "a.npy", rows[:100])
    np.save(tmp_path / "b.npy", rows[100:])
    np.save(tmp_path / "whole.npy", rows)
    assert same(make(str(tmp_path / "whole.npy")), expected)
    assert same(make(tmp_path / "whole.npy"), expected)
    assert same(make([tmp_path / "a.npy", str(tmp_path / "b.npy")]), expected)
    assert same(make(str(tmp_path / "[ab].npy")), expected)
    with pytest.raises(OSError, match="absent"):
        make(tmp_path / "absent.npy")


BATCHES = {
    "list of arrays": batches_of,
    "list of tuples": lambda rows: [(batch, np.zeros(len(batch))) for batch in batches_of(rows)],
    "tuple of lists": lambda rows: tuple([batch, ["label"] * len(batch)] for batch in batches_of(rows)),
    "list of lists of rows": lambda rows: (batch.tolist() for batch in batches_of(rows)),
    "re-iterable": Reiterable,
    "generator": lambda rows: (batch for batch in batches_of(rows)),
    "iterator": lambda rows: iter(batches_of(rows)),
    "function": lambda rows: lambda: (batch for batch in batches_of(rows)),
    "function that returns a list": lambda rows: lambda: batches_of(rows),
    "loader": Loader,
    "loader of tuples": lambda rows: Loader(rows, give=lambda batch: (batch, np.zeros(len(batch)))),
    "loader of lists": lambda rows: Loader(rows, give=lambda batch: [batch, ["label"] * len(batch)]),
    "fortran batches": lambda rows: [np.asfortranarray(batch) for batch in batches_of(rows)],
    "uneven batches": lambda rows: (rows[a:b] for a, b in [(0, 1), (1, 7), (7, 7), (7, 300)]),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches(kind, rows, expected, same):
    model = lowland.UMAP(n_epochs=15)
    assert same(
        model.fit_transform(BATCHES[kind](rows)),
        expected if "lists of rows" not in kind else make(rows.astype(np.float64)),
    )
    assert any("copied to disk once" in note for note in model.report_.notes)


def test_dicts_of_batches(rows, expected, same):
    loader = Loader(rows, give=lambda batch: {"x": batch, "y": 0})
    assert same(make(loader, column="x"), expected)
    with pytest.raises(ValueError, match="keys 'x', 'y'.*column"):
        make(loader)
    given = [{"y": 0, "x": batch} for batch in batches_of(rows)]
    assert same(make(given, column="x"), expected)
    with pytest.raises(ValueError, match="keys 'y', 'x'.*column"):
        make(given)
    assert same(make(rows.tolist()), make(rows.astype(np.float64)))  # a list of rows is no list of batches


class RandomSampler: ...


class SubsetRandomSampler: ...


class DistributedSampler: ...


@pytest.mark.parametrize("sampler", [RandomSampler(), SubsetRandomSampler(), DistributedSampler()])
def test_loaders_in_random_order_are_refused_by_name(sampler, rows):
    with pytest.raises(ValueError, match=type(sampler).__name__):
        make(Loader(rows, sampler))


def test_shuffle_is_named(rows):
    with pytest.raises(ValueError, match="shuffle=True.*shuffle=False"):
        make(Loader(rows, RandomSampler()))


def test_what_changes_between_passes_is_refused(rows):
    def shuffled():
        return batches_of(np.random.permutation(rows))

    with pytest.raises(ValueError, match="second pass"):
        make(shuffled)


def test_lost_rows_are_told(rows):
    with pytest.warns(lowland.LowlandWarning, match="last 20 rows"):
        assert len(make(Loader(rows, drop_last=True))) == 280


def test_a_generator_given_twice(rows):
    def reader():
        yield from batches_of(rows)

    given = reader()
    make(given)
    with pytest.raises(ValueError, match="reader"):
        make(given)
    spent = iter(batches_of(rows))
    make(spent)
    with pytest.raises(ValueError, match="0 sample.*function"):
        make(spent)
    once = reader()
    next(once)
    with pytest.raises(ValueError, match=r"read in part before.*function that returns a new generator.*reader\(\)"):
        make(once)
    with pytest.raises(ValueError, match="read in part before"):
        make(lambda: once)
    assert len(list(once)) == 4, "the refused generator was read"


def test_an_error_in_a_generator_is_raised(rows):
    def reader():
        yield rows[:100]
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="the network is gone"):
        make(reader())


@pytest.mark.parametrize(
    "data, error, told",
    [
        (None, ValueError, "None"),
        (3, TypeError, "int"),
        (b"abc", TypeError, "bytes"),
        ({"a": [1]}, TypeError, "dict"),
        ([], ValueError, "0 sample"),
        ([[1.0, 2.0], [3.0]], ValueError, "row 1 has 1 components"),
        ([[1.0, 2.0], 3.0], ValueError, "row 1 has no sequence"),
        (np.zeros(5), ValueError, "Expected 2D array, got 1D"),
        (np.zeros((2, 3, 4)), ValueError, "Expected 2D array, got 3D"),
        (np.zeros((0, 4)), ValueError, "0 sample"),
        (np.zeros((4, 0)), ValueError, r"0 feature\(s\) \(shape=\(4, 0\)\) while a minimum of 1 is required"),
        (np.zeros((1, 4)), ValueError, "1 sample"),
        (np.zeros((5, 2), complex), ValueError, "Complex data not supported"),
        (np.array([["a", "b"]] * 5), ValueError, "text"),
        (np.array([[1, "b"], [2, 3]], dtype=object), ValueError, "row 0, column 1"),
        (np.array([[1, 2], [None, 3]], dtype=object), ValueError, "row 1.* 0"),
        (np.array([[1, 2], [3, {}]], dtype=object), TypeError, "row 1, column 1"),
        (np.zeros((5, 2), "datetime64[s]"), ValueError, "datetime64"),
        (np.zeros((5, 2), [("a", "f4"), ("b", "f4")]), ValueError, "structured_to_unstructured"),
        (
            np.ma.masked_array(np.zeros((5, 2)), mask=[[0, 0], [0, 1]] + [[0, 0]] * 3),
            ValueError,
            "row 1, column 1 is masked",
        ),
        ([np.zeros((5, 2)), np.zeros((5, 3))], ValueError, "3"),
        ([np.zeros((5, 2)), np.zeros(5)], ValueError, "batch 1 has the shape"),
        (lambda: 5, TypeError, "returned a int"),
        (object(), TypeError, "object"),
    ],
)
def test_bad_input(data, error, told):
    with pytest.raises(error, match=told):
        make(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_named(value, rows):
    bad = rows.copy()
    bad[123, 4] = value
    for data in (bad, lambda: batches_of(bad)):
        with pytest.raises(ValueError) as error:
            make(data)
        assert "123" in str(error.value) and "4" in str(error.value)


def test_one_column(rows):
    assert make(rows[:, :1]).shape == (300, 2)


def test_sparse_rows_are_refused(rows):
    sparse = pytest.importorskip("scipy.sparse")
    for data in (sparse.csr_matrix(rows), sparse.coo_array(rows), [sparse.csr_matrix(rows)]):
        with pytest.raises(TypeError, match="(?i)sparse.*TruncatedSVD"):
            make(data)


def test_arrays_on_disk_of_other_libraries(rows, expected, same, monkeypatch):
    """h5py and zarr give slices of rows; they are read by blocks and never as a whole."""
    monkeypatch.setattr(_input, "LARGE_BYTES", 1000)

    class Dataset:
        shape, dtype, largest = rows.shape, rows.dtype, 0

        def __getitem__(self, part):
            Dataset.largest = max(Dataset.largest, len(rows[part]))
            return rows[part]

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("read as a whole")

    monkeypatch.setattr(_input, "BLOCK_BYTES", 2000)
    assert same(make(Dataset()), expected)
    assert 0 < Dataset.largest <= 2000 // 32


# Frames


NAMES = [f"f{i}" for i in range(8)]


def test_pandas(rows, expected, same):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows, columns=NAMES)
    model = lowland.UMAP(n_epochs=15)
    assert same(model.fit_transform(frame), expected)
    assert list(model.feature_names_in_) == NAMES and model.n_features_in_ == 8
    mixed = frame.astype({"f0": np.float64, "f1": "Float32"})
    assert same(make(mixed), make(rows.astype(np.float64)))
    assert not hasattr(lowland.UMAP(n_epochs=15).fit(pd.DataFrame(rows)), "feature_names_in_")
    assert same(make(frame.assign(label="x"), column=NAMES), expected)
    with pytest.raises(ValueError, match="label"):
        make(frame.assign(label="x"))
    lists = pd.DataFrame({"id": range(300), "emb": list(rows)})
    assert same(make(lists, column="emb"), expected)
    assert same(make(lists["emb"]), expected)
    gap = mixed.copy()
    gap.loc[5, "f1"] = pd.NA
    with pytest.raises(ValueError, match="5"):
        make(gap)


def test_polars(rows, expected, same):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(dict(zip(NAMES, rows.T)))
    model = lowland.UMAP(n_epochs=15)
    assert same(model.fit_transform(frame), expected)
    assert list(model.feature_names_in_) == NAMES
    assert same(make(frame.lazy()), expected)
    assert same(make(frame.with_columns(label=pl.lit("x")), column=NAMES), expected)
    with pytest.raises(ValueError, match="'label' .String."):
        make(frame.with_columns(label=pl.lit("x")))
    lists = pl.DataFrame({"id": np.arange(300), "emb": rows})
    assert lists.schema["emb"] == pl.Array(pl.Float32, 8)
    assert same(make(lists), expected)
    assert same(make(lists.lazy(), column="emb"), expected)
    assert same(make(lists["emb"]), expected)
    assert same(make(lists.with_columns(pl.col("emb").cast(pl.List(pl.Float32)))), expected)
    assert same(make(pl.concat([lists[:100], lists[100:]], rechunk=False)), expected)
    assert same(make(lists.iter_slices(70)), expected)
    # A slice of arrays with nulls, which Polars 1 exports with too few values.
    gaps = pl.Series(
        "emb", [None if i % 5 == 3 else row for i, row in enumerate(rows.tolist())], dtype=lists.schema["emb"]
    )
    kept = [i for i in range(150, 300) if i % 5 != 3]
    assert same(make(gaps.to_frame()[150:], invalid="drop"), make(rows[kept]))
    assert same(
        make(gaps.to_frame().iter_slices(150), invalid="drop"), make(rows[[i for i in range(300) if i % 5 != 3]])
    )
    with pytest.raises(ValueError, match="absent"):
        make(lists, column="absent")
    with pytest.raises(ValueError, match="(?i)row 7|7"):
        make(lists.with_columns(emb=pl.when(pl.col("id") == 7).then(None).otherwise("emb")))


def test_pyarrow(rows, expected, same):
    pa = pytest.importorskip("pyarrow")
    table = pa.table(dict(zip(NAMES, rows.T)))
    model = lowland.UMAP(n_epochs=15)
    assert same(model.fit_transform(table), expected)
    assert list(model.feature_names_in_) == NAMES
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8)
    both = pa.table({"id": range(300), "emb": lists})
    assert same(make(both), expected)
    assert same(make(both.to_batches()[0]), expected)
    assert same(make(lists), expected)
    assert same(make(pa.chunked_array([lists[:100], lists[100:]])), expected)
    assert same(make(both.to_reader(max_chunksize=70)), expected)
    assert same(make(both.to_batches(max_chunksize=70)), expected)
    bad = pa.FixedSizeListArray.from_arrays(pa.array(np.where(rows == rows[0, 0], np.nan, rows).ravel()), 8)
    again = pa.table({"emb": bad}).to_batches(max_chunksize=70)
    assert same(make(lambda: iter(again), invalid="drop"), make(rows[1:]))
    turn = iter([0, 70])
    with pytest.raises(ValueError, match="second pass"):
        make(lambda: both.slice(next(turn)).to_batches(max_chunksize=70))
    # A slice whose nulls lie outside of it, and one that holds them.
    gaps = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8, mask=pa.array([i == 0 for i in range(300)]))
    assert same(make(gaps[1:]), make(rows[1:]))
    with pytest.raises(ValueError, match="row 0|null"):
        make(gaps)

    class Foreign:
        def __init__(self, inner):
            self.inner = inner

        def __arrow_c_stream__(self, requested_schema=None):
            return self.inner.__arrow_c_stream__(requested_schema)

    assert same(make(Foreign(both)), expected)


def test_duckdb(rows, expected, same):
    duckdb, pa = pytest.importorskip("duckdb"), pytest.importorskip("pyarrow")
    lists = pa.table({"id": range(300), "emb": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8)})
    assert lists.num_rows == 300
    assert same(make(duckdb.sql("select * from lists order by id")), expected)
    wide = pa.table(dict(zip(NAMES, rows.T)))
    assert wide.num_rows == 300
    assert same(make(duckdb.sql("select * from wide")), expected)


def test_names_with_commas(rows, expected, same):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({f"a,{i}": rows[:, i] for i in range(8)})
    model = lowland.UMAP(n_epochs=15)
    assert same(model.fit_transform(frame), expected)
    assert model.feature_names_in_[1] == "a,1"


def test_a_source_passes(rows, expected, same):
    assert same(make(_lowland.Source.array(rows)), expected)


def test_open_files_are_refused():
    with pytest.raises(TypeError, match="open file"):
        make(io.BytesIO(b""))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_of_batches_are_put_in_the_order_of_the_first_one(rows, expected, library):
    module = pytest.importorskip(library)
    make_frame = module.table if library == "pyarrow" else module.DataFrame
    names = [f"f{i}" for i in range(rows.shape[1])]

    def frame_of(batch, order=1, other=None):
        columns = {other if other and name == "f0" else name: batch[:, i].copy() for i, name in enumerate(names)}
        return make_frame(dict(list(columns.items())[::order]))

    first, *rest = batches_of(rows)
    found = make([frame_of(first), *(frame_of(batch, -1) for batch in rest)])
    assert found.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="batch 2 has the columns 'g', 'f1'.* and the first one 'f0', 'f1'"):
        make([frame_of(first), frame_of(rest[0]), frame_of(rest[1], other="g")])


def test_batches_of_pandas_have_the_columns_that_are_asked_for(rows, expected):
    pandas = pytest.importorskip("pandas")
    names = [f"f{i}" for i in range(rows.shape[1])]
    frames = [pandas.DataFrame(batch, columns=names).assign(more=1.0) for batch in batches_of(rows)]
    assert make(frames, column=names).tobytes() == expected.tobytes()
    frames = [pandas.DataFrame({"v": list(batch), "more": "text"}) for batch in batches_of(rows)]
    assert make(frames, column="v").tobytes() == expected.tobytes()
    frames = [pandas.DataFrame(batch, columns=names).assign(more=1.0) for batch in batches_of(rows)]
    assert make(frames, column="f*").tobytes() == expected.tobytes()
    dicts = [{"data": frame[names]} for frame in frames]
    assert make(lambda: iter(dicts), column="data").tobytes() == expected.tobytes()
    frames = [frame.assign(v=0)[["v", "more"]] for frame in frames]
    with pytest.raises(ValueError, match="column: X: batch 0 has no column 'w'; it has 'v', 'more'"):
        make(frames, column="w")


@pytest.mark.parametrize("by_name", [False, True])
def test_a_reader_of_pandas_gives_batches(rows, expected, same, tmp_path, by_name):
    pandas = pytest.importorskip("pandas")
    names = [f"f{i}" for i in range(rows.shape[1])]
    pandas.DataFrame(rows, columns=names).to_csv(tmp_path / "rows.csv", index=False)
    reader = pandas.read_csv(tmp_path / "rows.csv", chunksize=100, dtype=np.float32)
    model = lowland.UMAP(n_epochs=15, column=names if by_name else None)
    assert same(model.fit_transform(reader), expected)
    assert any("copied to disk once" in note for note in model.report_.notes)
