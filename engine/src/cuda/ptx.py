"""Compiles layout.cu and join.cu, with lanes.cuh, to kernels.ptx: run by `./x gpu-kernels`.

NVRTC 12.4 (PyPI's nvidia-cuda-nvrtc-cu12) needs neither a GPU nor a driver; its PTX for
compute_75 runs on every GPU since Turing, with any driver that supports CUDA 12.4.

    python3 ptx.py OUT [NVRTC options…]
"""

import ctypes
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = [HERE / "lanes.cuh", HERE.parent / "layout" / "cuda" / "layout.cu", HERE.parent / "neighbors" / "cuda" / "join.cu"]
# No contraction, since the CPU code contracts nothing either.
OPTIONS = ["-arch=compute_75", "-fmad=false", "-std=c++17"]


def fingerprint(data):
    """Returns the 64-bit FNV-1a hash, which the test of kernels.ptx computes too."""
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

    # Included files are passed by name; the program consists of their includes.
    texts, names = [path.read_bytes() for path in SOURCES], [path.name.encode() for path in SOURCES]
    whole = b"".join(b'#include "%s"\n' % name for name in names)
    refused = library.nvrtcCreateProgram(
        ctypes.byref(program), whole, b"kernels.cu", len(names), strings(texts), strings(names)
    ) or library.nvrtcCompileProgram(program, len(options), strings([o.encode() for o in options]))
    if refused:
        sys.exit(said(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog))
    return said(library.nvrtcGetPTXSize, library.nvrtcGetPTX)


def main():
    out, options = sys.argv[1], sys.argv[2:]
    ptx = compiled(OPTIONS + options)
    # Comments only name inlined functions. Without them the entries directly follow the header, as `only`
    # in mod.rs expects.
    lines = [line for line in ptx.splitlines() if line and not line.lstrip().startswith("//")]
    found = fingerprint(b"".join(path.read_bytes() for path in SOURCES))
    head = f"// By ./x gpu-kernels from {', '.join(path.name for path in SOURCES)}, FNV-1a {found:016x}."
    Path(out).write_text("\n".join([head, *lines, ""]))


main()
