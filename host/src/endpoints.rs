//! The endpoints that were read lately. Most events go to few places, and reading a URL as browsers do costs as much as
//! signing the request.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::subscription::{BadUrl, Endpoint};

/// Beyond that all are forgotten: few hosts have so many, and one that has reads them anew.
const KEPT_MAX: usize = 4096;
/// Longer URLs are read each time.
const URL_BYTES_MAX: usize = 512;

const UNPOISONED: &str = "no holder of this lock can panic";

/// Endpoints by the text of their URL.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    kept: RwLock<HashMap<Box<str>, Arc<Endpoint>>>,
}

impl Endpoints {
    /// [`Endpoint::parse`], or what it said before.
    pub(crate) fn read(&self, url: &str) -> Result<Arc<Endpoint>, BadUrl> {
        if let Some(endpoint) = self.kept.read().expect(UNPOISONED).get(url) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(Endpoint::parse(url)?);
        if url.len() <= URL_BYTES_MAX {
            let mut kept = self.kept.write().expect(UNPOISONED);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(url.into(), Arc::clone(&endpoint));
        }
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_read_and_bounded() {
        let endpoints = Endpoints::default();
        for number in 0..=KEPT_MAX {
            let url = format!("http://h/{number}");
            let first = endpoints.read(&url).unwrap();
            assert_eq!(*first, Endpoint::parse(&url).unwrap());
            assert!(Arc::ptr_eq(&first, &endpoints.read(&url).unwrap()));
        }
        assert_eq!(endpoints.kept.read().unwrap().len(), 1);
        assert!(endpoints.read("ftp://h/").is_err());
        endpoints.read(&format!("http://h/{}", "a".repeat(URL_BYTES_MAX))).unwrap();
        assert_eq!(endpoints.kept.read().unwrap().len(), 1);
    }
}
