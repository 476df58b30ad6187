//! Pure functions over traces: tree, clock skew, critical path, dependencies. No I/O.
