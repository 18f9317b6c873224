//! Texts in the form in which names are compared: whatever case, accents, widths and separators.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The letters and digits of a text: without accents, in small letters, katakana as hiragana.
pub(super) fn folded(text: &str) -> String {
    let plain = text.nfkd().filter(|c| !is_combining_mark(*c)).filter(|c| is_kept(*c));
    let small = plain.flat_map(char::to_uppercase).flat_map(char::to_lowercase).map(kin);
    let mut letters = String::new();
    for letter in small {
        match letter {
            'æ' => letters.push_str("ae"),
            'œ' => letters.push_str("oe"),
            'þ' => letters.push_str("th"),
            letter => letters.push(letter),
        }
    }
    // The parts of a Korean syllable were taken apart too; together they are one character again.
    letters.nfc().collect()
}

/// The same with umlauts as file systems without them have it: `Mueller` is `Muller` is `Müller`.
pub(super) fn without_umlauts(folded: &str) -> String {
    ["ae", "oe", "ue", "aa"]
        .iter()
        .zip(["a", "o", "u", "a"])
        .fold(folded.to_owned(), |text, (written, letter)| text.replace(written, letter))
}

/// The words of a text, folded: what separators, capitals within and the ends of numbers part.
pub(super) fn words(text: &str) -> Vec<String> {
    chunks(text).iter().flat_map(|chunk| parted(chunk)).map(|word| folded(&word)).collect()
}

/// The words of a text that separators part, folded.
pub(super) fn whole_words(text: &str) -> Vec<String> {
    chunks(text).iter().map(|chunk| folded(chunk)).filter(|word| !word.is_empty()).collect()
}

/// Whether a character is of a script that writes names in two or three characters, unparted.
pub(super) fn is_dense(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}

fn is_kept(c: char) -> bool {
    // Apostrophes that count as letters, and the stroke that only widens an Arabic word.
    c.is_alphanumeric() && !matches!(c, '\u{2B0}'..='\u{2FF}' | '\u{640}')
}

/// A letter's nearest kin where Unicode does not take it apart.
fn kin(c: char) -> char {
    match c {
        'ø' => 'o',
        'ł' => 'l',
        'đ' | 'ð' => 'd',
        'ħ' => 'h',
        'ŧ' => 't',
        'ı' => 'i',
        '\u{30A1}'..='\u{30F6}' => char::from_u32(c as u32 - 0x60).unwrap_or(c),
        _ => c,
    }
}

fn chunks(text: &str) -> Vec<String> {
    // Apostrophes and accents stand within words, and must not part them.
    let within = |c: char| is_combining_mark(c) || matches!(c, '\'' | '\u{2019}' | '`' | '\u{B4}');
    let plain: Vec<char> = text.nfkd().filter(|c| !within(*c)).collect();
    let chunks = plain.split(|c| !is_kept(*c)).filter(|chunk| !chunk.is_empty());
    chunks.map(|chunk| chunk.iter().collect()).collect()
}

/// Parts `MeyerAnna17` and `MEYERAnna`.
fn parted(chunk: &str) -> Vec<String> {
    let chunk: Vec<char> = chunk.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (at, c) in chunk.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| chunk.get(before));
        let after = chunk.get(at + 1);
        let starts = before.is_none_or(|before| {
            let capital = before.is_lowercase() && c.is_uppercase();
            let last_capital = before.is_uppercase()
                && c.is_uppercase()
                && after.is_some_and(|after| after.is_lowercase());
            capital || last_capital || before.is_numeric() != c.is_numeric()
        });
        match words.last_mut() {
            Some(word) if !starts => word.push(*c),
            Some(_) | None => words.push(c.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{folded, whole_words, without_umlauts, words};

    #[test]
    fn forms_of_one_name_are_one() {
        for (one, other) in [
            ("Müller", "MU\u{308}LLER"),
            ("O'Brien", "OBRIEN"),
            ("O\u{2019}Brien", "o brien"),
            ("MRN-778899", "mrn 778899"),
            ("Ｙａｍａｄａ", "yamada"),
            ("ヤマダ", "やまだ"),
            ("ﾔﾏﾀﾞ", "やまだ"),
            ("Straße", "STRASSE"),
            ("İpek", "ipek"),
            ("Łukasz", "lukasz"),
            ("ΓΙΑΝΝΗΣ", "γιάννης"),
            ("김", "\u{1100}\u{1175}\u{11B7}"),
            ("مُحَمَّد", "محمد"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        assert_eq!(without_umlauts(&folded("Mueller")), without_umlauts(&folded("Müller")));
    }

    #[test]
    fn words_end_at_separators_capitals_and_numbers() {
        assert_eq!(words("MeyerAnna17_left"), ["meyer", "anna", "17", "left"]);
        assert_eq!(words("MEYERAnna"), ["meyer", "anna"]);
        assert_eq!(words("O'Brien"), ["o", "brien"]);
        assert_eq!(whole_words("MeyerAnna17_left O'Brien"), ["meyeranna17", "left", "obrien"]);
    }
}
