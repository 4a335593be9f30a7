//! A broker looked over from where a node stands: does each address that it tells its clients lead anywhere, and do the
//! topics keep as much and take as large records as is asked of them? Changes nothing.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::KafkaOptions;
use super::client::{ANSWER, Broker, Trouble};
use super::settings::Settings;
use crate::change::OriginId;
use crate::runtime::{Fault, Finding};
use crate::topic::TopicError;

/// A connection in a local network is there in milliseconds, over a slow tunnel in a second.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// What a broker tells of itself.
struct Told {
    /// `host`, `port` of every broker, as clients are sent to them.
    addresses: Vec<(String, u16)>,
    topics: Vec<String>,
}

/// Every finding, good ones too.
pub async fn examine(options: KafkaOptions, origins: &[OriginId]) -> Vec<Finding> {
    let broker = Broker::new(options);
    let asking = broker.clone();
    // A broker that is not reached at all is told by whoever reads its topics.
    let Ok(Ok(told)) = tokio::task::spawn_blocking(move || ask(&asking)).await else { return Vec::new() };
    let mut found = Vec::new();
    for (host, port) in &told.addresses {
        found.push(reached(host, *port).await);
    }
    if broker.options.looks_at_settings {
        let made: Vec<_> = origins.iter().map(|origin| broker.topic(origin)).collect();
        for topic in made.iter().filter(|topic| told.topics.iter().any(|other| **other == ***topic)) {
            found.extend(settings(&broker, topic).await);
        }
    }
    found
}

fn ask(broker: &Broker) -> Result<Told, TopicError> {
    let trouble = Trouble::default();
    let fault = |error| broker.fault("asking for its addresses", &error, &trouble);
    let client: BaseConsumer<Trouble> = broker.config().create_with_context(trouble.clone()).map_err(fault)?;
    let metadata = client.fetch_metadata(None, ANSWER).map_err(fault)?;
    let brokers = metadata.brokers().iter();
    Ok(Told {
        addresses: brokers.map(|one| (one.host().to_owned(), u16::try_from(one.port()).unwrap_or(0))).collect(),
        topics: metadata.topics().iter().map(|topic| topic.name().to_owned()).collect(),
    })
}

async fn reached(host: &str, port: u16) -> Finding {
    const CODE: &str = "TOPIC-ADDRESS";
    let why = match timeout(REACHED_WITHIN, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return Finding::good(CODE, format!("the broker at {host}:{port} is reached where it says that it is")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", REACHED_WITHIN.as_secs()),
    };
    Finding::fail(
        CODE,
        format!("a broker sends its clients to {host}:{port}, and from here nothing is reached there: {why}"),
        "let the broker advertise an address that this machine reaches (advertised.listeners; Redpanda: advertised_kafka_api) and start \
         it again, or let this machine find that name; see also the firewall there",
    )
}

async fn settings(broker: &std::sync::Arc<Broker>, topic: &str) -> Vec<Finding> {
    let wanted = broker.options.record_bytes_max;
    let taken = match Settings::new(broker.clone()) {
        Ok(settings) => settings.check(topic).await,
        Err(error) => Err(error),
    };
    let kept = || Finding::good("TOPIC-RETENTION", format!("{topic} keeps its records as long as a node may be away"));
    match taken {
        Ok(bytes) if bytes < wanted => vec![
            kept(),
            Finding::warn(
                "TOPIC-SIZE",
                format!(
                    "{topic} takes records of {bytes} bytes, and record_bytes_max allows {wanted}: a larger row stops the tailer"
                ),
                format!("on the topic {topic} set max.message.bytes={}", wanted + super::client::BATCH_BYTES),
            ),
        ],
        Ok(_) => vec![kept(), Finding::good("TOPIC-SIZE", format!("{topic} takes records of {wanted} bytes"))],
        Err(error) => vec![failed("TOPIC-RETENTION", &error)],
    }
}

fn failed(code: &'static str, error: &TopicError) -> Finding {
    Finding::fail(code, error.to_string(), error.hint().unwrap_or_else(|| "see docs/operations.md".into()))
}
