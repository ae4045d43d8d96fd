"""What the GPU can do, and what TorchDR's UMAP does there with the same graph: part of `./x gpu-check`.

    python3 peers.py GRAPH [epochs]

GRAPH is the directory that gpu_check wrote: degrees.u32, neighbors.u32, weights.f32. Needs PyTorch;
without torchdr (PYTHONPATH) only the ceilings are measured.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch


ON = "cuda" if torch.cuda.is_available() else "cpu"


def line(what, found):
    print(f"{what:<58} {found}", flush=True)


def seconds(work, times=20):
    """Of one call, by events, after three to warm up."""
    for _ in range(3):
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / times


def synchronize():
    if ON == "cuda":
        torch.cuda.synchronize()


def ceilings():
    device = torch.cuda.get_device_properties(0)
    line("device", f"{device.name}, {device.multi_processor_count} multiprocessors, {device.total_memory >> 30} GiB")
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    took = seconds(lambda: b.copy_(a))
    line("copy within its memory, read and written", f"{2 * a.nbytes / took / 1e12:.2f} TB/s")
    del a, b
    torch.backends.cuda.matmul.allow_tf32 = False
    m = torch.randn(8192, 8192, device="cuda")
    took = seconds(lambda: m @ m, 5)
    line("f32 multiply-adds (product of 8192 × 8192)", f"{2 * 8192**3 / took / 1e12:.1f} Tflop/s")
    positions = torch.randn(1_000_000, 2, device="cuda").view(torch.float64).squeeze(1)
    places = torch.randint(0, 1_000_000, (1 << 25,), device="cuda", dtype=torch.int32)
    out = torch.empty(1 << 25, dtype=torch.float64, device="cuda")
    took = seconds(lambda: torch.index_select(positions, 0, places, out=out))
    line("positions of 8 bytes gathered at random from 8 MB", f"{places.numel() / took / 1e9:.1f} G/s")
    host, there = torch.empty(1 << 26).pin_memory(), torch.empty(1 << 26, device="cuda")
    took = seconds(lambda: there.copy_(host, non_blocking=True))
    line("host to device, page-locked, 256 MiB at a time", f"{host.nbytes / took / 1e9:.1f} GB/s")
    host, there = host[: 1 << 23], there[: 1 << 23]
    took = seconds(lambda: there.copy_(host, non_blocking=True))
    line("host to device, page-locked, 32 MiB at a time", f"{host.nbytes / took / 1e9:.1f} GB/s")


def graph(directory, most=64):
    """Padded rows as TorchDR takes them: weights, and neighbours with -1 where there are none."""
    read = lambda name, dtype: torch.from_numpy(np.fromfile(Path(directory) / name, dtype=dtype))
    degrees = read("degrees.u32", np.uint32).to(torch.int64)
    neighbors, weights = read("neighbors.u32", np.uint32).to(torch.int64).to(ON), read("weights.f32", np.float32).to(ON)
    degrees = degrees.to(ON)
    begin = degrees.cumsum(0) - degrees
    row = torch.repeat_interleave(torch.arange(len(degrees), device=ON), degrees)
    place = torch.arange(len(neighbors), device=ON) - begin[row]
    # Hubs would widen every row: they lose what is beyond, which is less work for TorchDR.
    kept = place < most
    row, place, neighbors, weights = row[kept], place[kept], neighbors[kept], weights[kept]
    indices = torch.full((len(degrees), most), -1, dtype=torch.int64, device=ON)
    affinity = torch.zeros((len(degrees), most), device=ON)
    indices[row, place], affinity[row, place] = neighbors, weights
    return affinity, indices, len(neighbors)


def torchdr(directory, epochs):
    from torchdr import UMAP
    from torchdr.affinity import UMAPAffinity

    affinity, indices, edges = graph(directory)

    class Given(UMAPAffinity):
        def __call__(self, X, return_indices=False, **_):
            return (affinity, indices) if return_indices else affinity

    class Timed(UMAP):
        def on_training_step_start(self):
            super().on_training_step_start()
            if int(self.n_iter_) == epochs // 10:
                synchronize()
                self.began = time.perf_counter()

    rows = affinity.shape[0]
    start = 20 * torch.rand(rows, 2, device=ON) - 10
    for compiled in (False, True):
        try:
            umap = Timed(
                n_neighbors=16, max_iter=epochs, device=ON, backend=None, init=start.clone(), init_scaling=5.8,
                random_state=1, compile=compiled,
            )
            given = Given(n_neighbors=16, device=ON, backend=None)
            umap.affinity_in = given
            # Rows that are alike would be merged.
            umap.fit_transform(torch.rand(rows, 2, device=ON))
            synchronize()
            took = (time.perf_counter() - umap.began) / (epochs - epochs // 10)
            line(
                f"TorchDR UMAP, compile={compiled}, {rows} rows, {edges} edges",
                f"{took * 1e3:.3f} ms an epoch, 200 in {took * 200:.2f} s",
            )
        except Exception as error:  # a row of the table, not the end of it
            line(f"TorchDR UMAP, compile={compiled}", f"failed: {type(error).__name__}: {str(error)[:300]}")


def main():
    if ON == "cuda":
        ceilings()
    else:
        line("device", "no GPU: only whether this runs")
    try:
        import torchdr as _
    except ImportError as error:
        line("TorchDR", f"not here: {error}")
        return
    torchdr(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)


main()
