//! The nearest rows of each query so far.
//!
//! What must hold: the rows kept are those with the `k` smallest (squared distance, place) of all that were offered, in
//! whatever order they were.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lowland_engine::neighbors::MISSING;

/// The nearest rows of all queries. Several threads offer rows at once.
pub(super) struct NearestRows {
    k: usize,
    /// For each query up to k keys, ascending.
    queries: Vec<Mutex<Vec<u64>>>,
}

/// Returns a number that orders as (squared distance, place): the bits of numbers that are not negative ascend.
fn key(squared: f32, place: u32) -> u64 {
    u64::from(squared.to_bits()) << 32 | u64::from(place)
}

/// Returns the squared distance of a key.
fn distance_of(key: u64) -> f32 {
    f32::from_bits((key >> 32) as u32)
}

impl NearestRows {
    /// Keeps up to `k` rows of each query.
    pub(super) fn new(queries: usize, k: usize) -> Self {
        NearestRows { k, queries: (0..queries).map(|_| Mutex::new(Vec::with_capacity(k + 1))).collect() }
    }

    /// Bytes held for a query.
    pub(super) fn bytes(k: usize) -> u64 {
        (size_of::<Mutex<Vec<u64>>>() + (k + 1) * 8 + 16) as u64
    }

    fn lock(&self, query: usize) -> MutexGuard<'_, Vec<u64>> {
        // A panic elsewhere leaves whole keys.
        self.queries[query].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit_of(&self, keys: &[u64]) -> f32 {
        if self.k == 0 {
            return f32::NEG_INFINITY;
        }
        keys.get(self.k - 1).map_or(f32::INFINITY, |&key| distance_of(key))
    }

    /// Returns the squared distance at which a row is still kept; it never grows.
    pub(super) fn limit(&self, query: usize) -> f32 {
        self.limit_of(&self.lock(query))
    }

    /// Offers a row and returns the new limit. A distance that is not a number is refused.
    pub(super) fn offer(&self, query: usize, squared: f32, place: u32) -> f32 {
        let mut keys = self.lock(query);
        if squared <= self.limit_of(&keys) {
            let key = key(squared, place);
            let at = keys.partition_point(|&other| other < key);
            // A row may be offered again.
            if keys.get(at) != Some(&key) {
                keys.insert(at, key);
                keys.truncate(self.k);
            }
        }
        self.limit_of(&keys)
    }

    /// Returns the places of a query's rows, nearest first.
    pub(super) fn places(&self, query: usize) -> Vec<u32> {
        self.lock(query).iter().map(|&key| key as u32).collect()
    }

    /// Returns the places and squared distances of the `k` nearest, `k` a query.
    pub(super) fn into_found(self, k: usize) -> (Vec<u32>, Vec<f32>) {
        let mut places = Vec::with_capacity(self.queries.len() * k);
        let mut distances = Vec::with_capacity(self.queries.len() * k);
        for (query, keys) in self.queries.into_iter().enumerate() {
            let keys = keys.into_inner().unwrap_or_else(PoisonError::into_inner);
            places.extend(keys.iter().take(k).map(|&key| key as u32));
            distances.extend(keys.iter().take(k).map(|&key| distance_of(key)));
            places.resize((query + 1) * k, MISSING);
            distances.resize((query + 1) * k, f32::INFINITY);
        }
        (places, distances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_in_any_order_and_ties_go_to_the_lower_place() {
        let offered = [(2.0, 9), (0.0, 4), (1.0, 7), (1.0, 3), (f32::NAN, 1), (1.0, 5), (f32::INFINITY, 2)];
        for turn in 0..offered.len() {
            let nearest = NearestRows::new(2, 3);
            for i in 0..offered.len() {
                let (squared, place) = offered[(i + turn) % offered.len()];
                nearest.offer(1, squared, place);
            }
            assert_eq!((nearest.limit(1), nearest.limit(0)), (1.0, f32::INFINITY));
            let (places, distances) = nearest.into_found(3);
            assert_eq!(places, [MISSING, MISSING, MISSING, 4, 3, 5]);
            assert_eq!(distances[3..], [0.0, 1.0, 1.0]);
        }
        assert_eq!(NearestRows::new(1, 0).offer(0, 0.0, 1), f32::NEG_INFINITY);
    }
}
