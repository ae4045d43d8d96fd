"""The estimators of maps, one class for each method of the engine.

`python/generate.py` writes this file from the engine's table of options. Edit that script instead.
"""

from __future__ import annotations

from typing import Any

from ._estimators import Callback, MapEstimator, StoredMapEstimator


class UMAP(StoredMapEstimator):
    """A map by UMAP: fuzzy neighbours, matched by cross-entropy against random rows.

    The vectors are streamed: the index and the graph are on disk, within `memory_limit`.

    Parameters
    ----------
    n_neighbors : int, default None
        Number of neighbours of each row, 2 to 1,000. The row itself is not counted; umap-learn counts it, so
        its 15 is 14 here. None: 15.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    min_dist : float, default None
        Effective smallest distance between neighbours on the map, 0 to `spread`, in units of the map. None:
        0.1.
    spread : float, default None
        Scale of the map's distances, above 0. None: 1.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: centroid.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 500 up to 10,000 rows, 300 up to 100,000, 200 above.
    negative_sample_rate : int, default None
        Number of random rows that repel for each attraction. None: 5.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: 1.
    recall : float, default None
        Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is
        exact. None: 0.95.
    precomputed_knn : file, lowland.Graph, or tuple of arrays, default None
        A graph of neighbours: a file that `lowland.knn` wrote, a `Graph`, or (indices, distances) of the shape
        (rows, k), as umap-learn takes it. Rows that list themselves are taken out. X may then be None.
    keep_graph : bool, default False
        Whether the fit stores the graph of nearest neighbours as `graph_`. This needs SciPy, and 12 bytes of
        memory for each neighbour of each row.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    model : path, default None
        New directory in which the map is kept as a model, for `transform` later and in other processes, and for
        updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued.
        None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and
        there is no `run_dir` or graph.
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    graph_ : scipy.sparse.csr_matrix of float32, (rows, rows)
        With `keep_graph`: the distances of each row's nearest neighbours. umap-learn's `graph_` has weights in
        their place. Rows that `invalid` drops are left out.
    model_ : lowland.Model
        The model that the fit has kept; absent if there is none.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction",
    2018, arXiv:1802.03426.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.UMAP(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "umap"

    def __init__(
        self,
        *,
        n_neighbors: int | None = None,
        n_components: int | None = None,
        min_dist: float | None = None,
        spread: float | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        negative_sample_rate: int | None = None,
        learning_rate: float | None = None,
        recall: float | None = None,
        precomputed_knn: Any = None,
        keep_graph: bool = False,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        model: Any = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.min_dist = min_dist
        self.spread = spread
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.negative_sample_rate = negative_sample_rate
        self.learning_rate = learning_rate
        self.recall = recall
        self.precomputed_knn = precomputed_knn
        self.keep_graph = keep_graph
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.model = model
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class LargeVis(StoredMapEstimator):
    """A map by LargeVis: entropic neighbours, attracted by Student's kernel against random rows.

    The vectors are streamed: the index and the graph are on disk, within `memory_limit`.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: centroid.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 1000.
    n_negatives : int, default None
        Number of random rows that repel each row in an epoch, at most 512. None: 35.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 1.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: gains.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4, but at least 50, over the current exaggeration.
    recall : float, default None
        Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is
        exact. None: 0.95.
    precomputed_knn : file, lowland.Graph, or tuple of arrays, default None
        A graph of neighbours: a file that `lowland.knn` wrote, a `Graph`, or (indices, distances) of the shape
        (rows, k), as umap-learn takes it. Rows that list themselves are taken out. X may then be None.
    keep_graph : bool, default False
        Whether the fit stores the graph of nearest neighbours as `graph_`. This needs SciPy, and 12 bytes of
        memory for each neighbour of each row.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    model : path, default None
        New directory in which the map is kept as a model, for `transform` later and in other processes, and for
        updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued.
        None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and
        there is no `run_dir` or graph.
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    graph_ : scipy.sparse.csr_matrix of float32, (rows, rows)
        With `keep_graph`: the distances of each row's nearest neighbours. umap-learn's `graph_` has weights in
        their place. Rows that `invalid` drops are left out.
    model_ : lowland.Model
        The model that the fit has kept; absent if there is none.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Tang, Liu, Zhang, Mei, "Visualizing Large-scale and High-dimensional Data", WWW 2016, arXiv:1602.00370.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.LargeVis(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "largevis"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        n_negatives: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        recall: float | None = None,
        precomputed_knn: Any = None,
        keep_graph: bool = False,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        model: Any = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.n_negatives = n_negatives
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.recall = recall
        self.precomputed_knn = precomputed_knn
        self.keep_graph = keep_graph
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.model = model
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class InfoTSNE(StoredMapEstimator):
    """A map by InfoNC-t-SNE: t-SNE's neighbours against many random rows, by a contrastive loss.

    The vectors are streamed: the index and the graph are on disk, within `memory_limit`.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: centroid.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 1000.
    n_negatives : int, default None
        Number of random rows that repel each row in an epoch, at most 512. None: 300.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 12.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: momentum.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4, but at least 50, over the current exaggeration.
    recall : float, default None
        Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is
        exact. None: 0.95.
    precomputed_knn : file, lowland.Graph, or tuple of arrays, default None
        A graph of neighbours: a file that `lowland.knn` wrote, a `Graph`, or (indices, distances) of the shape
        (rows, k), as umap-learn takes it. Rows that list themselves are taken out. X may then be None.
    keep_graph : bool, default False
        Whether the fit stores the graph of nearest neighbours as `graph_`. This needs SciPy, and 12 bytes of
        memory for each neighbour of each row.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    model : path, default None
        New directory in which the map is kept as a model, for `transform` later and in other processes, and for
        updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued.
        None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and
        there is no `run_dir` or graph.
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    graph_ : scipy.sparse.csr_matrix of float32, (rows, rows)
        With `keep_graph`: the distances of each row's nearest neighbours. umap-learn's `graph_` has weights in
        their place. Rows that `invalid` drops are left out.
    model_ : lowland.Model
        The model that the fit has kept; absent if there is none.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Damrich, Böhm, Hamprecht, Kobak, "From t-SNE to UMAP with contrastive learning", ICLR 2023,
    arXiv:2206.01816.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.InfoTSNE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "infotsne"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        n_negatives: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        recall: float | None = None,
        precomputed_knn: Any = None,
        keep_graph: bool = False,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        model: Any = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.n_negatives = n_negatives
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.recall = recall
        self.precomputed_knn = precomputed_knn
        self.keep_graph = keep_graph
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.model = model
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class TSNE(StoredMapEstimator):
    """A map in the plane by t-SNE, whose repulsion between all rows is computed by FFT on a grid.

    The vectors are streamed: the index and the graph are on disk, within `memory_limit`.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: centroid.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 750.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 12.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: gains.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4 over the current exaggeration.
    recall : float, default None
        Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is
        exact. None: 0.95.
    precomputed_knn : file, lowland.Graph, or tuple of arrays, default None
        A graph of neighbours: a file that `lowland.knn` wrote, a `Graph`, or (indices, distances) of the shape
        (rows, k), as umap-learn takes it. Rows that list themselves are taken out. X may then be None.
    keep_graph : bool, default False
        Whether the fit stores the graph of nearest neighbours as `graph_`. This needs SciPy, and 12 bytes of
        memory for each neighbour of each row.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    model : path, default None
        New directory in which the map is kept as a model, for `transform` later and in other processes, and for
        updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued.
        None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and
        there is no `run_dir` or graph.
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    graph_ : scipy.sparse.csr_matrix of float32, (rows, rows)
        With `keep_graph`: the distances of each row's nearest neighbours. umap-learn's `graph_` has weights in
        their place. Rows that `invalid` drops are left out.
    model_ : lowland.Model
        The model that the fit has kept; absent if there is none.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008; Linderman et al., "Fast
    interpolation-based t-SNE for improved visualization of single-cell RNA-seq data", Nature Methods 2019;
    schedule of Poličar et al. (openTSNE).

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.TSNE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "tsne"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        recall: float | None = None,
        precomputed_knn: Any = None,
        keep_graph: bool = False,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        model: Any = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.recall = recall
        self.precomputed_knn = precomputed_knn
        self.keep_graph = keep_graph
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.model = model
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class PaCMAP(StoredMapEstimator):
    """A map by PaCMAP: near, mid-near and further pairs in three phases.

    The vectors are streamed: the index and the graph are on disk, within `memory_limit`.

    Parameters
    ----------
    n_neighbors : int, default None
        Number of neighbours of each row, 2 to 1,000. The row itself is not counted; umap-learn counts it, so
        its 15 is 14 here. None: 10.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: centroid.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 450.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: 1.
    recall : float, default None
        Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is
        exact. None: 0.95.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    model : path, default None
        New directory in which the map is kept as a model, for `transform` later and in other processes, and for
        updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued.
        None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and
        there is no `run_dir` or graph.
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    model_ : lowland.Model
        The model that the fit has kept; absent if there is none.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Wang, Huang, Rudin, Shaposhnik, "Understanding How Dimension Reduction Tools Work", JMLR 2021,
    arXiv:2012.04456.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.PaCMAP(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "pacmap"

    def __init__(
        self,
        *,
        n_neighbors: int | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        learning_rate: float | None = None,
        recall: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        model: Any = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.recall = recall
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.model = model
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class SNE(MapEstimator):
    """A map by SNE, exact: entropic neighbours against all rows by Gaussians.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: sqeuclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: pca.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 2000.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 1.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: momentum.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4 over the exaggeration, but at least 50.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Hinton, Roweis, "Stochastic Neighbor Embedding", NIPS 2002.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.SNE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "sne"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class ExactTSNE(MapEstimator):
    """A map by exact t-SNE, which compares all pairs of rows. `TSNE` is the one for many rows.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: sqeuclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: pca.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 2000.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 12.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: momentum.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4 over the exaggeration, but at least 50.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.ExactTSNE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "tsne-exact"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class TSNEkhorn(MapEstimator):
    """A map by TSNEkhorn, exact: doubly stochastic entropic affinities against a doubly stochastic map.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: sqeuclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: pca.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 2000.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 1.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: momentum.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: rows / 4 over the exaggeration, but at least 50.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Van Assel, Vayer, Flamary, Courty, "SNEkhorn: Dimension Reduction with Symmetric Entropic Affinities",
    NeurIPS 2023, arXiv:2305.13797.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.TSNEkhorn(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "tsnekhorn"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class COSNE(MapEstimator):
    """A map in the Poincaré ball by CO-SNE, exact.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: sqeuclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: random.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 2000.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 12.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: 1.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Guo, Guo, Yu, "CO-SNE: Dimensionality Reduction and Visualization for Hyperbolic Data", CVPR 2022,
    arXiv:2111.15037.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.COSNE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "cosne"

    def __init__(
        self,
        *,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class AffinityMatcher(MapEstimator):
    """A map whose affinity matches an affinity of the rows, exact: any of nine against any of four.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    n_neighbors : int, default None
        Number of neighbours of each row, 2 to 1,000. The row itself is not counted; umap-learn counts it, so
        its 15 is 14 here. None: 30.
    perplexity : float, default None
        Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights.
        Three times as many are searched. None: 30.
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: sqeuclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: pca.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 1000.
    early_exaggeration : float, default None
        Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.
        None: 1.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: adam.
    affinity : str, default None
        Affinity of the rows: "entropic", "symmetric-entropic", "sinkhorn", "quadratic", "gaussian", "student",
        "self-tuning", "magic" or "umap". None: entropic.
    map_affinity : str, default None
        Affinity of the map: "student", "gaussian", "sinkhorn-student" or "sinkhorn-gaussian". None: student.
    loss : str, default None
        "square" or "cross-entropy". None: square.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: 1.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Van Assel, Vincent-Cuaz, Courty, Flamary, Frossard, Vayer, "Distributional Reduction: Unifying
    Dimensionality Reduction and Clustering with Gromov-Wasserstein", 2024, arXiv:2402.02239; after TorchDR.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.AffinityMatcher(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "affinity-matcher"

    def __init__(
        self,
        *,
        n_neighbors: int | None = None,
        perplexity: float | None = None,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        early_exaggeration: float | None = None,
        optimizer: str | None = None,
        affinity: str | None = None,
        map_affinity: str | None = None,
        loss: str | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.perplexity = perplexity
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.early_exaggeration = early_exaggeration
        self.optimizer = optimizer
        self.affinity = affinity
        self.map_affinity = map_affinity
        self.loss = loss
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend


class PHATE(MapEstimator):
    """A map by PHATE, exact: distances between potentials of a diffusion, kept by stress.

    All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory.

    Parameters
    ----------
    n_components : int, default None
        Number of components of the map, 1 to 64 (`TSNE`: 2). None: 2.
    metric : str, default None
        Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs
        methods also "manhattan" and "angular". None: euclidean.
    init : str, path or array of (rows, n_components), default None
        First positions: "centroid" (a map of the index's centroids), "pca", "random", a file (.npy, or an
        earlier map), or an array. None: pca.
    n_epochs : int, default None
        Number of epochs, which are passes over the graph; of all-pairs methods the largest number of
        iterations. None: 1000.
    optimizer : str, default None
        "adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).
        None: adam.
    learning_rate : float, default None
        Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers
        are four times as large. None: 1.
    column : str or list of str, default None
        The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what
        `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.
    invalid : str, default "error"
        What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the
        first; "drop" leaves them out; "null" gives them the position NaN.
    random_state : int, numpy Generator or RandomState, default None
        Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number
        is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.
    memory_limit : int or str, default None
        Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the
        machine or cgroup grants.
    n_jobs : int, default None
        Number of threads. None and -1: one for each core; -2: one less.
    device : str, default None
        "auto" (None), "cpu", "cuda" or "cuda:1".
    run_dir : path, default None
        Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data
        and options continues it. None: a temporary directory.
    restart : bool, default False
        Whether an earlier run in `run_dir` is discarded.
    verbose : bool, default False
        Whether progress is shown on standard error: a bar on terminals, text elsewhere.
    callback : callable, default None
        Is called with each event of the run, a dict; see `docs/python.md`.
    backend : str, default None
        For scripts written for TorchDR: None or "faiss", which change nothing.

    Attributes
    ----------
    embedding_ : ndarray of float32, (rows, n_components)
        The map.
    report_ : lowland.Report
        What the run did: plan, stages, scores, warnings, notes.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of str objects, (n_features_in_,)
        Names of X's columns, if X was a frame of numbers whose columns all have names of text.

    References
    ----------
    Moon et al., "Visualizing structure and transitions in high-dimensional biological data", Nature
    Biotechnology 2019.

    Examples
    --------
    >>> import lowland, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> lowland.PHATE(n_epochs=20).fit_transform(X).shape
    (300, 2)
    """

    method = "phate"

    def __init__(
        self,
        *,
        n_components: int | None = None,
        metric: str | None = None,
        init: Any = None,
        n_epochs: int | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        column: str | list[str] | None = None,
        invalid: str = "error",
        random_state: Any = None,
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        device: str | None = None,
        run_dir: Any = None,
        restart: bool = False,
        verbose: bool = False,
        callback: Callback | None = None,
        backend: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.metric = metric
        self.init = init
        self.n_epochs = n_epochs
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.column = column
        self.invalid = invalid
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs
        self.device = device
        self.run_dir = run_dir
        self.restart = restart
        self.verbose = verbose
        self.callback = callback
        self.backend = backend

#: TorchDR's spelling.
PACMAP = PaCMAP

__all__ = [
    "UMAP",
    "LargeVis",
    "InfoTSNE",
    "TSNE",
    "PaCMAP",
    "SNE",
    "ExactTSNE",
    "TSNEkhorn",
    "COSNE",
    "AffinityMatcher",
    "PHATE",
    "PACMAP",
]
