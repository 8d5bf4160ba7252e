//! What each call does. A route reads and changes the world; permissions of its own it checks itself.

pub mod memberships;
pub mod methods;
pub mod preferences;
pub mod roles;
pub mod users;
