//! Puts template, style, scripts and numbers into one HTML file.
//!
//! The scripts in `page/` are modules, so their dependencies are explicit and Node can load them.
//! Here they are joined into one script, leaf modules first, without their imports and exports.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::output::terminal;

const PAGE: &str = include_str!("page/page.html");
const STYLES: [&str; 2] =
    [include_str!("vendor/uplot/uPlot.min.css"), include_str!("page/page.css")];
/// A classic script, not a module. It defines one global name, `uPlot`.
const CHARTS: &str = include_str!("vendor/uplot/uPlot.iife.min.js");
const CHARTS_LICENCE: &str = include_str!("vendor/uplot/LICENSE");
const MODULES: [&str; 18] = [
    include_str!("page/units.js"),
    include_str!("page/dom.js"),
    include_str!("page/significance.js"),
    include_str!("page/heap.js"),
    include_str!("page/tree.js"),
    include_str!("page/state.js"),
    include_str!("page/colors.js"),
    include_str!("page/names.js"),
    include_str!("page/icicle.js"),
    include_str!("page/rows.js"),
    include_str!("page/table.js"),
    include_str!("page/chart.js"),
    include_str!("page/timeline.js"),
    include_str!("page/bars.js"),
    include_str!("page/growth.js"),
    include_str!("page/candidates.js"),
    include_str!("page/recording.js"),
    include_str!("page/main.js"),
];

/// The page with the JSON document in it.
pub(super) fn html(title: &str, json: &str) -> String {
    let script = joined(&MODULES);
    let style = STYLES.concat();
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; script-src {} {}; style-src {}",
        digest(CHARTS),
        digest(&script),
        digest(&style)
    );
    let (form, data) = document(json);
    let title = text(title);
    let mut html = String::with_capacity(data.len() + script.len() + CHARTS.len() + (64 << 10));
    for part in PAGE.split("{{") {
        let Some((slot, rest)) = part.split_once("}}") else {
            html.push_str(part);
            continue;
        };
        html.push_str(match slot {
            "policy" => &policy,
            "title" => &title,
            "style" => &style,
            "licence" => CHARTS_LICENCE.trim_end(),
            "charts" => CHARTS,
            "form" => form,
            "data" => &data,
            "script" => &script,
            other => unreachable!("page.html has no slot {other}"),
        });
        html.push_str(rest);
    }
    html
}

/// Joins modules into one script.
fn joined(modules: &[&str]) -> String {
    let lines = modules.iter().flat_map(|module| module.lines());
    let kept = lines.filter(|line| !line.starts_with("import "));
    kept.map(|line| line.strip_prefix("export ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The digest of a script or a style in the form that the policy needs.
fn digest(source: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(source)))
}

/// Documents with more bytes are compressed. Shorter ones are not, so that any program can search
/// the page for a name.
const LONG: usize = 4 << 20;

/// The media type of the embedded document, and its text.
fn document(json: &str) -> (&'static str, String) {
    if json.len() > LONG {
        ("application/gzip", compressed(json))
    } else {
        ("application/json", in_script(json))
    }
}

/// Escapes JSON so that it cannot end its script element or begin a comment. The characters occur
/// only in strings, where their escapes have the same meaning.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Compresses JSON to base64, a third to a half of its length. Base64 cannot end the script
/// element.
fn compressed(json: &str) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let written = gzip.write_all(json.as_bytes()).and_then(|()| gzip.finish());
    STANDARD.encode(written.expect("memory takes what is written to it"))
}

/// Escapes text for an element.
fn text(text: &str) -> String {
    let text = terminal::printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn modules_are_joined_without_imports_and_exports() {
        let script =
            joined(&["export const a = 1;\n", "import { a } from \"./a.js\";\nlet b = a;\n"]);
        assert_eq!(script, "const a = 1;\nlet b = a;");
        let whole = joined(&MODULES);
        for line in whole.lines() {
            assert!(!line.starts_with("} from ") && !line.starts_with("export"), "{line}");
        }
    }

    #[test]
    fn scripts_and_styles_cannot_end_their_elements() {
        for source in [CHARTS, &joined(&MODULES)] {
            assert!(!source.contains("</script") && !source.contains("<!--"));
        }
        assert!(!STYLES.concat().contains("</style"));
        assert!(!CHARTS_LICENCE.contains("-->"));
    }

    const HOSTILE: &str = "</script><script>alert(1)</script><!--\u{2028}{{data}}";

    #[test]
    fn names_cannot_leave_the_document() {
        let page = html("a<b>", &format!("[\"{HOSTILE}\"]"));
        assert!(page.contains("a&lt;b&gt;"));
        assert!(page.contains("[\"\\u003c/script>\\u003cscript>alert(1)"));
        assert_eq!(page.matches("</script>").count(), 3);
        assert!(!page.contains('\u{2028}'));
    }

    #[test]
    fn a_long_document_is_compressed() {
        let json = format!("[\"{HOSTILE}{}\"]", " ".repeat(LONG));
        let page = html("a<b>", &json);
        assert!(page.len() < LONG && !page.contains("alert(1)"));
        assert_eq!(page.matches("</script>").count(), 3);
        let (_, data) = page.split_once("type=\"application/gzip\" id=\"data\">").unwrap();
        let data = STANDARD.decode(data.split('<').next().unwrap()).unwrap();
        let mut unpacked = String::new();
        GzDecoder::new(&*data).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, json);
    }
}
