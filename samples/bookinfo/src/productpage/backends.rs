//! The services behind the product page.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::results::Results;
use crate::call::Caller;
use crate::forward::{END_USER, Forward};
use crate::{Environment, Role, SetupError};

/// How long the page waits for one call.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Reviews are asked for twice: with a slow ratings service the page then takes six seconds,
/// which the fault-injection tutorial has its readers find out.
const REVIEW_ATTEMPTS: usize = 2;
/// The most useless calls for one page view that `FLOOD_FACTOR` can ask for.
const MAX_FLOOD: u32 = 1000;

#[derive(Debug)]
pub(super) struct Backends {
    details: String,
    reviews: String,
    ratings: String,
    flood: u32,
    caller: Caller,
    forward: Forward,
    results: Results,
}

/// A part of the page that another service did not deliver.
#[derive(Debug)]
pub(super) struct Failure {
    /// Its status, 500 when it did not answer.
    pub(super) status: StatusCode,
    /// What people are told.
    pub(super) text: String,
}

impl Backends {
    pub(super) fn new(environment: &Environment) -> Result<Self, SetupError> {
        Ok(Self {
            details: environment.service(Role::Details)?,
            reviews: environment.service(Role::Reviews)?,
            ratings: environment.service(Role::Ratings)?,
            flood: environment
                .number("FLOOD_FACTOR")?
                .unwrap_or(0)
                .min(MAX_FLOOD),
            caller: Caller::from(environment)?,
            forward: Forward::from(environment),
            results: Results::default(),
        })
    }

    /// The headers for all calls that serve one request. The user is who is signed in here,
    /// whatever the request claims.
    pub(super) fn forward(&self, received: &HeaderMap, user: Option<&str>) -> HeaderMap {
        let mut headers = self.forward.copy(received);
        headers.remove(END_USER);
        if let Some(user) = user.and_then(|user| HeaderValue::try_from(user).ok()) {
            headers.insert(END_USER, user);
        }
        headers
    }

    pub(super) async fn details(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.get(Role::Details, id, headers).await
    }

    pub(super) async fn reviews(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let mut answer = self.get(Role::Reviews, id, headers).await;
        for _ in 1..REVIEW_ATTEMPTS {
            if answer.is_ok() {
                break;
            }
            answer = self.get(Role::Reviews, id, headers).await;
        }
        answer
    }

    pub(super) async fn ratings(&self, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        self.get(Role::Ratings, id, headers).await
    }

    /// Asks for the reviews `FLOOD_FACTOR` times at once, to no use: something for rate limits.
    pub(super) async fn flood_reviews(&self, id: &str, headers: &HeaderMap) {
        let mut calls = JoinSet::new();
        for _ in 0..self.flood {
            let caller = self.caller.clone();
            let (url, headers) = (format!("{}/{id}", self.reviews), headers.clone());
            calls.spawn(async move { caller.get(&url, headers, TIMEOUT).await });
        }
        while let Some(answer) = calls.join_next().await {
            if let Ok(Err(error)) = answer {
                tracing::debug!(%error, "one call of the flood failed");
            }
        }
    }

    /// How calls ended so far.
    pub(super) fn results(&self) -> &Results {
        &self.results
    }

    /// The address of a service, for people.
    pub(super) fn base(&self, service: Role) -> &str {
        match service {
            Role::Reviews => &self.reviews,
            Role::Ratings => &self.ratings,
            Role::Details | Role::Productpage => &self.details,
        }
    }

    async fn get(&self, service: Role, id: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let url = format!("{}/{id}", self.base(service));
        let answer = self.caller.get(&url, headers.clone(), TIMEOUT).await;
        let status = match &answer {
            Ok(answer) => answer.status,
            Err(error) => {
                tracing::warn!(url, %error, "no {service}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        self.results.count(service, status);
        let value = match answer {
            Ok(answer) if status == StatusCode::OK => serde_json::from_slice(&answer.body).ok(),
            _ => None,
        };
        value.ok_or_else(|| Failure {
            status: match status {
                StatusCode::OK => StatusCode::INTERNAL_SERVER_ERROR,
                status => status,
            },
            text: match service {
                // "product details are", like its siblings: the sentence is the original's.
                Role::Productpage | Role::Details => sorry("details"),
                Role::Reviews => sorry("reviews"),
                Role::Ratings => sorry("ratings"),
            },
        })
    }
}

fn sorry(what: &str) -> String {
    format!("Sorry, product {what} are currently unavailable for this book.")
}
