//! Periplus: a service mesh whose first purpose is distributed tracing.

fn main() {}
