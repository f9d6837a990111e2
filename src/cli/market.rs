//! The flags that say how exchanges are played, over a configuration.
//!
//! # Decisions
//!
//! * A flag holds for every exchange that runs here, and outweighs what its `[[exchange]]` says, as any flag outweighs the
//!   file.
//! * A tape is for one exchange. Where several run, `NAME=` before it says which. A path may have a `=` too, so what stands
//!   before it is a name only if an exchange is called so.
//! * `--rate` replaces the tapes of a lone exchange, as `--tape` replaces its market. Of several it means those that
//!   play no tapes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::MarketFlags;
use super::exit::Failure;
use crate::config::{Config, Exchange, ExchangeName};
use crate::feed;
use crate::market::tape::TapeSelection;

/// Which exchange is meant: the one of this name, or the only one that runs here.
///
/// # Errors
/// When there is none, or several and no name.
pub(super) fn which(config: &Config, name: Option<ExchangeName>) -> Result<ExchangeName, Failure> {
    let exchanges = config.exchanges();
    let Some(name) = name else {
        let own = config.own_exchanges();
        return match &own[..] {
            [] => Err(none_runs("it")),
            [only] => Ok(only.name),
            _ => Err(Failure::usage(format!(
                "several exchanges are configured; name one with --exchange: {}",
                names(&own)
            ))),
        };
    };
    let found = exchanges.iter().find(|exchange| exchange.name == name);
    let found = found.ok_or_else(|| {
        let names = names(&exchanges);
        Failure::usage(format!("--exchange {name}: no exchange is called so; there are: {names}"))
    })?;
    if found.run { Ok(name) } else { Err(elsewhere(&format!("--exchange {name}"), name)) }
}

/// Applies the flags. `only` is the exchange that they are for, where it is known.
///
/// # Errors
/// When a flag does not say for which exchange it is, or there is none that it could be for.
pub(super) fn apply(
    config: &mut Config,
    flags: &MarketFlags,
    only: Option<ExchangeName>,
) -> Result<(), Failure> {
    let own = config.own_exchanges();
    if own.is_empty() && *flags != MarketFlags::default() {
        return Err(none_runs("what a flag says of it"));
    }
    let only = only.or(match &own[..] {
        [only] => Some(only.name),
        _ => None,
    });
    apply_tapes(config, flags, only)?;
    if let Some(rate) = flags.rate {
        apply_rate(config, rate, only)?;
    }
    let (external, entries) = (&mut config.external, &mut config.exchange);
    external.selection = selection(flags)?;
    // An entry that says nothing takes what stands in `external`.
    external.speed = flags.speed.unwrap_or(external.speed);
    external.looped |= flags.looped;
    external.align = flags.align.unwrap_or(external.align);
    external.allow_torn |= flags.allow_torn;
    external.seed = flags.seed.unwrap_or(external.seed);
    if let Some(chaos) = &flags.chaos {
        external.chaos.clone_from(chaos);
    }
    for entry in entries {
        entry.speed = entry.speed.filter(|_| flags.speed.is_none());
        entry.looped = entry.looped.filter(|_| !flags.looped);
        entry.align = entry.align.filter(|_| flags.align.is_none());
        entry.allow_torn = entry.allow_torn.filter(|_| !flags.allow_torn);
        entry.seed = entry.seed.filter(|_| flags.seed.is_none());
        entry.chaos = entry.chaos.take().filter(|_| flags.chaos.is_none());
    }
    Ok(())
}

/// Gives each tape to its exchange. It replaces the tapes, or the market, of the file.
fn apply_tapes(
    config: &mut Config,
    flags: &MarketFlags,
    only: Option<ExchangeName>,
) -> Result<(), Failure> {
    let exchanges = config.exchanges();
    let mut given: Vec<(ExchangeName, Vec<PathBuf>)> = Vec::new();
    for tape in &flags.tape {
        let (name, path) = match split(tape, &exchanges) {
            Some((exchange, _)) if !exchange.run => {
                return Err(elsewhere(&format!("--tape {}", tape.display()), exchange.name));
            }
            Some((exchange, path)) => (exchange.name, path),
            None => (only.ok_or_else(|| whose(tape, config))?, tape.as_path()),
        };
        match given.iter_mut().find(|(other, _)| *other == name) {
            Some((_, tapes)) => tapes.push(path.to_owned()),
            None => given.push((name, vec![path.to_owned()])),
        }
    }
    for (name, tapes) in given {
        match config.exchange.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => (entry.tapes, entry.rate) = (Some(tapes), None),
            None => (config.external.tapes, config.external.rate) = (tapes, None),
        }
    }
    Ok(())
}

fn apply_rate(config: &mut Config, rate: u64, only: Option<ExchangeName>) -> Result<(), Failure> {
    config.external.rate = Some(rate);
    if config.exchange.is_empty() {
        config.external.tapes.clear();
        return Ok(());
    }
    let mut is_for_any = false;
    for entry in config.exchange.iter_mut().filter(|entry| entry.run) {
        let plays_tapes = entry.tapes.as_ref().is_some_and(|tapes| !tapes.is_empty());
        if only.map_or(!plays_tapes, |only| only == entry.name) {
            (entry.tapes, entry.rate, is_for_any) = (None, None, true);
        }
    }
    if is_for_any {
        return Ok(());
    }
    let problem =
        "--rate is for synthetic markets, and every [[exchange]] plays tapes; leave it out";
    Err(Failure::usage(problem))
}

/// The exchange that stands before a tape, and the path behind it.
fn split<'a>(tape: &'a Path, exchanges: &'a [Exchange]) -> Option<(&'a Exchange, &'a Path)> {
    let bytes = tape.as_os_str().as_bytes();
    let equals = bytes.iter().position(|&byte| byte == b'=')?;
    let (name, path) = (&bytes[..equals], Path::new(OsStr::from_bytes(&bytes[equals + 1..])));
    let is_it = |exchange: &&Exchange| exchange.name.to_string().as_bytes() == name;
    exchanges.iter().find(is_it).map(|exchange| (exchange, path))
}

/// What of the tapes is wanted.
fn selection(flags: &MarketFlags) -> Result<TapeSelection, Failure> {
    let from_ns = flags.from.map_or(0, |time| time.0);
    let to_ns = flags.to.map_or(u64::MAX, |time| time.0);
    if from_ns >= to_ns {
        let problem = "--from is not before --to, so nothing lies between them; exchange them";
        return Err(Failure::usage(problem));
    }
    let pattern = |symbol: &String| {
        feed::Pattern::new(symbol, 0)
            .map_err(|error| Failure::usage(format!("--symbol {symbol}: {error}")))
    };
    let symbols = flags.symbols.iter().map(pattern).collect::<Result<_, _>>()?;
    Ok(TapeSelection { from_ns, to_ns, symbols })
}

fn names(exchanges: &[Exchange]) -> String {
    let names: Vec<String> = exchanges.iter().map(|exchange| exchange.name.to_string()).collect();
    names.join(", ")
}

fn whose(tape: &Path, config: &Config) -> Failure {
    let own = config.own_exchanges();
    let (tape, first) =
        (tape.display(), own.first().map_or_else(String::new, |it| it.name.to_string()));
    Failure::usage(format!(
        "--tape {tape} does not say which exchange plays it; write --tape {first}={tape}, or another of {}",
        names(&own)
    ))
}

fn elsewhere(flag: &str, name: ExchangeName) -> Failure {
    Failure::usage(format!(
        "{flag}: somebody else runs {name}, as its [[exchange]] says by run = false; leave it out"
    ))
}

fn none_runs(what: &str) -> Failure {
    Failure::usage(format!(
        "no exchange runs here, since every [[exchange]] says run = false; leave out {what}"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::resolve::{Request, resolve};
    use super::super::tests::parse;
    use super::*;
    use crate::config::{NodeId, Speed};

    /// Two exchanges: one has a tape, the other a market.
    const TWO: &str = "[external]\nspeed = \"3\"\n\
                       [[exchange]]\nname = \"xnas\"\ntapes = [\"of-file\"]\nspeed = \"5\"\nseed = 40\nchaos = \"drop=0.1\"\n\
                       loop = false\nalign = \"clock\"\nallow_torn = false\n\
                       [[exchange]]\nname = \"xcme\"\nrate = 50\n";

    /// What a command is to do under a configuration.
    fn request(text: &str, arguments: &[&str]) -> Result<Request, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        fs::write(&file, text).unwrap();
        let arguments = [arguments, &["--config", file.to_str().unwrap()]].concat();
        let request = parse(&arguments).and_then(resolve);
        request.map_err(|failure| failure.message().unwrap().to_owned())
    }

    fn all(text: &str, flags: &[&str]) -> Config {
        match request(text, &[&["all"][..], flags].concat()) {
            Ok(Request::All(request)) => request.config,
            other => panic!("{flags:?}: {other:?}"),
        }
    }

    fn refusal(text: &str, arguments: &[&str]) -> String {
        let message = request(text, arguments).unwrap_err();
        assert!(!message.contains('\n'), "{message:?}");
        message
    }

    fn tapes(config: &Config) -> Vec<String> {
        let of = |it: Exchange| {
            let tapes: Vec<_> = it.played.tapes.iter().map(|it| it.display().to_string()).collect();
            format!("{}:{}", it.name, tapes.join(","))
        };
        config.exchanges().into_iter().map(of).collect()
    }

    #[test]
    fn a_tape_goes_to_the_exchange_that_it_names() {
        let flags = ["--tape", "xcme=a=b", "xnas=c", "xcme=/x/y.dbn"];
        assert_eq!(tapes(&all(TWO, &flags)), ["xnas:c", "xcme:a=b,/x/y.dbn"]);
        assert_eq!(tapes(&all(TWO, &["--tape", "xcme=a"])), ["xnas:of-file", "xcme:a"]);
        // Of one exchange it need not be said, and what is no name belongs to the path.
        let one = "[[exchange]]\nname = \"xnas\"\nrate = 7\n";
        assert_eq!(tapes(&all(one, &["--tape", "a", "xnas=b", "xcme=c"])), ["xnas:a,b,xcme=c"]);
        let none = ["--tape", "exchange=a", "xnas=b", "=c"];
        assert_eq!(tapes(&all("[external]\nrate = 7\n", &none)), ["exchange:a,xnas=b,=c"]);
        for flags in [&["--tape", "a"][..], &["--tape", "xnas=a", "b"], &["--tape", "XNAS=a"]] {
            let message = refusal(TWO, &[&["all"][..], flags].concat());
            assert!(
                message.contains("which exchange") && message.contains("xnas, xcme"),
                "{message}"
            );
        }
        let away = format!("{TWO}[[exchange]]\nname = \"away\"\nrun = false\naddress = 5\n");
        let message = refusal(&away, &["all", "--tape", "away=a"]);
        assert!(message.contains("--tape away=a: somebody else runs away"), "{message}");
    }

    #[test]
    fn a_flag_holds_for_all_that_run_here_and_outweighs_the_file() {
        let flags =
            ["--speed", "max", "--loop", "--chaos", "off", "--seed", "7", "--align", "start"];
        for exchange in all(TWO, &[&flags[..], &["--allow-torn"]].concat()).exchanges() {
            let played = exchange.played;
            assert_eq!((played.speed, played.chaos.as_str()), (Speed::Max, "off"));
            assert!(played.looped && played.allow_torn);
            assert_eq!(played.align, crate::config::Align::Start);
            assert_eq!(played.seed, if exchange.name.to_string() == "xnas" { 7 } else { 8 });
        }
        let [xnas, xcme] = &all(TWO, &[]).exchanges()[..] else { panic!() };
        assert_eq!(xnas.played.speed.to_string(), "5");
        assert_eq!(xcme.played.speed.to_string(), "3");
        assert_eq!((xnas.played.seed, xcme.played.seed), (40, 2));
        let symbols = all(TWO, &["--tape", "xnas=a", "--symbol", "A*"]).exchanges();
        assert!(symbols.iter().all(|it| it.played.selection.symbols.len() == 1));
    }

    #[test]
    fn a_rate_is_for_markets_and_makes_one_of_a_lone_exchange() {
        let rates = |config: &Config| -> Vec<Option<u64>> {
            config.exchanges().into_iter().map(|exchange| exchange.played.rate).collect()
        };
        let two = all(TWO, &["--rate", "9"]);
        assert_eq!((rates(&two), tapes(&two)), (vec![None, Some(9)], tapes(&all(TWO, &[]))));
        let tape = "[[exchange]]\nname = \"xnas\"\ntapes = [\"a\"]\n";
        let one = all(tape, &["--rate", "9"]);
        assert_eq!((rates(&one), tapes(&one)), (vec![Some(9)], vec!["xnas:".to_owned()]));
        let both = format!("{tape}[[exchange]]\nname = \"xcme\"\ntapes = [\"b\"]\n");
        assert!(
            refusal(&both, &["all", "--rate", "9"]).contains("--rate is for synthetic markets")
        );
        let Ok(Request::Node { request, .. }) =
            request(TWO, &["external", "--exchange", "xnas", "--rate", "9"])
        else {
            panic!()
        };
        assert_eq!(rates(&request.config), [Some(9), Some(50)]);
    }

    #[test]
    fn one_exchange_is_run_by_its_name() {
        let node = |text: &str, flags: &[&str]| match request(
            text,
            &[&["external"][..], flags].concat(),
        ) {
            Ok(Request::Node { request, .. }) => {
                (request.node.to_string(), request.address.port(), tapes(&request.config))
            }
            other => panic!("{flags:?}: {other:?}"),
        };
        let (name, port, played) = node(TWO, &["--exchange", "xcme", "--tape", "a"]);
        assert_eq!((name.as_str(), port), ("xcme", 8180));
        assert_eq!(played, ["xnas:of-file", "xcme:a"], "the tape needs no name then");
        let one = "[[exchange]]\nname = \"xnas\"\n";
        assert_eq!(node(one, &[]).0, "xnas");
        assert_eq!(node("", &["--exchange", "exchange"]).0, NodeId::External.to_string());
        let away = "[[exchange]]\nname = \"away\"\nrun = false\naddress = 5\n";
        for (text, flags, part) in [
            (TWO, &[][..], "--exchange: xnas, xcme"),
            (
                TWO,
                &["--exchange", "xnys"],
                "--exchange xnys: no exchange is called so; there are: xnas, xcme",
            ),
            (TWO, &["--exchange", "external"], "choose another name"),
            ("", &["--exchange", "xnas"], "there are: exchange"),
            (away, &["--exchange", "away"], "somebody else runs away"),
            (away, &[], "no exchange runs here"),
        ] {
            let message = refusal(text, &[&["external"][..], flags].concat());
            assert!(message.contains(part), "{flags:?} gave: {message}");
        }
        let message = refusal(away, &["all", "--chaos", "off"]);
        assert!(message.contains("no exchange runs here"), "{message}");
        assert_eq!(all(away, &[]).own_exchanges(), []);
    }
}
