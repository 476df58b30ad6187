//! Rules that stand elsewhere, and what becomes of them where they are wanted: as in Istio, which lets a delegate narrow
//! what the rule that leads to it takes, and say what that leaves unsaid.

use super::{Action, GatewayRef, HttpMatch, HttpRoute};
use crate::diagnostic::At;
use crate::meta::check_name;
use crate::string_match::StringMatch;
use crate::view::{Shape, View};

/// `delegate`: a VirtualService without hosts, whose rules are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is named.
    pub at: At,
}

impl Delegate {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const DELEGATE: Shape = Shape {
            known: &["name", "namespace"],
            refused: &[],
        };
        let object = view.object(&DELEGATE)?;
        let of = object.optional("namespace", View::some_text)?;
        let of = of.unwrap_or_else(|| namespace.to_owned());
        let name = object.require("name")?;
        let text = name.some_text()?;
        (check_name(name, &of) && check_name(name, &text)).then(|| Self {
            namespace: of,
            name: text,
            at: At(view.at()),
        })
    }
}

/// The rules of a delegate where the rule `root` leads to them, and the places of those among them that take nothing that
/// `root` takes.
pub fn merge_rules(root: &HttpRoute, rules: &[HttpRoute]) -> (Vec<HttpRoute>, Vec<At>) {
    let mut merged = Vec::with_capacity(rules.len());
    let mut strangers = Vec::new();
    for rule in rules {
        match merge_rule(root, rule) {
            Some(rule) => merged.push(rule),
            None => strangers.push(rule.at),
        }
    }
    (merged, strangers)
}

fn merge_rule(root: &HttpRoute, rule: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = HttpRoute {
        name: join(&root.name, &rule.name),
        matches: merge_matches(&root.matches, &rule.matches)?,
        ..rule.clone()
    };
    merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
    merged.timeout = merged.timeout.or(root.timeout);
    merged.retries = merged.retries.or_else(|| root.retries.clone());
    merged.fault = merged.fault.or_else(|| root.fault.clone());
    merged.cors = merged.cors.or_else(|| root.cors.clone());
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    if merged.headers == Default::default() {
        merged.headers.clone_from(&root.headers);
    }
    // What answers by itself sends nothing anywhere.
    if !matches!(merged.action, Action::Route(_)) {
        merged.rewrite = None;
        merged.fault = None;
    }
    merged.stand_at(root.at);
    Some(merged)
}

impl HttpRoute {
    /// Says that all of it is written there: places in other files would be taken for places in the root's.
    fn stand_at(&mut self, at: At) {
        self.at = at;
        if let Action::Route(destinations) = &mut self.action {
            for one in destinations {
                one.destination.at = at;
            }
        }
        for mirror in &mut self.mirrors {
            mirror.destination.at = at;
        }
        let gateways = self.matches.iter_mut().flat_map(|one| &mut one.gateways);
        for gateway in gateways {
            if let GatewayRef::Named { at: place, .. } = gateway {
                *place = at;
            }
        }
    }
}

fn join(root: &str, own: &str) -> String {
    match (root, own) {
        ("", name) | (name, "") => name.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

/// Each condition of the delegate together with each of the root that it goes with; none if one goes with none.
fn merge_matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || own.is_empty() {
        return Some([root, own].concat());
    }
    let mut merged = Vec::new();
    for one in own {
        let before = merged.len();
        let together = root.iter().filter(|wide| !conflict(wide, one));
        merged.extend(together.map(|wide| merge_match(wide, one)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    let texts = |root: &[Condition], own: &[Condition]| {
        let is_new = |(name, _): &&Condition| own.iter().all(|(other, _)| other != name);
        let of_root = root.iter().filter(is_new);
        of_root.chain(own).cloned().collect::<Vec<_>>()
    };
    let mut labels = root.source_labels.clone();
    labels.extend(own.source_labels.clone());
    let either = |own: &Option<StringMatch>, root: &Option<StringMatch>| {
        own.clone().or_else(|| root.clone())
    };
    let namespace = own.source_namespace.clone();
    HttpMatch {
        name: join(&root.name, &own.name),
        uri: either(&own.uri, &root.uri),
        method: either(&own.method, &root.method),
        authority: either(&own.authority, &root.authority),
        scheme: either(&own.scheme, &root.scheme),
        headers: texts(&root.headers, &own.headers),
        without_headers: texts(&root.without_headers, &own.without_headers),
        query: texts(&root.query, &own.query),
        is_of_whole_segments: own.is_of_whole_segments,
        ignores_uri_case: own.ignores_uri_case,
        port: own.port.or(root.port),
        source_labels: labels,
        source_namespace: namespace.or_else(|| root.source_namespace.clone()),
        gateways: match own.gateways.is_empty() {
            true => root.gateways.clone(),
            false => own.gateways.clone(),
        },
    }
}

/// A name and what its value must be.
type Condition = (String, Option<StringMatch>);

/// Whether a delegate's condition asks for something that the root's does not take.
fn conflict(root: &HttpMatch, own: &HttpMatch) -> bool {
    let pairs = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let named = |root: &[Condition], own: &[Condition]| {
        own.iter().any(|(name, own)| {
            let of_root = root.iter().find(|(other, _)| other == name);
            of_root.is_some_and(|(_, root)| conflict_of_named(root.as_ref(), own.as_ref()))
        })
    };
    let differ = |root: &Option<_>, own: &Option<_>| root.is_some() && own.is_some() && root != own;
    let mut labels = own.source_labels.iter();
    pairs.into_iter().any(|(root, own)| match (root, own) {
        (Some(root), Some(own)) => conflict_of_texts(root, own),
        _ => false,
    }) || named(&root.headers, &own.headers)
        || named(&root.without_headers, &own.without_headers)
        || named(&root.query, &own.query)
        || root.ignores_uri_case != own.ignores_uri_case
        || root.port.is_some() && own.port.is_some() && root.port != own.port
        || differ(&root.source_namespace, &own.source_namespace)
        || labels.any(|(name, value)| {
            let of_root = root.source_labels.get(name);
            of_root.is_some_and(|root| root != value)
        })
        || conflict_of_gateways(&root.gateways, &own.gateways)
}

/// Presence, which takes all values, is narrowed by whatever a delegate says, and never widened.
fn conflict_of_named(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    match (root, own) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(root), Some(own)) => conflict_of_texts(root, own),
    }
}

fn conflict_of_texts(root: &StringMatch, own: &StringMatch) -> bool {
    match (root, own) {
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root != own,
        (StringMatch::Prefix(root), StringMatch::Exact(own) | StringMatch::Prefix(own)) => {
            !own.starts_with(root.as_str())
        }
        // Nobody can say which texts two expressions have in common.
        _ => true,
    }
}

fn conflict_of_gateways(root: &[GatewayRef], own: &[GatewayRef]) -> bool {
    let key = |gateway: &GatewayRef| match gateway {
        GatewayRef::Mesh => None,
        GatewayRef::Named {
            namespace, name, ..
        } => Some((namespace.clone(), name.clone())),
    };
    let is_among = |own: &GatewayRef| root.iter().any(|root| key(root) == key(own));
    !root.is_empty() && !own.iter().all(is_among)
}
