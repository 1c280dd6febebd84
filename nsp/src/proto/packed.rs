//! The packed body: JSON and, where there is one, a blob, each behind its length.
//!
//! ```text
//!  0                16                16+n              32+n
//!  +----------------+-------- ... ----+-----------------+-------- ... ----+
//!  | n              | JSON (n)        | k               | blob (k)        |
//!  | 16 digits      | UTF-8           | 16 digits       |                 |
//!  +----------------+-------- ... ----+-----------------+-------- ... ----+
//!                                     `-- only when there is a blob ------'
//! ```
//!
//! `0000000000000051{"m":"BS","d":{"i":"_a","n":"B","t":"_1","d":null}}0000000000000003abc`: a blob function is called
//! with the three bytes `abc`. In the JSON, `d` of `d` is then `null`; whoever reads it puts the blob there. An empty
//! blob is a second length of zero, and not the same as none.
//!
//! Bytes after the second part are ignored, as the original does. An inner length beyond the end is an error: the
//! original clips it and then fails to read the JSON.

use bytes::{BufMut, Bytes};

use super::error::Part;
use super::{DecodeError, Payload, length};

/// How many bytes stand in front of the blob, or are all there is without one.
pub(crate) fn head_length(payload: &Payload) -> usize {
    let lengths = if payload.blob.is_some() { 2 } else { 1 };
    lengths * length::DIGITS + payload.json.len()
}

/// Writes everything but the blob's own bytes.
pub(crate) fn write_head(payload: &Payload, out: &mut impl BufMut) {
    length::write(payload.json.len(), out);
    out.put_slice(&payload.json);
    if let Some(blob) = &payload.blob {
        length::write(blob.len(), out);
    }
}

/// Takes a packed body apart without copying it.
pub(super) fn read(mut body: Bytes) -> Result<Payload, DecodeError> {
    let json = read_part(&mut body, Part::Json)?;
    let blob = if body.is_empty() { None } else { Some(read_part(&mut body, Part::Blob)?) };
    Ok(Payload { json, blob })
}

fn read_part(body: &mut Bytes, part: Part) -> Result<Bytes, DecodeError> {
    let Some(&digits) = body.first_chunk::<{ length::DIGITS }>() else {
        return Err(DecodeError::PackedBeyondEnd { part, length: 0, left: body.len() });
    };
    let length = length::read(digits).map_err(|fault| DecodeError::PackedLength { part, fault })?;
    let left = body.len() - length::DIGITS;
    match usize::try_from(length) {
        Ok(length) if length <= left => {
            let mut part = body.split_to(length::DIGITS + length);
            Ok(part.split_off(length::DIGITS))
        }
        _ => Err(DecodeError::PackedBeyondEnd { part, length, left }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::proto::LengthError;

    fn written(payload: &Payload) -> Bytes {
        let mut out = BytesMut::new();
        write_head(payload, &mut out);
        assert_eq!(out.len(), head_length(payload));
        out.extend_from_slice(payload.blob.as_deref().unwrap_or_default());
        out.freeze()
    }

    #[test]
    fn empty_blob_is_not_no_blob() {
        let without = read(Bytes::from_static(b"0000000000000002{}")).unwrap();
        assert_eq!(without, Payload { json: Bytes::from_static(b"{}"), blob: None });
        let with = read(Bytes::from_static(b"0000000000000002{}0000000000000000")).unwrap();
        assert_eq!(with.blob, Some(Bytes::new()));
        assert_eq!(&written(&without)[..], b"0000000000000002{}");
        assert_eq!(&written(&with)[..], b"0000000000000002{}0000000000000000");
    }

    #[test]
    fn bytes_after_the_blob_are_ignored() {
        let payload = read(Bytes::from_static(b"0000000000000002{}0000000000000001xyz")).unwrap();
        assert_eq!(payload.blob.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused_with_what_is_left() {
        assert_eq!(
            read(Bytes::from_static(b"0000000000000999{}")),
            Err(DecodeError::PackedBeyondEnd { part: Part::Json, length: 999, left: 2 })
        );
        assert_eq!(
            read(Bytes::from_static(b"0000000000000002{}000")),
            Err(DecodeError::PackedBeyondEnd { part: Part::Blob, length: 0, left: 3 })
        );
        assert_eq!(
            read(Bytes::from_static(b"9999999999999999")),
            Err(DecodeError::PackedBeyondEnd { part: Part::Json, length: 9_999_999_999_999_999, left: 0 })
        );
    }

    #[test]
    fn bare_json_where_a_length_belongs_is_refused() {
        let error = read(Bytes::from_static(br#"{"m":"VE","d":{"i":"x"}}"#)).unwrap_err();
        let fault = LengthError::NotADigit { byte: b'{', position: 0 };
        assert_eq!(error, DecodeError::PackedLength { part: Part::Json, fault });
    }
}
