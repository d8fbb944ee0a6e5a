//! Latency against load.

use millstream_load::Schedule;
use millstream_load::driver::Mode;

use super::Bench;
use super::scenario::Scenario;
use crate::error::{CliError, CliResult};

/// Finds the saturated rate of a load, then offers parts of it.
pub(super) async fn run(bench: &mut Bench<'_>, scenario: &Scenario) -> CliResult<()> {
    let saturated = bench.run(scenario).await?;
    let most = saturated.payments_per_second;
    bench.report.scenarios.push(saturated);
    for percent in bench.args.percents() {
        let rate = (most * f64::from(percent) / 100.0) as u64;
        let mode = Mode::Offered(Schedule::new(scenario.channels, scenario.lines, rate)?);
        let report = bench.run(&Scenario { name: format!("offered {percent} %"), mode, ..scenario.clone() }).await?;
        bench.report.scenarios.push(report);
    }
    let Some(file) = &bench.args.chart else { return Ok(()) };
    let points: Vec<_> = bench.report.scenarios.iter().filter_map(millstream_load::chart::Point::of).collect();
    let title = format!("{} payments a signature, {} connections", scenario.lines, scenario.connections);
    std::fs::write(file, millstream_load::chart::svg(&title, &points, most))
        .map_err(|error| CliError::failed("chart", format!("cannot write {}: {error}", file.display())))
}
