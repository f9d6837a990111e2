//! How the exchange misbehaves now, what came of it, and an operator's change of it while the exchange runs.
//!
//! # Decisions
//!
//! * An operator's frame, and no restart with other flags. A synthetic market that is started again is another feed, so a
//!   button that restarts it would show a new market and not a failing one. A frame also reaches an exchange that another
//!   supervisor runs.
//! * The frame names one of a few misbehaviours, and has no rates of its own: so a peer can ask for nothing that has to be
//!   bounded first, such as a stall of an hour.
//! * A session or a request that is being stalled is answered when its time has come, also after the change.

use zerocopy::IntoBytes;

use crate::market::chaos::{Chaos, ChaosConfig, ChaosDecision, FrameAction};
use crate::node::session::{Rejection, Status};
use crate::wire::{ChaosAction, ErrorCode, Frame};

/// What is done wrong now, and what an operator may change it to.
#[derive(Debug)]
pub(super) struct Misbehaviour {
    pub(super) chaos: Chaos,
    configured: ChaosConfig,
    playground: bool,
}

impl Misbehaviour {
    pub(super) fn new(configured: ChaosConfig, playground: bool) -> Misbehaviour {
        Misbehaviour { chaos: Chaos::new(configured), configured, playground }
    }

    /// Misbehaves otherwise from now on; says how.
    pub(super) fn change(&mut self, action: ChaosAction) -> Result<&ChaosConfig, Rejection> {
        if !self.playground {
            let text = "the exchange was not started with --playground";
            return Err(Rejection::new(ErrorCode::Unexpected, text));
        }
        // The decisions follow from the seed of before, so that a run can be repeated.
        let seed = self.configured.seed;
        self.chaos = Chaos::new(match action {
            ChaosAction::Behave => ChaosConfig { seed, ..ChaosConfig::OFF },
            ChaosAction::Misbehave => ChaosConfig { seed, ..ChaosConfig::PLAYGROUND },
            ChaosAction::Reset => self.configured,
        });
        Ok(self.chaos.config())
    }
}

/// What became of sessions or requests.
#[derive(Debug, Default)]
pub(super) struct DecisionCounts {
    pub(super) served: u64,
    pub(super) refused: u64,
    pub(super) stalled: u64,
}

impl DecisionCounts {
    pub(super) fn count(&mut self, decision: ChaosDecision) {
        *match decision {
            ChaosDecision::Serve => &mut self.served,
            ChaosDecision::Refuse => &mut self.refused,
            ChaosDecision::Stall(_) => &mut self.stalled,
        } += 1;
    }

    pub(super) fn report(&self, status: &mut Status, what: &str) {
        status.metric(format!("{what}.served"), self.served);
        status.metric(format!("{what}.refused"), self.refused);
        status.metric(format!("{what}.stalled"), self.stalled);
    }
}

/// What became of the frames of the feed.
#[derive(Debug, Default)]
pub(super) struct FrameCounts {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) cut: u64,
    pub(super) garbage: u64,
    /// Frames that left the window before a slow consumer came to them.
    pub(super) lapped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoiled {
    Whole,
    /// The last frame is not; the connection ends in it.
    Cut,
}

/// Lets every frame meet its fate on the way into `out`.
pub(super) fn spoil<'a>(
    chaos: &mut Chaos,
    counts: &mut FrameCounts,
    frames: impl Iterator<Item = &'a Frame>,
    out: &mut Vec<u8>,
) -> Spoiled {
    for frame in frames {
        match chaos.frame() {
            FrameAction::Send => {
                counts.sent += 1;
                out.extend_from_slice(frame.as_bytes());
            }
            FrameAction::Lose => counts.lost += 1,
            FrameAction::Garbage => {
                counts.garbage += 1;
                out.extend_from_slice(&chaos.garbage());
            }
            FrameAction::CutMidway => {
                counts.cut += 1;
                out.extend_from_slice(&frame.as_bytes()[..chaos.cut_bytes()]);
                return Spoiled::Cut;
            }
        }
    }
    Spoiled::Whole
}
