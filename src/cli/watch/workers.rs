//! The threads that ask and listen. Each blocks in one client of the library, tells the screen what came, and tries
//! again what is away. None of them decides anything.
//!
//! A thread that finds the queue of updates full waits. Then its node waits too, and conflates or fills gaps from
//! history as for any slow reader, so nothing grows without a bound.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::WatchRequest;
use super::keys::{Key, Keys};
use super::state::{Command, Days, History, Input};
use crate::cli::status::ask_all;
use crate::client::{
    Answer, BarEvent, BarPattern, BarSubscription, ClientError, Event, QueryClient, Request,
    Subscription,
};
use crate::feed::Pattern;
use crate::limits::{
    WATCH_CONFLATE_MS, WATCH_ESCAPE_WAIT, WATCH_HISTORY_DEADLINE, WATCH_RETRY_EVERY,
    WATCH_STATUS_EVERY, WATCH_TAPE_MAX,
};
use crate::market::bar::{Bar, BarAssembler};
use crate::question::Question;
use crate::render::health::judge;
use crate::time::Clock;
use crate::wire::{
    EndStatus, Frame, InstrumentId, Kind, Mode, NodeStatus, Op, Query, Seq, Symbol, Trade, U32,
    U64, padded, unpadded,
};

/// How long a thread listens before it looks for another task.
const LISTEN: Duration = Duration::from_millis(200);
/// Bars of one day and more are asked for one by one.
const DAY_SECONDS: u32 = 86_400;

/// The screen is gone.
struct Gone;

/// The newest task of a thread; an older one that was not begun is forgotten.
#[derive(Debug)]
struct Task<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Clone for Task<T> {
    fn clone(&self) -> Task<T> {
        Task(Arc::clone(&self.0))
    }
}

impl<T> Task<T> {
    fn new() -> Task<T> {
        Task(Arc::new((Mutex::new(None), Condvar::new())))
    }

    fn set(&self, task: T) {
        // Whoever panicked while it held the lock changed nothing.
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        self.0.1.notify_one();
    }

    fn take(&self) -> Option<T> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for one, for so long.
    fn wait(&self, wait: Duration) -> Option<T> {
        let task = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(task, wait, |task| task.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// An instrument to follow.
#[derive(Clone, Copy, Debug)]
struct Choice {
    number: u64,
    symbol: Symbol,
    seconds: u32,
}

/// Where the nodes are.
#[derive(Clone, Copy, Debug)]
struct Peers {
    broker: SocketAddr,
    core: SocketAddr,
    aggregator: SocketAddr,
}

/// The threads.
#[derive(Debug)]
pub(super) struct Workers {
    trades: Task<Choice>,
    bars: Task<Choice>,
    history: Task<Command>,
    days: Task<Command>,
}

impl Workers {
    /// Starts them. `list` is the subscription that has been opened already.
    pub(super) fn start(
        request: &WatchRequest,
        list: Subscription,
        inputs: &Sender<Input>,
    ) -> io::Result<Workers> {
        let peers =
            Peers { broker: request.broker, core: request.core, aggregator: request.aggregator };
        let workers = Workers {
            trades: Task::new(),
            bars: Task::new(),
            history: Task::new(),
            days: Task::new(),
        };
        let (patterns, nodes) = (request.patterns.clone(), request.nodes.clone());
        spawn("watch-list", inputs, move |inputs| watch_list(list, peers, &patterns, inputs))?;
        spawn("watch-nodes", inputs, move |inputs| {
            loop {
                let mut reports = ask_all(&nodes, WATCH_STATUS_EVERY);
                judge(&mut reports);
                tell(inputs, Input::Reports(reports))?;
                pause(WATCH_STATUS_EVERY);
            }
        })?;
        let task = workers.trades.clone();
        spawn("watch-trades", inputs, move |inputs| follow_trades(&task, peers, inputs))?;
        let task = workers.bars.clone();
        spawn("watch-bars", inputs, move |inputs| follow_bars(&task, peers, inputs))?;
        for task in [&workers.history, &workers.days] {
            let task = task.clone();
            spawn("watch-questions", inputs, move |inputs| answer(&task, peers, inputs))?;
        }
        spawn("watch-keys", inputs, read_keys)?;
        Ok(workers)
    }

    /// Hands on what the machine wants.
    pub(super) fn take(&self, command: Command) {
        match command {
            Command::Follow { choice, symbol, seconds } => {
                let choice = Choice { number: choice, symbol, seconds };
                self.trades.set(choice);
                self.bars.set(choice);
            }
            Command::AskHistory { .. } => self.history.set(command),
            Command::AskDays { .. } => self.days.set(command),
        }
    }
}

/// Starts a thread. Where it ends by a panic, the screen ends too.
fn spawn(
    name: &str,
    inputs: &Sender<Input>,
    run: impl FnOnce(&Sender<Input>) -> Result<(), Gone> + Send + 'static,
) -> io::Result<()> {
    struct StopOnPanic(Sender<Input>);
    impl Drop for StopOnPanic {
        fn drop(&mut self) {
            if thread::panicking() {
                let _ = self.0.send(Input::Broken);
            }
        }
    }
    let inputs = StopOnPanic(inputs.clone());
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || drop(run(&inputs.0))).map(drop)
}

fn tell(inputs: &Sender<Input>, input: Input) -> Result<(), Gone> {
    inputs.send(input).map_err(|_| Gone)
}

/// Lets so much time pass before the next try.
fn pause(wait: Duration) {
    let nothing: Option<()> = Task::new().wait(wait);
    debug_assert!(nothing.is_none());
}

/// What the watch list subscribes to.
pub(super) fn list_request(patterns: &[Pattern]) -> Request {
    let mut request = Request::market(patterns.to_vec());
    request.mode = Mode::Conflate;
    request.conflate_ms = WATCH_CONFLATE_MS;
    request
}

fn watch_list(
    opened: Subscription,
    peers: Peers,
    patterns: &[Pattern],
    inputs: &Sender<Input>,
) -> Result<(), Gone> {
    let mut opened = Some(opened);
    loop {
        let subscription = match opened.take() {
            Some(subscription) => Ok(subscription),
            None => Subscription::open(peers.broker, peers.core, list_request(patterns)),
        };
        let ended = match subscription {
            // A broken connection is mended by the subscription itself.
            Ok(subscription) => deliver(subscription, inputs)?,
            Err(error) => Some(error),
        };
        let why = ended.map_or("the broker ended it".to_owned(), |error| error.to_string());
        tell(inputs, Input::List(Event::Stale))?;
        tell(inputs, Input::ListAway(why))?;
        pause(WATCH_RETRY_EVERY);
    }
}

/// Hands on what comes until the broker refuses.
fn deliver(
    subscription: Subscription,
    inputs: &Sender<Input>,
) -> Result<Option<ClientError>, Gone> {
    for event in subscription {
        match event {
            Ok(event) => tell(inputs, Input::List(event))?,
            Err(error) => return Ok(Some(error)),
        }
    }
    Ok(None)
}

/// Waits for the next task, however long.
fn next_task<T>(task: &Task<T>) -> T {
    loop {
        if let Some(next) = task.wait(Duration::from_secs(3_600)) {
            return next;
        }
    }
}

fn follow_trades(task: &Task<Choice>, peers: Peers, inputs: &Sender<Input>) -> Result<(), Gone> {
    let mut next = None;
    loop {
        let choice = next.take().unwrap_or_else(|| next_task(task));
        let kinds = Kind::Trade.mask() | Kind::Cancel.mask();
        let Ok(pattern) = Pattern::new(choice.symbol.as_str(), kinds) else { continue };
        let request = Request::market(vec![pattern]);
        let why = match Subscription::open(peers.broker, peers.core, request) {
            Ok(mut subscription) => loop {
                next = task.take();
                if next.is_some() {
                    break None;
                }
                let until = subscription.clock().now().mono + LISTEN;
                match subscription.next_before(until) {
                    Ok(Some(event)) => tell(inputs, Input::Chosen(choice.number, event))?,
                    Ok(None) => {}
                    Err(error) => break Some(error),
                }
            },
            Err(error) => Some(error),
        };
        if let Some(why) = why {
            tell(inputs, Input::ChosenAway(choice.number, why.to_string()))?;
            next = task.wait(WATCH_RETRY_EVERY).or(Some(choice));
        }
    }
}

fn follow_bars(task: &Task<Choice>, peers: Peers, inputs: &Sender<Input>) -> Result<(), Gone> {
    let mut next = None;
    loop {
        let choice = next.take().unwrap_or_else(|| next_task(task));
        let Ok(pattern) = Pattern::new(choice.symbol.as_str(), 0) else { continue };
        let pattern = BarPattern { pattern, seconds: choice.seconds };
        let Peers { broker, core, aggregator } = peers;
        let opened = BarSubscription::open(broker, core, aggregator, vec![pattern], None);
        let Ok(mut bars) = opened else {
            // The subscription to its trades says why.
            next = task.wait(WATCH_RETRY_EVERY).or(Some(choice));
            continue;
        };
        loop {
            next = task.take();
            if next.is_some() {
                break;
            }
            let until = bars.clock().now().mono + LISTEN;
            match bars.next_before(until) {
                Ok(Some(BarEvent::Bar(bar))) => tell(inputs, Input::Bar(choice.number, bar))?,
                // The subscription to its trades tells the same.
                Ok(_) => {}
                Err(_) => {
                    next = task.wait(WATCH_RETRY_EVERY).or(Some(choice));
                    break;
                }
            }
        }
    }
}

/// Asks the aggregator what the machine wants to know.
fn answer(task: &Task<Command>, peers: Peers, inputs: &Sender<Input>) -> Result<(), Gone> {
    let mut client = None;
    loop {
        let command = next_task(task);
        let clock = Clock::start();
        let start = clock.now().mono;
        match command {
            Command::AskHistory { choice, symbol, seconds, from } => {
                let answer = ask_history(&mut client, peers, symbol, (seconds, from));
                let answer = answer.inspect_err(|_| client = None);
                tell(inputs, Input::History(choice, answer))?;
            }
            Command::AskDays { symbols, from } => {
                let answer = ask_days(&mut client, peers, &symbols, from);
                let answer = answer.inspect_err(|_| client = None);
                tell(inputs, Input::Days(answer, clock.now().mono.since(start)))?;
            }
            Command::Follow { .. } => {}
        }
    }
}

fn opened(client: &mut Option<QueryClient>, peers: Peers) -> Result<&mut QueryClient, String> {
    let open = match client.take() {
        Some(open) => open,
        None => QueryClient::open("aggregator", peers.aggregator, WATCH_HISTORY_DEADLINE)
            .map_err(|error| error.to_string())?,
    };
    Ok(client.insert(open))
}

fn bars_query(symbol: &Symbol, seconds: u32, from: u64) -> Query {
    Query {
        op: Op::Bars as u8,
        options: Query::PARTIAL,
        limit: U32::new(seconds),
        symbol: padded(symbol.as_str()),
        from: U64::new(from),
        to: U64::new(u64::MAX),
        ..Query::default()
    }
}

fn ask_history(
    client: &mut Option<QueryClient>,
    peers: Peers,
    symbol: Symbol,
    (seconds, from): (u32, u64),
) -> Result<History, String> {
    let last = Query {
        op: Op::Last as u8,
        options: Query::PARTIAL,
        limit: U32::new(u32::try_from(WATCH_TAPE_MAX).unwrap_or(u32::MAX)),
        symbol: padded(symbol.as_str()),
        to: U64::new(u64::MAX),
        ..Query::default()
    };
    let queries = [bars_query(&symbol, seconds, from), last];
    let client = opened(client, peers)?;
    let answers =
        client.ask(&queries, WATCH_HISTORY_DEADLINE).map_err(|error| error.to_string())?;
    let [bars, trades] = answers.as_slice() else { return Err("no answer".to_owned()) };
    usable(bars)?;
    Ok(History {
        bars: bars_of(bars).into_iter().map(|(_, bar)| bar).collect(),
        trades: trades.rows.iter().filter_map(Frame::view::<Trade>).copied().collect(),
        as_of: bars.end.and_then(|end| Seq::from_field(end.as_of)),
        missing: missing(bars),
    })
}

fn ask_days(
    client: &mut Option<QueryClient>,
    peers: Peers,
    symbols: &[Symbol],
    from: u64,
) -> Result<Days, String> {
    let first = symbols.first().ok_or_else(|| "nothing to ask about".to_owned())?;
    let question = Question::new(&bars_query(first, DAY_SECONDS, from)).ok();
    let fields = symbols.iter().map(|symbol| padded(symbol.as_str()));
    let question = question.and_then(|question| question.about(fields));
    let question = question.ok_or_else(|| "too many symbols".to_owned())?;
    let client = opened(client, peers)?;
    let answer = client.ask_about(question, WATCH_HISTORY_DEADLINE);
    let answer = answer.map_err(|error| error.to_string())?;
    usable(&answer)?;
    Ok(Days { bars: bars_of(&answer), missing: missing(&answer) })
}

/// Why an answer says nothing, when it does not.
fn usable(answer: &Answer) -> Result<(), String> {
    if answer.status() != EndStatus::Failed {
        return Ok(());
    }
    let said = answer.refusal.as_ref().map_or("the aggregator has no answer", |(_, text)| text);
    let missing = missing(answer);
    Err(match missing.is_empty() {
        true => said.to_owned(),
        false => format!("{said} ({})", missing.join(", ")),
    })
}

fn bars_of(answer: &Answer) -> Vec<(InstrumentId, Bar)> {
    let mut assembler = BarAssembler::default();
    let bar = |frame: &Frame| Some((frame.instrument(), assembler.take(frame)?));
    answer.rows.iter().filter_map(bar).collect()
}

/// The nodes whose part is missing, each with what became of it.
fn missing(answer: &Answer) -> Vec<String> {
    let missing = answer.nodes.iter().filter_map(|node| {
        let status = NodeStatus::from_number(node.status).unwrap_or(NodeStatus::Failed);
        let is_there = matches!(status, NodeStatus::Ok | NodeStatus::Pruned | NodeStatus::Spare);
        let status = crate::render::node_status_name(status);
        (!is_there).then(|| format!("{} ({status})", unpadded(&node.name)))
    });
    missing.collect()
}

/// Reads keys until there is no terminal any more.
fn read_keys(inputs: &Sender<Input>) -> Result<(), Gone> {
    let stdin = io::stdin();
    let (mut keys, mut bytes) = (Keys::default(), [0; 256]);
    loop {
        let wait = keys.is_waiting().then_some(WATCH_ESCAPE_WAIT);
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut ready, wait.as_ref()) {
            Ok(0) => {
                if let Some(key) = keys.end_wait() {
                    tell(inputs, Input::Key(key))?;
                }
                continue;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return tell(inputs, Input::Stop),
        }
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) | Err(rustix::io::Errno::IO) => return tell(inputs, Input::Stop),
            Ok(count) => {
                for key in keys.take(&bytes[..count]) {
                    tell(inputs, Input::Key(key))?;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => return tell(inputs, Input::Stop),
        }
    }
}

/// For the shell: what a key asks for that the machine cannot do.
pub(super) fn is_redraw(input: &Input) -> bool {
    matches!(input, Input::Key(Key::Redraw))
}
