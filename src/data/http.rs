//! One request for a part of a file, and what the answer means for a download.
//!
//! A server may send the part (206), send everything because it knows no ranges (200), find the
//! part beyond its file (416), move the file elsewhere (followed), or fail. Sizes it announces are
//! compared with the official one before a byte of the body is taken. TLS certificates are
//! checked against Mozilla's roots; `HTTPS_PROXY` and its like are obeyed.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, header};
use ureq::{Agent, Body};

/// A server's answer to a request.
pub(super) enum Answer {
    /// The bytes from `from` on, which is what was asked for or 0.
    Bytes { from: u64, body: Box<dyn Read> },
    /// It cannot go on where the download stopped: ask for everything.
    NoRange,
}

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// May pass: worth another try.
    Passing(String),
    /// Asking again will not help.
    Lasting(String),
    /// The server has something else than the official file.
    OtherFile(String),
}

/// Connections, and how long they may take.
pub(super) struct Client {
    agent: Agent,
}

impl Client {
    /// `stall` is the time without a byte after which a server counts as gone.
    pub fn new(stall: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(stall))
            .timeout_connect(Some(stall))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            // What arrives must be the file's own bytes, not packed once more on the way.
            .accept_encoding("identity")
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().new_agent() }
    }

    /// Asks for the bytes from `from` on of a file of `total` bytes at `url`.
    pub fn get(&self, url: &str, from: u64, total: u64) -> Result<Answer, Failure> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let (head, body) = request.call().map_err(failed)?.into_parts();
        let headers = &head.headers;
        match head.status.as_u16() {
            200 => whole(headers, body, total),
            206 => part(headers, body, from, total),
            416 => match range(headers) {
                Some((_, Some(offered))) if offered != total => Err(other_size(headers, offered, total)),
                _ => Ok(Answer::NoRange),
            },
            // Overloaded, restarting, or asking for patience.
            status @ (408 | 425 | 429 | 500..=599) => Err(Failure::Passing(format!("HTTP status {status}"))),
            status => Err(Failure::Lasting(format!("HTTP status {status}"))),
        }
    }
}

fn whole(headers: &HeaderMap, body: Body, total: u64) -> Result<Answer, Failure> {
    match text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
        Some(offered) if offered != total => Err(other_size(headers, offered, total)),
        _ => Ok(Answer::Bytes { from: 0, body: Box::new(body.into_reader()) }),
    }
}

fn part(headers: &HeaderMap, body: Body, from: u64, total: u64) -> Result<Answer, Failure> {
    match range(headers) {
        Some((_, Some(offered))) if offered != total => Err(other_size(headers, offered, total)),
        Some((Some(first), _)) if first == from => Ok(Answer::Bytes { from, body: Box::new(body.into_reader()) }),
        _ => Ok(Answer::NoRange),
    }
}

/// First byte and size of the file in `Content-Range: bytes 5-9/10`, either of which may be `*`.
fn range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (bytes, size) = text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let first = bytes.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first, size.trim().parse().ok()))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn other_size(headers: &HeaderMap, offered: u64, total: u64) -> Failure {
    let page = text(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    let page = if page { " (a web page)" } else { "" };
    Failure::OtherFile(format!("the server offers {offered} bytes{page}, the official file has {total}"))
}

/// Whether an error of the connection may pass.
fn failed(error: ureq::Error) -> Failure {
    let message = error.to_string();
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => Failure::Passing(message),
        _ => Failure::Lasting(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((Some(5), Some(10)))),
            ("bytes 5-9/*", Some((Some(5), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("bytes 99999999999999999999-/10", Some((None, Some(10)))),
            ("items 5-9/10", None),
            ("bytes", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(range(&headers), expected, "{value}");
        }
        assert_eq!(range(&HeaderMap::new()), None);
    }
}
