//! The blocking shell around [`Follower`]: reconnects with jittered backoff, resumes by sequence, fills
//! gaps from core's history.

use std::net::SocketAddr;

use super::follower::{Event, Follower, Request, Want};
use super::{Backoff, ClientError, Connection, Symbols};
use crate::limits;
use crate::time::{Clock, Mono};
use crate::wire::{Ended, ErrorCode, Frame, Gap, Kind, Refusal, Role};

/// A subscription that survives the broker's restarts.
#[derive(Debug)]
pub struct Subscription {
    follower: Follower,
    broker: SocketAddr,
    core: SocketAddr,
    clock: Clock,
    connection: Option<Connection>,
    /// The connection to core on which a piece of history arrives.
    history: Option<Connection>,
    /// When core was last heard on it.
    history_heard: Mono,
    backoff: Backoff,
    /// Not to connect again before this. It outlives a call: a caller whose deadlines are shorter than
    /// the wait would never see its end.
    retry_at: Option<Mono>,
}

impl Subscription {
    /// Connects to the broker and subscribes. `core` is asked for history when frames are missing.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub fn open(
        broker: SocketAddr,
        core: SocketAddr,
        request: Request,
    ) -> Result<Subscription, ClientError> {
        let clock = Clock::start();
        let seed = clock.now().wall_ns ^ u64::from(std::process::id()).rotate_left(32);
        let mut subscription = Subscription {
            follower: Follower::new(request),
            broker,
            core,
            clock,
            connection: None,
            history: None,
            history_heard: Mono::default(),
            backoff: Backoff::new(limits::RECONNECT_WAIT_MIN, limits::RECONNECT_WAIT_MAX, seed),
            retry_at: None,
        };
        subscription.connect()?;
        Ok(subscription)
    }

    /// Names of the instruments seen so far.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        self.follower.symbols()
    }

    /// How many instruments matched; `None` before the broker has confirmed the subscription.
    #[must_use]
    pub fn matched(&self) -> Option<u32> {
        self.follower.matched()
    }

    /// The clock that deadlines are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The next event; `None` when `deadline` comes first.
    ///
    /// # Errors
    /// Only when the broker refuses the subscription itself; a broken connection is mended.
    pub fn next(&mut self, deadline: Mono) -> Result<Option<Event>, ClientError> {
        loop {
            if matches!(self.follower.want(), Want::History { .. }) {
                match self.next_of_history(deadline) {
                    Some(event) => return Ok(Some(event)),
                    None if self.clock.now().mono >= deadline => return Ok(None),
                    None => continue,
                }
            }
            let Some(connection) = &mut self.connection else {
                if !self.reconnect(deadline)? {
                    return Ok(None);
                }
                continue;
            };
            match connection.read(deadline) {
                Ok(Some(frame)) => {
                    self.follower.heard(self.clock.now().mono);
                    if let Some(error) = Self::final_refusal(connection, &frame) {
                        return Err(error);
                    }
                    let event = self.follower.handle_broker_frame(&frame);
                    if self.follower.must_subscribe_again() {
                        self.lose_broker();
                    }
                    if let Some(event) = event {
                        return Ok(Some(event));
                    }
                }
                Ok(None) => {
                    let now = self.clock.now().mono;
                    if self.follower.is_silent(now) {
                        self.lose_broker();
                    }
                    if now >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    log::info!("{error}; reconnecting");
                    self.lose_broker();
                }
            }
        }
    }

    /// One step of filling a gap. `None` when it brought no event: look again at what is wanted.
    fn next_of_history(&mut self, deadline: Mono) -> Option<Event> {
        if self.history.is_none() {
            if !self.wait_to_retry(deadline) {
                return None;
            }
            match self.open_history() {
                Ok(connection) => {
                    self.history = Some(connection);
                    self.history_heard = self.clock.now().mono;
                }
                Err(error) => {
                    log::debug!("history is missing: {error}");
                    self.retry_later();
                    return None;
                }
            }
        }
        let connection = self.history.as_mut()?;
        let frame = match connection.read(deadline) {
            Ok(Some(frame)) => {
                self.history_heard = self.clock.now().mono;
                frame
            }
            Ok(None) => {
                // Core greets everybody that it has nothing to say to; one that does not is stopped.
                let silence = self.clock.now().mono.since(self.history_heard);
                if silence > limits::SILENCE_MAX {
                    self.history = None;
                    self.retry_later();
                }
                return None;
            }
            Err(error) => {
                log::info!("{error}; asking again for the rest");
                self.history = None;
                return None;
            }
        };
        if let Some(end) = frame.view::<Ended>() {
            self.history = None;
            self.backoff.reset();
            return self.follower.handle_history_end(end.covered_from.get());
        }
        if frame.view::<Refusal>().is_some() {
            log::info!("{}; asking again", connection.refused(&frame));
            self.history = None;
            self.retry_later();
            return None;
        }
        if let Some(gap) = frame.view::<Gap>() {
            return self.follower.handle_history_gap(gap);
        }
        if !frame.kind().is_some_and(Kind::is_data) {
            return None;
        }
        self.follower.handle_history_frame(&frame)
    }

    fn open_history(&self) -> Result<Connection, ClientError> {
        let within = limits::CLIENT_CONNECT_MAX;
        let mut connection =
            Connection::open("core", self.core, Role::Querier, within, self.clock)?;
        if let Want::History { from_seq, to_seq } = self.follower.want() {
            connection.send(self.follower.history_query(from_seq, to_seq, u32::MAX))?;
        }
        Ok(connection)
    }

    /// A refusal that a reconnect would only meet again.
    fn final_refusal(connection: &Connection, frame: &Frame) -> Option<ClientError> {
        let refusal = frame.view::<Refusal>()?;
        let code = ErrorCode::from_number(refusal.code.get());
        let passes = matches!(code, Some(ErrorCode::Stopping | ErrorCode::Silent));
        (!passes).then(|| connection.refused(frame))
    }

    fn lose_broker(&mut self) {
        self.connection = None;
        self.history = None;
        self.follower.handle_broker_lost();
        self.retry_later();
    }

    fn connect(&mut self) -> Result<(), ClientError> {
        let Want::Broker { from_seq } = self.follower.want() else { return Ok(()) };
        let within = limits::CLIENT_CONNECT_MAX;
        let mut connection =
            Connection::open("broker", self.broker, Role::Subscriber, within, self.clock)?;
        for frame in self.follower.subscribe_frames(from_seq) {
            connection.send(frame)?;
        }
        self.follower.heard(self.clock.now().mono);
        self.connection = Some(connection);
        self.backoff.reset();
        Ok(())
    }

    /// Waits and tries again. `false` when the deadline comes first.
    fn reconnect(&mut self, deadline: Mono) -> Result<bool, ClientError> {
        if !self.wait_to_retry(deadline) {
            return Ok(false);
        }
        match self.connect() {
            Ok(()) => log::info!("connected again; resuming at seq {}", self.follower.next_seq()),
            Err(ClientError::Refused { node, code, text })
                if !matches!(code, Some(ErrorCode::Stopping | ErrorCode::Limit)) =>
            {
                return Err(ClientError::Refused { node, code, text });
            }
            Err(error) => {
                log::debug!("{error}");
                self.retry_later();
            }
        }
        Ok(true)
    }

    /// Leaves the peer alone for a while, longer each time.
    fn retry_later(&mut self) {
        self.retry_at = Some(self.clock.now().mono + self.backoff.next_wait());
    }

    /// Waits until connecting may be tried again; `false` when the deadline comes first.
    fn wait_to_retry(&mut self, deadline: Mono) -> bool {
        let Some(at) = self.retry_at else { return true };
        let timer = crossbeam::channel::after(at.min(deadline).since(self.clock.now().mono));
        let _ = timer.recv();
        if at > deadline {
            return false;
        }
        self.retry_at = None;
        true
    }
}
