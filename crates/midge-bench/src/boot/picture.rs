//! The picture of the phases: a bar for each program, a colour for each phase, warm above cold.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::phases::{CALL, EXEC, PhaseFigures, short};
use super::{Cache, Figures, Found};
use crate::report::Computer;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const TITLE_HEIGHT: u32 = 46;
const BAR_HEIGHT: u32 = 34;
/// Of a panel, beside its bars: its title and its axis.
const PANEL_HEIGHT: u32 = 74;
const FOOT_HEIGHT: u32 = 72;
/// Room for the names of the bars.
const NAMES_WIDTH: u32 = 130;
/// How much longer than the longest bar the axis is: room for what is written behind it.
const AXIS_TO_BAR: f64 = 1.22;
const FONT: &str = "sans-serif";
/// The colour of text: dark on white, whatever the page around the picture is.
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const FAINT: RGBColor = RGBColor(0xd9, 0xdd, 0xe1);

/// The colours, in the order of the phases that they stand for. Those that take little share one.
const COLOURS: [(&str, &[&str], RGBColor); 9] = [
    ("exec", &[EXEC], RGBColor(0x8c, 0x97, 0xa3)),
    ("settings, manifest", &["settings", "manifest"], RGBColor(0xed, 0xc9, 0x48)),
    ("engine", &["engine"], RGBColor(0xf2, 0x8e, 0x2b)),
    ("check, load", &["check", "load"], RGBColor(0x4e, 0x79, 0xa7)),
    ("link", &["link"], RGBColor(0xe1, 0x57, 0x59)),
    ("prepare", &["prepare"], RGBColor(0x76, 0xb7, 0xb2)),
    ("instantiate", &["instantiate"], RGBColor(0x59, 0xa1, 0x4f)),
    ("first call", &[CALL], RGBColor(0xb0, 0x7a, 0xa1)),
    ("then to the exit", &[EXIT], RGBColor(0xe8, 0xea, 0xed)),
];
/// The name of what is left from the first instruction to the exit.
const EXIT: &str = "exit";

/// A bar: what it is of, and its pieces in milliseconds, one for each colour.
struct Bar {
    name: String,
    pieces: Vec<f64>,
    first: f64,
    exit: f64,
}

/// Draws where the time went, and writes it to a file as SVG.
pub(super) fn draw(path: &Path, found: &Found, at: &Computer) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let svg = svg(&found.rows, &found.phases, at)?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the picture. It is the same for the same figures, to the byte.
fn svg(rows: &[Figures], phases: &[PhaseFigures], at: &Computer) -> Result<String> {
    let panels: Vec<(&str, Vec<Bar>)> = [("warm page cache", Cache::Warm), ("cold page cache", Cache::Cold)]
        .into_iter()
        .map(|(title, cache)| (title, bars(rows, phases, cache)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let heights: Vec<u32> =
        panels.iter().map(|(_, bars)| PANEL_HEIGHT + BAR_HEIGHT * bars.len() as u32).collect();
    let height = TITLE_HEIGHT + heights.iter().sum::<u32>() + FOOT_HEIGHT;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        // The drawing library's errors borrow nothing, but are not all of one type.
        picture(&root, &panels, &heights, at).map_err(|error| anyhow!("cannot draw the picture: {error}"))?;
    }
    Ok(svg)
}

fn picture(
    root: &Area<'_>,
    panels: &[(&str, Vec<Bar>)],
    heights: &[u32],
    at: &Computer,
) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let (title, mut rest) = root.split_vertically(TITLE_HEIGHT);
    let title_style = (FONT, 20).into_font().color(&INK);
    title.draw_text(
        "From spawn to a job's first instruction, and to the exit (ms)",
        &title_style,
        (16, 16),
    )?;
    for ((title, bars), height) in panels.iter().zip(heights) {
        let (area, below) = rest.split_vertically(*height);
        panel(&area, title, bars)?;
        rest = below;
    }
    foot(&rest, at)?;
    root.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, title: &str, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    let longest = bars.iter().map(|bar| bar.exit).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 17).into_font().color(&INK))
        .margin_right(16)
        .x_label_area_size(34)
        .y_label_area_size(NAMES_WIDTH)
        .build_cartesian_2d(0.0..longest * AXIS_TO_BAR, 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_label_style((FONT, 14).into_font().color(&INK))
        .x_labels(9)
        .x_label_formatter(&|millis| format!("{millis:.1}"))
        .draw()?;
    for (line, bar) in bars.iter().rev().enumerate() {
        let bottom = line as f64;
        let mut left = 0.0;
        for ((_, _, colour), millis) in COLOURS.iter().zip(&bar.pieces) {
            let corners = [(left, bottom + 0.18), (left + millis, bottom + 0.82)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            left += millis;
        }
        let middle = bottom + 0.5;
        let text = |side| (FONT, 15).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
        let (x, y) = chart.plotting_area().map_coordinate(&(0.0, middle));
        area_text(area, &bar.name, &text(HPos::Right), (x - 8, y))?;
        let (x, y) = chart.plotting_area().map_coordinate(&(left, middle));
        let told = format!("{:.2}, exit {:.2}", bar.first, bar.exit);
        area_text(area, &told, &text(HPos::Left), (x + 6, y))?;
    }
    Ok(())
}

/// Writes at a point of the whole picture.
fn area_text(
    area: &Area<'_>,
    text: &str,
    style: &TextStyle<'_>,
    (x, y): (i32, i32),
) -> Result<(), Box<dyn std::error::Error>> {
    let (left, top) = area.get_base_pixel();
    area.draw_text(text, style, (x - left, y - top))?;
    Ok(())
}

/// Draws the legend, and below it the computer that was measured on.
fn foot(area: &Area<'_>, at: &Computer) -> Result<(), Box<dyn std::error::Error>> {
    let style = (FONT, 14).into_font().color(&INK);
    let mut x = 16;
    for (name, _, colour) in COLOURS {
        area.draw(&Rectangle::new([(x, 8), (x + 12, 20)], colour.filled()))?;
        area.draw(&Rectangle::new([(x, 8), (x + 12, 20)], INK.mix(0.3)))?;
        area.draw_text(name, &style, (x + 17, 9))?;
        // As wide as such letters are; the library cannot know the font.
        x += 38 + name.len() as i32 * 13 / 2;
    }
    let small = (FONT, 13).into_font().color(&INK.mix(0.75));
    area.draw_text("medians of each phase, of runs that tell them", &small, (16, 32))?;
    area.draw_text(&at.to_string(), &small, (16, 49))?;
    Ok(())
}

/// Returns the floor's bar and one for each program that told its phases.
fn bars(rows: &[Figures], phases: &[PhaseFigures], cache: Cache) -> Vec<Bar> {
    let floor = rows.iter().find(|row| row.is_floor(cache));
    let floor = floor.and_then(|row| {
        let first = row.first?.p50_us;
        Some(Bar::new("floor", |phase| (phase == EXEC).then_some(first), first, row.exit?.p50_us))
    });
    let told = phases.iter().filter(|told| told.cache == cache).filter_map(|told| {
        let median = |name: &str| told.phases.iter().find(|phase| phase.phase == name);
        let micros = |name: &str| median(name).map(|phase| phase.spent.p50_us);
        // To tell takes time before the exit, so that is the one of the runs that do not.
        let row = rows.iter().find(|row| row.program == told.program && row.cache == cache)?;
        Some(Bar::new(short(&told.program), micros, row.first?.p50_us, row.exit?.p50_us))
    });
    floor.into_iter().chain(told).collect()
}

impl Bar {
    /// Makes a bar of microseconds.
    fn new(name: &str, micros: impl Fn(&str) -> Option<f64>, first: f64, exit: f64) -> Bar {
        let spent = |phases: &[&str]| phases.iter().filter_map(|phase| micros(phase)).sum::<f64>() / 1e3;
        let mut pieces: Vec<f64> = COLOURS.iter().map(|(_, phases, _)| spent(phases)).collect();
        if let Some((last, to_first)) = pieces.split_last_mut() {
            *last = (exit / 1e3 - to_first.iter().sum::<f64>()).max(0.0);
        }
        Bar { name: name.to_owned(), pieces, first: first / 1e3, exit: exit / 1e3 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use midge_engine::start::StartPhase;

    use super::*;
    use crate::boot::phases::Phases;
    use crate::report::{Report, Spread};

    #[test]
    fn every_phase_has_a_colour() {
        let coloured: Vec<&str> = COLOURS.iter().flat_map(|(_, phases, _)| phases.iter().copied()).collect();
        for phase in StartPhase::ALL.map(StartPhase::as_str).into_iter().chain([EXEC, CALL, EXIT]) {
            assert_eq!(coloured.iter().filter(|coloured| **coloured == phase).count(), 1, "{phase}");
        }
    }

    #[test]
    fn a_bar_is_as_long_as_the_run() {
        let micros = |phase: &str| Some(if phase == EXEC { 400.0 } else { 10.0 });
        let bar = Bar::new("one", micros, 490.0, 1_000.0);
        assert_eq!(bar.pieces.len(), COLOURS.len());
        let whole: f64 = bar.pieces.iter().sum();
        assert!((whole - bar.exit).abs() < 1e-9, "{whole}");
    }

    #[test]
    fn there_is_a_panel_for_each_page_cache_that_was_measured() {
        let micros = |micros| Spread::of(vec![Duration::from_micros(micros)]);
        let told = |cache| PhaseFigures {
            program: "midge-host run stamp".to_owned(),
            cache,
            phases: PhaseFigures::of(&[Phases(vec![(EXEC, Duration::from_micros(400))])]),
            first: micros(400),
            exit: micros(900),
        };
        let at = Report::<Figures>::new("boot").computer;
        let row = |cache| Figures {
            program: "midge-host run stamp".to_owned(),
            cache,
            module_bytes: None,
            first: micros(400),
            exit: micros(900),
            first_to_floor: None,
            exit_to_floor: None,
        };
        let rows = [row(Cache::Warm), row(Cache::Cold)];
        let both = svg(&rows, &[told(Cache::Warm), told(Cache::Cold)], &at).unwrap();
        assert!(both.contains("warm page cache") && both.contains("cold page cache"));
        assert!(both.contains("0.40, exit 0.90") && both.ends_with("</svg>\n"));
        let warm = svg(&rows, &[told(Cache::Warm)], &at).unwrap();
        assert!(!warm.contains("cold page cache") && warm.len() < both.len());
        assert_eq!(warm, svg(&rows, &[told(Cache::Warm)], &at).unwrap());
    }
}
