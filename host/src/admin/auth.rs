//! Who may ask for what.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Admin, Refusal, stranger};

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

/// Someone who may ask.
#[derive(Debug, Clone)]
pub struct Token {
    /// For the log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What they show.
    pub secret: TokenSecret,
}

/// A token's secret. Kept as a hash and compared in constant time; prints as `Secret(..)`.
#[derive(Clone)]
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// From its text.
    #[must_use]
    pub fn new(secret: &str) -> TokenSecret {
        TokenSecret(Sha256::digest(secret).into())
    }

    fn is(&self, shown: &str) -> bool {
        self.0.ct_eq(&TokenSecret::new(shown).0).into()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Lets a request pass if its bearer token may do what it asks for. Without any token configured all may who are on this
/// machine, except web pages of others.
pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if admin.tokens.is_empty() {
        return match stranger::refuse(request.headers()) {
            Ok(()) => next.run(request).await,
            Err(error) => Refusal::new(StatusCode::FORBIDDEN, error).into_response(),
        };
    }
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(shown) = shown.and_then(|value| value.strip_prefix("Bearer ")) else {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed: Authorization: Bearer <token>");
        return ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
    };
    let needed = if matches!(*request.method(), Method::GET | Method::HEAD) { Role::Read } else { Role::Write };
    match admin.tokens.iter().find(|token| token.secret.is(shown)) {
        Some(token) if token.role >= needed => next.run(request).await,
        Some(token) => {
            let error = format!("the token {:?} may only read", token.name);
            Refusal::new(StatusCode::FORBIDDEN, error).into_response()
        }
        None => Refusal::new(StatusCode::UNAUTHORIZED, "this bearer token is not known").into_response(),
    }
}
