//! Graphs in memory, and the graph and the edges of a stage that runs alone.

use std::path::Path;
use std::sync::Arc;

use lowland_engine::affinity::{self, AffinityStats};
use lowland_engine::neighbors::{self, KnnGraph, MISSING};
use lowland_engine::{Config, GraphSink, GraphSource, Inputs, Observer, Plan, Report, Stage, StageContext, knn};

use super::{Lcg, StageDir, TestTable, inputs_of, open_run};

/// A graph in memory that can be imported: k neighbours for each row.
pub(crate) struct MemoryGraph {
    pub(crate) k: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) distances: Vec<f32>,
}

impl GraphSource for MemoryGraph {
    fn k(&self) -> usize {
        self.k
    }
    fn rows(&self) -> u64 {
        (self.ids.len() / self.k) as u64
    }
    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> lowland_engine::Result<()> {
        ids.copy_from_slice(&self.ids[first as usize * self.k..][..ids.len()]);
        distances.copy_from_slice(&self.distances[first as usize * self.k..][..distances.len()]);
        Ok(())
    }
}

/// A graph that is written to memory.
#[derive(Default)]
struct CollectedGraph {
    k: usize,
    ids: Vec<u32>,
    distances: Vec<f32>,
    finished: bool,
}

impl GraphSink for CollectedGraph {
    fn write(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> lowland_engine::Result<()> {
        assert_eq!(first as usize * self.k, self.ids.len(), "rows in order, none twice");
        self.ids.extend_from_slice(ids);
        self.distances.extend_from_slice(distances);
        Ok(())
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.finished = true;
        Ok(())
    }
}

/// The kNN graph of a table in the source's order: ids, distances, and the stage's figures.
pub(crate) fn graph_of(plan: &Plan, table: &Arc<TestTable>) -> (Vec<u32>, Vec<f32>, Report, tempfile::TempDir) {
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), plan);
    let mut taken = CollectedGraph { k: plan.k(), ..CollectedGraph::default() };
    let report = knn(plan, &inputs_of(table), &dir, &mut taken, &()).expect("a graph");
    assert_eq!(taken.ids.len(), table.rows() * plan.k());
    assert!(taken.finished);
    (taken.ids, taken.distances, report, place)
}

/// Writes a graph in list order as the stage keeps it: each row's neighbours with their distances, nearest first.
pub(crate) fn write_graph(dir: &Path, k: usize, rows: &[Vec<(u32, f32)>]) {
    // Rows of a part; fewer rows than a part's have one.
    const PART: usize = 1 << 17;
    for (part, rows) in rows.chunks(PART).enumerate() {
        let mut bytes = b"LLN2".to_vec();
        for word in [k, part * PART, rows.len()] {
            bytes.extend((word as u32).to_le_bytes());
        }
        for near in rows {
            let padded = near.iter().copied().chain(std::iter::repeat((MISSING, f32::INFINITY))).take(k);
            padded.clone().for_each(|(id, _)| bytes.extend(id.to_le_bytes()));
            padded.for_each(|(_, distance)| bytes.extend(distance.to_le_bytes()));
        }
        std::fs::write(dir.join(neighbors::part_name(part as u32)), bytes).expect("written");
    }
}

/// Random neighbours of `rows` rows: some popular, some rows with few or none. Also their mean distance.
pub(crate) fn random_graph(rows: usize, k: usize, seed: u64) -> (Vec<Vec<(u32, f32)>>, f64) {
    let mut draws = Lcg(seed);
    let (mut sum, mut count) = (0.0, 0);
    let mut graph = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut near: Vec<(f32, u32)> = Vec::new();
        let there = if row % 1000 == 7 { 0 } else { k - draws.below(40) / 38 };
        while near.len() < there {
            let id = if draws.below(5) == 0 { draws.below(3) * (rows / 3) } else { draws.below(rows) } as u32;
            if id != row as u32 && near.iter().all(|n| n.1 != id) {
                near.push((draws.below(1 << 20) as f32 / 1e4, id));
            }
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.iter().for_each(|n| (sum, count) = (sum + f64::from(n.0), count + 1));
        graph.push(near.into_iter().map(|(d, id)| (id, d)).collect());
    }
    (graph, sum / f64::from(count))
}

/// A plan for a graph from outside.
pub(crate) fn plan_of_graph(config: &Config, rows: usize, k: usize) -> Plan {
    let given = MemoryGraph { k, ids: vec![0; rows * k], distances: vec![0.0; rows * k] };
    let input = Inputs { source: None, graph: Some(&given), first: None }.describe().expect("inputs");
    config.plan(&input).expect("a plan")
}

/// Files by name, in order.
pub(crate) type Parts = Vec<(String, Vec<u8>)>;

/// Makes the edge store of a graph of mean distance `mean`; gives what was found and the parts' bytes, in order.
pub(crate) fn edges_of(
    plan: &Plan,
    rows: &[Vec<(u32, f32)>],
    mean: f64,
    observer: &dyn Observer,
) -> (StageDir, AffinityStats, Parts) {
    let bench = StageDir::new(plan);
    write_graph(bench.dir.dir(), plan.k(), rows);
    let graph = KnnGraph::open(bench.dir.dir(), rows.len() as u64).expect("a graph");
    let build = |work: &StageContext<'_>| affinity::build(plan, &graph, mean, None, work);
    let (made, found) = bench.work(plan, Stage::Affinity, observer, build).expect("edges");
    // As the run does after a stage: what the transpose left goes.
    bench.dir.finish_stage(Stage::Affinity.name(), made.clone(), serde_json::Value::Null).expect("recorded");
    let read = |name: String| (name.clone(), std::fs::read(bench.dir.path(&name)).expect("edges"));
    let parts = made.into_iter().map(|(name, _)| read(name)).collect();
    (bench, found, parts)
}
