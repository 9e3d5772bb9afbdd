//! One picture file, PNG or JPEG: its size, and its pixels as bytes.
//!
//! Which of the two a file is, is told from its first bytes. Palettes become colours, 16 bits become 8, transparency
//! is left out, CMYK becomes RGB; orientation marks of cameras are not obeyed. The decoders are the crates `png` and `zune-jpeg`; what
//! a header promises is compared with the length of the file before they allocate it, and a JPEG, which has
//! no checksum, must at least have its end.

use std::io::Cursor;
use std::path::Path;

use png::{ColorType, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::zip::MAX_EXPANSION;
use crate::error::{Error, Result};

/// The largest file that is read.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// Pixels times channels that a picture may have at most: 9,000 x 9,000 in colour.
const MAX_PIXELS: usize = 256 << 20;
const AGAIN: &str = "copy or download the file again, or remove it";

/// Width and height in pixels; channels are 1 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

impl Size {
    /// Refuses what `bytes` cannot hold: neither deflate nor the codes of a JPEG pack more than about a thousand to one.
    fn justified(self, raw: usize, bytes: &[u8]) -> Result<Self, String> {
        let pixels = self.width.saturating_mul(self.height).saturating_mul(self.channels);
        let most = (bytes.len() as u64).saturating_mul(MAX_EXPANSION);
        if pixels == 0 || pixels > MAX_PIXELS || raw as u64 > most {
            return Err(format!(
                "the header promises {}x{} pixels, which a file of {} bytes cannot hold",
                self.width,
                self.height,
                bytes.len()
            ));
        }
        Ok(self)
    }
}

/// The size of the picture that `bytes` are.
///
/// # Errors
/// `Data` when they are no PNG or JPEG, or promise more pixels than they can hold.
pub(super) fn size(path: &Path, bytes: &[u8]) -> Result<Size> {
    let size = match kind(bytes) {
        Kind::Png => open_png(bytes).map(|(_, size)| size),
        Kind::Jpeg => open_jpeg(bytes).map(|(_, size)| size),
        Kind::Other => Err("is neither a PNG nor a JPEG by its first bytes".to_owned()),
    };
    size.map_err(|what| refuse(path, &what))
}

/// The picture that `bytes` are, as planes of `size.channels`, each row by row.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<(Size, Vec<u8>)> {
    let decoded = match kind(bytes) {
        Kind::Png => decode_png(bytes),
        Kind::Jpeg => decode_jpeg(bytes),
        Kind::Other => Err("is neither a PNG nor a JPEG by its first bytes".to_owned()),
    };
    decoded.map_err(|what| refuse(path, &what))
}

/// Decodes `bytes`, as a check of this reader.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    decode(Path::new("x.png"), bytes).map(drop)
}

fn refuse(path: &Path, what: &str) -> Error {
    // Some errors of the decoders have several lines.
    let what: Vec<&str> = what.split(char::is_control).collect();
    Error::data(path, format!("{}; {AGAIN}", what.concat()))
}

enum Kind {
    Png,
    Jpeg,
    Other,
}

fn kind(bytes: &[u8]) -> Kind {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Kind::Png,
        [0xff, 0xd8, 0xff, ..] => Kind::Jpeg,
        _ => Kind::Other,
    }
}

/// A decoder that has read the header, and what that says.
type Opened<Decoder> = Result<(Decoder, Size), String>;

fn open_png(bytes: &[u8]) -> Opened<png::Reader<Cursor<&[u8]>>> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_PIXELS });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let broken = |error| format!("bad PNG ({error})");
    let header = decoder.read_header_info().map_err(broken)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let grey = matches!(header.color_type, ColorType::Grayscale | ColorType::GrayscaleAlpha);
    // Before the palette is applied: what has to come out of the deflate stream.
    let raw = header.raw_row_length().saturating_mul(height);
    let size = Size { width, height, channels: if grey { 1 } else { 3 } }.justified(raw, bytes)?;
    Ok((decoder.read_info().map_err(broken)?, size))
}

fn decode_png(bytes: &[u8]) -> Result<(Size, Vec<u8>), String> {
    let (mut reader, size) = open_png(bytes)?;
    let broken = |error| format!("bad PNG ({error})");
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("bad PNG (too large)")?];
    reader.next_frame(&mut pixels).map_err(broken)?;
    // What follows the pixels is checked too: the end must be there.
    reader.finish().map_err(broken)?;
    let (colour, _) = reader.output_color_type();
    Ok((size, planes(&pixels, colour.samples(), size)))
}

fn open_jpeg(bytes: &[u8]) -> Opened<JpegDecoder<ZCursor<&[u8]>>> {
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default().set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| format!("bad JPEG ({error:?})"))?;
    let (width, height) = decoder.dimensions().ok_or("bad JPEG (no frame)")?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let size = Size { width, height, channels: if grey { 1 } else { 3 } };
    let size = size.justified(width * height * size.channels, bytes)?;
    decoder.set_options(options.jpeg_set_out_colorspace(if grey { ColorSpace::Luma } else { ColorSpace::RGB }));
    Ok((decoder, size))
}

fn decode_jpeg(bytes: &[u8]) -> Result<(Size, Vec<u8>), String> {
    let (mut decoder, size) = open_jpeg(bytes)?;
    // The decoder fills what is missing with grey. Neither mark can stand inside of coded pixels.
    let last = |mark: [u8; 2]| bytes.windows(2).rposition(|two| two == mark);
    if last([0xff, 0xd9]) < last([0xff, 0xda]) {
        return Err(format!("bad JPEG (truncated: no end after {} bytes)", bytes.len()));
    }
    let pixels = decoder.decode().map_err(|error| format!("bad JPEG ({error:?})"))?;
    if pixels.len() != size.width * size.height * size.channels {
        return Err("bad JPEG (not all pixels are there)".to_owned());
    }
    Ok((size, planes(&pixels, size.channels, size)))
}

/// Pixels of `samples` bytes, of which the first are the channels, as planes.
fn planes(pixels: &[u8], samples: usize, size: Size) -> Vec<u8> {
    let channel = |c| pixels.iter().skip(c).step_by(samples).copied();
    let mut planes = Vec::with_capacity(size.width * size.height * size.channels);
    (0..size.channels).for_each(|c| planes.extend(channel(c)));
    planes
}

#[cfg(test)]
mod tests {
    use png::BitDepth;

    use super::*;
    use crate::data::testdata::{png, refusal};
    use crate::rng::{Rng, Stream};

    const JPEGS: [(&str, &[u8]); 5] = [
        ("colour", include_bytes!("../../tests/pictures/colour.jpg")),
        ("halved", include_bytes!("../../tests/pictures/halved.jpg")),
        ("progressive", include_bytes!("../../tests/pictures/progressive.jpg")),
        ("cmyk", include_bytes!("../../tests/pictures/cmyk.jpg")),
        ("grey", include_bytes!("../../tests/pictures/grey.jpg")),
    ];

    fn read(bytes: &[u8]) -> Result<(Size, Vec<u8>)> {
        decode(Path::new("x"), bytes)
    }

    #[test]
    fn a_png_comes_back_as_planes() {
        for (samples, channels) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
            let pixels: Vec<u8> = (0..6 * samples).map(|i| i as u8).collect();
            let (size, planes) = read(&png(3, 2, samples, &pixels)).unwrap();
            assert_eq!(size, Size { width: 3, height: 2, channels });
            let expected: Vec<u8> = (0..channels).flat_map(|c| (0..6).map(move |p| (p * samples + c) as u8)).collect();
            assert_eq!(planes, expected, "{samples} samples");
        }
    }

    #[test]
    fn palettes_and_other_depths_become_bytes() {
        let encode = |colour, depth, palette: &[u8], data: &[u8]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
            encoder.set_color(colour);
            encoder.set_depth(depth);
            if !palette.is_empty() {
                encoder.set_palette(palette.to_vec());
            }
            encoder.write_header().unwrap().write_image_data(data).unwrap();
            bytes
        };
        let palette = encode(ColorType::Indexed, BitDepth::One, &[1, 2, 3, 40, 50, 60], &[0x40]);
        assert_eq!(read(&palette).unwrap().1, [1, 40, 2, 50, 3, 60]);
        let deep = encode(ColorType::Grayscale, BitDepth::Sixteen, &[], &[0x12, 0x34, 0xff, 0xff]);
        assert_eq!(read(&deep).unwrap().1, [0x12, 0xff]);
        let shallow = encode(ColorType::Grayscale, BitDepth::Two, &[], &[0x60]);
        assert_eq!(read(&shallow).unwrap().1, [85, 170]);
    }

    #[test]
    fn every_kind_of_jpeg_is_close_to_what_it_was_made_from() {
        for (name, bytes) in JPEGS {
            let (measured, planes) = read(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let channels = if name == "grey" { 1 } else { 3 };
            assert_eq!(
                (measured, measured),
                (Size { width: 24, height: 16, channels }, size(Path::new("x"), bytes).unwrap())
            );
            for (i, &value) in planes.iter().enumerate() {
                let (c, y, x) = (i / 384, i / 24 % 16, i % 24);
                let expected = [10 * x, 10 * y, 128][c] as f64;
                let allowed = if name == "halved" { 24.0 } else { 10.0 };
                assert!((f64::from(value) - expected).abs() < allowed, "{name}, channel {c} at {x}, {y}: {value}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_anywhere_is_refused() {
        let whole = png(20, 20, 3, &(0..1200).map(|i| (i * i / 7) as u8).collect::<Vec<u8>>());
        for bytes in JPEGS.map(|(_, bytes)| bytes).into_iter().chain([&whole[..]]) {
            for len in 0..bytes.len() {
                refusal(read(&bytes[..len]));
            }
        }
        let mut wrong = whole.clone();
        wrong[whole.len() / 2] ^= 1;
        assert!(refusal(read(&wrong)).contains("x: bad PNG"));
    }

    #[test]
    fn headers_that_promise_too_much_are_refused_before_anything_is_allocated() {
        let mut large = png(1, 1, 1, &[0]);
        large[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let crc = {
            let mut crc = flate2::Crc::new();
            crc.update(&large[12..29]);
            crc.sum()
        };
        large[29..33].copy_from_slice(&crc.to_be_bytes());
        let message = refusal(read(&large));
        assert!(
            message.contains("promises 16384x16384 pixels, which a file of 6") && message.contains("remove it"),
            "{message}"
        );
        let mut large = JPEGS[0].1.to_vec();
        let frame = large.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
        large[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
        assert!(refusal(read(&large)).contains("promises 16384x16384 pixels"));
        assert!(refusal(read(b"GIF89a")).contains("is neither a PNG nor a JPEG by its first bytes"));
    }

    #[test]
    fn mutated_files_are_read_or_refused_but_never_panic() {
        let whole = png(20, 20, 3, &(0..1200).map(|i| (i * i / 7) as u8).collect::<Vec<u8>>());
        let files: Vec<&[u8]> = JPEGS.map(|(_, bytes)| bytes).into_iter().chain([&whole[..]]).collect();
        let mut rng = Rng::new(8, Stream::Init);
        let mut refused = 0;
        for round in 0..3000 {
            let mut bytes = files[round % files.len()].to_vec();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.below(256) as u8;
            }
            if let Err(error) = check(&bytes) {
                refused += 1;
                assert!(matches!(error, Error::Data { .. }), "{error}");
            }
        }
        assert!((500..3000).contains(&refused), "{refused}");
    }
}
