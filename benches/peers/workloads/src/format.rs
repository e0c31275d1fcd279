//! A real program: syn, the front end of a compiler, parses Rust sources, and prettyplease prints
//! them again.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use crate::sources::rust_files;
use crate::stopwatch::Stopwatch;

pub(crate) fn run(megabytes: u64, folders: &[PathBuf], stopwatch: &mut Stopwatch) {
    let mut texts = Vec::new();
    let mut bytes = 0;
    for file in rust_files(folders) {
        // The few files that syn cannot parse are left out: templates, other editions, newer
        // syntax.
        if let Ok(text) = fs::read_to_string(&file)
            && syn::parse_file(&text).is_ok()
        {
            bytes += text.len() as u64;
            texts.push(text);
        }
        if bytes >= megabytes * 1_000_000 {
            break;
        }
    }
    assert!(bytes >= megabytes * 1_000_000, "expected {megabytes} MB of Rust, found {bytes} bytes");
    stopwatch.time(|| texts.iter().for_each(|text| work(text)));
}

#[inline(never)]
fn work(text: &str) {
    let file = syn::parse_file(text).expect("it was parsed before");
    black_box(prettyplease::unparse(&file));
}
