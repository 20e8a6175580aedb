//! Training curves as files of events that TensorBoard reads.
//!
//! A file is a sequence of records: the length (u64), its check, the data, its check, all little-endian; a check is the
//! CRC-32C, rotated and shifted so that data which hold checks keep them apart (`tensorflow/core/lib/io/record_writer.h`
//! and `hash/crc32c.h`). The data are protocol buffers of `Event` (`event.proto`): the version first, then a scalar each.

use crate::plan::RunId;
use crate::report::protobuf::{
    FIXED_32, VARINT, put_bytes, put_double, put_key, put_varint, reflected_crc,
};
use crate::report::select::ReportError;
use crate::store::ReadStore;

/// The bytes of an event file with the training curves of a run; none if it has none. Events have the time at which the
/// run was finished, as single steps have none.
///
/// # Errors
/// The store cannot be read.
pub fn event_file(store: &ReadStore, run: &RunId) -> Result<Option<Vec<u8>>, ReportError> {
    let row = store.run(run)?;
    let time = row.finished.unwrap_or(row.created).0 as f64 / 1000.0;
    let steps = store.training_steps(run)?;
    if steps.is_empty() {
        return Ok(None);
    }
    let mut file = Vec::new();
    let mut version = Vec::new();
    put_double(&mut version, 1, time);
    put_bytes(&mut version, 3, b"brain.Event:2");
    put_record(&mut file, &version);
    for (step, tag, value) in steps {
        let Some(value) = value else { continue };
        let mut scalar = Vec::new();
        put_bytes(&mut scalar, 1, tag.as_bytes());
        put_key(&mut scalar, 2, FIXED_32);
        scalar.extend((value as f32).to_le_bytes());
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &scalar);
        let mut event = Vec::new();
        put_double(&mut event, 1, time);
        put_key(&mut event, 2, VARINT);
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary);
        put_record(&mut file, &event);
    }
    Ok(Some(file))
}

fn put_record(to: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(data);
    to.extend(masked(data).to_le_bytes());
}

fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli).
fn crc32c(data: &[u8]) -> u32 {
    reflected_crc(0x82f6_3b78, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 3720, B.4: 32 zeros, 32 ones, 0 to 31; and the check value of the catalogue of CRCs.
    #[test]
    fn checks_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    #[test]
    fn a_record_says_its_length() {
        let mut record = Vec::new();
        put_record(&mut record, b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], 3_u64.to_le_bytes());
    }
}
