//! What a client asks: the head of an HTTP request. Bodies are not read, since nothing can be changed here.

use crate::serve::response::Response;

/// More than this is no request of a browser.
pub(crate) const MOST_HEAD: usize = 16 * 1024;

/// A request without its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or another.
    pub method: String,
    /// Parts of the path between slashes, decoded; none of them is empty.
    pub path: Vec<String>,
    /// Names and values behind `?`, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The header `Host`, if there is exactly one.
    pub host: Option<String>,
    /// The headers `Cookie`, joined.
    pub cookie: String,
    /// The header `Authorization`.
    pub authorization: String,
    /// The header `If-None-Match`: by which mark the client knows what it was answered last.
    pub known: String,
}

impl Request {
    /// The request at the beginning of `bytes`; nothing as long as its head is not whole.
    ///
    /// # Errors
    /// It is none, with what to answer.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Response> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if bytes.len() < MOST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Response::error(431, "the head of the request is too long"));
            }
            Err(error) => return Err(bad(&format!("this is no HTTP request: {error}"))),
        }
        let target = head.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with('/') {
            return Err(bad("the path of a request begins with `/`"));
        }
        let parts = path.split('/').filter(|part| !part.is_empty());
        let mut request = Self {
            method: head.method.unwrap_or_default().to_owned(),
            path: parts
                .map(|part| decoded(part, false))
                .collect::<Result<_, _>>()?,
            query: pairs(query)?,
            ..Self::default()
        };
        let mut hosts = 0;
        for header in head.headers.iter() {
            let Ok(value) = std::str::from_utf8(header.value) else {
                continue;
            };
            match header.name.to_ascii_lowercase().as_str() {
                "host" => {
                    hosts += 1;
                    request.host = Some(value.trim().to_owned());
                }
                "cookie" => request.cookie += &format!("{value};"),
                "authorization" => value.clone_into(&mut request.authorization),
                "if-none-match" => value.trim().clone_into(&mut request.known),
                _ => {}
            }
        }
        if hosts > 1 {
            return Err(bad("a request has one `Host`"));
        }
        Ok(Some(request))
    }

    /// The last value of a name behind `?`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.query.iter().rev();
        let found = values.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same as a whole number of at most `most`, or `usual` where there is none.
    ///
    /// # Errors
    /// It is no number.
    pub(crate) fn number(&self, name: &str, usual: usize, most: usize) -> Result<usize, Response> {
        match self.value(name) {
            None | Some("") => Ok(usual),
            Some(text) => match text.parse::<usize>() {
                Ok(number) => Ok(number.min(most)),
                Err(_) => Err(bad(&format!("`{name}` is a whole number"))),
            },
        }
    }

    /// Which page of a list is asked for, from 0, and how many rows a page has: `usual`, or what is asked for, `most` at
    /// most and one at least.
    ///
    /// # Errors
    /// One of them is no number.
    pub(crate) fn page(&self, usual: usize, most: usize) -> Result<(usize, usize), Response> {
        let size = self.number("size", usual, most)?.max(1);
        Ok((self.number("page", 0, usize::MAX)?, size))
    }
}

fn bad(message: &str) -> Response {
    Response::error(400, message)
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Response> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        })
        .collect()
}

/// The text that a part of an address stands for; `+` is a blank in a query.
fn decoded(part: &str, query: bool) -> Result<String, Response> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = rest.next().and_then(hex).zip(rest.next().and_then(hex));
                let (high, low) =
                    digits.ok_or_else(|| bad("the address has a `%` without two digits"))?;
                high * 16 + low
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad("the address is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// A part of a path as it stands in an address.
pub(crate) fn encoded(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(bytes: &[u8]) -> u16 {
        Request::read(bytes).unwrap_err().status
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = b"GET /sweeps/a%20%E2%80%AEb//?page=2&text=x+y%26 HTTP/1.1\r\nHost: localhost:1\r\nCookie: a=b\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(Request::read(&text[..cut]).unwrap(), None, "{cut}");
        }
        let request = Request::read(text).unwrap().unwrap();
        assert_eq!(request.path, ["sweeps", "a \u{202e}b"]);
        assert_eq!(request.value("text"), Some("x y&"));
        assert_eq!(request.number("page", 0, 10).unwrap(), 2);
        assert_eq!(request.number("size", 7, 10).unwrap(), 7);
        assert_eq!(request.host.as_deref(), Some("localhost:1"));
        assert_eq!(request.cookie, "a=b;");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(status(b"hello\r\n\r\n"), 400);
        assert_eq!(status(b"GET http://elsewhere/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET /%zz HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET /%ff HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MOST_HEAD));
        assert_eq!(status(long.as_bytes()), 431);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
        assert_eq!(status(many.as_bytes()), 431);
        let request = Request::read(b"GET /?page=x HTTP/1.1\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(request.number("page", 0, 9).unwrap_err().status, 400);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_addresses_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..300), part in "\\PC{1,20}") {
            drop(Request::read(&bytes));
            let text = format!("GET /{} HTTP/1.1\r\n\r\n", encoded(&part));
            prop_assert_eq!(Request::read(text.as_bytes()).unwrap().unwrap().path, [part]);
        }
    }
}
