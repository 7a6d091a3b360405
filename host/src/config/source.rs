//! A configuration as written: values that remember where they stand, from a file and from the environment.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Number, Value as Json};
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Line { file: String, line: usize },
    Variable(String),
    Nowhere,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Line { file, line } => write!(f, "{file}:{line}"),
            Source::Variable(name) => write!(f, "environment variable {name}"),
            Source::Nowhere => Ok(()),
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) source: Source,
    pub(super) value: Value,
}

pub(super) type Table = BTreeMap<String, Node>;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// From the environment: what it is shows when a key asks for it.
    Raw(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Raw(_) | Value::Text(_) => "a text",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a decimal number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Value::Raw(text) | Value::Text(text) | Value::Datetime(text) => Json::String(text.clone()),
            Value::Integer(number) => Json::Number((*number).into()),
            Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Boolean(yes) => Json::Bool(*yes),
            Value::List(nodes) => Json::Array(nodes.iter().map(|node| node.value.to_json()).collect()),
            Value::Table(table) => {
                Json::Object(table.iter().map(|(name, node)| (name.clone(), node.value.to_json())).collect())
            }
        }
    }
}

/// Reads a file's text.
pub(super) fn parse(file: &str, text: &str) -> Result<Table, Mistake> {
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let source = |at: usize| Source::Line { file: file.to_owned(), line: line_of(at) };
    match DeTable::parse(text) {
        Ok(table) => Ok(self::table(table.get_ref(), &source)),
        Err(error) => {
            let source = error.span().map_or_else(|| file.to_owned(), |span| source(span.start).to_string());
            Err(Mistake { source, path: String::new(), what: error.message().replace('\n', ", ") })
        }
    }
}

fn table(table: &DeTable<'_>, source: &dyn Fn(usize) -> Source) -> Table {
    let node = |at: usize, value| Node { source: source(at), value: self::value(value, source) };
    table.iter().map(|(name, value)| (name.get_ref().to_string(), node(name.span().start, value.get_ref()))).collect()
}

fn value(value: &DeValue<'_>, source: &dyn Fn(usize) -> Source) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).map_or(Value::Raw(digits), Value::Integer)
        }
        DeValue::Float(number) => number.as_str().replace('_', "").parse().map_or(Value::Float(f64::NAN), Value::Float),
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Datetime(date) => Value::Datetime(date.to_string()),
        DeValue::Array(array) => Value::List(
            array
                .iter()
                .map(|item| Node { source: source(item.span().start), value: self::value(item.get_ref(), source) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(self::table(table, source)),
    }
}

/// Lays variables named `WEFT_SECTION__KEY` over a table; deeper keys have further `__`.
pub(super) fn overlay(root: &mut Table, environment: impl Iterator<Item = (String, String)>) {
    for (name, text) in environment {
        let Some(path) = name.strip_prefix("WEFT_").filter(|path| path.contains("__")) else { continue };
        let source = Source::Variable(name.clone());
        let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let Some((last, parents)) = keys.split_last() else { continue };
        insert(root, parents, last, Node { source, value: Value::Raw(text) });
    }
}

fn insert(table: &mut Table, parents: &[String], last: &str, node: Node) {
    let Some((parent, deeper)) = parents.split_first() else {
        table.insert(last.to_owned(), node);
        return;
    };
    let empty = || Node { source: node.source.clone(), value: Value::Table(Table::new()) };
    let inner = table.entry(parent.clone()).or_insert_with(empty);
    if let Value::Table(inner) = &mut inner.value {
        insert(inner, deeper, last, node);
    } else {
        // What stands in the file is no table: the variable wins, as it does everywhere.
        *inner = empty();
        if let Value::Table(inner) = &mut inner.value {
            insert(inner, deeper, last, node);
        }
    }
}

/// A list or table in a variable, written as in the file.
pub(super) fn parse_raw(text: &str, source: &Source) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Some(value(parsed.get_ref(), &|_| source.clone()))
}
