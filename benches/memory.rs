//! Planned against measured peak memory for a table of shapes and budgets.
//!
//! `cargo bench --release --bench memory`, or with a word that a line must
//! have. Sources are made below the target directory, 2 GB of them, and stay
//! there. Ends with 1 where a peak is above its plan, or more than 15 % below.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

#[path = "../tests/it/shapes.rs"]
mod shapes;

use std::process::ExitCode;

use lowland_datasets::OutputDtype;
use shapes::Case;

fn main() -> ExitCode {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory");
    std::fs::create_dir_all(&dir).expect("a directory");
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let case = |kind, rows, dim, dtype, format, k, memory| Case { kind, rows, dim, dtype, format, k, memory };
    let (f16, f32, f64) = (OutputDtype::F16, OutputDtype::F32, OutputDtype::F64);
    let cases = [
        case("mixture", 65_000, 768, f32, "parquet", 5, "600MiB"),
        case("mixture", 50_000, 384, f32, "arrow", 15, "4GiB"),
        case("mixture", 50_000, 384, f16, "npy", 15, "120MiB"),
        case("mixture", 200_000, 128, f32, "parquet", 50, "400MiB"),
        case("mixture", 200_000, 128, f16, "arrow", 15, "150MiB"),
        case("mixture", 300_000, 64, f32, "npy", 15, "300MiB"),
        case("mixture", 300_000, 64, f64, "parquet", 30, "200MiB"),
        case("uniform", 300_000, 32, f32, "npy", 15, "200MiB"),
        case("mixture", 100_000, 32, f32, "parquet", 15, "1GiB"),
        case("mixture", 1_000_000, 16, f32, "npy", 15, "1GiB"),
        case("mixture", 1_000_000, 16, f32, "npy", 15, "200MiB"),
        case("mixture", 1_000_000, 128, f32, "parquet", 15, "400MiB"),
        case("mixture", 1_000_000, 128, f32, "parquet", 15, "2GiB"),
        case("sphere", 500_000, 96, f32, "arrow", 15, "250MiB"),
    ];
    let mut good = true;
    println!("| rows | dim | type | file | k | budget | planned MiB | measured MiB | ratio |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in cases {
        let head = format!(
            "| {} {} | {} | {:?} | {} | {} | {} |",
            case.kind, case.rows, case.dim, case.dtype, case.format, case.k, case.memory
        );
        if !head.contains(&word) {
            continue;
        }
        let peaks = case.run(&dir);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let ratio = peaks.ratio();
        println!("{head} {:.1} | {:.1} | {ratio:.3} |", mib(peaks.planned), mib(peaks.measured));
        for (stage, planned, measured) in &peaks.stages {
            eprintln!("    {stage:<10} {:>8.1} {:>8.1}", mib(*planned), mib(*measured));
        }
        good &= (1.0..=1.15).contains(&ratio);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
