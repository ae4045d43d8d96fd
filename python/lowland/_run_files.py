"""Files that a run needs beside its run directory: first positions, graphs, and temporary directories.

What must hold:

- A run directory is continued only if its inputs have the same names, lengths and times as before. So a file of this module
  is named by its contents, and its time is fixed.
- Only the process that made temporary files removes them. A forked child has copies of its parent's objects.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _exit
from ._errors import rewritten

#: The time of files whose names come from their contents: 1 January 2000.
_TIME = 946_684_800

#: Bytes that are read at a time for a checksum.
_PORTION = 1 << 20

#: First positions of other libraries, and what there is instead.
_OTHER_INITS = {
    "spectral": "'centroid', the default, starts from a map of the index's centroids",
    "tswspectral": "'centroid', the default, starts from a map of the index's centroids",
    "normal": "'random' is uniform",
    "hyperbolic": "'random', the default of COSNE, starts near the centre of the ball",
}


def beside(run_dir: str | None) -> str | None:
    """Returns the directory that holds a run directory (or an output), if there is one."""
    if run_dir is None:
        return None
    parent = os.path.dirname(os.path.abspath(run_dir))
    return parent if os.path.isdir(parent) else None


class TemporaryDirectory:
    """A directory that only its user can read. It is removed with this object, or by `remove`.

    `tempfile.TemporaryDirectory` is removed by a forked child too.
    """

    def __init__(self, parent: str | None = None) -> None:
        self.path = _exit.make_directory(parent)
        self.remove = weakref.finalize(self, _exit.remove_directory, self.path)
        # The end of Python removes directories after it has waited for all calls.
        self.remove.atexit = False


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _named(run_dir: str, name: str) -> str:
    """Returns the path of a file beside a run directory, which has the run directory's name in its own."""
    where = os.path.abspath(run_dir)
    return os.path.join(os.path.dirname(where), f".lowland-{os.path.basename(where)}-{name}")


@contextlib.contextmanager
def _written(path: str, write: Callable[[str], object]) -> Iterator[str]:
    """Gives the file `path`, which `write` makes, for the time of a run."""
    process, is_new, is_done = os.getpid(), not os.path.exists(path), False
    part = f"{path}.{process}.part"
    try:
        write(part)
        os.utime(part, (_TIME, _TIME))
        os.replace(part, path)
    except BaseException:
        _remove(part)
        raise
    try:
        yield path
        is_done = True
    finally:
        # A file that was there before can belong to a run that another process does in this directory.
        if os.getpid() == process and (is_new or is_done):
            _remove(path)


@contextlib.contextmanager
def first_positions(init: Any, run_dir: str | None) -> Iterator[str | None]:
    """Gives `init` as the engine takes it: a name or a path. An array is written to a file for the time of the run."""
    if init is None or isinstance(init, (str, os.PathLike)):
        if isinstance(init, str) and init in _OTHER_INITS:
            raise ValueError(f"init: there is no {init!r}; {_OTHER_INITS[init]}")
        yield None if init is None else os.fspath(init)
        return
    positions = np.asarray(init)
    if positions.ndim != 2 or positions.dtype.kind not in "fiu":
        raise ValueError(
            f"init: give a name, a file, or an array of rows × n_components, not {type(init).__name__} {positions.shape}"
        )
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(positions, dtype=np.float32))
    name = f"init-{hashlib.sha256(content.getbuffer()).hexdigest()[:16]}.npy"

    def write(path: str) -> None:
        with open(path, "wb") as file:
            file.write(content.getbuffer())

    if run_dir is None or beside(run_dir) is None:
        directory = TemporaryDirectory()
        path = os.path.join(directory.path, name)
        try:
            write(path)
            with _of_array(path):
                yield path
        finally:
            directory.remove()
        return
    with _written(_named(run_dir, name), write) as path, _of_array(path):
        yield path


def _of_array(path: str) -> contextlib.AbstractContextManager[None]:
    """Gives errors about the first positions in the temporary file `path` the words for an array."""
    by_id = re.compile(r"; name the column that identifies rows .*", re.S)

    def change(text: str) -> str:
        if path not in text:
            return text
        text = re.sub(re.escape(path) + r": (?=[\d,]+ (× \d+ )?first positions)", "the array has ", text)
        return by_id.sub("; give one for each row, in the order of the rows", text.replace(path, "the array"))

    return rewritten(change)


@contextlib.contextmanager
def given_graph(graph: Any, run_dir: str | None) -> Iterator[Any]:
    """Gives a graph that another process can give again: a temporary one is copied beside `run_dir` for the time of the run."""
    if run_dir is None or beside(run_dir) is None or not getattr(graph, "is_temporary", False):
        yield graph
        return
    checksum = hashlib.sha256()
    with open(graph.path, "rb") as file:
        while portion := file.read(_PORTION):
            checksum.update(portion)
    name = f"graph-{checksum.hexdigest()[:16]}.arrow"
    with _written(_named(run_dir, name), lambda path: shutil.copyfile(graph.path, path)) as path:
        yield path


@contextlib.contextmanager
def searched_graph(
    source: Any, options: dict[str, Any], invalid: str, run_dir: str | None, restart: bool, heard: Any
) -> Iterator[Any]:
    """Gives the graph of a source. With `run_dir` it is in a file beside it, which stays if the run is interrupted."""
    from . import _lowland

    identity = None if run_dir is None or beside(run_dir) is None else source.identity()
    if run_dir is None or identity is None:
        yield _lowland.knn(source, options=options, invalid=invalid, callback=heard)
        return
    # The other options do not change the graph.
    content = [identity, invalid, *(str(options.get(name)) for name in ("n_neighbors", "metric", "recall", "seed"))]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    path, process = _named(run_dir, f"graph-{key}.arrow"), os.getpid()
    if restart:
        _remove(path)
    if not os.path.exists(path):
        _lowland.knn(source, options=options, invalid=invalid, output=path, restart=restart, callback=heard)
        os.utime(path, (_TIME, _TIME))
    try:
        yield _lowland.Graph.open(path)
    except (TypeError, ValueError):
        # The next fit has other options or data.
        if os.getpid() == process:
            _remove(path)
        raise
    if os.getpid() == process:
        _remove(path)
