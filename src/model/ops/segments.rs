//! Which rows of a packed pass see each other.

use candle_core::Result;
use std::sync::Arc;

/// Runs of rows ("segments"). Attention is causal within a segment and blocked between segments,
/// except that a segment may continue an earlier one, its trunk: it then sees all of the trunk
/// before its own tokens. Two replies to one prompt are two branches of one trunk; they do not see
/// each other, and the prompt is computed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Where segments begin, and T at the end, `(S + 1,)`.
    cu_seqlens: Arc<[u32]>,
    /// The segment that each continues, itself if none, `(S,)`; empty where none continues another.
    trunks: Arc<[u32]>,
}

impl Segments {
    /// Segments of which none continues another, by their boundaries `(S + 1,)`.
    pub fn new(cu_seqlens: &[u32]) -> Self {
        Self {
            cu_seqlens: cu_seqlens.into(),
            trunks: Arc::default(),
        }
    }

    /// Segments `s` that continue `trunks[s] (S,)`, or nothing where that is `s` itself. Branches
    /// stand directly behind their trunk.
    pub fn forked(cu_seqlens: &[u32], trunks: &[u32]) -> Self {
        Self {
            cu_seqlens: cu_seqlens.into(),
            trunks: trunks.into(),
        }
    }

    /// Refuses segments that do not run from 0 to `tokens` without going back, and branches that do
    /// not stand behind their trunk.
    pub(super) fn check(&self, tokens: usize) -> Result<()> {
        let cu = &self.cu_seqlens;
        let covers = cu.first() == Some(&0) && cu.last().map(|&l| l as usize) == Some(tokens);
        if !covers || cu.windows(2).any(|b| b[0] > b[1]) {
            candle_core::bail!("attention: segments {cu:?} do not cover {tokens} tokens in order");
        }
        if self.trunks.is_empty() {
            return Ok(());
        }
        if self.trunks.len() + 1 != cu.len() {
            let (trunks, segments) = (self.trunks.len(), cu.len() - 1);
            candle_core::bail!("attention: {trunks} trunks for {segments} segments");
        }
        for (s, &trunk) in self.trunks.iter().enumerate() {
            let follows = s > 0 && trunk == self.trunks[s - 1];
            if trunk as usize != s && !follows {
                candle_core::bail!(
                    "attention: segment {s} does not stand behind its trunk {trunk}"
                );
            }
        }
        Ok(())
    }

    /// A trunk and its branches at a time: their boundaries, the trunk's first.
    pub(super) fn groups(&self) -> Vec<&[u32]> {
        let count = self.cu_seqlens.len().saturating_sub(1);
        let begins = |s: usize| self.trunks.get(s).is_none_or(|&trunk| trunk as usize == s);
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
    fn a_group_is_a_trunk_with_its_branches() {
        let plain = Segments::new(&[0, 3, 3, 8]);
        let groups: [&[u32]; 3] = [&[0, 3], &[3, 3], &[3, 8]];
        assert_eq!(plain.groups(), groups);
        let forked = Segments::forked(&[0, 3, 5, 6, 8], &[0, 0, 0, 3]);
        let groups: [&[u32]; 2] = [&[0, 3, 5, 6], &[6, 8]];
        assert_eq!(forked.groups(), groups);
        assert!(Segments::default().groups().is_empty());
    }

    #[test]
    fn segments_that_make_no_sense_are_refused() {
        let error = |segments: Segments| segments.check(8).unwrap_err().to_string();
        assert!(error(Segments::new(&[0, 5])).contains("do not cover 8 tokens"));
        assert!(error(Segments::forked(&[0, 3, 8], &[0])).contains("1 trunks for 2 segments"));
        // A branch of something that is not directly before it, of itself later, of a branch.
        for trunks in [[0, 1, 0], [1, 1, 1], [0, 0, 1]] {
            let error = error(Segments::forked(&[0, 3, 5, 8], &trunks));
            assert!(error.contains("does not stand behind its trunk"), "{error}");
        }
        assert!(Segments::forked(&[0, 3, 5, 8], &[0, 0, 0]).check(8).is_ok());
    }
}
