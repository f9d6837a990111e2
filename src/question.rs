//! One question out of its frames: a QUERY, and the QUERY_MOREs behind it. Every node that answers takes
//! questions apart here, so that none of them reads the protocol in its own way. What it is not: an
//! answer, or a decision about who gives it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::feed::Pattern;
use crate::limits::QUERY_SYMBOLS_MAX;
use crate::wire::{ErrorCode, Flags, Frame, Op, Query, QueryMore, Seq, Symbol, U16};

/// A whole question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its first frame, without the flag MORE.
    pub query: Query,
    /// Answer with what has a `seq` below this; `None`: with all there is.
    pub as_of: Option<Seq>,
    /// Of a Range: where the page before ended, at the time `from`.
    pub after_seq: Option<Seq>,
    /// What is asked about; empty for ops that are about no instrument. Shared, because a question goes
    /// to several nodes, most of the time with the same list.
    patterns: Arc<Vec<Pattern>>,
}

/// Why a question is none. The client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum QuestionError {
    #[error("a query names symbols, or patterns with '*' last")]
    Pattern,
    #[error("more symbols than one query may name")]
    Symbols,
    #[error("such a query is about no list of symbols")]
    Op,
    #[error("after_seq is for a Range only")]
    AfterSeq,
    /// The conversation cannot go on: nobody knows which frame belongs to what.
    #[error("QUERY_MORE belongs behind its query, at once")]
    Broken,
}

impl QuestionError {
    /// What the client is sent.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            QuestionError::Pattern => ErrorCode::BadPattern,
            QuestionError::Symbols => ErrorCode::Limit,
            QuestionError::Op | QuestionError::AfterSeq | QuestionError::Broken => {
                ErrorCode::Unexpected
            }
        }
    }

    /// Whether the connection ends with it, and not only the query.
    #[must_use]
    pub fn ends_connection(self) -> bool {
        self == QuestionError::Broken
    }
}

/// Why something that a peer asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// What the peer is sent.
    pub(crate) code: ErrorCode,
    /// The same in a sentence.
    pub(crate) text: Cow<'static, str>,
}

impl Rejection {
    /// A denial with this sentence.
    pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { code, text: text.into() }
    }

    /// A frame that this peer may not send, or not now.
    #[must_use]
    pub(crate) fn out_of_place() -> Rejection {
        Rejection::new(ErrorCode::Unexpected, "this frame has no place here")
    }
}

/// Whether an op is about instruments, and so about any number of them.
fn takes_patterns(op: u8) -> bool {
    match Op::from_number(op) {
        Some(Op::Quote | Op::Last | Op::Range | Op::Bars | Op::Count | Op::Instruments) => true,
        Some(Op::Replay | Op::Status | Op::Stop | Op::Breaker | Op::Chaos) | None => false,
    }
}

impl Question {
    /// The question of a QUERY that stands alone.
    ///
    /// # Errors
    /// When its symbol is no pattern, for an op that needs one.
    pub fn new(query: &Query) -> Result<Question, QuestionError> {
        let (as_of, after_seq) = (None, None);
        let mut question = Question { query: *query, as_of, after_seq, patterns: Arc::default() };
        question.query.flags = U16::new(query.flags.get() & !Flags::MORE);
        if takes_patterns(query.op) {
            question.add(&query.symbol)?;
        }
        Ok(question)
    }

    fn add(&mut self, field: &[u8; 24]) -> Result<(), QuestionError> {
        if self.patterns.len() >= QUERY_SYMBOLS_MAX {
            return Err(QuestionError::Symbols);
        }
        let pattern = Pattern::from_field(field, 0).map_err(|_| QuestionError::Pattern)?;
        Arc::make_mut(&mut self.patterns).push(pattern);
        Ok(())
    }

    /// The op, which the frame's checks have found to be a known one.
    #[must_use]
    pub fn op(&self) -> Option<Op> {
        Op::from_number(self.query.op)
    }

    /// The one symbol that it is about: no pattern, and none beside it.
    #[must_use]
    pub fn symbol(&self) -> Option<Symbol> {
        match self.patterns.as_slice() {
            [_] => self.query.symbol(),
            _ => None,
        }
    }

    /// The symbols and patterns, in the client's order.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether an instrument of this name is asked about.
    #[must_use]
    pub fn matches(&self, symbol: &Symbol) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(symbol))
    }

    /// The same question about other symbols: `fields` as they stand in a QUERY. `None` when there are
    /// none, or one that is no pattern, or too many.
    #[must_use]
    pub fn about(&self, fields: impl IntoIterator<Item = [u8; 24]>) -> Option<Question> {
        let mut question = Question { patterns: Arc::default(), ..self.clone() };
        for (index, field) in fields.into_iter().enumerate() {
            if index == 0 {
                question.query.symbol = field;
            }
            question.add(&field).ok()?;
        }
        (!question.patterns.is_empty()).then_some(question)
    }

    /// The same question, to be answered as of this seq; `None`: with all there is.
    #[must_use]
    pub fn cut_at(self, as_of: Option<Seq>) -> Question {
        Question { as_of, ..self }
    }

    /// The same question for the next page: behind the row with the time `from` and this `seq`.
    #[must_use]
    pub fn after(self, after_seq: Option<Seq>) -> Question {
        Question { after_seq, ..self }
    }

    /// The frames that ask it, to be sent one directly behind the other.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        let more = |symbol| QueryMore { id: self.query.id, symbol, ..QueryMore::default() };
        let rest = self.patterns.iter().skip(1);
        let mut rest: Vec<QueryMore> =
            rest.map(|pattern| more(crate::wire::padded(&pattern.text()))).collect();
        if self.as_of.is_some() || self.after_seq.is_some() {
            if rest.is_empty() {
                rest.push(more([0; 24]));
            }
            for more in &mut rest {
                more.as_of = Seq::field(self.as_of);
                more.after_seq = Seq::field(self.after_seq);
            }
        }
        let flags = |follows: bool| U16::new(if follows { Flags::MORE } else { 0 });
        let mut frames = vec![Frame::seal(Query { flags: flags(!rest.is_empty()), ..self.query })];
        let count = rest.len();
        frames.extend(
            (1..)
                .zip(rest)
                .map(|(n, more)| Frame::seal(QueryMore { flags: flags(n < count), ..more })),
        );
        frames
    }
}

/// The question that a connection is in the middle of.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// In a box: a connection seldom is, and thousands have none.
    begun: Option<Box<Begun>>,
}

#[derive(Clone, Debug)]
struct Begun {
    id: u32,
    /// What is wrong is said once, behind its last frame.
    question: Result<Question, QuestionError>,
}

impl Questions {
    /// Whether a QUERY_MORE, and nothing else, must come next. Whoever sends another frame is refused with
    /// [`QuestionError::Broken`].
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.begun.is_some()
    }

    /// Takes a QUERY. A question, or what is wrong with it, when it is whole.
    pub fn take_query(&mut self, query: &Query) -> Option<Result<Question, QuestionError>> {
        if self.begun.take().is_some() {
            return Some(Err(QuestionError::Broken));
        }
        let question = Question::new(query);
        if query.flags.get() & Flags::MORE == 0 {
            return Some(question);
        }
        let question = if takes_patterns(query.op) { question } else { Err(QuestionError::Op) };
        self.begun = Some(Box::new(Begun { id: query.id.get(), question }));
        None
    }

    /// Takes a QUERY_MORE. As [`Questions::take_query`].
    pub fn take_more(&mut self, more: &QueryMore) -> Option<Result<Question, QuestionError>> {
        let Some(mut begun) = self.begun.take().filter(|begun| begun.id == more.id.get()) else {
            return Some(Err(QuestionError::Broken));
        };
        if let Ok(question) = &mut begun.question {
            question.as_of = more.as_of().or(question.as_of);
            question.after_seq = more.after_seq().or(question.after_seq);
            let mut added = Ok(());
            if more.symbol != [0; 24] {
                added = question.add(&more.symbol);
            }
            if more.after_seq().is_some() && question.op() != Some(Op::Range) {
                added = Err(QuestionError::AfterSeq);
            }
            if let Err(error) = added {
                begun.question = Err(error);
            }
        }
        if more.flags.get() & Flags::MORE == 0 {
            return Some(begun.question);
        }
        self.begun = Some(begun);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, U32, U64, padded};

    fn query(id: u32, op: Op, symbol: &str, flags: u16) -> Query {
        let symbol = padded(symbol);
        Query { flags: U16::new(flags), id: U32::new(id), op: op as u8, symbol, ..Query::default() }
    }

    fn more(id: u32, symbol: &str, flags: u16) -> QueryMore {
        let symbol = padded(symbol);
        QueryMore { flags: U16::new(flags), id: U32::new(id), symbol, ..QueryMore::default() }
    }

    fn take(
        questions: &mut Questions,
        frames: &[Frame],
    ) -> Option<Result<Question, QuestionError>> {
        let mut taken = None;
        for frame in frames {
            assert!(taken.is_none(), "whole before its last frame");
            assert_eq!(frame.check(), Ok(()));
            taken = match frame.kind() {
                Some(Kind::Query) => questions.take_query(frame.view().unwrap()),
                _ => questions.take_more(frame.view().unwrap()),
            };
        }
        taken
    }

    #[test]
    fn what_is_sent_is_what_is_taken() {
        let single = Question::new(&query(1, Op::Last, "PETR4", 0)).unwrap();
        assert_eq!(single.symbol().unwrap().as_str(), "PETR4");
        let list = single.about([padded("VALE3"), padded("PETR*"), padded("*")]).unwrap();
        assert_eq!((list.symbol(), list.patterns().len()), (None, 3));
        let page = Question::new(&query(1, Op::Range, "PETR4", 0)).unwrap();
        for (question, frames) in [
            (single.clone(), 1),
            (single.clone().cut_at(Seq::new(77)), 2),
            (list.clone(), 3),
            (list.cut_at(Seq::new(77)), 3),
            (page.clone().after(Seq::new(5)), 2),
            (page.cut_at(Seq::new(77)).after(Seq::new(5)), 2),
        ] {
            let mut questions = Questions::default();
            assert_eq!(question.frames().len(), frames);
            let taken = take(&mut questions, &question.frames()).unwrap().unwrap();
            assert_eq!(
                (taken.frames(), taken.patterns()),
                (question.frames(), question.patterns())
            );
            assert_eq!((taken.as_of, taken.after_seq), (question.as_of, question.after_seq));
            assert!(!questions.wants_more());
        }
    }

    #[test]
    fn a_pattern_is_no_symbol() {
        let question = Question::new(&query(1, Op::Last, "PETR*", 0)).unwrap();
        assert_eq!(question.symbol(), None);
        assert!(question.matches(&"PETR4".parse().unwrap()));
        assert!(!question.matches(&"VALE3".parse().unwrap()));
    }

    #[test]
    fn a_frame_between_breaks_the_conversation() {
        let mut questions = Questions::default();
        let begun = query(1, Op::Last, "A", Flags::MORE);
        assert_eq!(questions.take_query(&begun), None);
        assert_eq!(questions.take_more(&more(2, "B", 0)), Some(Err(QuestionError::Broken)));
        assert_eq!(questions.take_query(&begun), None);
        assert_eq!(questions.take_query(&begun), Some(Err(QuestionError::Broken)));
        assert_eq!(questions.take_more(&more(1, "B", 0)), Some(Err(QuestionError::Broken)));
    }

    #[test]
    fn what_is_wrong_is_reported_once_and_at_the_end() {
        let mut questions = Questions::default();
        let count = u32::try_from(QUERY_SYMBOLS_MAX).unwrap();
        let mut too_many = vec![Frame::seal(query(1, Op::Last, "A", Flags::MORE))];
        too_many.extend((1..count).map(|_| Frame::seal(more(1, "B", Flags::MORE))));
        let exactly = [too_many.clone(), vec![Frame::seal(more(1, "", 0))]].concat();
        assert_eq!(take(&mut questions, &exactly).unwrap().unwrap().patterns().len(), 256);
        too_many.extend([more(1, "B", Flags::MORE), more(1, "B", 0)].map(Frame::seal));
        assert_eq!(take(&mut questions, &too_many), Some(Err(QuestionError::Symbols)));
        for (op, symbol, error) in [
            (Op::Status, "", QuestionError::Op),
            (Op::Replay, "*", QuestionError::Op),
            (Op::Last, "A*B", QuestionError::Pattern),
            (Op::Last, "", QuestionError::Pattern),
        ] {
            let frames =
                [Frame::seal(query(1, op, symbol, Flags::MORE)), Frame::seal(more(1, "B", 0))];
            assert_eq!(take(&mut questions, &frames), Some(Err(error)), "{op:?} {symbol:?}");
        }
        assert!(Question::new(&query(1, Op::Status, "", 0)).is_ok());
        let page = QueryMore { after_seq: U64::new(5), ..more(1, "", 0) };
        let frames = [Frame::seal(query(1, Op::Last, "A", Flags::MORE)), Frame::seal(page)];
        assert_eq!(take(&mut questions, &frames), Some(Err(QuestionError::AfterSeq)));
    }
}
