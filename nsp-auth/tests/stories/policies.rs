//! A policy over the roles that users have.

use nsp::authority::{Access, Action, Answer, Authority as _, Permission};
use nsp_auth::Authority;
use nsp_auth::policy::{Policies, Policy};
use nsp_auth::store::Memory;

use crate::common::{builder, name, with_superuser, with_user};

const POLICY: &str = r#"
    [roles.anonymous]
    grants = [{ may = "read", on = "Notes" }]
    [roles.editor]
    grants = [{ may = "*", on = "Notes" }]
    [roles.superuser]
    grants = [{ may = "*", on = "*" }]
    [functions.Notes]
    list = "read"
    add = "create"
"#;

async fn may(authority: &Authority, user: Option<&str>, service: &str, function: &str) -> bool {
    let access = Access::new(user, Action::Call, service).name(function);
    matches!(authority.permits(&access).await, Permission::Granted { .. })
}

#[tokio::test]
async fn roles_of_the_store_decide_and_a_change_holds_at_once() {
    let policies = Policies::of(Policy::from_toml(POLICY).unwrap());
    let authority = builder().policies(policies).open_store(Memory::new()).await.unwrap();
    with_superuser(&authority, "admin").await;
    with_user(&authority, "alice").await;
    let alice = Some("alice");
    assert!(may(&authority, None, "Notes", "list").await);
    assert!(!may(&authority, None, "Notes", "add").await);
    assert!(!may(&authority, alice, "Notes", "add").await);
    assert!(may(&authority, Some("admin"), "Other", "anything").await);
    for user in ["nobody", "al%", "", "alice\0"] {
        assert!(!may(&authority, Some(user), "Notes", "list").await, "{user:?} was never proved");
    }
    let epoch = authority.epoch();
    authority.users().set_roles(name("alice"), vec!["editor".into()]).await.unwrap();
    assert!(authority.epoch() > epoch);
    assert!(may(&authority, alice, "Notes", "add").await);
    // From the cache, without a wait.
    let access = Access::new(alice, Action::Call, "Notes").name("add");
    assert!(matches!(authority.permits(&access), Answer::Now(Some(Permission::Granted { .. }))));
    let explained = authority.explain(&access).await.unwrap().unwrap();
    assert!(explained.to_string().contains("editor"), "{explained}");
    authority.users().set_privilege(name("admin"), 0).await.unwrap();
    authority.users().lock(name("alice")).await.unwrap();
    assert!(!may(&authority, alice, "Notes", "add").await);

    // Another policy, and none.
    let epoch = authority.epoch();
    authority.policies().replace(None);
    assert!(authority.epoch() > epoch);
    assert!(may(&authority, None, "Other", "anything").await);
    assert!(authority.explain(&access).await.unwrap().is_none());
}

#[tokio::test]
async fn a_policy_that_is_read_again_holds_or_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, POLICY).unwrap();
    let policies = Policies::open(&path).unwrap();
    let authority = builder().policies(policies).open_store(Memory::new()).await.unwrap();
    assert!(!may(&authority, None, "Notes", "add").await);
    std::fs::write(&path, POLICY.replace(r#""read", on"#, r#"["read", "create"], on"#)).unwrap();
    authority.reload_policy("admin").await.unwrap();
    assert!(may(&authority, None, "Notes", "add").await);
    std::fs::write(&path, "[roles.anonymous]\ngrants = 7\n").unwrap();
    let error = authority.reload_policy("admin").await.unwrap_err();
    assert!(error.to_string().contains("policy.toml"), "{error}");
    assert!(may(&authority, None, "Notes", "add").await);
}

#[tokio::test]
async fn a_user_has_so_many_roles_and_no_more() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let roles = |n: usize| (0..n).map(|n| format!("role{n}")).collect::<Vec<_>>();
    authority.users().set_roles(name("alice"), roles(16)).await.unwrap();
    let error = authority.users().set_roles(name("alice"), roles(17)).await.unwrap_err();
    assert_eq!(error.to_string(), "a user has at most 16 roles");
    let error = authority.users().set_roles(name("alice"), vec!["x".repeat(65)]).await.unwrap_err();
    assert_eq!(error.to_string(), "the name of a role has more than 64 bytes");
    // All of them count, and for a superuser one more.
    let grants = "[roles.role15]\ngrants = [{ may = \"*\", on = \"A\" }]\n[roles.superuser]\ngrants = [{ may = \"*\", on = \"B\" }]";
    authority.policies().replace(Some(Policy::from_toml(grants).unwrap()));
    authority.users().set_privilege(name("alice"), 0).await.unwrap();
    assert!(may(&authority, Some("alice"), "A", "x").await);
    assert!(may(&authority, Some("alice"), "B", "x").await);
}

#[tokio::test]
async fn superusers_may_what_the_policy_says_of_them_and_no_more() {
    let silent = Policy::from_toml("[roles.user]\ngrants = [{ may = \"read\", on = \"Notes\" }]").unwrap();
    assert!(!silent.names_superusers() && Policy::from_toml(POLICY).unwrap().names_superusers());
    let authority = builder().policies(Policies::of(silent)).open_store(Memory::new()).await.unwrap();
    with_superuser(&authority, "admin").await;
    assert!(!may(&authority, Some("admin"), "Notes", "wipe").await);
    assert!(!may(&authority, Some("admin"), "Other", "anything").await);
    authority.policies().replace(Some(Policy::from_toml(POLICY).unwrap()));
    assert!(may(&authority, Some("admin"), "Other", "anything").await);
}
