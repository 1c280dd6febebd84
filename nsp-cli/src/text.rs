//! Texts that people and peers write.

use std::path::Path;
use std::time::Duration;

/// `500ms`, `2s`, `1m`, `30d`, or a number of seconds.
///
/// # Errors
/// With what is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.trim().parse().map_err(|_| format!("`{text}` is no time: write 500ms, 2s or 1m"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => return Err(format!("`{unit}` is no unit of time: write ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `64KiB`, `1MiB`, `2GB`, or a number of bytes.
///
/// # Errors
/// With what is wrong with it.
pub fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` is no size: write 64KiB, 1MiB or a number of bytes"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit of size: write KiB, MiB or GiB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

/// A number of bytes, as people read it.
#[must_use]
pub fn shown_size(bytes: u64) -> String {
    for (factor, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// A time, as people read and write it.
#[must_use]
pub fn shown_time(time: Duration) -> String {
    let millis = time.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// The name of a file that a peer proposed, made harmless: no folders, nothing hidden, nothing a terminal obeys.
#[must_use]
pub fn harmless(name: &str) -> String {
    let last = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let clean: String = last
        .chars()
        .map(|c| {
            if c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') {
                '_'
            } else {
                c
            }
        })
        .collect();
    let clean = clean.trim_matches([' ', '.']);
    if clean.is_empty() { "unnamed".to_owned() } else { clean.chars().take(120).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_names_stay_in_their_folder() {
        for (proposed, expected) in [
            ("../../etc/passwd", "passwd"),
            ("..", "unnamed"),
            ("/", "unnamed"),
            (".bashrc", "bashrc"),
            ("a\u{1b}[2Jb", "a_[2Jb"),
            ("C:\\evil", "C__evil"),
            ("photo.png", "photo.png"),
        ] {
            assert_eq!(harmless(proposed), expected);
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert!(duration("soon").unwrap_err().contains("is no time"));
        assert!(duration("2 weeks").unwrap_err().contains("is no unit"));
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1_000"), Ok(1000));
        assert_eq!(size("2 MB"), Ok(2_000_000));
        assert!(size("big").unwrap_err().contains("is no size"));
        assert!(size("1 TiB").unwrap_err().contains("is no unit"));
        assert!(size("99999999999999GiB").unwrap_err().contains("too large"));
    }

    #[test]
    fn sizes_and_times_are_shown_as_they_are_written() {
        for text in ["1 KiB", "3 MiB", "2 GiB", "1000 B"] {
            assert_eq!(shown_size(size(text).unwrap()), text);
        }
        for text in ["1500ms", "2s", "90s", "1h", "30d"] {
            assert_eq!(shown_time(duration(text).unwrap()), text);
        }
    }
}
