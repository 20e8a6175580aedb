//! The kernels as `prebuilt/make.sh` made them.

use crate::gpu::error::{GpuError, Result};

/// Machine code by compute capability; it runs on any minor version from its own on.
const CUBINS: &[((i32, i32), &[u8])] = &[
    ((8, 0), include_bytes!("../prebuilt/sm_80.cubin.zst")),
    ((8, 9), include_bytes!("../prebuilt/sm_89.cubin.zst")),
    ((9, 0), include_bytes!("../prebuilt/sm_90.cubin.zst")),
];
/// For all other cards, by the driver's compiler.
const PTX: &[u8] = include_bytes!("../prebuilt/compute_80.ptx.zst");

/// The oldest cards that have `mma.sync` of bf16 and `cp.async`.
pub(super) const OLDEST: (i32, i32) = (8, 0);

/// The newest compute capability that the machine code here was built for and such a card runs.
pub(super) fn built_for(compute: (i32, i32)) -> Option<(i32, i32)> {
    cubin(compute).map(|(of, _)| of)
}

fn cubin(compute: (i32, i32)) -> Option<((i32, i32), &'static [u8])> {
    let fits = |of: (i32, i32)| of.0 == compute.0 && of.1 <= compute.1;
    CUBINS.iter().copied().rfind(|(of, _)| fits(*of))
}

/// What to offer the driver for such a card, best first: machine code where it fits, then PTX. A driver that is older
/// than the machine code refuses it and takes the PTX.
pub(super) fn images(compute: (i32, i32)) -> Result<Vec<Vec<u8>>> {
    let cubin = cubin(compute).map(|(_, bytes)| unpacked(bytes));
    let mut ptx = unpacked(PTX)?;
    ptx.push(0); // text ends with a zero
    Ok(cubin.transpose()?.into_iter().chain([ptx]).collect())
}

/// Whether an image is no text.
pub(super) fn is_machine_code(image: &[u8]) -> bool {
    image.starts_with(b"\x7fELF")
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::decode_all(bytes).map_err(|e| GpuError::NoKernels(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_offered_its_machine_code_and_then_text() {
        for (compute, cubins) in [
            ((8, 0), 1),
            ((8, 6), 1),
            ((8, 9), 1),
            ((9, 0), 1),
            ((10, 0), 0),
            ((12, 0), 0),
        ] {
            let images = images(compute).unwrap();
            assert_eq!(
                images.iter().filter(|image| is_machine_code(image)).count(),
                cubins
            );
            assert_eq!(images.len(), cubins + 1);
            let text = images.last().unwrap();
            assert_eq!(text.last(), Some(&0));
            assert!(std::str::from_utf8(text).unwrap().contains(".version 7.8"));
        }
    }

    // An 8.6 runs the code of 8.0; an 8.9 has its own.
    #[test]
    fn machine_code_is_that_of_the_nearest_older_card() {
        let first = |compute| images(compute).unwrap().swap_remove(0);
        assert!(first((8, 6)) == first((8, 0)) && first((8, 9)) != first((8, 0)));
        let built = [(8, 6), (8, 9), (9, 0), (12, 0)].map(built_for);
        assert_eq!(built, [Some((8, 0)), Some((8, 9)), Some((9, 0)), None]);
    }
}
