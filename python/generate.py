"""Writes `python/lowland/_maps.py` from the engine's table of options, and `docs/python-reference.md` from docstrings.

    python python/generate.py            # writes both
    python python/generate.py --check    # exit code 1 if one of them is out of date

`python/tests/test_signatures.py` makes the same check.
"""

from __future__ import annotations

import inspect
import pathlib
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
MAPS = HERE / "lowland" / "_maps.py"
REFERENCE = HERE.parent / "docs" / "python-reference.md"
WIDTH = 112

#: By method: the class, what it does, and its paper.
CLASSES = {
    "umap": (
        "UMAP",
        "A map by UMAP: fuzzy neighbours, matched by cross-entropy against random rows.",
        'McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction", 2018, '
        "arXiv:1802.03426.",
    ),
    "largevis": (
        "LargeVis",
        "A map by LargeVis: entropic neighbours, attracted by Student's kernel against random rows.",
        'Tang, Liu, Zhang, Mei, "Visualizing Large-scale and High-dimensional Data", WWW 2016, arXiv:1602.00370.',
    ),
    "infotsne": (
        "InfoTSNE",
        "A map by InfoNC-t-SNE: t-SNE's neighbours against many random rows, by a contrastive loss.",
        'Damrich, Böhm, Hamprecht, Kobak, "From t-SNE to UMAP with contrastive learning", ICLR 2023, arXiv:2206.01816.',
    ),
    "tsne": (
        "TSNE",
        "A map in the plane by t-SNE, whose repulsion between all rows is computed by FFT on a grid.",
        'van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008; Linderman et al., "Fast interpolation-based t-SNE '
        'for improved visualization of single-cell RNA-seq data", Nature Methods 2019; schedule of Poličar et al. (openTSNE).',
    ),
    "pacmap": (
        "PaCMAP",
        "A map by PaCMAP: near, mid-near and further pairs in three phases.",
        'Wang, Huang, Rudin, Shaposhnik, "Understanding How Dimension Reduction Tools Work", JMLR 2021, arXiv:2012.04456.',
    ),
    "sne": (
        "SNE",
        "A map by SNE, exact: entropic neighbours against all rows by Gaussians.",
        'Hinton, Roweis, "Stochastic Neighbor Embedding", NIPS 2002.',
    ),
    "tsne-exact": (
        "ExactTSNE",
        "A map by exact t-SNE, which compares all pairs of rows. `TSNE` is the one for many rows.",
        'van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008.',
    ),
    "tsnekhorn": (
        "TSNEkhorn",
        "A map by TSNEkhorn, exact: doubly stochastic entropic affinities against a doubly stochastic map.",
        'Van Assel, Vayer, Flamary, Courty, "SNEkhorn: Dimension Reduction with Symmetric Entropic Affinities", NeurIPS '
        "2023, arXiv:2305.13797.",
    ),
    "cosne": (
        "COSNE",
        "A map in the Poincaré ball by CO-SNE, exact.",
        'Guo, Guo, Yu, "CO-SNE: Dimensionality Reduction and Visualization for Hyperbolic Data", CVPR 2022, '
        "arXiv:2111.15037.",
    ),
    "affinity-matcher": (
        "AffinityMatcher",
        "A map whose affinity matches an affinity of the rows, exact: any of nine against any of four.",
        'Van Assel, Vincent-Cuaz, Courty, Flamary, Frossard, Vayer, "Distributional Reduction: Unifying Dimensionality '
        'Reduction and Clustering with Gromov-Wasserstein", 2024, arXiv:2402.02239; after TorchDR.',
    ),
    "phate": (
        "PHATE",
        "A map by PHATE, exact: distances between potentials of a diffusion, kept by stress.",
        'Moon et al., "Visualizing structure and transitions in high-dimensional biological data", Nature Biotechnology 2019.',
    ),
}

#: By parameter: annotation, type in words, description.
PARAMETERS = {
    "n_neighbors": (
        "int | None",
        "int",
        "Number of neighbours of each row, 2 to 1,000. The row itself is not counted; umap-learn counts it, so its 15 is 14 here.",
    ),
    "perplexity": (
        "float | None",
        "float",
        "Effective number of neighbours of each row, above 1: the exponential of the entropy of their weights. Three times as many are searched.",
    ),
    "n_components": ("int | None", "int", "Number of components of the map, 1 to 64 (`TSNE`: 2)."),
    "min_dist": (
        "float | None",
        "float",
        "Effective smallest distance between neighbours on the map, 0 to `spread`, in units of the map.",
    ),
    "spread": ("float | None", "float", "Scale of the map's distances, above 0."),
    "metric": (
        "str | None",
        "str",
        'Distance between rows: "euclidean", "sqeuclidean", "cosine", "correlation" or "hamming"; all-pairs methods also "manhattan" and "angular".',
    ),
    "init": (
        "Any",
        "str, path or array of (rows, n_components)",
        'First positions: "centroid" (a map of the index\'s centroids), "pca", "random", a file (.npy, or an earlier map), or an array.',
    ),
    "n_epochs": (
        "int | None",
        "int",
        "Number of epochs, which are passes over the graph; of all-pairs methods the largest number of iterations.",
    ),
    "negative_sample_rate": ("int | None", "int", "Number of random rows that repel for each attraction."),
    "n_negatives": ("int | None", "int", "Number of random rows that repel each row in an epoch, at most 512."),
    "early_exaggeration": (
        "float | None",
        "float",
        "Factor of the attraction in the first 250 epochs, or in the first third of the epochs if that is less.",
    ),
    "optimizer": (
        "str | None",
        "str",
        '"adam", "momentum" or "gains" (momentum with a step for each component; not for all-pairs methods).',
    ),
    "affinity": (
        "str | None",
        "str",
        'Affinity of the rows: "entropic", "symmetric-entropic", "sinkhorn", "quadratic", "gaussian", "student", "self-tuning", "magic" or "umap".',
    ),
    "map_affinity": (
        "str | None",
        "str",
        'Affinity of the map: "student", "gaussian", "sinkhorn-student" or "sinkhorn-gaussian".',
    ),
    "loss": ("str | None", "str", '"square" or "cross-entropy".'),
    "learning_rate": (
        "float | None",
        "float",
        "Learning rate of the first epoch, in units of the whole gradient, as in scikit-learn; openTSNE's numbers are four times as large.",
    ),
    "recall": (
        "float | None",
        "float",
        "Share of the true neighbours that the graph should contain, above 0 to 1. Up to 32,768 rows the graph is exact.",
    ),
    "precomputed_knn": (
        "Any",
        "file, lowland.Graph, or tuple of arrays",
        "A graph of neighbours: a file that `lowland.knn` wrote, a `Graph`, or (indices, distances) of the shape (rows, k), as umap-learn takes it. Rows that list themselves are taken out. X may then be None.",
    ),
    "keep_graph": (
        "bool",
        "bool",
        "Whether the fit stores the graph of nearest neighbours as `graph_`. This needs SciPy, and 12 bytes of memory for each neighbour of each row.",
    ),
    "column": (
        "str | list[str] | None",
        "str or list of str",
        "The column or columns of the vectors, for frames, Arrow data and files: a name, names, or what `--column` takes. Default: of a frame of numbers all columns; otherwise the only column of lists.",
    ),
    "invalid": (
        "str",
        "str",
        'What happens to rows that cannot be placed (null, NaN, infinite): "error" refuses the data and names the first; "drop" leaves them out; "null" gives them the position NaN.',
    ),
    "random_state": (
        "Any",
        "int, numpy Generator or RandomState",
        "Seed. None is 42, so that a fit without a seed gives the same map every time; of a generator one number is drawn at each fit. The map does not depend on `n_jobs`, `memory_limit` or `device`.",
    ),
    "memory_limit": (
        "int | str | None",
        "int or str",
        'Memory that the process may hold: bytes, or a text such as "4GiB" or "25%". None is half of what the machine or cgroup grants.',
    ),
    "n_jobs": ("int | None", "int", "Number of threads. None and -1: one for each core; -2: one less."),
    "device": ("str | None", "str", '"auto" (None), "cpu", "cuda" or "cuda:1".'),
    "model": (
        "Any",
        "path",
        "New directory in which the map is kept as a model, for `transform` later and in other processes, and for updates (`lowland.Model`). Finished stages are kept there too: a fit that was interrupted is continued. None: a temporary model, which is removed with the estimator, if the vectors take at most 64 MiB and there is no `run_dir` or graph.",
    ),
    "run_dir": (
        "Any",
        "path",
        "Directory for the run's stages, which stays. A fit that finds there an interrupted run of the same data and options continues it. None: a temporary directory.",
    ),
    "restart": ("bool", "bool", "Whether an earlier run in `run_dir` is discarded."),
    "verbose": ("bool", "bool", "Whether progress is shown on standard error: a bar on terminals, text elsewhere."),
    "callback": ("Callback | None", "callable", "Is called with each event of the run, a dict; see `docs/python.md`."),
    "backend": ("str | None", "str", 'For scripts written for TorchDR: None or "faiss", which change nothing.'),
}

DEFAULTS = {"keep_graph": "False", "invalid": '"error"', "restart": "False", "verbose": "False"}

ATTRIBUTES = {
    "embedding_": "ndarray of float32, (rows, n_components)\n    The map.",
    "graph_": "scipy.sparse.csr_matrix of float32, (rows, rows)\n    With `keep_graph`: the distances of each row's nearest neighbours. umap-learn's `graph_` has weights in their place. Rows that `invalid` drops are left out.",
    "model_": "lowland.Model\n    The model that the fit has kept; absent if there is none.",
    "report_": "lowland.Report\n    What the run did: plan, stages, scores, warnings, notes.",
    "n_features_in_": "int\n    Number of features of X.",
    "feature_names_in_": "ndarray of str objects, (n_features_in_,)\n    Names of X's columns, if X was a frame of numbers whose columns all have names of text.",
}

#: Members of classes that users do not need.
SKIPPED = ("of", "arrays", "open")

HEADER = '''"""The estimators of maps, one class for each method of the engine.

`python/generate.py` writes this file from the engine's table of options. Edit that script instead.
"""

from __future__ import annotations

from typing import Any

from ._estimators import Callback, MapEstimator, StoredMapEstimator

'''


def streams(method: str) -> bool:
    from lowland._options import table

    return table()["init"]["defaults"][method] == "centroid"


def parameters(method: str) -> list[str]:
    """Returns the parameters of a method's class, in order."""
    from lowland._options import of_method

    names = of_method(method)
    if streams(method):
        names.append("recall")
        if method != "pacmap":
            names += ["precomputed_knn", "keep_graph"]
    return names + [
        "column",
        "invalid",
        "random_state",
        "memory_limit",
        "n_jobs",
        "device",
        *(["model"] if streams(method) else []),
        "run_dir",
        "restart",
        "verbose",
        "callback",
        "backend",
    ]


def default_text(name: str, method: str) -> str:
    """Returns what None means: the method's default in the engine's table."""
    from lowland._options import table

    if name == "recall":
        return "0.95"
    entry = table().get(name)
    return "" if entry is None else str(entry["defaults"][method])


def wrap(text: str, indent: int) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def class_of(method: str) -> str:
    """Returns the source of a method's class."""
    name, about, paper = CLASSES[method]
    names = parameters(method)
    base = "StoredMapEstimator" if streams(method) else "MapEstimator"
    lines = [f"class {name}({base}):", f'    """{about}', ""]
    if streams(method):
        text = "The vectors are streamed: the index and the graph are on disk, within `memory_limit`."
    else:
        text = "All pairs of rows are compared, so that time grows with the square of the rows; the rows are in memory."
    lines += [wrap(text, 4), "", "    Parameters", "    ----------"]
    for parameter in names:
        _, kind, text = PARAMETERS[parameter]
        default = DEFAULTS.get(parameter)
        lines.append(f"    {parameter} : {kind}, default {default or 'None'}")
        meaning = default_text(parameter, method) if default is None else ""
        lines.append(wrap(text + (f" None: {meaning}." if meaning else ""), 8))
    lines += ["", "    Attributes", "    ----------"]
    for attribute, text in ATTRIBUTES.items():
        if attribute == "graph_" and "keep_graph" not in names or attribute == "model_" and "model" not in names:
            continue
        kind, text = text.split("\n    ")
        lines += [f"    {attribute} : {kind}", wrap(text, 8)]
    lines += ["", "    References", "    ----------", wrap(paper, 4), "", "    Examples", "    --------"]
    lines += ["    >>> import lowland, numpy as np", "    >>> X = np.random.default_rng(0).normal(size=(300, 8))"]
    lines += [f"    >>> lowland.{name}(n_epochs=20).fit_transform(X).shape", "    (300, 2)", '    """', ""]
    lines += [f'    method = "{method}"', "", "    def __init__(", "        self,", "        *,"]
    lines += [f"        {p}: {PARAMETERS[p][0]} = {DEFAULTS.get(p, 'None')}," for p in names]
    lines += ["    ) -> None:"] + [f"        self.{p} = {p}" for p in names] + ["", ""]
    return "\n".join(lines)


def maps() -> str:
    """Returns the source of `_maps.py`."""
    from lowland._options import methods

    classes = [class_of(method) for method in methods()]
    names = [CLASSES[method][0] for method in methods()]
    alias = "#: TorchDR's spelling.\nPACMAP = PaCMAP\n\n"
    listed = "__all__ = [\n" + "".join(f'    "{name}",\n' for name in [*names, "PACMAP"]) + "]\n"
    return HEADER + "\n" + "\n".join(classes) + alias + listed


def section(title: str, thing: object, level: int) -> list[str]:
    """Returns a heading, a signature and a docstring as lines of Markdown."""
    doc = inspect.getdoc(thing) or ""
    lines = [f"{'#' * level} {title}", ""]
    if callable(thing):
        try:
            lines += ["```text", *signature(title, thing), "```", ""]
        except (TypeError, ValueError):
            pass
    summary, _, rest = doc.partition("\n\n")
    lines += [summary.replace("\n", " "), ""]
    if rest.strip():
        lines += ["```text", *rest.splitlines(), "```", ""]
    return lines


def members(kind: type, level: int) -> list[str]:
    """Returns a class that users do not make as lines of Markdown: its docstring, and what it has."""
    summary, _, rest = (inspect.getdoc(kind) or "").partition("\n\n")
    lines = [f"{'#' * level} {kind.__name__}", "", summary.replace("\n", " "), ""]
    found = rest.splitlines()
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") or name in SKIPPED or not inspect.getdoc(member):
            continue
        call = "" if inspect.isdatadescriptor(member) else "(…)"
        found += ["", f".{name}{call}", *("    " + line for line in inspect.getdoc(member).splitlines())]
    if found:
        lines += ["```text", *"\n".join(found).strip("\n").splitlines(), "```", ""]
    return lines


def signature(title: str, thing: object) -> list[str]:
    parts = []
    star = False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is parameter.VAR_POSITIONAL
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        parts.append(prefix + parameter.name + default)
    return textwrap.wrap(f"{title}({', '.join(parts)})", 100, subsequent_indent="    ", break_long_words=False)


def reference() -> str:
    """Returns the source of the reference page."""
    import lowland
    import lowland.polars
    from lowland import _lowland, _maps, _pca, _report

    lines = ["# Reference of the Python package", "", "`python/generate.py` writes this page from the docstrings.", ""]
    lines += ["## Maps", ""]
    for name in [name for name in _maps.__all__ if name != "PACMAP"]:
        lines += section(name, getattr(_maps, name), 3)
    lines += ["### What all of them have", ""]
    for name in ("fit", "fit_transform", "plan", "get_feature_names_out", "get_params", "set_params"):
        lines += section(name, getattr(_maps.UMAP, name), 4)
    lines += ["### What those have that stream", ""]
    for name in ("transform", "from_model"):
        lines += section(name, getattr(_maps.UMAP, name), 4)
    lines += ["## Principal components", ""]
    for name in _pca.__all__:
        kind = getattr(_pca, name)
        lines += section(name, kind, 3)
        for method in ("partial_fit", "partial_mean", "transform", "inverse_transform"):
            if hasattr(kind, method):
                lines += section(f"{name}.{method}", getattr(kind, method), 4)
    lines += ["## Functions", ""]
    for name in ("embed", "knn", "pca", "evaluate", "plot", "plan", "inspect", "runs"):
        if hasattr(lowland, name):
            lines += section(f"lowland.{name}", getattr(lowland, name), 3)
    lines += ["## Stored models", ""]
    lines += section("Model", lowland.Model, 3)
    for name, member in vars(lowland.Model).items():
        if not name.startswith("_") and inspect.isfunction(member):
            lines += section(f"Model.{name}", member, 4)
    properties = [(n, m) for n, m in vars(lowland.Model).items() if isinstance(m, property)]
    lines += ["#### Properties", "", "```text"]
    lines += [f"{name}: {inspect.getdoc(member)}" for name, member in properties] + ["```", ""]
    lines += ["## What fits and functions return", ""]
    for kind in (lowland.UpdateReport, _report.Report, lowland.Plan, lowland.Picture, _lowland.Table, _lowland.Graph):
        lines += members(kind, 3)
    lines += ["## Polars", ""]
    for name in lowland.polars.__all__:
        lines += section(f"lowland.polars.{name}", getattr(lowland.polars, name), 3)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    sys.path.insert(0, str(HERE)) if "--here" in sys.argv else None
    stale = []
    for path, make in ((MAPS, maps), (REFERENCE, reference)):
        text = make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    print("out of date:" if "--check" in sys.argv else "written:", ", ".join(stale) or "nothing")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
