//! What is known of a feed's last values, as the flags of heartbeats and quotes say it.

use super::Flags;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_feed_is_stale_even_if_it_had_ended() {
        for status in [FeedStatus::Current, FeedStatus::Ended, FeedStatus::Stale] {
            assert_eq!(FeedStatus::of(status.flags() | Flags::SNAPSHOT), status);
        }
        assert_eq!(FeedStatus::of(Flags::ENDED | Flags::STALE), FeedStatus::Stale);
    }
}
