//! Requests: what each leads to, and the answers that are written as the client takes them.

use super::Gateway;
use super::answers::Writer;
use super::door::{Door, EventsDoor, HttpDoor, Job};
use super::front::{Outcomes, Ticket, Unanswered};
use super::memory::{About, no_room};
use super::playground::Deed;
use super::routes::{Ask, Route, What, route};
use super::stream::{Speech, Stream};
use super::streams::CLOSE_PROTOCOL;
use super::subscriptions::{Mark, Subscription};
use super::udf::{self, Udf};
use crate::feed::Pattern;
use crate::http::{Format, Method, Problem, Request, Response, check_host, upgrade};
use crate::limits;
use crate::metrics::Text;
use crate::node::session::Described as _;
use crate::node::{Action, ConnId, Level};
use crate::parse::DeliveryMode;
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::report;
use crate::time::Now;
use crate::wire::{Definition, EndStatus, Frame, Op, Query, U32, padded};

/// What an event stream begins with: how long its client waits before it comes back, in milliseconds. Those that lost one
/// gateway at one moment are spread over a second, by a number that the connections have in turn.
fn events_begin(conn: ConnId) -> String {
    let spread = conn.generation.wrapping_mul(0x9E37_79B1) >> 16;
    format!("retry: {}\n\n", 1_500 + spread % 1_000)
}

/// What must be asked every time.
pub(super) const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");

/// What a client is told whose question the aggregator did not answer.
fn unanswered(why: Unanswered) -> Problem {
    if why == Unanswered::Full {
        return no_room();
    }
    let status = if why == Unanswered::Late { 504 } else { 503 };
    Problem::new(status, format!("The aggregator does not answer: {}.", why.text()))
}

impl Gateway {
    /// Bytes of an HTTP client. All are taken: what comes behind a request waits here until that is answered.
    pub(super) fn handle_http_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        if let Some(Door::Http(door)) = self.doors.get_mut(conn)
            && !door.pending.is_empty()
        {
            // A part of a request waits here: what comes now belongs behind it.
            door.pending.extend_from_slice(bytes);
            self.go_on_with_pending(now, conn);
            return bytes.len();
        }
        self.take_http_bytes(now, conn, bytes)
    }

    fn take_http_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        let mut consumed = 0;
        while let Some(Door::Http(door)) = self.doors.get_mut(conn) {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if !door.http.wants_bytes() {
                door.pending.extend_from_slice(rest);
                consumed = bytes.len();
                break;
            }
            let (taken, request) = door.http.handle_bytes(now.mono, rest);
            consumed += taken;
            self.mark_dirty(conn);
            match request {
                Some(request) => {
                    self.counts.requests += 1;
                    self.handle_request(now, conn, &request);
                }
                None if taken == 0 => break,
                None => {}
            }
        }
        // It has become a WebSocket: what stands behind its request is a message.
        if consumed < bytes.len() && matches!(self.doors.get(conn), Some(Door::Stream(_))) {
            consumed +=
                self.handle_stream_bytes(now, conn, bytes.get(consumed..).unwrap_or_default());
        }
        consumed
    }

    /// Goes on with requests that came behind another one.
    pub(super) fn take_pipelined(&mut self, now: Now) {
        for _ in 0..self.pipelined.len() {
            let Some(conn) = self.pipelined.pop_front() else { return };
            self.go_on_with_pending(now, conn);
        }
    }

    /// Reads what waits behind a request that is answered now. A part of a request goes on waiting.
    fn go_on_with_pending(&mut self, now: Now, conn: ConnId) {
        let Some(Door::Http(door)) = self.doors.get_mut(conn) else { return };
        if !door.http.wants_bytes() {
            return;
        }
        let pending = std::mem::take(&mut door.pending);
        let consumed = self.take_http_bytes(now, conn, &pending);
        let Some(rest) = pending.get(consumed..).filter(|rest| !rest.is_empty()) else { return };
        match self.doors.get_mut(conn) {
            Some(Door::Http(door)) => door.pending.extend_from_slice(rest),
            Some(Door::Stream(_)) => {
                let text = "a message before the answer to the upgrade";
                self.close_stream(now, conn, CLOSE_PROTOCOL, text);
            }
            _ => {}
        }
    }

    fn handle_request(&mut self, now: Now, conn: ConnId, request: &Request) {
        let checked = check_host(request, &self.hosts).and_then(|()| route(request));
        let outcome = match checked {
            Ok(route) => self.follow(now, conn, request, route),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = outcome {
            self.refuse(now, conn, &problem);
        }
    }

    pub(super) fn respond(&mut self, now: Now, conn: ConnId, response: Response) {
        if let Some(Door::Http(door)) = self.doors.get_mut(conn) {
            door.job = Job::None;
            door.http.respond(now.mono, response);
            self.mark_dirty(conn);
        }
    }

    pub(super) fn refuse(&mut self, now: Now, conn: ConnId, problem: &Problem) {
        self.counts.problems += 1;
        let mut response = Response::problem(problem);
        if problem.status == 503 {
            response = response.with_header("Retry-After", "1");
        }
        self.respond(now, conn, response);
    }

    fn follow(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Request,
        route: Route,
    ) -> Result<(), Problem> {
        match route {
            Route::Stream => self.begin_stream(now, conn, request),
            Route::Events { .. } if request.method() == Method::Head => {
                self.begin_no_events(now, conn);
                Ok(())
            }
            Route::Events { wish, mode } => self.begin_events(now, conn, &wish, mode),
            Route::Ask(ask) => self.ask(now, conn, ask),
            Route::Instruments { pattern, format, wanted } => {
                let symbols = self.feed.symbols();
                let matching = |frame: &Frame| {
                    let definition = frame.view::<Definition>().copied()?;
                    pattern.means(&definition.names()).then_some(definition)
                };
                let known = self.feed.definitions();
                let all = known.iter().filter_map(matching);
                let all: Vec<Definition> = all.filter(|it| !it.symbol.is_reserved()).collect();
                if all.is_empty() && symbols.is_empty() {
                    return Err(Problem::new(
                        503,
                        "No instrument is known yet: the feed has not begun.",
                    ));
                }
                if let Some(response) = self.kept_part(now, conn, wanted.as_ref()) {
                    self.answer(now, conn, response, About::Market);
                    return Ok(());
                }
                if !self.front.memory.has_room(About::Market) {
                    return Err(no_room());
                }
                let writer = Writer::instruments(format, all, self.feed.is_connected())?;
                self.begin_answer(now, conn, writer, wanted.as_ref());
                Ok(())
            }
            Route::Status { format } => {
                self.wait_for_nodes(now, conn, Job::Nodes(format));
                Ok(())
            }
            Route::Metrics => {
                self.wait_for_nodes(now, conn, Job::Metrics);
                Ok(())
            }
            Route::Healthy => {
                let said = r#"{"status":"ok"}"#.to_owned() + "\n";
                let response = Response::json(200, said).with_header(NO_STORE.0, NO_STORE.1);
                self.respond(now, conn, response);
                Ok(())
            }
            Route::Ready => {
                self.wait_for_nodes(now, conn, Job::Ready);
                Ok(())
            }
            Route::Page(name) => {
                let response = self.page.response(&name, request)?;
                self.respond(now, conn, response);
                Ok(())
            }
            Route::OpenApi => {
                let response = Response::json(200, super::openapi::document());
                self.answer(now, conn, response, About::Market);
                Ok(())
            }
            Route::Udf(udf) => self.answer_udf(now, conn, udf),
            Route::Playground(deed) => self.perform(now, conn, &deed),
        }
    }

    fn answer_udf(&mut self, now: Now, conn: ConnId, asked: Udf) -> Result<(), Problem> {
        let named = |symbol: &str| {
            let pattern = Pattern::new(symbol, 0).ok()?;
            let known = self.feed.definitions();
            let mut known = known.iter().filter_map(Frame::view::<Definition>);
            known.find(|it| pattern.means(&it.names())).copied()
        };
        let body = match asked {
            Udf::Config => udf::config(),
            Udf::Time => {
                let text = (now.wall_ns / 1_000_000_000).to_string();
                self.respond(now, conn, Response::text(200, text));
                return Ok(());
            }
            Udf::Symbols { symbol } => match named(&symbol) {
                Some(definition) => udf::symbol_info(&definition),
                None => udf::unknown(),
            },
            Udf::Search { query, limit } => {
                let known = self.feed.definitions();
                let known = known.iter().filter_map(Frame::view::<Definition>).copied();
                let known: Vec<Definition> = known.filter(|it| !it.symbol.is_reserved()).collect();
                udf::found(&known, &query, limit)
            }
            Udf::Quotes { symbols } => {
                let known =
                    symbols.iter().map(|symbol| (*symbol, self.feed.last_of(symbol.as_str())));
                udf::quotes(&known.collect::<Vec<_>>())
            }
            Udf::History(history) => {
                let asked = history.asked()?;
                let (what, format) = (What::Chart(history), Format::Json);
                let deadline = limits::GATEWAY_DEADLINE_DEFAULT;
                return self.ask(
                    now,
                    conn,
                    Box::new(Ask { asked, deadline, what, format, wanted: None, search: None }),
                );
            }
        };
        self.answer(now, conn, Response::json(200, body), About::Market);
        Ok(())
    }

    /// Answers as soon as it is known how the nodes are.
    fn wait_for_nodes(&mut self, now: Now, conn: ConnId, job: Job) {
        self.set_job(conn, job);
        self.waiting.push_back(conn);
        if self.nodes.fresh(now).is_none() {
            self.nodes.ask(now, &mut self.front);
        }
        self.answer_waiting(now);
    }

    fn set_job(&mut self, conn: ConnId, job: Job) {
        if let Some(Door::Http(door)) = self.doors.get_mut(conn) {
            door.job = job;
        }
    }

    fn begin_stream(&mut self, now: Now, conn: ConnId, request: &Request) -> Result<(), Problem> {
        let accepted = upgrade(request, &Speech::OFFERED)?;
        let Some(Door::Http(door)) = self.doors.remove(conn) else { return Ok(()) };
        let HttpDoor { from, held, .. } = *door;
        self.front.memory.give_back(held);
        let stream = Stream::new(now, Speech::of(accepted.protocol), from, accepted.response);
        self.doors.insert(conn, Door::Stream(stream));
        self.counts.streams += 1;
        self.mark_dirty(conn);
        Ok(())
    }

    /// The head of an event stream is all that was asked for.
    fn begin_no_events(&mut self, now: Now, conn: ConnId) {
        if let Some(Door::Http(door)) = self.doors.get_mut(conn) {
            door.http.begin_stream(now.mono, 200, "text/event-stream", &[NO_STORE]);
            door.http.end_stream(now.mono);
            self.mark_dirty(conn);
        }
    }

    fn begin_events(
        &mut self,
        now: Now,
        conn: ConnId,
        wish: &super::wish::Wish,
        mode: DeliveryMode,
    ) -> Result<(), Problem> {
        let Some(Door::Http(door)) = self.doors.remove(conn) else { return Ok(()) };
        let HttpDoor { mut http, from, held, .. } = *door;
        self.front.memory.give_back(held);
        http.begin_stream(now.mono, 200, "text/event-stream", &[NO_STORE]);
        http.push(events_begin(conn).as_bytes());
        let inner = self.feed.subscribe(now, conn, from, 1, wish);
        let subscription = Subscription::new(1, inner, mode, None);
        self.doors.insert(conn, Door::Events(Box::new(EventsDoor { http, subscription })));
        self.counts.events += 1;
        self.mark_dirty(conn);
        Ok(())
    }

    fn ask(&mut self, now: Now, conn: ConnId, mut ask: Box<Ask>) -> Result<(), Problem> {
        if let Some(response) = self.kept_part(now, conn, ask.wanted.as_ref()) {
            self.answer(now, conn, response, About::Market);
            return Ok(());
        }
        self.begin_search(now, &mut ask);
        self.ask_aggregator(now, conn, ask)
    }

    pub(super) fn ask_aggregator(
        &mut self,
        now: Now,
        conn: ConnId,
        mut ask: Box<Ask>,
    ) -> Result<(), Problem> {
        let mut deadline = ask.deadline;
        if let (Some((search, until)), report::Question::Bars { interval, .. }) =
            (&ask.search, ask.asked.question)
        {
            let (from, to) = search.asked();
            ask.asked.question = report::Question::Bars { interval, from, to };
            deadline = until.since(now.mono);
        }
        let question = ask.asked.question();
        let question =
            question.ok_or_else(|| Problem::new(400, "Too many symbols are asked at once."))?;
        let place = self.aggregator.ok_or_else(|| unanswered(Unanswered::Away))?;
        let ticket = self.front.ask(now, place, question, deadline).map_err(unanswered)?;
        self.tickets.insert(ticket, (conn, ask));
        self.set_job(conn, Job::Answer(ticket));
        Ok(())
    }

    /// Answers that have come.
    pub(super) fn take_answers(&mut self, now: Now) {
        while let Some((ticket, answer)) = self.front.poll_answer() {
            let Some(answer) = self.nodes.take(now, ticket, answer) else {
                self.answer_waiting(now);
                continue;
            };
            self.take_answer(now, (ticket, answer));
        }
    }

    fn take_answer(&mut self, now: Now, (ticket, answer): Outcomes) {
        if let Some(whose) = self.backfills.remove(&ticket) {
            self.take_backfill(now, (ticket, answer), whose);
            return;
        }
        if let Some(conn) = self.deeds.remove(&ticket) {
            self.answer_deed(now, conn, answer);
            return;
        }
        let taken = match is_planted(Bug::AnswerToAnother) {
            true => self.tickets.pop_last().map(|(_, it)| it),
            false => self.tickets.remove(&ticket),
        };
        let Some((conn, mut ask)) = taken else { return };
        let written = match answer {
            Ok(answer) => match self.go_on_searching(now, conn, &mut ask, &answer) {
                Ok(true) => return,
                Ok(false) => Writer::of(&ask, &answer, &self.front.symbols, now.wall_ns),
                Err(problem) => Err(problem),
            },
            Err(why) => Err(unanswered(why)),
        };
        let written = match ask.what {
            What::Chart(_) => written.or_else(Writer::of_chart_refused),
            _ => written,
        };
        match written {
            Ok(writer) => self.begin_answer(now, conn, writer, ask.wanted.as_ref()),
            Err(problem) => self.refuse(now, conn, &problem),
        }
    }

    /// Who waits for the state of the nodes, if it is known now.
    fn answer_waiting(&mut self, now: Now) {
        if self.nodes.fresh(now).is_none() {
            return;
        }
        while let Some(conn) = self.waiting.pop_front() {
            match self.doors.get(conn) {
                Some(Door::Http(door)) => match door.job {
                    Job::Nodes(format) => self.answer_status(now, conn, format),
                    Job::Ready => self.answer_ready(now, conn),
                    Job::Metrics => self.answer_metrics(now, conn),
                    _ => {}
                },
                _ => continue,
            }
        }
    }

    fn answer_status(&mut self, now: Now, conn: ConnId, format: Format) {
        let (body, kind) = match format {
            Format::Ndjson => (self.nodes.lines(), format.content_type()),
            _ => {
                let own = self.describe_json(now);
                (self.nodes.json(self.playground, &own), Format::Json.content_type())
            }
        };
        let status = if self.nodes.is_complete() { 200 } else { 206 };
        self.answer(now, conn, Response::new(status, kind, body), About::System);
    }

    /// Why the system cannot serve, if it cannot.
    fn faults(&self) -> Vec<String> {
        let is_away = !self.feed.is_connected();
        let own = is_away.then(|| "this gateway is not connected to the broker".to_owned());
        own.into_iter().chain(self.nodes.fault()).collect()
    }

    fn answer_ready(&mut self, now: Now, conn: ConnId) {
        let faults = self.faults();
        let ready = faults.is_empty();
        let body = serde_json::json!({ "ready": ready, "faults": faults }).to_string() + "\n";
        let response = Response::json(if ready { 200 } else { 503 }, body);
        self.respond(now, conn, response.with_header(NO_STORE.0, NO_STORE.1));
    }

    /// Nodes that do not answer are in it as such, so the answer is whole in any case.
    fn answer_metrics(&mut self, now: Now, conn: ConnId) {
        let own = self.described(now);
        let body = self.nodes.metrics(&own, self.faults().is_empty());
        self.answer(now, conn, Response::new(200, Text::CONTENT_TYPE, body), About::System);
    }

    fn perform(&mut self, now: Now, conn: ConnId, deed: &Deed) -> Result<(), Problem> {
        if !self.playground {
            let text = "Nothing may be broken here: the system was not started with --playground.";
            return Err(Problem::new(403, text));
        }
        let text = format!("the page asks for {deed:?}");
        self.actions.push_back(Action::Log(Level::Warn, text));
        let known = self.front.names().collect::<Vec<_>>().join(", ");
        let unknown =
            |node: &str| Problem::new(404, format!("No node {node:?}; there are {known}."));
        let (node, query) = match deed {
            Deed::Kill { node } => {
                self.front.place(node).ok_or_else(|| unknown(node))?;
                let kill = self.kill.ok_or_else(|| {
                    Problem::new(
                        503,
                        "This gateway has no supervisor that would start a node again.",
                    )
                })?;
                kill(node).map_err(|why| Problem::new(503, format!("{node}: {why}.")))?;
                self.respond(now, conn, Response::json(200, "{\"done\":true}\n".to_owned()));
                return Ok(());
            }
            Deed::Breaker { node, breaker, action } => {
                let limit = U32::new(u32::from(*action as u8));
                let symbol = padded(breaker);
                (node, Query { op: Op::Breaker as u8, limit, symbol, ..Query::default() })
            }
            Deed::Chaos { node, action } => {
                let limit = U32::new(u32::from(*action as u8));
                (node, Query { op: Op::Chaos as u8, limit, ..Query::default() })
            }
        };
        let place = self.front.place(node).ok_or_else(|| unknown(node))?;
        let question = Question::new(&query);
        let question = question.map_err(|_| Problem::new(400, "No breaker has such a name."))?;
        let ticket: Ticket = self
            .front
            .ask(now, place, question, limits::GATEWAY_DEADLINE_DEFAULT)
            .map_err(|why| Problem::new(503, format!("{node}: {}.", why.text())))?;
        self.deeds.insert(ticket, conn);
        self.set_job(conn, Job::Answer(ticket));
        Ok(())
    }

    fn answer_deed(
        &mut self,
        now: Now,
        conn: ConnId,
        answer: Result<crate::client::Answer, Unanswered>,
    ) {
        match answer {
            Ok(answer) if answer.status() != EndStatus::Failed => {
                self.respond(now, conn, Response::json(200, "{\"done\":true}\n".to_owned()));
            }
            Ok(answer) => self.refuse(now, conn, &super::answers::problem_of(&answer)),
            Err(why) => self.refuse(now, conn, &Problem::new(503, why.text())),
        }
    }

    /// Writes what an event stream has.
    pub(super) fn write_events(&mut self, now: Now, conn: ConnId) {
        let Some(Door::Events(door)) = self.doors.get_mut(conn) else { return };
        let mut piece = String::new();
        while piece.is_empty() {
            let inner = &mut door.subscription.conn;
            let frames = self.feed.take_frames(now, inner, limits::GATEWAY_JSON_FRAMES_MAX);
            if frames.is_empty() {
                return;
            }
            door.subscription.write(
                now,
                &frames,
                &mut self.lines,
                &self.feed,
                |kind, mark, line| {
                    piece.push_str("event: ");
                    piece.push_str(kind);
                    piece.push_str("\ndata: ");
                    piece.push_str(line);
                    match mark {
                        Mark::None => {}
                        Mark::Behind(start) => piece.push_str(&format!("\nid: {start}")),
                        // A client that comes back without an id begins with a snapshot.
                        Mark::Nowhere => piece.push_str("\nid"),
                    }
                    piece.push_str("\n\n");
                },
            );
        }
        door.http.push(piece.as_bytes());
    }
}
