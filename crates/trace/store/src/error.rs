use thiserror::Error;

/// Why the store could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store takes nothing at the moment; the sender should try again after a while.
    #[error("the store is busy: {reason}")]
    Busy {
        /// What is full.
        reason: String,
    },
    /// The query itself cannot be answered.
    #[error("the query is invalid: {reason}")]
    InvalidQuery {
        /// What is wrong with it.
        reason: String,
    },
    /// The storage below failed.
    #[error("storage failed while {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
