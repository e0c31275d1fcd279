//! The battery over the system allocator.
#![cfg(all(feature = "profiling", unix))]

#[path = "common/battery.rs"]
mod battery;
mod common;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

#[test]
fn threads_that_free_each_others_blocks_get_right_contents_and_estimates() {
    battery::run();
}
