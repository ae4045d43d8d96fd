"""Stored models: rows on their maps, their versions, and updates.

What must hold: a model is read and changed by its directory alone, as the command line does; a `Model` can be copied,
pickled and used by several threads.
"""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from . import _lowland
from ._errors import in_words_of_python
from ._functions import _id, _list, _names
from ._input import Input, fields_of, matching, read
from ._options import engine_options, path
from ._progress import Event, watch
from ._report import Report
from ._run_files import beside as directory_of

__all__ = ["Model", "UpdateReport"]

Path = str | os.PathLike[str]


class Model:
    """A stored map with its versions, in a directory that `lowland.embed(…, model=…)` or an estimator with `model` wrote.

    Parameters
    ----------
    path : path
        The directory.
    version : int or str, optional
        A version: its number, with or without @, or a tag. Default: the version that is current when the object is made.
        `update` and `rollback` then move the object to the version that they make current; other changes need a new `Model`.

    Examples
    --------
    >>> import lowland, numpy as np, tempfile
    >>> X = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")
    >>> directory = tempfile.mkdtemp()
    >>> map = lowland.UMAP(n_epochs=20, model=f"{directory}/map.lowland").fit_transform(X)
    >>> model = lowland.Model(f"{directory}/map.lowland")
    >>> model.version, model.rows
    (1, 300)
    >>> bool((model.transform(X[:5]) == map[:5]).all())
    True
    """

    def __init__(self, path: Path, version: int | str | None = None) -> None:
        self._open(path, version)

    def _open(self, where: Path, version: int | str | None, files: Any = None) -> None:
        found = path("path", where)
        if found is None:
            raise TypeError("path: give the directory of a model, not None")
        #: What is removed with the last model that uses it.
        self._files = files
        self._path, self._asked = os.path.abspath(found), _version(version)
        self._native: Any = None
        self._damage: Exception | None = None
        self._reload()

    def _reload(self) -> None:
        try:
            self._native = _lowland.Model.open(self._path, self._asked)
            self._damage = None
        except _lowland.LowlandError as error:
            # The versions of a damaged model can still be listed, checked and left.
            self._damage = error
            _lowland.model_versions(self._path)

    @classmethod
    def _temporary(cls, files: Any, where: str) -> Model:
        """Returns a model that is removed with the object and its copies: `files` owns its directory."""
        self = cls.__new__(cls)
        self._open(where, None, files)
        return self

    def _opened(self) -> Any:
        if self._damage is not None:
            raise self._damage
        return self._native

    @property
    def path(self) -> str:
        """The directory."""
        return self._path

    @property
    def version(self) -> int:
        """The number of the version that this object reads."""
        return self._opened().version

    @property
    def rows(self) -> int:
        """The number of rows of the map."""
        return self._opened().rows

    @property
    def n_features(self) -> int:
        """The number of components of a vector."""
        return self._opened().dim

    @property
    def n_components(self) -> int:
        """The number of components of the map."""
        return self._opened().n_components

    @property
    def options(self) -> dict[str, Any]:
        """How the map was made, and how new rows are read and placed: `"settings"`, `"column"`, `"id"`, …; `"kept"` has the
        names of the columns that the model keeps, if it keeps any."""
        return self._opened().options()

    def versions(self) -> list[dict[str, Any]]:
        """Returns all versions, the oldest first, as `lowland versions --json` prints them.

        Returns
        -------
        list of dict
            `number`, `current`, `tags`, `parent`, `created`, `action`, `accepted`, `counts`, `measures`, …; of a version whose
            record is damaged `number`, `current`, `tags` and `damaged`.
        """
        return _lowland.model_versions(self._path)

    def transform(
        self,
        X: Any,
        output: Path | None = None,
        *,
        column: str | Sequence[str] | None = None,
        id: str | None = None,
        keep: str | Sequence[str] | None = None,
        coordinates: Sequence[str] | None = None,
        form: Literal["array", "table", "file"] | None = None,
        return_ids: bool = False,
        invalid: Literal["error", "drop", "null"] = "error",
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        batch_rows: int | None = None,
        run_dir: Path | None = None,
        restart: bool = False,
        force: bool = False,
        verbose: bool = False,
        callback: Callable[[Event], None] | None = None,
    ) -> Any:
        """Places rows on the map, which does not change.

        The position of a row depends on the model and on the row alone. A copy of a row of the model gets that row's position.

        Parameters
        ----------
        X
            Rows, of every kind that `lowland.embed` takes.
        output : path, optional
            A file `.parquet`, `.arrow` or `.npy`; the result is then the report. A transform to a file that was stopped is
            continued by the same call.
        column : str or list of str, optional
            The column or columns of the vectors. Default: that of the model if X has it, otherwise as in `lowland.embed`.
        id, keep : str and list of str, optional
            The column that names the rows, and the columns beside the coordinates, in files and tables. Default of `id`: that
            of the model if X has it, otherwise row numbers.
        coordinates : list of str, optional
            The names of the coordinates. Default: x, y, z, or c0, c1, … of more than three.
        form : "array", "table" or "file"
            Default: "file" with `output`; "table" with `keep`, or with `id` without `return_ids`; otherwise "array".
        return_ids : bool, default False
            Whether the ids of the rows are returned beside an array. Tables and files have them as a column.
        invalid : {"error", "drop", "null"}, default "error"
            What happens to rows without a vector.
        memory_limit, n_jobs, batch_rows, verbose, callback
            As in `lowland.embed`. They do not change the result.
        run_dir : path, optional
            Where finished rows are kept until the transform is done. Default: beside `output`.
        restart, force : bool
            Whether an earlier run there is discarded, and whether an output may be replaced.

        Returns
        -------
        numpy.ndarray, (numpy.ndarray, numpy.ndarray), Table or Report
            An array of rows × components, float32, with `return_ids` and the array of their ids; a table of the id, the
            coordinates, `outlier` and the kept columns; or the report. Ids are numbers of their own type, or texts in an array
            of objects. `outlier` is the distance to the nearest centroid over the 99th percentile of that distance among
            the model's rows: above 1, a row is outside of their range.
        """
        output, run_dir = path("output", output), path("run_dir", run_dir)
        names = _list(keep, "keep")
        if form is None:
            is_table = bool(names) or (id is not None and not return_ids)
            form = "file" if output is not None else "table" if is_table else "array"
        options = engine_options(None, memory_limit=memory_limit, n_jobs=n_jobs, batch_rows=batch_rows)
        found = self._read(X, column, [*names, *_id(id)], run_dir or output)
        has_columns = return_ids or form != "array" and (output is None or not output.lower().endswith(".npy"))
        with watch(callback, verbose) as heard, in_words_of_python():
            placed = self._opened().transform(
                found.source, options=options, id=self._id_of(found.source, id, names) if has_columns else id, keep=names,
                coordinates=_names(coordinates), invalid=invalid, output=output, form=form, ids=bool(return_ids), run_dir=run_dir,
                restart=restart, force=force, callback=heard,
            )  # fmt: skip
        if form == "array":
            array = np.asarray(placed.coordinates)
            return (array, placed.ids) if return_ids else array
        if form == "table":
            return placed.table
        return Report.of(placed.report, *([found.note] if found.note else []))

    def _id_of(self, source: Any, id: str | None, keep: Sequence[str] = ()) -> str | None:
        """Returns the column that names the rows: the model's, if none is given and the source has it."""
        usual = self._opened().id
        return usual if id is None and usual in source.columns and usual not in keep else id

    def _read(
        self, X: Any, column: str | Sequence[str] | None, beside: Sequence[str], where: str | None, name: str = "X"
    ) -> Input:
        """Returns rows as an input of the engine. Their vectors are in the model's column, if they have it."""
        native = self._opened()
        # The model's own column of ids and those that it keeps are no features.
        beside = [*beside, *([native.id] if native.id is not None else []), *native.kept]
        directory, usual = directory_of(where), native.column
        if column is None and usual is not None:
            if isinstance(X, (str, os.PathLike)) or isinstance(X, (list, tuple)) and X and isinstance(X[0], (str, os.PathLike)):
                with contextlib.suppress(ValueError):
                    return read(X, usual, beside=beside, name=name, directory=directory, least=1)
            elif matching(usual, _columns(X)):
                column = usual
        return read(X, column, beside=beside, name=name, directory=directory, least=1)

    def update(
        self,
        source: Any,
        *,
        id: str | None = None,
        column: str | Sequence[str] | None = None,
        changes: bool = False,
        mode: Literal["auto", "transform", "refit"] = "auto",
        move: Literal["none", "dirty"] = "none",
        gates: str | Sequence[str] = (),
        run_id: str | None = None,
        max_shrink: float = 0.2,
        refit_when: str | None = None,
        invalid: Literal["error", "drop"] = "error",
        memory_limit: int | str | None = None,
        n_jobs: int | None = None,
        metrics_file: Path | None = None,
        wait: bool = True,
        verbose: bool = False,
        callback: Callable[[Event], None] | None = None,
    ) -> UpdateReport:
        """Brings the model up to date with a table, and publishes the result as a new version.

        Readers take the new version when it is complete. An update that was stopped is continued by the same call.

        Parameters
        ----------
        source
            The *whole* current table: files, a frame, Arrow data, … Rows are compared by id, and by their vectors. It has the
            columns that the model keeps; they are stored for rows whose vector is new, and for all rows by a refit.
        id : str, optional
            The column that names the rows. Default: that of the model.
        column : str or list of str, optional
            The column or columns of the vectors. Default: that of the model.
        changes : bool
            Whether the source has only the rows that were added, changed or deleted, as its column `change` says: "added",
            "changed" or "deleted". A deleted row needs no vector. A refit needs the whole table.
        mode : {"auto", "transform", "refit"}
            "transform" keeps the positions of old rows and places new ones among them; "refit" computes the whole map anew
            from the old positions, and lays it on the old map; "auto" refits when `refit_when` says so.
        move : {"none", "dirty"}
            Which rows of the model an update by transform may move: "none", or "dirty" ones, whose neighbours change. A spring
            and a cap hold these near to where they were. A refit moves all rows, and "refit" with "dirty" is an error.
        gates : str or list of str
            Conditions such as "recall>=0.9, moved_p95<=0.02". A version that fails one is kept and does not become current.
        run_id : str, optional
            The name of this run, such as a date. A run that was published before does nothing. One that a gate refused is
            judged again if the table is the same, and makes a version anew from another one.
        max_shrink : float
            The largest share of the rows that may be missing in the table. More is an error.
        refit_when : str, optional
            When "auto" refits: shares of rows added and deleted since the last refit, and of outliers among the last new rows.
            Default: "added>0.1, deleted>0.2".
        invalid : {"error", "drop"}
            What happens to rows without a vector.
        memory_limit, n_jobs, verbose, callback
            As in `lowland.embed`.
        metrics_file : path, optional
            A file for counts and measures in Prometheus' text format; replaced by rename.
        wait : bool
            Whether to wait while another process changes the model. Otherwise that is an error.

        Returns
        -------
        UpdateReport
            A version that a gate refused is no error: see `UpdateReport.raise_for_refusal`.
        """
        options = engine_options(None, memory_limit=memory_limit, n_jobs=n_jobs)
        found = self._read(source, column, [*_id(id), *(["change"] if changes else [])], self._path, "source")
        with watch(callback, verbose) as heard, in_words_of_python("source"):
            told = _lowland.model_update(
                self._path, found.source, options=options, changes=changes, id=id, mode=mode, move=move,
                gates=_list(gates, "gates"), run_id=run_id, max_shrink=max_shrink, refit_when=refit_when, invalid=invalid,
                metrics_file=path("metrics_file", metrics_file), wait=wait, callback=heard,
            )  # fmt: skip
        report = UpdateReport(told)
        if self._asked is None:
            self._reload()
        return report

    def rollback(self, to: int | str, *, wait: bool = True) -> int:
        """Makes an earlier version current, as a new version with its content. Nothing is computed or copied.

        Parameters
        ----------
        to : int or str
            A version. One that a gate refused is accepted by this.

        Returns
        -------
        int
            The number of the new version.
        """
        number = _lowland.model_rollback(self._path, str(_version(to, "to")), wait=wait)
        if self._asked is None:
            self._reload()
        return number

    def tag(self, name: str, version: int | str | None = None, *, wait: bool = True) -> int:
        """Gives a version a name, which stands for its number. Returns the number.

        Parameters
        ----------
        name : str
            The tag. One that exists is moved.
        version : int or str, optional
            Default: the version that this object reads.
        """
        asked = _version(version) if version is not None else str(self.version)
        return _lowland.model_tag(self._path, name, asked, wait=wait)

    def untag(self, name: str, *, wait: bool = True) -> None:
        """Removes a tag. The version stays."""
        _lowland.model_untag(self._path, name, wait=wait)

    def gc(
        self, keep: int = 14, keep_tagged: bool = True, dry_run: bool = False, *, wait: bool = True
    ) -> dict[str, Any]:
        """Removes old versions, and the files that only they need. The current and the newest version always stay.

        Parameters
        ----------
        keep : int, default 14
            Number of newest versions that stay.
        keep_tagged : bool, default True
            Whether versions with a tag stay too.
        dry_run : bool, default False
            Whether to only tell what would be removed.

        Returns
        -------
        dict
            `versions`, `tags`, `files`, `bytes`, `dry_run`.
        """
        return _lowland.model_gc(self._path, keep, keep_tagged=keep_tagged, dry_run=dry_run, wait=wait)

    def verify(self) -> list[dict[str, str]]:
        """Compares every file of the model with its checksum.

        Returns
        -------
        list of dict
            For each damaged file its name, `file`, and `what` is wrong; empty if there is none.
        """
        return _lowland.model_verify(self._path)

    def diff(self, a: int | str, b: int | str | None = None) -> dict[str, Any]:
        """Compares two versions, whose rows are matched by id.

        Parameters
        ----------
        a, b : int or str
            The versions. Default of `b`: the version that this object reads.

        Returns
        -------
        dict
            `added`, `changed`, `deleted`, `unchanged`, `moved` (distances over the radius of the first map), `placed_anew` (the
            same of rows whose vector changed in between, or that left and came again), `measures`, …
        """
        second = _version(b, "b") if b is not None else str(self.version)
        return _lowland.model_diff(self._path, str(_version(a, "a")), second)

    def export(
        self,
        output: Path | None = None,
        *,
        form: Literal["array", "table", "file"] | None = None,
        return_ids: bool = False,
        coordinates: Sequence[str] | None = None,
        force: bool = False,
        verbose: bool = False,
        callback: Callable[[Event], None] | None = None,
    ) -> Any:
        """Returns the version as a table: id, coordinates, the columns that the model keeps, `added_in`, `moved`, and
        `neighbors` with their ids and distances; or as an array of the coordinates.

        Parameters
        ----------
        output : path, optional
            A file `.parquet` or `.arrow`; the result is then the report.
        form : "array", "table" or "file"
            Default: "file" with `output`, otherwise "table".
        return_ids : bool, default False
            Whether the ids of the rows are returned beside an array. Tables and files have them as a column.
        coordinates : list of str, optional
            The names of the coordinates in a file. Default: x, y, z, or c0, c1, … of more than three.
        force : bool
            Whether the file may be replaced.

        Returns
        -------
        Table, numpy.ndarray, (numpy.ndarray, numpy.ndarray) or Report
            The array has rows × components, float32, in the order of the table; with `return_ids` the second array has the
            ids: integers of their own type, or texts in an array of objects.

        Examples
        --------
        >>> import lowland, numpy as np, tempfile
        >>> X = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")
        >>> directory = f"{tempfile.mkdtemp()}/map.lowland"
        >>> fitted = lowland.UMAP(n_epochs=20, model=directory).fit(X)
        >>> map, ids = lowland.Model(directory).export(form="array", return_ids=True)
        >>> map.shape, ids.shape
        ((300, 2), (300,))
        >>> bool((map[ids.argsort()] == fitted.embedding_).all())
        True
        """
        forms = ["array", "table", "file"]
        if form is None:
            form = "file" if output is not None else "table"
        if form not in forms:
            raise ValueError(f"form: {form!r} is not a form; the forms are {', '.join(forms)}")
        if (form == "file") != (output is not None):
            raise ValueError("output: only form='file' has one" if output is not None else "output: a file needs a name")
        if return_ids and form != "array":
            raise ValueError("return_ids: a table and a file have the ids as a column; take form='array'")
        if form == "array":
            if coordinates is not None:
                raise ValueError("coordinates: an array has no names; name an output")
            with in_words_of_python():
                array, ids = self._opened().positions(ids=bool(return_ids))
            return (array, ids) if return_ids else array
        with watch(callback, verbose) as heard, in_words_of_python():
            found = self._opened().export(
                output=path("output", output), coordinates=_names(coordinates), force=force, callback=heard
            )
        return found.table if output is None else Report.of(found.report)

    def __repr__(self) -> str:
        if self._damage is not None:
            return f"<lowland.Model {self._path}: damaged>"
        return f"<lowland.Model {self._path}, version {self.version}, {self.rows:,} rows>"

    def __copy__(self) -> Model:
        return self.__deepcopy__()

    def __deepcopy__(self, memo: Any = None) -> Model:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        # A pickle names the directory. It does not own a temporary one, and reads the version that it was made of.
        asked = self._asked if self._native is None else str(self._native.version)
        return {"path": self._path, "version": asked, "temporary": self._files is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["temporary"] and not os.path.isdir(state["path"]):
            raise FileNotFoundError(
                "the model of this fit was a temporary one, and is gone with the estimator that was fitted; fit with "
                "model='map.lowland' to keep it"
            )
        self._open(state["path"], state["version"])


class UpdateReport:
    """What an update did.

    Attributes
    ----------
    outcome : str
        "published", "unchanged", "already-published" (the run was published before) or "refused" (by a gate).
    version : int or None
        The new version, or that of the same run.
    parent : int
        The version before.
    mode, why : str or None, str
        What was done, "transform" or "refit", and why.
    counts : dict
        `rows`, `added`, `changed`, `deleted`, `unchanged`.
    left_out : dict or None
        With `invalid="drop"` the rows of the table without a usable vector: how many `rows`, `of` how many, and their `kinds`.
    measures : dict or None
        The measures of the new version: `recall`, `trustworthiness`, `moved_p95`, …
    gates : list of dict
        For each gate `gate`, what was `measured`, and whether it `passed`.
    run_id : str
        The name of the run.
    seconds : float
        Wall time.
    text : str
        One line for people.
    json : dict
        The report as `lowland update --json` prints it.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.json = {name: value for name, value in told.items() if name != "text"}
        self.text: str = told["text"]
        self.outcome: str = told["outcome"]
        self.version: int | None = told["version"]
        self.parent: int = told["parent"]
        self.mode: str | None = told["mode"]
        self.why: str = told["why"]
        self.counts: dict[str, int] = told["counts"]
        self.left_out: dict[str, Any] | None = told["left_out"]
        self.measures: dict[str, float | None] | None = told["measures"]
        self.gates: list[dict[str, Any]] = told["gates"]
        self.run_id: str = told["run_id"]
        self.seconds: float = told["seconds"]

    @property
    def refused(self) -> bool:
        """Whether a gate refused the version: it is kept, and readers do not take it."""
        return self.outcome == "refused"

    def raise_for_refusal(self) -> None:
        """Raises `LowlandError` if a gate refused the version."""
        if self.refused:
            raise _lowland.LowlandError(f"{self.text}; Model.rollback({self.version}) accepts it nevertheless")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<lowland.UpdateReport: {self.text}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def _version(version: Any, name: str = "version") -> str | None:
    """Returns a version as the engine takes it: a text."""
    if version is None or isinstance(version, str):
        return version
    if isinstance(version, bool) or not hasattr(version, "__index__"):
        raise TypeError(f"{name}: give the number of a version or a tag, not {type(version).__name__}")
    return str(version.__index__())


def _columns(data: Any) -> list[str]:
    """Returns the names of a frame's columns; none of other data."""
    if type(data).__module__.partition(".")[0] == "pandas":
        return [name for name in getattr(data, "columns", []) if isinstance(name, str)]
    # A LazyFrame warns at `columns`.
    has_fields = hasattr(data, "collect_schema") or hasattr(data, "schema") or hasattr(data, "columns")
    return [field.name for field in fields_of(data)] if has_fields else []
