//! `target/bench/summary.json`: the figures of all benches, flat, name to number. Each run replaces its own.

use std::path::PathBuf;

pub fn merge(figures: &[(String, f64)]) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let dir = target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")).join("bench");
    std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot create {}: {error}", dir.display()));
    let file = dir.join("summary.json");
    let mut all: serde_json::Map<String, serde_json::Value> = std::fs::read(&file)
        .ok()
        .map(|json| serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{} is damaged: {error}", file.display())))
        .unwrap_or_default();
    for (name, figure) in figures {
        // Four digits say all that a measurement can.
        let digits = 3 - figure.abs().log10().floor().clamp(-12.0, 12.0) as i32;
        let rounded = (figure * 10f64.powi(digits)).round() / 10f64.powi(digits);
        all.insert(name.clone(), serde_json::json!(rounded));
    }
    let text = serde_json::to_string_pretty(&all).expect("names and numbers are JSON");
    std::fs::write(&file, text + "\n").unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}
