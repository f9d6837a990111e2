//! Who is asked what: the one place that knows which nodes hold which part of a query. Not here: whether
//! a node can be asked, and which copy of a part is.

use crate::feed::Pattern;
use crate::market::partition::{Owners, Partition};
use crate::question::Question;
use crate::wire::{Op, Query, padded};

/// The shards that may keep the history that a question is about, when it is about one name.
pub(super) fn owners(question: &Question, partition: &Partition) -> Option<Owners> {
    question.symbol().map(|name| partition.owners_of_name(&name))
}

/// The part of a question for the nodes that keep one part of the history, or for those that answer for
/// current quotes (`None`). `None` when nothing of it is theirs. Id and deadline are filled in by the gather.
pub(super) fn part(
    question: &Question,
    partition: &Partition,
    owners: Option<Owners>,
    shard: Option<u16>,
) -> Option<Question> {
    let is_quote = question.op() == Some(Op::Quote);
    match shard {
        None if is_quote => Some(with_query(question, question.query)),
        None if question.query.options & Query::WITH_QUOTE != 0 => {
            let symbol = question.query.symbol;
            Some(with_query(question, Query { op: Op::Quote as u8, symbol, ..Query::default() }))
        }
        Some(shard) if !is_quote => match owners {
            Some(owners) if !owners.contains(shard) => None,
            Some(owners) if owners.is_one() => Some(with_query(question, question.query)),
            // Who does not know the name has nothing, and need not say that it is unknown: the other may know it.
            Some(_) => listed(question, [question.query.symbol].into()),
            None => of_shard(question, partition, shard),
        },
        _ => None,
    }
}

/// The same question with another first frame. Quotes are core's and explaining is the gather's.
fn with_query(question: &Question, query: Query) -> Question {
    let options = query.options & !(Query::WITH_QUOTE | Query::EXPLAIN);
    let mut part = question.clone();
    part.query = Query { options, ..query };
    part
}

/// About the symbols that the shard owns, and the patterns, of which anybody may own some.
fn of_shard(question: &Question, partition: &Partition, shard: u16) -> Option<Question> {
    let is_theirs = |pattern: &Pattern| {
        let owns = |name| partition.owners_of_name(&name).contains(shard);
        pattern.is_prefix() || pattern.symbol().is_some_and(owns)
    };
    if let [only] = question.patterns() {
        return is_theirs(only).then(|| with_query(question, question.query));
    }
    let theirs = question.patterns().iter().filter(|pattern| is_theirs(pattern));
    listed(question, theirs.map(|pattern| padded(&pattern.text())).collect())
}

/// The question about these names and patterns, as a list also where it is one.
fn listed(question: &Question, mut fields: Vec<[u8; 24]>) -> Option<Question> {
    if let [only] = fields[..] {
        // Of a list an unknown symbol is left out; asked about alone it would be refused.
        fields.push(only);
    }
    question.about(fields).map(|part| with_query(&part, part.query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Seq;

    #[test]
    fn each_shard_is_asked_about_its_own_symbols_and_every_pattern() {
        let partition = Partition::range(&["A-H", "I-P", "Q-Z"]).unwrap();
        let query = Query {
            op: Op::Last as u8,
            options: Query::WITH_QUOTE | Query::PARTIAL | Query::EXPLAIN,
            symbol: padded("A"),
            ..Query::default()
        };
        let question = Question::new(&query).unwrap().cut_at(Seq::new(9));
        let texts = |shard: Option<u16>, symbols: &[&str]| -> Vec<String> {
            let list = question.about(symbols.iter().map(|it| padded(it))).unwrap();
            let owners = owners(&list, &partition);
            let Some(part) = part(&list, &partition, owners, shard) else { return Vec::new() };
            assert_eq!(
                (Seq::number(part.as_of), part.query.options),
                (9, if shard.is_some() { 1 } else { 0 })
            );
            part.patterns().iter().map(|pattern| pattern.text()).collect()
        };
        let list = ["PETR4", "VALE3", "A*", "PETR3"];
        assert_eq!(texts(None, &list), list);
        assert_eq!(texts(Some(0), &list), ["A*", "A*"]);
        assert_eq!(texts(Some(1), &list), ["PETR4", "A*", "PETR3"]);
        assert_eq!(texts(Some(1), &["PETR4", "VALE3"]), ["PETR4", "PETR4"], "still a list");
        assert_eq!(texts(Some(1), &["PETR4"]), ["PETR4"]);
        assert!(texts(Some(0), &["PETR4"]).is_empty(), "nothing is theirs");
        // Of `xnas:AMZN` nobody knows from the text whether `xnas` is a venue.
        let name = ["xnas:AMZN"];
        assert_eq!(texts(None, &name), name);
        assert_eq!(texts(Some(0), &name), ["xnas:AMZN", "xnas:AMZN"], "no error if unknown");
        assert_eq!(texts(Some(2), &name), ["xnas:AMZN", "xnas:AMZN"]);
        assert!(texts(Some(1), &name).is_empty());
        assert_eq!(texts(Some(2), &["xnas:VALE3"]), ["xnas:VALE3"], "one owns it either way");
        let list = ["xnas:AMZN", "PETR4", "PETR3"];
        assert_eq!(texts(Some(0), &list), ["xnas:AMZN", "xnas:AMZN"]);
        assert_eq!(texts(Some(1), &list), ["PETR4", "PETR3"]);
        assert_eq!(texts(Some(2), &list), ["xnas:AMZN", "xnas:AMZN"]);
    }
}
