use std::collections::HashMap;
use std::fmt;

use periplus_resources::{Diagnostic, Kind, Meta, Position, Source};

use super::code::{self, Code};

/// The annotation whose codes are not told of its resource.
const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that is written has no effect.
    Error,
    /// It has an effect, but perhaps not the one that was meant.
    Warning,
    /// It works, and could be said better.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// The resource that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct About {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Something that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Of which kind it is.
    pub code: Code,
    /// The resource that it is about; none for what has no name, files that cannot be read, and the mesh configuration.
    pub about: Option<About>,
    /// What it is, and where.
    pub diagnostic: Diagnostic,
    /// Where the resource's document begins.
    document: Position,
}

impl Problem {
    pub(crate) fn error(source: &Source, position: Position, message: String) -> Self {
        Self::new(Severity::Error, source, position, message)
    }

    pub(crate) fn warning(source: &Source, position: Position, message: String) -> Self {
        Self::new(Severity::Warning, source, position, message)
    }

    pub(super) fn info(source: &Source, position: Position, message: String) -> Self {
        Self::new(Severity::Info, source, position, message)
    }

    /// A complaint of a document itself, about what it is as far as that can be read.
    pub(crate) fn of_document(diagnostic: Diagnostic, about: Option<About>) -> Self {
        Self {
            about,
            ..Self::from(diagnostic)
        }
    }

    /// The worst first, then by file and line.
    pub(crate) fn sorted(mut problems: Vec<Self>) -> Vec<Self> {
        let place = |problem: &Self| (problem.diagnostic.file.clone(), problem.diagnostic.position);
        problems.sort_by_cached_key(|problem| (problem.severity, place(problem)));
        problems
    }

    /// The same as one of this kind.
    #[must_use]
    pub(crate) fn code(self, code: Code) -> Self {
        Self { code, ..self }
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
            code: code::OTHER,
            about: None,
            diagnostic,
            document: source.position,
        }
    }
}

/// Says which resources problems are about, and leaves out those that the resources do not want to hear.
pub(crate) fn attribute<'a>(problems: &mut Vec<Problem>, metas: impl Iterator<Item = &'a Meta>) {
    if problems.is_empty() {
        return;
    }
    let place = |meta: &'a Meta| ((&*meta.source.file, meta.source.position), meta);
    let by_place: HashMap<_, _> = metas.map(place).collect();
    problems.retain_mut(|problem| {
        let Some(meta) = by_place.get(&(&*problem.diagnostic.file, problem.document)) else {
            return true;
        };
        problem.about = Some(About {
            kind: meta.kind,
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        });
        let suppressed = meta.annotations.get(SUPPRESS);
        let mut suppressed = suppressed.iter().flat_map(|codes| codes.split(','));
        !suppressed.any(|code| code.trim() == "*" || code.trim() == problem.code.id)
    });
}

impl From<Diagnostic> for Problem {
    /// A document's own complaints keep all of it from taking effect.
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            severity: Severity::Error,
            code: code::SCHEMA,
            about: None,
            document: diagnostic.position,
            diagnostic,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}
