//! What `verify`, `dump` and `export` make of a simulated disk: they read the files without opening the log,
//! and must come to what an open comes to. What they cannot give they must say.

use std::collections::BTreeMap;

use pregao::log::inspect::{
    Finding, Item, Outline, Reader, Summary, Union, Verdict, Watch, verify,
};
use pregao::log::memory::MemoryDisk;
use pregao::wire::Frame;

use crate::plan::Day;
use crate::road::SHARDS;
use crate::stored::Stored;
use crate::world::{Host, World};

/// What the tools were given.
#[derive(Default)]
struct Given {
    frames: Vec<Frame>,
    /// First and last seq of what they say is lost.
    lost: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Watch for Findings {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }

    fn passed(&mut self, _bytes: u64) {}
}

fn outline(host: &Host, disk: &MemoryDisk) -> Outline {
    let name = host.spec.log_config().name;
    Outline::of(&mut disk.clone(), Some(name)).expect("a disk in memory can be read")
}

fn judged(disk: &MemoryDisk, outline: &Outline) -> (Summary, Vec<Finding>) {
    let mut found = Findings::default();
    let summary = verify(&mut disk.clone(), outline, false, &mut found);
    (summary.expect("a disk in memory can be read"), found.0)
}

/// Everything that `dump` and `export` would be given.
fn read(disks: &[(MemoryDisk, Outline)]) -> Given {
    let readers = disks.iter().map(|(disk, outline)| Reader::new(disk.clone(), outline).unwrap());
    let mut union = Union::new(readers.collect());
    let mut given = Given::default();
    while let Some(item) = union.next_item().unwrap() {
        match item {
            Item::Data(frame) => given.frames.push(frame),
            Item::Hole(from_seq, to_seq) | Item::Lost { from_seq, to_seq, .. } => {
                given.lost.push((from_seq, to_seq));
            }
            Item::Statement(_) | Item::Mark(..) | Item::Epoch(..) => {}
        }
    }
    given
}

impl World {
    /// Looks at a host's disk from outside, and holds that against what an open `found`.
    pub(crate) fn watch_from_outside(
        &self,
        host: usize,
        disk: &MemoryDisk,
        found: &Option<Stored>,
    ) {
        let known = &self.hosts[host];
        let name = &known.name;
        let outline = outline(known, disk);
        let Some(found) = found else {
            let is_refused = outline.refusal().is_some();
            let text = || format!("an open refuses {name}'s log, and `verify` does not say so");
            return self.hold(is_refused, "tools-and-open-agree", text);
        };
        let refusal = outline.refusal();
        self.hold(refusal.is_none(), "tools-and-open-agree", || format!("{name}: {refusal:?}"));
        let (summary, findings) = judged(disk, &outline);
        let is_same = summary.damaged_records == found.damaged && summary.epoch == found.epoch.0;
        self.hold(is_same, "tools-and-open-agree", || {
            format!("{name} has {} damaged records; `verify` says {summary:?}", found.damaged)
        });
        let has_rot = summary.damaged_records > 0;
        let is_said = findings.iter().any(|finding| finding.records > 0) || !has_rot;
        self.hold(
            (summary.verdict == Verdict::Corrupt) == has_rot && is_said,
            "rot-is-said",
            || format!("{name}: {summary:?} {findings:?}"),
        );
        let is_lost = !found.holes.is_empty() || summary.cut_records > 0 || has_rot;
        self.hold((summary.verdict == Verdict::Clean) != is_lost, "tools-tell-losses", || {
            format!("{name}: {summary:?} {findings:?}")
        });
        let given = read(&[(disk.clone(), outline)]);
        self.hold(given.frames == found.live, "tools-give-what-an-open-gives", || {
            let (given, live) = (given.frames.len(), found.live.len());
            format!("{given} frames of {name} are given, and {live} are there")
        });
        let is_told = |seq: u64| given.lost.iter().any(|&(from, to)| (from..=to).contains(&seq));
        let ends = found.holes.iter().flat_map(|&(from, to)| [from, to]);
        let behind = found.live.last().map_or(0, |frame| frame.seq.get());
        // What rotted when it was void already is no loss, and may stand again; what is before the first
        // record was removed, and behind the last one it may have been void.
        let rotten = known.rotten.range(found.first_seq..behind).filter(|(seq, rotten)| {
            let stands = found.live.binary_search_by_key(*seq, |frame| frame.seq.get()).is_ok();
            let epoch = self.watch.published.get(seq);
            !stands && epoch.is_some_and(|(_, published)| published == *rotten)
        });
        let mut wanted = ends.chain(rotten.map(|(seq, _)| *seq));
        let untold = wanted.find(|seq| !is_told(*seq));
        self.hold(untold.is_none(), "tools-tell-losses", || {
            format!("seq {untold:?} of {name} is gone; told: {:?}", given.lost)
        });
    }
}

/// In the end: the union of the shards, as `export --log shards` reads it, has each frame that a shard has once,
/// in the order of the sequence.
pub(crate) fn check_union(day: &Day) {
    let road = &day.road;
    let hosts: Vec<usize> = (0..SHARDS).flat_map(|shard| road.copies_of(shard)).collect();
    let mut there: BTreeMap<u64, Frame> = BTreeMap::new();
    let mut disks = Vec::new();
    for &host in &hosts {
        let known = &road.world.hosts[host];
        let found = road.stored_on(host);
        there.extend(found.live.iter().map(|frame| (frame.seq.get(), *frame)));
        let disk = known.disk.as_ref().unwrap().kill();
        road.world.watch_from_outside(host, &disk, &Some(found));
        let outline = outline(known, &disk);
        disks.push((disk, outline));
    }
    let given = read(&disks);
    road.world.hold(given.frames.iter().eq(there.values()), "the-union-is-the-sequence", || {
        format!("{} frames are given, and {} are there", given.frames.len(), there.len())
    });
}
