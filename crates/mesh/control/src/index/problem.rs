use std::fmt;

use periplus_resources::{Diagnostic, Position, Source};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that is written has no effect.
    Error,
    /// It has an effect, but perhaps not the one that was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and where.
    pub diagnostic: Diagnostic,
}

impl Problem {
    pub(crate) fn error(source: &Source, position: Position, message: String) -> Self {
        Self::new(Severity::Error, source, position, message)
    }

    pub(crate) fn warning(source: &Source, position: Position, message: String) -> Self {
        Self::new(Severity::Warning, source, position, message)
    }

    fn new(severity: Severity, source: &Source, position: Position, message: String) -> Self {
        let diagnostic = Diagnostic {
            file: source.file.clone(),
            position,
            field: String::new(),
            message,
        };
        Self {
            severity,
            diagnostic,
        }
    }
}

impl From<Diagnostic> for Problem {
    /// A file's own complaints keep all of it from taking effect.
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            severity: Severity::Error,
            diagnostic,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}
