//! The methods of a user: from the list of all of them, or, where a cloud lacks that list or the application may not read
//! it, from the collection of each type. What cannot be read is said to be unread, never taken for nothing.
//!
//! Only the broad permissions open the list of all methods; the granular ones open their own collection (Microsoft Graph
//! permissions reference). China's schema of v1.0 has three collections and no such list.

use serde_json::Value;

use super::Graph;
use super::address::encode;
use super::answer::Answer;
use super::batch::Item;
use super::fault;
use super::observe::{Operation, Trail};
use crate::domain::method::{Api, Collection, Method, MethodType, PASSWORDLESS, PASSWORDLESS_ODATA, TABLE};
use crate::domain::outcome::{Fault, Unread};
use crate::domain::plan::Reach;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;

const AWAY: Fault = Fault::Transient { reason: Reason::GraphUnavailable };

/// What could be read of a user's methods.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) methods: Vec<Method>,
    pub(super) unread: Vec<(MethodType, Unread)>,
    /// Whether the collection of passwordless registrations could not be read.
    pub(super) no_passwordless: bool,
}

impl Graph {
    /// Lists the user's methods, every page: all within reach, or it is a fault.
    pub async fn list_methods(
        &self,
        lane: Lane,
        user_id: &str,
        reach: &Reach,
        trail: &Trail,
    ) -> Result<Vec<Method>, Fault> {
        let path = format!("users/{}/authentication/methods", encode(user_id));
        let first = self.get(lane, Operation::ListMethods, self.url(&path, None), trail).await?;
        let mut listing = self.listing(lane, user_id, first, trail).await?;
        if reach.beta {
            let first = self.get(lane, Operation::ListMethods, self.url_of(Api::Beta, &path, None), trail).await?;
            self.add_beta(lane, user_id, first, &mut listing, trail).await?;
        }
        let missed = listing.unread.iter().any(|(kind, _)| reach.types.contains(kind))
            || (listing.no_passwordless && reach.passwordless);
        if missed { Err(AWAY) } else { Ok(listing.methods) }
    }

    /// The methods of v1.0, of whose list the first page is there.
    pub(super) async fn listing(
        &self,
        lane: Lane,
        user_id: &str,
        first: Answer,
        trail: &Trail,
    ) -> Result<Listing, Fault> {
        if first.is_good() {
            let methods = self.all_pages(lane, user_id, first, trail).await?;
            return Ok(Listing { methods, unread: Vec::new(), no_passwordless: false });
        }
        // Else the user is gone, or Graph has something else to say.
        if !fault::lists_elsewhere(&first) {
            return Err(fault::permanent(&first));
        }
        let listing = match self.collections(lane, Api::V1, user_id, trail).await {
            Err(Fault::Permanent { .. }) => return Err(fault::permanent(&first)),
            other => other?,
        };
        // The user is gone, or the application may read nothing at all.
        if listing.methods.is_empty() && listing.unread.len() >= count(Api::V1) {
            return Err(fault::permanent(&first));
        }
        Ok(listing)
    }

    /// Adds what the beta API lists beyond v1.0, of whose list the first page is there.
    pub(super) async fn add_beta(
        &self,
        lane: Lane,
        user_id: &str,
        first: Answer,
        listing: &mut Listing,
        trail: &Trail,
    ) -> Result<(), Fault> {
        let found = match first.is_good() {
            true => self.all_pages(lane, user_id, first, trail).await?,
            false if !fault::lists_elsewhere(&first) => return Err(AWAY),
            false => {
                let beta = self.collections(lane, Api::Beta, user_id, trail).await?;
                listing.unread.extend(beta.unread);
                listing.no_passwordless = beta.no_passwordless;
                beta.methods
            }
        };
        for method in found {
            if !listing.methods.iter().any(|known| known.same_place(&method)) {
                listing.methods.push(method);
            }
        }
        Ok(())
    }

    async fn all_pages(&self, lane: Lane, user: &str, first: Answer, trail: &Trail) -> Result<Vec<Method>, Fault> {
        let rows = self.pages(lane, Operation::ListMethods, first, trail).await?.ok_or(AWAY)?;
        Ok(rows.iter().map(|row| self.method(user, row, "")).collect())
    }

    /// Lists each collection that deletes something in this version.
    async fn collections(&self, lane: Lane, api: Api, user_id: &str, trail: &Trail) -> Result<Listing, Fault> {
        let collections: Vec<(Collection, &str)> = all_collections(api);
        let url = |name: &str| format!("/users/{}/authentication/{name}", encode(user_id));
        let items: Vec<Item> = collections
            .iter()
            .map(|(collection, _)| Item { operation: Operation::ListTyped, url: url(collection.name) })
            .collect();
        let (answers, _) = self.batch(lane, api, &items, trail).await?;
        let mut listing = Listing { methods: Vec::new(), unread: Vec::new(), no_passwordless: false };
        for ((collection, odata), answer) in collections.into_iter().zip(answers) {
            if answer.is_good() {
                let rows = self.rows(lane, collection, answer, trail).await?;
                listing.methods.extend(rows.iter().map(|row| self.method(user_id, row, odata)));
            } else if let Some(why) = fault::unread(&answer, collection.single)? {
                listing.no_passwordless |= collection == PASSWORDLESS;
                let types = TABLE.iter().filter(|entry| entry.collection == Some(collection));
                listing.unread.extend(types.map(|entry| (entry.method_type, why)));
            }
        }
        Ok(listing)
    }

    async fn rows(&self, lane: Lane, place: Collection, first: Answer, trail: &Trail) -> Result<Vec<Value>, Fault> {
        if place.single {
            return Ok(first.body.into_iter().collect());
        }
        self.pages(lane, Operation::ListTyped, first, trail).await?.ok_or(AWAY)
    }

    /// A method as a row tells of it; a typed collection need not name the type.
    fn method(&self, user_id: &str, row: &Value, odata: &str) -> Method {
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        let odata = text("@odata.type").unwrap_or(odata);
        let method_type = MethodType::from_odata(odata, text("phoneType"));
        let registered_at = text("createdDateTime").or_else(|| text("creationDateTime"));
        let below = |pointer: &str| row.pointer(pointer).and_then(Value::as_str);
        let value = match method_type {
            MethodType::PhoneMobile | MethodType::PhoneAlternateMobile | MethodType::PhoneOffice => text("phoneNumber"),
            MethodType::Email => text("emailAddress"),
            // What tells one registration from the next.
            MethodType::HardwareOath => registered_at,
            MethodType::QrCodePin => below("/standardQRCode/id").or(registered_at).or(below("/pin/createdDateTime")),
            MethodType::Password
            | MethodType::Fido2
            | MethodType::WindowsHello
            | MethodType::MicrosoftAuthenticator
            | MethodType::SoftwareOath
            | MethodType::TemporaryAccessPass
            | MethodType::PlatformCredential
            | MethodType::External
            | MethodType::Unknown => None,
        };
        Method {
            digest: self.digest_key.digest(method_type, user_id, value),
            aaguid: text("aaGuid").map(str::to_lowercase),
            synced: text("passkeyType") == Some("synced"),
            registered_at: registered_at.and_then(|text| text.parse().ok()),
            sms_sign_in: text("smsSignInState") == Some("ready"),
            passwordless: Method::is_passwordless(odata),
            ..Method::new(method_type, text("id").unwrap_or_default())
        }
    }
}

/// Every collection of a version once, and the `@odata.type` of what is in it.
fn all_collections(api: Api) -> Vec<(Collection, &'static str)> {
    let mut all: Vec<(Collection, &str)> = Vec::new();
    for (collection, odata) in TABLE.iter().filter_map(|entry| Some((entry.collection?, entry.odata))) {
        if collection.api == api && !all.iter().any(|(known, _)| *known == collection) {
            all.push((collection, odata));
        }
    }
    if api == Api::Beta {
        all.push((PASSWORDLESS, PASSWORDLESS_ODATA));
    }
    all
}

/// How many types a version can delete.
fn count(api: Api) -> usize {
    TABLE.iter().filter(|entry| entry.collection.is_some_and(|collection| collection.api == api)).count()
}
