//! Compares the files of a folder with the official ones, byte for byte.
//!
//! [`open`](crate::data::open) accepts any well-formed files; this tells whether they are the
//! published ones. Gzipped IDX files are compared unpacked.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Serialize;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::Digest;

use crate::data::bytes::open_regular;
use crate::data::files::Files;
use crate::data::folder;
use crate::data::idx;
pub use crate::data::official::DigestKind;
use crate::data::official::{self, Set, hex};
use crate::error::{Error, Result};

/// Hashing stops here; the largest official file, CIFAR-100's for training, has 154 MB.
const MAX_BYTES: u64 = 1 << 30;

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
    /// The set is none with published digests.
    Unknown,
}

/// One file, compared.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Where it is, or should be.
    pub file: PathBuf,
    /// Official size in bytes, unpacked; none when the set is unknown.
    pub expected_bytes: Option<u64>,
    /// Its size in bytes, unpacked as far as its gzip stream is intact (and no further than 1 GiB);
    /// none when it is missing.
    pub actual_bytes: Option<u64>,
    /// How the digests are computed.
    pub digest_kind: DigestKind,
    /// Official digest, lower-case hexadecimal; none when the set is unknown.
    pub expected_digest: Option<String>,
    /// Its digest; none when it is missing, broken or beyond 1 GiB.
    pub actual_digest: Option<String>,
    /// The outcome.
    pub verdict: Verdict,
    /// What to do, one sentence without a final full stop.
    pub remedy: String,
}

/// Compares the data set in `folder` with the official one, file by file.
///
/// # Errors
/// `Data` when the folder holds no data set, `Io` when the operating system refuses to read a file;
/// differences are not errors but verdicts.
pub fn verify(folder: &Path) -> Result<Vec<FileReport>> {
    let found = folder::detect(folder)?;
    match found.format.name {
        "IDX" => verify_idx(&found.files),
        "CIFAR-10" => verify_cifar(&found.files.root(), &official::CIFAR_10),
        _ => verify_cifar(&found.files.root(), &official::CIFAR_100),
    }
}

fn verify_cifar(dir: &Path, set: &'static Set) -> Result<Vec<FileReport>> {
    let report = |file: &'static official::File| {
        let path = dir.join(file.name);
        let found = if path.exists() { Some(measure::<Sha1>(&path)?) } else { None };
        Ok(compare(path, DigestKind::Sha1, Some(file), found))
    };
    set.files.iter().map(report).collect()
}

fn verify_idx(files: &Files) -> Result<Vec<FileReport>> {
    let mut found = Vec::new();
    for member in idx::MEMBERS {
        let path = member.find(files).map(|name| files.path(&name));
        let measured = path.as_deref().map(measure_idx).transpose()?;
        found.push((path.unwrap_or_else(|| files.path(&(member.file_name() + ".gz"))), measured));
    }
    let digests: Vec<&str> = found.iter().filter_map(|(_, m)| m.as_ref()?.digest.as_deref()).collect();
    let set = official::idx_set(&files.root(), &digests);
    let reports = found
        .into_iter()
        .enumerate()
        .map(|(i, (path, measured))| compare(path, DigestKind::Sha256, set.map(|set| &set.files[i]), measured));
    Ok(reports.collect())
}

/// A file's unpacked size and digest, or how far it could be unpacked and why no further.
struct Measured {
    bytes: u64,
    digest: Option<String>,
    broken: Option<String>,
}

/// Measures an IDX file: unpacked if it is gzipped.
fn measure_idx(path: &Path) -> Result<Measured> {
    let mut start = Vec::new();
    open_regular(path)?.take(2).read_to_end(&mut start).map_err(Error::io("read", path))?;
    if start != [0x1f, 0x8b] {
        return measure::<Sha256>(path);
    }
    let packed = std::io::BufReader::new(open_regular(path)?);
    digest::<Sha256>(MultiGzDecoder::new(packed)).or_else(|(bytes, error)| {
        // Errors of the operating system have a number, those of the decoder have none.
        if error.raw_os_error().is_some() {
            return Err(Error::io("read", path)(error));
        }
        Ok(Measured { bytes, digest: None, broken: Some(error.to_string()) })
    })
}

/// Measures a file as it is.
fn measure<D: Digest>(path: &Path) -> Result<Measured> {
    let file = open_regular(path)?;
    let bytes = file.metadata().map_err(Error::io("read the size of", path))?.len();
    if bytes > MAX_BYTES {
        return Ok(Measured { bytes, digest: None, broken: None });
    }
    digest::<D>(file).map_err(|(_, error)| Error::io("read", path)(error))
}

/// Reads to the end, but at most [`MAX_BYTES`] and one; an error comes with the bytes before it.
fn digest<D: Digest>(from: impl Read) -> Result<Measured, (u64, std::io::Error)> {
    let mut from = from.take(MAX_BYTES + 1);
    let (mut hash, mut bytes, mut buffer) = (D::new(), 0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                bytes += count as u64;
                hash.update(&buffer[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err((bytes, error)),
        }
    }
    let digest = (bytes <= MAX_BYTES).then(|| hex(&hash.finalize()));
    Ok(Measured { bytes, digest, broken: None })
}

fn compare(
    file: PathBuf,
    digest_kind: DigestKind,
    official: Option<&official::File>,
    measured: Option<Measured>,
) -> FileReport {
    let (verdict, remedy) = judge(official, measured.as_ref());
    FileReport {
        file,
        expected_bytes: official.map(|official| official.bytes),
        actual_bytes: measured.as_ref().map(|measured| measured.bytes),
        digest_kind,
        expected_digest: official.map(|official| official.digest.to_owned()),
        actual_digest: measured.and_then(|measured| measured.digest),
        verdict,
        remedy,
    }
}

fn judge(official: Option<&official::File>, measured: Option<&Measured>) -> (Verdict, String) {
    let Some(measured) = measured else {
        return (Verdict::Missing, "copy or download it into this folder".into());
    };
    let again = "copy or download it again";
    let broken = measured.broken.as_ref().map(|why| format!("its gzip stream is broken ({why}); {again}"));
    let Some(official) = official else {
        let nothing = "nothing is published for this set; compare the digest with its source";
        return (Verdict::Unknown, broken.unwrap_or_else(|| nothing.into()));
    };
    let (verdict, remedy) = if measured.bytes != official.bytes {
        let part = if measured.bytes < official.bytes { "it is too short" } else { "it is too long" };
        (Verdict::WrongSize, format!("{part}; {again}"))
    } else if measured.digest.as_deref() != Some(official.digest) {
        (Verdict::WrongDigest, format!("its contents differ from the official file; {again}"))
    } else {
        return (Verdict::Ok, "nothing to do".into());
    };
    (verdict, broken.unwrap_or(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cifar;
    use crate::data::testdata::{IDX_NAMES, cifar_records, gz, refusal, write_idx};

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
    fn every_official_cifar_file_is_one_the_reader_wants() {
        for (set, layout) in [(&official::CIFAR_10, &cifar::CIFAR_10), (&official::CIFAR_100, &cifar::CIFAR_100)] {
            assert!(layout.members().eq(set.files.iter().map(|file| file.name)));
        }
    }

    #[test]
    fn a_folder_without_a_set_is_an_error() {
        assert!(refusal(verify(tempfile::tempdir().unwrap().path())).contains("holds no data set"));
    }
}
