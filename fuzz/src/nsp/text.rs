//! The text form of NSP 0.4: what is read is a packet, and what is written of it is read as the same.
//!
//! ```text
//! data = [dialect u8] [message …]
//! ```

use bytes::Bytes;
use nsp::proto::text::{self, Dialect};

use super::typed;

pub fn run(data: &[u8]) {
    let [dialect, message @ ..] = data else { return };
    let dialect = [Dialect::V0_4_0, Dialect::V0_4_1, Dialect::V0_4_2][usize::from(*dialect) % 3];
    let message = Bytes::copy_from_slice(message);
    match text::decode(&message, dialect) {
        Ok(packet) => {
            typed::check(&packet);
            // Only what is no JSON cannot be written.
            if let Ok(written) = text::encode(&packet, dialect) {
                let back = text::decode(&written, dialect).unwrap();
                assert_eq!((back.method, back.leg), (packet.method, packet.leg));
                typed::check(&back);
            }
        }
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains(char::is_control), "{says:?}");
        }
    }
}
