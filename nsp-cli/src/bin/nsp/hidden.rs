//! Typing that the terminal does not show.
//!
//! `rpassword` edits the line. It would set up the terminal as well, but only when its prompt has been printed: what is typed in the
//! instant between would be shown. And Ctrl-C would end the program before the terminal is as it was. So here the terminal is set up
//! first and by us, and what `rpassword` reads are keys.

use std::io;

/// Prints a prompt, and reads a line that is not shown.
///
/// # Errors
/// [`Interrupted`](io::ErrorKind::Interrupted) at Ctrl-C, where somebody handles that signal; otherwise what the terminal says.
#[cfg(unix)]
pub(crate) fn read(prompt: &str) -> io::Result<String> {
    use std::io::Write as _;

    let mut terminal = std::fs::File::options().read(true).write(true).open("/dev/tty")?;
    let keys = unix::Keys::of(terminal.try_clone()?)?;
    terminal.write_all(prompt.as_bytes())?;
    let config = rpassword::ConfigBuilder::new().input_reader(keys).output_discard().build();
    let typed = rpassword::read_password_with_config(config);
    // The end of the line was not shown either.
    terminal.write_all(b"\n")?;
    typed
}

/// Prints a prompt, and reads a line that is not shown.
#[cfg(not(unix))]
pub(crate) fn read(prompt: &str) -> io::Result<String> {
    rpassword::prompt_password(prompt)
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, Read};

    use rustix::process::{Signal, getpid, kill_process};
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

    /// What Ctrl-C types where it is no signal.
    const INTERRUPT: u8 = 3;

    /// The keys of a terminal, one by one and unseen. When it is dropped the terminal is as it was.
    pub(super) struct Keys {
        terminal: File,
        before: Termios,
    }

    impl Keys {
        pub(super) fn of(terminal: File) -> io::Result<Self> {
            let before = tcgetattr(&terminal)?;
            let mut unseen = before.clone();
            // Signals as well: the terminal has to be as it was before one ends the program.
            unseen.local_modes.remove(
                LocalModes::ECHO
                    | LocalModes::ECHONL
                    | LocalModes::ICANON
                    | LocalModes::ISIG
                    | LocalModes::IEXTEN,
            );
            unseen.special_codes[SpecialCodeIndex::VMIN] = 1;
            unseen.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&terminal, OptionalActions::Now, &unseen)?;
            Ok(Self { terminal, before })
        }

        fn show_again(&self) {
            // A terminal that is gone shows nothing.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }

    impl Read for Keys {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let read = loop {
                match self.terminal.read(room) {
                    // Another signal, as when the window has another size now.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            if room.get(..read).is_some_and(|keys| keys.contains(&INTERRUPT)) {
                self.show_again();
                kill_process(getpid(), Signal::INT)?;
                // Who handles the signal goes on.
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(read)
        }
    }

    impl Drop for Keys {
        fn drop(&mut self) {
            self.show_again();
        }
    }
}
