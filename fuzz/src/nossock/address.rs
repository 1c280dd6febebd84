//! Text to [`Address`]: what is read prints as something that reads the same.

use nossock::transport::Address;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(printed.parse::<Address>().as_ref(), Ok(&address), "{text:?} prints as {printed:?}");
            assert_eq!(printed.parse::<Address>().map(|address| address.to_string()), Ok(printed));
            assert!(matches!(address.scheme(), "tcp" | "tls" | "unix"));
        }
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains(char::is_control), "{text:?}: {says:?}");
        }
    }
}
