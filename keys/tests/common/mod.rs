//! The real gpg and sqv, each in its own throwaway home.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use standby_keys::{
    Certificate, GenerateOptions, Generated, Passphrase, SignerKey, TrustPolicy, Untrusted,
    Verified, generate,
};
use tempfile::TempDir;

pub const DATA: &[u8] = b"{\"service\":\"links\"}\n";
pub const DAY: Duration = Duration::from_secs(86_400);

/// One present for the whole run, in whole seconds as OpenPGP has them. It is the
/// second before this one: gpg does not stop its clock at the time that it is anyway.
pub fn now() -> SystemTime {
    static NOW: LazyLock<Duration> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Duration::from_secs(since.expect("a clock after 1970").as_secs() - 1)
    });
    UNIX_EPOCH + *NOW
}

pub fn days_ago(days: u32) -> SystemTime {
    now() - DAY * days
}

/// A GNUPGHOME of its own, and the agent that gpg starts in it.
pub struct Gpg {
    home: TempDir,
    time: SystemTime,
}

impl Gpg {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        // The agent's socket lies in it: the path must be short.
        let home = tempfile::Builder::new()
            .prefix("g")
            .tempdir_in("/tmp")
            .expect("a folder");
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700))
            .expect("permissions");
        Gpg { home, time: now() }
    }

    /// From now on gpg believes that it is this time.
    pub fn at(&mut self, time: SystemTime) -> &mut Self {
        self.time = time;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("writing a file");
        path
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C.UTF-8");
        let seconds = self
            .time
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        command.args([
            "--no-tty",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
        ]);
        // The exclamation mark stops gpg's clock.
        command.args(["--faked-system-time", &format!("{seconds}!")]);
        command
    }

    pub fn try_run(&self, args: &[&str]) -> Output {
        self.command()
            .arg("--batch")
            .args(args)
            .output()
            .expect("gpg must be installed")
    }

    /// What gpg does only when it can ask: `answers` are its lines.
    pub fn ask(&self, args: &[&str], answers: &str) -> Vec<u8> {
        let answers = self.write("answers", answers.as_bytes());
        let output = self
            .command()
            .args(["--passphrase", "", "--command-fd", "0"])
            .args(args)
            .stdin(std::fs::File::open(answers).expect("the answers"))
            .output()
            .expect("gpg must be installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {errors}");
        output.stdout
    }

    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = self.try_run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {errors}");
        output.stdout
    }

    /// A key without a passphrase; `usage` as in `--quick-generate-key`.
    pub fn generate(&self, user_id: &str, algorithm: &str, usage: &str, expire: &str) {
        self.run(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            user_id,
            algorithm,
            usage,
            expire,
        ]);
    }

    /// The fingerprints of the primary and of the subkeys.
    pub fn fingerprints(&self, user_id: &str) -> Vec<String> {
        let listed = self.run(&["--with-colons", "--with-subkey-fingerprint", "-k", user_id]);
        let listed = String::from_utf8(listed).expect("text");
        let lines = listed
            .lines()
            .filter_map(|line| line.strip_prefix("fpr:::::::::"));
        lines
            .map(|line| line.trim_end_matches(':').to_owned())
            .collect()
    }

    pub fn certificate(&self, user_id: &str) -> Certificate {
        Certificate::parse(&self.run(&["--export", user_id])).expect("gpg's certificate")
    }

    /// A binary detached signature over `data`.
    pub fn sign(&self, user: &str, data: &[u8], more: &[&str]) -> Vec<u8> {
        let path = self.write("data", data);
        let path = path.to_str().expect("a UTF-8 path");
        let mut args = vec!["--passphrase", "", "-u", user, "-o", "-"];
        args.extend(more);
        args.extend(["--detach-sign", path]);
        self.run(&args)
    }

    /// `gpg --verify`, with its machine-readable words on stdout.
    pub fn verify(&self, signature: &[u8], data: &[u8]) -> (bool, String) {
        let signature = self.write("sig", signature);
        let data = self.write("data", data);
        let paths = [
            signature.to_str().expect("UTF-8"),
            data.to_str().expect("UTF-8"),
        ];
        let output = self.try_run(&["--status-fd", "1", "--verify", paths[0], paths[1]]);
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    pub fn import(&self, name: &str, bytes: &[u8], more: &[&str]) {
        let path = self.write(name, bytes);
        let mut args = more.to_vec();
        args.extend(["--import", path.to_str().expect("UTF-8")]);
        self.run(&args);
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // Only the agent of this home.
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "all"])
            .output();
    }
}

/// `sqv --keyring`: whether it accepts, and what it says.
pub fn sqv(folder: &Path, certificate: &[u8], signature: &[u8], data: &[u8]) -> (bool, String) {
    let files = [("cert", certificate), ("sig", signature), ("data", data)];
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, bytes)| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).expect("writing a file");
            path
        })
        .collect();
    let output = Command::new("sqv")
        .arg("--keyring")
        .args(&paths)
        .output()
        .expect("sqv must be installed");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A key of ours: made `days` ago, valid for `valid_for`.
pub fn our_key(user_id: &str, days: u32, valid_for: Option<Duration>) -> Generated {
    generate(GenerateOptions {
        user_id: user_id.to_owned(),
        passphrase: None,
        created: days_ago(days),
        valid_for,
    })
    .expect("a key")
}

pub fn certificate(key: &Generated) -> Certificate {
    Certificate::parse(&key.certificate).expect("our certificate")
}

/// Signs [`DATA`] in binary form.
pub fn sign(key: &Generated, at: SystemTime) -> Vec<u8> {
    let signer = SignerKey::load(key.key.as_ref(), at).expect("our key");
    signer.sign_detached(DATA, at, false).expect("a signature")
}

pub fn trust(certificates: impl IntoIterator<Item = Certificate>, threshold: u32) -> TrustPolicy {
    TrustPolicy::new(certificates, threshold).expect("a policy")
}

/// The one line that says why not.
pub fn refusal(result: Result<Verified, Untrusted>) -> String {
    let line = result.expect_err("must not be trusted").to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

pub fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}
