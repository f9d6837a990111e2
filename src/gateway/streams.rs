//! WebSockets: commands, subscriptions, signs of life, and the end.

use super::Gateway;
use super::bars::Bars;
use super::door::Door;
use super::front::Outcomes;
use super::json::{code_name, error_json};
use super::stream::{CLOSE_SLOW, Speech};
use super::subscriptions::Subscription;
use super::wish::{Command, JSON_MODE, Wish};
use crate::http::Incoming;
use crate::limits;
use crate::node::{Action, ConnId, Level};
use crate::parse::DeliveryMode;
use crate::time::Now;
use crate::wire::Mode;

/// Closes that the gateway begins.
const CLOSE_NORMAL: u16 = 1000;
pub(super) const CLOSE_GOING_AWAY: u16 = 1001;
pub(super) const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_REFUSED: u16 = 1008;
const CLOSE_TRY_LATER: u16 = 1013;

impl Gateway {
    /// Bytes of a browser. How many are consumed.
    pub(super) fn handle_stream_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return bytes.len() };
        stream.last_heard = now.mono;
        let mut incoming = Vec::new();
        let consumed = stream.socket.handle_bytes(bytes, &mut incoming);
        for subscription in stream.subscriptions.all() {
            self.feed.note_heard(now, subscription.conn);
        }
        for message in incoming {
            match message {
                Incoming::Text(text) => self.handle_command(now, conn, &text),
                Incoming::Binary => {
                    self.counts.wrong_messages += 1;
                    self.close_stream(
                        now,
                        conn,
                        CLOSE_UNSUPPORTED,
                        "commands are messages of text",
                    );
                }
                Incoming::Pong | Incoming::Closed { .. } => {}
            }
        }
        self.settle_stream(now, conn);
        self.mark_dirty(conn);
        consumed
    }

    /// A socket that has closed or been refused ends its subscriptions.
    fn settle_stream(&mut self, now: Now, conn: ConnId) {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
        if stream.socket.is_closing() {
            stream.leave_by(now.mono + limits::GATEWAY_CLOSE_WAIT);
        }
        if stream.socket.is_over() && stream.is_idle() {
            self.actions.push_back(Action::Close(conn));
        }
    }

    fn handle_command(&mut self, now: Now, conn: ConnId, text: &str) {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
        let default = match stream.speech {
            Speech::Frames => DeliveryMode::Lossless,
            Speech::Json => JSON_MODE,
        };
        let (id, why) = match Command::read(text, default) {
            Ok(Command::Subscribe { id, wish, mode }) => {
                match self.begin_subscription(now, conn, id, &wish, (mode, None)) {
                    Ok(()) => return,
                    Err(why) => (Some(id), why),
                }
            }
            Ok(Command::Bars { id, symbols, interval }) => {
                let begun = Bars::new(&symbols, interval).and_then(|(bars, patterns)| {
                    let (mode, conflate_ms, from) = (Mode::Lossless, 0, None);
                    let wish = Wish { patterns, mode, conflate_ms, from };
                    self.begin_subscription(
                        now,
                        conn,
                        id,
                        &wish,
                        (DeliveryMode::Lossless, Some(bars)),
                    )
                });
                match begun {
                    Ok(()) => {
                        self.with_bars.insert(conn);
                        return;
                    }
                    Err(why) => (Some(id), why),
                }
            }
            Ok(Command::Unsubscribe { id }) => match stream.place_of(id) {
                Some(place) => {
                    let ended = stream.remove(place);
                    stream.tell_ended(id);
                    if let Some(inner) = ended {
                        self.feed.close(now, inner);
                    }
                    self.keep_bound(now, conn);
                    return;
                }
                None => (Some(id), "no subscription has this id".to_owned()),
            },
            Err(objection) => objection,
        };
        self.counts.wrong_messages += 1;
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
        stream.object(id, "wrong", &why);
        self.keep_bound(now, conn);
    }

    fn begin_subscription(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        wish: &Wish,
        (mode, bars): (DeliveryMode, Option<Bars>),
    ) -> Result<(), String> {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return Ok(()) };
        if stream.subscriptions.all().iter().any(|it| it.id == id) {
            return Err("this id is in use".to_owned());
        }
        let most = limits::GATEWAY_SUBSCRIPTIONS_MAX;
        if stream.subscriptions.all().len() >= most {
            return Err(format!("at most {most} subscriptions a connection"));
        }
        let inner = self.feed.subscribe(now, conn, stream.from(), id, wish);
        stream.add(Subscription::new(id, inner, mode, bars));
        Ok(())
    }

    /// Bars whose time has passed, and what bars under way lack.
    pub(super) fn look_after_bars(&mut self, now: Now) {
        if now.mono < self.next_bars || self.with_bars.is_empty() {
            return;
        }
        self.next_bars = now.mono + limits::GATEWAY_BARS_EVERY;
        let mut gone = Vec::new();
        for &conn in &self.with_bars {
            let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else {
                gone.push(conn);
                continue;
            };
            for subscription in stream.subscriptions.all_mut() {
                let inner = subscription.conn;
                let Some(bars) = subscription.bars_mut() else { continue };
                let tickets = bars.ask(now, &mut self.front, self.aggregator);
                self.backfills.extend(tickets.into_iter().map(|ticket| (ticket, (conn, inner))));
                if bars.deadline().is_some_and(|due| due <= now.mono) {
                    self.dirty.push_back(conn);
                }
            }
        }
        for conn in gone {
            self.with_bars.remove(&conn);
        }
    }

    /// An answer for bars under way.
    pub(super) fn take_backfill(
        &mut self,
        now: Now,
        (ticket, answer): Outcomes,
        (conn, inner): (ConnId, ConnId),
    ) {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
        let found = stream.subscriptions.all_mut().iter_mut().find(|it| it.conn == inner);
        if let Some(bars) = found.and_then(|it| it.bars_mut()) {
            bars.handle_answer(now, ticket, answer);
            self.next_bars = now.mono;
            self.mark_dirty(conn);
        }
    }

    /// Closes who does not read what it is told about its connection.
    fn keep_bound(&mut self, now: Now, conn: ConnId) {
        if matches!(self.doors.get(conn), Some(Door::Stream(it)) if !it.keeps_bound()) {
            self.close_stream(now, conn, CLOSE_REFUSED, "too many answers wait for you; read them");
        }
    }

    /// Begins the end of a WebSocket.
    pub(super) fn close_stream(&mut self, now: Now, conn: ConnId, code: u16, reason: &str) {
        if let Some(Door::Stream(stream)) = self.doors.get_mut(conn) {
            stream.socket.close(code, reason);
            stream.leave_by(now.mono + limits::GATEWAY_CLOSE_WAIT);
            self.mark_dirty(conn);
        }
    }

    /// The inner broker has ended a subscription: it takes nothing, or there is no place for it.
    pub(super) fn end_subscription(&mut self, now: Now, inner: ConnId) {
        let Some(conn) = self.feed.owner(inner) else {
            self.feed.close(now, inner);
            return;
        };
        // Its last frame in the inner broker says why it ends.
        let (code, text) = self.feed.last_words(now, inner);
        self.end_saying(now, (conn, inner), code, &text);
    }

    /// What browsers want from before the ring.
    pub(super) fn look_after_past(&mut self, now: Now) {
        let woken = self.feed.look_after_past(now, &mut self.front);
        self.dirty.extend(woken);
        while let Some(inner) = self.feed.past.find_slow(now, self.unread_max) {
            let Some(conn) = self.feed.owner(inner) else { return };
            let code = Some(crate::wire::ErrorCode::Limit);
            self.end_saying(now, (conn, inner), code, "you read nothing for too long");
            // It may end only behind a message that is being sent.
            self.feed.past.forget(inner);
        }
    }

    /// Ends a subscription for this reason.
    fn end_saying(
        &mut self,
        now: Now,
        (conn, inner): (ConnId, ConnId),
        code: Option<crate::wire::ErrorCode>,
        text: &str,
    ) {
        let name = code.map_or_else(|| "ended".to_owned(), |code| code_name(Some(code)));
        let is_slow = text.starts_with("you read nothing");
        match self.doors.get_mut(conn) {
            Some(Door::Stream(stream)) => {
                let all = stream.subscriptions.all();
                let Some(place) = all.iter().position(|it| it.conn == inner) else { return };
                let id = all.get(place).map(|it| it.id);
                let ended = stream.remove(place);
                // Without last words it was told before.
                if !text.is_empty() {
                    stream.object(id, &name, text);
                }
                if let Some(inner) = ended {
                    self.feed.close(now, inner);
                }
                self.counts.closed_slow += u64::from(is_slow);
                let close = if is_slow { CLOSE_SLOW } else { CLOSE_TRY_LATER };
                if is_slow || code == Some(crate::wire::ErrorCode::Limit) {
                    self.close_stream(now, conn, close, text);
                }
                self.mark_dirty(conn);
            }
            Some(Door::Events(door)) => {
                self.counts.closed_slow += u64::from(is_slow);
                if !text.is_empty() {
                    let said = error_json(None, &name, text);
                    door.http.push(format!("event: error\ndata: {said}\n\n").as_bytes());
                }
                // It ends without the last chunk: who reads it comes back.
                door.http.abort();
                self.feed.close(now, inner);
                self.actions
                    .push_back(Action::Log(Level::Info, format!("an event stream ended: {text}")));
                self.actions.push_back(Action::Close(conn));
            }
            _ => self.feed.close(now, inner),
        }
    }

    pub(super) fn sweep_stream(&mut self, now: Now, conn: ConnId) {
        let Some(Door::Stream(stream)) = self.doors.get_mut(conn) else { return };
        if stream.is_leaving() {
            if stream.due <= now.mono {
                self.actions.push_back(Action::Close(conn));
            }
            return;
        }
        let silence = now.mono.since(stream.last_heard);
        if silence >= limits::GATEWAY_SILENCE_MAX {
            self.counts.closed_silent += 1;
            self.close_stream(now, conn, CLOSE_NORMAL, "silent for 45 s; answer pings");
        } else if stream.due <= now.mono {
            stream.due = now.mono + limits::GATEWAY_PING_EVERY;
            stream.socket.ping();
            self.mark_dirty(conn);
        }
    }
}
