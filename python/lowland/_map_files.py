"""Maps as frames and tables in memory, which are read as files are.

What must hold: the columns of a frame are selected by the rules for a file of the same columns. So a frame is written to a
temporary file, which is removed after the call.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _lowland
from ._errors import rewritten
from ._input import can_be_listed, exportable, fields_of
from ._run_files import TemporaryDirectory


def is_frame(data: Any) -> bool:
    """Returns whether data have columns with names: frames of Polars, pandas and pyarrow, tables of lowland, Arrow streams."""
    root = type(data).__module__.partition(".")[0]
    if root == "pandas":
        return getattr(data, "ndim", 1) == 2 and all(isinstance(name, str) for name in data.columns)
    if root == "polars":
        return hasattr(data, "collect_schema")
    if root == "pyarrow" and hasattr(data, "type"):
        return False
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


@contextlib.contextmanager
def map_file(frame: Any) -> Iterator[str]:
    """Gives the path of a file of a frame's columns. Errors of bad input name it `map`."""
    if hasattr(frame, "collect_schema"):
        frame = exportable(frame.collect() if hasattr(frame, "collect") else frame)
    elif type(frame).__module__.partition(".")[0] == "pandas":
        frame = _arrow_of_pandas(frame)
    directory = TemporaryDirectory()
    where = re.compile(rf"{re.escape(directory.path)}(/[\w-]+\.spool/batches\.arrow)?")
    try:
        with rewritten(lambda text: where.sub("map", text)):
            # The engine's writer is that of sources, which asks for a column of vectors.
            source = _lowland.Source.spool(frame, _any_column(frame), directory.path, "map")
            (spool,) = os.listdir(directory.path)
            yield os.path.join(directory.path, spool, "batches.arrow")
            del source
    finally:
        directory.remove()


def points_of(path: str, coordinates: str | None) -> np.ndarray:
    """Returns the coordinates in the file of a map, rows × components."""
    for columns in [coordinates] if coordinates is not None else ["x,y", "c0,c1", None]:
        with contextlib.suppress(ValueError):
            source = _lowland.Source.paths([path], columns)
            return source.read(0, source.rows)
    _lowland.plot(path, coordinates=coordinates)  # raises the error that names the candidates
    raise ValueError("map: the columns of the coordinates were not found; name two columns by `coordinates`")


def _arrow_of_pandas(frame: Any) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ValueError(
            "map: pyarrow is needed to read a frame of pandas; or give an array, for example map[['x', 'y']].to_numpy()"
        ) from None
    return pyarrow.Table.from_pandas(frame, preserve_index=False)


def _any_column(frame: Any) -> str | None:
    """Returns the name of a column that can be read as vectors; None if the columns are not known."""
    fields = fields_of(frame)
    if fields:
        numbers = [field.name for field in fields if re.match(r"u?int|float|double", field.type, re.I)]
        lists = [field.name for field in fields if field.kind == "vector"]
        if not numbers and not lists:
            there = ", ".join(f"{field.name!r} ({field.type})" for field in fields[:20])
            raise ValueError(f"map: no columns of numbers; it has {there or 'no columns'}")
        return next(filter(can_be_listed, [*numbers, *lists]), None)
    for name in getattr(frame, "column_names", []):
        with contextlib.suppress(ValueError):
            _lowland.Source.arrow(frame, name)
            return name
    return None
