//! Where a record must lie to count.

use crate::change::Offset;

/// Headers that only a record in Kafka has.
pub mod header {
    /// `17@19`: this is the topic's record 17, where it lies at Kafka's offset 19.
    pub const PLACE: &str = "tandem-place";
}

/// A record's own word about where it belongs. It counts only where Kafka's offset is the one it names.
///
/// Why this fences: a writer names the offset after the topic's end, as it knows it, and those after it for what follows.
/// A log only grows. So the record lands where it says, or, if anything else was kept in between, behind it; never
/// before it. A broker that lost the topic's end (it was restored from a copy) may let it land before, and that does not
/// count either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Our offset. A mark names the one that the next record gets.
    pub offset: Offset,
    /// Kafka's offset.
    pub at: i64,
}

impl Place {
    pub fn read(text: &[u8]) -> Option<Self> {
        let (offset, at) = std::str::from_utf8(text).ok()?.split_once('@')?;
        Some(Self { offset: Offset(offset.parse().ok()?), at: at.parse().ok()? })
    }

    /// As a header's value, in `text`.
    pub fn write(self, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(itoa::Buffer::new().format(self.offset.0).as_bytes());
        text.push(b'@');
        text.extend_from_slice(itoa::Buffer::new().format(self.at).as_bytes());
    }

    /// The place of the record that is sent `count` after this one.
    pub fn plus(self, count: usize) -> Self {
        Self { offset: Offset(self.offset.0.saturating_add(count as u64)), at: self.at.saturating_add(count as i64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_was_written_and_anything_else_is_none() {
        let mut text = Vec::new();
        for place in [Place { offset: Offset(0), at: 0 }, Place { offset: Offset(u64::MAX), at: i64::MAX }] {
            place.write(&mut text);
            assert_eq!(Place::read(&text), Some(place));
        }
        for bad in ["", "@", "1", "1@", "@1", "1@2@3", "a@1", "1@99999999999999999999", "\u{fc}@1", "-1@0"] {
            assert_eq!(Place::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Place::read(&[0xff, b'@', b'1']), None);
        assert_eq!(Place { offset: Offset(5), at: 7 }.plus(2), Place { offset: Offset(7), at: 9 });
    }
}
