//! The CUDA kernels on a CPU: the C++ compiler compiles them with `lanes.cuh`.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::{KERNELS, PTX_ENTRY, extract_kernel};

/// The sources, which are written to a temporary directory for compilation.
const SOURCES: [(&str, &str); 3] = [
    ("lanes.cuh", include_str!("lanes.cuh")),
    ("layout.cu", include_str!("../layout/cuda/layout.cu")),
    ("join.cu", include_str!("../neighbors/cuda/join.cu")),
];
/// A source that includes all others.
const ALL_SOURCES: &str = "#include \"layout.cu\"\n#include \"join.cu\"\n";
/// Runs the C++ compiler in `dir`, where the sources are written.
pub(crate) fn compile(dir: &Path, arguments: &[&str]) {
    for (name, text) in SOURCES.into_iter().chain([("kernels.cu", ALL_SOURCES)]) {
        std::fs::write(dir.join(name), text).expect("written");
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut words = compiler.split_whitespace();
    let out = Command::new(words.next().unwrap_or("c++"))
        .args(words)
        // No contraction, since CUDA's intrinsics are never contracted either.
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("a C++ compiler, as FAISS needs one too");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Returns the kernel `name`, compiled for the CPU.
#[expect(unsafe_code, reason = "FFI: a library of our own")]
pub(crate) fn kernel_symbol(name: &str) -> *mut c_void {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    let library = *LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        compile(dir.path(), &["-x", "c++", "-shared", "-fPIC", "kernels.cu", "-o", "kernels.so"]);
        let path = CString::new(dir.path().join("kernels.so").to_str().expect("UTF-8")).expect("no NUL");
        // SAFETY: the library was just compiled and runs no code when it is loaded. It stays loaded after
        // its file is deleted.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        // SAFETY: the loader's string is read at once.
        assert!(!library.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        library as usize
    });
    let symbol = CString::new(name).expect("no NUL");
    // SAFETY: the library is open.
    let found = unsafe { libc::dlsym(library as *mut c_void, symbol.as_ptr()) };
    assert!(!found.is_null(), "no kernel {name}");
    found
}

#[test]
fn ptx_matches_sources_and_has_every_kernel_once() {
    let bytes = SOURCES.iter().flat_map(|(_, text)| text.bytes());
    let found =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let expected = format!("FNV-1a {found:016x}.");
    let head = KERNELS.lines().next().unwrap_or_default();
    assert!(head.ends_with(&expected), "kernels.ptx is out of date, run ./x gpu-kernels: {head}");
    let methods = ["umap", "largevis", "infotsne", "pacmap"];
    let layouts =
        methods.iter().flat_map(|method| crate::layout::KERNEL_WIDTHS.map(|width| format!("{method}_{width}")));
    for name in layouts.chain(["join".into()]) {
        let one = extract_kernel(KERNELS, &name);
        assert_eq!(one.matches(PTX_ENTRY).count(), 1, "{name}");
        assert!(one.starts_with("// ") && one.contains(".target sm_75") && one.trim_end().ends_with('}'));
    }
}
