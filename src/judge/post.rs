//! One message to an address.

use crate::judge::answers::is_success;
use crate::judge::verdict::excerpt;
use std::time::Duration;

/// A receiver that takes longer is not waited for: nobody reads the answer.
const PATIENCE: Duration = Duration::from_secs(20);

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
    let mut response = request.send(body).map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    if is_success(status) {
        return Ok(());
    }
    let text = response.body_mut().read_to_string().unwrap_or_default();
    Err(format!("HTTP {status}: `{}`", excerpt(&text)))
}
