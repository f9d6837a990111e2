//! The page: files in the binary, compressed once when the gateway starts.
//!
//! # Decisions
//!
//! * Files are compressed at the start and not when the program is built: no build step, and some milliseconds once.
//! * No script or style within a page, and nothing from elsewhere: the policy is the same for all of them.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;

use crate::http::{Problem, Request, Response, accepts_gzip, is_unchanged};

/// What a browser may load on behalf of the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Each file of the page by name.
macro_rules! files {
    ($($name:literal, $kind:expr;)*) => {
        [$(($name, $kind, include_bytes!(concat!("page/", $name)).as_slice())),*]
    };
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
    etag: String,
}

/// All files of the page.
#[derive(Debug)]
pub(super) struct Page {
    files: BTreeMap<&'static str, File>,
}

impl Page {
    /// The files, compressed.
    pub(super) fn load() -> Page {
        let all = files![
            "bars.js", SCRIPT;
            "chart.js", SCRIPT;
            "chart_input.js", SCRIPT;
            "favicon.svg", SVG;
            "fill.js", SCRIPT;
            "frame.js", SCRIPT;
            "frames.js", SCRIPT;
            "http.js", SCRIPT;
            "index.html", HTML;
            "losses.js", SCRIPT;
            "instrument.js", SCRIPT;
            "main.js", SCRIPT;
            "market.js", SCRIPT;
            "meter.js", SCRIPT;
            "page.css", CSS;
            "panel.js", SCRIPT;
            "parts.css", CSS;
            "quote.js", SCRIPT;
            "road.js", SCRIPT;
            "spark.js", SCRIPT;
            "system.js", SCRIPT;
            "text.js", SCRIPT;
            "trades.js", SCRIPT;
            "view.js", SCRIPT;
            "watch.js", SCRIPT;
        ];
        let file = |(name, kind, bytes): (&'static str, &'static str, &'static [u8])| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            // A vector takes everything.
            let _ = gzip.write_all(bytes);
            let gzip = Bytes::from(gzip.finish().unwrap_or_default());
            let etag = format!("\"{:08x}-{:x}\"", crc32c::crc32c(bytes), bytes.len());
            (name, File { kind, plain: Bytes::from_static(bytes), gzip, etag })
        };
        Page { files: all.into_iter().map(file).collect() }
    }

    /// One file.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(super) fn response(&self, name: &str, request: &Request) -> Result<Response, Problem> {
        let name = if name == "/" { "index.html" } else { name };
        let file = self.files.get(name);
        let file = file.ok_or_else(|| Problem::new(404, "The page has no such file."))?;
        let is_gzip = accepts_gzip(request) && file.gzip.len() < file.plain.len();
        let response = match (is_unchanged(request, &file.etag), is_gzip) {
            (true, _) => Response::new(304, file.kind, Bytes::new()),
            (false, true) => Response::new(200, file.kind, file.gzip.clone())
                .with_header("Content-Encoding", "gzip"),
            (false, false) => Response::new(200, file.kind, file.plain.clone()),
        };
        Ok(response
            .with_header("ETag", file.etag.clone())
            .with_header("Vary", "Accept-Encoding")
            // It is asked for each time, and not sent again.
            .with_header("Cache-Control", "no-cache")
            .with_header("Content-Security-Policy", POLICY)
            .with_header("Referrer-Policy", "no-referrer")
            .with_header("Cross-Origin-Resource-Policy", "same-origin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_asks_another_host_or_breaks_the_policy() {
        let page = Page::load();
        for (name, file) in &page.files {
            assert!(!file.plain.is_empty() && !file.gzip.is_empty(), "{name}");
            let text = std::str::from_utf8(&file.plain).unwrap();
            for wrong in ["https://", "style=\"", "onclick=", "eval(", "<script>"] {
                assert!(!text.contains(wrong), "{name}: {wrong}");
            }
        }
    }
}
