//! The stages of a plan as a graph: which files each stage reads. Everything about the order of a run follows from
//! it: which stages an interrupted run still has to run, when a stage's files are deleted, which space on disk is
//! needed at what time.
//!
//! What must hold: a node comes after the nodes whose files it reads.

use super::Plan;
use crate::config::Init;
use crate::observe::Stage;

/// A stage of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StageNode {
    /// The stage.
    pub stage: Stage,
    /// Whether the stage reads the source's own files.
    pub source: bool,
    /// The stages whose files the stage reads.
    pub reads: Vec<Stage>,
    /// Whether the stage leaves files, which are deleted after the last stage that reads them.
    pub leaves: bool,
    /// What the stage counts: rows, epochs or iterations.
    pub unit: &'static str,
}

/// The stages of a plan, in the order in which they run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageGraph {
    nodes: Vec<StageNode>,
}

impl Plan {
    /// Returns the stages of a run of this plan, and what each of them reads.
    pub fn graph(&self) -> StageGraph {
        let nodes = if self.all_pairs.is_some() { all_pairs() } else { self.streamed() };
        StageGraph { nodes }
    }

    fn streamed(&self) -> Vec<StageNode> {
        use Stage::{Affinity, Index, Init as First, Layout, Neighbors, Output, Quality, Scan};
        let vectors = self.shape.dim > 0;
        // Every stage that brings rows into the order of the lists, or out of it, reads the index.
        let and_index = |stages: &[Stage]| {
            let index = vectors.then_some(Index);
            stages.iter().copied().chain(index).collect::<Vec<_>>()
        };
        let mut nodes = Vec::new();
        if vectors {
            nodes.push(StageNode { source: true, ..node(Scan, Vec::new()) });
            nodes.push(StageNode { source: true, ..node(Index, vec![Scan]) });
        }
        nodes.push(node(Neighbors, and_index(&[])));
        if !self.map {
            nodes.push(StageNode { source: true, ..node(Output, and_index(&[Neighbors])) });
            return nodes;
        }
        nodes.push(node(Affinity, and_index(&[Neighbors])));
        // Without vectors, first positions come from the edges; rows that a given map does not have start among
        // their neighbours.
        let walks_edges = !vectors || matches!(self.settings.init, Init::File(_));
        nodes.push(node(First, and_index(if walks_edges { &[Affinity] } else { &[] })));
        nodes.push(StageNode { unit: "epochs", ..node(Layout, vec![Affinity, First]) });
        nodes.push(StageNode { source: true, ..node(Output, and_index(&[Layout])) });
        nodes.push(node(Quality, and_index(&[Layout])));
        nodes
    }
}

/// Returns the stages of a method that computes all pairs. Each reads the source; the scan leaves no files.
fn all_pairs() -> Vec<StageNode> {
    use Stage::{Layout, Output, Quality, Scan};
    let nodes = [
        StageNode { leaves: false, ..node(Scan, Vec::new()) },
        StageNode { unit: "iterations", ..node(Layout, vec![Scan]) },
        node(Output, vec![Layout]),
        node(Quality, vec![Layout]),
    ];
    nodes.map(|node| StageNode { source: true, ..node }).into()
}

fn node(stage: Stage, reads: Vec<Stage>) -> StageNode {
    StageNode { stage, source: false, reads, leaves: stage.leaves_files(), unit: "rows" }
}

impl StageGraph {
    /// Returns the stages, in the order in which they run.
    pub fn nodes(&self) -> &[StageNode] {
        &self.nodes
    }

    /// Returns the node of a stage; `None` if the plan does not have the stage.
    pub fn node(&self, stage: Stage) -> Option<&StageNode> {
        self.nodes.iter().find(|node| node.stage == stage)
    }

    /// Returns the stages that a run still has to run, in order. `has` tells whether a stage is done and its files
    /// exist. Output and quality always run; any other stage runs if its files do not exist and a stage that
    /// runs reads them.
    pub fn to_run(&self, has: impl Fn(Stage) -> bool) -> Vec<Stage> {
        let mut run: Vec<Stage> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let is_read = || {
                let later = self.nodes[i + 1..].iter().filter(|later| run.contains(&later.stage));
                later.flat_map(|later| &later.reads).any(|read| *read == node.stage)
            };
            if !node.stage.leaves_files() || !has(node.stage) && is_read() {
                run.push(node.stage);
            }
        }
        run.reverse();
        run
    }

    /// Returns the stages whose files no stage after `stage` reads, and `stage` does, in order.
    pub fn released_after(&self, stage: Stage) -> impl Iterator<Item = Stage> {
        let is_last = move |of: Stage| {
            let last = self.nodes.iter().rev().find(|node| node.reads.contains(&of));
            last.is_some_and(|node| node.stage == stage)
        };
        self.nodes.iter().filter(move |node| node.leaves && is_last(node.stage)).map(|node| node.stage)
    }
}

#[cfg(test)]
mod tests {
    use lowland_io::{Dtype, Shape};

    use super::*;
    use crate::{Config, Method, PlanInput};

    fn input(dim: usize, graph_k: Option<usize>) -> PlanInput {
        PlanInput { shape: Shape { rows: 1000, dim }, dtype: Dtype::F32, graph_k, source_bytes: 0, resident_bytes: 0 }
    }

    /// The graphs of all kinds of runs.
    fn graphs() -> Vec<(&'static str, StageGraph)> {
        let map = |config: Config, input: PlanInput| config.plan(&input).expect("a plan").graph();
        let file = Config { init: Some(Init::File("first.npy".into())), ..Config::default() };
        vec![
            ("map", map(Config::default(), input(8, None))),
            ("from a file", map(file, input(8, None))),
            ("without vectors", map(Config::default(), input(0, Some(15)))),
            ("graph", Config::default().plan_graph(&input(8, None)).expect("a plan").graph()),
            ("all pairs", map(Config::of(Method::from_name("sne").expect("a method")), input(8, None))),
        ]
    }

    /// Calls `check` for every set of stages that may be there.
    fn each_state(graph: &StageGraph, mut check: impl FnMut(&dyn Fn(Stage) -> bool)) {
        let stages: Vec<Stage> = graph.nodes().iter().map(|node| node.stage).collect();
        for set in 0..1u32 << stages.len() {
            let there = |stage| stages.iter().position(|&s| s == stage).is_some_and(|i| set & 1 << i != 0);
            check(&|stage: Stage| stage.leaves_files() && there(stage));
        }
    }

    #[test]
    fn a_stage_comes_after_those_that_it_reads() {
        for (name, graph) in graphs() {
            for (i, node) in graph.nodes().iter().enumerate() {
                let before = |read: &Stage| graph.nodes()[..i].iter().any(|node| node.stage == *read);
                assert!(node.reads.iter().all(before), "{name}: {node:?}");
            }
        }
    }

    #[test]
    fn a_run_runs_what_is_read_and_not_there() {
        for (name, graph) in graphs() {
            each_state(&graph, |has| {
                let run = graph.to_run(has);
                for node in graph.nodes().iter().filter(|node| run.contains(&node.stage)) {
                    let fine = |read: &&Stage| has(**read) || run.contains(read);
                    assert_eq!(
                        node.reads.iter().find(|read| !fine(read)),
                        None,
                        "{name}: {:?} has no files",
                        node.stage
                    );
                }
                for stage in run.iter().filter(|stage| stage.leaves_files()) {
                    let read = |node: &&StageNode| node.reads.contains(stage) && run.contains(&node.stage);
                    assert!(!has(*stage) && graph.nodes().iter().any(|node| read(&node)), "{name}: {stage:?}");
                }
            });
        }
        let names = |graph: &StageGraph, there: &[Stage]| {
            let run = graph.to_run(|stage| there.contains(&stage));
            run.into_iter().map(Stage::name).collect::<Vec<_>>().join(" ")
        };
        let of = |name| graphs().into_iter().find(|(of, _)| *of == name).expect("a graph").1;
        use Stage::{Affinity, Index, Init as First, Layout, Neighbors, Scan};
        let map = of("map");
        assert_eq!(names(&map, &[]), "scan index neighbors affinity init layout output quality");
        assert_eq!(names(&map, &[Index, Neighbors]), "affinity init layout output quality");
        assert_eq!(names(&map, &[Index, Affinity]), "init layout output quality");
        assert_eq!(names(&map, &[Layout]), "scan index output quality");
        assert_eq!(names(&of("from a file"), &[Index, First]), "neighbors affinity layout output quality");
        assert_eq!(names(&of("without vectors"), &[Layout]), "output quality");
        assert_eq!(names(&of("graph"), &[Index]), "neighbors output");
        assert_eq!(names(&of("all pairs"), &[Scan]), "layout output quality");
        assert_eq!(names(&of("all pairs"), &[Layout]), "output quality");
    }

    #[test]
    fn files_go_after_the_last_stage_that_reads_them() {
        let told = graphs().into_iter().map(|(name, graph)| {
            let of = |stage: Stage| graph.released_after(stage).map(Stage::name).collect::<Vec<_>>().join(" ");
            let each = graph.nodes().iter().map(|node| (node.stage.name(), of(node.stage)));
            let each: Vec<String> =
                each.filter(|(_, gone)| !gone.is_empty()).map(|(stage, gone)| format!("{stage}: {gone}")).collect();
            format!("{name}: {}", each.join("; "))
        });
        let whole = "index: scan; affinity: neighbors; layout: affinity init; quality: index layout";
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                format!("map: {whole}"),
                format!("from a file: {whole}"),
                "without vectors: affinity: neighbors; layout: affinity init; quality: layout".into(),
                "graph: index: scan; output: index neighbors".into(),
                "all pairs: quality: layout".into(),
            ]
        );
    }
}
