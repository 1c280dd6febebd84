//! Random ids: what was recorded under one is said by us under another.

use std::collections::HashMap;

use nsp::proto::Packet;
use serde_json::Value;

/// From recorded ids to ours.
#[derive(Default)]
pub(crate) struct Ids {
    ours: HashMap<String, String>,
}

impl Ids {
    /// Puts our ids in the place of the recorded ones.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.ours.iter().fold(text.to_owned(), |text, (recorded, ours)| {
            text.replace(&format!("\"{recorded}\""), &format!("\"{ours}\""))
        })
    }

    /// The recorded packet with our ids.
    pub(crate) fn translate(&self, packet: &Packet) -> Packet {
        let mut packet = packet.clone();
        let text = String::from_utf8(packet.payload.json.to_vec()).unwrap();
        packet.payload.json = self.apply(&text).into();
        packet
    }

    /// Says how what we said differs from what was recorded, once the ids that are new in it are known to belong together.
    pub(crate) fn compare(&mut self, recorded: &Packet, ours: &Packet) -> Result<(), String> {
        let parse = |packet: &Packet| serde_json::from_slice(&packet.payload.json);
        if let (Ok(a), Ok(b)) = (parse(recorded), parse(ours)) {
            self.learn(&a, &b);
        }
        let translated = self.translate(recorded);
        if translated == *ours {
            return Ok(());
        }
        let show = |packet: &Packet| {
            let json = String::from_utf8_lossy(&packet.payload.json);
            format!("{}{}{json} {:?}", packet.method, packet.leg, packet.payload.blob)
        };
        Err(format!("recorded {}\nwe said  {}", show(&translated), show(ours)))
    }

    fn learn(&mut self, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::String(recorded), Value::String(ours)) if is_random(recorded) => {
                if recorded == ours {
                    self.ours.remove(recorded);
                } else {
                    self.ours.insert(recorded.clone(), ours.clone());
                }
            }
            (Value::Object(recorded), Value::Object(ours)) => {
                for (key, value) in recorded {
                    self.learn(value, ours.get(key).unwrap_or(&Value::Null));
                }
            }
            _ => {}
        }
    }
}

/// Whether a text was drawn and not chosen: an id of the original, or a UUID.
fn is_random(text: &str) -> bool {
    let base36 = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let short = text.strip_prefix('_').is_some_and(|rest| (1..=9).contains(&rest.len()) && base36(rest));
    let uuid = text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    short || uuid
}
