"""Temporary directories, and what happens to them when Python ends.

When Python ends, its other threads stop where they are, perhaps in the middle of the removal of a directory. So
directories are listed until they are removed wholly, and the end of Python removes those that are left.

What must hold: the native module stops all calls and waits for them before directories are removed. Python calls exit
functions in the reverse of the order in which they were registered, so that this module is imported before the native one.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile

#: Each directory, and the process that made it: a forked child removes none of its parent's.
_directories: dict[str, int] = {}


def make_directory(parent: str | None = None) -> str:
    """Makes a directory that only its user can read, in `parent` or where temporary files are."""
    parent = os.path.abspath(parent or tempfile.gettempdir())
    while True:
        path = os.path.join(parent, f"lowland-{secrets.token_hex(4)}")
        # Listed first, so that the end of Python finds it.
        _directories[path] = os.getpid()
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            del _directories[path]
        except BaseException:
            del _directories[path]
            raise
        else:
            return path


def remove_directory(path: str) -> None:
    """Removes a directory that this process made."""
    if _directories.get(path) == os.getpid():
        shutil.rmtree(path, ignore_errors=True)
        _directories.pop(path, None)


def _remove_all() -> None:
    for path in list(_directories):
        remove_directory(path)


atexit.register(_remove_all)
