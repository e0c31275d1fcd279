//! The battery over jemalloc.
#![cfg(unix)]

#[path = "../../common/battery.rs"]
mod battery;
#[path = "../../common/mod.rs"]
mod common;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOC: heapdrift::Alloc<Jemalloc> = heapdrift::Alloc::new(Jemalloc);

#[test]
fn threads_that_free_each_others_blocks_get_right_contents_and_estimates() {
    battery::run();
}
