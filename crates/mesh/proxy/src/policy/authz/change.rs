//! What a service wants changed about a request and its response.

use std::rc::Rc;

use serde_json::Value;

use crate::call::Call;
use crate::clock::Micros;
use crate::exchange::{Exchange, Said};
use crate::http1::edit::is_one_field;
use crate::http1::name::Name;
use crate::policy::authz::ask::AuthzView;
use crate::policy::authz::{Change, Changes, Denial, FILTER, How, Verdict};
use crate::policy::query::rewritten;
use crate::trace::text;

impl Verdict {
    /// Leaves out what would say how a message is framed, as only the proxy may: how many fields that were.
    pub(super) fn leave_out_framing(&mut self) -> usize {
        let mut left_out = 0;
        let mut keep = |name: &str| {
            let is_framing = Name::of(name.as_bytes()).is_framing();
            left_out += usize::from(is_framing);
            !is_framing
        };
        match self {
            Self::Allowed(changes) => {
                changes.request.retain(|change| keep(&change.name));
                changes.removed.retain(|name| keep(name));
                changes.response.retain(|said| keep(&said.name));
            }
            Self::Denied(denial) | Self::Failed(_, Some(denial)) => {
                denial.fields.retain(|(name, _)| keep(name));
            }
            Self::Failed(_, None) => {}
        }
        left_out
    }
}

impl Denial {
    /// Whether all that the client is told can be said.
    pub(super) fn is_valid(&self) -> bool {
        let mut fields = self.fields.iter();
        fields.all(|(name, value)| is_one_field(name, value))
    }
}

impl Changes {
    /// Whether they may lead a request elsewhere. As in Envoy, fields that are only added never do.
    pub(super) fn may_move(&self) -> bool {
        self.request.iter().any(|change| change.how != How::Add)
            || !self.removed.is_empty()
            || !self.query.is_empty()
            || !self.query_removed.is_empty()
    }

    /// Does to a request what the service wants: nothing if that makes no valid head.
    pub(super) fn apply(
        self,
        call: &mut Call,
        exchange: &mut Exchange,
        AuthzView { authz, stats, .. }: &AuthzView,
        took: Micros,
    ) -> Option<()> {
        if !self.metadata.is_empty() {
            if authz.takes_metadata {
                let took_ms = (took / 1000).into();
                let took = ("ext_authz_duration".to_owned(), Value::Number(took_ms));
                for (key, value) in self.metadata.into_iter().chain([took]) {
                    let metadata = &mut exchange.rare().metadata;
                    metadata.set(FILTER, &Rc::from(key), Rc::new(value));
                }
            } else {
                stats.ignored_dynamic_metadata.increment();
            }
        }
        let mut removed = Vec::new();
        let mut added: Vec<(String, Vec<u8>)> = Vec::new();
        let is_kept = |name: &str| name.starts_with(':') || name == "host";
        for change in self.request {
            change.note(call, &mut removed, &mut added)?;
        }
        removed.extend(self.removed.into_iter().filter(|name| !is_kept(name)));
        if !self.query.is_empty() || !self.query_removed.is_empty() {
            let target = text(call.request.target.path.get(call.buffer.head())).into_owned();
            let target = rewritten(&target, &self.query, &self.query_removed);
            call.retarget(target.as_bytes()).then_some(())?;
        }
        if call.edit_head(&removed, &added).is_some() {
            return None;
        }
        let is_valid = |said: &Said| is_one_field(&said.name, &said.value);
        self.response.iter().all(is_valid).then_some(())?;
        exchange.rare().said.extend(self.response);
        Some(())
    }
}

impl Change {
    /// Notes which lines go and come; nothing if there can be no such line.
    fn note(
        self,
        call: &Call,
        removed: &mut Vec<String>,
        added: &mut Vec<(String, Vec<u8>)>,
    ) -> Option<()> {
        let Self {
            name,
            mut value,
            how,
        } = self;
        if name.starts_with(':') || name == "host" {
            // Where a request goes is not for the service to say.
            return None;
        }
        if how == How::Join {
            let head = call.buffer.head();
            let before = call.request.fields.all_by_text(&name, head).next();
            // As in Envoy, nothing comes where there is nothing to join.
            let Some(before) = before.filter(|_| !removed.contains(&name)) else {
                return Some(());
            };
            value = [before, b",", &value].concat();
        }
        if how != How::Add {
            added.retain(|(known, _)| *known != name);
            removed.push(name.clone());
        }
        added.push((name, value));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::AppendAction;

    #[test]
    fn nobody_but_the_proxy_says_how_messages_are_framed() {
        let names = ["content-length", "x-a", "transfer-encoding", "trailer"];
        let said = |name: &str| Said {
            name: name.to_owned().into(),
            value: b"0".to_vec(),
            action: AppendAction::Overwrite,
        };
        let mut allowed = Verdict::Allowed(Changes {
            request: names
                .map(|name| Change {
                    name: name.to_owned(),
                    value: b"0".to_vec(),
                    how: How::Add,
                })
                .into(),
            removed: names.map(str::to_owned).into(),
            response: names.map(said).into(),
            ..Changes::default()
        });
        assert_eq!(allowed.leave_out_framing(), 9);
        let denial = || Denial {
            fields: names.map(|name| (name.to_owned(), b"0".to_vec())).into(),
            ..Denial::default()
        };
        for mut verdict in [
            Verdict::Denied(denial()),
            Verdict::Failed(String::new(), Some(denial())),
            allowed,
        ] {
            if !matches!(verdict, Verdict::Allowed(_)) {
                assert_eq!(verdict.leave_out_framing(), 3);
            }
            let left = match &verdict {
                Verdict::Allowed(changes) => vec![
                    changes.request[0].name.as_str(),
                    changes.removed[0].as_str(),
                    &changes.response[0].name,
                ],
                Verdict::Denied(denial) | Verdict::Failed(_, Some(denial)) => denial
                    .fields
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect(),
                Verdict::Failed(_, None) => Vec::new(),
            };
            assert!(left.iter().all(|name| *name == "x-a") && !left.is_empty());
            assert_eq!(verdict.leave_out_framing(), 0);
        }
    }
}
