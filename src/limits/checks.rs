//! What must hold between bounds.

use super::*;

const _: () = {
    assert!(WAITING_QUERIES_PER_CONNECTION_MAX < GATHER_LEAF_QUESTIONS_MAX);
    assert!(GATHERS_AHEAD_MAX < GATHERS_MAX);
    assert!(GATHER_LEAF_QUESTIONS_MAX <= LEAF_QUERIES_MAX);
    assert!(GATHER_LEAF_QUESTIONS_MAX <= GATHERS_MAX && GATHERS_MAX <= GATHER_QUESTIONS_MAX);
    // Nothing that is asked beyond first questions is more than one in twenty of them in the long run.
    let beyond =
        HEDGE_THOUSANDTHS_PER_ASK + FAILOVER_THOUSANDTHS_PER_ASK + PROBE_THOUSANDTHS_PER_ASK;
    assert!(beyond <= 50);
    assert!(FAILOVER_THOUSANDTHS_MAX as usize == GATHER_LEAF_QUESTIONS_MAX * 1_000);
    // A hedge comes before silence is found.
    assert!(HEDGE_AFTER_SCARCE_MIN.as_micros() < LEAF_SILENT_AFTER_MIN.as_micros());
    assert!(HEDGE_AFTER_DEFAULT.as_micros() < LEAF_SILENT_AFTER_DEFAULT.as_micros());
};
