//! A length as NoService writes it: sixteen decimal digits, zero padded.
//!
//! The same sixteen bytes stand in front of a TCP chunk and of each part of a packed body. JavaScript's `parseInt` lets
//! the original read `+25`, ` 25` and `0x19` as well; nobody writes them, so we refuse whatever is not sixteen digits.

use bytes::BufMut;

use super::LengthError;

/// How many bytes a length takes.
pub(crate) const DIGITS: usize = 16;

/// Reads a length.
pub(crate) fn read(digits: [u8; DIGITS]) -> Result<u64, LengthError> {
    let mut length: u64 = 0;
    for (position, byte) in digits.into_iter().enumerate() {
        if !byte.is_ascii_digit() {
            let negative = byte == b'-' && digits.iter().take(position).all(|&b| b == b'0' || b == b' ');
            return Err(if negative {
                LengthError::Negative
            } else {
                LengthError::NotADigit { byte, position }
            });
        }
        // Sixteen digits stay below 10^16, so this cannot overflow.
        length = length * 10 + u64::from(byte - b'0');
    }
    Ok(length)
}

/// Writes a length. No buffer in memory reaches 10^16 bytes, so it always fits.
pub(crate) fn write(mut length: usize, out: &mut impl BufMut) {
    let mut digits = [b'0'; DIGITS];
    for slot in digits.iter_mut().rev() {
        if length == 0 {
            break;
        }
        *slot += u8::try_from(length % 10).unwrap_or(0); // it always is one
        length /= 10;
    }
    out.put_slice(&digits);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn sixteen_digits_are_read_and_written() {
        let mut out = BytesMut::new();
        write(25, &mut out);
        assert_eq!(&out[..], b"0000000000000025");
        assert_eq!(read(*b"0000000000000025"), Ok(25));
        assert_eq!(read(*b"9999999999999999"), Ok(9_999_999_999_999_999));
    }

    #[test]
    fn what_the_original_lets_pass_is_refused_by_name() {
        assert_eq!(read(*b"-000000000000005"), Err(LengthError::Negative));
        assert_eq!(read(*b"00000000000000-5"), Err(LengthError::Negative));
        assert_eq!(read(*b"0x00000000000019"), Err(LengthError::NotADigit { byte: b'x', position: 1 }));
        assert_eq!(read(*b"              25"), Err(LengthError::NotADigit { byte: b' ', position: 0 }));
        assert_eq!(read(*b"+000000000000025"), Err(LengthError::NotADigit { byte: b'+', position: 0 }));
        assert_eq!(
            read([0xb0; DIGITS]).unwrap_err().to_string(),
            "byte 0xb0 at position 0 is not a decimal digit"
        );
    }
}
