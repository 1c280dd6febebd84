//! What a service sends without being asked: events to groups, to everybody, and blobs; and what becomes of a slow listener.
//!
//! The client here is in the same process, without a socket: a service talks to another one in just this way.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use futures_util::StreamExt as _;
use nsp::client::{Activity, Client};
use nsp::daemon::{Daemon, Emitter, Entity, Fail, Json, Service};
use serde_json::json;

/// Joins the groups that somebody is interested in.
async fn follow(entity: Entity, Json(topics): Json<Vec<String>>) -> Result<(), Fail> {
    topics.iter().try_for_each(|topic| entity.join(topic))?;
    Ok(())
}

async fn publish(news: Emitter) -> Result<(), Fail> {
    // To those who are in any of these groups, each once.
    let any = news.to_groups(["sports", "weather"]).emit("headline", "rain stops play").await?;
    // To those who are in all of them.
    let all =
        news.to_including_groups(["sports", "weather"]).emit("headline", "for the well informed").await?;
    // To everybody, bytes with JSON about them.
    let map = news.to_all().emit_blob("map", vec![0; 300_000], &json!({"format": "png"})).await?;
    println!("reached {} by any topic, {} by both, {} with the map", any.sent, all.sent, map.sent);
    Ok(())
}

async fn reader(client: &Client, topics: &[&str]) -> Result<Activity, Box<dyn Error>> {
    let activity = client.activity("News").open().await?;
    activity.call::<()>("Follow", topics).await?;
    Ok(activity)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let news = Service::new("News").function("Follow", follow).function("Publish", publish);
    let daemon = Daemon::builder().service(news).bind().await?;
    let client = Client::over(daemon.handle().connect_local());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));

    let sporty = reader(&client, &["sports"]).await?;
    let informed = reader(&client, &["sports", "weather"]).await?;
    let idle = reader(&client, &[]).await?;

    // A stream has to be there before the event is: what nobody listens to is not kept.
    let mut headlines = informed.events::<String>("headline");
    let mut of_sporty = sporty.events::<String>("headline");
    let mut maps = idle.blob_events("map");
    idle.call::<()>("Publish", &()).await?;

    for _ in 0..2 {
        println!("informed: {}", headlines.next().await.ok_or("no event")??);
    }
    println!("sporty: {}", of_sporty.next().await.ok_or("no event")??);
    let map = maps.next().await.ok_or("no event")??;
    println!("idle: a map of {} bytes, {}", map.blob.len(), map.meta.as_str());

    client.close().await;
    drop(stop);
    serving.await?;
    Ok(())
}
