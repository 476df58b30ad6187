//! Developer chores: ci, ui build, bench, peers.

fn main() {}
