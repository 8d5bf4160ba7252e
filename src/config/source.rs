//! Where settings come from: flags over environment over a file, each kept apart from the process so that tests can
//! bring their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{Key, Preset, TABLE};
use super::{Mistake, Needs};

const PREFIX: &str = "MFA_RESET_";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// What the settings are read from.
#[derive(Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those of other programs do not matter, but for what Azure says of itself.
    pub environment: Vec<(OsString, OsString)>,
    /// `section.key=value`.
    pub flags: Vec<String>,
}

/// A setting as somebody wrote it. Not printable: it may be a secret.
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: String,
}

type Layer = BTreeMap<&'static str, Given>;

impl Sources {
    /// The sources of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), flags }
    }

    /// What is set, the strongest source of each key, and what is wrong with the sources.
    pub(super) fn gather(&self, needs: Needs) -> (Layer, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        let mut all = Layer::new();
        let file = self.file.as_deref().map(|path| file(path, &mut mistakes)).unwrap_or_default();
        for written in [self.platform(), file, self.environment(&mut mistakes), self.flags(&mut mistakes)] {
            all.extend(layer(written, needs, &mut mistakes));
        }
        (all, mistakes)
    }

    /// What Azure's workload identity puts into the environment of a pod; anything else wins over it.
    fn platform(&self) -> Vec<Written> {
        let file = |(name, value): &(OsString, OsString)| {
            let text = value.to_str().filter(|text| !text.is_empty() && name == TOKEN_FILE)?;
            let (key, in_file) = known("graph.federated_token_file")?;
            Some(Written { key, in_file, text: text.to_owned(), origin: TOKEN_FILE.to_owned() })
        };
        self.environment.iter().filter_map(file).collect()
    }

    fn environment(&self, mistakes: &mut Vec<Mistake>) -> Vec<Written> {
        let mut written = Vec::new();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let known = TABLE.iter().find_map(|key| match name.strip_prefix(&key.variable())? {
                "" => Some((key, false)),
                "_FILE" if key.from_file => Some((key, true)),
                _ => None,
            });
            match (known, value.to_str()) {
                (None, _) => mistakes.push(Mistake::new(name, "no such setting")),
                (Some(_), None) => mistakes.push(Mistake::new(name, "UTF-8 is expected")),
                (Some((key, in_file)), Some(text)) => {
                    written.push(Written { key, in_file, text: text.to_owned(), origin: name.to_owned() });
                }
            }
        }
        written
    }

    fn flags(&self, mistakes: &mut Vec<Mistake>) -> Vec<Written> {
        let mut written = Vec::new();
        for flag in &self.flags {
            let (name, text) = flag.split_once('=').unwrap_or((flag, ""));
            match known(name) {
                Some((key, in_file)) if flag.contains('=') => {
                    written.push(Written { key, in_file, text: text.to_owned(), origin: "flag".to_owned() });
                }
                Some(_) => mistakes.push(Mistake::new(name, "--set takes section.key=value")),
                None if flag.contains('=') => mistakes.push(Mistake::new(name, "no such setting")),
                None => mistakes.push(Mistake::new("--set", "it takes section.key=value")),
            }
        }
        written
    }
}

/// One entry of one source.
struct Written {
    key: &'static Key,
    in_file: bool,
    text: String,
    origin: String,
}

/// One source: the same key as itself and as a file is a mistake, and files are read. Of two flags the later counts.
fn layer(written: Vec<Written>, needs: Needs, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = BTreeMap::<&'static str, (bool, Given)>::new();
    for Written { key, in_file, text, origin } in written {
        if layer.get(key.name).is_some_and(|(other, _)| *other != in_file) {
            mistakes.push(Mistake::new(key.name, format!("it is set twice, as itself and as {}_file", key.name)));
            continue;
        }
        if !in_file {
            layer.insert(key.name, (false, Given { text, origin }));
            continue;
        }
        // An auditor need not be able to read the worker's secrets.
        if matches!(key.preset, Preset::Required(part) if !needs.part(part)) {
            continue;
        }
        match std::fs::read_to_string(text.trim()) {
            Ok(content) => {
                layer.insert(key.name, (true, Given { text: content, origin: format!("{origin}, from a file") }));
            }
            Err(error) => mistakes.push(Mistake::new(
                key.name,
                format!("the file named by {}_file cannot be read: {}", key.name, error.kind()),
            )),
        }
    }
    layer.into_iter().map(|(name, (_, given))| (name, given)).collect()
}

fn known(name: &str) -> Option<(&'static Key, bool)> {
    let key = |name: &str| TABLE.iter().find(|key| key.name == name);
    let in_file = || name.strip_suffix("_file").and_then(key).filter(|key| key.from_file);
    key(name).map(|key| (key, false)).or_else(|| in_file().map(|key| (key, true)))
}

fn file(path: &Path, mistakes: &mut Vec<Mistake>) -> Vec<Written> {
    let origin = path.display().to_string();
    let table = match read(path) {
        Ok(table) => table,
        Err(reason) => {
            mistakes.push(Mistake::new(origin, reason));
            return Vec::new();
        }
    };
    let mut written = Vec::new();
    for (section, entries) in &table {
        let Value::Table(entries) = entries else {
            mistakes.push(Mistake::new(section, "no such setting: a section such as [broker] is expected"));
            continue;
        };
        for (entry, value) in entries {
            let name = format!("{section}.{entry}");
            // Only profiles are a table of their own; the environment says them as JSON.
            let text = if name == "policy.profiles" { serde_json::to_string(value).ok() } else { text_of(value) };
            match (known(&name), text) {
                (None, _) => mistakes.push(Mistake::new(name, "no such setting")),
                (Some((key, _)), None) => mistakes.push(Mistake::new(name, format!("{} is expected", key.accepts))),
                (Some((key, in_file)), Some(text)) => {
                    written.push(Written { key, in_file, text, origin: origin.clone() });
                }
            }
        }
    }
    written
}

fn read(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {}", error.kind()))?;
    text.parse::<Table>().map_err(|error| {
        // The error's own display quotes the line, which may hold a secret.
        let upto = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("not valid TOML at line {}", upto.matches('\n').count() + 1)
    })
}

/// A value as the environment would say it.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        Value::Array(items) => {
            let items = items.iter().map(|item| item.as_str().filter(|item| !item.contains(',')));
            Some(items.collect::<Option<Vec<_>>>()?.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}
