//! What each call does. A route reads and changes the world; permissions of its own it checks itself.

pub mod emails;
pub mod hardware;
pub mod memberships;
pub mod methods;
pub mod phones;
pub mod preferences;
pub mod qr_code;
pub mod requirements;
pub mod roles;
pub mod users;
