//! Text to the address of a daemon: what is read prints as something that reads the same.

use nsp::carrier::Address;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(printed.parse::<Address>().as_ref(), Ok(&address), "{text:?} prints as {printed:?}");
            assert_eq!(printed.split(':').next(), Some(address.scheme().as_str()));
            assert_eq!(address.unix().is_some(), address.host().is_none() && address.port().is_none());
            assert!(address.path().is_none_or(|path| path.starts_with('/')));
        }
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains(char::is_control), "{text:?}: {says:?}");
        }
    }
}
