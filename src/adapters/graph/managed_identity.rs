//! Managed identities: the platform that the worker runs on knows who it is, and hands it tokens at a local address.
//!
//! Requests go past any proxy. How a virtual machine's service answers, and what is worth another try, is told in
//! Microsoft's `how-to-use-vm-token`; App Service and Container Apps in `overview-managed-identity`.

use std::time::Duration;

use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};

use super::answer::{Answer, Broken};
use super::refusal::Refusal;

/// Who vouches for the worker.
#[derive(Clone)]
pub enum Platform {
    /// A virtual machine: the root of its metadata service.
    VirtualMachine(Url),
    /// App Service, Container Apps and the like.
    AppService {
        /// Where tokens are handed out.
        endpoint: Url,
        /// What shows that the request comes from the app itself.
        header: SecretString,
    },
}

/// How long to wait before each further try. The service may be gone for 70 s while it is updated; renewal goes on
/// after the last of these.
pub(super) const DELAYS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(6), Duration::from_secs(14), Duration::from_secs(30)];

const AWAY: &str = "the platform's service for managed identities is away or busy";

/// The request for a token; no `client_id` means the identity that is the platform's own.
pub(super) fn request(http: &reqwest::Client, platform: &Platform, client_id: &str, resource: &str) -> RequestBuilder {
    let mut query = vec![("resource", resource)];
    if !client_id.is_empty() {
        query.push(("client_id", client_id));
    }
    match platform {
        Platform::VirtualMachine(root) => {
            let mut url = root.clone();
            url.set_path("/metadata/identity/oauth2/token");
            query.push(("api-version", "2018-02-01"));
            http.get(url).header("Metadata", "true").query(&query)
        }
        Platform::AppService { endpoint, header } => {
            query.push(("api-version", "2019-08-01"));
            http.get(endpoint.clone()).header("X-IDENTITY-HEADER", header.expose_secret()).query(&query)
        }
    }
}

/// What an answer means that grants nothing.
pub(super) fn refusal(answer: &Answer) -> Refusal {
    let code = format!("HTTP {}", answer.status);
    match answer.status {
        200..=299 | 404 | 408 | 410 | 429 | 500..=599 => {
            Refusal { after: answer.retry_after, ..Refusal::passing(AWAY, code) }
        }
        400 => Refusal::lasting(
            "no such managed identity here: is one assigned, and does graph.client_id name it if there are several?",
            code,
        ),
        _ => Refusal::lasting("the platform refuses to vouch for this process", code),
    }
}

/// What it means that no answer came.
pub(super) fn silence(broken: Broken) -> Refusal {
    let words = match broken {
        Broken::Connect => "nobody hands out tokens of a managed identity here: does this run on Azure?",
        Broken::Timeout | Broken::Cut => AWAY,
    };
    Refusal::passing(words, broken.status().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::refusal::Class;
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        let class = |status| refusal(&Answer { status, retry_after: None, date: None, body: None }).class;
        for status in [200, 404, 410, 429, 500, 503, 504] {
            assert_eq!(class(status), Class::Passing, "{status}");
        }
        for status in [302, 400, 401, 403, 405] {
            assert_eq!(class(status), Class::Lasting, "{status}");
        }
        let waits: Vec<u64> = DELAYS.iter().map(Duration::as_secs).collect();
        assert_eq!(waits, [2, 6, 14, 30]);
    }
}
