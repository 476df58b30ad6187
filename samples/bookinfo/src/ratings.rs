//! Stars by reviewer, and versions of the service that misbehave on purpose.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Environment;
use crate::reply::{self, Reply};

/// Ratings that were posted are kept for this many products; then the lowest id makes room.
const MAX_PRODUCTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Ratings {
    behaviour: Behaviour,
    begun: Instant,
    posted: Mutex<BTreeMap<u32, Value>>,
}

/// What `SERVICE_VERSION` stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Behaviour {
    Sound,
    /// v2: wants a database, and this sample has none.
    Database,
    /// v-faulty: half of the requests fail.
    Faulty,
    /// v-delayed: half of the requests are late.
    Delayed,
    /// v-unavailable: answers for a minute, refuses for a minute.
    Unavailable,
    /// v-unhealthy: the same by quarters of an hour, and the health check says so.
    Unhealthy,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mishap {
    NoDatabase,
    Unavailable,
    Late,
}

const DELAY: Duration = Duration::from_secs(7);

impl Ratings {
    pub(crate) fn new(environment: &Environment) -> Self {
        let behaviour = match environment.text("SERVICE_VERSION") {
            Some("v2") => Behaviour::Database,
            Some("v-faulty") => Behaviour::Faulty,
            Some("v-delayed") => Behaviour::Delayed,
            Some("v-unavailable") => Behaviour::Unavailable,
            Some("v-unhealthy") => Behaviour::Unhealthy,
            _ => Behaviour::Sound,
        };
        Self {
            behaviour,
            begun: Instant::now(),
            posted: Mutex::default(),
        }
    }

    pub(crate) async fn respond(&self, request: &Parts, body: &[u8]) -> Reply {
        let path = request.uri.path();
        if path == "/health" {
            return self.health();
        }
        let Some(id) = path.strip_prefix("/ratings/") else {
            return reply::not_found();
        };
        let Ok(id) = id.parse::<u32>() else {
            return reply::error(StatusCode::BAD_REQUEST, "please provide numeric product ID");
        };
        match request.method {
            Method::GET | Method::HEAD => self.get(id).await,
            Method::POST => self.post(id, body),
            _ => reply::not_allowed("GET, HEAD, POST"),
        }
    }

    async fn get(&self, id: u32) -> Reply {
        match self.behaviour.mishap(self.begun.elapsed(), toss()) {
            Some(Mishap::NoDatabase) => {
                return reply::error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "could not connect to ratings database",
                );
            }
            Some(Mishap::Unavailable) => {
                return reply::error(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
            }
            Some(Mishap::Late) => tokio::time::sleep(DELAY).await,
            None => {}
        }
        self.ratings(id)
    }

    fn post(&self, id: u32, body: &[u8]) -> Reply {
        let Ok(ratings) = serde_json::from_slice::<Value>(body) else {
            return reply::error(StatusCode::BAD_REQUEST, "please provide valid ratings JSON");
        };
        if self.behaviour == Behaviour::Database {
            return reply::error(
                StatusCode::NOT_IMPLEMENTED,
                "Post not implemented for database backed ratings",
            );
        }
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        if posted.len() == MAX_PRODUCTS && !posted.contains_key(&id) {
            posted.pop_first();
        }
        posted.insert(id, ratings);
        drop(posted);
        self.ratings(id)
    }

    fn ratings(&self, id: u32) -> Reply {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let ratings = match posted.get(&id) {
            Some(ratings) => ratings.clone(),
            None => json!({"Reviewer1": 5, "Reviewer2": 4}),
        };
        reply::json(StatusCode::OK, &json!({"id": id, "ratings": ratings}))
    }

    fn health(&self) -> Reply {
        let mishap = self.behaviour.mishap(self.begun.elapsed(), false);
        if self.behaviour == Behaviour::Unhealthy && mishap.is_some() {
            reply::health(StatusCode::INTERNAL_SERVER_ERROR, "Ratings is not healthy")
        } else {
            reply::health(StatusCode::OK, "Ratings is healthy")
        }
    }
}

impl Behaviour {
    /// What goes wrong with a request that arrives `uptime` after the start, given a toss of a
    /// coin.
    fn mishap(self, uptime: Duration, heads: bool) -> Option<Mishap> {
        let off = |period: Duration| (uptime.as_secs() / period.as_secs()) % 2 == 1;
        match self {
            Self::Database => Some(Mishap::NoDatabase),
            Self::Faulty if heads => Some(Mishap::Unavailable),
            Self::Delayed if heads => Some(Mishap::Late),
            Self::Unavailable if off(Duration::from_secs(60)) => Some(Mishap::Unavailable),
            Self::Unhealthy if off(Duration::from_secs(15 * 60)) => Some(Mishap::Unavailable),
            _ => None,
        }
    }
}

/// Heads or tails; always tails where the system has no randomness.
fn toss() -> bool {
    let mut coin = [0];
    getrandom::fill(&mut coin).is_ok() && coin[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratings(version: &str) -> Ratings {
        Ratings::new(&[("SERVICE_VERSION", version)].into_iter().collect())
    }

    #[test]
    fn versions_that_misbehave() {
        let cases = [
            (Behaviour::Sound, 61, true, None),
            (Behaviour::Database, 0, false, Some(Mishap::NoDatabase)),
            (Behaviour::Faulty, 0, true, Some(Mishap::Unavailable)),
            (Behaviour::Faulty, 0, false, None),
            (Behaviour::Delayed, 0, true, Some(Mishap::Late)),
            (Behaviour::Delayed, 0, false, None),
            (Behaviour::Unavailable, 59, true, None),
            (Behaviour::Unavailable, 60, true, Some(Mishap::Unavailable)),
            (Behaviour::Unavailable, 120, true, None),
            (Behaviour::Unhealthy, 899, true, None),
            (Behaviour::Unhealthy, 900, true, Some(Mishap::Unavailable)),
        ];
        for (behaviour, uptime, heads, expected) in cases {
            let mishap = behaviour.mishap(Duration::from_secs(uptime), heads);
            assert_eq!(mishap, expected, "{behaviour:?} after {uptime} s");
        }
    }

    #[tokio::test]
    async fn half_of_the_requests_fail() {
        let ratings = ratings("v-faulty");
        let mut failed = 0;
        for _ in 0..200 {
            if ratings.get(0).await.status() == StatusCode::SERVICE_UNAVAILABLE {
                failed += 1;
            }
        }
        assert!((50..150).contains(&failed), "{failed} of 200");
    }

    #[test]
    fn posted_ratings_are_bounded() {
        let ratings = ratings("v1");
        for id in 0..2 * MAX_PRODUCTS as u32 {
            assert_eq!(
                ratings.post(id, br#"{"Reviewer1": 1}"#).status(),
                StatusCode::OK
            );
        }
        assert_eq!(ratings.posted.lock().unwrap().len(), MAX_PRODUCTS);
    }
}
