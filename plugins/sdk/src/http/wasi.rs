//! By `wasi:http`.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

use super::{Answer, NoAnswer, Request};

/// The host takes no more in one write.
const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES: u64 = 64 * 1024;

pub(super) fn ask(request: &Request<'_>) -> Result<Answer, NoAnswer> {
    let outgoing = outgoing(request)?;
    let body = if request.body.is_empty() { None } else { Some(outgoing.body().map_err(|()| unfit("body"))?) };
    let pending = outgoing_handler::handle(outgoing, None).map_err(no_answer)?;
    if let Some(body) = body {
        write(body, request.body)?;
    }
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(error))) => Err(no_answer(error)),
        Some(Err(())) | None => Err(NoAnswer("the host has no answer".to_owned())),
    }
}

fn outgoing(request: &Request<'_>) -> Result<OutgoingRequest, NoAnswer> {
    let (scheme, rest) = request.url.split_once("://").ok_or_else(|| unfit("URL"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let method = match request.method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    };
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    let headers: Vec<_> = request.headers.iter().map(header).collect();
    let headers = Fields::from_list(&headers).map_err(|error| NoAnswer(format!("a header cannot be sent: {error}")))?;
    let outgoing = OutgoingRequest::new(headers);
    outgoing.set_method(&method).map_err(|()| unfit("method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| unfit("URL"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| unfit("URL"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| unfit("URL"))?;
    Ok(outgoing)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), NoAnswer> {
    let stream = body.write().map_err(|()| unfit("body"))?;
    for chunk in bytes.chunks(WRITE_BYTES_MAX) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            // The answer says why.
            break;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

fn read(response: &IncomingResponse) -> Result<Answer, NoAnswer> {
    let headers = response.headers().entries();
    let headers = headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
    let mut answer = Answer { status: response.status(), headers: headers.collect(), body: Vec::new() };
    let incoming = response.consume().map_err(|()| unfit("answer"))?;
    let stream = incoming.stream().map_err(|()| unfit("answer"))?;
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => answer.body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(answer),
            Err(StreamError::LastOperationFailed(error)) => return Err(NoAnswer(error.to_debug_string())),
        }
    }
}

fn unfit(what: &str) -> NoAnswer {
    NoAnswer(format!("the {what} is none"))
}

/// In words that an author knows what to do with.
fn no_answer(error: ErrorCode) -> NoAnswer {
    NoAnswer(match error {
        ErrorCode::HttpRequestDenied => {
            "denied: not granted for this server, or too many requests in one call".to_owned()
        }
        ErrorCode::DestinationIpProhibited => "the address must not be reached".to_owned(),
        ErrorCode::HttpResponseTimeout => "no answer in time".to_owned(),
        ErrorCode::HttpResponseBodySize(_) => "the answer is too large".to_owned(),
        ErrorCode::HttpRequestBodySize(_) => "the request is too large".to_owned(),
        ErrorCode::ConnectionRefused => "no connection".to_owned(),
        ErrorCode::DnsError(_) => "the host's name cannot be resolved".to_owned(),
        ErrorCode::TlsCertificateError => "the server's certificate is not to be trusted".to_owned(),
        ErrorCode::TlsProtocolError => "no TLS with the server".to_owned(),
        other => format!("{other:?}"),
    })
}
