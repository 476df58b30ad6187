//! `istio.v1.auth.IstioCertificateService`: certificates for whoever says who they are.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http_body::Body as _;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Extensions, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::authority::{Authority, AuthorityError, Lifetimes};
use crate::counts::{Counts, Reason};
use crate::csr::{Csr, CsrError, MAX_CSR_BYTES};
use crate::issuer::{Issuer, Published};
use crate::jwt::Token;
use crate::proto;
use crate::spiffe::{ServiceAccount, SpiffeId};
use crate::token::{MAX_TOKEN_BYTES, TokenError, TokenKey};

/// The largest message: a request, and what else it may carry.
const MAX_MESSAGE_BYTES: usize = 4 * MAX_CSR_BYTES;
/// As many requests are looked at at once.
const MAX_AT_ONCE: usize = 64;
/// Nobody needs a certificate that has ended before it arrives.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// Whom a connection's client certificate names; tonic puts it beside each request.
#[derive(Clone, Debug)]
pub struct PeerId {
    /// Nobody, if it has shown none.
    pub id: Option<SpiffeId>,
    /// Where the connection comes from.
    pub address: SocketAddr,
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its account.
    pub account: ServiceAccount,
    /// Where its connection comes from, if it is one over TLS.
    pub address: Option<SocketAddr>,
}

/// Whom to certify.
#[derive(Clone, Debug)]
pub struct Access {
    /// The trust domain of certificates.
    pub trust_domain: String,
    /// Others, whose names stand for the same workloads.
    pub aliases: Vec<String>,
    /// What tokens are signed with.
    pub tokens: Arc<TokenKey>,
    /// Who else issues tokens.
    pub issuers: Vec<Arc<Issuer>>,
    /// How long certificates hold.
    pub lifetimes: Lifetimes,
}

/// The service. Clones share their state.
#[derive(Clone, Debug)]
pub struct CertificateServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    authority: watch::Receiver<Arc<Authority>>,
    access: Access,
    counts: Arc<Counts>,
    permits: Semaphore,
}

#[derive(Debug, Error)]
enum Refusal {
    #[error(
        "no credentials: send a token as `authorization: Bearer TOKEN`, or show a certificate of the mesh"
    )]
    NoCredentials,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the client certificate is of the trust domain {0}, which this mesh does not know")]
    ForeignCertificate(String),
    #[error("the token is that of {token}, the client certificate that of {certificate}")]
    Contradiction {
        token: ServiceAccount,
        certificate: ServiceAccount,
    },
    #[error("the request asks for `{asked}`, but comes from {id}")]
    FalseSan { asked: String, id: SpiffeId },
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error("{asked} seconds were asked for, the most are {most}")]
    Lifetime { asked: i64, most: u64 },
    #[error("{MAX_AT_ONCE} requests for certificates are under way, try again")]
    Overloaded,
    #[error("the certificate authority cannot sign")]
    Failed(#[source] AuthorityError),
}

impl Refusal {
    fn reason(&self) -> Reason {
        match self {
            Self::NoCredentials => Reason::NoCredentials,
            Self::Token(TokenError::Expired(_)) => Reason::ExpiredToken,
            Self::Token(TokenError::NoKeys(_)) => Reason::NoKeys,
            Self::Token(TokenError::Audience | TokenError::ForIssuer(_)) => Reason::ForeignAudience,
            Self::Token(_) => Reason::BadToken,
            Self::ForeignCertificate(_) => Reason::ForeignCertificate,
            Self::Contradiction { .. } => Reason::Contradiction,
            Self::FalseSan { .. } => Reason::FalseSan,
            Self::Csr(CsrError::TooLarge(_)) => Reason::TooLarge,
            Self::Csr(_) => Reason::MalformedCsr,
            Self::Lifetime { .. } => Reason::Lifetime,
            Self::Overloaded => Reason::Overloaded,
            Self::Failed(_) => Reason::Failed,
        }
    }

    fn code(&self) -> Code {
        match self.reason() {
            Reason::NoCredentials
            | Reason::BadToken
            | Reason::ExpiredToken
            | Reason::ForeignAudience
            | Reason::ForeignCertificate
            | Reason::ExpiredCertificate
            | Reason::RevokedCertificate => Code::Unauthenticated,
            Reason::Contradiction | Reason::FalseSan => Code::PermissionDenied,
            Reason::MalformedCsr | Reason::TooLarge | Reason::Lifetime => Code::InvalidArgument,
            Reason::NoKeys => Code::Unavailable,
            Reason::Overloaded => Code::ResourceExhausted,
            Reason::Failed => Code::FailedPrecondition,
        }
    }
}

impl CertificateServer {
    /// A server whose authority may be replaced at any time.
    pub fn new(authority: watch::Receiver<Arc<Authority>>, access: Access) -> Self {
        Self {
            shared: Arc::new(Shared {
                authority,
                access,
                counts: Arc::default(),
                permits: Semaphore::new(MAX_AT_ONCE),
            }),
        }
    }

    /// What was done and refused.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Who calls another service of the control plane: known as those are who ask for certificates.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn caller(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Caller, (Reason, Status)> {
        let authenticated = self
            .shared
            .authenticate(metadata, extensions, SystemTime::now());
        let account = authenticated.map_err(|refusal| {
            let status = Status::new(refusal.code(), refusal.to_string());
            (refusal.reason(), status)
        })?;
        let peer = extensions.get::<PeerId>();
        Ok(Caller {
            account,
            address: peer.map(|peer| peer.address),
        })
    }

    /// Who else issues tokens that are believed, and has to be asked for the keys of them.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        let all = self.shared.access.issuers.iter().map(Arc::as_ref);
        all.filter(|issuer| *issuer.published() != Published::Here)
    }

    /// The authority of now and of later.
    pub fn authorities(&self) -> watch::Receiver<Arc<Authority>> {
        self.shared.authority.clone()
    }

    /// The authority of now.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.shared.authority.borrow())
    }
}

impl Shared {
    fn answer(&self, request: &Request<proto::Request>) -> Result<proto::Response, Status> {
        let now = SystemTime::now();
        self.counts.request();
        let outcome = self.decide(request, now);
        outcome.map_err(|refusal| {
            let reason = refusal.reason();
            if self.counts.refuse(reason, now) {
                self.log(reason, &refusal, request);
            }
            Status::new(refusal.code(), refusal.to_string())
        })
    }

    fn log(&self, reason: Reason, refusal: &Refusal, request: &Request<proto::Request>) {
        let peer = request.extensions().get::<PeerId>();
        let peer = peer.map(|peer| peer.address).or(request.remote_addr());
        let peer = peer.map(|peer| peer.to_string());
        let cause = std::error::Error::source(refusal).map(ToString::to_string);
        tracing::warn!(
            reason = reason.name(),
            in_all = self.counts.refused(reason),
            peer = peer.as_deref().unwrap_or("unknown"),
            cause = cause.as_deref().unwrap_or_default(),
            "refused a certificate: {refusal}"
        );
    }

    fn decide(
        &self,
        request: &Request<proto::Request>,
        now: SystemTime,
    ) -> Result<proto::Response, Refusal> {
        let _permit = self
            .permits
            .try_acquire()
            .map_err(|_| Refusal::Overloaded)?;
        let account = self.authenticate(request.metadata(), request.extensions(), now)?;
        let asked = request.get_ref();
        let lifetime = self.lifetime(asked.validity_duration)?;
        let csr = Csr::parse(&asked.csr)?;
        let id = self.id(&self.access.trust_domain, account);
        for name in &csr.names {
            let is_own = |id: &SpiffeId| *name == id.to_string();
            let aliases = self.access.aliases.iter();
            let mut aliases = aliases.map(|alias| self.id(alias, id.account().clone()));
            if !is_own(&id) && !aliases.any(|alias| is_own(&alias)) {
                let asked = name.chars().take(256).collect();
                return Err(Refusal::FalseSan { asked, id });
            }
        }
        let authority = Arc::clone(&self.authority.borrow());
        let issued = authority.sign(&csr, &id, lifetime, now);
        let issued = issued.map_err(Refusal::Failed)?;
        self.counts.issue();
        tracing::info!(%id, seconds = lifetime.as_secs(), "issued a certificate");
        Ok(proto::Response {
            cert_chain: issued.chain,
        })
    }

    fn id(&self, trust_domain: &str, account: ServiceAccount) -> SpiffeId {
        SpiffeId::new(trust_domain, account).expect("trust domains are checked when they are read")
    }

    /// Who asks: by its token, by its certificate, or by both, which then must say the same.
    fn authenticate(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        now: SystemTime,
    ) -> Result<ServiceAccount, Refusal> {
        let header = metadata.get("authorization");
        let token = header.map(|value| {
            let value = value.to_str().unwrap_or_default();
            let token = value.strip_prefix("Bearer ").unwrap_or_default();
            self.bearer(token.trim(), now)
        });
        let token = token.transpose()?;
        let peer = extensions.get::<PeerId>();
        let certificate = match peer.and_then(|peer| peer.id.as_ref()) {
            Some(id) if self.knows(id.trust_domain()) => Some(id.account().clone()),
            Some(id) => return Err(Refusal::ForeignCertificate(id.trust_domain().to_owned())),
            None => None,
        };
        match (token, certificate) {
            (Some(token), Some(certificate)) if token != certificate => {
                Err(Refusal::Contradiction { token, certificate })
            }
            (Some(account), _) | (None, Some(account)) => Ok(account),
            (None, None) => Err(Refusal::NoCredentials),
        }
    }

    /// Whom a token names: one of our own, or of an issuer that it names itself.
    fn bearer(&self, text: &str, now: SystemTime) -> Result<ServiceAccount, TokenError> {
        if text.len() <= MAX_TOKEN_BYTES
            && !self.access.issuers.is_empty()
            && let Ok(token) = Token::parse(text)
        {
            let mut issuers = self.access.issuers.iter();
            if let Some(issuer) = issuers.find(|issuer| issuer.name() == token.issuer) {
                return issuer.verify(&token, text, now);
            }
        }
        let bearer = self.access.tokens.verify(text, now)?;
        Ok(bearer.account)
    }

    fn knows(&self, trust_domain: &str) -> bool {
        let access = &self.access;
        access.trust_domain == trust_domain
            || access.aliases.iter().any(|alias| alias == trust_domain)
    }

    fn lifetime(&self, asked: i64) -> Result<Duration, Refusal> {
        let Lifetimes { default, most } = self.access.lifetimes;
        if asked <= 0 {
            return Ok(default);
        }
        let lifetime = Duration::from_secs(asked.unsigned_abs());
        if lifetime > most {
            let most = most.as_secs();
            return Err(Refusal::Lifetime { asked, most });
        }
        Ok(lifetime.max(MIN_LIFETIME))
    }
}

impl UnaryService<proto::Request> for CertificateServer {
    type Response = proto::Response;
    type Future = std::future::Ready<Result<Response<proto::Response>, Status>>;

    fn call(&mut self, request: Request<proto::Request>) -> Self::Future {
        std::future::ready(self.shared.answer(&request).map(Response::new))
    }
}

impl NamedService for CertificateServer {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl<B> Service<http::Request<B>> for CertificateServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != proto::METHOD {
                return Ok(
                    Status::unimplemented("the service has CreateCertificate only").into_http(),
                );
            }
            let counts = service.counts();
            let mut grpc = Grpc::new(ProstCodec::<proto::Response, proto::Request>::default())
                .max_decoding_message_size(MAX_MESSAGE_BYTES);
            let response = grpc.unary(service, request).await;
            // What is larger never gets to the service.
            let status = response.headers().get("grpc-status");
            if response.body().is_end_stream() && status.is_some_and(|status| status == "11") {
                counts.request();
                if counts.refuse(Reason::TooLarge, SystemTime::now()) {
                    tracing::warn!(
                        reason = Reason::TooLarge.name(),
                        in_all = counts.refused(Reason::TooLarge),
                        "refused a certificate: the message has more than {MAX_MESSAGE_BYTES} bytes"
                    );
                }
            }
            Ok(response)
        })
    }
}
