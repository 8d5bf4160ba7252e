//! `mfa-reset health [--ready]`: asks the worker beside it how it is, for supervisors that can only run a command.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::Config;

/// Longer than a healthy worker ever takes; shorter than supervisors usually wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints what `/livez`, or `/readyz`, answered. `false` unless the worker says that it is well.
pub async fn run(config: &Config, ready: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    let path = if ready { "readyz" } else { "livez" };
    let url = format!("http://{}/{path}", nearby(config.admin_listen));
    // No certificates are needed, and reading those of the system would take longer than all the rest.
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(PATIENCE).build()?;
    let response = match client.get(&url).send().await {
        Ok(response) => response,
        Err(error) => {
            let why = if error.is_timeout() { "no answer in time" } else { "nobody answers" };
            writeln!(out, "{url}: {why}")?;
            return Ok(false);
        }
    };
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    writeln!(out, "{} {body}", status.as_u16())?;
    Ok(status.is_success())
}

/// A worker that listens everywhere listens on loopback too.
fn nearby(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        chosen @ (IpAddr::V4(_) | IpAddr::V6(_)) => chosen,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_asked_over_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.1.2.3:9464", "10.1.2.3:9464"),
        ] {
            assert_eq!(nearby(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
