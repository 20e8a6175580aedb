//! Who may ask: the right host and, where there is one, the token.

use crate::base::Host;
use crate::serve::request::{Request, encoded};
use crate::serve::response::Response;
use std::net::SocketAddr;

/// Decides who may ask.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Digest of the token, if one is needed. Digests are compared in constant time.
    token: Option<blake3::Hash>,
    /// Names that the server is called by, in lower case; addresses need not be named.
    names: Vec<String>,
    /// Browsers tell cookies of one host apart by name only, not by port.
    cookie: String,
}

impl Guard {
    /// For a server at `address`, which is also called by `names`. With a `token`, which stands in cookies and addresses
    /// as it is, only those who know it may ask.
    pub fn new(address: &SocketAddr, names: &[&str], token: Option<&str>) -> Self {
        let names = names.iter().chain(&["localhost"]);
        Self {
            token: token.map(|token| blake3::hash(token.as_bytes())),
            names: names.map(|name| name.to_ascii_lowercase()).collect(),
            cookie: format!("lions-{}", address.port()),
        }
    }

    /// What a request is answered that may not be answered otherwise.
    pub(crate) fn refuse(&self, request: &Request) -> Option<Response> {
        // A page of another site may have its name lead here; no address does that, nor a name of ours.
        if !self.is_called(request.host.as_deref()) {
            let message = "this server is not called by that name; use its address, or `localhost`";
            return Some(Response::error(421, message));
        }
        let token = self.token?;
        let is_token = |word: &str| blake3::hash(word.as_bytes()) == token;
        if let Some(word) = request.value("token").filter(|word| is_token(word)) {
            return Some(self.welcome(request, word));
        }
        let bearer = request.authorization.strip_prefix("Bearer ");
        if self.cookie_of(request).is_some_and(is_token)
            || bearer.is_some_and(|word| is_token(word.trim()))
        {
            return None;
        }
        let message = "this needs the token: open the address that `lions serve` printed, or send `Authorization: Bearer TOKEN`";
        Some(Response::error(401, message).with("WWW-Authenticate", "Bearer"))
    }

    /// To the same page without the token, which the browser keeps from now on.
    fn welcome(&self, request: &Request, word: &str) -> Response {
        let path: String = request
            .path
            .iter()
            .map(|part| format!("/{}", encoded(part)))
            .collect();
        let rest = request.query.iter().filter(|(name, _)| name != "token");
        let rest: Vec<String> = rest
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let query = if rest.is_empty() {
            String::new()
        } else {
            format!("?{}", rest.join("&"))
        };
        let path = if path.is_empty() { "/" } else { &path };
        let mut response = Response::of("text/plain; charset=utf-8", Vec::new());
        response.status = 303;
        let cookie = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Lax",
            self.cookie,
            encoded(word)
        );
        response
            .with("Location", format!("{path}{query}"))
            .with("Set-Cookie", cookie)
    }

    fn cookie_of<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let pairs = request
            .cookie
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        let mut ours = pairs.filter(|(name, _)| *name == self.cookie);
        ours.next().map(|(_, value)| value)
    }

    /// Whether `host` is a name of this server, or an address.
    fn is_called(&self, host: Option<&str>) -> bool {
        match host.and_then(Host::read) {
            Some(Host::Address(_)) => true,
            Some(Host::Name(name)) => self.names.contains(&name),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(token: Option<&str>) -> Guard {
        Guard::new(&"127.0.0.1:7860".parse().unwrap(), &["Gpu7"], token)
    }

    fn asked(head: &str) -> Request {
        let text = format!("GET {head}\r\n\r\n");
        Request::read(text.as_bytes()).unwrap().unwrap()
    }

    fn status(guard: &Guard, head: &str) -> Option<u16> {
        guard.refuse(&asked(head)).map(|response| response.status)
    }

    #[test]
    fn names_of_other_sites_do_not_lead_here() {
        let guard = guard(None);
        for host in [
            "localhost:7860",
            "127.0.0.1:7860",
            "[::1]:7860",
            "LOCALHOST",
            "gpu7:1",
            "10.0.0.3:7860",
        ] {
            assert_eq!(
                status(&guard, &format!("/ HTTP/1.1\r\nHost: {host}")),
                None,
                "{host}"
            );
        }
        for host in [
            "evil.example:7860",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example:80",
            "localhost:x",
            "[localhost]",
            "::1",
        ] {
            assert_eq!(
                status(&guard, &format!("/ HTTP/1.1\r\nHost: {host}")),
                Some(421),
                "{host}"
            );
        }
        assert_eq!(status(&guard, "/ HTTP/1.0"), Some(421));
    }

    #[test]
    fn with_a_token_only_those_who_know_it_may_ask() {
        let guard = guard(Some("s3cret-42"));
        let with = |line: &str| format!("/api/sweeps HTTP/1.1\r\nHost: localhost{line}");
        assert_eq!(status(&guard, &with("")), Some(401));
        assert_eq!(
            status(&guard, &with("\r\nAuthorization: Bearer s3cret-42")),
            None
        );
        assert_eq!(
            status(&guard, &with("\r\nAuthorization: Bearer s3cret")),
            Some(401)
        );
        assert_eq!(
            status(&guard, &with("\r\nCookie: a=b; lions-7860=s3cret-42")),
            None
        );
        assert_eq!(
            status(&guard, &with("\r\nCookie: lions-1=s3cret-42")),
            Some(401)
        );
        assert_eq!(
            status(&guard, "/?token=s3cre HTTP/1.1\r\nHost: localhost"),
            Some(401)
        );
        let first = guard
            .refuse(&asked(
                "//evil.example/a%20b?token=s3cret-42&x=1 HTTP/1.1\r\nHost: localhost",
            ))
            .unwrap();
        assert_eq!(first.status, 303);
        assert_eq!(
            first.headers[0],
            ("Location", "/evil.example/a%20b?x=1".to_owned())
        );
        let (name, cookie) = &first.headers[1];
        assert_eq!(*name, "Set-Cookie");
        assert_eq!(
            cookie,
            "lions-7860=s3cret-42; Path=/; HttpOnly; SameSite=Lax"
        );
    }
}
