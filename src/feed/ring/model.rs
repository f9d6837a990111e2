//! The protocol of the ring's two halves, step by step: every interleaving of one writer with two
//! readers on a small ring, by a search over all states. What it is *not*: a test of the code, which the
//! tests beside it are. It shows that the order of the steps written at the top of `ring.rs` is enough,
//! and that leaving one out is not.
//!
//! Loads may be old: a gate only rises, so the writer may act on any value that it once had, which is
//! what the copy in `limit` is; and the reader's `seen` is such a copy of the head.

use std::collections::BTreeSet;

const CAPACITY: u8 = 4;
const READERS: usize = 2;
/// Frames written; the ring is overwritten twice.
const FRAMES: u8 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WriterStep {
    LoadGate(usize),
    BeginStore,
    EndStore,
    Publish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reader {
    gate: u8,
    seen: u8,
    /// What it looks at now: any frame of its window.
    looks_at: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    slots: [u8; CAPACITY as usize],
    is_storing: bool,
    step: WriterStep,
    next: u8,
    limit: u8,
    head: u8,
    readers: [Reader; READERS],
}

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    WriterIgnoresGates,
    WriterAsksOneGate,
    HeadBeforeStore,
    ReaderLooksBeyondSeen,
    GateMovesWhileLooking,
}

fn slot(seq: u8) -> usize {
    usize::from(seq % CAPACITY)
}

impl State {
    fn new() -> State {
        State {
            slots: [u8::MAX; CAPACITY as usize],
            is_storing: false,
            step: WriterStep::LoadGate(0),
            next: 0,
            limit: u8::MAX,
            head: 0,
            readers: [Reader { gate: 0, seen: 0, looks_at: None }; READERS],
        }
    }

    /// The writer's next step, when it has one.
    fn write(mut self, flaw: Flaw) -> Option<State> {
        if self.next == FRAMES {
            return None;
        }
        match self.step {
            WriterStep::LoadGate(index) => {
                let limit = self.readers[index].gate + CAPACITY;
                self.limit = if index == 0 { limit } else { self.limit.min(limit) };
                let asked = if flaw == Flaw::WriterAsksOneGate { 1 } else { READERS };
                self.step = match index + 1 {
                    next if next < asked => WriterStep::LoadGate(next),
                    _ if flaw == Flaw::WriterIgnoresGates || self.next < self.limit => {
                        if flaw == Flaw::HeadBeforeStore {
                            self.head = self.next + 1;
                        }
                        WriterStep::BeginStore
                    }
                    _ => WriterStep::LoadGate(0),
                };
            }
            WriterStep::BeginStore => (self.is_storing, self.step) = (true, WriterStep::EndStore),
            WriterStep::EndStore => {
                self.slots[slot(self.next)] = self.next;
                (self.is_storing, self.step) = (false, WriterStep::Publish);
            }
            WriterStep::Publish => {
                self.next += 1;
                self.head = self.next;
                self.step = WriterStep::LoadGate(0);
            }
        }
        Some(self)
    }

    /// Every next step of a reader.
    fn read(self, index: usize, flaw: Flaw, out: &mut Vec<State>) {
        let reader = self.readers[index];
        let with = |reader: Reader| {
            let mut state = self;
            state.readers[index] = reader;
            state
        };
        if reader.looks_at.is_some() {
            out.push(with(Reader { looks_at: None, ..reader }));
        }
        if reader.looks_at.is_none() || flaw == Flaw::GateMovesWhileLooking {
            let gate = reader.gate.max(reader.seen.saturating_sub(CAPACITY / 2));
            out.push(with(Reader { seen: self.head, ..reader }));
            out.push(with(Reader { gate, ..reader }));
        }
        if reader.looks_at.is_none() {
            let end = reader.seen + u8::from(flaw == Flaw::ReaderLooksBeyondSeen);
            let looks = (reader.gate..end).map(|seq| Reader { looks_at: Some(seq), ..reader });
            out.extend(looks.map(with));
        }
    }

    /// Nobody looks at a slot that is stored into, or that holds anything but what is looked for.
    fn is_sound(&self) -> bool {
        self.readers.iter().filter_map(|reader| reader.looks_at).all(|seq| {
            let is_torn = self.is_storing && slot(self.next) == slot(seq);
            !is_torn && self.slots[slot(seq)] == seq
        })
    }
}

/// Visits every state; how many there are, and whether the writer can always end, or what is unsound.
fn explore(flaw: Flaw) -> Result<usize, State> {
    let mut known = BTreeSet::from([State::new()]);
    let mut open = vec![State::new()];
    let mut has_ended = false;
    while let Some(state) = open.pop() {
        if !state.is_sound() {
            return Err(state);
        }
        has_ended |= state.next == FRAMES;
        let mut next: Vec<State> = state.write(flaw).into_iter().collect();
        (0..READERS).for_each(|reader| state.read(reader, flaw, &mut next));
        open.extend(next.into_iter().filter(|state| known.insert(*state)));
    }
    assert!(has_ended, "the writer is never let through");
    Ok(known.len())
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn no_interleaving_shows_a_frame_that_is_stored_into() {
    let states = explore(Flaw::None).unwrap();
    assert!(states > 10_000, "{states} states are not all");
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn each_step_of_the_protocol_is_needed() {
    for flaw in [
        Flaw::WriterIgnoresGates,
        Flaw::WriterAsksOneGate,
        Flaw::HeadBeforeStore,
        Flaw::ReaderLooksBeyondSeen,
        Flaw::GateMovesWhileLooking,
    ] {
        assert!(explore(flaw).is_err(), "{flaw:?} goes unseen");
    }
}
