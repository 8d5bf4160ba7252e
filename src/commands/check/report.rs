//! What was found: a line each as it becomes known, or one JSON document at the end.

use std::io::{self, Write};

use serde::Serialize;

use crate::commands::audit::plain;

/// The version of the JSON document: it changes where something goes or changes its meaning, not where something comes.
const FORMAT: u32 = 1;

/// How something is. The worst counts for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// A worker runs with it, but somebody should look.
    Warn,
    /// A worker does not run with it, or breaks a promise.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a name that stays.
    pub check: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do, where something is to be done.
    pub mend: Option<String>,
}

impl Finding {
    /// Something as it should be.
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), mend: None }
    }

    /// Something to look at.
    pub fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, detail: detail.into(), mend: Some(mend.into()) }
    }

    /// Something that has to be mended.
    pub fn fail(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, detail: detail.into(), mend: Some(mend.into()) }
    }
}

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    program: &'static str,
    status: Status,
    checks: &'a [Finding],
}

/// Everything that was found so far, and where it is told.
pub struct Report<'a> {
    out: &'a mut (dyn Write + Send),
    json: bool,
    findings: Vec<Finding>,
    told: io::Result<()>,
}

impl<'a> Report<'a> {
    /// Nothing is found yet.
    pub fn new(out: &'a mut (dyn Write + Send), json: bool) -> Self {
        Self { out, json, findings: Vec::new(), told: Ok(()) }
    }

    /// Tells it, unless something could not be told before.
    pub fn add(&mut self, finding: Finding) {
        if !self.json && self.told.is_ok() {
            self.told = self.tell(&finding);
        }
        self.findings.push(finding);
    }

    /// Words of a broker or a server stay on their line.
    fn tell(&mut self, finding: &Finding) -> io::Result<()> {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        writeln!(self.out, "{status:<5} {:<20} {}", finding.check, plain(&finding.detail))?;
        if let Some(mend) = &finding.mend {
            writeln!(self.out, "{:26} mend: {}", "", plain(mend))?;
        }
        self.out.flush()
    }

    /// Ends it; `false` where something failed. The error is that it could not be told.
    pub fn end(self) -> anyhow::Result<bool> {
        self.told?;
        let status = self.findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        if self.json {
            let program = env!("CARGO_PKG_VERSION");
            let document = Document { version: FORMAT, program, status, checks: &self.findings };
            writeln!(self.out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        Ok(status != Status::Fail)
    }
}
