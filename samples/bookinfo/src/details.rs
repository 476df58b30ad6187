//! Facts about a book.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::call::Caller;
use crate::forward::Forward;
use crate::reply::{self, Reply};
use crate::{Environment, SetupError};

/// The one edition of the play that has Shakespeare as its single author.
const EXTERNAL: &str = "http://www.googleapis.com/books/v1/volumes?q=isbn:0486424618";
const EXTERNAL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Details {
    external: bool,
    /// Whether the external service may be called in the clear. This program speaks no TLS: its
    /// sidecar may add it.
    clear: bool,
    caller: Caller,
    forward: Forward,
}

impl Details {
    pub(crate) fn new(environment: &Environment) -> Result<Self, SetupError> {
        Ok(Self {
            external: environment.flag("ENABLE_EXTERNAL_BOOK_SERVICE"),
            clear: environment.flag("DO_NOT_ENCRYPT"),
            caller: Caller::from(environment)?,
            forward: Forward::from(environment),
        })
    }

    pub(crate) async fn respond(&self, request: &Parts) -> Reply {
        let path = request.uri.path();
        if path == "/health" {
            return reply::health(StatusCode::OK, "Details is healthy");
        }
        if path != "/details" && !path.starts_with("/details/") {
            return reply::not_found();
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return reply::not_allowed("GET, HEAD");
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let Ok(id) = last.parse::<i64>() else {
            return reply::error(StatusCode::BAD_REQUEST, "please provide numeric product id");
        };
        let book = if self.external {
            self.ask_external_service(id, &request.headers).await
        } else {
            Ok(known(id))
        };
        match book {
            Ok(book) => reply::json(StatusCode::OK, &book),
            Err(what) => reply::error(StatusCode::BAD_REQUEST, &what),
        }
    }

    async fn ask_external_service(&self, id: i64, received: &HeaderMap) -> Result<Value, String> {
        if !self.clear {
            return Err(
                "the external book service needs DO_NOT_ENCRYPT=true here: let the sidecar add TLS"
                    .to_owned(),
            );
        }
        let headers = self.forward.copy(received);
        let answer = self
            .caller
            .get(EXTERNAL, headers, EXTERNAL_TIMEOUT)
            .await
            .map_err(|error| format!("external book service: {error}"))?;
        let found: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| format!("external book service: status {}", answer.status))?;
        Ok(external(id, &found["items"][0]["volumeInfo"]))
    }
}

fn known(id: i64) -> Value {
    json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    })
}

fn external(id: i64, volume: &Value) -> Value {
    let isbn = |kind: &str| {
        volume["industryIdentifiers"]
            .as_array()
            .and_then(|list| list.iter().find(|entry| entry["type"] == kind))
            .map_or(&Value::Null, |entry| &entry["identifier"])
    };
    let known = |known: bool, name| if known { name } else { "unknown" };
    json!({
        "id": id,
        "author": volume["authors"][0],
        "year": volume["publishedDate"],
        "type": known(volume["printType"] == "BOOK", "paperback"),
        "pages": volume["pageCount"],
        "publisher": volume["publisher"],
        "language": known(volume["language"] == "en", "English"),
        "ISBN-10": isbn("ISBN_10"),
        "ISBN-13": isbn("ISBN_13"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_of_the_external_service() {
        let volume = json!({
            "authors": ["William Shakespeare"], "publishedDate": "2002-01-01", "printType": "BOOK",
            "pageCount": 64, "publisher": "Dover", "language": "en",
            "industryIdentifiers": [
                {"type": "ISBN_13", "identifier": "9780486424613"},
                {"type": "ISBN_10", "identifier": "0486424618"},
            ],
        });
        assert_eq!(
            external(3, &volume),
            json!({
                "id": 3, "author": "William Shakespeare", "year": "2002-01-01",
                "type": "paperback", "pages": 64, "publisher": "Dover", "language": "English",
                "ISBN-10": "0486424618", "ISBN-13": "9780486424613",
            })
        );
        assert_eq!(external(3, &Value::Null)["ISBN-10"], Value::Null);
    }
}
