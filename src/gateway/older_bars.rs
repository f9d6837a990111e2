//! Questions for the last bars of an instrument: each may take several of the aggregator, as [`BarSearch`] says.

use super::Gateway;
use super::answers::only_one;
use super::bar_search::{BarSearch, Step};
use super::routes::{Ask, What};
use crate::client::Answer;
use crate::http::Problem;
use crate::node::ConnId;
use crate::render::{Report, Rows};
use crate::report;
use crate::time::Now;
use crate::wire::{EndStatus, ErrorCode};

impl Gateway {
    /// Where the last bars are wanted: looks before the last trade first, not in all that there is.
    pub(super) fn begin_search(&self, now: Now, ask: &mut Ask) {
        let report::Question::Bars { interval, from, to } = ask.asked.question else { return };
        let wanted = match ask.what {
            What::Bars { last, .. } => last.filter(|_| from == 0),
            What::Chart(history) => history.countback,
            _ => None,
        };
        let newest = ask.asked.symbols.first().and_then(|it| self.feed.last_trade_ns(it));
        if let (Some(wanted), Some(newest)) = (wanted, newest) {
            let end = newest.saturating_add(1);
            let search = BarSearch::new(interval.seconds(), wanted, end, to);
            ask.search = Some((search, now.mono + ask.deadline));
        }
    }

    /// Whether an answer has too few bars, and older ones are asked for now.
    ///
    /// # Errors
    /// When they cannot be.
    pub(super) fn go_on_searching(
        &mut self,
        now: Now,
        conn: ConnId,
        ask: &mut Box<Ask>,
        answer: &Answer,
    ) -> Result<bool, Problem> {
        let Some((mut search, until)) = ask.search else { return Ok(false) };
        let step = match (answer.status(), answer.code()) {
            (EndStatus::Complete, _) => {
                let reports = ask.asked.reports(answer, &self.front.symbols, now.wall_ns);
                let reports = reports.into_iter().filter_map(Result::ok).collect();
                match only_one(ask, reports)? {
                    Some(Report { rows: Rows::Bars(bars), .. }) => {
                        search.take(&bars.iter().map(|bar| bar.start).collect::<Vec<_>>())
                    }
                    _ => return Ok(false),
                }
            }
            (EndStatus::Failed, Some(ErrorCode::Limit)) => search.shorten(),
            _ => return Ok(false),
        };
        match step {
            Step::Done => return Ok(false),
            Step::GivenUp => {
                let text = "The bars before a long pause were not found; ask with from and to.";
                return Err(Problem::new(400, text));
            }
            Step::Ask(..) => {}
        }
        ask.search = Some((search, until));
        self.ask_aggregator(now, conn, ask.clone())?;
        Ok(true)
    }
}
