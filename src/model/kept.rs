//! The columns that a model keeps of each row: which a table can have, and whether a later table has the same.

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use lowland_io::{Source, coordinate_names};
use lowland_model::snapshot::{is_kept_as, kept_schema};

use super::export::OWN_COLUMNS;
use crate::{Error, Result};

/// Refuses names that occur twice, that are the id's, or that an export of a map of `n_components` has itself.
pub(super) fn check_names(keep: &[String], id: Option<&str>, n_components: usize) -> Result<()> {
    let coordinates = coordinate_names(n_components);
    for (at, name) in keep.iter().enumerate() {
        let why = if id == Some(name) {
            "it names the rows already; leave it out".to_string()
        } else if keep[..at].contains(name) {
            "it is named twice; name it once".to_string()
        } else if OWN_COLUMNS.contains(&name.as_str()) || coordinates.contains(name) {
            "an export of the model has a column of its own with this name; rename the table's column or leave it out"
                .to_string()
        } else {
            continue;
        };
        return Err(Error::job(format!("column \"{name}\" cannot be kept in the model: {why}")));
    }
    Ok(())
}

/// Refuses columns that the source does not have, or whose values cannot be stored.
pub(super) fn check_columns(source: &dyn Source, keep: &[String]) -> Result<()> {
    source.column_schema(keep)?;
    source.try_columns(keep)?;
    let given = source.read_columns(keep, 0, 0)?.schema();
    kept_schema(&given).map(drop).map_err(|(name, why)| {
        Error::job(format!("column \"{name}\" cannot be kept in the model ({why}); cast it, or leave it out"))
    })
}

/// Refuses a later table that lacks a column that the model keeps, or has it in another type. A refit takes the types of
/// its table: then `refit` is set.
pub(super) fn check_table(source: &dyn Source, kept: &SchemaRef, refit: bool) -> Result<()> {
    let there = source.columns();
    let file = || -> PathBuf { source.locate(0).path };
    for field in kept.fields() {
        let name = field.name();
        if !there.contains(name) {
            return Err(Error::job(format!(
                "{}: no column \"{name}\", which the model keeps of each row; give a table that has it, or make the model \
                 again by `embed` without it",
                file().display()
            )));
        }
        let names = std::slice::from_ref(name);
        if refit {
            check_columns(source, names)?;
            continue;
        }
        source.column_schema(names)?;
        let given = source.read_columns(names, 0, 0)?.schema().field(0).data_type().clone();
        if !is_kept_as(&given, field.data_type()) {
            return Err(Error::job(format!(
                "{}: column \"{name}\" has type {given}, and the model keeps it as {}; cast it to this type, or refit by \
                 the mode `refit`, which takes the table's type",
                file().display(),
                field.data_type()
            )));
        }
    }
    Ok(())
}
