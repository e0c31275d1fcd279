//! Writers of the formats of other programs.

pub mod dhat;
pub mod jeprof;
pub mod pprof;
pub mod speedscope;
