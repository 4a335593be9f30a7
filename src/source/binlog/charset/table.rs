//! A character set as a table of codes of one, two or three bytes. All characters lie in the first plane of Unicode.

use std::fmt;

/// No character, or none of its own.
const GAP: u16 = 0xfffd;

/// The lead byte of the three-byte codes of ujis and eucjpms.
const LEAD_OF_THREE: u8 = 0x8f;

pub(in super::super) struct Table {
    single: [u16; 256],
    holds_ascii: bool,
    /// By lead byte; empty in a single-byte character set.
    two: Vec<Page>,
    /// By the second byte, after [`LEAD_OF_THREE`]; empty where that is a lead byte like any other.
    three: Vec<Page>,
}

/// The characters of consecutive last bytes.
#[derive(Default, Clone)]
struct Page {
    first: u8,
    characters: Vec<u16>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl Page {
    fn get(&self, last: u8) -> Option<u16> {
        self.characters.get(usize::from(last.checked_sub(self.first)?)).copied().filter(|&unit| unit != GAP)
    }
}

impl Table {
    /// From the characters 80 to FF, and what differs from ASCII below.
    pub(super) fn single_byte(high: &str, low: &[(u8, char)]) -> Self {
        let mut single = [GAP; 256];
        (0..128).for_each(|code| single[usize::from(code)] = code);
        single[128..].iter_mut().zip(high.chars()).for_each(|(slot, character)| *slot = unit(character));
        low.iter().for_each(|&(code, character)| single[usize::from(code)] = unit(character));
        Self { single, holds_ascii: low.is_empty(), two: Vec::new(), three: Vec::new() }
    }

    /// From lines of a code in hexadecimal, a space and the characters from that code on; the codes 80 to FF of one
    /// byte are called `high`.
    pub(super) fn multi_byte(text: &str) -> Self {
        let mut low = Vec::new();
        let mut high = "";
        let (mut two, mut three) = (vec![Page::default(); 256], Vec::new());
        for (code, characters) in text.lines().filter_map(|line| line.split_once(' ')) {
            let number = usize::from_str_radix(code, 16).unwrap_or(0);
            let page = || Page { first: (number & 0xff) as u8, characters: characters.chars().map(unit).collect() };
            match code.len() {
                2 => low.extend(characters.chars().map(|character| (number as u8, character))),
                6 => {
                    three.resize(256, Page::default());
                    three[number >> 8 & 0xff] = page();
                }
                4 if code != "high" => two[number >> 8] = page(),
                _ => high = characters,
            }
        }
        Self { two, three, ..Self::single_byte(high, &low) }
    }

    /// True where the codes 00 to 7F are those of ASCII.
    pub(super) fn holds_ascii(&self) -> bool {
        self.holds_ascii
    }

    /// `None` where some code has no character of its own.
    pub(super) fn decode(&self, mut bytes: &[u8]) -> Option<String> {
        // Most characters beyond ASCII take two bytes or three in UTF-8; this is enough for text of one language.
        let mut text = String::with_capacity(bytes.len() + bytes.len() / 2);
        while let [first, rest @ ..] = bytes {
            let single = self.single[usize::from(*first)];
            let unit = if single != GAP {
                bytes = rest;
                single
            } else {
                match rest {
                    [second, third, rest @ ..] if *first == LEAD_OF_THREE && !self.three.is_empty() => {
                        bytes = rest;
                        self.three[usize::from(*second)].get(*third)?
                    }
                    [second, rest @ ..] => {
                        bytes = rest;
                        self.two.get(usize::from(*first))?.get(*second)?
                    }
                    [] => return None,
                }
            };
            text.push(char::from_u32(unit.into())?);
        }
        Some(text)
    }
}

fn unit(character: char) -> u16 {
    u16::try_from(u32::from(character)).unwrap_or(GAP)
}
