//! Reports as JSON.

use super::leak_report::LeakReport;

impl LeakReport {
    /// Returns the report as an indented JSON document.
    pub fn to_json(&self) -> String {
        to_text(self)
    }
}

#[cfg(feature = "read")]
fn to_text(report: &LeakReport) -> String {
    serde_json::to_string_pretty(report).expect("every report can be written as JSON")
}

#[cfg(not(feature = "read"))]
fn to_text(report: &LeakReport) -> String {
    text_without_candidates(report)
}

/// Returns the same JSON as serde would, for a report without candidates. Without the feature
/// `read` there is no detector, so a report never has candidates.
#[cfg(any(test, not(feature = "read")))]
fn text_without_candidates(report: &LeakReport) -> String {
    debug_assert!(report.candidates.is_empty(), "no candidate can exist without a detector");
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

#[cfg(all(test, feature = "read"))]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_candidates_is_the_same_without_serde() {
        let mut report = LeakReport { tick: 7, uptime_ms: 8, omitted: 9, ..LeakReport::default() };
        assert_eq!(text_without_candidates(&report), to_text(&report));
        report.baseline_problem = Some("no \"dump\" in C:\\dumps\u{1}, été".into());
        let read: serde_json::Value =
            serde_json::from_str(&text_without_candidates(&report)).unwrap();
        assert_eq!(read, serde_json::to_value(&report).unwrap());
    }
}
