//! The maps of sparse files: GNU's old headers and PAX formats 0.0, 0.1 and 1.0
//! (GNU tar manual, "Storing Sparse Files").

use std::io::Read;

use super::error::{LayerError, Problem};
use super::header::{BLOCK, GnuTail, SparseBlock, SparseField, number};
use super::pax::{SparseKeys, parse_decimal};
use super::source::Source;

/// Bytes that are present; between runs a sparse file reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A sparse file's length and what of it is in the tar.
pub(super) struct Map {
    pub(super) real_size: u64,
    pub(super) runs: Vec<Run>,
    /// Bytes of data in the tar after the map.
    pub(super) stored: u64,
}

impl Map {
    /// The map in GNU's old header and in the blocks that go on with it.
    pub(super) fn gnu<R: Read>(
        tail: &GnuTail,
        stored: u64,
        source: &mut Source<R>,
        limit: u64,
    ) -> Result<Result<Self, Problem>, LayerError> {
        let mut runs = Vec::new();
        let mut fields: Vec<SparseField> = tail.sparse.to_vec();
        let mut is_extended = tail.is_extended;
        loop {
            if let Err(problem) = take_fields(&fields, &mut runs, limit) {
                return Ok(Err(problem));
            }
            if is_extended == 0 {
                break;
            }
            let block: SparseBlock = zerocopy::transmute!(source.expect_block()?);
            fields = block.sparse.to_vec();
            is_extended = block.is_extended;
        }
        let real_size = number(&tail.real_size).and_then(|size| u64::try_from(size).ok());
        Ok(real_size
            .ok_or(Problem::Number("sparse real size"))
            .and_then(|real_size| {
                Map {
                    real_size,
                    runs,
                    stored,
                }
                .checked()
            }))
    }

    /// The map that PAX records give or announce; none if the file is not sparse.
    pub(super) fn pax<R: Read>(
        keys: SparseKeys,
        stored: u64,
        source: &mut Source<R>,
        limit: u64,
    ) -> Result<Result<Self, Problem>, LayerError> {
        let Some(real_size) = keys.real_size else {
            return Ok(Err(Problem::Sparse("no real size")));
        };
        let (runs, stored) = match (keys.major.unwrap_or(0), keys.minor.unwrap_or(0)) {
            (0, 0 | 1) => {
                let count = keys.runs.len() as u64;
                if keys.count.is_some_and(|stated| stated != count) {
                    return Ok(Err(Problem::Sparse("the number of runs differs")));
                }
                (keys.runs, stored)
            }
            (1, 0) => match Digits::new(source, stored).map(limit)? {
                Ok(map) => map,
                Err(problem) => return Ok(Err(problem)),
            },
            _ => return Ok(Err(Problem::Sparse("a format that is not known"))),
        };
        Ok(Map {
            real_size,
            runs,
            stored,
        }
        .checked())
    }

    /// Runs in order, within the file, and as many bytes as the tar has.
    fn checked(self) -> Result<Self, Problem> {
        let mut at = 0;
        let mut sum: u64 = 0;
        for run in &self.runs {
            if run.offset < at {
                return Err(Problem::Sparse("runs overlap or are out of order"));
            }
            let end = run.offset.checked_add(run.length);
            at = end
                .filter(|end| *end <= self.real_size)
                .ok_or(Problem::Sparse("a run ends outside the file"))?;
            sum = sum.saturating_add(run.length);
        }
        if sum != self.stored {
            return Err(Problem::Sparse(
                "the runs and the stored data differ in length",
            ));
        }
        Ok(self)
    }
}

impl SparseKeys {
    /// Whether any key says that the file is sparse.
    pub(super) fn is_sparse(&self) -> bool {
        self.major.is_some() || self.minor.is_some() || !self.runs.is_empty()
    }
}

fn take_fields(fields: &[SparseField], runs: &mut Vec<Run>, limit: u64) -> Result<(), Problem> {
    let unsigned = |field: &[u8]| {
        number(field)
            .and_then(|value| u64::try_from(value).ok())
            .ok_or(Problem::Number("sparse run"))
    };
    for field in fields.iter().take_while(|field| field.offset[0] != 0) {
        runs.push(Run {
            offset: unsigned(&field.offset)?,
            length: unsigned(&field.length)?,
        });
        check_count(runs.len() as u64, limit)?;
    }
    Ok(())
}

fn check_count(count: u64, limit: u64) -> Result<(), Problem> {
    let what = "runs in a sparse file";
    if count > limit {
        return Err(Problem::Limit { what, limit });
    }
    Ok(())
}

/// Format 1.0: decimal lines at the head of the data, padded to a block.
struct Digits<'a, R> {
    source: &'a mut Source<R>,
    block: [u8; BLOCK],
    at: usize,
    /// Bytes of the entry's data not yet taken.
    left: u64,
}

impl<'a, R: Read> Digits<'a, R> {
    fn new(source: &'a mut Source<R>, stored: u64) -> Self {
        Digits {
            source,
            block: [0; BLOCK],
            at: BLOCK,
            left: stored,
        }
    }

    /// The runs, and the bytes of data that come after the map.
    fn map(mut self, limit: u64) -> Result<Result<(Vec<Run>, u64), Problem>, LayerError> {
        let mut runs = Vec::new();
        let count = match self.line()? {
            Ok(count) => count,
            Err(problem) => return Ok(Err(problem)),
        };
        if let Err(problem) = check_count(count, limit) {
            return Ok(Err(problem));
        }
        for _ in 0..count {
            match (self.line()?, self.line()?) {
                (Ok(offset), Ok(length)) => runs.push(Run { offset, length }),
                (Err(problem), _) | (_, Err(problem)) => return Ok(Err(problem)),
            }
        }
        Ok(Ok((runs, self.left)))
    }

    fn line(&mut self) -> Result<Result<u64, Problem>, LayerError> {
        let mut digits = Vec::with_capacity(20);
        loop {
            let byte = match self.byte()? {
                Some(byte) => byte,
                None => return Ok(Err(Problem::Sparse("the map is longer than the data"))),
            };
            if byte == b'\n' {
                return Ok(parse_decimal(&digits).ok_or(Problem::Number("sparse run")));
            }
            if digits.len() == 20 {
                return Ok(Err(Problem::Number("sparse run")));
            }
            digits.push(byte);
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, LayerError> {
        if self.at == BLOCK {
            let Some(left) = self.left.checked_sub(BLOCK as u64) else {
                return Ok(None);
            };
            self.left = left;
            self.block = self.source.expect_block()?;
            self.at = 0;
        }
        let byte = self.block.get(self.at).copied();
        self.at += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runs: &[(u64, u64)], real_size: u64, stored: u64) -> bool {
        let runs = runs
            .iter()
            .map(|&(offset, length)| Run { offset, length })
            .collect();
        let map = Map {
            real_size,
            runs,
            stored,
        };
        map.checked().is_ok()
    }

    #[test]
    fn maps_that_hold() {
        assert!(check(&[], 10, 0));
        assert!(check(&[(0, 4), (8, 2), (10, 0)], 10, 6));
    }

    #[test]
    fn maps_that_do_not() {
        assert!(!check(&[(4, 4), (0, 2)], 10, 6), "out of order");
        assert!(!check(&[(0, 4), (3, 2)], 10, 6), "overlap");
        assert!(!check(&[(8, 4)], 10, 4), "past the end");
        assert!(!check(&[(u64::MAX, 2)], u64::MAX, 2), "overflow");
        assert!(!check(&[(0, 4)], 10, 5), "data left over");
        assert!(!check(&[(0, 4)], 10, 3), "data missing");
    }
}
