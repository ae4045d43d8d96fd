# %% [markdown]
# # A map of the packages of Debian 12
#
# 63,666 packages, each a vector of 64 numbers made from its description, and its section. Run this file as a script, or open
# it as a notebook (jupytext, VS Code). It writes to the directory `packages-map`.

# %%
import os
import pathlib

import lowland
import lowland.polars
import polars as pl

DATA = os.environ.get("LOWLAND_EXAMPLE_DATA", "datasets/debian-packages-64.parquet")
OUT = pathlib.Path("packages-map")
OUT.mkdir(exist_ok=True)

# %% [markdown]
# What is in the file, and what would a map of it take?

# %%
found = lowland.inspect(DATA)
print(found["rows"], "rows")
plan = lowland.plan(DATA, memory_limit="400MiB")
print(plan)

# %% [markdown]
# The map, as a stage of a query. Nothing is computed until `sink_parquet`.

# %%
packages = pl.scan_parquet(DATA)
map = packages.lowland.embed("embedding", id="name", keep="section", memory_limit="400MiB", random_state=0)
print(map.collect_schema())
map.sink_parquet(OUT / "map.parquet")

# %% [markdown]
# The picture, and the scores. In a notebook the last line of a cell is shown.

# %%
picture = lowland.plot(OUT / "map.parquet", OUT / "map.png", color="section", force=True)
scores = lowland.evaluate(OUT / "map.parquet", DATA, labels="section", id="name")
print(scores["text"])
picture

# %% [markdown]
# Which sections lie together? The LazyFrame is used again; the map is not made again.

# %%
centres = map.group_by("section").agg(pl.len(), pl.col("x", "y").median()).sort("len", descending=True)
print(centres.head(10).collect())

# %% [markdown]
# The same map as an array, from the estimator.

# %%
embedding = lowland.UMAP(random_state=0, memory_limit="400MiB", column="embedding").fit_transform(DATA)
assert (embedding == pl.read_parquet(OUT / "map.parquet").select("x", "y").to_numpy()).all()
print(embedding.shape)
