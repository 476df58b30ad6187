use std::fmt;
use std::sync::Arc;

/// A place in a file; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Where a part of a resource is written.
///
/// Any two are equal: a resource that only moved within its file has not changed.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub struct At(pub Position);

impl PartialEq for At {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// What is wrong with a file, where, and what was expected instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// The file's name, as it was given to the parser.
    pub file: Arc<str>,
    /// The place of the offending text.
    pub position: Position,
    /// The field's path in its document (`spec.http[0].route[1].weight`); empty when the document
    /// as a whole is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{}:{line}:{column}: ", self.file)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}
