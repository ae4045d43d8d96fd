//! Where the layout runs: what is asked for and cannot be had is told, and no choice changes
//! the map. What a GPU does itself is `./x gpu-check`'s.

use crate::kit::Place;

#[test]
fn a_device_that_there_is_not_is_refused_with_those_that_there_are() {
    let place = Place::new();
    place.vectors("v.npy", 200);
    for wrong in ["gpu", "cuda:first", "cuda:-1"] {
        let told = place.run(&format!("embed v.npy -o m.npy --device {wrong}"));
        assert_eq!(told.code, 2, "{}", told.stderr);
        assert!(told.stderr.contains("auto, cpu, cuda and cuda:N") && told.stderr.contains(wrong), "{}", told.stderr);
    }
}

#[test]
fn auto_falls_back_to_the_same_map() {
    let place = Place::new();
    place.vectors("v.npy", 400);
    let alone = place.ok("embed v.npy -o cpu.npy --n-epochs 20 --device cpu");
    assert!(!alone.stderr.contains("the layout runs on"), "{}", alone.stderr);
    let auto = place.ok("embed v.npy -o auto.npy --n-epochs 20 --device auto --device-memory 1GiB");
    assert_eq!(place.bytes("auto.npy"), place.bytes("cpu.npy"));
    // A build with CUDA says why it falls back, or on what it runs.
    let lines = auto.stderr.lines().filter(|line| line.contains("the layout runs on")).count();
    assert_eq!(lines, usize::from(cfg!(feature = "cuda")), "{}", auto.stderr);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let place = Place::new();
    place.vectors("v.npy", 200);
    place.refused("embed v.npy -o m.npy --device cuda", &["cuda:0", "built without CUDA", "--features cuda", "cpu"]);
}

#[cfg(feature = "cuda")]
#[test]
fn a_gpu_that_is_not_there_is_an_error_before_any_work() {
    let place = Place::new();
    place.vectors("v.npy", 200);
    let told = place.run("embed v.npy -o m.npy --device cuda:99");
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stderr.contains("cuda:99") && told.stderr.contains("--device cpu"), "{}", told.stderr);
    let told = place.run("embed v.npy -o m.npy --method tsne --device cuda");
    assert!(told.code == 1 && told.stderr.contains("tsne has no kernel for a GPU yet"), "{}", told.stderr);
}
