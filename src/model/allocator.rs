//! The system allocator, tuned for tensors.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system allocator, but for large blocks: these ask Linux for pages of 2 MiB.
///
/// Operands, logits and gradients pass through more small pages than a processor remembers, and in a virtual
/// machine a page that it does not remember costs two walks through tables: a training step of 15 million
/// parameters takes a fifth less time with large ones.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
struct LargePages;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

/// Blocks from this size on are worth a system call, which takes as long as clearing a few KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: usize = 1 << 20;

/// Size of a large page.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PAGE: usize = 2 << 20;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "what an allocator is")]
// SAFETY: blocks are those of `System`, which keeps the promises; advice changes nothing in them.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc_zeroed(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.realloc(block, layout, size) };
        advise(block, size);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Asks for large pages where a large block lies, those included that it has a part of: its neighbours on
/// the heap are tensors, too. Does nothing where the system has none or is told to make none.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[inline]
fn advise(block: *mut u8, size: usize) {
    if size < LARGE || block.is_null() {
        return;
    }
    let before = block.addr() % PAGE;
    let size = (before + size).next_multiple_of(PAGE);
    #[expect(unsafe_code, reason = "a system call")]
    // SAFETY: advice of this kind changes no contents, and is not heeded where nothing is mapped. `errno`,
    // which a refusal sets, is not what callers of an allocator that succeeded look at.
    unsafe {
        libc::madvise(block.wrapping_sub(before).cast(), size, libc::MADV_HUGEPAGE);
    }
}

/// Keeps the memory of freed tensors in the process instead of giving each back to the kernel,
/// which then has to clear it again: a third of an untuned training step on glibc, and almost half of one of 135
/// million parameters while the end of the heap was given back from a GiB on. Call once at the start of the
/// program. Does nothing on other C libraries.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const ONE_GIB: i32 = 1 << 30;
        const NEVER: i32 = -1;
        const TOP_PAD: i32 = 64 << 20;
        #[expect(
            unsafe_code,
            reason = "glibc offers these settings as a C function only"
        )]
        // SAFETY: `mallopt` takes two integers and changes process-wide thresholds.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, ONE_GIB);
            libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::fs::{exists, read_to_string};

    /// The flags of the mapping that holds an address, from `/proc/self/smaps`.
    fn flags(address: usize) -> String {
        let maps = read_to_string("/proc/self/smaps").unwrap();
        let mut here = false;
        for line in maps.lines() {
            let bounds = line.split(' ').next().and_then(|word| {
                let (start, end) = word.split_once('-')?;
                let number = |text| usize::from_str_radix(text, 16).ok();
                Some(number(start)?..number(end)?)
            });
            if let Some(bounds) = bounds {
                here = bounds.contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| here) {
                return flags.to_owned();
            }
        }
        panic!("no mapping holds {address:#x}")
    }

    #[test]
    fn large_blocks_are_where_large_pages_are_asked_for_however_they_came_about() {
        if !exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return;
        }
        let zeroed = vec![0u8; 9 << 20];
        let filled = vec![1u8; 9 << 20];
        let mut grown = vec![1u8; 9 << 20];
        grown.extend_from_slice(&filled);
        for block in [&zeroed, &filled, &grown] {
            for at in [0, block.len() / 2, block.len() - 1] {
                let flags = flags((&raw const block[at]).addr());
                assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
            }
        }
    }
}
