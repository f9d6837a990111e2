//! Section `[gateway]`: the node for browsers.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, duration_within, within};
use crate::duration;
use crate::http::AllowedHosts;
use crate::limits;

/// Section `[gateway]`: WebSocket, events and HTTP for browsers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayNode {
    /// `run`: whether `pregao all` starts it. Default true.
    pub run: bool,
    /// `ring_frames`: frames held for slow browsers, 64 bytes each; a power of two from 64 to 2^24. Default 65536.
    pub ring_frames: u32,
    /// `subscriptions_max`: subscriptions of all browsers together. Default 10000.
    pub subscriptions_max: u32,
    /// `unread_max`: a browser that takes nothing for this long, while something waits for it, is closed; 2 s to 1 h.
    /// Default `"30s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub unread_max: Duration,
    /// `hosts`: names by which browsers may ask for it, besides those of this machine's loopback: `"quotes.example.com"`,
    /// or with a port. Default: none.
    pub hosts: Vec<String>,
    /// `playground`: whether the page may break things on purpose (`--playground`). An exchange reads it too: whether it may
    /// be told to misbehave. Default false.
    pub playground: bool,
}

impl Default for GatewayNode {
    fn default() -> GatewayNode {
        GatewayNode {
            run: true,
            ring_frames: 1 << 16,
            subscriptions_max: 10_000,
            unread_max: limits::GATEWAY_UNREAD_WAIT_DEFAULT,
            hosts: Vec::new(),
            playground: false,
        }
    }
}

impl GatewayNode {
    /// The hosts that it answers for, beside those of loopback with this port.
    ///
    /// # Errors
    /// When one is no host.
    pub fn allowed_hosts(&self, port: u16) -> Result<AllowedHosts, ConfigError> {
        let mut allowed = AllowedHosts::loopback(port);
        match self.hosts.iter().find(|host| !allowed.allow(host)) {
            None => Ok(allowed),
            Some(host) => {
                let problem = format!("{host:?} is no host; write a name, or a name with a port");
                Err(ConfigError::new("[gateway] hosts", problem))
            }
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let frames = self.ring_frames;
        let range = limits::RING_FRAMES_MIN..=limits::RING_FRAMES_MAX;
        if !frames.is_power_of_two() || !range.contains(&frames) {
            let (start, end) = (range.start(), range.end());
            let problem = format!(
                "{frames} is no size of the ring; use a power of two from {start} to {end}, like 65536"
            );
            return Err(ConfigError::new("[gateway] ring_frames", problem));
        }
        let range = limits::UNREAD_WAIT_MIN..=limits::UNREAD_WAIT_MAX;
        duration_within("[gateway] unread_max", self.unread_max, &range)?;
        let range = 1..=limits::SUBSCRIBERS_MAX;
        within("[gateway] subscriptions_max", self.subscriptions_max, &range)?;
        self.allowed_hosts(limits::GATEWAY_PORT).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_wrong_host_and_a_wrong_ring_are_named() {
        let wrong = |text: &str| {
            let config = Config::from_toml(&format!("[gateway]\n{text}\n"), "p.toml").unwrap();
            config.validate().unwrap_err().to_string()
        };
        assert!(wrong("ring_frames = 100").starts_with("[gateway] ring_frames: 100 is no size"));
        assert!(wrong("hosts = [\"a b\"]").starts_with("[gateway] hosts: \"a b\" is no host"));
        assert!(wrong("unread_max = \"1s\"").starts_with("[gateway] unread_max"));
        assert!(wrong("subscriptions_max = 0").starts_with("[gateway] subscriptions_max"));
        assert_eq!(GatewayNode::default().validate(), Ok(()));
    }
}
