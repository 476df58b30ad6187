//! Who is believed about the certificates of clients.

/// What is done with the header `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCert {
    /// `forward_client_cert_details`.
    pub mode: ForwardClientCert,
    /// `set_current_client_cert_details`.
    pub details: CertDetails,
}

/// `ForwardClientCertDetails`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// It is taken away.
    #[default]
    Sanitize,
    /// It stays if the client has shown a certificate.
    ForwardOnly,
    /// What the client has shown is appended.
    AppendForward,
    /// What the client has shown replaces it.
    SanitizeSet,
    /// It stays, whoever sent it.
    AlwaysForwardOnly,
}

/// `SetCurrentClientCertDetails`: what is told besides the hash of the certificate and the URIs of
/// the proxy's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertDetails {
    /// `subject`.
    pub subject: bool,
    /// `cert`.
    pub cert: bool,
    /// `chain`.
    pub chain: bool,
    /// `dns`.
    pub dns: bool,
    /// `uri`.
    pub uri: bool,
}
