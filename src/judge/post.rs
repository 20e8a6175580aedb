//! One message to an address.

use crate::judge::answers::is_success;
use crate::judge::endpoint::no_answer_within;
use crate::judge::verdict::excerpt;
use std::time::Duration;

/// A receiver that takes longer is not waited for: nobody reads the answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Refuses what cannot be the address of an HTTP server.
///
/// # Errors
/// In words, without the address: that of a webhook is a secret.
pub fn check_address(url: &str) -> Result<(), String> {
    let read: Result<ureq::http::Uri, _> = url.parse();
    let read = read.map_err(|error| format!("it is no address: {error}"))?;
    let has_host = read.host().is_some_and(|host| !host.is_empty());
    match read.scheme_str() {
        Some("http" | "https") if has_host => Ok(()),
        _ => Err("it must begin with `http://` or `https://` and a host".to_owned()),
    }
}

/// Posts a JSON document to an address, once.
///
/// # Errors
/// In words: it cannot be reached, or answers with another status than success.
pub fn post_json(url: &str, body: &str) -> Result<(), String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .build();
    let agent: ureq::Agent = config.into();
    let request = agent.post(url).header("Content-Type", "application/json");
    let mut response = request.send(body).map_err(|error| match error {
        ureq::Error::Timeout(_) => no_answer_within(PATIENCE.as_secs()),
        other => other.to_string(),
    })?;
    let status = response.status().as_u16();
    if is_success(status) {
        return Ok(());
    }
    let text = response.body_mut().read_to_string().unwrap_or_default();
    Err(match text.trim() {
        "" => format!("HTTP {status}"),
        text => format!("HTTP {status}: `{}`", excerpt(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for url in ["http://h", "https://h:8000/a?b=c", "http://[::1]:80/"] {
            assert_eq!(check_address(url), Ok(()), "{url}");
        }
        for url in [
            "foo",
            "foo.org/hook",
            "ftp://h/",
            "http://",
            "http://a b/",
            "",
        ] {
            assert!(check_address(url).is_err(), "{url}");
        }
    }
}
