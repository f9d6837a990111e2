//! Enumerations that travel as numbers. A number is never given out twice.

use super::U32;

/// Declares an enumeration that travels as one byte (or two).
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr($int)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            /// The value with this number.
            #[must_use]
            pub fn from_number(number: $int) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What the peer that opened a connection wants from it.
    Role: u8 {
        /// Receives what it subscribes to.
        Subscriber = 1,
        /// Sends a sequence of data frames to a broker.
        Publisher = 2,
        /// Sends a shard its part of core's sequence.
        Feeder = 3,
        /// Asks queries.
        Querier = 4,
        /// Core, asking the exchange for its feed.
        Consumer = 5,
        /// Sends core a feed of its own, as an exchange.
        Producer = 6,
    }
}

numbered! {
    /// What a subscriber wants to happen when it is too slow for the feed.
    Mode: u8 {
        /// A GAP frame, then on from the oldest frame still held; the client fills the gap from history.
        Lossless = 0,
        /// A GAP frame, then the last values, then live.
        Latest = 1,
        /// At most one frame of each kind and instrument per interval, always.
        Conflate = 2,
    }
}

numbered! {
    /// Why frames are missing.
    GapReason: u8 {
        /// The reader was slower than the ring, or the publisher jumped; core's journal may have the frames.
        Lapped = 1,
        /// Asked for frames older than the ring holds; core's journal may have them.
        BeforeRing = 2,
        /// Left out on purpose by the mode `latest` or `conflate`.
        Skipped = 3,
        /// Nobody has them: the source lost them, or it has no history.
        SourceLost = 4,
        /// The log has rot there.
        Corrupt = 5,
        /// Sent under an epoch that a restart made void.
        Void = 6,
    }
}

numbered! {
    /// Why a peer is refused, as a number; [`super::Refusal`] adds a sentence.
    ErrorCode: u16 {
        /// The frame does not pass the checks of PROTOCOL.md.
        BadFrame = 1,
        /// A valid frame that has no place here.
        Unexpected = 2,
        /// A limit of this node is reached.
        Limit = 3,
        /// No such instrument.
        UnknownSymbol = 4,
        /// The deadline passed.
        Deadline = 5,
        /// This node does not own what was asked of it.
        NotOwner = 6,
        /// The node is going away.
        Stopping = 7,
        /// The request failed at its source.
        Failed = 8,
        /// The peer was silent too long.
        Silent = 9,
        /// The log cannot take more, or has failed.
        Storage = 10,
        /// Not all nodes answered and the client wanted all or nothing.
        Incomplete = 11,
        /// A pattern that matches nothing by its form.
        BadPattern = 12,
        /// Nothing is known about this yet.
        NoData = 13,
        /// This node is not yet where `as_of` wants it.
        Behind = 14,
    }
}

numbered! {
    /// What a query asks for.
    Op: u8 {
        /// The current quote. Answer: at most one quote frame.
        Quote = 1,
        /// The last `limit` trades of each instrument.
        Last = 2,
        /// Trades with `from <= time < to`, at most `limit` of each instrument.
        Range = 3,
        /// Bars of `limit` seconds over `from <= time < to`.
        Bars = 4,
        /// All frames with `from <= seq < to` whose topic matches the pattern in `symbol`.
        Replay = 5,
        /// The node's figures as METRIC and TEXT frames.
        Status = 6,
        /// Stop the query with this id.
        Stop = 7,
        /// Operator: do to the breaker that `symbol` names what `limit` says, a [`BreakerAction`].
        Breaker = 8,
        /// How many trades with `from <= time < to`, the first and the last: one [`super::Counted`] for each
        /// instrument.
        Count = 9,
        /// The definitions of the instruments.
        Instruments = 10,
        /// Operator: an exchange of a playground is to misbehave as `limit` says, a [`ChaosAction`].
        Chaos = 11,
    }
}

numbered! {
    /// What an operator does to a circuit breaker.
    BreakerAction: u8 {
        /// Deny every call, and end the connection that the breaker guards, until told otherwise.
        ForceOpen = 1,
        /// Let calls through and judge them from an empty window.
        Close = 2,
        /// Let every call through and judge nothing.
        Disable = 3,
        /// Let every call through and keep rates without acting on them.
        MetricsOnly = 4,
        /// Start anew: closed, empty window, first wait.
        Reset = 5,
    }
}

numbered! {
    /// How an exchange is to misbehave from now on.
    ChaosAction: u8 {
        /// In nothing.
        Behave = 1,
        /// In every way that there is, each often enough to be seen within seconds.
        Misbehave = 2,
        /// As it was started.
        Reset = 3,
    }
}

impl ChaosAction {
    /// The action that stands in a query's `limit`.
    #[must_use]
    pub fn from_limit(limit: U32) -> Option<ChaosAction> {
        u8::try_from(limit.get()).ok().and_then(ChaosAction::from_number)
    }
}

impl BreakerAction {
    /// The action that stands in a query's `limit`.
    #[must_use]
    pub fn from_limit(limit: U32) -> Option<BreakerAction> {
        u8::try_from(limit.get()).ok().and_then(BreakerAction::from_number)
    }
}

numbered! {
    /// What became of one node's share of a query.
    NodeStatus: u8 {
        /// Answered in full.
        Ok = 0,
        /// Not asked: it owns nothing of the question.
        Pruned = 1,
        /// No answer before the deadline.
        Timeout = 2,
        /// The connection was refused, lost or reset.
        Refused = 3,
        /// Not asked: its circuit breaker is open.
        BreakerOpen = 4,
        /// Answered what it could; part of its log is damaged.
        Corrupt = 5,
        /// Answered with an error.
        Failed = 6,
        /// Not needed: another copy of its part answered.
        Spare = 7,
        /// Answered, and has not had all that core has for longer than is allowed.
        Behind = 8,
    }
}

numbered! {
    /// How a query ended.
    EndStatus: u8 {
        /// All of it is there.
        Complete = 0,
        /// Something is missing; the NODE frames say what.
        Partial = 1,
        /// No answer; the code says why.
        Failed = 2,
    }
}
