//! The OpenAPI 3.1 document, made of the table of operations. `docs/openapi.json` is a copy, which a test keeps.

use super::media::{EVENT_STREAM, JSON, JSON_LINES, TEXT};
use super::problem::PROBLEM_JSON;
use super::routes::{ApiOperation, ApiTask, Field, FieldForm, ID, ROUTES, common_problems};
use super::{API_BODY_LEN_MAX, KEY_HEADER, schemas};
use ipc_proto::limits::JOB_KEY_LEN_MAX;
use ipc_proto::limits::NAME_LEN_MAX;
use serde_json::{Map, Value, json};

/// The document.
pub(super) fn document() -> Value {
    let paths: Map<String, Value> = ROUTES
        .iter()
        .map(|route| {
            let operations = route.operations.iter();
            let mut item: Map<String, Value> = operations
                .map(|operation| (operation.method.to_lowercase(), describe(operation)))
                .collect();
            if route.path.contains(ID) {
                let id = json!({
                    "name": "id", "in": "path", "required": true, "schema": schemas::job_id(),
                    "description": "The id of a job.",
                });
                item.insert("parameters".to_owned(), json!([id]));
            }
            (route.path.to_owned(), item.into())
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hashcluster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Durable jobs of a hashcluster controller.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas::schemas(),
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of --api-tokens.",
            } },
        },
    })
}

fn describe(operation: &ApiOperation) -> Value {
    let mut answers: Map<String, Value> = operation
        .answers
        .iter()
        .map(|&(status, schema)| (status.to_string(), answer(operation, status, schema)))
        .collect();
    for status in common_problems(operation) {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        let content = json!({ PROBLEM_JSON: { "schema": schema } });
        let problem = json!({ "description": reason(status), "content": content });
        answers.insert(status.to_string(), problem);
    }
    let mut parameters: Vec<Value> = operation.fields.iter().map(parameter).collect();
    let reader = json!({});
    let security = match operation.is_change() {
        true => json!([{ "token": [] }]),
        false => json!([reader, { "token": [] }]),
    };
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "responses": answers,
        "security": security,
    });
    if operation.task == ApiTask::Submit {
        parameters.push(json!({
            "name": KEY_HEADER, "in": "header", "required": false,
            "description": "Chosen by the client: the key of the job.",
            "schema": {
                "type": "string", "minLength": 1, "maxLength": JOB_KEY_LEN_MAX, "pattern": "^[!-~]*[A-Za-z][!-~]*$",
            },
        }));
        described["requestBody"] = json!({
            "required": true,
            "description": format!("At most {API_BODY_LEN_MAX} bytes."),
            "content": { JSON: { "schema": { "$ref": "#/components/schemas/NewJob" } } },
        });
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described
}

fn answer(operation: &ApiOperation, status: u16, schema: &str) -> Value {
    let mut answer = json!({ "description": reason(status) });
    if status == 304 {
        return answer;
    }
    let content: Map<String, Value> = operation
        .media
        .iter()
        .map(|&media| {
            let schema = match (media, schema) {
                (TEXT | JSON_LINES | EVENT_STREAM, _) => json!({ "type": "string" }),
                (_, "") => json!({ "type": "object" }),
                (_, name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
            };
            (media.to_owned(), json!({ "schema": schema }))
        })
        .collect();
    answer["content"] = content.into();
    answer
}

fn parameter(field: &Field) -> Value {
    let schema = match field.form {
        FieldForm::Text(len_max) => json!({ "type": "string", "maxLength": len_max }),
        FieldForm::Name => json!({ "type": "string", "minLength": 1, "maxLength": NAME_LEN_MAX }),
        FieldForm::JobId => schemas::job_id(),
        FieldForm::State => schemas::job_state(),
        FieldForm::Number(min, max) => schemas::bounded(min, max),
        FieldForm::Flag => json!({ "type": "boolean" }),
    };
    json!({
        "name": field.name, "in": "query", "required": field.form == FieldForm::Name,
        "description": field.about, "schema": schema,
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "What was asked for.",
        201 => "The job; its path is in Location.",
        304 => "The client has it already.",
        400 => "The request is not well formed.",
        401 => "A token is missing, or is not one.",
        403 => "The token does not permit it.",
        404 => "There is no such thing, or none that the token may see.",
        406 => "None of the accepted media types can be had.",
        409 => "It does not fit the state of the job.",
        413 => "The body is too long.",
        415 => "The body is not JSON.",
        421 => "Without a token only the address of the host is answered for.",
        422 => "The body means nothing that can be done.",
        429 => "A limit on what is kept is reached.",
        431 => "The head of the request is too long.",
        503 => {
            "There is no journal (see --state-dir), it cannot be written to, or too many streams are open."
        }
        _ => "An error.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// With HASHCLUSTER_WRITE_DOCS=1 it writes the copy.
    #[test]
    fn the_document_is_the_one_in_docs() {
        let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let path = Path::new(&package).join("../docs/openapi.json");
        let want = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("HASHCLUSTER_WRITE_DOCS").is_some() {
            fs::write(&path, &want).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == want,
            "docs/openapi.json is not of this code: HASHCLUSTER_WRITE_DOCS=1 writes it"
        );
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut ids: Vec<&str> = ROUTES
            .iter()
            .flat_map(|route| route.operations)
            .map(|operation| operation.id)
            .collect();
        let len = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), len);
    }
}
