//! Turns the errors of stores into messages.
//!
//! - The server's status and error code are part of the message, except for status 416 (an empty
//!   object).
//! - Queries, which may be signatures, are never shown.

use std::borrow::Cow;
use std::path::Path;

use super::address::{Kind, shown};
use crate::Error;

/// The reason why no bytes were returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The object or its bucket does not exist.
    Missing { what: String },
    /// The object is not the version that was opened.
    Changed { what: String },
    /// The store refused the request or could not be reached.
    Failed {
        what: String,
        /// What the user can do about it.
        advice: Option<Cow<'static, str>>,
        /// Whether the cause is the input, that is the address or the settings.
        input: bool,
    },
    /// The waiting thread was told to stop.
    Stopped,
}

impl Failure {
    /// Returns a failure whose cause is the input.
    pub(super) fn refused(what: impl Into<String>) -> Self {
        Failure::Failed { what: what.into(), advice: None, input: true }
    }

    /// Returns a failure of the store or of the network.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Failure::Failed { what: what.into(), advice: None, input: false }
    }

    /// Adds advice to a failure that has none.
    pub(super) fn advised(mut self, with: impl Into<Cow<'static, str>>) -> Self {
        if let Failure::Failed { advice, .. } = &mut self {
            advice.get_or_insert_with(|| with.into());
        }
        self
    }

    /// Turns the failure into an error about `path`.
    pub(super) fn about(self, path: &Path) -> Error {
        let (url, path) = (path.to_path_buf(), path.to_path_buf());
        match self {
            Failure::Missing { what } => Error::Store { url, what, input: true },
            Failure::Failed { what, advice, input } => {
                let what = advice.map_or(what.clone(), |advice| format!("{what}; {advice}"));
                Error::Store { url, what, input }
            }
            Failure::Changed { what } => Error::Changed { path, what },
            Failure::Stopped => Error::Stopped { path },
        }
    }

    /// Adapts the failure to an object that could be read before, so that the input is not blamed.
    pub(super) fn of_opened(self) -> Self {
        match self {
            Failure::Missing { .. } => Failure::Changed { what: "it no longer exists".into() },
            Failure::Failed { what, advice, .. } => Failure::Failed { what, advice, input: false },
            other => other,
        }
    }

    /// Turns an error of the `object_store` crate into a failure with a message of our own.
    pub(super) fn of(kind: Kind, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let text = error.to_string();
        let Answer { status, code, message } = Answer::of(&text);
        // Such as "403 AccessDenied: Access Denied", with missing parts left out.
        let said = [status.map(|s| s.to_string()), code.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let said = match &message {
            Some(message) => format!("{said}: {message}"),
            None => said,
        };
        let refused = |what: String| Failure::refused(what);
        match code.as_deref() {
            Some("NoSuchBucket" | "ContainerNotFound") => {
                return Failure::Missing { what: format!("there is no such bucket ({said})") };
            }
            Some("InvalidBucketName") => return refused(format!("not a valid bucket name ({said})")),
            Some(
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
            ) => {
                let region = between(&text, "<Region>", "</Region>");
                let region = region.map_or("the bucket's region".into(), |region| region.to_string());
                return refused(format!("the bucket is in another region: set AWS_REGION={region} ({said})"));
            }
            Some("ExpiredToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed" | "InvalidToken") => {
                return refused(format!("the credentials are not valid now ({said})")).advised("fetch new ones");
            }
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                return refused(format!("the store does not know the credentials ({said})")).advised(credentials(kind));
            }
            _ => {}
        }
        match (error, status) {
            (E::Precondition { .. }, _) | (_, Some(412)) => {
                Failure::Changed { what: "the store has another version of it (412)".into() }
            }
            (E::NotFound { .. }, _) | (_, Some(404 | 410)) => {
                let said = if said.is_empty() { "404".into() } else { said };
                Failure::Missing { what: format!("there is no such object ({said})") }
            }
            (E::PermissionDenied { .. } | E::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
                refused(format!("access denied ({said})")).advised(credentials(kind))
            }
            (_, Some(416)) => Failure::refused("empty (0 bytes)").advised("write it again"),
            (_, Some(status)) if text.contains("AuthorizationHeaderMalformed") || (300..400).contains(&status) => {
                refused(format!("the server redirects ({said})"))
                    .advised("if it is a bucket, set its region: AWS_REGION")
            }
            (_, Some(429 | 503)) => Failure::failed(format!("{} is too busy ({said})", server(&text))).advised(LATER),
            (_, Some(status)) => {
                let what = format!("{} answers {said}", server(&text));
                match (400..500).contains(&status) {
                    true => Failure::refused(what).advised("check the address"),
                    false => Failure::failed(what).advised(LATER),
                }
            }
            _ if text.contains("redirect without LOCATION") => {
                Failure::refused("the bucket is in another region: set AWS_REGION to it")
            }
            _ if text.contains("Range request not supported") || text.contains("non-partial response") => {
                Failure::refused("the server does not support range requests")
                    .advised("download the file first, or pipe it to standard input (-)")
            }
            (E::InvalidPath { .. }, _) => {
                Failure::refused("its key has an empty name, . or .. in it, or a control character")
                    .advised("rename the object")
            }
            _ => unanswered(kind, error),
        }
    }
}

/// Advice where the server has a fault.
const LATER: &str = "try again later";

/// Returns advice for missing or refused credentials.
pub(super) fn credentials(kind: Kind) -> &'static str {
    match kind {
        Kind::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as `aws configure export-credentials --format env` has \
             them, or for a public bucket AWS_SKIP_SIGNATURE=true"
        }
        Kind::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS, or for a public bucket GOOGLE_SKIP_SIGNATURE=true",
        Kind::Azure => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or for a public container \
             AZURE_SKIP_SIGNATURE=true"
        }
        Kind::Http => "a signed address may have expired",
    }
}

/// A server's response: its status, and the code and message from the store's XML.
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
}

impl Answer {
    fn of(text: &str) -> Self {
        let status = text.split_once("non-2xx status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let part = |begin, end| between(text, begin, end).map(|part| plain(part, 200)).filter(|p| !p.is_empty());
        Answer { status, code: part("<Code>", "</Code>"), message: part("<Message>", "</Message>") }
    }
}

/// Returns "the server" with the host of the first URL in an error's text, such as "the server h:9000".
fn server(text: &str) -> String {
    let url = ["http://", "https://"].iter().filter_map(|scheme| text.find(scheme)).min();
    let address = url.and_then(|at| text[at..].split_once("://")).map_or("", |(_, rest)| rest);
    let host = &address[..address.find(|c: char| "/?#)\"' ,".contains(c)).unwrap_or(address.len())];
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.is_empty() { "the server".into() } else { format!("the server {host}") }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(part, _)| part)
}

/// Describes why there was no response, with the innermost cause, such as "Connection refused (os
/// error 111)".
fn unanswered(kind: Kind, error: &object_store::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    let mut all = cause.to_string();
    while let Some(next) = cause.source() {
        cause = next;
        all = format!("{all} {cause}");
    }
    let cause = plain(&cause.to_string(), 300);
    if ["end of file before", "closed before message", "unexpected EOF"].iter().any(|words| all.contains(words)) {
        Failure::failed(format!("{} cuts its answers short ({cause})", server(&all))).advised(LATER)
    } else if all.contains("timed out") {
        Failure::failed(format!("{} does not answer in time ({cause})", server(&all))).advised(LATER)
    } else if all.contains("error sending request") {
        let advice = match kind {
            Kind::S3 => "check the network, and AWS_ENDPOINT_URL if the store is not Amazon's",
            Kind::Gcs | Kind::Azure => "check the network",
            Kind::Http => "check the address and the network",
        };
        Failure::failed(format!("{} cannot be reached ({cause})", server(&all))).advised(advice)
    } else {
        Failure::failed(cause)
    }
}

/// Returns the text on one line of at most `most` characters, with queries removed.
fn plain(text: &str, most: usize) -> String {
    let words = text.split_whitespace().map(|word| match word.find("http") {
        Some(at) => {
            let end = word[at..].find([')', '"', '\'', ',']).map_or(word.len(), |end| at + end);
            format!("{}{}{}", &word[..at], shown(&word[at..end]), &word[end..])
        }
        None => word.to_string(),
    });
    words.collect::<Vec<_>>().join(" ").chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_string().into() }
    }

    #[test]
    fn answers_are_told_in_words() {
        let xml = |code: &str| format!("<?xml?><Error><Code>{code}</Code><Message>It  is\nso</Message></Error>");
        let of = |status: &str, body: &str| {
            let text = format!(
                "Error performing GET http://h/k?X-Amz-Signature=secret in 1s - Server returned non-2xx status code: {status}: {body}"
            );
            Failure::of(Kind::S3, &generic(&text))
        };
        let told = |failure: Failure| {
            let input = matches!(failure, Failure::Failed { input: true, .. } | Failure::Missing { .. });
            (failure.about(Path::new("s3://b/k")).to_string(), input)
        };
        for (status, body, expected, input) in [
            (
                "403 Forbidden",
                xml("AccessDenied"),
                "access denied (403 AccessDenied: It is so); set AWS_ACCESS_KEY_ID",
                true,
            ),
            ("403 Forbidden", String::new(), "access denied (403); set", true),
            ("403 Forbidden", xml("SignatureDoesNotMatch"), "does not know the credentials (403 Sig", true),
            ("400 Bad Request", xml("ExpiredToken"), "not valid now (400 ExpiredToken", true),
            ("404 Not Found", xml("NoSuchBucket"), "no such bucket (404 NoSuchBucket", true),
            ("404 Not Found", xml("NoSuchKey"), "no such object (404 NoSuchKey", true),
            (
                "503 Slow Down",
                xml("SlowDown"),
                "the server h is too busy (503 SlowDown: It is so); try again later",
                false,
            ),
            ("429 Too Many Requests", String::new(), "the server h is too busy (429); try again later", false),
            (
                "500 Error",
                xml("InternalError"),
                "the server h answers 500 InternalError: It is so; try again later",
                false,
            ),
            ("400 Bad Request", String::new(), "the server h answers 400; check the address", true),
            ("416 Range", String::new(), "empty (0 bytes)", true),
            (
                "400 Bad",
                format!("{}<Region>eu-west-1</Region>", xml("AuthorizationHeaderMalformed")),
                "set AWS_REGION=eu-west-1",
                true,
            ),
        ] {
            let (text, is_input) = told(of(status, &body));
            assert!(text.starts_with("s3://b/k: ") && text.contains(expected), "{text}");
            assert!(!text.contains("secret"), "{text}");
            assert_eq!(is_input, input, "{text}");
        }
        let failure =
            Failure::of(Kind::Http, &generic("error sending request for url (http://me:secret@h/k?sig=secret)"));
        let (text, input) = told(failure);
        let words = "the server h cannot be reached (error sending request for url (http://h/k)); check the address";
        assert!(!input && text.contains(words), "{text}");
        let twice = Failure::refused("no").advised(credentials(Kind::S3)).advised(LATER);
        let (text, _) = told(twice);
        assert!(text.contains("AWS_ACCESS_KEY_ID") && !text.contains(LATER), "{text}");
        assert!(
            matches!(of("404 Not Found", "").of_opened(), Failure::Changed { what } if what == "it no longer exists")
        );
        assert!(matches!(of("403 Forbidden", "").of_opened(), Failure::Failed { input: false, .. }));
    }
}
