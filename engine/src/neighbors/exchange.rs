//! Graphs that come from outside, and ours for the outside: row numbers are
//! the source's there and the lists' here.

use std::path::Path;

use lowland_io::buckets::ByteBucketWriter;

use super::{Found, Graph, GraphWriter, MISSING, NEIGHBORS, Sample, exact};
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::random::stratified;
use crate::run::GraphSource;
use crate::{Error, Result};

/// Rows moved at a time.
const ROWS: usize = 8192;

/// Brings a precomputed graph into list order. Self and repeated neighbours
/// go, by identity; the rest is ordered by distance.
pub fn import(
    plan: &Plan,
    graph: &dyn GraphSource,
    lists: Option<&Lists>,
    dir: &Path,
    progress: &Progress<'_>,
) -> Result<(Made, Found, Sample)> {
    let (k, rows) = (graph.k(), plan.shape.rows as u32);
    // Where each row of the source lies in list order.
    let place: Option<Vec<u32>> = lists.map(|lists| {
        let mut place = vec![0u32; rows as usize];
        let sources = (0..lists.table.len()).flat_map(|list| lists.source_rows(list));
        sources.enumerate().for_each(|(here, source)| place[source as usize] = here as u32);
        place
    });
    let mut writer = GraphWriter::create(&dir.join(NEIGHBORS), k, rows)?;
    let (mut ids, mut distances) = (vec![0u32; k], vec![0f32; k]);
    let mut near: Vec<(f32, u32)> = Vec::with_capacity(k);
    let truth = match lists {
        Some(lists) => exact(plan, lists, k, progress)?,
        // Without vectors the graph is all the truth there is.
        None => Sample {
            rows: stratified(plan.config.seed, 0x51a1, u64::from(rows), plan.sample_rows() as u64)
                .into_iter()
                .map(|r| r as u32)
                .collect(),
            neighbors: Vec::new(),
        },
    };
    let mut given = Vec::new();
    let (mut sum, mut count, mut copies, mut sampled) = (0f64, 0u64, 0u64, 0usize);
    let mut recalls = Vec::new();
    let mut here = 0u32;
    let mut take = |source: u64| -> Result<()> {
        graph.read_rows(source, &mut ids, &mut distances)?;
        near.clear();
        for (&id, &distance) in ids.iter().zip(&distances) {
            if id == MISSING || u64::from(id) == source {
                continue;
            }
            if id >= rows {
                return Err(Error::Data { what: format!("the graph's row {source} names row {id}, but there are {rows}") });
            }
            near.push((distance, place.as_ref().map_or(id, |place| place[id as usize])));
        }
        near.sort_unstable_by(|a, b| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0)));
        near.dedup_by_key(|&mut (_, id)| id);
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if truth.rows.get(sampled) == Some(&here) {
            match truth.neighbors.get(sampled) {
                Some(truth) => {
                    let hit = near.iter().filter(|(_, id)| truth.iter().any(|(_, t)| t == id)).count();
                    recalls.push(hit as f64 / truth.len().max(1) as f64);
                }
                None => given.push(near.clone()),
            }
            sampled += 1;
        }
        for &(distance, _) in &near {
            sum += f64::from(distance);
            count += 1;
        }
        copies += u64::from(near.first().is_some_and(|&(d, _)| d == 0.0));
        writer.push(near.iter().map(|&(distance, id)| (id, distance)))?;
        here += 1;
        progress.traffic.read(k as u64 * 8);
        if (here as usize).is_multiple_of(ROWS) {
            progress.advance(ROWS as u64)?;
        }
        Ok(())
    };
    match lists {
        None => (0..u64::from(rows)).try_for_each(&mut take)?,
        Some(lists) => (0..lists.table.len()).flat_map(|list| lists.source_rows(list)).try_for_each(&mut take)?,
    }
    let stamp = writer.finish()?;
    progress.traffic.wrote(stamp.bytes);
    let (recall, recall_interval) = if recalls.is_empty() { (1.0, 0.0) } else { crate::quality::mean_and_interval(&recalls) };
    let found = Found {
        probes: 0,
        mean_candidates: 0.0,
        recall,
        recall_interval,
        sample_rows: recalls.len(),
        mean_distance: sum / count.max(1) as f64,
        rows_with_copies: copies,
    };
    let neighbors = if truth.neighbors.is_empty() { given } else { truth.neighbors };
    Ok((vec![(NEIGHBORS.into(), stamp)], found, Sample { rows: truth.rows, neighbors }))
}

/// Hands the graph over in the source's order, through buckets of source rows:
/// `each(first row, ids, distances)`.
pub fn export(
    plan: &Plan,
    graph: &Graph,
    lists: Option<&Lists>,
    dir: &Path,
    each: &mut (dyn FnMut(u64, &[u32], &[f32]) -> Result<()> + Send),
    progress: &Progress<'_>,
) -> Result<()> {
    let (rows, k) = (graph.rows(), graph.k());
    let Some(lists) = lists else {
        return Err(Error::Data { what: "a graph that came from outside needs no export".into() });
    };
    // The source row of every row of ours: neighbours are named by it.
    let source_of: Vec<u32> =
        (0..lists.table.len()).flat_map(|list| lists.source_rows(list)).map(|row| row as u32).collect();
    let width = 4 + k * 8;
    let buckets = (plan.affinity.buckets).max(1);
    let rows_a_bucket = (rows as usize).div_ceil(buckets);
    let mut writer = ByteBucketWriter::create(dir, "export", buckets, width, plan.affinity.buffer_bytes as usize);
    let mut record = Vec::with_capacity(width);
    for (row, &source) in source_of.iter().enumerate() {
        record.clear();
        record.extend(source.to_le_bytes());
        let ids = graph.neighbors(row as u32).map(|id| source_of[id as usize]);
        ids.chain(std::iter::repeat(MISSING)).take(k).for_each(|id| record.extend(id.to_le_bytes()));
        graph.distances(row as u32)?.iter().for_each(|d| record.extend(d.to_le_bytes()));
        writer.push(source as usize / rows_a_bucket, &record)?;
        if row % ROWS == 0 {
            progress.check()?;
        }
    }
    let spilled = writer.finish()?;
    let mut bytes = Vec::new();
    for bucket in 0..buckets {
        let first = bucket * rows_a_bucket;
        let count = rows_a_bucket.min((rows as usize).saturating_sub(first));
        spilled.read(bucket, &mut bytes)?;
        let (mut ids, mut distances) = (vec![MISSING; count * k], vec![f32::INFINITY; count * k]);
        for record in bytes.chunks_exact(width) {
            let words = record.as_chunks::<4>().0;
            let at = (u32::from_le_bytes(words[0]) as usize - first) * k;
            ids[at..at + k].iter_mut().zip(&words[1..]).for_each(|(id, w)| *id = u32::from_le_bytes(*w));
            distances[at..at + k].iter_mut().zip(&words[1 + k..]).for_each(|(d, w)| *d = f32::from_le_bytes(*w));
        }
        for (i, (ids, distances)) in ids.chunks(ROWS * k).zip(distances.chunks(ROWS * k)).enumerate() {
            each((first + i * ROWS) as u64, ids, distances)?;
            progress.advance((ids.len() / k) as u64)?;
        }
    }
    spilled.remove()?;
    Ok(())
}

/// Bytes that handing the graph over holds: the source's row of every row,
/// write buffers, and one bucket as it is read and as it is put in order.
pub fn export_bytes(plan: &Plan) -> u64 {
    let (rows, width) = (plan.shape.rows, 4 + plan.k() as u64 * 8);
    let bucket = rows.div_ceil(plan.affinity.buckets as u64) * width;
    rows * 4 + plan.affinity.buffer_bytes + 2 * bucket + (8 << 20)
}
