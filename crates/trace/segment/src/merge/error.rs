use thiserror::Error;

use crate::ReadError;

/// Why segments cannot be merged column by column.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// One of them cannot be read.
    #[error("one of the segments cannot be read")]
    Read {
        /// Its place among those that were given.
        input: usize,
        /// The cause.
        #[source]
        source: ReadError,
    },
    /// It would take too much memory.
    #[error("together they take too much memory")]
    TooLarge,
    /// Together they have more attribute keys, or lists of them, than a segment may have columns or
    /// shapes for: some would go to the residual column, and must be built anew for that.
    #[error("together they have too many attribute keys")]
    TooManyKeys,
    /// It was told to stop.
    #[error("the merge was stopped")]
    Stopped,
}

impl MergeError {
    /// This input cannot be read.
    pub(super) fn of(input: usize) -> impl Fn(ReadError) -> Self {
        move |source| Self::Read { input, source }
    }
}
