//! The four screens of `pregao status` that an operator must know.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;

use super::page::{difference, is_renewing, plain_addresses, renew};
use super::process::{Finished, PROGRAM, Process};
use super::system::{Place, System, signal};
use super::tmpfs::{can_mount, on_tmpfs, seen_by};

const PAGE: &str = "screens.md";
/// One whole session of AMZN on Nasdaq.
const AMZN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/amzn-2012-06-21.mbp-1.dbn.zst");

/// What stands in the manual instead of a directory of a test, in as many letters.
fn plain(place: &Place, text: &str) -> String {
    let directory = place.data_dir().parent().unwrap().display().to_string();
    let shown = "/srv/pregao-day".chars().chain(std::iter::repeat('s'));
    let shown: String = shown.take(directory.len()).collect();
    plain_addresses(place, &text.replace(&directory, &shown))
}

fn shown(place: &Place, status: &Finished) -> String {
    let text = plain(place, &status.stdout.join("\n"));
    format!("$ pregao status\n{text}\n$ echo $?\n{}\n", status.code())
}

/// Waits for the screen of this heading, with this exit code.
fn screen_is(system: &System, heading: &str, code: i32) {
    let shown = system.retry(heading, || {
        let status = system.place.run("status", &[]);
        let text = shown(&system.place, &status);
        if status.code() != code {
            return Err(format!("exit code {}\n{text}", status.code()));
        }
        if is_renewing() {
            let is_it = difference(PAGE, heading, &text).is_none();
            return if is_it || is_settled(heading, &text) { Ok(text) } else { Err(text) };
        }
        difference(PAGE, heading, &text).map_or_else(|| Ok(text.clone()), Err)
    });
    if is_renewing() {
        renew(PAGE, heading, &shown);
    }
}

/// Whether a screen that nobody knows yet is the one that is meant, by its first word.
fn is_settled(heading: &str, text: &str) -> bool {
    let word = match heading {
        "A full disk" => "STOPPED: core: takes nothing in",
        "The end of a tape" => "ENDED: ",
        "A stopped shard" => "TROUBLE: shard-C: no answer",
        _ => "STALE: ",
    };
    // The breaker has opened by then, where the exchange is sick.
    let is_open = word != "STALE: " || text.contains("core.exchange      open ");
    is_open && text.lines().nth(1).is_some_and(|line| line.starts_with(word))
}

#[test]
fn a_full_disk_of_a_real_file_system_is_said_first_and_ends_with_3() {
    // The shards have a disk of their own: whether they wait for theirs too would differ from run to run.
    let place = Arc::new(Place::new());
    let core = place.data_dir().join("core");
    fs::create_dir_all(&core).unwrap();
    if !can_mount(&core) {
        return;
    }
    let mut command = on_tmpfs("8m", &core, Path::new(PROGRAM));
    command.args(place.all_arguments(&["--chaos", "off", "--rate", "20000"]));
    let system = System::of(Process::of(&mut command), place);
    let ballast = seen_by(&system.all, &core).join("ballast");
    fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    screen_is(&system, "A full disk", 3);
    // And it goes on when there is room.
    fs::remove_file(ballast).unwrap();
    system.retry("room again", || match system.place.run("status", &[]) {
        status if status.code() == 0 => Ok(()),
        status => Err(format!("{status:?}")),
    });
}

#[test]
fn the_end_of_a_tape_is_said_first_and_ends_with_0() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    system.wait_report("AMZN", &["--last", "1"], |report| report["quote_source"] == "ended");
    screen_is(&system, "The end of a tape", 0);
}

#[test]
fn a_stopped_process_of_a_shard_is_said_first_and_ends_with_3() {
    let system = System::start(&["--chaos", "off"]);
    system.wait_well();
    signal(system.pid("shard-C"), Signal::STOP);
    screen_is(&system, "A stopped shard", 3);
}

#[test]
fn an_exchange_that_refuses_every_session_is_said_first_and_ends_with_0() {
    let system = System::start(&["--chaos", "refuse=1,stall=0"]);
    screen_is(&system, "A sick exchange", 0);
}
