//! A small client of HTTP and WebSocket, for tests: blocking, and with a patience that only a broken system exceeds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::process::PATIENCE;

/// A connection that speaks HTTP.
pub(crate) struct Web {
    reader: BufReader<TcpStream>,
    host: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Web {
    pub(crate) fn connect(address: SocketAddr) -> Web {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Web { reader: BufReader::new(stream), host: address.to_string() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    /// Asks for a path, with further lines of the head.
    pub(crate) fn ask(&mut self, path: &str, more: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.host);
        self.send(head.as_bytes());
        self.answer()
    }

    /// The same on a connection of its own.
    pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
        Web::connect(address).ask(path, "")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn head(&mut self) -> Answer {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer but {first:?}"));
        let mut headers = Vec::new();
        while let Some((name, value)) = self.line().split_once(": ") {
            headers.push((name.to_owned(), value.to_owned()));
        }
        Answer { status, headers, body: Vec::new() }
    }

    /// The next answer, whole.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&self.line(), 16).unwrap();
                let at = answer.body.len();
                answer.body.resize(at + length, 0);
                self.reader.read_exact(&mut answer.body[at..]).unwrap();
                assert_eq!(self.line(), "");
                if length == 0 {
                    return answer;
                }
            }
        }
        let length = answer.header("Content-Length").and_then(|it| it.parse().ok()).unwrap_or(0);
        answer.body.resize(length, 0);
        self.reader.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// The next lines of a stream of events, without the lengths of their chunks, until one has this text.
    pub(crate) fn lines_until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let is_last = is_last(&line);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Begins a stream of events; its head.
    pub(crate) fn begin(&mut self, path: &str, more: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.host);
        self.send(head.as_bytes());
        self.head()
    }

    /// Becomes a WebSocket of this subprotocol.
    pub(crate) fn upgrade(mut self, protocol: &str) -> Socket {
        let more = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n"
        );
        let answer = self.begin("/v1/stream", &more);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("Sec-WebSocket-Protocol"), Some(protocol));
        Socket { web: self }
    }
}

/// A WebSocket.
pub(crate) struct Socket {
    web: Web,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
}

impl Socket {
    /// Sends one frame, masked as a client has to.
    pub(crate) fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        let mask = [7, 77, 177, 250];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.web.send(&frame);
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_frame(1, text.as_bytes());
    }

    /// The next message. Pings are answered.
    pub(crate) fn next(&mut self) -> Message {
        loop {
            let mut head = [0; 2];
            self.web.reader.read_exact(&mut head).unwrap();
            assert_eq!(head[0] & 0xF0, 0x80, "a server's messages are whole, without extensions");
            assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
            let length = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.web.reader.read_exact(&mut length).unwrap();
                    usize::from(u16::from_be_bytes(length))
                }
                127 => {
                    let mut length = [0; 8];
                    self.web.reader.read_exact(&mut length).unwrap();
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.web.reader.read_exact(&mut payload).unwrap();
            match head[0] & 0x0F {
                1 => return Message::Text(String::from_utf8(payload).unwrap()),
                2 => return Message::Binary(payload),
                8 => {
                    let (code, reason) = payload.split_at(2.min(payload.len()));
                    let code = u16::from_be_bytes(code.try_into().unwrap_or([0; 2]));
                    return Message::Close(code, String::from_utf8(reason.to_vec()).unwrap());
                }
                9 => self.send_frame(10, &payload),
                _ => {}
            }
        }
    }

    /// The lines of the next message, which is one of text.
    pub(crate) fn lines(&mut self) -> Vec<serde_json::Value> {
        match self.next() {
            Message::Text(text) => {
                text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
            }
            other => panic!("no text but {other:?}"),
        }
    }
}
