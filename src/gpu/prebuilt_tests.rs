//! Whether the kernels for cards are those of the sources.

use crate::gpu::testing::folder;
use std::fs;

/// The checksum of POSIX `cksum`.
fn cksum(bytes: &[u8]) -> u32 {
    let length = bytes.len().to_le_bytes();
    let digits = length.len() - length.iter().rev().take_while(|&&b| b == 0).count();
    let all = bytes.iter().chain(&length[..digits]);
    let step = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    };
    !all.fold(0, step)
}

/// Without comments and space.
fn code(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split("//").next());
    let kept = |c: &char| !c.is_ascii_whitespace() && *c != '\\';
    lines.flat_map(str::chars).filter(kept).collect()
}

// Renewed by `prebuilt/make.sh`, which wants an nvcc.
#[test]
fn prebuilt_kernels_are_those_of_the_sources() {
    let here = folder("src/gpu");
    let files = fs::read_dir(here.join("kernels")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort_by_key(|path| (path.extension().map(ToOwned::to_owned), path.clone()));
    let text = |path| fs::read_to_string(path).unwrap();
    let all: String = files.iter().map(|path| code(&text(path))).collect();
    let want = fs::read_to_string(here.join("prebuilt/sources.cksum")).unwrap();
    let got = format!("{} {}\n", cksum(all.as_bytes()), all.len());
    assert_eq!(got, want, "run src/gpu/prebuilt/make.sh");
}

// The example of the standard's text for `cksum`: an empty file.
#[test]
fn the_checksum_is_that_of_posix() {
    assert_eq!(cksum(b""), 4_294_967_295);
    assert_eq!(cksum(b"123456789"), 930_766_865);
}
