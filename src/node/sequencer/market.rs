//! What core knows of the market: its own instrument numbers, the counters that stamp every frame, and
//! the last value of everything. Rebuilt from the journal, so it never disagrees with it.
//!
//! # Decisions
//!
//! * Core assigns the instrument numbers. The exchange's numbers are valid in one session only, so core
//!   maps them by symbol. Another tape or a restarted exchange therefore never gives one number two names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::MARKET_SOURCE;
use super::damage::{Loss, last_number};
use crate::feed::{LastValues, NameTable};
use crate::limits;
use crate::log::{
    ExchangePlaces, Log, Mark, Read, Reason, Storage, hole_in, is_event, is_statement, is_uncertain,
};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::time::{ClockChange, Follow, Now, SteadyTime};
use crate::wire::{
    DataKind, Definition, ExchangeNumber, Flags, Frame, InstrumentId, InstrumentIndex, Kind, Seq,
    Symbol, U16, U32, U64, next_instrument_seq,
};

/// Stamps and remembers.
#[derive(Debug)]
pub(super) struct Market {
    partition: Partition,
    values: LastValues,
    instruments_by_name: NameTable<InstrumentId>,
    /// By own index; a hole is one whose definition the journal has lost.
    instruments: Vec<Option<Instrument>>,
    /// Indexes of those that the journal has frames of, and no definition.
    nameless: BTreeSet<InstrumentIndex>,
    /// Last values with a seq below this may have been followed by others, which the journal lost.
    uncertain_below: Option<Seq>,
    /// What is known of each exchange that core follows, in the order of the configuration.
    upstreams: Vec<Upstream>,
    /// How far the journal is in the feeds of exchanges.
    places: ExchangePlaces,
    /// The last frame of each instrument's other kinds, which only count here: of at most five kinds
    /// of every instrument, and in truth of few.
    others: BTreeMap<(InstrumentIndex, u8), Frame>,
    /// Epochs that the journal has marks of, ascending, each with its first seq.
    epochs: VecDeque<(u32, u64)>,
    /// The highest receive time of the journal.
    last_ts_recv: u64,
    /// What receive times are taken from.
    clock: Option<SteadyTime>,
    /// Counts losses at the source.
    gaps: u64,
}

/// One exchange, as the frames of it are numbered.
#[derive(Debug, Default)]
struct Upstream {
    number: ExchangeNumber,
    /// Its index of an instrument to ours: valid within one session, since the exchange assigns it.
    own_index: BTreeMap<InstrumentIndex, InstrumentIndex>,
    /// The value of `gaps` behind its last loss.
    last_gap: u64,
}

#[derive(Clone, Copy, Debug)]
struct Instrument {
    /// The next `instrument_seq` of each kind.
    next_seqs: [u32; KINDS],
    owner: u16,
    /// The value of `gaps` up to which this instrument's frames were flagged.
    gaps_flagged: u64,
    /// The `seq` of its newest frame.
    last_seq: u64,
}

/// Data kinds, by number.
const KINDS: usize = Kind::LogMark as usize;

impl Market {
    /// Reads the whole journal. What has rotted is known from a later statement, or from its own record
    /// when one bit of that can be seen by the checksum; a warning about what nothing shows.
    ///
    /// # Errors
    /// When definitions are lost: their instruments would get other numbers.
    pub(super) fn rebuild<S: Storage>(
        journal: &Log<S>,
        partition: Partition,
    ) -> Result<(Market, Option<String>), String> {
        let mut market = Market {
            partition,
            values: LastValues::default(),
            instruments_by_name: NameTable::default(),
            instruments: Vec::new(),
            nameless: BTreeSet::new(),
            uncertain_below: None,
            upstreams: Vec::new(),
            places: ExchangePlaces::default(),
            others: BTreeMap::new(),
            epochs: VecDeque::new(),
            last_ts_recv: 0,
            clock: None,
            gaps: 0,
        };
        let mut position = journal.first_position();
        let mut loss = Loss::begin(position == 0);
        let mut tries = limits::REPAIRED_RECORDS_MAX;
        loop {
            match journal.read(position, limits::FILL_FRAMES_MAX) {
                Read::End => break,
                Read::Damaged(range) => {
                    position = range.end;
                    loss.pass_damage();
                    for bad in range.take(tries) {
                        tries -= 1;
                        let repaired = journal.repaired(bad).filter(is_event);
                        if let Some(frame) = repaired.filter(|frame| loss.can_be(frame.seq.get())) {
                            loss.pass_frame(frame.seq.get());
                            market.note_read(&frame);
                        }
                    }
                }
                Read::Frames(frames) => {
                    let void_from = journal.void_from(position);
                    for frame in frames {
                        if let Some(mark) = frame.view::<Mark>() {
                            market.note_epoch(mark.epoch.get(), mark.epoch_start.get());
                            loss.pass_mark(mark.seq.get());
                            // What is said behind the mark holds behind the loss.
                            market.places.pass_lost(mark.seq.get());
                            if mark.is(Reason::Segment) {
                                loss.begin_segment();
                            } else if mark.is(Reason::Stated) {
                                loss.pass_stated();
                            }
                            continue;
                        }
                        if is_event(frame) {
                            loss.pass_frame(frame.seq.get());
                        } else if let Some(hole) = hole_in(frame) {
                            market.places.pass_lost(hole.to_seq.get().saturating_add(1));
                        }
                        let is_data = frame.kind().is_some_and(Kind::is_data);
                        if is_data && frame.seq.get() < void_from {
                            market.note_read(frame);
                        }
                    }
                    position += frames.len() as u64;
                }
            }
        }
        let nameless = market.nameless.len();
        if let Some(refusal) = loss.refusal(nameless, market.instruments.len()) {
            return Err(refusal);
        }
        market.places.pass_lost(journal.next_seq());
        let unused = usize::try_from(loss.frames).unwrap_or(0);
        market.instruments.resize(market.instruments.len() + unused, None);
        // Besides what the statements say that a core before this one did not know.
        market.uncertain_below = market.uncertain_below.max(loss.uncertain_below());
        Ok((market, loss.warning()))
    }

    /// From now on it is fed by the exchanges with these numbers, in this order.
    pub(super) fn follow(&mut self, exchanges: impl Iterator<Item = ExchangeNumber>) {
        let upstream = |number| Upstream { number, ..Upstream::default() };
        self.upstreams = exchanges.map(upstream).collect();
    }

    /// The same, and one exchange more.
    pub(super) fn follow_also(&mut self, number: ExchangeNumber) {
        self.upstreams.push(Upstream { number, ..Upstream::default() });
    }

    /// How far the journal is in the feeds of exchanges.
    pub(super) fn places(&self) -> &ExchangePlaces {
        &self.places
    }

    /// Whether an instrument has a name that begins so.
    pub(super) fn has_names_of(&self, venue: &str) -> bool {
        let is_of_it = |symbol: Symbol| {
            symbol.as_str().split_once(':').is_some_and(|(prefix, _)| prefix == venue)
        };
        InstrumentIndex::until(self.values.index_end())
            .filter_map(|index| self.values.symbol(index))
            .any(is_of_it)
    }

    /// The name of an instrument, when it is defined.
    pub(super) fn symbol(&self, instrument: InstrumentId) -> Option<Symbol> {
        self.values.symbol(instrument.index())
    }

    pub(super) fn note_epoch(&mut self, epoch: u32, start_seq: u64) {
        if self.epochs.back().is_none_or(|(known, _)| *known < epoch) {
            if self.epochs.len() >= limits::EPOCHS_KEPT_MAX {
                self.epochs.pop_front();
            }
            self.epochs.push_back((epoch, start_seq));
        }
    }

    /// What was sent in `epoch` is void from this seq on: there the next epoch began, and none began
    /// lower later. `None` when the journal no longer knows, or never did. For followers that know no identity.
    pub(super) fn end_of_epoch(&self, epoch: u32) -> Option<u64> {
        let place = self.epochs.iter().position(|(known, _)| *known == epoch)?;
        self.epochs.get(place + 1).map(|(_, start_seq)| *start_seq)
    }

    /// See the field.
    pub(super) fn uncertain_below(&self) -> Option<Seq> {
        self.uncertain_below
    }

    /// Instruments known, the system's own included.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn values(&self) -> &LastValues {
        &self.values
    }

    pub(super) fn instrument_of(&self, symbol: &Symbol) -> Option<InstrumentId> {
        self.instruments_by_name.of_symbol(symbol)
    }

    /// Instruments by name.
    pub(super) fn names(&self) -> &NameTable<InstrumentId> {
        &self.instruments_by_name
    }

    /// The shard that owns an instrument.
    pub(super) fn owner(&self, index: InstrumentIndex) -> Option<u16> {
        self.instruments.get(index.place())?.map(|known| known.owner)
    }

    /// The place behind the newest frame that a shard owns, as far as the journal can be read.
    pub(super) fn owned_until(&self, shard: u16) -> Seq {
        let owned = self.instruments.iter().flatten().filter(|known| known.owner == shard);
        Seq::behind(owned.map(|known| known.last_seq).max().unwrap_or(0))
    }

    /// All that is known, for the head of a journal's new segment: each instrument's definition, and
    /// its last frame of every kind, which has the counter that the next one goes on from. And what is
    /// not known: whoever reads this no longer has, or no longer minds, the loss that is the reason.
    ///
    /// All in one turn, once for a segment: they must stand at its head, before its first frame. There are five frames
    /// of an instrument at most.
    pub(super) fn statements(&self) -> Vec<Frame> {
        let of = |index: InstrumentIndex| {
            let values = &self.values;
            let others = self.others.range((index, 0)..=(index, u8::MAX));
            values.known(index).into_iter().flatten().chain(others.map(|(_, frame)| frame))
        };
        let stated = |frame: &Frame| {
            let uncertainty = if !frame.is_naming() && frame.seq() < self.uncertain_below {
                Flags::STALE
            } else {
                0
            };
            self.places.stated(frame).delivered(uncertainty)
        };
        // Any other number that is left out has a greater one behind it, which keeps it out.
        let last =
            self.instruments.len().checked_sub(1).filter(|last| self.instruments[*last].is_none());
        let left_out = last.and_then(|last| last_number(own_id(InstrumentIndex::at(last)?)));
        InstrumentIndex::until(self.values.index_end())
            .flat_map(of)
            .map(stated)
            .chain(left_out)
            .collect()
    }

    /// A frame that was journaled now: from now on it is the truth.
    pub(super) fn note(&mut self, frame: &Frame) {
        self.places.note(frame);
        self.take_in(frame);
    }

    /// The same of what the journal has, of statements too.
    fn note_read(&mut self, frame: &Frame) {
        self.places.read(frame);
        self.take_in(frame);
    }

    // In line: it stands behind each frame that is journaled, and a call costs a tenth of it.
    #[inline(always)]
    fn take_in(&mut self, frame: &Frame) {
        let mut frame = *frame;
        let index = frame.instrument().index();
        if is_statement(&frame) {
            if is_uncertain(&frame) {
                if frame.kind == Kind::Definition as u8 {
                    return self.reserve(index);
                }
                self.uncertain_below = self.uncertain_below.max(Some(frame.next_seq()));
            }
            // The frame as it was sequenced: whoever hands it out says so again.
            frame.flags = U16::new(frame.flags.get() & !(Flags::SNAPSHOT | Flags::STALE));
            frame.renew_crc();
        }
        let frame = &frame;
        if let Some(definition) = frame.view::<Definition>() {
            let owner = self.partition.owner_of(&definition.names());
            self.instruments_by_name.insert(&definition.names(), frame.instrument());
            self.reserve(index);
            if let Some(place) = self.instruments.get_mut(index.place()) {
                let (next_seqs, gaps_flagged) = ([1; KINDS], self.gaps);
                place.get_or_insert(Instrument { next_seqs, owner, gaps_flagged, last_seq: 0 });
            }
            self.nameless.remove(&index);
        } else {
            self.reserve(index);
            if self.instruments.get(index.place()).is_some_and(Option::is_none) {
                self.nameless.insert(index);
            }
        }
        if let Some(Some(known)) = self.instruments.get_mut(index.place())
            && let Some(next) = known.next_seqs.get_mut(usize::from(frame.kind))
        {
            *next = next_instrument_seq(frame.instrument_seq.get());
            known.last_seq = known.last_seq.max(frame.seq.get());
        }
        self.last_ts_recv = self.last_ts_recv.max(frame.ts_recv.get());
        let is_kept = frame.is_naming() || DataKind::last_value_slot(frame.kind).is_some();
        if !is_kept && index.place() < limits::INSTRUMENTS_MAX {
            self.others.insert((index, frame.kind), *frame);
        }
        self.values.note(frame);
    }

    /// A number that the journal has used is never given to another instrument.
    fn reserve(&mut self, index: InstrumentIndex) {
        let index = index.place();
        if self.instruments.len() <= index && index < limits::INSTRUMENTS_MAX {
            self.instruments.resize(index + 1, None);
        }
    }

    /// A new session: the exchange's numbers start over.
    pub(super) fn forget_exchange_instruments(&mut self, exchange: usize) {
        self.upstreams[exchange].own_index.clear();
    }

    /// The exchange calls a known instrument by this number.
    pub(super) fn map_exchange_instrument(&mut self, exchange: usize, definition: &Definition) {
        let theirs = definition.instrument().index();
        let ours = match self.instrument_of(&definition.symbol) {
            Some(instrument) => instrument.index(),
            // The table is full: its frames will close the session.
            None => return,
        };
        let own_index = &mut self.upstreams[exchange].own_index;
        if own_index.len() < limits::INSTRUMENTS_MAX {
            own_index.insert(theirs, ours);
        }
    }

    /// The own number of what the exchange calls so.
    pub(super) fn own_instrument(
        &self,
        exchange: usize,
        theirs: InstrumentId,
    ) -> Option<InstrumentId> {
        self.upstreams.get(exchange)?.own_index.get(&theirs.index()).map(|ours| own_id(*ours))
    }

    /// Frames were lost at the source: the next frame of each of its instruments says so.
    pub(super) fn note_gap(&mut self, exchange: usize) {
        self.gaps += 1;
        self.upstreams[exchange].last_gap = self.gaps;
    }

    /// Turns a frame of an exchange into ours: own number, place in the sequence, receive time, and which exchange sent it.
    /// The caller renews the CRC. `None` when its instrument was never defined or the table is full.
    pub(super) fn sequence(
        &mut self,
        now: Now,
        exchange: usize,
        frame: &Frame,
        seq: u64,
    ) -> Option<Frame> {
        let theirs = frame.instrument().index();
        let mut own = *frame;
        let mut flags = frame.flags.get() & !Flags::DELIVERY & !Flags::GAP_BEFORE;
        let upstream = self.upstreams.get_mut(exchange)?;
        if frame.has_exchange() {
            flags = flags & !Flags::EXCHANGE | upstream.number.flags();
        }
        if let Some(definition) = frame.view::<Definition>() {
            let ours = match self.instrument_of(&definition.symbol) {
                Some(instrument) => instrument.index(),
                None => self.next_index()?,
            };
            let own_index = &mut self.upstreams[exchange].own_index;
            if own_index.len() >= limits::INSTRUMENTS_MAX {
                return None;
            }
            own_index.insert(theirs, ours);
            own.instrument = own_id(ours).into();
            own.instrument_seq = U32::ZERO;
        } else {
            let ours = *upstream.own_index.get(&theirs)?;
            let known = self.instruments.get_mut(ours.place())?.as_mut()?;
            if known.gaps_flagged < upstream.last_gap && has_gap_flag(frame) {
                known.gaps_flagged = upstream.last_gap;
                flags |= Flags::GAP_BEFORE;
            }
            own.instrument = own_id(ours).into();
            own.instrument_seq = U32::new(known.next_seq(frame));
        }
        own.flags = U16::new(flags);
        own.seq = U64::new(seq);
        own.ts_recv = U64::new(self.receive_time(now));
        Some(own)
    }

    /// Whether a definition states quantities of a known instrument in other units than its definition in the journal. All
    /// that the journal has of it would mean something else.
    pub(super) fn has_other_units(&self, frame: &Frame) -> bool {
        let Some(stated) = frame.view::<Definition>() else { return false };
        let known = self.instrument_of(&stated.symbol);
        let known = known.and_then(|known| self.values.definition(known.index()));
        known
            .and_then(Frame::view::<Definition>)
            .is_some_and(|known| known.decimals().quantity != stated.decimals().quantity)
    }

    /// The journal did not take the frame: it will be sequenced again.
    pub(super) fn take_back(&mut self, frame: &Frame) {
        if frame.has(Flags::GAP_BEFORE) {
            let index = frame.instrument().index();
            if let Some(Some(known)) = self.instruments.get_mut(index.place()) {
                known.gaps_flagged = 0;
            }
        }
    }

    /// The definition of an instrument that is not defined yet.
    pub(super) fn define_local(
        &mut self,
        stated: &Definition,
        seq: u64,
        now: Now,
    ) -> Option<Frame> {
        if self.instrument_of(&stated.symbol).is_some() {
            return None;
        }
        let index = self.next_index()?;
        let (symbol, decimals) = (stated.symbol, stated.decimals());
        let mut definition = Definition::new(own_id(index), symbol, decimals.price)
            .with_quantity_decimals(decimals.quantity);
        if stated.flags.get() & Flags::VENUE != 0 {
            definition = definition.at_venue();
        }
        definition.seq = U64::new(seq);
        let received = U64::new(self.receive_time(now));
        definition.ts_event = received;
        definition.ts_recv = received;
        Some(Frame::seal(definition))
    }

    /// Gives a frame of our own its place, and the time of now, unless it says a time.
    pub(super) fn stamp_local(
        &mut self,
        now: Now,
        mut frame: Frame,
        instrument: InstrumentId,
        seq: u64,
    ) -> Frame {
        let known = self.instruments.get(instrument.index().place()).and_then(Option::as_ref);
        frame.instrument = instrument.into();
        // Names are not counted, as definitions are not: each stands for itself.
        let counted = known.filter(|_| !frame.is_naming());
        frame.instrument_seq = U32::new(counted.map_or(0, |known| known.next_seq(&frame)));
        frame.seq = U64::new(seq);
        let received = U64::new(self.receive_time(now));
        if frame.ts_event == U64::ZERO {
            frame.ts_event = received;
        }
        frame.ts_recv = received;
        frame.renew_crc();
        frame
    }

    /// Receive times go on from those of the journal. A clock that is behind them by more than this is not believed.
    pub(super) fn start_clock(&mut self, step_max: Duration, now: Now) {
        let floor = Some(self.last_ts_recv).filter(|time| *time > 0);
        self.clock = Some(SteadyTime::start(Follow::Receipts, floor, step_max, now));
    }

    /// Takes the clocks in when no frame does.
    pub(super) fn read_clock(&mut self, now: Now) {
        self.receive_time(now);
    }

    /// That the wall clock was behind the last receive time at the start, and when that is over. What else it does
    /// the journal says too.
    pub(super) fn poll_clock_change(&mut self) -> Option<ClockChange> {
        let change = self.clock.as_mut().and_then(SteadyTime::take_change);
        change.filter(|it| matches!(it, ClockChange::Behind(_) | ClockChange::Believed))
    }

    /// That the wall clock is behind receive times, while it is.
    pub(super) fn clock_behind(&self) -> Option<ClockChange> {
        let objection = self.clock.as_ref().and_then(SteadyTime::objection);
        objection.filter(|it| matches!(it, ClockChange::Behind(_)))
    }

    /// The time of a receipt: it never falls, whatever the wall clock does (see [`SteadyTime`]).
    #[inline]
    fn receive_time(&mut self, now: Now) -> u64 {
        if is_planted(Bug::ReceiveTimeByWallClock) {
            self.last_ts_recv = self.last_ts_recv.max(now.wall_ns);
            return self.last_ts_recv;
        }
        match &mut self.clock {
            Some(clock) => clock.read(now),
            None => self.last_ts_recv.max(now.wall_ns),
        }
    }

    fn next_index(&self) -> Option<InstrumentIndex> {
        let next = self.instruments.len();
        (next < limits::INSTRUMENTS_MAX).then(|| InstrumentIndex::at(next))?
    }
}

impl Instrument {
    fn next_seq(&self, frame: &Frame) -> u32 {
        self.next_seqs.get(usize::from(frame.kind)).copied().unwrap_or(0)
    }
}

fn has_gap_flag(frame: &Frame) -> bool {
    DataKind::of(frame).is_some_and(|row| row.flags & Flags::GAP_BEFORE != 0)
}

fn own_id(index: InstrumentIndex) -> InstrumentId {
    InstrumentId::new(MARKET_SOURCE, index)
}
