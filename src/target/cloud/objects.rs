//! Files in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! An object is written with "create only", so two nodes that send the same file at once cannot harm each other. Where parts are put
//! together the stores know no such condition; there the key is the hash of the content, so what is written over is the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{BackoffConfig, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig};
use secrecy::{ExposeSecret, SecretString};

use super::bucket_client::{BucketClient, answer};
use super::pace::Pace;
use super::{Archive, Begun, CloudError, Content, FileArchive, FileName, FileStore, http};

/// A bucket, and how it is reached.
#[derive(Clone, Debug)]
pub struct BucketOptions {
    pub kind: BucketKind,
    pub bucket: String,
    /// Before all keys; empty for none.
    pub prefix: String,
    /// Instead of the provider's own address.
    pub endpoint: Option<String>,
    /// What addresses of files begin with, in place of `s3://bucket/prefix`.
    pub public: Option<String>,
    /// Where the key comes from, for messages: never the key.
    pub key_name: String,
    /// Authorities (PEM) that may have signed its certificate, instead of the system's.
    pub authority: Option<PathBuf>,
    /// For an answer to a request without a file.
    pub within: Duration,
}

/// Whose protocol it speaks.
#[derive(Clone, Debug)]
pub enum BucketKind {
    S3 {
        region: String,
        key_id: SecretString,
        key: SecretString,
    },
    /// `key` is the JSON of a service account.
    Gcs {
        key: SecretString,
    },
    Azure {
        account: String,
        key: SecretString,
    },
}

impl BucketKind {
    /// As in the addresses of a configuration.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "s3",
            Self::Gcs { .. } => "gs",
            Self::Azure { .. } => "az",
        }
    }
}

trait Bucket: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Bucket for T {}

/// Keeps files as objects `<prefix>/<kind>/<hash>`.
pub struct ObjectFiles {
    bucket: Arc<dyn Bucket>,
    options: BucketOptions,
    place: String,
    pace: Arc<Pace>,
}

impl ObjectFiles {
    /// Connects to nothing yet.
    pub fn new(options: BucketOptions, part_bytes: u64, pace: Arc<Pace>) -> Result<Self, CloudError> {
        let wrong = |error: &dyn std::fmt::Display| CloudError::Address { reason: error.to_string() };
        let http = http::client(options.authority.as_ref())?
            .timeout(options.within + pace.patience(part_bytes))
            .build()
            .map_err(|error| wrong(&error))?;
        let http = BucketClient(http);
        // Whoever sends tries again for ever, and tells people about it; trying again below that would only hide it.
        let retry = RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(60), backoff: BackoffConfig::default() };
        let bucket: Arc<dyn Bucket> = match &options.kind {
            BucketKind::S3 { region, key_id, key } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&options.bucket)
                    .with_region(region)
                    .with_access_key_id(key_id.expose_secret())
                    .with_secret_access_key(key.expose_secret())
                    .with_allow_http(true)
                    .with_http_connector(http)
                    .with_retry(retry);
                if let Some(endpoint) = &options.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                Arc::new(builder.build().map_err(|error| wrong(&error))?)
            }
            BucketKind::Gcs { key } => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(&options.bucket)
                    .with_service_account_key(key.expose_secret())
                    .with_http_connector(http)
                    .with_retry(retry);
                if let Some(endpoint) = &options.endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                // What it says of a key it cannot read may hold some of it.
                let wrong = |_| wrong(&"the service account's key is no such JSON");
                Arc::new(builder.build().map_err(wrong)?)
            }
            BucketKind::Azure { account, key } => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_container_name(&options.bucket)
                    .with_account(account)
                    .with_access_key(key.expose_secret())
                    .with_allow_http(true)
                    .with_http_connector(http)
                    .with_retry(retry);
                if let Some(endpoint) = &options.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let wrong = |_| wrong(&"the account's key is none");
                Arc::new(builder.build().map_err(wrong)?)
            }
        };
        Ok(Self::over(bucket, options, pace))
    }

    fn over(bucket: Arc<dyn Bucket>, options: BucketOptions, pace: Arc<Pace>) -> Self {
        let mut place = format!("{}://{}", options.kind.scheme(), options.bucket);
        if !options.prefix.is_empty() {
            place = format!("{place}/{}", options.prefix);
        }
        Self { bucket, options, place, pace }
    }

    fn path(&self, file: &FileName) -> Path {
        Path::from(format!("{}/{}/{}", self.options.prefix, file.kind, file.hash))
    }

    fn url(&self, file: &FileName) -> String {
        let base = self.options.public.as_deref().unwrap_or(&self.place).trim_end_matches('/');
        format!("{base}/{}/{}", file.kind, file.hash)
    }

    async fn is_there(&self, file: &FileName) -> Result<bool, CloudError> {
        match self.bucket.head(&self.path(file)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.fault(&error, 0)),
        }
    }

    fn fault(&self, error: &Error, bytes: usize) -> CloudError {
        let place = self.place.clone();
        let answer = answer(error);
        let reason = answer.map_or_else(|| http::deepest(error), ToString::to_string);
        let Some(answer) = answer else {
            return match error {
                Error::NotFound { .. } => CloudError::NoSuch { place, path: "such object or upload".into() },
                Error::AlreadyExists { .. } | Error::Precondition { .. } => CloudError::Conflict { place, reason },
                Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                    CloudError::Refused { place, reason }
                }
                _ => CloudError::Unreachable { place, reason },
            };
        };
        let says = |words: &[&str]| {
            let code = answer.code.as_deref().unwrap_or_default().to_ascii_lowercase();
            words.iter().any(|word| code.contains(word))
        };
        match answer.status {
            // Who keeps buckets full has no status of its own for it.
            _ if says(&["quota", "storagefull", "insufficientstorage"]) => CloudError::Quota { place, reason },
            400 if says(&["entitytoolarge", "requestbodytoolarge"]) => CloudError::TooLarge { place, bytes },
            404 => CloudError::Address { reason: format!("there is no bucket for {place}") },
            401 | 403 => CloudError::Denied { place, key: self.options.key_name.clone(), reason },
            413 => CloudError::TooLarge { place, bytes },
            507 => CloudError::Quota { place, reason },
            429 | 503 => CloudError::Busy { place, reason, wait: answer.wait },
            300..=399 => CloudError::Unreachable { place, reason: format!("{reason}; redirects are not followed") },
            408 => CloudError::Failing { place, reason },
            400..=499 => CloudError::Refused { place, reason },
            _ => CloudError::Failing { place, reason },
        }
    }
}

#[async_trait]
impl Archive for ObjectFiles {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, CloudError> {
        let (path, length) = (Path::from(format!("{}/{key}", self.options.prefix)), bytes.len());
        self.pace.take(length).await;
        match self.bucket.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.fault(&error, length)),
        }
    }
}

#[async_trait]
impl FileArchive for ObjectFiles {
    async fn read(&self, kind: &str, hash: &str, from: u64, bytes: usize) -> Result<Option<Bytes>, CloudError> {
        let file = FileName { kind: kind.into(), name: String::new(), hash: hash.into(), size: 0, part_bytes: 1 };
        let size = match self.bucket.head(&self.path(&file)).await {
            Ok(found) => found.size,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault(&error, 0)),
        };
        let until = size.min(from.saturating_add(bytes as u64));
        if from >= until {
            return Ok(Some(Bytes::new()));
        }
        self.bucket.get_range(&self.path(&file), from..until).await.map(Some).map_err(|error| self.fault(&error, 0))
    }
}

#[async_trait]
impl FileStore for ObjectFiles {
    fn place(&self) -> &str {
        &self.place
    }

    async fn put(&self, file: &FileName, content: Arc<dyn Content>) -> Result<String, CloudError> {
        if self.is_there(file).await? {
            return Ok(self.url(file));
        }
        // One part, or, where somebody puts a larger file whole, all of them.
        let mut whole = BytesMut::new();
        for number in 0..file.parts() {
            whole.extend_from_slice(&content.part(number).await?);
        }
        let bytes = whole.len();
        self.pace.take(bytes).await;
        let put = self.bucket.put_opts(&self.path(file), PutPayload::from(whole.freeze()), PutMode::Create.into()).await;
        match put {
            Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(self.url(file)),
            Err(error) => Err(self.fault(&error, bytes)),
        }
    }

    async fn begin(&self, file: &FileName) -> Result<Begun, CloudError> {
        if self.is_there(file).await? {
            return Ok(Begun::There(self.url(file)));
        }
        let begun = self.bucket.create_multipart(&self.path(file)).await;
        begun.map(Begun::Parts).map_err(|error| self.fault(&error, 0))
    }

    async fn part(&self, file: &FileName, upload: &str, number: u32, bytes: Bytes) -> Result<String, CloudError> {
        let length = bytes.len();
        self.pace.take(length).await;
        let put = self.bucket.put_part(&self.path(file), &upload.to_owned(), number as usize, bytes.into()).await;
        put.map(|part| part.content_id).map_err(|error| self.fault(&error, length))
    }

    async fn finish(&self, file: &FileName, upload: &str, tags: &[String]) -> Result<String, CloudError> {
        let parts = tags.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        match self.bucket.complete_multipart(&self.path(file), &upload.to_owned(), parts).await {
            Ok(_) => Ok(self.url(file)),
            Err(error) => Err(self.fault(&error, 0)),
        }
    }

    async fn abort(&self, file: &FileName, upload: &str) -> Result<(), CloudError> {
        match self.bucket.abort_multipart(&self.path(file), &upload.to_owned()).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault(&error, 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::target::cloud::ContentError;

    struct Text(&'static [u8]);

    #[async_trait]
    impl Content for Text {
        async fn part(&self, number: u32) -> Result<Bytes, ContentError> {
            Ok(Bytes::from_static(self.0.chunks(4).nth(number as usize).unwrap_or_default()))
        }
    }

    fn files(bucket: Arc<InMemory>) -> ObjectFiles {
        let key = || SecretString::from("k");
        let kind = BucketKind::S3 { region: "us-east-1".into(), key_id: key(), key: key() };
        let options = BucketOptions {
            kind,
            bucket: "pictures".into(),
            prefix: "campus/a".into(),
            endpoint: None,
            public: None,
            key_name: "K".into(),
            authority: None,
            within: Duration::from_secs(1),
        };
        ObjectFiles::over(bucket, options, Arc::new(Pace::new(None)))
    }

    fn name(size: u64) -> FileName {
        FileName { kind: "images".into(), name: "a.jpg".into(), hash: "ab12".into(), size, part_bytes: 4 }
    }

    #[tokio::test]
    async fn a_file_is_created_once_under_its_hash_whole_or_in_parts() {
        let bucket = Arc::new(InMemory::new());
        let files = files(bucket.clone());
        assert_eq!(files.put(&name(6), Arc::new(Text(b"abcdef"))).await.unwrap(), "s3://pictures/campus/a/images/ab12");
        // What is there is not written over.
        files.put(&name(6), Arc::new(Text(b"others"))).await.unwrap();
        let there = bucket.get(&Path::from("campus/a/images/ab12")).await.unwrap().bytes().await.unwrap();
        assert_eq!(there.as_ref(), b"abcdef");
        assert!(matches!(files.begin(&name(6)).await.unwrap(), Begun::There(_)));
        let other = FileName { hash: "cd34".into(), ..name(6) };
        let Begun::Parts(upload) = files.begin(&other).await.unwrap() else { panic!("it is not there") };
        let mut tags = Vec::new();
        for (number, part) in [&b"abcd"[..], b"ef"].into_iter().enumerate() {
            tags.push(files.part(&other, &upload, number as u32, part.into()).await.unwrap());
        }
        files.finish(&other, &upload, &tags).await.unwrap();
        let read = async |from, bytes| files.read("images", "cd34", from, bytes).await.unwrap();
        assert_eq!(read(0, 9).await.as_deref(), Some(&b"abcdef"[..]));
        assert_eq!((read(4, 9).await.as_deref(), read(6, 9).await.as_deref()), (Some(&b"ef"[..]), Some(&b""[..])));
        assert_eq!(files.read("images", "ef56", 0, 9).await.unwrap(), None);
    }
}
