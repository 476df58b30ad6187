//! Gives back the text of the program that only its start needed.
//!
//! The kernel maps a program's file in pieces of 64 KiB around each page that is touched, and what is mapped stays
//! mapped, so a process whose start wanders through a large program is charged for most of it although it
//! needs little from then on. What is given back here stays in the page cache, which all processes of the program
//! share: what is used again is mapped again by a minor fault, without a read.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use tikv_jemallocator::Jemalloc;

/// The allocator of all programs that have this crate. What threads of short life or a burst have needed goes back
/// to the system after ten seconds, by a thread of its own; glibc's kept it in an arena for each thread.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Unmaps what is resident of the own executable's text and constants: how many bytes that was.
///
/// To be called once, when a process has started and goes over to what it will do for long.
///
/// # Errors
///
/// When `/proc` is not there, or the kernel refuses; nothing is lost then but the memory.
pub fn give_back_start() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for Unmodified { range, resident } in unmodified(&mappings, &program) {
        unmap(range)?;
        bytes += resident;
    }
    Ok(bytes)
}

/// A mapping of which the file knows every byte.
#[derive(Debug, PartialEq, Eq)]
struct Unmodified {
    range: Range<usize>,
    /// Bytes.
    resident: usize,
}

/// The mappings of a program that are private, cannot be written, and have no page that differs from the file:
/// no relocations, no break points of debuggers.
fn unmodified(mappings: &str, program: &Path) -> Vec<Unmodified> {
    let mut found = Vec::new();
    let mut current = None;
    for line in mappings.lines() {
        if let Some(range) = mapping_of(line, program) {
            current = range.map(|range| Unmodified { range, resident: 0 });
            continue;
        }
        let Some(mapping) = &mut current else {
            continue;
        };
        if let Some(resident) = bytes_of(line, "Rss:") {
            mapping.resident = resident;
        } else if bytes_of(line, "Anonymous:") == Some(0) {
            // Not before it says so: a mapping without the line is left alone.
            found.extend(current.take());
        }
    }
    found
}

/// What the first line of a mapping says, if it is one: the range, if it is one of the program that cannot be written.
fn mapping_of(line: &str, program: &Path) -> Option<Option<Range<usize>>> {
    let mut fields = line.splitn(6, ' ').filter(|field| !field.is_empty());
    let (from, to) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(from)?..address(to)?;
    let is_fixed = matches!(fields.next()?, "r-xp" | "r--p");
    let file = fields.last()?.trim_start();
    Some((is_fixed && Path::new(file) == program).then_some(range))
}

/// `Rss:  4 kB`.
fn bytes_of(line: &str, name: &str) -> Option<usize> {
    let kib = line.strip_prefix(name)?.strip_suffix("kB")?.trim();
    kib.parse::<usize>().ok()?.checked_mul(1024)
}

#[expect(
    unsafe_code,
    reason = "no crate has a safe call that gives a program's own text back"
)]
fn unmap(range: Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range is a private mapping of a file which the process cannot write to and of which it has no
    // page of its own, so whoever reads it next sees the same bytes, from the file.
    let result = unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: &str = "\
55e176b12000-55e176ddb000 r--p 00000000 fe:00 5448070                    /opt/a b/periplus
Size:               2852 kB
Rss:                1080 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55e176ddb000-55e177b1a000 r-xp 002c8000 fe:00 5448070                    /opt/a b/periplus
Rss:                4348 kB
Anonymous:             4 kB
55e177b1a000-55e177b67000 r--p 01006000 fe:00 5448070                    /opt/a b/periplus
Rss:                 308 kB
Anonymous:           308 kB
55e177b67000-55e177b68000 rw-p 01006000 fe:00 5448070                    /opt/a b/periplus
Rss:                   4 kB
Anonymous:             0 kB
55e177c00000-55e177c01000 r-xs 00000000 fe:00 5448070                    /opt/a b/periplus
Rss:                   4 kB
Anonymous:             0 kB
55e1825f2000-55e182635000 r--p 00000000 00:00 0                          [heap]
Rss:                 180 kB
Anonymous:             0 kB
7fafd17d3000-7fafd1929000 r-xp 00026000 fe:00 326279                     /usr/lib/libc.so.6
Rss:                 884 kB
Anonymous:             0 kB
7ffc5efc5000-7ffc5efc7000 r-xp 00000000 00:00 0
Rss:                   4 kB
Anonymous:             0 kB
";

    #[test]
    fn only_what_the_file_has_too_is_given_back() {
        let first = Unmodified {
            range: 0x55e1_76b1_2000..0x55e1_76dd_b000,
            resident: 1080 * 1024,
        };
        let program = Path::new("/opt/a b/periplus");
        assert_eq!(unmodified(MAPPINGS, program), [first]);
        assert_eq!(unmodified(MAPPINGS, Path::new("/opt/a")), []);
    }

    #[test]
    fn the_program_goes_on_with_less_of_itself() {
        let resident = || {
            let program = fs::read_link("/proc/self/exe").expect("an executable");
            let mappings = fs::read_to_string("/proc/self/smaps").expect("mappings");
            let mappings = unmodified(&mappings, &program);
            mappings.iter().map(|it| it.resident).sum::<usize>()
        };
        let before = resident();
        let given_back = give_back_start().expect("the kernel takes it");
        let after = resident();
        assert!(given_back > 0 && after < before, "{before} → {after}");
    }
}
