use super::Builder;

/// How many spans are added before others may look at the builder.
pub(super) const SPANS_AT_ONCE: usize = 256;

/// A builder that is also read meanwhile: what is added to it is added in turns.
///
/// Between two turns the builder is whole, but holds a part of what is being added; a part that may
/// be taken back. Readers must not go behind the rows of what was added before.
pub trait Turns {
    /// The builder, for this turn. Nobody else changes it before all is added.
    fn builder(&mut self) -> &mut Builder;

    /// The turn ends.
    fn pause(&mut self);
}

impl Turns for &mut Builder {
    fn builder(&mut self) -> &mut Builder {
        self
    }

    fn pause(&mut self) {}
}
