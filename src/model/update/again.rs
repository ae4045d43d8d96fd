//! A run whose version a gate refused, begun again under its name.
//!
//! What must hold: what is judged is the table of now. The refused version is judged again only if the same request would
//! make it again from the same table; otherwise the run makes a version anew, from the current one.

use lowland_engine::Observer;
use lowland_model::snapshot::{Snapshot, role};
use lowland_model::store::{Action, ModelDir, ModelLock, Version};

use super::{MoveRows, Outcome, UpdateJob, UpdateMode, UpdateReport};
use crate::model::open::check_objects;
use crate::{Error, Result};

/// Returns whether somebody accepted a refused version: a rollback made a version of the same content. Damaged records are
/// passed over.
pub(super) fn was_accepted(model: &ModelDir, refused: &Version) -> Result<bool> {
    for number in model.versions()?.into_iter().filter(|&number| number > refused.number) {
        match model.version(number) {
            Err(lowland_model::Error::Damaged { .. }) => {}
            later => {
                let later = later?;
                if later.accepted && later.objects == refused.objects {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

impl UpdateJob {
    /// Returns whether this run could make the version `refused`: by its counts, and by how the map takes up changes. If
    /// another version became current since, a whole table still can be that of the refused version; changes are changes to
    /// the current version.
    pub(super) fn would_make(&self, refused: &Version, current: &Version, report: &UpdateReport) -> bool {
        if refused.parent != Some(current.number) {
            return !self.changes;
        }
        let action = match report.mode {
            Some(UpdateMode::Refit) => Action::Refit,
            _ => Action::Transform,
        };
        let moved = refused.measures.get("moved_rows").is_some_and(|rows| !rows.is_null());
        let same_moves = action == Action::Refit || moved == (self.moving == MoveRows::Dirty);
        refused.counts == report.counts && refused.action == action && same_moves
    }

    /// Opens the version `refused`; none if one of its files is damaged, so that it is made anew.
    pub(super) fn view_of(
        &self,
        model: &ModelDir,
        refused: &Version,
        observer: &dyn Observer,
    ) -> Result<Option<Snapshot>> {
        let opened = check_objects(model, refused, &role::FOR_UPDATE, &mut Default::default(), observer)
            .and_then(|()| Ok(Snapshot::open(model, refused)?));
        match opened {
            Err(Error::Model(lowland_model::Error::Damaged { .. })) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    /// Judges the version `refused`, which is that of the table, by the gates of this run. One that passes becomes current,
    /// unless another version became current since.
    pub(super) fn judge_again(
        &self,
        lock: &ModelLock<'_>,
        current: &Version,
        refused: Version,
        report: &mut UpdateReport,
    ) -> Result<()> {
        let number = refused.number;
        report.outcome = Outcome::Refused;
        report.version = Some(number);
        report.counts = refused.counts;
        report.measures = serde_json::from_value(refused.measures.clone()).ok();
        report.gates = self.judge(report);
        if refused.parent != Some(current.number) {
            report.parent = refused.parent.unwrap_or(report.parent);
            report.why = format!(
                "version {} became current since, and the table is still that of version {number}; give the run another \
                 name to bring the model back to this table",
                current.number
            );
        } else if self.gates.is_empty() {
            report.why = "no gate is given by which it is judged again".into();
        } else {
            report.why = format!("the table is that of version {number}, which is judged again");
            if report.gates.iter().all(|gate| gate.passed) {
                let again = Version { accepted: true, created: lowland_io::now(), ..refused };
                report.version = Some(lock.publish(again, true)?);
                report.outcome = Outcome::Published;
            }
        }
        Ok(())
    }
}
