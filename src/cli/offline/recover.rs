//! `pregao recover`: which history each log of a data directory holds, and what makes them one history again.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::places::{Logs, NodeLog, log_config, now, wake};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::client::random_id;
use crate::config::{Config, ExchangeName};
use crate::log::inspect::Reader;
use crate::log::rebuild::{
    FeedPlaces, GoesOn, PlanError, Rebuilt, Relation, Standing, follow_journal, plan,
    plan_to_follow, plan_to_go_on, rebuild_journal, relation,
};
use crate::log::{Sequence, UpstreamRule};
use crate::storage::{FileStorage, Places};
use crate::supervisor::lock::DataLock;

/// The name of core's log.
const CORE: &str = "core";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Say how it is.
    Report,
    /// The journal is rebuilt from what the shards hold. Where core goes on at exchanges, if the logs do not say it.
    FromShards(FeedPlaces),
    /// Who does not continue the journal gives up what it has.
    FollowJournal,
    /// A shard's log is set aside, and core feeds it anew.
    Reset(String),
}

/// A checked `recover`.
#[derive(Clone, Debug)]
pub struct RecoverRequest {
    /// The data directory.
    pub dir: PathBuf,
    /// How new logs are kept.
    pub config: Config,
    /// What is to be done.
    pub remedy: Remedy,
    /// How it is shown.
    pub format: Format,
}

/// Reports, or mends.
///
/// # Errors
/// When a node runs, or nothing can be mended.
pub fn run(request: &RecoverRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let places = Places::new(&request.dir);
    if request.remedy == Remedy::Report {
        return report(request, output);
    }
    // Nothing is made where there is no data.
    Logs::find(&request.dir)?;
    let _no_system = DataLock::take(&request.dir).map_err(Failure::failed)?;
    // Held until the end: no node may begin meanwhile.
    let mut logs = Logs::find(&request.dir)?;
    logs.hold()?;
    if finish_interrupted(request, &places, output)? {
        drop(logs);
        logs = Logs::find(&request.dir)?;
        logs.hold()?;
    }
    mend(request, &places, logs, output)
}

/// Gives a journal its place that an earlier run has made and not put there. Whether it did.
fn finish_interrupted(
    request: &RecoverRequest,
    places: &Places,
    output: &mut Output<impl Write>,
) -> Result<bool, Failure> {
    let pending = places.pending().map_err(Failure::failed)?;
    if !pending.iter().any(|(name, is_whole)| name == CORE && *is_whole) {
        return Ok(false);
    }
    let replaced = places.put_in_place(CORE).map_err(Failure::failed)?;
    let done = Done { kind: "finished", node: CORE, replaced, ..Done::default() };
    done.show(request.format, output)?;
    Ok(true)
}

fn mend(
    request: &RecoverRequest,
    places: &Places,
    logs: Logs,
    output: &mut Output<impl Write>,
) -> Result<Exit, Failure> {
    match &request.remedy {
        Remedy::Report => {}
        Remedy::Reset(node) => reset(request, places, &logs, node, output)?,
        Remedy::FromShards(feeds) => from_shards(request, places, logs, feeds, output)?,
        Remedy::FollowJournal => follow(request, places, logs, output)?,
    }
    Ok(Exit::Complete)
}

fn reset(
    request: &RecoverRequest,
    places: &Places,
    logs: &Logs,
    node: &str,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    if !logs.shards.iter().any(|shard| shard.name == node) {
        let there: Vec<&str> = logs.shards.iter().map(|shard| shard.name.as_str()).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(Failure::usage(format!("no shard {node:?} here; there is {there}")));
    }
    let replaced = places.set_aside(node).map_err(Failure::failed)?;
    Done { kind: "reset", node, replaced: Some(replaced), ..Done::default() }
        .show(request.format, output)
}

fn from_shards(
    request: &RecoverRequest,
    places: &Places,
    logs: Logs,
    feeds: &FeedPlaces,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    logs.all_readable()?;
    let standings: Vec<Standing> = logs.shards.iter().map(NodeLog::standing).collect();
    let journal = logs.core.as_ref().map(NodeLog::standing);
    let mut plan = match plan(journal.as_ref(), &standings) {
        // No shard has anything of the end that is missing.
        Err(PlanError::NothingToDo) if logs.core.as_ref().is_some_and(NodeLog::is_end_missing) => {
            return follow(request, places, logs, output);
        }
        planned => planned.map_err(Failure::failed)?,
    };
    if plan.journal_id == 0 {
        plan.journal_id = random_id();
    }
    if has_nameless(&request.config) && feeds.nameless.is_none() {
        return Err(Failure::usage(
            "say with --feed which feed the exchange plays: what the shards hold does not tell, and core must not \
             take its frames twice. `pregao status --verbose` has it as `feed.identity` of the exchange, core's \
             log where a session begins; --feed 0 when the exchange begins a new one",
        ));
    }
    let mut shards = Vec::new();
    for (shard, standing) in logs.shards.into_iter().zip(standings) {
        let reader = Reader::new(shard.files, &shard.outline).map_err(Failure::failed)?;
        if let Some(error) = reader.unsettled() {
            return Err(Failure::failed(format!("{}: {error}", standing.name)));
        }
        shards.push((standing, reader));
    }
    eprintln!(
        "the journal is kept below seq {}, and rebuilt from the shards up to seq {}",
        plan.keep_below_seq,
        plan.end_seq.saturating_sub(1)
    );
    let made = places.begin(CORE).map_err(Failure::failed)?;
    let storage = FileStorage::open(&made, wake()).map_err(Failure::failed)?;
    let config = journal_config(&request.config);
    let (outline, files) = match logs.core {
        Some(core) => (Some(core.outline), Some(core.files)),
        None => (None, None),
    };
    let journal = files.zip(outline.as_ref());
    let ids = (feeds, random_id());
    let rebuilt = rebuild_journal(storage, config, &plan, journal, shards, ids, now())
        .map_err(Failure::failed)?;
    super::places::check(&made, CORE)?;
    places.finish(CORE).map_err(Failure::failed)?;
    let replaced = places.put_in_place(CORE).map_err(Failure::failed)?;
    Done::of("rebuilt", &rebuilt, replaced).show(request.format, output)
}

fn follow(
    request: &RecoverRequest,
    places: &Places,
    logs: Logs,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    let Some(core) = logs.core else {
        return Err(Failure::failed(
            "there is no journal to follow; rebuild it with `pregao recover --from-shards`",
        ));
    };
    let standings: Vec<Standing> = logs.shards.iter().map(NodeLog::standing).collect();
    let is_short = core.is_end_missing();
    let plan = match plan_to_follow(&core.standing(), &standings) {
        // What is left of the journal goes on, though every shard continues it.
        Err(PlanError::NothingToDo) if is_short => plan_to_go_on(&core.standing()),
        planned => planned.map_err(Failure::failed)?,
    };
    let config = journal_config(&request.config);
    let open = |path| FileStorage::open(path, wake()).map_err(Failure::failed);
    let follow = |storage, source| {
        follow_journal(storage, config, &plan, source, random_id(), now()).map_err(Failure::failed)
    };
    if !is_short {
        // The lock is this program's own, and nobody else can have taken it before this.
        core.release();
        let rebuilt = follow(open(&places.of(CORE))?, None)?;
        return Done::of("followed", &rebuilt, None).show(request.format, output);
    }
    let made = places.begin(CORE).map_err(Failure::failed)?;
    let rebuilt = follow(open(&made)?, Some((core.files, &core.outline)))?;
    super::places::check(&made, CORE)?;
    places.finish(CORE).map_err(Failure::failed)?;
    let replaced = places.put_in_place(CORE).map_err(Failure::failed)?;
    Done::of("followed", &rebuilt, replaced).show(request.format, output)
}

/// Whether an exchange is configured whose instruments have no venue.
fn has_nameless(config: &Config) -> bool {
    config.exchanges().iter().any(|exchange| exchange.name == ExchangeName::nameless())
}

fn journal_config(config: &Config) -> crate::log::LogConfig {
    log_config(config, CORE, UpstreamRule::CountAppended, Sequence::Contiguous)
}

/// Says of each log what it holds, and what would mend it.
fn report(request: &RecoverRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let logs = Logs::find(&request.dir)?;
    let journal = logs.core.as_ref().map(NodeLog::standing);
    let mut worst = Exit::Complete;
    let mut rows = Vec::new();
    match &logs.core {
        None => {
            worst = Exit::Failed;
            let state = "there is no journal".to_owned();
            rows.push(Row { node: CORE.to_owned(), state, is_well: false, ..Row::default() });
        }
        Some(core) => {
            let refusal = core.outline.refusal().map(ToString::to_string);
            if refusal.is_some() {
                worst = Exit::Failed;
            }
            let is_well = refusal.is_none();
            rows.push(Row::of(core, refusal.unwrap_or_else(|| "the journal".to_owned()), is_well));
        }
    }
    for shard in &logs.shards {
        let related = journal.as_ref().map(|journal| relation(journal, &shard.standing()));
        let is_well =
            matches!(related, Some(Relation::Empty | Relation::Continues | Relation::GivesUp(_)));
        if !is_well {
            worst = worst.max(Exit::Partial);
        }
        rows.push(Row::of(shard, relation_text(related, shard), is_well));
    }
    let is_core_well = rows.first().is_some_and(|row| row.is_well);
    let are_shards_well = rows.iter().skip(1).all(|row| row.is_well);
    let feed = if has_nameless(&request.config) { " --feed HEX" } else { "" };
    let dir = request.dir.display().to_string();
    let remedies = remedies(&dir, feed, is_core_well, are_shards_well);
    for row in &rows {
        output.line(&match request.format {
            Format::Json => crate::render::json_line(row),
            Format::Table => row.sentence(),
        })?;
    }
    for (command, effect) in remedies {
        output.line(&match request.format {
            Format::Json => {
                let kind = "remedy";
                crate::render::json_line(&RemedyJson { kind, command: &command, effect })
            }
            Format::Table => format!("  {command}\n      {effect}"),
        })?;
    }
    Ok(worst)
}

fn relation_text(related: Option<Relation>, shard: &NodeLog) -> String {
    let last = shard.standing().next_seq.saturating_sub(1);
    match related {
        None => format!("holds up to seq {last}, and there is no journal"),
        Some(Relation::Empty) => "is empty: core feeds it from the beginning".to_owned(),
        Some(Relation::Continues) => "continues the journal".to_owned(),
        Some(Relation::GivesUp(seq)) => {
            format!(
                "gives up what it has from seq {seq} on when core comes, as an operator decided"
            )
        }
        Some(Relation::IsAhead(seq)) => {
            format!("holds seq {seq} to {last}, which the journal does not have")
        }
        Some(Relation::IsOther) => "holds a history that is not the journal's".to_owned(),
    }
}

fn remedies(
    dir: &str,
    feed: &str,
    is_core_well: bool,
    are_shards_well: bool,
) -> Vec<(String, &'static str)> {
    let mut remedies = Vec::new();
    if is_core_well && are_shards_well {
        return remedies;
    }
    remedies.push((
        format!("pregao recover --data-dir {dir} --from-shards{feed}"),
        "rebuilds the end of the journal from what the shards hold: nothing that a shard holds is lost",
    ));
    remedies.push((
        format!("pregao recover --data-dir {dir} --follow-journal"),
        "goes on with the journal as it is: followers give up what it does not have, and say so",
    ));
    if !are_shards_well {
        remedies.push((
            format!("pregao recover --data-dir {dir} --reset NODE"),
            "sets the log of one shard aside: core feeds it anew, as far as the journal goes back",
        ));
    }
    remedies
}

#[derive(Debug, Default, Serialize)]
struct Row {
    kind: &'static str,
    node: String,
    journal_id: Option<String>,
    epoch: u32,
    epoch_id: Option<String>,
    next_seq: u64,
    in_use: bool,
    is_well: bool,
    state: String,
}

impl Row {
    fn of(log: &NodeLog, state: String, is_well: bool) -> Row {
        let standing = log.standing();
        let hex = |id: u64| (id != 0).then(|| format!("{id:016x}"));
        Row {
            kind: "node",
            node: log.name.clone(),
            journal_id: hex(standing.lineage.journal_id()),
            epoch: standing.epoch,
            epoch_id: hex(standing.epoch_id),
            next_seq: standing.next_seq,
            in_use: log.files.is_in_use(),
            is_well,
            state,
        }
    }

    fn sentence(&self) -> String {
        let mark = if self.is_well { "ok" } else { "NOT OK" };
        let epoch_id = self.epoch_id.as_deref().unwrap_or("-");
        let in_use = if self.in_use { "; in use" } else { "" };
        format!(
            "{:<10} {mark}: {}; next seq {}, epoch {} ({epoch_id}){in_use}",
            self.node, self.state, self.next_seq, self.epoch
        )
    }
}

#[derive(Serialize)]
struct RemedyJson<'a> {
    kind: &'static str,
    command: &'a str,
    effect: &'static str,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done<'a> {
    kind: &'static str,
    node: &'a str,
    /// The name of the directory that has what was there before.
    replaced: Option<String>,
    kept_below_seq: Option<u64>,
    frames: Option<u64>,
    lost: Option<u64>,
    next_seq: Option<u64>,
    epoch: Option<u32>,
    upstream_seq: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<GoesOnJson>,
}

/// Where core goes on at an exchange with a name.
#[derive(Debug, Serialize)]
struct GoesOnJson {
    name: String,
    feed: String,
    next_seq: u64,
    is_uncertain: bool,
    is_told: bool,
}

impl GoesOnJson {
    fn of(it: &GoesOn) -> GoesOnJson {
        GoesOnJson {
            name: it.name.clone(),
            feed: format!("{:016x}", it.feed),
            next_seq: it.next_seq,
            is_uncertain: it.is_uncertain,
            is_told: it.is_told,
        }
    }

    fn sentence(&self) -> String {
        let why = if self.is_told { "as you say" } else { "as the logs say" };
        let loss = match self.is_uncertain {
            true => "; frames of it may be lost before that, and core tells it",
            false => "",
        };
        let (name, feed, next_seq) = (&self.name, &self.feed, self.next_seq);
        format!("{name} goes on at {next_seq} of feed {feed}, {why}{loss}")
    }
}

impl Done<'_> {
    fn of(kind: &'static str, rebuilt: &Rebuilt, replaced: Option<String>) -> Done<'static> {
        Done {
            kind,
            node: CORE,
            replaced,
            kept_below_seq: Some(rebuilt.kept_below_seq),
            frames: Some(rebuilt.frames),
            lost: Some(rebuilt.lost),
            next_seq: Some(rebuilt.next_seq),
            epoch: Some(rebuilt.epoch),
            // A journal that knows no exchange without a name says no place of it.
            upstream_seq: Some(rebuilt.upstream).filter(|it| *it != (0, 1)).map(|it| it.1),
            exchanges: rebuilt.exchanges.iter().map(GoesOnJson::of).collect(),
        }
    }

    fn show(&self, format: Format, output: &mut Output<impl Write>) -> Result<(), Failure> {
        if format == Format::Json {
            return output.line(&crate::render::json_line(self));
        }
        let mut text = format!("{} {}", self.node, self.kind);
        if let (Some(kept), Some(frames), Some(next)) =
            (self.kept_below_seq, self.frames, self.next_seq)
        {
            text.push_str(&format!(
                ": kept below seq {kept}, {frames} frames from the shards, next seq {next}"
            ));
        }
        if let Some(upstream_seq) = self.upstream_seq.filter(|_| self.kind == "rebuilt") {
            text.push_str(&format!(", number {upstream_seq} of the exchange's feed"));
        }
        if let Some(lost) = self.lost.filter(|lost| *lost > 0) {
            text.push_str(&format!(", {lost} numbers that no shard has"));
        }
        if let Some(replaced) = &self.replaced {
            text.push_str(&format!("; what was there before is {replaced}"));
        }
        output.line(&text)?;
        self.exchanges.iter().try_for_each(|it| output.line(&it.sentence()))
    }
}
