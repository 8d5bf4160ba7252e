//! The default method, which Graph does not let go while others stay: it goes last, or another takes its place first.

use crate::domain::method::{Method, MethodType};
use crate::domain::preference::Preference;

/// Puts the removals into an order that Graph accepts, and says what the default has to be changed to before, if
/// anything.
///
/// A default that stays, or that a method which stays may bear, needs nothing. One that goes while another stays that can
/// be the default is changed to that. The alternate mobile phone can neither go while it is the default nor after the
/// mobile phone, so the mobile phone becomes the default. Else whatever may bear the default goes last.
pub(super) fn arrange(removals: &mut [Method], kept: &[&Method], preference: Option<Preference>) -> Option<Preference> {
    removals.sort_by_key(|method| method.method_type.entry().order);
    let preference = preference?;
    let goes = |kind: MethodType| removals.iter().any(|method| method.method_type == kind);
    let bears = |method: &Method| preference.may_be(method.method_type);
    if kept.iter().any(|method| bears(method)) || !removals.iter().any(bears) {
        return None;
    }
    let catch = preference == Preference::VoiceAlternateMobile && goes(MethodType::PhoneMobile);
    let mut stay =
        Preference::ALL.into_iter().filter(|other| kept.iter().any(|method| other.may_be(method.method_type)));
    // One that a method which goes may bear too could make that the default.
    let clear = |other: &Preference| !removals.iter().any(|method| other.may_be(method.method_type));
    let stays = stay.clone().find(clear).or_else(|| stay.next());
    let successor = stays.or(catch.then_some(Preference::Sms));
    let last = successor.filter(|_| stays.is_none()).unwrap_or(preference);
    if stays.is_none() {
        removals.sort_by_key(|method| last.may_be(method.method_type));
    }
    successor
}
