//! `Permission`: what is asked for.

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::super::check::{At, Refused};
use super::super::{filter_chain, matcher};
use super::{metadata, template};
use crate::policy::{Combination, Condition, Expression};
use crate::snapshot::ValueMatch;

/// How deep conditions may stand within each other.
pub(super) const DEEPEST: usize = 32;

/// The largest port, and one more.
const PORTS: u32 = 65536;

/// Adds a permission to an expression. `depth` is how many conditions it stands in.
pub(super) fn compile(
    permission: pb::Permission,
    depth: usize,
    into: &mut Expression,
    at: &At<'_>,
) -> Result<(), Refused> {
    check_depth(depth, at)?;
    let condition = match permission.rule {
        Some(Rule::AndRules(set)) => {
            return group(
                set.rules,
                (Combination::All, depth),
                into,
                &at.field("and_rules"),
            );
        }
        Some(Rule::OrRules(set)) => {
            return group(
                set.rules,
                (Combination::Any, depth),
                into,
                &at.field("or_rules"),
            );
        }
        Some(Rule::NotRule(inner)) => {
            let at = &at.field("not_rule");
            return into.combine(Combination::None, |into| {
                compile(*inner, depth + 1, into, at)
            });
        }
        Some(Rule::Any(any)) => always(any, at)?,
        Some(Rule::Header(header)) => {
            Condition::from(matcher::header(header, &at.field("header"))?)
        }
        Some(Rule::UrlPath(path)) => Condition::Path(self::path(path, &at.field("url_path"))?),
        Some(Rule::UriTemplate(config)) => {
            Condition::Path(template::compile(config, &at.field("uri_template"))?)
        }
        Some(Rule::DestinationIp(range)) => {
            Condition::DestinationIp(filter_chain::block(range, &at.field("destination_ip"))?)
        }
        Some(Rule::DestinationPort(port)) => {
            if port >= PORTS {
                let at = at.field("destination_port");
                return Err(at.refuse(format!("{port} is not a port")));
            }
            Condition::DestinationPort(port, port + 1)
        }
        Some(Rule::DestinationPortRange(range)) => {
            ports(range, &at.field("destination_port_range"))?
        }
        Some(Rule::RequestedServerName(name)) => {
            Condition::ServerName(matcher::string(name, &at.field("requested_server_name"))?)
        }
        Some(Rule::Metadata(asked)) => {
            Condition::Metadata(metadata::compile(asked, &at.field("metadata"))?)
        }
        Some(Rule::SourcedMetadata(asked)) => {
            Condition::Metadata(metadata::sourced(asked, &at.field("sourced_metadata"))?)
        }
        Some(Rule::Matcher(config)) => return Err(extension("matcher", &config.name, at)),
        None => return Err(at.refuse("a rule must be given")),
    };
    into.test(condition);
    Ok(())
}

fn group(
    parts: Vec<pb::Permission>,
    (how, depth): (Combination, usize),
    into: &mut Expression,
    at: &At<'_>,
) -> Result<(), Refused> {
    let at = &at.field("rules");
    not_empty(&parts, at)?;
    into.combine(how, |into| {
        let mut parts = parts.into_iter().enumerate();
        parts.try_for_each(|(index, part)| compile(part, depth + 1, into, &at.index(index)))
    })
}

pub(super) fn check_depth(depth: usize, at: &At<'_>) -> Result<(), Refused> {
    match depth {
        0..=DEEPEST => Ok(()),
        _ => Err(at.refuse(format!(
            "more than {DEEPEST} conditions stand within each other"
        ))),
    }
}

pub(super) fn not_empty<T>(parts: &[T], at: &At<'_>) -> Result<(), Refused> {
    match parts {
        [] => Err(at.refuse("there must be at least one")),
        _ => Ok(()),
    }
}

pub(super) fn always(any: bool, at: &At<'_>) -> Result<Condition, Refused> {
    match any {
        true => Ok(Condition::Always),
        false => Err(at.field("any").refuse("it must be true")),
    }
}

pub(super) fn extension(field: &str, name: &str, at: &At<'_>) -> Refused {
    at.field(field)
        .refuse(format!("the extension {name:?} is not supported"))
}

pub(super) fn path(path: PathMatcher, at: &At<'_>) -> Result<ValueMatch, Refused> {
    match path.rule {
        Some(path_matcher::Rule::Path(text)) => matcher::string(text, &at.field("path")),
        None => Err(at.field("path").refuse("it must be given")),
    }
}

fn ports(range: Int32Range, at: &At<'_>) -> Result<Condition, Refused> {
    match (u32::try_from(range.start), u32::try_from(range.end)) {
        (Ok(start), Ok(end)) if start < end && end <= PORTS => {
            Ok(Condition::DestinationPort(start, end))
        }
        _ => Err(at.refuse(format!(
            "from {} to {} is no range of ports",
            range.start, range.end
        ))),
    }
}
