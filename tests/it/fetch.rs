//! `data fetch` against a server on this machine that breaks off, stalls, lies and redirects.

use crate::cli::program;
use smash_engine::data::fetch::{Event, Outcome, Patience, RemoteFile, fetch};
use smash_engine::data::official::DigestKind;
use smash_engine::{Error, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request: its path, and the first byte of its range if it has one.
type Request = (String, Option<usize>);

/// What the server sends.
#[derive(Default)]
struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// Keeps the connection open without a word once the body is sent.
    hang: bool,
}

impl Reply {
    fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// All of `body`, announced.
    fn whole(body: &[u8]) -> Self {
        Self::status(200).header(format!("Content-Length: {}", body.len())).body(body)
    }

    /// `body` from byte `from` on, as servers that know ranges do it.
    fn part(body: &[u8], from: usize) -> Self {
        let (len, rest) = (body.len(), &body[from..]);
        let range = format!("Content-Range: bytes {from}-{}/{len}", len - 1);
        Self::status(206).header(range).header(format!("Content-Length: {}", rest.len())).body(rest)
    }

    /// The reply of a good server.
    fn good(body: &[u8], request: &Request) -> Self {
        match request.1 {
            Some(from) => Self::part(body, from),
            None => Self::whole(body),
        }
    }

    fn header(mut self, header: String) -> Self {
        self.headers.push(header);
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Breaks the connection off after `len` bytes of the body.
    fn cut(mut self, len: usize) -> Self {
        self.body.truncate(len);
        self
    }

    fn send(self, mut to: TcpStream) -> std::io::Result<()> {
        write!(to, "HTTP/1.1 {} Whatever\r\nConnection: close\r\n", self.status)?;
        for header in &self.headers {
            write!(to, "{header}\r\n")?;
        }
        to.write_all(b"\r\n")?;
        to.write_all(&self.body)?;
        if self.hang {
            // Until the other side gives up.
            let _ = to.read(&mut [0])?;
        }
        Ok(())
    }
}

/// A server and what it was asked for.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request with what `reply` makes of its number and itself.
    fn start(reply: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(request) = receive(&stream) else { continue };
                let number = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                // A client that hangs up early is none of the server's business.
                let _ = reply(number, &request).send(stream);
            }
        });
        Self { url, requests }
    }

    /// The first byte of the range of each request so far.
    fn ranges(&self) -> Vec<Option<usize>> {
        self.requests.lock().unwrap().iter().map(|request| request.1).collect()
    }
}

fn receive(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_string();
    let mut from = None;
    for line in lines {
        let line = line.ok()?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.strip_suffix('-')?.parse().ok();
        }
    }
    Some((path, from))
}

/// 300,000 bytes that differ from place to place.
fn contents() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The official file that [`contents`] is.
fn official() -> RemoteFile {
    let digest = (DigestKind::Sha256, "10e5ea249ba15cf9da0925b29f6caca069e088f63eec3521e5560c1a0394058a");
    RemoteFile { name: "set.tar.gz", bytes: 300_000, digest }
}

const PATIENCE: Patience =
    Patience { tries: 3, first_wait: Duration::from_millis(1), stall: Duration::from_millis(300) };

fn fetch_into(dir: &Path, server: &Server) -> Result<Outcome> {
    fetch(&official(), &format!("{}/some/set.tar.gz", server.url), dir, PATIENCE, &mut |_| {})
}

/// Fetches from a server with these replies, and expects the official file and nothing else; the
/// first byte of each range that was asked for.
#[track_caller]
fn arrives(reply: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Vec<Option<usize>> {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(reply);
    assert_eq!(fetch_into(&dir.path().join("new/folder"), &server).unwrap(), Outcome::Fetched);
    assert_eq!(names(&dir.path().join("new/folder")), ["set.tar.gz"]);
    assert!(std::fs::read(dir.path().join("new/folder/set.tar.gz")).unwrap() == contents());
    server.ranges()
}

/// Fetches from a server with these replies, and expects an error of this exit code that names the
/// address, and `left` in the folder; gives the message and how often the server was asked.
#[track_caller]
fn fails(
    status: u8,
    left: &[&str],
    reply: impl Fn(usize, &Request) -> Reply + Send + 'static,
) -> (String, Vec<Option<usize>>) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(reply);
    let error = fetch_into(dir.path(), &server).unwrap_err();
    assert_eq!(error.exit_code(), status, "{error}");
    assert!(error.to_string().contains(&format!("{}/some/set.tar.gz", server.url)), "{error}");
    assert!(error.to_string().contains("--from"), "no remedy: {error}");
    assert_eq!(names(dir.path()), left);
    (error.to_string(), server.ranges())
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_file_is_fetched_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, request| Reply::good(&contents(), request));
    assert_eq!(fetch_into(dir.path(), &server).unwrap(), Outcome::Fetched);
    assert_eq!(fetch_into(dir.path(), &server).unwrap(), Outcome::Present);
    assert_eq!(*server.requests.lock().unwrap(), [("/some/set.tar.gz".to_string(), None)]);
}

#[test]
fn a_broken_connection_is_continued_where_it_broke() {
    let ranges = arrives(|number, request| match number {
        0 => Reply::good(&contents(), request).cut(100_000),
        1 => Reply::good(&contents(), request).cut(50_000),
        _ => Reply::good(&contents(), request),
    });
    assert_eq!(ranges, [None, Some(100_000), Some(150_000)]);
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let ranges = arrives(|number, request| match number {
        0 => Reply { hang: true, ..Reply::good(&contents(), request).cut(100_000) },
        _ => Reply::good(&contents(), request),
    });
    assert_eq!(ranges, [None, Some(100_000)]);
    let (message, ranges) = fails(1, &[], |_, _| Reply { hang: true, ..Reply::whole(&contents()).cut(0) });
    assert!(message.contains("after 3 tries") && ranges.len() == 3, "{message}");
}

#[test]
fn a_part_of_an_earlier_download_is_continued() {
    for (part, range) in [(&contents()[..1], Some(1)), (&contents()[..299_999], Some(299_999)), (&[0; 300_001], None)] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("set.tar.gz.part"), part).unwrap();
        let server = Server::start(|_, request| Reply::good(&contents(), request));
        assert_eq!(fetch_into(dir.path(), &server).unwrap(), Outcome::Fetched);
        assert_eq!(server.ranges(), [range]);
        assert!(std::fs::read(dir.path().join("set.tar.gz")).unwrap() == contents());
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("set.tar.gz.part"), contents()).unwrap();
    let server = Server::start(|_, _| Reply::status(500));
    assert_eq!(fetch_into(dir.path(), &server).unwrap(), Outcome::Fetched, "it was complete");
    assert_eq!(server.ranges(), []);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let first = |number| if number == 0 { 200_000 } else { 300_000 };
    assert_eq!(arrives(move |number, _| Reply::whole(&contents()).cut(first(number))), [None, Some(200_000)]);
    // Answers to a range that mean the server does not understand it: ask for everything.
    let odd: [fn() -> Reply; 4] = [
        || Reply::status(416),
        || Reply::status(416).header("Content-Range: bytes */300000".into()),
        || Reply::part(&contents(), 7),
        || Reply::status(206).body(&contents()),
    ];
    for odd in odd {
        let ranges = arrives(move |number, _| match number {
            1 => odd(),
            _ => Reply::whole(&contents()).cut(first(number)),
        });
        assert_eq!(ranges, [None, Some(200_000), None]);
    }
    let (message, _) = fails(1, &[], |_, _| Reply::status(416));
    assert!(message.contains("a part that was not asked for"), "{message}");
}

#[test]
fn a_size_that_is_not_the_official_one_is_refused_before_anything_is_written() {
    let page = || Reply::whole(b"<html>log in</html>").header("Content-Type: text/html; charset=utf-8".into());
    let (message, ranges) = fails(3, &[], move |_, _| page());
    assert!(message.contains("the server offers 19 bytes (a web page), the official file has 300000"), "{message}");
    assert_eq!(ranges.len(), 1, "asking again cannot help");
    for size in [299_999, 300_001] {
        // Neither a part nor its refusal may come from a file of another size; what is there stays.
        for status in [206, 416] {
            let (message, _) = fails(3, &["set.tar.gz.part"], move |number, _| match number {
                0 => Reply::whole(&contents()).cut(10),
                _ => Reply::status(status).header(format!("Content-Range: bytes 10-99/{size}")),
            });
            assert!(message.contains(&format!("the server offers {size} bytes")), "{message}");
        }
    }
}

#[test]
fn nothing_is_written_beyond_the_official_size() {
    let mut longer = contents();
    longer.push(0);
    let (message, _) = fails(3, &[], move |_, _| Reply::status(200).body(&longer));
    assert!(message.contains("sends more than the 300000 bytes of the official file"), "{message}");
}

#[test]
fn wrong_bytes_are_deleted() {
    let mut wrong = contents();
    wrong[123_456] ^= 1;
    let (message, _) = fails(3, &[], move |_, request| Reply::good(&wrong, request));
    for expected in ["its Sha256 is ", official().digest.1, "the download was deleted"] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let ranges = arrives(|number, request| match number {
        0 => Reply::status(302).header("Location: /elsewhere/set".into()),
        1 => Reply::good(&contents(), request).cut(1000),
        2 => Reply::status(307).header("Location: /third".into()),
        _ => Reply::good(&contents(), request),
    });
    assert_eq!(ranges, [None, None, Some(1000), Some(1000)]);
    let (message, ranges) = fails(1, &[], |_, _| Reply::status(301).header("Location: /some/set.tar.gz".into()));
    assert!(message.contains("redirect") && ranges.len() < 20, "{message}");
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_reported_at_once() {
    let ranges = arrives(|number, request| match number {
        0 => Reply::status(503),
        1 => Reply::status(429),
        _ => Reply::good(&contents(), request),
    });
    assert_eq!(ranges.len(), 3);
    let (message, ranges) = fails(1, &[], |_, _| Reply::status(502));
    assert!(message.contains("HTTP status 502, after 3 tries") && ranges.len() == 3, "{message}");
    let (message, ranges) = fails(1, &[], |_, _| Reply::status(404));
    assert!(message.contains("HTTP status 404; check the address") && ranges.len() == 1, "{message}");
    // Nobody speaks HTTP there.
    let (message, ranges) = fails(1, &[], |_, _| Reply::status(1));
    assert!(ranges.len() == 3, "{message}");
}

#[test]
fn a_wrong_file_under_the_official_name_is_replaced_by_a_good_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("set.tar.gz");
    let mut wrong = contents();
    wrong[0] ^= 1;
    std::fs::write(&target, &wrong).unwrap();
    let gone = Server::start(|_, _| Reply::status(410));
    assert_eq!(fetch_into(dir.path(), &gone).unwrap_err().exit_code(), 1);
    assert!(std::fs::read(&target).unwrap() == wrong, "it stays as long as there is no better one");
    let server = Server::start(|_, request| Reply::good(&contents(), request));
    let mut replaced = 0;
    let url = format!("{}/set.tar.gz", server.url);
    let mut watch = |event: Event| replaced += usize::from(matches!(event, Event::Replacing(_)));
    assert_eq!(fetch(&official(), &url, dir.path(), PATIENCE, &mut watch).unwrap(), Outcome::Fetched);
    assert!(std::fs::read(&target).unwrap() == contents() && replaced == 1);
}

#[test]
fn two_downloads_do_not_write_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let part = std::fs::File::create(dir.path().join("set.tar.gz.part")).unwrap();
    part.lock().unwrap();
    let server = Server::start(|_, request| Reply::good(&contents(), request));
    let error = fetch_into(dir.path(), &server).unwrap_err();
    assert!(matches!(&error, Error::Run(message) if message.contains("another download")), "{error}");
    drop(part);
    assert_eq!(fetch_into(dir.path(), &server).unwrap(), Outcome::Fetched);
}

#[test]
fn each_kind_of_digest_is_understood() {
    for (kind, good) in [
        (DigestKind::Md5, "384d43b457e4391d851b65dec6507b1e"),
        (DigestKind::Sha1, "9c151f53135c07c8bc57630d1e62d4c08c9dc338"),
    ] {
        for digest in [good, official().digest.1] {
            let dir = tempfile::tempdir().unwrap();
            let server = Server::start(|_, request| Reply::good(&contents(), request));
            let file = RemoteFile { digest: (kind, digest), ..official() };
            let outcome = fetch(&file, &format!("{}/set.tar.gz", server.url), dir.path(), PATIENCE, &mut |_| {});
            assert_eq!(outcome.is_ok(), digest == good, "{kind:?}");
        }
    }
}

/// Runs `data fetch` in `dir`; exit code, stdout, stderr.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = program(&[&["data", "fetch"], args].concat());
    let output = command.current_dir(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_was_typed_wrong_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (status, _, message) = run(dir.path(), &["cifar10"]);
    assert!(status == 2 && message.contains("choose from fashion-mnist, mnist, cifar-10,"), "{message}");
    let (status, _, message) = run(dir.path(), &["cifar-10", "--from", "ftp://host/"]);
    assert!(status == 2 && message.contains("--from: \"ftp://host/\" is no address"), "{message}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn the_program_reports_a_wrong_file_with_exit_code_3_and_no_server_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::whole(&vec![0; 9_912_422]));
    let (status, _, message) = run(dir.path(), &["mnist", "--from", &server.url]);
    assert_eq!(status, 3, "{message}");
    assert!(message.contains("mnist: 12 MB into data/mnist (terms: "), "{message}");
    let complaint = message.lines().last().unwrap();
    let start = format!("smash-engine: {}/train-images-idx3-ubyte.gz: its Md5 is ", server.url);
    assert!(complaint.starts_with(&start), "{complaint}");
    assert_eq!(names(&dir.path().join("data/mnist")), [""; 0]);

    // A port that was free a moment ago.
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let (status, stdout, message) = run(dir.path(), &["stl-10", "--to", "here", "--from", &url, "--quiet"]);
    assert_eq!((status, stdout.as_str()), (1, ""), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains(&format!("cannot fetch {url}/stl10_binary.tar.gz: ")), "{message}");
}

#[cfg(unix)] // ulimit
#[test]
fn a_full_disk_is_an_error_of_the_operating_system() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_, _| Reply::status(200).header("Content-Length: 170052171".into()).body(&vec![1; 1 << 20]));
    let program = program(&[]).get_program().to_owned();
    let mut shell = std::process::Command::new("bash");
    // Without the signal a write beyond the limit fails, as it does on a full disk.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" data fetch cifar-10 --to . --from \"$1\""]);
    let output = shell.arg(program).arg(&server.url).current_dir(dir.path()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write ./cifar-10-binary.tar.gz.part: File too large"), "{message}");
}
