//! Settings as people read them: those in force, and the reference of all there are.

use super::keys::{Part, Preset, TABLE};
use super::{Config, InForce};

impl Config {
    /// The settings in force as TOML, each with where it came from, secrets as `***`.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for InForce { key, shown, origin } in &self.in_force {
            let (this, name) = key.name.split_once('.').unwrap_or_default();
            if this != section {
                section = this;
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{section}]\n"));
            }
            text.push_str(&format!("{name} = {shown}  # {origin}\n"));
        }
        text
    }
}

/// The README's table of settings.
pub fn reference_table() -> String {
    let mut table = String::from("| key | default | accepted | meaning |\n|---|---|---|---|\n");
    for key in &TABLE {
        let preset = match key.preset {
            Preset::Text(text) => format!("`{text}`"),
            Preset::List([]) => "empty".into(),
            Preset::List(items) => items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", "),
            Preset::OfCloud(_) => "that of `graph.cloud`".into(),
            Preset::Required(Part::Broker) => "required".into(),
            Preset::Required(Part::Graph(kinds)) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
                format!("required for {}", kinds.join(", "))
            }
            Preset::Unset => String::new(),
        };
        let file = if key.from_file { format!("; also as `{}_file`", key.name) } else { String::new() };
        table.push_str(&format!("| `{}` | {preset} | {}{file} | {} |\n", key.name, key.accepts, key.doc));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::{Needs, Sources};
    use super::*;

    #[test]
    fn what_is_shown_is_toml_that_loads_again() {
        let flags =
            ["policy.protected_users=a@b.test,c@d.test", "log.filter=info,x=debug", "graph.requests_per_second=7"];
        let sources = Sources { flags: flags.map(str::to_owned).into(), ..Sources::default() };
        let shown = Config::load(&sources, Needs::LEDGER).unwrap().show();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, &shown).unwrap();
        let again = Sources { file: Some(file.path().into()), ..Sources::default() };
        let again = Config::load(&again, Needs::LEDGER).unwrap().show();
        let values = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(values(&shown), values(&again));
        assert!(shown.contains("protected_users = [\"a@b.test\", \"c@d.test\"]  # flag\n"), "{shown}");
    }

    #[test]
    fn the_reference_has_every_key_once() {
        let table = reference_table();
        assert_eq!(table.lines().count(), TABLE.len() + 2);
        for key in &TABLE {
            assert_eq!(table.matches(&format!("| `{}` |", key.name)).count(), 1, "{}", key.name);
            assert!(key.accepts.len() > 3 && key.doc.len() > 3);
        }
        assert!(table.contains("| `graph.timeout` | `30s` |"));
    }
}
