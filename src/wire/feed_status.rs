//! What is known of a feed's last values, as the flags of heartbeats and quotes say it.

use super::{ExchangeNumber, ExchangeSet, Flags, Frame, Heartbeat, U16};

/// Whether a feed's last values are current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedStatus {
    /// They are, and more may come.
    #[default]
    Current,
    /// They are, and nothing more comes: the feed has ended.
    Ended,
    /// They are not known to be.
    Stale,
}

impl FeedStatus {
    /// What these flags of a heartbeat or a quote say.
    #[must_use]
    pub fn of(flags: u16) -> FeedStatus {
        match flags {
            flags if flags & Flags::STALE != 0 => FeedStatus::Stale,
            flags if flags & Flags::ENDED != 0 => FeedStatus::Ended,
            _ => FeedStatus::Current,
        }
    }

    /// What it is called in lines of JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FeedStatus::Current => "current",
            FeedStatus::Ended => "ended",
            FeedStatus::Stale => "stale",
        }
    }

    /// The flags that say this.
    #[must_use]
    pub fn flags(self) -> u16 {
        match self {
            FeedStatus::Current => 0,
            FeedStatus::Ended => Flags::ENDED,
            FeedStatus::Stale => Flags::STALE,
        }
    }
}

/// What is known of the last values of each exchange: as a HEARTBEAT says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedStates {
    /// Of all of them together, where it is the same of each; else current, and what differs is said below.
    pub all: FeedStatus,
    /// Those whose last values are not known to be current.
    pub stale: ExchangeSet,
    /// Those whose feed has ended.
    pub ended: ExchangeSet,
}

impl FeedStates {
    /// Nothing is known to be current.
    pub const STALE: FeedStates =
        FeedStates { all: FeedStatus::Stale, stale: ExchangeSet::NONE, ended: ExchangeSet::NONE };

    /// What a heartbeat says.
    #[must_use]
    pub fn of(beat: &Heartbeat) -> FeedStates {
        FeedStates {
            all: FeedStatus::of(beat.flags.get()),
            stale: ExchangeSet::of(beat.stale_exchanges),
            ended: ExchangeSet::of(beat.ended_exchanges),
        }
    }

    /// The heartbeat that says it, with the other flags and fields of this one.
    #[must_use]
    pub fn said_by(self, beat: Heartbeat) -> Heartbeat {
        let others = beat.flags.get() & !(Flags::STALE | Flags::ENDED);
        Heartbeat {
            flags: U16::new(others | self.all.flags()),
            stale_exchanges: self.stale.field(),
            ended_exchanges: self.ended.field(),
            ..beat
        }
    }

    /// What is known of the last values of one exchange.
    #[inline]
    #[must_use]
    pub fn of_exchange(&self, exchange: ExchangeNumber) -> FeedStatus {
        if self.all == FeedStatus::Stale || self.stale.has(exchange) {
            FeedStatus::Stale
        } else if self.all == FeedStatus::Ended || self.ended.has(exchange) {
            FeedStatus::Ended
        } else {
            FeedStatus::Current
        }
    }

    /// What a reader that knows `before` is told: of all exchanges together first, then of those that differ from that.
    pub fn changes_since(
        self,
        before: FeedStates,
    ) -> impl Iterator<Item = (Option<ExchangeNumber>, FeedStatus)> {
        let of_all = (before.all != self.all).then_some((None, self.all));
        // Whoever is told something of all of them takes it for the truth about each.
        let known = match of_all {
            Some(_) => FeedStates { all: self.all, ..FeedStates::default() },
            None => before,
        };
        let of_some = ExchangeNumber::all().filter_map(move |exchange| {
            let status = self.of_exchange(exchange);
            (known.of_exchange(exchange) != status).then_some((Some(exchange), status))
        });
        of_all.into_iter().chain(of_some)
    }

    /// Whether something is stale now that was not by `before`: that is told at once.
    #[must_use]
    pub fn is_worse_than(&self, before: FeedStates) -> bool {
        let is_stale = |of: &FeedStates, exchange| of.of_exchange(exchange) == FeedStatus::Stale;
        self.all == FeedStatus::Stale
            || self.stale.iter().any(|exchange| !is_stale(&before, exchange))
    }

    /// What was said before, and what is stale now: of what is better now nothing is said yet.
    #[must_use]
    pub fn worsened_by(self, now: FeedStates) -> FeedStates {
        use FeedStatus::{Ended, Stale};
        if self.all == Stale || now.all == Stale {
            return FeedStates::STALE;
        }
        let mut states = FeedStates::default();
        for exchange in ExchangeNumber::all() {
            match (self.of_exchange(exchange), now.of_exchange(exchange)) {
                (Stale, _) | (_, Stale) => states.stale.insert(exchange),
                (Ended, _) => states.ended.insert(exchange),
                _ => {}
            }
        }
        states
    }

    /// What is known of a last value. What no exchange sent is as all of them are together.
    #[inline]
    #[must_use]
    pub fn of_value(&self, frame: &Frame) -> FeedStatus {
        match frame.has_exchange() {
            true => self.of_exchange(frame.exchange()),
            false => self.all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Quote, U32};

    #[test]
    fn a_stale_feed_is_stale_even_if_it_had_ended() {
        for status in [FeedStatus::Current, FeedStatus::Ended, FeedStatus::Stale] {
            assert_eq!(FeedStatus::of(status.flags() | Flags::SNAPSHOT), status);
        }
        assert_eq!(FeedStatus::of(Flags::ENDED | Flags::STALE), FeedStatus::Stale);
    }

    #[test]
    fn one_sick_exchange_makes_only_its_own_values_stale() {
        let quote = |number: u16| {
            let flags = U16::new(ExchangeNumber::new(number).unwrap().flags());
            Frame::seal(Quote { flags, ..Quote::default() })
        };
        let mut states = FeedStates::default();
        states.stale.insert(ExchangeNumber::new(3).unwrap());
        states.ended.insert(ExchangeNumber::new(4).unwrap());
        let beat = states.said_by(Heartbeat { token: U32::new(7), ..Heartbeat::default() });
        let said = FeedStates::of(&beat);
        assert_eq!((said, beat.token.get()), (states, 7));
        let of = |number| said.of_value(&quote(number));
        use FeedStatus::{Current, Ended, Stale};
        assert_eq!([of(0), of(3), of(4)], [Current, Stale, Ended]);
        assert_eq!(FeedStates::STALE.of_value(&quote(4)), Stale);
    }

    #[test]
    fn what_is_said_of_all_is_not_said_again_of_each() {
        let number = |number| ExchangeNumber::new(number).unwrap();
        let (mut states, current) = (FeedStates::STALE, FeedStates::default());
        let said = |now: FeedStates, before| now.changes_since(before).collect::<Vec<_>>();
        use FeedStatus::{Current, Ended, Stale};
        assert_eq!(said(states, current), [(None, Stale)]);
        states = FeedStates::default();
        states.ended.insert(number(2));
        assert_eq!(said(states, FeedStates::STALE), [(None, Current), (Some(number(2)), Ended)]);
        assert_eq!(said(current, states), [(Some(number(2)), Current)]);
        assert_eq!(said(states, states), []);
    }

    #[test]
    fn what_is_better_is_not_said_with_what_is_worse() {
        let number = |number| ExchangeNumber::new(number).unwrap();
        let of = |states: FeedStates| [0, 1, 2].map(|it| states.of_exchange(number(it)));
        use FeedStatus::{Current, Ended, Stale};
        let (mut before, mut now) = (FeedStates::default(), FeedStates::default());
        before.stale.insert(number(2));
        now.ended.insert(number(1));
        now.stale.insert(number(0));
        assert!(now.is_worse_than(before));
        assert_eq!(of(before.worsened_by(now)), [Stale, Current, Stale]);
        let ended = FeedStates { all: Ended, ..FeedStates::default() };
        assert_eq!(of(ended.worsened_by(now)), [Stale, Ended, Ended]);
        assert_eq!(before.worsened_by(FeedStates::STALE), FeedStates::STALE);
    }
}
