//! What files of a sweep are called.

use crate::base::digest_bytes;

/// What a file of a sweep is called: another for each name, whatever stands in it.
pub(super) fn stem_of(sweep: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_@".contains(c);
    if sweep.len() <= 100 && sweep.chars().all(plain) {
        return sweep.to_owned();
    }
    let digest = digest_bytes(sweep.as_bytes());
    let start: String = sweep.chars().filter(|c| plain(*c)).take(40).collect();
    format!("{start}.{}", digest.short())
}
