//! The DHCP client's states (RFC 2131, section 4.4): the time and messages in,
//! messages and configuration out.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::dhcp::{Answer, Kind, Question, Route};

/// The first pause before a question is repeated; it doubles. The first question
/// is often lost: an interface that has just come up does not send yet.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Requests of an offer before looking for another.
const REQUESTS: u32 = 4;
/// Pauses while keeping a lease are not shorter (RFC 2131, section 4.4.5).
const KEEP_PAUSE: Duration = Duration::from_secs(60);
/// Leases are not taken to be shorter, so that a server cannot keep us busy.
const SHORTEST: u32 = 60;
/// The lease of a server that does not say.
const UNSAID: u32 = 3600;

/// An address, and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network.
    pub prefix: u8,
    /// Ways to other networks.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Bytes of a packet.
    pub mtu: Option<u16>,
    /// Who gave it.
    pub server: Ipv4Addr,
}

impl Lease {
    /// Whether it names a router to everywhere.
    pub fn leads_out(&self) -> bool {
        self.routes
            .iter()
            .any(|route| route.length == 0 && route.gateway.is_some())
    }
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to all servers of the link.
    Broadcast(Question),
    /// Send to one server, from the leased address.
    Unicast(Ipv4Addr, Question),
    /// Configure this; it may repeat what is configured.
    Bound(Lease),
    /// Take the configuration away: the address is not ours any more.
    Lost,
}

#[derive(Clone, Debug)]
enum State {
    Selecting,
    Requesting { offer: Lease, sent: u32 },
    Bound,
    Renewing,
    Rebinding,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    renew: Duration,
    rebind: Duration,
    end: Duration,
}

/// One interface's client.
#[derive(Clone, Debug)]
pub struct Client {
    mac: [u8; 6],
    transaction: u32,
    state: State,
    lease: Option<Lease>,
    times: Option<Times>,
    /// When something is to be done next; none if the lease is for ever.
    next: Option<Duration>,
    pause: Duration,
}

impl Client {
    /// Starts looking at the next [`Client::poll`].
    pub fn new(mac: [u8; 6], transaction: u32) -> Self {
        Client::starting_at(mac, transaction, Duration::ZERO)
    }

    /// Starts looking at that time.
    pub fn starting_at(mac: [u8; 6], transaction: u32, start: Duration) -> Self {
        Client {
            mac,
            transaction,
            state: State::Selecting,
            lease: None,
            times: None,
            next: Some(start),
            pause: FIRST_PAUSE,
        }
    }

    /// When [`Client::poll`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.next
    }

    /// Whether an answer is waited for.
    pub fn listening(&self) -> bool {
        !matches!(self.state, State::Bound)
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Duration) -> Vec<Output> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        match (self.times, &self.state) {
            (Some(times), _) if now >= times.end => {
                self.restart(now);
                let mut outputs = vec![Output::Lost];
                outputs.extend(self.poll(now));
                outputs
            }
            (Some(times), _) => self.keep(now, times),
            (None, State::Requesting { offer, sent }) if *sent < REQUESTS => {
                let question = self.request(offer);
                let (offer, sent) = (offer.clone(), sent + 1);
                self.state = State::Requesting { offer, sent };
                self.wait(now);
                vec![Output::Broadcast(question)]
            }
            (None, State::Requesting { .. }) => {
                self.restart(now);
                self.poll(now)
            }
            (None, _) => {
                self.wait(now);
                vec![Output::Broadcast(self.question(Kind::Discover))]
            }
        }
    }

    /// Takes a message that came in; one that is not an answer to the last
    /// question changes nothing.
    pub fn receive(&mut self, now: Duration, answer: &Answer) -> Vec<Output> {
        if answer.transaction != self.transaction || answer.mac != self.mac {
            return Vec::new();
        }
        match (&self.state, answer.kind) {
            (State::Selecting, Kind::Offer) => {
                let Some(offer) = lease(answer, None) else {
                    return Vec::new();
                };
                self.pause = FIRST_PAUSE;
                self.next = Some(now);
                self.state = State::Requesting { offer, sent: 0 };
                self.poll(now)
            }
            (State::Requesting { offer, .. }, Kind::Ack) => {
                let server = offer.server;
                self.bind(now, answer, server)
            }
            (State::Renewing | State::Rebinding, Kind::Ack) => {
                let server = self.lease.as_ref().map(|lease| lease.server);
                self.bind(now, answer, server.unwrap_or(Ipv4Addr::UNSPECIFIED))
            }
            (State::Requesting { offer, .. }, Kind::Nak) if from(answer, offer.server) => {
                self.restart(now);
                // At once would let two machines on one address spin.
                self.next = Some(now + FIRST_PAUSE);
                Vec::new()
            }
            (State::Renewing | State::Rebinding, Kind::Nak) => {
                self.restart(now);
                vec![Output::Lost]
            }
            _ => Vec::new(),
        }
    }

    fn question(&self, kind: Kind) -> Question {
        Question {
            kind,
            transaction: self.transaction,
            mac: self.mac,
            client: None,
            requested: None,
            server: None,
        }
    }

    fn request(&self, offer: &Lease) -> Question {
        Question {
            requested: Some(offer.address),
            server: Some(offer.server),
            ..self.question(Kind::Request)
        }
    }

    fn wait(&mut self, now: Duration) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn restart(&mut self, now: Duration) {
        self.transaction = self.transaction.wrapping_add(1);
        self.state = State::Selecting;
        self.lease = None;
        self.times = None;
        self.next = Some(now);
        self.pause = FIRST_PAUSE;
    }

    fn bind(&mut self, now: Duration, answer: &Answer, server: Ipv4Addr) -> Vec<Output> {
        let Some(lease) = lease(answer, Some(server)) else {
            return Vec::new();
        };
        self.times = times(now, answer);
        self.next = self.times.map(|times| times.renew);
        self.state = State::Bound;
        let lost = self
            .lease
            .as_ref()
            .is_some_and(|old| (old.address, old.prefix) != (lease.address, lease.prefix));
        self.lease = Some(lease.clone());
        let bound = Output::Bound(lease);
        if lost {
            vec![Output::Lost, bound]
        } else {
            vec![bound]
        }
    }

    /// Asks to keep the lease: first its server, later any.
    fn keep(&mut self, now: Duration, times: Times) -> Vec<Output> {
        let Some(lease) = &self.lease else {
            return Vec::new();
        };
        let question = Question {
            client: Some(lease.address),
            ..self.question(Kind::Request)
        };
        let (output, end) = if now < times.rebind {
            self.state = State::Renewing;
            (Output::Unicast(lease.server, question), times.rebind)
        } else {
            self.state = State::Rebinding;
            (Output::Broadcast(question), times.end)
        };
        let half = end.saturating_sub(now) / 2;
        self.next = Some((now + half.max(KEEP_PAUSE)).min(end));
        vec![output]
    }
}

fn from(answer: &Answer, server: Ipv4Addr) -> bool {
    answer.server.is_none_or(|from| from == server)
}

/// What an answer gives, if that can be used at all.
fn lease(answer: &Answer, server: Option<Ipv4Addr>) -> Option<Lease> {
    let address = answer.address;
    let unusable = address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_loopback();
    let server = answer.server.or(server)?;
    (!unusable).then(|| Lease {
        address,
        prefix: answer.prefix,
        routes: answer.routes.clone(),
        dns: answer.dns.clone(),
        mtu: answer.mtu,
        server,
    })
}

/// T1 and T2 default to half and seven eighths (RFC 2131, section 4.4.5), also
/// when the server's are out of order.
fn times(now: Duration, answer: &Answer) -> Option<Times> {
    let seconds = answer.lease.unwrap_or(UNSAID).max(SHORTEST);
    if seconds == u32::MAX {
        return None;
    }
    let ordered = match (answer.renewal, answer.rebinding) {
        (Some(renew), Some(rebind)) if 0 < renew && renew < rebind && rebind < seconds => {
            Some((renew, rebind))
        }
        _ => None,
    };
    let (renew, rebind) = ordered.unwrap_or((seconds / 2, seconds - seconds / 8));
    let after = |seconds: u32| now + Duration::from_secs(seconds.into());
    Some(Times {
        renew: after(renew),
        rebind: after(rebind),
        end: after(seconds),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn answer(kind: Kind, transaction: u32) -> Answer {
        Answer {
            kind,
            transaction,
            mac: MAC,
            address: Ipv4Addr::new(10, 0, 2, 15),
            server: Some(SERVER),
            prefix: 24,
            routes: Vec::new(),
            dns: Vec::new(),
            mtu: None,
            lease: Some(1000),
            renewal: None,
            rebinding: None,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn kinds(outputs: &[Output]) -> Vec<&'static str> {
        outputs
            .iter()
            .map(|output| match output {
                Output::Broadcast(Question {
                    kind: Kind::Discover,
                    ..
                }) => "discover",
                Output::Broadcast(_) => "broadcast",
                Output::Unicast(..) => "unicast",
                Output::Bound(_) => "bound",
                Output::Lost => "lost",
            })
            .collect()
    }

    fn bound() -> Client {
        let mut client = Client::new(MAC, 5);
        assert_eq!(kinds(&client.poll(at(0))), ["discover"]);
        let outputs = client.receive(at(0), &answer(Kind::Offer, 5));
        let [Output::Broadcast(request)] = outputs.as_slice() else {
            panic!("{outputs:?}");
        };
        assert_eq!(request.server, Some(SERVER));
        assert_eq!(request.requested, Some(Ipv4Addr::new(10, 0, 2, 15)));
        assert_eq!(
            kinds(&client.receive(at(0), &answer(Kind::Ack, 5))),
            ["bound"]
        );
        assert!(!client.listening());
        client
    }

    #[test]
    fn discovers_back_off() {
        let mut client = Client::new(MAC, 5);
        let mut times = Vec::new();
        for _ in 0..8 {
            let now = client.deadline().unwrap();
            assert_eq!(kinds(&client.poll(now)), ["discover"]);
            times.push(now.as_millis());
        }
        assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 15750, 31750]);
    }

    #[test]
    fn a_lease_is_renewed_rebound_and_lost() {
        let mut client = bound();
        assert_eq!(client.deadline(), Some(at(500)));
        assert_eq!(client.poll(at(499)), []);
        assert_eq!(kinds(&client.poll(at(500))), ["unicast"]);
        assert!(client.listening());
        // Half of the time to T2 (875 s), at least 60 s.
        assert_eq!(client.deadline(), Some(Duration::from_millis(687_500)));
        assert_eq!(kinds(&client.poll(at(688))), ["unicast"]);
        assert_eq!(kinds(&client.poll(at(875))), ["broadcast"]);
        assert_eq!(kinds(&client.poll(at(1000))), ["lost", "discover"]);
    }

    #[test]
    fn renewing_starts_over_the_times() {
        let mut client = bound();
        client.poll(at(500));
        assert_eq!(
            kinds(&client.receive(at(501), &answer(Kind::Ack, 5))),
            ["bound"]
        );
        assert_eq!(client.deadline(), Some(at(1001)));
        client.poll(at(1001));
        let mut other = answer(Kind::Ack, 5);
        other.address = Ipv4Addr::new(10, 0, 2, 16);
        assert_eq!(kinds(&client.receive(at(1002), &other)), ["lost", "bound"]);
        client.poll(client.deadline().unwrap());
        assert_eq!(
            kinds(&client.receive(at(9999), &answer(Kind::Nak, 5))),
            ["lost"]
        );
    }

    #[test]
    fn an_offer_that_is_not_kept_is_given_up() {
        let mut client = Client::new(MAC, 5);
        client.poll(at(0));
        client.receive(at(0), &answer(Kind::Offer, 5));
        let mut seen = Vec::new();
        while !seen.contains(&"discover") {
            let now = client.deadline().unwrap();
            seen.extend(kinds(&client.poll(now)));
        }
        assert_eq!(seen, ["broadcast", "broadcast", "broadcast", "discover"]);
        // The old transaction's answer comes too late.
        assert_eq!(client.receive(at(99), &answer(Kind::Offer, 5)), []);
    }

    #[test]
    fn answers_to_others_and_unusable_ones_change_nothing() {
        let mut client = Client::new(MAC, 5);
        client.poll(at(0));
        assert_eq!(client.receive(at(0), &answer(Kind::Offer, 6)), []);
        assert_eq!(client.receive(at(0), &answer(Kind::Ack, 5)), []);
        let mut other = answer(Kind::Offer, 5);
        other.mac[5] = 9;
        assert_eq!(client.receive(at(0), &other), []);
        for address in [
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::BROADCAST,
            Ipv4Addr::LOCALHOST,
        ] {
            let mut offer = answer(Kind::Offer, 5);
            offer.address = address;
            assert_eq!(client.receive(at(0), &offer), [], "{address}");
        }
        let mut offer = answer(Kind::Offer, 5);
        offer.server = None;
        assert_eq!(client.receive(at(0), &offer), []);
    }

    #[test]
    fn lease_times() {
        let times = |lease, renewal, rebinding| {
            let answer = Answer {
                lease,
                renewal,
                rebinding,
                ..answer(Kind::Ack, 0)
            };
            times(Duration::ZERO, &answer)
                .map(|t| [t.renew, t.rebind, t.end].map(|time| time.as_secs()))
        };
        assert_eq!(times(Some(800), None, None), Some([400, 700, 800]));
        assert_eq!(times(Some(800), Some(10), Some(20)), Some([10, 20, 800]));
        assert_eq!(times(Some(800), Some(30), Some(20)), Some([400, 700, 800]));
        assert_eq!(times(Some(0), None, None), Some([30, 53, 60]));
        assert_eq!(times(None, None, None), Some([1800, 3150, 3600]));
        assert_eq!(times(Some(u32::MAX), None, None), None);
    }

    proptest! {
        /// Whatever comes, there is either a lease for ever or a next step, and
        /// it is not now for ever.
        #[test]
        fn it_goes_on(steps in proptest::collection::vec((0..3u8, any::<u32>(), any::<u32>()), 0..40)) {
            let mut client = Client::new(MAC, 5);
            let mut now = Duration::ZERO;
            for (kind, time, seconds) in steps {
                now += Duration::from_secs(u64::from(time % 5000));
                client.poll(now);
                prop_assert!(client.deadline().is_none_or(|next| next > now));
                let kind = [Kind::Offer, Kind::Ack, Kind::Nak][usize::from(kind)];
                let mut answer = answer(kind, client.transaction);
                answer.lease = Some(seconds);
                client.receive(now, &answer);
            }
        }
    }
}
