//! The table of speed.
fn main() {}
