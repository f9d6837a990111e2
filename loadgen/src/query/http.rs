//! Questions as HTTP requests on connections that are kept, and as much of the answers as a load run looks at: where
//! each ends, and whether it is whole. Pure.

use std::net::SocketAddr;

use pregao::wire::EndStatus;

/// Asks for a path.
pub(super) fn request(path: &str, address: SocketAddr) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
}

/// What comes next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Not all of an answer is there.
    More,
    /// An answer of so many bytes.
    Answer { bytes: usize, status: EndStatus },
    /// No HTTP/1.1 that is understood here.
    Wrong,
}

/// Looks for an answer at the beginning of these bytes.
pub(super) fn next_answer(bytes: &[u8]) -> Next {
    let Some(head_bytes) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Next::More;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..head_bytes]) else { return Next::Wrong };
    let mut lines = head.split("\r\n");
    let status = match lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")) {
        Some(rest) if rest.starts_with("200") => EndStatus::Complete,
        Some(rest) if rest.starts_with("206") => EndStatus::Partial,
        Some(_) => EndStatus::Failed,
        None => return Next::Wrong,
    };
    let start = head_bytes + 4;
    let (mut length, mut is_chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let body_bytes = match (is_chunked, length) {
        (true, _) => chunks(&bytes[start..]),
        (false, Some(length)) => Ok((bytes.len() - start >= length).then_some(length)),
        (false, None) => Err(()),
    };
    match body_bytes {
        Ok(Some(body_bytes)) => Next::Answer { bytes: start + body_bytes, status },
        Ok(None) => Next::More,
        Err(()) => Next::Wrong,
    }
}

/// The bytes of all chunks, with the last one; `None`: not all are there.
fn chunks(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(line) = rest.windows(2).position(|it| it == b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&rest[..line]).map_err(drop)?;
        let length = usize::from_str_radix(digits, 16).map_err(drop)?;
        let end = (line + 4).checked_add(length).ok_or(())?;
        if rest.len() < end {
            return Ok(None);
        }
        at += end;
        if length == 0 {
            return Ok(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_when_its_last_byte_has_come_and_not_before() {
        let plain = &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..];
        let chunked =
            &b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"[..];
        let none = &b"HTTP/1.1 404 N\r\ncontent-length: 0\r\n\r\n"[..];
        for (answer, status) in
            [(plain, EndStatus::Complete), (chunked, EndStatus::Partial), (none, EndStatus::Failed)]
        {
            for cut in 0..answer.len() {
                assert_eq!(next_answer(&answer[..cut]), Next::More, "{cut}");
            }
            let more = [answer, b"HTTP"].concat();
            assert_eq!(next_answer(&more), Next::Answer { bytes: answer.len(), status });
        }
        let far = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        for wrong in [&b"FTP\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n", far] {
            assert_eq!(next_answer(wrong), Next::Wrong);
        }
    }
}
