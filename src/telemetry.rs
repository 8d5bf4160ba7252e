//! Log lines: text on a terminal, JSON elsewhere, always on stderr; and a last word when something panics.
//!
//! No secret and no body reaches this module; it adds nothing to what it is given.

use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;
use crate::trace;

/// What other crates say is of interest when it is a warning; a directive of `log.filter` for the same crate wins.
const QUIET: &str = "amq_protocol=warn,sqlx=warn,hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,rustls=warn";

/// Says nothing whatever `log.filter` says: it logs returned messages with their bodies.
const SILENT: &str = "lapin=off";

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.filter` is no filter.
    #[error("log.filter is not valid")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Another subscriber is there already.
    #[error("logging has begun already")]
    Again(#[source] TryInitError),
}

/// Begins logging for the whole process.
pub fn init(format: Option<LogFormat>, filter: &str) -> Result<(), Error> {
    let on_terminal = if stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    let subscriber = subscriber(format.unwrap_or(on_terminal), filter, stderr)?;
    subscriber.try_init().map_err(Error::Again)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{filter},{SILENT}")).map_err(Error::Filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Text => {
            let (ansi, write) = (stderr().is_terminal(), |line: &str, id: &str| format!("{line} trace_id={id}\n"));
            let lines = lines.with_ansi(ansi);
            Box::new(lines.map_event_format(|lines| Traced { lines: lines.with_ansi(ansi), write }).finish())
        }
        LogFormat::Json => {
            let write = |line: &str, id: &str| {
                let open = line.strip_suffix('}').unwrap_or(line);
                format!("{open},\"trace_id\":\"{id}\"}}\n")
            };
            let lines = lines.json().flatten_event(true).with_span_list(false);
            Box::new(lines.map_event_format(|lines| Traced { lines, write }).finish())
        }
    })
}

/// Ends the lines of a job with the id of its trace, so that nobody who logs has to know of it.
struct Traced<F> {
    lines: F,
    write: fn(&str, &str) -> String,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut page: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(job) = trace::current() else { return self.lines.format_event(context, page, event) };
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        page.write_str(&(self.write)(line.trim_end(), &job.trace_id()))
    }
}

/// A panic is a bug: its message and its place are told, once, where every other line is.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panic: {message}");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().map_err(|_| std::io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str, say: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_one_line() {
        let line = written(LogFormat::Json, "info", || tracing::info!(user = "0f", "a job ended\nwell"));
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["message"], &parsed["user"]), (&"a job ended\nwell".into(), &"0f".into()));
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn the_lines_of_a_job_name_its_trace() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let context = trace::Context::parse(&format!("00-{id}-b7ad6b7169203331-01")).unwrap();
        let say = || context.within(|| tracing::info!(user = "0f", "a job ended"));
        let parsed: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, "info", say)).unwrap();
        assert_eq!((&parsed["trace_id"], &parsed["user"]), (&id.into(), &"0f".into()));
        let line = written(LogFormat::Text, "info", say);
        assert!(line.ends_with(&format!("a job ended user=\"0f\" trace_id={id}\n")), "{line}");
        assert!(!written(LogFormat::Json, "info", || tracing::info!("no job")).contains("trace_id"));
    }

    #[test]
    fn other_crates_are_quiet_unless_they_are_named() {
        let say = || tracing::info!(target: "hyper::proto", "frame");
        assert_eq!(written(LogFormat::Text, "info", say), "");
        assert_eq!(written(LogFormat::Text, "trace", say), "");
        assert!(written(LogFormat::Text, "info,hyper=debug", say).contains("frame"));
        let body = || tracing::error!(target: "lapin::channel", "a body");
        assert_eq!(written(LogFormat::Text, "trace,lapin=trace", body), "");
        assert!(written(LogFormat::Text, "warn", || tracing::warn!("mine")).contains("mine"));
    }

    #[test]
    fn a_wrong_filter_is_told() {
        assert!(matches!(subscriber(LogFormat::Text, "info=nonsense=", stderr), Err(Error::Filter(_))));
    }
}
