//! Silence is told: as a line of the log when an exchange goes mute though it is connected, as frames on `$sys.silence`, and in
//! the status.

use super::Sequencer;
use super::exchanges::place_topic;
use super::silence::SilenceChange;
use crate::log::Storage;
use crate::node::Level;
use crate::node::session::Status;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{Flags, InstrumentId, Silence, Symbol, U16, U64};

/// The topic of all changes of silence.
const SILENCE_TOPIC: &str = "$sys.silence";
/// Instruments that the status names.
const NAMED_MAX: usize = 8;

impl<S: Storage> Sequencer<S> {
    /// Looks for who is silent for much longer than is usual for it, and tells it.
    pub(super) fn watch_silence(&mut self, now: Now) {
        for index in 0..self.exchanges.len() {
            if let Some(change) = self.exchanges[index].judge_silence(now) {
                self.tell_exchange_silence(now, index, change);
            }
        }
        let exchanges = &self.exchanges;
        let since = |index: usize| exchanges.get(index)?.speaks_since();
        for (index, change) in self.pulses.poll(now.mono, since) {
            let instrument = InstrumentId::new(super::MARKET_SOURCE, index);
            if let Some(symbol) = self.market.symbol(instrument) {
                self.tell_silence(now, symbol, change);
            }
        }
    }

    /// An exchange went mute though it is connected, or is heard again.
    pub(super) fn tell_exchange_silence(&mut self, now: Now, index: usize, change: SilenceChange) {
        let exchange = &self.exchanges[index];
        let (title, seconds) = (exchange.title(), change.silence.as_secs_f64());
        let usual = change.usual_ms;
        let (level, text) = if change.is_silent {
            let text = format!(
                "{title} is connected and has sent nothing for {seconds:.1} s; at most {usual} ms between two \
                 frames are usual"
            );
            (Level::Warn, text)
        } else {
            (Level::Info, format!("{title} sends again, after {seconds:.1} s"))
        };
        if let Some(topic) = place_topic(exchange.name()) {
            self.tell_silence(now, topic, change);
        }
        self.connections.log(level, text);
    }

    fn tell_silence(&mut self, now: Now, who: Symbol, change: SilenceChange) {
        let Ok(topic) = SILENCE_TOPIC.parse() else { return };
        let heard = if change.is_silent { 0 } else { Flags::HEARD };
        let silence = u64::try_from(change.silence.as_nanos()).unwrap_or(u64::MAX);
        let silence = Silence {
            flags: U16::new(heard | Silence::usual_flags(change.usual_ms)),
            ts_event: U64::new(now.wall_ns.saturating_sub(silence).max(1)),
            who,
            ..Silence::default()
        };
        if is_planted(Bug::SilenceNotTold) {
            return;
        }
        if self.publish_on(now, topic, silence).is_err() {
            self.local_dropped += 1;
        }
    }

    /// How many instruments are silent, and some of their names.
    pub(super) fn describe_silence(&self, status: &mut Status) {
        let speaks = |index: usize| self.exchanges[index].speaks_since().is_some();
        let count = self.pulses.silent(speaks).count();
        status.metric("silent_instruments", count);
        let id = |index| InstrumentId::new(super::MARKET_SOURCE, index);
        let names = self.pulses.silent(speaks).filter_map(|index| self.market.symbol(id(index)));
        let names: Vec<String> = names.take(NAMED_MAX).map(|name| name.to_string()).collect();
        if !names.is_empty() {
            let more = if count > names.len() { " and others" } else { "" };
            status.text("silent_names", format!("{}{more}", names.join(", ")));
        }
    }
}
