//! OFF: a mesh as text, as ModelNet has it.
//!
//! `OFF`, the numbers of vertices, faces and edges, then one vertex a line (x y z) and one face a
//! line (n, then n vertices counted from 0). Read as well: `#` comments, blank lines, further numbers after a
//! vertex or a face (colours, normals, texture coordinates: `COFF`, `NOFF`, `STOFF` ...), polygons, a missing
//! keyword, and the keyword glued to the first count (`OFF28048 35408 0`), which many files of ModelNet
//! have. Refused: vertices of another dimension than 3 (`4OFF`, `nOFF`), `OFF BINARY`, and OOGL, of which a bare
//! mesh is a part.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};

/// Coordinates beyond this are no model; it keeps sums and squares finite.
const LARGEST: f64 = 1e100;
const REMEDY: &str = "copy or download the file again";

/// Polygons in space.
#[derive(Debug)]
pub(super) struct Mesh {
    /// x, y, z; finite, and not all the same.
    pub vertices: Vec<[f64; 3]>,
    /// The vertices of all faces, one face after the other; each is there.
    corners: Vec<u32>,
    /// For each face the end of its vertices in `corners`.
    ends: Vec<u32>,
}

impl Mesh {
    /// Reads the mesh in `bytes`, the contents of `path`.
    ///
    /// # Errors
    /// `Data` with the byte at which something else was expected.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { path, bytes, at: 0 };
        let (vertex_count, face_count) = reader.header()?;
        let vertices = reader.vertices(vertex_count)?;
        let (corners, ends) = reader.faces(face_count, vertex_count)?;
        if let Some(line) = reader.line() {
            let message = format!("goes on after its {face_count} faces, at byte {}", line.start);
            return Err(reader.error(message));
        }
        let extent = |axis: usize| {
            let values = || vertices.iter().map(move |v: &[f64; 3]| v[axis]);
            values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min)
        };
        if (0..3).all(|axis| extent(axis) < 1.0 / LARGEST) {
            return Err(reader.error("has all its vertices in one point"));
        }
        Ok(Self { vertices, corners, ends })
    }

    /// Three vertices for every triangle; a polygon is a fan around its first vertex, and a face of one or two
    /// vertices a triangle without area.
    pub fn triangles(&self) -> impl Iterator<Item = [u32; 3]> + '_ {
        let mut start = 0;
        self.ends.iter().flat_map(move |&end| {
            let face = &self.corners[start..end as usize];
            start = end as usize;
            let last = face.len() - 1;
            (1..last.max(2)).map(move |i| [face[0], face[i.min(last)], face[(i + 1).min(last)]])
        })
    }
}

/// Any bytes are a mesh or a named error.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    Mesh::parse(Path::new("mesh.off"), bytes).map(drop)
}

/// A place in the text.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::data(self.path, format!("{message}; {REMEDY}"))
    }

    /// The next line that has more than blanks and a comment on it, without its comment.
    fn line(&mut self) -> Option<Range<usize>> {
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
            let text = rest[..length].split(|&b| b == b'#').next().unwrap_or_default();
            let line = self.at..self.at + text.len();
            self.at += length + 1;
            if !text.trim_ascii().is_empty() {
                return Some(line);
            }
        }
        None
    }

    /// The next line, or an error that says in which of `count` things the file ends.
    fn expect(&mut self, what: &str, i: usize, count: usize) -> Result<Words<'a>> {
        match self.line() {
            Some(line) => Ok(Words { bytes: self.bytes, line }),
            None => Err(self.error(format!("ends at byte {} before {what} {i} of {count}", self.bytes.len()))),
        }
    }

    /// Vertices and faces promised, no more than there are bytes for.
    fn header(&mut self) -> Result<(usize, usize)> {
        let Some(line) = self.line() else {
            return Err(self.error("is empty where the keyword OFF was expected"));
        };
        let mut words = Words { bytes: self.bytes, line };
        self.keyword(&mut words)?;
        if words.is_empty() {
            words = self.expect("the numbers of vertices and faces, line", 1, 1)?;
        }
        let (vertices, faces) = (self.count(&mut words, "vertices")?, self.count(&mut words, "faces")?);
        let left = self.bytes.len().saturating_sub(self.at) + 1;
        // `0 0 0` and `1 0` are the shortest vertex and face; each ends with a line.
        let needed = vertices.saturating_mul(6).saturating_add(faces.saturating_mul(4));
        if needed > left || vertices > u32::MAX as usize {
            let message = format!(
                "promises {vertices} vertices and {faces} faces and has {} bytes for them from byte {}",
                left - 1,
                self.at.min(self.bytes.len())
            );
            return Err(self.error(message));
        }
        if vertices == 0 || faces == 0 {
            return Err(self.error(format!("holds {vertices} vertices and {faces} faces, which is no surface")));
        }
        Ok((vertices, faces))
    }

    /// Steps over the keyword, which may be missing or glued to the first count.
    fn keyword(&self, words: &mut Words<'a>) -> Result<()> {
        let mut rest = words.clone();
        let (at, word) = rest.next().unwrap_or_default();
        let Some(place) = word.windows(3).position(|w| w == b"OFF") else {
            if word.iter().all(u8::is_ascii_digit) {
                return Ok(());
            }
            let word = String::from_utf8_lossy(&word[..word.len().min(20)]).into_owned();
            let message = format!("has {word:?} at byte {at} where the keyword OFF was expected; save the bare mesh");
            return Err(Error::data(self.path, message));
        };
        let prefix = String::from_utf8_lossy(&word[..place]).escape_debug().to_string();
        if prefix.contains(['4', 'n']) {
            let message = format!("is {prefix:.20}OFF, whose vertices are not three-dimensional; project it first");
            return Err(Error::data(self.path, message));
        }
        if !["", "ST"].iter().any(|st| ["", "C", "N", "CN"].iter().any(|cn| prefix == format!("{st}{cn}"))) {
            return Err(self.error(format!("has the unknown keyword {prefix:.20}OFF at byte {at}")));
        }
        if rest.clone().next().is_some_and(|(_, word)| word == b"BINARY") {
            return Err(Error::data(self.path, "is a binary OFF file; save it as text"));
        }
        words.line.start = at + place + 3;
        Ok(())
    }

    /// The next word as an unsigned number.
    fn count(&self, words: &mut Words<'a>, what: &str) -> Result<usize> {
        let (at, word) = words.next().unwrap_or((words.line.end, b""));
        let number = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| {
            let word = String::from_utf8_lossy(&word[..word.len().min(20)]).into_owned();
            self.error(format!("has {word:?} at byte {at} where the number of {what} was expected"))
        })
    }

    fn vertices(&mut self, count: usize) -> Result<Vec<[f64; 3]>> {
        let mut vertices = Vec::with_capacity(count);
        for i in 0..count {
            let mut words = self.expect("vertex", i, count)?;
            let mut vertex = [0.0; 3];
            for value in &mut vertex {
                *value = self.coordinate(&mut words, i)?;
            }
            vertices.push(vertex);
        }
        Ok(vertices)
    }

    fn coordinate(&self, words: &mut Words<'a>, vertex: usize) -> Result<f64> {
        let (at, word) = words.next().unwrap_or((words.line.end, b""));
        let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
        // Not a number is not within the range either.
        number.filter(|x| x.abs() <= LARGEST).ok_or_else(|| {
            let word = String::from_utf8_lossy(&word[..word.len().min(20)]).into_owned();
            self.error(format!("has {word:?} at byte {at} where a coordinate of vertex {vertex} was expected"))
        })
    }

    /// Corners of all faces, and where each face ends.
    fn faces(&mut self, count: usize, vertices: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let (mut corners, mut ends) = (Vec::new(), Vec::with_capacity(count));
        for i in 0..count {
            let mut words = self.expect("face", i, count)?;
            let start = words.line.start;
            let sides = self.count(&mut words, "vertices of a face")?;
            if sides == 0 {
                return Err(self.error(format!("has a face without vertices, face {i}, at byte {start}")));
            }
            for _ in 0..sides {
                let corner = self.count(&mut words, "a vertex of a face")?;
                if corner >= vertices {
                    let message = format!(
                        "has vertex {corner} in face {i} at byte {start}; its vertices are 0 to {}",
                        vertices - 1
                    );
                    return Err(self.error(message));
                }
                corners.push(corner as u32);
            }
            let Ok(end) = u32::try_from(corners.len()) else {
                return Err(Error::data(self.path, "has more than 4 billion corners; simplify the mesh"));
            };
            ends.push(end);
        }
        Ok((corners, ends))
    }
}

/// The words of a line, with the byte at which each begins.
#[derive(Clone)]
struct Words<'a> {
    bytes: &'a [u8],
    line: Range<usize>,
}

impl<'a> Words<'a> {
    fn is_empty(&self) -> bool {
        self.clone().next().is_none()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line = &self.bytes[self.line.clone()];
        let blanks = line.iter().position(|b| !b.is_ascii_whitespace())?;
        let word = &line[blanks..];
        let length = word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len());
        let at = self.line.start + blanks;
        self.line.start = at + length;
        Some((at, &word[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    fn parse(text: &str) -> Result<Mesh> {
        Mesh::parse(Path::new("some.off"), text.as_bytes())
    }

    fn triangles(text: &str) -> Vec<[u32; 3]> {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).triangles().collect()
    }

    const BODY: &str = "0 0 0\n1 0 0\n1 1 0\n-.5 1e0 0.\n3 0 1 2\n3 0 2 3\n";

    #[test]
    fn every_way_to_write_the_head_gives_the_same_mesh() {
        for head in [
            "OFF\n4 2 5\n",
            "OFF\r\n4 2 5\r\n",
            "OFF\r4 2 5\r",
            "OFF4 2 0\n",
            "OFF 4 2 5\n",
            "# a comment\n\n  OFF # and another\n\n4 2\n",
            "4 2 5\n",
            "COFF\n4 2 5\n",
            "STCNOFF\n4 2 5\n",
            "NOFF4 2 5\n",
        ] {
            let mesh = parse(&format!("{head}{BODY}")).unwrap_or_else(|e| panic!("{head:?}: {e}"));
            assert_eq!(mesh.vertices, [[0., 0., 0.], [1., 0., 0.], [1., 1., 0.], [-0.5, 1., 0.]], "{head:?}");
            assert_eq!(mesh.triangles().collect::<Vec<_>>(), [[0, 1, 2], [0, 2, 3]], "{head:?}");
        }
    }

    #[test]
    fn colours_comments_and_blank_lines_between_are_no_part_of_the_mesh() {
        let text = "COFF\n#c\n3 2 0\n0 0 0 .5 .5 .5 1\n\n1 0 0\t255 0 0 255 # red\n 0 1 0\r\n3 0 1 2 0.3 0.4 0.5\n#\n3 2 1 0 7";
        assert_eq!(triangles(text), [[0, 1, 2], [2, 1, 0]]);
    }

    #[test]
    fn polygons_are_fans_and_thin_faces_triangles_without_area() {
        let text = "OFF 5 4 0\n0 0 0\n1 0 0\n2 1 0\n1 2 0\n0 1 0\n5 4 0 1 2 3\n1 3\n2 3 1\n3 0 1 2\n";
        let expected = [[4, 0, 1], [4, 1, 2], [4, 2, 3], [3, 3, 3], [3, 1, 1], [0, 1, 2]];
        assert_eq!(triangles(text), expected);
    }

    #[test]
    fn other_files_are_refused_with_what_to_do() {
        for (text, why) in [
            ("", "is empty where the keyword OFF was expected; copy or download"),
            ("4OFF\n1 1 0\n", "is 4OFF, whose vertices are not three-dimensional; project it"),
            ("nOFF\n3\n1 1 0\n", "is nOFF"),
            ("XOFF\n1 1 0\n", "unknown keyword XOFF at byte 0"),
            ("OFF BINARY\n\0\0", "is a binary OFF file; save it as text"),
            ("# x\nappearance {\n", "\"appearance\" at byte 4 where the keyword OFF was expected; save the bare mesh"),
            ("solid ascii", "\"solid\" at byte 0"),
        ] {
            let message = refusal(parse(text));
            assert!(message.starts_with("some.off: ") && message.contains(why), "{text:?}: {message}");
        }
    }

    #[test]
    fn damage_is_named_with_its_byte() {
        let good = format!("OFF\n4 2 5\n{BODY}");
        assert!(parse(&good).is_ok());
        for (right, wrong, why) in [
            ("4 2 5", "4 x 5", "has \"x\" at byte 6 where the number of faces was expected"),
            ("4 2 5", "4", "has \"\" at byte 5 where the number of faces was expected"),
            ("4 2 5", "-4 2 5", "\"-4\" at byte 4"),
            ("4 2 5", "0 2 5", "holds 0 vertices and 2 faces, which is no surface"),
            ("4 2 5", "4 0 5", "holds 4 vertices and 0 faces"),
            ("4 2 5", "4000 2 5", "promises 4000 vertices and 2 faces and has 45 bytes for them from byte 13"),
            ("4 2 5", "4 18446744073709551615 5", "promises 4 vertices and 18446744073709551615 faces"),
            ("4 2 5", "5 2 5", "ends at byte 55 before face 1 of 2"),
            ("4 2 5", "4 3 5", "ends at byte 55 before face 2 of 3"),
            ("4 2 5", "4 1 5", "goes on after its 1 faces, at byte 47"),
            ("1 1 0", "1 nan 0", "has \"nan\" at byte 24 where a coordinate of vertex 2 was expected"),
            ("1 1 0", "1 inf 0", "\"inf\" at byte 24"),
            ("1 1 0", "1 1e101 0", "\"1e101\" at byte 24"),
            ("1 1 0", "1 1", "has \"\" at byte 25 where a coordinate of vertex 2"),
            ("3 0 2 3", "3 0 2 4", "has vertex 4 in face 1 at byte 47; its vertices are 0 to 3"),
            ("3 0 2 3", "3 0 -2 3", "has \"-2\" at byte 51"),
            ("3 0 2 3", "3 0 2", "has \"\" at byte 52"),
            ("3 0 2 3", "0", "has a face without vertices, face 1, at byte 47"),
        ] {
            let text = good.replacen(right, wrong, 1);
            let message = refusal(parse(&text));
            assert!(message.contains(why), "{wrong:?}: {message}");
        }
        assert!(refusal(parse("OFF 2 1 0\n5 5 5\n5 5 5\n3 0 1 0")).contains("all its vertices in one point"));
    }

    #[test]
    fn every_cut_of_a_file_is_an_error_and_no_panic() {
        let good = format!("OFF\n4 2 5\n{BODY}");
        let enough = good.len() - 1; // the last line needs no end
        for end in 0..enough {
            // Cut within the last number, it may read as another one that is there.
            assert!(check(&good.as_bytes()[..end]).is_err(), "{:?}", &good[..end]);
        }
        assert!(check(&good.as_bytes()[..enough]).is_ok());
    }
}
