//! The flags of `verify`, `dump`, `export`, `recover` and `repartition`. The comments are the help text.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::rows::Rows;
use crate::cli::args::{ConfigFlag, DataDirFlag, Format, ReplicasFlag};
use crate::parse::{Pattern, whole_number};

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
    /// The feed that the exchange plays: `feed.identity` of `pregao status --verbose`; 0: it begins a new one
    #[arg(long, value_name = "HEX", requires = "from_shards", value_parser = feed_identity)]
    pub(in crate::cli) feed: Option<u64>,
    /// The next number that core wants of the exchange, where it cannot be counted
    #[arg(long, value_name = "N", requires = "feed", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) feed_next: Option<u64>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: Format,
}

fn feed_identity(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "a feed is up to 16 hexadecimal digits".to_owned())
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
