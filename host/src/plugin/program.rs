//! WASI programs: plugins in any language that can read and print. The delivery is one JSON document on standard input, the
//! verdict one on standard output. A core module runs as it is, with preview 1; a command component with preview 2.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::contract::types::{Postponement, Verdict};
use super::ending::{Ending, Failure};
use super::sandbox::{Input, Sandbox};
use super::text::clean;
use crate::request::{Draft, EditError, HeaderLimits, Headers};

/// The version of the JSON contract.
const CONTRACT: &str = "0.1";
const JSON: &str = "application/json";
/// Of an answer that is none, in an error's text.
const SHOWN_BYTES_MAX: usize = 200;

/// A program that can be run.
pub(super) enum Program {
    /// A core module with `_start`.
    Module(InstancePre<Sandbox>),
    /// A component that exports `wasi:cli/run`.
    Command(CommandPre<Sandbox>),
}

impl Program {
    /// Runs it to its end and reads its answer.
    pub(super) async fn call(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Result<Verdict, Failure>> {
        let ended = self.run(store).await;
        // Leaving through `exit` looks like an error all the way up.
        match ended.as_ref().err().and_then(|error| error.downcast_ref()) {
            Some(I32Exit(0)) => {}
            Some(_) | None => ended?,
        }
        let (output, headers) = (store.data_mut().answer(), store.data().terms.limits.headers);
        Ok(read(&output, store.data_mut().draft_mut()?, headers))
    }

    /// Makes an instance, and runs nothing but what runs by itself.
    pub(super) async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<()> {
        match self {
            Program::Module(pre) => pre.instantiate_async(store).await.map(drop),
            Program::Command(pre) => pre.instantiate_async(store).await.map(drop),
        }
    }

    async fn run(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<()> {
        match self {
            Program::Module(pre) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                let start = instance.get_typed_func::<(), ()>(&mut *store, super::status::START)?;
                start.call_async(store, ()).await
            }
            Program::Command(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                let ended = command.wasi_cli_run().call_run(store).await?;
                ended.map_err(|()| I32Exit(1).into())
            }
        }
    }
}

/// What a program reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    weft: &'static str,
    id: &'a str,
    event_type: &'a str,
    subscription_id: &'a str,
    run: u32,
    now: u64,
    destination: &'a str,
    settings: &'a RawValue,
    headers: Vec<(&'a str, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// The delivery as a program reads it.
pub(super) fn document(input: &Input) -> Bytes {
    let (call, draft) = (&input.call, &input.draft);
    let body = raw(draft.body()).filter(|_| is_json(draft.headers()));
    let document = Document {
        weft: CONTRACT,
        id: &call.event.id,
        event_type: &call.event.event_type,
        subscription_id: &call.subscription_id,
        run: call.run,
        now: call.now_ms(),
        destination: &call.destination,
        settings: raw(input.settings.as_bytes()).unwrap_or(RawValue::NULL),
        headers: draft.headers().iter().map(|(name, value)| (name.as_str(), lossy(value.as_bytes()))).collect(),
        body,
        body_base64: body.is_none().then(|| STANDARD.encode(draft.body())),
    };
    serde_json::to_vec(&document).expect("strings and JSON are always JSON").into()
}

/// A JSON text as it stands, numbers untouched.
fn raw(text: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(text).ok()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `application/json`, and what is written like it.
fn is_json(headers: &Headers) -> bool {
    let content_type = headers.get(CONTENT_TYPE.as_str()).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == JSON || media_type == "text/json" || media_type.ends_with("+json")
}

/// What a program answers. What is null is not there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answer<'a> {
    verdict: Word,
    reason: Option<String>,
    delay_ms: Option<u64>,
    headers: Option<BTreeMap<String, Option<String>>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    body_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Deliver,
    Drop,
    Postpone,
    DeadLetter,
}

/// Reads the answer and makes the edits in it. Printing nothing delivers as is.
pub(super) fn read(output: &[u8], draft: &mut Draft, headers: HeaderLimits) -> Result<Verdict, Failure> {
    if output.trim_ascii().is_empty() {
        return Ok(Verdict::Deliver);
    }
    let answer: Answer<'_> = serde_json::from_slice(output).map_err(|error| {
        let shown = clean(&lossy(output), SHOWN_BYTES_MAX);
        wrong(format!("its answer is not as the contract says: {error}; it is: {shown}"))
    })?;
    let reason = answer.reason.clone().unwrap_or_default();
    match answer.verdict {
        Word::Deliver => {
            edit(draft, &answer, headers)?;
            Ok(Verdict::Deliver)
        }
        Word::Drop => Ok(Verdict::Drop(reason)),
        Word::Postpone => {
            let delay_ms = answer.delay_ms.ok_or_else(|| wrong("its answer is postpone, without delayMs"))?;
            Ok(Verdict::Postpone(Postponement { delay_ms: u32::try_from(delay_ms).unwrap_or(u32::MAX), reason }))
        }
        Word::DeadLetter => Ok(Verdict::DeadLetter(reason)),
    }
}

fn edit(draft: &mut Draft, answer: &Answer<'_>, limits: HeaderLimits) -> Result<(), Failure> {
    if let Some(body) = new_body(answer)? {
        draft.set_body(body).map_err(|error| match error {
            EditError::TooLarge => Failure::new(Ending::Output, "its answer's body is larger than body_bytes_max"),
            EditError::NotJson | EditError::BadPointer => wrong(error.to_string()),
        })?;
    }
    if answer.body.is_some() && !is_json(draft.headers()) {
        let set = draft.set_header(CONTENT_TYPE.as_str(), JSON, limits);
        set.map_err(|error| wrong(format!("content-type: {error}")))?;
    }
    for (name, value) in answer.headers.iter().flatten() {
        let edited = match value {
            Some(value) => draft.set_header(name, value, limits),
            None => draft.remove_header(name),
        };
        edited.map_err(|error| wrong(format!("header {name:?} of its answer: {error}")))?;
    }
    Ok(())
}

fn new_body(answer: &Answer<'_>) -> Result<Option<Bytes>, Failure> {
    match (answer.body, &answer.body_base64) {
        (Some(_), Some(_)) => Err(wrong("its answer has both body and bodyBase64")),
        (Some(json), None) => Ok(Some(Bytes::copy_from_slice(json.get().as_bytes()))),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| wrong(format!("bodyBase64 of its answer: {error}")))?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

fn wrong(error: impl AsRef<str>) -> Failure {
    Failure::new(Ending::Answer, error)
}
