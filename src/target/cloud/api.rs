//! A cloud behind HTTP, and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::pace::{Pace, SLICE_BYTES};
use super::{Begun, Cloud, CloudError, Content, FileName, FileStore, IdQuestion, http};
use crate::change::cloud::{BatchAnswer, CloudBatch, CloudRow, IdPage};
use crate::runtime::{Clock as _, SystemClock};

/// How a cloud's API is reached.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Up to and with `/api`.
    pub url: String,
    pub key: SecretString,
    /// Where the key comes from, for messages: never the key.
    pub key_name: String,
    /// For a whole answer to a request without a file.
    pub within: Duration,
    /// Authorities (PEM) that may have signed its certificate, instead of the system's.
    pub authority: Option<std::path::PathBuf>,
}

/// A page of ids, or the results of a batch.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Of what a cloud says about a failure; it goes into messages.
const REASON_CHARS: usize = 200;

pub struct CloudApi {
    http: reqwest::Client,
    base: Url,
    options: ApiOptions,
    place: String,
    pace: Arc<Pace>,
}

impl CloudApi {
    pub fn new(options: ApiOptions, pace: Arc<Pace>) -> Result<Self, CloudError> {
        let wrong = |reason: &dyn std::fmt::Display| CloudError::Address { reason: reason.to_string() };
        let base = Url::parse(&options.url).map_err(|error| wrong(&error))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || !base.username().is_empty() {
            return Err(wrong(&"it must be http:// or https:// and a host, without a user"));
        }
        let http = http::client(options.authority.as_ref())?.build().map_err(|error| wrong(&error))?;
        let place = base.origin().ascii_serialization();
        Ok(Self { http, base, options, place, pace })
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Encodes what has a meaning in a path, so a resource may have any name.
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().extend(path);
        self.http.request(method, url).bearer_auth(self.options.key.expose_secret()).timeout(self.options.within)
    }

    /// Sends, and reads the whole answer; an error for every status but success, and for an answer that says failure all the same. `bytes`
    /// is what the request weighs.
    async fn ask(&self, request: RequestBuilder, path: &str, bytes: usize) -> Result<Value, CloudError> {
        let body = self.taken(request, path, bytes).await?;
        self.understood(&body, path, bytes)
    }

    /// Sends, and reads the whole answer; an error for every status but success.
    async fn taken(&self, request: RequestBuilder, path: &str, bytes: usize) -> Result<Bytes, CloudError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let wait = retry_after(&response);
        let body = self.body(response).await;
        if !status.is_success() {
            // A refusal may come before all was sent, and its text may be lost with the connection; the status tells enough.
            return Err(self.refusal(status, wait, &body.unwrap_or_default(), path, bytes));
        }
        body
    }

    fn understood(&self, body: &[u8], path: &str, bytes: usize) -> Result<Value, CloudError> {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let answer: Value = serde_json::from_slice(body).map_err(|_| self.not_the_api("its answer is not JSON"))?;
        match said_failure(&answer) {
            Some(reason) => Err(self.refusal(StatusCode::UNPROCESSABLE_ENTITY, None, reason.as_bytes(), path, bytes)),
            None => Ok(answer),
        }
    }

    /// The whole body, up to a limit, whatever its length is said to be.
    async fn body(&self, mut response: Response) -> Result<Bytes, CloudError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.not_the_api(&format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn refusal(&self, status: StatusCode, wait: Option<Duration>, body: &[u8], path: &str, bytes: usize) -> CloudError {
        let place = self.place.clone();
        let said = reason(body);
        let reason = if said.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {said}") };
        let full = said.to_ascii_lowercase().contains("quota") || said.to_ascii_lowercase().contains("storage limit");
        match status.as_u16() {
            401 => CloudError::Denied { place, key: self.options.key_name.clone(), reason },
            402 | 507 => CloudError::Quota { place, reason },
            403 | 413 | 422 if full => CloudError::Quota { place, reason },
            403 => CloudError::Denied { place, key: self.options.key_name.clone(), reason },
            404 | 405 => CloudError::NoSuch { place, path: format!("/{path}") },
            409 => CloudError::Conflict { place, reason },
            413 => CloudError::TooLarge { place, bytes },
            408 | 425 => CloudError::Failing { place, reason },
            429 | 503 => CloudError::Busy { place, reason, wait },
            300..=399 => CloudError::Unreachable { place, reason: format!("{reason}; redirects are not followed") },
            400..=499 => CloudError::Refused { place, reason },
            _ => CloudError::Failing { place, reason },
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CloudError {
        // Without the address, which is said already, and with the cause, which reqwest keeps to itself.
        let reason = match std::error::Error::source(error) {
            _ if error.is_timeout() => format!("no answer within {} s", self.options.within.as_secs()),
            Some(cause) => http::deepest(cause),
            None => "the connection broke".into(),
        };
        CloudError::Unreachable { place: self.place.clone(), reason }
    }

    fn not_the_api(&self, reason: &str) -> CloudError {
        CloudError::Unreachable { place: self.place.clone(), reason: format!("what answers there is not this API: {reason}") }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    http::wait_of(|name| response.headers().get(name)?.to_str().ok(), || SystemClock.now_seconds())
}

/// Why a body says failure although the status says success.
fn said_failure(answer: &Value) -> Option<String> {
    let object = answer.as_object()?;
    // A batch answers `success: false` where any row was refused, and says which.
    if object.get("results").is_some_and(Value::is_array) {
        return None;
    }
    let failed = object.get("success") == Some(&Value::Bool(false))
        || object.get("ok") == Some(&Value::Bool(false))
        || matches!(object.get("status").and_then(Value::as_str), Some("error" | "failed" | "failure"))
        || object.get("error").is_some_and(|error| !error.is_null() && error != &Value::Bool(false) && error != "");
    failed.then(|| serde_json::to_string(answer).unwrap_or_default())
}

/// What a body says of a failure, in a line.
fn reason(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let text = match &parsed {
        Some(Value::Object(object)) => {
            let said = ["error", "message", "detail", "code"].iter().find_map(|name| match object.get(*name)? {
                Value::String(text) => Some(text.clone()),
                Value::Object(inner) => inner.get("message").and_then(Value::as_str).map(str::to_owned),
                _ => None,
            });
            said.unwrap_or_else(|| "without a reason".into())
        }
        // Pages of proxies say nothing that helps.
        _ => String::new(),
    };
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(REASON_CHARS).collect()
}

#[async_trait]
impl Cloud for CloudApi {
    async fn push(&self, batch: &CloudBatch) -> Result<BatchAnswer, CloudError> {
        let body = serde_json::to_vec(batch).expect("names, texts and numbers are JSON");
        let bytes = body.len();
        self.pace.take(bytes).await;
        let request = self
            .request(Method::POST, &["batch"])
            .timeout(self.options.within + self.pace.patience(bytes as u64))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", &batch.batch)
            .body(body);
        let answer = self.ask(request, "batch", bytes).await?;
        let answer: BatchAnswer =
            serde_json::from_value(answer).map_err(|_| self.not_the_api("its answer has no results of rows"))?;
        if answer.results.len() != batch.rows.len() {
            let (sent, answered) = (batch.rows.len(), answer.results.len());
            return Err(self.not_the_api(&format!("it answered for {answered} rows of {sent}")));
        }
        Ok(answer)
    }

    async fn ids(&self, question: &IdQuestion<'_>) -> Result<IdPage, CloudError> {
        let mut query = vec![("limit", question.limit.to_string())];
        query.extend(question.days.map(|days| ("days", days.to_string())));
        query.extend(question.after.map(|after| ("after", after.to_owned())));
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().push(question.resource);
        url.query_pairs_mut().extend_pairs(query);
        let request = self.http.get(url).bearer_auth(self.options.key.expose_secret()).timeout(self.options.within);
        let body = self.taken(request, question.resource, 0).await?;
        if let Some(page) = IdPage::read_plain(&body) {
            return Ok(page);
        }
        let answer = self.understood(&body, question.resource, 0)?;
        IdPage::read(&answer, question.resource, question.id_field)
            .ok_or_else(|| self.not_the_api(&format!("its answer for {} is no list of ids", question.resource)))
    }

    async fn look(&self) -> Result<(), CloudError> {
        self.ask(self.request(Method::GET, &["sync-status"]), "sync-status", 0).await.map(drop)
    }

    async fn create(&self, row: &CloudRow) -> Result<bool, CloudError> {
        let body = serde_json::to_vec(&row.row).expect("names, texts and numbers are JSON");
        let (resource, bytes) = (row.resource.as_str(), body.len());
        let mut request = self
            .request(Method::POST, &[resource])
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", &row.key)
            .body(body);
        // For a cloud to which the row itself does not tell its id; what is no text of a header is left to the row.
        if let Ok(id) = reqwest::header::HeaderValue::from_str(&row.id) {
            request = request.header("tandem-id", id);
        }
        match self.ask(request, resource, bytes).await {
            Ok(_) => Ok(true),
            // It is there: that is what was wanted.
            Err(CloudError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The content as it is to arrive, held to the pace.
fn paced(
    file: &FileName,
    content: Arc<dyn Content>,
    pace: Arc<Pace>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    stream::iter(0..file.parts())
        .then(move |number| {
            let content = content.clone();
            async move { content.part(number).await.map_err(std::io::Error::other) }
        })
        .flat_map(|part| match part {
            Ok(bytes) => slices(bytes).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        })
        .then(move |slice| {
            let pace = pace.clone();
            async move {
                if let Ok(bytes) = &slice {
                    pace.take(bytes.len()).await;
                }
                slice
            }
        })
}

fn slices(mut bytes: Bytes) -> impl Stream<Item = Bytes> {
    stream::iter(std::iter::from_fn(move || {
        let length = bytes.len().min(SLICE_BYTES);
        (length > 0).then(|| bytes.split_to(length))
    }))
}

/// Where the cloud has what it was sent.
fn address(answer: &Value) -> Option<String> {
    let of =
        |object: &Value| ["url", "path", "location"].iter().find_map(|name| object.get(*name)?.as_str().map(str::to_owned));
    of(answer).or_else(|| answer.get("data").and_then(of))
}

#[async_trait]
impl FileStore for CloudApi {
    fn place(&self) -> &str {
        ""
    }

    async fn put(&self, file: &FileName, content: Arc<dyn Content>) -> Result<String, CloudError> {
        // The hash is in no way known ahead to whoever made the file, so the boundary is not in it.
        let boundary = format!("tandem-{}", file.hash);
        // What ends a header or a quoted name would let a file's name write headers of its own.
        let name: String =
            file.name.chars().map(|letter| if letter.is_control() || "\"\\".contains(letter) { '_' } else { letter }).collect();
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let bytes = (head.len() + tail.len()) as u64 + file.size;
        let once = |text: String| stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let body = once(head).chain(paced(file, content, self.pace.clone())).chain(once(tail));
        let request = self
            .request(Method::POST, &["upload", &file.kind])
            .timeout(self.options.within + self.pace.patience(bytes))
            .header(reqwest::header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(reqwest::header::CONTENT_LENGTH, bytes)
            .header("idempotency-key", &file.hash)
            .header("tandem-blake3", &file.hash)
            .body(Body::wrap_stream(body));
        let answer = self.ask(request, &format!("upload/{}", file.kind), usize::try_from(bytes).unwrap_or(usize::MAX)).await?;
        address(&answer).ok_or_else(|| self.not_the_api("its answer to a file has no url"))
    }

    async fn begin(&self, file: &FileName) -> Result<Begun, CloudError> {
        let asked = json!({ "hash": file.hash, "size": file.size, "name": file.name, "part_bytes": file.part_bytes });
        let path = format!("upload/{}/parts", file.kind);
        let answer = match self.ask(self.request(Method::POST, &["upload", &file.kind, "parts"]).json(&asked), &path, 0).await {
            Ok(answer) => answer,
            // A cloud that knows files, but not in parts.
            Err(CloudError::NoSuch { .. }) => return Ok(Begun::Whole),
            Err(error) => return Err(error),
        };
        let upload = answer.get("upload").and_then(Value::as_str).map(|upload| Begun::Parts(upload.to_owned()));
        let begun = upload.or_else(|| address(&answer).map(Begun::There));
        begun.ok_or_else(|| self.not_the_api("its answer has neither an upload nor a url"))
    }

    async fn part(&self, file: &FileName, upload: &str, number: u32, bytes: Bytes) -> Result<String, CloudError> {
        let (length, hash) = (bytes.len(), blake3::hash(&bytes).to_hex().to_string());
        let pace = self.pace.clone();
        let slices = slices(bytes).then(move |slice| {
            let pace = pace.clone();
            async move {
                pace.take(slice.len()).await;
                Ok::<_, std::io::Error>(slice)
            }
        });
        let request = self
            .request(Method::PUT, &["upload", &file.kind, "parts", upload, &number.to_string()])
            .timeout(self.options.within + self.pace.patience(length as u64))
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .header(reqwest::header::CONTENT_LENGTH, length)
            .header("tandem-blake3", hash)
            .body(Body::wrap_stream(slices));
        let answer = self.ask(request, &format!("upload/{}/parts/{upload}", file.kind), length).await?;
        let tag = answer.get("part").and_then(Value::as_str).map(str::to_owned);
        tag.ok_or_else(|| self.not_the_api("its answer to a part has no `part`"))
    }

    async fn finish(&self, file: &FileName, upload: &str, tags: &[String]) -> Result<String, CloudError> {
        let asked = json!({ "hash": file.hash, "size": file.size, "parts": tags });
        // It may have to read all of it again to see that it is whole.
        let request = self
            .request(Method::POST, &["upload", &file.kind, "parts", upload])
            .timeout(self.options.within + self.pace.patience(file.size))
            .json(&asked);
        let answer = self.ask(request, &format!("upload/{}/parts/{upload}", file.kind), 0).await?;
        address(&answer).ok_or_else(|| self.not_the_api("its answer to a file has no url"))
    }

    async fn abort(&self, file: &FileName, upload: &str) -> Result<(), CloudError> {
        let request = self.request(Method::DELETE, &["upload", &file.kind, "parts", upload]);
        match self.ask(request, &format!("upload/{}/parts/{upload}", file.kind), 0).await {
            Ok(_) | Err(CloudError::NoSuch { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api() -> CloudApi {
        let options = ApiOptions {
            url: "http://127.0.0.1:9/api".into(),
            key: "k".into(),
            key_name: "the environment variable CLOUD_KEY".into(),
            within: Duration::from_secs(1),
            authority: None,
        };
        CloudApi::new(options, Arc::new(Pace::new(None))).unwrap()
    }

    #[test]
    fn every_status_has_its_meaning() {
        let check = |status: u16, body: &str, expected: &str| {
            let error = api().refusal(StatusCode::from_u16(status).unwrap(), None, body.as_bytes(), "batch", 7);
            let name = format!("{error:?}");
            assert!(name.starts_with(expected), "{status} {body}: {name}");
        };
        check(401, "", "Denied");
        check(403, r#"{"error":"no"}"#, "Denied");
        check(403, r#"{"error":"Storage quota exceeded"}"#, "Quota");
        check(507, "", "Quota");
        check(404, "<html>", "NoSuch");
        check(409, "", "Conflict");
        check(413, "", "TooLarge");
        check(429, "", "Busy");
        check(503, "", "Busy");
        check(500, "", "Failing");
        check(504, "", "Failing");
        check(400, r#"{"error":{"message":"bad date"}}"#, "Refused");
        check(302, "", "Unreachable");
    }

    #[test]
    fn a_success_that_says_failure_is_one() {
        for lie in [json!({"success": false}), json!({"status": "error"}), json!({"error": "x"}), json!({"ok": false})] {
            assert!(said_failure(&lie).is_some(), "{lie}");
        }
        for truth in [json!({"success": true, "error": null}), json!([]), json!({"success": false, "results": []}), json!(null)]
        {
            assert!(said_failure(&truth).is_none(), "{truth}");
        }
    }

    #[test]
    fn reasons_are_short_lines_and_never_pages() {
        assert_eq!(reason(b"<html>the whole page</html>"), "");
        assert_eq!(reason(br#"{"message":"too\nlong"}"#), "too long");
        assert_eq!(reason(format!(r#"{{"error":"{}"}}"#, "x".repeat(999)).as_bytes()).len(), REASON_CHARS);
    }
}
