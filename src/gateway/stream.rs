//! One WebSocket: its subscriptions, and what is sent next. A binary message is lent from the ring behind its header;
//! a message of text is made of lines.
//!
//! # Decisions
//!
//! * A message is as long as what waits when it begins. A client that is too slow may be overtaken by the ring in the
//!   middle of one. Then the frames behind what was overtaken fill it, GAP first, and if those are too few, heartbeats that
//!   say nothing. So a message always has the length that its header says, and a run of whole frames.
//! * Nobody is sent more than one message ahead. What waits stays in the ring.

use std::net::{IpAddr, Ipv4Addr};

use zerocopy::IntoBytes;

use super::feed::Feed;
use super::json::{Lines, code_name, error_json, id_json, subscribed_json};
use super::subscriptions::{Subscription, Subscriptions};
use super::wish::mode_text;
use crate::http::{MessageHeader, WebSocket};
use crate::limits;
use crate::node::session::Address;
use crate::node::{ConnId, Node, Outgoing};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    ErrorCode, FRAME_BYTES, Frame, Heartbeat, Kind, Refusal, Subscribed, U32, as_frames, unpadded,
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

/// One WebSocket. Small, since most of thousands are idle: what can be made anew when it is needed is not kept.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: WebSocket,
    pub(super) speech: Speech,
    /// Where it came from, if that is another machine.
    from: Option<Address>,
    pub(super) subscriptions: Subscriptions,
    /// More than one subscription was made here: messages say whose they are.
    had_many: bool,
    /// Whose messages follow.
    current: u32,
    /// The place of the subscription whose message is being sent, or [`NOBODY`].
    sending: u8,
    /// Where the next look for something to send begins.
    turn: u8,
    part: Part,
    /// Bytes of the message's header that have not left. Before they have, nothing behind them has.
    header_left: u8,
    /// Bytes of the message that have not left.
    payload_left: u32,
    /// Bytes of a filler that have not left.
    filler_left: u8,
    /// Messages of text that wait.
    texts: Option<Box<Texts>>,
    pub(super) last_heard: Mono,
    /// When it is pinged next; once it is being closed, when that ends at the latest.
    pub(super) due: Mono,
    is_leaving: bool,
}

/// No place.
const NOBODY: u8 = u8::MAX;

/// Bytes of a filler.
#[allow(clippy::cast_possible_truncation, reason = "a frame has 64 bytes")]
const FILLER_BYTES: u8 = FRAME_BYTES as u8;
const _: () = assert!(limits::GATEWAY_SUBSCRIPTIONS_MAX < u8::MAX as usize);

/// A place among the subscriptions: there are fewer than 255.
fn turn_at(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(0)
}

/// What one stream after the other lends beside frames of the ring.
#[derive(Debug)]
pub(super) struct ToLend {
    /// The header of the message of whoever was asked last.
    header: MessageHeader,
    /// Fills a message whose frames are no more: a heartbeat that says nothing about the feed.
    filler: Frame,
}

impl Default for ToLend {
    fn default() -> ToLend {
        let beat = Heartbeat { token: U32::new(u32::MAX), ..Heartbeat::default() };
        ToLend { header: MessageHeader::binary(0), filler: Frame::seal(beat) }
    }
}

impl Stream {
    pub(super) fn new(now: Now, speech: Speech, from: IpAddr, answer: Vec<u8>) -> Stream {
        Stream {
            socket: WebSocket::new(),
            speech,
            from: Address::of(from),
            subscriptions: Subscriptions::NONE,
            had_many: false,
            current: 0,
            sending: NOBODY,
            turn: 0,
            part: Part::Nothing,
            header_left: 0,
            payload_left: 0,
            filler_left: 0,
            texts: Some(Box::new(Texts { bytes: answer, ..Texts::default() })),
            last_heard: now.mono,
            due: now.mono + limits::GATEWAY_PING_EVERY,
            is_leaving: false,
        }
    }

    /// Where it came from, as far as that counts.
    pub(super) fn from(&self) -> IpAddr {
        self.from.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Address::ip)
    }

    /// It is being closed, and is gone at this time at the latest. The first word counts.
    pub(super) fn leave_by(&mut self, at: Mono) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.due = at;
        }
    }

    /// Whether it is being closed.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// A subscription of this id, if there is one.
    pub(super) fn place_of(&self, id: u32) -> Option<usize> {
        self.subscriptions.all().iter().position(|it| it.id == id && !it.is_ending)
    }

    pub(super) fn add(&mut self, subscription: Subscription) {
        let is_first = self.subscriptions.all().is_empty();
        self.had_many |= !is_first || self.current != 0;
        if is_first && !self.had_many {
            self.current = subscription.id;
        }
        self.subscriptions.push(subscription);
    }

    /// Ends a subscription, at once or behind the message that is being sent. The connections to close.
    pub(super) fn remove(&mut self, place: usize) -> Option<ConnId> {
        let subscription = self.subscriptions.all_mut().get_mut(place)?;
        if usize::from(self.sending) == place {
            subscription.is_ending = true;
            return None;
        }
        self.take_out(place)
    }

    /// Takes one out whose message is not being sent.
    fn take_out(&mut self, place: usize) -> Option<ConnId> {
        if self.sending != NOBODY && place < usize::from(self.sending) {
            self.sending -= 1;
        }
        self.subscriptions.remove(place).map(|it| it.conn)
    }

    /// The inner connection whose message is being sent.
    fn sending(&self) -> Option<ConnId> {
        self.subscriptions.all().get(usize::from(self.sending)).map(|it| it.conn)
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
        self.payload_left > 0 || self.header_left > 0
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
        to_lend: &'a mut ToLend,
    ) -> Outgoing<'a> {
        if self.is_in_message() {
            return self.rest_of_message(now, feed, to_lend);
        }
        if self.texts.is_none() && self.socket.control().is_empty() && !self.socket.is_closing() {
            self.begin_message(now, feed, lines);
            if self.is_in_message() {
                return self.rest_of_message(now, feed, to_lend);
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
        let count = self.subscriptions.all().len();
        for step in 0..count {
            let place = (usize::from(self.turn) + step) % count;
            let Some(subscription) = self.subscriptions.all().get(place) else { return };
            let (conn, id) = (subscription.conn, subscription.id);
            if self.speech == Speech::Frames && feed.past.has(conn) {
                if self.write_frames(now, place, feed) {
                    self.turn = turn_at(place + 1);
                    return;
                }
                continue;
            }
            if self.speech == Speech::Json || subscription.has_bars() {
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
            let ahead = self.bytes_ahead_of_answer(now, place, feed);
            if ahead == Some(0) {
                self.turn = turn_at(place);
                return self.tell_answer(now, place, feed);
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
            // What is void is sent before the line that names another epoch. Else who loses the connection between the two
            // would come back under the new epoch with frames of the old one.
            let length = ahead.map_or(length, |ahead| length.min(ahead));
            self.turn = turn_at(place + 1);
            // A header is shorter than 256 bytes, and a message than 2^32.
            let header_bytes = MessageHeader::binary(length).as_bytes().len();
            self.header_left = u8::try_from(header_bytes).unwrap_or(0);
            self.payload_left = u32::try_from(length).unwrap_or(0);
            self.sending = turn_at(place);
            return;
        }
    }

    /// Bytes of frames ahead of the one that confirms or refuses a subscription, if that one is there and has not been told.
    fn bytes_ahead_of_answer(&self, now: Now, place: usize, feed: &mut Feed) -> Option<usize> {
        let subscription = self.subscriptions.all().get(place).filter(|it| !it.is_confirmed)?;
        let (frames, _) = as_frames(feed.broker_mut().outgoing(now, subscription.conn).head);
        let is_answer = |frame: &Frame| {
            frame.view::<Subscribed>().is_some() || frame.view::<Refusal>().is_some()
        };
        Some(frames.iter().position(is_answer)? * FRAME_BYTES)
    }

    /// Tells by a line what the next frame of a subscription says: that it stands, or why not.
    fn tell_answer(&mut self, now: Now, place: usize, feed: &mut Feed) {
        let Some(subscription) = self.subscriptions.all_mut().get_mut(place) else { return };
        let (id, conn) = (subscription.id, subscription.conn);
        let (frames, _) = as_frames(feed.broker_mut().outgoing(now, conn).head);
        let Some(frame) = frames.first() else { return };
        if let Some(subscribed) = frame.view::<Subscribed>() {
            subscription.is_confirmed = true;
            let line = subscribed_json(id, subscribed, &mode_text(subscription.mode));
            self.tell(&line);
        } else if let Some(refusal) = frame.view::<Refusal>() {
            // It is told as a command that is refused, and its id is free again.
            let code = ErrorCode::from_number(refusal.code.get());
            let text = unpadded(&refusal.text);
            self.object(Some(id), &code_name(code), &text);
            self.subscriptions.remove(place);
            feed.close(now, conn);
        }
    }

    /// Makes a message of frames that the ring does not lend: those of a subscription that has not reached it. Whether there
    /// are any.
    fn write_frames(&mut self, now: Now, place: usize, feed: &mut Feed) -> bool {
        let Some(subscription) = self.subscriptions.all_mut().get_mut(place) else { return false };
        let inner = &mut subscription.conn;
        let frames = feed.take_frames(now, inner, limits::GATEWAY_JSON_FRAMES_MAX);
        if frames.is_empty() {
            return false;
        }
        let (id, conn) = (subscription.id, subscription.conn);
        let is_told = subscription.is_confirmed;
        let is_answer = |frame: &Frame| {
            frame.view::<Refusal>().is_some() || !is_told && frame.view::<Subscribed>().is_some()
        };
        let at = frames.iter().position(is_answer).unwrap_or(frames.len());
        let (ahead, rest) = frames.split_at(at);
        self.add_frames(id, ahead);
        if let Some(refusal) = rest.first().and_then(Frame::view::<Refusal>) {
            let code = code_name(ErrorCode::from_number(refusal.code.get()));
            self.object(Some(id), &code, &unpadded(&refusal.text));
            self.subscriptions.remove(place);
            feed.close(now, conn);
            return true;
        }
        if let Some(subscribed) = rest.first().and_then(Frame::view::<Subscribed>)
            && let Some(subscription) = self.subscriptions.all_mut().get_mut(place)
        {
            subscription.is_confirmed = true;
            let line = subscribed_json(id, subscribed, &mode_text(subscription.mode));
            self.tell(&line);
        }
        self.add_frames(id, rest);
        true
    }

    /// Adds a message of frames.
    fn add_frames(&mut self, id: u32, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        if self.had_many && self.current != id {
            self.current = id;
            self.tell(&id_json("subscription", id));
        }
        let texts = self.texts.get_or_insert_default();
        let bytes = frames.as_bytes();
        texts.bytes.extend_from_slice(MessageHeader::binary(bytes.len()).as_bytes());
        texts.bytes.extend_from_slice(bytes);
        texts.of_market = texts.bytes.len();
    }

    /// Makes a message of the lines that a subscription has. Whether there are any.
    fn write_lines(&mut self, now: Now, place: usize, feed: &mut Feed, lines: &mut Lines) -> bool {
        let Some(subscription) = self.subscriptions.all_mut().get_mut(place) else { return false };
        let mut text = Vec::new();
        let mut is_refused = false;
        loop {
            let inner = &mut subscription.conn;
            let frames = feed.take_frames(now, inner, limits::GATEWAY_JSON_FRAMES_MAX);
            if frames.is_empty() && !subscription.has_due_bars(now) {
                return false;
            }
            if self.had_many && self.current != subscription.id {
                self.current = subscription.id;
                text.extend_from_slice(id_json("subscription", subscription.id).as_bytes());
            }
            is_refused |= frames.iter().any(|frame| frame.kind == Kind::Error as u8);
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
        if is_refused && let Some(ended) = self.subscriptions.remove(place) {
            feed.close(now, ended.conn);
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
        to_lend: &'a mut ToLend,
    ) -> Outgoing<'a> {
        self.part = Part::Message;
        let left = self.payload_left as usize;
        if self.header_left > 0 {
            to_lend.header = MessageHeader::binary(left);
        }
        let ToLend { header, filler } = to_lend;
        let header = header.as_bytes();
        let front = header.len().checked_sub(usize::from(self.header_left));
        let front = front.and_then(|sent| header.get(sent..)).unwrap_or_default();
        // What can wait has had its part of this turn: it comes in the next one.
        let sending = self.sending();
        let is_put_off = sending.is_some_and(|conn| feed.is_put_off(conn));
        let outgoing = match sending.filter(|_| self.filler_left == 0) {
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
        for subscription in self.subscriptions.all() {
            feed.past.note_taken(now, subscription.conn);
        }
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
        let of_header = bytes.min(usize::from(self.header_left));
        // A header is shorter than 256 bytes, and a payload than 2^32.
        self.header_left -= u8::try_from(of_header).unwrap_or(self.header_left);
        let of_payload = (bytes - of_header).min(self.payload_left as usize);
        self.payload_left -= u32::try_from(of_payload).unwrap_or(self.payload_left);
        if self.filler_left > 0 {
            let of_filler = u8::try_from(of_payload).unwrap_or(u8::MAX);
            self.filler_left = self.filler_left.saturating_sub(of_filler);
        } else if let Some(conn) = self.sending().filter(|_| of_payload > 0) {
            feed.broker_mut().handle_sent(now, conn, of_payload);
        }
        if !self.is_in_message() {
            self.sending = NOBODY;
        }
    }

    /// Subscriptions that have ended and can be closed now.
    pub(super) fn poll_ended(&mut self) -> Option<ConnId> {
        let sending = usize::from(self.sending);
        let mut all = self.subscriptions.all().iter().enumerate();
        let (place, _) = all.find(|(place, it)| it.is_ending && *place != sending)?;
        self.take_out(place)
    }
}
