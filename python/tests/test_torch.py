"""PyTorch: tensors, and the DataLoader of TorchDR's guide."""

from __future__ import annotations

import numpy as np
import pytest

import lowland

from conftest import clusters

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return clusters()


@pytest.fixture(scope="module")
def expected(rows):
    return lowland.UMAP(n_epochs=15).fit_transform(rows)


def make(data):
    return lowland.UMAP(n_epochs=15).fit_transform(data)


def test_tensors(rows, expected, same):
    assert same(make(torch.from_numpy(rows)), expected)
    assert same(make(torch.from_numpy(rows).requires_grad_()), expected)
    assert same(make(torch.from_numpy(rows.T.copy()).T), expected)
    assert same(make(list(torch.from_numpy(rows))), expected)
    half = torch.from_numpy(rows).bfloat16()
    assert same(make(half), make(half.float()))
    with pytest.raises(TypeError, match="to_dense"):
        make(torch.from_numpy(rows).to_sparse())


def test_the_example_of_torchdrs_guide(rows):
    """The guide's lines, with only the import changed."""
    X = torch.from_numpy(rows)
    torchdr = lowland
    dataset = TensorDataset(X)  # X is your large tensor
    dataloader = DataLoader(dataset, batch_size=10000)
    model = torchdr.UMAP(n_neighbors=15, backend="faiss")
    embedding = model.fit_transform(dataloader)
    assert embedding.shape == (300, 2) and np.isfinite(embedding).all()


@pytest.mark.parametrize(
    "kind", [lowland.LargeVis, lowland.InfoTSNE, lowland.TSNE, lowland.PaCMAP, lowland.SNE, lowland.PCA]
)
def test_loaders_with_every_kind_of_method(kind, rows, same):
    options = {} if kind is lowland.PCA else {"n_epochs": 15}
    loader = DataLoader(TensorDataset(torch.from_numpy(rows), torch.arange(300)), batch_size=64)
    assert same(kind(**options).fit_transform(loader), kind(**options).fit_transform(rows))


def test_loaders(rows, expected, same):
    X = torch.from_numpy(rows)
    assert same(make(DataLoader(X, batch_size=64)), expected)
    assert same(make(DataLoader(TensorDataset(X), batch_size=64, num_workers=2)), expected)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(X)

    assert same(make(DataLoader(Stream(), batch_size=64)), expected)
    with pytest.raises(ValueError, match="RandomSampler.*shuffle=False"):
        make(DataLoader(TensorDataset(X), batch_size=64, shuffle=True))
    with pytest.warns(lowland.LowlandWarning, match="last 44 rows"):
        assert make(DataLoader(TensorDataset(X), batch_size=64, drop_last=True)).shape == (256, 2)
    with pytest.raises(TypeError, match="DataLoader"):
        make(TensorDataset(X))
