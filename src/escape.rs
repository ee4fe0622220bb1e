//! Names and contents as printable text. A terminal takes control characters as
//! orders, and some of Unicode's show a text in another order than it has.

use std::fmt::Write as _;

/// Whether a character may reach a terminal.
pub fn is_printable(c: char) -> bool {
    let reorders = matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !reorders
}

/// Whether a character is seen where it stands: a printable one may be as wide as
/// nothing, or choose how the one before it looks.
pub fn is_seen(c: char) -> bool {
    let hides = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{ffa0}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e0fff}');
    is_printable(c) && !hides
}

/// Bytes, of which two that differ never look the same: backslashes are doubled,
/// what is no UTF-8 is `\xHH`, what is not printable `\u{H}`.
pub fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_seen(c) => out.push(c),
                c => out.extend(c.escape_unicode()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A line of text as it is, but for what is not printable; tabs stay.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c == '\t' || is_seen(c) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Characters that stay of the front and of the end of a longer line.
const FRONT: usize = 200;
const END: usize = 100;

/// A line that others wrote, or that repeats what they wrote: blanks collapsed, and
/// the middle left out of a long one, so that it neither fills a screen nor moves to
/// where a line of ours would begin. The end may say what is wrong.
pub fn short(text: &str) -> String {
    cut(text, FRONT, END)
}

/// The same with room for a sentence of ours around it.
pub fn sentence(text: &str) -> String {
    cut(text, 3 * FRONT, 2 * END)
}

fn cut(text: &str, front: usize, end: usize) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if is_blank(c) => {
                while chars.next_if(|c| is_blank(*c)).is_some() {}
                out.push(' ');
            }
            c if is_seen(c) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    let front = out.char_indices().nth(front).map(|(at, _)| at);
    let end = out.char_indices().nth_back(end - 1).map(|(at, _)| at);
    match front.zip(end) {
        Some((front, end)) if front < end => {
            let (front, end) = (out.get(..front), out.get(end..));
            format!("{}…{}", front.unwrap_or_default(), end.unwrap_or_default())
        }
        _ => out,
    }
}

/// BRAILLE PATTERN BLANK is one, but not by its class.
fn is_blank(c: char) -> bool {
    c == '\t' || c == '\u{2800}' || c.is_whitespace() && is_printable(c)
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(
            super::bytes(b"a\x1b[2J\\\xff\xc2\x9b\n\xe2\x80\xae."),
            r"a\u{1b}[2J\\\xff\u{9b}\u{a}\u{202e}."
        );
        assert_eq!(super::short("a \t\u{3000}b\n\u{2800} c"), "a b\\u{a} c");
        let long = super::short(&"x \u{9b}".repeat(1 << 20));
        assert!(long.contains('…') && long.chars().count() == 301, "{long}");
        assert!(super::short(&format!("{long}{long}: why")).ends_with(": why"));
        assert_eq!(super::short(&"y".repeat(300)), "y".repeat(300));
        let hidden = "\u{ad}\u{180e}\u{206a}\u{206f}\u{fff9}\u{fffb}\u{3164}\u{115f}\u{1160}\u{34f}\u{fe00}\u{fe0f}\u{e0100}\u{e01ef}";
        for c in hidden.chars() {
            let text = format!("a{c}b");
            let shown = format!("a{}b", c.escape_unicode());
            assert_eq!(super::line(&text), shown);
            assert_eq!(super::short(&text), shown);
            assert_eq!(super::bytes(text.as_bytes()), shown);
        }
        assert_eq!(super::line("\ta\\b\r\u{7f}é"), "\ta\\b\\u{d}\\u{7f}é");
    }
}
