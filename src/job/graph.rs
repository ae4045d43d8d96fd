//! kNN graphs in files: one that replaces the neighbors stage, and one that is written.

use std::path::{Path, PathBuf};

use lowland_engine::{GraphSink, GraphSource, Metric};
use lowland_io::{Fingerprint, GraphReader, GraphWriter, MISSING, RowSet};

use super::map::KEPT_ROWS;
use super::placing::{RowPlacement, spread_rows};
use crate::Result;

/// A kNN graph in a file, which replaces the neighbors stage.
#[derive(Debug)]
pub struct GraphInput {
    pub(super) path: PathBuf,
    reader: GraphReader,
    /// How many of each row's nearest neighbours are used. Default: all.
    pub nearest: Option<usize>,
}

impl GraphInput {
    /// Opens an Arrow IPC or Parquet file of neighbours and distances.
    ///
    /// # Errors
    /// If there is no file, or the file is not a graph.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Ok(GraphInput { reader: GraphReader::open(&path)?, path, nearest: None })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metric of the distances, if the file names one that lowland knows.
    pub fn metric(&self) -> Option<Metric> {
        Metric::from_name(self.reader.metric()?)
    }

    /// Returns length and modification time, by which a changed file is recognised.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint> {
        let failed = |e| lowland_io::Error::io(&self.path, "inspect", e);
        let described = std::fs::metadata(&self.path).map_err(failed)?;
        let since = described.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = since.map_or(0, |d| d.as_nanos() as u64);
        Ok(Fingerprint { path: self.path.clone(), bytes: described.len(), modified, header: 0, etag: None })
    }
}

impl GraphSource for GraphInput {
    fn k(&self) -> usize {
        self.reader.k()
    }

    fn rows(&self) -> u64 {
        self.reader.rows()
    }

    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> lowland_engine::Result<()> {
        Ok(self.reader.read_rows(first, ids, distances)?)
    }

    fn nearest(&self) -> Option<usize> {
        self.nearest
    }
}

/// The graph that is being written.
pub(super) struct GraphFile {
    pub(super) writer: Option<GraphWriter>,
    pub(super) placing: RowPlacement,
}

impl GraphSink for GraphFile {
    fn write(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> lowland_engine::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let named = |rows: &RowSet, ids: &[u32]| -> Vec<u32> {
            let name = |&id: &u32| if id == MISSING { MISSING } else { rows.source_row(u64::from(id)) as u32 };
            ids.iter().map(name).collect()
        };
        match &mut self.placing {
            RowPlacement::All => writer.write_rows(first, ids, distances)?,
            RowPlacement::Drop(rows) => {
                let count = ids.len() / writer.k();
                let own: Vec<u32> = (first..first + count as u64).map(|row| rows.source_row(row) as u32).collect();
                writer.write_named_rows(first, &own, &named(rows, ids), distances)?;
            }
            RowPlacement::Null(rows, next) => {
                let k = writer.k();
                let (mut ids, mut distances) = (ids.chunks_exact(k), distances.chunks_exact(k));
                let count = ids.len();
                *next = spread_rows(rows, (first, count), *next, KEPT_ROWS, |row, here| {
                    let (mut all, mut far) = (vec![MISSING; here * k], vec![f32::INFINITY; here * k]);
                    for (i, (all, far)) in (row..).zip(all.chunks_exact_mut(k).zip(far.chunks_exact_mut(k))) {
                        if rows.contains(i)
                            && let (Some(ids), Some(distances)) = (ids.next(), distances.next())
                        {
                            all.copy_from_slice(&named(rows, ids));
                            far.copy_from_slice(distances);
                        }
                    }
                    Ok(writer.write_rows(row, &all, &far)?)
                })?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.writer.take().map_or(Ok(()), |graph| Ok(graph.finish().map(|_| ())?))
    }
}
