//! First positions come from where the option says: random numbers, a file, principal components or centroids.

use lowland_engine::evaluate::mean_and_interval;
use lowland_engine::{Config, Error, Init};

use crate::harness::{
    attempt, check_finite, first_positions, graph_of, inputs_of, mixture, open_run, plan_of, quick, run, write_npy,
};

#[test]
fn first_positions_come_from_what_the_option_names() {
    let table = mixture(3_000, 10);
    let start = |config: &Config| first_positions(&run(config, &table));
    let config = |init: Init| Config { init: Some(init), n_epochs: Some(1), ..quick() };

    let random = start(&config(Init::Random));
    check_finite(&random, 10.02);
    let (mean, interval) = mean_and_interval(&random.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let deviation = interval / 1.96 * (random.len() as f64).sqrt();
    assert!(mean.abs() < 2.0 * interval && (deviation - 10.0 / 3f64.sqrt()).abs() < 0.15, "{mean} {deviation}");
    assert_ne!(random, start(&Config { seed: 1, ..config(Init::Random) }));

    // Given positions, in the source's order, moved by no more than the jitter.
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("start.npy");
    let given: Vec<f32> = (0..6_000).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
    write_npy(&path, &given, 2);
    let from_file = start(&config(Init::File(path.clone())));
    assert!(from_file.iter().zip(&given).all(|(a, b)| (a - b).abs() <= 0.0101), "not the file's positions");
    let wrong = Config { n_components: Some(3), ..config(Init::File(path)) };
    let plan = plan_of(&wrong, &table);
    let refused =
        attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()).expect_err("3 of 2 components");
    assert!(matches!(refused, Error::Config { field: "init", .. }), "{refused}");

    // PCA: each axis is uncorrelated with the other, and wider than it; the data's own order is kept on it.
    let pca = start(&config(Init::Pca));
    check_finite(&pca, 10.02);
    let axis = |c: usize| pca.iter().skip(c).step_by(2).map(|&x| f64::from(x)).collect::<Vec<_>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (x, y) = (axis(0), axis(1));
    assert!(dot(&x, &x) > dot(&y, &y));
    assert!(dot(&x, &y).abs() < 1e-2 * dot(&y, &y), "{} {}", dot(&x, &y), dot(&y, &y));

    // Centroids, and 5,000 rows so that there are enough of them: near rows start near.
    let table = mixture(5_000, 10);
    let run = run(&config(Init::Centroid), &table);
    assert!(run.plan.has_centroids());
    let begun = first_positions(&run);
    check_finite(&begun, 60.0);
    let graph = graph_of(&plan_of(&config(Init::Centroid), &table), &table);
    let far = |a: usize, b: usize| (begun[2 * a] - begun[2 * b]).hypot(begun[2 * a + 1] - begun[2 * b + 1]);
    let (mut near, mut any) = (0.0, 0.0);
    for row in 0..5_000 {
        near += far(row, graph.0[row * 15] as usize);
        any += far(row, (row * 7919 + 1) % 5_000);
    }
    assert!(near < 0.25 * any, "{near} {any}");
}
