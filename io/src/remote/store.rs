//! Requests to one bucket, or to one HTTP address.
//!
//! Credentials, endpoints and other settings come from the usual environment variables (`AWS_*`,
//! `GOOGLE_*`, `AZURE_*`), under the names the `object_store` crate knows. `AWS_MAX_ATTEMPTS` and
//! `AWS_EC2_METADATA_DISABLED`, which the crate does not read, are handled here.
//!
//! A machine without credentials gets an error within seconds.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, CredentialProvider, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};

use super::address::{Address, Kind};
use super::client::Client;
use super::failure::{Failure, credentials};
use crate::source::lock;

/// How long to wait for the machine's own credentials before concluding that there are none.
const CREDENTIALS: Duration = Duration::from_secs(6);

/// The time limit of an HTTP request. Stores with ETags use the crate's limit of 30 seconds, after
/// which the crate resumes the body where it stopped.
const HTTP_REQUEST: Duration = Duration::from_secs(60);

/// The variable that says how often a request may be made.
const ATTEMPTS: &str = "AWS_MAX_ATTEMPTS";
/// The variables whose values the library for stores takes for URLs without a check, and their store.
/// Others with "ENDPOINT" in their names are switches, such as `AWS_USE_FIPS_ENDPOINT`.
const ENDPOINTS: [(&str, Kind); 8] = [
    ("AWS_ENDPOINT", Kind::S3),
    ("AWS_ENDPOINT_URL", Kind::S3),
    ("AWS_ENDPOINT_URL_S3", Kind::S3),
    ("AWS_ENDPOINT_URL_STS", Kind::S3),
    ("AWS_METADATA_ENDPOINT", Kind::S3),
    ("AZURE_ENDPOINT", Kind::Azure),
    ("AZURE_STORAGE_ENDPOINT", Kind::Azure),
    ("AZURE_MSI_ENDPOINT", Kind::Azure),
];

/// How many times in all a body without an ETag is requested.
const BODIES: usize = 4;

/// The version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) bytes: u64,
    /// As the store gives it, including quotes.
    pub(super) etag: Option<String>,
    /// Nanoseconds since the Unix epoch; 0 if unknown.
    pub(super) modified: u64,
}

impl State {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        let modified = meta.last_modified.timestamp_nanos_opt().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        State { bytes: meta.size, etag: meta.e_tag.clone().filter(|tag| !tag.is_empty()), modified }
    }

    /// Returns the value of `If-Match` for requests: the ETag, if there is a strong one.
    fn condition(&self) -> Option<String> {
        let tag = self.etag.as_ref().filter(|tag| !tag.starts_with("W/"))?;
        // The listings of some stores omit the quotes.
        Some(if tag.starts_with('"') { tag.clone() } else { format!("\"{tag}\"") })
    }

    /// Describes how `now` differs from `self`, or returns `None` if it does not.
    fn difference(&self, now: &State) -> Option<String> {
        if self.bytes != now.bytes {
            return Some(format!("{} bytes before, {} now", self.bytes, now.bytes));
        }
        match (&self.etag, &now.etag) {
            (Some(before), Some(now)) => {
                let bare = |tag: &str| tag.trim_matches('"').to_string();
                (bare(before) != bare(now)).then(|| format!("ETag {before} before, {now} now"))
            }
            _ if self.modified != now.modified => Some("its time of change is another".into()),
            _ => None,
        }
    }
}

/// A bucket, or a single object on an HTTP server.
#[derive(Debug)]
pub(super) struct Store {
    kind: Kind,
    inner: Arc<dyn ObjectStore>,
}

impl Store {
    /// Whether the store can list its objects.
    pub(super) fn lists(&self) -> bool {
        self.kind != Kind::Http
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the bytes `range` of an object, cut off at its end, and the object's version.
    /// Returns [`Failure::Changed`] if the version differs from `expected`.
    pub(super) async fn get(
        &self,
        key: &Path,
        range: Range<u64>,
        expected: Option<&State>,
    ) -> Result<(State, Bytes), Failure> {
        for left in (0..BODIES).rev() {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                if_match: expected.and_then(State::condition),
                ..GetOptions::default()
            };
            let answer = self.inner.get_opts(key, options).await;
            let answer = match answer.map_err(|e| Failure::of(self.kind, &e)) {
                Err(Failure::Changed { what }) => return Err(self.change(key, expected, what).await),
                answer => answer?,
            };
            let state = State::of(&answer.meta);
            if let Some(what) = expected.and_then(|expected| expected.difference(&state)) {
                return Err(Failure::Changed { what });
            }
            let promised = answer.range.end - answer.range.start;
            match answer.bytes().await {
                Ok(bytes) if bytes.len() as u64 == promised => return Ok((state, bytes)),
                Ok(bytes) if left == 0 => {
                    let what = format!("the server sends {} bytes, but announced {promised}", bytes.len());
                    return Err(Failure::failed(what));
                }
                // With an ETag, the crate has already retried.
                Err(error) if left == 0 || state.etag.is_some() => return Err(Failure::of(self.kind, &error)),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        Err(Failure::failed("the server cuts its answers short"))
    }

    /// Describes how an object differs from `expected`, if the store still tells; falls back to
    /// `otherwise`.
    async fn change(&self, key: &Path, expected: Option<&State>, otherwise: String) -> Failure {
        let now = self.inner.head(key).await.map(|meta| State::of(&meta));
        let what = match (expected, now) {
            (Some(expected), Ok(now)) => expected.difference(&now),
            _ => None,
        };
        Failure::Changed { what: what.unwrap_or(otherwise) }
    }

    /// Lists all objects below `prefix`, in no particular order.
    pub(super) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Failure> {
        let prefix = Some(prefix).filter(|prefix| !prefix.is_root());
        self.inner.list(prefix).try_collect().await.map_err(|e| Failure::of(self.kind, &e))
    }
}

/// Connects to the store of `address`, after checking that there are credentials if the store needs
/// them.
pub(super) fn connect(client: &Client, address: &Address) -> Result<Store, Failure> {
    let kind = address.kind;
    let environment = client.environment();
    environment.check(kind)?;
    let patient = || environment.patience();
    let refused = |e: object_store::Error| refused(kind, &e);
    let inner: Arc<dyn ObjectStore> = match kind {
        Kind::S3 => {
            let builder = |retry| {
                let builder =
                    environment.named("AWS_").fold(AmazonS3Builder::new(), |builder, (name, value)| {
                        match name.parse() {
                            Ok(key) => builder.with_config(key, value),
                            Err(_) => builder,
                        }
                    });
                let builder = builder.with_bucket_name(&address.bucket).with_retry(retry);
                let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
                    .iter()
                    .find_map(|key| builder.get_config_value(key));
                // An explicit endpoint without encryption is taken to be intended.
                match endpoint {
                    Some(endpoint) if endpoint.starts_with("http://") => builder.with_allow_http(true),
                    _ => builder,
                }
            };
            let set = |key| builder(quick()).get_config_value(&key);
            if !set(AmazonS3ConfigKey::SkipSignature).is_some_and(|skips| is_yes(&skips)) {
                let others = [
                    AmazonS3ConfigKey::AccessKeyId,
                    AmazonS3ConfigKey::SecretAccessKey,
                    AmazonS3ConfigKey::WebIdentityTokenFile,
                    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
                    AmazonS3ConfigKey::ContainerCredentialsFullUri,
                ];
                if environment.is_true("AWS_EC2_METADATA_DISABLED") && others.into_iter().all(|key| set(key).is_none())
                {
                    return Err(no_credentials(kind, None));
                }
                let store = builder(quick()).build().map_err(refused)?;
                have(client, kind, store.credentials().clone())?;
            }
            Arc::new(builder(patient()).build().map_err(refused)?)
        }
        Kind::Gcs => {
            let builder = |retry| {
                let new = GoogleCloudStorageBuilder::new();
                let builder = environment.named("GOOGLE_").fold(new, |builder, (name, value)| match name.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                builder.with_bucket_name(&address.bucket).with_retry(retry)
            };
            let skips = builder(quick()).get_config_value(&GoogleConfigKey::SkipSignature);
            if !skips.is_some_and(|skips| is_yes(&skips)) {
                have(client, kind, builder(quick()).build().map_err(refused)?.credentials().clone())?;
            }
            Arc::new(builder(patient()).build().map_err(refused)?)
        }
        Kind::Azure => {
            let builder = |retry| {
                let new = MicrosoftAzureBuilder::new();
                let builder = environment.named("AZURE_").fold(new, |builder, (name, value)| match name.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                builder.with_url(&address.root).with_retry(retry)
            };
            let skips = builder(quick()).get_config_value(&AzureConfigKey::SkipSignature);
            if !skips.is_some_and(|skips| is_yes(&skips)) {
                have(client, kind, builder(quick()).build().map_err(refused)?.credentials().clone())?;
            }
            Arc::new(builder(patient()).build().map_err(refused)?)
        }
        Kind::Http => {
            let options = ClientOptions::new().with_allow_http(true).with_timeout(HTTP_REQUEST);
            let builder = HttpBuilder::new().with_url(&address.root).with_client_options(options);
            let builder = builder.with_retry(patient()).with_http_connector(client.http().clone());
            Arc::new(builder.build().map_err(refused)?)
        }
    };
    Ok(Store { kind, inner })
}

/// The failure for settings that cannot be used.
fn refused(kind: Kind, error: &object_store::Error) -> Failure {
    match Failure::of(kind, error) {
        Failure::Failed { what, advice, .. } => {
            let what = format!("the settings for the store cannot be used: {what}");
            Failure::Failed { what, advice, input: true }.advised(credentials(kind))
        }
        other => other,
    }
}

/// Requests the credentials, which may come from the machine itself, so that missing ones are
/// noticed within [`CREDENTIALS`].
fn have<C>(client: &Client, kind: Kind, provider: Arc<dyn CredentialProvider<Credential = C>>) -> Result<(), Failure>
where
    C: std::fmt::Debug + Send + Sync + 'static,
{
    client.wait(async move {
        match tokio::time::timeout(CREDENTIALS, provider.get_credential()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(no_credentials(kind, Some(&error))),
            Err(_) => Err(no_credentials(kind, None)),
        }
    })
}

fn no_credentials(kind: Kind, error: Option<&object_store::Error>) -> Failure {
    let why = match error.map(|error| Failure::of(kind, error)) {
        Some(Failure::Failed { what, .. } | Failure::Missing { what }) => {
            format!(" (the machine's own: {what})")
        }
        _ => String::new(),
    };
    Failure::refused(format!("no credentials were found{why}")).advised(credentials(kind))
}

/// The environment variables that configure access to stores.
#[derive(Clone, Default)]
pub(super) struct Environment(Vec<(String, String)>);

impl std::fmt::Debug for Environment {
    /// Shows names only, since the values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Environment {
    /// Returns the variables of this process.
    pub(super) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let known = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
        Environment(
            std::env::vars_os().filter_map(text).filter(|(name, value)| known(name) && !value.is_empty()).collect(),
        )
    }

    #[cfg(test)]
    pub(super) fn of(variables: &[(&str, &str)]) -> Self {
        Environment(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    /// Returns the variables whose names begin with `prefix`, with names in lower case.
    fn named(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let named = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Refuses an endpoint of the store that is not a URL, because the library panics on it, and [`ATTEMPTS`] that are
    /// not a whole number of 1 or more.
    fn check(&self, kind: Kind) -> Result<(), Failure> {
        if let Some(value) = self.value(ATTEMPTS).filter(|_| self.attempts().is_none()) {
            let what = format!("{ATTEMPTS} is \"{value}\"");
            return Err(Failure::refused(what).advised("set it to a whole number of 1 or more"));
        }
        let is_url = |value: &str| {
            let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty() && !rest.contains(char::is_whitespace))
        };
        let mut endpoints = ENDPOINTS.iter().filter(|(_, of)| *of == kind);
        match endpoints.find(|(name, _)| self.value(name).is_some_and(|value| !is_url(value))) {
            Some((name, _)) => {
                let what = format!("{name} is not a URL that begins with https:// or http://");
                Err(Failure::refused(what).advised("set it to one"))
            }
            None => Ok(()),
        }
    }

    fn is_true(&self, name: &str) -> bool {
        self.value(name).is_some_and(is_yes)
    }

    /// How often and how long a request is retried. By default the crate makes up to 11 attempts
    /// within three minutes.
    fn patience(&self) -> RetryConfig {
        let default = RetryConfig::default();
        let max_retries = self.attempts().map_or(default.max_retries, |attempts| attempts - 1);
        RetryConfig { max_retries, ..default }
    }

    /// Returns how often a request may be made, if that is set to a number of 1 or more.
    fn attempts(&self) -> Option<usize> {
        self.value(ATTEMPTS)?.trim().parse().ok().filter(|&attempts| attempts > 0)
    }
}

/// Returns whether the value of a variable means yes, by the words that the library knows.
fn is_yes(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

/// A short retry limit, for finding out whether there are credentials.
fn quick() -> RetryConfig {
    RetryConfig { max_retries: 1, retry_timeout: CREDENTIALS / 2, ..RetryConfig::default() }
}

/// A single HTTP client for all addresses. With one client for each address, every one would load
/// the system's certificates again.
#[derive(Debug, Clone, Default)]
pub(super) struct OneHttp(Arc<Mutex<Option<HttpClient>>>);

impl HttpConnector for OneHttp {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut kept = lock(&self.0);
        match kept.as_ref() {
            Some(client) => Ok(client.clone()),
            None => Ok(kept.insert(ReqwestConnector::default().connect(options)?).clone()),
        }
    }
}
