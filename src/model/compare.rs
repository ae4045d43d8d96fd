//! How two versions of a model differ: rows are matched by id.

use std::collections::BinaryHeap;

use lowland_engine::{Event, Observer};
use lowland_model::snapshot::{Key, Snapshot, role};
use serde::Serialize;
use serde_json::Value;

use super::Model;
use crate::plot::texts;
use crate::{Error, Result};

/// The number of rows that a comparison names.
const NAMED: usize = 10;
/// Keys between two looks at the observer.
const KEYS: u64 = 1 << 16;

/// How two versions differ. Rows are matched by id.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionDiff {
    /// The first version.
    pub from: u64,
    /// The second version.
    pub to: u64,
    /// Rows, of the first and the second.
    pub rows: [u64; 2],
    /// Rows of the second that the first does not have.
    pub added: u64,
    /// Rows of the first that the second does not have.
    pub deleted: u64,
    /// Rows of both whose vectors differ.
    pub changed: u64,
    /// Rows of both with equal vectors.
    pub unchanged: u64,
    /// The distances between the positions of the rows that are in both and kept their vector throughout.
    pub moved: Moved,
    /// The same of the rows that were placed anew in between: their vector changed, or they left and came again.
    pub placed_anew: Moved,
    /// The measures that the versions record, of the first and the second.
    pub measures: [Value; 2],
}

/// How far rows moved between two versions, over the radius of the first version's map (the root of the mean squared
/// distance of the rows that are in both to their mean).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Moved {
    /// Rows that are compared.
    pub of: u64,
    /// Those that are not exactly where they were.
    pub rows: u64,
    /// The median of the distances of all rows that are compared; 0 if there are none.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The rows that moved most, the farthest first: ids and distances.
    pub most: Vec<(String, f64)>,
}

impl VersionDiff {
    /// Compares two versions. Holds four bytes for each row that is in both.
    ///
    /// # Errors
    /// If their ids are of different types, if files cannot be read, or if the observer stops the comparison.
    pub(super) fn of(from: &Model, to: &Model, observer: &dyn Observer) -> Result<Self> {
        let (before, after) = (from.snapshot(), to.snapshot());
        if before.id_type() != after.id_type() {
            let types = format!("{} and {}", before.id_type(), after.id_type());
            return Err(Error::job(format!("the ids of the versions are of different types, {types}")));
        }
        let mut found = VersionDiff {
            from: from.number(),
            to: to.number(),
            rows: [from.rows(), to.rows()],
            added: 0,
            deleted: 0,
            changed: 0,
            unchanged: 0,
            moved: Moved::default(),
            placed_anew: Moved::default(),
            measures: [from.version().measures.clone(), to.version().measures.clone()],
        };
        from.check(&role::FOR_DIFF, observer)?;
        to.check_beside(from, &role::FOR_DIFF, observer)?;
        let comparable = before.n_components() == after.n_components();
        let mut extent = Extent::new(before.n_components());
        let [mut moved, mut anew] = [Moves::default(), Moves::default()];
        for_each_pair(before, after, observer, &mut |pair| match pair {
            [Some(_), None] => found.deleted += 1,
            [None, Some(_)] => found.added += 1,
            [Some(old), Some(new)] => {
                let same = old.hash == new.hash;
                found.changed += u64::from(!same);
                found.unchanged += u64::from(same);
                if comparable {
                    let [from, to] = [before.position(old.place), after.position(new.place)];
                    extent.add(from);
                    let stayed = same && before.added_in(old.place) == after.added_in(new.place);
                    if stayed { moved.add(new.place, from, to) } else { anew.add(new.place, from, to) }
                }
            }
            [None, None] => {}
        })?;
        let radius = extent.radius();
        (found.moved, found.placed_anew) = (moved.finish(after, radius)?, anew.finish(after, radius)?);
        Ok(found)
    }
}

/// Calls `each` with the rows of two snapshots by ascending key: a row that both have once, with both keys.
pub(super) fn for_each_pair(
    before: &Snapshot,
    after: &Snapshot,
    observer: &dyn Observer,
    each: &mut dyn FnMut([Option<Key>; 2]),
) -> Result<()> {
    let (mut old, mut new) = (before.keys().peekable(), after.keys().peekable());
    for count in 0_u64.. {
        if count.is_multiple_of(KEYS) && observer.event(&Event::Pulse).is_break() {
            return Err(lowland_engine::Error::Cancelled { stage: "diff" }.into());
        }
        let pair = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a.key == b.key => [old.next(), new.next()],
            (Some(a), Some(b)) if a.key > b.key => [None, new.next()],
            (Some(_), _) => [old.next(), None],
            (None, Some(_)) => [None, new.next()],
        };
        each(pair);
    }
    Ok(())
}

/// How far positions spread.
struct Extent {
    rows: u64,
    /// The sums of the components, and of the squares of all of them.
    sums: Vec<f64>,
    squares: f64,
}

impl Extent {
    fn new(components: usize) -> Self {
        Extent { rows: 0, sums: vec![0.0; components], squares: 0.0 }
    }

    fn add(&mut self, position: &[f32]) {
        self.rows += 1;
        for (sum, &x) in self.sums.iter_mut().zip(position) {
            *sum += f64::from(x);
            self.squares += f64::from(x).powi(2);
        }
    }

    /// Returns the root of the mean squared distance of the positions to their mean.
    fn radius(&self) -> f64 {
        let rows = self.rows.max(1) as f64;
        let mean_square: f64 = self.sums.iter().map(|sum| (sum / rows).powi(2)).sum();
        (self.squares / rows - mean_square).max(0.0).sqrt()
    }
}

/// The distances between two positions of each row.
#[derive(Default)]
struct Moves {
    distances: Vec<f32>,
    /// The rows that moved most: the bits of the distance, which order as the distance does, and the place. The least
    /// comes out first.
    most: BinaryHeap<std::cmp::Reverse<(u32, u32)>>,
}

impl Moves {
    fn add(&mut self, place: u32, before: &[f32], after: &[f32]) {
        let squared: f64 = before.iter().zip(after).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        let distance = squared.sqrt() as f32;
        self.distances.push(distance);
        if distance > 0.0 {
            self.most.push(std::cmp::Reverse((distance.to_bits(), place)));
            if self.most.len() > NAMED {
                self.most.pop();
            }
        }
    }

    fn finish(mut self, after: &Snapshot, radius: f64) -> Result<Moved> {
        let count = self.distances.len();
        if count == 0 {
            return Ok(Moved::default());
        }
        // All rows of a map without extent are at one place.
        let over = |distance: f32| if radius > 0.0 { f64::from(distance) / radius } else { f64::from(distance) };
        let rows = self.distances.iter().filter(|&&distance| distance > 0.0).count() as u64;
        let mut at = |share: f64| {
            let rank = ((count - 1) as f64 * share).round() as usize;
            let (_, value, _) = self.distances.select_nth_unstable_by(rank, f32::total_cmp);
            over(*value)
        };
        let (p50, p95) = (at(0.5), at(0.95));
        let mut most = Vec::new();
        for std::cmp::Reverse((bits, place)) in self.most.into_sorted_vec() {
            most.push((id_text(after, place)?, over(f32::from_bits(bits))));
        }
        Ok(Moved { of: count as u64, rows, p50, p95, most })
    }
}

/// Returns the id of a place as text.
fn id_text(snapshot: &Snapshot, place: u32) -> Result<String> {
    let ids = snapshot.ids(place..place + 1)?;
    let values = texts(&ids).map_err(|what| lowland_engine::Error::Data { what })?;
    Ok(values.iter().next().flatten().unwrap_or_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_told_over_the_radius() {
        let (mut moves, mut extent) = (Moves::default(), Extent::new(2));
        for (place, by) in [0.0, 0.0, 0.0, 2.0].into_iter().enumerate() {
            let corner = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]][place];
            moves.add(place as u32, &corner, &[corner[0] + by, corner[1]]);
            extent.add(&corner);
        }
        assert_eq!(moves.most.len(), 1, "a row that stayed is not among those that moved");
        assert_eq!(extent.radius(), 2f64.sqrt());
    }
}
