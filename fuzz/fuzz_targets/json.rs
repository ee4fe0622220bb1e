//! Strict JSON, the one canonical form, and the documents of the image specification.

#![no_main]

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::Value;
use standby::oci::{json, layout};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let bounded = json::check(data, 1 << 20);
    if bounded.is_err() {
        assert!(layout::parse::<Value>("it", data).is_err());
        return;
    }
    let value: Value = serde_json::from_slice(data).expect("what is strict JSON is JSON");
    let canonical = json::canonical(&value).expect("a value can be written");
    json::check(&canonical, u64::MAX).expect("the canonical form is strict");
    let again: Value = serde_json::from_slice(&canonical).expect("and JSON");
    // Floating-point numbers are in none of our documents.
    if !floats(&value) {
        assert_eq!(again, value);
        assert_eq!(json::canonical(&again).expect("JSON"), canonical);
    }
    if let Ok(index) = layout::parse::<ImageIndex>("index", data) {
        for descriptor in index.manifests() {
            let _ = layout::checked("index", descriptor);
        }
    }
    if let Ok(manifest) = layout::parse::<ImageManifest>("manifest", data) {
        for descriptor in manifest.layers() {
            let _ = layout::checked("manifest", descriptor);
        }
    }
    let _ = layout::parse::<ImageConfiguration>("configuration", data);
}

fn floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(floats),
        Value::Object(map) => map.values().any(floats),
        _ => false,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let files = standby_fuzz::bundles::bundle().into_iter();
    let mut seeds: Vec<Vec<u8>> = files
        .map(|(_, bytes)| bytes)
        .filter(|b| b.starts_with(b"{"))
        .collect();
    seeds.push(br#"{"a":1,"A":[true,null,"\u0041",-1.5e3]}"#.to_vec());
    seeds.push(
        br#"{"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30=","urls":[]}"#
            .to_vec(),
    );
    seeds
}
