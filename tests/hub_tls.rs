//! The hub over TLS: who is believed to be the hub, and who is not.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tandem::change::{Offset, OriginId};
use tandem::runtime::{Disposition, Fault as _, Shutdown};
use tandem::serve::hub::{HubError, HubOptions, HubServer};
use tandem::serve::tls::TlsIdentity;
use tandem::topic::contract::record;
use tandem::topic::hub::{ClientOptions, Fingerprint, HubClient, HubReader, HubWriter, KeyHash, Trust};
use tandem::topic::{TopicError, TopicReader as _, TopicWriter as _};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const KEY: &str = "the key of laptop-a";

fn origin() -> OriginId {
    OriginId::new("laptop-a")
}

struct Hub {
    address: SocketAddr,
    fingerprint: Fingerprint,
    serving: JoinHandle<Result<(), HubError>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn hub(folder: &TempDir, tls: TlsIdentity) -> Hub {
    let store = tempfile::tempdir_in(folder.path()).unwrap().keep();
    let keys = vec![(origin(), KeyHash::of(&KEY.into()))];
    let options = HubOptions { tls: Some(tls), ..HubOptions::new(store, ([127, 0, 0, 1], 0).into(), keys) };
    let server = HubServer::open(options).await.unwrap();
    let (address, fingerprint) = (server.address(), server.fingerprint().expect("it encrypts"));
    Hub { address, fingerprint, serving: tokio::spawn(server.run(Shutdown::new())) }
}

fn own(folder: &TempDir) -> TlsIdentity {
    TlsIdentity::Own { folder: folder.path().join("tls") }
}

fn client(url: String, trust: Trust) -> Arc<HubClient> {
    Arc::new(HubClient::new(ClientOptions { url, key: KEY.into(), trust }).unwrap())
}

/// Asks the hub, by a name that its certificate may or may not have.
async fn asked(hub: &Hub, name: &str, trust: Trust) -> Result<(), TopicError> {
    let reader = HubReader::new(client(format!("https://{name}:{}", hub.address.port()), trust));
    reader.extent(&origin()).await.map(|_| ())
}

fn refused(outcome: Result<(), TopicError>, parts: &[&str]) {
    let error = outcome.expect_err("nobody was to be believed");
    assert!(matches!(error, TopicError::Untrusted { .. }), "{error:?}");
    // The laptop may be in another network, and come back.
    assert_eq!(error.disposition(), Disposition::Retry);
    let said = format!("{error} — {}", error.hint().unwrap_or_default());
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains(KEY));
}

#[tokio::test]
async fn a_hub_is_known_by_its_fingerprint_and_keeps_it() {
    let folder = TempDir::new().unwrap();
    let first = hub(&folder, own(&folder)).await;
    let pinned = Trust::Pinned(first.fingerprint);
    let client = client(format!("https://{}", first.address), pinned.clone());
    let mut writer = HubWriter::new(client.clone(), origin());
    writer.resume().await.unwrap();
    let records: Vec<_> = (0..2_000).map(|number| record(&origin(), number)).collect();
    assert_eq!(writer.append(Offset(0), &records).await.unwrap(), Offset(2_000));
    let read = HubReader::new(client).read(&origin(), Offset(0), 8 << 20, Duration::ZERO).await.unwrap();
    assert!(read.into_iter().map(|(_, record)| record).eq(records), "everything passes as it is");

    let key = fs::metadata(folder.path().join("tls/hub.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600, "the key is for nobody else");
    drop(first);
    let again = hub(&folder, own(&folder)).await;
    asked(&again, "127.0.0.1", pinned).await.expect("the certificate outlives a start");
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused_with_both_fingerprints() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let hub = hub(&folder, own(&folder)).await;
    let expected = own(&other).load().unwrap().fingerprint;
    let (expected_text, found_text) = (expected.to_string(), hub.fingerprint.to_string());
    let advice = ["nothing was sent", "tandem hub fingerprint", "somebody may be answering in its place"];
    refused(asked(&hub, "127.0.0.1", Trust::Pinned(expected)).await, &[&expected_text, &found_text]);
    refused(asked(&hub, "127.0.0.1", Trust::Pinned(expected)).await, &advice);
    // And without a fingerprint nobody vouches for a certificate of its own.
    refused(asked(&hub, "127.0.0.1", Trust::System).await, &["its certificate"]);
}

/// An authority, and a hub's certificate that it signed, valid until some year.
fn signed(folder: &Path, name: &str, until: i32) -> (PathBuf, TlsIdentity) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, format!("authority of {name} until {until}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = folder.join(format!("{name}-{until}-ca.pem"));
    fs::write(&ca, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let file = |ending: &str| folder.join(format!("{name}-{until}.{ending}"));
    fs::write(file("pem"), signed.pem()).unwrap();
    fs::write(file("key"), key.serialize_pem()).unwrap();
    (ca, TlsIdentity::Given { certificate: file("pem"), key: file("key") })
}

#[tokio::test]
async fn a_given_certificate_is_good_with_its_authority_name_and_time() {
    let folder = TempDir::new().unwrap();
    let (ca, identity) = signed(folder.path(), "localhost", 2100);
    let good = hub(&folder, identity).await;
    asked(&good, "localhost", Trust::Authority(ca.clone())).await.expect("all of it is right");
    refused(asked(&good, "127.0.0.1", Trust::Authority(ca.clone())).await, &["its certificate is not accepted"]);

    let (other, expired) = signed(folder.path(), "localhost", 2020);
    refused(asked(&good, "localhost", Trust::Authority(other.clone())).await, &["signed by nobody whom we trust"]);
    let expired = hub(&folder, expired).await;
    refused(asked(&expired, "localhost", Trust::Authority(other)).await, &["its certificate has expired"]);
}

#[tokio::test]
async fn who_says_nothing_or_something_else_keeps_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let hub = hub(&folder, own(&folder)).await;
    let silent = tokio::net::TcpStream::connect(hub.address).await.unwrap();
    asked(&hub, "127.0.0.1", Trust::Pinned(hub.fingerprint)).await.expect("the silent one is not waited for");
    let plain = HubReader::new(client(format!("http://{}", hub.address), Trust::System));
    let error = plain.extent(&origin()).await.expect_err("it speaks TLS only");
    assert!(matches!(error, TopicError::Unreachable { .. }), "{error:?}");
    drop(silent);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_with_its_file() {
    let folder = TempDir::new().unwrap();
    let (_, identity) = signed(folder.path(), "localhost", 2100);
    let TlsIdentity::Given { certificate, key } = identity else { unreachable!() };
    let check = |certificate: &Path, key: &Path, named: &Path| {
        let identity = TlsIdentity::Given { certificate: certificate.into(), key: key.into() };
        let error = identity.load().err().expect("it cannot be used");
        assert_eq!(error.disposition(), Disposition::Halt);
        assert!(error.to_string().contains(&named.display().to_string()), "{error}");
        assert!(error.hint().unwrap().contains("`certificate` and `certificate_key`"));
    };
    let missing = folder.path().join("nothing.pem");
    check(&missing, &key, &missing);
    check(&key, &key, &key);
    check(&certificate, &certificate, &certificate);
    let (_, other) = signed(folder.path(), "other", 2100);
    let TlsIdentity::Given { key: other, .. } = other else { unreachable!() };
    check(&certificate, &other, &certificate);
}

#[test]
fn the_program_prints_the_fingerprint_that_its_hub_will_have() {
    let folder = TempDir::new().unwrap();
    let config = format!(
        "version = 1\ncluster = \"campus\"\n\n[nodes.laptop-a]\ndatabase = \"mysql://tandem@127.0.0.1:3306/campus\"\n\
         password_env = \"NODE_PASSWORD\"\nreplica_id = 1101\nhub_key_env = \"NODE_HUB_KEY\"\nhub_key_hash = \"{}\"\n\n\
         [topic]\nurl = \"https://192.168.1.101:7421\"\n\n[hub]\nlisten = \"127.0.0.1:7421\"\ndata = \"data\"\n\n\
         [tables]\ninclude = [\"campus.*\"]\n",
        KeyHash::of(&KEY.into())
    );
    fs::write(folder.path().join("tandem.toml"), config).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["hub", "fingerprint"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let printed: Fingerprint =
        text.trim().parse().unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(printed, TlsIdentity::Own { folder: folder.path().join("data/tls") }.load().unwrap().fingerprint);
}
