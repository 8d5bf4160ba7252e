//! HOW: the adapters to what lies outside.

pub mod graph;
