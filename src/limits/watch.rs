//! Bounds of `pregao watch`.

use std::time::Duration;

/// Updates of connections that wait for the screen. A connection waits when there are more, and its node conflates.
pub const WATCH_INPUTS_MAX: usize = 4_096;
/// Updates that are taken before the screen is looked at again.
pub const WATCH_INPUTS_PER_TURN_MAX: usize = 4_096;
/// Bars kept of the chosen instrument.
pub const WATCH_CANDLES_MAX: usize = 512;
/// Lines of the tape kept of the chosen instrument.
pub const WATCH_TAPE_MAX: usize = 256;
/// Live trades of the chosen instrument kept for bars that history has only in part.
pub const WATCH_RECENT_TRADES_MAX: usize = 8_192;
/// Messages kept.
pub const WATCH_NOTICES_MAX: usize = 64;
/// Between two drawings of the screen, at least.
pub const WATCH_FRAME_EVERY: Duration = Duration::from_millis(50);
/// Between two drawings of a screen on which only ages change.
pub const WATCH_AGES_EVERY: Duration = Duration::from_secs(1);
/// At most so often comes a value of the watch list.
pub const WATCH_CONFLATE_MS: u32 = 100;
/// Between two questions to all nodes how they are.
pub const WATCH_STATUS_EVERY: Duration = Duration::from_secs(1);
/// Between two questions for the day's bars of the watch list, at least.
pub const WATCH_DAY_EVERY: Duration = Duration::from_secs(2);
/// So many times as long as such a question took passes before the next one.
pub const WATCH_DAY_REST: u32 = 10;
/// How long an answer of history may take.
pub const WATCH_HISTORY_DEADLINE: Duration = Duration::from_secs(1);
/// Between two tries to get what is away.
pub const WATCH_RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long a change is emphasised.
pub const WATCH_FLASH: Duration = Duration::from_millis(400);
/// How long a message is shown.
pub const WATCH_NOTICE_SHOWN: Duration = Duration::from_secs(8);
/// How long a byte of escape waits for the rest of a key's sequence.
pub const WATCH_ESCAPE_WAIT: Duration = Duration::from_millis(50);
/// Columns and lines of the smallest terminal that is drawn on.
pub const WATCH_SCREEN_MIN: (u16, u16) = (60, 15);
