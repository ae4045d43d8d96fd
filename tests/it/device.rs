//! Where the join and the layout run: what is asked for and cannot be had is told, and no choice changes
//! the map. What a GPU does itself is `./x gpu-check`'s.

use crate::harness::TestDir;

#[test]
fn unknown_device_is_refused_with_choices() {
    let place = TestDir::new();
    place.vectors("v.npy", 200);
    for wrong in ["gpu", "cuda:first", "cuda:-1"] {
        let told = place.run(&format!("embed v.npy -o m.npy --device {wrong}"));
        assert_eq!(told.code, 2, "{}", told.stderr);
        assert!(told.stderr.contains("auto, cpu, cuda and cuda:N") && told.stderr.contains(wrong), "{}", told.stderr);
    }
}

#[test]
fn auto_falls_back_to_the_same_map() {
    let place = TestDir::new();
    place.vectors("v.npy", 400);
    let alone = place.ok("embed v.npy -o cpu.npy --n-epochs 20 --device cpu");
    assert!(!alone.stderr.contains("the layout runs on"), "{}", alone.stderr);
    let auto = place.ok("embed v.npy -o auto.npy --n-epochs 20 --device auto --device-memory 1GiB");
    assert_eq!(place.bytes("auto.npy"), place.bytes("cpu.npy"));
    // A machine without a GPU is no news to who left the choice to the program.
    assert!(!auto.stderr.contains("the layout runs on the CPU"), "{}", auto.stderr);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let place = TestDir::new();
    place.vectors("v.npy", 200);
    place.refused("embed v.npy -o m.npy --device cuda", &["cuda:0", "built without CUDA", "--features cuda", "cpu"]);
}

/// On a driver without a GPU (`tests/fake_cuda`): what is kept, sent, launched and fetched, and what goes wrong.
#[cfg(feature = "cuda")]
mod driver {
    use std::process::Command;

    use crate::harness::{CommandOutput, TestDir, answer};

    /// A place with vectors, and a driver.
    fn place(rows: u64) -> TestDir {
        let place = TestDir::new();
        place.vectors("v.npy", rows);
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let root = env!("CARGO_MANIFEST_DIR");
        let made = Command::new(compiler)
            .args(["-x", "c++", "-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-shared", "-fPIC"])
            .args(["cuda", "layout/cuda", "neighbors/cuda"].map(|dir| format!("-I{root}/engine/src/{dir}")))
            .arg(format!("{root}/tests/fake_cuda/driver.cpp"))
            .args(["-o", "libcuda.so.1", "-ldl"])
            .current_dir(place.path("."))
            .output()
            .expect("a C++ compiler, as FAISS needs one too");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        place
    }

    /// The binary on that driver, which the environment tells of faults.
    fn run(place: &TestDir, arguments: &str, faults: &[(&str, &str)]) -> CommandOutput {
        let mut command = place.command(arguments);
        command.env("LD_LIBRARY_PATH", place.path(".")).envs(faults.iter().copied());
        answer(command)
    }

    const ANY: &str = "embed v.npy --run-dir run --keep-stages graph,init --force";
    const EMBED: &str = "embed v.npy --n-epochs 12 --run-dir run --keep-stages graph,init --force";

    #[test]
    fn gpu_map_equals_cpu_map_for_any_memory() {
        let place = place(40_000);
        place.ok(&format!("{EMBED} -o cpu.npy --device cpu"));
        for (memory, kept) in [("1000000000", true), ("6500000", true), ("5900000", true), ("3000000", false)] {
            let told = run(&place, &format!("{EMBED} -o gpu.npy --device cuda"), &[("FAKE_CUDA_MEMORY", memory)]);
            assert_eq!(told.code, i32::from(!kept), "{memory}: {}", told.stderr);
            if kept {
                assert_eq!(place.bytes("gpu.npy"), place.bytes("cpu.npy"), "{memory}");
            } else {
                assert!(told.stderr.contains("a GPU that is none") && told.stderr.contains("--device cpu"));
            }
        }
        let auto = run(&place, &format!("{EMBED} -o gpu.npy --device auto --device-memory 1MiB"), &[]);
        assert!(auto.code == 0 && auto.stderr.contains("the layout runs on the CPU: "), "{}", auto.stderr);
    }

    #[test]
    fn edges_upload_from_pinned_memory_where_possible() {
        let place = place(40_000);
        place.ok(&format!("{EMBED} -o cpu.npy --device cpu"));
        let graph = 40_000 * 6 * 15;
        let told = run(&place, &format!("{EMBED} -o gpu.npy --device cuda --threads 2 --memory 17MiB"), &[]);
        let least = format!("--threads 2 --memory {}", told.stderr.split("give --memory ").nth(1).expect("it").trim());
        for (locks, memory, least, most) in [
            // All in each of twelve epochs; as many blocks as may be locked; none; as many as are in memory.
            ("1000000", "", 12 * graph, u64::MAX),
            ("1", "", 4 * graph, 8 * graph),
            ("0", "", 0, 0),
            ("1000000", &*least, 0, 8 * graph),
        ] {
            let sent = place.path("sent");
            let faults = [
                ("FAKE_CUDA_MEMORY", "5900000"),
                ("FAKE_CUDA_LOCKS", locks),
                ("FAKE_CUDA_SENT", sent.to_str().expect("a plain path")),
            ];
            let told = run(&place, &format!("{EMBED} -o gpu.npy --device cuda {memory}"), &faults);
            assert_eq!(told.code, 0, "{}", told.stderr);
            assert_eq!(place.bytes("gpu.npy"), place.bytes("cpu.npy"), "{locks} {memory}");
            let told = String::from_utf8(place.bytes("sent")).expect("numbers");
            let numbers: Vec<u64> = told.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            let [locked, others, left] = numbers[..] else { panic!("{told}") };
            assert!((least..=most).contains(&locked) && left == 0, "{locks} {memory}: {told}");
            assert!(locked + others > 12 * graph, "{locks} {memory}: {told}");
        }
    }

    /// The reader of spilled blocks has few buffers, and a group of blocks may have more of them.
    #[test]
    fn spilled_blocks_upload_through_few_buffers() {
        let place = place(150_000);
        let embed =
            "embed v.npy --n-neighbors 5 --n-epochs 3 --threads 1 --run-dir run --keep-stages graph,init --force";
        let told = run(&place, &format!("{embed} -o m.npy --device cuda --memory 17MiB"), &[]);
        let least = told.stderr.split("give --memory ").nth(1).expect("the least budget").trim();
        place.ok(&format!("{embed} -o cpu.npy --device cpu"));
        // All kept there, some kept in groups of several blocks, none.
        for memory in ["1000000000", "14000000", "9000000"] {
            for budget in ["4GiB", least] {
                let told = run(
                    &place,
                    &format!("{embed} -o gpu.npy --device cuda --memory {budget}"),
                    &[("FAKE_CUDA_MEMORY", memory)],
                );
                assert_eq!(told.code, 0, "{memory} {budget}: {}", told.stderr);
                assert_eq!(place.bytes("gpu.npy"), place.bytes("cpu.npy"), "{memory} {budget}");
            }
        }
    }

    #[test]
    fn tsne_field_is_uploaded() {
        let place = place(3000);
        let embed = format!("{ANY} --method tsne --perplexity 10 --n-epochs 40");
        place.ok(&format!("{embed} -o cpu.npy --device cpu"));
        for (memory, kept) in [("1000000000", true), ("3200000", true), ("400000", false)] {
            let told = run(&place, &format!("{embed} -o gpu.npy --device cuda"), &[("FAKE_CUDA_MEMORY", memory)]);
            assert_eq!(told.code, i32::from(!kept), "{memory}: {}", told.stderr);
            if kept {
                assert_eq!(place.bytes("gpu.npy"), place.bytes("cpu.npy"), "{memory}");
            }
        }
        // Lost midway, and taken up there: the field is that of the positions it left.
        let run = |faults| run(&place, &format!("{embed} -o gpu.npy --device cuda --checkpoint 0"), faults);
        let lost = run(&[("FAKE_CUDA_LAUNCHES", "17")]);
        assert!(lost.code == 1 && lost.stderr.contains("CUDA_ERROR_LAUNCH_FAILED"), "{}", lost.stderr);
        let again = run(&[]);
        assert!(again.code == 0 && place.bytes("gpu.npy") == place.bytes("cpu.npy"), "{}", again.stderr);
    }

    #[test]
    fn uploads_stay_within_the_budget() {
        let place = place(3000);
        let auto = run(&place, &format!("{EMBED} -o m.npy --device auto --memory 24MiB"), &[]);
        let why =
            "the layout runs on the CPU: --memory 24 MiB leaves less than 16 MiB for the upload buffers of the GPU";
        assert!(auto.code == 0 && auto.stderr.contains(why), "{}", auto.stderr);
        let auto = run(&place, &format!("{EMBED} -o m.npy --device auto --memory 100MiB"), &[]);
        assert!(auto.code == 0 && auto.stderr.contains("the layout runs on a GPU that is none"), "{}", auto.stderr);
        let asked = run(&place, &format!("{EMBED} -o m.npy --device cuda --memory 24MiB"), &[]);
        assert!(asked.code != 0 && asked.stderr.contains("the layout stage needs 3"), "{}", asked.stderr);
    }

    #[test]
    fn gpu_graph_equals_cpu_graph() {
        // More rows than are compared pair by pair.
        let place = place(66_000);
        let knn = "knn v.npy --n-neighbors 10 --recall .9 --run-dir run --keep-stages all --force";
        place.ok(&format!("{knn} --restart -o cpu.arrow --device cpu"));
        let told = run(&place, &format!("{knn} --restart -o gpu.arrow --device cuda"), &[]);
        assert!(
            told.code == 0 && told.stderr.contains("the neighbour search runs on a GPU that is none"),
            "{}",
            told.stderr
        );
        assert_eq!(place.bytes("gpu.arrow"), place.bytes("cpu.arrow"));

        // Lost after a few launches, it is gone on with elsewhere; and with too little room nothing is begun.
        let lost = run(&place, &format!("{knn} --restart -o m.arrow --device cuda"), &[("FAKE_CUDA_LAUNCHES", "2")]);
        assert!(lost.code == 1 && lost.stderr.contains("CUDA_ERROR_LAUNCH_FAILED"), "{}", lost.stderr);
        let little = run(&place, &format!("{knn} -o m.arrow --device cuda --device-memory 100KiB"), &[]);
        let why = "the neighbour search runs on the CPU: a GPU that is none: 100 KiB of its memory may be used";
        assert!(little.code == 0 && little.stderr.contains(why), "{}", little.stderr);
        assert_eq!(place.bytes("m.arrow"), place.bytes("cpu.arrow"));
    }

    #[test]
    fn cpu_resumes_a_run_whose_gpu_was_lost() {
        let place = place(3000);
        place.ok(&format!("{EMBED} -o cpu.npy --device cpu"));
        let lost =
            run(&place, &format!("{EMBED} -o m.npy --device cuda --checkpoint 0"), &[("FAKE_CUDA_LAUNCHES", "7")]);
        assert_eq!(lost.code, 1, "{}", lost.stderr);
        assert!(
            lost.stderr.contains("CUDA_ERROR_LAUNCH_FAILED") && lost.stderr.contains("continue the run"),
            "{}",
            lost.stderr
        );
        let left = std::fs::read_dir(place.path("run")).expect("the run directory");
        let is_state = |name: &str| name.starts_with("layout-") && name.ends_with(".state");
        assert!(left.into_iter().any(|entry| is_state(&entry.expect("an entry").file_name().to_string_lossy())));
        place.ok(&format!("{EMBED} -o m.npy --device cpu"));
        assert_eq!(place.bytes("m.npy"), place.bytes("cpu.npy"));
    }

    #[test]
    fn missing_gpu_fails_early_or_falls_back() {
        let place = place(300);
        for (device, faults, words) in [
            ("cuda", ("FAKE_CUDA_VERSION", "12020"), ["CUDA 12.2", "12.4 is needed"]),
            ("cuda:2", ("FAKE_CUDA_DEVICES", "2"), ["no GPU 2", "has 2"]),
            ("cuda", ("FAKE_CUDA_DEVICES", "0"), ["does not start", "--device cpu"]),
        ] {
            let told = run(&place, &format!("embed v.npy -o m.npy --device {device}"), &[faults]);
            assert_eq!(told.code, 1, "{}", told.stderr);
            assert!(words.iter().all(|word| told.stderr.contains(word)), "{}", told.stderr);
            assert!(!place.path("m.npy.run").exists());
        }
        let told = run(&place, "embed v.npy -o m.npy --device auto", &[("FAKE_CUDA_VERSION", "12020")]);
        assert!(
            told.code == 0 && told.stderr.contains("the layout runs on the CPU: the NVIDIA driver"),
            "{}",
            told.stderr
        );
        let told = run(&place, "embed v.npy -o t.npy --method sne --device cuda", &[]);
        assert!(told.code != 0 && told.stderr.contains("sne does not run on a GPU; umap"), "{}", told.stderr);
    }
}
