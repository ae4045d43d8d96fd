"""The engine's errors in the words of Python's arguments.

What must hold: an error of bad input names the argument that the caller gave, not a temporary file that was made of it.
An error of the system keeps the path, because the path says which disk is full or broken.
"""

from __future__ import annotations

import contextlib
import re
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

#: The file of a source that was copied to disk.
_SPOOL = re.compile(r"(?:^|(?<=[\s(\"`]))/[^\n:\"`]*?lowland-\d+-\d+\.spool/batches\.arrow")

#: What the engine says of an output that is there already.
_FORCE = "pass `force` to replace it"


@contextlib.contextmanager
def rewritten(change: Callable[[str], str]) -> Iterator[None]:
    """Changes the text of errors of bad input that are raised meanwhile."""
    try:
        yield
    except (ValueError, TypeError, FileExistsError) as error:
        error.args = tuple(change(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise


def in_words_of_python(name: str = "X") -> contextlib.AbstractContextManager[None]:
    """Gives errors the words of Python: `name` for a source that was copied to disk, and `force=True`."""
    return rewritten(lambda text: _SPOOL.sub(lambda _: name, text).replace(_FORCE, "give force=True to replace it"))


def shown(value: Any) -> str:
    """Returns a value that was refused, in a few words."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of the shape {shape}"
    return reprlib.repr(value)
