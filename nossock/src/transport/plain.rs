//! A stream without TLS, whose writing end can be used beside the driver that owns it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};
#[cfg(unix)]
use tokio::net::{UnixStream, unix};

/// The stream, for its driver.
#[derive(Debug)]
pub(crate) struct Plain {
    read: Reader,
    write: Arc<WriteEnd>,
}

/// The writing end, also for whoever has something short to say while the driver sleeps.
#[derive(Debug)]
pub(crate) struct WriteEnd(Mutex<Option<Writer>>);

#[derive(Debug)]
enum Reader {
    Tcp(tcp::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix::OwnedReadHalf),
}

#[derive(Debug)]
enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix::OwnedWriteHalf),
}

impl Plain {
    pub(crate) const fn write_end(&self) -> &Arc<WriteEnd> {
        &self.write
    }

    fn new(read: Reader, write: Writer) -> Self {
        Self { read, write: Arc::new(WriteEnd(Mutex::new(Some(write)))) }
    }

    fn with_writer<R>(&self, write: impl FnOnce(&mut Writer) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &mut *self.write.lock() {
            Some(writer) => write(writer),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl WriteEnd {
    /// Writes what the system takes now, which may be nothing. An error is left for the driver to meet.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> usize {
        let written = match &*self.lock() {
            Some(Writer::Tcp(writer)) => writer.try_write(bytes),
            #[cfg(unix)]
            Some(Writer::Unix(writer)) => writer.try_write(bytes),
            None => Ok(0),
        };
        written.unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<TcpStream> for Plain {
    fn from(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self::new(Reader::Tcp(read), Writer::Tcp(write))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Plain {
    fn from(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self::new(Reader::Unix(read), Writer::Unix(write))
    }
}

/// The stream is closed with its driver, however many still hold the writing end.
impl Drop for Plain {
    fn drop(&mut self) {
        match self.write.lock().take() {
            // Not shut down first: what was aborted is not to look complete.
            Some(Writer::Tcp(writer)) => writer.forget(),
            #[cfg(unix)]
            Some(Writer::Unix(writer)) => writer.forget(),
            None => {}
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().read {
            Reader::Tcp(reader) => Pin::new(reader).poll_read(cx, into),
            #[cfg(unix)]
            Reader::Unix(reader) => Pin::new(reader).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.with_writer(|writer| match writer {
            Writer::Tcp(writer) => Pin::new(writer).poll_write(cx, from),
            #[cfg(unix)]
            Writer::Unix(writer) => Pin::new(writer).poll_write(cx, from),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with_writer(|writer| match writer {
            Writer::Tcp(writer) => Pin::new(writer).poll_write_vectored(cx, from),
            #[cfg(unix)]
            Writer::Unix(writer) => Pin::new(writer).poll_write_vectored(cx, from),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the system holds what was written
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_writer(|writer| match writer {
            Writer::Tcp(writer) => Pin::new(writer).poll_shutdown(cx),
            #[cfg(unix)]
            Writer::Unix(writer) => Pin::new(writer).poll_shutdown(cx),
        })
    }
}
