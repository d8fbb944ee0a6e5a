//! The container of snarkjs's files: a kind, a version, and numbered sections of stated length.
//!
//! `kind (4 bytes) ‖ version (u32) ‖ sections (u32)`, then for each section `number (u32) ‖ length (u64) ‖ bytes`; integers are
//! little-endian. The order of sections is free.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::CeremonyError;

/// The formats here have at most 11 sections.
const SECTIONS_MAX: u32 = 32;
const BUFFER_BYTES: usize = 1 << 20;

/// The result of reading and writing.
pub(crate) type Result<T> = core::result::Result<T, CeremonyError>;

/// An error at a file.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> CeremonyError + '_ {
    |source| CeremonyError::File { path: path.to_path_buf(), source }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    len: u64,
}

/// A file of sections, open for reading. Its sections lie within it, and nothing follows them.
#[derive(Debug)]
pub(crate) struct SectionFile {
    path: PathBuf,
    format: &'static str,
    file: File,
    places: BTreeMap<u32, Place>,
}

impl SectionFile {
    /// Opens a file of this format and of a version up to this one.
    pub(crate) fn open(path: &Path, format: &'static str, version_max: u32) -> Result<Self> {
        let file = File::open(path).map_err(at(path))?;
        let total = file.metadata().map_err(at(path))?.len();
        let mut this = Self { path: path.to_path_buf(), format, file, places: BTreeMap::new() };
        let mut reader = BufReader::new(this.file.try_clone().map_err(at(path))?);
        let head: [u8; 12] = this.read_array(&mut reader)?;
        let [kind, version, count] = [0, 4, 8].map(|from| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]));
        if kind.to_le_bytes() != format.as_bytes() {
            return Err(this.malformed("it is of another kind"));
        }
        if version == 0 || version > version_max {
            return Err(this.malformed(format!("its version is {version}")));
        }
        if count > SECTIONS_MAX {
            return Err(this.malformed(format!("it says that it has {count} sections")));
        }
        let mut offset = 12_u64;
        for _ in 0..count {
            let head: [u8; 12] = this.read_array(&mut reader)?;
            let number = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let [.., a, b, c, d, e, f, g, h] = head;
            let len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            offset += 12;
            let end = offset.checked_add(len).filter(|end| *end <= total);
            let end = end.ok_or_else(|| this.malformed(format!("section {number} is cut off")))?;
            if this.places.insert(number, Place { offset, len }).is_some() {
                return Err(this.malformed(format!("section {number} is there twice")));
            }
            reader.seek(SeekFrom::Start(end)).map_err(at(path))?;
            offset = end;
        }
        if offset != total {
            return Err(this.malformed(format!("{} bytes follow its sections", total - offset)));
        }
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn malformed(&self, what: impl Into<String>) -> CeremonyError {
        CeremonyError::Malformed { path: self.path.clone(), format: self.format, what: what.into() }
    }

    fn read_array<const N: usize>(&self, reader: &mut impl Read) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed("it is cut off"),
            _ => at(&self.path)(error),
        })?;
        Ok(bytes)
    }

    /// Whether there is such a section.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.places.contains_key(&number)
    }

    /// The length of a section, in bytes.
    pub(crate) fn len(&self, number: u32) -> Result<u64> {
        Ok(self.place(number)?.len)
    }

    /// Refuses a section that is not of exactly this length.
    pub(crate) fn require_len(&self, number: u32, expected: u64) -> Result<()> {
        let found = self.len(number)?;
        if found == expected {
            return Ok(());
        }
        Err(self.malformed(format!("section {number} is of {found} bytes, not {expected}")))
    }

    fn place(&self, number: u32) -> Result<Place> {
        self.places.get(&number).copied().ok_or_else(|| self.malformed(format!("it has no section {number}")))
    }

    /// A reader of a section's bytes from `skip` on. One at a time: readers share the file's position.
    pub(crate) fn section(&mut self, number: u32, skip: u64) -> Result<BufReader<io::Take<&mut File>>> {
        let Place { offset, len } = self.place(number)?;
        let left = len.checked_sub(skip).ok_or_else(|| self.malformed(format!("section {number} is too short")))?;
        self.file.seek(SeekFrom::Start(offset + skip)).map_err(at(&self.path))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, (&mut self.file).take(left)))
    }

    /// All of a short section.
    pub(crate) fn bytes(&mut self, number: u32, len_max: u64) -> Result<Vec<u8>> {
        let len = self.len(number)?;
        if len > len_max {
            return Err(self.malformed(format!("section {number} is of {len} bytes, more than {len_max}")));
        }
        let mut bytes = Vec::new();
        let read = self.section(number, 0)?.read_to_end(&mut bytes);
        read.map_err(at(&self.path))?;
        if u64::try_from(bytes.len()) != Ok(len) {
            return Err(self.malformed(format!("section {number} is cut off")));
        }
        Ok(bytes)
    }
}

/// A file of sections that is being written, beside where it will be. Dropped before [`SectionWriter::finish`], it was never there.
#[derive(Debug)]
pub(crate) struct SectionWriter {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl SectionWriter {
    /// Starts a file of so many sections.
    pub(crate) fn create(path: &Path, format: &'static str, version: u32, sections: u32) -> Result<Self> {
        if path.exists() {
            return Err(CeremonyError::Exists { path: path.to_path_buf() });
        }
        let directory = directory_of(path);
        let file = NamedTempFile::with_prefix_in(".unfinished-", directory).map_err(at(path))?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let head = [format.as_bytes(), &version.to_le_bytes(), &sections.to_le_bytes()].concat();
        out.write_all(&head).map_err(at(path))?;
        Ok(Self { path: path.to_path_buf(), out })
    }

    /// Writes a section's number and length; its bytes follow.
    pub(crate) fn begin(&mut self, number: u32, len: u64) -> Result<()> {
        self.write(&number.to_le_bytes())?;
        self.write(&len.to_le_bytes())
    }

    /// Writes bytes of the section that was begun.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(at(&self.path))
    }

    /// A whole section.
    pub(crate) fn section(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        self.begin(number, bytes.len() as u64)?;
        self.write(bytes)
    }

    /// Copies a section of another file.
    pub(crate) fn copy(&mut self, from: &mut SectionFile, number: u32) -> Result<()> {
        let len = from.len(number)?;
        self.begin(number, len)?;
        let copied = io::copy(&mut from.section(number, 0)?, &mut self.out).map_err(at(&self.path))?;
        if copied == len { Ok(()) } else { Err(from.malformed(format!("section {number} is cut off"))) }
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        let failed = at(&self.path);
        let file = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        persist(file, &self.path)
    }
}

/// Writes a whole file beside its place, syncs it, and gives it its name. Never replaces another.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.exists() {
        return Err(CeremonyError::Exists { path: path.to_path_buf() });
    }
    let mut file = NamedTempFile::with_prefix_in(".unfinished-", directory_of(path)).map_err(at(path))?;
    file.write_all(bytes).map_err(at(path))?;
    persist(file, path)
}

fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    make_readable(file.as_file()).map_err(at(path))?;
    file.as_file().sync_all().map_err(at(path))?;
    file.persist_noclobber(path).map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => CeremonyError::Exists { path: path.to_path_buf() },
        _ => at(path)(failed.error),
    })?;
    sync_directory(directory_of(path)).map_err(at(path))
}

/// Temporary files are their owner's alone; nothing here is a secret, and these files are passed on.
#[cfg(unix)]
fn make_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &File) -> io::Result<()> {
    Ok(())
}

/// A name is durable when its directory is.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
