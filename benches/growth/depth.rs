//! Depth of the stack.

use std::hint::black_box;

use crate::measure::{exact_session, ns_each};

const PAIRS: usize = 5_000;
/// Calls that return and are made again between two pairs of the second column.
const CHANGING: usize = 10;

pub(crate) fn row(depth: usize) -> Vec<String> {
    let _profiler = exact_session();
    // The harness itself has some frames.
    let same = ns_each(PAIRS, || {
        under(depth, &mut || (0..PAIRS).for_each(|_| drop(black_box(Box::new([0_u8; 64])))));
    });
    let changing = ns_each(PAIRS, || {
        under(depth - CHANGING, &mut || {
            for _ in 0..PAIRS {
                under(CHANGING, &mut || drop(black_box(Box::new([0_u8; 64]))));
            }
        });
    });
    vec![format!("{same:.0}"), format!("{changing:.0}")]
}

/// Calls `work` under `depth` more frames.
#[inline(never)]
fn under(depth: usize, work: &mut dyn FnMut()) {
    if depth == 0 {
        work();
    } else {
        under(depth - 1, work);
        // Not a tail call: the frame stays.
        black_box(depth);
    }
}
