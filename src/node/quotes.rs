//! How a node answers for current quotes: one instrument, a list or a pattern, a piece at a time. Core
//! and its replicas do it alike. What it is not: the place where quotes are kept, or the judge of whether
//! they are current; both are the node's.

use std::collections::VecDeque;
use std::time::Duration;

use super::session::{Principal, Rejection, Shares};
use crate::feed::{LastValues, NameTable};
use crate::limits;
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{
    EndStatus, Ended, ErrorCode, FeedStates, Flags, Frame, InstrumentId, Kind, Refusal, Run, Seq,
    U16, U32, U64,
};

/// What a node answers from, as it stands now.
#[derive(Clone, Copy, Debug)]
pub struct QuoteView<'a> {
    /// The last values.
    pub values: &'a LastValues,
    /// Instruments by name.
    pub names: &'a NameTable<InstrumentId>,
    /// Which quotes are known to be current.
    pub states: FeedStates,
    /// Quotes with a `seq` below this may have been followed by others that are lost: they are STALE.
    pub uncertain_below: Option<Seq>,
    /// Everything before this `seq` is in the values.
    pub as_of: Option<Seq>,
    /// The next `seq` that is not durable; `None`: says nothing.
    pub durable_seq: Option<Seq>,
    /// How far behind core the node is, as END states it.
    pub behind_ms: u32,
}

/// The questions for quotes of one connection.
#[derive(Debug)]
pub struct QuoteQueries {
    open: VecDeque<OpenQuery>,
    principal: Principal,
    /// What [`QuotePlaces`] has counted of them.
    counted: (usize, usize),
}

/// The places of all connections' questions for quotes. Those about a cut that the values have not reached count
/// apart.
#[derive(Debug)]
pub(crate) struct QuotePlaces {
    open: Shares,
    waiting: Shares,
}

impl Default for QuotePlaces {
    fn default() -> QuotePlaces {
        QuotePlaces {
            open: Shares::new("queries", limits::QUOTE_QUERIES_MAX),
            waiting: Shares::new("waiting queries", limits::WAITING_QUERIES_MAX),
        }
    }
}

#[derive(Debug)]
struct OpenQuery {
    question: Question,
    /// How long it may wait for the values to be as far as it wants.
    until: Mono,
    /// It has waited long enough.
    is_due: bool,
    answering: Option<QuoteAnswer>,
}

/// An answer on its way out.
#[derive(Debug)]
struct QuoteAnswer {
    /// By symbol.
    instruments: Vec<InstrumentId>,
    /// How far in them, definitions and then quotes.
    next: usize,
    quotes: u32,
    as_of: Option<Seq>,
    durable_seq: Option<Seq>,
    behind_ms: u32,
}

impl QuoteQueries {
    /// None yet, of a connection that counts as this.
    pub(crate) fn new(principal: Principal) -> QuoteQueries {
        QuoteQueries { open: VecDeque::new(), principal, counted: (0, 0) }
    }

    /// Counts what has changed.
    pub(crate) fn settle(&mut self, places: &mut QuotePlaces) {
        let (before, after) = (self.counted, self.counts());
        places.open.change(self.principal, before.0, after.0);
        places.waiting.change(self.principal, before.1, after.1);
        self.counted = after;
    }

    /// The connection has ended.
    pub(crate) fn end(&mut self, places: &mut QuotePlaces) {
        self.open.clear();
        self.settle(places);
    }

    /// Takes a question in. Only one that `waits` for its cut may do so, and not for ever.
    ///
    /// # Errors
    /// When too many are open.
    pub(crate) fn ask(
        &mut self,
        now: Mono,
        question: Question,
        waits: bool,
        places: &mut QuotePlaces,
    ) -> Result<(), Rejection> {
        let too_many_wait = waits && self.counts().1 >= limits::WAITING_QUERIES_PER_CONNECTION_MAX;
        if self.open.len() >= limits::LEAF_QUERIES_MAX || too_many_wait {
            return Err(Rejection::new(ErrorCode::Limit, "too many of your queries are open"));
        }
        let (open, waiting) = self.counted;
        let (shares, counted) =
            if waits { (&places.waiting, waiting) } else { (&places.open, open) };
        shares.check(self.principal, counted)?;
        let own = Duration::from_micros(u64::from(question.query.deadline_us.get()));
        let until = now + own.min(limits::CUT_AHEAD_WAIT_MAX);
        self.open.push_back(OpenQuery { question, until, is_due: !waits, answering: None });
        self.settle(places);
        Ok(())
    }

    /// Forgets a question. No answer follows.
    pub fn stop(&mut self, id: u32) {
        self.open.retain(|open| open.question.query.id.get() != id);
    }

    /// Whether a question with this id is open.
    #[must_use]
    pub fn has_open(&self, id: u32) -> bool {
        self.open.iter().any(|open| open.question.query.id.get() == id)
    }

    /// How many are worked on, and how many wait for their cut.
    fn counts(&self) -> (usize, usize) {
        let waiting = self.open.iter().filter(|open| open.answering.is_none() && !open.is_due);
        let waiting = waiting.count();
        (self.open.len() - waiting, waiting)
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// When a question that waits for its cut has waited long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let waiting = self.open.iter().filter(|open| open.answering.is_none() && !open.is_due);
        waiting.map(|open| open.until).min()
    }

    /// The nearest cut that a question waits for.
    #[must_use]
    pub fn next_cut(&self) -> Option<Seq> {
        let waiting = self.open.iter().filter(|open| open.answering.is_none() && !open.is_due);
        waiting.filter_map(|open| open.question.as_of).min()
    }

    /// Lets nothing wait beyond its time. Whether something became due: it is to be answered then.
    pub fn handle_timeout(&mut self, now: Mono) -> bool {
        let waiting = self.open.iter_mut().filter(|open| !open.is_due && open.until <= now);
        waiting.map(|open| open.is_due = true).count() > 0
    }

    /// Puts the next piece of the answers behind `out`.
    pub fn fill(&mut self, view: &QuoteView<'_>, out: &mut Vec<Frame>) {
        while out.len() < limits::FILL_FRAMES_MAX {
            let is_ready = |open: &OpenQuery| {
                open.answering.is_some() || open.question.as_of <= view.as_of || open.is_due
            };
            let Some(place) = self.open.iter().position(is_ready) else { return };
            let Some(open) = self.open.get_mut(place) else { return };
            if open.fill(view, out) {
                self.open.remove(place);
            }
        }
    }
}

impl OpenQuery {
    /// Whether that was all of it.
    fn fill(&mut self, view: &QuoteView<'_>, out: &mut Vec<Frame>) -> bool {
        let id = self.question.query.id;
        let refused = |code, text| Frame::seal(Refusal::new(code, id.get(), text));
        if self.answering.is_none() {
            if self.question.as_of > view.as_of {
                let (as_of, code) = (Seq::field(view.as_of), U16::new(ErrorCode::Behind as u16));
                let status = EndStatus::Failed as u8;
                out.push(Frame::seal(Ended { id, status, code, as_of, ..Ended::default() }));
                return true;
            }
            let instruments = view.names.matching(self.question.patterns());
            if instruments.len() > limits::QUOTES_PER_ANSWER_MAX {
                out.push(refused(ErrorCode::Limit, "more instruments than one answer may have"));
                return true;
            }
            if instruments.is_empty() && self.question.symbol().is_some() {
                let text = "no instrument of this name is known";
                out.push(refused(ErrorCode::UnknownSymbol, text));
                return true;
            }
            // A quote that comes in between is newer than what the answer promises.
            let (as_of, durable_seq) = (view.as_of, view.durable_seq);
            let behind_ms = view.behind_ms;
            let answering =
                QuoteAnswer { instruments, next: 0, quotes: 0, as_of, durable_seq, behind_ms };
            self.answering = Some(answering);
        }
        let Some(answering) = &mut self.answering else { return true };
        // Another answer may stand between this piece and the one before.
        out.push(Frame::seal(Run { id, ..Run::default() }));
        answering.fill(id, view, out)
    }
}

impl QuoteAnswer {
    fn fill(&mut self, id: U32, view: &QuoteView<'_>, out: &mut Vec<Frame>) -> bool {
        let count = self.instruments.len();
        while let Some(&instrument) = self.instruments.get(self.next % count.max(1)) {
            if self.next >= 2 * count {
                break;
            }
            if out.len() >= limits::FILL_FRAMES_MAX {
                return false;
            }
            if self.next < count {
                let naming = view.values.naming(instrument.index());
                out.extend(naming.map(|frame| frame.delivered(Flags::SNAPSHOT)));
            } else if let Some(quote) = view.values.last(instrument.index(), Kind::Quote) {
                let is_uncertain = quote.seq() < view.uncertain_below;
                let uncertainty = if is_uncertain { Flags::STALE } else { 0 };
                out.push(quote.delivered(view.states.of_value(quote).flags() | uncertainty));
                self.quotes += 1;
            }
            self.next += 1;
        }
        let code = if self.quotes > 0 { 0 } else { ErrorCode::NoData as u16 };
        out.push(Frame::seal(Ended {
            id,
            status: EndStatus::Complete as u8,
            code: U16::new(code),
            rows: U32::new(self.quotes),
            behind_ms: U32::new(self.behind_ms),
            covered_to: U64::new(u64::MAX),
            as_of: Seq::field(self.as_of),
            durable_seq: Seq::field(self.durable_seq),
            ..Ended::default()
        }));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ConnId;
    use crate::wire::{Definition, Op, Query, Quote, Symbol, padded};

    struct Bench {
        values: LastValues,
        names: NameTable<InstrumentId>,
        as_of: u64,
        desk: QuoteQueries,
        places: QuotePlaces,
    }

    impl Bench {
        fn new(symbols: &[&str]) -> Bench {
            let principal = Principal::Connection(ConnId { generation: 1, slot: 1 });
            let (mut values, mut names) = (LastValues::default(), NameTable::default());
            for (index, symbol) in (0..).zip(symbols) {
                let symbol: Symbol = symbol.parse().unwrap();
                let definition = Definition::new(U32::new(index).into(), symbol, 2);
                let is_at_venue = symbol.behind_venue().is_some();
                let definition = if is_at_venue { definition.at_venue() } else { definition };
                names.insert(&definition.names(), definition.instrument());
                values.note(&Frame::seal(definition));
                let (instrument, seq) = (U32::new(index), U64::new(u64::from(index) + 1));
                values.note(&Frame::seal(Quote { instrument, seq, ..Quote::default() }));
            }
            Bench {
                values,
                names,
                as_of: 100,
                desk: QuoteQueries::new(principal),
                places: QuotePlaces::default(),
            }
        }

        fn ask(&mut self, symbols: &[&str], as_of: u64) {
            let query = Query {
                id: U32::new(5),
                op: Op::Quote as u8,
                deadline_us: U32::new(1_000),
                symbol: padded(symbols[0]),
                ..Query::default()
            };
            let question = Question::new(&query).unwrap();
            let question = question.about(symbols.iter().map(|it| padded(it))).unwrap();
            self.desk
                .ask(Mono(0), question.cut_at(Seq::new(as_of)), true, &mut self.places)
                .unwrap();
        }

        fn piece(&mut self, now: u64) -> Vec<Frame> {
            let mut out = Vec::new();
            let view = QuoteView {
                values: &self.values,
                names: &self.names,
                states: FeedStates::STALE,
                uncertain_below: None,
                as_of: Seq::new(self.as_of),
                durable_seq: None,
                behind_ms: 0,
            };
            self.desk.handle_timeout(Mono(now));
            self.desk.fill(&view, &mut out);
            out
        }
    }

    fn named(frames: &[Frame]) -> Vec<u32> {
        let quotes = frames.iter().filter(|frame| frame.kind() == Some(Kind::Quote));
        quotes.map(|frame| frame.instrument.get()).collect()
    }

    #[test]
    fn patterns_find_each_instrument_once_by_name_and_no_system_topic() {
        let mut bench = Bench::new(&["VALE3", "$sys.breaker", "PETR4", "PETR3", "PETZ3", "A"]);
        for (asked, found) in [
            (&["PETR4", "PETR*", "PETR4"][..], &[3, 2][..]),
            (&["*"], &[5, 3, 2, 4, 0]),
            (&["$*"], &[1]),
            (&["PETR*", "X", "VALE3"], &[3, 2, 0]),
        ] {
            bench.ask(asked, 0);
            let frames = bench.piece(0);
            assert_eq!(named(&frames), found, "{asked:?}");
            assert!(
                frames
                    .iter()
                    .filter(|f| f.kind() == Some(Kind::Quote))
                    .all(|f| f.has(Flags::STALE))
            );
            let end = frames.last().unwrap().view::<Ended>().unwrap();
            assert_eq!((end.rows.get() as usize, end.as_of.get()), (found.len(), 100));
        }
        bench.ask(&["X"], 0);
        assert!(bench.piece(0)[0].view::<Refusal>().is_some());
        assert!(bench.desk.is_idle());
    }

    /// One name may be that of several instruments: all of them are told, each with its definition.
    #[test]
    fn a_short_form_asks_for_the_quotes_of_every_venue() {
        let mut bench = Bench::new(&["xnas:AMZN", "VALE3", "arcx:AMZN", "AMZN", "xnas:QQQ"]);
        for (asked, found) in [
            (&["AMZN"][..], &[3, 2, 0][..]),
            (&["xnas:AMZN"], &[0]),
            (&["AMZN", "xnas:*", "arcx*"], &[3, 2, 0, 4]),
            (&["QQQ"], &[4]),
        ] {
            bench.ask(asked, 0);
            let frames = bench.piece(0);
            assert_eq!(named(&frames), found, "{asked:?}");
            let definitions = frames.iter().filter_map(Frame::view::<Definition>);
            let defined: Vec<u32> = definitions.map(|it| it.instrument.get()).collect();
            assert_eq!(defined, found, "{asked:?}");
        }
        bench.ask(&["xnas:VALE3"], 0);
        assert!(bench.piece(0)[0].view::<Refusal>().is_some());
    }

    #[test]
    fn a_question_waits_for_its_cut_and_not_longer_than_its_deadline() {
        let mut bench = Bench::new(&["PETR4"]);
        bench.ask(&["PETR4"], 101);
        assert!(bench.piece(0).is_empty());
        assert_eq!(bench.desk.next_deadline(), Some(Mono(1_000_000)));
        bench.ask(&["PETR4"], 100);
        assert_eq!(named(&bench.piece(1)), [0], "it is not held up by the one before it");
        bench.as_of = 101;
        assert_eq!(named(&bench.piece(2)), [0]);
        bench.ask(&["PETR4"], 102);
        let frames = bench.piece(1_000_000);
        let end = frames[0].view::<Ended>().unwrap();
        assert_eq!((end.code.get(), end.as_of.get()), (ErrorCode::Behind as u16, 101));
        assert!(bench.desk.is_idle());
    }

    #[test]
    fn a_long_answer_comes_in_pieces_and_whole() {
        let symbols: Vec<String> = (0..3_000).map(|n| format!("S{n:05}")).collect();
        let mut bench = Bench::new(&symbols.iter().map(String::as_str).collect::<Vec<_>>());
        bench.ask(&["*"], 0);
        let mut all = Vec::new();
        while !bench.desk.is_idle() {
            let piece = bench.piece(0);
            assert_eq!(piece[0].kind(), Some(Kind::Run));
            assert!(piece.len() <= limits::FILL_FRAMES_MAX + 1);
            all.extend(piece);
        }
        assert_eq!(named(&all), (0..3_000).collect::<Vec<_>>());
    }

    #[test]
    fn more_instruments_than_an_answer_may_have_are_refused_and_not_cut_off() {
        let symbols: Vec<String> =
            (0..=limits::QUOTES_PER_ANSWER_MAX).map(|it| format!("S{it}")).collect();
        let mut bench = Bench::new(&symbols.iter().map(String::as_str).collect::<Vec<_>>());
        bench.ask(&["*"], 0);
        let frames = bench.piece(0);
        let refusal = frames[0].view::<Refusal>().expect("a refusal");
        assert_eq!((frames.len(), refusal.code.get()), (1, ErrorCode::Limit as u16));
        assert!(bench.desk.is_idle());
    }

    #[test]
    fn a_question_that_is_stopped_is_not_answered_and_leaves_its_place() {
        let mut bench = Bench::new(&["PETR4"]);
        bench.ask(&["PETR4"], 101);
        assert!(bench.desk.has_open(5));
        bench.desk.stop(6);
        assert!(!bench.desk.is_idle(), "another one");
        bench.desk.stop(5);
        bench.desk.settle(&mut bench.places);
        bench.as_of = 101;
        assert!(bench.piece(1_000_000).is_empty() && bench.desk.is_idle());
        assert_eq!((bench.places.open.total(), bench.places.waiting.total()), (0, 0));
    }
}
