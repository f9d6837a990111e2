//! Our own protocol: frames, cast in place. See PROTOCOL.md.

use pregao::wire::{
    Definition, FRAME_BYTES, Flags, Frame, Gap, GapReason, Heartbeat, InstrumentId,
    InstrumentIndex, Kind, Message, Mode, Refusal, Role, Session, Subscribe, U16, U32, U64,
    as_frames, padded, unpadded,
};
use zerocopy::IntoBytes;

use super::{Event, Interest, ProtocolError};

const HEARTBEAT_ANSWER: Heartbeat = Heartbeat {
    kind: 0,
    version: 0,
    flags: U16::ZERO,
    token: U32::new(1),
    next_seq: U64::ZERO,
    sent_at: U64::ZERO,
    stale_exchanges: U32::ZERO,
    ended_exchanges: U32::ZERO,
    reserved: [0; 28],
    crc: U32::ZERO,
};

/// Token of the heartbeat behind a publisher's preparations.
const PREPARED: u32 = 7;

fn push<M: Message>(out: &mut Vec<u8>, message: M) {
    out.extend_from_slice(Frame::seal(message).as_bytes());
}

fn session(role: Role, source: u8, epoch: u32) -> Session {
    Session {
        role: role as u8,
        source,
        epoch: U32::new(epoch),
        epoch_start: U64::new(u64::from(epoch != 0)),
        name: padded("loadgen"),
        ..Session::default()
    }
}

pub(super) fn hello_subscriber(interest: Interest<'_>) -> Vec<u8> {
    resume_subscriber(interest, 0)
}

/// The greeting of a subscriber that has everything before `from_seq`; 0 = that has nothing.
pub(crate) fn resume_subscriber(interest: Interest<'_>, from_seq: u64) -> Vec<u8> {
    let everything = ["*".to_owned()];
    let patterns = if interest.topics.is_empty() { &everything } else { interest.topics };
    let mut out = Vec::with_capacity((patterns.len() + 1) * FRAME_BYTES);
    push(&mut out, session(Role::Subscriber, 0, 0));
    for (index, pattern) in patterns.iter().enumerate() {
        let more = if index + 1 < patterns.len() { Flags::MORE } else { 0 };
        push(
            &mut out,
            Subscribe {
                flags: U16::new(more),
                id: U32::new(1),
                source: interest.source,
                mode: Mode::Lossless as u8,
                from_seq: U64::new(from_seq),
                pattern: padded(pattern),
                ..Subscribe::default()
            },
        );
    }
    out
}

/// The same as a command to a gateway. Topics are symbols, which need no escaping.
pub(super) fn subscribe_command(interest: Interest<'_>) -> String {
    let quoted: Vec<String> = interest.topics.iter().map(|topic| format!("\"{topic}\"")).collect();
    let symbols = if quoted.is_empty() { "\"*\"".to_owned() } else { quoted.join(",") };
    format!("{{\"subscribe\":1,\"symbols\":[{symbols}],\"mode\":\"lossless\"}}")
}

/// A fresh epoch from `seq` 1 on makes void whatever an earlier run has left.
pub(super) fn hello_publisher(source: u8, epoch: u32) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, session(Role::Publisher, source, epoch));
    out
}

pub(super) fn prepare(source: u8, symbols: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity((symbols.len() + 1) * FRAME_BYTES);
    for (index, symbol) in (0..).zip(symbols) {
        // Names of our own making are symbols.
        let Ok(symbol) = symbol.parse() else { continue };
        let definition =
            Definition::new(InstrumentId::new(source, InstrumentIndex::new(index)), symbol, 2);
        out.extend_from_slice(Frame::seal(definition).delivered(Flags::SNAPSHOT).as_bytes());
    }
    // The answer says that the broker has done with all of this.
    push(
        &mut out,
        Heartbeat {
            flags: U16::new(Flags::MORE),
            token: U32::new(PREPARED),
            next_seq: U64::new(1),
            ..Heartbeat::default()
        },
    );
    out
}

pub(super) fn publish(frame: &Frame, out: &mut Vec<u8>) {
    out.extend_from_slice(frame.as_bytes());
}

pub(super) fn heartbeat() -> Vec<u8> {
    Frame::seal(HEARTBEAT_ANSWER).as_bytes().to_vec()
}

pub(super) fn parse(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<usize, ProtocolError> {
    let (frames, rest) = as_frames(bytes);
    let mut rest_of_run = frames;
    while let Some(first) = rest_of_run.first() {
        if first.check_header().is_err() {
            return Err(ProtocolError { protocol: "pregao", what: "a frame with a bad header" });
        }
        // Live data comes in long runs, which are handed on whole.
        let run = rest_of_run.iter().take_while(|frame| is_live(frame)).count();
        if run > 0 {
            on(Event::Frames(&rest_of_run[..run]));
            rest_of_run = &rest_of_run[run..];
        } else {
            control(first, on);
            rest_of_run = &rest_of_run[1..];
        }
    }
    Ok(bytes.len() - rest.len())
}

/// Data that is not part of a snapshot.
fn is_live(frame: &Frame) -> bool {
    frame.kind < Kind::LogMark as u8 && !frame.has(Flags::SNAPSHOT)
}

fn gap_name(frame: &Frame) -> &'static str {
    let reason = frame.view::<Gap>().and_then(|gap| GapReason::from_number(gap.reason));
    match reason {
        Some(GapReason::Lapped) => "GAP lapped",
        Some(GapReason::BeforeRing) => "GAP before the ring",
        Some(GapReason::Skipped) => "GAP skipped",
        Some(GapReason::Void) => "GAP void",
        // The generator publishes a source of its own, which has no history: what is lapped is lost for good.
        Some(GapReason::SourceLost) => "GAP lost",
        _ => "GAP",
    }
}

fn control(frame: &Frame, on: &mut impl FnMut(Event<'_>)) {
    match frame.kind() {
        Some(Kind::SnapshotEnd) => on(Event::Confirmed),
        // To a publisher the answer to its SESSION is the confirmation; a subscriber's is ignored,
        // since what it waits for comes later.
        Some(Kind::Session) if frame.view::<Session>().is_some_and(|s| s.source != 0) => {
            on(Event::Confirmed);
        }
        Some(Kind::Gap) => on(Event::Gap(gap_name(frame))),
        Some(Kind::Heartbeat) if frame.has(Flags::MORE) => {
            on(Event::Reply(Frame::seal(HEARTBEAT_ANSWER).as_bytes()));
        }
        Some(Kind::Heartbeat)
            if frame.view::<Heartbeat>().is_some_and(|b| b.token.get() == PREPARED) =>
        {
            on(Event::Confirmed);
        }
        Some(Kind::Error) => {
            let text = frame.view::<Refusal>().map(|refusal| unpadded(&refusal.text));
            on(Event::Refused(text.unwrap_or_default()));
        }
        _ => {}
    }
}
