//! The certificate by which a hub, or a receiver, shows that it is the one.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::hub::HubError;
use crate::topic::hub::Fingerprint;

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum TlsIdentity {
    /// Of somebody's authority: files in PEM, the chain with the hub's own certificate first.
    Given { certificate: PathBuf, key: PathBuf },
    /// One of our own in this folder, made at the first start. Nodes know it by its fingerprint.
    Own { folder: PathBuf },
    /// The same for these names and addresses, by which whoever connects knows it: for those that look at names, as all do but our own nodes.
    /// Its certificate is [`NAMED_CERTIFICATE`] there.
    OwnNamed { folder: PathBuf, names: Vec<String> },
}

/// What a listener needs to encrypt.
#[derive(Clone)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub fingerprint: Fingerprint,
}

impl TlsIdentity {
    /// By what others know this certificate. Makes nothing.
    pub fn fingerprint(&self) -> Result<Fingerprint, HubError> {
        let certificate = match self {
            Self::Given { certificate, .. } => certificate.clone(),
            Self::Own { folder } => folder.join(CERTIFICATE),
            Self::OwnNamed { folder, .. } => folder.join(NAMED_CERTIFICATE),
        };
        let first = CertificateDer::from_pem_file(&certificate)
            .map_err(|error| unusable(&certificate, format!("it cannot be read as PEM: {error}")))?;
        Ok(Fingerprint::of(&first))
    }

    /// Reads the certificate, and makes it first where it is our own and missing.
    pub fn load(&self) -> Result<Tls, HubError> {
        let (certificate, key) = match self {
            Self::Given { certificate, key } => (certificate.clone(), key.clone()),
            // The name is nobody's: who pins a fingerprint looks at no name.
            Self::Own { folder } => own(folder, [CERTIFICATE, KEY], &["tandem-hub".to_owned()])?,
            Self::OwnNamed { folder, names } => own(folder, [NAMED_CERTIFICATE, NAMED_KEY], names)?,
        };
        let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(&certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(&certificate, format!("it cannot be read as PEM: {error}")))?;
        let Some(first) = chain.first() else { return Err(unusable(&certificate, "it holds no certificate".into())) };
        let fingerprint = Fingerprint::of(first);
        let secret = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| unusable(&key, format!("it cannot be read as a key in PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|error| unusable(&certificate, error.to_string()))?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }
}

fn unusable(file: &Path, reason: String) -> HubError {
    HubError::Certificate { file: file.to_owned(), reason }
}

const CERTIFICATE: &str = "hub.crt";
const KEY: &str = "hub.key";
pub const NAMED_CERTIFICATE: &str = "certificate.pem";
const NAMED_KEY: &str = "certificate.key";

/// The files of our own certificate. The certificate is written last, so where it is, the key is too.
fn own(folder: &Path, files: [&str; 2], names: &[String]) -> Result<(PathBuf, PathBuf), HubError> {
    let [certificate, key] = files.map(|file| folder.join(file));
    if certificate.exists() {
        return Ok((certificate, key));
    }
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| unusable(&certificate, format!("it cannot be made: {error}")))?;
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        write_private(&key, made.signing_key.serialize_pem().as_bytes())?;
        write_private(&certificate, made.cert.pem().as_bytes())
    };
    write().map_err(|error| unusable(&certificate, format!("it cannot be written: {error}")))?;
    Ok((certificate, key))
}

/// Readable by this user only, from its first byte on; whole or not there.
fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(&unfinished)?;
    opened.write_all(content)?;
    opened.sync_all()?;
    fs::rename(&unfinished, file)
}
