//! Looks at Graph and changes nothing: its clock, what the token grants, and users to try the reading calls with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::ACCEPT;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::answer::{Answer, Broken};
use super::observe::{Operation, Status, Trail};
use super::{Graph, fault};
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;

impl Graph {
    /// By how much Graph's clock is ahead of ours, where it tells the time. Asks without a token: the refusal has a date
    /// too, and a wrong clock may be why there is no token.
    pub async fn clock_ahead(&self) -> Result<Option<SignedDuration>, Status> {
        let url = self.url("users", Some("$top=1&$select=id"));
        let asked = Timestamp::now();
        let asking = self.http.get(url).timeout(self.timeout).header(ACCEPT, "application/json").send();
        let response = asking.await.map_err(|error| Broken::of(&error).status())?;
        let answered = Timestamp::now();
        let (answer, _) = Answer::read(response).await;
        Ok(answer.date.map(|date| ahead(date, asked, answered)))
    }

    /// The application permissions that the token names; `None` where it cannot be read, since it is Graph's to read and
    /// not ours: Microsoft promises nothing of what is in it.
    pub async fn granted(&self) -> Result<Option<Vec<String>>, Fault> {
        let token = self.tokens.current().await?;
        Ok(roles(token.secret.expose_secret()))
    }

    /// The object ids of some users, whoever they are.
    pub async fn some_users(&self) -> Result<Vec<String>, Fault> {
        let url = self.url("users", Some("$top=3&$select=id"));
        let answer = self.get(Lane::Batch, Operation::FindUser, url, &Trail::default()).await?;
        if !answer.is_good() {
            return Err(fault::permanent(&answer));
        }
        let rows = answer.body.as_ref().and_then(|body| body.get("value")?.as_array());
        let rows = rows.ok_or(Fault::Transient { reason: Reason::GraphUnavailable })?;
        Ok(rows.iter().filter_map(|row| row.get("id")?.as_str().map(str::to_owned)).collect())
    }
}

/// How far a date is ahead of us that was written between these moments: none if it may have been right, since it
/// comes in whole seconds, cut off.
fn ahead(date: Timestamp, asked: Timestamp, answered: Timestamp) -> SignedDuration {
    let (early, late) = (date.duration_since(asked) + SignedDuration::from_secs(1), date.duration_since(answered));
    if early.is_negative() { early } else { late.max(SignedDuration::ZERO) }
}

fn roles(token: &str) -> Option<Vec<String>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let object = claims.as_object()?;
    // An app that was granted nothing has no such claim.
    let Some(roles) = object.get("roles") else { return Some(Vec::new()) };
    roles.as_array()?.iter().map(|role| role.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_roles_or_stays_closed() {
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let named = Some(vec!["User.Read.All".to_owned()]);
        assert_eq!(roles(&token(r#"{"roles":["User.Read.All"]}"#)), named);
        assert_eq!(roles(&token(r#"{"aud":"x"}"#)), Some(Vec::new()));
        for closed in
            ["opaque", "a.b.c", "a.!!.c", &token("[]"), &token(r#"{"roles":"x"}"#), &token(r#"{"roles":[1]}"#)]
        {
            assert_eq!(roles(closed), None, "{closed}");
        }
    }

    #[test]
    fn a_date_is_cut_to_the_second_and_an_answer_takes_time() {
        let at = |milliseconds: i64| Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap();
        let seconds = |date, asked, answered| ahead(at(date), at(asked), at(answered)).as_millis();
        assert_eq!(seconds(5000, 5900, 6100), 0, "cut off");
        assert_eq!(seconds(6000, 5100, 9000), 0, "a slow answer");
        assert_eq!(seconds(66_000, 5000, 6000), 60_000);
        assert_eq!(seconds(0, 61_000, 62_000), -60_000);
    }
}
