//! Tests that the CUDA kernels, compiled for a CPU, give the same bits as the Rust kernels for every row.

use std::ffi::c_void;
use std::process::Command;

use super::super::curve::Curve;
use super::super::field::{Field, Nodes, force_floats};
use super::super::kernel::{self, Chunk, Epoch, Kernel};
use super::super::optimizer::Stepper;
use super::super::root_unit;
use super::super::walk::{Coding, Walk};
use super::{Arguments, Extent, group_words, padded_words, tabulate};
use crate::config::Optimizer;
use crate::cuda::shim::{compile, entry};
use crate::random::unit;

type Entry = unsafe extern "C" fn(*const u32, *mut f32, *const Arguments);

/// Returns a kernel of the shim by its name.
#[expect(unsafe_code, reason = "FFI: a library of our own")]
fn kernel_of(name: &str) -> Entry {
    // SAFETY: every layout kernel has this signature.
    unsafe { std::mem::transmute::<*mut c_void, Entry>(entry(name)) }
}

/// A program that runs the kernels under AddressSanitizer.
const SANITIZED: &str = include_str!("sanitized.cpp");

const ROWS: u32 = 2300;

fn epoch(number: u32, stepper: Stepper, negatives: u32) -> Epoch {
    Epoch {
        curve: Curve { a: 1.577, b: 0.895 },
        number,
        // The draws of another epoch, as some methods use.
        drawn: number.min(3),
        epochs: 10,
        stepper,
        exaggeration: 1.5,
        negatives,
        unit: root_unit(0.8),
        rows: ROWS,
        seed: 11,
    }
}

/// Returns rows from `first` on with edges of many numbers: none, one, exactly sixteen, and more than fit one
/// pool.
fn walk(first: u32, rows: u32, coding: Coding) -> Walk {
    let (mut offsets, mut neighbors, mut codes) = (vec![0], vec![], vec![]);
    for row in first..first + rows {
        let degree = match row {
            5 => 0,
            40 => 900,
            _ => [1, 16, 7, 15, 17, 33, 48][row as usize % 7],
        };
        for e in 0..degree {
            neighbors.push((row + 1 + e * 3) % ROWS);
            let share = unit(1, 1, u64::from(row) * 1024 + u64::from(e));
            codes.push(match coding {
                Coding::Whole => [1, 4, 5, 8][(share * 4.0) as usize % 4],
                _ if e == 0 => u16::MAX,
                _ => (share * 65_535.0) as u16,
            });
        }
        offsets.push(neighbors.len() as u32);
    }
    Walk::made(first, &offsets, &neighbors, &codes)
}

/// Packs blocks as a kernel reads them: the table, then the blocks; the padding between them is arbitrary.
fn pack(blocks: &[&Walk]) -> Vec<u32> {
    let lengths = || blocks.iter().map(|block| block.words().len());
    let mut out = vec![u32::MAX; group_words(lengths())];
    tabulate(lengths(), &mut out[..blocks.len()]);
    let mut at = padded_words(blocks.len());
    for block in blocks {
        out[at..][..block.words().len()].copy_from_slice(block.words());
        at += padded_words(block.words().len());
    }
    out
}

/// Runs some epochs with the Rust kernel and with the CUDA kernel, over blocks that are sent together or one by
/// one; one block begins in the middle of rows that share a pool.
#[expect(unsafe_code, reason = "FFI: a library of our own")]
fn check<K: Kernel, const DIM: usize>(kernel: &K, optimizer: Optimizer, negatives: u32) {
    let alike = [walk(0, 1024, K::CODING), walk(1024, 1024, K::CODING), walk(2048, ROWS - 2048, K::CODING)];
    let uneven = [walk(0, 700, K::CODING), walk(700, ROWS - 700, K::CODING)];
    let mut now: Vec<[f32; DIM]> =
        (0..ROWS).map(|r| std::array::from_fn(|d| 20.0 * unit(2, d as u64, u64::from(r)) - 10.0)).collect();
    now[7] = now[8];
    let mut moments = vec![[[0.25f32; DIM]; 2]; now.len()];
    let half = now.len() * DIM;
    // NaN marks values that must not be read before they are written.
    let mut state: Vec<f32> = now.as_flattened().to_vec();
    state.resize(2 * half, f32::NAN);
    state.extend(moments.as_flattened().as_flattened());
    let mut field = K::FIELD.then(|| Field::new(u64::from(ROWS)));
    if K::FIELD {
        state.resize(4 * half + force_floats(u64::from(ROWS)), f32::NAN);
    }

    for number in 1..=4u32 {
        let stepper = Stepper { optimizer, rate: 0.7, since: if number < 3 { number } else { number - 2 } };
        let epoch = epoch(number, stepper, negatives);
        let snapshot = now.clone();
        let mut nodes = Nodes::default();
        if let Some(field) = &mut field {
            field.take(snapshot.as_flattened().as_chunks().0).expect("numbers");
            field.forces(&mut state[4 * half..]);
            nodes = field.nodes();
        }
        for block in &alike {
            let range = block.first_row as usize..block.first_row as usize + block.rows();
            let chunk = Chunk {
                epoch: &epoch,
                block,
                first: block.first_row,
                snapshot: &snapshot,
                field: field.as_ref(),
                positions: &mut now[range.clone()],
                moments: &mut moments[range],
            };
            kernel::advance(kernel, chunk);
        }
        let own = kernel.on_device(&epoch).expect("a kernel");
        let parity = (number + 1) % 2;
        let together = [alike.iter().collect::<Vec<_>>()];
        let apart: Vec<Vec<&Walk>> = uneven.iter().map(|block| vec![block]).collect();
        for blocks in if number % 2 == 0 { &together[..] } else { &apart[..] } {
            let words = pack(blocks);
            let count = blocks.iter().map(|block| block.rows() as u32).sum();
            let (first, span) = (blocks[0].first_row, blocks[0].rows() as u32);
            let extent = Extent { first, count, span, words: words.len() };
            let arguments = Arguments::of(&epoch, &own, nodes, parity, extent);
            // SAFETY: block and state are as long as the arguments say, and every neighbour is a row.
            unsafe { kernel_of(&format!("{}_{DIM}", own.name))(words.as_ptr(), state.as_mut_ptr(), &arguments) };
        }
        let from = if parity == 0 { half } else { 0 };
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (row, (rust, cuda)) in now.iter().zip(state[from..from + half].chunks(DIM)).enumerate() {
            assert_eq!(bits(rust), bits(cuda), "{kernel:?} of {DIM}, {optimizer:?}, epoch {number}, row {row}");
        }
        assert_eq!(
            bits(moments.as_flattened().as_flattened()),
            bits(&state[2 * half..4 * half]),
            "{kernel:?} of {DIM}"
        );
    }
    assert!(now.iter().flatten().all(|x| x.is_finite()));
}

/// Runs [`check`] in the plane, for a method with a repulsive field.
pub(crate) fn in_the_plane<K: Kernel>(kernel: &K, optimizer: Optimizer) {
    check::<K, 2>(kernel, optimizer, 0);
}

/// Runs [`check`] for all numbers of components.
pub(crate) fn all_widths<K: Kernel>(kernel: &K, optimizer: Optimizer, negatives: u32) {
    check::<K, 1>(kernel, optimizer, negatives);
    check::<K, 2>(kernel, optimizer, negatives);
    check::<K, 3>(kernel, optimizer, negatives);
    check::<K, 4>(kernel, optimizer, negatives);
    check::<K, 8>(kernel, optimizer, negatives);
    check::<K, 16>(kernel, optimizer, negatives);
    check::<K, 32>(kernel, optimizer, negatives);
    check::<K, 64>(kernel, optimizer, negatives);
}

#[test]
fn kernels_touch_nothing_that_is_not_theirs() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("sanitized.cpp"), SANITIZED).expect("written");
    let sanitizers = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    compile(dir.path(), &[&sanitizers[..], &["sanitized.cpp", "-o", "sanitized"]].concat());
    let run = |arguments: &[&str]| Command::new(dir.path().join("sanitized")).args(arguments).output().expect("runs");
    let well = run(&[]);
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
    // A planted overflow must be detected.
    let planted = run(&["planted"]);
    let told = String::from_utf8_lossy(&planted.stderr).into_owned();
    assert!(!planted.status.success() && told.contains("heap-buffer-overflow") && told.contains("layout.cu"), "{told}");
}

#[test]
fn umap_on_a_device_moves_rows_to_the_same_bits() {
    all_widths(&super::super::rows::Firing, Optimizer::Adam, 5);
    all_widths(&super::super::rows::Firing, Optimizer::Adam, 1);
}
