//! The intake: what an exchange sends gets its place in the sequence, or is asked for again.
//!
//! # Decisions
//!
//! * A feed has an identity: a hash of what the exchange plays. The same tape in another process is the
//!   same feed. So a restarted exchange, or a second start on the same directory, continues where the
//!   journal ends, and no frame comes twice. A longer tape that begins with all that the journal has of a shorter one
//!   goes on there, too; the exchange says so. Any other identity is another feed: refused if one of both is a
//!   recording, unless it is wanted. Then core starts at its beginning and flags the discontinuity.
//! * The journal's place in the numbering of each exchange is derived from the journal itself. Each appended
//!   frame counts one for the exchange that sent it. A mark, or a frame on the exchange's topic, states the place
//!   wherever the count would be wrong.

use super::exchange::ExchangeEvent;
use super::{ConnId, Level, Sequencer};
use crate::log::{AppendError, LogEntry, Storage};
use crate::market::tape::RECORDED;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{
    Definition, ErrorCode, ExchangeNumber, Flags, Frame, Heartbeat, InstrumentName, Kind, Seq,
    Symbol,
};

/// What core says to an exchange, or a producer, that offers another feed than the one that is there.
pub const OTHER_FEED: &str = "another feed than the journal holds";
/// The same to whoever runs it.
pub const OTHER_FEED_REMEDY: &str = "another feed than the journal holds, and one of both is a recording. Store it behind with \
     --append, or choose another --data-dir";

/// What core says to an exchange that sends what none of them may.
const NOT_MARKETS: &str = "system kinds, or symbols that begin with $";

impl<S: Storage> Sequencer<S> {
    pub(super) fn handle_exchange_frame(
        &mut self,
        now: Now,
        conn: ConnId,
        index: usize,
        frame: &Frame,
    ) {
        if frame.kind().is_some_and(Kind::is_data) {
            self.handle_market_frame(now, conn, index, frame);
            return;
        }
        if let Some(beat) = frame.view::<Heartbeat>()
            && beat.flags.get() & Flags::MORE != 0
        {
            let beat = *beat;
            self.connections.answer_heartbeat(now, conn, &beat, None);
        }
        match self.exchanges[index].handle_control(now, frame) {
            ExchangeEvent::Ok => {}
            ExchangeEvent::Close(text) => self.connections.refuse_frame(conn, frame, text),
            ExchangeEvent::Start { feed, next_seq, continued } => {
                self.start_feed(now, conn, index, (feed, next_seq), continued);
            }
            ExchangeEvent::Resumed { next_seq } if self.exchanges[index].is_producer() => {
                // It has what core wants, or it begins another feed: it may not jump in this one.
                if next_seq != Some(self.exchanges[index].upstream_seq) {
                    self.exchanges[index].handle_protocol_error(now);
                    let text = "RESUME is answered by the place that it named";
                    self.connections.refuse(conn, ErrorCode::Unexpected, text);
                }
            }
            ExchangeEvent::Resumed { next_seq } => {
                if let Some(next_seq) = self.beyond_wanted(index, next_seq) {
                    self.skip_to(now, index, self.place(index).0, next_seq);
                }
            }
            ExchangeEvent::At { next_seq, is_end } => {
                // Without this the loss of the last frame before a silence would not be noticed.
                if let Some(next_seq) = self.beyond_wanted(index, next_seq)
                    && self.exchanges[index].is_streaming()
                {
                    self.exchanges[index].raise_head(next_seq);
                    self.exchanges[index].note_missing();
                }
                let exchange = &mut self.exchanges[index];
                let has_all = next_seq == Some(exchange.upstream_seq);
                if has_all && exchange.note_end(is_end) {
                    let text = format!(
                        "{}'s feed has ended, and all of it is here: nothing more comes",
                        exchange.title()
                    );
                    self.connections.log(Level::Info, text);
                }
            }
        }
    }

    /// The place, when it is beyond the one that is wanted from the exchange.
    fn beyond_wanted(&self, index: usize, place: Option<Seq>) -> Option<Seq> {
        place.filter(|place| *place > self.exchanges[index].upstream_seq)
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
        index: usize,
        (feed, next_seq): (u64, Seq),
        continued: Option<Seq>,
    ) {
        let known = self.place(index).0;
        let is_other = known != 0 && feed != known;
        if is_other && let Some(place) = continued {
            if let Err(error) = self.set_place(now, index, feed, place.get()) {
                self.hold_back(index, error);
                let text = "no room for the exchange's new place";
                self.exchanges[index].abandon(text);
                return;
            }
            (self.exchanges[index].upstream_seq, self.has_updates) = (place, true);
            let title = self.exchanges[index].title();
            let text = format!("{title}'s feed is more of the one that the journal holds");
            self.connections.log(Level::Info, text);
        } else if is_other
            && !self.config.appends
            && (feed | known) & RECORDED != 0
            && !is_planted(Bug::TakeAnyFeed)
        {
            if self.exchanges[index].judge_feed(now, false) {
                let title = self.exchanges[index].title();
                let text = format!("nothing is taken in: {title} offers {OTHER_FEED_REMEDY}");
                self.connections.log(Level::Error, text);
            }
            self.connections.refuse(conn, ErrorCode::Unexpected, OTHER_FEED);
            return;
        }
        self.exchanges[index].judge_feed(now, true);
        self.market.forget_exchange_instruments(index);
        let upstream_seq = self.exchanges[index].upstream_seq;
        if self.place(index).0 != feed || next_seq > upstream_seq {
            self.skip_to(now, index, feed, next_seq);
        } else if self.exchanges[index].is_place_uncertain
            && let Err(error) = self.set_place(now, index, feed, upstream_seq.get())
        {
            self.hold_back(index, error);
        }
        let exchange = &mut self.exchanges[index];
        if next_seq < exchange.upstream_seq {
            // It goes back over what is here already: nothing of it is news before it is past that.
            exchange.raise_head(exchange.upstream_seq.next());
        }
        let title = exchange.session_title();
        let text = format!("{title} established, feed {feed:016x} from {next_seq}");
        self.connections.log(Level::Info, text);
    }

    /// What was wanted is not to be had: goes on at `next_seq`, and says so in the next frames.
    pub(super) fn skip_to(&mut self, now: Now, index: usize, feed: u64, next_seq: Seq) {
        let (known_feed, wanted) = (self.place(index).0, self.exchanges[index].upstream_seq);
        if let Err(error) = self.set_place(now, index, feed, next_seq.get()) {
            // With the old place on record the frames of this session would be taken for others.
            self.hold_back(index, error);
            self.exchanges[index].abandon("no room for the exchange's new place");
            return;
        }
        self.exchanges[index].upstream_seq = next_seq;
        self.has_updates = true;
        if known_feed != 0 {
            let title = self.exchanges[index].title();
            let text = if known_feed == feed {
                let last = Seq::number(next_seq.previous());
                format!("{title} no longer has its frames {wanted} to {last}")
            } else {
                format!("{title} offers another feed than before")
            };
            self.connections.log(Level::Warn, text);
            self.market.note_gap(index);
        }
    }

    /// A data frame of the exchange: checks its place, sequences and journals it.
    fn handle_market_frame(&mut self, now: Now, conn: ConnId, index: usize, frame: &Frame) {
        if self.is_held_back {
            // What is not taken now is asked for again when there is room. Definitions ahead of the
            // feed come with a session only.
            self.exchanges[index].note_missing();
            if frame.has(Flags::SNAPSHOT) {
                let text = "no room for the exchange's instruments";
                self.exchanges[index].abandon(text);
            }
            return;
        }
        let theirs = frame;
        let named;
        let frame = if frame.has_exchange() {
            frame
        } else {
            if let Some(part) = frame.view::<InstrumentName>()
                && frame.has(Flags::SNAPSHOT)
            {
                return self.meet_name(now, conn, index, part);
            }
            named = match self.named(index, frame) {
                Ok(named) => named,
                Err(text) => return self.refuse_market_frame(now, conn, index, text),
            };
            &named
        };
        if self.market.has_other_units(frame) && !is_planted(Bug::UnitsMayChange) {
            let text = "an instrument's quantities keep their units";
            return self.refuse_market_frame(now, conn, index, text);
        }
        if frame.has(Flags::SNAPSHOT) {
            if frame.view::<Definition>().is_some_and(|it| self.has_too_many(index, it)) {
                self.exchanges[index].handle_protocol_error(now);
                let text = "no room for further instruments of producers";
                return self.connections.refuse(conn, ErrorCode::Limit, text);
            }
            self.meet_instrument(now, index, frame);
            if let Some(theirs) = theirs.view::<Definition>() {
                self.name_cut(now, index, theirs);
            }
            return;
        }
        let exchange = &mut self.exchanges[index];
        let (seq, wanted) = (frame.seq.get(), exchange.upstream_seq.get());
        if !exchange.is_streaming() || seq < wanted {
            exchange.duplicates += 1;
            return;
        }
        if seq > wanted {
            exchange.raise_head(Seq::behind(seq));
            exchange.note_missing();
            return;
        }
        if let Some(definition) = frame.view::<Definition>()
            && self.market.instrument_of(&definition.symbol).is_some()
        {
            // It was journaled when the instrument was first seen; only its number is used up.
            self.market.map_exchange_instrument(index, definition);
            exchange.upstream_seq = exchange.upstream_seq.next();
            return;
        }
        if let Err(error) = self.place_feed(now, index) {
            return self.hold_back(index, error);
        }
        let (feed, journaled) = self.place(index);
        // Ahead of the frame, whose place in the sequence may change by it.
        if journaled != seq
            && let Err(error) = self.set_place(now, index, feed, seq)
        {
            return self.hold_back(index, error);
        }
        let next_seq = self.journal.next_seq();
        let Some(mut sequenced) = self.market.sequence(now, index, frame, next_seq) else {
            let text = "frame of an undefined instrument";
            return self.refuse_market_frame(now, conn, index, text);
        };
        sequenced.renew_crc();
        // The journal counts by what stands in the frame, and a definition says no exchange.
        let is_uncounted =
            self.exchanges[index].number() != ExchangeNumber::FIRST && !sequenced.has_exchange();
        let appended = if is_uncounted {
            self.append(LogEntry::LocalEvent(&sequenced))
        } else {
            self.append(LogEntry::Event(&sequenced))
        };
        match appended {
            Ok(_) => {
                let exchange = &mut self.exchanges[index];
                exchange.upstream_seq = exchange.upstream_seq.next();
                let heard = exchange.note_event(now);
                self.market.note(&sequenced);
                let (instrument, since) = (sequenced.instrument().index(), exchange.live_since());
                if sequenced.has_exchange() {
                    self.pulses.hear(instrument, (index, since), now.mono);
                }
                if sequenced.kind == Kind::Quote as u8 && sequenced.has(Flags::HALTED) {
                    self.pulses.rest(instrument);
                }
                if let Some(change) = heard {
                    self.tell_exchange_silence(now, index, change);
                }
                self.has_updates = true;
            }
            Err(error) => {
                if is_planted(Bug::PublishBeforeJournal) {
                    for conn in self.followers.streaming().collect::<Vec<_>>() {
                        self.connections.send_frame(conn, &sequenced);
                    }
                }
                self.market.take_back(&sequenced);
                self.hold_back(index, error);
            }
        }
    }

    pub(super) fn refuse_market_frame(&mut self, now: Now, conn: ConnId, index: usize, text: &str) {
        self.exchanges[index].handle_protocol_error(now);
        self.connections.refuse(conn, ErrorCode::Unexpected, text);
    }

    /// What is neither a quote nor a trade nor a cancellation: a definition under the name that its instrument has here.
    #[cold]
    fn named(&mut self, index: usize, frame: &Frame) -> Result<Frame, &'static str> {
        let venue = self.exchanges[index].venue();
        let Some(definition) = frame.view::<Definition>() else {
            use Kind::{BreakerChange, ExchangePlace, InstrumentName, Silence};
            let is_systems = matches!(
                frame.kind(),
                Some(BreakerChange | ExchangePlace | InstrumentName | Silence)
            );
            // Who counts by what stands in a frame cannot count what does not say its exchange.
            let is_taken = !is_systems && venue.is_none();
            return if is_taken { Ok(*frame) } else { Err(NOT_MARKETS) };
        };
        if definition.symbol.is_reserved() && !is_planted(Bug::TakeReservedNames) {
            return Err(NOT_MARKETS);
        }
        let Some(venue) = venue.filter(|_| !is_planted(Bug::VenueForgotten)) else {
            let prefix = definition.symbol.as_str().split_once(':').map(|(prefix, _)| prefix);
            return match prefix.is_some_and(|prefix| self.venues.contains(prefix)) {
                true => Err("the symbol begins with another exchange's name"),
                false => Ok(*frame),
            };
        };
        let (symbol, is_whole) = Symbol::at_venue(venue, &definition.symbol);
        if !is_whole && self.market.instrument_of(&symbol).is_none() {
            let text = format!(
                "{venue}:{} is no symbol here, it has more than {} characters: it is shown as {symbol}",
                definition.symbol,
                Symbol::BYTES_MAX
            );
            self.connections.log(Level::Warn, text);
        }
        Ok(Frame::seal(Definition { symbol, ..*definition }.at_venue()))
    }

    /// A definition ahead of the feed: gives a new instrument its number here. The feed may start
    /// behind the place where the exchange defined it.
    fn meet_instrument(&mut self, now: Now, index: usize, frame: &Frame) {
        let Some(definition) = frame.view::<Definition>() else { return };
        let placed = self.place_feed(now, index);
        let seq = self.journal.next_seq();
        let stored = placed.and_then(|()| match self.market.define_local(definition, seq, now) {
            Some(local) => self.append_local(&local),
            None => Ok(()),
        });
        if let Err(error) = stored {
            self.hold_back(index, error);
            let text = "no room for the exchange's instruments";
            self.exchanges[index].abandon(text);
            return;
        }
        self.market.map_exchange_instrument(index, definition);
    }

    pub(super) fn hold_back(&mut self, index: usize, error: AppendError) {
        if !self.is_held_back {
            self.is_held_back = true;
            let level = if error == AppendError::NotReady { Level::Debug } else { Level::Error };
            let health = self.journal.health();
            let reason = health.problem().map_or(error.to_string(), ToString::to_string);
            self.connections.log(level, format!("the journal takes no more for now: {reason}"));
        }
        self.exchanges[index].note_missing();
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
