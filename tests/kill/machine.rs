//! What the tests need of the machine: file systems whose power can be cut, and a shim between a process and the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool; its complaint, if it has one.
fn run(tool: &str, args: &[&str]) -> Result<(), String> {
    let done = Command::new(tool).args(args).output().map_err(|error| format!("{tool}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{tool}: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// A file system of its own, in an image on a loop device.
pub(crate) struct Mount {
    image: PathBuf,
    at: PathBuf,
}

/// XFS takes no less.
const IMAGE_BYTES: u64 = 320 << 20;

impl Mount {
    /// Makes one with the tool `make`, or tells why that can't be done here.
    pub(crate) fn new(home: &Path, make: &str) -> Result<Mount, String> {
        if !is_root() {
            return Err("only root can mount file systems".into());
        }
        run("xfs_io", &["-V"])?;
        let (image, at) = (home.join("image"), home.join("mount"));
        std::fs::create_dir(&at).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
        run(make, &["-q", &image.to_string_lossy()])?;
        let mount = Mount { image, at };
        mount.mount()?;
        Ok(mount)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.at.to_string_lossy()])
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// From now on nothing reaches the image any more, and what is only in memory never will.
    pub(crate) fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", &self.at.to_string_lossy()]).expect("a mounted file system");
    }

    /// Mounts it as after a power cut.
    pub(crate) fn again(&self) {
        run("umount", &[&self.at.to_string_lossy()]).expect("nobody uses it");
        self.mount().expect("it was mounted before");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: after a failed assertion a child may still use it.
        if let Err(error) = run("umount", &["-l", &self.at.to_string_lossy()]) {
            eprintln!("{error}");
        }
    }
}

fn is_root() -> bool {
    // The owner of what belongs to this process.
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Compiles the shim, or tells why that can't be done here.
pub(crate) fn compile_shim(home: &Path) -> Result<String, String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err("the shim knows the system calls of x86-64 Linux only".into());
    }
    let shim = home.join("shim.so").to_string_lossy().into_owned();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kill/shim.c");
    run("cc", &["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", &shim, source])?;
    Ok(shim)
}
