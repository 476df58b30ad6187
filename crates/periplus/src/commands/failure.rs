//! Why a command has no answer.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

/// Why a command has no answer. Each kind has an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command makes no sense as it was written.
    Usage(String),
    /// Nobody answers there.
    Unreachable {
        server: String,
        cause: String,
        advice: &'static str,
    },
    /// The answer does not come.
    Timeout { server: String, after: Duration },
    /// The answer is a refusal.
    Refused { status: StatusCode, message: String },
    /// The answer is none that this program understands.
    Unreadable { server: String, cause: String },
    /// What was asked for is not there.
    Nothing(String),
}

impl Failure {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused { status, .. } if *status == StatusCode::BAD_REQUEST => 2,
            Self::Unreachable { .. } => 3,
            Self::Timeout { .. } => 4,
            Self::Refused { .. } | Self::Unreadable { .. } | Self::Nothing(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Nothing(message) => f.write_str(message),
            Self::Unreachable {
                server,
                cause,
                advice,
            } => write!(f, "cannot reach {server}: {cause}; {advice}"),
            Self::Timeout { server, after } => write!(
                f,
                "no answer from {server} after {} s: ask for less, or give it more with --timeout",
                after.as_secs()
            ),
            Self::Refused { status, message } if status.is_client_error() => f.write_str(message),
            Self::Refused { status, message } => {
                write!(f, "the server answers {}: {message}", status.as_u16())
            }
            Self::Unreadable { server, cause } => write!(
                f,
                "{server} is no Periplus of this version: its answer cannot be read ({cause})"
            ),
        }
    }
}

impl std::error::Error for Failure {}

/// The words of a refusal: our API's, Jaeger's, or the body as it is.
pub(super) fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Ours {
        error: String,
    }
    #[derive(Deserialize)]
    struct Jaegers {
        errors: Vec<Jaeger>,
    }
    #[derive(Deserialize)]
    struct Jaeger {
        msg: String,
    }
    if let Ok(ours) = serde_json::from_slice::<Ours>(body) {
        return ours.error;
    }
    if let Ok(mut jaegers) = serde_json::from_slice::<Jaegers>(body)
        && let Some(first) = jaegers.errors.pop()
    {
        return first.msg;
    }
    let text = String::from_utf8_lossy(body);
    super::output::clean(text.trim())
        .chars()
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_the_server_says() {
        for (body, expected) in [
            (r#"{"error":"no such trace"}"#, "no such trace"),
            (
                r#"{"data":null,"errors":[{"code":404,"msg":"trace not found"}]}"#,
                "trace not found",
            ),
            ("404 page\u{1b}[31m not found\n", "404 page?[31m not found"),
        ] {
            assert_eq!(refusal(body.as_bytes()), expected);
        }
    }
}
