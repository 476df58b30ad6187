//! Errands over HTTP/2.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use http::uri::Scheme;

use crate::errand::{Answer, Errand, LIMITS, Trouble};
use crate::http2::Payload;
use crate::http2::head::{self, Malformed};
use crate::snapshot::Http2Options;
use crate::upstream::{ClusterState, EndpointState};

pub(super) async fn exchange(
    (cluster, endpoint, options): (&Rc<ClusterState>, &Rc<EndpointState>, Http2Options),
    errand: Errand<'_>,
    answer: &mut Answer,
) -> Result<(), Trouble> {
    let head = Bytes::copy_from_slice(&answer.request);
    // A connection that is about to go refuses new streams: then another one takes it.
    for is_last in [false, true] {
        let lease = match cluster.http2_lease(endpoint) {
            Some(lease) => lease,
            None => cluster.http2_open(endpoint, options, false).await?,
        };
        let scheme = match lease.secured() {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        let request = head::request(&head, scheme, errand.host, !lease.reused);
        let request = request.map_err(|Malformed(problem)| Trouble::failed(problem))?;
        let [one, two] = errand.body.unwrap_or_default();
        let body = [one, two].concat();
        let ended = body.is_empty();
        let sent = async {
            let mut sender = lease.sender().ready().await?;
            let (response, mut stream) = sender.send_request(request, ended)?;
            if !ended {
                stream.send_data(Payload::new(body.into(), None), true)?;
            }
            read(response, errand.most_bytes, answer).await
        };
        match sent.await {
            Ok(read) => return read,
            Err(error) if !is_last && was_not_worked_on(&error, lease.reused) => {}
            // What this side could not read.
            Err(error) if error.is_library() => return Err(Trouble::senseless(error.to_string())),
            Err(error) => return Err(Trouble::failed(error.to_string())),
        }
    }
    Err(Trouble::Stale)
}

/// Whether the endpoint says so, or had gone already.
fn was_not_worked_on(error: &h2::Error, was_reused: bool) -> bool {
    error.reason() == Some(Reason::REFUSED_STREAM)
        || was_reused && (error.is_io() || error.is_go_away())
}

/// Reads the answer; the inner error is about what it says.
async fn read(
    response: ResponseFuture,
    most_bytes: usize,
    answer: &mut Answer,
) -> Result<Result<(), Trouble>, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    answer.clear();
    head::append_response(head.status, &head.headers, &mut answer.head);
    // How it is framed is no matter of its fields here.
    let parsed = answer.response.parse(&answer.head, LIMITS, true);
    if let Err(refused) = parsed {
        return Ok(Err(Trouble::senseless(refused.reason)));
    }
    while let Some(data) = body.data().await {
        let data = data?;
        if let Err(trouble) = answer.take(&data, most_bytes) {
            return Ok(Err(trouble));
        }
        // Fails only if more is released than has arrived.
        let _ = body.flow_control().release_capacity(data.len());
    }
    if let Some(trailers) = poll_fn(|cx| body.poll_trailers(cx)).await? {
        head::append_fields(&trailers, &mut answer.trailers);
    }
    Ok(Ok(()))
}
