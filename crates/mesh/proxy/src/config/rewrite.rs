//! What routes make of paths and hosts, and where they redirect to.

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::check::{At, Refused, nothing_else};
use crate::snapshot::{HostRewrite, PathRewrite, Redirect, Replacement, Rewrite};

/// Takes what a route makes of path and host.
pub(super) fn of_action(
    action: &mut pb::RouteAction,
    at: &At<'_>,
) -> Result<Option<Box<Rewrite>>, Refused> {
    let prefix = std::mem::take(&mut action.prefix_rewrite);
    let regex = action.regex_rewrite.take();
    let path = match (prefix.is_empty(), regex) {
        (true, None) => None,
        (false, None) => Some(PathRewrite::Matched(line(
            prefix,
            &at.field("prefix_rewrite"),
        )?)),
        (true, Some(regex)) => {
            let regex = replacement(regex, &at.field("regex_rewrite"))?;
            Some(PathRewrite::Regex(regex))
        }
        (false, Some(_)) => {
            return Err(at.refuse("only one of prefix_rewrite and regex_rewrite may be given"));
        }
    };
    let host = match action.host_rewrite_specifier.take() {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            let host = authority(host, &at.field("host_rewrite_literal"))?;
            Some(HostRewrite::Literal(host))
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            Some(HostRewrite::Header(name.to_ascii_lowercase()))
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
            let regex = replacement(regex, &at.field("host_rewrite_path_regex"))?;
            Some(HostRewrite::PathRegex(regex))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(flag)) => {
            flag.value.then_some(HostRewrite::Endpoint)
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => {
            return Err(at.field("host_rewrite").refuse("is not supported"));
        }
    };
    let appends_forwarded_host = std::mem::take(&mut action.append_x_forwarded_host);
    let rewrite = Rewrite {
        path,
        host,
        appends_forwarded_host,
    };
    let changes = rewrite.path.is_some() || rewrite.host.is_some();
    Ok(changes.then(|| Box::new(rewrite)))
}

pub(super) fn redirect(mut action: pb::RedirectAction, at: &At<'_>) -> Result<Redirect, Refused> {
    let code = std::mem::take(&mut action.response_code);
    let status = match RedirectResponseCode::try_from(code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return Err(at.field("response_code").refuse("is not known")),
    };
    let scheme = match action.scheme_rewrite_specifier.take() {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            Some(line(scheme, &at.field("scheme_redirect"))?)
        }
    };
    let (path, rewrite) = match action.path_rewrite_specifier.take() {
        None => (None, None),
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            let path = line(path, &at.field("path_redirect"))?;
            (Some(path).filter(|path| !path.is_empty()), None)
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            let prefix = line(prefix, &at.field("prefix_rewrite"))?;
            let rewrite = (!prefix.is_empty()).then_some(PathRewrite::Matched(prefix));
            (None, rewrite)
        }
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
            let regex = replacement(regex, &at.field("regex_rewrite"))?;
            (None, Some(PathRewrite::Regex(regex)))
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return Err(at.field("path_rewrite").refuse("is not supported"));
        }
    };
    let port = match u16::try_from(std::mem::take(&mut action.port_redirect)) {
        Ok(port) => Some(port).filter(|port| *port != 0),
        Err(_) => return Err(at.field("port_redirect").refuse("it must be a port")),
    };
    let host = std::mem::take(&mut action.host_redirect);
    let host = Some(line(host, &at.field("host_redirect"))?).filter(|host| !host.is_empty());
    let strips_query = std::mem::take(&mut action.strip_query);
    nothing_else(&action, at)?;
    Ok(Redirect {
        status,
        scheme,
        host,
        port,
        path,
        rewrite,
        strips_query,
        keeps_host: false,
    })
}

/// A host that a request may name.
pub(super) fn authority(text: String, at: &At<'_>) -> Result<String, Refused> {
    if crate::http1::target::host_length(text.as_bytes()).is_none() {
        return Err(at.refuse(format!("{text:?} is not a host")));
    }
    Ok(text)
}

pub(super) fn replacement(
    mut rewrite: RegexMatchAndSubstitute,
    at: &At<'_>,
) -> Result<Replacement, Refused> {
    let at_regex = at.field("pattern").to_string();
    let Some(pattern) = rewrite.pattern.take() else {
        return Err(at.field("pattern").refuse("it must be given"));
    };
    Replacement::new(&pattern.regex, &rewrite.substitution).map_err(|error| Refused {
        field: at_regex,
        reason: format!("{:?} does not compile: {error}", pattern.regex),
    })
}

/// Text that may be part of a head.
fn line(text: String, at: &At<'_>) -> Result<String, Refused> {
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(at.refuse(format!("{text:?} has characters that it must not have")));
    }
    Ok(text)
}
