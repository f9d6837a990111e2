//! Every path of the gateway: the table that requests are looked up in, and that is published as an OpenAPI 3.1 document. A
//! path or a parameter that does not stand here does not exist.

use serde_json::{Map, Value, json};

use crate::http::Method;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Page,
    File,
    Stream,
    Events,
    Quotes,
    Trades,
    Bars,
    Average,
    Spread,
    Movers,
    Instruments,
    Status,
    OpenApi,
    Metrics,
    Healthy,
    Ready,
    Udf,
    Playground,
}

/// One parameter of a query or of a path.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    what: &'static str,
    is_required: bool,
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Operation {
    method: &'static str,
    /// `{name}` stands for one part.
    pub(super) path: &'static str,
    pub(super) id: Id,
    what: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) types: &'static [&'static str],
}

const fn optional(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what, is_required: false }
}

const fn required(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what, is_required: true }
}

const FORMAT: Parameter = optional("format", "json; else Accept chooses");
const TABLE: Parameter = match cfg!(feature = "parquet") {
    true => optional("format", "json, ndjson, csv or parquet; else Accept chooses"),
    false => optional("format", "json, ndjson or csv; else Accept chooses"),
};
const DEADLINE: Parameter = optional("deadline", "How long an answer may take, such as 800ms");
const PARTIAL: Parameter =
    optional("partial", "allow or deny an answer of which a part is missing");
const FROM: Parameter = optional("from", "The first time included, such as 2012-06-21T13:30:00Z");
const TO: Parameter = optional("to", "The first time excluded");
const SYMBOLS: Parameter = optional("symbols", "Patterns, separated by commas: PETR4, PETR* or *");
const PATTERN: Parameter = optional("symbols", "One pattern: PETR4, PETR* or *");

const JSON: &str = "application/json";
/// Types of rows, as this program was built.
const ROWS: &[&str] = match cfg!(feature = "parquet") {
    true => &[JSON, "application/x-ndjson", "text/csv", "application/vnd.apache.parquet"],
    false => &[JSON, "application/x-ndjson", "text/csv"],
};

/// One line of the table.
const fn get(
    path: &'static str,
    id: Id,
    what: &'static str,
    parameters: &'static [Parameter],
    types: &'static [&'static str],
) -> Operation {
    Operation { method: "get", path, id, what, parameters, types }
}

/// All of them.
pub(super) const OPERATIONS: &[Operation] = &[
    get("/", Id::Page, "The page", &[], &["text/html"]),
    get("/page/{name}", Id::File, "A file of the page", &[], &["text/javascript", "text/css"]),
    get("/favicon.ico", Id::File, "The page's sign", &[], &["image/svg+xml"]),
    get(
        "/v1/stream",
        Id::Stream,
        "A WebSocket, with the subprotocol pregao.frames.v1 or pregao.json.v1",
        &[],
        &[],
    ),
    get(
        "/v1/events",
        Id::Events,
        "Server-sent events. Last-Event-ID goes on behind that event",
        &[
            SYMBOLS,
            optional("kinds", "Kinds, separated by commas: quote, trade, cancel"),
            optional("mode", "lossless, latest or conflate=250ms"),
            optional(
                "from",
                "The first seq wanted, or EPOCH:SEQ with the epoch_id of what is before it",
            ),
        ],
        &["text/event-stream"],
    ),
    get(
        "/v1/quotes",
        Id::Quotes,
        "Current quotes",
        &[required("symbols", "Patterns, separated by commas"), DEADLINE, PARTIAL, TABLE],
        ROWS,
    ),
    get(
        "/v1/trades/{symbol}",
        Id::Trades,
        "The last trades of one instrument, or those of a time",
        &[optional("last", "How many"), FROM, TO, DEADLINE, PARTIAL, TABLE],
        ROWS,
    ),
    get(
        "/v1/bars/{symbol}",
        Id::Bars,
        "Bars of one instrument",
        &[
            optional("interval", "Their length, 1s to 1d; 1m if not said"),
            optional("last", "The newest so many"),
            FROM,
            TO,
            DEADLINE,
            PARTIAL,
            TABLE,
        ],
        ROWS,
    ),
    get(
        "/v1/trades",
        Id::Trades,
        "The same of a symbol that no path can have, such as BTC/USD",
        &[
            required("symbol", "Its name"),
            optional("last", "How many"),
            FROM,
            TO,
            DEADLINE,
            PARTIAL,
            TABLE,
        ],
        ROWS,
    ),
    get(
        "/v1/bars",
        Id::Bars,
        "The same of a symbol that no path can have, such as BTC/USD",
        &[
            required("symbol", "Its name"),
            optional("interval", "Their length, 1s to 1d; 1m if not said"),
            optional("last", "The newest so many"),
            FROM,
            TO,
            DEADLINE,
            PARTIAL,
            TABLE,
        ],
        ROWS,
    ),
    get(
        "/v1/figures/average",
        Id::Average,
        "The average of the current prices",
        &[SYMBOLS, DEADLINE, PARTIAL, FORMAT],
        &[JSON],
    ),
    get(
        "/v1/figures/spread",
        Id::Spread,
        "Spreads of the current quotes",
        &[SYMBOLS, DEADLINE, PARTIAL, FORMAT],
        &[JSON],
    ),
    get(
        "/v1/figures/movers",
        Id::Movers,
        "Who moved most",
        &[SYMBOLS, optional("count", "How many"), FROM, TO, DEADLINE, PARTIAL, FORMAT],
        &[JSON],
    ),
    get("/v1/instruments", Id::Instruments, "All instruments", &[PATTERN, TABLE], ROWS),
    get(
        "/v1/status",
        Id::Status,
        "How each node is",
        &[optional("format", "json or ndjson; else Accept chooses")],
        &[JSON, "application/x-ndjson"],
    ),
    get("/v1/openapi.json", Id::OpenApi, "This document", &[], &[JSON]),
    get(
        "/metrics",
        Id::Metrics,
        "Figures of all nodes, in Prometheus' text format",
        &[],
        &["text/plain"],
    ),
    get("/healthz", Id::Healthy, "Whether this process lives", &[], &[JSON]),
    get("/readyz", Id::Ready, "Whether the system can serve, and what cannot", &[], &[JSON]),
    get("/udf/config", Id::Udf, "TradingView: what there is", &[], &[JSON]),
    get("/udf/time", Id::Udf, "TradingView: the time in seconds", &[], &["text/plain"]),
    get(
        "/udf/symbols",
        Id::Udf,
        "TradingView: one instrument",
        &[required("symbol", "Its name")],
        &[JSON],
    ),
    get(
        "/udf/search",
        Id::Udf,
        "TradingView: instruments by a part of their name",
        &[
            optional("query", "The part"),
            optional("type", "Not looked at"),
            optional("exchange", "Not looked at"),
            optional("limit", "How many"),
        ],
        &[JSON],
    ),
    get(
        "/udf/history",
        Id::Udf,
        "TradingView: bars",
        &[
            required("symbol", "Its name"),
            required("resolution", "Their length, as /udf/config names it"),
            required("from", "In seconds, included"),
            required("to", "In seconds, excluded"),
            optional("countback", "So many before `to`, wherever they begin"),
        ],
        &[JSON],
    ),
    get(
        "/udf/quotes",
        Id::Udf,
        "TradingView: last values",
        &[required("symbols", "Names, separated by commas")],
        &[JSON],
    ),
    Operation {
        method: "post",
        path: "/v1/playground/breaker",
        id: Id::Playground,
        what: "Forces a circuit breaker; only with --playground, and from the page",
        parameters: &[],
        types: &[JSON],
    },
    Operation {
        method: "post",
        path: "/v1/playground/kill",
        id: Id::Playground,
        what: "Ends the process of a node; only with --playground, and from the page",
        parameters: &[],
        types: &[JSON],
    },
    Operation {
        method: "post",
        path: "/v1/playground/chaos",
        id: Id::Playground,
        what: "Has an exchange misbehave, or not; only with --playground, and from the page",
        parameters: &[],
        types: &[JSON],
    },
];

/// What a lookup finds.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The operation, and the part of the path that stands for its name.
    Operation(&'static Operation, &'a str),
    /// The path is there, and takes another method.
    OtherMethod(&'static str),
    Nothing,
}

/// Looks a request up.
pub(super) fn find(method: Method, path: &str) -> Found<'_> {
    let wanted = match method {
        Method::Get | Method::Head => "get",
        Method::Post => "post",
        Method::Options | Method::Other => "",
    };
    let mut other = None;
    for operation in OPERATIONS {
        let Some(part) = matched(operation.path, path) else { continue };
        if operation.method == wanted {
            return Found::Operation(operation, part);
        }
        other = Some(operation.method);
    }
    match other {
        Some("post") => Found::OtherMethod("POST"),
        Some(_) => Found::OtherMethod("GET and HEAD"),
        None => Found::Nothing,
    }
}

/// The part that stands for a template's name, if the path is one of it.
fn matched<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, _)) = template.split_once('{') else {
        return (template == path).then_some("");
    };
    let part = path.strip_prefix(before)?;
    (!part.is_empty() && !part.contains('/')).then_some(part)
}

fn parameter(of: &Parameter) -> Value {
    json!({
        "name": of.name, "in": "query", "required": of.is_required, "description": of.what,
        "schema": { "type": "string" },
    })
}

fn described(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operation.parameters.iter().map(parameter).collect();
    if let Some((_, rest)) = operation.path.split_once('{') {
        let name = rest.trim_end_matches('}');
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    let content: Map<String, Value> =
        operation.types.iter().map(|it| ((*it).to_owned(), json!({}))).collect();
    let mut responses = Map::new();
    match operation.id {
        Id::Stream => drop(
            responses.insert("101".into(), json!({ "description": "It goes on as a WebSocket." })),
        ),
        _ => drop(
            responses
                .insert("200".into(), json!({ "description": "The answer.", "content": content })),
        ),
    }
    if matches!(
        operation.id,
        Id::Quotes | Id::Trades | Id::Bars | Id::Average | Id::Spread | Id::Movers | Id::Status
    ) {
        let text = "A part is missing: `complete` is false, and `nodes` and `left_out` say what.";
        responses.insert("206".into(), json!({ "description": text, "content": content }));
    }
    let problem = json!({
        "description": "Why there is no answer (RFC 9457).",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    responses.insert("default".into(), problem);
    json!({ "summary": operation.what, "parameters": parameters, "responses": responses })
}

/// The document.
pub(super) fn document() -> String {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(operation.method.to_owned(), described(operation));
        }
    }
    let schema = json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" }, "title": { "type": "string" },
            "status": { "type": "integer" }, "detail": { "type": "string" },
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "pregao", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": { "Problem": schema } },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_found_by_itself_and_by_nothing_else() {
        for operation in OPERATIONS {
            let method = if operation.method == "post" { Method::Post } else { Method::Get };
            let path = operation.path.replace("{symbol}", "PETR4").replace("{name}", "main.js");
            let Found::Operation(found, _) = find(method, &path) else { panic!("{path}") };
            assert_eq!((found.path, found.method), (operation.path, operation.method));
            let other = if method == Method::Post { Method::Get } else { Method::Post };
            assert!(matches!(find(other, &path), Found::OtherMethod(_)), "{path}");
        }
        for nothing in
            ["/v1", "/v1/bars/", "/v1/bars/A/B", "/page/", "/page/a/b", "/V1/quotes", "//"]
        {
            assert!(matches!(find(Method::Get, nothing), Found::Nothing), "{nothing}");
        }
    }

    #[test]
    fn the_document_has_every_path_with_its_parameters() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        for operation in OPERATIONS {
            let described = &document["paths"][operation.path][operation.method];
            let named = described["parameters"].as_array().unwrap();
            let has = |name: &str| named.iter().any(|it| it["name"] == name);
            assert!(operation.parameters.iter().all(|it| has(it.name)), "{}", operation.path);
            assert!(described["responses"]["default"].is_object());
        }
    }
}
