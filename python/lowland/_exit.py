"""The order of what happens when Python ends.

Python calls exit functions in the reverse of the order in which they were registered. `weakref` registers one with the
first finalizer of the process, which removes temporary directories; the native module registers one when it is imported,
which stops all calls and waits for them. What must hold: the wait comes first, so that no call writes into a directory
that was removed; and a directory that is made after the finalizers have run is removed by its maker (`is_ending`). So
this module is imported before the native one.
"""

from __future__ import annotations

import atexit
import weakref


class _Nothing:
    pass


weakref.finalize(_Nothing(), int)
_ending: list[bool] = []
# Before the finalizers, because it is registered after them.
atexit.register(_ending.append, True)


def is_ending() -> bool:
    """Returns whether Python is ending, and finalizers are no longer called."""
    return bool(_ending)
