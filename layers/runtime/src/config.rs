//! `config.json` by the OCI runtime specification 1.0.2, as sorted JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::RuntimeError;
use crate::mounts::{self, Mount};
use crate::seccomp;
use crate::user::User;

/// Microseconds of the period that CPU quotas are measured over.
const CPU_PERIOD: u64 = 100_000;
/// Processes and threads of one container: a fork bomb must not take the guest.
const PIDS: u64 = 4096;
/// Open files of one process.
const OPEN_FILES: u64 = 65_536;

/// `MAX_ARG_STRLEN` of the kernel, `include/uapi/linux/binfmts.h`: bytes of one argument
/// or variable, with the zero behind it.
const LONGEST_WORD: usize = 128 << 10;
/// A quarter of the usual limit of 8 MiB of stack, for all of them with a pointer each
/// (`fs/exec.c`, `bprm_stack_limits`), less what the kernel and the program's path take.
const ALL_WORDS: usize = (2 << 20) - (16 << 10);

/// Kernel interfaces that tell or give away more than a service needs.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Everything that differs from container to container.
pub(crate) struct Config<'a> {
    pub(crate) name: &'static str,
    pub(crate) hostname: &'a str,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: String,
    pub(crate) user: User,
    pub(crate) capabilities: &'a [&'a str],
    /// The path of the network namespace to join; the guest's own if none.
    pub(crate) network_namespace: Option<&'static str>,
    pub(crate) memory: Option<u64>,
    pub(crate) milli_cpus: Option<u64>,
    pub(crate) stop_signal: String,
    pub(crate) mounts: Vec<Mount>,
}

impl Config<'_> {
    /// The bytes of `config.json`.
    pub(crate) fn render(&self) -> Result<Vec<u8>, RuntimeError> {
        let env = self.env();
        check_words(&self.args, &env)?;
        let config = json!({
            "ociVersion": "1.0.2",
            "annotations": {"org.opencontainers.image.stopSignal": self.stop_signal},
            "hostname": self.hostname,
            "root": {"path": "rootfs", "readonly": true},
            "process": self.process(&env),
            "mounts": mounts::json(&self.mounts, self.user.uid, self.user.gid),
            "linux": self.linux(),
        });
        let mut bytes = serde_json::to_vec_pretty(&config).map_err(RuntimeError::Json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn env(&self) -> Vec<String> {
        self.env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    fn process(&self, env: &[String]) -> Value {
        // Root has its capabilities by being root. Any other user keeps them over
        // execve only as ambient ones, which must be inheritable too.
        let kept: &[&str] = if self.user.uid == 0 {
            &[]
        } else {
            self.capabilities
        };
        json!({
            "terminal": false,
            "user": {
                "uid": self.user.uid,
                "gid": self.user.gid,
                "additionalGids": self.user.groups,
            },
            "args": self.args,
            "env": env,
            "cwd": self.folder,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": self.capabilities,
                "effective": self.capabilities,
                "permitted": self.capabilities,
                "inheritable": kept,
                "ambient": kept,
            },
            "rlimits": [
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_NOFILE", "soft": OPEN_FILES, "hard": OPEN_FILES},
            ],
        })
    }

    fn linux(&self) -> Value {
        let mut namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts", "cgroup"]
            .iter()
            .map(|kind| json!({"type": kind}))
            .collect();
        if let Some(path) = self.network_namespace {
            namespaces.push(json!({"type": "network", "path": path}));
        }
        json!({
            "cgroupsPath": format!("/standby/{}", self.name),
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": self.resources(),
            "rootfsPropagation": "private",
            "seccomp": seccomp::profile(),
        })
    }

    fn resources(&self) -> Value {
        let mut resources = json!({
            // The runtime adds /dev/null and its like to what is allowed.
            "devices": [{"allow": false, "access": "rwm"}],
            "pids": {"limit": PIDS},
        });
        if let Some(bytes) = self.memory {
            resources["memory"] = json!({"limit": bytes});
        }
        if let Some(milli) = self.milli_cpus {
            let quota = milli.saturating_mul(CPU_PERIOD / 1000);
            resources["cpu"] = json!({"quota": quota, "period": CPU_PERIOD});
        }
        resources
    }
}

/// Checks that the kernel's execve(2) takes them: the standby's first start would be
/// the first to tell.
fn check_words(args: &[String], env: &[String]) -> Result<(), RuntimeError> {
    let mut all = 0_usize;
    for word in args.iter().chain(env) {
        let length = word.len() + 1;
        if length > LONGEST_WORD {
            return Err(RuntimeError::LongWord {
                start: word.chars().take(40).collect(),
                length: word.len(),
                most: LONGEST_WORD - 1,
            });
        }
        all = all.saturating_add(length + size_of::<usize>());
    }
    match all > ALL_WORDS {
        true => Err(RuntimeError::ManyWords {
            all,
            most: ALL_WORDS,
        }),
        false => Ok(()),
    }
}
