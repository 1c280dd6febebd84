//! Users who sign in: a password once, then a token, until it is revoked.
//!
//! A client claims to act for somebody; the daemon believes it when it has seen a token. Passwords and tokens travel only where nobody
//! can read along: TLS, SP, or this machine.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use nsp::client::{Activity, CallError, Client, Login};
use nsp::daemon::{Daemon, Service};
use nsp_auth::Authority;
use nsp_auth::extract::Owner;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;

/// The argument demands a proof: without one the function is not run.
async fn diary(owner: Owner) -> String {
    format!("Dear diary, today {} wrote an example.", owner.name())
}

async fn read_diary(client: &Client) -> Result<String, Box<dyn Error>> {
    let vault: Activity = client.activity("Vault").owner("alice").open().await?;
    Ok(match vault.call::<String>("diary", &()).await {
        Ok(page) => page,
        Err(CallError::Failed(failure)) => format!("refused: {failure}"),
        Err(error) => format!("{error}"),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::open(folder.path().join("users.db")).await?;
    let users = authority.users().clone();
    let alice = Username::parse("alice")?;
    users.create(NewUser::new(alice.clone(), "correct horse battery".into())).await?;

    let vault = Service::new("Vault").function("diary", diary).secure_function("burn", async || "ashes"); // superusers only
    let daemon =
        Daemon::builder().authority(authority).service(vault).listen("nsp://127.0.0.1:0").bind().await?;
    let address = daemon.addresses().first().cloned().ok_or("it does not listen")?;
    tokio::spawn(daemon.serve());

    // Whoever says that he is alice is asked to prove it.
    let stranger = Client::connect(address.clone()).await?;
    println!("without a token: {}", read_diary(&stranger).await?);

    // A password for a token.
    if let Err(error) = stranger.token("alice", "guessed").await {
        println!("with a wrong password: {error}");
    }
    let token = stranger.token("alice", "correct horse battery").await?;
    stranger.close().await;

    // With the token, which answers when the daemon asks.
    let login = Login::new("alice").token(token);
    let client = Client::connect(address).credentials(login).await?;
    println!("with a token: {}", read_diary(&client).await?);
    let vault = client.activity("Vault").owner("alice").open().await?;
    if let Err(CallError::Failed(failure)) = vault.call::<String>("burn", &()).await {
        println!("burn it: {failure}");
    }

    // Revoked, it is worth nothing any more, at once.
    println!("{} token revoked", users.revoke_tokens(&alice).await?);
    println!("afterwards: {}", read_diary(&client).await.unwrap_or_else(|error| error.to_string()));
    Ok(())
}
