"""Estimators of principal components.

`PCA` reads any source within a memory budget. The others are there for batches that a program makes itself
(`partial_fit`), and for kernels. The engine does the arithmetic; a fitted estimator holds only arrays, and projects rows by
NumPy.

What must hold: the sign rule of the engine. In each axis the entry of largest absolute value is positive, as in
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from . import _input
from ._options import memory, n_jobs as threads, seed
from ._progress import watch
from ._report import Report
from ._sklearn import Estimator

__all__ = ["PCA", "IncrementalPCA", "ExactIncrementalPCA", "KernelPCA"]

Callback = Callable[[dict[str, Any]], None]

#: Bytes of the rows, as float64, that are projected at a time.
_BLOCK_BYTES = 16 << 20

#: The most rows of a kernel, whose matrix has rows × rows numbers.
_KERNEL_ROWS = 8192


def pca_options(
    n_components: Any, solver: Any, whiten: Any, metric: Any, random_state: Any, memory_limit: Any, n_jobs: Any
) -> dict[str, Any]:
    """Returns the engine's options of a decomposition."""
    if n_components is not None and (
        isinstance(n_components, bool) or not isinstance(n_components, (int, np.integer)) or n_components < 1
    ):
        raise ValueError(f"n_components: give a whole number from 1, not {n_components!r}")
    if solver is not None and solver not in ("auto", "covariance", "incremental", "randomized"):
        raise ValueError(f"solver: give 'auto', 'covariance', 'incremental' or 'randomized', not {solver!r}")
    given = {
        "n_components": None if n_components is None else int(n_components),
        "solver": solver,
        "whiten": bool(whiten) or None,
        "metric": metric,
        "seed": None if random_state is None else seed(random_state),
        "threads": None if n_jobs is None else threads(n_jobs),
        "memory": None if memory_limit is None else memory(memory_limit),
    }
    return {name: value for name, value in given.items() if value is not None}


class Linear(Estimator):
    """Principal axes, and the projection onto them."""

    #: Whether scores are scaled to variance 1, and how rows are prepared: parameters of some subclasses.
    whiten: bool = False
    metric: str | None = None
    column: Any = None
    components_: np.ndarray
    mean_: np.ndarray
    explained_variance_: np.ndarray
    n_features_in_: int

    def transform(self, X: Any) -> np.ndarray:
        """Returns the scores of rows: (row − mean) · axes.

        Parameters
        ----------
        X : as for `fit`
            Rows × features.

        Returns
        -------
        ndarray of float32, (rows, n_components)
        """
        self._check_fitted()
        found = _input.read(X, self.column, least=1)
        self._check_names(found.names)
        self._check_width(found.source.dim)
        return self._project(found.source)

    def _project(self, source: Any) -> np.ndarray:
        """Returns the scores of a source's rows."""
        scores = np.empty((source.rows, len(self.components_)), dtype=np.float32)
        axes = self.components_.T
        if self.whiten:
            # Scores along an axis without variance are 0; less than this is rounding error, as the engine has it.
            floor = (np.max(self.mean_**2) + self.explained_variance_[0]) * np.finfo(np.float32).eps ** 2
            varies = self.explained_variance_ > floor
            axes = np.where(varies, axes / np.sqrt(np.where(varies, self.explained_variance_, 1.0)), 0.0)
        for start, rows in _blocks(source):
            scores[start : start + len(rows)] = (_prepared(rows, self.metric) - self.mean_) @ axes
        return scores

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Returns the rows that belong to scores: mean + scores · axes.

        Parameters
        ----------
        X : array of (rows, n_components)
            Scores.

        Returns
        -------
        ndarray of float32, (rows, n_features_in_)
        """
        self._check_fitted()
        scores = np.asarray(X, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(self.components_):
            raise ValueError(f"X has the shape {scores.shape}; give scores, rows × {len(self.components_)}")
        axes = self.components_
        if self.whiten:
            axes = axes * np.sqrt(self.explained_variance_)[:, None]
        return (scores @ axes + self.mean_).astype(np.float32)

    def _check_width(self, found: int) -> None:
        if found != self.n_features_in_:
            raise ValueError(
                f"X has {found} features, but {type(self).__name__} is expecting {self.n_features_in_} features as input"
            )

    def _keep(self, model: Any, rows: int) -> None:
        """Takes the engine's result."""
        self.components_ = np.asarray(model.components)
        self.mean_ = np.asarray(model.mean)
        self.explained_variance_ = np.asarray(model.explained_variance)
        self.explained_variance_ratio_ = np.asarray(model.explained_variance_ratio)
        self.singular_values_ = np.sqrt(self.explained_variance_ * max(rows - 1, 0))
        self.n_components_ = len(self.explained_variance_)
        self.n_samples_seen_ = rows
        self.n_features_in_ = len(self.mean_)

    def _keep_names(self, names: list[str] | None) -> None:
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)


class PCA(Linear):
    """Principal components of data of any size, within a memory budget.

    Parameters
    ----------
    n_components : int, default None
        Number of components, at most min(rows, features). None: 2, or 1 for data of one feature.
    solver : {"auto", "covariance", "incremental", "randomized"}, default None
        "covariance" is exact, and reads the data once for the axes and once for the scores; "incremental" reads them once,
        approximately; "randomized" is a block Krylov method. None: "auto", which is "covariance" up to 2,048 features and
        "randomized" above.
    whiten : bool, default False
        Whether scores are scaled to variance 1.
    metric : {"euclidean", "cosine", "correlation"}, default None
        "cosine" scales rows to length 1 first; "correlation" subtracts each row's mean before that. None: "euclidean".
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files.
    invalid : {"error", "drop"}, default "error"
        What happens to rows with NaN or infinite values: "drop" leaves them out of the scores.
    random_state : int, numpy Generator or RandomState, default None
        Seed of the randomised solver. None: 42.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None: half of what the machine grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core.
    verbose : bool, default False
        Whether progress is shown on standard error.
    callback : callable, default None
        Is called with each event of the run, a dict.

    Attributes
    ----------
    components_ : ndarray of float64, (n_components_, n_features_in_)
        The axes, by descending variance.
    mean_ : ndarray of float64, (n_features_in_,)
        The mean of the rows.
    explained_variance_ : ndarray of float64, (n_components_,)
        Variance along each axis, with the divisor rows − 1.
    explained_variance_ratio_ : ndarray of float64, (n_components_,)
        The same as a share of the whole variance.
    singular_values_ : ndarray of float64, (n_components_,)
        √(variance · (rows − 1)).
    n_components_, n_samples_seen_, n_features_in_ : int
        Number of components, rows and features.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.
    report_ : lowland.Report
        What the run did.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011; Musco, Musco, "Randomized Block Krylov
    Methods", NIPS 2015 (solver "randomized").

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.PCA(3).fit_transform(X).shape
    (300, 3)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        solver: str | None = None,
        whiten: bool = False,
        metric: str | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        callback: Callback | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.whiten = whiten
        self.metric = metric
        self.column = column
        self.invalid: Any = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callback = callback

    def fit(self, X: Any, y: Any = None) -> Self:
        """Finds the axes of X.

        Parameters
        ----------
        X : array, frame, Arrow data, path or paths, DataLoader, or batches
            Rows × features; `docs/python.md` lists the kinds of input.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        self._run(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Finds the axes of X, and returns the scores of its rows.

        Parameters
        ----------
        X : as for `fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        ndarray of float32, (rows, n_components)
            The scores, as `lowland pca` writes them.
        """
        return self._run(X)

    def _run(self, X: Any) -> np.ndarray:
        from . import _lowland

        if self.invalid == "null":
            raise ValueError(
                "invalid: an array of scores has no nulls; give 'drop', or a file: lowland.pca(X, 'scores.parquet')"
            )
        with watch(self.callback, self.verbose) as heard:
            options = pca_options(
                self.n_components,
                self.solver,
                self.whiten,
                self.metric,
                self.random_state,
                self.memory_limit,
                self.n_jobs,
            )
            found = _input.read(X, self.column)
            result = _lowland.pca(found.source, options=options, invalid=self.invalid, callback=heard)
        scores = np.asarray(result.scores)
        self._forget()
        self._keep(result, len(scores))
        if self.whiten:
            # The engine's axes have the scale in them; here they have length 1, as in scikit-learn.
            self.components_ = self.components_ / np.linalg.norm(self.components_, axis=1, keepdims=True)
        self._keep_names(found.names)
        self.report_ = Report.of(result, *([found.note] if found.note else []))
        return scores


class IncrementalPCA(Linear):
    """Principal components of batches, merged one by one, as scikit-learn's `IncrementalPCA`.

    The result depends a little on the batches. `PCA(solver="incremental")` does not, and is nearer to the exact axes.

    Parameters
    ----------
    n_components : int, default None
        Number of components, at most the rows of the first batch. None: min(rows of the first batch, features).
    whiten : bool, default False
        Whether scores are scaled to variance 1.
    batch_size : int, default None
        Number of rows that `fit` merges at a time. None: five times the features.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files.

    Attributes
    ----------
    components_ : ndarray of float64, (n_components_, n_features_in_)
        The axes, by descending variance.
    mean_ : ndarray of float64, (n_features_in_,)
        The mean of the rows.
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray of float64, (n_components_,)
        Variance along each axis (divisor rows − 1), its share of the whole, and √(variance · (rows − 1)).
    n_components_, n_samples_seen_, n_features_in_ : int
        Number of components, rows and features.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Ross, Lim, Lin, Yang, "Incremental Learning for Robust Visual Tracking", IJCV 2008.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> pca = lowland.IncrementalPCA(2)
    >>> for seed in range(3):
    ...     pca = pca.partial_fit(np.random.default_rng(seed).normal(size=(50, 8)))
    >>> pca.n_samples_seen_
    150
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        column: str | list[str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.column = column

    def fit(self, X: Any, y: Any = None) -> Self:
        """Finds the axes of X, batch by batch; what was learnt before is forgotten.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        found = _input.read(X, self.column)
        size = 5 * found.source.dim if self.batch_size is None else self.batch_size
        if size < 1:
            raise ValueError(f"batch_size: give a number of rows from 1, not {size}")
        running = self._begin()
        for start in range(0, found.source.rows, size):
            running.partial_fit(_checked(found.source, start, min(start + size, found.source.rows), "f4"))
        self._forget()
        self._running = running
        self._keep(running.pca(), running.count)
        self._keep_names(found.names)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Merges one batch.

        Parameters
        ----------
        X : as for `PCA.fit`
            One batch, rows × features. The first batch must have at least `n_components` rows; the others may have fewer.
            The columns of frames must have the names and the order of the first batch.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        found = _input.read(X, self.column, least=1)
        running = getattr(self, "_running", None)
        if running is None and hasattr(self, "components_"):
            raise ValueError("a copy from a pickle cannot be fitted further; begin a new IncrementalPCA")
        first = running is None
        if not first:
            self._check_names(found.names)
            self._check_width(found.source.dim)
        running = self._begin() if running is None else running
        running.partial_fit(_checked(found.source, 0, found.source.rows, "f4"))
        self._running = running
        self._keep(running.pca(), running.count)
        if first:
            self._keep_names(found.names)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Finds the axes of X, and returns the scores of its rows.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        ndarray of float32, (rows, n_components)
        """
        found = _input.read(X, self.column)
        self.fit(found.source)
        self._keep_names(found.names)
        return self._project(found.source)

    def _begin(self) -> Any:
        from . import _lowland

        asked = pca_options(self.n_components, None, False, None, None, None, None).get("n_components")
        return _lowland.IncrementalPca(asked)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_running"}


class ExactIncrementalPCA(Linear):
    """Exact principal components in two passes over batches: first the mean, then the covariance around it.

    `fit` takes any data. A program that makes its batches itself gives all of them to `partial_mean`, and then all of them
    to `partial_fit`; the axes are there when the second pass has seen as many rows as the first.

    Parameters
    ----------
    n_components : int, default None
        Number of components, at most min(rows, features). None: 2, or 1 for data of one feature.
    whiten : bool, default False
        Whether scores are scaled to variance 1.
    batch_size : int, default None
        Number of rows that `fit` reads at a time; without effect on the result. None: about 16 MiB.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files.

    Attributes
    ----------
    components_ : ndarray of float64, (n_components_, n_features_in_)
        The axes, by descending variance.
    mean_ : ndarray of float64, (n_features_in_,)
        The mean of the rows.
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray of float64, (n_components_,)
        Variance along each axis (divisor rows − 1; TorchDR's is rows), its share of the whole, and √(variance · (rows − 1)).
    n_components_, n_samples_seen_, n_features_in_ : int
        Number of components, rows and features.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    After TorchDR's `ExactIncrementalPCA`.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> batches = [np.random.default_rng(seed).normal(size=(50, 8)) for seed in range(3)]
    >>> pca = lowland.ExactIncrementalPCA(2)
    >>> for batch in batches:
    ...     pca = pca.partial_mean(batch)
    >>> for batch in batches:
    ...     pca = pca.partial_fit(batch)
    >>> pca.transform(batches[0]).shape
    (50, 2)
    """

    _sums: Any

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        column: str | list[str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.column = column

    def fit(self, X: Any, y: Any = None) -> Self:
        """Finds the axes of X in two passes; what was learnt before is forgotten.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        from . import _lowland

        found = _input.read(X, self.column)
        rows, dim = found.source.rows, found.source.dim
        size = max(1, _BLOCK_BYTES // (8 * dim)) if self.batch_size is None else self.batch_size
        if size < 1:
            raise ValueError(f"batch_size: give a number of rows from 1, not {size}")
        sums = _lowland.ExactIncrementalPca(dim)
        for step in (sums.partial_mean, sums.partial_fit):
            for start in range(0, rows, size):
                step(_checked(found.source, start, min(start + size, rows), "f4"))
        model = sums.finish(self._asked(dim))
        self._forget()
        self._keep(model, rows)
        self._keep_names(found.names)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Finds the axes of X, and returns the scores of its rows.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        ndarray of float32, (rows, n_components)
        """
        found = _input.read(X, self.column)
        self.fit(found.source)
        self._keep_names(found.names)
        return self._project(found.source)

    def partial_mean(self, X: Any, y: Any = None) -> Self:
        """Adds a batch to the mean: the first pass.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        from . import _lowland

        found = _input.read(X, self.column, least=1)
        if getattr(self, "_sums", None) is None:
            self._forget()
            self._sums, self._rows, self._second = _lowland.ExactIncrementalPca(found.source.dim), 0, 0
            self._dim, self._names = found.source.dim, found.names
        self._check_batch(found)
        self._sums.partial_mean(_checked(found.source, 0, found.source.rows, "f4", self._rows))
        self._rows += found.source.rows
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Adds a batch to the covariance: the second pass, over the same batches.

        Parameters
        ----------
        X : as for `PCA.fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Before `partial_mean`, or for more rows than it was given.
        """
        if getattr(self, "_sums", None) is None:
            raise ValueError(
                "the mean comes first: give all batches to partial_mean, and then all of them to partial_fit"
            )
        found = _input.read(X, self.column, least=1)
        self._check_batch(found)
        if self._second + found.source.rows > self._rows:
            raise ValueError(f"partial_fit was given more than the {self._rows} rows of partial_mean")
        self._sums.partial_fit(_checked(found.source, 0, found.source.rows, "f4", self._second))
        self._second += found.source.rows
        if self._second == self._rows:
            model, names = self._sums.finish(self._asked(self._dim)), self._names
            self._forget_passes()
            self._keep(model, self._rows)
            self._keep_names(names)
        return self

    def _check_batch(self, found: Any) -> None:
        if self._names is not None or found.names is not None:
            self._check_names(found.names, self._names)
        if found.source.dim != self._dim:
            raise ValueError(f"X has {found.source.dim} features, but the batches before have {self._dim}")

    def _forget_passes(self) -> None:
        self._sums = None

    def _asked(self, dim: int) -> int:
        return pca_options(self.n_components, None, False, None, None, None, None).get("n_components", min(2, dim))

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name not in ("_sums", "_rows", "_second", "_dim", "_names")
        }


class KernelPCA(Estimator):
    """Principal components in a kernel's feature space, for at most 8,192 rows, which are kept.

    Parameters
    ----------
    n_components : int, default None
        Number of components. None: as many as there are eigenvalues above 10⁻⁶ of the largest.
    kernel : {"linear", "gaussian", "polynomial", "cosine", "precomputed"}, default "gaussian"
        ⟨x, y⟩; exp(−‖x − y‖² / sigma); (gamma ⟨x, y⟩ + coef0) to the power `degree`; ⟨x, y⟩ / (‖x‖ ‖y‖); or X is the kernel.
    sigma : float, default 1.0
        Width of the Gaussian kernel, above 0, in units of squared distance: 1 / gamma of scikit-learn's "rbf".
    degree : int, default 3
        Exponent of the polynomial kernel, from 1.
    gamma : float, default None
        Factor of the polynomial kernel, above 0. None: 1 / features.
    coef0 : float, default 1.0
        Constant of the polynomial kernel, from 0.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files.

    Attributes
    ----------
    eigenvalues_ : ndarray of float64, (n_components_,)
        Eigenvalues of the centred kernel matrix, descending.
    n_components_, n_features_in_ : int
        Number of components and features.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Schölkopf, Smola, Müller, "Nonlinear component analysis as a kernel eigenvalue problem", Neural Computation 1998.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> lowland.KernelPCA(2, sigma=8.0).fit_transform(X).shape
    (60, 2)
    """

    n_features_in_: int
    _rows: np.ndarray

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: str = "gaussian",
        sigma: float = 1.0,
        degree: int = 3,
        gamma: float | None = None,
        coef0: float = 1.0,
        column: str | list[str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.sigma = sigma
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.column = column

    def fit(self, X: Any, y: Any = None) -> Self:
        """Finds the components of X.

        Parameters
        ----------
        X : as for `PCA.fit`
            Rows × features, or rows × rows for the kernel "precomputed".
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        self
        """
        self._run(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Finds the components of X, and returns the scores of its rows.

        Parameters
        ----------
        X : as for `fit`
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        ndarray of float32, (rows, n_components)
            Eigenvector × √eigenvalue.
        """
        return self._run(X)

    def transform(self, X: Any) -> np.ndarray:
        """Returns the scores of other rows.

        Parameters
        ----------
        X : as for `PCA.fit`
            Rows × features; for the kernel "precomputed" their kernel with the fitted rows.

        Returns
        -------
        ndarray of float32, (rows, n_components)
        """
        self._check_fitted()
        found = _input.read(X, self.column, least=1)
        self._check_names(found.names)
        if found.source.dim != self.n_features_in_:
            raise ValueError(
                f"X has {found.source.dim} features, but KernelPCA is expecting {self.n_features_in_} features as input"
            )
        if getattr(self, "_model", None) is None:  # a copy from a pickle
            self._model = self._fitted(self._rows)
        rows = _checked(found.source, 0, found.source.rows, "f4")
        return self._finite(self._model.transform(rows), len(rows))

    def _run(self, X: Any) -> np.ndarray:
        found = _input.read(X, self.column, most=_KERNEL_ROWS)
        rows = _checked(found.source, 0, found.source.rows, "f4")
        model = self._fitted(rows)
        scores = self._finite(model.scores(), len(rows))
        self._forget()
        self._rows, self._model = rows, model
        self.eigenvalues_ = np.asarray(model.eigenvalues)
        self.n_components_ = len(self.eigenvalues_)
        self.n_features_in_ = found.source.dim
        if found.names is not None:
            self.feature_names_in_ = np.asarray(found.names, dtype=object)
        return scores

    def _finite(self, scores: Any, rows: int) -> np.ndarray:
        """Returns scores as rows × components, of which there are none if the kernel has no variance."""
        scores = np.asarray(scores)
        if not np.isfinite(scores).all():
            raise ValueError(f"X: scores of the kernel {self.kernel!r} are not finite in single precision; scale X down")
        return scores.reshape(rows, 0) if scores.size == 0 else scores

    def _fitted(self, rows: np.ndarray) -> Any:
        from . import _lowland

        kernels = ("linear", "gaussian", "polynomial", "cosine", "precomputed")
        if self.kernel not in kernels:
            rbf = "; scikit-learn's 'rbf' is 'gaussian' with sigma = 1 / gamma" if self.kernel == "rbf" else ""
            raise ValueError(f"kernel: give one of {', '.join(map(repr, kernels))}, not {self.kernel!r}{rbf}")
        asked = pca_options(self.n_components, None, False, None, None, None, None).get("n_components")
        used: dict[str, Any] = {}
        if self.kernel == "gaussian":
            used["sigma"] = _number("sigma", self.sigma, above=True)
        if self.kernel == "polynomial":
            whole = isinstance(self.degree, (int, np.integer)) and not isinstance(self.degree, bool)
            if not whole or not 1 <= self.degree < 2**31:
                raise ValueError(f"degree: give a whole number from 1, not {self.degree!r}")
            used["degree"] = int(self.degree)
            used["gamma"] = 1.0 / rows.shape[1] if self.gamma is None else _number("gamma", self.gamma, above=True)
            used["coef0"] = _number("coef0", self.coef0, above=False)
        try:
            return _lowland.KernelPca.fit(rows, self.kernel, asked, **used)
        except ValueError as error:
            # The rows themselves are finite, so their kernel is not.
            if "NaN or infinite" not in str(error):
                raise
            raise ValueError(
                f"{', '.join(used) or 'kernel'}: values of the kernel {self.kernel!r} are not finite; scale X down"
                + (f", or give other {' and '.join(used)}" if used else "")
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_model"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags


def _number(name: str, value: Any, *, above: bool) -> float:
    """Returns a finite number above 0, or from 0."""
    told = f"{name}: give a finite number {'above' if above else 'from'} 0, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(told)
    if not np.isfinite(value) or value < 0 or above and value == 0:
        raise ValueError(told)
    return float(value)


def _blocks(source: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Gives the rows of a source in blocks of float64, with the number of each block's first row."""
    step = max(1, _BLOCK_BYTES // (8 * source.dim))
    for start in range(0, source.rows, step):
        yield start, _checked(source, start, min(start + step, source.rows), "f8")


def _checked(source: Any, start: int, stop: int, dtype: str, before: int = 0) -> np.ndarray:
    """Returns rows of a source, of which none has NaN or an infinity."""
    rows = np.asarray(source.read(start, stop, dtype))
    if not np.isfinite(rows).all():
        row, component = np.argwhere(~np.isfinite(rows))[0]
        value = rows[row, component]
        told = "NaN" if np.isnan(value) else "infinity"
        raise ValueError(
            f"Input X contains {told}: row {before + start + row}, column {component}; fill or drop such rows first"
        )
    return rows


def _prepared(rows: np.ndarray, metric: str | None) -> np.ndarray:
    """Returns rows as a metric prepares them: of length 1 for cosine and correlation."""
    if metric in ("cosine", "correlation"):
        if metric == "correlation":
            rows = rows - rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return rows
