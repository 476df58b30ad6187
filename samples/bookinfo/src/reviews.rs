//! Two reviews of a book, with stars from the ratings service unless this is v1.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::call::Caller;
use crate::forward::Forward;
use crate::reply::{self, Reply};
use crate::{Environment, Role, SetupError};

const TEXTS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    ),
    (
        "Reviewer2",
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other \
         plays by Shakespeare.",
    ),
];

#[derive(Debug)]
pub(crate) struct Reviews {
    /// Where the stars come from; v1 has none.
    ratings: Option<String>,
    color: String,
    timeout: Duration,
    podname: String,
    clustername: String,
    caller: Caller,
    forward: Forward,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    podname: &'a str,
    clustername: &'a str,
    reviews: [Review<'a>; 2],
}

#[derive(Serialize)]
struct Review<'a> {
    reviewer: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<Rating<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rating<'a> {
    Stars { stars: i64, color: &'a str },
    Missing { error: &'a str },
}

impl Reviews {
    pub(crate) fn new(environment: &Environment) -> Result<Self, SetupError> {
        let color = environment.text("STAR_COLOR").unwrap_or("black").to_owned();
        let ratings = match environment.flag("ENABLE_RATINGS") {
            true => Some(environment.service(Role::Ratings)?),
            false => None,
        };
        // The bug that the fault-injection tutorial finds: v2 waits longer than its caller does.
        let timeout = match color.as_str() {
            "black" => Duration::from_secs(10),
            _ => Duration::from_millis(2500),
        };
        // The original prints Java's null; the product page knows it.
        let name = |variable| environment.text(variable).unwrap_or("null").to_owned();
        Ok(Self {
            ratings,
            color,
            timeout,
            podname: name("HOSTNAME"),
            clustername: name("CLUSTER_NAME"),
            caller: Caller::from(environment)?,
            forward: Forward::from(environment),
        })
    }

    pub(crate) async fn respond(&self, request: &Parts) -> Reply {
        let path = request.uri.path();
        if path == "/health" {
            return reply::health(StatusCode::OK, "Reviews is healthy");
        }
        let id = path
            .strip_prefix("/reviews/")
            .and_then(|id| id.parse::<i32>().ok());
        let Some(id) = id else {
            return reply::not_found();
        };
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return reply::not_allowed("GET, HEAD");
        }
        let stars = match &self.ratings {
            Some(base) => Some(self.stars(&format!("{base}/{id}"), &request.headers).await),
            None => None,
        };
        let reviews = TEXTS.map(|(reviewer, text)| Review {
            reviewer,
            text,
            rating: stars.as_ref().map(|stars| match stars[reviewer].as_i64() {
                Some(stars) => Rating::Stars {
                    stars,
                    color: &self.color,
                },
                None => Rating::Missing {
                    error: "Ratings service is currently unavailable",
                },
            }),
        });
        reply::json(
            StatusCode::OK,
            &Answer {
                id: id.to_string(),
                podname: &self.podname,
                clustername: &self.clustername,
                reviews,
            },
        )
    }

    /// The stars by reviewer; null when the ratings service does not give them.
    async fn stars(&self, url: &str, received: &HeaderMap) -> Value {
        let headers = self.forward.copy(received);
        match self.caller.get(url, headers, self.timeout).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                let mut answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                answer
                    .get_mut("ratings")
                    .map(Value::take)
                    .unwrap_or_default()
            }
            Ok(answer) => {
                tracing::warn!(url, status = answer.status.as_u16(), "no ratings");
                Value::Null
            }
            Err(error) => {
                tracing::warn!(url, %error, "no ratings");
                Value::Null
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planted_bug() {
        for (version, timeout_ms) in [("v1", 10_000), ("v2", 10_000), ("v3", 2500)] {
            let environment = Role::Reviews.with_version(version, Environment::default());
            let reviews = Reviews::new(&environment.unwrap()).unwrap();
            assert_eq!(
                reviews.timeout,
                Duration::from_millis(timeout_ms),
                "{version}"
            );
        }
    }
}
