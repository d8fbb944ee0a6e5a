//! The curve of latency against load, as one SVG file without outside assets: readable on light and dark ground.

use std::fmt::Write;

use crate::report::ScenarioReport;

/// Size of the picture and of the margins around the plot, in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 64.0;

/// A curve, and which latency it shows.
struct Curve {
    name: &'static str,
    colour: &'static str,
    value: fn(&Point) -> f64,
}

const CURVES: [Curve; 3] = [
    Curve { name: "p50", colour: "#2a9d8f", value: |point| point.p50_ms },
    Curve { name: "p99", colour: "#e08a1e", value: |point| point.p99_ms },
    Curve { name: "p99.9", colour: "#d1495b", value: |point| point.p999_ms },
];

/// Text and axes: a grey that is told from white and from black.
const INK: &str = "#7a7f87";

/// Latencies at one load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Payments a second that were offered.
    pub offered: f64,
    /// Half of the frames took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 % of the frames took no longer.
    pub p99_ms: f64,
    /// 99.9 % of the frames took no longer.
    pub p999_ms: f64,
}

impl Point {
    /// The point of an open loop; nothing for another run, or one without a sample.
    #[must_use]
    pub fn of(report: &ScenarioReport) -> Option<Self> {
        let offered = report.offered_payments_per_second.filter(|_| report.latency.samples > 0)?;
        let latency = &report.latency;
        Some(Self { offered: offered as f64, p50_ms: latency.p50_ms, p99_ms: latency.p99_ms, p999_ms: latency.p999_ms })
    }
}

/// Draws the points; `saturated` is the rate that a closed loop reached, marked by a line.
#[must_use]
pub fn svg(title: &str, points: &[Point], saturated: f64) -> String {
    let mut points = points.to_vec();
    points.sort_by(|left, right| left.offered.total_cmp(&right.offered));
    let scale = Scale::of(&points, saturated);
    let mut out = String::new();
    scale.draw(&mut out, title, &points, saturated).unwrap_or_default();
    out
}

/// Where a load and a latency are in the picture.
struct Scale {
    load_max: f64,
    /// Powers of ten of milliseconds.
    low: i32,
    high: i32,
}

impl Scale {
    fn of(points: &[Point], saturated: f64) -> Self {
        let load_max = points.iter().map(|point| point.offered).fold(saturated, f64::max).max(1.0) * 1.05;
        let values = || points.iter().flat_map(|point| CURVES.iter().map(|curve| (curve.value)(point))).filter(|value| *value > 0.0);
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(0.0, f64::max);
        let power = |value: f64, round: fn(f64) -> f64| if value.is_finite() && value > 0.0 { round(value.log10()) as i32 } else { 0 };
        let low = power(low, f64::floor);
        Self { load_max, low, high: power(high, f64::ceil).max(low + 1) }
    }

    fn x(&self, load: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * load / self.load_max
    }

    fn y(&self, millis: f64) -> f64 {
        let part = (millis.max(1e-9).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part.clamp(0.0, 1.0)
    }

    fn draw(&self, out: &mut String, title: &str, points: &[Point], saturated: f64) -> std::fmt::Result {
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">"#
        )?;
        let title = escaped(title);
        writeln!(out, "<title>Ack latency against offered load: {title}</title>")?;
        writeln!(out, r#"<text x="{LEFT}" y="24" font-size="15" font-weight="600">Ack latency against offered load: {title}</text>"#)?;
        self.axes(out)?;
        if saturated > 0.0 {
            let (x, bottom) = (self.x(saturated), HEIGHT - BOTTOM);
            writeln!(out, r#"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="{INK}" stroke-dasharray="2 4"/>"#)?;
            writeln!(out, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle" font-size="11">saturated</text>"#, TOP - 6.0)?;
        }
        let mut names_y: Vec<f64> = Vec::new();
        for Curve { name, colour, value } in CURVES {
            let path: Vec<String> =
                points.iter().map(|point| format!("{:.1},{:.1}", self.x(point.offered), self.y(value(point)))).collect();
            writeln!(out, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.5"/>"#, path.join(" "))?;
            for point in points {
                let (x, y, millis) = (self.x(point.offered), self.y(value(point)), value(point));
                writeln!(
                    out,
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"><title>{name} {} at {} payments/s</title></circle>"#,
                    milliseconds(millis),
                    count(point.offered)
                )?;
            }
            if let Some(last) = points.last() {
                let (x, mut y) = (self.x(last.offered) + 10.0, self.y(value(last)) + 4.0);
                // Names of curves that end together are put above each other.
                while names_y.iter().any(|taken| (taken - y).abs() < 15.0) {
                    y -= 15.0;
                }
                names_y.push(y);
                let millis = milliseconds(value(last));
                writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" fill="{colour}" font-weight="600">{name} {millis}</text>"#)?;
            }
        }
        writeln!(out, "</svg>")
    }

    fn axes(&self, out: &mut String) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for power in self.low..=self.high {
            let (millis, y) = (10f64.powi(power), self.y(10f64.powi(power)));
            writeln!(out, r#"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="{INK}" stroke-opacity="0.35"/>"#)?;
            let text_y = y + 4.0;
            writeln!(out, r#"<text x="{}" y="{text_y:.1}" text-anchor="end">{}</text>"#, LEFT - 8.0, milliseconds(millis))?;
        }
        let step = step(self.load_max);
        let mut load = 0.0;
        while load <= self.load_max {
            let x = self.x(load);
            writeln!(out, r#"<line x1="{x:.1}" y1="{bottom}" x2="{x:.1}" y2="{}" stroke="{INK}"/>"#, bottom + 5.0)?;
            writeln!(out, r#"<text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#, bottom + 20.0, count(load))?;
            load += step;
        }
        writeln!(out, r#"<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{INK}"/>"#)?;
        writeln!(out, r#"<line x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom}" stroke="{INK}"/>"#)?;
        let (middle_x, middle_y) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
        writeln!(out, r#"<text x="{middle_x}" y="{}" text-anchor="middle">payments offered a second</text>"#, HEIGHT - 18.0)?;
        writeln!(
            out,
            r#"<text x="18" y="{middle_y}" text-anchor="middle" transform="rotate(-90 18 {middle_y})">from the intended time to the ack</text>"#
        )
    }
}

/// A step of 1, 2 or 5 times a power of ten that makes four to ten ticks.
fn step(max: f64) -> f64 {
    let power = 10f64.powf((max / 10.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| max / step <= 8.0).unwrap_or(10.0 * power)
}

/// A count as people write it: `250k`, `1.5M`.
fn count(value: f64) -> String {
    let with_unit = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    if value >= 1e6 {
        with_unit(value / 1e6, "M")
    } else if value >= 1e3 {
        with_unit(value / 1e3, "k")
    } else {
        with_unit(value, "")
    }
}

/// Milliseconds with a fitting unit.
fn milliseconds(millis: f64) -> String {
    if millis >= 1_000.0 {
        format!("{} s", count(millis / 1_000.0))
    } else if millis >= 1.0 {
        format!("{} ms", count(millis))
    } else {
        format!("{} µs", count((millis * 1_000.0).round()))
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        vec![
            Point { offered: 1_100_000.0, p50_ms: 40.0, p99_ms: 900.0, p999_ms: 1_200.0 },
            Point { offered: 100_000.0, p50_ms: 0.4, p99_ms: 1.5, p999_ms: 4.0 },
            Point { offered: 500_000.0, p50_ms: 0.8, p99_ms: 3.0, p999_ms: 9.0 },
        ]
    }

    /// Every tag is closed, in order: enough XML for what is drawn here.
    fn is_well_formed(text: &str) -> bool {
        let mut open: Vec<&str> = Vec::new();
        for tag in text.split('<').skip(1) {
            let Some((tag, rest)) = tag.split_once('>') else { return false };
            if rest.contains('>') || tag.matches('"').count() % 2 == 1 {
                return false;
            }
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_picture_is_well_formed_and_has_every_point() {
        let text = svg("64 lines & <100> connections", &points(), 1_000_000.0);
        assert!(is_well_formed(&text), "{text}");
        assert!(text.starts_with("<svg ") && text.contains("&lt;100&gt;"));
        assert_eq!(text.matches("<circle").count(), 9);
        assert_eq!(text.matches("<polyline").count(), 3);
        for said in ["p50 400 µs at 100k payments/s", "p99 3 ms at 500k payments/s", "p99.9 1.2 s at 1.1M payments/s", "saturated"] {
            assert!(text.contains(said), "{said} not in {text}");
        }
        assert!(!text.contains("href") && !text.contains("url("), "no outside asset");
    }

    #[test]
    fn curves_go_right_with_load_and_up_with_latency() {
        let scale = Scale::of(&points(), 0.0);
        assert!(scale.x(100_000.0) < scale.x(500_000.0) && scale.y(0.4) > scale.y(40.0));
        assert_eq!((scale.low, scale.high), (-1, 4));
        // Ten times the latency is the same way everywhere: the scale is logarithmic.
        assert!(((scale.y(0.1) - scale.y(1.0)) - (scale.y(100.0) - scale.y(1_000.0))).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_drawn_too() {
        assert!(is_well_formed(&svg("", &[], 0.0)));
        assert!(is_well_formed(&svg("", &[Point { offered: 10.0, ..Point::default() }], 0.0)));
        assert!(!is_well_formed("<a><b></a>") && !is_well_formed("<a") && !is_well_formed("<a x=\"></a>"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([count(0.0), count(250_000.0), count(1_500_000.0), count(12.0)], ["0", "250k", "1.5M", "12"]);
        assert_eq!([milliseconds(0.1), milliseconds(1.0), milliseconds(10_000.0)], ["100 µs", "1 ms", "10 s"]);
        assert_eq!([step(1_100_000.0), step(80.0), step(1.05)], [200_000.0, 10.0, 0.2]);
    }
}
