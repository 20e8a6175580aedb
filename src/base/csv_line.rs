//! Tables as CSV.

use std::borrow::Cow;

/// One record by RFC 4180, ended by a line feed: fields are quoted where they must be. Texts that a
/// spreadsheet would compute as formulas get an apostrophe before them (OWASP, "CSV injection"); numbers stay.
pub fn csv_line<S: AsRef<str>>(fields: &[S]) -> String {
    // Of the length of a line: the default buffer would be 8 KiB for each.
    let mut writer = csv::WriterBuilder::new()
        .buffer_capacity(256)
        .from_writer(Vec::new());
    let written = writer.write_record(fields.iter().map(|f| text_cell(f.as_ref()).into_owned()));
    debug_assert!(written.is_ok(), "memory takes every record: {written:?}");
    let line = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// A field that no spreadsheet takes for a formula.
fn text_cell(field: &str) -> Cow<'_, str> {
    if field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err() {
        Cow::Owned(format!("'{field}"))
    } else {
        Cow::Borrowed(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_only_where_they_must_be() {
        assert_eq!(csv_line(&["a b", "β", "", "1.5"]), "a b,β,,1.5\n");
        assert_eq!(
            csv_line(&["a,b", "say \"no\"", "two\nlines", "a\r"]),
            "\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\"a\r\"\n"
        );
    }

    #[test]
    fn texts_are_no_formulas_and_numbers_stay_numbers() {
        assert_eq!(
            csv_line(&["=cmd|'/c x'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r"]),
            "'=cmd|'/c x'!A1,'+1+1,'-2+3,'@SUM(1),'\t=1,\"'\r\"\n"
        );
        let numbers = ["-0.5", "-1e-7", "+3", "-inf", "a=1", "beta-2"];
        assert_eq!(csv_line(&numbers), numbers.join(",") + "\n");
    }
}
