//! A broker that dies under its subscribers: a whole `pregao all`, whose broker is killed and started
//! again by its own supervisor, and thousands of subscribers that come back by themselves as clients of
//! the library do: with their place in the sequence and the library's jittered backoff.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mio::{Events, Interest as Readiness, Poll, Token};
use pregao::client::Backoff;
use pregao::limits::{RECONNECT_WAIT_MAX, RECONNECT_WAIT_MIN};
use pregao::node::sequencer::MARKET_SOURCE;
use pregao::time::{Mono, nanos};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::check::{Continuity, Faults};
use crate::compare::Comparison;
use crate::connect::Dialer;
use crate::leftovers::{self, Leftover, Thing};
use crate::limits;
use crate::options::Format;
use crate::process;
use crate::report::wrapped;
use crate::target::pregao::resume_subscriber;
use crate::target::{Event, Interest, Target, Unwrapping};
use crate::timebase::Timebase;

/// Runs the scenario and prints its one object.
pub(crate) fn restart(to: &mut Comparison<'_>) -> Result<(), String> {
    let subscribers = to.flags.subscribers as usize;
    let system = match System::start(to, subscribers) {
        Ok(system) => system,
        Err(why) => {
            eprintln!("loadgen: restart: {why}");
            return Ok(());
        }
    };
    eprintln!(
        "loadgen: restart: {subscribers} subscribers connect to a market of {} events/s",
        limits::RESTART_RATE
    );
    let crowd = Crowd::gather(system.broker, subscribers)?;
    let returned = crowd.outlive(&system)?;
    drop(system);
    let text = match to.flags.format {
        Format::Json => returned.json(subscribers).to_string(),
        Format::Table => returned.text(subscribers),
    };
    to.show_text(&text, returned.is_valid())
}

/// A running `pregao all`; it ends with this value, and its files go with it.
struct System {
    supervisor: Child,
    broker: SocketAddr,
    directory: PathBuf,
    _leftovers: [Leftover; 2],
}

impl System {
    fn start(to: &Comparison<'_>, subscribers: usize) -> Result<System, String> {
        let failed = |error: io::Error| format!("the system cannot be set up: {error}");
        // Held together, so that the seven are different.
        let listeners: io::Result<Vec<TcpListener>> =
            (0..7).map(|_| TcpListener::bind((to.flags.host, 0))).collect();
        let ports: io::Result<Vec<u16>> =
            listeners.map_err(failed)?.iter().map(|l| Ok(l.local_addr()?.port())).collect();
        let ports = ports.map_err(failed)?;
        let [external, broker, core, a, b, c, aggregator] = ports[..] else {
            return Err("seven ports were asked for".to_owned());
        };
        let name = format!("loadgen-{}-{broker}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let files = Leftover::new(Thing::Path(directory.clone()));
        let text = format!(
            "[net]\nhost = \"{}\"\nexternal = {external}\nbroker = {broker}\ncore = {core}\n\
             shards = [{a}, {b}, {c}]\naggregator = {aggregator}\n[gateway]\nrun = false\n[broker]\nsubscribers_max = {}\n",
            to.flags.host,
            subscribers + 100
        );
        let config = directory.join("pregao.toml");
        std::fs::write(&config, text).map_err(failed)?;
        let mut command = Command::new(&to.ours.program);
        command.args(["all", "--chaos", "off", "--log", "error", "--rate"]);
        command.arg(limits::RESTART_RATE.to_string());
        command.arg("--config").arg(&config).arg("--data-dir").arg(directory.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (supervisor, child) = leftovers::spawn(&mut command).map_err(|error| {
            drop(std::fs::remove_dir_all(&directory));
            format!("{} does not start: {error}", to.ours.program.display())
        })?;
        let broker = SocketAddr::new(to.flags.host, broker);
        let mut system = System { supervisor, broker, directory, _leftovers: [files, child] };
        system.await_broker()?;
        Ok(system)
    }

    fn await_broker(&mut self) -> Result<(), String> {
        let timebase = Timebase::start();
        let deadline = timebase.mono() + limits::PEER_START_MAX;
        while process::listening_on(self.broker).is_none() {
            if let Ok(Some(status)) = self.supervisor.try_wait() {
                return Err(format!("pregao all ended at once, {status}"));
            }
            if timebase.mono() > deadline {
                return Err("the broker does not listen".to_owned());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    fn kill_broker(&self) -> Result<(), String> {
        let pid = process::listening_on(self.broker).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).ok_or("the broker's process is not found")?;
        kill_process(pid, Signal::KILL).map_err(|error| format!("the broker stands: {error}"))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let pid = i32::try_from(self.supervisor.id()).ok().and_then(Pid::from_raw);
        if pid.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
            drop(self.supervisor.kill());
        }
        // The supervisor ends its children itself, in bounded time.
        drop(self.supervisor.wait());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemberState {
    /// Not connected; dials at this time.
    Away(Mono),
    /// Connected, and its subscription not confirmed.
    Greeting,
    /// Confirmed at this wall time; what core took in later has not come yet.
    Back(u64),
    /// It has a frame that core took in after it was confirmed.
    Live,
}

struct Member {
    stream: Option<mio::net::TcpStream>,
    state: MemberState,
    held: Vec<u8>,
    continuity: Continuity,
    backoff: Backoff,
}

/// The subscribers.
struct Crowd {
    dialer: Dialer,
    timebase: Timebase,
    poll: Poll,
    members: Vec<Member>,
    buffer: Box<[u8]>,
    faults: Faults,
    /// Dials by tenth of a second since the kill, and of those the ones that connected.
    attempts: Vec<(u32, u32)>,
    killed_at: Option<Mono>,
    first_confirmed: Option<Mono>,
    all_confirmed: Option<Mono>,
    live: usize,
    confirmed: usize,
}

impl Crowd {
    /// Connects everybody and waits until all are live.
    fn gather(broker: SocketAddr, subscribers: usize) -> Result<Crowd, String> {
        let timebase = Timebase::start();
        let member = |number: usize| Member {
            stream: None,
            state: MemberState::Away(Mono(0)),
            held: Vec::new(),
            continuity: Continuity::Feed(0),
            backoff: Backoff::new(RECONNECT_WAIT_MIN, RECONNECT_WAIT_MAX, number as u64),
        };
        let mut crowd = Crowd {
            dialer: Dialer { target: Target::Pregao, address: broker },
            timebase,
            poll: Poll::new().map_err(|error| format!("cannot poll: {error}"))?,
            members: (0..subscribers).map(member).collect(),
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            faults: Faults::default(),
            attempts: Vec::new(),
            killed_at: None,
            first_confirmed: None,
            all_confirmed: None,
            live: 0,
            confirmed: 0,
        };
        crowd.turn_until(limits::CONNECT_ALL_MAX, |crowd| crowd.live == crowd.members.len())?;
        // Some market in between, so that a restart loses nothing that was only just begun.
        crowd.turn_until(Duration::from_secs(1), |_| false)?;
        if crowd.live < subscribers {
            return Err(format!("{} of {subscribers} subscribers were live in time", crowd.live));
        }
        Ok(crowd)
    }

    /// The broker is killed; until all are live again.
    fn outlive(mut self, system: &System) -> Result<Returned, String> {
        self.faults = Faults::default();
        self.first_confirmed = None;
        self.all_confirmed = None;
        system.kill_broker()?;
        let killed_at = self.timebase.mono();
        self.killed_at = Some(killed_at);
        // They notice one after the other; nobody may count as live on an old connection.
        for place in 0..self.members.len() {
            self.lose(place);
        }
        let all = self.members.len();
        self.turn_until(limits::RESTART_MAX, |crowd| crowd.live == all)?;
        let since = |at: Option<Mono>| at.map(|at| at.since(killed_at));
        let returned_at = self.first_confirmed;
        let is_all_live = self.live == all;
        let peak = |of: fn(&(u32, u32)) -> u32| {
            let per_tenth: Vec<u32> = self.attempts.iter().map(of).collect();
            let spans = (0..per_tenth.len()).map(|at| per_tenth[at..].iter().take(10).sum());
            spans.max().unwrap_or(0)
        };
        Ok(Returned {
            broker_back: since(returned_at),
            all_confirmed: since(self.all_confirmed),
            all_live: is_all_live.then(|| self.timebase.mono().since(killed_at)),
            live: self.live,
            attempts: self.attempts.iter().map(|(all, _)| all).sum(),
            attempts_per_s_max: peak(|(all, _)| *all),
            connects_per_s_max: peak(|(_, connected)| *connected),
            faults: self.faults,
        })
    }

    fn turn_until(
        &mut self,
        longest: Duration,
        is_done: impl Fn(&Crowd) -> bool,
    ) -> Result<(), String> {
        let mut events = Events::with_capacity(limits::EVENTS_MAX);
        let deadline = self.timebase.mono() + longest;
        while !is_done(self) && self.timebase.mono() < deadline {
            self.dial_who_is_due()?;
            match self.poll.poll(&mut events, Some(Duration::from_millis(5))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| format!("cannot poll: {error}"))?,
            }
            for event in &events {
                self.read(event.token().0);
            }
        }
        Ok(())
    }

    fn dial_who_is_due(&mut self) -> Result<(), String> {
        let now = self.timebase.mono();
        let is_due = |member: &Member| matches!(member.state, MemberState::Away(at) if at <= now);
        let due: Vec<usize> = (0..self.members.len())
            .filter(|&place| is_due(&self.members[place]))
            .take(limits::DIALS_PER_TURN_MAX)
            .collect();
        for place in due {
            let connected = self.dial(place);
            if let Some(killed_at) = self.killed_at {
                let tenth = nanos(now.since(killed_at)) / 100_000_000;
                let tenth = usize::try_from(tenth).unwrap_or(0);
                if self.attempts.len() <= tenth {
                    self.attempts.resize(tenth + 1, (0, 0));
                }
                self.attempts[tenth].0 += 1;
                self.attempts[tenth].1 += u32::from(connected.is_ok());
            }
            match connected {
                Ok(()) => {}
                Err(why) if self.killed_at.is_none() => return Err(why),
                Err(_) => self.wait(place),
            }
        }
        Ok(())
    }

    fn dial(&mut self, place: usize) -> Result<(), String> {
        let stream = self.dialer.dial(place).map_err(|error| error.to_string())?;
        let member = &mut self.members[place];
        let from = match member.continuity {
            Continuity::Feed(next) => next,
            Continuity::Instruments(_) => 0,
        };
        let interest = Interest { source: MARKET_SOURCE, topics: &[] };
        let greet = |mut stream: std::net::TcpStream| -> io::Result<mio::net::TcpStream> {
            stream.write_all(&resume_subscriber(interest, from))?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            self.poll.registry().register(&mut stream, Token(place), Readiness::READABLE)?;
            Ok(stream)
        };
        member.stream = Some(greet(stream).map_err(|error| error.to_string())?);
        member.state = MemberState::Greeting;
        member.held.clear();
        Ok(())
    }

    /// Not connected any more, or still not: after a wait it tries again.
    fn wait(&mut self, place: usize) {
        let now = self.timebase.mono();
        let member = &mut self.members[place];
        member.stream = None;
        member.state = MemberState::Away(now + member.backoff.next_wait());
    }

    fn lose(&mut self, place: usize) {
        let state = self.members[place].state;
        self.live -= usize::from(state == MemberState::Live);
        self.confirmed -= usize::from(matches!(state, MemberState::Live | MemberState::Back(_)));
        if !matches!(state, MemberState::Away(_)) {
            self.wait(place);
        }
    }

    fn read(&mut self, place: usize) {
        loop {
            let member = &mut self.members[place];
            let Some(stream) = &mut member.stream else { return };
            let bytes = match stream.read(&mut self.buffer) {
                Ok(0) => return self.lose(place),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lose(place),
            };
            let wall_ns = self.timebase.wall_ns();
            member.held.extend_from_slice(&self.buffer[..bytes]);
            let (mut is_confirmed, mut newest, mut is_refused) = (false, 0, false);
            let (faults, continuity) = (&mut self.faults, &mut member.continuity);
            let mut on = |event: Event<'_>| match event {
                Event::Frames(frames) => {
                    if !continuity.note_run(frames, faults) {
                        for frame in frames {
                            continuity.note(frame, faults);
                        }
                    }
                    newest = frames.last().map_or(newest, |frame| frame.ts_recv.get());
                }
                Event::Confirmed => is_confirmed = true,
                Event::Gap(_) => faults.gaps_told += 1,
                Event::Reply(bytes) => drop(stream.write(bytes)),
                Event::Refused(_) => is_refused = true,
            };
            let taken = Target::Pregao.parse(&mut Unwrapping::default(), &member.held, &mut on);
            let Ok(taken) = taken else { return self.lose(place) };
            member.held.drain(..taken);
            if is_refused {
                return self.lose(place);
            }
            if is_confirmed && member.state == MemberState::Greeting {
                member.state = MemberState::Back(wall_ns);
                member.backoff.reset();
                self.confirmed += 1;
                // Not the first connect: the dying broker's backlog takes some too.
                self.first_confirmed.get_or_insert(self.timebase.mono());
                if self.confirmed == self.members.len() {
                    self.all_confirmed.get_or_insert(self.timebase.mono());
                }
            }
            let member = &mut self.members[place];
            if matches!(member.state, MemberState::Back(at) if newest >= at) {
                member.state = MemberState::Live;
                self.live += 1;
            }
        }
    }
}

/// How they came back. Times count from the kill.
struct Returned {
    broker_back: Option<Duration>,
    all_confirmed: Option<Duration>,
    all_live: Option<Duration>,
    live: usize,
    attempts: u32,
    attempts_per_s_max: u32,
    connects_per_s_max: u32,
    faults: Faults,
}

impl Returned {
    fn is_valid(&self) -> bool {
        self.all_live.is_some() && self.faults.lost == 0 && self.faults.out_of_order == 0
    }

    fn json(&self, subscribers: usize) -> serde_json::Value {
        let ms = |time: Option<Duration>| time.map(|time| nanos(time) / 1_000_000);
        json!({
            "scenario": "restart",
            "target": Target::Pregao.name(),
            "subscribers": subscribers,
            "market_events_per_s": limits::RESTART_RATE,
            "broker_back_ms": ms(self.broker_back),
            "all_confirmed_ms": ms(self.all_confirmed),
            "all_caught_up_ms": ms(self.all_live),
            "all_caught_up_after_restart_ms":
                ms(self.all_live.zip(self.broker_back).map(|(all, back)| all.saturating_sub(back))),
            "caught_up": self.live,
            "connect_attempts": self.attempts,
            "connect_attempts_per_s_max": self.attempts_per_s_max,
            "connects_per_s_max": self.connects_per_s_max,
            "lost": self.faults.lost,
            "out_of_order": self.faults.out_of_order,
            "gaps_told": self.faults.gaps_told,
            "valid": self.is_valid(),
        })
    }

    fn text(&self, subscribers: usize) -> String {
        let at = |time: Option<Duration>| {
            time.map_or("never".to_owned(), |time| format!("after {} ms", time.as_millis()))
        };
        let mut text = format!("restart: the broker under {subscribers} subscribers is killed");
        for line in [
            format!("it confirms subscriptions again {}", at(self.broker_back)),
            format!("all subscriptions are confirmed {}", at(self.all_confirmed)),
            format!("all have caught up {} ({} of them)", at(self.all_live), self.live),
            format!(
                "{} connects were tried, at most {} in one second; at most {} in one second succeeded",
                self.attempts, self.attempts_per_s_max, self.connects_per_s_max
            ),
            format!(
                "{} frames lost, {} out of order, {} gaps told",
                self.faults.lost, self.faults.out_of_order, self.faults.gaps_told
            ),
        ] {
            text.push_str(&wrapped(&line));
        }
        text
    }
}
