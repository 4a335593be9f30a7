//! The client that object stores are given: ours, and with answers of failure kept as they came, to be told from each other later.

use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};

use crate::runtime::{Clock as _, SystemClock};

/// Of an answer that says failure; they are some lines.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Speaks to object stores.
#[derive(Clone, Debug)]
pub struct BucketClient(pub reqwest::Client);

/// A store's answer that says failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("it answered {status}{}", code.as_ref().map(|code| format!(": {code}")).unwrap_or_default())]
pub struct BucketAnswer {
    pub status: u16,
    /// The word that the answer has for it: `AccessDenied`.
    pub code: Option<String>,
    pub wait: Option<Duration>,
}

impl HttpConnector for BucketClient {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for BucketClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = self.0.call(request).await?.into_parts();
        let status = head.status.as_u16();
        if head.status.is_success() {
            return Ok(HttpResponse::from_parts(head, body));
        }
        let wait = super::http::wait_of(|name| head.headers.get(name)?.to_str().ok(), || SystemClock.now_seconds());
        let body = body.bytes().await.unwrap_or_default();
        let text = body.get(..body.len().min(ANSWER_BYTES_MAX)).and_then(|body| std::str::from_utf8(body).ok());
        let code = text.and_then(code);
        match (status, code.as_deref()) {
            // What the stores' own code has to see: not there, not changed, there already.
            (304 | 404 | 409 | 412, code) if code != Some("NoSuchBucket") => Ok(HttpResponse::from_parts(head, body.into())),
            _ => Err(HttpError::new(HttpErrorKind::Decode, BucketAnswer { status, code, wait })),
        }
    }
}

/// The answer behind a failure, where there was one.
pub fn answer(error: &object_store::Error) -> Option<&BucketAnswer> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(answer) = one.downcast_ref::<BucketAnswer>() {
            return Some(answer);
        }
        cause = one.source();
    }
    None
}

/// `<Code>` of an answer in XML: a word. The rest may repeat what was asked, signature included.
fn code(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_in_xml_only_its_word_is_repeated() {
        let body = "<Error><Code>AccessDenied</Code><Message>key AKIA...</Message></Error>";
        assert_eq!(code(body).as_deref(), Some("AccessDenied"));
        assert_eq!(code("<Code>a b</Code>"), None);
        assert_eq!(code("no"), None);
    }
}
