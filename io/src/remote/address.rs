//! Parses the addresses of objects, and removes what must not be shown.
//!
//! In `s3://`, `gs://` and `az://` addresses, the text after the bucket is the literal key, as in
//! the stores' own tools: `%20` is three characters. An `https://` address is a URL, in which `%20`
//! is a space.

use std::borrow::Cow;

use crate::{Error, Result};

/// Whether a name has the form of an address, such as `s3://bucket/key`, rather than of a file.
pub fn is_address(given: &str) -> bool {
    let scheme = given.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Returns a name in the form in which it may be printed and stored. The user, query and fragment
/// of an HTTP or HTTPS address are removed, since a signature in the query works like a password.
pub fn shown(given: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = given.split_once("://").filter(|(scheme, _)| is_http(scheme)) else {
        return Cow::Borrowed(given);
    };
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Cow::Owned(format!("{scheme}://{host}{path}"))
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Amazon S3 and compatible stores.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// Any HTTP server. Objects are named by their full URL and cannot be listed.
    Http,
}

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) kind: Kind,
    /// The scheme and bucket, such as `s3://bucket`; for HTTP the whole URL including its query.
    pub(super) root: String,
    /// The bucket or container; for HTTP the host.
    pub(super) bucket: String,
    /// What follows the bucket, without the leading slash; for HTTP the path, still
    /// percent-encoded.
    pub(super) key: String,
}

impl Address {
    /// # Errors
    ///
    /// [`Error::Store`] if the scheme is unknown, if the bucket or host is missing or not valid, or
    /// if an HTTP address contains a user name.
    pub(super) fn parse(given: &str) -> Result<Self> {
        let refused = |what: String| Err(Error::Store { url: shown(given).as_ref().into(), what, input: true });
        let (scheme, rest) = given.split_once("://").unwrap_or(("", given));
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Kind::S3,
            "gs" => Kind::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Kind::Azure,
            "http" | "https" => Kind::Http,
            "file" => return refused("files are named by their paths, without file://".into()),
            _ => {
                return refused(format!(
                    "{scheme}:// is not supported; the stores are s3://, gs://, az://, abfs://, https:// and http://"
                ));
            }
        };
        if kind == Kind::Http {
            let plain = shown(given);
            let (_, after) = plain.split_once("://").unwrap_or(("", &plain));
            let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            let before_query = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
            if before_query.split('/').next().is_some_and(|host| host.contains('@')) {
                return refused("user names and passwords in an address are not sent; use a signed address".into());
            }
            if host.is_empty() {
                return refused("names no host".into());
            }
            let root = given[..given.find('#').unwrap_or(given.len())].to_string();
            return Ok(Address { kind, root, bucket: host.into(), key: path.trim_start_matches('/').into() });
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return refused(format!("names no bucket; it is {scheme}://bucket/key"));
        }
        if bucket.contains(['*', '?', '[', ']', '{', '}']) {
            return refused("a bucket name cannot be a pattern; * ? [ab] ** {a,b} apply to keys only".into());
        }
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '$' | '@');
        if !bucket.chars().all(known) || !bucket.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '$') {
            return refused(format!("\"{bucket}\" is not a valid bucket name"));
        }
        let root = match kind {
            Kind::S3 => format!("s3://{bucket}"),
            _ => format!("{}://{bucket}", scheme.to_ascii_lowercase()),
        };
        Ok(Address { kind, root, bucket: bucket.into(), key: key.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let of = |given: &str| Address::parse(given).unwrap();
        let s3 = of("S3A://b.x-1/dt=1/a b%20#?.npy");
        let expected = (Kind::S3, "s3://b.x-1", "b.x-1", "dt=1/a b%20#?.npy");
        assert_eq!((s3.kind, s3.root.as_str(), s3.bucket.as_str(), s3.key.as_str()), expected);
        assert_eq!(of("gs://b").key, "");
        assert_eq!(of("abfs://c@a.dfs.core.windows.net/k").root, "abfs://c@a.dfs.core.windows.net");
        let http = of("https://h:1/a%20b.npy?x=/1#part");
        assert_eq!((http.kind, http.bucket.as_str(), http.key.as_str()), (Kind::Http, "h:1", "a%20b.npy"));
        assert_eq!(http.root, "https://h:1/a%20b.npy?x=/1");
        for (given, told) in [
            ("ftp://h/k", "ftp:// is not supported"),
            ("file:///k", "by their paths"),
            ("s3:///k", "names no bucket; it is s3://bucket/key"),
            ("s3://b*/k", "a bucket name cannot be a pattern"),
            ("s3://b c/k", "is not a valid bucket name"),
            ("s3://-b/k", "is not a valid bucket name"),
            ("https:///k", "names no host"),
            ("https://me:secret@h/k?sig=secret", "are not sent"),
        ] {
            let error = Address::parse(given).unwrap_err();
            assert!(error.is_bad_input(), "{error}");
            let error = error.to_string();
            assert!(error.contains(told) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        assert_eq!(shown("https://me:pass@h:1/a/b.npy?X-Amz-Signature=1#x"), "https://h:1/a/b.npy");
        assert_eq!(shown("HTTP://h?sig=1/2"), "HTTP://h");
        assert_eq!(shown("s3://b/a?.npy"), "s3://b/a?.npy");
        assert_eq!(shown("a/b?c"), "a/b?c");
    }
}
