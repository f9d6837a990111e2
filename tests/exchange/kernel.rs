//! Failures that need no more than loopback.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use pregao::breaker::{Reason, State};
use pregao::wire::Kind;
use socket2::{Domain, Socket, Type};

use crate::harness::{Core, DEADLINE, OPEN_WAIT};
use crate::process::Exchange;
use crate::stand_in::{Manner, StandIn};
use crate::support::node::Reserved;

/// On a busy machine threads wait for their turn. Only a breaker that has forgotten its probe is so late.
const SLACK: Duration = Duration::from_secs(20);

/// Follows core through a sickness: the breaker opens, stays without a connect, probes in vain, and
/// closes soon after `heal`. `error` is what the status must call it.
pub(crate) fn goes_through(
    sickness: &str,
    core: &mut Core,
    since: SystemTime,
    error: &str,
    heal: impl FnOnce(),
) {
    let opened = core.wait_for(State::Open);
    let first = core.status();
    let first_calls = calls_before_first_open(&first);
    let again = core.wait_for(State::Open);
    assert!(matches!(again.reason, Reason::ProbeFailed | Reason::ProbeDeadline), "{again:?}");
    let between = again.at.duration_since(opened.at).unwrap_or_default();
    assert!(between >= OPEN_WAIT, "it probed before its wait was over: {between:?}");
    let sick = core.wait_for_status(|status| status.text("core.exchange.state") == "open");
    assert_eq!(sick.text("core.exchange.error"), error);
    assert_eq!(calls_before_first_open(&sick), first_calls, "a call while open: {sick:?}");
    heal();
    let healed = SystemTime::now();
    let closed = core.wait_for(State::Closed);
    assert_eq!(closed.reason, Reason::ProbesAnswered);
    let took = closed.at.duration_since(healed).unwrap_or_default();
    assert!(took <= OPEN_WAIT + DEADLINE + SLACK, "{took:?} until closed");
    core.wait_for_status(|status| status.text("exchange") == "live");
    println!(
        "{sickness:<22} {error:<24} open after {:>4} ms ({first_calls} calls, {:?}); no connect while \
         open; closed {:>4} ms after healing",
        opened.at.duration_since(since).unwrap_or_default().as_millis(),
        opened.reason,
        took.as_millis(),
    );
}

/// Every permit is either from before the breaker first opened, or the one probe of a half-open state.
/// One granted in an open state would make this number grow.
fn calls_before_first_open(status: &crate::harness::Status) -> i64 {
    let granted = status.figure("core.exchange.granted");
    let opened = status.figure("core.exchange.opened");
    let state = status.text("core.exchange.state");
    let half_opens = opened - i64::from(state == "open");
    assert!(opened > 0 && matches!(state, "open" | "half-open"), "{status:?}");
    granted - half_opens
}

fn any_loopback() -> Reserved {
    Reserved::new()
}

fn manners(sickness: &str, manner: Manner, error: &str) {
    let listener = any_loopback().listen(64);
    let address = listener.local_addr().unwrap();
    let exchange = StandIn::start(listener, manner);
    let since = SystemTime::now();
    let mut core = Core::start(address);
    goes_through(sickness, &mut core, since, error, || exchange.be(Manner::Well));
    let granted = core.status().figure("core.exchange.granted");
    assert!(exchange.accepts() <= granted, "{} connects, {granted} permits", exchange.accepts());
}

#[test]
fn nobody_listens() {
    let reserved = any_loopback();
    let since = SystemTime::now();
    let mut core = Core::start(reserved.address());
    goes_through("refused", &mut core, since, "connection refused", || {
        StandIn::start(reserved.listen(64), Manner::Well);
    });
}

#[test]
fn the_backlog_is_full_and_nobody_accepts() {
    let reserved = any_loopback();
    let address = reserved.address();
    let listener = reserved.listen(0);
    let fillers = fill(address);
    let since = SystemTime::now();
    let mut core = Core::start(address);
    goes_through("full backlog", &mut core, since, "connect deadline passed", move || {
        drop(fillers);
        StandIn::start(listener, Manner::Well);
    });
}

/// Connects until the listener's queue takes no more, and some more.
fn fill(address: SocketAddr) -> Vec<Socket> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket
    };
    (0..4).map(connect).collect()
}

#[test]
fn accepted_and_never_answered() {
    manners("accepts, says nothing", Manner::Silent, "request deadline passed");
}

#[test]
fn reset_in_the_middle_of_a_frame() {
    manners("reset mid-frame", Manner::ResetMidFrame, "connection reset");
}

#[test]
fn garbage_for_a_greeting() {
    manners("garbage", Manner::Garbage, "protocol error");
}

#[test]
fn one_byte_a_second() {
    manners("one byte a second", Manner::OneByteASecond, "request deadline passed");
}

/// A good greeting must not buy an exchange new credit each time: the breaker opens all the same. Its
/// half-open probe is answered, so here it closes and opens again.
#[test]
fn garbage_behind_a_good_greeting() {
    let listener = any_loopback().listen(64);
    let address = listener.local_addr().unwrap();
    let exchange = StandIn::start(listener, Manner::GarbageLater);
    let mut core = Core::start(address);
    for _ in 0..2 {
        let opened = core.wait_for(State::Open);
        assert_eq!(opened.reason, Reason::FailureRate);
    }
    let status = core.status();
    assert_eq!(status.text("core.exchange.error"), "protocol error");
    exchange.be(Manner::Well);
    core.wait_for(State::Closed);
    core.wait_for_status(|status| status.text("exchange") == "live");
}

#[test]
fn a_stopped_process_whose_kernel_still_shakes_hands() {
    let exchange = Exchange::start(&["--chaos=off"]);
    let mut core = Core::start(exchange.address);
    core.wait_for_kind(Kind::Quote);
    exchange.stop();
    let since = SystemTime::now();
    goes_through("SIGSTOP", &mut core, since, "request deadline passed", || exchange.go_on());
}
