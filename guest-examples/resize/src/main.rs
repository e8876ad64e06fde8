//! A JPEG or PNG in, the same picture at another width out.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use midge_job::{Bytes, Error, Result};
use serde::Deserialize;

/// Pixels of the result. Resampling needs about 40 bytes for each.
const PIXELS_MAX: u64 = 4_000_000;
/// What the decoder may allocate for the picture: 40 megapixels.
const DECODE_BYTES_MAX: u64 = 120 * 1024 * 1024;
const JPEG_QUALITY: u8 = 85;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    /// In pixels. The height follows, so that the picture keeps its shape.
    width: u32,
    /// That of the input where nothing is said.
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Jpeg,
    Png,
}

#[midge_job::main]
fn resize(args: Args) -> Result<Bytes> {
    let input = midge_job::input()?;
    let (photo, orientation, input_format) = decode(&input)?;
    drop(input);
    let (width, height) = size(&photo, orientation, args.width)?;
    let mut resized = resample(photo, width, height);
    // Last, when there are fewest pixels to turn.
    resized.apply_orientation(orientation);
    encode(&resized, args.format.unwrap_or(input_format)).map(Bytes)
}

/// Reads a picture as it is stored, and how it is to be turned: cameras note how they were held.
fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation, Format)> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = match reader.format() {
        Some(ImageFormat::Jpeg) => Format::Jpeg,
        Some(ImageFormat::Png) => Format::Png,
        _ => return Err(Error::refuse("the input is neither a JPEG nor a PNG")),
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let broken = |error| Error::refuse(format!("the input is not a picture that can be read: {error}"));
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let photo = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((photo, orientation, format))
}

/// Returns the size of the result before it is turned, or refuses a width that cannot be.
fn size(photo: &DynamicImage, orientation: Orientation, width: u32) -> Result<(u32, u32)> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let on_its_side = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    let (from_width, from_height) =
        if on_its_side { (photo.height(), photo.width()) } else { (photo.width(), photo.height()) };
    let height = (f64::from(from_height) * f64::from(width) / f64::from(from_width)).round().max(1.0);
    if width == 0 || height * f64::from(width) > PIXELS_MAX as f64 {
        return Err(Error::refuse(format!(
            "a picture of {from_width}x{from_height} cannot become {width} wide: that makes {width}x{height} pixels, \
             where 1 to {PIXELS_MAX} can be"
        )));
    }
    let height = height as u32;
    Ok(if on_its_side { (height, width) } else { (width, height) })
}

/// Scales in two steps where that saves much: good filters compute with floats, four for each pixel they read.
fn resample(mut photo: DynamicImage, width: u32, height: u32) -> DynamicImage {
    if photo.width() / 2 > width && photo.height() / 2 > height {
        photo = photo.thumbnail_exact(width * 2, height * 2);
    }
    photo.resize_exact(width, height, FilterType::CatmullRom)
}

fn encode(photo: &DynamicImage, format: Format) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match format {
        // JPEG knows no transparency and no 16 bits.
        Format::Jpeg => {
            photo.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?
        }
        Format::Png => photo.write_with_encoder(PngEncoder::new(&mut bytes))?,
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Rgb};
    use midge_job::Disposition;
    use midge_job::testing::Given;

    use super::*;

    /// Blue on the left, red on the right.
    fn photo(width: u32, height: u32, format: Format) -> Vec<u8> {
        let pixels = ImageBuffer::from_fn(width, height, |x, _| {
            if x < width / 2 { Rgb([0u8, 0, 255]) } else { Rgb([255u8, 0, 0]) }
        });
        encode(&pixels.into(), format).unwrap()
    }

    fn resized(input: &[u8], width: u32, format: Option<Format>) -> Result<(DynamicImage, Format)> {
        let result = Given::new().input(input).run(|| resize(Args { width, format }))?;
        let (photo, _, format) = decode(&result.0)?;
        Ok((photo, format))
    }

    #[test]
    fn a_picture_keeps_its_shape_colours_and_format() {
        for format in [Format::Jpeg, Format::Png] {
            let (small, small_format) = resized(&photo(640, 480, format), 160, None).unwrap();
            assert_eq!((small.width(), small.height(), small_format), (160, 120, format));
            let pixels = small.to_rgb8();
            assert!(pixels.get_pixel(10, 60)[2] > 240 && pixels.get_pixel(150, 60)[0] > 240);
        }
    }

    #[test]
    fn a_picture_can_change_its_format() {
        let jpeg = photo(64, 64, Format::Jpeg);
        assert_eq!(resized(&jpeg, 32, Some(Format::Png)).unwrap().1, Format::Png);
    }

    #[test]
    fn a_photo_of_a_tilted_camera_is_turned_upright() {
        let mut tilted = photo(300, 200, Format::Jpeg);
        // EXIF, after the marker that begins the file: one entry, orientation (0x0112) 6, "turn right".
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], &exif[..]].concat();
        tilted.splice(2..2, segment);
        let (upright, _) = resized(&tilted, 50, None).unwrap();
        assert_eq!((upright.width(), upright.height()), (50, 75));
        let pixels = upright.to_rgb8();
        assert!(pixels.get_pixel(25, 5)[2] > 240 && pixels.get_pixel(25, 70)[0] > 240);
    }

    #[test]
    fn a_line_does_not_vanish() {
        let (thin, _) = resized(&photo(1000, 1, Format::Png), 10, None).unwrap();
        assert_eq!((thin.width(), thin.height()), (10, 1));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let whole = photo(64, 64, Format::Png);
        for bytes in [&b""[..], b"GIF89a", b"hello", &whole[..whole.len() / 2], &whole[..20]] {
            let error = resized(bytes, 32, None).unwrap_err();
            assert_eq!(error.disposition(), Disposition::Refuse, "{error}");
        }
    }

    #[test]
    fn a_size_that_cannot_be_is_refused() {
        let photo = photo(64, 64, Format::Png);
        for width in [0, 3_000, u32::MAX] {
            let error = resized(&photo, width, None).unwrap_err();
            assert_eq!(error.disposition(), Disposition::Refuse, "{error}");
        }
    }
}
