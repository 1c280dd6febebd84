//! A chat with rooms and several clients: who is where is state that all handlers share.
//!
//! A message to a room is encoded once. A guest who does not keep up loses it; nobody waits for a slow guest.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use nossock::{EncodedMessage, Json, Reject, Router, Server, Socket, State};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Rooms {
    /// Who sits where, by the name they gave.
    guests: Mutex<HashMap<String, Vec<(String, Socket)>>>,
}

#[derive(Serialize, Deserialize)]
struct Join {
    room: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    room: String,
    from: String,
    text: String,
}

impl Rooms {
    fn with<R>(&self, act: impl FnOnce(&mut HashMap<String, Vec<(String, Socket)>>) -> R) -> R {
        act(&mut self.guests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets somebody in, and out again when the connection ends. Gives the names of those who were there.
    fn join(self: Arc<Self>, socket: Socket, Join { room, name }: Join) -> Vec<String> {
        let there = self.with(|rooms| {
            let guests = rooms.entry(room.clone()).or_default();
            let there = guests.iter().map(|(name, _)| name.clone()).collect();
            guests.push((name, socket.clone()));
            there
        });
        tokio::spawn(async move {
            socket.closed().await;
            self.with(|rooms| {
                if let Some(guests) = rooms.get_mut(&room) {
                    guests.retain(|(_, other)| !other.is_same(&socket));
                    if guests.is_empty() {
                        rooms.remove(&room);
                    }
                }
            });
        });
        there
    }

    /// Passes a line on to everybody in the room; gives how many that were.
    fn say(&self, line: &Line) -> Result<usize, Reject> {
        let message =
            EncodedMessage::json("line", line).map_err(|error| Reject::new("bad_line", error.to_string()))?;
        let guests = self.with(|rooms| rooms.get(&line.room).cloned()).unwrap_or_default();
        Ok(guests.iter().filter(|(_, socket)| socket.try_send_encoded(&message).is_ok()).count())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::with_state(Arc::<Rooms>::default())
        .on_request(
            "join",
            async |State(rooms): State<Arc<Rooms>>, socket: Socket, Json(join): Json<Join>| {
                rooms.join(socket, join)
            },
        )
        .on_request("say", async |State(rooms): State<Arc<Rooms>>, Json(line): Json<Line>| rooms.say(&line));
    let server = Server::bind("tcp://127.0.0.1:0")?.listen().await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(router));

    let mut guests = Vec::new();
    for (room, name) in [("kitchen", "ann"), ("kitchen", "bob"), ("garden", "eve")] {
        let socket = nossock::connect(address.clone()).await?;
        let join = Join { room: room.into(), name: name.into() };
        let there: Vec<String> = socket.request("join", &join).await?;
        println!("{name} enters the {room} and meets {there:?}");
        guests.push((name, socket));
    }

    let (_, ann) = guests.first().ok_or("nobody is there")?;
    let line = Line { room: "kitchen".into(), from: "ann".into(), text: "tea?".into() };
    let heard: usize = ann.request("say", &line).await?;
    println!("ann was heard by {heard}");

    for (name, socket) in guests.iter().filter(|(name, _)| *name != "eve") {
        if let Some(message) = socket.recv().await? {
            let Line { from, text, .. } = message.json()?;
            println!("{name} hears {from}: {text}");
        }
    }
    Ok(())
}
