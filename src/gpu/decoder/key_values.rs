//! Memory for keys and values that outlive a pass.

use crate::arch::DecoderConfig;
use crate::gpu::decoder::pages::Copied;
use crate::gpu::ops::decode_attention::{Cache, PAGE};
use crate::gpu::{Buf, Gpu, Result, Stored};

/// Keys and values of all layers in a stock of pages.
#[derive(Clone, Debug)]
pub struct KeyValues<T> {
    all: Buf<T>,
    /// Numbers of a page of keys, or of values, of one layer.
    page: usize,
    pages: usize,
}

impl<T: Stored> KeyValues<T> {
    /// Bytes of a page in all layers.
    pub fn page_bytes(config: &DecoderConfig) -> usize {
        2 * config.layers() * Self::page_numbers(config) * size_of::<T>()
    }

    fn page_numbers(config: &DecoderConfig) -> usize {
        config.kv_heads * config.head_dim * PAGE
    }

    /// A stock of so many pages, of any content.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(gpu: &mut dyn Gpu, config: &DecoderConfig, pages: usize) -> Result<Self> {
        let page = Self::page_numbers(config);
        Ok(Self {
            all: gpu.alloc(2 * config.layers() * pages * page)?,
            page,
            pages,
        })
    }

    /// Gives the memory back.
    ///
    /// # Errors
    /// The device is lost.
    pub fn free(&self, gpu: &mut dyn Gpu) -> Result<()> {
        gpu.free(self.all)
    }

    /// Those of one layer.
    pub(super) fn layer(&self, index: usize) -> Cache<T> {
        let count = self.pages * self.page;
        let start = 2 * index * count;
        Cache {
            keys: self.all.part(start..start + count),
            values: self.all.part(start + count..start + 2 * count),
        }
    }

    /// Copies pages, in all layers.
    ///
    /// # Errors
    /// The device refuses.
    pub fn copy(&self, gpu: &mut dyn Gpu, copies: &[Copied]) -> Result<()> {
        let arrays = self.all.len() / (self.pages * self.page).max(1);
        for array in 0..arrays {
            let start = array * self.pages * self.page;
            let page = |number: u32| {
                let at = start + number as usize * self.page;
                self.all.part(at..at + self.page)
            };
            for &Copied { from, to } in copies {
                gpu.copy(page(from), page(to))?;
            }
        }
        Ok(())
    }
}
