//! `--until` and `--budget`: times as people write them.

use crate::base::{Clock as _, SystemClock, Timestamp};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// A length of time (`2h`, `90m`, `1h30m`, `1d`), ms.
pub(crate) fn millis_of(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no length of time, such as `2h`, `90m` or `1h30m`");
    let (mut millis, mut digits) = (0.0, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() || letter == '.' {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            'd' => 86_400_000.0,
            'h' => 3_600_000.0,
            'm' => 60_000.0,
            's' => 1000.0,
            _ => return Err(wrong()),
        };
        let count: f64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        millis += count * unit;
    }
    if digits.is_empty() && millis > 0.0 {
        Ok(millis as i64)
    } else {
        Err(wrong())
    }
}

/// A length of time from now, or the next time that a clock shows `07:30Z`, as all times are UTC here.
pub(crate) fn time_of(text: &str) -> Result<Timestamp, String> {
    time_after(SystemClock.now(), text)
}

fn time_after(now: Timestamp, text: &str) -> Result<Timestamp, String> {
    let Some((hours, minutes)) = text.split_once(':') else {
        return millis_of(text).map(|millis| now.plus_millis(millis));
    };
    let wrong = || format!("`{text}` is no time of day in UTC, such as `07:30Z`");
    let minutes = minutes.strip_suffix('Z').ok_or_else(wrong)?;
    let number = |text: &str, below: i64| {
        let number = text.parse::<i64>().ok();
        number
            .filter(|number| (0..below).contains(number))
            .ok_or_else(wrong)
    };
    let of_day = (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000;
    let today = now.0 - now.0.rem_euclid(DAY_MILLIS) + of_day;
    let next = if today > now.0 {
        today
    } else {
        today + DAY_MILLIS
    };
    Ok(Timestamp(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_lengths_or_hours_of_the_day() {
        let lengths =
            ["2h", "90m", "1h30m", "1.5h", "1d", "45s"].map(|text| millis_of(text).unwrap());
        let minute = 60_000;
        assert_eq!(
            lengths,
            [
                120 * minute,
                90 * minute,
                90 * minute,
                90 * minute,
                1440 * minute,
                45_000
            ]
        );
        for wrong in ["", "2", "h", "2x", "-1h", "0h", "1h30", "."] {
            assert!(millis_of(wrong).is_err(), "{wrong}");
        }
        // 1970-01-03, ten in the morning.
        let now = Timestamp(2 * DAY_MILLIS + 10 * 60 * minute);
        let at = |text| time_after(now, text).map(|time| (time.0 - now.0) / minute);
        assert_eq!(at("10:30Z"), Ok(30));
        assert_eq!(at("10:00Z"), Ok(24 * 60));
        assert_eq!(at("07:30Z"), Ok(21 * 60 + 30));
        assert_eq!(at("2h"), Ok(120));
        for wrong in ["7:30", "24:00Z", "07:60Z", "-1:00Z", ":Z"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
