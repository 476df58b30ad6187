//! Columnar spans.
