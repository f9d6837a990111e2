//! What must hold at every step: the world tells the watch all that is read, sent, logged and dialed,
//! and what every crash leaves of a disk. A violation is a panic that names the invariant. What must
//! hold in the end stands in `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Included};

use pregao::limits;
use pregao::wire::{
    Ack, Ended, Flags, Frame, Gap, GapReason, Heartbeat, Kind, Metric, Query, QueryMore, Refusal,
    Session, as_frames, unpadded,
};

use zerocopy::IntoBytes;

use crate::delivered::Said;
use crate::fresh::Published;
use crate::hosts::Spec;
use crate::net::{End, GRAIN_NS};
use crate::stored::Stored;
use crate::system::ClockWatch;
use crate::world::World;

/// What a peer may make a node hold for it: unread words, and one piece of an answer.
const OUTGOING_BYTES_MAX: usize = limits::UNREAD_BYTES_MAX + 2 * limits::FILL_FRAMES_MAX * 64;
/// What a node holds for a peer whose questions it has stopped reading: half an outbox, the answers to
/// what one read brought, and one piece of a stream.
const UNREAD_ANSWERS_BYTES_MAX: usize = limits::OUTBOX_BYTES_MAX / 2 + 256 * 1024;

/// Connections of a node in these days: each host has two at most, the attacker a few more, and some
/// have vanished and are not missed yet.
const CONNECTIONS_MAX: usize = 128;
/// Instruments of the system, which are not on the tape.
const SYSTEM_INSTRUMENTS_MAX: usize = 4;
/// Interests of the few subscribers of a day, of three patterns at most.
const WATCH_LIST_BYTES_MAX: usize = 256 * 1024;
/// Queries of all clients of the aggregator: the reporter's connection, those of it that are not missed yet,
/// and who asks one at a time.
const IN_FLIGHT_MAX: usize = 256;
const QUESTIONS_MAX: usize = 2 * IN_FLIGHT_MAX;
/// Frames of answers that nobody has taken yet.
const ANSWER_FRAMES_MAX: usize = 65_536;
/// What a shard's index takes for a tape of a few hundred events.
const INDEX_BYTES_MAX: usize = 1 << 20;

/// A stream from core to a follower.
#[derive(Clone, Copy, Debug, Default)]
struct Feed {
    epoch: u32,
    last_seq: u64,
    last_received: u64,
    /// Last values came, and not yet the heartbeat that says where the stream goes on.
    has_snapshot: bool,
}

/// A query that a node has read and not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at_ns: u64,
    deadline_ns: u64,
    /// The cut that the client named; 0: none.
    cut: u64,
    is_refused: bool,
    is_over: bool,
}

/// What core has told everybody about the sequence of one journal.
#[derive(Debug, Default)]
pub(crate) struct History {
    epochs: BTreeMap<u32, u64>,
    published: BTreeMap<u64, (u32, Frame)>,
    published_at: Published,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// First seq of each epoch that core has announced.
    epochs: BTreeMap<u32, u64>,
    /// What core has published, by `seq`: the epoch it was seen in and the frame.
    pub(crate) published: BTreeMap<u64, (u32, Frame)>,
    pub(crate) published_at: Published,
    feeds: BTreeMap<u64, Feed>,
    /// By host: epoch, accepted and durable seq as acknowledged to core.
    acks: BTreeMap<usize, (u32, u64, u64)>,
    /// The highest durable seq that core has told anybody.
    core_durable: u64,
    asked: BTreeMap<(u64, u32), Asked>,
    /// By connection with a subscriber.
    said: BTreeMap<u64, Said>,
    /// By host and breaker: whether the log says that it is open, and since which turn.
    open_breakers: BTreeMap<(usize, String), bool>,
    dials: Vec<(usize, SocketAddr)>,
    /// What core sends on connections with a lower number is not looked at: an operator has put another journal
    /// in its place since.
    ignored_before: u64,
    pub(crate) clock: ClockWatch,
    /// What each gateway has been sent since its start, by host.
    pub(crate) had: BTreeMap<usize, BTreeSet<u64>>,
    /// Connections on which a gateway asks for browsers: what comes there is not its own.
    for_browsers: BTreeSet<u64>,
    /// Connections that a gateway without a descriptor has refused.
    told_in_http: BTreeSet<u64>,
    /// Nodes that ended because their disk failed.
    pub(crate) failures: u64,
    pub(crate) answers: u64,
}

impl Watch {
    /// Whether an epoch behind `after`, up to `until`, took this seq back.
    pub(crate) fn is_void_since(&self, seq: u64, after: u32, until: u32) -> bool {
        self.epochs.iter().any(|(&epoch, &start)| after < epoch && epoch <= until && start <= seq)
    }

    /// Core has another journal from now on: what it told of the one before counts no more, until that is back.
    pub(crate) fn change_journal(&mut self, to: History) -> History {
        self.core_durable = 0;
        let epochs = std::mem::replace(&mut self.epochs, to.epochs);
        let published = std::mem::replace(&mut self.published, to.published);
        let published_at = std::mem::replace(&mut self.published_at, to.published_at);
        History { epochs, published, published_at }
    }

    /// What this host has said counts no more.
    pub(crate) fn forget(&mut self, host: usize) {
        self.acks.remove(&host);
    }

    /// Core gets another journal: what is on its way of the old one, on connections up to this one, is not
    /// compared with it.
    pub(crate) fn begin_anew(&mut self, last_connection: u64) {
        let ignored_before = last_connection.saturating_add(1);
        *self = Watch { ignored_before, ..Watch::default() };
    }

    /// What a shard has last said to core to be durable.
    pub(crate) fn durable_of(&self, shard: usize) -> u64 {
        self.acks.get(&shard).map_or(0, |&(_, _, durable)| durable)
    }
}

impl World {
    pub(crate) fn is_core(&self, host: usize) -> bool {
        matches!(self.hosts[host].spec, Spec::Core(..))
    }

    /// A node has read these frames of that one.
    pub(crate) fn watch_read(&mut self, host: usize, from: usize, number: u64, frames: &[Frame]) {
        // The exchange, the attacker and the rogues may send anything, and nothing is promised to these.
        let may = |host: usize| {
            matches!(self.hosts[host].spec, Spec::Attacker(_) | Spec::Rogue(_) | Spec::Writer(_))
        };
        if may(from) || may(host) || matches!(self.hosts[from].spec, Spec::External(_)) {
            return;
        }
        if self.speaks_http(host) || self.speaks_http(from) {
            return;
        }
        // For whom it has no descriptor it does not know yet which protocol that is: it is told in HTTP.
        let is_http = |frame: &Frame| frame.as_bytes().starts_with(b"HTTP/1.1 503");
        if frames.first().is_some_and(is_http) && matches!(self.hosts[from].spec, Spec::Gateway(_))
        {
            self.watch.told_in_http.insert(number);
        }
        if self.watch.told_in_http.contains(&number) {
            return;
        }
        let is_aggregator = matches!(self.hosts[host].spec, Spec::Aggregator(_));
        let is_reporter =
            matches!(self.hosts[from].spec, Spec::Reporter(_) | Spec::Asker(_) | Spec::Gateway(_));
        let is_broker = matches!(self.hosts[from].spec, Spec::Broker(..) | Spec::Fanout);
        let is_subscriber = self.is_subscriber(host);
        for frame in frames {
            self.hold(frame.check().is_ok(), "frames-are-whole", || {
                format!("{} sent {frame:?}", self.hosts[from].name)
            });
            if matches!(self.hosts[from].spec, Spec::Gateway(_))
                && frame.view::<Session>().is_some_and(|it| unpadded(&it.name) == "gateway")
            {
                self.watch.for_browsers.insert(number);
            }
            if !self.watch.for_browsers.contains(&number) {
                self.note_had(host, from, frame);
            }
            if is_broker && is_subscriber {
                let late = self.watch.said.entry(number).or_default().note(frame);
                self.hold(late.is_none(), "an-epoch-is-sent-ahead-of-its-frames", || {
                    format!("{} got {}", self.hosts[host].name, late.unwrap_or_default())
                });
            } else if self.is_core(from) && !matches!(self.hosts[host].spec, Spec::Monitor(_)) {
                self.watch_core(host, number, frame);
            } else if self.is_core(host) && matches!(self.hosts[from].spec, Spec::Shard(..)) {
                self.watch_shard(from, frame);
            } else if matches!(self.hosts[host].spec, Spec::Monitor(_)) {
                self.watch_figure(from, frame);
            } else if is_aggregator
                && is_reporter
                && let Some(query) = frame.view::<Query>()
            {
                let asked = Asked {
                    at_ns: self.now_ns(),
                    deadline_ns: u64::from(query.deadline_us.get()) * 1_000,
                    cut: 0,
                    is_refused: false,
                    is_over: false,
                };
                self.watch.asked.insert((number, query.id.get()), asked);
            } else if is_aggregator
                && is_reporter
                && let Some(more) = frame.view::<QueryMore>()
            {
                // The question is whole only now.
                let now_ns = self.now_ns();
                if let Some(asked) = self.watch.asked.get_mut(&(number, more.id.get())) {
                    asked.at_ns = now_ns;
                    asked.cut = if more.as_of.get() == 0 { asked.cut } else { more.as_of.get() };
                }
            }
        }
    }

    fn watch_core(&mut self, host: usize, number: u64, frame: &Frame) {
        if number < self.watch.ignored_before {
            return;
        }
        if let Some(end) = frame.view::<Ended>() {
            self.watch.core_durable = self.watch.core_durable.max(end.durable_seq.get());
        }
        let is_follower =
            matches!(self.hosts[host].spec, Spec::Broker(..) | Spec::Shard(..) | Spec::Replica(_));
        let is_client = self.is_subscriber(host);
        if (is_follower || is_client)
            && let Some(gap) = frame.view::<Gap>()
            && gap.reason == GapReason::SourceLost as u8
        {
            self.watch_removed(host, gap);
        }
        if let Some(session) = frame.view::<Session>() {
            self.watch.core_durable = self.watch.core_durable.max(session.durable_seq.get());
            if is_follower {
                let (epoch, start) = (session.epoch.get(), session.epoch_start.get());
                // Said a second time, it names where the follower's own epoch ended.
                let is_second = session.has(Session::CONTINUES);
                let own = self.watch.acks.get(&host).map_or(0, |&(own, _, _)| own.min(epoch));
                let behind = self.watch.epochs.range((Excluded(own), Included(epoch)));
                let end = behind.map(|(_, &start)| start).min();
                let known = match is_second {
                    // Where an operator gives something up, no epoch began.
                    true if session.has(Session::GIVE_UP) => start,
                    true => end.filter(|_| own > 0).unwrap_or(start),
                    false => *self.watch.epochs.entry(epoch).or_insert(start),
                };
                self.hold(start == known, "an-epoch-has-one-start", || {
                    format!("epoch {epoch} begins at {known} and at {start}, second {is_second}")
                });
                self.watch.feeds.insert(number, Feed { epoch, ..Feed::default() });
            }
        }
        if is_follower && let Some(beat) = frame.view::<Heartbeat>() {
            self.watch_jump(host, number, beat.next_seq.get());
        }
        let is_data = frame.kind().is_some_and(Kind::is_data);
        if is_follower && is_data && frame.has(Flags::SNAPSHOT) {
            let feed = self.watch.feeds.get_mut(&number);
            feed.into_iter().for_each(|feed| feed.has_snapshot = true);
        }
        if is_follower && is_data && !frame.has(Flags::SNAPSHOT) {
            self.watch_published(host, number, frame);
        }
    }

    /// Core has told a follower that its journal begins behind this gap.
    fn watch_removed(&mut self, host: usize, gap: &Gap) {
        let known = self.hosts.iter().find(|known| matches!(known.spec, Spec::Core(..)));
        let found = known.and_then(|core| core.read_settled(self.now()));
        let Some(found) = found.filter(|found| !found.live.is_empty()) else { return };
        let first_seq = found.first_seq;
        self.hold(gap.to_seq.get() < first_seq, "what-is-reported-removed-is-not-there", || {
            let name = &self.hosts[host].name;
            format!("{name} is told of {gap:?} by a journal that begins at {first_seq}")
        });
    }

    /// One that hands last values out has been given all of them, and is told where the stream goes on: what
    /// it steps over so is not there any more.
    fn watch_jump(&mut self, host: usize, number: u64, next_seq: u64) {
        let is_shard = matches!(self.hosts[host].spec, Spec::Shard(..));
        let Some(feed) = self.watch.feeds.get_mut(&number).filter(|feed| feed.has_snapshot) else {
            return;
        };
        feed.has_snapshot = false;
        let before = feed.last_seq;
        if is_shard || before == 0 || next_seq <= before + 1 {
            return;
        }
        feed.last_seq = next_seq - 1;
        // A snapshot also leads over what has rotted.
        let core = self.hosts.iter().find(|host| matches!(host.spec, Spec::Core(..)));
        let is_rot = |seq: u64| core.is_some_and(|core| core.rotten.contains_key(&seq));
        if (before + 1..next_seq).all(is_rot) {
            return;
        }
        let (from_seq, to_seq) = ((before + 1).into(), (next_seq - 1).into());
        self.watch_removed(host, &Gap { from_seq, to_seq, ..Gap::default() });
    }

    fn watch_published(&mut self, host: usize, number: u64, frame: &Frame) {
        let seq = frame.seq.get();
        let Some(feed) = self.watch.feeds.get_mut(&number) else {
            self.broken("no-unsequenced-frame", "a frame came before the SESSION");
        };
        let (epoch, last_seq) = (feed.epoch, std::mem::replace(&mut feed.last_seq, seq));
        let received = std::mem::replace(&mut feed.last_received, frame.ts_recv.get());
        self.watch_receive_time(received, frame);
        let is_placed = seq != 0 && frame.ts_recv.get() != 0 && frame.instrument().source() == 1;
        self.hold(is_placed, "no-unsequenced-frame", || format!("{frame:?}"));
        let is_broker = matches!(self.hosts[host].spec, Spec::Broker(..) | Spec::Replica(_));
        // What has rotted cannot come; to those who get everything the numbers say it.
        let core = self.hosts.iter().find(|host| matches!(host.spec, Spec::Core(..)));
        let is_rot = |seq: u64| core.is_some_and(|core| core.rotten.contains_key(&seq));
        let follows =
            last_seq == 0 || seq > last_seq && (!is_broker || (last_seq + 1..seq).all(is_rot));
        self.hold(follows, "the-stream-is-in-order", || {
            format!("{} got seq {seq} behind {last_seq}", self.hosts[host].name)
        });
        if let Some(&(seen_in, known)) = self.watch.published.get(&seq) {
            let fell_back = self.watch.is_void_since(seq, seen_in, epoch);
            let is_old = self.watch.is_void_since(seq, epoch, seen_in);
            if is_old {
                return;
            }
            self.hold(fell_back || known == *frame, "one-frame-per-seq", || {
                format!("seq {seq} was {known:?} in epoch {seen_in}, is {frame:?} in epoch {epoch}")
            });
        }
        self.watch.published.insert(seq, (epoch, *frame));
        let now_ns = self.now_ns();
        self.watch.published_at.note(seq, epoch, now_ns);
    }

    fn watch_shard(&mut self, shard: usize, frame: &Frame) {
        let (epoch, accepted, durable) = if let Some(ack) = frame.view::<Ack>() {
            (ack.epoch.get(), ack.accepted_seq.get(), ack.durable_seq.get())
        } else if let Some(session) = frame.view::<Session>() {
            (session.epoch.get(), session.next_seq.get(), session.durable_seq.get())
        } else {
            return;
        };
        let name = &self.hosts[shard].name;
        // In its SESSION a shard asks for what is behind its last frame; it may know more durably.
        let is_above = durable > accepted && frame.view::<Ack>().is_some();
        self.hold(!is_above, "durable-is-not-above-accepted", || {
            format!("{name} says accepted {accepted}, durable {durable}")
        });
        let known = self.watch.acks.get(&shard).copied().unwrap_or_default();
        // A shard that starts again may have forgotten how much it was told that is not its own.
        if known.0 == epoch && frame.view::<Ack>().is_some() {
            let goes_up = durable >= known.2;
            self.hold(goes_up, "durable-is-monotone", || {
                format!("{name} said durable {} in epoch {epoch}, now {durable}", known.2)
            });
        }
        self.watch.acks.insert(shard, (epoch, accepted, durable));
    }

    /// What a death leaves on a disk, compared with what was there.
    pub(crate) fn watch_crash(
        &mut self,
        host: usize,
        is_power: bool,
        before: Option<Stored>,
        after: Option<Stored>,
    ) {
        let name = self.hosts[host].name.clone();
        let (Some(before), Some(after)) = (before, after) else {
            self.broken("a-crashed-log-opens", &format!("{name}'s log is refused"));
        };
        if before.damaged > 0 || !self.hosts[host].rotten.is_empty() {
            // Rot is looked at in the end, where it is known which frames it took.
            return;
        }
        // Retention may have removed the front between the two looks, and a loss of power takes a removal
        // back.
        let skip = before.raw.iter().position(|f| Some(f) == after.raw.first()).unwrap_or(0);
        let had = &before.raw[skip..];
        let back = after.raw.iter().position(|f| Some(f) == had.first()).unwrap_or(0);
        let removes = self.hosts[host].spec.keeping().is_some_and(|keeping| keeping.removes());
        self.hold(removes || (skip, back) == (0, 0), "nothing-is-removed-unasked", || {
            format!("{name} begins {skip} frames later, or {back} earlier, and keeps everything")
        });
        let kept = &after.raw[back..];
        let front = had.first().map_or(0, |frame| frame.seq.get());
        self.hold(after.damaged == 0, "a-crash-is-no-rot", || format!("{name} has damage"));
        let is_prefix = kept.len() <= had.len() && kept[..] == had[..kept.len()];
        self.hold(is_prefix, "a-recovered-log-is-a-prefix", || {
            format!("{name} has {} frames, had {}", kept.len(), had.len())
        });
        self.hold(is_power || kept.len() == had.len(), "accepted-survives-the-process", || {
            format!("{name} has {} frames after a kill, had {}", kept.len(), had.len())
        });
        let durable = if self.is_core(host) {
            self.watch.core_durable
        } else {
            self.watch.acks.get(&host).map_or(0, |&(_, _, durable)| durable)
        };
        let promised = before.live.iter().filter(|f| (front..durable).contains(&f.seq.get()));
        let lost = promised.filter(|f| !kept.contains(f)).count();
        self.hold(lost == 0, "durable-survives-any-crash", || {
            format!("{name} said durable {durable}, {lost} frames of that are gone")
        });
        if !self.is_core(host) {
            return;
        }
        let held: BTreeMap<u64, &Frame> = before.live.iter().map(|f| (f.seq.get(), f)).collect();
        let Some((&epoch, _)) = self.watch.epochs.last_key_value() else { return };
        for (seq, (seen_in, frame)) in &self.watch.published {
            let fell_back = self.watch.is_void_since(*seq, *seen_in, u32::MAX);
            if fell_back || *seq < before.first_seq.max(front) {
                continue;
            }
            self.hold(held.get(seq) == Some(&frame), "published-is-journaled", || {
                format!("seq {seq} of epoch {seen_in} (now {epoch}) is not in the journal")
            });
        }
    }

    /// A node has started.
    pub(crate) fn watch_start(&mut self, host: usize) {
        // A breaker begins closed.
        self.watch.open_breakers.retain(|(of, _), _| *of != host);
        self.note_start(host);
        // An epoch that nobody hears of before the next one still takes back what was before it.
        let known = &self.hosts[host];
        if self.is_core(host)
            && let Some(found) = known.disk.as_ref().and_then(|d| known.read_disk(d, self.now()))
        {
            let (epoch, start) = found.epoch;
            self.watch.epochs.entry(epoch).or_insert(start);
        }
    }

    pub(crate) fn watch_memory(&mut self, host: usize, offered: usize) {
        let bound = match self.hosts[host].spec {
            Spec::Broker(..) | Spec::Fanout | Spec::External(_) => OUTGOING_BYTES_MAX,
            _ => UNREAD_ANSWERS_BYTES_MAX,
        };
        self.hold(offered <= bound, "memory-is-bounded", || {
            format!("{} holds {offered} bytes for one peer", self.hosts[host].name)
        });
    }

    /// A node states a figure: its tables stay within their bounds.
    fn watch_figure(&mut self, node: usize, frame: &Frame) {
        let Some(metric) = frame.view::<Metric>() else { return };
        let name = unpadded(&metric.name);
        let bound = match (&self.hosts[node].spec, name.as_str()) {
            (_, "connections") => CONNECTIONS_MAX,
            (_, "instruments") => 2 * crate::road::SYMBOLS.len() + SYSTEM_INSTRUMENTS_MAX,
            (Spec::Broker(config, _), "subscribers") => config.subscribers_max,
            (Spec::Broker(..), "watch_list_bytes") => WATCH_LIST_BYTES_MAX,
            (Spec::External(config), "consumers") => config.sessions_max,
            (Spec::Aggregator(_), "in_flight") => IN_FLIGHT_MAX,
            (Spec::Aggregator(_), "answer_frames_waiting") => ANSWER_FRAMES_MAX,
            (Spec::Aggregator(_), name) if name.ends_with(".questions") => QUESTIONS_MAX,
            (Spec::Shard(..), "index_bytes") => INDEX_BYTES_MAX,
            _ => return,
        };
        let holds = usize::try_from(metric.value.get()).is_ok_and(|value| value <= bound);
        self.hold(holds, "tables-stay-within-their-bounds", || {
            format!("{} says {name} {}, at most {bound}", self.hosts[node].name, metric.value)
        });
    }

    /// A node has handed these bytes to the kernel.
    pub(crate) fn watch_sent(&mut self, host: usize, number: u64, side: usize, bytes: &[u8]) {
        if !matches!(self.hosts[host].spec, Spec::Aggregator(_)) {
            return;
        }
        let end = &mut self.tcps.get_mut(&number).unwrap().ends[side];
        end.sent.extend_from_slice(bytes);
        let sent = std::mem::take(&mut end.sent);
        let (frames, rest) = as_frames(&sent);
        self.tcps.get_mut(&number).unwrap().ends[side].sent = rest.to_vec();
        for frame in frames {
            if let Some(end) = frame.view::<Ended>() {
                if let Some(asked) = self.watch.asked.get(&(number, end.id.get())) {
                    self.watch_fresh(asked.at_ns, asked.cut, end);
                }
                self.watch_answer(host, number, end.id.get(), false);
            } else if let Some(refusal) = frame.view::<Refusal>() {
                self.watch_answer(host, number, refusal.id.get(), true);
            }
        }
    }

    /// The aggregator has answered, or refused, which may be the answer or stand before its end.
    fn watch_answer(&mut self, host: usize, number: u64, id: u32, is_refusal: bool) {
        let Some(asked) = self.watch.asked.get_mut(&(number, id)) else { return };
        let mut known = *asked;
        let is_second = known.is_over || (is_refusal && known.is_refused);
        known.is_refused |= is_refusal;
        known.is_over |= !is_refusal;
        *asked = known;
        self.watch.answers += u64::from(!is_refusal || !is_second);
        self.hold(!is_second, "one-answer-per-query", || format!("query {id} is answered twice"));
        // A process that stood still, or a peer that did not read, cannot be in time.
        let thawed = self.hosts[host].last_thaw >= known.at_ns;
        let was_blocked = self.was_blocked(number, known.at_ns);
        // What the bound of a flush leaves out waits for a turn more.
        let turns = 2 + self.hosts[host].conns.len() / self.bounds.turn.flushes_max;
        let by = known.at_ns + known.deadline_ns + turns as u64 * GRAIN_NS;
        let in_time = self.now_ns() <= by || thawed || was_blocked;
        self.hold(in_time, "answers-before-the-deadline", || format!("query {id} was due at {by}"));
    }

    /// Whether bytes of a node have waited for room on this connection since then.
    fn was_blocked(&self, number: u64, since_ns: u64) -> bool {
        let of_node = |host: usize| matches!(self.hosts[host].spec, Spec::Aggregator(_));
        self.tcps.get(&number).is_some_and(|tcp| {
            let waited = |end: &End| end.is_blocked || end.blocked_at >= since_ns;
            tcp.ends.iter().any(|end| of_node(end.host) && waited(end))
        })
    }

    /// Nobody waits for the answers on a connection that is gone.
    pub(crate) fn watch_close(&mut self, _host: usize, number: u64) {
        self.watch.asked.retain(|(of, _), _| *of != number);
        self.watch.said.remove(&number);
    }

    /// Queries whose time is long over and that nobody has answered.
    pub(crate) fn watch_overdue(&self) {
        // A process that stands still answers when it goes on; two faults may keep it for long.
        let aggregators = self.hosts.iter().filter(|it| matches!(it.spec, Spec::Aggregator(_)));
        let awake_ns = aggregators.map(|it| it.frozen_until.max(it.last_thaw)).max().unwrap_or(0);
        for ((number, id), asked) in &self.watch.asked {
            if self.was_blocked(*number, asked.at_ns) {
                continue;
            }
            let due_ns = awake_ns.max(asked.at_ns + asked.deadline_ns);
            let is_late = self.now_ns() > due_ns + 2_000_000_000;
            self.hold(
                asked.is_over || asked.is_refused || !is_late,
                "one-answer-per-query",
                || format!("query {id} was never answered"),
            );
        }
    }

    pub(crate) fn watch_log(&mut self, host: usize, text: &str) {
        self.watch_machine_log(host, text);
        let Some(rest) = text.strip_prefix("breaker ") else { return };
        let Some((name, change)) = rest.split_once(": ") else { return };
        let is_open = change.contains("-> open") || change.contains("-> forced");
        self.watch.open_breakers.insert((host, name.to_owned()), is_open);
    }

    pub(crate) fn watch_dial(&mut self, host: usize, to: SocketAddr) {
        self.watch.dials.push((host, to));
    }

    /// The lines of a turn are complete: whoever was dialed in it does not stand behind an open breaker.
    pub(crate) fn watch_turn(&mut self, host: usize) {
        let owner = match self.hosts[host].spec {
            Spec::Core(..) => "core",
            Spec::Gateway(_) => "gateway",
            _ => "aggregator",
        };
        for (from, to) in std::mem::take(&mut self.watch.dials) {
            let target = self.hosts.iter().find(|known| known.address == to);
            let Some(target) = target else { continue };
            // These it follows too, which asks no breaker.
            let is_followed =
                owner == "gateway" && matches!(target.name.as_str(), "broker" | "core");
            if is_followed {
                continue;
            }
            // A breaker's name has 18 bytes: the aggregator's of a copy of a shard goes without `shard-`.
            let name = match target.name.strip_prefix("shard-") {
                Some(short) if owner == "aggregator" && short.len() > 1 => short,
                _ => &target.name,
            };
            let key = (from, format!("{owner}.{name}"));
            let is_open = self.watch.open_breakers.get(&key).copied().unwrap_or(false);
            self.hold(!is_open, "no-dial-while-open", || {
                format!("{} dialed {} behind an open breaker", self.hosts[from].name, target.name)
            });
        }
    }
}
