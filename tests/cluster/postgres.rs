//! PostgreSQL in a container.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::container::Container;
use crate::proxy;
use crate::secrets::DATABASE_PASSWORD;
use crate::stage::until;

/// A database server that can be killed.
pub struct Postgres(Container);

impl Postgres {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        let password = format!("--env=PASSWORD={DATABASE_PASSWORD}");
        let postgres = Self(Container::start("postgresql", 5432, "/var/lib/postgresql", &[&password], &[]));
        postgres.wait(Duration::from_secs(90)).await;
        postgres
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        self.0.address()
    }

    /// The address of its database, by way of a proxy or of none.
    pub fn url(&self, by_way_of: &str) -> String {
        format!("postgres://mfa:{DATABASE_PASSWORD}@{by_way_of}/postgres")
    }

    /// The address of another of its databases.
    pub fn url_of(&self, database: &str, by_way_of: &str) -> String {
        format!("postgres://mfa:{DATABASE_PASSWORD}@{by_way_of}/{database}")
    }

    /// Makes another database.
    pub async fn make(&self, database: &str) {
        let mut conn = PgConnection::connect(&self.url(&self.address())).await.unwrap();
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }

    /// Carries out a statement in one of its databases.
    pub async fn change(&self, database: &str, statement: &'static str) {
        let mut conn = PgConnection::connect(&self.url_of(database, &self.address())).await.unwrap();
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }

    /// Kills it without a warning.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Starts it on what it had on disk.
    pub fn again(&self) {
        self.0.again();
    }

    /// Waits until it takes connections.
    pub async fn wait(&self, within: Duration) {
        let ready = async || {
            proxy::answers(&self.address(), proxy::POSTGRESQL).await
                && self.0.run("postgres", &["pg_isready", "--quiet", "--host=127.0.0.1"]).is_ok()
        };
        until(within, "PostgreSQL takes connections", ready).await;
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> String {
        self.0.tail()
    }
}
