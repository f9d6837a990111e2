//! How input is made almost right, and how cases are counted and named.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use pregao::random::Random;

/// Numbers at which code goes wrong.
const EDGES: [u64; 10] =
    [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, u64::MAX >> 1, 1 << 63, u64::MAX];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `case` with the random stream of each case, `plain` of them unless the environment says more.
pub(crate) fn cases(plain: u64, case: impl Fn(&mut Random)) {
    let first = setting("PREGAO_FUZZ_FIRST").unwrap_or(0);
    for number in first..first + setting("PREGAO_FUZZ_CASES").unwrap_or(plain) {
        let mut random = Random::new(number);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut random))) {
            eprintln!(
                "case {number}: PREGAO_FUZZ_FIRST={number} PREGAO_FUZZ_CASES=1 runs it again"
            );
            resume_unwind(panic);
        }
    }
}

pub(crate) fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

pub(crate) fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[below(random, of.len())]
}

/// All files of one folder of the corpus.
pub(crate) fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests/fuzz/corpus", folder].iter().collect();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Changes some of the bytes, or how many there are.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.between(1, 6) {
        if bytes.is_empty() {
            bytes.push(random.next_u64() as u8);
            continue;
        }
        let at = below(random, bytes.len());
        let len = 1 + below(random, (bytes.len() - at).min(96));
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next_u64() as u8,
            3 => {
                let edge = pick(random, &EDGES).to_le_bytes();
                for (byte, edge) in bytes[at..].iter_mut().zip(edge) {
                    *byte = edge;
                }
            }
            4 => drop(bytes.drain(at..at + len)),
            5 => {
                let copy = bytes[at..at + len].to_vec();
                let to = below(random, bytes.len());
                bytes.splice(to..to, copy);
            }
            6 => bytes[at..at + len].fill(0),
            _ => bytes.truncate(at),
        }
    }
}
