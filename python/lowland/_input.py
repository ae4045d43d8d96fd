"""What callers give as data, and how it becomes a `Source` of the engine.

| given | read |
|---|---|
| a NumPy array or memmap, C-contiguous, of native byte order | in place |
| other arrays, array-likes, frames of pandas with numeric columns | converted once; above `LARGE_BYTES` block by block to disk |
| Arrow tables and batches, frames of Polars and pyarrow | in place |
| names of files, globs, directories, addresses | by the engine, as the command line does |
| loaders, iterators, functions that return iterators, Arrow streams, LazyFrames | once, to a file on disk |

What must hold: equal rows give equal maps, whatever kind of input holds them. Nothing larger than a batch is copied in memory,
except arrays of at most `LARGE_BYTES`. NumPy is the only library that this file imports; an object of another library is
recognised by the module of its type, or by its attributes.
"""

from __future__ import annotations

import fnmatch
import inspect
import itertools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._errors import in_words_of_python, shown
from ._options import path
from ._progress import LowlandWarning

logger = logging.getLogger("lowland")

#: Arrays that the engine cannot read in place are copied in memory up to this size, and above it to disk.
LARGE_BYTES = 64 << 20

#: Bytes of the blocks of rows that are written to disk.
BLOCK_BYTES = 8 << 20

#: Samplers of PyTorch whose order is random, or that give a part of the rows.
_RANDOM_SAMPLERS = ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler")


class Input(NamedTuple):
    """Data that the engine can read."""

    #: The engine's source.
    source: Any
    #: The names of the features, if the data were a frame of numeric columns.
    names: list[str] | None
    #: What a report should say about how the data were read.
    note: str | None


class Field(NamedTuple):
    """A column of a frame."""

    name: str
    #: "number", "vector" (lists, arrays, structs, bytes) or "other".
    kind: str
    #: The type as its library writes it.
    type: str


def read(
    data: Any,
    column: str | Sequence[str] | None = None,
    *,
    beside: Sequence[str] = (),
    name: str = "X",
    directory: str | os.PathLike[str] | None = None,
    least: int = 2,
    most: int | None = None,
) -> Input:
    """Returns `data` as an input of the engine.

    Parameters
    ----------
    data
        See the table at the top of this file, and `docs/python.md`.
    column : str or list of str, optional
        The column or columns of vectors, for data with columns. Default: of a frame of numbers all columns; otherwise the
        only column of lists.
    beside : list of str
        Columns that are no features (ids and columns to keep).
    name : str
        How messages call the data.
    directory : path, optional
        Where data that can be read only once are written.
    least : int
        The smallest number of rows of an array; other data are counted by the engine.
    most : int, optional
        The largest number of rows. Batches beyond it are not read.

    Raises
    ------
    TypeError, ValueError
        If the data are of no kind that can be read, with what to do instead.
    """
    found = _read(data, column, beside, _Spool(column_text(column), path("directory", directory), name, least, most))
    if most is not None:
        _refuse_more(found.source.rows, most, name)
    return found


def _refuse_more(rows: int, most: int, name: str) -> None:
    if rows > most:
        raise ValueError(f"{name}: {rows:,} rows or more are too many; give at most {most:,}, for example a sample")


def _read(data: Any, column: str | Sequence[str] | None, beside: Sequence[str], spool: _Spool) -> Input:
    from . import _lowland

    if isinstance(data, _lowland.Source):
        return Input(data, None, None)
    root, name = _root(data), spool.name
    if data is None:
        raise ValueError(f"{name} is None; give an array, a frame, names of files or batches")
    if isinstance(data, (str, os.PathLike)):
        return Input(_lowland.Source.paths([path(name, data)], column_text(column)), None, None)
    if isinstance(data, (bytes, bytearray)):
        raise TypeError(f"{name} is bytes; give the name of a file as text, or numpy.frombuffer(…).reshape(rows, -1)")
    _refuse_sparse(data, name)
    if _is_tensor(data):
        return _array(_tensor_values(data, name), column, spool)
    if isinstance(data, np.ndarray):
        return _array(data, column, spool)
    if _is_loader(data):
        _refuse_random(data)
        return _batches(lambda: iter(data), spool, type(data).__name__)
    if root == "polars" and hasattr(data, "collect_schema"):
        data = exportable(_needed(data, column, beside))
    if root == "polars" and hasattr(data, "collect_batches"):
        fields = fields_of(data)
        spool.column, names = _features(fields, column, beside, name)
        if not is_recent(sys.modules["polars"].__version__):
            raise ValueError(
                f"{name} is a LazyFrame of Polars {sys.modules['polars'].__version__}, whose collect_batches can lose the errors "
                f"of a query; update Polars to 1.40 or newer, or give {name}.collect()"
            )
        return spool.write(data.collect_batches(maintain_order=True, lazy=True), names, "a LazyFrame")
    if (
        root in ("polars", "pyarrow", "pandas")
        and hasattr(data, "dtype" if root != "pyarrow" else "type")
        and not hasattr(data, "columns")
    ):
        if _kind(str(data.dtype if root != "pyarrow" else data.type)) == "number":
            _check_shape((len(data),), name, spool.least)
        column = column or "embedding"
        spool.column = spool.key = column_text(column)
        return _read(_one_column(data, root), column, beside, spool)
    if root == "pandas" and hasattr(data, "iloc"):
        return _pandas(data, column, beside, spool)
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        fields = fields_of(data)
        spool.column, names = _features(fields, column, beside, name) if fields else (column_text(column), None)
        if (
            root in ("polars", "pyarrow")
            and not type(data).__name__.endswith("Reader")
            or not hasattr(data, "__arrow_c_stream__")
        ):
            if names is not None and spool.column is None:  # names that cannot be written in a list
                return _array(np.column_stack([np.asarray(data[name]) for name in names]), None, spool)._replace(
                    names=names
                )
            return Input(_lowland.Source.arrow(data, spool.column, name), names, None)
        return spool.write(data, names, f"a stream of {root}")
    if isinstance(data, (list, tuple)):
        return _sequence(data, column, spool)
    if hasattr(data, "shape") and hasattr(data, "dtype") and hasattr(data, "__getitem__"):
        return _array(data, column, spool)
    if hasattr(data, "__array__"):
        return _array(np.asarray(data), column, spool)
    if isinstance(data, dict):
        raise TypeError(f"{name} is a dict; give one of its values, or a frame made of it")
    if hasattr(data, "readline"):
        raise TypeError(f"{name} is an open file, a {type(data).__name__}; give the name of the file, or batches")
    if hasattr(data, "__next__"):
        return _once(data, spool)
    if hasattr(data, "__iter__"):
        return _batches(lambda: iter(data), spool, type(data).__name__)
    if callable(data):
        return _batches(lambda: _called(data, name), spool, "a function")
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        raise TypeError(
            f"{name} is a {type(data).__name__}, which gives single rows; wrap it: DataLoader(dataset, batch_size=10_000)"
        )
    raise TypeError(
        f"{name} is a {type(data).__name__}; give a NumPy array, a frame, Arrow data, names of files, a DataLoader, "
        "or an iterable of batches"
    )


class _Spool:
    """Writes batches to disk once, from where the engine reads them as often as it needs."""

    def __init__(self, column: str | None, directory: str | None, name: str, least: int, most: int | None) -> None:
        self.column, self.directory, self.name, self.least, self.most = column, directory, name, least, most
        #: Of batches that are dicts or frames of pandas: the key of the vectors, or their columns.
        self.key = column
        #: Of batches that are frames: the names of the first one's columns.
        self.labels: list[Any] | None = None

    def write(self, batches: Any, names: list[str] | None, what: str) -> Input:
        from . import _lowland

        if self.most is not None and not _has_arrow(batches):
            batches = self._counted(batches, self.most)
        with in_words_of_python(self.name):
            source = _lowland.Source.spool(batches, self.column, self.directory, self.name)
        note = (
            f"{what} was copied to disk once, {source.spooled_bytes:,} bytes, because every stage reads the rows again"
        )
        logger.info("%s", note)
        # Frames of pandas are read batch by batch, so that their columns are known only now.
        labels = self.labels or []
        if names is None and len(labels) == source.dim and all(isinstance(label, str) for label in labels):
            names = labels
        return Input(source, names, note)

    def _counted(self, batches: Iterator[Any], most: int) -> Iterator[Any]:
        rows = 0
        for batch in batches:
            rows += len(batch) if hasattr(batch, "__len__") else 0
            _refuse_more(rows, most, self.name)
            yield batch


def _root(data: Any) -> str:
    """Returns the name of the package that the type belongs to."""
    return type(data).__module__.partition(".")[0]


def column_text(column: str | Sequence[str] | None, what: str = "column") -> str | None:
    """Returns the columns of the parameter `what` as the engine takes them: names separated by commas."""
    if column is None or isinstance(column, str):
        return column
    if not isinstance(column, (list, tuple)) or not all(isinstance(name, str) for name in column):
        raise ValueError(f"{what}: give a name or a list of names, not {shown(column)}")
    if not column:
        raise ValueError(f"{what}: the list of names is empty")
    for name in column:
        if not can_be_listed(name) and len(column) > 1:
            raise ValueError(f"{what}: the name {name!r} has a comma or blanks at its ends; rename this column first")
    return ",".join(column)


def can_be_listed(name: str) -> bool:
    """Returns whether a name can be one of several that a comma separates, and is no pattern."""
    return name != "" and name == name.strip() and not set(name) & set(',*"')


# Arrays


def _array(values: Any, column: Any, spool: _Spool) -> Input:
    """Returns an array (or what has a shape and slices of rows like one) as an input."""
    from . import _lowland

    name = spool.name
    if column is not None:
        raise ValueError(f"column: {name} is an array, which has no columns with names; give {name}[:, …] instead")
    dtype = getattr(values, "dtype", None)
    if isinstance(values, np.ma.MaskedArray):
        values = _unmasked(values, name)
    if isinstance(values, np.ndarray):
        values = np.asarray(values)
    shape = tuple(values.shape)
    _check_shape(shape, name, spool.least)
    if spool.most is not None:
        _refuse_more(shape[0], spool.most, name)
    native = _read_as(np.dtype(dtype), name)
    if native is None:
        return _array(_numbers(np.asarray(values), name), None, spool)
    if isinstance(values, np.ndarray) and values.dtype == native and values.flags.c_contiguous and values.flags.aligned:
        return Input(_lowland.Source.array(values, name), None, None)
    row = max(1, shape[1] * native.itemsize)
    if shape[0] * row <= LARGE_BYTES:
        return Input(_lowland.Source.array(_plain(values, native), name), None, None)
    step = max(1, BLOCK_BYTES // row)
    starts = range(0, shape[0], step)
    blocks = (_plain(values[start : start + step], native) for start in starts)
    return spool.write(blocks, None, f"an array of {dtype} that is not in C order or native byte order")


def _check_shape(shape: tuple[int, ...], name: str, least: int) -> None:
    # The words are those of scikit-learn, which users know and its checks look for.
    if len(shape) == 1:
        raise ValueError(
            f"Expected 2D array, got 1D array instead: {name} has the shape {shape}. Reshape your data either using "
            "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a single sample."
        )
    if len(shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D: {name} has the shape {shape}; give rows × features, for example {name}.reshape(len({name}), -1)"
        )
    if shape[0] == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of {least} is required: {name} has no rows"
        )
    if shape[1] == 0:
        raise ValueError(f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if shape[0] < least:
        raise ValueError(
            f"Found array with 1 sample (shape={shape}) while a minimum of {least} is required: n_samples=1"
        )


def _read_as(dtype: np.dtype, name: str) -> np.dtype | None:
    """Returns the type as which the engine reads numbers of `dtype`; None for objects, which are converted one by one."""
    if dtype.name == "bfloat16":
        return np.dtype(np.float32)
    if dtype.kind == "O":
        return None
    if dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} is {dtype}; give its real part, its modulus, or both as columns"
        )
    if dtype.kind == "f":
        return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
    if dtype.kind in "iub":
        return dtype.newbyteorder("=")
    if dtype.names is not None:
        raise ValueError(
            f"{name} is a structured array with the fields {', '.join(dtype.names)}; convert it with "
            f"numpy.lib.recfunctions.structured_to_unstructured({name})"
        )
    if dtype.kind in "US":
        raise ValueError(
            f"{name} is text ({dtype}); dtype='numeric' is not compatible with arrays of bytes/strings: convert it, {name}.astype(float)"
        )
    raise ValueError(f"{name} is {dtype}; give floats, integers or truth values")


def _plain(values: Any, dtype: np.dtype) -> np.ndarray:
    """Returns an array as the engine reads it, copied if need be: C order, aligned, native byte order."""
    return np.require(values, dtype, ["C", "A"])


def _unmasked(values: np.ma.MaskedArray, name: str) -> np.ndarray:
    mask = np.ma.getmaskarray(values)
    if mask.any():
        row, component = np.argwhere(mask)[0]
        raise ValueError(
            f"{name} is a masked array, and row {row}, column {component} is masked ({int(mask.sum()):,} values are): fill "
            f"them, {name}.filled(0), or give {name}.filled(numpy.nan) and invalid='drop' or 'null'"
        )
    return values.data


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Returns an array of objects as float64, or says which value is no number."""
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        for (row, component), value in np.ndenumerate(values):
            try:
                float(value)
            except (TypeError, ValueError) as cause:
                kind = TypeError if isinstance(cause, TypeError) else ValueError
                raise kind(
                    f"{name} has the dtype object, and row {row}, column {component} is no number: {cause}"
                ) from error
        raise


def _tensor_values(tensor: Any, name: str) -> np.ndarray:
    if getattr(tensor, "is_sparse", False) or str(getattr(tensor, "layout", "")).startswith("torch.sparse"):
        raise TypeError(f"{name} is a sparse tensor; sparse rows are not supported: give {name}.to_dense()")
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return tensor.numpy()


def _is_tensor(data: Any) -> bool:
    return hasattr(data, "detach") and any(base.__module__.partition(".")[0] == "torch" for base in type(data).__mro__)


def _refuse_sparse(data: Any, name: str) -> None:
    if type(data).__module__.startswith("scipy.sparse") or (hasattr(data, "tocsr") and hasattr(data, "nnz")):
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. Reduce the columns first, for example by "
            "sklearn.decomposition.TruncatedSVD(100).fit_transform(X), or give X.toarray(), or batches of dense rows: "
            "lambda: (X[i:i + 10_000].toarray() for i in range(0, X.shape[0], 10_000))"
        )


# Sequences and batches


def _sequence(data: Sequence[Any], column: Any, spool: _Spool) -> Input:
    """A list: of names of files, of batches, or of rows."""
    from . import _lowland

    name = spool.name
    if len(data) == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 2 is required: {name} is empty")
    if all(isinstance(item, (str, os.PathLike)) for item in data):
        return Input(_lowland.Source.paths([os.fspath(item) for item in data], column_text(column)), None, None)
    first = data[0]
    _refuse_sparse(first, f"{name}[0]")
    if _is_rows(first) or _holds_rows(first):
        return _batches(lambda: iter(data), spool, "a list of batches")
    if _is_tensor(first):
        data = [_tensor_values(row, name) for row in data]
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise ValueError(_ragged(data, name)) from error
    return _array(values, column, spool)


def _is_rows(value: Any) -> bool:
    """Returns whether this is a batch of rows: an array or a frame of two dimensions, or Arrow data."""
    return len(getattr(value, "shape", ())) == 2 or _has_arrow(value)


def _holds_rows(batch: Any) -> bool:
    """Returns whether this is a batch in a tuple, a list or a dict."""
    if isinstance(batch, dict):
        return any(_is_rows(value) for value in batch.values())
    return isinstance(batch, (tuple, list)) and len(batch) > 0 and _is_rows(batch[0])


def _ragged(data: Sequence[Any], name: str) -> str:
    lengths = [len(row) if hasattr(row, "__len__") else None for row in data]
    row = next((i for i, length in enumerate(lengths) if length != lengths[0]), 0)
    found = "no sequence" if lengths[row] is None else f"{lengths[row]} components"
    return f"{name}: row {row} has {found}, where row 0 has {lengths[0]}; all rows must have the same length"


def _called(function: Callable[[], Any], name: str) -> Iterator[Any]:
    result = function()
    if not hasattr(result, "__iter__"):
        raise TypeError(
            f"{name}: the function returned a {type(result).__name__}; let it return an iterator of batches"
        )
    return iter(result)


def _batches(make: Callable[[], Iterator[Any]], spool: _Spool, what: str) -> Input:
    """Batches that can be read again: those of a loader, a list, or a function.

    They are read once. Only the first batch is read twice: if rows come in another order in each pass, rows of the map
    cannot be assigned to rows of the data.
    """
    batches = make()
    _refuse_begun(batches, spool.name)
    first = next(batches, None)
    if first is None:
        raise ValueError(f"{spool.name}: {what} gives no batches, so there are 0 sample(s)")
    again = make()
    if again is batches or inspect.isgenerator(again) and again.gi_frame is None:
        return _once(itertools.chain([first], batches), spool, what)
    second = next(again, None)
    if not _equal(first, second, spool):
        raise ValueError(
            f"{spool.name}: {what} gives other rows in a second pass (its first batch differs), so rows of the map could not "
            "be assigned to rows of the data; read in a fixed order (shuffle=False, no random augmentation)"
        )
    del again, second
    return _written(itertools.chain([first], batches), spool, what)


def _once(batches: Iterator[Any], spool: _Spool, what: str | None = None) -> Input:
    """Batches that can be read only once."""
    if what is None:
        _refuse_begun(batches, spool.name)
    first = next(batches, None)
    if first is None:
        raise ValueError(
            f"{spool.name}: the iterator gives no batches, so there are 0 sample(s); an iterator gives its rows once, so "
            "one that was read before is empty: give a function that returns a new one"
        )
    return _written(
        itertools.chain([first], batches), spool, what or f"a {type(batches).__name__}, which can be read once,"
    )


def _refuse_begun(batches: Iterator[Any], name: str) -> None:
    """Refuses a generator that was read before, whose first rows are gone."""
    if inspect.isgenerator(batches) and inspect.getgeneratorstate(batches) != inspect.GEN_CREATED:
        read = "to its end" if batches.gi_frame is None else "in part"
        raise ValueError(
            f"{name}: this generator was read {read} before; a generator gives its rows once. Give a function that "
            f"returns a new generator: fit(lambda: {getattr(batches, '__name__', 'batches')}())"
        )


def _written(batches: Iterator[Any], spool: _Spool, what: str) -> Input:
    first = _batch(next(batches), spool, 0)
    names = None
    if not isinstance(first, np.ndarray):
        fields = fields_of(first)
        if fields:
            spool.column, names = _features(fields, spool.column, (), spool.name)
    elif spool.column is not None:
        spool.column = None  # the key of a dict of arrays
    rest = (_batch(batch, spool, number) for number, batch in enumerate(batches, 1))
    return spool.write(itertools.chain([first], rest), names, what)


def _batch(batch: Any, spool: _Spool, number: int) -> Any:
    """Returns a batch as a 2-D array, or as Arrow data."""
    name, key = f"{spool.name}: batch {number}", spool.key
    if isinstance(batch, dict):
        if spool.key not in batch:
            keys = ", ".join(repr(key) for key in batch)
            raise ValueError(f"{name} is a dict with the keys {keys}; say by `column` which of them has the vectors")
        batch, key = batch[spool.key], None
    if isinstance(batch, (tuple, list)) and len(batch) > 0 and not isinstance(batch[0], (int, float)):
        # A tuple of a TensorDataset: data, labels, … A list of rows is a batch of its own.
        if _is_rows(batch[0]):
            batch = batch[0]
    _refuse_sparse(batch, name)
    if _is_tensor(batch):
        batch = _tensor_values(batch, name)
    batch = _in_order(batch, spool, name, number, key)
    if _root(batch) == "pandas" and getattr(batch, "ndim", 1) == 2:
        batch = _pandas_values(batch, name)
    if not isinstance(batch, np.ndarray):
        if _has_arrow(batch):
            return exportable(batch) if hasattr(batch, "collect_schema") else batch
        try:
            batch = np.asarray(batch)
        except ValueError as error:
            raise ValueError(_ragged(batch, name)) from error
    if isinstance(batch, np.ma.MaskedArray):
        batch = _unmasked(batch, name)
    if batch.ndim != 2:
        raise ValueError(f"{name} has the shape {batch.shape}; give batches of rows × features")
    native = _read_as(batch.dtype, name)
    return _plain(_numbers(batch, name) if native is None else batch, native or np.dtype(np.float64))


def _in_order(batch: Any, spool: _Spool, name: str, number: int, key: str | None) -> Any:
    """Returns a batch that is a frame with its columns in the order of the first batch's.

    Raises
    ------
    ValueError
        If it has other columns, with the names of both.
    """
    root = _root(batch)
    if root == "pandas" and getattr(batch, "ndim", 1) == 2:
        if key is not None:
            batch = _columns_of(batch, key, name)
            if isinstance(batch, np.ndarray):
                return batch
        labels = list(batch.columns)
    elif root in ("polars", "pyarrow") and hasattr(batch, "select") and hasattr(batch, "schema"):
        labels = list(batch.schema.names() if root == "polars" else batch.schema.names)
    else:
        return batch
    if number == 0 or spool.labels is None:
        spool.labels = labels
    first = spool.labels
    if labels == first:
        return batch
    if len(labels) == len(first) == len(set(labels)) and set(labels) == set(first):
        return batch[first] if root == "pandas" else batch.select(first)
    raise ValueError(
        f"{name} has the columns {_listed(labels)}, and the first one {_listed(first)}; give all batches the same columns"
    )


def _listed(labels: list[Any]) -> str:
    return ", ".join(map(repr, labels[:20])) + (f", … ({len(labels):,})" if len(labels) > 20 else "")


def _columns_of(frame: Any, key: str, name: str) -> Any:
    """Returns the columns of a frame of pandas that `key` names, or the array of its vectors."""
    names = matching(key, list(frame.columns))
    if not names:
        raise ValueError(f"column: {name} has no column {key!r}; it has {_listed(list(frame.columns))}")
    if not frame.columns.is_unique:
        raise ValueError(f"column: {name} has columns of the same name: {_listed(list(frame.columns))}; rename them")
    if len(names) == 1 and _is_vectors(frame[names[0]]):
        rows = frame[names[0]].tolist()
        try:
            return np.stack([np.asarray(row) for row in rows])
        except ValueError as error:
            raise ValueError(_ragged(rows, f"{name}[{names[0]!r}]")) from error
    return frame[names]


def _has_arrow(data: Any) -> bool:
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def _equal(first: Any, second: Any, spool: _Spool) -> bool:
    if first is second:
        return True
    if second is None:
        return False
    if _has_arrow(first) and not isinstance(first, np.ndarray) and _root(first) != "pandas":
        return _beginning(first) == _beginning(second)
    a, b = _batch(first, spool, 0), _batch(second, spool, 0)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _beginning(batch: Any) -> str | None:
    """Returns the first rows of a table as text, in which NaN equals NaN; None if it has no slices."""
    if not hasattr(batch, "slice"):
        return None
    part = batch.slice(0, 100)
    return f"{len(batch)} {part.to_pydict() if hasattr(part, 'to_pydict') else part.rows()}"


def _is_loader(data: Any) -> bool:
    """Returns whether this is PyTorch's DataLoader, or one like it."""
    return hasattr(data, "dataset") and hasattr(data, "batch_size") and hasattr(data, "__iter__")


def _refuse_random(loader: Any) -> None:
    """Refuses loaders whose order is random, and says by which sampler."""
    samplers = [getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)]
    for sampler in samplers:
        kinds = [base.__name__ for base in type(sampler).__mro__]
        if any(kind in _RANDOM_SAMPLERS for kind in kinds):
            asked = " (shuffle=True)" if "RandomSampler" in kinds else ""
            raise ValueError(
                f"{type(loader).__name__}: its sampler is a {type(sampler).__name__}{asked}, so the rows of the map would be in a "
                "random order; make the loader with shuffle=False"
            )
        if "DistributedSampler" in kinds:
            raise ValueError(
                f"{type(loader).__name__}: its sampler is a {type(sampler).__name__}, which gives this process a part of the rows; "
                "make the loader without a sampler"
            )
    if getattr(loader, "drop_last", False) and loader.batch_size:
        try:
            lost = len(loader.dataset) % loader.batch_size
        except TypeError:
            return
        if lost:
            warnings.warn(
                f"{type(loader).__name__}: drop_last=True leaves out the last {lost} rows, which will not be on the map",
                LowlandWarning,
                stacklevel=4,
            )


# Frames


_NUMBER = re.compile(
    r"^(u?int\d*|half_?float|float\d*|double|bool(ean)?|decimal.*|(u?(tiny|small|big|huge)int)|u?integer|real)\b.*$",
    re.I,
)
_VECTOR = re.compile(
    r"^(large_|fixed_size_)?(list|array|struct|binary|blob|extension<arrow.fixed_shape_tensor).*$|^.*\]$", re.I
)


def _kind(type_name: str) -> str:
    if _VECTOR.match(type_name):
        return "vector"
    return "number" if _NUMBER.match(type_name) else "other"


def fields_of(data: Any) -> list[Field]:
    """Returns the columns of a frame; none if its type does not tell them."""
    schema: Any = data.collect_schema() if hasattr(data, "collect_schema") else getattr(data, "schema", None)
    if hasattr(schema, "items"):  # Polars
        pairs = [(str(name), str(dtype)) for name, dtype in schema.items()]
    elif hasattr(schema, "names") and hasattr(schema, "types"):  # pyarrow
        pairs = [(str(name), str(dtype)) for name, dtype in zip(schema.names, schema.types, strict=True)]
    elif hasattr(data, "columns") and hasattr(data, "types"):  # DuckDB
        pairs = [(str(name), str(dtype)) for name, dtype in zip(data.columns, data.types, strict=True)]
    else:
        return []
    return [Field(name, _kind(dtype), dtype) for name, dtype in pairs]


def _features(
    fields: list[Field], column: str | Sequence[str] | None, beside: Sequence[str], name: str
) -> tuple[str | None, list[str] | None]:
    """Returns the engine's `column`, and the names of the features if they are columns of numbers.

    A column that is asked for is left to the engine, which knows paths and patterns too.
    """
    known = [field.name for field in fields]
    if column is not None:
        asked = [column] if isinstance(column, str) else list(column)
        names = asked if len(asked) > 1 and all(part in known for part in asked) else None
        return column_text(column), names
    features = [field for field in fields if field.name not in beside]
    if any(field.kind == "vector" for field in features):
        return None, None
    others = [field for field in features if field.kind == "other"]
    if others:
        told = ", ".join(f"{field.name!r} ({field.type})" for field in others[:5]) + (", …" if len(others) > 5 else "")
        raise ValueError(
            f"{name} has columns that are no numbers: {told}; drop or encode them, or name the columns of the vectors by `column`"
        )
    names = [field.name for field in features]
    if not names:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=(?, 0)) while a minimum of 1 is required: {name} has no columns of numbers"
        )
    return (",".join(names) if all(map(can_be_listed, names)) else None), names


def _is_exportable(dtype: Any) -> bool:
    """Returns whether the engine can read columns of a type of Polars, which it cannot of nulls and 128 bits."""
    inner = [getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", []))]
    return str(dtype) not in ("Null", "Int128", "UInt128") and all(_is_exportable(one) for one in inner if one is not None)


def _needed(frame: Any, column: str | Sequence[str] | None, beside: Sequence[str]) -> Any:
    """Returns the columns of a frame of Polars that are named, if all of them are; otherwise the frame.

    Columns that nobody asked for can be of types that cannot be exported. If no vectors are named, such columns are left
    out beside a column of vectors.
    """
    if column is None:
        schema = frame.collect_schema()
        left = [name for name, dtype in schema.items() if name in beside or _is_exportable(dtype)]
        vectors = [name for name in left if name not in beside and _kind(str(schema[name])) == "vector"]
        return frame.select(left) if vectors and len(left) < len(schema) else frame
    there = frame.collect_schema().names()
    asked: set[str] = set()
    for name in [column] if isinstance(column, str) else list(column):
        names = matching(name, there)
        if not names:
            return frame  # the engine says which columns there are
        asked.update(names)
    asked.update(beside)
    return frame.select([name for name in there if name in asked]) if asked <= set(there) else frame


def matching(column: str, there: Sequence[str]) -> list[str]:
    """Returns the columns among `there` that a text as of `--column` names; none if one of them is missing."""
    if column in there:
        return [column]
    if "," in column:
        found = [matching(part.strip(), there) for part in column.split(",")]
        return [name for names in found for name in names] if all(found) else []
    if "*" in column:
        return [name for name in there if fnmatch.fnmatchcase(str(name), column.replace("[", "[[]"))]
    for root in (column.rpartition(":")[0], column.partition(".")[0]):
        if root and root in there:
            return [root]
    return []


def is_recent(version: str) -> bool:
    """Returns whether this is Polars 1.40 or newer, whose `LazyFrame.collect_batches` raises the errors of a query."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 40)


def exportable(frame: Any) -> Any:
    """Returns a frame of Polars whose columns can be exported as Arrow.

    Polars 1 exports a slice of arrays with nulls with too few values, at which pyarrow aborts; lists are exported well.
    """
    polars = sys.modules["polars"]
    for name, dtype in frame.collect_schema().items():
        if not _is_exportable(dtype):
            raise ValueError(
                f"the column {name!r} is {dtype}, which the engine cannot read; leave it out, or cast it first, for example to "
                "Int64 or String"
            )
    if not polars.__version__.startswith("1."):
        return frame
    arrays = [name for name, dtype in frame.collect_schema().items() if isinstance(dtype, polars.Array)]
    return frame.with_columns(polars.col(arrays).arr.to_list()) if arrays else frame


def _one_column(data: Any, root: str) -> Any:
    """Returns a Series or an Arrow array of vectors as a frame of one column."""
    if root == "polars":
        return data.to_frame("embedding")
    if root == "pyarrow":
        import pyarrow

        return pyarrow.table({"embedding": data})
    return data.to_frame("embedding")


def _pandas(frame: Any, column: Any, beside: Sequence[str], spool: _Spool) -> Input:
    """A frame of pandas: columns of numbers by NumPy, others by Arrow."""
    from . import _lowland

    beside = [name for name in beside if name in frame.columns]
    if column is None and not beside:
        names = [str(name) for name in frame.columns] if all(isinstance(name, str) for name in frame.columns) else None
        if frame.shape[1] > 0 and not any(_is_vectors(frame.iloc[:, i]) for i in range(frame.shape[1])):
            values = _pandas_values(frame, spool.name)
            return _array(values, None, spool)._replace(names=names)
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        _check_shape(frame.shape, spool.name, spool.least)
    if isinstance(column, str) and not beside and column in frame.columns and _is_vectors(frame[column]):
        rows = frame[column].tolist()
        try:
            return _array(np.stack([np.asarray(row) for row in rows]), None, spool)
        except ValueError as error:
            raise ValueError(_ragged(rows, f"{spool.name}[{column!r}]")) from error
    if isinstance(column, (list, tuple)) and not beside:
        return _pandas(frame[list(column)], None, (), spool)
    try:
        import pyarrow
    except ImportError:
        raise ValueError(
            f"{spool.name}: pyarrow is needed to read a frame of pandas with columns other than numbers"
        ) from None
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    text, names = _features(fields_of(table), column, beside, spool.name)
    return Input(_lowland.Source.arrow(table, text, spool.name), names, None)


def _is_vectors(series: Any) -> bool:
    """Returns whether a column's values are lists or arrays."""
    if str(series.dtype) == "object":
        first = next((value for value in series if value is not None), None)
        return isinstance(first, (list, tuple, np.ndarray))
    return str(series.dtype).startswith(("list", "large_list", "fixed_size_list"))


def _pandas_values(frame: Any, name: str) -> np.ndarray:
    """Returns the numbers of a frame, with NaN for missing ones."""
    dtypes = list(getattr(frame, "dtypes", []))
    for number, (label, dtype) in enumerate(zip(frame.columns, dtypes, strict=True)):
        numeric = getattr(dtype, "_is_numeric", getattr(dtype, "kind", "O") in "iufcb") or str(dtype) == "boolean"
        if str(dtype) == "object":
            first = next((value for value in frame.iloc[:, number] if value is not None), None)
            numeric = not isinstance(first, (str, bytes))
        if not numeric:
            raise ValueError(
                f"{name} has a column that is no number: {label!r} ({dtype}); drop or encode it, or name the columns of "
                "the vectors by `column`"
            )
    if all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return frame.to_numpy()
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)
