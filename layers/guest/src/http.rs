//! As much of HTTP/1.1 (RFC 9112) as a health check and a state report need.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a message's head that are read before giving up.
pub const HEAD: usize = 8192;

/// How long the rest of an answer is read that nobody needs.
const DRAIN: Duration = Duration::from_millis(200);

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The first line is not of the grammar.
    #[error("the first line is not HTTP/1")]
    FirstLine,
    /// More than [`HEAD`] bytes without an empty line.
    #[error("the head is longer than {HEAD} bytes")]
    TooLong,
    /// It ended early.
    #[error("the message is cut off")]
    CutOff,
}

/// The first line of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// The target's path, without its query.
    pub path: String,
}

/// The length of the head, through its empty line, if `bytes` holds all of it.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The request whose head starts `bytes`.
pub fn parse_request(bytes: &[u8]) -> Result<Request, HttpError> {
    let line = first_line(bytes)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HttpError::FirstLine);
    };
    let token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !token || !target.starts_with('/') || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(HttpError::FirstLine);
    }
    let path = target.split('?').next().unwrap_or(target);
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
    })
}

/// The status code of the response whose head starts `bytes`.
pub fn parse_status(bytes: &[u8]) -> Result<u16, HttpError> {
    let line = first_line(bytes)?;
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))
        .ok_or(HttpError::FirstLine)?;
    let (code, after) = rest.split_at_checked(3).ok_or(HttpError::FirstLine)?;
    let digits = code.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !(after.is_empty() || after.starts_with(' ')) {
        return Err(HttpError::FirstLine);
    }
    code.parse()
        .ok()
        .filter(|code| (100..600).contains(code))
        .ok_or(HttpError::FirstLine)
}

fn first_line(bytes: &[u8]) -> Result<&str, HttpError> {
    let end = bytes
        .windows(2)
        .position(|window| window == b"\r\n")
        .ok_or(if bytes.len() >= HEAD {
            HttpError::TooLong
        } else {
            HttpError::CutOff
        })?;
    let line = bytes.get(..end).ok_or(HttpError::FirstLine)?;
    if line.iter().any(|byte| !(0x20..0x7f).contains(byte)) {
        return Err(HttpError::FirstLine);
    }
    std::str::from_utf8(line).map_err(|_| HttpError::FirstLine)
}

/// Reads until `enough` says so, the peer is done, or [`HEAD`] bytes are there.
pub fn read_head(
    stream: &mut impl Read,
    end: Instant,
    enough: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    while bytes.len() < HEAD && !enough(&bytes) {
        // A peer that sends a byte at a time renews the socket's own timeout.
        if Instant::now() >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let room = chunk.len().min(HEAD - bytes.len());
        let count = match stream.read(&mut chunk[..room]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            break;
        }
        bytes.extend(chunk.iter().take(count));
    }
    Ok(bytes)
}

/// The status that `GET path` gets from an HTTP server, within `most`.
pub fn get_status(address: SocketAddr, path: &str, most: Duration) -> io::Result<u16> {
    let end = Instant::now() + most;
    let mut stream = TcpStream::connect_timeout(&address, most)?;
    stream.set_read_timeout(Some(most))?;
    stream.set_write_timeout(Some(most))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: standby\r\nConnection: close\r\n\r\n",
        address.ip()
    );
    stream.write_all(request.as_bytes())?;
    let bytes = read_head(&mut stream, end, |bytes| {
        bytes.windows(2).any(|window| window == b"\r\n")
    })?;
    drain(&mut stream)?;
    parse_status(&bytes).map_err(io::Error::other)
}

/// Reads on, for a moment: to close with bytes unread resets the connection, and
/// servers log that as a fault.
fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let end = Instant::now() + DRAIN;
    stream.set_read_timeout(Some(DRAIN))?;
    let mut chunk = [0; 4096];
    while Instant::now() < end && matches!(stream.read(&mut chunk), Ok(1..)) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests() {
        let request = parse_request(b"GET /-/standby?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(request.method, "GET");
        assert_eq!(request.path, "/-/standby");
        for bad in [
            &b"GET / HTTP/2\r\n"[..],
            b"GET  / HTTP/1.1\r\n",
            b"get / HTTP/1.1\r\n",
            b"GET http://a/ HTTP/1.1\r\n",
            b"GET /\x00 HTTP/1.1\r\n",
            b"GET / HTTP/1.1",
            b"\r\n",
            b"",
        ] {
            assert!(parse_request(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn statuses() {
        assert_eq!(parse_status(b"HTTP/1.1 204 No Content\r\n"), Ok(204));
        assert_eq!(parse_status(b"HTTP/1.0 301\r\n"), Ok(301));
        for bad in [
            &b"HTTP/1.1 2000 x\r\n"[..],
            b"HTTP/1.1 20\r\n",
            b"HTTP/1.1 +20 x\r\n",
            b"HTTP/1.1 099 x\r\n",
            b"200\r\n",
        ] {
            assert_eq!(parse_status(bad), Err(HttpError::FirstLine), "{bad:?}");
        }
        assert_eq!(parse_status(&[b'a'; HEAD]), Err(HttpError::TooLong));
    }

    #[test]
    fn a_real_exchange_and_a_silent_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            let head = read_head(&mut stream, end, |bytes| head_length(bytes).is_some()).unwrap();
            stream.write_all(b"HTTP/1.1 302 Found\r\n\r\n").unwrap();
            stream.write_all(&[b'x'; 100_000]).unwrap();
            // It is not reset while there is something to be read.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
            // Held open, and nothing is said on it.
            let silent = listener.accept().unwrap();
            (parse_request(&head).unwrap(), silent)
        });
        let status = get_status(address, "/healthz", Duration::from_secs(5)).unwrap();
        assert_eq!(status, 302);
        let error = get_status(address, "/", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ));
        let (request, _silent) = server.join().unwrap();
        assert_eq!(request.path, "/healthz");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_request(&bytes);
            let _ = parse_status(&bytes);
        }
    }
}
