use std::io::IoSlice;

use bytes::Bytes;

/// Bytes on their way out: small frames side by side in one buffer, large bodies as they are.
///
/// ```text
/// small   [head a][body a][head B][head c][body c]
/// large                           ▲ (at, body B)
/// ```
///
/// A large body is not copied; it waits with the place in `small` at which it belongs, and leaves with its
/// neighbours in one vectored write.
#[derive(Default)]
pub struct Outbox {
    small: Vec<u8>,
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
    /// What has left: bytes of `small`, whole bodies of `large`, bytes of the next one.
    small_at: usize,
    large_at: usize,
    within: usize,
    written: usize,
}

impl Outbox {
    /// From this many bytes on a body is handed over rather than copied.
    ///
    /// Below it a copy costs less than one more entry of a vectored write and a reference count.
    pub const LARGE: usize = 8 * 1024;

    /// The buffer to which heads and small bodies are appended.
    pub const fn small(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Appends a body without copying it.
    pub fn push(&mut self, body: Bytes) {
        if !body.is_empty() {
            self.large_bytes += body.len();
            self.large.push((self.small.len(), body));
        }
    }

    /// Puts bytes before everything else, as long as nothing of it has left; the buffer that is not needed any more
    /// comes back empty.
    pub fn push_first(&mut self, bytes: &mut Vec<u8>) {
        debug_assert_eq!(self.written, 0, "what has begun to leave has a first byte");
        if !self.small.is_empty() || !self.large.is_empty() {
            for (place, _) in &mut self.large {
                *place += bytes.len();
            }
            bytes.extend_from_slice(&self.small);
        }
        std::mem::swap(&mut self.small, bytes);
        bytes.clear();
    }

    /// Bytes that have not left yet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.small.len() + self.large_bytes - self.written
    }

    /// Whether everything has left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what is next; gives how many are used.
    pub fn chunks<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut at = self.small_at;
        let mut within = self.within;
        let mut large = self.large.get(self.large_at..).unwrap_or_default().iter();
        while used < slices.len() {
            let next = large.next();
            let end = next.map_or(self.small.len(), |(place, _)| *place);
            for chunk in [self.small.get(at..end), next.and_then(|(_, body)| body.get(within..))] {
                if let (Some(chunk @ [_, ..]), Some(slot)) = (chunk, slices.get_mut(used)) {
                    *slot = IoSlice::new(chunk);
                    used += 1;
                } else if chunk.is_some_and(|chunk| !chunk.is_empty()) {
                    return used;
                }
            }
            if next.is_none() {
                break;
            }
            (at, within) = (end, 0);
        }
        used
    }

    /// Notes that `n` bytes have left.
    pub fn advance(&mut self, mut n: usize) {
        self.written += n;
        while n > 0 {
            let next = self.large.get_mut(self.large_at);
            let end = next.as_ref().map_or(self.small.len(), |(place, _)| *place);
            let step = n.min(end - self.small_at);
            self.small_at += step;
            n -= step;
            let (Some((_, body)), true) = (next, n > 0) else { break };
            let step = n.min(body.len() - self.within);
            self.within += step;
            n -= step;
            if self.within == body.len() {
                *body = Bytes::new(); // its owner may be waiting to use the memory again
                self.large_at += 1;
                self.within = 0;
            }
        }
    }

    /// Makes it empty and gives its buffer away, to be used again elsewhere.
    #[inline]
    pub fn take_buffer(&mut self) -> Vec<u8> {
        if self.small.capacity() == 0 && self.large.is_empty() {
            return Vec::new(); // as it is whenever a driver goes to sleep that had nothing to say
        }
        std::mem::take(self).small
    }

    /// Makes it empty, keeping at most `keep` bytes of capacity.
    pub fn clear(&mut self, keep: usize) {
        let mut small = std::mem::take(&mut self.small);
        small.clear();
        small.shrink_to(keep);
        let mut large = std::mem::take(&mut self.large);
        large.clear();
        large.shrink_to(if keep == 0 { 0 } else { 64 });
        *self = Self { small, large, ..Self::default() };
    }
}

/// Shows how much it is, and not what: a log is no place for what users send.
impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = outbox.chunks(&mut slices);
            let all: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let n = step.min(all.len());
            assert!(n > 0, "an outbox that is not empty has something to write");
            out.extend_from_slice(&all[..n]);
            outbox.advance(n);
        }
        out
    }

    #[test]
    fn what_is_put_first_leaves_first_and_moves_large_bodies_along() {
        let mut outbox = Outbox::default();
        let mut first = b"one ".to_vec();
        outbox.push_first(&mut first);
        assert!(first.is_empty());
        outbox.small().extend_from_slice(b"two ");
        outbox.push(Bytes::from_static(b"LARGE"));
        outbox.small().extend_from_slice(b" three");
        outbox.push_first(&mut b"zero ".to_vec());
        assert_eq!(outbox.len(), 24);
        assert_eq!(drain(&mut outbox, 3), b"zero one two LARGE three");
    }

    #[test]
    fn order_is_kept_whatever_a_write_takes() {
        for step in 1..40 {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (i, large) in [false, true, true, false, true, false].into_iter().enumerate() {
                let part = vec![b'a' + u8::try_from(i).unwrap(); 3 + i];
                expected.extend_from_slice(&part);
                if large { outbox.push(part.into()) } else { outbox.small().extend_from_slice(&part) }
            }
            assert_eq!(outbox.len(), expected.len());
            assert_eq!(drain(&mut outbox, step), expected, "step {step}");
            outbox.clear(0);
            assert!(outbox.is_empty());
        }
    }
}
