//! One version as one map: base, delta, patch, moved rows and tombstones behind the numbers of places. `kept.rs`: its kept
//! columns.

mod kept;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::added::Added;
use super::graph::Graph;
use super::ids::Ids;
use super::kept::Kept;
use super::keys::{Key, KeyFile};
use super::lists::{DeltaLists, Lists};
use super::merge::Keys;
use super::moved::MovedPositions;
use super::patch::Patch;
use super::positions::Positions;
use super::quantizer::Centroids;
use super::role;
use super::sample::{self, SampleRow};
use super::tombstones::Tombstones;
use super::vectors::{Element, Vectors};
use crate::store::{ModelDir, ObjectRef, Version};
use crate::{Error, Result};

/// A version, memory-mapped. Every method can be called from several threads.
///
/// A place that the version does not have counts as dead, has no neighbours, and lies nowhere (NaN).
pub struct Snapshot {
    centroids: Centroids,
    vectors: Vectors,
    lists: Lists,
    graph: Graph,
    positions: Positions,
    ids: Ids,
    keys: KeyFile,
    sample: Vec<SampleRow>,
    added: Option<Added>,
    kept: Option<Kept>,
    kept_schema: SchemaRef,
    delta_vectors: Option<Vectors>,
    delta_lists: Option<DeltaLists>,
    delta_graph: Option<Graph>,
    delta_positions: Option<Positions>,
    delta_ids: Option<Ids>,
    delta_keys: Option<KeyFile>,
    delta_added: Option<Added>,
    delta_kept: Option<Kept>,
    patch: Option<Patch>,
    moved: Option<MovedPositions>,
    tombstones: Option<Tombstones>,
    places: u32,
    /// The position of a place that has none.
    nowhere: Vec<f32>,
    /// The neighbours of a place that has none, and their distances.
    nobody: (Vec<u32>, Vec<f32>),
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("places", &self.places).field("live", &self.live()).finish_non_exhaustive()
    }
}

/// The objects of a version, by role.
struct Roles<'a> {
    model: &'a ModelDir,
    version: &'a Version,
}

impl Roles<'_> {
    /// Opens the object of a role that every version has.
    fn need<T>(&self, role: &str, open: impl FnOnce(&std::path::Path, &ObjectRef) -> Result<T>) -> Result<T> {
        self.may_have(role, open)?.ok_or_else(|| {
            let what = format!("version {} has no object \"{role}\"", self.version.number);
            Error::damaged(self.model.path(), what)
        })
    }

    /// Opens the object of a role that a version may lack.
    fn may_have<T>(
        &self,
        role: &str,
        open: impl FnOnce(&std::path::Path, &ObjectRef) -> Result<T>,
    ) -> Result<Option<T>> {
        self.version.objects.get(role).map(|object| open(&self.model.object_path(object), object)).transpose()
    }

    /// Checks that an object has as many rows (or components) as the others.
    fn agree(&self, role: &str, what: &str, found: u64, expected: u64) -> Result<()> {
        if found == expected { Ok(()) } else { self.disagree(role, what, found, expected) }
    }

    /// Checks that an object has at most as many rows as the others.
    fn at_most(&self, role: &str, what: &str, found: u64, most: u64) -> Result<()> {
        if found <= most { Ok(()) } else { self.disagree(role, what, found, most) }
    }

    fn disagree(&self, role: &str, what: &str, found: u64, expected: u64) -> Result<()> {
        let path = match self.version.objects.get(role) {
            Some(object) => self.model.object_path(object),
            None => self.model.path().into(),
        };
        let what = format!(
            "{found} {what} in \"{role}\" of version {}, where its other objects have {expected}",
            self.version.number
        );
        Err(Error::damaged(path, what))
    }
}

impl Snapshot {
    /// Opens a version, or the draft of one: a record that is not published, whose delta may lack keys, neighbours,
    /// positions and versions, or have them for its first rows only. Checks headers and lengths, not checksums
    /// ([`ModelDir::verify`] does).
    ///
    /// # Errors
    /// [`Error::Damaged`] names the object that is missing, has another length, or does not fit the others;
    /// [`Error::Newer`] and [`Error::UnknownRole`] if a later release of lowland wrote it.
    pub fn open(model: &ModelDir, version: &Version) -> Result<Snapshot> {
        // Without the object of a role that is not known, other objects would be read as if nothing replaced them.
        if let Some(role) = version.objects.keys().find(|role| !role::ALL.contains(&role.as_str())) {
            let (path, version) = (model.path().into(), version.number);
            return Err(Error::UnknownRole { path, version, role: role.clone() });
        }
        let roles = Roles { model, version };
        let centroids = roles.need(role::QUANTIZER, Centroids::open)?;
        let lists = roles.need(role::LISTS, Lists::open)?;
        let vectors = roles.need(role::VECTORS, Vectors::open)?;
        let graph = roles.need(role::GRAPH, Graph::open)?;
        let positions = roles.need(role::POSITIONS, Positions::open)?;
        let ids = roles.need(role::IDS, Ids::open)?;
        let keys = roles.need(role::KEYS, KeyFile::open)?;
        let rows = u64::from(lists.rows);
        roles.agree(role::LISTS, "lists", lists.lists as u64, centroids.lists as u64)?;
        roles.agree(role::VECTORS, "components", vectors.dim as u64, centroids.dim as u64)?;
        for (role, found) in [
            (role::VECTORS, vectors.rows),
            (role::GRAPH, graph.rows),
            (role::POSITIONS, positions.rows),
            (role::IDS, ids.rows),
            (role::KEYS, keys.rows),
        ] {
            roles.agree(role, "rows", found.into(), rows)?;
        }
        let added = roles.may_have(role::ADDED, Added::open)?;
        if let Some(added) = &added {
            roles.agree(role::ADDED, "rows", added.rows.into(), rows)?;
        }
        let kept = roles.may_have(role::KEPT, Kept::open)?;
        if let Some(kept) = &kept {
            roles.agree(role::KEPT, "rows", kept.rows.into(), rows)?;
        }
        let kept_schema = kept.as_ref().map_or_else(|| Arc::new(Schema::empty()), |kept| kept.schema.clone());

        let delta_lists = roles.may_have(role::DELTA_LISTS, DeltaLists::open)?;
        let delta_vectors = roles.may_have(role::DELTA_VECTORS, Vectors::open)?;
        let delta_ids = roles.may_have(role::DELTA_IDS, Ids::open)?;
        let delta_graph = roles.may_have(role::DELTA_GRAPH, Graph::open)?;
        let delta_positions = roles.may_have(role::DELTA_POSITIONS, Positions::open)?;
        let delta_keys = roles.may_have(role::DELTA_KEYS, KeyFile::open)?;
        let delta_added = roles.may_have(role::DELTA_ADDED, Added::open)?;
        let delta_kept = roles.may_have(role::DELTA_KEPT, Kept::open)?;
        let delta = delta_lists.as_ref().map_or(0, |lists| lists.rows);
        if let Some(found) = &delta_lists {
            roles.agree(role::DELTA_LISTS, "lists", found.lists() as u64, lists.lists as u64)?;
            roles.agree(role::DELTA_LISTS, "places before the first", found.first.into(), rows)?;
            roles.agree(
                role::DELTA_VECTORS,
                "rows",
                delta_vectors.as_ref().map_or(0, |v| v.rows.into()),
                delta.into(),
            )?;
            roles.agree(role::DELTA_IDS, "rows", delta_ids.as_ref().map_or(0, |ids| ids.rows.into()), delta.into())?;
        }
        for (role, found) in [
            (role::DELTA_VECTORS, delta_vectors.as_ref().map(|found| found.rows)),
            (role::DELTA_IDS, delta_ids.as_ref().map(|found| found.rows)),
            (role::DELTA_GRAPH, delta_graph.as_ref().map(|found| found.rows)),
            (role::DELTA_POSITIONS, delta_positions.as_ref().map(|found| found.rows)),
            (role::DELTA_KEYS, delta_keys.as_ref().map(|found| found.rows)),
            (role::DELTA_ADDED, delta_added.as_ref().map(|found| found.rows)),
            (role::DELTA_KEPT, delta_kept.as_ref().map(|found| found.rows)),
        ] {
            roles.at_most(role, "rows", found.unwrap_or(0).into(), delta.into())?;
        }
        if let Some(found) = &delta_vectors {
            roles.agree(role::DELTA_VECTORS, "components", found.dim as u64, centroids.dim as u64)?;
        }
        if let Some(found) = &delta_graph {
            roles.agree(role::DELTA_GRAPH, "neighbours a row", found.width as u64, graph.width as u64)?;
        }
        if let Some(found) = &delta_positions {
            roles.agree(role::DELTA_POSITIONS, "components", found.components as u64, positions.components as u64)?;
        }
        if let Some(found) = delta_ids.as_ref().filter(|found| found.id_type != ids.id_type) {
            let object = &version.objects[role::DELTA_IDS];
            let what = format!("ids of {} where the base has {}", found.id_type, ids.id_type);
            return Err(Error::damaged(model.object_path(object), what));
        }
        if let Some(found) = delta_kept.as_ref().filter(|found| found.schema != kept_schema) {
            return Err(found.damaged("it has other columns than the base"));
        }
        let places = rows + u64::from(delta);
        roles.at_most(role::DELTA_LISTS, "places", places, u64::from(u32::MAX) - 1)?;
        let patch = roles.may_have(role::PATCH, Patch::open)?;
        if let Some(found) = &patch {
            roles.agree(role::PATCH, "neighbours a row", found.width as u64, graph.width as u64)?;
            roles.at_most(role::PATCH, "places", found.places.into(), places)?;
        }
        let moved = roles.may_have(role::MOVED, MovedPositions::open)?;
        if let Some(found) = &moved {
            roles.agree(role::MOVED, "components", found.components as u64, positions.components as u64)?;
            roles.at_most(role::MOVED, "places", found.places.into(), places)?;
        }
        let tombstones = roles.may_have(role::TOMBSTONES, Tombstones::open)?;
        roles.at_most(
            role::TOMBSTONES,
            "places",
            tombstones.as_ref().map_or(0, |found| found.places.into()),
            places,
        )?;
        let sample = roles.may_have(role::SAMPLE, |path, object| sample::read(path, object, places as u32))?;
        Ok(Snapshot {
            nowhere: vec![f32::NAN; positions.components],
            nobody: (vec![lowland_io::MISSING; graph.width], vec![f32::INFINITY; graph.width]),
            places: places as u32,
            sample: sample.unwrap_or_default(),
            centroids,
            vectors,
            lists,
            graph,
            positions,
            ids,
            keys,
            added,
            kept,
            kept_schema,
            delta_vectors,
            delta_lists,
            delta_graph,
            delta_positions,
            delta_ids,
            delta_keys,
            delta_added,
            delta_kept,
            patch,
            moved,
            tombstones,
        })
    }

    /// Returns the number of components of a vector.
    pub fn dim(&self) -> usize {
        self.centroids.dim
    }

    /// Returns the number of components of a position.
    pub fn n_components(&self) -> usize {
        self.positions.components
    }

    /// Returns the number of neighbours that are stored of each row, which may be more than the method uses.
    pub fn k(&self) -> usize {
        self.graph.width
    }

    /// Returns the number of neighbours that the method uses.
    pub fn n_neighbors(&self) -> usize {
        self.graph.n_neighbors
    }

    /// Returns the number of lists.
    pub fn lists(&self) -> usize {
        self.centroids.lists
    }

    /// Returns the centroids: lists × components, in the prepared space.
    pub fn centroids(&self) -> &[f32] {
        self.centroids.values()
    }

    /// Returns the number of rows of the base, which is the place of the first row of the delta.
    pub fn base_rows(&self) -> u32 {
        self.lists.rows
    }

    /// Returns the number of places: of the base and of the delta, dead ones included.
    pub fn places(&self) -> u32 {
        self.places
    }

    /// Returns the number of rows on the map.
    pub fn live(&self) -> u32 {
        self.places - self.tombstones().len() as u32
    }

    /// Returns whether the row of the place is gone. A number that is not a place of this version counts as dead.
    pub fn is_dead(&self, place: u32) -> bool {
        place >= self.places || self.tombstones.as_ref().is_some_and(|dead| dead.has(place))
    }

    /// Returns the places whose row is gone, ascending.
    pub fn tombstones(&self) -> &[u32] {
        self.tombstones.as_ref().map_or(&[], Tombstones::dead)
    }

    /// Returns the list of a place; that of the last row if there is no such place.
    pub fn list_of(&self, place: u32) -> u32 {
        match place.checked_sub(self.base_rows()) {
            None => self.lists.list_of(place),
            Some(row) => self.delta_lists.as_ref().map_or(0, |lists| lists.list_of(row)),
        }
    }

    /// Returns the places of the base in a list.
    pub fn base_range(&self, list: u32) -> Range<u32> {
        self.lists.range(list)
    }

    /// Returns the places of the delta in a list, ascending.
    pub fn delta_of(&self, list: u32) -> &[u32] {
        self.delta_lists.as_ref().map_or(&[], |lists| lists.places(list))
    }

    /// Returns the element type of the base's vectors.
    pub fn element(&self) -> Element {
        self.vectors.element()
    }

    /// Returns the element type of the delta's vectors, if there is a delta.
    pub fn delta_element(&self) -> Option<Element> {
        self.delta_vectors.as_ref().map(Vectors::element)
    }

    /// Reads the prepared vectors of a range of places, which may lead from the base into the delta. Not through the map:
    /// what is read once and in order does not become resident.
    ///
    /// # Errors
    /// [`Error::Rows`] if the range or the length of `out` is wrong; [`Error::Io`].
    pub fn read_vectors(&self, places: Range<u32>, out: &mut [f32]) -> Result<()> {
        self.check_range(&places, Some((out.len(), self.dim())))?;
        let [base, delta] = self.split(places);
        let (of_base, of_delta) = out.split_at_mut(base.len() * self.dim());
        if !base.is_empty() {
            self.vectors.read(base, of_base)?;
        }
        match &self.delta_vectors {
            Some(vectors) if !delta.is_empty() => vectors.read(delta, of_delta),
            _ => Ok(()),
        }
    }

    /// Reads the prepared vector of a place through the map.
    ///
    /// # Errors
    /// [`Error::Rows`] if there is no such place, or the length of `out` is wrong.
    pub fn read_vector(&self, place: u32, out: &mut [f32]) -> Result<()> {
        self.check_range(&(place..place.saturating_add(1)), Some((out.len(), self.dim())))?;
        match (place.checked_sub(self.base_rows()), &self.delta_vectors) {
            (Some(row), Some(vectors)) => vectors.read_mapped(row, out),
            _ => self.vectors.read_mapped(place, out),
        }
        Ok(())
    }

    /// Returns the neighbours of a place and their distances in the metric's own units, ascending by distance;
    /// [`lowland_io::MISSING`] and infinity where there are fewer than [`k`](Self::k).
    pub fn neighbors(&self, place: u32) -> (&[u32], &[f32]) {
        if let Some(row) = self.patch.as_ref().and_then(|patch| patch.row(place)) {
            return row;
        }
        match (place.checked_sub(self.base_rows()), &self.delta_graph) {
            (None, _) => self.graph.row(place),
            (Some(row), Some(graph)) if row < graph.rows => graph.row(row),
            _ => (&self.nobody.0, &self.nobody.1),
        }
    }

    /// Returns the places whose neighbours a patch replaces, ascending.
    pub fn patch_places(&self) -> impl Iterator<Item = u32> + '_ {
        self.patch.iter().flat_map(Patch::patched)
    }

    /// Returns the places whose row has moved since it was first placed, or since the last refit, ascending.
    pub fn moved_places(&self) -> impl Iterator<Item = u32> + '_ {
        self.moved.iter().flat_map(MovedPositions::moved)
    }

    /// Returns the number of places whose neighbours a patch replaces.
    pub fn patched(&self) -> u32 {
        self.patch.as_ref().map_or(0, |patch| patch.rows)
    }

    /// Returns the distance of the last neighbour that the method uses; infinite if the place has fewer.
    pub fn radius(&self, place: u32) -> f32 {
        self.neighbors(place).1.get(self.n_neighbors() - 1).copied().unwrap_or(f32::INFINITY)
    }

    /// Returns the position of a place; NaN if it has none.
    pub fn position(&self, place: u32) -> &[f32] {
        if let Some(position) = self.moved.as_ref().and_then(|moved| moved.row(place)) {
            return position;
        }
        self.first_position(place)
    }

    /// Returns the position that a fit, a refit or the placing of a new row gave to a place, whether or not the row has moved
    /// since; NaN if it has none.
    pub fn first_position(&self, place: u32) -> &[f32] {
        match (place.checked_sub(self.base_rows()), &self.delta_positions) {
            (None, _) => self.positions.row(place),
            (Some(row), Some(positions)) if row < positions.rows => positions.row(row),
            _ => &self.nowhere,
        }
    }

    /// Returns the number of the version in which the row of a place was added; 0 if it is not known.
    pub fn added_in(&self, place: u32) -> u64 {
        match place.checked_sub(self.base_rows()) {
            None => self.added.as_ref().map_or(self.lists.version, |added| added.version(place)),
            Some(row) => self.delta_added.as_ref().map_or(0, |added| added.version(row)),
        }
    }

    /// Returns the ids of a range of places as an array of [`id_type`](Self::id_type).
    ///
    /// # Errors
    /// [`Error::Rows`] if the range is wrong; [`Error::Damaged`] if an id is not text.
    pub fn ids(&self, places: Range<u32>) -> Result<ArrayRef> {
        self.check_range(&places, None)?;
        let [base, delta] = self.split(places);
        match &self.delta_ids {
            Some(ids) if base.is_empty() && !delta.is_empty() => ids.read(delta),
            Some(ids) if !delta.is_empty() => {
                let parts = [self.ids.read(base)?, ids.read(delta)?];
                concat(&[parts[0].as_ref(), parts[1].as_ref()])
                    .map_err(|e| Error::Rows { object: role::IDS, what: e.to_string() })
            }
            _ => self.ids.read(base),
        }
    }

    /// Returns the type of the ids: an integer type, or `Utf8`.
    pub fn id_type(&self) -> &DataType {
        &self.ids.id_type
    }

    /// Returns the keys of the live rows, ascending.
    pub fn keys(&self) -> Keys<'_> {
        let delta = self.delta_keys.iter().flat_map(|keys| keys.iter_from(0));
        Keys::new(self.live_keys(self.keys.iter_from(0)), self.live_keys(delta))
    }

    /// Returns the live row of a key, if there is one. Takes a time that grows with the logarithm of the rows.
    pub fn find(&self, key: u128) -> Option<Key> {
        [Some(&self.keys), self.delta_keys.as_ref()].into_iter().flatten().find_map(|keys| {
            let equal = keys.iter_from(keys.first_of(key)).take_while(|found| found.key == key);
            self.live_keys(equal).next()
        })
    }

    fn live_keys<'a>(&'a self, keys: impl Iterator<Item = Key> + 'a) -> impl Iterator<Item = Key> + 'a {
        keys.filter(|key| !self.is_dead(key.place))
    }

    /// Returns the probe rows.
    pub fn sample(&self) -> &[SampleRow] {
        &self.sample
    }

    /// Returns the memory, in bytes, that a snapshot holds besides its maps: the probe rows.
    pub fn bytes(&self) -> u64 {
        self.sample.iter().map(|row| (size_of::<SampleRow>() + row.neighbors.len() * 8) as u64).sum()
    }

    /// Divides places into rows of the base and rows of the delta.
    fn split(&self, places: Range<u32>) -> [Range<u32>; 2] {
        let rows = self.base_rows();
        let base = places.start.min(rows)..places.end.min(rows);
        [base, places.start.max(rows) - rows..places.end.max(rows) - rows]
    }

    /// Checks a range of places, and that there is room for the values of each.
    fn check_range(&self, places: &Range<u32>, room: Option<(usize, usize)>) -> Result<()> {
        let wrong = |what| Err(Error::Rows { object: role::VECTORS, what });
        if places.start > places.end || places.end > self.places {
            return wrong(format!("places {} to {} of {}", places.start, places.end, self.places));
        }
        match room {
            Some((length, width)) if length != places.len() * width => {
                wrong(format!("room for {length} values, where {} places have {width} each", places.len()))
            }
            _ => Ok(()),
        }
    }
}
