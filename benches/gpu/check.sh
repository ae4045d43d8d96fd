#!/bin/sh
# The GPU check, on a machine that has nothing but a driver, and Python with PyTorch
# for the ceilings and TorchDR: `./x gpu-build` puts it beside what it runs.
#
#     check.sh [quick | all] [directory for what it writes]
#
# quick: the kernels held against the CPU and timed, the ceilings, TorchDR; about three
# minutes. all: then whole runs of a million vectors, on the CPU and on the GPU.

set -u
here=$(cd "$(dirname "$0")" && pwd)
what=${1:-all}
work=${2:-$(mktemp -d)}
mkdir -p "$work"
failed=0

# A program of ours, on the libraries that it was built with; Python has its own.
ours() {
    program=$1
    shift
    LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$here/$program" "$@"
}

began=$(date +%s)
part() {
    printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - began))"
}

part "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>&1 || failed=1
nproc

part "the layout: GPU against CPU, then timed"
# shellcheck disable=SC2046 # a list of words
ours gpu_check 1000000 200 "$work/graph" $(printf 'ptx=%s ' "$here"/lanes-*.ptx) || failed=1

part "ceilings, and TorchDR with the same graph"
if python3 -c 'import torch' 2>/dev/null; then
    for wheel in "$here"/torchdr-*.whl; do
        # Unpacked: PyTorch's compiler reads sources.
        [ -e "$wheel" ] && python3 -m zipfile -e "$wheel" "$work/site"
    done
    PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}" timeout 150 python3 "$here/peers.py" "$work/graph" 100 || failed=1
else
    echo "no PyTorch: left out"
fi

if [ "$what" = all ]; then
    part "whole runs of 1,000,000 × 128: graphs, then maps of one"
    cd "$work" || exit 1
    ours lowland-datasets mixture --rows 1000000 --dim 128 --output v.npy || failed=1
    for device in cpu cuda; do
        ours lowland knn v.npy -o "$device.arrow" --device "$device" --memory 24GiB --force || failed=1
    done
    if cmp cuda.arrow cpu.arrow; then echo "graphs: the same bytes"; else failed=1; echo "graphs: other bytes"; fi
    mv cuda.arrow graph.arrow
    for device in cuda cpu; do
        ours lowland embed v.npy --knn graph.arrow -o "$device.npy" --device "$device" --memory 24GiB \
            --report "$device.json" --force || failed=1
        python3 - "$device.json" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
for stage in report["stages"]:
    print(stage["stage"], round(stage["seconds"], 3), "s")
print(report["quality"])
END
    done
    if cmp cuda.npy cpu.npy; then echo "maps: the same bytes"; else failed=1; echo "maps: other bytes"; fi
    ours lowland embed v.npy --knn graph.arrow -o refused.npy --device cuda:9 --memory 24GiB && failed=1
fi

part "done, failed=$failed"
exit "$failed"
