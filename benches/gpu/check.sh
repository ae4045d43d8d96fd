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
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
failed=0

part() {
    printf '\n== %s (%s s)\n' "$1" "$SECONDS_BEGUN"
}
began=$(date +%s)
now() {
    SECONDS_BEGUN=$(($(date +%s) - began))
}

now
part "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>&1 || failed=1
nproc

now
part "the layout: GPU against CPU, then timed"
# shellcheck disable=SC2046 # a list of words
"$here/gpu_check" 1000000 200 "$work/graph" $(printf 'ptx=%s ' "$here"/lanes-*.ptx) || failed=1

now
part "ceilings, and TorchDR with the same graph"
if python3 -c 'import torch' 2>/dev/null; then
    for wheel in "$here"/torchdr-*.whl; do
        [ -e "$wheel" ] && PYTHONPATH="$wheel${PYTHONPATH:+:$PYTHONPATH}" && export PYTHONPATH
    done
    timeout 150 python3 "$here/peers.py" "$work/graph" 100 || failed=1
else
    echo "no PyTorch: left out"
fi

if [ "$what" = all ]; then
    now
    part "whole runs of 1,000,000 × 32: the graph once, then maps of it"
    cd "$work" || exit 1
    "$here/lowland-datasets" mixture --rows 1000000 --dim 32 --output v.npy || failed=1
    "$here/lowland" knn v.npy -o graph.arrow --memory 24GiB --force || failed=1
    for device in cuda cpu; do
        "$here/lowland" embed v.npy --knn graph.arrow -o "$device.npy" --device "$device" --memory 24GiB \
            --report "$device.json" --force || failed=1
        python3 - "$device.json" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
for stage in report["stages"]:
    print({k: stage[k] for k in stage if k in ("stage", "seconds", "name", "elapsed")})
print({k: v for k, v in (report.get("quality") or {}).items()})
END
    done
    if cmp cuda.npy cpu.npy; then echo "maps: the same bytes"; else failed=1; echo "maps: other bytes"; fi
    "$here/lowland" embed v.npy --knn graph.arrow -o refused.npy --device cuda:9 --memory 24GiB && failed=1
fi

now
part "done, failed=$failed"
exit "$failed"
