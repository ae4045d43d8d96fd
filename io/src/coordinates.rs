//! Decides which columns of a table are the coordinates of a map. Pictures and scores share this
//! rule.
//!
//! What must hold: columns are never guessed. They have the usual names of map coordinates, or the
//! user names them, or the error lists the candidates.

use std::path::Path;

use arrow::datatypes::Schema;

use crate::map::coordinate_names;
use crate::{Error, Result};

/// The choice of the columns that hold a map's coordinates. An `.npy` is always taken whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Coordinates {
    /// The numeric columns `x`, `y` and `z`; else `c0`, `c1`, … as far as they are consecutive;
    /// else the only column of lists.
    #[default]
    Usual,
    /// The text that the user gave, with the syntax of [`OpenOptions::column`](crate::OpenOptions::column).
    Asked(String),
    /// Exactly the columns of these names.
    Named(Vec<String>),
}

/// Returns the indices of the numeric columns that [`Coordinates::Usual`] selects.
///
/// # Errors
/// [`Error::NoCoordinates`] if no columns have such names.
pub(crate) fn usual_columns(path: &Path, schema: &Schema) -> Result<Vec<usize>> {
    let position = |name: &String| {
        let of_numbers = |i: &usize| schema.field(*i).data_type().is_numeric();
        schema.fields().iter().position(|field| field.name() == name).filter(of_numbers)
    };
    let named = |names: Vec<String>| -> Vec<usize> { names.iter().map_while(position).collect() };
    let numbers = numeric(schema);
    let letters = named(coordinate_names(3));
    let numbered = named(coordinate_names(schema.fields().len().max(4)));
    if letters.len() >= 2 {
        return Ok(letters);
    }
    if numbered.len() >= 2 {
        return Ok(numbered);
    }
    // A map of one component: x is the first column, or the second after the id.
    if letters.first().is_some_and(|&x| x <= 1) && likely(&numbers).is_none() {
        return Ok(letters);
    }
    Err(missing(path, schema))
}

/// Returns the error that no columns of a table are recognised as a map.
pub(crate) fn missing(path: &Path, schema: &Schema) -> Error {
    let candidates = numeric(schema);
    Error::NoCoordinates { path: path.into(), likely: likely(&candidates), candidates }
}

fn numeric(schema: &Schema) -> Vec<String> {
    let fields = schema.fields().iter().filter(|field| field.data_type().is_numeric());
    fields.map(|field| field.name().clone()).collect()
}

/// Returns the only pair of names that differ in an x and a y, or else in a last digit one higher.
fn likely(names: &[String]) -> Option<[String; 2]> {
    let pairs_by = |next: &dyn Fn(&str) -> Option<String>| -> Vec<[String; 2]> {
        let pair = |name: &String| Some([name.clone(), next(name).filter(|other| names.contains(other))?]);
        names.iter().filter_map(pair).collect()
    };
    let lettered = pairs_by(&|name| {
        let at = name.rfind(['x', 'X'])?;
        let whole_word = at == 0 || at + 1 == name.len() || !name.as_bytes()[at - 1].is_ascii_alphanumeric();
        let y = if name.as_bytes()[at] == b'x' { "y" } else { "Y" };
        whole_word.then(|| format!("{}{y}{}", &name[..at], &name[at + 1..]))
    });
    let numbered = || {
        pairs_by(&|name| {
            let stem = name.trim_end_matches(['0', '1']);
            let first = matches!(&name[stem.len()..], "0" | "1");
            first.then(|| format!("{stem}{}", if name.ends_with('0') { 1 } else { 2 }))
        })
    };
    let only = |pairs: Vec<[String; 2]>| <[[String; 2]; 1]>::try_from(pairs).ok().map(|[pair]| pair);
    if lettered.is_empty() { only(numbered()) } else { only(lettered) }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    const F: DataType = DataType::Float64;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(columns: &[(&str, DataType)], expected: &[&str]) {
        let schema = schema(columns);
        let found = usual_columns(Path::new("f"), &schema).unwrap();
        let names: Vec<&str> = found.into_iter().map(|i| schema.field(i).name().as_str()).collect();
        assert_eq!(names, expected);
    }

    #[track_caller]
    fn refused(columns: &[(&str, DataType)], expected: &[&str], probable: Option<[&str; 2]>) {
        match usual_columns(Path::new("f"), &schema(columns)) {
            Err(Error::NoCoordinates { candidates, likely, .. }) => {
                assert_eq!(candidates, expected);
                assert_eq!(likely, probable.map(|pair| pair.map(String::from)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_of_maps_are_taken_whatever_their_numbers() {
        let integer = DataType::Int32;
        check(&[("score", F), ("prob", F), ("x", integer.clone()), ("y", DataType::Float16)], &["x", "y"]);
        check(&[("y", DataType::Decimal128(9, 2)), ("x", DataType::UInt64), ("z", F)], &["x", "y", "z"]);
        check(&[("x", F), ("y", F), ("z", DataType::Utf8)], &["x", "y"]);
        check(&[("x", DataType::Utf8), ("y", F), ("c1", F), ("c0", integer)], &["c0", "c1"]);
        check(&[("c0", F), ("c1", F), ("c2", F), ("c4", F)], &["c0", "c1", "c2"]);
        check(&[("id", DataType::Utf8), ("x", F), ("label", F)], &["x"]);
    }

    #[test]
    fn others_are_refused_with_the_candidates() {
        let texts = DataType::Utf8;
        let scores = [("score", F), ("prob", F), ("umap_x", F), ("umap_y", F), ("text", texts.clone())];
        refused(&scores, &["score", "prob", "umap_x", "umap_y"], Some(["umap_x", "umap_y"]));
        refused(&[("UMAP1", F), ("UMAP2", F), ("n", F)], &["UMAP1", "UMAP2", "n"], Some(["UMAP1", "UMAP2"]));
        refused(&[("dim_0", F), ("dim_1", F), ("dim_2", F)], &["dim_0", "dim_1", "dim_2"], None);
        refused(&[("X", F), ("Y", F)], &["X", "Y"], Some(["X", "Y"]));
        refused(&[("x_umap", F), ("y_umap", F)], &["x_umap", "y_umap"], Some(["x_umap", "y_umap"]));
        let two = [("umap_x", F), ("umap_y", F), ("tsne_x", F), ("tsne_y", F)];
        refused(&two, &["umap_x", "umap_y", "tsne_x", "tsne_y"], None);
        refused(
            &[("n", F), ("x", F), ("umap_x", F), ("umap_y", F)],
            &["n", "x", "umap_x", "umap_y"],
            Some(["umap_x", "umap_y"]),
        );
        refused(&[("x", texts.clone()), ("y", texts)], &[], None);
        refused(&[("axe", F), ("aye", F), ("c0", F)], &["axe", "aye", "c0"], None);
    }
}
