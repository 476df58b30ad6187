//! The values of AuthorizationPolicies as Envoy's matchers, in Istio's shapes.

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use envoy_types::pb::envoy::config::rbac::v3::Principal;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::{self, Authenticated, Identifier};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, RegexMatcher, StringMatcher,
    ValueMatcher, list_matcher, path_matcher, value_matcher,
};
use periplus_resources::parse_block;

use super::proto::{any, uint32};

const SPIFFE: &str = "spiffe://";
/// Where the filter of tokens leaves what they say.
const TOKENS: &str = "envoy.filters.http.jwt_authn";
const PAYLOAD: &str = "payload";

/// `*` is anything that is there; at one end it is any text.
pub(super) fn text(value: &str) -> StringMatcher {
    let pattern = match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => return regex(".+".to_owned()),
        (_, Some(suffix), _) => MatchPattern::Suffix(suffix.to_owned()),
        (_, _, Some(prefix)) => MatchPattern::Prefix(prefix.to_owned()),
        _ => MatchPattern::Exact(value.to_owned()),
    };
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    }
}

fn regex(regex: String) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
            regex,
            ..RegexMatcher::default()
        })),
        ignore_case: false,
    }
}

/// A text within a regular expression.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

pub(super) fn header(name: &str, value: &str) -> HeaderMatcher {
    let specifier = match value {
        "*" => HeaderMatchSpecifier::PresentMatch(true),
        value => HeaderMatchSpecifier::StringMatch(text(value)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

/// Hosts have no case.
pub(super) fn host(value: &str) -> HeaderMatcher {
    let mut matcher = header(":authority", value);
    if let Some(HeaderMatchSpecifier::StringMatch(text)) = &mut matcher.header_match_specifier {
        text.ignore_case = true;
    }
    matcher
}

pub(super) fn path(value: &str) -> Rule {
    if value.contains('{') {
        let config = UriTemplateMatchConfig {
            path_template: value.replace("{**}", "**").replace("{*}", "*"),
        };
        return Rule::UriTemplate(TypedExtensionConfig {
            name: "uri-template".into(),
            typed_config: Some(any(&config)),
        });
    }
    Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(text(value))),
    })
}

/// A port that was checked when it was read.
pub(super) fn port(value: &str) -> Rule {
    Rule::DestinationPort(value.parse().unwrap_or_default())
}

/// A block that was checked when it was read.
pub(super) fn block(value: &str) -> CidrRange {
    let (address, length) = parse_block(value).unwrap_or(([0, 0, 0, 0].into(), 32));
    CidrRange {
        address_prefix: address.to_string(),
        prefix_len: uint32(length.into()),
    }
}

fn authenticated(name: StringMatcher) -> Identifier {
    Identifier::Authenticated(Authenticated {
        principal_name: Some(name),
    })
}

pub(super) fn principal(value: &str) -> Identifier {
    authenticated(match value.strip_prefix('*') {
        Some("") => regex(".+".to_owned()),
        Some(suffix) => regex(format!("{SPIFFE}.*{}", escape(suffix))),
        None => text(&format!("{SPIFFE}{value}")),
    })
}

pub(super) fn namespace(value: &str) -> Identifier {
    let value = escape(value).replace(r"\*", ".*");
    authenticated(regex(format!(".*/ns/{value}/.*")))
}

pub(super) fn service_account(value: &str, own: &str) -> Identifier {
    let (namespace, account) = value.split_once('/').unwrap_or((own, value));
    let (namespace, account) = (escape(namespace), escape(account));
    authenticated(regex(format!(
        "{SPIFFE}.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
    )))
}

pub(super) fn trust_domain(value: &str) -> Identifier {
    authenticated(match value {
        "*" => text(&format!("{SPIFFE}*")),
        exact if !exact.contains('*') => text(&format!("{SPIFFE}{exact}/*")),
        pattern => {
            let pattern = escape(pattern).replace(r"\*", "[^/]*");
            regex(format!("{SPIFFE}{pattern}/.*"))
        }
    })
}

/// `ISSUER/SUBJECT`: the last slash divides them, since issuers may be URLs.
pub(super) fn request_principal(value: &str) -> Identifier {
    let anything = || regex(".+".to_owned());
    let or_anything = |value: &str| match value {
        "*" => anything(),
        value => text(value),
    };
    let (issuer, subject) = match value.rsplit_once('/') {
        _ if value == "*" => (anything(), anything()),
        Some((issuer, subject)) if value.starts_with('*') => (or_anything(issuer), text(subject)),
        Some((issuer, subject)) => (text(issuer), or_anything(subject)),
        None if value.starts_with('*') => (anything(), text(value)),
        None if value.ends_with('*') => (text(value), anything()),
        None => (text(value), text("")),
    };
    let claim = |name: &str, is: StringMatcher| Principal {
        identifier: Some(metadata(
            &[name],
            value_matcher::MatchPattern::StringMatch(is),
        )),
    };
    Identifier::AndIds(principal::Set {
        ids: vec![claim("iss", issuer), claim("sub", subject)],
    })
}

/// A claim that is this text, or a list that has it.
pub(super) fn claim(path: &[&str], value: &str) -> Identifier {
    principal_of(claim_of_tokens(path, &text(value)))
}

/// A claim that is such a text, or a list that has one.
pub(super) fn claim_of_tokens(path: &[&str], is: &StringMatcher) -> MetadataMatcher {
    let is = || ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(is.clone())),
    };
    let within = ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(is()))),
    };
    let within = ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(within))),
    };
    payload(
        path,
        value_matcher::MatchPattern::OrMatch(OrMatcher {
            value_matchers: vec![is(), within],
        }),
    )
}

fn metadata(path: &[&str], value: value_matcher::MatchPattern) -> Identifier {
    principal_of(payload(path, value))
}

#[expect(deprecated, reason = "this is the form that Istio sends")]
fn principal_of(asked: MetadataMatcher) -> Identifier {
    Identifier::Metadata(asked)
}

/// What a token says at a path.
pub(super) fn payload(path: &[&str], value: value_matcher::MatchPattern) -> MetadataMatcher {
    let segment = |key: &str| PathSegment {
        segment: Some(path_segment::Segment::Key(key.to_owned())),
    };
    let path = std::iter::once(PAYLOAD).chain(path.iter().copied());
    MetadataMatcher {
        filter: TOKENS.to_owned(),
        path: path.map(segment).collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(value),
        }),
        invert: false,
    }
}
