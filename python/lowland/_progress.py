"""What a run tells while it works: warnings to `warnings`, notes to `logging`, everything to the caller's function, and
a bar on the terminal.

The engine calls the function that `watch` gives on the thread that called lowland, never from its own threads.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Event = dict[str, Any]

logger = logging.getLogger("lowland")


class LowlandWarning(UserWarning):
    """A warning of a run, such as a map without extent. `docs/outputs.md` lists them."""


@contextlib.contextmanager
def watch(
    callback: Callable[[Event], None] | None = None, verbose: bool | int = False
) -> Iterator[Callable[[Event], None]]:
    """Gives the function that takes a run's events.

    Parameters
    ----------
    callback : callable, optional
        Is called with each event: a dict with `kind` ("start", "progress", "end", "note" or "warning"), `stage`, `done`,
        `total`, `unit` and `text`. An exception in it stops the run, and is raised.
    verbose : bool
        Whether progress is shown on standard error: a bar on terminals, lines of text elsewhere.
    """
    heard, shown = listener(callback, verbose)
    try:
        yield heard
    finally:
        if isinstance(shown, Bar):
            shown.close()


def listener(
    callback: Callable[[Event], None] | None, verbose: bool | int
) -> tuple[Callable[[Event], None], Bar | Lines | None]:
    """Returns the function that takes a run's events, and what shows them."""
    if callback is not None and not callable(callback):
        raise ValueError(f"callback: {type(callback).__name__} cannot be called; give a function of one event")
    shown = _shown_on(sys.stderr) if verbose else None

    def heard(event: Event) -> None:
        kind, text = event.get("kind"), str(event.get("text") or "")
        if shown is not None:
            shown(event)
        if kind == "warning":
            warnings.warn(text, LowlandWarning, stacklevel=_depth_outside())
        elif kind == "note":
            logger.info("%s", text)
        elif kind in ("start", "end"):
            logger.debug("%s: %s%s", event.get("stage"), kind, f", {text}" if text else "")
        if callback is not None:
            callback(event)

    return heard, shown


def _depth_outside() -> int:
    """Returns the stacklevel of the first frame outside of lowland, to which a warning is attributed."""
    package = __name__.partition(".")[0]
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in (package, "contextlib"):
            break
        frame, depth = frame.f_back, depth + 1
    return depth


def _shown_on(stream: TextIO) -> Bar | Lines:
    return Bar(stream) if stream is not None and stream.isatty() else Lines(stream)


class Bar:
    """A bar in one line of a terminal, at most ten times a second: stage, share, amount."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.drawn, self.begun = stream, 0.0, time.monotonic()
        self.open = False

    def __call__(self, event: Event) -> None:
        kind, now = event.get("kind"), time.monotonic()
        if kind in ("note", "warning"):
            self.close()
            if kind == "note":
                print(f"lowland: {event.get('text')}", file=self.stream)
            return
        if kind == "progress" and now - self.drawn < 0.1:
            return
        if kind == "start":
            self.begun = now
        self.drawn = now
        width = shutil.get_terminal_size().columns
        print(
            "\r" + self.line(event, now - self.begun)[: width - 1].ljust(width - 1),
            end="",
            file=self.stream,
            flush=True,
        )
        self.open = True
        if kind == "end":
            self.close()

    @staticmethod
    def line(event: Event, seconds: float) -> str:
        """Returns the text of the bar."""
        stage, done, total = str(event.get("stage") or ""), event.get("done") or 0, event.get("total") or 0
        if event.get("kind") == "end":
            return f"{stage:<12}{seconds:8.1f} s"
        if not total:
            return f"{stage:<12}{done:,} {event.get('unit') or ''}"
        filled = min(20, 20 * done // total)
        return f"{stage:<12}{'█' * filled}{'░' * (20 - filled)} {100 * done // total:3d} %  {done:,} of {total:,} {event.get('unit') or ''}"

    def close(self) -> None:
        """Ends the line of the bar."""
        if self.open:
            print(file=self.stream, flush=True)
            self.open = False


class Lines:
    """Lines of text, for notebooks and logs: one for each stage that ends, and each note."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.begun = stream, time.monotonic()

    def __call__(self, event: Event) -> None:
        kind = event.get("kind")
        if kind == "start":
            self.begun = time.monotonic()
        elif kind == "end":
            print(Bar.line(event, time.monotonic() - self.begun), file=self.stream, flush=True)
        elif kind == "note":
            print(f"lowland: {event.get('text')}", file=self.stream, flush=True)
