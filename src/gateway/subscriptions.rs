//! The subscriptions of one connection, and what the frames of one become in lines.

use super::bars::Bars;
use super::feed::Feed;
use super::json::{Lines, Told, control_kind, refusal_json, subscribed_json};
use super::start::Start;
use super::wish::mode_text;
use crate::node::ConnId;
use crate::parse::DeliveryMode;
use crate::time::Now;
use crate::wire::{
    DataKind, ErrorCode, Flags, Frame, Heartbeat, Kind, Refusal, Seq, SnapshotEnd, Subscribed,
};

/// What a line says of the place of who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// Who has it goes on behind this place.
    Behind(Start),
    /// Its place is none.
    Nowhere,
}

/// One subscription of a connection.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: u32,
    /// Its connection to the inner broker.
    pub(super) conn: ConnId,
    /// It ends behind the message that is being sent.
    pub(super) is_ending: bool,
    /// Its reader of frames was told by a line of text that it stands.
    pub(super) is_confirmed: bool,
    pub(super) mode: DeliveryMode,
    /// Only who is sent lines has it: most read frames, and cost less without.
    of_lines: Option<Box<OfLines>>,
}

/// What becomes lines, and what its reader was told by them.
#[derive(Debug, Default)]
struct OfLines {
    told: Told,
    /// Under which epoch its frames are: the identity that it was told last.
    epoch_id: u64,
    /// Bars are sent, and no frames.
    bars: Option<Box<Bars>>,
}

impl Subscription {
    pub(super) fn new(
        id: u32,
        conn: ConnId,
        mode: DeliveryMode,
        bars: Option<Bars>,
    ) -> Subscription {
        let with_bars = |bars| OfLines { bars: Some(Box::new(bars)), ..OfLines::default() };
        let of_lines = bars.map(with_bars).map(Box::new);
        Subscription { id, conn, is_ending: false, is_confirmed: false, mode, of_lines }
    }

    /// Whether bars are sent, and no frames.
    pub(super) fn has_bars(&self) -> bool {
        self.of_lines.as_ref().is_some_and(|of| of.bars.is_some())
    }

    /// The bars that are sent, if it is bars.
    pub(super) fn bars_mut(&mut self) -> Option<&mut Bars> {
        self.of_lines.as_mut()?.bars.as_deref_mut()
    }

    /// Whether a bar may be over by time alone.
    pub(super) fn has_due_bars(&self, now: Now) -> bool {
        let bars = self.of_lines.as_ref().and_then(|of| of.bars.as_ref());
        let due = bars.and_then(|bars| bars.deadline());
        due.is_some_and(|due| due <= now.mono)
    }

    /// Hands the lines of these frames on, each with its kind and what it says of the reader's place.
    pub(super) fn write(
        &mut self,
        now: Now,
        frames: &[Frame],
        lines: &mut Lines,
        feed: &Feed,
        mut each: impl FnMut(&str, Mark, &str),
    ) {
        let of = self.of_lines.get_or_insert_default();
        for frame in frames {
            if let Some(subscribed) = frame.view::<Subscribed>() {
                of.told.note_confirmed();
                of.epoch_id = subscribed.feed.get();
                each(
                    "subscribed",
                    Mark::None,
                    &subscribed_json(self.id, subscribed, &mode_text(self.mode)),
                );
            } else if let Some(refusal) = frame.view::<Refusal>() {
                // What it has is of another sequence: it must not come back with that.
                let is_foreign = refusal.code.get() == ErrorCode::Unexpected as u16;
                let mark = if is_foreign { Mark::Nowhere } else { Mark::None };
                each("error", mark, &refusal_json(self.id, refusal));
            } else if let Some(beat) = frame.view::<Heartbeat>() {
                of.told.note(beat, feed.venues(), |kind, line| each(kind, Mark::None, line));
            } else if let Some(bars) = &mut of.bars {
                bars.handle_frame(now, frame, feed.symbols());
                if frame.kind == Kind::Gap as u8
                    && let Some(line) = lines.line(frame, feed.symbols())
                {
                    each("gap", Mark::None, line);
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
                let kind = kind.unwrap_or_else(|| control_kind(frame));
                let place = |seq| Start { epoch_id: of.epoch_id, seq };
                let mark = seq.and_then(Seq::new).map(place).map_or(Mark::None, Mark::Behind);
                each(kind, mark, line);
            }
        }
        if let Some(bars) = &mut of.bars {
            bars.write(now, feed.symbols(), |line| each("bar", Mark::None, line));
        }
    }
}

/// All of a connection, in the order in which they began. Most connections have one, so one stands here itself.
#[derive(Debug)]
pub(super) enum Subscriptions {
    Few(Option<Subscription>),
    Many(Vec<Subscription>),
}

impl Subscriptions {
    pub(super) const NONE: Subscriptions = Subscriptions::Few(None);

    pub(super) fn all(&self) -> &[Subscription] {
        match self {
            Subscriptions::Few(few) => few.as_slice(),
            Subscriptions::Many(many) => many,
        }
    }

    pub(super) fn all_mut(&mut self) -> &mut [Subscription] {
        match self {
            Subscriptions::Few(few) => few.as_mut_slice(),
            Subscriptions::Many(many) => many,
        }
    }

    pub(super) fn push(&mut self, subscription: Subscription) {
        match self {
            Subscriptions::Few(few) => match few.take() {
                None => *few = Some(subscription),
                Some(first) => *self = Subscriptions::Many(vec![first, subscription]),
            },
            Subscriptions::Many(many) => many.push(subscription),
        }
    }

    /// Takes the one at this place out, if there is one.
    pub(super) fn remove(&mut self, place: usize) -> Option<Subscription> {
        match self {
            Subscriptions::Few(few) => few.take_if(|_| place == 0),
            Subscriptions::Many(many) => {
                let removed = (place < many.len()).then(|| many.remove(place));
                if many.len() < 2 {
                    *self = Subscriptions::Few(many.pop());
                }
                removed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(id: u32) -> Subscription {
        let conn = ConnId { generation: id, slot: id };
        Subscription::new(id, conn, DeliveryMode::Lossless, None)
    }

    fn ids(all: &Subscriptions) -> Vec<u32> {
        all.all().iter().map(|it| it.id).collect()
    }

    #[test]
    fn subscriptions_keep_their_order_as_they_become_many_and_few() {
        let mut all = Subscriptions::NONE;
        assert!(all.remove(0).is_none());
        for id in 1..=4 {
            all.push(subscription(id));
        }
        assert_eq!(ids(&all), [1, 2, 3, 4]);
        assert!(all.remove(4).is_none());
        assert_eq!(all.remove(1).map(|it| it.id), Some(2));
        assert_eq!(all.remove(0).map(|it| it.id), Some(1));
        assert_eq!(all.remove(1).map(|it| it.id), Some(4));
        assert!(matches!(all, Subscriptions::Few(Some(_))), "one stands alone again");
        assert!(all.remove(1).is_none());
        all.all_mut().iter_mut().for_each(|it| it.is_ending = true);
        assert!(all.remove(0).is_some_and(|it| it.id == 3 && it.is_ending));
        assert!(all.all().is_empty());
    }
}
