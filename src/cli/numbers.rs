//! Counts on the command line, and what is said where one is wrong.

use std::num::IntErrorKind;
use std::str::FromStr;

/// A reader of whole numbers that are `least` or more, for clap.
pub(crate) fn at_least<N>(least: N) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr<Err = std::num::ParseIntError> + PartialOrd + Copy + std::fmt::Display + Send + Sync,
{
    move |text: &str| match text.parse::<N>() {
        Ok(number) if number >= least => Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err("it is too large".to_owned())
        }
        Ok(_) | Err(_) => Err(format!("it must be a whole number, {least} or more")),
    }
}

/// A whole number, for clap.
pub(crate) fn whole(text: &str) -> Result<i64, String> {
    let read = text.parse();
    read.map_err(|_| "it must be a whole number, such as 1 or -1".to_owned())
}

/// The number of a port, for clap.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    let read = text.parse();
    read.map_err(|_| "it must be a whole number, 0 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_count_is_answered_with_words() {
        let read = at_least(1_u32);
        assert_eq!(read("2"), Ok(2));
        for wrong in ["0", "-1", "1.5", "many", ""] {
            let words = "it must be a whole number, 1 or more";
            assert_eq!(read(wrong), Err(words.to_owned()), "{wrong}");
        }
        assert_eq!(read("99999999999"), Err("it is too large".to_owned()));
    }
}
