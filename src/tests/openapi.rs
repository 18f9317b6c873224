//! The committed OpenAPI document: what the code serves, described in full.

use std::collections::BTreeSet;

use serde_json::Value;

/// Methods of an OpenAPI path item; its other members are no operations.
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn document() -> Value {
    let text = lvmed::http::document_json().expect("the document is JSON");
    serde_json::from_str(&text).expect("the document is JSON")
}

/// Every operation with its name, such as `get /livez`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        METHODS
            .iter()
            .filter_map(move |method| Some((format!("{method} {path}"), item.get(method)?)))
    });
    operations.collect()
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn the_committed_document_is_the_one_that_the_code_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

    let committed = std::fs::read_to_string(path).unwrap_or_default();

    let current = lvmed::http::document_json().expect("the document is JSON");
    assert!(
        committed.trim_end() == current.trim_end(),
        "openapi/openapi.json is out of date; run: \
         cargo run --bin lvmed -- openapi > openapi/openapi.json"
    );
}

#[test]
fn every_operation_has_a_summary_an_id_of_its_own_and_a_tag() {
    let document = document();
    let mut ids = BTreeSet::new();

    for (name, operation) in operations(&document) {
        assert!(is_text(&operation["summary"]) || is_text(&operation["description"]), "{name}");
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && ids.insert(id.to_owned()), "{name}: {id:?} is missing or taken");
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        let tags = document["tags"].as_array().expect("tags");
        assert!(tags.iter().any(|known| known["name"] == tag), "{name}: unknown tag {tag:?}");
    }
    assert!(ids.len() >= 40, "only {} operations", ids.len());
}

#[test]
fn every_refusal_is_a_problem_document_and_every_guarded_route_names_its_own() {
    let document = document();

    for (name, operation) in operations(&document) {
        let responses = operation["responses"].as_object().expect("responses");
        let mut answers = responses.iter().map(|(status, _)| status.as_str());
        assert!(answers.any(|status| status.starts_with('2')), "{name} never succeeds");
        for (status, response) in responses {
            assert!(is_text(&response["description"]), "{name} {status}");
            if status.starts_with(['4', '5']) {
                let content = response["content"].as_object().expect("a refusal has a body");
                assert!(content.keys().eq(["application/problem+json"]), "{name} {status}");
                let schema = &content["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
            }
        }
        if name.contains("/api/v1/") {
            assert!(responses.contains_key("401") && responses.contains_key("500"), "{name}");
        }
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_field_of_one_is_described() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");

    let mut undescribed = Vec::new();
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // What may be null is described beside the reference.
            let described = is_text(&property["description"])
                || is_text(&property["oneOf"][0]["description"])
                || is_text(&property["oneOf"][1]["description"]);
            if property.get("$ref").is_none() && !described {
                undescribed.push(format!("{name}.{field}"));
            }
        }
    }
    let text = document.to_string();
    let references = text.split("#/components/schemas/").skip(1);
    for reference in references.filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(reference), "no schema {reference}");
    }
    assert!(undescribed.is_empty(), "fields without a description: {undescribed:?}");
}
