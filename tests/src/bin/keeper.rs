//! A daemon with users, for the story that kills it: `keeper DATABASE` prints its address, and serves until it is killed.
//!
//! Whoever comes may change users, which no daemon but this one should allow.
#![allow(clippy::unwrap_used, reason = "a story's helper fails by panicking")]
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use nsp::daemon::{Daemon, Fail, Json, Service, State};
use nsp_auth::password::Cost;
use nsp_auth::user::Username;
use nsp_auth::users::{NewUser, Users};

fn named(name: &str) -> Result<Username, Fail> {
    Username::parse(name).map_err(Fail::internal)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let path = std::env::args().nth(1).expect("a database");
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let authority = nsp_auth::Authority::builder().cost(cheap).open(path).await.unwrap();
    let users = Service::with_state("Users", authority.users().clone())
        .function(
            "create",
            async |Json((user, password)): Json<(String, String)>,
                   State(users): State<Users>|
                   -> Result<(), Fail> {
                let new = NewUser::new(named(&user)?, password.into());
                users.create(new).await.map(drop).map_err(Fail::internal)
            },
        )
        .function("lock", async |Json(user): Json<String>, State(users): State<Users>| -> Result<(), Fail> {
            users.lock(named(&user)?).await.map(drop).map_err(Fail::internal)
        })
        .function(
            "unlock",
            async |Json(user): Json<String>, State(users): State<Users>| -> Result<(), Fail> {
                users.unlock(named(&user)?).await.map(drop).map_err(Fail::internal)
            },
        )
        .function(
            "revoke",
            async |Json(user): Json<String>, State(users): State<Users>| -> Result<(), Fail> {
                users.revoke_tokens(named(&user)?).await.map(drop).map_err(Fail::internal)
            },
        )
        .function(
            "delete",
            async |Json(user): Json<String>, State(users): State<Users>| -> Result<(), Fail> {
                users.delete(named(&user)?).await.map(drop).map_err(Fail::internal)
            },
        );
    let daemon = Daemon::builder().authority(authority).service(users).listen("nsp://127.0.0.1:0");
    let daemon = daemon.bind().await.unwrap();
    println!("{}", daemon.addresses().first().unwrap());
    daemon.serve().await;
}
