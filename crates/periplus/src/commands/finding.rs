//! What an analysis finds, as it is printed, filtered and suppressed.

use std::str::FromStr;

use periplus_control::{Problem, Severity};
use serde::{Deserialize, Serialize};

use super::output::{Style, Tone, clean};

/// How bad a finding is: Istio's names.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
pub(super) enum Level {
    /// It works, and could be said better
    Info,
    /// It has an effect, but perhaps not the one that was meant
    Warning,
    /// Something that is written has no effect
    Error,
}

/// One finding: the keys are those of `istioctl analyze -o json`, and the place besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) code: String,
    pub(super) level: Level,
    pub(super) message: String,
    /// `KIND NAMESPACE/NAME`; nothing where no resource is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) origin: String,
    /// `FILE:LINE`
    pub(super) reference: String,
    pub(super) column: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) field: String,
}

impl Finding {
    pub(super) fn of(problem: &Problem) -> Self {
        let diagnostic = &problem.diagnostic;
        Self {
            code: problem.code.id.to_owned(),
            level: match problem.severity {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
                Severity::Info => Level::Info,
            },
            message: diagnostic.message.clone(),
            origin: problem
                .about
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            reference: format!("{}:{}", diagnostic.file, diagnostic.position.line),
            column: diagnostic.position.column,
            field: diagnostic.field.clone(),
        }
    }

    /// A line, as `istioctl analyze` writes them.
    pub(super) fn line(&self, style: Style) -> String {
        let (tone, level) = match self.level {
            Level::Error => (Tone::Bad, "Error"),
            Level::Warning => (Tone::Critical, "Warning"),
            Level::Info => (Tone::Faint, "Info"),
        };
        let mut place = self.reference.clone();
        if !self.origin.is_empty() {
            place = format!("{} {place}", self.origin);
        }
        let field = match self.field.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.field),
        };
        let text = clean(&format!("({place}) {field}{}", self.message));
        format!("{} [{}] {text}\n", style.paint(tone, level), self.code)
    }
}

/// `CODE=KIND NAME.NAMESPACE`: findings that are not told, `*` standing for whatever is in its place.
#[derive(Clone, Debug)]
pub(super) struct Suppression {
    code: String,
    /// As findings name it: `KIND NAMESPACE/NAME`.
    origin: String,
}

impl FromStr for Suppression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected CODE=KIND NAME.NAMESPACE, such as 'IST0118=Service reviews.default', with * for \
                        anything";
        let (code, resource) = text.split_once('=').ok_or(expected)?;
        let origin = match resource.split_once(' ') {
            Some((kind, name)) => match name.rsplit_once('.') {
                Some((name, namespace)) => format!("{kind} {namespace}/{name}"),
                None => format!("{kind} {name}"),
            },
            None if resource.contains('*') => resource.to_owned(),
            None => return Err(expected.to_owned()),
        };
        Ok(Self {
            code: code.to_owned(),
            origin,
        })
    }
}

impl Suppression {
    pub(super) fn covers(&self, finding: &Finding) -> bool {
        is_like(&self.code, &finding.code) && is_like(&self.origin, &finding.origin)
    }
}

/// Whether a text is that of a pattern whose `*` stand for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_stars() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "ab", false),
            ("*b*b", "ab", false),
            ("*b*b", "abab", true),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn suppressions_are_istios() {
        let finding = Finding {
            code: "IST0118".into(),
            level: Level::Info,
            message: String::new(),
            origin: "Service default/reviews".into(),
            reference: String::new(),
            column: 1,
            field: String::new(),
        };
        for (text, expected) in [
            ("IST0118=Service reviews.default", true),
            ("IST0118=Service *.default", true),
            ("IST0118=*", true),
            ("*=Service *", true),
            ("IST0118=Service reviews.shop", false),
            ("IST0101=*", false),
        ] {
            let suppression: Suppression = text.parse().unwrap();
            assert_eq!(suppression.covers(&finding), expected, "{text}");
        }
        assert!("IST0118".parse::<Suppression>().is_err());
        assert!("IST0118=Service".parse::<Suppression>().is_err());
    }
}
