//! The attempts at a request, one after the other.

use std::rc::Rc;

use crate::acquire::Waits;
use crate::bridge::mirror::mirror;
use crate::bridge::{Bridge, Client, Pipe};
use crate::connection::Next;
use crate::exchange::Exchange;
use crate::http1::framing::Framing;
use crate::http1::request::Tunnel;
use crate::reply::Failure;
use crate::retry::prepare;
use crate::upstream::{Admitted, ClusterState};

/// How the first attempt goes.
pub(crate) enum First {
    /// Over a bridge too.
    Bridge(Admitted),
    /// It has failed already; what it has kept of the request's body. Boxed, as it is rare.
    Failed(Failure, Box<Pipe>),
}

/// Makes attempts until one ends with a response, or with a failure after which there is no other.
pub(crate) async fn attempts(
    mut client: Client<'_>,
    exchange: &mut Exchange,
    cluster: &Rc<ClusterState>,
    first: First,
) -> Result<Next, Failure> {
    let (mut ended, mut body) = match first {
        First::Bridge(admitted) => {
            // What follows a request for a tunnel waits until there is one.
            let request = &client.call().request;
            let waits = request.tunnel != Tunnel::None && request.framing == Framing::None;
            let body = Pipe::replayable(waits || client.has_sent_all());
            if exchange.mirrors && client.has_sent_all() {
                mirror(client.call(), exchange, body.kept());
            }
            attempt(&mut client, exchange, cluster, &admitted, body).await
        }
        First::Failed(failure, body) => (Err(failure), *body),
    };
    loop {
        let failure = match ended {
            Ok(next) => return Ok(next),
            Err(failure) => failure,
        };
        let call = client.call();
        if !call.retries_failure(exchange, &failure, body.is_kept()) {
            return Err(failure);
        }
        prepare(&mut client, exchange, &failure).await?;
        // An empty one is at its end already.
        let is_empty = client.has_sent_all() && body.is_empty();
        if !body.rewind(is_empty) {
            return Err(failure);
        }
        let call = client.call();
        let others = call.other_endpoints(exchange);
        let before = std::mem::take(&mut exchange.rare().tries.before);
        let ask = exchange.ask(call);
        let admitted = cluster.admit_again(ask, &*call.worker, &before, others);
        exchange.rare().tries.before = before;
        let admitted = admitted?;
        (ended, body) = attempt(&mut client, exchange, cluster, &admitted, body).await;
    }
}

async fn attempt(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    cluster: &Rc<ClusterState>,
    admitted: &Admitted,
    body: Pipe,
) -> (Result<Next, Failure>, Pipe) {
    let endpoint = admitted.endpoint();
    client.call().begin_attempt(exchange, endpoint);
    let http2 = cluster.cluster.http2(client.protocol());
    let mut bridge = Bridge::new(client.by_ref(), exchange, cluster, endpoint, http2, body);
    let ended = bridge.run().await;
    (ended, bridge.into_request())
}
