//! The whole filesystem of a virtual machine, as the kernel takes it: a cpio archive of the `newc` format.
//!
//! Format: Linux's Documentation/driver-api/early-userspace/buffer-format.rst. Not compressed: unpacking is not what is
//! measured, and in emulation takes longer than reading what it saves.

/// A directory, a character device and a program, as `st_mode` has them.
const DIRECTORY: u32 = 0o040_755;
const DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;
/// The kernel's own console, which becomes stdin, stdout and stderr of the first process.
const CONSOLE: (u32, u32) = (5, 1);
/// The name of the entry that ends an archive.
const END: &str = "TRAILER!!!";
/// Entries begin, and their contents too, at multiples of this.
const ALIGNMENT: usize = 4;

/// A cpio archive that is being made, of what a kernel finds in its root.
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// Begins an archive that holds the console only.
    pub(super) fn new() -> Initramfs {
        let mut initramfs = Initramfs { bytes: Vec::new(), entries: 0 };
        initramfs.directory("dev");
        initramfs.entry("dev/console", DEVICE, CONSOLE, &[]);
        initramfs
    }

    /// Adds a directory; the one that it lies in is there already.
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file that can be run; its directory is there already.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), contents);
    }

    /// Ends the archive, and returns its bytes.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.entry(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(contents.len()).expect("a host or module has less than 4 GiB");
        let name_size = path.len() as u32 + 1;
        // Number, mode, owner, group, links, time, size, the device that it lies on, the one that it is, name size, and
        // a checksum, which this format does not use.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        contents: Vec<u8>,
    }

    /// Reads an archive back.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701", "after entry {}", entries.len());
            let field = |at: usize| {
                let digits = std::str::from_utf8(&bytes[6 + at * 8..14 + at * 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let (name, end) = bytes[110..110 + name_size].split_at(name_size - 1);
            assert_eq!(end, [0]);
            let contents_at = (110 + name_size).next_multiple_of(4);
            let entry = Entry {
                name: String::from_utf8(name.to_vec()).unwrap(),
                mode: field(1),
                device: (field(9), field(10)),
                contents: bytes[contents_at..contents_at + size].to_vec(),
            };
            bytes = &bytes[(contents_at + size).next_multiple_of(4)..];
            if entry.name == END {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push(entry);
        }
    }

    #[test]
    fn what_was_put_in_can_be_read_back() {
        let mut initramfs = Initramfs::new();
        initramfs.file("host", b"12345");
        initramfs.directory("modules");
        initramfs.file("modules/a.cwasm", b"");
        let read = entries(&initramfs.end());
        let names: Vec<&str> = read.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "host", "modules", "modules/a.cwasm"]);
        assert_eq!((read[2].mode, &read[2].contents[..]), (0o100_755, &b"12345"[..]));
        assert_eq!((read[4].mode, read[4].contents.len()), (0o100_755, 0));
    }

    #[test]
    fn the_console_is_the_device_that_the_kernel_opens_for_its_first_process() {
        let read = entries(&Initramfs::new().end());
        assert_eq!(read[1].name, "dev/console");
        assert_eq!((read[1].mode & 0o170_000, read[1].device), (0o020_000, (5, 1)));
    }
}
