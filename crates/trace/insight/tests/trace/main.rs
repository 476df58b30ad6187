//! What a trace's spans mean: one module per function, on small traces drawn by hand, and the
//! properties that hold for any spans whatever.

mod build;
mod clocks;
mod critical_path;
mod dependencies;
mod jaeger_adjusters;
mod properties;
mod scale;
mod summary;
mod tree;
mod zipkin;
