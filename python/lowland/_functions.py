"""The functions of the package: any source to a file, a table or an array, and what is looked at beside.

All of them take sources of every kind that `docs/python.md` lists. Options have the names of the estimators
(`n_neighbors`, `memory_limit`, `random_state`, …); None stands for the method's default.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from . import _lowland
from ._errors import in_words_of_python, shown
from ._input import Input, column_text, read
from ._map_files import is_frame, map_file, points_of
from ._options import engine_options, path, table
from ._progress import Event, listener, watch
from ._report import Report
from ._run_files import beside as directory_of, given_graph

__all__ = [
    "Picture", "Plan", "embed", "embed_batches", "evaluate", "inspect", "knn", "methods", "pca", "plan", "plot", "runs",
]  # fmt: skip

Path = str | os.PathLike[str]


def methods() -> list[str]:
    """Returns the names of the methods: those that stream first, then those that compute all pairs of rows."""
    return _lowland.methods()


def embed(
    source: Any = None,
    output: Path | None = None,
    *,
    column: str | Sequence[str] | None = None,
    method: str = "umap",
    graph: Any = None,
    id: str | None = None,
    keep: str | Sequence[str] = (),
    coordinates: Sequence[str] | None = None,
    form: Literal["array", "table", "file"] | None = None,
    invalid: Literal["error", "drop", "null"] | None = None,
    model: Path | None = None,
    run_dir: Path | None = None,
    restart: bool = False,
    force: bool = False,
    verbose: bool = False,
    callback: Callable[[Event], None] | None = None,
    **options: Any,
) -> Any:
    """Makes a map of vectors.

    Parameters
    ----------
    source
        An array, a frame, names of files, a loader, …; None where `graph` is enough.
    output : path, optional
        A file `.parquet`, `.arrow` or `.npy`; the result is then the report.
    column : str or list of str, optional
        The column or columns of the vectors.
    method : str
        One of `methods()`.
    graph : path or Graph, optional
        A graph of nearest neighbours, which takes the place of the search.
    id, keep : str and list of str, optional
        The column that names the rows, and the columns beside the coordinates, in files and tables; a `model` stores them.
    coordinates : list of str, optional
        The names of the coordinates. Default: x, y, z, or c0, c1, … of more than three.
    form : "array", "table" or "file"
        Default: "file" with `output`; the report alone with `model`; "table" with `id` or `keep`; otherwise "array".
    invalid : "error", "drop" or "null", optional
        What becomes of rows that cannot be placed. Default: "error"; of a graph without vectors "null".
    model : path, optional
        A new directory in which the map is kept as a model, for transforms and updates by `lowland.Model`. An update needs
        the column of `id`. Finished stages are kept there too: the same call goes on after an interruption.
    run_dir : path, optional
        Where finished stages are kept, from which the same call goes on after an interruption.
    restart, force : bool
        Whether an earlier run there is discarded, and whether an output may be replaced.
    verbose : bool
        Whether progress is shown.
    callback : callable, optional
        Is called with each event of the run; an exception in it stops the run.
    **options
        Options of the method and of the run: `n_neighbors`, `memory_limit`, `random_state`, …

    Returns
    -------
    numpy.ndarray, Table or Report
        An array of rows × components, float32; a table for any library that knows Arrow (`polars.DataFrame(table)`); or the
        report of the run that wrote the file or the model.
    """
    output, run_dir, model = path("output", output), path("run_dir", run_dir), path("model", model)
    chosen = engine_options(method, **options)
    names = _list(keep, "keep")
    wanted: str | None = form
    if wanted is None:
        given = names or id is not None
        wanted = "file" if output is not None else "none" if model is not None else "table" if given else "array"
    if wanted == "array":
        _check_coordinates(_names(coordinates), chosen.get("n_components") or int(table()["n_components"]["defaults"][method]))
    # Without `run_dir` the run directory is beside the output.
    found = _source(source, column, [*names, *_id(id)], run_dir or output or model)
    with watch(callback, verbose) as heard, given_graph(_graph(graph), run_dir) as graph, in_words_of_python():
        result = _lowland.embed(
            found.source, graph=graph, options=chosen, id=id, keep=names, coordinates=_names(coordinates), invalid=invalid,
            output=output, form=wanted, model=model, run_dir=run_dir, restart=restart, force=force, callback=heard,
        )  # fmt: skip
    if wanted == "array":
        return result.coordinates
    if wanted == "table":
        return result.table
    return Report.of(result.report, *([found.note] if found.note else []))


def embed_batches(
    source: Any = None,
    *,
    column: str | Sequence[str] | None = None,
    method: str = "umap",
    graph: Any = None,
    id: str | None = None,
    keep: str | Sequence[str] = (),
    coordinates: Sequence[str] | None = None,
    invalid: Literal["error", "drop", "null"] | None = None,
    run_dir: Path | None = None,
    restart: bool = False,
    verbose: bool = False,
    callback: Callable[[Event], None] | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Makes a map as `embed` does, and returns an iterator over it: Arrow batches of the id, the coordinates and the kept
    columns, in the order of the rows. Names and options are checked by the call; the run begins with the first batch.
    Arguments are those of `embed`. The iterator has `schema`, `report` (after the last batch) and `close()`."""
    run_dir = path("run_dir", run_dir)
    names = _list(keep, "keep")
    chosen = engine_options(method, **options)
    found = _source(source, column, [*names, *_id(id)], run_dir)
    with in_words_of_python():
        return _lowland.embed_batches(
            found.source, graph=_graph(graph), options=chosen, id=id, keep=names, coordinates=_names(coordinates),
            invalid=invalid, run_dir=run_dir, restart=restart, callback=listener(callback, verbose)[0],
        )  # fmt: skip


def knn(
    source: Any,
    output: Path | None = None,
    *,
    n_neighbors: int | None = None,
    column: str | Sequence[str] | None = None,
    metric: str | None = None,
    invalid: Literal["error", "drop", "null"] = "error",
    run_dir: Path | None = None,
    restart: bool = False,
    force: bool = False,
    verbose: bool = False,
    callback: Callable[[Event], None] | None = None,
    **options: Any,
) -> Any:
    """Finds the nearest neighbours of each row.

    Returns
    -------
    Graph
        `.indices` and `.distances` are arrays of rows × n_neighbors, without the row itself and by ascending distance. The
        graph is in the file `output`, or in a temporary one that is removed with the object.
    """
    output, run_dir = path("output", output), path("run_dir", run_dir)
    chosen = engine_options("umap", n_neighbors=n_neighbors, metric=metric, **options)
    chosen.pop("method", None)
    found = _required(source, column, (), run_dir or output)
    with watch(callback, verbose) as heard, in_words_of_python():
        return _lowland.knn(
            found.source, options=chosen, invalid=invalid, output=output, run_dir=run_dir, restart=restart,
            force=force, callback=heard,
        )  # fmt: skip


def pca(
    source: Any,
    output: Path | None = None,
    *,
    n_components: int | None = None,
    column: str | Sequence[str] | None = None,
    solver: str | None = None,
    whiten: bool = False,
    metric: str | None = None,
    id: str | None = None,
    keep: str | Sequence[str] = (),
    coordinates: Sequence[str] | None = None,
    invalid: Literal["error", "drop", "null"] = "error",
    random_state: Any = None,
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    force: bool = False,
    verbose: bool = False,
    callback: Callable[[Event], None] | None = None,
) -> Any:
    """Computes principal components, streamed.

    Returns
    -------
    PcaResult
        `.components`, `.mean`, `.explained_variance`, `.explained_variance_ratio`, `.transform(rows)`; `.scores` is an array of
        rows × n_components, or None where the scores are in the file `output`.
    """
    output = path("output", output)
    chosen = engine_options(None, random_state=random_state, memory_limit=memory_limit, n_jobs=n_jobs)
    chosen |= {"n_components": n_components, "solver": solver, "whiten": whiten, "metric": metric}
    names = _list(keep, "keep")
    found = _required(source, column, [*names, *_id(id)])
    _check_coordinates(_names(coordinates), n_components or min(2, found.source.dim))
    with watch(callback, verbose) as heard, in_words_of_python():
        return _lowland.pca(
            found.source, options=chosen, id=id, keep=names, coordinates=_names(coordinates), invalid=invalid,
            output=output, force=force, callback=heard,
        )  # fmt: skip


class Plan:
    """What a run would take. `print(plan)` shows memory, disk and time of each stage.

    Attributes
    ----------
    text : str
        The plan as `lowland plan` prints it.
    json : dict
        Every parameter, and the bytes of each part of each stage.
    peak, disk : int
        The most bytes of memory, and of the run directory.
    seconds : float or None
        The estimated time on this machine, within a factor of two.
    """

    def __init__(self, native: Any) -> None:
        self.text: str = native.text
        self.json: dict[str, Any] = json.loads(native.to_json())
        self.peak: int = native.peak
        self.disk: int = native.disk
        self.seconds: float | None = native.seconds

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def plan(
    source: Any = None,
    *,
    column: str | Sequence[str] | None = None,
    method: str = "umap",
    graph: Any = None,
    id: str | None = None,
    keep: str | Sequence[str] = (),
    invalid: Literal["error", "drop", "null"] | None = None,
    run_dir: Path | None = None,
    **options: Any,
) -> Plan:
    """Checks a run and tells what it would take, without running it. Arguments are those of `embed`."""
    run_dir = path("run_dir", run_dir)
    names = _list(keep, "keep")
    chosen = engine_options(method, **options)
    found = _source(source, column, [*names, *_id(id)], run_dir)
    with in_words_of_python():
        return Plan(
            _lowland.plan(
                found.source, graph=_graph(graph), options=chosen, id=id, keep=names, invalid=invalid,
                run_dir=run_dir,
            )
        )  # fmt: skip


def evaluate(
    map: Any,
    source: Any = None,
    *,
    column: str | Sequence[str] | None = None,
    labels: str | Sequence[str] = (),
    weights: str | None = None,
    graph: Any = None,
    id: str | None = None,
    coordinates: str | Sequence[str] | None = None,
    n_neighbors: int | None = None,
    metric: str | None = None,
    sample: int | None = None,
    invalid: Literal["error", "drop"] = "error",
    random_state: Any = None,
    memory_limit: int | str | None = None,
    n_jobs: int | None = None,
    callback: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Computes the scores of a map against the vectors it was made from, against labels, or both.

    Parameters
    ----------
    map
        The name of a map's file; the table of `embed`, or a frame of Polars, pandas or pyarrow; or an array of coordinates.
    source
        The vectors, in the order of the map's rows.
    labels, weights, id : names of columns
        In the map or else in the source.
    coordinates : str or list of str, optional
        The columns of the coordinates in a file or frame: a list, or names with commas. Default: x, y (and z); otherwise
        c0, c1, …; otherwise the only column of lists.

    Returns
    -------
    dict
        The scores, as `lowland evaluate --json` prints them; `["text"]` is the table for people.
    """
    chosen = engine_options(None, random_state=random_state, memory_limit=memory_limit, n_jobs=n_jobs)
    chosen |= {"n_neighbors": n_neighbors, "metric": metric, "sample": sample}
    beside = [*_list(labels, "labels"), *_list(weights, "weights"), *_id(id)]
    columns = column_text(coordinates, "coordinates")
    found = _source(source, column, beside)
    with contextlib.ExitStack() as files:
        files.enter_context(in_words_of_python())
        where: Any = map
        if isinstance(map, (str, os.PathLike)):
            where = path("map", map)
        elif is_frame(map):
            where = files.enter_context(map_file(map))
        else:
            _refuse_names(columns, map)
            where = read(map, beside=beside, name="map").source
        heard = files.enter_context(watch(callback))
        return _lowland.evaluate(
            where, found.source, options=chosen, graph=_graph(graph), labels=_list(labels, "labels"), weights=weights, id=id,
            coordinates=columns, invalid=invalid, callback=heard,
        )  # fmt: skip


class Picture(bytes):
    """A picture as the bytes of a PNG. Notebooks show it."""

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"<lowland.Picture of {len(self):,} bytes>"


def plot(
    map: Any,
    output: Path | None = None,
    *,
    color: Any = None,
    coordinates: str | Sequence[str] | None = None,
    width: int = 1600,
    height: int = 1200,
    dark: bool = False,
    title: str | None = None,
    force: bool = False,
) -> Picture:
    """Draws a map.

    Parameters
    ----------
    map
        The name of a map's file; the table of `embed`, or a frame of Polars, pandas or pyarrow; or an array of coordinates. The
        first two coordinates are drawn.
    output : path, optional
        A file `.png` to write too.
    color : str or sequence, optional
        The column of the file or frame that colours the map; of a frame or an array also a sequence with a value for each row.
    coordinates : str or list of str, optional
        The columns of the coordinates in a file or frame, as for `evaluate`.
    width, height : int
        Pixels, 16 to 8192.
    """
    output, columns = path("output", output), column_text(coordinates, "coordinates")
    style = {"width": width, "height": height, "dark": dark, "title": title, "output": output, "force": force}
    with contextlib.ExitStack() as files:
        files.enter_context(in_words_of_python("map"))
        where: str | None = None
        points = map
        if isinstance(map, (str, os.PathLike)):
            where = path("map", map)
            if color is not None and not isinstance(color, str):
                raise ValueError("color: of a map in a file it is the name of a column")
        elif is_frame(map):
            where = files.enter_context(map_file(map))
        else:
            _refuse_names(columns, map)
        if where is not None and (color is None or isinstance(color, str)):
            return Picture(_lowland.plot(where, color=color, coordinates=columns, **style))
        if where is not None:
            points = points_of(where, columns)
        points = np.asarray(points, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] < 2:
            raise ValueError(f"map: an array of rows × 2 or more components is drawn, not one of shape {points.shape}")
        values = None if color is None else _colors(color, len(points))
        return Picture(_lowland.plot_array(np.ascontiguousarray(points), color=values, **style))


def _refuse_names(columns: str | None, map: Any) -> None:
    """Refuses names of coordinates for a map that has no columns with names."""
    if columns is not None:
        raise ValueError(f"coordinates: the map has no columns with names, because it is of the type {type(map).__name__}")


def inspect(source: Any, *, column: str | Sequence[str] | None = None, memory_limit: int | str | None = None) -> dict[str, Any]:
    """Describes a source and the default run on it, as `lowland inspect --json` does: rows, components, columns, files, plan."""
    return _lowland.inspect(_required(source, column).source, memory=memory_limit)


def runs(*directories: Path) -> list[dict[str, Any]]:
    """Lists the run directories among `directories`, or in the current one, with their finished stages."""
    return _lowland.runs([path("directories", directory) for directory in directories] or None)


def _required(source: Any, column: str | Sequence[str] | None, beside: Sequence[str] = (), run_dir: str | None = None) -> Input:
    if source is None:
        raise ValueError("source is None; give an array, a frame, names of files or batches")
    return _source(source, column, beside, run_dir)


def _source(source: Any, column: str | Sequence[str] | None, beside: Sequence[str] = (), run_dir: str | None = None) -> Input:
    """Returns data as an input of the engine. Data that can be read only once are written beside `run_dir`."""
    if source is None:
        return Input(None, None, None)
    return read(source, column, beside=beside, directory=directory_of(run_dir))


def _list(names: str | Sequence[str] | None, what: str) -> list[str]:
    """Returns names that are given for the parameter `what` as a list."""
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    found = list(names) if hasattr(type(names), "__iter__") else [names]
    if not all(isinstance(name, str) for name in found) or isinstance(names, bytes):
        raise TypeError(f"{what}: give a name or a list of names, not {shown(names)}")
    return found


def _id(id: str | None) -> list[str]:
    if id is not None and not isinstance(id, str):
        raise TypeError(f"id: give the name of a column, not {type(id).__name__}")
    return [] if id is None else [id]


def _names(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else _list(names, "coordinates")


def _check_coordinates(names: list[str] | None, components: int) -> None:
    """Refuses names that are not one for each component, in the engine's words, for results that do not show them."""
    if names and len(names) != components:
        raise ValueError(f"coordinates: {len(names)} names for {components} components")
    twice = next((name for name in names or () if (names or []).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f'coordinates: two coordinates would be called "{twice}"')


def _graph(graph: Any) -> Any:
    return path("graph", graph) if isinstance(graph, (str, os.PathLike)) else graph


def _colors(color: Any, rows: int) -> Any:
    """Returns the values that colour an array: int64, float64, or texts."""
    values = np.asarray(color)
    if values.shape != (rows,):
        raise ValueError(f"color: of {rows} rows a sequence of as many values is expected, not one of shape {values.shape}")
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return [str(value) for value in values.tolist()]
