//! What comes in on an open network: frames, DHCP answers, and a client that is
//! given any of them at any time.

#![no_main]

use std::net::Ipv4Addr;
use std::time::Duration;

use standby_guest::net::dhcp::{Answer, Question, broadcast_frame, frame_message};
use standby_guest::net::lease::{Client, Output};

standby_fuzz::target!(run, seeds);

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn run(data: &[u8]) {
    if let Some(message) = frame_message(data) {
        let _ = Answer::parse(message);
    }
    if let Ok(answer) = Answer::parse(data) {
        assert!(answer.prefix <= 32 && answer.routes.len() <= 32 && answer.dns.len() <= 3);
    }
    talk(data);
}

/// An input is answers, each after a pause and its length.
fn talk(data: &[u8]) {
    let mut client = Client::new(MAC, 1);
    let (mut now, mut transaction) = (Duration::ZERO, 1);
    let mut rest = data;
    for _ in 0..20 {
        let mut outputs = Vec::new();
        for _ in 0..4 {
            outputs.extend(client.poll(now));
        }
        let waits = client.deadline().is_none_or(|deadline| deadline > now);
        assert!(waits, "a client that spins");
        assert!(outputs.len() <= 8, "a client that floods");
        for output in &outputs {
            if let Output::Broadcast(question) | Output::Unicast(_, question) = output {
                transaction = check(question);
            }
        }
        let Some(([pause, a, b], after)) = rest.split_first_chunk::<3>() else {
            return;
        };
        let length = usize::from(u16::from_le_bytes([*a, *b])).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        now += Duration::from_secs(1 << (pause % 33));
        if let Ok(mut answer) = Answer::parse(message) {
            (answer.transaction, answer.mac) = (transaction, MAC);
            for output in client.receive(now, &answer) {
                if let Output::Bound(lease) = output {
                    assert!(!lease.address.is_unspecified() && lease.prefix <= 32);
                }
            }
        }
    }
}

fn check(question: &Question) -> u32 {
    let message = question.encode();
    assert!(message.len() <= 576);
    let frame = broadcast_frame(MAC, Ipv4Addr::UNSPECIFIED, &message).expect("it fits");
    // To servers, so not for a client.
    assert!(frame_message(&frame).is_none());
    question.transaction
}

/// An answer with every option that is read.
fn answer(kind: u8) -> Vec<u8> {
    let mut out = vec![0; 236];
    out[..3].copy_from_slice(&[2, 1, 6]);
    out[16..20].copy_from_slice(&[10, 0, 2, 15]);
    out.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind, 54, 4, 10, 0, 2, 2]);
    out.extend_from_slice(&[1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3]);
    out.extend_from_slice(&[121, 8, 24, 192, 0, 2, 10, 0, 2, 4, 26, 2, 5, 220]);
    out.extend_from_slice(&[51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 7, 8, 59, 4, 0, 0, 12, 78]);
    out.extend_from_slice(&[52, 1, 3, 255]);
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let after = |pause: u8, message: &[u8]| {
        let length = u16::try_from(message.len()).expect("short").to_le_bytes();
        [&[pause], &length[..], message].concat()
    };
    let bound = [after(0, &answer(2)), after(0, &answer(5))].concat();
    let renewed = [bound.clone(), after(11, &answer(5)), after(11, &answer(6))].concat();
    let mut frame = broadcast_frame(MAC, Ipv4Addr::LOCALHOST, &answer(2)).expect("it fits");
    frame[37] = 68;
    assert!(frame_message(&frame).is_some_and(|m| Answer::parse(m).is_ok()));
    vec![answer(2), bound, renewed, frame]
}
