//! The files that may contain `unsafe`. That each block says why it is sound is clippy's to check
//! (`undocumented_unsafe_blocks`).

use proc_macro2::{TokenStream, TokenTree};

use crate::Source;

/// Every file of the workspace with `unsafe` in it, and what for. A file that is not here fails the test, and so
/// does one that is here without need.
pub const FILES: &[(&str, &str)] = &[
    ("benches/limits.rs", "measures the instructions of the kernels one at a time"),
    ("benches/versus/crates/src/lib.rs", "asks the system for the memory of a peer program"),
    ("engine/src/coded/mod.rs", "SIMD: run-time dispatch"),
    ("engine/src/coded/products.rs", "SIMD: run-time dispatch"),
    ("engine/src/cuda/gpu.rs", "FFI: the CUDA driver"),
    ("engine/src/cuda/pinned.rs", "FFI: page-locked memory"),
    ("engine/src/cuda/shim.rs", "test: calls CUDA kernels compiled for the CPU"),
    ("engine/src/index/faiss.rs", "FFI: FAISS"),
    ("engine/src/layout/cuda/device_state.rs", "FFI: launches kernels"),
    ("engine/src/layout/cuda/edge_upload.rs", "FFI: page-locked memory"),
    ("engine/src/layout/cuda/shim.rs", "test: calls CUDA kernels compiled for the CPU"),
    ("engine/src/neighbors/cuda/gpu_join.rs", "FFI: launches kernels"),
    ("engine/src/neighbors/cuda/mod.rs", "test: calls CUDA kernels compiled for the CPU"),
    ("engine/src/pages.rs", "a system call: large pages"),
    ("engine/src/simd/neon.rs", "SIMD: the instructions of aarch64"),
    ("engine/src/simd/neon/sums.rs", "SIMD: the instructions of aarch64"),
    ("engine/src/simd/x86.rs", "SIMD: the instructions of each instruction set"),
    ("io/src/durable.rs", "a system call: to make a name durable"),
    ("io/src/file_lock.rs", "a system call: the host's name"),
    ("io/src/mapped.rs", "memory maps of our own finished files"),
    ("io/tests/fuzz.rs", "test: an allocator that counts"),
    ("python/src/interrupt.rs", "a system call: the handler of SIGINT"),
    ("python/src/source.rs", "FFI: the memory of arrays of NumPy"),
    ("src/allocator.rs", "the settings of the C library's allocator"),
    ("src/disk.rs", "a system call: advice for the measurement of a disk"),
    ("src/machine.rs", "a system call: the memory of the machine"),
    ("src/polars/convert.rs", "FFI: Arrow's C data interface between Polars and Arrow"),
    ("tests/polars.rs", "test: memory whose owner tells when it is dropped"),
];

/// The lines of a file on which the word `unsafe` is code.
///
/// # Panics
/// Where the file is not Rust.
pub fn lines(file: &Source) -> Vec<usize> {
    let tokens: TokenStream = file.text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.path));
    let mut lines = Vec::new();
    collect(tokens, &mut lines);
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn collect(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == "unsafe" => lines.push(word.span().start().line),
            TokenTree::Group(group) => collect(group.stream(), lines),
            _ => {}
        }
    }
}

/// How `files` differ from the list `allowed`, in words.
pub fn violations(files: &[Source], allowed: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines = lines(file);
        let listed = allowed.iter().any(|(path, _)| *path == file.path);
        match (lines.first(), listed) {
            (Some(line), false) => {
                found.push(format!("{}:{line}: `unsafe` in a file that is not in the list", file.path));
            }
            (None, true) => found.push(format!("{} has no `unsafe`; remove it from the list", file.path)),
            _ => {}
        }
    }
    let missing = allowed.iter().filter(|(path, _)| !files.iter().any(|file| file.path == *path));
    found.extend(missing.map(|(path, _)| format!("there is no {path}; remove it from the list")));
    found
}
