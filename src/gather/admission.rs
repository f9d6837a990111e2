//! Whether a query is taken: bounds, what it asks for, and whether its plan fits it.

use super::gathering::{ClientQuery, Part, RowKind};
use super::{Gather, NEWEST_COMMON_CUT, PartPlan};
use crate::limits::{GATHER_LEAVES_MAX, GATHER_QUESTIONS_MAX, GATHERS_MAX};
use crate::question::Question;
use crate::time::Mono;
use crate::wire::ErrorCode;

/// Why a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AdmissionError {
    #[error("{GATHERS_MAX} queries in flight; ask again later")]
    InFlight,
    #[error("this is not gathered")]
    Op,
    #[error("a query's id is not 0 and not in use")]
    Id,
    #[error("a query needs a deadline above 0")]
    Deadline,
    #[error("the plan does not fit the query")]
    Plan,
    #[error("no common cut is known yet; ask again")]
    Cut,
}

impl AdmissionError {
    /// The number that the client is sent with the sentence.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            AdmissionError::InFlight => ErrorCode::Limit,
            AdmissionError::Op | AdmissionError::Id => ErrorCode::Unexpected,
            AdmissionError::Deadline => ErrorCode::Deadline,
            AdmissionError::Plan => ErrorCode::Failed,
            AdmissionError::Cut => ErrorCode::NoData,
        }
    }
}

impl Gather {
    /// Checks a query and its plan, and makes the parts.
    pub(super) fn admit(
        &self,
        now: Mono,
        client: u64,
        question: &Question,
        plan: Vec<PartPlan>,
    ) -> Result<Vec<Part>, AdmissionError> {
        let is_busy = self.in_flight.len() + self.outbox.answers() >= GATHERS_MAX
            || self.in_flight.requests() >= GATHER_QUESTIONS_MAX;
        if is_busy {
            return Err(AdmissionError::InFlight);
        }
        let query = &question.query;
        let rows = RowKind::of(query).ok_or(AdmissionError::Op)?;
        let id = query.id.get();
        let client_query = ClientQuery { client, id };
        if id == 0 || self.in_flight.of_client_query(client_query).is_some() {
            return Err(AdmissionError::Id);
        }
        if query.deadline_us.get() == 0 {
            return Err(AdmissionError::Deadline);
        }
        if plan.len() > GATHER_LEAVES_MAX {
            return Err(AdmissionError::Plan);
        }
        let mut parts = Vec::with_capacity(plan.len());
        for plan in plan {
            let fits = |part: &Part| part.rows() == RowKind::Quote || part.rows() == rows;
            parts.push(Part::new(plan).filter(fits).ok_or(AdmissionError::Plan)?);
        }
        if question.as_of == Some(NEWEST_COMMON_CUT) {
            // A copy may have been behind when it said where it is: both together stay below the bound.
            let age_max = self.behind_max.map(|behind_max| behind_max / 2);
            let cut = self.leaves.common_cut(now, &parts, age_max).ok_or(AdmissionError::Cut)?;
            let holds_back = |part: &Part| self.leaves.holds_back(now, part, cut, age_max);
            // Quotes are not as of the cut: the history is, whose copies are beyond it.
            let is_of_quotes = !parts.iter().any(|part| part.keeps_history() && holds_back(part));
            let lacks = |part: &Part| {
                cut.is_old && part.keeps_history() && (is_of_quotes || holds_back(part))
            };
            for part in &mut parts {
                let is_old = lacks(part);
                part.set_cut(cut.seq, is_old);
            }
        }
        Ok(parts)
    }
}
