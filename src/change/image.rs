//! Images of rows, and the memory that the rows of one event share.

use std::fmt;
use std::sync::Arc;

use super::{Value, ValueRef};

/// One row as it was or became: a value per column of the shape, `None` where the source did not say.
/// Unknown is never the same as NULL.
///
/// A view of a [`RowBuffer`], so a clone costs nothing. Of many rows of one event each keeps the memory of all; they
/// live and go together.
#[derive(Clone)]
pub struct Image {
    buffer: Arc<RowBuffer>,
    first: usize,
    count: usize,
}

impl Image {
    /// A row by itself.
    pub fn of(values: impl IntoIterator<Item = Option<Value>>) -> Self {
        let mut buffer = RowBuffer::default();
        for value in values {
            match value {
                Some(value) => buffer.push(value.as_ref()),
                None => buffer.push_unknown(),
            }
        }
        let count = buffer.slots.len();
        Self { buffer: Arc::new(buffer), first: 0, count }
    }

    pub fn get(&self, column: usize) -> Option<ValueRef<'_>> {
        self.slots().get(column).and_then(|slot| self.buffer.value(slot))
    }

    /// One for each column of the shape, in its order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Option<ValueRef<'_>>> {
        self.slots().iter().map(|slot| self.buffer.value(slot))
    }

    pub fn is_full(&self) -> bool {
        !self.slots().iter().any(|slot| matches!(slot, Slot::Unknown))
    }

    /// Bytes that this row takes in memory: what limits of batches and queues count.
    pub fn weight(&self) -> usize {
        let of = |slot: &Slot| match *slot {
            Slot::Text { length, .. } | Slot::Bytes { length, .. } => length as usize,
            _ => 0,
        };
        self.slots().iter().map(|slot| size_of::<Slot>() + of(slot)).sum()
    }

    fn slots(&self) -> &[Slot] {
        &self.buffer.slots[self.first..self.first + self.count]
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}

/// The values of rows behind each other, in four pieces of memory however many rows there are: asking for a piece per
/// text and per row was almost half of the time of reading a binlog.
#[derive(Default)]
pub struct RowBuffer {
    slots: Vec<Slot>,
    text: String,
    bytes: Vec<u8>,
}

/// A value, or where it lies.
#[derive(Clone, Copy)]
enum Slot {
    Unknown,
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Text { length: u32, start: usize },
    Bytes { length: u32, start: usize },
}

impl RowBuffer {
    /// With room for so many bytes of text.
    pub fn with_text(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ..Self::default() }
    }

    /// With room for so many values, and so many bytes of text.
    pub fn with_room(values: usize, text_bytes: usize) -> Self {
        Self { slots: Vec::with_capacity(values), ..Self::with_text(text_bytes) }
    }

    /// The next value.
    #[inline]
    pub fn push(&mut self, value: ValueRef<'_>) {
        let slot = match value {
            ValueRef::Null => Slot::Null,
            ValueRef::Int(number) => Slot::Int(number),
            ValueRef::UInt(number) => Slot::UInt(number),
            ValueRef::Float(number) => Slot::Float(number),
            ValueRef::Double(number) => Slot::Double(number),
            ValueRef::Text(text) => {
                let start = self.text.len();
                self.text.push_str(text);
                Slot::Text { length: length(text.len()), start }
            }
            ValueRef::Bytes(bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Slot::Bytes { length: length(bytes.len()), start }
            }
        };
        self.slots.push(slot);
    }

    /// The next value, which the source did not say.
    #[inline]
    pub fn push_unknown(&mut self) {
        self.slots.push(Slot::Unknown);
    }

    /// The next value: these bytes and zeros up to the length.
    pub fn push_padded(&mut self, bytes: &[u8], to: usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(start + to.max(bytes.len()), 0);
        self.slots.push(Slot::Bytes { length: length(self.bytes.len() - start), start });
    }

    /// Makes room for what is here so many times more, within reason: the number may be somebody's lie.
    pub fn reserve_like(&mut self, times: usize) {
        const ROOM_MAX: usize = 1 << 16;
        self.slots.reserve(self.slots.len().saturating_mul(times).min(ROOM_MAX));
        self.bytes.reserve(self.bytes.len().saturating_mul(times).min(ROOM_MAX));
    }

    /// The rows, of so many values each. Values that do not make up a whole row are left out.
    pub fn into_images(self, width: usize) -> impl Iterator<Item = Image> {
        let count = self.slots.len().checked_div(width).unwrap_or(0);
        let buffer = Arc::new(self);
        (0..count).map(move |row| Image { buffer: buffer.clone(), first: row * width, count: width })
    }

    #[inline]
    fn value(&self, slot: &Slot) -> Option<ValueRef<'_>> {
        Some(match *slot {
            Slot::Unknown => return None,
            Slot::Null => ValueRef::Null,
            Slot::Int(number) => ValueRef::Int(number),
            Slot::UInt(number) => ValueRef::UInt(number),
            Slot::Float(number) => ValueRef::Float(number),
            Slot::Double(number) => ValueRef::Double(number),
            Slot::Text { length, start } => ValueRef::Text(&self.text[start..start + length as usize]),
            Slot::Bytes { length, start } => ValueRef::Bytes(&self.bytes[start..start + length as usize]),
        })
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("no column of MariaDB holds more than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_memory_are_rows_by_themselves() {
        let rows = [
            vec![Some(Value::Int(1)), None, Some(Value::text("Zo\u{eb}"))],
            vec![Some(Value::Null), Some(Value::Bytes([1, 0].into())), Some(Value::text(""))],
            vec![Some(Value::UInt(u64::MAX)), Some(Value::Double(0.5)), Some(Value::text("z"))],
        ];
        let mut buffer = RowBuffer::default();
        for value in rows.iter().flatten() {
            match value {
                Some(Value::Bytes(bytes)) => buffer.push_padded(&bytes[..1], 2),
                Some(value) => buffer.push(value.as_ref()),
                None => buffer.push_unknown(),
            }
        }
        let images: Vec<Image> = buffer.into_images(3).collect();
        assert_eq!(images.len(), rows.len());
        for (image, row) in images.iter().zip(&rows) {
            assert_eq!(*image, Image::of(row.clone()));
            assert_eq!(
                image.values().collect::<Vec<_>>(),
                row.iter().map(|value| value.as_ref().map(Value::as_ref)).collect::<Vec<_>>()
            );
        }
        assert_ne!(images[0], images[1]);
        assert_ne!(Image::of([None]), Image::of([Some(Value::Null)]), "unknown is not NULL");
        assert!(!images[0].is_full() && images[1].is_full());
        assert_eq!((images[0].get(2), images[0].get(3)), (Some(ValueRef::Text("Zo\u{eb}")), None));
        assert_eq!(images[0].weight(), 3 * 16 + 4);
        assert_eq!(RowBuffer::default().into_images(0).count(), 0);
    }
}
