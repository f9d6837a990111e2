//! `pregao all`: checks what would make every node fail, then supervises them.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use super::args::{BrokerFlags, CoreFlags, MarketFlags, NodeFlags, PlaygroundFlag};
use super::exit::{Exit, Failure};
use super::output::color_wanted;
use super::status;
use crate::config::{Config, NodeId};
use crate::log::inspect::Outline;
use crate::market::tape::{RECORDED, Schedule};
use crate::node::sequencer::OTHER_FEED_REMEDY;
use crate::storage::LogFiles;
use crate::supervisor::lines::Printer;
use crate::supervisor::lock::DataLock;
use crate::supervisor::ports::PortError;
use crate::supervisor::ready::Readiness;
use crate::supervisor::{ChildSpec, Outcome, ports, stop_signals, supervise};
use crate::wire::padded;

/// How long a process that has one of our ports may take to say what it is.
const ASK_WHO_WAIT: Duration = Duration::from_millis(300);
/// How long the last lines of the nodes may take to reach a slow terminal.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

/// Everything that is to run. The flags are kept because the children get them again: each child
/// resolves the same file and flags by itself, so a node alone and a node of eight start alike.
#[derive(Debug)]
pub(super) struct AllRequest {
    pub(super) config: Config,
    pub(super) node: NodeFlags,
    pub(super) market: MarketFlags,
    pub(super) broker: BrokerFlags,
    pub(super) core: CoreFlags,
    pub(super) playground: PlaygroundFlag,
}

pub(super) fn run(request: &AllRequest) -> Result<Exit, Failure> {
    // Handlers first: a Ctrl-C from here on is never lost.
    let stops = stop_signals().map_err(Failure::cannot_start)?;
    // Before anything is made: a tape that cannot be played would end eight processes and leave their logs.
    let exchanges = request.config.own_exchanges();
    let mut schedule = None;
    for exchange in exchanges.iter().filter(|exchange| !exchange.played.tapes.is_empty()) {
        // One after the other, because each holds its tapes whole.
        drop(schedule.take());
        schedule = Some(super::run::schedule(&exchange.played)?.0);
    }
    // Held until this function returns, which is after the last child is gone.
    let _lock = DataLock::take(&request.config.data.dir).map_err(Failure::cannot_start)?;
    // Of several exchanges core alone knows which feed of the journal is whose.
    let is_nameless = matches!(&exchanges[..], [only] if only.node() == NodeId::External);
    let is_alone = is_nameless && request.config.exchange.len() <= 1;
    if is_alone && !request.config.core.append {
        check_feed(&request.config, schedule.as_ref())?;
    }
    // Each exchange reads its tapes itself.
    drop(schedule);
    ports::check_all(&request.config).map_err(|error| Failure::cannot_start(who_is(error)))?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::cannot_start(format!("cannot find this program's own file: {error}"))
    })?;
    let specs = child_specs(request, &program, std::process::id());
    let color = color_wanted(io::stdout().is_terminal() && io::stderr().is_terminal());
    let readiness = Readiness::new(specs.len(), sentences(request));
    let (printer, printed) = Printer::start(io::stdout(), io::stderr(), color, readiness)
        .map_err(Failure::cannot_start)?;
    // On the main thread, as `supervise` asks.
    let outcome = supervise(&specs, &stops, &printer);
    drop(printer);
    printed.wait(LAST_LINES_WAIT);
    conclude(outcome)
}

/// Refuses what core would refuse, before anything is started: another recording than the journal holds.
fn check_feed(config: &Config, schedule: Option<&Schedule>) -> Result<(), Failure> {
    let directory = config.data.dir.join(NodeId::Core.to_string());
    // Whatever is wrong with the journal, core says it better.
    let Ok(Some(mut files)) = LogFiles::find(&directory) else { return Ok(()) };
    let name = padded(&NodeId::Core.to_string());
    let Ok(outline) = Outline::of(&mut files, Some(name)) else { return Ok(()) };
    let (feed, next_seq) = outline.upstream();
    let is_taken = match schedule {
        Some(schedule) => {
            schedule.identity() == feed || schedule.continued(feed, next_seq).is_some()
        }
        None => feed & RECORDED == 0,
    };
    if feed == 0 || is_taken {
        return Ok(());
    }
    let offered = if schedule.is_some() { "the tapes are" } else { "the synthetic market is" };
    let place = directory.display();
    Err(Failure::cannot_start(format!("{offered} {OTHER_FEED_REMEDY} (journal: {place})")))
}

/// Who has a port that is taken: most often it is another pregao.
fn who_is(error: PortError) -> String {
    let PortError::Taken { node, address, .. } = error else { return error.to_string() };
    let answers = status::ask_all(&[(node, address)], ASK_WHO_WAIT);
    let role = answers.first().and_then(|report| report.words.get("role"));
    match role {
        Some(role) => format!(
            "a pregao runs already: its {role} has {address}. Stop it with `pregao stop --data-dir` and its directory, \
             or set [net] in --config"
        ),
        None => error.to_string(),
    }
}

/// What a newcomer needs to know once the system runs.
fn sentences(request: &AllRequest) -> Vec<String> {
    let address = |node| request.config.connect(node).map_or_else(String::new, |it| it.to_string());
    let (broker, aggregator) = (address(NodeId::Broker), address(NodeId::Aggregator));
    let dir = request.config.data.dir.display();
    let page = request.config.gateway.run.then(|| {
        let gateway = address(NodeId::Gateway);
        format!("look at it in a browser: http://{gateway}/")
    });
    let runs = format!("the market runs: broker {broker}, aggregator {aggregator}, data in {dir}");
    let more = [
        runs,
        "try `pregao subscribe --count 20` or `pregao status` in another terminal; Ctrl-C stops it"
            .to_owned(),
    ];
    page.into_iter().chain(more).collect()
}

fn child_specs(request: &AllRequest, program: &Path, parent: u32) -> Vec<ChildSpec> {
    let nodes = request.config.nodes().into_iter();
    let exchanges = request.config.own_exchanges();
    let spec = |node: NodeId| {
        let exchange = exchanges.iter().find(|exchange| exchange.node() == node);
        let mut arguments: Vec<OsString> = match node {
            NodeId::External | NodeId::Exchange(_) => vec!["external".into()],
            NodeId::Broker => vec!["broker".into()],
            NodeId::Core => vec!["core".into()],
            NodeId::Shard(partition) => {
                vec!["shard".into(), format!("--partition={partition}").into()]
            }
            NodeId::Aggregator => vec!["aggregator".into()],
            NodeId::Gateway => vec!["gateway".into()],
            NodeId::CoreReplica(replica) => {
                vec!["replica".into(), format!("--replica={replica}").into()]
            }
            NodeId::ShardReplica(partition, replica) => vec![
                "shard".into(),
                format!("--partition={partition}").into(),
                format!("--replica={replica}").into(),
            ],
        };
        if let Some(exchange) = exchange.filter(|_| !request.config.exchange.is_empty()) {
            arguments.push(format!("--exchange={}", exchange.name).into());
        }
        arguments.extend(request.node.to_arguments(parent));
        if let Some(exchange) = exchange {
            // Of several exchanges a rate is for those without tapes. A child cannot know who else got the flag.
            let rate = request.market.rate.filter(|_| exchange.played.tapes.is_empty());
            arguments.extend(MarketFlags { rate, ..request.market.clone() }.to_arguments());
        }
        if node == NodeId::Broker {
            arguments.extend(request.broker.to_arguments());
        }
        if node == NodeId::Gateway || exchange.is_some() {
            arguments.extend(request.playground.to_arguments());
        }
        if node == NodeId::Core {
            arguments.extend(request.core.to_arguments());
        }
        ChildSpec { name: node.to_string().into(), program: program.to_owned(), arguments }
    };
    nodes.map(spec).collect()
}

fn conclude(outcome: Outcome) -> Result<Exit, Failure> {
    match outcome {
        Outcome::Stopped => Ok(Exit::Complete),
        Outcome::Failed { name, code, line } => {
            let line = line.strip_prefix("error: ").unwrap_or(&line);
            let message = format!("{name}: {line}");
            Err(match code == Exit::Usage as i32 {
                true => Failure::usage(message),
                false => Failure::cannot_start(message),
            })
        }
        Outcome::Abandoned { names } => Err(Failure::failed(format!(
            "{} did not end even when killed; they may be waiting for a disk",
            names.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::Command;
    use super::super::resolve::{Request, resolve};
    use super::super::tests::parse;
    use super::*;

    fn specs(flags: &[&str]) -> Vec<(String, Vec<String>)> {
        let flags: Vec<&str> = ["all"].iter().chain(flags).copied().collect();
        let Ok(Request::All(request)) = resolve(parse(&flags).unwrap()) else {
            panic!("{flags:?} is not `all`")
        };
        child_specs(&request, Path::new("/pregao"), 77)
            .into_iter()
            .map(|spec| {
                let arguments = spec.arguments.into_iter();
                (spec.name.to_string(), arguments.map(|it| it.into_string().unwrap()).collect())
            })
            .collect()
    }

    #[test]
    fn children_get_the_flags_and_each_its_own() {
        let specs = specs(&[
            "--data-dir",
            "/d",
            "--host",
            "127.0.0.2",
            "--log",
            "debug",
            "--seed",
            "3",
            "--loop",
            "--tape",
            "a",
            "b c",
            "--speed",
            "max",
            "--chaos=off",
            "--align",
            "start",
            "--symbol",
            "PETR*",
            "--from",
            "1",
            "--to",
            "2",
            "--allow-torn",
            "--append",
            "--reactors",
            "2",
            "--playground",
            "--insecure",
        ]);
        let common =
            ["--data-dir=/d", "--host=127.0.0.2", "--log=debug", "--parent=77", "--insecure"];
        let with = |command: &[&str], market: &[&str]| -> Vec<String> {
            command.iter().chain(&common).chain(market).map(|&it| it.to_owned()).collect()
        };
        let market = [
            "--tape=a",
            "--tape=b c",
            "--symbol=PETR*",
            "--from=1",
            "--to=2",
            "--speed=max",
            "--seed=3",
            "--chaos=off",
            "--align=start",
            "--loop",
            "--allow-torn",
            "--playground",
        ];
        let want = [
            ("external", with(&["external"], &market)),
            ("broker", with(&["broker"], &["--reactors=2"])),
            ("core", with(&["core"], &["--append"])),
            ("shard-A", with(&["shard", "--partition=A"], &[])),
            ("shard-B", with(&["shard", "--partition=B"], &[])),
            ("shard-C", with(&["shard", "--partition=C"], &[])),
            ("aggregator", with(&["aggregator"], &[])),
            ("gateway", with(&["gateway"], &["--playground"])),
        ];
        assert_eq!(specs, want.map(|(name, arguments)| (name.to_owned(), arguments)));
    }

    #[test]
    fn every_child_understands_the_flags_it_gets() {
        let flags = ["--rate", "5", "--chaos=off", "--speed", "0.5", "--replicas", "2"];
        let specs = specs(&flags);
        assert_eq!(specs.len(), 12);
        for (name, arguments) in specs {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let command = parse(&arguments).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(!matches!(command, Command::All { .. }));
            let Ok(Request::Node { request, parent, .. }) = resolve(command) else {
                panic!("{name} is no node")
            };
            assert_eq!((request.node.to_string(), parent), (name, Some(77)));
            if request.node == NodeId::External {
                assert_eq!(request.config.external.rate, Some(5));
                assert_eq!(request.config.external.chaos, "off");
            }
        }
    }

    #[test]
    fn each_exchange_that_runs_here_is_a_child_that_plays_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        let text = "[[exchange]]\nname = \"xnas\"\n[[exchange]]\nname = \"exchange\"\ntapes = [\"a\"]\n\
                    [[exchange]]\nname = \"away\"\naddress = 5\nrun = false\n\
                    [[exchange]]\nname = \"xcme\"\nrate = 9\n";
        std::fs::write(&file, text).unwrap();
        let config = file.to_str().unwrap();
        let played = |flags: &[&str]| -> Vec<String> {
            let flags = [&["--config", config], flags].concat();
            let specs = specs(&flags);
            let names: Vec<&str> = specs.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names[..5], ["xnas", "external", "xcme", "broker", "core"]);
            let of = |(name, arguments): &(String, Vec<String>)| {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let Ok(Request::Node { request, .. }) = resolve(parse(&arguments).unwrap()) else {
                    panic!("{arguments:?}")
                };
                assert_eq!(request.node.to_string(), *name);
                let exchanges = request.config.exchanges().into_iter();
                let mut own = exchanges.filter(|exchange| exchange.node() == request.node);
                let played = own.next().unwrap().played;
                format!("{name} {:?} {:?} {}", played.tapes, played.rate, played.chaos)
            };
            specs[..3].iter().map(of).collect()
        };
        let chaos = ["--chaos", "off"];
        let want = ["xnas [] None off", "external [\"a\"] None off", "xcme [] Some(9) off"];
        assert_eq!(played(&chaos), want);
        let rate = ["--rate", "7"];
        assert_eq!(
            played(&rate),
            ["xnas [] Some(7) ", "external [\"a\"] None ", "xcme [] Some(7) "]
        );
        let tape = ["--tape", "xnas=b", "exchange=c=d", "--from", "1"];
        let want = ["xnas [\"b\"] None ", "external [\"c=d\"] None ", "xcme [] Some(9) "];
        assert_eq!(played(&tape), want);
    }

    #[test]
    fn a_child_tells_its_figures_where_the_file_says_unless_a_flag_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        std::fs::write(&file, "[metrics]\ncore = 9101\nshards = [9102, 9103, 9104]\n").unwrap();
        let told = |arguments: &[&str]| {
            let Ok(Request::Node { request, .. }) = resolve(parse(arguments).unwrap()) else {
                panic!("{arguments:?}")
            };
            request.metrics.map(|address| address.to_string())
        };
        let mut all = Vec::new();
        for (name, arguments) in specs(&["--config", file.to_str().unwrap()]) {
            let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            all.extend(told(&arguments).map(|address| format!("{name} {address}")));
            arguments.push("--metrics=127.0.0.7:1");
            assert_eq!(told(&arguments).as_deref(), Some("127.0.0.7:1"), "{name}");
        }
        let want = ["core 9101", "shard-A 9102", "shard-B 9103", "shard-C 9104"];
        assert_eq!(all, want.map(|it| it.replace(' ', " 127.0.0.1:")));
    }

    #[test]
    fn the_message_and_the_exit_code_of_a_child_are_ours() {
        for (code, exit) in [(2, Exit::Usage), (5, Exit::CannotStart)] {
            let line = "error: the tape is damaged".to_owned();
            let failure =
                conclude(Outcome::Failed { name: "external".into(), code, line }).unwrap_err();
            assert_eq!(failure.message(), Some("external: the tape is damaged"));
            assert_eq!(failure.exit(), exit);
        }
        assert_eq!(conclude(Outcome::Stopped), Ok(Exit::Complete));
    }
}
