//! Units: what a long stage leaves when it is stopped, and what the next process makes of it. Runs are stopped after
//! each unit and resumed under another budget, with other threads and other batches: the bytes are those of a run that
//! was never stopped, and no finished unit is made again.

use std::sync::Mutex;

use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::affinity::{self, AffinityStats};
use lowland_engine::neighbors::{self, KnnGraph};
use lowland_engine::{Config, Error, Event, Plan, Stage, StageFiles, index, layout, methods, positions};

use crate::harness::{
    Lcg, MemoryGraph, StageDir, StopRule, TestTable, UnitEvent, UnitLog, after, attempt, edges_of, files, inputs_of,
    made, mixture, never, open_run, plan_of, plan_of_graph, quick, random_graph, reused, run_plan, write_graph,
};

/// Checks that a resumed run reuses all units of the stage in which it was stopped, and makes none of them again.
/// `first`: the units until the stop; `second`: those after it.
fn check_found(name: &str, first: &[UnitEvent], second: &[UnitEvent]) {
    let under_way = first.last().expect("a unit").0;
    let mut left: Vec<_> = first.iter().filter(|told| told.0 == under_way).map(|told| (told.0, &*told.1)).collect();
    left.dedup();
    // With all edges finished nobody asks for the transpose.
    left.retain(|&(_, unit)| unit != "transpose" || first.last().is_some_and(|told| told.1 == unit));
    assert_eq!(reused(second), left, "{name}");
    for (stage, unit) in made(second) {
        assert!(!left.contains(&(stage, unit)), "{name}: {unit} is made again");
    }
}

/// A plan with which a run of few rows has several shards and transposes its edges on disk.
fn in_portions(config: &Config, table: &std::sync::Arc<TestTable>, shard_rows: usize, runs: u64) -> Plan {
    let mut plan = plan_of(config, table);
    *plan.portions().shard_rows = shard_rows;
    *plan.portions().run_bytes = affinity::run_bytes(&plan).1 / runs;
    *plan.portions().cache_bytes = 0;
    plan
}

#[test]
fn resume_after_any_unit_makes_no_unit_again() {
    let table = mixture(4_000, 6);
    let config = Config { batch_rows: Some(300), ..quick() };
    let plan = in_portions(&config, &table, 450, 5);
    let other = Config { threads: Some(1), batch_rows: Some(1_000), memory: 1 << 30, ..config.clone() };
    let others = [in_portions(&other, &table, 1_300, 3), plan_of(&other, &table)];
    let whole = run_plan(plan_of(&config, &table), &inputs_of(&table));
    let expected = files(&whole.dir);

    let run = |plan: &Plan, dir: &lowland_io::RunDir, stop: StopRule<'_>| {
        let ear = UnitLog::new(stop);
        let result = attempt(plan, &inputs_of(&table), dir, &ear);
        (result, ear.told())
    };
    let place = tempfile::tempdir().expect("a directory");
    let (result, unbroken) = run(&plan, &open_run(place.path(), &plan), &never);
    assert!(result.expect("a run").1 == whole.map, "portions change the map");
    let shards = (0..9).map(|shard| (Stage::Index, format!("shard-{shard:03}")));
    let names = [(Stage::Neighbors, "neighbors-000"), (Stage::Affinity, "transpose"), (Stage::Affinity, "edges-000")];
    let names = names.map(|(stage, unit)| (stage, unit.to_string()));
    let expected_units: Vec<_> =
        std::iter::once((Stage::Index, "quantizer".to_string())).chain(shards).chain(names).collect();
    assert_eq!(made(&unbroken), expected_units.iter().map(|(stage, unit)| (*stage, &**unit)).collect::<Vec<_>>());

    for n in 1..=unbroken.len() {
        for (i, next) in [(0, &plan), (1, &others[n % 2])] {
            let name = format!("stopped after {}, then plan {i}", unbroken[n - 1].1);
            let place = tempfile::tempdir().expect("a directory");
            let (result, first) = run(&plan, &open_run(place.path(), &plan), &after(n));
            assert!(matches!(result, Err(Error::Cancelled { .. })), "{name}");
            assert_eq!(first, unbroken[..n], "{name}");
            let dir = open_run(place.path(), next);
            let (result, second) = run(next, &dir, &never);
            let (_, map) = result.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(map == whole.map, "{name}: the map differs");
            assert!(files(&dir) == expected, "{name}: a file differs");
            check_found(&name, &first, &second);
            if i == 0 {
                let both: Vec<_> = made(&first).into_iter().chain(made(&second)).collect();
                assert_eq!(both, made(&unbroken), "{name}");
            }
            // Only what the manifest lists, the manifest and the lock.
            let there = std::fs::read_dir(dir.dir()).expect("a directory").count();
            assert_eq!(there, dir.manifest().files().count() + 2, "{name}: files left behind");
        }
    }
}

/// Three parts of neighbours: the windows that a resumed join takes begin elsewhere.
#[test]
fn resume_of_the_join_starts_after_its_last_part() {
    let all = ["sample", "round-1", "neighbors-000", "neighbors-001", "neighbors-002"];
    check_join(264_000, 2, 0.3, &all);
}

/// The same where the graph of one round leads the next.
#[test]
fn resume_of_the_join_starts_within_a_round() {
    let first = ["sample", "round-1", "round-1-000", "round-1-001"];
    let second = ["round-2", "round-2-000", "round-2-001"];
    let last = ["round-3", "neighbors-000", "neighbors-001"];
    check_join(140_000, 16, 0.99, &[&first[..], &second, &last].concat());
}

/// Stops a join over so many components after each of its units, which are `all`, and goes on.
fn check_join(rows: usize, dim: usize, recall: f64, all: &[&str]) {
    let table = TestTable::of(DatasetKind::Mixture(Mixture { components: 300, ..Mixture::default() }), rows, dim, 3);
    let config = Config { n_neighbors: Some(3), recall, memory: 256 << 20, ..quick() };
    let plan = plan_of(&config, &table);
    let mut other = plan_of(&Config { threads: Some(3), ..config }, &table);
    (*other.portions().portion_rows, *other.portions().window_rows) = (3_000, rows * 4 / 7);
    let place = tempfile::tempdir().expect("a directory");
    let indexed = open_run(place.path(), &plan);
    let stop = UnitLog::new(|e: &Event<'_>, _: &[UnitEvent]| matches!(e, Event::Start { stage: Stage::Neighbors, .. }));
    attempt(&plan, &inputs_of(&table), &indexed, &stop).expect_err("stopped after the index");
    let lists = index::open(indexed.dir()).expect("lists");

    let join = |bench: &StageDir, plan: &Plan, stop: StopRule<'_>| {
        let ear = UnitLog::new(stop);
        let result = bench.work(plan, Stage::Neighbors, &ear, |work| neighbors::join(plan, &lists, None, work));
        (result.map(|(mut made, found, truth)| (made.sort_by(|a, b| a.0.cmp(&b.0)), made, found, truth)), ear.told())
    };
    let bench = StageDir::new(&plan);
    let (result, unbroken) = join(&bench, &plan, &never);
    let expected = result.expect("a graph");
    // What a round found is not lost to the next.
    assert!(expected.2.recall > recall - 0.05, "{:?}", expected.2);
    let all: Vec<_> = all.iter().map(|&unit| (Stage::Neighbors, unit)).collect();
    assert_eq!(made(&unbroken), all);

    // In the middle of a part as well: what is under way is made again.
    let halfway =
        |e: &Event<'_>, _: &[UnitEvent]| matches!(e, Event::Advance { done, .. } if *done > rows as u64 * 4 / 7);
    let afters: Vec<_> = (1..all.len()).map(after).collect();
    let mut stops: Vec<(&str, StopRule<'_>)> = vec![("halfway", &halfway)];
    stops.extend(afters.iter().zip(&all).map(|(stop, (_, unit))| (*unit, stop as StopRule<'_>)));
    for (name, stop) in stops {
        let bench = StageDir::new(&plan);
        let (result, first) = join(&bench, &plan, stop);
        assert!(matches!(result, Err(Error::Cancelled { .. })), "{name}");
        let (result, second) = join(&bench, &other, &never);
        assert!(result.expect("a graph") == expected, "{name}: other files, or other figures");
        // Of rounds only the last whole one is looked at again.
        let told = |told: &[UnitEvent]| told.iter().filter(|t| !t.1.starts_with("round-")).cloned().collect::<Vec<_>>();
        check_found(name, &told(&first), &told(&second));
        let both: Vec<_> = made(&first).into_iter().chain(made(&second)).collect();
        assert_eq!(both, all, "{name}");
        let mut names = bench.names();
        // What a round left for the next goes when the stage ends.
        names.retain(|name| !name.starts_with("sofar-2") && !name.starts_with("visits-2"));
        let parts =
            all.iter().filter(|(_, unit)| unit.starts_with("neighbors-")).map(|(_, unit)| format!("{unit}.bin"));
        assert_eq!(names, parts.chain(["truth.bin".into()]).collect::<Vec<_>>());
    }
}

/// A graph from outside is taken in anew, and gives the same bytes.
#[test]
fn resume_of_an_import_starts_anew_and_gives_the_same_bytes() {
    const ROWS: usize = 140_000;
    const K: usize = 2;
    let mut draws = Lcg(5);
    let ids = (0..ROWS * K).map(|i| ((i / K + 1 + draws.below(300)) % ROWS) as u32).collect();
    let distances = (0..ROWS * K).map(|_| draws.below(1 << 20) as f32 / 1e4).collect();
    let graph = MemoryGraph { k: K, ids, distances };
    let plan = plan_of_graph(&quick(), ROWS, K);
    let mut other = plan_of_graph(&Config { threads: Some(1), ..quick() }, ROWS, K);
    *other.portions().buckets = 7;
    let import = |bench: &StageDir, plan: &Plan, stop: StopRule<'_>| {
        bench.work(plan, Stage::Neighbors, &UnitLog::new(stop), |work| neighbors::import(plan, &graph, None, work))
    };
    let expected = import(&StageDir::new(&plan), &plan, &never).expect("a graph");
    for n in [1, 2] {
        let bench = StageDir::new(&plan);
        assert!(matches!(import(&bench, &plan, &after(n)), Err(Error::Cancelled { .. })), "{n}");
        assert!(import(&bench, &other, &never).expect("a graph") == expected, "{n}");
        let mut names = bench.names();
        // What a round left for the next goes when the stage ends.
        names.retain(|name| !name.starts_with("sofar-2") && !name.starts_with("visits-2"));
        assert_eq!(names, ["neighbors-000.bin", "neighbors-001.bin", "truth.bin"]);
    }
}

/// Two parts of edges: what lies before a finished part is given back, and the rest is gone on with.
#[test]
fn resume_of_the_affinity_starts_after_its_last_part() {
    // The second part is less than a block, which is the last to be written: nothing of it is safe before.
    const ROWS: usize = 1_055_000;
    const K: usize = 2;
    let mut draws = Lcg(9);
    let mut near = |row: usize, other: usize| -> Vec<(u32, f32)> {
        let id = |by: usize| ((row + by) % ROWS) as u32;
        let far = draws.below(1 << 10) as f32 / 1e3;
        vec![(id(1 + draws.below(40)), far), (id(other), far + draws.below(1 << 10) as f32 / 1e3)]
    };
    let rows: Vec<_> = (0..ROWS).map(|row| near(row, 50 + (row * 7919) % 1_000_000)).collect();
    let plan = |threads: usize, runs: u64| {
        let mut plan = plan_of_graph(&Config { threads: Some(threads), ..quick() }, ROWS, K);
        *plan.portions().run_bytes = affinity::run_bytes(&plan).1 / runs;
        *plan.portions().buffer_bytes = 1 << 20;
        plan
    };
    let one = plan(2, 1);
    let (_, found, expected) = edges_of(&one, &rows, 1.0, &());
    assert_eq!(expected.len(), 2);

    let build = |bench: &StageDir, plan: &Plan, stop: StopRule<'_>| {
        let graph = KnnGraph::open(bench.dir.dir(), ROWS as u64).expect("a graph");
        let ear = UnitLog::new(stop);
        let result = bench.work(plan, Stage::Affinity, &ear, |work| affinity::build(plan, &graph, 1.0, None, work));
        (result, ear.told())
    };
    let check = |name: &str, bench: &StageDir, result: lowland_engine::Result<(StageFiles, AffinityStats)>| {
        let (made, again) = result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again, found, "{name}");
        assert_eq!(made.len(), expected.len(), "{name}");
        for ((file, stamp), (expected_file, bytes)) in made.iter().zip(&expected) {
            assert_eq!((file, stamp.bytes), (expected_file, bytes.len() as u64), "{name}");
            assert!(std::fs::read(bench.dir.path(file)).expect("edges") == *bytes, "{name}: {file} differs");
        }
    };
    let bench = || {
        let bench = StageDir::new(&one);
        write_graph(bench.dir.dir(), K, &rows);
        bench
    };
    let many = plan(2, 9);
    let whole = bench();
    let (result, unbroken) = build(&whole, &many, &never);
    check("nine runs", &whole, result);
    let all = ["transpose", "edges-000", "edges-001"].map(|unit| (Stage::Affinity, unit));
    assert_eq!(made(&unbroken), all);
    let buckets = |bench: &StageDir| bench.names().iter().filter(|name| name.ends_with(".bucket")).count();
    assert!((1..=2).contains(&buckets(&whole)), "runs before the last part are gone: {:?}", whole.names());

    // Stopped in the first part and in the second, too.
    let at =
        |rows: u64| move |e: &Event<'_>, _: &[UnitEvent]| matches!(e, Event::Advance { done, .. } if *done >= rows);
    let stops: [(&str, StopRule<'_>, usize); 5] = [
        ("transpose", &after(1), 1),
        ("in part 0", &at(500_000), 1),
        ("part 0", &after(2), 2),
        ("in part 1", &at(1_053_000), 2),
        ("part 1", &after(3), 3),
    ];
    for (name, stop, left) in stops {
        for next in [&many, &plan(1, 4), &one] {
            let bench = bench();
            let (result, first) = build(&bench, &many, stop);
            assert!(matches!(result, Err(Error::Cancelled { .. })), "{name}");
            let (result, second) = build(&bench, next, &never);
            check(name, &bench, result);
            // With everything finished nobody asks for the transpose.
            let left =
                if left == 3 { vec!["edges-000", "edges-001"] } else { all[..left].iter().map(|u| u.1).collect() };
            let mut units: Vec<&str> = reused(&second).into_iter().map(|unit| unit.1).collect();
            units.sort_by_key(|unit| left.iter().position(|l| l == unit));
            assert_eq!(units, left, "{name}");
            let total = made(&first).len() + made(&second).len();
            assert!(total == all.len(), "{name}: {first:?}, then {second:?}");
        }
    }
    // What was held in memory is not there: the second part's edges go by the disk.
    let bench = bench();
    let (result, first) = build(&bench, &one, &after(1));
    assert!(result.is_err() && made(&first) == [(Stage::Affinity, "edges-000")]);
    let (result, second) = build(&bench, &many, &never);
    check("from memory to the disk", &bench, result);
    assert_eq!(reused(&second), [(Stage::Affinity, "edges-000")]);
}

/// A directory with the edges of a graph and first positions, ready for a layout of `plan`.
fn begun(plan: &Plan, rows: &[Vec<(u32, f32)>], mean: f64) -> (StageDir, AffinityStats) {
    let (bench, found, _) = edges_of(plan, rows, mean, &());
    let mut draws = Lcg(2);
    let first: Vec<f32> =
        (0..rows.len() * plan.settings().n_components).map(|_| draws.below(20_000) as f32 / 1e3 - 10.0).collect();
    positions::write_positions(bench.dir.create(positions::INIT).expect("a file"), &first).expect("first positions");
    (bench, found)
}

/// The result of a layout, the bytes that it read, its epochs, and its units.
struct LayoutAttempt {
    result: lowland_engine::Result<Vec<u8>>,
    read: u64,
    epochs: Vec<u64>,
    told: Vec<UnitEvent>,
}

impl LayoutAttempt {
    fn stopped(&self) -> bool {
        matches!(self.result, Err(Error::Cancelled { .. }))
    }
}

/// Runs the layout, or resumes it from what is in the directory.
fn lay_out(
    bench: &StageDir,
    plan: &Plan,
    affinities: &AffinityStats,
    stop: impl Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync,
) -> LayoutAttempt {
    let (epochs, mut read) = (Mutex::new(Vec::new()), 0);
    let ear = UnitLog::new(|event: &Event<'_>, told: &[UnitEvent]| {
        if let Event::Advance { done, .. } = event {
            epochs.lock().expect("epochs").push(*done);
        }
        stop(event, told)
    });
    let result = bench.work(plan, Stage::Layout, &ear, |work| {
        layout::build(plan, methods::objective(plan.settings().method)?, affinities, None, work)?;
        let positions = std::fs::read(work.path(positions::POSITIONS)).expect("positions");
        read = work.progress.traffic.totals().0;
        Ok(positions)
    });
    assert!(!bench.names().iter().any(|name| name.ends_with(".scratch")), "{:?}", bench.names());
    let told = ear.told();
    LayoutAttempt { result, read, epochs: epochs.into_inner().expect("epochs"), told }
}

#[test]
fn spilled_edges_give_the_same_positions() {
    const ROWS: usize = 70_000;
    let (rows, mean) = random_graph(ROWS, 4, 6);
    let config = Config { n_epochs: Some(6), ..quick() };
    let plan = plan_of_graph(&config, ROWS, 4);
    let (bench, found) = begun(&plan, &rows, mean);
    let all = layout::edge_bytes(&plan);
    let (mut expected, mut read) = (None::<Vec<u8>>, Vec::new());
    for cache_bytes in [all, all / 2, all / 3, 0] {
        let mut plan = plan.clone();
        *plan.portions().cache_bytes = cache_bytes;
        let laid = lay_out(&bench, &plan, &found, never);
        let positions = laid.result.expect("a layout");
        read.push(laid.read);
        assert!(*expected.get_or_insert_with(|| positions.clone()) == positions, "{cache_bytes} bytes kept");
        // Stopped with some kept, gone on with others kept.
        bench.dir.drop_stage(Stage::Layout.name()).expect("dropped");
        let stop = |e: &Event<'_>, _: &[UnitEvent]| matches!(e, Event::Advance { done: 3, .. });
        assert!(lay_out(&bench, &plan, &found, stop).stopped());
        *plan.portions().cache_bytes = all / 4 * 3;
        let laid = lay_out(&bench, &plan, &found, never);
        assert!(laid.result.expect("a layout") == positions, "{cache_bytes} bytes kept, then three quarters");
        assert_eq!((laid.epochs[0], reused(&laid.told)), (3, vec![(Stage::Layout, "checkpoint")]));
        bench.dir.drop_stage(Stage::Layout.name()).expect("dropped");
    }
    assert!(read[1..3].iter().all(|r| (read[0] + 1..read[3]).contains(r)), "bytes read: {read:?}");
}

/// The epoch of the checkpoint that a layout left.
fn kept_epoch(bench: &StageDir) -> Option<u64> {
    bench.dir.unit(Stage::Layout.name(), "checkpoint").map(|unit| unit.data["epoch"].as_u64().expect("an epoch"))
}

#[test]
fn resume_of_the_layout_starts_at_its_checkpoint() {
    const ROWS: usize = 3_000;
    const EPOCHS: u64 = 25;
    let (rows, mean) = random_graph(ROWS, 5, 2);
    for n_components in [1, 2, 3, 5] {
        let config =
            Config { n_components: Some(n_components), n_epochs: Some(EPOCHS as usize), checkpoint: 0.0, ..quick() };
        let plan = plan_of_graph(&config, ROWS, 5);
        let seldom = plan_of_graph(&Config { threads: Some(3), checkpoint: 60.0, ..config }, ROWS, 5);
        let (bench, found) = begun(&plan, &rows, mean);
        let laid = lay_out(&bench, &seldom, &found, never);
        let expected = laid.result.expect("a layout");
        assert_eq!((laid.epochs, laid.told), ((1..=EPOCHS).collect(), Vec::new()), "no checkpoint in so short a time");
        let laid = lay_out(&bench, &plan, &found, never);
        assert!(laid.result.expect("a layout") == expected, "checkpoints change the positions");
        assert!(!made(&laid.told).is_empty(), "no checkpoint");

        for epoch in [1, 2, 23, EPOCHS - 1, EPOCHS] {
            bench.dir.drop_stage(Stage::Layout.name()).expect("dropped");
            let stop = move |e: &Event<'_>, _: &[UnitEvent]| matches!(e, Event::Advance { done, .. } if *done == epoch);
            let laid = lay_out(&bench, if epoch % 2 == 0 { &plan } else { &seldom }, &found, stop);
            assert!(laid.stopped(), "epoch {epoch}");
            let kept = kept_epoch(&bench);
            // After the last there is nothing left to go on with.
            assert!(if epoch < EPOCHS { kept == Some(epoch) } else { kept.is_none_or(|e| e < EPOCHS) }, "{kept:?}");
            let laid = lay_out(&bench, &seldom, &found, never);
            assert!(laid.result.expect("a layout") == expected, "epoch {epoch}, {n_components} components");
            assert_eq!(reused(&laid.told).len(), usize::from(kept.is_some()));
            assert_eq!(laid.epochs[0], kept.unwrap_or(1), "it goes on from epoch {kept:?}");
            assert_eq!(laid.epochs.len() as u64, EPOCHS - kept.unwrap_or(1) + 1);
        }

        // Stopped with every checkpoint, and at every epoch.
        let ways: &[bool] = if n_components == 3 { &[true, false] } else { &[] };
        for &by_unit in ways {
            bench.dir.drop_stage(Stage::Layout.name()).expect("dropped");
            let mut attempts = 0;
            let positions = loop {
                let before = kept_epoch(&bench).unwrap_or(0);
                let stop = |e: &Event<'_>, told: &[UnitEvent]| match e {
                    Event::Unit { .. } => by_unit && !made(told).is_empty(),
                    Event::Advance { done, .. } => !by_unit && *done > before,
                    _ => false,
                };
                match lay_out(&bench, &plan, &found, stop).result {
                    Ok(positions) => break positions,
                    Err(Error::Cancelled { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                attempts += 1;
                let kept = kept_epoch(&bench).expect("a checkpoint");
                if before == EPOCHS - 1 {
                    // Nothing comes after the last epoch but the file: let it.
                    break lay_out(&bench, &plan, &found, never).result.expect("a layout");
                }
                assert!(kept > before, "after {attempts} attempts: {kept}");
            };
            assert!(positions == expected, "stopped {attempts} times");
            assert!(by_unit || attempts == EPOCHS, "{attempts}");
            // One checkpoint at a time.
            let states = bench.names().into_iter().filter(|name| name.ends_with(".state")).count();
            assert_eq!(states, 1, "{:?}", bench.names());
        }
    }
}
