//! Compiles the C++ shim against the FAISS that `faiss-sys` built, with the
//! same instruction set, since inline FAISS code must agree on both sides. With
//! `--cfg lowland_no_faiss` there is nothing to compile.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src/index/shim.cpp");
    if env::var_os("CARGO_CFG_LOWLAND_NO_FAISS").is_some() {
        return;
    }
    let root = PathBuf::from(env::var("DEP_FAISS_C_ROOT").expect("faiss-sys names its root"));
    cc::Build::new()
        .cpp(true)
        .file("src/index/shim.cpp")
        .include(root.join("include"))
        .define("FINTEGER", "int")
        .std("c++17")
        .flag("-fopenmp")
        .warnings(false)
        .compile("lowland_faiss_shim");
    // After the shim on the linker's line, so that its undefined names are found.
    println!("cargo:rustc-link-lib=static=faiss");
    println!("cargo:rustc-link-lib=gomp");
    println!("cargo:rustc-link-lib=blas");
    println!("cargo:rustc-link-lib=lapack");
}
