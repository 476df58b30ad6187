use periplus_store::{AppendOtlpError, StoreError};

use crate::Reason;

/// Why a request was refused: a reason to count, and words for the sender.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Seconds after which a sender that was refused for [`Reason::Busy`] should come again.
    pub(crate) const RETRY_AFTER_SECONDS: u64 = 1;
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { reason } => Self::new(
                Reason::Busy,
                format!("the store is busy: {reason}; send again later"),
            ),
            StoreError::TooLarge { .. } => Self::new(Reason::TooLarge, error.to_string()),
            // The cause may name paths: it goes to the log, not to the sender.
            error => {
                tracing::error!(error = %chain(&error), "the store refused a batch");
                Self::new(Reason::StoreFailed, "the store failed; its log says why")
            }
        }
    }
}

impl From<AppendOtlpError> for Refusal {
    fn from(error: AppendOtlpError) -> Self {
        match error {
            AppendOtlpError::Store(error) => error.into(),
            error => Self::new(Reason::Malformed, error.to_string()),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
