//! The pictures that are uploaded, and what the service does with one.
//!
//! The pictures are generated: rings of colour under noise. So they compress about as badly as
//! photographs, and an upload is several megabytes, as in the outage.

use std::fmt;
use std::io::{BufRead, Cursor, Seek};
use std::thread;

use anyhow::{Context, Result, anyhow};
use axum::body::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits, RgbImage};

/// Size of the regular pictures, in pixels.
const REGULAR_SIZE: (u32, u32) = (2400, 1600);
/// Size of the one picture that the fixed service must refuse.
const OVERSIZED_SIZE: (u32, u32) = (5200, 4000);
/// Largest width and height that the fixed service decodes.
const MAX_SIDE: u32 = 4096;
/// Largest decoded picture that the fixed service allocates memory for, in bytes.
const MAX_DECODED_BYTES: u64 = 48 << 20;
const JPEG_QUALITY: u8 = 95;
const THUMBNAIL_SIZE: (u32, u32) = (240, 160);
const THUMBNAIL_QUALITY: u8 = 80;
const BYTES_PER_PIXEL: u64 = 3;

/// Bytes of the decoded picture that every regular upload carries.
pub(crate) const REGULAR_DECODED_BYTES: u64 =
    REGULAR_SIZE.0 as u64 * REGULAR_SIZE.1 as u64 * BYTES_PER_PIXEL;
/// Bytes of the decoded oversized picture.
pub(crate) const OVERSIZED_DECODED_BYTES: u64 =
    OVERSIZED_SIZE.0 as u64 * OVERSIZED_SIZE.1 as u64 * BYTES_PER_PIXEL;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Png,
    Jpeg,
}

/// A picture as a client has it: a name, a type and an encoded file.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) file_name: String,
    pub(crate) mime: &'static str,
    pub(crate) encoded: Bytes,
    size: (u32, u32),
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        let encoded_mib = self.encoded.len() as f64 / f64::from(1 << 20);
        write!(f, "{}: {width} x {height}, a file of {encoded_mib:.1} MiB", self.file_name)
    }
}

/// Everything that the load generator sends.
#[derive(Debug)]
pub(crate) struct Pictures {
    /// Sent in turn, during the whole run.
    pub(crate) regular: Vec<Picture>,
    /// Sent once, beyond the limits of the fixed service.
    pub(crate) oversized: Picture,
}

/// Draws and encodes the pictures, each on a thread of its own.
pub(crate) fn make_pictures() -> Result<Pictures> {
    let orders = [
        ("meadow.png", Encoding::Png, REGULAR_SIZE, 48),
        ("harbour.jpg", Encoding::Jpeg, REGULAR_SIZE, 48),
        ("street.png", Encoding::Png, REGULAR_SIZE, 40),
        ("night.jpg", Encoding::Jpeg, REGULAR_SIZE, 40),
        // Few bytes on the wire, many in memory.
        ("poster.jpg", Encoding::Jpeg, OVERSIZED_SIZE, 0),
    ];
    let mut made = thread::scope(|scope| {
        let workers: Vec<_> = orders
            .iter()
            .enumerate()
            .map(|(index, &(name, encoding, size, noise))| {
                scope.spawn(move || make_picture(name, encoding, size, noise, index as u32 + 1))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("drawing a picture panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let oversized = made.pop().context("no pictures were ordered")?;
    Ok(Pictures { regular: made, oversized })
}

fn make_picture(
    name: &str,
    encoding: Encoding,
    size: (u32, u32),
    noise: u32,
    seed: u32,
) -> Result<Picture> {
    let canvas = draw(size, noise, seed);
    let mut encoded = Vec::new();
    let mime = match encoding {
        Encoding::Png => {
            let encoder = PngEncoder::new_with_quality(
                &mut encoded,
                CompressionType::Fast,
                FilterType::Adaptive,
            );
            encoder.write_image(&canvas, size.0, size.1, ExtendedColorType::Rgb8)?;
            "image/png"
        }
        Encoding::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut encoded, JPEG_QUALITY);
            encoder.write_image(&canvas, size.0, size.1, ExtendedColorType::Rgb8)?;
            "image/jpeg"
        }
    };
    Ok(Picture { file_name: name.to_owned(), mime, encoded: encoded.into(), size })
}

/// Rings of colour, with `noise` levels of noise on every channel.
fn draw((width, height): (u32, u32), noise: u32, seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    RgbImage::from_fn(width, height, |x, y| {
        // Marsaglia's xorshift32, which is fast and good enough for noise.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let ring = (x * x / 4096 + y * y / 4096 + x * y / (2048 * seed)) as u8;
        let channel = |shade: u8, shift: u32| {
            let grain = if noise == 0 { 0 } else { (state >> shift) % noise };
            (u32::from(shade) * 3 / 4 + grain).min(255) as u8
        };
        image::Rgb([channel(ring, 0), channel(ring.wrapping_add(85), 8), channel(!ring, 16)])
    })
}

/// The limits that the fixed service decodes under.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

/// Reads the header of an encoded picture. The caller reads the pixels into a buffer of its own.
pub(crate) fn open<'a>(
    file: impl BufRead + Seek + 'a,
    limits: Limits,
) -> image::ImageResult<impl ImageDecoder + 'a> {
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    decoder.set_limits(limits)?;
    Ok(decoder)
}

/// Shrinks a decoded picture and encodes it again.
pub(crate) fn thumbnail(picture: &RgbImage) -> image::ImageResult<Vec<u8>> {
    let (width, height) = THUMBNAIL_SIZE;
    let small = image::imageops::thumbnail(picture, width, height);
    let mut encoded = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut encoded, THUMBNAIL_QUALITY).encode_image(&small)?;
    Ok(encoded.into_inner())
}
