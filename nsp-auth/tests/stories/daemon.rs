//! The whole of it: a daemon, its users, and clients over sockets.

use nsp::client::{CallError, Client, ClientState, Login};
use nsp::daemon::{Daemon, Entity, Service};
use nsp_auth::Authority;
use tokio::sync::oneshot;

use crate::common::{PASSWORD, builder, name, with_superuser, with_user};

fn vault() -> Service {
    Service::new("Vault")
        .function("who", async |entity: Entity| entity.proved_user().map(|user| user.as_str().to_owned()))
        .secure_function("open", async || "opened")
}

/// Opens a service for a user, with the token that the password is good for.
async fn client(address: &str, user: &str) -> (Client, nsp::client::Activity) {
    let nobody = Client::connect(address).no_reconnect().await.unwrap();
    let token = nobody.token(user, PASSWORD).await.unwrap();
    nobody.close().await;
    let login = Login::new(user).token(token);
    let client = Client::connect(address).credentials(login).no_reconnect().await.unwrap();
    let activity = client.activity("Vault").owner(user).open().await.unwrap();
    (client, activity)
}

#[tokio::test]
async fn log_in_call_a_secure_function_be_refused_be_revoked_and_be_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let authority: Authority = builder().open(&path).await.unwrap();
    with_superuser(&authority, "admin").await;
    with_user(&authority, "alice").await;
    let builder_of_daemon = Daemon::builder().authority(authority.clone()).service(vault());
    let daemon = builder_of_daemon.listen("nsp://127.0.0.1:0").bind().await.unwrap();
    let address = daemon.addresses()[0].to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));

    let nobody = Client::connect(&*address).no_reconnect().await.unwrap();
    for (user, password) in
        [("alice", "wrong"), ("nobody", PASSWORD), ("adm%", PASSWORD), ("_____", PASSWORD)]
    {
        let refused = nobody.token(user, password).await.unwrap_err();
        assert!(matches!(refused, CallError::SignIn), "{user}: {refused}");
    }
    // A claimed owner proves nothing.
    let claims = nobody.activity("Vault").owner("admin").open().await.unwrap();
    let refused = claims.call::<String>("open", &()).await.unwrap_err();
    assert!(refused.to_string().contains("AuthFailed"), "{refused}");
    assert_eq!(claims.call::<Option<String>>("who", &()).await.unwrap(), None);

    let (admin, of_admin) = client(&address, "admin").await;
    assert_eq!(of_admin.call::<String>("open", &()).await.unwrap(), "opened");
    assert_eq!(of_admin.call::<Option<String>>("who", &()).await.unwrap().as_deref(), Some("admin"));
    let (_alice, of_alice) = client(&address, "alice").await;
    let refused = of_alice.call::<String>("open", &()).await.unwrap_err();
    assert!(refused.to_string().contains("the user is no superuser"), "{refused}");

    // Revoked: the connection that has shown the token is cut, the others are not.
    authority.users().revoke_tokens(name("admin")).await.unwrap();
    let mut state = admin.state();
    state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap();
    assert!(of_admin.call::<String>("open", &()).await.is_err());
    let again = of_alice.call::<String>("open", &()).await.unwrap_err();
    assert!(again.to_string().contains("the user is no superuser"), "{again}");

    drop(stop);
    serving.await.unwrap();
    authority.close().await.unwrap();
    // The next daemon knows them all.
    let authority = builder().open(&path).await.unwrap();
    assert_eq!(authority.users().search("", None, 10).await.unwrap().users.len(), 2);
}
