//! The secrets of the tests, made so that they are known wherever they turn up, and what else no output may show.
//! `tests/canaries` is the longer list, for everything that the suite writes.

/// The client secret of every worker.
pub const CLIENT_SECRET: &str = "canary-client-secret-6f1d";
/// The password of every user of a broker of our own.
pub const BROKER_PASSWORD: &str = "canary-broker-password-81c3";
/// The password of the one user of a database.
pub const DATABASE_PASSWORD: &str = "canary-database-password-5d20";

/// What no line that a worker prints may show: what it is, and how it is known.
pub const CANARIES: [(&str, &str); 8] = [
    ("the client secret", CLIENT_SECRET),
    ("a password of the broker", BROKER_PASSWORD),
    ("the password of the database", DATABASE_PASSWORD),
    ("a person's name", "@contoso.test"),
    ("a generated phone number", "+1 555"),
    ("a phone number of a test", "+1 206"),
    ("a token", "Bearer "),
    ("a panic", "panicked at"),
];
