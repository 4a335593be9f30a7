//! The clouds that a node feeds, looked over without sending anything: do they answer, is the key accepted, are files where they are said to be.

use std::path::Path;
use std::sync::Arc;

use super::doctor::failed;
use crate::config::{CloudFeed, Config, OwnNode, StoreChoice};
use crate::runtime::{Fault, Finding};
use crate::target::cloud::{Cloud as _, CloudApi, CloudError, FileArchive, FolderFiles, ObjectFiles, Pace};

/// The hash that no file has.
const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub async fn examine(config: &Config, own: &OwnNode) -> Vec<Finding> {
    let feeds = match config.cloud_feeds(own.name()) {
        Ok(feeds) => feeds,
        Err(faults) => return vec![failed("CLOUD-KEY", faults.into())],
    };
    let mut found = Vec::new();
    for feed in feeds {
        found.push(answers(&feed).await);
        found.extend(feed.options.files.as_ref().map(|files| root(&files.root)));
        for store in [Some(feed.store), feed.archive].into_iter().flatten() {
            found.extend(reached(store).await);
        }
    }
    found
}

async fn answers(feed: &CloudFeed) -> Finding {
    let name = &feed.options.name;
    let asked = async { CloudApi::new(feed.api.clone(), Arc::new(Pace::new(None)))?.look().await };
    match asked.await {
        Ok(()) => Finding::good("CLOUD", format!("the cloud {name} answers and accepts the key")),
        // Any service of that kind can be fed without it.
        Err(CloudError::NoSuch { .. }) => Finding::warn(
            "CLOUD",
            format!("the cloud {name} answers, and has no sync-status to ask: whether it accepts the key shows when it is fed"),
            "nothing, or mend `url` of its api where it should have one",
        ),
        Err(error @ (CloudError::Unreachable { .. } | CloudError::Failing { .. })) => {
            Finding::fail("CLOUD", error.to_string(), format!("start it, or mend `url` under [cloud.{name}]"))
        }
        Err(error @ CloudError::Busy { .. }) => Finding::warn("CLOUD", error.to_string(), "ask again in a while"),
        Err(error @ CloudError::Denied { .. }) => of(&error, "CLOUD-KEY"),
        Err(error) => of(&error, "CLOUD"),
    }
}

fn of(error: &CloudError, code: &'static str) -> Finding {
    Finding::fail(code, error.to_string(), error.hint().unwrap_or_else(|| "see docs/cloud.md".into()))
}

/// Files are read below it.
fn root(root: &Path) -> Finding {
    match std::fs::read_dir(root) {
        Ok(_) => Finding::good("CLOUD-FILES", format!("{} can be read", root.display())),
        Err(error) => Finding::fail(
            "CLOUD-FILES",
            format!("the folder of files {} cannot be read: {error}", root.display()),
            "mend `root` under `files`, or give the folder to the account that runs tandem",
        ),
    }
}

/// A store is asked for what nobody has.
async fn reached(store: StoreChoice) -> Option<Finding> {
    let pace = Arc::new(Pace::new(None));
    let place;
    let archive: Result<Box<dyn FileArchive>, CloudError> = match store {
        StoreChoice::Api => return None,
        StoreChoice::Folder { root, public } => {
            place = root.display().to_string();
            Ok(Box::new(FolderFiles::new(root, public, pace)))
        }
        StoreChoice::Bucket(options) => {
            place = format!("{}://{}", options.kind.scheme(), options.bucket);
            ObjectFiles::new(*options, 1, pace).map(|files| Box::new(files) as Box<dyn FileArchive>)
        }
    };
    let asked = async { archive?.read("doctor", NOBODYS, 0, 1).await };
    Some(match asked.await {
        Ok(_) => Finding::good("CLOUD-STORE", format!("{place} answers")),
        Err(error @ CloudError::Denied { .. }) => of(&error, "CLOUD-KEY"),
        Err(error) => of(&error, "CLOUD-STORE"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::change::OriginId;
    use crate::cloud::{CloudOptions, FileOptions};
    use crate::runtime::Level;
    use crate::target::cloud::ApiOptions;

    #[tokio::test]
    async fn a_cloud_that_is_not_there_and_a_folder_that_is_none_are_found() {
        let folder = tempfile::tempdir().unwrap();
        // A port that was just free, and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let api = ApiOptions {
            url: format!("http://127.0.0.1:{port}/api"),
            key: "a secret".into(),
            key_name: "the environment variable KEY".into(),
            within: Duration::from_secs(5),
            authority: None,
        };
        let mut options = CloudOptions::new("main", OriginId::new("a"));
        options.files = Some(FileOptions::new(folder.path()));
        let feed = CloudFeed { options, api, store: StoreChoice::Api, archive: None, bytes_per_second: None };
        let found = answers(&feed).await;
        assert_eq!((found.level, found.code), (Level::Fail, "CLOUD"));
        assert!(found.what.contains(&port.to_string()) && !format!("{found:?}").contains("a secret"), "{found:?}");
        assert_eq!(root(folder.path()).level, Level::Good);
        let none = root(&folder.path().join("none"));
        assert_eq!((none.level, none.code), (Level::Fail, "CLOUD-FILES"));
        let store = StoreChoice::Folder { root: folder.path().into(), public: None };
        assert_eq!(reached(store).await.map(|found| found.level), Some(Level::Good));
        assert_eq!(reached(StoreChoice::Api).await, None);
    }
}
