//! `UriTemplateMatchConfig`: paths with `*` and `**`.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;

use super::super::check::{At, Refused, decode};
use crate::snapshot::{Pattern, ValueMatch};

/// What a segment is made of (RFC 3986 §3.3, without the asterisk), in a regular expression.
const CHARACTERS: &str = r"a-zA-Z0-9._~%!$&'()+,;:@=\-";

pub(super) fn compile(config: TypedExtensionConfig, at: &At<'_>) -> Result<ValueMatch, Refused> {
    let at = &at.field("typed_config");
    let any = config.typed_config;
    let any = any.ok_or_else(|| at.refuse("it must be given"))?;
    let template: UriTemplateMatchConfig = decode(&any, at)?;
    let at = &at.field("path_template");
    let source = regex(&template.path_template).map_err(|reason| at.refuse(reason))?;
    let pattern = Pattern::new(&source).map_err(|error| at.refuse(error))?;
    Ok(ValueMatch::Regex(pattern))
}

/// The regular expression that says the same as a template.
fn regex(template: &str) -> Result<String, String> {
    let refused = |problem: &str| Err(format!("{template:?} {problem}"));
    let Some(rest) = template.strip_prefix('/') else {
        return refused("does not begin with a slash");
    };
    let mut regex = String::new();
    let mut is_open_ended = false;
    for segment in rest.split('/') {
        if is_open_ended {
            return refused("goes on after \"**\", which must be last");
        }
        regex.push('/');
        if segment.contains(['{', '}']) {
            return refused("has a variable, which is not supported, \"*\" and \"**\" are");
        }
        let (operator, suffix) = match segment.strip_prefix("**") {
            Some(suffix) => {
                is_open_ended = true;
                (format!("[{CHARACTERS}/]*"), suffix)
            }
            None => match segment.strip_prefix('*') {
                Some(suffix) => (format!("[{CHARACTERS}]+"), suffix),
                None => (String::new(), segment),
            },
        };
        if suffix.contains('*') {
            return refused("has more than one operator in a segment, or one within it");
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || "._~%!$&'()+,;:@=-".contains(c);
        if !suffix.chars().all(valid) {
            return refused("has a character that no path has");
        }
        regex.push_str(&operator);
        regex.push_str(&regex::escape(suffix));
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        for (template, path, expected) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/x/c", false),
            ("/a/*/c", "/a//c", false),
            ("/a/*", "/a/", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/**.mpd", "/content/1/x.mpd", true),
            ("/**.mpd", "/content/1/x.mpe", false),
            ("/*/x/**", "/1/x/2/3", true),
            ("/a.b", "/axb", false),
        ] {
            let pattern = Pattern::new(&regex(template).expect("valid")).expect("valid");
            assert_eq!(
                pattern.matches(path.as_bytes()),
                expected,
                "{template} {path}"
            );
        }
        for (template, problem) in [
            ("a", "\"a\" does not begin with a slash"),
            (
                "/**/b",
                "\"/**/b\" goes on after \"**\", which must be last",
            ),
            (
                "/{x}",
                "\"/{x}\" has a variable, which is not supported, \"*\" and \"**\" are",
            ),
            (
                "/a*",
                "\"/a*\" has more than one operator in a segment, or one within it",
            ),
            ("/a b", "\"/a b\" has a character that no path has"),
        ] {
            assert_eq!(regex(template).expect_err("invalid"), problem);
        }
    }
}
