//! Certificates of workloads: flags, and the tokens that they are asked for with.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use periplus_control::{CertificateOptions, CertificateSource};
use periplus_identity::{
    AUDIENCE, Bearer, Config, Lifetimes, Rotation, ServerName, ServiceAccount, SpiffeId, TokenKey,
    Trust, private,
};

use super::{duration, issuers};

/// The file of the key that tokens are signed with, in the directory of the authority.
const TOKEN_KEY: &str = "token-key.pem";

/// Flags of the control plane.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct AuthorityArgs {
    /// Directory for the keys of the certificate authority, which are made there; without it workloads have no
    /// certificates, and proxies speak plaintext to each other
    #[arg(long, value_name = "DIR")]
    identity_dir: Option<PathBuf>,

    /// Directory with an authority of your own: ca-cert.pem, ca-key.pem, root-cert.pem and, for an
    /// intermediate one, cert-chain.pem; or tls.crt, tls.key and ca.crt; read again when it changes
    #[arg(long, value_name = "DIR", requires = "identity_dir")]
    cacerts: Option<PathBuf>,

    /// Who else issues tokens that workloads get certificates with: Istio's JWT_RULE, as JSON or a file of it; repeatable
    #[arg(long, value_name = "RULE", requires = "identity_dir")]
    jwt_rule: Vec<String>,

    /// How long certificates of workloads hold; they are renewed at half of it
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    workload_cert_ttl: Duration,

    /// How long they may hold if more is asked for
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = duration::parse)]
    max_workload_cert_ttl: Duration,

    /// How long a root holds; it is replaced when a fifth of that is left
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = duration::parse)]
    root_cert_ttl: Duration,
}

impl AuthorityArgs {
    /// What they ask for, if they ask for an authority.
    pub(crate) fn options(self) -> anyhow::Result<Option<CertificateOptions>> {
        let Some(directory) = self.identity_dir else {
            return Ok(None);
        };
        let lifetimes = Lifetimes {
            default: self.workload_cert_ttl,
            most: self.max_workload_cert_ttl,
        };
        anyhow::ensure!(
            Duration::from_secs(1) <= lifetimes.default && lifetimes.default <= lifetimes.most,
            "--workload-cert-ttl must be at least 1s, and at most --max-workload-cert-ttl"
        );
        // A new root is announced for 0.6 of this time, and the old one believed for all of it.
        anyhow::ensure!(
            self.root_cert_ttl / 10 >= lifetimes.most,
            "--root-cert-ttl must be at least ten times --max-workload-cert-ttl, so that roots can be replaced \
             while certificates of both are in use"
        );
        let issuers = self.jwt_rule.iter().map(|rule| issuers::read(rule));
        Ok(Some(CertificateOptions {
            issuers: issuers.collect::<anyhow::Result<_>>()?,
            directory,
            source: self
                .cacerts
                .map_or(CertificateSource::Own, CertificateSource::PluggedIn),
            lifetimes,
            rotation: Rotation::new(self.root_cert_ttl, lifetimes.most),
        }))
    }
}

/// Flags of a proxy, or of the agent of one.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct WorkloadArgs {
    /// File with a token of the workload: the proxy gets a certificate with it, and renews that
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The certificate authority, as http://HOST:PORT or https://HOST:PORT [default: the control plane]
    #[arg(long, value_name = "URL", requires = "token_file")]
    ca: Option<String>,

    /// File with the roots that the authority is believed by, where it is https:// [default: those that the bootstrap
    /// file names for the control plane]
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_roots: Option<PathBuf>,

    /// What the mesh's names begin with
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
}

impl WorkloadArgs {
    /// Where the certificate of an account comes from, if there is a token.
    pub(crate) fn config(
        self,
        control_plane: Option<(&str, Option<&Trust>)>,
        (namespace, account): (&str, &str),
    ) -> anyhow::Result<Option<Config>> {
        let Some(token) = self.token_file else {
            return Ok(None);
        };
        let account = ServiceAccount::new(namespace, account)?;
        let has_roots = self.ca_roots.is_some();
        let trust = match (&self.ca, self.ca_roots) {
            (Some(ca), Some(roots)) => Some(Trust {
                roots,
                server_name: server_name(ca)?,
            }),
            _ => control_plane.and_then(|(_, trust)| trust.cloned()),
        };
        let endpoint = self
            .ca
            .or(control_plane.map(|(endpoint, _)| endpoint.to_owned()));
        let endpoint =
            endpoint.context("the certificate authority is missing: give it with --ca")?;
        anyhow::ensure!(
            !has_roots || endpoint.starts_with("https://"),
            "--ca-roots is for an authority that is https://, {endpoint} is not"
        );
        anyhow::ensure!(
            trust.is_some() || !endpoint.starts_with("https://"),
            "nobody says what roots {endpoint} is believed by: give them with --ca-roots"
        );
        Ok(Some(Config {
            trust: trust.filter(|_| endpoint.starts_with("https://")),
            endpoint,
            token,
            id: SpiffeId::new(&self.trust_domain, account)?,
            lifetime: None,
        }))
    }
}

/// The name that the server of a URL must have.
fn server_name(url: &str) -> anyhow::Result<ServerName<'static>> {
    let uri: http::Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let host = uri.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host).with_context(|| format!("{url} names no server"))
}

/// Flags of `periplus token`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The directory that the control plane has as --identity-dir
    #[arg(long, value_name = "DIR")]
    identity_dir: PathBuf,

    /// The namespace of the workload
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// The service account that it runs as
    #[arg(short = 'a', long, value_name = "ACCOUNT")]
    service_account: String,

    /// The name of the workload
    #[arg(long, value_name = "NAME", default_value = "")]
    workload: String,

    /// How long the token holds
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    lifetime: Duration,

    /// Where it is written, for this user alone; without it, it is printed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Makes a token of a workload.
pub(crate) fn token(args: TokenArgs) -> anyhow::Result<()> {
    let bearer = Bearer {
        account: ServiceAccount::new(&args.namespace, &args.service_account)?,
        workload: args.workload,
    };
    let token = Tokens::open(&args.identity_dir)?.issue(&bearer, args.lifetime);
    match args.output {
        Some(path) => private::write(&path, &token)?,
        None => println!("{token}"),
    }
    Ok(())
}

/// Makes tokens that the control plane of a directory believes.
pub(crate) struct Tokens(TokenKey);

impl Tokens {
    /// Reads the key of a directory, or makes it.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        private::make_directory(directory)?;
        let path = directory.join(TOKEN_KEY);
        let key = TokenKey::load_or_create(&path).context("cannot sign tokens")?;
        Ok(Self(key))
    }

    /// A token for the certificate authority.
    pub(crate) fn issue(&self, bearer: &Bearer, lifetime: Duration) -> String {
        self.0.issue(bearer, AUDIENCE, lifetime, SystemTime::now())
    }
}
