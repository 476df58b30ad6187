//! What is asked, and what is told.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::policy::jwt::Tokens;
use crate::snapshot::Route;

/// A request, and the connection that it comes on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its head, as HTTP/1.1 writes it.
    pub head: &'a [u8],
    /// Where the connection comes from.
    pub from: SocketAddr,
    /// Where it goes to.
    pub to: SocketAddr,
    /// How the connection is secured.
    pub security: Security<'a>,
    /// What is known of its tokens.
    pub tokens: Tokens<'a>,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security<'a> {
    /// It is not.
    Plaintext,
    /// By mutual TLS of the mesh. Who has shown its certificate: `spiffe://…`; none if nobody knows.
    Mesh(Option<&'a str>),
    /// By the client's own TLS, which asks for a server of this name.
    Tls(&'a str),
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Explained {
    /// It is HTTP.
    Request(Box<Routed>),
    /// The connection is passed on to one of these clusters.
    Passed {
        /// Their names and weights.
        clusters: Vec<(String, u32)>,
        /// What the rules for connections say.
        decisions: Vec<Decision>,
        /// What else is done before it goes on.
        others: Vec<Besides>,
        /// What it is counted as: the `stat_prefix`.
        counted_as: String,
    },
    /// No filter chain takes the connection.
    NoChain,
    /// The request is refused before it is routed.
    Refused {
        /// The answer.
        status: u16,
        /// Why.
        reason: &'static str,
    },
}

/// Where a request is routed to.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The route configuration.
    pub configuration: String,
    /// The virtual host, and the route; none matches if there is none.
    pub route: Option<(String, Arc<Route>)>,
    /// What rules say about it, in the order in which they are asked.
    pub decisions: Vec<Decision>,
    /// What else is done before it goes on.
    pub others: Vec<Besides>,
    /// Its tokens do not hold: the answer, and why. What comes behind is not told.
    pub refused: Option<(u16, &'static str)>,
    /// Nobody behind sees its token.
    pub ends_tokens: bool,
}

/// What is done with a request besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Besides {
    /// Faults are injected.
    Faults,
    /// Pages of other origins are answered.
    Cors,
    /// Its rate is limited: how the limit is counted.
    Limit(String),
    /// A service counts it: the domain that it counts it in.
    Quota(String),
    /// A client's session stays with its endpoint.
    Session,
    /// Its body is waited for.
    Body,
    /// It may ask how the proxy is.
    Health,
    /// Its tokens are checked.
    Tokens,
    /// The keys of this issuer would have to be fetched to tell whether its token holds.
    Keys(String),
    /// A service is asked whether it may go on.
    Authorizer {
        /// The policy that says so, if one does.
        policy: Option<String>,
        /// What it changes may lead the request to another route.
        may_move: bool,
    },
}

/// What one list of policies says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `ALLOW`, `DENY` or `LOG`: what the policies do that match.
    pub action: &'static str,
    /// Whether it may go on; none if what its token says decides, of which nothing is known.
    pub allowed: Option<bool>,
    /// The policy that matched, `none` if none did; or the one that asks what the token says.
    pub policy: String,
    /// It is told, and nothing comes of it.
    pub is_dry_run: bool,
}
