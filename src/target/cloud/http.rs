//! The one kind of HTTP client that talks to clouds: no redirects, no proxies of the environment, and a limit to connecting.

use std::path::PathBuf;
use std::time::Duration;

use super::CloudError;

const CONNECT: Duration = Duration::from_secs(10);

/// Believes the authorities (PEM) of the file, instead of the system's, where there is one.
pub fn client(authority: Option<&PathBuf>) -> Result<reqwest::ClientBuilder, CloudError> {
    // The first to come decides for the process; anybody else here would decide the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut http = reqwest::Client::builder();
    if let Some(file) = authority {
        let unusable = |why: &dyn std::fmt::Display| CloudError::Address {
            reason: format!("the authorities in {} cannot be used: {why}", file.display()),
        };
        let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
        http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?);
    }
    Ok(http
        .connect_timeout(CONNECT)
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION"))))
}

/// How long `Retry-After` asks us to wait. Seconds, or nothing: the date form is rare, and a wrong clock would make it a long wait.
pub fn wait_of(text: &str) -> Option<Duration> {
    /// A cloud that asks for more is asked again after this: it may have meant another unit.
    const LONGEST: u64 = 3_600;
    text.trim().parse::<u64>().ok().map(|seconds| Duration::from_secs(seconds.min(LONGEST)))
}

/// The cause of a failure that its wrappings keep to themselves: without addresses, which are said already.
pub fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
