//! The default method, which Graph does not let go while others stay: it goes last, or another takes its place first.

use crate::domain::method::{Method, MethodType};
use crate::domain::preference::Preference;

/// Puts the removals into an order that Graph accepts, and says what the default has to be changed to before, if
/// anything.
///
/// A default that stays needs nothing. One that a method of another type may bear is changed to what only that type
/// bears. One that goes while another stays that can
/// be the default is changed to that. The alternate mobile phone can neither go while it is the default nor after the
/// mobile phone, so the mobile phone becomes the default. Else whatever may bear the default goes last.
pub(super) fn arrange(removals: &mut [Method], kept: &[&Method], preference: Option<Preference>) -> Option<Preference> {
    removals.sort_by_key(|method| method.method_type.entry().order);
    let preference = preference?;
    let goes = |kind: MethodType| removals.iter().any(|method| method.method_type == kind);
    let bears = |method: &Method| preference.may_be(method.method_type);
    if !removals.iter().any(bears) {
        return None;
    }
    let kept_can = |other: &Preference| kept.iter().any(|method| other.may_be(method.method_type));
    // One that a method which goes may bear too could make that the default.
    let clear = |other: &Preference| !removals.iter().any(|method| other.may_be(method.method_type));
    if let Some(stays) = kept.iter().find(|method| bears(method)) {
        // One of its kind goes on bearing it; another kind is named, so that Graph need not guess.
        let other = Preference::ALL.into_iter().find(|other| kept_can(other) && clear(other));
        return other.filter(|_| !goes(stays.method_type));
    }
    let catch = preference == Preference::VoiceAlternateMobile && goes(MethodType::PhoneMobile);
    let stays = Preference::ALL.into_iter().find(|other| kept_can(other) && clear(other));
    let stays = stays.or_else(|| Preference::ALL.into_iter().find(kept_can));
    let successor = stays.or(catch.then_some(Preference::Sms));
    if stays.is_none() {
        let last = successor.unwrap_or(preference);
        removals.sort_by_key(|method| last.may_be(method.method_type));
    }
    successor
}
