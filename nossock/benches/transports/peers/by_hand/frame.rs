//! Kind, name length, name, body length, body.

use std::io;

use crate::messages::invalid;

/// A name ends in a number in requests and replies: `req:add:17`.
pub(crate) const JSON: u8 = b'j';
/// Kind of a frame whose body is bytes.
pub(crate) const RAW: u8 = b'b';

/// A frame that lies in somebody's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// How long the frame that begins `input` is, if its header is there.
#[inline]
pub(crate) fn length(input: &[u8]) -> Option<usize> {
    let at = 2 + usize::from(*input.get(1)?);
    let (body, _) = input.get(at..)?.split_first_chunk::<4>()?;
    Some(at + 4 + u32::from_be_bytes(*body) as usize)
}

/// Hands every whole frame of `input` to `take`, and returns how many bytes they were.
///
/// # Errors
/// What `take` fails with, or `InvalidData` for an unknown kind.
#[inline]
pub(crate) fn each<'a>(
    input: &'a [u8],
    mut take: impl FnMut(Frame<'a>) -> io::Result<()>,
) -> io::Result<usize> {
    let mut at = 0;
    while let Some(length) = length(&input[at..]) {
        let Some(whole) = input.get(at..at + length) else { break };
        let kind = whole[0];
        if kind != JSON && kind != RAW {
            return Err(invalid("a frame of an unknown kind"));
        }
        let (name, rest) = whole[2..].split_at(usize::from(whole[1]));
        take(Frame { kind, name, body: &rest[4..] })?;
        at += length;
    }
    Ok(at)
}

/// Appends a frame; `body` appends its body.
///
/// # Errors
/// What `body` fails with.
#[inline]
pub(crate) fn put<T>(
    out: &mut Vec<u8>,
    kind: u8,
    name: &[u8],
    body: impl FnOnce(&mut Vec<u8>) -> io::Result<T>,
) -> io::Result<T> {
    out.extend_from_slice(&[kind, name.len() as u8]);
    out.extend_from_slice(name);
    finish(out, body)
}

/// Appends a JSON frame whose name ends in a number.
///
/// # Errors
/// What `body` fails with.
#[inline]
pub(crate) fn put_numbered<T>(
    out: &mut Vec<u8>,
    prefix: &[u8],
    number: u64,
    body: impl FnOnce(&mut Vec<u8>) -> io::Result<T>,
) -> io::Result<T> {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    let mut left = number;
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let digits = &digits[first..];
    out.extend_from_slice(&[JSON, (prefix.len() + digits.len()) as u8]);
    out.extend_from_slice(prefix);
    out.extend_from_slice(digits);
    finish(out, body)
}

/// Appends the reply to the request whose name ended in `id`; `value` appends what follows `[null,`.
///
/// # Errors
/// What `value` fails with.
#[inline]
pub(crate) fn put_reply<T>(
    out: &mut Vec<u8>,
    prefix: &[u8],
    id: &[u8],
    value: impl FnOnce(&mut Vec<u8>) -> io::Result<T>,
) -> io::Result<T> {
    out.extend_from_slice(&[JSON, (prefix.len() + id.len()) as u8]);
    out.extend_from_slice(prefix);
    out.extend_from_slice(id);
    finish(out, |out| {
        out.extend_from_slice(b"[null,");
        let done = value(out)?;
        out.push(b']');
        Ok(done)
    })
}

/// The value in the body of a reply.
///
/// # Errors
/// `InvalidData` if the reply carries an error.
#[inline]
pub(crate) fn value(body: &[u8]) -> io::Result<&[u8]> {
    body.strip_prefix(b"[null,")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .ok_or_else(|| invalid(&format!("a reply says {}", String::from_utf8_lossy(body))))
}

/// The number at the end of a name.
#[inline]
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| number.wrapping_mul(10) + u64::from(digit))
    })
}

#[inline]
fn finish<T>(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> io::Result<T>) -> io::Result<T> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let done = body(out)?;
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(done)
}
