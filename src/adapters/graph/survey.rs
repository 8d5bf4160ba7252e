//! The survey: memberships, roles and methods of a user, in one batch, and what only the beta API tells in another. What
//! is missing is said to be missing, never taken for nothing: the guard counts it against the reset.

use serde_json::Value;

use super::Graph;
use super::address::{encode, literal};
use super::answer::Answer;
use super::batch::Item;
use super::fault;
use super::listing::Listing;
use super::observe::{Operation, Trail};
use crate::domain::guard::{Facts, Lookup, Membership};
use crate::domain::method::Api;
use crate::domain::outcome::Fault;
use crate::domain::preference::Preference;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;

impl Graph {
    /// Reads methods, roles and groups of the user in one go. `last_reset` is left empty.
    pub async fn survey(&self, lane: Lane, user_id: &str, trail: &Trail) -> Result<Facts, Fault> {
        let (answers, read_at) = self.batch(lane, Api::V1, &questions(user_id), trail).await?;
        let Ok([methods, memberships, groups, assignments, eligibilities]) = <[Answer; 5]>::try_from(answers) else {
            return Err(Fault::Transient { reason: Reason::GraphUnavailable });
        };
        let not_licensed = fault::is_not_licensed(&eligibilities);
        let mut listing = self.listing(lane, user_id, methods, trail).await?;
        let preference = if self.beta { self.survey_beta(lane, user_id, &mut listing, trail).await? } else { None };
        let memberships = self.pages(lane, Operation::ListMemberships, memberships, trail).await?;
        let groups = self.pages(lane, Operation::FindGroups, groups, trail).await?;
        let assignments = self.pages(lane, Operation::ListRoleAssignments, assignments, trail).await?;
        let eligibilities = match not_licensed {
            true => Lookup::NotLicensed,
            false => complete(self.pages(lane, Operation::ListRoleEligibilities, eligibilities, trail).await?, role),
        };
        Ok(Facts {
            memberships: complete(memberships, membership),
            role_assignable_groups: ids(groups),
            assignments: complete(assignments, role),
            eligibilities,
            methods: listing.methods,
            unread: listing.unread,
            preference,
            beta: self.beta,
            read_at,
            last_reset: None,
        })
    }

    /// Adds what only the beta API lists, and says which method is the default where Graph tells.
    async fn survey_beta(
        &self,
        lane: Lane,
        user_id: &str,
        listing: &mut Listing,
        trail: &Trail,
    ) -> Result<Option<Preference>, Fault> {
        let path = |name: &str| format!("/users/{}/authentication/{name}", encode(user_id));
        let items = [
            Item { operation: Operation::ListMethods, url: path("methods") },
            Item { operation: Operation::GetPreferences, url: path("signInPreferences") },
        ];
        let (answers, _) = self.batch(lane, Api::Beta, &items, trail).await?;
        let Ok([methods, preferences]) = <[Answer; 2]>::try_from(answers) else {
            return Err(Fault::Transient { reason: Reason::GraphUnavailable });
        };
        self.add_beta(lane, user_id, methods, listing, trail).await?;
        let preferred = preferences.body.filter(|_| preferences.status == 200);
        let preferred = preferred.as_ref().and_then(|body| body.get("userPreferredMethodForSecondaryAuthentication"));
        Ok(preferred.and_then(Value::as_str).and_then(Preference::from_name))
    }
}

/// The five items of the batch. The memberships are not cast to roles: a cast is answered from an index that lags.
fn questions(user_id: &str) -> [Item; 5] {
    let (user, of_user) = (encode(user_id), format!("$filter=principalId%20eq%20{}", literal(user_id)));
    let item = |operation, url| Item { operation, url };
    [
        item(Operation::ListMethods, format!("/users/{user}/authentication/methods")),
        item(
            Operation::ListMemberships,
            format!(
                "/users/{user}/transitiveMemberOf?$select=id,roleTemplateId,isAssignableToRole,securityEnabled&$top=999"
            ),
        ),
        item(Operation::FindGroups, "/groups?$filter=isAssignableToRole%20eq%20true&$select=id&$top=999".to_owned()),
        item(Operation::ListRoleAssignments, format!("/roleManagement/directory/roleAssignments?{of_user}")),
        item(
            Operation::ListRoleEligibilities,
            format!("/roleManagement/directory/roleEligibilityScheduleInstances?{of_user}"),
        ),
    ]
}

fn complete<T>(rows: Option<Vec<Value>>, read: fn(&Value) -> T) -> Lookup<T> {
    rows.map_or(Lookup::Failed, |rows| Lookup::Complete(rows.iter().map(read).collect()))
}

/// The ids of all rows; one row without an id, and the list proves nothing.
fn ids(rows: Option<Vec<Value>>) -> Lookup<String> {
    let id = |row: &Value| row.get("id").and_then(Value::as_str).map(str::to_lowercase);
    let ids = rows.and_then(|rows| rows.iter().map(id).collect());
    ids.map_or(Lookup::Failed, Lookup::Complete)
}

fn role(row: &Value) -> Option<String> {
    row.get("roleDefinitionId").and_then(Value::as_str).map(str::to_lowercase)
}

fn membership(row: &Value) -> Membership {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_lowercase);
    match (row.get("@odata.type").and_then(Value::as_str), text("id")) {
        (Some("#microsoft.graph.directoryRole"), _) => Membership::Role(text("roleTemplateId")),
        (Some("#microsoft.graph.group"), Some(id)) => {
            let flag = |name: &str| row.get(name).and_then(Value::as_bool);
            let readable = flag("securityEnabled").is_some();
            Membership::Group { id, assignable_to_role: flag("isAssignableToRole"), readable }
        }
        (Some("#microsoft.graph.administrativeUnit"), _) => Membership::AdministrativeUnit,
        _ => Membership::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_membership_that_graph_would_not_name_stays_unreadable() {
        let group = |rest: Value| {
            let mut row = json!({"@odata.type": "#microsoft.graph.group", "id": "G"});
            row.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            let Membership::Group { assignable_to_role, readable, .. } = membership(&row) else { panic!("{row}") };
            (assignable_to_role, readable)
        };
        assert_eq!(group(json!({"isAssignableToRole": true, "securityEnabled": true})), (Some(true), true));
        assert_eq!(group(json!({"isAssignableToRole": null, "securityEnabled": false})), (None, true));
        assert_eq!(group(json!({"isAssignableToRole": null, "securityEnabled": null})), (None, false));
        assert_eq!(group(json!({})), (None, false));
        let role = json!({"@odata.type": "#microsoft.graph.directoryRole", "id": "x", "roleTemplateId": "AB"});
        assert_eq!(membership(&role), Membership::Role(Some("ab".to_owned())));
        assert_eq!(membership(&json!({"@odata.type": "#microsoft.graph.directoryRole"})), Membership::Role(None));
        assert_eq!(membership(&json!({"id": "x"})), Membership::Unreadable);
        assert_eq!(membership(&json!({"@odata.type": "#microsoft.graph.new", "id": "x"})), Membership::Unreadable);
    }
}
