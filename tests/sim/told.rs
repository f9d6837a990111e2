//! What a browser makes of what it is told: one subscription, over all connections of the browser, as frames or as lines of
//! JSON. Not here: HTTP, WebSocket and connections (`browser`).

use std::collections::BTreeMap;

use pregao::client::Event;
use pregao::wire::{
    Definition, ExchangeNumber, FeedStates, FeedStatus, Flags, Frame, Gap, GapReason, Heartbeat,
    Kind, Mode, Refusal, SnapshotEnd, Subscribed, Symbol, Trade, unpadded,
};

use crate::client::ClientConfig;
use crate::delivered::Delivered;

/// One subscription over all connections of the browser.
pub(crate) struct Subscription {
    /// On this connection; 0: none.
    pub(crate) id: u32,
    pub(crate) delivered: Delivered,
    /// The lines of JSON of its frames, by `seq`.
    pub(crate) lines: BTreeMap<u64, String>,
    /// The identity of the epoch that it was told.
    pub(crate) feed: u64,
    pub(crate) is_confirmed: bool,
    pub(crate) has_snapshot: bool,
    /// It has asked for what follows what it has.
    pub(crate) is_resumed: bool,
    states: FeedStates,
    /// On this connection.
    pub(crate) symbols: BTreeMap<u32, Symbol>,
}

impl Subscription {
    pub(crate) fn new(config: &ClientConfig) -> Subscription {
        Subscription {
            id: 0,
            delivered: Delivered { is_stale: true, ..Delivered::new(config.clone()) },
            lines: BTreeMap::new(),
            feed: 0,
            is_confirmed: false,
            has_snapshot: false,
            is_resumed: false,
            states: FeedStates::STALE,
            symbols: BTreeMap::new(),
        }
    }

    /// The connection is gone.
    pub(crate) fn lose(&mut self) {
        (self.id, self.is_confirmed, self.has_snapshot) = (0, false, false);
        self.symbols.clear();
        self.delivered.note(&Event::Stale);
    }

    /// What it has is of another sequence, or of an epoch of which nobody can tell it how much stands.
    pub(crate) fn begin_again(&mut self) {
        let disorder = self.delivered.disorder.take();
        let config = self.delivered.config.clone();
        let refusals = std::mem::take(&mut self.delivered.refusals);
        *self = Subscription { id: self.id, ..Subscription::new(&config) };
        (self.delivered.disorder, self.delivered.refusals) = (disorder, refusals);
    }

    fn wants_system(&self) -> bool {
        self.delivered.config.patterns.iter().any(|(text, _)| text.starts_with('$'))
    }

    fn note_states(&mut self, states: FeedStates) {
        let before = std::mem::replace(&mut self.states, states);
        let is_of_all = before.all != states.all;
        if is_of_all {
            self.delivered.note(&match states.all {
                FeedStatus::Stale => Event::Stale,
                FeedStatus::Ended => Event::Ended,
                FeedStatus::Current => Event::Current,
            });
        }
        let known = match is_of_all {
            true => FeedStates { all: states.all, ..FeedStates::default() },
            false => before,
        };
        for exchange in ExchangeNumber::all() {
            let status = states.of_exchange(exchange);
            if known.of_exchange(exchange) != status {
                self.delivered.note(&Event::Exchange { exchange, status });
            }
        }
    }

    /// Its subscription stands. One that goes on said under which epoch it has what it has, and is told what of that is
    /// void.
    pub(crate) fn confirm(&mut self, feed: u64) {
        let is_first = !std::mem::replace(&mut self.is_confirmed, true);
        if is_first {
            // Before the first word about it a feed is current.
            self.states = FeedStates::default();
            self.delivered.note(&Event::Current);
        }
        let before = std::mem::replace(&mut self.feed, feed);
        if !is_first || before == 0 || before == feed || self.is_resumed {
            return;
        }
        self.begin_again();
        (self.feed, self.is_confirmed, self.states) = (feed, true, FeedStates::default());
        self.delivered.note(&Event::Current);
    }

    fn go_live(&mut self, next_seq: u64) {
        self.has_snapshot = true;
        let next = self.delivered.next_seq;
        if self.delivered.config.mode != Mode::Lossless && next > 0 && next < next_seq {
            // It was away, and asked for the present.
            let away = Event::Lost {
                reason: GapReason::Skipped,
                from_seq: next,
                to_seq: next_seq - 1,
                instrument: None,
                missed: None,
            };
            self.delivered.note(&away);
        }
        self.delivered.next_seq = next.max(next_seq);
        if let Some(next_seq) = pregao::wire::Seq::new(next_seq) {
            self.delivered.note(&Event::Live { next_seq });
        }
    }

    fn note_gap(&mut self, reason: GapReason, from_seq: u64, to_seq: u64) {
        let next = &mut self.delivered.next_seq;
        match reason {
            GapReason::Void => {
                *next = (*next).min(from_seq);
                self.lines.retain(|seq, _| *seq < from_seq);
            }
            GapReason::Skipped => {}
            _ => *next = (*next).max(to_seq + 1),
        }
        let instrument = None;
        self.delivered.note(&Event::Lost { reason, from_seq, to_seq, instrument, missed: None });
    }

    /// A frame of data. What is wrong with it.
    fn note_data(&mut self, frame: &Frame) -> Result<(), (&'static str, String)> {
        if !self.is_confirmed {
            let text = format!("{frame:?} ahead of the subscription");
            return Err(("a-browser-is-told-what-it-asked-for", text));
        }
        if frame.has(Flags::SNAPSHOT) {
            self.delivered.note(&Event::Data(*frame));
            return Ok(());
        }
        if !self.has_snapshot {
            return Err(("the-snapshot-comes-first", format!("{frame:?}")));
        }
        let next = self.delivered.next_seq;
        self.delivered.next_seq = next.max(frame.seq.get() + 1);
        self.delivered.note(&Event::Data(*frame));
        Ok(())
    }

    pub(crate) fn take_frame(&mut self, frame: &Frame) -> Result<Took, (&'static str, String)> {
        if let Some(subscribed) = frame.view::<Subscribed>() {
            self.confirm(subscribed.feed.get());
        } else if let Some(end) = frame.view::<SnapshotEnd>() {
            self.go_live(end.next_seq.get());
        } else if let Some(gap) = frame.view::<Gap>() {
            let reason = GapReason::from_number(gap.reason).unwrap_or(GapReason::SourceLost);
            let (from_seq, to_seq) = (gap.from_seq.get(), gap.to_seq.get());
            self.note_gap(reason, from_seq, to_seq);
            return Ok(Took::Gap(reason, from_seq, to_seq));
        } else if let Some(beat) = frame.view::<Heartbeat>() {
            if beat.token.get() == 0 && beat.flags.get() & Flags::MORE == 0 {
                self.note_states(FeedStates::of(beat));
            }
            return Ok(if beat.token.get() == u32::MAX && beat.flags.get() == 0 {
                Took::Filler
            } else {
                Took::Nothing
            });
        } else if let Some(refusal) = frame.view::<Refusal>() {
            return Ok(Took::Refused(unpadded(&refusal.text)));
        } else if frame.kind().is_some_and(Kind::is_data) {
            if let Some(definition) = frame.view::<Definition>() {
                self.symbols.insert(frame.instrument.get(), definition.symbol);
            }
            let Some(symbol) = self.symbols.get(&frame.instrument.get()) else {
                return Err(("names-come-first", format!("{frame:?} of no known instrument")));
            };
            if symbol.is_reserved() && !self.wants_system() {
                return Ok(Took::Nothing);
            }
            self.note_data(frame)?;
        }
        Ok(Took::Nothing)
    }

    /// A line of JSON that is no word about the connection.
    pub(crate) fn take_line(&mut self, line: &str) -> Result<Took, (&'static str, String)> {
        let wrong = |what: &str| ("lines-are-whole", format!("{what}: {line}"));
        let number = |key: &str| number(line, key).ok_or_else(|| wrong(key));
        match word(line, "kind").unwrap_or_default() {
            "snapshot_end" => self.go_live(number("next_seq")?),
            "gap" => {
                let (from_seq, to_seq) = (number("from_seq")?, number("to_seq")?);
                let reason = match word(line, "reason").unwrap_or_default() {
                    "void" => GapReason::Void,
                    "skipped" => GapReason::Skipped,
                    _ => GapReason::Lapped,
                };
                self.note_gap(reason, from_seq, to_seq);
                return Ok(Took::Gap(reason, from_seq, to_seq));
            }
            status @ ("stale" | "ended" | "current") => {
                if word(line, "exchange").is_none() {
                    self.delivered.note(&match status {
                        "stale" => Event::Stale,
                        "ended" => Event::Ended,
                        _ => Event::Current,
                    });
                }
            }
            // The system's own topics, which no pattern here asks for.
            _ if word(line, "symbol").is_some_and(|it| it.starts_with('$')) => {
                if !self.wants_system() {
                    return Ok(Took::Nothing);
                }
            }
            kind => {
                let kind = match kind {
                    "quote" => Kind::Quote,
                    "trade" => Kind::Trade,
                    "cancel" => Kind::Cancel,
                    "definition" | "name" => Kind::Definition,
                    _ => return Err(wrong("no kind")),
                };
                let seq = number("seq")?;
                if word(line, "symbol").is_none() {
                    return Err(("names-come-first", line.to_owned()));
                }
                let mut frame = Frame::seal(Trade { seq: seq.into(), ..Trade::default() });
                frame.kind = kind as u8;
                if line.contains("\"snapshot\"") {
                    frame.flags = Flags::SNAPSHOT.into();
                } else if kind != Kind::Definition {
                    self.lines.insert(seq, line.to_owned());
                }
                self.note_data(&frame)?;
            }
        }
        Ok(Took::Nothing)
    }
}

/// What a frame or a line was, besides what the subscription keeps of it.
pub(crate) enum Took {
    Nothing,
    Filler,
    Gap(GapReason, u64, u64),
    Refused(String),
}

/// The number of a field in a line of JSON.
pub(crate) fn number(line: &str, key: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The text of a field in a line of JSON.
pub(crate) fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next()
}
