//! The commands that the README gives to auditors, run as they stand there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::desk::{Desk, example, python, text};

#[tokio::test]
async fn the_commands_for_auditors_tell_who_whom_why_and_who_approved() {
    let mut desk = Desk::with(|stage| {
        let key = stage.directory.path().join("signing-key");
        stage.set("AUDIT__SIGNING_KEY_FILE", key.to_str().unwrap());
    })
    .await;
    let mut request = example("request");
    request["target"] = serde_json::json!({"upn": "user00001@contoso.test"});
    for time in ["requested_at", "expires_at"] {
        request.as_object_mut().unwrap().remove(time);
    }
    let user = desk.stage.queues.user();
    desk.stage.queues.publish("reset", &[request.to_string().into_bytes()], Some(&user)).await;
    let event: Value = serde_json::from_slice(&desk.take().await).unwrap();
    let target = event["data"]["target_object_id"].as_str().unwrap().to_owned();
    desk.stage.finish().await;

    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## For auditors\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    let said: Vec<String> = commands.iter().map(|command| desk.runs(command)).collect();
    let about = |word: &str| said[commands.iter().position(|command| command.contains(word)).expect(word)].clone();
    let (search, export, verify) = (about("audit search --ticket"), about("| jq"), about("audit verify --checkpoints"));
    for word in [&target, "sam@contoso.test", "conclusion"] {
        assert!(search.contains(word), "{word}: {search}");
    }
    for word in ["phone stolen", "lead@contoso.test", "video_call", "rec-77"] {
        assert!(export.contains(word), "{word}: {export}");
    }
    assert!(verify.starts_with("ok: "), "{verify}");
    let elsewhere = std::fs::read_to_string(desk.path("checkpoints.jsonl")).unwrap();
    assert!(elsewhere.lines().count() >= 4 && elsewhere.contains(r#""type":"checkpoint""#), "{elsewhere}");
    assert_eq!(desk.stage.queues.waiting("audit").await, 0, "it is moved");
    let checkpoint = elsewhere.lines().find(|line| line.contains(r#""type":"checkpoint""#)).unwrap();
    let checkpoint: Value = serde_json::from_str(checkpoint).unwrap();
    let document = text("asyncapi.yaml");
    let required = document.split("\n        required:\n").find(|part| part.contains("A signed checkpoint")).unwrap();
    let required = required.split("        type:").next().unwrap();
    let required: Vec<&str> = required.lines().map(|line| line.trim_matches([' ', '-', '"'])).collect();
    assert_eq!(required, checkpoint.as_object().unwrap().keys().collect::<Vec<_>>(), "as the document says");
}

impl Desk {
    /// What a line of the shell prints; it has to go well.
    fn runs(&self, line: &str) -> String {
        let program = self.path("mfa-reset");
        if !program.exists() {
            symlink(env!("CARGO_BIN_EXE_mfa-reset"), &program).unwrap();
            std::fs::write(self.path("mfa-reset.toml"), "").unwrap();
        }
        let python = python();
        let python = Path::new(&python).parent().unwrap();
        let own = self.stage.directory.path();
        let paths = format!("{}:{}:{}", own.display(), python.display(), std::env::var("PATH").unwrap());
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/itsm/");
        let line = line.replace("deploy/itsm/", here).replace("mfa.audit", &self.stage.queues.name("audit"));
        let line = line.replace("/run/secrets/amqp-url", self.path("broker-url").to_str().unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &line]).current_dir(own);
        let done = shell.env_clear().envs(self.stage.settings()).env("PATH", paths).output().unwrap();
        let [said, noted] = [&done.stdout, &done.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(done.status.success(), "{line}: {said}{noted}");
        said
    }
}
