"""Python's names of options, and how they become options of the engine.

The engine's table (`lowland._lowland.options()`) says which options a method has. This file adds what is not an option of
a method (memory, threads, seed, device) and the names that other libraries use for the same thing.

What must hold: an option that is `None` is left out, so that the engine takes the method's default.
"""

from __future__ import annotations

import difflib
import functools
import numbers
import operator
import os
from collections.abc import Callable
from typing import Any

from ._errors import shown

#: Options of every run: Python's name, and the engine's.
RUN_OPTIONS = {
    "memory_limit": "memory",
    "n_jobs": "threads",
    "random_state": "seed",
    "device": "device",
    "device_memory": "device_memory",
    "recall": "recall",
    "batch_rows": "batch_rows",
    "disk_limit": "disk",
    "checkpoint": "checkpoint",
}

#: Names of parameters in other libraries, and the name of the same parameter here, or a sentence on what to do.
ELSEWHERE = {
    "max_iter": "n_epochs",
    "n_iter": "n_epochs",
    "num_iters": "n_epochs",
    "lr": "learning_rate",
    "early_exaggeration_coeff": "early_exaggeration",
    "exaggeration": "early_exaggeration",
    "k": "n_neighbors",
    "seed": "random_state",
    "threads": "n_jobs",
    "num_threads": "n_jobs",
    "memory": "memory_limit",
    "output_metric": "distances in the map are Euclidean (COSNE: those of the Poincaré ball)",
    "method": "each method is a class of its own; lowland.embed(…, method=…) takes a name",
    "low_memory": "memory_limit",
    "densmap": "densMAP is not there yet",
    "target_metric": "supervised maps are not there yet",
    "n_iter_early_exag": "early exaggeration lasts 250 epochs, or a third of the epochs if that is less",
    "early_exaggeration_iter": "early exaggeration lasts 250 epochs, or a third of the epochs if that is less",
    "distributed": "a run uses one machine",
    "sparsity": "methods that stream always use a sparse affinity",
    "keops": "backend",
    "metric_kwds": "metrics have no parameters",
    "initialization": "init",
    "theta": "the repulsion of TSNE is computed by FFT; there is no theta",
    "angle": "the repulsion of TSNE is computed by FFT; there is no angle",
    "MN_ratio": "mid-near pairs are half of n_neighbors",
    "FP_ratio": "further pairs are twice n_neighbors",
}

#: Parameters of estimators that functions do not have, and what there is instead.
_OF_ESTIMATORS = {
    "precomputed_knn": "lowland.embed takes a graph by graph=…",
    "model": "lowland.embed and the estimators keep a map as a model",
    "keep_graph": "lowland.knn returns the graph, which lowland.embed takes by graph=…",
}

#: Parameters that only some estimators have, and a sentence for the others.
OF_SOME = {
    "precomputed_knn": "this method needs the vectors; UMAP, LargeVis, InfoTSNE and TSNE have it",
    "model": "a model needs lists of near rows; UMAP, LargeVis, InfoTSNE, TSNE and PaCMAP have it",
    "keep_graph": "UMAP, LargeVis, InfoTSNE and TSNE have it; lowland.knn gives the graph of any rows",
}

#: The seed of a run without `random_state`, as that of the command line.
DEFAULT_SEED = 42


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """Returns the engine's table of options by name: `methods`, `defaults` (text by method) and `help`."""
    from . import _lowland

    return {entry["name"]: entry for entry in _lowland.options()}


@functools.cache
def methods() -> tuple[str, ...]:
    """Returns the names of the methods, as the engine lists them."""
    from . import _lowland

    return tuple(_lowland.methods())


def of_method(method: str) -> list[str]:
    """Returns the names of the options that `method` has, in the engine's order."""
    return [name for name, entry in table().items() if method in entry["methods"]]


def unknown(what: str, name: str, known: list[str]) -> str:
    """Returns the message for a name that `what` does not have: the name it has here, or the nearest one."""
    here = ELSEWHERE.get(name) or OF_SOME.get(name)
    if here in known:
        return f"{what} has no parameter {name!r}; here it is called {here!r}"
    if here is not None and " " in here:
        return f"{what} has no parameter {name!r}: {here}"
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}"
    return f"{what} has no parameter {name!r}{hint}"


def engine_options(method: str | None = None, **given: Any) -> dict[str, Any]:
    """Returns the engine's options for Python's names and values.

    Raises
    ------
    ValueError
        If the method, or an option of it, does not exist, or a value is of no use (`n_jobs=0`).
    """
    options: dict[str, Any] = {}
    if method is not None:
        if method not in methods():
            near = difflib.get_close_matches(str(method).lower(), methods(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"there is no method {method!r}{hint}; there are {', '.join(methods())}")
        options["method"] = method
    own = of_method(method or methods()[0])
    for name, value in given.items():
        if value is None:
            continue
        if name in RUN_OPTIONS:
            options[RUN_OPTIONS[name]] = _CONVERTED.get(name, _plain)(value)
        elif name in own:
            options[name] = _CONVERTED.get(name, _plain)(value)
        elif name in table():
            having = ", ".join(table()[name]["methods"])
            raise ValueError(f"{name}: {method or methods()[0]} does not have it; {having} do")
        elif name in _OF_ESTIMATORS:
            raise ValueError(f"{method or 'lowland'} has no parameter {name!r} here: {_OF_ESTIMATORS[name]}")
        else:
            raise ValueError(unknown(method or "lowland", name, [*own, *RUN_OPTIONS]))
    return options


def n_jobs(value: Any) -> int | None:
    """Returns the number of threads: as many as given; -1 is one for each core, -2 one less, as in scikit-learn."""
    count = operator.index(value)
    if count == 0:
        raise ValueError("n_jobs: 0 threads do no work; give -1 or None for one thread for each core")
    if count == -1:
        return None
    if count < -1:
        count += (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1
    return max(count, 1)


def seed(value: Any) -> int:
    """Returns a seed. Of a NumPy generator or `RandomState` one number is drawn."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        number = int(value)
        if number < 0:
            raise ValueError(f"random_state: {number} is below 0")
        return number
    if hasattr(value, "integers"):  # numpy.random.Generator
        return int(value.integers(0, 2**32))
    if hasattr(value, "randint"):  # numpy.random.RandomState
        return int(value.randint(0, 2**31 - 1))
    raise ValueError(f"random_state: give an integer, a NumPy generator or None, not {type(value).__name__}")


def memory(value: Any) -> int | str:
    """Returns a memory budget: bytes, or a text such as "4GiB" or "25%"."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if value <= 0:
            raise ValueError(f"memory_limit: {value} bytes; give a size such as '4GiB'")
        return int(value)
    if isinstance(value, str):
        return value
    raise ValueError(f"memory_limit: give bytes or a text such as '4GiB' or '25%', not {value!r}")


def _init(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(
            f"init: give a name or a file, not {shown(value)}; an estimator, such as lowland.UMAP(init=…), takes an array"
        )
    return os.fspath(value)


def path(name: str, value: Any) -> str | None:
    """Returns the path that was given for the parameter `name` as text.

    Raises
    ------
    ValueError, TypeError
        For the empty text, which would be the current directory in some places and nothing in others, and for what is no
        path.
    """
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: give a path or None, not {type(value).__name__}")
    text = os.fspath(value)
    if not text:
        raise ValueError(f"{name}: the path is empty; leave {name} out, or give '.' for the current directory")
    return text


def _plain(value: Any) -> Any:
    """Returns a NumPy scalar as a Python number, anything else unchanged."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "init": _init,
    "n_jobs": n_jobs,
    "random_state": seed,
    "memory_limit": memory,
    "device": str,
    "metric": str,
}
