//! Picks the modules that a disk carries and the order in which they load.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use standby_contract::modules::{ModuleIndex, matches};

use crate::modinfo::{ModInfo, module_name};
use crate::wanted::{Load, Wanted};

/// Longest chain of dependencies; real ones stay below 10.
const DEPTH_LIMIT: usize = 64;

/// Buses whose devices have a `modalias` in sysfs that a carried module may
/// serve. Aliases for file systems, algorithms, CPUs and device trees are not
/// for devices that the guest looks at.
const BUSES: [&str; 10] = [
    "acpi*:", "hid:", "input:", "pci:", "scsi:", "serio:", "usb:", "virtio:", "vmbus:", "xen:",
];

/// What a kernel offers.
#[derive(Clone, Debug, Default)]
pub struct Available {
    /// The kernel's release, such as `6.1.0-9-amd64`.
    pub release: String,
    /// Its loadable modules, by name.
    pub modules: BTreeMap<String, ModInfo>,
    /// Names of the modules that are part of the kernel (`modules.builtin`).
    pub built_in: BTreeSet<String>,
}

/// The choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// All modules to carry, sorted.
    pub names: Vec<String>,
    /// When and in which order to load them.
    pub index: ModuleIndex,
    /// Modules that were wanted and that this kernel does not have.
    pub absent: Vec<Absent>,
}

/// A wanted module that this kernel does not have, in any form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// What will not work.
    pub reason: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this kernel has no module {} ({})",
            self.name, self.reason
        )
    }
}

/// Why no working set of modules can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModulesError {
    /// A required module or a dependency is nowhere.
    #[error(
        "{} is neither among the modules of {release} nor built in; needed by: {}",
        .chain.last().map_or("", String::as_str),
        path(.chain)
    )]
    Missing {
        /// From the wanted module to the one that is missing.
        chain: Vec<String>,
        /// The kernel's release.
        release: String,
    },
    /// Modules that need each other.
    #[error("kernel modules need each other in a circle: {}", path(.0))]
    Circle(Vec<String>),
    /// More than 64 modules deep.
    #[error("the dependencies of kernel module {0} are too deep")]
    Deep(String),
    /// Built for another kernel.
    #[error("kernel module {name} is built for {found}, the kernel is {release}")]
    Release {
        /// The module.
        name: String,
        /// Its release.
        found: String,
        /// The kernel's.
        release: String,
    },
}

fn path(chain: &[String]) -> String {
    chain.join(" > ")
}

/// Picks the wanted modules and all that they need.
pub fn select(available: &Available, wanted: &[Wanted]) -> Result<Selection, ModulesError> {
    let mut walk = Walk {
        available,
        orders: BTreeMap::new(),
        stack: Vec::new(),
    };
    let mut index = ModuleIndex::default();
    let mut absent = Vec::new();
    for want in wanted {
        if !available.modules.contains_key(want.name) {
            if available.built_in.contains(want.name) {
                continue;
            }
            if want.load == Load::Required {
                return Err(walk.missing(want.name));
            }
            absent.push(Absent {
                name: want.name.to_owned(),
                reason: want.reason.to_owned(),
            });
            continue;
        }
        walk.visit(want.name)?;
        match want.load {
            Load::Required | Load::Always => index.always.push(want.name.to_owned()),
            Load::OnRequest => {}
            Load::ForDevice => index.aliases.extend(device_aliases(available, want.name)),
        }
    }
    index.aliases.sort();
    index.aliases.dedup();
    let names = walk.orders.keys().cloned().collect();
    index.needs = walk.orders;
    index.needs.retain(|_, needs| !needs.is_empty());
    Ok(Selection {
        names,
        index,
        absent,
    })
}

fn device_aliases<'a>(
    available: &'a Available,
    name: &'a str,
) -> impl Iterator<Item = (String, String)> + 'a {
    available
        .modules
        .get(name)
        .into_iter()
        .flat_map(|info| &info.aliases)
        .filter(|alias| {
            BUSES.iter().any(|bus| alias.starts_with(bus))
                && alias.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map(move |alias| (alias.clone(), name.to_owned()))
}

/// The walk along dependencies.
struct Walk<'a> {
    available: &'a Available,
    /// Visited modules, each with all that must be loaded before it, in order.
    orders: BTreeMap<String, Vec<String>>,
    /// Modules between the wanted one and the current one.
    stack: Vec<String>,
}

impl Walk<'_> {
    fn missing(&self, name: &str) -> ModulesError {
        let mut chain = self.stack.clone();
        chain.push(name.to_owned());
        ModulesError::Missing {
            chain,
            release: self.available.release.clone(),
        }
    }

    fn visit(&mut self, name: &str) -> Result<(), ModulesError> {
        if self.orders.contains_key(name) {
            return Ok(());
        }
        let available = self.available;
        let info = available
            .modules
            .get(name)
            .ok_or_else(|| self.missing(name))?;
        if info.release() != available.release {
            return Err(ModulesError::Release {
                name: name.to_owned(),
                found: info.release().to_owned(),
                release: available.release.clone(),
            });
        }
        if self.stack.len() >= DEPTH_LIMIT {
            return Err(ModulesError::Deep(name.to_owned()));
        }
        self.stack.push(name.to_owned());
        let mut order: Vec<String> = Vec::new();
        for need in self.soft_needs(info) {
            self.add(&need, &mut order)?;
        }
        for need in &info.depends {
            if available.built_in.contains(need) {
                continue;
            }
            if self.stack.contains(need) {
                let mut circle = self.stack.clone();
                circle.push(need.clone());
                return Err(ModulesError::Circle(circle));
            }
            self.add(need, &mut order)?;
        }
        self.stack.pop();
        self.orders.insert(name.to_owned(), order);
        Ok(())
    }

    /// Adds what `need` needs and itself to a loading order.
    fn add(&mut self, need: &str, order: &mut Vec<String>) -> Result<(), ModulesError> {
        self.visit(need)?;
        let before = self.orders.get(need).into_iter().flatten();
        for name in before.map(String::as_str).chain([need]) {
            if !order.iter().any(|have| have == name) {
                order.push(name.to_owned());
            }
        }
        Ok(())
    }

    /// Modules that a `softdep` names, itself or by an alias, as modprobe finds
    /// them: without them the module may fail, such as libcrc32c without any
    /// CRC-32C. One that leads back is left out; it was a wish only.
    fn soft_needs(&self, info: &ModInfo) -> Vec<String> {
        let mut needs = Vec::new();
        for wish in &info.soft_before {
            let name = module_name(wish);
            let known = name.filter(|name| {
                self.available.modules.contains_key(name) || self.available.built_in.contains(name)
            });
            match known {
                Some(name) => needs.push(name),
                None => needs.extend(self.by_alias(wish)),
            }
        }
        needs
            .retain(|name| self.available.modules.contains_key(name) && !self.stack.contains(name));
        needs
    }

    fn by_alias(&self, wish: &str) -> Vec<String> {
        let serves = |info: &&ModInfo| {
            info.aliases
                .iter()
                .any(|alias| matches(alias.as_bytes(), wish.as_bytes()))
        };
        let modules = self.available.modules.values();
        modules
            .filter(serves)
            .map(|info| info.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> ModInfo {
        ModInfo {
            name: name.into(),
            depends: depends.iter().map(ToString::to_string).collect(),
            vermagic: "1.0 SMP".into(),
            ..ModInfo::default()
        }
    }

    fn available(modules: impl IntoIterator<Item = ModInfo>) -> Available {
        Available {
            release: "1.0".into(),
            modules: modules
                .into_iter()
                .map(|info| (info.name.clone(), info))
                .collect(),
            built_in: BTreeSet::new(),
        }
    }

    fn want(name: &'static str, load: Load) -> Wanted {
        Wanted {
            name,
            load,
            reason: "test",
        }
    }

    #[test]
    fn deepest_first_and_soft_by_alias() {
        let mut erofs = module("erofs", &["libcrc32c", "nls"]);
        erofs.aliases = vec!["fs-erofs".into()];
        let mut crc = module("libcrc32c", &[]);
        crc.soft_before = vec!["crc32c".into(), "nowhere".into()];
        let mut fast = module("crc32c_intel", &[]);
        fast.aliases = vec!["crc32c".into()];
        let mut disk = module("disk", &[]);
        disk.aliases = vec!["pci:v1*".into(), "of:N*".into(), "pci:with space".into()];
        let mut all = available([erofs, crc, fast, disk]);
        all.built_in.insert("nls".into());
        let wanted = [
            want("erofs", Load::Required),
            want("disk", Load::ForDevice),
            want("nls", Load::Required),
            want("gone", Load::ForDevice),
        ];
        let selection = select(&all, &wanted).unwrap();
        assert_eq!(
            selection.index.render(),
            "always erofs\nalias pci:v1* disk\nneeds erofs crc32c_intel libcrc32c\nneeds libcrc32c crc32c_intel\n"
        );
        assert_eq!(
            selection.names,
            ["crc32c_intel", "disk", "erofs", "libcrc32c"]
        );
        assert_eq!(selection.absent.len(), 1);
    }

    #[test]
    fn what_cannot_load_is_an_error_with_its_chain() {
        let all = available([module("a", &["b"]), module("b", &["c"])]);
        let error = select(&all, &[want("a", Load::ForDevice)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "c is neither among the modules of 1.0 nor built in; needed by: a > b > c"
        );
        let all = available([module("a", &["b"]), module("b", &["a"])]);
        assert!(matches!(
            select(&all, &[want("a", Load::ForDevice)]),
            Err(ModulesError::Circle(_))
        ));
        assert!(matches!(
            select(&all, &[want("z", Load::Required)]),
            Err(ModulesError::Missing { .. })
        ));
        let mut foreign = module("a", &[]);
        foreign.vermagic = "1.1 SMP".into();
        assert!(matches!(
            select(&available([foreign]), &[want("a", Load::ForDevice)]),
            Err(ModulesError::Release { .. })
        ));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let names: Vec<String> = (0..100_000).map(|n| format!("m{n}")).collect();
        let chain = names
            .windows(2)
            .map(|pair| module(&pair[0], &[pair[1].as_str()]));
        assert!(matches!(
            select(&available(chain), &[want("m0", Load::Always)]),
            Err(ModulesError::Deep(_))
        ));
    }
}
