//! Frames by hand, for a peer that knows nothing of the crate that is tested.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The hello of a peer that knows control frames and has the usual limits.
pub(crate) const HELLO: &[u8] = br#"{"hello":{"version":1,"max_body":1048576,"max_in_flight":256}}"#;

pub(crate) fn frame(kind: u8, name: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, u8::try_from(name.len()).unwrap()];
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Kind, name and body of the next frame; an error when there is none.
pub(crate) async fn try_read_frame<R: AsyncRead + Unpin>(
    stream: &mut R,
) -> std::io::Result<(u8, String, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let mut name = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut name).await?;
    let mut body = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut body).await?;
    Ok((kind, String::from_utf8(name).unwrap(), body))
}

pub(crate) async fn read_frame<R: AsyncRead + Unpin>(stream: &mut R) -> (u8, String, Vec<u8>) {
    try_read_frame(stream).await.unwrap()
}
