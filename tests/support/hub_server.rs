//! A hub on loopback that speaks the routes of the real one: repository information, files by commit with a redirect
//! to a storage on another host for large files, byte ranges, and the failures that a test asks for.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

pub const REPO: &str = "org/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// What the server does; a test changes it between requests.
pub struct Behaviour {
    /// Name and content of every file; names that end in .safetensors or .gguf are in the storage.
    pub files: HashMap<String, Vec<u8>>,
    /// The token without which everything is refused.
    pub token: Option<String>,
    /// How many of the next answers from the storage break off, and after how many bytes.
    pub breaks: usize,
    pub break_after: usize,
    /// Whether the storage answers a range request with the whole file.
    pub ignores_ranges: bool,
    /// Whether the storage sends other bytes than the hub announces.
    pub corrupts: bool,
    /// If set, the next answer from the storage stops half-way until something (or the end) comes from here.
    pub stall: Option<Receiver<()>>,
    /// Every request so far.
    pub requests: Vec<Request>,
}

/// The running server. Its threads end with the test process.
pub struct HubServer {
    pub endpoint: String,
    pub behaviour: Arc<Mutex<Behaviour>>,
}

impl HubServer {
    pub fn start(files: &[(&str, &[u8])]) -> HubServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let port = listener.local_addr().expect("bound").port();
        let behaviour = Arc::new(Mutex::new(Behaviour {
            files: files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect(),
            token: None,
            breaks: 0,
            break_after: 0,
            ignores_ranges: false,
            corrupts: false,
            stall: None,
            requests: Vec::new(),
        }));
        let shared = Arc::clone(&behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that goes away while it is answered is part of some tests.
                std::thread::spawn(move || answer(stream, &shared, port).ok());
            }
        });
        HubServer { endpoint: format!("http://127.0.0.1:{port}"), behaviour }
    }

    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().expect("no test panics while it holds the lock"));
    }

    /// The requests so far whose path contains `part`.
    pub fn requests(&self, method: &str, part: &str) -> Vec<Request> {
        let behaviour = self.behaviour.lock().expect("no test panics while it holds the lock");
        behaviour.requests.iter().filter(|r| r.method == method && r.path.contains(part)).cloned().collect()
    }
}

fn answer(mut stream: TcpStream, shared: &Mutex<Behaviour>, port: u16) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let is_head = request.method == "HEAD";
    let path = request.path.clone();
    shared.lock().expect("lock").requests.push(request.clone());
    if let Some(name) = path.strip_prefix("/storage/") {
        return storage(&mut stream, shared, &request, name);
    }
    let behaviour = shared.lock().expect("lock");
    let sent = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if behaviour.token.as_deref().is_some_and(|token| sent != Some(token)) {
        return head(&mut stream, "401 Unauthorized", &[("Content-Length", "0".into())]);
    }
    let not_found = |stream: &mut TcpStream, code: &str| {
        head(stream, "404 Not Found", &[("X-Error-Code", code.into()), ("Content-Length", "0".into())])
    };
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return match rest.split_once("/revision/") {
            Some((REPO, revision)) if revision == "main" || revision == COMMIT => {
                let names: Vec<_> =
                    behaviour.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
                let body = serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string();
                head(&mut stream, "200 OK", &[("Content-Length", body.len().to_string())])?;
                stream.write_all(body.as_bytes())
            }
            Some((REPO, _)) => not_found(&mut stream, "RevisionNotFound"),
            _ => not_found(&mut stream, "RepoNotFound"),
        };
    }
    let file = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(bytes) = behaviour.files.get(file) else { return not_found(&mut stream, "EntryNotFound") };
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if file.ends_with(".safetensors") || file.ends_with(".gguf") {
        return head(
            &mut stream,
            "302 Found",
            &[
                ("X-Repo-Commit", COMMIT.into()),
                ("X-Linked-Etag", format!("\"{sha256}\"")),
                ("X-Linked-Size", bytes.len().to_string()),
                // Another host name than the hub's, as the real storage has.
                ("Location", format!("http://localhost:{port}/storage/{file}")),
                ("Content-Length", "0".into()),
            ],
        );
    }
    let etag = format!("W/\"{}\"", &sha256[..40]);
    let length = ("Content-Length", bytes.len().to_string());
    head(&mut stream, "200 OK", &[("X-Repo-Commit", COMMIT.into()), ("ETag", etag), length])?;
    if is_head { Ok(()) } else { stream.write_all(bytes) }
}

/// Answers for the storage, with whatever goes wrong there.
fn storage(stream: &mut TcpStream, shared: &Mutex<Behaviour>, request: &Request, name: &str) -> std::io::Result<()> {
    let mut behaviour = shared.lock().expect("lock");
    let mut bytes = behaviour.files[name].clone();
    if behaviour.corrupts {
        *bytes.last_mut().expect("no empty file") ^= 1;
    }
    let range = request.headers.get("range").filter(|_| !behaviour.ignores_ranges);
    let start: usize =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let length = ("Content-Length", (bytes.len() - start).to_string());
    if start > 0 {
        let part = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        head(stream, "206 Partial Content", &[length, ("Content-Range", part)])?;
    } else {
        head(stream, "200 OK", &[length])?;
    }
    let body = &bytes[start..];
    if behaviour.breaks > 0 {
        behaviour.breaks -= 1;
        return stream.write_all(&body[..behaviour.break_after.min(body.len())]);
    }
    let stall = behaviour.stall.take();
    drop(behaviour);
    let half = body.len() / 2;
    stream.write_all(&body[..half])?;
    if let Some(stall) = stall {
        let _ = stall.recv();
    }
    stream.write_all(&body[half..])
}

fn head(stream: &mut TcpStream, status: &str, headers: &[(&str, String)]) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n").as_bytes())
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Ok(Request { method, path, headers })
}
