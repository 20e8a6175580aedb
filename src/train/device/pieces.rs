//! Arrays of the device as bytes of files, some at a time.

use crate::arch::FloatFormat;
use crate::gpu::{Buf, Gpu, Region};
use crate::train::engine::{Give, Take};
use crate::train::error::TrainError;
use half::{bf16, f16};
use std::ops::Range;

/// Bytes that are held on the host at once.
const PIECE: usize = 64 << 20;

/// Parts of some bytes, from front to back.
pub(super) fn pieces(bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let starts = bytes.clone().step_by(PIECE);
    starts.map(move |start| start..bytes.end.min(start + PIECE))
}

/// The same of a region.
fn regions(of: Region) -> impl Iterator<Item = Region> {
    pieces(0..of.bytes()).map(move |part| Region {
        at: of.at + part.start as u64,
        bytes: part.len(),
    })
}

/// Gives the bytes of an array.
pub(super) fn visit(gpu: &mut dyn Gpu, of: Region, take: &mut Take<'_>) -> Result<(), TrainError> {
    for piece in regions(of) {
        let mut bytes = vec![0; piece.bytes()];
        gpu.download_bytes(piece, &mut bytes)?;
        take(&bytes)?;
    }
    Ok(())
}

/// Asks for the bytes of an array.
pub(super) fn fill(gpu: &mut dyn Gpu, to: Region, give: &mut Give<'_>) -> Result<(), TrainError> {
    for piece in regions(to) {
        let mut bytes = vec![0; piece.bytes()];
        give(&mut bytes)?;
        gpu.upload_bytes(&bytes, piece)?;
    }
    Ok(())
}

/// Asks for the bytes of so many f32 numbers, which are kept elsewhere.
pub(super) fn skip(numbers: usize, give: &mut Give<'_>) -> Result<(), TrainError> {
    pieces(0..numbers * size_of::<f32>()).try_for_each(|part| give(&mut vec![0; part.len()]))
}

/// Gives the numbers of an array in `format`.
pub(super) fn visit_as(
    gpu: &mut dyn Gpu,
    of: Buf<f32>,
    format: FloatFormat,
    take: &mut Take<'_>,
) -> Result<(), TrainError> {
    for piece in regions(of.region()).map(Buf::<f32>::new) {
        let mut numbers = vec![0.0; piece.len()];
        gpu.download(piece, &mut numbers)?;
        take(&encoded(&numbers, format))?;
    }
    Ok(())
}

/// Numbers in `format`, little-endian, rounded to nearest.
fn encoded(numbers: &[f32], format: FloatFormat) -> Vec<u8> {
    let numbers = numbers.iter();
    match format {
        FloatFormat::F32 => numbers.flat_map(|x| x.to_le_bytes()).collect(),
        FloatFormat::Bf16 => numbers
            .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        FloatFormat::F16 => numbers
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect(),
        FloatFormat::F64 => numbers.flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
    }
}
