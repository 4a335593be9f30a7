//! Where `tandem cloud-server` keeps what comes: rows in a file or a MariaDB, files in a folder or a bucket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::config::{
    Account, Bucket, DatabaseAddress, REGION, STORES, Scheme, SecretSource, StoreChoice, StoreUrl, endpoint_of,
};
use crate::runtime::Stop;
use crate::wiring::{Authority, ReceiverDatabase};

#[derive(Args)]
#[command(next_help_heading = "Rows in a MariaDB")]
pub struct DatabaseArgs {
    /// Keep rows there and not in the data folder, in a schema of their own: mysql://user@host:3306/schema.
    #[arg(long, env = "TANDEM_CLOUD_DATABASE", value_name = "URL")]
    database: Option<String>,
    /// The environment variable that holds the password.
    #[arg(
        long,
        env = "TANDEM_CLOUD_PASSWORD_ENV",
        value_name = "NAME",
        requires = "database",
        conflicts_with = "password_file"
    )]
    password_env: Option<String>,
    /// The file that holds the password.
    #[arg(long, env = "TANDEM_CLOUD_PASSWORD_FILE", value_name = "FILE", requires = "database")]
    password_file: Option<PathBuf>,
    /// Encrypt the connection to it; its certificate must be good.
    #[arg(long, env = "TANDEM_CLOUD_DATABASE_TLS", requires = "database")]
    database_tls: bool,
    /// The authority that signed its certificate, as a PEM file. Implies --database-tls.
    #[arg(long, env = "TANDEM_CLOUD_DATABASE_CA", value_name = "FILE", requires = "database")]
    database_ca: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Files in a bucket")]
pub struct FilesArgs {
    /// Keep files there and not in the data folder: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a folder.
    #[arg(long, env = "TANDEM_CLOUD_FILES", value_name = "PLACE")]
    files: Option<String>,
    /// The environment variable that holds the key: S3's secret key, Azure's access key, the JSON of Google's service account.
    #[arg(
        long,
        env = "TANDEM_CLOUD_FILES_KEY_ENV",
        value_name = "NAME",
        requires = "files",
        conflicts_with = "files_key_file"
    )]
    files_key_env: Option<String>,
    /// The file that holds the key.
    #[arg(long, env = "TANDEM_CLOUD_FILES_KEY_FILE", value_name = "FILE", requires = "files")]
    files_key_file: Option<PathBuf>,
    /// The environment variable that holds the id of S3's key.
    #[arg(
        long,
        env = "TANDEM_CLOUD_FILES_KEY_ID_ENV",
        value_name = "NAME",
        requires = "files",
        conflicts_with = "files_key_id_file"
    )]
    files_key_id_env: Option<String>,
    /// The file that holds the id of S3's key.
    #[arg(long, env = "TANDEM_CLOUD_FILES_KEY_ID_FILE", value_name = "FILE", requires = "files")]
    files_key_id_file: Option<PathBuf>,
    /// Where the bucket is, at S3.
    #[arg(long, env = "TANDEM_CLOUD_FILES_REGION", value_name = "REGION", default_value = REGION)]
    files_region: String,
    /// Azure's storage account.
    #[arg(long, env = "TANDEM_CLOUD_FILES_ACCOUNT", value_name = "NAME", requires = "files")]
    files_account: Option<String>,
    /// The address of a store that is not the provider's own: https://minio.example:9000.
    #[arg(long, env = "TANDEM_CLOUD_FILES_ENDPOINT", value_name = "URL", requires = "files")]
    files_endpoint: Option<String>,
    /// An endpoint with http:// on another machine: only where the network itself is encrypted.
    #[arg(long, env = "TANDEM_CLOUD_FILES_ALLOW_HTTP", requires = "files_endpoint")]
    files_allow_http: bool,
    /// The authorities (PEM) that may have signed the endpoint's certificate, instead of the system's.
    #[arg(long, env = "TANDEM_CLOUD_FILES_CA", value_name = "FILE", requires = "files")]
    files_ca: Option<PathBuf>,
}

/// For a bucket's answer to a request without a file.
const BUCKET_WITHIN: Duration = Duration::from_secs(30);

fn source(variable: &Option<String>, file: &Option<PathBuf>) -> Option<SecretSource> {
    let variable = variable.clone().map(SecretSource::Variable);
    variable.or_else(|| file.clone().map(SecretSource::File))
}

impl DatabaseArgs {
    /// `None` where rows are kept in the data folder.
    pub fn choice(&self) -> Result<Option<ReceiverDatabase>, Stop> {
        let Some(text) = &self.database else { return Ok(None) };
        let address = DatabaseAddress::parse(text).map_err(|(rule, fix)| {
            let fix = fix.replace("`password_env` or `password_file`", "--password-env or --password-file");
            Stop::halt(format!("--database {rule}"), fix)
        })?;
        let password = source(&self.password_env, &self.password_file).map(|secret| secret.read()).transpose()?;
        let tls = match &self.database_ca {
            Some(file) => Some(Authority::File(file.clone())),
            None => self.database_tls.then_some(Authority::Known),
        };
        Ok(Some(ReceiverDatabase { address, password, tls }))
    }
}

impl FilesArgs {
    /// In `files` of the data folder, where nothing else is said.
    pub fn choice(&self, data: &Path) -> Result<StoreChoice, Stop> {
        let folder = |root: PathBuf| StoreChoice::Folder { root, public: None };
        let Some(text) = &self.files else { return Ok(folder(data.join("files"))) };
        let url = StoreUrl::parse(text).map_err(|rule| Stop::halt(format!("--files {rule}"), STORES))?;
        let (scheme, bucket, prefix) = match url {
            StoreUrl::Folder(path) => return Ok(folder(path.into())),
            StoreUrl::Bucket { scheme, bucket, prefix } => (scheme, bucket, prefix),
        };
        let missing = |what: &str, fix: &str| Stop::halt(format!("--files {text} needs {what}"), fix);
        let key = source(&self.files_key_env, &self.files_key_file)
            .ok_or_else(|| missing("a key", "name its place with --files-key-env or --files-key-file"))?;
        let account = match scheme {
            Scheme::S3 => {
                let fix = "name its place with --files-key-id-env or --files-key-id-file";
                let key_id = source(&self.files_key_id_env, &self.files_key_id_file);
                Account::S3 {
                    region: self.files_region.clone(),
                    key_id: key_id.ok_or_else(|| missing("the id of its key", fix))?,
                }
            }
            Scheme::Gcs => Account::Gcs,
            Scheme::Azure => {
                let account = self.files_account.clone();
                Account::Azure { account: account.ok_or_else(|| missing("a storage account", "name it with --files-account"))? }
            }
        };
        let endpoint = self.files_endpoint.as_deref().map(|text| {
            let fix = "use https://, or add --files-allow-http where the network itself is encrypted";
            let wrong = |(rule, fix): (String, &str)| Stop::halt(format!("--files-endpoint {rule}"), fix);
            endpoint_of(text, self.files_allow_http, fix).map_err(wrong)
        });
        let bucket = Bucket {
            account,
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: endpoint.transpose()?,
            public: None,
            key,
            ca: self.files_ca.clone(),
            within: BUCKET_WITHIN,
        };
        Ok(StoreChoice::Bucket(Box::new(bucket.options()?)))
    }
}
