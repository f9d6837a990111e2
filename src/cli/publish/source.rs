//! The lines that are published, one record after the other, from a file or from standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::cli::exit::Failure;
use crate::market::lines::{
    LineEnd, LineFormat, LineOptions, Lines, Record, RecordBody, next_line,
};
use crate::market::tape::unpacked;
use crate::wire::FullName;

/// What standard input is called.
const STDIN: &str = "-";

/// Reads records.
pub(super) struct Source {
    name: String,
    reader: Box<dyn BufRead + Send>,
    lines: Lines,
    format: LineFormat,
    allow_torn: bool,
    line: Vec<u8>,
    bytes: u64,
    is_torn: bool,
    /// Trades that were told before the first event, and happened earlier.
    snapshot_trades: u64,
}

/// Whether that is standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// Whether it can be read only once: standard input, a pipe, or a terminal.
pub(super) fn is_stream(path: &Path) -> bool {
    is_stdin(path) || std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

impl Source {
    /// Opens a file, or standard input.
    ///
    /// # Errors
    /// When it cannot be read, or its format is not known.
    pub(super) fn open(
        path: &Path,
        format: Option<LineFormat>,
        options: &LineOptions,
        allow_torn: bool,
    ) -> Result<Source, Failure> {
        let name =
            if is_stdin(path) { "standard input".into() } else { path.display().to_string() };
        let unread = |error: String| Failure::failed(format!("cannot read {name}: {error}"));
        let raw: Box<dyn BufRead + Send> = if is_stdin(path) {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| unread(error.to_string()))?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        };
        let mut raw = raw;
        // Of a stream whose format is known nothing is waited for but its first bytes.
        let is_plain = |raw: &mut Box<dyn BufRead + Send>| {
            // What a pack of gzip or zstd begins with, and no line.
            raw.fill_buf().is_ok_and(|head| !matches!(head.first(), Some(0x1F | 0x28)))
        };
        let (reader, head): (Box<dyn BufRead + Send>, Vec<u8>) = match format {
            Some(_) if is_stream(path) && is_plain(&mut raw) => (raw, Vec::new()),
            _ => {
                let (head, reader) = unpacked(raw).map_err(|error| unread(error.to_string()))?;
                (Box::new(reader), head)
            }
        };
        let format = format.or_else(|| LineFormat::recognized(&head)).ok_or_else(|| {
            let begins = head[..head.len().min(16)].escape_ascii();
            let what = if head.is_empty() { "it is empty".into() } else { format!("it begins with \"{begins}\"") };
            Failure::usage(format!(
                "{name} is neither CSV with a line of names, nor JSON, nor line protocol: {what}; say which with \
                 --format, and your names with --map"
            ))
        })?;
        let lines = Lines::new(format, options.clone());
        let (line, bytes, is_torn, snapshot_trades) = (Vec::new(), 0, false, 0);
        Ok(Source {
            name,
            reader,
            lines,
            format,
            allow_torn,
            line,
            bytes,
            is_torn,
            snapshot_trades,
        })
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is written.
    pub(super) fn format(&self) -> LineFormat {
        self.format
    }

    /// Bytes read so far, unpacked.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name, longer than its symbol, that the last record brought, once.
    pub(super) fn take_new_name(&mut self) -> Option<FullName> {
        self.lines.take_new_name()
    }

    /// The reader of its lines, for what it counts.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// What was left out besides what [`Source::lines`] counts.
    pub(super) fn snapshot_trades(&self) -> u64 {
        self.snapshot_trades
    }

    /// Whether a last line without its end was left out.
    pub(super) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// The next record that is an event; `None` at the end.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub(super) fn next_record(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            let end = next_line(&mut self.reader, &mut self.line)
                .map_err(|error| Failure::failed(format!("cannot read {}: {error}", self.name)))?;
            self.bytes += self.line.len() as u64;
            match end {
                LineEnd::Nothing => return Ok(None),
                LineEnd::Torn if !self.format.ends_itself() => {
                    if self.allow_torn {
                        self.is_torn = true;
                        return Ok(None);
                    }
                    return Err(self.wrong(&format!(
                        "line {} has no end, and may be cut off; leave it out with --allow-torn",
                        self.lines.line() + 1
                    )));
                }
                LineEnd::Torn | LineEnd::Newline => {}
            }
            let record = match self.lines.take(&self.line) {
                Ok(record) => record,
                Err(_) if end == LineEnd::Torn && self.allow_torn => {
                    self.is_torn = true;
                    return Ok(None);
                }
                Err(error) => return Err(self.wrong(&error.to_string())),
            };
            let Some(record) = record else { continue };
            if record.is_snapshot && !matches!(record.body, RecordBody::Quote { .. }) {
                // It was told when it happened.
                self.snapshot_trades += 1;
                continue;
            }
            return Ok(Some(record));
        }
    }

    /// Something is wrong with a line.
    pub(super) fn wrong(&self, what: &str) -> Failure {
        Failure::failed(format!("{}: {what}", self.name))
    }
}
