use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn answer(options: &[u8]) -> Vec<u8> {
    let mut out = vec![0; FIXED];
    out[..3].copy_from_slice(&[2, 1, 6]);
    out[4..8].copy_from_slice(&7u32.to_be_bytes());
    out[16..20].copy_from_slice(&[10, 0, 2, 15]);
    out[28..34].copy_from_slice(&MAC);
    out.extend(COOKIE);
    out.extend(options);
    out
}

fn question() -> Question {
    Question {
        kind: Kind::Request,
        transaction: 7,
        mac: MAC,
        client: None,
        requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
        server: Some(Ipv4Addr::new(10, 0, 2, 2)),
    }
}

#[test]
fn an_ordinary_answer() {
    let bytes = answer(&[
        53, 1, 5, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 8, 10, 0, 2, 3,
        9, 9, 9, 9, 51, 4, 0, 1, 81, 128, 26, 2, 5, 120, 255,
    ]);
    let answer = Answer::parse(&bytes).unwrap();
    assert_eq!(answer.kind, Kind::Ack);
    assert_eq!(answer.transaction, 7);
    assert_eq!(answer.address, Ipv4Addr::new(10, 0, 2, 15));
    assert_eq!(answer.prefix, 24);
    assert_eq!(answer.dns.len(), 2);
    assert_eq!(answer.lease, Some(86400));
    assert_eq!(answer.mtu, Some(1400));
    let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
    assert_eq!(answer.routes[0].gateway, gateway);
    assert_eq!(answer.server, gateway);
}

/// A /32 whose gateway lies outside, and option 3, which option 121 replaces.
#[test]
fn a_host_route_and_a_default_route() {
    let mut options = vec![53, 1, 5, 1, 4, 255, 255, 255, 255, 3, 4, 1, 2, 3, 4];
    let gateway = [172, 31, 1, 1];
    let mut routes = vec![32];
    routes.extend(gateway);
    routes.extend([0; 4]);
    routes.push(0);
    routes.extend(gateway);
    routes.extend([20, 10, 9, 0xff]);
    routes.extend(gateway);
    options.extend([121, u8::try_from(routes.len()).unwrap()]);
    options.extend(routes);
    options.push(255);
    let answer = Answer::parse(&answer(&options)).unwrap();
    let gateway = Ipv4Addr::from(gateway);
    assert_eq!(answer.prefix, 32);
    assert_eq!(
        answer.routes,
        [
            Route {
                network: gateway,
                length: 32,
                gateway: None
            },
            Route {
                network: Ipv4Addr::UNSPECIFIED,
                length: 0,
                gateway: Some(gateway)
            },
            Route {
                network: Ipv4Addr::new(10, 9, 0xf0, 0),
                length: 20,
                gateway: Some(gateway)
            },
        ]
    );
}

#[test]
fn overloaded_and_split_options() {
    let mut bytes = answer(&[53, 1, 2, 52, 1, 3, 6, 2, 9, 9, 255]);
    bytes[108..113].copy_from_slice(&[6, 2, 8, 8, 255]);
    bytes[44..51].copy_from_slice(&[51, 4, 0, 0, 0, 60, 255]);
    let answer = Answer::parse(&bytes).unwrap();
    assert_eq!(answer.dns, [Ipv4Addr::new(9, 9, 8, 8)]);
    assert_eq!(answer.lease, Some(60));
}

#[test]
fn hostile_answers_are_refused() {
    for (options, error) in [
        (&[53, 1, 1, 255][..], DhcpError::Other),
        (&[53, 1, 99, 255], DhcpError::Option(53)),
        (&[53, 2, 5, 5, 255], DhcpError::Other),
        (&[255], DhcpError::Other),
        (&[53, 1, 5, 51, 3, 0, 0, 0, 255], DhcpError::Option(51)),
        (&[53, 1, 5, 52, 1, 4, 255], DhcpError::Option(52)),
        (&[53, 1, 5, 3, 200, 1], DhcpError::CutOff),
        (&[53], DhcpError::CutOff),
    ] {
        assert_eq!(Answer::parse(&answer(options)), Err(error), "{options:?}");
    }
    let mut request = answer(&[53, 1, 5, 255]);
    request[0] = 1;
    assert_eq!(Answer::parse(&request), Err(DhcpError::Other));
    assert_eq!(Answer::parse(&[]), Err(DhcpError::CutOff));
}

/// Servers get options wrong, and the address is worth having even so.
#[test]
fn an_odd_option_is_as_none() {
    let plain = Answer::parse(&answer(&[53, 1, 5, 255])).unwrap();
    for odd in [
        &[1, 4, 255, 0, 255, 0][..],
        &[1, 3, 255, 255, 255],
        &[3, 3, 10, 0, 2],
        &[6, 5, 1, 2, 3, 4, 5],
        &[26, 1, 5],
        &[58, 3, 0, 0, 0],
        &[59, 0],
        &[121, 1, 33],
        &[121, 2, 24, 1],
    ] {
        let options = [&[53, 1, 5], odd, &[255]].concat();
        assert_eq!(
            Answer::parse(&answer(&options)).as_ref(),
            Ok(&plain),
            "{odd:?}"
        );
    }
    // Then the router counts.
    let options = [53, 1, 5, 121, 1, 33, 3, 4, 10, 0, 2, 2, 255];
    let answer = Answer::parse(&answer(&options)).unwrap();
    assert_eq!(answer.routes[0].gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
}

#[test]
fn frames_carry_messages_to_clients_only() {
    let message = question().encode();
    let frame = broadcast_frame(MAC, Ipv4Addr::UNSPECIFIED, &message).unwrap();
    assert_eq!(checksum(&frame[14..34]), 0);
    // To a server, so not for us.
    assert_eq!(frame_message(&frame), None);
    let mut answer = frame.clone();
    answer[37] = 68;
    assert_eq!(frame_message(&answer), Some(message.as_slice()));
    for (at, value) in [
        (12, 0x86),
        (14, 0x65),
        (14, 0x41),
        (23, 6),
        (20, 0x20),
        (16, 0xff),
        (38, 0xff),
    ] {
        let mut bad = answer.clone();
        bad[at] = value;
        assert_eq!(frame_message(&bad), None, "byte {at}");
    }
}

#[test]
fn questions() {
    let bytes = question().encode();
    assert_eq!(bytes.len(), 300);
    assert_eq!(bytes[10], 0x80);
    assert_eq!(bytes[240..243], [53, 1, 3]);
    assert_eq!(bytes[243..249], [50, 4, 10, 0, 2, 15]);
    let kept = Question {
        client: Some(Ipv4Addr::new(10, 0, 2, 15)),
        requested: None,
        server: None,
        ..question()
    };
    let bytes = kept.encode();
    assert_eq!(bytes[10], 0);
    assert_eq!(bytes[12..16], [10, 0, 2, 15]);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = Answer::parse(&bytes);
        let _ = frame_message(&bytes);
    }

    #[test]
    fn no_options_panic(options in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = vec![53, 1, 5];
        bytes.extend(options);
        let _ = Answer::parse(&answer(&bytes));
    }

    #[test]
    fn no_frame_panics(frame in proptest::collection::vec(any::<u8>(), 0..200), flips in any::<[u8; 4]>()) {
        let message = question().encode();
        let mut good = broadcast_frame(MAC, Ipv4Addr::UNSPECIFIED, &message).unwrap();
        for flip in flips {
            let at = usize::from(flip) % good.len();
            good[at] ^= 1 << (flip % 8);
        }
        let _ = frame_message(&good);
        let _ = frame_message(&frame);
    }
}
