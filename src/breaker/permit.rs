//! The permit: the right to make one call, which comes back exactly once.
//!
//! A permit is a value that cannot be copied. [`super::Breaker::record`] takes it by value, so nobody
//! can report twice; dropping it gives it back, so nobody can lose one by forgetting a path. The
//! count of calls under way is shared between the breaker and its permits in an `Rc`: one breaker
//! and its permits live in one thread.

use std::cell::Cell;
use std::rc::Rc;

use crate::planted::{Bug, is_planted};
/// What a breaker and its permits both see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The breaker's present generation.
    pub(super) generation: Cell<u32>,
    /// Permits of the present generation that have not come back.
    pub(super) under_way: Cell<u32>,
    /// Permits of any generation that came back unused.
    pub(super) given_back: Cell<u64>,
}

impl Shared {
    /// Begins a generation: whoever is under way belongs to an older one now.
    pub(super) fn begin_generation(&self) -> u32 {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        self.under_way.set(0);
        generation
    }
}

/// The right to make one call. Ends in exactly one of [`super::Breaker::record`] and its drop, which
/// gives it back.
#[must_use = "dropping a permit gives it back; keep it until the call has an outcome"]
#[derive(Debug)]
pub struct Permit {
    /// `None` once recorded.
    shared: Option<Rc<Shared>>,
    generation: u32,
}

impl Permit {
    #[inline]
    pub(super) fn grant(shared: &Rc<Shared>) -> Permit {
        shared.under_way.set(shared.under_way.get().saturating_add(1));
        Permit { shared: Some(Rc::clone(shared)), generation: shared.generation.get() }
    }

    /// The generation it was granted in.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Ends the permit for `record`, when it is one of the breaker that `shared` belongs to.
    #[inline]
    pub(super) fn spend(mut self, shared: &Rc<Shared>) -> Spent {
        match &self.shared {
            Some(own) if Rc::ptr_eq(own, shared) => {}
            // Dropped at the end of this scope, which gives it back to its own breaker.
            _ => return Spent::Foreign,
        }
        self.shared = None;
        if self.generation != shared.generation.get() {
            return Spent::Late;
        }
        shared.under_way.set(shared.under_way.get().saturating_sub(1));
        Spent::Current
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        if is_planted(Bug::ForgetHalfOpenPermit) {
            return;
        }
        shared.given_back.set(shared.given_back.get().saturating_add(1));
        if self.generation == shared.generation.get() {
            shared.under_way.set(shared.under_way.get().saturating_sub(1));
        }
    }
}

/// Where a permit that is recorded belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// To the present generation.
    Current,
    /// To an older one: its outcome is counted and changes nothing else.
    Late,
    /// To another breaker.
    Foreign,
}
