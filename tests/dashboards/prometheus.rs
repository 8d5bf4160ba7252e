//! A Prometheus of the test's own, with the alerts of the project.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::board::{list, path};
use crate::process::{Process, free_port};
use crate::simulator::http;
use crate::stage::until;

/// A running Prometheus.
pub struct Prometheus {
    root: String,
    _process: Process,
}

impl Prometheus {
    /// Starts one that scrapes a worker and a broker each second, and keeps its data in this directory.
    pub async fn start(directory: &Path, worker: u16, broker: u16) -> Self {
        let (port, settings, data) = (free_port(), directory.join("prometheus.yaml"), directory.join("prometheus"));
        std::fs::write(&settings, configuration(worker, broker)).unwrap();
        let arguments = [
            format!("--config.file={}", settings.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let arguments = arguments.each_ref().map(String::as_str);
        let log = directory.join("prometheus.log");
        let process = Process::spawn(Path::new("prometheus"), &arguments, [("LANG", "C")], &log);
        let prometheus = Self { root: format!("http://127.0.0.1:{port}"), _process: process };
        let ready = format!("{}/-/ready", prometheus.root);
        let answers = async || http(&ready).await.is_some_and(|(status, _)| status == 200);
        until(Duration::from_secs(60), "Prometheus is ready", answers).await;
        prometheus
    }

    /// What the API answers; it must succeed, without a warning.
    pub async fn ask(&self, call: &str, parameters: &[(&str, &str)]) -> Value {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(30));
        let url = format!("{}/api/v1/{call}", self.root);
        let answer = client.build().unwrap().get(url).query(parameters).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        assert!(answer.get("warnings").is_none(), "{parameters:?}: {answer}");
        answer["data"].clone()
    }

    /// The series that an expression has now.
    pub async fn query(&self, expr: &str) -> Vec<Value> {
        list(&self.ask("query", &[("query", expr)]).await, "/result").to_vec()
    }

    /// The one number that an expression has now; none where there is no series.
    pub async fn number(&self, expr: &str) -> Option<f64> {
        self.query(expr).await.first().map(sample)
    }
}

/// The sample of a series.
pub fn sample(series: &Value) -> f64 {
    series["value"][1].as_str().expect("a sample").parse().expect("a number")
}

fn configuration(worker: u16, broker: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{}']
scrape_configs:
  - job_name: mfa-reset
    static_configs: [{{targets: ['127.0.0.1:{worker}']}}]
  - job_name: rabbitmq
    metrics_path: /metrics/detailed
    params: {{family: [queue_coarse_metrics, queue_consumer_count]}}
    static_configs: [{{targets: ['127.0.0.1:{broker}']}}]
",
        path("alerts.yaml").display()
    )
}
