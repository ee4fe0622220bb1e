//! `verify CERTIFICATE SIGNATURE DATA`: who signed, or why that is not trusted.

use std::process::ExitCode;
use std::time::SystemTime;

use standby_keys::{Certificate, TrustPolicy};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let answer = match arguments.as_slice() {
        [certificate, signature, data] => verify(certificate, signature, data),
        _ => Err("usage: verify CERTIFICATE SIGNATURE DATA".into()),
    };
    #[allow(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "an example speaks"
    )]
    match answer {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn verify(
    certificate: &str,
    signature: &str,
    data: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let certificates = Certificate::parse_all(&std::fs::read(certificate)?)?;
    let policy = TrustPolicy::new(certificates, 1)?;
    let signature = std::fs::read(signature)?;
    let verified = policy.verify(&std::fs::read(data)?, &[signature], SystemTime::now())?;
    let names: Vec<String> = verified
        .signers
        .iter()
        .map(|signer| {
            let name = signer.user_id.as_deref().unwrap_or("no name");
            format!("{} {name}", signer.fingerprint)
        })
        .collect();
    Ok(names.join("\n"))
}
