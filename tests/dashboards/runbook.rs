//! Alerts, runbook and dashboards point at each other, and nowhere else.

use std::collections::BTreeSet;

use crate::board::{all, list, read, text};

const BASE: &str = "https://runbook.example/runbook.md";
const CASES: [&str; 4] = ["fires", "stays quiet just below", "clears", "with absent series"];

/// The address of each section within the page, as Git forges and most wikis make it.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.chars().filter(kept).collect::<String>().to_lowercase().replace(' ', "-")).collect()
}

fn alerts() -> Vec<String> {
    let rules = read("alerts.yaml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn every_alert_has_its_section_and_every_section_of_an_alert_its_alert() {
    let page = read("runbook.md");
    let alerts: BTreeSet<_> = alerts().into_iter().collect();
    let sections = page.lines().filter_map(|line| line.strip_prefix("## ")).filter(|name| name.starts_with("MfaReset"));
    assert_eq!(sections.map(str::to_owned).collect::<BTreeSet<_>>(), alerts);
    for section in page.split("\n## ").filter(|section| section.starts_with("MfaReset")) {
        for part in ["**Means:**", "**Hurt:**", "**Look at:**", "**Do:**", "**Clears:**", "**False alarm:**"] {
            assert!(section.contains(part), "{part} is missing in {}", section.lines().next().unwrap());
        }
    }
}

#[test]
fn every_link_leads_to_a_section() {
    let page = read("runbook.md");
    let anchors = anchors(&page);
    let check = |from: &str, anchor: &str| assert!(anchors.contains(anchor), "{from} points at #{anchor}");
    page.split("](#").skip(1).for_each(|rest| check("the runbook", rest.split(')').next().unwrap()));
    for board in all() {
        for panel in board.panels() {
            check(text(panel, "/title"), text(panel, "/links/0/url").strip_prefix("${runbook}#").unwrap());
        }
        let variable = board.variables().iter().find(|variable| variable["name"] == "runbook").unwrap();
        assert_eq!(text(variable, "/query"), BASE);
        let link = list(&board.json, "/links").iter().any(|link| link["url"] == "${runbook}");
        assert!(link, "{} has no link to the runbook", board.file);
    }
}

#[test]
fn panels_that_the_runbook_names_exist() {
    let boards = all();
    let titles: BTreeSet<_> =
        boards.iter().flat_map(|board| board.panels()).map(|panel| text(panel, "/title")).collect();
    let page = read("runbook.md").replace('\n', " ");
    for look in page.split("**Look at:**").skip(1).map(|rest| rest.split("**Do:**").next().unwrap()) {
        for named in look.split('"').skip(1).step_by(2) {
            assert!(titles.contains(named), "no panel is called {named}");
        }
    }
}

#[test]
fn every_alert_is_tried_in_four_cases() {
    let tests = read("alerts.test.yaml");
    let names: Vec<_> = tests.lines().filter_map(|line| line.trim().strip_prefix("- name: \"")).collect();
    let alerts = alerts();
    for alert in &alerts {
        for case in CASES {
            let found = names.iter().filter(|name| name.starts_with(&format!("{alert} {case}:"))).count();
            assert_eq!(found, 1, "{alert} {case}");
        }
    }
    assert_eq!(names.len(), alerts.len() * CASES.len());
}
