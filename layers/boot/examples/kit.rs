//! Makes a boot kit:
//! `kit --deb FILE… --guest FILE --guest-version TEXT --grub-mkimage FILE -o FOLDER`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use standby_boot::kit::{self, Blob, Guest};
use standby_boot::materials::Materials;
use standby_boot::{layout, wanted};

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = std::env::temp_dir();
    let mut materials = Materials::new(&scratch)?;
    let (mut guest, mut version, mut mkimage, mut output) = (None, None, None, None);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or("an option has no value")?;
        match option.to_str() {
            Some("--deb") => {
                materials.add_package(BufReader::new(File::open(&value)?))?;
            }
            Some("--guest") => guest = Some(fs::read(&value)?),
            Some("--guest-version") => version = value.into_string().ok(),
            Some("--grub-mkimage") => mkimage = Some(PathBuf::from(value)),
            Some("-o") => output = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown option {}", option.display()).into()),
        }
    }
    materials.make_core_image(&mkimage.ok_or("--grub-mkimage is missing")?)?;
    let guest = guest.ok_or("--guest is missing")?;
    let guest = Guest {
        program: &guest,
        version: &version.ok_or("--guest-version is missing")?,
    };
    write(
        &kit::build(&mut materials, guest, wanted::DEFAULT)?,
        &output.ok_or("-o is missing")?,
    )
}

fn write(built: &kit::Built, output: &Path) -> Result<(), Box<dyn Error>> {
    layout::write(&built.kit, output)?;
    println!("kit      {}", Blob::of(&built.kit.manifest));
    println!("release  {}", built.config.kernel_release);
    println!("modules  {}", built.config.modules.len());
    for (role, bytes) in &built.kit.parts {
        println!("{:8} {:?}", bytes.len(), role);
    }
    println!("{:8} initrd, unpacked", built.initrd_unpacked);
    for absent in &built.absent {
        println!("note     {absent}");
    }
    Ok(())
}
