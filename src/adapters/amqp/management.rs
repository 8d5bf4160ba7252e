//! The broker's management API, as far as it tells what AMQP does not: arguments, policies and bindings. Reads only.

use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::connect::Access;
use super::{SessionError, Settings};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// The management API of one virtual host.
pub struct Management {
    http: Client,
    root: Url,
    user: String,
    password: SecretString,
    vhost: String,
    prefix: String,
}

/// What the API tells of a queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueView {
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// What policies and operator policies set, together; `None` where the broker has not told the API yet, or never does.
    pub policy: Option<Map<String, Value>>,
}

impl Management {
    /// Reads the address; sends nothing yet.
    pub fn new(url: &SecretString, settings: &Settings) -> Result<Self, SessionError> {
        let wrong = |what: &str| SessionError::Configuration(format!("broker.management_url: {what}"));
        let mut root: Url = url.expose_secret().parse().map_err(|_| wrong("it is no address"))?;
        let user = decoded(root.username()).ok_or_else(|| wrong("the user is no text"))?;
        let password = decoded(root.password().unwrap_or_default()).ok_or_else(|| wrong("the password is no text"))?;
        // Neither is to be shown, nor sent where a message quotes an address.
        _ = (root.set_username(""), root.set_password(None));
        let mut builder = Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none());
        if root.scheme() == "http" {
            builder = builder.tls_certs_only([]).no_proxy();
        } else if let Some(file) = &settings.ca_file {
            let pem = std::fs::read(file).map_err(|error| wrong(&format!("broker.ca_file cannot be read: {error}")))?;
            let found = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("broker.ca_file holds no certificate"))?;
            builder = builder.tls_certs_merge(found);
        }
        let http = builder.build().map_err(|_| wrong("the HTTPS client cannot be built"))?;
        let vhost = Access::read(settings)?.vhost().to_owned();
        Ok(Self { http, root, user, password: password.into(), vhost, prefix: settings.prefix.clone() })
    }

    /// What it tells of a queue; `None` where there is no such queue.
    pub async fn queue(&self, name: &str) -> Result<Option<QueueView>, SessionError> {
        let found = self.get(&["queues", &self.vhost, &self.full(name)]).await?;
        // A table without an entry may come as an empty list.
        let table = |value: &Value| value.as_object().cloned().unwrap_or_default();
        Ok(found.map(|found| QueueView {
            arguments: found.get("arguments").map(table).unwrap_or_default(),
            policy: found.get("effective_policy_definition").map(table),
        }))
    }

    /// The keys that bind a queue to an exchange.
    pub async fn keys(&self, exchange: &str, queue: &str) -> Result<Vec<String>, SessionError> {
        let path = ["bindings", &self.vhost, "e", &self.full(exchange), "q", &self.full(queue)];
        let found = self.get(&path).await?.unwrap_or_default();
        let rows = found.as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| row.get("routing_key")?.as_str().map(str::to_owned)).collect())
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    async fn get(&self, path: &[&str]) -> Result<Option<Value>, SessionError> {
        let mut url = self.root.clone();
        let away = |why: &str| SessionError::Passing(format!("the management API {why}"));
        url.path_segments_mut().map_err(|()| away("has no such address"))?.pop_if_empty().push("api").extend(path);
        let asked = self.http.get(url).basic_auth(&self.user, Some(self.password.expose_secret())).send().await;
        let answer = asked.map_err(|error| match error.is_timeout() {
            true => away("did not answer in time"),
            false => away("cannot be reached"),
        })?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SessionError::Configuration(
                "the management API refuses the user: check its name and password, give it the tag `management` and \
                 permissions in the virtual host"
                    .to_owned(),
            )),
            status if !status.is_success() => Err(away(&format!("answers {}", status.as_u16()))),
            _ => answer.json().await.map(Some).map_err(|_| away("answers something that is not JSON")),
        }
    }
}

/// A part of an address, without percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%').and_then(|pair| str::from_utf8(pair).ok());
        let code = escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_come_out_of_an_address_as_they_went_in() {
        for (written, meant) in [("ada", "ada"), ("p%40ss%2fw%C3%B6rd", "p@ss/wörd"), ("100%", "100%"), ("", "")] {
            assert_eq!(decoded(written).as_deref(), Some(meant));
        }
        assert_eq!(decoded("%ff"), None);
    }
}
