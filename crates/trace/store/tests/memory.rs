//! The in-memory engine's bounds, the engines' searches against one without an index, and the engines
//! against each other.

mod suite {
    #![expect(
        dead_code,
        reason = "written for the conformance suite, of which this needs a part"
    )]
    #[path = "../suite/build.rs"]
    pub(crate) mod build;
}

#[path = "memory/bounds.rs"]
mod bounds;
#[path = "memory/reference.rs"]
mod reference;
#[path = "memory/steps.rs"]
mod steps;
