//! The cost by the depth of the stack.

use std::hint::black_box;

use crate::measure::{exact_session, ns_each};

const PAIRS: usize = 5_000;
/// Innermost calls that, in the second column, return and are made again between two pairs.
const CHANGING: usize = 10;

pub(crate) fn row(depth: usize) -> Vec<String> {
    let _profiler = exact_session();
    // The stack is a little deeper than `depth`, because the harness has some frames of its own.
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
        // Prevents a tail call, which would leave no frame.
        black_box(depth);
    }
}
