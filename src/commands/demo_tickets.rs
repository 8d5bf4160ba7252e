//! The demo's tenant and its forty tickets, each a different thing that happens to people.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const GLOBAL_ADMINISTRATOR: &str = "62e90394-69f5-4237-9190-012177145e10";
const USER_ADMINISTRATOR: &str = "fe930be7-5e62-47db-91af-98c3a49a38b1";

/// One ticket, and what it is there to show.
pub struct Ticket {
    /// What it shows, for the table at the end.
    pub about: &'static str,
    /// The line that is fed in.
    pub line: String,
}

/// The tenant as the simulator reads it.
pub fn tenant() -> Value {
    let mut users: Vec<Value> = (1..=24).map(ordinary).collect();
    let app = json!({"type": "microsoft_authenticator"});
    let phone = |number: u32| json!({"type": "phone_mobile", "value": format!("+1 55501{number:05}")});
    let alternate = json!({"type": "phone_alternate_mobile", "value": "+1 5559990000"});
    let key = json!({"type": "fido2", "properties": {"aaGuid": "2fc0579f-8113-47ea-b116-555a8db9202a", "passkeyType": "deviceBound"}});
    let with = |name: &str, rest: Value| {
        let mut user =
            json!({"userPrincipalName": format!("{name}@contoso.test"), "mail": format!("{name}@contoso.test")});
        if let (Value::Object(user), Value::Object(rest)) = (&mut user, rest) {
            user.extend(rest);
        }
        user
    };
    users.extend([
        with("stubborn", json!({"methods": [app, phone(101), {"type": "software_oath"}], "defaultMethod": "push"})),
        with("twophones", json!({"methods": [phone(102), alternate, app]})),
        with("catch22", json!({"methods": [phone(103), alternate], "defaultMethod": "voiceAlternateMobile"})),
        with("admin", json!({"methods": [app], "roles": [GLOBAL_ADMINISTRATOR]})),
        with("eligible", json!({"methods": [app], "eligibleRoles": [USER_ADMINISTRATOR]})),
        with("operator", json!({"methods": [app], "groups": ["operators"]})),
        with("breakglass", json!({"methods": [key]})),
        with("novel", json!({"methods": [app, {"type": "unknown", "properties": {"@odata.type": "#microsoft.graph.novelAuthenticationMethod"}}]})),
        with("keys", json!({"methods": [key, app, phone(104)]})),
        with("bare", json!({"methods": []})),
    ]);
    json!({
        "users": users,
        "groups": [
            {"id": "11111111-0000-4000-8000-000000000001", "displayName": "Everybody"},
            {"id": "operators", "displayName": "Operators", "isAssignableToRole": true},
        ],
    })
}

/// A user with Authenticator and a phone, and for some more than that.
fn ordinary(number: u32) -> Value {
    let mut methods = vec![
        json!({"type": "microsoft_authenticator"}),
        json!({"type": "phone_mobile", "value": format!("+1 55500{number:05}")}),
    ];
    if number.is_multiple_of(3) {
        methods.push(json!({"type": "software_oath"}));
    }
    if number.is_multiple_of(4) {
        methods.push(json!({"type": "windows_hello"}));
    }
    if number.is_multiple_of(5) {
        methods.push(json!({"type": "email", "value": format!("home{number}@example.test")}));
    }
    json!({
        "userPrincipalName": name(number), "mail": name(number), "methods": methods,
        "groups": ["11111111-0000-4000-8000-000000000001"],
    })
}

fn name(number: u32) -> String {
    format!("person{number:02}@contoso.test")
}

/// The tickets, in the order they are fed in.
#[expect(clippy::too_many_lines, reason = "one line a ticket")]
pub fn tickets(now: Timestamp) -> Vec<Ticket> {
    let ago = |hours| (now - SignedDuration::from_hours(hours)).to_string();
    let mut number = 0;
    let mut ticket = |about: &'static str, upn: &str, profile: &str, change: Value| {
        number += 1;
        let mut body = json!({
            "id": format!("INC{number:04}:1"), "ticket": {"system": "servicenow", "number": format!("INC{number:04}")},
            "target": {"upn": upn}, "profile": profile, "requested_by": "servicedesk@contoso.test",
            "requested_at": now.to_string(),
        });
        if let (Value::Object(body), Value::Object(change)) = (&mut body, change) {
            body.extend(change);
        }
        Ticket { about, line: body.to_string() }
    };
    let none = || json!({});
    let at = |name: &str| format!("{name}@contoso.test");
    let mut tickets: Vec<Ticket> =
        (1..=10).map(|number| ticket("lost phone", &name(number), "lost-phone", none())).collect();
    tickets.extend([
        ticket("stubborn default method", &at("stubborn"), "re-register", none()),
        ticket("two phones", &at("twophones"), "re-register", none()),
        ticket("default is the alternate phone", &at("catch22"), "re-register", none()),
        ticket("unknown user", &at("nobody"), "all", none()),
        ticket("administrator", &at("admin"), "all", none()),
        ticket("only eligible for a role", &at("eligible"), "all", none()),
        ticket("member of a role-assignable group", &at("operator"), "all", none()),
        ticket("break-glass account", &at("breakglass"), "compromised", none()),
        ticket("a type nobody knows", &at("novel"), "all", none()),
        ticket("keep the security key", &at("keys"), "all", json!({"keep": ["fido2"]})),
        ticket("nothing registered", &at("bare"), "re-register", none()),
        ticket("only the plan", &name(11), "compromised", json!({"dry_run": true})),
        ticket("asks for oneself", &name(12), "all", json!({"requested_by": name(12)})),
        ticket("expired", &name(13), "all", json!({"requested_at": ago(9), "expires_at": ago(1)})),
        ticket("id and name disagree", &name(14), "all", json!({"target": {"upn": name(14), "mail": name(15)}})),
        ticket("malformed", &name(15), "everything", none()),
        ticket("a field too many", &name(15), "all", json!({"priority": 1})),
        ticket("Authenticator only", &name(15), "authenticator", none()),
    ]);
    tickets.extend((16..=24).map(|number| ticket("throttled stretch", &name(number), "compromised", none())));
    let again = tickets[0].line.clone();
    tickets.push(Ticket { about: "the same ticket again", line: again });
    tickets.push(ticket("an id used twice", &name(3), "all", json!({"id": "INC0002:1"})));
    tickets.push(ticket("second reset within the hour", &name(4), "all", none()));
    tickets
}
