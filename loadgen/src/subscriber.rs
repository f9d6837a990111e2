//! One subscriber: the bytes of a half-arrived message, and every delivery counted, checked and timed.

use std::io::Write;

use pregao::time::Mono;
use pregao::wire::Frame;

use crate::check::{Continuity, Faults, every};
use crate::limits;
use crate::measure::Recorder;
use crate::shared::Shared;
use crate::target::{Event, Target, Unwrapping};

/// How a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it can.
    Full,
    /// Half as many bytes as the others.
    Half,
    /// Never, once it is subscribed.
    Stalled,
}

/// One subscriber's sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deliveries: u64,
    pub(crate) measured: u64,
    pub(crate) latency_ns_sum: u64,
    pub(crate) faults: Faults,
    pub(crate) was_cut_off: bool,
    /// The first thing that it was told about a loss of its own.
    pub(crate) told: Option<&'static str>,
    /// Stamp of the newest message that came.
    pub(crate) newest_stamp: u64,
}

/// A subscriber: its connection, and what it has seen.
pub(crate) struct Subscriber {
    pub(crate) number: usize,
    pub(crate) stream: mio::net::TcpStream,
    pub(crate) pace: Pace,
    /// The beginning of a message whose end has not arrived.
    pub(crate) carry: Vec<u8>,
    /// Where in its WebSocket it is.
    pub(crate) unwrapping: Unwrapping,
    pub(crate) confirmations_left: usize,
    pub(crate) continuity: Continuity,
    /// Bytes read since it was confirmed.
    pub(crate) bytes: u64,
    pub(crate) is_waiting: bool,
    pub(crate) is_closed: bool,
    pub(crate) tally: Tally,
}

/// Where a subscriber's deliveries go.
pub(crate) struct Sink<'a> {
    pub(crate) recorder: Option<&'a mut Recorder>,
    pub(crate) shared: &'a Shared,
    pub(crate) is_live: bool,
    /// The run is over, and who stalled reads what it was told: no delivery in time.
    pub(crate) is_late: bool,
    pub(crate) now: Mono,
    pub(crate) stamp: u64,
}

impl Subscriber {
    /// Reads messages. `true` when they brought the last confirmation.
    pub(crate) fn receive(
        &mut self,
        target: Target,
        held: &[u8],
        sink: &mut Sink<'_>,
        counted: &mut u64,
    ) -> Result<bool, String> {
        let Subscriber { stream, unwrapping, confirmations_left, continuity, tally, pace, .. } =
            self;
        let was_unconfirmed = *confirmations_left > 0;
        let mut refused = None;
        let mut on = |event: Event<'_>| match event {
            Event::Frames(frames) => {
                *counted += note(frames, continuity, tally, *pace, sink);
            }
            Event::Confirmed => *confirmations_left = confirmations_left.saturating_sub(1),
            Event::Gap(what) => {
                tally.faults.gaps_told += 1;
                tally.told.get_or_insert(what);
            }
            // A reply is smaller than any send buffer that has room; one that has none is a peer
            // that does not read, which it finds out by itself.
            Event::Reply(bytes) => drop(stream.write(bytes)),
            Event::Refused(why) => refused = Some(why),
        };
        let taken = target.parse(unwrapping, held, &mut on).map_err(|error| error.to_string())?;
        if let Some(why) = refused {
            tally.told.get_or_insert("ERROR");
            return Err(why);
        }
        self.bytes += held.len().saturating_sub(self.carry.len()) as u64;
        self.carry.clear();
        self.carry.extend_from_slice(&held[taken..]);

        if self.carry.len() > limits::CARRY_BYTES_MAX {
            return Err("a message longer than any that was published".to_owned());
        }
        if self.carry.is_empty() && self.carry.capacity() > 1024 {
            self.carry = Vec::new();
        }
        Ok(was_unconfirmed && self.confirmations_left == 0)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.is_closed {
            drop(self.stream.write(bytes));
        }
    }

    pub(crate) fn cut_off(&mut self) {
        self.is_closed = true;
        self.tally.was_cut_off = true;
    }
}

/// Checks and times a run of deliveries; returns how many count.
fn note(
    frames: &[Frame],
    continuity: &mut Continuity,
    tally: &mut Tally,
    pace: Pace,
    sink: &mut Sink<'_>,
) -> u64 {
    let mut counted = 0;
    if continuity.note_run(frames, &mut tally.faults) {
        time_run(frames, tally, pace, sink);
        tally.deliveries += if sink.is_late { 0 } else { frames.len() as u64 };
        return frames.len() as u64;
    }
    for frame in frames {
        if !continuity.note(frame, &mut tally.faults) {
            continue;
        }
        counted += 1;
        let Some(recorder) = &mut sink.recorder else { continue };
        let sent = frame.ts_recv.get();
        let intended = if sink.is_live { sent } else { frame.ts_event.get() };
        if pace != Pace::Full || !recorder.is_measured(intended) {
            continue;
        }
        let latency_ns = sink.stamp.saturating_sub(intended).max(1);
        recorder.record(latency_ns);
        tally.measured += 1;
        tally.latency_ns_sum += latency_ns;
        let seq = frame.seq.get();
        if sink.is_live {
            let first = *sink.shared.first_seq.get_or_init(|| seq);
            recorder.note_skew(seq.wrapping_sub(first), sink.now);
        } else {
            recorder.record_service(sink.stamp.saturating_sub(sent).max(1));
            recorder.note_skew(seq, sink.now);
        }
    }
    if let Some(newest) = frames.last() {
        let stamp = if sink.is_live { newest.ts_recv } else { newest.ts_event };
        tally.newest_stamp = stamp.get();
    }
    tally.deliveries += if sink.is_late { 0 } else { counted };
    counted
}

/// Times a contiguous run: what the loop of [`note`] does for each frame, without its questions that
/// have one answer for the run.
fn time_run(frames: &[Frame], tally: &mut Tally, pace: Pace, sink: &mut Sink<'_>) {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return };
    let is_live = sink.is_live;
    let stamp_of = |frame: &Frame| if is_live { frame.ts_recv.get() } else { frame.ts_event.get() };
    tally.newest_stamp = stamp_of(last);
    let (Some(recorder), Pace::Full) = (&mut sink.recorder, pace) else { return };
    let (mut measured, mut sum) = (0, 0);
    for frame in frames {
        let intended = stamp_of(frame);
        if !recorder.is_measured(intended) {
            continue;
        }
        let latency_ns = sink.stamp.saturating_sub(intended).max(1);
        recorder.record(latency_ns);
        if !is_live {
            recorder.record_service(sink.stamp.saturating_sub(frame.ts_recv.get()).max(1));
        }
        measured += 1;
        sum += latency_ns;
    }
    tally.measured += measured;
    tally.latency_ns_sum += sum;
    if measured == 0 {
        return;
    }
    if is_live {
        // The sequence began long ago: it is counted from the first message that was measured.
        for frame in frames {
            if !recorder.is_measured(frame.ts_recv.get()) {
                continue;
            }
            let seq = frame.seq.get();
            let first = *sink.shared.first_seq.get_or_init(|| seq);
            recorder.note_skew(seq.wrapping_sub(first), sink.now);
        }
        return;
    }
    for frame in every(frames, first.seq.get(), recorder.skew_stride()) {
        if recorder.is_measured(frame.ts_event.get()) {
            recorder.note_skew(frame.seq.get(), sink.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pregao::wire::{Trade, U64};
    use zerocopy::IntoBytes;

    use super::*;
    use crate::measure::Window;

    fn subscriber(continuity: Continuity) -> Subscriber {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Subscriber {
            number: 0,
            stream: mio::net::TcpStream::from_std(stream),
            pace: Pace::Full,
            carry: Vec::new(),
            unwrapping: Unwrapping::default(),
            confirmations_left: 0,
            continuity,
            bytes: 0,
            is_waiting: false,
            is_closed: false,
            tally: Tally::default(),
        }
    }

    /// Hears the chunks one by one, as reads bring them; how many deliveries counted.
    fn receive(subscriber: &mut Subscriber, recorder: &mut Recorder, chunks: &[&[u8]]) -> u64 {
        let (shared, mut counted) = (Shared::default(), 0);
        for chunk in chunks {
            let held = [&subscriber.carry[..], chunk].concat();
            let mut sink = Sink {
                recorder: Some(&mut *recorder),
                shared: &shared,
                is_live: false,
                is_late: false,
                now: Mono(0),
                stamp: 1_000,
            };
            subscriber.receive(Target::Pregao, &held, &mut sink, &mut counted).unwrap();
        }
        counted
    }

    fn recorder() -> Recorder {
        Recorder::new(Window {
            from: Mono(0),
            to: Mono(100),
            from_stamp: 100,
            to_stamp: 200,
            interval: Duration::from_secs(1),
            skew_stride: 1,
            messages: 10,
        })
    }

    fn trades(seqs_and_stamps: &[(u64, u64)]) -> Vec<u8> {
        let frame = |&(seq, stamp): &(u64, u64)| {
            let (seq, ts_event) = (U64::new(seq), U64::new(stamp));
            Frame::seal(Trade { seq, ts_event, ts_recv: ts_event, ..Trade::default() })
        };
        let frames: Vec<Frame> = seqs_and_stamps.iter().map(frame).collect();
        frames.as_bytes().to_vec()
    }

    #[test]
    fn a_frame_that_two_reads_bring_is_one_delivery() {
        let bytes = trades(&[(1, 150), (2, 150), (3, 150)]);
        for cut in 0..bytes.len() {
            let (mut subscriber, mut recorder) = (subscriber(Continuity::Feed(1)), recorder());
            let chunks = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(receive(&mut subscriber, &mut recorder, &chunks), 3, "cut at {cut}");
            assert_eq!(subscriber.tally.faults, Faults::default());
            assert!(subscriber.carry.is_empty());
            assert_eq!(subscriber.bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn a_live_run_that_began_before_the_measured_part_is_measured_from_where_that_begins() {
        let (shared, mut recorder, mut counted) = (Shared::default(), recorder(), 0);
        // The second subscriber reads the same and, in the same run, what came before.
        for stamped in [&[(9, 150), (10, 150)][..], &[(7, 50), (8, 50), (9, 150), (10, 150)]] {
            let mut subscriber = subscriber(Continuity::Feed(stamped[0].0));
            let mut sink = Sink {
                recorder: Some(&mut recorder),
                shared: &shared,
                is_live: true,
                is_late: false,
                now: Mono(7),
                stamp: 1_000,
            };
            let bytes = trades(stamped);
            subscriber.receive(Target::Pregao, &bytes, &mut sink, &mut counted).unwrap();
            assert_eq!((subscriber.tally.measured, subscriber.tally.newest_stamp), (2, 150));
        }
        assert_eq!((counted, shared.first_seq.get()), (6, Some(&9)));
        let measured = crate::measure::merge(vec![recorder]);
        assert_eq!((measured.latency.len(), measured.skew.len()), (4, 2));
        assert!(measured.service.is_empty(), "the market has one stamp");
    }

    #[test]
    fn warm_up_is_checked_and_counted_but_not_timed() {
        let bytes = trades(&[(1, 50), (3, 150), (4, 250)]);
        let (mut subscriber, mut recorder) = (subscriber(Continuity::Feed(1)), recorder());
        assert_eq!(receive(&mut subscriber, &mut recorder, &[&bytes]), 3);
        let Tally { deliveries, measured, latency_ns_sum, faults, .. } = subscriber.tally;
        assert_eq!((deliveries, measured, latency_ns_sum, faults.lost), (3, 1, 850, 1));
        let measured = crate::measure::merge(vec![recorder]);
        assert_eq!((measured.latency.len(), measured.latency.max()), (1, 850));
    }
}
