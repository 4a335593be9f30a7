//! Brings one file to its store: whole where it is small, in parts where it is large, and what was begun is finished or taken back.

use std::sync::Arc;

use super::content::Survey;
use super::{CloudApplier, CloudFault, LedgerError};
use crate::runtime::Shutdown;
use crate::target::cloud::{Begun, CloudError, FileName};

/// An upload in parts that was begun. It is remembered before its first part goes, so that no crash leaves parts behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Where files of this kind go, see [`CloudApplier`]: the store and the kind.
    pub scope: String,
    pub kind: String,
    pub hash: String,
    pub part_bytes: u64,
    /// The store's name for it.
    pub upload: String,
    /// What the store answered for each part that it has.
    pub tags: Vec<String>,
}

/// KEEPS uploads that were begun. Part of the ledger.
pub trait UploadLedger {
    fn pending(&self, scope: &str, hash: &str) -> Result<Option<Pending>, LedgerError>;

    fn all_pending(&self) -> Result<Vec<Pending>, LedgerError>;

    fn keep_pending(&mut self, pending: &Pending) -> Result<(), LedgerError>;

    fn forget_pending(&mut self, scope: &str, hash: &str) -> Result<(), LedgerError>;
}

/// What became of it.
pub enum Transferred {
    /// The file's address.
    There(String),
    /// It is no longer what it was when it was read.
    Changed,
    Refused(String),
}

/// Beginnings of one upload, where the store forgets what was begun.
const BEGINNINGS: u32 = 3;

impl CloudApplier {
    pub(super) async fn transfer(
        &self,
        scope: &str,
        file: &FileName,
        content: &Survey,
        shutdown: &Shutdown,
    ) -> Result<Transferred, CloudFault> {
        let sent = if file.parts() > 1 {
            self.in_parts(scope, file, content, shutdown).await
        } else {
            self.whole(file, content, shutdown).await
        };
        match sent {
            Ok(url) => Ok(Transferred::There(url)),
            Err(_) if content.turned_out_changed() => {
                self.take_back(scope, file, shutdown).await?;
                Ok(Transferred::Changed)
            }
            Err(CloudFault::Cloud(
                error @ (CloudError::Refused { .. }
                | CloudError::TooLarge { .. }
                | CloudError::Conflict { .. }
                | CloudError::NoSuch { .. }),
            )) => {
                self.take_back(scope, file, shutdown).await?;
                Ok(Transferred::Refused(error.to_string()))
            }
            Err(fault) => Err(fault),
        }
    }

    async fn whole(&self, file: &FileName, content: &Survey, shutdown: &Shutdown) -> Result<String, CloudFault> {
        let sender = self.sender(shutdown);
        let changed = || content.turned_out_changed();
        let url = sender.until_taken(changed, || self.files.put(file, Arc::new(content.clone()))).await?;
        self.observer.cloud_file_sent(&self.options.name, file.size);
        Ok(url)
    }

    async fn in_parts(
        &self,
        scope: &str,
        file: &FileName,
        content: &Survey,
        shutdown: &Shutdown,
    ) -> Result<String, CloudFault> {
        let mut beginnings = 0;
        loop {
            let known = self.ledger().pending(scope, &file.hash)?;
            let pending = match known {
                Some(pending) if pending.part_bytes == file.part_bytes => pending,
                Some(_) => {
                    self.take_back(scope, file, shutdown).await?;
                    continue;
                }
                None => {
                    beginnings += 1;
                    match self.sender(shutdown).until_taken(|| false, || self.files.begin(file)).await? {
                        Begun::There(url) => return Ok(url),
                        Begun::Whole => return self.whole(file, content, shutdown).await,
                        Begun::Parts(upload) => {
                            let (scope, kind, hash) = (scope.into(), file.kind.clone(), file.hash.clone());
                            let pending = Pending { scope, kind, hash, part_bytes: file.part_bytes, upload, tags: Vec::new() };
                            self.ledger().keep_pending(&pending)?;
                            pending
                        }
                    }
                }
            };
            match self.go_on(pending, file, content, shutdown).await {
                // It forgot what was begun, perhaps because it is finished and the answer was lost.
                Err(CloudFault::Cloud(CloudError::NoSuch { .. })) if beginnings < BEGINNINGS => {
                    self.ledger().forget_pending(scope, &file.hash)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Sends the parts that the store does not have yet.
    async fn go_on(
        &self,
        mut pending: Pending,
        file: &FileName,
        content: &Survey,
        shutdown: &Shutdown,
    ) -> Result<String, CloudFault> {
        use crate::target::cloud::Content as _;
        let sender = self.sender(shutdown);
        for number in pending.tags.len() as u32..file.parts() {
            let bytes = content.part(number).await.map_err(CloudError::from)?;
            let length = bytes.len() as u64;
            let send = || self.files.part(file, &pending.upload, number, bytes.clone());
            let tag = sender.until_taken(|| false, send).await?;
            self.observer.cloud_file_sent(&self.options.name, length);
            pending.tags.push(tag);
            self.ledger().keep_pending(&pending)?;
        }
        let finish = || self.files.finish(file, &pending.upload, &pending.tags);
        let url = sender.until_taken(|| false, finish).await?;
        self.ledger().forget_pending(&pending.scope, &pending.hash)?;
        Ok(url)
    }

    /// Takes an upload back that will not be finished. Where the store cannot be asked now, it is remembered for later.
    async fn take_back(&self, scope: &str, file: &FileName, shutdown: &Shutdown) -> Result<(), CloudFault> {
        let Some(pending) = self.ledger().pending(scope, &file.hash)? else { return Ok(()) };
        self.abort(&pending, shutdown).await
    }

    /// Takes back what earlier runs began and nobody finished: files that changed or went while the node was off. To be called when
    /// everything that was to be sent is sent.
    pub(super) async fn abort_leftovers(&self, shutdown: &Shutdown) -> Result<(), CloudFault> {
        let all = self.ledger().all_pending()?;
        for pending in all.iter().filter(|pending| pending.scope == self.scope(&pending.kind)) {
            self.abort(pending, shutdown).await?;
        }
        Ok(())
    }

    async fn abort(&self, pending: &Pending, shutdown: &Shutdown) -> Result<(), CloudFault> {
        let file = FileName {
            kind: pending.kind.clone(),
            name: String::new(),
            hash: pending.hash.clone(),
            size: 0,
            part_bytes: pending.part_bytes,
        };
        let aborted = tokio::select! {
            aborted = self.files.abort(&file, &pending.upload) => aborted,
            () = shutdown.cancelled() => return Err(CloudFault::Ended),
        };
        match aborted {
            Ok(()) | Err(CloudError::NoSuch { .. }) => Ok(self.ledger().forget_pending(&pending.scope, &pending.hash)?),
            // The next run tries it again; nothing else waits for it.
            Err(_) => Ok(()),
        }
    }

    /// What files of this kind are remembered under: what one store has, another lacks.
    pub(super) fn scope(&self, kind: &str) -> String {
        match self.files.place() {
            "" => kind.to_owned(),
            place => format!("{place}/{kind}"),
        }
    }
}
