//! Which hub a client believes to be the right one.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::Fingerprint;

/// By what a client knows its hub over `https`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Trust {
    /// The authorities that this system trusts.
    #[default]
    System,
    /// The authorities in this file (PEM), and no others.
    Authority(PathBuf),
    /// Exactly the certificate with this fingerprint, whatever name and time it has.
    Pinned(Fingerprint),
}

/// The certificate is another one than was pinned.
#[derive(Debug, thiserror::Error)]
#[error("its certificate has the fingerprint {found}, the configuration names {expected}")]
pub struct OtherCertificate {
    pub expected: Fingerprint,
    pub found: Fingerprint,
}

/// TLS that accepts the pinned certificate alone.
pub fn pinned(expected: Fingerprint) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(Pin { expected, algorithms });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Pin {
    expected: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(certificate);
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherError(Arc::new(OtherCertificate { expected: self.expected, found }));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }

    // That the other side has the key of this certificate, and did not only copy it, is what the signatures show.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why the other side's certificate was refused, where that is what an error is about.
pub fn refused(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error hides what it was made of from the chain of causes.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref::<Error>().or_else(|| inner.and_then(|inner| inner.downcast_ref::<Error>()));
        match found {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => return Some(why.to_string()),
            Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                return Some("its certificate has expired".into());
            }
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Some("its certificate is signed by nobody whom we trust".into());
            }
            Some(Error::InvalidCertificate(why)) => return Some(format!("its certificate is not accepted: {why}")),
            _ => cause = error.source().or(inner.map(|inner| inner as &(dyn std::error::Error + 'static))),
        }
    }
    None
}
