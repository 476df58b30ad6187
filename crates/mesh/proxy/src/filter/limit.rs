//! Local rate limits: a request takes a token, or is refused.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use crate::call::Call;
use crate::exchange::{Exchange, Said};
use crate::flags::Flag;
use crate::grpc;
use crate::hashing::parameter;
use crate::reply::Reply;
use crate::route::joined;
use crate::snapshot::{
    AppendAction, Descriptor, LimitAction, LimitRule, OfHost, RateLimit, RouteAction, TokenBucket,
};
use crate::trace::text;

/// The names of what clients are told: the most, what is left, and when there is more.
const TOLD: [&str; 3] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

impl Call {
    /// Takes a token: the answer, if there is none.
    pub(super) fn limit_rate(
        &mut self,
        exchange: &mut Exchange,
        limit: &RateLimit,
    ) -> Option<Reply<'static>> {
        if !self.is_in(limit.enabled) {
            return None;
        }
        let stats = self.limit_stats(&limit.stat_prefix);
        stats.enabled.increment();
        let descriptors = match limit.descriptors.is_empty() && limit.wildcards.is_empty() {
            true => Vec::new(),
            false => self.descriptors(exchange, (&limit.rules, limit.stage, limit.of_host)),
        };
        let (is_allowed, bucket) = limit.take(&descriptors);
        if let Some(bucket) = bucket.filter(|_| limit.tells) {
            for (name, value) in TOLD.into_iter().zip(bucket.state()) {
                exchange.rare().said.push(Said {
                    action: AppendAction::Append,
                    ..Said::new(name, value.to_string().as_bytes())
                });
            }
        }
        if is_allowed {
            stats.ok.increment();
            return None;
        }
        stats.rate_limited.increment();
        if !self.is_in(limit.enforced) {
            let fields = limit.request.iter();
            let removed = fields.clone().filter(|field| field.replaces);
            let removed: Vec<_> = removed.map(|field| field.name.clone()).collect();
            let added = fields.map(|field| (field.name.clone(), field.value.clone().into()));
            return self.edit_head(&removed, &added.collect::<Vec<_>>());
        }
        stats.enforced.increment();
        exchange.flags.set(Flag::RL);
        exchange.rare().details = Some("local_rate_limited".into());
        for field in &limit.response {
            exchange.rare().said.push(Said {
                name: Cow::Owned(field.name.clone()),
                value: field.value.clone().into(),
                action: match field.replaces {
                    true => AppendAction::Overwrite,
                    false => AppendAction::Append,
                },
            });
        }
        Some(Reply {
            grpc_status: limit.is_exhausted.then_some(grpc::RESOURCE_EXHAUSTED),
            ..Reply::new(limit.status, "local_rate_limited")
        })
    }

    /// What rules make of a request: those of a filter, or, where it has none, those of its stage that the route and
    /// its virtual host have.
    pub(crate) fn descriptors(
        &self,
        exchange: &Exchange,
        (own, stage, of_host): (&[LimitRule], u32, OfHost),
    ) -> Vec<Descriptor> {
        let of = |rule: &LimitRule| {
            let parts = rule
                .actions
                .iter()
                .map(|action| self.part(exchange, action));
            let parts: Option<Vec<_>> = parts.collect();
            let parts: Descriptor = parts?.into_iter().flatten().collect();
            (!parts.is_empty()).then_some(parts)
        };
        if !own.is_empty() {
            return own.iter().filter_map(of).collect();
        }
        let router = self.view.router.as_ref().zip(exchange.route);
        let action = router.map(|(router, at)| &router.route(at).action);
        let Some(RouteAction::Forward(forward)) = action else {
            return Vec::new();
        };
        let Some(limits) = &forward.limits else {
            return Vec::new();
        };
        let counts_host = match of_host {
            _ if limits.includes_host => true,
            OfHost::Override => limits.own.is_empty(),
            OfHost::Include => true,
            OfHost::Ignore => false,
        };
        let of_host: &[LimitRule] = if counts_host { &limits.of_host } else { &[] };
        let rules = limits.own.iter().chain(of_host);
        let rules = rules.filter(|rule| rule.stage == stage);
        rules.filter_map(of).collect()
    }

    /// A part of a descriptor: `None` if there is none then, `Some(None)` if it is left out.
    fn part(&self, exchange: &Exchange, action: &LimitAction) -> Option<Option<(String, String)>> {
        let head = self.buffer.head();
        let target = self.request.target.path.get(head);
        let query = memchr::memchr(b'?', target).map_or(&b""[..], |at| &target[at + 1..]);
        let part = |key: &str, value: &str| Some(Some((key.to_owned(), value.to_owned())));
        let found = |key: &str, value: Option<Cow<'_, [u8]>>, skips: bool| match value {
            Some(value) if !value.is_empty() => part(key, &text(&value)),
            _ => skips.then_some(None),
        };
        match action {
            LimitAction::Fixed(key, value) => part(key, value),
            LimitAction::SourceCluster => part("source_cluster", &self.worker.node.cluster),
            LimitAction::DestinationCluster => {
                let cluster = exchange.cluster.as_ref()?;
                part("destination_cluster", &cluster.cluster.name)
            }
            LimitAction::RemoteAddress => {
                part("remote_address", &self.client_address().to_string())
            }
            LimitAction::Header { name, key, skips } => {
                let value = match name.as_str() {
                    ":method" => Some(self.request.method(head).into()),
                    ":path" => Some(target.into()),
                    ":authority" | "host" => Some(self.request.target.authority.get(head).into()),
                    name => joined(self.request.fields.all_by_text(name, head)),
                };
                found(key, value, *skips)
            }
            LimitAction::Query { name, key, skips } => {
                let value = parameter(query, name.as_bytes());
                found(key, value.map(Cow::from), *skips)
            }
            LimitAction::Headers {
                key,
                value,
                expected,
                conditions,
            } => {
                let asking = self.asking(exchange);
                let met = conditions.iter().all(|condition| asking.has(condition));
                (met == *expected).then(|| part(key, value))?
            }
            LimitAction::Queries {
                key,
                value,
                expected,
                conditions,
            } => {
                let met = conditions.iter().all(|one| one.is_met_by(query));
                (met == *expected).then(|| part(key, value))?
            }
        }
    }
}

impl RateLimit {
    /// Takes a token from each bucket of these descriptors, the slowest first: whether all had one, and the bucket
    /// that tells.
    fn take(&self, descriptors: &[Descriptor]) -> (bool, Option<Bucket<'_>>) {
        let bucket = |wanted: &Descriptor| {
            let known = self.descriptors.iter().find(|(known, _)| known == wanted);
            let of_any = || self.wildcards.iter().find_map(|one| one.bucket(wanted));
            match known {
                Some((_, bucket)) => Some(Bucket::Fixed(bucket)),
                None => of_any().map(Bucket::OfValues),
            }
        };
        let mut own: Vec<Bucket<'_>> = descriptors.iter().filter_map(bucket).collect();
        own.sort_by(|one, other| one.rate().total_cmp(&other.rate()));
        if let Some(empty) = own.iter().position(|bucket| !bucket.take()) {
            return (false, Some(own.swap_remove(empty)));
        }
        let first = own.into_iter().next();
        match &self.bucket {
            Some(bucket) if first.is_none() || self.takes_from_both => match bucket.take() {
                true => (true, first.or(Some(Bucket::Fixed(bucket)))),
                false => (false, Some(Bucket::Fixed(bucket))),
            },
            _ => (true, first),
        }
    }
}

/// A bucket that a request takes from.
enum Bucket<'a> {
    Fixed(&'a TokenBucket),
    OfValues(Arc<TokenBucket>),
}

impl Deref for Bucket<'_> {
    type Target = TokenBucket;

    fn deref(&self) -> &TokenBucket {
        match self {
            Self::Fixed(bucket) => bucket,
            Self::OfValues(bucket) => bucket,
        }
    }
}
