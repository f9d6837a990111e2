//! Subscribers that join while the feed runs, one by one, each timed from its connect to the end of its
//! snapshot. They are not part of the measured deliveries and leave at once.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::connect::Dialer;
use crate::limits;
use crate::measure::Window;
use crate::target::{Event, Interest};
use crate::timebase::Timebase;

/// Joins `joiners` times within the window, evenly spread.
///
/// # Errors
/// A sentence, when one of them does not get its snapshot.
pub(crate) fn join_all(
    dialer: Dialer,
    source: u8,
    timebase: Timebase,
    window: Window,
    number: usize,
    joiners: u32,
) -> Result<Vec<Duration>, String> {
    let step = window.to.since(window.from) / (joiners + 1);
    let mut waits = Vec::new();
    for joiner in 1..=joiners {
        let due = window.from + step * joiner;
        // A wait may end early without a reason.
        while let left = due.since(timebase.mono())
            && !left.is_zero()
        {
            std::thread::park_timeout(left);
        }
        let before = timebase.mono();
        let joined = join(dialer, source, number + joiner as usize);
        joined.map_err(|error| format!("a late joiner got no snapshot: {error}"))?;
        waits.push(timebase.mono().since(before));
    }
    Ok(waits)
}

fn join(dialer: Dialer, source: u8, number: usize) -> io::Result<()> {
    let interest = Interest { source, topics: &[] };
    let mut stream = dialer.dial(number).map_err(io::Error::other)?;
    stream.set_read_timeout(Some(limits::CONNECT_MAX))?;
    stream.write_all(&dialer.target.hello_subscriber(interest))?;
    let mut held = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut left = dialer.target.confirmations(interest);
    while left > 0 {
        let bytes = stream.read(&mut buffer)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&buffer[..bytes]);
        let mut refused = None;
        let mut on = |event: Event<'_>| match event {
            Event::Confirmed => left = left.saturating_sub(1),
            Event::Refused(why) => refused = Some(why),
            _ => {}
        };
        let taken = dialer.target.parse(&held, &mut on).map_err(io::Error::other)?;
        held.drain(..taken);
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}
