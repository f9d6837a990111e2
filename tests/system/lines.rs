//! An exchange that programs write lines to, over real sockets.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::process::{PATIENCE, Process};
use super::support::node::Reserved;
use super::system::{Place, System};

const NODES: [&str; 7] = ["quest", "broker", "core", "shard-A", "shard-B", "shard-C", "aggregator"];

/// A system that is fed by lines only, and where they are written to.
fn system() -> (System, SocketAddr) {
    let place = Place::new();
    let reserved = Reserved::new();
    let address = reserved.address();
    drop(reserved);
    place.configure(&format!(
        "[[exchange]]\nname = \"quest\"\nkind = \"lines\"\naddress = \"{address}\"\n\
         map = \"price=last\"\n"
    ));
    let all = Process::start(&place.all_arguments(&[]));
    (System::of_nodes(all, Arc::new(place), &NODES), address)
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.fold(String::new(), |mut text, id| {
        writeln!(text, "trades,symbol=GOLD last=2650.5,amount=0.{id:08},id={id} {}", 5_000 + id)
            .unwrap();
        text
    })
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn figures(system: &System) -> Value {
    system.status()["quest"]["figures"].clone()
}

/// The numbers of the trades in core's journal.
fn stored(place: &Place) -> Vec<u64> {
    let data = place.data_dir();
    let dump = ["dump", data.to_str().unwrap(), "--log", "core", "--format", "json"];
    let dumped = Process::start(&dump.map(str::to_owned)).finish().expect(0);
    let rows = dumped.json().into_iter().filter(|row| row["kind"] == "trade");
    rows.map(|row| row["trade_id"].as_u64().unwrap()).collect()
}

/// The hazards: real connections that break, and a kernel that takes more than core does.
#[test]
fn lines_over_real_sockets_are_stored_once_and_in_order_though_core_dies() {
    let (system, address) = system();
    let mut stream = connect(address);
    let (count, piece) = (20_000, 500);
    for from in (1..=count).step_by(piece) {
        let until = (from + piece as u64).min(count + 1);
        stream.write_all(lines(from..until).as_bytes()).unwrap();
        if from % 6_000 == 1 {
            system.kill("core");
        }
    }
    drop(stream);
    system.retry("all events are durable", || {
        let figures = figures(&system);
        if figures["events.durable"] == count { Ok(()) } else { Err(format!("{figures}")) }
    });
    let place = system.stop();
    let stored = stored(&place);
    let first = stored.iter().copied().zip(1..).find(|(got, want)| got != want);
    assert_eq!((stored.len() as u64, first), (count, None));
}

#[test]
fn a_wrong_line_is_answered_over_a_real_socket_and_the_next_ones_are_taken() {
    let (system, address) = system();
    let mut stream = connect(address);
    let text = format!("{}trades,symbol=GOLD last=x,qty=1 5\n{}tra", lines(1..3), lines(3..4));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("error: line 3, last: \"x\""), "{answer}");
    drop(stream);
    system.wait_log("quest", "inside of line 5");
    // A peer of this node speaks to it at the same address: `status` has just done so.
    system.retry("what was written is told", || {
        let it = figures(&system);
        let told = ["lines", "lines.wrong", "lines.torn", "events"].map(|name| it[name].clone());
        let want = [4, 1, 1, 3].map(Value::from);
        if told == want { Ok(()) } else { Err(format!("{told:?}")) }
    });
    let report = system.wait_report("GOLD", &["--last", "1"], |report| report["complete"] == true);
    assert_eq!(report["symbol"], "quest:GOLD");
    // Orderly: what came before the stop is stored.
    let mut stream = connect(address);
    stream.write_all(lines(4..9).as_bytes()).unwrap();
    system.retry("taken", || {
        let it = figures(&system);
        if it["events"] == 8 { Ok(()) } else { Err(it.to_string()) }
    });
    assert_eq!(stored(&system.stop()), (1..9).collect::<Vec<u64>>());
    drop(stream);
}

#[test]
fn a_node_of_lines_alone_holds_its_writers_back_until_core_comes() {
    let place = Place::new();
    let reserved = Reserved::new();
    let address = reserved.address();
    drop(reserved);
    place.configure(&format!(
        "[[exchange]]\nname = \"quest\"\nkind = \"lines\"\naddress = \"{address}\"\n"
    ));
    let mut alone = place.start("external", &[]);
    alone.wait_listening();
    let mut stream = connect(address);
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let text = "trades,symbol=GOLD price=1,qty=1 5\n".repeat(10_000);
    // Until the kernel takes no more.
    let taken = (0..1_000).take_while(|_| stream.write_all(text.as_bytes()).is_ok()).count();
    assert!(taken < 1_000, "it has taken everything, and has nowhere to put it");
    alone.end_now();
}
