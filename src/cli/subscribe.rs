//! `pregao subscribe`: from a request to lines. The connection itself is the client library's.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::subscribe_bars;
use super::subscribe_hints::Lonely;
use super::subscribe_past;
use crate::client::{self, ClientError, Event, Subscription, Symbols};
use crate::config::{Config, NodeId, Speed};
use crate::feed;
use crate::market::bar::BarAssembler;
use crate::parse::{DeliveryMode, Pattern, TimeNs};
use crate::render::{FrameTable, Venues, feed_status_json, frame_json, instrument_gap_json};
use crate::time::{Clock, Mono};
use crate::wire::{ExchangeNumber, FeedStatus, Frame, Gap, GapReason, Kind, Seq, U64};

/// What to subscribe to, and until when.
#[derive(Clone, Debug)]
pub struct SubscribeRequest {
    /// The broker.
    pub address: SocketAddr,
    /// At least one.
    pub patterns: Vec<Pattern>,
    /// Stop after so many lines of market data.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// When too slow.
    pub mode: DeliveryMode,
    /// First `seq` wanted; `None` = a snapshot, then live.
    pub from_seq: Option<u64>,
    /// The same by the time at which core received it. At most one of the two is given.
    pub from_time: Option<TimeNs>,
    /// At which pace history is shown; `None` = as it comes, and then live.
    pub speed: Option<Speed>,
    /// Whether a paced replay goes on live.
    pub then_live: bool,
    /// How frames are shown.
    pub format: Format,
    /// For what `lossless` needs besides the broker: where history is.
    pub config: Config,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More frames are wanted.
    More,
    /// `--count` is reached.
    Done,
}

/// Shows the frames of one subscription.
#[derive(Debug)]
pub struct FramePrinter<'a, W: Write> {
    output: &'a mut Output<W>,
    format: Format,
    table: FrameTable,
    symbols: Symbols,
    bars: BarAssembler,
    venues: Venues,
    /// Lines of market data still wanted; `None` = no end.
    wanted: Option<u64>,
    lost: bool,
}

impl<'a, W: Write> FramePrinter<'a, W> {
    /// A printer for this request.
    pub fn new(request: &SubscribeRequest, output: &'a mut Output<W>) -> FramePrinter<'a, W> {
        let screen = output.screen();
        FramePrinter {
            output,
            format: request.format,
            table: FrameTable::new(screen.color, screen.lines),
            symbols: Symbols::default(),
            bars: BarAssembler::default(),
            venues: Venues::default(),
            wanted: request.count,
            lost: false,
        }
    }

    /// Shows the next frame, which passed [`Frame::check`]. Frames that are the connection's own
    /// matter are ignored.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn take(&mut self, frame: &Frame) -> Result<Progress, Failure> {
        self.symbols.note(frame);
        self.venues.note(frame, &self.symbols);
        if frame.is_naming() {
            // Every line carries its symbol, so the definition itself says nothing more. Lines of JSON carry the full name too.
            let full_name = self.symbols.full_name(frame.instrument());
            if let Some(name) = full_name.filter(|_| self.format == Format::Table)
                && frame.kind == Kind::InstrumentName as u8
                && let Some(symbol) = self.symbols.shown(frame.instrument())
            {
                self.output.line(&format!("{:12} {:6} {symbol} is {name}", "", "name"))?;
            }
            return Ok(Progress::More);
        }
        self.note_loss(frame);
        let bar = self.bars.take(frame);
        let line = match self.format {
            Format::Json => frame_json(frame, bar.as_ref(), &self.symbols),
            Format::Table => self.table.line(frame, bar.as_ref(), &self.symbols),
        };
        let Some(line) = line else { return Ok(Progress::More) };
        self.output.line(&line)?;
        if counts(frame) {
            self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(1));
        }
        Ok(if self.wanted == Some(0) { Progress::Done } else { Progress::More })
    }

    /// Shows a loss, of one instrument or of all; another event shows nothing.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn lose(&mut self, symbols: &Symbols, event: &Event) -> Result<Progress, Failure> {
        let Event::Lost { reason, from_seq, to_seq, instrument, missed } = *event else {
            return Ok(Progress::More);
        };
        let gap = &gap_frame(reason, from_seq, to_seq, missed);
        let names = instrument.and_then(|it| Some((symbols.symbol(it)?, symbols.shown(it)?)));
        let Some((symbol, shown)) = names else { return self.take(gap) };
        self.note_loss(gap);
        let line = match self.format {
            Format::Json => instrument_gap_json(gap, symbol),
            Format::Table => self.table.instrument_gap(gap, shown),
        };
        if let Some(line) = line {
            self.output.line(&line)?;
        }
        Ok(Progress::More)
    }

    /// Shows what is known of the feed from now on. It counts as no frame.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn tell(&mut self, status: FeedStatus) -> Result<Progress, Failure> {
        self.show_status(status, None)
    }

    /// Shows the same of one exchange.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn tell_of(
        &mut self,
        exchange: ExchangeNumber,
        status: FeedStatus,
    ) -> Result<Progress, Failure> {
        self.show_status(status, Some(exchange))
    }

    fn show_status(
        &mut self,
        status: FeedStatus,
        exchange: Option<ExchangeNumber>,
    ) -> Result<Progress, Failure> {
        let exchange = exchange.map(|number| self.venues.name(number));
        self.output.line(&match self.format {
            Format::Json => feed_status_json(status, exchange.as_deref()),
            Format::Table => self.table.feed_status(status, exchange.as_deref()),
        })?;
        // Whoever looks must see it now: nothing more may come.
        self.flush()?;
        Ok(Progress::More)
    }

    fn note_loss(&mut self, frame: &Frame) {
        if let Some(gap) = frame.view::<Gap>() {
            // What a mode leaves out on purpose was asked for; everything else is a loss.
            self.lost |= GapReason::from_number(gap.reason) != Some(GapReason::Skipped);
        }
    }

    /// Sends on what was shown; to be called when no more frames are at hand.
    ///
    /// # Errors
    /// When the output takes no more.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush()
    }

    /// The exit code of a subscription that ended as asked: partial when a gap was shown.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.lost { Exit::Partial } else { Exit::Complete }
    }
}

/// Whether a shown frame is one of those that `--count` counts.
fn counts(frame: &Frame) -> bool {
    frame.kind().is_some_and(|kind| kind.is_data()) && !frame.is_naming()
}

/// Runs the subscription until its count or its time. A broken connection is mended meanwhile.
///
/// # Errors
/// When the broker cannot be reached at the start, refuses, or the output takes no more.
pub fn run(request: &SubscribeRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let mut request = request.clone();
    if let Some(time) = request.from_time {
        request.from_seq = Some(subscribe_past::seq_at(&request, time)?);
    }
    if subscribe_bars::wants_bars(&request)? {
        if request.speed.is_some() {
            return Err(Failure::usage("bars are not replayed at a speed; leave --speed out"));
        }
        return subscribe_bars::run(&request, output);
    }
    let (mut printer, clock) = (FramePrinter::new(&request, output), Clock::start());
    let started = clock.now().mono;
    if let (Some(from_seq), Some(speed)) = (request.from_seq, request.speed) {
        match subscribe_past::replay(&request, (from_seq, speed), &mut printer)? {
            subscribe_past::Ended::Met(next_seq) if request.then_live => {
                printer.take(&subscribe_past::joins(next_seq))?;
                request.from_seq = Some(next_seq);
                let passed = clock.now().mono.since(started);
                request.duration = request.duration.map(|it| it.saturating_sub(passed));
            }
            _ => return Ok(printer.exit()),
        }
    }
    follow(&request, printer)
}

/// Shows what comes from the broker.
fn follow<W: Write>(
    request: &SubscribeRequest,
    mut printer: FramePrinter<'_, W>,
) -> Result<Exit, Failure> {
    let core = request.config.connect(NodeId::Core);
    let core = core.ok_or_else(|| Failure::usage("no address of core"))?;
    let wanted = client::Request {
        source: client::Request::MARKET,
        patterns: request.patterns.iter().map(feed_pattern).collect::<Result<_, _>>()?,
        mode: request.mode.wire_mode(),
        conflate_ms: request.mode.conflate_ms(),
        from_seq: request.from_seq.and_then(Seq::new),
    };
    let failed = |error: ClientError| Failure::failed(error.to_string());
    let mut subscription = Subscription::open(request.address, core, wanted).map_err(failed)?;
    let clock = subscription.clock();
    let started = clock.now().mono;
    let end = request.duration.map_or(Mono(u64::MAX), |duration| started + duration);
    let mut lonely = Lonely::new(request, started);
    loop {
        lonely.look(clock.now().mono, subscription.matched(), subscription.symbols());
        // What is at hand is shown before waiting for more.
        let next = match subscription.next_before(clock.now().mono).map_err(failed)? {
            Some(event) => Some(event),
            None => {
                printer.flush()?;
                subscription.next_before(end.min(clock.now().mono + FLUSH_EVERY)).map_err(failed)?
            }
        };
        let progress = match next {
            // Nothing was received at that time yet when it was looked for.
            Some(Event::Data(frame)) if is_before(request, &frame) => Progress::More,
            Some(Event::Data(frame)) => printer.take(&frame)?,
            Some(event @ Event::Lost { .. }) => printer.lose(subscription.symbols(), &event)?,
            Some(Event::Stale) => printer.tell(FeedStatus::Stale)?,
            Some(Event::Ended) => printer.tell(FeedStatus::Ended)?,
            Some(Event::Current) => printer.tell(FeedStatus::Current)?,
            Some(Event::Exchange { exchange, status }) => printer.tell_of(exchange, status)?,
            Some(Event::Live { .. }) | None => Progress::More,
        };
        if progress == Progress::Done || clock.now().mono >= end {
            printer.flush()?;
            return Ok(printer.exit());
        }
    }
}

/// Whether a frame was received before the time that is asked for. Definitions name what comes.
fn is_before(request: &SubscribeRequest, frame: &Frame) -> bool {
    request.from_time.is_some_and(|time| frame.ts_recv.get() < time.0) && !frame.is_naming()
}

/// How long to wait for a frame before looking at the clock again.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

pub(super) fn feed_pattern(pattern: &Pattern) -> Result<feed::Pattern, Failure> {
    feed::Pattern::new(&pattern.symbols, pattern.kinds).map_err(Failure::usage)
}

fn gap_frame(reason: GapReason, from_seq: u64, to_seq: u64, missed: Option<u64>) -> Frame {
    Frame::seal(Gap {
        reason: reason as u8,
        from_seq: U64::new(from_seq),
        to_seq: U64::new(to_seq),
        missed: U64::new(missed.unwrap_or(u64::MAX)),
        ..Gap::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Screen;
    use crate::wire::{Definition, Heartbeat, Quote, Trade, U32, U64};

    fn request(count: u64) -> SubscribeRequest {
        SubscribeRequest {
            address: "127.0.0.1:8081".parse().unwrap(),
            patterns: vec!["*".parse().unwrap()],
            count: Some(count),
            duration: None,
            mode: DeliveryMode::Lossless,
            from_seq: None,
            from_time: None,
            speed: None,
            then_live: false,
            format: Format::Json,
            config: Config::default(),
        }
    }

    fn gap(reason: GapReason) -> Frame {
        Frame::seal(Gap { reason: reason as u8, ..Gap::default() })
    }

    #[test]
    fn only_market_data_counts() {
        let mut text = Vec::new();
        let mut output = Output::new(&mut text, Screen::NONE);
        let mut printer = FramePrinter::new(&request(2), &mut output);
        let definition = Frame::seal(Definition::new(U32::new(1).into(), "X".parse().unwrap(), 2));
        let quote = Frame::seal(Quote { seq: U64::new(1), ..Quote::default() });
        for frame in [definition, gap(GapReason::Skipped), quote, Frame::seal(Heartbeat::default())]
        {
            assert_eq!(printer.take(&frame), Ok(Progress::More));
        }
        assert_eq!(printer.take(&Frame::seal(Trade::default())), Ok(Progress::Done));
        assert_eq!(printer.exit(), Exit::Complete, "skipping on purpose is no loss");
        printer.flush().unwrap();
        drop(output);
        let kinds: Vec<String> = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                value["kind"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(kinds, ["gap", "quote", "trade"]);
    }

    #[test]
    fn a_loss_says_how_much_and_whose_it_was() {
        let mut text = Vec::new();
        let mut output = Output::new(&mut text, Screen::NONE);
        let mut printer = FramePrinter::new(&request(1), &mut output);
        let mut symbols = Symbols::default();
        symbols.note(&Frame::seal(Definition::new(
            U32::new(1).into(),
            "PETR4".parse().unwrap(),
            2,
        )));
        let lost = |instrument, missed| Event::Lost {
            reason: GapReason::SourceLost,
            from_seq: 4,
            to_seq: 9,
            instrument,
            missed,
        };
        for event in
            [lost(None, None), lost(None, Some(6)), lost(Some(U32::new(1).into()), Some(2))]
        {
            assert_eq!(printer.lose(&symbols, &event), Ok(Progress::More));
        }
        assert_eq!(printer.exit(), Exit::Partial);
        printer.flush().unwrap();
        drop(output);
        let printed: Vec<(serde_json::Value, serde_json::Value)> = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                (value["symbol"].clone(), value["missed"].clone())
            })
            .collect();
        let null = serde_json::Value::Null;
        let want = [(null.clone(), null.clone()), (null, 6.into()), ("PETR4".into(), 2.into())];
        assert_eq!(printed, want);
    }

    #[test]
    fn a_feed_that_is_stale_or_has_ended_is_shown_and_is_no_loss() {
        let shown = |format| {
            let mut text = Vec::new();
            let mut output = Output::new(&mut text, Screen::NONE);
            let mut printer =
                FramePrinter::new(&SubscribeRequest { format, ..request(1) }, &mut output);
            for status in [FeedStatus::Stale, FeedStatus::Current, FeedStatus::Ended] {
                assert_eq!(printer.tell(status), Ok(Progress::More));
            }
            assert_eq!(printer.exit(), Exit::Complete);
            drop(output);
            String::from_utf8(text).unwrap()
        };
        let want = r#"{"kind":"stale","symbol":null,"seq":null,"seq_text":null,"instrument_seq":null,"ts_event":null,"ts_event_text":null,"ts_recv":null,"ts_recv_text":null,"flags":[]}
{"kind":"current","symbol":null,"seq":null,"seq_text":null,"instrument_seq":null,"ts_event":null,"ts_event_text":null,"ts_recv":null,"ts_recv_text":null,"flags":[]}
{"kind":"ended","symbol":null,"seq":null,"seq_text":null,"instrument_seq":null,"ts_event":null,"ts_event_text":null,"ts_recv":null,"ts_recv_text":null,"flags":[]}
"#;
        assert_eq!(shown(Format::Json), want);
        let table = shown(Format::Table);
        assert!(table.contains("stale   the feed or a link to it is down"), "{table}");
        assert!(table.contains("current the feed is current again"), "{table}");
        assert!(table.contains("ended   the feed has ended: nothing more comes"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    }

    #[test]
    fn a_loss_makes_the_exit_partial() {
        let mut output = Output::new(Vec::new(), Screen::NONE);
        let mut printer = FramePrinter::new(&request(2), &mut output);
        printer.take(&gap(GapReason::Lapped)).unwrap();
        assert_eq!(printer.exit(), Exit::Partial);
    }
}
