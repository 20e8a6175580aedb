//! What the `Host` of a request names: a page of another site may have a name of its own lead to this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A `Host` without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address, which no site can give another meaning.
    Address(IpAddr),
}

impl Host {
    /// Reads `name`, `name:80`, `127.0.0.1:80` or `[::1]:80`; nothing if it is none of these.
    pub fn read(text: &str) -> Option<Self> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (name, port) = match bracketed {
            Some(parts) => parts,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        if !port.is_empty() {
            port.strip_prefix(':')?.parse::<u16>().ok()?;
        }
        Some(match (bracketed, name.parse::<Ipv4Addr>()) {
            (Some(_), _) => Self::Address(name.parse::<Ipv6Addr>().ok()?.into()),
            (None, Ok(address)) => Self::Address(address.into()),
            (None, Err(_)) => Self::Name(name.to_ascii_lowercase()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, name) in [
            ("localhost", "localhost"),
            ("GPU7:1", "gpu7"),
            ("127.0.0.1.evil.example:80", "127.0.0.1.evil.example"),
        ] {
            assert_eq!(Host::read(text), Some(Host::Name(name.into())), "{text}");
        }
        for (text, address) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("10.0.0.3", "10.0.0.3"),
            ("[::1]:7860", "::1"),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(Host::read(text), Some(Host::Address(address)), "{text}");
        }
        for text in ["::1", "localhost:x", "[localhost]", "[::1]80", "a:99999"] {
            assert_eq!(Host::read(text), None, "{text}");
        }
    }
}
