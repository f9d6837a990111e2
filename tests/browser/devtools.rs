//! A client of Chromium's DevTools protocol: one headless browser with one page.
//!
//! # Decisions
//!
//! * No crate: of those that are maintained, `headless_chrome` 1.0 brings 40 packages, among them `ureq`, which this
//!   project bans, a second `tungstenite` and two licences that it does not allow; `chromiumoxide` is asynchronous and
//!   brings `tokio`. What these tests need of the protocol is one request, one answer and a handful of events.
//! * A pipe and no WebSocket: Chromium reads commands at descriptor 3 and writes at descriptor 4, each message ended by
//!   a zero byte. So there is no port that another run could have, and the browser ends with this process, however that
//!   ends, because its pipe does.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use crossbeam::channel::{self, Receiver};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{Deadline, Lines, PATIENCE, tail};

/// What the browser may be called here. `CHROMIUM` names another one.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Gives a program the descriptors 3 and 4, which a test may not set by itself.
const WITH_PIPES: &str = r#"exec "$@" 3<&0 4>&1 </dev/null 1>&2"#;

/// Nothing but the page is loaded, and a page that nobody looks at runs as one that is looked at. A browser that root
/// starts has no sandbox; it loads our own page only.
const FLAGS: [&str; 16] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
];

/// How long the browser may take to end once its pipe has ended. Then it is killed.
const END_RETRIES: u32 = 100;

/// The browser of this machine. Where there is none, that is said.
pub(crate) fn find() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).flat_map(|place| NAMES.map(|name| place.join(name)));
    let found = named.or_else(|| places.into_iter().find(|it| it.is_file()));
    if found.is_none() {
        println!("skipped: no Chromium here (Debian: apt-get install chromium; or CHROMIUM=path)");
    }
    found
}

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    /// `None` once the browser was told to end.
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    log: Lines,
    session: Option<String>,
    last_id: u64,
    /// What the page and the browser complain about, in order: `console`, `exception` or the source, and the text.
    complaints: VecDeque<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser with an empty page.
    pub(crate) fn start(program: &Path) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", WITH_PIPES, "sh"]).arg(program).args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        // What it keeps for itself lies in the directory that ends with it.
        command.env("HOME", profile.path()).env_remove("DBUS_SESSION_BUS_ADDRESS");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell is here");
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let log = Lines::collect(child.stderr.take().unwrap());
        let (sender, messages) = channel::unbounded();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("Chromium writes JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            input,
            messages,
            log,
            session: None,
            last_id: 0,
            complaints: VecDeque::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Runtime", "Log", "Page", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command of the protocol, and its result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        match self.try_call(method, parameters) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        if let Err(error) = self.input.as_mut().expect("it runs").write_all(&bytes) {
            panic!("Chromium takes no command: {error}:\n{}", tail(&self.log.all()));
        }
        let deadline = Deadline::after(PATIENCE);
        loop {
            let Ok(mut message) = self.messages.recv_timeout(deadline.left()) else {
                panic!("no answer to {method}; Chromium says:\n{}", tail(&self.log.all()));
            };
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].take()),
                };
            }
            self.take_event(&message);
        }
    }

    fn take_event(&mut self, message: &Value) {
        let parameters = &message["params"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let complaint = match message["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                format!("exception: {}", parameters["exceptionDetails"])
            }
            "Runtime.consoleAPICalled"
                if ["error", "warning", "assert"].contains(&&*text(&parameters["type"])) =>
            {
                format!("console: {}", parameters["args"])
            }
            "Log.entryAdded"
                if ["error", "warning"].contains(&&*text(&parameters["entry"]["level"])) =>
            {
                let entry = &parameters["entry"];
                let [source, words, url] = ["source", "text", "url"].map(|key| text(&entry[key]));
                format!("{source}: {words} ({url})")
            }
            _ => return,
        };
        self.complaints.push_back(complaint);
    }

    /// What was complained about since the last call, but for lines with one of these texts.
    pub(crate) fn complaints(&mut self, expected: &[&str]) -> Vec<String> {
        // What was said before this answer has come before it.
        self.call("Runtime.evaluate", json!({"expression": "0"}));
        let is_expected = |line: &String| expected.iter().any(|text| line.contains(text));
        self.complaints.drain(..).filter(|line| !is_expected(line)).collect()
    }

    /// What an expression in the page is.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        match self.try_eval(expression) {
            Ok(value) => value,
            Err(problem) => panic!("{expression}: {problem}"),
        }
    }

    fn try_eval(&mut self, expression: &str) -> Result<Value, Value> {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        // A page that is just replaced by another one evaluates nothing.
        let mut result = self.try_call("Runtime.evaluate", parameters)?;
        match result.get("exceptionDetails") {
            Some(problem) => Err(problem.clone()),
            None => Ok(result["result"]["value"].take()),
        }
    }

    /// Waits until an expression in the page is something: neither false, 0, empty, null nor an error.
    pub(crate) fn wait(&mut self, expression: &str) -> Value {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let found = self.try_eval(expression);
            let is_there = match &found {
                Ok(Value::Null | Value::Bool(false)) | Err(_) => false,
                Ok(Value::String(text)) => !text.is_empty(),
                Ok(Value::Number(number)) => number.as_f64() != Some(0.0),
                Ok(_) => true,
            };
            if is_there {
                return found.unwrap();
            }
            if deadline.is_over() {
                // What is hidden too: what has happened may be behind a tab.
                let text = self.eval("document.body.textContent.replaceAll(/\\s+/g, ' ')");
                let text: String = text.as_str().unwrap_or_default().chars().take(4_000).collect();
                let complaints = &self.complaints;
                panic!("not {expression}: {found:?}; {complaints:?}; the page:\n{text}");
            }
            self.log.pause();
        }
    }

    /// Goes to an address, and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        let result = self.call("Page.navigate", json!({"url": url}));
        assert!(result.get("errorText").is_none(), "{url}: {result}");
        self.wait(&format!(
            "document.readyState === 'complete' && location.href.startsWith({})",
            json!(url)
        ));
    }

    /// Presses the mouse in the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.wait(&format!(
            "(() => {{ const it = document.querySelector({}); if (!it) return null; \
             it.scrollIntoView({{ block: 'center' }}); const box = it.getBoundingClientRect(); \
             return box.width > 0 && [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let (x, y) = (&place[0], &place[1]);
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// The size of the window in pixels of the page, and how it is coloured.
    pub(crate) fn show_as(&mut self, (width, height): (u32, u32), scheme: &str) {
        let is_phone = width < 700;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
        // Two frames later all is drawn that a change of size draws.
        self.eval(
            "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go(1))))",
        );
    }

    /// Writes what is seen to `target/screenshots/`, for people to look at.
    pub(crate) fn screenshot(&mut self, name: &str) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let text = picture["data"].as_str().unwrap().as_bytes();
        let picture = data_encoding::BASE64.decode(text).unwrap();
        // The directory of what Cargo builds, wherever that is.
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        fs::create_dir_all(&place).unwrap();
        // Two runs at once: the picture is one of them, whole.
        let begun = tempfile::NamedTempFile::new_in(&place).unwrap();
        fs::write(begun.path(), picture).unwrap();
        begun.persist(place.join(format!("{name}.png"))).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe.
        drop(self.input.take());
        for _ in 0..END_RETRIES {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            self.log.pause();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
