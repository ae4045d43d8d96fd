"""lowland as a stage of a Polars query.

    import lowland.polars                      # gives LazyFrame and DataFrame the namespace `lowland`
    import polars as pl

    pl.scan_parquet("vectors.parquet").lowland.embed("embedding", id="id").sink_parquet("map.parquet")

On a LazyFrame the functions check names, types and options at once, and return a LazyFrame; the work starts when that is
collected or sunk. The input is streamed to a file, one run makes the result as a file, and every use of the LazyFrame reads
that file, which is deleted with the last LazyFrame that needs it. On a DataFrame they work at once.

The functions are also there by themselves, because type checkers do not see namespaces: `lowland.polars.embed(frame, …)`.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from . import _lowland
from ._input import can_be_listed, exportable, is_recent, matching
from ._options import engine_options, methods, path, table
from ._progress import listener, watch
from ._run_files import TemporaryDirectory, beside

__all__ = ["embed", "transform", "knn", "pca"]

Frame = TypeVar("Frame", pl.LazyFrame, pl.DataFrame)

if not is_recent(pl.__version__):
    raise ImportError(
        f"lowland.polars needs Polars 1.40 or newer, and this is {pl.__version__}: in older ones LazyFrame.collect_batches is "
        "missing, or loses the errors of a query, so that a part of the rows would be taken for all; pip install -U polars"
    )


def embed(
    frame: Frame,
    column: str | pl.Expr | Sequence[str | pl.Expr] | None = None,
    *,
    id: str | pl.Expr | None = None,
    keep: str | pl.Expr | Sequence[str | pl.Expr] | None = (),
    coordinates: Sequence[str] | None = None,
    method: str | None = "umap",
    n_neighbors: int | None = None,
    perplexity: float | None = None,
    n_components: int | None = None,
    min_dist: float | None = None,
    metric: str | None = None,
    n_epochs: int | None = None,
    invalid: str = "error",
    random_state: int | None = None,
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    device: str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    restart: bool = False,
    directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    callback: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> Frame:
    """Returns the map of a frame's vectors, one row for each row.

    Parameters
    ----------
    frame : LazyFrame or DataFrame
    column : str, expression, or list of them
        The vectors: a column of lists or arrays, or columns of numbers, one for each component; also what `--column` takes
        ("emb.values", "blob:f32", "pc*"). Default: the only column of lists, or all columns if all are numbers.
    id : str or expression, optional
        The column of the rows' ids. Default: row numbers, in a column `id`.
    keep : str, expression, or list of them
        Columns to keep beside the map.
    coordinates : list of str, optional
        Names of the map's columns. Default: x, y (and z), or c0, c1, … for more than three.
    method : str, default "umap"
        One of `lowland.methods()`.
    n_neighbors, perplexity, n_components, min_dist, metric, n_epochs, **options
        The method's options, as in its estimator (`lowland.UMAP`). None is the method's default.
    invalid : {"error", "drop", "null"}, default "error"
        What happens to rows without a vector.
    random_state, memory_limit, n_jobs, device, verbose, callback
        As in the estimators.
    run_dir : path, optional
        Directory for the run's stages, which stays. A run that was interrupted is continued if the input is the same.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    directory : path, optional
        Where the input and the map are written. Default: the system's directory for temporary files.

    Returns
    -------
    LazyFrame or DataFrame, as `frame`
        The columns `id`, the coordinates (Float32), and the kept columns.

    Raises
    ------
    ValueError, polars.exceptions.ColumnNotFoundError
        At once, for a column that is not there or is of a wrong type, and for an option that the method does not have.
    """
    given = {
        "n_neighbors": n_neighbors,
        "perplexity": perplexity,
        "n_components": n_components,
        "min_dist": min_dist,
        "metric": metric,
        "n_epochs": n_epochs,
        "random_state": random_state,
        "memory_limit": memory_limit,
        "n_jobs": n_jobs,
        "device": device,
        **options,
    }
    method = methods()[0] if method is None else method
    asked = engine_options(method, **given)
    components = int(asked.setdefault("n_components", int(table()["n_components"]["defaults"][method])))
    query = _Query(frame, column, id, keep)
    schema = query.schema_with(_coordinate_names(coordinates, components))
    place = _Place(directory, run_dir)

    def work(source: Any, output: str, heard: Any) -> None:
        _lowland.embed(
            source,
            options=asked,
            id=query.id,
            keep=query.keep,
            coordinates=None if coordinates is None else list(coordinates),
            invalid=_invalid(invalid),
            output=output,
            form="file",
            run_dir=place.run_dir,
            restart=restart,
            callback=heard,
            interrupt=isinstance(frame, pl.LazyFrame),
        )

    _invalid(invalid)
    if isinstance(frame, pl.LazyFrame):
        _try_options(asked, invalid)
    return _result(frame, query, work, schema, place, f"lowland.embed, {method}", (callback, verbose))


def transform(
    frame: Frame,
    column: str | pl.Expr | Sequence[str | pl.Expr] | None = None,
    *,
    model: Any,
    version: int | str | None = None,
    id: str | pl.Expr | None = None,
    keep: str | pl.Expr | Sequence[str | pl.Expr] | None = (),
    coordinates: Sequence[str] | None = None,
    invalid: str = "error",
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    batch_rows: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    restart: bool = False,
    directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Frame:
    """Places a frame's vectors on the map of a stored model, one row for each row. The map does not change.

    Parameters
    ----------
    frame : LazyFrame or DataFrame
    column : str, expression, or list of them
        As in `embed`. Default: the model's column if the frame has it, otherwise as in `embed`.
    model : path or lowland.Model
        The model.
    version : int or str, optional
        A version: its number, with or without @, or a tag. Default: the version that is current at the call.
    id : str or expression, optional
        The column of the rows' ids. Default: the model's if the frame has it, otherwise row numbers, in a column `id`.
    keep, coordinates, invalid, directory, verbose, callback
        As in `embed`.
    memory_limit, n_jobs, batch_rows
        As in the estimators. They do not change the result.
    run_dir : path, optional
        Where finished rows are kept until the transform is done, and from which an interrupted one is continued.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.

    Returns
    -------
    LazyFrame or DataFrame, as `frame`
        The columns `id`, the coordinates (Float32), `outlier` (Float32: above 1, the row is outside of the range of the model's
        rows), and the kept columns.

    Raises
    ------
    ValueError, polars.exceptions.ColumnNotFoundError
        At once, for a model that cannot be read, a column that is not there or is of a wrong type, and vectors of another
        number of components, if the schema tells it.
    """
    from ._model import Model

    opened = model if isinstance(model, Model) and version is None else Model(_path_of(model), version)
    native = opened._opened()
    asked = engine_options(None, memory_limit=memory_limit, n_jobs=n_jobs, batch_rows=batch_rows)
    there = frame.lazy().collect_schema().names() if isinstance(frame, (pl.LazyFrame, pl.DataFrame)) else []
    if column is None and native.column is not None and matching(native.column, there):
        column = native.column
    kept = [keep] if isinstance(keep, (str, pl.Expr)) else list(keep or ())
    if id is None and native.id in there and not any(isinstance(name, str) and name == native.id for name in kept):
        id = native.id
    query = _Query(frame, column, id, keep)
    if query.width is not None and query.width != native.dim:
        raise ValueError(f"column: the vectors have {query.width} components, and those of the model {native.dim}")
    schema = query.schema_with([*_coordinate_names(coordinates, native.n_components), "outlier"])
    place = _Place(directory, run_dir)

    def work(source: Any, output: str, heard: Any) -> None:
        native.transform(
            source,
            options=asked,
            id=query.id,
            keep=query.keep,
            coordinates=None if coordinates is None else list(coordinates),
            invalid=_invalid(invalid),
            output=output,
            form="file",
            run_dir=place.run_dir,
            restart=restart,
            callback=heard,
            interrupt=isinstance(frame, pl.LazyFrame),
        )
        assert opened  # This use keeps a temporary model until its rows were read.

    _invalid(invalid)
    return _result(frame, query, work, schema, place, "lowland.transform", (callback, verbose))


def _path_of(model: Any) -> Any:
    from ._model import Model

    return model.path if isinstance(model, Model) else model


def pca(
    frame: Frame,
    column: str | pl.Expr | Sequence[str | pl.Expr] | None = None,
    *,
    id: str | pl.Expr | None = None,
    keep: str | pl.Expr | Sequence[str | pl.Expr] | None = (),
    coordinates: Sequence[str] | None = None,
    n_components: int | None = 2,
    solver: str | None = None,
    whiten: bool = False,
    metric: str | None = None,
    invalid: str = "error",
    random_state: int | None = None,
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Frame:
    """Returns the principal components of a frame's vectors, one row for each row.

    Parameters
    ----------
    frame : LazyFrame or DataFrame
    column, id, keep, coordinates, invalid, directory
        As in `embed`.
    n_components : int, default 2
        Number of components, at most the number of components of a vector.
    solver, whiten, metric
        As in `lowland.PCA`.
    random_state, memory_limit, n_jobs, verbose, callback
        As in the estimators.

    Returns
    -------
    LazyFrame or DataFrame, as `frame`
        The columns `id`, the scores (Float32), and the kept columns.
    """
    from ._pca import pca_options

    asked = pca_options(2 if n_components is None else n_components, solver, whiten, metric, random_state, memory_limit, n_jobs)
    query = _Query(frame, column, id, keep)
    if query.width is not None and asked["n_components"] > query.width:
        raise ValueError(
            f"n_components: {asked['n_components']} is not between 1 and {query.width}: the vectors have {query.width} components"
        )
    schema = query.schema_with(_coordinate_names(coordinates, asked["n_components"]))

    def work(source: Any, output: str, heard: Any) -> None:
        names = None if coordinates is None else list(coordinates)
        _lowland.pca(
            source,
            options=asked,
            id=query.id,
            keep=query.keep,
            coordinates=names,
            invalid=_invalid(invalid),
            output=output,
            callback=heard,
            interrupt=isinstance(frame, pl.LazyFrame),
        )

    _invalid(invalid)
    if isinstance(frame, pl.LazyFrame):
        _try_pca_options(asked)
    return _result(frame, query, work, schema, _Place(directory, None), "lowland.pca", (callback, verbose))


def knn(
    frame: Frame,
    column: str | pl.Expr | Sequence[str | pl.Expr] | None = None,
    *,
    n_neighbors: int = 15,
    metric: str | None = None,
    recall: float | None = None,
    invalid: str = "error",
    random_state: int | None = None,
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    device: str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    restart: bool = False,
    directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Frame:
    """Returns the nearest neighbours of a frame's vectors, one row for each row.

    Parameters
    ----------
    frame : LazyFrame or DataFrame
    column, directory
        As in `embed`.
    n_neighbors : int, default 15
        Number of neighbours of each row, without the row itself.
    invalid : {"error", "null"}, default "error"
        What happens to rows without a vector: with "null" they have no neighbours.
    metric, recall, random_state, memory_limit, n_jobs, device, run_dir, restart, verbose, callback
        As in `lowland.UMAP`.

    Returns
    -------
    LazyFrame or DataFrame, as `frame`
        The columns `id` (UInt32, row numbers from 0), `neighbors` (lists of UInt32, row numbers) and `distances` (lists of
        Float32, ascending). The row number 4294967295 at the distance infinity stands for no neighbour.
    """
    asked = engine_options(
        None,
        n_neighbors=n_neighbors,
        metric=metric,
        recall=recall,
        random_state=random_state,
        memory_limit=memory_limit,
        n_jobs=n_jobs,
        device=device,
    )
    if invalid == "drop":
        raise ValueError("invalid: 'drop' would number the rows anew; filter the frame first, or give 'null'")
    query = _Query(frame, column, None, ())
    schema = {"id": pl.UInt32, "neighbors": pl.List(pl.UInt32), "distances": pl.List(pl.Float32)}
    place = _Place(directory, run_dir)

    def work(source: Any, output: str, heard: Any) -> None:
        _lowland.knn(
            source,
            options=asked,
            invalid=_invalid(invalid),
            output=output,
            run_dir=place.run_dir,
            callback=heard,
            restart=restart,
            interrupt=isinstance(frame, pl.LazyFrame),
        )

    _invalid(invalid)
    if isinstance(frame, pl.LazyFrame):
        _try_options(asked, invalid)
    return _result(frame, query, work, schema, place, "lowland.knn", (callback, verbose), index="id")


class _Query:
    """The columns that a run reads, checked against the schema."""

    def __init__(self, frame: pl.LazyFrame | pl.DataFrame, column: Any, id: Any, keep: Any) -> None:
        if not isinstance(frame, (pl.LazyFrame, pl.DataFrame)):
            raise TypeError(f"frame: give a LazyFrame or a DataFrame, not {type(frame).__name__}")
        columns = _Columns(frame)
        if column is not None:
            column = columns.text(column) if isinstance(column, str) else columns.named("column", column)
        if isinstance(id, pl.Expr):
            names = columns.named("id", id)
            if len(names) != 1:
                raise ValueError(f"id: the expression gives {len(names)} columns; give one")
            id = names[0]
        elif id is not None:
            if not isinstance(id, str):
                raise TypeError(f"id: give the name of a column or an expression, not {type(id).__name__}")
            columns.named("id", [id])
        keep = columns.named("keep", [keep] if isinstance(keep, str) else () if keep is None else keep)
        frame = columns.frame()
        self.frame, self.schema, self.id = frame, frame.lazy().collect_schema(), id
        self.keep = [name for name in keep if name != id]
        for what, names in (("id", [id] if id is not None else []), ("keep", self.keep)):
            for name in names:
                self._check_there(what, name)
        read = self._vectors(column, {*([id] if id is not None else []), *self.keep})
        beside = dict.fromkeys([*([id] if id is not None else []), *self.keep])
        self.selected = [*read, *(pl.col(name) for name in beside if name not in self.roots)]
        exportable(self.frame.lazy().select(self.selected))  # refuses types that the engine cannot read

    def _check_there(self, what: str, name: str) -> None:
        if name not in self.schema:
            there = ", ".join(repr(column) for column in self.schema)
            raise pl.exceptions.ColumnNotFoundError(f"{what}: there is no column {name!r}; the frame has {there}")

    def _vectors(self, column: Any, beside: set[str]) -> list[pl.Expr]:
        """Sets `column`, as the engine takes it, and returns the expressions of the columns that it names."""
        if column is None:
            column = self._only(beside)
        if isinstance(column, str):
            names = [column] if column in self.schema else self._resolved(column)
        else:
            names = list(column)
            if not names:
                raise ValueError("column: the list of names is empty")
        for name in names:
            self._check_there("column", name)
        self.roots = set(names)
        self.width = self._width(column, names)
        if isinstance(column, str):
            self.column = column
            if column in self.schema:
                self._check_type(column, self.schema[column], alone=True)
            return [pl.col(name) for name in names]
        for name in names:
            self._check_type(name, self.schema[name], alone=len(names) == 1)
        if len(names) == 1:
            self.column = names[0]
            return [pl.col(names[0])]
        # Names with commas cannot be listed, and names with stars would be patterns.
        if all(map(can_be_listed, names)):
            self.column = ",".join(names)
            return [pl.col(name) for name in names]
        self.roots = set()
        self.column = ",".join(f"lowland component {i}" for i in range(len(names)))
        return [pl.col(name).alias(f"lowland component {i}") for i, name in enumerate(names)]

    def _only(self, beside: set[str]) -> Any:
        """Returns the column of the vectors, or all columns of numbers, if nothing else can be meant."""
        features = {name: dtype for name, dtype in self.schema.items() if name not in beside}
        lists = [
            name
            for name, dtype in features.items()
            if isinstance(dtype, (pl.List, pl.Array)) and _is_numeric(_leaf(dtype))
        ]
        if len(lists) == 1:
            return lists[0]
        there = ", ".join(f"{name!r} ({dtype})" for name, dtype in self.schema.items())
        if len(lists) > 1:
            raise ValueError(f"column: several columns could hold the vectors: {', '.join(map(repr, lists))}; name one")
        if features and all(_is_numeric(dtype) for dtype in features.values()):
            return list(features)
        raise ValueError(f"column: no column holds lists of numbers; name the columns of the vectors: {there}")

    def _resolved(self, column: str) -> list[str]:
        """Returns the columns of the frame that a text of the command line names."""
        names = matching(column, list(self.schema))
        if not names:
            missing = [part.strip() for part in column.split(",") if not matching(part.strip(), list(self.schema))]
            self._check_there("column", missing[0] if missing else column)
        if "," in column or "*" in column:
            for name in names:
                self._check_type(name, self.schema[name], alone=False)
        return names

    def _width(self, column: Any, names: list[str]) -> int | None:
        """Returns the number of components of a vector, if the schema tells it."""
        if len(names) == 1 and isinstance(self.schema[names[0]], pl.Array):
            shape = self.schema[names[0]].shape
            return shape[0] if len(shape) == 1 and (column == names[0] or column == names) else None
        return len(names) if all(_is_numeric(self.schema[name]) for name in names) else None

    @staticmethod
    def _check_type(name: str, dtype: pl.DataType, *, alone: bool) -> None:
        if _is_numeric(dtype) or alone and isinstance(dtype, (pl.Struct,)):
            return
        if (
            alone
            and isinstance(dtype, (pl.List, pl.Array))
            and (_is_numeric(_leaf(dtype)) or isinstance(_leaf(dtype), pl.Null))
        ):
            return
        if alone and dtype == pl.Binary:
            raise ValueError(
                f"column: {name!r} is Binary; say which numbers the bytes are, for example {name + ':f32'!r}"
            )
        wanted = "a list or an array of numbers" if alone else "a number"
        raise ValueError(f"column: {name!r} is {dtype}, not {wanted}")

    def schema_with(self, coordinates: list[str]) -> dict[str, pl.DataType]:
        """Returns the schema of the result: id, coordinates, kept columns."""
        id = self.id
        schema: dict[str, Any] = {"id" if id is None else id: self.schema[id] if id is not None else pl.UInt64}
        for name in coordinates:
            if name in schema:
                raise ValueError(f"coordinates: {name!r} is the name of two columns; give other names by `coordinates`")
            schema[name] = pl.Float32
        for name in self.keep:
            if name in schema and name != id:
                raise ValueError(
                    f"keep: {name!r} is the name of a column of the result too; give other names by `coordinates`"
                )
            schema[name] = self.schema[name]
        return schema

    def source(self, directory: str) -> Any:
        """Returns the engine's source: the frame itself, or batches that are copied to disk."""
        selected = exportable(self.frame.select(self.selected))
        if isinstance(selected, pl.DataFrame):
            return _lowland.Source.arrow(selected, self.column, "frame")
        batches = selected.collect_batches(maintain_order=True, lazy=True)
        return _lowland.Source.spool(batches, self.column, directory, "frame", interrupt=True)


class _Place:
    """The directory of a run's input and output."""

    def __init__(self, directory: Any, run_dir: Any) -> None:
        self.directory, self.run_dir = path("directory", directory), path("run_dir", run_dir)
        if self.directory is None:
            self.directory = beside(self.run_dir)
        if self.directory is not None and not os.path.isdir(self.directory):
            raise ValueError(f"directory: {self.directory} is no directory")


class _Run:
    """A run that is done once, when its result is first needed, by the thread that needs it first.

    In sinks and in the streaming engine this is a thread of Polars, while the main thread waits for it and sees no signal;
    `interrupt` makes the engine look for Ctrl-C itself. The run of a DataFrame is done by the caller's thread.
    """

    def __init__(
        self, query: _Query, work: Callable[[Any, str, Any], None], place: _Place, heard: tuple[Any, bool]
    ) -> None:
        self.query, self.work, self.place, self.heard = query, work, place, heard
        self.lock = threading.Lock()
        self.output: str | None = None

    def result(self) -> str:
        """Returns the file of the result."""
        with self.lock:
            if self.output is None:
                self.files = TemporaryDirectory(self.place.directory)
                try:
                    output = os.path.join(self.files.path, "result.arrow")
                    with watch(*self.heard) as heard:
                        self.work(self.query.source(self.files.path), output, heard)
                except BaseException:
                    self.files.remove()
                    raise
                self.output = output
            return self.output


def _result(
    frame: Frame,
    query: _Query,
    work: Callable[[Any, str, Any], None],
    schema: dict[str, Any],
    place: _Place,
    name: str,
    heard: tuple[Any, bool],
    index: str | None = None,
) -> Frame:
    callback, _ = heard
    listener(callback, verbose=False)  # refuses what cannot be called
    run = _Run(query, work, place, heard)

    def table() -> pl.LazyFrame:
        found = pl.scan_ipc(run.result(), glob=False)
        if index is not None:
            found = found.with_row_index(index)
        return found.select([pl.col(column).cast(dtype) for column, dtype in schema.items()])

    if isinstance(frame, pl.DataFrame):
        # Not by a query, in which one Ctrl-C would be raised twice.
        return table().collect()

    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        found = table()
        # Polars applies none of these again, and counts `n_rows` before the predicate.
        if n_rows is not None:
            found = found.head(n_rows)
        if predicate is not None:
            found = found.filter(predicate)
        if with_columns is not None:
            found = found.select(with_columns)
        yield from found.collect_batches(chunk_size=batch_size, maintain_order=True, lazy=True)
        assert run  # This use keeps `run`, which owns the file, until the last row was read.

    detail: dict[str, Any] = (
        {"explain_name": name} if "explain_name" in inspect.signature(register_io_source).parameters else {}
    )
    return register_io_source(rows, schema=schema, is_pure=True, **detail)


def _coordinate_names(coordinates: Sequence[str] | None, components: int) -> list[str]:
    if coordinates is None:
        return ["x", "y", "z"][:components] if components <= 3 else [f"c{i}" for i in range(components)]
    if isinstance(coordinates, str) or len(coordinates) != components or len(set(coordinates)) != components:
        raise ValueError(f"coordinates: give {components} different names, one for each component, not {coordinates!r}")
    return list(coordinates)


class _Columns:
    """The columns that the arguments of a call name or compute. Every expression reads the columns of the caller's frame."""

    def __init__(self, frame: Any) -> None:
        self.given, self.there = frame, frame.lazy().collect_schema().names()
        #: The argument, the name and, of computed columns, the expression.
        self.used: list[tuple[str, str, pl.Expr | None]] = []

    def text(self, column: str) -> str:
        """Takes the columns that a text as of `--column` names."""
        self.used += [("column", name, None) for name in matching(column, self.there)]
        return column

    def named(self, what: str, given: Any) -> list[str]:
        """Returns the names of columns that are given for `what` as names or expressions."""
        if isinstance(given, pl.Expr):
            given = [given]
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
            raise TypeError(f"{what}: give a name, a list of names or an expression, not {type(given).__name__}")
        names: list[str] = []
        for one in given:
            if isinstance(one, pl.Expr):
                found = self.given.select(one).lazy().collect_schema().names()
                expression = None if one.meta.is_column_selection() else one
            elif isinstance(one, str):
                found, expression = [one], None
            else:
                raise TypeError(f"{what}: give names or expressions, not {type(one).__name__}")
            self.used += [(what, name, expression) for name in found]
            names += found
        return names

    def frame(self) -> Any:
        """Returns the frame with the computed columns.

        Raises
        ------
        ValueError
            If one of them would replace a column that is read too.
        """
        computed: list[pl.Expr] = []
        for what, name, expression in self.used:
            if expression is None:
                continue
            for other, same, theirs in self.used:
                if same != name or theirs is expression or theirs is not None and theirs.meta.eq(expression):
                    continue
                if theirs is None and name not in self.there:
                    continue  # the name of the computed column
                raise ValueError(
                    f"{what}: the expression gives a column {name!r}, and {other} reads another column of that name; give it a "
                    f"name of its own, for example by .alias({name + '_' + what!r})"
                )
            if not any(expression.meta.eq(one) for one in computed):
                computed.append(expression)
        return self.given.with_columns(computed) if computed else self.given


def _try_options(asked: dict[str, Any], invalid: Any) -> None:
    """Refuses values of options that are wrong for any data, before the input of a lazy query is streamed.

    They are checked, as for a run, on rows that are made up. What depends on the rows is not refused: neighbours that are too
    many for the rows, and budgets that are too small.
    """
    source = _lowland.Source.array((np.arange(1200 * 64, dtype=np.float32) % 97).reshape(1200, 64), "rows")
    tried = {name: value for name, value in asked.items() if name != "disk"}
    init = asked.get("init")
    if isinstance(init, (str, os.PathLike)) and not str(init).isidentifier():
        if "://" not in str(init) and not os.path.exists(init) and not glob.glob(os.fspath(init)):
            raise FileNotFoundError(errno.ENOENT, "init: there is no such file", os.fspath(init))
        del tried["init"]
    for name, most in (("n_neighbors", 1199), ("perplexity", 399.0)):
        if _is_above(asked.get(name), most):
            tried[name] = most
    try:
        with contextlib.suppress(_lowland.BudgetError):
            _lowland.embed_batches(source, options=tried, invalid=invalid)
        if "disk" in asked:
            _lowland.embed_batches(source, options={"disk": asked["disk"]})
    except ValueError as error:
        text = str(error)
        if text.startswith("disk_limit: a disk budget of"):
            return
        for name in ("n_neighbors", "perplexity"):
            if tried.get(name) != asked.get(name):  # the engine names the number that was tried
                text = text.replace(f"{name}: {tried[name]:g} ", f"{name}: {asked[name]} ")
        raise ValueError(text) from None


def _try_pca_options(asked: dict[str, Any]) -> None:
    """As `_try_options`, for `pca`."""
    rows = np.array([[1, 2, 4], [2, 1, 5], [3, 5, 1], [4, 3, 3]], dtype=np.float32)
    with contextlib.suppress(_lowland.BudgetError):
        _lowland.pca(_lowland.Source.array(rows, "rows"), options={**asked, "n_components": 1})


def _is_above(value: Any, most: float) -> bool:
    return isinstance(value, (int, float)) and value > most


def _invalid(invalid: str) -> Any:
    if invalid not in ("error", "drop", "null"):
        raise ValueError(f"invalid: give 'error', 'drop' or 'null', not {invalid!r}")
    return invalid


def _leaf(dtype: Any) -> Any:
    while isinstance(dtype, (pl.List, pl.Array)):
        dtype = dtype.inner
    return dtype


def _is_numeric(dtype: Any) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


class _Namespace:
    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def embed(self, column: Any = None, **options: Any) -> Any:
        return embed(self._frame, column, **options)

    def transform(self, column: Any = None, **options: Any) -> Any:
        return transform(self._frame, column, **options)

    def knn(self, column: Any = None, **options: Any) -> Any:
        return knn(self._frame, column, **options)

    def pca(self, column: Any = None, **options: Any) -> Any:
        return pca(self._frame, column, **options)


@pl.api.register_lazyframe_namespace("lowland")
class LazyFrameNamespace(_Namespace):
    """`LazyFrame.lowland`: results are LazyFrames; the work starts when they are collected or sunk."""


@pl.api.register_dataframe_namespace("lowland")
class DataFrameNamespace(_Namespace):
    """`DataFrame.lowland`: the work is done at once."""


for _name, _function in (("embed", embed), ("transform", transform), ("knn", knn), ("pca", pca)):
    getattr(_Namespace, _name).__doc__ = _function.__doc__
