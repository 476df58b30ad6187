//! `Principal`: who asks.

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;

use super::super::check::{At, Refused};
use super::super::{filter_chain, matcher};
use super::metadata;
use super::rule::{always, check_depth, extension, not_empty, path};
use crate::policy::{Combination, Condition, Expression};

/// Adds a principal to an expression. `depth` is how many conditions it stands in.
pub(super) fn compile(
    principal: pb::Principal,
    depth: usize,
    into: &mut Expression,
    at: &At<'_>,
) -> Result<(), Refused> {
    check_depth(depth, at)?;
    let condition = match principal.identifier {
        Some(Identifier::AndIds(set)) => {
            return group(
                set.ids,
                (Combination::All, depth),
                into,
                &at.field("and_ids"),
            );
        }
        Some(Identifier::OrIds(set)) => {
            return group(
                set.ids,
                (Combination::Any, depth),
                into,
                &at.field("or_ids"),
            );
        }
        Some(Identifier::NotId(inner)) => {
            let at = &at.field("not_id");
            return into.combine(Combination::None, |into| {
                compile(*inner, depth + 1, into, at)
            });
        }
        Some(Identifier::Any(any)) => always(any, at)?,
        Some(Identifier::Authenticated(authenticated)) => {
            let at = &at.field("authenticated");
            let at = &at.field("principal_name");
            let name = authenticated.principal_name;
            Condition::Authenticated(name.map(|name| matcher::string(name, at)).transpose()?)
        }
        Some(Identifier::SourceIp(range)) => {
            Condition::PeerIp(filter_chain::block(range, &at.field("source_ip"))?)
        }
        Some(Identifier::DirectRemoteIp(range)) => {
            Condition::DirectIp(filter_chain::block(range, &at.field("direct_remote_ip"))?)
        }
        Some(Identifier::RemoteIp(range)) => {
            Condition::ClientIp(filter_chain::block(range, &at.field("remote_ip"))?)
        }
        Some(Identifier::Header(header)) => {
            Condition::from(matcher::header(header, &at.field("header"))?)
        }
        Some(Identifier::UrlPath(text)) => Condition::Path(path(text, &at.field("url_path"))?),
        Some(Identifier::Metadata(asked)) => {
            Condition::Metadata(metadata::compile(asked, &at.field("metadata"))?)
        }
        Some(Identifier::SourcedMetadata(asked)) => {
            Condition::Metadata(metadata::sourced(asked, &at.field("sourced_metadata"))?)
        }
        Some(Identifier::FilterState(_)) => {
            return Err(at.field("filter_state").refuse("is not supported"));
        }
        Some(Identifier::Custom(config)) => return Err(extension("custom", &config.name, at)),
        None => return Err(at.refuse("an identifier must be given")),
    };
    into.test(condition);
    Ok(())
}

fn group(
    parts: Vec<pb::Principal>,
    (how, depth): (Combination, usize),
    into: &mut Expression,
    at: &At<'_>,
) -> Result<(), Refused> {
    let at = &at.field("ids");
    not_empty(&parts, at)?;
    into.combine(how, |into| {
        let mut parts = parts.into_iter().enumerate();
        parts.try_for_each(|(index, part)| compile(part, depth + 1, into, &at.index(index)))
    })
}
