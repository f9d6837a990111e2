//! When does the whole system run? It is seen in the log lines of the nodes: each says once where it listens, and core says
//! that it has a session with the exchange.

/// What a node's line has once it serves.
pub const LISTENS: &str = " listens on ";
/// What core's line has once frames flow.
pub const FLOWS: &str = "exchange session established";

/// Watches lines until the system runs. It says so once.
#[derive(Debug)]
pub struct Readiness {
    /// Children that have not said yet that they serve.
    silent: Vec<usize>,
    is_flowing: bool,
    /// What is said then.
    sentences: Vec<String>,
}

impl Readiness {
    /// Waits for so many children, and says these sentences when they serve and the market flows.
    #[must_use]
    pub fn new(children: usize, sentences: Vec<String>) -> Readiness {
        Readiness { silent: (0..children).collect(), is_flowing: false, sentences }
    }

    /// Takes note of a child's line. Gives back what is to be said now.
    pub fn note(&mut self, child: usize, line: &str) -> Vec<String> {
        if line.contains(LISTENS) {
            self.silent.retain(|silent| *silent != child);
        }
        self.is_flowing |= line.contains(FLOWS);
        if self.silent.is_empty() && self.is_flowing {
            return std::mem::take(&mut self.sentences);
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_not_before_all_serve_and_the_market_flows() {
        let mut readiness = Readiness::new(2, vec!["it runs".into()]);
        for (child, line) in [
            (0, "INFO  core listens on 127.0.0.1:8082"),
            (0, "INFO  core listens on 127.0.0.1:8082"),
            (1, "INFO  broker starts"),
            (0, "INFO  exchange session established, feed 1 from 1"),
        ] {
            assert!(readiness.note(child, line).is_empty(), "{line}");
        }
        assert_eq!(readiness.note(1, "INFO  broker listens on 127.0.0.1:8081"), ["it runs"]);
        assert!(readiness.note(1, "INFO  broker listens on 127.0.0.1:8081").is_empty());
    }
}
