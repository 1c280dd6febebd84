//! A protocol of one's own on frames, closed to strangers with a pre-shared key.
//!
//! The names and bodies of the frames are the protocol; what travels, and in which order, is up to the two sides. Here sensors report
//! readings as four bytes each, without JSON, and a hub asks them for a calibration: the side that accepted may ask as well.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use nossock::wire::Body;
use nossock::{Connector, Json, Reject, Router, Server, Socket};
use nsp_auth::psk::{Key, Psk};

/// Readings in hundredths of a degree, big-endian.
fn pack(readings: &[i32]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(readings.len() * 4);
    readings.iter().for_each(|reading| bytes.put_i32(*reading));
    bytes.freeze()
}

fn unpack(mut bytes: Bytes) -> Result<Vec<i32>, Reject> {
    if !bytes.len().is_multiple_of(4) {
        return Err(Reject::new("bad_readings", format!("{} bytes are no readings of 4 bytes", bytes.len())));
    }
    Ok(std::iter::from_fn(|| bytes.has_remaining().then(|| bytes.get_i32())).collect())
}

/// The hub: takes readings, and calibrates the sensor when they are off.
async fn take(socket: Socket, body: Body) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Body::Raw(bytes) = body else { return Err("readings are raw bytes".into()) };
    let readings = unpack(bytes).map_err(|reject| reject.to_string())?;
    let peer = socket.peer().identity().map_or_else(String::new, |identity| identity.name().to_owned());
    println!("hub: {peer} reports {readings:?}");
    if readings.iter().any(|reading| *reading < -27_315) {
        let offset: i32 = socket.request("calibrate", &"ice water").await?;
        println!("hub: {peer} is off by {offset}");
        socket.send("done", &()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A key that both sides have; `Key::from_file` reads one.
    let secret = Key::generate("2026-11")?.to_base64();
    let key = || Key::from_base64("2026-11", &secret);

    let server = Server::bind("tcp://127.0.0.1:0")?
        .introduction(Psk::new("hub")?.peer("sensor-7", key()?)?)
        .listen()
        .await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(Router::new().on("readings", take)));

    // The sensor: it dialled, and answers what the hub asks.
    let sensor = Router::new()
        .on_request("calibrate", async |Json(with): Json<String>| {
            println!("sensor: calibrating with {with}");
            -40
        })
        .on("done", async |socket: Socket| {
            println!("sensor: done");
            drop(tokio::spawn(async move { socket.close().await }));
        });
    let psk = Psk::new("sensor-7")?.peer("hub", key()?)?;
    let socket = Connector::new(address.clone())?.introduction(psk).connect_routed(sensor).await?;
    socket.send_raw("readings", pack(&[2_150, 2_153])).await?;
    socket.send_raw("readings", pack(&[-30_000])).await?;
    socket.closed().await;

    // Somebody without the key is told that he is refused, and nothing more.
    let stranger = Psk::new("sensor-7")?.peer("hub", Key::generate("2026-11")?)?;
    let refused = Connector::new(address)?.introduction(stranger).connect().await.err();
    println!("stranger: {}", refused.map_or_else(String::new, |error| error.to_string()));
    Ok(())
}
