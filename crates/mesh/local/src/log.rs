//! The output of a part: a file that does not grow for ever, and its last lines.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// How many of the last lines are kept for error reports.
const TAIL_LINES: usize = 20;
/// Longer lines are cut in these reports.
const MAX_LINE: usize = 500;

/// A log file. When it has reached its limit it becomes `NAME.1`, in the place of an older one.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    tail: VecDeque<String>,
}

/// What one stream of output has begun to write but not yet ended with a newline.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<u8>);

impl Log {
    pub(crate) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: File::create(path)?,
            written: 0,
            limit,
            tail: VecDeque::with_capacity(TAIL_LINES),
        })
    }

    /// Takes what came from a stream; `line` belongs to that stream.
    pub(crate) fn write(&mut self, line: &mut Line, output: &[u8]) -> io::Result<()> {
        for chunk in output.split_inclusive(|&byte| byte == b'\n') {
            line.push(chunk);
            if chunk.ends_with(b"\n") {
                self.remember(line);
            }
        }
        if self.written + output.len() as u64 > self.limit && self.written > 0 {
            self.rotate()?;
        }
        self.file.write_all(output)?;
        self.written += output.len() as u64;
        Ok(())
    }

    /// Ends the last line of a stream.
    pub(crate) fn finish(&mut self, line: &mut Line) {
        if !line.0.is_empty() {
            self.remember(line);
        }
    }

    /// The last lines of the part's present run.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Forgets the last lines: what a new run says is not to be mixed with the old.
    pub(crate) fn begin_run(&mut self) {
        self.tail.clear();
    }

    fn remember(&mut self, line: &mut Line) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.take());
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        self.file = File::create(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.0).trim_end().to_owned();
        self.0.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_two_streams_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(&directory.path().join("a.log"), 1000).unwrap();
        let (mut out, mut err) = (Line::default(), Line::default());
        log.write(&mut out, b"hel").unwrap();
        log.write(&mut err, b"oops\nagain").unwrap();
        log.write(&mut out, b"lo\n").unwrap();
        assert_eq!(log.tail(), ["oops", "hello"]);
        log.finish(&mut err);
        assert_eq!(log.tail(), ["oops", "hello", "again"]);
        log.write(&mut out, &vec![b'x'; 10 * MAX_LINE]).unwrap();
        log.finish(&mut out);
        assert_eq!(log.tail()[3].len(), MAX_LINE);
    }

    #[test]
    fn the_file_is_bounded_and_so_are_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::create(&path, 100).unwrap();
        let mut line = Line::default();
        for number in 0..100 {
            log.write(&mut line, format!("line {number:03}\n").as_bytes())
                .unwrap();
        }
        assert_eq!(log.tail().len(), TAIL_LINES);
        assert_eq!(log.tail().last().unwrap(), "line 099");
        let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(size("a.log") <= 100 && size("a.log.1") <= 100);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 099\n"));
    }
}
