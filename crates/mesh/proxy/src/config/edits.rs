//! What the levels of a route configuration change about heads.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;

use super::check::{At, Refused, nothing_else};
use super::format;
use crate::http1::name::Name;
use crate::snapshot::{Addition, AppendAction, Edits, FieldEdits};

/// The changes of one level, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    request: FieldEdits,
    response: FieldEdits,
}

/// Takes the four fields of a message that say what it changes.
macro_rules! take_edits {
    ($message:expr, $at:expr) => {
        $crate::config::edits::Level::compile(
            (
                std::mem::take(&mut $message.request_headers_to_add),
                std::mem::take(&mut $message.request_headers_to_remove),
            ),
            (
                std::mem::take(&mut $message.response_headers_to_add),
                std::mem::take(&mut $message.response_headers_to_remove),
            ),
            $at,
        )
    };
}
pub(super) use take_edits;

type Given = (Vec<HeaderValueOption>, Vec<String>);

impl Level {
    pub(super) fn compile(
        (add_request, remove_request): Given,
        (add_response, remove_response): Given,
        at: &At<'_>,
    ) -> Result<Self, Refused> {
        Ok(Self {
            request: FieldEdits {
                add: additions(add_request, &at.field("request_headers_to_add"))?,
                remove: removals(&remove_request, &at.field("request_headers_to_remove"))?,
            },
            response: FieldEdits {
                add: additions(add_response, &at.field("response_headers_to_add"))?,
                remove: removals(&remove_response, &at.field("response_headers_to_remove"))?,
            },
        })
    }

    /// Levels in the order in which they apply; none if they change nothing.
    pub(super) fn join(levels: &[&Self]) -> Option<Box<Edits>> {
        let changes = |edits: &&FieldEdits| !edits.add.is_empty() || !edits.remove.is_empty();
        let of = |side: fn(&Self) -> &FieldEdits| -> Vec<FieldEdits> {
            let levels = levels.iter().map(|level| side(level));
            levels.filter(changes).cloned().collect()
        };
        let edits = Edits {
            request: of(|level| &level.request),
            response: of(|level| &level.response),
        };
        (!edits.is_empty()).then(|| Box::new(edits))
    }
}

pub(super) fn additions(
    options: Vec<HeaderValueOption>,
    at: &At<'_>,
) -> Result<Vec<Addition>, Refused> {
    let mut additions = Vec::with_capacity(options.len());
    for (index, option) in options.into_iter().enumerate() {
        additions.push(addition(option, &at.index(index))?);
    }
    Ok(additions)
}

#[expect(deprecated, reason = "control planes still send `append`")]
fn addition(mut option: HeaderValueOption, at: &At<'_>) -> Result<Addition, Refused> {
    let at_action = at.field("append_action");
    let given = std::mem::take(&mut option.append_action);
    let action = match HeaderAppendAction::try_from(given) {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::Append,
        Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::Overwrite,
        Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        Err(_) => return Err(at_action.refuse("is not known")),
    };
    let action = match option.append.take() {
        None => action,
        Some(_) if given != 0 => return Err(at_action.refuse("it must not be given with append")),
        Some(append) if append.value => AppendAction::Append,
        Some(_) => AppendAction::Overwrite,
    };
    let keeps_empty = std::mem::take(&mut option.keep_empty_value);
    let at = &at.field("header");
    let Some(mut header) = option.header.take() else {
        return Err(at.refuse("it must be given"));
    };
    let name = name(&std::mem::take(&mut header.key), &at.field("key"))?;
    let raw = std::mem::take(&mut header.raw_value);
    let value = match std::mem::take(&mut header.value) {
        empty if empty.is_empty() => {
            String::from_utf8(raw).map_err(|_| at.field("raw_value").refuse("it must be UTF-8"))?
        }
        value => value,
    };
    let at_value = at.field("value");
    if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(at_value.refuse("it must be one line"));
    }
    nothing_else(&header, at)?;
    nothing_else(&option, at)?;
    Ok(Addition {
        name,
        value: format::compile(&value, &at_value)?,
        action,
        keeps_empty,
    })
}

fn removals(names: &[String], at: &At<'_>) -> Result<Vec<String>, Refused> {
    let named = names.iter().enumerate();
    named
        .map(|(index, text)| name(text, &at.index(index)))
        .collect()
}

/// The name of a field that may be changed, in lower case.
pub(super) fn name(text: &str, at: &At<'_>) -> Result<String, Refused> {
    let is_token = http::HeaderName::from_bytes(text.as_bytes()).is_ok();
    if !is_token {
        return Err(at.refuse(format!("{text:?} is not the name of a field")));
    }
    let name = Name::of(text.as_bytes());
    // Envoy takes no pseudo headers and no host here either; how a message is framed is not for routes.
    if name == Name::Host || name == Name::ContentLength || name.is_hop_by_hop() {
        return Err(at.refuse(format!("{text:?} must not be changed")));
    }
    Ok(text.to_ascii_lowercase())
}
