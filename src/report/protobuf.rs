//! The little of protocol buffers that files for other programs need, and the checks of their records.

/// Kinds of fields.
pub(super) const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
pub(super) const FIXED_32: u64 = 5;

/// A whole number, seven bits a byte, the lowest first.
pub(super) fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number as u8) | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Number and kind of the field that follows.
pub(super) fn put_key(to: &mut Vec<u8>, field: u64, kind: u64) {
    put_varint(to, (field << 3) | kind);
}

/// A whole number as a field.
pub(super) fn put_uint(to: &mut Vec<u8>, field: u64, number: u64) {
    put_key(to, field, VARINT);
    put_varint(to, number);
}

/// A number of double precision as a field.
pub(super) fn put_double(to: &mut Vec<u8>, field: u64, number: f64) {
    put_key(to, field, FIXED_64);
    to.extend(number.to_le_bytes());
}

/// A text or a message as a field.
pub(super) fn put_bytes(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(to, field, LENGTH);
    put_varint(to, bytes.len() as u64);
    to.extend(bytes);
}

/// The check of 32 bits of a polynomial, which is given with its bits the other way round; bit by bit, as what is
/// exported is small.
pub(super) fn reflected_crc(polynomial: u32, data: &[u8]) -> u32 {
    let byte = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let low = crc & 1;
            (crc >> 1) ^ (polynomial * low)
        })
    };
    !data.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seven_bits_a_byte() {
        let mut varint = Vec::new();
        put_varint(&mut varint, 300);
        assert_eq!(varint, [0xac, 0x02]);
    }
}
