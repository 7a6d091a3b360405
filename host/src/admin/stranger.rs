//! Web pages of others. A browser on this machine reaches loopback, whatever page it shows: a page may have it post here, and
//! one whose name suddenly means 127.0.0.1 may read the answers as well. A token keeps both out; where there is none, what
//! browsers say of themselves does.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};

const SITE: &str = "sec-fetch-site";
const MEND: &str = "to allow it, let whoever asks show a token (admin.tokens)";

/// Why a request without a token is not answered, if so.
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let host = text(header::HOST.as_str());
    if let Some(host) = &host
        && !is_loopback(host)
    {
        let name = "without a token only 127.0.0.1, [::1] and localhost are answered";
        return Err(format!("the request is for the host {host:?}; {name}: ask by one of them; {MEND}"));
    }
    if text(SITE).as_deref() == Some("cross-site") {
        return Err(format!("a web page of another site asks; {MEND}"));
    }
    if let Some(origin) = text(header::ORIGIN.as_str()) {
        let own = host.map(|host| format!("http://{host}"));
        if own.as_deref() != Some(&*origin) {
            return Err(format!("a web page of {origin:?} asks; {MEND}"));
        }
    }
    Ok(())
}

/// Of a `Host` header, with its port or without.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let name = name.to_ascii_lowercase();
    let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    is_address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &str, passes: bool) {
        let mut headers = HeaderMap::new();
        for line in words.split(", ").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(' ').expect("name and value");
            headers.insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let result = refuse(&headers);
        assert_eq!(result.is_ok(), passes, "{words}: {result:?}");
        assert!(result.is_ok() || result.unwrap_err().contains("admin.tokens"), "{words}");
    }

    #[test]
    fn programs_and_pages_of_this_listener_pass() {
        for host in ["127.0.0.1:8090", "localhost:8090", "[::1]:8090", "LOCALHOST", "127.1.2.3", "weft.localhost:80"] {
            check(&format!("host {host}"), true);
        }
        check("", true);
        check("host localhost:8090, sec-fetch-site none", true);
        check("host localhost:8090, sec-fetch-site same-origin, origin http://localhost:8090", true);
    }

    #[test]
    fn pages_of_others_do_not() {
        check("host 127.0.0.1:8090, sec-fetch-site cross-site", false);
        for origin in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8090.evil.example"] {
            check(&format!("host 127.0.0.1:8090, origin {origin}"), false);
        }
        // A name of theirs that means this machine.
        for host in
            ["evil.example:8090", "evil.example", "10.0.0.1:8090", "localhost.evil.example", "a@localhost@b", "[::2]"]
        {
            check(&format!("host {host}"), false);
        }
        check("host evil.example:8090, sec-fetch-site same-origin, origin http://evil.example:8090", false);
    }
}
