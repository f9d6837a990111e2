//! How far one kept connection is, seen from the side that dials: idle, dialing, greeting, ready, closing. The
//! nodes' uplinks and the client's subscription are both this; `T` is what an attempt costs its owner (a
//! node's permit of a circuit breaker, nothing for a client).
//!
//! Not here: when to dial again, and what an attempt's end means. The owners have a breaker or a backoff.
//!
//! Invariant: what an attempt cost is given back exactly once: when the peer has greeted, or by the end of
//! the attempt.

use crate::time::Mono;

/// One connection of ours.
#[derive(Debug)]
pub(crate) enum Dial<T> {
    /// None; the next attempt not before this.
    Idle { not_before: Mono },
    /// The connect is under way.
    Dialing { attempt: T, since: Mono },
    /// Connected; our SESSION has not been answered.
    Greeting { attempt: T, since: Mono, opened: Mono },
    /// The peer has answered.
    Ready,
    /// We gave it up; its end has not been reported yet.
    Closing,
}

/// How far a connection was that has been left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DialEnd<T> {
    /// The peer had not greeted.
    Attempt(T),
    /// It stood.
    Ready,
    /// There was none, or it had been given up.
    Nothing,
}

impl<T> Default for Dial<T> {
    /// To be dialed at once.
    fn default() -> Dial<T> {
        Dial::Idle { not_before: Mono::default() }
    }
}

impl<T> Dial<T> {
    /// Whether it is time for an attempt.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        matches!(self, Dial::Idle { not_before } if *not_before <= now)
    }

    /// Not before this; only while nothing is under way.
    pub(crate) fn delay_until(&mut self, until: Mono) {
        if let Dial::Idle { not_before } = self {
            *not_before = until;
        }
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, now: Mono, attempt: T) {
        *self = Dial::Dialing { attempt, since: now };
    }

    /// The connect came through. One that nobody waits for is closing.
    pub(crate) fn opened(&mut self, now: Mono) {
        *self = match std::mem::replace(self, Dial::Closing) {
            Dial::Dialing { attempt, since } => Dial::Greeting { attempt, since, opened: now },
            _ => Dial::Closing,
        };
    }

    /// The peer has answered our SESSION. What the attempt cost and when it began, if it was waited for.
    pub(crate) fn greeted(&mut self) -> Option<(T, Mono)> {
        if !self.is_greeting() {
            return None;
        }
        match std::mem::replace(self, Dial::Ready) {
            Dial::Greeting { attempt, since, .. } => Some((attempt, since)),
            _ => None,
        }
    }

    /// It is over; the next attempt not before this.
    pub(crate) fn end(&mut self, not_before: Mono) -> DialEnd<T> {
        self.leave(Dial::Idle { not_before })
    }

    /// It is given up, and its end will be reported.
    pub(crate) fn give_up(&mut self) -> DialEnd<T> {
        self.leave(Dial::Closing)
    }

    fn leave(&mut self, next: Dial<T>) -> DialEnd<T> {
        match std::mem::replace(self, next) {
            Dial::Dialing { attempt, .. } | Dial::Greeting { attempt, .. } => {
                DialEnd::Attempt(attempt)
            }
            Dial::Ready => DialEnd::Ready,
            Dial::Idle { .. } | Dial::Closing => DialEnd::Nothing,
        }
    }

    /// Whether our SESSION waits for its answer.
    pub(crate) fn is_greeting(&self) -> bool {
        matches!(self, Dial::Greeting { .. })
    }

    /// Whether the peer has answered.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Dial::Ready)
    }

    /// When the attempt under way began.
    pub(crate) fn since(&self) -> Option<Mono> {
        match self {
            Dial::Dialing { since, .. } | Dial::Greeting { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// When the connect came through, while our SESSION waits.
    pub(crate) fn greeting_since(&self) -> Option<Mono> {
        match self {
            Dial::Greeting { opened, .. } => Some(*opened),
            _ => None,
        }
    }

    /// When the next attempt may begin, while there is no connection.
    pub(crate) fn not_before(&self) -> Option<Mono> {
        match self {
            Dial::Idle { not_before } => Some(*not_before),
            _ => None,
        }
    }

    /// Where it is, in a word.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Dial::Idle { .. } => "waiting",
            Dial::Dialing { .. } => "dialing",
            Dial::Greeting { .. } => "greeting",
            Dial::Ready => "ready",
            Dial::Closing => "closing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_cost_comes_back_once_however_it_ends() {
        let at = Mono(7);
        let mut dial = Dial::default();
        assert!(dial.is_due(at));
        dial.begin(at, "permit");
        assert_eq!(dial.end(at), DialEnd::Attempt("permit"));
        dial.begin(at, "permit");
        dial.opened(Mono(9));
        assert_eq!((dial.since(), dial.greeting_since()), (Some(at), Some(Mono(9))));
        assert_eq!(dial.give_up(), DialEnd::Attempt("permit"));
        assert_eq!(dial.greeted(), None, "it was given up");
        assert_eq!(dial.end(at), DialEnd::Nothing);
        dial.begin(at, "permit");
        dial.opened(at);
        assert_eq!(dial.greeted(), Some(("permit", at)));
        assert_eq!(dial.greeted(), None, "a second answer");
        assert_eq!(dial.end(Mono(20)), DialEnd::Ready);
        assert!(!dial.is_due(Mono(19)) && dial.is_due(Mono(20)));
    }

    #[test]
    fn a_connect_that_nobody_waits_for_is_closing() {
        let mut dial: Dial<()> = Dial::default();
        dial.opened(Mono(1));
        assert_eq!(dial.state(), "closing");
    }
}
