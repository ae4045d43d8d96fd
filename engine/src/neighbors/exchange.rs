//! Import and export of kNN graphs. External graphs number rows in the source's order; internal graphs in list order.

use lowland_io::buckets::ByteBucketWriter;

use super::graph_writer::{KnnGraphWriter, RowStats};
use super::{GraphStats, KnnGraph, MISSING, TieBreaker, TruthSample, exact_neighbors, sample};
use crate::budget::MemoryNeeds;
use crate::index::{InvertedLists, table_bytes};
use crate::inputs::{GraphSink, GraphSource};
use crate::plan::Plan;
use crate::work::{StageContext, StageFiles};
use crate::{Error, Result};

/// Number of rows processed at a time.
const PORTION_ROWS: usize = 8192;

/// Converts a precomputed graph to list order, using buckets of rows on disk, and writes its parts.
///
/// Entries that name the row itself, repeated neighbours (by row number), and infinitely distant
/// neighbours are dropped. The other neighbours are sorted by distance, ties as in the join, and the `k`
/// nearest of the plan are kept. The written graph has as many neighbours per row as the row with the
/// most kept neighbours. Without `lists` the source's order is kept.
///
/// # Errors
/// [`Error::Data`] if the graph names a row that does not exist, or contains no neighbours.
pub fn import(
    plan: &Plan,
    graph: &dyn GraphSource,
    lists: Option<&InvertedLists>,
    work: &StageContext<'_>,
) -> Result<(StageFiles, GraphStats, TruthSample)> {
    let (given_k, rows, progress) = (graph.k(), plan.shape.rows as u32, work.progress);
    let needs = import_needs(plan);
    let _held = work.reserve(&needs, "import")?;
    // The position in list order of each row of the source.
    let place: Option<Vec<u32>> = lists.map(|lists| {
        let mut place = vec![0u32; rows as usize];
        let sources = (0..lists.table.count()).flat_map(|list| lists.source_rows(list));
        sources.enumerate().for_each(|(here, source)| place[source as usize] = here as u32);
        place
    });
    let here = |source: u32| place.as_ref().map_or(source, |place| place[source as usize]);

    let ties = TieBreaker::new(plan.settings.seed);
    let kept_k = plan.k();
    let width = 4 + kept_k * 8;
    let buckets = plan.exchange.buckets.max(1);
    let rows_a_bucket = (rows as usize).div_ceil(buckets);
    let mut spill =
        ByteBucketWriter::create(work.run.dir(), "import", buckets, width, plan.exchange.buffer_bytes as usize);
    let (mut ids, mut distances) = (Vec::new(), Vec::new());
    let mut near: Vec<(f32, u32)> = Vec::with_capacity(given_k);
    let mut record = Vec::with_capacity(width);
    let mut k = 0;
    // Longer rows are read in smaller portions, so that a portion takes as much memory as one of kept rows.
    let portion = (PORTION_ROWS * kept_k / given_k).clamp(1, PORTION_ROWS);
    for first in (0..rows as usize).step_by(portion) {
        let count = portion.min(rows as usize - first);
        ids.resize(count * given_k, 0);
        distances.resize(count * given_k, 0.0);
        graph.read_rows(first as u64, &mut ids, &mut distances)?;
        for (i, (ids, distances)) in ids.chunks_exact(given_k).zip(distances.chunks_exact(given_k)).enumerate() {
            let source = (first + i) as u32;
            let own = here(source);
            near.clear();
            for (&id, &distance) in ids.iter().zip(distances) {
                if id == MISSING || id == source || !distance.is_finite() {
                    continue;
                }
                if id >= rows {
                    let what = format!("row {source} of the graph lists row {id}, but there are only {rows} rows");
                    return Err(Error::Data { what });
                }
                near.push((distance, here(id)));
            }
            near.sort_unstable_by(|a, b| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0)));
            near.dedup_by_key(|&mut (_, id)| id);
            let rank = |&(_, id): &(f32, u32)| ties.rank(own, id);
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| rank(a).cmp(&rank(b))));
            near.truncate(kept_k);
            k = k.max(near.len());
            record.clear();
            record.extend(own.to_le_bytes());
            let missing = std::iter::repeat_n(&(f32::INFINITY, MISSING), kept_k - near.len());
            for (distance, id) in near.iter().chain(missing) {
                record.extend(id.to_le_bytes());
                record.extend(distance.to_le_bytes());
            }
            spill.push(own as usize / rows_a_bucket, &record)?;
        }
        progress.traffic.read((count * given_k * 8) as u64);
        progress.check()?;
    }
    let spilled = spill.finish()?;
    drop(place);
    if k == 0 {
        return Err(Error::Data { what: "each row of the graph lists only itself".into() });
    }

    let mut truth = match lists {
        Some(lists) => exact_neighbors(plan, lists, k, progress)?,
        // Without vectors recall cannot be measured, so the graph itself serves as the reference.
        None => TruthSample { rows: sample::sample_rows(plan), neighbors: Vec::new() },
    };
    let mut tiles = KnnGraphWriter::begin(rows, k, *work);
    let mut sampled = 0;
    let mut bytes = Vec::new();
    for bucket in 0..buckets {
        spilled.read(bucket, &mut bytes)?;
        let mut records: Vec<&[u8]> = bytes.chunks_exact(width).collect();
        records.sort_unstable_by_key(|record| word_at(record, 0));
        for record in records {
            let row = word_at(record, 0);
            let near = (0..kept_k)
                .map(|i| (word_at(record, 1 + 2 * i), f32::from_bits(word_at(record, 2 + 2 * i))))
                .take_while(|&(id, _)| id != MISSING);
            let mut recall = None;
            if truth.rows.get(sampled) == Some(&row) {
                match (lists, truth.neighbors.get(sampled)) {
                    (Some(_), Some(truth)) => {
                        let hit = near.clone().filter(|(id, _)| truth.iter().any(|(_, t)| t == id)).count();
                        recall = Some(hit as f64 / truth.len().max(1) as f64);
                    }
                    _ => truth.neighbors.push(near.clone().map(|(id, distance)| (distance, id)).collect()),
                }
                sampled += 1;
            }
            tiles.push(near, RowStats { lists: 0, compared: 0, recall })?;
        }
        progress.advance(rows_a_bucket.min((rows as usize).saturating_sub(bucket * rows_a_bucket)) as u64)?;
    }
    spilled.remove()?;
    let (mut made, found) = tiles.finish();
    made.push(truth.write(work)?);
    Ok((made, found, truth))
}

/// Returns the little-endian word at index `i` of a record.
fn word_at(record: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(record.as_chunks::<4>().0[i])
}

/// Returns the memory that an import holds: the position of each row, write buffers, then one bucket with
/// the order of its rows, and a portion of the graph as read.
pub(crate) fn import_needs(plan: &Plan) -> MemoryNeeds {
    let (rows, width) = (plan.shape.rows, 4 + plan.k() as u64 * 8);
    let bucket = rows.div_ceil(plan.exchange.buckets as u64) * (width + 16);
    MemoryNeeds::default().phase(
        "import",
        [
            ("rows' places", if plan.shape.dim > 0 { rows * 4 } else { 0 }),
            ("a bucket of the graph", plan.exchange.buffer_bytes.max(bucket)),
            ("a portion of the graph", 4 * (PORTION_ROWS as u64).min(rows) * width + (4 << 20)),
            ("the sample's neighbours", if plan.shape.dim > 0 { super::sweep_bytes(plan) } else { 0 }),
            ("lists' centroids", table_bytes(plan)),
        ],
    )
}

/// Returns the bytes that an import holds on disk temporarily.
pub(crate) fn import_disk(plan: &Plan) -> u64 {
    plan.shape.rows * (4 + plan.k() as u64 * 8)
}

/// Passes the graph to `sink` in the source's order, using buckets of source rows on disk.
///
/// # Errors
/// [`Error::Data`] without `lists`; errors of the disk or of `sink`.
pub fn export(
    plan: &Plan,
    graph: &KnnGraph,
    lists: Option<&InvertedLists>,
    sink: &mut dyn GraphSink,
    work: &StageContext<'_>,
) -> Result<()> {
    let (rows, k, progress) = (graph.rows(), graph.k(), work.progress);
    let _held = work.reserve(&export_needs(plan), "export")?;
    let Some(lists) = lists else {
        return Err(Error::Data { what: "a graph that came from outside needs no export".into() });
    };
    // The source row of each row in list order; neighbours are renamed by this table.
    let source_of: Vec<u32> =
        (0..lists.table.count()).flat_map(|list| lists.source_rows(list)).map(|row| row as u32).collect();
    let width = 4 + k * 8;
    let buckets = plan.exchange.buckets.max(1);
    let rows_a_bucket = (rows as usize).div_ceil(buckets);
    let mut writer =
        ByteBucketWriter::create(work.run.dir(), "export", buckets, width, plan.exchange.buffer_bytes as usize);
    let mut record = Vec::with_capacity(width);
    for (row, &source) in source_of.iter().enumerate() {
        record.clear();
        record.extend(source.to_le_bytes());
        let ids = graph.neighbors(row as u32).map(|id| source_of[id as usize]);
        ids.chain(std::iter::repeat(MISSING)).take(k).for_each(|id| record.extend(id.to_le_bytes()));
        graph.distances(row as u32)?.iter().for_each(|d| record.extend(d.to_le_bytes()));
        writer.push(source as usize / rows_a_bucket, &record)?;
        if row % PORTION_ROWS == 0 {
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
        for (i, (ids, distances)) in ids.chunks(PORTION_ROWS * k).zip(distances.chunks(PORTION_ROWS * k)).enumerate() {
            sink.write((first + i * PORTION_ROWS) as u64, ids, distances)?;
            progress.advance((ids.len() / k) as u64)?;
        }
    }
    spilled.remove()?;
    Ok(())
}

/// Returns the memory that an export holds: the source row of each row, write buffers, and one bucket as
/// read and in order.
pub(crate) fn export_needs(plan: &Plan) -> MemoryNeeds {
    let (rows, width) = (plan.shape.rows, 4 + plan.k() as u64 * 8);
    let bucket = rows.div_ceil(plan.exchange.buckets as u64) * width;
    MemoryNeeds::default().phase(
        "export",
        [
            ("rows' sources", rows * 4),
            ("a bucket of the graph", plan.exchange.buffer_bytes.max(2 * bucket)),
            ("a portion of the graph, encoded", 2 * (PORTION_ROWS as u64).min(rows) * width + (4 << 20)),
            ("the graph's file", lowland_io::GraphWriter::bytes(rows, plan.k())),
            ("lists' centroids", table_bytes(plan)),
        ],
    )
}

/// Returns the bytes that an export holds on disk temporarily.
pub(crate) fn export_disk(plan: &Plan) -> u64 {
    import_disk(plan)
}
