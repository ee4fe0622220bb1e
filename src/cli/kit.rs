//! `standby kit`: the boot kit, made once and reused offline.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use standby_boot::kit::{self, Guest};
use standby_boot::materials::Materials;
use standby_boot::{layout, wanted};

use crate::bake::kit::BootKit;
use crate::cli::open::open_layout;
use crate::error::{Failure, IoContext, Result};
use crate::ui::{Ui, bytes};

/// Make the boot kit: kernel, modules, boot loaders and guest, pinned by digest
#[derive(Args, Debug)]
pub struct KitArgs {
    #[command(subcommand)]
    verb: KitVerb,
}

#[derive(Debug, Subcommand)]
enum KitVerb {
    /// Make a kit from Debian packages or from files
    Build(Box<KitBuildArgs>),
    /// Show what a kit holds
    Inspect(KitInspectArgs),
}

#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("core").args(["grub_mkimage", "core_img"])),
    after_help = "Examples:\n  standby kit build --deb linux-image.deb --deb systemd-boot-efi.deb \
--deb grub-pc-bin.deb --guest standby-guest -o kit\n  standby kit build --kernel vmlinuz \
--modules lib/modules/6.1.0-1-amd64 --stub linuxx64.efi.stub --grub /usr/lib/grub/i386-pc \
--guest standby-guest -o kit"
)]
struct KitBuildArgs {
    /// A package with kernel, modules, EFI stub or GRUB; any number
    #[arg(long, value_name = "FILE")]
    deb: Vec<PathBuf>,
    /// Kernel image
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Folder of the kernel's modules
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// EFI stub (linuxx64.efi.stub)
    #[arg(long, value_name = "FILE")]
    stub: Option<PathBuf>,
    /// GRUB's i386-pc folder (boot.img and modules)
    #[arg(long, value_name = "DIR")]
    grub: Option<PathBuf>,
    /// BIOS loader made elsewhere by grub-mkimage
    #[arg(long, value_name = "FILE")]
    core_img: Option<PathBuf>,
    /// The program that makes the BIOS loader [default: grub-mkimage]
    #[arg(long, value_name = "FILE")]
    grub_mkimage: Option<PathBuf>,
    /// The guest: a static standby-guest
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
    /// The guest's version, for the record
    #[arg(long, value_name = "TEXT", default_value = env!("CARGO_PKG_VERSION"))]
    guest_version: String,
    /// Folder to write; must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Args, Debug)]
struct KitInspectArgs {
    /// The kit's folder
    kit: PathBuf,
}

impl KitArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        match &self.verb {
            KitVerb::Build(args) => args.run(ui),
            KitVerb::Inspect(args) => args.run(ui),
        }
    }
}

impl KitBuildArgs {
    fn run(&self, ui: &Ui) -> Result {
        if self.output.symlink_metadata().is_ok() {
            return Err(
                Failure::text(format!("{} exists already", self.output.display()))
                    .hint("choose another place with -o, or remove it"),
            );
        }
        let mut materials = self.materials(ui)?;
        let program =
            fs::read(&self.guest).because(format!("cannot read {}", self.guest.display()))?;
        let guest = Guest {
            program: &program,
            version: &self.guest_version,
        };
        ui.note("choosing modules and packing the initrd");
        let built = kit::build(&mut materials, guest, wanted::DEFAULT).map_err(Failure::input)?;
        layout::write(&built.kit, &self.output).map_err(Failure::input)?;
        for absent in &built.absent {
            ui.note(format!("note: {absent}"));
        }
        let digest = kit::Blob::of(&built.kit.manifest).to_string();
        ui.value(&json!({
            "kit": self.output, "digest": digest, "kernel_release": built.config.kernel_release,
            "modules": built.config.modules, "sources": built.config.sources,
        }));
        let initrd = built.kit.part(kit::Role::Initrd).len() as u64;
        ui.table(&[
            ("kit", self.output.display().to_string()),
            ("digest", digest),
            ("kernel", built.config.kernel_release.clone()),
            (
                "initrd",
                format!("{}, {} modules", bytes(initrd), built.config.modules.len()),
            ),
        ]);
        Ok(())
    }

    fn materials(&self, ui: &Ui) -> Result<Materials> {
        let mut materials = Materials::new(&std::env::temp_dir()).map_err(Failure::input)?;
        for deb in &self.deb {
            ui.note(format!("reading {}", deb.display()));
            let file = File::open(deb).because(format!("cannot open {}", deb.display()))?;
            materials
                .add_package(BufReader::with_capacity(1 << 18, file))
                .map_err(|error| Failure::input(error).context(deb.display()))?;
        }
        let read = |path: &PathBuf| -> Result<(String, Vec<u8>)> {
            let shown = path.display().to_string();
            Ok((
                shown.clone(),
                fs::read(path).because(format!("cannot read {shown}"))?,
            ))
        };
        if let Some(path) = &self.kernel {
            let (shown, image) = read(path)?;
            materials
                .set_kernel(&shown, image)
                .map_err(Failure::input)?;
        }
        if let Some(path) = &self.modules {
            materials.add_module_folder(path).map_err(Failure::input)?;
        }
        if let Some(path) = &self.stub {
            let (shown, image) = read(path)?;
            materials.set_stub(&shown, image).map_err(Failure::input)?;
        }
        if let Some(path) = &self.grub {
            materials.add_grub_folder(path).map_err(Failure::input)?;
        }
        match &self.core_img {
            Some(path) => {
                let (shown, image) = read(path)?;
                materials
                    .set_core_image(&shown, image)
                    .map_err(Failure::input)?;
            }
            None => {
                let program = self
                    .grub_mkimage
                    .clone()
                    .unwrap_or_else(|| "grub-mkimage".into());
                materials
                    .make_core_image(&program)
                    .map_err(Failure::input)?;
            }
        }
        Ok(materials)
    }
}

impl KitInspectArgs {
    fn run(&self, ui: &Ui) -> Result {
        let named = |failure: Failure| failure.context(self.kit.display());
        let layout = open_layout(&self.kit)?;
        let kit = BootKit::open(&layout).map_err(|e| named(Failure::input(e)))?;
        let config: serde_json::Value =
            serde_json::from_slice(&kit.component.config()?).map_err(Failure::input)?;
        ui.value(&json!({"digest": kit.component.digest, "config": config}));
        let parts = &kit.parts;
        ui.table(&[
            ("digest", kit.component.digest.to_string()),
            (
                "kernel",
                format!(
                    "{}, {}",
                    parts.kernel_release,
                    bytes(parts.kernel.len() as u64)
                ),
            ),
            ("initrd", bytes(parts.initrd.len() as u64)),
            ("EFI stub", bytes(parts.stub.len() as u64)),
            ("BIOS loader", bytes(parts.core_image.len() as u64)),
        ]);
        for source in config
            .get("sources")
            .and_then(|s| s.as_array())
            .into_iter()
            .flatten()
        {
            let field = |name: &str| {
                source
                    .get(name)
                    .and_then(|v| v.as_str())
                    .unwrap_or_default()
            };
            ui.line(format!(
                "from         {} {}",
                field("package"),
                field("version")
            ));
        }
        Ok(())
    }
}
