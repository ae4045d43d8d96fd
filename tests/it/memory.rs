//! The memory budget against real limits: what is granted is found, a plan
//! beyond it is refused, and a run within it is not killed.

use lowland_datasets::OutputDtype;
use serde_json::Value;

use crate::cgroup::Limited;
use crate::harness::{TestDir, answer, note};
use crate::shapes::Case;

const MIB: u64 = 1 << 20;

/// What the other tests rest on: the group does kill, and does tell.
#[test]
fn a_process_beyond_its_limit_is_killed() {
    let Some(limited) = Limited::new(50 * MIB) else { return };
    let mut holder = std::process::Command::new("bash");
    holder.args(["-c", "head -c 200000000 /dev/zero | tail -c 150000000 >/dev/null"]);
    assert_ne!(answer(limited.command(&holder)).code, 0);
    assert_eq!(limited.oom_kills(), 1);
    assert!(limited.peak().is_none_or(|peak| peak > 45 * MIB && peak <= 50 * MIB), "{:?}", limited.peak());
}

#[test]
fn the_budget_is_half_of_the_cgroups_limit() {
    let Some(limited) = Limited::new(600 * MIB) else { return };
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    for (option, budget) in [("", 300 * MIB), (" --memory 25%", 150 * MIB), (" --memory 1GiB", 1024 * MIB)] {
        let command = place.command(&format!("inspect v.npy --json{option}"));
        let found = answer(limited.command(&command));
        assert_eq!(found.code, 0, "{}", found.stderr);
        let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
        assert_eq!(found["plan"]["config"]["memory"], budget, "{option}");
    }
}

#[test]
fn a_plan_beyond_the_limit_is_refused_before_any_work() {
    let Some(limited) = Limited::new(65 * MIB) else { return };
    let place = TestDir::new();
    // So many that a large budget is put to use, and a smaller one would do.
    place.wide_vectors("v.npy", 400_000, 32, OutputDtype::F32);
    let file = limited.limit_file().to_string_lossy().into_owned();
    let words = ["--memory: the plan takes ", "the cgroup limit in ", &file, " is 65 MiB; give --memory 58MiB or less"];
    for arguments in
        ["embed v.npy -o m.npy --memory 4GiB --threads 2", "knn v.npy -o g.arrow --memory 4GiB --threads 2"]
    {
        answer(limited.command(&place.command(arguments))).refused(arguments, &words);
        assert_eq!(place.names(), ["v.npy"]);
    }
    // A budget beyond the limit is no plan beyond it.
    let Some(limited) = Limited::new(300 * MIB) else { return };
    place.vectors("few.npy", 200);
    let found = answer(limited.command(&place.command("knn few.npy -o g.arrow --memory 1GiB")));
    assert_eq!(found.code, 0, "{}", found.stderr);
}

/// The vectors and the run's files are more than the limit: the page cache
/// must give way, and what the run allocates must leave room for it.
#[test]
fn a_run_within_its_budget_is_not_killed() {
    const LIMIT: u64 = 160 * MIB;
    let Some(limited) = Limited::new(LIMIT) else { return };
    // Not where files may be memory: those of a tmpfs count against the limit.
    let place = TestDir::on_disk();
    place.wide_vectors("v.npy", 100_000, 128, OutputDtype::F64);
    let command = "--n-neighbors 10 --n-epochs 10 --recall 0.3 --threads 2 --quiet";
    place.ok(&format!("embed v.npy -o free.npy --memory 2GiB {command}"));
    let arguments = format!("embed v.npy -o bound.npy --memory 130MiB --run-dir run {command}");
    let found = answer(limited.command(&place.command(&arguments)));
    assert_eq!((found.code, limited.oom_kills()), (0, 0), "{}", found.stderr);
    let files = std::fs::read_dir(place.path("run")).expect("the run directory");
    let files: u64 = files.map(|f| f.and_then(|f| f.metadata()).map_or(0, |m| m.len())).sum();
    let touched = files + place.bytes("v.npy").len() as u64;
    assert!(touched > LIMIT, "{touched} bytes are too few to reach the limit");
    if let Some(peak) = limited.peak() {
        assert!(peak <= LIMIT, "{peak}");
    }
    assert!(place.bytes("free.npy") == place.bytes("bound.npy"), "the map differs");
}

/// The bench `memory` has the large ones.
#[test]
fn measured_memory_stays_within_plan() {
    let place = TestDir::on_disk();
    let case = |rows, dim, dtype, format, k, memory| Case { kind: "mixture", rows, dim, dtype, format, k, memory };
    for case in [
        case(30_000, 256, OutputDtype::F32, "npy", 10, "1GiB"),
        case(30_000, 256, OutputDtype::F16, "arrow", 10, "200MiB"),
        case(70_000, 64, OutputDtype::F64, "parquet", 10, "75MiB"),
    ] {
        let peaks = case.run(&place.path("."));
        note(&format!("{case:?}: {peaks:?}"));
        for (stage, planned, measured) in &peaks.stages {
            assert!(measured <= planned, "{stage} of {case:?}: {peaks:?}");
        }
        // Peaks are sampled, and a busy machine misses some: the bench is stricter.
        assert!(peaks.ratio() <= 1.7, "{case:?}: {peaks:?}");
    }
}
