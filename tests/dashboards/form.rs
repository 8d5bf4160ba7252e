//! The form of the dashboards: what Grafana needs to load them from files, and people to read them on a laptop.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::board::{all, list, selectors, text};

/// A laptop of 1366 by 768 shows this many rows of the grid below Grafana's own head.
const FIRST_SCREEN: u64 = 12;

#[test]
fn a_dashboard_loads_from_a_file_and_finds_its_data() {
    let mut uids = BTreeSet::new();
    for board in all() {
        let (file, json) = (board.file, &board.json);
        assert!(uids.insert(text(json, "/uid").to_owned()), "{file}: uid");
        assert!(text(json, "/uid").starts_with("mfa-reset-") && json["id"].is_null(), "{file}: id");
        assert_eq!((&json["schemaVersion"], &json["editable"]), (&39.into(), &false.into()), "{file}");
        assert!(json.get("__inputs").is_none() && !json.to_string().contains("${DS_"), "{file}: inputs");
        let names: Vec<_> = board.variables().iter().map(|variable| text(variable, "/name")).collect();
        assert_eq!(names, ["datasource", "job", "instance", "prefix", "runbook"], "{file}");
        assert_eq!(text(&board.variables()[0], "/label"), "Data source");
        for variable in &board.variables()[1..3] {
            let form = (&variable["multi"], &variable["includeAll"], &variable["allValue"], &variable["refresh"]);
            assert_eq!(form, (&true.into(), &true.into(), &".+".into(), &2.into()), "{file}: {variable}");
        }
        let together =
            list(json, "/links").iter().any(|link| link["tags"] == json["tags"] && link["includeVars"] == true);
        assert!(together && json["tags"] == json!(["mfa-reset"]), "{file}: links to the others");
    }
}

#[test]
fn a_panel_explains_itself() {
    for board in all() {
        let mut titles = BTreeSet::new();
        for panel in board.panels() {
            let name = format!("{}: {}", board.file, text(panel, "/title"));
            let defaults = &panel["fieldConfig"]["defaults"];
            let title = (text(panel, "/type"), text(panel, "/title"));
            assert!(titles.insert(title) && !title.1.is_empty(), "{name}: title");
            assert!(text(panel, "/description").len() > 40, "{name}: description");
            assert!(!text(defaults, "/unit").is_empty() && !text(defaults, "/noValue").is_empty(), "{name}: unit");
            assert!(text(panel, "/links/0/url").starts_with("${runbook}#"), "{name}: link");
            let steps = list(defaults, "/thresholds/steps");
            assert!(steps[0]["value"].is_null(), "{name}: thresholds");
            assert!(steps[1..].is_sorted_by(|a, b| a["value"].as_f64() < b["value"].as_f64()), "{name}: thresholds");
            let graded = steps.len() > 1;
            let lines = defaults["custom"]["thresholdsStyle"]["mode"] == "line";
            assert!(graded || !lines, "{name}: no threshold to be drawn");
            let own = [panel].into_iter().chain(list(panel, "/targets"));
            for source in own.map(|part| &part["datasource"]) {
                assert_eq!(source, &json!({"type": "prometheus", "uid": "${datasource}"}), "{name}");
            }
        }
    }
}

#[test]
fn a_query_asks_for_what_was_chosen_above() {
    for query in all().iter().flat_map(crate::board::Board::queries) {
        let (name, expr) = (&query.panel, &query.expr);
        for selector in selectors(expr) {
            let chosen = match selector {
                broker if broker.starts_with("rabbitmq_") => broker.contains("{queue=~\"$prefix\\\\."),
                worker => worker.contains("{job=~\"$job\", instance=~\"$instance\""),
            };
            assert!(chosen, "{name}: {selector}");
            let metric = selector.split('{').next().unwrap();
            let counter = metric.ends_with("_total") || metric.ends_with("_bucket");
            let counted = ["rate(", "increase("].iter().any(|call| expr.contains(&format!("{call}{selector}[")));
            assert_eq!(counter, counted, "{name}: a rate is for a counter, and a counter for a rate: {selector}");
        }
        for range in expr.split('[').skip(1).map(|rest| rest.split(']').next().unwrap()) {
            assert!(["$__rate_interval", "$__range", "15m", "1h"].contains(&range), "{name}: [{range}]");
        }
    }
}

#[test]
fn the_first_screen_of_a_laptop_says_whether_all_is_well() {
    for board in all() {
        let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        let mut taken = BTreeSet::new();
        for panel in list(&board.json, "/panels") {
            let ([x, y, w, h], title) = (place(panel), text(panel, "/title"));
            assert!(x + w <= 24 && w > 0 && h > 0, "{}: {title} does not fit", board.file);
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
                assert!(taken.insert(cell), "{}: {title} lies on another panel", board.file);
            }
            // A column has some 55 pixels, a letter 7.
            assert!(title.len() as u64 <= w * 8, "{}: {title} is cut off", board.file);
            let least = if panel["type"] == "stat" { 4 } else { 6 };
            assert!(w >= least, "{}: {title} is too narrow", board.file);
        }
        let first = board.panels().filter(|panel| place(panel)[1] + place(panel)[3] <= FIRST_SCREEN);
        let graded = first.filter(|panel| list(panel, "/fieldConfig/defaults/thresholds/steps").len() > 1);
        let tiles = graded.filter(|panel| panel["type"] == "stat" && panel["options"]["colorMode"] == "background");
        assert!(tiles.count() >= 8, "{}: the first screen does not answer", board.file);
        let ids: BTreeSet<_> = list(&board.json, "/panels").iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), list(&board.json, "/panels").len(), "{}: ids", board.file);
    }
}
