//! Routes, statuses and JSON shapes of the four services.

use crate::support::{Recorder, get, nobody, send, start, start_with};
use http::Method;
use periplus_bookinfo::Role;
use serde_json::json;

#[tokio::test]
async fn details() {
    let details = start(Role::Details, "v1", &[]).await;
    let book = get(details, "/details/7").await;
    assert_eq!(book.header("content-type"), "application/json");
    assert_eq!(
        book.json(),
        json!({
            "id": 7, "author": "William Shakespeare", "year": 1595, "type": "paperback",
            "pages": 200, "publisher": "PublisherA", "language": "English",
            "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
        })
    );
    let error = json!({"error": "please provide numeric product id"});
    for (method, path, status, body) in [
        (
            Method::GET,
            "/health",
            200,
            Some(json!({"status": "Details is healthy"})),
        ),
        (Method::GET, "/details/x", 400, Some(error.clone())),
        (Method::GET, "/details", 400, Some(error)),
        (Method::GET, "/detailsx/0", 404, None),
        (Method::POST, "/details/0", 405, None),
    ] {
        let answer = send(details, method, path, &[], "").await;
        assert_eq!(answer.status, status, "{path}");
        if let Some(body) = body {
            assert_eq!(answer.json(), body, "{path}");
        }
    }
    let head = send(details, Method::HEAD, "/details/0", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn details_of_the_external_service() {
    let google = Recorder::start(
        200,
        r#"{"items": [{"volumeInfo": {"authors": ["William Shakespeare"], "pageCount": 64}}]}"#,
    )
    .await;
    let proxy = format!("http://{}", google.address);
    let variables = [("http_proxy", proxy.as_str()), ("DO_NOT_ENCRYPT", "true")];
    let details = start(Role::Details, "v2", &variables).await;
    assert_eq!(get(details, "/details/0").await.json()["pages"], 64);
    assert_eq!(
        google.take()[0].uri,
        "http://www.googleapis.com/books/v1/volumes?q=isbn:0486424618"
    );

    let encrypted = start(Role::Details, "v2", &[]).await;
    let answer = get(encrypted, "/details/0").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("DO_NOT_ENCRYPT=true"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn ratings() {
    let ratings = start(Role::Ratings, "v1", &[]).await;
    let numeric = json!({"error": "please provide numeric product ID"});
    let valid = json!({"error": "please provide valid ratings JSON"});
    let posted = json!({"id": 2, "ratings": {"Reviewer1": 1, "Reviewer2": 2}});
    for (method, path, body, status, expected) in [
        (
            Method::GET,
            "/health",
            "",
            200,
            json!({"status": "Ratings is healthy"}),
        ),
        (
            Method::GET,
            "/ratings/0",
            "",
            200,
            json!({"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}),
        ),
        (Method::GET, "/ratings/x", "", 400, numeric.clone()),
        (Method::POST, "/ratings/", "{}", 400, numeric),
        (Method::POST, "/ratings/2", "{", 400, valid),
        (
            Method::POST,
            "/ratings/2",
            r#"{"Reviewer1": 1, "Reviewer2": 2}"#,
            200,
            posted.clone(),
        ),
        (Method::GET, "/ratings/2", "", 200, posted),
    ] {
        let answer = send(ratings, method.clone(), path, &[], body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (status, expected),
            "{method} {path}"
        );
    }
    let huge = "9".repeat(100_000);
    let answer = send(ratings, Method::POST, "/ratings/3", &[], &huge).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(
        send(ratings, Method::PUT, "/ratings/3", &[], "")
            .await
            .status,
        405
    );

    let database = start(Role::Ratings, "v2", &[]).await;
    assert_eq!(get(database, "/ratings/0").await.status, 500);
    assert_eq!(
        send(database, Method::POST, "/ratings/0", &[], "{}")
            .await
            .status,
        501
    );
}

#[tokio::test]
async fn reviews_by_version() {
    let ratings = start(Role::Ratings, "v1", &[]).await;
    let missing = json!({"error": "Ratings service is currently unavailable"});
    for (version, ratings, first, second) in [
        ("v1", nobody().await, json!(null), json!(null)),
        (
            "v2",
            ratings,
            json!({"stars": 5, "color": "black"}),
            json!({"stars": 4, "color": "black"}),
        ),
        (
            "v3",
            ratings,
            json!({"stars": 5, "color": "red"}),
            json!({"stars": 4, "color": "red"}),
        ),
        ("v3", nobody().await, missing.clone(), missing),
    ] {
        let backends = [(Role::Ratings, ratings)];
        let variables = [("CLUSTER_NAME", "kind")];
        let reviews = start_with(Role::Reviews, version, &backends, &variables).await;
        let answer = get(reviews, "/reviews/0").await.json();
        assert_eq!(answer["id"], "0");
        assert_eq!(answer["podname"], format!("reviews-{version}"));
        assert_eq!(answer["clustername"], "kind");
        assert_eq!(answer["reviews"][0]["reviewer"], "Reviewer1");
        assert_eq!(answer["reviews"][1]["reviewer"], "Reviewer2");
        assert_eq!(answer["reviews"][0]["rating"], first, "{version}");
        assert_eq!(answer["reviews"][1]["rating"], second, "{version}");
        let has_rating = answer["reviews"][0].get("rating").is_some();
        assert_eq!(has_rating, version != "v1", "v1 has no such key");
    }
}

#[tokio::test]
async fn reviews_are_particular_about_paths() {
    let reviews = start(Role::Reviews, "v1", &[]).await;
    for (method, path, status) in [
        (Method::GET, "/health", 200),
        (Method::GET, "/reviews/12", 200),
        (Method::GET, "/reviews/x", 404),
        (Method::GET, "/reviews", 404),
        (Method::GET, "/", 404),
        (Method::POST, "/reviews/0", 405),
    ] {
        let answer = send(reviews, method, path, &[], "").await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn ratings_that_make_no_sense_are_missing() {
    for (status, body) in [
        (500, "{}"),
        (200, "no json"),
        (200, "[]"),
        (200, r#"{"ratings": {"Reviewer1": "five"}}"#),
    ] {
        let ratings = Recorder::start(status, body).await;
        let backends = [(Role::Ratings, ratings.address)];
        let reviews = start_with(Role::Reviews, "v2", &backends, &[]).await;
        let answer = get(reviews, "/reviews/0").await;
        assert_eq!(answer.status, 200, "{body}");
        assert_eq!(
            answer.json()["reviews"][0]["rating"]["error"],
            "Ratings service is currently unavailable",
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_public_api() {
    let details = Recorder::start(200, r#"{"pages": 200}"#).await;
    let reviews = Recorder::start(404, "").await;
    let backends = [
        (Role::Details, details.address),
        (Role::Reviews, reviews.address),
        (Role::Ratings, nobody().await),
    ];
    let page = start_with(Role::Productpage, "v1", &backends, &[]).await;
    let sorry = |what| {
        json!({"error":
            format!("Sorry, product {what} are currently unavailable for this book.")})
    };
    for (path, status, expected) in [
        ("/api/v1/products/0", 200, json!({"pages": 200})),
        ("/api/v1/products/0/reviews", 404, sorry("reviews")),
        ("/api/v1/products/0/ratings", 500, sorry("ratings")),
    ] {
        let answer = get(page, path).await;
        assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
    }
    let products = get(page, "/api/v1/products").await.json();
    assert_eq!(products[0]["id"], 0);
    assert_eq!(products[0]["title"], "The Comedy of Errors");
    assert!(
        products[0]["descriptionHtml"]
            .as_str()
            .unwrap()
            .contains("Wikipedia Summary</a>")
    );
    for path in [
        "/api/v1/productsx",
        "/api/v1/products/",
        "/api/v1/products/0/x",
        "/nothing",
    ] {
        assert_eq!(get(page, path).await.status, 404, "{path}");
    }
    assert_eq!(details.take()[0].uri.path(), "/details/0");
    assert_eq!(reviews.take().len(), 2, "reviews are tried twice");

    let metrics = get(page, "/metrics").await.body;
    for line in [
        r#"request_result_total{destination_app="details",response_code="200"} 1"#,
        r#"request_result_total{destination_app="reviews",response_code="404"} 2"#,
        r#"request_result_total{destination_app="ratings",response_code="500"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
