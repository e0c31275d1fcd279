//! A heap as stacks with names: the plain data that tables, pictures and exports are made from.

pub mod fold;
pub mod located;
pub mod symbolized;
