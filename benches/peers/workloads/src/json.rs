//! W6: parse a document with serde_json into values, and drop them.

use std::fmt::Write;
use std::hint::black_box;

use serde_json::Value;

use crate::random::Random;
use crate::stopwatch::Stopwatch;

const LARGEST_MB: u64 = 20;

/// Parses documents of 20 MB, or a smaller one once.
pub(crate) fn run(megabytes: u64, stopwatch: &mut Stopwatch) {
    let document = document(megabytes.min(LARGEST_MB) as usize * 1_000_000);
    for _ in 0..(megabytes / LARGEST_MB).max(1) {
        stopwatch.time(|| work(&document));
    }
}

#[inline(never)]
fn work(document: &str) {
    let value: Value = serde_json::from_str(document).expect("a document");
    drop(black_box(value));
}

/// The orders of a shop as objects, arrays, strings and numbers: random, but the same in every run.
fn document(bytes: usize) -> String {
    let mut random = Random::new(1);
    let mut text = String::with_capacity(bytes + 1024);
    text.push('[');
    while text.len() < bytes {
        let bits = random.next();
        let (id, price) = (bits % 1_000_000, bits % 9_973);
        let (name, items) = ("n".repeat(4 + bits % 29), (bits >> 20) % 6);
        write!(
            text,
            r#"{{"id":{id},"customer":{{"name":"{name}","vip":{}}},"items":["#,
            id % 2 == 0
        )
        .expect("a string can grow");
        for item in 0..items {
            let comma = if item == 0 { "" } else { "," };
            write!(
                text,
                r#"{comma}{{"sku":"sku-{}","price":{price}.5,"tags":["a","b"]}}"#,
                bits >> item & 4095
            )
            .expect("a string can grow");
        }
        text.push_str(r#"],"note":null},"#);
    }
    text.push_str("null]");
    text
}
