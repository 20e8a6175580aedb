//! Which rows of a packed pass see each other.

use std::sync::Arc;

/// Runs of rows ("segments"). Attention is causal within a segment and blocked between segments,
/// except that a segment may continue an earlier one, its shared prefix: it then sees all of the
/// prefix before its own tokens. Two replies to one prompt are two suffixes of one prefix; they do
/// not see each other, and the prompt is computed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Where segments begin, and T at the end, `(S + 1,)`.
    cu_seqlens: Arc<[u32]>,
    /// The segment that each continues, itself if none, `(S,)`; empty where none continues another.
    prefixes: Arc<[u32]>,
}

impl Segments {
    /// Segments of which none continues another, by their boundaries `(S + 1,)`.
    pub fn new(cu_seqlens: &[u32]) -> Self {
        Self {
            cu_seqlens: cu_seqlens.into(),
            prefixes: Arc::default(),
        }
    }

    /// Segments `s` that continue `prefixes[s] (S,)`, or nothing where that is `s` itself. Suffixes
    /// stand directly behind their prefix.
    pub fn with_prefixes(cu_seqlens: &[u32], prefixes: &[u32]) -> Self {
        Self {
            cu_seqlens: cu_seqlens.into(),
            prefixes: prefixes.into(),
        }
    }

    /// Refuses segments, with the reason, that do not run from 0 to `tokens` without going back, and suffixes that do
    /// not stand behind their prefix.
    pub fn check(&self, tokens: usize) -> Result<(), String> {
        let cu = &self.cu_seqlens;
        let covers = cu.first() == Some(&0) && cu.last().map(|&l| l as usize) == Some(tokens);
        if !covers || cu.windows(2).any(|b| b[0] > b[1]) {
            return Err(format!(
                "segments {cu:?} do not cover {tokens} tokens in order"
            ));
        }
        if self.prefixes.is_empty() {
            return Ok(());
        }
        if self.prefixes.len() + 1 != cu.len() {
            let (prefixes, segments) = (self.prefixes.len(), cu.len() - 1);
            return Err(format!("{prefixes} prefixes for {segments} segments"));
        }
        for (s, &prefix) in self.prefixes.iter().enumerate() {
            let follows = s > 0 && prefix == self.prefixes[s - 1];
            if prefix as usize != s && !follows {
                return Err(format!(
                    "segment {s} does not stand behind its prefix {prefix}"
                ));
            }
        }
        Ok(())
    }

    /// A prefix and its suffixes at a time: their boundaries, the prefix's first.
    pub fn groups(&self) -> Vec<&[u32]> {
        let count = self.cu_seqlens.len().saturating_sub(1);
        let begins = |s: usize| {
            self.prefixes
                .get(s)
                .is_none_or(|&prefix| prefix as usize == s)
        };
        let mut groups = Vec::new();
        let mut first = 0;
        for end in 1..=count {
            if end == count || begins(end) {
                groups.push(&self.cu_seqlens[first..=end]);
                first = end;
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_prefix_with_its_suffixes() {
        let plain = Segments::new(&[0, 3, 3, 8]);
        let groups: [&[u32]; 3] = [&[0, 3], &[3, 3], &[3, 8]];
        assert_eq!(plain.groups(), groups);
        let shared = Segments::with_prefixes(&[0, 3, 5, 6, 8], &[0, 0, 0, 3]);
        let groups: [&[u32]; 2] = [&[0, 3, 5, 6], &[6, 8]];
        assert_eq!(shared.groups(), groups);
        assert!(Segments::default().groups().is_empty());
    }

    #[test]
    fn segments_that_make_no_sense_are_refused() {
        let error = |segments: Segments| segments.check(8).unwrap_err();
        assert!(error(Segments::new(&[0, 5])).contains("do not cover 8 tokens"));
        assert!(
            error(Segments::with_prefixes(&[0, 3, 8], &[0])).contains("1 prefixes for 2 segments")
        );
        // A suffix of something that is not directly before it, of itself later, of a suffix.
        for prefixes in [[0, 1, 0], [1, 1, 1], [0, 0, 1]] {
            let error = error(Segments::with_prefixes(&[0, 3, 5, 8], &prefixes));
            assert!(
                error.contains("does not stand behind its prefix"),
                "{error}"
            );
        }
        assert!(
            Segments::with_prefixes(&[0, 3, 5, 8], &[0, 0, 0])
                .check(8)
                .is_ok()
        );
    }
}
