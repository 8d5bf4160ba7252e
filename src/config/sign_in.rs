//! How the worker signs in: the cloud, the kind of credential, and what a platform of Azure tells in the environment.

use std::ffi::OsString;

use secrecy::SecretString;

use super::Mistake;
use super::value::{address, is_loopback, is_nearby, root, secret};

/// A cloud of Microsoft. Tokens of one are worth nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// The worldwide one, and GCC.
    #[default]
    Global,
    /// US Government L4, GCC High.
    UsGov,
    /// US Government L5, the Department of Defense.
    UsGovDod,
    /// China, run by 21Vianet.
    China,
}

impl Cloud {
    /// The cloud with this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "global" => Some(Self::Global),
            "us-gov" => Some(Self::UsGov),
            "us-gov-dod" => Some(Self::UsGovDod),
            "china" => Some(Self::China),
            _ => None,
        }
    }

    /// The root of its Graph (Microsoft's `deployments`).
    pub const fn endpoint(self) -> &'static str {
        match self {
            Self::Global => "https://graph.microsoft.com",
            Self::UsGov => "https://graph.microsoft.us",
            Self::UsGovDod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }

    /// The root of its token endpoints.
    pub const fn authority(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::UsGov | Self::UsGovDod => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }
}

/// How the application proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credential {
    /// By `graph.client_secret`.
    #[default]
    Secret,
    /// By `graph.certificate_file`.
    Certificate,
    /// By `graph.federated_token_file`.
    Federated,
    /// By where it runs.
    ManagedIdentity,
}

impl Credential {
    /// Those that belong to an app registration.
    pub const REGISTERED: &[Self] = &[Self::Secret, Self::Certificate, Self::Federated];

    /// The kind with this name.
    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::Secret, Self::Certificate, Self::Federated, Self::ManagedIdentity];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::Federated => "federated",
            Self::ManagedIdentity => "managed-identity",
        }
    }
}

/// Where the tokens of a managed identity are handed out.
#[derive(Debug, Clone)]
pub enum Platform {
    /// The root of a virtual machine's metadata service.
    VirtualMachine(String),
    /// App Service, Container Apps and the like.
    AppService {
        /// The address.
        endpoint: String,
        /// What shows that it is the app that asks.
        header: SecretString,
    },
}

/// The same address on every virtual machine of Azure.
const METADATA: &str = "http://169.254.169.254";

impl Platform {
    /// The platform that the environment tells of, else a virtual machine. `far` lets addresses be anywhere.
    pub(super) fn of(environment: &[(OsString, OsString)], far: bool) -> Result<Self, Mistake> {
        let get = |name: &str| {
            let (_, value) = environment.iter().find(|(key, value)| key == name && !value.is_empty())?;
            Some(value.to_str().unwrap_or_default())
        };
        let near = |text: &str| address(text, &["http"]).is_some_and(|url| far || is_loopback(&url) || is_nearby(&url));
        let expected = "an `http://` address on this machine or near it is expected";
        match (get("IDENTITY_ENDPOINT"), get("IDENTITY_HEADER")) {
            (Some(endpoint), Some(_)) if !near(endpoint) => Err(Mistake::new("IDENTITY_ENDPOINT", expected)),
            (Some(endpoint), Some(header)) => {
                let plain = header.bytes().all(|byte| byte.is_ascii_graphic());
                let header = secret(header).filter(|_| plain);
                let header = header.ok_or_else(|| Mistake::new("IDENTITY_HEADER", "plain ASCII is expected"))?;
                Ok(Self::AppService { endpoint: endpoint.to_owned(), header })
            }
            (Some(_), None) => Err(Mistake::new(
                "IDENTITY_HEADER",
                "it goes together with IDENTITY_ENDPOINT; Azure Arc, which sets the latter alone, is not supported",
            )),
            (None, _) => {
                let text = get("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or(METADATA);
                let found = root(text).filter(|root| near(root));
                found.map(Self::VirtualMachine).ok_or(Mistake::new("AZURE_POD_IDENTITY_AUTHORITY_HOST", expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn platform(environment: &[(&str, &str)]) -> Result<Platform, String> {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Platform::of(&environment, false).map_err(|mistake| mistake.key)
    }

    #[test]
    fn names_are_told_apart() {
        for (name, kind) in [("secret", Credential::Secret), ("managed-identity", Credential::ManagedIdentity)] {
            assert_eq!((Credential::of(name), kind.name()), (Some(kind), name));
        }
        assert_eq!((Credential::of("Secret"), Cloud::of("")), (None, None));
    }

    #[test]
    fn a_virtual_machine_is_where_every_one_is_unless_it_is_said() {
        let root = |environment: &[(&str, &str)]| match platform(environment) {
            Ok(Platform::VirtualMachine(root)) => root,
            other => panic!("{other:?}"),
        };
        assert_eq!(root(&[("IDENTITY_HEADER", "alone"), ("IDENTITY_ENDPOINT", "")]), "http://169.254.169.254");
        assert_eq!(root(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9/")]), "http://127.0.0.1:9");
        for far in ["http://192.0.2.1", "https://127.0.0.1", "http://127.0.0.1/path", "x"] {
            let found = platform(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", far)]);
            assert_eq!(found.unwrap_err(), "AZURE_POD_IDENTITY_AUTHORITY_HOST", "{far}");
        }
    }

    #[test]
    fn app_service_says_where_it_is_and_keeps_a_secret() {
        for near in ["http://localhost:42356/msi/token", "http://169.254.129.4:8081/msi/token", "http://172.16.0.2/t"] {
            match platform(&[("IDENTITY_ENDPOINT", near), ("IDENTITY_HEADER", "canary")]) {
                Ok(Platform::AppService { endpoint, header }) => {
                    assert_eq!((endpoint.as_str(), header.expose_secret()), (near, "canary"));
                }
                other => panic!("{other:?}"),
            }
        }
        let told =
            |endpoint, header: &[_]| platform(&[&[("IDENTITY_ENDPOINT", endpoint)], header].concat()).unwrap_err();
        assert_eq!(told("http://localhost/", &[]), "IDENTITY_HEADER", "that is Azure Arc");
        assert_eq!(told("http://localhost/", &[("IDENTITY_HEADER", "two\nlines")]), "IDENTITY_HEADER");
        assert_eq!(told("https://localhost/", &[("IDENTITY_HEADER", "h")]), "IDENTITY_ENDPOINT");
    }
}
