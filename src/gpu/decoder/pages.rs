//! Who has which page of a cache: decided on the host, where nothing of what the pages hold is known.

use crate::gpu::ops::decode_attention::PAGE;
use crate::gpu::{GpuError, Result};

/// A stock of pages, of which several sequences may have the same.
#[derive(Clone, Debug)]
pub struct Pages {
    free: Vec<u32>,
    /// How many sequences have each.
    users: Vec<u32>,
}

/// A sequence in a cache. Its last page is its own unless that is full: others that go on from the same tokens have a copy.
#[derive(Debug, Default)]
pub struct Sequence {
    pages: Vec<u32>,
    len: usize,
}

/// A page that has to be copied to another before either is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Pages {
    /// Pages that nobody has.
    pub fn new(count: usize) -> Self {
        Self {
            free: (0..count as u32).rev().collect(),
            users: vec![0; count],
        }
    }

    fn take(&mut self) -> Result<u32> {
        let full = || {
            GpuError::Request(format!(
                "all {} pages of a cache are in use",
                self.users.len()
            ))
        };
        let page = self.free.pop().ok_or_else(full)?;
        self.users[page as usize] = 1;
        Ok(page)
    }

    /// A sequence of so many positions, none of which is written yet.
    ///
    /// # Errors
    /// There are not enough pages.
    pub fn sequence(&mut self, len: usize) -> Result<Sequence> {
        let mut new = Sequence::default();
        for _ in 0..len.div_ceil(PAGE) {
            match self.take() {
                Ok(page) => new.pages.push(page),
                Err(error) => {
                    self.release(new);
                    return Err(error);
                }
            }
        }
        new.len = len;
        Ok(new)
    }

    /// Another sequence of the same tokens. Both have the pages that are full; the last one is to be copied if it is not.
    ///
    /// # Errors
    /// There are not enough pages.
    pub fn fork(&mut self, of: &Sequence) -> Result<(Sequence, Option<Copied>)> {
        let full = of.len / PAGE;
        let copied = match of.pages.get(full) {
            Some(&from) => Some(Copied {
                from,
                to: self.take()?,
            }),
            None => None,
        };
        let mut pages = of.pages[..full].to_vec();
        for &page in &pages {
            self.users[page as usize] += 1;
        }
        pages.extend(copied.map(|copied| copied.to));
        Ok((Sequence { pages, len: of.len }, copied))
    }

    /// Makes room for one token more.
    ///
    /// # Errors
    /// There are not enough pages.
    pub fn grow(&mut self, sequence: &mut Sequence) -> Result<()> {
        if sequence.len.is_multiple_of(PAGE) {
            sequence.pages.push(self.take()?);
        }
        sequence.len += 1;
        Ok(())
    }

    /// Takes a sequence's pages back.
    pub fn release(&mut self, sequence: Sequence) {
        for page in sequence.pages {
            let users = &mut self.users[page as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(page);
            }
        }
    }

    /// Pages that nobody has.
    #[cfg(test)]
    fn left(&self) -> usize {
        self.free.len()
    }
}

impl Sequence {
    /// Its pages, in order.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Its positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_share_full_pages_until_the_last_of_them_is_gone() {
        let mut stock = Pages::new(6);
        let prompt = stock.sequence(PAGE + 3).unwrap();
        let (mut one, copied) = stock.fork(&prompt).unwrap();
        let (other, _) = stock.fork(&prompt).unwrap();
        assert_eq!(
            copied,
            Some(Copied {
                from: prompt.pages()[1],
                to: one.pages()[1]
            })
        );
        assert_eq!([one.pages()[0], other.pages()[0]], [prompt.pages()[0]; 2]);
        assert_ne!(one.pages()[1], other.pages()[1]);
        assert_eq!(stock.left(), 2);
        for _ in PAGE + 3..2 * PAGE {
            stock.grow(&mut one).unwrap();
        }
        assert_eq!((one.len(), one.pages().len()), (2 * PAGE, 2));
        let (same, copied) = stock.fork(&one).unwrap();
        assert_eq!((copied, same.pages()), (None, one.pages()));
        stock.grow(&mut one).unwrap();
        assert_eq!((one.pages().len(), same.pages().len()), (3, 2));
        assert!(stock.sequence(2 * PAGE).is_err(), "one page is left");
        assert_eq!(stock.left(), 1, "what could not be had whole is not kept");
        for sequence in [prompt, one] {
            stock.release(sequence);
        }
        assert_eq!(stock.left(), 3);
        for sequence in [other, same] {
            stock.release(sequence);
        }
        assert_eq!(stock.left(), 6);
    }
}
