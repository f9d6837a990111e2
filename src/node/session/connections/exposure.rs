//! The word that other machines reach this node, and that it asks nobody who they are: each hour in its log, always in its
//! status.

use super::Connections;
use crate::limits;
use crate::node::Level;
use crate::time::{Mono, Now};

/// Why the word is said, and when next.
#[derive(Debug)]
pub(super) struct Exposure {
    text: String,
    /// `None`: the first hour has not begun.
    next: Option<Mono>,
}

impl<P> Connections<P> {
    /// Other machines reach the node, as `text` says; the start said it once already.
    pub(crate) fn expose(&mut self, text: String) {
        self.exposure = Some(Exposure { text, next: None });
    }

    /// Whether other machines reach it.
    pub(super) fn is_exposed(&self) -> bool {
        self.exposure.is_some()
    }

    /// Says it again, once an hour.
    pub(super) fn repeat_exposure(&mut self, now: Now) {
        let Some(exposure) = &mut self.exposure else { return };
        let next = exposure.next.get_or_insert(now.mono + limits::INSECURE_TOLD_EVERY);
        if *next <= now.mono {
            *next = now.mono + limits::INSECURE_TOLD_EVERY;
            let text = exposure.text.clone();
            self.log(Level::Warn, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Action;
    use crate::node::session::Status;

    fn said(connections: &mut Connections<()>, at: Mono) -> usize {
        connections.tick(Now { mono: at, wall_ns: 0 }, |()| None);
        let actions = std::iter::from_fn(|| connections.poll_action());
        actions.filter(|it| matches!(it, Action::Log(Level::Warn, text) if text == "open")).count()
    }

    #[test]
    fn who_is_exposed_says_so_each_hour_and_in_its_status() {
        let mut connections = Connections::<()>::default();
        let told = |connections: &Connections<()>| {
            let mut status = Status::default();
            connections.describe(&mut status);
            status.told().contains(&"insecure 1".to_owned())
        };
        let (start, hour) = (Mono(1_000_000_000), limits::INSECURE_TOLD_EVERY);
        assert_eq!((said(&mut connections, start), told(&connections)), (0, false));
        connections.expose("open".to_owned());
        let after = |hours: u32| start + limits::SILENCE_CHECK_EVERY + hour * hours;
        assert_eq!((said(&mut connections, after(0)), told(&connections)), (0, true));
        assert_eq!(said(&mut connections, after(1)), 1);
        assert_eq!(said(&mut connections, after(1) + limits::SILENCE_CHECK_EVERY), 0);
        assert_eq!(said(&mut connections, after(2)), 1);
    }
}
