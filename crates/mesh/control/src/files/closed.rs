//! Policies that could not be read since the start: what they would deny is not known, so all is denied.

use std::sync::Arc;

use periplus_resources::{Diagnostic, Resource, parse_resources};

use super::at_start;

/// Whether a text that cannot be read may say who may do what.
pub(super) fn may_hold_policies(text: &str) -> bool {
    text.contains("AuthorizationPolicy")
}

/// A policy that denies everything everywhere, in place of those of a file.
pub(super) fn deny_all(file: &Arc<str>, root_namespace: &str) -> Vec<Resource> {
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = file.chars().map(plain).collect();
    let text = format!(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: not-loaded-{name}, namespace: {root_namespace}}}
spec: {{action: DENY, rules: [{{}}]}}
"
    );
    parse_resources(file, &text).resources
}

/// What is said about it besides what is wrong.
pub(super) fn warning(file: &Arc<str>) -> Diagnostic {
    let message = "its policies could not be read since the start: all requests and connections to workloads and \
                   gateways are denied until they can be, or the file is deleted";
    at_start(file, message.into())
}
