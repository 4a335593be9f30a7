//! TLS, logins and rights, and what people are told where they are wrong.

use tandem::change::{Offset, OriginId};
use tandem::topic::contract::record;
use tandem::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter, Mechanism, Sasl, Tls};
use tandem::topic::{TopicError, TopicReader, TopicWriter};

use super::harness::{BrokerOptions, GUEST, PASSWORD, PrivateBroker, USER, broker_or_say, free_port};
use super::options;

fn secure(broker: &PrivateBroker, mechanism: Mechanism, username: &str, password: &str) -> KafkaOptions {
    let mut options = options(&broker.secure_address(), "login");
    options.tls = Some(Tls { authority: Some(broker.authority()), ..Tls::default() });
    options.sasl = Some(Sasl { mechanism, username: username.into(), password: password.into() });
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_over_tls_may_work_and_others_are_told_why_not() {
    let Some(broker) = broker_or_say(BrokerOptions { secure: true, ..BrokerOptions::default() }).await else { return };
    for (name, mechanism) in [("scram", Mechanism::ScramSha256), ("plain", Mechanism::Plain)] {
        let origin = OriginId::new(name);
        let options = secure(&broker, mechanism, USER, PASSWORD);
        let mut writer = KafkaWriter::new(options.clone(), origin.clone());
        writer.resume().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        writer.append(Offset(0), &[record(&origin, 0)]).await.expect("an append");
        assert_eq!(KafkaReader::new(options).extent(&origin).await.expect("an extent").end, Offset(1), "{name}");
    }

    let origin = OriginId::new("scram");
    let wrong = secure(&broker, Mechanism::ScramSha256, USER, "geheim");
    for error in refusals(wrong, &origin).await {
        let text = error.to_string();
        assert!(matches!(error, TopicError::Denied { .. }), "{text}");
        assert!(text.contains(&broker.secure_address()) && !text.contains("geheim"), "{text}");
    }
    let guest = secure(&broker, Mechanism::ScramSha256, GUEST, PASSWORD);
    for error in refusals(guest, &origin).await {
        let text = error.to_string();
        assert!(matches!(error, TopicError::Denied { .. }), "{text}");
        assert!(text.contains("login.scram"), "{text}");
    }
    let mut stranger = secure(&broker, Mechanism::ScramSha256, USER, PASSWORD);
    stranger.tls = Some(Tls::default());
    for error in refusals(stranger, &origin).await {
        let text = error.to_string();
        assert!(matches!(error, TopicError::Unreachable { .. }), "{text}");
        assert!(text.contains("certificate"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_unreachable_with_its_address_and_reason() {
    let port = free_port();
    for error in refusals(options(&format!("127.0.0.1:{port}"), "away"), &OriginId::new("a")).await {
        let text = error.to_string();
        assert!(matches!(error, TopicError::Unreachable { .. }), "{text}");
        assert!(text.contains(&port.to_string()) && text.contains("refused"), "{text}");
    }
}

async fn refusals(options: KafkaOptions, origin: &OriginId) -> [TopicError; 2] {
    let read = KafkaReader::new(options.clone()).extent(origin).await.expect_err("it must not read");
    let written = KafkaWriter::new(options, origin.clone()).resume().await.expect_err("it must not write");
    [read, written]
}
