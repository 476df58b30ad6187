//! Policies that could not be read since the start: what they would refuse is not known, so all is refused, whatever else
//! their file says.
//!
//! That is so for each kind that says who may do what. Of an AuthorizationPolicy nobody knows whom it denies; of a
//! PeerAuthentication, where it asks for certificates (`STRICT` everywhere would be less than all that it may say about
//! ports, and would be overruled by those of workloads that can be read); of a RequestAuthentication, whose tokens are
//! refused. While the control plane runs it is otherwise: what was refused before still is, and a new file that is being
//! written, or has a typing error, must not stop the whole mesh.

use std::sync::Arc;

use periplus_resources::{Diagnostic, Resource, parse_resources};

use super::at_start;

/// A policy that denies everything everywhere, for the sake of those of a file.
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

/// What is said of a file that was read before, or has come since the start.
pub(super) fn notice(file: &Arc<str>) -> Diagnostic {
    let message = "it may hold policies: what was read of it before still holds (of a new file, nothing), but a control \
                   plane that starts with it like this denies all requests and connections";
    at_start(file, message.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Files;

    fn load(directory: &Path) -> Files {
        Files::load(vec![directory.to_owned()], None).expect("a directory")
    }

    fn closed(files: &Files) -> Vec<String> {
        files.closed().iter().map(ToString::to_string).collect()
    }

    /// What a control plane does that starts with a file, and what one does that runs when the file comes.
    #[test]
    fn what_cannot_be_read_is_closed_at_the_start_and_announced_later() {
        const TOKENS: &str = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
                              metadata: {name: a}\nspec: {jwtRule: []}\n";
        const MODE: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                            metadata: {name: a}\nspec: {mtls: {mode: STRIKT}}\n";
        const RULES: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                             metadata: {name: a}\nspec: {rule: []}\n";
        const ROUTES: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                              metadata: {name: a}\nspec: {host: []}\n";
        let misspelt = RULES.replace("AuthorizationPolicy", "AuthorisationPolicy");
        for (what, bytes, is_closed) in [
            ("of an AuthorizationPolicy", RULES.as_bytes(), true),
            ("of a PeerAuthentication", MODE.as_bytes(), true),
            ("of a RequestAuthentication", TOKENS.as_bytes(), true),
            ("of an unknown kind of the group", misspelt.as_bytes(), true),
            ("half of a file", &RULES.as_bytes()[..60], true),
            ("no text", b"\xff\xfe", true),
            ("of a VirtualService", ROUTES.as_bytes(), false),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut running = load(directory.path());
            std::fs::write(directory.path().join("a.yaml"), bytes).expect("a file");
            let scan = running.scan();
            assert_eq!(scan.changes.len(), 1, "{what}");
            let said: Vec<String> = running
                .problems()
                .map(|one| one.diagnostic.message)
                .collect();
            let is_announced = said
                .last()
                .is_some_and(|one| one.contains("that starts with it"));
            assert_eq!(is_announced, is_closed, "{what}: {said:?}");
            assert!(running.resources().next().is_none(), "{what}");
            assert!(closed(&running).is_empty(), "{what}");

            let started = load(directory.path());
            let expected: &[&str] = if is_closed { &["a.yaml"] } else { &[] };
            assert_eq!(closed(&started), expected, "{what}");
            let names = started.resources().map(|one| one.meta.name.clone());
            assert_eq!(names.count(), usize::from(is_closed), "{what}");
            let said: Vec<String> = started
                .problems()
                .map(|one| one.diagnostic.message)
                .collect();
            let is_said = said
                .last()
                .is_some_and(|one| one.contains("are denied until"));
            assert_eq!(is_said, is_closed, "{what}: {said:?}");
        }
    }
}
