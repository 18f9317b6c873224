//! The search for texts, such as the name of a class, that tell whom a file shows.
//!
//! Names and numbers are compared folded, so that case, accents, separators and widths do not matter.
//! A long name is found within a word; a short one only as a word, since `Ali` is in `malignant` and
//! `Ben` in `benign`.

use super::escaped::unescaped;
use super::folded::{folded, is_dense, whole_words, without_umlauts, words};

/// Letters from which on a name is looked for within words too.
const LONG_NAME: usize = 5;
/// Characters from which on a number is looked for anywhere.
const LONG_NUMBER: usize = 5;
/// Characters below which a number names nobody: grades and classes are such numbers too.
const SHORT_NUMBER: usize = 3;
/// Words of a text that may make up one name.
const JOINED_WORDS: usize = 6;
/// Parts of a name beyond which it is no name, and the rest is not looked at.
const MOST_PARTS: usize = 12;

/// The words that stand where nobody is named, and those that stand in many names.
const NOBODY: &[&str] = &[
    "anon",
    "anonym",
    "anonymous",
    "anonymised",
    "anonymized",
    "deidentified",
    "unknown",
    "unnamed",
    "noname",
    "none",
    "nobody",
    "name",
    "patient",
    "subject",
    "person",
    "case",
    "test",
    "phantom",
    "removed",
    "male",
    "female",
    "von",
    "van",
    "der",
    "den",
    "del",
    "della",
    "dos",
    "de",
    "la",
    "le",
    "di",
    "da",
    "du",
    "el",
    "al",
    "bin",
    "ibn",
    "abu",
    "st",
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
];

/// Words of classes that hold a name by chance.
const CHANCE: &[&str] = &["normal", "normals", "abnormal", "subnormal", "normality"];

/// The names and numbers that are looked for.
#[derive(Default)]
pub(super) struct Sought {
    /// Found anywhere, whatever parts their characters.
    anywhere: Vec<String>,
    /// Found within words too.
    within: Vec<String>,
    /// Found as one word, or as several that follow each other.
    alone: Vec<String>,
}

impl Sought {
    /// A name of a person as DICOM has it: components by `^`, writings by `=`, names by `\`.
    pub(super) fn name(&mut self, text: &str) {
        let readings = match unescaped(text) {
            Some(read) => vec![read],
            None => std::iter::once(text.to_owned()).chain(as_utf8(text)).collect(),
        };
        for reading in readings {
            reading.split(['=', '\\']).for_each(|writing| self.writing(writing));
        }
    }

    /// A number, which may have letters: of a patient, a visit or a study.
    pub(super) fn number(&mut self, text: &str) {
        for value in text.split('\\') {
            let whole = folded(value);
            let is_uid =
                value.contains('.') && value.chars().all(|c| c == '.' || c.is_ascii_digit());
            // The digits alone: `MRN-778899` is found as `778899` too. Those of a UID name its maker.
            let parts = if is_uid { Vec::new() } else { words(value) };
            let is_long = |word: &String| is_digits(word) && word.chars().count() >= LONG_NUMBER;
            let digits = parts.into_iter().filter(is_long);
            for number in digits.chain([whole]) {
                let shorter = number.trim_start_matches('0').to_owned();
                for number in [number, shorter] {
                    self.one_number(number);
                }
            }
        }
    }

    /// A date of birth, `YYYYMMDD`, in the orders that people write it in.
    pub(super) fn date(&mut self, text: &str) {
        const MONTHS: [&str; 12] =
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let (Some(year), Some(month), Some(day)) =
            (digits.get(..4), digits.get(4..6), digits.get(6..8))
        else {
            return;
        };
        for [one, two, three] in [[year, month, day], [day, month, year], [month, day, year]] {
            self.anywhere.push(format!("{one}{two}{three}"));
        }
        let (brief_month, brief_day) = (month.trim_start_matches('0'), day.trim_start_matches('0'));
        self.anywhere.push(format!("{brief_day}{brief_month}{year}"));
        self.anywhere.push(format!("{brief_month}{brief_day}{year}"));
        let named = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
        if let Some(month) = named {
            for day in [day, brief_day] {
                self.anywhere.push(format!("{day}{month}{year}"));
                self.anywhere.push(format!("{month}{day}{year}"));
                self.anywhere.push(format!("{year}{month}{day}"));
            }
        }
        let years = year.get(2..).unwrap_or_default();
        for [one, two, three] in [[years, month, day], [day, month, years], [month, day, years]] {
            self.alone.push(format!("{one}{two}{three}"));
        }
    }

    /// Whether any of it is in `text`.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let compact = folded(text);
        let whole = whole_words(text);
        let spans = spans(&words(text));
        self.anywhere.iter().any(|sought| compact.contains(sought))
            || self.alone.iter().any(|sought| is_word(sought, &whole, &spans))
            || self.within.iter().any(|sought| is_within(sought, &whole, &spans))
    }

    fn writing(&mut self, text: &str) {
        // A pseudonym, such as `BREAST-001`: its words may well be those of a class.
        if !text.contains('^') && text.contains(char::is_numeric) {
            return self.number(text);
        }
        // Family, given and middle name; what follows are titles (PS3.5 6.2.1.1).
        let components: Vec<&str> = text.split('^').take(3).collect();
        let mut parts: Vec<String> = Vec::new();
        for component in components {
            let whole = folded(component);
            let inner = whole_words(component);
            let several = inner.len() > 1;
            parts.extend(inner);
            if several {
                self.one_name(whole);
            }
        }
        parts.retain(|part| !is_nobody(part));
        parts.truncate(MOST_PARTS);
        let all = parts.concat();
        let reversed: String = parts.iter().rev().map(String::as_str).collect();
        for (at, one) in parts.iter().enumerate() {
            self.one_name(one.clone());
            for other in parts.iter().enumerate().filter(|(other, _)| *other != at) {
                self.pair(one, other.1);
            }
        }
        self.one_name(all);
        self.one_name(reversed);
    }

    /// Two parts of a name, written together or one of them by its first letter.
    fn pair(&mut self, one: &str, other: &str) {
        self.one_name(format!("{one}{other}"));
        if let Some(initial) = other.chars().next() {
            for short in [format!("{one}{initial}"), format!("{initial}{one}")] {
                if one.chars().count() > 1 && short.chars().count() > 2 {
                    self.alone.push(short);
                }
            }
        }
    }

    fn one_name(&mut self, name: String) {
        let length = name.chars().count();
        let dense = name.chars().any(is_dense);
        if is_digits(&name) || is_nobody(&name) || (length < 2 && !dense) {
            return;
        }
        if length >= LONG_NAME || (dense && length > 1) {
            self.within.push(name);
        } else {
            self.alone.push(name);
        }
    }

    fn one_number(&mut self, number: String) {
        let length = number.chars().count();
        if !number.contains(char::is_numeric) || length < SHORT_NUMBER {
            return;
        }
        if length >= LONG_NUMBER {
            self.anywhere.push(number);
        } else {
            self.alone.push(number);
        }
    }
}

fn is_nobody(word: &str) -> bool {
    NOBODY.contains(&word)
}

fn is_digits(word: &str) -> bool {
    !word.is_empty() && word.chars().all(char::is_numeric)
}

fn is_word(sought: &str, whole: &[String], spans: &[String]) -> bool {
    let plain = without_umlauts(sought);
    let is = |word: &String| word == sought || without_umlauts(word) == plain;
    whole.iter().any(is) || spans.iter().any(is)
}

fn is_within(sought: &str, whole: &[String], spans: &[String]) -> bool {
    let plain = without_umlauts(sought);
    let holds = |word: &&String| word.contains(sought) || without_umlauts(word).contains(&plain);
    let meant = |word: &String| word == sought || !CHANCE.contains(&word.as_str());
    whole.iter().filter(holds).any(meant) || is_word(sought, whole, spans)
}

/// Each run of a few words that follow each other, written together.
fn spans(words: &[String]) -> Vec<String> {
    let mut spans = Vec::new();
    for start in 0..words.len() {
        let mut joined = String::new();
        for word in words.iter().skip(start).take(JOINED_WORDS) {
            joined.push_str(word);
            spans.push(joined.clone());
        }
    }
    spans
}

/// A text that was read as Latin 1 for want of a character set, read as UTF-8.
fn as_utf8(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::Sought;

    fn name(name: &str) -> Sought {
        let mut sought = Sought::default();
        sought.name(name);
        sought
    }

    fn number(number: &str) -> Sought {
        let mut sought = Sought::default();
        sought.number(number);
        sought
    }

    #[test]
    fn names_are_found_in_every_script_and_form() {
        let cases: [(&str, &[&str]); 20] = [
            ("Meyer/Anna", &["meyer", "ANNA"]),
            (
                "Meyer^Anna",
                &["MEYER_ANNA", "anna meyer", "AnnaMeyer", "meyera", "ANNA", "AMeyer_2"],
            ),
            ("Müller^Jürgen", &["Mu\u{308}ller", "MUELLER", "juergen", "mullerj", "MÜLLER"]),
            (
                "O'Brien^Pat",
                &["obrien", "O_BRIEN", "O\u{2019}Brien", "OBrienPat", "o brien", "OBRIEN2"],
            ),
            ("Ng^Li", &["ng", "Ng_Li", "LiNg", "normal-NG", "li.2"]),
            ("Doe^Jane^^Dr", &["Doe_2", "doe", "DoeJane", "JDOE", "Jane"]),
            ("山田^太郎", &["山田太郎", "患者山田", "太郎_左", "山 田 太 郎"]),
            ("Yamada^Tarou=山田^太郎=やまだ^たろう", &["yamada", "山田", "ヤマダ タロウ", "ﾔﾏﾀﾞ"]),
            ("王^伟", &["王伟", "王_1", "伟王"]),
            ("김^철수", &["김철수", "철수", "\u{1100}\u{1175}\u{11B7}_1"]),
            ("Иванов^Иван^Иванович", &["ИВАНОВ", "иванов_и", "Иван", "ИвановИван"]),
            ("Παπαδόπουλος^Γιώργος", &["ΠΑΠΑΔΟΠΟΥΛΟΣ", "γιωργος"]),
            ("محمد^علي", &["محمد", "مُحَمَّد", "علي_1"]),
            ("כהן^דוד", &["כהן", "דוד-כהן"]),
            ("Nguyễn^Văn^An", &["nguyen", "NGUYEN_VAN_AN", "Nguye\u{302}\u{303}n"]),
            ("van der Berg^Jo", &["vanderberg", "van_der_Berg", "Berg"]),
            ("Sørensen^Åse", &["soerensen", "SORENSEN", "ase"]),
            ("MEYER ANNA", &["Meyer", "anna"]),
            // A name under `\ISO 2022 IR 87`, as the toolkit gives it.
            ("Yamada^Tarou=\u{1B}$B;3ED\u{1B}(B^\u{1B}$BB@O:\u{1B}(B", &["山田太郎", "tarou"]),
            // UTF-8 in an element whose character set is not named.
            ("\u{e5}\u{b1}\u{b1}\u{e7}\u{94}\u{b0}", &["山田"]),
        ];
        for (person, labels) in cases {
            for label in labels {
                assert!(name(person).is_in(label), "{person} in {label}");
            }
        }
    }

    #[test]
    fn classes_are_not_taken_for_names() {
        let cases: [(&str, &[&str]); 13] = [
            ("Ali^Ben", &["malignant", "benign", "alibi"]),
            ("Norma^Eva", &["normal", "abnormal", "evaluated"]),
            ("Meyer^Anna", &["tumor", "annular", "grade 2"]),
            ("Anonymous", &["anonymous", "normal"]),
            ("UNKNOWN^PATIENT", &["unknown"]),
            ("Smith^A^^MR", &["MR", "A", "grade_a"]),
            ("CompressedSamples^CT1", &["CT", "MR"]),
            ("Lee^Jo^M", &["m", "sleeve"]),
            ("Breast_MRI_001", &["breast", "MRI"]),
            ("山田^太郎", &["正常", "悪性"]),
            ("李^明", &["桃李", "明白"]),
            ("", &["normal"]),
            ("^^", &["normal"]),
        ];
        for (person, labels) in cases {
            for label in labels {
                assert!(!name(person).is_in(label), "{person} in {label}");
            }
        }
    }

    #[test]
    fn numbers_are_found_without_their_separators_and_prefixes() {
        let told: [(&str, &[&str]); 5] = [
            ("MRN-778899", &["MRN778899", "mrn 778899", "778899", "left_778-899"]),
            ("778899", &["MRN-778899", "P778899x"]),
            ("0004711", &["4711_left", "0004711"]),
            ("A17", &["A17", "a-17", "patient A17"]),
            ("1.2.840.113619.2.55", &["1.2.840.113619.2.55"]),
        ];
        for (known, labels) in told {
            for label in labels {
                assert!(number(known).is_in(label), "{known} in {label}");
            }
        }
        let kept: [(&str, &[&str]); 7] = [
            ("1", &["1", "grade 1"]),
            ("12", &["12"]),
            ("A17", &["A1", "A170"]),
            ("4711", &["47112"]),
            ("unknown", &["unknown"]),
            ("LUNG1-001", &["001", "lung"]),
            ("1.2.840.113619.2.55", &["840", "113619"]),
        ];
        for (known, labels) in kept {
            for label in labels {
                assert!(!number(known).is_in(label), "{known} in {label}");
            }
        }
    }

    #[test]
    fn dates_of_birth_are_found_in_the_orders_that_people_write() {
        let mut born = Sought::default();
        born.date("19370203");

        for label in
            ["19370203", "1937-02-03", "3.2.1937", "03/02/1937", "born 370203", "3 Feb 1937"]
        {
            assert!(born.is_in(label), "{label}");
        }
        for label in ["1937", "20260203", "grade 3", "tumor 2"] {
            assert!(!born.is_in(label), "{label}");
        }
    }
}
