//! One WebSocket: its subscriptions, and what is sent next. A binary message is lent from the ring behind its header;
//! a message of text is made of lines.
//!
//! # Decisions
//!
//! * A message is as long as what waits when it begins. A client that is too slow may be overtaken by the ring in the
//!   middle of one. Then the frames behind what was overtaken fill it, GAP first, and if those are too few, heartbeats that
//!   say nothing. So a message always has the length that its header says, and a run of whole frames.
//! * Nobody is sent more than one message ahead. What waits stays in the ring.

use std::net::IpAddr;

use zerocopy::IntoBytes;

use super::bars::Bars;
use super::feed::Feed;
use super::json::{Lines, Told, error_json, id_json, refusal_json, subscribed_json};
use super::wish::mode_text;
use crate::http::{MessageHeader, WebSocket};
use crate::limits;
use crate::node::{ConnId, Node, Outgoing};
use crate::parse::DeliveryMode;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    DataKind, FRAME_BYTES, Flags, Frame, Heartbeat, Kind, Refusal, SnapshotEnd, Subscribed, U32,
    as_frames,
};

/// Too slow: nothing was taken for the configured time.
pub(super) const CLOSE_SLOW: u16 = 4001;

/// What a stream's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Runs of frames.
    Frames,
    /// Lines of JSON.
    Json,
}

impl Speech {
    /// The subprotocols, by name.
    pub(super) const OFFERED: [&'static str; 2] = ["pregao.frames.v1", "pregao.json.v1"];

    pub(super) fn of(protocol: Option<&str>) -> Speech {
        if protocol == Some(Speech::OFFERED[0]) { Speech::Frames } else { Speech::Json }
    }
}

/// One subscription of a connection.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: u32,
    /// Its connection to the inner broker.
    pub(super) conn: ConnId,
    /// It ends behind the message that is being sent.
    is_ending: bool,
    /// Its reader of frames was told by a line of text that it stands.
    is_confirmed: bool,
    told: Told,
    mode: DeliveryMode,
    /// Bars are sent, and no frames.
    pub(super) bars: Option<Box<Bars>>,
}

impl Subscription {
    pub(super) fn new(
        id: u32,
        conn: ConnId,
        mode: DeliveryMode,
        bars: Option<Bars>,
    ) -> Subscription {
        let (told, bars) = (Told::default(), bars.map(Box::new));
        let (is_ending, is_confirmed) = (false, false);
        Subscription { id, conn, is_ending, is_confirmed, told, mode, bars }
    }

    /// Whether a bar may be over by time alone.
    fn has_due_bars(&self, now: Now) -> bool {
        let due = self.bars.as_ref().and_then(|bars| bars.deadline());
        due.is_some_and(|due| due <= now.mono)
    }

    /// Hands the lines of these frames on, each with its kind and, if it is one, the place behind which a reader that has
    /// it goes on.
    pub(super) fn write(
        &mut self,
        now: Now,
        frames: &[Frame],
        lines: &mut Lines,
        feed: &Feed,
        mut each: impl FnMut(&str, Option<u64>, &str),
    ) {
        for frame in frames {
            if let Some(subscribed) = frame.view::<Subscribed>() {
                each(
                    "subscribed",
                    None,
                    &subscribed_json(self.id, subscribed, &mode_text(self.mode)),
                );
            } else if let Some(refusal) = frame.view::<Refusal>() {
                each("error", None, &refusal_json(self.id, refusal));
            } else if let Some(beat) = frame.view::<Heartbeat>() {
                self.told.note(beat, feed.venues(), |kind, line| each(kind, None, line));
            } else if let Some(bars) = &mut self.bars {
                bars.handle_frame(now, frame, feed.symbols());
                if frame.kind == Kind::Gap as u8
                    && let Some(line) = lines.line(frame, feed.symbols())
                {
                    each("gap", None, line);
                }
            } else if let Some(line) = lines.line(frame, feed.symbols()) {
                let kind = DataKind::of(frame).map(|row| row.name);
                let seq = match frame.view::<SnapshotEnd>() {
                    Some(end) => end.next_seq.get().checked_sub(1),
                    // A value of a snapshot is no place to go on from.
                    None => {
                        (kind.is_some() && !frame.has(Flags::SNAPSHOT)).then(|| frame.seq.get())
                    }
                };
                let kind = kind.unwrap_or_else(|| super::json::control_kind(frame));
                each(kind, seq, line);
            }
        }
        if let Some(bars) = &mut self.bars {
            bars.write(now, feed.symbols(), |line| each("bar", None, line));
        }
    }
}

/// What the last bytes that were shown are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    Control,
    Texts,
    Message,
}

/// Messages of text that have not left.
#[derive(Debug, Default)]
struct Texts {
    /// Whole messages; the first may be half sent.
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes of the message of market data among them.
    of_market: usize,
}

/// One WebSocket. Small, since most of thousands are idle.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: WebSocket,
    pub(super) speech: Speech,
    pub(super) from: IpAddr,
    pub(super) subscriptions: Vec<Subscription>,
    /// More than one subscription was made here: messages say whose they are.
    had_many: bool,
    /// Whose messages follow.
    current: u32,
    /// The inner connection whose message is being sent.
    sending: Option<ConnId>,
    /// Where the next look for something to send begins.
    turn: u8,
    part: Part,
    header: MessageHeader,
    header_sent: u8,
    /// Bytes of the message that have not left.
    payload_left: u32,
    /// Bytes of a filler that have not left.
    filler_left: u8,
    /// Messages of text that wait.
    texts: Option<Box<Texts>>,
    pub(super) last_heard: Mono,
    pub(super) last_ping: Mono,
    /// It is being closed; at the latest then.
    pub(super) close_at: Option<Mono>,
}

/// Bytes of a filler.
#[allow(clippy::cast_possible_truncation, reason = "a frame has 64 bytes")]
const FILLER_BYTES: u8 = FRAME_BYTES as u8;
const _: () = assert!(limits::GATEWAY_SUBSCRIPTIONS_MAX < u8::MAX as usize);

/// A place among the subscriptions: there are fewer than 255.
fn turn_at(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(0)
}

/// Fills a message whose frames are no more: a heartbeat that says nothing about the feed.
pub(super) fn filler() -> Frame {
    Frame::seal(Heartbeat { token: U32::new(u32::MAX), ..Heartbeat::default() })
}

impl Stream {
    pub(super) fn new(now: Now, speech: Speech, from: IpAddr, answer: Vec<u8>) -> Stream {
        Stream {
            socket: WebSocket::new(),
            speech,
            from,
            subscriptions: Vec::new(),
            had_many: false,
            current: 0,
            sending: None,
            turn: 0,
            part: Part::Nothing,
            header: MessageHeader::text(0),
            header_sent: u8::MAX,
            payload_left: 0,
            filler_left: 0,
            texts: Some(Box::new(Texts { bytes: answer, ..Texts::default() })),
            last_heard: now.mono,
            last_ping: now.mono,
            close_at: None,
        }
    }

    /// A subscription of this id, if there is one.
    pub(super) fn place_of(&self, id: u32) -> Option<usize> {
        self.subscriptions.iter().position(|it| it.id == id && !it.is_ending)
    }

    pub(super) fn add(&mut self, subscription: Subscription) {
        self.had_many |= !self.subscriptions.is_empty() || self.current != 0;
        if self.subscriptions.is_empty() && !self.had_many {
            self.current = subscription.id;
        }
        // Most have one.
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(subscription);
    }

    /// Ends a subscription, at once or behind the message that is being sent. The connections to close.
    pub(super) fn remove(&mut self, place: usize) -> Option<ConnId> {
        let subscription = self.subscriptions.get_mut(place)?;
        if self.sending == Some(subscription.conn) {
            subscription.is_ending = true;
            return None;
        }
        Some(self.subscriptions.remove(place).conn)
    }

    /// Adds one message with this line, unless the end of the connection was said.
    fn tell(&mut self, line: &str) {
        if self.socket.is_closing() {
            return;
        }
        let texts = self.texts.get_or_insert_default();
        if texts.sent > texts.bytes.len() / 2 {
            // What never runs empty must not grow.
            texts.bytes.drain(..texts.sent);
            texts.sent = 0;
        }
        let header = MessageHeader::text(line.len());
        texts.bytes.extend_from_slice(header.as_bytes());
        texts.bytes.extend_from_slice(line.as_bytes());
    }

    /// Says what was refused.
    pub(super) fn object(&mut self, id: Option<u32>, code: &str, text: &str) {
        self.tell(&error_json(id, code, text));
    }

    /// Says that a subscription has ended.
    pub(super) fn tell_ended(&mut self, id: u32) {
        self.tell(&id_json("unsubscribed", id));
    }

    /// Whether what waits about the connection is no more than may wait.
    pub(super) fn keeps_bound(&self) -> bool {
        self.texts_waiting() <= limits::GATEWAY_TEXTS_BYTES_MAX
    }

    /// Bytes that are held for texts.
    #[cfg(test)]
    pub(super) fn texts_held(&self) -> usize {
        self.texts.as_ref().map_or(0, |texts| texts.bytes.capacity())
    }

    /// Bytes that wait, without those of market data: these are bounded by what one message has.
    fn texts_waiting(&self) -> usize {
        let waiting =
            |texts: &Texts| (texts.bytes.len() - texts.sent).saturating_sub(texts.of_market);
        self.texts.as_deref().map_or(0, waiting)
    }

    fn is_in_message(&self) -> bool {
        self.payload_left > 0 || usize::from(self.header_sent) < self.header.as_bytes().len()
    }

    /// Whether only the ring, or the inner broker, may have something.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_in_message() && self.texts.is_none() && self.socket.control().is_empty()
    }

    /// Whether more of it may be read: not while much waits that it was told.
    pub(super) fn is_reading_allowed(&self) -> bool {
        self.texts_waiting() < limits::GATEWAY_TEXTS_BYTES_MAX
    }

    /// What is sent next.
    pub(super) fn outgoing<'a>(
        &'a mut self,
        now: Now,
        feed: &'a mut Feed,
        lines: &mut Lines,
        filler: &'a Frame,
    ) -> Outgoing<'a> {
        if self.is_in_message() {
            return self.rest_of_message(now, feed, filler);
        }
        if self.texts.is_none() && self.socket.control().is_empty() && !self.socket.is_closing() {
            self.begin_message(now, feed, lines);
            if self.is_in_message() {
                return self.rest_of_message(now, feed, filler);
            }
        }
        if let Some(texts) = &self.texts {
            self.part = Part::Texts;
            return Outgoing::one(texts.bytes.get(texts.sent..).unwrap_or_default());
        }
        self.part = Part::Control;
        Outgoing::one(self.socket.control())
    }

    /// Looks for something to send, from one subscription to the next.
    fn begin_message(&mut self, now: Now, feed: &mut Feed, lines: &mut Lines) {
        let count = self.subscriptions.len();
        for step in 0..count {
            let place = (usize::from(self.turn) + step) % count;
            let Some(subscription) = self.subscriptions.get(place) else { return };
            let (conn, id) = (subscription.conn, subscription.id);
            if self.speech == Speech::Json || subscription.bars.is_some() {
                if self.write_lines(now, place, feed, lines) {
                    self.turn = turn_at(place + 1);
                    return;
                }
                continue;
            }
            let length = feed.broker_mut().outgoing(now, conn).len();
            let length = length.min(limits::GATEWAY_MESSAGE_BYTES_MAX);
            let length = length - length % FRAME_BYTES;
            if length == 0 {
                continue;
            }
            if let Some(line) = self.confirmation(now, place, feed) {
                self.turn = turn_at(place);
                self.tell(&line);
                return;
            }
            if self.had_many && self.current != id {
                // Whose they are is said first, and then it is still its turn.
                (self.current, self.turn) = (id, turn_at(place));
                if is_planted(Bug::SubscriptionNotNamed) {
                    return self.begin_message(now, feed, lines);
                }
                self.tell(&id_json("subscription", id));
                return;
            }
            self.turn = turn_at(place + 1);
            (self.header, self.header_sent) = (MessageHeader::binary(length), 0);
            // One message is shorter than the bound of both.
            self.payload_left = u32::try_from(length).unwrap_or(0);
            self.sending = Some(conn);
            return;
        }
    }

    /// The line that says that a subscription of frames stands, once its first frames say so.
    fn confirmation(&mut self, now: Now, place: usize, feed: &mut Feed) -> Option<String> {
        let subscription = self.subscriptions.get_mut(place).filter(|it| !it.is_confirmed)?;
        let (frames, _) = as_frames(feed.broker_mut().outgoing(now, subscription.conn).head);
        let subscribed = frames.iter().find_map(|frame| frame.view::<Subscribed>())?;
        subscription.is_confirmed = true;
        Some(subscribed_json(subscription.id, subscribed, &mode_text(subscription.mode)))
    }

    /// Makes a message of the lines that a subscription has. Whether there are any.
    fn write_lines(&mut self, now: Now, place: usize, feed: &mut Feed, lines: &mut Lines) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(place) else { return false };
        let mut text = Vec::new();
        loop {
            let frames = feed.frames_of(now, subscription.conn, limits::GATEWAY_JSON_FRAMES_MAX);
            if frames.is_empty() && !subscription.has_due_bars(now) {
                return false;
            }
            if self.had_many && self.current != subscription.id {
                self.current = subscription.id;
                text.extend_from_slice(id_json("subscription", subscription.id).as_bytes());
            }
            subscription.write(now, &frames, lines, feed, |_, _, line| {
                if !text.is_empty() {
                    text.push(b'\n');
                }
                text.extend_from_slice(line.as_bytes());
            });
            if !text.is_empty() {
                break;
            }
            if frames.is_empty() {
                return false;
            }
        }
        let texts = self.texts.get_or_insert_default();
        texts.bytes.extend_from_slice(MessageHeader::text(text.len()).as_bytes());
        texts.bytes.append(&mut text);
        texts.of_market = texts.bytes.len();
        true
    }

    /// The rest of the message that is being sent.
    fn rest_of_message<'a>(
        &'a mut self,
        now: Now,
        feed: &'a mut Feed,
        filler: &'a Frame,
    ) -> Outgoing<'a> {
        self.part = Part::Message;
        let front = self.header.as_bytes().get(usize::from(self.header_sent)..).unwrap_or_default();
        let left = self.payload_left as usize;
        // What can wait has had its part of this turn: it comes in the next one.
        let is_put_off = self.sending.is_some_and(|conn| feed.is_put_off(conn));
        let outgoing = match self.sending.filter(|_| self.filler_left == 0) {
            Some(conn) => feed.broker_mut().outgoing(now, conn),
            None => Outgoing::default(),
        };
        let head = outgoing.head.get(..left.min(outgoing.head.len())).unwrap_or_default();
        let left_for_tail = left - head.len();
        let tail = outgoing.tail.get(..left_for_tail.min(outgoing.tail.len())).unwrap_or_default();
        let is_rest = head.len() < FRAME_BYTES && is_planted(Bug::FillerInsideFrame);
        if (head.is_empty() || is_rest) && left > 0 {
            if self.filler_left == 0 && is_put_off {
                return Outgoing { front, ..Outgoing::default() };
            }
            if self.filler_left == 0 {
                self.filler_left = FILLER_BYTES;
            }
            let at = usize::from(FILLER_BYTES - self.filler_left);
            let head = filler.as_bytes().get(at..).unwrap_or_default();
            return Outgoing { front, head, tail: &[] };
        }
        Outgoing { front, head, tail }
    }

    /// So many bytes of what was shown have left. Whether there may be more.
    pub(super) fn handle_sent(&mut self, now: Now, feed: &mut Feed, bytes: usize) -> bool {
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Nothing => {}
            Part::Control => self.socket.handle_control_sent(bytes),
            Part::Texts => {
                if let Some(texts) = &mut self.texts {
                    texts.sent += bytes;
                }
                // An idle browser keeps no buffer.
                self.texts.take_if(|texts| texts.sent >= texts.bytes.len());
            }
            Part::Message => self.note_message_sent(now, feed, bytes),
        }
        true
    }

    fn note_message_sent(&mut self, now: Now, feed: &mut Feed, bytes: usize) {
        let header_left = &self.header.as_bytes().get(usize::from(self.header_sent)..);
        let of_header = bytes.min(header_left.map_or(0, <[u8]>::len));
        // A header is shorter than 256 bytes, and a payload than 2^32.
        self.header_sent = self.header_sent.saturating_add(u8::try_from(of_header).unwrap_or(0));
        let of_payload = (bytes - of_header).min(self.payload_left as usize);
        self.payload_left -= u32::try_from(of_payload).unwrap_or(self.payload_left);
        if self.filler_left > 0 {
            let of_filler = u8::try_from(of_payload).unwrap_or(u8::MAX);
            self.filler_left = self.filler_left.saturating_sub(of_filler);
        } else if let Some(conn) = self.sending.filter(|_| of_payload > 0) {
            feed.broker_mut().handle_sent(now, conn, of_payload);
        }
        if !self.is_in_message() {
            self.sending = None;
        }
    }

    /// Subscriptions that have ended and can be closed now.
    pub(super) fn poll_ended(&mut self) -> Option<ConnId> {
        let sending = self.sending;
        let place =
            self.subscriptions.iter().position(|it| it.is_ending && sending != Some(it.conn))?;
        Some(self.subscriptions.remove(place).conn)
    }
}
