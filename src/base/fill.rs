//! Texts with places to be filled in.

/// Puts `values` in the `{…}` places of `template`. What is put in is not searched again, so that a
/// reply that writes `{prompt}` stays as it is.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let place = values.iter().find_map(|(name, value)| {
            let after = rest.strip_prefix('{')?.strip_prefix(name)?;
            Some((after.strip_prefix('}')?, value))
        });
        if let Some((after, value)) = place {
            filled.push_str(value);
            rest = after;
        } else {
            filled.push('{');
            rest = &rest[1..];
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let values = [("prompt", "say {reply}"), ("reply", "{prompt} {x}")];
        assert_eq!(
            fill("{prompt}|{reply}|{other}|{", &values),
            "say {reply}|{prompt} {x}|{other}|{"
        );
    }
}
