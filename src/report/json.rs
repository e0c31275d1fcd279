//! A report as JSON.

use super::leak_report::LeakReport;

impl LeakReport {
    /// The report as a JSON document, indented.
    pub fn to_json(&self) -> String {
        text(self)
    }
}

#[cfg(feature = "analysis")]
fn text(report: &LeakReport) -> String {
    serde_json::to_string_pretty(report).expect("a report has nothing that JSON cannot hold")
}

#[cfg(not(feature = "analysis"))]
fn text(report: &LeakReport) -> String {
    text_without_candidates(report)
}

/// As with serde, of a report without candidates: without the feature `analysis` there is no
/// way to make one.
#[cfg(any(test, not(feature = "analysis")))]
fn text_without_candidates(report: &LeakReport) -> String {
    debug_assert!(report.candidates.is_empty(), "nothing is recorded");
    let LeakReport { version, tick, uptime_ms, tested_sites, omitted, .. } = report;
    let problem = report.baseline_problem.as_ref().map_or_else(String::new, |problem| {
        let mut escaped = String::new();
        for c in problem.chars() {
            match c {
                '"' | '\\' => escaped.extend(['\\', c]),
                c if c.is_ascii_control() => escaped += &format!("\\u{:04x}", u32::from(c)),
                c => escaped.push(c),
            }
        }
        format!(",\n  \"baseline_problem\": \"{escaped}\"")
    });
    format!(
        "{{\n  \"version\": {version},\n  \"tick\": {tick},\n  \"uptime_ms\": {uptime_ms},\n  \
         \"tested_sites\": {tested_sites},\n  \"candidates\": [],\n  \"omitted\": {omitted}{problem}\n}}"
    )
}

#[cfg(all(test, feature = "analysis"))]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_candidates_is_the_same_without_serde() {
        let mut report = LeakReport { tick: 7, uptime_ms: 8, omitted: 9, ..LeakReport::default() };
        assert_eq!(text_without_candidates(&report), text(&report));
        report.baseline_problem = Some("no \"dump\" in C:\\dumps\u{1}, été".into());
        let read: serde_json::Value =
            serde_json::from_str(&text_without_candidates(&report)).unwrap();
        assert_eq!(read, serde_json::to_value(&report).unwrap());
    }
}
