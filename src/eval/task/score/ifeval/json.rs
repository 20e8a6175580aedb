//! What Python's `json.loads` accepts: JSON, and `NaN`, `Infinity` and `-Infinity`.

/// Values within values; Python stops at about a thousand.
const MAX_DEPTH: usize = 900;
/// Digits of a whole number; Python refuses to read longer ones.
const MAX_DIGITS: usize = 4300;

/// Whether `text` is one value.
pub(super) fn is_json(text: &str) -> bool {
    let mut reader = Reader {
        rest: text.as_bytes(),
    };
    reader.value(0).is_some() && {
        reader.blanks();
        reader.rest.is_empty()
    }
}

struct Reader<'t> {
    rest: &'t [u8],
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn takes(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blanks();
        match self.rest.first()? {
            b'{' => self.items(b'{', b'}', depth, true),
            b'[' => self.items(b'[', b']', depth, false),
            b'"' => self.string(),
            b't' => self.takes(b"true"),
            b'f' => self.takes(b"false"),
            b'n' => self.takes(b"null"),
            b'N' => self.takes(b"NaN"),
            b'I' => self.takes(b"Infinity"),
            b'-' if self.rest.starts_with(b"-I") => self.takes(b"-Infinity"),
            _ => self.number(),
        }
    }

    fn items(&mut self, open: u8, close: u8, depth: usize, named: bool) -> Option<()> {
        self.takes(&[open])?;
        self.blanks();
        if self.takes(&[close]).is_some() {
            return Some(());
        }
        loop {
            if named {
                self.blanks();
                self.string()?;
                self.blanks();
                self.takes(b":")?;
            }
            self.value(depth + 1)?;
            self.blanks();
            if self.takes(b",").is_none() {
                return self.takes(&[close]);
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.takes(b"\"")?;
        loop {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            match first {
                b'"' => return Some(()),
                b'\\' => {
                    let (escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    match escaped {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.rest.get(..4)?;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                            self.rest = &self.rest[4..];
                        }
                        _ => return None,
                    }
                }
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.takes(b"-").unwrap_or(());
        let begin = self.rest.len();
        let mut fraction = false;
        if self.takes(b"0").is_none() {
            self.digits()?;
        }
        if let [b'.', b'0'..=b'9', ..] = self.rest {
            self.takes(b".")?;
            self.digits()?;
            fraction = true;
        }
        match self.rest {
            [b'e' | b'E', b'0'..=b'9', ..] => self.rest = &self.rest[1..],
            [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => self.rest = &self.rest[2..],
            _ => return (fraction || begin - self.rest.len() <= MAX_DIGITS).then_some(()),
        }
        self.digits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: `json.loads` of Python 3.11.
    #[test]
    fn what_python_reads_is_json() {
        for yes in [
            "{}",
            " [1, 2.5e-3, -0]\n",
            "\"a\\u00e9\\ud800\"",
            "NaN",
            "-Infinity",
            "[Infinity]",
            "{\"a\": {\"b\": [null, true, false]}, \"a\": 1}",
            "1E5",
            "\"é\"",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "{",
            "{'a': 1}",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "\"\n\"",
            "nan",
            "1 2",
            "{\"a\" 1}",
            "\"\\x\"",
            "\u{a0}1",
            "1e",
            "-",
            "\"a",
        ] {
            assert!(!is_json(no), "{no}");
        }
        assert!(!is_json(&"[".repeat(100_000)));
    }
}
