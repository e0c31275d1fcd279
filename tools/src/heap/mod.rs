//! A heap as stacks with names: the plain data from which tables, pictures and exports are made.

pub mod fold;
pub mod located;
pub mod symbolized;
