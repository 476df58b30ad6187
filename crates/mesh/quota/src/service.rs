//! `envoy.service.ratelimit.v3.RateLimitService`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::Duration;
use tonic::{Request, Response, Status};

use crate::limits::{Limit, Limits};
use crate::redis::{Increment, Redis};
use crate::window::Unit;

/// More descriptors of one request, or entries of one descriptor, are a mistake.
const MAX_DESCRIPTORS: usize = 64;
/// Longer keys are kept by their digest.
const MAX_KEY_BYTES: usize = 512;
const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// What was asked since the start.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    over_limit: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Requests, those of them that were too many, and those that nobody could count.
    pub fn get(&self) -> [u64; 3] {
        [&self.requests, &self.over_limit, &self.failed].map(|it| it.load(Ordering::Relaxed))
    }
}

/// The service. Clones share their state.
#[derive(Clone, Debug)]
pub struct Service {
    redis: Redis,
    limits: Arc<RwLock<Arc<Limits>>>,
    counts: Arc<Counts>,
}

impl Service {
    /// Counts in this Redis by these limits.
    pub fn new(redis: Redis, limits: Limits) -> Self {
        Self {
            redis,
            limits: Arc::new(RwLock::new(Arc::new(limits))),
            counts: Arc::default(),
        }
    }

    /// To be added to a tonic server.
    pub fn server(&self) -> RateLimitServiceServer<Self> {
        RateLimitServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Other limits from now on; what has been counted counts.
    pub fn replace(&self, limits: Limits) {
        let mut now = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(limits);
    }

    /// The limits of now.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was asked.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    async fn answer(
        &self,
        request: &RateLimitRequest,
        now: SystemTime,
    ) -> Result<RateLimitResponse, Status> {
        let asked = asked(&self.limits(), request)?;
        let increments: Vec<Increment> = asked
            .iter()
            .flatten()
            .filter_map(|asked| asked.increment(now))
            .collect();
        let counts = match increments.is_empty() {
            true => Vec::new(),
            false => {
                let counted = self.redis.count(increments).await;
                counted.map_err(|error| Status::unavailable(error.to_string()))?
            }
        };
        let mut counts = counts.into_iter();
        let statuses: Vec<_> = asked
            .iter()
            .map(|asked| match asked {
                Some(asked) => asked.status(&mut counts, now),
                None => DescriptorStatus {
                    code: Code::Ok.into(),
                    ..DescriptorStatus::default()
                },
            })
            .collect();
        let is_over = statuses.iter().any(|it| it.code == Code::OverLimit as i32);
        Ok(RateLimitResponse {
            overall_code: if is_over { Code::OverLimit } else { Code::Ok }.into(),
            statuses,
            ..RateLimitResponse::default()
        })
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer(request.get_ref(), SystemTime::now()).await;
        match &answer {
            Ok(answer) if answer.overall_code == Code::OverLimit as i32 => {
                self.counts.over_limit.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer.map(Response::new)
    }
}

/// A descriptor with its limit.
struct Asked {
    limit: Arc<Limit>,
    key: String,
    hits: u64,
}

/// The limits of the descriptors, as far as they have some.
fn asked(limits: &Limits, request: &RateLimitRequest) -> Result<Vec<Option<Asked>>, Status> {
    let descriptors = &request.descriptors;
    if request.domain.is_empty() || descriptors.is_empty() {
        return Err(Status::invalid_argument(
            "a domain and at least one descriptor must be given",
        ));
    }
    let entries = descriptors.iter().map(|one| one.entries.len()).max();
    if descriptors.len().max(entries.unwrap_or_default()) > MAX_DESCRIPTORS {
        return Err(Status::invalid_argument(format!(
            "more than {MAX_DESCRIPTORS} descriptors, or entries of one"
        )));
    }
    let of_one = |descriptor: &RateLimitDescriptor| {
        if descriptor.is_negative_hits {
            return Err(Status::invalid_argument("negative hits are not supported"));
        }
        let entries = descriptor.entries.iter();
        let pairs = entries.map(|entry| (entry.key.as_str(), entry.value.as_str()));
        let limit = match &descriptor.limit {
            None => limits.find(&request.domain, pairs).cloned(),
            Some(own) => {
                let unit = Unit::of_envoy(own.unit);
                let unit =
                    unit.ok_or_else(|| Status::invalid_argument("a limit without a unit"))?;
                let most = Some((own.requests_per_unit, unit));
                let key = format!("{}.own", request.domain);
                Some(Arc::new(Limit::new(key, most)))
            }
        };
        let hits = match descriptor.hits_addend {
            Some(hits) => hits.value,
            None => request.hits_addend.max(1).into(),
        };
        Ok(limit.map(|limit| Asked {
            limit,
            key: key(&request.domain, descriptor),
            hits,
        }))
    };
    descriptors.iter().map(of_one).collect()
}

/// The key of a descriptor but for its window, as Envoy's own service has it.
fn key(domain: &str, descriptor: &RateLimitDescriptor) -> String {
    let mut key = format!("{domain}_");
    for entry in &descriptor.entries {
        // Writing to a string cannot fail.
        let _ = write!(key, "{}_{}_", entry.key, entry.value);
    }
    if key.len() > MAX_KEY_BYTES {
        let hash = digest(&SHA256, key.as_bytes());
        key = format!("{domain}_sha256_");
        for byte in hash.as_ref() {
            let _ = write!(key, "{byte:02x}");
        }
        key.push('_');
    }
    key
}

impl Asked {
    /// What is to be counted, if it is.
    fn increment(&self, now: SystemTime) -> Option<Increment> {
        let (_, unit) = self.limit.most?;
        let (begin, _) = unit.window(now);
        Some(Increment {
            key: format!("{}{begin}", self.key),
            by: self.hits,
            expires: unit.length(),
        })
    }

    fn status(&self, counts: &mut impl Iterator<Item = u64>, now: SystemTime) -> DescriptorStatus {
        let limit = &self.limit;
        limit.hits.fetch_add(self.hits, Ordering::Relaxed);
        let Some((most, unit)) = limit.most else {
            return DescriptorStatus {
                code: Code::Ok.into(),
                limit_remaining: u32::MAX,
                ..DescriptorStatus::default()
            };
        };
        let count = counts.next().unwrap_or_default();
        let is_over = count > u64::from(most);
        if is_over {
            limit.over.fetch_add(self.hits, Ordering::Relaxed);
        }
        let left = u64::from(most).saturating_sub(count);
        let (_, seconds) = unit.window(now);
        DescriptorStatus {
            code: match is_over && !limit.is_shadow {
                true => Code::OverLimit,
                false => Code::Ok,
            }
            .into(),
            current_limit: Some(RateLimit {
                name: limit.name.clone(),
                requests_per_unit: most,
                unit: unit.to_envoy().into(),
            }),
            limit_remaining: u32::try_from(left).unwrap_or(u32::MAX),
            duration_until_reset: Some(Duration {
                seconds: seconds.cast_signed(),
                nanos: 0,
            }),
            quota: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

    use super::*;

    #[test]
    fn long_keys_are_kept_by_their_digest() {
        let of = |value: &str| {
            key(
                "shop",
                &RateLimitDescriptor {
                    entries: vec![Entry {
                        key: "user".to_owned(),
                        value: value.to_owned(),
                    }],
                    ..RateLimitDescriptor::default()
                },
            )
        };
        assert_eq!(of("ada"), "shop_user_ada_");
        let (one, two) = ("a".repeat(1000), "b".repeat(1000));
        assert_eq!(of(&one), of(&one));
        assert_ne!(of(&one), of(&two));
        assert!(of(&one).len() < 100 && of(&one).starts_with("shop_sha256_"));
    }
}
