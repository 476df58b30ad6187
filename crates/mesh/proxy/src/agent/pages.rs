//! Where the pages of a proxy are served.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::AgentError;
use crate::Options;
use crate::bootstrap::Bootstrap;

/// The sockets of the pages, bound before anything else is begun.
pub(super) struct Pages {
    pub(super) admin: Option<TcpListener>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) status: Option<TcpListener>,
}

impl Pages {
    pub(super) async fn bind(bootstrap: &Bootstrap, options: &Options) -> Result<Self, AgentError> {
        let own = [
            bootstrap.admin,
            options.metrics_address,
            options.status_address,
        ];
        let application = &options.application_metrics;
        let mut ports = own.iter().flatten().map(SocketAddr::port);
        if let Some(port) = ports.find(|port| application.has_port(*port)) {
            return Err(AgentError::OwnMetrics { port });
        }
        let [admin, metrics, status] = own;
        Ok(Self {
            admin: bind(
                admin,
                "the admin pages (admin.address in the bootstrap file)",
            )
            .await?,
            metrics: bind(metrics, "the metrics (--metrics-address)").await?,
            status: bind(status, "the status (--status-address)").await?,
        })
    }
}

async fn bind(
    address: Option<SocketAddr>,
    what: &'static str,
) -> Result<Option<TcpListener>, AgentError> {
    let Some(address) = address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(AgentError::Pages {
            what,
            address,
            source,
        }),
    }
}
