//! A service with its settings: requests in, answers out.

use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;

use crate::details::Details;
use crate::productpage::Productpage;
use crate::ratings::Ratings;
use crate::reply::{self, Reply};
use crate::reviews::Reviews;
use crate::{Environment, Role, SetupError};

/// The most that a request's body may hold; forms and ratings are tiny.
const MAX_BODY: usize = 64 * 1024;

/// One service, ready to answer.
#[derive(Debug)]
pub struct App {
    role: Role,
    service: Service,
}

#[derive(Debug)]
enum Service {
    Productpage(Box<Productpage>),
    Details(Details),
    Reviews(Reviews),
    Ratings(Ratings),
}

impl App {
    /// Sets the service up from the variables of the originals, and `http_proxy`.
    pub fn new(role: Role, environment: &Environment) -> Result<Self, SetupError> {
        let service = match role {
            Role::Productpage => Service::Productpage(Box::new(Productpage::new(environment)?)),
            Role::Details => Service::Details(Details::new(environment)?),
            Role::Reviews => Service::Reviews(Reviews::new(environment)?),
            Role::Ratings => Service::Ratings(Ratings::new(environment)),
        };
        Ok(Self { role, service })
    }

    /// Which service this is.
    pub fn role(&self) -> Role {
        self.role
    }

    pub(crate) async fn respond<B>(&self, request: Parts, body: B) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return reply::error(
                    http::StatusCode::BAD_REQUEST,
                    &format!("cannot read the request's body: {error}"),
                );
            }
        };
        match &self.service {
            Service::Productpage(service) => service.respond(&request, &body).await,
            Service::Details(service) => service.respond(&request).await,
            Service::Reviews(service) => service.respond(&request).await,
            Service::Ratings(service) => service.respond(&request, &body).await,
        }
    }
}
