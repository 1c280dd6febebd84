#![doc = include_str!("../README.md")]

pub mod audit;
pub mod authority;
pub mod clock;
pub mod extract;
pub mod import;
pub mod no_user;
pub mod password;
pub mod policy;
pub mod psk;
pub mod store;
pub mod throttle;
pub mod token;
pub mod user;
pub mod users;

pub use authority::Authority;
pub use users::Users;
