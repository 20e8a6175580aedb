//! Text for a terminal: how wide it is, labels cut and sentences broken so that they fit.

use unicode_width::UnicodeWidthStr as _;

/// Columns of a terminal that a text takes: two for each wide character (Chinese, Japanese, Korean,
/// emoji), none for combining ones and for colour codes.
pub fn display_width(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    // Whole pieces between the codes, because an emoji may be several characters.
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        width += before.width();
        rest = code.split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

/// The text, or its beginning with an ellipsis if it is wider than `width`: whole words as long as
/// they fill half of the room, and never a part of a number, which would read as another one.
pub fn cut_text(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let (open, inner, close) = unpainted(text);
    let head = beginning(inner, width - 1);
    format!("{open}{head}…{close}")
}

/// The part of a too wide text that is kept in `width` columns.
fn beginning(text: &str, width: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let fits = |end: &usize| display_width(&text[..*end]) <= width;
    let end = ends.take_while(fits).last().unwrap_or(0);
    let (head, rest) = text.split_at(end);
    if let Some(blank) = head.rfind(' ')
        && display_width(&head[..=blank]) * 2 >= width
    {
        return &head[..=blank];
    }
    let of_a_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if rest.starts_with(of_a_number) {
        head.trim_end_matches(of_a_number)
    } else {
        head
    }
}

/// The text as lines of at most `width` columns, broken between words. What stands between backticks is
/// one word: commands can be copied. Further lines begin with the blanks of the first and `indent`
/// more. A word that is wider than a line stays whole.
pub fn wrap_text(text: &str, width: usize, indent: usize) -> Vec<String> {
    let lines = text.split('\n');
    lines
        .flat_map(|line| wrap_line(line, width, indent))
        .collect()
}

fn wrap_line(line: &str, width: usize, indent: usize) -> Vec<String> {
    if display_width(line) <= width {
        return vec![line.to_owned()];
    }
    let (open, inner, close) = unpainted(line);
    let own = inner.len() - inner.trim_start_matches(' ').len();
    let margin = " ".repeat(own + indent);
    let mut lines = Vec::new();
    let mut current = String::new();
    for (gap, word) in words(inner.trim_end(), width) {
        let begun = !current.trim_start().is_empty();
        let wide = display_width(&current) + gap.len() + display_width(word) > width;
        if begun && wide {
            lines.push(std::mem::replace(&mut current, margin.clone()));
        } else {
            current += gap;
        }
        current += word;
    }
    lines.push(current);
    let painted = |line: String| format!("{open}{line}{close}");
    lines.into_iter().map(painted).collect()
}

/// The words of a line, each with the blanks before it.
fn words(line: &str, width: usize) -> Vec<(&str, &str)> {
    let quotes: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let unbalanced = line.matches('`').count() % 2 == 1;
    // A quotation that is wider than a line must be broken as well.
    let plain = unbalanced || quotes.iter().any(|text| display_width(text) + 2 > width);
    let mut found = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let (gap, tail) = rest.split_at(blanks);
        let mut quoted = false;
        let end = tail.find(|c: char| {
            quoted ^= c == '`' && !plain;
            c == ' ' && !quoted
        });
        let (word, after) = tail.split_at(end.unwrap_or(tail.len()));
        found.push((gap, word));
        rest = after;
    }
    found
}

const RESET: &str = "\u{1b}[0m";

/// The codes that colour a text, what they colour, and the one that ends them; no codes if they do not
/// colour it as a whole.
fn unpainted(text: &str) -> (&str, &str, &str) {
    let whole = || {
        let mut start = 0;
        while text[start..].starts_with('\u{1b}') {
            start += text[start..].find('m')? + 1;
        }
        let inner = text[start..].strip_suffix(RESET)?;
        (!inner.contains('\u{1b}')).then_some((&text[..start], inner, RESET))
    };
    whole().unwrap_or(("", text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Two columns each: 日, 本, the thumb with its skin, the family of three joined ones; one each:
    // é of two characters, a.
    #[test]
    fn wide_and_combining_characters_take_the_room_they_take() {
        assert_eq!(display_width("日本"), 4);
        assert_eq!(display_width("e\u{301}a"), 2);
        assert_eq!(display_width("👍🏽"), 2);
        assert_eq!(display_width("👨\u{200d}👩\u{200d}👧"), 2);
        assert_eq!(display_width("\u{1b}[1;32m日\u{1b}[0m!"), 3);
        assert_eq!(display_width("cut \u{1b}[3"), 4);
    }

    #[test]
    fn a_label_is_cut_between_words_and_never_within_a_number() {
        let label = "pairs=440 learning-rate=0.00015 loss=sigmoid";
        for (width, cut) in [
            (80, label),
            (40, "pairs=440 learning-rate=0.00015 …"),
            (28, "pairs=440 learning-rate=…"),
            (12, "pairs=440 …"),
            (8, "pairs=…"),
            (1, "…"),
            (0, ""),
        ] {
            assert_eq!(cut_text(label, width), cut, "{width}");
        }
        let wide = "混合=指示と物語 学習率=0.1";
        for width in 1..30 {
            let cut = cut_text(wide, width);
            assert!(display_width(&cut) <= width, "{width}: {cut}");
        }
        assert_eq!(
            cut_text("\u{1b}[2mlabel of it\u{1b}[0m", 8),
            "\u{1b}[2mlabel …\u{1b}[0m"
        );
    }

    #[test]
    fn sentences_are_broken_between_words_and_commands_are_not() {
        let text = "  run ab was last seen 7 s ago; the next `lions run x.toml` takes it back";
        assert_eq!(wrap_text(text, 80, 2), [text]);
        assert_eq!(
            wrap_text(text, 36, 2),
            [
                "  run ab was last seen 7 s ago; the",
                "    next `lions run x.toml` takes it",
                "    back"
            ]
        );
        // The whole command is wider than a line.
        assert_eq!(
            wrap_text("try `lions run x.toml` again", 10, 0),
            ["try `lions", "run", "x.toml`", "again"]
        );
        assert_eq!(wrap_text("a\nb", 80, 2), ["a", "b"]);
        assert_eq!(wrap_text("", 10, 2), [""]);
        assert_eq!(
            wrap_text("\u{1b}[33mtwo words\u{1b}[0m", 5, 0),
            ["\u{1b}[33mtwo\u{1b}[0m", "\u{1b}[33mwords\u{1b}[0m"]
        );
        let path = "a/very/long/path/of/a/file";
        assert_eq!(
            wrap_text(&format!("at {path}"), 10, 2),
            ["at", "  a/very/long/path/of/a/file"]
        );
    }
}
