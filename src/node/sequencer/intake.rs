//! The intake: what the exchange sends gets its place in the sequence, or is asked for again.
//!
//! # Decisions
//!
//! * A feed has an identity: a hash of what the exchange plays. The same tape in another process is the
//!   same feed. So a restarted exchange, or a second start on the same directory, continues where the
//!   journal ends, and no frame comes twice. A longer tape that begins with all that the journal has of a shorter one
//!   goes on there, too; the exchange says so. Any other identity is another feed: refused if one of both is a
//!   recording, unless it is wanted. Then core starts at its beginning and flags the discontinuity.
//! * The journal's place in the exchange's numbering is derived from the journal itself. Each appended
//!   frame counts one. A mark states the place wherever the count would be wrong.

use super::exchange::ExchangeEvent;
use super::{ConnId, Level, Sequencer};
use crate::log::{AppendError, LogEntry, Storage};
use crate::market::tape::RECORDED;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{Definition, ErrorCode, Flags, Frame, Heartbeat, Kind, Seq};

/// What core says to an exchange that offers another recording.
const OTHER_FEED: &str = "another feed than the journal holds";
/// The same to whoever runs it.
pub const OTHER_FEED_REMEDY: &str = "another feed than the journal holds, and one of both is a recording. Store it behind with \
     --append, or choose another --data-dir";

impl<S: Storage> Sequencer<S> {
    pub(super) fn handle_exchange_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if frame.kind().is_some_and(Kind::is_data) {
            self.handle_market_frame(now, conn, frame);
            return;
        }
        if let Some(beat) = frame.view::<Heartbeat>()
            && beat.flags.get() & Flags::MORE != 0
        {
            let beat = *beat;
            self.connections.answer_heartbeat(now, conn, &beat, None);
        }
        match self.exchange.handle_control(now, frame) {
            ExchangeEvent::Ok => {}
            ExchangeEvent::Close(text) => self.connections.refuse_frame(conn, frame, text),
            ExchangeEvent::Start { feed, next_seq, continued } => {
                self.start_feed(now, conn, (feed, next_seq), continued);
            }
            ExchangeEvent::Resumed { next_seq } => {
                if let Some(next_seq) = self.beyond_wanted(next_seq) {
                    self.skip_to(now, self.journal.upstream().0, next_seq);
                }
            }
            ExchangeEvent::At { next_seq, is_end } => {
                // Without this the loss of the last frame before a silence would not be noticed.
                if let Some(next_seq) = self.beyond_wanted(next_seq)
                    && self.exchange.is_streaming()
                {
                    self.exchange.raise_head(next_seq);
                    self.exchange.note_missing();
                }
                let has_all = next_seq == Some(self.upstream_seq);
                if has_all && self.exchange.note_end(is_end) {
                    let text =
                        "the exchange's feed has ended, and all of it is here: nothing more comes";
                    self.connections.log(Level::Info, text.to_owned());
                }
            }
        }
    }

    /// The place, when it is beyond the one that is wanted from the exchange.
    fn beyond_wanted(&self, place: Option<Seq>) -> Option<Seq> {
        place.filter(|place| *place > self.upstream_seq)
    }

    /// The exchange has said which feed it offers and where it starts, and, if it is more of the feed that was followed
    /// before, where that one ends in it.
    ///
    /// Another recording is not taken up behind the one that the journal holds: what is in both would be there twice. A
    /// market that is no recording is another feed after each start, and what it tells is new.
    fn start_feed(
        &mut self,
        now: Now,
        conn: ConnId,
        (feed, next_seq): (u64, Seq),
        continued: Option<Seq>,
    ) {
        let known = self.journal.upstream().0;
        let is_other = known != 0 && feed != known;
        if is_other && let Some(place) = continued {
            if let Err(error) = self.journal.set_upstream(feed, place.get(), now) {
                self.hold_back(error);
                self.exchange.abandon("the journal has no room for the exchange's new place");
                return;
            }
            (self.upstream_seq, self.has_updates) = (place, true);
            let text = "the exchange's feed is more of the one that the journal holds";
            self.connections.log(Level::Info, text.to_owned());
        } else if is_other
            && !self.appends
            && (feed | known) & RECORDED != 0
            && !is_planted(Bug::TakeAnyFeed)
        {
            if self.exchange.judge_feed(now, false) {
                let text = format!("nothing is taken in: the exchange offers {OTHER_FEED_REMEDY}");
                self.connections.log(Level::Error, text);
            }
            self.connections.refuse(conn, ErrorCode::Unexpected, OTHER_FEED);
            return;
        }
        self.exchange.judge_feed(now, true);
        self.market.forget_exchange_instruments();
        if self.journal.upstream().0 != feed || next_seq > self.upstream_seq {
            self.skip_to(now, feed, next_seq);
        }
        if next_seq < self.upstream_seq {
            // It goes back over what is here already: nothing of it is news before it is past that.
            self.exchange.raise_head(self.upstream_seq.next());
        }
        let text = format!("exchange session established, feed {feed:016x} from {next_seq}");
        self.connections.log(Level::Info, text);
    }

    /// What was wanted is not to be had: goes on at `next_seq`, and says so in the next frames.
    pub(super) fn skip_to(&mut self, now: Now, feed: u64, next_seq: Seq) {
        let (known_feed, wanted) = (self.journal.upstream().0, self.upstream_seq);
        if let Err(error) = self.journal.set_upstream(feed, next_seq.get(), now) {
            // With the old place on record the frames of this session would be taken for others.
            self.hold_back(error);
            self.exchange.abandon("the journal has no room for the exchange's new place");
            return;
        }
        self.upstream_seq = next_seq;
        self.has_updates = true;
        if known_feed != 0 {
            let text = if known_feed == feed {
                let last = Seq::number(next_seq.previous());
                format!("the exchange no longer has its frames {wanted} to {last}")
            } else {
                "the exchange offers another feed than before".to_owned()
            };
            self.connections.log(Level::Warn, text);
            self.market.note_gap();
        }
    }

    /// A data frame of the exchange: checks its place, sequences and journals it.
    pub(super) fn handle_market_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if self.is_held_back {
            // What is not taken now is asked for again when there is room. Definitions ahead of the
            // feed come with a session only.
            self.exchange.note_missing();
            if frame.has(Flags::SNAPSHOT) {
                self.exchange.abandon("the journal has no room for the exchange's instruments");
            }
            return;
        }
        if is_systems(frame) {
            self.exchange.handle_protocol_error(now);
            let text = "breaker changes and symbols that begin with $ are the system's own";
            self.connections.refuse(conn, ErrorCode::Unexpected, text);
            return;
        }
        if self.market.has_other_units(frame) && !is_planted(Bug::UnitsMayChange) {
            self.exchange.handle_protocol_error(now);
            let text = "an instrument's quantities keep their units";
            self.connections.refuse(conn, ErrorCode::Unexpected, text);
            return;
        }
        if frame.has(Flags::SNAPSHOT) {
            self.meet_instrument(now, frame);
            return;
        }
        let (feed, journaled) = self.journal.upstream();
        let (seq, wanted) = (frame.seq.get(), self.upstream_seq.get());
        if !self.exchange.is_streaming() || seq < wanted {
            self.exchange.duplicates += 1;
            return;
        }
        if seq > wanted {
            self.exchange.raise_head(Seq::behind(seq));
            self.exchange.note_missing();
            return;
        }
        let Some(mut sequenced) = self.market.sequence(now, frame, self.journal.next_seq()) else {
            self.exchange.handle_protocol_error(now);
            self.connections.refuse(
                conn,
                ErrorCode::Unexpected,
                "frame of an undefined instrument",
            );
            return;
        };
        if self.market.is_known_definition(&sequenced) {
            // It was journaled when the instrument was first seen; only its number is used up.
            self.upstream_seq = self.upstream_seq.next();
            return;
        }
        sequenced.renew_crc();
        let appended = if journaled == seq {
            self.append(LogEntry::Event(&sequenced))
        } else {
            let upstream_set = self.journal.set_upstream(feed, seq, now);
            upstream_set.and_then(|()| self.append(LogEntry::Event(&sequenced)))
        };
        match appended {
            Ok(_) => {
                self.exchange.note_event(now);
                self.upstream_seq = self.upstream_seq.next();
                self.market.note(&sequenced);
                self.has_updates = true;
            }
            Err(error) => {
                if is_planted(Bug::PublishBeforeJournal) {
                    for conn in self.followers.streaming().collect::<Vec<_>>() {
                        self.connections.send_frame(conn, &sequenced);
                    }
                }
                self.market.take_back(&sequenced);
                self.hold_back(error);
            }
        }
    }

    /// A definition ahead of the feed: gives a new instrument its number here. The feed may start
    /// behind the place where the exchange defined it.
    pub(super) fn meet_instrument(&mut self, now: Now, frame: &Frame) {
        let Some(definition) = frame.view::<Definition>() else { return };
        let (names, decimals) = (definition.names(), definition.decimals());
        let seq = self.journal.next_seq();
        if let Some(local) = self.market.define_local(&names, decimals, seq, now)
            && let Err(error) = self.append_local(&local)
        {
            self.hold_back(error);
            self.exchange.abandon("the journal has no room for the exchange's instruments");
            return;
        }
        self.market.map_exchange_instrument(definition);
    }

    pub(super) fn hold_back(&mut self, error: AppendError) {
        if !self.is_held_back {
            self.is_held_back = true;
            let level = if error == AppendError::NotReady { Level::Debug } else { Level::Error };
            let health = self.journal.health();
            let reason = health.problem().map_or(error.to_string(), ToString::to_string);
            self.connections.log(level, format!("the journal takes no more for now: {reason}"));
        }
        self.exchange.note_missing();
    }

    /// A new segment of the journal begins with all that is known, so that those before it can go.
    #[inline]
    fn append(&mut self, entry: LogEntry<'_>) -> Result<u64, AppendError> {
        let (market, connections) = (&self.market, &mut self.connections);
        let statements = || market.statements();
        self.journal.append_with_checkpoint(entry, statements, |count| {
            let text = format!(
                "{count} statements are too many for a segment of the journal: nothing before it can be \
                 removed; make [data] segment_bytes larger"
            );
            connections.log(Level::Error, text);
        })
    }

    pub(super) fn append_local(&mut self, frame: &Frame) -> Result<(), AppendError> {
        self.append(LogEntry::LocalEvent(frame))?;
        self.market.note(frame);
        self.has_updates = true;
        Ok(())
    }
}

/// Whether a frame of the exchange says what only the system itself may say.
fn is_systems(frame: &Frame) -> bool {
    let defined = frame.view::<Definition>();
    frame.kind == Kind::BreakerChange as u8 || defined.is_some_and(|it| it.symbol.is_reserved())
}
