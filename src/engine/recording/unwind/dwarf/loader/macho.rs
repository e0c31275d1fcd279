//! Parses the load commands of a Mach-O image: where its code and its unwind tables are, and its
//! UUID.
//!
//! The functions are pure and work on bytes, with offsets as in `<mach-o/loader.h>`. All addresses
//! are those that the file states; those in memory differ by a constant, the slide.

use std::ops::Range;

/// `sizeof(struct mach_header_64)`.
pub(super) const HEADER_BYTES: usize = 32;

const MAGIC_64: u32 = 0xfeed_facf;
const LC_SEGMENT_64: u32 = 0x19;
const LC_UUID: u32 = 0x1b;

/// `sizeof(struct segment_command_64)`; its sections follow.
const SEGMENT_BYTES: usize = 72;

/// `sizeof(struct section_64)`.
const SECTION_BYTES: usize = 80;

/// The contents of the load commands. The range of an absent section is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// The UUID of `LC_UUID`, or empty.
    pub(super) uuid: Vec<u8>,
    /// The segment `__TEXT`, which begins with the header and contains all code.
    pub(super) text_segment: Range<u64>,
    /// The offset of `__TEXT` in the file.
    pub(super) file_offset: u64,
    pub(super) text: Range<u64>,
    pub(super) stubs: Range<u64>,
    pub(super) stub_helper: Range<u64>,
    pub(super) got: Range<u64>,
    pub(super) unwind_info: Range<u64>,
    pub(super) eh_frame: Range<u64>,
}

/// The size of a header with its load commands, or `None` if this is not the header of a 64-bit
/// image in this machine's byte order.
pub(super) fn commands_end(header: &[u8]) -> Option<usize> {
    let is_image = u32_at(header, 0)? == MAGIC_64;
    is_image.then_some(HEADER_BYTES + u32_at(header, 20)? as usize)
}

/// Parses the header and the load commands of an image. Parsing stops at a malformed command.
/// Returns `None` without a header or without `__TEXT`.
pub(super) fn parse(bytes: &[u8]) -> Option<Image> {
    let mut commands = bytes.get(HEADER_BYTES..commands_end(bytes)?)?;
    let mut image = Image::default();
    for _ in 0..u32_at(bytes, 16)? {
        let (Some(kind), Some(size)) = (u32_at(commands, 0), u32_at(commands, 4)) else { break };
        let Some((command, rest)) = commands.split_at_checked(size as usize) else { break };
        // A size below that of the two words just read would make no progress.
        if command.len() < 8 {
            break;
        }
        match kind {
            LC_SEGMENT_64 => _ = read_segment(command, &mut image),
            LC_UUID => image.uuid = command.get(8..24).unwrap_or_default().to_vec(),
            _ => {}
        }
        commands = rest;
    }
    (!image.text_segment.is_empty()).then_some(image)
}

fn read_segment(command: &[u8], image: &mut Image) -> Option<()> {
    if name_at(command, 8)? == b"__TEXT" {
        image.text_segment = range_at(command, 24)?;
        image.file_offset = u64_at(command, 40)?;
    }
    let sections = command.get(SEGMENT_BYTES..)?.chunks_exact(SECTION_BYTES);
    for section in sections.take(u32_at(command, 64)? as usize) {
        let range = match (name_at(section, 16)?, name_at(section, 0)?) {
            (b"__TEXT", b"__text") => &mut image.text,
            (b"__TEXT", b"__stubs") => &mut image.stubs,
            (b"__TEXT", b"__stub_helper") => &mut image.stub_helper,
            (b"__TEXT", b"__unwind_info") => &mut image.unwind_info,
            (b"__TEXT", b"__eh_frame") => &mut image.eh_frame,
            (_, b"__got") => &mut image.got,
            _ => continue,
        };
        *range = range_at(section, 32)?;
    }
    Some(())
}

/// Reads an address and a size.
fn range_at(bytes: &[u8], offset: usize) -> Option<Range<u64>> {
    let start = u64_at(bytes, offset)?;
    Some(start..start.checked_add(u64_at(bytes, offset + 8)?)?)
}

/// Reads a name of at most 16 bytes, padded with zeros.
fn name_at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    bytes.get(offset..offset + 16)?.split(|byte| *byte == 0).next()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> [u8; 16] {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        name
    }

    /// A load command: its kind, its size and its body.
    fn command(kind: u32, body: &[u8]) -> Vec<u8> {
        let size = 8 + body.len() as u32;
        [&kind.to_ne_bytes()[..], &size.to_ne_bytes(), body].concat()
    }

    fn segment(segment: &str, address: u64, size: u64, sections: &[(&str, u64, u64)]) -> Vec<u8> {
        let mut body = name(segment).to_vec();
        for value in [address, size, 0, size] {
            body.extend(value.to_ne_bytes());
        }
        for value in [5, 5, sections.len() as u32, 0] {
            body.extend(value.to_ne_bytes());
        }
        for (section, address, size) in sections {
            body.extend([name(section), name(segment)].concat());
            body.extend([address.to_ne_bytes(), size.to_ne_bytes()].concat());
            // Offset, alignment, relocations, flags and three reserved words.
            body.extend([0; 32]);
        }
        command(LC_SEGMENT_64, &body)
    }

    fn image(commands: &[Vec<u8>]) -> Vec<u8> {
        let bytes = commands.concat();
        // Processor, its subtype, file type; number and size of commands; flags, reserved.
        let header =
            [MAGIC_64, 0x0100_000c, 0, 2, commands.len() as u32, bytes.len() as u32, 0x85, 0];
        [header.map(u32::to_ne_bytes).concat(), bytes].concat()
    }

    /// What Apple's linker writes for a small arm64 executable.
    fn executable() -> Vec<u8> {
        let text = [
            ("__text", 0x1_0000_0f00, 0x2000),
            ("__stubs", 0x1_0000_2f00, 0x60),
            ("__unwind_info", 0x1_0000_3000, 0x400),
            ("__eh_frame", 0x1_0000_3400, 0x100),
        ];
        image(&[
            segment("__PAGEZERO", 0, 0x1_0000_0000, &[]),
            segment("__TEXT", 0x1_0000_0000, 0x4000, &text),
            segment("__DATA_CONST", 0x1_0000_4000, 0x4000, &[("__got", 0x1_0000_4000, 0x40)]),
            command(LC_UUID, &[7; 16]),
            // LC_MAIN, which the parser skips.
            command(0x8000_0028, &[0; 16]),
        ])
    }

    #[test]
    fn segments_sections_and_the_uuid_are_found() {
        let bytes = executable();
        assert_eq!(commands_end(&bytes), Some(bytes.len()));
        let expected = Image {
            uuid: vec![7; 16],
            text_segment: 0x1_0000_0000..0x1_0000_4000,
            file_offset: 0,
            text: 0x1_0000_0f00..0x1_0000_2f00,
            stubs: 0x1_0000_2f00..0x1_0000_2f60,
            stub_helper: 0..0,
            got: 0x1_0000_4000..0x1_0000_4040,
            unwind_info: 0x1_0000_3000..0x1_0000_3400,
            eh_frame: 0x1_0000_3400..0x1_0000_3500,
        };
        assert_eq!(parse(&bytes), Some(expected));
    }

    #[test]
    fn bytes_that_are_no_image_are_rejected() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"\x7fELF and a little more, so that a header would have room"), None);
        let without_text = image(&[segment("__DATA", 0x4000, 0x4000, &[])]);
        assert_eq!(parse(&without_text), None);
    }

    /// An image that is truncated anywhere, or in which any one byte is wrong, is parsed without a
    /// panic and without reading past its end.
    #[test]
    fn damaged_images_never_panic() {
        let bytes = executable();
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), None, "the commands do not end at {len}");
        }
        for at in 0..bytes.len() {
            for wrong in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = wrong;
                _ = parse(&damaged);
            }
        }
    }

    #[test]
    fn a_command_of_size_zero_stops_the_parser() {
        let mut bytes = executable();
        // Clears the size of the first command, which `__TEXT` follows.
        bytes[HEADER_BYTES + 4..HEADER_BYTES + 8].fill(0);
        assert_eq!(parse(&bytes), None);
    }
}
