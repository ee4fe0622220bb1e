//! Which system calls a container may make.
//!
//! Everything that is not listed gets `ENOSYS`: a C library then falls back to an
//! older call, where `EPERM` would look like a failure. What must be refused for
//! good gets `EPERM`. Names are those that libseccomp 2.5.4 knows.

use serde_json::{Value, json};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// `CLONE_NEW…` of clone(2): namespaces are the guest's to make.
const NAMESPACES: u64 = 0x7e02_0000;
/// `PER_LINUX`, `UNAME26`, `PER_LINUX32`, both, and asking (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 0x0002_0000, 0x0008, 0x0002_0008, 0xffff_ffff];
/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`: no raw packets, no kernel
/// cryptography, no virtual-machine sockets.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

const FILES: &[&str] = &[
    "access", "chdir", "chmod", "chown", "chroot", "close", "close_range", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir",
    "fchmod", "fchmodat", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr",
    "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat",
    "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "fanotify_mark", "ioctl", "lchown", "lgetxattr", "link",
    "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "mkdir",
    "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readlink", "readlinkat", "readv", "removexattr", "rename", "renameat", "renameat2", "rmdir",
    "sendfile", "setxattr", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync",
    "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime",
    "utimensat", "utimes", "write", "writev",
];

const PROCESSES: &[&str] = &[
    "alarm", "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork",
    "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "gettid", "getuid",
    "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "membarrier", "pause", "pidfd_open", "pidfd_send_signal", "prctl",
    "prlimit64", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "set_robust_list",
    "get_robust_list", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups",
    "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit",
    "setsid", "setuid", "sigaltstack", "tgkill", "times", "tkill", "uname", "vfork", "wait4",
    "waitid",
];

const MEMORY_AND_TIME: &[&str] = &[
    "adjtimex", "brk", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
    "get_thread_area", "getcpu", "getitimer", "getrandom", "gettimeofday", "madvise",
    "memfd_create", "memfd_secret", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect",
    "mremap", "msync", "munlock", "munlockall", "munmap", "nanosleep", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "process_mrelease", "remap_file_pages", "restart_syscall", "set_thread_area",
    "setitimer", "sysinfo", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
];

const COMMUNICATION: &[&str] = &[
    "accept", "accept4", "bind", "connect", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd",
    "eventfd2", "futex", "futex_waitv", "getpeername", "getsockname", "getsockopt", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit", "ipc", "listen",
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
    "msgctl", "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "poll", "ppoll", "pselect6",
    "recvfrom", "recvmmsg", "recvmsg", "select", "semctl", "semget", "semop", "semtimedop",
    "sendmmsg", "sendmsg", "sendto", "setsockopt", "shmat", "shmctl", "shmdt", "shmget",
    "shutdown", "signalfd", "signalfd4", "socketpair", "vmsplice",
];

/// Calls that a caller must be told it may not make, not that they do not exist.
const REFUSED: &[&str] = &[
    "acct", "add_key", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module",
    "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "ioperm", "iopl", "kcmp",
    "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr",
    "move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root",
    "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl",
    "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup",
];

/// The `linux.seccomp` of `config.json`.
pub(crate) fn profile() -> Value {
    let allow = |names: &[&str]| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
    let allow_if = |name: &str, op: &str, value: u64, two: Option<u64>| {
        let mut argument = json!({"index": 0, "value": value, "op": op});
        if let Some(two) = two {
            argument["valueTwo"] = json!(two);
        }
        json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
    };
    let mut rules = vec![
        allow(FILES),
        allow(PROCESSES),
        allow(MEMORY_AND_TIME),
        allow(COMMUNICATION),
        json!({"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}),
        // clone3 hides its flags from the filter: unlisted, so that C libraries use clone.
        allow_if("clone", "SCMP_CMP_MASKED_EQ", NAMESPACES, Some(0)),
    ];
    rules.extend(PERSONALITIES.map(|value| allow_if("personality", "SCMP_CMP_EQ", value, None)));
    rules.extend(FAMILIES.map(|value| allow_if("socket", "SCMP_CMP_EQ", value, None)));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_call_has_two_rules() {
        let mut seen = BTreeSet::new();
        for name in [FILES, PROCESSES, MEMORY_AND_TIME, COMMUNICATION, REFUSED].concat() {
            assert!(seen.insert(name), "{name} is listed twice");
        }
        for name in ["clone", "clone3", "personality", "socket"] {
            assert!(!seen.contains(name), "{name}");
        }
    }
}
