//! What this machine can do at most, beside what the layout makes of it.
//!
//! `cargo bench --release --bench limits`. Ceilings, on one core and on all:
//! multiply-adds of the instructions that the join's products are made of, from
//! registers alone; positions gathered, 8 bytes each, from anywhere in a map of
//! a million rows and from near by. Then the layout's epochs on edges made up
//! like those of a million rows in list order: pairs (a pull or a push) a
//! second. The join's own rate follows from a run's report: pairs compared ×
//! components / seconds.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use lowland_engine::{Event, Method, Observer, Progress, Stage, layout, methods};
use lowland_io::edges::EdgeBlock;

const ROWS: u32 = 1_000_000;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("| what | one core, G/s | {cores} cores, G/s |");
    println!("|---|---|---|");
    for (name, rate) in rates() {
        let row = [1, cores].map(|threads| format!("{:.2}", together(threads, rate) / 1e9));
        println!("| {name} | {} |", row.join(" | "));
    }
    println!();
    epochs(cores);
}

/// A measured rate: what was done, of how many things, by the second.
type Rate = fn() -> (u64, f64);

/// The sum of what so many threads do side by side, each the best of three.
fn together(threads: usize, rate: Rate) -> f64 {
    let best = || (0..3).map(|_| rate()).map(|(things, seconds)| things as f64 / seconds).fold(0.0, f64::max);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(best)).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).sum()
    })
}

fn rates() -> Vec<(&'static str, Rate)> {
    let mut rates: Vec<(&'static str, Rate)> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512vnni") {
            rates.push(("multiply-adds, 8 bits (vpdpbusd, 512)", x86::bytes_512));
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            rates.push(("multiply-adds, f32 (vfmadd, 512)", x86::floats_512));
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            rates.push(("multiply-adds, 16 bits (vpmaddwd, 256)", x86::words_256));
            rates.push(("multiply-adds, f32 (vfmadd, 256)", x86::floats_256));
        }
    }
    rates.push(("positions gathered from anywhere", || gathered(ROWS)));
    rates.push(("positions gathered from within 1,200 rows", || gathered(1200)));
    rates
}

/// Sums positions of rows within `reach` of those that come by in order.
fn gathered(reach: u32) -> (u64, f64) {
    let map: Vec<[f32; 2]> = (0..ROWS).map(|row| [row as f32, 1.0]).collect();
    let mut state = 1u32;
    let targets: Vec<u32> = (0..1u32 << 23)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let within = (u64::from(state) * u64::from(reach)) >> 32;
            (u64::from(i / 23) + within) as u32 % ROWS
        })
        .collect();
    let begin = Instant::now();
    let mut sums = [[0f32; 2]; 16];
    for targets in targets.as_chunks::<16>().0 {
        for (sum, &target) in sums.iter_mut().zip(targets) {
            let there = map[target as usize];
            sum[0] += there[0];
            sum[1] += there[1];
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    black_box(sums);
    (targets.len() as u64, seconds)
}

/// Epochs of a million rows with 23 edges each, near by as in list order.
fn epochs(cores: usize) {
    struct IgnoreEvents;
    impl Observer for IgnoreEvents {
        fn event(&self, _: &Event<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    const DEGREE: u32 = 23;
    const EPOCHS: usize = 20;
    let hash = |i: u32| i.wrapping_mul(2_654_435_761) >> 8;
    let near = |row: u32, e: u32| (row + ROWS - 600 + hash(row * DEGREE + e) % 1200) % ROWS;
    let neighbors = (0..ROWS).flat_map(|row| (0..DEGREE).map(move |e| near(row, e))).collect();
    // The square of a uniform number: a third of the edges fire in an epoch, about as of real graphs.
    let weight = |i: u32| (hash(i ^ 0x5bd1) as f32 / (1 << 24) as f32).powi(2).max(1e-3);
    let weights: Vec<f32> = (0..ROWS * DEGREE).map(weight).collect();
    let fired = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
    let block = EdgeBlock { first_row: 0, offsets: (0..=ROWS).map(|row| row * DEGREE).collect(), neighbors, weights };
    let options =
        layout::LayoutOptions { epochs: EPOCHS, seed: 1, ..methods::options(Method::UMAP, ROWS).expect("it streams") };
    let edges = layout::LayoutEdges::in_memory(&block, &options);
    drop(block);
    let start: Vec<f32> = (0..2 * ROWS).map(|i| (hash(i) % 4000) as f32 / 200.0 - 10.0).collect();
    for threads in [1, cores] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let seconds = pool.install(|| {
            let progress = Progress::start(&IgnoreEvents, Stage::Layout, EPOCHS as u64, "epochs").expect("never stops");
            let begin = Instant::now();
            layout::run(&options, &edges, layout::LayoutStart::Positions(&start), &mut (), &progress).expect("runs");
            begin.elapsed().as_secs_f64() / EPOCHS as f64
        });
        let pairs = fired * f64::from(1 + 5);
        println!(
            "layout of {ROWS} rows, {} edges, {threads} threads: {:.1} ms an epoch, {:.3} G pairs/s, {:.2} ns a pair and thread",
            ROWS * DEGREE,
            seconds * 1e3,
            pairs / seconds / 1e9,
            seconds * 1e9 * threads as f64 / pairs,
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions of the join's kernels, one at a time")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::time::Instant;

    const ROUNDS: u64 = 20_000_000;
    /// Sums side by side, more than an instruction takes cycles times how many begin in one.
    const SUMS: usize = 12;

    /// Times `$step` on `SUMS` sums, each step of which does `$each` multiply-adds.
    macro_rules! rate {
        ($name:ident, $features:literal, $each:literal, $zero:expr, $value:expr, $step:expr) => {
            pub(super) fn $name() -> (u64, f64) {
                #[target_feature(enable = $features)]
                fn run() -> f64 {
                    let (mut sums, value) = ([$zero; SUMS], black_box($value));
                    let begin = Instant::now();
                    for _ in 0..ROUNDS {
                        for sum in &mut sums {
                            *sum = $step(*sum, value);
                        }
                    }
                    let seconds = begin.elapsed().as_secs_f64();
                    black_box(sums);
                    seconds
                }
                // SAFETY: the caller asked the processor for the features.
                (ROUNDS * SUMS as u64 * $each, unsafe { run() })
            }
        };
    }

    rate!(bytes_512, "avx512f,avx512vnni", 64, _mm512_setzero_si512(), _mm512_set1_epi8(3), |sum, value| {
        _mm512_dpbusd_epi32(sum, value, value)
    });
    rate!(floats_512, "avx512f", 16, _mm512_setzero_ps(), _mm512_set1_ps(0.5), |sum, value| _mm512_fmadd_ps(
        sum, value, value
    ));
    rate!(words_256, "avx2", 16, _mm256_setzero_si256(), _mm256_set1_epi16(3), |sum, value| _mm256_add_epi32(
        sum,
        // What is added must not be known beforehand.
        _mm256_madd_epi16(_mm256_xor_si256(value, sum), value)
    ));
    rate!(floats_256, "avx2,fma", 8, _mm256_setzero_ps(), _mm256_set1_ps(0.5), |sum, value| _mm256_fmadd_ps(
        sum, value, value
    ));
}
