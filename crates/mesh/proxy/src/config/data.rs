//! `DataSource`: bytes that stand in the configuration, or in a file.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use envoy_types::pb::envoy::config::core::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use serde_json::{Value, json};

use super::check::{At, Refused, ignored, nothing_else};

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Bytes, or where they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Data {
    Inline(Vec<u8>),
    /// Read again whenever it changes.
    File(String),
}

/// What is wrong with some data, and at which field.
pub(super) type Loaded<'a> = Result<Cow<'a, [u8]>, String>;

pub(super) fn compile(source: Option<pb::DataSource>, at: &At<'_>) -> Result<Data, Refused> {
    let mut source = source.unwrap_or_default();
    let data = match source.specifier.take() {
        Some(Specifier::Filename(path)) => Data::File(path),
        Some(Specifier::InlineBytes(bytes)) => Data::Inline(bytes),
        Some(Specifier::InlineString(text)) => Data::Inline(text.into_bytes()),
        Some(Specifier::EnvironmentVariable(name)) => match std::env::var(&name) {
            Ok(text) => Data::Inline(text.into_bytes()),
            Err(_) => {
                let reason = format!("{name:?} is not set");
                return Err(at.field("environment_variable").refuse(reason));
            }
        },
        None => return Err(at.refuse("it must be given")),
    };
    ignored!(source: watched_directory);
    nothing_else(&source, at)?;
    Ok(data)
}

impl Data {
    /// The bytes of now.
    pub(super) fn load(&self) -> Loaded<'_> {
        match self {
            Self::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File(path) => read(path).map(Cow::Owned),
        }
    }

    /// The text, or where it is, as Envoy's pages have it; not of a private key.
    pub(super) fn public(&self) -> Value {
        match self {
            Self::Inline(bytes) => json!({"inline_bytes": STANDARD.encode(bytes)}),
            Self::File(path) => json!({"filename": path}),
        }
    }

    /// The file that they are in.
    pub(super) fn file(&self) -> Option<&String> {
        match self {
            Self::Inline(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// Reads a file; the error names it.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read {path:?}: {error}");
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(format!("{path:?} has more than {MAX_BYTES} bytes"));
    }
    std::fs::read(path).map_err(failed)
}

/// It may be a private key.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => write!(f, "{path:?}"),
        }
    }
}
