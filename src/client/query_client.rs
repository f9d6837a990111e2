//! The blocking shell for questions: one connection, several queries in flight, their answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ClientError, Connection};
use crate::question::Question;
use crate::subscription::Symbols;
use crate::time::{Clock, nanos};
use crate::wire::{
    Counted, EndStatus, Ended, ErrorCode, Flags, Frame, I64, Kind, Metric, NodeAnswer, NodeExplain,
    Query, QueryMore, Refusal, Role, Run, Text, U32, unpadded,
};

/// The whole answer to one query.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The data frames, in order.
    pub rows: Vec<Frame>,
    /// The instruments of the answer, named by the frames ahead of the rows.
    pub definitions: Vec<Frame>,
    /// Counts of trades, one for each instrument.
    pub counted: Vec<Counted>,
    /// What each node contributed.
    pub nodes: Vec<NodeAnswer>,
    /// When and why each node was asked, if that was wanted.
    pub explained: Vec<NodeExplain>,
    /// Figures of a status answer.
    pub metrics: Vec<(String, i64)>,
    /// Words of a status answer.
    pub texts: Vec<(String, String)>,
    /// How it ended; `None` only while it has not.
    pub end: Option<Ended>,
    /// Why it failed, in words.
    pub refusal: Option<(Option<ErrorCode>, String)>,
}

impl Answer {
    /// The same answer without its rows.
    #[must_use]
    pub fn head(&self) -> Answer {
        Answer {
            rows: Vec::new(),
            definitions: Vec::new(),
            counted: Vec::new(),
            nodes: self.nodes.clone(),
            explained: Vec::new(),
            metrics: Vec::new(),
            texts: Vec::new(),
            end: self.end,
            refusal: self.refusal.clone(),
        }
    }

    /// How the query ended; failed when it was refused.
    #[must_use]
    pub fn status(&self) -> EndStatus {
        let status = self.end.and_then(|end| EndStatus::from_number(end.status));
        status.unwrap_or(EndStatus::Failed)
    }

    /// Why it is not complete, as a number.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        let of_end = self.end.and_then(|end| ErrorCode::from_number(end.code.get()));
        of_end.or(self.refusal.as_ref().and_then(|(code, _)| *code))
    }
}

/// A connection for questions.
#[derive(Debug)]
pub struct QueryClient {
    node: &'static str,
    connection: Connection,
    clock: Clock,
    symbols: Symbols,
    /// Of the next query. An id is used once: the END that may follow the ERROR of a query that failed must not pass for
    /// the end of the next one.
    next_id: u32,
}

impl QueryClient {
    /// Connects to a node that answers queries.
    ///
    /// # Errors
    /// When it cannot be reached within `within`.
    pub fn open(
        node: &'static str,
        address: SocketAddr,
        within: Duration,
    ) -> Result<QueryClient, ClientError> {
        let clock = Clock::start();
        let connection = Connection::open(node, address, Role::Querier, within, clock)?;
        Ok(QueryClient { node, connection, clock, symbols: Symbols::default(), next_id: 1 })
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Names of the instruments in the answers so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Asks all of these at once, each with a fresh id, and waits for all answers, in the same order.
    ///
    /// # Errors
    /// When the connection breaks or the deadline passes before the last answer has ended.
    pub fn ask(
        &mut self,
        queries: &[Query],
        deadline: Duration,
    ) -> Result<Vec<Answer>, ClientError> {
        let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
        let deadline_us = u32::try_from(nanos(deadline) / 1000).unwrap_or(u32::MAX);
        let first_id = self.take_ids(queries.len());
        for (id, query) in (first_id..).zip(queries) {
            let (id_field, deadline_us) = (U32::new(id), U32::new(deadline_us));
            self.connection.send(Query { id: id_field, deadline_us, ..*query })?;
            answers.insert(id, Answer::default());
        }
        self.collect(answers, deadline)
    }

    /// Asks one question of several frames and waits for its answer.
    ///
    /// # Errors
    /// As [`QueryClient::ask`].
    pub fn ask_about(
        &mut self,
        mut question: Question,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let deadline_us = u32::try_from(nanos(deadline) / 1000).unwrap_or(u32::MAX);
        let id = self.take_ids(1);
        question.query.id = U32::new(id);
        question.query.deadline_us = U32::new(deadline_us);
        for frame in question.frames() {
            match (frame.view::<Query>(), frame.view::<QueryMore>()) {
                (Some(query), _) => self.connection.send(*query)?,
                (_, Some(more)) => self.connection.send(*more)?,
                _ => {}
            }
        }
        let answers = BTreeMap::from([(id, Answer::default())]);
        Ok(self.collect(answers, deadline)?.pop().unwrap_or_default())
    }

    /// So many ids in a row that are not 0 and were not used lately; the first of them.
    fn take_ids(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.next_id.checked_add(count).is_none() {
            self.next_id = 1;
        }
        let first = self.next_id;
        self.next_id = first.saturating_add(count);
        first
    }

    /// Reads until all answers have ended.
    fn collect(
        &mut self,
        mut answers: BTreeMap<u32, Answer>,
        deadline: Duration,
    ) -> Result<Vec<Answer>, ClientError> {
        let node = self.node;
        // The node answers by the deadline; its last words need a moment to get here.
        let until = self.clock.now().mono + deadline + crate::limits::ANSWER_GRACE;
        let mut open = answers.len();
        let mut current = 0;
        while open > 0 {
            let frame = self.connection.read(until)?.ok_or(ClientError::Deadline { node })?;
            if Connection::refused_id(&frame).is_some_and(|id| id == U32::ZERO) {
                return Err(self.connection.refused(&frame));
            }
            if let Some(run) = frame.view::<Run>() {
                current = run.id.get();
            }
            if note(&mut answers, &mut self.symbols, current, &frame) {
                open -= 1;
            }
        }
        Ok(answers.into_values().collect())
    }
}

/// Files a frame under its query. `true` when that query is over.
pub(crate) fn note(
    answers: &mut BTreeMap<u32, Answer>,
    symbols: &mut Symbols,
    current: u32,
    frame: &Frame,
) -> bool {
    let id_of = |id: U32| id.get();
    if let Some(end) = frame.view::<Ended>() {
        let Some(answer) = answers.get_mut(&id_of(end.id)) else { return false };
        return answer.end.replace(*end).is_none() && answer.refusal.is_none();
    }
    if let Some(refusal) = frame.view::<Refusal>() {
        let Some(answer) = answers.get_mut(&id_of(refusal.id)) else { return false };
        let code = ErrorCode::from_number(refusal.code.get());
        let why = (code, unpadded(&refusal.text));
        // A refusal ends a query unless an END follows; both together count once.
        return answer.refusal.replace(why).is_none() && answer.end.is_none();
    }
    if let Some(node) = frame.view::<NodeAnswer>() {
        if let Some(answer) = answers.get_mut(&id_of(node.id)) {
            answer.nodes.push(*node);
        }
        return false;
    }
    if let Some(explained) = frame.view::<NodeExplain>() {
        if let Some(answer) = answers.get_mut(&id_of(explained.id)) {
            answer.explained.push(*explained);
        }
        return false;
    }
    if let Some(counted) = frame.view::<Counted>() {
        if let Some(answer) = answers.get_mut(&id_of(counted.id)) {
            answer.counted.push(*counted);
        }
        return false;
    }
    let Some(answer) = answers.get_mut(&current) else { return false };
    if let Some(Metric { value, name, .. }) = frame.view::<Metric>() {
        answer.metrics.push((unpadded(name), I64::get(*value)));
    } else if let Some(text) = frame.view::<Text>() {
        let (name, text) = (unpadded(&text.name), unpadded(&text.text));
        match answer.texts.last_mut() {
            // A longer word comes in pieces.
            Some((before, word)) if *before == name => word.push_str(&text),
            _ => answer.texts.push((name, text)),
        }
    } else if frame.kind().is_some_and(Kind::is_data) {
        symbols.note(frame);
        // What only names the instruments of the rows is no row.
        if !frame.is_naming() || !frame.has(Flags::SNAPSHOT) {
            answer.rows.push(*frame);
        } else if frame.kind == Kind::Definition as u8 {
            answer.definitions.push(*frame);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use zerocopy::IntoBytes;

    use super::*;
    use crate::wire::{Definition, FRAME_BYTES, Heartbeat, Op, Session, Trade, U16, as_frames};

    /// The next frame that the client sends.
    fn read(stream: &mut TcpStream) -> Frame {
        let mut bytes = [0; FRAME_BYTES];
        stream.read_exact(&mut bytes).unwrap();
        as_frames(&bytes).0[0]
    }

    #[test]
    fn an_end_behind_the_error_of_one_query_that_passes_for_the_answer_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let node = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let send = |frames: &[Frame], stream: &mut TcpStream| {
                stream.write_all(frames.as_bytes()).unwrap();
            };
            read(&mut stream);
            send(&[Frame::seal(Session::default())], &mut stream);
            let first = read(&mut stream).view::<Query>().unwrap().id;
            send(
                &[Frame::seal(Refusal::new(ErrorCode::Behind, first.get(), "behind"))],
                &mut stream,
            );
            // The END of the first query comes when the second one is asked already.
            let second = read(&mut stream).view::<Query>().unwrap().id;
            let end = Ended { id: first, status: EndStatus::Failed as u8, ..Ended::default() };
            let code = U16::new(ErrorCode::Behind as u16);
            let answer = [
                Frame::seal(Ended { code, ..end }),
                Frame::seal(Run { id: second, ..Run::default() }),
                Frame::seal(Trade::default()),
                Frame::seal(Ended { id: second, ..Ended::default() }),
            ];
            send(&answer, &mut stream);
        });
        let wait = Duration::from_secs(20);
        let mut query_client = QueryClient::open("a node", address, wait).unwrap();
        let query = Query { op: Op::Last as u8, ..Query::default() };
        let refused = query_client.ask(&[query], wait).unwrap().remove(0);
        assert_eq!(
            (refused.status(), refused.code()),
            (EndStatus::Failed, Some(ErrorCode::Behind))
        );
        let answer = query_client.ask(&[query], wait).unwrap().remove(0);
        assert_eq!((answer.status(), answer.rows.len()), (EndStatus::Complete, 1));
        node.join().unwrap();
    }

    #[test]
    fn questions_carry_their_deadline_and_answers_name_their_instruments() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let node = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read(&mut stream);
            stream.write_all(Frame::seal(Session::default()).as_bytes()).unwrap();
            let beat = Heartbeat {
                token: U32::new(7),
                flags: U16::new(Flags::MORE),
                ..Heartbeat::default()
            };
            stream.write_all(Frame::seal(beat).as_bytes()).unwrap();
            let asked = *read(&mut stream).view::<Query>().unwrap();
            // The client reads the question of the node now.
            let answered = *read(&mut stream).view::<Heartbeat>().unwrap();
            let petr4 = Definition::new(U32::new(5).into(), "PETR4".parse().unwrap(), 2);
            let refusal = Refusal::new(ErrorCode::Stopping, 0, "this node stops");
            let answer = [
                Frame::seal(Run { id: asked.id, ..Run::default() }),
                Frame::seal(petr4).delivered(Flags::SNAPSHOT),
                Frame::seal(Trade { instrument: U32::new(5), ..Trade::default() }),
                Frame::seal(Ended { id: asked.id, ..Ended::default() }),
                Frame::seal(refusal),
            ];
            stream.write_all(answer.as_bytes()).unwrap();
            (asked.deadline_us.get(), answered.token.get(), answered.flags.get())
        });
        let wait = Duration::from_secs(20);
        let mut query_client = QueryClient::open("a node", address, wait).unwrap();
        let query = Query { op: Op::Last as u8, ..Query::default() };
        let answer = query_client.ask(&[query], wait).unwrap().remove(0);
        assert_eq!((answer.rows.len(), answer.definitions.len()), (1, 1));
        let named = query_client.symbols().symbol(answer.rows[0].instrument());
        assert_eq!(named.map(|symbol| symbol.to_string()).as_deref(), Some("PETR4"));
        assert_eq!(node.join().unwrap(), (20_000_000, 7, 0));
        // What is said of the connection ends every question on it.
        let refused = query_client.ask(&[query], wait).unwrap_err();
        let is_it = |it: &ClientError| {
            matches!(it, ClientError::Refused { code: Some(ErrorCode::Stopping), .. })
        };
        assert!(is_it(&refused), "{refused}");
    }
}
