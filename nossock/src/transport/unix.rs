//! Unix sockets: in the file system, or in Linux' abstract namespace.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::UnixAddress;

/// Connects to the socket at `address`.
///
/// # Errors
///
/// [`UnixError`] when there is no socket, nobody listens on it, or it may not be written to.
///
/// # Cancel safety
///
/// Dropping the future gives up the attempt and leaves nothing behind.
pub async fn connect(address: &UnixAddress) -> Result<UnixStream, UnixError> {
    let connected = match address {
        UnixAddress::Path(path) => UnixStream::connect(path).await,
        UnixAddress::Abstract(name) => connect_abstract(name),
    };
    connected.map_err(|source| match (source.kind(), address) {
        (io::ErrorKind::ConnectionRefused, UnixAddress::Path(path)) if path.exists() => {
            UnixError::Nobody { path: path.clone() }
        }
        _ => UnixError::Connect { address: address.clone(), source },
    })
}

/// Listens at `address`.
///
/// A socket file that a server left behind when it died is replaced; one that somebody listens on is an error. The new
/// file is as open as the process' umask lets it be: who may connect is best said by the permissions of its directory,
/// or by [`PeerCredentials`]. Needs a tokio runtime.
///
/// # Errors
///
/// [`UnixError`] when somebody listens there already, the path is taken by something that is not a socket, or the
/// system refuses.
pub fn listen(address: &UnixAddress) -> Result<Listener, UnixError> {
    let error = |source| UnixError::Listen { address: address.clone(), source };
    match address {
        UnixAddress::Path(path) => {
            let inner = match UnixListener::bind(path) {
                Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => replace(path, error)?,
                bound => bound.map_err(error)?,
            };
            let file = fs::symlink_metadata(path).map_err(error)?;
            Ok(Listener {
                inner,
                file: Some(SocketFile { path: path.clone(), id: (file.dev(), file.ino()) }),
            })
        }
        UnixAddress::Abstract(name) => {
            let inner = listen_abstract(name).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => UnixError::Taken { address: address.clone() },
                _ => error(source),
            })?;
            Ok(Listener { inner, file: None })
        }
    }
}

/// A listening Unix socket, whose file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    file: Option<SocketFile>,
}

impl Listener {
    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// What the system answers: out of file descriptors, most often.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.inner.accept().await.map(|(stream, _)| stream)
    }
}

/// The file of a listening socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file that was made here.
    id: (u64, u64),
}

impl Drop for Listener {
    // Before the socket itself is closed, so that nobody finds a file on which nobody listens.
    fn drop(&mut self) {
        let Some(SocketFile { path, id }) = &self.file else { return };
        // Somebody may have put a socket of his own in its place since; that one stays.
        let ours = fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == *id);
        if ours && let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "socket file not removed");
        }
    }
}

/// Who is at the other end of a Unix socket, as the system saw it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, where the system tells. It may have ended since, and its number may be another's: good for a log,
    /// not for a decision.
    pub pid: Option<i32>,
}

impl PeerCredentials {
    /// Asks the system who the peer of `stream` is.
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() })
    }
}

/// Why a Unix socket could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnixError {
    /// The socket file is there, and the server that made it is not.
    #[error("nobody listens on {}: its server has ended without removing it", path.display())]
    Nobody {
        /// The socket file.
        path: PathBuf,
    },
    /// Connecting failed otherwise.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: UnixAddress,
        /// What the system answered.
        source: io::Error,
    },
    /// Somebody listens there.
    #[error("another server listens on {address}")]
    Taken {
        /// Where.
        address: UnixAddress,
    },
    /// There is a file of another kind.
    #[error("{} exists and is not a socket: it is left alone", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Another process is replacing a socket file in the same directory at this moment.
    #[error("another process holds the lock of {}: it may be taking {}, try again", directory.display(), path.display())]
    Contended {
        /// The locked directory.
        directory: PathBuf,
        /// The socket file.
        path: PathBuf,
    },
    /// Listening failed otherwise.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: UnixAddress,
        /// What the system answered.
        source: io::Error,
    },
}

/// Takes the path of a socket that nobody listens on.
///
/// Two servers that find the same dead socket must not both remove it, or the second would remove the first one's live
/// socket. So the directory is locked from the look to the bind; the lock is the open file, and ends with it.
fn replace(path: &Path, error: impl Fn(io::Error) -> UnixError) -> Result<UnixListener, UnixError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let lock = File::open(directory).map_err(&error)?;
    lock.try_lock().map_err(|failed| match failed {
        TryLockError::WouldBlock => {
            UnixError::Contended { directory: directory.to_owned(), path: path.to_owned() }
        }
        TryLockError::Error(failed) => error(failed),
    })?;
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(UnixError::NotASocket { path: path.to_owned() });
        }
        Ok(_) if is_alive(path).map_err(&error)? => {
            return Err(UnixError::Taken { address: UnixAddress::Path(path.to_owned()) });
        }
        Ok(_) => fs::remove_file(path).map_err(&error)?,
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
        Err(failed) => return Err(error(failed)),
    }
    UnixListener::bind(path).map_err(error)
}

/// Whether somebody listens on the socket file. Does not wait: a server with a full backlog is alive.
fn is_alive(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn connect_abstract(name: &str) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // A full backlog answers "would block" here, where there is nothing to wait on: the caller may try again.
    socket.connect(&abstract_address(name)?)?;
    let stream: net::UnixStream = socket.into();
    UnixStream::from_std(stream)
}

fn listen_abstract(name: &str) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&abstract_address(name)?)?;
    socket.listen(ABSTRACT_BACKLOG)?;
    let listener: net::UnixListener = socket.into();
    UnixListener::from_std(listener)
}

/// As many as tokio lets wait for a socket in the file system.
const ABSTRACT_BACKLOG: i32 = 1_024;

fn abstract_address(name: &str) -> io::Result<SockAddr> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        // The namespace is a zero byte in front.
        SockAddr::unix(format!("\0{name}"))
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets exist on Linux only"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn at(directory: &tempfile::TempDir, name: &str) -> UnixAddress {
        UnixAddress::Path(directory.path().join(name))
    }

    async fn assert_conversation(listener: &Listener, address: &UnixAddress) {
        let mut client = connect(address).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        client.write_all(b"hi").await.unwrap();
        let mut read = [0; 2];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hi");
        let peer = PeerCredentials::of(&server).unwrap();
        assert_eq!(peer, PeerCredentials::of(&client).unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
    }

    #[tokio::test]
    async fn a_socket_file_lives_as_long_as_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let address = at(&directory, "a.sock");
        let listener = listen(&address).unwrap();
        assert_conversation(&listener, &address).await;
        drop(listener);
        assert!(!directory.path().join("a.sock").exists());
        let error = connect(&address).await.unwrap_err();
        assert!(matches!(error, UnixError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = at(&directory, "a.sock");
        // The standard library's listener leaves its file behind, as a process that is killed does.
        drop(net::UnixListener::bind(directory.path().join("a.sock")).unwrap());
        let error = connect(&address).await.unwrap_err();
        assert!(matches!(error, UnixError::Nobody { .. }), "{error}");

        let listener = listen(&address).unwrap();
        assert_conversation(&listener, &address).await;
        let error = listen(&address).unwrap_err();
        assert!(matches!(error, UnixError::Taken { .. }), "{error}");
        assert!(error.to_string().starts_with("another server listens on unix:/"), "{error}");
        // The probe above is a connection of its own, which nobody used.
        listener.accept().await.unwrap();
        assert_conversation(&listener, &address).await;
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "precious").unwrap();
        let error = listen(&UnixAddress::Path(path.clone())).unwrap_err();
        assert!(matches!(error, UnixError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_listener_does_not_remove_its_successors_file() {
        let directory = tempfile::tempdir().unwrap();
        let address = at(&directory, "a.sock");
        let first = listen(&address).unwrap();
        // Kept aside, so that the system cannot give its number to the second file.
        fs::rename(directory.path().join("a.sock"), directory.path().join("old")).unwrap();
        let second = listen(&address).unwrap();
        drop(first);
        assert_conversation(&second, &address).await;
    }

    #[tokio::test]
    async fn a_directory_that_another_server_holds_is_an_error_that_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let address = at(&directory, "a.sock");
        drop(net::UnixListener::bind(directory.path().join("a.sock")).unwrap());
        let lock = File::open(directory.path()).unwrap();
        lock.lock().unwrap();
        let error = listen(&address).unwrap_err();
        assert!(matches!(error, UnixError::Contended { .. }), "{error}");
        drop(lock);
        listen(&address).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_abstract_socket_has_no_file() {
        let address = UnixAddress::Abstract(format!("nossock-test-{}", std::process::id()));
        let listener = listen(&address).unwrap();
        assert_conversation(&listener, &address).await;
        let error = listen(&address).unwrap_err();
        assert!(matches!(error, UnixError::Taken { .. }), "{error}");
    }
}
