//! The common name in a certificate's subject, for people and logs.
//!
//! ```text
//! Name  ::= SEQUENCE OF RDN                          what `name` holds, without the outer header
//! RDN   ::= SET OF SEQUENCE { OID, value }           30 = SEQUENCE, 31 = SET, 06 = OID
//!
//! 31 10 30 0e 06 03 55 04 03 0c 07 66 69 78 74 75 72 65      CN=fixture
//! ```

/// The common name (2.5.4.3), the last one where there are several, as in `getPeerCertificate().subject.CN` of Node.
///
/// `None` where there is none, or it is in an encoding that is no longer issued (anything other than UTF-8 and ASCII).
pub(super) fn common_name(mut name: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let mut found = None;
    while !name.is_empty() {
        let (0x31, mut set, rest) = element(name)? else { return None };
        name = rest;
        while !set.is_empty() {
            let (0x30, attribute, rest) = element(set)? else { return None };
            set = rest;
            let (0x06, oid, value) = element(attribute)? else { return None };
            let (tag, text, _) = element(value)?;
            // UTF8String, PrintableString, IA5String: the latter two are ASCII, and so UTF-8 as well.
            if oid == COMMON_NAME && matches!(tag, 0x0c | 0x13 | 0x16) {
                found = Some(str::from_utf8(text).ok()?);
            }
        }
    }
    found.map(str::to_owned)
}

/// Splits one element off DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(&a, rest)| (usize::from(a), rest))?,
        0x82 => {
            let (&[a, b], rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes([a, b])), rest)
        }
        // A subject of 64 KiB is nobody's name.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `O=nossock tests, CN=fixture`, as openssl wrote it.
    const NAME: &[u8] = b"\x31\x16\x30\x14\x06\x03\x55\x04\x0a\x0c\x0dnossock tests\
        \x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07fixture";

    #[test]
    fn the_common_name_is_found_among_others() {
        assert_eq!(common_name(NAME).as_deref(), Some("fixture"));
        assert_eq!(common_name(&NAME[..24]), None);
        assert_eq!(common_name(b""), None);
    }

    #[test]
    fn a_name_cut_anywhere_is_no_name() {
        for end in 25..NAME.len() {
            assert_eq!(common_name(&NAME[..end]), None, "{end}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at in 0..NAME.len(), byte: u8) {
            common_name(&bytes);
            let mut name = NAME.to_vec();
            name[at] = byte;
            common_name(&name);
        }
    }
}
