//! `standby.toml`, and all that is derived from it.

#![no_main]

use standby::plan::{Plan, TEMPLATE, Timestamp};
use standby_contract::service::ServiceTable;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let plan = match Plan::parse("standby.toml", data) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let files = plan.files();
    let wrong: Vec<_> = files
        .into_iter()
        .map(|file| (file, "missing".to_owned()))
        .collect();
    let _ = plan.file_error(&wrong).map(|error| error.to_string());
    let _ = (plan.runtime_settings(), plan.front_settings("/caddy"));
    let _ = standby_front::caddyfile::generate(&plan.caddyfile_settings());
    let time = Timestamp::new(0).expect("a time");
    let table = plan.service_table(time, time.after(u64::MAX), None);
    let json = serde_json::to_vec(&table).expect("JSON");
    let again: ServiceTable = serde_json::from_slice(&json).expect("what was written can be read");
    assert_eq!(again, table);
}

fn seeds() -> Vec<Vec<u8>> {
    // The template, with everything in it that is commented out but has one word.
    let uncommented = TEMPLATE
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|l| !l.starts_with(' '))
                .unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n");
    vec![TEMPLATE.as_bytes().to_vec(), uncommented.into_bytes()]
}
