//! The flags of `verify`, `dump`, `export`, `recover` and `repartition`. The comments are the help text.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::rows::Rows;
use crate::cli::args::{ConfigFlag, DataDirFlag, Format, ReplicasFlag};
use crate::log::rebuild::{FeedPlace, FeedPlaces};
use crate::market::venue::check_exchange_name;
use crate::node::sequencer::ExchangeConfig;
use crate::parse::{Pattern, whole_number};
use crate::wire::Seq;

/// Check every record of a log without opening it
///
/// DIR is a data directory (every log below it is checked) or the directory of one log. Nothing is
/// locked or changed, and a running system may go on: its logs are judged up to what is written.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 everything is there; 3 something is missing, and an open goes on without it (a tail \
torn by a crash, a missing segment); 4 durable bytes are damaged, an open would refuse, or it cannot be \
read.")]
pub(in crate::cli) struct VerifyFlags {
    /// Data directory, or directory of one log
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,
    /// How findings are shown; json: one object per finding, and one per log
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Say whether the logs of a data directory are one history, or make them one
///
/// Without a choice nothing is changed: each log is shown with what it holds, and the commands that would mend
/// it. With one, no node may run. What is replaced is renamed (core.replaced-1), never removed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all logs are one history, or it is done; 3 a shard does not continue the journal; 4 core cannot \
open its journal, or nothing could be mended.")]
pub(in crate::cli) struct RecoverFlags {
    #[command(flatten)]
    pub(in crate::cli) config: ConfigFlag,
    #[command(flatten)]
    pub(in crate::cli) data_dir: DataDirFlag,
    /// Rebuild the end of core's journal, or all of it, from what the shards hold
    #[arg(long, conflicts_with_all = ["follow_journal", "reset"])]
    pub(in crate::cli) from_shards: bool,
    /// Go on with the journal as it is: followers give up what it does not have
    #[arg(long, conflicts_with = "reset")]
    pub(in crate::cli) follow_journal: bool,
    /// Set the log of this shard aside: core feeds it anew
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) reset: Option<String>,
    /// The feed that an exchange plays, as HEX or NAME=HEX, and behind a `:` where core goes on in it, as HEX:N or
    /// NAME=HEX:N. Without NAME: the exchange that has none. HEX is `feed.identity` of `pregao status --verbose`, or 0:
    /// it begins a new one. An exchange with a name that is left out goes on where the logs say
    #[arg(long, value_name = "[NAME=]HEX[:N]", requires = "from_shards")]
    pub(in crate::cli) feed: Vec<FeedFlag>,
    /// The next number that core wants of the exchange without a name, where it cannot be counted
    #[arg(long, value_name = "N", requires = "feed", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) feed_next: Option<u64>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Where core goes on at one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct FeedFlag {
    /// `None`: the one without a name.
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) place: FeedPlace,
}

impl FromStr for FeedFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<FeedFlag, String> {
        let (name, place) = match text.split_once('=') {
            None => (None, text),
            Some((name, place)) => {
                check_exchange_name(name).map_err(|error| error.to_string())?;
                (Some(name.to_owned()), place)
            }
        };
        let name = name.filter(|name| name != ExchangeConfig::NAMELESS);
        let (feed, next_seq) = match place.split_once(':') {
            None => (place, None),
            Some((feed, next_seq)) => (feed, Some(next_seq)),
        };
        // Rust also reads a sign.
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let feed = u64::from_str_radix(feed, 16)
            .ok()
            .filter(|_| is_plain(feed))
            .ok_or_else(|| format!("{feed:?} is no feed: it is up to 16 hexadecimal digits"))?;
        let number = |text: &str| {
            let number = text.parse::<u64>().ok().filter(|_| is_plain(text));
            let number = number.filter(|number| (1..Seq::LAST.get()).contains(number));
            number.ok_or_else(|| format!("{text:?} is no place in a feed: numbers begin at 1"))
        };
        let next_seq = next_seq.map(number).transpose()?;
        Ok(FeedFlag { name, place: FeedPlace { feed, next_seq } })
    }
}

/// What these flags say together.
///
/// # Errors
/// When one exchange is named twice.
pub(in crate::cli) fn feed_places(
    feeds: Vec<FeedFlag>,
    next_seq: Option<u64>,
) -> Result<FeedPlaces, String> {
    let mut places = FeedPlaces::default();
    for FeedFlag { name, place } in feeds {
        let shown = name.clone().unwrap_or_else(|| "the exchange without a name".to_owned());
        let before = match name {
            None => places.nameless.replace(place),
            Some(name) => places.named.insert(name, place),
        };
        if before.is_some() {
            return Err(format!("--feed says the place of {shown} twice; say it once"));
        }
    }
    if let Some(next_seq) = next_seq {
        let nameless = places.nameless.as_mut();
        let nameless = nameless.ok_or(
            "--feed-next is of the exchange without a name; say the number of another one with --feed NAME=HEX:N",
        )?;
        if nameless.next_seq.replace(next_seq).is_some() {
            return Err("--feed and --feed-next both say a number; say it once".to_owned());
        }
    }
    Ok(places)
}

/// Move the shards' history to the partition that the configuration says
///
/// No node may run. New logs are made beside the old ones, read again and compared, and then take their places.
/// What was there before is renamed (shard-A.replaced-1), never removed. When it is interrupted, run it again.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 moved; 2 nothing is to be moved, or the configuration is wrong; 3 moved, and what an old log had \
lost is told by the new ones too; 4 not moved.")]
pub(in crate::cli) struct RepartitionFlags {
    #[command(flatten)]
    pub(in crate::cli) config: ConfigFlag,
    #[command(flatten)]
    pub(in crate::cli) data_dir: DataDirFlag,
    #[command(flatten)]
    pub(in crate::cli) replicas: ReplicasFlag,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Write a data directory of an earlier program again, for this one
///
/// No node may run on OLD. Besides its locks, it is only read. NEW gets the same frames, numbers, identities and
/// losses, in the format of this program. It gets its name when all of it is there. Programs of one version work
/// with each other: convert when no other node of the system runs the earlier one any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 converted; 2 OLD is no data directory, or NEW exists; 4 not converted.")]
pub(in crate::cli) struct ConvertFlags {
    /// Data directory of the earlier program
    #[arg(value_name = "OLD")]
    pub(in crate::cli) old: PathBuf,
    /// Data directory to make
    #[arg(value_name = "NEW")]
    pub(in crate::cli) new: PathBuf,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

/// Which records of which log.
#[derive(Debug, Args)]
pub(in crate::cli) struct Selection {
    /// Data directory, or directory of one log
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,
    /// Which log of a data directory: core, shard-A, …, or shards for all shards as one sequence, each
    /// frame once [default: core when it is there, else shards]
    #[arg(long, value_name = "LOG")]
    pub(in crate::cli) log: Option<String>,
    /// PETR4, PETR*, *, or one of these behind trade., quote. or cancel. [default: everything]
    #[arg(long = "symbol", value_name = "PATTERN")]
    pub(in crate::cli) symbols: Vec<Pattern>,
    /// Records of this kind only; may be given more than once
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    pub(in crate::cli) kinds: Vec<Rows>,
    /// First sequence number wanted
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(in crate::cli) from: u64,
    /// Sequence numbers before this one [default: all]
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    pub(in crate::cli) to: u64,
}

/// Show the records of a log without opening it
///
/// Nothing is locked or changed, and a running system may go on. Frames that a later epoch made void
/// are left out, and so are definitions unless --kind asks for them: every record shows its symbol.
/// What cannot be read is shown as a gap, and the exit code is 3.
#[derive(Debug, Args)]
pub(in crate::cli) struct DumpFlags {
    #[command(flatten)]
    pub(in crate::cli) selection: Selection,
    /// Stop after so many records
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = whole_number::<u64>(1, u64::MAX))]
    pub(in crate::cli) limit: Option<u64>,
    /// Show the log's own marks too
    #[arg(long)]
    pub(in crate::cli) marks: bool,
    /// How records are shown
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: DumpFormat,
}

/// How records are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// Aligned text.
    #[default]
    Table,
    /// One object a line, as `subscribe --format json` shows it.
    Json,
    /// Comma-separated, the columns of all kinds in one header.
    Csv,
}

/// Write a log's records as files for other programs
///
/// Makes OUT/kind=trade/date=2012-06-21/symbol=AMZN/part-00000.parquet and the like; the date is that
/// of the event, UTC, and a symbol's characters are percent-encoded where a path needs it. Times are
/// nanoseconds UTC, prices exact decimals. Nothing is locked or changed in DIR, and a running system
/// may go on: what is written until then is made durable first and exported. Frames that a later epoch
/// made void are left out. Exit code 3: something could not be read, and was left out.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportFlags {
    #[command(flatten)]
    pub(in crate::cli) selection: Selection,
    /// What to write; parquet needs a program built with `--features parquet`
    #[arg(long, value_enum)]
    pub(in crate::cli) format: ExportFormat,
    /// Directory to write to: a new or an empty one
    #[arg(long, value_name = "OUT")]
    pub(in crate::cli) out: PathBuf,
    /// Remove an earlier export from OUT first, and nothing else
    #[arg(long)]
    pub(in crate::cli) overwrite: bool,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Apache Parquet, compressed with zstd.
    Parquet,
    /// Comma-separated, with a header in each file.
    Csv,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(feeds: &[&str], next_seq: Option<u64>) -> Result<FeedPlaces, String> {
        let feeds: Result<Vec<FeedFlag>, String> = feeds.iter().map(|it| it.parse()).collect();
        feed_places(feeds?, next_seq)
    }

    fn at(feed: u64, next_seq: Option<u64>) -> FeedPlace {
        FeedPlace { feed, next_seq }
    }

    #[test]
    fn a_place_is_of_a_name_or_of_the_exchange_that_has_none() {
        let read = |feeds: &[&str], next_seq| {
            let places = places(feeds, next_seq).unwrap();
            (places.nameless, places.named.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(read(&[], None), (None, vec![]));
        assert_eq!(read(&["19c05f27EE8A4B63"], None).0, Some(at(0x19c0_5f27_ee8a_4b63, None)));
        for told in ["1f:77", "exchange=1f:77"] {
            assert_eq!(read(&[told], None).0, Some(at(0x1f, Some(77))));
        }
        assert_eq!(read(&["1f"], Some(77)).0, Some(at(0x1f, Some(77))));
        let (nameless, named) = read(&["xnas=1f:77", "xcme=0", "12"], Some(3));
        let wanted = [("xcme", at(0, None)), ("xnas", at(0x1f, Some(77)))];
        assert_eq!(named, wanted.map(|(name, at)| (name.to_owned(), at)));
        assert_eq!(nameless, Some(at(0x12, Some(3))));
    }

    #[test]
    fn what_is_no_place_is_refused_and_so_is_one_said_twice() {
        for (feeds, next_seq, why) in [
            (&["xnas=1f", "xnas=1f:3"][..], None, "the place of xnas twice"),
            (&["1f", "exchange=1f"], None, "the exchange without a name twice"),
            (&["1f:3"], Some(3), "--feed and --feed-next both say a number"),
            (&["xnas=1f:3"], Some(3), "--feed NAME=HEX:N"),
            (&["xnas=1f:0"], None, "\"0\" is no place in a feed"),
            (&["xnas=1f:18446744073709551615"], None, "is no place in a feed"),
            (&["xnas=1f:+3"], None, "\"+3\" is no place in a feed"),
            (&["xnas=1f:"], None, "\"\" is no place in a feed"),
            (&["xnas="], None, "\"\" is no feed"),
            (&["xnas=+1"], None, "\"+1\" is no feed"),
            (&["xnas=12345678901234567"], None, "up to 16 hexadecimal digits"),
            (&["=1f"], None, "is no name of an exchange"),
            (&["core=1f"], None, "is what a node or a breaker is called"),
        ] {
            let refused = places(feeds, next_seq).unwrap_err();
            assert!(refused.contains(why), "{feeds:?}: {refused}");
        }
    }
}
