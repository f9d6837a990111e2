//! Planted bugs: mistakes that the simulator has to find, each a place in the code that asks
//! [`is_planted`] whether it should go wrong. Without the feature `planted`, which only the simulator
//! (`tests/sim/`, a package of its own) switches on, the answer is a constant `false` and nothing of it is
//! compiled in. `pregao --version` names the feature when it is on, and what measures refuses to start then.
//!
//! The switch is the one piece of thread-local state outside the shells: a run of the simulator is one
//! thread, and an argument through every machine would cost the real code more than it is worth.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bug {
    AcknowledgeBeforeSync,
    SkipDirectorySync,
    TrustFirstWatermark,
    PublishBeforeJournal,
    SlotWithoutGeneration,
    DropGapFrame,
    RingWrapOffByOne,
    ResumeFromSeq,
    CountLateOutcome,
    ForgetHalfOpenPermit,
    KeepEpochAfterCrash,
    ForgetMissingNode,
    AnswerTwice,
    ForgetLastConflated,
    DialWhileOpen,
    ReplayEndsEarly,
    SkipDamageSilently,
    AnswerBeyondCut,
    TrimBehindNobody,
    StreamPastTrimmed,
    ForgetLateInput,
    ForgetUnflushed,
    RoundWithoutBound,
    InheritPending,
    MessagesBeforeHeads,
    HeadBeyondMessage,
    ConflateOnePiece,
    ReuseEpochId,
    AcceptUnknownFeed,
    SkipLineageLookup,
    FeedUndurableToShards,
    ResumeWithoutLineage,
    TakeSealForEnd,
    ForgetRemoval,
    TakeAnyPartition,
    SyncOneFound,
    ReadPastLoss,
    OverlookRot,
    PrefixIndexMissesNeighbour,
    JoinInOneTurn,
    ReplayBeforeLive,
    MergeDropsLast,
    AgeByWallClock,
    ReceiveTimeByWallClock,
    DieOfEmfile,
    NoDescriptorReserve,
    WriteWhileDisplaced,
    TrustWhoIsBehind,
    AckBeforeSync,
    ForgetLeftFeed,
    ProducerBeginsAnew,
    ForgetAccepted,
    AnswerProbeAhead,
    FreshWithoutFeeder,
    StaleNotTold,
    LiveAgainNotTold,
    DisplaceTheLiving,
    BelieveAnyAck,
    TrustHeartbeatsForGood,
    JumpWithoutNotice,
    KeepWhatNobodySent,
    TakeEveryReport,
    WaitingTakesAll,
    NoShares,
    KeepTheUnread,
    FollowAnyEpoch,
    TakeShortReplayForWhole,
    ConfirmWhileCatchingUp,
    EndNotTold,
    EndBeforeTheEnd,
    TakeAnyFeed,
    UnitsMayChange,
    SickExchangeNotTold,
    VenueForgotten,
    SilenceNotTold,
    GatewayDropsFrame,
    GatewayForgetsVoid,
    GatewayForgetsStates,
    GatewayKeepsOldValues,
    FillerInsideFrame,
    ResumeFromNow,
    ResumeWithoutEpoch,
    SeamLosesFrame,
    AnswerToAnother,
    SubscriptionNotNamed,
    NameLeftOut,
    NameOfTheFirst,
    NameByEventTime,
    PublisherForgotten,
    PrintsToldTwice,
    PaceByEventTime,
    DaysSideBySide,
    CancelNewest,
    LateBarSplit,
    LateTradeNotTold,
    BarsBeginWhole,
    LongerFeedIsOther,
    LeftOutInSilence,
    FirstMemberOnly,
    TakeReservedNames,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 100] = [
        Bug::AcknowledgeBeforeSync,
        Bug::SkipDirectorySync,
        Bug::TrustFirstWatermark,
        Bug::PublishBeforeJournal,
        Bug::SlotWithoutGeneration,
        Bug::DropGapFrame,
        Bug::RingWrapOffByOne,
        Bug::ResumeFromSeq,
        Bug::CountLateOutcome,
        Bug::ForgetHalfOpenPermit,
        Bug::KeepEpochAfterCrash,
        Bug::ForgetMissingNode,
        Bug::AnswerTwice,
        Bug::ForgetLastConflated,
        Bug::DialWhileOpen,
        Bug::ReplayEndsEarly,
        Bug::SkipDamageSilently,
        Bug::AnswerBeyondCut,
        Bug::TrimBehindNobody,
        Bug::StreamPastTrimmed,
        Bug::ForgetLateInput,
        Bug::ForgetUnflushed,
        Bug::RoundWithoutBound,
        Bug::InheritPending,
        Bug::MessagesBeforeHeads,
        Bug::HeadBeyondMessage,
        Bug::ConflateOnePiece,
        Bug::ReuseEpochId,
        Bug::AcceptUnknownFeed,
        Bug::SkipLineageLookup,
        Bug::FeedUndurableToShards,
        Bug::ResumeWithoutLineage,
        Bug::TakeSealForEnd,
        Bug::ForgetRemoval,
        Bug::TakeAnyPartition,
        Bug::SyncOneFound,
        Bug::ReadPastLoss,
        Bug::OverlookRot,
        Bug::PrefixIndexMissesNeighbour,
        Bug::JoinInOneTurn,
        Bug::ReplayBeforeLive,
        Bug::MergeDropsLast,
        Bug::AgeByWallClock,
        Bug::ReceiveTimeByWallClock,
        Bug::DieOfEmfile,
        Bug::NoDescriptorReserve,
        Bug::WriteWhileDisplaced,
        Bug::TrustWhoIsBehind,
        Bug::AnswerProbeAhead,
        Bug::FreshWithoutFeeder,
        Bug::StaleNotTold,
        Bug::LiveAgainNotTold,
        Bug::DisplaceTheLiving,
        Bug::BelieveAnyAck,
        Bug::TrustHeartbeatsForGood,
        Bug::JumpWithoutNotice,
        Bug::KeepWhatNobodySent,
        Bug::TakeEveryReport,
        Bug::WaitingTakesAll,
        Bug::NoShares,
        Bug::KeepTheUnread,
        Bug::FollowAnyEpoch,
        Bug::TakeShortReplayForWhole,
        Bug::ConfirmWhileCatchingUp,
        Bug::EndNotTold,
        Bug::EndBeforeTheEnd,
        Bug::TakeAnyFeed,
        Bug::UnitsMayChange,
        Bug::SickExchangeNotTold,
        Bug::VenueForgotten,
        Bug::SilenceNotTold,
        Bug::GatewayDropsFrame,
        Bug::GatewayForgetsVoid,
        Bug::GatewayForgetsStates,
        Bug::GatewayKeepsOldValues,
        Bug::FillerInsideFrame,
        Bug::ResumeFromNow,
        Bug::ResumeWithoutEpoch,
        Bug::SeamLosesFrame,
        Bug::AnswerToAnother,
        Bug::SubscriptionNotNamed,
        Bug::NameLeftOut,
        Bug::AckBeforeSync,
        Bug::ForgetLeftFeed,
        Bug::ProducerBeginsAnew,
        Bug::ForgetAccepted,
        Bug::NameOfTheFirst,
        Bug::NameByEventTime,
        Bug::PublisherForgotten,
        Bug::PrintsToldTwice,
        Bug::PaceByEventTime,
        Bug::DaysSideBySide,
        Bug::CancelNewest,
        Bug::LateBarSplit,
        Bug::LateTradeNotTold,
        Bug::BarsBeginWhole,
        Bug::LongerFeedIsOther,
        Bug::LeftOutInSilence,
        Bug::FirstMemberOnly,
        Bug::TakeReservedNames,
    ];
}

/// Whether this build can go wrong on purpose.
pub const ARE_COMPILED_IN: bool = cfg!(feature = "planted");

/// For the start of a bench: what is measured must be what ships.
///
/// # Panics
/// When planted bugs are compiled in.
pub fn refuse_to_measure() {
    if ARE_COMPILED_IN {
        panic!(
            "planted bugs are compiled in, so this is not the program that ships: run it without the \
             feature `planted`, and without `--workspace`, which selects the simulator too"
        );
    }
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is planted in the present thread.
#[cfg(feature = "planted")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Never: the feature `planted` is off.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Plants a bug in the present thread, or takes it out.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

#[cfg(feature = "planted")]
thread_local! {
    static ON_PREEMPTION: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
}

/// A place in the middle of a turn where other reactors of the process may come in between. Days of the
/// simulator have one thread, so there it is said where one may stand still.
#[cfg(feature = "planted")]
pub fn preemption_point() {
    if let Some(stand) = ON_PREEMPTION.with(std::cell::Cell::get) {
        stand();
    }
}

/// Nothing: the feature `planted` is off, and threads stand still wherever they do.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn preemption_point() {}

/// What the present thread does in such a place.
#[cfg(feature = "planted")]
pub fn on_preemption(stand: Option<fn()>) {
    ON_PREEMPTION.with(|it| it.set(stand));
}
