"""lowland: streaming, out-of-core dimensionality reduction within a stated memory budget.

    import lowland

    map = lowland.UMAP(n_neighbors=15).fit_transform(X)          # an estimator, as in scikit-learn
    lowland.embed("vectors/*.parquet", output="map.parquet")     # any source to a file, a table or an array

What must hold: `import lowland` imports neither Polars nor scikit-learn nor SciPy, and the command line imports no NumPy;
so names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from . import _exit as _exit
from ._lowland import BudgetError, LowlandError, __version__

#: Each name, and the module that has it.
_NAMES = {
    **dict.fromkeys(
        [
            "UMAP", "LargeVis", "InfoTSNE", "TSNE", "PaCMAP", "PACMAP", "SNE", "ExactTSNE", "TSNEkhorn", "COSNE",
            "AffinityMatcher", "PHATE",
        ],
        "_maps",
    ),
    **dict.fromkeys(["PCA", "IncrementalPCA", "ExactIncrementalPCA", "KernelPCA"], "_pca"),
    **dict.fromkeys(
        [
            "embed", "embed_batches", "knn", "pca", "evaluate", "plot", "plan", "inspect", "runs", "methods", "Plan",
            "Picture",
        ],
        "_functions",
    ),
    **dict.fromkeys(["Model", "UpdateReport"], "_model"),
    "LowlandWarning": "_progress",
    "Report": "_report",
}  # fmt: skip

__all__ = ["BudgetError", "LowlandError", "__version__", *_NAMES]

if TYPE_CHECKING:
    from ._functions import (
        Picture, Plan, embed, embed_batches, evaluate, inspect, knn, methods, pca, plan, plot, runs,
    )  # fmt: skip
    from ._maps import (
        COSNE, PACMAP, PHATE, SNE, TSNE, UMAP, AffinityMatcher, ExactTSNE, InfoTSNE, LargeVis, PaCMAP, TSNEkhorn,
    )  # fmt: skip
    from ._model import Model, UpdateReport
    from ._pca import PCA, ExactIncrementalPCA, IncrementalPCA, KernelPCA
    from ._progress import LowlandWarning
    from ._report import Report


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module 'lowland' has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})


if "polars" in sys.modules:
    # Gives LazyFrame and DataFrame the namespace `lowland`.
    from . import polars as polars
