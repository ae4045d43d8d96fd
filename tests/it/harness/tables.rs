//! Sources in memory, and data for tests.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use lowland_datasets::{DatasetKind, Generator, Mixture};
use lowland_engine::Metric;
use lowland_io::{Dtype, RowLocation, Shape, Source, SourceId};

/// Rows in memory. Reading row `fails_at` is an error.
pub(crate) struct TestTable {
    pub(crate) dim: usize,
    pub(crate) values: Vec<f32>,
    pub(crate) fails_at: Option<u64>,
}

impl TestTable {
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Arc<Self> {
        assert_eq!(values.len() % dim, 0);
        Arc::new(TestTable { dim, values, fails_at: None })
    }

    /// A generator's table.
    pub(crate) fn of(kind: DatasetKind, rows: usize, dim: usize, seed: u64) -> Arc<Self> {
        Self::new(dim, Generator::new(kind, rows as u64, dim, seed).expect("a generator").table(0, rows))
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Rows as the metric sees them: squared distances between these are what it orders by.
    pub(crate) fn prepared(&self, metric: Metric) -> Vec<f64> {
        let mut rows: Vec<f64> = self.values.iter().map(|&x| f64::from(x)).collect();
        if metric == Metric::Cosine {
            for row in rows.chunks_exact_mut(self.dim) {
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().filter(|_| norm > 0.0).for_each(|x| *x /= norm);
            }
        }
        rows
    }
}

impl Source for TestTable {
    fn shape(&self) -> Shape {
        Shape { rows: self.rows() as u64, dim: self.dim }
    }
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn read_rows(&self, first: u64, out: &mut [f32]) -> lowland_io::Result<()> {
        let end = first + (out.len() / self.dim) as u64;
        if self.fails_at.is_some_and(|at| (first..end).contains(&at)) {
            return Err(lowland_io::Error::Corrupt { path: "memory".into(), what: "this row cannot be read".into() });
        }
        out.copy_from_slice(&self.values[first as usize * self.dim..][..out.len()]);
        Ok(())
    }
    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> lowland_io::Result<()> {
        let mut values = vec![0.0; out.len()];
        self.read_rows(first, &mut values)?;
        out.iter_mut().zip(values).for_each(|(slot, value)| *slot = f64::from(value));
        Ok(())
    }
    fn locate(&self, row: u64) -> RowLocation {
        RowLocation { path: "memory".into(), row }
    }
    fn columns(&self) -> Vec<String> {
        Vec::new()
    }
    fn read_columns(&self, _: &[String], _: u64, _: usize) -> lowland_io::Result<RecordBatch> {
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
    fn id(&self) -> lowland_io::Result<SourceId> {
        Ok(SourceId::Once)
    }
    fn vector_column(&self) -> Option<String> {
        None
    }
}

/// A mixture whose clouds touch, small enough to be compared pair by pair.
pub(crate) fn mixture(rows: usize, dim: usize) -> Arc<TestTable> {
    TestTable::of(DatasetKind::Mixture(Mixture { components: 30, ..Mixture::default() }), rows, dim, 7)
}

/// The table with `by` added to every component.
pub(crate) fn shifted(table: &TestTable, by: f32) -> Arc<TestTable> {
    TestTable::new(table.dim, table.values.iter().map(|x| x + by).collect())
}

/// Writes rows of floats as numpy does.
pub(crate) fn write_npy(path: &Path, values: &[f32], width: usize) {
    let columns = lowland_io::MapColumns {
        rows: (values.len() / width) as u64,
        coordinates: lowland_io::coordinate_names(width),
        extra: None,
        own_id: false,
        nullable: false,
    };
    let mut writer = lowland_io::MapWriter::create(path, columns, false).expect("a file");
    writer.write_rows(0, values, None).expect("written");
    writer.finish().expect("written");
}

/// A linear congruential generator.
pub(crate) struct Lcg(pub(crate) u64);

impl Lcg {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}
