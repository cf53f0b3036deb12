//! The hub's routes: what a repository holds, what is known about a file, and its bytes from a given place on.

use super::reference::Reference;
use super::settings::Settings;
use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::RepoInfo;
use std::io::Read;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A redirect to the same host, as for a repository that was renamed, is followed this often.
const MAX_REDIRECTS: u32 = 5;

/// Talks to one hub.
pub struct Client {
    agent: Agent,
    settings: Settings,
}

/// What the hub says about a file before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name in the repository.
    pub name: String,
    /// The address of its bytes.
    pub url: String,
    /// The hub's name for its content, which is its name in the cache.
    pub etag: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl RemoteFile {
    /// The SHA-256 of the content where the hub tells it: the etag of a file in large-file storage.
    pub fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(&self.etag)
    }
}

/// The bytes of a file from [`Content::start`] on.
pub struct Content {
    /// Where the bytes begin: where they were asked from, or 0 if the server sends the whole file.
    pub start: u64,
    /// The bytes, which may break off.
    pub reader: Box<dyn Read>,
}

/// Why bytes could not be had, told apart because only one of the two is worth another try.
pub enum Failure {
    /// The connection or the server failed.
    Passing(anyhow::Error),
    /// The hub refuses, or the request is wrong.
    Final(anyhow::Error),
}

impl Client {
    /// A client for the hub that `settings` name.
    pub fn new(settings: &Settings) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The token stays with the hub: it is not sent on to the storage that files are redirected to.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .max_redirects(MAX_REDIRECTS)
            .user_agent(concat!("ridgepoint/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .build();
        Client { agent: config.into(), settings: settings.clone() }
    }

    /// The commit that a revision stands for and the names of its files.
    pub fn repo_info(&self, reference: &Reference) -> Result<RepoInfo> {
        let url = format!("{}/api/{}", self.settings.endpoint, reference.repo().api_url());
        let mut response = self.get(&url, 0).map_err(|error| self.unreachable(&error))?;
        self.check_status(&response, reference, None)?;
        let info =
            response.body_mut().read_json().with_context(|| format!("{reference}: {url} sends no valid answer"))?;
        Ok(info)
    }

    /// What the hub says about a file of a commit.
    pub fn remote_file(&self, reference: &Reference, commit: &str, name: &str) -> Result<RemoteFile> {
        let mut url = format!("{}/{}/resolve/{commit}/{name}", self.settings.endpoint, reference.repo);
        for _ in 0..MAX_REDIRECTS {
            let response = self.head(&url).map_err(|error| self.unreachable(&error))?;
            match text(&response, "location") {
                Some(location) if response.status().is_redirection() && location.starts_with('/') => {
                    url = format!("{}{location}", origin(&url));
                }
                _ => {
                    self.check_status(&response, reference, Some(name))?;
                    return remote_file_of(&response, name, url).with_context(|| format!("{reference}: {name}"));
                }
            }
        }
        bail!("{reference}: {name}: the hub redirects in a circle")
    }

    /// The bytes of a file from `start` on.
    pub fn content(&self, reference: &Reference, file: &RemoteFile, start: u64) -> Result<Content, Failure> {
        let passing = |error: anyhow::Error| Failure::Passing(error);
        let mut response = self.get(&file.url, start).map_err(|error| passing(error.into()))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && start > 0 {
            response = self.get(&file.url, 0).map_err(|error| passing(error.into()))?;
        }
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(passing(anyhow!("the server answers {status}")));
        }
        self.check_status(&response, reference, Some(&file.name)).map_err(Failure::Final)?;
        let start = if status == StatusCode::PARTIAL_CONTENT { range_start(&response).map_err(passing)? } else { 0 };
        Ok(Content { start, reader: Box::new(response.into_body().into_reader()) })
    }

    /// Redirects are left to the caller: the one to the storage has the headers that are wanted.
    fn head(&self, url: &str) -> Result<Response<Body>, ureq::Error> {
        self.prepare(self.agent.head(url), url).config().max_redirects(0).build().call()
    }

    fn get(&self, url: &str, start: u64) -> Result<Response<Body>, ureq::Error> {
        let request = self.prepare(self.agent.get(url), url);
        if start > 0 { request.header(header::RANGE, format!("bytes={start}-")).call() } else { request.call() }
    }

    fn prepare(&self, request: RequestBuilder<WithoutBody>, url: &str) -> RequestBuilder<WithoutBody> {
        // A compressed answer would have neither the size nor the bytes that the hub announces.
        let request = request.header(header::ACCEPT_ENCODING, "identity");
        match &self.settings.token {
            Some(token) if origin(url) == origin(&self.settings.endpoint) => {
                request.header(header::AUTHORIZATION, format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!(
            "cannot reach {}: {error}; check the network, or work with what is cached (HF_HUB_OFFLINE=1)",
            self.settings.endpoint
        )
    }

    /// Turns an answer that is no success into an error that says what to do.
    fn check_status(&self, response: &Response<Body>, reference: &Reference, file: Option<&str>) -> Result<()> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let page = format!("{}/{}", self.settings.endpoint, reference.repo);
        let code = text(response, "x-error-code").unwrap_or_default();
        match status.as_u16() {
            401 | 403 if self.settings.token.is_none() => bail!(
                "{reference}: the hub answers {status}: the repository is private, gated or does not exist; \
                 set HF_TOKEN to a token that may read it"
            ),
            401 | 403 => bail!(
                "{reference}: the hub answers {status}: this token may not read it; accept the model's terms at {page}, \
                 or set HF_TOKEN to a token of an account that may"
            ),
            404 if code == "RevisionNotFound" => {
                bail!("{reference}: {} has no revision '{}'; see {page}", reference.repo, reference.revision)
            }
            404 => match file {
                Some(file) => bail!("{reference}: the hub does not find {file} (404); see {page}"),
                None => bail!(
                    "{reference}: the hub finds no repository {} with revision '{}' (404); check the name at {page}",
                    reference.repo,
                    reference.revision
                ),
            },
            _ => bail!("{reference}: the hub answers {status}; try again later"),
        }
    }
}

fn remote_file_of(response: &Response<Body>, name: &str, url: String) -> Result<RemoteFile> {
    let etag = text(response, "x-linked-etag").or_else(|| text(response, "etag")).context("the hub sends no etag")?;
    let etag = etag.trim_start_matches("W/").trim_matches('"').to_string();
    if !super::reference::is_plain_name(&etag) {
        bail!("the hub sends an etag that cannot be a file's name: '{etag}'");
    }
    let size = text(response, "x-linked-size").or_else(|| text(response, "content-length"));
    let size_bytes = size.and_then(|size| size.parse().ok()).context("the hub sends no size")?;
    Ok(RemoteFile { name: name.to_string(), url, etag, size_bytes })
}

fn range_start(response: &Response<Body>) -> Result<u64> {
    let range = text(response, "content-range").context("the server sends a part without saying which")?;
    let start = range.trim_start_matches("bytes ").split('-').next().and_then(|start| start.trim().parse().ok());
    start.with_context(|| format!("the server sends a part without saying which: '{range}'"))
}

fn text(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.trim().to_string())
}

/// Scheme and host of an address: the token goes to no other.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    &url[..url[host..].find('/').map_or(url.len(), |slash| host + slash)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://huggingface.co/api/x"), "https://huggingface.co");
        assert_eq!(origin("http://127.0.0.1:80"), "http://127.0.0.1:80");
        assert_ne!(origin("https://huggingface.co.evil.org/x"), origin("https://huggingface.co"));
    }

    #[test]
    fn only_a_sha256_is_taken_for_one() {
        let file = |etag: &str| RemoteFile { name: "x".into(), url: "x".into(), etag: etag.into(), size_bytes: 0 };
        let sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        assert_eq!(file(sha256).sha256(), Some(sha256));
        assert_eq!(file("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed").sha256(), None);
    }
}
