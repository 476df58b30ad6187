//! Whether the certificates of the control plane hold, those of its authority, and its own; the lists of those that were
//! taken back; and whether other issuers of tokens give their keys.

use std::time::Duration;

use serde_json::Value;

use super::step::Step;
use crate::commands::proxy_status::text;

const NAME: &str = "authority";
/// What is to be done about the control plane's own certificate.
const ANEW: &str =
    "it is made anew by itself: the control plane's log says what keeps it from that";
/// What is to be done about a list.
const NEWER: &str =
    "put a newer one into ca-crl.pem, beside ca-cert.pem: docs/identity.md#revoked-certificates";

/// A certificate of the page, and what is known of its end.
struct Certificate<'a> {
    page: &'a Value,
    /// `the root 1a2b`
    what: String,
}

impl<'a> Certificate<'a> {
    /// A list of revoked certificates, which ends as they do.
    fn list(page: &'a Value) -> Self {
        Self {
            page,
            what: format!(
                "the list of certificates that {} has revoked",
                text(page, "issuer")
            ),
        }
    }

    fn new(what: &str, page: &'a Value) -> Self {
        let serial = text(page, "serial");
        Self {
            page,
            what: format!("{what} of serial {serial}"),
        }
    }

    fn is_over(&self) -> bool {
        self.page["secondsLeft"].as_u64() == Some(0)
    }

    fn ends_soon(&self) -> bool {
        self.page["endsSoon"] == true
    }

    /// `12 days`
    fn left(&self) -> String {
        let seconds = self.page["secondsLeft"].as_u64().unwrap_or_default();
        periplus_control::time_left(Duration::from_secs(seconds))
    }
}

/// Whether the authority's certificates hold, and the control plane's own.
pub(super) fn holds(page: &Value) -> Step {
    if page.is_null() {
        let said = "there is none: proxies have no certificates, and speak plaintext".to_owned();
        return Step::skipped(NAME, said).advice("start the control plane with --identity-dir DIR");
    }
    let replaces_itself = page["replacesItself"] == true;
    let each = |key: &str, what: &'static str| {
        let all = page[key].as_array().into_iter().flatten();
        all.map(move |one| Certificate::new(what, one))
            .collect::<Vec<_>>()
    };
    let signer = Certificate::new("the certificate that signs,", &page["authority"]);
    let roots = each("roots", "the root");
    let serving = Some(&page["serving"]).filter(|page| !page.is_null());
    let serving = serving.map(|page| Certificate::new("the control plane's own certificate", page));
    let advice = match replaces_itself {
        true => "it is replaced by itself: the control plane's log says what keeps it from that",
        false => "put its successor into the directory of --cacerts: docs/identity.md",
    };
    if signer.is_over() {
        let said = format!("{} has expired: nobody gets a certificate", signer.what);
        return Step::failed(NAME, said).advice(advice);
    }
    let mut chain = each("intermediates", "the intermediate certificate");
    let signs = signer.page["serial"].clone();
    if let Some(over) = chain.iter().find(|one| one.is_over()) {
        let said = format!(
            "{} has expired: nobody believes what it stands for",
            over.what
        );
        return Step::failed(NAME, said).advice(advice);
    }
    if !roots.is_empty() && roots.iter().all(Certificate::is_over) {
        let said = format!(
            "{} has expired: nobody believes what it stands for",
            roots[0].what
        );
        return Step::failed(NAME, said).advice(advice);
    }
    let lists = page["revocationLists"].as_array().into_iter().flatten();
    let lists: Vec<_> = lists.map(Certificate::list).collect();
    if let Some(over) = lists.iter().find(|one| one.is_over()) {
        let said = format!(
            "{} is past its next update: nobody is let in whom it has signed",
            over.what
        );
        return Step::failed(NAME, said).advice(NEWER);
    }
    if let Some(over) = serving.as_ref().filter(|one| one.is_over()) {
        let said = format!(
            "{} has expired: no proxy gets in on the port with TLS",
            over.what
        );
        return Step::failed(NAME, said).advice(ANEW);
    }
    if let Some(own) = serving.filter(Certificate::ends_soon) {
        return Step::warned(NAME, format!("{} ends in {}", own.what, own.left())).advice(ANEW);
    }
    if let Some(list) = lists.iter().find(|one| one.ends_soon()) {
        let said = format!("{} must be replaced in {}", list.what, list.left());
        return Step::warned(NAME, said).advice(NEWER);
    }
    let said = format!("its certificate holds for {}", signer.left());
    // The old root, while workloads still believe it, and the one that ends while the next is announced.
    if replaces_itself && roots.len() > 1 {
        return Step::passed(NAME, format!("{said}, one root is replacing another"));
    }
    chain.extend(roots.into_iter().filter(|one| one.page["serial"] != signs));
    chain.insert(0, signer);
    match chain.iter().find(|one| one.is_over() || one.ends_soon()) {
        None => Step::passed(NAME, said),
        Some(one) if one.is_over() => {
            Step::warned(NAME, format!("{said}, but {} has expired", one.what))
                .advice("take it out of root-cert.pem")
        }
        Some(one) => {
            Step::warned(NAME, format!("{} ends in {}", one.what, one.left())).advice(advice)
        }
    }
}

/// Whether the issuers give their keys whose tokens workloads have, if there are some.
pub(super) fn issuers(page: &Value) -> Option<Step> {
    const NAME: &str = "issuers";
    let all = page["issuers"].as_array()?;
    if all.is_empty() {
        return None;
    }
    let troubled = all.iter().filter(|one| !one["trouble"].is_null());
    let told = |one: &Value| {
        let stay = match one["keysSince"].is_null() {
            true => "its tokens are refused",
            false => "its last keys stay in use",
        };
        format!("{}: {}; {stay}", text(one, "issuer"), text(one, "trouble"))
    };
    let told: Vec<String> = troubled.clone().map(told).collect();
    let none = troubled.filter(|one| one["keysSince"].is_null()).count();
    Some(match (told.is_empty(), none) {
        (true, _) => Step::passed(NAME, format!("{} of tokens gave their keys", all.len())),
        (false, 0) => Step::warned(NAME, told.join("; ")),
        (false, _) => Step::failed(NAME, told.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::step::State;
    use super::*;

    #[test]
    fn each_certificate_that_ends_is_told_with_what_to_do() {
        const DAY: u64 = 86_400;
        const SOON: u64 = 9 * DAY;
        const LONG: u64 = 300 * DAY;
        let show = |serial: &str, left: u64| json!({"serial": serial, "secondsLeft": left, "endsSoon": left <= SOON});
        // The signing certificate, those between, the roots, the server's own; then what is said, and advised.
        let own = "it is replaced by itself";
        let theirs = "--cacerts";
        for (is_own, [signs, between, root, other, serving], state, said, advice) in [
            (true, [LONG; 5], State::Passed, "holds for 300 days", ""),
            (false, [LONG; 5], State::Passed, "holds for 300 days", ""),
            (
                false,
                [3 * 3_600 + 1, LONG, LONG, LONG, LONG],
                State::Warned,
                "serial 1 ends in 3 hours",
                theirs,
            ),
            (
                false,
                [0, LONG, LONG, LONG, LONG],
                State::Failed,
                "serial 1 has expired: nobody gets",
                theirs,
            ),
            (
                false,
                [LONG, SOON, LONG, LONG, LONG],
                State::Warned,
                "intermediate certificate of serial 2 ends in 9 days",
                theirs,
            ),
            (
                false,
                [LONG, 0, LONG, LONG, LONG],
                State::Failed,
                "intermediate certificate of serial 2 has expired",
                theirs,
            ),
            (
                false,
                [LONG, LONG, SOON, LONG, LONG],
                State::Warned,
                "the root of serial 3 ends in 9 days",
                theirs,
            ),
            (
                false,
                [LONG, LONG, 0, LONG, LONG],
                State::Warned,
                "the root of serial 3 has expired",
                "out of root-cert.pem",
            ),
            (
                false,
                [LONG, LONG, 0, 0, LONG],
                State::Failed,
                "the root of serial 3 has expired: nobody",
                theirs,
            ),
            (
                false,
                [LONG, LONG, LONG, LONG, 60],
                State::Warned,
                "own certificate of serial 5 ends in 60 seconds",
                "by itself",
            ),
            (
                false,
                [LONG, LONG, LONG, LONG, 0],
                State::Failed,
                "own certificate of serial 5 has expired",
                "by itself",
            ),
            (
                true,
                [SOON, LONG, LONG, LONG, LONG],
                State::Passed,
                "one root is replacing another",
                "",
            ),
            (
                true,
                [LONG, LONG, SOON, LONG, LONG],
                State::Passed,
                "one root is replacing another",
                "",
            ),
            (
                true,
                [LONG, LONG, 0, LONG, LONG],
                State::Passed,
                "one root is replacing another",
                "",
            ),
            (
                true,
                [0, LONG, LONG, LONG, LONG],
                State::Failed,
                "serial 1 has expired: nobody gets",
                own,
            ),
            (
                true,
                [LONG, LONG, LONG, LONG, 0],
                State::Failed,
                "own certificate of serial 5 has expired",
                "by itself",
            ),
        ] {
            let page = json!({
                "authority": show("1", signs),
                "replacesItself": is_own,
                "intermediates": [show("2", between)],
                "roots": [show("3", root), show("4", other)],
                "serving": show("5", serving),
            });
            let step = holds(&page);
            assert_eq!(step.state, state, "{page:#} {}", step.said);
            assert!(step.said.contains(said), "{page:#} {}", step.said);
            let advised = step.advice.unwrap_or_default();
            assert!(advised.contains(advice), "{page:#} {advised}");
            assert!(!is_own || !advised.contains("--cacerts"), "{advised}");
        }
        // Lists of an authority that is plugged in.
        let list =
            |left: u64| json!({"issuer": "CN=mesh", "secondsLeft": left, "endsSoon": left <= SOON});
        for (left, state, said) in [
            (LONG, State::Passed, "holds for 300 days"),
            (
                SOON,
                State::Warned,
                "CN=mesh has revoked must be replaced in 9 days",
            ),
            (
                0,
                State::Failed,
                "CN=mesh has revoked is past its next update",
            ),
        ] {
            let page = json!({
                "authority": show("1", LONG), "replacesItself": false, "intermediates": [], "roots": [show("3", LONG)],
                "serving": show("5", LONG), "revocationLists": [list(LONG), list(left)],
            });
            let step = holds(&page);
            assert_eq!(step.state, state, "{}", step.said);
            assert!(step.said.contains(said), "{}", step.said);
            let is_told = step
                .advice
                .is_some_and(|advice| advice.contains("ca-crl.pem"));
            assert_eq!(is_told, state != State::Passed);
        }
        // Nobody has announced a successor of our own root, though it is time.
        let root = show("1", SOON);
        let page = json!({
            "authority": root, "replacesItself": true, "intermediates": [], "roots": [root], "serving": null,
        });
        let step = holds(&page);
        assert_eq!(step.state, State::Warned);
        assert!(step.advice.is_some_and(|advice| advice.contains(own)));
        assert_eq!(holds(&Value::Null).state, State::Skipped);
    }

    #[test]
    fn issuers_that_give_no_keys_are_told() {
        let one = |since: Option<u64>, trouble: Option<&str>| json!({"issuer": "https://a", "keysSince": since, "trouble": trouble});
        for (all, expected) in [
            (vec![], None),
            (
                vec![one(Some(1), None)],
                Some((State::Passed, "1 of tokens gave their keys")),
            ),
            (
                vec![one(Some(1), None), one(Some(1), Some("it is down"))],
                Some((
                    State::Warned,
                    "https://a: it is down; its last keys stay in use",
                )),
            ),
            (
                vec![one(Some(1), Some("it is down")), one(None, Some("404"))],
                Some((State::Failed, "https://a: 404; its tokens are refused")),
            ),
        ] {
            let step = issuers(&json!({"issuers": all}));
            let found = step.map(|step| (step.state, step.said));
            match (found, expected) {
                (None, None) => {}
                (Some((state, said)), Some((expected, part))) => {
                    assert_eq!(state, expected, "{said}");
                    assert!(said.contains(part), "{said}");
                }
                (found, _) => panic!("{all:?}: {found:?}"),
            }
        }
    }
}
