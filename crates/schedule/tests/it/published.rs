//! Published documents about schedule files: the schema and the table of keys.

use serde_json::Value;

#[test]
fn the_schema_is_that_of_the_keys() {
    let published = include_str!("../../../../docs/schedule.schema.json");
    assert!(
        published == schedule::schema(),
        "docs/schedule.schema.json is not the schema of the keys; cargo run -p schedule --example schema > \
         docs/schedule.schema.json writes it"
    );
}

/// Every key of the schema, with its description.
fn keys() -> Vec<(String, String)> {
    let schema: Value = serde_json::from_str(&schedule::schema()).unwrap();
    let mut keys = Vec::new();
    for object in
        [&schema, &schema["$defs"]["schedule"], &schema["$defs"]["group"], &schema["$defs"]["task"]]
    {
        for (name, value) in object["properties"].as_object().unwrap() {
            keys.push((name.clone(), value["description"].as_str().unwrap().to_owned()));
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn every_key_is_documented() {
    let document = include_str!("../../../../docs/schedules.md");
    for (name, text) in keys() {
        let rows = document.lines().filter(|line| line.starts_with(&format!("| `{name}` |")));
        let rows: Vec<&str> = rows.collect();
        assert_eq!(rows.len(), 1, "rows of {name} in docs/schedules.md");
        assert!(
            rows[0].contains(&text),
            "docs/schedules.md says of {name}: {}, not: {text}",
            rows[0]
        );
    }
}

#[test]
fn every_example_of_the_document_is_read() {
    let document = include_str!("../../../../docs/schedules.md");
    let mut examples = document.split("```yaml\n").skip(1);
    let count = examples.clone().count();
    assert!(count >= 4, "{count} examples");
    assert!(examples.all(|text| {
        let text = text.split("```").next().unwrap();
        schedule::parse(text.as_bytes()).map_err(|errors| panic!("{errors}\n{text}")).is_ok()
    }));
}
