//! What the parts of a sweep's name say: `study@gemma-2b+dpo.recipe.beta=0.1~50-steps`.

use crate::config::base_file::BASE_MARK;
use crate::config::overrides::SET_MARK;
use crate::config::rungs::RUNG_MARK;

/// The parts of the name under which a sweep is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepName<'a> {
    /// As the sweep file states it.
    pub own: &'a str,
    /// The stem of the base file that the command line gave.
    pub base: Option<&'a str>,
    /// The sweep that is halved, if this is one of its rungs.
    pub halved: Option<&'a str>,
}

impl<'a> SweepName<'a> {
    /// Of a name.
    pub fn of(name: &'a str) -> Self {
        let own = name.split([BASE_MARK, SET_MARK, RUNG_MARK]).next();
        let own = own.unwrap_or(name);
        let rest = name.strip_prefix(own).unwrap_or_default();
        let base = rest
            .strip_prefix(BASE_MARK)
            .and_then(|rest| rest.split([SET_MARK, RUNG_MARK]).next());
        Self {
            own,
            base,
            halved: name.split_once(RUNG_MARK).map(|(halved, _)| halved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        let parts = |name| {
            let SweepName { own, base, halved } = SweepName::of(name);
            (own, base, halved)
        };
        assert_eq!(parts("a.b-c"), ("a.b-c", None, None));
        assert_eq!(parts("a@gemma"), ("a", Some("gemma"), None));
        assert_eq!(parts("a+x.y=1"), ("a", None, None));
        assert_eq!(parts("a~5-steps"), ("a", None, Some("a")));
        let all = "a@gemma+x=1~5-steps";
        assert_eq!(parts(all), ("a", Some("gemma"), Some("a@gemma+x=1")));
    }
}
