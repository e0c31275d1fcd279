//! Reads heapdrift dumps: tables, flamegraphs, exports.
