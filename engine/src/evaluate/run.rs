//! Runs an evaluation. The source is streamed past the sample three times: for the sample's own
//! vectors, for its neighbours in the data, and for the data ranks of its map neighbours.
//! Everything else is computed from the map and the labels in memory.

use std::sync::Arc;

use lowland_io::Source;
use rayon::prelude::*;

use super::neighborhoods::{label_agreement, preservation, rank_scores, row_recall};
use super::plan::{EvaluationPlan, GRAPH_READ_ROWS, needs};
use super::points::{MapPoints, RankCounts, UNLABELED};
use super::report::{EvaluationReport, ScoreName, ScoreValue, SkippedScores};
use super::sample_sweep::{RequestedPairs, RowStream, SampleQueries, SourceStream, distance_fn};
use super::silhouette::{LabelWeights, Singletons, coefficients};
use super::slices::{listed_neighbors, triplets_per_row};
use super::{clusters, distance_order};
use crate::budget::{Budget, Reservation, base_bytes};
use crate::component_variance::ComponentVariance;
use crate::error::FlawSummary;
use crate::inputs::GraphSource;
use crate::neighbors::TieBreaker;
use crate::observe::{Observer, Progress, Stage};
use crate::random::stratified;
use crate::score::{mean_and_interval, of_sample};
use crate::session::Session;
use crate::work::thread_pool;
use crate::{Error, Result, precision};

/// The scores that need the data, and the scores that need labels.
const DATA_SCORES: [ScoreName; 5] = [
    ScoreName::Trustworthiness,
    ScoreName::Continuity,
    ScoreName::NeighborhoodPreservation,
    ScoreName::TripletAccuracy,
    ScoreName::DistanceSpearman,
];
const LABEL_SCORES: [ScoreName; 3] = [ScoreName::LabelAccuracy, ScoreName::Silhouette, ScoreName::KmeansAri];

/// A column of labels.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The column's name.
    pub name: String,
    /// Each row's label code, from 0; [`UNLABELED`] if the row has no label.
    pub codes: Vec<u32>,
    /// The number of different labels.
    pub count: usize,
}

/// The inputs of an evaluation. The rows of all parts are in the same order.
pub struct EvaluationSubject<'a> {
    /// The map. All coordinates must be finite.
    pub map: MapPoints,
    /// The vectors from which the map was made.
    pub source: Option<Arc<dyn Source>>,
    /// A kNN graph of the vectors.
    pub graph: Option<&'a dyn GraphSource>,
    /// Labels of the rows.
    pub labels: Vec<Labels>,
    /// Non-negative weights of the rows in the silhouette.
    pub weights: Option<Vec<f32>>,
}

/// Computes all scores that the inputs allow, and lists the scores that could not be computed.
///
/// # Errors
/// [`Error::Data`] if the parts differ in the number of rows, the vectors are invalid, or the plan
/// was made for inputs of another shape; errors of reading; [`Error::Cancelled`] if the observer
/// stops the evaluation.
pub fn evaluate(
    plan: &EvaluationPlan,
    subject: &EvaluationSubject<'_>,
    observer: &dyn Observer,
) -> Result<EvaluationReport> {
    check(plan, subject)?;
    thread_pool(plan.threads)?.install(|| {
        let memory = plan.config.memory.saturating_sub(base_bytes(0, plan.threads));
        let mut session = Session::start(observer, memory, None)?;
        let passes = if subject.source.is_some() { 3 } else { 0 } + subject.labels.len() as u64;
        let total = (plan.input.rows * passes, "rows");
        let ((scores, left), stage) = session.stage(Stage::Quality, total, false, |progress, budget| {
            let budget = budget.clone();
            let mut work = Evaluator { plan, subject, progress, budget, scores: Vec::new(), left: Vec::new() };
            work.against_data()?;
            for labels in 0..subject.labels.len() {
                work.against_labels(labels)?;
                progress.advance(plan.input.rows)?;
            }
            if subject.labels.is_empty() {
                work.leave_out(&LABEL_SCORES, None, "no labels were given");
            }
            Ok((work.scores, work.left))
        })?;
        // The evaluation is complete, so a request to stop has no effect.
        let _ = session.tell_end(stage, false);
        let (_, seconds) = session.end();
        let version = env!("CARGO_PKG_VERSION");
        Ok(EvaluationReport {
            version,
            plan: plan.clone(),
            scores,
            left_out: left,
            without_coordinates: 0,
            invalid: None,
            seconds,
            peak_memory: stage.peak_memory,
        })
    })
}

fn check(plan: &EvaluationPlan, subject: &EvaluationSubject<'_>) -> Result<()> {
    let rows = subject.map.rows() as u64;
    let differ = |what: &str, has: u64| {
        let what = format!("the map has {rows} rows, {what} {has}: they must be the same rows in the same order");
        Err(Error::Data { what })
    };
    if let Some(source) = &subject.source
        && source.shape().rows != rows
    {
        return differ("the source has", source.shape().rows);
    }
    if let Some(graph) = subject.graph
        && graph.rows() != rows
    {
        return differ("the graph has", graph.rows());
    }
    if let Some(labels) = subject.labels.iter().find(|labels| labels.codes.len() as u64 != rows) {
        return differ("the column of labels has", labels.codes.len() as u64);
    }
    if let Some(weights) = subject.weights.as_ref().filter(|weights| weights.len() as u64 != rows) {
        return differ("the column of weights has", weights.len() as u64);
    }
    let dim = subject.source.as_ref().map(|source| source.shape().dim);
    let labels: Vec<usize> = subject.labels.iter().map(|labels| labels.count).collect();
    let planned = &plan.input;
    let here = (rows, subject.map.dim(), dim, &labels, subject.weights.is_some(), subject.graph.map(|g| g.k()));
    if here != (planned.rows, planned.n_components, planned.dim, &planned.labels, planned.weights, planned.graph_k) {
        return Err(Error::Data { what: "the plan was made for inputs of another shape".into() });
    }
    Ok(())
}

struct Evaluator<'a> {
    plan: &'a EvaluationPlan,
    subject: &'a EvaluationSubject<'a>,
    progress: &'a Progress<'a>,
    budget: Budget,
    scores: Vec<ScoreValue>,
    left: Vec<SkippedScores>,
}

impl Evaluator<'_> {
    fn hold(&self, name: &str) -> Result<Option<Reservation>> {
        let needs = needs(self.plan);
        let phases = needs.phases.iter().filter(|phase| phase.name == name);
        phases.max_by_key(|phase| phase.bytes()).map(|phase| self.budget.take(phase)).transpose()
    }

    fn leave_out(&mut self, scores: &[ScoreName], labels: Option<&str>, why: &str) {
        let (scores, labels, why) = (scores.to_vec(), labels.map(str::to_string), why.to_string());
        self.left.push(SkippedScores { scores, labels, why });
    }

    fn add(&mut self, score: ScoreName, k: Option<usize>, (value, interval): (f64, Option<f64>), rows: usize) {
        self.scores.push(ScoreValue { score, k, labels: None, value, interval, rows: rows as u64 });
    }

    /// Computes the scores that compare the map with the data.
    fn against_data(&mut self) -> Result<()> {
        let (plan, population) = (self.plan, self.plan.input.rows);
        let Some(source) = self.subject.source.clone() else {
            let all = [&[ScoreName::Recall], &DATA_SCORES[..]].concat();
            self.leave_out(&all, None, "no source was given");
            return Ok(());
        };
        let held = self.hold("neighbours")?;
        let stream =
            SourceStream { source, metric: plan.config.metric, batch_rows: plan.batch_rows, progress: self.progress };
        let rows = stratified(plan.config.seed, 0xe7a1, population, plan.sample_rows as u64);
        let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
        let vectors = self.vectors(&stream, &rows)?;
        let sample = SampleQueries::new(&rows, &vectors, stream.source.shape().dim).with_metric(plan.config.metric);
        self.neighborhoods(&sample, &rows, &stream)?;
        drop((sample, held));
        let _held = self.hold("distances")?;
        self.distances(&rows, &vectors, stream.source.shape().dim)
    }

    /// Returns the sample rows' vectors, after all rows were checked.
    fn vectors(&self, stream: &SourceStream<'_>, rows: &[u32]) -> Result<Vec<f32>> {
        let (source, dim) = (stream.source.as_ref(), stream.source.shape().dim);
        let mut vectors = Vec::with_capacity(rows.len() * dim);
        let mut wanted = rows.iter().peekable();
        let mut flaws = FlawSummary::default();
        let mut spread = ComponentVariance::new(dim);
        stream.each(&mut |first, values| {
            if !crate::invalid::check_rows(&mut flaws, stream.metric, source, first, values)? {
                return Ok(());
            }
            spread.add(values);
            while let Some(&row) = wanted.next_if(|&&row| u64::from(row) < first + (values.len() / dim) as u64) {
                vectors.extend_from_slice(&values[(u64::from(row) - first) as usize * dim..][..dim]);
            }
            Ok(())
        })?;
        flaws.refuse(source.shape().rows)?;
        if let Some(text) = precision::precision_note(&spread, source)? {
            self.progress.note("coarse-components", text)?;
        }
        if vectors.len() != rows.len() * dim {
            return Err(Error::Data { what: "the source returned fewer rows than it announced".into() });
        }
        Ok(vectors)
    }

    fn neighborhoods(&mut self, sample: &SampleQueries<'_>, rows: &[u32], stream: &SourceStream<'_>) -> Result<()> {
        let (plan, map, k, population) = (self.plan, &self.subject.map, self.plan.k, self.plan.input.rows);
        let near = self.nearest_in_map(rows, k, None)?;
        let lists = self.graph_lists(rows)?;
        let places = || (0..rows.len() as u32).zip(&near);
        let mut pairs = RequestedPairs::new(
            places()
                .flat_map(|(place, near)| near.iter().map(move |&other| (place, other)))
                .chain(lists.iter().zip(0..).flat_map(|((listed, _), place)| listed.iter().map(move |&o| (place, o)))),
        );
        let truth = sample.nearest(plan.neighbors_searched(), &mut pairs, TieBreaker::new(plan.config.seed), stream)?;
        let far = |place: u32, other: u32| pairs.squared(place, other).unwrap_or(f32::INFINITY);
        self.recall(&lists, &truth, far);
        if k == 0 {
            self.leave_out(&DATA_SCORES[..3], None, &format!("{population} rows have no neighbours to compare"));
            return Ok(());
        }
        let steps =
            |(place, near): (u32, &Vec<u32>)| RankCounts::new(near.iter().map(|&other| far(place, other)).collect());
        let mut rank_counts: Vec<RankCounts> = places().map(steps).collect();
        sample.count_ranks(&mut rank_counts, stream)?;
        self.add(
            ScoreName::Trustworthiness,
            Some(k),
            of_sample(&rank_scores(&rank_counts, k, population), population),
            rows.len(),
        );
        let row_ranks = |(&row, truth): (&u32, &Vec<(f32, u32)>)| {
            self.progress.check()?;
            Ok(map.rank_counts(row, truth.iter().take(k).map(|&(_, other)| other)))
        };
        let rank_counts = rows.par_iter().zip(&truth).map(row_ranks).collect::<Result<Vec<RankCounts>>>()?;
        self.add(
            ScoreName::Continuity,
            Some(k),
            of_sample(&rank_scores(&rank_counts, k, population), population),
            rows.len(),
        );
        let kept = preservation(&truth, &near, k);
        self.add(ScoreName::NeighborhoodPreservation, Some(k), of_sample(&kept, population), rows.len());
        Ok(())
    }

    /// Returns, for each of `rows`, the `k` rows nearest in the map.
    fn nearest_in_map(&self, rows: &[u32], k: usize, among: Option<&[u32]>) -> Result<Vec<Vec<u32>>> {
        let ties = TieBreaker::new(self.plan.config.seed);
        let near = |&row: &u32| {
            self.progress.check()?;
            Ok(self.subject.map.nearest(row, k, among, ties))
        };
        rows.par_iter().map(near).collect()
    }

    /// Returns, for each of `rows`, the other rows in its graph list, and the number of list
    /// entries for other rows.
    fn graph_lists(&self, rows: &[u32]) -> Result<Vec<(Vec<u32>, usize)>> {
        let Some(graph) = self.subject.graph else { return Ok(Vec::new()) };
        let k = graph.k();
        let mut lists = Vec::with_capacity(rows.len());
        for rows in rows.chunk_by(|a, b| *a as usize / GRAPH_READ_ROWS == *b as usize / GRAPH_READ_ROWS) {
            self.progress.check()?;
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let count = (last - first + 1) as usize;
            let (mut ids, mut distances) = (vec![0; count * k], vec![0.0; count * k]);
            graph.read_rows(u64::from(first), &mut ids, &mut distances)?;
            lists.extend(rows.iter().map(|&row| listed_neighbors(row, &ids[(row - first) as usize * k..][..k])));
        }
        Ok(lists)
    }

    fn recall(&mut self, lists: &[(Vec<u32>, usize)], truth: &[Vec<(f32, u32)>], far: impl Fn(u32, u32) -> f32 + Copy) {
        if self.subject.graph.is_none() {
            return;
        }
        // A list that holds only the row itself has no recall.
        let listed =
            lists.iter().zip(truth).zip(0..).filter(|(((_, places), truth), _)| *places > 0 && !truth.is_empty());
        let scores: Vec<f64> = listed
            .map(|(((listed, places), truth), place)| {
                row_recall(listed.iter().map(|&other| far(place, other)), truth, *places)
            })
            .collect();
        let k = lists.iter().map(|&(_, places)| places).max().unwrap_or(0).min(self.plan.neighbors_searched());
        if scores.is_empty() {
            self.leave_out(&[ScoreName::Recall], None, "each row of the graph lists only itself");
        } else {
            self.add(ScoreName::Recall, Some(k), of_sample(&scores, self.plan.input.rows), scores.len());
        }
    }

    /// Computes the scores of random triplets and pairs of the sample.
    fn distances(&mut self, rows: &[u32], vectors: &[f32], dim: usize) -> Result<()> {
        let (map, seed, population) = (&self.subject.map, self.plan.config.seed, self.plan.input.rows);
        let vector = |place: usize| &vectors[place * dim..][..dim];
        let far = distance_fn(self.plan.config.metric);
        let data = |i: usize, j: usize| far(vector(i), vector(j));
        let here = |i: usize, j: usize| map.squared(rows[i] as usize, rows[j] as usize);
        self.progress.check()?;
        let scores = distance_order::triplets(rows.len(), triplets_per_row(rows.len()), seed, |i, j, l| {
            Ok((data(i, j) < data(i, l)) == (here(i, j) < here(i, l)))
        })?;
        if scores.is_empty() {
            self.leave_out(
                &[ScoreName::TripletAccuracy],
                None,
                &format!("{} rows are too few for a triplet", rows.len()),
            );
        } else {
            // Triplets are drawn at random, so there is an interval even if the sample is all rows.
            let (mean, interval) = mean_and_interval(&scores);
            self.add(ScoreName::TripletAccuracy, None, (mean, Some(interval)), scores.len());
        }
        self.progress.check()?;
        match distance_order::correlation(rows.len(), population, seed, |i, j| (data(i, j), here(i, j))) {
            Some(found) => self.add(ScoreName::DistanceSpearman, None, (found.value, found.interval), rows.len()),
            None => self.leave_out(&[ScoreName::DistanceSpearman], None, "all distances are equal, or there are none"),
        }
        Ok(())
    }

    /// Computes the scores of one column of labels.
    fn against_labels(&mut self, column: usize) -> Result<()> {
        let Labels { name, codes, count } = &self.subject.labels[column];
        let _held = self.hold("labels")?;
        let labeled = codes.iter().filter(|&&code| code != UNLABELED).count() as u64;
        let rows = labeled_sample(codes, labeled, self.plan);
        let k = self.plan.k.min(labeled.saturating_sub(1) as usize);
        let before = self.scores.len();
        if k == 0 {
            let why = format!("{labeled} rows with a label have no neighbours to compare");
            self.leave_out(&[ScoreName::LabelAccuracy], Some(name), &why);
        } else {
            let some = labeled < self.plan.input.rows;
            let near = self.nearest_in_map(&rows, k, some.then_some(codes))?;
            let scores = label_agreement(&rows, &near, codes);
            self.add(ScoreName::LabelAccuracy, Some(k), of_sample(&scores, labeled), rows.len());
        }
        let weights = self.subject.weights.as_deref();
        let masses = LabelWeights::new(codes, *count, weights);
        if masses.present() < 2 {
            let why = if labeled == 0 { "no row has a label" } else { "all rows have the same label" };
            self.leave_out(&[ScoreName::Silhouette, ScoreName::KmeansAri], Some(name), why);
        } else {
            let map = &self.subject.map;
            let scores = coefficients(map, codes, &masses, weights, Singletons::Zero, &rows, self.progress)?;
            self.add(ScoreName::Silhouette, None, of_sample(&scores, labeled), rows.len());
            if masses.singletons() > 0 {
                let alone = masses.singletons();
                let what = if alone == 1 { "1 label is".into() } else { format!("{alone} labels are") };
                self.progress
                    .note("lone-labels", format!("{name}: {what} of one row only, which scores 0 in the silhouette"))?;
            }
            if *count > clusters::MAX_CLUSTERS {
                let why = format!("{count} labels; k-means supports at most {} clusters", clusters::MAX_CLUSTERS);
                self.leave_out(&[ScoreName::KmeansAri], Some(name), &why);
            } else {
                let found = clusters::kmeans(map, Some(codes), *count, self.plan.config.seed, self.progress)?;
                let index = clusters::adjusted_rand_score(&found, codes);
                self.add(ScoreName::KmeansAri, None, (index, None), labeled as usize);
            }
        }
        self.scores[before..].iter_mut().for_each(|measure| measure.labels = Some(name.clone()));
        Ok(())
    }
}

/// Samples the rows that have labels. If all rows have labels, these are the rows of the data's
/// sample.
fn labeled_sample(codes: &[u32], labeled: u64, plan: &EvaluationPlan) -> Vec<u32> {
    let wanted = stratified(plan.config.seed, 0xe7a1, labeled, plan.sample_rows as u64);
    let mut rows = (0u32..).zip(codes).filter(|&(_, &code)| code != UNLABELED).map(|(row, _)| row);
    let mut passed = 0;
    let mut sample = Vec::with_capacity(wanted.len());
    for ordinal in wanted {
        let Some(row) = rows.nth((ordinal - passed) as usize) else { break };
        passed = ordinal + 1;
        sample.push(row);
    }
    sample
}
