//! Evaluates a map file against vectors, labels and a graph in files: reads the inputs and checks
//! that their rows correspond. The scores are computed by [`lowland_engine::evaluate`].
//!
//! What must hold: all inputs are tables of the same rows in the same order; visible differences
//! are refused before anything is compared.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Float32Type};
use lowland_engine::evaluate::{
    self, EvaluationConfig, EvaluationInput, LABEL_BYTES, Labels, MAX_LABELS, MapPoints, READ_ROWS, UNLABELED,
};
use lowland_engine::invalid::{self, ExcludedRows};
use lowland_engine::{Event, GraphSource, Observer};
use lowland_io::{Coordinates, RowSet, RowSetBuilder, Source, SubsetSource};

use crate::invalid_rows::{FilteredGraph, InvalidRows, shift_source};
use crate::job::GraphInput;
use crate::plot::{UUID, texts};
use crate::{Error, Result};

/// Rows of text columns read at a time.
const TEXT_ROWS: usize = 8192;

/// An evaluation. Fill in the fields, then call [`run`](Evaluation::run).
pub struct Evaluation {
    /// The map, as opened by [`open_map`].
    pub map: Arc<dyn Source>,
    /// The vectors from which the map was made, in the same row order.
    pub source: Option<Arc<dyn Source>>,
    /// A kNN graph of the vectors whose recall is measured.
    pub graph: Option<GraphInput>,
    /// Columns of labels, in the map or else in the source.
    pub labels: Vec<String>,
    /// A column of weights for the silhouette, in the map or else in the source.
    pub weights: Option<String>,
    /// A column with the rows' ids that both tables have. By default the map's first column is
    /// compared if the source has it too, and row numbers in a column `id` must be in order.
    pub id: Option<String>,
    /// How unusable rows of the source are handled: refused, or left out of all tables. Rows of the
    /// map without coordinates are always left out.
    pub invalid: InvalidRows,
    /// The options of the evaluation.
    pub config: EvaluationConfig,
}

/// Opens a map. `coordinates` names the columns (with the syntax of [`open`](crate::open)); by
/// default the [`Coordinates::Usual`] ones. An `.npy` is taken whole.
///
/// # Errors
/// If there is no file, or no such columns.
pub fn open_map(path: &Path, coordinates: Option<&str>) -> Result<Arc<dyn Source>> {
    let coordinates = coordinates.map_or(Coordinates::Usual, |asked| Coordinates::Asked(asked.into()));
    Ok(lowland_io::open_map(&path.to_string_lossy(), &coordinates)?.into())
}

/// The rows that all tables have in common.
struct AlignedTables {
    /// The tables, restricted to these rows.
    tables: Evaluation,
    /// The graph's rows that are among them; `None` if all are.
    graph_rows: Option<Arc<RowSet>>,
    /// The rows' numbers in the source, if the map was made without some of the source's rows.
    numbers: Option<Arc<RowSet>>,
    /// The number of rows of the map that are left out because they have no coordinates.
    without_coordinates: u64,
    /// The rows of the source that are left out.
    invalid: Option<ExcludedRows>,
}

/// Returns the rows of `set`, a set of `all` rows, for which `keep` holds.
fn filter_rows(set: &RowSet, all: u64, keep: impl Fn(u64) -> bool) -> RowSet {
    let mut kept = RowSetBuilder::new(all);
    (0..all).filter(|&row| !(set.contains(row) && keep(row))).for_each(|row| kept.remove(row));
    kept.finish()
}

impl Evaluation {
    /// Returns an evaluation of a map alone, with default settings.
    pub fn new(map: Arc<dyn Source>) -> Self {
        Evaluation {
            map,
            source: None,
            graph: None,
            labels: Vec::new(),
            weights: None,
            id: None,
            invalid: InvalidRows::default(),
            config: EvaluationConfig::default(),
        }
    }

    /// Checks everything that can be checked without reading rows, and decides every parameter. The
    /// number of labels is not known yet and is assumed to be small.
    ///
    /// # Errors
    /// Name the invalid option, the inputs whose numbers of rows differ, the missing column, or the
    /// smallest sufficient budget.
    pub fn plan(&self) -> Result<evaluate::EvaluationPlan> {
        let rows = self.map.shape().rows;
        // If rows are left out, the number of remaining rows is not known yet.
        let of_source = self.source.as_ref().filter(|_| self.invalid == InvalidRows::Error);
        let of_source = of_source.map(|source| ("the source", source.shape().rows));
        let of_graph = self.graph.as_ref().filter(|_| self.invalid == InvalidRows::Error);
        let of_graph = of_graph.map(|graph| ("the graph", graph.rows()));
        for (what, has) in of_source.into_iter().chain(of_graph) {
            if has != rows {
                return Err(Error::job(format!(
                    "{}: the map has {rows} rows, {what} has {has}: they must be the same rows in the same order",
                    self.path()
                )));
            }
        }
        for column in self.labels.iter().chain(&self.weights) {
            let table = self.table_of(column)?;
            // The common type over all files, from their headers.
            let schema = table.column_schema(std::slice::from_ref(column))?;
            let kind = schema.field(0).data_type();
            let plain = if let DataType::Dictionary(_, values) = kind { values } else { kind };
            if self.labels.contains(column) && *plain != UUID && !can_cast_types(plain, &DataType::Utf8) {
                return Err(Error::job(format!("{}: `labels` {column}: type {kind} cannot be labels", self.path())));
            }
            if self.weights.as_ref() == Some(column) && !plain.is_numeric() {
                return Err(Error::job(format!(
                    "{}: `weights` {column}: type {kind} is not a number, and weights are numbers",
                    self.path()
                )));
            }
        }
        self.plan_for(vec![1; self.labels.len()], self.graph.as_ref().map(GraphInput::k))
    }

    fn plan_for(&self, labels: Vec<usize>, graph_k: Option<usize>) -> Result<evaluate::EvaluationPlan> {
        let (shape, source) = (self.map.shape(), self.source.as_ref());
        let held = self.map.held_bytes().max(source.map_or(0, |source| source.held_bytes()));
        // Each table may need a set of the remaining rows.
        let held =
            held + 2 * (RowSet::bytes(shape.rows) + source.map_or(0, |source| RowSet::bytes(source.shape().rows)));
        let input = EvaluationInput {
            rows: shape.rows,
            n_components: shape.dim,
            dim: source.map(|source| source.shape().dim),
            source_bytes: held,
            graph_k,
            labels,
            weights: self.weights.is_some(),
        };
        Ok(self.config.plan(&input)?)
    }

    /// Reads the map and the labels, and computes all scores.
    ///
    /// # Errors
    /// Those of [`plan`](Evaluation::plan); non-finite coordinates, invalid labels or weights, and
    /// rows in another order than the source's, each with its place; errors of the engine.
    pub fn run(&self, observer: &dyn Observer) -> Result<evaluate::EvaluationReport> {
        self.plan()?;
        let before = self.fingerprints()?;
        let AlignedTables { tables, graph_rows, numbers, without_coordinates, invalid } = self.common(observer)?;
        tables.check_order(numbers.as_deref(), observer)?;
        let map = tables.read_map(observer)?;
        let labels = tables.labels.iter().map(|column| tables.read_labels(column, observer));
        let labels = labels.collect::<Result<Vec<Labels>>>()?;
        let weights = tables.weights.as_ref().map(|column| tables.read_weights(column, observer)).transpose()?;
        tables.map.release();
        let counts = labels.iter().map(|labels| labels.count).collect();
        let plan = tables.plan_for(counts, self.graph.as_ref().map(GraphInput::k))?;
        let graph = self.graph.as_ref().map(|graph| FilteredGraph { graph, rows: graph_rows });
        let graph = graph.as_ref().map(|graph| graph as &dyn GraphSource);
        let allowed = self.config.metric.ignores_shift();
        let source = tables.source.as_ref().map(|source| shift_source(source.clone(), allowed)).transpose()?;
        let subject =
            evaluate::EvaluationSubject { map, source: source.map(|(source, _)| source), graph, labels, weights };
        let mut report = evaluate::evaluate(&plan, &subject, observer)?;
        (report.without_coordinates, report.invalid) = (without_coordinates, invalid);
        match lowland_io::check_unchanged(&before, &self.fingerprints()?) {
            Err(lowland_io::Error::Changed { path, what }) => Err(Error::job(format!(
                "{}: changed while it was read: {what}; evaluate again when the program that writes it has finished",
                path.display()
            ))),
            unchanged => Ok(unchanged.map(|()| report)?),
        }
    }

    /// Restricts the tables to the rows that have coordinates in the map and, if requested, a
    /// usable vector in the source. A map that was made without unusable rows may lack them.
    fn common(&self, observer: &dyn Observer) -> Result<AlignedTables> {
        let rows = self.map.shape().rows;
        let there = self.with_coordinates(observer)?;
        let without_coordinates = rows - there.count();
        let mut invalid = None;
        let mut of_source = None;
        if let Some(source) = self.source.as_ref().filter(|_| self.invalid != InvalidRows::Error) {
            let found = invalid::survey(source, self.config.metric, self.config.memory, observer)?;
            let (count, all) = (found.rows.count(), found.rows.all());
            if all != rows && count != rows {
                return Err(Error::job(format!(
                    "{}: the map has {rows} rows, the source has {all}, of which {count} have usable vectors: they must be \
                     the same rows in the same order",
                    self.path()
                )));
            }
            let (rows, kinds) = (found.flaws.rows(), found.flaws);
            invalid = Some(ExcludedRows { invalid: InvalidRows::Drop.name().into(), rows, of: all, kinds });
            of_source = Some(found.rows);
        }
        let fewer = of_source.as_ref().is_some_and(|placed| placed.all() != rows);
        let (of_map, of_source) = match of_source {
            // The map does not contain the unusable rows.
            Some(placed) if placed.all() != rows => {
                let both = filter_rows(&placed, placed.all(), |row| there.contains(placed.rank(row)));
                (there, both)
            }
            Some(placed) => {
                let both = filter_rows(&there, rows, |row| placed.contains(row));
                (both.clone(), both)
            }
            None => (there.clone(), there),
        };
        let (of_map, of_source) = (Arc::new(of_map), Arc::new(of_source));
        let part = |table: &Arc<dyn Source>, rows: &Arc<RowSet>| -> Arc<dyn Source> {
            match rows.count() == rows.all() {
                true => table.clone(),
                false => Arc::new(SubsetSource::new(table.clone(), rows.clone())),
            }
        };
        let whole = of_source.count() == of_source.all();
        let graph_rows = (!whole).then(|| match &self.graph {
            Some(graph) if graph.rows() == of_map.all() => of_map.clone(),
            _ => of_source.clone(),
        });
        if let Some(graph) = &self.graph {
            let (has, map) = (graph.rows(), of_map.count());
            if has != map && graph_rows.as_ref().is_none_or(|rows| rows.all() != has) {
                let what = format!(
                    "the map has {map} rows, the graph has {has}: they must be the same rows in the same order"
                );
                return Err(Error::job(format!("{}: {what}", self.path())));
            }
        }
        let tables = Evaluation {
            map: part(&self.map, &of_map),
            source: self.source.as_ref().map(|source| part(source, &of_source)),
            graph: None,
            labels: self.labels.clone(),
            weights: self.weights.clone(),
            id: self.id.clone(),
            invalid: self.invalid,
            config: self.config.clone(),
        };
        let numbers = fewer.then_some(of_source);
        Ok(AlignedTables { tables, graph_rows, numbers, without_coordinates, invalid })
    }

    /// Returns the rows of the map whose coordinates are not all null or NaN.
    fn with_coordinates(&self, observer: &dyn Observer) -> Result<RowSet> {
        let shape = self.map.shape();
        let mut there = RowSetBuilder::new(shape.rows);
        self.each_position(observer, &mut |first, values| {
            for (row, point) in (first..).zip(values.chunks_exact(shape.dim)) {
                if point.iter().all(|x| x.is_nan()) {
                    there.remove(row);
                }
            }
            Ok(())
        })?;
        Ok(there.finish())
    }

    /// Calls `each(first, values)` with all rows of the map, in portions.
    fn each_position(&self, observer: &dyn Observer, each: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        let shape = self.map.shape();
        let mut values = vec![0f32; READ_ROWS.min(shape.rows as usize) * shape.dim];
        for first in (0..shape.rows).step_by(READ_ROWS) {
            pulse(observer)?;
            let count = (shape.rows - first).min(READ_ROWS as u64) as usize;
            let values = &mut values[..count * shape.dim];
            self.map.read_rows(first, values)?;
            each(first, values)?;
        }
        Ok(())
    }

    fn fingerprints(&self) -> Result<Vec<lowland_io::Fingerprint>> {
        let mut files = self.map.fingerprints()?;
        if let Some(source) = &self.source {
            files.extend(source.fingerprints()?);
        }
        Ok(files)
    }

    fn path(&self) -> String {
        self.map.locate(0).path.display().to_string()
    }

    /// Returns the table that has a column: the map, or else the source.
    fn table_of(&self, column: &str) -> Result<&dyn Source> {
        let has = |table: &&dyn Source| table.columns().iter().any(|name| name == column);
        let tables = [Some(self.map.as_ref()), self.source.as_deref()];
        if let Some(table) = tables.into_iter().flatten().find(has) {
            return Ok(table);
        }
        // A column that only some of the source's files have: the error names a file without it.
        if let Some(source) = &self.source
            && let Err(error @ lowland_io::Error::Format { .. }) = source.column_schema(&[column.to_string()])
        {
            return Err(error.into());
        }
        let list = |table: &dyn Source| match table.columns().as_slice() {
            [] => "none".to_string(),
            names => names.join(", "),
        };
        let source = self.source.as_deref().map(|source| format!("; the source's are {}", list(source)));
        let (path, map) = (self.path(), list(self.map.as_ref()));
        Err(Error::job(format!("{path}: no column \"{column}\"; the map's are {map}{}", source.unwrap_or_default())))
    }

    /// Calls `each(first, values)` with a column of a table, in portions.
    fn column(
        &self,
        table: &dyn Source,
        column: &str,
        observer: &dyn Observer,
        each: &mut dyn FnMut(u64, &ArrayRef) -> Result<()>,
    ) -> Result<()> {
        let rows = table.shape().rows;
        for first in (0..rows).step_by(TEXT_ROWS) {
            pulse(observer)?;
            let count = (rows - first).min(TEXT_ROWS as u64) as usize;
            let batch = table.read_columns(&[column.to_string()], first, count)?;
            each(first, batch.column(0))?;
        }
        Ok(())
    }

    fn read_map(&self, observer: &dyn Observer) -> Result<MapPoints> {
        let shape = self.map.shape();
        let mut points = MapPoints::new(shape.rows as usize, shape.dim);
        self.each_position(observer, &mut |first, values| {
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                let row = first + (at / shape.dim) as u64;
                return Err(lowland_engine::invalid::not_finite(self.map.as_ref(), row, at % shape.dim).into());
            }
            points.set_rows(first as usize, values);
            Ok(())
        })?;
        Ok(points)
    }

    /// Reads a column of labels. Codes are assigned in order of appearance.
    fn read_labels(&self, column: &str, observer: &dyn Observer) -> Result<Labels> {
        let table = self.table_of(column)?;
        let mut codes = Vec::with_capacity(table.shape().rows as usize);
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut bytes = 0;
        self.column(table, column, observer, &mut |first, values| {
            let wrong = |why: String| Err(Error::job(format!("{}: `labels` {column}: {why}", self.path())));
            // pandas writes missing values as NaN.
            let floats = values.data_type().is_floating();
            let values = match texts(values) {
                Ok(texts) => texts,
                Err(_) => return wrong(format!("type {} cannot be labels", values.data_type())),
            };
            for label in &values {
                let Some(label) = label.filter(|&label| !(floats && label == "NaN")) else {
                    codes.push(UNLABELED);
                    continue;
                };
                let code = match seen.get(label) {
                    Some(&code) => code,
                    None => {
                        let code = seen.len() as u32;
                        bytes += label.len();
                        if seen.len() == MAX_LABELS || bytes > LABEL_BYTES {
                            return wrong(format!(
                                "more than {MAX_LABELS} labels, or texts of more than {} MiB, up to row {}; \
                                 choose a column with fewer labels",
                                LABEL_BYTES >> 20,
                                first + (codes.len() as u64 - first)
                            ));
                        }
                        seen.insert(label.into(), code);
                        code
                    }
                };
                codes.push(code);
            }
            Ok(())
        })?;
        Ok(Labels { name: column.into(), codes, count: seen.len() })
    }

    fn read_weights(&self, column: &str, observer: &dyn Observer) -> Result<Vec<f32>> {
        let table = self.table_of(column)?;
        let mut weights = Vec::with_capacity(table.shape().rows as usize);
        self.column(table, column, observer, &mut |first, values| {
            let wrong = |why: String| Error::job(format!("{}: `weights` {column}: {why}", self.path()));
            let numbers = Some(values.data_type()).filter(|kind| kind.is_numeric());
            let numbers = numbers.and_then(|_| cast(values, &DataType::Float32).ok());
            let numbers = numbers.as_ref().and_then(|numbers| numbers.as_primitive_opt::<Float32Type>());
            let Some(numbers) = numbers else {
                return Err(wrong(format!("type {} is not a number, and weights are numbers", values.data_type())));
            };
            for (row, weight) in (first..).zip(numbers) {
                match weight {
                    Some(weight) if weight.is_finite() && weight >= 0.0 => weights.push(weight),
                    Some(weight) => {
                        return Err(wrong(format!("the weight of row {row} is {weight}; weights must be 0 or more")));
                    }
                    None => return Err(wrong(format!("row {row} has no weight"))),
                }
            }
            Ok(())
        })?;
        Ok(weights)
    }

    /// Refuses a map whose rows are visibly in another order than the source's.
    fn check_order(&self, numbers: Option<&RowSet>, observer: &dyn Observer) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let has = |table: &dyn Source, name: &String| table.columns().contains(name);
        let map = self.map.as_ref();
        if let Some(id) = &self.id {
            for (what, table) in [("map", map), ("source", source.as_ref())] {
                if !has(table, id) {
                    let why = format!("`id`: the {what} has no column \"{id}\" to identify its rows by");
                    return Err(Error::job(format!("{}: {why}", table.locate(0).path.display())));
                }
            }
            return self.same_values(source.as_ref(), id, observer);
        }
        let coordinates = map.vector_column().unwrap_or_default();
        let first = map.columns().into_iter().next();
        match first.filter(|name| !coordinates.split(',').any(|c| c == name)) {
            Some(name) if has(source.as_ref(), &name) => self.same_values(source.as_ref(), &name, observer),
            Some(name) if name == "id" => self.check_numbers(&name, numbers, observer),
            _ => Ok(()),
        }
    }

    fn same_values(&self, source: &dyn Source, name: &str, observer: &dyn Observer) -> Result<()> {
        self.column(self.map.as_ref(), name, observer, &mut |first, ours| {
            let theirs = source.read_columns(&[name.to_string()], first, ours.len())?;
            let (Ok(ours), Ok(theirs)) = (texts(ours), texts(theirs.column(0))) else { return Ok(()) };
            let differ = (first..).zip(ours.iter().zip(&theirs)).find(|(_, (ours, theirs))| ours != theirs);
            let Some((row, (ours, theirs))) = differ else { return Ok(()) };
            let [ours, theirs] =
                [ours, theirs].map(|value| value.map_or("null".into(), |value| format!("\"{value}\"")));
            Err(Error::job(format!(
                "{}: row {row}: {name} is {ours}, and in the source {theirs}: they must be the same rows in the same \
                 order",
                self.path()
            )))
        })
    }

    /// Refuses row numbers that are not those of the source's rows, in order. `numbers` are the source's rows if
    /// the map was made without some of them.
    fn check_numbers(&self, name: &str, numbers: Option<&RowSet>, observer: &dyn Observer) -> Result<()> {
        let (mut moved, mut other) = (None, false);
        let rows = numbers.map_or(self.map.shape().rows, RowSet::all);
        let expected = |row: u64| numbers.map_or(row, |numbers| numbers.source_row(row));
        self.column(self.map.as_ref(), name, observer, &mut |first, values| {
            let Ok(ids) = cast(values, &DataType::UInt64) else {
                other = true;
                return Ok(());
            };
            let ids = ids.as_primitive_opt::<arrow::datatypes::UInt64Type>();
            for (row, id) in (first..).zip(ids.into_iter().flatten()) {
                // Numbers that are not row numbers are ids of another kind.
                other |= id.is_none_or(|id| id >= rows);
                moved = moved.or(id.filter(|&id| id != expected(row)).map(|id| (row, id)));
            }
            Ok(())
        })?;
        let Some((row, id)) = moved.filter(|_| !other) else { return Ok(()) };
        let why = match numbers {
            None => "the map is not in the source's order; sort it by id".into(),
            Some(_) => format!(
                "the usable row of the source in its place is row {}; map and source must have the same rows in the same order",
                expected(row)
            ),
        };
        Err(Error::job(format!("{}: row {row} has the id {id}: {why}", self.path())))
    }
}

fn pulse(observer: &dyn Observer) -> Result<()> {
    let stop = observer.event(&Event::Pulse).is_break();
    if stop { Err(lowland_engine::Error::Cancelled { stage: "input" }.into()) } else { Ok(()) }
}
