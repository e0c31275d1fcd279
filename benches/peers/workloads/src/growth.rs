//! W5: grow a vector to a million numbers and a string to 8 MB, by `realloc`.

use std::hint::black_box;

use crate::stopwatch::Stopwatch;

pub(crate) fn run(times: u64, stopwatch: &mut Stopwatch) {
    stopwatch.time(|| (0..times).for_each(|_| work()));
}

#[inline(never)]
fn work() {
    let mut numbers = Vec::new();
    for number in 0..1_000_000_u64 {
        numbers.push(black_box(number));
    }
    let mut text = String::new();
    while text.len() < 8_000_000 {
        text.push_str(black_box("sixteen letters "));
    }
    black_box((numbers, text));
}
