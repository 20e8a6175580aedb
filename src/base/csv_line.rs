//! Tables as CSV.

/// One record by RFC 4180, ended by a line feed: fields are quoted where they must be.
pub fn csv_line<S: AsRef<str>>(fields: &[S]) -> String {
    // Of the length of a line: the default buffer would be 8 KiB for each.
    let mut writer = csv::WriterBuilder::new()
        .buffer_capacity(256)
        .from_writer(Vec::new());
    let bytes = fields.iter().map(|f| f.as_ref().as_bytes());
    let written = writer.write_record(bytes);
    debug_assert!(written.is_ok(), "memory takes every record: {written:?}");
    let line = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_only_where_they_must_be() {
        assert_eq!(csv_line(&["a b", "β", "", "1.5"]), "a b,β,,1.5\n");
        assert_eq!(
            csv_line(&["a,b", "say \"no\"", "two\nlines", "\r"]),
            "\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\"\r\"\n"
        );
    }
}
