//! The messages of `istio.v1.auth.IstioCertificateService`.

/// Its one method.
pub(crate) const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    /// PKCS #10 in PEM.
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    /// In seconds; 0 is not said.
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    /// Each in PEM: the certificate, those between, the roots.
    #[prost(string, repeated, tag = "1")]
    pub(crate) cert_chain: Vec<String>,
}
