"""Makes kernels.ptx of kernels.cu and lanes.cuh: `./x gpu-kernels` runs it.

NVRTC 12.4 (PyPI's nvidia-cuda-nvrtc-cu12) needs neither a GPU nor a driver; its PTX for
compute_75 runs on every GPU from Turing on, under any driver that knows CUDA 12.4.

    python3 ptx.py OUT [NVRTC options…]
"""

import ctypes
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ["kernels.cu", "lanes.cuh"]
# No contraction: the CPU contracts nothing either.
OPTIONS = ["-arch=compute_75", "-fmad=false", "-std=c++17"]


def fingerprint(data):
    """FNV-1a of 64 bits: what the test of kernels.ptx computes as well."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return found


def nvrtc():
    import nvidia.cuda_nvrtc

    (library,) = Path(list(nvidia.cuda_nvrtc.__path__)[0]).glob("lib/libnvrtc.so.*")
    return ctypes.CDLL(str(library))


def compiled(options):
    library, program = nvrtc(), ctypes.c_void_p()
    strings = lambda texts: (ctypes.c_char_p * len(texts))(*texts)

    def said(size_of, text_of):
        size = ctypes.c_size_t()
        size_of(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        text_of(program, text)
        return text.value.decode()

    source, header = [(HERE / name).read_bytes() for name in SOURCES]
    refused = library.nvrtcCreateProgram(
        ctypes.byref(program), source, b"kernels.cu", 1, strings([header]), strings([b"lanes.cuh"])
    ) or library.nvrtcCompileProgram(program, len(options), strings([o.encode() for o in options]))
    if refused:
        sys.exit(said(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog))
    return said(library.nvrtcGetPTXSize, library.nvrtcGetPTX)


def main():
    out, options = sys.argv[1], sys.argv[2:]
    ptx = compiled(OPTIONS + options)
    # Comments only name what was inlined; entries then follow the header, as `only` in device.rs expects.
    lines = [line for line in ptx.splitlines() if line and not line.lstrip().startswith("//")]
    found = fingerprint(b"".join((HERE / name).read_bytes() for name in SOURCES))
    head = f"// By ./x gpu-kernels from {' and '.join(SOURCES)}, FNV-1a {found:016x}."
    Path(out).write_text("\n".join([head, *lines, ""]))


main()
