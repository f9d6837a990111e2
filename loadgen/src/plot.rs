//! `--plot FILE.svg`: latency by percentile above, by time below.

use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::measure::Measured;

const SIZE: (u32, u32) = (960, 720);
/// Percentiles are drawn by nines: 90 % is 1, 99 % is 2, and so on up to this.
const NINES_MAX: f64 = 5.0;
/// Points of the percentile curve for each nine.
const POINTS_PER_NINE: u32 = 40;

type Failed = Box<dyn std::error::Error>;

/// Draws the picture; `objection`: why its figures must not be used, which stands in it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(
    file: &Path,
    title: &str,
    objection: Option<&str>,
    measured: &Measured,
) -> Result<(), Failed> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1 / 2);
    by_percentile(&above, title, measured)?;
    by_time(&below, objection, measured)?;
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn by_percentile(area: &Area<'_>, title: &str, measured: &Measured) -> Result<(), Failed> {
    let top = milliseconds(measured.latency.max()).max(0.001) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..NINES_MAX, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency, ms")
        .x_labels(6)
        .x_label_formatter(&|nines| format!("{}", percent(*nines)))
        .draw()?;
    let curves = [
        ("from the intended send", &measured.latency, BLUE),
        ("from the actual send", &measured.service, RED),
    ];
    for (name, histogram, color) in curves {
        if histogram.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(percentile_curve(histogram), &color))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).draw()?;
    Ok(())
}

fn by_time(area: &Area<'_>, objection: Option<&str>, measured: &Measured) -> Result<(), Failed> {
    let curves = [(50.0, "p50", BLUE), (99.0, "p99", MAGENTA), (100.0, "max", RED)];
    let end = measured.intervals.last().map_or(1.0, |(at, _)| at.as_secs_f64()).max(0.1);
    let top = milliseconds(measured.latency.max()).max(0.001) * 1.1;
    let mut chart = ChartBuilder::on(area);
    if let Some(objection) = objection {
        chart.caption(format!("INVALID: {objection}"), ("sans-serif", 14).into_font().color(&RED));
    }
    let mut chart = chart
        .margin(12)
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart.configure_mesh().x_desc("seconds since the warm-up").y_desc("latency, ms").draw()?;
    for (percentile, name, color) in curves {
        let points = measured.intervals.iter().map(|(at, part)| {
            (at.as_secs_f64(), milliseconds(part.value_at_percentile(percentile)))
        });
        chart
            .draw_series(LineSeries::new(points, &color))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).draw()?;
    Ok(())
}

fn percentile_curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let points = 0..=POINTS_PER_NINE * 5;
    points
        .map(|point| {
            let nines = f64::from(point) / f64::from(POINTS_PER_NINE);
            (nines, milliseconds(histogram.value_at_percentile(percent(nines))))
        })
        .collect()
}

/// 0 → 0, 1 → 90, 2 → 99, 3 → 99.9.
fn percent(nines: f64) -> f64 {
    let percent = 100.0 - 100.0 / 10_f64.powf(nines);
    (percent * 1e4).round() / 1e4
}

#[allow(clippy::cast_precision_loss, reason = "a picture for people")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;
    use std::time::Duration;

    #[test]
    fn nines_are_percentiles() {
        let shown: Vec<f64> = [0.0, 1.0, 2.0, 3.0].into_iter().map(percent).collect();
        assert_eq!(shown, [0.0, 90.0, 99.0, 99.9]);
    }

    #[test]
    fn a_run_without_service_times_still_has_its_picture() {
        let mut latency = histogram();
        latency.saturating_record(3_000_000);
        let intervals = vec![(Duration::ZERO, latency.clone())];
        let measured = Measured { latency, service: histogram(), skew: histogram(), intervals };
        let name = format!("loadgen-plot-{}.svg", std::process::id());
        let file = std::env::temp_dir().join(name);
        let text = |objection| {
            write(&file, "a title", objection, &measured).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            text
        };
        let invalid = text(Some("3 deliveries lost"));
        assert!(invalid.contains("INVALID: 3 deliveries lost"), "a bad run says so in its picture");
        let text = text(None);
        assert!(!text.contains("INVALID"));
        assert!(text.starts_with("<svg") && text.contains("a title") && text.contains("polyline"));
    }
}
