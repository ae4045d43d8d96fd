"""What the estimators of maps have in common: `fit`, `fit_transform`, and what they leave behind.

The classes are in `_maps.py`, which `python/generate.py` writes from the engine's table of options.

What must hold: a fit makes the map that the command line makes of the same rows, options and seed, byte for byte. An
estimator whose fit fails keeps what its last fit left.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np

from . import _input
from ._errors import in_words_of_python
from ._options import engine_options, of_method, path, table
from ._progress import watch
from ._report import Report
from ._run_files import TemporaryDirectory, beside, first_positions, given_graph, searched_graph
from ._sklearn import Estimator

#: A fit without `model` keeps a temporary model if its vectors take at most this.
TEMPORARY_MODEL_BYTES = 64 << 20

#: A function of a run's events.
Callback = Callable[[dict[str, Any]], None]


class MapEstimator(Estimator):
    """A method that makes a map."""

    #: The engine's name of the method.
    method: ClassVar[str]

    # Parameters that every method has.
    init: Any
    column: Any
    invalid: Any
    run_dir: Any
    restart: bool
    verbose: bool
    callback: Callback | None

    embedding_: np.ndarray
    report_: Report
    n_features_in_: int

    def fit(self, X: Any, y: Any = None) -> Self:
        """Makes the map of X.

        Parameters
        ----------
        X : array, frame, Arrow data, path or paths, DataLoader, or batches
            Rows × features. `docs/python.md` lists the kinds of input. NumPy arrays in C order are read in place and must
            not be changed by another thread meanwhile.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an option or the data are invalid. The message names the row and the column.
        BudgetError
            If `memory_limit` is too small; the message has the smallest budget that suffices.
        OSError
            If a file cannot be read or written.
        KeyboardInterrupt
            If the run was interrupted. With `run_dir`, the next fit continues it.
        """
        self._run(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Makes the map of X, and returns it.

        Parameters
        ----------
        X : array, frame, Arrow data, path or paths, DataLoader, or batches
            As for `fit`.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        ndarray of float32, (rows, n_components)
            The map, in the order of X's rows.
        """
        self._run(X)
        return self.embedding_

    @property
    def _width(self) -> int:
        return self.embedding_.shape[1]

    def plan(self, X: Any) -> Any:
        """Returns what a fit of X would take, stage by stage: memory, disk, time. Nothing is computed.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        lowland.Plan
        """
        from . import _lowland
        from ._functions import Plan

        run_dir = path("run_dir", self.run_dir)
        with first_positions(self.init, run_dir) as init:
            found = _input.read(X, self.column, directory=beside(run_dir))
            return Plan(_lowland.plan(found.source, options=self._options(init), invalid=self.invalid))

    def _options(self, init: Any) -> dict[str, Any]:
        """Returns the engine's options for the parameters."""
        backend = getattr(self, "backend", None)
        if backend not in (None, "faiss"):
            raise ValueError(
                f"backend: there is no {backend!r}; lowland has one engine, which has FAISS built in: give None"
            )
        known = of_method(self.method)
        run = ("random_state", "memory_limit", "n_jobs", "device", "recall")
        given = {name: getattr(self, name) for name in [*known, *run] if hasattr(self, name)}
        given["init"] = init
        return engine_options(self.method, **given)

    def _check_model(self) -> None:
        """Refuses parameters that do not go together with `model`."""

    def _model_for(self, found: Any, graph: Any) -> _FittedModel:
        """Returns where a fit of `found` keeps its map as a model, if it keeps it."""
        return _FittedModel(None, None)

    def _run(self, X: Any) -> None:
        from . import _lowland

        knn, keeps = getattr(self, "precomputed_knn", None), getattr(self, "keep_graph", False)
        run_dir = path("run_dir", self.run_dir)
        if keeps:
            _scipy_sparse()
        if X is None and knn is None:
            raise ValueError("X is None; give rows, or a graph by precomputed_knn")
        self._check_model()
        with contextlib.ExitStack() as files:
            init = files.enter_context(first_positions(self.init, run_dir))
            heard = files.enter_context(watch(self.callback, self.verbose))
            options = self._options(init)
            found = None if X is None else _input.read(X, self.column, directory=beside(run_dir))
            graph: Any = None
            if knn is not None:
                graph = files.enter_context(given_graph(_graph(knn, options.get("metric")), run_dir))
            elif found is not None and keeps:
                # A graph without the dropped rows would have other row numbers than X.
                invalid = "null" if self.invalid == "drop" else self.invalid
                searched = _knn_options(options, found.source.rows)
                graph = files.enter_context(
                    searched_graph(found.source, searched, invalid, run_dir, self.restart, heard)
                )
            files.enter_context(in_words_of_python())
            model = self._model_for(found, graph)
            result = _lowland.embed(
                None if found is None else found.source,
                graph=graph,
                options=options,
                invalid=self.invalid,
                form="array",
                model=model.where,
                run_dir=run_dir,
                restart=self.restart and model.where is None,
                callback=heard,
            )
            embedding = np.asarray(result.coordinates)
            kept = None
            if keeps:
                kept = _graph_of_map(_lowland.Graph.open(graph) if isinstance(graph, str) else graph, len(embedding))
            stored = model.opened()
        self._forget()
        self._why_no_model = model.why
        if stored is not None:
            self.model_ = stored
        self.embedding_ = embedding
        self.report_ = Report.of(result.report, *([found.note] if found is not None and found.note else []))
        self.n_features_in_ = found.source.dim if found is not None else 0
        if found is not None and found.names is not None:
            self.feature_names_in_ = np.asarray(found.names, dtype=object)
        if kept is not None:
            self.graph_ = kept


class _FittedModel:
    """Where a fit keeps its map as a model: in the directory `where`, or nowhere, for the reason `why`."""

    def __init__(self, where: str | None, why: str | None, files: Any = None) -> None:
        self.where, self.why, self.files = where, why, files

    @classmethod
    def temporary(cls) -> Self:
        files = TemporaryDirectory()
        return cls(os.path.join(files.path, "map.lowland"), None, files)

    def opened(self) -> Any:
        """Returns the model."""
        from ._model import Model

        if self.where is None:
            return None
        return Model(self.where) if self.files is None else Model._temporary(self.files, self.where)


class StoredMapEstimator(MapEstimator):
    """A method whose map can be kept as a model, on which other rows can be placed."""

    # Parameters that these methods have beside those of all.
    model: Any
    keep_graph: bool = False
    precomputed_knn: Any = None

    model_: Any

    def transform(self, X: Any) -> np.ndarray:
        """Places rows on the map, which does not change.

        The position of a row depends on the map and on the row alone. A copy of a row of the fit gets that row's position.

        Parameters
        ----------
        X : as for `fit`
            Rows × features.

        Returns
        -------
        ndarray of float32, (rows, n_components)

        Raises
        ------
        ValueError
            Also if the fit has kept no model: `docs/python.md` says which fits keep one.
        """
        self._check_fitted()
        model = getattr(self, "model_", None)
        if model is None:
            raise ValueError(
                f"transform: this fit has kept no model ({self._why_no_model}); give model='map.lowland' to "
                f"{type(self).__name__}, and fit again"
            )
        if self.column is not None or hasattr(self, "feature_names_in_"):
            found = _input.read(X, self.column, least=1)
        else:
            found = model._read(X, None, (), None)
        self._check_names(found.names)
        if found.source.dim != self.n_features_in_:
            raise ValueError(
                f"X has {found.source.dim} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                "input"
            )
        options = engine_options(None, memory_limit=self.memory_limit, n_jobs=self.n_jobs)
        with watch(self.callback, self.verbose) as heard, in_words_of_python():
            placed = model._opened().transform(
                found.source, options=options, invalid=self.invalid, form="array", callback=heard
            )
        return np.asarray(placed.coordinates)

    @classmethod
    def from_model(cls, path: Any, version: int | str | None = None) -> Self:
        """Returns an estimator that is fitted to a stored model: it has `transform`, `model_` and `n_features_in_`.

        Parameters
        ----------
        path : path
            The directory of the model.
        version : int or str, optional
            A version: its number, with or without @, or a tag. Default: the current version.

        Raises
        ------
        ValueError
            If there is no model, or it was made by another method.
        """
        from ._model import Model

        model = Model(path, version)
        options = model.options
        method = model._opened().method
        if method != cls.method:
            raise ValueError(f"{model.path} is a model of {method}, not of {cls.method}; lowland.Model reads it")
        given = {name: options["config"].get(name) for name in of_method(cls.method)}
        # A refit begins at the positions of the map.
        given.pop("init", None)
        given |= {"recall": options["config"]["recall"], "random_state": options["config"]["seed"]}
        self = cls(**given, model=model.path)
        self.model_, self.n_features_in_ = model, model.n_features
        return self

    @property
    def _width(self) -> int:
        return self.model_.n_components if "embedding_" not in vars(self) else self.embedding_.shape[1]

    def _check_model(self) -> None:
        if path("model", self.model) is None:
            return
        for name, given in (("run_dir", self.run_dir is not None), ("restart", self.restart)):
            if given:
                raise ValueError(f"{name}: with model the finished stages are kept in the model; leave {name} out")
        if self.keep_graph:
            raise ValueError("keep_graph: with model the graph is in the model; model_.export() has the neighbours")
        if self.precomputed_knn is not None:
            raise ValueError("precomputed_knn: a model is made of vectors; fit without a graph, or without model")

    def _model_for(self, found: Any, graph: Any) -> _FittedModel:
        named = path("model", self.model)
        if named is not None:
            return _FittedModel(named, None)
        if found is None or graph is not None:
            return _FittedModel(None, "it has used a graph")
        if self.run_dir is not None:
            return _FittedModel(None, "its stages are in run_dir")
        if _bytes_of(found.source) > TEMPORARY_MODEL_BYTES:
            size = TEMPORARY_MODEL_BYTES >> 20
            return _FittedModel(None, f"its vectors take more than {size} MiB, which are not copied unasked")
        return _FittedModel.temporary()


def _bytes_of(source: Any) -> int:
    """Returns the bytes of a source's vectors."""
    return source.rows * source.dim * int(re.sub(r"\D", "", source.dtype) or 8) // 8


def _graph_of_map(graph: Any, rows: int) -> Any:
    """Returns the graph of the `rows` rows of a map as a sparse matrix: without the rows that the run has dropped."""
    indices, distances = graph.to_numpy()
    found = csr(indices, distances)
    if rows == found.shape[0]:
        return found
    kept = np.flatnonzero(np.isfinite(distances).any(axis=1))
    if len(kept) != rows:
        raise ValueError(
            f"keep_graph: the map has {rows:,} rows, but {len(kept):,} of the graph's {found.shape[0]:,} rows have neighbours; "
            "fit without keep_graph, or with invalid='null', which keeps all rows"
        )
    return found[kept][:, kept]


def csr(indices: np.ndarray, distances: np.ndarray) -> Any:
    """Returns a graph of neighbours as a sparse matrix of distances.

    Parameters
    ----------
    indices : ndarray of integers, (rows, k)
        Row numbers of the neighbours; missing ones are below 0 or have no row.
    distances : ndarray of float32, (rows, k)

    Returns
    -------
    scipy.sparse.csr_matrix of float32, (rows, rows)
        Sorted by column. A distance of 0 between equal rows is stored.
    """
    sparse = _scipy_sparse()
    rows, k = indices.shape
    there = (indices >= 0) & (indices < rows) & np.isfinite(distances)
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    graph = sparse.csr_matrix((distances[there], indices[there], ends), shape=(rows, rows))
    graph.sort_indices()
    return graph


def _scipy_sparse() -> Any:
    try:
        import scipy.sparse
    except ImportError:
        raise ImportError("keep_graph needs scipy, whose sparse matrices hold the graph: pip install scipy") from None
    return scipy.sparse


def _graph(knn: Any, metric: Any) -> Any:
    """Returns the graph of `precomputed_knn`: a file, a Graph, or arrays (indices, distances, …)."""
    from . import _lowland

    if isinstance(knn, (str, os.PathLike)):
        return path("precomputed_knn", knn)
    if isinstance(knn, _lowland.Graph):
        return knn
    if not isinstance(knn, (tuple, list)) or len(knn) < 2:
        raise ValueError(
            "precomputed_knn: give a file of lowland.knn, a Graph, or the arrays (indices, distances), each rows × k; "
            f"this is a {type(knn).__name__}"
        )
    indices, distances = np.asarray(knn[0]), np.asarray(knn[1])
    if (
        indices.ndim != 2
        or indices.shape != distances.shape
        or indices.dtype.kind not in "iu"
        or distances.dtype.kind != "f"
    ):
        raise ValueError(
            f"precomputed_knn: indices are {indices.dtype} {indices.shape} and distances {distances.dtype} {distances.shape}; "
            "give integers and floats of one shape, rows × k"
        )
    indices, distances = without_self(indices, distances)
    return _lowland.Graph.arrays(
        np.ascontiguousarray(indices, dtype=np.int64), np.ascontiguousarray(distances, dtype=np.float32), metric
    )


def without_self(indices: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a graph without the rows themselves, which umap-learn and pynndescent list first.

    If some rows list themselves and others do not (equal rows can hide them), the last neighbour of the others is left out,
    so that all rows keep k − 1.
    """
    own = indices == np.arange(len(indices))[:, None]
    if not own.any():
        return indices, distances
    drop = np.where(own.any(axis=1), own.argmax(axis=1), indices.shape[1] - 1)
    keep = np.arange(indices.shape[1])[None, :] != drop[:, None]
    shape = (len(indices), indices.shape[1] - 1)
    return indices[keep].reshape(shape), distances[keep].reshape(shape)


def _knn_options(options: dict[str, Any], rows: int) -> dict[str, Any]:
    """Returns the options of the graph that a run with `options` searches."""
    method, most = options["method"], max(rows - 1, 1)
    if method in table()["perplexity"]["methods"]:
        perplexity = options.get("perplexity")
        if perplexity is None:
            perplexity = min(float(table()["perplexity"]["defaults"][method]), max(most / 3, min(1.5, most)))
        # Three times the perplexity; halves are rounded up.
        k = min(max(int(3 * perplexity + 0.5), min(2, most)), most)
    else:
        k = options.get("n_neighbors") or min(int(table()["n_neighbors"]["defaults"][method]), most)
    taken = ("metric", "recall", "seed", "threads", "memory", "device", "device_memory", "batch_rows", "disk")
    return {"n_neighbors": k, **{name: options[name] for name in taken if name in options}}
