//! Compares the files of a data set with the official ones, byte for byte.
//!
//! [`open`](crate::data::open) accepts any well-formed files; this tells whether they are the published ones: archives
//! as downloaded, and the files inside, wherever they lie. Gzipped IDX files are compared unpacked.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Serialize;
use sha2::Sha256;
use sha2::digest::Digest;

use crate::data::bytes::Bytes;
use crate::data::files::Files;
use crate::data::folder::{self, Found, Published};
use crate::data::idx;
pub use crate::data::official::DigestKind;
use crate::data::official::{self, File, hex};
use crate::error::{Error, Result};

/// Unpacking stops here; the largest official file, that of ImageNet's training images, has 3.6 GB.
const MAX_BYTES: u64 = 8 << 30;
const AGAIN: &str = "copy or download it again";

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Size and digest are the official ones.
    Ok,
    /// There is no such file.
    Missing,
    /// It is longer or shorter than the official one.
    WrongSize,
    /// It has the official size, but other bytes (or broken gzip).
    WrongDigest,
    /// No digest of it is published.
    Unknown,
}

/// One file, compared.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Where it is, or should be.
    pub file: PathBuf,
    /// Official size in bytes, unpacked; none when it is unknown.
    pub expected_bytes: Option<u64>,
    /// Its size in bytes, unpacked as far as its gzip stream is intact (and no further than 8 GiB);
    /// none when it is missing.
    pub actual_bytes: Option<u64>,
    /// How the digests are computed.
    pub digest_kind: DigestKind,
    /// Official digest, lower-case hexadecimal; none when it is unknown.
    pub expected_digest: Option<String>,
    /// Its digest; none when it is missing, broken or beyond 8 GiB.
    pub actual_digest: Option<String>,
    /// The outcome.
    pub verdict: Verdict,
    /// What to do, one sentence without a final full stop.
    pub remedy: String,
}

/// Compares the data set in the folder or archive at `path` with the official one, file by file. An archive with an
/// official name is compared as it is, any other by the files inside.
///
/// # Errors
/// `Data` when there is no data set, or none that anything is published about; `Io` when the operating
/// system refuses to read a file. Differences are not errors but verdicts.
pub fn verify(path: &Path) -> Result<Vec<FileReport>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_file()
        && let Some((_, release)) = official::of_archive(&name)
    {
        let this = release.downloads.iter().filter(|download| download.file.name == name);
        let parent = path.parent().unwrap_or(Path::new(""));
        return this.map(|download| archive(&parent.join(download.file.name), download)).collect();
    }
    if path.as_os_str() == "embedded" && !path.exists() {
        let message = "is a set inside the program, which its tests compare; name a folder or an archive";
        return Err(Error::data(path, message));
    }
    let files = Files::open(path)?;
    let mut reports = Vec::new();
    for release in official::SETS.into_iter().flat_map(|set| set.releases).filter(|_| path.is_dir()) {
        if release.is_archived() && release.downloads.iter().any(|download| files.has(download.file.name)) {
            for download in release.downloads {
                reports.push(archive(&files.path(download.file.name), download)?);
            }
        }
    }
    let found = match folder::search(&files)? {
        None if reports.is_empty() => Some(folder::detect(path)?),
        found => found,
    };
    if let Some(Found { format, files }) = found {
        reports.extend(match format.published {
            Published::Idx => idx_files(&files)?,
            Published::Files(official) => members(&files, official)?,
        });
        if reports.is_empty() {
            let message =
                format!("holds {}, of which no digests are published; there is nothing to compare", format.name);
            return Err(Error::data(path, message));
        }
    }
    Ok(reports)
}

/// One archive as downloaded.
fn archive(path: &Path, download: &'static official::Download) -> Result<FileReport> {
    let kind = download.file.digest.map_or(DigestKind::Sha256, |(kind, _)| kind);
    let found = if path.exists() { Some(measure(Bytes::map(path), kind)?) } else { None };
    let again = format!("download it again from {}", download.url);
    Ok(compare(path.to_path_buf(), kind, Some(&download.file), found, &again))
}

/// The files of a set.
fn members(files: &Files, official: &'static [File]) -> Result<Vec<FileReport>> {
    let report = |file: &'static File| {
        let kind = file.digest.map_or(DigestKind::Sha256, |(kind, _)| kind);
        let found = if files.has(file.name) { Some(measure(files.bytes(file.name, MAX_BYTES), kind)?) } else { None };
        Ok(compare(files.path(file.name), kind, Some(file), found, AGAIN))
    };
    official.iter().map(report).collect()
}

/// The four files of an IDX set, which may be any of several or an unknown one.
fn idx_files(files: &Files) -> Result<Vec<FileReport>> {
    let mut found = Vec::new();
    for member in idx::MEMBERS {
        let name = member.find(files);
        let measured = name.as_deref().map(|name| measure_idx(files.bytes(name, MAX_BYTES))).transpose()?;
        found.push((files.path(&name.unwrap_or_else(|| member.file_name() + ".gz")), measured));
    }
    let digests: Vec<&str> = found.iter().filter_map(|(_, m)| m.as_ref()?.digest.as_deref()).collect();
    let set = official::idx_set(&files.root(), &digests);
    let official = |i: usize| set.and_then(|set| set.releases.first()?.files.get(i));
    let reports = found.into_iter().enumerate();
    let report = |(i, (path, measured))| compare(path, DigestKind::Sha256, official(i), measured, AGAIN);
    Ok(reports.map(report).collect())
}

/// A file's unpacked size and digest, or how far it could be unpacked and why no further.
struct Measured {
    bytes: u64,
    digest: Option<String>,
    broken: Option<String>,
}

/// Measures a file as it is. One that cannot be read for what it is (empty, a link in an archive) is broken.
fn measure(bytes: Result<Bytes>, kind: DigestKind) -> Result<Measured> {
    let bytes = match bytes {
        Err(Error::Data { message, .. }) => return Ok(Measured { bytes: 0, digest: None, broken: Some(message) }),
        other => other?,
    };
    let mut hash = kind.hash();
    hash.update(&bytes);
    Ok(Measured { bytes: bytes.len() as u64, digest: Some(hex(&hash.finalize())), broken: None })
}

/// Measures an IDX file: unpacked if it is gzipped.
fn measure_idx(bytes: Result<Bytes>) -> Result<Measured> {
    match &bytes {
        Ok(packed) if packed.starts_with(&[0x1f, 0x8b]) => Ok(unpack(packed)),
        _ => measure(bytes, DigestKind::Sha256),
    }
}

/// Measures what a gzip stream unpacks to, as far as it is intact and no further than [`MAX_BYTES`] and one.
fn unpack(packed: &[u8]) -> Measured {
    let mut stream = MultiGzDecoder::new(packed).take(MAX_BYTES + 1);
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                bytes += count as u64;
                hash.update(&buffer[..count]);
            }
            Err(error) => {
                let broken = format!("its gzip stream is broken ({error}); {AGAIN}");
                return Measured { bytes, digest: None, broken: Some(broken) };
            }
        }
    }
    let digest = (bytes <= MAX_BYTES).then(|| hex(&hash.finalize()));
    Measured { bytes, digest, broken: None }
}

fn compare(
    file: PathBuf,
    digest_kind: DigestKind,
    official: Option<&File>,
    measured: Option<Measured>,
    again: &str,
) -> FileReport {
    let (verdict, remedy) = judge(official, measured.as_ref(), again);
    FileReport {
        file,
        expected_bytes: official.and_then(|official| official.bytes),
        actual_bytes: measured.as_ref().map(|measured| measured.bytes),
        digest_kind,
        expected_digest: official.and_then(|official| Some(official.digest?.1.to_owned())),
        actual_digest: measured.and_then(|measured| measured.digest),
        verdict,
        remedy,
    }
}

fn judge(official: Option<&File>, measured: Option<&Measured>, again: &str) -> (Verdict, String) {
    let Some(measured) = measured else {
        return (Verdict::Missing, "copy or download it into this folder".into());
    };
    let (bytes, digest) = official.map_or((None, None), |file| (file.bytes, file.digest));
    let (verdict, remedy) = match (bytes, digest) {
        (Some(bytes), _) if measured.bytes < bytes => (Verdict::WrongSize, format!("it is too short; {again}")),
        (Some(bytes), _) if measured.bytes > bytes => (Verdict::WrongSize, format!("it is too long; {again}")),
        (_, Some((_, digest))) if measured.digest.as_deref() == Some(digest) => (Verdict::Ok, "nothing to do".into()),
        (_, Some(_)) => (Verdict::WrongDigest, format!("its contents differ from the official file; {again}")),
        (_, None) => (Verdict::Unknown, "no digest of it is published; compare this one with its source".into()),
    };
    (verdict, measured.broken.clone().unwrap_or(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cifar;
    use crate::data::testdata::{IDX_NAMES, cifar_records, gz, refusal, tar, tar_header, write_idx};

    fn embedded_copy() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in IDX_NAMES {
            let name = name.to_owned() + ".gz";
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist-12k").join(&name);
            std::fs::copy(from, dir.path().join(&name)).unwrap();
        }
        dir
    }

    fn verdicts(dir: &Path) -> Vec<Verdict> {
        verify(dir).unwrap().iter().map(|report| report.verdict).collect()
    }

    #[test]
    fn intact_files_are_ok_and_damaged_ones_are_told_apart() {
        use Verdict::{Missing, Ok, WrongDigest, WrongSize};
        let dir = embedded_copy();
        assert_eq!(verdicts(dir.path()), [Ok; 4]);
        let labels = dir.path().join("train-labels-idx1-ubyte.gz");
        let packed = std::fs::read(&labels).unwrap();
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        std::fs::write(&labels, &unpacked).unwrap(); // plain under a .gz name is the same file
        assert_eq!(verdicts(dir.path()), [Ok; 4]);
        unpacked[500] ^= 1;
        std::fs::write(&labels, gz(&unpacked)).unwrap();
        assert_eq!(verdicts(dir.path()), [Ok, WrongDigest, Ok, Ok]);
        unpacked.pop();
        std::fs::write(&labels, gz(&unpacked)).unwrap();
        let report = &verify(dir.path()).unwrap()[1];
        assert_eq!(
            (report.verdict, report.actual_bytes, report.expected_bytes),
            (WrongSize, Some(10_007), Some(10_008))
        );
        std::fs::write(&labels, &packed[..packed.len() / 2]).unwrap();
        let report = &verify(dir.path()).unwrap()[1];
        assert_eq!((report.verdict, &report.actual_digest), (WrongSize, &None));
        assert!(report.remedy.contains("gzip stream is broken"), "{}", report.remedy);
        std::fs::remove_file(&labels).unwrap();
        assert_eq!(verdicts(dir.path()), [Ok, Missing, Ok, Ok]);
    }

    #[test]
    fn files_of_no_published_set_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        write_idx(dir.path(), IDX_NAMES);
        let reports = verify(dir.path()).unwrap();
        assert!(reports.iter().all(|r| r.verdict == Verdict::Unknown && r.expected_digest.is_none()));
        assert_eq!(reports[1].actual_bytes, Some(31));
        let named = dir.path().join("mnist");
        std::fs::create_dir(&named).unwrap();
        write_idx(&named, IDX_NAMES);
        assert_eq!(verdicts(&named), [Verdict::WrongSize; 4]);
    }

    #[test]
    fn cifar_files_are_compared_with_their_sha1() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.bin"), cifar_records(0, 2, true)).unwrap();
        std::fs::write(dir.path().join("test.bin"), vec![0; 30_740_000]).unwrap();
        let reports = verify(dir.path()).unwrap();
        assert_eq!([reports[0].verdict, reports[1].verdict], [Verdict::WrongSize, Verdict::WrongDigest]);
        // `head -c 30740000 /dev/zero | sha1sum`
        assert_eq!(reports[1].actual_digest.as_deref(), Some("628baeb85f1d91b74a81b95767713fac39d6b0bb"));
        assert_eq!(reports[1].digest_kind, DigestKind::Sha1);
    }

    #[test]
    fn an_archive_with_an_official_name_is_compared_as_downloaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Imagenet32_val_npz.zip");
        std::fs::write(&path, b"PK, and no more").unwrap();
        let reports = verify(&path).unwrap();
        assert_eq!((reports.len(), reports[0].verdict, reports[0].actual_bytes), (1, Verdict::WrongSize, Some(15)));
        assert!(reports[0].remedy.contains("too short; download it again from https://image-net.org/"));
        std::fs::write(dir.path().join("ModelNet40.zip"), b"x").unwrap();
        let found: Vec<_> =
            verify(dir.path()).unwrap().into_iter().map(|report| (report.file, report.verdict)).collect();
        let expected = [
            ("Imagenet32_train_npz.zip", Verdict::Missing),
            ("Imagenet32_val_npz.zip", Verdict::WrongSize),
            ("ModelNet40.zip", Verdict::WrongSize),
        ];
        assert_eq!(found, expected.map(|(name, verdict)| (dir.path().join(name), verdict)));
    }

    #[test]
    fn of_an_archive_with_another_name_the_files_inside_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.tar.gz");
        let members = [tar_header("c/train.bin", 0, b'2'), tar(&[("c/test.bin", cifar_records(0, 1, true))])].concat();
        std::fs::write(&path, gz(&members)).unwrap();
        for place in [path.as_path(), dir.path()] {
            let reports = verify(place).unwrap();
            assert_eq!(reports[0].file, path.join("c/train.bin"));
            assert!(reports[0].remedy.contains("is a link in the archive"), "{}", reports[0].remedy);
            assert_eq!((reports[1].verdict, reports[1].actual_bytes), (Verdict::WrongSize, Some(3074)));
        }
    }

    #[test]
    fn stl_10_is_compared_with_its_md5() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test_y.bin"), [1; 8000]).unwrap();
        let reports = verify(dir.path()).unwrap();
        let verdicts: Vec<Verdict> = reports.iter().map(|report| report.verdict).collect();
        assert_eq!(verdicts, [Verdict::Missing, Verdict::Missing, Verdict::Missing, Verdict::WrongDigest]);
        // `head -c 8000 /dev/zero | tr '\0' '\1' | md5sum`
        assert_eq!(reports[3].actual_digest.as_deref(), Some("ee59f9c6bdba78325969ed66214ba148"));
    }

    #[test]
    fn every_official_file_is_one_the_reader_wants() {
        let names = official::STL_10.releases[0].files.iter().map(|file| file.name);
        assert!(names.eq(crate::data::stl::MEMBERS));
        for (set, layout) in [(&official::CIFAR_10, &cifar::CIFAR_10), (&official::CIFAR_100, &cifar::CIFAR_100)] {
            assert!(layout.members().eq(set.releases[0].files.iter().map(|file| file.name)));
        }
    }

    #[test]
    fn a_folder_without_a_set_is_an_error() {
        assert!(refusal(verify(tempfile::tempdir().unwrap().path())).contains("holds no data set"));
    }
}
