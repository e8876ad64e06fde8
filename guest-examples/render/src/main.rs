//! A long calculation that says how far it is: the Mandelbrot set as a PNG.

use midge_job::{Bytes, Error, Result};
use serde::Deserialize;

/// Pixels of the picture: as a PNG they must fit into a result.
const PIXELS_MAX: u64 = 32_000_000;
/// Keeps one pixel from taking the whole time limit.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Past this radius a point never comes back. Larger than the needed 2, for smoother colours.
const ESCAPE_RADIUS_SQUARED: f64 = 256.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    width: u32,
    height: u32,
    /// How long a point is followed before it counts as inside.
    #[serde(default = "default_iterations")]
    iterations: u32,
    /// The point in the middle of the picture.
    #[serde(default = "default_centre")]
    centre: (f64, f64),
    /// How wide the picture is on the plane.
    #[serde(default = "default_span")]
    span: f64,
}

fn default_iterations() -> u32 {
    500
}

fn default_centre() -> (f64, f64) {
    (-0.5, 0.0)
}

fn default_span() -> f64 {
    3.5
}

#[midge_job::main]
fn render(args: Args) -> Result<Bytes> {
    args.check()?;
    let row_bytes = args.width as usize * 3;
    let mut pixels = Vec::with_capacity(row_bytes * args.height as usize);
    // A hundred steps are as fine as a progress bar.
    let rows_per_progress = args.height.div_ceil(100);
    for y in 0..args.height {
        if y % rows_per_progress == 0 {
            midge_job::progress(y.into(), args.height.into(), "rows");
        }
        for x in 0..args.width {
            pixels.extend(colour(args.escape(x, y)));
        }
    }
    midge_job::progress(args.height.into(), args.height.into(), "rows");
    encode(&pixels, args.width, args.height).map(Bytes)
}

impl Args {
    fn check(&self) -> Result<()> {
        let pixels = u64::from(self.width) * u64::from(self.height);
        if !(1..=PIXELS_MAX).contains(&pixels) {
            return Err(Error::refuse(format!(
                "a picture of {}x{} has {pixels} pixels, where 1 to {PIXELS_MAX} can be",
                self.width, self.height
            )));
        }
        if !(1..=ITERATIONS_MAX).contains(&self.iterations) {
            let iterations = self.iterations;
            return Err(Error::refuse(format!("{iterations} iterations are not 1 to {ITERATIONS_MAX}")));
        }
        if !(self.span > 0.0 && self.span.is_finite()) {
            return Err(Error::refuse(format!("a span of {} shows nothing", self.span)));
        }
        Ok(())
    }

    /// Returns after how many steps the point under a pixel escapes, with a fraction; nothing where it does not.
    fn escape(&self, x: u32, y: u32) -> Option<f64> {
        let pixel = self.span / f64::from(self.width);
        let cx = self.centre.0 + (f64::from(x) + 0.5 - f64::from(self.width) / 2.0) * pixel;
        let cy = self.centre.1 + (f64::from(y) + 0.5 - f64::from(self.height) / 2.0) * pixel;
        let (mut zx, mut zy) = (0.0, 0.0);
        for step in 0..self.iterations {
            let (xx, yy) = (zx * zx, zy * zy);
            if xx + yy > ESCAPE_RADIUS_SQUARED {
                // Normalised iteration count: removes the bands between whole steps.
                return Some(f64::from(step) + 1.0 - ((xx + yy).ln() / 2.0).log2());
            }
            (zx, zy) = (xx - yy + cx, 2.0 * zx * zy + cy);
        }
        None
    }
}

/// Returns red, green and blue: black inside, and outside three waves that never meet.
fn colour(escape: Option<f64>) -> [u8; 3] {
    let Some(steps) = escape else { return [0, 0, 0] };
    let turn = steps.max(0.0).sqrt() * 0.9;
    [3.4, 4.0, 4.9].map(|phase| ((turn + phase).sin() * 127.0 + 128.0) as u8)
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use midge_job::Disposition;

    use super::*;

    fn args(width: u32, height: u32) -> Args {
        Args { width, height, iterations: 200, centre: default_centre(), span: default_span() }
    }

    #[test]
    fn the_set_is_black_and_symmetric_and_the_rest_is_not_black() {
        let png = render(args(70, 40)).unwrap().0;
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (70, 40));
        let pixel = |x: usize, y: usize| &pixels[(y * 70 + x) * 3..][..3];
        assert_eq!(pixel(35, 20), [0, 0, 0]); // -0.475 is inside
        assert_ne!(pixel(0, 0), [0, 0, 0]); // -2.2 - i is outside
        for x in 0..70 {
            for y in 0..20 {
                assert_eq!(pixel(x, y), pixel(x, 39 - y));
            }
        }
    }

    #[test]
    fn a_picture_that_cannot_be_is_refused() {
        let huge = args(100_000, 100_000);
        let empty = args(0, 10);
        let endless = Args { iterations: u32::MAX, ..args(10, 10) };
        let flat = Args { span: 0.0, ..args(10, 10) };
        for args in [huge, empty, endless, flat] {
            assert_eq!(render(args).unwrap_err().disposition(), Disposition::Refuse);
        }
    }
}
