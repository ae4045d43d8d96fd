//! Trustworthiness of each row of a sample (Venna and Kaski, 2001): whether its neighbours in the map are near in the
//! data. Rows are compared with the rows of the sample only, so that the measure of a large model stays cheap; it is
//! higher than that of all rows, and comparable between versions that have samples of one size.

use lowland_engine::distances::squared_distance;
use rayon::prelude::*;

/// Returns the trustworthiness of each row of `x` (rows × dim) with the positions `z` (rows × components), by `k`
/// neighbours; 1 for all rows if there are not more than 3k + 1 rows. Ranks count strictly nearer rows.
pub fn trustworthiness(x: &[f32], dim: usize, z: &[f32], components: usize, k: usize) -> Vec<f64> {
    let rows = x.len() / dim.max(1);
    if rows <= 3 * k + 1 || k == 0 {
        return vec![1.0; rows];
    }
    let norm = 2.0 / (k as f64 * (2.0 * rows as f64 - 3.0 * k as f64 - 1.0));
    (0..rows)
        .into_par_iter()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(far, near): &mut (Vec<f32>, Vec<(f32, u32)>), row| {
                let others = || (0..rows).filter(|&other| other != row);
                let of = |values: &'_ [f32], width: usize, at: usize| values[at * width..][..width].to_vec();
                let (own, place) = (of(x, dim, row), of(z, components, row));
                far.clear();
                far.extend(others().map(|other| squared_distance(&own, &x[other * dim..][..dim])));
                near.clear();
                near.extend(others().enumerate().map(|(at, other)| {
                    (squared_distance(&place, &z[other * components..][..components]), at as u32)
                }));
                near.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let beyond: f64 = near[..k]
                    .iter()
                    .map(|&(_, at)| {
                        let limit = far[at as usize];
                        let rank = 1 + far.iter().filter(|&&d| d < limit).count();
                        rank.saturating_sub(k) as f64
                    })
                    .sum();
                1.0 - norm * beyond
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_the_engines_trustworthiness() {
        let (rows, dim) = (120, 5);
        let x: Vec<f32> = (0..rows * dim).map(|i| ((i * 7919 % 1013) as f32).sin()).collect();
        let z: Vec<f32> = (0..rows * 2).map(|i| ((i * 104_729 % 811) as f32).cos()).collect();
        let ours = trustworthiness(&x, dim, &z, 2, 7);
        let mean = ours.iter().sum::<f64>() / rows as f64;
        let whole = lowland_engine::evaluate::trustworthiness(&x, dim, &z, 2, 7).mean;
        assert!((mean - whole).abs() < 1e-9, "{mean} and {whole}");
        let same = trustworthiness(&x, dim, &x, dim, 7);
        assert!(same.iter().all(|&score| score == 1.0));
    }
}
