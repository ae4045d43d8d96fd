//! What a run takes and gives: vectors, a graph, first positions; a map or a graph.

use std::sync::Arc;

use lowland_io::Source;

use crate::plan::PlanInput;
use crate::{Error, Result};

/// Receives the map, row after row in the source's order.
pub trait MapSink: Send {
    /// Writes the coordinates (rows × components) of the rows from `first` on.
    fn write(&mut self, first: u64, coordinates: &[f32]) -> Result<()>;

    /// Makes the map durable. The engine calls `finish` after all rows have been written and scored; until
    /// `finish` returns, the files of the stages are kept, from which the map could be made again.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Collects the coordinates of all rows in memory, row after row: 4 bytes for each coordinate.
impl MapSink for Vec<f32> {
    fn write(&mut self, _first: u64, coordinates: &[f32]) -> Result<()> {
        self.extend_from_slice(coordinates);
        Ok(())
    }
}

/// A precomputed kNN graph, which replaces the neighbors stage.
pub trait GraphSource: Sync {
    /// Returns the number of neighbours of each row.
    fn k(&self) -> usize;
    /// Returns the number of rows.
    fn rows(&self) -> u64;
    /// Reads the rows from `first` on: ids (rows of the source, `u32::MAX` where missing) and distances, k of
    /// each for every row.
    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> Result<()>;
    /// Returns how many of each row's neighbours are used: the nearest ones other than the row itself. `None`:
    /// all.
    fn nearest(&self) -> Option<usize> {
        None
    }
    /// Returns the bytes that the graph holds for as long as it exists, whatever is read.
    fn resident_bytes(&self) -> u64 {
        0
    }
}

/// Receives a graph, row after row in the source's order.
pub trait GraphSink: Send {
    /// Writes the rows from `first` on: ids and distances, k of each for every row.
    fn write(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> Result<()>;

    /// Makes the graph durable. The engine calls `finish` after all rows have been written; until `finish`
    /// returns, the files of the stages are kept, from which the graph could be made again.
    fn finish(&mut self) -> Result<()>;
}

/// First positions that the user provides, instead of those of [`crate::Init`].
pub trait PositionSource: Sync {
    /// Fills `positions`, rows × components in the source's order; rows without a position are NaN.
    /// Implementations call `pulse` regularly, which fails when the run is stopped, and hold at most
    /// [`crate::init::NAME_BYTES`] bytes for each row in addition to `positions`.
    fn read(&self, positions: &mut [f32], pulse: &mut dyn FnMut() -> Result<()>) -> Result<PositionSummary>;
}

/// Statistics of first positions that the user provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionSummary {
    /// Number of rows without a position.
    pub new: u64,
    /// Where the other rows' positions come from, for messages.
    pub from: String,
}

/// The inputs of a run: vectors, a graph, or both.
#[derive(Clone, Default)]
pub struct Inputs<'a> {
    /// The vectors.
    pub source: Option<Arc<dyn Source>>,
    /// A precomputed kNN graph.
    pub graph: Option<&'a dyn GraphSource>,
    /// First positions, if [`crate::Init::File`] names a map; without them, the named file must have one row
    /// for each row of the source.
    pub first: Option<&'a dyn PositionSource>,
}

impl Inputs<'_> {
    /// Returns the properties of the inputs that a plan needs.
    ///
    /// # Errors
    /// If there is neither a source nor a graph, or if their numbers of rows differ.
    pub fn describe(&self) -> Result<PlanInput> {
        let graph = self.graph.map(|g| (g.rows(), g.nearest().map_or(g.k(), |nearest| nearest.min(g.k()))));
        match (&self.source, graph) {
            (Some(source), graph) => {
                let shape = source.shape();
                if let Some((rows, _)) = graph.filter(|&(rows, _)| rows != shape.rows) {
                    let what = format!(
                        "the graph has {rows} rows, the vectors {}; make the graph from the same rows; if some of \
                         them cannot be placed, use `invalid` null, which keeps their row numbers",
                        shape.rows
                    );
                    return Err(Error::Data { what });
                }
                let graph_k = graph.map(|(_, k)| k);
                Ok(PlanInput {
                    shape,
                    dtype: source.dtype(),
                    graph_k,
                    source_bytes: source.held_bytes(),
                    resident_bytes: source.resident_bytes(),
                })
            }
            (None, Some((rows, k))) => {
                let shape = lowland_io::Shape { rows, dim: 0 };
                Ok(PlanInput {
                    shape,
                    dtype: lowland_io::Dtype::F32,
                    graph_k: Some(k),
                    source_bytes: 0,
                    resident_bytes: self.graph.map_or(0, GraphSource::resident_bytes),
                })
            }
            (None, None) => Err(Error::Data { what: "neither vectors nor a graph were given".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    struct Held(u64);

    impl GraphSource for Held {
        fn k(&self) -> usize {
            15
        }

        fn rows(&self) -> u64 {
            1000
        }

        fn resident_bytes(&self) -> u64 {
            self.0
        }

        fn read_rows(&self, _: u64, _: &mut [u32], _: &mut [f32]) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plan_of_a_graph_alone_counts_the_bytes_that_the_graph_holds() {
        let plan = |held: u64| {
            let graph = Held(held);
            let input = Inputs { graph: Some(&graph), ..Inputs::default() }.describe().expect("a graph");
            assert_eq!((input.shape.rows, input.shape.dim, input.graph_k), (1000, 0, Some(15)));
            assert_eq!((input.source_bytes, input.resident_bytes), (0, held));
            Config::default().plan(&input).expect("a plan")
        };
        let (none, some) = (plan(0), plan(5 << 20));
        for (none, some) in none.stages().iter().zip(some.stages()) {
            assert!(some.memory >= none.memory + (5 << 20), "{}", none.stage.name());
        }
    }
}
