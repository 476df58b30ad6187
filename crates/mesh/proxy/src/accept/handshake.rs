//! The handshake with a client.

use std::io;
use std::time::Duration;

use super::lookout::Lookout;
use crate::net::Stream;
use crate::tls::{self, Secured, ServerTls, TlsLayer, check_resumed};
use crate::view::{ChainView, ListenerView};

/// How long it may take if `transport_socket_connect_timeout` is not set. Envoy has no limit then, so
/// that a client may hold a connection for ever.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The stream under TLS; else why there is no agreement, which is counted, as far as that is to be known.
pub(super) async fn run(
    view: &ListenerView,
    chain: &ChainView,
    tls: &ServerTls,
    lookout: Lookout,
) -> Result<Stream, Option<String>> {
    let stats = view.tls_stats.as_deref().ok_or(None::<String>)?;
    let timeout = chain.handshake_timeout.unwrap_or(TIMEOUT);
    let shaken = match tokio::time::timeout(timeout, shake(tls, lookout)).await {
        Ok(shaken) => shaken,
        Err(_) => {
            view.stats.handshake_timeout.increment();
            return Err(None);
        }
    };
    match shaken {
        Ok(stream) => {
            if let Some(state) = stream.tls_state() {
                stats.count_handshake(state);
            }
            Ok(stream)
        }
        Err(error) => {
            stats.count_failure(&error);
            let listener = &*view.name;
            tracing::debug!(listener, %error, "no TLS with a client");
            Err(tls::reason(&error).map(|reason| format!("TLS error: {reason}")))
        }
    }
}

async fn shake(tls: &ServerTls, mut lookout: Lookout) -> io::Result<Stream> {
    // rustls is given the first message only now, as it would refuse a client none of whose
    // protocols it knows. What is no such message it refuses in its own words.
    let hello = lookout.client_hello().await?.unwrap_or_default();
    if tls.require_sni && hello.server_name.is_none() {
        let reason = "the client names no server";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let (ahead, stream) = lookout.into_parts();
    let config = tls.config_for(&hello.protocols);
    let layer = TlsLayer::server(config, ahead)?;
    let own = tls.identities.first().cloned();
    let secured = |layer: &TlsLayer| Secured::of(layer.state(), own, hello.server_name);
    let stream = stream.with_tls(layer, secured).await?;
    if tls.checks_chain
        && let Some(state) = stream.tls_state()
    {
        check_resumed(state)?;
    }
    Ok(stream)
}
