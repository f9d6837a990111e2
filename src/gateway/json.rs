//! Frames as lines of JSON, each made once for all who are sent it.
//!
//! # Decisions
//!
//! * The lines of the newest frames are kept, by `seq` and checksum. The checksum covers the delivery flags, so a value
//!   of a snapshot and the same frame live are two lines. Browsers that follow the same instruments cost one encoding.

use crate::limits;
use crate::render::{Venues, feed_status_json, frame_json, json_line};
use crate::subscription::Symbols;
use crate::wire::{
    ErrorCode, FeedStates, Flags, Frame, Heartbeat, Kind, Refusal, Seq, Subscribed, unpadded,
};

/// One line that is kept.
#[derive(Clone, Debug, Default)]
struct Kept {
    seq: u64,
    crc: u32,
    line: Box<str>,
}

/// The lines of the newest frames.
#[derive(Debug)]
pub(super) struct Lines {
    kept: Vec<Kept>,
    /// Lines that were made.
    pub(super) made: u64,
    /// Lines that were sent, these included.
    pub(super) sent: u64,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { kept: vec![Kept::default(); limits::GATEWAY_LINES_KEPT], made: 0, sent: 0 }
    }
}

impl Lines {
    /// The line of a frame, without its end. `None`: it has none.
    pub(super) fn line(&mut self, frame: &Frame, symbols: &Symbols) -> Option<&str> {
        let (seq, crc) = (frame.seq.get(), frame.crc.get());
        let count = self.kept.len().max(1) as u64;
        let place = usize::try_from(seq % count).unwrap_or(0);
        let kept = self.kept.get_mut(place)?;
        if kept.seq != seq || kept.crc != crc || seq == 0 {
            let line = frame_json(frame, None, symbols)?;
            self.made += 1;
            *kept = Kept { seq, crc, line: line.into_boxed_str() };
        }
        self.sent += 1;
        Some(&kept.line)
    }

    /// A definition may have changed what instruments are called.
    pub(super) fn forget(&mut self) {
        self.kept.fill(Kept::default());
    }
}

/// What a reader of JSON was told of the feed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    states: FeedStates,
    is_confirmed: bool,
    /// It was told that it waits: how the feed is that it waited for is said in any case.
    has_waited: bool,
}

impl Told {
    /// The subscription stands.
    pub(super) fn note_confirmed(&mut self) {
        if !std::mem::replace(&mut self.is_confirmed, true) {
            self.has_waited = self.states != FeedStates::default();
        }
    }

    /// Hands on what a heartbeat of the inner broker says that was not said before, as lines with their kinds.
    pub(super) fn note(
        &mut self,
        beat: &Heartbeat,
        venues: &Venues,
        mut each: impl FnMut(&str, &str),
    ) {
        if beat.token.get() != 0 || beat.flags.get() & Flags::MORE != 0 {
            return;
        }
        let (mut before, states) = (self.states, FeedStates::of(beat));
        self.states = states;
        if std::mem::take(&mut self.has_waited) {
            each(states.all.name(), &feed_status_json(states.all, None));
            before = FeedStates { all: states.all, ..FeedStates::default() };
        }
        for (exchange, status) in states.changes_since(before) {
            let exchange = exchange.map(|number| venues.name(number));
            each(status.name(), &feed_status_json(status, exchange.as_deref()));
        }
    }
}

/// What kind of line a frame of the connection has.
pub(super) fn control_kind(frame: &Frame) -> &'static str {
    match frame.kind() {
        Some(Kind::Gap) => "gap",
        Some(Kind::SnapshotEnd) => "snapshot_end",
        _ => "other",
    }
}

#[derive(serde::Serialize)]
struct SubscribedJson<'a> {
    kind: &'static str,
    id: u32,
    matched: u32,
    epoch: u32,
    epoch_id: String,
    next_seq: Option<u64>,
    oldest_seq: Option<u64>,
    mode: &'a str,
}

/// That a subscription stands, as a line.
pub(super) fn subscribed_json(id: u32, subscribed: &Subscribed, mode: &str) -> String {
    let seq = |field| Seq::from_field(field).map(Seq::get);
    json_line(&SubscribedJson {
        kind: "subscribed",
        id,
        matched: subscribed.matched.get(),
        epoch: subscribed.epoch.get(),
        epoch_id: format!("{:016x}", subscribed.feed.get()),
        next_seq: seq(subscribed.next_seq),
        oldest_seq: seq(subscribed.oldest_seq),
        mode,
    })
}

#[derive(serde::Serialize)]
struct ErrorJson<'a> {
    kind: &'static str,
    id: Option<u32>,
    code: &'a str,
    text: &'a str,
}

/// That something was refused, as a line. `id`: of the subscription, if it is about one.
pub(super) fn error_json(id: Option<u32>, code: &str, text: &str) -> String {
    json_line(&ErrorJson { kind: "error", id, code, text })
}

/// What a code of an ERROR frame is called in lines; `None`: the frame has none, or one that is not known here.
pub(super) fn code_name(code: Option<ErrorCode>) -> String {
    code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}").to_lowercase())
}

/// The same of an ERROR frame.
pub(super) fn refusal_json(id: u32, refusal: &Refusal) -> String {
    let code = code_name(ErrorCode::from_number(refusal.code.get()));
    error_json(Some(id), &code, &unpadded(&refusal.text))
}

#[derive(serde::Serialize)]
struct IdJson {
    kind: &'static str,
    id: u32,
}

/// A line that names a subscription: `subscription` or `unsubscribed`.
pub(super) fn id_json(kind: &'static str, id: u32) -> String {
    json_line(&IdJson { kind, id })
}
