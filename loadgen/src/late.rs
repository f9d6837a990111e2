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

/// Joins once, and leaves at the end of the snapshot.
pub(crate) fn join(dialer: Dialer, source: u8, number: usize) -> io::Result<()> {
    let interest = Interest { source, topics: &[] };
    let mut stream = dialer.dial(number).map_err(io::Error::other)?;
    stream.set_read_timeout(Some(limits::CONNECT_MAX))?;
    let (greeting, mut unwrapping) = dialer.target.greet(dialer.address, interest);
    stream.write_all(&greeting)?;
    let mut held = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut left = dialer.target.confirmations(interest);
    while left > 0 {
        let bytes = stream.read(&mut buffer)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&buffer[..bytes]);
        let (mut refused, mut replies) = (None, Vec::new());
        let mut on = |event: Event<'_>| match event {
            Event::Confirmed => left = left.saturating_sub(1),
            Event::Refused(why) => refused = Some(why),
            Event::Reply(bytes) => replies.extend_from_slice(bytes),
            Event::Frames(_) | Event::Gap(_) => {}
        };
        let taken = dialer.target.parse(&mut unwrapping, &held, &mut on);
        held.drain(..taken.map_err(io::Error::other)?);
        stream.write_all(&replies)?;
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}
