//! Paths of requests, as the APIs of Kubernetes take them.

use crate::view::View;

/// What is in no path: a proxy takes it out before it asks its rules, or has another meaning for it.
const PARTS: [&str; 7] = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
const ENDS: [&str; 2] = ["/.", "/.."];

/// Whether a text can be a path; it is said if not.
pub(crate) fn check_path(view: &View<'_>, path: &str) -> bool {
    if !path.starts_with('/') {
        view.fail(format!("`{path}`: a path begins with `/`"));
        return false;
    }
    if let Some(part) = PARTS.iter().find(|part| path.contains(**part)) {
        view.fail(format!("`{path}`: a path has no `{part}`"));
        return false;
    }
    if let Some(end) = ENDS.iter().find(|end| path.ends_with(**end)) {
        view.fail(format!("`{path}`: a path does not end in `{end}`"));
        return false;
    }
    true
}
