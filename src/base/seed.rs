//! Seeds derived by purpose, so that a new consumer never shifts another one's draws.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// A node in a tree of seeds. `root.child("data/order")` depends on the root and the name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedTree([u8; 32]);

impl SeedTree {
    /// The root for a user's seed.
    pub fn root(seed: u64) -> Self {
        Self(blake3::derive_key("lions seed root", &seed.to_le_bytes()))
    }

    /// The seed for one purpose below this node.
    #[must_use]
    pub fn child(&self, purpose: &str) -> Self {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(purpose.as_bytes());
        Self(blake3::derive_key("lions seed child", &bytes))
    }

    /// The seed for the `index`-th of many equal purposes, for example one prompt's samples.
    #[must_use]
    pub fn index(&self, index: u64) -> Self {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&index.to_le_bytes());
        Self(blake3::derive_key("lions seed index", &bytes))
    }

    /// This node as a number, to be the root of another process's tree.
    pub fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A generator that starts here; the stream is stable over versions (ChaCha8).
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore as _;

    #[test]
    fn children_differ_by_name_and_repeat_for_the_same_name() {
        let root = SeedTree::root(7);
        assert_eq!(root.child("a"), root.child("a"));
        assert_ne!(root.child("a"), root.child("b"));
        assert_ne!(SeedTree::root(7).child("a"), SeedTree::root(8).child("a"));
        assert_eq!(
            root.child("a").rng().next_u64(),
            root.child("a").rng().next_u64()
        );
    }
}
