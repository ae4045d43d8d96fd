"""The native half of the package. `lowland` is its public face; a test compares this file with the module."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

__version__: str

_Path = str | PathLike[str]
_Callback = Callable[[dict[str, Any]], None]
_Invalid = Literal["error", "drop", "null"]

class LowlandError(Exception): ...

class BudgetError(LowlandError, MemoryError):
    needed: int
    budget: int

class Source:
    @staticmethod
    def paths(paths: Sequence[str], column: str | None = None) -> Source: ...
    @staticmethod
    def array(values: NDArray[Any], name: str = "X") -> Source: ...
    @staticmethod
    def arrow(data: Any, column: str | None = None, name: str = "data") -> Source: ...
    @staticmethod
    def spool(
        batches: Iterable[Any],
        column: str | None = None,
        directory: _Path | None = None,
        name: str = "batches",
        interrupt: bool = False,
    ) -> Source: ...
    def read(self, start: int, stop: int, dtype: Literal["f4", "f8"] = "f4") -> NDArray[Any]: ...
    @property
    def rows(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def spooled_bytes(self) -> int: ...

class Schema:
    @property
    def column_names(self) -> list[str]: ...
    def __arrow_c_schema__(self) -> object: ...

class Table:
    @property
    def column_names(self) -> list[str]: ...
    @property
    def schema(self) -> Schema: ...
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class Batch:
    @property
    def column_names(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class Report:
    @property
    def text(self) -> str: ...
    @property
    def summary(self) -> str: ...
    def to_json(self) -> str: ...

class Plan:
    @property
    def text(self) -> str: ...
    @property
    def peak(self) -> int: ...
    @property
    def disk(self) -> int: ...
    @property
    def seconds(self) -> float | None: ...
    def to_json(self) -> str: ...

class Result:
    @property
    def report(self) -> Report: ...
    @property
    def coordinates(self) -> NDArray[np.float32] | None: ...
    @property
    def table(self) -> Table | None: ...

class Batches:
    @property
    def schema(self) -> Schema: ...
    @property
    def report(self) -> Report | None: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Batch: ...

class Graph:
    @staticmethod
    def open(path: _Path) -> Graph: ...
    @staticmethod
    def arrays(indices: NDArray[np.int64], distances: NDArray[np.float32], metric: str | None = None) -> Graph: ...
    def to_numpy(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    @property
    def indices(self) -> NDArray[np.int64]: ...
    @property
    def distances(self) -> NDArray[np.float32]: ...
    @property
    def path(self) -> Any: ...
    @property
    def rows(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def metric(self) -> str | None: ...
    @property
    def report(self) -> Report | None: ...

class PcaModel:
    @property
    def mean(self) -> NDArray[np.float64]: ...
    @property
    def components(self) -> NDArray[np.float64]: ...
    @property
    def explained_variance(self) -> NDArray[np.float64]: ...
    @property
    def explained_variance_ratio(self) -> NDArray[np.float64]: ...
    @property
    def total_variance(self) -> float: ...
    @property
    def n_components(self) -> int: ...
    def transform(self, rows: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def inverse_transform(self, scores: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def whitened(self) -> PcaModel: ...

class PcaResult:
    @property
    def model(self) -> PcaModel: ...
    @property
    def scores(self) -> NDArray[np.float32] | None: ...
    @property
    def text(self) -> str: ...
    def to_json(self) -> str: ...
    def __getattr__(self, name: str) -> Any: ...

class IncrementalPca:
    def __new__(cls, n_components: int | None = None) -> Self: ...
    def partial_fit(self, rows: NDArray[np.float32]) -> None: ...
    @property
    def count(self) -> int: ...
    def pca(self) -> PcaModel: ...

class ExactIncrementalPca:
    def __new__(cls, dim: int) -> Self: ...
    def partial_mean(self, rows: NDArray[np.float32]) -> None: ...
    def partial_fit(self, rows: NDArray[np.float32]) -> None: ...
    def mean(self) -> NDArray[np.float64]: ...
    def finish(self, n_components: int) -> PcaModel: ...

class KernelPca:
    @staticmethod
    def fit(
        rows: NDArray[np.float32],
        kernel: str,
        n_components: int | None = None,
        *,
        sigma: float = 1.0,
        degree: int = 3,
        gamma: float = 1.0,
        coef0: float = 1.0,
    ) -> KernelPca: ...
    @property
    def eigenvalues(self) -> NDArray[np.float64]: ...
    def scores(self) -> NDArray[np.float32]: ...
    def transform(self, rows: NDArray[np.float32]) -> NDArray[np.float32]: ...

def run_cli(argv: Sequence[str]) -> int: ...
def methods() -> list[str]: ...
def options() -> list[dict[str, Any]]: ...
def plan(
    source: Source | None = None,
    *,
    graph: Graph | _Path | None = None,
    options: Mapping[str, Any] | None = None,
    id: str | None = None,
    keep: Sequence[str] | None = None,
    invalid: _Invalid | None = None,
    stage: Literal["map", "graph"] = "map",
    run_dir: _Path | None = None,
) -> Plan: ...
def embed(
    source: Source | None = None,
    *,
    graph: Graph | _Path | None = None,
    options: Mapping[str, Any] | None = None,
    id: str | None = None,
    keep: Sequence[str] | None = None,
    coordinates: Sequence[str] | None = None,
    invalid: _Invalid | None = None,
    output: _Path | None = None,
    form: Literal["array", "table", "file"] = "array",
    run_dir: _Path | None = None,
    restart: bool = False,
    force: bool = False,
    strict: bool = False,
    callback: _Callback | None = None,
    interrupt: bool = False,
) -> Result: ...
def embed_batches(
    source: Source | None = None,
    *,
    graph: Graph | _Path | None = None,
    options: Mapping[str, Any] | None = None,
    id: str | None = None,
    keep: Sequence[str] | None = None,
    coordinates: Sequence[str] | None = None,
    invalid: _Invalid | None = None,
    run_dir: _Path | None = None,
    restart: bool = False,
    strict: bool = False,
    callback: _Callback | None = None,
) -> Batches: ...
def knn(
    source: Source,
    *,
    options: Mapping[str, Any] | None = None,
    invalid: _Invalid | None = None,
    output: _Path | None = None,
    run_dir: _Path | None = None,
    restart: bool = False,
    force: bool = False,
    strict: bool = False,
    callback: _Callback | None = None,
    interrupt: bool = False,
) -> Graph: ...
def pca(
    source: Source,
    *,
    options: Mapping[str, Any] | None = None,
    id: str | None = None,
    keep: Sequence[str] | None = None,
    coordinates: Sequence[str] | None = None,
    invalid: _Invalid | None = None,
    output: _Path | None = None,
    components: _Path | None = None,
    force: bool = False,
    callback: _Callback | None = None,
    interrupt: bool = False,
) -> PcaResult: ...
def evaluate(
    map: Source | _Path,
    source: Source | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    graph: Graph | _Path | None = None,
    labels: Sequence[str] | None = None,
    weights: str | None = None,
    id: str | None = None,
    coordinates: str | None = None,
    invalid: _Invalid | None = None,
    callback: _Callback | None = None,
) -> dict[str, Any]: ...
def plot(
    map: _Path,
    *,
    color: str | None = None,
    source: Source | None = None,
    coordinates: str | None = None,
    width: int = 1600,
    height: int = 1200,
    dark: bool = False,
    title: str | None = None,
    output: _Path | None = None,
    force: bool = False,
    callback: _Callback | None = None,
) -> bytes: ...
def plot_array(
    points: NDArray[np.float32],
    *,
    color: NDArray[np.int64] | NDArray[np.float64] | Sequence[str] | None = None,
    width: int = 1600,
    height: int = 1200,
    dark: bool = False,
    title: str | None = None,
    output: _Path | None = None,
    force: bool = False,
) -> bytes: ...
def inspect(source: Source, *, memory: int | str | None = None) -> dict[str, Any]: ...
def runs(directories: Sequence[_Path] | None = None) -> list[dict[str, Any]]: ...
