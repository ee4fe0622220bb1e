//! Pauses before a process is started again.

use std::time::Duration;

/// Doubling pauses; start over after a good while.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The first pause.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// No pause is longer.
    pub const LONGEST: Duration = Duration::from_secs(10);
    /// After being well for this long, the next pause is the first again.
    pub const GOOD: Duration = Duration::from_secs(60);

    /// Starts with [`Backoff::FIRST`].
    pub fn new() -> Self {
        Backoff { next: Self::FIRST }
    }

    /// The pause after a process that was well for this long.
    pub fn pause(&mut self, well: Duration) -> Duration {
        if well >= Self::GOOD {
            self.next = Self::FIRST;
        }
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(Self::LONGEST);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..9)
            .map(|_| backoff.pause(Duration::from_secs(59)).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(backoff.pause(Backoff::GOOD), Backoff::FIRST);
        assert_eq!(backoff.pause(Duration::ZERO), Backoff::FIRST * 2);
    }
}
