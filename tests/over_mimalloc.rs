//! The battery over mimalloc.
#![cfg(all(feature = "profiling", unix))]

#[path = "common/battery.rs"]
mod battery;
mod common;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOC: heapdrift::Alloc<MiMalloc> = heapdrift::Alloc::new(MiMalloc);

#[test]
fn threads_that_free_each_others_blocks_get_right_contents_and_estimates() {
    battery::run();
}
