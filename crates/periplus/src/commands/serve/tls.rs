use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use periplus_collect::{Tls, TlsFiles};

/// The ports that can speak TLS, by their names.
pub(super) const PORTS: [&str; 11] = [
    "ui",
    "query/grpc",
    "otlp/grpc",
    "otlp/http",
    "zipkin",
    "jaeger/grpc",
    "jaeger/http",
    "health",
    "metrics",
    "sampling",
    "sampling/grpc",
];

/// Flags that turn TLS on.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Certificate of this server in PEM, intermediate ones behind it: every TCP port speaks TLS. Its
    /// file is read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Authorities in PEM: clients need a certificate that one of them has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Ports that stay without TLS, separated by commas
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        requires = "tls_cert",
        value_parser = PossibleValuesParser::new(PORTS)
    )]
    tls_except: Vec<String>,
}

impl Flags {
    /// Reads the files, if there are any.
    pub(super) fn load(&self) -> anyhow::Result<Option<Tls>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let files = TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authorities: self.tls_client_ca.clone(),
        };
        Tls::load(files).context("cannot turn TLS on").map(Some)
    }

    /// Whether this port stays without TLS.
    pub(super) fn excepts(&self, port: &str) -> bool {
        self.tls_except.iter().any(|name| name == port)
    }
}
