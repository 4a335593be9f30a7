//! `files` of `[cloud.NAME]`: where files lie that rows name, which of them are sent, and where to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cloud::FileOptions;
use crate::runtime::Stop;
use crate::target::cloud::{BucketKind, BucketOptions};
use secrecy::SecretString;

use super::check::{required, secret};
use super::section::{Section, show_bytes, show_duration};
use super::{Config, ConfigFault, SecretSource, TopicUrl};

/// Files of a cloud as the file describes them, checked.
#[derive(Clone, Debug)]
pub struct Files {
    pub options: FileOptions,
    pub store: Store,
}

/// Where files go.
#[derive(Clone, Debug)]
pub enum Store {
    /// Through the cloud's API.
    Api,
    Folder {
        root: PathBuf,
        public: Option<String>,
    },
    Bucket(Box<Bucket>),
}

/// A bucket as the file describes it.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub account: Account,
    pub bucket: String,
    pub prefix: String,
    pub endpoint: Option<TopicUrl>,
    pub public: Option<String>,
    pub key: SecretSource,
    pub ca: Option<PathBuf>,
    /// For an answer to a request without a file.
    pub within: Duration,
}

/// Whose bucket it is.
#[derive(Clone, Debug)]
pub enum Account {
    S3 { region: String, key_id: SecretSource },
    Gcs,
    Azure { account: String },
}

/// Where a node's files go, with the secrets for it.
#[derive(Clone, Debug)]
pub enum StoreChoice {
    Api,
    Folder { root: PathBuf, public: Option<String> },
    Bucket(Box<BucketOptions>),
}

/// Files are read in parts, of which a store takes 10,000 at most.
const SIZE_MAX: u64 = 64 << 30;

/// What addresses of stores look like.
pub const STORES: &str = "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a folder";

pub(super) fn files(mut section: Section, folder: &Path) -> Option<Files> {
    if !section.is_present() {
        return None;
    }
    let root = required(&mut section, "root", "root = \"/var/www/uploads\"");
    let mut options = FileOptions::new(PathBuf::new());
    options.size_max = section.bytes("size_max", 1..=SIZE_MAX).unwrap_or(options.size_max);
    options.skip = section.texts("skip").into_iter().flat_map(|list| list.value).map(|spot| spot.value).collect();
    options.pause = section.duration("pause", Duration::ZERO..=Duration::from_secs(3_600)).unwrap_or(options.pause);
    let store = if section.has("store") { store(section.section("store"), folder) } else { Some(Store::Api) };
    section.finish();
    options.root = folder.join(root?.value);
    Some(Files { options, store: store? })
}

/// Where the address of a store leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreUrl<'a> {
    Folder(&'a str),
    Bucket { scheme: Scheme, bucket: &'a str, prefix: &'a str },
}

/// Whose protocol a bucket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    S3,
    Gcs,
    Azure,
}

/// Of S3, where nothing is said.
pub const REGION: &str = "us-east-1";

impl<'a> StoreUrl<'a> {
    /// What is wrong with it, otherwise.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Folder(text)) };
        let scheme = match scheme {
            "file" => return Ok(Self::Folder(rest)),
            "s3" => Scheme::S3,
            "gs" => Scheme::Gcs,
            "az" => Scheme::Azure,
            other => return Err(format!("cannot begin with \"{other}://\"")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        if bucket.is_empty() || !is_word(rest) || rest.contains("..") {
            return Err("names no bucket".into());
        }
        Ok(Self::Bucket { scheme, bucket, prefix: prefix.trim_matches('/') })
    }
}

/// The address of a store that is not the provider's own: the rule that it breaks and the fix, otherwise. `fix` is that of one that
/// would not encrypt.
pub fn endpoint_of<'a>(text: &str, allow_http: bool, fix: &'a str) -> Result<TopicUrl, (String, &'a str)> {
    let url = TopicUrl::parse(text).map_err(|(rule, _)| (rule, "write it as \"https://minio.example:9000\""))?;
    if url.encrypted || url.is_loopback() || allow_http {
        return Ok(url);
    }
    Err(("would send files unencrypted".into(), fix))
}

pub(super) fn store(mut section: Section, folder: &Path) -> Option<Store> {
    let spot = required(&mut section, "url", "url = \"s3://bucket/campus\"")?;
    let public = section.text("public").map(|spot| spot.value);
    let (scheme, bucket, prefix) = match StoreUrl::parse(&spot.value) {
        Ok(StoreUrl::Folder(path)) => {
            section.finish();
            return Some(Store::Folder { root: folder.join(path), public });
        }
        Ok(StoreUrl::Bucket { scheme, bucket, prefix }) => (scheme, bucket, prefix),
        Err(rule) => {
            section.refuse(&spot.place, "url", &rule, STORES);
            return None;
        }
    };
    let endpoint = section.text("endpoint");
    let allow_http = section.flag("allow_http").is_some_and(|spot| spot.value);
    let endpoint = endpoint.and_then(|spot| {
        let fix = "use https://, or write allow_http = true in this `store` where the network itself is encrypted";
        let wrong = |(rule, fix): (String, &str)| section.refuse(&spot.place, "endpoint", &rule, fix);
        endpoint_of(&spot.value, allow_http, fix).map_err(wrong).ok()
    });
    let account = match scheme {
        Scheme::S3 => {
            let region = section.text("region").map_or_else(|| REGION.into(), |spot| spot.value);
            let example = "key_id_env = \"AWS_ACCESS_KEY_ID\"";
            secret(&mut section, folder, ["key_id_env", "key_id_file"], example).map(|key_id| Account::S3 { region, key_id })
        }
        Scheme::Gcs => Some(Account::Gcs),
        Scheme::Azure => {
            required(&mut section, "account", "account = \"campus\"").map(|spot| Account::Azure { account: spot.value })
        }
    };
    let key = secret(&mut section, folder, ["key_env", "key_file"], "key_env = \"CLOUD_STORE_KEY\"");
    let ca = section.text("ca").map(|spot| folder.join(spot.value));
    let within = section.duration("within", Duration::from_secs(1)..=Duration::from_secs(3_600));
    section.finish();
    Some(Store::Bucket(Box::new(Bucket {
        account: account?,
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint,
        public,
        key: key?,
        ca,
        within: within.unwrap_or(Duration::from_secs(30)),
    })))
}

impl Config {
    /// The store with its secrets, looked for now. `path` is that of the `store` section.
    pub(super) fn store_choice(&self, store: &Store, path: &str, faults: &mut Vec<ConfigFault>) -> Option<StoreChoice> {
        let bucket = match store {
            Store::Api => return Some(StoreChoice::Api),
            Store::Folder { root, public } => {
                return Some(StoreChoice::Folder { root: root.clone(), public: public.clone() });
            }
            Store::Bucket(bucket) => bucket,
        };
        let key = self.resolve(&bucket.key, &format!("{path}.key"), faults);
        let key_id = match &bucket.account {
            Account::S3 { key_id, .. } => Some(self.resolve(key_id, &format!("{path}.key_id"), faults)?),
            Account::Gcs | Account::Azure { .. } => None,
        };
        Some(StoreChoice::Bucket(Box::new(bucket.with(key?, key_id))))
    }
}

impl Bucket {
    /// With its secrets, from this process's environment or their files: for commands that need no configuration.
    pub fn options(&self) -> Result<BucketOptions, Stop> {
        let key_id = match &self.account {
            Account::S3 { key_id, .. } => Some(key_id.read()?),
            Account::Gcs | Account::Azure { .. } => None,
        };
        Ok(self.with(self.key.read()?, key_id))
    }

    /// `key_id` is that of S3.
    fn with(&self, key: SecretString, key_id: Option<SecretString>) -> BucketOptions {
        let kind = match &self.account {
            Account::S3 { region, .. } => BucketKind::S3 { region: region.clone(), key_id: key_id.unwrap_or_default(), key },
            Account::Gcs => BucketKind::Gcs { key },
            Account::Azure { account } => BucketKind::Azure { account: account.clone(), key },
        };
        BucketOptions {
            kind,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            endpoint: self.endpoint.as_ref().map(|url| url.text.clone()),
            public: self.public.clone(),
            key_name: self.key.to_string(),
            authority: self.ca.clone(),
            within: self.within,
        }
    }
}

/// The value of `files`, defaults filled in.
pub(super) fn show(files: &Files, quote: &dyn Fn(&str) -> String, secret: &dyn Fn(&str, &SecretSource) -> String) -> String {
    let FileOptions { root, size_max, skip, pause, .. } = &files.options;
    let skip: Vec<String> = skip.iter().map(|name| quote(name)).collect();
    let mut inner = vec![
        format!("root = {}", quote(&root.display().to_string())),
        format!("size_max = {}", quote(&show_bytes(*size_max))),
        format!("skip = [{}]", skip.join(", ")),
        format!("pause = {}", quote(&show_duration(*pause))),
    ];
    let store = show_store(&files.store, quote, secret);
    inner.extend(store.map(|store| format!("store = {store}")));
    format!("{{ {} }}", inner.join(", "))
}

/// The value of a store; nothing where it is the cloud's own API.
pub(super) fn show_store(
    store: &Store,
    quote: &dyn Fn(&str) -> String,
    secret: &dyn Fn(&str, &SecretSource) -> String,
) -> Option<String> {
    let of = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key} = {}", quote(value)));
    let lines: Vec<String> = match store {
        Store::Api => return None,
        Store::Folder { root, public } => {
            let url = format!("url = {}", quote(&root.display().to_string()));
            [Some(url), of("public", public)].into_iter().flatten().collect()
        }
        Store::Bucket(bucket) => {
            let (scheme, account) = match &bucket.account {
                Account::S3 { region, key_id } => ("s3", vec![format!("region = {}", quote(region)), secret("key_id", key_id)]),
                Account::Gcs => ("gs", Vec::new()),
                Account::Azure { account } => ("az", vec![format!("account = {}", quote(account))]),
            };
            let slash = if bucket.prefix.is_empty() { "" } else { "/" };
            let mut lines = vec![format!("url = {}", quote(&format!("{scheme}://{}{slash}{}", bucket.bucket, bucket.prefix)))];
            lines.extend(account);
            lines.push(secret("key", &bucket.key));
            lines.extend(of("endpoint", &bucket.endpoint.as_ref().map(|url| url.text.clone())));
            lines.extend(bucket.endpoint.as_ref().filter(|url| !url.encrypted).map(|_| "allow_http = true".into()));
            lines.extend(of("public", &bucket.public));
            lines.extend(of("ca", &bucket.ca.as_ref().map(|file| file.display().to_string())));
            lines.push(format!("within = {}", quote(&show_duration(bucket.within))));
            lines
        }
    };
    Some(format!("{{ {} }}", lines.join(", ")))
}
