//! The one kind of HTTP client that talks to clouds: no redirects, no proxies of the environment, and a limit to connecting.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

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

/// How long an answer asks us to wait by its `Retry-After`: a number of seconds, or a time. A time is taken from the answer's own `Date`,
/// so a wrong clock here makes no difference; `now`, in seconds of the Unix epoch, counts where the answer has none.
pub fn wait_of<'h>(header: impl Fn(&str) -> Option<&'h str>, now: impl Fn() -> u64) -> Option<Duration> {
    /// A cloud that asks for more is asked again after this: it may have meant another unit.
    const LONGEST: u64 = 86_400;
    let text = header("retry-after")?.trim();
    let seconds = text.parse::<u64>().ok().or_else(|| {
        let answered = header("date").and_then(second_of).unwrap_or_else(now);
        Some(second_of(text)?.saturating_sub(answered))
    });
    seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST)))
}

/// A time as HTTP writes it, in seconds of the Unix epoch.
fn second_of(text: &str) -> Option<u64> {
    Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The cause of a failure that its wrappings keep to themselves: without addresses, which are said already.
pub fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_said_in_seconds_or_as_a_time() {
        let check = |retry_after: &str, date: Option<&str>, expected: Option<u64>| {
            let header = |name: &str| if name == "date" { date } else { Some(retry_after) };
            let wait = wait_of(header, || 784_111_777 - 10);
            assert_eq!(wait, expected.map(Duration::from_secs), "{retry_after} {date:?}");
        };
        check(" 7 ", None, Some(7));
        check("1000000", None, Some(86_400));
        check("soon", None, None);
        let (then, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:51:07 GMT");
        // By the clock of who answers, whatever ours says.
        check(later, Some(then), Some(90));
        check(then, Some(later), Some(0));
        check(then, None, Some(10));
        check(then, Some("never"), Some(10));
        assert_eq!(wait_of(|_| None, || 0), None);
    }
}
