//! Tests that the CUDA kernels, compiled for a CPU, give the same bits as the Rust kernels for every row.

use std::ffi::c_void;
use std::process::Command;

use super::super::curve::MembershipCurve;
use super::super::edge_blocks::{PackedBlock, WeightCode};
use super::super::field::{FieldNodes, RepulsionField, force_floats};
use super::super::kernel::{self, Epoch, LayoutKernel, RowChunk};
use super::super::optimizer::OptimizerStep;
use super::super::root_unit;
use super::{Arguments, RowSpan, group_words, padded_words, write_offsets};
use crate::config::Optimizer;
use crate::cuda::shim::{compile, kernel_symbol};
use crate::random::unit;

type LayoutKernelPointer = unsafe extern "C" fn(*const u32, *mut f32, *const Arguments);

/// Returns a kernel of the shim by its name.
#[expect(unsafe_code, reason = "FFI: a library of our own")]
fn kernel_of(name: &str) -> LayoutKernelPointer {
    // SAFETY: every layout kernel has this signature.
    unsafe { std::mem::transmute::<*mut c_void, LayoutKernelPointer>(kernel_symbol(name)) }
}

/// A program that runs the kernels under AddressSanitizer.
const SANITIZED: &str = include_str!("sanitized.cpp");

const ROWS: u32 = 2300;

fn epoch(number: u32, stepper: OptimizerStep, negatives: u32) -> Epoch {
    Epoch {
        curve: MembershipCurve { a: 1.577, b: 0.895 },
        number,
        // The draws of another epoch, as some methods use.
        draw_epoch: number.min(3),
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
fn walk(first: u32, rows: u32, coding: WeightCode) -> PackedBlock {
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
                WeightCode::Counts => [1, 4, 5, 8][(share * 4.0) as usize % 4],
                _ if e == 0 => u16::MAX,
                _ => (share * 65_535.0) as u16,
            });
        }
        offsets.push(neighbors.len() as u32);
    }
    PackedBlock::from_parts(first, &offsets, &neighbors, &codes)
}

/// Packs blocks as a kernel reads them: the table, then the blocks; the padding between them is arbitrary.
fn pack(blocks: &[&PackedBlock]) -> Vec<u32> {
    let lengths = || blocks.iter().map(|block| block.words().len());
    let mut out = vec![u32::MAX; group_words(lengths())];
    write_offsets(lengths(), &mut out[..blocks.len()]);
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
fn check<K: LayoutKernel, const DIM: usize>(kernel: &K, optimizer: Optimizer, negatives: u32) {
    let alike =
        [walk(0, 1024, K::WEIGHT_CODE), walk(1024, 1024, K::WEIGHT_CODE), walk(2048, ROWS - 2048, K::WEIGHT_CODE)];
    let uneven = [walk(0, 700, K::WEIGHT_CODE), walk(700, ROWS - 700, K::WEIGHT_CODE)];
    let mut now: Vec<[f32; DIM]> =
        (0..ROWS).map(|r| std::array::from_fn(|d| 20.0 * unit(2, d as u64, u64::from(r)) - 10.0)).collect();
    now[7] = now[8];
    let mut moments = vec![[[0.25f32; DIM]; 2]; now.len()];
    let half = now.len() * DIM;
    // NaN marks values that must not be read before they are written.
    let mut state: Vec<f32> = now.as_flattened().to_vec();
    state.resize(2 * half, f32::NAN);
    state.extend(moments.as_flattened().as_flattened());
    let mut field = K::USES_FIELD.then(|| RepulsionField::new(u64::from(ROWS)));
    if K::USES_FIELD {
        state.resize(4 * half + force_floats(u64::from(ROWS)), f32::NAN);
    }

    for number in 1..=4u32 {
        let stepper = OptimizerStep { optimizer, rate: 0.7, since: if number < 3 { number } else { number - 2 } };
        let epoch = epoch(number, stepper, negatives);
        let snapshot = now.clone();
        let mut nodes = FieldNodes::default();
        if let Some(field) = &mut field {
            field.update(snapshot.as_flattened().as_chunks().0).expect("numbers");
            field.forces(&mut state[4 * half..]);
            nodes = field.nodes();
        }
        for block in &alike {
            let range = block.first_row as usize..block.first_row as usize + block.rows();
            let chunk = RowChunk {
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
        let own = kernel.gpu_kernel(&epoch).expect("a kernel");
        let parity = (number + 1) % 2;
        let together = [alike.iter().collect::<Vec<_>>()];
        let apart: Vec<Vec<&PackedBlock>> = uneven.iter().map(|block| vec![block]).collect();
        for blocks in if number % 2 == 0 { &together[..] } else { &apart[..] } {
            let words = pack(blocks);
            let count = blocks.iter().map(|block| block.rows() as u32).sum();
            let (first, span) = (blocks[0].first_row, blocks[0].rows() as u32);
            let extent = RowSpan { first, count, span, words: words.len() };
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
pub(crate) fn in_the_plane<K: LayoutKernel>(kernel: &K, optimizer: Optimizer) {
    check::<K, 2>(kernel, optimizer, 0);
}

/// Runs [`check`] for all numbers of components.
pub(crate) fn all_widths<K: LayoutKernel>(kernel: &K, optimizer: Optimizer, negatives: u32) {
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
fn kernels_stay_within_their_memory() {
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
fn umap_on_gpu_equals_cpu() {
    all_widths(&super::super::umap::UmapKernel, Optimizer::Adam, 5);
    all_widths(&super::super::umap::UmapKernel, Optimizer::Adam, 1);
}
