//! The native module `lowland._lowland`: the library for Python.
//!
//! What must hold: it is thin. Arithmetic is in `engine`, bytes at rest in `io`, jobs in the facade;
//! here values of Python become theirs and back. No thread exists when the module is imported.
//!
//! - `watch.rs`: one call of the engine, its events and signals; `interrupt.rs`: SIGINT on other threads than
//!   Python's main thread.
//! - `alive.rs`: the calls and threads that the interpreter's exit stops and waits for.
//! - `errors.rs`: errors as exceptions.
//! - `options.rs`, `request.rs`: options and arguments.
//! - `source.rs`: sources in memory, in files, and of batches that are read once;
//!   `stream.rs`: Arrow data of Python; `temporary.rs`: directories of temporary files.
//! - `embed.rs`, `knn.rs`, `pca.rs`, `plan.rs`, `look.rs`: the functions; `model.rs`: stored models.
//! - `table.rs`, `report.rs`: results.

mod alive;
mod embed;
mod errors;
mod ids;
mod interrupt;
mod knn;
mod look;
mod model;
mod options;
mod pca;
mod plan;
mod report;
mod request;
mod source;
mod stream;
mod table;
mod temporary;
mod watch;

use pyo3::prelude::*;

/// Runs the command line `argv`, whose first is the program's name, and returns the exit code.
#[pyfunction]
fn run_cli(py: Python<'_>, argv: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| {
        lowland::allocator::prepare();
        lowland::command_line(argv)
    })
}

/// The native half of the package lowland.
#[pymodule]
fn _lowland(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    check_processor()?;
    quiet_decoding();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("LowlandError", errors::lowland_error(py)?)?;
    module.add("BudgetError", errors::budget_error(py)?)?;
    module.add_class::<source::PySource>()?;
    module.add_class::<embed::PyRunResult>()?;
    module.add_class::<embed::Batches>()?;
    module.add_class::<table::PyTable>()?;
    module.add_class::<table::PyBatch>()?;
    module.add_class::<table::PySchema>()?;
    module.add_class::<report::PyReport>()?;
    module.add_class::<plan::PyPlan>()?;
    module.add_class::<knn::PyGraph>()?;
    module.add_class::<model::PyModel>()?;
    module.add_class::<model::PyPlaced>()?;
    module.add_class::<pca::PcaModel>()?;
    module.add_class::<pca::PcaResult>()?;
    module.add_class::<pca::PyIncrementalPca>()?;
    module.add_class::<pca::PyExactIncrementalPca>()?;
    module.add_class::<pca::PyKernelPca>()?;
    module.add_function(wrap_pyfunction!(run_cli, module)?)?;
    module.add_function(wrap_pyfunction!(options::methods, module)?)?;
    module.add_function(wrap_pyfunction!(options::options, module)?)?;
    module.add_function(wrap_pyfunction!(plan::plan, module)?)?;
    module.add_function(wrap_pyfunction!(embed::embed, module)?)?;
    module.add_function(wrap_pyfunction!(embed::embed_batches, module)?)?;
    module.add_function(wrap_pyfunction!(knn::knn, module)?)?;
    module.add_function(wrap_pyfunction!(pca::pca, module)?)?;
    module.add_function(wrap_pyfunction!(look::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(look::plot, module)?)?;
    module.add_function(wrap_pyfunction!(look::plot_array, module)?)?;
    module.add_function(wrap_pyfunction!(look::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(look::runs, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_versions, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_diff, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_rollback, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_tag, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_untag, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_gc, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_verify, module)?)?;
    module.add_function(wrap_pyfunction!(model::model_update, module)?)?;
    let wait = wrap_pyfunction!(alive::wait_for_all, module)?;
    py.import("atexit")?.call_method1("register", (wait,))?;
    Ok(())
}

/// Refuses a processor without the instructions for which FAISS and zstd are compiled: x86-64-v3, as
/// `.cargo/config.toml` says. Such a processor would end the process at the first of them.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> PyResult<()> {
    let there = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("BMI2", is_x86_feature_detected!("bmi2")),
        ("F16C", is_x86_feature_detected!("f16c")),
    ];
    let missing: Vec<&str> = there.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(pyo3::exceptions::PyImportError::new_err(format!(
        "lowland needs a processor with AVX2 (x86-64-v3: Intel from 2013 on, AMD from 2015 on), and this one lacks {}; use \
         another machine, or give a virtual machine the processor type of its host",
        missing.join(", ")
    )))
}

/// Other processors have no variants to check.
#[cfg(not(target_arch = "x86_64"))]
fn check_processor() -> PyResult<()> {
    Ok(())
}

/// A damaged page makes a library panic, and lowland turns this panic into an error, so the panic
/// itself is not printed.
fn quiet_decoding() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lowland_io::is_decoding() {
            tell(panic);
        }
    }));
}
