//! Which trace a job belongs to: W3C trace context, taken from its message, named in its log lines, handed to every Graph
//! call that is made for it.
//!
//! A request that comes without a context, or with one that cannot be read, gets a trace of its own, made from its key: so
//! all attempts at it are one trace, whichever worker makes them and however its copies travel. It counts as sampled only
//! where this process exports spans, so that nobody looks for spans that are nowhere. `tracestate` is not carried.
//!
//! Spans are ended here and leave by `sink`, which there is only with the feature `otlp`; without it none is kept.

#[cfg(feature = "otlp")]
pub mod otlp;
mod span;

use std::future::Future;

use uuid::Uuid;

use crate::domain::request::Key;
pub use span::{Role, Sink, Span, export_to};

/// The namespace of traces made from request keys, drawn once.
const NAMESPACE: Uuid = Uuid::from_u128(0x2c1b_40d7_65a3_4e0b_9a1e_7f52_d80c_36b9);
/// The flag of a trace whose spans are kept.
const SAMPLED: u8 = 1;

tokio::task_local! {
    static CURRENT: Context;
}

/// A trace, and the span in it that whatever follows belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Context {
    /// The context of a `traceparent` header of the one version there is.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = parts.next()?;
        let mut hex = |length: usize| {
            let part = parts.next()?;
            let plain = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(part, 16).ok().filter(|_| plain && part.len() == length)
        };
        let (trace, span, flags) = (hex(32)?, hex(16)?, hex(2)?);
        let whole = version == "00" && parts.next().is_none() && trace != 0 && span != 0;
        whole.then_some(Self { trace, span: u64::try_from(span).ok()?, flags: u8::try_from(flags).ok()? })
    }

    /// The trace that a request has of itself.
    fn of_request(key: &Key) -> Self {
        let trace = Uuid::new_v5(&NAMESPACE, format!("{}\n{}", key.system, key.id).as_bytes());
        Self { trace: trace.as_u128(), span: 0, flags: if span::exports() { SAMPLED } else { 0 } }
    }

    /// The next span of the same trace.
    pub fn child(self) -> Self {
        Self { span: fastrand::u64(1..), ..self }
    }

    /// Does the work in this context: its log lines and calls are of this trace.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// The same for what does not wait.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// The id of the trace, as everybody writes it.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// As a `traceparent` header.
impl std::fmt::Display for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// The context of the job at hand, if there is one.
pub fn current() -> Option<Context> {
    CURRENT.try_with(|context| *context).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn key(id: &str) -> Key {
        Key { system: "servicenow".into(), id: id.into() }
    }

    #[test]
    fn a_context_is_written_as_it_was_read() {
        assert_eq!(Context::parse(TRACE).unwrap().to_string(), TRACE);
        let child = Context::parse(TRACE).unwrap().child().to_string();
        assert_eq!((&child[..36], &child[52..]), (&TRACE[..36], "-01"));
        assert_ne!(child, TRACE);
    }

    #[test]
    fn what_is_no_context_is_none() {
        for text in [
            "",
            "00",
            &TRACE.to_uppercase(),
            &TRACE.replacen("00", "ff", 1),
            &TRACE[1..],
            &format!("{TRACE}-"),
            &TRACE.replace("b7ad6b7169203331", "0000000000000000"),
            &TRACE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &TRACE.replace("0af", "+af"),
        ] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_without_a_context_has_one_trace_whoever_works_on_it() {
        let (one, other) = (Context::of_request(&key("INC1:1")), Context::of_request(&key("INC1:2")));
        assert_eq!(one, Context::of_request(&key("INC1:1")));
        assert_ne!(one.trace, other.trace);
        assert!(Context::parse(&one.child().to_string()).is_some());
    }

    #[tokio::test]
    async fn there_is_a_context_within_its_scope_only() {
        let context = Context::parse(TRACE).unwrap();
        assert_eq!(context.scope(async { current() }).await, Some(context));
        assert_eq!(current(), None);
    }
}
