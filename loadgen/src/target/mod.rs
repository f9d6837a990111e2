//! What can be driven: our broker and its peers, each as a small codec for the few messages that a
//! load run needs. A codec is pure: bytes in, events out; it owns no socket.

mod mqtt;
mod nats;
pub(crate) mod pregao;
mod redis;
#[cfg(test)]
mod tests;
mod websocket;

use std::net::SocketAddr;

use ::pregao::wire::Frame;

pub(crate) use websocket::Unwrapping;
use websocket::Within;

/// A system under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Our broker
    Pregao,
    /// Redis publish/subscribe
    Redis,
    /// NATS core
    Nats,
    /// An MQTT 3.1.1 broker, QoS 0
    Mqtt,
    /// Our broker behind a gateway: its subscribers are WebSockets that take frames
    PregaoWs,
    /// NATS core, whose subscribers are WebSockets
    NatsWs,
    /// A loop of bare writes, for scale: `compare` starts it, in its light load alone
    Bare,
}

/// What a subscriber's or publisher's stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Payloads, in order.
    Frames(&'a [Frame]),
    /// One more of the confirmations that [`Target::confirmations`] counts.
    Confirmed,
    /// The target admits a loss, and says why.
    Gap(&'static str),
    /// The target wants these bytes back.
    Reply(&'a [u8]),
    /// The target refuses; the connection is of no more use.
    Refused(String),
}

/// A stream that does not speak the target's protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target does not speak {protocol}: {what}")]
pub(crate) struct ProtocolError {
    protocol: &'static str,
    what: &'static str,
}

/// What one subscriber wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest<'a> {
    /// The source to subscribe to; means something to our broker alone.
    pub(crate) source: u8,
    /// Topics; empty = everything.
    pub(crate) topics: &'a [String],
}

/// The topic of everything, for targets that know no instruments.
pub(crate) const FULL_FEED: &str = "FULLFEED";

impl Target {
    pub(crate) const ALL: [Target; 7] = [
        Target::Pregao,
        Target::Redis,
        Target::Nats,
        Target::Mqtt,
        Target::PregaoWs,
        Target::NatsWs,
        Target::Bare,
    ];

    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Target::Pregao => "pregao",
            Target::Redis => "redis",
            Target::Nats => "nats",
            Target::Mqtt => "mqtt",
            Target::PregaoWs => "pregao-ws",
            Target::NatsWs => "nats-ws",
            Target::Bare => "bare",
        }
    }

    /// Who takes what is published: WebSocket is for subscribers alone.
    pub(crate) const fn publisher(self) -> Target {
        match self {
            Target::PregaoWs => Target::Pregao,
            Target::NatsWs => Target::Nats,
            other => other,
        }
    }

    /// The source to publish as on a server of our own. A gateway follows the market alone.
    pub(crate) const fn own_source(self) -> u8 {
        match self {
            Target::PregaoWs => ::pregao::node::sequencer::MARKET_SOURCE,
            _ => 2,
        }
    }

    /// The port that its subscribers usually find it on.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Target::Pregao => 8081,
            Target::Redis => 6379,
            Target::Nats => 4222,
            Target::Mqtt => 1883,
            Target::PregaoWs => ::pregao::limits::GATEWAY_PORT,
            Target::NatsWs => 8443,
            Target::Bare => 8099,
        }
    }

    /// What a connection of a subscriber sends first, and how what comes is read: a WebSocket says its hello when the
    /// server has agreed to it.
    pub(crate) fn greet(
        self,
        address: SocketAddr,
        interest: Interest<'_>,
    ) -> (Vec<u8>, Unwrapping) {
        let hello = self.hello_subscriber(interest);
        let request = match self {
            Target::PregaoWs => websocket::request("/v1/stream", address, Some("pregao.frames.v1")),
            Target::NatsWs => websocket::request("/", address, None),
            _ => return (hello, Unwrapping::default()),
        };
        (request, Unwrapping::before(hello))
    }

    /// What a subscriber says first.
    pub(crate) fn hello_subscriber(self, interest: Interest<'_>) -> Vec<u8> {
        match self {
            Target::Pregao | Target::Bare => pregao::hello_subscriber(interest),
            Target::Redis => redis::hello_subscriber(interest),
            Target::Nats => nats::hello_subscriber(interest),
            Target::Mqtt => mqtt::hello_subscriber(interest),
            Target::PregaoWs => {
                websocket::message(websocket::TEXT, pregao::subscribe_command(interest).as_bytes())
            }
            Target::NatsWs => {
                websocket::message(websocket::BINARY, &nats::hello_subscriber(interest))
            }
        }
    }

    /// How many [`Event::Confirmed`] answer it.
    pub(crate) fn confirmations(self, interest: Interest<'_>) -> usize {
        match self {
            Target::Redis => interest.topics.len().max(1),
            Target::Mqtt => 2,
            Target::Pregao | Target::Nats | Target::Bare | Target::PregaoWs | Target::NatsWs => 1,
        }
    }

    /// What a publisher says first; one [`Event::Confirmed`] answers it.
    pub(crate) fn hello_publisher(self, source: u8, epoch: u32) -> Vec<u8> {
        match self {
            Target::Pregao | Target::Bare | Target::PregaoWs => {
                pregao::hello_publisher(source, epoch)
            }
            Target::Redis => redis::hello_publisher(),
            Target::Nats | Target::NatsWs => nats::hello_publisher(),
            Target::Mqtt => mqtt::hello_publisher(),
        }
    }

    /// What a publisher says between its greeting and its first message: instruments by their names.
    /// Unless it is nothing, one [`Event::Confirmed`] answers it.
    pub(crate) fn prepare(self, source: u8, symbols: &[String]) -> Vec<u8> {
        match self {
            Target::Pregao | Target::PregaoWs => pregao::prepare(source, symbols),
            _ => Vec::new(),
        }
    }

    /// Appends one message.
    pub(crate) fn publish(self, topic: &str, frame: &Frame, out: &mut Vec<u8>) {
        match self {
            Target::Pregao | Target::Bare | Target::PregaoWs => pregao::publish(frame, out),
            Target::Redis => redis::publish(topic, frame, out),
            Target::Nats | Target::NatsWs => nats::publish(topic, frame, out),
            Target::Mqtt => mqtt::publish(topic, frame, out),
        }
    }

    /// What an idle connection says to be taken for alive.
    pub(crate) fn heartbeat(self) -> Vec<u8> {
        match self {
            Target::Pregao => pregao::heartbeat(),
            // None hears silence as death within a run: no timeout, server-side pings, keep-alive 0.
            _ => Vec::new(),
        }
    }

    /// Reads as many whole messages as there are and returns how many bytes they took. The rest is offered again, with
    /// what comes behind it.
    ///
    /// # Errors
    /// When the bytes are not the target's protocol.
    pub(crate) fn parse(
        self,
        unwrapping: &mut Unwrapping,
        bytes: &[u8],
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError> {
        match self {
            Target::Pregao | Target::Bare => pregao::parse(bytes, on),
            Target::Redis => redis::parse(bytes, on),
            Target::Nats => nats::parse(bytes, on),
            Target::Mqtt => mqtt::parse(bytes, on),
            Target::PregaoWs => websocket::parse(Within::Frames, unwrapping, bytes, on),
            Target::NatsWs => websocket::parse(Within::Nats, unwrapping, bytes, on),
        }
    }
}

/// The end of the line that starts at `from`, without its CR LF, and where the next one starts.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let end = rest.iter().position(|&b| b == b'\n')?;
    let text = &rest[..end];
    Some((text.strip_suffix(b"\r").unwrap_or(text), from + end + 1))
}

/// A decimal number of at most nine digits.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter()
        .try_fold(0_usize, |sum, &b| b.is_ascii_digit().then(|| sum * 10 + usize::from(b - b'0')))
}

/// A payload as the frame that it should be.
fn payload(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) {
    on(Event::Frames(::pregao::wire::as_frames(bytes).0));
}
